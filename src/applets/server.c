/* server.c - options of the servers that clients join: management, signal and relay in one process, or management
 * alone. Flags, NB_ variables (a flag beats its variable), help. Stock's flags are known: those without meaning here
 * are accepted silently or refused with a reason. management-domain.md section 6.
 * Tests: tests/net/test_management.py */
#include "applets/applet.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/version.h"
#include "mgmt/config.h"
#include "run/server.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

APPLET(server, server_main, "netbird-server", "management, signal and relay in one process")
APPLET(management, management_main, "netbird-mgmt", "management server")

#define EXIT_USAGE 2
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

struct option_row {
	const char *name;
	unsigned where;			/* commands that have it */
	const char *value;		/* what the help calls it; NULL: a switch, =false allowed */
	int (*set)(struct settings *s, const char *text);
	const char *help;		/* NULL: accepted for stock's sake, not listed */
};

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

static int set_bool(bool *out, const char *text)
{
	*out = strcmp(text, "true") == 0;
	return *out || strcmp(text, "false") == 0 ? 0 : NB_E_CONFIG;
}

static int set_disable_legacy(struct settings *s, const char *text)
{
	bool off;
	int rc = set_bool(&off, text);

	s->legacy_port = !off;
	return rc;
}

static int set_api_limit(struct settings *s, const char *text)
{
	return set_bool(&s->run.api_limit, text);
}

static int set_api_rpm(struct settings *s, const char *text)
{
	return relay_set_number(&s->run.api_rpm, 1, 1000000, text);
}

static int set_api_burst(struct settings *s, const char *text)
{
	return relay_set_number(&s->run.api_burst, 1, 1000000, text);
}

static int set_token(struct settings *s, const char *text)
{
	return set_bool(&s->token, text);
}

#define TEXT_SETTER(fn, field) \
	static int fn(struct settings *s, const char *text) \
	{ \
		s->field = text; \
		return *text ? 0 : NB_E_CONFIG; \
	}
TEXT_SETTER(set_data_dir, run.data_dir)
TEXT_SETTER(set_url, run.external_url)
TEXT_SETTER(set_cert, run.cert_file)
TEXT_SETTER(set_key, run.key_file)
TEXT_SETTER(set_user, run.user)
TEXT_SETTER(set_dns_domain, run.mgmt.dns_domain)
TEXT_SETTER(set_log_file, log_file)
TEXT_SETTER(set_config, config)
TEXT_SETTER(set_email, email)
TEXT_SETTER(set_name, name)
TEXT_SETTER(set_password, password)

static int set_log_level(struct settings *s, const char *text)
{
	enum nb_log_level level;

	if (nb_log_level_parse(&level, text))
		return NB_E_CONFIG;
	s->level_given = true;
	nb_log_set_level(level);
	return 0;
}

static int set_relay_protocol(struct settings *s, const char *text)
{
	return set_bool(&s->run.relay_protocol, text);
}

static int set_relay_ports(struct settings *s, const char *text)
{
	return relay_set_ports(&s->run.relay_config, text);
}

static int set_turn_listen(struct settings *s, const char *text)
{
	return relay_set_listen(&s->run.relay_config, text);
}

static int set_turn_tcp(struct settings *s, const char *text)
{
	return relay_set_tcp(&s->run.relay_config, text);
}

static int set_metrics(struct settings *s, const char *text)
{
	return relay_set_metrics(&s->run.metrics, text);
}

static int set_alt_port(struct settings *s, const char *text)
{
	return relay_set_alt_port(&s->run.relay_config, text);
}

static int set_alt_ip(struct settings *s, const char *text)
{
	return relay_set_alt_ip(&s->run.relay_config, text);
}

static int set_turn_secret(struct settings *s, const char *text)
{
	return relay_set_text(s->run.relay_config.secret, sizeof(s->run.relay_config.secret), text);
}

static int set_external_ip(struct settings *s, const char *text)
{
	return relay_set_external(&s->run.relay_config, text);
}

static int set_allow_peer(struct settings *s, const char *text)
{
	return relay_set_allow(&s->run.relay_config, text);
}

/* For options that change nothing here: their feature does not exist and is never used. */
static int ignore(struct settings *s, const char *text)
{
	(void)s, (void)text;
	return 0;
}

static const struct option_row rows[] = {
	{ "config", BOTH, "FILE", set_config, "stock's config.yaml (netbird-server) or management.json (netbird-mgmt)" },
	{ "data-dir", BOTH | SETUP, "DIR", set_data_dir, "where accounts are kept (default " DEFAULT_DATA_DIR ")" },
	{ "datadir", BOTH | SETUP, "DIR", set_data_dir, NULL },
	{ "listen", BOTH, "ADDR:PORT,...", set_listen, "TCP addresses (default :443 with a certificate, else :8080)" },
	{ "port", MANAGEMENT, "PORT", set_port, "TCP port on every address (default 443 with a certificate, else 80)" },
	{ "external-url", BOTH, "URL", set_url, "how clients reach us: http[s]://HOST[:PORT]" },
	{ "cert-file", BOTH, "FILE", set_cert, "TLS certificate chain (PEM); read again when it changes" },
	{ "cert-key", BOTH, "FILE", set_key, "its private key" },
	{ "key-file", BOTH, "FILE", set_key, NULL },
	{ "user", BOTH | SETUP, "NAME", set_user, "become this user (default: the data directory's owner)" },
	{ "dns-domain", BOTH, "NAME", set_dns_domain, "domain of peer names (default netbird.selfhosted)" },
	{ "turn-listen", SERVER, "ADDR:PORT,...", set_turn_listen, "UDP addresses of STUN and TURN (default :3478)" },
	{ "turn-tcp-listen", SERVER, "ADDR:PORT,...", set_turn_tcp, "TCP addresses of both (default: the same; off: none)" },
	{ "stun-alt-port", SERVER, "PORT", set_alt_port, "second UDP port, for NAT discovery (default: the next one, if free)" },
	{ "stun-alt-ip", SERVER, "ADDR,...", set_alt_ip, "second address of this machine, for NAT discovery" },
	{ "turn-secret", SERVER, "TEXT", set_turn_secret, "shared secret of TURN credentials (default: made and kept here)" },
	{ "relay-protocol", SERVER, NULL, set_relay_protocol, "serve NetBird's relay protocol (default true)" },
	{ "relay-ports", SERVER, "LOW-HIGH|N", set_relay_ports, "ports of relayed addresses (default 256: 49152-49407)" },
	{ "external-ip", SERVER, "ADDR,...", set_external_ip, "addresses of relayed traffic when we are behind a NAT" },
	{ "allow-peer", SERVER, "CIDR,...", set_allow_peer, "peers to relay to although they are private or reserved" },
	{ "disable-legacy-port", MANAGEMENT, NULL, set_disable_legacy, "do not listen on port 33073, too" },
	{ "api-rate-limiting-enabled", BOTH, NULL, set_api_limit, "limit the REST requests of each token" },
	{ "api-rate-limiting-rpm", BOTH, "N", set_api_rpm, "to so many a minute (default 6)" },
	{ "api-rate-limiting-burst", BOTH, "N", set_api_burst, "and so many at once (default 500)" },
	{ "metrics-port", SERVER, "[ADDR:]PORT", set_metrics, "serve /metrics there (PORT: on loopback; default: off)" },
	{ "log-level", BOTH, "LEVEL", set_log_level, "error, warn, info (default), debug, trace" },
	{ "log-file", BOTH, "FILE", set_log_file, "append to FILE instead of stderr; console: stderr" },
	{ "email", SETUP, "ADDR", set_email, "the owner's e-mail address" },
	{ "name", SETUP, "TEXT", set_name, "the owner's name" },
	{ "password", SETUP, "TEXT", set_password, "the owner's password (better: NB_PASSWORD)" },
	{ "create-pat", SETUP, NULL, set_token, "also make a personal access token for one day" },
	{ "metrics-port", MANAGEMENT, "PORT", ignore, NULL },
	{ "disable-anonymous-metrics", BOTH, NULL, ignore, NULL },
	{ "disable-geolite-update", BOTH, NULL, ignore, NULL },
	{ "single-account-mode-domain", BOTH, "NAME", ignore, NULL },
	{ "idp-sign-key-refresh-enabled", BOTH, NULL, ignore, NULL },
	{ "user-delete-from-idp", BOTH, NULL, ignore, NULL },
};

#define NROWS (sizeof(rows) / sizeof(*rows))

static void help(const struct settings *s, unsigned where)
{
	if (where == SETUP)
		printf("Usage: %s setup [OPTION]...\n\nMake the first account in a data directory that no server holds.", s->who);
	else
		printf("Usage: %s [OPTION]...%s", s->who, where & BOTH ? "   or: setup [OPTION]...\n" : "\n");
	puts("\nEach option can be given as a variable, too: --data-dir is NB_DATA_DIR.\n");
	for (size_t i = 0; i < NROWS; i++) {
		char left[64];

		if (!rows[i].help || !(rows[i].where & where))
			continue;
		snprintf(left, sizeof(left), "--%s%s%s", rows[i].name, rows[i].value ? " " : "",
			 rows[i].value ? rows[i].value : "");
		printf("  %-28s %s\n", left, rows[i].help);
	}
}

static int apply(struct settings *s, const struct option_row *row, const char *where, const char *text)
{
	int rc = row->set(s, text);

	if (rc)
		fprintf(stderr, "%s: %s: not usable: expected %s: see --help\n", s->who, where,
			row->value ? row->value : "true or false");
	return rc ? EXIT_USAGE : 0;
}

static int apply_environment(struct settings *s, unsigned where, const bool given[NROWS])
{
	for (size_t i = 0; i < NROWS; i++) {
		char name[64];
		const char *text;
		int n = snprintf(name, sizeof(name), "NB_%s", rows[i].name);

		for (int k = 3; k < n; k++)
			name[k] = name[k] == '-' ? '_' : (char)toupper((unsigned char)name[k]);
		text = getenv(name);
		if (given[i] || !(rows[i].where & where) || !text || !*text)
			continue;
		if (apply(s, &rows[i], name, text))
			return EXIT_USAGE;
	}
	return 0;
}

/* Returns -1 to go on, else the exit status. */
static int apply_flags(struct settings *s, unsigned where, int argc, char **argv, bool given[NROWS])
{
	struct option longs[NROWS + 2] = { 0 };
	size_t index_of[NROWS], n = 0;
	int index, c;

	for (size_t i = 0; i < NROWS; i++)
		if (rows[i].where & where) {
			index_of[n] = i;
			longs[n++] = (struct option){ rows[i].name, rows[i].value ? required_argument : optional_argument,
						      NULL, 0 };
		}
	longs[n] = (struct option){ "help", no_argument, NULL, 'h' };
	optind = 1;
	while ((c = getopt_long(argc, argv, where & BOTH ? "hc:" : "h", longs, &index)) != -1) {
		char flag[64];

		if (c == 'h') {
			help(s, where);
			return 0;
		}
		if (c == 'c') {
			s->config = optarg;
			continue;
		}
		if (c == '?')
			return EXIT_USAGE;
		given[index_of[index]] = true;
		snprintf(flag, sizeof(flag), "--%s", rows[index_of[index]].name);
		if (apply(s, &rows[index_of[index]], flag, optarg ? optarg : "true"))
			return EXIT_USAGE;
	}
	if (optind < argc) {
		fprintf(stderr, "%s: %s: unexpected argument: see --help\n", s->who, argv[optind]);
		return EXIT_USAGE;
	}
	return -1;
}

static int parse(struct settings *s, unsigned where, int argc, char **argv)
{
	bool given[NROWS] = { false };
	int rc = apply_flags(s, where, argc, argv, given);

	if (rc >= 0)
		return rc;
	if (apply_environment(s, where, given))
		return EXIT_USAGE;
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
	    (f->metrics_port && !run->metrics.addr.family && set_metrics(s, f->metrics_port)) ||
	    (f->secret && relay_set_text(run->relay_config.auth_secret, sizeof(run->relay_config.auth_secret), f->secret)) ||
	    (f->metrics_port && !run->metrics.addr.family && set_metrics(s, f->metrics_port)) ||
	    (f->secret && !*run->relay_config.secret && set_turn_secret(s, f->secret))) {
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

static int open_log(const struct settings *s)
{
	int fd;

	if (!s->log_file || strcmp(s->log_file, "console") == 0)
		return 0;
	fd = open(s->log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (fd < 0) {
		fprintf(stderr, "%s: cannot write the log file %s: %s: name another with --log-file\n", s->who, s->log_file,
			strerror(errno));
		return EXIT_USAGE;
	}
	nb_log_set_fd(fd);
	return 0;
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
		rc = open_log(s);
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
