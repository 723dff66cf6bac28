/* client_profile.c - `netbird profile ...` and `netbird debug ...`.
 * Source: spec/client.md 1.6, 1.7. Tests: tests/net/test_client_cli.py */
#include "applets/client_cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/daemon.h"
#include "run/user.h"

static bool show_id;

const struct nb_opt cli_profile_list_opts[] = {
	{ "show-id", 0, NB_OPT_BOOL, &show_id, NULL, NULL, "show the profile ID column", 0, 0 },
	{ 0 },
};

static char *loose(const char *s)
{
	return (char *)(uintptr_t)s;
}

/* Columns as people count them: UTF-8 sequences, not bytes. */
static size_t width(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80 && (unsigned char)*s >= 0x20 && *s != 0x7f;
	return n;
}

static void print_cell(const char *s, size_t column)
{
	cli_print_clean(s);
	printf("%*s", (int)(column - width(s) + 2), "");
}

static void print_list(const Daemon__ListProfilesResponse *a)
{
	size_t id_width = width("ID"), name_width = width("NAME");
	char id[16];

	for (size_t i = 0; i < a->n_profiles; i++) {
		cli_short_id(id, a->profiles[i]->id ? a->profiles[i]->id : "");
		id_width = width(id) > id_width ? width(id) : id_width;
		if (a->profiles[i]->name && width(a->profiles[i]->name) > name_width)
			name_width = width(a->profiles[i]->name);
	}
	if (show_id)
		print_cell("ID", id_width);
	print_cell("NAME", name_width);
	puts("ACTIVE");
	for (size_t i = 0; i < a->n_profiles; i++) {
		if (show_id) {
			cli_short_id(id, a->profiles[i]->id ? a->profiles[i]->id : "");
			print_cell(id, id_width);
		}
		print_cell(a->profiles[i]->name ? a->profiles[i]->name : "", name_width);
		puts(a->profiles[i]->is_active ? "\xe2\x9c\x93" : "");
	}
}

static int profile_list(int argc, const char **argv)
{
	Daemon__ListProfilesRequest q = DAEMON__LIST_PROFILES_REQUEST__INIT;
	struct run_rpc *rpc = cli_dial();
	Daemon__ListProfilesResponse *a;
	struct run_rpc_result r;
	struct nb_arena mem;
	char user[256];

	(void)argc, (void)argv;
	if (!rpc)
		return EXIT_FAILURE;
	run_user_name(user, sizeof user);
	q.username = user;
	nb_arena_init(&mem, 8 << 20);
	if (!CLI_CALL(rpc, "ListProfiles", &q, list_profiles_response, &a, &mem, 10, &r))
		print_list(a);
	nb_arena_fini(&mem);
	run_rpc_close(rpc);
	return r.status ? cli_call_error("list profiles", &r) : 0;
}

/* How many profiles have this name; more than one gets a warning. */
static void warn_duplicate(struct run_rpc *rpc, char *user, const char *name)
{
	Daemon__ListProfilesRequest q = DAEMON__LIST_PROFILES_REQUEST__INIT;
	Daemon__ListProfilesResponse *a;
	struct run_rpc_result r;
	struct nb_arena mem;
	size_t n = 0;

	q.username = user;
	nb_arena_init(&mem, 8 << 20);
	if (!CLI_CALL(rpc, "ListProfiles", &q, list_profiles_response, &a, &mem, 10, &r))
		for (size_t i = 0; i < a->n_profiles; i++)
			n += a->profiles[i]->name && !strcmp(a->profiles[i]->name, name);
	nb_arena_fini(&mem);
	if (n > 1)
		printf("Warning: %zu other profile(s) already use the name \"%s\".\n"
		       "Use `netbird profile list --show-id` to disambiguate later.\n", n - 1, name);
}

static int profile_add(int argc, const char **argv)
{
	Daemon__AddProfileRequest q = DAEMON__ADD_PROFILE_REQUEST__INIT;
	struct run_rpc *rpc = cli_dial();
	Daemon__AddProfileResponse *a;
	struct run_rpc_result r;
	struct nb_arena mem;
	char user[256], id[16] = "";

	(void)argc;
	if (!rpc)
		return EXIT_FAILURE;
	run_user_name(user, sizeof user);
	q.username = user;
	q.profilename = loose(argv[0]);
	nb_arena_init(&mem, 1 << 20);
	if (!CLI_CALL(rpc, "AddProfile", &q, add_profile_response, &a, &mem, 10, &r)) {
		warn_duplicate(rpc, user, argv[0]);
		cli_short_id(id, a->id ? a->id : "");
		printf("Profile added: %s  ", id);
		cli_print_clean(argv[0]);
		putchar('\n');
	}
	nb_arena_fini(&mem);
	run_rpc_close(rpc);
	return r.status ? cli_call_error("add profile failed", &r) : 0;
}

static int handle_error(const char *context, const char *handle, const struct run_rpc_result *r)
{
	if (r->status == GRPC_INVALID_ARGUMENT && strstr(r->message, "ambiguous"))
		return cli_error("%s\nRun `netbird profile list --show-id` to see IDs, then select by ID prefix:\n"
				 "  netbird profile select|remove <id-prefix>", r->message);
	if (r->status == GRPC_NOT_FOUND)
		return cli_error("profile \"%s\" not found", handle);
	return cli_call_error(context, r);
}

static int profile_rename(int argc, const char **argv)
{
	Daemon__RenameProfileRequest q = DAEMON__RENAME_PROFILE_REQUEST__INIT;
	struct run_rpc *rpc = cli_dial();
	Daemon__RenameProfileResponse *a;
	struct run_rpc_result r;
	struct nb_arena mem;
	char user[256];

	(void)argc;
	if (!rpc)
		return EXIT_FAILURE;
	run_user_name(user, sizeof user);
	q.username = user;
	q.handle = loose(argv[0]);
	q.newprofilename = loose(argv[1]);
	nb_arena_init(&mem, 1 << 20);
	if (!CLI_CALL(rpc, "RenameProfile", &q, rename_profile_response, &a, &mem, 10, &r)) {
		warn_duplicate(rpc, user, argv[1]);
		printf("Profile renamed from ");
		cli_print_clean(a->oldprofilename ? a->oldprofilename : "");
		printf(" to ");
		cli_print_clean(argv[1]);
		putchar('\n');
	}
	nb_arena_fini(&mem);
	run_rpc_close(rpc);
	return r.status ? handle_error("rename profile", argv[0], &r) : 0;
}

static int profile_remove(int argc, const char **argv)
{
	Daemon__RemoveProfileRequest q = DAEMON__REMOVE_PROFILE_REQUEST__INIT;
	struct run_rpc *rpc = cli_dial();
	Daemon__RemoveProfileResponse *a;
	struct run_rpc_result r;
	struct nb_arena mem;
	char user[256];

	(void)argc;
	if (!rpc)
		return EXIT_FAILURE;
	run_user_name(user, sizeof user);
	q.username = user;
	q.profilename = loose(argv[0]);
	nb_arena_init(&mem, 1 << 20);
	if (!CLI_CALL(rpc, "RemoveProfile", &q, remove_profile_response, &a, &mem, 0, &r))
		printf("Profile removed: %s\n", a->id ? a->id : "");
	nb_arena_fini(&mem);
	run_rpc_close(rpc);
	return r.status ? handle_error("remove profile", argv[0], &r) : 0;
}

/* After a switch a running tunnel belongs to the old profile: it goes down. */
static int down_if_connected(struct run_rpc *rpc)
{
	Daemon__StatusRequest q = DAEMON__STATUS_REQUEST__INIT;
	Daemon__DownRequest d = DAEMON__DOWN_REQUEST__INIT;
	Daemon__StatusResponse *a;
	Daemon__DownResponse *b;
	struct run_rpc_result r;
	struct nb_arena mem;
	int status = 0;

	nb_arena_init(&mem, 1 << 20);
	if (CLI_CALL(rpc, "Status", &q, status_response, &a, &mem, 7, &r))
		status = cli_call_error("get service status", &r);
	else if (a->status && !strcmp(a->status, "Connected") && CLI_CALL(rpc, "Down", &d, down_response, &b, &mem, 20, &r))
		status = cli_call_error("call service down method", &r);
	nb_arena_fini(&mem);
	return status;
}

static int profile_select(int argc, const char **argv)
{
	char user[256], id[CLIENT_PROFILE_ID_LEN], short_id[16];
	struct run_rpc *rpc = cli_dial();
	int status;

	(void)argc;
	if (!rpc)
		return EXIT_FAILURE;
	run_user_name(user, sizeof user);
	status = cli_switch_profile(rpc, argv[0], user, false, id);
	if (!status)
		status = down_if_connected(rpc);
	if (!status) {
		cli_short_id(short_id, id);
		printf("Profile switched to: %s\n", short_id);
	}
	run_rpc_close(rpc);
	return status;
}

const struct cli_command cli_profile_commands[] = {
	{ "add", "", "<profile_name> [flags]", "Add a new profile", NULL, NULL, false, 1, profile_add, NULL, NULL },
	{ "list", "ls", "[flags]", "List all profiles", NULL, cli_profile_list_opts, false, -1, profile_list, NULL, NULL },
	{ "remove", "rm", "<profile> [flags]", "Remove a profile", "Remove a profile by name, ID, or unique ID prefix.", NULL,
	  false, 1, profile_remove, NULL, NULL },
	{ "rename", "", "<profile> <new_profile_name> [flags]", "Renames an existing profile", NULL, NULL, false, 2,
	  profile_rename, NULL, NULL },
	{ "select", "", "<profile> [flags]", "Select a profile",
	  "Make the specified profile active. Accepts a name, ID, or unique ID prefix.", NULL, false, 1, profile_select, NULL,
	  NULL },
	{ 0 },
};

/* --- debug */

static int log_level(int argc, const char **argv)
{
	static const char *const words[] = { "panic", "fatal", "error", "warn", "info", "debug", "trace" };
	Daemon__SetLogLevelRequest q = DAEMON__SET_LOG_LEVEL_REQUEST__INIT;
	Daemon__SetLogLevelResponse *a;
	struct run_rpc_result r;
	struct run_rpc *rpc;
	struct nb_arena mem;

	(void)argc;
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		if (!strcasecmp(argv[0], words[i])) {
			q.has_level = true;
			q.level = (Daemon__LogLevel)(DAEMON__LOG_LEVEL__PANIC + i);
		}
	}
	if (!q.has_level)
		return cli_error("unknown log level: %s. Available levels are: panic, fatal, error, warn, info, debug, trace\n",
				 argv[0]);
	rpc = cli_dial();
	if (!rpc)
		return EXIT_FAILURE;
	nb_arena_init(&mem, 1 << 20);
	CLI_CALL(rpc, "SetLogLevel", &q, set_log_level_response, &a, &mem, 10, &r);
	nb_arena_fini(&mem);
	run_rpc_close(rpc);
	if (r.status)
		return cli_error("failed to set log level: %s", r.message);
	printf("Log level set successfully to %s\n", argv[0]);
	return 0;
}

static void row(const char *name, const char *value, bool quoted)
{
	printf("  \"%s\":  %s%s%s,\n", name, quoted ? "\"" : "", value ? value : "", quoted ? "\"" : "");
}

static void number_row(const char *name, long long v, bool quoted)
{
	char text[24];

	snprintf(text, sizeof text, "%lld", v);
	row(name, text, quoted);
}

static void flag_row(const char *name, bool v)
{
	row(name, v ? "true" : "false", false);
}

/* The daemon's answer in protobuf's JSON, where 64-bit numbers are strings. */
static void print_config(const Daemon__GetConfigResponse *c)
{
	puts("{");
	row("managementUrl", c->managementurl, true);
	row("configFile", c->configfile, true);
	row("logFile", c->logfile, true);
	row("preSharedKey", c->presharedkey, true);
	row("adminURL", c->adminurl, true);
	row("interfaceName", c->interfacename, true);
	number_row("wireguardPort", c->wireguardport, true);
	number_row("mtu", c->mtu, true);
	flag_row("disableAutoConnect", c->disableautoconnect);
	flag_row("serverSSHAllowed", c->serversshallowed);
	flag_row("rosenpassEnabled", c->rosenpassenabled);
	flag_row("rosenpassPermissive", c->rosenpasspermissive);
	flag_row("disableNotifications", c->disable_notifications);
	flag_row("lazyConnectionEnabled", c->lazyconnectionenabled);
	flag_row("blockInbound", c->block_inbound);
	flag_row("networkMonitor", c->networkmonitor);
	flag_row("disableDns", c->disable_dns);
	flag_row("disableClientRoutes", c->disable_client_routes);
	flag_row("disableServerRoutes", c->disable_server_routes);
	flag_row("blockLanAccess", c->block_lan_access);
	flag_row("enableSSHRoot", c->enablesshroot);
	flag_row("enableSSHSFTP", c->enablesshsftp);
	flag_row("enableSSHLocalPortForwarding", c->enablesshlocalportforwarding);
	flag_row("enableSSHRemotePortForwarding", c->enablesshremoteportforwarding);
	flag_row("disableSSHAuth", c->disablesshauth);
	number_row("sshJWTCacheTTL", c->sshjwtcachettl, false);
	flag_row("disableIpv6", c->disable_ipv6);
	puts("  \"mDMManagedFields\":  []\n}");
}

static int debug_config(int argc, const char **argv)
{
	Daemon__GetConfigRequest q = DAEMON__GET_CONFIG_REQUEST__INIT;
	char user[256], profile[CLIENT_PROFILE_ID_LEN];
	struct run_rpc *rpc = cli_dial();
	Daemon__GetConfigResponse *a;
	struct run_rpc_result r;
	struct nb_arena mem;

	(void)argc, (void)argv;
	if (!rpc)
		return EXIT_FAILURE;
	run_user_name(user, sizeof user);
	run_user_profile(profile, sizeof profile);
	q.profilename = profile;
	q.username = user;
	nb_arena_init(&mem, 1 << 20);
	if (!CLI_CALL(rpc, "GetConfig", &q, get_config_response, &a, &mem, 10, &r))
		print_config(a);
	nb_arena_fini(&mem);
	run_rpc_close(rpc);
	return r.status ? cli_call_error("get config", &r) : 0;
}

static const struct cli_command log_commands[] = {
	{ "level", "", "<level> [flags]", "Set the logging level for this session",
	  "Levels: panic, fatal, error, warn, info, debug, trace.", NULL, false, 1, log_level, NULL, NULL },
	{ 0 },
};

const struct cli_command cli_debug_commands[] = {
	{ "bundle", "", "", "Create a debug bundle", NULL, NULL, false, -1, NULL, NULL,
	  "debug bundles; use netbird status -d, netbird debug config and the log file" },
	{ "capture", "", "", "Capture packets", NULL, NULL, false, -1, NULL, NULL,
	  "packet capture; use tcpdump -i wt0" },
	{ "config", "", "[flags]", "Show the effective configuration", NULL, NULL, false, -1, debug_config, NULL, NULL },
	{ "for", "", "", "Run debug logs for a duration and make a bundle", NULL, NULL, false, -1, NULL, NULL,
	  "debug bundles; use netbird debug log level trace and the log file" },
	{ "log", "", "", "Manage logging for the NetBird daemon", NULL, NULL, false, -1, NULL, log_commands, NULL },
	{ "paths", "", "<peer> [flags]", "Show every way to a peer and what became of it",
	  "The peer is given by name, address or key. Shows why it is direct, relayed or not connected, what the NATs at both\n"
	  "ends do, each candidate pair and how it ended, the last changes of path, and the state of relays, STUN and TURN.",
	  cli_paths_opts, false, 1, cli_debug_paths, NULL, NULL },
	{ "persistence", "", "", "Keep the last sync message", NULL, NULL, false, -1, NULL, NULL,
	  "keeping the sync message; use netbird status -d" },
	{ "trace", "", "", "Trace a packet through the firewall", NULL, NULL, false, -1, NULL, NULL,
	  "packet traces; use ping and tcpdump -i wt0" },
	{ 0 },
};
