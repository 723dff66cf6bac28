/* server.c - options of the servers that clients join: management, signal and relay in one process, or management
 * alone. Stock's flags are known: those without meaning here are accepted silently or refused with a reason.
 * management-domain.md section 6. Tests: tests/net/test_management.py */
#include "applets/applet.h"

#include "applets/options.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "mgmt/config.h"
#include "run/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

APPLET(server, server_main, "netbird-server", "management, signal and relay in one process")
APPLET(management, management_main, "netbird-mgmt", "management server")

#define DEFAULT_DATA_DIR "/var/lib/netbird"
#define MANAGEMENT_JSON "/etc/netbird/management.json"

struct settings {
	struct run_server_config run;
	const char *who;
	const char *email, *name, *password;	/* of `setup` */
	const char *log_file, *config;
	bool level_given;
	struct mgmt_file file;
	bool token, help, legacy_port, port_given;
	unsigned port;
};

enum { SERVER = 1, MANAGEMENT = 2, SETUP = 4, BOTH = SERVER | MANAGEMENT };

static int set_listen(struct settings *s, const char *text)
{
	char part[NB_ADDR_TEXT], full[NB_ADDR_TEXT + 8];
	const char *end;

	for (s->run.n_listen = 0; *text; text = *end ? end + 1 : end) {
		struct nb_endpoint *e = &s->run.listen[s->run.n_listen];

		end = text + strcspn(text, ",");
		if (s->run.n_listen == RUN_SERVER_LISTEN_MAX || (size_t)(end - text) >= sizeof(part))
			return NB_E_FULL;
		snprintf(part, sizeof(part), "%.*s", (int)(end - text), text);
		snprintf(full, sizeof(full), "0.0.0.0%s", part);
		if (part[0] == ':' ? nb_endpoint_parse(e, full) : nb_endpoint_parse(e, part))
			return NB_E_CONFIG;
		if (part[0] == ':')
			e->addr = (struct nb_addr){ 0 };
		s->run.n_listen++;
	}
	return s->run.n_listen ? 0 : NB_E_CONFIG;
}

static int set_port(struct settings *s, const char *text)
{
	uint32_t port;

	if (relay_set_number(&port, 1, 65535, text))
		return NB_E_CONFIG;
	s->port = port;
	s->port_given = true;
	return 0;
}

static int set_disable_legacy(struct settings *s, const char *text)
{
	bool off;
	int rc = app_set_bool(&off, text);

	s->legacy_port = !off;
	return rc;
}

static int set_log_level(struct settings *s, const char *text)
{
	s->level_given = true;
	return app_set_log_level(NULL, text);
}

APP_SETTER(struct settings, on_listen, set_listen(s, text))
APP_SETTER(struct settings, on_port, set_port(s, text))
APP_SETTER(struct settings, on_disable_legacy, set_disable_legacy(s, text))
APP_SETTER(struct settings, on_log_level, set_log_level(s, text))
APP_SETTER(struct settings, on_api_limit, app_set_bool(&s->run.api_limit, text))
APP_SETTER(struct settings, on_api_rpm, relay_set_number(&s->run.api_rpm, 1, 1000000, text))
APP_SETTER(struct settings, on_api_burst, relay_set_number(&s->run.api_burst, 1, 1000000, text))
APP_SETTER(struct settings, on_token, app_set_bool(&s->token, text))
APP_SETTER(struct settings, on_relay_protocol, app_set_bool(&s->run.relay_protocol, text))
APP_SETTER(struct settings, on_metrics, relay_set_metrics(&s->run.metrics, text))
APP_SETTER(struct settings, on_data_dir, app_set_text(&s->run.data_dir, text))
APP_SETTER(struct settings, on_url, app_set_text(&s->run.external_url, text))
APP_SETTER(struct settings, on_cert, app_set_text(&s->run.cert_file, text))
APP_SETTER(struct settings, on_key, app_set_text(&s->run.key_file, text))
APP_SETTER(struct settings, on_user, app_set_text(&s->run.user, text))
APP_SETTER(struct settings, on_dns_domain, app_set_text(&s->run.mgmt.dns_domain, text))
APP_SETTER(struct settings, on_log_file, app_set_text(&s->log_file, text))
APP_SETTER(struct settings, on_config, app_set_text(&s->config, text))
APP_SETTER(struct settings, on_email, app_set_text(&s->email, text))
APP_SETTER(struct settings, on_name, app_set_text(&s->name, text))
APP_SETTER(struct settings, on_password, app_set_text(&s->password, text))

static const struct app_option rows[] = {
	{ "config", 'c', BOTH, "FILE", on_config, "stock's config.yaml (netbird-server) or management.json (netbird-mgmt)" },
	{ "data-dir", 0, 0, "DIR", on_data_dir, "where accounts are kept (default " DEFAULT_DATA_DIR ")" },
	{ "datadir", 0, 0, "DIR", on_data_dir, NULL },
	{ "listen", 0, BOTH, "ADDR:PORT,...", on_listen, "TCP addresses (default :443 with a certificate, else :8080)" },
	{ "port", 0, MANAGEMENT, "PORT", on_port, "TCP port on every address (default 443 with a certificate, else 80)" },
	{ "external-url", 0, BOTH, "URL", on_url, "how clients reach us: http[s]://HOST[:PORT]" },
	{ "cert-file", 0, BOTH, "FILE", on_cert, "TLS certificate chain (PEM); read again when it changes" },
	{ "cert-key", 0, BOTH, "FILE", on_key, "its private key" },
	{ "key-file", 0, BOTH, "FILE", on_key, NULL },
	{ "user", 0, 0, "NAME", on_user, "become this user (default: the data directory's owner)" },
	{ "dns-domain", 0, BOTH, "NAME", on_dns_domain, "domain of peer names (default netbird.selfhosted)" },
	{ "relay-protocol", 0, SERVER, NULL, on_relay_protocol, "serve NetBird's relay protocol (default true)" },
	{ "disable-legacy-port", 0, MANAGEMENT, NULL, on_disable_legacy, "do not listen on port 33073, too" },
	{ "api-rate-limiting-enabled", 0, BOTH, NULL, on_api_limit, "limit the REST requests of each token" },
	{ "api-rate-limiting-rpm", 0, BOTH, "N", on_api_rpm, "to so many a minute (default 6)" },
	{ "api-rate-limiting-burst", 0, BOTH, "N", on_api_burst, "and so many at once (default 500)" },
	{ "metrics-port", 0, BOTH, "[ADDR:]PORT", on_metrics, "serve /metrics there (PORT: on loopback; default: off)" },
	{ "log-level", 0, BOTH, "LEVEL", on_log_level, "error, warn, info (default), debug, trace" },
	{ "log-file", 0, BOTH, "FILE", on_log_file, "append to FILE instead of stderr; console: stderr" },
	{ "email", 0, SETUP, "ADDR", on_email, "the owner's e-mail address" },
	{ "name", 0, SETUP, "TEXT", on_name, "the owner's name" },
	{ "password", 0, SETUP, "TEXT", on_password, "the owner's password (better: NB_PASSWORD)" },
	{ "create-pat", 0, SETUP, NULL, on_token, "also make a personal access token for one day" },
	/* Nothing here does what these turn off. */
	{ "disable-anonymous-metrics", 0, BOTH, NULL, app_ignore, NULL },
	{ "disable-geolite-update", 0, BOTH, NULL, app_ignore, NULL },
	{ "single-account-mode-domain", 0, BOTH, "NAME", app_ignore, NULL },
	{ "idp-sign-key-refresh-enabled", 0, BOTH, NULL, app_ignore, NULL },
	{ "user-delete-from-idp", 0, BOTH, NULL, app_ignore, NULL },
};

static int parse(struct settings *s, unsigned where, int argc, char **argv)
{
	char usage[200];
	struct app_command command = { .who = s->who, .usage = usage, .where = where,
				       .tables = { { rows, sizeof(rows) / sizeof(*rows), s } } };
	int rc;

	if (where == SETUP)
		snprintf(usage, sizeof(usage), "Usage: %s setup [OPTION]...\n\n"
			 "Make the first account in a data directory that no server holds.\n", s->who);
	else
		snprintf(usage, sizeof(usage), "Usage: %s [OPTION]...   or: setup [OPTION]...\n", s->who);
	if (where == SERVER)
		command.tables[1] = (struct app_options){ app_relay_rows, app_relay_nrows, &s->run.relay_config };
	rc = app_read(&command, argc, argv);
	if (rc >= 0)
		return rc;
	if (!s->run.cert_file != !s->run.key_file) {
		fprintf(stderr, "%s: --cert-file and --cert-key belong together: give both\n", s->who);
		return EXIT_USAGE;
	}
	return -1;
}

/* ---- configuration files: what neither a flag nor a variable said */

static int read_config(struct settings *s, struct nb_buf *b)
{
	bool asked = s->config != NULL;
	uint8_t *at;
	FILE *f;

	if (!asked)
		s->config = MANAGEMENT_JSON;
	f = fopen(s->config, "re");
	if (!f && !asked)
		return NB_E_NOTFOUND;
	at = f ? nb_buf_reserve(b, MGMT_FILE_MAX) : NULL;
	if (at)
		nb_buf_commit(b, fread(at, 1, MGMT_FILE_MAX, f));
	if (!f || !at || ferror(f)) {
		fprintf(stderr, "%s: cannot read %s: %s: check --config\n", s->who, s->config, strerror(errno));
		if (f)
			fclose(f);
		return NB_E_CONFIG;
	}
	fclose(f);
	return 0;
}

static const char *environment(const char *name)
{
	return getenv(name);
}

static void fill(const char **at, const char *value)
{
	if (!*at)
		*at = value;
}

/* Values of the file into what is still unset. */
static int adopt(struct settings *s, unsigned where)
{
	const struct mgmt_file *f = &s->file;
	struct run_server_config *run = &s->run;
	const char *domain = run->mgmt.dns_domain;
	enum nb_log_level level;

	fill(&run->data_dir, f->data_dir);
	fill(&run->external_url, f->external_url);
	if (!run->cert_file) {
		run->cert_file = f->cert_file;
		run->key_file = f->key_file;
	}
	fill(&s->log_file, f->log_file);
	run->mgmt = f->mgmt;
	run->mgmt.dns_domain = domain;
	if (where != SERVER)
		return 0;
	run->signal = !f->other_signal;
	run->relay = !f->other_stun;
	run->relay_protocol = run->relay_protocol && !f->other_relay;
	if (f->log_level && !s->level_given && nb_log_level_parse(&level, f->log_level) == 0)
		nb_log_set_level(level);
	if ((f->listen && !run->n_listen && set_listen(s, f->listen)) ||
	    (f->stun_ports && !run->relay_config.nlisten && relay_set_stun_ports(&run->relay_config, f->stun_ports)) ||
	    (f->metrics_port && !run->metrics.addr.family && relay_set_metrics(&run->metrics, f->metrics_port)) ||
	    (f->secret && relay_set_text(run->relay_config.auth_secret, sizeof(run->relay_config.auth_secret), f->secret)) ||
	    (f->secret && !*run->relay_config.secret &&
	     relay_set_text(run->relay_config.secret, sizeof(run->relay_config.secret), f->secret))) {
		fprintf(stderr, "%s: %s: listenAddress, stunPorts, metricsPort or authSecret is not usable\n", s->who, s->config);
		return EXIT_USAGE;
	}
	return 0;
}

static int apply_config(struct settings *s, unsigned where)
{
	struct nb_buf b;
	char why[300] = "";
	int rc;

	if (!s->config && where == SERVER)
		return 0;
	nb_buf_init(&b, MGMT_FILE_MAX);
	rc = read_config(s, &b);
	if (rc == 0)
		rc = where == SERVER ? mgmt_file_yaml(&s->file, nb_buf_view(&b), why, sizeof(why)) :
				       mgmt_file_json(&s->file, nb_buf_view(&b), environment, why, sizeof(why));
	nb_buf_fini(&b);
	if (rc == NB_E_NOTFOUND)
		return 0;
	if (rc) {
		if (*why)
			fprintf(stderr, "%s: %s: %s\n", s->who, s->config, why);
		return EXIT_USAGE;
	}
	return adopt(s, where);
}

static int run_setup(struct settings *s, int argc, char **argv)
{
	int rc = parse(s, SETUP, argc, argv);

	if (rc >= 0)
		return rc;
	fill(&s->run.data_dir, DEFAULT_DATA_DIR);
	if (!s->email || !s->password) {
		fprintf(stderr, "%s: setup needs --email and --password: see setup --help\n", s->who);
		return EXIT_USAGE;
	}
	return run_server_setup(&s->run, s->email, s->name ? s->name : s->email, s->password, s->token);
}

/* Stock's variables that are no options. */
static void apply_variables(struct settings *s)
{
	const char *syncs = getenv("NB_MAX_CONCURRENT_SYNCS"), *events = getenv("NB_EVENT_ACTIVITY_LOG_ENABLED");

	if (syncs && *syncs)
		s->run.mgmt.max_syncs = atoi(syncs);
	s->run.mgmt.no_events = events && *events && strcmp(events, "true") != 0;
}

static void add_port(struct settings *s, unsigned port)
{
	if (s->run.n_listen < RUN_SERVER_LISTEN_MAX)
		s->run.listen[s->run.n_listen++] = (struct nb_endpoint){ .port = (uint16_t)port };
}

static int start(struct settings *s, unsigned where, int argc, char **argv)
{
	unsigned standard;
	int rc;

	s->run.name = s->who;
	if (argc > 1 && strcmp(argv[1], "setup") == 0)
		return run_setup(s, argc - 1, argv + 1);
	rc = parse(s, where, argc, argv);
	if (rc >= 0)
		return rc;
	rc = apply_config(s, where);
	if (rc == 0)
		rc = app_open_log(s->who, s->log_file);
	if (rc)
		return rc;
	for (size_t i = 0; i < s->file.n_notes; i++)
		nb_warn("%s: %s", s->config, s->file.notes[i]);
	apply_variables(s);
	fill(&s->run.data_dir, DEFAULT_DATA_DIR);
	if (where == MANAGEMENT && !s->run.mgmt.signal_uri) {
		fprintf(stderr, "%s: no signal server to tell peers of: name it in management.json (\"Signal\") and give that with "
				"--config, or run netbird-server, which has one\n", s->who);
		return EXIT_USAGE;
	}
	standard = s->run.cert_file ? 443 : 80;
	if (where != SERVER && !s->run.n_listen)
		add_port(s, s->port_given ? s->port : standard);
	if (s->legacy_port)
		add_port(s, 33073);
	return run_server_main(&s->run);
}

static void prepare(struct settings *s, const char *who)
{
	memset(s, 0, sizeof(*s));
	run_server_config_default(&s->run);
	mgmt_file_init(&s->file);
	s->who = who;
	nb_log_set_level(NB_LOG_INFO);
}

/* Stock's subcommand words: `netbird-mgmt management ...`. */
static void skip_word(int *argc, char ***argv, const char *word)
{
	if (*argc > 1 && strcmp((*argv)[1], word) == 0) {
		(*argc)--;
		(*argv)++;
	}
}

int server_main(int argc, char **argv)
{
	static struct settings s;

	prepare(&s, "netbird-server");
	s.run.management = s.run.signal = s.run.relay = s.run.relay_protocol = true;
	return start(&s, SERVER, argc, argv);
}

int management_main(int argc, char **argv)
{
	static struct settings s;

	prepare(&s, "netbird-mgmt");
	s.run.management = true;
	s.legacy_port = true;
	skip_word(&argc, &argv, "management");
	return start(&s, MANAGEMENT, argc, argv);
}
