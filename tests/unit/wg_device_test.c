/* wg_device_test.c - two devices in one process: sessions, rekeying, roaming, relayed endpoints, waiting
 * packets, load, caps. The clock is an argument. */
#include "wg_help.h"

static struct nb_time at(double s)
{
	return nb_time_add(HELP_START, (int64_t)(s * NB_SEC));
}

static void first_packet_makes_session(void **state)
{
	struct help_dev a, b;
	struct wg_peer_stats st;

	(void)state;
	help_pair(&a, &b);
	assert_true(nb_time_is_never(wg_deadline(a.d)));
	assert_true(help_exchange(&a, &b, at(0)));
	assert_true(help_exchange(&b, &a, at(0)));
	assert_int_equal(help_events(&a, WG_EV_HANDSHAKE), 1);
	assert_int_equal(help_events(&b, WG_EV_HANDSHAKE), 1);
	wg_peer_stats(a.d, a.peer, &st, at(0));
	/* initiation, one padded packet; response, one packet */
	assert_int_equal(st.tx_bytes, 148 + 144);
	assert_int_equal(st.tx_packets, 1);
	assert_int_equal(st.handshakes, 1);
	assert_int_equal(st.rx_bytes, 92 + 144);
	assert_int_equal(st.last_handshake.ns, HELP_WALL.ns);
	assert_true(st.session);
	help_unpair(&a, &b);
}

static void psk_must_match(void **state)
{
	struct help_dev a, b;
	uint8_t psk[32] = { 42 };

	(void)state;
	help_pair(&a, &b);
	wg_peer_set_psk(a.d, a.peer, psk);
	assert_false(help_exchange(&a, &b, at(0)));
	assert_int_equal(wg_counters(a.d)->bad_handshake, 1);
	wg_peer_set_psk(b.d, b.peer, psk);
	/* The packet waits until the next try, after 5 s. */
	assert_int_equal(help_pump(&a, &b, at(4.9)), 0);
	assert_int_equal(help_pump(&a, &b, at(5.4)), 1);
	help_unpair(&a, &b);
}

/* Inner bytes arrive unchanged and trimmed; the length on the wire is padded, but not beyond the MTU. */
static void padding(void **state)
{
	static const struct {
		size_t n, wire;
	} rows[] = { { 20, 32 + 32 }, { 32, 32 + 32 }, { 33, 48 + 32 }, { 1409, 1420 + 32 }, { 1420, 1420 + 32 } };
	struct help_dev a, b;
	struct help_packet m, copy;

	(void)state;
	help_pair(&a, &b);
	assert_true(help_exchange(&a, &b, at(0)));
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		help_inner(&m, &a, &b, rows[i].n, 0x01020304);
		memset(m.buf + WG_HEADROOM + rows[i].n, 0xee, 40);
		copy = m;
		wg_send(a.d, &m.k, 1, at(0));
		assert_int_equal(m.k.verdict, WG_WIRE);
		assert_int_equal(m.k.n, rows[i].wire);
		assert_int_equal(help_deliver(&a, &b, &m, at(0)), WG_INNER);
		assert_ptr_equal(m.k.peer, b.peer);
		assert_int_equal(m.k.n, rows[i].n);
		assert_memory_equal(m.k.p, copy.buf + WG_HEADROOM, rows[i].n);
	}
	help_unpair(&a, &b);
}

/* The two bits of the inner header go to the outer one; a mark set on the way comes back inside, where the flow
 * can read it, with the header's sum right. Rows: inner bits, outer bits on arrival, inner bits delivered. */
static void congestion_marks(void **state)
{
	static const uint8_t rows[][3] = {
		{ 0, 0, 0 }, { 0, 3, 0 }, { 1, 1, 1 }, { 2, 2, 2 }, { 1, 3, 3 }, { 2, 3, 3 }, { 3, 3, 3 }, { 3, 0, 3 }, { 2, 1, 2 },
	};
	struct nb_prefix p6 = { .addr = { .family = 6 }, .len = 0 };
	struct help_dev a, b;
	struct help_packet m;

	(void)state;
	help_pair(&a, &b);
	assert_int_equal(wg_peer_allow(a.d, a.peer, &p6), 0);
	assert_int_equal(wg_peer_allow(b.d, b.peer, &p6), 0);
	assert_true(help_exchange(&a, &b, at(0)));
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		uint32_t sum = 0;

		help_inner(&m, &a, &b, 100, 9);
		m.k.p[1] = (uint8_t)(0xb8 | rows[i][0]);
		for (int k = 0; k < 20; k += 2)
			sum += nb_get_be16(m.k.p + k);
		sum = (sum & 0xffff) + (sum >> 16);
		nb_put_be16(m.k.p + 10, (uint16_t)~sum);
		wg_send(a.d, &m.k, 1, at(0));
		assert_int_equal(m.k.ecn, rows[i][0]);
		m.k.ecn = rows[i][1];
		assert_int_equal(help_deliver(&a, &b, &m, at(0)), WG_INNER);
		assert_int_equal(m.k.p[1], 0xb8 | rows[i][2]);
		sum = 0;
		for (int k = 0; k < 20; k += 2)
			sum += nb_get_be16(m.k.p + k);
		assert_int_equal((sum & 0xffff) + (sum >> 16), 0xffff);

		help_inner(&m, &a, &b, 100, 9);
		m.k.p[0] = 0x6b;
		m.k.p[1] = (uint8_t)(0x8f | rows[i][0] << 4);
		nb_put_be16(m.k.p + 4, 60);
		wg_send(a.d, &m.k, 1, at(0));
		assert_int_equal(m.k.ecn, rows[i][0]);
		m.k.ecn = rows[i][1];
		assert_int_equal(help_deliver(&a, &b, &m, at(0)), WG_INNER);
		assert_int_equal(m.k.p[1], 0x8f | rows[i][2] << 4);
	}
	help_unpair(&a, &b);
}

static void refused_inside(void **state)
{
	struct help_dev a, b;
	struct help_packet m, again;

	(void)state;
	help_pair(&a, &b);
	assert_true(help_exchange(&a, &b, at(0)));

	/* source not ours to use */
	help_inner(&m, &a, &b, 60, 0);
	m.k.p[15] = 77;
	wg_send(a.d, &m.k, 1, at(0));
	assert_int_equal(help_deliver(&a, &b, &m, at(0)), WG_DROP);
	assert_int_equal(wg_counters(b.d)->bad_inner, 1);

	/* no route, no IP packet, empty */
	help_inner(&m, &a, &b, 60, 0);
	m.k.p[19] = 77;
	wg_send(a.d, &m.k, 1, at(0));
	assert_int_equal(m.k.verdict, WG_DROP);
	help_inner(&m, &a, &b, 60, 0);
	m.k.p[0] = 0x35;
	wg_send(a.d, &m.k, 1, at(0));
	help_inner(&m, &a, &b, 60, 0);
	m.k.n = 0;
	wg_send(a.d, &m.k, 1, at(0));
	assert_int_equal(wg_counters(a.d)->no_route, 3);

	/* replayed, damaged, unknown index */
	help_inner(&m, &a, &b, 60, 0);
	wg_send(a.d, &m.k, 1, at(0));
	again = m;
	again.k.p = again.buf + (m.k.p - m.buf);
	again.k.buf = again.buf;
	assert_int_equal(help_deliver(&a, &b, &m, at(0)), WG_INNER);
	m = again;
	m.k.p = m.buf + (again.k.p - again.buf);
	assert_int_equal(help_deliver(&a, &b, &m, at(0)), WG_DROP);
	assert_int_equal(wg_counters(b.d)->replayed, 1);
	m = again;
	m.k.p = m.buf + (again.k.p - again.buf);
	m.k.p[20] ^= 1;
	assert_int_equal(help_deliver(&a, &b, &m, at(0)), WG_DROP);
	m = again;
	m.k.p = m.buf + (again.k.p - again.buf);
	m.k.p[4] ^= 1;
	assert_int_equal(help_deliver(&a, &b, &m, at(0)), WG_DROP);
	assert_int_equal(wg_counters(b.d)->bad_transport, 2);
	help_unpair(&a, &b);
}

static void roaming(void **state)
{
	struct help_dev a, b;
	struct wg_peer_stats st;
	struct help_packet m;
	struct wg_ep relay = { .kind = WG_EP_STREAM, .id = 9 }, real;

	(void)state;
	help_pair(&a, &b);
	assert_true(help_exchange(&a, &b, at(0)));
	help_events(&b, WG_EV_ROAMED);

	/* a moves: b follows, and answers go to the new place */
	a.at = help_ep("198.51.100.7:4444");
	assert_true(help_exchange(&a, &b, at(1)));
	assert_int_equal(help_events(&b, WG_EV_ROAMED), 1);
	wg_peer_stats(b.d, b.peer, &st, at(1));
	assert_true(nb_endpoint_eq(&st.ep.remote, &a.at.remote));
	help_inner(&m, &b, &a, 60, 0);
	wg_send(b.d, &m.k, 1, at(1));
	assert_true(nb_endpoint_eq(&m.k.ep.remote, &a.at.remote));

	/* a forged packet does not move it */
	help_inner(&m, &a, &b, 60, 0);
	wg_send(a.d, &m.k, 1, at(1));
	m.k.p[30] ^= 1;
	real = a.at;
	a.at = help_ep("203.0.113.66:6666");
	assert_int_equal(help_deliver(&a, &b, &m, at(1)), WG_DROP);
	wg_peer_stats(b.d, b.peer, &st, at(1));
	assert_true(nb_endpoint_eq(&st.ep.remote, &real.remote));

	/* a relayed packet is taken but leaves the direct path alone */
	a.at = relay;
	assert_true(help_exchange(&a, &b, at(2)));
	wg_peer_stats(b.d, b.peer, &st, at(2));
	assert_int_equal(st.ep.kind, WG_EP_UDP);

	/* control goes back to the relay; a direct packet improves it again */
	wg_peer_set_endpoint(b.d, b.peer, &relay, at(3));
	help_inner(&m, &b, &a, 60, 0);
	wg_send(b.d, &m.k, 1, at(3));
	assert_int_equal(m.k.ep.kind, WG_EP_STREAM);
	assert_int_equal(m.k.ep.id, 9);
	a.at = real;
	assert_true(help_exchange(&a, &b, at(4)));
	wg_peer_stats(b.d, b.peer, &st, at(4));
	assert_int_equal(st.ep.kind, WG_EP_UDP);
	help_unpair(&a, &b);
}

/* The way is gone for a moment, and packets wait. The other side knows a new one and shows it: they go there, with the session
 * there is. */
static void way_shown_by_peer(void **state)
{
	static const struct wg_ep none = { .kind = WG_EP_NONE };
	struct help_dev a, b;
	struct help_packet m;

	(void)state;
	help_pair(&a, &b);
	assert_true(help_exchange(&a, &b, at(0)));
	wg_peer_set_endpoint(b.d, b.peer, &none, at(1));
	help_inner(&m, &b, &a, 60, 7);
	wg_send(b.d, &m.k, 1, at(1));
	assert_int_equal(m.k.verdict, WG_DROP);
	assert_false(help_output(&b, &m, at(1)));
	a.at = help_ep("198.51.100.7:4444");
	help_inner(&m, &a, &b, 60, 1);
	wg_send(a.d, &m.k, 1, at(2));
	assert_int_equal(help_deliver(&a, &b, &m, at(2)), WG_INNER);
	assert_true(help_output(&b, &m, at(2)));
	assert_true(nb_endpoint_eq(&m.k.ep.remote, &a.at.remote));
	assert_int_equal(help_deliver(&b, &a, &m, at(2)), WG_INNER);
	assert_int_equal(nb_get_be32(m.k.p + 20), 7);
	help_inner(&m, &b, &a, 60, 8);
	wg_send(b.d, &m.k, 1, at(2));
	assert_int_equal(m.k.verdict, WG_WIRE);
	help_unpair(&a, &b);
}

static void turn_frames(void **state)
{
	struct help_dev a, b;
	struct help_packet m;
	struct wg_ep turn = help_ep("203.0.113.1:3478");

	(void)state;
	help_pair(&a, &b);
	turn.kind = WG_EP_TURN;
	turn.id = 0x4001;
	wg_peer_set_endpoint(a.d, a.peer, &turn, at(0));
	help_inner(&m, &a, &b, 60, 0);
	wg_send(a.d, &m.k, 1, at(0));
	assert_int_equal(m.k.verdict, WG_DROP);
	assert_true(help_output(&a, &m, at(0)));
	assert_int_equal(m.k.n, 4 + WG_INI_LEN);
	assert_int_equal(nb_get_be16(m.k.p), 0x4001);
	assert_int_equal(nb_get_be16(m.k.p + 2), WG_INI_LEN);
	assert_int_equal(m.k.ep.kind, WG_EP_TURN);
	m.k.p += 4;
	m.k.n -= 4;
	assert_int_equal(help_deliver(&a, &b, &m, at(0)), WG_DROP);
	help_unpair(&a, &b);
}

static void lazy_peer(void **state)
{
	struct help_dev a, b;
	struct help_packet m;

	(void)state;
	help_dev_init(&a, 1, "192.0.2.1:1000", 1, 0);
	help_dev_init(&b, 2, "192.0.2.2:2000", 2, 0);
	help_know(&a, &b, false);
	help_know(&b, &a, false);
	for (uint32_t i = 0; i < 3; i++) {
		help_inner(&m, &a, &b, 60, i);
		wg_send(a.d, &m.k, 1, at(0.1 * i));
		assert_int_equal(m.k.verdict, WG_DROP);
	}
	assert_false(help_output(&a, &m, at(1)));
	/* told once a second at most */
	assert_int_equal(help_events(&a, WG_EV_WANTED), 1);
	help_inner(&m, &a, &b, 60, 3);
	wg_send(a.d, &m.k, 1, at(1.5));
	assert_int_equal(help_events(&a, WG_EV_WANTED), 1);
	/* the path appears: everything that waited goes, in order */
	wg_peer_set_endpoint(a.d, a.peer, &b.at, at(2));
	uint32_t next = 0;

	for (bool more = true; more;) {
		more = false;
		while (help_output(&a, &m, at(2))) {
			more = true;
			if (help_deliver(&a, &b, &m, at(2)) == WG_INNER)
				assert_int_equal(nb_get_be32(m.k.p + 20), next++);
		}
		while (help_output(&b, &m, at(2))) {
			more = true;
			help_deliver(&b, &a, &m, at(2));
		}
	}
	assert_int_equal(next, 4);
	help_unpair(&a, &b);
}

/* A peer that sleeps has no timer; packets that find it going to sleep are told again, and kept. */
static void sleeping_peer(void **state)
{
	static const struct wg_ep none = { .kind = WG_EP_NONE };
	struct help_dev a, b;
	struct help_packet m;

	(void)state;
	help_dev_init(&a, 1, "192.0.2.1:1000", 1, 0);
	help_dev_init(&b, 2, "192.0.2.2:2000", 2, 0);
	help_know(&a, &b, false);
	help_know(&b, &a, false);
	wg_peer_set_keepalive(a.d, a.peer, 25, at(0));
	wg_peer_set_keepalive(b.d, b.peer, 25, at(0));
	assert_true(nb_time_is_never(wg_deadline(a.d)));
	/* Woken, used, and put to sleep while a packet comes: between the two steps, or before both. */
	for (int i = 0; i < 2; i++) {
		double t = 10 * i;

		help_inner(&m, &a, &b, 60, 0);
		wg_send(a.d, &m.k, 1, at(t));
		assert_int_equal(help_events(&a, WG_EV_WANTED), 1);
		wg_peer_set_endpoint(a.d, a.peer, &b.at, at(t));
		wg_peer_set_endpoint(b.d, b.peer, &a.at, at(t));
		assert_int_equal(help_pump(&a, &b, at(t)), 1);
		wg_peer_reset(a.d, a.peer);
		if (i) {
			help_inner(&m, &a, &b, 60, 0);
			wg_send(a.d, &m.k, 1, at(t + 0.5));
		}
		wg_peer_set_endpoint(a.d, a.peer, &none, at(t + 0.5));
		assert_int_equal(help_events(&a, WG_EV_WANTED), i);
		wg_peer_reset(b.d, b.peer);
		wg_peer_set_endpoint(b.d, b.peer, &none, at(t + 0.5));
		assert_false(help_output(&a, &m, at(t + 9)));
		assert_true(nb_time_is_never(wg_deadline(a.d)) && nb_time_is_never(wg_deadline(b.d)));
	}
	wg_peer_set_endpoint(a.d, a.peer, &b.at, at(20));
	assert_int_equal(help_pump(&a, &b, at(20)), 1);
	/* After a reset the next packet is told at once. */
	for (int i = 0; i < 2; i++) {
		wg_peer_reset(a.d, a.peer);
		wg_peer_set_endpoint(a.d, a.peer, &none, at(21));
		help_inner(&m, &a, &b, 60, 0);
		wg_send(a.d, &m.k, 1, at(21));
		assert_int_equal(help_events(&a, WG_EV_WANTED), 1);
	}
	help_unpair(&a, &b);
}

/* All places are taken by peers that never answer: another one's first packets still find one. */
static void waiting_is_shared(void **state)
{
	struct wg_config cfg = { .random = help_random, .max_staged = 256 };
	uint64_t seed = 7;
	uint8_t key[32];
	struct wg_peer *p[301];
	struct help_packet m;
	struct wg_dev *d;
	struct help_dev from = { .inner = { 10, 0, 0, 1 } }, to = { .inner = { 10, 1, 0, 0 } };

	(void)state;
	cfg.random_ctx = &seed;
	help_random(&seed, cfg.private_key, 32);
	assert_int_equal(wg_new(&d, &cfg, at(0), HELP_WALL), 0);
	for (unsigned i = 0; i < 301; i++) {
		struct nb_prefix allowed = { .addr = { .family = 4, .ip = { 10, 1, (uint8_t)(i >> 8), (uint8_t)i } }, .len = 32 };

		help_random(&seed, key, 32);
		assert_int_equal(wg_peer_add(d, key, &p[i]), 0);
		assert_int_equal(wg_peer_allow(d, p[i], &allowed), 0);
	}
	for (unsigned i = 0; i < 1000; i++) {
		to.inner[3] = (uint8_t)(i % 5);
		help_inner(&m, &from, &to, 60, i);
		wg_send(d, &m.k, 1, at(0));
	}
	/* Five have taken everything: 51 each, one more for the last. */
	for (unsigned i = 0; i < 5; i++)
		assert_in_range(p[i]->nstaged, 51, 52);
	for (unsigned i = 5; i < 261; i++) {
		to.inner[2] = (uint8_t)(i >> 8);
		to.inner[3] = (uint8_t)i;
		help_inner(&m, &from, &to, 60, i);
		wg_send(d, &m.k, 1, at(0));
		assert_int_equal(p[i]->nstaged, 1);
	}
	/* The greedy ones have one or none left; of all others none lost its packet before every place was one packet. */
	for (unsigned i = 0; i < 5; i++)
		assert_in_range(p[i]->nstaged, 0, 1);
	for (unsigned i = 10; i < 261; i++)
		assert_int_equal(p[i]->nstaged, 1);
	/* Nobody has more than one: the peer that waits longest loses it. */
	to.inner[2] = 1;
	to.inner[3] = 44;
	help_inner(&m, &from, &to, 60, 0);
	wg_send(d, &m.k, 1, at(0));
	assert_int_equal(p[300]->nstaged, 1);
	wg_free(d);
}

/* Too many waiting: the oldest go. Other peers' share is not touched while the peer has its own. */
static void waiting_is_capped(void **state)
{
	struct help_dev a, b;
	struct help_packet m;
	unsigned got;

	(void)state;
	help_pair(&a, &b);
	for (uint32_t i = 0; i < 100; i++) {
		help_inner(&m, &a, &b, 60, i);
		wg_send(a.d, &m.k, 1, at(0));
	}
	assert_int_equal(wg_counters(a.d)->staged_drop, 100 - WG_PEER_STAGED_MAX);
	got = help_pump(&a, &b, at(0));
	assert_int_equal(got, WG_PEER_STAGED_MAX);
	/* too large to wait */
	wg_peer_reset(a.d, a.peer);
	help_inner(&m, &a, &b, 1421, 0);
	wg_send(a.d, &m.k, 1, at(10));
	assert_int_equal(wg_counters(a.d)->staged_drop, 100 - WG_PEER_STAGED_MAX + 1);
	help_unpair(&a, &b);
}

/* Both begin at once: both messages cross, and data flows both ways without waiting for a retry. */
static void crossed_handshakes(void **state)
{
	struct help_dev a, b;
	struct help_packet ia, ib, m;

	(void)state;
	help_pair(&a, &b);
	help_inner(&m, &a, &b, 60, 1);
	wg_send(a.d, &m.k, 1, at(0));
	help_inner(&m, &b, &a, 60, 2);
	wg_send(b.d, &m.k, 1, at(0));
	assert_true(help_output(&a, &ia, at(0)));
	assert_true(help_output(&b, &ib, at(0)));
	help_deliver(&a, &b, &ia, at(0));
	help_deliver(&b, &a, &ib, at(0));
	assert_int_equal(help_pump(&a, &b, at(0.01)), 2);
	assert_true(help_exchange(&a, &b, at(1)));
	assert_true(help_exchange(&b, &a, at(1)));
	help_unpair(&a, &b);
}

/* Messages on the old key that arrive after a rekey are still good; two rekeys later they are not. */
static void old_keys_linger(void **state)
{
	struct help_dev a, b;
	struct help_packet late[3];

	(void)state;
	help_pair(&a, &b);
	assert_true(help_exchange(&a, &b, at(0)));
	for (int i = 0; i < 3; i++) {
		help_inner(&late[i], &a, &b, 60, 0);
		wg_send(a.d, &late[i].k, 1, at(1));
	}
	wg_peer_handshake(a.d, a.peer, true, at(6));
	help_pump(&a, &b, at(6));
	assert_int_equal(help_deliver(&a, &b, &late[0], at(6)), WG_INNER);
	wg_peer_handshake(b.d, b.peer, true, at(12));
	help_pump(&a, &b, at(12));
	assert_int_equal(help_deliver(&a, &b, &late[1], at(12)), WG_DROP);
	assert_true(help_exchange(&a, &b, at(12)));
	help_unpair(&a, &b);
}

static void replayed_initiation(void **state)
{
	struct help_dev a, b;
	struct help_packet m, copy, out;

	(void)state;
	help_pair(&a, &b);
	wg_peer_handshake(a.d, a.peer, false, at(0));
	assert_true(help_output(&a, &m, at(0)));
	copy = m;
	copy.k.p = copy.buf + (m.k.p - m.buf);
	help_deliver(&a, &b, &m, at(0));
	assert_true(help_output(&b, &out, at(0)));
	help_deliver(&a, &b, &copy, at(1));
	assert_false(help_output(&b, &out, at(1)));
	assert_int_equal(wg_counters(b.d)->bad_handshake, 1);

	/* a newer one within 20 ms of the last is refused as well */
	wg_peer_reset(a.d, a.peer);
	wg_peer_handshake(a.d, a.peer, false, at(2));
	assert_true(help_output(&a, &m, at(2)));
	help_deliver(&a, &b, &m, at(2));
	assert_true(help_output(&b, &out, at(2)));
	wg_peer_reset(a.d, a.peer);
	wg_peer_handshake(a.d, a.peer, false, at(2.01));
	assert_true(help_output(&a, &m, at(2.01)));
	help_deliver(&a, &b, &m, at(2.01));
	assert_false(help_output(&b, &out, at(2.01)));
	help_unpair(&a, &b);
}

/* Stock's two initiations with one stamp: the second is the one that counts. A third is a replay. */
static void twin_initiations(void **state)
{
	struct help_dev a, b;
	struct help_packet m, out;
	struct nb_wall stamp;

	(void)state;
	help_pair(&a, &b);
	stamp = a.d->tai_last;
	for (int i = 0; i < 3; i++) {
		struct nb_time when = at(0.001 * i);

		wg_peer_reset(a.d, a.peer);
		a.peer->ever_sent_handshake = false;
		a.d->tai_last = stamp;
		wg_peer_handshake(a.d, a.peer, false, when);
		assert_true(help_output(&a, &m, when));
		help_deliver(&a, &b, &m, when);
		assert_int_equal(help_output(&b, &out, when), i < 2);
		if (i == 1)
			help_deliver(&b, &a, &out, when);
	}
	help_unpair(&a, &b);

	/* Too late, the same stamp is a replay like any other. */
	help_pair(&a, &b);
	stamp = a.d->tai_last;
	for (int i = 0; i < 2; i++) {
		wg_peer_reset(a.d, a.peer);
		a.peer->ever_sent_handshake = false;
		a.d->tai_last = stamp;
		wg_set_wall(a.d, at(i), HELP_WALL);
		wg_peer_handshake(a.d, a.peer, false, at(i));
		assert_true(help_output(&a, &m, at(i)));
		help_deliver(&a, &b, &m, at(i));
		assert_int_equal(help_output(&b, &out, at(i)), i == 0);
	}
	help_unpair(&a, &b);
}

/* Two devices that know each other; b asks for cookies from the fifth message in a second on. */
static void busy_pair(struct help_dev *a, struct help_dev *b)
{
	help_dev_init(a, 1, "192.0.2.1:1000", 1, 0);
	help_dev_init(b, 2, "192.0.2.2:2000", 2, 4);
	help_know(a, b, true);
	help_know(b, a, true);
}

/* Valid mac1, nothing behind it: enough to make b busy. */
static void make_busy(struct help_dev *a, struct help_dev *b, unsigned n, struct nb_time now)
{
	struct help_packet m;

	for (unsigned i = 0; i < n; i++) {
		memset(&m, 0, sizeof m);
		m.k.p = m.buf;
		m.k.n = WG_INI_LEN;
		m.buf[0] = WG_MSG_INITIATION;
		m.buf[4] = (uint8_t)i;
		wg_blake2s(m.buf + WG_INI_LEN - 32, WG_MAC, a->peer->remote.mac1_key, 32, m.buf, WG_INI_LEN - 32);
		help_deliver(a, b, &m, now);
	}
	while (help_output(b, &m, now))
		;
}

/* Under load a stranger must first show that its address is real. */
static void cookies_under_load(void **state)
{
	struct help_dev a, b;
	struct help_packet m;

	(void)state;
	busy_pair(&a, &b);
	make_busy(&a, &b, 5, at(0));
	assert_int_equal(wg_counters(b.d)->cookies_sent, 1);
	/* a's honest initiation is answered by a cookie, not a response */
	assert_false(help_exchange(&a, &b, at(0.5)));
	assert_int_equal(wg_counters(b.d)->cookies_sent, 2);
	assert_true(a.peer->jar.have);
	/* keep b busy; a's next try, not much later, carries mac2 and passes */
	make_busy(&a, &b, 9, at(0.62));
	assert_false(help_output(&a, &m, at(0.51)));
	assert_int_equal(help_pump(&a, &b, at(0.62)), 1);
	assert_int_equal(help_events(&b, WG_EV_HANDSHAKE), 1);
	help_unpair(&a, &b);
}

/* One early try for each regular one, whatever the other side answers. */
static void cookies_make_no_traffic(void **state)
{
	struct help_dev a, b;
	struct help_packet m;
	unsigned sent = 0;

	(void)state;
	busy_pair(&a, &b);
	make_busy(&a, &b, 5, at(0));
	help_inner(&m, &a, &b, 100, 7);
	wg_send(a.d, &m.k, 1, at(0));
	for (double t = 0; t < 4.9; t += 0.05) {
		make_busy(&a, &b, 5, at(t));
		/* a cookie nobody believes any more */
		b.d->checker.have_secret = false;
		while (help_output(&a, &m, at(t))) {
			sent++;
			help_deliver(&a, &b, &m, at(t));
		}
		while (help_output(&b, &m, at(t)))
			help_deliver(&b, &a, &m, at(t));
	}
	assert_int_equal(sent, 2);
	assert_true(wg_counters(b.d)->cookies_sent >= 2);
	help_unpair(&a, &b);
}

static void stamps_always_grow(void **state)
{
	struct wg_config cfg = { .random = help_random };
	uint64_t seed = 4;
	struct wg_dev *d;
	struct wg_event ev;
	uint8_t last[WG_TAI], tai[WG_TAI], floor_tai[WG_TAI];
	struct nb_wall floor = { HELP_WALL.ns + 777 };

	(void)state;
	cfg.random_ctx = &seed;
	cfg.private_key[0] = 8;
	cfg.tai_floor = floor;
	/* A machine whose clock starts in 1970 */
	assert_int_equal(wg_new(&d, &cfg, HELP_START, (struct nb_wall){ 0 }), 0);
	nb_put_be64(floor_tai, 0x400000000000000aULL + (uint64_t)(floor.ns / NB_SEC));
	nb_put_be32(floor_tai + 8, (uint32_t)(floor.ns % NB_SEC));
	wg_tai_next(d, last, at(0));
	assert_true(memcmp(last, floor_tai, WG_TAI) > 0);
	assert_int_equal(wg_event(d, &ev), 1);
	assert_int_equal(ev.kind, WG_EV_TAI);
	assert_true(ev.tai.ns > floor.ns + 3500 * NB_SEC);
	for (int i = 0; i < 500; i++) {
		wg_tai_next(d, tai, at(i * 0.001));
		assert_true(memcmp(tai, last, WG_TAI) > 0);
		assert_int_equal(nb_get_be32(tai + 8) & 0xffffff, 0);
		assert_true(nb_get_be32(tai + 8) < NB_SEC);
		memcpy(last, tai, WG_TAI);
	}
	assert_int_equal(wg_event(d, &ev), 0);
	/* The clock is set; stamps follow it, and are persisted again. */
	wg_set_wall(d, at(1), (struct nb_wall){ floor.ns + 86400 * NB_SEC });
	wg_tai_next(d, tai, at(1));
	assert_true(memcmp(tai, last, WG_TAI) > 0);
	assert_int_equal(nb_get_be64(tai), 0x400000000000000aULL + (uint64_t)(floor.ns / NB_SEC) + 86400);
	assert_int_equal(wg_event(d, &ev), 1);
	/* Back in time: they do not follow. */
	memcpy(last, tai, WG_TAI);
	wg_set_wall(d, at(1), HELP_WALL);
	wg_tai_next(d, tai, at(1));
	assert_true(memcmp(tai, last, WG_TAI) > 0);
	wg_free(d);
}

static void keys_and_peers(void **state)
{
	struct help_dev a, b;
	struct wg_peer *p;
	uint8_t zero[32] = { 0 }, key[32];

	(void)state;
	help_pair(&a, &b);
	assert_int_equal(wg_peer_add(a.d, a.pub, &p), NB_E_ARG);
	assert_int_equal(wg_peer_add(a.d, zero, &p), NB_E_ARG);
	assert_int_equal(wg_peer_add(a.d, b.pub, &p), NB_E_EXISTS);
	assert_ptr_equal(p, a.peer);
	assert_true(help_exchange(&a, &b, at(0)));
	/* The same key: nothing happens. */
	wg_set_private_key(a.d, a.priv);
	assert_true(wg_keypair_sends(a.peer->current, at(0)));
	/* A new key ends the session; b does not know it. */
	help_random(&a.seed, key, 32);
	wg_set_private_key(a.d, key);
	assert_false(help_exchange(&a, &b, at(1)));
	/* b learns the new key and drops the old one. */
	wg_peer_remove(b.d, b.peer);
	wg_public_key(a.d, a.pub);
	help_know(&b, &a, true);
	assert_int_equal(help_pump(&a, &b, at(7)), 1);
	/* Without a key nothing is sent or taken. */
	wg_set_private_key(a.d, zero);
	assert_false(help_exchange(&a, &b, at(8)));
	assert_false(help_exchange(&b, &a, at(8)));
	/* A key that is a peer's: that peer goes. */
	wg_set_private_key(a.d, b.priv);
	assert_null(wg_peer_find(a.d, b.pub));
	assert_null(wg_peer_next(a.d, NULL));
	help_unpair(&a, &b);
}

/* Many peers: the index table grows, finds and forgets. */
static void many_peers(void **state)
{
	enum { N = 700 };
	static uint32_t index[N];
	static struct wg_peer *peer[N];
	struct help_dev a;
	struct wg_peer *p;
	size_t n = 0;

	(void)state;
	help_dev_init(&a, 1, "192.0.2.1:1000", 1, 0);
	for (int i = 0; i < N; i++) {
		uint8_t key[32], priv[32];

		help_random(&a.seed, priv, 32);
		wg_dh_public(key, priv);
		assert_int_equal(wg_peer_add(a.d, key, &peer[i]), 0);
		index[i] = wg_index_new(a.d, peer[i], NULL);
	}
	for (int i = 0; i < N; i += 3)
		wg_index_del(a.d, index[i]);
	for (int i = 0; i < N; i++) {
		const struct wg_index *e = wg_index_find(a.d, index[i]);

		assert_true(i % 3 ? e && e->peer == peer[i] : !e);
	}
	for (p = NULL; (p = wg_peer_next(a.d, p)) != NULL; n++)
		;
	assert_int_equal(n, N);
	for (int i = 0; i < N; i++)
		if (i % 3)
			wg_index_del(a.d, index[i]);
	wg_free(a.d);
}

static void garbage(void **state)
{
	static const uint8_t rows[][8] = {
		{ 0 }, { 1 }, { 2 }, { 3 }, { 4, 0, 0, 1 }, { 5 }, { 0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42 },
	};
	struct help_dev a, b;
	struct help_packet m;

	(void)state;
	help_pair(&a, &b);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		for (size_t n = 0; n <= 160; n++) {
			if (rows[i][0] == 1 && n == WG_INI_LEN)
				continue;
			if ((rows[i][0] == 2 && n == WG_RES_LEN) || (rows[i][0] == 3 && n == WG_COO_LEN))
				continue;
			memset(&m, 0, sizeof m);
			memcpy(m.buf, rows[i], 8);
			m.k.p = m.buf;
			m.k.n = n;
			assert_int_equal(help_deliver(&a, &b, &m, at(0)), WG_DROP);
		}
	}
	assert_int_equal(wg_counters(b.d)->bad_message, 161 * 7 - 3);
	help_unpair(&a, &b);
}

/* Packets that wait because the endpoint was taken away go out when the other side is heard again, and those behind them. */
static void waiting_go_when_heard(void **state)
{
	struct wg_ep none = { .kind = WG_EP_NONE };
	struct help_dev a, b;
	struct help_packet m, r;

	(void)state;
	help_pair(&a, &b);
	assert_true(help_exchange(&a, &b, HELP_START));
	wg_peer_set_endpoint(a.d, a.peer, &none, HELP_START);
	for (unsigned i = 0; i < 3; i++) {
		help_inner(&m, &a, &b, 60, i);
		wg_send(a.d, &m.k, 1, HELP_START);
		assert_int_equal(m.k.verdict, WG_DROP);
	}
	assert_int_equal(a.peer->nstaged, 3);
	help_inner(&r, &b, &a, 60, 9);
	wg_send(b.d, &r.k, 1, HELP_START);
	assert_int_equal(help_deliver(&b, &a, &r, HELP_START), WG_INNER);
	assert_int_equal(help_pump(&a, &b, HELP_START), 3);
	help_inner(&m, &a, &b, 60, 4);
	wg_send(a.d, &m.k, 1, HELP_START);
	assert_int_equal(m.k.verdict, WG_WIRE);
	help_unpair(&a, &b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(waiting_go_when_heard), cmocka_unit_test(first_packet_makes_session),
		cmocka_unit_test(psk_must_match),
		cmocka_unit_test(padding), cmocka_unit_test(congestion_marks),
		cmocka_unit_test(refused_inside),
		cmocka_unit_test(roaming),
		cmocka_unit_test(way_shown_by_peer), cmocka_unit_test(turn_frames),
		cmocka_unit_test(lazy_peer), cmocka_unit_test(sleeping_peer), cmocka_unit_test(waiting_is_shared),
		cmocka_unit_test(waiting_is_capped),
		cmocka_unit_test(crossed_handshakes),
		cmocka_unit_test(old_keys_linger),
		cmocka_unit_test(replayed_initiation),
		cmocka_unit_test(twin_initiations),
		cmocka_unit_test(cookies_under_load), cmocka_unit_test(cookies_make_no_traffic),
		cmocka_unit_test(stamps_always_grow),
		cmocka_unit_test(keys_and_peers),
		cmocka_unit_test(many_peers),
		cmocka_unit_test(garbage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
