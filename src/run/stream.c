/* stream.c - see stream.h. One function, pump, does everything: it is called when the descriptor is
 * ready, when a timer is due and when somebody woke the stream, and it never nests. Idle streams hold no
 * buffers: reading and writing go through the stack, only what the socket did not take is kept.
 * Tests: tests/unit/run_stream_test.c */
#include "run/stream.h"

#include "base/buf.h"
#include "base/err.h"

#include "os/clock.h"
#include "os/socket.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define CHUNK 16384			/* read or written in one go */
#define READS_PER_PUMP 4
#define WRITES_PER_PUMP 16
#define LINGER_NS (2 * NB_SEC)		/* read on after our last byte, so that the peer can read it */
#define HANDSHAKE_NS (10 * NB_SEC)
#define STALL_NS (30 * NB_SEC)

struct run_stream {
	struct run_stream_config cfg;
	const struct run_proto *ops;	/* NULL while lingering */
	void *p;
	struct run_io io;
	struct run_timer timer;
	struct run_defer defer, bury;
	struct nb_buf unsent;		/* what the socket did not take */
	struct nb_buf cipher;		/* what TLS could not take yet */
	struct nb_time stall, phase;	/* deadlines: unsent bytes; handshake or linger */
	bool opened, readable, eof, closing, shut, pumping, again, dead;
	char why[NBC_TLS_WHY];
};

static void pump(struct run_stream *s, struct nb_time now);

static void fail(struct run_stream *s, const char *why)
{
	if (!s->dead)
		snprintf(s->why, sizeof s->why, "%s", why);
	s->dead = true;
}

static void fail_tls(struct run_stream *s)
{
	char why[NBC_TLS_WHY];

	nbc_tls_why(s->cfg.tls, why);
	fail(s, why);
}

/* --- reading ---------------------------------------------------------------------------------- */

static void give(struct run_stream *s, struct nb_bytes in, struct nb_time now)
{
	if (s->ops && in.n)
		s->ops->input(s->p, in, now);
}

/* Ciphertext in, as far as TLS takes it; plaintext to the protocol. Returns bytes used. */
static size_t through_tls(struct run_stream *s, struct nb_bytes in, struct nb_time now)
{
	uint8_t plain[4096];
	size_t used = 0, n, k;

	do {
		n = nbc_tls_feed(s->cfg.tls, nb_bytes(in.p + used, in.n - used));
		used += n;
		k = nbc_tls_read(s->cfg.tls, plain, sizeof plain);
		if (k && !s->opened) {
			/* The protocol hears of the transport before its first byte. */
			s->opened = true;
			s->phase = NB_TIME_NEVER;
			if (s->ops && s->ops->opened)
				s->ops->opened(s->p, s, now);
		}
		give(s, nb_bytes(plain, k), now);
	} while (n || k);
	nb_wipe(plain, sizeof plain);
	return used;
}

static void take(struct run_stream *s, struct nb_bytes in, struct nb_time now)
{
	size_t used;

	if (!s->ops)
		return;
	if (!s->cfg.tls) {
		give(s, in, now);
		return;
	}
	used = through_tls(s, in, now);
	if (used < in.n && nb_buf_put(&s->cipher, in.p + used, in.n - used))
		fail(s, "out of memory");
}

static bool may_read(const struct run_stream *s)
{
	if (s->dead || s->eof || s->cipher.n)
		return false;
	if (!s->ops || !s->opened)
		return true;
	return !s->closing && (!s->ops->wants_input || s->ops->wants_input(s->p));
}

static void read_some(struct run_stream *s, struct nb_time now)
{
	uint8_t buf[CHUNK];
	size_t n;
	int r;

	for (int i = 0; i < READS_PER_PUMP && s->readable && may_read(s); i++) {
		r = os_read(s->cfg.fd, buf, sizeof buf, &n);
		if (r == NB_E_AGAIN) {
			s->readable = false;
		} else if (r == NB_E_CLOSED && n == 0) {
			s->eof = true;
		} else if (r) {
			fail(s, os_why());
		} else {
			if (n < sizeof buf)
				s->readable = false;
			take(s, nb_bytes(buf, n), now);
		}
	}
	nb_wipe(buf, sizeof buf);
}

/* Ciphertext that had to wait for TLS. */
static void retry_cipher(struct run_stream *s, struct nb_time now)
{
	size_t used;

	if (!s->cipher.n || !s->cfg.tls)
		return;
	used = through_tls(s, nb_buf_view(&s->cipher), now);
	nb_buf_consume(&s->cipher, used);
	if (!s->cipher.n)
		nb_buf_fini(&s->cipher);
}

/* --- writing ---------------------------------------------------------------------------------- */

static size_t pull(struct run_stream *s, void *out, size_t cap, struct nb_time now)
{
	if (!s->ops || !s->ops->output || !s->opened || !cap)
		return 0;
	return s->ops->output(s->p, out, cap, now);
}

/* The next bytes for the socket. */
static size_t next_bytes(struct run_stream *s, uint8_t out[CHUNK], struct nb_time now)
{
	struct nbc_tls *tls = s->cfg.tls;
	size_t n = 0, k;

	if (!tls)
		return pull(s, out, CHUNK, now);
	for (;;) {
		uint8_t plain[4096];
		size_t room;

		n += nbc_tls_pull(tls, out + n, CHUNK - n);
		room = nbc_tls_room(tls);
		if (n == CHUNK || !room)
			return n;
		k = pull(s, plain, room < sizeof plain ? room : sizeof plain, now);
		if (!k)
			return n;
		nbc_tls_write(tls, nb_bytes(plain, k));
		nb_wipe(plain, sizeof plain);
	}
}

/* Send; what the socket does not take goes to unsent. False: stop for now. */
static bool send_bytes(struct run_stream *s, struct nb_bytes in, struct nb_time now)
{
	size_t n = 0;
	int r = os_write(s->cfg.fd, in.p, in.n, &n);

	if (r && r != NB_E_AGAIN) {
		fail(s, os_why());
		return false;
	}
	if (n)
		s->stall = nb_time_add(now, s->cfg.stall_ns);
	if (in.p == s->unsent.p) {
		nb_buf_consume(&s->unsent, n);
		if (!s->unsent.n)
			nb_buf_fini(&s->unsent);
	} else if (n < in.n) {
		if (!n)
			s->stall = nb_time_add(now, s->cfg.stall_ns);
		if (nb_buf_put(&s->unsent, in.p + n, in.n - n))
			fail(s, "out of memory");
	}
	return !s->unsent.n && !s->dead;
}

static void write_some(struct run_stream *s, struct nb_time now)
{
	uint8_t buf[CHUNK];
	size_t n;

	if (s->shut || s->dead || (s->unsent.n && !send_bytes(s, nb_buf_view(&s->unsent), now)))
		return;
	for (int i = 0; i < WRITES_PER_PUMP; i++) {
		n = next_bytes(s, buf, now);
		if (!n || !send_bytes(s, nb_bytes(buf, n), now))
			return;
	}
	s->again = true;
}

/* --- phases ----------------------------------------------------------------------------------- */

static void check_open(struct run_stream *s, struct nb_time now)
{
	if (s->opened || s->dead || (s->cfg.tls && !nbc_tls_open(s->cfg.tls)))
		return;
	s->opened = true;
	s->phase = NB_TIME_NEVER;
	if (s->ops && s->ops->opened)
		s->ops->opened(s->p, s, now);
	s->again = true;
}

static void drop_proto(struct run_stream *s, const char *why, struct nb_time now)
{
	const struct run_proto *ops = s->ops;

	s->ops = NULL;
	if (ops)
		ops->closed(s->p, why, now);
}

/* The protocol is done: its last bytes, TLS's goodbye, the end of our half; then listen for a while, because
 * closing with unread bytes would make the kernel throw away what the peer has not read yet. */
static void close_orderly(struct run_stream *s, struct nb_time now)
{
	if (!s->closing && s->ops && s->ops->done && s->opened && s->ops->done(s->p)) {
		s->closing = true;
		if (s->cfg.tls)
			nbc_tls_close(s->cfg.tls);
		write_some(s, now);
	}
	if (!s->closing || s->shut || s->unsent.n || (s->cfg.tls && nbc_tls_wants_pull(s->cfg.tls)))
		return;
	s->shut = true;
	shutdown(s->cfg.fd, SHUT_WR);
	s->phase = nb_time_add(now, LINGER_NS);
	drop_proto(s, "", now);
	/* Nobody knows this stream any more but the loop. */
	run_loop_at_free(s->cfg.loop, &s->bury);
	s->again = true;
}

static void check_end(struct run_stream *s, struct nb_time now)
{
	if (s->dead)
		return;
	if (s->cfg.tls && nbc_tls_error(s->cfg.tls) && !s->closing) {
		fail_tls(s);
	} else if (s->eof && !s->ops) {
		fail(s, "");
	} else if (s->eof) {
		fail(s, s->opened ? "the other side closed the connection" :
			"the other side closed the connection during the TLS handshake");
	} else if (s->cfg.tls && nbc_tls_closed(s->cfg.tls) && !s->closing) {
		fail(s, "the other side closed the connection");
	} else if (nb_time_due(s->phase, now)) {
		fail(s, s->ops ? "no answer during the TLS handshake" : "");
	} else if (s->unsent.n && nb_time_due(s->stall, now)) {
		fail(s, "the other side does not read");
	}
}

static void destroy(struct run_stream *s)
{
	run_io_set(&s->io, -1, 0);
	run_timer_stop(&s->timer);
	run_defer_cancel(&s->defer);
	run_defer_cancel(&s->bury);
	os_close(&s->cfg.fd);
	nbc_tls_free(s->cfg.tls);
	nb_buf_fini(&s->unsent);
	nb_buf_fini(&s->cipher);
	free(s);
}

static void watch(struct run_stream *s)
{
	struct nb_time t = s->phase;

	if (s->ops && s->ops->deadline && s->opened)
		t = nb_time_min(t, s->ops->deadline(s->p));
	if (s->unsent.n)
		t = nb_time_min(t, s->stall);
	run_timer_set(&s->timer, t);
	if (s->readable && may_read(s))
		s->again = true;
	run_io_set(&s->io, s->cfg.fd, (may_read(s) ? RUN_READ : 0) | (s->unsent.n ? RUN_WRITE : 0));
}

static void pump_once(struct run_stream *s, struct nb_time now)
{
	check_open(s, now);
	read_some(s, now);
	retry_cipher(s, now);
	check_open(s, now);
	if (s->ops && s->ops->deadline && s->opened && nb_time_due(s->ops->deadline(s->p), now))
		s->ops->timer(s->p, now);
	write_some(s, now);
	retry_cipher(s, now);
	if (s->ops && s->ops->turned && s->opened && !s->unsent.n && s->ops->turned(s->p, s, now))
		s->again = true;
	close_orderly(s, now);
	check_end(s, now);
}

static void pump(struct run_stream *s, struct nb_time now)
{
	if (s->pumping)
		return;
	s->pumping = true;
	s->again = false;
	pump_once(s, now);
	s->pumping = false;
	if (s->dead) {
		drop_proto(s, s->why, now);
		destroy(s);
		return;
	}
	watch(s);
	if (s->again)
		run_defer_call(s->cfg.loop, &s->defer);
}

/* --- from the loop ---------------------------------------------------------------------------- */

static void on_io(void *ctx, int events)
{
	struct run_stream *s = ctx;

	if (events & RUN_READ)
		s->readable = true;
	pump(s, os_now());
}

static void on_timer(void *ctx, struct nb_time now)
{
	pump(ctx, now);
}

static void on_defer(void *ctx)
{
	pump(ctx, os_now());
}

static void on_bury(void *ctx)
{
	destroy(ctx);
}

/* --- face -------------------------------------------------------------------------------------- */

void run_stream_join(struct run_stream *s, struct run_loop *loop)
{
	s->cfg.loop = loop;
	run_io_init(&s->io, loop, on_io, s);
	run_timer_init(&s->timer, loop, on_timer, s);
	run_defer_init(&s->defer, on_defer, s);
	run_defer_call(loop, &s->defer);
}

void run_stream_leave(struct run_stream *s)
{
	run_io_set(&s->io, -1, 0);
	run_timer_stop(&s->timer);
	run_defer_cancel(&s->defer);
}

int run_stream_new(struct run_stream **out, const struct run_stream_config *cfg,
		   const struct run_proto *ops, void *p)
{
	struct run_stream *s = calloc(1, sizeof *s);

	if (!s)
		return NB_E_NOMEM;
	s->cfg = *cfg;
	s->ops = ops;
	s->p = p;
	if (!s->cfg.handshake_ns)
		s->cfg.handshake_ns = HANDSHAKE_NS;
	if (!s->cfg.stall_ns)
		s->cfg.stall_ns = STALL_NS;
	s->stall = NB_TIME_NEVER;
	s->phase = cfg->tls ? nb_time_add(os_now(), s->cfg.handshake_ns) : NB_TIME_NEVER;
	nb_buf_init(&s->unsent, CHUNK * 2);
	nb_buf_init(&s->cipher, CHUNK * 2);
	run_defer_init(&s->bury, on_bury, s);
	run_stream_join(s, cfg->loop);
	*out = s;
	return 0;
}

void run_stream_attach(struct run_stream *s, const struct run_proto *ops, void *p)
{
	s->ops = ops;
	s->p = p;
	run_stream_wake(s);
}

/* The protocol of a stream nobody wants. */
static void nobody_input(void *p, struct nb_bytes in, struct nb_time now)
{
	(void)p, (void)in, (void)now;
}

static bool nobody_done(void *p)
{
	(void)p;
	return true;
}

static void nobody_closed(void *p, const char *why, struct nb_time now)
{
	(void)p, (void)why, (void)now;
}

static const struct run_proto nobody = {
	.input = nobody_input,
	.done = nobody_done,
	.closed = nobody_closed,
};

void run_stream_detach(struct run_stream *s)
{
	run_stream_attach(s, &nobody, NULL);
}

void run_stream_wake(struct run_stream *s)
{
	if (s->pumping)
		s->again = true;
	else
		run_defer_call(s->cfg.loop, &s->defer);
}

void run_stream_abort(struct run_stream *s, const char *why)
{
	fail(s, why);
	run_stream_wake(s);
}

void run_stream_close_now(struct run_stream *s, const char *why)
{
	drop_proto(s, why, os_now());
	destroy(s);
}

void run_stream_free(struct run_stream *s)
{
	if (s)
		destroy(s);
}

int run_stream_release(struct run_stream *s, int *fd, struct nbc_tls **tls)
{
	if (s->dead || s->closing || !s->opened || s->unsent.n || s->cipher.n)
		return NB_E_STATE;
	*fd = s->cfg.fd;
	*tls = s->cfg.tls;
	s->cfg.fd = -1;
	s->cfg.tls = NULL;
	destroy(s);
	return 0;
}

void run_stream_start_tls(struct run_stream *s, struct nbc_tls *tls, struct nb_bytes first)
{
	s->cfg.tls = tls;
	s->opened = false;
	s->phase = nb_time_add(os_now(), s->cfg.handshake_ns);
	if (nb_buf_bytes(&s->cipher, first))
		fail(s, "out of memory");
	run_stream_wake(s);
}

const struct nbc_tls *run_stream_tls(const struct run_stream *s)
{
	return s->cfg.tls;
}

int run_stream_fd(const struct run_stream *s)
{
	return s->cfg.fd;
}
