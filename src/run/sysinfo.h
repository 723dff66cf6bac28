/* sysinfo.h - what the agent tells management about this machine (PeerSystemMeta,
 * spec/client.md 8): host name, system, kernel, addresses, hardware. Nothing is asked over the
 * network: no cloud metadata look-ups. */
#ifndef NB_RUN_SYSINFO_H
#define NB_RUN_SYSINFO_H

#include "base/arena.h"
#include "client/config.h"
#include "proto/management.pb-c.h"

/* Collect into the arena (about 8 KiB). hostname: what the user set, or NULL. overlay_iface: our own
 * interface, whose addresses are left out. Returns NULL without memory. */
Management__PeerSystemMeta *run_sysinfo(struct nb_arena *a, const struct client_config *cfg, const char *hostname,
					const char *overlay_iface);

#endif
