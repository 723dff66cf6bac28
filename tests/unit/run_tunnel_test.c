/* run_tunnel_test.c - two tunnels over loopback, of one thread and of several. Datagram socket pairs stand in for TUN
 * queues, so no root is needed. Tests src/run/tunnel.c, shard.c and path.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "crypto/crypto.h"
#include "os/clock.h"
#include "os/dgram.h"
#include "os/socket.h"
#include "run/tunnel.h"
#include "unit/emulator.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

struct node {
	struct run_tunnel *t;
	uint8_t priv[32], pub[32];
	int inner[WG_SHARDS_MAX];	/* our ends of the socket pairs, one for each thread */
	uint8_t ip[4];
	struct nb_endpoint at;
};

static unsigned threads = 1;	/* of every tunnel */
static unsigned queue;		/* inner packets are sent through this one of them */

static void node_open(struct node *n, uint8_t last, bool filter)
{
	struct run_tunnel_config cfg = { .mtu = 1280, .filter = filter, .threads = threads, .several = threads > 1 };
	int fds[2];

	if (threads > 1 && emulator_sockets())
		skip();
	memset(n, 0, sizeof *n);
	assert_int_equal(nbc_init(), 0);
	nbc_keypair(n->priv, n->pub, nbc_random, NULL);
	memcpy(cfg.private_key, n->priv, 32);
	for (unsigned i = 0; i < threads; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds), 0);
		cfg.tun_fds[i] = fds[0];
		n->inner[i] = fds[1];
	}
	assert_int_equal(run_tunnel_new(&n->t, &cfg), 0);
	assert_int_equal(run_tunnel_offloads(n->t) / RUN_TUNNEL_THREADS, threads > 1 ? threads : 0);
	memcpy(n->ip, (uint8_t[]){ 10, 9, 0, last }, 4);
	n->at = (struct nb_endpoint){ nb_addr4(0x7f000001), run_tunnel_port(n->t) };
	assert_int_not_equal(n->at.port, 0);
}

static void node_init(struct node *n, uint8_t last)
{
	node_open(n, last, false);
}

static void node_fini(struct node *n)
{
	run_tunnel_free(n->t);
	for (unsigned i = 0; i < threads; i++)
		close(n->inner[i]);
}

static void know(struct node *n, const struct node *other, bool endpoint)
{
	struct nb_prefix p = { .addr = { .family = 4 }, .len = 32 };
	struct run_tunnel_peer s = { .allowed = &p, .nallowed = 1, .set_endpoint = endpoint };

	memcpy(p.addr.ip, other->ip, 4);
	memcpy(s.key, other->pub, 32);
	s.ep = (struct wg_ep){ .kind = WG_EP_UDP, .remote = other->at };
	assert_int_equal(run_tunnel_peer_set(n->t, &s), 0);
}

/* The next message of this kind within 5 s; others are passed over. */
static void expect(struct node *n, enum run_tunnel_kind kind, struct run_tunnel_msg *m)
{
	struct nb_time end = nb_time_add(os_now(), 5 * NB_SEC);

	for (;;) {
		struct pollfd pf = { run_tunnel_fd(n->t), POLLIN, 0 };

		while (run_tunnel_next(n->t, m))
			if (m->kind == kind)
				return;
		if (nb_time_due(end, os_now()))
			fail_msg("no message of kind %d", kind);
		poll(&pf, 1, 200);
	}
}

static void inner_send(struct node *from, const struct node *to, uint8_t tag, size_t n)
{
	uint8_t p[1400] = { 0x45 };

	nb_put_be16(p + 2, (uint16_t)n);
	memcpy(p + 12, from->ip, 4);
	memcpy(p + 16, to->ip, 4);
	p[20] = tag;
	assert_int_equal(write(from->inner[queue], p, n), n);
}

/* The descriptors a packet may come from. */
static void inner_poll(const struct node *n, struct pollfd pf[])
{
	for (unsigned i = 0; i < threads; i++)
		pf[i] = (struct pollfd){ n->inner[i], POLLIN, 0 };
}

/* Returns the queue the packet came from. */
static unsigned inner_expect(struct node *n, uint8_t tag, size_t len)
{
	struct pollfd pf[WG_SHARDS_MAX];
	uint8_t p[1500];
	unsigned at = 0;

	inner_poll(n, pf);
	assert_int_equal(poll(pf, threads, 5000), 1);
	while (!pf[at].revents)
		at++;
	assert_int_equal(read(n->inner[at], p, sizeof p), len);
	assert_int_equal(p[20], tag);
	return at;
}

static void packets_and_events(void **state)
{
	struct node a, b;
	struct run_tunnel_msg m;

	(void)state;
	node_init(&a, 1);
	node_init(&b, 2);
	know(&a, &b, true);
	know(&b, &a, false);
	inner_send(&a, &b, 1, 100);
	inner_expect(&b, 1, 100);
	inner_send(&b, &a, 2, 1280);
	inner_expect(&a, 2, 1280);
	expect(&a, RUN_TUNNEL_EVENT, &m);
	assert_int_equal(m.event, WG_EV_HANDSHAKE);
	assert_memory_equal(m.key, b.pub, 32);
	expect(&b, RUN_TUNNEL_EVENT, &m);
	for (int i = 0; i < 50; i++)
		inner_send(&a, &b, (uint8_t)(100 + i), 60);
	for (int i = 0; i < 50; i++)
		inner_expect(&b, (uint8_t)(100 + i), 60);

	/* b learned where a is */
	assert_int_equal(run_tunnel_stats(b.t, 77, true), 0);
	expect(&b, RUN_TUNNEL_STATS, &m);
	assert_int_equal(m.tag, 77);
	assert_memory_equal(m.key, a.pub, 32);
	assert_int_equal(m.stats.ep.kind, WG_EP_UDP);
	assert_true(nb_endpoint_eq(&m.stats.ep.remote, &a.at));
	assert_int_equal(m.stats.rx_bytes, 148 + 144 + 50 * 96);
	assert_true(m.stats.last_handshake.ns > 0);
	expect(&b, RUN_TUNNEL_ALLOWED, &m);
	assert_int_equal(m.nprefixes, 1);
	assert_memory_equal(m.prefixes[0].addr.ip, a.ip, 4);
	expect(&b, RUN_TUNNEL_STATS_END, &m);
	assert_int_equal(m.tag, 77);
	assert_int_equal(m.counters.wg.bad_transport, 0);

	/* too long for the tunnel: dropped, counted, nothing else harmed */
	inner_send(&a, &b, 3, 1281);
	inner_send(&a, &b, 4, 60);
	inner_expect(&b, 4, 60);
	assert_int_equal(run_tunnel_stats(a.t, 1, false), 0);
	expect(&a, RUN_TUNNEL_STATS_END, &m);
	assert_int_equal(m.counters.too_big, 1);

	/* removed: packets have no route */
	assert_int_equal(run_tunnel_peer_remove(a.t, b.pub), 0);
	assert_int_equal(run_tunnel_stats(a.t, 2, false), 0);
	expect(&a, RUN_TUNNEL_STATS_END, &m);
	inner_send(&a, &b, 5, 60);
	usleep(50000);
	assert_int_equal(run_tunnel_stats(a.t, 3, false), 0);
	expect(&a, RUN_TUNNEL_STATS_END, &m);
	assert_int_equal(m.counters.wg.no_route, 1);
	node_fini(&a);
	node_fini(&b);
}

static void other_datagrams(void **state)
{
	struct node a, b;
	struct run_tunnel_msg m;
	/* A STUN success response whose type byte and zero byte look like WireGuard's, and its length says so */
	uint8_t stun[20] = { 0x01, 0x01, 0, 0, 0x21, 0x12, 0xa4, 0x42, 9 }, punch[2] = { 1, 2 }, channel[4 + 32] = { 0x40, 1, 0, 32, 4 };

	(void)state;
	node_init(&a, 1);
	node_init(&b, 2);
	assert_int_equal(run_tunnel_send(a.t, &b.at, NULL, nb_bytes(stun, sizeof stun)), 0);
	expect(&b, RUN_TUNNEL_DGRAM, &m);
	assert_int_equal(m.data.n, 20);
	assert_memory_equal(m.data.p, stun, 20);
	assert_true(nb_endpoint_eq(&m.from, &a.at));
	assert_true(nb_endpoint_eq(&m.to, &b.at));
	/* answered from the address it came to */
	assert_int_equal(run_tunnel_send(b.t, &m.from, &m.to.addr, nb_bytes(punch, sizeof punch)), 0);
	expect(&a, RUN_TUNNEL_DGRAM, &m);
	assert_int_equal(m.data.n, 2);

	/* ChannelData from nobody we know goes up; from a TURN server it is the device's */
	assert_int_equal(run_tunnel_send(a.t, &b.at, NULL, nb_bytes(channel, sizeof channel)), 0);
	expect(&b, RUN_TUNNEL_DGRAM, &m);
	assert_int_equal(m.data.n, sizeof channel);
	assert_int_equal(run_tunnel_turn_add(b.t, &a.at), 0);
	assert_int_equal(run_tunnel_stats(b.t, 1, false), 0);
	expect(&b, RUN_TUNNEL_STATS_END, &m);
	assert_int_equal(run_tunnel_send(a.t, &b.at, NULL, nb_bytes(channel, sizeof channel)), 0);
	channel[4] = 9;
	assert_int_equal(run_tunnel_send(a.t, &b.at, NULL, nb_bytes(channel, sizeof channel)), 0);
	expect(&b, RUN_TUNNEL_DGRAM, &m);
	assert_int_equal(m.data.p[4], 9);
	assert_int_equal(run_tunnel_stats(b.t, 2, false), 0);
	expect(&b, RUN_TUNNEL_STATS_END, &m);
	assert_int_equal(m.counters.wg.bad_transport, 1);
	node_fini(&a);
	node_fini(&b);
}

/* A session through a TURN server (the test) on both sides' channels, and through connections. */
static void relayed(void **state)
{
	struct node a, b;
	struct os_dgram_pair server;
	struct run_tunnel_msg m;
	struct wg_ep turn = { .kind = WG_EP_TURN, .id = 0x4000 }, stream = { .kind = WG_EP_STREAM, .id = 5 };
	uint8_t buf[2000];
	int got = 0, ends[2];

	(void)state;
	node_init(&a, 1);
	node_init(&b, 2);
	assert_int_equal(os_dgram_open(&server, 0, 0, 0), 0);
	turn.remote = (struct nb_endpoint){ nb_addr4(0x7f000001), server.port };
	know(&a, &b, false);
	know(&b, &a, false);
	assert_int_equal(run_tunnel_turn_add(a.t, &turn.remote), 0);
	assert_int_equal(run_tunnel_turn_add(b.t, &turn.remote), 0);
	inner_send(&a, &b, 1, 60);
	expect(&a, RUN_TUNNEL_EVENT, &m);
	assert_int_equal(m.event, WG_EV_WANTED);
	assert_int_equal(run_tunnel_endpoint(a.t, b.pub, &turn, false), 0);
	for (int i = 0; i < 40 && !got; i++) {
		struct pollfd pf[1 + WG_SHARDS_MAX] = { { server.fd4, POLLIN, 0 } };
		struct os_dgram d = { .p = buf, .cap = sizeof buf };

		inner_poll(&b, pf + 1);
		poll(pf, 1 + threads, 200);
		for (unsigned k = 1; k <= threads; k++)
			got |= pf[k].revents != 0;
		if (pf[0].revents && os_dgram_recv(&server, false, &d, 1)) {
			assert_int_equal(nb_get_be16(buf), 0x4000);
			assert_int_equal(nb_get_be16(buf + 2), d.n - 4);
			d.remote = nb_endpoint_eq(&d.remote, &a.at) ? b.at : a.at;
			d.local = (struct nb_addr){ 0 };
			assert_int_equal(os_dgram_send(&server, false, &d, 1), 1);
		}
	}
	inner_expect(&b, 1, 60);

	/* The same session over connections of the thread's own: what one writes is what the other reads. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
	assert_int_equal(run_tunnel_link_add(a.t, 7, true, ends[0], NULL), 0);
	assert_int_equal(run_tunnel_link_add(b.t, 8, true, ends[1], NULL), 0);
	assert_int_equal(run_tunnel_link_channel(a.t, 7, stream.id, nb_bytes("\x40\x00", 2)), 0);
	assert_int_equal(run_tunnel_link_channel(b.t, 8, 6, nb_bytes("\x40\x00", 2)), 0);
	assert_int_equal(run_tunnel_endpoint(a.t, b.pub, &stream, false), 0);
	assert_int_equal(run_tunnel_stats(a.t, 1, false), 0);
	expect(&a, RUN_TUNNEL_STATS_END, &m);
	inner_send(&a, &b, 2, 60);
	inner_expect(&b, 2, 60);
	stream.id = 6;
	assert_int_equal(run_tunnel_endpoint(b.t, a.pub, &stream, false), 0);
	assert_int_equal(run_tunnel_stats(b.t, 1, false), 0);
	expect(&b, RUN_TUNNEL_STATS_END, &m);
	inner_send(&b, &a, 3, 1280);
	inner_expect(&a, 3, 1280);
	/* What control says arrives as a message, and so does the end. */
	assert_int_equal(run_tunnel_link_send(a.t, 7, nb_bytes("\x00\x01\x00\x04", 4), nb_bytes("0123456789abcdefwxyz", 20)), 0);
	expect(&b, RUN_TUNNEL_LINK_MESSAGE, &m);
	assert_int_equal(m.tag, 8);
	assert_int_equal(m.data.n, 24);
	assert_memory_equal(m.data.p + 4, "0123456789abcdefwxyz", 20);
	assert_int_equal(run_tunnel_link_drop(a.t, 7), 0);
	expect(&b, RUN_TUNNEL_LINK_LOST, &m);
	assert_int_equal(m.tag, 8);
	assert_string_equal((const char *)m.data.p, "the other side closed the connection");
	os_dgram_close(&server);
	node_fini(&a);
	node_fini(&b);
}

/* More answers than the ring has room for: none is lost. */
static void many_peers(void **state)
{
	enum { N = 700 };
	struct node a;
	struct run_tunnel_msg m;
	uint8_t key[32];
	unsigned seen = 0, ends = 0;
	struct nb_time end;

	(void)state;
	node_init(&a, 1);
	for (int i = 0; i < N; i++) {
		struct run_tunnel_peer s = { .set_keepalive = true, .keepalive = (uint16_t)i };

		nbc_random(NULL, key, 32);
		nbc_x25519_base(s.key, key);
		while (run_tunnel_peer_set(a.t, &s) == NB_E_AGAIN)
			usleep(1000);
	}
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(run_tunnel_stats(a.t, i, false), 0);
	assert_int_equal(run_tunnel_stats(a.t, 8, false), NB_E_AGAIN);
	usleep(100000);
	end = nb_time_add(os_now(), 10 * NB_SEC);
	while (ends < 8 && nb_time_before(os_now(), end)) {
		struct pollfd pf = { run_tunnel_fd(a.t), POLLIN, 0 };

		while (run_tunnel_next(a.t, &m)) {
			seen += m.kind == RUN_TUNNEL_STATS;
			if (m.kind == RUN_TUNNEL_STATS_END)
				assert_int_equal(m.tag, ends++);
		}
		poll(&pf, 1, 100);
	}
	assert_int_equal(ends, 8);
	assert_int_equal(seen, 8 * N);
	assert_int_equal(run_tunnel_stats(a.t, 8, false), 0);
	node_fini(&a);
}

/* Handshakes begun by one side or the other between packets in both directions: all arrive, in order. */
static void renewals_lose_nothing(void **state)
{
	enum { ROUNDS = 6, EACH = 30 };
	struct node a, b;
	struct run_tunnel_msg m;
	struct wg_ep to_a = { .kind = WG_EP_UDP }, to_b = { .kind = WG_EP_UDP };

	(void)state;
	node_init(&a, 1);
	node_init(&b, 2);
	know(&a, &b, true);
	know(&b, &a, true);
	to_a.remote = a.at;
	to_b.remote = b.at;
	inner_send(&a, &b, 1, 60);
	inner_expect(&b, 1, 60);
	for (unsigned round = 0; round < ROUNDS; round++) {
		/* Two are never begun within 20 ms. */
		usleep(21000);
		if (round % 2)
			assert_int_equal(run_tunnel_endpoint(a.t, b.pub, &to_b, true), 0);
		else
			assert_int_equal(run_tunnel_endpoint(b.t, a.pub, &to_a, true), 0);
		for (unsigned i = 0; i < EACH; i++) {
			inner_send(&a, &b, (uint8_t)i, 60 + i);
			inner_send(&b, &a, (uint8_t)i, 100 + i);
			if (i % 8 == 0)
				usleep(200);
		}
		for (unsigned i = 0; i < EACH; i++) {
			inner_expect(&b, (uint8_t)i, 60 + i);
			inner_expect(&a, (uint8_t)i, 100 + i);
		}
	}
	assert_int_equal(run_tunnel_stats(a.t, 1, false), 0);
	expect(&a, RUN_TUNNEL_STATS, &m);
	/* data of both directions, and a handshake at least in each round */
	assert_true(m.stats.tx_bytes > ROUNDS * EACH * 96 + ROUNDS * 92);
	expect(&a, RUN_TUNNEL_STATS_END, &m);
	assert_int_equal(m.counters.wg.bad_transport + m.counters.wg.replayed + m.counters.wg.staged_drop, 0);
	node_fini(&a);
	node_fini(&b);
}

static void ports(void **state)
{
	struct node a, b;
	struct run_tunnel_msg m;
	uint16_t old;

	(void)state;
	node_init(&a, 1);
	node_init(&b, 2);
	know(&a, &b, true);
	know(&b, &a, true);
	inner_send(&a, &b, 1, 60);
	inner_expect(&b, 1, 60);
	old = a.at.port;
	assert_int_equal(run_tunnel_set_port(a.t, b.at.port), 0);
	expect(&a, RUN_TUNNEL_PORT, &m);
	assert_int_equal(m.err, NB_E_BUSY);
	assert_int_equal(m.port, old);
	assert_int_equal(run_tunnel_set_port(a.t, 0), 0);
	expect(&a, RUN_TUNNEL_PORT, &m);
	assert_int_equal(m.err, 0);
	assert_int_equal(run_tunnel_port(a.t), m.port);
	/* b follows */
	inner_send(&a, &b, 2, 60);
	inner_expect(&b, 2, 60);
	inner_send(&b, &a, 3, 60);
	inner_expect(&a, 3, 60);
	node_fini(&a);
	node_fini(&b);
}

/* A table for b: nothing, or everything of these protocols from a. */
static void rules(struct node *b, const struct node *a, bool allow)
{
	struct filter_rule r = { .src = { .addr = { .family = 4 }, .len = 32 } };
	struct filter_spec spec = { .local4 = { .family = 4 }, .rules = &r, .nrules = allow };
	struct filter_table *t;

	memcpy(r.src.addr.ip, a->ip, 4);
	memcpy(spec.local4.ip, b->ip, 4);
	assert_int_equal(filter_table_new(&t, &spec), 0);
	run_tunnel_set_filter(b->t, t);
	assert_ptr_equal(run_tunnel_filter(b->t), t);
}

static void filter_counted(struct node *b, struct filter_counters *c)
{
	struct run_tunnel_msg m;

	assert_int_equal(run_tunnel_stats(b->t, 1, false), 0);
	expect(b, RUN_TUNNEL_STATS_END, &m);
	*c = m.counters.filter;
}

/* Wait until b has decided about n packets. */
static void decided(struct node *b, uint64_t n, struct filter_counters *c)
{
	struct nb_time end = nb_time_add(os_now(), 5 * NB_SEC);

	do {
		assert_false(nb_time_due(end, os_now()));
		filter_counted(b, c);
	} while (c->passed_rule + c->passed_flow + c->dropped_default + c->dropped_cut < n);
}

static void access_rules(void **state)
{
	struct filter_counters c;
	struct node a, b;

	(void)state;
	node_init(&a, 1);
	node_open(&b, 2, true);
	know(&a, &b, true);
	know(&b, &a, true);
	/* No table, an empty table, rules, an empty table: each from the next packet on. */
	inner_send(&a, &b, 1, 60);
	decided(&b, 1, &c);
	rules(&b, &a, false);
	inner_send(&a, &b, 2, 60);
	decided(&b, 2, &c);
	assert_int_equal(c.dropped_default, 2);
	rules(&b, &a, true);
	inner_send(&a, &b, 3, 60);
	inner_expect(&b, 3, 60);
	inner_send(&a, &b, 4, 60);
	inner_expect(&b, 4, 60);
	rules(&b, &a, false);
	inner_send(&a, &b, 5, 60);
	decided(&b, 5, &c);
	assert_int_equal(c.dropped_cut, 1);
	assert_int_equal(c.passed_rule, 1);
	assert_int_equal(c.passed_flow, 1);
	/* Outbound never asks, and tables that were never looked at are not lost. */
	inner_send(&b, &a, 6, 60);
	inner_expect(&a, 6, 60);
	for (int i = 0; i < 500; i++)
		rules(&b, &a, i % 2);
	inner_send(&a, &b, 7, 60);
	inner_expect(&b, 7, 60);
	node_fini(&a);
	node_fini(&b);
}

static void rules_without_access_control(void **state)
{
	struct node a, b;

	(void)state;
	node_init(&a, 1);
	node_init(&b, 2);
	know(&a, &b, true);
	know(&b, &a, true);
	run_tunnel_set_filter(b.t, NULL);
	assert_null(run_tunnel_filter(b.t));
	inner_send(&a, &b, 1, 60);
	inner_expect(&b, 1, 60);
	node_fini(&a);
	node_fini(&b);
}

/* A node whose peers find it at home in a thread of ours. */
static void node_at(struct node *n, uint8_t last, unsigned home)
{
	do {
		if (n->t)
			node_fini(n);
		node_init(n, last);
	} while (wg_home(n->pub, threads) != home);
}

/* Peers at home in each thread, packets written to each queue, both directions; what comes in comes out of the queue
 * of the peer's thread, in order. */
static void every_queue_and_home(void **state)
{
	struct node hub, leaf[WG_SHARDS_MAX] = { 0 };
	unsigned was = queue, one = threads;
	struct run_tunnel_msg m;

	(void)state;
	node_open(&hub, 100, false);
	for (unsigned i = 0; i < one; i++) {
		node_at(&leaf[i], (uint8_t)(1 + i), i);
		know(&hub, &leaf[i], i % 2);
		know(&leaf[i], &hub, true);
	}
	for (unsigned i = 0; i < one; i++) {
		queue = was;
		inner_send(&leaf[i], &hub, (uint8_t)i, 100);
		assert_int_equal(inner_expect(&hub, (uint8_t)i, 100), i);
		for (queue = 0; queue < one; queue++) {
			for (unsigned k = 0; k < 20; k++)
				inner_send(&hub, &leaf[i], (uint8_t)k, 60 + k);
			for (unsigned k = 0; k < 20; k++)
				inner_expect(&leaf[i], (uint8_t)k, 60 + k);
		}
		queue = was;
	}
	assert_int_equal(run_tunnel_stats(hub.t, 1, false), 0);
	expect(&hub, RUN_TUNNEL_STATS_END, &m);
	/* From the queues of others, and initiations. */
	assert_in_range(m.counters.handed, one * (one - 1) * 20 + one - 1, one * (one - 1) * 20 + 3 * one);
	assert_int_equal(m.counters.handed_lost, 0);
	assert_int_equal(m.counters.wg.no_route, 0);
	assert_int_equal(m.counters.wg.bad_transport, 0);
	for (unsigned i = 0; i < one; i++)
		node_fini(&leaf[i]);
	node_fini(&hub);
}

/* One answer for all threads: each peer once, its prefixes behind it. */
static void statistics_of_all(void **state)
{
	enum { N = 40 };
	struct node a;
	struct run_tunnel_msg m;
	uint8_t key[N][32], last[32];
	unsigned seen = 0, prefixes = 0;

	(void)state;
	node_init(&a, 1);
	for (unsigned i = 0; i < N; i++) {
		struct nb_prefix p = { .addr = nb_addr4(0x0a0a0000 + i), .len = 32 };
		struct run_tunnel_peer s = { .allowed = &p, .nallowed = 1 };

		nbc_random(NULL, key[i], 32);
		nbc_x25519_base(s.key, key[i]);
		memcpy(key[i], s.key, 32);
		assert_int_equal(run_tunnel_peer_set(a.t, &s), 0);
	}
	assert_int_equal(run_tunnel_stats(a.t, 5, true), 0);
	assert_int_equal(run_tunnel_stats(a.t, 6, false), 0);
	do {
		struct pollfd pf = { run_tunnel_fd(a.t), POLLIN, 0 };

		while (!run_tunnel_next(a.t, &m))
			assert_int_equal(poll(&pf, 1, 5000), 1);
		if (m.kind != RUN_TUNNEL_STATS_END)
			assert_int_equal(m.tag, prefixes < N ? 5 : 6);
		if (m.kind == RUN_TUNNEL_STATS) {
			seen++;
			memcpy(last, m.key, 32);
		} else if (m.kind == RUN_TUNNEL_ALLOWED) {
			prefixes++;
			assert_memory_equal(last, m.key, 32);
			for (unsigned i = 0; i < N; i++)
				if (!memcmp(key[i], m.key, 32))
					assert_int_equal(nb_get_be32(m.prefixes[0].addr.ip), 0x0a0a0000 + i);
		}
	} while (m.kind != RUN_TUNNEL_STATS_END || m.tag != 6);
	assert_int_equal(seen, 2 * N);
	assert_int_equal(prefixes, N);
	/* a prefix that goes over to another peer, and none at all */
	for (unsigned i = 1; i < N; i++) {
		struct nb_prefix p = { .addr = nb_addr4(0x0a0a0000), .len = 32 };
		struct run_tunnel_peer s = { .allowed = &p, .nallowed = 1 };

		memcpy(s.key, key[i], 32);
		assert_int_equal(run_tunnel_peer_set(a.t, &s), 0);
	}
	assert_int_equal(run_tunnel_stats(a.t, 7, true), 0);
	prefixes = 0;
	do {
		struct pollfd pf = { run_tunnel_fd(a.t), POLLIN, 0 };

		while (!run_tunnel_next(a.t, &m))
			assert_int_equal(poll(&pf, 1, 5000), 1);
		if (m.kind == RUN_TUNNEL_ALLOWED)
			prefixes += (unsigned)m.nprefixes;
	} while (m.kind != RUN_TUNNEL_STATS_END || m.tag != 7);
	assert_int_equal(prefixes, N);
	assert_int_equal(run_tunnel_peers_clear(a.t), 0);
	assert_int_equal(run_tunnel_stats(a.t, 8, false), 0);
	do {
		expect(&a, RUN_TUNNEL_STATS_END, &m);
	} while (m.tag != 8);
	node_fini(&a);
}

/* Rules of one table, used by all threads: counted together, kept over an exchange. */
static void counts_of_all(void **state)
{
	struct node hub, leaf[WG_SHARDS_MAX] = { 0 };
	struct filter_rule out, r = { .src = { .addr = { .family = 4 }, .len = 24 } };
	struct filter_spec spec = { .rules = &r, .nrules = 1 };
	struct filter_table *t;
	struct filter_counters c;
	unsigned long hits;

	(void)state;
	node_open(&hub, 100, true);
	memcpy(r.src.addr.ip, hub.ip, 3);
	spec.local4.family = 4;
	memcpy(spec.local4.ip, hub.ip, 4);
	assert_int_equal(filter_table_new(&t, &spec), 0);
	run_tunnel_set_filter(hub.t, t);
	for (unsigned i = 0; i < threads; i++) {
		node_at(&leaf[i], (uint8_t)(1 + i), i);
		know(&hub, &leaf[i], false);
		know(&leaf[i], &hub, true);
		for (unsigned k = 0; k < 3; k++) {
			inner_send(&leaf[i], &hub, (uint8_t)k, 100);
			inner_expect(&hub, (uint8_t)k, 100);
		}
	}
	filter_table_rule(run_tunnel_filter(hub.t), 0, &out, &hits);
	assert_int_equal(hits, 3 * threads);
	filter_counted(&hub, &c);
	assert_int_equal(c.passed_rule, threads);
	assert_int_equal(c.passed_flow, 2 * threads);
	assert_int_equal(c.flows, threads);
	assert_int_equal(filter_table_new(&t, &spec), 0);
	run_tunnel_set_filter(hub.t, t);
	for (unsigned i = 0; i < threads; i++) {
		inner_send(&leaf[i], &hub, 9, 100);
		inner_expect(&hub, 9, 100);
	}
	filter_table_rule(run_tunnel_filter(hub.t), 0, &out, &hits);
	assert_int_equal(hits, 4 * threads);
	for (unsigned i = 0; i < threads; i++)
		node_fini(&leaf[i]);
	node_fini(&hub);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(packets_and_events), cmocka_unit_test(other_datagrams), cmocka_unit_test(relayed),
		cmocka_unit_test(many_peers), cmocka_unit_test(renewals_lose_nothing), cmocka_unit_test(ports),
		cmocka_unit_test(access_rules),
		cmocka_unit_test(rules_without_access_control),
	};
	static const struct CMUnitTest several[] = {
		cmocka_unit_test(every_queue_and_home), cmocka_unit_test(statistics_of_all), cmocka_unit_test(counts_of_all),
	};
	int failed = cmocka_run_group_tests_name("one thread", tests, NULL, NULL);

	for (threads = 2; threads <= WG_SHARDS_MAX; threads++) {
		queue = threads - 1;
		failed += cmocka_run_group_tests_name("several threads", tests, NULL, NULL);
		failed += cmocka_run_group_tests_name("between threads", several, NULL, NULL);
	}
	return failed;
}
