/* web_http1_test.c - src/web/http1.c: requests in every cut, refusals, timeouts, pipelining, upgrades. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "web/http1.h"

static struct nb_time at(int64_t ms)
{
	return (struct nb_time){ ms * NB_MS };
}

/* The handler under test: echoes, holds calls with path /later, remembers what it saw. */
static struct {
	int requests, upgrades, gone, wakes;
	struct web_call *held;
	char last[2048];
} seen;

static void on_gone(struct web_call *call)
{
	assert_ptr_equal(call, seen.held);
	seen.held = NULL;
	seen.gone++;
}

static void on_request(void *arg, struct web_call *call)
{
	struct nb_buf b;

	(void)arg;
	seen.requests++;
	nb_buf_init(&b, sizeof seen.last - 1);
	nb_buf_bytes(&b, call->req.method);
	nb_buf_str(&b, "|");
	nb_buf_bytes(&b, call->req.path);
	nb_buf_str(&b, "|");
	nb_buf_bytes(&b, call->req.query);
	nb_buf_str(&b, "|");
	nb_buf_bytes(&b, call->req.host);
	nb_buf_str(&b, "|");
	nb_buf_bytes(&b, call->req.body);
	snprintf(seen.last, sizeof seen.last, "%s", nb_buf_cstr(&b));
	nb_buf_fini(&b);
	if (nb_bytes_eq_str(call->req.path, "/later")) {
		seen.held = call;
		call->on_gone = on_gone;
		return;
	}
	web_set_header(call, "x-test", "a\r\nb");
	web_respond(call, 200, "text/plain", call->req.body);
}

static void on_upgrade(void *arg, struct web_call *call)
{
	(void)arg;
	seen.upgrades++;
	web_set_header(call, "upgrade", "websocket");
	web_set_header(call, "connection", "Upgrade");
	web_respond(call, 101, NULL, nb_bytes(NULL, 0));
}

static void on_wake(void *ctx)
{
	(void)ctx;
	seen.wakes++;
}

static const struct web_handler handler = { .request = on_request, .upgrade = on_upgrade, .max_body = 1000 };

static struct web_http1 *start(void)
{
	struct web_http1_config cfg;
	struct web_http1 *h = NULL;

	memset(&seen, 0, sizeof seen);
	web_http1_config_default(&cfg);
	cfg.handler = &handler;
	cfg.max_head = 1024;
	cfg.on_wake = on_wake;
	assert_int_equal(web_http1_new(&h, &cfg, at(0)), 0);
	return h;
}

/* Everything the connection has to say now. */
static const char *drain(struct web_http1 *h)
{
	static char out[65536];
	size_t n = 0, k;

	while ((k = web_http1_output(h, out + n, sizeof out - 1 - n < 7 ? sizeof out - 1 - n : 7, at(0))) > 0)
		n += k;
	out[n] = 0;
	return out;
}

static const char *feed(struct web_http1 *h, const char *text)
{
	web_http1_input(h, nb_bytes_str(text), at(0));
	return drain(h);
}

static void test_simple(void **state)
{
	struct web_http1 *h = start();

	(void)state;
	assert_string_equal(feed(h, "\r\nPOST /a%20b?x=1&y HTTP/1.1\r\nHost: h:1\r\nContent-Length: 5\r\n\r\nhello"),
			    "HTTP/1.1 200 OK\r\nx-test: a  b\r\ncontent-type: text/plain\r\n"
			    "content-length: 5\r\n\r\nhello");
	assert_string_equal(seen.last, "POST|/a%20b|x=1&y|h:1|hello");
	/* HEAD: the length of what GET would give, without it. */
	assert_non_null(strstr(feed(h, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"), "content-length: 0\r\n\r\n"));
	assert_false(web_http1_done(h));
	assert_non_null(strstr(feed(h, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"), "connection: close"));
	assert_true(web_http1_done(h));
	assert_string_equal(feed(h, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"), "");
	assert_int_equal(seen.requests, 3);
	web_http1_free(h);

	h = start();
	assert_non_null(strstr(feed(h, "GET / HTTP/1.0\r\n\r\n"), "connection: close"));
	assert_true(web_http1_done(h));
	web_http1_free(h);
}

static const char three[] =
	"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5;ext=1\r\ndefgh\r\n0\r\n\r\n"
	"PUT /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nxyz"
	"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n";

/* Pipelined requests give the same answers however the bytes are cut. */
static void test_cuts(void **state)
{
	char want[2048];
	size_t len = sizeof three - 1;

	(void)state;
	for (size_t cut = 0; cut <= len; cut++) {
		struct web_http1 *h = start();
		const char *out;

		web_http1_input(h, nb_bytes(three, cut), at(0));
		web_http1_input(h, nb_bytes(three + cut, len - cut), at(0));
		out = drain(h);
		if (cut == 0)
			snprintf(want, sizeof want, "%s", out);
		assert_string_equal(out, want);
		assert_int_equal(seen.requests, 3);
		assert_string_equal(seen.last, "GET|/3||a|");
		web_http1_free(h);
	}
	assert_non_null(strstr(want, "abcdefgh"));
	for (size_t step = 1; step < 9; step++) {
		struct web_http1 *h = start();

		for (size_t i = 0; i < len; i += step)
			web_http1_input(h, nb_bytes(three + i, len - i < step ? len - i : step), at(0));
		assert_string_equal(drain(h), want);
		web_http1_free(h);
	}
}

static void test_refusals(void **state)
{
	static const struct {
		const char *request, *status;
	} rows[] = {
		{ "garbage\r\n\r\n", "501" },
		{ "\x16\x03\x01 tls on the wrong port\r\n\r\n", "501" },
		{ "GET /\r\n\r\n", "505" },
		{ "GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505" },
		{ "GET / HTTP/1.1\r\n\r\n", "400" },
		{ "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400" },
		{ "GET / HTTP/1.1\nHost: a\n\n", "400" },
		{ "GET / HTTP/1.1\r\nX:\rTransfer-Encoding: chunked\r\nHost: a\r\n\r\n", "400" },
		{ "GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n", "400" },
		{ "GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc", "400" },
		{ "GET / HTTP/1.1\r\nHost: a\r\n folded: 3\r\n\r\n", "400" },
		{ "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "400" },
		{ "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\n", "400" },
		{ "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", "400" },
		{ "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400" },
		{ "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n", "400" },
		{ "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", "413" },
		{ "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n%1001s", "413" },
		{ "GET / HTTP/1.1\r\nHost: a\r\nX: %1001s\r\n\r\n", "431" },
		{ "POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 1\r\n\r\n", "417" },
		{ "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "501" },
		{ "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "400" },
	};
	char request[4096], status[32];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct web_http1 *h = start();
		const char *mark = strstr(rows[i].request, "%1001s"), *out;

		if (mark)
			snprintf(request, sizeof request, "%.*s%1001s%s", (int)(mark - rows[i].request),
				 rows[i].request, "x", mark + 6);
		else
			snprintf(request, sizeof request, "%s", rows[i].request);
		snprintf(status, sizeof status, "HTTP/1.1 %s ", rows[i].status);
		out = feed(h, request);
		if (strncmp(out, status, strlen(status)))
			fail_msg("row %zu: wanted %s, got \"%s\"", i, rows[i].status, out);
		assert_non_null(strstr(out, "connection: close\r\n"));
		assert_true(web_http1_done(h));
		assert_int_equal(seen.requests, 0);
		web_http1_free(h);
	}
	/* Not exactly a request, but none of the bytes reach the parser. */
	struct web_http1 *h = start();

	web_http1_input(h, nb_bytes("GET \0/ HTTP/1.1\r\n\r\n", 19), at(0));
	assert_non_null(strstr(drain(h), "HTTP/1.1 400 "));
	web_http1_free(h);
}

static void test_expect(void **state)
{
	struct web_http1 *h = start();

	(void)state;
	assert_string_equal(feed(h, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n"),
			    "HTTP/1.1 100 Continue\r\n\r\n");
	assert_non_null(strstr(feed(h, "ok"), "200 OK"));
	web_http1_free(h);
}

/* An answer that comes later; the next request waits for it. */
static void test_later(void **state)
{
	struct web_http1 *h = start();

	(void)state;
	assert_string_equal(feed(h, "GET /later HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n"), "");
	assert_non_null(seen.held);
	assert_false(web_http1_wants_input(h));
	assert_true(nb_time_is_never(web_http1_deadline(h)));
	assert_int_equal(seen.requests, 1);
	web_respond_text(seen.held, 404, "no\n");
	seen.held = NULL;
	assert_int_equal(seen.wakes, 1);
	assert_non_null(strstr(drain(h), "HTTP/1.1 404 Not Found"));
	assert_int_equal(seen.requests, 2);
	assert_true(web_http1_wants_input(h));
	/* The client leaves before the answer. */
	feed(h, "GET /later HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_non_null(seen.held);
	web_http1_free(h);
	assert_int_equal(seen.gone, 1);
	assert_null(seen.held);
}

static void test_timeouts(void **state)
{
	struct web_http1 *h = start();

	(void)state;
	/* Idle: closed without a word. */
	assert_int_equal(web_http1_deadline(h).ns, at(120000).ns);
	web_http1_timer(h, at(119999));
	assert_false(web_http1_done(h));
	web_http1_timer(h, at(120000));
	assert_string_equal(drain(h), "");
	assert_true(web_http1_done(h));
	web_http1_free(h);
	/* A head that trickles in: the first byte counts. */
	h = start();
	web_http1_input(h, nb_bytes_str("GET / HT"), at(1000));
	web_http1_input(h, nb_bytes_str("TP"), at(9000));
	assert_int_equal(web_http1_deadline(h).ns, at(11000).ns);
	web_http1_timer(h, at(11000));
	assert_non_null(strstr(drain(h), "HTTP/1.1 408 "));
	assert_true(web_http1_done(h));
	web_http1_free(h);
	/* A body that does not come. */
	h = start();
	web_http1_input(h, nb_bytes_str("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"), at(1000));
	web_http1_timer(h, at(61000));
	assert_non_null(strstr(drain(h), "HTTP/1.1 408 "));
	web_http1_free(h);
}

static void test_upgrade(void **state)
{
	struct web_http1 *h = start();
	struct nb_bytes rest;
	void *user;

	(void)state;
	assert_false(web_http1_upgraded(h, &user, &rest));
	/* h2c is declined by an ordinary answer. */
	assert_non_null(strstr(feed(h, "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
				       "Content-Length: 2\r\n\r\nhi"), "HTTP/1.1 200 OK"));
	assert_string_equal(seen.last, "POST|/||a|hi");
	web_http1_input(h, nb_bytes_str("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n"
					"Upgrade: WebSocket\r\nSec-WebSocket-Key: x\r\n\r\nframes"), at(0));
	assert_int_equal(seen.upgrades, 1);
	assert_false(web_http1_upgraded(h, &user, &rest));
	assert_string_equal(drain(h), "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n"
				      "connection: Upgrade\r\n\r\n");
	assert_true(web_http1_upgraded(h, &user, &rest));
	assert_true(nb_bytes_eq_str(rest, "frames"));
	assert_false(web_http1_wants_input(h));
	web_http1_free(h);
}

static void test_shutdown(void **state)
{
	struct web_http1 *h = start();

	(void)state;
	web_http1_shutdown(h);
	assert_true(web_http1_done(h));
	web_http1_free(h);
	h = start();
	feed(h, "GET /later HTTP/1.1\r\nHost: a\r\n\r\n");
	web_http1_shutdown(h);
	assert_false(web_http1_done(h));
	web_respond_text(seen.held, 200, "ok");
	assert_non_null(strstr(drain(h), "connection: close"));
	assert_true(web_http1_done(h));
	web_http1_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_simple), cmocka_unit_test(test_cuts), cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_expect), cmocka_unit_test(test_later), cmocka_unit_test(test_timeouts),
		cmocka_unit_test(test_upgrade), cmocka_unit_test(test_shutdown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
