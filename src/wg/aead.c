/* aead.c - the ciphers of WireGuard behind one table, so that faster kernels can be chosen at start.
 * Handshake fields and cookies are rare and go through the library. Tests: tests/unit/wg_aead_test.c,
 * tests/unit/wg_primitives_test.c */
#include "wg/aead_int.h"

#include "crypto/crypto.h"

#define WG_SELF_TEST_LEN 1000	/* long enough for every path of the wide kernels */

static void counter_nonce(uint8_t nonce[12], uint64_t counter)
{
	nb_put_le32(nonce, 0);
	nb_put_le64(nonce + 4, counter);
}

static void library_seal(struct wg_aead_op *ops, size_t count)
{
	uint8_t nonce[12];

	for (size_t i = 0; i < count; i++) {
		counter_nonce(nonce, ops[i].counter);
		nbc_aead_seal(ops[i].p, nb_bytes(ops[i].p, ops[i].n), nb_bytes(NULL, 0), nonce, ops[i].key);
	}
}

static void library_open(struct wg_aead_op *ops, size_t count)
{
	uint8_t nonce[12];

	for (size_t i = 0; i < count; i++) {
		counter_nonce(nonce, ops[i].counter);
		ops[i].ok = nbc_aead_open(ops[i].p, nb_bytes(ops[i].p, ops[i].n + WG_TAG), nb_bytes(NULL, 0), nonce,
					  ops[i].key) == 0;
	}
}

static const struct wg_aead library = { "library", library_seal, library_open };

/* Best first. The library's is the yardstick in tests and benchmarks, and there for big-endian or odd
 * processors whose portable kernel it beats. */
static const struct {
	const struct wg_aead *kernel;
	bool (*usable)(void);
} kernels[] = {
#if defined(__x86_64__)
	{ &wg_aead_avx512, wg_avx512_usable },
	{ &wg_aead_avx2, wg_avx2_usable },
	{ &wg_aead_ssse3, wg_ssse3_usable },
#elif defined(__aarch64__) && defined(__ARM_NEON) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	{ &wg_aead_neon, NULL },
#endif
	{ &library, NULL },
	{ &wg_aead_portable, NULL },
};

const struct wg_aead *wg_aead_kernel(size_t i)
{
	if (i >= sizeof kernels / sizeof *kernels)
		return NULL;
	return kernels[i].kernel;
}

bool wg_aead_usable(const struct wg_aead *k)
{
	for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
		if (kernels[i].kernel == k)
			return !kernels[i].usable || kernels[i].usable();
	return false;
}

/* RFC 8439 2.8.2 has associated data, which transport messages do not: the expectation below is that
 * example's key, nonce words and text, sealed by an independent implementation. A kernel that fails is
 * passed over, so that a miscompiled one costs speed and not secrecy. */
static bool self_test(const struct wg_aead *k)
{
	static const uint8_t key[32] = { 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f,
					 0x90, 0x91, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f };
	uint8_t mine[2][WG_SELF_TEST_LEN + WG_TAG], theirs[2][WG_SELF_TEST_LEN + WG_TAG];
	struct wg_aead_op a[2], b[2];

	for (int i = 0; i < 2; i++) {
		size_t n = i ? WG_SELF_TEST_LEN : 114;

		for (size_t j = 0; j < n; j++)
			mine[i][j] = theirs[i][j] = (uint8_t)(j * 7 + 1);
		a[i] = (struct wg_aead_op){ mine[i], n, key, 0x4746454443424140ULL + (uint64_t)i, false };
		b[i] = (struct wg_aead_op){ theirs[i], n, key, a[i].counter, false };
	}
	k->seal(a, 2);
	library.seal(b, 2);
	if (memcmp(mine[0], theirs[0], 114 + WG_TAG) || memcmp(mine[1], theirs[1], sizeof mine[1]))
		return false;
	mine[1][5] ^= 1;
	k->open(a, 2);
	return a[0].ok && !a[1].ok && mine[0][0] == 1 && mine[0][113] == (uint8_t)(113 * 7 + 1);
}

const struct wg_aead *wg_aead(void)
{
	static const struct wg_aead *_Atomic chosen;
	const struct wg_aead *k = chosen;

	for (size_t i = 0; !k; i++) {
		k = wg_aead_kernel(i);
		if (!wg_aead_usable(k) || !self_test(k))
			k = NULL;
	}
	chosen = k;
	return k;
}

static const uint8_t zero_nonce[12];

void wg_seal_field(uint8_t *dst, const void *src, size_t n, const uint8_t key[32], const uint8_t ad[WG_HASH])
{
	nbc_aead_seal(dst, nb_bytes(src, n), nb_bytes(ad, WG_HASH), zero_nonce, key);
}

int wg_open_field(void *dst, const uint8_t *src, size_t n, const uint8_t key[32], const uint8_t ad[WG_HASH])
{
	return nbc_aead_open(dst, nb_bytes(src, n + WG_TAG), nb_bytes(ad, WG_HASH), zero_nonce, key);
}

void wg_seal_cookie(uint8_t dst[WG_MAC + WG_TAG], const uint8_t cookie[WG_MAC], const uint8_t nonce[24],
		    const uint8_t key[32], const uint8_t mac1[WG_MAC])
{
	nbc_xaead_seal(dst, nb_bytes(cookie, WG_MAC), nb_bytes(mac1, WG_MAC), nonce, key);
}

int wg_open_cookie(uint8_t cookie[WG_MAC], const uint8_t src[WG_MAC + WG_TAG], const uint8_t nonce[24],
		   const uint8_t key[32], const uint8_t mac1[WG_MAC])
{
	return nbc_xaead_open(cookie, nb_bytes(src, WG_MAC + WG_TAG), nb_bytes(mac1, WG_MAC), nonce, key);
}

int wg_dh(uint8_t out[32], const uint8_t priv[32], const uint8_t pub[32])
{
	return nbc_x25519(out, priv, pub);
}

void wg_dh_public(uint8_t pub[32], const uint8_t priv[32])
{
	nbc_x25519_base(pub, priv);
}

void wg_dh_clamp(uint8_t priv[32])
{
	nbc_key_clamp(priv);
}
