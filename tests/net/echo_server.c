/* echo_server.c - the listener under test: gRPC (test.Echo), web routes and a raw upgrade on one port.
 *
 *   echo_server [--cert FILE --key FILE] [--cleartext-too] [--max-conns N] [--no-grpc]
 *
 * Listens on 127.0.0.1, a port of the system's choice, and prints "port N". SIGHUP reads the certificate
 * again, SIGTERM stops gracefully and prints "drained". Routes: GET /hello, POST /echo, GET /later?ms=N,
 * GET /big?n=N, GET /whoami; GET /raw upgrades to an echo of bytes, GET /ws to one of WebSocket messages. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/log.h"
#include "crypto/crypto.h"
#include "os/clock.h"
#include "run/listen.h"
#include "run/ws.h"
#include "unit/grpc_echo_service.h"

static struct run_loop *loop;
static struct run_listener *listener;
static struct run_certs *certs;

/* --- routes ------------------------------------------------------------------------------------ */

static void hello(struct web_call *call, void *arg)
{
	(void)arg;
	web_respond_text(call, 200, "hello\n");
}

static void echo(struct web_call *call, void *arg)
{
	(void)arg;
	web_respond(call, 200, "application/octet-stream", call->req.body);
}

struct later {
	struct run_timer timer;
	struct web_call *call;
};

static void later_gone(struct web_call *call)
{
	struct later *l = call->user;

	run_timer_stop(&l->timer);
	free(l);
	puts("gone");
	fflush(stdout);
}

static void later_due(void *ctx, struct nb_time now)
{
	struct later *l = ctx;
	struct web_call *call = l->call;

	(void)now;
	free(l);
	web_respond_text(call, 200, "later\n");
}

static void later(struct web_call *call, void *arg)
{
	struct later *l = malloc(sizeof *l);
	const char *ms = web_query(call, "ms");

	(void)arg;
	if (!l)
		abort();
	l->call = call;
	call->user = l;
	call->on_gone = later_gone;
	run_timer_init(&l->timer, loop, later_due, l);
	run_timer_set(&l->timer, nb_time_add_ms(os_now(), ms ? atoi(ms) : 100));
}

static void big(struct web_call *call, void *arg)
{
	const char *n = web_query(call, "n");
	struct nb_buf b;
	size_t len = n ? (size_t)atol(n) : 0;

	(void)arg;
	nb_buf_init(&b, 64u << 20);
	if (nb_buf_reserve(&b, len ? len : 1)) {
		for (size_t i = 0; i < len; i++)
			b.p[i] = (uint8_t)('a' + i % 26);
		nb_buf_commit(&b, len);
	}
	web_respond(call, 200, "text/plain", nb_buf_view(&b));
	nb_buf_fini(&b);
}

static void whoami(struct web_call *call, void *arg)
{
	char at[NB_ADDR_TEXT], text[256];
	struct nb_bytes host = call->req.host;

	(void)arg;
	nb_addr_format(at, &call->req.peer.addr);
	snprintf(text, sizeof text, "%s %s %.*s\n", at, call->req.secure ? "tls" : "clear", (int)host.n,
		 (const char *)host.p);
	web_respond_text(call, 200, text);
}

static const struct web_route routes[] = {
	{ "GET /hello", hello, 0 }, { "POST /echo", echo, 0 }, { "GET /later", later, 0 },
	{ "GET /big", big, 0 }, { "GET /whoami", whoami, 0 },
};
static struct web_router router = { .routes = routes, .n = sizeof routes / sizeof *routes, .cors = true };

/* --- upgrade ----------------------------------------------------------------------------------- */

struct raw_echo {
	struct nb_buf out;
};

static void raw_input(void *p, struct nb_bytes in, struct nb_time now)
{
	struct raw_echo *r = p;

	(void)now;
	nb_buf_bytes(&r->out, in);
}

static bool raw_wants_input(void *p)
{
	struct raw_echo *r = p;

	return r->out.n < 65536;
}

static size_t raw_output(void *p, void *out, size_t cap, struct nb_time now)
{
	struct raw_echo *r = p;
	size_t n = r->out.n < cap ? r->out.n : cap;

	(void)now;
	if (n)
		memcpy(out, r->out.p, n);
	nb_buf_consume(&r->out, n);
	return n;
}

static void raw_closed(void *p, const char *why, struct nb_time now)
{
	struct raw_echo *r = p;

	(void)why, (void)now;
	nb_buf_fini(&r->out);
	free(r);
}

static const struct run_proto raw_proto = {
	.input = raw_input, .wants_input = raw_wants_input, .output = raw_output, .closed = raw_closed,
};

struct ws_echo {
	struct run_ws *ws;
};

static void ws_message(void *ctx, bool text, struct nb_bytes message)
{
	struct ws_echo *e = ctx;

	/* Text is not for us, as with the relay. */
	if (text)
		run_ws_close(e->ws, 1003);
	else
		(void)run_ws_send(e->ws, message);
}

static void ws_closed(void *ctx, const char *why)
{
	printf("ws closed \"%s\"\n", why);
	fflush(stdout);
	free(ctx);
}

static void upgrade(void *arg, struct web_call *call)
{
	static char as_raw[] = "raw", as_ws[] = "ws";

	(void)arg;
	if (nb_bytes_eq_str(call->req.path, "/ws")) {
		(void)web_ws_accept(call, as_ws);
		return;
	}
	if (!nb_bytes_eq_str(call->req.path, "/raw")) {
		web_respond_text(call, 404, "no such upgrade\n");
		return;
	}
	call->user = as_raw;
	web_set_header(call, "connection", "Upgrade");
	web_set_header(call, "upgrade", "websocket");
	web_respond(call, 101, NULL, nb_bytes(NULL, 0));
}

static void upgraded(void *arg, void *user, struct run_stream *s, struct nb_bytes rest, struct nb_time now)
{
	struct run_ws_config cfg = { .max_message = 1 << 20, .max_queue = 1 << 22, .message = ws_message,
				     .closed = ws_closed };
	struct raw_echo *r = calloc(1, sizeof *r);
	struct ws_echo *e = calloc(1, sizeof *e);

	(void)arg;
	if (!r || !e)
		abort();
	if (!strcmp(user, "ws")) {
		free(r);
		cfg.ctx = e;
		if (run_ws_server(&e->ws, s, &cfg, rest, now))
			abort();
		return;
	}
	free(e);
	nb_buf_init(&r->out, 1 << 20);
	run_stream_attach(s, &raw_proto, r);
	if (rest.n)
		raw_input(r, rest, now);
}

/* --- the program ------------------------------------------------------------------------------- */

static void on_hup(void *ctx, int signum)
{
	(void)ctx, (void)signum;
	if (certs)
		(void)run_certs_reload(certs);
}

static void on_drained(void *ctx)
{
	(void)ctx;
	puts("drained");
	run_loop_stop(loop);
}

static void on_term(void *ctx, int signum)
{
	(void)ctx, (void)signum;
	run_listener_shutdown(listener, 2 * NB_SEC, on_drained, NULL);
}

static int fail(const char *why)
{
	fprintf(stderr, "echo_server: %s\n", why);
	return 1;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "cert", required_argument, NULL, 'c' }, { "key", required_argument, NULL, 'k' },
		{ "cleartext-too", no_argument, NULL, 't' }, { "max-conns", required_argument, NULL, 'n' },
		{ "no-grpc", no_argument, NULL, 'g' }, { NULL, 0, NULL, 0 },
	};
	struct echo_stats stats = { 0 };
	struct grpc_service service = echo_service(&stats);
	struct web_handler web = { web_router_dispatch, upgrade, &router, 1 << 20 };
	struct run_listener_config cfg = { .web = &web, .upgraded = upgraded };
	const char *cert = NULL, *key = NULL;
	struct run_signal hup, term;
	struct grpc_config grpc;
	char why[NBC_TLS_WHY];
	int o;

	grpc_config_default(&grpc);
	grpc.services = &service;
	grpc.n_services = 1;
	cfg.grpc = &grpc;
	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (o == 'c')
			cert = optarg;
		else if (o == 'k')
			key = optarg;
		else if (o == 't')
			cfg.cleartext_too = true;
		else if (o == 'n')
			cfg.max_conns = (size_t)atol(optarg);
		else if (o == 'g')
			cfg.grpc = NULL;
		else
			return 2;
	}
	nb_log_set_level(NB_LOG_DEBUG);
	if (nbc_init() || run_loop_new(&loop))
		return fail("no random numbers or no loop");
	cfg.loop = loop;
	if (cert && run_certs_new(&certs, loop, cert, key ? key : cert, why))
		return fail(why);
	cfg.certs = certs;
	(void)nb_endpoint_parse(&cfg.at, "127.0.0.1:0");
	if (run_listener_new(&listener, &cfg, why))
		return fail(why);
	run_signal_start(&hup, loop, SIGHUP, on_hup, NULL);
	run_signal_start(&term, loop, SIGTERM, on_term, NULL);
	printf("port %u\n", run_listener_endpoint(listener).port);
	fflush(stdout);
	run_loop_run(loop);
	run_listener_free(listener);
	run_certs_free(certs);
	run_signal_stop(&hup);
	run_signal_stop(&term);
	run_loop_free(loop);
	return 0;
}
