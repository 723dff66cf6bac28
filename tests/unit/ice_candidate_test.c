/* ice_candidate_test.c - candidate lines against stock's, refusals, priorities, usable addresses. */
#include "ice/ice.h"

#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>

static int parse(struct ice_candidate *c, const char *text)
{
	return ice_candidate_parse(c, nb_bytes_str(text));
}

/* Every line stock sent is read and written again without a difference. */
static void stock_lines(void **state)
{
	json_t *all = json_load_file("tests/vectors/ice/checks.json", 0, NULL), *item;
	char text[ICE_CANDIDATE_TEXT];
	struct ice_candidate c;
	size_t i;

	(void)state;
	assert_non_null(all);
	assert_int_equal(json_array_size(json_object_get(all, "candidates")), 4);
	json_array_foreach(json_object_get(all, "candidates"), i, item) {
		const char *line = json_string_value(json_object_get(item, "line"));

		assert_int_equal(parse(&c, line), 0);
		assert_int_equal(strlen(c.cid), 32);
		ice_candidate_format(text, &c);
		assert_string_equal(text, line);
	}
	json_decref(all);
}

static const struct {
	const char *in, *out;	/* out NULL: as in */
} good[] = {
	{ "1944728210 1 udp 2130706431 192.168.1.2 51820 typ host ufrag AbCdEfGhIjKlMnOp", NULL },
	{ "3891555988 1 udp 1694498815 203.0.113.7 40000 typ srflx raddr 0.0.0.0 rport 51820 ufrag a cid b",
	  NULL },
	{ "3398216958 1 udp 16777215 203.0.113.9 50123 typ relay raddr 0.0.0.0 rport 45678", NULL },
	{ "candidate:1 1 UDP 0 192.168.1.2 51820 typ host", "1944728210 1 udp 2130706431 192.168.1.2 51820 typ host" },
	{ "a=candidate:x 1 udp 5 ::ffff:192.168.1.2 9 typ host", "1944728210 1 udp 5 192.168.1.2 9 typ host" },
	{ " 1 udp 7 192.168.1.2 51820 typ host", "1944728210 1 udp 7 192.168.1.2 51820 typ host" },
	{ "1 1 udp 7 192.168.1.2 51820 typ host generation 0 ufrag q network-cost 999 ",
	  "1944728210 1 udp 7 192.168.1.2 51820 typ host ufrag q" },
	{ "1 1 udp 7 192.168.1.2 5 typ prflx raddr 10.0.0.1 rport 7",
	  "2303752891 1 udp 7 192.168.1.2 5 typ prflx" },
};

static void good_lines(void **state)
{
	char text[ICE_CANDIDATE_TEXT];
	struct ice_candidate c;

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_int_equal(parse(&c, good[i].in), 0);
		ice_candidate_format(text, &c);
		assert_string_equal(text, good[i].out ? good[i].out : good[i].in);
	}
}

static const struct {
	const char *in;
	int err;
} bad[] = {
	{ "", NB_E_BAD },
	{ "1", NB_E_BAD },
	{ "1 1 udp 7 192.168.1.2 51820 typ", NB_E_UNSUPPORTED },
	{ "1 1 udp 7 192.168.1.2 51820 typ hosts", NB_E_UNSUPPORTED },
	{ "1 1 tcp 7 192.168.1.2 9 typ host tcptype active", NB_E_UNSUPPORTED },
	{ "1 2 udp 7 192.168.1.2 9 typ host", NB_E_UNSUPPORTED },
	{ "1 1 udp 7 6b2e.local 9 typ host", NB_E_UNSUPPORTED },
	{ "1 1 udp 7 192.168.1 9 typ host", NB_E_BAD },
	{ "1 1 udp 7 192.168.1.2 65536 typ host", NB_E_BAD },
	{ "1 1 udp 7 192.168.1.2 0 typ host", NB_E_BAD },
	{ "1 1 udp 4294967296 192.168.1.2 9 typ host", NB_E_BAD },
	{ "1 1 udp -1 192.168.1.2 9 typ host", NB_E_BAD },
	{ "1 1 udp 7 192.168.1.2 9 typ srflx raddr 1.2.3.4", NB_E_BAD },
	{ "1 1 udp 7 192.168.1.2 9 typ srflx raddr 1.2.3.4 rport x", NB_E_BAD },
	{ "1 1 udp 7 192.168.1.2 9 typ host key", NB_E_BAD },
	{ "1 1 udp 7 192.168.1.2 9 typ host cid two words", NB_E_BAD },
	{ "123456789012345678901234567890123 1 udp 7 192.168.1.2 9 typ host", NB_E_BAD },
	{ "a:b 1 udp 7 192.168.1.2 9 typ host", NB_E_BAD },
};

static void bad_lines(void **state)
{
	struct ice_candidate c;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(parse(&c, bad[i].in), bad[i].err);
}

static void every_prefix_is_safe(void **state)
{
	const char *line = good[1].in;
	struct ice_candidate c;

	(void)state;
	for (size_t n = 0; n < strlen(line); n++) {
		char *copy = malloc(n + 1);	/* exact size, so that a checker sees an overrun */

		memcpy(copy, line, n);
		ice_candidate_parse(&c, nb_bytes(copy, n));
		free(copy);
	}
}

static void numbers(void **state)
{
	struct nb_addr a, b;

	(void)state;
	assert_int_equal(nb_addr_parse(&a, "192.168.1.2"), 0);
	assert_int_equal(ice_foundation(ICE_HOST, &a), 1944728210);
	assert_int_equal(nb_addr_parse(&b, "2001:db8::1"), 0);
	assert_int_not_equal(ice_foundation(ICE_HOST, &b), ice_foundation(ICE_SRFLX, &b));
	assert_int_equal(ice_priority(ICE_HOST), 2130706431);
	assert_int_equal(ice_priority(ICE_PRFLX), 1862270975);
	assert_int_equal(ice_priority(ICE_SRFLX), 1694498815);
	assert_int_equal(ice_priority(ICE_RELAY), 16777215);
	assert_true(ice_pair_priority(2, 1) == 0xffffffffULL + 4 + 1);
	assert_true(ice_pair_priority(1, 2) == 0xffffffffULL + 4);
}

static void derived(void **state)
{
	struct ice_candidate c, extra;

	(void)state;
	assert_int_equal(parse(&c, "1 1 udp 7 1.2.3.4 40000 typ srflx raddr 0.0.0.0 rport 51820 cid x"), 0);
	assert_true(ice_candidate_derive(&c, &extra));
	assert_int_equal(extra.at.port, 51820);
	assert_int_equal(extra.priority, 1694498815);
	assert_string_equal(extra.cid, "");
	assert_int_equal(parse(&c, "1 1 udp 7 1.2.3.4 40000 typ srflx raddr 0.0.0.0 rport 51820"), 0);
	assert_false(ice_candidate_derive(&c, &extra));
	assert_int_equal(parse(&c, "1 1 udp 7 1.2.3.4 51820 typ srflx raddr 0.0.0.0 rport 51820 cid x"), 0);
	assert_false(ice_candidate_derive(&c, &extra));
	assert_int_equal(parse(&c, "1 1 udp 7 1.2.3.4 40000 typ host cid x"), 0);
	assert_false(ice_candidate_derive(&c, &extra));
}

static void usable(void **state)
{
	static const char *const yes[] = { "192.168.1.2", "100.64.0.1", "2001:db8::1", "fd00::1" };
	static const char *const no[] = { "127.0.0.1", "0.0.0.0", "224.0.0.1", "::1", "::", "fe80::1",
					  "ff02::1", "fec0::1", "::1.2.3.4" };
	struct nb_addr a;

	(void)state;
	for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
		assert_int_equal(nb_addr_parse(&a, yes[i]), 0);
		assert_true(ice_address_usable(&a));
	}
	for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
		assert_int_equal(nb_addr_parse(&a, no[i]), 0);
		assert_false(ice_address_usable(&a));
	}
	assert_true(ice_interface_usable("eth0") && ice_interface_usable("wlan0") && ice_interface_usable("tun1"));
	assert_false(ice_interface_usable("lo") || ice_interface_usable("wt0") ||
		     ice_interface_usable("veth12") || ice_interface_usable("docker0") ||
		     ice_interface_usable("br-1") || ice_interface_usable("tun0"));
}

static void count_up(void *ctx, void *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)out)[i] = (*(uint8_t *)ctx)++;
}

static void credentials(void **state)
{
	char ufrag[ICE_UFRAG_LEN + 1], pwd[ICE_PWD_LEN + 1];
	uint8_t at = 200;	/* runs through the values that are rejected */

	(void)state;
	ice_make_credentials(ufrag, pwd, count_up, &at);
	assert_int_equal(strlen(ufrag), 16);
	assert_int_equal(strlen(pwd), 32);
	assert_int_equal(strspn(ufrag, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"), 16);
	assert_int_equal(strspn(pwd, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"), 32);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stock_lines), cmocka_unit_test(good_lines), cmocka_unit_test(bad_lines),
		cmocka_unit_test(every_prefix_is_safe), cmocka_unit_test(numbers), cmocka_unit_test(derived),
		cmocka_unit_test(usable), cmocka_unit_test(credentials),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
