/* link_dial.c - see link_dial.h. An entry stays after the connection was handed over: it knows the address it left from. */
#include "run/link_dial.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/list.h"
#include "os/clock.h"
#include "os/netlink.h"
#include "os/socket.h"
#include "run/ws.h"

#define SILENCE_MS 30000	/* unacknowledged bytes end the connection */
#define IFADDRS_MAX 256

struct dial {
	struct nb_list node;
	struct run_link_dials *owner;
	unsigned id;
	bool turn;
	struct relaymsg_url url;
	struct os_sockopt sockopt;
	bool by_name;			/* the known address was tried */
	struct run_dial *dial;
	struct run_stream *stream;	/* open, not handed over yet */
	struct run_ws *ws;
	struct run_timer soon;		/* ready: hand over; else: it failed, why says how */
	bool ready;
	const char *why;
	struct nb_addr own;		/* handed over: the address it left from */
};

struct run_link_dials {
	struct run_link_dials_config cfg;
	struct nb_list dials;
};

static struct dial *find(struct run_link_dials *l, unsigned id)
{
	nb_list_each(it, &l->dials) {
		struct dial *k = nb_container(it, struct dial, node);

		if (k->id == id)
			return k;
	}
	return NULL;
}

static void dial_free(struct dial *k)
{
	run_timer_stop(&k->soon);
	nb_list_del(&k->node);
	free(k);
}

static void end(struct dial *k, const char *why)
{
	struct run_link_dials *l = k->owner;
	unsigned id = k->id;

	dial_free(k);
	l->cfg.lost(l->cfg.ctx, id, why);
}

/* --- handing over --- */

/* With an empty stack, and before anything else can have been read. */
static void hand_over(struct dial *k)
{
	struct nb_endpoint own = { 0 }, peer = { 0 };
	struct nbc_tls *tls;
	int64_t rtt_ns;
	int fd;

	if (k->ws)
		run_ws_forget(k->ws);
	k->ws = NULL;
	os_local_endpoint(run_stream_fd(k->stream), &own);
	os_peer_endpoint(run_stream_fd(k->stream), &peer);
	rtt_ns = os_tcp_rtt(run_stream_fd(k->stream));
	if (run_stream_release(k->stream, &fd, &tls)) {
		run_stream_free(k->stream);
		k->stream = NULL;
		end(k, "the server spoke before it was spoken to");
		return;
	}
	k->stream = NULL;
	k->own = own.addr;
	k->owner->cfg.opened(k->owner->cfg.ctx, k->id, k->turn, fd, tls, &peer.addr, rtt_ns);
}

static void on_soon(void *ctx, struct nb_time now)
{
	struct dial *k = ctx;

	(void)now;
	if (k->ready)
		hand_over(k);
	else
		end(k, k->why);
}

static void be_ready(struct dial *k)
{
	k->ready = true;
	run_timer_set(&k->soon, os_now());
}

static void fail_later(struct dial *k, const char *why)
{
	k->why = why;
	run_timer_set(&k->soon, os_now());
}

/* --- the protocol until then: WebSocket's opening for relays, nothing for TURN --- */

static void over(struct dial *k, const char *why)
{
	k->ws = NULL;
	k->stream = NULL;
	end(k, why);
}

static void ws_opened(void *ctx)
{
	be_ready(ctx);
}

static void ws_message(void *ctx, bool text, struct nb_bytes message)
{
	(void)ctx, (void)text, (void)message;
}

static void ws_closed(void *ctx, const char *why)
{
	over(ctx, why);
}

static void idle_input(void *p, struct nb_bytes in, struct nb_time now)
{
	(void)p, (void)in, (void)now;
}

static bool idle_wants_input(void *p)
{
	(void)p;
	return false;
}

static void idle_closed(void *p, const char *why, struct nb_time now)
{
	(void)now;
	over(p, why);
}

static const struct run_proto idle = {
	.input = idle_input,
	.wants_input = idle_wants_input,
	.closed = idle_closed,
};

/* --- dialling --- */

static void start_dial(struct dial *k, const struct nb_addr *ip);

static void dialled(void *ctx, struct run_stream *s, int err, const char *why)
{
	struct dial *k = ctx;
	struct run_ws_config wc = { .max_message = RELAYMSG_MAX, .max_queue = RELAYMSG_MAX, .opened = ws_opened,
				    .message = ws_message, .closed = ws_closed, .ctx = k };
	char host[RELAYMSG_HOST_MAX];

	(void)err;
	k->dial = NULL;
	if (!s && !k->by_name) {
		k->by_name = true;
		start_dial(k, NULL);
		return;
	}
	if (!s) {
		end(k, why);
		return;
	}
	os_user_timeout(run_stream_fd(s), SILENCE_MS);
	k->stream = s;
	if (k->turn) {
		run_stream_attach(s, &idle, k);
		be_ready(k);
		return;
	}
	relaymsg_url_host(host, &k->url);
	if (run_ws_client(&k->ws, s, &wc, host, "/relay", os_now())) {
		k->stream = NULL;	/* closes by itself */
		end(k, "out of memory");
	}
}

static void start_dial(struct dial *k, const struct nb_addr *ip)
{
	struct run_link_dials *l = k->owner;
	struct run_dial_config dc = { .loop = l->cfg.loop, .resolver = l->cfg.resolver, .host = k->url.host, .port = k->url.port,
				      .sockopt = k->sockopt, .done = dialled, .ctx = k };
	const char *why = "";
	int err;

	if (ip)
		dc.addr = *ip;
	if (k->url.tls) {
		dc.trust = l->cfg.trust(l->cfg.ctx, &why);
		if (!dc.trust) {
			fail_later(k, why);
			return;
		}
	}
	err = run_dial_start(&k->dial, &dc);
	if (err)
		fail_later(k, nb_strerror(err));
}

void run_link_dials_start(struct run_link_dials *l, unsigned id, bool turn, const struct relaymsg_url *url,
			  const struct nb_addr *ip, const struct os_sockopt *sockopt)
{
	struct dial *k = calloc(1, sizeof *k);

	if (!k)
		return;		/* whoever asked has a time limit */
	k->owner = l;
	k->id = id;
	k->turn = turn;
	k->url = *url;
	k->sockopt = *sockopt;
	k->by_name = !ip || !ip->family;
	run_timer_init(&k->soon, l->cfg.loop, on_soon, k);
	nb_list_push(&l->dials, &k->node);
	start_dial(k, k->by_name ? NULL : ip);
}

/* --- the rest --- */

void run_link_dials_forget(struct run_link_dials *l, unsigned id)
{
	struct dial *k = find(l, id);

	if (!k)
		return;
	run_dial_cancel(k->dial);
	if (k->ws)
		run_ws_forget(k->ws);
	/* Its callbacks may be on the stack: it closes by itself. */
	if (k->stream)
		run_stream_detach(k->stream);
	dial_free(k);
}

static bool is_local(const struct nb_addr *a)
{
	struct os_ifaddr *list = calloc(IFADDRS_MAX, sizeof *list);
	size_t n = 0;
	bool found = !list;

	if (list)
		os_ifaddr_list(list, IFADDRS_MAX, &n);
	for (size_t i = 0; i < n && !found; i++)
		found = nb_addr_eq(&list[i].prefix.addr, a);
	free(list);
	return found;
}

static bool is_stranded(const struct dial *k)
{
	struct nb_endpoint own;

	if (k->stream)
		return os_local_endpoint(run_stream_fd(k->stream), &own) == 0 && !is_local(&own.addr);
	return k->own.family && !is_local(&k->own);
}

/* lost may start and forget others. */
void run_link_dials_addresses(struct run_link_dials *l)
{
	struct nb_list *it = l->dials.next;

	while (it != &l->dials) {
		struct dial *k = nb_container(it, struct dial, node);
		unsigned id = k->id;

		it = it->next;
		if (!is_stranded(k))
			continue;
		run_link_dials_forget(l, id);
		l->cfg.lost(l->cfg.ctx, id, "our address is gone");
		it = l->dials.next;
	}
}

int run_link_dials_new(struct run_link_dials **out, const struct run_link_dials_config *cfg)
{
	struct run_link_dials *l = calloc(1, sizeof *l);

	if (!l)
		return NB_E_NOMEM;
	l->cfg = *cfg;
	nb_list_init(&l->dials);
	*out = l;
	return 0;
}

void run_link_dials_free(struct run_link_dials *l)
{
	if (!l)
		return;
	while (!nb_list_empty(&l->dials)) {
		struct dial *k = nb_container(l->dials.next, struct dial, node);

		run_dial_cancel(k->dial);
		if (k->ws)
			run_ws_forget(k->ws);
		run_stream_free(k->stream);
		dial_free(k);
	}
	free(l);
}
