/* grpc_fuzz.c - any bytes as the peer's side of a connection. First byte: bit 0 our role (0 server), bit 1
 * the preface and SETTINGS come for free, upper bits the size of the pieces. Calls must end exactly once
 * and all buffered bytes be accounted for. */
#include "grpc/grpc_int.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned live;

static void on_start(struct grpc_call *call, void *user)
{
	(void)user;
	live++;
	if (call->id % 3 == 0)
		grpc_call_send_headers(call, NULL, 0);
}

static void on_message(struct grpc_call *call, void *user, struct nb_bytes m)
{
	(void)user;
	if (m.n && m.p[0] == 'p')
		grpc_call_pause(call);
	else if (m.n && m.p[0] == 'f')
		grpc_call_finish(call, m.p[0], "finished");
	else if (m.n && m.p[0] == 'c') {
		grpc_call_cancel(call);
		live--;
	} else if (grpc_call_send(call, m) == 0) {
		grpc_call_want_write(call);
	}
}

static void on_half_close(struct grpc_call *call, void *user)
{
	(void)user;
	grpc_call_finish(call, GRPC_OK, NULL);
}

static void on_writable(struct grpc_call *call, void *user)
{
	(void)user;
	grpc_call_resume(call);
}

static void on_end(struct grpc_call *call, void *user, const struct grpc_result *r)
{
	(void)call;
	(void)user;
	if (!r->message)
		abort();
	live--;
}

static const struct grpc_call_ops ops = {
	.on_start = on_start, .on_message = on_message, .on_half_close = on_half_close,
	.on_writable = on_writable, .on_end = on_end,
};
static const struct grpc_method methods[] = {
	{ "/u", GRPC_UNARY, &ops, 0 }, { "/b", GRPC_BIDI, &ops, 1000 },
};
static const struct grpc_service service = { methods, 2, NULL };

static void raw_request(void *arg, struct grpc_call *call, const struct grpc_raw_request *req)
{
	(void)arg;
	grpc_raw_respond(call, 200, req->headers, 0, req->body);
}

static const struct grpc_raw_handler raw = { raw_request, NULL, NULL, 4096 };

static void start_calls(struct grpc_conn *c, struct nb_time now)
{
	static const enum grpc_kind kinds[] = { GRPC_UNARY, GRPC_BIDI, GRPC_SERVER_STREAM };
	struct grpc_call *call;

	for (size_t i = 0; i < 3; i++) {
		struct grpc_request req = { .path = "/u", .kind = kinds[i], .ops = &ops,
			.deadline = nb_time_add(now, (int64_t)i * NB_SEC + 1) };

		if (!grpc_call_start(&call, c, &req, now)) {
			live++;
			grpc_call_send(call, nb_bytes_str("request"));
		}
	}
}

static void drain(struct grpc_conn *c, struct nb_time now)
{
	uint8_t out[777];

	for (int i = 0; i < 10000 && grpc_conn_output(c, out, sizeof out, now); i++)
		;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	struct nb_time now = { 1 };
	struct grpc_config cfg;
	struct grpc_conn *c;
	bool client;
	size_t step;

	if (!size)
		return 0;
	live = 0;
	client = data[0] & 1;
	step = 1 + (size_t)(data[0] >> 2) * 8;
	grpc_config_default(&cfg);
	cfg.services = &service;
	cfg.n_services = 1;
	cfg.raw = &raw;
	cfg.max_buffered = 1 << 20;
	if (client ? grpc_client_new(&c, &cfg, now) : grpc_server_new(&c, &cfg, now))
		return 0;
	if (client)
		start_calls(c, now);
	drain(c, now);
	if (data[0] & 2)
		grpc_conn_input(c, nb_bytes(preface + (client ? 24 : 0), sizeof preface - 1 - (client ? 24 : 0)), now);
	for (size_t i = 1; i < size; i += step) {
		now.ns += NB_MS;
		if (grpc_conn_input(c, nb_bytes(data + i, size - i < step ? size - i : step), now))
			break;
		drain(c, now);
		if (nb_time_due(grpc_conn_deadline(c), now))
			grpc_conn_timer(c, now);
	}
	grpc_conn_lost(c, "end of input", now);
	if (live || c->buffered || c->n_calls)
		abort();
	grpc_conn_free(c);
	return 0;
}
