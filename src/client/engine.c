/* engine.c - see engine.h. */
#include "client/engine_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "base/version.h"
#include "crypto/crypto.h"
#include "ice/stun.h"

#define KEEPALIVE_S 25		/* spec/peer-connection.md 4.1 */

/* --- peers --- */

static void peer_free(struct engine_peer *p)
{
	client_engine_drop_conn(p);
	free(p->allowed);
	free(p->fqdn);
	nb_wipe(&p->stats, sizeof p->stats);
	free(p);
}

static struct engine_peer *peer_find(const struct client_engine *e, const uint8_t key[NB_KEY_LEN])
{
	return nb_map_get(&e->peers, nb_bytes(key, NB_KEY_LEN));
}

static void peer_remove(struct client_engine *e, struct engine_peer *p)
{
	uint8_t key[NB_KEY_LEN];

	memcpy(key, p->key, sizeof key);
	nb_map_del(&e->peers, nb_bytes(key, sizeof key));
	peer_free(p);
	e->cfg.ops->peer_remove(e->cfg.arg, key);
}

static void set_wg_peer(struct client_engine *e, const struct engine_peer *p)
{
	struct client_wg_peer w = { .key = p->key, .allowed = p->allowed, .nallowed = p->nallowed, .keepalive = KEEPALIVE_S };
	uint8_t psk[NB_KEY_LEN];

	if (e->cfg.cfg->preshared_key[0] && !nbc_key_parse(psk, nb_bytes_str(e->cfg.cfg->preshared_key)))
		w.psk = psk;
	e->cfg.ops->peer_set(e->cfg.arg, &w);
	nb_wipe(psk, sizeof psk);
}

/* Read the allowed addresses; IPv6 counts only with an IPv6 address of our own. */
static size_t read_allowed(const struct client_engine *e, const Management__RemotePeerConfig *r, struct nb_prefix *out)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n_allowedips && n < ALLOWED_MAX; i++)
		if (!nb_prefix_parse(&out[n], r->allowedips[i]) && (out[n].addr.family == 4 || e->v6.addr.family))
			n++;
	return n;
}

static bool same_peer(const struct engine_peer *p, const struct nb_prefix *allowed, size_t n, const char *version)
{
	if (n != p->nallowed || strncmp(p->version, version, sizeof p->version - 1))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!nb_addr_eq(&allowed[i].addr, &p->allowed[i].addr) || allowed[i].len != p->allowed[i].len)
			return false;
	return true;
}

static struct engine_peer *peer_new(struct client_engine *e, const uint8_t key[NB_KEY_LEN], const struct nb_prefix *allowed,
				    size_t n)
{
	struct engine_peer *p = calloc(1, sizeof *p);

	if (!p)
		return NULL;
	p->e = e;
	nb_list_init(&p->open);
	memcpy(p->key, key, NB_KEY_LEN);
	nbc_key_format(p->key_text, key);
	p->allowed = malloc(n * sizeof *allowed);
	if (!p->allowed || nb_map_put(&e->peers, nb_bytes(p->key, NB_KEY_LEN), p, NULL)) {
		peer_free(p);
		return NULL;
	}
	memcpy(p->allowed, allowed, n * sizeof *allowed);
	p->nallowed = n;
	return p;
}

static void set_fqdn(struct engine_peer *p, const char *fqdn)
{
	char *copy = strdup(fqdn ? fqdn : "");

	if (!copy)
		return;
	free(p->fqdn);
	p->fqdn = copy;
}

/* One peer of the map: unchanged, changed (made anew, as stock does) or new. Returns false when unusable. */
static bool take_peer(struct client_engine *e, const Management__RemotePeerConfig *r, struct nb_time now)
{
	struct nb_prefix allowed[ALLOWED_MAX];
	const char *version = r->agentversion ? r->agentversion : "";
	uint8_t key[NB_KEY_LEN];
	struct engine_peer *p;
	bool awake = false;
	size_t n;

	if (!r->wgpubkey || nbc_key_parse(key, nb_bytes_str(r->wgpubkey)))
		return false;
	if (!memcmp(key, e->cfg.public_key, sizeof key))
		return true;
	n = read_allowed(e, r, allowed);
	if (!n)
		return false;
	p = peer_find(e, key);
	if (p && !same_peer(p, allowed, n, version)) {
		awake = p->conn != NULL;
		peer_remove(e, p);
		p = NULL;
	}
	if (p) {
		p->in_map = true;
		set_fqdn(p, r->fqdn);
		return true;
	}
	p = peer_new(e, key, allowed, n);
	if (!p) {
		nb_warn("no room for another peer: %zu are connected already", e->peers.count);
		return true;
	}
	p->in_map = true;
	snprintf(p->version, sizeof p->version, "%s", version);
	p->can_sleep = client_lazy_supported(p->version);
	set_fqdn(p, r->fqdn);
	set_wg_peer(e, p);
	/* Those that may not sleep are woken when the whole map was taken. */
	if (awake)
		client_engine_wake(e, p, ENGINE_OURS, now);
	return true;
}

static void sweep(struct client_engine *e)
{
	struct nb_map_iter it = { 0 };

	while (nb_map_next(&e->peers, &it)) {
		struct engine_peer *p = it.value;

		if (!p->in_map)
			peer_remove(e, p);
	}
}

static void take_peers(struct client_engine *e, const Management__NetworkMap *map, struct nb_time now)
{
	struct nb_map_iter it = { 0 };

	/* An empty list without the flag means nothing: a server that sends no peers says so. */
	if (!map->n_remotepeers && !map->remotepeersisempty)
		return;
	while (nb_map_next(&e->peers, &it))
		((struct engine_peer *)it.value)->in_map = false;
	if (!map->remotepeersisempty)
		for (size_t i = 0; i < map->n_remotepeers; i++)
			if (!take_peer(e, map->remotepeers[i], now)) {
				e->skipped++;
				nb_warn("network map: a peer without usable key or address was skipped");
			}
	sweep(e);
}

/* --- connections --- */

/* A path through TURN that ends may have ended because the server was restarted. */
static void note_turn(struct client_engine *e, struct engine_peer *p, struct nb_time now)
{
	bool on_turn = client_conn_path(p->conn) == CLIENT_PATH_TURN;

	if (p->on_turn && !on_turn)
		client_servers_doubt(e, now);
	p->on_turn = on_turn;
}

static void set_endpoint(struct client_engine *e, struct engine_peer *p, const struct client_conn_event *ev,
			 struct nb_time now)
{
	struct wg_ep ep = { .kind = WG_EP_UDP, .remote = ev->remote };

	p->waits_channel = false;
	if (ev->path == CLIENT_PATH_RELAY) {
		ep = (struct wg_ep){ .kind = WG_EP_STREAM, .id = ev->channel };
		e->cfg.ops->peer_endpoint(e->cfg.arg, p->key, &ep, ev->handshake);
		return;
	}
	if (ev->via)
		client_servers_bind(e, p, ev->via, &ev->remote, ev->handshake, now);
	else
		e->cfg.ops->peer_endpoint(e->cfg.arg, p->key, &ep, ev->handshake);
}

static void on_conn_event(struct client_engine *e, struct engine_peer *p, struct client_conn_event *ev,
			  struct nb_time now)
{
	static const struct wg_ep none = { .kind = WG_EP_NONE };

	switch (ev->type) {
	case CLIENT_CONN_SEND:
		e->cfg.ops->signal(e->cfg.arg, p->key, &ev->signal);
		break;
	case CLIENT_CONN_PERMIT:
		client_servers_permit(e, &ev->remote.addr, now);
		break;
	case CLIENT_CONN_ENDPOINT:
		set_endpoint(e, p, ev, now);
		break;
	case CLIENT_CONN_NO_ENDPOINT:
		p->waits_channel = false;
		e->cfg.ops->peer_endpoint(e->cfg.arg, p->key, &none, false);
		break;
	case CLIENT_CONN_RESET:
		e->cfg.ops->peer_reset(e->cfg.arg, p->key);
		break;
	case CLIENT_CONN_RELAY_OPEN:
		client_engine_relay_open_channel(e, p, ev, now);
		break;
	case CLIENT_CONN_RELAY_CLOSE:
		client_relays_close(e->relays, p->channel);
		p->channel = 0;
		break;
	case CLIENT_CONN_GATHER:
		client_gather_want(e, now);
		break;
	case CLIENT_CONN_CHANGED:
		note_turn(e, p, now);
		client_engine_lazy_look(e, p, now);
		e->cfg.ops->changed(e->cfg.arg);
		break;
	}
}

void client_engine_drain(struct client_engine *e, struct engine_peer *p, struct nb_time now)
{
	uint8_t room[ICE_DGRAM_MAX];
	struct nb_dgram d = { .p = room, .cap = sizeof room };
	struct client_conn_event ev;
	unsigned via;
	bool busy;

	do {
		busy = false;
		while (client_conn_event(p->conn, &ev)) {
			on_conn_event(e, p, &ev, now);
			busy = true;
		}
		while (client_conn_output(p->conn, &d, &via, now)) {
			if (via)
				client_servers_send(e, via, &d.to, nb_bytes(d.p, d.n), now);
			else
				e->cfg.ops->dgram(e->cfg.arg, &d.to, &d.from.addr, nb_bytes(d.p, d.n));
			busy = true;
		}
	} while (busy);
	nb_wipe(&ev, sizeof ev);
	e->next = nb_time_min(e->next, client_conn_deadline(p->conn));
}

/* --- own address --- */

static int read_own(struct nb_prefix *v4, struct nb_prefix *v6, const Management__PeerConfig *c)
{
	memset(v6, 0, sizeof *v6);
	if (!c->address || nb_prefix_parse(v4, c->address) || v4->addr.family != 4)
		return NB_E_BAD;
	if (c->has_address_v6 && c->address_v6.len == 17 && c->address_v6.data[16] <= 128) {
		v6->addr = nb_addr6(c->address_v6.data);
		v6->len = c->address_v6.data[16];
	}
	return 0;
}

int client_engine_login(struct client_engine *e, const Management__LoginResponse *r, struct nb_time now)
{
	const Management__PeerConfig *c = r->peerconfig;
	int mtu = e->cfg.cfg->mtu, err;

	err = read_own(&e->v4, &e->v6, c);
	if (err)
		return err;
	if (e->cfg.cfg->disable_ipv6 == CLIENT_YES)
		memset(&e->v6, 0, sizeof e->v6);
	snprintf(e->address, sizeof e->address, "%s", c->address);
	free(e->fqdn);
	e->fqdn = strdup(c->fqdn ? c->fqdn : "");
	client_engine_lazy_flag(e, c->lazyconnectionenabled, now);
	err = e->cfg.ops->iface(e->cfg.arg, &e->v4, e->v6.addr.family ? &e->v6 : NULL, mtu);
	if (!err && r->netbirdconfig)
		client_engine_relays_update(e, r->netbirdconfig, now);
	return err;
}

/* True when the map moves us to another address, which takes a new start. */
static bool address_moved(struct client_engine *e, const Management__PeerConfig *c)
{
	struct nb_prefix v4, v6;

	if (!c || !c->address)
		return false;
	if (read_own(&v4, &v6, c)) {
		e->skipped++;
		return false;
	}
	if (strcmp(c->address, e->address))
		return true;
	return e->cfg.cfg->disable_ipv6 != CLIENT_YES && !nb_addr_eq(&v6.addr, &e->v6.addr);
}

/* --- inputs --- */

void client_engine_sync(struct client_engine *e, const Management__SyncResponse *r, struct nb_time now)
{
	const Management__NetworkMap *map = r->networkmap;

	if (r->netbirdconfig) {
		client_engine_relays_update(e, r->netbirdconfig, now);
		client_servers_update(e, r->netbirdconfig, now);
	}
	if (r->version == 1) {
		nb_error("management sent a component map, which was not asked for; it is ignored");
		return;
	}
	if (!map)
		return;
	if (address_moved(e, map->peerconfig)) {
		e->cfg.ops->restart(e->cfg.arg, "management gave this peer another address");
		return;
	}
	if (e->has_map && map->serial < e->serial) {
		nb_info("network map %llu is older than %llu and was ignored", (unsigned long long)map->serial,
			(unsigned long long)e->serial);
		return;
	}
	if (map->peerconfig)
		client_engine_lazy_flag(e, map->peerconfig->lazyconnectionenabled, now);
	client_filter_take(e, map);
	take_peers(e, map, now);
	client_engine_lazy_take(e, map, now);
	e->offline = map->n_offlinepeers;
	e->serial = map->serial;
	e->has_map = true;
	e->cfg.ops->event(e->cfg.arg, "Network map updated");
	e->cfg.ops->changed(e->cfg.arg);
}

void client_engine_sync_begins(struct client_engine *e)
{
	e->serial = 0;
}

void client_engine_signal(struct client_engine *e, const uint8_t key[NB_KEY_LEN], const struct client_signal_msg *m,
			  struct nb_time now)
{
	struct engine_peer *p = peer_find(e, key);

	if (!p)
		return;
	if (m->type == CLIENT_SIGNAL_GO_IDLE) {
		client_engine_told_to_sleep(e, p, now);
		return;
	}
	client_engine_wake(e, p, ENGINE_CALLED, now);
	if (!p->conn)
		return;
	client_conn_signal(p->conn, m, now);
	client_engine_drain(e, p, now);
}

void client_engine_signal_ready(struct client_engine *e, struct nb_time now)
{
	e->signal_up = true;
	e->lazy_at = now;
	nb_list_each_safe(it, &e->open) {
		struct engine_peer *p = nb_container(it, struct engine_peer, open);

		client_conn_signal_ready(p->conn, now);
		client_engine_drain(e, p, now);
	}
}

void client_engine_signal_lost(struct client_engine *e)
{
	e->signal_up = false;
}

static void network_changed(struct client_engine *e, bool hard, struct nb_time now)
{
	nb_list_each_safe(it, &e->open) {
		struct engine_peer *p = nb_container(it, struct engine_peer, open);

		client_conn_network_changed(p->conn, hard, now);
		client_engine_drain(e, p, now);
	}
}

static bool addresses_lost(const struct client_engine *e, const struct nb_addr *hosts, size_t n)
{
	for (size_t i = 0; i < e->net.nhosts; i++) {
		size_t k = 0;

		while (k < n && !nb_addr_eq(&hosts[k], &e->net.hosts[i]))
			k++;
		if (k == n)
			return true;
	}
	return false;
}

void client_engine_hosts(struct client_engine *e, const struct nb_addr *hosts, size_t n, bool hard, struct nb_time now)
{
	bool moved;

	if (n > ICE_LOCAL_MAX)
		n = ICE_LOCAL_MAX;
	moved = hard && (addresses_lost(e, hosts, n) || n == e->net.nhosts);
	memcpy(e->net.hosts, hosts, n * sizeof *hosts);
	e->net.nhosts = n;
	/* Allocations belong to the address they were made from. */
	if (moved) {
		client_servers_moved(e, now);
		client_gather_moved(e, now);
	}
	if (hard)
		client_nat_schedule(e, true, now);
	if (hard)
		client_relays_hurry(e->relays, now);
	network_changed(e, hard, now);
}

void client_engine_left_out(struct client_engine *e, const char *names)
{
	snprintf(e->net.blacklisted, sizeof e->net.blacklisted, "%s", names);
}

void client_engine_woke(struct client_engine *e, int64_t slept_ns, struct nb_time now)
{
	struct nb_map_iter it = { 0 };

	nb_info("stood still for %lld s: paths are looked at again", (long long)(slept_ns / NB_SEC));
	client_relays_hurry(e->relays, now);
	client_gather_want(e, now);
	while (nb_map_next(&e->peers, &it)) {
		struct engine_peer *p = it.value;

		client_conn_woke(p->conn, slept_ns, now);
		client_engine_drain(e, p, now);
	}
	client_servers_doubt(e, now);
}

void client_engine_hurry(struct client_engine *e, struct nb_time now)
{
	client_relays_hurry(e->relays, now);
}

void client_engine_mapped(struct client_engine *e, const struct nb_endpoint *external, struct nb_time now)
{
	e->net.mapped = *external;
	network_changed(e, false, now);
}

void client_engine_dgram(struct client_engine *e, const struct nb_endpoint *from, const struct nb_endpoint *to,
			 struct nb_bytes data, struct nb_time now)
{
	bool changed;
	struct client_conn *c;
	struct nb_dgram d = { .from = *from, .p = (uint8_t *)(uintptr_t)data.p, .n = data.n };

	if (to)
		d.to = *to;
	/* STUN from inside the tunnel would tie the tunnel to itself. */
	if (nb_prefix_contains(&e->v4, &from->addr) || (e->v6.addr.family && nb_prefix_contains(&e->v6, &from->addr)))
		return;
	if (client_gather_dgram(e, from, data, &changed, now)) {
		if (changed)
			network_changed(e, false, now);
		return;
	}
	if (client_nat_dgram(e, from, data, now) || client_servers_dgram(e, from, data, now))
		return;
	c = ice_is_stun(data) ? client_conn_find(&e->demux, data) : NULL;
	if (!c)
		return;
	client_conn_input(c, &d, 0, now);
	client_engine_drain(e, client_conn_user(c), now);
}

void client_engine_resolved(struct client_engine *e, unsigned id, const struct nb_addr *addrs, size_t n,
			    struct nb_time now)
{
	client_servers_resolved(e, id, addrs, n, now);
	network_changed(e, false, now);
}

/* The path may have died; one through TURN perhaps because the server forgot us. */
static void on_silence(struct client_engine *e, struct engine_peer *p, struct nb_time now)
{
	client_conn_silent(p->conn, now);
	if (p->on_turn)
		client_servers_doubt(e, now);
}

void client_engine_wg_event(struct client_engine *e, enum wg_event_kind kind, const uint8_t key[NB_KEY_LEN],
			    const struct wg_ep *ep, struct nb_time now)
{
	struct engine_peer *p = peer_find(e, key);

	if (!p)
		return;
	/* A packet waits, or the peer was heard although it sleeps: it missed that we do, or we what it wanted. */
	if (kind == WG_EV_WANTED || (!p->conn && (kind == WG_EV_ACTIVE || kind == WG_EV_ROAMED)))
		client_engine_wake(e, p, kind == WG_EV_WANTED ? ENGINE_OURS : ENGINE_HEARD, now);
	if (!p->conn)
		return;
	if (kind == WG_EV_WANTED)
		client_lazy_wanted(&p->lazy, now);
	else if (kind == WG_EV_ACTIVE)
		client_lazy_used(&p->lazy, now);
	if (kind == WG_EV_HANDSHAKE)
		client_conn_handshake(p->conn, now);
	else if (kind == WG_EV_ACTIVE)
		client_conn_active(p->conn, now);
	else if (kind == WG_EV_SILENT)
		on_silence(e, p, now);
	else if (kind == WG_EV_ROAMED && ep->kind == WG_EP_UDP)
		client_conn_roamed(p->conn, &ep->remote, now);
	client_engine_drain(e, p, now);
}

void client_engine_wg_stats(struct client_engine *e, const uint8_t key[NB_KEY_LEN], const struct wg_peer_stats *s)
{
	struct engine_peer *p = peer_find(e, key);

	if (!p)
		return;
	p->stats = *s;
	nb_wipe(p->stats.psk, sizeof p->stats.psk);
}

/* --- time --- */

struct nb_time client_engine_deadline(const struct client_engine *e)
{
	struct nb_time t = nb_time_min(client_servers_deadline(e), client_nat_deadline(e));

	t = nb_time_min(t, client_gather_deadline(e));
	return nb_time_min(nb_time_min(e->next, t), nb_time_min(e->lazy_at, client_relays_deadline(e->relays)));
}

void client_engine_timer(struct client_engine *e, struct nb_time now)
{
	struct nb_time next = NB_TIME_NEVER;

	client_servers_timer(e, now);
	client_gather_timer(e, now);
	client_nat_timer(e, now);
	e->relay_now = now;
	client_relays_timer(e->relays, now);
	client_engine_lazy_timer(e, now);
	if (!nb_time_due(e->next, now))
		return;
	e->next = NB_TIME_NEVER;
	nb_list_each_safe(it, &e->open) {
		struct engine_peer *p = nb_container(it, struct engine_peer, open);

		if (nb_time_due(client_conn_deadline(p->conn), now))
			client_engine_drain(e, p, now);
		next = nb_time_min(next, client_conn_deadline(p->conn));
	}
	e->next = nb_time_min(e->next, next);
}

/* --- life --- */

struct client_engine *client_engine_new(const struct client_engine_config *cfg, struct nb_time now)
{
	struct client_engine *e = calloc(1, sizeof *e);
	uint8_t seed[16];

	(void)now;
	if (!e)
		return NULL;
	e->cfg = *cfg;
	nbc_key_format(e->self_key, cfg->public_key);
	cfg->random(cfg->random_ctx, seed, sizeof seed);
	nb_map_init(&e->peers, seed, CLIENT_PEERS_MAX);
	nb_list_init(&e->open);
	if (!e->cfg.idle_ns)
		e->cfg.idle_ns = CLIENT_LAZY_IDLE_NS;
	cfg->random(cfg->random_ctx, seed, sizeof seed);
	ice_demux_init(&e->demux, seed, CLIENT_PEERS_MAX * 2);
	cfg->random(cfg->random_ctx, e->filter_seed, sizeof e->filter_seed);
	e->net.port = cfg->port;
	e->net.version = NB_COMPAT;
	e->net.force_relay = cfg->force_relay;
	e->net.relay_only = cfg->relay_only;
	e->net.nrelayed = CLIENT_TURN_MAX;
	e->next = e->lazy_at = e->nat.start_at = NB_TIME_NEVER;
	if (client_engine_relays_new(e)) {
		client_engine_free(e);
		return NULL;
	}
	return e;
}

void client_engine_stop(struct client_engine *e, struct nb_time now)
{
	client_servers_stop(e, now);
}

void client_engine_free(struct client_engine *e)
{
	struct nb_map_iter it = { 0 };

	if (!e)
		return;
	while (nb_map_next(&e->peers, &it))
		peer_free(it.value);
	nb_map_fini(&e->peers);
	client_servers_free(e);
	ice_demux_fini(&e->demux);
	client_relays_free(e->relays);
	free(e->fqdn);
	nb_wipe(e, sizeof *e);
	free(e);
}

bool client_engine_has_map(const struct client_engine *e)
{
	return e->has_map;
}

size_t client_engine_peers(const struct client_engine *e)
{
	return e->peers.count;
}
