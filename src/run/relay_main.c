/* relay_main.c - see relay_main.h. */
#include "run/relay_main.h"

#include <signal.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "crypto/crypto.h"
#include "os/clock.h"
#include "os/priv.h"
#include "os/socket.h"
#include "run/listen.h"
#include "run/loop.h"
#include "run/metrics.h"
#include "run/relay.h"
#include "web/websocket.h"


struct relay_program {
	const struct run_relay_main_config *cfg;
	struct run_loop *loop;
	struct run_relay *relay;
	struct run_certs *certs;
	struct run_listener *listener, *health;
	struct run_metrics *metrics;
	struct run_signal term, intr, hup;
};

static int complain(const char *what, const char *next)
{
	nb_error("relay: %s: %s", what, next);
	return 1;
}

/* --- requests --- */

static void on_request(void *arg, struct web_call *call)
{
	(void)arg;
	web_respond_text(call, 404, "404 page not found\n");
}

static void on_upgrade(void *arg, struct web_call *call)
{
	if (nb_bytes_eq_str(call->req.path, RUN_RELAY_PATH))
		(void)web_ws_accept(call, arg);
	else
		on_request(arg, call);
}

static void on_upgraded(void *arg, void *user, struct run_stream *s, struct nb_bytes rest, struct nb_time now)
{
	struct relay_program *p = arg;

	(void)user, (void)now;
	run_relay_hand_over(p->relay, p->loop, s, rest);
}

/* Stock's answer; ours is healthy as long as it can give it. */
static void on_health(void *arg, struct web_call *call)
{
	const struct relay_program *p = arg;
	char at[NB_RFC3339_CAP], body[200];
	int n;

	if (!nb_bytes_eq_str(call->req.path, "/health")) {
		on_request(arg, call);
		return;
	}
	nb_wall_format(at, os_wall());
	n = snprintf(body, sizeof body, "{\"status\":\"healthy\",\"timestamp\":\"%s\",\"listeners\":%s,\"certificate_valid\":%s}\n",
		     at, p->listener ? "[\"ws\"]" : "[]", p->certs ? "true" : "false");
	web_respond(call, 200, "application/json", nb_bytes(body, (size_t)n));
}

static void write_metrics(void *ctx, struct nb_buf *b)
{
	struct relay_program *p = ctx;

	run_metrics_relay(b, p->relay);
}

/* --- start and stop --- */

static int open_listener(struct relay_program *p, struct run_listener **out, const struct nb_endpoint *at,
			 const struct web_handler *web, bool protocol)
{
	struct run_listener_config lc = { .loop = p->loop, .at = *at, .web = web, .arg = p };
	char why[NBC_TLS_WHY];

	if (protocol) {
		lc.certs = p->certs;
		lc.upgraded = on_upgraded;
	}
	if (run_listener_new(out, &lc, why))
		return complain(why, "stop the program that uses it, or choose another address");
	return 0;
}

static int open_listeners(struct relay_program *p)
{
	const struct run_relay_main_config *c = p->cfg;
	struct web_handler web = { .request = on_request, .upgrade = on_upgrade, .arg = p, .max_body = 1024 };
	struct web_handler health = { .request = on_health, .arg = p, .max_body = 1024 };
	struct run_metrics_config metrics = { .loop = p->loop, .at = c->metrics, .write = write_metrics, .ctx = p };
	char why[NBC_TLS_WHY];

	if (c->cert_file && run_certs_new(&p->certs, p->loop, c->cert_file, c->key_file, why))
		return complain(why, "name readable PEM files with --tls-cert-file and --tls-key-file");
	if (c->relay.url[0] && open_listener(p, &p->listener, &c->listen, &web, true))
		return 1;
	if (c->health.port && open_listener(p, &p->health, &c->health, &health, false))
		return 1;
	if (c->metrics.port && run_metrics_new(&p->metrics, &metrics, why))
		return complain(why, "stop the program that uses it, or choose another port with --metrics-port");
	return 0;
}

static void on_signal(void *ctx, int signum)
{
	struct relay_program *p = ctx;

	(void)signum;
	run_loop_stop(p->loop);
}

static void on_hup(void *ctx, int signum)
{
	struct relay_program *p = ctx;

	(void)signum;
	if (p->certs)
		run_certs_reload(p->certs);
}

static int serve(struct relay_program *p)
{
	char at[NB_ADDR_TEXT];
	struct nb_endpoint e;

	if (open_listeners(p) || run_relay_start(&p->relay, &p->cfg->relay, p->certs))
		return 1;
	if (p->cfg->user && os_become_user(p->cfg->user)) {
		nb_error("relay: cannot become user %s: %s: name an existing user and start as root", p->cfg->user, os_why());
		return 1;
	}
	if (p->listener) {
		e = run_listener_endpoint(p->listener);
		nb_endpoint_format(at, &e);
		nb_info("relay: listening on %s%s", at, p->certs ? " (TLS)" : "");
	}
	run_loop_run(p->loop);
	return 0;
}

static void finish(struct relay_program *p)
{
	run_listener_free(p->listener);
	run_listener_free(p->health);
	run_metrics_free(p->metrics);
	/* Tells the clients. */
	run_relay_stop(p->relay);
	run_certs_free(p->certs);
	run_signal_stop(&p->term);
	run_signal_stop(&p->intr);
	run_signal_stop(&p->hup);
	run_loop_free(p->loop);
}

int run_relay_main(const struct run_relay_main_config *cfg)
{
	struct relay_program p = { .cfg = cfg };
	int rc;

	if (nbc_init() || run_loop_new(&p.loop))
		return complain("cannot start", "no randomness or no event loop on this machine");
	run_signal_start(&p.term, p.loop, SIGTERM, on_signal, &p);
	run_signal_start(&p.intr, p.loop, SIGINT, on_signal, &p);
	run_signal_start(&p.hup, p.loop, SIGHUP, on_hup, &p);
	rc = serve(&p);
	finish(&p);
	return rc;
}
