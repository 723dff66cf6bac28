/* base_addr_test.c - addresses, endpoints and prefixes as text and values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/addr.h"
#include "base/err.h"

static void endpoints_round_trip(void **state)
{
	static const char *const good[] = { "1.2.3.4:5", "[::1]:65535", "[2001:db8::1]:0" };
	static const char *const bad[] = { "1.2.3.4", "1.2.3.4:", "1.2.3.4:65536", "::1:5", "[1.2.3.4:5", ":5", "[]:5",
		"1.2.3.4:-1", "1.2.3:4", "name:4" };
	struct nb_endpoint e;
	char text[NB_ADDR_TEXT];

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_int_equal(nb_endpoint_parse(&e, good[i]), 0);
		nb_endpoint_format(text, &e);
		assert_string_equal(text, good[i]);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(nb_endpoint_parse(&e, bad[i]), NB_E_BAD);
}

static void prefixes_contain(void **state)
{
	static const struct {
		const char *prefix, *addr;
		bool in;
	} rows[] = {
		{ "100.64.0.0/10", "100.127.255.255", true }, { "100.64.0.0/10", "100.128.0.0", false },
		{ "0.0.0.0/0", "8.8.8.8", true }, { "0.0.0.0/0", "::1", false }, { "10.1.2.3", "10.1.2.3", true },
		{ "10.1.2.3", "10.1.2.2", false }, { "fd00::/8", "fdff::1", true }, { "::/0", "1.2.3.4", false },
		{ "192.168.1.128/25", "192.168.1.127", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct nb_prefix p;
		struct nb_addr a;

		assert_int_equal(nb_prefix_parse(&p, rows[i].prefix), 0);
		assert_int_equal(nb_addr_parse(&a, rows[i].addr), 0);
		assert_int_equal(nb_prefix_contains(&p, &a), rows[i].in);
	}
}

static void masks_clear_host_bits(void **state)
{
	struct nb_prefix p;
	char text[NB_ADDR_TEXT];

	(void)state;
	assert_int_equal(nb_prefix_parse(&p, "100.93.14.7/18"), 0);
	nb_prefix_mask(&p);
	nb_prefix_format(text, &p);
	assert_string_equal(text, "100.93.0.0/18");
	assert_int_equal(nb_prefix_parse(&p, "1.2.3.4/33"), NB_E_BAD);
	assert_int_equal(nb_prefix_parse(&p, "1.2.3.4/"), NB_E_BAD);
}

static void kinds_of_addresses(void **state)
{
	static const struct {
		const char *text;
		bool loopback, link, multicast, private;
	} rows[] = {
		{ "127.9.9.9", true, false, false, false }, { "::1", true, false, false, false },
		{ "169.254.1.1", false, true, false, false }, { "fe80::1", false, true, false, false },
		{ "224.0.0.1", false, false, true, false }, { "ff02::1", false, false, true, false },
		{ "10.0.0.1", false, false, false, true }, { "172.31.0.1", false, false, false, true },
		{ "172.32.0.1", false, false, false, false }, { "100.64.0.1", false, false, false, true },
		{ "fd00::1", false, false, false, true }, { "8.8.8.8", false, false, false, false },
	};
	struct nb_addr a, b;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_int_equal(nb_addr_parse(&a, rows[i].text), 0);
		assert_int_equal(nb_addr_is_loopback(&a), rows[i].loopback);
		assert_int_equal(nb_addr_is_link_local(&a), rows[i].link);
		assert_int_equal(nb_addr_is_multicast(&a), rows[i].multicast);
		assert_int_equal(nb_addr_is_private(&a), rows[i].private);
	}
	assert_int_equal(nb_addr_parse(&a, "::ffff:1.2.3.4"), 0);
	b = nb_addr_unmap(&a);
	a = nb_addr4(0x01020304);
	assert_true(nb_addr_eq(&a, &b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(endpoints_round_trip),
		cmocka_unit_test(prefixes_contain),
		cmocka_unit_test(masks_clear_host_bits),
		cmocka_unit_test(kinds_of_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
