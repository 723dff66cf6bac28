/* ring.c - see ring.h. Each record stands behind its length, rounded to 8 bytes, never across the end of the memory:
 * a length of SKIP there sends the reader to the beginning. */
#include "run/ring.h"

#include "base/bytes.h"
#include "base/err.h"

#include <stdlib.h>

#define LENGTH 8	/* bytes before a record */
#define SKIP UINT32_MAX

int run_ring_init(struct run_ring *r, uint32_t size)
{
	r->mem = malloc(size);
	r->size = size;
	r->reserved = 0;
	atomic_init(&r->head, 0);
	atomic_init(&r->tail, 0);
	return r->mem ? 0 : NB_E_NOMEM;
}

void run_ring_fini(struct run_ring *r)
{
	if (r->mem)
		nb_wipe(r->mem, r->size);
	free(r->mem);
	r->mem = NULL;
}

static uint8_t *at(const struct run_ring *r, uint32_t position)
{
	return r->mem + (position & (r->size - 1));
}

static uint32_t need(uint32_t n)
{
	return LENGTH + ((n + 7) & ~7u);
}

static void put_length(uint8_t *p, uint32_t n)
{
	memcpy(p, &n, sizeof n);
}

static uint32_t get_length(const uint8_t *p)
{
	uint32_t n;

	memcpy(&n, p, sizeof n);
	return n;
}

void *run_ring_reserve(struct run_ring *r, uint32_t n)
{
	uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
	uint32_t room = run_ring_room(r), left = r->size - (head & (r->size - 1)), skip = left < need(n) ? left : 0;

	if (n > r->size / 2 || room < skip + need(n))
		return NULL;
	if (skip)
		put_length(at(r, head), SKIP);
	put_length(at(r, head + skip), n);
	r->reserved = head + skip + need(n);
	return at(r, head + skip) + LENGTH;
}

uint32_t run_ring_room(const struct run_ring *r)
{
	return r->size - (atomic_load_explicit(&r->head, memory_order_relaxed) -
			  atomic_load_explicit(&r->tail, memory_order_acquire));
}

void run_ring_commit(struct run_ring *r)
{
	atomic_store_explicit(&r->head, r->reserved, memory_order_release);
}

/* Where the oldest record's length stands. False: there is none. */
static int oldest(struct run_ring *r, uint32_t *position)
{
	uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);

	if (tail == atomic_load_explicit(&r->head, memory_order_acquire))
		return 0;
	if (get_length(at(r, tail)) == SKIP)
		tail += r->size - (tail & (r->size - 1));
	*position = tail;
	return 1;
}

void *run_ring_peek(struct run_ring *r, uint32_t *n)
{
	uint32_t position;

	if (!oldest(r, &position))
		return NULL;
	*n = get_length(at(r, position));
	return at(r, position) + LENGTH;
}

void run_ring_pop(struct run_ring *r)
{
	uint32_t position;

	if (oldest(r, &position))
		atomic_store_explicit(&r->tail, position + need(get_length(at(r, position))), memory_order_release);
}
