/* ice_turn_server_test.c - the TURN server core: credentials, allocations, permissions, channels,
 * expiry, the peer policy, quotas, repetitions. */
#include "unit/turn_world.h"

#include "base/err.h"
#include "ice/turn_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#define ALICE "198.51.100.7:4000"
#define PEER "192.0.2.200:9000"

static struct world w;

/* What one client remembers, and the request it is writing. */
struct user {
	const char *name, *password, *from;
	char nonce[64];
	uint8_t key[STUN_KEY_LEN];
	uint8_t txid[STUN_TXID_LEN];
	uint8_t mem[1024];
	struct nb_buf b;
	struct stun_enc e;
};

static struct user user(const char *name, const char *password, const char *from)
{
	struct user u = { .name = name, .password = password, .from = from };

	stun_long_term_key(u.key, nb_bytes_str(name), nb_bytes_str("test"), nb_bytes_str(password));
	return u;
}

static void req(struct user *u, unsigned method)
{
	world_random(&w, u->txid, sizeof u->txid);
	nb_buf_fixed(&u->b, u->mem, sizeof u->mem);
	u->e = stun_begin(&u->b, STUN_REQUEST, method, u->txid);
}

static void sign(struct user *u)
{
	stun_put_str(&u->e, STUN_A_USERNAME, u->name);
	stun_put_str(&u->e, STUN_A_REALM, "test");
	stun_put_str(&u->e, STUN_A_NONCE, u->nonce);
	stun_put_integrity(&u->e, nb_bytes(u->key, sizeof u->key));
	stun_put_fingerprint(&u->e);
	assert_int_equal(stun_end(&u->e), 0);
}

/* Send what is written; the answer's error code, 0 for success. A success must be signed. */
static unsigned answer(struct user *u, struct stun_msg *m)
{
	unsigned code = 0;

	world_send(&w, u->from, nb_buf_view(&u->b));
	world_answer(&w, u->from, m);
	assert_memory_equal(stun_txid(m), u->txid, STUN_TXID_LEN);
	if (m->cls == STUN_ERROR) {
		assert_int_equal(stun_get_error(m, &code, NULL), 0);
		return code;
	}
	assert_int_equal(m->cls, STUN_SUCCESS);
	assert_int_equal(stun_check_integrity(m, nb_bytes(u->key, sizeof u->key)), 0);
	assert_int_equal(stun_check_fingerprint(m), 0);
	return 0;
}

static void keep_nonce(struct user *u, const struct stun_msg *m)
{
	struct nb_bytes v;

	assert_int_equal(stun_find(m, STUN_A_NONCE, &v), 0);
	assert_true(v.n < sizeof u->nonce);
	memcpy(u->nonce, v.p, v.n);
	u->nonce[v.n] = 0;
}

static void put_transport(struct user *u)
{
	stun_put_u32(&u->e, TURN_A_REQUESTED_TRANSPORT, 17u << 24);
}

static void login(struct user *u)
{
	struct stun_msg m;

	req(u, TURN_ALLOCATE);
	put_transport(u);
	assert_int_equal(answer(u, &m), 401);
	keep_nonce(u, &m);
}

/* Allocate with one more attribute (type 0: none); the relayed address. */
static unsigned allocate_with(struct user *u, uint16_t type, struct nb_bytes value, struct nb_endpoint *relayed)
{
	struct stun_msg m;
	unsigned code;

	req(u, TURN_ALLOCATE);
	put_transport(u);
	if (type)
		stun_put(&u->e, type, value);
	sign(u);
	code = answer(u, &m);
	if (code == 0)
		assert_int_equal(stun_get_xor_addr(&m, TURN_A_XOR_RELAYED_ADDRESS, relayed), 0);
	return code;
}

static unsigned allocate(struct user *u, struct nb_endpoint *relayed)
{
	return allocate_with(u, 0, nb_bytes(NULL, 0), relayed);
}

static unsigned permit(struct user *u, const char *peer)
{
	struct nb_endpoint e = world_endpoint(peer);
	struct stun_msg m;

	req(u, TURN_CREATE_PERMISSION);
	stun_put_xor_addr(&u->e, TURN_A_XOR_PEER_ADDRESS, &e);
	sign(u);
	return answer(u, &m);
}

static unsigned bind_channel(struct user *u, unsigned number, const char *peer)
{
	struct nb_endpoint e = world_endpoint(peer);
	struct stun_msg m;

	req(u, TURN_CHANNEL_BIND);
	stun_put_u32(&u->e, TURN_A_CHANNEL_NUMBER, number << 16);
	stun_put_xor_addr(&u->e, TURN_A_XOR_PEER_ADDRESS, &e);
	sign(u);
	return answer(u, &m);
}

static unsigned refresh(struct user *u, int lifetime)
{
	struct stun_msg m;

	req(u, TURN_REFRESH);
	if (lifetime >= 0)
		stun_put_u32(&u->e, TURN_A_LIFETIME, (uint32_t)lifetime);
	sign(u);
	return answer(u, &m);
}

static void send_indication(struct user *u, const char *peer, const char *data)
{
	static uint8_t mem[2048];
	struct nb_endpoint e = world_endpoint(peer);

	nb_buf_fixed(&u->b, mem, sizeof mem);
	u->e = stun_begin(&u->b, STUN_INDICATION, TURN_SEND, u->txid);
	stun_put_xor_addr(&u->e, TURN_A_XOR_PEER_ADDRESS, &e);
	stun_put_str(&u->e, TURN_A_DATA, data);
	world_send(&w, u->from, nb_buf_view(&u->b));
}

static void from_peer(struct turn_relay *r, const char *peer, const char *data)
{
	struct nb_endpoint e = world_endpoint(peer);

	w.nmail = 0;
	turn_server_peer_input(w.server, r, &e, nb_bytes_str(data), w.now);
}

static void later(int64_t seconds)
{
	w.now = nb_time_add(w.now, seconds * NB_SEC);
	w.wall.ns += seconds * NB_SEC;
	turn_server_tick(w.server, w.now);
}

static size_t allocations(void)
{
	struct turn_server_stats s;

	turn_server_stats(w.server, &s);
	return s.allocations;
}

static struct user ready(struct nb_endpoint *relayed)
{
	struct user u = user("alice", "wonder", ALICE);

	login(&u);
	assert_int_equal(allocate(&u, relayed), 0);
	return u;
}

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

/* ---- */

static void binding(void **state)
{
	struct nb_endpoint e, want = world_endpoint(ALICE);
	uint8_t out[64], txid[STUN_TXID_LEN] = { 1, 2 };
	struct stun_enc enc;
	struct stun_msg m;
	struct nb_buf b;
	unsigned code;

	(void)state;
	nb_buf_fixed(&b, out, sizeof out);
	enc = stun_begin(&b, STUN_REQUEST, STUN_BINDING, txid);
	world_send(&w, ALICE, nb_buf_view(&b));
	world_answer(&w, ALICE, &m);
	assert_int_equal(m.cls, STUN_SUCCESS);
	assert_int_equal(stun_get_xor_addr(&m, STUN_A_XOR_MAPPED_ADDRESS, &e), 0);
	assert_true(nb_endpoint_eq(&e, &want));
	assert_int_equal(stun_check_fingerprint(&m), 0);
	assert_int_equal(m.nattrs, 2);	/* as stock: nothing else */

	stun_put_u32(&enc, 0x7777, 1);
	world_send(&w, ALICE, nb_buf_view(&b));
	world_answer(&w, ALICE, &m);
	assert_int_equal(stun_get_error(&m, &code, NULL), 0);
	assert_int_equal(code, 420);
}

static void stock_binding_vector(void **state)
{
	static const char answer_hex[] =
		"010100142112a4422f19d58293987276e23d4186002000080001eb7eea12d549802800046b1c2224";
	uint8_t want[40], ask[20];

	(void)state;
	nb_hex_decode(ask, 20, nb_bytes_str("000100002112a4422f19d58293987276e23d4186"));
	nb_hex_decode(want, 40, nb_bytes_str(answer_hex));
	world_send(&w, "203.0.113.11:51820", nb_bytes(ask, sizeof ask));
	assert_int_equal(w.nmail, 1);
	assert_int_equal(w.mail[0].n, sizeof want);
	assert_memory_equal(w.mail[0].p, want, sizeof want);
}

static void credentials(void **state)
{
	struct user u = user("alice", "wonder", ALICE), wrong = user("alice", "blunder", ALICE);
	struct user nobody = user("carol", "x", ALICE);
	struct nb_endpoint relayed;
	struct stun_msg m;
	struct nb_bytes v;

	(void)state;
	login(&u);
	assert_true(w.mail[0].n <= 3 * u.b.n);	/* small answer to a forgeable question */
	memcpy(wrong.nonce, u.nonce, sizeof u.nonce);
	memcpy(nobody.nonce, u.nonce, sizeof u.nonce);
	assert_int_equal(allocate(&wrong, &relayed), 401);
	assert_int_equal(allocate(&nobody, &relayed), 401);
	assert_int_equal(allocations(), 0);
	assert_int_equal(allocate(&u, &relayed), 0);

	/* A nonce of another address, one bit changed, none at all. */
	wrong = user("alice", "wonder", "198.51.100.8:4000");
	memcpy(wrong.nonce, u.nonce, sizeof u.nonce);
	assert_int_equal(allocate(&wrong, &relayed), 438);
	u.nonce[0] ^= 1;
	assert_int_equal(refresh(&u, -1), 438);
	u.nonce[0] ^= 1;
	req(&u, TURN_REFRESH);
	stun_put_str(&u.e, STUN_A_USERNAME, "alice");
	stun_put_integrity(&u.e, nb_bytes(u.key, sizeof u.key));
	assert_int_equal(answer(&u, &m), 400);
	assert_int_equal(stun_find(&m, STUN_A_NONCE, &v), NB_E_NOTFOUND);

	/* Another user on the same 5-tuple, with right credentials. */
	wrong = user("bob", "builder", ALICE);
	memcpy(wrong.nonce, u.nonce, sizeof u.nonce);
	assert_int_equal(refresh(&wrong, -1), 441);
}

static void time_limited_credentials(void **state)
{
	/* spec/relay-protocol.md 9.1: secret "secret", user 1900000000. */
	struct user u = user("1900000000", "QLXrE6PFcwuLjdf5C0tc5Nqp2es=", ALICE);
	struct user past = user("1899999999", "x", ALICE);
	struct user again = user("1900000100", "fkRonAoRRjGdJfMeYDeHbL1FHMA=", ALICE);
	struct nb_endpoint relayed;
	struct stun_msg m;

	(void)state;
	assert_int_equal(w.wall.ns / NB_SEC, 1900000000);
	login(&u);
	memcpy(past.nonce, u.nonce, sizeof u.nonce);
	assert_int_equal(allocate(&past, &relayed), 401);
	assert_int_equal(allocate(&u, &relayed), 0);
	/* The client was restarted and has newer credentials: it may give back what its last run left. */
	memcpy(again.nonce, u.nonce, sizeof u.nonce);
	assert_int_equal(allocate(&again, &relayed), 437);
	assert_int_equal(refresh(&again, 0), 0);
	assert_int_equal(allocate(&again, &relayed), 0);
	assert_int_equal(refresh(&again, 0), 0);
	assert_int_equal(allocate(&u, &relayed), 0);
	/* Expired now: the allocation keeps its key, a new one is refused. */
	later(500);
	assert_int_equal(refresh(&u, 600), 0);
	assert_int_equal(refresh(&u, 0), 0);
	assert_int_equal(allocate(&u, &relayed), 401);
	/* Malformed expiry texts. */
	for (int i = 0; i < 4; i++) {
		static const char *const bad[] = { "", ":x", "19000000000000000000", "1900000000x" };
		struct user b = user(bad[i], "x", ALICE);

		memcpy(b.nonce, u.nonce, sizeof u.nonce);
		req(&b, TURN_ALLOCATE);
		put_transport(&b);
		sign(&b);
		assert_int_equal(answer(&b, &m), i ? 401 : 400);
	}
}

static void suffix_in_user_name(void **state)
{
	/* base64(HMAC-SHA1("secret", "2141011253:carol")). */
	struct user u = user("2141011253:carol", "IHAVkwHJ87J5dhe+V3+WO+efhx0=", ALICE);
	struct nb_endpoint relayed;

	(void)state;
	login(&u);
	assert_int_equal(allocate(&u, &relayed), 0);
}

static void allocation(void **state)
{
	struct nb_endpoint relayed, e, client = world_endpoint(ALICE);
	struct user u = user("alice", "wonder", ALICE);
	struct stun_msg m;
	uint32_t lifetime;
	uint8_t txid[STUN_TXID_LEN];

	(void)state;
	login(&u);
	req(&u, TURN_ALLOCATE);
	put_transport(&u);
	stun_put_u32(&u.e, TURN_A_LIFETIME, 99999);
	sign(&u);
	memcpy(txid, u.txid, sizeof txid);
	assert_int_equal(answer(&u, &m), 0);
	assert_int_equal(stun_get_xor_addr(&m, TURN_A_XOR_RELAYED_ADDRESS, &relayed), 0);
	assert_int_equal(relayed.addr.family, 4);
	assert_true(relayed.port >= 50000 && relayed.port <= 50099);
	assert_int_equal(stun_get_xor_addr(&m, STUN_A_XOR_MAPPED_ADDRESS, &e), 0);
	assert_true(nb_endpoint_eq(&e, &client));
	assert_int_equal(stun_get_u32(&m, TURN_A_LIFETIME, &lifetime), 0);
	assert_int_equal(lifetime, 3600);

	/* The same request again: the same answer, no second allocation. */
	assert_int_equal(answer(&u, &m), 0);
	assert_int_equal(stun_get_xor_addr(&m, TURN_A_XOR_RELAYED_ADDRESS, &e), 0);
	assert_true(nb_endpoint_eq(&e, &relayed));
	assert_int_equal(w.opened, 1);
	/* Another request: 437. Another port of the client: its own allocation. */
	assert_int_equal(allocate(&u, &e), 437);
	u.from = "198.51.100.7:4001";
	assert_int_equal(allocate(&u, &e), 0);
	assert_int_not_equal(e.port, relayed.port);
	assert_int_equal(allocations(), 2);
}

/* A client on a connection: when that ends, so does its allocation, and no other. */
static void allocation_ends_with_its_connection(void **state)
{
	struct user u = user("alice", "wonder", ALICE);
	struct turn_flow flow = world_flow(ALICE), other = world_flow("198.51.100.7:4001");
	struct nb_endpoint relayed;

	(void)state;
	login(&u);
	assert_int_equal(allocate(&u, &relayed), 0);
	u.from = "198.51.100.7:4001";
	assert_int_equal(allocate(&u, &relayed), 0);
	assert_int_equal(w.closed, 0);
	turn_server_gone(w.server, &flow);
	assert_int_equal(w.closed, 1);
	assert_int_equal(allocations(), 1);
	assert_false(turn_server_has(w.server, &flow));
	assert_true(turn_server_has(w.server, &other));
	turn_server_gone(w.server, &flow);
	assert_int_equal(w.closed, 1);
}

static void bad_allocates(void **state)
{
	static const struct {
		uint16_t type;
		const char *value;
		size_t n;
		unsigned code;
	} rows[] = {
		{ TURN_A_REQUESTED_ADDRESS_FAMILY, "\3\0\0\0", 4, 440 },
		{ TURN_A_REQUESTED_ADDRESS_FAMILY, "\1", 1, 400 },
		{ TURN_A_ADDITIONAL_ADDRESS_FAMILY, "\1\0\0\0", 4, 400 },
		{ TURN_A_DONT_FRAGMENT, "", 0, 420 },
		{ TURN_A_EVEN_PORT, "\0\0", 2, 400 },
		{ TURN_A_RESERVATION_TOKEN, "1234567", 7, 400 },
		{ TURN_A_RESERVATION_TOKEN, "12345678", 8, 508 },
		{ 0x7abc, "", 0, 420 },
	};
	struct user u = user("alice", "wonder", ALICE);
	struct nb_endpoint e;
	struct stun_msg m;

	(void)state;
	login(&u);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		assert_int_equal(allocate_with(&u, rows[i].type, nb_bytes(rows[i].value, rows[i].n), &e),
				 rows[i].code);
	req(&u, TURN_ALLOCATE);
	sign(&u);
	assert_int_equal(answer(&u, &m), 400);	/* no transport */
	req(&u, TURN_ALLOCATE);
	stun_put_u32(&u.e, TURN_A_REQUESTED_TRANSPORT, 6u << 24);
	sign(&u);
	assert_int_equal(answer(&u, &m), 442);
	w.no_sockets = true;
	assert_int_equal(allocate(&u, &e), 508);
	w.no_sockets = false;
	assert_int_equal(allocations(), 0);
	assert_int_equal(permit(&u, PEER), 437);
	assert_int_equal(bind_channel(&u, 0x4000, PEER), 437);
	assert_int_equal(refresh(&u, -1), 437);
}

static void expiry_and_refresh(void **state)
{
	struct nb_endpoint e;
	struct user u = ready(&e);
	struct stun_msg m;

	(void)state;
	assert_int_equal(nb_time_diff(turn_server_deadline(w.server), w.now), 600 * NB_SEC);
	later(599);
	assert_int_equal(allocations(), 1);
	assert_int_equal(refresh(&u, 700), 0);
	later(699);
	assert_int_equal(allocations(), 1);
	later(1);
	assert_int_equal(allocations(), 0);
	assert_int_equal(w.closed, 1);
	assert_true(nb_time_is_never(turn_server_deadline(w.server)));

	/* Giving back, and the same request once more. */
	assert_int_equal(allocate(&u, &e), 0);
	assert_int_equal(refresh(&u, 0), 0);
	assert_int_equal(allocations(), 0);
	assert_int_equal(answer(&u, &m), 0);
	assert_int_equal(refresh(&u, 0), 437);
}

static void many_expire_in_order(void **state)
{
	struct user u = user("alice", "wonder", ALICE);
	struct nb_endpoint e;
	char from[32];
	int64_t t0 = w.now.ns;

	(void)state;
	login(&u);
	u.from = from;
	for (int i = 0; i < 50; i++) {
		snprintf(from, sizeof from, "198.51.100.7:%d", 5000 + i);
		assert_int_equal(allocate(&u, &e), 0);
		assert_int_equal(refresh(&u, 600 + (i * 37) % 50 * 10), 0);
	}
	for (int left = 50; left > 0; left--) {
		struct nb_time d = turn_server_deadline(w.server);

		assert_int_equal(d.ns - t0, (600 + (50 - left) * 10) * NB_SEC);
		later((d.ns - w.now.ns) / NB_SEC);
		assert_int_equal(allocations(), left - 1);
	}
}

static void stale_nonce(void **state)
{
	struct nb_endpoint e;
	struct user u = ready(&e);
	struct stun_msg m;

	(void)state;
	assert_int_equal(refresh(&u, 3600), 0);
	later(1800);
	assert_int_equal(permit(&u, PEER), 0);
	later(1);
	/* Stock drops a channel for good on 438, but renews its nonce with the other requests. */
	assert_int_equal(bind_channel(&u, 0x4000, PEER), 0);
	assert_int_equal(permit(&u, PEER), 438);
	world_answer(&w, u.from, &m);
	keep_nonce(&u, &m);
	assert_int_equal(permit(&u, PEER), 0);
	assert_int_equal(refresh(&u, 3600), 0);
	later(3599);
	assert_int_equal(refresh(&u, 3600), 438);
	world_answer(&w, u.from, &m);
	assert_int_equal(bind_channel(&u, 0x4000, PEER), 0);
	later(2);
	assert_int_equal(allocations(), 0);
	assert_int_equal(bind_channel(&u, 0x4000, PEER), 438);
}

static void relaying(void **state)
{
	struct nb_endpoint relayed, e, peer = world_endpoint(PEER);
	struct turn_relay *r;
	struct user u = ready(&relayed);
	struct nb_bytes v;
	struct stun_msg m;

	(void)state;
	send_indication(&u, PEER, "early");
	assert_int_equal(w.nmail, 0);
	assert_int_equal(permit(&u, PEER), 0);
	send_indication(&u, PEER, "hello");
	assert_int_equal(w.nmail, 1);
	assert_true(w.mail[0].relayed);
	assert_int_equal(w.mail[0].port, relayed.port);
	assert_true(nb_endpoint_eq(&w.mail[0].to, &peer));
	assert_int_equal(w.mail[0].n, 5);
	assert_memory_equal(w.mail[0].p, "hello", 5);
	r = w.mail[0].relay;

	/* Back: from the permitted address with any port; from others not. */
	from_peer(r, "192.0.2.200:1234", "answer");
	world_answer(&w, ALICE, &m);
	assert_int_equal(m.cls, STUN_INDICATION);
	assert_int_equal(m.method, TURN_DATA);
	assert_int_equal(stun_get_xor_addr(&m, TURN_A_XOR_PEER_ADDRESS, &e), 0);
	assert_int_equal(e.port, 1234);
	assert_int_equal(stun_find(&m, TURN_A_DATA, &v), 0);
	assert_int_equal(v.n, 6);
	assert_memory_equal(v.p, "answer", 6);
	from_peer(r, "192.0.2.201:9000", "stranger");
	assert_int_equal(w.nmail, 0);

	/* Permissions die after 300 s and traffic does not keep them. */
	later(299);
	from_peer(r, PEER, "x");
	assert_int_equal(w.nmail, 1);
	later(1);
	from_peer(r, PEER, "x");
	assert_int_equal(w.nmail, 0);
	send_indication(&u, PEER, "x");
	assert_int_equal(w.nmail, 0);
	assert_int_equal(permit(&u, PEER), 0);
	from_peer(r, PEER, "x");
	assert_int_equal(w.nmail, 1);
}

static void channels(void **state)
{
	struct nb_endpoint relayed;
	struct user u = ready(&relayed);
	struct turn_relay *r;

	(void)state;
	assert_int_equal(bind_channel(&u, 0x3fff, PEER), 400);
	assert_int_equal(bind_channel(&u, 0x8000, PEER), 400);
	assert_int_equal(bind_channel(&u, 0x4000, PEER), 0);
	assert_int_equal(bind_channel(&u, 0x4000, PEER), 0);
	assert_int_equal(bind_channel(&u, 0x4001, PEER), 400);			/* peer has another number */
	assert_int_equal(bind_channel(&u, 0x4000, "192.0.2.200:9001"), 400);	/* number has another peer */
	assert_int_equal(bind_channel(&u, 0x7fff, "192.0.2.201:9001"), 0);
	world_send(&w, ALICE, nb_bytes("\x40\0\0\3abc", 7));
	assert_int_equal(w.nmail, 1);
	assert_true(w.mail[0].relayed);
	assert_memory_equal(w.mail[0].p, "abc", 3);
	r = w.mail[0].relay;
	world_send(&w, ALICE, nb_bytes("\x40\0\0\3abc\0", 8));		/* padded: stock does */
	assert_int_equal(w.mail[0].n, 3);
	world_send(&w, ALICE, nb_bytes("\x40\1\0\3abc", 7));		/* not bound */
	assert_int_equal(w.nmail, 0);
	world_send(&w, "198.51.100.9:1", nb_bytes("\x40\0\0\3abc", 7));	/* not his */
	assert_int_equal(w.nmail, 0);
	from_peer(r, PEER, "back");
	assert_int_equal(w.nmail, 1);
	assert_int_equal(w.mail[0].n, 8);
	assert_memory_equal(w.mail[0].p, "\x40\0\0\4back", 8);
	from_peer(r, "192.0.2.200:77", "other port");
	assert_int_equal(stun_is(nb_bytes(w.mail[0].p, w.mail[0].n)), true);

	/* 600 s of life; five more minutes until number and peer may part. */
	assert_int_equal(refresh(&u, 3600), 0);
	later(599);
	assert_int_equal(permit(&u, PEER), 0);
	from_peer(r, PEER, "x");
	assert_int_equal(w.mail[0].p[0], 0x40);
	later(1);
	from_peer(r, PEER, "x");
	assert_int_equal(w.mail[0].p[0], 0);
	world_send(&w, ALICE, nb_bytes("\x40\0\0\3abc", 7));
	assert_int_equal(w.nmail, 0);
	assert_int_equal(bind_channel(&u, 0x4005, PEER), 400);
	later(300);
	assert_int_equal(bind_channel(&u, 0x4005, PEER), 0);
	assert_int_equal(bind_channel(&u, 0x4000, "192.0.2.203:1"), 0);
}

static void many_peers(void **state)
{
	struct nb_endpoint relayed;
	struct user u = ready(&relayed);
	char peer[32];

	(void)state;
	for (int i = 0; i < TURN_PEERS_MAX; i++) {
		snprintf(peer, sizeof peer, "8.8.%d.%d:53", i >> 8, i & 255);
		assert_int_equal(bind_channel(&u, 0x4000u + (unsigned)i, peer), 0);
	}
	assert_int_equal(bind_channel(&u, 0x5000, "9.9.9.9:53"), 508);
	assert_int_equal(permit(&u, "9.9.9.9:53"), 508);
	for (int i = 0; i < TURN_PEERS_MAX; i++) {
		uint8_t d[5] = { (uint8_t)(0x40 + (i >> 8)), (uint8_t)i, 0, 1, 'x' };

		world_send(&w, ALICE, nb_bytes(d, sizeof d));
		assert_int_equal(w.nmail, 1);
		assert_int_equal(w.mail[0].to.addr.ip[2], i >> 8);
		assert_int_equal(w.mail[0].to.addr.ip[3], i & 255);
	}
}

static void ipv6(void **state)
{
	struct user u = user("alice", "wonder", "[2001:db8::77]:4000");
	struct nb_endpoint relayed;
	struct stun_msg m;

	(void)state;
	login(&u);
	assert_int_equal(allocate_with(&u, TURN_A_REQUESTED_ADDRESS_FAMILY, nb_bytes("\2\0\0\0", 4), &relayed), 0);
	assert_int_equal(relayed.addr.family, 6);
	assert_int_equal(permit(&u, PEER), 443);
	assert_int_equal(permit(&u, "[2001:db8::99]:5"), 0);
	send_indication(&u, "[2001:db8::99]:5", "six");
	assert_int_equal(w.nmail, 1);
	from_peer(w.mail[0].relay, "[2001:db8::99]:5", "xis");
	world_answer(&w, u.from, &m);
	assert_int_equal(m.method, TURN_DATA);
}

static void both_families(void **state)
{
	struct user u = user("alice", "wonder", ALICE);
	struct nb_endpoint e;
	struct stun_msg m;

	(void)state;
	login(&u);
	assert_int_equal(allocate_with(&u, TURN_A_ADDITIONAL_ADDRESS_FAMILY, nb_bytes("\2\0\0\0", 4), &e), 0);
	assert_int_equal(w.opened, 2);
	assert_int_equal(permit(&u, PEER), 0);
	assert_int_equal(permit(&u, "[2001:db8::99]:5"), 0);
	req(&u, TURN_REFRESH);
	stun_put_u32(&u.e, TURN_A_REQUESTED_ADDRESS_FAMILY, 2u << 24);
	stun_put_u32(&u.e, TURN_A_LIFETIME, 0);
	sign(&u);
	assert_int_equal(answer(&u, &m), 0);
	assert_int_equal(w.closed, 1);
	assert_int_equal(permit(&u, "[2001:db8::99]:5"), 443);
	assert_int_equal(permit(&u, PEER), 0);
	assert_int_equal(refresh(&u, 0), 0);
	assert_int_equal(w.closed, 2);
}

static void even_port_and_reservation(void **state)
{
	struct user u = user("alice", "wonder", ALICE), v;
	struct nb_endpoint first, second;
	struct nb_bytes token;
	struct stun_msg m;
	uint8_t copy[8];

	(void)state;
	login(&u);
	assert_int_equal(allocate_with(&u, TURN_A_EVEN_PORT, nb_bytes("\x80", 1), &first), 0);
	assert_int_equal(first.port % 2, 0);
	world_answer(&w, ALICE, &m);
	assert_int_equal(stun_find(&m, TURN_A_RESERVATION_TOKEN, &token), 0);
	assert_int_equal(token.n, 8);
	memcpy(copy, token.p, 8);
	v = u;
	v.from = "198.51.100.7:4001";
	assert_int_equal(allocate_with(&v, TURN_A_RESERVATION_TOKEN, nb_bytes(copy, 8), &second), 0);
	assert_int_equal(second.port, first.port + 1);
	v.from = "198.51.100.7:4002";
	assert_int_equal(allocate_with(&v, TURN_A_RESERVATION_TOKEN, nb_bytes(copy, 8), &second), 508);

	/* A reservation lives 30 s and is then free for others. */
	assert_int_equal(allocate_with(&v, TURN_A_EVEN_PORT, nb_bytes("\x80", 1), &first), 0);
	assert_int_equal(nb_time_diff(turn_server_deadline(w.server), w.now), 30 * NB_SEC);
	world_answer(&w, v.from, &m);
	assert_int_equal(stun_find(&m, TURN_A_RESERVATION_TOKEN, &token), 0);
	memcpy(copy, token.p, 8);
	later(30);
	v.from = "198.51.100.7:4003";
	assert_int_equal(allocate_with(&v, TURN_A_RESERVATION_TOKEN, nb_bytes(copy, 8), &second), 508);
}

static void reservations_are_capped(void **state)
{
	struct turn_server_config c = world_config(&w);
	struct user u = user("alice", "wonder", ALICE);
	struct nb_endpoint e;
	char from[32];

	(void)state;
	world_stop(&w);
	c.port_max = 51000;
	c.max_per_user = 1000;
	world_start(&w, &c);
	login(&u);
	u.from = from;
	for (int i = 0; i <= TURN_RESERVES_MAX; i++) {
		snprintf(from, sizeof from, "198.51.100.7:%d", 5000 + i);
		assert_int_equal(allocate_with(&u, TURN_A_EVEN_PORT, nb_bytes("\x80", 1), &e),
				 i < TURN_RESERVES_MAX ? 0 : 508);
	}
	assert_int_equal(w.opened - w.closed, TURN_RESERVES_MAX);
	assert_int_equal(allocate(&u, &e), 0);
}

/* The second family is asked for but not offered: the first alone, and the reason. */
static void second_family_missing(void **state)
{
	struct turn_server_config c = world_config(&w);
	struct user u = user("alice", "wonder", ALICE);
	struct nb_endpoint e;
	struct stun_msg m;
	uint32_t code;

	(void)state;
	world_stop(&w);
	c.relay6.family = 0;
	world_start(&w, &c);
	login(&u);
	assert_int_equal(allocate_with(&u, TURN_A_ADDITIONAL_ADDRESS_FAMILY, nb_bytes("\2\0\0\0", 4), &e), 0);
	world_answer(&w, ALICE, &m);
	assert_int_equal(stun_get_u32(&m, TURN_A_ADDRESS_ERROR_CODE, &code), 0);
	assert_int_equal(code, 0x02000508);
	req(&u, TURN_REFRESH);
	stun_put_u32(&u.e, TURN_A_REQUESTED_ADDRESS_FAMILY, 2u << 24);
	sign(&u);
	assert_int_equal(answer(&u, &m), 443);
	req(&u, TURN_REFRESH);
	stun_put_u32(&u.e, TURN_A_REQUESTED_ADDRESS_FAMILY, 3u << 24);
	sign(&u);
	assert_int_equal(answer(&u, &m), 440);
}

static void malformed_peers(void **state)
{
	struct nb_endpoint e;
	struct user u = ready(&e);
	struct stun_msg m;

	(void)state;
	req(&u, TURN_CREATE_PERMISSION);
	stun_put(&u.e, TURN_A_XOR_PEER_ADDRESS, nb_bytes("\0\1\0", 3));
	sign(&u);
	assert_int_equal(answer(&u, &m), 400);
	for (int i = 0; i < 2; i++) {
		req(&u, TURN_CHANNEL_BIND);
		if (i)
			stun_put_u32(&u.e, TURN_A_CHANNEL_NUMBER, 0x4000u << 16);
		else
			stun_put_xor_addr(&u.e, TURN_A_XOR_PEER_ADDRESS, &e);
		sign(&u);
		assert_int_equal(answer(&u, &m), 400);
	}
	/* A Send indication without an address, and one with a mandatory attribute we do not know. */
	assert_int_equal(permit(&u, PEER), 0);
	for (int i = 0; i < 2; i++) {
		e = world_endpoint(PEER);
		nb_buf_fixed(&u.b, u.mem, sizeof u.mem);
		u.e = stun_begin(&u.b, STUN_INDICATION, TURN_SEND, u.txid);
		stun_put_str(&u.e, TURN_A_DATA, "x");
		if (i) {
			stun_put_xor_addr(&u.e, TURN_A_XOR_PEER_ADDRESS, &e);
			stun_put_flag(&u.e, TURN_A_DONT_FRAGMENT);
		}
		world_send(&w, ALICE, nb_buf_view(&u.b));
		assert_int_equal(w.nmail, 0);
	}
}

static void ports_run_out(void **state)
{
	struct turn_server_config c = world_config(&w);
	struct user u = user("alice", "wonder", ALICE);
	struct nb_endpoint e;
	char from[32];

	(void)state;
	world_stop(&w);
	c.port_max = 50003;
	world_start(&w, &c);
	w.busy_port = 50002;	/* held by another program */
	login(&u);
	u.from = from;
	for (int i = 0; i < 3; i++) {
		snprintf(from, sizeof from, "198.51.100.7:%d", 5000 + i);
		assert_int_equal(allocate(&u, &e), 0);
		assert_int_not_equal(e.port, 50002);
	}
	snprintf(from, sizeof from, "198.51.100.7:6000");
	assert_int_equal(allocate(&u, &e), 508);
	snprintf(from, sizeof from, "198.51.100.7:5001");
	assert_int_equal(refresh(&u, 0), 0);
	snprintf(from, sizeof from, "198.51.100.7:6000");
	assert_int_equal(allocate(&u, &e), 0);
}

static void quotas(void **state)
{
	struct turn_server_config c = world_config(&w);
	struct user u = user("alice", "wonder", ALICE), b = user("bob", "builder", ALICE);
	struct nb_endpoint e;
	char from[32] = ALICE;

	(void)state;
	world_stop(&w);
	c.max_per_user = 2;
	c.max_allocations = 4;
	world_start(&w, &c);
	login(&u);
	memcpy(b.nonce, u.nonce, sizeof u.nonce);
	u.from = b.from = from;
	for (int i = 0; i < 6; i++) {
		snprintf(from, sizeof from, "198.51.100.7:%d", 5000 + i);
		assert_int_equal(allocate(i < 3 ? &u : &b, &e), i == 2 || i == 5 ? 486 : 0);
	}
	/* Another address has its own share; the whole server is full now. */
	u = user("alice", "wonder", "198.51.100.8:1");
	login(&u);
	assert_int_equal(allocate(&u, &e), 508);
	later(600);
	assert_int_equal(allocate(&u, &e), 0);
}

static void ten_thousand(void **state)
{
	struct turn_server_config c = world_config(&w);
	struct user u = user("alice", "wonder", ALICE);
	struct nb_endpoint e;
	char from[32];

	(void)state;
	world_stop(&w);
	c.max_per_user = 20000;
	c.port_max = 65535;
	world_start(&w, &c);
	login(&u);
	u.from = from;
	for (int i = 0; i <= 10000; i++) {
		snprintf(from, sizeof from, "198.51.100.7:%d", 5000 + i);
		assert_int_equal(allocate(&u, &e), i < 10000 ? 0 : 508);
	}
	assert_int_equal(allocations(), 10000);
	for (int i = 0; i < 10000; i += 7) {
		snprintf(from, sizeof from, "198.51.100.7:%d", 5000 + i);
		assert_int_equal(bind_channel(&u, 0x4000, PEER), 0);
		world_send(&w, from, nb_bytes("\x40\0\0\1x", 5));
		assert_int_equal(w.nmail, 1);
	}
	later(600);
	assert_int_equal(allocations(), 0);
	assert_int_equal(w.closed, 10000);
}

static void unauthenticated_answers_are_limited(void **state)
{
	struct user u = user("alice", "wonder", ALICE);
	struct turn_server_stats s;
	unsigned answered = 0;
	char from[32];

	(void)state;
	req(&u, TURN_ALLOCATE);
	put_transport(&u);
	for (int i = 0; i < 1000; i++) {
		snprintf(from, sizeof from, "198.51.100.%d:%d", i & 255, 1000 + i);
		world_send(&w, from, nb_buf_view(&u.b));
		answered += w.nmail;
	}
	assert_int_equal(answered, 200);
	turn_server_stats(w.server, &s);
	assert_int_equal(s.challenges_held, 800);
	world_send(&w, "198.51.101.1:1", nb_buf_view(&u.b));	/* another network */
	assert_int_equal(w.nmail, 1);
	later(1);
	answered = 0;
	for (int i = 0; i < 100; i++) {
		world_send(&w, ALICE, nb_buf_view(&u.b));
		answered += w.nmail;
	}
	assert_int_equal(answered, 50);
}

static void other_random(void *ctx, void *out, size_t n)
{
	world_random(ctx, out, n);
	for (size_t i = 0; i < n; i++)
		((uint8_t *)out)[i] ^= 0x5a;
}

/* A restarted server knows neither nonce nor allocation, and says so at once, also to a thousand clients behind one
 * address. */
static void restarted_server(void **state)
{
	static struct user crowd[1000];
	static char from[1000][32];
	struct turn_server_config c = world_config(&w);
	struct nb_endpoint e;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		snprintf(from[i], sizeof from[i], "198.51.100.7:%d", 2000 + i);
		crowd[i] = user("alice", "wonder", from[i]);
		if (i == 0)
			login(&crowd[0]);
		memcpy(crowd[i].nonce, crowd[0].nonce, sizeof crowd[i].nonce);
	}
	assert_int_equal(allocate(&crowd[0], &e), 0);
	world_stop(&w);
	c.max_per_user = 2000;
	c.port_max = 60000;
	c.random = other_random;
	world_start(&w, &c);
	for (int i = 0; i < 1000; i++) {
		struct stun_msg m;

		req(&crowd[i], TURN_REFRESH);
		sign(&crowd[i]);
		assert_int_equal(answer(&crowd[i], &m), 438);
		assert_true(w.mail[0].n <= crowd[i].b.n);
		keep_nonce(&crowd[i], &m);
		assert_int_equal(refresh(&crowd[i], -1), 437);
		assert_int_equal(allocate(&crowd[i], &e), 0);
	}
}

static void wrong_fingerprint(void **state)
{
	struct user u = user("alice", "wonder", ALICE);
	struct turn_server_stats s;

	(void)state;
	req(&u, STUN_BINDING);
	stun_put_fingerprint(&u.e);
	world_send(&w, ALICE, nb_buf_view(&u.b));
	assert_int_equal(w.nmail, 1);
	u.mem[u.b.n - 1] ^= 1;
	world_send(&w, ALICE, nb_buf_view(&u.b));
	assert_int_equal(w.nmail, 0);
	turn_server_stats(w.server, &s);
	assert_int_equal(s.malformed, 1);
}

/* The bytes that came out for one request sent `times` times from one address. */
static size_t echoed(struct user *u, unsigned times)
{
	size_t n = 0;

	for (unsigned i = 0; i < times; i++) {
		world_send(&w, u->from, nb_buf_view(&u->b));
		for (size_t k = 0; k < w.nmail; k++)
			n += w.mail[k].n;
	}
	return n;
}

/* Every kind of request that anybody can forge: what one gets, and that a flood gets less out than it puts in. */
static void amplification(void **state)
{
	static const struct {
		const char *name;
		unsigned method;
		uint16_t type;		/* one more attribute of len bytes */
		size_t len;
		bool mac;		/* with a wrong MESSAGE-INTEGRITY, user, realm and nonce */
		double most;		/* answer to one request, times its length */
	} rows[] = {
		{ "Binding", STUN_BINDING, 0, 0, false, 2.0 },
		{ "Binding, unknown attribute", STUN_BINDING, 0x7777, 0, false, 1.9 },
		{ "Binding, SOFTWARE of 700 bytes", STUN_BINDING, STUN_A_SOFTWARE, 700, false, 0.06 },
		{ "Allocate", TURN_ALLOCATE, TURN_A_REQUESTED_TRANSPORT, 4, false, 2.4 },
		{ "Refresh", TURN_REFRESH, 0, 0, false, 3.2 },
		{ "CreatePermission", TURN_CREATE_PERMISSION, 0, 0, false, 3.2 },
		{ "ChannelBind", TURN_CHANNEL_BIND, 0, 0, false, 3.2 },
		{ "Allocate, wrong key", TURN_ALLOCATE, TURN_A_REQUESTED_TRANSPORT, 4, true, 0.9 },
		{ "Allocate, long nonce", TURN_ALLOCATE, STUN_A_NONCE, 700, false, 0.1 },
		{ "Send indication", TURN_SEND, 0, 0, false, 0 },
		{ "unknown method", 0x7ff, 0, 0, false, 0 },
	};
	static const uint8_t zeros[700];
	struct user u = user("alice", "blunder", ALICE);

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		size_t one, many;

		teardown(NULL);
		setup(NULL);
		req(&u, rows[i].method);
		if (rows[i].type)
			stun_put(&u.e, rows[i].type, nb_bytes(zeros, rows[i].len));
		if (rows[i].type == TURN_A_REQUESTED_TRANSPORT)
			u.mem[u.b.n - 4] = 17;
		if (rows[i].mac)
			sign(&u);
		one = echoed(&u, 1);
		many = echoed(&u, 10000);
		printf("%-32s %4zu bytes in, %3zu out: %.2f; 10000 at once: %.3f\n", rows[i].name, u.b.n, one,
		       (double)one / (double)u.b.n, (double)many / (double)(10000 * u.b.n));
		assert_true((double)one <= rows[i].most * (double)u.b.n + 0.5);
		assert_true(many < 10000 * u.b.n / 2);
	}
}

static void long_realm_counts_more(void **state)
{
	struct turn_server_config c = world_config(&w);
	char realm[256];
	struct user u = user("alice", "wonder", ALICE);
	unsigned n = 0;

	(void)state;
	world_stop(&w);
	memset(realm, 'r', 255);
	realm[255] = 0;
	c.realm = realm;
	world_start(&w, &c);
	req(&u, TURN_ALLOCATE);
	put_transport(&u);
	for (int i = 0; i < 1000; i++) {
		world_send(&w, ALICE, nb_buf_view(&u.b));
		n += w.nmail;
	}
	assert_int_equal(n, 50);	/* 320 bytes each, four times as long as with a short realm */
	/* Over a connection nobody is anybody else. */
	for (int i = 0; i < 1000; i++) {
		struct turn_flow f = world_flow(ALICE);

		f.conn = 1;
		w.nmail = 0;
		turn_server_input(w.server, &f, nb_buf_view(&u.b), w.now, w.wall);
		assert_int_equal(w.nmail, 1);
	}
}

/* Who has bandwidth left, and who does not: per user each way, and all together. */
static void bandwidth(void **state)
{
	struct turn_server_config c = world_config(&w);
	struct user u, b = user("bob", "builder", ALICE);
	struct nb_bucket total = { 0 };
	struct turn_server_stats s;
	char data[1001], from[] = "198.51.100.7:4001";
	unsigned out = 0, in = 0;
	struct nb_endpoint e;

	(void)state;
	world_stop(&w);
	memset(data, 'x', 1000);
	data[1000] = 0;
	c.user_rate = nb_rate(1000000);
	c.total_rate = nb_rate(1600000);
	c.total = &total;
	world_start(&w, &c);
	u = ready(&e);
	assert_int_equal(permit(&u, PEER), 0);
	for (int i = 0; i < 400; i++) {
		from_peer(turn_relay_at(w.server, 4, e.port), PEER, data);
		in += w.nmail;
	}
	assert_int_equal(in, 250);	/* a quarter of a second's worth */
	for (int i = 0; i < 400; i++) {
		send_indication(&u, PEER, data);
		out += w.nmail;
	}
	assert_int_equal(out, 150);	/* the other way has as much, but all together are at their limit */
	turn_server_stats(w.server, &s);
	assert_int_equal(s.over_user_rate, 150);
	assert_int_equal(s.over_total_rate, 250);
	assert_int_equal(s.to_clients_bytes, 250000);
	assert_int_equal(s.to_peers_bytes, 150000);
	/* Time brings it back; another user has its own share. */
	b.from = from;
	login(&b);
	assert_int_equal(allocate(&b, &e), 0);
	assert_int_equal(permit(&b, PEER), 0);
	w.now = nb_time_add(w.now, 100 * NB_MS);
	for (out = 0; ; out++) {
		send_indication(&b, PEER, data);
		if (!w.nmail)
			break;
	}
	assert_int_equal(out, 160);
}

static void garbage_is_dropped(void **state)
{
	static const char *const rows[] = { "", "\1", "GET / HTTP/1.1\r\n\r\n", "\x40", "\x40\0\xff\xffx", "\x80\x80" };
	struct nb_endpoint e;
	struct user u = ready(&e);

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		world_send(&w, ALICE, nb_bytes(rows[i], i == 4 ? 5 : strlen(rows[i])));
		assert_int_equal(w.nmail, 0);
	}
	/* A success response, an unknown method, a Data indication. */
	req(&u, 0x123);
	world_send(&w, ALICE, nb_buf_view(&u.b));
	assert_int_equal(w.nmail, 0);
	nb_buf_reset(&u.b);
	stun_begin(&u.b, STUN_SUCCESS, STUN_BINDING, u.txid);
	world_send(&w, ALICE, nb_buf_view(&u.b));
	assert_int_equal(w.nmail, 0);
	nb_buf_reset(&u.b);
	stun_begin(&u.b, STUN_INDICATION, STUN_BINDING, u.txid);
	world_send(&w, ALICE, nb_buf_view(&u.b));
	assert_int_equal(w.nmail, 0);
}

/* ---- Peer policy ---- */

struct verdict {
	const char *addr;
	bool allowed;
};

static void check_verdicts(const struct verdict *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct nb_addr a;

		assert_int_equal(nb_addr_parse(&a, rows[i].addr), 0);
		if (turn_server_peer_allowed(w.server, &a) != rows[i].allowed)
			fail_msg("%s should be %s", rows[i].addr, rows[i].allowed ? "allowed" : "refused");
	}
}

static void restart_with(const char *relay4, const char *relay6, const char *allow)
{
	struct turn_server_config c = world_config(&w);
	struct nb_prefix prefix;
	struct nb_addr own[2];

	world_stop(&w);
	assert_int_equal(nb_addr_parse(&c.relay4, relay4), 0);
	assert_int_equal(nb_addr_parse(&c.relay6, relay6), 0);
	assert_int_equal(nb_addr_parse(&own[0], "9.9.9.1"), 0);
	assert_int_equal(nb_addr_parse(&own[1], "10.7.7.7"), 0);
	c.own = own;
	c.nown = 2;
	if (allow) {
		assert_int_equal(nb_prefix_parse(&prefix, allow), 0);
		c.allow = &prefix;
		c.nallow = 1;
	}
	world_start(&w, &c);
}

static void policy_public(void **state)
{
	static const struct verdict rows[] = {
		{ "8.8.8.8", true }, { "2606:4700::1", true }, { "9.9.9.1", true /* own: relay ports */ },
		{ "127.0.0.1", false }, { "127.255.0.9", false }, { "0.0.0.0", false }, { "0.1.2.3", false },
		{ "169.254.169.254", false }, { "224.0.0.1", false }, { "239.1.1.1", false },
		{ "240.0.0.1", false }, { "255.255.255.255", false }, { "192.0.0.1", false },
		{ "10.0.0.1", false }, { "10.7.7.7", true /* own */ }, { "172.16.0.1", false },
		{ "172.15.255.255", true }, { "172.31.255.255", false }, { "172.32.0.1", true },
		{ "9.255.255.255", true }, { "11.0.0.0", true }, { "100.63.255.255", true },
		{ "192.167.255.255", true }, { "192.169.0.0", true }, { "198.17.255.255", true },
		{ "198.19.255.255", false }, { "198.20.0.0", true }, { "169.253.255.255", true },
		{ "169.255.0.0", true }, { "223.255.255.255", true }, { "128.0.0.0", true },
		{ "126.255.255.255", true },
		{ "fe7f::1", true }, { "febf::1", false },
		{ "fbff::1", true }, { "2001:1::1", true }, { "192.168.1.1", false }, { "100.64.0.1", false },
		{ "100.128.0.1", true }, { "198.18.0.1", false }, { "203.0.113.5", false },
		{ "::", false }, { "::1", false }, { "fe80::1", false }, { "ff02::1", false }, { "fec0::1", false },
		{ "fd00::1", false }, { "2001:db8::5", false }, { "2001::1", false }, { "100::1", false },
		{ "::ffff:127.0.0.1", false }, { "::ffff:10.0.0.1", false }, { "::ffff:8.8.8.8", true },
		{ "64:ff9b::7f00:1", false }, { "64:ff9b::808:808", true }, { "64:ff9b:1::a00:1", false },
		{ "64:ff9b:1:808::", false }, { "3fff::1", false }, { "3fff:1000::1", true },
		{ "2002:7f00:1::1", false }, { "2002:0a00:1::1", false }, { "2002:808:808::1", true },
		{ "::7f00:1", false },
	};

	(void)state;
	restart_with("5.5.5.5", "2a00::5", NULL);
	check_verdicts(rows, sizeof rows / sizeof *rows);
}

static void policy_private_relay(void **state)
{
	static const struct verdict rows[] = {
		{ "10.0.0.1", true }, { "192.168.1.1", true }, { "203.0.113.5", true },
		{ "::ffff:10.0.0.1", true }, { "fd00::1", false /* our IPv6 address is public */ },
		{ "127.0.0.1", false }, { "169.254.1.1", false }, { "fe80::1", false }, { "::1", false },
	};

	(void)state;
	restart_with("192.168.1.2", "2a00::5", NULL);
	check_verdicts(rows, sizeof rows / sizeof *rows);
}

static void policy_allow_list(void **state)
{
	static const struct verdict rows[] = {
		{ "127.0.0.5", true }, { "127.0.1.1", false }, { "10.0.0.1", false }, { "::ffff:127.0.0.9", true },
	};

	(void)state;
	restart_with("5.5.5.5", "2a00::5", "127.0.0.0/24");
	check_verdicts(rows, sizeof rows / sizeof *rows);
}

static void refused_peers(void **state)
{
	struct nb_endpoint e, good = world_endpoint(PEER), bad = world_endpoint("127.0.0.1:9");
	struct user u = ready(&e);
	struct stun_msg m;

	(void)state;
	assert_int_equal(permit(&u, "127.0.0.1:22"), 403);
	assert_int_equal(bind_channel(&u, 0x4000, "169.254.169.254:80"), 403);
	/* One bad address spoils the request. */
	req(&u, TURN_CREATE_PERMISSION);
	stun_put_xor_addr(&u.e, TURN_A_XOR_PEER_ADDRESS, &good);
	stun_put_xor_addr(&u.e, TURN_A_XOR_PEER_ADDRESS, &bad);
	sign(&u);
	assert_int_equal(answer(&u, &m), 403);
	send_indication(&u, PEER, "x");
	assert_int_equal(w.nmail, 0);
	req(&u, TURN_CREATE_PERMISSION);
	sign(&u);
	assert_int_equal(answer(&u, &m), 400);
	/* The server's own address: relay ports only. */
	assert_int_equal(bind_channel(&u, 0x4000, "192.0.2.1:22"), 403);
	assert_int_equal(permit(&u, "192.0.2.1:22"), 0);
	send_indication(&u, "192.0.2.1:22", "x");
	assert_int_equal(w.nmail, 0);
}

static void two_clients_on_one_relay(void **state)
{
	struct nb_endpoint ra, rb, from;
	struct user a = ready(&ra), b = user("bob", "builder", "198.51.100.9:4000");
	char ta[NB_ADDR_TEXT], tb[NB_ADDR_TEXT];
	struct stun_msg m;

	(void)state;
	login(&b);
	assert_int_equal(allocate(&b, &rb), 0);
	nb_endpoint_format(ta, &ra);
	nb_endpoint_format(tb, &rb);
	assert_int_equal(permit(&a, tb), 0);
	send_indication(&a, tb, "hi");
	assert_int_equal(w.nmail, 0);		/* b has not permitted a */
	assert_int_equal(permit(&b, ta), 0);
	send_indication(&a, tb, "hi");
	world_answer(&w, b.from, &m);
	assert_int_equal(stun_get_xor_addr(&m, TURN_A_XOR_PEER_ADDRESS, &from), 0);
	assert_true(nb_endpoint_eq(&from, &ra));
	/* To itself: no loop, one datagram. */
	assert_int_equal(permit(&a, ta), 0);
	send_indication(&a, ta, "me");
	assert_int_equal(w.nmail, 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(binding), T(stock_binding_vector), T(credentials), T(time_limited_credentials),
		T(suffix_in_user_name), T(allocation), T(allocation_ends_with_its_connection),
		T(bad_allocates), T(expiry_and_refresh),
		T(many_expire_in_order), T(stale_nonce), T(relaying), T(channels), T(many_peers), T(ipv6),
		T(both_families), T(even_port_and_reservation), T(reservations_are_capped),
		T(second_family_missing), T(malformed_peers), T(ports_run_out), T(quotas), T(ten_thousand),
		T(unauthenticated_answers_are_limited), T(amplification), T(restarted_server),
		T(wrong_fingerprint), T(long_realm_counts_more), T(bandwidth),
		T(garbage_is_dropped), T(policy_public),
		T(policy_private_relay), T(policy_allow_list), T(refused_peers), T(two_clients_on_one_relay),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
