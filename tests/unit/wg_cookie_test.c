/* wg_cookie_test.c - macs and cookies against recorded bytes; load meter and rate limit on a fake clock. */
#include "wg_help.h"

static struct wg_cookie_checker checker;
static uint64_t seed;

static int fresh(void **state)
{
	(void)state;
	memset(&checker, 0, sizeof checker);
	checker.burst = 10;
	seed = 3;
	return 0;
}

static struct nb_time at_ms(int64_t ms)
{
	return nb_time_add_ms(HELP_START, ms);
}

/* The recorded exchange: message, cookie reply, message with mac2. */
static void recorded(void **state)
{
	json_t *j = help_json("tests/vectors/wireguard/cookie.json");
	uint8_t priv[32], before[WG_INI_LEN], after[WG_INI_LEN], reply[WG_COO_LEN], want[32], got[WG_MAC];
	struct wg_self self, other = { .has = false };
	struct wg_remote remote;
	struct wg_cookie_jar jar = { .have = false };
	struct wg_ep from = help_ep("203.0.113.12:51820");

	(void)state;
	help_field(priv, 32, j, "responder_static_private");
	wg_self_set(&self, priv);
	help_field(want, 32, j, "mac1_key");
	assert_memory_equal(self.mac1_key, want, 32);
	help_field(want, 32, j, "cookie_key");
	assert_memory_equal(self.cookie_key, want, 32);
	assert_int_equal(wg_remote_set(&remote, &other, self.pub), 0);
	help_field(before, WG_INI_LEN, j, "message_before_cookie");
	help_field(after, WG_INI_LEN, j, "message_after_cookie");
	help_field(reply, WG_COO_LEN, j, "cookie_reply");

	/* The cookie of that source under that secret. */
	help_field(checker.secret, 32, j, "cookie_secret");
	checker.have_secret = true;
	checker.secret_birth = at_ms(0);
	wg_cookie_of(&checker, got, &from, at_ms(0), help_random, &seed);
	help_field(want, WG_MAC, j, "cookie");
	assert_memory_equal(got, want, WG_MAC);

	/* Sender: mac1, then the reply, then mac2 as well. */
	memcpy(want, before + WG_INI_LEN - 32, 32);
	assert_int_equal(wg_consume_cookie(&jar, &remote, reply, at_ms(0)), NB_E_STATE);
	wg_add_macs(before, WG_INI_LEN, &jar, &remote, at_ms(0));
	assert_memory_equal(before + WG_INI_LEN - 32, want, 32);
	assert_true(wg_mac1_ok(&self, before, WG_INI_LEN));
	assert_false(wg_mac2_ok(&checker, before, WG_INI_LEN, &from, at_ms(0), help_random, &seed));
	reply[40] ^= 1;
	assert_int_equal(wg_consume_cookie(&jar, &remote, reply, at_ms(0)), NB_E_AUTH);
	reply[40] ^= 1;
	assert_int_equal(wg_consume_cookie(&jar, &remote, reply, at_ms(0)), 0);
	assert_int_equal(wg_consume_cookie(&jar, &remote, reply, at_ms(0)), NB_E_STATE);
	wg_add_macs(before, WG_INI_LEN, &jar, &remote, at_ms(0));
	assert_memory_equal(before, after, WG_INI_LEN);
	assert_true(wg_mac2_ok(&checker, after, WG_INI_LEN, &from, at_ms(0), help_random, &seed));

	/* Our own reply opens too; another source or a later secret spoils it. */
	wg_create_cookie(reply, &checker, &self, before, WG_INI_LEN, &from, at_ms(0), help_random, &seed);
	assert_memory_equal(reply + WG_COO_RECEIVER, before + WG_INI_SENDER, 4);
	assert_int_equal(wg_consume_cookie(&jar, &remote, reply, at_ms(0)), 0);
	from.remote.port++;
	assert_false(wg_mac2_ok(&checker, after, WG_INI_LEN, &from, at_ms(0), help_random, &seed));
	from.remote.port--;
	assert_true(wg_mac2_ok(&checker, after, WG_INI_LEN, &from, at_ms(119999), help_random, &seed));
	assert_false(wg_mac2_ok(&checker, after, WG_INI_LEN, &from, at_ms(120000), help_random, &seed));

	/* An old cookie is no longer used. */
	wg_add_macs(before, WG_INI_LEN, &jar, &remote, at_ms(114999));
	assert_memory_equal(before, after, WG_INI_LEN);
	wg_add_macs(before, WG_INI_LEN, &jar, &remote, at_ms(115000));
	memset(want, 0, WG_MAC);
	assert_memory_equal(before + WG_INI_LEN - WG_MAC, want, WG_MAC);
	json_decref(j);
}

/* Relayed sources have cookies of their own. */
static void kinds_differ(void **state)
{
	struct wg_ep udp = help_ep("203.0.113.12:51820"), turn = udp, turn2, stream = { .kind = WG_EP_STREAM, .id = 0x4000 };
	uint8_t c[4][WG_MAC];

	(void)state;
	turn.kind = WG_EP_TURN;
	turn.id = 0x4000;
	turn2 = turn;
	turn2.id++;
	wg_cookie_of(&checker, c[0], &udp, at_ms(0), help_random, &seed);
	wg_cookie_of(&checker, c[1], &turn, at_ms(0), help_random, &seed);
	wg_cookie_of(&checker, c[2], &turn2, at_ms(0), help_random, &seed);
	wg_cookie_of(&checker, c[3], &stream, at_ms(0), help_random, &seed);
	for (int i = 0; i < 4; i++)
		for (int k = 0; k < i; k++)
			assert_memory_not_equal(c[i], c[k], WG_MAC);
}

static void load_is_sticky(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++)
		assert_false(wg_under_load(&checker, at_ms(0)));
	assert_true(wg_under_load(&checker, at_ms(1)));
	assert_true(wg_under_load(&checker, at_ms(999)));
	/* A second after the last excess it is over. */
	assert_true(wg_under_load(&checker, at_ms(1500)));
	assert_false(wg_under_load(&checker, at_ms(2000)));
}

static unsigned allowed_in_a_burst(const struct wg_ep *ep, struct nb_time now)
{
	unsigned n = 0;

	for (int i = 0; i < 50; i++)
		n += wg_rate_allow(&checker, ep, now);
	return n;
}

static void rates(void **state)
{
	struct wg_ep a = help_ep("192.0.2.1:1"), a2 = help_ep("192.0.2.1:2"), b = help_ep("192.0.2.2:1");
	struct wg_ep six = help_ep("[2001:db8::1]:1"), six2 = help_ep("[2001:db8::ffff:1]:1");
	unsigned n = 0;

	(void)state;
	assert_int_equal(allowed_in_a_burst(&a, at_ms(0)), 5);
	assert_int_equal(allowed_in_a_burst(&a2, at_ms(0)), 0);	/* ports do not count */
	assert_int_equal(allowed_in_a_burst(&b, at_ms(0)), 5);
	assert_int_equal(allowed_in_a_burst(&six, at_ms(0)), 5);
	assert_int_equal(allowed_in_a_burst(&six2, at_ms(0)), 0);	/* the same /64 */
	/* Twenty per second from then on. */
	for (int ms = 1; ms <= 2000; ms++)
		n += wg_rate_allow(&checker, &a, at_ms(ms));
	assert_in_range(n, 39, 41);
	/* After a pause the burst is back. */
	assert_int_equal(allowed_in_a_burst(&b, at_ms(5000)), 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(recorded, fresh), cmocka_unit_test_setup(kinds_differ, fresh),
		cmocka_unit_test_setup(load_is_sticky, fresh), cmocka_unit_test_setup(rates, fresh),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
