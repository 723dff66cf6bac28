/* engine_lazy.c - connections that exist only while somebody needs them. A peer that sleeps has no connection at all,
 * no timer and no endpoint; its first packet waits in the data plane, which says so. Who may sleep, and when, is
 * client/lazy.h. Source: spec/peer-connection.md 3.5.
 * Tests: tests/unit/client_engine_lazy_test.c, tests/sim/client_lazy_sim_test.c, tests/net/test_lazy.py */
#include "client/engine_int.h"

#include "base/log.h"

static bool may_sleep(const struct client_engine *e, const struct engine_peer *p)
{
	return e->lazy && p->can_sleep && !p->needed;
}

static const char *name_of(const struct engine_peer *p)
{
	return p->fqdn && *p->fqdn ? p->fqdn : p->key_text;
}

static bool is_connected(const struct engine_peer *p, struct nb_time *changed)
{
	struct client_conn_status s;

	client_conn_status(p->conn, &s);
	*changed = s.changed;
	return s.connected;
}

static struct nb_time due(const struct client_engine *e, const struct engine_peer *p)
{
	struct nb_time changed;
	bool connected = is_connected(p, &changed);

	return client_lazy_due(&p->lazy, e->cfg.idle_ns, connected, changed);
}

static struct client_conn *new_conn(struct client_engine *e, struct engine_peer *p, struct nb_time now)
{
	struct client_conn_config c = { .net = &e->net, .demux = &e->demux, .random = e->cfg.random,
					.random_ctx = e->cfg.random_ctx, .user = p };

	memcpy(c.self_key, e->self_key, sizeof c.self_key);
	memcpy(c.peer_key, p->key_text, sizeof c.peer_key);
	return client_conn_new(&c, now);
}

void client_engine_wake(struct client_engine *e, struct engine_peer *p, enum engine_caller who, struct nb_time now)
{
	bool by_peer = who != ENGINE_OURS;
	struct nb_time changed;

	if (p->conn) {
		/* Its calls count while there is nothing else to go by. */
		if (by_peer && !is_connected(p, &changed))
			client_lazy_called(&p->lazy, now);
		return;
	}
	p->conn = new_conn(e, p, now);
	if (!p->conn) {
		nb_warn("no memory for a connection to %s", name_of(p));
		return;
	}
	if (may_sleep(e, p))
		nb_info("%s: connecting, %s", name_of(p), by_peer ? "it calls" : "a packet waits");
	/* A session of before may be half of one: the other side forgot its part when it fell asleep. */
	if (who != ENGINE_HEARD)
		e->cfg.ops->peer_reset(e->cfg.arg, p->key);
	nb_list_push(&e->open, &p->open);
	client_lazy_woken(&p->lazy, by_peer, now);
	client_conn_open(p->conn, now);
	client_engine_drain(e, p, now);
}

void client_engine_drop_conn(struct engine_peer *p)
{
	if (p->channel)
		client_relays_close(p->e->relays, p->channel);
	p->channel = 0;
	client_conn_free(p->conn);
	p->conn = NULL;
	nb_list_del(&p->open);
}

/* WireGuard's keys go, too: what is still under way must not point it anywhere. They go first, for a packet that
 * comes between the two steps is kept when the endpoint goes, and wakes the peer. */
static void sleep_now(struct client_engine *e, struct engine_peer *p, bool ours, struct nb_time now)
{
	static const struct client_signal_msg go_idle = { .type = CLIENT_SIGNAL_GO_IDLE };
	static const struct wg_ep none = { .kind = WG_EP_NONE };

	nb_info("%s: idle, %s", name_of(p), ours ? "nobody has sent anything for a while" : "at its request");
	if (ours)
		e->cfg.ops->signal(e->cfg.arg, p->key, &go_idle);
	e->cfg.ops->peer_reset(e->cfg.arg, p->key);
	client_conn_close(p->conn, now);
	client_engine_drain(e, p, now);
	client_engine_drop_conn(p);
	p->waits_channel = p->on_turn = false;
	e->cfg.ops->peer_endpoint(e->cfg.arg, p->key, &none, false);
	client_lazy_slept(&p->lazy, ours, now);
	p->closed = now;
	e->cfg.ops->changed(e->cfg.arg);
}

void client_engine_told_to_sleep(struct client_engine *e, struct engine_peer *p, struct nb_time now)
{
	struct nb_time changed;

	/* One that may not sleep keeps calling; so does stock. */
	if (!p->conn || !may_sleep(e, p))
		return;
	if (!client_lazy_outdated(&p->lazy, is_connected(p, &changed), now))
		sleep_now(e, p, false, now);
}

/* Connections from outside are passed on to it by management's order: none of our packets would wake it. */
static bool is_forward_target(const struct engine_peer *p, const Management__NetworkMap *map)
{
	for (size_t i = 0; i < map->n_forwardingrules; i++) {
		const ProtobufCBinaryData *to = &map->forwardingrules[i]->translatedaddress;
		struct nb_addr addr;

		if (to->len != 4 && to->len != 16)
			continue;
		addr = to->len == 4 ? (struct nb_addr){ .family = 4 } : (struct nb_addr){ .family = 6 };
		memcpy(addr.ip, to->data, to->len);
		for (size_t k = 0; k < p->nallowed; k++)
			if (nb_prefix_contains(&p->allowed[k], &addr))
				return true;
	}
	return false;
}

void client_engine_lazy_take(struct client_engine *e, const Management__NetworkMap *map, struct nb_time now)
{
	struct nb_map_iter it = { 0 };

	while (nb_map_next(&e->peers, &it)) {
		struct engine_peer *p = it.value;

		if (p->needed)
			e->lazy_at = now;
		p->needed = is_forward_target(p, map);
		if (!p->conn && !may_sleep(e, p))
			client_engine_wake(e, p, ENGINE_OURS, now);
	}
}

void client_engine_lazy_flag(struct client_engine *e, bool management, struct nb_time now)
{
	bool lazy = e->cfg.lazy == CLIENT_LAZY_UNSET ? management : e->cfg.lazy == CLIENT_LAZY_ON;

	/* As in stock. */
	if (e->cfg.cfg->rosenpass_enabled == CLIENT_YES)
		lazy = false;
	if (lazy == e->lazy)
		return;
	e->lazy = lazy;
	e->lazy_at = now;
	nb_info("connections are kept %s", lazy ? "while they are used" : "up");
}

void client_engine_lazy_look(struct client_engine *e, const struct engine_peer *p, struct nb_time now)
{
	int64_t soon = e->cfg.idle_ns < CLIENT_LAZY_REACH_NS ? e->cfg.idle_ns : CLIENT_LAZY_REACH_NS;

	if (client_conn_is_open(p->conn))
		e->lazy_at = nb_time_min(e->lazy_at, nb_time_add(now, soon));
}

void client_engine_lazy_timer(struct client_engine *e, struct nb_time now)
{
	if (!nb_time_due(e->lazy_at, now))
		return;
	e->lazy_at = NB_TIME_NEVER;
	/* Without signal nobody could be told, nor woken later. */
	if (!e->lazy || !e->signal_up)
		return;
	nb_list_each_safe(it, &e->open) {
		struct engine_peer *p = nb_container(it, struct engine_peer, open);
		struct nb_time at = due(e, p);

		if (!may_sleep(e, p))
			continue;
		if (nb_time_due(at, now))
			sleep_now(e, p, true, now);
		else
			e->lazy_at = nb_time_min(e->lazy_at, at);
	}
}
