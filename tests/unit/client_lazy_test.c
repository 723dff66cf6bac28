/* client_lazy_test.c - the words of the environment, versions that can sleep, and when a connection may be closed. */
#include "client/lazy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

#define SECONDS(s) ((struct nb_time){ (int64_t)(s) * NB_SEC })

static void force(void **state)
{
	static const struct {
		const char *text;
		enum client_lazy_force is;
		bool bad;
	} rows[] = {
		{ NULL, CLIENT_LAZY_UNSET, false }, { "", CLIENT_LAZY_UNSET, false }, { "on", CLIENT_LAZY_ON, false },
		{ "off", CLIENT_LAZY_OFF, false }, { "ON", CLIENT_LAZY_ON, false }, { " Off ", CLIENT_LAZY_OFF, false },
		{ "true", CLIENT_LAZY_ON, false }, { "True", CLIENT_LAZY_ON, false }, { "t", CLIENT_LAZY_ON, false },
		{ "1", CLIENT_LAZY_ON, false }, { "0", CLIENT_LAZY_OFF, false }, { "F", CLIENT_LAZY_OFF, false },
		{ "false", CLIENT_LAZY_OFF, false }, { "yes", CLIENT_LAZY_UNSET, true }, { "o", CLIENT_LAZY_UNSET, true },
		{ "one", CLIENT_LAZY_UNSET, true }, { "10", CLIENT_LAZY_UNSET, true }, { "  ", CLIENT_LAZY_UNSET, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		enum client_lazy_force f = CLIENT_LAZY_ON;

		assert_int_equal(client_lazy_force_parse(&f, rows[i].text), rows[i].bad ? NB_E_BAD : 0);
		assert_int_equal(f, rows[i].is);
	}
}

static void idle_time(void **state)
{
	static const struct {
		const char *text;
		int64_t seconds;
		bool bad;
	} rows[] = {
		{ NULL, 900, false }, { "", 900, false }, { "30m", 1800, false }, { "1h", 3600, false }, { "1m30s", 90, false },
		{ "20", 1200, false }, { "2s", 2, false }, { "0", 900, true }, { "-5m", 900, true }, { "500ms", 900, true },
		{ "-3", 900, true }, { "5 m", 900, true }, { "x", 900, true }, { "9999999999999999999", 900, true },
		{ "1000000000000h", 900, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		int64_t ns = 1;

		assert_int_equal(client_lazy_idle_parse(&ns, rows[i].text), rows[i].bad ? NB_E_BAD : 0);
		assert_int_equal(ns, rows[i].seconds * NB_SEC);
	}
	assert_int_equal(client_lazy_watch_ms(CLIENT_LAZY_IDLE_NS), 4000);
	assert_int_equal(client_lazy_watch_ms(NB_SEC), 250);
}

static void versions(void **state)
{
	static const struct {
		const char *text;
		bool can;
	} rows[] = {
		{ "0.45.0", true }, { "0.44.9", false }, { "0.45.1", true }, { "0.77.1", true }, { "1.0.0", true }, { "v0.45.0", true },
		{ "0.50", true }, { "0.45", true }, { "0.44", false }, { "0.45.0-dev", true },
		{ "0.45.0-SNAPSHOT-a1b2c3d", true },
		{ "0.45.0rc1", false }, { "0.45.1rc1", true }, { "0.46.0.1", true }, { "v0.28.3-dirty", false }, { "development", true },
		{ "development-3ac1f", true }, { "dev-7470fbdd", true }, { "ci-7470fbdd", true },
		{ "a6c5960", false },
		{ "d47be154", false }, { "meta_wt_version", false }, { "", false }, { "0.x", false }, { "..", false },
		{ ".45.0", false }, { "0.45.", false }, { "0.45.0 x", false },
		{ "99999999999999999999.1", true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (client_lazy_supported(rows[i].text) != rows[i].can)
			fail_msg("%s: %d", rows[i].text, !rows[i].can);
}

static void when(void **state)
{
	struct client_lazy l = { 0 };
	const int64_t idle = 900 * NB_SEC;

	(void)state;
	client_lazy_woken(&l, false, SECONDS(100));
	assert_int_equal(client_lazy_due(&l, idle, true, SECONDS(101)).ns, SECONDS(1000).ns);
	client_lazy_used(&l, SECONDS(500));
	assert_int_equal(client_lazy_due(&l, idle, true, SECONDS(101)).ns, SECONDS(1400).ns);
	/* Nobody answers: a minute after the last packet that waited, or after the path was lost. */
	assert_int_equal(client_lazy_due(&l, idle, false, SECONDS(101)).ns, SECONDS(560).ns);
	assert_int_equal(client_lazy_due(&l, idle, false, SECONDS(800)).ns, SECONDS(860).ns);
	assert_int_equal(client_lazy_due(&l, 2 * NB_SEC, false, SECONDS(101)).ns, SECONDS(502).ns);
	/* Times without end do not overflow. */
	assert_true(client_lazy_due(&l, INT64_MAX, true, SECONDS(101)).ns > SECONDS(1u << 30).ns);
}

static void idle_for(struct client_lazy *l, int64_t times, struct nb_time now)
{
	const int64_t idle = 100 * NB_SEC;

	assert_int_equal(client_lazy_due(l, idle, true, now).ns, nb_time_add(now, times * idle).ns);
}

/* A peer that comes back at once and for nothing each time is left alone for longer and longer, until it wants
 * something, or tells us to sleep itself. */
static void patience(void **state)
{
	static const int64_t times[] = { 1, 4, 16, 64, 64 };
	struct client_lazy l = { 0 };
	struct nb_time now = SECONDS(1000);

	(void)state;
	client_lazy_woken(&l, true, now);
	idle_for(&l, 1, now);
	for (int i = 0; i < 5; i++) {
		now = nb_time_add(now, 500 * NB_SEC);
		client_lazy_slept(&l, true, now);
		now = nb_time_add(now, 7 * NB_SEC);
		client_lazy_woken(&l, true, now);
		client_lazy_called(&l, now);
		idle_for(&l, times[i], now);
	}
	/* Data: it had a reason. */
	client_lazy_used(&l, now);
	client_lazy_slept(&l, true, now);
	client_lazy_woken(&l, true, now);
	idle_for(&l, 1, now);
	client_lazy_slept(&l, true, now);
	client_lazy_woken(&l, true, now);
	idle_for(&l, 4, now);
	/* It can tell, too. */
	client_lazy_slept(&l, false, now);
	client_lazy_woken(&l, true, now);
	idle_for(&l, 1, now);
	client_lazy_slept(&l, true, now);
	client_lazy_woken(&l, true, now);
	client_lazy_slept(&l, true, now);
	/* A packet of ours, or late enough to be a wish of its own: that says nothing about the peer. */
	client_lazy_woken(&l, false, now);
	idle_for(&l, 1, now);
	client_lazy_slept(&l, true, now);
	now = nb_time_add(now, 60 * NB_SEC);
	client_lazy_woken(&l, true, now);
	idle_for(&l, 1, now);
}

static void crossing(void **state)
{
	struct client_lazy l = { 0 };

	(void)state;
	client_lazy_woken(&l, false, SECONDS(10));
	assert_false(client_lazy_outdated(&l, false, SECONDS(10)));
	client_lazy_wanted(&l, SECONDS(10));
	assert_true(client_lazy_outdated(&l, false, SECONDS(11)));
	assert_false(client_lazy_outdated(&l, true, SECONDS(11)));
	assert_false(client_lazy_outdated(&l, false, SECONDS(21)));
	client_lazy_slept(&l, false, SECONDS(21));
	assert_false(client_lazy_outdated(&l, false, SECONDS(11)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(force), cmocka_unit_test(idle_time), cmocka_unit_test(versions),
		cmocka_unit_test(when), cmocka_unit_test(patience), cmocka_unit_test(crossing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
