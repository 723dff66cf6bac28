/* wg_counter_test.c - the replay window: numbered rows in the manner of WireGuard's own self-test, and a
 * random walk against a plain model. */
#include "wg_help.h"

#define LIM WG_WINDOW

struct row {
	int number;
	uint64_t counter;
	bool want;
};

static void run_rows(const struct row *rows, size_t n)
{
	struct wg_window w;

	memset(&w, 0, sizeof w);
	for (size_t i = 0; i < n; i++)
		if (wg_window_accept(&w, rows[i].counter) != rows[i].want)
			fail_msg("row %d", rows[i].number);
}

#define RUN(rows) run_rows(rows, sizeof(rows) / sizeof *(rows))

static void rows(void **state)
{
	static const struct row basic[] = {
		{ 1, 0, true },		   { 2, 1, true },	       { 3, 1, false },
		{ 4, 9, true },		   { 5, 8, true },	       { 6, 7, true },
		{ 7, 7, false },	   { 8, LIM, true },	       { 9, LIM - 1, true },
		{ 10, LIM - 1, false },	   { 11, LIM - 2, true },      { 12, 2, true },
		{ 13, 2, false },	   { 14, LIM + 16, true },     { 15, 3, false },
		{ 16, LIM + 16, false },   { 17, LIM * 4, true },      { 18, LIM * 4 - (LIM - 1), true },
		{ 19, 10, false },	   { 20, LIM * 4 - LIM, false }, { 21, LIM * 4 - (LIM + 1), false },
		{ 22, LIM * 4 - (LIM - 2), true }, { 23, LIM * 4 + 1 - LIM, false }, { 24, 0, false },
		{ 25, WG_REJECT_AFTER_MESSAGES, false }, { 26, WG_REJECT_AFTER_MESSAGES - 1, true },
		{ 27, WG_REJECT_AFTER_MESSAGES, false }, { 28, WG_REJECT_AFTER_MESSAGES - 1, false },
		{ 29, WG_REJECT_AFTER_MESSAGES - 2, true }, { 30, WG_REJECT_AFTER_MESSAGES + 1, false },
		{ 31, UINT64_MAX, false }, { 32, 0, false },
	};

	(void)state;
	RUN(basic);
}

static void forwards_and_back(void **state)
{
	struct wg_window w;

	(void)state;
	memset(&w, 0, sizeof w);
	for (uint64_t i = 1; i <= LIM; i++)
		assert_true(wg_window_accept(&w, i));
	assert_false(wg_window_accept(&w, 0));
	for (uint64_t i = LIM; i >= 1; i--)
		assert_false(wg_window_accept(&w, i));

	memset(&w, 0, sizeof w);
	for (uint64_t i = LIM; i-- > 0;)
		assert_true(wg_window_accept(&w, i));
	for (uint64_t i = 0; i < LIM; i++)
		assert_false(wg_window_accept(&w, i));

	/* The whole width behind the newest, and no more. */
	memset(&w, 0, sizeof w);
	assert_true(wg_window_accept(&w, LIM + 1));
	assert_false(wg_window_accept(&w, 1));
	assert_true(wg_window_accept(&w, 2));
}

static void against_a_model(void **state)
{
	enum { SPAN = 60000 };
	static bool seen[SPAN];
	struct wg_window w;
	uint64_t s = 11, top = 0;
	bool any = false;

	(void)state;
	memset(&w, 0, sizeof w);
	for (int i = 0; i < 300000; i++) {
		uint16_t r[2];
		uint64_t c;

		help_random(&s, r, sizeof r);
		/* Mostly near the top, sometimes far ahead, sometimes far behind. */
		c = top + r[0] % 200;
		c -= r[1] % 8 == 0 ? r[1] % 9000 : r[1] % 300;
		if (r[1] % 1024 == 1)
			c += 9000;
		if (c >= SPAN)
			continue;
		bool want = !seen[c] && (!any || c + LIM > top);

		if (wg_window_accept(&w, c) != want)
			fail_msg("counter %llu, top %llu", (unsigned long long)c, (unsigned long long)top);
		if (want) {
			seen[c] = true;
			top = c > top ? c : top;
			any = true;
		}
	}
	assert_true(top > 50000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows), cmocka_unit_test(forwards_and_back), cmocka_unit_test(against_a_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
