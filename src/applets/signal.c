/* signal.c - options of the signal server: stock's flags and subcommand word, NB_ variables (a flag beats
 * its variable), help. spec/signal-protocol.md 5.6. Tests: tests/net/test_signal.py */
#include "applets/applet.h"

#include "base/err.h"
#include "base/log.h"
#include "base/version.h"
#include "run/sigserver.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

APPLET(signal, signal_main, "netbird-signal", "message router between peers")

#define EXIT_USAGE 2
#define NO_ACME "automatic certificates are not supported by nestbox: get a certificate with an ACME client " \
	"such as lego or certbot and name it with --cert-file and --cert-key"

struct settings {
	struct run_sigserver_config cfg;
	const char *log_file;
};

struct option_row {
	const char *name;
	const char *value;	/* what the help calls it; NULL: a switch, =false allowed */
	int (*set)(struct settings *s, const char *text);	/* NULL: refused with `help` as reason */
	const char *help;
};

static int read_port(uint16_t *out, const char *text)
{
	char *end;
	long v = strtol(text, &end, 10);

	if (!isdigit((unsigned char)*text) || *end || v < 1 || v > 65535)
		return NB_E_CONFIG;
	*out = (uint16_t)v;
	return 0;
}

static int set_port(struct settings *s, const char *text)
{
	return read_port(&s->cfg.port, text);
}

static int set_listen(struct settings *s, const char *text)
{
	struct nb_endpoint at;

	s->cfg.listen = text;
	return nb_endpoint_parse(&at, text) ? NB_E_CONFIG : 0;
}

static int set_legacy(struct settings *s, const char *text)
{
	if (strcmp(text, "true") && strcmp(text, "false"))
		return NB_E_CONFIG;
	s->cfg.no_legacy = text[0] == 't';
	return 0;
}

static int set_metrics(struct settings *s, const char *text)
{
	if (!strcmp(text, "0")) {
		s->cfg.metrics_port = 0;
		return 0;
	}
	return read_port(&s->cfg.metrics_port, text);
}

static int set_cert(struct settings *s, const char *text)
{
	s->cfg.cert_file = *text ? text : NULL;
	return 0;
}

static int set_key(struct settings *s, const char *text)
{
	s->cfg.key_file = *text ? text : NULL;
	return 0;
}

static int set_user(struct settings *s, const char *text)
{
	s->cfg.user = *text ? text : NULL;
	return 0;
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
	s->log_file = text;
	return 0;
}

static const struct option_row rows[] = {
	{ "port", "PORT", set_port, "TCP port (default 443 with a certificate, 80 without)" },
	{ "listen", "ADDR:PORT", set_listen, "listen on this address and port instead" },
	{ "disable-legacy-port", NULL, set_legacy, "do not listen on 10000, where old agents connect" },
	{ "cert-file", "FILE", set_cert, "certificate and its intermediates, PEM; turns TLS on" },
	{ "cert-key", "FILE", set_key, "the certificate's private key, PEM" },
	{ "metrics-port", "PORT", set_metrics, "serve /metrics on this port of 127.0.0.1 (default: off)" },
	{ "user", "NAME", set_user, "become this user once the ports are open" },
	{ "log-level", "LEVEL", set_log_level, "error, warn, info (default), debug, trace" },
	{ "log-file", "FILE", set_log_file, "append to FILE; console (default): stderr" },
	{ "letsencrypt-domain", "NAME", NULL, NO_ACME },
	{ "letsencrypt-email", "TEXT", NULL, NO_ACME },
	{ "letsencrypt-data-dir", "DIR", NULL, NO_ACME },
	{ "ssl-dir", "DIR", NULL, NO_ACME },
};

#define NROWS (sizeof rows / sizeof *rows)

static void help(FILE *out)
{
	fputs("Usage: netbird-signal [run] [OPTION]...\n\n"
	      "The signal server: carries sealed messages between peers that are connecting. Each option can be given\n"
	      "as a variable, too: --cert-file is NB_CERT_FILE. SIGHUP reads the certificate again.\n\n",
	      out);
	for (size_t i = 0; i < NROWS; i++) {
		char left[64];

		if (!rows[i].set)
			continue;
		snprintf(left, sizeof left, "--%s%s%s", rows[i].name, rows[i].value ? " " : "",
			 rows[i].value ? rows[i].value : "");
		fprintf(out, "  %-26s %s\n", left, rows[i].help);
	}
}

/* Apply one value; where is how the user gave it. Scripts pass empty values for what they do not use. */
static int apply(struct settings *s, const struct option_row *row, const char *where, const char *text)
{
	if (!row->set) {
		if (!*text)
			return 0;
		fprintf(stderr, "netbird-signal: %s: %s\n", where, row->help);
		return EXIT_USAGE;
	}
	if (!row->set(s, text))
		return 0;
	fprintf(stderr, "netbird-signal: %s: \"%s\" is not usable: expected %s: see --help\n", where, text,
		row->value ? row->value : "true or false");
	return EXIT_USAGE;
}

static const char *variable(char *out, size_t cap, const char *name)
{
	size_t n = (size_t)snprintf(out, cap, "NB_%s", name);

	for (size_t i = 3; i < n && i < cap; i++)
		out[i] = out[i] == '-' ? '_' : (char)toupper((unsigned char)out[i]);
	return out;
}

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

/* Returns -1 to go on, else the exit status. */
static int apply_flags(struct settings *s, int argc, char **argv, bool given[NROWS])
{
	struct option longs[NROWS + 3] = { 0 };
	int index, c;

	for (size_t i = 0; i < NROWS; i++)
		longs[i] = (struct option){ rows[i].name, rows[i].value ? required_argument : optional_argument,
					    NULL, 0 };
	longs[NROWS] = (struct option){ "help", no_argument, NULL, 'h' };
	longs[NROWS + 1] = (struct option){ "version", no_argument, NULL, 'v' };
	optind = 1;
	while ((c = getopt_long(argc, argv, "hv", longs, &index)) != -1) {
		char where[64];

		if (c == 'h') {
			help(stdout);
			return EXIT_SUCCESS;
		}
		if (c == 'v') {
			printf("netbird-signal version %s\n", NB_COMPAT);
			return EXIT_SUCCESS;
		}
		if (c == '?')
			return EXIT_USAGE;
		given[index] = true;
		snprintf(where, sizeof where, "--%s", rows[index].name);
		if (apply(s, &rows[index], where, optarg ? optarg : "true"))
			return EXIT_USAGE;
	}
	/* stock's subcommand word */
	if (optind < argc && !strcmp(argv[optind], "run"))
		optind++;
	if (optind < argc) {
		fprintf(stderr, "netbird-signal: %s: unexpected argument: see --help\n", argv[optind]);
		return EXIT_USAGE;
	}
	return -1;
}

static int open_log(const char *path)
{
	int fd;

	if (!path || !*path || !strcmp(path, "console"))
		return 0;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (fd < 0) {
		fprintf(stderr, "netbird-signal: cannot write the log file %s: %s: name another with --log-file\n",
			path, strerror(errno));
		return EXIT_USAGE;
	}
	nb_log_set_fd(fd);
	return 0;
}

int signal_main(int argc, char **argv)
{
	static struct settings s;
	bool given[NROWS] = { false };
	int r;

	nb_log_set_level(NB_LOG_INFO);
	r = apply_flags(&s, argc, argv, given);
	if (r >= 0)
		return r;
	if (apply_environment(&s, given))
		return EXIT_USAGE;
	if (!s.cfg.cert_file != !s.cfg.key_file) {
		fputs("netbird-signal: a certificate needs its key: give both --cert-file and --cert-key\n", stderr);
		return EXIT_USAGE;
	}
	if (open_log(s.log_file))
		return EXIT_USAGE;
	return run_sigserver_main(&s.cfg);
}
