/* arena.h - memory that is freed all at once, with a cap. One per request or message. */
#ifndef NB_BASE_ARENA_H
#define NB_BASE_ARENA_H

#include <stddef.h>

struct nb_arena_block;

struct nb_arena {
	struct nb_arena_block *blocks;
	size_t used;	/* bytes handed out, for the cap */
	size_t max;
};

void nb_arena_init(struct nb_arena *a, size_t max_bytes);
/* Zeroed, 16-byte aligned memory; NULL past the cap or without memory. */
void *nb_arena_alloc(struct nb_arena *a, size_t n);
/* NUL-terminated copy of n bytes; NULL past the cap. */
char *nb_arena_strndup(struct nb_arena *a, const char *s, size_t n);
/* printf into arena memory; NULL past the cap. */
char *nb_arena_printf(struct nb_arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Free everything (wiped first); the arena is empty and usable again. */
void nb_arena_fini(struct nb_arena *a);

#endif
