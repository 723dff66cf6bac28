/* relay_config_test.c - option values of the relay, good and bad; credentials as management makes them. */
#include "relay/relay.h"

#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

static struct relay_config c;

static int setup(void **state)
{
	(void)state;
	relay_config_default(&c);
	return 0;
}

static void listen_addresses(void **state)
{
	char text[NB_ADDR_TEXT];

	(void)state;
	assert_int_equal(relay_set_listen(&c, "192.0.2.1:3478, [2001:db8::1]:3479,:5000"), 0);
	assert_int_equal(relay_set_stun_ports(&c, "5000,5001"), 0);
	assert_int_equal(c.nlisten, 4);
	nb_endpoint_format(text, &c.listen[1]);
	assert_string_equal(text, "[2001:db8::1]:3479");
	assert_int_equal(c.listen[2].addr.family, 0);
	assert_int_equal(c.listen[3].port, 5001);
	assert_int_equal(relay_set_listen(&c, "192.0.2.1:0"), NB_E_CONFIG);
	assert_int_equal(relay_set_listen(&c, "192.0.2.1"), NB_E_CONFIG);
	assert_int_equal(relay_set_listen(&c, ""), NB_E_CONFIG);
	assert_int_equal(relay_set_listen(&c, ":1,,:2"), NB_E_CONFIG);
	assert_int_equal(relay_set_listen(&c, ":1,"), NB_E_CONFIG);
	assert_int_equal(relay_set_stun_ports(&c, "70000"), NB_E_CONFIG);
	assert_int_equal(relay_set_stun_ports(&c, "1,2,3,4,5,6,7,8,9"), NB_E_FULL);
}

static void ports(void **state)
{
	static const struct {
		const char *text;
		int err;
		unsigned low, high;
	} rows[] = {
		{ "256", 0, 49152, 49407 }, { "1", 0, 49152, 49152 }, { "16384", 0, 49152, 65535 },
		{ "50000-50010", 0, 50000, 50010 }, { "65535-65535", 0, 65535, 65535 },
		{ "16385", NB_E_CONFIG, 0, 0 }, { "0", NB_E_CONFIG, 0, 0 }, { "", NB_E_CONFIG, 0, 0 },
		{ "5-7", NB_E_CONFIG, 0, 0 }, { "50000-49999", NB_E_CONFIG, 0, 0 },
		{ "50000-", NB_E_CONFIG, 0, 0 }, { "-50000", NB_E_CONFIG, 0, 0 },
		{ "50000-70000", NB_E_CONFIG, 0, 0 }, { "a-b", NB_E_CONFIG, 0, 0 },
		{ "99999999999999-1", NB_E_CONFIG, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		relay_config_default(&c);
		assert_int_equal(relay_set_ports(&c, rows[i].text), rows[i].err);
		assert_int_equal(c.port_min, rows[i].err ? 49152 : rows[i].low);
		assert_int_equal(c.port_max, rows[i].err ? 49407 : rows[i].high);
	}
}

static void users_and_secret(void **state)
{
	char text[200];

	(void)state;
	assert_false(relay_config_turn(&c));
	assert_int_equal(relay_set_user(&c, "alice:won:der"), 0);
	assert_string_equal(c.users[0].password, "won:der");
	assert_true(relay_config_turn(&c));
	assert_int_equal(relay_set_user(&c, "alice"), NB_E_CONFIG);
	assert_int_equal(relay_set_user(&c, ":x"), NB_E_CONFIG);
	assert_int_equal(relay_set_user(&c, "x:"), NB_E_CONFIG);
	for (int i = 1; i < RELAY_USERS_MAX; i++) {
		snprintf(text, sizeof text, "u%d:p", i);
		assert_int_equal(relay_set_user(&c, text), 0);
	}
	assert_int_equal(relay_set_user(&c, "more:p"), NB_E_FULL);
	memset(text, 'x', sizeof text);
	text[199] = 0;
	assert_int_equal(relay_set_user(&c, text), NB_E_FULL);
	assert_int_equal(relay_set_text(c.realm, 200, text), 0);
	assert_int_equal(relay_set_text(c.realm, 199, text), NB_E_CONFIG);
	assert_int_equal(relay_set_text(c.realm, 199, ""), NB_E_CONFIG);
}

static void addresses(void **state)
{
	(void)state;
	assert_int_equal(relay_set_external(&c, "203.0.113.9,2001:db8::9"), 0);
	assert_int_equal(c.relay4.family, 4);
	assert_int_equal(c.relay6.family, 6);
	assert_int_equal(relay_set_external(&c, "0.0.0.0"), NB_E_CONFIG);
	assert_int_equal(relay_set_external(&c, "example.com"), NB_E_CONFIG);
	assert_int_equal(relay_set_allow(&c, "10.1.2.3/8,fd00::/8"), 0);
	assert_int_equal(c.nallow, 2);
	assert_int_equal(c.allow[0].addr.ip[1], 0);
	assert_int_equal(relay_set_allow(&c, "10.0.0.0/33"), NB_E_CONFIG);
	assert_int_equal(relay_set_alt_ip(&c, "203.0.113.10,2001:db8::a"), 0);
	assert_int_equal(c.alt4.ip[3], 10);
	assert_int_equal(c.alt6.family, 6);
	assert_int_equal(relay_set_alt_ip(&c, "0.0.0.0"), NB_E_CONFIG);
	assert_int_equal(relay_set_alt_port(&c, "3480"), 0);
	assert_int_equal(c.alt_port, 3480);
	assert_int_equal(relay_set_alt_port(&c, "0"), NB_E_CONFIG);
	assert_int_equal(relay_set_alt_port(&c, "off"), 0);
	assert_true(c.no_alt_port);
}

static void numbers(void **state)
{
	uint32_t v = 7;

	(void)state;
	assert_int_equal(relay_set_number(&v, 1, 100, "100"), 0);
	assert_int_equal(v, 100);
	assert_int_equal(relay_set_number(&v, 1, 100, "101"), NB_E_CONFIG);
	assert_int_equal(relay_set_number(&v, 1, 100, "0"), NB_E_CONFIG);
	assert_int_equal(relay_set_number(&v, 1, 100, "1x"), NB_E_CONFIG);
	assert_int_equal(relay_set_number(&v, 1, 100, "-1"), NB_E_CONFIG);
	assert_int_equal(relay_set_number(&v, 1, 100, "18446744073709551617"), NB_E_CONFIG);
	assert_int_equal(v, 100);
}

/* shared vectors/turn.json, made with the stock generator. */
static void credentials(void **state)
{
	static const struct {
		const char *secret, *password;
		int64_t expiry;
	} rows[] = {
		{ "secret", "l+5Xb+qGLDpftLwJEp46+29bly8=", 1795414853 },
		{ "secret", "0A0CBfeRs63L9lhdyiSiUyZJ/IQ=", 2141011253 },
		{ "vector-turn-secret", "ZFQJ0J5B/SNEedF72HWjzYWg04U=", 1795454453 },
		{ "a longer turn secret with spaces and 32+ bytes, beyond the SHA-1 block size of sixty-four bytes",
		  "PZwm6yXIrBOkh8vysX8mNrfyF00=", 1795414853 },
		{ "secret", "bPqBHZz4rrGKFii4mhPCWh9QtaM=", 1767225600 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char user[RELAY_TURN_USER_CAP], password[RELAY_TURN_PASSWORD_CAP], want[RELAY_TURN_USER_CAP];

		relay_turn_credentials(user, password, nb_bytes_str(rows[i].secret), rows[i].expiry);
		snprintf(want, sizeof want, "%lld", (long long)rows[i].expiry);
		assert_string_equal(user, want);
		assert_string_equal(password, rows[i].password);
	}
}

static void test_url(void **state)
{
	struct relay_hub_config h;

	(void)state;
	relay_config_default(&c);
	assert_string_equal(c.url, "");
	assert_int_equal(relay_set_url(&c, "relay.example:33080", false), 0);
	assert_string_equal(c.url, "rel://relay.example:33080");
	assert_int_equal(relay_set_url(&c, "relay.example", true), 0);
	assert_string_equal(c.url, "rels://relay.example");
	assert_int_equal(relay_set_url(&c, "rels://proxy.example:443", false), 0);
	assert_string_equal(c.url, "rels://proxy.example:443");
	snprintf(c.auth_secret, sizeof c.auth_secret, "secret");
	relay_protocol_config(&c, &h);
	assert_string_equal(h.url, "rels://proxy.example:443");
	assert_int_equal(h.key[0], 0x2b);
	assert_int_equal(relay_set_url(&c, "rel://a", true), NB_E_DENIED);
	assert_string_equal(c.url, "");
	assert_int_equal(relay_set_url(&c, "https://a", false), NB_E_CONFIG);
	assert_int_equal(relay_set_url(&c, "", false), NB_E_CONFIG);
}

static void rates_and_warnings(void **state)
{
	static const struct {
		const char *text;
		uint64_t want;
	} rows[] = { { "0", 0 }, { "1500000", 1500000 }, { "500k", 500000 }, { "20M", 20000000 }, { "1G", 1000000000 },
		     { "1000G", 1000000000000 } };
	static const char *const bad[] = { "", "k", "1kk", "1x", "-1", "1001G", "99999999999999", "1 M", "10000000000000G" };
	struct turn_user users[RELAY_USERS_MAX];
	struct turn_server_config t;
	struct relay_hub_config h;
	struct relay_told told = { 0 };
	struct nb_time now = { 100 * NB_SEC };
	uint64_t v = 7;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_int_equal(relay_set_rate(&v, rows[i].text), 0);
		assert_int_equal(v, rows[i].want);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(relay_set_rate(&v, bad[i]), NB_E_CONFIG);
	c.user_rate = 1000000;
	c.total_rate = 20000000;
	relay_turn_config(&c, &t, users);
	relay_protocol_config(&c, &h);
	assert_int_equal(t.user_rate.per_s, 1000000);
	assert_int_equal(h.total_rate.per_s, 20000000);
	/* said at once, then at most once a minute, and only of new ones */
	assert_false(relay_tell_dropped(&told, "TURN", 0, 0, now));
	assert_true(relay_tell_dropped(&told, "TURN", 1, 0, now));
	assert_false(relay_tell_dropped(&told, "TURN", 5, 0, nb_time_add(now, 59 * NB_SEC)));
	assert_true(relay_tell_dropped(&told, "TURN", 5, 0, nb_time_add(now, 60 * NB_SEC)));
	assert_false(relay_tell_dropped(&told, "TURN", 5, 0, nb_time_add(now, 600 * NB_SEC)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(listen_addresses, setup),
		cmocka_unit_test_setup(ports, setup),
		cmocka_unit_test_setup(users_and_secret, setup),
		cmocka_unit_test_setup(addresses, setup),
		cmocka_unit_test_setup(numbers, setup),
		cmocka_unit_test_setup(rates_and_warnings, setup),
		cmocka_unit_test(test_url), cmocka_unit_test(credentials),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
