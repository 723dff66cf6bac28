/* ice_demux_test.c - many agents on one socket: who gets which datagram. */
#include "ice/ice.h"

#include "base/err.h"
#include "ice/stun.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void random_bytes(void *ctx, void *out, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t *x = ctx;

		*x = *x * 1664525u + 1013904223u;
		((uint8_t *)out)[i] = (uint8_t)(*x >> 24);
	}
}

static void constant_bytes(void *ctx, void *out, size_t n)
{
	unsigned *calls = ctx;

	memset(out, (*calls)++ < 8 ? 7 : 8, n);
}

static struct ice_agent *agent(const char *ufrag, nb_random_fn random, void *ctx)
{
	struct ice_config cfg;

	ice_config_default(&cfg);
	cfg.local_ufrag = ufrag;
	cfg.local_pwd = "0123456789012345678901";
	cfg.remote_ufrag = "remote";
	cfg.remote_pwd = "9876543210987654321098";
	cfg.random = random;
	cfg.random_ctx = ctx;
	return ice_new(&cfg, (struct nb_time){ NB_SEC });
}

static struct nb_bytes request(uint8_t *mem, const char *username)
{
	struct nb_buf b;
	struct stun_enc e;

	nb_buf_fixed(&b, mem, 512);
	e = stun_begin(&b, STUN_REQUEST, STUN_BINDING, (const uint8_t *)"abcdefghijkl");
	stun_put_u32(&e, ICE_A_PRIORITY, 1);
	if (username)
		stun_put_str(&e, STUN_A_USERNAME, username);
	assert_int_equal(stun_end(&e), 0);
	return nb_buf_view(&b);
}

static void requests_by_ufrag(void **state)
{
	uint8_t mem[512], seed[16] = { 0 };
	uint32_t x = 1;
	struct ice_agent *one = agent("one", random_bytes, &x), *two = agent("two", random_bytes, &x);
	struct ice_agent *again = agent("one", random_bytes, &x);
	struct ice_demux d;

	(void)state;
	ice_demux_init(&d, seed, 10);
	assert_int_equal(ice_demux_add(&d, one), 0);
	assert_int_equal(ice_demux_add(&d, two), 0);
	assert_ptr_equal(ice_demux_find(&d, request(mem, "one:remote")), one);
	assert_ptr_equal(ice_demux_find(&d, request(mem, "two:remote")), two);
	assert_null(ice_demux_find(&d, request(mem, "three:remote")));
	assert_null(ice_demux_find(&d, request(mem, "one")));
	assert_null(ice_demux_find(&d, request(mem, ":one")));
	assert_null(ice_demux_find(&d, request(mem, NULL)));
	assert_null(ice_demux_find(&d, nb_bytes("abc", 3)));
	assert_int_equal(ice_demux_add(&d, again), 0);	/* an ICE restart takes over */
	assert_ptr_equal(ice_demux_find(&d, request(mem, "one:remote")), again);
	ice_demux_del(&d, one);				/* and the old one's end changes nothing */
	assert_ptr_equal(ice_demux_find(&d, request(mem, "one:remote")), again);
	ice_demux_del(&d, again);
	assert_null(ice_demux_find(&d, request(mem, "one:remote")));
	ice_demux_del(&d, two);
	ice_demux_fini(&d);
	ice_free(one);
	ice_free(two);
	ice_free(again);
}

/* The answer to what an agent sent comes back to it. */
static void responses_by_tag(void **state)
{
	uint8_t mem[512], seed[16] = { 0 };
	struct nb_dgram out = { .p = mem, .cap = sizeof mem };
	struct nb_time now = { NB_SEC };
	struct nb_endpoint server;
	struct ice_agent *a[3];
	struct ice_demux d;
	uint32_t x = 1;
	unsigned via;

	(void)state;
	assert_int_equal(nb_endpoint_parse(&server, "198.51.100.1:3478"), 0);
	ice_demux_init(&d, seed, 10);
	for (int i = 0; i < 3; i++) {
		a[i] = agent(i == 0 ? "a" : i == 1 ? "b" : "c", random_bytes, &x);
		assert_int_equal(ice_demux_add(&d, a[i]), 0);
		assert_int_equal(ice_add_stun_server(a[i], &server, 51820, now), 0);
	}
	for (int i = 2; i >= 0; i--) {
		assert_int_equal(ice_output(a[i], &out, &via, now), 1);
		out.p[0] = 1;	/* success response */
		assert_ptr_equal(ice_demux_find(&d, nb_bytes(out.p, out.n)), a[i]);
		out.p[8] ^= 0xff;
		assert_null(ice_demux_find(&d, nb_bytes(out.p, out.n)));
	}
	for (int i = 0; i < 3; i++) {
		ice_demux_del(&d, a[i]);
		ice_free(a[i]);
	}
	assert_int_equal(d.by_tag.count, 0);
	assert_int_equal(d.by_ufrag.count, 0);
	ice_demux_fini(&d);
}

static void tags_are_unique_and_capped(void **state)
{
	uint8_t seed[16] = { 0 };
	unsigned calls = 0;
	struct ice_agent *one = agent("one", constant_bytes, &calls), *two = agent("two", constant_bytes, &calls);
	struct ice_demux d;

	(void)state;
	ice_demux_init(&d, seed, 1);
	assert_int_equal(ice_demux_add(&d, one), 0);
	assert_int_equal(ice_demux_add(&d, two), NB_E_FULL);
	assert_true(calls > 8);	/* the tag was drawn until it was free */
	ice_demux_del(&d, two);
	ice_demux_del(&d, one);
	ice_demux_fini(&d);
	ice_free(one);
	ice_free(two);
}

static void stun_or_wireguard(void **state)
{
	uint8_t mem[512] = { 0 };
	struct nb_bytes r = request(mem, "one:remote");
	uint8_t wg[32] = { 4, 0, 0, 0, 0x21, 0x12, 0xa4, 0x42 };

	(void)state;
	assert_true(ice_is_stun(r));
	assert_false(ice_is_stun(nb_bytes(r.p, 19)));
	assert_false(ice_is_stun(nb_bytes(wg, 32)));	/* a receiver index that looks like the cookie */
	mem[4] = 0;
	assert_false(ice_is_stun(r));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_by_ufrag), cmocka_unit_test(responses_by_tag),
		cmocka_unit_test(tags_are_unique_and_capped), cmocka_unit_test(stun_or_wireguard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
