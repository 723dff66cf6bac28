/* base_buf_test.c - buffers, arenas. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

static void grows_up_to_its_maximum(void **state)
{
	struct nb_buf b;

	(void)state;
	nb_buf_init(&b, 100);
	for (int i = 0; i < 100; i++)
		assert_int_equal(nb_buf_u8(&b, (uint8_t)i), 0);
	assert_int_equal(nb_buf_u8(&b, 1), NB_E_FULL);
	/* The error is latched: later writes do nothing. */
	nb_buf_consume(&b, 50);
	assert_int_equal(nb_buf_u8(&b, 1), NB_E_FULL);
	assert_int_equal(b.n, 50);
	assert_int_equal(b.p[0], 50);
	nb_buf_reset(&b);
	assert_int_equal(nb_buf_str(&b, "again"), 0);
	assert_string_equal(nb_buf_cstr(&b), "again");
	nb_buf_fini(&b);
}

/* A message of defaults only is encoded in no bytes. */
static void room_for_nothing_is_a_place_too(void **state)
{
	struct nb_buf b;

	(void)state;
	nb_buf_init(&b, 100);
	assert_non_null(nb_buf_reserve(&b, 0));
	assert_int_equal(b.err, 0);
	nb_buf_commit(&b, 0);
	assert_int_equal(b.n, 0);
	nb_buf_fini(&b);
}

static void caller_memory_never_grows(void **state)
{
	uint8_t mem[8];
	struct nb_buf b;

	(void)state;
	nb_buf_fixed(&b, mem, sizeof mem);
	nb_buf_be32(&b, 0x01020304);
	nb_buf_le32(&b, 0x08070605);
	assert_int_equal(b.err, 0);
	for (int i = 0; i < 8; i++)
		assert_int_equal(mem[i], i + 1);
	assert_int_equal(nb_buf_be16(&b, 0), NB_E_FULL);
	nb_buf_fini(&b);
}

static void printf_measures_first(void **state)
{
	struct nb_buf b;

	(void)state;
	nb_buf_init(&b, 1000);
	for (int i = 0; i < 50; i++)
		nb_buf_printf(&b, "%d,", i);
	assert_int_equal(b.err, 0);
	assert_int_equal(b.n, 10 * 2 + 40 * 3);
	assert_memory_equal(b.p, "0,1,2,", 6);
	nb_buf_fini(&b);
}

static void arena_has_a_cap(void **state)
{
	struct nb_arena a;
	char *s;

	(void)state;
	nb_arena_init(&a, 4096);
	s = nb_arena_printf(&a, "%s-%d", "x", 7);
	assert_string_equal(s, "x-7");
	assert_int_equal((uintptr_t)s % 16, 0);
	assert_null(nb_arena_alloc(&a, 4096));
	assert_null(nb_arena_alloc(&a, SIZE_MAX));
	assert_non_null(nb_arena_alloc(&a, 4096 - 16));
	assert_null(nb_arena_alloc(&a, 1));
	nb_arena_fini(&a);
	assert_non_null(nb_arena_alloc(&a, 4096));
	nb_arena_fini(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(grows_up_to_its_maximum),
		cmocka_unit_test(room_for_nothing_is_a_place_too),
		cmocka_unit_test(caller_memory_never_grows),
		cmocka_unit_test(printf_measures_first),
		cmocka_unit_test(arena_has_a_cap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
