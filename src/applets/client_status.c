/* client_status.c - `netbird status`: options, filters, checks; what is printed comes from
 * client/status.h. Source: spec/client.md 1.5. Tests: tests/net/test_client_cli.py */
#include "applets/client_cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/version.h"
#include "client/status.h"
#include "run/user.h"

static struct {
	bool detail, json, yaml, ipv4, ipv6, why;
	const char *status, *type, *check;
	struct nb_opt_list ips, names;
} flags = { .status = "", .type = "", .check = "" };

const struct nb_opt cli_status_opts[] = {
	{ "check", 'C', NB_OPT_TEXT, &flags.check, NULL, "string",
	  "run a health check and exit with code 0 on success, 1 on failure (live|ready|startup)", 0, 0 },
	{ "detail", 'd', NB_OPT_BOOL, &flags.detail, NULL, NULL, "detailed status for people", 0, 0 },
	{ "filter-by-connection-type", 'T', NB_OPT_TEXT, &flags.type, NULL, "string", "only peers connected P2P or Relayed",
	  0, 0 },
	{ "filter-by-ips", 'I', NB_OPT_LIST, &flags.ips, NULL, "strings", "only peers with these addresses", 0, 0 },
	{ "filter-by-names", 'N', NB_OPT_LIST, &flags.names, NULL, "strings", "only peers whose names begin so", 0, 0 },
	{ "filter-by-status", 'S', NB_OPT_TEXT, &flags.status, NULL, "string", "only idle, connecting or connected peers", 0,
	  0 },
	{ "ipv4", '4', NB_OPT_BOOL, &flags.ipv4, NULL, NULL, "only the NetBird IPv4 address of this peer", 0, 0 },
	{ "ipv6", '6', NB_OPT_BOOL, &flags.ipv6, NULL, NULL, "only the NetBird IPv6 address of this peer", 0, 0 },
	{ "json", 'j', NB_OPT_BOOL, &flags.json, NULL, NULL, "detailed status as JSON", 0, 0 },
	{ "why", 0, NB_OPT_BOOL, &flags.why, NULL, NULL, "why each peer is direct, relayed or not connected, and what was tried",
	  0, 0 },
	{ "yaml", 'y', NB_OPT_BOOL, &flags.yaml, NULL, NULL, "detailed status as YAML", 0, 0 },
	{ 0 },
};

static int one_format_only(void)
{
	static const struct { const char *name; const bool *set; } rows[] = {
		{ "detail", &flags.detail }, { "ipv4", &flags.ipv4 }, { "ipv6", &flags.ipv6 }, { "json", &flags.json },
		{ "yaml", &flags.yaml },
	};
	char set[64] = "";
	int n = 0;

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		if (!*rows[i].set)
			continue;
		snprintf(set + strlen(set), sizeof set - strlen(set), "%s%s", n++ ? " " : "", rows[i].name);
	}
	if (n < 2)
		return 0;
	return cli_error("if any flags in the group [detail json yaml ipv4 ipv6] are set none of the others can be; [%s] "
			 "were all set", set);
}

static void active_profile(struct run_rpc *rpc, char *out, size_t cap)
{
	Daemon__GetActiveProfileRequest q = DAEMON__GET_ACTIVE_PROFILE_REQUEST__INIT;
	Daemon__GetActiveProfileResponse *a;
	struct run_rpc_result r;
	struct nb_arena mem;

	out[0] = '\0';
	nb_arena_init(&mem, 1 << 20);
	if (!CLI_CALL(rpc, "GetActiveProfile", &q, get_active_profile_response, &a, &mem, 10, &r) && a->profilename)
		snprintf(out, cap, "%s", a->profilename);
	nb_arena_fini(&mem);
}

static int print_status(struct run_rpc *rpc, const Daemon__StatusResponse *a, const struct client_status_filter *f)
{
	const Daemon__LocalPeerState *local = a->fullstatus ? a->fullstatus->localpeerstate : NULL;
	struct client_status_view v = { .answer = a, .cli_version = NB_COMPAT, .now = run_user_clock(),
					.utc_offset = run_user_utc_offset, .filter = *f };
	bool filtered = *flags.status || *flags.type || flags.ips.n || flags.names.n;
	char profile[600];
	struct nb_buf out;
	int err;

	nb_buf_init(&out, 64 << 20);
	if (!flags.json && !flags.yaml && client_status_login_hint(&out, a)) {
		err = out.err;
	} else if (flags.ipv4) {
		err = client_status_ip(&out, local ? local->ip : NULL);
	} else if (flags.ipv6) {
		err = client_status_ip(&out, local ? local->ipv6 : NULL);
	} else {
		active_profile(rpc, profile, sizeof profile);
		v.profile = profile;
		v.why = flags.why;
		err = flags.json ? client_status_json(&out, &v) : flags.yaml ? client_status_yaml(&out, &v) :
		      flags.why ? client_status_why(&out, &v) :
		      flags.detail || filtered ? client_status_detail(&out, &v) : client_status_summary(&out, &v);
	}
	if (!err)
		fwrite(out.p, 1, out.n, stdout);
	nb_buf_fini(&out);
	return err ? cli_error("status: %s", nb_strerror(err)) : 0;
}

static int ask(struct run_rpc *rpc, const struct client_status_filter *f)
{
	Daemon__StatusRequest q = DAEMON__STATUS_REQUEST__INIT;
	bool quick = *flags.check && strcasecmp(flags.check, "startup");
	Daemon__StatusResponse *a;
	struct run_rpc_result r;
	struct nb_arena mem;
	char why[160] = "";
	int status;

	q.has_getfullpeerstatus = q.getfullpeerstatus = !quick;
	nb_arena_init(&mem, 256 << 20);
	if (CLI_CALL(rpc, "Status", &q, status_response, &a, &mem, 0, &r))
		status = cli_error("status failed: %s", r.message);
	else if (*flags.check)
		status = client_status_check(a, flags.check, why, sizeof why) ? cli_error("%s", why) : 0;
	else
		status = print_status(rpc, a, f);
	nb_arena_fini(&mem);
	return status;
}

int cli_status(int argc, const char **argv)
{
	struct client_status_filter f = { flags.status, flags.type, flags.ips.v, flags.ips.n, flags.names.v, flags.names.n };
	Daemon__StatusResponse none = DAEMON__STATUS_RESPONSE__INIT;
	char why[256];
	struct run_rpc *rpc;
	int status = one_format_only();

	(void)argc, (void)argv;
	if (status)
		return status;
	if (client_status_filter_check(&f, why, sizeof why))
		return cli_error("%s", why);
	if (*flags.check && client_status_check(&none, flags.check, why, sizeof why) == NB_E_ARG)
		return cli_error("%s", why);
	rpc = cli_dial();
	status = rpc ? ask(rpc, &f) : EXIT_FAILURE;
	run_rpc_close(rpc);
	nb_opt_list_clear(&flags.ips);
	nb_opt_list_clear(&flags.names);
	return status;
}
