/* web_router_test.c - src/web/router.c and call.c: matching, parameters, CORS, queries. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/err.h"
#include "web/web.h"

/* A transport that writes the answer down. */
static struct {
	int status;
	char headers[2048], body[2048], ran[128];
} answer;

static void respond(struct web_call *call, const struct web_response *res)
{
	int n = 0;

	answer.status = res->status;
	for (size_t i = 0; i < res->n_headers; i++)
		n += snprintf(answer.headers + n, sizeof answer.headers - (size_t)n, "%.*s: %.*s\n",
			      (int)res->headers[i].name.n, (const char *)res->headers[i].name.p,
			      (int)res->headers[i].value.n, (const char *)res->headers[i].value.p);
	snprintf(answer.body, sizeof answer.body, "%.*s", (int)res->body.n, (const char *)res->body.p);
	web_call_fini(call);
}

static const struct web_transport transport = { .respond = respond };

static void ran(struct web_call *call, void *arg)
{
	char text[256];

	snprintf(answer.ran, sizeof answer.ran, "%s", call->route->pattern);
	snprintf(text, sizeof text, "%s,%s", web_param(call, "id"), web_param(call, "rule"));
	web_respond_text(call, 200, text);
	(void)arg;
}

static bool before(struct web_call *call, const struct web_route *route, void *arg)
{
	(void)arg;
	web_set_header(call, "x-request-id", "r1");
	if (!route->flags)
		return true;
	web_respond_text(call, 401, "who are you?");
	return false;
}

static void matched(struct web_call *call, void *arg)
{
	(void)arg;
	web_set_header(call, "x-matched", "1");
}

static const struct web_route routes[] = {
	{ "GET /api/users/{id}", ran, 0 },
	{ "GET /api/users/current", ran, 0 },
	{ "PUT /api/users/{id}", ran, 0 },
	{ "GET /api/policies/{id}/rules/{rule}", ran, 0 },
	{ "GET /api/secret", ran, 1 },
	{ "* /static/*", ran, 0 },
	{ "GET /", ran, 0 },
};
static const struct web_router router = { .routes = routes, .n = 7, .matched = matched, .before = before,
					.cors = true };

static void go(const char *method, const char *target, const struct web_header *headers, size_t n)
{
	const char *mark = strchr(target, '?');
	struct web_call call;

	memset(&answer, 0, sizeof answer);
	web_call_init(&call, &transport, NULL, 65536);
	call.req.method = nb_bytes_str(method);
	call.req.path = nb_bytes(target, mark ? (size_t)(mark - target) : strlen(target));
	call.req.query = nb_bytes_str(mark ? mark + 1 : "");
	call.req.headers = headers;
	call.req.n_headers = n;
	web_router_dispatch((void *)(uintptr_t)&router, &call);
}

static void test_match(void **state)
{
	static const struct {
		const char *method, *path;
		int status;
		const char *pattern, *body;
	} rows[] = {
		{ "GET", "/", 200, "GET /", "," },
		{ "GET", "/api/users/abc", 200, "GET /api/users/{id}", "abc," },
		{ "GET", "/api/users/current", 200, "GET /api/users/current", "," },
		/* The literal has no PUT: the parameter takes it. */
		{ "PUT", "/api/users/current", 200, "PUT /api/users/{id}", "current," },
		{ "GET", "/api/users/a%2Fb%20c+d", 200, "GET /api/users/{id}", "a/b c+d," },
		{ "GET", "/api/policies/p1/rules/r2", 200, "GET /api/policies/{id}/rules/{rule}", "p1,r2" },
		{ "GET", "/api/users/", 404, "", "404 page not found\n" },
		{ "GET", "/api/users", 404, "", "404 page not found\n" },
		{ "GET", "/api/users/abc/", 404, "", "404 page not found\n" },
		{ "GET", "/api/policies/p1/rules", 404, "", "404 page not found\n" },
		{ "DELETE", "/api/users/abc", 405, "", "" },
		{ "GET", "/api/users/%zz", 400, "", "400 bad request: malformed escape in the path\n" },
		{ "GET", "/api/users/%00", 400, "", "400 bad request: malformed escape in the path\n" },
		{ "GET", "/api/secret", 401, "", "who are you?" },
		{ "DELETE", "/static/a/b/c.js", 200, "* /static/*", "," },
		{ "GET", "/static/", 200, "* /static/*", "," },
		{ "GET", "*", 404, "", "404 page not found\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		go(rows[i].method, rows[i].path, NULL, 0);
		if (answer.status != rows[i].status || strcmp(answer.ran, rows[i].pattern) ||
		    strcmp(answer.body, rows[i].body))
			fail_msg("row %zu: %d \"%s\" \"%s\"", i, answer.status, answer.ran, answer.body);
	}
	go("GET", "//api///users//x?a=b", NULL, 0);
	assert_int_equal(answer.status, 301);
	assert_string_equal(answer.headers, "location: /api/users/x?a=b\n");
}

#define H(n, v) { { (const uint8_t *)(n), sizeof(n) - 1 }, { (const uint8_t *)(v), sizeof(v) - 1 } }

static void test_cors(void **state)
{
	static const struct web_header plain[] = { H("origin", "https://x") };
	static const struct web_header preflight[] = {
		H("origin", "https://x"), H("access-control-request-method", "PUT"),
		H("access-control-request-headers", "authorization,x-y"),
	};

	(void)state;
	go("GET", "/api/users/a", plain, 1);
	assert_non_null(strstr(answer.headers, "access-control-allow-origin: *\n"));
	assert_non_null(strstr(answer.headers, "x-request-id: r1\n"));
	go("OPTIONS", "/api/users/a", preflight, 3);
	assert_int_equal(answer.status, 204);
	assert_non_null(strstr(answer.headers, "access-control-allow-methods: PUT\n"));
	assert_non_null(strstr(answer.headers, "vary: Access-Control-Request-Headers\n"));
	assert_non_null(strstr(answer.headers, "x-matched: 1\n"));
	assert_non_null(strstr(answer.headers, "access-control-allow-headers: authorization,x-y\n"));
	go("OPTIONS", "/nowhere", preflight, 3);
	assert_int_equal(answer.status, 404);
	assert_null(strstr(answer.headers, "access-control"));
	assert_null(strstr(answer.headers, "x-matched"));
	assert_non_null(strstr(answer.headers, "x-content-type-options: nosniff\n"));
	go("GET", "/api/users/a", NULL, 0);
	assert_non_null(strstr(answer.headers, "vary: Origin\n"));
	assert_null(strstr(answer.headers, "access-control"));
}

static void test_query(void **state)
{
	struct web_call call;

	(void)state;
	web_call_init(&call, &transport, NULL, 65536);
	call.req.query = nb_bytes_str("a=1&b=x+y%21&c&%64=e&bad=%2&a=2&=v&&z=");
	assert_string_equal(web_query(&call, "a"), "1");
	assert_string_equal(web_query(&call, "b"), "x y!");
	assert_string_equal(web_query(&call, "c"), "");
	assert_string_equal(web_query(&call, "d"), "e");
	assert_string_equal(web_query(&call, "z"), "");
	assert_null(web_query(&call, "bad"));
	assert_null(web_query(&call, "q"));
	web_call_fini(&call);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_match), cmocka_unit_test(test_cors), cmocka_unit_test(test_query),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
