/* grpc_meta_test.c - grpc-timeout, grpc-message, metadata sets with "-bin" values, status names. */
#include "grpc/grpc_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_timeout_parse(void **state)
{
	static const struct {
		const char *text;
		int64_t ns;	/* -1: refused */
	} rows[] = {
		{ "1n", 1 }, { "5u", 5000 }, { "7m", 7 * NB_MS }, { "3S", 3 * NB_SEC }, { "2M", 120 * NB_SEC },
		{ "1H", 3600 * NB_SEC }, { "99999999S", 99999999LL * NB_SEC },
		{ "99999999H", 3153600000LL * NB_SEC }, { "0n", 0 },
		{ "9999928u", 9999928000LL }, { "", -1 }, { "S", -1 }, { "5", -1 }, { "5s", -1 },
		{ "-5S", -1 }, { "123456789S", -1 }, { "1 S", -1 }, { "5SS", -1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		int64_t ns = -1;
		int r = grpc_timeout_parse(&ns, nb_bytes_str(rows[i].text));

		assert_int_equal(r, rows[i].ns < 0 ? NB_E_BAD : 0);
		assert_int_equal(ns, rows[i].ns);
	}
}

static void test_timeout_format(void **state)
{
	static const struct {
		int64_t ns;
		const char *text;
	} rows[] = {
		{ -5, "0n" }, { 0, "0n" }, { 99999999, "99999999n" }, { 100000000, "100000u" },
		{ 10 * NB_SEC, "10000000u" }, { 10 * NB_SEC + 1, "10000001u" }, { 100 * NB_SEC, "100000m" },
		{ 100000 * NB_SEC, "100000S" }, { 100000000 * NB_SEC, "1666667M" },
	};
	char out[16];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		grpc_timeout_format(out, rows[i].ns);
		assert_string_equal(out, rows[i].text);
	}
	grpc_timeout_format(out, INT64_MAX);
	assert_true(strlen(out) <= 9);
}

static void test_percent(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "plain text, 7!", "plain text, 7!" }, { "100%", "100%25" }, { "a\nb", "a%0Ab" },
		{ "\xc3\xa9", "%C3%A9" }, { "", "" }, { "\x7f~ ", "%7F~ " },
	}, odd[] = {
		{ "%", "%" }, { "%4", "%4" }, { "%zz", "%zz" }, { "%41", "A" }, { "a%00b", "a b" }, { "%c3%a9", "\xc3\xa9" },
	};
	struct nb_buf b;
	char *back;

	(void)state;
	nb_buf_init(&b, 1000);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		nb_buf_reset(&b);
		grpc_percent_encode(&b, rows[i].in);
		assert_string_equal(nb_buf_cstr(&b), rows[i].out);
		back = grpc_percent_decode(nb_bytes_str(rows[i].out));
		assert_string_equal(back, rows[i].in);
		free(back);
	}
	for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
		back = grpc_percent_decode(nb_bytes_str(odd[i].in));
		assert_string_equal(back, odd[i].out);
		free(back);
	}
	nb_buf_fini(&b);
}

static void add(struct grpc_meta_set *s, const char *name, const char *value)
{
	grpc_meta_add(s, nb_bytes_str(name), nb_bytes_str(value));
}

static void test_set(void **state)
{
	struct grpc_meta_set s;
	struct grpc_meta m;
	struct nb_bytes v;
	size_t pos = 0, n = 0;

	(void)state;
	grpc_meta_init(&s, 1000);
	add(&s, "a", "1");
	add(&s, "a", "2");
	add(&s, "empty", "");
	add(&s, "k-bin", "AP8");	/* padding left out, as most senders do */
	add(&s, "l-bin", "AP8=");
	add(&s, "bad-bin", "?!");
	assert_true(grpc_meta_get(&s, "a", &v) && nb_bytes_eq_str(v, "1"));
	assert_true(grpc_meta_get(&s, "empty", &v) && v.n == 0);
	assert_true(grpc_meta_get(&s, "k-bin", &v) && nb_bytes_eq(v, nb_bytes("\0\xff", 2)));
	assert_true(grpc_meta_get(&s, "l-bin", &v) && nb_bytes_eq(v, nb_bytes("\0\xff", 2)));
	assert_false(grpc_meta_get(&s, "bad-bin", &v));
	assert_false(grpc_meta_get(&s, "b", &v));
	while (grpc_meta_each(&s, &pos, &m))
		n++;
	assert_int_equal(n, 5);
	assert_false(s.overflow);
	for (int i = 0; i < 40; i++)
		add(&s, "filler", "0123456789");
	assert_true(s.overflow);
	grpc_meta_fini(&s);
}

static void test_status(void **state)
{
	(void)state;
	assert_string_equal(grpc_status_name(0), "OK");
	assert_string_equal(grpc_status_name(16), "Unauthenticated");
	assert_string_equal(grpc_status_name(17), "Unknown");
	assert_string_equal(grpc_status_name(-1), "Unknown");
	assert_int_equal(grpc_status_of_http(404), GRPC_UNIMPLEMENTED);
	assert_int_equal(grpc_status_of_http(503), GRPC_UNAVAILABLE);
	assert_int_equal(grpc_status_of_http(500), GRPC_UNKNOWN);
	assert_int_equal(grpc_status_of_reset(NGHTTP2_REFUSED_STREAM), GRPC_UNAVAILABLE);
	assert_int_equal(grpc_status_of_reset(NGHTTP2_CANCEL), GRPC_CANCELLED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_timeout_parse), cmocka_unit_test(test_timeout_format),
		cmocka_unit_test(test_percent), cmocka_unit_test(test_set), cmocka_unit_test(test_status),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
