/* crypto.h - one face over libsodium and BearSSL: keys, boxes, AEAD, hashes, passwords, random
 * numbers and identifiers. TLS has its own face, crypto/tls.h. Nothing here does I/O except the
 * system random generator behind nbc_random. "In place" below means out == in.p. */
#ifndef NB_CRYPTO_CRYPTO_H
#define NB_CRYPTO_CRYPTO_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/time.h"

/* Call once before anything else here, from any thread; repeated calls are harmless.
 * Returns 0, or NB_E_SYS when the system has no random numbers. */
int nbc_init(void);

/* An nb_random_fn over the system's generator; ctx is ignored. */
void nbc_random(void *ctx, void *out, size_t n);

/* --- X25519 and key texts ------------------------------------------------------------------ */

/* A fresh clamped secret key (as `wg genkey` makes them) and its public key. */
void nbc_keypair(uint8_t secret[NB_KEY_LEN], uint8_t pub[NB_KEY_LEN], nb_random_fn rnd, void *ctx);
/* Clamp a secret key in place (RFC 7748, 5). X25519 itself accepts unclamped ones. */
void nbc_key_clamp(uint8_t secret[NB_KEY_LEN]);
/* The public key of a secret key. */
void nbc_x25519_base(uint8_t pub[NB_KEY_LEN], const uint8_t secret[NB_KEY_LEN]);
/* The raw shared secret. Returns 0, or NB_E_BAD when the peer's point is of low order (out zeroed). */
int nbc_x25519(uint8_t out[NB_KEY_LEN], const uint8_t secret[NB_KEY_LEN],
	       const uint8_t pub[NB_KEY_LEN]);
/* WireGuard's key text: 44 characters of padded base64 plus NUL. */
void nbc_key_format(char out[NB_KEY_TEXT_LEN], const uint8_t key[NB_KEY_LEN]);
/* Exactly 44 characters of padded base64 that hold 32 bytes. Returns 0 or NB_E_BAD (out zeroed). */
int nbc_key_parse(uint8_t out[NB_KEY_LEN], struct nb_bytes text);

/* --- boxes (NaCl curve25519-xsalsa20-poly1305) ---------------------------------------------- */

#define NBC_BOX_NONCE 24
#define NBC_BOX_TAG 16
#define NBC_BOX_OVERHEAD (NBC_BOX_NONCE + NBC_BOX_TAG)

/* The key both directions between two parties share (crypto_box_beforenm). It depends only on
 * the two keys: keep it for as long as both live, wipe it then.
 * Returns 0, or NB_E_BAD for a low-order public key (key zeroed). */
int nbc_box_key(uint8_t key[NB_KEY_LEN], const uint8_t secret[NB_KEY_LEN],
		const uint8_t pub[NB_KEY_LEN]);
/* out: plain.n + NBC_BOX_OVERHEAD bytes, laid out nonce || tag || ciphertext
 * (management-protocol.md, 2). plain may be empty; out must not overlap it. */
void nbc_box_seal(uint8_t *out, struct nb_bytes plain, const uint8_t key[NB_KEY_LEN],
		  const uint8_t nonce[NBC_BOX_NONCE]);
/* Append a box under a random nonce to b. Returns b->err. */
int nbc_box_seal_buf(struct nb_buf *b, struct nb_bytes plain, const uint8_t key[NB_KEY_LEN],
		     nb_random_fn rnd, void *ctx);
/* out: box.n - NBC_BOX_OVERHEAD bytes; must not overlap box.
 * Returns 0, NB_E_SHORT, or NB_E_AUTH (out unspecified). */
int nbc_box_open(uint8_t *out, struct nb_bytes box, const uint8_t key[NB_KEY_LEN]);
/* Append the plaintext of a box to b. Returns 0, NB_E_SHORT, NB_E_AUTH (b unchanged) or b->err. */
int nbc_box_open_buf(struct nb_buf *b, struct nb_bytes box, const uint8_t key[NB_KEY_LEN]);

/* Secret-key boxes use the same cipher, so nbc_box_seal and nbc_box_open with any random 32-byte
 * key are crypto_secretbox_easy and its opposite. */

/* --- AEAD ------------------------------------------------------------------------------------ */

#define NBC_AEAD_TAG 16

/* ChaCha20-Poly1305 (RFC 8439): out gets in.n + 16 bytes, ciphertext || tag. In place allowed. */
void nbc_aead_seal(uint8_t *out, struct nb_bytes in, struct nb_bytes ad, const uint8_t nonce[12],
		   const uint8_t key[NB_KEY_LEN]);
/* out gets in.n - 16 bytes. In place allowed. Returns 0, NB_E_SHORT or NB_E_AUTH. */
int nbc_aead_open(uint8_t *out, struct nb_bytes in, struct nb_bytes ad, const uint8_t nonce[12],
		  const uint8_t key[NB_KEY_LEN]);
/* XChaCha20-Poly1305 (24-byte nonce), otherwise the same. */
void nbc_xaead_seal(uint8_t *out, struct nb_bytes in, struct nb_bytes ad, const uint8_t nonce[24],
		    const uint8_t key[NB_KEY_LEN]);
int nbc_xaead_open(uint8_t *out, struct nb_bytes in, struct nb_bytes ad, const uint8_t nonce[24],
		   const uint8_t key[NB_KEY_LEN]);

/* --- hashes ---------------------------------------------------------------------------------- */

#define NBC_MD5_LEN 16
#define NBC_SHA1_LEN 20
#define NBC_SHA256_LEN 32

void nbc_md5(uint8_t out[NBC_MD5_LEN], struct nb_bytes in);
void nbc_sha1(uint8_t out[NBC_SHA1_LEN], struct nb_bytes in);
void nbc_sha256(uint8_t out[NBC_SHA256_LEN], struct nb_bytes in);
/* HMAC (RFC 2104) over one slice, or over the concatenation of nparts slices. */
void nbc_hmac_sha1(uint8_t out[NBC_SHA1_LEN], struct nb_bytes key, struct nb_bytes in);
void nbc_hmac_sha256(uint8_t out[NBC_SHA256_LEN], struct nb_bytes key, struct nb_bytes in);
void nbc_hmac_sha1_v(uint8_t out[NBC_SHA1_LEN], struct nb_bytes key, const struct nb_bytes *parts,
		     size_t nparts);
void nbc_hmac_sha256_v(uint8_t out[NBC_SHA256_LEN], struct nb_bytes key,
		       const struct nb_bytes *parts, size_t nparts);
/* CRC-32 as in zlib, Ethernet and STUN's FINGERPRINT (before its XOR). seed: 0 to start, else the
 * result so far. */
uint32_t nbc_crc32(uint32_t seed, struct nb_bytes in);

/* --- passwords ------------------------------------------------------------------------------- */

#define NBC_PASSWORD_TEXT 128		/* an encoded hash, NUL included */
#define NBC_PASSWORD_KIB (19 * 1024)	/* default memory: 19 MiB */
#define NBC_PASSWORD_PASSES 2		/* default passes */

/* Argon2id into the usual "$argon2id$v=19$m=..." text with a random salt; zeros beyond the NUL.
 * kib: at least 8; passes: at least 1. Slow on purpose: run it on a worker thread.
 * Returns 0, NB_E_ARG or NB_E_NOMEM. */
int nbc_password_hash(char out[NBC_PASSWORD_TEXT], struct nb_bytes password, uint32_t kib,
		      uint32_t passes);
/* Check a password against an encoded hash, at the cost stored in it.
 * Returns 0, or NB_E_AUTH for a wrong password or an unreadable hash. */
int nbc_password_verify(const char *encoded, struct nb_bytes password);
/* True when the hash was made with other costs than given, so that it should be made anew. */
bool nbc_password_outdated(const char *encoded, uint32_t kib, uint32_t passes);

/* --- identifiers ----------------------------------------------------------------------------- */

#define NBC_UUID_TEXT 37	/* NUL included */
#define NBC_XID_TEXT 21		/* NUL included */

/* Random UUID (RFC 9562, version 4), lower case. */
void nbc_uuid4(char out[NBC_UUID_TEXT], nb_random_fn rnd, void *ctx);
/* True for 36 characters in UUID form, any case and version. out (may be NULL) gets lower case. */
bool nbc_uuid_parse(char out[NBC_UUID_TEXT], struct nb_bytes text);

/* Generator of the 20-character ids stock uses for its records (rs/xid: time, machine, process,
 * counter in base32hex). Machine, process and counter start are random. Not thread-safe. */
struct nbc_xid {
	uint8_t id[5];
	uint32_t counter;
};
void nbc_xid_init(struct nbc_xid *x, nb_random_fn rnd, void *ctx);
void nbc_xid_next(struct nbc_xid *x, char out[NBC_XID_TEXT], struct nb_wall now);
/* True for 20 characters of xid's alphabet. */
bool nbc_xid_valid(struct nb_bytes text);

/* n characters drawn evenly from alphabet (at most 256 of them), plus NUL; out holds n + 1. */
void nbc_random_text(char *out, size_t n, const char *alphabet, nb_random_fn rnd, void *ctx);

#endif
