/* run_turn_tcp_test.c - src/run/turn_tcp.c on loopback: messages in every cut, padding, what is too long or no
 * message, TLS, limits, slow readers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "crypto/crypto.h"
#include "os/clock.h"
#include "os/socket.h"
#include "run/dial.h"
#include "run/trust.h"
#include "run/turn_tcp.h"

#define VECTORS "tests/vectors/tls/"

static const uint8_t stun[24] = { 0, 1, 0, 4, 0x21, 0x12, 0xa4, 0x42, [19] = 9, 1, 2, 3, 4 };
static const uint8_t channel[8] = { 0x40, 0, 0, 1, 'x' };	/* one byte and its padding */

static struct {
	struct run_loop *loop;
	struct run_certs *certs;
	struct run_turn_tcp *t;
	unsigned messages, gone, flushes;
	struct nb_buf got;
	struct turn_flow flow;
	bool busy, echo;
	int fd[8];
} w;

static void on_input(void *ctx, const struct turn_flow *flow, struct nb_bytes in, struct nb_time now)
{
	struct nb_bytes part[3] = { in };

	(void)ctx, (void)now;
	w.messages++;
	w.flow = *flow;
	nb_buf_bytes(&w.got, in);
	if (w.echo)
		run_turn_tcp_send(w.t, flow, part);
}

static void on_flush(void *ctx)
{
	(void)ctx;
	w.flushes++;
}

static bool on_busy(void *ctx, const struct turn_flow *flow)
{
	(void)ctx, (void)flow;
	return w.busy;
}

static void on_gone(void *ctx, const struct turn_flow *flow)
{
	(void)ctx, (void)flow;
	w.gone++;
}

static void begin(struct run_turn_tcp_config tc)
{
	struct nb_endpoint at = { .addr = nb_addr4(0x7f000001) };

	tc.loop = w.loop;
	tc.certs = w.certs;
	tc.input = on_input;
	tc.flush = on_flush;
	tc.busy = on_busy;
	tc.gone = on_gone;
	assert_int_equal(run_turn_tcp_new(&w.t, &tc), 0);
	assert_int_equal(run_turn_tcp_listen(w.t, &at), 0);
}

static void turn(int ms)
{
	struct nb_time end = nb_time_add(os_now(), ms * NB_MS);

	do
		run_loop_once(w.loop, nb_time_min(end, nb_time_add(os_now(), 2 * NB_MS)));
	while (nb_time_before(os_now(), end));
}

#define UNTIL(cond) do { \
	for (int tries_ = 0; !(cond) && tries_ < 2000; tries_++) \
		turn(1); \
	assert_true(cond); \
} while (0)

static int client(int i)
{
	struct nb_endpoint at = run_turn_tcp_endpoint(w.t, 0);
	struct run_turn_tcp_stats s;
	uint64_t before, seen;
	int r;

	run_turn_tcp_stats(w.t, &s);
	before = s.accepted + s.refused;
	r = os_tcp_connect(&w.fd[i], &at, NULL);
	assert_true(r == 0 || r == NB_E_AGAIN);
	do {
		turn(1);
		run_turn_tcp_stats(w.t, &s);
		seen = s.accepted + s.refused;
	} while (seen == before);
	return w.fd[i];
}

static void say(int fd, const void *p, size_t n)
{
	size_t k;

	assert_int_equal(os_write(fd, p, n, &k), 0);
	assert_int_equal(k, n);
}

static bool closed(int fd)
{
	uint8_t b[64];
	size_t n;
	int r;

	do
		r = os_read(fd, b, sizeof b, &n);
	while (r == 0);
	return r != NB_E_AGAIN;
}

static int setup(void **state)
{
	(void)state;
	memset(&w, 0, sizeof w);
	for (int i = 0; i < 8; i++)
		w.fd[i] = -1;
	nb_buf_init(&w.got, 1 << 20);
	assert_int_equal(run_loop_new(&w.loop), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	run_turn_tcp_free(w.t);
	run_certs_free(w.certs);
	for (int i = 0; i < 8; i++)
		os_close(&w.fd[i]);
	run_loop_free(w.loop);
	nb_buf_fini(&w.got);
	return 0;
}

static void test_every_cut(void **state)
{
	uint8_t all[sizeof stun + sizeof channel + sizeof stun];
	int fd;

	(void)state;
	memcpy(all, channel, sizeof channel);
	memcpy(all + sizeof channel, stun, sizeof stun);
	memcpy(all + sizeof channel + sizeof stun, stun, sizeof stun);
	begin((struct run_turn_tcp_config){ 0 });
	fd = client(0);
	for (size_t cut = 1; cut < sizeof all; cut++) {
		w.messages = 0;
		nb_buf_reset(&w.got);
		say(fd, all, cut);
		turn(3);
		say(fd, all + cut, sizeof all - cut);
		UNTIL(w.messages == 3);
		assert_int_equal(w.got.n, sizeof all);
		assert_memory_equal(w.got.p, all, sizeof all);
	}
	assert_int_equal(w.flow.local.port, run_turn_tcp_endpoint(w.t, 0).port);
	assert_int_not_equal(w.flow.conn, 0);
	assert_true(w.flushes > 0);
}

/* As long as a datagram may be passes; longer is skipped, and what follows is found. */
static void test_long(void **state)
{
	static uint8_t big[4 + 65536] = { 0x40, 1 };
	int fd;

	(void)state;
	begin((struct run_turn_tcp_config){ 0 });
	fd = client(0);
	nb_put_be16(big + 2, 2044);
	say(fd, big, 2048);
	UNTIL(w.messages == 1);
	nb_put_be16(big + 2, 2045);
	say(fd, big, 2052);
	nb_put_be16(big + 2, 65535);
	say(fd, big, 30000);
	turn(3);
	say(fd, big + 30000, 65540 - 30000);
	say(fd, stun, sizeof stun);
	UNTIL(w.messages == 2);
	assert_int_equal(w.got.n, 2048 + sizeof stun);
}

static void test_no_message(void **state)
{
	static const char http[] = "GET / HTTP/1.1\r\n\r\n";
	struct run_turn_tcp_stats s;

	(void)state;
	begin((struct run_turn_tcp_config){ 0 });
	say(client(0), "\x80\0\0\0", 4);
	say(client(1), "\0\1\0\3", 4);		/* STUN lengths are multiples of 4 */
	say(client(2), "\x16\3\1\1", 4);	/* no certificate, no TLS */
	say(client(3), "\xff\xff\xff\xff", 4);
	UNTIL(w.gone == 4);
	say(client(4), http, sizeof http - 1);	/* 'G' looks like channel data: waits for its end */
	turn(5);
	run_turn_tcp_stats(w.t, &s);
	assert_int_equal(s.broken, 4);
	assert_int_equal(s.conns, 1);
	assert_int_equal(w.messages, 0);
}

static void test_idle(void **state)
{
	int fd;

	(void)state;
	begin((struct run_turn_tcp_config){ .idle_ns = 60 * NB_MS });
	fd = client(0);
	for (int i = 0; i < 5; i++) {
		turn(20);
		say(fd, stun, sizeof stun);
	}
	UNTIL(w.messages == 5);
	assert_int_equal(w.gone, 0);
	w.busy = true;
	turn(150);
	assert_int_equal(w.gone, 0);
	w.busy = false;
	UNTIL(w.gone == 1);
	assert_true(closed(fd));
}

/* Half a message does not keep a connection. */
static void test_dribble(void **state)
{
	int fd;

	(void)state;
	begin((struct run_turn_tcp_config){ .idle_ns = 60 * NB_MS });
	fd = client(0);
	for (size_t i = 0; i < sizeof stun - 1 && !w.gone; i++) {
		size_t n;

		(void)os_write(fd, stun + i, 1, &n);
		turn(10);
	}
	UNTIL(w.gone == 1);
}

static void test_limits(void **state)
{
	struct run_turn_tcp_stats s;

	(void)state;
	begin((struct run_turn_tcp_config){ .max_conns = 3, .max_per_source = 2 });
	client(0);
	client(1);
	client(2);
	run_turn_tcp_stats(w.t, &s);
	assert_int_equal(s.conns, 2);
	assert_int_equal(s.refused, 1);
	UNTIL(closed(w.fd[2]));
	os_close(&w.fd[0]);
	UNTIL(w.gone == 1);
	client(3);
	run_turn_tcp_stats(w.t, &s);
	assert_int_equal(s.conns, 2);
}

/* Data for a client that does not read is lost once the queue is full; the rest arrives whole. */
static void test_slow_reader(void **state)
{
	static uint8_t data[1004] = { 0x40, 0, 1000 >> 8, 1000 & 255 };
	struct nb_bytes part[3] = { nb_bytes(data, 4), nb_bytes(data + 4, 1000) };
	struct run_turn_tcp_stats s;
	uint8_t buf[65536];
	size_t n, total = 0;
	uint64_t sent = 0;
	int fd, r;

	(void)state;
	begin((struct run_turn_tcp_config){ 0 });
	fd = client(0);
	say(fd, stun, sizeof stun);
	UNTIL(w.messages == 1);
	do {
		run_turn_tcp_send(w.t, &w.flow, part);
		sent++;
		if (sent % 50 == 0)
			run_loop_once(w.loop, os_now());
		run_turn_tcp_stats(w.t, &s);
		assert_true(sent < 100000);
	} while (s.dropped < 10);
	do {
		turn(2);
		r = os_read(fd, buf, sizeof buf, &n);
		total += r ? 0 : n;
	} while (total < (sent - s.dropped) * sizeof data && (r == 0 || r == NB_E_AGAIN));
	assert_int_equal(total, (sent - s.dropped) * sizeof data);
	/* one that is gone is no trouble */
	w.flow.conn += 5;
	run_turn_tcp_send(w.t, &w.flow, part);
}

/* ---- over TLS ---- */

static struct {
	struct run_stream *s;
	size_t sent, got;
	bool closed;
} tls;

static void tls_input(void *p, struct nb_bytes in, struct nb_time now)
{
	(void)p, (void)now;
	tls.got += in.n;
}

static size_t tls_output(void *p, void *out, size_t cap, struct nb_time now)
{
	size_t n = sizeof stun - tls.sent < cap ? sizeof stun - tls.sent : cap;

	(void)p, (void)now;
	memcpy(out, stun + tls.sent, n);
	tls.sent += n;
	return n;
}

static void tls_closed(void *p, const char *why, struct nb_time now)
{
	(void)p, (void)why, (void)now;
	tls.closed = true;
}

static const struct run_proto tls_proto = { .input = tls_input, .output = tls_output, .closed = tls_closed };

static void test_tls(void **state)
{
	struct run_stream_config sc = { .loop = w.loop };
	struct nbc_tls_client cc = { .host = "localhost", .alpn = { "stun.turn" }, .now = os_wall() };
	char why[NBC_TLS_WHY];

	(void)state;
	assert_int_equal(run_certs_new(&w.certs, w.loop, VECTORS "ec.pem", VECTORS "ec.key", why), 0);
	assert_int_equal(run_trust_load(&cc.trust, VECTORS "ca.pem", why), 0);
	begin((struct run_turn_tcp_config){ 0 });
	w.echo = true;
	memset(&tls, 0, sizeof tls);
	sc.fd = client(0);
	w.fd[0] = -1;
	assert_int_equal(nbc_tls_client_new(&sc.tls, &cc), 0);
	assert_int_equal(run_stream_new(&tls.s, &sc, &tls_proto, NULL), 0);
	UNTIL(tls.got == sizeof stun);
	assert_int_equal(w.messages, 1);
	/* and plain on the same port */
	say(client(1), stun, sizeof stun);
	UNTIL(w.messages == 2);
	run_stream_free(tls.s);
	nbc_trust_unref(cc.trust);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_every_cut), T(test_long), T(test_no_message), T(test_idle), T(test_dribble), T(test_limits),
		T(test_slow_reader), T(test_tls),
	};

	nbc_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
