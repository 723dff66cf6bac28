/* rpc_client.c - see rpc_client.h. Two transports: a socket on a loop of its own, and a server of this
 * process through memory. A call waits by running its transport step by step. */
#include "run/rpc_client.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "os/clock.h"
#include "os/socket.h"
#include "proto/rpc_status.pb-c.h"
#include "proto/unpack.h"
#include "run/h2.h"

#define RETRY_NS (200 * NB_MS)
#define ANSWER_MAX (16u << 20)

struct run_rpc {
	struct run_loop *loop;
	struct grpc_conn *conn;		/* our end; NULL once it is gone */
	struct run_stream *stream;	/* over a socket */
	bool own_loop;
	char lost[256];			/* why it is gone */
	struct grpc_conn *far;		/* through memory: the server's end */
	const bool *stop;
};

struct pending {
	struct run_rpc *r;
	struct run_rpc_result *result;
	const ProtobufCMessageDescriptor *desc;
	struct nb_arena *arena;
	void *answer;
	bool ended, malformed;
};

/* --- transports */

static void conn_closed(void *ctx, const char *why)
{
	struct run_rpc *r = ctx;

	snprintf(r->lost, sizeof r->lost, "%s", *why ? why : "connection closed");
	r->conn = NULL;
	r->stream = NULL;
}

static int try_connect(const char *addr, int *fd, char *why, size_t cap)
{
	struct nb_endpoint e;
	int err;

	if (!strncmp(addr, "unix://", 7)) {
		err = os_unix_connect(fd, addr + 7);
		if (err)
			snprintf(why, cap, "%s: %s", addr + 7, os_why());
		return err;
	}
	if (!strncmp(addr, "tcp://localhost:", 16)) {
		char text[64];

		snprintf(text, sizeof text, "127.0.0.1:%.20s", addr + 16);
		err = nb_endpoint_parse(&e, text);
	} else {
		err = strncmp(addr, "tcp://", 6) ? NB_E_ARG : nb_endpoint_parse(&e, addr + 6);
	}
	if (err) {
		snprintf(why, cap, "%s: the daemon's address is unix:///PATH or tcp://ADDRESS:PORT", addr);
		return NB_E_ARG;
	}
	err = os_tcp_connect(fd, &e, NULL);
	if (err && err != NB_E_AGAIN)
		snprintf(why, cap, "%s: %s", addr + 6, os_why());
	return err == NB_E_AGAIN ? 0 : err;
}

static int attach(struct run_rpc *r, int fd)
{
	struct run_stream_config sc = { .loop = r->loop, .fd = fd };
	struct grpc_config gc;
	struct run_h2 *h;

	if (run_stream_new(&r->stream, &sc, NULL, NULL)) {
		os_close(&fd);
		return NB_E_NOMEM;
	}
	grpc_config_default(&gc);
	gc.authority = "localhost";
	gc.user_agent = "nestbox";
	gc.max_message = ANSWER_MAX;
	if (run_h2_client(&h, r->stream, &gc, conn_closed, r)) {
		run_stream_free(r->stream);
		r->stream = NULL;
		return NB_E_NOMEM;
	}
	r->conn = run_h2_conn(h);
	return 0;
}

/* Attach and wait until HTTP/2 is up: whoever accepts but does not speak is no daemon. */
static int establish(struct run_rpc *r, int fd, struct nb_time limit, char *why, size_t cap)
{
	int err = attach(r, fd);

	while (!err && r->conn && !grpc_conn_ready(r->conn)) {
		if (nb_time_due(limit, os_now())) {
			snprintf(why, cap, "no answer in time");
			err = NB_E_TIMEOUT;
		} else {
			run_loop_once(r->loop, limit);
		}
	}
	if (!err && !r->conn) {
		snprintf(why, cap, "%s", r->lost);
		err = NB_E_CLOSED;
	}
	if (err && r->stream)
		run_stream_close_now(r->stream, "");
	return err;
}

int run_rpc_open(struct run_rpc **out, const char *addr, int64_t timeout_ns, char *why, size_t why_cap)
{
	struct nb_time limit = nb_time_add(os_now(), timeout_ns);
	struct run_rpc *r = calloc(1, sizeof *r);
	int err, fd = -1;

	if (!r || run_loop_new(&r->loop)) {
		free(r);
		snprintf(why, why_cap, "out of memory");
		return NB_E_NOMEM;
	}
	r->own_loop = true;
	for (;;) {
		err = try_connect(addr, &fd, why, why_cap);
		if (!err)
			err = establish(r, fd, limit, why, why_cap);
		if (!err)
			break;
		if (err == NB_E_ARG || err == NB_E_PERM || err == NB_E_NOMEM ||
		    nb_time_before(limit, nb_time_add(os_now(), RETRY_NS))) {
			run_rpc_close(r);
			return err;
		}
		struct nb_time again = nb_time_add(os_now(), RETRY_NS);

		while (!nb_time_due(again, os_now()))
			run_loop_once(r->loop, again);
	}
	*out = r;
	return 0;
}

int run_rpc_pair(struct run_rpc **out, struct run_loop *loop, const struct grpc_config *server, const bool *stop)
{
	struct run_rpc *r = calloc(1, sizeof *r);
	struct grpc_config gc;

	if (!r)
		return NB_E_NOMEM;
	grpc_config_default(&gc);
	gc.authority = "localhost";
	gc.max_message = ANSWER_MAX;
	r->loop = loop;
	r->stop = stop;
	if (grpc_server_new(&r->far, server, os_now()) || grpc_client_new(&r->conn, &gc, os_now())) {
		run_rpc_close(r);
		return NB_E_NOMEM;
	}
	*out = r;
	return 0;
}

void run_rpc_close(struct run_rpc *r)
{
	if (!r)
		return;
	if (r->stream)
		run_stream_close_now(r->stream, "");
	else
		grpc_conn_free(r->conn);
	grpc_conn_free(r->far);
	if (r->own_loop)
		run_loop_free(r->loop);
	free(r);
}

static bool carry(struct grpc_conn *from, struct grpc_conn *to)
{
	uint8_t buf[8192];
	struct nb_time now = os_now();
	size_t n;

	if (nb_time_due(grpc_conn_deadline(from), now))
		grpc_conn_timer(from, now);
	n = grpc_conn_output(from, buf, sizeof buf, now);
	if (n)
		(void)grpc_conn_input(to, nb_bytes(buf, n), now);
	return n > 0;
}

static void step(struct run_rpc *r)
{
	struct nb_time until = nb_time_min(grpc_conn_deadline(r->conn), grpc_conn_deadline(r->far));
	bool up = carry(r->conn, r->far), down = carry(r->far, r->conn);

	/* What was moved may be what is waited for. */
	if (!up && !down)
		run_loop_once(r->loop, until);
}

/* --- calls */

/* The refusal that says which command would do. */
static void read_details(struct run_rpc_result *res, struct nb_bytes raw)
{
	struct nb_arena a;
	Google__Rpc__Status *st;
	Google__Rpc__ErrorInfo *info;

	nb_arena_init(&a, 1 << 20);
	if (proto_unpack(&st, &google__rpc__status__descriptor, raw, &a))
		st = NULL;
	for (size_t i = 0; st && i < st->n_details; i++) {
		Google__Rpc__Any *any = st->details[i];

		if (!any->type_url || strcmp(any->type_url, "type.googleapis.com/google.rpc.ErrorInfo") ||
		    proto_unpack(&info, &google__rpc__error_info__descriptor,
				 nb_bytes(any->value.data, any->value.len), &a) ||
		    !info->reason || strcmp(info->reason, "PRIVILEGE_REQUIRED"))
			continue;
		for (size_t k = 0; k < info->n_metadata; k++) {
			const char *key = info->metadata[k]->key, *value = info->metadata[k]->value;

			if (key && value && !strcmp(key, "summary"))
				snprintf(res->summary, sizeof res->summary, "%s", value);
			if (key && value && !strcmp(key, "command"))
				snprintf(res->command, sizeof res->command, "%s", value);
		}
	}
	nb_arena_fini(&a);
}

static void on_message(struct grpc_call *call, void *user, struct nb_bytes m)
{
	struct pending *p = user;

	(void)call;
	p->malformed = proto_unpack_any(&p->answer, p->desc, m, p->arena) != 0;
}

static void on_end(struct grpc_call *call, void *user, const struct grpc_result *r)
{
	struct pending *p = user;
	struct nb_bytes details;

	p->ended = true;
	p->result->status = r->status;
	snprintf(p->result->message, sizeof p->result->message, "%s", r->message);
	if (r->status != GRPC_OK && grpc_call_trailer(call, "grpc-status-details-bin", &details))
		read_details(p->result, details);
}

static const struct grpc_call_ops call_ops = { .on_message = on_message, .on_end = on_end };

static int failed(struct run_rpc_result *res, int status, const char *message)
{
	res->status = status;
	snprintf(res->message, sizeof res->message, "%s", message);
	return status;
}

static void wait_for(struct run_rpc *r, struct pending *p, struct grpc_call *call)
{
	while (!p->ended && r->conn) {
		if (r->stop && *r->stop) {
			grpc_call_cancel(call);
			failed(p->result, GRPC_CANCELLED, "interrupted");
			return;
		}
		if (r->far)
			step(r);
		else
			run_loop_once(r->loop, NB_TIME_NEVER);
	}
	if (!p->ended)
		failed(p->result, GRPC_UNAVAILABLE, r->lost);
}

int run_rpc_call(struct run_rpc *r, const char *path, const void *request, const ProtobufCMessageDescriptor *desc,
		 void **answer, struct nb_arena *arena, int64_t timeout_ns, struct run_rpc_result *result)
{
	struct pending p = { .r = r, .result = result, .desc = desc, .arena = arena };
	struct grpc_request q = { .path = path, .kind = GRPC_UNARY, .ops = &call_ops, .user = &p,
				  .deadline = timeout_ns ? nb_time_add(os_now(), timeout_ns) : NB_TIME_NEVER };
	struct grpc_call *call;
	struct nb_buf b;
	int err;

	memset(result, 0, sizeof *result);
	*answer = NULL;
	if (!r->conn)
		return failed(result, GRPC_UNAVAILABLE, r->lost);
	nb_buf_init(&b, ANSWER_MAX);
	err = proto_pack(&b, request);
	if (!err)
		err = grpc_call_unary(&call, r->conn, &q, nb_buf_view(&b), os_now());
	nb_buf_fini(&b);
	if (err)
		return failed(result, GRPC_UNAVAILABLE, nb_strerror(err));
	if (r->stream)
		run_stream_wake(r->stream);
	wait_for(r, &p, call);
	if (result->status == GRPC_OK && (p.malformed || !p.answer))
		return failed(result, GRPC_INTERNAL, "the daemon's answer is malformed");
	if (result->status == GRPC_OK)
		*answer = p.answer;
	return result->status;
}
