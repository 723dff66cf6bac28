/* dial.c - see dial.h. Addresses are tried one after the other, each with a share of the time left, so that
 * one dead address family does not eat it all. A TLS error ends the dial: other addresses of the name would
 * say the same. Tests: tests/unit/run_dial_test.c */
#include "run/dial.h"

#include "base/err.h"

#include "os/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_NS (30 * NB_SEC)
#define ATTEMPT_MIN_NS (3 * NB_SEC)

struct run_dial {
	struct run_dial_config cfg;
	char host[256];
	struct run_lookup *lookup;
	struct nb_addr addrs[RUN_RESOLVE_MAX];
	size_t n, next;
	int fd;
	struct run_io io;
	struct run_timer timer;
	struct run_stream *stream;
	struct nb_time deadline;
	int err;
	char why[NBC_TLS_WHY];
};

static void try_next(struct run_dial *d);

static void destroy(struct run_dial *d)
{
	run_resolve_cancel(d->lookup);
	run_io_set(&d->io, -1, 0);
	run_timer_stop(&d->timer);
	os_close(&d->fd);
	nbc_trust_unref(d->cfg.trust);
	free(d);
}

/* Over, without a stream. */
static void give_up(struct run_dial *d, int err, const char *why)
{
	void (*done)(void *ctx, struct run_stream *s, int err, const char *why) = d->cfg.done;
	void *ctx = d->cfg.ctx;
	char text[NBC_TLS_WHY];

	snprintf(text, sizeof text, "%s", why);
	destroy(d);
	done(ctx, NULL, err, text);
}

/* --- TLS --------------------------------------------------------------------------------------- */

static void stream_opened(void *p, struct run_stream *s, struct nb_time now)
{
	struct run_dial *d = p;
	const struct nbc_tls *tls = run_stream_tls(s);
	char why[NBC_TLS_WHY];

	(void)now;
	if (tls && d->cfg.alpn[0] && !*nbc_tls_alpn(tls)) {
		snprintf(why, sizeof why, "%s:%u does not offer %s over TLS (no ALPN): is it the right port?", d->host,
			 d->cfg.port, d->cfg.alpn[0]);
		d->err = NB_E_UNSUPPORTED;
		run_stream_abort(s, why);
		return;
	}
	d->cfg.done(d->cfg.ctx, s, 0, "");
	destroy(d);
}

static void stream_input(void *p, struct nb_bytes in, struct nb_time now)
{
	(void)p, (void)in, (void)now;
}

static bool stream_wants_input(void *p)
{
	(void)p;
	return false;
}

static void stream_closed(void *p, const char *why, struct nb_time now)
{
	struct run_dial *d = p;
	const struct nbc_tls *tls = run_stream_tls(d->stream);
	char text[NBC_TLS_WHY];

	if (!d->err && tls)
		d->err = nbc_tls_error(tls);
	if (!d->err && nb_time_due(d->deadline, now))
		d->err = NB_E_TIMEOUT;
	d->stream = NULL;
	if (strstr(why, d->host))
		snprintf(text, sizeof text, "%s", why);
	else
		snprintf(text, sizeof text, "%s:%u: %s", d->host, d->cfg.port, why);
	give_up(d, d->err ? d->err : NB_E_CLOSED, text);
}

static const struct run_proto dial_proto = {
	.opened = stream_opened,
	.input = stream_input,
	.wants_input = stream_wants_input,
	.closed = stream_closed,
};

/* --- TCP --------------------------------------------------------------------------------------- */

static void note_failure(struct run_dial *d, int err, const char *words)
{
	struct nb_endpoint e = { d->addrs[d->next - 1], d->cfg.port };
	char at[NB_ADDR_TEXT];

	nb_endpoint_format(at, &e);
	d->err = err;
	snprintf(d->why, sizeof d->why, "cannot connect to %s (%s): %s", d->host, at, words);
}

static void connected(struct run_dial *d)
{
	struct run_stream_config sc = { .loop = d->cfg.loop, .fd = d->fd };
	struct nbc_tls_client tc = { .trust = d->cfg.trust, .host = d->host, .now = os_wall() };
	int r = 0;

	run_io_set(&d->io, -1, 0);
	sc.handshake_ns = nb_time_diff(d->deadline, os_now());
	if (sc.handshake_ns < NB_SEC)
		sc.handshake_ns = NB_SEC;
	memcpy(tc.alpn, d->cfg.alpn, sizeof tc.alpn);
	if (d->cfg.trust)
		r = nbc_tls_client_new(&sc.tls, &tc);
	if (r == 0)
		r = run_stream_new(&d->stream, &sc, &dial_proto, d);
	if (r) {
		nbc_tls_free(sc.tls);
		give_up(d, r, nb_strerror(r));
		return;
	}
	d->fd = -1;
	/* From here the stream has the time limit. */
	run_timer_stop(&d->timer);
}

static void on_io(void *ctx, int events)
{
	struct run_dial *d = ctx;
	int r = os_connect_result(d->fd);

	(void)events;
	if (r == 0) {
		connected(d);
		return;
	}
	note_failure(d, r, os_why());
	run_io_set(&d->io, -1, 0);
	os_close(&d->fd);
	try_next(d);
}

static void on_timer(void *ctx, struct nb_time now)
{
	struct run_dial *d = ctx;

	if (d->lookup) {
		char why[NBC_TLS_WHY];

		snprintf(why, sizeof why, "cannot look up %s: no answer from the name server in time", d->host);
		give_up(d, NB_E_TIMEOUT, why);
		return;
	}
	(void)now;
	note_failure(d, NB_E_TIMEOUT, "no answer");
	run_io_set(&d->io, -1, 0);
	os_close(&d->fd);
	try_next(d);
}

static void try_next(struct run_dial *d)
{
	struct nb_time now = os_now();

	while (d->next < d->n && nb_time_before(now, d->deadline)) {
		struct nb_endpoint e = { d->addrs[d->next++], d->cfg.port };
		int64_t share = nb_time_diff(d->deadline, now) / (int64_t)(d->n - d->next + 1);
		int r = os_tcp_connect(&d->fd, &e, &d->cfg.sockopt);

		if (r == 0) {
			connected(d);
			return;
		}
		if (r == NB_E_AGAIN) {
			if (share < ATTEMPT_MIN_NS)
				share = ATTEMPT_MIN_NS;
			run_timer_set(&d->timer, nb_time_min(d->deadline, nb_time_add(now, share)));
			run_io_set(&d->io, d->fd, RUN_WRITE);
			return;
		}
		note_failure(d, r, os_why());
	}
	give_up(d, d->err, d->why);
}

static void on_resolved(void *ctx, const struct nb_addr *addrs, size_t n, const char *why)
{
	struct run_dial *d = ctx;
	char text[NBC_TLS_WHY];

	d->lookup = NULL;
	if (!n) {
		snprintf(text, sizeof text, "cannot look up %s: %s", d->host, why);
		give_up(d, NB_E_NOTFOUND, text);
		return;
	}
	memcpy(d->addrs, addrs, n * sizeof *addrs);
	d->n = n;
	try_next(d);
}

/* --- face -------------------------------------------------------------------------------------- */

int run_dial_start(struct run_dial **out, const struct run_dial_config *cfg)
{
	struct run_dial *d = calloc(1, sizeof *d);
	int r;

	if (!d)
		return NB_E_NOMEM;
	d->cfg = *cfg;
	d->fd = -1;
	snprintf(d->host, sizeof d->host, "%s", cfg->host);
	d->cfg.host = d->host;
	run_io_init(&d->io, cfg->loop, on_io, d);
	run_timer_init(&d->timer, cfg->loop, on_timer, d);
	d->deadline = nb_time_add(os_now(), cfg->timeout_ns ? cfg->timeout_ns : TIMEOUT_NS);
	r = run_resolve(&d->lookup, cfg->resolver, d->host, on_resolved, d);
	if (r) {
		free(d);
		return r;
	}
	if (d->cfg.trust)
		nbc_trust_ref(d->cfg.trust);
	run_timer_set(&d->timer, d->deadline);
	*out = d;
	return 0;
}

void run_dial_cancel(struct run_dial *d)
{
	if (!d)
		return;
	run_stream_free(d->stream);
	destroy(d);
}
