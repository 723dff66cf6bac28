/* base_map_test.c - the hash table against a plain array, and SipHash's published vectors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/map.h"

static const uint8_t seed[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };

/* First entries of vectors_sip64 of the reference implementation (key 00..0f, input 00, 01 ..). */
static void siphash_vectors(void **state)
{
	static const uint64_t expected[] = { 0x726fdb47dd0e0e31, 0x74f839c593dc67fd, 0x0d6c8009d9a94f5a, 0x85676696d7fb7e2d };
	const uint64_t key[2] = { nb_get_le64(seed), nb_get_le64(seed + 8) };

	(void)state;
	for (size_t n = 0; n < 4; n++)
		assert_true(nb_siphash(key, nb_bytes(seed, n)) == expected[n]);
	assert_true(nb_siphash(key, nb_bytes(seed, 15)) == 0xa129ca6149be45e5);
}

static void behaves_like_an_array(void **state)
{
	int values[500];
	bool in[500] = { false };
	struct nb_map m;
	size_t count = 0;

	(void)state;
	srand(7);
	nb_map_init(&m, seed, 400);
	for (int step = 0; step < 20000; step++) {
		int k = rand() % 500;
		struct nb_bytes key = nb_bytes(&k, sizeof k);
		void *old;

		if (rand() % 3) {
			int r = nb_map_put(&m, key, &values[k], &old);

			if (count == 400 && !in[k]) {
				assert_int_equal(r, NB_E_FULL);
				continue;
			}
			assert_int_equal(r, 0);
			assert_ptr_equal(old, in[k] ? &values[k] : NULL);
			count += !in[k];
			in[k] = true;
		} else {
			assert_ptr_equal(nb_map_del(&m, key), in[k] ? &values[k] : NULL);
			count -= in[k];
			in[k] = false;
		}
		assert_int_equal(m.count, count);
	}
	for (int k = 0; k < 500; k++)
		assert_ptr_equal(nb_map_get(&m, nb_bytes(&k, sizeof k)), in[k] ? &values[k] : NULL);
	nb_map_fini(&m);
}

static void a_walk_may_delete(void **state)
{
	struct nb_map_iter it = { 0 };
	struct nb_map m;
	int seen = 0;

	(void)state;
	nb_map_init(&m, seed, 1000);
	assert_false(nb_map_next(&m, &it));
	for (int k = 0; k < 300; k++)
		assert_int_equal(nb_map_put(&m, nb_bytes(&k, sizeof k), &m, NULL), 0);
	it = (struct nb_map_iter){ 0 };
	while (nb_map_next(&m, &it)) {
		seen++;
		assert_ptr_equal(nb_map_del(&m, it.key), &m);
	}
	assert_int_equal(seen, 300);
	assert_int_equal(m.count, 0);
	nb_map_fini(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(siphash_vectors),
		cmocka_unit_test(behaves_like_an_array),
		cmocka_unit_test(a_walk_may_delete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
