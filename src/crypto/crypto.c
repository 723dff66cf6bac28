/* crypto.c - see crypto.h. X25519, boxes, AEAD and Argon2id come from libsodium, MD5, SHA and HMAC
 * from BearSSL (which TLS brings along anyway), CRC-32 from zlib.
 * Tests: tests/unit/crypto_crypto_test.c */
#include "crypto/crypto.h"

#include "base/err.h"

#include <stdio.h>

#include <bearssl.h>
#include <sodium.h>
#include <zlib.h>

int nbc_init(void)
{
	return sodium_init() < 0 ? NB_E_SYS : 0;
}

void nbc_random(void *ctx, void *out, size_t n)
{
	(void)ctx;
	randombytes_buf(out, n);
}

void nbc_key_clamp(uint8_t secret[NB_KEY_LEN])
{
	secret[0] &= 248;
	secret[31] = (uint8_t)((secret[31] & 127) | 64);
}

void nbc_keypair(uint8_t secret[NB_KEY_LEN], uint8_t pub[NB_KEY_LEN], nb_random_fn rnd, void *ctx)
{
	rnd(ctx, secret, NB_KEY_LEN);
	nbc_key_clamp(secret);
	nbc_x25519_base(pub, secret);
}

void nbc_x25519_base(uint8_t pub[NB_KEY_LEN], const uint8_t secret[NB_KEY_LEN])
{
	crypto_scalarmult_curve25519_base(pub, secret);
}

int nbc_x25519(uint8_t out[NB_KEY_LEN], const uint8_t secret[NB_KEY_LEN],
	       const uint8_t pub[NB_KEY_LEN])
{
	if (crypto_scalarmult_curve25519(out, secret, pub)) {
		memset(out, 0, NB_KEY_LEN);
		return NB_E_BAD;
	}
	return 0;
}

void nbc_key_format(char out[NB_KEY_TEXT_LEN], const uint8_t key[NB_KEY_LEN])
{
	/* Cannot fail: 32 bytes are 44 characters. */
	(void)nb_base64_encode(out, NB_KEY_TEXT_LEN, nb_bytes(key, NB_KEY_LEN));
}

int nbc_key_parse(uint8_t out[NB_KEY_LEN], struct nb_bytes text)
{
	size_t n = 0;

	if (text.n == NB_KEY_TEXT_LEN - 1 && nb_base64_decode(out, NB_KEY_LEN, &n, text) == 0 &&
	    n == NB_KEY_LEN)
		return 0;
	nb_wipe(out, NB_KEY_LEN);
	return NB_E_BAD;
}

int nbc_box_key(uint8_t key[NB_KEY_LEN], const uint8_t secret[NB_KEY_LEN],
		const uint8_t pub[NB_KEY_LEN])
{
	if (crypto_box_beforenm(key, pub, secret)) {
		memset(key, 0, NB_KEY_LEN);
		return NB_E_BAD;
	}
	return 0;
}

void nbc_box_seal(uint8_t *out, struct nb_bytes plain, const uint8_t key[NB_KEY_LEN],
		  const uint8_t nonce[NBC_BOX_NONCE])
{
	memcpy(out, nonce, NBC_BOX_NONCE);
	crypto_secretbox_easy(out + NBC_BOX_NONCE, plain.p, plain.n, out, key);
}

int nbc_box_seal_buf(struct nb_buf *b, struct nb_bytes plain, const uint8_t key[NB_KEY_LEN],
		     nb_random_fn rnd, void *ctx)
{
	uint8_t nonce[NBC_BOX_NONCE];
	uint8_t *at = nb_buf_reserve(b, plain.n + NBC_BOX_OVERHEAD);

	if (!at)
		return b->err;
	rnd(ctx, nonce, sizeof nonce);
	nbc_box_seal(at, plain, key, nonce);
	nb_buf_commit(b, plain.n + NBC_BOX_OVERHEAD);
	return 0;
}

int nbc_box_open(uint8_t *out, struct nb_bytes box, const uint8_t key[NB_KEY_LEN])
{
	if (box.n < NBC_BOX_OVERHEAD)
		return NB_E_SHORT;
	if (crypto_secretbox_open_easy(out, box.p + NBC_BOX_NONCE, box.n - NBC_BOX_NONCE, box.p, key))
		return NB_E_AUTH;
	return 0;
}

int nbc_box_open_buf(struct nb_buf *b, struct nb_bytes box, const uint8_t key[NB_KEY_LEN])
{
	uint8_t none[1], *at = none;
	int r;

	if (box.n < NBC_BOX_OVERHEAD)
		return NB_E_SHORT;
	if (box.n > NBC_BOX_OVERHEAD)
		at = nb_buf_reserve(b, box.n - NBC_BOX_OVERHEAD);
	if (!at)
		return b->err;
	r = nbc_box_open(at, box, key);
	if (r == 0)
		nb_buf_commit(b, box.n - NBC_BOX_OVERHEAD);
	return r;
}

void nbc_aead_seal(uint8_t *out, struct nb_bytes in, struct nb_bytes ad, const uint8_t nonce[12],
		   const uint8_t key[NB_KEY_LEN])
{
	crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, in.p, in.n, ad.p, ad.n, NULL, nonce, key);
}

int nbc_aead_open(uint8_t *out, struct nb_bytes in, struct nb_bytes ad, const uint8_t nonce[12],
		  const uint8_t key[NB_KEY_LEN])
{
	if (in.n < NBC_AEAD_TAG)
		return NB_E_SHORT;
	if (crypto_aead_chacha20poly1305_ietf_decrypt(out, NULL, NULL, in.p, in.n, ad.p, ad.n, nonce,
						      key))
		return NB_E_AUTH;
	return 0;
}

void nbc_xaead_seal(uint8_t *out, struct nb_bytes in, struct nb_bytes ad, const uint8_t nonce[24],
		    const uint8_t key[NB_KEY_LEN])
{
	crypto_aead_xchacha20poly1305_ietf_encrypt(out, NULL, in.p, in.n, ad.p, ad.n, NULL, nonce, key);
}

int nbc_xaead_open(uint8_t *out, struct nb_bytes in, struct nb_bytes ad, const uint8_t nonce[24],
		   const uint8_t key[NB_KEY_LEN])
{
	if (in.n < NBC_AEAD_TAG)
		return NB_E_SHORT;
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(out, NULL, NULL, in.p, in.n, ad.p, ad.n, nonce,
						       key))
		return NB_E_AUTH;
	return 0;
}

void nbc_md5(uint8_t out[NBC_MD5_LEN], struct nb_bytes in)
{
	br_md5_context c;

	br_md5_init(&c);
	br_md5_update(&c, in.p, in.n);
	br_md5_out(&c, out);
	nb_wipe(&c, sizeof c);
}

void nbc_sha1(uint8_t out[NBC_SHA1_LEN], struct nb_bytes in)
{
	br_sha1_context c;

	br_sha1_init(&c);
	br_sha1_update(&c, in.p, in.n);
	br_sha1_out(&c, out);
	nb_wipe(&c, sizeof c);
}

void nbc_sha256(uint8_t out[NBC_SHA256_LEN], struct nb_bytes in)
{
	br_sha256_context c;

	br_sha256_init(&c);
	br_sha256_update(&c, in.p, in.n);
	br_sha256_out(&c, out);
	nb_wipe(&c, sizeof c);
}

static void hmac(const br_hash_class *hash, uint8_t *out, struct nb_bytes key,
		 const struct nb_bytes *parts, size_t nparts)
{
	br_hmac_key_context k;
	br_hmac_context c;

	br_hmac_key_init(&k, hash, key.p, key.n);
	br_hmac_init(&c, &k, 0);
	for (size_t i = 0; i < nparts; i++)
		br_hmac_update(&c, parts[i].p, parts[i].n);
	br_hmac_out(&c, out);
	nb_wipe(&k, sizeof k);
	nb_wipe(&c, sizeof c);
}

void nbc_hmac_sha1_v(uint8_t out[NBC_SHA1_LEN], struct nb_bytes key, const struct nb_bytes *parts,
		     size_t nparts)
{
	hmac(&br_sha1_vtable, out, key, parts, nparts);
}

void nbc_hmac_sha256_v(uint8_t out[NBC_SHA256_LEN], struct nb_bytes key,
		       const struct nb_bytes *parts, size_t nparts)
{
	hmac(&br_sha256_vtable, out, key, parts, nparts);
}

void nbc_hmac_sha1(uint8_t out[NBC_SHA1_LEN], struct nb_bytes key, struct nb_bytes in)
{
	hmac(&br_sha1_vtable, out, key, &in, 1);
}

void nbc_hmac_sha256(uint8_t out[NBC_SHA256_LEN], struct nb_bytes key, struct nb_bytes in)
{
	hmac(&br_sha256_vtable, out, key, &in, 1);
}

uint32_t nbc_crc32(uint32_t seed, struct nb_bytes in)
{
	/* zlib takes a NULL pointer as "give me the start value", whatever the seed. */
	return in.n ? (uint32_t)crc32_z(seed, in.p, in.n) : seed;
}

int nbc_password_hash(char out[NBC_PASSWORD_TEXT], struct nb_bytes password, uint32_t kib,
		      uint32_t passes)
{
	_Static_assert(NBC_PASSWORD_TEXT == crypto_pwhash_argon2id_STRBYTES, "encoded length");

	if (kib < 8 || kib > 4194303 || passes < 1 || password.n > crypto_pwhash_argon2id_PASSWD_MAX)
		return NB_E_ARG;
	if (crypto_pwhash_argon2id_str(out, (const char *)password.p, password.n, passes,
				       (size_t)kib * 1024))
		return NB_E_NOMEM;
	return 0;
}

int nbc_password_verify(const char *encoded, struct nb_bytes password)
{
	return crypto_pwhash_argon2id_str_verify(encoded, (const char *)password.p, password.n) ?
		NB_E_AUTH : 0;
}

bool nbc_password_outdated(const char *encoded, uint32_t kib, uint32_t passes)
{
	return crypto_pwhash_argon2id_str_needs_rehash(encoded, passes, (size_t)kib * 1024) != 0;
}

void nbc_uuid4(char out[NBC_UUID_TEXT], nb_random_fn rnd, void *ctx)
{
	uint8_t r[16];
	char hex[33];

	rnd(ctx, r, sizeof r);
	r[6] = (uint8_t)((r[6] & 0x0f) | 0x40);
	r[8] = (uint8_t)((r[8] & 0x3f) | 0x80);
	nb_hex_encode(hex, nb_bytes(r, sizeof r));
	snprintf(out, NBC_UUID_TEXT, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16,
		 hex + 20);
}

bool nbc_uuid_parse(char out[NBC_UUID_TEXT], struct nb_bytes text)
{
	char lower[NBC_UUID_TEXT] = "";

	if (text.n != NBC_UUID_TEXT - 1)
		return false;
	for (size_t i = 0; i < text.n; i++) {
		uint8_t c = text.p[i];
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (c >= 'A' && c <= 'F')
			c = (uint8_t)(c + 'a' - 'A');
		if (dash ? c != '-' : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
			return false;
		lower[i] = (char)c;
	}
	if (out)
		memcpy(out, lower, NBC_UUID_TEXT);
	return true;
}

static const char xid_alphabet[] = "0123456789abcdefghijklmnopqrstuv";

void nbc_xid_init(struct nbc_xid *x, nb_random_fn rnd, void *ctx)
{
	rnd(ctx, x->id, sizeof x->id);
	rnd(ctx, &x->counter, sizeof x->counter);
}

void nbc_xid_next(struct nbc_xid *x, char out[NBC_XID_TEXT], struct nb_wall now)
{
	uint8_t raw[12];
	uint32_t acc = 0, counter = x->counter++;
	int bits = 0;
	size_t o = 0;

	nb_put_be32(raw, (uint32_t)(now.ns / NB_SEC));
	memcpy(raw + 4, x->id, sizeof x->id);
	raw[9] = (uint8_t)(counter >> 16);
	raw[10] = (uint8_t)(counter >> 8);
	raw[11] = (uint8_t)counter;
	for (size_t i = 0; i < sizeof raw; i++) {
		acc = acc << 8 | raw[i];
		for (bits += 8; bits >= 5; bits -= 5)
			out[o++] = xid_alphabet[acc >> (bits - 5) & 31];
	}
	/* 96 bits are 19 characters and one bit. */
	out[o++] = xid_alphabet[acc << (5 - bits) & 31];
	out[o] = 0;
}

bool nbc_xid_valid(struct nb_bytes text)
{
	if (text.n != NBC_XID_TEXT - 1)
		return false;
	for (size_t i = 0; i < text.n; i++)
		if (!text.p[i] || !strchr(xid_alphabet, text.p[i]))
			return false;
	return true;
}

void nbc_random_text(char *out, size_t n, const char *alphabet, nb_random_fn rnd, void *ctx)
{
	size_t len = strlen(alphabet), i = 0;
	unsigned limit = (unsigned)(256 - 256 % len);	/* bytes from here on would favour the first letters */
	uint8_t r[32];

	while (i < n) {
		rnd(ctx, r, sizeof r);
		for (size_t k = 0; k < sizeof r && i < n; k++)
			if (r[k] < limit)
				out[i++] = alphabet[r[k] % len];
	}
	out[n] = 0;
	nb_wipe(r, sizeof r);
}
