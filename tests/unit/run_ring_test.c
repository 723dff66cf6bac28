/* run_ring_test.c - records come out as they went in, at every position of the ring and between threads; a full ring
 * refuses and forgets nothing. Tests src/run/ring.c. */
#include "run/ring.h"

#include "base/bytes.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static uint32_t step(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

static bool put(struct run_ring *r, uint32_t number, uint32_t n)
{
	uint8_t *p = run_ring_reserve(r, n);

	if (!p)
		return false;
	assert_int_equal((uintptr_t)p % 8, 0);
	memset(p, (int)number, n);
	run_ring_commit(r);
	return true;
}

static void take(struct run_ring *r, uint32_t number, uint32_t want)
{
	uint32_t n;
	const uint8_t *p = run_ring_peek(r, &n);

	assert_non_null(p);
	assert_int_equal(n, want);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(p[i], (uint8_t)number);
	run_ring_pop(r);
}

static void fills_and_empties(void **state)
{
	struct run_ring r;
	uint32_t size[4096], seed = 1, in = 0, out = 0, n;

	(void)state;
	assert_int_equal(run_ring_init(&r, 4096), 0);
	assert_null(run_ring_peek(&r, &n));
	/* Positions wrap at 32 bits as at any other place. */
	atomic_store(&r.head, UINT32_MAX - 20479);
	atomic_store(&r.tail, UINT32_MAX - 20479);
	while (in < 4096) {
		uint32_t pushes = step(&seed) % 40, pops = step(&seed) % 40;

		while (pushes-- && in < 4096) {
			n = step(&seed) % (step(&seed) % 8 ? 200 : 1300);
			if (!put(&r, in, n))
				break;
			size[in++] = n;
		}
		while (pops-- && out < in) {
			take(&r, out, size[out]);
			out++;
		}
	}
	for (; out < in; out++)
		take(&r, out, size[out]);
	assert_null(run_ring_peek(&r, &n));
	assert_int_equal(run_ring_room(&r), 4096);
	run_ring_fini(&r);
}

static void full(void **state)
{
	struct run_ring r;
	uint32_t n = 0;

	(void)state;
	assert_int_equal(run_ring_init(&r, 1024), 0);
	assert_null(run_ring_reserve(&r, 1024));
	/* A third fits in an empty ring wherever it stands. */
	for (int i = 0; i < 50; i++) {
		assert_true(put(&r, 1, 341));
		take(&r, 1, 341);
		assert_true(put(&r, 2, 8u * (unsigned)i % 120));
		take(&r, 2, 8u * (unsigned)i % 120);
	}
	while (put(&r, n, 56))
		n++;
	assert_in_range(n, 15, 16);
	assert_false(put(&r, n, 56));
	for (uint32_t i = 0; i < n; i++)
		take(&r, i, 56);
	assert_null(run_ring_peek(&r, &n));
	run_ring_fini(&r);
}

#define RECORDS 100000

static void *writer(void *arg)
{
	struct run_ring *r = arg;
	uint32_t seed = 7;

	for (uint32_t i = 0; i < RECORDS; i++) {
		uint32_t n = 4 + step(&seed) % 300;
		uint8_t *p;

		while (!(p = run_ring_reserve(r, n)))
			sched_yield();
		nb_put_be32(p, i);
		memset(p + 4, (int)i, n - 4);
		run_ring_commit(r);
	}
	return NULL;
}

static void two_threads(void **state)
{
	struct run_ring r;
	uint32_t seed = 7, n;
	pthread_t thread;

	(void)state;
	assert_int_equal(run_ring_init(&r, 4096), 0);
	assert_int_equal(pthread_create(&thread, NULL, writer, &r), 0);
	for (uint32_t i = 0; i < RECORDS; i++) {
		uint32_t want = 4 + step(&seed) % 300;
		uint8_t *p;

		while (!(p = run_ring_peek(&r, &n)))
			sched_yield();
		assert_int_equal(n, want);
		assert_int_equal(nb_get_be32(p), i);
		assert_int_equal(p[n - 1], n > 4 ? (uint8_t)i : p[n - 1]);
		run_ring_pop(&r);
	}
	pthread_join(thread, NULL);
	run_ring_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fills_and_empties), cmocka_unit_test(full), cmocka_unit_test(two_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
