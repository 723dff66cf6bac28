/* run_counts_test.c - every counter of the data plane has a name of its own, words, and the right value. */
#include "base/bytes.h"
#include "run/tunnel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Each word of the structure is shown once: none is forgotten, none stands behind two names. */
static void each_once(void **state)
{
	union {
		struct run_tunnel_counters c;
		uint64_t word[sizeof(struct run_tunnel_counters) / 8];
	} u;
	struct run_tunnel_count n, other;
	size_t words = sizeof u / 8, names = 0;

	(void)state;
	for (size_t w = 0; w < words; w++) {
		unsigned seen = 0;

		memset(&u, 0, sizeof u);
		u.word[w] = 1;
		/* The one that is shorter than a word. */
		if (w == offsetof(struct run_tunnel_counters, filter.flows) / 8)
			u.c.filter.flows = 1;
		for (names = 0; run_tunnel_count(&u.c, names, &n); names++) {
			assert_true(n.value == 0 || n.value == 1);
			assert_true(*n.name && *n.words);
			assert_int_equal(n.filter, strncmp(n.name, "filter_", 7) == 0);
			seen += n.value == 1;
		}
		assert_int_equal(seen, 1);
	}
	assert_int_equal(names, words);
	for (size_t i = 0; run_tunnel_count(&u.c, i, &n); i++)
		for (size_t k = 0; k < i && run_tunnel_count(&u.c, k, &other); k++)
			assert_string_not_equal(n.name, other.name);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(each_once) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
