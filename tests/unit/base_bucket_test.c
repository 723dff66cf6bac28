/* base_bucket_test.c - the token bucket: over any stretch of time no more than rate times time plus the burst, and no
 * less when there is demand. */
#include "base/bucket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct nb_time at_ms(int64_t ms)
{
	return (struct nb_time){ 1000 * NB_SEC + ms * NB_MS };
}

static void no_limit(void **state)
{
	struct nb_rate r = nb_rate(0);
	struct nb_bucket b = { 0 };

	(void)state;
	for (int i = 0; i < 1000; i++)
		assert_true(nb_bucket_take(&b, &r, 1 << 20, at_ms(0)));
}

/* Packets of a size offered at twice the rate for ten seconds. */
static void pours(uint64_t per_s, size_t size)
{
	struct nb_rate r = nb_rate(per_s);
	struct nb_bucket b = { 0 };
	uint64_t taken = 0, burst = per_s / 4 < 65536 ? 65536 : per_s / 4, want = per_s * 10 + burst;

	for (uint64_t offered = 0; offered < per_s * 20; offered += size) {
		int64_t ns = (int64_t)((double)offered / 2 / (double)per_s * 1e9);

		if (nb_bucket_take(&b, &r, size, (struct nb_time){ at_ms(0).ns + ns }))
			taken += size;
	}
	assert_true(taken <= want + size);
	assert_true((double)taken > (double)want * 0.97 - (double)size);
}

static void rates(void **state)
{
	(void)state;
	pours(100000, 1200);
	pours(12500000, 64);
	pours(125000000, 1400);
}

static void burst_and_rest(void **state)
{
	struct nb_rate r = nb_rate(1000000);
	struct nb_bucket b = { 0 };
	size_t n = 0;

	(void)state;
	while (nb_bucket_take(&b, &r, 1000, at_ms(0)))
		n++;
	assert_int_equal(n, 250);
	/* refused packets cost nothing: after 10 ms there are ten more */
	for (n = 0; nb_bucket_take(&b, &r, 1000, at_ms(10)); n++)
		;
	assert_int_equal(n, 10);
	/* a long rest saves up one burst, not more */
	for (n = 0; nb_bucket_take(&b, &r, 1000, at_ms(100000)); n++)
		;
	assert_int_equal(n, 250);
	/* what was taken in vain comes back */
	nb_bucket_give(&b, &r, 1000);
	assert_true(nb_bucket_take(&b, &r, 1000, at_ms(100000)));
	assert_false(nb_bucket_take(&b, &r, 1000, at_ms(100000)));
}

static void slow_rates_pass_a_packet(void **state)
{
	struct nb_rate r = nb_rate(1);
	struct nb_bucket b = { 0 };

	(void)state;
	assert_true(nb_bucket_take(&b, &r, 65536, at_ms(0)));
	assert_false(nb_bucket_take(&b, &r, 1, at_ms(0)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_limit),
		cmocka_unit_test(rates),
		cmocka_unit_test(burst_and_rest),
		cmocka_unit_test(slow_rates_pass_a_packet),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
