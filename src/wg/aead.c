/* aead.c - the ciphers of WireGuard behind one table, so that faster kernels can be chosen at start.
 * The first kernel is libsodium's ChaCha20-Poly1305 (RFC 8439), one message after the other.
 * Tests: tests/unit/wg_primitives_test.c */
#include "wg/wg_int.h"

#include <sodium.h>

static void counter_nonce(uint8_t nonce[12], uint64_t counter)
{
	nb_put_le32(nonce, 0);
	nb_put_le64(nonce + 4, counter);
}

static void sodium_seal(struct wg_aead_op *ops, size_t count)
{
	uint8_t nonce[12];

	for (size_t i = 0; i < count; i++) {
		counter_nonce(nonce, ops[i].counter);
		crypto_aead_chacha20poly1305_ietf_encrypt_detached(ops[i].p, ops[i].p + ops[i].n, NULL, ops[i].p, ops[i].n,
								   NULL, 0, NULL, nonce, ops[i].key);
	}
}

static void sodium_open(struct wg_aead_op *ops, size_t count)
{
	uint8_t nonce[12];

	for (size_t i = 0; i < count; i++) {
		counter_nonce(nonce, ops[i].counter);
		ops[i].ok = crypto_aead_chacha20poly1305_ietf_decrypt_detached(ops[i].p, NULL, ops[i].p, ops[i].n,
									       ops[i].p + ops[i].n, NULL, 0, nonce,
									       ops[i].key) == 0;
	}
}

static const struct wg_aead kernels[] = {
	{ "sodium", sodium_seal, sodium_open },
};

const struct wg_aead *wg_aead(void)
{
	return &kernels[0];
}

void wg_seal_field(uint8_t *dst, const void *src, size_t n, const uint8_t key[32], const uint8_t ad[WG_HASH])
{
	static const uint8_t nonce[12];

	crypto_aead_chacha20poly1305_ietf_encrypt(dst, NULL, src, n, ad, WG_HASH, NULL, nonce, key);
}

int wg_open_field(void *dst, const uint8_t *src, size_t n, const uint8_t key[32], const uint8_t ad[WG_HASH])
{
	static const uint8_t nonce[12];

	return crypto_aead_chacha20poly1305_ietf_decrypt(dst, NULL, NULL, src, n + WG_TAG, ad, WG_HASH, nonce, key) ?
		       NB_E_AUTH : 0;
}

void wg_seal_cookie(uint8_t dst[WG_MAC + WG_TAG], const uint8_t cookie[WG_MAC], const uint8_t nonce[24],
		    const uint8_t key[32], const uint8_t mac1[WG_MAC])
{
	crypto_aead_xchacha20poly1305_ietf_encrypt(dst, NULL, cookie, WG_MAC, mac1, WG_MAC, NULL, nonce, key);
}

int wg_open_cookie(uint8_t cookie[WG_MAC], const uint8_t src[WG_MAC + WG_TAG], const uint8_t nonce[24],
		   const uint8_t key[32], const uint8_t mac1[WG_MAC])
{
	return crypto_aead_xchacha20poly1305_ietf_decrypt(cookie, NULL, NULL, src, WG_MAC + WG_TAG, mac1, WG_MAC, nonce,
							  key) ? NB_E_AUTH : 0;
}

int wg_dh(uint8_t out[32], const uint8_t priv[32], const uint8_t pub[32])
{
	/* libsodium refuses the results that a point of small order gives. */
	if (crypto_scalarmult_curve25519(out, priv, pub) != 0) {
		memset(out, 0, 32);
		return NB_E_BAD;
	}
	return 0;
}

void wg_dh_public(uint8_t pub[32], const uint8_t priv[32])
{
	crypto_scalarmult_curve25519_base(pub, priv);
}

void wg_dh_clamp(uint8_t priv[32])
{
	priv[0] &= 248;
	priv[31] = (uint8_t)((priv[31] & 127) | 64);
}
