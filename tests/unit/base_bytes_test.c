/* base_bytes_test.c - cursors, base64, hex, constant-time compare. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/err.h"

static void cursor_stops_at_the_end(void **state)
{
	static const uint8_t in[] = { 1, 2, 3, 4, 5, 6, 7 };
	struct nb_cur c = nb_cur(nb_bytes(in, sizeof in));

	(void)state;
	assert_int_equal(nb_cur_u8(&c), 1);
	assert_int_equal(nb_cur_be16(&c), 0x0203);
	assert_int_equal(nb_cur_le32(&c), 0x07060504);
	assert_false(c.err);
	assert_int_equal(nb_cur_left(&c), 0);
	assert_int_equal(nb_cur_u8(&c), 0);
	assert_true(c.err);
}

static void a_failed_read_keeps_failing(void **state)
{
	static const uint8_t in[] = { 1, 2, 3 };
	uint8_t out[4] = { 9, 9, 9, 9 };
	struct nb_cur c = nb_cur(nb_bytes(in, sizeof in));

	(void)state;
	nb_cur_copy(&c, out, 4);
	assert_true(c.err);
	assert_int_equal(out[0] | out[1] | out[2] | out[3], 0);
	assert_int_equal(nb_cur_u8(&c), 0);
	assert_null(nb_cur_take(&c, 1).p);
	assert_int_equal(nb_cur_take(&c, 0).n, 0);
}

static void an_empty_cursor_is_fine(void **state)
{
	struct nb_cur c = nb_cur(nb_bytes(NULL, 0));

	(void)state;
	assert_int_equal(nb_cur_take(&c, 0).n, 0);
	assert_false(c.err);
	nb_cur_skip(&c, 1);
	assert_true(c.err);
}

/* RFC 4648, section 10. */
static const struct {
	const char *plain, *text, *url;
} rows[] = {
	{ "", "", "" }, { "f", "Zg==", "Zg" }, { "fo", "Zm8=", "Zm8" }, { "foo", "Zm9v", "Zm9v" },
	{ "foob", "Zm9vYg==", "Zm9vYg" }, { "fooba", "Zm9vYmE=", "Zm9vYmE" }, { "foobar", "Zm9vYmFy", "Zm9vYmFy" },
	{ "\xfb\xff\xbf", "+/+/", "-_-_" },
};

static void base64_of_rfc_4648(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct nb_bytes plain = nb_bytes_str(rows[i].plain);
		uint8_t back[16];
		char text[16];
		size_t n;

		assert_int_equal(nb_base64_encode(text, sizeof text, plain), 0);
		assert_string_equal(text, rows[i].text);
		assert_int_equal(nb_base64_decode(back, sizeof back, &n, nb_bytes_str(text)), 0);
		assert_true(nb_bytes_eq(nb_bytes(back, n), plain));
		assert_int_equal(nb_base64url_encode(text, sizeof text, plain), 0);
		assert_string_equal(text, rows[i].url);
		assert_int_equal(nb_base64url_decode(back, sizeof back, &n, nb_bytes_str(text)), 0);
		assert_true(nb_bytes_eq(nb_bytes(back, n), plain));
	}
}

static void base64_refuses_what_is_not_canonical(void **state)
{
	static const char *const bad[] = { "Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "Z===", "====", "Zm9v\n", "Zm-v", "Z", "=" };
	uint8_t out[16];
	size_t n;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(nb_base64_decode(out, sizeof out, &n, nb_bytes_str(bad[i])), NB_E_BAD);
	assert_int_equal(nb_base64url_decode(out, sizeof out, &n, nb_bytes_str("Zg==")), NB_E_BAD);
	assert_int_equal(nb_base64_decode(out, 2, &n, nb_bytes_str("Zm9v")), NB_E_FULL);
	assert_int_equal(nb_base64_encode((char *)out, 4, nb_bytes_str("foo")), NB_E_FULL);
}

static void hex_both_ways(void **state)
{
	uint8_t out[3];
	char text[7];

	(void)state;
	assert_int_equal(nb_hex_decode(out, 3, nb_bytes_str("00fFa9")), 0);
	nb_hex_encode(text, nb_bytes(out, 3));
	assert_string_equal(text, "00ffa9");
	assert_int_equal(nb_hex_decode(out, 3, nb_bytes_str("00ffa")), NB_E_BAD);
	assert_int_equal(nb_hex_decode(out, 3, nb_bytes_str("00ffag")), NB_E_BAD);
}

static void constant_time_compare(void **state)
{
	(void)state;
	assert_true(nb_equal_ct("abc", "abc", 3));
	assert_false(nb_equal_ct("abc", "abd", 3));
	assert_true(nb_equal_ct("abc", "abd", 2));
	assert_true(nb_equal_ct("", "", 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cursor_stops_at_the_end),
		cmocka_unit_test(a_failed_read_keeps_failing),
		cmocka_unit_test(an_empty_cursor_is_fine),
		cmocka_unit_test(base64_of_rfc_4648),
		cmocka_unit_test(base64_refuses_what_is_not_canonical),
		cmocka_unit_test(hex_both_ways),
		cmocka_unit_test(constant_time_compare),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
