/* grpc_answer_test.c - our client against a bare HTTP/2 server (nghttp2) that may answer anything: wrong
 * HTTP statuses and types, missing or odd trailers, broken messages, resets, GOAWAY. */
#include "grpc/grpc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <nghttp2/nghttp2.h>

static struct {
	nghttp2_session *h2;
	struct grpc_conn *client;
	struct nb_time now;
	int32_t stream;		/* last one the client opened */
	uint32_t reset;		/* code of the client's RST_STREAM, 99: none */
	unsigned resets;
	unsigned headers, messages, ends;
	size_t bytes;
	int status;
	char message[300];
	const uint8_t *body;
	size_t body_n, body_at;
} t;

static int on_frame(nghttp2_session *s, const nghttp2_frame *f, void *user)
{
	(void)s; (void)user;
	if (f->hd.type == NGHTTP2_HEADERS)
		t.stream = f->hd.stream_id;
	if (f->hd.type == NGHTTP2_RST_STREAM) {
		t.reset = f->rst_stream.error_code;
		t.resets++;
	}
	return 0;
}

static void on_headers(struct grpc_call *call, void *user)
{
	(void)call; (void)user;
	t.headers++;
}

static void on_message(struct grpc_call *call, void *user, struct nb_bytes m)
{
	(void)call; (void)user;
	t.messages++;
	t.bytes += m.n;
}

static void on_end(struct grpc_call *call, void *user, const struct grpc_result *r)
{
	(void)call; (void)user;
	t.ends++;
	t.status = r->status;
	snprintf(t.message, sizeof t.message, "%s", r->message);
}

static const struct grpc_call_ops ops = { .on_headers = on_headers, .on_message = on_message, .on_end = on_end };

static int setup(void **state)
{
	nghttp2_session_callbacks *cb;
	struct grpc_config cfg;

	(void)state;
	memset(&t, 0, sizeof t);
	grpc_config_default(&cfg);
	cfg.max_message = 1000;
	nghttp2_session_callbacks_new(&cb);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_session_server_new(&t.h2, cb, NULL);
	nghttp2_session_callbacks_del(cb);
	nghttp2_submit_settings(t.h2, 0, NULL, 0);
	return grpc_client_new(&t.client, &cfg, t.now);
}

static int teardown(void **state)
{
	(void)state;
	grpc_conn_free(t.client);
	nghttp2_session_del(t.h2);
	return 0;
}

static void pump(void)
{
	uint8_t buf[4096];
	const uint8_t *p;
	ssize_t n;
	size_t moved;

	do {
		moved = 0;
		while ((n = (ssize_t)grpc_conn_output(t.client, buf, sizeof buf, t.now)) > 0) {
			moved += (size_t)n;
			assert_int_equal(nghttp2_session_mem_recv(t.h2, buf, (size_t)n), n);
		}
		while ((n = nghttp2_session_mem_send(t.h2, &p)) > 0) {
			moved += (size_t)n;
			grpc_conn_input(t.client, nb_bytes(p, (size_t)n), t.now);
		}
	} while (moved);
}

static struct grpc_call *ask(enum grpc_kind kind, bool half_close)
{
	struct grpc_request req = { .path = "/x/y", .kind = kind, .ops = &ops, .deadline = NB_TIME_NEVER };
	struct grpc_call *call;

	t.headers = t.messages = t.ends = t.resets = 0;
	t.bytes = 0;
	t.status = -1;
	t.reset = 99;
	assert_int_equal(grpc_call_start(&call, t.client, &req, t.now), 0);
	grpc_call_send(call, nb_bytes_str("request"));
	if (half_close)
		grpc_call_half_close(call);
	pump();
	return call;
}

static ssize_t read_body(nghttp2_session *s, int32_t id, uint8_t *buf, size_t cap, uint32_t *flags,
			 nghttp2_data_source *src, void *user)
{
	size_t n = t.body_n - t.body_at < cap ? t.body_n - t.body_at : cap;

	(void)s; (void)id; (void)src; (void)user;
	if (n)
		memcpy(buf, t.body + t.body_at, n);
	t.body_at += n;
	if (t.body_at == t.body_n)
		*flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
	return (ssize_t)n;
}

static nghttp2_nv nv(const char *name, const char *value)
{
	return (nghttp2_nv){ (uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name), strlen(value), 0 };
}

/* Headers with this status and type, a body, trailers with this grpc-status (NULL: a trailer without). */
static void answer(const char *http, const char *type, const void *body, size_t n, const char *status)
{
	nghttp2_data_provider prd = { .read_callback = read_body };
	nghttp2_nv head[2] = { nv(":status", http), nv("content-type", type) };
	nghttp2_nv trail = status ? nv("grpc-status", status) : nv("x-other", "1");

	t.body = body;
	t.body_n = n;
	t.body_at = 0;
	if (n) {
		nghttp2_submit_response(t.h2, t.stream, head, 2, &prd);
		pump();
	} else {
		nghttp2_submit_headers(t.h2, 0, t.stream, NULL, head, 2, NULL);
	}
	nghttp2_submit_trailer(t.h2, t.stream, &trail, 1);
	pump();
}

#define GRPC "application/grpc"

static void test_answers(void **state)
{
	static const struct {
		enum grpc_kind kind;
		const char *http, *type, *body;
		size_t n;
		const char *trailer;
		int status;
		unsigned messages;
		const char *words;
	} rows[] = {
		{ GRPC_UNARY, "200", GRPC, "\0\0\0\0\2hi", 7, "0", GRPC_OK, 1, "" },
		{ GRPC_UNARY, "200", GRPC "+proto", "\0\0\0\0\2hi", 7, "0", GRPC_OK, 1, "" },
		{ GRPC_SERVER_STREAM, "200", GRPC, "\0\0\0\0\1a\0\0\0\0\1b", 12, "0", GRPC_OK, 2, "" },
		{ GRPC_SERVER_STREAM, "200", GRPC, "", 0, "0", GRPC_OK, 0, "" },
		{ GRPC_UNARY, "200", GRPC, "", 0, "0", GRPC_INTERNAL, 0, "missing" },
		{ GRPC_UNARY, "200", GRPC, "\0\0\0\0\1a\0\0\0\0\1b", 12, "0", GRPC_INTERNAL, 0, "more than one" },
		{ GRPC_UNARY, "200", GRPC, "\0\0\0\0\3hi", 7, "0", GRPC_INTERNAL, 0, "unexpected EOF" },
		{ GRPC_SERVER_STREAM, "200", GRPC, "\0\0\0\0\1a\0\0", 8, "0", GRPC_INTERNAL, 1, "unexpected EOF" },
		/* an error status wins over whatever else is wrong, and its half message is not delivered */
		{ GRPC_UNARY, "200", GRPC, "\0\0\0\0\3hi", 7, "7", GRPC_PERMISSION_DENIED, 0, "" },
		{ GRPC_UNARY, "200", GRPC, "\0\0\0\0\2hi", 7, "7", GRPC_PERMISSION_DENIED, 0, "" },
		{ GRPC_UNARY, "200", GRPC, "\0\0\0\0\2hi", 7, "123", 123, 0, "" },
		{ GRPC_UNARY, "200", GRPC, "\0\0\0\0\2hi", 7, NULL, GRPC_INTERNAL, 0, "without sending a status" },
		{ GRPC_UNARY, "200", GRPC, "\0\0\0\0\2hi", 7, "OK", GRPC_INTERNAL, 0, "without sending a status" },
		{ GRPC_UNARY, "200", GRPC, "\1\0\0\0\2hi", 7, "0", GRPC_INTERNAL, 0, "compressed" },
		{ GRPC_UNARY, "200", GRPC, "\0\0\0\4\0", 5, "0", GRPC_RESOURCE_EXHAUSTED, 0, "(1024 vs. 1000)" },
		{ GRPC_UNARY, "404", GRPC, "", 0, "0", GRPC_UNIMPLEMENTED, 0, "404" },
		{ GRPC_UNARY, "503", "text/html", "sorry", 5, NULL, GRPC_UNAVAILABLE, 0, "503" },
		{ GRPC_UNARY, "200", "text/html", "<html>", 6, NULL, GRPC_UNKNOWN, 0, "not gRPC" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		ask(rows[i].kind, true);
		answer(rows[i].http, rows[i].type, rows[i].body, rows[i].n, rows[i].trailer);
		assert_int_equal(t.ends, 1);
		assert_int_equal(t.status, rows[i].status);
		assert_int_equal(t.messages, rows[i].messages);
		assert_non_null(strstr(t.message, rows[i].words));
	}
	assert_int_equal(grpc_conn_calls(t.client), 0);
	assert_true(grpc_conn_usable(t.client));
}

static void test_trailers_only(void **state)
{
	nghttp2_nv head[] = { nv(":status", "200"), nv("content-type", GRPC), nv("grpc-status", "5"),
		nv("grpc-message", "no%20such") };

	(void)state;
	ask(GRPC_UNARY, true);
	nghttp2_submit_headers(t.h2, NGHTTP2_FLAG_END_STREAM, t.stream, NULL, head, 4, NULL);
	pump();
	assert_int_equal(t.ends, 1);
	assert_int_equal(t.status, GRPC_NOT_FOUND);
	assert_string_equal(t.message, "no such");
	assert_int_equal(t.headers, 0);
	assert_int_equal(t.resets, 0);
}

static void test_informational(void **state)
{
	nghttp2_nv early = nv(":status", "103");

	(void)state;
	ask(GRPC_UNARY, true);
	nghttp2_submit_headers(t.h2, 0, t.stream, NULL, &early, 1, NULL);
	pump();
	assert_int_equal(t.headers + t.ends, 0);
	answer("200", GRPC, "\0\0\0\0\2hi", 7, "0");
	assert_int_equal(t.status, GRPC_OK);
	assert_int_equal(t.headers, 1);
}

/* Answered while we were still sending: the stream is let go in good order. */
static void test_early(void **state)
{
	(void)state;
	ask(GRPC_CLIENT_STREAM, false);
	answer("200", GRPC, "\0\0\0\0\2hi", 7, "0");
	assert_int_equal(t.ends, 1);
	assert_int_equal(t.status, GRPC_OK);
	assert_int_equal(t.resets, 1);
	assert_int_equal(t.reset, NGHTTP2_NO_ERROR);
}

static void test_resets(void **state)
{
	static const struct {
		uint32_t code;
		int status;
	} rows[] = {
		{ NGHTTP2_REFUSED_STREAM, GRPC_UNAVAILABLE }, { NGHTTP2_CANCEL, GRPC_CANCELLED },
		{ NGHTTP2_ENHANCE_YOUR_CALM, GRPC_RESOURCE_EXHAUSTED }, { NGHTTP2_INTERNAL_ERROR, GRPC_INTERNAL },
		{ NGHTTP2_NO_ERROR, GRPC_INTERNAL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		ask(GRPC_UNARY, true);
		nghttp2_submit_rst_stream(t.h2, 0, t.stream, rows[i].code);
		pump();
		assert_int_equal(t.ends, 1);
		assert_int_equal(t.status, rows[i].status);
	}
}

/* Streams the server will not look at any more end as unavailable at once, the others go on. */
static void test_goaway(void **state)
{
	int32_t first;

	(void)state;
	ask(GRPC_UNARY, true);
	first = t.stream;
	ask(GRPC_UNARY, true);
	nghttp2_submit_goaway(t.h2, 0, first, NGHTTP2_NO_ERROR, NULL, 0);
	pump();
	assert_int_equal(t.ends, 1);
	assert_int_equal(t.status, GRPC_UNAVAILABLE);
	assert_false(grpc_conn_usable(t.client));
	t.stream = first;
	answer("200", GRPC, "\0\0\0\0\2hi", 7, "0");
	assert_int_equal(t.ends, 2);
	assert_int_equal(t.status, GRPC_OK);
	assert_true(grpc_conn_done(t.client));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_answers), T(test_trailers_only), T(test_informational), T(test_early), T(test_resets),
		T(test_goaway),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
