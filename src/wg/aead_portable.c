/* aead_portable.c - the packet cipher in plain C, for processors without a kernel of their own. */
#include "wg/aead_int.h"

static inline uint32_t rotl(uint32_t x, int n)
{
	return x << n | x >> (32 - n);
}

#define QUARTER(a, b, c, d) \
	do { \
		a += b; d = rotl(d ^ a, 16); \
		c += d; b = rotl(b ^ c, 12); \
		a += b; d = rotl(d ^ a, 8); \
		c += d; b = rotl(b ^ c, 7); \
	} while (0)

static void block(uint32_t out[16], const uint32_t key[8], uint32_t n, uint64_t counter)
{
	const uint32_t in[16] = { 0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, key[0], key[1], key[2], key[3], key[4], key[5],
				  key[6], key[7], n, 0, (uint32_t)counter, (uint32_t)(counter >> 32) };
	uint32_t x[16];

	memcpy(x, in, sizeof x);
	for (int i = 0; i < 10; i++) {
		QUARTER(x[0], x[4], x[8], x[12]);
		QUARTER(x[1], x[5], x[9], x[13]);
		QUARTER(x[2], x[6], x[10], x[14]);
		QUARTER(x[3], x[7], x[11], x[15]);
		QUARTER(x[0], x[5], x[10], x[15]);
		QUARTER(x[1], x[6], x[11], x[12]);
		QUARTER(x[2], x[7], x[8], x[13]);
		QUARTER(x[3], x[4], x[9], x[14]);
	}
	for (int i = 0; i < 16; i++)
		out[i] = x[i] + in[i];
}

static void load_key(uint32_t k[8], const uint8_t key[32])
{
	for (int i = 0; i < 8; i++)
		k[i] = nb_get_le32(key + 4 * i);
}

static void poly_key(uint8_t out[32], const uint32_t k[8], uint64_t counter)
{
	uint32_t ks[16];

	block(ks, k, 0, counter);
	for (int i = 0; i < 8; i++)
		nb_put_le32(out + 4 * i, ks[i]);
	nb_wipe(ks, sizeof ks);
}

static void crypt(uint8_t *p, size_t n, const uint32_t k[8], uint64_t counter)
{
	uint8_t ks8[CHACHA_BLOCK];
	uint32_t ks[16];

	for (uint32_t b = 1; n; b++) {
		size_t part = n < CHACHA_BLOCK ? n : CHACHA_BLOCK;

		block(ks, k, b, counter);
		for (int i = 0; i < 16; i++)
			nb_put_le32(ks8 + 4 * i, ks[i]);
		for (size_t i = 0; i < part; i++)
			p[i] ^= ks8[i];
		p += part;
		n -= part;
	}
	nb_wipe(ks, sizeof ks);
	nb_wipe(ks8, sizeof ks8);
}

static void seal(struct wg_aead_op *ops, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct wg_aead_op *op = &ops[i];
		uint8_t pk[32];
		uint32_t k[8];

		load_key(k, op->key);
		poly_key(pk, k, op->counter);
		crypt(op->p, op->n, k, op->counter);
		wg_poly_tag(op->p + op->n, pk, op->p, op->n);
		nb_wipe(pk, sizeof pk);
		nb_wipe(k, sizeof k);
	}
}

static void open(struct wg_aead_op *ops, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct wg_aead_op *op = &ops[i];
		uint8_t pk[32], tag[WG_TAG];
		uint32_t k[8];

		load_key(k, op->key);
		poly_key(pk, k, op->counter);
		wg_poly_tag(tag, pk, op->p, op->n);
		op->ok = nb_equal_ct(tag, op->p + op->n, WG_TAG);
		if (op->ok)
			crypt(op->p, op->n, k, op->counter);
		nb_wipe(pk, sizeof pk);
		nb_wipe(k, sizeof k);
	}
}

const struct wg_aead wg_aead_portable = { "portable", seal, open };
