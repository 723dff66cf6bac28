/* tls_int.h - what pem.c and tls.c share: BearSSL's shapes. */
#ifndef NB_CRYPTO_TLS_INT_H
#define NB_CRYPTO_TLS_INT_H

#include <stdatomic.h>

#include <bearssl.h>

#include "base/arena.h"
#include "crypto/tls.h"

struct nbc_trust {
	atomic_int refs;
	struct nb_arena mem;	/* names and keys of the anchors */
	br_x509_trust_anchor *anchors;
	size_t count, cap;
	char source[128];
};

struct nbc_identity {
	atomic_int refs;
	struct nb_arena mem;	/* certificates and key */
	br_x509_certificate *chain;
	size_t chain_len;
	unsigned key_type, signer_type;	/* BR_KEYTYPE_RSA or BR_KEYTYPE_EC */
	br_rsa_private_key rsa;
	br_ec_private_key ec;
	struct nb_wall from, until;
};

/* BearSSL counts days since the year 0. */
#define NBC_X509_DAYS_1970 719528
static inline struct nb_wall nbc_x509_wall(uint32_t days, uint32_t seconds)
{
	int64_t sec = ((int64_t)days - NBC_X509_DAYS_1970) * 86400 + seconds;

	/* "99991231235959Z" does not fit into nanoseconds. */
	if (sec > INT64_MAX / NB_SEC)
		return (struct nb_wall){ INT64_MAX };
	if (sec < INT64_MIN / NB_SEC)
		return (struct nb_wall){ INT64_MIN };
	return (struct nb_wall){ sec * NB_SEC };
}

#endif
