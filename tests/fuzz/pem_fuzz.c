/* pem_fuzz.c - src/crypto/pem.c: any text as a CA bundle, and as certificate chain and key in one. */
#include <stddef.h>
#include <stdint.h>

#include "crypto/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nbc_identity *id = NULL;
	struct nbc_trust *t = NULL;
	struct nb_wall from, until;
	char why[NBC_TLS_WHY];

	if (nbc_trust_new(&t, nb_bytes(data, size), "fuzz") == 0)
		nbc_trust_unref(t);
	if (nbc_identity_new(&id, nb_bytes(data, size), nb_bytes(data, size), why) == 0) {
		nbc_identity_validity(id, &from, &until);
		nbc_identity_unref(id);
	}
	return 0;
}
