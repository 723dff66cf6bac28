/* ring.h - records of bytes from one thread to one other, without locks: the writer reserves a place, fills it and
 * commits; the reader looks at the oldest record in place and frees it. Memory is fixed when the ring is made; a full
 * ring refuses. Waking the reader is the writer's business. Tests: tests/unit/run_ring_test.c */
#ifndef NB_RUN_RING_H
#define NB_RUN_RING_H

#include <stdatomic.h>
#include <stdint.h>

#include <stddef.h>

struct run_ring {
	uint8_t *mem;
	uint32_t size;
	/* Bytes written and freed so far; apart, so that the two threads do not fight for a cache line. */
	_Alignas(64) atomic_uint head;
	uint32_t reserved;
	_Alignas(64) atomic_uint tail;
};

/* size: bytes, a power of two. Returns 0 or NB_E_NOMEM. */
int run_ring_init(struct run_ring *r, uint32_t size);
/* Wipes what went through. */
void run_ring_fini(struct run_ring *r);
/* Writer: a place for n bytes, aligned to 8; NULL when there is no room now. A record of up to a third of the size
 * always finds room in an empty ring. */
void *run_ring_reserve(struct run_ring *r, uint32_t n);
/* Writer: bytes that are free now. */
uint32_t run_ring_room(const struct run_ring *r);
/* Writer: what was reserved last is complete. */
void run_ring_commit(struct run_ring *r);
/* Reader: the oldest record and its length, NULL when there is none. */
void *run_ring_peek(struct run_ring *r, uint32_t *n);
/* Reader: done with what was looked at last. */
void run_ring_pop(struct run_ring *r);

#endif
