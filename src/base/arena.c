/* arena.c - see arena.h. Tests: tests/unit/base_arena_test.c */
#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

struct nb_arena_block {
	struct nb_arena_block *next;
	size_t used;
	size_t cap;
	unsigned char mem[];
};

#define FIRST_BLOCK 1024u
#define LARGEST_BLOCK 65536u

void nb_arena_init(struct nb_arena *a, size_t max_bytes)
{
	*a = (struct nb_arena){ .max = max_bytes };
}

static struct nb_arena_block *new_block(struct nb_arena *a, size_t n)
{
	size_t cap = a->blocks ? a->blocks->cap * 2 : FIRST_BLOCK;
	struct nb_arena_block *b;
	size_t skip;

	if (cap > LARGEST_BLOCK)
		cap = LARGEST_BLOCK;
	if (cap < n)
		cap = n;
	/* malloc aligns to 8 bytes only on some 32-bit processors. */
	b = malloc(sizeof *b + 15 + cap);
	if (!b)
		return NULL;
	skip = -(uintptr_t)b->mem & 15;
	*b = (struct nb_arena_block){ .next = a->blocks, .used = skip, .cap = skip + cap };
	a->blocks = b;
	return b;
}

void *nb_arena_alloc(struct nb_arena *a, size_t n)
{
	struct nb_arena_block *b = a->blocks;
	void *p;

	if (n > SIZE_MAX - 15)
		return NULL;
	n = (n + 15) & ~(size_t)15;
	if (n > a->max - a->used)
		return NULL;
	if (!b || b->cap - b->used < n)
		b = new_block(a, n);
	if (!b)
		return NULL;
	p = b->mem + b->used;
	b->used += n;
	a->used += n;
	return memset(p, 0, n);
}

char *nb_arena_strndup(struct nb_arena *a, const char *s, size_t n)
{
	char *p = n < SIZE_MAX ? nb_arena_alloc(a, n + 1) : NULL;

	if (p && n)
		memcpy(p, s, n);
	return p;
}

char *nb_arena_printf(struct nb_arena *a, const char *fmt, ...)
{
	va_list ap;
	char *p;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	p = n >= 0 ? nb_arena_alloc(a, (size_t)n + 1) : NULL;
	if (!p)
		return NULL;
	va_start(ap, fmt);
	vsnprintf(p, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return p;
}

void nb_arena_fini(struct nb_arena *a)
{
	struct nb_arena_block *b, *next;

	for (b = a->blocks; b; b = next) {
		next = b->next;
		nb_wipe(b->mem, b->used);
		free(b);
	}
	a->blocks = NULL;
	a->used = 0;
}
