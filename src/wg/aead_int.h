/* aead_int.h - between the packet ciphers: one kernel per instruction set, the scalar Poly1305 they
 * share. A kernel seals and opens WireGuard transport messages: ChaCha20-Poly1305 (RFC 8439) without
 * associated data, nonce = 4 zero bytes and the little-endian counter.
 * Tests: tests/unit/wg_aead_test.c; speed: tests/bench/wg_aead_bench.c */
#ifndef NB_WG_AEAD_INT_H
#define NB_WG_AEAD_INT_H

#include "wg/wg_int.h"

#define CHACHA_BLOCK 64

/* Poly1305 (RFC 8439, 2.5). With 128-bit products: limbs of 44, 44 and 42 bits; else five of 26. */
#if defined(__SIZEOF_INT128__)
#define WG_POLY_44 1
struct wg_poly {
	uint64_t r[3], h[3], pad[2];
};
#else
struct wg_poly {
	uint32_t r[5], h[5], pad[4];
};
#endif

/* key: 32 bytes. */
void wg_poly_init(struct wg_poly *p, const uint8_t key[32]);
/* Whole blocks of 16 bytes. */
void wg_poly_blocks(struct wg_poly *p, const uint8_t *m, size_t n);
/* The rest (under 16 bytes, padded with zeros), then the lengths as RFC 8439 2.8 has them; total: bytes in all. */
void wg_poly_finish(struct wg_poly *p, const uint8_t *rest, size_t n, uint64_t total, uint8_t tag[WG_TAG]);
/* The tag of a whole message. */
void wg_poly_tag(uint8_t tag[WG_TAG], const uint8_t key[32], const uint8_t *m, size_t n);

#ifdef WG_POLY_44
#define WG_M44 0xfffffffffffULL
#define WG_M42 0x3ffffffffffULL

/* One product of limbs, for the powers of r the wide kernels need. */
static inline void wg_poly_multiply(uint64_t out[3], const uint64_t a[3], const uint64_t b[3])
{
	typedef unsigned __int128 u128;
	uint64_t s1 = b[1] * 20, s2 = b[2] * 20, c, h0, h1;
	u128 d0 = (u128)a[0] * b[0] + (u128)a[1] * s2 + (u128)a[2] * s1;
	u128 d1 = (u128)a[0] * b[1] + (u128)a[1] * b[0] + (u128)a[2] * s2;
	u128 d2 = (u128)a[0] * b[2] + (u128)a[1] * b[1] + (u128)a[2] * b[0];

	d1 += (uint64_t)(d0 >> 44);
	d2 += (uint64_t)(d1 >> 44);
	c = (uint64_t)(d2 >> 42);
	h0 = ((uint64_t)d0 & WG_M44) + c * 5;
	h1 = ((uint64_t)d1 & WG_M44) + (h0 >> 44);
	out[0] = h0 & WG_M44;
	out[1] = h1 & WG_M44;
	out[2] = ((uint64_t)d2 & WG_M42) + (h1 >> 44);
}
#endif

/* True when the processor and the system can run it. */
bool wg_avx512_usable(void);
bool wg_avx2_usable(void);
bool wg_ssse3_usable(void);
extern const struct wg_aead wg_aead_avx512, wg_aead_avx2, wg_aead_ssse3, wg_aead_neon, wg_aead_portable;

#endif
