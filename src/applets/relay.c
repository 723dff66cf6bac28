/* relay.c - options of the relay: flags, NB_ variables (a flag beats its variable), help.
 * Stock's flags of the NetBird relay protocol are known and refused with a reason, so that a deployment
 * never believes to have what is not there. spec/relay-protocol.md 8.1.
 * Tests: tests/net/test_turn_interop.py */
#include "applets/applet.h"

#include "base/err.h"
#include "base/log.h"
#include "run/relay.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

APPLET(relay, relay_main, "netbird-relay", "STUN and TURN server")

#define EXIT_USAGE 2
#define RELAY_PROTOCOL "the NetBird relay protocol is not part of this version"

struct settings {
	struct relay_config cfg;
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
	{ "turn-listen", 0, "ADDR:PORT,...", set_listen, "UDP addresses of STUN and TURN (default :3478)" },
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
	{ "listen-address", 'l', "ADDR", NULL, RELAY_PROTOCOL ": use --turn-listen for STUN and TURN" },
	{ "exposed-address", 'e', "URL", NULL, RELAY_PROTOCOL ": use --external-ip for TURN" },
	{ "auth-secret", 's', "TEXT", NULL, RELAY_PROTOCOL ": use --turn-secret for TURN" },
	{ "tls-cert-file", 'c', "FILE", NULL, RELAY_PROTOCOL " and TURN is served over UDP only: leave it out" },
	{ "tls-key-file", 'k', "FILE", NULL, RELAY_PROTOCOL " and TURN is served over UDP only: leave it out" },
	{ "letsencrypt-domains", 'a', "NAME,...", NULL, "certificates are not needed for STUN and TURN over UDP: leave it out" },
	{ "letsencrypt-data-dir", 'd', "DIR", NULL, "certificates are not needed for STUN and TURN over UDP: leave it out" },
	{ "letsencrypt-email", 0, "TEXT", NULL, "certificates are not needed for STUN and TURN over UDP: leave it out" },
	{ "letsencrypt-aws-route53", 0, NULL, NULL, "certificates are not needed for STUN and TURN over UDP: leave it out" },
	{ "trusted-proxies", 0, "CIDR,...", NULL, RELAY_PROTOCOL ": leave it out" },
	{ "metrics-port", 0, "PORT", NULL, "there is no metrics endpoint in this version: leave it out" },
	{ "health-listen-address", 'H', "ADDR", NULL, "there is no health endpoint in this version: leave it out" },
};

#define NROWS (sizeof rows / sizeof *rows)

static void help(FILE *out)
{
	fputs("Usage: netbird-relay [OPTION]...\n\n"
	      "STUN and TURN over UDP. Each option can be given as a variable, too: --turn-secret is NB_TURN_SECRET.\n\n",
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
	if (!relay_config_turn(&s.cfg) && !s.enable_stun) {
		fputs("netbird-relay: nothing to serve: give --turn-secret or --turn-user for TURN, or --enable-stun for "
		      "STUN alone (" RELAY_PROTOCOL ")\n", stderr);
		return EXIT_USAGE;
	}
	r = run_relay_main(&s.cfg, s.user[0] ? s.user : NULL);
	nb_wipe(&s, sizeof s);
	return r;
}
