/* aead_avx512.c - the packet cipher for x86-64 with AVX-512 and its 52-bit multiplier.
 * ChaCha20: sixteen or thirty-two blocks at once, one per lane; the lanes are filled with blocks of as many messages
 * as are there, so that short packets use the width, too. One or two short messages alone are four blocks to a
 * register instead, which takes half as long. Poly1305 in radix 2^44: of eight messages of
 * similar length at once from the key to the tag, one per lane; of a single one eight blocks at once (eight
 * accumulators times r^8, at the end times r^8 .. r^1). Chosen by aead.c when the processor can. */
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
#define KEY_ROW 64		/* a whole block, of which the first half is the key */
#define OWN_LANES 1
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

/* Thirty-two blocks at once hide what the rotations take, and just fit into the registers, as long as every
 * instruction puts its result where an operand was and none is moved: the compiler needs to be told. */
#define HERE_ADD(x, a, b) __asm__ volatile("vpaddd %1, %0, %0" : "+v"(x[a]) : "v"(x[b]))
#define HERE_XOR(x, a, b) __asm__ volatile("vpxord %1, %0, %0" : "+v"(x[a]) : "v"(x[b]))
#define HERE_ROL(x, a, n) __asm__ volatile("vprold %1, %0, %0" : "+v"(x[a]) : "i"(n))
#define BOTH_STEP(n, a, b, d) \
	HERE_ADD(x, a, b); HERE_ADD(y, a, b); \
	HERE_XOR(x, d, a); HERE_XOR(y, d, a); \
	HERE_ROL(x, d, n); HERE_ROL(y, d, n)
#define BOTH_FOUR(n, a0, b0, d0, a1, b1, d1, a2, b2, d2, a3, b3, d3) \
	BOTH_STEP(n, a0, b0, d0); BOTH_STEP(n, a1, b1, d1); BOTH_STEP(n, a2, b2, d2); BOTH_STEP(n, a3, b3, d3)
#define BOTH_QUARTERS(a0, b0, c0, d0, a1, b1, c1, d1, a2, b2, c2, d2, a3, b3, c3, d3) \
	BOTH_FOUR(16, a0, b0, d0, a1, b1, d1, a2, b2, d2, a3, b3, d3); \
	BOTH_FOUR(12, c0, d0, b0, c1, d1, b1, c2, d2, b2, c3, d3, b3); \
	BOTH_FOUR(8, a0, b0, d0, a1, b1, d1, a2, b2, d2, a3, b3, d3); \
	BOTH_FOUR(7, c0, d0, b0, c1, d1, b1, c2, d2, b2, c3, d3, b3)

/* What each lane computes, and the 64 bytes its key stream goes onto. */
struct lanes {
	__m512i block[2], lo[2], hi[2];
	uint8_t *at[2 * LANES + 8];	/* they are written by eight */
	unsigned n;
	/* Blocks that are the short ends of messages wait here until their key stream is there. */
	unsigned nends;
	struct {
		uint8_t *to;
		size_t n;
	} end[2 * LANES];
	uint8_t room[2 * LANES][CHACHA_BLOCK] __attribute__((aligned(64)));
};

TARGET INLINE __mmask64 first_bytes(size_t n)
{
	return ~(__mmask64)0 >> (CHACHA_BLOCK - n);
}

/* Key streams onto the blocks of sixteen lanes. */
TARGET INLINE void onto(uint8_t *const at[LANES], __m512i x[LANES])
{
	transpose(x);
#pragma GCC unroll 16
	for (int i = 0; i < LANES; i++)
		_mm512_storeu_si512(at[i], _mm512_xor_si512(x[i], _mm512_loadu_si512(at[i])));
}

TARGET static void flush_half(struct lanes *l, const uint8_t *key)
{
	__m512i x[16];

	chacha(x, key, l->block[0], l->lo[0], l->hi[0]);
	onto(l->at, x);
}

TARGET static void flush_whole(struct lanes *l, const uint8_t *key)
{
	__m512i x[16], y[16];

#pragma GCC unroll 16
	for (int i = 0; i < 16; i++) {
		x[i] = first_row(i, key, l->block[0], l->lo[0], l->hi[0]);
		y[i] = first_row(i, key, l->block[1], l->lo[1], l->hi[1]);
	}
	for (int r = 0; r < 10; r++) {
		BOTH_QUARTERS(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
		BOTH_QUARTERS(0, 5, 10, 15, 1, 6, 11, 12, 2, 7, 8, 13, 3, 4, 9, 14);
	}
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++) {
		x[i] = V_ADD(x[i], first_row(i, key, l->block[0], l->lo[0], l->hi[0]));
		y[i] = V_ADD(y[i], first_row(i, key, l->block[1], l->lo[1], l->hi[1]));
	}
	onto(l->at, x);
	onto(l->at + LANES, y);
}

/* Compute the lanes collected, and empty them. */
TARGET static void flush(struct lanes *l, const uint8_t *key)
{
	unsigned all = l->n > LANES ? 2 * LANES : LANES;

	/* Idle lanes compute something that nobody sees. */
	for (unsigned i = l->n; i < all; i++)
		l->at[i] = l->room[i];
	if (all == LANES)
		flush_half(l, key);
	else
		flush_whole(l, key);
	for (unsigned i = 0; i < l->nends; i++) {
		__mmask64 mask = first_bytes(l->end[i].n);

		_mm512_mask_storeu_epi8(l->end[i].to, mask, _mm512_load_si512(l->room[i]));
	}
	l->n = l->nends = 0;
}

/* Blocks first, first + 1, ... of a message are what the next n lanes compute. */
TARGET INLINE void lanes_count(struct lanes *l, const struct wg_aead_op *op, uint32_t first, unsigned n)
{
	const __m512i count = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
	uint32_t mask = (uint32_t)((1ull << n) - 1) << l->n;

#pragma GCC unroll 2
	for (int i = 0; i < 2; i++, mask >>= LANES) {
		__m512i from = _mm512_set1_epi32((int)(first - l->n + (unsigned)i * LANES));

		l->block[i] = _mm512_mask_add_epi32(l->block[i], (__mmask16)mask, count, from);
		l->lo[i] = _mm512_mask_set1_epi32(l->lo[i], (__mmask16)mask, (int)(uint32_t)op->counter);
		l->hi[i] = _mm512_mask_set1_epi32(l->hi[i], (__mmask16)mask, (int)(uint32_t)(op->counter >> 32));
	}
}

/* Where their key streams go: onto n blocks from an address on. */
TARGET INLINE void lanes_point(struct lanes *l, uintptr_t to, unsigned n)
{
	const __m512i far = _mm512_set_epi64(448, 384, 320, 256, 192, 128, 64, 0);

	for (unsigned i = 0; i < n; i += 8)
		_mm512_storeu_si512(&l->at[l->n + i],
				    _mm512_add_epi64(far, _mm512_set1_epi64((long long)(to + i * CHACHA_BLOCK))));
}

/* The last n bytes of a message are no whole block: they wait until the lane's key stream is there. */
TARGET INLINE void lanes_wait(struct lanes *l, unsigned lane, uint8_t *p, size_t n)
{
	unsigned i = l->nends++;

	_mm512_store_si512(l->room[i], _mm512_maskz_loadu_epi8(first_bytes(n), p));
	l->end[i].to = p;
	l->end[i].n = n;
	l->at[lane] = l->room[i];
}

/* Blocks first to the last of a message; block 0 goes to pk. */
TARGET INLINE void take(struct lanes *l, const struct wg_aead_op *op, uint32_t first, uint8_t pk[KEY_ROW], const uint8_t *key)
{
	uint32_t last = data_blocks(op), left = last + 1 - first;
	uintptr_t before = (uintptr_t)op->p - CHACHA_BLOCK;
	size_t rest = op->n % CHACHA_BLOCK;

	while (left) {
		unsigned room = 2 * LANES - l->n, n = left < room ? left : room;

		lanes_count(l, op, last + 1 - left, n);
		lanes_point(l, before + (last + 1 - left) * CHACHA_BLOCK, n);
		if (left > last) {
			_mm512_storeu_si512(pk, _mm512_setzero_si512());
			l->at[l->n] = pk;
		}
		l->n += n;
		left -= n;
		if (!left && rest)
			lanes_wait(l, l->n - 1, op->p + op->n - rest, rest);
		if (l->n == 2 * LANES)
			flush(l, key);
	}
}

TARGET INLINE void lanes_init(struct lanes *l)
{
	for (int i = 0; i < 2; i++)
		l->block[i] = l->lo[i] = l->hi[i] = _mm512_setzero_si512();
	l->n = l->nends = 0;
}

TARGET INLINE void lanes_end(struct lanes *l, const uint8_t *key)
{
	if (l->n)
		flush(l, key);
	nb_wipe(l->room, sizeof l->room);
}

TARGET static void crypt_all(struct wg_aead_op *ops, size_t n, uint32_t first, uint8_t pk[][KEY_ROW])
{
	const uint8_t *key = ops[0].key;
	struct lanes l;

	lanes_init(&l);
	for (size_t i = 0; i < n; i++) {
		if (!first || ops[i].ok)
			take(&l, &ops[i], first, pk[i], key);
	}
	lanes_end(&l, key);
}

TARGET static void keys_all(struct wg_aead_op *ops, size_t n, uint8_t pk[][KEY_ROW])
{
	struct lanes l;

	lanes_init(&l);
	for (size_t i = 0; i < n; i++) {
		struct wg_aead_op only_key = { .p = pk[i], .counter = ops[i].counter };

		take(&l, &only_key, 0, pk[i], ops[0].key);
	}
	lanes_end(&l, ops[0].key);
}

/* --- ChaCha20 of a few blocks --- */

/* Four blocks: of each a row in a 128-bit part of a, b, c and d. */
struct rows {
	__m512i a, b, c, d;
};

#define ROWS_STEP(f, s, t, u) \
	s = V_ADD(s, t); \
	u = f(V_XOR(u, s))

TARGET INLINE void rows_quarter(struct rows *r)
{
	ROWS_STEP(V_ROL16, r->a, r->b, r->d);
	ROWS_STEP(V_ROL12, r->c, r->d, r->b);
	ROWS_STEP(V_ROL8, r->a, r->b, r->d);
	ROWS_STEP(V_ROL7, r->c, r->d, r->b);
}

TARGET INLINE void rows_turn(struct rows *r, bool back)
{
	r->b = back ? _mm512_shuffle_epi32(r->b, 0x93) : _mm512_shuffle_epi32(r->b, 0x39);
	r->c = _mm512_shuffle_epi32(r->c, 0x4e);
	r->d = back ? _mm512_shuffle_epi32(r->d, 0x39) : _mm512_shuffle_epi32(r->d, 0x93);
}

TARGET INLINE void rows_double_round(struct rows *r)
{
	rows_quarter(r);
	rows_turn(r, false);
	rows_quarter(r);
	rows_turn(r, true);
}

TARGET INLINE void rows_init(struct rows *r, const uint8_t *key, const uint8_t *last)
{
	r->a = _mm512_broadcast_i32x4(_mm_set_epi32(0x6b206574, 0x79622d32, 0x3320646e, 0x61707865));
	r->b = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)key));
	r->c = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)(key + 16)));
	r->d = _mm512_loadu_si512(last);
}

TARGET INLINE void rows_store(const struct rows *r, const struct rows *first, uint8_t ks[][CHACHA_BLOCK])
{
	__m512i a = V_ADD(r->a, first->a), b = V_ADD(r->b, first->b);
	__m512i c = V_ADD(r->c, first->c), d = V_ADD(r->d, first->d);
	__m512i ab0 = _mm512_shuffle_i32x4(a, b, 0x44), ab1 = _mm512_shuffle_i32x4(a, b, 0xee);
	__m512i cd0 = _mm512_shuffle_i32x4(c, d, 0x44), cd1 = _mm512_shuffle_i32x4(c, d, 0xee);

	_mm512_storeu_si512(ks[0], _mm512_shuffle_i32x4(ab0, cd0, 0x88));
	_mm512_storeu_si512(ks[1], _mm512_shuffle_i32x4(ab0, cd0, 0xdd));
	_mm512_storeu_si512(ks[2], _mm512_shuffle_i32x4(ab1, cd1, 0x88));
	_mm512_storeu_si512(ks[3], _mm512_shuffle_i32x4(ab1, cd1, 0xdd));
}

#define FEW 8

/* The key stream of all blocks of a few short messages, number 0 included, one message behind the other. False: there
 * are too many. */
TARGET static bool stream_few(const struct wg_aead_op *ops, size_t n, uint8_t ks[FEW][CHACHA_BLOCK])
{
	uint8_t last[FEW][16] __attribute__((aligned(64))) = { { 0 } };
	struct rows r[2], first[2];
	size_t blocks = 0;

	for (size_t i = 0; i < n; i++) {
		if (blocks == FEW || ops[i].n > (FEW - 1 - blocks) * CHACHA_BLOCK)
			return false;
		for (uint32_t b = 0; b <= data_blocks(&ops[i]); b++, blocks++) {
			nb_put_le32(last[blocks], b);
			nb_put_le64(last[blocks] + 8, ops[i].counter);
		}
	}
	rows_init(&first[0], ops[0].key, last[0]);
	rows_init(&first[1], ops[0].key, last[4]);
	r[0] = first[0];
	r[1] = first[1];
	if (blocks <= 4) {
		for (int i = 0; i < 10; i++)
			rows_double_round(&r[0]);
	} else {
		for (int i = 0; i < 10; i++) {
			rows_double_round(&r[0]);
			rows_double_round(&r[1]);
		}
		rows_store(&r[1], &first[1], ks + 4);
	}
	rows_store(&r[0], &first[0], ks);
	return true;
}

/* Key stream onto a message. */
TARGET static void onto_message(const struct wg_aead_op *op, uint8_t ks[][CHACHA_BLOCK])
{
	for (size_t at = 0; at < op->n; at += CHACHA_BLOCK, ks++) {
		__mmask64 mask = first_bytes(op->n - at < CHACHA_BLOCK ? op->n - at : CHACHA_BLOCK);
		__m512i x = _mm512_maskz_loadu_epi8(mask, op->p + at);

		_mm512_mask_storeu_epi8(op->p + at, mask, _mm512_xor_si512(x, _mm512_load_si512(ks[0])));
	}
}

static bool few(struct wg_aead_op *ops, size_t n, bool opening)
{
	uint8_t room[FEW][CHACHA_BLOCK] __attribute__((aligned(64))), tag[WG_TAG], (*ks)[CHACHA_BLOCK] = room;

	/* From three on the lanes are faster. */
	if (n > 2 || !stream_few(ops, n, room))
		return false;
	for (size_t i = 0; i < n; i++) {
		struct wg_aead_op *op = &ops[i];

		if (!opening)
			onto_message(op, ks + 1);
		poly(tag, ks[0], op->p, op->n);
		if (!opening)
			memcpy(op->p + op->n, tag, WG_TAG);
		else
			op->ok = same_tag(tag, op->p + op->n);
		if (opening && op->ok)
			onto_message(op, ks + 1);
		ks += data_blocks(op) + 1;
	}
	nb_wipe(room, sizeof room);
	nb_wipe(tag, sizeof tag);
	return true;
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

/* Eight messages side by side, one per lane. */
struct eight {
	struct wide h;
	struct power r1, r2;
	__m512i pad0, pad1;
};

/* The clamp of RFC 8439 2.5, spread over the limbs; the order of the keys is that of the lanes. */
TARGET INLINE void eight_init(struct eight *e, uint8_t pk[][KEY_ROW], size_t n)
{
	const __m512i m44 = _mm512_set1_epi64((long long)M44);
	__m512i x[8], t0, t1;
	struct wide square;

#pragma GCC unroll 8
	for (size_t i = 0; i < 8; i++)
		x[i] = _mm512_loadu_si512(pk[i < n ? i : 0]);
	transpose8(x);
	t0 = _mm512_and_si512(x[0], _mm512_set1_epi64(0x0ffffffc0fffffffLL));
	t1 = _mm512_and_si512(x[1], _mm512_set1_epi64(0x0ffffffc0ffffffcLL));
	e->pad0 = x[2];
	e->pad1 = x[3];
	e->r1 = spread(_mm512_and_si512(t0, m44),
		       _mm512_and_si512(_mm512_or_si512(_mm512_srli_epi64(t0, 44), _mm512_slli_epi64(t1, 20)), m44),
		       _mm512_srli_epi64(t1, 24));
	square = times((struct wide){ e->r1.r0, e->r1.r1, e->r1.r2 }, &e->r1);
	e->r2 = spread(square.h0, square.h1, square.h2);
	e->h = (struct wide){ _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512() };
}

/* Two blocks of each message between carries: x has their halves. */
TARGET INLINE struct wide eight_two(struct wide h, const __m512i x[4], const struct power *r1, const struct power *r2)
{
	struct sums s = { 0 };

	add_product(&s, split(x[2], x[3]), r1);
	add_product(&s, add(h, split(x[0], x[1])), r2);
	return carry(s);
}

/* The first n bytes of each, a multiple of 64. */
TARGET INLINE void eight_blocks(struct eight *e, const struct wg_aead_op *ops, size_t count, size_t n)
{
	const struct power r1 = e->r1, r2 = e->r2;
	struct wide h = e->h;
	const uint8_t *p[8];

	for (size_t i = 0; i < 8; i++)
		p[i] = ops[i < count ? i : 0].p;
	for (size_t at = 0; at < n; at += CHACHA_BLOCK) {
		__m512i x[8];

#pragma GCC unroll 8
		for (int i = 0; i < 8; i++)
			x[i] = _mm512_loadu_si512(p[i] + at);
		transpose8(x);
		h = eight_two(h, x, &r1, &r2);
		h = eight_two(h, x + 4, &r1, &r2);
	}
	e->h = h;
}

/* Blocks that the Poly1305 input of a message has: the lengths are one (RFC 8439, 2.8). */
static inline size_t poly_blocks(const struct wg_aead_op *op)
{
	return (op->n + 15) / 16 + 1;
}

/* 64 bytes of that input, from a multiple of 64 on. */
TARGET INLINE __m512i poly_input(const struct wg_aead_op *op, size_t at)
{
	size_t lengths = (poly_blocks(op) - 1) * 2 + 1 - at / 8;
	__m512i x = _mm512_setzero_si512();

	if (at < op->n)
		x = _mm512_maskz_loadu_epi8(first_bytes(op->n - at < 64 ? op->n - at : 64), op->p + at);
	return _mm512_mask_set1_epi64(x, (__mmask8)(lengths < 8 ? 1u << lengths : 0), (long long)op->n);
}

/* The rest of each from a multiple of 64 on, with the lengths: lanes whose message has ended stay as they are. */
TARGET INLINE void eight_ends(struct eight *e, const struct wg_aead_op *ops, size_t count, size_t at)
{
	size_t left[8], most = 0;

	for (size_t i = 0; i < 8; i++) {
		left[i] = poly_blocks(&ops[i < count ? i : 0]) - at / 16;
		most = left[i] > most ? left[i] : most;
	}
	for (size_t done = 0; done < most; at += CHACHA_BLOCK) {
		__m512i x[8];

#pragma GCC unroll 8
		for (size_t i = 0; i < 8; i++)
			x[i] = poly_input(&ops[i < count ? i : 0], at);
		transpose8(x);
		for (int b = 0; b < 8 && done < most; b += 2, done++) {
			struct wide h = times(add(e->h, split(x[b], x[b + 1])), &e->r1);
			__mmask8 mask = 0;

#pragma GCC unroll 8
			for (int i = 0; i < 8; i++)
				mask |= (__mmask8)((left[i] > done) << i);
			e->h.h0 = _mm512_mask_mov_epi64(e->h.h0, mask, h.h0);
			e->h.h1 = _mm512_mask_mov_epi64(e->h.h1, mask, h.h1);
			e->h.h2 = _mm512_mask_mov_epi64(e->h.h2, mask, h.h2);
		}
	}
}

/* h modulo 2^130 - 5, plus the pad. */
TARGET INLINE void eight_tags(const struct eight *e, uint8_t tags[][WG_TAG], size_t n)
{
	const __m512i m44 = _mm512_set1_epi64((long long)M44), m42 = _mm512_set1_epi64((long long)M42);
	__m512i h0 = e->h.h0, h1 = e->h.h1, h2 = e->h.h2, g0, g1, g2, lo, hi, out[2];
	__mmask8 reached;

#pragma GCC unroll 2
	for (int i = 0; i < 2; i++) {
		__m512i c;

		h2 = _mm512_add_epi64(h2, _mm512_srli_epi64(h1, 44));
		h1 = _mm512_and_si512(h1, m44);
		c = _mm512_srli_epi64(h2, 42);
		h2 = _mm512_and_si512(h2, m42);
		h0 = _mm512_add_epi64(h0, _mm512_add_epi64(c, _mm512_slli_epi64(c, 2)));
		h1 = _mm512_add_epi64(h1, _mm512_srli_epi64(h0, 44));
		h0 = _mm512_and_si512(h0, m44);
	}
	/* h + 5 has bit 130 when h is not below 2^130 - 5: then it is the remainder, but for that bit. */
	g0 = _mm512_add_epi64(h0, _mm512_set1_epi64(5));
	g1 = _mm512_add_epi64(h1, _mm512_srli_epi64(g0, 44));
	g2 = _mm512_add_epi64(h2, _mm512_srli_epi64(g1, 44));
	reached = _mm512_cmpgt_epu64_mask(g2, m42);
	h0 = _mm512_mask_and_epi64(h0, reached, g0, m44);
	h1 = _mm512_mask_and_epi64(h1, reached, g1, m44);
	h2 = _mm512_mask_and_epi64(h2, reached, g2, m42);
	lo = _mm512_add_epi64(_mm512_or_si512(h0, _mm512_slli_epi64(h1, 44)), e->pad0);
	hi = _mm512_add_epi64(_mm512_or_si512(_mm512_srli_epi64(h1, 20), _mm512_slli_epi64(h2, 24)), e->pad1);
	hi = _mm512_mask_add_epi64(hi, _mm512_cmplt_epu64_mask(lo, e->pad0), hi, _mm512_set1_epi64(1));
	out[0] = _mm512_unpacklo_epi64(lo, hi);
	out[1] = _mm512_unpackhi_epi64(lo, hi);
	for (size_t i = 0; i < n; i++)
		memcpy(tags[i], (const uint8_t *)&out[i % 2] + i / 2 * WG_TAG, WG_TAG);
}

/* All eight lanes cost as much as three or four long messages alone, or two short ones; and a lane that waits for longer
 * messages is lost, so they must be about as long as each other. */
TARGET static bool poly_many(uint8_t tags[][WG_TAG], uint8_t pk[][KEY_ROW], const struct wg_aead_op *ops, size_t n)
{
	size_t shortest = ops[0].n, longest = ops[0].n, common;
	struct eight e;

	for (size_t i = 1; i < n; i++) {
		shortest = ops[i].n < shortest ? ops[i].n : shortest;
		longest = ops[i].n > longest ? ops[i].n : longest;
	}
	common = shortest & ~(size_t)63;
	if (n < (longest < WIDE_MIN ? 2 : 4) || longest > 2 * common + CHACHA_BLOCK)
		return false;
	eight_init(&e, pk, n);
	eight_blocks(&e, ops, n, common);
	eight_ends(&e, ops, n, common);
	eight_tags(&e, tags, n);
	nb_wipe(&e, sizeof e);
	return true;
}

const struct wg_aead wg_aead_avx512 = { "avx512", seal, open };

#endif
