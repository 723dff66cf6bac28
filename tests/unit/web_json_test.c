/* web_json_test.c - src/web/json.c: bodies, field types, error texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "web/json.h"

static int status;
static char body[1024];

static void respond(struct web_call *call, const struct web_response *res)
{
	status = res->status;
	snprintf(body, sizeof body, "%.*s", (int)res->body.n, (const char *)res->body.p);
	web_call_fini(call);
}

static const struct web_transport transport = { .respond = respond };

static void start(struct web_call *call, const char *text)
{
	web_call_init(call, &transport, NULL, 65536);
	call->req.body = nb_bytes_str(text);
	status = 0;
	body[0] = 0;
}

static void test_bodies(void **state)
{
	static const char *const bad[] = { "", "{", "[]", "\"\"", "null", "{\"a\":1}x", "{\"a\":\"\\u0000\"}",
					   "{\"a\":\"\xff\"}" };
	struct web_call call;
	json_t *v;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		start(&call, bad[i]);
		assert_null(web_json_body(&call));
		assert_int_equal(status, 400);
		assert_non_null(strstr(body, "\"message\":\"couldn't parse JSON request: "));
		assert_non_null(strstr(body, "\"code\":400"));
	}
	start(&call, "{\"a\":1}");
	v = web_json_body(&call);
	assert_non_null(v);
	web_json(&call, 200, v);
	assert_string_equal(body, "{\"a\":1}\n");
	start(&call, "");
	web_json(&call, 200, NULL);
	assert_int_equal(status, 500);
}

static void test_fields(void **state)
{
	struct web_call call;
	struct web_fields f;
	const json_t *list;
	json_t *v;

	(void)state;
	start(&call, "{\"s\":\"x\",\"b\":true,\"i\":7,\"n\":null,\"l\":[\"p\",3],\"o\":{}}");
	v = web_json_body(&call);
	web_fields_init(&f, v);
	assert_string_equal(web_string(&f, "s", NULL), "x");
	assert_string_equal(web_string_required(&f, "s"), "x");
	assert_null(web_string(&f, "n", NULL));
	assert_true(web_bool(&f, "b", false));
	assert_true(web_bool(&f, "missing", true));
	assert_int_equal(web_int(&f, "i", 1, 0, 10), 7);
	assert_int_equal(web_int(&f, "n", 5, 0, 10), 5);
	assert_false(web_has(&f, "n"));
	assert_true(web_has(&f, "i"));
	assert_non_null(web_object(&f, "o"));
	list = web_array(&f, "l");
	assert_string_equal(web_array_string(&f, "l", list, 0), "p");
	assert_false(web_fields_refuse(&f, &call, 422));
	assert_string_equal(web_array_string(&f, "l", list, 1), "");
	assert_string_equal(f.problem, "field l must be a list of strings");
	/* The first problem stays. */
	web_int(&f, "i", 0, 8, 9);
	assert_true(web_fields_refuse(&f, &call, 422));
	assert_string_equal(body, "{\"message\":\"field l must be a list of strings\",\"code\":422}\n");
	assert_int_equal(status, 422);

#define PROBLEM(expr, text) do { web_fields_init(&f, v); (void)(expr); assert_string_equal(f.problem, text); } while (0)
	PROBLEM(web_string(&f, "i", NULL), "field i must be a string");
	PROBLEM(web_string_required(&f, "n"), "field n is required");
	PROBLEM(web_bool(&f, "s", true), "field s must be true or false");
	PROBLEM(web_int(&f, "s", 0, 0, 1), "field s must be a whole number");
	PROBLEM(web_int(&f, "i", 0, 8, 9), "field i must be between 8 and 9");
	PROBLEM(web_array(&f, "o"), "field o must be a list");
	PROBLEM(web_object(&f, "l"), "field l must be an object");
	json_decref(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_bodies), cmocka_unit_test(test_fields) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
