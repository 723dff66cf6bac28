/* wg_aead_avx512_test.c - Poly1305 side by side at its edges: sums that end at, just under and just over 2^130 - 5, which
 * random messages never reach, in each lane and beside others. What is compared with is the scalar Poly1305, whose own
 * edges wg_aead_test.c looks at. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#if defined(__x86_64__)

#include "wg/aead_avx512.c"

#define MESSAGES 8
#define LONGEST 320

static uint32_t state32 = 7;

static uint8_t rnd(void)
{
	state32 = state32 * 1664525u + 1013904223u;
	return (uint8_t)(state32 >> 24);
}

static void compare(uint8_t m[][LONGEST], const size_t *n, uint8_t keys[][KEY_ROW], size_t count)
{
	uint8_t tags[MESSAGES][WG_TAG], want[WG_TAG];
	struct wg_aead_op ops[MESSAGES];

	for (size_t i = 0; i < count; i++)
		ops[i] = (struct wg_aead_op){ .p = m[i], .n = n[i] };
	assert_true(poly_many(tags, keys, ops, count));
	for (size_t i = 0; i < count; i++) {
		wg_poly_tag(want, keys[i], m[i], n[i]);
		assert_memory_equal(tags[i], want, WG_TAG);
	}
}

/* With r = 1 the sum is that of the blocks: of two whole ones, of the lengths, and of the bits behind the three. Of 64
 * random bits above and 64 below, the second block is what makes 2^130 - 5 + d of it. */
static void sums_at_the_modulus(void **state)
{
	static uint8_t m[MESSAGES][LONGEST], keys[MESSAGES][KEY_ROW];
	size_t n[MESSAGES];

	(void)state;
	if (!wg_avx512_usable())
		skip();
	for (int round = 0; round < 200; round++) {
		for (int i = 0; i < MESSAGES; i++) {
			unsigned __int128 first, second, target = (unsigned __int128)0 - 5 + (unsigned)((round + i) % 12);

			memset(keys[i], 0, KEY_ROW);
			keys[i][0] = 1;
			for (int k = 16; k < 32; k++)
				keys[i][k] = round % 2 ? rnd() : 0xff;
			for (int k = 0; k < 16; k++)
				m[i][k] = rnd();
			memcpy(&first, m[i], 16);
			second = target - first - ((unsigned __int128)32 << 64);
			memcpy(m[i] + 16, &second, 16);
			n[i] = 32;
		}
		compare(m, n, keys, MESSAGES);
	}
}

/* Limbs full of ones, the largest r, every length, lengths that differ, fewer messages than lanes. */
static void full_limbs(void **state)
{
	static const uint8_t fills[] = { 0x00, 0x01, 0xfb, 0xfe, 0xff };
	static uint8_t m[MESSAGES][LONGEST], keys[MESSAGES][KEY_ROW];
	size_t n[MESSAGES];

	(void)state;
	if (!wg_avx512_usable())
		skip();
	for (size_t length = 0; length <= LONGEST; length++) {
		for (size_t i = 0; i < MESSAGES; i++) {
			memset(m[i], fills[(length + i) % sizeof fills], LONGEST);
			memset(keys[i], fills[(length / 3 + i) % sizeof fills], KEY_ROW);
			n[i] = length - (length >= 200 ? i : 0);
		}
		compare(m, n, keys, MESSAGES - length % 4);
	}
}

#else

static void sums_at_the_modulus(void **state)
{
	(void)state;
	skip();
}

static void full_limbs(void **state)
{
	(void)state;
	skip();
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_at_the_modulus), cmocka_unit_test(full_limbs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
