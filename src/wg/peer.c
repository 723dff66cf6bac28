/* peer.c - peers, their key pairs, waiting packets, and the table of receiver indices.
 * What goes on the wire and when is decided in device.c and timers.c.
 * Tests: tests/unit/wg_device_test.c */
#include "wg/wg_int.h"

#include <stdlib.h>

/* --- receiver indices: open addressing, at most half full --- */

static size_t index_home(const struct wg_dev *d, uint32_t index)
{
	/* Indices are random already, but for two bits. */
	return index >> 2 & (d->index_size - 1);
}

struct wg_index *wg_index_find(struct wg_dev *d, uint32_t index)
{
	for (size_t i = index_home(d, index); d->index[i].peer; i = (i + 1) & (d->index_size - 1))
		if (d->index[i].index == index)
			return &d->index[i];
	return NULL;
}

static void index_put(struct wg_dev *d, struct wg_index e)
{
	size_t i = index_home(d, e.index);

	while (d->index[i].peer)
		i = (i + 1) & (d->index_size - 1);
	d->index[i] = e;
}

uint32_t wg_index_new(struct wg_dev *d, struct wg_peer *p, struct wg_keypair *kp)
{
	uint32_t index;

	/* Zero and STUN's magic cookie (as it would lie in a message) are left out: both mislead other readers. */
	do {
		d->cfg.random(d->cfg.random_ctx, &index, sizeof index);
		if (d->cfg.shards > 1)
			index = (index & ~3u) | d->cfg.shard;
	} while (index == 0 || index == 0x42a41221 || wg_index_find(d, index));
	index_put(d, (struct wg_index){ index, p, kp });
	return index;
}

void wg_index_del(struct wg_dev *d, uint32_t index)
{
	struct wg_index *e = wg_index_find(d, index);
	size_t mask = d->index_size - 1, hole, i;

	if (!e)
		return;
	hole = (size_t)(e - d->index);
	/* Close the gap: move back entries whose home lies at or before it. */
	for (i = (hole + 1) & mask; d->index[i].peer; i = (i + 1) & mask) {
		if (((i - index_home(d, d->index[i].index)) & mask) >= ((i - hole) & mask)) {
			d->index[hole] = d->index[i];
			hole = i;
		}
	}
	memset(&d->index[hole], 0, sizeof d->index[hole]);
}

int wg_index_room(struct wg_dev *d, size_t count)
{
	/* Four per peer: one handshake, three key pairs. */
	size_t want = d->index_size ? d->index_size : 64, old_size = d->index_size;
	struct wg_index *old = d->index;

	while (want < 8 * count)
		want *= 2;
	if (want == old_size)
		return 0;
	d->index = calloc(want, sizeof *d->index);
	if (!d->index) {
		d->index = old;
		return NB_E_NOMEM;
	}
	d->index_size = want;
	for (size_t i = 0; i < old_size; i++)
		if (old[i].peer)
			index_put(d, old[i]);
	free(old);
	return 0;
}

/* --- key pairs --- */

struct wg_keypair *wg_keypair_new(struct wg_peer *p, const struct wg_session_keys *keys, bool initiator, struct nb_time now)
{
	struct wg_keypair *kp = calloc(1, sizeof *kp);

	if (!kp)
		return NULL;
	kp->keys = *keys;
	kp->peer = p;
	kp->initiator = initiator;
	kp->birth = now;
	return kp;
}

void wg_keypair_retire(struct wg_dev *d, struct wg_keypair *kp)
{
	if (!kp)
		return;
	if (kp->peer->current == kp)
		kp->peer->current = NULL;
	if (kp->peer->previous == kp)
		kp->peer->previous = NULL;
	if (kp->peer->next == kp)
		kp->peer->next = NULL;
	wg_index_del(d, kp->local_index);
	nb_wipe(&kp->keys, sizeof kp->keys);
	kp->retired = true;
	kp->dead_next = d->dead;
	d->dead = kp;
}

void wg_bury(struct wg_dev *d)
{
	while (d->dead) {
		struct wg_keypair *kp = d->dead;

		d->dead = kp->dead_next;
		nb_wipe(kp, sizeof *kp);
		free(kp);
	}
}

void wg_keypair_install(struct wg_dev *d, struct wg_peer *p, struct wg_keypair *kp)
{
	if (!kp->initiator) {
		/* Unproven until the initiator uses it; an older unproven one was in vain. */
		wg_keypair_retire(d, p->next);
		p->next = kp;
		return;
	}
	/* Ours is proven by the response. Messages on what was in use may still be under way. */
	wg_keypair_retire(d, p->previous);
	if (p->next) {
		p->previous = p->next;
		p->previous->crossed = true;
		p->next = NULL;
		wg_keypair_retire(d, p->current);
	} else {
		p->previous = p->current;
	}
	p->current = kp;
}

bool wg_keypair_confirmed(struct wg_dev *d, struct wg_peer *p, struct wg_keypair *kp)
{
	if (p->next != kp)
		return false;
	wg_keypair_retire(d, p->previous);
	p->previous = p->current;
	p->current = kp;
	p->next = NULL;
	return true;
}

void wg_keypair_converge(struct wg_dev *d, struct wg_peer *p, struct wg_keypair *kp)
{
	if (!kp->crossed || p->previous != kp || memcmp(d->self.pub, p->remote.pub, 32) > 0)
		return;
	kp->crossed = false;
	p->previous = p->current;
	p->current = kp;
}

bool wg_keypair_sends(const struct wg_keypair *kp, struct nb_time now)
{
	return kp && nb_time_diff(now, kp->birth) < WG_REJECT_AFTER_TIME && kp->send_counter < WG_REJECT_AFTER_MESSAGES;
}

void wg_handshake_clear(struct wg_dev *d, struct wg_peer *p)
{
	if (!p->initiating)
		return;
	wg_index_del(d, p->noise_index);
	nb_wipe(&p->noise, sizeof p->noise);
	p->initiating = false;
}

/* --- waiting packets: fixed places, shared by all peers --- */

void wg_stage_free(struct wg_dev *d, struct wg_staged *s)
{
	s->next = d->free_staged;
	d->free_staged = s;
}

struct wg_staged *wg_unstage(struct wg_peer *p)
{
	struct wg_staged *s = p->staged_head;

	if (!s)
		return NULL;
	p->staged_head = s->next;
	if (!s->next)
		p->staged_tail = &p->staged_head;
	if (!--p->nstaged)
		nb_list_del(&p->waiting_node);
	return s;
}

/* A place that was used before, else one whose memory was never touched. */
static struct wg_staged *stage_place(struct wg_dev *d)
{
	struct wg_staged *s = d->free_staged;

	if (s)
		d->free_staged = s->next;
	else if (d->stage_used < d->cfg.max_staged)
		s = (struct wg_staged *)((uint8_t *)d->stage_mem + d->stage_used++ * wg_stage_room(d));
	return s;
}

/* All places are taken: whoever has the most gives up its oldest packet, so that packets for peers that never
 * answer do not cost others their first one. */
static struct wg_staged *stage_evict(struct wg_dev *d, struct wg_peer *p)
{
	struct wg_peer *most = p;

	nb_list_each(it, &d->waiting) {
		struct wg_peer *q = nb_container(it, struct wg_peer, waiting_node);

		if (q->nstaged > most->nstaged)
			most = q;
	}
	d->counters.staged_drop++;
	return wg_unstage(most);
}

void wg_stage_purge(struct wg_dev *d, struct wg_peer *p)
{
	for (struct wg_staged *s; (s = wg_unstage(p)) != NULL; d->counters.staged_drop++)
		wg_stage_free(d, s);
}

void wg_stage(struct wg_dev *d, struct wg_peer *p, const uint8_t *pkt, size_t n, struct nb_time now)
{
	struct wg_staged *s;

	if (n > d->cfg.mtu) {
		d->counters.staged_drop++;
		return;
	}
	if (p->nstaged >= WG_PEER_STAGED_MAX) {
		wg_stage_free(d, wg_unstage(p));
		d->counters.staged_drop++;
	}
	s = stage_place(d);
	if (!s)
		s = stage_evict(d, p);
	if (!p->nstaged)
		nb_list_push(&d->waiting, &p->waiting_node);
	s->next = NULL;
	s->when = now;
	s->n = n;
	memcpy(s->buf, pkt, n);
	*p->staged_tail = s;
	p->staged_tail = &s->next;
	p->nstaged++;
}

/* --- peers --- */

void wg_pend(struct wg_dev *d, struct wg_peer *p, unsigned what)
{
	if (!p->pending)
		nb_list_push(&d->pending, &p->pending_node);
	p->pending |= what;
}

void wg_raise(struct wg_dev *d, struct wg_peer *p, enum wg_event_kind ev)
{
	if (!p->events)
		nb_list_push(&d->events, &p->event_node);
	p->events |= 1u << ev;
}

void wg_raise_wanted(struct wg_dev *d, struct wg_peer *p, struct nb_time now)
{
	if (p->ever_wanted && nb_time_diff(now, p->last_wanted) < WG_WANTED_GAP)
		return;
	p->ever_wanted = true;
	p->last_wanted = now;
	wg_raise(d, p, WG_EV_WANTED);
}

unsigned wg_home(const uint8_t key[NB_KEY_LEN], unsigned shards)
{
	return shards > 1 ? key[0] % shards : 0;
}

/* Room for what one more peer at home here needs. */
static int peer_room(struct wg_dev *d)
{
	int err = wg_index_room(d, d->npeers + 1);

	if (err)
		return err;
	if (d->npeers == d->heap_cap) {
		size_t cap = d->heap_cap ? 2 * d->heap_cap : 16;
		struct wg_peer **heap = realloc(d->heap, cap * sizeof *heap);

		if (!heap)
			return NB_E_NOMEM;
		d->heap = heap;
		d->heap_cap = cap;
	}
	return 0;
}

int wg_peer_add(struct wg_dev *d, const uint8_t key[NB_KEY_LEN], struct wg_peer **out)
{
	struct wg_peer *p = wg_peer_find(d, key);
	bool elsewhere = wg_home(key, d->cfg.shards) != d->cfg.shard;
	int err;

	*out = p;
	if (p)
		return NB_E_EXISTS;
	if (d->npeers + d->nelsewhere >= d->cfg.max_peers)
		return NB_E_FULL;
	if (d->self.has && memcmp(key, d->self.pub, NB_KEY_LEN) == 0)
		return NB_E_ARG;
	err = elsewhere ? 0 : peer_room(d);
	if (err)
		return err;
	p = calloc(1, sizeof *p);
	if (!p)
		return NB_E_NOMEM;
	p->elsewhere = elsewhere;
	if (elsewhere)
		memcpy(p->remote.pub, key, NB_KEY_LEN);
	else if (wg_remote_set(&p->remote, &d->self, key))
		err = NB_E_ARG;
	if (!err)
		err = nb_map_put(&d->by_key, nb_bytes(key, NB_KEY_LEN), p, NULL);
	if (err) {
		nb_wipe(p, sizeof *p);
		free(p);
		return err;
	}
	nb_list_init(&p->pending_node);
	nb_list_init(&p->event_node);
	nb_list_init(&p->waiting_node);
	nb_list_init(&p->allowed);
	nb_list_init(&p->node);
	nb_list_push(elsewhere ? &d->elsewhere : &d->peers, &p->node);
	p->staged_tail = &p->staged_head;
	wg_timers_init(p);
	if (elsewhere)
		d->nelsewhere++;
	else
		d->npeers++;
	*out = p;
	return 0;
}

struct wg_peer *wg_peer_find(struct wg_dev *d, const uint8_t key[NB_KEY_LEN])
{
	return nb_map_get(&d->by_key, nb_bytes(key, NB_KEY_LEN));
}

void wg_peer_reset(struct wg_dev *d, struct wg_peer *p)
{
	wg_timers_stop(p);
	wg_timers_forget(d, p);
	wg_handshake_clear(d, p);
	wg_keypair_retire(d, p->previous);
	wg_keypair_retire(d, p->current);
	wg_keypair_retire(d, p->next);
	wg_bury(d);
	nb_wipe(&p->jar, sizeof p->jar);
	nb_list_del(&p->pending_node);
	p->pending = 0;
	p->ever_sent_handshake = p->ever_wanted = false;
}

void wg_peer_remove(struct wg_dev *d, struct wg_peer *p)
{
	wg_peer_reset(d, p);
	wg_stage_purge(d, p);
	wg_trie_remove_all(&d->trie, p);
	nb_list_del(&p->event_node);
	nb_list_del(&p->node);
	nb_map_del(&d->by_key, nb_bytes(p->remote.pub, NB_KEY_LEN));
	if (p->elsewhere)
		d->nelsewhere--;
	else
		d->npeers--;
	nb_wipe(p, sizeof *p);
	free(p);
}

void wg_peers_clear(struct wg_dev *d)
{
	while (!nb_list_empty(&d->peers))
		wg_peer_remove(d, nb_container(d->peers.next, struct wg_peer, node));
	while (!nb_list_empty(&d->elsewhere))
		wg_peer_remove(d, nb_container(d->elsewhere.next, struct wg_peer, node));
}

struct wg_peer *wg_peer_next(struct wg_dev *d, struct wg_peer *after)
{
	struct nb_list *n = after ? after->node.next : d->peers.next;

	return n == &d->peers ? NULL : nb_container(n, struct wg_peer, node);
}

const uint8_t *wg_peer_key(const struct wg_peer *p)
{
	return p->remote.pub;
}

const struct wg_ep *wg_peer_ep(const struct wg_peer *p)
{
	return &p->ep;
}

void *wg_peer_user(const struct wg_peer *p)
{
	return p->user;
}

void wg_peer_set_user(struct wg_peer *p, void *user)
{
	p->user = user;
}

void wg_peer_set_psk(struct wg_dev *d, struct wg_peer *p, const uint8_t psk[NB_KEY_LEN])
{
	(void)d;
	memcpy(p->remote.psk, psk, NB_KEY_LEN);
}

void wg_peer_set_keepalive(struct wg_dev *d, struct wg_peer *p, uint16_t seconds, struct nb_time now)
{
	bool was = p->keepalive != 0;

	p->keepalive = seconds;
	if (!seconds)
		p->timer[WG_T_PERSISTENT] = NB_TIME_NEVER;
	else if (!was && p->ep.kind != WG_EP_NONE && d->self.has)
		wg_pend(d, p, WG_P_KEEPALIVE);
	else if (p->ep.kind != WG_EP_NONE)
		wg_timers_persistent(d, p, now);
}

static bool ep_eq(const struct wg_ep *a, const struct wg_ep *b)
{
	return a->kind == b->kind && a->id == b->id && nb_endpoint_eq(&a->remote, &b->remote) &&
	       nb_addr_eq(&a->local, &b->local);
}

void wg_peer_set_endpoint(struct wg_dev *d, struct wg_peer *p, const struct wg_ep *ep, struct nb_time now)
{
	bool changed = !ep_eq(&p->ep, ep);

	p->ep = *ep;
	if (changed)
		wg_timers_path_heard(p);
	if (ep->kind == WG_EP_NONE && p->nstaged)
		wg_raise_wanted(d, p, now);
	if (ep->kind == WG_EP_NONE || !d->self.has)
		return;
	if (!wg_keypair_sends(p->current, now)) {
		if (p->nstaged || p->keepalive)
			wg_want_handshake(d, p, false, true, now);
	} else if (p->nstaged) {
		wg_pend(d, p, WG_P_FLUSH);
	} else if (changed && p->keepalive) {
		/* Shows the other side the new path at once. */
		wg_pend(d, p, WG_P_KEEPALIVE);
	}
}

void wg_peer_handshake(struct wg_dev *d, struct wg_peer *p, bool force, struct nb_time now)
{
	wg_want_handshake(d, p, false, force, now);
}

int wg_peer_allow(struct wg_dev *d, struct wg_peer *p, const struct nb_prefix *prefix)
{
	if (p->nallowed >= WG_ALLOWED_MAX)
		return NB_E_FULL;
	return wg_trie_insert(&d->trie, prefix, p);
}

int wg_peer_disallow(struct wg_dev *d, struct wg_peer *p, const struct nb_prefix *prefix)
{
	return wg_trie_remove(&d->trie, prefix, p);
}

void wg_peer_disallow_all(struct wg_dev *d, struct wg_peer *p)
{
	wg_trie_remove_all(&d->trie, p);
}

size_t wg_peer_allowed(const struct wg_dev *d, const struct wg_peer *p, size_t skip, struct nb_prefix *out, size_t max)
{
	size_t n = 0;

	(void)d;
	nb_list_each(it, &p->allowed) {
		if (skip) {
			skip--;
			continue;
		}
		if (n == max)
			break;
		wg_trie_prefix(nb_container(it, struct wg_trie_node, of_peer), &out[n++]);
	}
	return n;
}

struct wg_peer *wg_route(struct wg_dev *d, const struct nb_addr *inner)
{
	if (inner->family == 4)
		return wg_trie_find4(&d->trie, inner->ip);
	return inner->family == 6 ? wg_trie_find6(&d->trie, inner->ip) : NULL;
}

void wg_peer_stats(const struct wg_dev *d, const struct wg_peer *p, struct wg_peer_stats *out, struct nb_time now)
{
	(void)d;
	memset(out, 0, sizeof *out);
	out->rx_bytes = p->rx_bytes;
	out->tx_bytes = p->tx_bytes;
	out->rx_packets = p->rx_packets;
	out->tx_packets = p->tx_packets;
	out->handshakes = p->handshakes;
	out->last_handshake = p->last_handshake;
	out->last_rx_data = p->last_rx_data;
	out->ep = p->ep;
	out->keepalive = p->keepalive;
	out->session = wg_keypair_sends(p->current, now);
	memcpy(out->psk, p->remote.psk, NB_KEY_LEN);
}
