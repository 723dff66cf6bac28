/* base_time_test.c - RFC 3339 both ways against libc's calendar, saturating additions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/time.h"

static void formats_as_go_does(void **state)
{
	static const struct {
		int64_t ns;
		const char *text;
	} rows[] = {
		{ 0, "1970-01-01T00:00:00Z" },
		{ 951782400LL * NB_SEC, "2000-02-29T00:00:00Z" },
		{ 1787270400LL * NB_SEC + 500000000, "2026-08-21T00:00:00.5Z" },
		{ 1787270400LL * NB_SEC + 1, "2026-08-21T00:00:00.000000001Z" },
		{ -1, "1969-12-31T23:59:59.999999999Z" },
	};
	char text[NB_RFC3339_CAP];
	struct nb_wall t;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		nb_wall_format(text, (struct nb_wall){ rows[i].ns });
		assert_string_equal(text, rows[i].text);
		assert_int_equal(nb_wall_parse(&t, text), 0);
		assert_true(t.ns == rows[i].ns);
	}
}

static void agrees_with_libc(void **state)
{
	(void)state;
	srand(3);
	for (int i = 0; i < 2000; i++) {
		time_t sec = (time_t)((int64_t)rand() * 3 - 2000000000);
		char mine[NB_RFC3339_CAP], libc[64];
		struct tm tm;

		gmtime_r(&sec, &tm);
		strftime(libc, sizeof libc, "%Y-%m-%dT%H:%M:%SZ", &tm);
		nb_wall_format(mine, (struct nb_wall){ (int64_t)sec * NB_SEC });
		assert_string_equal(mine, libc);
	}
}

static void reads_offsets_and_refuses_nonsense(void **state)
{
	static const char *const bad[] = { "", "2026", "2026-13-01T00:00:00Z", "2026-01-32T00:00:00Z",
		"2026-01-01T24:00:00Z", "2026-01-01T00:00:00", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00Zx",
		"2026-01-01T00:00:00+1:00", "9999-01-01T00:00:00Z", "2026-1-01T00:00:00Z" };
	struct nb_wall a, b;

	(void)state;
	assert_int_equal(nb_wall_parse(&a, "2026-08-21T02:30:00.25+02:30"), 0);
	assert_int_equal(nb_wall_parse(&b, "2026-08-20t24:00:00Z"), NB_E_BAD);
	assert_int_equal(nb_wall_parse(&b, "2026-08-21T00:00:00.250z"), 0);
	assert_true(a.ns == b.ns);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(nb_wall_parse(&a, bad[i]), NB_E_BAD);
}

static void never_stays_never(void **state)
{
	struct nb_time t = { 5 };

	(void)state;
	assert_true(nb_time_is_never(nb_time_add(NB_TIME_NEVER, -100)));
	assert_true(nb_time_is_never(nb_time_add(t, INT64_MAX)));
	assert_true(nb_time_due(t, nb_time_add(t, 0)));
	assert_true(nb_time_before(t, NB_TIME_NEVER));
	assert_int_equal(nb_time_min(t, NB_TIME_NEVER).ns, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(formats_as_go_does),
		cmocka_unit_test(agrees_with_libc),
		cmocka_unit_test(reads_offsets_and_refuses_nonsense),
		cmocka_unit_test(never_stays_never),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
