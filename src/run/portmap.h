/* portmap.h - port mapping for the shared UDP port: finds the default gateway and asks it by PCP, NAT-PMP
 * (ice/portmap.h) and UPnP (run/upnp.h) side by side. PCP or NAT-PMP is preferred to UPnP. Nothing is sent
 * unless the gateway and our own address towards it are both private: a machine with a public address needs no
 * mapping, and the router of a data centre is not to be bothered. By IPv6, where addresses are public anyway,
 * the router is asked for a hole in its firewall under the same condition, or when there is no IPv4.
 * spec/peer-connection.md 7. Tests: tests/net/test_portmap.py. */
#ifndef NB_RUN_PORTMAP_H
#define NB_RUN_PORTMAP_H

#include "base/addr.h"
#include "run/loop.h"

struct run_portmap;

struct run_portmap_config {
	struct run_loop *loop;
	bool no_health;			/* NB_DISABLE_PCP_HEALTH_CHECK */
	uint16_t port;			/* the port to be reached at */
	uint32_t mark;			/* of our packets to the gateway; routes are looked up with it */
	/* The external endpoint when there is one, or a new one; port 0 when it is lost. The address is 0.0.0.0 when
	 * the gateway does not know it. Called from the loop, never from inside the calls below. */
	void (*mapped)(void *ctx, const struct nb_endpoint *external);
	void *ctx;
};

/* Look for a gateway and begin. cfg is copied. Returns 0 or NB_E_NOMEM; no gateway is no error. */
int run_portmap_new(struct run_portmap **out, const struct run_portmap_config *cfg);
/* Addresses or routes have changed: another gateway, or another address of ours, is asked from the start. */
void run_portmap_refresh(struct run_portmap *p);
/* Take the mapping away (with UPnP: within RUN_UPNP_STOP_MS) and end. NULL is allowed. */
void run_portmap_free(struct run_portmap *p);

#endif
