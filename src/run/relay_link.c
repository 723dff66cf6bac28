/* relay_link.c - see relay_link.h. */
#include "run/relay_link.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/list.h"
#include "os/clock.h"
#include "os/netlink.h"
#include "os/socket.h"
#include "run/ws.h"

#define QUEUE_MAX (512 * 1024)	/* then packets are dropped */
#define IFADDRS_MAX 256

struct link {
	struct nb_list node;
	struct run_relay_links *owner;
	unsigned id;
	bool forgotten;			/* hung up: finishes in silence */
	struct relaymsg_url url;
	struct os_sockopt sockopt;
	bool by_name;			/* the known address was tried */
	struct run_dial *dial;
	struct run_stream *stream;	/* with ws */
	struct run_ws *ws;
	struct run_timer failed;	/* a dial that could not even begin */
	const char *why;
};

struct run_relay_links {
	struct run_relay_links_config cfg;
	struct nb_list links;
};

static struct link *find(struct run_relay_links *l, unsigned id)
{
	nb_list_each(it, &l->links) {
		struct link *k = nb_container(it, struct link, node);

		if (k->id == id && !k->forgotten)
			return k;
	}
	return NULL;
}

static void link_free(struct link *k)
{
	run_timer_stop(&k->failed);
	nb_list_del(&k->node);
	free(k);
}

/* It is over: tell, unless nobody wants to know. */
static void end(struct link *k, const char *why)
{
	struct run_relay_links *l = k->owner;
	unsigned id = k->id;
	bool told = k->forgotten;

	link_free(k);
	if (!told)
		l->cfg.lost(l->cfg.ctx, id, why);
}

/* --- WebSocket --- */

static void ws_opened(void *ctx)
{
	struct link *k = ctx;
	struct nb_endpoint peer = { 0 };

	if (k->forgotten)
		return;
	os_peer_endpoint(run_stream_fd(k->stream), &peer);
	k->owner->cfg.opened(k->owner->cfg.ctx, k->id, &peer.addr);
}

static void ws_message(void *ctx, bool text, struct nb_bytes message)
{
	struct link *k = ctx;

	if (!k->forgotten && !text)
		k->owner->cfg.message(k->owner->cfg.ctx, k->id, message);
}

static void ws_closed(void *ctx, const char *why)
{
	struct link *k = ctx;

	k->ws = NULL;
	k->stream = NULL;
	end(k, why);
}

/* --- dialling --- */

static void start_dial(struct link *k, const struct nb_addr *ip);

static void dialled(void *ctx, struct run_stream *s, int err, const char *why)
{
	struct link *k = ctx;
	struct run_ws_config wc = { .max_message = RELAYMSG_MAX, .max_queue = QUEUE_MAX, .opened = ws_opened,
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
	k->stream = s;
	relaymsg_url_host(host, &k->url);
	os_user_timeout(run_stream_fd(s), 30000);
	if (run_ws_client(&k->ws, s, &wc, host, "/relay", os_now()))
		end(k, "out of memory");
}

static void on_failed(void *ctx, struct nb_time now)
{
	struct link *k = ctx;

	(void)now;
	end(k, k->why);
}

static void fail_later(struct link *k, const char *why)
{
	k->why = why;
	run_timer_set(&k->failed, os_now());
}

static void start_dial(struct link *k, const struct nb_addr *ip)
{
	struct run_relay_links *l = k->owner;
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

void run_relay_links_dial(struct run_relay_links *l, unsigned id, const struct relaymsg_url *url, const struct nb_addr *ip,
			  const struct os_sockopt *sockopt)
{
	struct link *k = calloc(1, sizeof *k);

	if (!k)
		return;		/* whoever asked has a time limit */
	k->owner = l;
	k->id = id;
	k->url = *url;
	k->sockopt = *sockopt;
	k->by_name = !ip || !ip->family;
	run_timer_init(&k->failed, l->cfg.loop, on_failed, k);
	nb_list_push(&l->links, &k->node);
	start_dial(k, k->by_name ? NULL : ip);
}

/* --- the rest --- */

int run_relay_links_send(struct run_relay_links *l, unsigned id, struct nb_bytes head, struct nb_bytes body, bool must)
{
	struct link *k = find(l, id);

	return k && k->ws ? run_ws_send_parts(k->ws, head, body, must) : NB_E_NOTFOUND;
}

void run_relay_links_hang_up(struct run_relay_links *l, unsigned id)
{
	struct link *k = find(l, id);

	if (!k)
		return;
	k->forgotten = true;
	if (k->ws) {
		run_ws_close(k->ws, 1000);
		return;
	}
	run_dial_cancel(k->dial);
	k->dial = NULL;
	/* May be on the stack. */
	fail_later(k, "");
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

void run_relay_links_addresses(struct run_relay_links *l)
{
	nb_list_each(it, &l->links) {
		struct link *k = nb_container(it, struct link, node);
		struct nb_endpoint own;

		if (k->stream && os_local_endpoint(run_stream_fd(k->stream), &own) == 0 && !is_local(&own.addr))
			run_stream_abort(k->stream, "our address is gone");
	}
}

int run_relay_links_new(struct run_relay_links **out, const struct run_relay_links_config *cfg)
{
	struct run_relay_links *l = calloc(1, sizeof *l);

	if (!l)
		return NB_E_NOMEM;
	l->cfg = *cfg;
	nb_list_init(&l->links);
	*out = l;
	return 0;
}

void run_relay_links_free(struct run_relay_links *l)
{
	if (!l)
		return;
	while (!nb_list_empty(&l->links)) {
		struct link *k = nb_container(l->links.next, struct link, node);

		k->forgotten = true;
		if (k->stream) {
			run_stream_close_now(k->stream, "");
			continue;
		}
		run_dial_cancel(k->dial);
		link_free(k);
	}
	free(l);
}
