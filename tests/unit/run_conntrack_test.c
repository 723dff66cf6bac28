/* run_conntrack_test.c - stock's variables of the connection table: what is taken, what is left out. */
#include "run/conntrack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const char *const *given;	/* name, value, ..., NULL */

static char *get(const char *name)
{
	for (const char *const *v = given; *v; v += 2)
		if (!strcmp(v[0], name))
			return (char *)(uintptr_t)v[1];
	return NULL;
}

static struct filter_config read_env(const char *const *v)
{
	struct filter_config c = { 0 };

	given = v;
	run_conntrack_env(&c, get);
	return c;
}

static void taken(void **state)
{
	static const char *const v[] = { "NB_CONNTRACK_TCP_MAX", "1000", "NB_CONNTRACK_UDP_MAX", "20", "NB_CONNTRACK_ICMP_MAX", "3",
		"NB_CONNTRACK_TCP_FIN_WAIT_TIMEOUT", "2m", "NB_CONNTRACK_TCP_CLOSE_WAIT_TIMEOUT", "90s",
		"NB_CONNTRACK_TCP_LAST_ACK_TIMEOUT", "500ms", "NB_DISABLE_CONNTRACK", "true", NULL };
	struct filter_config c = read_env(v);

	(void)state;
	assert_int_equal(c.max_tcp, 1000);
	assert_int_equal(c.max_udp, 20);
	assert_int_equal(c.max_icmp, 3);
	assert_int_equal(c.fin_wait_s, 120);
	assert_int_equal(c.close_wait_s, 90);
	assert_int_equal(c.last_ack_s, 1);
	assert_true(c.stateless);
}

static void left_out(void **state)
{
	static const char *const bad[][3] = {
		{ "NB_CONNTRACK_TCP_MAX", "-1" }, { "NB_CONNTRACK_TCP_MAX", "0" }, { "NB_CONNTRACK_TCP_MAX", "many" },
		{ "NB_CONNTRACK_TCP_MAX", "99999999999" }, { "NB_CONNTRACK_TCP_MAX", "10x" }, { "NB_CONNTRACK_TCP_MAX", "" },
		{ "NB_CONNTRACK_TCP_FIN_WAIT_TIMEOUT", "0" }, { "NB_CONNTRACK_TCP_FIN_WAIT_TIMEOUT", "-1s" },
		{ "NB_CONNTRACK_TCP_FIN_WAIT_TIMEOUT", "60" }, { "NB_CONNTRACK_TCP_LAST_ACK_TIMEOUT", "soon" },
		{ "NB_DISABLE_CONNTRACK", "yes" }, { "NB_DISABLE_CONNTRACK", "false" }, { "NB_DISABLE_CONNTRACK", "0" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct filter_config c = read_env(bad[i]);

		assert_int_equal(c.max_tcp + c.fin_wait_s + c.close_wait_s + c.last_ack_s + c.stateless, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(taken), cmocka_unit_test(left_out) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
