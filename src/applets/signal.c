/* signal.c - options of the signal server: stock's flags and subcommand word. spec/signal-protocol.md 5.6.
 * Tests: tests/net/test_signal.py */
#include "applets/applet.h"

#include "applets/options.h"
#include "base/err.h"
#include "base/log.h"
#include "base/version.h"
#include "run/sigserver.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

APPLET(signal, signal_main, "netbird-signal", "message router between peers")

#define WHO "netbird-signal"
#define NO_ACME "automatic certificates are not supported by nestbox: get a certificate with an ACME client " \
	"such as lego or certbot and name it with --cert-file and --cert-key"

struct settings {
	struct run_sigserver_config cfg;
	const char *log_file;
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

static int set_port(void *to, const char *text)
{
	return read_port(&((struct settings *)to)->cfg.port, text);
}

static int set_listen(void *to, const char *text)
{
	struct settings *s = to;
	struct nb_endpoint at;

	s->cfg.listen = text;
	return nb_endpoint_parse(&at, text) ? NB_E_CONFIG : 0;
}

static int set_metrics(void *to, const char *text)
{
	struct settings *s = to;

	s->cfg.metrics_port = 0;
	return strcmp(text, "0") ? read_port(&s->cfg.metrics_port, text) : 0;
}

static int set_legacy(void *to, const char *text)
{
	return app_set_bool(&((struct settings *)to)->cfg.no_legacy, text);
}

#define TEXT_SETTER(fn, field) \
	static int fn(void *to, const char *text) \
	{ \
		((struct settings *)to)->field = *text ? text : NULL; \
		return 0; \
	}
TEXT_SETTER(set_cert, cfg.cert_file)
TEXT_SETTER(set_key, cfg.key_file)
TEXT_SETTER(set_user, cfg.user)
TEXT_SETTER(set_log_file, log_file)

static const struct app_option rows[] = {
	{ "port", 0, 0, "PORT", set_port, "TCP port (default 443 with a certificate, 80 without)" },
	{ "listen", 0, 0, "ADDR:PORT", set_listen, "listen on this address and port instead" },
	{ "disable-legacy-port", 0, 0, NULL, set_legacy, "do not listen on 10000, where old agents connect" },
	{ "cert-file", 0, 0, "FILE", set_cert, "certificate and its intermediates, PEM; turns TLS on" },
	{ "cert-key", 0, 0, "FILE", set_key, "the certificate's private key, PEM" },
	{ "metrics-port", 0, 0, "PORT", set_metrics, "serve /metrics on this port of 127.0.0.1 (default: off)" },
	{ "user", 0, 0, "NAME", set_user, "become this user once the ports are open" },
	{ "log-level", 0, 0, "LEVEL", app_set_log_level, "error, warn, info (default), debug, trace" },
	{ "log-file", 0, 0, "FILE", set_log_file, "append to FILE; console (default): stderr" },
	{ "letsencrypt-domain", 0, 0, "NAME", NULL, NO_ACME },
	{ "letsencrypt-email", 0, 0, "TEXT", NULL, NO_ACME },
	{ "letsencrypt-data-dir", 0, 0, "DIR", NULL, NO_ACME },
	{ "ssl-dir", 0, 0, "DIR", NULL, NO_ACME },
};

int signal_main(int argc, char **argv)
{
	static struct settings s;
	const struct app_command command = {
		.who = WHO,
		.usage = "Usage: netbird-signal [run] [OPTION]...\n\n"
			 "The signal server: carries sealed messages between peers that are connecting.\n"
			 "SIGHUP reads the certificate again.\n",
		.word = "run",
		.version = NB_COMPAT,
		.tables = { { rows, sizeof rows / sizeof *rows, &s } },
	};
	int r;

	nb_log_set_level(NB_LOG_INFO);
	r = app_read(&command, argc, argv);
	if (r >= 0)
		return r;
	if (!s.cfg.cert_file != !s.cfg.key_file) {
		fputs(WHO ": a certificate needs its key: give both --cert-file and --cert-key\n", stderr);
		return EXIT_USAGE;
	}
	if (app_open_log(WHO, s.log_file))
		return EXIT_USAGE;
	return run_sigserver_main(&s.cfg);
}
