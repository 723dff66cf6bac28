/* agent_engine.c - what the engine (client/engine.h) wants done, handed to interface, data plane, signal,
 * resolver and relay connections; and what the relay connections answer. Nothing is decided here. */
#include "run/agent_int.h"

#include "base/log.h"
#include "crypto/tls.h"
#include "os/socket.h"

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
	struct run_agent_lookup *k = ctx;

	if (!n)
		nb_info("look-up of a STUN or TURN server failed: %s", why);
	k->running = NULL;
	client_engine_resolved(k->a->engine, k->id, addrs, n, os_now());
	run_agent_schedule(k->a);
}

static int op_lookup(void *arg, unsigned id, const char *host, uint16_t port)
{
	struct run_agent *a = arg;
	int err;

	(void)port;
	for (size_t i = 0; i < RUN_AGENT_LOOKUPS; i++) {
		struct run_agent_lookup *k = &a->lookups[i];

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
	run_agent_later(a);
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

static void op_link_dial(void *arg, unsigned id, bool turn, const struct relaymsg_url *url, const struct nb_addr *ip)
{
	struct run_agent *a = arg;
	struct os_sockopt o = { .mark = RUN_AGENT_FWMARK };

	run_link_dials_start(a->links, id, turn, url, ip, &o);
}

static void op_link_send(void *arg, unsigned id, struct nb_bytes head, struct nb_bytes body)
{
	run_tunnel_link_send(((struct run_agent *)arg)->tunnel, id, head, body);
}

static void op_link_hang_up(void *arg, unsigned id)
{
	struct run_agent *a = arg;

	run_link_dials_forget(a->links, id);
	run_tunnel_link_drop(a->tunnel, id);
}

static void op_link_channel(void *arg, unsigned id, uint32_t channel, struct nb_bytes key)
{
	run_tunnel_link_channel(((struct run_agent *)arg)->tunnel, id, channel, key);
}

const struct client_engine_ops run_agent_engine_ops = {
	op_iface, op_peer_set, op_peer_remove, op_filter, op_peer_reset, op_peer_endpoint, op_deliver, op_turn_server,
	op_dgram, op_signal, op_lookup, op_restart, op_changed, op_event,
	op_link_dial, op_link_send, op_link_hang_up, op_link_channel,
};

/* --- connections to relays and TURN servers --- */

static struct nbc_trust *link_trust(void *ctx, const char **why)
{
	struct run_agent *a = ctx;

	*why = run_agent_trust(a);
	return *why ? NULL : a->trust;
}

static void link_opened(void *ctx, unsigned id, bool turn, int fd, struct nbc_tls *tls, const struct nb_addr *ip,
			int64_t rtt_ns)
{
	struct run_agent *a = ctx;

	if (!a->engine) {
		nbc_tls_free(tls);
		os_close(&fd);
		return;
	}
	run_tunnel_link_add(a->tunnel, id, turn, fd, tls);
	client_engine_link_opened(a->engine, id, ip, rtt_ns, os_now());
	client_mgmt_network_changed(a->mgmt, false, os_now());
	if (a->signal)
		client_signal_network_changed(a->signal, false, os_now());
	run_agent_later(a);
}

static void link_lost(void *ctx, unsigned id, const char *why)
{
	struct run_agent *a = ctx;

	if (!a->engine)
		return;
	run_tunnel_link_drop(a->tunnel, id);
	client_engine_link_lost(a->engine, id, why, os_now());
	run_agent_later(a);
}

int run_agent_links_new(struct run_agent *a)
{
	struct run_link_dials_config cfg = { .loop = a->cfg.loop, .resolver = a->resolver, .trust = link_trust,
					     .opened = link_opened, .lost = link_lost, .ctx = a };

	return run_link_dials_new(&a->links, &cfg);
}
