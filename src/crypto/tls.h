/* tls.h - TLS 1.2 as a byte machine over BearSSL's engine: ciphertext in and out, plaintext in and
 * out, no sockets, no files, no clock. Renegotiation and session resumption are off. Suites: ECDHE
 * with ChaCha20-Poly1305 or AES-GCM. Tests: tests/unit/crypto_tls_test.c, tests/net/test_listener.py */
#ifndef NB_CRYPTO_TLS_H
#define NB_CRYPTO_TLS_H

#include "base/bytes.h"
#include "base/time.h"

#define NBC_TLS_WHY 512		/* room for an error sentence, NUL included */

/* --- trusted authorities (client) ------------------------------------------------------------ */

/* A parsed CA bundle; immutable, counted, may be shared by threads. */
struct nbc_trust;

/* Read every certificate of a PEM text; what cannot be read is skipped. source: where it came from, for
 * messages. Returns 0, NB_E_BAD (no usable certificate) or NB_E_NOMEM. */
int nbc_trust_new(struct nbc_trust **out, struct nb_bytes pem, const char *source);
/* A bundle that trusts nobody, for machines without one: connections then fail with the right words. */
int nbc_trust_none(struct nbc_trust **out);
struct nbc_trust *nbc_trust_ref(struct nbc_trust *t);
/* NULL is allowed. */
void nbc_trust_unref(struct nbc_trust *t);
size_t nbc_trust_count(const struct nbc_trust *t);

/* --- certificate chain and key (server) ------------------------------------------------------ */

/* Immutable, counted, may be shared by threads; connections keep theirs over a reload. */
struct nbc_identity;

/* cert_pem: the server's certificate first, then its intermediates. key_pem: RSA or EC (P-256, P-384,
 * P-521), PKCS#1, SEC1 or PKCS#8, not encrypted; may be the same text. why gets a sentence on failure.
 * Returns 0, NB_E_BAD or NB_E_NOMEM. */
int nbc_identity_new(struct nbc_identity **out, struct nb_bytes cert_pem, struct nb_bytes key_pem,
		     char why[NBC_TLS_WHY]);
struct nbc_identity *nbc_identity_ref(struct nbc_identity *id);
/* Wipes the key with the last reference. NULL is allowed. */
void nbc_identity_unref(struct nbc_identity *id);
/* When the server's certificate begins and ends to be valid. */
void nbc_identity_validity(const struct nbc_identity *id, struct nb_wall *from, struct nb_wall *until);

/* --- connections ------------------------------------------------------------------------------ */

struct nbc_tls;

#define NBC_TLS_ALPN_MAX 4

/* now is raised to the build date when it is earlier: a machine without a clock is not in 1970. */
struct nbc_tls_client {
	struct nbc_trust *trust;	/* a reference is taken */
	const char *host;		/* name the certificate must carry; copied */
	const char *alpn[NBC_TLS_ALPN_MAX]; /* static strings, best first, NULL-terminated if fewer */
	struct nb_wall now;
};
int nbc_tls_client_new(struct nbc_tls **out, const struct nbc_tls_client *cfg);
/* alpn as above. Returns 0 or NB_E_NOMEM. */
int nbc_tls_server_new(struct nbc_tls **out, struct nbc_identity *id,
		       const char *const alpn[NBC_TLS_ALPN_MAX]);
/* Wipes. NULL is allowed. */
void nbc_tls_free(struct nbc_tls *t);

/* The four directions. Each moves what fits now and returns the bytes moved; 0 means that another
 * direction must move first (or that it is over). Loop over them until none moves. */
size_t nbc_tls_feed(struct nbc_tls *t, struct nb_bytes ciphertext);	/* from the network */
size_t nbc_tls_pull(struct nbc_tls *t, void *out, size_t cap);		/* for the network */
size_t nbc_tls_write(struct nbc_tls *t, struct nb_bytes plaintext);	/* from the program */
size_t nbc_tls_read(struct nbc_tls *t, void *out, size_t cap);		/* for the program */
/* nbc_tls_pull without the copy: the bytes that wait (none: n 0), then how many of them were sent. */
struct nb_bytes nbc_tls_pending(struct nbc_tls *t);
void nbc_tls_pulled(struct nbc_tls *t, size_t n);
/* Bytes for the network are waiting. */
bool nbc_tls_wants_pull(const struct nbc_tls *t);
/* Ready for bytes from the network. */
bool nbc_tls_wants_feed(const struct nbc_tls *t);
/* Bytes nbc_tls_write would take now. */
size_t nbc_tls_room(const struct nbc_tls *t);

/* The handshake is complete (stays true after the connection is closed). */
bool nbc_tls_open(struct nbc_tls *t);
/* Begin an orderly end: close_notify goes out. */
void nbc_tls_close(struct nbc_tls *t);
/* Over, one way or the other. */
bool nbc_tls_closed(const struct nbc_tls *t);
/* 0 while it lives and after an orderly end; NB_E_AUTH (certificate), NB_E_UNSUPPORTED (version or
 * suite), NB_E_PROTO, NB_E_CLOSED (the peer sent an alert), NB_E_INTERNAL. */
int nbc_tls_error(const struct nbc_tls *t);
/* The error in one line: what happened and what to do; "" without one. */
void nbc_tls_why(const struct nbc_tls *t, char why[NBC_TLS_WHY]);
/* The protocol agreed on ("h2"), "" for none. Valid while t lives. */
const char *nbc_tls_alpn(const struct nbc_tls *t);
/* Server: the host name the client asked for, "" for none. */
const char *nbc_tls_sni(const struct nbc_tls *t);

#endif
