/* grpc_refuse_test.c - our server against a bare HTTP/2 client (nghttp2) that can say anything: framing
 * errors, compression, padding, cardinality, raw requests, header floods, garbage; the form of refusals. */
#include "grpc/grpc.h"

#include "grpc_echo_service.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <nghttp2/nghttp2.h>

/* The answer to the request under test. */
struct answer {
	char frames[64];	/* H headers, D data, + END_STREAM, R reset */
	int http, status;
	char message[200], type[64], trailer_announced;
	size_t body_n;
	uint8_t body[4096];
	uint32_t reset;
	bool closed;
	bool trailers;
};

static struct {
	nghttp2_session *h2;
	struct grpc_conn *server;
	struct grpc_config cfg;
	struct grpc_service svc;
	struct grpc_raw_handler raw;
	struct echo_stats st;
	struct answer a;
	const uint8_t *body;
	size_t body_n, body_at, data_max, pad;
	bool no_end;
	int raw_requests, raw_ends;
	char raw_saw[200];
	struct nb_time now;
} t;

static void note(char c)
{
	size_t n = strlen(t.a.frames);

	if (n + 1 < sizeof t.a.frames)
		t.a.frames[n] = c;
}

static int on_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name, size_t nn,
		     const uint8_t *value, size_t vn, uint8_t flags, void *user)
{
	char v[200];

	(void)s; (void)f; (void)flags; (void)user; (void)nn;
	snprintf(v, sizeof v, "%.*s", (int)vn, (const char *)value);
	if (!strcmp((const char *)name, ":status"))
		t.a.http = atoi(v);
	else if (!strcmp((const char *)name, "content-type"))
		strcpy(t.a.type, v);
	else if (!strcmp((const char *)name, "trailer"))
		t.a.trailer_announced++;
	else if (!strcmp((const char *)name, "grpc-status"))
		t.a.status = atoi(v);
	else if (!strcmp((const char *)name, "grpc-message"))
		strcpy(t.a.message, v);
	return 0;
}

static int on_frame(nghttp2_session *s, const nghttp2_frame *f, void *user)
{
	(void)s; (void)user;
	if (f->hd.type == NGHTTP2_HEADERS)
		note('H');
	else if (f->hd.type == NGHTTP2_DATA)
		note('D');
	else if (f->hd.type == NGHTTP2_RST_STREAM)
		note('R');
	else
		return 0;
	if (f->hd.type != NGHTTP2_RST_STREAM && f->hd.flags & NGHTTP2_FLAG_END_STREAM)
		note('+');
	return 0;
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *d, size_t n, void *user)
{
	(void)s; (void)flags; (void)id; (void)user;
	if (t.a.body_n + n <= sizeof t.a.body)
		memcpy(t.a.body + t.a.body_n, d, n);
	t.a.body_n += n;
	return 0;
}

static int on_close(nghttp2_session *s, int32_t id, uint32_t error, void *user)
{
	(void)s; (void)id; (void)user;
	t.a.reset = error;
	t.a.closed = true;
	return 0;
}

static ssize_t padding(nghttp2_session *s, const nghttp2_frame *f, size_t max, void *user)
{
	size_t n = f->hd.length + (f->hd.type == NGHTTP2_DATA ? t.pad : 0);

	(void)s; (void)user;
	return (ssize_t)(n < max ? n : max);
}

static ssize_t read_body(nghttp2_session *s, int32_t id, uint8_t *buf, size_t cap, uint32_t *flags,
			 nghttp2_data_source *src, void *user)
{
	size_t n = t.body_n - t.body_at;

	(void)s; (void)id; (void)src; (void)user;
	if (n > cap)
		n = cap;
	if (t.data_max && n > t.data_max)
		n = t.data_max;
	if (n)
		memcpy(buf, t.body + t.body_at, n);
	t.body_at += n;
	if (t.body_at == t.body_n) {
		if (t.no_end)
			return n ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	}
	return (ssize_t)n;
}

static void raw_request(void *arg, struct grpc_call *call, const struct grpc_raw_request *r)
{
	struct grpc_meta h = GRPC_META("content-type", "text/plain");
	char text[100];

	(void)arg;
	t.raw_requests++;
	snprintf(t.raw_saw, sizeof t.raw_saw, "%.*s %.*s %.*s %zu", (int)r->method.n, (const char *)r->method.p,
		 (int)r->authority.n, (const char *)r->authority.p, (int)r->path.n, (const char *)r->path.p,
		 r->body.n);
	snprintf(text, sizeof text, "%zu headers", r->n_headers);
	assert_int_equal(grpc_raw_respond(call, 201, &h, 1, nb_bytes_str(text)), 0);
	assert_int_equal(grpc_raw_respond(call, 201, &h, 1, nb_bytes_str(text)), NB_E_STATE);
}

static void raw_end(void *arg, struct grpc_call *call, void *user)
{
	(void)arg; (void)call; (void)user;
	t.raw_ends++;
}

static int setup(void **state)
{
	nghttp2_session_callbacks *cb;

	(void)state;
	memset(&t, 0, sizeof t);
	t.a.status = -1;
	t.svc = echo_service(&t.st);
	t.raw = (struct grpc_raw_handler){ raw_request, raw_end, NULL, 1000 };
	grpc_config_default(&t.cfg);
	t.cfg.services = &t.svc;
	t.cfg.n_services = 1;
	t.cfg.raw = &t.raw;
	nghttp2_session_callbacks_new(&cb);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
	nghttp2_session_callbacks_set_select_padding_callback(cb, padding);
	nghttp2_session_client_new(&t.h2, cb, NULL);
	nghttp2_session_callbacks_del(cb);
	nghttp2_submit_settings(t.h2, 0, NULL, 0);
	return grpc_server_new(&t.server, &t.cfg, t.now);
}

static int teardown(void **state)
{
	(void)state;
	nghttp2_session_del(t.h2);
	grpc_conn_free(t.server);
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
		while ((n = nghttp2_session_mem_send(t.h2, &p)) > 0) {
			moved += (size_t)n;
			grpc_conn_input(t.server, nb_bytes(p, (size_t)n), t.now);
		}
		while ((n = (ssize_t)grpc_conn_output(t.server, buf, sizeof buf, t.now)) > 0) {
			moved += (size_t)n;
			assert_int_equal(nghttp2_session_mem_recv(t.h2, buf, (size_t)n), n);
		}
	} while (moved);
}

#define NV(n, v) { (uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), sizeof(n) - 1, strlen(v), 0 }

/* One request; type "" leaves content-type out, extra may be NULL. */
static void ask(const char *method, const char *path, const char *type, const char *extra, const char *value,
		struct nb_bytes body)
{
	nghttp2_data_provider prd = { .read_callback = read_body };
	nghttp2_nv nv[8] = {
		NV(":method", method), NV(":scheme", "http"), NV(":authority", "host"), NV(":path", path),
		NV("te", "trailers"),
	};
	size_t n = 5;

	if (*type)
		nv[n++] = (nghttp2_nv)NV("content-type", type);
	if (extra) {
		nv[n] = (nghttp2_nv)NV("", value);
		nv[n].name = (uint8_t *)(uintptr_t)extra;
		nv[n++].namelen = strlen(extra);
	}
	t.body = body.p;
	t.body_n = body.n;
	t.body_at = 0;
	memset(&t.a, 0, sizeof t.a);
	t.a.status = -1;
	assert_true(nghttp2_submit_request(t.h2, NULL, nv, n, body.p ? &prd : NULL, NULL) > 0);
	pump();
}

static void ask_grpc(const char *path, const void *body, size_t n)
{
	ask("POST", path, "application/grpc", NULL, NULL, nb_bytes(body, n));
}

static void test_refusal_form(void **state)
{
	(void)state;
	ask_grpc("/test.Echo/Nope", "\0\0\0\0\0", 5);
	/* stock's two frames, not trailers-only */
	assert_string_equal(t.a.frames, "HH+");
	assert_int_equal(t.a.http, 200);
	assert_string_equal(t.a.type, "application/grpc");
	assert_int_equal(t.a.trailer_announced, 3);
	assert_int_equal(t.a.status, GRPC_UNIMPLEMENTED);
	assert_true(t.a.closed);
}

static void test_answer_form(void **state)
{
	(void)state;
	ask_grpc("/test.Echo/Unary", "\0\0\0\0\3abc", 8);
	assert_string_equal(t.a.frames, "HDH+");
	assert_int_equal(t.a.status, 0);
	assert_string_equal(t.a.message, "");
	assert_int_equal(t.a.body_n, 8);
	assert_memory_equal(t.a.body, "\0\0\0\0\3abc", 8);
	ask("POST", "/test.Echo/Unary", "application/grpc+proto", NULL, NULL, nb_bytes("\0\0\0\0\0", 5));
	assert_int_equal(t.a.status, 0);
	ask("POST", "/test.Echo/Unary", "application/grpc;x=y", NULL, NULL, nb_bytes("\0\0\0\0\0", 5));
	assert_int_equal(t.a.status, 0);
}

static void test_bad_bodies(void **state)
{
	static const struct {
		const char *path, *body;
		size_t n;
		int status;
		const char *message;
	} rows[] = {
		{ "/test.Echo/Unary", "\1\0\0\0\3abc", 8, GRPC_INTERNAL, "compressed flag" },
		{ "/test.Echo/Unary", "\2\0\0\0\3abc", 8, GRPC_INTERNAL, "unexpected payload format 2" },
		{ "/test.Echo/Unary", "\0\0\0\0\1a\0\0\0\0\1b", 12, GRPC_INTERNAL, "more than one" },
		{ "/test.Echo/Unary", "", 0, GRPC_INTERNAL, "missing" },
		{ "/test.Echo/Unary", "\0\0\0\0\3ab", 7, GRPC_INTERNAL, "unexpected EOF" },
		{ "/test.Echo/Unary", "\0\0\0", 3, GRPC_INTERNAL, "unexpected EOF" },
		{ "/test.Echo/Upload", "\0\0\0\0\1a\0\0", 8, GRPC_INTERNAL, "unexpected EOF" },
		{ "/test.Echo/Unary", "\0\xff\xff\xff\xff", 5, GRPC_RESOURCE_EXHAUSTED, "(4294967295 vs. 4194304)" },
		{ "/test.Echo/Download", "\0\0\0\0\0031 9\0\0\0\0\0031 9", 16, GRPC_INTERNAL, "more than one" },
		{ "/test.Echo/Download", "\0\0\0\0\1x", 6, GRPC_INVALID_ARGUMENT, "COUNT" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		ask_grpc(rows[i].path, rows[i].body, rows[i].n);
		assert_int_equal(t.a.status, rows[i].status);
		assert_non_null(strstr(t.a.message, rows[i].message));
		assert_true(t.a.closed);
	}
	assert_int_equal(grpc_conn_calls(t.server), 0);
	assert_int_equal(t.st.started, t.st.ended);
	/* the connection survived all that */
	ask_grpc("/test.Echo/Unary", "\0\0\0\0\0", 5);
	assert_int_equal(t.a.status, 0);
}

static void test_options(void **state)
{
	(void)state;
	ask("POST", "/test.Echo/Unary", "application/grpc", "grpc-encoding", "gzip", nb_bytes("\1\0\0\0\1a", 6));
	assert_int_equal(t.a.status, GRPC_UNIMPLEMENTED);
	ask("POST", "/test.Echo/Unary", "application/grpc", "grpc-encoding", "identity", nb_bytes("\0\0\0\0\1a", 6));
	assert_int_equal(t.a.status, 0);
	ask("POST", "/test.Echo/Unary", "application/grpc", "grpc-timeout", "soon", nb_bytes("\0\0\0\0\1a", 6));
	assert_int_equal(t.a.status, GRPC_INTERNAL);
	ask("POST", "/test.Echo/Unary", "application/grpc", "grpc-timeout", "5S", nb_bytes("\0\0\0\0\1a", 6));
	assert_int_equal(t.a.status, 0);
	assert_int_equal(t.st.last_deadline.ns, 5 * NB_SEC);
}

/* A message in frames of a few bytes, each with padding; more padding than the windows would hold if it
 * were never given back. */
static void test_padding(void **state)
{
	uint8_t body[3005] = { 0, 0, 0, 0x0b, 0xb8 };

	(void)state;
	t.pad = 255;
	t.data_max = 1;
	for (int i = 0; i < 6; i++) {
		ask_grpc("/test.Echo/Unary", body, sizeof body);
		assert_int_equal(t.a.status, 0);
		assert_int_equal(t.a.body_n, sizeof body);
	}
}

static void test_no_half_close(void **state)
{
	(void)state;
	t.no_end = true;
	/* an error is told at once, and the client is stopped */
	ask_grpc("/test.Echo/Small", "\0\0\0\1\0", 5);
	assert_string_equal(t.a.frames, "HH+R");
	assert_int_equal(t.a.status, GRPC_RESOURCE_EXHAUSTED);
	assert_int_equal(t.a.reset, NGHTTP2_NO_ERROR);
	assert_int_equal(grpc_conn_calls(t.server), 0);
}

static void test_raw(void **state)
{
	static uint8_t big[1001];

	(void)state;
	ask("GET", "/api/peers?x=1", "", "x-key", "v", nb_bytes(NULL, 0));
	assert_int_equal(t.a.http, 201);
	assert_string_equal(t.raw_saw, "GET host /api/peers?x=1 0");
	assert_int_equal(t.a.body_n, 9);
	assert_memory_equal(t.a.body, "2 headers", 9);
	assert_string_equal(t.a.frames, "HD+");
	ask("POST", "/api/peers", "application/json", NULL, NULL, nb_bytes(big, 1000));
	assert_int_equal(t.a.http, 201);
	assert_string_equal(t.raw_saw, "POST host /api/peers 1000");
	ask("HEAD", "/", "", NULL, NULL, nb_bytes(NULL, 0));
	assert_string_equal(t.a.frames, "H+");
	assert_int_equal(t.raw_requests, 3);
	ask("POST", "/api/peers", "application/json", NULL, NULL, nb_bytes(big, 1001));
	assert_int_equal(t.a.http, 413);
	/* a browser's GET on a gRPC path is not gRPC, nor is gRPC-Web */
	ask("GET", "/test.Echo/Unary", "application/grpc", NULL, NULL, nb_bytes(NULL, 0));
	assert_int_equal(t.a.http, 201);
	ask("POST", "/test.Echo/Unary", "application/grpc-web", NULL, NULL, nb_bytes("", 0));
	assert_int_equal(t.a.http, 201);
	assert_int_equal(t.raw_requests, 5);
	assert_int_equal(t.raw_ends, 6);
	assert_int_equal(t.st.started, 0);
}

static void test_raw_late(void **state)
{
	(void)state;
	t.no_end = true;
	ask("POST", "/api/peers", "application/json", NULL, NULL, nb_bytes("{", 1));
	assert_int_equal(t.a.http, 0);
	t.now = grpc_conn_deadline(t.server);
	assert_int_equal(t.now.ns, 60 * NB_SEC);
	grpc_conn_timer(t.server, t.now);
	pump();
	assert_int_equal(t.a.http, 408);
	assert_true(t.a.closed);
	assert_int_equal(t.raw_requests, 0);
	assert_int_equal(t.raw_ends, 1);
}

static void test_no_raw_handler(void **state)
{
	(void)state;
	grpc_conn_free(t.server);
	t.cfg.raw = NULL;
	assert_int_equal(grpc_server_new(&t.server, &t.cfg, t.now), 0);
	ask("GET", "/", "", NULL, NULL, nb_bytes(NULL, 0));
	assert_int_equal(t.a.http, 404);
	assert_true(t.a.closed);
	ask("POST", "/", "text/plain", NULL, NULL, nb_bytes("hello", 5));
	assert_int_equal(t.a.http, 404);
}

static void test_header_cap(void **state)
{
	char *big = test_malloc(20001);

	(void)state;
	memset(big, 'a', 20000);
	big[20000] = 0;
	ask("POST", "/test.Echo/Unary", "application/grpc", "x-big", big, nb_bytes("\0\0\0\0\0", 5));
	assert_int_equal(t.a.status, GRPC_RESOURCE_EXHAUSTED);
	ask("GET", "/", "", "x-big", big, nb_bytes(NULL, 0));
	assert_int_equal(t.a.http, 431);
	test_free(big);
}

static void feed(const void *p, size_t n)
{
	uint8_t out[1000];

	grpc_conn_input(t.server, nb_bytes(p, n), t.now);
	while (grpc_conn_output(t.server, out, sizeof out, t.now) > 0)
		;
}

static void test_garbage(void **state)
{
	static const char http1[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	/* DATA on stream 0, a frame beyond the size limit, HEADERS on an even stream */
	static const struct {
		uint8_t frame[16];
		size_t n;
	} rows[] = {
		{ { 0, 0, 1, 0, 0, 0, 0, 0, 0, 7 }, 10 },
		{ { 0xff, 0, 0, 0, 0, 0, 0, 0, 1 }, 9 },
		{ { 0, 0, 1, 1, 4, 0, 0, 0, 2, 0x82 }, 10 },
	};

	(void)state;
	assert_int_equal(grpc_conn_input(t.server, nb_bytes_str(http1), t.now), NB_E_PROTO);
	assert_string_equal(grpc_conn_why(t.server), "the peer does not speak HTTP/2");
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		grpc_conn_free(t.server);
		assert_int_equal(grpc_server_new(&t.server, &t.cfg, t.now), 0);
		feed(preface, sizeof preface - 1);
		feed("\0\0\0\4\0\0\0\0\0", 9);
		assert_true(grpc_conn_ready(t.server));
		feed(rows[i].frame, rows[i].n);
		assert_true(grpc_conn_done(t.server));
		assert_true(strlen(grpc_conn_why(t.server)) > 0);
	}
}

/* Answering PINGs is a must; a flood of them that is never drained ends the connection. */
static void test_ping(void **state)
{
	static const uint8_t ping[17] = { 0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8 };
	uint8_t out[1000];
	size_t n;
	int r = 0;

	(void)state;
	pump();
	grpc_conn_input(t.server, nb_bytes(ping, sizeof ping), t.now);
	n = grpc_conn_output(t.server, out, sizeof out, t.now);
	assert_int_equal(n, 17);
	assert_int_equal(out[4], 1);
	assert_memory_equal(out + 9, ping + 9, 8);
	for (int i = 0; i < 5000 && !r; i++)
		r = grpc_conn_input(t.server, nb_bytes(ping, sizeof ping), t.now);
	assert_int_equal(r, NB_E_PROTO);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_refusal_form), T(test_answer_form), T(test_bad_bodies), T(test_options), T(test_padding),
		T(test_no_half_close), T(test_raw), T(test_raw_late), T(test_no_raw_handler), T(test_header_cap), T(test_garbage),
		T(test_ping),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
