/* relay.c - options of the relay: flags, NB_ variables (a flag beats its variable), help.
 * Stock's flags of what is not built are known and refused with a reason, so that a deployment never believes to
 * have what is not there. spec/relay-protocol.md 8.1. Tests: tests/net/test_turn_interop.py, tests/net/test_relay.py */
#include "applets/applet.h"

#include "base/err.h"
#include "base/log.h"
#include "run/relay_main.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

APPLET(relay, relay_main, "netbird-relay", "NetBird relay, STUN and TURN server")

#define EXIT_USAGE 2
#define LETS_ENCRYPT "certificates are not fetched by this program: use --tls-cert-file and --tls-key-file"
#define PORT_DEFAULT 443

struct settings {
	struct run_relay_main_config run;
	struct relay_config cfg;
	const char *exposed;
	bool enable_stun;
	char user[64];
	char log_file[256];
};

struct option_row {
	const char *name;
	char letter;			/* 0: none */
	const char *value;		/* what the help calls it; NULL: a switch, =false allowed */
	int (*set)(struct settings *s, const char *text);	/* NULL: refused with `help` as reason */
	const char *help;
};

static int set_listen(struct settings *s, const char *text)
{
	return relay_set_listen(&s->cfg, text);
}

/* "ADDR:PORT" or ":PORT". */
static int set_endpoint(struct nb_endpoint *e, const char *text)
{
	char full[NB_ADDR_TEXT + 8];

	if (strlen(text) >= NB_ADDR_TEXT)
		return NB_E_CONFIG;
	snprintf(full, sizeof full, "%s%s", *text == ':' ? "0.0.0.0" : "", text);
	if (nb_endpoint_parse(e, full) || !e->port)
		return NB_E_CONFIG;
	if (*text == ':')
		e->addr = (struct nb_addr){ 0 };
	return 0;
}

static int set_ws_listen(struct settings *s, const char *text)
{
	return set_endpoint(&s->run.listen, text);
}

static int set_health(struct settings *s, const char *text)
{
	int r = set_endpoint(&s->run.health, text);

	/* Who names no address gets the loopback one: what is said there is not for strangers. */
	if (r == 0 && !s->run.health.addr.family)
		s->run.health.addr = nb_addr4(0x7f000001);
	return r;
}

static int set_metrics(struct settings *s, const char *text)
{
	return relay_set_metrics(&s->run.metrics, text);
}

static int set_exposed(struct settings *s, const char *text)
{
	s->exposed = text;
	return *text ? 0 : NB_E_CONFIG;
}

static int set_auth_secret(struct settings *s, const char *text)
{
	return relay_set_text(s->cfg.auth_secret, sizeof s->cfg.auth_secret, text);
}

static int set_cert(struct settings *s, const char *text)
{
	s->run.cert_file = text;
	return *text ? 0 : NB_E_CONFIG;
}

static int set_key(struct settings *s, const char *text)
{
	s->run.key_file = text;
	return *text ? 0 : NB_E_CONFIG;
}

/* Proxies only change the address that stock logs, and addresses of clients are not logged here. */
static int set_proxies(struct settings *s, const char *text)
{
	(void)s, (void)text;
	return 0;
}

static int set_tcp(struct settings *s, const char *text)
{
	return relay_set_tcp(&s->cfg, text);
}

static int set_alt_port(struct settings *s, const char *text)
{
	return relay_set_alt_port(&s->cfg, text);
}

static int set_alt_ip(struct settings *s, const char *text)
{
	return relay_set_alt_ip(&s->cfg, text);
}

static int set_secret(struct settings *s, const char *text)
{
	return relay_set_text(s->cfg.secret, sizeof s->cfg.secret, text);
}

/* The first line of a file. */
static int set_secret_file(struct settings *s, const char *text)
{
	char line[sizeof s->cfg.secret + 2];
	FILE *f = fopen(text, "re");
	int r = NB_E_CONFIG;

	if (!f)
		return NB_E_CONFIG;
	if (fgets(line, sizeof line, f)) {
		line[strcspn(line, "\r\n")] = 0;
		r = relay_set_text(s->cfg.secret, sizeof s->cfg.secret, line);
	}
	fclose(f);
	nb_wipe(line, sizeof line);
	return r;
}

static int set_turn_user(struct settings *s, const char *text)
{
	return relay_set_user(&s->cfg, text);
}

static int set_realm(struct settings *s, const char *text)
{
	return relay_set_text(s->cfg.realm, sizeof s->cfg.realm, text);
}

static int set_ports(struct settings *s, const char *text)
{
	return relay_set_ports(&s->cfg, text);
}

static int set_external(struct settings *s, const char *text)
{
	return relay_set_external(&s->cfg, text);
}

static int set_allow(struct settings *s, const char *text)
{
	return relay_set_allow(&s->cfg, text);
}

static int set_max_allocations(struct settings *s, const char *text)
{
	return relay_set_number(&s->cfg.max_allocations, 1, 65536, text);
}

static int set_user_quota(struct settings *s, const char *text)
{
	return relay_set_number(&s->cfg.max_per_user, 1, 65536, text);
}

static int set_max_lifetime(struct settings *s, const char *text)
{
	return relay_set_number(&s->cfg.max_lifetime_s, 60, 86400, text);
}

static int set_user(struct settings *s, const char *text)
{
	return relay_set_text(s->user, sizeof s->user, text);
}

static int set_enable_stun(struct settings *s, const char *text)
{
	if (strcmp(text, "true") && strcmp(text, "false"))
		return NB_E_CONFIG;
	s->enable_stun = text[0] == 't';
	return 0;
}

static int set_stun_ports(struct settings *s, const char *text)
{
	return relay_set_stun_ports(&s->cfg, text);
}

static int set_log_level(struct settings *s, const char *text)
{
	enum nb_log_level level;

	(void)s;
	if (nb_log_level_parse(&level, text))
		return NB_E_CONFIG;
	nb_log_set_level(level);
	return 0;
}

static int set_log_file(struct settings *s, const char *text)
{
	return relay_set_text(s->log_file, sizeof s->log_file, text);
}

static const struct option_row rows[] = {
	{ "listen-address", 'l', "ADDR:PORT", set_ws_listen, "TCP address of the relay protocol (default :443)" },
	{ "exposed-address", 'e', "URL", set_exposed, "how clients reach it: [rel[s]://]HOST[:PORT]" },
	{ "auth-secret", 's', "TEXT", set_auth_secret, "the secret shared with the management server" },
	{ "tls-cert-file", 'c', "FILE", set_cert, "TLS certificate chain (PEM), for TURN over TLS, too; read again when it changes" },
	{ "tls-key-file", 'k', "FILE", set_key, "its private key" },
	{ "health-listen-address", 'H', "ADDR:PORT", set_health, "serve /health there (:PORT: on loopback; default: off)" },
	{ "metrics-port", 0, "[ADDR:]PORT", set_metrics, "serve /metrics there (PORT: on loopback; default: off)" },
	{ "turn-listen", 0, "ADDR:PORT,...", set_listen, "UDP addresses of STUN and TURN (default :3478)" },
	{ "turn-tcp-listen", 0, "ADDR:PORT,...", set_tcp, "TCP addresses of both (default: the same; off: none)" },
	{ "stun-alt-port", 0, "PORT", set_alt_port, "second UDP port, for NAT discovery (default: the next one, if free; off: none)" },
	{ "stun-alt-ip", 0, "ADDR,...", set_alt_ip, "second address of this machine, for NAT discovery (default: none)" },
	{ "turn-secret", 0, "TEXT", set_secret, "shared secret of time-limited TURN credentials" },
	{ "turn-secret-file", 0, "FILE", set_secret_file, "read that secret from a file's first line" },
	{ "turn-user", 0, "NAME:PASSWORD", set_turn_user, "a static TURN user; may be repeated" },
	{ "realm", 0, "TEXT", set_realm, "TURN realm (default nestbox)" },
	{ "relay-ports", 0, "LOW-HIGH|N", set_ports, "ports of relayed addresses (default 256: 49152-49407)" },
	{ "external-ip", 0, "ADDR,...", set_external, "addresses peers see when we are behind a NAT" },
	{ "allow-peer", 0, "CIDR,...", set_allow, "peers to relay to although they are private or reserved" },
	{ "max-allocations", 0, "N", set_max_allocations, "allocations in total (default 10000)" },
	{ "user-quota", 0, "N", set_user_quota, "allocations per user name and address (default 64)" },
	{ "max-lifetime", 0, "SECONDS", set_max_lifetime, "longest allocation lifetime (default 3600)" },
	{ "user", 0, "NAME", set_user, "become this user once the ports are open" },
	{ "enable-stun", 0, NULL, set_enable_stun, "serve STUN also without TURN credentials" },
	{ "stun-ports", 0, "PORT,...", set_stun_ports, "the same as --turn-listen :PORT,..." },
	{ "stun-log-level", 0, "LEVEL", set_log_level, "the same as --log-level" },
	{ "log-level", 0, "LEVEL", set_log_level, "error, warn, info (default), debug, trace" },
	{ "log-file", 0, "FILE", set_log_file, "append to FILE instead of stderr; console: stderr" },
	{ "letsencrypt-domains", 'a', "NAME,...", NULL, LETS_ENCRYPT },
	{ "letsencrypt-data-dir", 'd', "DIR", NULL, LETS_ENCRYPT },
	{ "letsencrypt-email", 0, "TEXT", NULL, LETS_ENCRYPT },
	{ "letsencrypt-aws-route53", 0, NULL, NULL, LETS_ENCRYPT },
	{ "trusted-proxies", 0, "CIDR,...", set_proxies, "accepted for stock's sake: client addresses are not logged" },
};

#define NROWS (sizeof rows / sizeof *rows)

static void help(FILE *out)
{
	fputs("Usage: netbird-relay [OPTION]...\n\n"
	      "The NetBird relay protocol, and STUN and TURN over UDP, TCP and TLS. Each option can be given as a variable, too:\n"
	      "--turn-secret is NB_TURN_SECRET.\n\n",
	      out);
	for (size_t i = 0; i < NROWS; i++) {
		char left[64];

		if (!rows[i].set)
			continue;
		snprintf(left, sizeof left, "--%s%s%s", rows[i].name, rows[i].value ? " " : "",
			 rows[i].value ? rows[i].value : "");
		fprintf(out, "  %-30s %s\n", left, rows[i].help);
	}
}

/* Apply one value; where is how the user gave it. */
static int apply(struct settings *s, const struct option_row *row, const char *where, const char *text)
{
	int r;

	if (!row->set) {
		fprintf(stderr, "netbird-relay: %s: %s\n", where, row->help);
		return EXIT_USAGE;
	}
	r = row->set(s, text);
	if (r == NB_E_FULL)
		fprintf(stderr, "netbird-relay: %s: too many values: give fewer\n", where);
	else if (r)
		fprintf(stderr, "netbird-relay: %s: not usable: expected %s: see --help\n", where,
			row->value ? row->value : "true or false");
	return r ? EXIT_USAGE : 0;
}

static const char *variable(char *out, size_t cap, const char *name)
{
	size_t n = (size_t)snprintf(out, cap, "NB_%s", name);

	for (size_t i = 3; i < n && i < cap; i++)
		out[i] = name[i - 3] == '-' ? '_' : (char)toupper((unsigned char)name[i - 3]);
	return out;
}

/* Variables of the options that were not given as flags. */
static int apply_environment(struct settings *s, const bool given[NROWS])
{
	for (size_t i = 0; i < NROWS; i++) {
		char name[64];
		const char *text = getenv(variable(name, sizeof name, rows[i].name));

		if (given[i] || !text || !*text)
			continue;
		if (apply(s, &rows[i], name, text))
			return EXIT_USAGE;
	}
	return 0;
}

static int by_letter(int c)
{
	for (size_t i = 0; i < NROWS; i++)
		if (rows[i].letter == c)
			return (int)i;
	return -1;
}

/* Returns -1 to go on, else the exit status. */
static int apply_flags(struct settings *s, int argc, char **argv, bool given[NROWS])
{
	struct option longs[NROWS + 2] = { 0 };
	int index, c;

	for (size_t i = 0; i < NROWS; i++)
		longs[i] = (struct option){ rows[i].name, rows[i].value ? required_argument : optional_argument,
					    NULL, 0 };
	longs[NROWS] = (struct option){ "help", no_argument, NULL, 'h' };
	optind = 1;
	while ((c = getopt_long(argc, argv, "hl:e:s:c:k:a:d:H:", longs, &index)) != -1) {
		char where[64];

		if (c == 'h') {
			help(stdout);
			return 0;
		}
		if (c == '?')
			return EXIT_USAGE;
		if (c != 0)
			index = by_letter(c);
		given[index] = true;
		snprintf(where, sizeof where, "--%s", rows[index].name);
		if (apply(s, &rows[index], where, optarg ? optarg : "true"))
			return EXIT_USAGE;
	}
	if (optind < argc) {
		fprintf(stderr, "netbird-relay: %s: unexpected argument: see --help\n", argv[optind]);
		return EXIT_USAGE;
	}
	return -1;
}

static int open_log(const char *path)
{
	int fd;

	if (!*path || strcmp(path, "console") == 0)
		return 0;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (fd < 0) {
		fprintf(stderr, "netbird-relay: cannot write the log file %s: %s: name another with --log-file\n", path,
			strerror(errno));
		return EXIT_USAGE;
	}
	nb_log_set_fd(fd);
	return 0;
}

/* What belongs together. */
static int check_protocol(struct settings *s)
{
	bool tls = s->run.cert_file != NULL;

	if (!s->run.cert_file != !s->run.key_file) {
		fputs("netbird-relay: --tls-cert-file and --tls-key-file belong together: give both\n", stderr);
		return EXIT_USAGE;
	}
	if (!s->exposed != !s->cfg.auth_secret[0]) {
		fputs("netbird-relay: --exposed-address and --auth-secret belong together: give both\n", stderr);
		return EXIT_USAGE;
	}
	if (!s->exposed)
		return 0;
	switch (relay_set_url(&s->cfg, s->exposed, tls)) {
	case 0:
		break;
	case NB_E_DENIED:
		fputs("netbird-relay: --exposed-address: rel:// is without TLS, but there is a certificate: write rels://\n", stderr);
		return EXIT_USAGE;
	default:
		fputs("netbird-relay: --exposed-address: not usable: expected [rel[s]://]HOST[:PORT]\n", stderr);
		return EXIT_USAGE;
	}
	if (!s->run.listen.port)
		s->run.listen.port = PORT_DEFAULT;
	return 0;
}

int relay_main(int argc, char **argv)
{
	static struct settings s;
	bool given[NROWS] = { false };
	int r;

	nb_log_set_level(NB_LOG_INFO);
	relay_config_default(&s.cfg);
	r = apply_flags(&s, argc, argv, given);
	if (r >= 0)
		return r;
	if (apply_environment(&s, given) || open_log(s.log_file))
		return EXIT_USAGE;
	if (check_protocol(&s))
		return EXIT_USAGE;
	s.cfg.no_udp = !relay_config_turn(&s.cfg) && !s.enable_stun;
	if (s.cfg.no_udp && !s.cfg.url[0]) {
		fputs("netbird-relay: nothing to serve: give --exposed-address and --auth-secret for the NetBird relay protocol, "
		      "--turn-secret or --turn-user for TURN, or --enable-stun for STUN alone\n", stderr);
		return EXIT_USAGE;
	}
	s.run.relay = s.cfg;
	s.run.relay.cert_file = s.run.cert_file;
	s.run.relay.key_file = s.run.key_file;
	s.run.user = s.user[0] ? s.user : NULL;
	r = run_relay_main(&s.run);
	nb_wipe(&s, sizeof s);
	return r;
}
