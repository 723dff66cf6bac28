/* wgdev_fuzz.c - the texts that describe a WireGuard interface: first byte even: a file; odd: lines of the socket. */
#include "base/err.h"
#include "run/wgdev_int.h"

#include <stdlib.h>

static int iface(void *ctx, const struct run_wgdev_iface *i)
{
	++*(unsigned *)ctx;
	return i->set_port && i->port == 1 ? NB_E_FULL : 0;
}

static int peer(void *ctx, const struct run_wgdev_peer *p)
{
	++*(unsigned *)ctx;
	if (p->nadd > RUN_WGDEV_PREFIXES || p->ndel > RUN_WGDEV_PREFIXES)
		abort();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned told = 0, line;
	struct run_wgdev_sink sink = { iface, peer, &told };
	const char *why;

	if (!size)
		return 0;
	if (data[0] % 2) {
		int err = run_wgdev_set(nb_bytes(data + 1, size - 1), &sink);

		if (err == NB_E_BAD && told)
			abort();
	} else if (run_wgdev_config(nb_bytes(data + 1, size - 1), &sink, &line, &why) == NB_E_CONFIG && (told || !why)) {
		abort();
	}
	return 0;
}
