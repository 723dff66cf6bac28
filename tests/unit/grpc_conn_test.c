/* grpc_conn_test.c - our client against our server through memory: every kind of call, large messages
 * in odd pieces, flow control with slow readers, deadlines, cancellation, keepalive, shutdown. */
#include "grpc/grpc.h"

#include "grpc_echo_service.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* What a client call saw. */
struct seen {
	unsigned headers, messages, ends, writables;
	size_t bytes;
	uint32_t next;		/* Download: number the next message must carry */
	int status;
	char message[200], text[200];
	char head[64], trail[64];
	bool pause;		/* pause after each message */
	bool order_broken;
	bool insist;		/* ask for on_writable again without sending */
};

static struct {
	struct grpc_conn *client, *server;
	struct nb_time now;
	size_t chunk;		/* largest piece moved at once; 0: no limit */
	bool stop_down;		/* server to client stands still */
	struct echo_stats st;
	struct grpc_service svc;
	struct grpc_config ccfg, scfg;
	unsigned wakes, ready, goaways;
	size_t moved_down;
	bool over;		/* what calls saw is gone from the stack */
} p;

static void on_wake(struct grpc_conn *c, void *user)
{
	(void)c;
	(void)user;
	p.wakes++;
}

static void on_ready(struct grpc_conn *c, void *user)
{
	(void)c;
	(void)user;
	p.ready++;
}

static void on_goaway(struct grpc_conn *c, void *user)
{
	(void)c;
	(void)user;
	p.goaways++;
}

static const struct grpc_conn_ops conn_ops = { on_wake, on_ready, on_goaway };

static void connect_pair(void)
{
	assert_int_equal(grpc_server_new(&p.server, &p.scfg, p.now), 0);
	assert_int_equal(grpc_client_new(&p.client, &p.ccfg, p.now), 0);
}

static int setup_config(void **state)
{
	(void)state;
	memset(&p, 0, sizeof p);
	p.now.ns = NB_SEC;
	p.svc = echo_service(&p.st);
	grpc_config_default(&p.scfg);
	grpc_config_default(&p.ccfg);
	p.scfg.services = &p.svc;
	p.scfg.n_services = 1;
	p.scfg.ops = p.ccfg.ops = &conn_ops;
	p.scfg.max_message = p.ccfg.max_message = 20 << 20;
	p.scfg.max_buffered = p.ccfg.max_buffered = 64 << 20;
	p.ccfg.authority = "host:1";
	return 0;
}

static int setup(void **state)
{
	setup_config(state);
	connect_pair();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	p.over = true;
	grpc_conn_free(p.client);
	grpc_conn_free(p.server);
	return 0;
}

static size_t piece(void)
{
	return p.chunk ? 1 + (size_t)rand() % p.chunk : 65536;
}

/* Move what one side has to the other; returns bytes moved. */
static size_t move(struct grpc_conn *from, struct grpc_conn *to)
{
	static uint8_t buf[65536];
	size_t total = 0, n;

	while ((n = grpc_conn_output(from, buf, piece(), p.now)) > 0) {
		total += n;
		if (grpc_conn_input(to, nb_bytes(buf, n), p.now))
			break;
	}
	return total;
}

static void pump(void)
{
	size_t n;

	do {
		n = move(p.client, p.server);
		if (!p.stop_down) {
			size_t down = move(p.server, p.client);

			p.moved_down += down;
			n += down;
		}
	} while (n);
}

/* Let time pass in steps of the next deadline. */
static void advance(int64_t ns)
{
	struct nb_time end = nb_time_add(p.now, ns);

	for (;;) {
		struct nb_time t = nb_time_min(grpc_conn_deadline(p.client), grpc_conn_deadline(p.server));

		if (nb_time_before(end, t))
			break;
		if (nb_time_before(p.now, t))
			p.now = t;
		grpc_conn_timer(p.client, p.now);
		grpc_conn_timer(p.server, p.now);
		pump();
	}
	p.now = end;
	pump();
}

static void copy_text(char *out, size_t cap, struct nb_bytes v)
{
	size_t n = v.n < cap ? v.n : cap - 1;

	if (n)
		memcpy(out, v.p, n);
	out[n] = 0;
}

static void c_headers(struct grpc_call *call, void *user)
{
	struct seen *s = user;
	struct nb_bytes v;

	s->headers++;
	if (grpc_call_metadata(call, "x-seen", &v) || grpc_call_metadata(call, "x-hang", &v))
		copy_text(s->head, sizeof s->head, v);
}

static void c_message(struct grpc_call *call, void *user, struct nb_bytes m)
{
	struct seen *s = user;

	s->messages++;
	s->bytes += m.n;
	copy_text(s->text, sizeof s->text, m);
	if (m.n >= 4 && nb_get_be32(m.p) != s->next++)
		s->order_broken = true;
	if (s->pause)
		grpc_call_pause(call);
}

static void c_writable(struct grpc_call *call, void *user)
{
	struct seen *s = user;

	s->writables++;
	if (s->insist)
		grpc_call_want_write(call);
}

static void c_end(struct grpc_call *call, void *user, const struct grpc_result *r)
{
	struct seen *s = user;
	struct nb_bytes v;

	if (p.over)
		return;
	s->ends++;
	s->status = r->status;
	snprintf(s->message, sizeof s->message, "%s", r->message);
	if (grpc_call_trailer(call, "x-seen-bin", &v))
		copy_text(s->trail, sizeof s->trail, v);
}

static const struct grpc_call_ops client_ops = {
	.on_headers = c_headers, .on_message = c_message, .on_writable = c_writable, .on_end = c_end,
};

static struct grpc_request request(const char *path, enum grpc_kind kind, struct seen *s)
{
	return (struct grpc_request){ .path = path, .kind = kind, .ops = &client_ops, .user = s,
		.deadline = NB_TIME_NEVER };
}

static struct grpc_call *start(const char *path, enum grpc_kind kind, struct seen *s)
{
	struct grpc_request req = request(path, kind, s);
	struct grpc_call *call;

	assert_int_equal(grpc_call_start(&call, p.client, &req, p.now), 0);
	return call;
}

static struct grpc_call *unary(const char *path, struct seen *s, struct nb_bytes m)
{
	struct grpc_request req = request(path, GRPC_UNARY, s);
	struct grpc_call *call;

	assert_int_equal(grpc_call_unary(&call, p.client, &req, m, p.now), 0);
	return call;
}

static void test_unary(void **state)
{
	struct seen s = { 0 };
	struct grpc_meta meta[2] = { GRPC_META("x-ask", "hello"),
		{ nb_bytes_str("x-ask-bin"), nb_bytes("\x00\xff\x01", 3) } };
	struct grpc_request req = request("/test.Echo/Unary", GRPC_UNARY, &s);
	struct grpc_call *call;

	(void)state;
	req.meta = meta;
	req.n_meta = 2;
	req.deadline = nb_time_add(p.now, 5 * NB_SEC);
	assert_int_equal(grpc_call_unary(&call, p.client, &req, nb_bytes("abc", 3), p.now), 0);
	assert_true(p.wakes > 0);
	assert_false(grpc_conn_ready(p.client));
	pump();
	assert_true(grpc_conn_ready(p.client));
	assert_int_equal(p.ready, 2);
	assert_int_equal(s.ends, 1);
	assert_int_equal(s.status, GRPC_OK);
	assert_int_equal(s.headers, 1);
	assert_int_equal(s.messages, 1);
	assert_string_equal(s.text, "abc");
	assert_string_equal(s.head, "hello");
	assert_memory_equal(s.trail, "\x00\xff\x01", 3);
	assert_int_equal(p.st.ended, 1);
	assert_int_equal(p.st.last_status, GRPC_OK);
	assert_int_equal(p.st.last_deadline.ns, p.now.ns + 5 * NB_SEC);
	assert_int_equal(grpc_conn_calls(p.client) + grpc_conn_calls(p.server), 0);
}

static void test_empty_message(void **state)
{
	struct seen s = { 0 };

	(void)state;
	unary("/test.Echo/Unary", &s, nb_bytes(NULL, 0));
	pump();
	assert_int_equal(s.status, GRPC_OK);
	assert_int_equal(s.messages, 1);
	assert_int_equal(s.bytes, 0);
}

static void test_status(void **state)
{
	struct seen s = { 0 };

	(void)state;
	unary("/test.Echo/Unary", &s, nb_bytes_str("fail:9:100% caf\xc3\xa9\n"));
	pump();
	assert_int_equal(s.ends, 1);
	assert_int_equal(s.status, GRPC_FAILED_PRECONDITION);
	assert_string_equal(s.message, "100% caf\xc3\xa9\n");
	assert_int_equal(s.messages, 0);
	assert_int_equal(p.st.last_status, GRPC_FAILED_PRECONDITION);
	assert_string_equal(p.st.last_message, "100% caf\xc3\xa9\n");
}

static void test_unknown_method(void **state)
{
	struct seen s = { 0 };

	(void)state;
	unary("/test.Echo/Nope", &s, nb_bytes_str("x"));
	pump();
	assert_int_equal(s.status, GRPC_UNIMPLEMENTED);
	assert_string_equal(s.message, "unknown method Nope for service test.Echo");
	memset(&s, 0, sizeof s);
	unary("/nope", &s, nb_bytes_str("x"));
	pump();
	assert_int_equal(s.status, GRPC_UNIMPLEMENTED);
	assert_int_equal(p.st.started, 0);
}

static void test_too_large(void **state)
{
	static uint8_t big[5000];
	struct seen s = { 0 };
	struct grpc_request req = request("/test.Echo/Unary", GRPC_UNARY, &s);
	struct grpc_call *call;

	(void)state;
	unary("/test.Echo/Small", &s, nb_bytes(big, 101));
	pump();
	assert_int_equal(s.status, GRPC_RESOURCE_EXHAUSTED);
	assert_string_equal(s.message, "grpc: received message larger than max (101 vs. 100)");
	memset(&s, 0, sizeof s);
	unary("/test.Echo/Small", &s, nb_bytes(big, 100));
	pump();
	assert_int_equal(s.status, GRPC_OK);
	/* and the client's own limit */
	memset(&s, 0, sizeof s);
	req.max_message = 4999;
	assert_int_equal(grpc_call_unary(&call, p.client, &req, nb_bytes(big, 5000), p.now), 0);
	pump();
	assert_int_equal(s.ends, 1);
	assert_int_equal(s.status, GRPC_RESOURCE_EXHAUSTED);
	assert_int_equal(s.messages, 0);
}

/* 16 MB there and back, cut into pieces of random size. */
static void test_large(void **state)
{
	size_t n = 16 << 20;
	uint8_t *big = test_malloc(n);
	struct seen s = { 0 };

	(void)state;
	memset(big, 7, n);
	nb_put_be32(big, 0);
	p.chunk = 30000;
	unary("/test.Echo/Unary", &s, nb_bytes(big, n));
	pump();
	assert_int_equal(s.status, GRPC_OK);
	assert_int_equal(s.bytes, n);
	test_free(big);
}

static void download(struct seen *s, const char *what, bool pause)
{
	struct grpc_call *call = start("/test.Echo/Download", GRPC_SERVER_STREAM, s);

	s->pause = pause;
	assert_int_equal(grpc_call_send(call, nb_bytes_str(what)), 0);
	assert_int_equal(grpc_call_half_close(call), 0);
}

static void test_tiny_pieces(void **state)
{
	struct seen s = { 0 }, d = { 0 };

	(void)state;
	p.chunk = 3;
	unary("/test.Echo/Unary", &s, nb_bytes_str("in very small pieces"));
	download(&d, "20 300", false);
	pump();
	assert_string_equal(s.text, "in very small pieces");
	assert_int_equal(d.messages, 20);
}

static void test_download(void **state)
{
	struct seen s = { 0 };

	(void)state;
	p.chunk = 5000;
	download(&s, "3000 1000", false);
	pump();
	assert_int_equal(s.status, GRPC_OK);
	assert_int_equal(s.messages, 3000);
	assert_false(s.order_broken);
	/* one message at a time: the producer is asked when the last one has left */
	assert_int_equal(p.st.most_queued, 1005);
}

static void c_end_resume(struct grpc_call *call)
{
	grpc_call_resume(call);
	pump();
}

static void test_slow_reader(void **state)
{
	static struct grpc_budget budget;
	struct seen s = { 0 }, other = { 0 };
	struct grpc_call *call;
	unsigned built;

	grpc_conn_free(p.client);
	grpc_conn_free(p.server);
	setup_config(state);
	budget = (struct grpc_budget){ .max = 10 << 20 };
	p.ccfg.budget = &budget;
	connect_pair();
	call = start("/test.Echo/Download", GRPC_SERVER_STREAM, &s);
	s.pause = true;
	grpc_call_send(call, nb_bytes_str("2000 1000"));
	grpc_call_half_close(call);
	pump();
	assert_int_equal(s.messages, 1);
	built = p.st.built;
	/* the stream's window and no more went out */
	assert_in_range(built, 250, 300);
	/* others are not held up by it */
	unary("/test.Echo/Unary", &other, nb_bytes_str("still here"));
	pump();
	assert_string_equal(other.text, "still here");
	assert_in_range(budget.used, 200000, 300000);
	while (!s.ends && s.messages < 5000)
		c_end_resume(call);
	assert_int_equal(budget.used, 0);
	assert_int_equal(s.messages, 2000);
	assert_false(s.order_broken);
	assert_int_equal(s.status, GRPC_OK);
}

/* One pull is enough for as much as it has room for; a producer that asks and then does not send cannot
 * hold it. */
static void test_one_pull(void **state)
{
	static uint8_t buf[65536];
	struct seen s = { 0 }, idle = { 0 };
	struct grpc_call *call = start("/test.Echo/Upload", GRPC_CLIENT_STREAM, &idle);

	(void)state;
	download(&s, "10 100", false);
	p.stop_down = true;
	pump();
	grpc_conn_output(p.server, buf, sizeof buf, p.now);
	assert_int_equal(p.st.built, 10);
	idle.insist = true;
	grpc_call_want_write(call);
	grpc_conn_output(p.client, buf, sizeof buf, p.now);
	assert_int_equal(idle.writables, 1);
	grpc_conn_output(p.client, buf, sizeof buf, p.now);
	assert_int_equal(idle.writables, 2);
	idle.insist = false;
}

static void test_resume_then_cancel(void **state)
{
	struct seen s = { 0 };
	struct grpc_call *call = start("/test.Echo/Download", GRPC_SERVER_STREAM, &s);

	(void)state;
	s.pause = true;
	grpc_call_send(call, nb_bytes_str("20 1000"));
	grpc_call_half_close(call);
	pump();
	assert_int_equal(s.messages, 1);
	grpc_call_resume(call);
	grpc_call_cancel(call);
	pump();
	assert_int_equal(s.messages, 1);
	assert_int_equal(grpc_conn_calls(p.client) + grpc_conn_calls(p.server), 0);
}

static void test_socket_full(void **state)
{
	struct seen s = { 0 };
	uint8_t buf[100];

	(void)state;
	download(&s, "1000 50000", false);
	p.stop_down = true;
	pump();
	/* the socket takes a hundred bytes: one message is built, not a window full */
	grpc_conn_output(p.server, buf, sizeof buf, p.now);
	assert_int_equal(p.st.built, 1);
	assert_int_equal(grpc_conn_input(p.client, nb_bytes(buf, sizeof buf), p.now), 0);
	p.stop_down = false;
	pump();
	assert_int_equal(s.messages, 1000);
	assert_int_equal(s.status, GRPC_OK);
}

static void test_upload(void **state)
{
	struct seen s = { 0 };
	struct grpc_call *call = start("/test.Echo/Upload", GRPC_CLIENT_STREAM, &s);

	(void)state;
	for (int i = 0; i < 50; i++)
		assert_int_equal(grpc_call_send(call, nb_bytes("0123456789", 10)), 0);
	pump();
	assert_int_equal(s.ends, 0);
	assert_int_equal(grpc_call_send(call, nb_bytes("0123456789", 10)), 0);
	grpc_call_half_close(call);
	assert_int_equal(grpc_call_send(call, nb_bytes("x", 1)), NB_E_STATE);
	pump();
	assert_int_equal(s.status, GRPC_OK);
	assert_string_equal(s.text, "51 510");
}

/* The server answers before the client is done: the client must stop, not hang. */
static void test_early_answer(void **state)
{
	struct seen s = { 0 };
	struct grpc_call *call = start("/test.Echo/Upload", GRPC_CLIENT_STREAM, &s);

	(void)state;
	assert_int_equal(grpc_call_send(call, nb_bytes_str("fail:7:enough")), 0);
	pump();
	assert_int_equal(s.ends, 1);
	assert_int_equal(s.status, GRPC_PERMISSION_DENIED);
	assert_int_equal(p.st.ended, 1);
	assert_int_equal(p.st.last_status, GRPC_PERMISSION_DENIED);
	assert_int_equal(grpc_conn_calls(p.client) + grpc_conn_calls(p.server), 0);
}

static void test_chat(void **state)
{
	struct seen s = { 0 };
	struct grpc_call *call = start("/test.Echo/Chat", GRPC_BIDI, &s);

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		uint8_t m[4];

		nb_put_be32(m, i);
		assert_int_equal(grpc_call_send(call, nb_bytes(m, 4)), 0);
		if (i % 3 == 0)
			pump();
	}
	grpc_call_half_close(call);
	pump();
	assert_int_equal(s.status, GRPC_OK);
	assert_int_equal(s.messages, 100);
	assert_false(s.order_broken);
}

static void test_queue_cap(void **state)
{
	static uint8_t half[600 << 10];
	struct seen s = { 0 };
	struct grpc_call *call = start("/test.Echo/Upload", GRPC_CLIENT_STREAM, &s);

	(void)state;
	assert_false(grpc_call_writable(call));	/* not on the wire yet */
	assert_int_equal(grpc_call_send(call, nb_bytes(half, sizeof half)), 0);
	assert_int_equal(grpc_call_send(call, nb_bytes(half, sizeof half)), NB_E_FULL);
	grpc_call_want_write(call);
	pump();
	assert_int_equal(s.writables, 1);
	assert_true(grpc_call_writable(call));
	grpc_call_half_close(call);
	pump();
	assert_int_equal(s.status, GRPC_OK);
}

static void test_client_deadline(void **state)
{
	struct seen s = { 0 };
	struct grpc_request req = request("/test.Echo/Hang", GRPC_BIDI, &s);
	struct grpc_call *call;

	(void)state;
	req.deadline = nb_time_add(p.now, NB_SEC);
	assert_int_equal(grpc_call_start(&call, p.client, &req, p.now), 0);
	pump();
	assert_int_equal(s.headers, 1);
	assert_string_equal(s.head, "1");
	p.stop_down = true;	/* so that only the client's clock can end it */
	advance(NB_SEC);
	assert_int_equal(s.ends, 1);
	assert_int_equal(s.status, GRPC_DEADLINE_EXCEEDED);
	p.stop_down = false;
	pump();
	assert_int_equal(p.st.ended, 1);
}

static void test_server_deadline(void **state)
{
	struct seen s = { 0 };
	struct grpc_request req = request("/test.Echo/Hang", GRPC_BIDI, &s);
	struct grpc_call *call;

	(void)state;
	req.deadline = nb_time_add(p.now, NB_SEC);
	assert_int_equal(grpc_call_start(&call, p.client, &req, p.now), 0);
	pump();
	p.now = nb_time_add(p.now, NB_SEC);
	assert_int_equal(grpc_conn_deadline(p.server).ns, p.now.ns);
	grpc_conn_timer(p.server, p.now);
	pump();
	assert_int_equal(s.status, GRPC_DEADLINE_EXCEEDED);
	assert_int_equal(p.st.last_status, GRPC_DEADLINE_EXCEEDED);
}

static void test_cancel(void **state)
{
	struct seen s = { 0 }, queued = { 0 };
	struct grpc_call *call = start("/test.Echo/Hang", GRPC_BIDI, &s);

	(void)state;
	pump();
	grpc_call_cancel(call);
	pump();
	assert_int_equal(s.ends, 0);
	assert_int_equal(p.st.ended, 1);
	assert_int_equal(p.st.last_status, GRPC_CANCELLED);
	/* before its headers ever left */
	call = start("/test.Echo/Hang", GRPC_BIDI, &queued);
	grpc_call_cancel(call);
	pump();
	assert_int_equal(queued.ends, 0);
	assert_int_equal(p.st.started, 1);
	assert_int_equal(grpc_conn_calls(p.client) + grpc_conn_calls(p.server), 0);
}

static void test_stream_limit(void **state)
{
	struct seen s[5];
	struct grpc_call *call[5];

	grpc_conn_free(p.client);
	grpc_conn_free(p.server);
	setup_config(state);
	p.scfg.max_streams = 2;
	connect_pair();
	pump();
	memset(s, 0, sizeof s);
	for (int i = 0; i < 5; i++)
		call[i] = start("/test.Echo/Hang", GRPC_BIDI, &s[i]);
	pump();
	assert_int_equal(p.st.started, 2);
	grpc_call_cancel(call[3]);
	grpc_call_cancel(call[0]);
	pump();
	assert_int_equal(p.st.started, 3);
	assert_int_equal(s[2].headers, 1);
	assert_int_equal(s[4].headers, 0);
}

static void test_keepalive(void **state)
{
	struct seen s = { 0 };

	grpc_conn_free(p.client);
	grpc_conn_free(p.server);
	setup_config(state);
	p.ccfg.keepalive_ns = 30 * NB_SEC;
	connect_pair();
	pump();
	/* not without calls */
	assert_true(nb_time_is_never(grpc_conn_deadline(p.client)));
	start("/test.Echo/Hang", GRPC_BIDI, &s);
	pump();
	advance(200 * NB_SEC);	/* answered PINGs keep it alive */
	assert_int_equal(s.ends, 0);
	/* now the network eats everything */
	p.now = grpc_conn_deadline(p.client);
	grpc_conn_timer(p.client, p.now);
	assert_int_equal(s.ends, 0);
	assert_int_equal(nb_time_diff(grpc_conn_deadline(p.client), p.now), 10 * NB_SEC);
	p.now = grpc_conn_deadline(p.client);
	grpc_conn_timer(p.client, p.now);
	assert_int_equal(s.ends, 1);
	assert_int_equal(s.status, GRPC_UNAVAILABLE);
	assert_true(grpc_conn_done(p.client));
	assert_true(nb_time_is_never(grpc_conn_deadline(p.client)));
}

static void test_handshake_timeout(void **state)
{
	(void)state;
	p.now = grpc_conn_deadline(p.server);
	grpc_conn_timer(p.server, p.now);
	assert_true(grpc_conn_done(p.server));
	assert_non_null(strstr(grpc_conn_why(p.server), "SETTINGS"));
}

static void test_shutdown(void **state)
{
	struct seen a = { 0 }, b = { 0 }, late = { 0 };
	struct grpc_call *call = start("/test.Echo/Upload", GRPC_CLIENT_STREAM, &a), *never;
	struct grpc_request req = request("/test.Echo/Unary", GRPC_UNARY, &late);

	(void)state;
	start("/test.Echo/Hang", GRPC_BIDI, &b);
	pump();
	p.wakes = 0;
	grpc_conn_shutdown(p.server, 30 * NB_SEC, p.now);
	assert_int_equal(p.wakes, 1);
	pump();
	assert_int_equal(p.goaways, 1);
	assert_false(grpc_conn_usable(p.client));
	assert_int_equal(grpc_call_unary(&never, p.client, &req, nb_bytes_str("x"), p.now), NB_E_CLOSED);
	/* what runs may finish */
	grpc_call_send(call, nb_bytes_str("x"));
	grpc_call_half_close(call);
	advance(5 * NB_SEC);
	assert_int_equal(a.status, GRPC_OK);
	assert_int_equal(b.ends, 0);
	assert_false(grpc_conn_done(p.server));
	advance(25 * NB_SEC);
	assert_true(grpc_conn_done(p.server));
	assert_int_equal(p.st.ended, 2);
	/* the driver closes the transport, which is how the client's last call learns */
	grpc_conn_lost(p.client, "EOF", p.now);
	assert_int_equal(b.ends, 1);
	assert_int_equal(b.status, GRPC_UNAVAILABLE);
}

/* A second, more hurried request counts; the GOAWAY is not said twice. */
static void test_shutdown_sooner(void **state)
{
	struct seen s = { 0 };
	struct nb_time began;

	(void)state;
	start("/test.Echo/Hang", GRPC_BIDI, &s);
	pump();
	began = p.now;
	grpc_conn_shutdown(p.server, 30 * NB_SEC, p.now);
	advance(2 * NB_SEC);
	assert_int_equal(p.goaways, 1);
	grpc_conn_shutdown(p.server, 3 * NB_SEC, p.now);
	assert_int_equal(nb_time_diff(grpc_conn_deadline(p.server), began), 5 * NB_SEC);
	grpc_conn_shutdown(p.server, 60 * NB_SEC, p.now);
	assert_int_equal(nb_time_diff(grpc_conn_deadline(p.server), began), 5 * NB_SEC);
	assert_int_equal(s.ends, 0);
	advance(3 * NB_SEC);
	assert_true(grpc_conn_done(p.server));
}

/* With nothing running, a shutdown completes by itself. */
static void test_shutdown_idle(void **state)
{
	(void)state;
	pump();
	grpc_conn_shutdown(p.server, 30 * NB_SEC, p.now);
	advance(2 * NB_SEC);
	assert_true(grpc_conn_done(p.server));
	assert_true(grpc_conn_done(p.client));
}

/* What a Go client says before it closes: no error, last stream 2^31-1; and what others say, with a reason. */
static const uint8_t go_goaway[] = { 0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0 };
static const uint8_t long_goaway[] = { 0, 0, 11, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xfd, 0, 0, 0, 0, 'b', 'y', 'e' };

/* All of them orderly, however the bytes are cut: what runs goes on, then the connection is done. */
static void client_goaway(const uint8_t *frame, size_t n, size_t cut)
{
	struct seen s = { 0 };
	struct grpc_call *call;

	setup_config(NULL);
	connect_pair();
	call = start("/test.Echo/Upload", GRPC_CLIENT_STREAM, &s);
	pump();
	for (size_t at = 0; at < n; at += cut)
		assert_int_equal(grpc_conn_input(p.server, nb_bytes(frame + at, cut < n - at ? cut : n - at), p.now), 0);
	pump();
	assert_int_equal(p.goaways, 1);
	assert_string_equal(grpc_conn_why(p.server), "");
	assert_false(grpc_conn_done(p.server));
	grpc_call_send(call, nb_bytes_str("x"));
	grpc_call_half_close(call);
	pump();
	assert_int_equal(s.status, GRPC_OK);
	assert_true(grpc_conn_done(p.server));
	assert_string_equal(grpc_conn_why(p.server), "connection ended");
	p.over = true;
	grpc_conn_free(p.client);
	grpc_conn_free(p.server);
}

static void test_client_goaway(void **state)
{
	(void)state;
	for (size_t cut = 1; cut <= sizeof long_goaway; cut++) {
		client_goaway(go_goaway, sizeof go_goaway, cut);
		client_goaway(long_goaway, sizeof long_goaway, cut);
	}
}

static void test_idle_close(void **state)
{
	struct seen s = { 0 };
	struct grpc_call *call;

	grpc_conn_free(p.client);
	grpc_conn_free(p.server);
	setup_config(state);
	p.scfg.idle_ns = 15 * NB_SEC;
	connect_pair();
	call = start("/test.Echo/Hang", GRPC_BIDI, &s);
	pump();
	advance(100 * NB_SEC);
	assert_false(grpc_conn_done(p.server));
	grpc_call_cancel(call);
	pump();
	advance(14 * NB_SEC);
	assert_false(grpc_conn_done(p.server));
	advance(8 * NB_SEC);
	assert_true(grpc_conn_done(p.server));
}

static void test_lost(void **state)
{
	struct seen s = { 0 };
	struct grpc_request req = request("/test.Echo/Unary", GRPC_UNARY, &s);
	struct grpc_call *call;

	(void)state;
	start("/test.Echo/Hang", GRPC_BIDI, &s);
	pump();
	grpc_conn_lost(p.client, "the cable is cut", p.now);
	assert_int_equal(s.ends, 1);
	assert_int_equal(s.status, GRPC_UNAVAILABLE);
	assert_string_equal(s.message, "the cable is cut");
	assert_true(grpc_conn_done(p.client));
	assert_int_equal(grpc_conn_input(p.client, nb_bytes("x", 1), p.now), NB_E_CLOSED);
	assert_int_equal(grpc_call_start(&call, p.client, &req, p.now), NB_E_CLOSED);
	grpc_conn_free(p.server);
	p.server = NULL;
	assert_int_equal(p.st.ended, 1);
	assert_int_equal(p.st.last_status, GRPC_UNAVAILABLE);
}

/* Calls that are cancelled from inside callbacks of other calls. */
static struct grpc_call *victim;

static void killer_message(struct grpc_call *call, void *user, struct nb_bytes m)
{
	(void)user;
	(void)m;
	if (victim)
		grpc_call_cancel(victim);
	victim = NULL;
	grpc_call_cancel(call);
}

static void test_cancel_inside(void **state)
{
	static const struct grpc_call_ops ops = { .on_message = killer_message, .on_end = c_end };
	struct seen s = { 0 }, v = { 0 };
	struct grpc_request req = request("/test.Echo/Chat", GRPC_BIDI, &s);
	struct grpc_call *call;

	(void)state;
	victim = start("/test.Echo/Hang", GRPC_BIDI, &v);
	req.ops = &ops;
	assert_int_equal(grpc_call_start(&call, p.client, &req, p.now), 0);
	grpc_call_send(call, nb_bytes_str("one"));
	grpc_call_send(call, nb_bytes_str("two"));
	pump();
	assert_null(victim);
	assert_int_equal(s.ends + v.ends, 0);
	assert_int_equal(grpc_conn_calls(p.client) + grpc_conn_calls(p.server), 0);
	assert_int_equal(p.st.ended, 2);
}

static void test_bad_arguments(void **state)
{
	struct seen s = { 0 };
	struct grpc_meta bad[] = {
		GRPC_META("Upper", "x"), GRPC_META("grpc-status", "0"), GRPC_META(":path", "/"),
		GRPC_META("", "x"), GRPC_META("x", "line\nbreak"),
	};
	struct grpc_request req = request("/test.Echo/Unary", GRPC_UNARY, &s);
	struct grpc_call *call;

	(void)state;
	req.n_meta = 1;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		req.meta = &bad[i];
		assert_int_equal(grpc_call_start(&call, p.client, &req, p.now), NB_E_ARG);
	}
	req.n_meta = 0;
	req.path = "no-slash";
	assert_int_equal(grpc_call_start(&call, p.client, &req, p.now), NB_E_ARG);
	req.path = "/x";
	assert_int_equal(grpc_call_start(&call, p.server, &req, p.now), NB_E_ARG);
}

/* What one connection may make us hold is capped. */
static void test_buffer_cap(void **state)
{
	static uint8_t big[700 << 10];
	static struct seen s[4];
	unsigned ends = 0;

	grpc_conn_free(p.client);
	grpc_conn_free(p.server);
	setup_config(state);
	p.scfg.max_buffered = 2 << 20;
	connect_pair();
	memset(s, 0, sizeof s);
	for (int i = 0; i < 4; i++) {
		struct grpc_call *call = start("/test.Echo/Unary", GRPC_UNARY, &s[i]);

		/* complete but for the half-close, so the server has to keep it */
		assert_int_equal(grpc_call_send(call, nb_bytes(big, sizeof big)), 0);
	}
	pump();
	/* two fit, whichever they are */
	for (int i = 0; i < 4; i++) {
		ends += s[i].ends;
		assert_int_equal(s[i].status, s[i].ends ? GRPC_RESOURCE_EXHAUSTED : 0);
	}
	assert_int_equal(ends, 2);
}

/* And so is what several connections may make us hold together; all of it is given back. */
static void test_budget(void **state)
{
	static uint8_t big[700 << 10];
	static struct seen s[2];
	struct grpc_budget budget = { .max = 1 << 20 };
	struct grpc_conn *client, *server;
	struct grpc_call *call;

	grpc_conn_free(p.client);
	grpc_conn_free(p.server);
	setup_config(state);
	p.scfg.budget = &budget;
	memset(s, 0, sizeof s);
	connect_pair();
	call = start("/test.Echo/Unary", GRPC_UNARY, &s[0]);
	assert_int_equal(grpc_call_send(call, nb_bytes(big, sizeof big)), 0);
	pump();
	assert_int_equal(budget.used, sizeof big);
	client = p.client;
	server = p.server;
	connect_pair();
	call = start("/test.Echo/Unary", GRPC_UNARY, &s[1]);
	assert_int_equal(grpc_call_send(call, nb_bytes(big, sizeof big)), 0);
	pump();
	assert_int_equal(s[0].ends, 0);
	assert_int_equal(s[1].ends, 1);
	assert_int_equal(s[1].status, GRPC_RESOURCE_EXHAUSTED);
	assert_int_equal(budget.used, sizeof big);
	p.over = true;
	grpc_conn_free(client);
	grpc_conn_free(server);
	assert_int_equal(budget.used, 0);
	unary("/test.Echo/Unary", &s[1], nb_bytes(big, sizeof big / 4));
	pump();
	assert_int_equal(budget.used, 0);
	grpc_conn_free(p.server);	/* before the budget leaves the stack */
	p.server = NULL;
}

/* A request that dribbles in must be complete in time; streams may take for ever. */
static void test_late_request(void **state)
{
	static struct seen s, stream;
	struct grpc_call *call;

	(void)state;
	memset(&s, 0, sizeof s);
	memset(&stream, 0, sizeof stream);
	call = start("/test.Echo/Unary", GRPC_UNARY, &s);
	start("/test.Echo/Upload", GRPC_CLIENT_STREAM, &stream);
	assert_int_equal(grpc_call_send(call, nb_bytes("x", 1)), 0);
	pump();
	advance(59 * NB_SEC);
	assert_int_equal(s.ends, 0);
	advance(2 * NB_SEC);
	assert_int_equal(s.ends, 1);
	assert_int_equal(s.status, GRPC_DEADLINE_EXCEEDED);
	assert_string_equal(s.message, "the request took too long to arrive");
	assert_int_equal(stream.ends, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_unary), T(test_empty_message), T(test_status), T(test_unknown_method), T(test_too_large),
		T(test_large), T(test_tiny_pieces), T(test_download), T(test_slow_reader), T(test_socket_full),
		T(test_upload), T(test_early_answer), T(test_chat), T(test_queue_cap),
		T(test_client_deadline), T(test_server_deadline), T(test_cancel), T(test_stream_limit),
		T(test_keepalive), T(test_handshake_timeout), T(test_shutdown),
		T(test_shutdown_sooner), T(test_one_pull), T(test_resume_then_cancel),
		T(test_shutdown_idle), cmocka_unit_test(test_client_goaway),
		T(test_idle_close), T(test_lost), T(test_cancel_inside), T(test_bad_arguments),
		T(test_buffer_cap), T(test_budget), T(test_late_request),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
