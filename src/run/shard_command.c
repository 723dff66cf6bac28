/* shard_command.c - see shard.h: what control asks of a data-plane thread. All of it runs in that thread, in the order
 * asked. Tests: tests/unit/run_tunnel_test.c */
#include "run/shard_int.h"

#include "crypto/crypto.h"
#include "os/steer.h"
#include "run/link.h"
#include "run/steer.h"

#include <stdlib.h>

/* --- which queue of TUN packets come through --- */

static void steer_allowed(const struct run_shard *t, const uint8_t key[NB_KEY_LEN], const struct nb_prefix *prefix)
{
	if (t->steer >= 0)
		os_steer_set(t->steer, prefix, wg_home(key, t->path.shards));
}

static void steer_disallowed(const struct run_shard *t, const struct nb_prefix *prefix)
{
	if (t->steer >= 0)
		os_steer_clear(t->steer, prefix);
}

/* The peer loses all its prefixes. */
static void steer_forget(const struct run_shard *t, const struct wg_peer *p)
{
	struct nb_prefix some[32];
	size_t n, at = 0;

	while (t->steer >= 0 && (n = wg_peer_allowed(t->path.wg, p, at, some, 32)) != 0) {
		for (size_t i = 0; i < n; i++)
			os_steer_clear(t->steer, &some[i]);
		at += n;
	}
}

/* --- commands --- */

static void peer_set(struct run_shard *t, const struct run_command *c, struct nb_time now)
{
	const struct run_tunnel_peer *s = &c->peer;
	const struct nb_prefix *prefixes = (const struct nb_prefix *)c->bytes;
	struct wg_peer *p = wg_peer_find(t->path.wg, s->key);

	if (!p && (s->update_only || wg_peer_add(t->path.wg, s->key, &p)))
		return;
	if (s->replace_allowed) {
		steer_forget(t, p);
		wg_peer_disallow_all(t->path.wg, p);
	}
	for (size_t i = 0; i < c->n; i++)
		if (!wg_peer_allow(t->path.wg, p, &prefixes[i]))
			steer_allowed(t, s->key, &prefixes[i]);
	/* The rest is for the thread where the peer is at home. */
	if (wg_home(s->key, t->path.shards) != t->path.shard)
		return;
	if (s->set_psk)
		wg_peer_set_psk(t->path.wg, p, s->psk);
	if (s->set_endpoint)
		wg_peer_set_endpoint(t->path.wg, p, &s->ep, now);
	if (s->set_keepalive)
		wg_peer_set_keepalive(t->path.wg, p, s->keepalive, now);
}

static void peer_remove(struct run_shard *t, struct wg_peer *p)
{
	if (t->stats && t->stats_peer == p)
		run_shard_stats_advance(t);
	steer_forget(t, p);
	wg_peer_remove(t->path.wg, p);
}

static void peer_command(struct run_shard *t, const struct run_command *c, struct nb_time now)
{
	struct wg_peer *p = wg_peer_find(t->path.wg, c->key);
	const struct nb_prefix *prefixes = (const struct nb_prefix *)c->bytes;

	if (!p)
		return;
	switch (c->kind) {
	case RUN_CMD_PEER_REMOVE:
		peer_remove(t, p);
		break;
	case RUN_CMD_PEER_RESET:
		wg_peer_reset(t->path.wg, p);
		break;
	case RUN_CMD_PEER_DISALLOW:
		for (size_t i = 0; i < c->n; i++)
			if (!wg_peer_disallow(t->path.wg, p, &prefixes[i]))
				steer_disallowed(t, &prefixes[i]);
		break;
	default:
		wg_peer_set_endpoint(t->path.wg, p, &c->ep, now);
		if (c->flag)
			wg_peer_handshake(t->path.wg, p, true, now);
		break;
	}
}

static void private_key(struct run_shard *t, const struct run_command *c)
{
	/* The peer with this key goes; the position in the statistics must not point to it. */
	uint8_t pub[NB_KEY_LEN];
	struct wg_peer *self;

	nbc_x25519_base(pub, c->key);
	self = wg_peer_find(t->path.wg, pub);
	if (self)
		peer_remove(t, self);
	wg_set_private_key(t->path.wg, c->key);
}

/* Sockets in place of those in use. */
static void use_udp(struct run_shard *t, const struct os_dgram_pair *fresh)
{
	os_dgram_close(&t->path.udp);
	run_path_set_udp(&t->path, fresh);
	atomic_store(&t->port, fresh->port);
}

static int open_port(struct run_shard *t, uint16_t port)
{
	struct os_dgram_pair pair[WG_SHARDS_MAX], *next[WG_SHARDS_MAX] = { 0 };
	unsigned length;
	const struct sock_filter *pick = run_steer(&length);
	int err = 0;

	for (unsigned i = 1; i < t->shards && !err; i++) {
		next[i] = malloc(sizeof *next[i]);
		err = next[i] ? 0 : NB_E_NOMEM;
	}
	if (!err)
		err = os_dgram_open_group(pair, t->shards, port, t->fwmark, t->udp_wanted, pick, length);
	for (unsigned i = 1; i < t->shards; i++) {
		if (!err) {
			*next[i] = pair[i];
			next[i] = atomic_exchange(&t->all[i]->udp_next, next[i]);
			run_kick(t->all[i]->command_fd);
			if (next[i])
				os_dgram_close(next[i]);
		}
		free(next[i]);
	}
	if (!err)
		use_udp(t, &pair[0]);
	return err;
}

/* The first thread opened another port. */
void run_shard_udp_take(struct run_shard *t)
{
	struct os_dgram_pair *fresh;

	if (!atomic_load_explicit(&t->udp_next, memory_order_relaxed))
		return;
	fresh = atomic_exchange(&t->udp_next, NULL);
	if (!fresh)
		return;
	/* The mark may have changed here since the other thread opened it. */
	os_dgram_set_mark(fresh, t->fwmark);
	use_udp(t, fresh);
	free(fresh);
}

static void change_port(struct run_shard *t, uint16_t port)
{
	t->port_done = true;
	t->port_err = port && port == t->path.udp.port ? 0 : open_port(t, port);
}

static void link_command(struct run_shard *t, const struct run_command *c)
{
	struct nb_bytes bytes = nb_bytes(c->bytes, c->n);
	struct run_link_parts parts;

	switch (c->kind) {
	case RUN_CMD_LINK_ADD:
		memcpy(&parts, c->bytes, sizeof parts);
		run_links_add(t->links, c->value, c->flag ? RUN_LINK_TURN : RUN_LINK_RELAY, parts.fd, parts.tls);
		break;
	case RUN_CMD_LINK_DROP:
		run_links_drop(t->links, c->value);
		break;
	case RUN_CMD_LINK_SEND:
		run_links_say(t->links, c->value, bytes);
		break;
	default:
		if (c->flag)
			run_links_channel_add(t->links, c->value, c->ep.id, bytes);
		else
			run_links_channel_remove(t->links, c->ep.id);
		break;
	}
}

static void command_run(struct run_shard *t, struct run_command *c, struct nb_time now)
{
	switch (c->kind) {
	case RUN_CMD_PEER_SET:
		peer_set(t, c, now);
		break;
	case RUN_CMD_PEER_REMOVE:
	case RUN_CMD_PEER_DISALLOW:
	case RUN_CMD_PEER_RESET:
	case RUN_CMD_ENDPOINT:
		peer_command(t, c, now);
		break;
	case RUN_CMD_SEND:
		run_path_send(&t->path, &c->to, &c->from, c->bytes, c->n);
		break;
	case RUN_CMD_DELIVER:	/* run_shard_commands_run() has them */
		break;
	case RUN_CMD_TURN_ADD:
	case RUN_CMD_TURN_REMOVE:
		run_path_turn(&t->path, &c->to, c->kind == RUN_CMD_TURN_ADD);
		break;
	case RUN_CMD_PRIVATE_KEY:
		private_key(t, c);
		break;
	case RUN_CMD_FWMARK:
		t->fwmark = c->value;
		if (os_dgram_set_mark(&t->path.udp, c->value))
			t->path.udp_errors++;
		break;
	case RUN_CMD_PORT:
		change_port(t, (uint16_t)c->value);
		break;
	case RUN_CMD_PEERS_CLEAR:
		t->stats_peer = NULL;
		wg_peers_clear(t->path.wg);
		if (t->steer >= 0)
			os_steer_clear_all(t->steer);
		break;
	case RUN_CMD_LINK_ADD:
	case RUN_CMD_LINK_DROP:
	case RUN_CMD_LINK_SEND:
	case RUN_CMD_LINK_CHANNEL:
		link_command(t, c);
		break;
	}
}

size_t run_command_extra(const struct run_command *c)
{
	bool prefixes = c->kind == RUN_CMD_PEER_SET || c->kind == RUN_CMD_PEER_DISALLOW;

	return prefixes ? c->n * sizeof(struct nb_prefix) : c->n;
}

void run_command_free(struct run_command *c)
{
	nb_wipe(c, sizeof *c + run_command_extra(c));
	free(c);
}

struct run_command *run_shard_command_take(struct run_shard *t)
{
	unsigned tail = atomic_load_explicit(&t->command_tail, memory_order_relaxed);
	struct run_command *c;

	if (tail == atomic_load_explicit(&t->command_head, memory_order_acquire))
		return NULL;
	c = atomic_load_explicit(&t->commands[tail % COMMANDS], memory_order_relaxed);
	atomic_store_explicit(&t->command_tail, tail + 1, memory_order_release);
	return c;
}

/* Messages that came elsewhere are opened together, as those of a socket are. */
struct delivery {
	struct run_command *c[DELIVERIES];
	struct wg_pkt k[DELIVERIES];
	size_t n;
};

static void deliver(struct run_shard *t, struct delivery *d)
{
	if (d->n)
		run_path_deliver(&t->path, d->k, d->n);
	for (size_t i = 0; i < d->n; i++)
		free(d->c[i]);
	d->n = 0;
}

static void deliver_add(struct run_shard *t, struct delivery *d, struct run_command *c)
{
	d->c[d->n] = c;
	d->k[d->n++] = (struct wg_pkt){ .buf = c->bytes, .cap = c->n, .p = c->bytes, .n = c->n, .ep = c->ep };
	if (d->n == DELIVERIES)
		deliver(t, d);
}

void run_shard_commands_run(struct run_shard *t, struct nb_time now)
{
	struct delivery d;
	struct run_command *c;

	d.n = 0;
	while ((c = run_shard_command_take(t)) != NULL) {
		if (c->kind == RUN_CMD_DELIVER) {
			deliver_add(t, &d, c);
			continue;
		}
		deliver(t, &d);
		command_run(t, c, now);
		run_command_free(c);
	}
	deliver(t, &d);
}
