/* aead_avx512.c - the packet cipher for x86-64 with AVX-512 and its 52-bit multiplier.
 * ChaCha20: sixteen blocks at once, one per lane; the lanes are filled with blocks of as many messages
 * as are there, so that short packets use the width, too. Poly1305 in radix 2^44: of eight messages of
 * similar length at once, one per lane; of a single one eight blocks at once (eight accumulators times
 * r^8, at the end times r^8 .. r^1). Chosen by aead.c when the processor can. */
#if defined(__x86_64__)

#include <immintrin.h>

#define LANES 16
#define TARGET __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx512ifma,bmi2")))
#define VEC __m512i
#define V_ADD(a, b) _mm512_add_epi32(a, b)
#define V_XOR(a, b) _mm512_xor_si512(a, b)
#define V_ROL16(a) _mm512_rol_epi32(a, 16)
#define V_ROL12(a) _mm512_rol_epi32(a, 12)
#define V_ROL8(a) _mm512_rol_epi32(a, 8)
#define V_ROL7(a) _mm512_rol_epi32(a, 7)
#define V_SET(w) _mm512_set1_epi32((int)(w))
#define V_LOAD(p) _mm512_loadu_si512(p)
#define PAIRS 4
#define POLY_MANY 8
#include "wg/aead_lanes.h"

#define WIDE_MIN 256		/* bytes from which the wide Poly1305 pays */
#define M44 WG_M44
#define M42 WG_M42

bool wg_avx512_usable(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
	       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
	       __builtin_cpu_supports("avx512ifma") && __builtin_cpu_supports("bmi2");
}

/* --- ChaCha20 --- */

/* Rows of words become rows of blocks: a 16 x 16 transposition. */
TARGET INLINE void transpose(__m512i x[16])
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

TARGET static void flush(struct lanes *l, const uint8_t *key, struct wg_aead_op *base, uint8_t pk[][32],
			 uint8_t ks[LANES][CHACHA_BLOCK])
{
	__m512i x[16];

	idle_lanes(l);
	chacha(x, key, l);
	transpose(x);
	for (unsigned i = 0; i < l->n; i++) {
		size_t n;
		uint8_t *p;
		__mmask64 mask;

		if (!l->block[i]) {
			_mm256_storeu_si256((__m256i *)(void *)pk[l->op[i] - base], _mm512_castsi512_si256(x[i]));
			continue;
		}
		if (ks) {
			_mm512_storeu_si512(ks[i], x[i]);
			continue;
		}
		p = block_at(l->op[i], l->block[i], &n);
		mask = ~(__mmask64)0 >> (CHACHA_BLOCK - n);
		_mm512_mask_storeu_epi8(p, mask, _mm512_xor_si512(x[i], _mm512_maskz_loadu_epi8(mask, p)));
	}
	l->n = 0;
}

/* --- Poly1305 --- */

struct wide {
	__m512i h0, h1, h2;
};

/* The limbs of eight blocks, the bit behind each included. */
TARGET INLINE struct wide split(__m512i lo, __m512i hi)
{
	const __m512i m44 = _mm512_set1_epi64((long long)M44);
	struct wide w;

	w.h0 = _mm512_and_si512(lo, m44);
	w.h1 = _mm512_and_si512(_mm512_or_si512(_mm512_srli_epi64(lo, 44), _mm512_slli_epi64(hi, 20)), m44);
	w.h2 = _mm512_or_si512(_mm512_srli_epi64(hi, 24), _mm512_set1_epi64(1LL << 40));
	return w;
}

TARGET INLINE struct wide add(struct wide a, struct wide b)
{
	return (struct wide){ _mm512_add_epi64(a.h0, b.h0), _mm512_add_epi64(a.h1, b.h1), _mm512_add_epi64(a.h2, b.h2) };
}

TARGET INLINE struct wide load8(const uint8_t *m)
{
	__m512i a = _mm512_loadu_si512(m), b = _mm512_loadu_si512(m + 64);
	/* Lane order 0 4 1 5 2 6 3 7; the powers at the end are in the same order. */
	__m512i lo = _mm512_unpacklo_epi64(a, b), hi = _mm512_unpackhi_epi64(a, b);

	return split(lo, hi);
}

struct power {
	__m512i r0, r1, r2, s1, s2;
};

/* Products not yet carried: the low and the high 52 bits of each. */
struct sums {
	__m512i l0, l1, l2, u0, u1, u2;
};

TARGET INLINE void add_product(struct sums *s, struct wide h, const struct power *r)
{
#define LO(acc, a, b) _mm512_madd52lo_epu64(acc, a, b)
#define HI(acc, a, b) _mm512_madd52hi_epu64(acc, a, b)
	s->l0 = LO(LO(LO(s->l0, h.h0, r->r0), h.h1, r->s2), h.h2, r->s1);
	s->u0 = HI(HI(HI(s->u0, h.h0, r->r0), h.h1, r->s2), h.h2, r->s1);
	s->l1 = LO(LO(LO(s->l1, h.h0, r->r1), h.h1, r->r0), h.h2, r->s2);
	s->u1 = HI(HI(HI(s->u1, h.h0, r->r1), h.h1, r->r0), h.h2, r->s2);
	s->l2 = LO(LO(LO(s->l2, h.h0, r->r2), h.h1, r->r1), h.h2, r->r0);
	s->u2 = HI(HI(HI(s->u2, h.h0, r->r2), h.h1, r->r1), h.h2, r->r0);
#undef LO
#undef HI
}

/* The high halves weigh 2^52: eight bits above the next limb, ten above 2^130. */
TARGET INLINE struct wide carry(struct sums s)
{
	const __m512i m44 = _mm512_set1_epi64((long long)M44), m42 = _mm512_set1_epi64((long long)M42);
	struct wide h;
	__m512i c;

	c = _mm512_srli_epi64(s.l0, 44);
	h.h0 = _mm512_and_si512(s.l0, m44);
	s.l1 = _mm512_add_epi64(s.l1, _mm512_add_epi64(c, _mm512_slli_epi64(s.u0, 8)));
	c = _mm512_srli_epi64(s.l1, 44);
	h.h1 = _mm512_and_si512(s.l1, m44);
	s.l2 = _mm512_add_epi64(s.l2, _mm512_add_epi64(c, _mm512_slli_epi64(s.u1, 8)));
	c = _mm512_add_epi64(_mm512_srli_epi64(s.l2, 42), _mm512_slli_epi64(s.u2, 10));
	h.h2 = _mm512_and_si512(s.l2, m42);
	h.h0 = _mm512_add_epi64(h.h0, _mm512_add_epi64(c, _mm512_slli_epi64(c, 2)));
	c = _mm512_srli_epi64(h.h0, 44);
	h.h0 = _mm512_and_si512(h.h0, m44);
	h.h1 = _mm512_add_epi64(h.h1, c);
	return h;
}

TARGET INLINE struct wide times(struct wide h, const struct power *r)
{
	struct sums s = { 0 };

	add_product(&s, h, r);
	return carry(s);
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
	wg_poly_multiply(r[2], r[1], r[1]);
	wg_poly_multiply(r[3], r[2], r[1]);
	wg_poly_multiply(r[4], r[2], r[2]);
	wg_poly_multiply(r[5], r[4], r[1]);
	wg_poly_multiply(r[6], r[4], r[2]);
	wg_poly_multiply(r[7], r[4], r[3]);
	wg_poly_multiply(r[8], r[4], r[4]);
#define ROW(k) _mm512_set_epi64((long long)r[1][k], (long long)r[5][k], (long long)r[2][k], (long long)r[6][k], \
				(long long)r[3][k], (long long)r[7][k], (long long)r[4][k], (long long)r[8][k])
	ends = spread(ROW(0), ROW(1), ROW(2));
#undef ROW
	r8 = spread(_mm512_set1_epi64((long long)r[8][0]), _mm512_set1_epi64((long long)r[8][1]),
		    _mm512_set1_epi64((long long)r[8][2]));
	h = load8(m);
	for (m += 128, n -= 128; n; m += 128, n -= 128) {
		struct wide w = load8(m);

		h = add(times(h, &r8), w);
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

/* Eight rows of 64-bit words become eight columns. */
TARGET INLINE void transpose8(__m512i x[8])
{
	__m512i t[8], u[8];

#pragma GCC unroll 4
	for (int i = 0; i < 8; i += 2) {
		t[i] = _mm512_unpacklo_epi64(x[i], x[i + 1]);
		t[i + 1] = _mm512_unpackhi_epi64(x[i], x[i + 1]);
	}
#pragma GCC unroll 2
	for (int i = 0; i < 2; i++) {
		u[i] = _mm512_shuffle_i64x2(t[i], t[2 + i], 0x88);
		u[2 + i] = _mm512_shuffle_i64x2(t[i], t[2 + i], 0xdd);
		u[4 + i] = _mm512_shuffle_i64x2(t[4 + i], t[6 + i], 0x88);
		u[6 + i] = _mm512_shuffle_i64x2(t[4 + i], t[6 + i], 0xdd);
	}
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		x[i] = _mm512_shuffle_i64x2(u[i], u[4 + i], 0x88);
		x[4 + i] = _mm512_shuffle_i64x2(u[i], u[4 + i], 0xdd);
	}
}

/* The first n bytes (a multiple of 64, not 0) of eight messages into their p->h: one message per lane, two blocks of
 * each between carries. */
TARGET static void poly_eight(struct wg_poly p[8], const struct wg_aead_op *ops, size_t n)
{
	uint64_t out[3][8] __attribute__((aligned(64)));
	struct wide h = { 0 };
	struct power r1, r2;

#define ROW(k) _mm512_set_epi64((long long)p[7].r[k], (long long)p[6].r[k], (long long)p[5].r[k], (long long)p[4].r[k], \
				(long long)p[3].r[k], (long long)p[2].r[k], (long long)p[1].r[k], (long long)p[0].r[k])
	r1 = spread(ROW(0), ROW(1), ROW(2));
#undef ROW
	{
		struct wide square = times((struct wide){ r1.r0, r1.r1, r1.r2 }, &r1);

		r2 = spread(square.h0, square.h1, square.h2);
	}
	for (size_t at = 0; at < n; at += CHACHA_BLOCK) {
		__m512i x[8];

#pragma GCC unroll 8
		for (int i = 0; i < 8; i++)
			x[i] = _mm512_loadu_si512(ops[i].p + at);
		transpose8(x);
#pragma GCC unroll 2
		for (int i = 0; i < 8; i += 4) {
			struct sums s = { 0 };

			add_product(&s, split(x[i + 2], x[i + 3]), &r1);
			add_product(&s, add(h, split(x[i], x[i + 1])), &r2);
			h = carry(s);
		}
	}
	_mm512_store_si512(out[0], h.h0);
	_mm512_store_si512(out[1], h.h1);
	_mm512_store_si512(out[2], h.h2);
	for (int i = 0; i < 8; i++)
		for (int k = 0; k < 3; k++)
			p[i].h[k] = out[k][i];
}

/* A lane that waits for longer messages is lost, so the shortest has to be half as long as the longest. */
static bool poly_many(uint8_t tags[][WG_TAG], uint8_t pk[][32], const struct wg_aead_op *ops)
{
	size_t shortest = ops[0].n, longest = ops[0].n, common;
	struct wg_poly p[8];

	for (int i = 1; i < 8; i++) {
		shortest = ops[i].n < shortest ? ops[i].n : shortest;
		longest = ops[i].n > longest ? ops[i].n : longest;
	}
	common = shortest & ~(size_t)63;
	if (!common || longest > 2 * common)
		return false;
	for (int i = 0; i < 8; i++)
		wg_poly_init(&p[i], pk[i]);
	poly_eight(p, ops, common);
	for (int i = 0; i < 8; i++) {
		size_t whole = ops[i].n & ~(size_t)15;

		wg_poly_blocks(&p[i], ops[i].p + common, whole - common);
		wg_poly_finish(&p[i], ops[i].p + whole, ops[i].n - whole, ops[i].n, tags[i]);
	}
	nb_wipe(p, sizeof p);
	return true;
}

const struct wg_aead wg_aead_avx512 = { "avx512", seal, open };

#endif
