/* upnp.h - a port forwarded by the gateway's UPnP IGD, through miniupnpc. That library blocks, so it runs on a
 * thread of its own, which keeps the mapping alive and takes it away at the end; nobody waits for it longer
 * than RUN_UPNP_STOP_MS. Only the given gateway is believed, whoever else answers the search.
 * spec/peer-connection.md 7. Tests: tests/net/test_portmap.py. */
#ifndef NB_RUN_UPNP_H
#define NB_RUN_UPNP_H

#include "base/addr.h"
#include "run/loop.h"

#define RUN_UPNP_STOP_MS 1000

struct run_upnp;

/* Search and map. fn (on the loop) gets the external endpoint when there is one, or a new one, and port 0 when it
 * is lost. gateway and local are IPv4. Returns 0, NB_E_NOMEM. */
int run_upnp_start(struct run_upnp **out, struct run_loop *l, const struct nb_addr *gateway, const struct nb_addr *local,
		   uint16_t port, void (*fn)(void *ctx, const struct nb_endpoint *external), void *ctx);
/* End: the mapping is deleted. wait: give that RUN_UPNP_STOP_MS; else, or after that, it goes on by itself as long
 * as the process lives. fn is not called any more. NULL is allowed. */
void run_upnp_stop(struct run_upnp *u, bool wait);

#endif
