/* client_lazy_fuzz.c - the texts client/lazy.h reads: a version of the network map, words of the environment. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "client/lazy.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	enum client_lazy_force force;
	char *text = malloc(n + 1);
	int64_t ns;
	int bad;

	if (!text)
		return 0;
	memcpy(text, p, n);
	text[n] = 0;
	/* Nothing without a digit and a dot is a release. */
	if (client_lazy_supported(text))
		assert(strpbrk(text, "0123456789") || !strncmp(text, "dev", 3) || !strncmp(text, "ci-", 3));
	bad = client_lazy_force_parse(&force, text);
	assert(bad ? force == CLIENT_LAZY_UNSET : force != CLIENT_LAZY_UNSET || !*text);
	bad = client_lazy_idle_parse(&ns, text);
	assert(ns >= NB_SEC && (!bad || ns == CLIENT_LAZY_IDLE_NS));
	free(text);
	return 0;
}
