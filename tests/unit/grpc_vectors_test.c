/* grpc_vectors_test.c - whole recorded connections of stock NetBird, byte for byte: the client's side fed
 * to our server, the server's side fed to our client; header lists, statuses and messages must match. */
#include "grpc/grpc_int.h"

#include "proto/envelope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#define MAX_CALLS 64

/* One recorded stream as our side saw it. */
struct seen {
	bool started, ended;
	unsigned messages;
	int status;
	char message[256];
	bool envelopes_ok;
	bool headers;
};

static struct {
	json_t *doc, *streams;
	struct seen calls[MAX_CALLS];
	size_t n;
	struct grpc_method methods[MAX_CALLS];
	struct grpc_service svc;
} v;

static json_t *load(const char *name)
{
	char path[128];
	json_t *j;

	snprintf(path, sizeof path, "tests/vectors/http2/%s.json", name);
	j = json_load_file(path, 0, NULL);
	assert_non_null(j);
	return j;
}

static const char *text(const json_t *obj, const char *name)
{
	return json_string_value(json_object_get(obj, name));
}

static void check_list(const struct grpc_meta_set *have, const json_t *want)
{
	struct grpc_meta m;
	size_t pos = 0, i;
	json_t *pair;

	json_array_foreach(want, i, pair) {
		assert_true(grpc_meta_each(have, &pos, &m));
		assert_true(nb_bytes_eq_str(m.name, json_string_value(json_array_get(pair, 0))));
		assert_true(nb_bytes_eq_str(m.value, json_string_value(json_array_get(pair, 1))));
	}
	assert_int_equal(have->count, json_array_size(want));
}

static struct nb_bytes unhex(const char *hex)
{
	size_t n = strlen(hex) / 2;
	uint8_t *p = test_malloc(n + 1);

	assert_int_equal(nb_hex_decode(p, n, nb_bytes_str(hex)), 0);
	return nb_bytes(p, n);
}

/* Feed one direction, in pieces of at most step bytes (0: as recorded), dropping what we would say. */
static void feed(struct grpc_conn *c, const char *dir, size_t step)
{
	static uint8_t out[65536];
	struct nb_time now = { 0 };
	json_t *chunk;
	size_t i;

	json_array_foreach(json_object_get(v.doc, "chunks"), i, chunk) {
		struct nb_bytes b;

		if (strcmp(text(chunk, "dir"), dir))
			continue;
		now.ns = (int64_t)(json_number_value(json_object_get(chunk, "t_s")) * 1e9);
		b = unhex(text(chunk, "hex"));
		for (size_t at = 0; at < b.n; at += step ? step : b.n) {
			size_t n = step && b.n - at > step ? step : b.n - at;

			assert_int_equal(grpc_conn_input(c, nb_bytes(b.p + at, n), now), 0);
			while (grpc_conn_output(c, out, sizeof out, now))
				;
		}
		test_free((void *)(uintptr_t)b.p);
	}
}

/* --- our server --- */

static void s_start(struct grpc_call *call, void *user)
{
	size_t i = (size_t)(call->id - 1) / 2;
	json_t *s = json_array_get(v.streams, i);

	(void)user;
	assert_true(i < v.n);
	assert_int_equal(json_integer_value(json_object_get(s, "stream")), call->id);
	check_list(&call->head, json_object_get(s, "request_headers"));
	v.calls[i].started = true;
	v.calls[i].envelopes_ok = true;
	grpc_call_set_user(call, &v.calls[i]);
}

static void s_message(struct grpc_call *call, void *user, struct nb_bytes m)
{
	struct seen *s = user;
	struct proto_envelope e;

	(void)call;
	s->messages++;
	if (proto_mgmt_envelope_decode(&e, m))
		s->envelopes_ok = false;
}

static const struct grpc_call_ops server_ops = { .on_start = s_start, .on_message = s_message };

static size_t replay_to_server(const char *name, size_t step)
{
	struct grpc_config cfg;
	struct grpc_conn *c;
	size_t messages = 0;

	memset(&v, 0, sizeof v);
	v.doc = load(name);
	v.streams = json_object_get(v.doc, "streams");
	v.n = json_array_size(v.streams);
	assert_in_range(v.n, 1, MAX_CALLS);
	for (size_t i = 0; i < v.n; i++)
		v.methods[i] = (struct grpc_method){ text(json_array_get(v.streams, i), "path"), GRPC_BIDI,
			&server_ops, 0 };
	v.svc = (struct grpc_service){ v.methods, v.n, NULL };
	grpc_config_default(&cfg);
	cfg.services = &v.svc;
	cfg.n_services = 1;
	assert_int_equal(grpc_server_new(&c, &cfg, (struct nb_time){ 0 }), 0);
	feed(c, "c2s", step);
	for (size_t i = 0; i < v.n; i++) {
		assert_true(v.calls[i].started);
		assert_true(v.calls[i].envelopes_ok);
		messages += v.calls[i].messages;
	}
	grpc_conn_free(c);
	json_decref(v.doc);
	return messages;
}

static void test_server(void **state)
{
	(void)state;
	for (size_t step = 0; step < 12; step += 5) {
		/* three unary requests and a Sync; one message per call; Sends and a silent stream */
		assert_int_equal(replay_to_server("management-connection", step), 4);
		assert_int_equal(replay_to_server("many-errors-connection", step), 40);
		assert_int_equal(replay_to_server("signal-connection", step), 16);
	}
}

/* --- our client --- */

static const json_t *stream_of(const struct seen *s)
{
	return json_array_get(v.streams, (size_t)(s - v.calls));
}

static void c_headers(struct grpc_call *call, void *user)
{
	struct seen *s = user;

	s->headers = true;
	check_list(&call->head, json_object_get(stream_of(s), "headers"));
}

static void c_message(struct grpc_call *call, void *user, struct nb_bytes m)
{
	struct seen *s = user;

	(void)call;
	(void)m;
	s->messages++;
}

static void c_end(struct grpc_call *call, void *user, const struct grpc_result *r)
{
	struct seen *s = user;
	const json_t *trailers = json_object_get(stream_of(s), "trailers");

	s->ended = true;
	s->status = r->status;
	snprintf(s->message, sizeof s->message, "%s", r->message);
	if (json_is_array(trailers))
		check_list(&call->trail, trailers);
}

static const struct grpc_call_ops client_ops = {
	.on_headers = c_headers, .on_message = c_message, .on_end = c_end,
};

static const char *recorded(const json_t *trailers, const char *name)
{
	json_t *pair;
	size_t i;

	json_array_foreach(trailers, i, pair)
		if (!strcmp(json_string_value(json_array_get(pair, 0)), name))
			return json_string_value(json_array_get(pair, 1));
	return "";
}

static void start_calls(struct grpc_conn *c)
{
	static uint8_t out[65536];
	struct grpc_call *call;

	for (size_t i = 0; i < v.n; i++) {
		struct grpc_request req = { .path = text(json_array_get(v.streams, i), "path"), .kind = GRPC_BIDI,
			.ops = &client_ops, .user = &v.calls[i], .deadline = NB_TIME_NEVER };

		assert_int_equal(grpc_call_start(&call, c, &req, (struct nb_time){ 0 }), 0);
		assert_int_equal(call->id, json_integer_value(json_object_get(json_array_get(v.streams, i), "stream")));
	}
	while (grpc_conn_output(c, out, sizeof out, (struct nb_time){ 0 }))
		;
}

static size_t replay_to_client(const char *name, size_t step)
{
	struct grpc_config cfg;
	struct grpc_conn *c;
	size_t messages = 0;

	memset(&v, 0, sizeof v);
	v.doc = load(name);
	v.streams = json_object_get(v.doc, "streams");
	v.n = json_array_size(v.streams);
	grpc_config_default(&cfg);
	assert_int_equal(grpc_client_new(&c, &cfg, (struct nb_time){ 0 }), 0);
	start_calls(c);
	feed(c, "s2c", step);
	for (size_t i = 0; i < v.n; i++) {
		struct seen *s = &v.calls[i];
		const json_t *trailers = json_object_get(stream_of(s), "trailers");

		messages += s->messages;
		assert_true(s->headers);
		assert_int_equal(s->ended, json_is_array(trailers));
		if (!s->ended)
			continue;
		assert_int_equal(s->status, atoi(recorded(trailers, "grpc-status")));
		assert_string_equal(s->message, recorded(trailers, "grpc-message"));
	}
	grpc_conn_free(c);
	json_decref(v.doc);
	return messages;
}

static void test_client(void **state)
{
	size_t first[3];

	(void)state;
	for (size_t step = 0; step < 12; step += 5) {
		size_t n[3] = { replay_to_client("management-connection", step),
			replay_to_client("many-errors-connection", step),
			replay_to_client("signal-connection", step) };

		if (!step)
			memcpy(first, n, sizeof n);
		assert_memory_equal(n, first, sizeof n);
		assert_true(n[0] >= 4 && n[1] >= 10 && n[2] >= 17);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_server), cmocka_unit_test(test_client) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
