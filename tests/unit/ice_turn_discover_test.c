/* ice_turn_discover_test.c - NAT behaviour discovery by the STUN server (RFC 5780): which places it names and answers
 * from, what it refuses, and that no answer is longer than its request where it could be aimed at somebody. */
#include "unit/turn_world.h"

#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define CLIENT "198.51.100.7:4000"
#define ASKED 96		/* length of a request that leaves room for the longest IPv4 answer */

static struct world w;
static uint8_t txid[STUN_TXID_LEN];

static int setup(void **state)
{
	(void)state;
	world_start(&w, NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	world_stop(&w);
	return 0;
}

static void places(bool ports, bool addrs)
{
	struct turn_stun s = { 0 };

	if (ports)
		s.port[0] = 3478, s.port[1] = 3479;
	if (addrs) {
		s.addr4[0] = world_endpoint("192.0.2.1:1").addr;
		s.addr4[1] = world_endpoint("192.0.2.2:1").addr;
		s.addr6[0] = world_endpoint("[2001:db8::1]:1").addr;
		s.addr6[1] = world_endpoint("[2001:db8::2]:1").addr;
	}
	turn_server_set_stun(w.server, &s);
}

/* A Binding request of at least n bytes; flags 0: no CHANGE-REQUEST; port 0: no RESPONSE-PORT. */
static size_t ask(const char *from, const char *to, uint32_t flags, uint16_t port, size_t n, uint32_t conn)
{
	static const char fill[ASKED * 2] = "test";
	struct turn_flow flow = { world_endpoint(from), world_endpoint(to), conn };
	uint8_t mem[512];
	struct nb_buf b;
	struct stun_enc e;

	world_random(&w, txid, sizeof txid);
	nb_buf_fixed(&b, mem, sizeof mem);
	e = stun_begin(&b, STUN_REQUEST, STUN_BINDING, txid);
	if (flags)
		stun_put_u32(&e, STUN_A_CHANGE_REQUEST, flags);
	if (port)
		stun_put_u32(&e, STUN_A_RESPONSE_PORT, (uint32_t)port << 16);
	if (b.n + 4 < n)
		stun_put(&e, STUN_A_SOFTWARE, nb_bytes(fill, n - b.n - 4));
	assert_int_equal(stun_end(&e), 0);
	w.nmail = 0;
	turn_server_input(w.server, &flow, nb_buf_view(&b), w.now, w.wall);
	for (size_t i = 0; i < w.nmail && n >= 40; i++)
		assert_true(w.mail[i].n <= b.n);
	return w.nmail;
}

/* The one answer: where it left from and went to, and its error code (0: success). */
static unsigned got(const char *from, const char *to, struct stun_msg *m)
{
	struct nb_endpoint f = world_endpoint(from), t = world_endpoint(to);
	unsigned code;

	assert_int_equal(w.nmail, 1);
	assert_true(nb_endpoint_eq(&w.mail[0].from, &f));
	assert_true(nb_endpoint_eq(&w.mail[0].to, &t));
	assert_int_equal(stun_decode(m, nb_bytes(w.mail[0].p, w.mail[0].n)), 0);
	assert_memory_equal(stun_txid(m), txid, sizeof txid);
	assert_int_equal(stun_check_fingerprint(m), 0);
	if (m->cls == STUN_SUCCESS)
		return 0;
	assert_int_equal(stun_get_error(m, &code, NULL), 0);
	return code;
}

static void names(const struct stun_msg *m, const char *origin, const char *other, unsigned port)
{
	struct nb_endpoint e, want;
	uint32_t v = 0;

	if (origin) {
		want = world_endpoint(origin);
		assert_int_equal(stun_get_addr(m, STUN_A_RESPONSE_ORIGIN, &e), 0);
		assert_true(nb_endpoint_eq(&e, &want));
	} else {
		assert_false(stun_has(m, STUN_A_RESPONSE_ORIGIN));
	}
	if (other) {
		want = world_endpoint(other);
		assert_int_equal(stun_get_addr(m, STUN_A_OTHER_ADDRESS, &e), 0);
		assert_true(nb_endpoint_eq(&e, &want));
	} else {
		assert_false(stun_has(m, STUN_A_OTHER_ADDRESS));
	}
	assert_int_equal(stun_get_u32(m, STUN_A_NESTBOX_OTHER_PORT, &v) ? 0 : v >> 16, port);
}

static void mapped(const struct stun_msg *m)
{
	struct nb_endpoint e, client = world_endpoint(CLIENT);

	assert_int_equal(stun_get_xor_addr(m, STUN_A_XOR_MAPPED_ADDRESS, &e), 0);
	assert_true(nb_endpoint_eq(&e, &client));
}

/* A server with both answers from each of its four places. */
static void two_addresses(void **state)
{
	static const struct { const char *to, *other; uint32_t flags; const char *from; } rows[] = {
		{ "192.0.2.1:3478", "192.0.2.2:3479", 0, "192.0.2.1:3478" },
		{ "192.0.2.1:3478", "192.0.2.2:3479", STUN_CHANGE_IP | STUN_CHANGE_PORT, "192.0.2.2:3479" },
		{ "192.0.2.1:3478", "192.0.2.2:3479", STUN_CHANGE_IP, "192.0.2.2:3478" },
		{ "192.0.2.1:3478", "192.0.2.2:3479", STUN_CHANGE_PORT, "192.0.2.1:3479" },
		{ "192.0.2.2:3478", "192.0.2.1:3479", STUN_CHANGE_PORT, "192.0.2.2:3479" },
		{ "192.0.2.2:3479", "192.0.2.1:3478", STUN_CHANGE_IP, "192.0.2.1:3479" },
	};
	struct stun_msg m;

	(void)state;
	places(true, true);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_int_equal(ask(CLIENT, rows[i].to, rows[i].flags, 0, ASKED, 0), 1);
		assert_int_equal(got(rows[i].from, CLIENT, &m), 0);
		names(&m, rows[i].from, rows[i].other, 0);
		mapped(&m);
	}
	/* IPv6, whose answers are longer. */
	assert_int_equal(ask("[2001:db8:1::7]:4000", "[2001:db8::1]:3478", STUN_CHANGE_IP, 0, 120, 0), 1);
	assert_int_equal(got("[2001:db8::2]:3478", "[2001:db8:1::7]:4000", &m), 0);
	names(&m, "[2001:db8::2]:3478", "[2001:db8::2]:3479", 0);
}

/* RFC 5780 7.4: one address is no reason for OTHER-ADDRESS; the second port is told in an attribute of ours. */
static void one_address(void **state)
{
	struct stun_msg m;

	(void)state;
	places(true, false);
	ask(CLIENT, "192.0.2.1:3478", 0, 0, ASKED, 0);
	assert_int_equal(got("192.0.2.1:3478", CLIENT, &m), 0);
	names(&m, "192.0.2.1:3478", NULL, 3479);
	ask(CLIENT, "192.0.2.1:3479", STUN_CHANGE_PORT, 0, ASKED, 0);
	assert_int_equal(got("192.0.2.1:3478", CLIENT, &m), 0);
	names(&m, "192.0.2.1:3478", NULL, 3478);
	for (uint32_t flags = STUN_CHANGE_IP; flags <= 6; flags += 2) {
		struct nb_bytes types;

		ask(CLIENT, "192.0.2.1:3478", flags, 0, ASKED, 0);
		assert_int_equal(got("192.0.2.1:3478", CLIENT, &m), 420);
		assert_int_equal(stun_find(&m, STUN_A_UNKNOWN_ATTRIBUTES, &types), 0);
		assert_int_equal(types.n, 2);
		assert_int_equal(nb_get_be16(types.p), STUN_A_CHANGE_REQUEST);
	}
}

/* One address, one port: a STUN server as any other. */
static void nothing_else(void **state)
{
	struct stun_msg m;

	(void)state;
	ask(CLIENT, "192.0.2.1:3478", 0, 0, ASKED, 0);
	assert_int_equal(got("192.0.2.1:3478", CLIENT, &m), 0);
	names(&m, "192.0.2.1:3478", NULL, 0);
	ask(CLIENT, "192.0.2.1:3478", STUN_CHANGE_PORT, 0, ASKED, 0);
	assert_int_equal(got("192.0.2.1:3478", CLIENT, &m), 420);
}

static void response_port(void **state)
{
	struct stun_msg m;

	(void)state;
	places(true, true);
	ask(CLIENT, "192.0.2.1:3478", 0, 4321, ASKED, 0);
	assert_int_equal(got("192.0.2.1:3478", "198.51.100.7:4321", &m), 0);
	mapped(&m);
	ask(CLIENT, "192.0.2.1:3478", STUN_CHANGE_IP, 4321, ASKED, 0);
	assert_int_equal(got("192.0.2.2:3478", "198.51.100.7:4321", &m), 0);
	/* No service of a system hears from us. */
	ask(CLIENT, "192.0.2.1:3478", 0, 53, ASKED, 0);
	assert_int_equal(got("192.0.2.1:3478", CLIENT, &m), 400);
}

/* On a connection there is one path only. */
static void not_on_tcp(void **state)
{
	struct stun_msg m;

	(void)state;
	places(true, true);
	ask(CLIENT, "192.0.2.1:3478", 0, 0, ASKED, 9);
	assert_int_equal(got("192.0.2.1:3478", CLIENT, &m), 0);
	names(&m, NULL, NULL, 0);
	ask(CLIENT, "192.0.2.1:3478", STUN_CHANGE_PORT, 0, ASKED, 9);
	assert_int_equal(got("192.0.2.1:3478", CLIENT, &m), 420);
	ask(CLIENT, "192.0.2.1:3478", 0, 4321, ASKED, 9);
	assert_int_equal(got("192.0.2.1:3478", CLIENT, &m), 420);
}

/* Whatever the length of the request, the additions fit into it, and an answer that goes elsewhere does so whole. */
static void never_longer(void **state)
{
	struct stun_msg m;

	(void)state;
	places(true, true);
	for (size_t n = 20; n <= ASKED; n += 4) {
		w.now = nb_time_add(w.now, NB_SEC);
		ask(CLIENT, "192.0.2.1:3478", 0, 0, n, 0);
		assert_int_equal(got("192.0.2.1:3478", CLIENT, &m), 0);
		/* What any STUN server answers to the shortest request is 40 bytes long. */
		assert_true(w.mail[0].n <= (n > 40 ? n : 40));
		assert_int_equal(ask(CLIENT, "192.0.2.1:3478", STUN_CHANGE_PORT, 0, n < 28 ? 28 : n, 0), n >= 40);
		assert_int_equal(ask(CLIENT, "192.0.2.1:3478", 0, 4321, n < 28 ? 28 : n, 0), n >= 40);
	}
}

/* A flood of requests from one (forged) network gets a bounded number of answers from other places; plain ones go on. */
static void flood(void **state)
{
	struct turn_server_stats s;
	size_t answers = 0;

	(void)state;
	places(true, true);
	for (int i = 0; i < 1000; i++)
		answers += ask(CLIENT, "192.0.2.1:3478", STUN_CHANGE_PORT, 0, ASKED, 0);
	assert_in_range(answers, 1, 200);
	turn_server_stats(w.server, &s);
	assert_int_equal(s.discoveries, answers);
	assert_int_equal(s.discoveries_held, 1000 - answers);
	assert_int_equal(ask(CLIENT, "192.0.2.1:3478", 0, 0, ASKED, 0), 1);
	assert_int_equal(ask("203.0.113.9:4000", "192.0.2.1:3478", STUN_CHANGE_PORT, 0, ASKED, 0), 1);
}

/* Attributes that are too short or long, and on other methods. */
static void malformed(void **state)
{
	struct turn_flow flow = { world_endpoint(CLIENT), world_endpoint("192.0.2.1:3478"), 0 };
	static const uint16_t types[] = { STUN_A_CHANGE_REQUEST, STUN_A_RESPONSE_PORT };
	static const uint8_t bytes[120];
	struct stun_msg m;

	(void)state;
	places(true, true);
	for (int i = 0; i < 4; i++) {
		uint8_t mem[256];
		struct nb_buf b;
		struct stun_enc e;

		nb_buf_fixed(&b, mem, sizeof mem);
		e = stun_begin(&b, STUN_REQUEST, STUN_BINDING, txid);
		stun_put(&e, types[i & 1], nb_bytes(bytes, i & 2 ? 100 : 2));
		stun_put(&e, STUN_A_SOFTWARE, nb_bytes(bytes, 60));
		assert_int_equal(stun_end(&e), 0);
		w.nmail = 0;
		turn_server_input(w.server, &flow, nb_buf_view(&b), w.now, w.wall);
		assert_int_equal(got("192.0.2.1:3478", CLIENT, &m), 400);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(two_addresses), T(one_address), T(nothing_else), T(response_port), T(not_on_tcp), T(never_longer), T(flood),
		T(malformed),
	};

	return cmocka_run_group_tests_name("ice_turn_discover", tests, NULL, NULL);
}
