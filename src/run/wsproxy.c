/* wsproxy.c - see wsproxy.h. */
#include "run/wsproxy.h"

#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "os/clock.h"
#include "os/socket.h"
#include "run/loop.h"
#include "run/ws.h"
#include "web/websocket.h"

#include <stdlib.h>

#define MESSAGE_MAX (256 << 10)		/* of one message from the client; Go writes 32 KiB */
#define PIECE 16384			/* of ours; stock's are at most 32 KiB */
#define QUEUE_MAX (128 << 10)
#define QUEUE_ENOUGH (64 << 10)		/* ask HTTP/2 for no more while this much is unsent */
#define MAX_CONNS 1024
#define MAX_PER_SOURCE 64

struct tunnel {
	struct nb_list node;
	struct run_wsproxy *p;
	struct run_stream *stream;
	struct run_ws *ws;
	struct grpc_conn *grpc;
	struct nb_endpoint peer;
	struct run_timer timer;
	struct run_defer defer;
};

struct run_wsproxy {
	struct run_loop *loop;
	struct grpc_config grpc;
	struct nb_list tunnels;
	size_t count;
};

/* ---- one connection ---- */

static void pump(void *ctx)
{
	struct tunnel *t = ctx;
	struct nb_time now = os_now();
	uint8_t piece[PIECE];
	size_t n;

	while (run_ws_queued(t->ws) < QUEUE_ENOUGH) {
		n = grpc_conn_output(t->grpc, piece, sizeof piece, now);
		if (!n)
			break;
		if (run_ws_send(t->ws, nb_bytes(piece, n))) {
			run_stream_abort(t->stream, "a message could not be queued");
			return;
		}
	}
	run_timer_set(&t->timer, grpc_conn_deadline(t->grpc));
	if (grpc_conn_done(t->grpc))
		run_ws_close(t->ws, 1000);
}

static void want_pump(struct tunnel *t)
{
	run_defer_call(t->p->loop, &t->defer);
}

static void on_wake(struct grpc_conn *c, void *user)
{
	(void)c;
	want_pump(user);
}

static const struct grpc_conn_ops grpc_ops = { .on_wake = on_wake };

static void on_timer(void *ctx, struct nb_time now)
{
	struct tunnel *t = ctx;

	grpc_conn_timer(t->grpc, now);
	pump(t);
}

static void on_message(void *ctx, bool text, struct nb_bytes message)
{
	struct tunnel *t = ctx;

	/* Stock drops text messages. After an error the connection has a last frame to send, then it is done. */
	if (!text)
		(void)grpc_conn_input(t->grpc, message, os_now());
	want_pump(t);
}

static void on_drained(void *ctx)
{
	want_pump(ctx);
}

static void drop(struct tunnel *t, const char *why)
{
	grpc_conn_lost(t->grpc, why, os_now());
	run_timer_stop(&t->timer);
	run_defer_cancel(&t->defer);
	grpc_conn_free(t->grpc);
	nb_list_del(&t->node);
	t->p->count--;
	free(t);
}

static void on_closed(void *ctx, const char *why)
{
	struct tunnel *t = ctx;
	char at[NB_ADDR_TEXT];

	nb_endpoint_format(at, &t->peer);
	nb_debug("HTTP/2 over WebSocket from %s ended: %s", at, *why ? why : grpc_conn_why(t->grpc));
	drop(t, *why ? why : "the other side closed the connection");
}

/* ---- face ---- */

int run_wsproxy_new(struct run_wsproxy **out, struct run_loop *loop, const struct grpc_config *grpc)
{
	struct run_wsproxy *p = calloc(1, sizeof *p);

	*out = p;
	if (!p)
		return NB_E_NOMEM;
	p->loop = loop;
	p->grpc = *grpc;
	p->grpc.ops = &grpc_ops;
	nb_list_init(&p->tunnels);
	return 0;
}

static bool same_source(const struct nb_addr *a, const struct nb_addr *b)
{
	return a->family == b->family && memcmp(a->ip, b->ip, a->family == 4 ? 4 : 8) == 0;
}

static bool has_room(const struct run_wsproxy *p, const struct nb_endpoint *peer)
{
	size_t n = 0;

	nb_list_each(it, &p->tunnels)
		n += same_source(&nb_container(it, struct tunnel, node)->peer.addr, &peer->addr);
	return p->count < MAX_CONNS && n < MAX_PER_SOURCE;
}

void run_wsproxy_accept(struct run_wsproxy *p, struct web_call *call)
{
	if (has_room(p, &call->req.peer))
		(void)web_ws_accept(call, p);
	else
		web_respond_text(call, 503, "too many connections\n");
}

void run_wsproxy_serve(struct run_wsproxy *p, struct run_stream *s, struct nb_bytes rest, struct nb_time now)
{
	struct run_ws_config wc = { .max_message = MESSAGE_MAX, .max_queue = QUEUE_MAX, .message = on_message,
				    .drained = on_drained, .closed = on_closed };
	struct tunnel *t = calloc(1, sizeof *t);
	struct grpc_config gc = p->grpc;

	if (!t)
		return;
	t->p = p;
	t->stream = s;
	(void)os_peer_endpoint(run_stream_fd(s), &t->peer);
	gc.peer = t->peer;
	gc.user = t;
	wc.ctx = t;
	run_timer_init(&t->timer, p->loop, on_timer, t);
	run_defer_init(&t->defer, pump, t);
	nb_list_push(&p->tunnels, &t->node);
	p->count++;
	/* Nobody attached: the stream closes by itself. */
	if (grpc_server_new(&t->grpc, &gc, now)) {
		nb_list_del(&t->node);
		p->count--;
		free(t);
	} else if (run_ws_server(&t->ws, s, &wc, rest, now)) {
		drop(t, nb_strerror(NB_E_NOMEM));
	} else {
		want_pump(t);
	}
}

void run_wsproxy_shutdown(struct run_wsproxy *p, int64_t grace_ns)
{
	nb_list_each(it, &p->tunnels) {
		struct tunnel *t = nb_container(it, struct tunnel, node);

		grpc_conn_shutdown(t->grpc, grace_ns, os_now());
		want_pump(t);
	}
}

void run_wsproxy_free(struct run_wsproxy *p)
{
	if (!p)
		return;
	while (!nb_list_empty(&p->tunnels))
		run_stream_close_now(nb_container(p->tunnels.next, struct tunnel, node)->stream, "the server is stopping");
	free(p);
}
