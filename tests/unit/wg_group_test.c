/* wg_group_test.c - devices that share a key and a port: whose a message, a packet and a peer are, handshakes that come to
 * the wrong one, and prefixes of each other's peers. Tests src/wg/device.c and peer.c. */
#include "wg_help.h"

struct group {
	struct wg_dev *d[WG_SHARDS_MAX];
	unsigned n;
	uint64_t seed;
	uint8_t priv[32], pub[32];
};

static const struct nb_time now = { 1000 * NB_SEC };

static void group_init(struct group *g, unsigned n)
{
	memset(g, 0, sizeof *g);
	g->seed = 99;
	g->n = n;
	help_random(&g->seed, g->priv, 32);
	wg_dh_clamp(g->priv);
	wg_dh_public(g->pub, g->priv);
	for (unsigned i = 0; i < n; i++) {
		struct wg_config cfg = { .random = help_random, .random_ctx = &g->seed, .shard = (uint8_t)i, .shards = (uint8_t)n };

		memcpy(cfg.private_key, g->priv, 32);
		assert_int_equal(wg_new(&g->d[i], &cfg, HELP_START, HELP_WALL), 0);
	}
}

static void group_fini(struct group *g)
{
	for (unsigned i = 0; i < g->n; i++)
		wg_free(g->d[i]);
}

/* A device whose key is at home in a device of g; it knows g's key. */
static void leaf_init(struct help_dev *h, const struct group *g, unsigned home, uint8_t last)
{
	struct wg_ep ep = help_ep("192.0.2.9:9");
	struct nb_prefix all = { .addr = { .family = 4 } };
	uint64_t seed = last;

	memset(h, 0, sizeof *h);
	do {
		wg_free(h->d);
		help_dev_init(h, ++seed * 7919, "192.0.2.1:1000", last, 0);
	} while (wg_home(h->pub, g->n) != home);
	assert_int_equal(wg_peer_add(h->d, g->pub, &h->peer), 0);
	assert_int_equal(wg_peer_allow(h->d, h->peer, &all), 0);
	wg_peer_set_endpoint(h->d, h->peer, &ep, now);
}

/* All devices learn of the leaf, and of a prefix of it. */
static void group_know(struct group *g, const struct help_dev *leaf, uint8_t len)
{
	struct nb_prefix p = { .addr = { .family = 4 }, .len = len };
	struct wg_peer *peer;

	memcpy(p.addr.ip, leaf->inner, 4);
	for (unsigned i = 0; i < g->n; i++) {
		int err = wg_peer_add(g->d[i], leaf->pub, &peer);

		assert_true(!err || err == NB_E_EXISTS);
		assert_int_equal(wg_peer_allow(g->d[i], peer, &p), 0);
	}
}

static void inner(struct help_packet *m, const uint8_t from[4], const uint8_t to[4])
{
	struct help_dev a = { .seed = 0 }, b = { .seed = 0 };

	memcpy(a.inner, from, 4);
	memcpy(b.inner, to, 4);
	help_inner(m, &a, &b, 60, 1);
}

/* The leaf's next message, given to device `to`. */
static int carry(struct help_dev *leaf, struct group *g, unsigned to, struct help_packet *m)
{
	assert_true(help_output(leaf, m, now));
	m->k.ep = leaf->at;
	m->k.admitted = false;
	wg_input(g->d[to], &m->k, 1, now);
	return m->k.verdict;
}

/* Make a session of a leaf with its home, by way of the first device. */
static void join(struct help_dev *leaf, struct group *g, unsigned home)
{
	struct help_packet m;

	wg_peer_handshake(leaf->d, leaf->peer, true, now);
	assert_int_equal(carry(leaf, g, 0, &m), home ? WG_ELSEWHERE : WG_DROP);
	if (home) {
		assert_int_equal(m.k.shard, home);
		assert_int_equal(m.k.n, 148);
		m.k.admitted = true;
		wg_input(g->d[home], &m.k, 1, now);
		assert_int_equal(m.k.verdict, WG_DROP);
	}
	m.k.buf = m.buf;
	m.k.cap = sizeof m.buf;
	assert_int_equal(wg_output(g->d[home], &m.k, now), 1);
	assert_int_equal(m.k.n, 92);
	assert_int_equal(m.k.p[4] & 3, home);
	m.k.ep = help_ep("192.0.2.9:9");
	wg_input(leaf->d, &m.k, 1, now);
	/* the leaf's proof of the key: a keepalive, by whose index anybody sees whose it is */
	assert_true(help_output(leaf, &m, now));
	assert_int_equal(wg_message_shard(nb_bytes(m.k.p, m.k.n), g->n), home);
	m.k.ep = leaf->at;
	m.k.admitted = false;
	wg_input(g->d[home], &m.k, 1, now);
}

static void sessions_at_home(void **state)
{
	struct group g;
	struct help_dev leaf[3];
	struct help_packet m;
	struct wg_event ev;

	(void)state;
	group_init(&g, 3);
	for (unsigned i = 0; i < 3; i++) {
		leaf_init(&leaf[i], &g, i, (uint8_t)(i + 1));
		group_know(&g, &leaf[i], 32);
	}
	for (unsigned i = 0; i < 3; i++) {
		join(&leaf[i], &g, i);
		assert_int_equal(wg_event(g.d[i], &ev), 1);
		assert_int_equal(ev.kind, WG_EV_HANDSHAKE);
		assert_memory_equal(wg_peer_key(ev.peer), leaf[i].pub, 32);
		inner(&m, leaf[i].inner, (uint8_t[]){ 10, 9, 0, 100 });
		wg_send(leaf[i].d, &m.k, 1, now);
		assert_int_equal(m.k.verdict, WG_WIRE);
		wg_input(g.d[i], &m.k, 1, now);
		assert_int_equal(m.k.verdict, WG_INNER);
		/* only the one at home has it to itself */
		assert_ptr_equal(wg_peer_next(g.d[i], NULL), m.k.peer);
		assert_null(wg_peer_next(g.d[i], m.k.peer));
	}
	for (unsigned i = 0; i < 3; i++) {
		const struct wg_counters *c = wg_counters(g.d[i]);

		assert_int_equal(c->bad_handshake + c->bad_mac + c->bad_transport + c->bad_message, 0);
		wg_free(leaf[i].d);
	}
	group_fini(&g);
}

static void initiations_in_vain(void **state)
{
	struct group g;
	struct help_dev known, stranger;
	struct help_packet m;

	(void)state;
	group_init(&g, 2);
	leaf_init(&known, &g, 1, 1);
	leaf_init(&stranger, &g, 1, 2);
	group_know(&g, &known, 32);
	/* nobody's peer goes nowhere */
	wg_peer_handshake(stranger.d, stranger.peer, true, now);
	assert_int_equal(carry(&stranger, &g, 0, &m), WG_DROP);
	assert_int_equal(wg_counters(g.d[0])->bad_handshake, 1);
	/* what was handed over once is not handed on */
	wg_peer_handshake(known.d, known.peer, true, now);
	assert_int_equal(carry(&known, &g, 0, &m), WG_ELSEWHERE);
	m.k.admitted = true;
	wg_input(g.d[0], &m.k, 1, now);
	assert_int_equal(m.k.verdict, WG_DROP);
	assert_int_equal(wg_counters(g.d[0])->bad_handshake, 2);
	/* a replay is noticed at home */
	for (int i = 0; i < 2; i++) {
		m.k.admitted = true;
		wg_input(g.d[1], &m.k, 1, now);
	}
	assert_int_equal(wg_counters(g.d[1])->bad_handshake, 1);
	wg_free(known.d);
	wg_free(stranger.d);
	group_fini(&g);
}

static void prefixes_of_others(void **state)
{
	static const uint8_t us[4] = { 10, 9, 0, 100 };
	struct group g;
	struct help_dev wide, narrow;
	struct help_packet m;
	uint64_t no_route;

	(void)state;
	group_init(&g, 2);
	leaf_init(&wide, &g, 1, 1);
	leaf_init(&narrow, &g, 0, 7);
	group_know(&g, &wide, 16);
	group_know(&g, &narrow, 32);
	join(&wide, &g, 1);
	/* whose a packet is: the longest prefix decides, known in both places */
	for (unsigned i = 0; i < 2; i++) {
		inner(&m, us, wide.inner);
		assert_int_equal(wg_packet_shard(g.d[i], nb_bytes(m.k.p, m.k.n)), 1);
		inner(&m, us, narrow.inner);
		assert_int_equal(wg_packet_shard(g.d[i], nb_bytes(m.k.p, m.k.n)), 0);
		inner(&m, us, (uint8_t[]){ 192, 0, 2, 1 });
		assert_int_equal(wg_packet_shard(g.d[i], nb_bytes(m.k.p, m.k.n)), i);
		assert_int_equal(wg_packet_shard(g.d[i], nb_bytes(m.k.p, 19)), i);
	}
	/* a source that is another device's peer's is refused */
	inner(&m, narrow.inner, us);
	wg_send(wide.d, &m.k, 1, now);
	assert_int_equal(m.k.verdict, WG_WIRE);
	wg_input(g.d[1], &m.k, 1, now);
	assert_int_equal(m.k.verdict, WG_DROP);
	assert_int_equal(wg_counters(g.d[1])->bad_inner, 1);
	/* a packet for a peer that is at home elsewhere does not wait here */
	no_route = wg_counters(g.d[0])->no_route;
	inner(&m, us, wide.inner);
	wg_send(g.d[0], &m.k, 1, now);
	assert_int_equal(m.k.verdict, WG_DROP);
	assert_int_equal(wg_counters(g.d[0])->no_route, no_route + 1);
	assert_true(nb_time_is_never(wg_deadline(g.d[0])));
	/* the wide one has it when the narrow one is gone; then nobody */
	wg_peer_remove(g.d[1], wg_peer_find(g.d[1], narrow.pub));
	inner(&m, us, narrow.inner);
	assert_int_equal(wg_packet_shard(g.d[1], nb_bytes(m.k.p, m.k.n)), 1);
	wg_peers_clear(g.d[1]);
	assert_int_equal(wg_packet_shard(g.d[1], nb_bytes(m.k.p, m.k.n)), 1);
	assert_null(wg_peer_find(g.d[1], wide.pub));
	wg_free(wide.d);
	wg_free(narrow.d);
	group_fini(&g);
}

static void whose_messages(void **state)
{
	static const struct {
		uint8_t type;
		size_t n, at;
	} rows[] = { { 1, 148, 4 }, { 2, 92, 8 }, { 3, 64, 4 }, { 4, 32, 4 }, { 4, 1452, 4 } };
	uint8_t p[1500];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		for (unsigned shards = 1; shards <= 4; shards++) {
			for (unsigned low = 0; low < 4; low++) {
				memset(p, 0xff, sizeof p);
				nb_put_le32(p, rows[i].type);
				p[rows[i].at] = (uint8_t)(0xa8 | low);
				assert_int_equal(wg_message_shard(nb_bytes(p, rows[i].n), shards),
						 rows[i].type != 1 && low < shards ? low : 0);
				/* no message at all */
				assert_int_equal(wg_message_shard(nb_bytes(p, 31), shards), 0);
			}
		}
	}
	assert_int_equal(wg_message_shard(nb_bytes(p, 0), 4), 0);
	assert_int_equal(wg_home((const uint8_t[32]){ 7 }, 1), 0);
	assert_int_equal(wg_home((const uint8_t[32]){ 7 }, 4), 3);
}

static void wrong_numbers(void **state)
{
	struct wg_config cfg = { .random = help_random, .random_ctx = &(uint64_t){ 1 }, .shard = 2, .shards = 2 };
	struct wg_dev *d;

	(void)state;
	assert_int_equal(wg_new(&d, &cfg, HELP_START, HELP_WALL), NB_E_ARG);
	cfg.shards = WG_SHARDS_MAX + 1;
	assert_int_equal(wg_new(&d, &cfg, HELP_START, HELP_WALL), NB_E_ARG);
	cfg.shards = 0;
	assert_int_equal(wg_new(&d, &cfg, HELP_START, HELP_WALL), NB_E_ARG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sessions_at_home), cmocka_unit_test(initiations_in_vain), cmocka_unit_test(prefixes_of_others),
		cmocka_unit_test(whose_messages), cmocka_unit_test(wrong_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
