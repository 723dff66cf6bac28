/* listen.c - see listen.h. A connection begins with a protocol of its own here, the sniffer, which looks
 * at the first bytes and hands the stream to TLS, HTTP/2 (run/h2.h) or HTTP/1.1 (web/http1.h).
 * Tests: tests/net/test_listener.py */
#include "run/listen.h"

#include "base/err.h"
#include "base/log.h"

#include "crypto/crypto.h"
#include "os/clock.h"
#include "os/socket.h"
#include "run/acceptor.h"
#include "run/h2.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CONNS 8192
#define MAX_PER_SOURCE 1024
#define FIRST_BYTE_NS (10 * NB_SEC)
#define RAW_BYTES 65536			/* memory of an HTTP/2 request beside its body */

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

struct conn {
	struct nb_list node;
	struct run_listener *l;
	struct run_stream *s;
	struct nb_endpoint peer;
	struct nb_time deadline;	/* of the sniffer */
	uint8_t first[sizeof preface - 1];
	size_t n_first;
	bool tls_tried;
	struct web_http1 *http1;
	struct run_h2 *h2;
};

struct run_listener {
	struct run_listener_config cfg;
	struct grpc_config grpc;
	struct web_handler web;
	struct grpc_raw_handler raw;
	struct run_acceptor acceptor;
	struct run_crowd crowd;
	struct run_timer grace;
	struct run_defer drained_defer;
	void (*drained)(void *ctx);
	void *drained_ctx;
	struct nb_list conns;
	bool closing;
};

/* The connection is over, or somebody else's. */
static void forget(struct conn *c)
{
	struct run_listener *l = c->l;

	nb_list_del(&c->node);
	run_crowd_leave(&l->crowd, &c->peer);
	free(c);
	if (l->closing && !l->crowd.count)
		run_defer_call(l->cfg.loop, &l->drained_defer);
}

static void debug_closed(const struct conn *c, const char *what, const char *why)
{
	char at[NB_ADDR_TEXT];

	if (!*why)
		return;
	nb_endpoint_format(at, &c->peer);
	nb_debug("%s connection from %s ended: %s", what, at, why);
}

/* --- HTTP/1.1 --------------------------------------------------------------------------------- */

static void http1_input(void *p, struct nb_bytes in, struct nb_time now)
{
	struct conn *c = p;

	web_http1_input(c->http1, in, now);
}

static bool http1_wants_input(void *p)
{
	struct conn *c = p;

	return web_http1_wants_input(c->http1);
}

static size_t http1_output(void *p, void *out, size_t cap, struct nb_time now)
{
	struct conn *c = p;

	return web_http1_output(c->http1, out, cap, now);
}

static struct nb_time http1_deadline(void *p)
{
	struct conn *c = p;

	return web_http1_deadline(c->http1);
}

static void http1_timer(void *p, struct nb_time now)
{
	struct conn *c = p;

	web_http1_timer(c->http1, now);
}

static bool http1_done(void *p)
{
	struct conn *c = p;

	return web_http1_done(c->http1);
}

static bool http1_turned(void *p, struct run_stream *s, struct nb_time now)
{
	struct conn *c = p;
	struct run_listener *l = c->l;
	struct web_http1 *h = c->http1;
	struct nb_bytes rest;
	void *user;

	if (!web_http1_upgraded(h, &user, &rest))
		return false;
	forget(c);
	run_stream_detach(s);
	l->cfg.upgraded(l->cfg.arg, user, s, rest, now);
	web_http1_free(h);
	return true;
}

static void http1_closed(void *p, const char *why, struct nb_time now)
{
	struct conn *c = p;

	(void)now;
	debug_closed(c, "HTTP/1.1", why);
	web_http1_free(c->http1);
	forget(c);
}

static const struct run_proto http1_proto = {
	.input = http1_input,
	.wants_input = http1_wants_input,
	.output = http1_output,
	.deadline = http1_deadline,
	.timer = http1_timer,
	.done = http1_done,
	.turned = http1_turned,
	.closed = http1_closed,
};

static void http1_wake(void *ctx)
{
	struct conn *c = ctx;

	run_stream_wake(c->s);
}

static int start_http1(struct conn *c, const struct web_handler *handler, struct nb_time now)
{
	struct web_http1_config cfg;
	int r;

	web_http1_config_default(&cfg);
	cfg.handler = handler;
	cfg.peer = c->peer;
	cfg.secure = run_stream_tls(c->s) != NULL;
	cfg.on_wake = http1_wake;
	cfg.ctx = c;
	r = web_http1_new(&c->http1, &cfg, now);
	if (r == 0)
		run_stream_attach(c->s, &http1_proto, c);
	return r;
}

static void no_handler(void *arg, struct web_call *call)
{
	(void)arg;
	web_respond_text(call, 404, "404 page not found\n");
}

static void use_https(void *arg, struct web_call *call)
{
	(void)arg;
	web_respond_text(call, 400, "this port speaks TLS: use https://\n");
}

static const struct web_handler https_only = { .request = use_https, .max_body = 65536 };

/* --- HTTP/2 ----------------------------------------------------------------------------------- */

static void h2_closed(void *ctx, const char *why)
{
	struct conn *c = ctx;

	debug_closed(c, "HTTP/2", why);
	forget(c);
}

static int start_h2(struct conn *c, struct nb_time now)
{
	struct grpc_config cfg = c->l->grpc;

	(void)now;
	cfg.peer = c->peer;
	cfg.raw = &c->l->raw;
	return run_h2_server(&c->h2, c->s, &cfg, h2_closed, c);
}

/* A plain request over HTTP/2, as a web_call. */
struct raw {
	struct web_call call;
	struct grpc_call *stream;
};

static void raw_free(struct raw *r)
{
	web_call_fini(&r->call);
	free(r);
}

static void raw_respond(struct web_call *call, const struct web_response *res)
{
	struct raw *r = nb_container(call, struct raw, call);
	struct grpc_meta meta[WEB_EXTRA_MAX];
	size_t n = 0;

	for (size_t i = 0; i < res->n_headers && n < WEB_EXTRA_MAX; i++)
		meta[n++] = (struct grpc_meta){ res->headers[i].name, res->headers[i].value };
	grpc_call_set_user(r->stream, NULL);
	if (grpc_raw_respond(r->stream, res->status, meta, n, res->body))
		grpc_call_cancel(r->stream);
	raw_free(r);
}

static const struct web_transport raw_transport = { .respond = raw_respond };

static struct nb_bytes raw_keep(struct raw *r, struct nb_bytes in)
{
	char *p = nb_arena_strndup(&r->call.mem, (const char *)in.p, in.n);

	return nb_bytes(p, p ? in.n : 0);
}

static int raw_fill(struct raw *r, const struct grpc_raw_request *in)
{
	struct web_request *req = &r->call.req;
	struct web_header *headers = nb_arena_alloc(&r->call.mem, (in->n_headers + 1) * sizeof *headers);
	const uint8_t *mark;

	if (!headers)
		return NB_E_NOMEM;
	for (size_t i = 0; i < in->n_headers; i++) {
		headers[i].name = raw_keep(r, in->headers[i].name);
		headers[i].value = raw_keep(r, in->headers[i].value);
	}
	req->headers = headers;
	req->n_headers = in->n_headers;
	req->method = raw_keep(r, in->method);
	req->host = raw_keep(r, in->authority);
	req->path = raw_keep(r, in->path);
	req->body = raw_keep(r, in->body);
	if (!req->path.p || (in->body.n && !req->body.n))
		return NB_E_NOMEM;
	mark = memchr(req->path.p, '?', req->path.n);
	if (mark) {
		size_t n = (size_t)(mark - req->path.p);

		req->query = nb_bytes(mark + 1, req->path.n - n - 1);
		req->path.n = n;
	}
	return 0;
}

static void raw_request(void *arg, struct grpc_call *stream, const struct grpc_raw_request *req)
{
	struct run_listener *l = arg;
	const struct run_h2 *h2 = grpc_conn_user(grpc_call_conn(stream));
	struct raw *r = calloc(1, sizeof *r);

	if (!r) {
		(void)grpc_raw_respond(stream, 503, NULL, 0, nb_bytes(NULL, 0));
		return;
	}
	web_call_init(&r->call, &raw_transport, NULL, l->web.max_body + RAW_BYTES);
	r->stream = stream;
	r->call.req.peer = grpc_call_peer(stream);
	r->call.req.secure = run_h2_secure(h2);
	if (raw_fill(r, req)) {
		raw_free(r);
		(void)grpc_raw_respond(stream, 503, NULL, 0, nb_bytes(NULL, 0));
		return;
	}
	grpc_call_set_user(stream, r);
	l->web.request(l->web.arg, &r->call);
}

static void raw_end(void *arg, struct grpc_call *stream, void *user)
{
	struct raw *r = user;

	(void)arg, (void)stream;
	if (!r)
		return;
	if (r->call.on_gone)
		r->call.on_gone(&r->call);
	raw_free(r);
}

/* --- the first bytes -------------------------------------------------------------------------- */

static void give_first(struct conn *c, struct nb_bytes rest, struct nb_time now)
{
	struct nb_bytes first = nb_bytes(c->first, c->n_first);

	if (c->h2) {
		run_h2_input(c->h2, first, now);
		run_h2_input(c->h2, rest, now);
	} else {
		web_http1_input(c->http1, first, now);
		web_http1_input(c->http1, rest, now);
		run_stream_wake(c->s);
	}
}

/* Cleartext on a port that has certificates and is not meant to serve both. */
static bool cleartext_refused(const struct conn *c)
{
	return c->l->cfg.certs && !c->l->cfg.cleartext_too && !run_stream_tls(c->s);
}

/* Enough is known. Returns 0 or an error that ends the connection. */
static int choose(struct conn *c, bool h2, struct nb_time now)
{
	if (cleartext_refused(c))
		return h2 ? NB_E_PROTO : start_http1(c, &https_only, now);
	if (h2)
		return c->l->cfg.grpc ? start_h2(c, now) : NB_E_PROTO;
	return start_http1(c, &c->l->web, now);
}

static int start_tls(struct conn *c, struct nb_bytes in)
{
	static const char *const both[NBC_TLS_ALPN_MAX] = { "h2", "http/1.1" };
	static const char *const one[NBC_TLS_ALPN_MAX] = { "http/1.1" };
	struct nbc_tls *tls;
	int r;

	r = run_certs_server_tls(c->l->cfg.certs, &tls, c->l->cfg.grpc ? both : one);
	if (r)
		return r;
	c->tls_tried = true;
	c->deadline = NB_TIME_NEVER;
	run_stream_start_tls(c->s, tls, in);
	return 0;
}

static void sniff_opened(void *p, struct run_stream *s, struct nb_time now)
{
	struct conn *c = p;
	const struct nbc_tls *tls = run_stream_tls(s);
	const char *alpn = tls ? nbc_tls_alpn(tls) : "";
	int r = 0;

	c->deadline = nb_time_add(now, FIRST_BYTE_NS);
	if (!strcmp(alpn, "h2"))
		r = choose(c, true, now);
	else if (!strcmp(alpn, "http/1.1"))
		r = choose(c, false, now);
	if (r)
		run_stream_abort(s, nb_strerror(r));
}

static void sniff_input(void *p, struct nb_bytes in, struct nb_time now)
{
	struct conn *c = p;
	size_t n = sizeof c->first - c->n_first;
	int r;

	if (!c->n_first && in.p[0] == 0x16 && c->l->cfg.certs && !c->tls_tried) {
		r = start_tls(c, in);
		if (r)
			run_stream_abort(c->s, nb_strerror(r));
		return;
	}
	if (n > in.n)
		n = in.n;
	memcpy(c->first + c->n_first, in.p, n);
	c->n_first += n;
	in = nb_bytes(in.p + n, in.n - n);
	if (memcmp(c->first, preface, c->n_first) == 0) {
		if (c->n_first < sizeof c->first)
			return;
		r = choose(c, true, now);
	} else {
		r = choose(c, false, now);
	}
	if (r)
		run_stream_abort(c->s, nb_strerror(r));
	else
		give_first(c, in, now);
}

static struct nb_time sniff_deadline(void *p)
{
	struct conn *c = p;

	return c->deadline;
}

static void sniff_timer(void *p, struct nb_time now)
{
	struct conn *c = p;

	(void)now;
	run_stream_abort(c->s, "no request came");
}

static void sniff_closed(void *p, const char *why, struct nb_time now)
{
	struct conn *c = p;

	(void)now;
	debug_closed(c, "new", why);
	forget(c);
}

static const struct run_proto sniff_proto = {
	.opened = sniff_opened,
	.input = sniff_input,
	.deadline = sniff_deadline,
	.timer = sniff_timer,
	.closed = sniff_closed,
};

/* --- accepting -------------------------------------------------------------------------------- */

static int add_conn(void *ctx, int fd, const struct nb_endpoint *peer)
{
	struct run_listener *l = ctx;
	struct run_stream_config sc = { .loop = l->cfg.loop, .fd = fd };
	struct conn *c = calloc(1, sizeof *c);

	if (!c || run_stream_new(&c->s, &sc, &sniff_proto, c)) {
		free(c);
		return NB_E_NOMEM;
	}
	c->l = l;
	c->peer = *peer;
	c->deadline = NB_TIME_NEVER;
	nb_list_push(&l->conns, &c->node);
	/* A client that lost its network is noticed as stock notices it. */
	os_keepalive(fd, 15, 15, 9);
	return 0;
}

/* --- face ------------------------------------------------------------------------------------- */

static void on_drained(void *ctx)
{
	struct run_listener *l = ctx;

	run_timer_stop(&l->grace);
	if (l->drained)
		l->drained(l->drained_ctx);
}

static void on_grace_over(void *ctx, struct nb_time now)
{
	struct run_listener *l = ctx;

	(void)now;
	nb_list_each(it, &l->conns)
		run_stream_abort(nb_container(it, struct conn, node)->s, "the server is stopping");
}

static void defaults(struct run_listener *l, const struct run_listener_config *cfg)
{
	l->cfg = *cfg;
	if (!l->cfg.max_conns)
		l->cfg.max_conns = MAX_CONNS;
	if (!l->cfg.max_per_source)
		l->cfg.max_per_source = MAX_PER_SOURCE;
	if (cfg->grpc)
		l->grpc = *cfg->grpc;
	if (cfg->web)
		l->web = *cfg->web;
	else
		l->web = (struct web_handler){ .request = no_handler, .max_body = 65536 };
	l->raw = (struct grpc_raw_handler){ .request = raw_request, .end = raw_end, .arg = l,
					    .max_body = l->web.max_body };
}

int run_listener_new(struct run_listener **out, const struct run_listener_config *cfg, char why[NBC_TLS_WHY])
{
	struct run_listener *l = calloc(1, sizeof *l);
	char at[NB_ADDR_TEXT];
	int r;

	if (!l) {
		snprintf(why, NBC_TLS_WHY, "%s", nb_strerror(NB_E_NOMEM));
		return NB_E_NOMEM;
	}
	defaults(l, cfg);
	run_crowd_init(&l->crowd, l->cfg.max_conns, l->cfg.max_per_source, "");
	r = run_acceptor_start(&l->acceptor, cfg->loop, &cfg->at, &l->crowd, add_conn, l);
	if (r) {
		nb_endpoint_format(at, &cfg->at);
		if (cfg->at.addr.family)
			snprintf(why, NBC_TLS_WHY, "cannot listen on %s: %s", at, os_why());
		else
			snprintf(why, NBC_TLS_WHY, "cannot listen on port %u: %s", cfg->at.port, os_why());
		run_crowd_fini(&l->crowd);
		free(l);
		return r;
	}
	nb_list_init(&l->conns);
	run_timer_init(&l->grace, cfg->loop, on_grace_over, l);
	run_defer_init(&l->drained_defer, on_drained, l);
	why[0] = 0;
	*out = l;
	return 0;
}

static void stop_accepting(struct run_listener *l)
{
	l->closing = true;
	run_acceptor_stop(&l->acceptor);
}

void run_listener_free(struct run_listener *l)
{
	if (!l)
		return;
	stop_accepting(l);
	while (!nb_list_empty(&l->conns)) {
		struct conn *c = nb_container(l->conns.next, struct conn, node);

		/* Ends its calls and comes back to forget(). */
		run_stream_close_now(c->s, "the server is stopping");
	}
	run_timer_stop(&l->grace);
	run_defer_cancel(&l->drained_defer);
	run_crowd_fini(&l->crowd);
	free(l);
}

void run_listener_shutdown(struct run_listener *l, int64_t grace_ns, void (*drained)(void *ctx), void *ctx)
{
	struct nb_time now = os_now();

	stop_accepting(l);
	l->drained = drained;
	l->drained_ctx = ctx;
	nb_list_each(it, &l->conns) {
		struct conn *c = nb_container(it, struct conn, node);

		if (c->h2)
			grpc_conn_shutdown(run_h2_conn(c->h2), grace_ns, now);
		else if (c->http1)
			web_http1_shutdown(c->http1);
		else
			run_stream_abort(c->s, "the server is stopping");
		run_stream_wake(c->s);
	}
	run_timer_set(&l->grace, nb_time_add(now, grace_ns));
	if (!l->crowd.count)
		run_defer_call(l->cfg.loop, &l->drained_defer);
}

struct nb_endpoint run_listener_endpoint(const struct run_listener *l)
{
	return l->acceptor.at;
}

size_t run_listener_count(const struct run_listener *l)
{
	return l->crowd.count;
}
