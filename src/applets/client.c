/* client.c - the command `netbird`: root options, the tree of commands, help, and what the commands
 * share. The commands themselves are in client_up.c, client_status.c, client_profile.c and
 * client_service.c. Source: spec/client.md 1.1. Tests: tests/net/test_client_cli.py */
#include "applets/applet.h"

APPLET(client, client_main, "netbird", "the agent: up, down, status, service, profile ...")

#include "applets/client_cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/version.h"
#include "client/daemon.h"
#include "run/user.h"

struct cli_root cli_root = {
	.daemon_addr = CLI_DEFAULT_ADDR, .management_url = "", .admin_url = "", .log_level = "info", .setup_key = "",
	.setup_key_file = "", .preshared_key = "", .hostname = "", .anonymize_level = "",
	.config = CLI_DEFAULT_STATE "/default.json", .service = "netbird",
};

#define ROOT(field) &cli_root.field

static const struct nb_opt root_opts[] = {
	{ "admin-url", 0, NB_OPT_TEXT, ROOT(admin_url), NULL, "string", "Admin Panel URL [http|https]://[host]:[port]", 0, 0 },
	{ "anonymize", 'A', NB_OPT_BOOL, ROOT(anonymize), NULL, NULL, "anonymized output (not supported by nestbox)", 0, 0 },
	{ "anonymize-level", 0, NB_OPT_TEXT, ROOT(anonymize_level), ROOT(has_anonymize_level), "string",
	  "default or strict (not supported by nestbox)", 0, 0 },
	{ "ca-file", 0, NB_OPT_TEXT, ROOT(ca_file), ROOT(has_ca_file), "string",
	  "certificates of the authorities to trust, PEM (service run, service install, -F)", 0, 0 },
	{ "config", 'c', NB_OPT_TEXT, ROOT(config), ROOT(has_config), "string",
	  "profile file of the built-in profile (default \"/var/lib/netbird/default.json\")", 0, 0 },
	{ "daemon-addr", 0, NB_OPT_TEXT, ROOT(daemon_addr), ROOT(has_daemon_addr), "string",
	  "address of the daemon [unix|tcp]://[path|host:port] (default \"" CLI_DEFAULT_ADDR "\")", 0, 0 },
	{ "hostname", 'n', NB_OPT_TEXT, ROOT(hostname), NULL, "string", "name of this device", 0, 0 },
	{ "log-file", 0, NB_OPT_LIST, ROOT(log_files), ROOT(has_log_file), "strings",
	  "where the log goes: a path or the word console (default [" CLI_DEFAULT_LOG "])", 0, 0 },
	{ "log-level", 'l', NB_OPT_TEXT, ROOT(log_level), ROOT(has_log_level), "string",
	  "panic, fatal, error, warn, info, debug or trace (default \"info\")", 0, 0 },
	{ "management-url", 'm', NB_OPT_TEXT, ROOT(management_url), ROOT(has_management_url), "string",
	  "Management Service URL [http|https]://[host]:[port]; nestbox has no built-in one", 0, 0 },
	{ "preshared-key", 0, NB_OPT_TEXT, ROOT(preshared_key), ROOT(has_preshared_key), "string",
	  "WireGuard preshared key, base64: only peers with the same key can communicate", 0, 0 },
	{ "service", 's', NB_OPT_TEXT, ROOT(service), NULL, "string", "system service name (default \"netbird\")", 0, 0 },
	{ "setup-key", 'k', NB_OPT_TEXT, ROOT(setup_key), ROOT(has_setup_key), "string",
	  "setup key from the dashboard, registers this peer", 0, 0 },
	{ "setup-key-file", 0, NB_OPT_TEXT, ROOT(setup_key_file), ROOT(has_setup_key_file), "string",
	  "file with a setup key", 0, 0 },
	{ 0 },
};

/* --- what the commands share */

int cli_error(const char *fmt, ...)
{
	va_list ap;

	fputs("Error: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return EXIT_FAILURE;
}

int cli_call_error(const char *context, const struct run_rpc_result *r)
{
	if (r->summary[0] && r->command[0])
		return cli_error("%s\n\n    %s\n", r->summary, r->command);
	if (r->summary[0])
		return cli_error("%s", r->summary);
	return cli_error("%s: rpc error: code = %s desc = %s", context, grpc_status_name(r->status), r->message);
}

struct run_rpc *cli_dial(void)
{
	struct run_rpc *rpc;
	char why[256];

	if (!run_rpc_open(&rpc, cli_root.daemon_addr, 10 * NB_SEC, why, sizeof why))
		return rpc;
	cli_error("failed to connect to daemon error: %s\n"
		  "If the daemon is not running please run: \nnetbird service install \nnetbird service start\n", why);
	return NULL;
}

int cli_call(struct run_rpc *rpc, const char *name, const void *request, const ProtobufCMessageDescriptor *desc,
	     void **answer, struct nb_arena *a, int seconds, struct run_rpc_result *r)
{
	char path[80];

	snprintf(path, sizeof path, "/daemon.DaemonService/%s", name);
	return run_rpc_call(rpc, path, request, desc, answer, a, seconds * NB_SEC, r);
}

int cli_setup_key(char *out, size_t cap)
{
	char why[256];
	struct nb_buf b;
	int status = 0;

	if (*cli_root.setup_key || !*cli_root.setup_key_file) {
		snprintf(out, cap, "%s", cli_root.setup_key);
		return 0;
	}
	nb_buf_init(&b, 4096);
	if (run_user_read(cli_root.setup_key_file, &b, why, sizeof why))
		status = cli_error("get setup key: failed to read setup key file: %s", why);
	else
		snprintf(out, cap, "%s", nb_buf_cstr(&b));
	nb_buf_fini(&b);
	return status;
}

void cli_short_id(char out[16], const char *id)
{
	snprintf(out, 16, "%.8s", id);
}

void cli_print_clean(const char *s)
{
	for (; *s; s++) {
		const unsigned char c = (unsigned char)*s;

		if (c == 0xc2 && (unsigned char)s[1] >= 0x80 && (unsigned char)s[1] < 0xa0)
			s++;
		else if (c >= 0x20 && c != 0x7f)
			putchar(c);
	}
}

static int switch_once(struct run_rpc *rpc, const char *handle, const char *user, char *id, struct run_rpc_result *r)
{
	Daemon__SwitchProfileRequest q = DAEMON__SWITCH_PROFILE_REQUEST__INIT;
	Daemon__SwitchProfileResponse *a;
	struct nb_arena mem;

	q.profilename = (char *)(uintptr_t)handle;
	q.username = (char *)(uintptr_t)user;
	nb_arena_init(&mem, 1 << 20);
	if (!CLI_CALL(rpc, "SwitchProfile", &q, switch_profile_response, &a, &mem, 10, r))
		snprintf(id, CLIENT_PROFILE_ID_LEN, "%s", a->id ? a->id : "default");
	nb_arena_fini(&mem);
	return r->status;
}

int cli_switch_profile(struct run_rpc *rpc, const char *handle, const char *user, bool create, char *id)
{
	Daemon__AddProfileRequest q = DAEMON__ADD_PROFILE_REQUEST__INIT;
	struct run_rpc_result r;
	struct nb_arena mem;
	char why[256];
	void *added;

	if (switch_once(rpc, handle, user, id, &r) == GRPC_NOT_FOUND && create) {
		q.profilename = (char *)(uintptr_t)handle;
		q.username = (char *)(uintptr_t)user;
		nb_arena_init(&mem, 1 << 20);
		if (!cli_call(rpc, "AddProfile", &q, &daemon__add_profile_response__descriptor, &added, &mem, 10, &r))
			switch_once(rpc, handle, user, id, &r);
		nb_arena_fini(&mem);
	}
	if (r.status == GRPC_INVALID_ARGUMENT && strstr(r.message, "ambiguous"))
		return cli_error("%s\nRun `netbird profile list --show-id` to see IDs, then select by ID prefix:\n"
				 "  netbird profile select|remove <id-prefix>", r.message);
	if (r.status == GRPC_NOT_FOUND)
		return cli_error("profile \"%s\" not found", handle);
	if (r.status)
		return cli_call_error("switch profile: switch profile failed", &r);
	if (run_user_set_profile(id, why, sizeof why))
		return cli_error("%s", why);
	return 0;
}

const char *cli_state_dir(void)
{
	const char *dir = getenv("NB_STATE_DIR");

	return dir && *dir ? dir : CLI_DEFAULT_STATE;
}

bool cli_without_service(void)
{
	if (!cli_root.log_files.n)
		return false;
	for (size_t i = 0; i < cli_root.log_files.n; i++)
		if (strcmp(cli_root.log_files.v[i], "console") && strcmp(cli_root.log_files.v[i], "syslog"))
			return false;
	return true;
}

/* --- the tree */

static int version(int argc, const char **argv)
{
	(void)argc, (void)argv;
	puts(NB_COMPAT);
	return 0;
}

static const struct cli_command commands[] = {
	{ "completion", "", "", "Shell completion", NULL, NULL, false, -1, NULL, NULL,
	  "shell completion; netbird help lists the commands" },
	{ "debug", "", "", "Debugging commands", NULL, NULL, false, -1, NULL, cli_debug_commands, NULL },
	{ "deregister", "logout", "[flags]", "Deregister from the NetBird management service and delete this peer", NULL,
	  cli_logout_opts, false, -1, cli_logout, NULL, NULL },
	{ "down", "", "[flags]", "Disconnect from the NetBird network", NULL, NULL, false, -1, cli_down, NULL, NULL },
	{ "expose", "", "", "Expose a local port via the NetBird reverse proxy", NULL, NULL, false, -1, NULL, NULL,
	  "the reverse proxy; run one of your own on a peer" },
	{ "forwarding", "", "", "List forwarding rules", NULL, NULL, false, -1, NULL, NULL,
	  "ingress forwarding; forward ports on a peer of your own" },
	{ "kubernetes", "", "", "Kubernetes cluster commands", NULL, NULL, false, -1, NULL, NULL,
	  "Kubernetes proxies; use kubectl with the NetBird address of the cluster's peer" },
	{ "login", "", "[flags]", "Log in to the NetBird network", "Log in with a setup key; does not connect.",
	  cli_login_opts, false, -1, cli_login, NULL, NULL },
	{ "networks", "routes", "", "Manage connections to NetBird Networks and Resources", NULL, NULL, false, -1, NULL,
	  NULL, "network routes; use a stock client as routing peer" },
	{ "profile", "", "", "Manage NetBird client profiles", NULL, NULL, false, -1, NULL, cli_profile_commands, NULL },
	{ "service", "", "", "Manage the NetBird daemon service", NULL, cli_service_opts, true, -1, NULL,
	  cli_service_commands, NULL },
	{ "ssh", "", "", "Connect to a NetBird peer via SSH", NULL, NULL, false, -1, NULL, NULL,
	  "SSH of its own; use the ssh command with the peer's NetBird address" },
	{ "state", "", "", "Manage daemon state", NULL, NULL, false, -1, NULL, NULL,
	  "residual state; netbird down leaves nothing behind" },
	{ "status", "", "[flags]", "Display NetBird client status",
	  "Display the current status of the NetBird client, including connection status, peer information, and network "
	  "details.", cli_status_opts, false, -1, cli_status, NULL, NULL },
	{ "up", "", "[flags]", "Connect to the NetBird network",
	  "Connect to the NetBird network. A machine that is new to it needs --management-url and --setup-key once.",
	  cli_up_opts, true, -1, cli_up, NULL, NULL },
	{ "version", "", "[flags]", "Print the NetBird's client application version", NULL, NULL, false, -1, version, NULL,
	  NULL },
	{ 0 },
};

static bool named(const struct cli_command *c, const char *word)
{
	size_t n = strlen(word);

	if (!strcmp(c->name, word))
		return true;
	for (const char *at = c->aliases; n && (at = strstr(at, word)); at += n)
		if ((at == c->aliases || at[-1] == ' ') && (!at[n] || at[n] == ' '))
			return true;
	return false;
}

static const struct cli_command *find(const struct cli_command *list, const char *word)
{
	for (; list && list->name; list++)
		if (named(list, word))
			return list;
	return NULL;
}

/* The commands given so far, "netbird profile". */
struct path {
	char text[128];
	const struct cli_command *c;		/* NULL: the root */
	const struct nb_opt *opts[4];		/* of the groups above */
	bool env[4];
	size_t n;
};

static void print_options(const char *title, const struct nb_opt *t)
{
	char left[80];

	printf("\n%s:\n", title);
	for (; t->name; t++) {
		if (t->letter)
			snprintf(left, sizeof left, "-%c, --%s%s%s", t->letter, t->name, t->what ? " " : "",
				 t->what ? t->what : "");
		else
			snprintf(left, sizeof left, "    --%s%s%s", t->name, t->what ? " " : "", t->what ? t->what : "");
		printf("  %-44s %s\n", left, t->help);
	}
}

static int print_help(const struct path *p)
{
	const struct cli_command *c = p->c, *subs = c ? c->subs : commands;

	if (c)
		printf("%s\n\n", c->about ? c->about : c->brief);
	if (subs) {
		printf("Usage:\n  %s [command]\n\nAvailable Commands:\n", p->text);
		if (!c)
			printf("  %-12s Help about any command\n", "help");
		for (; subs->name; subs++)
			printf("  %-12s %s%s\n", subs->name, subs->brief, subs->instead ? " (not supported)" : "");
	} else {
		printf("Usage:\n  %s %s\n", p->text, c->args);
		if (*c->aliases)
			printf("\nAliases:\n  %s, %s\n", c->name, c->aliases);
	}
	for (size_t i = p->n; i-- > 0;)
		if (p->opts[i])
			print_options(i + 1 == p->n ? "Flags" : "Flags of the group", p->opts[i]);
	print_options(c ? "Global Flags" : "Flags", root_opts);
	if (!c || c->subs)
		printf("\nUse \"%s [command] --help\" for more information about a command.\n", p->text);
	return 0;
}

static int enter(struct path *p, const char *word, struct nb_opts *o)
{
	const struct cli_command *c = find(p->c ? p->c->subs : commands, word);
	size_t n = strlen(p->text);

	if (!c) {
		cli_error("unknown command \"%s\" for \"%s\"\nRun '%s --help' for usage.", word, p->text, p->text);
		return -1;
	}
	snprintf(p->text + n, sizeof p->text - n, " %s", c->name);
	p->c = c;
	if (p->n < sizeof p->opts / sizeof *p->opts) {
		p->opts[p->n] = c->opts;
		p->env[p->n++] = c->env;
	}
	if (c->opts)
		nb_opts_add(o, c->opts);
	return 0;
}

static void skip_bad_variable(const char *why)
{
	nb_info("environment: %s", why);
}

static const char *get_variable(const char *name)
{
	return getenv(name);
}

static void read_environment(const struct path *p)
{
	static const char *const prefixes[] = { "WT_", "NB_" };

	nb_opts_env(root_opts, prefixes, 2, get_variable, skip_bad_variable);
	for (size_t i = 0; i < p->n; i++)
		if (p->opts[i] && p->env[i])
			nb_opts_env(p->opts[i], prefixes, 2, get_variable, skip_bad_variable);
}

static int run_command(const struct path *p, int argc, const char **argv)
{
	enum nb_log_level level;

	if (cli_root.has_setup_key && cli_root.has_setup_key_file)
		return cli_error("if any flags in the group [setup-key setup-key-file] are set none of the others can be; "
				 "[setup-key setup-key-file] were all set");
	read_environment(p);
	if (nb_log_level_parse(&level, cli_root.log_level))
		return cli_error("failed initializing log not a valid logrus Level: \"%s\"", cli_root.log_level);
	/* One-shot commands are quiet unless asked; `service run` sets its own. */
	nb_log_set_level(cli_root.has_log_level ? level : NB_LOG_WARN);
	if (cli_root.anonymize || cli_root.has_anonymize_level)
		return cli_error("not supported by nestbox: anonymized output; use the plain output and edit it");
	if (p->c->nargs >= 0 && argc != p->c->nargs)
		return cli_error("accepts %d arg(s), received %d", p->c->nargs, argc);
	return p->c->run(argc, argv);
}

/* `netbird help up`, `netbird help profile add`. */
static int help_about(struct nb_opts *o, struct path *p)
{
	const char *word;

	while (nb_opts_next(o, &word) == NB_OPTS_ARG)
		if (enter(p, word, o))
			return EXIT_FAILURE;
	return print_help(p);
}

static int unsupported(const struct cli_command *c)
{
	return cli_error("not supported by nestbox: %s", c->instead);
}

int client_main(int argc, char **argv)
{
	struct path p = { .text = "netbird" };
	const char *args[16], *word;
	struct nb_opts o;
	int n = 0, r;

	nb_opts_init(&o, argc, argv);
	nb_opts_add(&o, root_opts);
	while ((r = nb_opts_next(&o, &word)) == NB_OPTS_ARG) {
		if (!p.c && !strcmp(word, "help"))
			return help_about(&o, &p);
		if (!p.c || p.c->subs) {
			if (enter(&p, word, &o))
				return EXIT_FAILURE;
			if (p.c->instead)
				return unsupported(p.c);
		} else if (n < 16) {
			args[n++] = word;
		}
	}
	if (r == NB_OPTS_HELP || (r == NB_OPTS_END && (!p.c || p.c->subs)))
		return print_help(&p);
	if (r != NB_OPTS_END)
		return cli_error("%s", o.why);
	r = run_command(&p, n, args);
	nb_opt_list_clear(&cli_root.log_files);
	return r;
}
