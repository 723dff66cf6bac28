/* device.c - the device: messages in, messages out. Finds out what a message is and who it is from,
 * has it opened or sealed in batches, and tells timers.c what happened. Sending order per peer is kept:
 * while packets wait, newer ones wait behind them. Tests: tests/unit/wg_device_test.c */
#include "wg/wg_int.h"

#include <stdlib.h>

#define BATCH 64	/* messages given to the cipher at once */

/* --- life --- */

size_t wg_stage_room(const struct wg_dev *d)
{
	return (sizeof(struct wg_staged) + d->cfg.mtu + 15) & ~(size_t)15;
}

int wg_new(struct wg_dev **out, const struct wg_config *cfg, struct nb_time now, struct nb_wall wall)
{
	struct wg_dev *d;
	uint8_t seed[16];

	*out = NULL;
	if (!cfg->random || cfg->max_peers > WG_PEERS_MAX || cfg->mtu > 65535 || cfg->shards > WG_SHARDS_MAX ||
	    (cfg->shard && cfg->shard >= cfg->shards))
		return NB_E_ARG;
	d = calloc(1, sizeof *d);
	if (!d)
		return NB_E_NOMEM;
	d->cfg = *cfg;
	nb_wipe(d->cfg.private_key, NB_KEY_LEN);
	if (!d->cfg.max_peers)
		d->cfg.max_peers = 4096;
	if (!d->cfg.max_staged)
		d->cfg.max_staged = 1024;
	if (!d->cfg.active_ms)
		d->cfg.active_ms = WG_ACTIVE_MS;
	if (!d->cfg.mtu)
		d->cfg.mtu = 1420;
	d->checker.burst = cfg->handshake_burst ? cfg->handshake_burst : 128;
	nb_list_init(&d->peers);
	nb_list_init(&d->elsewhere);
	nb_list_init(&d->pending);
	nb_list_init(&d->events);
	nb_list_init(&d->waiting);
	cfg->random(cfg->random_ctx, seed, sizeof seed);
	nb_map_init(&d->by_key, seed, d->cfg.max_peers);
	cfg->random(cfg->random_ctx, d->checker.hash_key, sizeof d->checker.hash_key);
	cfg->random(cfg->random_ctx, &d->jitter, sizeof d->jitter);
	d->checker.window = now;
	d->checker.load_until = now;
	d->stage_mem = malloc(d->cfg.max_staged * wg_stage_room(d));
	if (!d->stage_mem || wg_index_room(d, 1)) {
		wg_free(d);
		return NB_E_NOMEM;
	}
	d->tai_last = d->tai_reserved = cfg->tai_floor;
	wg_set_wall(d, now, wall);
	wg_self_set(&d->self, cfg->private_key);
	*out = d;
	return 0;
}

void wg_free(struct wg_dev *d)
{
	if (!d)
		return;
	wg_peers_clear(d);
	wg_bury(d);
	nb_map_fini(&d->by_key);
	free(d->index);
	free(d->heap);
	if (d->stage_mem)
		nb_wipe(d->stage_mem, d->stage_used * wg_stage_room(d));
	free(d->stage_mem);
	nb_wipe(d, sizeof *d);
	free(d);
}

void wg_set_private_key(struct wg_dev *d, const uint8_t key[NB_KEY_LEN])
{
	struct wg_peer *self;
	struct wg_self fresh;
	bool same;

	wg_self_set(&fresh, key);
	same = fresh.has == d->self.has && nb_equal_ct(fresh.priv, d->self.priv, NB_KEY_LEN);
	d->self = fresh;
	nb_wipe(&fresh, sizeof fresh);
	if (same)
		return;
	self = d->self.has ? wg_peer_find(d, d->self.pub) : NULL;
	if (self)
		wg_peer_remove(d, self);
	for (struct wg_peer *p = NULL; (p = wg_peer_next(d, p)) != NULL;) {
		wg_peer_reset(d, p);
		wg_stage_purge(d, p);
		/* A peer whose key is of small order just never completes a handshake. */
		wg_remote_set(&p->remote, &d->self, p->remote.pub);
	}
	d->control_n = 0;
}

void wg_private_key(const struct wg_dev *d, uint8_t out[NB_KEY_LEN])
{
	memcpy(out, d->self.priv, NB_KEY_LEN);
}

void wg_public_key(const struct wg_dev *d, uint8_t out[NB_KEY_LEN])
{
	memcpy(out, d->self.pub, NB_KEY_LEN);
}

void wg_set_wall(struct wg_dev *d, struct nb_time now, struct nb_wall wall)
{
	d->wall_offset = wall.ns - now.ns;
}

struct nb_wall wg_wall(const struct wg_dev *d, struct nb_time now)
{
	return (struct nb_wall){ now.ns + d->wall_offset };
}

const struct wg_counters *wg_counters(const struct wg_dev *d)
{
	return &d->counters;
}

void wg_tai_next(struct wg_dev *d, uint8_t tai[WG_TAI], struct nb_time now)
{
	/* The low 24 bits of the nanoseconds are cleared, not to be a precise clock for strangers. */
	const int64_t grain = 1 << 24;
	int64_t t = wg_wall(d, now).ns;

	t = t < 0 ? 0 : t;
	if (t <= d->tai_last.ns)
		t = d->tai_last.ns + grain;
	t -= t % NB_SEC % grain;
	if (t <= d->tai_last.ns)
		t += NB_SEC - t % NB_SEC;
	d->tai_last.ns = t;
	nb_put_be64(tai, 0x400000000000000aULL + (uint64_t)(t / NB_SEC));
	nb_put_be32(tai + 8, (uint32_t)(t % NB_SEC));
	if (t > d->tai_reserved.ns - WG_TAI_AHEAD / 2) {
		d->tai_reserved.ns = t + WG_TAI_AHEAD;
		d->tai_event = true;
	}
}

int wg_event(struct wg_dev *d, struct wg_event *ev)
{
	struct wg_peer *p;

	memset(ev, 0, sizeof *ev);
	if (d->tai_event) {
		d->tai_event = false;
		ev->kind = WG_EV_TAI;
		ev->tai = d->tai_reserved;
		return 1;
	}
	if (nb_list_empty(&d->events))
		return 0;
	p = nb_container(d->events.next, struct wg_peer, event_node);
	ev->kind = (uint8_t)__builtin_ctz(p->events);
	ev->peer = p;
	ev->ep = p->ep;
	p->events &= p->events - 1;
	if (!p->events)
		nb_list_del(&p->event_node);
	return 1;
}

/* --- framing --- */

bool wg_looks_like(struct nb_bytes in)
{
	if (in.n < WG_TRA_MIN || in.p[1] || in.p[2] || in.p[3])
		return false;
	switch (in.p[0]) {
	case WG_MSG_INITIATION:
		return in.n == WG_INI_LEN;
	case WG_MSG_RESPONSE:
		return in.n == WG_RES_LEN;
	case WG_MSG_COOKIE:
		return in.n == WG_COO_LEN;
	case WG_MSG_TRANSPORT:
		return true;
	default:
		return false;
	}
}

bool wg_is_transport(struct nb_bytes in)
{
	return in.p[0] == WG_MSG_TRANSPORT;
}

unsigned wg_message_shard(struct nb_bytes in, unsigned shards)
{
	unsigned at = 0;

	/* The receiver's index is little-endian: its low bits come first. */
	if (wg_looks_like(in) && in.p[0] != WG_MSG_INITIATION)
		at = in.p[in.p[0] == WG_MSG_RESPONSE ? WG_RES_RECEIVER : WG_TRA_RECEIVER] & 3;
	return at < shards ? at : 0;
}

/* The message at k->p,n is ready for ep: put the channel header in front where one belongs. */
static void to_wire(struct wg_pkt *k, const struct wg_ep *ep)
{
	if (ep->kind == WG_EP_TURN) {
		k->p -= WG_CHANNEL_HEADER;
		nb_put_be16(k->p, (uint16_t)ep->id);
		nb_put_be16(k->p + 2, (uint16_t)k->n);
		k->n += WG_CHANNEL_HEADER;
	}
	k->ep = *ep;
	k->verdict = WG_WIRE;
}

/* Inner packet: destination or source address, and the length its header names. False if malformed. */
static bool inner_parse(const uint8_t *p, size_t n, bool source, int *family, const uint8_t **addr, size_t *len)
{
	if (n >= 20 && p[0] >> 4 == 4) {
		*family = 4;
		*addr = p + (source ? 12 : 16);
		*len = nb_get_be16(p + 2);
		return *len >= 20 && *len <= n;
	}
	if (n >= 40 && p[0] >> 4 == 6) {
		*family = 6;
		*addr = p + (source ? 8 : 24);
		*len = 40 + (size_t)nb_get_be16(p + 4);
		return *len <= n;
	}
	return false;
}

/* The congestion bits of an inner packet, 20 bytes of it at least. */
static uint8_t inner_ecn(const uint8_t *p)
{
	return p[0] >> 4 == 6 ? p[1] >> 4 & 3 : p[1] & 3;
}

/* A router on the way marked the outer packet: pass it on to a flow that understands it (RFC 6040, 4.2; what a
 * flow does not understand is delivered unmarked, as WireGuard does). */
static void inner_mark(uint8_t *p)
{
	uint32_t sum;

	if (p[0] >> 4 == 6) {
		if (p[1] & 0x30)
			p[1] |= 0x30;
		return;
	}
	if (!(p[1] & 3) || (p[1] & 3) == 3)
		return;
	/* RFC 1624: ~(~sum + ~old + new) */
	sum = (uint16_t)~nb_get_be16(p + 10) + (uint32_t)(uint16_t)~nb_get_be16(p);
	p[1] |= 3;
	sum += nb_get_be16(p);
	sum = (sum >> 16) + (sum & 0xffff);
	nb_put_be16(p + 10, (uint16_t)~(sum + (sum >> 16)));
}

static struct wg_peer *inner_peer(const struct wg_dev *d, int family, const uint8_t *addr)
{
	return family == 4 ? wg_trie_find4(&d->trie, addr) : wg_trie_find6(&d->trie, addr);
}

unsigned wg_packet_shard(const struct wg_dev *d, struct nb_bytes packet)
{
	const uint8_t *addr;
	size_t len;
	int family;
	const struct wg_peer *p = NULL;

	if (inner_parse(packet.p, packet.n, false, &family, &addr, &len))
		p = inner_peer(d, family, addr);
	return p && p->elsewhere ? wg_home(p->remote.pub, d->cfg.shards) : d->cfg.shard;
}

/* --- sending --- */

/* Padding never goes beyond the MTU, nor is a packet cut that is larger. */
static size_t padded_length(const struct wg_dev *d, size_t n)
{
	size_t padded = (n + 15) & ~(size_t)15;

	if (padded <= d->cfg.mtu)
		return padded;
	return n > d->cfg.mtu ? n : d->cfg.mtu;
}

size_t wg_message_length(const struct wg_dev *d, size_t n)
{
	return WG_TRA_HEADER + padded_length(d, n) + WG_TAG;
}

/* Make a transport message around the n bytes at k->p, except for the cipher: that is op's to do. */
static void transport_frame(struct wg_dev *d, struct wg_peer *p, struct wg_pkt *k, struct wg_aead_op *op)
{
	struct wg_keypair *kp = p->current;
	size_t padded = padded_length(d, k->n);
	uint8_t *msg = k->p - WG_TRA_HEADER;

	k->ecn = k->n ? inner_ecn(k->p) : 0;
	p->tx_packets += k->n != 0;
	memset(k->p + k->n, 0, padded - k->n);
	*op = (struct wg_aead_op){ k->p, padded, kp->keys.send, kp->send_counter, false };
	nb_put_le32(msg, WG_MSG_TRANSPORT);
	nb_put_le32(msg + WG_TRA_RECEIVER, kp->remote_index);
	nb_put_le64(msg + WG_TRA_COUNTER, kp->send_counter++);
	k->p = msg;
	k->n = WG_TRA_HEADER + padded + WG_TAG;
	p->tx_bytes += k->n;
	to_wire(k, &p->ep);
}

/* After sending on the current key: is it time for a new one? (paper, 6.2) */
static void keep_fresh_sending(struct wg_dev *d, struct wg_peer *p, struct nb_time now)
{
	const struct wg_keypair *kp = p->current;

	if (kp->send_counter > WG_REKEY_AFTER_MESSAGES ||
	    (kp->initiator && nb_time_diff(now, kp->birth) >= WG_REKEY_AFTER_TIME))
		wg_want_handshake(d, p, false, false, now);
}

static void after_transport_sent(struct wg_dev *d, struct wg_peer *p, bool data, struct nb_time now)
{
	wg_timers_any_sent(d, p, now);
	if (data)
		wg_timers_data_sent(d, p, now);
	keep_fresh_sending(d, p, now);
}

static void wait_for_session(struct wg_dev *d, struct wg_peer *p, const uint8_t *pkt, size_t n, struct nb_time now)
{
	if (p->elsewhere) {
		/* The prefix moved while the packet was on its way here. */
		d->counters.no_route++;
		return;
	}
	wg_stage(d, p, pkt, n, now);
	if (p->ep.kind == WG_EP_NONE) {
		wg_raise_wanted(d, p, now);
		return;
	}
	if (!wg_keypair_sends(p->current, now))
		wg_want_handshake(d, p, false, false, now);
}

static bool send_one(struct wg_dev *d, struct wg_pkt *k, struct wg_aead_op *op, struct nb_time now)
{
	const uint8_t *addr;
	size_t len;
	int family;
	struct wg_peer *p;

	k->verdict = WG_DROP;
	if (!inner_parse(k->p, k->n, false, &family, &addr, &len)) {
		d->counters.no_route++;
		return false;
	}
	p = inner_peer(d, family, addr);
	k->peer = p;
	if (!p) {
		d->counters.no_route++;
		return false;
	}
	if (p->nstaged || p->ep.kind == WG_EP_NONE || !wg_keypair_sends(p->current, now)) {
		wait_for_session(d, p, k->p, k->n, now);
		return false;
	}
	transport_frame(d, p, k, op);
	after_transport_sent(d, p, true, now);
	return true;
}

void wg_send(struct wg_dev *d, struct wg_pkt *pkts, size_t count, struct nb_time now)
{
	struct wg_aead_op ops[BATCH];
	size_t nops = 0;

	for (size_t i = 0; i < count; i++) {
		if (send_one(d, &pkts[i], &ops[nops], now) && ++nops == BATCH) {
			wg_aead()->seal(ops, nops);
			nops = 0;
		}
	}
	if (nops)
		wg_aead()->seal(ops, nops);
}

/* --- receiving --- */

/* The source of an authenticated message becomes the endpoint, except that a relayed message does not draw
 * traffic away from a better kind of path: only control decides to go back. */
static void roam(struct wg_dev *d, struct wg_peer *p, const struct wg_ep *from, struct nb_time now)
{
	struct wg_ep *ep = &p->ep;
	bool found = ep->kind == WG_EP_NONE;

	if (from->kind == ep->kind && from->id == ep->id && nb_endpoint_eq(&from->remote, &ep->remote)) {
		ep->local = from->local;
		wg_timers_path_heard(p);
		return;
	}
	if (from->kind < ep->kind)
		return;
	wg_timers_path_heard(p);
	/* What waited for a way has one. */
	if (ep->kind == WG_EP_NONE && p->nstaged)
		wg_pend(d, p, WG_P_FLUSH);
	*ep = *from;
	wg_raise(d, p, WG_EV_ROAMED);
	/* What waited for an endpoint would stand in the way of all that follows. */
	if (found && p->nstaged && wg_keypair_sends(p->current, now))
		wg_pend(d, p, WG_P_FLUSH);
	else if (found && p->nstaged)
		wg_want_handshake(d, p, false, false, now);
}

static struct wg_control *control_slot(struct wg_dev *d, const struct wg_ep *ep, size_t n)
{
	struct wg_control *c;

	if (d->control_n == WG_CONTROLS)
		return NULL;
	c = &d->controls[(d->control_head + d->control_n++) % WG_CONTROLS];
	c->ep = *ep;
	c->n = n;
	return c;
}

/* A session exists: packets that waited may go; if there are none an initiator proves the key by a keepalive. */
static void session_usable(struct wg_dev *d, struct wg_peer *p, bool prove)
{
	if (p->nstaged)
		wg_pend(d, p, WG_P_FLUSH);
	else if (prove)
		wg_pend(d, p, WG_P_KEEPALIVE);
}

/* Answer the initiation in n. */
static int respond(struct wg_dev *d, struct wg_peer *p, struct wg_noise *n, const struct wg_ep *from, struct nb_time now)
{
	struct wg_control *c = control_slot(d, from, WG_RES_LEN);
	struct wg_session_keys keys;
	struct wg_keypair *kp = NULL;
	uint8_t eph[32];
	uint32_t remote = n->remote_index;
	int err = NB_E_FULL;

	if (!c)
		return err;
	memset(&keys, 0, sizeof keys);
	kp = wg_keypair_new(p, &keys, false, now);
	if (!kp) {
		d->control_n--;
		return NB_E_NOMEM;
	}
	/* Room in the index table: the slots of what this replaces come free first. */
	wg_keypair_retire(d, p->next);
	kp->local_index = wg_index_new(d, p, kp);
	d->cfg.random(d->cfg.random_ctx, eph, sizeof eph);
	err = wg_create_response(c->msg, &kp->keys, n, &p->remote, kp->local_index, eph);
	nb_wipe(eph, sizeof eph);
	if (err) {
		wg_keypair_retire(d, kp);
		d->control_n--;
		return err;
	}
	kp->remote_index = remote;
	wg_add_macs(c->msg, WG_RES_LEN, &p->jar, &p->remote, now);
	wg_keypair_install(d, p, kp);
	p->last_sent_handshake = now;
	p->ever_sent_handshake = true;
	p->tx_bytes += WG_RES_LEN;
	wg_timers_session(d, p, now);
	wg_timers_any_sent(d, p, now);
	return 0;
}

/* Stock sends two initiations with one time stamp at once when it gets a path (its clock stamp is coarse),
 * and only the second has live state there (spec/peer-connection.md 4.4). A different initiation with the
 * stamp of the last one is taken if it comes right behind it, once: replaying the pair gains nothing. */
static bool is_twin(const struct wg_peer *p, const uint8_t tai[WG_TAI], const uint8_t *msg, struct nb_time now)
{
	return !p->twin_consumed && !memcmp(tai, p->last_tai, WG_TAI) &&
	       memcmp(msg + WG_INI_EPHEMERAL, p->last_ephemeral, sizeof p->last_ephemeral) &&
	       nb_time_diff(now, p->last_consumed) < WG_INITIATION_GAP;
}

static void initiation_in(struct wg_dev *d, struct wg_pkt *k, struct nb_time now)
{
	struct wg_noise n;
	struct wg_peer *p = NULL;
	uint8_t pub[32], tai[WG_TAI];
	bool ok = false, twin;

	if (d->control_n == WG_CONTROLS)
		return;
	if (wg_consume_initiation_static(&n, pub, &d->self, k->p))
		goto out;
	p = wg_peer_find(d, pub);
	if (p && p->elsewhere && !k->admitted) {
		k->verdict = WG_ELSEWHERE;
		k->shard = (uint8_t)wg_home(pub, d->cfg.shards);
		ok = true;
		goto out;
	}
	if (!p || p->elsewhere || wg_consume_initiation(&n, tai, &p->remote, k->p))
		goto out;
	twin = p->ever_consumed && is_twin(p, tai, k->p, now);
	if (p->ever_consumed && !twin && (memcmp(tai, p->last_tai, WG_TAI) <= 0 ||
					  nb_time_diff(now, p->last_consumed) < WG_INITIATION_GAP))
		goto out;
	p->twin_consumed = twin;
	memcpy(p->last_tai, tai, WG_TAI);
	memcpy(p->last_ephemeral, k->p + WG_INI_EPHEMERAL, sizeof p->last_ephemeral);
	p->last_consumed = now;
	p->ever_consumed = true;
	p->rx_bytes += k->n;
	roam(d, p, &k->ep, now);
	wg_timers_any_received(d, p, now);
	ok = respond(d, p, &n, &k->ep, now) == 0;
out:
	if (!ok)
		d->counters.bad_handshake++;
	nb_wipe(&n, sizeof n);
}

static void response_in(struct wg_dev *d, const struct wg_pkt *k, struct nb_time now)
{
	struct wg_index *e = wg_index_find(d, nb_get_le32(k->p + WG_RES_RECEIVER));
	struct wg_session_keys keys;
	struct wg_keypair *kp;
	struct wg_peer *p;

	if (!e || e->kp || wg_consume_response(&keys, &e->peer->noise, &d->self, &e->peer->remote, k->p)) {
		d->counters.bad_handshake++;
		return;
	}
	p = e->peer;
	p->initiating = false;
	kp = wg_keypair_new(p, &keys, true, now);
	nb_wipe(&keys, sizeof keys);
	if (!kp) {
		wg_index_del(d, p->noise_index);
		return;
	}
	/* The index stays, now for the session. */
	e->kp = kp;
	kp->local_index = e->index;
	kp->remote_index = nb_get_le32(k->p + WG_RES_SENDER);
	wg_keypair_install(d, p, kp);
	p->rx_bytes += k->n;
	roam(d, p, &k->ep, now);
	wg_timers_any_received(d, p, now);
	wg_timers_session(d, p, now);
	wg_timers_complete(d, p, now);
	session_usable(d, p, true);
}

static void cookie_in(struct wg_dev *d, const struct wg_pkt *k, struct nb_time now)
{
	struct wg_index *e = wg_index_find(d, nb_get_le32(k->p + WG_COO_RECEIVER));

	if (!e || wg_consume_cookie(&e->peer->jar, &e->peer->remote, k->p, now)) {
		d->counters.bad_handshake++;
		return;
	}
	e->peer->rx_bytes += k->n;
	if (!e->kp)
		wg_timers_cookie(d, e->peer, now);
}

/* mac1; then, under load, mac2 and the source's rate (paper, 5.3). */
static bool admit(struct wg_dev *d, const struct wg_pkt *k, struct nb_time now)
{
	struct wg_control *c;

	if (!wg_mac1_ok(&d->self, k->p, k->n)) {
		d->counters.bad_mac++;
		return false;
	}
	if (!wg_under_load(&d->checker, now))
		return true;
	if (wg_mac2_ok(&d->checker, k->p, k->n, &k->ep, now, d->cfg.random, d->cfg.random_ctx)) {
		if (wg_rate_allow(&d->checker, &k->ep, now))
			return true;
		d->counters.rate_limited++;
		return false;
	}
	c = control_slot(d, &k->ep, WG_COO_LEN);
	if (c) {
		wg_create_cookie(c->msg, &d->checker, &d->self, k->p, k->n, &k->ep, now, d->cfg.random,
				 d->cfg.random_ctx);
		d->counters.cookies_sent++;
	}
	return false;
}

static void handshake_in(struct wg_dev *d, struct wg_pkt *k, struct nb_time now)
{
	switch (k->p[0]) {
	case WG_MSG_INITIATION:
		if (k->admitted || admit(d, k, now))
			initiation_in(d, k, now);
		break;
	case WG_MSG_RESPONSE:
		if (admit(d, k, now))
			response_in(d, k, now);
		break;
	default:
		cookie_in(d, k, now);
		break;
	}
}

struct open_job {
	struct wg_pkt *k;
	struct wg_keypair *kp;
};

/* Find the key for a transport message. */
static bool transport_in(struct wg_dev *d, struct wg_pkt *k, struct open_job *job, struct wg_aead_op *op, struct nb_time now)
{
	struct wg_index *e = wg_index_find(d, nb_get_le32(k->p + WG_TRA_RECEIVER));
	struct wg_keypair *kp = e ? e->kp : NULL;

	if (!kp || nb_time_diff(now, kp->birth) >= WG_REJECT_AFTER_TIME) {
		d->counters.bad_transport++;
		return false;
	}
	*job = (struct open_job){ k, kp };
	*op = (struct wg_aead_op){ k->p + WG_TRA_HEADER, k->n - WG_TRA_MIN, kp->keys.recv,
				   nb_get_le64(k->p + WG_TRA_COUNTER), false };
	return true;
}

/* A key of ours grew old while only receiving: renew it once, in time (paper, 6.2). */
static void keep_fresh_receiving(struct wg_dev *d, struct wg_peer *p, struct nb_time now)
{
	struct wg_keypair *kp = p->current;

	if (kp && kp->initiator && !kp->fresh_asked &&
	    nb_time_diff(now, kp->birth) >= WG_REJECT_AFTER_TIME - WG_KEEPALIVE_TIMEOUT - WG_REKEY_TIMEOUT) {
		kp->fresh_asked = true;
		wg_want_handshake(d, p, false, false, now);
	}
}

/* What remains once the cipher has run: replay, roaming, inner address. */
static void transport_opened(struct wg_dev *d, const struct open_job *job, const struct wg_aead_op *op, struct nb_time now)
{
	struct wg_pkt *k = job->k;
	struct wg_keypair *kp = job->kp;
	struct wg_peer *p = kp->peer;
	const uint8_t *addr;
	size_t len;
	int family;

	if (!op->ok || kp->retired) {
		d->counters.bad_transport++;
		return;
	}
	if (!wg_window_accept(&kp->window, op->counter)) {
		d->counters.replayed++;
		return;
	}
	p->rx_bytes += k->n;
	roam(d, p, &k->ep, now);
	if (wg_keypair_confirmed(d, p, kp)) {
		wg_timers_complete(d, p, now);
		session_usable(d, p, false);
	}
	wg_keypair_converge(d, p, kp);
	wg_timers_any_received(d, p, now);
	keep_fresh_receiving(d, p, now);
	if (op->n == 0)
		return;
	wg_timers_data_received(d, p, now);
	if (!inner_parse(op->p, op->n, true, &family, &addr, &len) || inner_peer(d, family, addr) != p) {
		d->counters.bad_inner++;
		return;
	}
	p->last_rx_data = now;
	p->rx_packets++;
	if (k->ecn == 3)
		inner_mark(op->p);
	k->p = op->p;
	k->n = len;
	k->peer = p;
	k->verdict = WG_INNER;
}

static void open_batch(struct wg_dev *d, const struct open_job *jobs, struct wg_aead_op *ops, size_t n, struct nb_time now)
{
	if (!n)
		return;
	wg_aead()->open(ops, n);
	for (size_t i = 0; i < n; i++)
		transport_opened(d, &jobs[i], &ops[i], now);
}

void wg_input(struct wg_dev *d, struct wg_pkt *pkts, size_t count, struct nb_time now)
{
	struct open_job jobs[BATCH];
	struct wg_aead_op ops[BATCH];
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		struct wg_pkt *k = &pkts[i];

		k->verdict = WG_DROP;
		k->peer = NULL;
		if (!d->self.has || !wg_looks_like(nb_bytes(k->p, k->n))) {
			d->counters.bad_message++;
			continue;
		}
		if (k->p[0] == WG_MSG_TRANSPORT) {
			if (transport_in(d, k, &jobs[n], &ops[n], now) && ++n == BATCH) {
				open_batch(d, jobs, ops, n, now);
				n = 0;
			}
			continue;
		}
		/* Order matters: what came before may confirm or need the keys this one replaces. */
		open_batch(d, jobs, ops, n, now);
		n = 0;
		handshake_in(d, k, now);
	}
	open_batch(d, jobs, ops, n, now);
	wg_bury(d);
}

/* --- what goes out by itself --- */

static int put_control(struct wg_dev *d, struct wg_pkt *pkt)
{
	struct wg_control *c = &d->controls[d->control_head];

	d->control_head = (d->control_head + 1) % WG_CONTROLS;
	d->control_n--;
	memcpy(pkt->p, c->msg, c->n);
	pkt->n = c->n;
	to_wire(pkt, &c->ep);
	return 1;
}

static int put_initiation(struct wg_dev *d, struct wg_peer *p, struct wg_pkt *pkt, struct nb_time now)
{
	uint8_t tai[WG_TAI], eph[32];
	int err;

	if (p->ep.kind == WG_EP_NONE)
		return 0;
	wg_handshake_clear(d, p);
	p->noise_index = wg_index_new(d, p, NULL);
	p->initiating = true;
	wg_tai_next(d, tai, now);
	d->cfg.random(d->cfg.random_ctx, eph, sizeof eph);
	err = wg_create_initiation(pkt->p, &p->noise, &d->self, &p->remote, p->noise_index, tai, eph);
	nb_wipe(eph, sizeof eph);
	p->last_sent_handshake = now;
	p->ever_sent_handshake = true;
	wg_timers_initiated(d, p, now);
	if (err) {
		wg_handshake_clear(d, p);
		return 0;
	}
	wg_add_macs(pkt->p, WG_INI_LEN, &p->jar, &p->remote, now);
	pkt->n = WG_INI_LEN;
	p->tx_bytes += WG_INI_LEN;
	wg_timers_any_sent(d, p, now);
	to_wire(pkt, &p->ep);
	return 1;
}

static int put_transport(struct wg_dev *d, struct wg_peer *p, struct wg_pkt *pkt, bool data, struct nb_time now)
{
	struct wg_aead_op op;

	transport_frame(d, p, pkt, &op);
	wg_aead()->seal(&op, 1);
	after_transport_sent(d, p, data, now);
	return 1;
}

static int put_keepalive(struct wg_dev *d, struct wg_peer *p, struct wg_pkt *pkt, struct nb_time now)
{
	if (p->ep.kind == WG_EP_NONE)
		return 0;
	if (!wg_keypair_sends(p->current, now)) {
		wg_want_handshake(d, p, false, false, now);
		return 0;
	}
	pkt->n = 0;
	put_transport(d, p, pkt, false, now);
	wg_timers_keepalive_sent(d, p, now);
	return 1;
}

/* One packet that waited; the peer stays in line while there are more. */
static int put_staged(struct wg_dev *d, struct wg_peer *p, struct wg_pkt *pkt, struct nb_time now)
{
	struct wg_staged *s;

	if (p->ep.kind == WG_EP_NONE)
		return 0;
	if (!wg_keypair_sends(p->current, now)) {
		if (p->nstaged)
			wg_want_handshake(d, p, false, false, now);
		return 0;
	}
	while ((s = wg_unstage(p)) != NULL) {
		bool stale = nb_time_diff(now, s->when) > WG_REKEY_ATTEMPT_TIME;

		pkt->n = s->n;
		memcpy(pkt->p, s->buf, s->n);
		wg_stage_free(d, s);
		if (!stale)
			break;
		d->counters.staged_drop++;
	}
	if (p->nstaged)
		wg_pend(d, p, WG_P_FLUSH);
	return s ? put_transport(d, p, pkt, true, now) : 0;
}

static int put_pending(struct wg_dev *d, struct wg_peer *p, struct wg_pkt *pkt, struct nb_time now)
{
	unsigned bit = p->pending & -p->pending;

	p->pending &= ~bit;
	if (!p->pending)
		nb_list_del(&p->pending_node);
	switch (bit) {
	case WG_P_INITIATION:
		return put_initiation(d, p, pkt, now);
	case WG_P_KEEPALIVE:
		return put_keepalive(d, p, pkt, now);
	default:
		return put_staged(d, p, pkt, now);
	}
}

int wg_output(struct wg_dev *d, struct wg_pkt *pkt, struct nb_time now)
{
	wg_timers_run(d, now);
	pkt->peer = NULL;
	pkt->verdict = WG_DROP;
	pkt->ecn = 0;
	pkt->p = pkt->buf + WG_HEADROOM;
	pkt->n = 0;
	if (d->control_n)
		return put_control(d, pkt);
	while (!nb_list_empty(&d->pending)) {
		struct wg_peer *p = nb_container(d->pending.next, struct wg_peer, pending_node);

		pkt->p = pkt->buf + WG_HEADROOM;
		if (d->self.has && put_pending(d, p, pkt, now)) {
			pkt->peer = p;
			return 1;
		}
		if (!d->self.has) {
			p->pending = 0;
			nb_list_del(&p->pending_node);
		}
	}
	return 0;
}

struct nb_time wg_deadline(const struct wg_dev *d)
{
	if (d->control_n || !nb_list_empty(&d->pending))
		return (struct nb_time){ 0 };
	return wg_timers_deadline(d);
}
