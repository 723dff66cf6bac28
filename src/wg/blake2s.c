/* blake2s.c - BLAKE2s (RFC 7693), HMAC over it (RFC 2104) and the three-output KDF of the
 * WireGuard paper (5.4). Handshakes only: plain portable code is fast enough.
 * Tests: tests/unit/wg_primitives_test.c */
#include "wg/wg_int.h"

static const uint32_t iv[8] = {
	0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

static const uint8_t sigma[10][16] = {
	{ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
	{ 14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3 },
	{ 11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4 },
	{ 7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8 },
	{ 9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13 },
	{ 2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9 },
	{ 12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11 },
	{ 13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10 },
	{ 6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5 },
	{ 10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0 },
};

static uint32_t ror(uint32_t x, int k)
{
	return x >> k | x << (32 - k);
}

static void mix(uint32_t v[16], int a, int b, int c, int d, uint32_t x, uint32_t y)
{
	v[a] += v[b] + x;
	v[d] = ror(v[d] ^ v[a], 16);
	v[c] += v[d];
	v[b] = ror(v[b] ^ v[c], 12);
	v[a] += v[b] + y;
	v[d] = ror(v[d] ^ v[a], 8);
	v[c] += v[d];
	v[b] = ror(v[b] ^ v[c], 7);
}

static void compress(struct wg_blake2s *s, const uint8_t block[64], bool last)
{
	uint32_t m[16], v[16];

	for (int i = 0; i < 16; i++)
		m[i] = nb_get_le32(block + 4 * i);
	memcpy(v, s->h, sizeof s->h);
	memcpy(v + 8, iv, sizeof iv);
	v[12] ^= (uint32_t)s->total;
	v[13] ^= (uint32_t)(s->total >> 32);
	if (last)
		v[14] = ~v[14];
	for (int r = 0; r < 10; r++) {
		const uint8_t *g = sigma[r];

		mix(v, 0, 4, 8, 12, m[g[0]], m[g[1]]);
		mix(v, 1, 5, 9, 13, m[g[2]], m[g[3]]);
		mix(v, 2, 6, 10, 14, m[g[4]], m[g[5]]);
		mix(v, 3, 7, 11, 15, m[g[6]], m[g[7]]);
		mix(v, 0, 5, 10, 15, m[g[8]], m[g[9]]);
		mix(v, 1, 6, 11, 12, m[g[10]], m[g[11]]);
		mix(v, 2, 7, 8, 13, m[g[12]], m[g[13]]);
		mix(v, 3, 4, 9, 14, m[g[14]], m[g[15]]);
	}
	for (int i = 0; i < 8; i++)
		s->h[i] ^= v[i] ^ v[i + 8];
	nb_wipe(m, sizeof m);
	nb_wipe(v, sizeof v);
}

void wg_blake2s_init(struct wg_blake2s *s, size_t outlen, const void *key, size_t keylen)
{
	memset(s, 0, sizeof *s);
	memcpy(s->h, iv, sizeof iv);
	s->h[0] ^= 0x01010000 ^ (uint32_t)keylen << 8 ^ (uint32_t)outlen;
	s->outlen = outlen;
	if (keylen) {
		memcpy(s->buf, key, keylen);
		s->fill = 64;
	}
}

void wg_blake2s_update(struct wg_blake2s *s, const void *data, size_t n)
{
	const uint8_t *p = data;

	while (n) {
		/* A full block is held back until more follows: the last one is marked. */
		if (s->fill == 64) {
			s->total += 64;
			compress(s, s->buf, false);
			s->fill = 0;
		}
		size_t k = 64 - s->fill < n ? 64 - s->fill : n;

		memcpy(s->buf + s->fill, p, k);
		s->fill += k;
		p += k;
		n -= k;
	}
}

void wg_blake2s_final(struct wg_blake2s *s, uint8_t *out)
{
	uint8_t full[32];

	s->total += s->fill;
	memset(s->buf + s->fill, 0, 64 - s->fill);
	compress(s, s->buf, true);
	for (int i = 0; i < 8; i++)
		nb_put_le32(full + 4 * i, s->h[i]);
	memcpy(out, full, s->outlen);
	nb_wipe(full, sizeof full);
	nb_wipe(s, sizeof *s);
}

void wg_blake2s(uint8_t *out, size_t outlen, const void *key, size_t keylen, const void *p, size_t n)
{
	struct wg_blake2s s;

	wg_blake2s_init(&s, outlen, key, keylen);
	wg_blake2s_update(&s, p, n);
	wg_blake2s_final(&s, out);
}

void wg_hmac(uint8_t out[WG_HASH], const uint8_t *key, size_t keylen, const void *p, size_t n)
{
	struct wg_blake2s s;
	uint8_t pad[64] = { 0 }, inner[WG_HASH];

	if (keylen > 64)
		wg_blake2s(pad, WG_HASH, NULL, 0, key, keylen);
	else
		memcpy(pad, key, keylen);
	for (int i = 0; i < 64; i++)
		pad[i] ^= 0x36;
	wg_blake2s_init(&s, WG_HASH, NULL, 0);
	wg_blake2s_update(&s, pad, 64);
	wg_blake2s_update(&s, p, n);
	wg_blake2s_final(&s, inner);
	for (int i = 0; i < 64; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	wg_blake2s_init(&s, WG_HASH, NULL, 0);
	wg_blake2s_update(&s, pad, 64);
	wg_blake2s_update(&s, inner, WG_HASH);
	wg_blake2s_final(&s, out);
	nb_wipe(pad, sizeof pad);
	nb_wipe(inner, sizeof inner);
}

void wg_kdf(uint8_t o1[WG_HASH], uint8_t *o2, uint8_t *o3, const uint8_t key[WG_HASH], const void *p, size_t n)
{
	uint8_t secret[WG_HASH], t[WG_HASH + 1];

	wg_hmac(secret, key, WG_HASH, p, n);
	t[0] = 1;
	wg_hmac(o1, secret, WG_HASH, t, 1);
	if (o2) {
		memcpy(t, o1, WG_HASH);
		t[WG_HASH] = 2;
		wg_hmac(o2, secret, WG_HASH, t, sizeof t);
	}
	if (o3) {
		memcpy(t, o2, WG_HASH);
		t[WG_HASH] = 3;
		wg_hmac(o3, secret, WG_HASH, t, sizeof t);
	}
	nb_wipe(secret, sizeof secret);
	nb_wipe(t, sizeof t);
}
