/* aead_avx512.c - the packet cipher for x86-64 with AVX-512 and its 52-bit multiplier.
 * ChaCha20: sixteen blocks at once, one per lane; the lanes are filled with blocks of as many messages
 * as are there, so that short packets use the width, too. Poly1305: eight blocks at once in radix 2^44
 * (eight accumulators times r^8, at the end times r^8 .. r^1). Chosen by aead.c when the processor can. */
#include "wg/aead_int.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx512ifma,bmi2")))
#define LANES 16
#define GROUP 64		/* messages worked on together */
#define WIDE_MIN 384		/* bytes from which the wide Poly1305 pays */
#define M44 0xfffffffffffULL
#define M42 0x3ffffffffffULL

bool wg_avx512_usable(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
	       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
	       __builtin_cpu_supports("avx512ifma") && __builtin_cpu_supports("bmi2");
}

/* --- ChaCha20 --- */

/* What each lane computes, and where it goes. */
struct lanes {
	uint32_t block[LANES], lo[LANES], hi[LANES] __attribute__((aligned(64)));
	struct wg_aead_op *op[LANES];
	unsigned n;
};

#define ADD(a, b) a = _mm512_add_epi32(a, b)
#define ROT(d, a, r) d = _mm512_rol_epi32(_mm512_xor_si512(d, a), r)
/* Four quarter rounds side by side: enough independent work for every port. */
#define STEP(a0, b0, d0, a1, b1, d1, a2, b2, d2, a3, b3, d3, r) \
	ADD(x[a0], x[b0]); ADD(x[a1], x[b1]); ADD(x[a2], x[b2]); ADD(x[a3], x[b3]); \
	ROT(x[d0], x[a0], r); ROT(x[d1], x[a1], r); ROT(x[d2], x[a2], r); ROT(x[d3], x[a3], r)
#define COLUMNS \
	STEP(0, 4, 12, 1, 5, 13, 2, 6, 14, 3, 7, 15, 16); \
	STEP(8, 12, 4, 9, 13, 5, 10, 14, 6, 11, 15, 7, 12); \
	STEP(0, 4, 12, 1, 5, 13, 2, 6, 14, 3, 7, 15, 8); \
	STEP(8, 12, 4, 9, 13, 5, 10, 14, 6, 11, 15, 7, 7)
#define DIAGONALS \
	STEP(0, 5, 15, 1, 6, 12, 2, 7, 13, 3, 4, 14, 16); \
	STEP(10, 15, 5, 11, 12, 6, 8, 13, 7, 9, 14, 4, 12); \
	STEP(0, 5, 15, 1, 6, 12, 2, 7, 13, 3, 4, 14, 8); \
	STEP(10, 15, 5, 11, 12, 6, 8, 13, 7, 9, 14, 4, 7)

/* Rows of words become rows of blocks: a 16 x 16 transposition. */
TARGET static inline __attribute__((always_inline)) void transpose(__m512i x[16])
{
	__m512i t[16];

#pragma GCC unroll 4
	for (int g = 0; g < 4; g++) {
		__m512i a = _mm512_unpacklo_epi32(x[4 * g], x[4 * g + 1]), b = _mm512_unpackhi_epi32(x[4 * g], x[4 * g + 1]);
		__m512i c = _mm512_unpacklo_epi32(x[4 * g + 2], x[4 * g + 3]),
			d = _mm512_unpackhi_epi32(x[4 * g + 2], x[4 * g + 3]);

		t[4 * g] = _mm512_unpacklo_epi64(a, c);
		t[4 * g + 1] = _mm512_unpackhi_epi64(a, c);
		t[4 * g + 2] = _mm512_unpacklo_epi64(b, d);
		t[4 * g + 3] = _mm512_unpackhi_epi64(b, d);
	}
#pragma GCC unroll 4
	for (int k = 0; k < 4; k++) {
		__m512i ab0 = _mm512_shuffle_i32x4(t[k], t[4 + k], 0x44), ab1 = _mm512_shuffle_i32x4(t[k], t[4 + k], 0xee);
		__m512i cd0 = _mm512_shuffle_i32x4(t[8 + k], t[12 + k], 0x44),
			cd1 = _mm512_shuffle_i32x4(t[8 + k], t[12 + k], 0xee);

		x[k] = _mm512_shuffle_i32x4(ab0, cd0, 0x88);
		x[4 + k] = _mm512_shuffle_i32x4(ab0, cd0, 0xdd);
		x[8 + k] = _mm512_shuffle_i32x4(ab1, cd1, 0x88);
		x[12 + k] = _mm512_shuffle_i32x4(ab1, cd1, 0xdd);
	}
}

/* The key stream block of every lane. All lanes have the same key. */
TARGET static inline __attribute__((always_inline)) void chacha(__m512i x[16], const uint8_t *key, const struct lanes *l)
{
	static const uint32_t sigma[4] = { 0x61707865, 0x3320646e, 0x79622d32, 0x6b206574 };
	__m512i n, lo, hi;

	n = _mm512_loadu_si512(l->block);
	lo = _mm512_loadu_si512(l->lo);
	hi = _mm512_loadu_si512(l->hi);
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
		x[i] = _mm512_set1_epi32((int)sigma[i]);
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++)
		x[4 + i] = _mm512_set1_epi32((int)nb_get_le32(key + 4 * i));
	x[12] = n;
	x[13] = _mm512_setzero_si512();
	x[14] = lo;
	x[15] = hi;
	for (int r = 0; r < 10; r++) {
		COLUMNS;
		DIAGONALS;
	}
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
		ADD(x[i], _mm512_set1_epi32((int)sigma[i]));
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++)
		ADD(x[4 + i], _mm512_set1_epi32((int)nb_get_le32(key + 4 * i)));
	ADD(x[12], n);
	ADD(x[14], lo);
	ADD(x[15], hi);
	transpose(x);
}

static inline void add_lane(struct lanes *l, struct wg_aead_op *op, uint32_t block)
{
	l->block[l->n] = block;
	l->lo[l->n] = (uint32_t)op->counter;
	l->hi[l->n] = (uint32_t)(op->counter >> 32);
	l->op[l->n++] = op;
}

/* Key stream onto block b (from 1) of a message. */
TARGET static inline void apply(struct wg_aead_op *op, uint32_t b, __m512i ks)
{
	size_t at = (size_t)(b - 1) * CHACHA_BLOCK, left = op->n - at;
	__mmask64 mask = left >= CHACHA_BLOCK ? ~(__mmask64)0 : ((__mmask64)1 << left) - 1;

	_mm512_mask_storeu_epi8(op->p + at, mask, _mm512_xor_si512(ks, _mm512_maskz_loadu_epi8(mask, op->p + at)));
}

/* Compute the lanes collected. Block 0 of a message is its Poly1305 key: pk[op - base]. */
TARGET static void flush(struct lanes *l, const uint8_t *key, struct wg_aead_op *base, uint8_t pk[][32])
{
	__m512i x[16];

	/* Idle lanes compute something that nobody sees. */
	for (unsigned i = l->n; i < LANES; i++)
		l->block[i] = l->lo[i] = l->hi[i] = 0;
	chacha(x, key, l);
	for (unsigned i = 0; i < l->n; i++) {
		if (l->block[i])
			apply(l->op[i], l->block[i], x[i]);
		else
			_mm256_storeu_si256((__m256i *)(void *)pk[l->op[i] - base], _mm512_castsi512_si256(x[i]));
	}
	l->n = 0;
}

static inline uint32_t data_blocks(const struct wg_aead_op *op)
{
	return (uint32_t)((op->n + CHACHA_BLOCK - 1) / CHACHA_BLOCK);
}

/* --- Poly1305 --- */

struct wide {
	__m512i h0, h1, h2;
};

TARGET static inline __attribute__((always_inline)) struct wide load8(const uint8_t *m)
{
	__m512i a = _mm512_loadu_si512(m), b = _mm512_loadu_si512(m + 64);
	/* Lane order 0 4 1 5 2 6 3 7; the powers at the end are in the same order. */
	__m512i lo = _mm512_unpacklo_epi64(a, b), hi = _mm512_unpackhi_epi64(a, b);
	const __m512i m44 = _mm512_set1_epi64((long long)M44);
	struct wide w;

	w.h0 = _mm512_and_si512(lo, m44);
	w.h1 = _mm512_and_si512(_mm512_or_si512(_mm512_srli_epi64(lo, 44), _mm512_slli_epi64(hi, 20)), m44);
	w.h2 = _mm512_or_si512(_mm512_srli_epi64(hi, 24), _mm512_set1_epi64(1LL << 40));
	return w;
}

struct power {
	__m512i r0, r1, r2, s1, s2;
};

TARGET static inline __attribute__((always_inline)) struct wide times(struct wide h, const struct power *r)
{
	const __m512i zero = _mm512_setzero_si512(), m44 = _mm512_set1_epi64((long long)M44),
		      m42 = _mm512_set1_epi64((long long)M42);
	__m512i l0, l1, l2, u0, u1, u2, c;

#define LO(acc, a, b) _mm512_madd52lo_epu64(acc, a, b)
#define HI(acc, a, b) _mm512_madd52hi_epu64(acc, a, b)
	l0 = LO(LO(LO(zero, h.h0, r->r0), h.h1, r->s2), h.h2, r->s1);
	u0 = HI(HI(HI(zero, h.h0, r->r0), h.h1, r->s2), h.h2, r->s1);
	l1 = LO(LO(LO(zero, h.h0, r->r1), h.h1, r->r0), h.h2, r->s2);
	u1 = HI(HI(HI(zero, h.h0, r->r1), h.h1, r->r0), h.h2, r->s2);
	l2 = LO(LO(LO(zero, h.h0, r->r2), h.h1, r->r1), h.h2, r->r0);
	u2 = HI(HI(HI(zero, h.h0, r->r2), h.h1, r->r1), h.h2, r->r0);
#undef LO
#undef HI
	/* The high halves weigh 2^52: eight bits above the next limb, ten above 2^130. */
	c = _mm512_srli_epi64(l0, 44);
	h.h0 = _mm512_and_si512(l0, m44);
	l1 = _mm512_add_epi64(l1, _mm512_add_epi64(c, _mm512_slli_epi64(u0, 8)));
	c = _mm512_srli_epi64(l1, 44);
	h.h1 = _mm512_and_si512(l1, m44);
	l2 = _mm512_add_epi64(l2, _mm512_add_epi64(c, _mm512_slli_epi64(u1, 8)));
	c = _mm512_add_epi64(_mm512_srli_epi64(l2, 42), _mm512_slli_epi64(u2, 10));
	h.h2 = _mm512_and_si512(l2, m42);
	h.h0 = _mm512_add_epi64(h.h0, _mm512_add_epi64(c, _mm512_slli_epi64(c, 2)));
	c = _mm512_srli_epi64(h.h0, 44);
	h.h0 = _mm512_and_si512(h.h0, m44);
	h.h1 = _mm512_add_epi64(h.h1, c);
	return h;
}

/* One product of limbs, for the powers of r. */
static void multiply(uint64_t out[3], const uint64_t a[3], const uint64_t b[3])
{
	typedef unsigned __int128 u128;
	uint64_t s1 = b[1] * 20, s2 = b[2] * 20, c, h0, h1;
	u128 d0 = (u128)a[0] * b[0] + (u128)a[1] * s2 + (u128)a[2] * s1;
	u128 d1 = (u128)a[0] * b[1] + (u128)a[1] * b[0] + (u128)a[2] * s2;
	u128 d2 = (u128)a[0] * b[2] + (u128)a[1] * b[1] + (u128)a[2] * b[0];

	d1 += (uint64_t)(d0 >> 44);
	d2 += (uint64_t)(d1 >> 44);
	c = (uint64_t)(d2 >> 42);
	h0 = ((uint64_t)d0 & M44) + c * 5;
	h1 = ((uint64_t)d1 & M44) + (h0 >> 44);
	out[0] = h0 & M44;
	out[1] = h1 & M44;
	out[2] = ((uint64_t)d2 & M42) + (h1 >> 44);
}

TARGET static inline struct power spread(__m512i r0, __m512i r1, __m512i r2)
{
	const __m512i twenty = _mm512_set1_epi64(20);

	return (struct power){ r0, r1, r2, _mm512_mullo_epi64(r1, twenty), _mm512_mullo_epi64(r2, twenty) };
}

/* The first n bytes (a multiple of 128) into p->h. */
TARGET static void poly_wide(struct wg_poly *p, const uint8_t *m, size_t n)
{
	uint64_t r[9][3];
	struct power r8, ends;
	struct wide h;

	memcpy(r[1], p->r, sizeof r[1]);
	multiply(r[2], r[1], r[1]);
	multiply(r[3], r[2], r[1]);
	multiply(r[4], r[2], r[2]);
	multiply(r[5], r[4], r[1]);
	multiply(r[6], r[4], r[2]);
	multiply(r[7], r[4], r[3]);
	multiply(r[8], r[4], r[4]);
#define ROW(k) _mm512_set_epi64((long long)r[1][k], (long long)r[5][k], (long long)r[2][k], (long long)r[6][k], \
				(long long)r[3][k], (long long)r[7][k], (long long)r[4][k], (long long)r[8][k])
	ends = spread(ROW(0), ROW(1), ROW(2));
#undef ROW
	r8 = spread(_mm512_set1_epi64((long long)r[8][0]), _mm512_set1_epi64((long long)r[8][1]),
		    _mm512_set1_epi64((long long)r[8][2]));
	h = load8(m);
	for (m += 128, n -= 128; n; m += 128, n -= 128) {
		struct wide w = load8(m);

		h = times(h, &r8);
		h.h0 = _mm512_add_epi64(h.h0, w.h0);
		h.h1 = _mm512_add_epi64(h.h1, w.h1);
		h.h2 = _mm512_add_epi64(h.h2, w.h2);
	}
	h = times(h, &ends);
	p->h[0] = (uint64_t)_mm512_reduce_add_epi64(h.h0);
	p->h[1] = (uint64_t)_mm512_reduce_add_epi64(h.h1);
	p->h[2] = (uint64_t)_mm512_reduce_add_epi64(h.h2);
	/* Eight limbs of 44 bits need a carry before they are multiplied again. */
	p->h[1] += p->h[0] >> 44;
	p->h[0] &= M44;
	p->h[2] += p->h[1] >> 44;
	p->h[1] &= M44;
	p->h[0] += (p->h[2] >> 42) * 5;
	p->h[2] &= M42;
	nb_wipe(r, sizeof r);
}

static void poly(uint8_t tag[WG_TAG], const uint8_t key[32], const uint8_t *m, size_t n)
{
	size_t wide = n >= WIDE_MIN ? n & ~(size_t)127 : 0, whole = n & ~(size_t)15;
	struct wg_poly p;

	wg_poly_init(&p, key);
	if (wide)
		poly_wide(&p, m, wide);
	wg_poly_blocks(&p, m + wide, whole - wide);
	wg_poly_finish(&p, m + whole, n - whole, n, tag);
	nb_wipe(&p, sizeof p);
}

/* --- messages --- */

/* How many messages from ops on share a key, at most GROUP. */
static size_t run_of_key(const struct wg_aead_op *ops, size_t count)
{
	size_t n = 1;

	while (n < count && n < GROUP && (ops[n].key == ops[0].key || !memcmp(ops[n].key, ops[0].key, 32)))
		n++;
	return n;
}

static void crypt_all(struct wg_aead_op *ops, size_t n, uint32_t first, uint8_t pk[][32])
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
				flush(&l, ops[0].key, ops, pk);
		}
	}
	if (l.n)
		flush(&l, ops[0].key, ops, pk);
}

static void keys_all(struct wg_aead_op *ops, size_t n, uint8_t pk[][32])
{
	struct lanes l;

	l.n = 0;
	for (size_t i = 0; i < n; i++) {
		add_lane(&l, &ops[i], 0);
		if (l.n == LANES)
			flush(&l, ops[0].key, ops, pk);
	}
	if (l.n)
		flush(&l, ops[0].key, ops, pk);
}

static void seal(struct wg_aead_op *ops, size_t count)
{
	uint8_t pk[GROUP][32];
	size_t n;

	for (; count; ops += n, count -= n) {
		n = run_of_key(ops, count);
		crypt_all(ops, n, 0, pk);
		for (size_t i = 0; i < n; i++)
			poly(ops[i].p + ops[i].n, pk[i], ops[i].p, ops[i].n);
		nb_wipe(pk, n * 32);
	}
}

static void open(struct wg_aead_op *ops, size_t count)
{
	uint8_t pk[GROUP][32], tag[WG_TAG];
	size_t n;

	for (; count; ops += n, count -= n) {
		n = run_of_key(ops, count);
		keys_all(ops, n, pk);
		for (size_t i = 0; i < n; i++) {
			poly(tag, pk[i], ops[i].p, ops[i].n);
			ops[i].ok = nb_equal_ct(tag, ops[i].p + ops[i].n, WG_TAG);
		}
		crypt_all(ops, n, 1, pk);
		nb_wipe(pk, n * 32);
	}
}

const struct wg_aead wg_aead_avx512 = { "avx512", seal, open };

#endif
