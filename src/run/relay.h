/* run/relay.h - the relay on real sockets: UDP listeners, one socket for each relayed address, batches
 * both ways, its own thread inside `server` so that a flood cannot stall the control plane.
 * What is decided is in relay/relay.h and ice/turn_server.h. Tests: tests/net/test_turn_interop.py */
#ifndef NB_RUN_RELAY_H
#define NB_RUN_RELAY_H

#include "relay/relay.h"

struct run_relay;

/* Open the listeners (the default is UDP 3478 on every address) and start the thread. cfg is copied.
 * Failures are logged in one line. Returns 0, NB_E_BUSY, NB_E_PERM, NB_E_CONFIG, NB_E_NOMEM, NB_E_SYS. */
int run_relay_start(struct run_relay **out, const struct relay_config *cfg);
/* End the thread, close everything. NULL is allowed. */
void run_relay_stop(struct run_relay *r);
/* The relay alone: start, wait for SIGINT or SIGTERM, stop. user: become this user once the listeners
 * are open; NULL: stay. Returns an exit status. */
int run_relay_main(const struct relay_config *cfg, const char *user);

#endif
