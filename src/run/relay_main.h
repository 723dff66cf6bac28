/* relay_main.h - the relay as a program of its own: the listener of the NetBird relay protocol, health and metrics on the
 * main thread, the relay itself (run/relay.h) on its thread. spec/relay-protocol.md 8.
 * Tests: tests/net/test_relay.py, tests/net/test_turn_interop.py */
#ifndef NB_RUN_RELAY_MAIN_H
#define NB_RUN_RELAY_MAIN_H

#include "relay/relay.h"

struct run_relay_main_config {
	struct relay_config relay;
	struct nb_endpoint listen;	/* of the NetBird relay protocol; used when relay.url is set */
	const char *cert_file, *key_file;	/* NULL: no TLS */
	struct nb_endpoint health, metrics;	/* port 0: not served */
	const char *user;		/* become this user once the ports are open; NULL: stay */
};

/* Start, serve until SIGINT or SIGTERM, stop. SIGHUP reads the certificate again. Returns an exit status. */
int run_relay_main(const struct run_relay_main_config *cfg);

#endif
