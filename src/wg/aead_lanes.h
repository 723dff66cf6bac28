/* aead_lanes.h - what the kernels with wide registers share: which block of which message each lane computes, the
 * ChaCha20 rounds, and sealing and opening around them. A kernel defines before it includes this:
 *   LANES      blocks at once
 *   TARGET     function attribute that turns its instructions on
 *   VEC        LANES words of 32 bits
 *   V_ADD(a, b), V_XOR(a, b), V_ROL16(a), V_ROL12(a), V_ROL8(a), V_ROL7(a), V_SET(word), V_LOAD(words)
 *   PAIRS      quarter rounds side by side: 2 or 4, by the number of registers
 *   KEY_ROW    bytes between the Poly1305 keys of messages, 32 at least
 *   OWN_LANES  if it fills the lanes in its own way: then it brings crypt_all, keys_all and few instead of flush
 *   POLY_MANY  how many messages its poly_many works on at once, if it has one
 * and after it the functions declared below. Everything here is static: each kernel gets its own. */
#ifndef NB_WG_AEAD_LANES_H
#define NB_WG_AEAD_LANES_H

#include "wg/aead_int.h"

#define GROUP 64		/* messages worked on together */
#define INLINE static inline __attribute__((always_inline))

#ifndef OWN_LANES
/* What each lane computes, and where it goes. */
struct lanes {
	uint32_t block[LANES], lo[LANES], hi[LANES] __attribute__((aligned(4 * LANES)));
	struct wg_aead_op *op[LANES];
	unsigned n;
};

/* Compute the lanes collected, and empty them. Block 0 of a message is its Poly1305 key: pk[op - base]. The others
 * go onto the message, or, if ks is not NULL, lane i's block to ks[i]. */
static void flush(struct lanes *l, const uint8_t *key, struct wg_aead_op *base, uint8_t pk[][KEY_ROW],
		  uint8_t ks[LANES][CHACHA_BLOCK]);
#else
/* Key stream onto messages that share a key: onto all of each, and their Poly1305 keys to pk, if first is 0; if it
 * is 1 only onto those that are all right, and no keys. */
static void crypt_all(struct wg_aead_op *ops, size_t n, uint32_t first, uint8_t pk[][KEY_ROW]);
/* Their Poly1305 keys. */
static void keys_all(struct wg_aead_op *ops, size_t n, uint8_t pk[][KEY_ROW]);
#endif
/* Seal, or open, messages that share a key and are few and short; false, and nothing done, if they are not. */
static bool few(struct wg_aead_op *ops, size_t n, bool opening);
/* The tag of a message. */
static void poly(uint8_t tag[WG_TAG], const uint8_t key[32], const uint8_t *m, size_t n);
#ifdef POLY_MANY
/* The same for n messages at once, at most POLY_MANY; false, and nothing done, when that does not pay. */
static bool poly_many(uint8_t tags[][WG_TAG], uint8_t pk[][KEY_ROW], const struct wg_aead_op *ops, size_t n);
#endif

/* --- ChaCha20 --- */

#define QR_STEP(f, a, b, d) \
	x[a] = V_ADD(x[a], x[b]); \
	x[d] = f(V_XOR(x[d], x[a]))
#define TWO(f, a0, b0, d0, a1, b1, d1) \
	QR_STEP(f, a0, b0, d0); \
	QR_STEP(f, a1, b1, d1)
#define FOUR(f, a0, b0, d0, a1, b1, d1, a2, b2, d2, a3, b3, d3) \
	TWO(f, a0, b0, d0, a1, b1, d1); \
	TWO(f, a2, b2, d2, a3, b3, d3)
#define QUARTERS2(a0, b0, c0, d0, a1, b1, c1, d1) \
	TWO(V_ROL16, a0, b0, d0, a1, b1, d1); \
	TWO(V_ROL12, c0, d0, b0, c1, d1, b1); \
	TWO(V_ROL8, a0, b0, d0, a1, b1, d1); \
	TWO(V_ROL7, c0, d0, b0, c1, d1, b1)
#define QUARTERS4(a0, b0, c0, d0, a1, b1, c1, d1, a2, b2, c2, d2, a3, b3, c3, d3) \
	FOUR(V_ROL16, a0, b0, d0, a1, b1, d1, a2, b2, d2, a3, b3, d3); \
	FOUR(V_ROL12, c0, d0, b0, c1, d1, b1, c2, d2, b2, c3, d3, b3); \
	FOUR(V_ROL8, a0, b0, d0, a1, b1, d1, a2, b2, d2, a3, b3, d3); \
	FOUR(V_ROL7, c0, d0, b0, c1, d1, b1, c2, d2, b2, c3, d3, b3)

TARGET INLINE void double_round(VEC x[16])
{
#if PAIRS == 4
	QUARTERS4(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
	QUARTERS4(0, 5, 10, 15, 1, 6, 11, 12, 2, 7, 8, 13, 3, 4, 9, 14);
#else
	QUARTERS2(0, 4, 8, 12, 1, 5, 9, 13);
	QUARTERS2(2, 6, 10, 14, 3, 7, 11, 15);
	/* Starting with the rows of c that were worked on last keeps them in registers. */
	QUARTERS2(2, 7, 8, 13, 3, 4, 9, 14);
	QUARTERS2(0, 5, 10, 15, 1, 6, 11, 12);
#endif
}

/* Row i of the state every lane starts with. All lanes have the same key. */
TARGET INLINE VEC first_row(int i, const uint8_t *key, VEC block, VEC lo, VEC hi)
{
	static const uint32_t sigma[4] = { 0x61707865, 0x3320646e, 0x79622d32, 0x6b206574 };

	switch (i) {
	case 12: return block;
	case 13: return V_SET(0);
	case 14: return lo;
	case 15: return hi;
	default: return V_SET(i < 4 ? sigma[i] : nb_get_le32(key + 4 * (i - 4)));
	}
}

/* The key stream: word i of every lane's block in x[i]. block: the number of each lane's, lo, hi: its message's
 * counter. */
TARGET INLINE void chacha(VEC x[16], const uint8_t *key, VEC block, VEC lo, VEC hi)
{
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		x[i] = first_row(i, key, block, lo, hi);
	for (int r = 0; r < 10; r++)
		double_round(x);
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		x[i] = V_ADD(x[i], first_row(i, key, block, lo, hi));
}

/* --- lanes --- */

static inline uint32_t data_blocks(const struct wg_aead_op *op)
{
	return (uint32_t)((op->n + CHACHA_BLOCK - 1) / CHACHA_BLOCK);
}

#ifndef OWN_LANES
static inline void add_lane(struct lanes *l, struct wg_aead_op *op, uint32_t block)
{
	l->block[l->n] = block;
	l->lo[l->n] = (uint32_t)op->counter;
	l->hi[l->n] = (uint32_t)(op->counter >> 32);
	l->op[l->n++] = op;
}

/* Idle lanes compute something that nobody sees. */
static inline void idle_lanes(struct lanes *l)
{
	for (unsigned i = l->n; i < LANES; i++)
		l->block[i] = l->lo[i] = l->hi[i] = 0;
}

/* Where block b (from 1) of a message is, and how many bytes it has. */
static inline uint8_t *block_at(const struct wg_aead_op *op, uint32_t b, size_t *n)
{
	size_t at = (size_t)(b - 1) * CHACHA_BLOCK;

	*n = op->n - at < CHACHA_BLOCK ? op->n - at : CHACHA_BLOCK;
	return op->p + at;
}

/* Key stream onto n bytes. */
static inline void xor_bytes(uint8_t *p, const uint8_t *ks, size_t n)
{
	uint64_t a, b;

	for (; n >= 8; p += 8, ks += 8, n -= 8) {
		memcpy(&a, p, 8);
		memcpy(&b, ks, 8);
		a ^= b;
		memcpy(p, &a, 8);
	}
	while (n--)
		*p++ ^= *ks++;
}
#endif

/* --- messages --- */

/* How many messages from ops on share a key, at most GROUP. */
static inline size_t run_of_key(const struct wg_aead_op *ops, size_t count)
{
	size_t n = 1;

	while (n < count && n < GROUP && (ops[n].key == ops[0].key || !memcmp(ops[n].key, ops[0].key, 32)))
		n++;
	return n;
}

#ifndef OWN_LANES
/* Blocks first to the last of each message; without block 0, only of messages that are all right. */
static inline void crypt_all(struct wg_aead_op *ops, size_t n, uint32_t first, uint8_t pk[][KEY_ROW])
{
	struct lanes l;

	l.n = 0;
	for (size_t i = 0; i < n; i++) {
		uint32_t last = data_blocks(&ops[i]);

		if (first && !ops[i].ok)
			continue;
		for (uint32_t b = first; b <= last; b++) {
			add_lane(&l, &ops[i], b);
			if (l.n == LANES)
				flush(&l, ops[0].key, ops, pk, NULL);
		}
	}
	if (l.n)
		flush(&l, ops[0].key, ops, pk, NULL);
}

static inline void keys_all(struct wg_aead_op *ops, size_t n, uint8_t pk[][KEY_ROW])
{
	struct lanes l;

	l.n = 0;
	for (size_t i = 0; i < n; i++) {
		add_lane(&l, &ops[i], 0);
		if (l.n == LANES)
			flush(&l, ops[0].key, ops, pk, NULL);
	}
	if (l.n)
		flush(&l, ops[0].key, ops, pk, NULL);
}
#endif

static inline void poly_all(uint8_t tags[][WG_TAG], const struct wg_aead_op *ops, size_t n, uint8_t pk[][KEY_ROW])
{
	size_t i = 0;

#ifdef POLY_MANY
	while (i < n) {
		size_t some = n - i < POLY_MANY ? n - i : POLY_MANY;

		if (poly_many(tags + i, pk + i, ops + i, some)) {
			i += some;
			continue;
		}
		poly(tags[i], pk[i], ops[i].p, ops[i].n);
		i++;
	}
#endif
	for (; i < n; i++)
		poly(tags[i], pk[i], ops[i].p, ops[i].n);
}

/* In constant time. */
static inline bool same_tag(const uint8_t *a, const uint8_t *b)
{
	return !((nb_get_le64(a) ^ nb_get_le64(b)) | (nb_get_le64(a + 8) ^ nb_get_le64(b + 8)));
}

static inline void check_all(struct wg_aead_op *ops, size_t n, uint8_t pk[][KEY_ROW])
{
	uint8_t tags[GROUP][WG_TAG];

	poly_all(tags, ops, n, pk);
	for (size_t i = 0; i < n; i++)
		ops[i].ok = same_tag(tags[i], ops[i].p + ops[i].n);
	nb_wipe(tags, n * WG_TAG);
}

#ifndef OWN_LANES
/* Opening is one pass instead of two if all blocks fit into the lanes; sealing is one anyway. */
static bool few(struct wg_aead_op *ops, size_t n, bool opening)
{
	uint8_t ks[LANES][CHACHA_BLOCK] __attribute__((aligned(64))), pk[LANES / 2][KEY_ROW];
	struct lanes l;
	unsigned lane = 0;
	size_t part;

	if (!opening || n > LANES / 2)
		return false;
	l.n = 0;
	for (size_t i = 0; i < n; i++) {
		uint32_t last = data_blocks(&ops[i]);

		if (last >= LANES - l.n)
			return false;
		for (uint32_t b = 0; b <= last; b++)
			add_lane(&l, &ops[i], b);
	}
	flush(&l, ops[0].key, ops, pk, ks);
	check_all(ops, n, pk);
	for (size_t i = 0; i < n; i++) {
		uint32_t last = data_blocks(&ops[i]);

		for (uint32_t b = 1; ops[i].ok && b <= last; b++) {
			uint8_t *p = block_at(&ops[i], b, &part);

			xor_bytes(p, ks[lane + b], part);
		}
		lane += last + 1;
	}
	nb_wipe(ks, sizeof ks);
	nb_wipe(pk, sizeof pk);
	return true;
}
#endif

static void seal(struct wg_aead_op *ops, size_t count)
{
	uint8_t pk[GROUP][KEY_ROW], tags[GROUP][WG_TAG];
	size_t n;

	for (; count; ops += n, count -= n) {
		n = run_of_key(ops, count);
		if (few(ops, n, false))
			continue;
		crypt_all(ops, n, 0, pk);
		poly_all(tags, ops, n, pk);
		for (size_t i = 0; i < n; i++)
			memcpy(ops[i].p + ops[i].n, tags[i], WG_TAG);
		nb_wipe(pk, n * KEY_ROW);
	}
}

static void open(struct wg_aead_op *ops, size_t count)
{
	uint8_t pk[GROUP][KEY_ROW];
	size_t n;

	for (; count; ops += n, count -= n) {
		n = run_of_key(ops, count);
		if (few(ops, n, true))
			continue;
		keys_all(ops, n, pk);
		check_all(ops, n, pk);
		crypt_all(ops, n, 1, pk);
		nb_wipe(pk, n * KEY_ROW);
	}
}

#endif
