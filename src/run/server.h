/* run/server.h - the servers on real sockets: management, signal and relay, alone or together in one process.
 * One loop serves every TCP port (gRPC, REST, dashboard, signal); the store and the relay have their own threads.
 * What is decided is in src/mgmt, src/signal and src/relay. Tests: tests/net/test_management.py */
#ifndef NB_RUN_SERVER_H
#define NB_RUN_SERVER_H

#include "mgmt/mgmt.h"
#include "relay/relay.h"

#define RUN_SERVER_LISTEN_MAX 8

struct run_server_config {
	const char *name;		/* for messages and the lock file: "netbird-server" */
	bool management, signal;	/* what to serve */
	bool relay;			/* STUN and TURN */
	bool relay_protocol;		/* NetBird's, at /relay on the TCP port */
	const char *data_dir;		/* management */
	struct nb_endpoint listen[RUN_SERVER_LISTEN_MAX];	/* port 0: 443 with a certificate, else 8080 */
	size_t n_listen;		/* 0: every address */
	const char *cert_file, *key_file;	/* NULL: no TLS */
	struct nb_endpoint metrics;	/* port 0: not served */
	const char *user;		/* become this user; NULL: the owner of data_dir */
	/* How clients reach us: http[s]://host[:port]. NULL: made from the first address; told in the log. */
	const char *external_url;
	/* What peers are told. Empty parts are filled in from external_url and what runs here. Randomness, clock and
	 * wake-ups are set by the driver. */
	struct mgmt_config mgmt;
	bool api_limit;			/* limit the REST requests of each token */
	uint32_t api_rpm, api_burst;
	struct relay_config relay_config;	/* empty secrets are made from the data directory's */
};

void run_server_config_default(struct run_server_config *c);
/* Serve until SIGINT or SIGTERM. SIGHUP reads the certificate again. Failures are told in one line on stderr.
 * Returns an exit status. */
int run_server_main(const struct run_server_config *cfg);

/* Open the data directory without serving (no server may hold it) and make the first account. Prints keys once.
 * Returns an exit status. */
int run_server_setup(const struct run_server_config *cfg, const char *email, const char *name, const char *password,
		     bool create_token);

#endif
