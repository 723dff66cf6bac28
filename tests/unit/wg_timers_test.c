/* wg_timers_test.c - the timer rules of the paper (6) one by one, on a fake clock: who sends what and when. */
#include "wg_help.h"

static struct nb_time at(double s)
{
	return nb_time_add(HELP_START, (int64_t)(s * NB_SEC));
}

static double seconds(struct nb_time t)
{
	return nb_time_is_never(t) ? -1 : (double)nb_time_diff(t, HELP_START) / NB_SEC;
}

/* The next moment h sends something by itself, up to `until`; the message is dropped. -1: nothing. */
static double next_output(struct help_dev *h, double until, size_t *n)
{
	struct help_packet m;

	for (;;) {
		struct nb_time t = wg_deadline(h->d);

		if (nb_time_is_never(t) || seconds(t) > until)
			return -1;
		if (help_output(h, &m, t)) {
			*n = m.k.n;
			return seconds(t);
		}
	}
}

#define assert_about(v, lo, hi) do { double v_ = (v); if (v_ < (lo) || v_ > (hi)) fail_msg("%s = %.3f", #v, v_); } while (0)

/* 5 s plus jitter between tries, 20 tries in all, then the waiting packets are dropped. */
static void retries_and_gives_up(void **state)
{
	struct help_dev a, b;
	struct help_packet m;
	size_t n, tries = 1;
	double t, last = 0;

	(void)state;
	help_pair(&a, &b);
	help_inner(&m, &a, &b, 60, 0);
	wg_send(a.d, &m.k, 1, at(0));
	assert_true(help_output(&a, &m, at(0)));
	while ((t = next_output(&a, 600, &n)) >= 0) {
		assert_int_equal(n, WG_INI_LEN);
		assert_about(t - last, 5, 5.34);
		last = t;
		tries++;
	}
	assert_int_equal(tries, 20);
	assert_about(last, 95, 102);
	assert_int_equal(help_events(&a, WG_EV_GAVE_UP), 1);
	assert_int_equal(wg_counters(a.d)->staged_drop, 1);
	assert_int_equal(a.peer->nstaged, 0);
	/* then only the keys are wiped, 540 s later */
	assert_false(a.peer->initiating && seconds(wg_deadline(a.d)) > 700);
	help_output(&a, &m, at(700));
	assert_false(a.peer->initiating);
	/* new traffic starts over */
	help_inner(&m, &a, &b, 60, 0);
	wg_send(a.d, &m.k, 1, at(701));
	assert_int_equal(help_pump(&a, &b, at(701)), 1);
	help_unpair(&a, &b);
}

/* A forced handshake is held back to 20 ms after the last one, not to 5 s. */
static void forced_soon(void **state)
{
	struct help_dev a, b;
	struct help_packet m;
	struct wg_ep elsewhere = help_ep("192.0.2.7:7");
	size_t n;

	(void)state;
	help_pair(&a, &b);
	help_inner(&m, &a, &b, 60, 0);
	wg_send(a.d, &m.k, 1, at(0));
	assert_true(help_output(&a, &m, at(0)));
	/* the path changes at once: what was sent goes nowhere */
	wg_peer_set_endpoint(a.d, a.peer, &elsewhere, at(0.005));
	assert_false(help_output(&a, &m, at(0.005)));
	assert_about(next_output(&a, 1, &n), 0.02, 0.0201);
	assert_int_equal(n, WG_INI_LEN);
	/* and from there on the usual times */
	assert_about(next_output(&a, 10, &n), 5.02, 5.36);
	help_unpair(&a, &b);
}

/* Data received and nothing sent for 10 s: one keepalive; a second if data came meanwhile. */
static void passive_keepalive(void **state)
{
	struct help_dev a, b;
	size_t n;

	(void)state;
	help_pair(&a, &b);
	assert_true(help_exchange(&a, &b, at(0)));
	assert_about(next_output(&b, 14, &n), 10, 10.001);
	assert_int_equal(n, 32);
	assert_about(next_output(&b, 14, &n), -1, -1);

	/* (a missed that keepalive, so it shakes hands again at 15 s) */
	help_pump(&a, &b, at(16));
	assert_true(help_exchange(&a, &b, at(31)));
	assert_true(help_exchange(&a, &b, at(33)));
	assert_about(next_output(&b, 60, &n), 41, 41.001);
	assert_about(next_output(&b, 60, &n), 51, 51.001);
	assert_about(next_output(&b, 60, &n), -1, -1);
	help_unpair(&a, &b);
}

/* What went out and was not answered by the same path for 0.4 s is told; what comes by a relay meanwhile does not
 * count, nor is there anything to tell when nothing was sent, or when the path is another one by then. */
static void silence_is_told(void **state)
{
	struct wg_ep elsewhere = help_ep("192.0.2.7:7");
	struct help_dev a, b;
	struct help_packet m, r;

	(void)state;
	help_pair(&a, &b);
	assert_true(help_exchange(&a, &b, at(0)));
	assert_true(help_exchange(&b, &a, at(0.1)));
	help_output(&a, &m, at(0.6));
	help_events(&a, WG_EV_SILENT);
	help_output(&a, &m, at(5));
	assert_int_equal(help_events(&a, WG_EV_SILENT), 0);
	help_inner(&m, &a, &b, 60, 0);
	wg_send(a.d, &m.k, 1, at(5));
	help_inner(&m, &a, &b, 60, 0);
	wg_send(a.d, &m.k, 1, at(5.1));
	/* from the relay */
	help_inner(&r, &b, &a, 60, 0);
	wg_send(b.d, &r.k, 1, at(5.2));
	r.k.ep = (struct wg_ep){ .kind = WG_EP_STREAM, .id = 9 };
	wg_input(a.d, &r.k, 1, at(5.2));
	assert_int_equal(r.k.verdict, WG_INNER);
	help_output(&a, &m, at(5.39));
	assert_int_equal(help_events(&a, WG_EV_SILENT), 0);
	help_output(&a, &m, at(5.4));
	assert_int_equal(help_events(&a, WG_EV_SILENT), 1);
	help_output(&a, &m, at(7));
	assert_int_equal(help_events(&a, WG_EV_SILENT), 0);
	/* more data: told again, unless the way is changed */
	help_inner(&m, &a, &b, 60, 0);
	wg_send(a.d, &m.k, 1, at(8));
	help_output(&a, &m, at(8.4));
	assert_int_equal(help_events(&a, WG_EV_SILENT), 0);	/* one packet alone may be an answer */
	help_inner(&m, &a, &b, 60, 0);
	wg_send(a.d, &m.k, 1, at(8.5));
	help_output(&a, &m, at(8.5));
	assert_int_equal(help_events(&a, WG_EV_SILENT), 1);
	help_inner(&m, &a, &b, 60, 0);
	wg_send(a.d, &m.k, 1, at(9));
	wg_peer_set_endpoint(a.d, a.peer, &elsewhere, at(9.1));
	help_output(&a, &m, at(9.5));
	assert_int_equal(help_events(&a, WG_EV_SILENT), 0);
	help_unpair(&a, &b);
}

/* Data sent and nothing back for 15 s: a new handshake. A keepalive back prevents it. */
static void no_answer_new_handshake(void **state)
{
	struct help_dev a, b;
	struct help_packet m;
	size_t n;

	(void)state;
	help_pair(&a, &b);
	assert_true(help_exchange(&a, &b, at(0)));
	assert_true(help_output(&b, &m, at(10)));
	help_deliver(&b, &a, &m, at(10));
	assert_about(next_output(&a, 100, &n), -1, -1);

	help_inner(&m, &a, &b, 60, 0);
	wg_send(a.d, &m.k, 1, at(100));
	assert_int_equal(m.k.verdict, WG_WIRE);
	/* later ones do not push it back */
	help_inner(&m, &a, &b, 60, 0);
	wg_send(a.d, &m.k, 1, at(105));
	assert_about(next_output(&a, 130, &n), 115, 115.34);
	assert_int_equal(n, WG_INI_LEN);
	help_unpair(&a, &b);
}

static void persistent_keepalive(void **state)
{
	struct help_dev a, b;
	size_t n;

	(void)state;
	help_pair(&a, &b);
	/* Switched on: a handshake at once, since there is no session. */
	wg_peer_set_keepalive(a.d, a.peer, 25, at(0));
	help_pump(&a, &b, at(0));
	assert_int_equal(help_events(&b, WG_EV_HANDSHAKE), 1);
	assert_about(next_output(&a, 60, &n), 25, 25.001);
	assert_int_equal(n, 32);
	/* Anything authentic in either direction moves it. */
	assert_true(help_exchange(&a, &b, at(40)));
	assert_true(help_exchange(&b, &a, at(41)));
	help_pump(&a, &b, at(51));
	assert_about(next_output(&a, 80, &n), 76, 76.001);
	wg_peer_set_keepalive(a.d, a.peer, 0, at(80));
	assert_about(next_output(&a, 110, &n), -1, -1);
	/* On again with a session: at once. */
	wg_peer_set_keepalive(a.d, a.peer, 10, at(110));
	assert_about(next_output(&a, 111, &n), -1000, 110);
	assert_int_equal(n, 32);
	help_unpair(&a, &b);
}

static size_t sends(struct help_dev *from, struct help_dev *to, double t)
{
	struct help_packet m;
	size_t handshakes = 0;

	help_inner(&m, from, to, 60, 0);
	wg_send(from->d, &m.k, 1, at(t));
	if (m.k.verdict == WG_WIRE)
		assert_int_equal(help_deliver(from, to, &m, at(t)), WG_INNER);
	while (help_output(from, &m, at(t)))
		handshakes += m.k.n == WG_INI_LEN;
	return handshakes;
}

/* Only the initiator renews by age, on sending from 120 s on; nobody uses a key of 180 s. */
static void rekey_by_age(void **state)
{
	struct help_dev a, b;

	(void)state;
	help_pair(&a, &b);
	assert_true(help_exchange(&a, &b, at(0)));
	assert_int_equal(sends(&b, &a, 1), 0);
	assert_int_equal(sends(&a, &b, 119.9), 0);
	assert_int_equal(sends(&b, &a, 120.1), 0);
	assert_int_equal(sends(&a, &b, 120.1), 1);
	/* not again within 5 s, then by the retry timer; old key in use meanwhile */
	assert_int_equal(sends(&a, &b, 121), 0);
	assert_int_equal(sends(&b, &a, 179.9), 0);
	/* over: the responder itself begins */
	assert_int_equal(sends(&b, &a, 180.1), 1);
	assert_int_equal(b.peer->nstaged, 1);
	help_unpair(&a, &b);
}

/* An initiator that only receives (keepalives, not data) renews once, from 165 s on. */
static void rekey_on_receive(void **state)
{
	struct help_dev a, b;
	struct help_packet m;
	size_t n = 0;

	(void)state;
	help_pair(&a, &b);
	assert_true(help_exchange(&a, &b, at(0)));
	assert_true(help_exchange(&b, &a, at(1)));
	wg_peer_set_keepalive(b.d, b.peer, 3, at(1));
	for (double t = 2; t < 179; t += 1) {
		while (help_output(&b, &m, at(t)))
			help_deliver(&b, &a, &m, at(t));
		while (help_output(&a, &m, at(t))) {
			if (m.k.n == WG_INI_LEN && n++ == 0)
				assert_about(t, 165, 169);
		}
	}
	/* the first and its retries at 5 s intervals */
	assert_in_range(n, 2, 3);
	help_unpair(&a, &b);
}

static void rekey_by_count(void **state)
{
	struct help_dev a, b;

	(void)state;
	help_pair(&a, &b);
	assert_true(help_exchange(&a, &b, at(0)));
	assert_int_equal(sends(&b, &a, 1), 0);
	/* any side renews by count */
	b.peer->current->send_counter = WG_REKEY_AFTER_MESSAGES - 1;
	assert_int_equal(sends(&b, &a, 6), 0);
	assert_int_equal(sends(&b, &a, 6), 1);
	b.peer->current->send_counter = WG_REJECT_AFTER_MESSAGES;
	assert_int_equal(sends(&b, &a, 7), 0);
	assert_int_equal(b.peer->nstaged, 1);
	help_unpair(&a, &b);
}

static void keys_are_wiped(void **state)
{
	struct help_dev a, b;
	struct help_packet m;

	(void)state;
	help_pair(&a, &b);
	assert_true(help_exchange(&a, &b, at(0)));
	while (help_output(&b, &m, at(539)))
		;
	assert_non_null(b.peer->current);
	while (help_output(&b, &m, at(540)))
		;
	assert_null(b.peer->current);
	assert_null(b.peer->previous);
	assert_null(b.peer->next);
	help_unpair(&a, &b);
}

/* Many peers with different intervals: each fires in its turn, whatever the order in the heap. */
static void heap_order(void **state)
{
	enum { N = 200 };
	static struct wg_peer *peer[N];
	struct help_dev a;
	struct help_packet m;
	struct nb_time last = HELP_START;
	size_t fired = 0, removed = 0;

	(void)state;
	help_dev_init(&a, 1, "192.0.2.1:1000", 1, 0);
	for (int i = 0; i < N; i++) {
		uint8_t key[32], priv[32];
		struct wg_ep ep = help_ep("192.0.2.9:9");

		help_random(&a.seed, priv, 32);
		wg_dh_public(key, priv);
		assert_int_equal(wg_peer_add(a.d, key, &peer[i]), 0);
		wg_peer_set_endpoint(a.d, peer[i], &ep, at(0));
		wg_peer_handshake(a.d, peer[i], true, at(i * 0.01));
		assert_true(help_output(&a, &m, at(i * 0.01)));
		if (i % 7 == 3) {
			wg_peer_remove(a.d, peer[i - 1]);
			removed++;
		}
	}
	for (;;) {
		struct nb_time t = wg_deadline(a.d);

		assert_false(nb_time_before(t, last));
		if (seconds(t) > 7.5)
			break;
		last = t;
		while (help_output(&a, &m, t))
			fired++;
	}
	assert_int_equal(fired, N - removed);
	wg_free(a.d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(retries_and_gives_up),
		cmocka_unit_test(forced_soon),
		cmocka_unit_test(passive_keepalive),
		cmocka_unit_test(no_answer_new_handshake), cmocka_unit_test(silence_is_told),
		cmocka_unit_test(persistent_keepalive),
		cmocka_unit_test(rekey_by_age),
		cmocka_unit_test(rekey_on_receive),
		cmocka_unit_test(rekey_by_count),
		cmocka_unit_test(keys_are_wiped),
		cmocka_unit_test(heap_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
