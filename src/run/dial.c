/* dial.c - see dial.h. Addresses are tried one after the other, the next one starting when the one before
 * failed or has not answered for a moment (RFC 8305 in small): a dead address family costs a quarter of a
 * second. A TLS error ends the dial: other addresses of the name would say the same.
 * Tests: tests/unit/run_dial_test.c */
#include "run/dial.h"

#include "base/err.h"

#include "os/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_NS (30 * NB_SEC)
#define STAGGER_NS (250 * NB_MS)

/* One address being tried. */
struct attempt {
	struct run_dial *d;
	struct nb_endpoint to;
	struct run_io io;
	int fd;		/* -1: not begun, failed or won */
};

struct run_dial {
	struct run_dial_config cfg;
	char host[256];
	struct run_lookup *lookup;
	struct attempt attempts[RUN_RESOLVE_MAX];
	size_t n, next;		/* known; begun so far */
	struct run_timer timer;
	struct run_stream *stream;
	struct nb_time deadline;
	int err;
	char why[NBC_TLS_WHY];
};

static void stop_attempt(struct attempt *a)
{
	run_io_set(&a->io, -1, 0);
	os_close(&a->fd);
}

static void destroy(struct run_dial *d)
{
	run_resolve_cancel(d->lookup);
	run_timer_stop(&d->timer);
	for (size_t i = 0; i < d->n; i++)
		stop_attempt(&d->attempts[i]);
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
	run_stream_detach(s);
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

static void note_failure(struct run_dial *d, const struct attempt *a, int err, const char *words)
{
	char at[NB_ADDR_TEXT];

	nb_endpoint_format(at, &a->to);
	d->err = err;
	snprintf(d->why, sizeof d->why, "cannot connect to %s (%s): %s", d->host, at, words);
}

/* The first one that is through wins. */
static void connected(struct run_dial *d, struct attempt *a)
{
	struct run_stream_config sc = { .loop = d->cfg.loop, .fd = a->fd };
	struct nbc_tls_client tc = { .trust = d->cfg.trust, .host = d->host, .now = os_wall() };
	int r = 0;

	run_io_set(&a->io, -1, 0);
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
	a->fd = -1;
	for (size_t i = 0; i < d->n; i++)
		stop_attempt(&d->attempts[i]);
	/* From here the stream has the time limit. */
	run_timer_stop(&d->timer);
	d->err = 0;
}

static bool any_running(const struct run_dial *d)
{
	for (size_t i = 0; i < d->next; i++)
		if (d->attempts[i].fd >= 0)
			return true;
	return false;
}

/* Begin with the next address; at the end wait for those under way, or give up. */
static void try_next(struct run_dial *d)
{
	while (d->next < d->n) {
		struct attempt *a = &d->attempts[d->next++];
		int r = os_tcp_connect(&a->fd, &a->to, &d->cfg.sockopt);

		if (r == 0) {
			connected(d, a);
			return;
		}
		if (r == NB_E_AGAIN) {
			run_io_set(&a->io, a->fd, RUN_WRITE);
			run_timer_set(&d->timer, d->next == d->n ? d->deadline :
				      nb_time_min(d->deadline, nb_time_add(os_now(), STAGGER_NS)));
			return;
		}
		note_failure(d, a, r, os_why());
	}
	if (any_running(d))
		run_timer_set(&d->timer, d->deadline);
	else
		give_up(d, d->err, d->why);
}

static void on_io(void *ctx, int events)
{
	struct attempt *a = ctx;
	int r = os_connect_result(a->fd);

	(void)events;
	if (r == 0) {
		connected(a->d, a);
		return;
	}
	note_failure(a->d, a, r, os_why());
	stop_attempt(a);
	try_next(a->d);
}

static void on_timer(void *ctx, struct nb_time now)
{
	struct run_dial *d = ctx;
	char why[NBC_TLS_WHY];

	if (d->lookup) {
		snprintf(why, sizeof why, "cannot look up %s: no answer from the name server in time", d->host);
		give_up(d, NB_E_TIMEOUT, why);
	} else if (nb_time_due(d->deadline, now)) {
		for (size_t i = 0; i < d->next; i++)
			if (d->attempts[i].fd >= 0)
				note_failure(d, &d->attempts[i], NB_E_TIMEOUT, "no answer");
		give_up(d, d->err, d->why);
	} else {
		try_next(d);
	}
}

static void add_attempt(struct run_dial *d, const struct nb_addr *addr)
{
	struct attempt *a = &d->attempts[d->n++];

	a->d = d;
	a->to.addr = *addr;
	a->to.port = d->cfg.port;
	a->fd = -1;
	run_io_init(&a->io, d->cfg.loop, on_io, a);
}

/* The resolver's order, but with the families taking turns. */
static void order_attempts(struct run_dial *d, const struct nb_addr *addrs, size_t n)
{
	bool used[RUN_RESOLVE_MAX] = { false };
	uint8_t last = 0;

	while (d->n < n) {
		size_t pick = n;

		for (size_t i = n; i-- > 0;)
			if (!used[i] && (pick == n || addrs[i].family != last || addrs[pick].family == last))
				pick = i;
		used[pick] = true;
		last = addrs[pick].family;
		add_attempt(d, &addrs[pick]);
	}
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
	order_attempts(d, addrs, n);
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
	snprintf(d->host, sizeof d->host, "%s", cfg->host);
	d->cfg.host = d->host;
	run_timer_init(&d->timer, cfg->loop, on_timer, d);
	d->deadline = nb_time_add(os_now(), cfg->timeout_ns ? cfg->timeout_ns : TIMEOUT_NS);
	if (cfg->addr.family) {
		add_attempt(d, &cfg->addr);
		r = 0;
	} else {
		r = run_resolve(&d->lookup, cfg->resolver, d->host, on_resolved, d);
	}
	if (r) {
		free(d);
		return r;
	}
	if (d->cfg.trust)
		nbc_trust_ref(d->cfg.trust);
	/* With an address: at once, but not from within this call. */
	run_timer_set(&d->timer, cfg->addr.family ? os_now() : d->deadline);
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
