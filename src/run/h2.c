/* h2.c - see h2.h. Tests: tests/net/test_listener.py, tests/unit/run_dial_test.c */
#include "run/h2.h"

#include "base/err.h"

#include "os/clock.h"

#include <stdlib.h>

struct run_h2 {
	struct run_stream *stream;
	struct grpc_conn *conn;
	const struct grpc_conn_ops *ops;	/* the program's */
	void *user;
	void (*closed)(void *ctx, const char *why);
	void *ctx;
};

static void on_wake(struct grpc_conn *c, void *user)
{
	struct run_h2 *h = user;

	run_stream_wake(h->stream);
	if (h->ops && h->ops->on_wake)
		h->ops->on_wake(c, h->user);
}

static void on_ready(struct grpc_conn *c, void *user)
{
	struct run_h2 *h = user;

	if (h->ops && h->ops->on_ready)
		h->ops->on_ready(c, h->user);
}

static void on_goaway(struct grpc_conn *c, void *user)
{
	struct run_h2 *h = user;

	if (h->ops && h->ops->on_goaway)
		h->ops->on_goaway(c, h->user);
}

static const struct grpc_conn_ops conn_ops = {
	.on_wake = on_wake,
	.on_ready = on_ready,
	.on_goaway = on_goaway,
};

static void proto_input(void *p, struct nb_bytes in, struct nb_time now)
{
	struct run_h2 *h = p;

	/* After an error the connection has a last frame to send, then it is done. */
	(void)grpc_conn_input(h->conn, in, now);
}

static size_t proto_output(void *p, void *out, size_t cap, struct nb_time now)
{
	struct run_h2 *h = p;

	return grpc_conn_output(h->conn, out, cap, now);
}

static struct nb_time proto_deadline(void *p)
{
	struct run_h2 *h = p;

	return grpc_conn_deadline(h->conn);
}

static void proto_timer(void *p, struct nb_time now)
{
	struct run_h2 *h = p;

	grpc_conn_timer(h->conn, now);
}

static bool proto_done(void *p)
{
	struct run_h2 *h = p;

	return grpc_conn_done(h->conn);
}

static void proto_closed(void *p, const char *why, struct nb_time now)
{
	struct run_h2 *h = p;
	const char *own = grpc_conn_why(h->conn);

	if (*why)
		grpc_conn_lost(h->conn, why, now);
	if (h->closed)
		h->closed(h->ctx, *own ? own : why);
	grpc_conn_free(h->conn);
	free(h);
}

static const struct run_proto h2_proto = {
	.input = proto_input,
	.output = proto_output,
	.deadline = proto_deadline,
	.timer = proto_timer,
	.done = proto_done,
	.closed = proto_closed,
};

static int make(struct run_h2 **out, struct run_stream *s, const struct grpc_config *cfg, bool server,
		void (*closed)(void *ctx, const char *why), void *ctx)
{
	struct run_h2 *h = calloc(1, sizeof *h);
	struct grpc_config mine = *cfg;
	struct nb_time now = os_now();
	int r;

	if (!h)
		return NB_E_NOMEM;
	*h = (struct run_h2){ .stream = s, .ops = cfg->ops, .user = cfg->user, .closed = closed, .ctx = ctx };
	mine.ops = &conn_ops;
	mine.user = h;
	r = server ? grpc_server_new(&h->conn, &mine, now) : grpc_client_new(&h->conn, &mine, now);
	if (r) {
		free(h);
		return r;
	}
	run_stream_attach(s, &h2_proto, h);
	*out = h;
	return 0;
}

int run_h2_client(struct run_h2 **out, struct run_stream *s, const struct grpc_config *cfg,
		  void (*closed)(void *ctx, const char *why), void *ctx)
{
	return make(out, s, cfg, false, closed, ctx);
}

int run_h2_server(struct run_h2 **out, struct run_stream *s, const struct grpc_config *cfg,
		  void (*closed)(void *ctx, const char *why), void *ctx)
{
	return make(out, s, cfg, true, closed, ctx);
}

struct grpc_conn *run_h2_conn(const struct run_h2 *h)
{
	return h->conn;
}

void *run_h2_user(const struct grpc_conn *c)
{
	const struct run_h2 *h = grpc_conn_user(c);

	return h->user;
}

bool run_h2_secure(const struct run_h2 *h)
{
	return run_stream_tls(h->stream) != NULL;
}

void run_h2_input(struct run_h2 *h, struct nb_bytes in, struct nb_time now)
{
	if (in.n)
		proto_input(h, in, now);
	run_stream_wake(h->stream);
}

void run_h2_abort(struct run_h2 *h, const char *why)
{
	run_stream_abort(h->stream, why);
}
