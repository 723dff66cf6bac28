/* poly1305.c - Poly1305 in plain C, see aead_int.h. The wide kernels use it for short messages and ends. */
#include "wg/aead_int.h"

#ifdef WG_POLY_44

#define M44 WG_M44
#define M42 WG_M42

typedef unsigned __int128 u128;

void wg_poly_init(struct wg_poly *p, const uint8_t key[32])
{
	uint64_t t0 = nb_get_le64(key), t1 = nb_get_le64(key + 8);

	/* The clamp of RFC 8439 2.5, spread over the limbs. */
	t0 &= 0x0ffffffc0fffffffULL;
	t1 &= 0x0ffffffc0ffffffcULL;
	p->r[0] = t0 & M44;
	p->r[1] = (t0 >> 44 | t1 << 20) & M44;
	p->r[2] = t1 >> 24;
	p->h[0] = p->h[1] = p->h[2] = 0;
	p->pad[0] = nb_get_le64(key + 16);
	p->pad[1] = nb_get_le64(key + 24);
}

struct limbs {
	uint64_t h0, h1, h2;
};

struct sums {
	u128 d0, d1, d2;
};

/* A block, added to h. */
static inline struct limbs load(const uint8_t *m, struct limbs h)
{
	uint64_t t0 = nb_get_le64(m), t1 = nb_get_le64(m + 8);

	return (struct limbs){ h.h0 + (t0 & M44), h.h1 + ((t0 >> 44 | t1 << 20) & M44), h.h2 + (t1 >> 24 | 1ULL << 40) };
}

static inline struct sums product(struct limbs h, struct limbs r)
{
	uint64_t s1 = r.h1 * 20, s2 = r.h2 * 20;

	return (struct sums){ (u128)h.h0 * r.h0 + (u128)h.h1 * s2 + (u128)h.h2 * s1,
			      (u128)h.h0 * r.h1 + (u128)h.h1 * r.h0 + (u128)h.h2 * s2,
			      (u128)h.h0 * r.h2 + (u128)h.h1 * r.h1 + (u128)h.h2 * r.h0 };
}

/* Limb 1 keeps a few bits over 44. */
static inline struct limbs carry(struct sums s)
{
	struct limbs h;

	s.d1 += (uint64_t)(s.d0 >> 44);
	s.d2 += (uint64_t)(s.d1 >> 44);
	h.h0 = ((uint64_t)s.d0 & M44) + (uint64_t)(s.d2 >> 42) * 5;
	h.h1 = ((uint64_t)s.d1 & M44) + (h.h0 >> 44);
	h.h0 &= M44;
	h.h2 = (uint64_t)s.d2 & M42;
	return h;
}

/* From here on two blocks between carries, for the price of r squared. */
#define TWO_MIN 64

void wg_poly_blocks(struct wg_poly *p, const uint8_t *m, size_t n)
{
	const struct limbs none = { 0, 0, 0 }, r = { p->r[0], p->r[1], p->r[2] };
	struct limbs h = { p->h[0], p->h[1], p->h[2] };

	if (n >= TWO_MIN) {
		const struct limbs square = carry(product(r, r));

		for (; n >= 32; m += 32, n -= 32) {
			struct sums a = product(load(m, h), square), b = product(load(m + 16, none), r);

			h = carry((struct sums){ a.d0 + b.d0, a.d1 + b.d1, a.d2 + b.d2 });
		}
	}
	for (; n >= 16; m += 16, n -= 16)
		h = carry(product(load(m, h), r));
	p->h[0] = h.h0;
	p->h[1] = h.h1;
	p->h[2] = h.h2;
}

static void emit(struct wg_poly *p, uint8_t tag[WG_TAG])
{
	uint64_t h0 = p->h[0], h1 = p->h[1], h2 = p->h[2], g0, g1, g2, c, mask, lo, hi;

	for (int i = 0; i < 2; i++) {
		c = h1 >> 44;
		h1 &= M44;
		h2 += c;
		c = h2 >> 42;
		h2 &= M42;
		h0 += c * 5;
		c = h0 >> 44;
		h0 &= M44;
		h1 += c;
	}
	/* h - p, taken when it is not negative. */
	g0 = h0 + 5;
	c = g0 >> 44;
	g0 &= M44;
	g1 = h1 + c;
	c = g1 >> 44;
	g1 &= M44;
	g2 = h2 + c - (1ULL << 42);
	mask = (g2 >> 63) - 1;
	h0 = (h0 & ~mask) | (g0 & mask);
	h1 = (h1 & ~mask) | (g1 & mask);
	h2 = (h2 & ~mask) | (g2 & mask);
	lo = h0 | h1 << 44;
	hi = h1 >> 20 | h2 << 24;
	lo += p->pad[0];
	hi += p->pad[1] + (lo < p->pad[0]);
	nb_put_le64(tag, lo);
	nb_put_le64(tag + 8, hi);
}

#else

#define M26 0x3ffffffu

void wg_poly_init(struct wg_poly *p, const uint8_t key[32])
{
	memset(p, 0, sizeof *p);
	p->r[0] = nb_get_le32(key) & 0x3ffffff;
	p->r[1] = nb_get_le32(key + 3) >> 2 & 0x3ffff03;
	p->r[2] = nb_get_le32(key + 6) >> 4 & 0x3ffc0ff;
	p->r[3] = nb_get_le32(key + 9) >> 6 & 0x3f03fff;
	p->r[4] = nb_get_le32(key + 12) >> 8 & 0x00fffff;
	for (int i = 0; i < 4; i++)
		p->pad[i] = nb_get_le32(key + 16 + 4 * i);
}

void wg_poly_blocks(struct wg_poly *p, const uint8_t *m, size_t n)
{
	const uint32_t r0 = p->r[0], r1 = p->r[1], r2 = p->r[2], r3 = p->r[3], r4 = p->r[4];
	const uint32_t s1 = r1 * 5, s2 = r2 * 5, s3 = r3 * 5, s4 = r4 * 5;
	uint32_t h0 = p->h[0], h1 = p->h[1], h2 = p->h[2], h3 = p->h[3], h4 = p->h[4], c;
	uint64_t d0, d1, d2, d3, d4;

	for (; n >= 16; m += 16, n -= 16) {
		h0 += nb_get_le32(m) & M26;
		h1 += nb_get_le32(m + 3) >> 2 & M26;
		h2 += nb_get_le32(m + 6) >> 4 & M26;
		h3 += nb_get_le32(m + 9) >> 6;
		h4 += nb_get_le32(m + 12) >> 8 | 1u << 24;
		d0 = (uint64_t)h0 * r0 + (uint64_t)h1 * s4 + (uint64_t)h2 * s3 + (uint64_t)h3 * s2 + (uint64_t)h4 * s1;
		d1 = (uint64_t)h0 * r1 + (uint64_t)h1 * r0 + (uint64_t)h2 * s4 + (uint64_t)h3 * s3 + (uint64_t)h4 * s2;
		d2 = (uint64_t)h0 * r2 + (uint64_t)h1 * r1 + (uint64_t)h2 * r0 + (uint64_t)h3 * s4 + (uint64_t)h4 * s3;
		d3 = (uint64_t)h0 * r3 + (uint64_t)h1 * r2 + (uint64_t)h2 * r1 + (uint64_t)h3 * r0 + (uint64_t)h4 * s4;
		d4 = (uint64_t)h0 * r4 + (uint64_t)h1 * r3 + (uint64_t)h2 * r2 + (uint64_t)h3 * r1 + (uint64_t)h4 * r0;
		c = (uint32_t)(d0 >> 26);
		h0 = (uint32_t)d0 & M26;
		d1 += c;
		c = (uint32_t)(d1 >> 26);
		h1 = (uint32_t)d1 & M26;
		d2 += c;
		c = (uint32_t)(d2 >> 26);
		h2 = (uint32_t)d2 & M26;
		d3 += c;
		c = (uint32_t)(d3 >> 26);
		h3 = (uint32_t)d3 & M26;
		d4 += c;
		c = (uint32_t)(d4 >> 26);
		h4 = (uint32_t)d4 & M26;
		h0 += c * 5;
		h1 += h0 >> 26;
		h0 &= M26;
	}
	p->h[0] = h0;
	p->h[1] = h1;
	p->h[2] = h2;
	p->h[3] = h3;
	p->h[4] = h4;
}

static void emit(struct wg_poly *p, uint8_t tag[WG_TAG])
{
	uint32_t h[5], g[5], w[4], c, mask;
	uint64_t f = 0;

	memcpy(h, p->h, sizeof h);
	for (int round = 0; round < 2; round++) {
		for (int i = 1; i < 5; i++) {
			c = h[i] >> 26;
			h[i] &= M26;
			if (i < 4)
				h[i + 1] += c;
			else
				h[0] += c * 5;
		}
		h[1] += h[0] >> 26;
		h[0] &= M26;
	}
	c = 5;
	for (int i = 0; i < 5; i++) {
		g[i] = h[i] + c;
		c = g[i] >> 26;
		g[i] &= M26;
	}
	/* c is 1 when h + 5 reached 2^130: then h - p is wanted, which is g without that bit. */
	mask = 0u - c;
	for (int i = 0; i < 5; i++)
		h[i] = (h[i] & ~mask) | (g[i] & mask);
	w[0] = h[0] | h[1] << 26;
	w[1] = h[1] >> 6 | h[2] << 20;
	w[2] = h[2] >> 12 | h[3] << 14;
	w[3] = h[3] >> 18 | h[4] << 8;
	for (int i = 0; i < 4; i++) {
		f = (uint64_t)w[i] + p->pad[i] + (f >> 32);
		nb_put_le32(tag + 4 * i, (uint32_t)f);
	}
}

#endif

void wg_poly_finish(struct wg_poly *p, const uint8_t *rest, size_t n, uint64_t total, uint8_t tag[WG_TAG])
{
	uint8_t last[32] = { 0 };
	size_t padded = n ? 16 : 0;

	memcpy(last, rest, n);
	nb_put_le64(last + padded + 8, total);
	wg_poly_blocks(p, last, padded + 16);
	emit(p, tag);
}

void wg_poly_tag(uint8_t tag[WG_TAG], const uint8_t key[32], const uint8_t *m, size_t n)
{
	struct wg_poly p;
	size_t whole = n & ~(size_t)15;

	wg_poly_init(&p, key);
	wg_poly_blocks(&p, m, whole);
	wg_poly_finish(&p, m + whole, n - whole, n, tag);
	nb_wipe(&p, sizeof p);
}
