/* ice_turn_client_test.c - the TURN client core against our server core, with a fake clock: allocation,
 * challenges, permissions, channels, refreshes over hours, losses, and what goes wrong. */
#include "ice/turn_client.h"

#include "base/err.h"
#include "unit/turn_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define CLIENT "198.51.100.7:4000"
#define PEER "192.0.2.200:9000"

static struct world w;
static struct turn_client *c;
static unsigned sent;		/* requests the client sent */
static unsigned lose;		/* drop so many datagrams of the client */
static struct nb_endpoint peer_from;
static uint8_t peer_data[WORLD_BYTES];
static size_t peer_len;

static struct turn_client *client(const char *user, const char *password, uint8_t family)
{
	struct turn_client_config cfg = {
		.server = world_endpoint("192.0.2.1:3478"), .username = user, .password = password,
		.family = family, .random = world_random, .random_ctx = &w,
	};
	return turn_client_new(&cfg, w.now);
}

/* What the server sent to clients goes to ours; 1 when the last one carried data. */
static int deliver(void)
{
	int last = 0;

	for (size_t i = 0; i < w.nmail; i++) {
		struct nb_bytes data;

		if (w.mail[i].relayed)
			continue;
		last = turn_client_input(c, nb_bytes(w.mail[i].p, w.mail[i].n), &peer_from, &data, w.now);
		if (last == 1) {
			peer_len = data.n;
			memcpy(peer_data, data.p, data.n);
		}
	}
	return last;
}

/* Let both sides talk until the client is idle at this moment. */
static void settle(void)
{
	uint8_t mem[TURN_CLIENT_DGRAM_MAX];
	struct nb_dgram out = { .p = mem, .cap = sizeof mem };

	while (turn_client_output(c, &out, w.now) == 1) {
		sent++;
		if (lose) {
			lose--;
			continue;
		}
		world_send(&w, CLIENT, nb_bytes(out.p, out.n));
		deliver();
	}
}

/* Move time to `seconds` from now, stopping at every deadline of both sides. */
static void run(int64_t seconds)
{
	struct nb_time end = nb_time_add(w.now, seconds * NB_SEC);

	for (;;) {
		struct nb_time next;

		settle();
		next = nb_time_min(turn_client_deadline(c), turn_server_deadline(w.server));
		if (!nb_time_before(next, end))
			break;
		assert_true(nb_time_before(w.now, next));
		w.wall.ns += next.ns - w.now.ns;
		w.now = next;
		turn_server_tick(w.server, w.now);
	}
	w.wall.ns += end.ns - w.now.ns;
	w.now = end;
	settle();
}

static struct turn_event expect(enum turn_event_type type)
{
	struct turn_event ev = { 0 };

	assert_int_equal(turn_client_event(c, &ev), 1);
	assert_int_equal(ev.type, type);
	return ev;
}

static void no_event(void)
{
	struct turn_event ev;

	assert_int_equal(turn_client_event(c, &ev), 0);
}

static int setup(void **state)
{
	(void)state;
	world_start(&w, NULL);
	sent = lose = 0;
	c = client("alice", "wonder", 4);
	assert_non_null(c);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	turn_client_free(c);
	world_stop(&w);
	return 0;
}

static size_t allocations(void)
{
	struct turn_server_stats s;

	turn_server_stats(w.server, &s);
	return s.allocations;
}

static void allocate(void **state)
{
	struct nb_endpoint e, self = world_endpoint(CLIENT);
	struct turn_event ev;

	(void)state;
	assert_false(turn_client_relayed(c, &e));
	settle();
	assert_int_equal(sent, 2);	/* challenge, then credentials */
	ev = expect(TURN_EV_ALLOCATED);
	assert_true(nb_endpoint_eq(&ev.mapped, &self));
	assert_true(turn_client_relayed(c, &e));
	assert_true(nb_endpoint_eq(&e, &ev.relayed));
	assert_int_equal(turn_client_state(c), TURN_READY);
	no_event();
	turn_client_close(c, w.now);
	settle();
	expect(TURN_EV_CLOSED);
	assert_int_equal(allocations(), 0);
	assert_int_equal(turn_client_state(c), TURN_DEAD);
	assert_true(nb_time_is_never(turn_client_deadline(c)));
}

static void allocate_ipv6(void **state)
{
	struct turn_event ev;

	(void)state;
	turn_client_free(c);
	c = client("alice", "wonder", 6);
	settle();
	ev = expect(TURN_EV_ALLOCATED);
	assert_int_equal(ev.relayed.addr.family, 6);
}

static void data_both_ways(void **state)
{
	struct nb_endpoint peer = world_endpoint(PEER);
	struct turn_relay *relay;
	struct turn_event ev;
	uint8_t out[256];
	uint16_t channel = 0;
	int n;

	(void)state;
	assert_int_equal(turn_client_wrap(c, &peer, nb_bytes_str("x"), out), NB_E_STATE);
	/* Asked for before the allocation stands. */
	assert_int_equal(turn_client_permit(c, &peer.addr, w.now), 0);
	assert_int_equal(turn_client_permit(c, &peer.addr, w.now), NB_E_EXISTS);
	settle();
	expect(TURN_EV_ALLOCATED);
	ev = expect(TURN_EV_PERMITTED);
	assert_true(nb_addr_eq(&ev.peer.addr, &peer.addr));

	n = turn_client_wrap(c, &peer, nb_bytes_str("hello"), out);
	assert_true(n > 5 && n <= 5 + TURN_WRAP_MAX);
	world_send(&w, CLIENT, nb_bytes(out, (size_t)n));
	assert_int_equal(w.nmail, 1);
	assert_true(w.mail[0].relayed);
	assert_memory_equal(w.mail[0].p, "hello", 5);
	relay = w.mail[0].relay;
	w.nmail = 0;
	turn_server_peer_input(w.server, relay, &peer, nb_bytes_str("indication"), w.now);
	assert_int_equal(deliver(), 1);
	assert_true(nb_endpoint_eq(&peer_from, &peer));
	assert_int_equal(peer_len, 10);

	assert_int_equal(turn_client_bind(c, &peer, &channel, w.now), 0);
	assert_true(channel >= 0x4000 && channel <= 0x4fff);
	assert_int_equal(turn_client_channel(c, &peer), 0);
	settle();
	assert_int_equal(expect(TURN_EV_BOUND).channel, channel);
	assert_int_equal(turn_client_channel(c, &peer), channel);
	n = turn_client_wrap(c, &peer, nb_bytes_str("short"), out);
	assert_int_equal(n, 9);
	world_send(&w, CLIENT, nb_bytes(out, (size_t)n));
	assert_memory_equal(w.mail[0].p, "short", 5);
	w.nmail = 0;
	turn_server_peer_input(w.server, relay, &peer, nb_bytes_str("framed"), w.now);
	assert_int_equal(w.mail[0].n, 10);
	assert_int_equal(deliver(), 1);
	assert_memory_equal(peer_data, "framed", 6);

	/* Forget and bind again within the quarantine: the same number, or the server would refuse. */
	turn_client_forget(c, &peer);
	assert_int_equal(turn_client_channel(c, &peer), 0);
	assert_int_equal(turn_client_bind(c, &peer, &channel, w.now), 0);
	settle();
	assert_int_equal(expect(TURN_EV_BOUND).channel, channel);
}

/* Nonces expire every 1800 s, permissions and channels much earlier. */
static void stays_up_for_hours(void **state)
{
	struct nb_endpoint peer = world_endpoint(PEER), other = world_endpoint("8.8.8.8:1");
	uint16_t channel;

	(void)state;
	settle();
	expect(TURN_EV_ALLOCATED);
	assert_int_equal(turn_client_bind(c, &peer, &channel, w.now), 0);
	assert_int_equal(turn_client_permit(c, &other.addr, w.now), 0);
	settle();
	expect(TURN_EV_BOUND);
	expect(TURN_EV_PERMITTED);
	for (int i = 0; i < 5 * 3600 / 60; i++) {
		uint8_t frame[5] = { (uint8_t)(channel >> 8), (uint8_t)channel, 0, 1, 'x' };

		run(60);
		world_send(&w, CLIENT, nb_bytes(frame, sizeof frame));
		assert_int_equal(w.nmail, 1);
		assert_true(w.mail[0].relayed);
		w.nmail = 0;
		turn_server_peer_input(w.server, w.mail[0].relay, &other, nb_bytes_str("y"), w.now);
		assert_int_equal(w.nmail, 1);
	}
	no_event();
	/* 2 x 75 peer refreshes, 60 allocation refreshes, 720 keepalives, some challenges. */
	assert_in_range(sent, 900, 1000);
}

static void survives_losses(void **state)
{
	(void)state;
	lose = 3;
	run(1);
	no_event();
	run(2);
	expect(TURN_EV_ALLOCATED);
	lose = 4;
	run(600);
	no_event();
	assert_int_equal(allocations(), 1);
}

static void server_silent(void **state)
{
	struct turn_event ev;

	(void)state;
	lose = 1000;
	run(7);
	no_event();
	run(1);
	assert_int_equal(sent, 9);
	ev = expect(TURN_EV_FAILED);
	assert_int_equal(ev.err, NB_E_TIMEOUT);
	assert_int_equal(ev.code, 0);
}

/* Over a stream nothing is lost: one request, and a limit for the answer. */
static void server_silent_on_a_stream(void **state)
{
	struct turn_client_config cfg = { .server = world_endpoint("192.0.2.1:3478"), .username = "alice", .password = "wonder",
					  .stream = true, .random = world_random, .random_ctx = &w };

	(void)state;
	turn_client_free(c);
	c = turn_client_new(&cfg, w.now);
	lose = 1000;
	run(7);
	no_event();
	run(1);
	assert_int_equal(sent, 1);
	assert_int_equal(expect(TURN_EV_FAILED).err, NB_E_TIMEOUT);
}

static void server_dies_later(void **state)
{
	(void)state;
	settle();
	expect(TURN_EV_ALLOCATED);
	lose = 100000;
	run(300 + 17);
	assert_int_equal(expect(TURN_EV_FAILED).err, NB_E_TIMEOUT);
}

static void server_restarts(void **state)
{
	(void)state;
	settle();
	expect(TURN_EV_ALLOCATED);
	world_stop(&w);
	world_start(&w, NULL);
	w.now.ns += 300 * NB_SEC;
	settle();
	assert_int_equal(expect(TURN_EV_FAILED).code, 437);
}

/* Asked instead of waiting for the next Refresh: nothing happens when all is well, the end is seen when it is not. */
static void asking_after_it(void **state)
{
	size_t before;

	(void)state;
	turn_client_check(c, w.now);	/* allocating: not now */
	settle();
	expect(TURN_EV_ALLOCATED);
	before = sent;
	turn_client_check(c, w.now);
	turn_client_check(c, w.now);
	settle();
	assert_int_equal(sent, before + 1);
	no_event();
	assert_int_equal(allocations(), 1);
	world_stop(&w);
	world_start(&w, NULL);
	turn_client_check(c, w.now);
	settle();
	assert_int_equal(expect(TURN_EV_FAILED).code, 437);
	turn_client_check(c, w.now);
	settle();
	no_event();
}

static void wrong_password(void **state)
{
	struct turn_event ev;

	(void)state;
	turn_client_free(c);
	c = client("alice", "blunder", 4);
	settle();
	ev = expect(TURN_EV_FAILED);
	assert_int_equal(ev.code, 401);
	assert_int_equal(ev.err, NB_E_DENIED);
	assert_int_equal(sent, 2);
	assert_null(client("", "x", 4));
	assert_null(client("x", "", 4));
}

/* A crash left an allocation behind on this port: it is given back first. */
static void left_over_allocation(void **state)
{
	(void)state;
	settle();
	expect(TURN_EV_ALLOCATED);
	turn_client_free(c);
	c = client("alice", "wonder", 4);
	settle();
	expect(TURN_EV_ALLOCATED);
	assert_int_equal(allocations(), 1);
	assert_int_equal(w.opened, 2);
}

static void refused_peer(void **state)
{
	struct nb_endpoint bad = world_endpoint("127.0.0.1:9");
	struct turn_event ev;
	uint16_t channel;

	(void)state;
	settle();
	expect(TURN_EV_ALLOCATED);
	assert_int_equal(turn_client_permit(c, &bad.addr, w.now), 0);
	assert_int_equal(turn_client_bind(c, &bad, &channel, w.now), 0);
	settle();
	for (int i = 0; i < 2; i++) {
		ev = expect(TURN_EV_PEER_FAILED);
		assert_int_equal(ev.code, 403);
		assert_true(nb_addr_eq(&ev.peer.addr, &bad.addr));
	}
	no_event();
	assert_int_equal(turn_client_state(c), TURN_READY);
}

static void forged_answers(void **state)
{
	uint8_t mem[TURN_CLIENT_DGRAM_MAX], fake[256];
	struct nb_dgram out = { .p = mem, .cap = sizeof mem };
	struct nb_endpoint e = world_endpoint("6.6.6.6:6"), from;
	struct nb_bytes data;
	struct stun_enc enc;
	struct stun_msg m;
	struct nb_buf b;

	(void)state;
	/* Until the second request, the signed one. */
	assert_int_equal(turn_client_output(c, &out, w.now), 1);
	world_send(&w, CLIENT, nb_bytes(out.p, out.n));
	deliver();
	assert_int_equal(turn_client_output(c, &out, w.now), 1);
	assert_int_equal(stun_decode(&m, nb_bytes(out.p, out.n)), 0);
	/* A success without a signature, one with a wrong one, a strange transaction, junk. */
	for (int i = 0; i < 3; i++) {
		uint8_t txid[STUN_TXID_LEN];

		memcpy(txid, stun_txid(&m), sizeof txid);
		txid[0] ^= i == 2;
		nb_buf_fixed(&b, fake, sizeof fake);
		enc = stun_begin(&b, STUN_SUCCESS, TURN_ALLOCATE, txid);
		stun_put_xor_addr(&enc, TURN_A_XOR_RELAYED_ADDRESS, &e);
		if (i)
			stun_put_integrity(&enc, nb_bytes_str("0123456789abcdef"));
		assert_int_equal(turn_client_input(c, nb_buf_view(&b), &from, &data, w.now), NB_E_BAD);
	}
	assert_int_equal(turn_client_input(c, nb_bytes("\x40\0\0\1x", 5), &from, &data, w.now), NB_E_BAD);
	assert_int_equal(turn_client_input(c, nb_bytes("junk", 4), &from, &data, w.now), NB_E_BAD);
	no_event();
	world_send(&w, CLIENT, nb_bytes(out.p, out.n));
	deliver();
	expect(TURN_EV_ALLOCATED);
}

/* A server that answers 438 for ever must not be asked for ever. */
static void endless_challenges(void **state)
{
	uint8_t mem[TURN_CLIENT_DGRAM_MAX], ans[256];
	struct nb_dgram out = { .p = mem, .cap = sizeof mem };
	struct nb_endpoint from;
	struct nb_bytes data;
	unsigned n = 0;

	(void)state;
	while (turn_client_output(c, &out, w.now) == 1) {
		struct stun_enc enc;
		struct stun_msg m;
		struct nb_buf b;

		n++;
		assert_true(n < 20);
		assert_int_equal(stun_decode(&m, nb_bytes(out.p, out.n)), 0);
		nb_buf_fixed(&b, ans, sizeof ans);
		enc = stun_begin(&b, STUN_ERROR, TURN_ALLOCATE, stun_txid(&m));
		stun_put_error(&enc, n == 1 ? 401 : 438, "");
		stun_put_str(&enc, STUN_A_REALM, "r");
		stun_put_str(&enc, STUN_A_NONCE, "n");
		assert_int_equal(turn_client_input(c, nb_buf_view(&b), &from, &data, w.now), 0);
	}
	assert_int_equal(n, 7);
	assert_int_equal(expect(TURN_EV_FAILED).code, 438);
}

static void redirect(void **state)
{
	uint8_t mem[TURN_CLIENT_DGRAM_MAX], ans[256];
	struct nb_dgram out = { .p = mem, .cap = sizeof mem };
	struct nb_endpoint from, other = world_endpoint("192.0.2.77:3478");
	struct turn_event ev;
	struct nb_bytes data;
	struct stun_enc enc;
	struct stun_msg m;
	struct nb_buf b;

	(void)state;
	assert_int_equal(turn_client_output(c, &out, w.now), 1);
	assert_int_equal(stun_decode(&m, nb_bytes(out.p, out.n)), 0);
	nb_buf_fixed(&b, ans, sizeof ans);
	enc = stun_begin(&b, STUN_ERROR, TURN_ALLOCATE, stun_txid(&m));
	stun_put_error(&enc, 300, "Try Alternate");
	stun_put_addr(&enc, STUN_A_ALTERNATE_SERVER, &other);
	assert_int_equal(turn_client_input(c, nb_buf_view(&b), &from, &data, w.now), 0);
	ev = expect(TURN_EV_FAILED);
	assert_int_equal(ev.code, 300);
	assert_true(nb_endpoint_eq(&ev.alternate, &other));
}

static void closing(void **state)
{
	struct nb_endpoint peer = world_endpoint(PEER);

	(void)state;
	/* Before anything was granted: at once. */
	turn_client_close(c, w.now);
	expect(TURN_EV_CLOSED);
	turn_client_close(c, w.now);
	no_event();
	assert_int_equal(turn_client_permit(c, &peer.addr, w.now), NB_E_STATE);
	turn_client_free(c);
	/* A server that has died: after three seconds. */
	c = client("alice", "wonder", 4);
	settle();
	expect(TURN_EV_ALLOCATED);
	lose = 1000;
	turn_client_close(c, w.now);
	assert_int_equal(turn_client_state(c), TURN_CLOSING);
	assert_int_equal(turn_client_permit(c, &peer.addr, w.now), NB_E_STATE);
	run(2);
	no_event();
	run(2);
	assert_int_equal(expect(TURN_EV_CLOSED).err, NB_E_TIMEOUT);
	turn_client_free(c);
	/* A server that has forgotten us: that is as good. */
	lose = 0;
	c = client("alice", "wonder", 4);
	settle();
	expect(TURN_EV_ALLOCATED);
	world_stop(&w);
	world_start(&w, NULL);
	turn_client_close(c, w.now);
	settle();
	assert_int_equal(expect(TURN_EV_CLOSED).code, 437);
}

static void forgetting(void **state)
{
	struct nb_endpoint peer = world_endpoint(PEER), host = { .addr = peer.addr };
	struct turn_event ev;

	(void)state;
	settle();
	expect(TURN_EV_ALLOCATED);
	turn_client_forget(c, &peer);	/* never heard of */
	assert_int_equal(turn_client_permit(c, &peer.addr, w.now), 0);
	settle();
	expect(TURN_EV_PERMITTED);
	turn_client_forget(c, &host);
	sent = 0;
	run(290);
	assert_int_equal(sent, 11);	/* keepalives; nobody refreshes the permission */
	/* A peer that gets no answer is given up, the allocation is not. */
	lose = 1000;
	assert_int_equal(turn_client_permit(c, &peer.addr, w.now), 0);
	settle();
	for (int i = 0; i < 30 && turn_client_event(c, &ev) == 0; i++) {
		w.now = nb_time_add(w.now, NB_SEC);
		settle();
	}
	assert_int_equal(ev.type, TURN_EV_PEER_FAILED);
	assert_int_equal(ev.err, NB_E_TIMEOUT);
}

static void asks_for_a_lifetime(void **state)
{
	struct turn_client_config cfg = {
		.server = world_endpoint("192.0.2.1:3478"), .username = "alice", .password = "wonder",
		.lifetime_s = 1200, .random = world_random, .random_ctx = &w,
	};

	(void)state;
	turn_client_free(c);
	c = turn_client_new(&cfg, w.now);
	settle();
	expect(TURN_EV_ALLOCATED);
	assert_int_equal(nb_time_diff(turn_server_deadline(w.server), w.now), 1200 * NB_SEC);
	run(601);
	assert_int_equal(nb_time_diff(turn_server_deadline(w.server), w.now), 1199 * NB_SEC);
}

/* Answer the request that is due with cls and a few attributes. */
static int answer(enum stun_class cls, unsigned code, const char *realm, const char *nonce, const char *relayed)
{
	uint8_t mem[TURN_CLIENT_DGRAM_MAX], ans[1200];
	struct nb_dgram out = { .p = mem, .cap = sizeof mem };
	struct nb_endpoint from, e;
	struct nb_bytes data;
	struct stun_enc enc;
	struct stun_msg m;
	struct nb_buf b;

	assert_int_equal(turn_client_output(c, &out, w.now), 1);
	assert_int_equal(stun_decode(&m, nb_bytes(out.p, out.n)), 0);
	nb_buf_fixed(&b, ans, sizeof ans);
	enc = stun_begin(&b, cls, m.method, stun_txid(&m));
	if (code)
		stun_put_error(&enc, code, "");
	if (realm)
		stun_put_str(&enc, STUN_A_REALM, realm);
	if (nonce)
		stun_put_str(&enc, STUN_A_NONCE, nonce);
	if (relayed) {
		e = world_endpoint(relayed);
		stun_put_xor_addr(&enc, TURN_A_XOR_RELAYED_ADDRESS, &e);
	}
	return turn_client_input(c, nb_buf_view(&b), &from, &data, w.now);
}

static void strange_servers(void **state)
{
	static char huge[600];
	static const struct {
		enum stun_class cls;
		unsigned code;
		const char *realm, *nonce, *relayed;
		int err;
	} rows[] = {
		{ STUN_ERROR, 401, NULL, "n", NULL, NB_E_PROTO },
		{ STUN_ERROR, 401, "r", NULL, NULL, NB_E_PROTO },
		{ STUN_ERROR, 401, "", "n", NULL, NB_E_PROTO },
		{ STUN_ERROR, 401, "r", huge, NULL, NB_E_PROTO },
		{ STUN_ERROR, 401, huge, "n", NULL, NB_E_PROTO },
		{ STUN_SUCCESS, 0, NULL, NULL, NULL, NB_E_PROTO },
		{ STUN_SUCCESS, 0, NULL, NULL, "[2001:db8::1]:5", NB_E_PROTO },
		{ STUN_ERROR, 500, NULL, NULL, NULL, NB_E_DENIED },
	};

	(void)state;
	memset(huge, 'x', sizeof huge - 1);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		turn_client_free(c);
		c = client("alice", "wonder", 4);
		assert_int_equal(answer(rows[i].cls, rows[i].code, rows[i].realm, rows[i].nonce, rows[i].relayed), 0);
		assert_int_equal(expect(TURN_EV_FAILED).err, rows[i].err);
	}
	/* An error without a code is no answer; a server that wants no credentials is fine. */
	turn_client_free(c);
	c = client("alice", "wonder", 4);
	assert_int_equal(answer(STUN_ERROR, 0, NULL, NULL, NULL), NB_E_BAD);
	no_event();
	turn_client_free(c);
	c = client("alice", "wonder", 4);
	assert_int_equal(answer(STUN_SUCCESS, 0, NULL, NULL, "192.0.2.9:5"), 0);
	expect(TURN_EV_ALLOCATED);
	assert_int_equal(nb_time_diff(turn_client_deadline(c), w.now), 25 * NB_SEC);
}

static void table_is_capped(void **state)
{
	struct nb_endpoint e = world_endpoint("8.8.8.8:1");

	(void)state;
	for (unsigned i = 0; i < TURN_CLIENT_PEERS_MAX; i++) {
		e.port = (uint16_t)(i + 1);
		assert_int_equal(turn_client_bind(c, &e, NULL, w.now), 0);
	}
	e.port = 50000;
	assert_int_equal(turn_client_bind(c, &e, NULL, w.now), NB_E_FULL);
	e.port = 7;
	turn_client_forget(c, &e);
	e.port = 50000;
	assert_int_equal(turn_client_bind(c, &e, NULL, w.now), NB_E_FULL);	/* 7 rests */
	w.now = nb_time_add(w.now, 2000 * NB_SEC);
	assert_int_equal(turn_client_bind(c, &e, NULL, w.now), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(allocate), T(allocate_ipv6), T(data_both_ways), T(stays_up_for_hours), T(survives_losses),
		T(server_silent), T(server_silent_on_a_stream),
		T(server_dies_later), T(server_restarts), T(asking_after_it), T(wrong_password),
		T(left_over_allocation), T(refused_peer), T(forged_answers), T(endless_challenges), T(redirect),
		T(closing), T(forgetting), T(asks_for_a_lifetime), T(strange_servers),
		T(table_is_capped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
