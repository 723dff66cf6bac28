/* options.c - see options.h. */
#include "applets/options.h"

#include "base/err.h"
#include "base/log.h"
#include "relay/relay.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_MAX 96
#define LEFT 33		/* columns of the help's left side */

/* The rows of a command, whatever table they come from. */
struct rows {
	size_t n;
	struct {
		const struct app_option *row;
		void *to;
		bool given;
	} v[ROWS_MAX];
};

static void collect(struct rows *r, const struct app_command *c)
{
	r->n = 0;
	for (size_t t = 0; t < APP_TABLES; t++)
		for (size_t i = 0; i < c->tables[t].n && r->n < ROWS_MAX; i++) {
			const struct app_option *row = &c->tables[t].rows[i];

			if (row->where && !(row->where & c->where))
				continue;
			r->v[r->n].row = row;
			r->v[r->n].given = false;
			r->v[r->n++].to = c->tables[t].to;
		}
}

static void help(const struct app_command *c, const struct rows *r)
{
	fputs(c->usage, stdout);
	fputs("\nEach option can be given as a variable, too: --log-level is NB_LOG_LEVEL.\n\n", stdout);
	for (size_t i = 0; i < r->n; i++) {
		const struct app_option *row = r->v[i].row;
		char left[64];

		if (!row->set || !row->help)
			continue;
		snprintf(left, sizeof left, "--%s%s%s", row->name, row->value ? " " : "", row->value ? row->value : "");
		printf("  %-*s %s\n", LEFT, left, row->help);
	}
}

/* Apply one value; where is how the user gave it. */
static int apply(const struct app_command *c, struct rows *r, size_t i, const char *where, const char *text)
{
	const struct app_option *row = r->v[i].row;
	int err;

	if (!row->set) {
		if (!*text)
			return 0;
		fprintf(stderr, "%s: %s: %s\n", c->who, where, row->help);
		return EXIT_USAGE;
	}
	err = row->set(r->v[i].to, text);
	if (err == NB_E_FULL)
		fprintf(stderr, "%s: %s: too many values: give fewer\n", c->who, where);
	else if (err)
		fprintf(stderr, "%s: %s: not usable: expected %s: see --help\n", c->who, where,
			row->value ? row->value : "true or false");
	return err ? EXIT_USAGE : 0;
}

static int apply_environment(const struct app_command *c, struct rows *r)
{
	for (size_t i = 0; i < r->n; i++) {
		char name[64];
		const char *text;
		int n = snprintf(name, sizeof name, "NB_%s", r->v[i].row->name);

		for (int k = 3; k < n && name[k]; k++)
			name[k] = name[k] == '-' ? '_' : (char)toupper((unsigned char)name[k]);
		text = getenv(name);
		if (r->v[i].given || !text || !*text)
			continue;
		if (apply(c, r, i, name, text))
			return EXIT_USAGE;
	}
	return -1;
}

static size_t by_letter(const struct rows *r, int letter)
{
	size_t i = 0;

	while (i < r->n && r->v[i].row->letter != letter)
		i++;
	return i;
}

static void make_getopt(const struct app_command *c, const struct rows *r, struct option longs[ROWS_MAX + 3], char *shorts)
{
	size_t n = 0;

	for (; n < r->n; n++) {
		const struct app_option *row = r->v[n].row;

		longs[n] = (struct option){ row->name, row->value ? required_argument : optional_argument, NULL, 0 };
		if (row->letter) {
			*shorts++ = row->letter;
			*shorts++ = ':';
		}
	}
	longs[n++] = (struct option){ "help", no_argument, NULL, 'h' };
	*shorts++ = 'h';
	if (c->version) {
		longs[n++] = (struct option){ "version", no_argument, NULL, 'v' };
		*shorts++ = 'v';
	}
	longs[n] = (struct option){ 0 };
	*shorts = 0;
}

static int apply_flags(const struct app_command *c, struct rows *r, int argc, char **argv)
{
	struct option longs[ROWS_MAX + 3];
	char shorts[2 * ROWS_MAX + 3], where[64];
	int index, got;

	make_getopt(c, r, longs, shorts);
	optind = 1;
	while ((got = getopt_long(argc, argv, shorts, longs, &index)) != -1) {
		size_t i = got ? by_letter(r, got) : (size_t)index;

		if (got == 'h') {
			help(c, r);
			return EXIT_SUCCESS;
		}
		if (got == 'v' && c->version) {
			printf("%s version %s\n", c->who, c->version);
			return EXIT_SUCCESS;
		}
		if (got == '?' || i >= r->n)
			return EXIT_USAGE;
		r->v[i].given = true;
		snprintf(where, sizeof where, "--%s", r->v[i].row->name);
		if (apply(c, r, i, where, optarg ? optarg : "true"))
			return EXIT_USAGE;
	}
	if (c->word && optind < argc && !strcmp(argv[optind], c->word))
		optind++;
	if (optind < argc) {
		fprintf(stderr, "%s: %s: unexpected argument: see --help\n", c->who, argv[optind]);
		return EXIT_USAGE;
	}
	return -1;
}

int app_read(const struct app_command *c, int argc, char **argv)
{
	struct rows r;
	int rc;

	collect(&r, c);
	rc = apply_flags(c, &r, argc, argv);
	return rc >= 0 ? rc : apply_environment(c, &r);
}

int app_open_log(const char *who, const char *path)
{
	int fd;

	if (!path || !*path || !strcmp(path, "console"))
		return 0;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (fd < 0) {
		fprintf(stderr, "%s: cannot write the log file %s: %s: name another with --log-file\n", who, path,
			strerror(errno));
		return EXIT_USAGE;
	}
	nb_log_set_fd(fd);
	return 0;
}

/* ---- setters that every server has ---- */

int app_set_text(const char **out, const char *text)
{
	*out = text;
	return *text ? 0 : NB_E_CONFIG;
}

int app_set_bool(void *to, const char *text)
{
	bool *out = to;

	*out = strcmp(text, "true") == 0;
	return *out || strcmp(text, "false") == 0 ? 0 : NB_E_CONFIG;
}

int app_set_log_level(void *to, const char *text)
{
	enum nb_log_level level;

	(void)to;
	if (nb_log_level_parse(&level, text))
		return NB_E_CONFIG;
	nb_log_set_level(level);
	return 0;
}

int app_ignore(void *to, const char *text)
{
	(void)to, (void)text;
	return 0;
}

/* ---- STUN and TURN ---- */

APP_SETTER(struct relay_config, set_listen, relay_set_listen(s, text))
APP_SETTER(struct relay_config, set_tcp, relay_set_tcp(s, text))
APP_SETTER(struct relay_config, set_alt_port, relay_set_alt_port(s, text))
APP_SETTER(struct relay_config, set_alt_ip, relay_set_alt_ip(s, text))
APP_SETTER(struct relay_config, set_secret, relay_set_text(s->secret, sizeof s->secret, text))
APP_SETTER(struct relay_config, set_turn_user, relay_set_user(s, text))
APP_SETTER(struct relay_config, set_realm, relay_set_text(s->realm, sizeof s->realm, text))
APP_SETTER(struct relay_config, set_ports, relay_set_ports(s, text))
APP_SETTER(struct relay_config, set_external, relay_set_external(s, text))
APP_SETTER(struct relay_config, set_allow, relay_set_allow(s, text))
APP_SETTER(struct relay_config, set_max_allocations, relay_set_number(&s->max_allocations, 1, 65536, text))
APP_SETTER(struct relay_config, set_user_quota, relay_set_number(&s->max_per_user, 1, 65536, text))
APP_SETTER(struct relay_config, set_max_lifetime, relay_set_number(&s->max_lifetime_s, 60, 86400, text))
APP_SETTER(struct relay_config, set_max_bps, relay_set_rate(&s->user_rate, text))
APP_SETTER(struct relay_config, set_capacity, relay_set_rate(&s->total_rate, text))

/* The first line of a file. */
static int set_secret_file(void *to, const char *text)
{
	struct relay_config *c = to;
	char line[sizeof c->secret + 2];
	FILE *f = fopen(text, "re");
	int r = NB_E_CONFIG;

	if (!f)
		return NB_E_CONFIG;
	if (fgets(line, sizeof line, f)) {
		line[strcspn(line, "\r\n")] = 0;
		r = relay_set_text(c->secret, sizeof c->secret, line);
	}
	fclose(f);
	nb_wipe(line, sizeof line);
	return r;
}

const struct app_option app_relay_rows[] = {
	{ "turn-listen", 0, 0, "ADDR:PORT,...", set_listen, "UDP addresses of STUN and TURN (default :3478)" },
	{ "turn-tcp-listen", 0, 0, "ADDR:PORT,...", set_tcp, "TCP addresses of both (default: the same; off: none)" },
	{ "stun-alt-port", 0, 0, "PORT", set_alt_port,
	  "second UDP port, for NAT discovery (default: the next one, if free; off: none)" },
	{ "stun-alt-ip", 0, 0, "ADDR,...", set_alt_ip, "second address of this machine, for NAT discovery (default: none)" },
	{ "turn-secret", 0, 0, "TEXT", set_secret, "shared secret of time-limited TURN credentials (netbird-server makes one)" },
	{ "turn-secret-file", 0, 0, "FILE", set_secret_file, "read that secret from a file's first line" },
	{ "turn-user", 0, 0, "NAME:PASSWORD", set_turn_user, "a static TURN user; may be repeated" },
	{ "realm", 0, 0, "TEXT", set_realm, "TURN realm (default nestbox)" },
	{ "relay-ports", 0, 0, "LOW-HIGH|N", set_ports, "ports of relayed addresses (default 256: 49152-49407)" },
	{ "external-ip", 0, 0, "ADDR,...", set_external, "addresses peers see when we are behind a NAT" },
	{ "allow-peer", 0, 0, "CIDR,...", set_allow, "peers to relay to although they are private or reserved" },
	{ "max-allocations", 0, 0, "N", set_max_allocations, "allocations in total (default 10000)" },
	{ "user-quota", 0, 0, "N", set_user_quota, "allocations per user name and address (default 64)" },
	{ "max-lifetime", 0, 0, "SECONDS", set_max_lifetime, "longest allocation lifetime (default 3600)" },
	{ "max-bps", 0, 0, "BYTES", set_max_bps, "bytes a second of one user or peer, each way; k, M, G (default: any)" },
	{ "bps-capacity", 0, 0, "BYTES", set_capacity, "bytes a second of all together (default: any)" },
};
const size_t app_relay_nrows = sizeof app_relay_rows / sizeof *app_relay_rows;
