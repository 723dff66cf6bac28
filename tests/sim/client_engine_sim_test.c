/* client_engine_sim_test.c - two whole agents on a bad Internet: client_engine and everything below it (connections, ICE, STUN
 * servers, relay client) with a real WireGuard device each, the real relay hub, NATs of every kind that forget, loss, reordering,
 * duplicates, a signal channel that loses and goes away. One number is one run: the network, and what happens to it (cables,
 * addresses, blocked paths, restarts, sleep, wrong clocks, long silence). After each event packets must pass both ways within
 * WORK_MS, and within PATH_MS the path must be the one that theory allows, and stay it. A fake clock: nothing sleeps.
 *
 * tests/sim/client_engine_sim.seeds has runs that failed once; they come first. NB_SIM_SEEDS=N runs N others (FROM first with
 * NB_SIM_FROM), NB_SOAK=1 10,000; NB_SIM_TRACE=1 tells what happens. */
#include "client/engine_int.h"

#include "base/err.h"
#include "base/log.h"
#include "crypto/crypto.h"
#include "relay/hub.h"
#include "sim/sim_net.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SEEDS_FILE "tests/sim/client_engine_sim.seeds"
#define SEEDS_QUICK 100
#define SEEDS_SOAK 10000
#define WORK_MS 15000		/* until packets pass again, the network being well */
#define PATH_MS 90000		/* until they do so by the right path */
#define SETTLE_MS 2500
#define LINKS 8
#define CHANNELS 8
#define TICK_MS 200		/* between two data packets of a side */
#define FRESH_MS 1500		/* a packet of the other side no older than this has come: it works */
#define SLEEPY_MS 30000		/* signal's server gives up on a client after that */

/* One message on its way over a relay connection; n 0: the end of the connection. */
struct letter {
	struct letter *next;
	struct nb_time at;
	size_t n;
	uint8_t p[];
};

struct node;

/* A TCP connection to the relay, both halves in order. */
struct tcp {
	struct node *node;
	unsigned id;			/* 0: free */
	bool opened;
	struct nb_time open_at;
	struct relay_conn *server;	/* NULL: not there (any more) */
	struct letter *up, *down;
	struct nb_time up_last, down_last;
};

/* A channel of the relay, as the data plane knows it. */
struct channel {
	unsigned link;			/* 0: free */
	uint32_t id;
	uint8_t peer[RELAYMSG_ID_LEN];
};

struct world;

struct node {
	struct world *w;
	unsigned i;
	struct client_engine *engine;
	struct client_config cfg;
	uint8_t priv[32], pub[32];
	struct wg_dev *wg;
	struct wg_peer *peer;
	struct tcp links[LINKS];
	struct channel channels[CHANNELS];
	bool asleep, signal_up;
	struct nb_time signal_at;	/* when it is back */
	struct nb_time next_data;
	struct nb_time newest;		/* sending time of the newest packet that came */
	unsigned lookup_id;
	struct nb_time lookup_at;
	struct nb_wall tai;		/* kept on disk */
};

struct world {
	struct sim sim;
	struct node node[2];
	struct nb_time now;
	struct nb_wall wall_at_0;
	struct relay_hub *hub;
	uint8_t relay_key[32];
	bool relay_down, signal_down, names_down, busy, trace;
	bool delivered;			/* something reached a node: look again */
	struct nb_time since;		/* older packets prove nothing */
	char what[120];
};

/* What recovering took, over all runs. */
enum event { JOIN, FLAP, MOVE, CUT, ONE_WAY, RELAY_RESTART, SIGNAL_OUT, SLEEP, RESTART, CLOCK, SILENCE, STORM, EVENTS };
static const char *const event_names[EVENTS] = { "join", "link flap", "address change", "path cut", "cut one way", "relay restart",
	"signal outage", "sleep", "agent restart", "clock jump", "long silence", "everything at once" };
static struct figures {
	int64_t *ms;
	size_t n, cap;
} works[EVENTS], paths[EVENTS];

static void note(struct figures *f, int64_t ms)
{
	if (f->n == f->cap) {
		f->cap = f->cap ? f->cap * 2 : 256;
		f->ms = realloc(f->ms, f->cap * sizeof *f->ms);
		assert_non_null(f->ms);
	}
	f->ms[f->n++] = ms;
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void print_figures(void)
{
	print_message("%-20s %6s  %s\n", "after", "times", "packets pass: p50 p99 max   right path: p50 p99 max (virtual ms)");
	for (int e = 0; e < EVENTS; e++) {
		struct figures *f = &works[e], *g = &paths[e];

		if (!f->n || !g->n)
			continue;
		qsort(f->ms, f->n, sizeof *f->ms, compare);
		qsort(g->ms, g->n, sizeof *g->ms, compare);
		print_message("%-20s %6zu  %5lld %6lld %6lld    %5lld %6lld %6lld\n", event_names[e], f->n, (long long)f->ms[f->n / 2],
			      (long long)f->ms[f->n * 99 / 100], (long long)f->ms[f->n - 1], (long long)g->ms[g->n / 2],
			      (long long)g->ms[g->n * 99 / 100], (long long)g->ms[g->n - 1]);
		free(f->ms);
		free(g->ms);
		*f = *g = (struct figures){ 0 };
	}
}

#define TRACE(w, ...) do { if ((w)->trace) { print_message("%9.3f  ", (double)(w)->now.ns / NB_SEC); \
	print_message(__VA_ARGS__); print_message("\n"); } } while (0)

static struct nb_wall wall(const struct world *w)
{
	return (struct nb_wall){ w->wall_at_0.ns + w->now.ns };
}

static struct nb_time soon(struct world *w, unsigned low_ms, unsigned high_ms)
{
	return nb_time_add_ms(w->now, low_ms + sim_below(&w->sim, high_ms - low_ms + 1));
}

static struct engine_peer *peer_of(const struct node *n)
{
	struct nb_map_iter it = { 0 };

	return nb_map_next(&n->engine->peers, &it) ? it.value : NULL;
}

/* ---- Relay connections: a byte stream each, which waits while the cable is out ---- */

static bool reachable(const struct node *n)
{
	return !n->asleep && !n->w->sim.hosts[n->i].down;
}

static void append(struct world *w, struct letter **list, struct nb_time *last, struct nb_bytes head, struct nb_bytes body)
{
	struct letter *l = calloc(1, sizeof *l + head.n + body.n), **at = list;
	unsigned late = w->sim.delay_ms + sim_below(&w->sim, w->sim.jitter_ms + 1);

	assert_non_null(l);
	/* What gets lost is sent again. */
	if (sim_below(&w->sim, 100) < w->sim.loss_pct)
		late += 2 * w->sim.delay_ms + 200;
	l->at = nb_time_add_ms(w->now, late);
	if (nb_time_before(l->at, *last))
		l->at = *last;
	*last = l->at;
	l->n = head.n + body.n;
	if (head.n)
		memcpy(l->p, head.p, head.n);
	if (body.n)
		memcpy(l->p + head.n, body.p, body.n);
	while (*at)
		at = &(*at)->next;
	*at = l;
}

static void drop_letters(struct letter **list)
{
	while (*list) {
		struct letter *l = *list;

		*list = l->next;
		free(l);
	}
}

static void tcp_free(struct tcp *t)
{
	drop_letters(&t->up);
	drop_letters(&t->down);
	memset(t, 0, sizeof *t);
}

/* The server's half ends; the client will hear of it. */
static void end_server(struct tcp *t)
{
	if (t->server)
		relay_hub_del(t->node->w->hub, t->server);
	t->server = NULL;
	drop_letters(&t->up);
}

static int hub_send(void *user, struct nb_bytes head, struct nb_bytes body, bool must)
{
	struct tcp *t = user;

	(void)must;
	append(t->node->w, &t->down, &t->down_last, head, body);
	return 0;
}

static void hub_close(void *user)
{
	struct tcp *t = user;

	t->server = NULL;
	append(t->node->w, &t->down, &t->down_last, nb_bytes(NULL, 0), nb_bytes(NULL, 0));
}

static const struct relay_hub_ops hub_ops = { hub_send, hub_close };

static void start_relay(struct world *w)
{
	struct relay_hub_config cfg = { .url = "rel://relay:80" };

	memcpy(cfg.key, w->relay_key, sizeof cfg.key);
	sim_random_bytes(&w->sim, cfg.seed, sizeof cfg.seed);
	w->hub = relay_hub_new(&cfg, &hub_ops);
	assert_non_null(w->hub);
	w->relay_down = false;
}

static void stop_relay(struct world *w, bool politely)
{
	if (politely)
		relay_hub_stop(w->hub);
	for (int i = 0; i < 2; i++) {
		for (int k = 0; k < LINKS; k++) {
			struct tcp *t = &w->node[i].links[k];
			bool was = t->server != NULL;

			end_server(t);
			if (was)
				append(w, &t->down, &t->down_last, nb_bytes(NULL, 0), nb_bytes(NULL, 0));
		}
	}
	relay_hub_free(w->hub);
	w->hub = NULL;
	w->relay_down = true;
}

static void tcp_open(struct tcp *t)
{
	struct node *n = t->node;
	struct world *w = n->w;
	static const struct nb_addr at = { 4, { 198, 51, 100, 7 }, 0 };
	unsigned id = t->id;

	if (w->relay_down || relay_hub_add(w->hub, &t->server, t, w->now)) {
		t->server = NULL;
		tcp_free(t);
		client_engine_link_lost(n->engine, id, "connection refused", w->now);
		return;
	}
	t->opened = true;
	client_engine_link_opened(t->node->engine, id, &at, 0, w->now);
}

static void wg_arrives(struct node *n, const struct wg_ep *from, struct nb_bytes data);

/* Packets of known channels go to the data plane, all else to the engine. */
static void link_message(struct node *n, unsigned id, struct nb_bytes in)
{
	struct relaymsg m;

	for (int i = 0; i < CHANNELS && !relaymsg_decode(&m, in) && m.type == RELAYMSG_TRANSPORT; i++) {
		const struct channel *c = &n->channels[i];
		struct wg_ep from = { .kind = WG_EP_STREAM, .id = c->id };

		if (c->link != id || memcmp(c->peer, m.id, sizeof c->peer))
			continue;
		if (wg_looks_like(m.body))
			wg_arrives(n, &from, m.body);
		return;
	}
	client_engine_link_message(n->engine, id, in, n->w->now);
}

static struct letter *due_letter(struct letter **list, struct nb_time now)
{
	struct letter *l = *list;

	if (!l || !nb_time_due(l->at, now))
		return NULL;
	*list = l->next;
	return l;
}

/* What has arrived by now. */
static void tcp_run(struct tcp *t)
{
	struct node *n = t->node;
	struct letter *l;
	struct world *w;

	if (!t->id || !reachable(n))
		return;
	w = n->w;
	if (!t->opened) {
		if (nb_time_due(t->open_at, w->now))
			tcp_open(t);
		return;
	}
	while (t->server && (l = due_letter(&t->up, w->now)) != NULL) {
		(void)relay_hub_message(w->hub, t->server, nb_bytes(l->p, l->n), w->now, wall(w));
		free(l);
		relay_hub_flush(w->hub);
	}
	while (t->id && (l = due_letter(&t->down, w->now)) != NULL) {
		unsigned id = t->id;

		w->delivered = true;
		if (l->n) {
			link_message(n, id, nb_bytes(l->p, l->n));
		} else {
			end_server(t);
			tcp_free(t);
			client_engine_link_lost(n->engine, id, "the connection was closed", w->now);
		}
		free(l);
	}
}

static struct nb_time tcp_deadline(const struct tcp *t)
{
	struct nb_time at = NB_TIME_NEVER;

	if (!t->id || !reachable(t->node))
		return at;
	if (!t->opened)
		return t->open_at;
	if (t->up && t->server)
		at = t->up->at;
	return t->down ? nb_time_min(at, t->down->at) : at;
}

/* ---- What an engine wants done ---- */

static int op_iface(void *arg, const struct nb_prefix *v4, const struct nb_prefix *v6, int mtu)
{
	(void)arg, (void)v4, (void)v6, (void)mtu;
	return 0;
}

static void op_peer_set(void *arg, const struct client_wg_peer *p)
{
	struct node *n = arg;

	assert_true(wg_peer_add(n->wg, p->key, &n->peer) == 0);
	for (size_t i = 0; i < p->nallowed; i++)
		assert_int_equal(wg_peer_allow(n->wg, n->peer, &p->allowed[i]), 0);
	wg_peer_set_keepalive(n->wg, n->peer, p->keepalive, n->w->now);
}

static void op_peer_remove(void *arg, const uint8_t key[NB_KEY_LEN])
{
	struct node *n = arg;

	(void)key;
	wg_peer_remove(n->wg, n->peer);
	n->peer = NULL;
}

static void op_filter(void *arg, struct filter_table *t)
{
	(void)arg;
	filter_table_free(t);
}

static void op_peer_reset(void *arg, const uint8_t key[NB_KEY_LEN])
{
	struct node *n = arg;

	(void)key;
	TRACE(n->w, "%u: keys are forgotten", n->i);
	wg_peer_reset(n->wg, n->peer);
}

static void op_peer_endpoint(void *arg, const uint8_t key[NB_KEY_LEN], const struct wg_ep *ep, bool handshake)
{
	static const char *const kinds[] = { "nowhere", "the relay", "TURN", "" };
	struct node *n = arg;
	char at[NB_ADDR_TEXT + 8] = "";

	(void)key;
	if (ep->kind == WG_EP_UDP)
		nb_endpoint_format(at, &ep->remote);
	TRACE(n->w, "%u: sends to %s%s%s", n->i, kinds[ep->kind], at, handshake ? ", handshake" : "");
	wg_peer_set_endpoint(n->wg, n->peer, ep, n->w->now);
	if (handshake)
		wg_peer_handshake(n->wg, n->peer, true, n->w->now);
}

static void wg_arrives(struct node *n, const struct wg_ep *from, struct nb_bytes data)
{
	uint8_t buf[SIM_DGRAM + WG_HEADROOM + WG_TAILROOM];
	struct wg_pkt k = { .buf = buf, .cap = sizeof buf, .p = buf + WG_HEADROOM, .n = data.n, .ep = *from };
	struct nb_time sent;

	assert_true(data.n <= SIM_DGRAM);
	memcpy(k.p, data.p, data.n);
	wg_input(n->wg, &k, 1, n->w->now);
	if (k.verdict != WG_INNER)
		return;
	memcpy(&sent, k.p + 28, sizeof sent);
	if (nb_time_before(n->newest, sent))
		n->newest = sent;
}

static void op_deliver(void *arg, const struct wg_ep *from, struct nb_bytes data)
{
	wg_arrives(arg, from, data);
}

static void op_turn_server(void *arg, const struct nb_endpoint *server, bool on)
{
	(void)arg, (void)server, (void)on;
}

static void op_dgram(void *arg, const struct nb_endpoint *to, const struct nb_addr *from, struct nb_bytes data)
{
	struct node *n = arg;

	(void)from;
	sim_send(&n->w->sim, n->i, 0, to, data.p, data.n, n->w->now);
}

static void op_signal(void *arg, const uint8_t key[NB_KEY_LEN], const struct client_signal_msg *m)
{
	static const char *const types[] = { "OFFER", "ANSWER", "CANDIDATE" };
	struct node *n = arg;

	(void)key;
	TRACE(n->w, "%u: %s%s%s", n->i, m->type < 3 ? types[m->type] : "other", m->path_lost ? " (path lost)" : "",
	      n->signal_up ? "" : ", without signal");
	if (n->signal_up)
		sim_signal(&n->w->sim, !n->i, m, sizeof *m, n->w->now);
}

static int op_lookup(void *arg, unsigned id, const char *host, uint16_t port)
{
	struct node *n = arg;

	(void)host, (void)port;
	n->lookup_id = id;
	n->lookup_at = soon(n->w, 1, 300);
	return 0;
}

static void op_restart(void *arg, const char *why)
{
	(void)arg;
	fail_msg("restart: %s", why);
}

static void op_changed(void *arg)
{
	(void)arg;
}

static void op_event(void *arg, const char *message)
{
	(void)arg, (void)message;
}

static struct tcp *link_of(struct node *n, unsigned id)
{
	for (int i = 0; i < LINKS; i++)
		if (n->links[i].id == id)
			return &n->links[i];
	return NULL;
}

static void op_link_dial(void *arg, unsigned id, bool turn, const struct relaymsg_url *url, const struct nb_addr *ip)
{
	struct node *n = arg;
	struct tcp *t = link_of(n, 0);

	(void)url, (void)ip;
	assert_false(turn);
	assert_non_null(t);
	TRACE(n->w, "%u: dials the relay", n->i);
	*t = (struct tcp){ .node = n, .id = id };
	t->open_at = nb_time_add_ms(n->w->now, 2 * n->w->sim.delay_ms + 1);
}

static void op_link_send(void *arg, unsigned id, struct nb_bytes head, struct nb_bytes body)
{
	struct node *n = arg;
	struct tcp *t = link_of(n, id);

	if (id && t && t->opened)
		append(n->w, &t->up, &t->up_last, head, body);
}

static void op_link_channel(void *arg, unsigned id, uint32_t channel, struct nb_bytes key)
{
	struct node *n = arg;
	struct channel *c = NULL;

	for (int i = 0; i < CHANNELS; i++) {
		if (n->channels[i].link && n->channels[i].id == channel)
			c = &n->channels[i];
		else if (!c && !n->channels[i].link)
			c = &n->channels[i];
	}
	assert_non_null(c);
	memset(c, 0, sizeof *c);
	if (!key.n)
		return;
	c->link = id;
	c->id = channel;
	memcpy(c->peer, key.p, sizeof c->peer);
}

static void op_link_hang_up(void *arg, unsigned id)
{
	struct tcp *t = link_of(arg, id);

	if (!id || !t)
		return;
	if (t->server)
		relay_hub_del(t->node->w->hub, t->server);
	tcp_free(t);
}

static const struct client_engine_ops ops = {
	op_iface, op_peer_set, op_peer_remove, op_filter, op_peer_reset, op_peer_endpoint, op_deliver, op_turn_server,
	op_dgram, op_signal, op_lookup, op_restart, op_changed, op_event,
	op_link_dial, op_link_send, op_link_hang_up, op_link_channel,
};

/* ---- Agents ---- */

/* The map of two peers, with a STUN server and a relay. */
static void give_map(struct node *n)
{
	Management__SyncResponse sync = MANAGEMENT__SYNC_RESPONSE__INIT;
	Management__NetworkMap map = MANAGEMENT__NETWORK_MAP__INIT;
	Management__PeerConfig own = MANAGEMENT__PEER_CONFIG__INIT;
	Management__RemotePeerConfig other = MANAGEMENT__REMOTE_PEER_CONFIG__INIT, *list = &other;
	Management__NetbirdConfig config = MANAGEMENT__NETBIRD_CONFIG__INIT;
	Management__HostConfig stun = MANAGEMENT__HOST_CONFIG__INIT, *stuns = &stun;
	Management__RelayConfig relay = MANAGEMENT__RELAY_CONFIG__INIT;
	char key[NB_KEY_TEXT_LEN], self[32], ip[32], *ips = ip, *urls = (char *)(uintptr_t)"rel://relay:80";
	char payload[32], mac[NB_BASE64_LEN(32) + 1];
	uint8_t token[RELAYMSG_TOKEN_MAX];
	int64_t expiry = wall(n->w).ns / NB_SEC + 1000000;
	size_t len = relaymsg_token(token, n->w->relay_key, expiry);

	snprintf(self, sizeof self, "100.64.0.%u/16", n->i + 1);
	snprintf(ip, sizeof ip, "100.64.0.%u/32", !n->i + 1);
	nbc_key_format(key, n->w->node[!n->i].pub);
	own.address = self;
	own.fqdn = (char *)(uintptr_t)"me";
	other.wgpubkey = key;
	other.allowedips = &ips;
	other.n_allowedips = 1;
	other.agentversion = other.fqdn = (char *)(uintptr_t)"0.77.1";
	map.has_serial = 1;
	map.serial = 1;
	map.peerconfig = &own;
	map.remotepeers = &list;
	map.n_remotepeers = 1;
	stun.uri = (char *)(uintptr_t)"stun:stun.example:3478";
	config.stuns = &stuns;
	config.n_stuns = 1;
	snprintf(payload, sizeof payload, "%lld", (long long)expiry);
	assert_true(len > 33 && nb_base64_encode(mac, sizeof mac, nb_bytes(token + 1, 32)) >= 0);
	relay.urls = &urls;
	relay.n_urls = 1;
	relay.tokenpayload = payload;
	relay.tokensignature = mac;
	config.relay = &relay;
	sync.netbirdconfig = &config;
	sync.networkmap = &map;
	client_engine_sync(n->engine, &sync, n->w->now);
}

static size_t hosts_of(const struct node *n, struct nb_addr out[2])
{
	const struct sim_host *h = &n->w->sim.hosts[n->i];
	size_t k = 0;

	if (h->down)
		return 0;
	out[k++] = h->addr4;
	if (h->addr6.family)
		out[k++] = h->addr6;
	return k;
}

static void tell_hosts(struct node *n, bool hard)
{
	struct nb_addr hosts[2];
	size_t k = hosts_of(n, hosts);

	client_engine_hosts(n->engine, hosts, k, hard, n->w->now);
}

static void start_agent(struct node *n)
{
	struct client_engine_config c = { .ops = &ops, .arg = n, .cfg = &n->cfg, .port = SIM_PORT_NUMBER,
					  .random = sim_random_bytes, .random_ctx = &n->w->sim };
	struct wg_config wc = { .random = sim_random_bytes, .random_ctx = &n->w->sim, .mtu = 1280 };
	Management__LoginResponse r = MANAGEMENT__LOGIN_RESPONSE__INIT;
	Management__PeerConfig own = MANAGEMENT__PEER_CONFIG__INIT;
	char self[32];

	memcpy(wc.private_key, n->priv, 32);
	wc.tai_floor = n->tai;
	memcpy(c.public_key, n->pub, 32);
	assert_int_equal(wg_new(&n->wg, &wc, n->w->now, wall(n->w)), 0);
	n->engine = client_engine_new(&c, n->w->now);
	assert_non_null(n->engine);
	snprintf(self, sizeof self, "100.64.0.%u/16", n->i + 1);
	own.address = self;
	r.peerconfig = &own;
	assert_int_equal(client_engine_login(n->engine, &r, n->w->now), 0);
	tell_hosts(n, false);
	n->signal_up = !n->w->signal_down;
	n->signal_at = n->next_data = n->lookup_at = NB_TIME_NEVER;
	n->newest.ns = 0;
	give_map(n);
	n->next_data = soon(n->w, 0, TICK_MS);
}

static void stop_agent(struct node *n)
{
	client_engine_stop(n->engine, n->w->now);
	client_engine_free(n->engine);
	wg_free(n->wg);
	n->engine = NULL;
	n->peer = NULL;
	memset(n->channels, 0, sizeof n->channels);
	for (int i = 0; i < LINKS; i++) {
		if (n->links[i].server)
			relay_hub_del(n->w->hub, n->links[i].server);
		tcp_free(&n->links[i]);
	}
}

static void to_channel(struct node *n, uint32_t id, struct nb_bytes data)
{
	uint8_t head[RELAYMSG_TRANSPORT_HEADER];

	for (int i = 0; i < CHANNELS; i++) {
		if (!n->channels[i].link || n->channels[i].id != id)
			continue;
		relaymsg_transport_header(head, n->channels[i].peer);
		op_link_send(n, n->channels[i].link, nb_bytes(head, sizeof head), data);
	}
}

static void wire_out(struct node *n, const struct wg_pkt *k)
{
	if (k->ep.kind == WG_EP_STREAM)
		to_channel(n, k->ep.id, nb_bytes(k->p, k->n));
	if (k->ep.kind == WG_EP_UDP)
		sim_send(&n->w->sim, n->i, 0, &k->ep.remote, k->p, k->n, n->w->now);
}

static void send_data(struct node *n)
{
	uint8_t buf[200] = { 0 };
	struct wg_pkt k = { .buf = buf, .cap = sizeof buf, .p = buf + WG_HEADROOM, .n = 60 };

	k.p[0] = 0x45;
	nb_put_be16(k.p + 2, 60);
	memcpy(k.p + 12, (uint8_t[]){ 100, 64, 0, (uint8_t)(n->i + 1) }, 4);
	memcpy(k.p + 16, (uint8_t[]){ 100, 64, 0, (uint8_t)(!n->i + 1) }, 4);
	memcpy(k.p + 28, &n->w->now, sizeof n->w->now);
	wg_send(n->wg, &k, 1, n->w->now);
	if (k.verdict == WG_WIRE)
		wire_out(n, &k);
}

static void name_answers(struct node *n)
{
	n->lookup_at = NB_TIME_NEVER;
	client_engine_resolved(n->engine, n->lookup_id, &n->w->sim.stun.addr, n->w->names_down ? 0 : 1, n->w->now);
}

static void signal_back(struct node *n)
{
	if (n->w->signal_down) {
		n->signal_at = soon(n->w, 500, 3000);
		return;
	}
	n->signal_at = NB_TIME_NEVER;
	n->signal_up = true;
	client_engine_signal_ready(n->engine, n->w->now);
}

/* Let one agent do all that is due now. */
static void run_agent(struct node *n)
{
	uint8_t buf[1500];
	struct wg_pkt k = { .buf = buf, .cap = sizeof buf };
	struct wg_event ev;
	bool again = true;

	if (n->asleep)
		return;
	wg_set_wall(n->wg, n->w->now, wall(n->w));
	if (nb_time_due(n->signal_at, n->w->now))
		signal_back(n);
	if (nb_time_due(n->lookup_at, n->w->now))
		name_answers(n);
	if (n->w->busy && nb_time_due(n->next_data, n->w->now)) {
		n->next_data = nb_time_add_ms(n->w->now, TICK_MS);
		send_data(n);
	}
	for (unsigned rounds = 0; again; rounds++) {
		again = false;
		assert_true(rounds < 1000);
		for (int i = 0; i < LINKS; i++)
			tcp_run(&n->links[i]);
		if (nb_time_due(client_engine_deadline(n->engine), n->w->now)) {
			client_engine_timer(n->engine, n->w->now);
			again = true;
		}
		while (wg_output(n->wg, &k, n->w->now))
			wire_out(n, &k);
		while (wg_event(n->wg, &ev)) {
			if (ev.kind == WG_EV_TAI) {
				n->tai = ev.tai;
				continue;
			}
			client_engine_wg_event(n->engine, ev.kind, wg_peer_key(ev.peer), &ev.ep, n->w->now);
			again = true;
		}
	}
}

static struct nb_time agent_deadline(const struct node *n)
{
	struct nb_time t;

	if (n->asleep)
		return NB_TIME_NEVER;
	t = nb_time_min(client_engine_deadline(n->engine), wg_deadline(n->wg));
	t = nb_time_min(nb_time_min(t, n->signal_at), n->lookup_at);
	if (n->w->busy)
		t = nb_time_min(t, n->next_data);
	for (int i = 0; i < LINKS; i++)
		t = nb_time_min(t, tcp_deadline(&n->links[i]));
	return t;
}

static void receive(struct world *w, const struct sim_packet *p)
{
	struct node *n = &w->node[p->host];
	struct wg_ep from = { .kind = WG_EP_UDP, .remote = p->from };
	struct client_signal_msg m;

	if (n->asleep)
		return;
	if (p->kind == SIM_SIGNAL) {
		memcpy(&m, p->p, sizeof m);
		if (n->signal_up && reachable(n))
			client_engine_signal(n->engine, w->node[!n->i].pub, &m, w->now);
	} else if (ice_is_stun(nb_bytes(p->p, p->n))) {
		client_engine_dgram(n->engine, &p->from, NULL, nb_bytes(p->p, p->n), w->now);
	} else if (wg_looks_like(nb_bytes(p->p, p->n))) {
		wg_arrives(n, &from, nb_bytes(p->p, p->n));
	}
}

static void run_all(struct world *w)
{
	do {
		w->delivered = false;
		for (int i = 0; i < 2; i++)
			run_agent(&w->node[i]);
	} while (w->delivered);
}

typedef bool (*until_fn)(const struct world *);

/* Virtual time passes: for ms, or until that is true. */
static bool run(struct world *w, int64_t ms, until_fn until)
{
	struct nb_time end = nb_time_add_ms(w->now, ms), t;
	struct sim_packet p;

	run_all(w);
	while (!until || !until(w)) {
		t = nb_time_min(sim_deadline(&w->sim), nb_time_min(agent_deadline(&w->node[0]), agent_deadline(&w->node[1])));
		if (w->hub)
			t = nb_time_min(t, relay_hub_deadline(w->hub));
		if (nb_time_before(end, t)) {
			w->now = end;
			return until && until(w);
		}
		if (nb_time_before(w->now, t))
			w->now = t;
		while (sim_receive(&w->sim, &p, w->now))
			receive(w, &p);
		if (w->hub && nb_time_due(relay_hub_deadline(w->hub), w->now)) {
			relay_hub_timer(w->hub, w->now);
			relay_hub_flush(w->hub);
		}
		run_all(w);
	}
	return true;
}

/* ---- What is expected ---- */

static bool passes(const struct world *w)
{
	for (int i = 0; i < 2; i++)
		if (nb_time_before(w->node[i].newest, w->since) || nb_time_diff(w->now, w->node[i].newest) > FRESH_MS * NB_MS)
			return false;
	return true;
}

/* The table of spec/peer-connection.md 6. */
static bool direct_possible(const struct world *w)
{
	const struct sim_host *a = &w->sim.hosts[0], *b = &w->sim.hosts[1];
	enum sim_nat x = w->sim.lans[a->lan].nat, y = w->sim.lans[b->lan].nat;

	if (x == SIM_BLOCKED || y == SIM_BLOCKED)
		return false;
	if (a->lan == b->lan || (a->addr6.family && b->addr6.family))
		return true;
	if (x == SIM_SYMMETRIC)
		return y != SIM_SYMMETRIC && y != SIM_PORT;
	return y != SIM_SYMMETRIC || x != SIM_PORT;
}

static uint8_t kind_of(const struct node *n)
{
	struct wg_peer_stats s;

	wg_peer_stats(n->wg, n->peer, &s, n->w->now);
	return s.ep.kind;
}

/* Both sides send the right way, and say so. */
static bool right_path(const struct world *w)
{
	bool direct = direct_possible(w);

	for (int i = 0; i < 2; i++) {
		struct client_conn_status st;

		client_conn_status(peer_of(&w->node[i])->conn, &st);
		if (kind_of(&w->node[i]) != (direct ? WG_EP_UDP : WG_EP_STREAM) ||
		    st.path != (direct ? CLIENT_PATH_DIRECT : CLIENT_PATH_RELAY))
			return false;
	}
	return passes(w);
}

/* The right path, and it stays. */
static bool right_and_lasting(struct world *w, struct nb_time from)
{
	while (run(w, PATH_MS - nb_time_diff(w->now, from) / NB_MS, right_path)) {
		run(w, SETTLE_MS, NULL);
		if (passes(w))
			return true;
		TRACE(w, "but it did not last");
	}
	return false;
}

static bool expect(struct world *w, enum event e)
{
	struct nb_time from = w->now;

	TRACE(w, "--- %s is over", event_names[e]);
	w->since = from;
	if (!run(w, WORK_MS, passes)) {
		snprintf(w->what, sizeof w->what, "no packets %d s after %s", WORK_MS / 1000, event_names[e]);
		return false;
	}
	note(&works[e], nb_time_diff(w->now, from) / NB_MS);
	TRACE(w, "packets pass");
	if (!right_and_lasting(w, from)) {
		snprintf(w->what, sizeof w->what, "not %s %d s after %s", direct_possible(w) ? "direct" : "relayed", PATH_MS / 1000,
			 event_names[e]);
		return false;
	}
	note(&paths[e], nb_time_diff(w->now, from) / NB_MS - SETTLE_MS);
	TRACE(w, "the right path is there");
	return true;
}

/* ---- What happens ---- */

static enum sim_nat any_nat(struct world *w)
{
	return (enum sim_nat)sim_below(&w->sim, SIM_BLOCKED + 1);
}

/* Connections of the old address: the client's half is closed, the server does not hear of it. */
static void cut_connections(struct node *n)
{
	for (int i = 0; i < LINKS; i++) {
		struct tcp *t = &n->links[i];
		unsigned id = t->id;

		if (!id)
			continue;
		if (t->server)
			relay_hub_del(n->w->hub, t->server);	/* soon enough: the hub's health checks find it */
		tcp_free(t);
		client_engine_link_lost(n->engine, id, "the address of this connection is gone", n->w->now);
	}
	n->signal_up = false;
	n->signal_at = soon(n->w, 100, 600);
}

static void cable(struct world *w, int i, bool down)
{
	TRACE(w, "%d: cable %s", i, down ? "out" : "in");
	w->sim.hosts[i].down = down;
	tell_hosts(&w->node[i], true);
	if (down)
		cut_connections(&w->node[i]);
	else
		w->node[i].signal_at = soon(w, 50, 600);
}

static void move(struct world *w, int i)
{
	struct sim *s = &w->sim;
	struct nb_addr none = { 0 };

	if (s->nlans < SIM_LANS && sim_below(s, 3))
		sim_move_host(s, (unsigned)i, sim_add_lan(s, any_nat(w)));
	else if (!sim_below(s, 3))
		sim_move_host(s, (unsigned)i, s->hosts[!i].lan);
	else
		sim_move_host(s, (unsigned)i, s->hosts[i].lan);
	if (s->hosts[i].addr6.family && !sim_below(s, 4))
		s->hosts[i].addr6 = none;
	TRACE(w, "%d: another address, NAT %d", i, (int)s->lans[s->hosts[i].lan].nat);
	tell_hosts(&w->node[i], true);
	cut_connections(&w->node[i]);
}

static void signal_goes(struct world *w)
{
	w->signal_down = true;
	for (int i = 0; i < 2; i++) {
		w->node[i].signal_up = false;
		w->node[i].signal_at = soon(w, 500, 3000);
	}
}

static void sleep_for(struct world *w, int i, int64_t ms)
{
	struct node *n = &w->node[i];

	TRACE(w, "%d: sleeps for %lld ms", i, (long long)ms);
	n->asleep = true;
	run(w, ms, NULL);
	n->asleep = false;
	if (ms > SLEEPY_MS) {
		n->signal_up = false;
		n->signal_at = soon(w, 100, 2000);
	}
	client_engine_woke(n->engine, ms * NB_MS, w->now);
}

static void happen(struct world *w, enum event e)
{
	int i = (int)sim_below(&w->sim, 2);
	int64_t ms;

	switch (e) {
	case FLAP:
		ms = 300 + sim_below(&w->sim, 15000);
		cable(w, i, true);
		run(w, ms, NULL);
		cable(w, i, false);
		break;
	case MOVE:
		move(w, i);
		break;
	case CUT:
		w->sim.cut = true;
		run(w, 1000 + sim_below(&w->sim, 40000), NULL);
		w->sim.cut = false;
		break;
	case ONE_WAY:
		w->sim.cut_from = (unsigned)i + 1;
		run(w, 1000 + sim_below(&w->sim, 40000), NULL);
		w->sim.cut_from = 0;
		break;
	case RELAY_RESTART:
		stop_relay(w, i);
		run(w, sim_below(&w->sim, 5000), NULL);
		start_relay(w);
		break;
	case SIGNAL_OUT:
		signal_goes(w);
		if (sim_below(&w->sim, 2))
			move(w, i);
		run(w, 1000 + sim_below(&w->sim, 20000), NULL);
		w->signal_down = false;
		break;
	case SLEEP:
		sleep_for(w, i, 5000 + (int64_t)sim_below(&w->sim, 8) * sim_below(&w->sim, 60000));
		break;
	case RESTART:
		stop_agent(&w->node[i]);
		w->node[i].asleep = true;
		start_agent(&w->node[i]);
		w->node[i].asleep = false;
		break;
	case CLOCK:
		w->wall_at_0.ns += ((int64_t)sim_below(&w->sim, 7200) - 3600) * NB_SEC;
		break;
	case SILENCE:
		w->busy = false;
		run(w, 20000 + sim_below(&w->sim, 400000), NULL);
		w->busy = true;
		for (int k = 0; k < 2; k++)
			w->node[k].next_data = soon(w, 0, 3000);
		break;
	case STORM:
		w->names_down = true;
		signal_goes(w);
		cable(w, i, true);
		stop_relay(w, false);
		w->sim.cut = true;
		run(w, 1000 + sim_below(&w->sim, 10000), NULL);
		move(w, !i);
		cable(w, i, false);
		run(w, sim_below(&w->sim, 3000), NULL);
		w->sim.cut = w->signal_down = w->names_down = false;
		start_relay(w);
		break;
	default:
		break;
	}
}

/* ---- Runs ---- */

static void world_init(struct world *w, uint32_t seed)
{
	struct sim *s = &w->sim;
	bool together, ipv6;

	memset(w, 0, sizeof *w);
	w->now.ns = 1000 * NB_SEC;
	w->wall_at_0.ns = 1790000000 * NB_SEC;
	w->busy = true;
	w->trace = getenv("NB_SIM_TRACE") != NULL;
	sim_init(s, seed);
	s->delay_ms = 1 + sim_below(s, 120);
	s->jitter_ms = sim_below(s, 40);
	s->loss_pct = sim_below(s, 3) ? sim_below(s, 3) : sim_below(s, 11);
	s->duplicate_pct = sim_below(s, 6);
	s->signal_ms = 1 + sim_below(s, 120);
	s->signal_jitter_ms = sim_below(s, 100);
	s->signal_loss_pct = sim_below(s, 3) ? 0 : sim_below(s, 21);
	s->forget_ms = sim_below(s, 3) ? 20000 + sim_below(s, 280000) : 0;
	together = !sim_below(s, 10);
	ipv6 = !sim_below(s, 6);
	for (int i = 0; i < 2; i++) {
		struct node *n = &w->node[i];

		n->w = w;
		n->i = (unsigned)i;
		sim_add_host(s, i && together ? 0 : sim_add_lan(s, any_nat(w)), ipv6);
		client_config_init(&n->cfg, sim_random_bytes, s);
		nbc_keypair(n->priv, n->pub, sim_random_bytes, s);
	}
	relaymsg_key(w->relay_key, nb_bytes_str("secret"));
	start_relay(w);
	TRACE(w, "seed %u: NAT %d and %d%s%s, delay %u+%u ms, loss %u %%, duplicates %u %%, signal %u+%u ms, loss %u %%, forgets %lld ms",
	      seed, (int)s->lans[0].nat, (int)s->lans[s->hosts[1].lan].nat, together ? " (one)" : "", ipv6 ? ", IPv6" : "", s->delay_ms,
	      s->jitter_ms, s->loss_pct, s->duplicate_pct, s->signal_ms, s->signal_jitter_ms, s->signal_loss_pct, (long long)s->forget_ms);
}

static void world_fini(struct world *w)
{
	for (int i = 0; i < 2; i++) {
		if (w->node[i].engine)
			stop_agent(&w->node[i]);
		client_config_fini(&w->node[i].cfg);
	}
	if (w->hub)
		relay_hub_free(w->hub);
	sim_fini(&w->sim);
}

/* One run; true when all went as it must. */
static bool one(uint32_t seed)
{
	static struct world world;
	struct world *w = &world;
	unsigned events;
	bool ok;

	world_init(w, seed);
	start_agent(&w->node[0]);
	w->node[1].asleep = true;
	w->node[1].engine = NULL;
	/* The other one comes later: the first has to wait for it. */
	w->node[1].asleep = false;
	start_agent(&w->node[1]);
	ok = expect(w, JOIN);
	events = 1 + sim_below(&w->sim, 4);
	while (ok && events--) {
		enum event e = (enum event)(FLAP + sim_below(&w->sim, EVENTS - FLAP));

		run(w, sim_below(&w->sim, 20000), NULL);
		TRACE(w, "--- %s", event_names[e]);
		happen(w, e);
		ok = expect(w, e);
	}
	if (!ok)
		print_message("seed %u: %s; NAT %d and %d, loss %u %%, signal loss %u %%\n", seed, w->what,
			      (int)w->sim.lans[w->sim.hosts[0].lan].nat, (int)w->sim.lans[w->sim.hosts[1].lan].nat, w->sim.loss_pct,
			      w->sim.signal_loss_pct);
	world_fini(w);
	return ok;
}

/* Runs that failed once: the network they found has to be got right for good. */
static void kept_seeds(void **state)
{
	FILE *f = fopen(SEEDS_FILE, "r");
	unsigned failed = 0, n = 0;
	char line[200];

	(void)state;
	assert_non_null(f);
	while (fgets(line, sizeof line, f)) {
		if (line[0] < '0' || line[0] > '9')
			continue;
		failed += !one((uint32_t)strtoul(line, NULL, 10));
		n++;
	}
	fclose(f);
	print_message("%u runs of " SEEDS_FILE "\n", n);
	assert_int_equal(failed, 0);
}

static unsigned number(const char *name, unsigned otherwise)
{
	const char *v = getenv(name);

	return v && *v ? (unsigned)strtoul(v, NULL, 10) : otherwise;
}

static void many_seeds(void **state)
{
	unsigned n = number("NB_SIM_SEEDS", getenv("NB_SOAK") ? SEEDS_SOAK : SEEDS_QUICK), from = number("NB_SIM_FROM", 1), failed = 0;

	(void)state;
	for (unsigned i = 0; i < n; i++)
		failed += !one(from + i);
	print_figures();
	print_message("%u runs, %u failed\n", n, failed);
	assert_int_equal(failed, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(kept_seeds), cmocka_unit_test(many_seeds) };

	nbc_init();
	nb_log_set_level(getenv("NB_SIM_TRACE") ? NB_LOG_DEBUG : NB_LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
