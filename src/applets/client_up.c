/* client_up.c - `netbird up`, `down`, `login`, `deregister`: options, their order of operations with the
 * daemon, and up in the foreground. Source: spec/client.md 1.2, 1.3. Tests: tests/net/test_client_cli.py */
#include "applets/client_cli.h"

#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "base/err.h"
#include "base/log.h"
#include "client/daemon.h"
#include "run/daemon.h"
#include "run/user.h"

#define LOGIN_RETRIES_NS (30 * NB_SEC)

/* A value and whether it was given: only what was given is sent. */
#define SWITCH(name) bool name, has_##name

static struct {
	bool foreground, no_browser, qr, lazy, extend;
	const char *interface, *dns_address, *profile, *config;
	bool has_interface, has_dns_address, has_port, has_mtu, has_interval, has_jwt_ttl, has_config;
	long long port, mtu, jwt_ttl;
	int64_t interval;
	struct nb_opt_list blacklist, labels, external;
	SWITCH(monitor); SWITCH(rosenpass); SWITCH(permissive); SWITCH(no_autoconnect); SWITCH(no_client_routes);
	SWITCH(no_server_routes); SWITCH(no_dns); SWITCH(no_firewall); SWITCH(no_ipv6); SWITCH(block_lan);
	SWITCH(block_inbound); SWITCH(ssh); SWITCH(ssh_root); SWITCH(sftp); SWITCH(ssh_local); SWITCH(ssh_remote);
	SWITCH(no_ssh_auth);
} up = { .interface = "wt0", .dns_address = "", .profile = "", .config = "" };

#define BOOL_OPT(name, letter, field, help) { name, letter, NB_OPT_BOOL, &up.field, &up.has_##field, NULL, help, 0, 0 }
#define NOT_HERE " (not supported by nestbox)"

const struct nb_opt cli_up_opts[] = {
	BOOL_OPT("allow-server-ssh", 0, ssh, "allow SSH server on peer" NOT_HERE),
	BOOL_OPT("block-inbound", 0, block_inbound, "block all inbound connections, whatever the policies say"),
	BOOL_OPT("block-lan-access", 0, block_lan, "block access to local networks through this peer"),
	{ "config", 'c', NB_OPT_TEXT, &up.config, &up.has_config, "string", "(DEPRECATED) profile file", 0, 0 },
	BOOL_OPT("disable-auto-connect", 0, no_autoconnect, "do not connect when the service starts"),
	BOOL_OPT("disable-client-routes", 0, no_client_routes, "ignore routes from the management service"),
	BOOL_OPT("disable-dns", 0, no_dns, "leave the DNS settings alone"),
	BOOL_OPT("disable-firewall", 0, no_firewall, "leave the firewall alone"),
	BOOL_OPT("disable-ipv6", 0, no_ipv6, "no IPv6 address in the NetBird network"),
	BOOL_OPT("disable-server-routes", 0, no_server_routes, "do not act as a router"),
	BOOL_OPT("disable-ssh-auth", 0, no_ssh_auth, "disable SSH authentication" NOT_HERE),
	{ "dns-resolver-address", 0, NB_OPT_TEXT, &up.dns_address, &up.has_dns_address, "string",
	  "address of the local DNS resolver, IP:PORT; \"\" clears it", 0, 0 },
	{ "dns-router-interval", 0, NB_OPT_DURATION, &up.interval, &up.has_interval, "duration",
	  "how often names of routes are looked up (default 1m0s)", 0, 0 },
	{ "enable-lazy-connection", 0, NB_OPT_BOOL, &up.lazy, NULL, NULL, "deprecated, without effect", 0, 0 },
	BOOL_OPT("enable-rosenpass", 0, rosenpass, "post-quantum keys by Rosenpass" NOT_HERE),
	BOOL_OPT("enable-ssh-local-port-forwarding", 0, ssh_local, "SSH server: local forwarding" NOT_HERE),
	BOOL_OPT("enable-ssh-remote-port-forwarding", 0, ssh_remote, "SSH server: remote forwarding" NOT_HERE),
	BOOL_OPT("enable-ssh-root", 0, ssh_root, "SSH server: root login" NOT_HERE),
	BOOL_OPT("enable-ssh-sftp", 0, sftp, "SSH server: SFTP" NOT_HERE),
	{ "external-ip-map", 0, NB_OPT_LIST, &up.external, NULL, "strings",
	  "external addresses of this machine: IP, IP/IP or IP/INTERFACE; \"\" clears them", 0, 0 },
	{ "extra-dns-labels", 0, NB_OPT_LIST, &up.labels, NULL, "strings", "further names of this peer, up to 32; \"\" clears them",
	  0, 0 },
	{ "extra-iface-blacklist", 0, NB_OPT_LIST, &up.blacklist, NULL, "strings", "further interfaces not to connect through",
	  0, 0 },
	{ "foreground-mode", 'F', NB_OPT_BOOL, &up.foreground, NULL, NULL, "run here, without the service", 0, 0 },
	{ "interface-name", 0, NB_OPT_TEXT, &up.interface, &up.has_interface, "string",
	  "name of the WireGuard interface (default \"wt0\")", 0, 0 },
	{ "mtu", 0, NB_OPT_INT, &up.mtu, &up.has_mtu, "uint16", "MTU of the interface, 576 to 8192 (default 1280)", 0, 65535 },
	BOOL_OPT("network-monitor", 'N', monitor, "connect anew when the network changes"),
	{ "no-browser", 0, NB_OPT_BOOL, &up.no_browser, NULL, NULL, "do not open the browser for SSO login", 0, 0 },
	{ "profile", 0, NB_OPT_TEXT, &up.profile, NULL, "string", "profile to use, made when it does not exist", 0, 0 },
	{ "qr", 0, NB_OPT_BOOL, &up.qr, NULL, NULL, "QR code for the SSO login URL" NOT_HERE, 0, 0 },
	BOOL_OPT("rosenpass-permissive", 0, permissive, "Rosenpass where the peer has it" NOT_HERE),
	{ "ssh-jwt-cache-ttl", 0, NB_OPT_INT, &up.jwt_ttl, &up.has_jwt_ttl, "int", "seconds SSH tokens are kept (0=disabled)", 0,
	  2147483647 },
	{ "wireguard-port", 0, NB_OPT_INT, &up.port, &up.has_port, "uint16", "UDP port (default 51820)", 0, 65535 },
	{ 0 },
};

const struct nb_opt cli_login_opts[] = {
	{ "config", 'c', NB_OPT_TEXT, &up.config, &up.has_config, "string", "(DEPRECATED) profile file", 0, 0 },
	{ "extend", 0, NB_OPT_BOOL, &up.extend, NULL, NULL, "extend the SSO session" NOT_HERE, 0, 0 },
	{ "no-browser", 0, NB_OPT_BOOL, &up.no_browser, NULL, NULL, "do not open the browser for SSO login", 0, 0 },
	{ "profile", 0, NB_OPT_TEXT, &up.profile, NULL, "string", "profile to use", 0, 0 },
	{ "qr", 0, NB_OPT_BOOL, &up.qr, NULL, NULL, "QR code for the SSO login URL" NOT_HERE, 0, 0 },
	{ 0 },
};

const struct nb_opt cli_logout_opts[] = {
	{ "profile", 0, NB_OPT_TEXT, &up.profile, NULL, "string", "profile to deregister", 0, 0 },
	{ 0 },
};

/* --- checks of what was given */

static bool is_ip(const char *text)
{
	struct nb_addr a;

	return nb_addr_parse(&a, text) == 0;
}

static int check_external(const char *entry)
{
	char first[64];
	const char *slash = strchr(entry, '/');

	if (!*entry)
		return cli_error("empty string is not a valid input for external-ip-map");
	snprintf(first, sizeof first, "%.*s", (int)(slash ? (size_t)(slash - entry) : strlen(entry)), entry);
	if (slash && strchr(slash + 1, '/'))
		return cli_error("%s is not a valid input for external-ip-map. it should be formatted as \"String\" or "
				 "\"String/String\"", entry);
	if (!slash && !is_ip(entry))
		return cli_error("%s is not a valid input for external-ip-map. it should be formatted as \"IP\" or \"IP/IP\", "
				 "or \"IP/Interface Name\"", entry);
	if (!is_ip(first) && !if_nametoindex(first))
		return cli_error("%s is not a valid input for external-ip-map. it should be an IP string or a network name",
				 first);
	if (slash && !is_ip(slash + 1) && !if_nametoindex(slash + 1))
		return cli_error("%s is not a valid input for external-ip-map. it should be an IP string or a network name",
				 slash + 1);
	if (slash && !is_ip(first) && !is_ip(slash + 1))
		return cli_error("%s is not a valid input for external-ip-map. it should not contain two interface names",
				 entry);
	return 0;
}

/* Labels of letters, digits and inner hyphens between dots; "*." may come first. */
static bool is_label(const char *s)
{
	size_t n = 0;

	if (!strncmp(s, "*.", 2))
		s += 2;
	for (; *s; s++) {
		bool edge = n == 0 || !s[1] || s[1] == '.';

		if (*s == '.') {
			if (n == 0)
				return false;
			n = 0;
			continue;
		}
		if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || *s == '_' ||
		      (*s == '-' && !edge)) || ++n > 63)
			return false;
	}
	return n > 0;
}

static int check_flags(void)
{
	struct nb_endpoint e;

	for (size_t i = 0; i < up.external.n; i++)
		if (check_external(up.external.v[i]))
			return EXIT_FAILURE;
	if (up.labels.n > 32)
		return cli_error("failed to validate dns labels: domains list exceeds maximum allowed domains: 32");
	for (size_t i = 0; i < up.labels.n; i++)
		if (!is_label(up.labels.v[i]))
			return cli_error("failed to validate dns labels: invalid domain format: %s", up.labels.v[i]);
	if (*up.dns_address && nb_endpoint_parse(&e, up.dns_address))
		return cli_error("parse custom DNS address: %s is invalid, it should be formatted as IP:Port string or as an "
				 "empty string like \"\"", up.dns_address);
	if (up.has_mtu && (up.mtu < 576 || up.mtu > 8192))
		return cli_error("MTU %lld is out of range, it must be between 576 and 8192", up.mtu);
	if (up.qr)
		return cli_error("not supported by nestbox: QR codes; use the URL that is printed");
	if (up.lazy)
		fprintf(stderr, "Flag --enable-lazy-connection has been deprecated, no longer used; lazy connections are "
			"controlled by the server and the NB_LAZY_CONN environment variable\n");
	return 0;
}

/* --- requests */

static char *loose(const char *s)
{
	return (char *)(uintptr_t)s;
}

static void fill_settings(Daemon__SetConfigRequest *q, const char *profile, const char *user,
			  Google__Protobuf__Duration *interval)
{
	q->profilename = loose(profile);
	q->username = loose(user);
	if (*cli_root.management_url)
		q->managementurl = loose(cli_root.management_url);
	if (*cli_root.admin_url)
		q->adminurl = loose(cli_root.admin_url);
	if (cli_root.has_preshared_key)
		q->optionalpresharedkey = loose(cli_root.preshared_key);
	q->natexternalips = up.external.v;
	q->n_natexternalips = up.external.n;
	q->has_cleannatexternalips = q->cleannatexternalips = up.external.set && !up.external.n;
	q->extraifaceblacklist = up.blacklist.v;
	q->n_extraifaceblacklist = up.blacklist.n;
	q->dns_labels = up.labels.v;
	q->n_dns_labels = up.labels.n;
	q->has_cleandnslabels = q->cleandnslabels = up.labels.set && !up.labels.n;
	if (up.has_dns_address) {
		q->has_customdnsaddress = true;
		q->customdnsaddress.data = (uint8_t *)loose(*up.dns_address ? up.dns_address : "empty");
		q->customdnsaddress.len = strlen((char *)q->customdnsaddress.data);
	}
	if (up.has_interface)
		q->interfacename = loose(up.interface);
	q->has_wireguardport = up.has_port;
	q->wireguardport = up.port;
	q->has_mtu = up.has_mtu;
	q->mtu = up.mtu;
	q->has_sshjwtcachettl = up.has_jwt_ttl;
	q->sshjwtcachettl = (int32_t)up.jwt_ttl;
	if (up.has_interval) {
		interval->seconds = up.interval / NB_SEC;
		interval->has_seconds = interval->seconds != 0;
		interval->nanos = (int32_t)(up.interval % NB_SEC);
		interval->has_nanos = interval->nanos != 0;
		q->dnsrouteinterval = interval;
	}
#define GIVEN(field, flag) (q->has_##field = up.has_##flag, q->field = up.flag)
	GIVEN(networkmonitor, monitor);
	GIVEN(rosenpassenabled, rosenpass);
	GIVEN(rosenpasspermissive, permissive);
	GIVEN(disableautoconnect, no_autoconnect);
	GIVEN(disable_client_routes, no_client_routes);
	GIVEN(disable_server_routes, no_server_routes);
	GIVEN(disable_dns, no_dns);
	GIVEN(disable_firewall, no_firewall);
	GIVEN(disable_ipv6, no_ipv6);
	GIVEN(block_lan_access, block_lan);
	GIVEN(block_inbound, block_inbound);
	GIVEN(serversshallowed, ssh);
	GIVEN(enablesshroot, ssh_root);
	GIVEN(enablesshsftp, sftp);
	GIVEN(enablesshlocalportforwarding, ssh_local);
	GIVEN(enablesshremoteportforwarding, ssh_remote);
	GIVEN(disablesshauth, no_ssh_auth);
#undef GIVEN
}

/* Stock's daemons may want a browser login. The URL is shown; opening it is left to the person. */
static int browser_login(struct run_rpc *rpc, const Daemon__LoginResponse *l)
{
	Daemon__WaitSSOLoginRequest q = DAEMON__WAIT_SSOLOGIN_REQUEST__INIT;
	const char *url = l->verificationuricomplete ? l->verificationuricomplete : l->verificationuri;
	Daemon__WaitSSOLoginResponse *a;
	struct run_rpc_result r;
	struct nb_arena mem;

	printf("Use this URL to log in:\n\n%s ", url ? url : "");
	if (l->usercode && *l->usercode && (!url || !strstr(url, l->usercode)))
		printf("and enter the code %s to authenticate.", l->usercode);
	printf("\n\n");
	fflush(stdout);
	q.usercode = l->usercode;
	if (*cli_root.hostname)
		q.hostname = loose(cli_root.hostname);
	nb_arena_init(&mem, 1 << 20);
	CLI_CALL(rpc, "WaitSSOLogin", &q, wait_ssologin_response, &a, &mem, 0, &r);
	nb_arena_fini(&mem);
	return r.status ? cli_call_error("sso login failed: waiting sso login failed with", &r) : 0;
}

/* CANCELLED: a `down` or another `up` came in between; to go on would undo it. */
static bool final_answer(int status)
{
	return status == GRPC_OK || status == GRPC_CANCELLED || status == GRPC_INVALID_ARGUMENT ||
	       status == GRPC_PERMISSION_DENIED || status == GRPC_NOT_FOUND || status == GRPC_UNIMPLEMENTED;
}

/* Login, repeated for half a minute while the daemon cannot reach management. command: for the error. */
static int log_in(struct run_rpc *rpc, const char *command, const char *profile, const char *user)
{
	Daemon__LoginRequest q = DAEMON__LOGIN_REQUEST__INIT;
	struct nb_wall limit = { run_user_clock().ns + LOGIN_RETRIES_NS };
	int64_t wait = NB_SEC;
	Daemon__LoginResponse *a;
	struct run_rpc_result r;
	struct nb_arena mem;
	char key[256], context[64];
	int status = cli_setup_key(key, sizeof key);

	if (status)
		return status;
	q.setupkey = *key ? key : NULL;
	q.managementurl = *cli_root.management_url ? loose(cli_root.management_url) : NULL;
	q.adminurl = *cli_root.admin_url ? loose(cli_root.admin_url) : NULL;
	q.hostname = *cli_root.hostname ? loose(cli_root.hostname) : NULL;
	q.optionalpresharedkey = cli_root.has_preshared_key ? loose(cli_root.preshared_key) : NULL;
	q.has_isunixdesktopclient = q.isunixdesktopclient = run_user_has_desktop();
	q.profilename = loose(profile);
	q.username = loose(user);
	q.dns_labels = up.labels.v;
	q.n_dns_labels = up.labels.n;
	nb_arena_init(&mem, 1 << 20);
	while (!final_answer(CLI_CALL(rpc, "Login", &q, login_response, &a, &mem, 0, &r)) &&
	       run_user_clock().ns + wait < limit.ns) {
		nb_info("login: %s; trying again", r.message);
		run_user_sleep(wait);
		wait = wait * 3 / 2 < 10 * NB_SEC ? wait * 3 / 2 : 10 * NB_SEC;
	}
	nb_wipe(key, sizeof key);
	snprintf(context, sizeof context, "%s: login %sfailed", command, final_answer(r.status) ? "" : "backoff cycle ");
	if (r.status)
		status = cli_call_error(context, &r);
	else if (a->needsssologin)
		status = browser_login(rpc, a);
	nb_arena_fini(&mem);
	return status;
}

/* --- up */

static int set_config(struct run_rpc *rpc, const char *profile, const char *user)
{
	Daemon__SetConfigRequest q = DAEMON__SET_CONFIG_REQUEST__INIT;
	Google__Protobuf__Duration interval = GOOGLE__PROTOBUF__DURATION__INIT;
	Daemon__SetConfigResponse *a;
	struct run_rpc_result r;
	struct nb_arena mem;

	fill_settings(&q, profile, user, &interval);
	nb_arena_init(&mem, 1 << 20);
	CLI_CALL(rpc, "SetConfig", &q, set_config_response, &a, &mem, 0, &r);
	nb_arena_fini(&mem);
	if (r.status == GRPC_UNAVAILABLE) {
		nb_warn("setConfig method is not available in the daemon: %s", r.message);
		return 0;
	}
	return r.status ? cli_call_error("call service setConfig method", &r) : 0;
}

static int bring_down(struct run_rpc *rpc)
{
	Daemon__DownRequest q = DAEMON__DOWN_REQUEST__INIT;
	Daemon__DownResponse *a;
	struct run_rpc_result r;
	struct nb_arena mem;

	nb_arena_init(&mem, 1 << 20);
	CLI_CALL(rpc, "Down", &q, down_response, &a, &mem, 20, &r);
	nb_arena_fini(&mem);
	return r.status ? cli_call_error("call service down method", &r) : 0;
}

/* Fills word with the daemon's status. */
static int ask_status(struct run_rpc *rpc, bool wait, char word[32])
{
	Daemon__StatusRequest q = DAEMON__STATUS_REQUEST__INIT;
	Daemon__StatusResponse *a;
	struct run_rpc_result r;
	struct nb_arena mem;

	q.has_waitforready = q.waitforready = wait;
	nb_arena_init(&mem, 1 << 20);
	if (!CLI_CALL(rpc, "Status", &q, status_response, &a, &mem, 0, &r))
		snprintf(word, 32, "%s", a->status ? a->status : "");
	nb_arena_fini(&mem);
	return r.status ? cli_call_error("unable to get daemon status", &r) : 0;
}

static int call_up(struct run_rpc *rpc, const char *profile, const char *user)
{
	Daemon__UpRequest q = DAEMON__UP_REQUEST__INIT;
	Daemon__UpResponse *a;
	struct run_rpc_result r;
	struct nb_arena mem;

	q.profilename = loose(profile);
	q.username = loose(user);
	nb_arena_init(&mem, 1 << 20);
	CLI_CALL(rpc, "Up", &q, up_response, &a, &mem, 0, &r);
	nb_arena_fini(&mem);
	return r.status ? cli_call_error("daemon up failed: call service up method", &r) : 0;
}

static int up_with_daemon(struct run_rpc *rpc, const char *user)
{
	char profile[CLIENT_PROFILE_ID_LEN], word[32];
	int status;

	run_user_profile(profile, sizeof profile);
	if (*up.profile) {
		status = cli_switch_profile(rpc, up.profile, user, true, profile);
		if (status)
			return status;
	}
	status = ask_status(rpc, true, word);
	if (status)
		return status;
	if (!strcmp(word, "Connected") && !*up.profile) {
		puts("Already connected");
		return 0;
	}
	if (!strcmp(word, "Connected"))
		status = bring_down(rpc);
	if (!status)
		status = set_config(rpc, profile, user);
	if (!status)
		status = log_in(rpc, "daemon up failed", profile, user);
	if (!status)
		status = call_up(rpc, profile, user);
	if (!status)
		puts("Connected");
	return status;
}

static int without_daemon(const char *user, bool login_only)
{
	Daemon__SetConfigRequest q = DAEMON__SET_CONFIG_REQUEST__INIT;
	Google__Protobuf__Duration interval = GOOGLE__PROTOBUF__DURATION__INIT;
	struct run_daemon_options o = { .state_dir = cli_state_dir(),
					.ca_file = cli_root.has_ca_file ? cli_root.ca_file : NULL };
	char key[256];
	enum nb_log_level level;
	int status = cli_setup_key(key, sizeof key);

	if (status)
		return status;
	if (up.has_config && *up.config)
		o.profile = up.config;
	else if (cli_root.has_config)
		o.profile = cli_root.config;
	if (!nb_log_level_parse(&level, cli_root.log_level))
		nb_log_set_level(level);
	fill_settings(&q, CLIENT_DEFAULT_PROFILE, user, &interval);
	if (up.has_no_autoconnect)
		printf("Autoconnect has been %s. The client %s connect automatically when the service starts.\n",
		       up.no_autoconnect ? "disabled" : "enabled", up.no_autoconnect ? "won't" : "will");
	status = run_foreground(&o, &q, key, cli_root.hostname, login_only);
	nb_wipe(key, sizeof key);
	return status;
}

/* The daemon reads its authorities when it starts, not from this command. */
static void warn_of_ca_file(void)
{
	if (cli_root.has_ca_file)
		fprintf(stderr, "Warning: --ca-file is without effect here, it belongs to the service: netbird service reconfigure "
			"--ca-file %s\n", cli_root.ca_file);
}

int cli_up(int argc, const char **argv)
{
	char user[256];
	struct run_rpc *rpc;
	int status = check_flags();

	(void)argc, (void)argv;
	run_user_name(user, sizeof user);
	if (status)
		return status;
	if (up.foreground && *up.profile && strcmp(up.profile, CLIENT_DEFAULT_PROFILE))
		return cli_error("not supported by nestbox: --profile with -F; use -c with a profile file of its own");
	if (up.foreground)
		return without_daemon(user, false);
	if (up.has_config && *up.config)
		fprintf(stderr, "Warning: Config flag is deprecated on up command, it should be set as a service argument with "
			"$NB_CONFIG environment or with \"-config\" flag; netbird service reconfigure "
			"--service-env=\"NB_CONFIG=<file_path>\" or netbird service run --config=<file_path>\n");
	warn_of_ca_file();
	rpc = cli_dial();
	status = rpc ? up_with_daemon(rpc, user) : EXIT_FAILURE;
	run_rpc_close(rpc);
	nb_opt_list_clear(&up.external);
	nb_opt_list_clear(&up.labels);
	nb_opt_list_clear(&up.blacklist);
	return status;
}

/* --- down, login, deregister */

int cli_down(int argc, const char **argv)
{
	struct run_rpc *rpc = cli_dial();
	int status = rpc ? bring_down(rpc) : EXIT_FAILURE;

	(void)argc, (void)argv;
	if (!status)
		puts("Disconnected");
	run_rpc_close(rpc);
	return status;
}

static int login_with_daemon(struct run_rpc *rpc, const char *user)
{
	char profile[CLIENT_PROFILE_ID_LEN], word[32];
	int status = 0;

	run_user_profile(profile, sizeof profile);
	if (*up.profile) {
		status = cli_switch_profile(rpc, up.profile, user, false, profile);
		if (!status)
			status = ask_status(rpc, false, word);
		if (!status && !strcmp(word, "Connected"))
			status = bring_down(rpc);
	}
	return status ? status : log_in(rpc, "daemon login failed", profile, user);
}

int cli_login(int argc, const char **argv)
{
	char user[256];
	struct run_rpc *rpc;
	int status;

	(void)argc, (void)argv;
	if (up.extend)
		return cli_error("not supported by nestbox: --extend; use netbird login");
	if (up.qr)
		return cli_error("not supported by nestbox: QR codes; use the URL that is printed");
	run_user_name(user, sizeof user);
	if (cli_without_service())
		return without_daemon(user, true);
	warn_of_ca_file();
	rpc = cli_dial();
	status = rpc ? login_with_daemon(rpc, user) : EXIT_FAILURE;
	run_rpc_close(rpc);
	if (!status)
		puts("Logging successfully");
	return status;
}

int cli_logout(int argc, const char **argv)
{
	Daemon__LogoutRequest q = DAEMON__LOGOUT_REQUEST__INIT;
	struct run_rpc *rpc = cli_dial();
	Daemon__LogoutResponse *a;
	struct run_rpc_result r;
	struct nb_arena mem;
	char user[256];

	(void)argc, (void)argv;
	if (!rpc)
		return EXIT_FAILURE;
	run_user_name(user, sizeof user);
	if (*up.profile) {
		q.profilename = loose(up.profile);
		q.username = user;
	}
	nb_arena_init(&mem, 1 << 20);
	CLI_CALL(rpc, "Logout", &q, logout_response, &a, &mem, 15, &r);
	nb_arena_fini(&mem);
	run_rpc_close(rpc);
	if (r.status)
		return cli_call_error("deregister", &r);
	puts("Deregistered successfully");
	return 0;
}
