/* agent.c - see agent.h. A session is everything between up (or login, or logout) and its end: one
 * management machine and, for up, signal, engine, tunnel and interface. It is built by session_start and
 * torn down by session_stop, whole, so that no state leaks from one to the next. */
#include "run/agent.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "client/engine.h"
#include "client/mgmt_client.h"
#include "client/signal_client.h"
#include "crypto/crypto.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/netlink.h"
#include "os/socket.h"
#include "os/tun.h"
#include "run/grpc_dial.h"
#include "run/portmap.h"
#include "run/relay_link.h"
#include "run/sysinfo.h"
#include "run/trust.h"
#include "run/tunnel.h"

#define FWMARK 0x1bd00			/* control sockets stay outside the tunnel (spec/client.md 3) */
#define LOGIN_LIMIT_NS (30 * NB_SEC)	/* `login` gives up on an unreachable server after this */
#define SETTLE_NS (50 * NB_MS)		/* quiet time after address changes */
#define SETTLE_LIMIT_NS (300 * NB_MS)	/* but not longer than this after the first */
#define TICKETS_MAX 32
#define LOOKUPS_MAX 16
#define IFADDRS_MAX 256
#define META_BYTES 65536
#define MESSAGES_PER_TURN 256	/* of the data plane, before others get theirs */

enum purpose { NOTHING, LOGIN, UP, LOGOUT };

struct lookup {
	struct run_agent *a;
	struct run_lookup *running;
	unsigned id;
};

struct run_agent {
	struct run_agent_config cfg;
	struct run_agent *aside;	/* deregisters; made for the first one, NULL before and in itself */
	bool is_aside;
	char *ca_file, *tai_path;
	struct run_resolver *resolver;
	enum purpose purpose;
	struct client_config profile;	/* of the session; valid unless NOTHING */
	char hostname[256];
	char *setup_key;
	uint8_t private_key[NB_KEY_LEN];
	struct nb_arena meta_arena;
	Management__PeerSystemMeta *meta;
	struct nbc_trust *trust;	/* loaded when something speaks TLS */
	/* management */
	struct client_mgmt *mgmt;
	struct run_grpc *mgmt_link;
	struct run_timer mgmt_timer;
	bool mgmt_up;
	char mgmt_error[300];
	struct run_timer limit;		/* LOGIN and LOGOUT */
	/* UP only */
	struct client_signal *signal;
	struct run_grpc *signal_link;
	struct run_timer signal_timer;
	char signal_host[256];
	uint16_t signal_port;
	bool signal_tls, signal_up;
	char signal_error[300];
	struct client_engine *engine;
	struct run_timer engine_timer;
	struct run_relay_links *links;
	struct run_tunnel *tunnel;
	struct run_io tunnel_io;
	unsigned ifindex;
	int monitor;
	struct run_io monitor_io;
	struct run_timer settle;
	struct nb_time settle_by;
	struct nb_addr hosts[ICE_LOCAL_MAX];
	size_t nhosts;
	struct os_default_route routes[2];	/* IPv4, IPv6 */
	struct run_portmap *portmap;	/* NULL when switched off */
	struct lookup lookups[LOOKUPS_MAX];
	bool connected;			/* CLIENT_ENGINE_CONNECTED was said */
	/* status */
	uint32_t tickets[TICKETS_MAX];
	size_t ntickets;
	uint32_t stats_tag;
	/* what must wait until the stack is empty */
	struct run_defer later, delivered;
	bool later_restart, later_stop;
	char why[300];
	enum client_engine_event last_word;
	char refused_message[300];
	int refused_status;
	bool refused, refused_registering, login_ok, logged_out;
	int logout_status;
};

static void schedule(struct run_agent *a)
{
	run_timer_set(&a->mgmt_timer, a->mgmt ? client_mgmt_deadline(a->mgmt) : NB_TIME_NEVER);
	run_timer_set(&a->signal_timer, a->signal ? client_signal_deadline(a->signal) : NB_TIME_NEVER);
	run_timer_set(&a->engine_timer, a->engine ? client_engine_deadline(a->engine) : NB_TIME_NEVER);
}

static void later(struct run_agent *a)
{
	run_defer_call(a->cfg.loop, &a->later);
}

static const char *loading_trust(struct run_agent *a)
{
	static char why[NBC_TLS_WHY];

	if (a->trust || !run_trust_load(&a->trust, a->ca_file, why))
		return NULL;
	return why;
}

/* --- dialling for the two control connections --- */

static void mgmt_ready(void *ctx, struct grpc_conn *c, struct nb_time now)
{
	struct run_agent *a = ctx;

	client_mgmt_attach(a->mgmt, c, now);
	schedule(a);
}

static void mgmt_tick(void *ctx, struct nb_time now)
{
	struct run_agent *a = ctx;

	if (a->mgmt)
		client_mgmt_timer(a->mgmt, now);
	/* What the call about to run changes is picked up when the loop comes round. */
	later(a);
}

static void mgmt_lost(void *ctx, const char *why, struct nb_time now)
{
	struct run_agent *a = ctx;

	a->mgmt_link = NULL;
	if (!a->mgmt)
		return;
	client_mgmt_dial_failed(a->mgmt, why, now);
	client_mgmt_lost(a->mgmt, why, now);
	schedule(a);
}

static void signal_ready(void *ctx, struct grpc_conn *c, struct nb_time now)
{
	struct run_agent *a = ctx;

	client_signal_attach(a->signal, c, now);
	schedule(a);
}

static void signal_tick(void *ctx, struct nb_time now)
{
	struct run_agent *a = ctx;

	if (a->signal)
		client_signal_timer(a->signal, now);
	later(a);
}

static void signal_lost(void *ctx, const char *why, struct nb_time now)
{
	struct run_agent *a = ctx;

	a->signal_link = NULL;
	if (!a->signal)
		return;
	client_signal_dial_failed(a->signal, why, now);
	client_signal_lost(a->signal, why, now);
	schedule(a);
}

/* NULL, or one line that says why not even a try was possible. */
static const char *dial(struct run_agent *a, struct run_grpc **link, const char *host, uint16_t port, bool tls,
			struct run_grpc_config *cfg)
{
	const char *why = tls ? loading_trust(a) : NULL;
	int err;

	if (why)
		return why;
	cfg->loop = a->cfg.loop;
	cfg->resolver = a->resolver;
	cfg->host = host;
	cfg->port = port;
	cfg->trust = tls ? a->trust : NULL;
	cfg->max_message = 16u << 20;
	cfg->ctx = a;
	if (a->purpose == UP)
		cfg->sockopt.mark = FWMARK;
	err = run_grpc_start(link, cfg);
	return err ? nb_strerror(err) : NULL;
}

static void mgmt_op_dial(void *arg)
{
	struct run_agent *a = arg;
	struct run_grpc_config cfg = { .ready = mgmt_ready, .tick = mgmt_tick, .lost = mgmt_lost };
	char host[CLIENT_HOST_MAX];
	const char *why;
	uint16_t port;

	if (run_host_port(a->profile.management_url.host, host, sizeof host, &port))
		why = "the management URL has no usable host and port";
	else
		why = dial(a, &a->mgmt_link, host, port, !strcmp(a->profile.management_url.scheme, "https"), &cfg);
	if (why)
		client_mgmt_dial_failed(a->mgmt, why, os_now());
}

static void mgmt_op_hang_up(void *arg)
{
	struct run_agent *a = arg;

	run_grpc_close(a->mgmt_link);
	a->mgmt_link = NULL;
}

static void signal_op_dial(void *arg)
{
	struct run_agent *a = arg;
	struct run_grpc_config cfg = { .ready = signal_ready, .tick = signal_tick, .lost = signal_lost };
	const char *why = dial(a, &a->signal_link, a->signal_host, a->signal_port, a->signal_tls, &cfg);

	if (why)
		client_signal_dial_failed(a->signal, why, os_now());
}

static void signal_op_hang_up(void *arg)
{
	struct run_agent *a = arg;

	run_grpc_close(a->signal_link);
	a->signal_link = NULL;
}

/* --- what the engine wants done --- */

static int op_iface(void *arg, const struct nb_prefix *v4, const struct nb_prefix *v6, int mtu)
{
	struct run_agent *a = arg;
	int err = os_addr_add(a->ifindex, v4);

	if (!err)
		err = os_link_up(a->ifindex, (unsigned)mtu);
	/* IPv6 may be switched off on this machine; IPv4 alone is a working network. */
	if (!err && v6 && os_addr_add(a->ifindex, v6))
		nb_warn("interface %s: the IPv6 overlay address could not be set", a->profile.iface);
	return err;
}

static void op_peer_set(void *arg, const struct client_wg_peer *p)
{
	struct run_agent *a = arg;
	struct run_tunnel_peer t = { .set_keepalive = true, .keepalive = p->keepalive, .replace_allowed = true,
				     .allowed = p->allowed, .nallowed = p->nallowed, .set_psk = p->psk != NULL };

	memcpy(t.key, p->key, sizeof t.key);
	if (p->psk)
		memcpy(t.psk, p->psk, sizeof t.psk);
	run_tunnel_peer_set(a->tunnel, &t);
	nb_wipe(&t, sizeof t);
}

static void op_peer_remove(void *arg, const uint8_t key[NB_KEY_LEN])
{
	run_tunnel_peer_remove(((struct run_agent *)arg)->tunnel, key);
}

static void op_filter(void *arg, struct filter_table *t)
{
	run_tunnel_set_filter(((struct run_agent *)arg)->tunnel, t);
}

static void op_peer_reset(void *arg, const uint8_t key[NB_KEY_LEN])
{
	run_tunnel_peer_reset(((struct run_agent *)arg)->tunnel, key);
}

static void op_peer_endpoint(void *arg, const uint8_t key[NB_KEY_LEN], const struct wg_ep *ep, bool handshake)
{
	run_tunnel_endpoint(((struct run_agent *)arg)->tunnel, key, ep, handshake);
}

static void op_deliver(void *arg, const struct wg_ep *from, struct nb_bytes data)
{
	struct run_agent *a = arg;

	run_tunnel_deliver(a->tunnel, from, data);
	run_defer_call(a->cfg.loop, &a->delivered);
}

static void op_turn_server(void *arg, const struct nb_endpoint *server, bool on)
{
	struct run_agent *a = arg;

	if (on)
		run_tunnel_turn_add(a->tunnel, server);
	else
		run_tunnel_turn_remove(a->tunnel, server);
}

static void op_dgram(void *arg, const struct nb_endpoint *to, const struct nb_addr *from, struct nb_bytes data)
{
	run_tunnel_send(((struct run_agent *)arg)->tunnel, to, from, data);
}

static void op_signal(void *arg, const uint8_t key[NB_KEY_LEN], const struct client_signal_msg *m)
{
	struct run_agent *a = arg;

	if (a->signal)
		client_signal_send(a->signal, key, m, os_now());
}

static void looked_up(void *ctx, const struct nb_addr *addrs, size_t n, const char *why)
{
	struct lookup *k = ctx;

	if (!n)
		nb_info("look-up of a STUN or TURN server failed: %s", why);
	k->running = NULL;
	client_engine_resolved(k->a->engine, k->id, addrs, n, os_now());
	schedule(k->a);
}

static int op_lookup(void *arg, unsigned id, const char *host, uint16_t port)
{
	struct run_agent *a = arg;
	int err;

	(void)port;
	for (size_t i = 0; i < LOOKUPS_MAX; i++) {
		struct lookup *k = &a->lookups[i];

		if (k->running)
			continue;
		k->a = a;
		k->id = id;
		err = run_resolve(&k->running, a->resolver, host, looked_up, k);
		if (err)
			k->running = NULL;
		return err;
	}
	return NB_E_FULL;
}

static void op_restart(void *arg, const char *why)
{
	struct run_agent *a = arg;

	nb_info("restarting: %s", why);
	a->later_restart = true;
	later(a);
}

static void op_changed(void *arg)
{
	(void)arg;
}

static void op_event(void *arg, const char *message)
{
	struct run_agent *a = arg;

	if (a->cfg.event)
		a->cfg.event(a->cfg.arg, message);
}

static void op_relay_dial(void *arg, unsigned id, const struct relaymsg_url *url, const struct nb_addr *ip)
{
	struct run_agent *a = arg;
	struct os_sockopt o = { .mark = FWMARK };

	run_relay_links_dial(a->links, id, url, ip, &o);
}

static int op_relay_send(void *arg, unsigned id, struct nb_bytes head, struct nb_bytes body, bool must)
{
	return run_relay_links_send(((struct run_agent *)arg)->links, id, head, body, must);
}

static void op_relay_hang_up(void *arg, unsigned id)
{
	run_relay_links_hang_up(((struct run_agent *)arg)->links, id);
}

static const struct client_engine_ops engine_ops = {
	op_iface, op_peer_set, op_peer_remove, op_filter, op_peer_reset, op_peer_endpoint, op_deliver, op_turn_server,
	op_dgram, op_signal, op_lookup, op_restart, op_changed, op_event,
	op_relay_dial, op_relay_send, op_relay_hang_up,
};

/* --- connections to relays --- */

static struct nbc_trust *relay_trust(void *ctx, const char **why)
{
	struct run_agent *a = ctx;

	*why = loading_trust(a);
	return *why ? NULL : a->trust;
}

static void relay_opened(void *ctx, unsigned id, const struct nb_addr *ip)
{
	struct run_agent *a = ctx;

	if (a->engine)
		client_engine_relay_opened(a->engine, id, ip, os_now());
	later(a);
}

static void relay_message(void *ctx, unsigned id, struct nb_bytes in)
{
	struct run_agent *a = ctx;

	if (a->engine)
		client_engine_relay_message(a->engine, id, in, os_now());
	later(a);
}

static void relay_lost(void *ctx, unsigned id, const char *why)
{
	struct run_agent *a = ctx;

	if (a->engine)
		client_engine_relay_lost(a->engine, id, why, os_now());
	later(a);
}

static int links_new(struct run_agent *a)
{
	struct run_relay_links_config cfg = { .loop = a->cfg.loop, .resolver = a->resolver, .trust = relay_trust,
					      .opened = relay_opened, .message = relay_message, .lost = relay_lost, .ctx = a };

	return run_relay_links_new(&a->links, &cfg);
}

/* --- the data plane --- */

static void answer_status(struct run_agent *a, uint32_t ticket);

static void answer_tickets(struct run_agent *a)
{
	while (a->ntickets)
		answer_status(a, a->tickets[--a->ntickets]);
}

static void save_tai(struct run_agent *a, struct nb_wall tai)
{
	char text[32];
	int n = snprintf(text, sizeof text, "%lld\n", (long long)tai.ns);

	if (a->tai_path && os_write_file(a->tai_path, nb_bytes(text, (size_t)n), 0600))
		nb_warn("cannot write %s: %s; after a restart with a wrong clock peers may refuse handshakes", a->tai_path,
			os_why());
}

static struct nb_wall load_tai(struct run_agent *a)
{
	struct nb_wall tai = { 0 };
	struct nb_buf b;

	nb_buf_init(&b, 64);
	if (a->tai_path && !os_read_file(&b, a->tai_path))
		tai.ns = strtoll(nb_buf_cstr(&b), NULL, 10);
	nb_buf_fini(&b);
	return tai;
}

static void on_tunnel_msg(struct run_agent *a, const struct run_tunnel_msg *m, struct nb_time now)
{
	switch (m->kind) {
	case RUN_TUNNEL_DGRAM:
		client_engine_dgram(a->engine, &m->from, &m->to, m->data, now);
		break;
	case RUN_TUNNEL_STREAM:
		client_engine_stream(a->engine, m->ep.id, m->data);
		break;
	case RUN_TUNNEL_EVENT:
		client_engine_wg_event(a->engine, m->event, m->key, &m->ep, now);
		break;
	case RUN_TUNNEL_TAI:
		save_tai(a, m->tai);
		break;
	case RUN_TUNNEL_STATS:
		client_engine_wg_stats(a->engine, m->key, &m->stats);
		break;
	case RUN_TUNNEL_STATS_END:
		if (m->tag == a->stats_tag)
			answer_tickets(a);
		break;
	case RUN_TUNNEL_TUN_GONE:
		op_restart(a, "the tunnel interface disappeared");
		break;
	default:
		break;
	}
}

static void on_tunnel(void *ctx, int events)
{
	struct run_agent *a = ctx;
	struct run_tunnel_msg m;

	(void)events;
	for (int i = 0; i < MESSAGES_PER_TURN && a->tunnel && a->engine && run_tunnel_next(a->tunnel, &m); i++) {
		on_tunnel_msg(a, &m, os_now());
		nb_wipe(m.stats.psk, sizeof m.stats.psk);
	}
	schedule(a);
}

/* --- the machine's addresses --- */

static bool usable(const struct run_agent *a, const struct os_ifaddr *i)
{
	return i->up && !i->loopback && !i->wireguard && i->index != a->ifindex && ice_interface_usable(i->name) &&
	       !client_config_blacklisted(&a->profile, i->name) && ice_address_usable(&i->prefix.addr);
}

static size_t list_hosts(const struct run_agent *a, struct nb_addr out[ICE_LOCAL_MAX])
{
	struct os_ifaddr *list = calloc(IFADDRS_MAX, sizeof *list);
	size_t n = 0, hosts = 0;

	if (list)
		os_ifaddr_list(list, IFADDRS_MAX, &n);
	for (size_t i = 0; i < n && hosts < ICE_LOCAL_MAX; i++)
		if (usable(a, &list[i]))
			out[hosts++] = list[i].prefix.addr;
	free(list);
	return hosts;
}

/* Can this connection still carry anything? Not from an address we lost, nor after another way out. */
static bool link_broken(const struct run_agent *a, const struct run_grpc *link, bool rerouted)
{
	struct nb_endpoint e;

	if (!link || run_grpc_local(link, &e))
		return link != NULL;
	if (nb_addr_is_loopback(&e.addr))
		return false;
	for (size_t i = 0; i < a->nhosts; i++)
		if (nb_addr_eq(&a->hosts[i], &e.addr))
			return rerouted;
	return true;
}

static bool route_changed(struct run_agent *a)
{
	struct os_default_route routes[2];
	bool changed;

	memset(routes, 0, sizeof routes);
	if (os_default_routes(&routes[0], &routes[1]))
		return false;
	/* Losing the way out is no news yet: what comes instead is. */
	for (int i = 0; i < 2; i++)
		if (!routes[i].index)
			routes[i] = a->routes[i];
	changed = memcmp(routes, a->routes, sizeof routes) != 0;
	memcpy(a->routes, routes, sizeof routes);
	return changed;
}

static void refresh_hosts(struct run_agent *a, struct nb_time now)
{
	struct nb_addr hosts[ICE_LOCAL_MAX];
	bool rerouted = route_changed(a);
	size_t n;

	memset(hosts, 0, sizeof hosts);
	n = list_hosts(a, hosts);
	if (!rerouted && n == a->nhosts && !memcmp(hosts, a->hosts, sizeof hosts))
		return;
	memcpy(a->hosts, hosts, sizeof hosts);
	a->nhosts = n;
	run_relay_links_addresses(a->links);
	/* The first list is not a change. */
	client_engine_hosts(a->engine, hosts, n, a->connected, now);
	if (!a->connected)
		return;
	client_mgmt_network_changed(a->mgmt, link_broken(a, a->mgmt_link, rerouted), now);
	if (a->signal)
		client_signal_network_changed(a->signal, link_broken(a, a->signal_link, rerouted), now);
}

static void on_monitor(void *ctx, int events)
{
	struct run_agent *a = ctx;

	(void)events;
	if (!os_netlink_drain(a->monitor, a->ifindex))
		return;
	if (nb_time_is_never(a->settle_by))
		a->settle_by = nb_time_add(os_now(), SETTLE_LIMIT_NS);
	run_timer_set(&a->settle, nb_time_min(nb_time_add(os_now(), SETTLE_NS), a->settle_by));
}

static void on_settled(void *ctx, struct nb_time now)
{
	struct run_agent *a = ctx;

	a->settle_by = NB_TIME_NEVER;
	if (a->engine)
		refresh_hosts(a, now);
	if (a->portmap)
		run_portmap_refresh(a->portmap);
	schedule(a);
}

static void on_mapped(void *ctx, const struct nb_endpoint *external)
{
	struct run_agent *a = ctx;

	client_engine_mapped(a->engine, external, os_now());
	schedule(a);
}

/* --- session --- */

static void stop_up(struct run_agent *a)
{
	run_io_set(&a->tunnel_io, -1, 0);
	run_io_set(&a->monitor_io, -1, 0);
	run_timer_stop(&a->settle);
	a->settle_by = NB_TIME_NEVER;
	if (a->monitor >= 0)
		close(a->monitor);
	a->monitor = -1;
	run_portmap_free(a->portmap);
	a->portmap = NULL;
	for (size_t i = 0; i < LOOKUPS_MAX; i++) {
		run_resolve_cancel(a->lookups[i].running);
		a->lookups[i].running = NULL;
	}
	client_signal_free(a->signal);
	a->signal = NULL;
	signal_op_hang_up(a);
	if (a->engine)
		client_engine_stop(a->engine, os_now());
	client_engine_free(a->engine);
	a->engine = NULL;
	run_tunnel_free(a->tunnel);
	a->tunnel = NULL;
	a->ifindex = 0;
	memset(a->hosts, 0, sizeof a->hosts);
	memset(a->routes, 0, sizeof a->routes);
	a->nhosts = 0;
	a->signal_up = a->connected = false;
	a->signal_error[0] = 0;
}

static void session_stop(struct run_agent *a)
{
	if (a->purpose == NOTHING)
		return;
	stop_up(a);
	client_mgmt_free(a->mgmt);
	a->mgmt = NULL;
	/* A dial under way is not the client's yet. */
	mgmt_op_hang_up(a);
	a->mgmt_up = false;
	run_timer_stop(&a->limit);
	schedule(a);
	nb_arena_fini(&a->meta_arena);
	a->meta = NULL;
	nbc_trust_unref(a->trust);
	a->trust = NULL;
	client_config_fini(&a->profile);
	nb_wipe(a->private_key, sizeof a->private_key);
	if (a->setup_key)
		nb_wipe(a->setup_key, strlen(a->setup_key));
	free(a->setup_key);
	a->setup_key = NULL;
	a->purpose = NOTHING;
	a->later_restart = a->later_stop = a->refused = a->login_ok = a->logged_out = false;
	answer_tickets(a);
}

/* The engine cannot go on: say so once the stack is empty. */
static void give_up(struct run_agent *a, enum client_engine_event word, const char *why)
{
	a->last_word = word;
	snprintf(a->why, sizeof a->why, "%s", why);
	a->later_stop = true;
	later(a);
}

static void signal_state(void *arg, bool connected, const char *error)
{
	struct run_agent *a = arg;
	struct nb_time now = os_now();

	a->signal_up = connected;
	snprintf(a->signal_error, sizeof a->signal_error, "%s", error ? error : "");
	if (connected) {
		client_engine_signal_ready(a->engine, now);
		client_mgmt_sync(a->mgmt, now);
	}
	later(a);
}

static void signal_message(void *arg, const uint8_t key[NB_KEY_LEN], const struct client_signal_msg *m)
{
	struct run_agent *a = arg;

	client_engine_signal(a->engine, key, m, os_now());
	later(a);
}

static const struct client_signal_ops signal_ops = { signal_op_dial, signal_op_hang_up, signal_state, NULL, signal_message };

static int start_signal(struct run_agent *a, const Management__HostConfig *h)
{
	struct client_signal_config cfg = { .ops = &signal_ops, .arg = a, .random = nbc_random };

	if (!h || !h->uri || run_host_port(h->uri, a->signal_host, sizeof a->signal_host, &a->signal_port))
		return NB_E_BAD;
	a->signal_tls = h->has_protocol && h->protocol == MANAGEMENT__HOST_CONFIG__PROTOCOL__HTTPS;
	memcpy(cfg.private_key, a->private_key, NB_KEY_LEN);
	a->signal = client_signal_new(&cfg);
	nb_wipe(&cfg, sizeof cfg);
	if (!a->signal)
		return NB_E_NOMEM;
	client_signal_start(a->signal, os_now());
	return 0;
}

/* Interface and data-plane thread. Returns NULL or what went wrong and what to do. */
static const char *start_tunnel(struct run_agent *a)
{
	static char why[300];
	struct run_tunnel_config cfg = { .tun_fd = -1, .mtu = (size_t)a->profile.mtu, .port = (uint16_t)a->profile.port,
					 .fwmark = FWMARK, .tai_floor = load_tai(a),
					 .filter = a->profile.disable_firewall != CLIENT_YES };
	int err = run_tunnel_tun(&cfg, a->profile.iface);

	if (err == NB_E_PERM)
		return "no permission to create the tunnel interface: run the agent as root, or give it CAP_NET_ADMIN";
	if (err == NB_E_NOTFOUND)
		return "there is no /dev/net/tun: load the kernel's tun module (modprobe tun)";
	if (err == NB_E_BUSY) {
		snprintf(why, sizeof why, "interface %s belongs to another process: stop it, or choose another name with "
			 "--interface-name", a->profile.iface);
		return why;
	}
	if (err) {
		snprintf(why, sizeof why, "cannot create interface %s: %s", a->profile.iface, os_why());
		return why;
	}
	os_link_index(a->profile.iface, &a->ifindex);
	memcpy(cfg.private_key, a->private_key, NB_KEY_LEN);
	err = run_tunnel_new(&a->tunnel, &cfg);
	/* A busy port is no reason to fail: stock takes a random one, too. */
	if (err == NB_E_BUSY) {
		cfg.port = 0;
		err = run_tunnel_new(&a->tunnel, &cfg);
	}
	nb_wipe(cfg.private_key, sizeof cfg.private_key);
	if (err) {
		close(cfg.tun_fd);
		snprintf(why, sizeof why, "cannot open the WireGuard port: %s", nb_strerror(err));
		return why;
	}
	run_io_set(&a->tunnel_io, run_tunnel_fd(a->tunnel), RUN_READ);
	return NULL;
}

static bool env_true(const char *name)
{
	const char *v = getenv(name);

	return v && (!strcmp(v, "true") || !strcmp(v, "1") || !strcmp(v, "TRUE") || !strcmp(v, "True"));
}

/* Without it the agent has what STUN and TURN give. */
static void start_portmap(struct run_agent *a, const struct client_engine_config *engine)
{
	struct run_portmap_config cfg = { .loop = a->cfg.loop, .port = engine->port, .mark = FWMARK, .mapped = on_mapped, .ctx = a };

	if (env_true("NB_DISABLE_NAT_MAPPER") || engine->force_relay || engine->relay_only)
		return;
	if (run_portmap_new(&a->portmap, &cfg))
		nb_warn("no memory for port mapping");
}

/* The first Login of an `up`: build everything that needs its answer. */
static void start_up(struct run_agent *a, const Management__LoginResponse *r)
{
	struct client_engine_config cfg = { .ops = &engine_ops, .arg = a, .cfg = &a->profile, .random = nbc_random,
					    .force_relay = env_true("NB_FORCE_RELAY"),
					    .relay_only = env_true("NB_ICE_FORCE_RELAY_CONN"),
					    .home_relays = getenv("NB_HOME_RELAY_SERVERS") };
	const char *why = start_tunnel(a);
	int err;

	if (why) {
		give_up(a, CLIENT_ENGINE_FAILED, why);
		return;
	}
	nbc_x25519_base(cfg.public_key, a->private_key);
	cfg.port = run_tunnel_port(a->tunnel);
	a->engine = client_engine_new(&cfg, os_now());
	if (!a->engine) {
		give_up(a, CLIENT_ENGINE_FAILED, "out of memory");
		return;
	}
	err = client_engine_login(a->engine, r, os_now());
	if (err) {
		char text[200];

		snprintf(text, sizeof text, "cannot set the overlay address %s on interface %s: %s", r->peerconfig->address,
			 a->profile.iface, nb_strerror(err));
		give_up(a, CLIENT_ENGINE_FAILED, text);
		return;
	}
	a->monitor = os_netlink_monitor();
	if (a->monitor >= 0)
		run_io_set(&a->monitor_io, a->monitor, RUN_READ);
	refresh_hosts(a, os_now());
	start_portmap(a, &cfg);
	err = start_signal(a, r->netbirdconfig->signal);
	if (err)
		give_up(a, CLIENT_ENGINE_FAILED, "management gave no usable signal address");
}

static void mgmt_logged_in(void *arg, const Management__LoginResponse *r)
{
	struct run_agent *a = arg;

	if (a->purpose == UP) {
		if (!a->engine && !a->later_stop)
			start_up(a, r);
	} else {
		a->login_ok = true;
	}
	later(a);
}

static void mgmt_sync(void *arg, const Management__SyncResponse *r)
{
	struct run_agent *a = arg;

	if (!a->engine)
		return;
	client_engine_sync(a->engine, r, os_now());
	if (!a->connected && client_engine_has_map(a->engine)) {
		a->connected = true;
		a->cfg.engine(a->cfg.arg, CLIENT_ENGINE_CONNECTED, NULL);
	}
	later(a);
}

static void mgmt_state(void *arg, bool connected, const char *error)
{
	struct run_agent *a = arg;

	a->mgmt_up = connected;
	/* Said before each Sync, too. */
	if (connected && a->engine)
		client_engine_sync_begins(a->engine);
	snprintf(a->mgmt_error, sizeof a->mgmt_error, "%s", error ? error : "");
	if (error)
		nb_info("management: %s", error);
	later(a);
}

static void mgmt_refused(void *arg, const struct client_refusal *why)
{
	struct run_agent *a = arg;

	snprintf(a->refused_message, sizeof a->refused_message, "%s", why->message);
	a->refused_status = why->status;
	a->refused_registering = why->registering;
	a->refused = true;
	later(a);
}

static void mgmt_logged_out(void *arg, int status, const char *message)
{
	struct run_agent *a = arg;

	a->logged_out = true;
	a->logout_status = status;
	snprintf(a->why, sizeof a->why, "%s", message);
	later(a);
}

static const struct client_mgmt_ops mgmt_ops = {
	mgmt_op_dial, mgmt_op_hang_up, mgmt_logged_in, mgmt_sync, mgmt_state, mgmt_refused, mgmt_logged_out,
};

/* A deep copy by way of the file format. */
static int copy_profile(struct client_config *to, const struct client_config *from)
{
	char why[200];
	struct nb_buf b;
	int err;

	nb_buf_init(&b, CLIENT_FILE_MAX);
	err = client_config_encode(from, &b);
	if (!err)
		err = client_config_parse(to, nb_buf_view(&b), why, sizeof why);
	nb_buf_fini(&b);
	return err;
}

/* Begin a session; on failure nothing is left of it. */
static int session_start(struct run_agent *a, enum purpose purpose, const struct client_config *profile,
			 const char *setup_key, const char *hostname)
{
	struct client_mgmt_config cfg = { .ops = &mgmt_ops, .arg = a, .setup_key = setup_key, .random = nbc_random };
	struct client_config copy;
	int err = copy_profile(&copy, profile);

	if (err)
		return err;
	session_stop(a);
	a->purpose = purpose;
	a->profile = copy;
	nb_wipe(&copy, sizeof copy);	/* what it points at has moved */
	snprintf(a->hostname, sizeof a->hostname, "%s", hostname ? hostname : "");
	a->setup_key = setup_key && *setup_key ? strdup(setup_key) : NULL;
	a->mgmt_error[0] = a->why[0] = 0;
	nb_arena_init(&a->meta_arena, META_BYTES);
	a->meta = run_sysinfo(&a->meta_arena, &a->profile, hostname, a->profile.iface);
	err = a->meta ? nbc_key_parse(a->private_key, nb_bytes_str(a->profile.private_key)) : NB_E_NOMEM;
	if (!err) {
		cfg.meta = a->meta;
		cfg.dns_labels = a->profile.dns_labels.v;
		cfg.n_dns_labels = a->profile.dns_labels.n;
		memcpy(cfg.private_key, a->private_key, NB_KEY_LEN);
		a->mgmt = client_mgmt_new(&cfg);
		nb_wipe(cfg.private_key, sizeof cfg.private_key);
		err = a->mgmt ? 0 : NB_E_NOMEM;
	}
	if (err) {
		session_stop(a);
		return err;
	}
	client_mgmt_start(a->mgmt, os_now());
	schedule(a);
	return 0;
}

static void restart(struct run_agent *a)
{
	struct client_config profile;
	char hostname[sizeof a->hostname];
	int err = copy_profile(&profile, &a->profile);

	if (!err) {
		memcpy(hostname, a->hostname, sizeof hostname);
		a->cfg.engine(a->cfg.arg, CLIENT_ENGINE_CONNECTING, NULL);
		err = session_start(a, UP, &profile, NULL, hostname);
		client_config_fini(&profile);
	}
	if (err) {
		session_stop(a);
		a->cfg.engine(a->cfg.arg, CLIENT_ENGINE_FAILED, nb_strerror(err));
	}
}

static void login_refused(struct run_agent *a)
{
	enum client_login_end how = CLIENT_LOGIN_ERROR;
	char message[sizeof a->refused_message];
	int status = a->refused_status;

	if (status == GRPC_PERMISSION_DENIED)
		how = a->setup_key ? CLIENT_LOGIN_DENIED : CLIENT_LOGIN_NEEDED;
	memcpy(message, a->refused_message, sizeof message);
	session_stop(a);
	a->cfg.login_done(a->cfg.arg, how, status, message);
}

/* All that came in this round is one batch for the data plane. */
static void on_delivered(void *ctx)
{
	struct run_agent *a = ctx;

	if (a->tunnel)
		run_tunnel_flush(a->tunnel);
}

/* Runs with an empty stack: sessions end here, never inside a callback of one of their parts. */
static void on_later(void *ctx)
{
	struct run_agent *a = ctx;
	char message[sizeof a->why];
	enum client_engine_event word = a->last_word;
	int status = a->logout_status;

	if (a->purpose == LOGIN && a->login_ok) {
		session_stop(a);
		a->cfg.login_done(a->cfg.arg, CLIENT_LOGIN_OK, GRPC_OK, "");
	} else if (a->purpose == LOGIN && a->refused) {
		login_refused(a);
	} else if (a->purpose == LOGOUT && (a->logged_out || a->refused)) {
		/* A peer management does not know is logged out already. */
		if (!a->logged_out)
			status = a->refused_status == GRPC_PERMISSION_DENIED ? GRPC_NOT_FOUND : a->refused_status;
		snprintf(message, sizeof message, "%s", a->logged_out ? a->why : a->refused_message);
		session_stop(a);
		a->cfg.logout_done(a->cfg.arg, status, message);
	} else if (a->purpose == LOGOUT && a->login_ok) {
		a->login_ok = false;
		if (client_mgmt_logout(a->mgmt, os_now()))
			run_timer_set(&a->limit, os_now());
	} else if (a->purpose == UP && a->refused) {
		snprintf(message, sizeof message, "management does not accept this peer, it was removed or its login has "
			 "expired (%.120s): run netbird up, with --setup-key to join anew", a->refused_message);
		session_stop(a);
		nb_warn("%s", message);
		a->cfg.engine(a->cfg.arg, CLIENT_ENGINE_NEEDS_LOGIN, message);
	} else if (a->purpose == UP && a->later_stop) {
		memcpy(message, a->why, sizeof message);
		session_stop(a);
		a->cfg.engine(a->cfg.arg, word, message);
	} else if (a->purpose == UP && a->later_restart) {
		restart(a);
	}
	schedule(a);
}

static void on_limit(void *ctx, struct nb_time now)
{
	struct run_agent *a = ctx;
	enum purpose purpose = a->purpose;
	char message[sizeof a->mgmt_error];

	(void)now;
	snprintf(message, sizeof message, "%s", a->mgmt_error[0] ? a->mgmt_error : "management does not answer");
	session_stop(a);
	if (purpose == LOGIN)
		a->cfg.login_done(a->cfg.arg, CLIENT_LOGIN_ERROR, GRPC_UNAVAILABLE, message);
	else if (purpose == LOGOUT)
		a->cfg.logout_done(a->cfg.arg, GRPC_UNAVAILABLE, message);
}

static void on_mgmt_timer(void *ctx, struct nb_time now)
{
	struct run_agent *a = ctx;

	client_mgmt_timer(a->mgmt, now);
	schedule(a);
}

static void on_signal_timer(void *ctx, struct nb_time now)
{
	struct run_agent *a = ctx;

	client_signal_timer(a->signal, now);
	schedule(a);
}

static void on_engine_timer(void *ctx, struct nb_time now)
{
	struct run_agent *a = ctx;

	client_engine_timer(a->engine, now);
	schedule(a);
}

/* --- the face --- */

int run_agent_new(struct run_agent **out, const struct run_agent_config *cfg)
{
	struct run_agent *a = calloc(1, sizeof *a);

	if (!a || nbc_init() || run_resolver_new(&a->resolver, cfg->loop)) {
		free(a);
		return NB_E_NOMEM;
	}
	a->cfg = *cfg;
	if (links_new(a)) {
		run_resolver_free(a->resolver);
		free(a);
		return NB_E_NOMEM;
	}
	a->ca_file = cfg->ca_file ? strdup(cfg->ca_file) : NULL;
	a->tai_path = cfg->tai_path ? strdup(cfg->tai_path) : NULL;
	a->monitor = -1;
	a->settle_by = NB_TIME_NEVER;
	run_timer_init(&a->mgmt_timer, cfg->loop, on_mgmt_timer, a);
	run_timer_init(&a->signal_timer, cfg->loop, on_signal_timer, a);
	run_timer_init(&a->engine_timer, cfg->loop, on_engine_timer, a);
	run_timer_init(&a->settle, cfg->loop, on_settled, a);
	run_timer_init(&a->limit, cfg->loop, on_limit, a);
	run_io_init(&a->tunnel_io, cfg->loop, on_tunnel, a);
	run_io_init(&a->monitor_io, cfg->loop, on_monitor, a);
	run_defer_init(&a->later, on_later, a);
	run_defer_init(&a->delivered, on_delivered, a);
	*out = a;
	return 0;
}

void run_agent_free(struct run_agent *a)
{
	if (!a)
		return;
	run_agent_free(a->aside);
	a->ntickets = 0;
	session_stop(a);
	run_relay_links_free(a->links);
	run_defer_cancel(&a->later);
	run_defer_cancel(&a->delivered);
	run_resolver_free(a->resolver);
	free(a->ca_file);
	free(a->tai_path);
	free(a);
}

void run_agent_login(struct run_agent *a, const struct client_config *cfg, const char *setup_key, const char *hostname)
{
	int err = session_start(a, LOGIN, cfg, setup_key, hostname);

	if (err)
		a->cfg.login_done(a->cfg.arg, CLIENT_LOGIN_ERROR, GRPC_INTERNAL, nb_strerror(err));
	else
		run_timer_set(&a->limit, nb_time_add(os_now(), LOGIN_LIMIT_NS));
}

void run_agent_login_cancel(struct run_agent *a)
{
	if (a->purpose == LOGIN)
		session_stop(a);
}

void run_agent_up(struct run_agent *a, const struct client_config *cfg, const char *hostname)
{
	int err = session_start(a, UP, cfg, NULL, hostname);

	if (err)
		a->cfg.engine(a->cfg.arg, CLIENT_ENGINE_FAILED, nb_strerror(err));
	else
		a->cfg.engine(a->cfg.arg, CLIENT_ENGINE_CONNECTING, NULL);
}

void run_agent_down(struct run_agent *a)
{
	session_stop(a);
	a->cfg.down(a->cfg.arg);
}

static void aside_done(void *arg, int status, const char *message)
{
	struct run_agent *a = arg;

	a->cfg.logout_done(a->cfg.arg, status, message);
}

/* Deregistering may concern another profile, and may fail: the session that runs is not to notice. */
static int aside_get(struct run_agent *a)
{
	struct run_agent_config cfg = { .loop = a->cfg.loop, .arg = a, .logout_done = aside_done, .ca_file = a->ca_file };
	int err = a->aside ? 0 : run_agent_new(&a->aside, &cfg);

	if (!err)
		a->aside->is_aside = true;
	return err;
}

void run_agent_logout(struct run_agent *a, const struct client_config *cfg)
{
	int err = a->is_aside ? 0 : aside_get(a);

	if (!err && !a->is_aside) {
		run_agent_logout(a->aside, cfg);
		return;
	}
	if (!err)
		err = session_start(a, LOGOUT, cfg, NULL, NULL);
	if (err)
		a->cfg.logout_done(a->cfg.arg, GRPC_INTERNAL, nb_strerror(err));
	else
		run_timer_set(&a->limit, nb_time_add(os_now(), LOGIN_LIMIT_NS));
}

/* --- status --- */

static void fill_control(struct run_agent *a, Daemon__FullStatus *s, struct nb_arena *arena)
{
	Daemon__ManagementState *m = nb_arena_alloc(arena, sizeof *m);
	Daemon__SignalState *g = nb_arena_alloc(arena, sizeof *g);
	char url[CLIENT_HOST_MAX + 160];

	if (!m || !g)
		return;
	daemon__management_state__init(m);
	daemon__signal_state__init(g);
	client_url_format(url, sizeof url, &a->profile.management_url);
	m->url = nb_arena_strndup(arena, url, strlen(url));
	m->has_connected = m->connected = a->mgmt_up;
	if (a->mgmt_error[0])
		m->error = nb_arena_strndup(arena, a->mgmt_error, strlen(a->mgmt_error));
	if (a->signal_host[0])
		g->url = nb_arena_printf(arena, strchr(a->signal_host, ':') ? "%s://[%s]:%u" : "%s://%s:%u",
					 a->signal_tls ? "https" : "http", a->signal_host, a->signal_port);
	g->has_connected = g->connected = a->signal_up;
	if (a->signal_error[0])
		g->error = nb_arena_strndup(arena, a->signal_error, strlen(a->signal_error));
	s->managementstate = m;
	s->signalstate = g;
}

static void answer_status(struct run_agent *a, uint32_t ticket)
{
	Daemon__FullStatus s = DAEMON__FULL_STATUS__INIT;
	struct nb_arena arena;

	nb_arena_init(&arena, 64u << 20);
	if (a->purpose == UP) {
		fill_control(a, &s, &arena);
		if (a->engine)
			client_engine_status(a->engine, &s, &arena, os_now(), os_wall());
	}
	a->cfg.status_ready(a->cfg.arg, ticket, a->purpose == UP ? &s : NULL);
	nb_arena_fini(&arena);
}

void run_agent_status(struct run_agent *a, uint32_t ticket, bool probes)
{
	(void)probes;
	if (a->purpose != UP || !a->tunnel || a->ntickets == TICKETS_MAX ||
	    run_tunnel_stats(a->tunnel, a->stats_tag + 1, false)) {
		answer_status(a, ticket);
		return;
	}
	a->stats_tag++;
	a->tickets[a->ntickets++] = ticket;
}
