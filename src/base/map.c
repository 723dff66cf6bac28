/* map.c - see map.h. Tests: tests/unit/base_map_test.c */
#include "base/map.h"

#include <stdlib.h>

#include "base/err.h"

struct nb_map_entry {
	struct nb_map_entry *next;
	uint64_t hash;
	void *value;
	size_t key_len;
	uint8_t key[];
};

static inline uint64_t rotl(uint64_t x, int b)
{
	return x << b | x >> (64 - b);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

uint64_t nb_siphash(const uint64_t key[2], struct nb_bytes in)
{
	uint64_t v[4] = { key[0] ^ 0x736f6d6570736575ULL, key[1] ^ 0x646f72616e646f6dULL,
			  key[0] ^ 0x6c7967656e657261ULL, key[1] ^ 0x7465646279746573ULL };
	uint64_t last = (uint64_t)in.n << 56, m;
	size_t i;

	for (i = 0; i + 8 <= in.n; i += 8) {
		m = nb_get_le64(in.p + i);
		v[3] ^= m;
		sip_round(v);
		sip_round(v);
		v[0] ^= m;
	}
	for (unsigned shift = 0; i < in.n; i++, shift += 8)
		last |= (uint64_t)in.p[i] << shift;
	v[3] ^= last;
	sip_round(v);
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (int r = 0; r < 4; r++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void nb_map_init(struct nb_map *m, const uint8_t seed[16], size_t max)
{
	*m = (struct nb_map){ .max = max, .seed = { nb_get_le64(seed), nb_get_le64(seed + 8) } };
}

void nb_map_fini(struct nb_map *m)
{
	struct nb_map_entry *e, *next;

	for (size_t i = 0; i < m->nslots; i++) {
		for (e = m->slots[i]; e; e = next) {
			next = e->next;
			free(e);
		}
	}
	free(m->slots);
	m->slots = NULL;
	m->nslots = m->count = 0;
}

/* The link that points at the entry with this key, or at the NULL where it would go. */
static struct nb_map_entry **find(const struct nb_map *m, struct nb_bytes key, uint64_t hash)
{
	struct nb_map_entry **at = &m->slots[hash & (m->nslots - 1)];

	while (*at && ((*at)->hash != hash || !nb_bytes_eq(nb_bytes((*at)->key, (*at)->key_len), key)))
		at = &(*at)->next;
	return at;
}

void *nb_map_get(const struct nb_map *m, struct nb_bytes key)
{
	struct nb_map_entry *e;

	if (!m->count)
		return NULL;
	e = *find(m, key, nb_siphash(m->seed, key));
	return e ? e->value : NULL;
}

static int resize(struct nb_map *m, size_t nslots)
{
	struct nb_map_entry **slots = calloc(nslots, sizeof *slots), *e, *next;

	if (!slots)
		return NB_E_NOMEM;
	for (size_t i = 0; i < m->nslots; i++) {
		for (e = m->slots[i]; e; e = next) {
			struct nb_map_entry **at = &slots[e->hash & (nslots - 1)];

			next = e->next;
			e->next = *at;
			*at = e;
		}
	}
	free(m->slots);
	m->slots = slots;
	m->nslots = nslots;
	return 0;
}

int nb_map_put(struct nb_map *m, struct nb_bytes key, void *value, void **old)
{
	uint64_t hash = nb_siphash(m->seed, key);
	struct nb_map_entry **at, *e;

	if (old)
		*old = NULL;
	if (m->count >= m->nslots && resize(m, m->nslots ? m->nslots * 2 : 16) && !m->nslots)
		return NB_E_NOMEM;
	at = find(m, key, hash);
	if (*at) {
		if (old)
			*old = (*at)->value;
		(*at)->value = value;
		return 0;
	}
	if (m->count >= m->max)
		return NB_E_FULL;
	e = malloc(sizeof *e + key.n);
	if (!e)
		return NB_E_NOMEM;
	*e = (struct nb_map_entry){ .hash = hash, .value = value, .key_len = key.n };
	if (key.n)
		memcpy(e->key, key.p, key.n);
	*at = e;
	m->count++;
	return 0;
}

void *nb_map_del(struct nb_map *m, struct nb_bytes key)
{
	struct nb_map_entry **at, *e;
	void *value;

	if (!m->count)
		return NULL;
	at = find(m, key, nb_siphash(m->seed, key));
	e = *at;
	if (!e)
		return NULL;
	*at = e->next;
	value = e->value;
	free(e);
	m->count--;
	return value;
}

bool nb_map_next(const struct nb_map *m, struct nb_map_iter *it)
{
	struct nb_map_entry *e = it->next;

	if (!it->started) {
		it->started = true;
		it->slot = 0;
		e = m->nslots ? m->slots[0] : NULL;
	}
	while (!e && it->slot + 1 < m->nslots)
		e = m->slots[++it->slot];
	if (!e)
		return false;
	it->key = nb_bytes(e->key, e->key_len);
	it->value = e->value;
	it->next = e->next;
	return true;
}
