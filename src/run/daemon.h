/* daemon.h - the agent as a service: the control socket of client/daemon.h, its files and the machinery
 * of run/agent.h on one loop, until SIGINT or SIGTERM. Also the same machinery in the foreground, without a
 * socket. Source: spec/client.md 1.2 (-F), 2.1, 2.3. Tests: tests/net/test_client_cli.py */
#ifndef NB_RUN_DAEMON_H
#define NB_RUN_DAEMON_H

#include "client/daemon.h"

struct run_daemon_options {
	const char *addr;		/* unix:///path or tcp://address:port; unused in the foreground */
	const char *state_dir;		/* /var/lib/netbird or NB_STATE_DIR */
	const char *profile;		/* path of the built-in profile, NULL: STATE_DIR/default.json */
	const char *log_file;		/* told by GetConfig; NULL: none */
	const char *ca_file;		/* NULL: found as other programs do */
	bool disable_profiles, disable_update_settings, disable_networks;
};

/* Serve until a signal. Returns the exit status; failures are printed as "Error: ..." lines. */
int run_daemon(const struct run_daemon_options *o);

/* Log in (setup_key may be "") and, unless login_only, keep the tunnel up until a signal. set holds the
 * settings given on the command line, for the active profile. Prints like run_daemon. */
int run_foreground(const struct run_daemon_options *o, const Daemon__SetConfigRequest *set, const char *setup_key,
		   const char *hostname, bool login_only);

#endif
