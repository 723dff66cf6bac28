/* relay_ws.c - see relay_ws.h. A stream travels in three steps: it is parked in its old loop (nothing is read), leaves
 * that loop when its callbacks are through, and joins the new one, where a WebSocket takes it on. */
#include "run/relay_ws.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"
#include "crypto/crypto.h"
#include "os/clock.h"
#include "relay/relay.h"
#include "run/ws.h"

#define QUEUE_MAX (512 * 1024)		/* for one slow reader; then its packets are dropped */
#define PARKED_MAX 65536		/* bytes that come while a stream is on its way */
#define STOP_NS (500 * NB_MS)

struct conn {
	struct nb_list node;
	struct run_relay_ws *owner;
	struct run_stream *stream;
	struct run_ws *ws;
	struct relay_conn *hub;		/* NULL: the hub is through with it */
	bool closing;
};

struct parked {
	struct nb_list node;
	struct run_relay_ws *owner;
	struct run_stream *stream;
	struct nb_buf rest;
	struct run_defer leave;
};

struct run_relay_ws {
	struct run_loop *loop;
	struct relay_hub *hub;
	struct run_timer timer, stop_timer;
	struct run_defer flush;
	struct nb_list conns;
	bool stopping;
	void (*stopped)(void *ctx);
	void *stopped_ctx;
	struct relay_told told;
	/* the handing-over thread's */
	struct nb_list parked;
	/* shared */
	struct run_async arrived;
	pthread_mutex_t lock;
	struct nb_list arrivals;
	struct relay_hub_stats stats;
};

/* --- the hub's side --- */

static void publish(struct run_relay_ws *w)
{
	struct relay_hub_stats s;

	relay_hub_stats(w->hub, &s, os_now());
	relay_tell_dropped(&w->told, "NetBird relay", s.over_user_rate, s.over_total_rate, os_now());
	pthread_mutex_lock(&w->lock);
	w->stats = s;
	pthread_mutex_unlock(&w->lock);
}

static void rearm(struct run_relay_ws *w)
{
	run_timer_set(&w->timer, relay_hub_deadline(w->hub));
}

static void close_conn(struct conn *c, unsigned code)
{
	if (!c->closing)
		run_ws_close(c->ws, code);
	c->closing = true;
}

static int hub_send(void *user, struct nb_bytes head, struct nb_bytes body, bool must)
{
	struct conn *c = user;
	int r = c->closing ? NB_E_STATE : run_ws_send_parts(c->ws, head, body, must);

	/* Who does not even take what it asked for is not reading at all. */
	if (r && must)
		close_conn(c, 1008);
	return r;
}

static void hub_close(void *user)
{
	struct conn *c = user;

	c->hub = NULL;
	close_conn(c, 1000);
}

static const struct relay_hub_ops hub_ops = { hub_send, hub_close };

/* --- a connection --- */

static void ws_message(void *ctx, bool text, struct nb_bytes message)
{
	struct conn *c = ctx;
	struct run_relay_ws *w = c->owner;

	if (!c->hub || c->closing)
		return;
	if (text)
		close_conn(c, 1003);
	else
		(void)relay_hub_message(w->hub, c->hub, message, os_now(), os_wall());
	run_defer_call(w->loop, &w->flush);
}

static void check_stopped(struct run_relay_ws *w)
{
	if (w->stopping && nb_list_empty(&w->conns))
		run_timer_set(&w->stop_timer, os_now());
}

static void ws_closed(void *ctx, const char *why)
{
	struct conn *c = ctx;
	struct run_relay_ws *w = c->owner;

	(void)why;
	if (c->hub)
		relay_hub_del(w->hub, c->hub);
	nb_list_del(&c->node);
	free(c);
	run_defer_call(w->loop, &w->flush);
	check_stopped(w);
}

/* The stream is on our loop: a WebSocket and a place in the hub, or the end. */
static void take(struct run_relay_ws *w, struct run_stream *s, struct nb_bytes rest)
{
	struct run_ws_config wc = { .max_message = RELAYMSG_MAX, .max_queue = QUEUE_MAX, .message = ws_message,
				    .closed = ws_closed };
	struct conn *c = w->stopping ? NULL : calloc(1, sizeof *c);

	run_stream_detach(s);
	if (!c || relay_hub_add(w->hub, &c->hub, c, os_now())) {
		free(c);
		return;
	}
	c->owner = w;
	c->stream = s;
	wc.ctx = c;
	nb_list_push(&w->conns, &c->node);
	if (run_ws_server(&c->ws, s, &wc, rest, os_now())) {
		relay_hub_del(w->hub, c->hub);
		nb_list_del(&c->node);
		free(c);
	}
	rearm(w);
}

static struct parked *next_arrival(struct run_relay_ws *w)
{
	struct parked *p = NULL;

	pthread_mutex_lock(&w->lock);
	if (!nb_list_empty(&w->arrivals)) {
		p = nb_container(w->arrivals.next, struct parked, node);
		nb_list_del(&p->node);
	}
	pthread_mutex_unlock(&w->lock);
	return p;
}

static void parked_free(struct parked *p)
{
	nb_buf_fini(&p->rest);
	free(p);
}

static void on_arrived(void *ctx)
{
	struct run_relay_ws *w = ctx;
	struct parked *p;

	while ((p = next_arrival(w)) != NULL) {
		run_stream_join(p->stream, w->loop);
		take(w, p->stream, nb_buf_view(&p->rest));
		parked_free(p);
	}
	publish(w);
}

/* --- the way over --- */

static void parked_input(void *p, struct nb_bytes in, struct nb_time now)
{
	struct parked *k = p;

	(void)now;
	if (nb_buf_bytes(&k->rest, in))
		run_stream_abort(k->stream, "too much before the relay could read it");
}

static bool parked_wants_input(void *p)
{
	(void)p;
	return false;
}

static void parked_closed(void *p, const char *why, struct nb_time now)
{
	struct parked *k = p;

	(void)why, (void)now;
	run_defer_cancel(&k->leave);
	nb_list_del(&k->node);
	parked_free(k);
}

static const struct run_proto parked_proto = {
	.input = parked_input,
	.wants_input = parked_wants_input,
	.closed = parked_closed,
};

static void on_leave(void *ctx)
{
	struct parked *p = ctx;
	struct run_relay_ws *w = p->owner;

	run_stream_leave(p->stream);
	nb_list_del(&p->node);
	pthread_mutex_lock(&w->lock);
	nb_list_push(&w->arrivals, &p->node);
	pthread_mutex_unlock(&w->lock);
	run_async_send(&w->arrived);
}

void run_relay_ws_hand_over(struct run_relay_ws *w, struct run_loop *from, struct run_stream *s, struct nb_bytes rest)
{
	struct parked *p = calloc(1, sizeof *p);

	if (!p)
		return;
	p->owner = w;
	p->stream = s;
	nb_buf_init(&p->rest, PARKED_MAX);
	nb_list_push(&w->parked, &p->node);
	run_defer_init(&p->leave, on_leave, p);
	run_stream_attach(s, &parked_proto, p);
	parked_input(p, rest, os_now());
	run_defer_call(from, &p->leave);
}

/* --- time --- */

static void on_timer(void *ctx, struct nb_time now)
{
	struct run_relay_ws *w = ctx;

	relay_hub_timer(w->hub, now);
	publish(w);
	rearm(w);
}

static void on_flush(void *ctx)
{
	struct run_relay_ws *w = ctx;

	relay_hub_flush(w->hub);
}

static void on_stop_timer(void *ctx, struct nb_time now)
{
	struct run_relay_ws *w = ctx;

	(void)now;
	w->stopped(w->stopped_ctx);
}

/* --- life --- */

int run_relay_ws_new(struct run_relay_ws **out, struct run_loop *loop, const struct relay_hub_config *cfg)
{
	struct run_relay_ws *w = calloc(1, sizeof *w);
	struct relay_hub_config hc = *cfg;

	nbc_random(NULL, hc.seed, sizeof hc.seed);
	if (w)
		w->hub = relay_hub_new(&hc, &hub_ops);
	nb_wipe(&hc, sizeof hc);
	if (!w || !w->hub) {
		free(w);
		return NB_E_NOMEM;
	}
	w->loop = loop;
	pthread_mutex_init(&w->lock, NULL);
	nb_list_init(&w->conns);
	nb_list_init(&w->parked);
	nb_list_init(&w->arrivals);
	run_timer_init(&w->timer, loop, on_timer, w);
	run_timer_init(&w->stop_timer, loop, on_stop_timer, w);
	run_defer_init(&w->flush, on_flush, w);
	run_async_start(&w->arrived, loop, on_arrived, w);
	*out = w;
	return 0;
}

static void free_parked(struct nb_list *list)
{
	while (!nb_list_empty(list)) {
		struct parked *p = nb_container(list->next, struct parked, node);

		nb_list_del(&p->node);
		run_defer_cancel(&p->leave);
		run_stream_free(p->stream);
		parked_free(p);
	}
}

void run_relay_ws_free(struct run_relay_ws *w)
{
	if (!w)
		return;
	w->stopping = false;
	free_parked(&w->parked);
	free_parked(&w->arrivals);
	while (!nb_list_empty(&w->conns))
		run_stream_close_now(nb_container(w->conns.next, struct conn, node)->stream, "the relay is stopping");
	relay_hub_free(w->hub);
	run_timer_stop(&w->timer);
	run_timer_stop(&w->stop_timer);
	run_defer_cancel(&w->flush);
	run_async_stop(&w->arrived);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

void run_relay_ws_stop(struct run_relay_ws *w, void (*done)(void *ctx), void *ctx)
{
	w->stopped = done;
	w->stopped_ctx = ctx;
	w->stopping = true;
	relay_hub_stop(w->hub);
	run_timer_set(&w->stop_timer, nb_time_add(os_now(), STOP_NS));
	check_stopped(w);
}

void run_relay_ws_stats(struct run_relay_ws *w, struct relay_hub_stats *out)
{
	pthread_mutex_lock(&w->lock);
	*out = w->stats;
	pthread_mutex_unlock(&w->lock);
}
