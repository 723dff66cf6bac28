/* aead_four.h - what the kernels with four lanes (SSSE3, NEON) share beyond aead_lanes.h: they only bring V_STORE and
 * the transposition of four rows. */
#ifndef NB_WG_AEAD_FOUR_H
#define NB_WG_AEAD_FOUR_H

#include "wg/aead_lanes.h"

TARGET static void flush(struct lanes *l, const uint8_t *key, struct wg_aead_op *base, uint8_t pk[][KEY_ROW],
			 uint8_t ks[LANES][CHACHA_BLOCK])
{
	uint8_t last[CHACHA_BLOCK];
	VEC x[16];

	idle_lanes(l);
	chacha(x, key, V_LOAD(l->block), V_LOAD(l->lo), V_LOAD(l->hi));
#pragma GCC unroll 4
	for (int q = 0; q < 16; q += 4)
		transpose(x + q);
	for (unsigned i = 0; i < l->n; i++) {
		uint8_t *p, *to;
		size_t n;

		if (!l->block[i]) {
			V_STORE(pk[l->op[i] - base], x[i]);
			V_STORE(pk[l->op[i] - base] + 16, x[4 + i]);
			continue;
		}
		p = block_at(l->op[i], l->block[i], &n);
		if (ks || n < CHACHA_BLOCK) {
			to = ks ? ks[i] : last;
			for (unsigned q = 0; q < 4; q++)
				V_STORE(to + 16 * q, x[4 * q + i]);
			if (!ks)
				xor_bytes(p, last, n);
			continue;
		}
		for (unsigned q = 0; q < 4; q++)
			V_STORE(p + 16 * q, V_XOR(x[4 * q + i], V_LOAD(p + 16 * q)));
	}
	l->n = 0;
}

static void poly(uint8_t tag[WG_TAG], const uint8_t key[32], const uint8_t *m, size_t n)
{
	wg_poly_tag(tag, key, m, n);
}

#endif
