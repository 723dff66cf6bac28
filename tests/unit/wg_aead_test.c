/* wg_aead_test.c - every kernel of the packet cipher against libsodium: random lengths, alignments, batch sizes,
 * keys; damaged messages; RFC 8439 Poly1305 vectors. */
#include "wg/aead_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sodium.h>

#define BATCH 96
#define LONGEST 4096

static uint32_t state32 = 1;

static uint32_t rnd(uint32_t below)
{
	state32 = state32 * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)(state32 >> 4) * below >> 28);
}

static void sodium_seal(uint8_t *out, const uint8_t *in, size_t n, const uint8_t *key, uint64_t counter)
{
	uint8_t nonce[12] = { 0 };

	nb_put_le64(nonce + 4, counter);
	crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, in, n, NULL, 0, NULL, nonce, key);
}

static size_t some_length(uint32_t kind)
{
	switch (kind) {
	case 0: return rnd(80);
	case 1: return rnd(600);
	case 2: return 1264 + 16 * rnd(12);
	case 3: return 64 + rnd(66);
	default: return rnd(LONGEST);
	}
}

static void batch_against_sodium(const struct wg_aead *k)
{
	static uint8_t room[BATCH][LONGEST + 128], plain[BATCH][LONGEST], want[BATCH][LONGEST + 16];
	static uint8_t keys[3][32];
	struct wg_aead_op ops[BATCH];
	size_t count = 1 + rnd(BATCH);
	/* Batches of similar messages, too: some kernels work on several side by side. */
	uint32_t kinds = rnd(2) ? 0 : 1 + rnd(4);
	uint64_t base = rnd(5) ? rnd(1 << 20) : 0xfffffffffffffff0ULL;

	randombytes_buf(keys, sizeof keys);
	for (size_t i = 0; i < count; i++) {
		size_t n = some_length(kinds ? kinds : rnd(5)), off = rnd(64);

		randombytes_buf(plain[i], n);
		memset(room[i], 0xaa, sizeof room[i]);
		memcpy(room[i] + off, plain[i], n);
		ops[i] = (struct wg_aead_op){ room[i] + off, n, keys[i * 3 / count], base + i, false };
		sodium_seal(want[i], plain[i], n, ops[i].key, ops[i].counter);
	}
	k->seal(ops, count);
	for (size_t i = 0; i < count; i++) {
		assert_memory_equal(ops[i].p, want[i], ops[i].n + 16);
		assert_int_equal(ops[i].p[ops[i].n + 16], 0xaa);
		if (ops[i].p > room[i])
			assert_int_equal(ops[i].p[-1], 0xaa);
		/* Damage some: anywhere, tag included. */
		if (i % 5 == 3)
			ops[i].p[rnd((uint32_t)ops[i].n + 16)] ^= (uint8_t)(1 << rnd(8));
	}
	k->open(ops, count);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(ops[i].ok, i % 5 != 3);
		if (ops[i].ok)
			assert_memory_equal(ops[i].p, plain[i], ops[i].n);
	}
}

static void every_kernel_agrees_with_sodium(void **state)
{
	const struct wg_aead *k;

	(void)state;
	assert_true(sodium_init() >= 0);
	for (size_t i = 0; (k = wg_aead_kernel(i)); i++) {
		if (!wg_aead_usable(k))
			continue;
		for (int round = 0; round < 60; round++)
			batch_against_sodium(k);
	}
}

static void every_length(void **state)
{
	static uint8_t m[1600 + 16], want[1600 + 16], plain[1600], key[32] = { 9 };
	const struct wg_aead *k;

	(void)state;
	randombytes_buf(plain, sizeof plain);
	for (size_t i = 0; (k = wg_aead_kernel(i)); i++) {
		if (!wg_aead_usable(k))
			continue;
		for (size_t n = 0; n <= 1600; n++) {
			struct wg_aead_op op = { m, n, key, n, false };

			memcpy(m, plain, n);
			sodium_seal(want, plain, n, key, n);
			k->seal(&op, 1);
			assert_memory_equal(m, want, n + 16);
			k->open(&op, 1);
			assert_true(op.ok);
			assert_memory_equal(m, plain, n);
		}
	}
}

/* Inputs at the edges of the limbs: all ones, values next to 2^130 - 5 (RFC 8439 A.3, numbers 7 to 11 are of this kind). */
static void poly1305_edges(void **state)
{
	static const uint8_t fills[] = { 0x00, 0x01, 0xfb, 0xfc, 0xfe, 0xff };
	uint8_t key[32], m[256], mine[16], theirs[16], framed[256 + 32];

	(void)state;
	for (size_t a = 0; a < sizeof fills; a++) {
		for (size_t b = 0; b < sizeof fills; b++) {
			for (size_t n = 0; n <= 256; n += 8) {
				size_t padded = (n + 15) / 16 * 16;

				memset(key, fills[a], 16);
				memset(key + 16, fills[b], 16);
				memset(m, fills[b], sizeof m);
				memset(framed, 0, sizeof framed);
				memcpy(framed, m, n);
				nb_put_le64(framed + padded + 8, n);
				wg_poly_tag(mine, key, m, n);
				crypto_onetimeauth(theirs, framed, padded + 16, key);
				assert_memory_equal(mine, theirs, 16);
			}
		}
	}
}

static void the_chosen_kernel_is_usable(void **state)
{
	(void)state;
	assert_non_null(wg_aead());
	assert_true(wg_aead_usable(wg_aead()));
	assert_ptr_equal(wg_aead(), wg_aead());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kernel_agrees_with_sodium),
		cmocka_unit_test(every_length),
		cmocka_unit_test(poly1305_edges),
		cmocka_unit_test(the_chosen_kernel_is_usable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
