/* turn_table.c - the tables of the TURN server: allocations by 5-tuple, a heap of their expiry times,
 * relay ports and reservations, permissions and channels of one allocation. Every table has a cap.
 * Tests: tests/unit/ice_turn_server_test.c */
#include <stdlib.h>

#include "base/err.h"
#include "ice/turn_int.h"

#define PORT_TRIES 32

/* ---- 5-tuples ---- */

static uint8_t *pack_endpoint(uint8_t *at, const struct nb_endpoint *e)
{
	*at = e->addr.family;
	memcpy(at + 1, e->addr.ip, 16);
	nb_put_be32(at + 17, e->addr.scope);
	nb_put_be16(at + 21, e->port);
	return at + 23;
}

void turn_flow_key(uint8_t out[TURN_FLOW_KEY], const struct turn_flow *f)
{
	uint8_t *at = pack_endpoint(pack_endpoint(out, &f->client), &f->local);

	nb_put_be32(at, f->conn);
	memset(at + 4, 0, TURN_FLOW_KEY - 50);
}

struct turn_alloc *turn_alloc_find(const struct turn_server *s, const struct turn_flow *f)
{
	uint8_t key[TURN_FLOW_KEY];

	turn_flow_key(key, f);
	return nb_map_get(&s->flows, nb_bytes(key, sizeof key));
}

struct turn_alloc *turn_alloc_recent(struct turn_server *s, const struct turn_flow *f)
{
	const struct turn_flow *last = s->recent ? &s->recent->flow : NULL;

	if (last && last->conn == f->conn && nb_endpoint_eq(&last->client, &f->client) &&
	    nb_endpoint_eq(&last->local, &f->local))
		return s->recent;
	s->recent = turn_alloc_find(s, f);
	return s->recent;
}

/* ---- Expiry heap ---- */

static void heap_set(struct turn_server *s, size_t i, struct turn_alloc *a)
{
	s->heap[i] = a;
	a->heap = i;
}

static void heap_fix(struct turn_server *s, size_t i)
{
	struct turn_alloc *a = s->heap[i];
	size_t child;

	for (; i > 0 && nb_time_before(a->expires, s->heap[(i - 1) / 2]->expires); i = (i - 1) / 2)
		heap_set(s, i, s->heap[(i - 1) / 2]);
	for (; (child = 2 * i + 1) < s->nheap; i = child) {
		if (child + 1 < s->nheap && nb_time_before(s->heap[child + 1]->expires, s->heap[child]->expires))
			child++;
		if (!nb_time_before(s->heap[child]->expires, a->expires))
			break;
		heap_set(s, i, s->heap[child]);
	}
	heap_set(s, i, a);
}

static int heap_add(struct turn_server *s, struct turn_alloc *a)
{
	if (s->nheap == s->cap_heap) {
		size_t cap = s->cap_heap ? s->cap_heap * 2 : 16;
		struct turn_alloc **heap = realloc(s->heap, cap * sizeof *heap);

		if (!heap)
			return NB_E_NOMEM;
		s->heap = heap;
		s->cap_heap = cap;
	}
	heap_set(s, s->nheap++, a);
	heap_fix(s, a->heap);
	return 0;
}

static void heap_del(struct turn_server *s, struct turn_alloc *a)
{
	size_t i = a->heap;
	struct turn_alloc *last = s->heap[--s->nheap];

	if (last != a) {
		heap_set(s, i, last);
		heap_fix(s, i);
	}
}

void turn_alloc_set_expiry(struct turn_server *s, struct turn_alloc *a, struct nb_time expires)
{
	a->expires = expires;
	heap_fix(s, a->heap);
}

/* ---- Allocations ---- */

static struct turn_quota *quota_take(struct turn_server *s, const struct turn_flow *f, struct nb_bytes user,
				     int *err)
{
	uint8_t key[STUN_MAX_USERNAME + 17];
	struct turn_quota *q;

	memcpy(key, user.p, user.n);
	key[user.n] = f->client.addr.family;
	memcpy(key + user.n + 1, f->client.addr.ip, 16);
	q = nb_map_get(&s->quotas, nb_bytes(key, user.n + 17));
	if (q && q->count >= s->cfg.max_per_user) {
		*err = NB_E_DENIED;
		return NULL;
	}
	if (!q) {
		q = malloc(sizeof *q + user.n + 17);
		if (!q || nb_map_put(&s->quotas, nb_bytes(key, user.n + 17), q, NULL)) {
			free(q);
			*err = NB_E_NOMEM;
			return NULL;
		}
		*q = (struct turn_quota){ .key_len = user.n + 17 };
		memcpy(q->key, key, q->key_len);
	}
	q->count++;
	return q;
}

static void quota_give(struct turn_server *s, struct turn_quota *q)
{
	if (!q || --q->count)
		return;
	nb_map_del(&s->quotas, nb_bytes(q->key, q->key_len));
	free(q);
}

static void alloc_destroy(struct turn_server *s, struct turn_alloc *a)
{
	quota_give(s, a->quota);
	free(a->user);
	free(a->perms);
	free(a->chans);
	free(a->by_addr.slots);
	free(a->by_number.slots);
	free(a->by_peer.slots);
	nb_wipe(a, sizeof *a);
	free(a);
}

static int alloc_fill(struct turn_server *s, struct turn_alloc *a, struct nb_bytes user)
{
	uint8_t key[TURN_FLOW_KEY];
	int err = 0;

	a->quota = quota_take(s, &a->flow, user, &err);
	if (!a->quota)
		return err;
	a->user = malloc(user.n + 1);
	if (!a->user)
		return NB_E_NOMEM;
	memcpy(a->user, user.p, user.n);
	a->user[user.n] = 0;
	turn_flow_key(key, &a->flow);
	err = nb_map_put(&s->flows, nb_bytes(key, sizeof key), a, NULL);
	if (err)
		return err;
	err = heap_add(s, a);
	if (err)
		nb_map_del(&s->flows, nb_bytes(key, sizeof key));
	return err;
}

struct turn_alloc *turn_alloc_new(struct turn_server *s, const struct turn_flow *f, struct nb_bytes user,
				  struct nb_time expires, int *err)
{
	struct turn_alloc *a = calloc(1, sizeof *a);

	if (!a) {
		*err = NB_E_NOMEM;
		return NULL;
	}
	a->flow = *f;
	a->expires = expires;
	*err = alloc_fill(s, a, user);
	if (*err) {
		alloc_destroy(s, a);
		return NULL;
	}
	s->stats.allocations++;
	return a;
}

void turn_alloc_free(struct turn_server *s, struct turn_alloc *a)
{
	uint8_t key[TURN_FLOW_KEY];

	for (int i = 0; i < 2; i++)
		turn_relay_close(s, &a->relay[i]);
	turn_flow_key(key, &a->flow);
	nb_map_del(&s->flows, nb_bytes(key, sizeof key));
	if (s->recent == a)
		s->recent = NULL;
	heap_del(s, a);
	alloc_destroy(s, a);
	s->stats.allocations--;
}

/* ---- Relay ports ---- */

static bool port_free(const struct turn_server *s, uint8_t family, unsigned port)
{
	unsigned f = turn_family_index(family), i = port - s->cfg.port_min;

	return port >= s->cfg.port_min && port <= s->cfg.port_max && !s->ports[f][i] && !s->reserved[f][i];
}

static int relay_bind(struct turn_server *s, struct turn_relay *r, uint16_t port)
{
	int err;

	r->port = port;
	err = s->ops->open(s->ctx, r);
	if (err)
		r->port = 0;
	else
		s->ports[turn_family_index(r->family)][port - s->cfg.port_min] = r;
	return err;
}

static bool reserve_next(struct turn_server *s, struct turn_alloc *a, uint8_t family, uint16_t port,
			 struct nb_time now)
{
	for (unsigned i = 0; i < TURN_RESERVES_MAX; i++) {
		struct turn_reserve *v = &s->reserves[i];

		if (v->family)
			continue;
		v->family = family;
		v->port = port;
		v->expires = nb_time_add(now, TURN_RESERVE_LIFE);
		s->cfg.random(s->cfg.random_ctx, v->token, sizeof v->token);
		memcpy(a->token, v->token, sizeof v->token);
		a->has_token = true;
		s->reserved[turn_family_index(family)][port - s->cfg.port_min] = 1;
		return true;
	}
	return false;
}

/* Random free ports until one can be bound; a few more when other programs sit on some of them. */
static int bind_some_port(struct turn_server *s, struct turn_relay *r, bool even, bool pair)
{
	uint32_t n = s->cfg.port_max - s->cfg.port_min + 1u, start, tries = 0;

	s->cfg.random(s->cfg.random_ctx, &start, sizeof start);
	for (uint32_t i = 0; i < n && tries < PORT_TRIES; i++) {
		unsigned port = s->cfg.port_min + (start % n + i) % n;
		int err;

		if (!port_free(s, r->family, port) || (even && port % 2) ||
		    (pair && !port_free(s, r->family, port + 1)))
			continue;
		err = relay_bind(s, r, (uint16_t)port);
		if (err != NB_E_BUSY)
			return err;
		tries++;
	}
	return NB_E_FULL;
}

int turn_relay_open(struct turn_server *s, struct turn_alloc *a, uint8_t family, uint16_t port, bool even,
		    bool reserve, struct nb_time now)
{
	struct turn_relay *r = a->relay[0].family ? &a->relay[1] : &a->relay[0];
	int err;

	r->alloc = a;
	r->family = family;
	err = port ? relay_bind(s, r, port) : bind_some_port(s, r, even, reserve);
	if (err)
		r->family = 0;
	else if (reserve && !reserve_next(s, a, family, (uint16_t)(r->port + 1), now)) {
		turn_relay_close(s, r);
		err = NB_E_FULL;
	}
	return err;
}

void turn_relay_close(struct turn_server *s, struct turn_relay *r)
{
	if (!r->family)
		return;
	s->ports[turn_family_index(r->family)][r->port - s->cfg.port_min] = NULL;
	s->ops->close(s->ctx, r);
	r->family = 0;
	r->data = NULL;
}

struct turn_relay *turn_relay_at(const struct turn_server *s, uint8_t family, uint16_t port)
{
	if (!turn_port_in_range(s, port))
		return NULL;
	return s->ports[turn_family_index(family)][port - s->cfg.port_min];
}

static void reserve_drop(struct turn_server *s, struct turn_reserve *v)
{
	s->reserved[turn_family_index(v->family)][v->port - s->cfg.port_min] = 0;
	v->family = 0;
}

bool turn_reserve_take(struct turn_server *s, const uint8_t token[8], uint8_t *family, uint16_t *port)
{
	for (unsigned i = 0; i < TURN_RESERVES_MAX; i++) {
		struct turn_reserve *v = &s->reserves[i];

		if (!v->family || !nb_equal_ct(v->token, token, sizeof v->token))
			continue;
		*family = v->family;
		*port = v->port;
		reserve_drop(s, v);
		return true;
	}
	return false;
}

void turn_reserve_expire(struct turn_server *s, struct nb_time now)
{
	for (unsigned i = 0; i < TURN_RESERVES_MAX; i++)
		if (s->reserves[i].family && nb_time_due(s->reserves[i].expires, now))
			reserve_drop(s, &s->reserves[i]);
}

uint16_t turn_relay_port(const struct turn_relay *r)
{
	return r->port;
}

uint8_t turn_relay_family(const struct turn_relay *r)
{
	return r->family;
}

void *turn_relay_data(const struct turn_relay *r)
{
	return r->data;
}

void turn_relay_set_data(struct turn_relay *r, void *data)
{
	r->data = data;
}

/* ---- Permissions and channels ---- */

static uint64_t hash_addr(const struct turn_server *s, const struct nb_addr *a, uint16_t port)
{
	uint8_t key[19];

	key[0] = a->family;
	memcpy(key + 1, a->ip, 16);
	nb_put_be16(key + 17, port);
	return nb_siphash(s->seed, nb_bytes(key, sizeof key));
}

static uint64_t hash_number(const struct turn_server *s, uint16_t number)
{
	return number * 0x9e3779b97f4a7c15ULL ^ s->seed[0];
}

/* Make room in the index for n entries and empty it. */
static int index_reset(struct turn_index *ix, size_t n)
{
	size_t want = 4;

	while (want < 2 * n)
		want *= 2;
	if (want > ix->n) {
		uint16_t *slots = realloc(ix->slots, want * sizeof *slots);

		if (!slots)
			return NB_E_NOMEM;
		ix->slots = slots;
		ix->n = want;
	}
	memset(ix->slots, 0, ix->n * sizeof *ix->slots);
	return 0;
}

static void index_add(struct turn_index *ix, uint64_t hash, size_t pos)
{
	size_t i = hash & (ix->n - 1);

	while (ix->slots[i])
		i = (i + 1) & (ix->n - 1);
	ix->slots[i] = (uint16_t)(pos + 1);
}

/* Walk the positions that may hold this hash: i is the slot, start with hash. */
#define index_each(ix, hash, i, pos) \
	for (size_t i = (ix)->n ? (hash) & ((ix)->n - 1) : 0, pos; \
	     (ix)->n && (ix)->slots[i] && (pos = (ix)->slots[i] - 1u, true); i = (i + 1) & ((ix)->n - 1))

static int index_perms(const struct turn_server *s, struct turn_alloc *a)
{
	if (index_reset(&a->by_addr, a->cap_perms))
		return NB_E_NOMEM;
	for (size_t i = 0; i < a->nperms; i++)
		index_add(&a->by_addr, hash_addr(s, &a->perms[i].addr, 0), i);
	return 0;
}

static int index_chans(const struct turn_server *s, struct turn_alloc *a)
{
	if (index_reset(&a->by_number, a->cap_chans) || index_reset(&a->by_peer, a->cap_chans))
		return NB_E_NOMEM;
	for (size_t i = 0; i < a->nchans; i++) {
		struct turn_chan *c = &a->chans[i];

		index_add(&a->by_number, hash_number(s, c->number), i);
		index_add(&a->by_peer, hash_addr(s, &c->peer.addr, c->peer.port), i);
	}
	return 0;
}

struct turn_perm *turn_perm_find(const struct turn_server *s, const struct turn_alloc *a,
				 const struct nb_addr *addr)
{
	index_each(&a->by_addr, hash_addr(s, addr, 0), i, pos)
		if (nb_addr_eq(&a->perms[pos].addr, addr))
			return &a->perms[pos];
	return NULL;
}

struct turn_chan *turn_chan_by_number(const struct turn_server *s, const struct turn_alloc *a, uint16_t number)
{
	index_each(&a->by_number, hash_number(s, number), i, pos)
		if (a->chans[pos].number == number)
			return &a->chans[pos];
	return NULL;
}

struct turn_chan *turn_chan_by_peer(const struct turn_server *s, const struct turn_alloc *a,
				    const struct nb_endpoint *peer)
{
	index_each(&a->by_peer, hash_addr(s, &peer->addr, peer->port), i, pos)
		if (nb_endpoint_eq(&a->chans[pos].peer, peer))
			return &a->chans[pos];
	return NULL;
}

/* Room for one more element of the array: doubles up to TURN_PEERS_MAX. */
static int grow(void **array, size_t n, size_t *cap, size_t size)
{
	size_t want = *cap ? *cap * 2 : 2;
	void *p;

	if (n < *cap)
		return 0;
	if (n >= TURN_PEERS_MAX)
		return NB_E_FULL;
	p = realloc(*array, want * size);
	if (!p)
		return NB_E_NOMEM;
	*array = p;
	*cap = want;
	return 0;
}

int turn_perm_put(struct turn_server *s, struct turn_alloc *a, const struct nb_addr *addr, struct nb_time now)
{
	struct turn_perm *p = turn_perm_find(s, a, addr);
	void *array = a->perms;
	int err;

	if (p) {
		p->expires = nb_time_add(now, TURN_PERMISSION_LIFE);
		turn_peer_allowed(s, addr, &p->own);
		return 0;
	}
	for (size_t i = a->nperms; i-- > 0;)
		if (nb_time_due(a->perms[i].expires, now))
			a->perms[i] = a->perms[--a->nperms];
	err = grow(&array, a->nperms, &a->cap_perms, sizeof *a->perms);
	a->perms = array;
	if (err == 0) {
		p = &a->perms[a->nperms++];
		*p = (struct turn_perm){ .addr = *addr, .expires = nb_time_add(now, TURN_PERMISSION_LIFE) };
		turn_peer_allowed(s, addr, &p->own);
	}
	if (index_perms(s, a)) {
		/* Without an index nothing is found: drop everything rather than keep half. */
		a->nperms = 0;
		a->by_addr.n = 0;
		return NB_E_NOMEM;
	}
	return err;
}

static void drop_rested_chans(struct turn_alloc *a, struct nb_time now)
{
	for (size_t i = a->nchans; i-- > 0;)
		if (nb_time_due(nb_time_add(a->chans[i].expires, TURN_CHANNEL_REST), now))
			a->chans[i] = a->chans[--a->nchans];
}

int turn_chan_put(struct turn_server *s, struct turn_alloc *a, uint16_t number,
		  const struct nb_endpoint *peer, struct nb_time now)
{
	struct turn_chan *c;
	void *array;
	int err;

	drop_rested_chans(a, now);
	if (index_chans(s, a))
		goto lost;
	c = turn_chan_by_number(s, a, number);
	if (c && !nb_endpoint_eq(&c->peer, peer))
		return NB_E_BAD;
	if (!c && turn_chan_by_peer(s, a, peer))
		return NB_E_BAD;
	if (c) {
		c->expires = nb_time_add(now, TURN_CHANNEL_LIFE);
		return 0;
	}
	array = a->chans;
	err = grow(&array, a->nchans, &a->cap_chans, sizeof *a->chans);
	a->chans = array;
	if (err)
		return err;
	a->chans[a->nchans++] = (struct turn_chan){ .peer = *peer, .number = number,
						    .expires = nb_time_add(now, TURN_CHANNEL_LIFE) };
	if (index_chans(s, a) == 0)
		return 0;
lost:
	a->nchans = 0;
	a->by_number.n = a->by_peer.n = 0;
	return NB_E_NOMEM;
}
