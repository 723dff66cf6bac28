/* wg_link_test.c - two devices over a link that loses, delays, reorders, duplicates and damages, on a
 * virtual clock. Nothing sleeps. What must hold: no packet comes out twice or changed, order of the
 * world is restored within the protocol's own times, sessions are renewed without a gap. */
#include "unit/wg_help.h"

struct in_flight {
	struct nb_time when;
	bool to_b;
	size_t n;
	uint8_t bytes[1600];
};

enum { LINK_MAX = 512 };

struct link {
	struct in_flight slot[LINK_MAX];
	bool used[LINK_MAX];
	uint64_t seed;
	unsigned loss, dup, damage;	/* per 1000 */
	int64_t delay_ms, jitter_ms;
	bool cut;
};

static unsigned draw(struct link *l, unsigned below)
{
	uint32_t r;

	help_random(&l->seed, &r, sizeof r);
	return r % below;
}

static void link_put(struct link *l, bool to_b, const uint8_t *p, size_t n, struct nb_time now)
{
	unsigned copies = 1 + (draw(l, 1000) < l->dup);

	if (l->cut || draw(l, 1000) < l->loss)
		return;
	while (copies--) {
		int i = 0;

		while (i < LINK_MAX && l->used[i])
			i++;
		if (i == LINK_MAX)
			return;
		struct in_flight *f = &l->slot[i];

		l->used[i] = true;
		f->to_b = to_b;
		f->n = n;
		memcpy(f->bytes, p, n);
		if (draw(l, 1000) < l->damage)
			f->bytes[draw(l, (unsigned)n)] ^= (uint8_t)(1 + draw(l, 255));
		f->when = nb_time_add_ms(now, l->delay_ms + (l->jitter_ms ? draw(l, (unsigned)l->jitter_ms) : 0));
	}
}

static struct nb_time link_deadline(const struct link *l)
{
	struct nb_time t = NB_TIME_NEVER;

	for (int i = 0; i < LINK_MAX; i++)
		if (l->used[i])
			t = nb_time_min(t, l->slot[i].when);
	return t;
}

/* One end with its traffic. */
struct end {
	struct help_dev h;
	uint32_t sent, got;
	bool seen[200000];
	struct nb_time last_got;
	int64_t longest_gap;
};

struct world {
	struct link link;
	struct end a, b;
	struct nb_time now;
};

static void drain(struct world *w, struct end *e)
{
	static struct help_packet m;

	while (help_output(&e->h, &m, w->now))
		link_put(&w->link, e == &w->a, m.k.p, m.k.n, w->now);
}

static void arrived(struct world *w, struct end *e, const struct wg_pkt *k)
{
	uint32_t tag = nb_get_be32(k->p + 20);

	assert_true(tag < sizeof e->seen);
	assert_false(e->seen[tag]);
	for (size_t i = 24; i < k->n; i++)
		assert_int_equal(k->p[i], (uint8_t)(tag + i));
	e->seen[tag] = true;
	e->got++;
	if (e->last_got.ns && nb_time_diff(w->now, e->last_got) > e->longest_gap)
		e->longest_gap = nb_time_diff(w->now, e->last_got);
	e->last_got = w->now;
}

static void deliver_due(struct world *w)
{
	static struct help_packet m;

	for (int i = 0; i < LINK_MAX; i++) {
		struct in_flight *f = &w->link.slot[i];

		if (!w->link.used[i] || !nb_time_due(f->when, w->now))
			continue;
		w->link.used[i] = false;
		struct end *to = f->to_b ? &w->b : &w->a, *from = f->to_b ? &w->a : &w->b;

		memcpy(m.buf, f->bytes, f->n);
		m.k.buf = m.buf;
		m.k.cap = sizeof m.buf;
		m.k.p = m.buf;
		m.k.n = f->n;
		if (help_deliver(&from->h, &to->h, &m, w->now) == WG_INNER)
			arrived(w, to, &m.k);
		drain(w, to);
	}
}

static void send_packet(struct world *w, struct end *from, struct end *to)
{
	static struct help_packet m;
	uint32_t tag = from->sent++;
	size_t n = 60 + draw(&w->link, 1300);

	help_inner(&m, &from->h, &to->h, n, tag);
	for (size_t i = 24; i < n; i++)
		m.k.p[i] = (uint8_t)(tag + i);
	wg_send(from->h.d, &m.k, 1, w->now);
	if (m.k.verdict == WG_WIRE)
		link_put(&w->link, from == &w->a, m.k.p, m.k.n, w->now);
	drain(w, from);
}

static struct world *world_new(uint64_t seed)
{
	struct world *w = calloc(1, sizeof *w);

	assert_non_null(w);
	help_pair(&w->a.h, &w->b.h);
	w->a.h.seed += seed;
	w->b.h.seed += seed;
	w->link.seed = seed;
	w->now = HELP_START;
	return w;
}

static void world_free(struct world *w)
{
	help_unpair(&w->a.h, &w->b.h);
	free(w);
}

/* Run for so many seconds, each end sending every so many milliseconds (0: silent). */
static void run(struct world *w, double seconds, int64_t a_ms, int64_t b_ms)
{
	struct nb_time end = nb_time_add(w->now, (int64_t)(seconds * NB_SEC));
	struct nb_time na = a_ms ? w->now : NB_TIME_NEVER, nb = b_ms ? w->now : NB_TIME_NEVER;

	for (;;) {
		struct nb_time t = nb_time_min(nb_time_min(na, nb), link_deadline(&w->link));

		t = nb_time_min(t, nb_time_min(wg_deadline(w->a.h.d), wg_deadline(w->b.h.d)));
		if (!nb_time_before(t, end))
			break;
		if (nb_time_before(w->now, t))
			w->now = t;
		deliver_due(w);
		if (nb_time_due(na, w->now)) {
			send_packet(w, &w->a, &w->b);
			na = nb_time_add_ms(na, a_ms);
		}
		if (nb_time_due(nb, w->now)) {
			send_packet(w, &w->b, &w->a);
			nb = nb_time_add_ms(nb, b_ms);
		}
		drain(w, &w->a);
		drain(w, &w->b);
	}
	w->now = end;
}

/* A clean link with delay: 20 minutes with ten renewals, nothing lost. */
static void clean_link_loses_nothing(void **state)
{
	struct world *w = world_new(1);

	(void)state;
	w->link.delay_ms = 40;
	run(w, 1200, 50, 70);
	run(w, 2, 0, 0);
	assert_int_equal(w->b.got, w->a.sent);
	assert_int_equal(w->a.got, w->b.sent);
	assert_true(w->b.longest_gap < 250 * NB_MS);
	world_free(w);
}

/* Ten bad links: what arrives is unchanged and unique, and a fair share arrives. */
static void bad_links(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 10; seed++) {
		struct world *w = world_new(seed * 7919);

		w->link.loss = 200;
		w->link.dup = 100;
		w->link.damage = 20;
		w->link.delay_ms = 20;
		w->link.jitter_ms = 300;
		run(w, 600, 40, 90);
		run(w, 2, 0, 0);
		if (w->b.got < w->a.sent * 7 / 10 || w->a.got < w->b.sent * 7 / 10)
			fail_msg("seed %llu: %u of %u and %u of %u", (unsigned long long)seed, w->b.got, w->a.sent, w->a.got,
				 w->b.sent);
		/* a renewal that fails needs a few tries at 5 s; the old key bridges them */
		assert_true(w->b.longest_gap < 12 * NB_SEC);
		world_free(w);
	}
}

/* Half of everything lost: sessions still come about. */
static void heavy_loss(void **state)
{
	struct world *w = world_new(99);

	(void)state;
	w->link.loss = 500;
	w->link.delay_ms = 50;
	run(w, 600, 100, 100);
	assert_true(w->b.got > w->a.sent * 4 / 10);
	world_free(w);
}

/* The link is cut for a while: short, the session goes on; long, it begins anew by itself. */
static void cuts(void **state)
{
	static const double lengths[] = { 1, 20, 100, 200, 700 };

	(void)state;
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		struct world *w = world_new(3 + i);
		uint32_t before;

		w->link.delay_ms = 10;
		run(w, 30, 200, 200);
		w->link.cut = true;
		run(w, lengths[i], 200, 200);
		w->link.cut = false;
		before = w->b.got;
		run(w, 12, 200, 200);
		assert_true(w->b.got > before + 20);
		world_free(w);
	}
}

/* One side restarts with nothing but its configuration; the other has an old session. */
static void restart(void **state)
{
	struct world *w = world_new(5);
	struct help_dev *b = &w->b.h;
	struct wg_config cfg = { .random = help_random, .random_ctx = &b->seed };
	uint32_t before;

	(void)state;
	w->link.delay_ms = 10;
	run(w, 30, 200, 200);
	wg_free(b->d);
	memcpy(cfg.private_key, b->priv, 32);
	assert_int_equal(wg_new(&b->d, &cfg, w->now, (struct nb_wall){ HELP_WALL.ns + 30 * NB_SEC }), 0);
	help_know(b, &w->a.h, true);
	before = w->b.got;
	/* only a talks: it finds out after 15 s without answer */
	run(w, 25, 200, 0);
	assert_true(w->b.got > before + 20);
	world_free(w);
}

/* Idle peers fall silent: after the last keepalive nothing more is sent, and keys go. */
static void silence(void **state)
{
	struct world *w = world_new(6);
	struct wg_peer_stats one, two;

	(void)state;
	w->link.delay_ms = 10;
	run(w, 10, 500, 500);
	run(w, 60, 0, 0);
	wg_peer_stats(w->a.h.d, w->a.h.peer, &one, w->now);
	run(w, 2000, 0, 0);
	wg_peer_stats(w->a.h.d, w->a.h.peer, &two, w->now);
	assert_int_equal(one.tx_bytes, two.tx_bytes);
	assert_int_equal(one.rx_bytes, two.rx_bytes);
	assert_null(w->a.h.peer->current);
	assert_true(nb_time_is_never(wg_deadline(w->a.h.d)));
	world_free(w);
}

/* Persistent keepalive holds the session through hours of silence. */
static void keepalive_holds(void **state)
{
	struct world *w = world_new(8);
	struct wg_peer_stats st;

	(void)state;
	w->link.delay_ms = 30;
	wg_peer_set_keepalive(w->a.h.d, w->a.h.peer, 25, w->now);
	run(w, 7200, 0, 0);
	wg_peer_stats(w->a.h.d, w->a.h.peer, &st, w->now);
	assert_true(st.session);
	assert_true(HELP_WALL.ns + 7200 * NB_SEC - st.last_handshake.ns < 160 * NB_SEC);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clean_link_loses_nothing), cmocka_unit_test(bad_links), cmocka_unit_test(heavy_loss),
		cmocka_unit_test(cuts), cmocka_unit_test(restart), cmocka_unit_test(silence),
		cmocka_unit_test(keepalive_holds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
