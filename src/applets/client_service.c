/* client_service.c - `netbird service ...`: the daemon itself, and its installation as a service of the
 * machine (run/service.h). Source: spec/client.md 1.9. Tests: tests/net/test_client_cli.py,
 * tests/unit/run_service_test.c */
#include "applets/client_cli.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "run/daemon.h"
#include "run/service.h"
#include "run/user.h"

static struct {
	bool disable_profiles, disable_update_settings, disable_networks, capture, json;
	bool has_disable_profiles, has_disable_update_settings, has_disable_networks;
	const char *json_socket;
	struct nb_opt_list env;
} flags = { .json_socket = "" };

const struct nb_opt cli_service_opts[] = {
	{ "disable-networks", 0, NB_OPT_BOOL, &flags.disable_networks, &flags.has_disable_networks, NULL,
	  "lock the choice of networks", 0, 0 },
	{ "disable-profiles", 0, NB_OPT_BOOL, &flags.disable_profiles, &flags.has_disable_profiles, NULL,
	  "lock the profiles", 0, 0 },
	{ "disable-update-settings", 0, NB_OPT_BOOL, &flags.disable_update_settings, &flags.has_disable_update_settings,
	  NULL, "lock the settings", 0, 0 },
	{ "enable-capture", 0, NB_OPT_BOOL, &flags.capture, NULL, NULL, "packet capture (not supported by nestbox)", 0, 0 },
	{ "enable-json-socket", 0, NB_OPT_BOOL, &flags.json, NULL, NULL, "HTTP/JSON socket (not supported by nestbox)", 0, 0 },
	{ "json-socket", 0, NB_OPT_TEXT, &flags.json_socket, NULL, "string", "its address (not supported by nestbox)", 0, 0 },
	{ 0 },
};

const struct nb_opt cli_service_install_opts[] = {
	{ "service-env", 0, NB_OPT_LIST, &flags.env, NULL, "strings",
	  "environment of the service, KEY=VALUE; added to what was saved, \"\" clears it", 0, 0 },
	{ 0 },
};

static const char run_about[] =
	"runs NetBird as service\n\n"
	"Environment:\n"
	"  NB_LAZY_CONN=on|off                          connect peers when they are used, or keep all connected, whatever\n"
	"                                               management says\n"
	"  NB_LAZY_CONN_INACTIVITY_THRESHOLD=TIME       without data a connection is kept that long, 1s or more (default 15m)\n"
	"  NB_TUNNEL_OFFLOADS=LIST                      what to use of the system: all (the default), none, or some of checksum,\n"
	"                                               tso, uso, segment, gro with commas, where one of them is broken\n"
	"  NB_TUNNEL_THREADS=N                          threads that move packets, 1 to 4 (default 1 on up to three processors,\n"
	"                                               then half as many as there are)\n"
	"  NB_CONNTRACK_TCP_MAX, _UDP_MAX, _ICMP_MAX    connections each thread remembers (65536, 16384, 2048)\n"
	"  NB_CONNTRACK_TCP_FIN_WAIT_TIMEOUT, NB_CONNTRACK_TCP_CLOSE_WAIT_TIMEOUT, NB_CONNTRACK_TCP_LAST_ACK_TIMEOUT\n"
	"                                               how long closing connections are (60s, 60s, 30s)\n"
	"  NB_DISABLE_CONNTRACK=true                    access rules decide about every packet, answers to connections from\n"
	"                                               here included";

static int not_here(void)
{
	if (flags.capture)
		return cli_error("not supported by nestbox: --enable-capture; use tcpdump -i wt0");
	if (flags.json || *flags.json_socket)
		return cli_error("not supported by nestbox: the HTTP/JSON socket; use netbird status --json");
	return 0;
}

/* The log goes to the first file that is named; the word console means standard error. */
static int open_log(const char **file)
{
	const char *path = CLI_DEFAULT_LOG;
	char why[400];

	*file = NULL;
	if (cli_root.log_files.set) {
		path = NULL;
		for (size_t i = 0; i < cli_root.log_files.n; i++) {
			if (!strcmp(cli_root.log_files.v[i], "syslog"))
				return cli_error("not supported by nestbox: --log-file syslog; use console, which systemd and procd "
						 "collect");
			if (strcmp(cli_root.log_files.v[i], "console") && *cli_root.log_files.v[i] && !path)
				path = cli_root.log_files.v[i];
		}
	}
	if (!path)
		return 0;
	*file = path;
	return run_user_log_to(path, why, sizeof why) ? cli_error("%s", why) : 0;
}

static int service_run(int argc, const char **argv)
{
	struct run_daemon_options o = {
		.addr = cli_root.daemon_addr, .state_dir = cli_state_dir(),
		.profile = cli_root.has_config ? cli_root.config : NULL,
		.ca_file = cli_root.has_ca_file ? cli_root.ca_file : NULL, .disable_profiles = flags.disable_profiles,
		.disable_update_settings = flags.disable_update_settings, .disable_networks = flags.disable_networks,
	};
	enum nb_log_level level;
	int status = not_here();

	(void)argc, (void)argv;
	if (!status)
		status = open_log(&o.log_file);
	if (status)
		return status;
	if (!nb_log_level_parse(&level, cli_root.log_level))
		nb_log_set_level(level);
	return run_daemon(&o);
}

/* --- installation */

static void adopt(struct run_service *s, bool given, const char *name, const char *value)
{
	if (given)
		run_service_set(s, name, value);
}

/* A service does not start in this directory. */
static int adopt_ca_file(struct run_service *s)
{
	char path[PATH_MAX];

	if (!cli_root.has_ca_file || !*cli_root.ca_file) {
		adopt(s, cli_root.has_ca_file, "ca_file", "");
		return 0;
	}
	if (!realpath(cli_root.ca_file, path))
		return cli_error("--ca-file %s: there is no such file", cli_root.ca_file);
	run_service_set(s, "ca_file", path);
	return 0;
}

/* What was saved at the last installation, with what is given now on top. */
static int describe(struct run_service *s)
{
	char why[300];
	int status = not_here();

	if (status)
		return status;
	if (run_service_init(s, cli_root.service, cli_state_dir(), why, sizeof why)) {
		cli_error("%s", why);
		return EXIT_FAILURE;
	}
	if (adopt_ca_file(s))
		return EXIT_FAILURE;
	adopt(s, cli_root.has_log_level, "log_level", cli_root.log_level);
	adopt(s, cli_root.has_daemon_addr, "daemon_addr", cli_root.daemon_addr);
	adopt(s, cli_root.has_management_url, "management_url", cli_root.management_url);
	adopt(s, cli_root.has_config, "config_path", cli_root.config);
	adopt(s, flags.has_disable_profiles, "disable_profiles", flags.disable_profiles ? "true" : "");
	adopt(s, flags.has_disable_update_settings, "disable_update_settings", flags.disable_update_settings ? "true" : "");
	adopt(s, flags.has_disable_networks, "disable_networks", flags.disable_networks ? "true" : "");
	if (cli_root.has_log_file)
		run_service_set_list(s, "log_files", cli_root.log_files.v, cli_root.log_files.n);
	if (flags.env.set && run_service_set_env(s, flags.env.v, flags.env.n, why, sizeof why))
		return cli_error("%s", why);
	return 0;
}

static int finish(struct run_service *s, int err, const char *what, const char *done)
{
	int status = 0;

	if (err)
		status = cli_error("%s service: %s", what, s->why);
	else
		puts(done);
	run_service_fini(s);
	return status;
}

static int install(int argc, const char **argv)
{
	struct run_service s;
	int status = describe(&s);

	(void)argc, (void)argv;
	return status ? status : finish(&s, run_service_install(&s), "install", "NetBird service has been installed");
}

static int uninstall(int argc, const char **argv)
{
	struct run_service s;
	int status = describe(&s);

	(void)argc, (void)argv;
	return status ? status : finish(&s, run_service_uninstall(&s), "uninstall", "NetBird service has been uninstalled");
}

static int reconfigure(int argc, const char **argv)
{
	struct run_service s;
	enum run_service_state was;
	int status = describe(&s), err;

	(void)argc, (void)argv;
	if (status)
		return status;
	was = run_service_state(&s);
	err = run_service_uninstall(&s);
	if (!err)
		err = run_service_install(&s);
	if (!err && was == RUN_SERVICE_RUNNING)
		err = run_service_action(&s, "start");
	return finish(&s, err, "reconfigure", was == RUN_SERVICE_RUNNING ?
		      "NetBird service has been reconfigured and started" : "NetBird service has been reconfigured");
}

static int act(const char *action, const char *done)
{
	struct run_service s;
	int status = describe(&s);

	return status ? status : finish(&s, run_service_action(&s, action), action, done);
}

static int start(int argc, const char **argv)
{
	(void)argc, (void)argv;
	return act("start", "NetBird service has been started");
}

static int stop(int argc, const char **argv)
{
	(void)argc, (void)argv;
	return act("stop", "NetBird service has been stopped");
}

static int restart(int argc, const char **argv)
{
	(void)argc, (void)argv;
	return act("restart", "NetBird service has been restarted");
}

static int state(int argc, const char **argv)
{
	static const char *const words[] = { "Stopped", "Running", "Unknown" };
	struct run_service s;
	int status = describe(&s);

	(void)argc, (void)argv;
	if (status)
		return status;
	if (!run_service_installed(&s)) {
		run_service_fini(&s);
		return cli_error("get service status: the service is not installed; run netbird service install");
	}
	printf("NetBird service status: %s\n", words[run_service_state(&s)]);
	run_service_fini(&s);
	return 0;
}

static int reset_params(int argc, const char **argv)
{
	struct run_service s;
	int status = describe(&s);

	(void)argc, (void)argv;
	if (status)
		return status;
	fprintf(stderr, run_service_forget(&s) ? "No saved service parameters found\n" :
		"Service parameters have been reset\n");
	run_service_fini(&s);
	return 0;
}

const struct cli_command cli_service_commands[] = {
	{ "install", "", "[flags]", "Install NetBird service", NULL, cli_service_install_opts, false, -1, install, NULL, NULL },
	{ "reconfigure", "", "[flags]", "reconfigures NetBird service with new settings", NULL, cli_service_install_opts, false,
	  -1, reconfigure, NULL, NULL },
	{ "reset-params", "", "[flags]", "Remove saved service install parameters", NULL, NULL, false, -1, reset_params, NULL,
	  NULL },
	{ "restart", "", "[flags]", "restarts NetBird service", NULL, NULL, false, -1, restart, NULL, NULL },
	{ "run", "", "[flags]", "runs NetBird as service", run_about, NULL, false, -1, service_run, NULL, NULL },
	{ "start", "", "[flags]", "starts NetBird service", NULL, NULL, false, -1, start, NULL, NULL },
	{ "status", "", "[flags]", "shows NetBird service status", NULL, NULL, false, -1, state, NULL, NULL },
	{ "stop", "", "[flags]", "stops NetBird service", NULL, NULL, false, -1, stop, NULL, NULL },
	{ "uninstall", "", "[flags]", "uninstalls NetBird service from system", NULL, NULL, false, -1, uninstall, NULL, NULL },
	{ 0 },
};
