/* signal_server_test.c - the signal server with several connections through memory: marker before
 * messages, routing, duplicates, loop-back, absent recipients, bounded queues, stalled readers. */
#include "signal/signal.h"

#include "base/buf.h"
#include "proto/envelope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#define PEERS 4

/* One client: a connection, its stream, and what it saw. */
struct client {
	struct grpc_conn *mine, *theirs;
	struct grpc_call *stream;
	unsigned headers, marked, messages, ends;
	int status;
	char message[100], last[100];
	bool stuck;	/* its socket takes nothing from the server */
};

static struct client cl[PEERS];
static struct signal_server *server;
static struct grpc_service svc;
static struct nb_time now;
/* Result of the last Send. */
static struct {
	unsigned ends, messages;
	int status;
	size_t bytes;
} sent;

static void wait_end(struct grpc_call *call, void *user, const struct grpc_result *r)
{
	struct client *c = user;

	(void)call;
	c->ends++;
	c->stream = NULL;
	c->status = r->status;
	snprintf(c->message, sizeof c->message, "%s", r->message);
}

static void wait_headers(struct grpc_call *call, void *user)
{
	struct client *c = user;
	struct nb_bytes v;

	if (!c->headers++)
		assert_int_equal(c->messages, 0);
	c->marked += grpc_call_metadata(call, "x-wiretrustee-peer-registered", &v) && nb_bytes_eq_str(v, "1");
}

static void wait_message(struct grpc_call *call, void *user, struct nb_bytes m)
{
	struct client *c = user;
	struct proto_envelope e;

	(void)call;
	c->messages++;
	assert_int_equal(proto_signal_envelope_decode(&e, m), 0);
	snprintf(c->last, sizeof c->last, "%.*s>%.*s:%.*s", (int)e.key.n, (const char *)e.key.p, (int)e.remote.n,
		 (const char *)e.remote.p, (int)(e.body.n < 20 ? e.body.n : 20), (const char *)e.body.p);
}

static const struct grpc_call_ops stream_ops = {
	.on_headers = wait_headers, .on_message = wait_message, .on_end = wait_end,
};

static void send_message(struct grpc_call *call, void *user, struct nb_bytes m)
{
	(void)call;
	(void)user;
	sent.messages++;
	sent.bytes += m.n;
}

static void send_end(struct grpc_call *call, void *user, const struct grpc_result *r)
{
	(void)call;
	(void)user;
	sent.ends++;
	sent.status = r->status;
}

static const struct grpc_call_ops send_ops = { .on_message = send_message, .on_end = send_end };

static size_t move(struct grpc_conn *from, struct grpc_conn *to)
{
	static uint8_t buf[16384];
	size_t n, total = 0;

	while ((n = grpc_conn_output(from, buf, sizeof buf, now)) > 0) {
		total += n;
		assert_int_equal(grpc_conn_input(to, nb_bytes(buf, n), now), 0);
	}
	return total;
}

static void pump(void)
{
	size_t n;

	do {
		n = 0;
		for (int i = 0; i < PEERS; i++) {
			n += move(cl[i].mine, cl[i].theirs);
			if (!cl[i].stuck)
				n += move(cl[i].theirs, cl[i].mine);
		}
	} while (n);
}

static int setup(void **state)
{
	static const uint8_t seed[16] = { 7 };
	struct grpc_config cfg;

	(void)state;
	memset(cl, 0, sizeof cl);
	memset(&sent, 0, sizeof sent);
	now.ns = NB_SEC;
	grpc_config_default(&cfg);
	assert_int_equal(signal_server_new(&server, seed, 0), 0);
	svc = signal_service(server);
	cfg.services = &svc;
	cfg.n_services = 1;
	for (int i = 0; i < PEERS; i++) {
		assert_int_equal(grpc_server_new(&cl[i].theirs, &cfg, now), 0);
		assert_int_equal(grpc_client_new(&cl[i].mine, &cfg, now), 0);
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (int i = 0; i < PEERS; i++) {
		grpc_conn_free(cl[i].mine);
		grpc_conn_free(cl[i].theirs);
	}
	assert_int_equal(signal_server_stats(server).active, 0);
	signal_server_free(server);
	return 0;
}

static void connect_as(int i, const char *id)
{
	struct grpc_meta m = GRPC_META("x-wiretrustee-peer-id", id ? id : "");
	struct grpc_request req = { .path = "/signalexchange.SignalExchange/ConnectStream", .kind = GRPC_BIDI,
		.ops = &stream_ops, .user = &cl[i], .meta = &m, .n_meta = id != NULL, .deadline = NB_TIME_NEVER };

	assert_int_equal(grpc_call_start(&cl[i].stream, cl[i].mine, &req, now), 0);
}

static void send_raw(int i, struct nb_bytes m)
{
	struct grpc_request req = { .path = "/signalexchange.SignalExchange/Send", .kind = GRPC_UNARY,
		.ops = &send_ops, .deadline = NB_TIME_NEVER };
	struct grpc_call *call;

	assert_int_equal(grpc_call_unary(&call, cl[i].mine, &req, m, now), 0);
}

static void send_size(int i, const char *from, const char *to, size_t n)
{
	static uint8_t body[100000];
	struct proto_envelope e = { nb_bytes_str(from), nb_bytes_str(to), nb_bytes(body, n) };
	struct nb_buf b;

	memset(body, 'b', sizeof body);
	nb_buf_init(&b, 200000);
	assert_int_equal(proto_signal_envelope_encode(&b, &e), 0);
	send_raw(i, nb_buf_view(&b));
	nb_buf_fini(&b);
}

static void send(int i, const char *from, const char *to)
{
	unsigned before = sent.ends;

	send_size(i, from, to, 5);
	pump();
	assert_int_equal(sent.ends, before + 1);
	assert_int_equal(sent.status, GRPC_OK);
}

static void test_route(void **state)
{
	(void)state;
	connect_as(0, "A");
	connect_as(1, "B");
	pump();
	/* the marker comes at once, without a message and without a half-close of ours */
	assert_int_equal(cl[0].marked, 1);
	assert_int_equal(cl[1].marked, 1);
	send(0, "A", "B");
	assert_string_equal(cl[1].last, "A>B:bbbbb");
	send(1, "B", "A");
	assert_string_equal(cl[0].last, "B>A:bbbbb");
	/* an empty answer, and no check of who is who: anybody may write in anybody's name */
	assert_int_equal(sent.messages, 2);
	assert_int_equal(sent.bytes, 0);
	send(2, "A", "B");
	assert_int_equal(cl[1].messages, 2);
	/* to ourselves */
	send(0, "A", "A");
	assert_string_equal(cl[0].last, "A>A:bbbbb");
	assert_int_equal(signal_server_stats(server).forwarded, 4);
}

static void test_unchanged(void **state)
{
	/* an unknown field 9 and the fields in odd order stay as they are */
	static const char odd[] = "\x4a\x01?\x22\x01""x\x1a\x01""B\x12\x01""Q";

	(void)state;
	connect_as(1, "B");
	pump();
	send_raw(0, nb_bytes(odd, sizeof odd - 1));
	pump();
	assert_string_equal(cl[1].last, "Q>B:x");
	assert_int_equal(signal_server_stats(server).bytes, sizeof odd - 1);
}

static void test_absent(void **state)
{
	(void)state;
	send(0, "A", "nobody");
	send(0, "A", "dummy");
	send(0, "", "");
	assert_int_equal(signal_server_stats(server).absent, 2);
	/* nothing is kept for later */
	connect_as(1, "nobody");
	pump();
	assert_int_equal(cl[1].messages, 0);
	/* even somebody called dummy does not get the probes */
	connect_as(2, "dummy");
	pump();
	send(0, "A", "dummy");
	assert_int_equal(cl[2].messages, 0);
}

static void test_refused(void **state)
{
	char id[200];

	(void)state;
	connect_as(0, NULL);
	pump();
	assert_int_equal(cl[0].status, GRPC_FAILED_PRECONDITION);
	assert_string_equal(cl[0].message, "missing connection header: x-wiretrustee-peer-id");
	connect_as(1, "");
	pump();
	assert_int_equal(cl[1].status, GRPC_FAILED_PRECONDITION);
	memset(id, 'x', sizeof id);
	id[129] = 0;
	connect_as(2, id);
	pump();
	assert_int_equal(cl[2].status, GRPC_INVALID_ARGUMENT);
	id[128] = 0;
	connect_as(3, id);
	pump();
	assert_int_equal(cl[3].marked, 1);
	assert_int_equal(cl[0].marked + cl[1].marked + cl[2].marked, 0);
	send_raw(0, nb_bytes("\x12\x05""a", 3));
	pump();
	assert_int_equal(sent.status, GRPC_INTERNAL);
	send_size(0, "A", "B", 65536);
	pump();
	assert_int_equal(sent.status, GRPC_RESOURCE_EXHAUSTED);
}

static void test_newest_wins(void **state)
{
	(void)state;
	connect_as(0, "A");
	pump();
	connect_as(1, "A");
	pump();
	assert_int_equal(cl[0].ends, 1);
	assert_int_equal(cl[0].status, GRPC_UNKNOWN);
	assert_string_equal(cl[0].message, "registered again");
	assert_int_equal(cl[1].marked, 1);
	send(2, "X", "A");
	assert_int_equal(cl[1].messages, 1);
	assert_int_equal(cl[0].messages, 0);
	/* the same connection may hold both, and the older one's end does not evict the newer */
	connect_as(1, "A");
	pump();
	assert_int_equal(cl[1].ends, 1);
	send(2, "X", "A");
	assert_int_equal(cl[1].messages, 2);
	assert_int_equal(signal_server_stats(server).active, 1);
	assert_int_equal(signal_server_stats(server).displaced, 2);
}

static void test_late_exit(void **state)
{
	(void)state;
	connect_as(0, "A");
	pump();
	/* the old connection is dead without anybody having noticed; then it is found out */
	cl[0].stuck = true;
	connect_as(1, "A");
	pump();
	grpc_conn_lost(cl[0].theirs, "timeout", now);
	send(2, "X", "A");
	assert_int_equal(cl[1].messages, 1);
	assert_int_equal(signal_server_stats(server).active, 1);
}

static void test_leave(void **state)
{
	(void)state;
	connect_as(0, "A");
	pump();
	grpc_call_cancel(cl[0].stream);
	pump();
	send(2, "X", "A");
	assert_int_equal(signal_server_stats(server).absent, 1);
	assert_int_equal(signal_server_stats(server).active, 0);
}

/* The client's own messages on the stream are read and lost; its half-close goes unnoticed. */
static void test_drain(void **state)
{
	static uint8_t big[60000];

	(void)state;
	connect_as(0, "A");
	pump();
	for (int i = 0; i < 100; i++) {
		assert_int_equal(grpc_call_send(cl[0].stream, nb_bytes(big, sizeof big)), 0);
		pump();
	}
	grpc_call_half_close(cl[0].stream);
	pump();
	assert_int_equal(cl[0].ends, 0);
	send(1, "X", "A");
	assert_int_equal(cl[0].messages, 1);
}

static void test_stalled(void **state)
{
	struct nb_time began;

	(void)state;
	connect_as(0, "A");
	connect_as(1, "B");
	pump();
	cl[0].stuck = true;
	/* senders are not held up, and what is kept for it is bounded */
	for (int i = 0; i < 100; i++) {
		send_size(1, "B", "A", 10000);
		pump();
		send(1, "B", "B");
	}
	assert_int_equal(cl[1].messages, 100);
	assert_in_range(signal_server_stats(server).forwarded, 100 + 20, 100 + 27);
	assert_in_range(signal_server_stats(server).overflow, 73, 80);
	began = now;
	while (!signal_server_stats(server).stalled) {
		assert_false(nb_time_is_never(signal_deadline(server)));
		now = signal_deadline(server);
		signal_timer(server, now);
	}
	assert_int_equal(nb_time_diff(now, began), 10 * NB_SEC);
	assert_true(nb_time_is_never(signal_deadline(server)));
	assert_int_equal(signal_server_stats(server).active, 1);
	cl[0].stuck = false;
	pump();
	assert_int_equal(cl[0].ends, 1);
}

/* A slow reader that reads something now and then is kept. */
static void test_slow(void **state)
{
	uint8_t buf[1000];
	size_t n;

	(void)state;
	connect_as(0, "A");
	pump();
	cl[0].stuck = true;
	for (int i = 0; i < 20; i++)
		send_size(1, "B", "A", 10000);
	pump();
	for (int i = 0; i < 10; i++) {
		now = nb_time_add(now, 9 * NB_SEC);
		/* 17 of these make the 16 KiB that nghttp2 takes from a queue at a time */
		for (int k = 0; k < 17; k++) {
			n = grpc_conn_output(cl[0].theirs, buf, sizeof buf, now);
			assert_int_equal(grpc_conn_input(cl[0].mine, nb_bytes(buf, n), now), 0);
		}
		signal_timer(server, now);
	}
	assert_int_equal(signal_server_stats(server).stalled, 0);
	cl[0].stuck = false;
	pump();
	assert_int_equal(cl[0].messages, 20);
	now = nb_time_add(now, 20 * NB_SEC);
	signal_timer(server, now);
	assert_int_equal(signal_server_stats(server).stalled, 0);
	assert_true(nb_time_is_never(signal_deadline(server)));
}

static void test_stop(void **state)
{
	(void)state;
	connect_as(0, "A");
	connect_as(1, "B");
	pump();
	signal_server_stop(server);
	pump();
	assert_int_equal(cl[0].status, GRPC_UNAVAILABLE);
	assert_int_equal(cl[1].status, GRPC_UNAVAILABLE);
	assert_int_equal(signal_server_stats(server).active, 0);
}

/* A whole connection of a stock client: its registration stays, its Sends are routed. */
static void test_recorded(void **state)
{
	static uint8_t out[65536];
	json_t *doc = json_load_file("tests/vectors/http2/signal-connection.json", 0, NULL), *chunk;
	struct signal_stats st;
	size_t i;

	(void)state;
	assert_non_null(doc);
	json_array_foreach(json_object_get(doc, "chunks"), i, chunk) {
		const char *hex = json_string_value(json_object_get(chunk, "hex"));
		static uint8_t bytes[65536];
		size_t n = strlen(hex) / 2;

		if (strcmp(json_string_value(json_object_get(chunk, "dir")), "c2s"))
			continue;
		assert_in_range(n, 1, sizeof bytes);
		assert_int_equal(nb_hex_decode(bytes, n, nb_bytes_str(hex)), 0);
		now.ns = NB_SEC + (int64_t)(json_number_value(json_object_get(chunk, "t_s")) * 1e9);
		assert_int_equal(grpc_conn_input(cl[0].theirs, nb_bytes(bytes, n), now), 0);
		while (grpc_conn_output(cl[0].theirs, out, sizeof out, now))
			;
	}
	json_decref(doc);
	st = signal_server_stats(server);
	assert_int_equal(st.registrations, 1);
	/* three heartbeats to itself, thirteen messages to a peer that is not here */
	assert_int_equal(st.forwarded, 3);
	assert_int_equal(st.absent, 13);
	assert_int_equal(grpc_conn_calls(cl[0].theirs), st.active);
	/* the recorded client speaks on: do not let ours finish its sentences */
	grpc_conn_free(cl[0].mine);
	cl[0].mine = NULL;
}

static void test_metrics(void **state)
{
	struct nb_buf b;

	(void)state;
	connect_as(0, "A");
	pump();
	send(1, "X", "A");
	nb_buf_init(&b, 4096);
	assert_int_equal(signal_metrics(server, &b, "signal_"), 0);
	assert_non_null(strstr(nb_buf_cstr(&b), "\nsignal_registrations_total 1\n"));
	assert_non_null(strstr(nb_buf_cstr(&b), "\nsignal_messages_forwarded_total 1\n"));
	nb_buf_fini(&b);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_route), T(test_unchanged), T(test_absent), T(test_refused), T(test_newest_wins),
		T(test_late_exit), T(test_leave), T(test_drain), T(test_stalled), T(test_slow), T(test_stop),
		T(test_recorded), T(test_metrics),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
