/* client_conn_test.c - the peer connection message by message: the offer schedule, the session table
 * of spec/peer-connection.md 1.3, early candidates, order of signals, endpoints, TURN, the watcher. */
#include "client/conn.h"

#include "base/err.h"
#include "ice/stun.h"

#include <stdio.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SMALL "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define LARGE "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzw="
#define PEER_UFRAG "PeerPeerPeerPeer"
#define PEER_PWD "PeerPasswordPeerPasswordPeerPass"

static uint32_t rng;
static struct nb_time now;
static struct client_network net;
static struct ice_demux demux;
static struct client_conn *c;
static struct client_conn_event ev;
static uint8_t mem[ICE_DGRAM_MAX];
static struct nb_dgram out;
static unsigned via;
static const char *peer_relay;	/* what the peer says it is on; NULL: nothing */

static void random_bytes(void *ctx, void *to, size_t n)
{
	(void)ctx;
	for (size_t i = 0; i < n; i++) {
		rng = rng * 1664525u + 1013904223u;
		((uint8_t *)to)[i] = (uint8_t)(rng >> 24);
	}
}

static void begin(bool controller)
{
	struct client_conn_config cfg = { .net = &net, .demux = &demux, .random = random_bytes };
	uint8_t seed[16] = { 0 };

	rng = 3;
	now.ns = 500 * NB_SEC;
	memset(&net, 0, sizeof net);
	net.hosts[0] = nb_addr4(0xcb00710b);	/* 203.0.113.11 */
	net.nhosts = 1;
	net.port = 51820;
	net.version = "0.77.1";
	out = (struct nb_dgram){ .p = mem, .cap = sizeof mem };
	ice_demux_init(&demux, seed, 4);
	snprintf(cfg.self_key, sizeof cfg.self_key, "%s", controller ? LARGE : SMALL);
	snprintf(cfg.peer_key, sizeof cfg.peer_key, "%s", controller ? SMALL : LARGE);
	c = client_conn_new(&cfg, now);
	assert_non_null(c);
	assert_int_equal(client_conn_is_controller(c), controller);
}

static void end(void)
{
	client_conn_free(c);
	ice_demux_fini(&demux);
	peer_relay = NULL;
}

static void later(int64_t ms)
{
	now = nb_time_add_ms(now, ms);
}

/* The next event of this type; -1 type: any. Others are skipped. */
static bool next(int type)
{
	while (client_conn_event(c, &ev)) {
		if (type < 0 || (int)ev.type == type)
			return true;
	}
	return false;
}

/* The next signal message of that type. */
static bool next_signal(enum client_signal_type type)
{
	while (next(CLIENT_CONN_SEND)) {
		if (ev.signal.type == type)
			return true;
	}
	return false;
}

static void flush(void)
{
	while (client_conn_output(c, &out, &via, now))
		;
	while (next(-1))
		;
}

static struct client_signal_msg message(enum client_signal_type type, char session)
{
	struct client_signal_msg m = { .type = type, .ufrag = PEER_UFRAG, .pwd = PEER_PWD, .wg_port = 40000 };

	m.has_session = session != 0;
	memset(m.session, session, sizeof m.session);
	if (peer_relay) {
		snprintf(m.relay_url, sizeof m.relay_url, "%s", peer_relay);
		m.relay_ip = nb_addr4(0x0a000002);
	}
	return m;
}

static void receive(enum client_signal_type type, char session)
{
	struct client_signal_msg m = message(type, session);

	client_conn_signal(c, &m, now);
}

static void candidate(const char *line)
{
	struct client_signal_msg m = { .type = CLIENT_SIGNAL_CANDIDATE };

	snprintf(m.candidate, sizeof m.candidate, "%s", line);
	client_conn_signal(c, &m, now);
}

static unsigned agents(void)
{
	return (unsigned)demux.by_tag.count;
}

#define PEER_AT "203.0.113.22:51820"
#define PEER_LINE "1 1 udp 2130706431 203.0.113.22 51820 typ host ufrag " PEER_UFRAG

/* What the peer's agent sends: an answer to the request in out. */
static void answer(void)
{
	struct nb_endpoint mapped = { nb_addr4(0xcb00710b), 51820 };
	struct nb_dgram in;
	uint8_t b_mem[256];
	struct stun_msg m;
	struct stun_enc e;
	struct nb_buf b;

	assert_int_equal(stun_decode(&m, nb_bytes(out.p, out.n)), 0);
	nb_buf_fixed(&b, b_mem, sizeof b_mem);
	e = stun_begin(&b, STUN_SUCCESS, STUN_BINDING, stun_txid(&m));
	stun_put_xor_addr(&e, STUN_A_XOR_MAPPED_ADDRESS, &mapped);
	stun_put_integrity(&e, nb_bytes_str(PEER_PWD));
	assert_int_equal(stun_end(&e), 0);
	in = (struct nb_dgram){ .from = out.to, .p = b.p, .n = b.n };
	assert_ptr_equal(client_conn_find(&demux, nb_bytes(b.p, b.n)), c);
	assert_int_equal(client_conn_input(c, &in, via, now), 0);
}

/* A check of the peer's agent, with USE-CANDIDATE. */
static int nominate(const char *ufrag, const char *pwd)
{
	struct nb_dgram in = { 0 };
	uint8_t b_mem[256];
	char user[100];
	struct stun_enc e;
	struct nb_buf b;

	nb_buf_fixed(&b, b_mem, sizeof b_mem);
	e = stun_begin(&b, STUN_REQUEST, STUN_BINDING, (const uint8_t *)"aaaabbbbcccc");
	snprintf(user, sizeof user, "%s:%s", ufrag, PEER_UFRAG);
	stun_put_str(&e, STUN_A_USERNAME, user);
	stun_put_flag(&e, ICE_A_USE_CANDIDATE);
	stun_put_u64(&e, ICE_A_CONTROLLING, 1);
	stun_put_integrity(&e, nb_bytes_str(pwd));
	assert_int_equal(stun_end(&e), 0);
	assert_int_equal(nb_endpoint_parse(&in.from, PEER_AT), 0);
	in.p = b.p;
	in.n = b.n;
	return client_conn_input(c, &in, 0, now);
}

static struct client_signal_msg own;	/* our first OFFER */

/* Take the connection to "connected over 203.0.113.22". */
static void connect_peer(void)
{
	client_conn_open(c, now);
	assert_true(next_signal(CLIENT_SIGNAL_OFFER));
	own = ev.signal;
	candidate(PEER_LINE);
	receive(CLIENT_SIGNAL_OFFER, 'x');
	if (!client_conn_is_controller(c))
		assert_int_equal(nominate(own.ufrag, own.pwd), 0);
	for (int i = 0; i < 20; i++) {
		struct client_conn_status st;

		while (client_conn_output(c, &out, &via, now)) {
			if (out.n > 100)	/* a check, not an answer */
				answer();
		}
		client_conn_status(c, &st);
		if (st.connected)
			return;
		later(10);
	}
	fail();
}

/* ---- Offers ---- */

static void first_offer(void **state)
{
	struct client_conn_status st;

	(void)state;
	begin(true);
	assert_false(client_conn_is_open(c));
	assert_true(nb_time_is_never(client_conn_deadline(c)));
	client_conn_open(c, now);
	assert_true(client_conn_is_open(c));
	assert_true(next_signal(CLIENT_SIGNAL_OFFER));
	assert_int_equal(strlen(ev.signal.ufrag), 16);
	assert_int_equal(strlen(ev.signal.pwd), 32);
	assert_true(ev.signal.has_session);
	assert_int_equal(ev.signal.wg_port, 51820);
	assert_string_equal(ev.signal.version, "0.77.1");
	assert_string_equal(ev.signal.relay_url, "");
	client_conn_status(c, &st);
	assert_true(st.connecting && !st.connected);
	client_conn_close(c, now);
	client_conn_status(c, &st);
	assert_true(!st.connecting && !st.connected);
	flush();
	assert_true(nb_time_is_never(client_conn_deadline(c)));
	end();
}

/* 0, 3, 9, 21, 45 s and then every 30..45 s, ten percent more or less. */
static void offer_schedule(void **state)
{
	static const int64_t gaps[] = { 3000, 6000, 12000, 24000 };
	struct nb_time last;

	(void)state;
	begin(true);
	client_conn_open(c, now);
	assert_true(next_signal(CLIENT_SIGNAL_OFFER));
	flush();
	last = now;
	for (int i = 0; i < 12; i++) {
		int64_t gap, low = i < 4 ? gaps[i] * 9 / 10 : 27000, high = i < 4 ? gaps[i] * 11 / 10 : 49500;

		now = client_conn_deadline(c);
		while (client_conn_output(c, &out, &via, now))
			;
		assert_true(next_signal(CLIENT_SIGNAL_OFFER));
		gap = nb_time_diff(now, last) / NB_MS;
		assert_true(gap >= low - 1 && gap <= high + 1);
		last = now;
		flush();
	}
	client_conn_signal_ready(c, now);
	assert_true(nb_time_due(client_conn_deadline(c), now));	/* what was offered meanwhile is lost */
	while (client_conn_output(c, &out, &via, now))
		;
	assert_true(next_signal(CLIENT_SIGNAL_OFFER));
	end();
}

static void every_offer_is_answered(void **state)
{
	uint8_t id[CLIENT_SESSION_LEN];

	(void)state;
	begin(false);
	receive(CLIENT_SIGNAL_OFFER, 'x');	/* opens the connection, too */
	assert_true(client_conn_is_open(c));
	assert_true(next_signal(CLIENT_SIGNAL_ANSWER));
	memcpy(id, ev.signal.session, sizeof id);
	assert_int_equal(agents(), 1);
	flush();
	for (int i = 0; i < 3; i++) {
		receive(CLIENT_SIGNAL_OFFER, 'x');
		assert_true(next_signal(CLIENT_SIGNAL_ANSWER));
		assert_memory_equal(ev.signal.session, id, sizeof id);
		/* whoever offers again has missed the candidates */
		assert_true(next_signal(CLIENT_SIGNAL_CANDIDATE));
		flush();
	}
	receive(CLIENT_SIGNAL_ANSWER, 'x');
	assert_false(next_signal(CLIENT_SIGNAL_ANSWER));
	end();
}

/* ---- Sessions ---- */

static const struct {
	char first, second;	/* session of the two messages, 0: none */
	bool renewed;		/* a new agent and a new id of ours */
} sessions[] = {
	{ 'x', 'x', false },
	{ 'x', 0, false },
	{ 'x', 'y', true },
	{ 0, 0, false },
	{ 0, 'y', true },
};

static void session_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof sessions / sizeof *sessions; i++) {
		uint8_t id[CLIENT_SESSION_LEN];
		char ufrag[ICE_UFRAG_MAX + 1];

		begin(true);
		receive(CLIENT_SIGNAL_OFFER, sessions[i].first);
		assert_true(next_signal(CLIENT_SIGNAL_ANSWER));
		memcpy(id, ev.signal.session, sizeof id);
		memcpy(ufrag, ev.signal.ufrag, sizeof ufrag);
		flush();
		receive(CLIENT_SIGNAL_OFFER, sessions[i].second);
		do {
			assert_true(next(-1));
		} while (ev.type == CLIENT_CONN_GATHER);
		assert_int_equal(ev.type, CLIENT_CONN_SEND);	/* no path was there: nothing to reset */
		assert_int_equal(ev.signal.type, CLIENT_SIGNAL_ANSWER);
		assert_int_equal(memcmp(id, ev.signal.session, sizeof id) != 0, sessions[i].renewed);
		assert_string_equal(ev.signal.ufrag, ufrag);	/* an ICE restart keeps the credentials */
		assert_int_equal(agents(), 1);
		end();
	}
}

/* Our agent gives up after 12 s: a new id, the peer's is forgotten, its old id is welcome again. */
static void failed_session(void **state)
{
	uint8_t id[CLIENT_SESSION_LEN];

	(void)state;
	begin(true);
	receive(CLIENT_SIGNAL_OFFER, 'x');
	assert_true(next_signal(CLIENT_SIGNAL_ANSWER));
	memcpy(id, ev.signal.session, sizeof id);
	flush();
	later(12000);
	flush();
	assert_int_equal(agents(), 0);
	receive(CLIENT_SIGNAL_OFFER, 'x');
	assert_int_equal(agents(), 1);
	assert_true(next_signal(CLIENT_SIGNAL_ANSWER));
	assert_memory_not_equal(ev.signal.session, id, sizeof id);
	end();
}

static void peer_without_ice(void **state)
{
	struct client_signal_msg m = { .type = CLIENT_SIGNAL_OFFER };

	(void)state;
	begin(true);
	connect_peer();
	flush();
	client_conn_signal(c, &m, now);
	assert_int_equal(agents(), 0);
	assert_true(next(CLIENT_CONN_NO_ENDPOINT));
	assert_true(next_signal(CLIENT_SIGNAL_ANSWER));
	assert_string_equal(ev.signal.ufrag, "");
	assert_string_equal(ev.signal.pwd, "");
	assert_false(ev.signal.has_session);
	/* our own OFFER has them all the same: else two such sides would never begin */
	flush();
	client_conn_signal_ready(c, now);
	later(900);
	while (client_conn_output(c, &out, &via, now))
		;
	assert_true(next_signal(CLIENT_SIGNAL_OFFER));
	assert_true(ev.signal.has_session && ev.signal.ufrag[0]);
	receive(CLIENT_SIGNAL_OFFER, 'x');
	assert_int_equal(agents(), 1);
	assert_true(next_signal(CLIENT_SIGNAL_ANSWER));
	assert_true(ev.signal.has_session);
	end();
}

static void go_idle_means_nothing(void **state)
{
	struct client_signal_msg m = { .type = CLIENT_SIGNAL_GO_IDLE };

	(void)state;
	begin(true);
	client_conn_signal(c, &m, now);
	assert_false(client_conn_is_open(c));
	connect_peer();
	flush();
	client_conn_signal(c, &m, now);
	assert_true(client_conn_is_open(c));
	assert_false(next(-1));
	end();
}

/* ---- Candidates ---- */

static bool check_goes_to(const char *text)
{
	struct nb_endpoint e;

	assert_int_equal(nb_endpoint_parse(&e, text), 0);
	for (int i = 0; i < 20; i++) {
		while (client_conn_output(c, &out, &via, now)) {
			if (nb_endpoint_eq(&out.to, &e))
				return true;
		}
		later(10);
	}
	return false;
}

static void early_candidates(void **state)
{
	(void)state;
	begin(true);
	client_conn_open(c, now);
	candidate("garbage");
	candidate("1 1 udp 0 203.0.113.22 1000 typ host ufrag " PEER_UFRAG);
	later(9000);
	candidate("1 1 udp 0 203.0.113.22 1001 typ host ufrag SomebodyElse");
	candidate("1 1 udp 0 203.0.113.22 1002 typ host");
	later(1500);
	receive(CLIENT_SIGNAL_ANSWER, 'x');
	assert_true(check_goes_to("203.0.113.22:1002"));
	assert_false(check_goes_to("203.0.113.22:1000"));	/* 10.5 s old */
	assert_false(check_goes_to("203.0.113.22:1001"));	/* of another life */
	end();

	begin(true);
	client_conn_open(c, now);
	for (int i = 0; i < 40; i++) {	/* more than are kept: the newest count */
		char line[80];

		snprintf(line, sizeof line, "1 1 udp 0 203.0.113.22 %d typ host", 1000 + i);
		candidate(line);
	}
	receive(CLIENT_SIGNAL_ANSWER, 'x');
	assert_true(check_goes_to("203.0.113.22:1039"));
	assert_false(check_goes_to("203.0.113.22:1023"));
	end();
}

/* A candidate of the next session that comes before its OFFER is not lost with the old agent. */
static void overtaking_candidate(void **state)
{
	(void)state;
	begin(true);
	connect_peer();
	flush();
	candidate("1 1 udp 0 203.0.113.22 7777 typ host ufrag " PEER_UFRAG);
	receive(CLIENT_SIGNAL_OFFER, 'y');
	assert_true(check_goes_to("203.0.113.22:7777"));
	end();
}

static void descriptions_before_candidates(void **state)
{
	unsigned i = 0;

	(void)state;
	begin(true);
	net.hosts[1] = nb_addr4(0x0a000001);
	net.nhosts = 2;
	client_conn_open(c, now);
	receive(CLIENT_SIGNAL_OFFER, 'x');
	while (client_conn_event(c, &ev)) {
		static const enum client_signal_type order[] = { CLIENT_SIGNAL_OFFER, CLIENT_SIGNAL_ANSWER,
								 CLIENT_SIGNAL_CANDIDATE, CLIENT_SIGNAL_CANDIDATE };

		if (ev.type == CLIENT_CONN_SEND)
			assert_int_equal(ev.signal.type, order[i++]);
	}
	assert_int_equal(i, 4);
	end();
}

/* ---- Endpoints ---- */

static void controller_endpoint(void **state)
{
	char text[NB_ADDR_TEXT];

	(void)state;
	begin(true);
	connect_peer();
	assert_true(next(CLIENT_CONN_ENDPOINT));
	assert_true(ev.handshake);
	assert_int_equal(ev.path, CLIENT_PATH_DIRECT);
	assert_int_equal(ev.via, 0);
	nb_endpoint_format(text, &ev.remote);
	assert_string_equal(text, PEER_AT);
	end();
}

static void responder_waits(void **state)
{
	(void)state;
	for (int handshake = 0; handshake < 2; handshake++) {
		begin(false);
		connect_peer();
		later(1000);
		if (handshake)
			client_conn_handshake(c, now);
		flush();
		later(3900);
		while (client_conn_output(c, &out, &via, now))
			;
		assert_false(next(CLIENT_CONN_ENDPOINT));
		later(200);
		while (client_conn_output(c, &out, &via, now))
			;
		assert_true(next(CLIENT_CONN_ENDPOINT));
		assert_int_equal(ev.handshake, !handshake);
		end();
	}
}

static void punch(void **state)
{
	unsigned found = 0;

	(void)state;
	begin(true);
	connect_peer();
	flush();
	later(1100);
	while (client_conn_output(c, &out, &via, now)) {
		if (out.n != 2)
			continue;
		found++;
		assert_memory_equal(out.p, "nb", 2);
		assert_int_equal(out.to.port, 40000);	/* the peer's wgListenPort */
		assert_int_equal(via, 0);
	}
	assert_int_equal(found, 1);
	end();
}

/* Not through a relay: nobody's WireGuard listens there. */
static void no_punch_through_turn(void **state)
{
	struct client_conn_status st;

	(void)state;
	begin(true);
	net.relayed[0] = (struct nb_endpoint){ nb_addr4(0xc6336402), 50000 };
	net.nrelayed = 1;
	net.relay_only = true;
	net.accept_relay_ms = 1;
	connect_peer();
	client_conn_status(c, &st);
	assert_int_equal(st.path, CLIENT_PATH_TURN);
	assert_int_equal(st.local_type, ICE_RELAY);
	assert_true(next(CLIENT_CONN_ENDPOINT));
	assert_int_equal(ev.via, 1);
	flush();
	later(1100);
	while (client_conn_output(c, &out, &via, now))
		assert_int_not_equal(out.n, 2);
	end();
}

static void silence_ends_the_path(void **state)
{
	struct client_conn_status st;
	struct nb_time at;

	(void)state;
	begin(true);
	connect_peer();
	flush();
	at = now;
	client_conn_handshake(c, now);
	later(6000);
	while (client_conn_output(c, &out, &via, now))
		;
	assert_true(next(CLIENT_CONN_NO_ENDPOINT));
	client_conn_status(c, &st);
	assert_false(st.connected);
	assert_int_equal(nb_time_diff(st.changed, at), 6 * NB_SEC);
	assert_int_equal(agents(), 0);
	flush();
	assert_true(nb_time_diff(client_conn_deadline(c), now) <= 880 * NB_MS);	/* and we offer again soon */
	end();
}

static void timers_from_outside(void **state)
{
	(void)state;
	begin(true);
	net.disconnected_ms = 2500;
	connect_peer();
	flush();
	later(2400);
	flush();
	assert_int_equal(agents(), 1);
	later(200);
	flush();
	assert_int_equal(agents(), 0);
	end();
}

static void receive_as(enum client_signal_type type, char session, const char *ufrag)
{
	struct client_signal_msg m = message(type, session);

	snprintf(m.ufrag, sizeof m.ufrag, "%s", ufrag);
	client_conn_signal(c, &m, now);
}

/* The peer goes on elsewhere: keys and path stay, for some seconds, or as long as its new session takes. */
static void new_session_keeps_the_path(void **state)
{
	struct client_conn_status st;

	(void)state;
	for (int late = 0; late < 2; late++) {
		begin(true);
		connect_peer();
		flush();
		if (late)
			later(4000);	/* not heard for too long: it has lost us */
		receive(CLIENT_SIGNAL_OFFER, 'y');
		client_conn_status(c, &st);
		assert_int_equal(st.connected, !late);
		assert_int_equal(agents(), 1);
		assert_true(next_signal(CLIENT_SIGNAL_ANSWER));
		assert_false(next(CLIENT_CONN_RESET));
		later(6001);
		while (client_conn_output(c, &out, &via, now))
			;
		assert_int_equal(next(CLIENT_CONN_NO_ENDPOINT), !late);
		end();
	}
}

/* WireGuard hears the peer from elsewhere: what ICE has lost is not the tunnel. */
static void roamed_peer_is_kept(void **state)
{
	struct nb_endpoint there = { nb_addr4(0xcb007199), 51820 };
	struct client_conn_status st;

	(void)state;
	begin(true);
	connect_peer();
	flush();
	later(5000);
	client_conn_roamed(c, &there, now);
	later(1000);
	while (client_conn_output(c, &out, &via, now))
		;
	client_conn_status(c, &st);
	assert_true(st.connected);
	assert_int_equal(agents(), 0);
	later(880);
	while (client_conn_output(c, &out, &via, now))
		;
	assert_true(next_signal(CLIENT_SIGNAL_OFFER));
	end();
}

static void restarted_peer_resets(void **state)
{
	(void)state;
	for (int controller = 0; controller < 2; controller++) {
		begin(controller);
		connect_peer();
		flush();
		receive_as(CLIENT_SIGNAL_OFFER, 'y', "anothername");
		assert_int_equal(next(CLIENT_CONN_RESET), controller);
		end();
	}
	begin(true);
	connect_peer();
	flush();
	receive_as(CLIENT_SIGNAL_OFFER, 'y', "anothername");
	assert_true(next(CLIENT_CONN_RESET));
	assert_true(next(CLIENT_CONN_NO_ENDPOINT));
	assert_true(next_signal(CLIENT_SIGNAL_ANSWER));
	end();
}

static const struct {
	const char *before[2], *after[3];
	bool anew;
} changes[] = {
	{ { "203.0.113.11" }, { "203.0.113.11", "10.0.0.1" }, false },	/* one more */
	{ { "203.0.113.11", "10.0.0.1" }, { "203.0.113.11" }, true },	/* one less: it may have been in use */
	{ { "203.0.113.11" }, { "203.0.113.12" }, true },
	{ { "203.0.113.11" }, { "203.0.113.11" }, true },		/* the route, then */
	{ { "203.0.113.11", "2001:db8::1" }, { "203.0.113.11", "2001:db8::2" }, false },	/* IPv6, unused */
};

static void set_hosts(const char *const *text, size_t max)
{
	net.nhosts = 0;
	for (size_t i = 0; i < max && text[i]; i++)
		assert_int_equal(nb_addr_parse(&net.hosts[net.nhosts++], text[i]), 0);
}

static void address_changes(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		struct client_conn_status st;

		begin(true);
		set_hosts(changes[i].before, 2);
		connect_peer();
		flush();
		set_hosts(changes[i].after, 3);
		client_conn_network_changed(c, true, now);
		client_conn_status(c, &st);
		assert_true(st.connected);
		assert_int_equal(agents(), !changes[i].anew);
		if (changes[i].anew) {	/* and WireGuard shows the peer where we are */
			assert_true(next(CLIENT_CONN_ENDPOINT));
			assert_true(ev.handshake && ev.path == CLIENT_PATH_DIRECT && !ev.via);
		}
		assert_true(next_signal(changes[i].anew ? CLIENT_SIGNAL_OFFER : CLIENT_SIGNAL_CANDIDATE));
		end();
	}
	begin(true);	/* without a session: an OFFER at once */
	client_conn_open(c, now);
	flush();
	client_conn_network_changed(c, true, now);
	assert_true(next_signal(CLIENT_SIGNAL_OFFER));
	end();
}

/* ---- TURN ---- */

static void turn_candidates(void **state)
{
	struct client_signal_msg m = message(CLIENT_SIGNAL_OFFER, 'x');
	bool relay = false;

	(void)state;
	begin(true);
	net.relayed[1] = (struct nb_endpoint){ nb_addr4(0xc6336402), 50000 };
	net.nrelayed = 2;
	client_conn_signal(c, &m, now);
	candidate(PEER_LINE);
	candidate(PEER_LINE);
	assert_true(next(CLIENT_CONN_PERMIT));
	assert_int_equal(ev.remote.addr.ip[3], 22);
	while (next_signal(CLIENT_SIGNAL_CANDIDATE))
		relay |= strstr(ev.signal.candidate, "198.51.100.2 50000 typ relay raddr 0.0.0.0 rport 51820") != NULL;
	assert_true(relay);
	assert_false(next(CLIENT_CONN_PERMIT));		/* once per address */
	/* checks go over the allocation, too */
	for (relay = false; client_conn_output(c, &out, &via, now); later(10))
		relay |= via == 2;
	assert_true(relay);
	end();

	/* with NetBird's relay on both ends TURN is not touched */
	begin(true);
	net.relayed[0] = (struct nb_endpoint){ nb_addr4(0xc6336402), 50000 };
	net.nrelayed = 1;
	snprintf(net.relay_url, sizeof net.relay_url, "rel://a");
	snprintf(m.relay_url, sizeof m.relay_url, "rel://b");
	client_conn_signal(c, &m, now);
	candidate(PEER_LINE);
	while (next(-1)) {
		assert_int_not_equal(ev.type, CLIENT_CONN_PERMIT);
		assert_null(strstr(ev.signal.candidate, "relay"));
		if (ev.type == CLIENT_CONN_SEND && ev.signal.type == CLIENT_SIGNAL_ANSWER)
			assert_string_equal(ev.signal.relay_url, "rel://a");
	}
	end();
}

/* ---- Port mapping ---- */

#define MAPPED_PRIORITY "1694499815"	/* srflx + 1000 */

/* The next candidate signalled that is reflexive. */
static bool next_srflx(void)
{
	while (next_signal(CLIENT_SIGNAL_CANDIDATE)) {
		if (strstr(ev.signal.candidate, "typ srflx"))
			return true;
	}
	return false;
}

static void expect_srflx(const char *priority_and_address)
{
	char line[200];

	snprintf(line, sizeof line, " 1 udp %s typ srflx raddr 0.0.0.0 rport 51820 ufrag ", priority_and_address);
	assert_true(next_srflx());
	if (!strstr(ev.signal.candidate, line) || !strstr(ev.signal.candidate, " cid "))
		fail_msg("%s", ev.signal.candidate);
}

/* What a STUN server says about us. */
static void reflect(const struct nb_endpoint *mapped)
{
	struct nb_dgram in;
	uint8_t b_mem[256];
	struct stun_msg m;
	struct stun_enc e;
	struct nb_buf b;

	while (client_conn_output(c, &out, &via, now)) {
		if (!nb_endpoint_eq(&out.to, &net.stun[0]))
			continue;
		assert_int_equal(stun_decode(&m, nb_bytes(out.p, out.n)), 0);
		nb_buf_fixed(&b, b_mem, sizeof b_mem);
		e = stun_begin(&b, STUN_SUCCESS, STUN_BINDING, stun_txid(&m));
		stun_put_xor_addr(&e, STUN_A_XOR_MAPPED_ADDRESS, mapped);
		assert_int_equal(stun_end(&e), 0);
		in = (struct nb_dgram){ .from = out.to, .p = b.p, .n = b.n };
		assert_int_equal(client_conn_input(c, &in, 0, now), 0);
		return;
	}
	fail();
}

static void a_mapping_is_signalled(void **state)
{
	(void)state;
	begin(true);
	net.mapped = (struct nb_endpoint){ nb_addr4(0xc6336409), 40001 };
	receive(CLIENT_SIGNAL_OFFER, 'x');
	expect_srflx(MAPPED_PRIORITY " 198.51.100.9 40001");
	assert_false(next_srflx());
	client_conn_network_changed(c, false, now);
	assert_false(next_srflx());		/* once */
	/* another port */
	net.mapped.port = 40002;
	client_conn_network_changed(c, false, now);
	expect_srflx(MAPPED_PRIORITY " 198.51.100.9 40002");
	end();
}

static void a_late_mapping_is_signalled_to_a_connected_peer(void **state)
{
	struct client_conn_status st;

	(void)state;
	begin(true);
	connect_peer();
	flush();
	net.mapped = (struct nb_endpoint){ nb_addr4(0xc6336409), 40001 };
	client_conn_network_changed(c, false, now);
	expect_srflx(MAPPED_PRIORITY " 198.51.100.9 40001");
	client_conn_status(c, &st);
	assert_true(st.connected);
	/* Gone again: nothing can be taken back, nothing is said. */
	memset(&net.mapped, 0, sizeof net.mapped);
	client_conn_network_changed(c, false, now);
	assert_false(next(-1));
	end();
}

static void a_mapping_without_address_takes_that_of_stun(void **state)
{
	struct nb_endpoint seen = { nb_addr4(0xc6336409), 7777 };

	(void)state;
	begin(true);
	net.stun[0] = (struct nb_endpoint){ nb_addr4(0xcb007132), 3478 };
	net.nstun = 1;
	net.mapped = (struct nb_endpoint){ nb_addr4(0), 40001 };
	receive(CLIENT_SIGNAL_OFFER, 'x');
	assert_false(next_srflx());
	reflect(&seen);
	expect_srflx("1694498815 198.51.100.9 7777");
	expect_srflx(MAPPED_PRIORITY " 198.51.100.9 40001");
	assert_false(next_srflx());
	end();
}

/* Stock may not have taken the first ones in: they come once more, unless there is a path by then. */
static void candidates_behind_an_answer_are_repeated(void **state)
{
	(void)state;
	begin(true);
	receive(CLIENT_SIGNAL_OFFER, 'x');
	assert_true(next_signal(CLIENT_SIGNAL_CANDIDATE));
	flush();
	later(249);
	flush();
	assert_false(next_signal(CLIENT_SIGNAL_CANDIDATE));
	later(1);
	assert_int_equal(client_conn_output(c, &out, &via, now), 0);
	assert_true(next_signal(CLIENT_SIGNAL_CANDIDATE));
	assert_false(next_signal(CLIENT_SIGNAL_CANDIDATE));
	flush();
	later(1000);
	flush();
	assert_false(next(CLIENT_CONN_SEND));
	end();

	begin(true);
	connect_peer();
	flush();
	later(300);
	while (client_conn_output(c, &out, &via, now))
		;
	assert_false(next_signal(CLIENT_SIGNAL_CANDIDATE));
	end();
}

/* An allocation that comes late is signalled, and gets its permissions. */
static void late_allocation(void **state)
{
	(void)state;
	begin(true);
	receive(CLIENT_SIGNAL_OFFER, 'x');
	candidate(PEER_LINE);
	flush();
	client_conn_network_changed(c, false, now);
	assert_false(next(-1));			/* nothing new */
	net.relayed[0] = (struct nb_endpoint){ nb_addr4(0xc6336402), 50000 };
	net.nrelayed = 1;
	client_conn_network_changed(c, false, now);
	assert_true(next(CLIENT_CONN_PERMIT));
	assert_true(next_signal(CLIENT_SIGNAL_CANDIDATE));
	assert_non_null(strstr(ev.signal.candidate, "typ relay"));
	end();
}

/* ---- The handshake watcher ---- */

static void watcher(void **state)
{
	(void)state;
	begin(false);
	connect_peer();
	/* the ICE path stays alive all the time */
	for (int s = 0; s < 239; s++) {
		if (s == 10)
			client_conn_handshake(c, now);
		later(1000);
		assert_int_equal(nominate(own.ufrag, own.pwd), 0);
		while (client_conn_output(c, &out, &via, now)) {
			if (out.n > 100)
				answer();
		}
		if (next(CLIENT_CONN_NO_ENDPOINT)) {
			assert_true(s >= 218 && s <= 221);	/* 3.5 minutes after the handshake */
			end();
			return;
		}
	}
	fail();
}

/* ---- The relay ---- */

#define HOME "rel://home:80"
#define OTHER "rel://other:80"

static void begin_relay(bool controller)
{
	begin(controller);
	snprintf(net.relay_url, sizeof net.relay_url, HOME);
	net.relay_ip = nb_addr4(0x0a000001);
	net.relay_configured = true;
	peer_relay = OTHER;
}

/* Up to the channel that is open. */
static void open_channel(void)
{
	client_conn_open(c, now);
	receive(CLIENT_SIGNAL_OFFER, 'x');
	assert_true(next(CLIENT_CONN_RELAY_OPEN));
	client_conn_relay_up(c, 7, now);
}

static enum client_conn_path path(void)
{
	struct client_conn_status st;

	client_conn_status(c, &st);
	return st.path;
}

static void relay_of_the_controller(void **state)
{
	(void)state;
	begin_relay(true);
	client_conn_open(c, now);
	assert_true(next_signal(CLIENT_SIGNAL_OFFER));
	assert_string_equal(ev.signal.relay_url, HOME);
	assert_int_equal(ev.signal.relay_ip.family, 4);
	receive(CLIENT_SIGNAL_OFFER, 'x');
	assert_true(next(CLIENT_CONN_RELAY_OPEN));
	assert_string_equal(ev.relay_url, HOME);
	assert_int_equal(ev.remote.addr.family, 0);
	/* the same again is no news */
	receive(CLIENT_SIGNAL_ANSWER, 'x');
	assert_false(next(CLIENT_CONN_RELAY_OPEN));
	assert_int_equal(path(), CLIENT_PATH_NONE);
	client_conn_relay_up(c, 7, now);
	assert_true(next(CLIENT_CONN_ENDPOINT));
	assert_int_equal(ev.path, CLIENT_PATH_RELAY);
	assert_int_equal(ev.channel, 7);
	assert_true(ev.handshake);
	assert_int_equal(path(), CLIENT_PATH_RELAY);
	client_conn_close(c, now);
	assert_true(next(CLIENT_CONN_RELAY_CLOSE));
	assert_true(next(CLIENT_CONN_NO_ENDPOINT));
	end();
	/* the controlled side goes where the controller lives, and lets it begin */
	begin_relay(false);
	client_conn_open(c, now);
	receive(CLIENT_SIGNAL_OFFER, 'x');
	assert_true(next(CLIENT_CONN_RELAY_OPEN));
	assert_string_equal(ev.relay_url, OTHER);
	assert_int_equal(ev.remote.addr.family, 4);
	client_conn_relay_up(c, 7, now);
	assert_false(next(CLIENT_CONN_ENDPOINT));
	assert_int_equal(path(), CLIENT_PATH_RELAY);
	later(5000);
	while (client_conn_output(c, &out, &via, now))
		;
	assert_true(next(CLIENT_CONN_ENDPOINT));
	assert_int_equal(ev.path, CLIENT_PATH_RELAY);
	assert_true(ev.handshake);
	end();
}

/* No relay on one side: none is asked for. */
static void relay_needs_both(void **state)
{
	(void)state;
	begin_relay(true);
	peer_relay = "";
	client_conn_open(c, now);
	receive(CLIENT_SIGNAL_OFFER, 'x');
	assert_false(next(CLIENT_CONN_RELAY_OPEN));
	end();
	begin_relay(true);
	net.relay_url[0] = 0;
	client_conn_open(c, now);
	receive(CLIENT_SIGNAL_OFFER, 'x');
	assert_false(next(CLIENT_CONN_RELAY_OPEN));
	/* our home is there at last: the channel is opened, the peer told */
	snprintf(net.relay_url, sizeof net.relay_url, HOME);
	client_conn_relay_ready(c, now);
	assert_true(next(CLIENT_CONN_RELAY_OPEN));
	assert_true(next_signal(CLIENT_SIGNAL_OFFER));
	assert_string_equal(ev.signal.relay_url, HOME);
	end();
}

static unsigned resets, none, relays, directs;

/* Count what WireGuard is told until nothing more comes. */
static void count(void)
{
	resets = none = relays = directs = 0;
	while (client_conn_event(c, &ev)) {
		resets += ev.type == CLIENT_CONN_RESET;
		none += ev.type == CLIENT_CONN_NO_ENDPOINT;
		relays += ev.type == CLIENT_CONN_ENDPOINT && ev.path == CLIENT_PATH_RELAY;
		directs += ev.type == CLIENT_CONN_ENDPOINT && ev.path == CLIENT_PATH_DIRECT;
		if (ev.type == CLIENT_CONN_ENDPOINT && ev.path == CLIENT_PATH_DIRECT)
			assert_false(ev.handshake);	/* there is a session */
	}
}

/* Let ICE find its pair; the answers of the peer come at once. */
static void let_ice_connect(void)
{
	candidate(PEER_LINE);
	if (!client_conn_is_controller(c))
		assert_int_equal(nominate(own.ufrag, own.pwd), 0);
	for (int i = 0; i < 50 && path() != CLIENT_PATH_DIRECT; i++) {
		while (client_conn_output(c, &out, &via, now)) {
			if (out.n > 100)
				answer();
		}
		later(10);
	}
	assert_int_equal(path(), CLIENT_PATH_DIRECT);
}

/* Relay, then direct, then direct lost: back at once, keys kept, and soon an OFFER. */
static void relay_direct_relay(void **state)
{
	(void)state;
	for (int controller = 0; controller < 2; controller++) {
		begin_relay(controller);
		client_conn_open(c, now);
		assert_true(next_signal(CLIENT_SIGNAL_OFFER));
		own = ev.signal;
		receive(CLIENT_SIGNAL_OFFER, 'x');
		client_conn_relay_up(c, 7, now);
		client_conn_handshake(c, now);
		count();
		let_ice_connect();
		count();
		/* the controlled side is moved by the controller's packets */
		assert_int_equal(directs, controller);
		assert_int_equal(none + resets + relays, 0);
		for (int i = 0; i < 100 && path() == CLIENT_PATH_DIRECT; i++) {
			later(100);
			while (client_conn_output(c, &out, &via, now))
				;
		}
		assert_int_equal(path(), CLIENT_PATH_RELAY);
		count();
		assert_int_equal(relays, 1);
		assert_int_equal(none + resets, 0);
		later(900);
		while (client_conn_output(c, &out, &via, now))
			;
		assert_true(next_signal(CLIENT_SIGNAL_OFFER));
		end();
	}
}

/* Run for ms; the peer answers checks or does not. Ends early on that path. */
static int64_t run_until(enum client_conn_path wanted, bool answers, int64_t ms)
{
	struct nb_time from = now;

	while (path() != wanted && nb_time_diff(now, from) < ms * NB_MS) {
		while (client_conn_output(c, &out, &via, now)) {
			if (answers && out.n > 100)
				answer();
		}
		later(10);
	}
	return nb_time_diff(now, from) / NB_MS;
}

/* WireGuard hears nothing: the path is asked, and left within a second when it does not answer. The peer hears of it, the keys
 * stay. The next path found so soon has to wait, each time longer; one that lived for a minute does not. */
static void silence_moves_to_the_relay(void **state)
{
	for (int controller = 0; controller < 2; controller++) {
		static const int64_t holds[] = { 2000, 4000, 8000 };

		(void)state;
		begin_relay(controller);
		client_conn_open(c, now);
		assert_true(next_signal(CLIENT_SIGNAL_OFFER));
		assert_false(ev.signal.path_lost);
		own = ev.signal;
		receive(CLIENT_SIGNAL_OFFER, 'x');
		client_conn_relay_up(c, 7, now);
		client_conn_handshake(c, now);
		let_ice_connect();
		run_until(CLIENT_PATH_NONE, true, 700);
		count();
		/* a peer that is only quiet */
		client_conn_silent(c, now);
		run_until(CLIENT_PATH_RELAY, true, 1500);
		assert_int_equal(path(), CLIENT_PATH_DIRECT);
		for (int round = 0; round < 3; round++) {
			char why[CLIENT_WHY_MAX];

			client_conn_silent(c, now);
			assert_in_range(run_until(CLIENT_PATH_RELAY, false, 3000), 500, 800);
			assert_true(next_signal(CLIENT_SIGNAL_OFFER));
			assert_true(ev.signal.path_lost);
			assert_memory_not_equal(ev.signal.session, own.session, sizeof own.session);
			own = ev.signal;
			count();
			assert_int_equal(none + resets, 0);
			receive(CLIENT_SIGNAL_ANSWER, (char)('0' + round));
			candidate(PEER_LINE);
			if (!controller)
				assert_int_equal(nominate(own.ufrag, own.pwd), 0);
			run_until(CLIENT_PATH_DIRECT, true, 1000);
			assert_int_equal(path(), CLIENT_PATH_RELAY);
			client_conn_why(c, why);
			assert_non_null(strstr(why, "lost soon after"));
			assert_in_range(run_until(CLIENT_PATH_DIRECT, true, 20000), holds[round] - 1200, holds[round]);
			assert_int_equal(path(), CLIENT_PATH_DIRECT);
			run_until(CLIENT_PATH_NONE, true, 700);
		}
		/* steady for a minute: trusted again */
		run_until(CLIENT_PATH_NONE, true, 61000);
		client_conn_silent(c, now);
		run_until(CLIENT_PATH_RELAY, false, 3000);
		assert_true(next_signal(CLIENT_SIGNAL_OFFER));
		own = ev.signal;
		receive(CLIENT_SIGNAL_ANSWER, '9');
		candidate(PEER_LINE);
		if (!controller)
			assert_int_equal(nominate(own.ufrag, own.pwd), 0);
		assert_in_range(run_until(CLIENT_PATH_DIRECT, true, 3000), 0, 400);
		end();
	}
}

/* The other side of that: one of ours says it has lost the path. It is left at once, though we heard it a moment ago. */
static void peer_lost_the_path(void **state)
{
	struct client_signal_msg m;

	(void)state;
	begin_relay(false);
	client_conn_open(c, now);
	assert_true(next_signal(CLIENT_SIGNAL_OFFER));
	own = ev.signal;
	receive(CLIENT_SIGNAL_OFFER, 'x');
	client_conn_relay_up(c, 7, now);
	client_conn_handshake(c, now);
	let_ice_connect();
	count();
	m = message(CLIENT_SIGNAL_OFFER, 'y');
	m.path_lost = true;
	client_conn_signal(c, &m, now);
	assert_int_equal(path(), CLIENT_PATH_RELAY);
	count();
	assert_int_equal(relays, 1);
	assert_int_equal(agents(), 1);
	/* what it sent before comes late and moves WireGuard: undone */
	client_conn_roamed(c, &(struct nb_endpoint){ nb_addr4(0xcb007116), 51820 }, now);
	count();
	assert_int_equal(relays, 1);
	later(3100);
	client_conn_roamed(c, &(struct nb_endpoint){ nb_addr4(0xcb007116), 51820 }, now);
	count();
	assert_int_equal(relays, 0);
	end();
}

/* A handshake of the controlling side that is lost is begun again soon, twice; then WireGuard's own patience counts. */
static void lost_handshakes(void **state)
{
	unsigned shakes = 0;
	struct nb_time from;

	(void)state;
	begin_relay(true);
	open_channel();
	from = now;
	while (nb_time_diff(now, from) < 20 * NB_SEC) {
		while (client_conn_output(c, &out, &via, now))
			;
		while (next(CLIENT_CONN_ENDPOINT)) {
			static const int64_t at[] = { 0, 1000, 3000 };

			assert_true(ev.handshake && shakes < 3);
			assert_in_range(nb_time_diff(now, from) / NB_MS, at[shakes], at[shakes] + 20);
			shakes++;
		}
		later(10);
	}
	assert_int_equal(shakes, 3);
	end();
	begin_relay(true);
	open_channel();
	client_conn_handshake(c, now);
	later(1100);
	flush();
	later(5000);
	while (client_conn_output(c, &out, &via, now))
		;
	assert_false(next(CLIENT_CONN_ENDPOINT));
	end();
}

/* Standing still: a short time is a reason to ask, a long one to begin anew at once. */
static void after_sleep(void **state)
{
	bool asked;

	(void)state;
	for (int relayed = 0; relayed < 2; relayed++) {
		begin_relay(true);
		client_conn_open(c, now);
		assert_true(next_signal(CLIENT_SIGNAL_OFFER));
		own = ev.signal;
		receive(CLIENT_SIGNAL_OFFER, 'x');
		client_conn_relay_up(c, 7, now);
		client_conn_handshake(c, now);
		let_ice_connect();
		count();
		later(4000);
		client_conn_woke(c, 4000 * NB_MS, now);
		for (asked = false; client_conn_output(c, &out, &via, now);) {
			if (out.n > 100) {
				asked = true;
				answer();
			}
		}
		assert_true(asked);	/* at once */
		run_until(CLIENT_PATH_NONE, true, 1500);
		assert_int_equal(path(), CLIENT_PATH_DIRECT);
		later(60000);
		client_conn_woke(c, 60000 * NB_MS, now);
		assert_int_equal(path(), CLIENT_PATH_DIRECT);	/* WireGuard tries it ... */
		assert_true(next(CLIENT_CONN_ENDPOINT));
		assert_true(ev.handshake);
		assert_true(next_signal(CLIENT_SIGNAL_OFFER));	/* ... while ICE begins anew */
		assert_memory_not_equal(ev.signal.session, own.session, sizeof own.session);
		if (relayed)
			client_conn_silent(c, now);	/* and not for long */
		assert_int_equal(path(), relayed ? CLIENT_PATH_RELAY : CLIENT_PATH_DIRECT);
		end();
	}
}

/* What draws WireGuard away from the relay though ICE knows nothing of it is undone when nothing comes from there. */
static void led_astray(void **state)
{
	const struct nb_endpoint elsewhere = { nb_addr4(0xcb007117), 51820 };

	(void)state;
	begin_relay(true);
	open_channel();
	client_conn_handshake(c, now);
	count();
	client_conn_silent(c, now);
	count();
	assert_int_equal(relays, 0);
	client_conn_roamed(c, &elsewhere, now);
	count();
	assert_int_equal(relays, 0);
	client_conn_silent(c, now);
	count();
	assert_int_equal(relays, 1);
	end();
	/* The same beside a direct path, with no relay to fall back to. */
	begin(true);
	connect_peer();
	client_conn_handshake(c, now);
	flush();
	client_conn_roamed(c, &elsewhere, now);
	client_conn_silent(c, now);
	count();
	assert_int_equal(directs, 1);
	client_conn_silent(c, now);
	count();
	assert_int_equal(directs, 0);
	end();
}

static void relay_lost(void **state)
{
	(void)state;
	/* in use: the path is gone */
	begin_relay(true);
	open_channel();
	count();
	client_conn_relay_gone(c, now);
	count();
	assert_int_equal(none, 1);
	assert_int_equal(path(), CLIENT_PATH_NONE);
	later(900);
	while (client_conn_output(c, &out, &via, now))
		;
	assert_true(next_signal(CLIENT_SIGNAL_OFFER));
	/* the answer opens it again */
	receive(CLIENT_SIGNAL_ANSWER, 'x');
	assert_true(next(CLIENT_CONN_RELAY_OPEN));
	end();
	/* beside a direct path: WireGuard hears nothing of it */
	begin_relay(true);
	open_channel();
	client_conn_handshake(c, now);
	let_ice_connect();
	count();
	client_conn_relay_gone(c, now);
	count();
	assert_int_equal(none + relays + directs + resets, 0);
	assert_int_equal(path(), CLIENT_PATH_DIRECT);
	later(900);
	while (client_conn_output(c, &out, &via, now)) {
		if (out.n > 100)
			answer();
	}
	assert_true(next_signal(CLIENT_SIGNAL_OFFER));
	/* and its return is no reason to leave the direct path */
	receive(CLIENT_SIGNAL_ANSWER, 'x');
	assert_true(next(CLIENT_CONN_RELAY_OPEN));
	client_conn_relay_up(c, 9, now);
	count();
	assert_int_equal(none + relays + directs + resets, 0);
	end();
}

/* A channel elsewhere replaces the old one; a late report of the old one's opening means nothing. */
static void relay_moves(void **state)
{
	(void)state;
	begin_relay(false);
	open_channel();
	while (next(-1))
		;
	peer_relay = "rel://third:80";
	receive(CLIENT_SIGNAL_ANSWER, 'x');
	assert_true(next(CLIENT_CONN_RELAY_CLOSE));
	assert_true(next(CLIENT_CONN_RELAY_OPEN));
	assert_string_equal(ev.relay_url, "rel://third:80");
	client_conn_relay_gone(c, now);
	client_conn_relay_up(c, 9, now);
	assert_int_equal(path(), CLIENT_PATH_NONE);
	receive(CLIENT_SIGNAL_ANSWER, 'x');
	assert_true(next(CLIENT_CONN_RELAY_OPEN));
	client_conn_close(c, now);
	assert_true(next(CLIENT_CONN_RELAY_CLOSE));
	end();
}

/* While only the relay works direct paths are looked for, rarer and rarer. */
static void relay_only_schedule(void **state)
{
	struct nb_time last;
	int64_t gap = 0, before = 0;
	unsigned n = 0;

	(void)state;
	begin_relay(true);
	open_channel();
	client_conn_handshake(c, now);
	flush();
	last = now;
	for (int hours = 0; nb_time_diff(now, last) < 3600 * NB_SEC && hours < 100000; hours++) {
		struct nb_time t = client_conn_deadline(c);

		now = nb_time_before(t, now) ? now : t;
		client_conn_handshake(c, now);	/* the tunnel is in use */
		while (client_conn_output(c, &out, &via, now))
			;
		while (client_conn_event(c, &ev)) {
			if (ev.type != CLIENT_CONN_SEND || ev.signal.type != CLIENT_SIGNAL_OFFER)
				continue;
			n++;
			before = gap;
			gap = nb_time_diff(now, last);
			last = now;
		}
		if (n > 14)
			break;
	}
	assert_true(n > 14);
	assert_true(gap >= 500 * NB_SEC && gap <= 680 * NB_SEC && before >= 500 * NB_SEC);
	assert_int_equal(path(), CLIENT_PATH_RELAY);
	end();
}

/* The peer started anew without the relay noticing: the controlling side begins again. */
static void restarted_behind_the_relay(void **state)
{
	(void)state;
	for (int controller = 0; controller < 2; controller++) {
		struct client_signal_msg m;

		begin_relay(controller);
		open_channel();
		client_conn_handshake(c, now);
		count();
		receive(CLIENT_SIGNAL_OFFER, 'y');	/* another session alone is none */
		count();
		assert_int_equal(resets + relays, 0);
		m = message(CLIENT_SIGNAL_OFFER, 'z');
		m.ufrag[0] = 'Q';
		client_conn_signal(c, &m, now);
		count();
		assert_int_equal(resets, controller);
		assert_int_equal(relays, controller);
		end();
	}
}

/* A relay over which no handshake comes is no path either. */
static void relay_without_handshake(void **state)
{
	(void)state;
	begin_relay(true);
	net.force_relay = true;
	open_channel();
	while (next(-1))
		;
	later(30001);
	while (client_conn_output(c, &out, &via, now))
		;
	count();
	assert_int_equal(none, 1);
	assert_int_equal(path(), CLIENT_PATH_NONE);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_offer), cmocka_unit_test(offer_schedule),
		cmocka_unit_test(every_offer_is_answered), cmocka_unit_test(session_table),
		cmocka_unit_test(failed_session), cmocka_unit_test(peer_without_ice),
		cmocka_unit_test(go_idle_means_nothing), cmocka_unit_test(early_candidates),
		cmocka_unit_test(overtaking_candidate), cmocka_unit_test(descriptions_before_candidates),
		cmocka_unit_test(controller_endpoint), cmocka_unit_test(responder_waits), cmocka_unit_test(punch),
		cmocka_unit_test(no_punch_through_turn),
		cmocka_unit_test(silence_ends_the_path), cmocka_unit_test(timers_from_outside),
		cmocka_unit_test(new_session_keeps_the_path),
		cmocka_unit_test(roamed_peer_is_kept),
		cmocka_unit_test(restarted_peer_resets), cmocka_unit_test(address_changes),
		cmocka_unit_test(candidates_behind_an_answer_are_repeated),
		cmocka_unit_test(a_mapping_is_signalled), cmocka_unit_test(a_late_mapping_is_signalled_to_a_connected_peer),
		cmocka_unit_test(a_mapping_without_address_takes_that_of_stun),
		cmocka_unit_test(turn_candidates), cmocka_unit_test(late_allocation), cmocka_unit_test(watcher),
		cmocka_unit_test(relay_of_the_controller), cmocka_unit_test(relay_needs_both),
		cmocka_unit_test(relay_direct_relay), cmocka_unit_test(silence_moves_to_the_relay),
		cmocka_unit_test(peer_lost_the_path), cmocka_unit_test(lost_handshakes), cmocka_unit_test(after_sleep),
		cmocka_unit_test(led_astray), cmocka_unit_test(relay_lost), cmocka_unit_test(relay_moves),
		cmocka_unit_test(relay_only_schedule), cmocka_unit_test(restarted_behind_the_relay),
		cmocka_unit_test(relay_without_handshake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
