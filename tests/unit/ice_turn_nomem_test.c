/* ice_turn_nomem_test.c - the TURN server when the Nth allocation of memory fails, for every N of a whole
 * session: nothing crashes, nothing leaks (make asan), and the server serves again afterwards. The code
 * under test is included here so that its malloc is ours. */
#include <stdlib.h>
#include <string.h>

static long until_failure = -1;	/* allocations that still succeed; negative: all */

static int fails(void)
{
	return until_failure >= 0 && until_failure-- == 0;
}

static void *test_malloc(size_t n)
{
	return fails() ? NULL : malloc(n);
}

static void *test_calloc(size_t n, size_t size)
{
	return fails() ? NULL : calloc(n, size);
}

static void *test_realloc(void *p, size_t n)
{
	return fails() ? NULL : realloc(p, n);
}

static char *test_strdup(const char *s)
{
	return fails() ? NULL : strdup(s);
}

#define malloc test_malloc
#define calloc test_calloc
#define realloc test_realloc
#define strdup test_strdup
#include "base/map.c"
#include "ice/turn_server.c"
#include "ice/turn_table.c"
#undef malloc
#undef calloc
#undef realloc
#undef strdup

#include "unit/turn_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

static struct world w;

/* Send one signed request; false when the answer is an error. */
static bool signed_request(unsigned method, const char *from, const char *peer, unsigned channel)
{
	struct turn_flow flow = world_flow(from);
	struct nb_endpoint to = world_endpoint(peer ? peer : "1.1.1.1:1");
	char nonce[TURN_NONCE_LEN + 1];
	uint8_t mem[512], txid[STUN_TXID_LEN], key[STUN_KEY_LEN];
	struct stun_enc e;
	struct stun_msg m;
	struct nb_buf b;

	world_random(&w, txid, sizeof txid);
	nb_buf_fixed(&b, mem, sizeof mem);
	e = stun_begin(&b, STUN_REQUEST, method, txid);
	if (method == TURN_ALLOCATE) {
		stun_put_u32(&e, TURN_A_REQUESTED_TRANSPORT, 17u << 24);
		stun_put(&e, TURN_A_EVEN_PORT, nb_bytes("\x80", 1));
	}
	if (channel)
		stun_put_u32(&e, TURN_A_CHANNEL_NUMBER, channel << 16);
	if (peer)
		stun_put_xor_addr(&e, TURN_A_XOR_PEER_ADDRESS, &to);
	turn_nonce_make(w.server, nonce, &flow, w.now);
	stun_long_term_key(key, nb_bytes_str("alice"), nb_bytes_str("test"), nb_bytes_str("wonder"));
	stun_put_str(&e, STUN_A_USERNAME, "alice");
	stun_put_str(&e, STUN_A_REALM, "test");
	stun_put_str(&e, STUN_A_NONCE, nonce);
	stun_put_integrity(&e, nb_bytes(key, sizeof key));
	world_send(&w, from, nb_buf_view(&b));
	world_answer(&w, from, &m);
	return m.cls == STUN_SUCCESS;
}

/* A few allocations, permissions and channels; how many requests succeeded. */
static unsigned session(int base)
{
	unsigned ok = 0;
	char from[32], peer[32];

	for (int i = 0; i < 20; i++) {
		snprintf(from, sizeof from, "198.51.100.7:%d", base + i);
		ok += signed_request(TURN_ALLOCATE, from, NULL, 0);
	}
	for (int i = 0; i < 10; i++) {
		snprintf(peer, sizeof peer, "192.0.2.%d:9", 100 + i);
		ok += signed_request(TURN_CREATE_PERMISSION, from, peer, 0);
		ok += signed_request(TURN_CHANNEL_BIND, from, peer, 0x4000u + (unsigned)i);
	}
	return ok;
}

static void every_allocation_fails_once(void **state)
{
	long n, refused = 0;

	(void)state;
	for (n = 0; n < 1000; n++) {
		unsigned ok;

		world_start(&w, NULL);
		until_failure = n;
		ok = session(5000);
		if (until_failure >= 0) {	/* the session needs no more than n */
			until_failure = -1;
			assert_int_equal(ok, 40);
			world_stop(&w);
			break;
		}
		refused += ok < 40;	/* a hash table that cannot grow goes on */
		until_failure = -1;
		w.now.ns += 3600 * NB_SEC;
		turn_server_tick(w.server, w.now);
		assert_int_equal(session(7000), 40);
		world_stop(&w);
	}
	assert_in_range(n, 50, 999);
	assert_in_range(refused, n - 10, n);
}

static void start_fails(void **state)
{
	static const struct turn_server_ops none = { 0 };
	struct turn_server_config c = world_config(&w);
	struct turn_server *s = NULL;
	long n;

	(void)state;
	c.random_ctx = &w;
	for (n = 0; !s; n++) {
		until_failure = n;
		s = turn_server_new(&c, &none, NULL);
		assert_true(s || until_failure < 0);
	}
	until_failure = -1;
	turn_server_free(s);
	assert_true(n > 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_allocation_fails_once),
		cmocka_unit_test(start_fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
