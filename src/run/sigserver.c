/* sigserver.c - see sigserver.h. */
#include "run/sigserver.h"

#include <signal.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/version.h"
#include "crypto/crypto.h"
#include "os/clock.h"
#include "os/priv.h"
#include "os/socket.h"
#include "os/udp.h"
#include "run/listen.h"
#include "run/wsproxy.h"
#include "signal/signal.h"

#define LISTENERS 3
#define TICK_NS (2 * NB_SEC)		/* how late a stalled recipient may be noticed */
#define SHUTDOWN_NS (3 * NB_SEC)
/* One signal stream and a few Sends at a time are all that a peer needs. */
#define STREAMS_MAX 100
#define WINDOW (64 << 10)
#define BUFFERED_MAX (2 << 20)
#define BUDGET (64 << 20)		/* of all connections together */

struct sigserver {
	const struct run_sigserver_config *cfg;
	struct run_loop *loop;
	struct run_certs *certs;
	struct signal_server *core;
	struct grpc_service service;
	struct grpc_budget budget;
	struct run_listener *listeners[LISTENERS];
	size_t n_listeners, drained;
	struct run_wsproxy *wsproxy;
	struct run_timer tick;
	bool stopping;
};

static void on_tick(void *ctx, struct nb_time now)
{
	struct sigserver *s = ctx;

	signal_timer(s->core, now);
	run_timer_set(&s->tick, nb_time_add(now, TICK_NS));
}

/* --- metrics --- */

static void metrics(struct web_call *call, void *arg)
{
	struct sigserver *s = arg;
	struct nb_buf b;

	nb_buf_init(&b, 65536);
	if (signal_metrics(s->core, &b, ""))
		web_respond_text(call, 503, "out of memory\n");
	else
		web_respond(call, 200, "text/plain; version=0.0.4; charset=utf-8", nb_buf_view(&b));
	nb_buf_fini(&b);
}

static const struct web_route routes[] = { { "GET /metrics", metrics, 0 } };

/* --- listeners --- */

static int add_listener(struct sigserver *s, const struct run_listener_config *lc, const char *what)
{
	char why[NBC_TLS_WHY], text[NB_ADDR_TEXT];
	struct nb_endpoint at;
	int r = run_listener_new(&s->listeners[s->n_listeners], lc, why);

	if (r) {
		nb_error("signal: %s", why);
		return r;
	}
	at = run_listener_endpoint(s->listeners[s->n_listeners++]);
	nb_endpoint_format(text, &at);
	nb_info("signal: %s on %s%s", what, text, lc->certs ? " (TLS)" : "");
	return 0;
}

static void on_request(void *arg, struct web_call *call)
{
	(void)arg;
	web_respond_text(call, 404, "404 page not found\n");
}

static void on_upgrade(void *arg, struct web_call *call)
{
	struct sigserver *s = arg;

	if (nb_bytes_eq_str(call->req.path, RUN_WSPROXY_SIGNAL))
		run_wsproxy_accept(s->wsproxy, call);
	else
		on_request(arg, call);
}

static void on_upgraded(void *arg, void *user, struct run_stream *stream, struct nb_bytes rest, struct nb_time now)
{
	(void)arg;
	run_wsproxy_serve(user, stream, rest, now);
}

static int listen_signal(struct sigserver *s, struct nb_endpoint at, const char *what)
{
	struct web_handler web = { .request = on_request, .upgrade = on_upgrade, .arg = s, .max_body = 1024 };
	struct run_listener_config lc = { .loop = s->loop, .at = at, .certs = s->certs, .web = &web, .upgraded = on_upgraded };
	struct grpc_config grpc;

	grpc_config_default(&grpc);
	grpc.services = &s->service;
	grpc.n_services = 1;
	grpc.max_streams = STREAMS_MAX;
	grpc.max_message = SIGNAL_MESSAGE_MAX;
	grpc.window = WINDOW;
	grpc.max_buffered = BUFFERED_MAX;
	grpc.budget = &s->budget;
	grpc.keepalive_ns = 30 * NB_SEC;
	lc.grpc = &grpc;
	if (!s->wsproxy && run_wsproxy_new(&s->wsproxy, s->loop, &grpc))
		return NB_E_NOMEM;
	return add_listener(s, &lc, what);
}

static int listen_metrics(struct sigserver *s, struct web_router *router)
{
	struct web_handler web = { web_router_dispatch, NULL, router, 1024 };
	struct run_listener_config lc = { .loop = s->loop, .web = &web };

	if (!s->cfg->metrics_port)
		return 0;
	lc.at.addr = nb_addr4(0x7f000001);
	lc.at.port = s->cfg->metrics_port;
	return add_listener(s, &lc, "metrics");
}

static int open_ports(struct sigserver *s, struct web_router *router)
{
	struct nb_endpoint at = { .port = s->cfg->port };
	int r;

	if (!at.port)
		at.port = s->certs ? 443 : 80;
	if (s->cfg->listen && nb_endpoint_parse(&at, s->cfg->listen)) {
		nb_error("signal: --listen %s: give ADDRESS:PORT", s->cfg->listen);
		return NB_E_CONFIG;
	}
	r = listen_signal(s, at, "serving");
	if (!r && !s->cfg->no_legacy && at.port != RUN_SIGSERVER_LEGACY_PORT) {
		at.port = RUN_SIGSERVER_LEGACY_PORT;
		r = listen_signal(s, at, "serving old agents");
		if (r)
			nb_error("signal: to do without the port of old agents, give --disable-legacy-port");
	}
	return r ? r : listen_metrics(s, router);
}

/* --- life --- */

static void on_drained(void *ctx)
{
	struct sigserver *s = ctx;

	if (++s->drained == s->n_listeners)
		run_loop_stop(s->loop);
}

static void on_stop(void *ctx, int signum)
{
	struct sigserver *s = ctx;

	(void)signum;
	if (s->stopping) {
		run_loop_stop(s->loop);	/* asked twice: at once */
		return;
	}
	s->stopping = true;
	nb_info("signal: stopping");
	signal_server_stop(s->core);
	run_wsproxy_shutdown(s->wsproxy, SHUTDOWN_NS);
	for (size_t i = 0; i < s->n_listeners; i++)
		run_listener_shutdown(s->listeners[i], SHUTDOWN_NS, on_drained, s);
}

static void on_reload(void *ctx, int signum)
{
	struct sigserver *s = ctx;

	(void)signum;
	if (s->certs)
		(void)run_certs_reload(s->certs);
}

static int prepare(struct sigserver *s)
{
	char why[NBC_TLS_WHY];
	uint8_t seed[16];
	int r = nbc_init();

	os_raise_descriptors(0);
	if (!r)
		r = run_loop_new(&s->loop);
	if (r)
		return r;
	nbc_random(NULL, seed, sizeof seed);
	r = signal_server_new(&s->core, seed, 0);
	if (r)
		return r;
	s->service = signal_service(s->core);
	if (!s->cfg->cert_file)
		return 0;
	r = run_certs_new(&s->certs, s->loop, s->cfg->cert_file, s->cfg->key_file, why);
	if (r)
		nb_error("signal: %s", why);
	return r;
}

static int serve(struct sigserver *s)
{
	struct run_signal term, intr, hup;

	if (s->cfg->user && os_become_user(s->cfg->user)) {
		nb_error("signal: cannot become user %s: %s: name an existing user and start as root",
			 s->cfg->user, os_why());
		return NB_E_PERM;
	}
	run_signal_start(&term, s->loop, SIGTERM, on_stop, s);
	run_signal_start(&intr, s->loop, SIGINT, on_stop, s);
	run_signal_start(&hup, s->loop, SIGHUP, on_reload, s);
	run_timer_init(&s->tick, s->loop, on_tick, s);
	run_timer_set(&s->tick, nb_time_add(os_now(), TICK_NS));
	nb_info("signal: started, nestbox %s (NetBird %s)", nb_version, NB_COMPAT);
	run_loop_run(s->loop);
	run_timer_stop(&s->tick);
	run_signal_stop(&term);
	run_signal_stop(&intr);
	run_signal_stop(&hup);
	return 0;
}

int run_sigserver_main(const struct run_sigserver_config *cfg)
{
	struct sigserver s = { .cfg = cfg, .budget.max = BUDGET };
	struct web_router router = { .routes = routes, .n = sizeof routes / sizeof *routes, .arg = &s };
	int r = prepare(&s);

	if (!r)
		r = open_ports(&s, &router);
	if (!r)
		r = serve(&s);
	for (size_t i = 0; i < s.n_listeners; i++)
		run_listener_free(s.listeners[i]);
	run_wsproxy_free(s.wsproxy);
	run_certs_free(s.certs);
	signal_server_free(s.core);
	run_loop_free(s.loop);
	return r ? EXIT_FAILURE : EXIT_SUCCESS;
}
