/* grpc_dial.c - see grpc_dial.h. */
#include "run/grpc_dial.h"

#include <stdio.h>
#include <stdlib.h>

#include "os/clock.h"

struct run_grpc {
	struct run_grpc_config cfg;
	struct run_dial *dial;		/* while dialling */
	struct run_stream *stream;
	struct grpc_conn *conn;
	char authority[280];
	bool closed;			/* run_grpc_close was called: no callbacks any more */
};

static void free_link(struct run_grpc *g)
{
	grpc_conn_free(g->conn);
	free(g);
}

/* --- the protocol on the stream --- */

static void on_input(void *p, struct nb_bytes in, struct nb_time now)
{
	struct run_grpc *g = p;

	if (g->cfg.tick && !g->closed)
		g->cfg.tick(g->cfg.ctx, now);
	grpc_conn_input(g->conn, in, now);
}

static size_t on_output(void *p, void *out, size_t cap, struct nb_time now)
{
	struct run_grpc *g = p;

	if (g->cfg.tick && !g->closed)
		g->cfg.tick(g->cfg.ctx, now);
	return grpc_conn_output(g->conn, out, cap, now);
}

static struct nb_time on_deadline(void *p)
{
	return grpc_conn_deadline(((struct run_grpc *)p)->conn);
}

static void on_timer(void *p, struct nb_time now)
{
	struct run_grpc *g = p;

	if (g->cfg.tick && !g->closed)
		g->cfg.tick(g->cfg.ctx, now);
	grpc_conn_timer(g->conn, now);
}

static bool on_done(void *p)
{
	return grpc_conn_done(((struct run_grpc *)p)->conn);
}

static void on_closed(void *p, const char *why, struct nb_time now)
{
	struct run_grpc *g = p;
	char text[NBC_TLS_WHY];

	snprintf(text, sizeof text, "%s", *why ? why : *grpc_conn_why(g->conn) ? grpc_conn_why(g->conn)
							: "the connection was closed by the server");
	g->stream = NULL;
	if (g->cfg.tick && !g->closed)
		g->cfg.tick(g->cfg.ctx, now);
	grpc_conn_lost(g->conn, text, now);
	if (!g->closed)
		g->cfg.lost(g->cfg.ctx, text, now);
	free_link(g);
}

static const struct run_proto proto = {
	.input = on_input, .output = on_output, .deadline = on_deadline, .timer = on_timer, .done = on_done,
	.closed = on_closed,
};

static void on_wake(struct grpc_conn *c, void *user)
{
	struct run_grpc *g = user;

	(void)c;
	if (g->stream)
		run_stream_wake(g->stream);
}

static const struct grpc_conn_ops conn_ops = { .on_wake = on_wake };

/* --- dialling --- */

static void dialled(void *ctx, struct run_stream *s, int err, const char *why)
{
	struct run_grpc *g = ctx;
	struct nb_time now = os_now();
	struct grpc_config cfg;

	(void)err;
	g->dial = NULL;
	if (!s) {
		g->cfg.lost(g->cfg.ctx, why, now);
		free_link(g);
		return;
	}
	grpc_config_default(&cfg);
	cfg.ops = &conn_ops;
	cfg.user = g;
	cfg.authority = g->authority;
	cfg.tls = g->cfg.trust != NULL;
	cfg.keepalive_ns = g->cfg.keepalive_ns ? g->cfg.keepalive_ns : 30 * NB_SEC;
	if (g->cfg.max_message)
		cfg.max_message = g->cfg.max_message;
	g->stream = s;
	if (grpc_client_new(&g->conn, &cfg, now)) {
		run_stream_abort(s, "out of memory");
		g->stream = NULL;
		g->cfg.lost(g->cfg.ctx, "out of memory", now);
		free_link(g);
		return;
	}
	run_stream_attach(s, &proto, g);
	g->cfg.ready(g->cfg.ctx, g->conn, now);
}

int run_grpc_start(struct run_grpc **out, const struct run_grpc_config *cfg)
{
	struct run_grpc *g = calloc(1, sizeof *g);
	struct run_dial_config d = { .loop = cfg->loop, .resolver = cfg->resolver, .host = cfg->host, .port = cfg->port,
				     .trust = cfg->trust, .sockopt = cfg->sockopt, .done = dialled, .ctx = g };
	int err;

	if (!g)
		return NB_E_NOMEM;
	g->cfg = *cfg;
	if (cfg->trust)
		d.alpn[0] = "h2";
	snprintf(g->authority, sizeof g->authority, strchr(cfg->host, ':') ? "[%s]:%u" : "%s:%u", cfg->host, cfg->port);
	err = run_dial_start(&g->dial, &d);
	if (err) {
		free(g);
		return err;
	}
	*out = g;
	return 0;
}

void run_grpc_close(struct run_grpc *g)
{
	if (!g || g->closed)
		return;
	if (g->dial) {
		run_dial_cancel(g->dial);
		free_link(g);
		return;
	}
	g->closed = true;
	/* We may be inside a callback of the connection: the stream ends from the loop. */
	if (g->stream)
		run_stream_abort(g->stream, "");
}

int run_grpc_local(const struct run_grpc *g, struct nb_endpoint *e)
{
	return g->stream ? os_local_endpoint(run_stream_fd(g->stream), e) : NB_E_STATE;
}

int run_host_port(const char *text, char *host, size_t cap, uint16_t *port)
{
	const char *colon = strrchr(text, ':');
	size_t n = colon ? (size_t)(colon - text) : 0;
	char *end;
	long v;

	if (!n)
		return NB_E_BAD;
	v = strtol(colon + 1, &end, 10);
	if (end == colon + 1 || *end || v < 1 || v > 65535)
		return NB_E_BAD;
	if (text[0] == '[' && text[n - 1] == ']') {
		text++;
		n -= 2;
	}
	if (!n || n >= cap)
		return NB_E_BAD;
	memcpy(host, text, n);
	host[n] = 0;
	*port = (uint16_t)v;
	return 0;
}
