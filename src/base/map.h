/* map.h - a hash table from byte strings to pointers, with a cap.
 * Keys are copied; values belong to the caller. Keyed hashing (SipHash) so that
 * strangers who choose keys cannot choose collisions. */
#ifndef NB_BASE_MAP_H
#define NB_BASE_MAP_H

#include "base/bytes.h"

struct nb_map_entry;

struct nb_map {
	struct nb_map_entry **slots;
	size_t nslots;		/* power of two, 0 before the first put */
	size_t count;
	size_t max;		/* entries at most */
	uint64_t seed[2];
};

/* seed: 16 random bytes; max: entries at most. Allocates nothing yet. */
void nb_map_init(struct nb_map *m, const uint8_t seed[16], size_t max);
/* Free entries and keys (not values). */
void nb_map_fini(struct nb_map *m);
void *nb_map_get(const struct nb_map *m, struct nb_bytes key);
/* Insert or replace; *old (may be NULL) gets the replaced value or NULL. Returns 0, NB_E_FULL, NB_E_NOMEM. */
int nb_map_put(struct nb_map *m, struct nb_bytes key, void *value, void **old);
/* Remove; returns the value, or NULL when absent. */
void *nb_map_del(struct nb_map *m, struct nb_bytes key);

/* Walk in no particular order. Start with *it = {0}; the current entry may be deleted by key
 * after nb_map_next returned it, nothing else may change. */
struct nb_map_iter {
	size_t slot;
	struct nb_map_entry *next;
	struct nb_bytes key;
	void *value;
	bool started;
};
bool nb_map_next(const struct nb_map *m, struct nb_map_iter *it);

/* SipHash-2-4 (Aumasson, Bernstein 2012). */
uint64_t nb_siphash(const uint64_t key[2], struct nb_bytes in);

#endif
