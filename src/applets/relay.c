/* relay.c - options of the relay.
 * Stock's flags of what is not built are known and refused with a reason, so that a deployment never believes to
 * have what is not there. spec/relay-protocol.md 8.1. Tests: tests/net/test_turn_interop.py, tests/net/test_relay.py */
#include "applets/applet.h"

#include "applets/options.h"
#include "base/err.h"
#include "base/log.h"
#include "run/relay_main.h"

#include <stdio.h>
#include <string.h>

APPLET(relay, relay_main, "netbird-relay", "NetBird relay, STUN and TURN server")

#define WHO "netbird-relay"
#define LETS_ENCRYPT "certificates are not fetched by this program: use --tls-cert-file and --tls-key-file"
#define PORT_DEFAULT 443

struct settings {
	struct run_relay_main_config run;
	struct relay_config cfg;
	const char *exposed, *log_file;
	bool enable_stun;
	char user[64];
};

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

static int set_health(void *to, const char *text)
{
	struct settings *s = to;
	int r = set_endpoint(&s->run.health, text);

	/* Who names no address gets the loopback one: what is said there is not for strangers. */
	if (r == 0 && !s->run.health.addr.family)
		s->run.health.addr = nb_addr4(0x7f000001);
	return r;
}

static int set_stun_ports(void *to, const char *text)
{
	return relay_set_stun_ports(&((struct settings *)to)->cfg, text);
}

APP_SETTER(struct settings, set_listen, set_endpoint(&s->run.listen, text))
APP_SETTER(struct settings, set_metrics, relay_set_metrics(&s->run.metrics, text))
APP_SETTER(struct settings, set_exposed, app_set_text(&s->exposed, text))
APP_SETTER(struct settings, set_auth_secret, relay_set_text(s->cfg.auth_secret, sizeof s->cfg.auth_secret, text))
APP_SETTER(struct settings, set_cert, app_set_text(&s->run.cert_file, text))
APP_SETTER(struct settings, set_key, app_set_text(&s->run.key_file, text))
APP_SETTER(struct settings, set_user, relay_set_text(s->user, sizeof s->user, text))
APP_SETTER(struct settings, set_enable_stun, app_set_bool(&s->enable_stun, text))
APP_SETTER(struct settings, set_log_file, app_set_text(&s->log_file, text))

static const struct app_option rows[] = {
	{ "listen-address", 'l', 0, "ADDR:PORT", set_listen, "TCP address of the relay protocol (default :443)" },
	{ "exposed-address", 'e', 0, "URL", set_exposed, "how clients reach it: [rel[s]://]HOST[:PORT]" },
	{ "auth-secret", 's', 0, "TEXT", set_auth_secret, "the secret shared with the management server" },
	{ "tls-cert-file", 'c', 0, "FILE", set_cert,
	  "TLS certificate chain (PEM), for TURN over TLS, too; read again when it changes" },
	{ "tls-key-file", 'k', 0, "FILE", set_key, "its private key" },
	{ "health-listen-address", 'H', 0, "ADDR:PORT", set_health,
	  "serve /health there (:PORT: on loopback; default: off)" },
	{ "metrics-port", 0, 0, "[ADDR:]PORT", set_metrics, "serve /metrics there (PORT: on loopback; default: off)" },
	{ "user", 0, 0, "NAME", set_user, "become this user once the ports are open" },
	{ "enable-stun", 0, 0, NULL, set_enable_stun, "serve STUN also without TURN credentials" },
	{ "stun-ports", 0, 0, "PORT,...", set_stun_ports, "the same as --turn-listen :PORT,..." },
	{ "stun-log-level", 0, 0, "LEVEL", app_set_log_level, "the same as --log-level" },
	{ "log-level", 0, 0, "LEVEL", app_set_log_level, "error, warn, info (default), debug, trace" },
	{ "log-file", 0, 0, "FILE", set_log_file, "append to FILE instead of stderr; console: stderr" },
	{ "letsencrypt-domains", 'a', 0, "NAME,...", NULL, LETS_ENCRYPT },
	{ "letsencrypt-data-dir", 'd', 0, "DIR", NULL, LETS_ENCRYPT },
	{ "letsencrypt-email", 0, 0, "TEXT", NULL, LETS_ENCRYPT },
	{ "letsencrypt-aws-route53", 0, 0, NULL, NULL, LETS_ENCRYPT },
	/* Proxies only change the address that stock logs, and addresses of clients are not logged here. */
	{ "trusted-proxies", 0, 0, "CIDR,...", app_ignore, "accepted for stock's sake: client addresses are not logged" },
};

/* What belongs together. */
static int check_protocol(struct settings *s)
{
	bool tls = s->run.cert_file != NULL;

	if (!s->run.cert_file != !s->run.key_file) {
		fputs(WHO ": --tls-cert-file and --tls-key-file belong together: give both\n", stderr);
		return EXIT_USAGE;
	}
	if (!s->exposed != !s->cfg.auth_secret[0]) {
		fputs(WHO ": --exposed-address and --auth-secret belong together: give both\n", stderr);
		return EXIT_USAGE;
	}
	if (!s->exposed)
		return 0;
	switch (relay_set_url(&s->cfg, s->exposed, tls)) {
	case 0:
		break;
	case NB_E_DENIED:
		fputs(WHO ": --exposed-address: rel:// is without TLS, but there is a certificate: write rels://\n", stderr);
		return EXIT_USAGE;
	default:
		fputs(WHO ": --exposed-address: not usable: expected [rel[s]://]HOST[:PORT]\n", stderr);
		return EXIT_USAGE;
	}
	if (!s->run.listen.port)
		s->run.listen.port = PORT_DEFAULT;
	return 0;
}

int relay_main(int argc, char **argv)
{
	static struct settings s;
	const struct app_command command = {
		.who = WHO,
		.usage = "Usage: netbird-relay [OPTION]...\n\n"
			 "The NetBird relay protocol, and STUN and TURN over UDP, TCP and TLS.\n",
		.tables = { { rows, sizeof rows / sizeof *rows, &s }, { app_relay_rows, app_relay_nrows, &s.cfg } },
	};
	int r;

	nb_log_set_level(NB_LOG_INFO);
	relay_config_default(&s.cfg);
	r = app_read(&command, argc, argv);
	if (r >= 0)
		return r;
	if (app_open_log(WHO, s.log_file) || check_protocol(&s))
		return EXIT_USAGE;
	s.cfg.no_udp = !relay_config_turn(&s.cfg) && !s.enable_stun;
	if (s.cfg.no_udp && !s.cfg.url[0]) {
		fputs(WHO ": nothing to serve: give --exposed-address and --auth-secret for the NetBird relay protocol, "
		      "--turn-secret or --turn-user for TURN, or --enable-stun for STUN alone\n", stderr);
		return EXIT_USAGE;
	}
	s.run.relay = s.cfg;
	s.run.user = s.user[0] ? s.user : NULL;
	r = run_relay_main(&s.run);
	nb_wipe(&s, sizeof s);
	return r;
}
