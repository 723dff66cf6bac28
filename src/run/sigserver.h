/* sigserver.h - the signal server alone on real sockets: one or two TCP ports, optional TLS, optional
 * metrics. Routing is in signal/signal.h. signal-protocol.md 5.6. Tests: tests/net/test_signal.py */
#ifndef NB_RUN_SIGSERVER_H
#define NB_RUN_SIGSERVER_H

#include "base/addr.h"

#define RUN_SIGSERVER_LEGACY_PORT 10000	/* where old agents look for signal */

struct run_sigserver_config {
	uint16_t port;			/* 0: 443 with a certificate, 80 without */
	const char *listen;		/* "ADDR:PORT" instead; NULL: every address at port */
	bool no_legacy;			/* do not open the legacy port as well */
	const char *cert_file, *key_file;	/* both or none */
	uint16_t metrics_port;		/* on loopback; 0: none */
	const char *user;		/* become this user once the ports are open; NULL: stay */
};

/* Serve until SIGINT or SIGTERM; SIGHUP reads the certificate again. Failures are logged in one line.
 * Returns an exit status. */
int run_sigserver_main(const struct run_sigserver_config *cfg);

#endif
