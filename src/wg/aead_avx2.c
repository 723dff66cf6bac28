/* aead_avx2.c - the packet cipher for x86-64 with AVX2. ChaCha20: eight blocks at once, one per lane. Poly1305: four
 * blocks at once in radix 2^26 (four accumulators), two such groups between carries. Chosen by aead.c when the
 * processor can. */
#if defined(__x86_64__)

#include <immintrin.h>

#define LANES 8
#define TARGET __attribute__((target("avx2,bmi2")))
#define VEC __m256i
#define V_ADD(a, b) _mm256_add_epi32(a, b)
#define V_XOR(a, b) _mm256_xor_si256(a, b)
#define V_ROL(a, n) _mm256_or_si256(_mm256_slli_epi32(a, n), _mm256_srli_epi32(a, 32 - (n)))
#define V_ROL16(a) _mm256_shuffle_epi8(a, _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0d0c0f0e09080b0a, 0x0504070601000302)))
#define V_ROL12(a) V_ROL(a, 12)
#define V_ROL8(a) _mm256_shuffle_epi8(a, _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0e0d0c0f0a09080b, 0x0605040702010003)))
#define V_ROL7(a) V_ROL(a, 7)
#define V_SET(w) _mm256_set1_epi32((int)(w))
#define V_LOAD(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define PAIRS 2
#define KEY_ROW 32
#include "wg/aead_lanes.h"

#define WIDE_MIN 256		/* bytes from which the wide Poly1305 pays */
#define M26 0x3ffffffLL

bool wg_avx2_usable(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
}

/* --- ChaCha20 --- */

/* Eight rows of words become eight half blocks. */
TARGET INLINE void transpose(__m256i x[8])
{
	__m256i t[8], u[8];

#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		t[2 * i] = _mm256_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
		t[2 * i + 1] = _mm256_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
	}
#pragma GCC unroll 2
	for (int i = 0; i < 2; i++) {
		u[4 * i] = _mm256_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
		u[4 * i + 1] = _mm256_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
		u[4 * i + 2] = _mm256_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
		u[4 * i + 3] = _mm256_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
	}
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		x[i] = _mm256_permute2x128_si256(u[i], u[4 + i], 0x20);
		x[4 + i] = _mm256_permute2x128_si256(u[i], u[4 + i], 0x31);
	}
}

TARGET static void flush(struct lanes *l, const uint8_t *key, struct wg_aead_op *base, uint8_t pk[][KEY_ROW],
			 uint8_t ks[LANES][CHACHA_BLOCK])
{
	uint8_t last[CHACHA_BLOCK] __attribute__((aligned(32)));
	__m256i x[16];

	idle_lanes(l);
	chacha(x, key, V_LOAD(l->block), V_LOAD(l->lo), V_LOAD(l->hi));
	transpose(x);
	transpose(x + 8);
	for (unsigned i = 0; i < l->n; i++) {
		uint8_t *p;
		size_t n;

		if (!l->block[i]) {
			_mm256_storeu_si256((__m256i *)(void *)pk[l->op[i] - base], x[i]);
			continue;
		}
		p = block_at(l->op[i], l->block[i], &n);
		if (ks || n < CHACHA_BLOCK) {
			_mm256_store_si256((__m256i *)(void *)(ks ? ks[i] : last), x[i]);
			_mm256_store_si256((__m256i *)(void *)((ks ? ks[i] : last) + 32), x[8 + i]);
			if (!ks)
				xor_bytes(p, last, n);
			continue;
		}
		_mm256_storeu_si256((__m256i *)(void *)p, _mm256_xor_si256(x[i], V_LOAD(p)));
		_mm256_storeu_si256((__m256i *)(void *)(p + 32), _mm256_xor_si256(x[8 + i], V_LOAD(p + 32)));
	}
	l->n = 0;
}

/* --- Poly1305 --- */

struct wide {
	__m256i h[5];
};

/* r, and 5 r[1..4] for what passes 2^130. */
struct power {
	__m256i r[5], s[5];
};

/* Blocks in lane order 0 2 1 3; the powers at the end are in the same order. */
TARGET INLINE struct wide load4(const uint8_t *m)
{
	const __m256i m26 = _mm256_set1_epi64x(M26);
	__m256i a = V_LOAD(m), b = V_LOAD(m + 32);
	__m256i lo = _mm256_unpacklo_epi64(a, b), hi = _mm256_unpackhi_epi64(a, b);

	return (struct wide){ {
		_mm256_and_si256(lo, m26),
		_mm256_and_si256(_mm256_srli_epi64(lo, 26), m26),
		_mm256_and_si256(_mm256_or_si256(_mm256_srli_epi64(lo, 52), _mm256_slli_epi64(hi, 12)), m26),
		_mm256_and_si256(_mm256_srli_epi64(hi, 14), m26),
		_mm256_or_si256(_mm256_srli_epi64(hi, 40), _mm256_set1_epi64x(1 << 24)),
	} };
}

#define MUL(a, b) _mm256_mul_epu32(a, b)
#define SUM(a, b) _mm256_add_epi64(a, b)

/* d += h times power, uncarried. */
TARGET INLINE void add_product(__m256i d[5], const struct wide *w, const struct power *p)
{
#pragma GCC unroll 5
	for (int i = 0; i < 5; i++) {
#pragma GCC unroll 5
		for (int j = 0; j < 5; j++) {
			int k = (i + j) % 5;

			d[k] = SUM(d[k], MUL(w->h[i], i + j < 5 ? p->r[j] : p->s[j]));
		}
	}
}

TARGET INLINE __m256i carry_out(__m256i *d)
{
	__m256i c = _mm256_srli_epi64(*d, 26);

	*d = _mm256_and_si256(*d, _mm256_set1_epi64x(M26));
	return c;
}

/* Two chains side by side; limbs 1 and 4 keep a few bits over 26. */
TARGET INLINE void carry(__m256i d[5])
{
	__m256i c;

	d[1] = SUM(d[1], carry_out(&d[0]));
	d[4] = SUM(d[4], carry_out(&d[3]));
	d[2] = SUM(d[2], carry_out(&d[1]));
	c = carry_out(&d[4]);
	d[0] = SUM(d[0], SUM(c, _mm256_slli_epi64(c, 2)));
	d[3] = SUM(d[3], carry_out(&d[2]));
	d[1] = SUM(d[1], carry_out(&d[0]));
	d[4] = SUM(d[4], carry_out(&d[3]));
}

/* Limb i of 26 bits out of limbs of 44, 44 and 42. */
static inline long long limb26(const uint64_t r[3], int i)
{
	switch (i) {
	case 0: return (long long)r[0] & M26;
	case 1: return (long long)(r[0] >> 26 | r[1] << 18) & M26;
	case 2: return (long long)(r[1] >> 8) & M26;
	case 3: return (long long)(r[1] >> 34 | r[2] << 10) & M26;
	default: return (long long)(r[2] >> 16);
	}
}

/* The powers of the four lanes, which may be the same. */
TARGET INLINE void spread(struct power *p, const uint64_t a[3], const uint64_t b[3], const uint64_t c[3], const uint64_t d[3])
{
#pragma GCC unroll 5
	for (int i = 0; i < 5; i++) {
		p->r[i] = _mm256_set_epi64x(limb26(d, i), limb26(c, i), limb26(b, i), limb26(a, i));
		p->s[i] = SUM(p->r[i], _mm256_slli_epi64(p->r[i], 2));
	}
}

TARGET INLINE void spread_one(struct power *p, const uint64_t a[3])
{
#pragma GCC unroll 5
	for (int i = 0; i < 5; i++) {
		p->r[i] = _mm256_set1_epi64x(limb26(a, i));
		p->s[i] = SUM(p->r[i], _mm256_slli_epi64(p->r[i], 2));
	}
}

/* The sum over the lanes. */
TARGET INLINE uint64_t across(__m256i v)
{
	__m128i s = _mm_add_epi64(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

	return (uint64_t)_mm_extract_epi64(s, 0) + (uint64_t)_mm_extract_epi64(s, 1);
}

TARGET static void fold(struct wg_poly *p, const __m256i d[5])
{
	uint64_t t;

	/* Limbs of 26 bits and a little more, four times: under 2^29. */
	t = across(d[0]) + (across(d[1]) << 26);
	p->h[0] = t & WG_M44;
	t = (t >> 44) + (across(d[2]) << 8) + (across(d[3]) << 34);
	p->h[1] = t & WG_M44;
	t = (t >> 44) + (across(d[4]) << 16);
	p->h[2] = t & WG_M42;
	p->h[0] += (t >> 42) * 5;
}

/* The first n bytes (a multiple of 64) into p->h. */
TARGET static void poly_wide(struct wg_poly *p, const uint8_t *m, size_t n)
{
	uint64_t r[9][3];
	struct power r4, r8, ends;
	struct wide h, w;

	memcpy(r[1], p->r, sizeof r[1]);
	wg_poly_multiply(r[2], r[1], r[1]);
	wg_poly_multiply(r[3], r[2], r[1]);
	wg_poly_multiply(r[4], r[2], r[2]);
	wg_poly_multiply(r[8], r[4], r[4]);
	spread(&ends, r[4], r[2], r[3], r[1]);
	spread_one(&r4, r[4]);
	spread_one(&r8, r[8]);
	h = load4(m);
	m += 64;
	n -= 64;
	if (n & 64) {
		w = load4(m);
		add_product(w.h, &h, &r4);
		carry(w.h);
		h = w;
		m += 64;
		n -= 64;
	}
	for (; n; m += 128, n -= 128) {
		struct wide first = load4(m);

		w = load4(m + 64);
		add_product(w.h, &h, &r8);
		add_product(w.h, &first, &r4);
		carry(w.h);
		h = w;
	}
	memset(&w, 0, sizeof w);
	add_product(w.h, &h, &ends);
	carry(w.h);
	fold(p, w.h);
	nb_wipe(r, sizeof r);
}

static void poly(uint8_t tag[WG_TAG], const uint8_t key[32], const uint8_t *m, size_t n)
{
	size_t wide = n >= WIDE_MIN ? n & ~(size_t)63 : 0, whole = n & ~(size_t)15;
	struct wg_poly p;

	wg_poly_init(&p, key);
	if (wide)
		poly_wide(&p, m, wide);
	wg_poly_blocks(&p, m + wide, whole - wide);
	wg_poly_finish(&p, m + whole, n - whole, n, tag);
	nb_wipe(&p, sizeof p);
}

const struct wg_aead wg_aead_avx2 = { "avx2", seal, open };

#endif
