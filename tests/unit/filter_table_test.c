/* filter_table_test.c - compiled rules: prefixes, order, merging, names, refusals; many rules against a plain walk. */
#include "filter_help.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "filter/filter_int.h"

static enum filter_judged judge(const struct filter_table *t, const char *src, uint8_t proto, uint16_t port)
{
	struct nb_addr a;
	uint32_t rule;

	assert_int_equal(nb_addr_parse(&a, src), 0);
	return filter_judge(t, a.ip, a.family, proto, port, &rule);
}

static struct filter_rule rule(const char *prefix, uint8_t proto, bool drop, uint16_t lo, uint16_t hi)
{
	struct filter_rule r = { .proto = proto, .drop = drop, .port_lo = lo, .port_hi = hi };

	assert_int_equal(nb_prefix_parse(&r.src, prefix), 0);
	return r;
}

static struct filter_table *table(const struct filter_rule *r, size_t n)
{
	struct filter_spec spec = { .rules = r, .nrules = n };
	struct filter_table *t;

	assert_int_equal(filter_table_new(&t, &spec), 0);
	return t;
}

static void prefixes(void **state)
{
	const struct filter_rule r[] = {
		rule("100.64.0.0/20", FILTER_TCP, false, 80, 80), rule("100.64.15.0/24", FILTER_TCP, true, 0, 0),
		rule("100.64.15.9", FILTER_UDP, false, 0, 0), rule("fd00::/17", FILTER_ICMP, false, 0, 0),
		rule("0.0.0.0/0", FILTER_TCP, false, 443, 443),
	};
	struct filter_table *t = table(r, 5);

	(void)state;
	assert_int_equal(judge(t, "100.64.14.255", 6, 80), FILTER_ACCEPT);
	assert_int_equal(judge(t, "100.64.15.0", 6, 80), FILTER_DROP);
	assert_int_equal(judge(t, "100.64.15.9", 6, 443), FILTER_DROP);
	assert_int_equal(judge(t, "100.64.15.9", 17, 443), FILTER_ACCEPT);
	assert_int_equal(judge(t, "100.64.15.8", 17, 443), FILTER_DENY);
	assert_int_equal(judge(t, "100.64.16.0", 6, 80), FILTER_DENY);
	assert_int_equal(judge(t, "100.64.16.0", 6, 443), FILTER_ACCEPT);
	assert_int_equal(judge(t, "fd00:7fff::1", 58, 0), FILTER_ACCEPT);
	assert_int_equal(judge(t, "fd00:8000::1", 58, 0), FILTER_DENY);
	assert_int_equal(judge(t, "fd00:7fff::1", 1, 0), FILTER_DENY);
	filter_table_free(t);
}

static void one_rule_inside_another(void **state)
{
	const struct filter_rule r[] = {
		rule("100.64.0.2", FILTER_TCP, false, 10, 100), rule("100.64.0.2", FILTER_TCP, false, 20, 20),
		rule("100.64.0.2", FILTER_TCP, false, 30, 40), rule("100.64.0.2", FILTER_UDP, false, 5, 5),
	};
	struct filter_table *t = table(r, 4);

	(void)state;
	for (uint16_t port = 0; port < 120; port++)
		assert_int_equal(judge(t, "100.64.0.2", 6, port), port >= 10 && port <= 100 ? FILTER_ACCEPT : FILTER_DENY);
	/* The same bytes in front, but of the other family. */
	assert_int_equal(judge(t, "6440:2::", 6, 50), FILTER_DENY);
	filter_table_free(t);
}

static void equal_rules_are_one(void **state)
{
	struct filter_rule r[4] = {
		rule("100.64.0.2", FILTER_TCP, false, 80, 80), rule("100.64.0.2", FILTER_TCP, false, 80, 80),
		rule("100.64.0.2/32", FILTER_TCP, false, 80, 80), rule("100.64.0.2", FILTER_TCP, false, 80, 80),
	};
	struct filter_table *t;

	(void)state;
	t = table(r, 4);
	assert_int_equal(filter_table_count(t), 1);
	filter_table_free(t);
	/* Under another name it is another rule. */
	r[3].id = nb_bytes_str("policy");
	t = table(r, 4);
	assert_int_equal(filter_table_count(t), 2);
	filter_table_free(t);
}

static void names(void **state)
{
	struct filter_rule r[3] = { rule("100.64.0.2", FILTER_TCP, false, 1, 1), rule("100.64.0.2", FILTER_TCP, false, 2, 2),
				    rule("100.64.0.2", FILTER_TCP, false, 3, 3) };
	uint8_t lengthy[300];
	struct filter_rule out;
	struct filter_table *t;
	unsigned long hits;

	(void)state;
	memset(lengthy, 'x', sizeof lengthy);
	r[0].id = nb_bytes(lengthy, sizeof lengthy);
	r[1].id = nb_bytes("ab\0cd", 5);
	r[2].id = nb_bytes("abc", 3);
	t = table(r, 3);
	filter_table_rule(t, 0, &out, &hits);
	assert_int_equal(out.id.n, FILTER_ID_MAX);
	filter_table_rule(t, 1, &out, &hits);
	assert_true(nb_bytes_eq_str(out.id, "ab"));
	filter_table_rule(t, 2, &out, &hits);
	assert_true(nb_bytes_eq_str(out.id, "abc"));
	assert_int_equal(out.port_lo, 3);
	assert_int_equal(out.src.len, 32);
	filter_table_free(t);
}

static void refusals(void **state)
{
	struct filter_rule r = rule("100.64.0.2", FILTER_TCP, false, 1, 1), bad;
	struct filter_spec spec = { .rules = &bad, .nrules = 1 };
	struct filter_table *t;

	(void)state;
	bad = r;
	bad.src.len = 33;
	assert_int_equal(filter_table_new(&t, &spec), NB_E_ARG);
	assert_null(t);
	bad = r;
	bad.src.addr.family = 0;
	assert_int_equal(filter_table_new(&t, &spec), NB_E_ARG);
	bad = r;
	bad.proto = 9;
	assert_int_equal(filter_table_new(&t, &spec), NB_E_ARG);
	bad = r;
	bad.port_lo = 2;
	assert_int_equal(filter_table_new(&t, &spec), NB_E_ARG);
	spec.nrules = FILTER_RULES_MAX + 1;
	assert_int_equal(filter_table_new(&t, &spec), NB_E_FULL);
	filter_table_free(NULL);
}

/* What filter.h says, by a walk over all rules. */
static enum filter_judged plain(const struct filter_rule *r, size_t n, const struct nb_addr *src, uint8_t proto, uint16_t port)
{
	enum filter_judged word = FILTER_DENY;

	for (size_t i = 0; i < n; i++) {
		bool ported = proto == 6 || proto == 17, any = !r[i].port_lo && !r[i].port_hi, match;

		match = r[i].proto == FILTER_ALL ? any || ported : r[i].proto == FILTER_TCP ? proto == 6 :
			r[i].proto == FILTER_UDP ? proto == 17 : proto == (src->family == 4 ? 1 : 58);
		if (ported && !any)
			match = match && port >= r[i].port_lo && port <= r[i].port_hi;
		if (!match || !nb_prefix_contains(&r[i].src, src))
			continue;
		if (r[i].drop)
			return FILTER_DROP;
		word = FILTER_ACCEPT;
	}
	return word;
}

static struct nb_addr some_addr(uint64_t x)
{
	uint8_t six[16] = { 0xfd, [14] = (uint8_t)(x & 1), [15] = (uint8_t)(x >> 8 & 31) };

	return x & 0x10000 ? nb_addr4(0x64400000u + (uint32_t)(x & 31)) : nb_addr6(six);
}

static void many_against_a_walk(void **state)
{
	static const uint8_t protos[] = { 1, 6, 17, 47, 58 };
	static struct filter_rule r[400];
	uint64_t seed = 5, x;

	(void)state;
	for (int round = 0; round < 60; round++) {
		size_t n = (size_t)round * 7 % 400;
		struct filter_table *t;

		for (size_t i = 0; i < n; i++) {
			help_random(&seed, &x, sizeof x);
			r[i] = (struct filter_rule){ .proto = x >> 20 & 3, .drop = (x >> 24 & 7) == 0 };
			r[i].src.addr = some_addr(x);
			r[i].src.len = r[i].src.addr.family == 4 ? 32 : 128;
			if ((x >> 28 & 15) == 0)
				r[i].src.len = (uint8_t)(r[i].src.len - (x >> 32 & 7));
			if ((x >> 28 & 15) == 1)
				r[i].src.len = 0;
			if (x >> 36 & 1) {
				r[i].port_lo = (uint16_t)(x >> 40 & 63);
				r[i].port_hi = (uint16_t)(r[i].port_lo + (x >> 46 & 3));
			}
		}
		t = table(r, n);
		for (int i = 0; i < 3000; i++) {
			struct nb_addr a;
			uint32_t by;

			help_random(&seed, &x, sizeof x);
			a = some_addr(x);
			assert_int_equal(filter_judge(t, a.ip, a.family, protos[(x >> 20) % 5], (uint16_t)(x >> 40 & 63), &by),
					 plain(r, n, &a, protos[(x >> 20) % 5], (uint16_t)(x >> 40 & 63)));
		}
		filter_table_free(t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prefixes), cmocka_unit_test(one_rule_inside_another),
		cmocka_unit_test(equal_rules_are_one), cmocka_unit_test(names),
		cmocka_unit_test(refusals), cmocka_unit_test(many_against_a_walk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
