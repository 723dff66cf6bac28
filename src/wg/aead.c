/* aead.c - the ciphers of WireGuard behind one table, so that faster kernels can be chosen at start.
 * The first kernel is the library's ChaCha20-Poly1305 (RFC 8439), one message after the other.
 * Tests: tests/unit/wg_primitives_test.c */
#include "wg/wg_int.h"

#include "crypto/crypto.h"

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

static const struct wg_aead kernels[] = {
	{ "library", library_seal, library_open },
};

const struct wg_aead *wg_aead(void)
{
	return &kernels[0];
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
