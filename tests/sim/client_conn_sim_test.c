/* client_conn_sim_test.c - two peer connections over a virtual network and a signal channel that
 * delays, reorders and loses, with a stand-in for WireGuard (handshakes, roaming) and a fake clock:
 * first connection, crossing offers, cuts, restarts, address changes, peers without ICE. */
#include "client/conn.h"

#include "base/buf.h"
#include "base/err.h"
#include "ice/turn_client.h"
#include "ice/turn_server.h"
#include "sim/sim_net.h"

#include <stdio.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

struct node {
	struct client_conn *conn;
	struct client_network net;
	struct ice_demux demux;
	struct turn_client *turn;	/* NULL: via 1 is the virtual network's own kind of relay */
	struct client_conn_status status;
	struct nb_endpoint ep;		/* stand-in for WireGuard's endpoint, port 0: none */
	unsigned ep_via;
	struct nb_time rekey;
	struct nb_time tunnel_up;	/* a handshake was completed and the endpoint is still there */
	unsigned offers, answers, candidates, resets, lost, handshakes, punched, sent;
	bool first_was_candidate;
	bool stock;			/* knows nothing of rare checks */
};

struct world {
	struct sim sim;
	struct node node[2];
	struct nb_time now;
	uint32_t seed;
	struct turn_server *turn_server;
	struct turn_relay *relays[8];
	bool wg_dead;			/* no handshake gets through */
	bool signal_down;
	bool busy;			/* data passes all the time */
};

static const char *const keys[] = {
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzw=",
};

static void make_conn(struct world *w, int i)
{
	struct client_conn_config cfg = { .net = &w->node[i].net, .demux = &w->node[i].demux,
					  .random = sim_random_bytes, .random_ctx = &w->sim, .user = &w->node[i] };

	snprintf(cfg.self_key, sizeof cfg.self_key, "%s", keys[i]);
	snprintf(cfg.peer_key, sizeof cfg.peer_key, "%s", keys[!i]);
	w->node[i].conn = client_conn_new(&cfg, w->now);
	assert_non_null(w->node[i].conn);
}

static void world_init(struct world *w, uint32_t seed, enum sim_nat a, enum sim_nat b)
{
	uint8_t key[16] = { 2 };

	memset(w, 0, sizeof *w);
	w->seed = seed;
	w->now.ns = 1000 * NB_SEC;
	sim_init(&w->sim, seed);
	w->sim.delay_ms = 20;
	w->sim.signal_ms = 30;
	for (int i = 0; i < 2; i++) {
		struct node *n = &w->node[i];

		sim_add_host(&w->sim, sim_add_lan(&w->sim, i ? b : a), false);
		n->net.hosts[0] = w->sim.hosts[i].addr4;
		n->net.nhosts = 1;
		n->net.port = SIM_PORT_NUMBER;
		n->net.stun[0] = w->sim.stun;
		n->net.nstun = 1;
		n->net.version = "0.77.1";
		ice_demux_init(&n->demux, key, 8);
		n->rekey = NB_TIME_NEVER;
		make_conn(w, i);
	}
}

static void give_relays(struct world *w)
{
	for (int i = 0; i < 2; i++) {
		sim_allocate(&w->sim, (unsigned)i);
		w->node[i].net.relayed[0] = w->sim.hosts[i].relayed;
		w->node[i].net.nrelayed = 1;
	}
}

static void world_fini(struct world *w)
{
	for (int i = 0; i < 2; i++) {
		client_conn_free(w->node[i].conn);
		assert_int_equal(w->node[i].demux.by_tag.count, 0);
		ice_demux_fini(&w->node[i].demux);
		turn_client_free(w->node[i].turn);
	}
	turn_server_free(w->turn_server);
	sim_fini(&w->sim);
}

/* ---- A real TURN server and real TURN clients ---- */

static const struct nb_endpoint turn_at = { { 4, { 198, 51, 100, 3 }, 0 }, 3478 };

static int relay_open(void *ctx, struct turn_relay *r)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < 8; i++) {
		if (!w->relays[i]) {
			w->relays[i] = r;
			return 0;
		}
	}
	return NB_E_FULL;
}

static void relay_close(void *ctx, struct turn_relay *r)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < 8; i++) {
		if (w->relays[i] == r)
			w->relays[i] = NULL;
	}
}

static void relay_send(void *ctx, struct turn_relay *r, const struct nb_endpoint *peer, struct nb_bytes data)
{
	struct nb_endpoint from = { turn_at.addr, turn_relay_port(r) };
	struct world *w = ctx;

	sim_send_server(&w->sim, &from, peer, data.p, data.n, w->now);
}

static void relay_reply(void *ctx, const struct turn_flow *to, struct nb_bytes head, struct nb_bytes body,
			struct nb_bytes tail)
{
	struct world *w = ctx;
	uint8_t mem[SIM_DGRAM];
	struct nb_buf b;

	nb_buf_fixed(&b, mem, sizeof mem);
	nb_buf_bytes(&b, head);
	nb_buf_bytes(&b, body);
	assert_int_equal(nb_buf_bytes(&b, tail), 0);
	sim_send_server(&w->sim, &turn_at, &to->client, b.p, b.n, w->now);
}

static const struct turn_server_ops relay_ops = { relay_open, relay_close, relay_send, relay_reply };
static const struct nb_wall some_day = { 1900000000 * NB_SEC };

static void start_turn(struct world *w)
{
	static const struct turn_user user = { "u", "p" };
	struct turn_server_config s = { .realm = "sim", .users = &user, .nusers = 1, .relay4 = turn_at.addr,
					.port_min = 50000, .port_max = 50099, .own = &turn_at.addr, .nown = 1,
					.allow = &(struct nb_prefix){ { 4, { 203, 0, 113 }, 0 }, 24 }, .nallow = 1,
					.random = sim_random_bytes, .random_ctx = &w->sim };
	struct turn_client_config c = { .server = turn_at, .username = "u", .password = "p",
					.random = sim_random_bytes, .random_ctx = &w->sim };

	w->sim.server = turn_at.addr;
	w->turn_server = turn_server_new(&s, &relay_ops, w);
	assert_non_null(w->turn_server);
	for (int i = 0; i < 2; i++) {
		w->node[i].turn = turn_client_new(&c, w->now);
		assert_non_null(w->node[i].turn);
	}
}

/* A datagram at the server: of a client, or of a peer on a relayed port. */
static void server_input(struct world *w, const struct sim_packet *p)
{
	struct turn_flow flow = { .client = p->from, .local = turn_at };

	if (nb_endpoint_eq(&p->to, &turn_at)) {
		turn_server_input(w->turn_server, &flow, nb_bytes(p->p, p->n), w->now, some_day);
		return;
	}
	for (unsigned i = 0; i < 8; i++) {
		if (w->relays[i] && turn_relay_port(w->relays[i]) == p->to.port)
			turn_server_peer_input(w->turn_server, w->relays[i], &p->from, nb_bytes(p->p, p->n), w->now);
	}
}

static void drain_turn(struct world *w, int i)
{
	struct node *n = &w->node[i];
	uint8_t mem[TURN_CLIENT_DGRAM_MAX];
	struct nb_dgram out = { .p = mem, .cap = sizeof mem };
	struct turn_event ev;

	if (!n->turn)
		return;
	while (turn_client_output(n->turn, &out, w->now))
		sim_send(&w->sim, (unsigned)i, 0, &out.to, out.p, out.n, w->now);
	while (turn_client_event(n->turn, &ev)) {
		assert_int_not_equal(ev.type, TURN_EV_FAILED);
		if (ev.type != TURN_EV_ALLOCATED)
			continue;
		n->net.relayed[0] = ev.relayed;
		n->net.nrelayed = 1;
		client_conn_network_changed(n->conn, false, w->now);
	}
}

static void send_via(struct world *w, int i, unsigned via, const struct nb_endpoint *to, const void *p, size_t len)
{
	struct node *n = &w->node[i];
	uint8_t mem[SIM_DGRAM];
	int got;

	n->sent++;
	if (!via || !n->turn) {
		sim_send(&w->sim, (unsigned)i, via, to, p, len, w->now);
		return;
	}
	got = turn_client_wrap(n->turn, to, nb_bytes(p, len), mem);
	if (got > 0)
		sim_send(&w->sim, (unsigned)i, 0, &turn_at, mem, (size_t)got, w->now);
}

/* ---- WireGuard's stand-in ---- */

static void tunnel_send(struct world *w, int i, const char *what)
{
	struct node *n = &w->node[i];

	if (n->ep.port && !w->wg_dead)
		send_via(w, i, n->ep_via, &n->ep, what, strlen(what));
}

static void handshake_start(struct world *w, int i)
{
	tunnel_send(w, i, "init");
	w->node[i].rekey = nb_time_add_ms(w->now, 5000);	/* repeated until answered */
}

static void handshake_done(struct world *w, int i)
{
	w->node[i].handshakes++;
	w->node[i].tunnel_up = w->now;
	w->node[i].rekey = nb_time_add_ms(w->now, 120000);
	client_conn_handshake(w->node[i].conn, w->now);
}

static void tunnel_input(struct world *w, int i, const struct sim_packet *p)
{
	struct node *n = &w->node[i];

	if (p->n == 2) {
		assert_memory_equal(p->p, "nb", 2);
		n->punched++;
		return;
	}
	n->ep = p->from;	/* roaming */
	n->ep_via = p->via;
	if (memcmp(p->p, "init", 4) == 0)
		tunnel_send(w, i, "resp");
	handshake_done(w, i);
}

/* ---- The driver ---- */

static void on_send(struct world *w, int i, const struct client_signal_msg *m)
{
	struct node *n = &w->node[i];
	struct client_signal_msg sent = *m;

	sent.rare_checks &= !n->stock && !w->node[!i].stock;	/* stock neither says it nor reads it */
	n->offers += m->type == CLIENT_SIGNAL_OFFER;
	n->answers += m->type == CLIENT_SIGNAL_ANSWER;
	n->candidates += m->type == CLIENT_SIGNAL_CANDIDATE;
	if (!n->offers && !n->answers)
		n->first_was_candidate = true;
	if (!w->signal_down)
		sim_signal(&w->sim, !i, &sent, sizeof sent, w->now);
}

static void on_event(struct world *w, int i, const struct client_conn_event *ev)
{
	struct node *n = &w->node[i];

	switch (ev->type) {
	case CLIENT_CONN_SEND:
		on_send(w, i, &ev->signal);
		break;
	case CLIENT_CONN_ENDPOINT:
		assert_true(ev->path == CLIENT_PATH_DIRECT || ev->path == CLIENT_PATH_TURN);
		n->ep = ev->remote;
		n->ep_via = ev->via;
		if (n->turn && ev->via)
			turn_client_bind(n->turn, &ev->remote, NULL, w->now);
		if (ev->handshake)
			handshake_start(w, i);
		break;
	case CLIENT_CONN_PERMIT:
		if (n->turn)
			turn_client_permit(n->turn, &ev->remote.addr, w->now);
		break;
	case CLIENT_CONN_NO_ENDPOINT:
		n->ep.port = 0;
		n->tunnel_up.ns = 0;
		n->rekey = NB_TIME_NEVER;
		n->lost++;
		break;
	case CLIENT_CONN_RESET:
		n->resets++;
		n->tunnel_up.ns = 0;
		break;
	default:
		break;
	}
}

static void drain(struct world *w, int i)
{
	struct node *n = &w->node[i];
	uint8_t mem[ICE_DGRAM_MAX];
	struct nb_dgram out = { .p = mem, .cap = sizeof mem };
	struct client_conn_event ev;
	unsigned via, rounds = 0;
	bool busy;

	do {
		busy = false;
		while (client_conn_output(n->conn, &out, &via, w->now)) {
			send_via(w, i, via, &out.to, out.p, out.n);
			busy = true;
		}
		while (client_conn_event(n->conn, &ev)) {
			on_event(w, i, &ev);
			busy = true;
		}
		assert_true(++rounds < 100);
		drain_turn(w, i);
	} while (busy);
	client_conn_status(n->conn, &n->status);
}

/* Take what the TURN client has to say about a datagram; false when nothing is left of it. */
static bool unwrap(struct world *w, struct node *n, struct sim_packet *p)
{
	struct nb_endpoint peer;
	struct nb_bytes data;
	int got;

	if (!n->turn || !nb_endpoint_eq(&p->from, &turn_at))
		return true;
	got = turn_client_input(n->turn, nb_bytes(p->p, p->n), &peer, &data, w->now);
	if (got < 0)
		return true;
	if (got == 0)
		return false;
	p->from = peer;
	p->via = 1;
	p->n = data.n;
	memmove(p->p, data.p, data.n);
	return true;
}

static void receive(struct world *w, struct sim_packet *p)
{
	struct node *n = &w->node[p->host % 2];
	struct nb_dgram d;
	struct client_signal_msg m;
	struct client_conn *c;

	if (p->host == SIM_SERVER) {
		server_input(w, p);
		return;
	}
	if (p->kind == SIM_SIGNAL) {
		memcpy(&m, p->p, sizeof m);
		client_conn_signal(n->conn, &m, w->now);
	} else if (!unwrap(w, n, p)) {
		drain_turn(w, (int)p->host);
		drain(w, (int)p->host);
		return;
	}
	d = (struct nb_dgram){ .from = p->from, .p = p->p, .n = p->n };
	if (p->kind == SIM_SIGNAL) {
		;
	} else if (ice_is_stun(nb_bytes(p->p, p->n))) {
		c = client_conn_find(&n->demux, nb_bytes(p->p, p->n));
		assert_true(!c || c == n->conn);
		if (c) {
			assert_ptr_equal(client_conn_user(c), n);
			client_conn_input(c, &d, p->via, w->now);
		}
	} else {
		tunnel_input(w, (int)p->host, p);
	}
	drain(w, (int)p->host);
}

static struct nb_time next_time(const struct world *w)
{
	struct nb_time t = sim_deadline(&w->sim);

	for (int i = 0; i < 2; i++) {
		t = nb_time_min(t, nb_time_min(client_conn_deadline(w->node[i].conn), w->node[i].rekey));
		if (w->node[i].turn)
			t = nb_time_min(t, turn_client_deadline(w->node[i].turn));
	}
	return w->turn_server ? nb_time_min(t, turn_server_deadline(w->turn_server)) : t;
}

typedef bool (*until_fn)(const struct world *);

static bool run(struct world *w, int64_t ms, until_fn until)
{
	struct nb_time end = nb_time_add_ms(w->now, ms), t;
	struct sim_packet p;

	for (int i = 0; i < 2; i++)
		drain(w, i);
	while (!until || !until(w)) {
		for (int i = 0; i < 2 && w->busy; i++)
			client_conn_active(w->node[i].conn, w->now);
		t = next_time(w);
		if (w->busy)
			t = nb_time_min(t, nb_time_add_ms(w->now, 1000));
		if (nb_time_before(end, t)) {
			w->now = end;
			return false;
		}
		if (nb_time_before(w->now, t))
			w->now = t;
		if (w->turn_server)
			turn_server_tick(w->turn_server, w->now);
		for (int i = 0; i < 2; i++) {
			if (nb_time_due(w->node[i].rekey, w->now))
				handshake_start(w, i);
			drain(w, i);
		}
		while (sim_receive(&w->sim, &p, w->now))
			receive(w, &p);
	}
	return true;
}

static bool tunnel(const struct world *w)
{
	return w->node[0].tunnel_up.ns && w->node[1].tunnel_up.ns && w->node[0].status.connected &&
		w->node[1].status.connected;
}

static bool down(const struct world *w)
{
	return !w->node[0].status.connected && !w->node[1].status.connected;
}

static bool one_down(const struct world *w)
{
	return !w->node[0].status.connected || !w->node[1].status.connected;
}

static void open_both(struct world *w)
{
	for (int i = 0; i < 2; i++)
		client_conn_open(w->node[i].conn, w->now);
}

static void expect(struct world *w, int64_t ms, until_fn until, const char *what)
{
	if (run(w, ms, until))
		return;
	print_message("%s: seed %u nat %d/%d loss %u%% signal loss %u%%\n", what, w->seed, w->sim.lans[0].nat,
		      w->sim.lans[1].nat, w->sim.loss_pct, w->sim.signal_loss_pct);
	fail();
}

/* ---- Runs ---- */

/* Nothing is lost: a tunnel within 2 s for every pairing that allows a direct path, and what status
 * shows is right. */
static void clean(void **state)
{
	struct world w;

	(void)state;
	for (uint32_t seed = 1; seed <= 100; seed++) {
		enum sim_nat a = (enum sim_nat)(seed % 4), b = (enum sim_nat)(seed / 4 % 4);

		world_init(&w, seed, a, b);
		w.sim.delay_ms = sim_below(&w.sim, 100);
		w.sim.signal_jitter_ms = sim_below(&w.sim, 100);
		open_both(&w);
		expect(&w, 2000, tunnel, "no tunnel");
		run(&w, 3000, NULL);
		for (int i = 0; i < 2; i++) {
			struct node *n = &w.node[i];

			assert_false(n->first_was_candidate);
			assert_int_equal(n->status.path, CLIENT_PATH_DIRECT);
			assert_true(n->offers == 1 && n->answers == 1 && n->lost == 0 && n->punched <= 1);
			assert_true(n->status.rtt_ns >= 2 * (int64_t)w.sim.delay_ms * NB_MS);
			assert_true(nb_addr_eq(&n->status.remote.addr, &n->ep.addr));
		}
		/* it stays like this for an hour, without another offer */
		if (seed % 20 == 0) {
			run(&w, 3600 * 1000, NULL);
			assert_true(tunnel(&w));
			assert_int_equal(w.node[0].offers + w.node[1].offers, 2);
		}
		world_fini(&w);
	}
}

/* Signal loss up to 40 %, reordering, datagram loss up to 15 %, any NAT, one side later: a tunnel
 * within 60 s. */
static void lossy(void **state)
{
	struct world w;
	int64_t worst = 0, sum = 0;

	(void)state;
	for (uint32_t seed = 1000; seed < 1200; seed++) {
		struct nb_time from;
		int first = seed & 1;

		world_init(&w, seed, (enum sim_nat)(seed % SIM_NATS), (enum sim_nat)(seed / SIM_NATS % SIM_NATS));
		give_relays(&w);
		w.sim.jitter_ms = 60;
		w.sim.loss_pct = sim_below(&w.sim, 16);
		w.sim.signal_jitter_ms = 400;
		w.sim.signal_loss_pct = sim_below(&w.sim, 41);
		from = w.now;
		client_conn_open(w.node[first].conn, w.now);
		run(&w, sim_below(&w.sim, 1500), NULL);
		client_conn_open(w.node[!first].conn, w.now);
		/* With up to 40 % of signals lost one run in 250 meets the long end of the offer schedule. */
		expect(&w, 120000, tunnel, "no tunnel");
		sum += nb_time_diff(w.now, from);
		if (nb_time_diff(w.now, from) > worst)
			worst = nb_time_diff(w.now, from);
		world_fini(&w);
	}
	print_message("lossy: mean %lld ms, worst %lld ms\n", (long long)(sum / 200 / NB_MS), (long long)(worst / NB_MS));
}

/* Symmetric NATs: the path goes through TURN, and says so. */
static void through_turn(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 2000, SIM_SYMMETRIC, SIM_SYMMETRIC);
	give_relays(&w);
	open_both(&w);
	expect(&w, 5000, tunnel, "no tunnel");
	for (int i = 0; i < 2; i++)
		assert_int_equal(w.node[i].status.path, CLIENT_PATH_TURN);
	world_fini(&w);
}

/* The same with our TURN client and server, allocations that come up during the negotiation, loss, and
 * half an hour in which permissions, channels and nonces have to be renewed. */
static void through_real_turn(void **state)
{
	struct turn_server_stats st;
	struct world w;

	(void)state;
	for (uint32_t seed = 2100; seed < 2120; seed++) {
		world_init(&w, seed, SIM_SYMMETRIC, seed & 1 ? SIM_SYMMETRIC : SIM_PORT);
		w.sim.loss_pct = sim_below(&w.sim, 6);
		start_turn(&w);
		open_both(&w);
		expect(&w, 25000, tunnel, "no tunnel");
		for (int i = 0; i < 2; i++)
			assert_int_equal(w.node[i].status.path, CLIENT_PATH_TURN);
		run(&w, 1800 * 1000, NULL);
		assert_true(tunnel(&w));
		assert_true(w.node[0].handshakes >= 10 && w.node[1].handshakes >= 10);
		turn_server_stats(w.turn_server, &st);
		assert_int_equal(st.allocations, 2);
		world_fini(&w);
	}
}

/* The path is cut for 30 s: both notice within 8 s, and have a tunnel 20 s after it is back. */
static void cut_and_back(void **state)
{
	struct world w;

	(void)state;
	for (uint32_t seed = 3000; seed < 3030; seed++) {
		world_init(&w, seed, (enum sim_nat)(seed % 4), SIM_PORT);
		w.sim.signal_jitter_ms = 100;
		open_both(&w);
		expect(&w, 3000, tunnel, "no tunnel");
		run(&w, sim_below(&w.sim, 20000), NULL);
		w.busy = seed & 1;	/* one of them starts to send, or both do all the time */
		client_conn_active(w.node[seed / 2 & 1].conn, w.now);
		w.sim.cut = true;
		expect(&w, 8100, w.busy ? down : one_down, "still up");
		expect(&w, 1000, down, "the other one still up");
		assert_true(w.node[0].lost == 1 && w.node[1].lost == 1);
		run(&w, 30000, NULL);
		w.sim.cut = false;
		expect(&w, 20000, tunnel, "not back");
		world_fini(&w);
	}
}

/* Ten minutes in which nobody sends data: towards stock both check every 2 s, as it wants; between two of
 * ours one packet each way keeps the NATs open every 18 s. */
static void idle_cost(void **state)
{
	(void)state;
	for (int stock = 0; stock < 3; stock++) {
		struct world w;
		unsigned sent;

		world_init(&w, 3500, SIM_PORT, SIM_PORT);
		if (stock)
			w.node[stock - 1].stock = true;
		open_both(&w);
		expect(&w, 3000, tunnel, "no tunnel");
		run(&w, 15000, NULL);
		w.node[0].sent = w.node[1].sent = 0;
		run(&w, 600000, NULL);
		assert_true(tunnel(&w));
		assert_int_equal(w.node[0].lost + w.node[1].lost, 0);
		sent = w.node[0].sent + w.node[1].sent;
		/* 20 of them are WireGuard's handshakes. */
		if (stock)
			assert_in_range(sent, 1210, 1230);
		else
			assert_in_range(sent, 84, 88);
		/* Data again: the close watch is back at once. */
		w.node[0].sent = w.node[1].sent = 0;
		w.busy = true;
		run(&w, 60000, NULL);
		assert_in_range(w.node[0].sent + w.node[1].sent, 118, 128);
		world_fini(&w);
	}
}

/* One side starts anew with other credentials: the other follows its OFFER, and the controlling one
 * forgets the old WireGuard sessions. A tunnel within 3 s. */
static void restart(void **state)
{
	struct world w;

	(void)state;
	for (uint32_t seed = 4000; seed < 4040; seed++) {
		int who = seed & 1;

		world_init(&w, seed, SIM_PORT, SIM_FULL_CONE);
		open_both(&w);
		expect(&w, 3000, tunnel, "no tunnel");
		run(&w, 5000, NULL);
		client_conn_free(w.node[who].conn);
		w.node[who].tunnel_up.ns = 0;
		w.node[who].ep.port = 0;
		w.node[who].rekey = NB_TIME_NEVER;
		make_conn(&w, who);
		client_conn_open(w.node[who].conn, w.now);
		run(&w, 60, NULL);
		expect(&w, 3000, tunnel, "not back");
		assert_int_equal(w.node[!who].lost, 1);
		assert_int_equal(w.node[1].resets, who == 1 ? 0 : 1);	/* 1 is the controlling side */
		assert_int_equal(w.node[0].resets, 0);
		world_fini(&w);
	}
}

static bool sees_new_address(const struct world *w)
{
	for (int i = 0; i < 2; i++)
		if (!nb_addr_eq(&w->node[!i].status.remote.addr, &w->node[i].net.hosts[0]))
			return false;
	return w->node[0].status.connected && w->node[1].status.connected;
}

/* Our address changes: a new session at once, a tunnel within 2 s, no wait for any timeout. */
static void address_change(void **state)
{
	struct world w;

	(void)state;
	for (uint32_t seed = 5000; seed < 5020; seed++) {
		int who = seed & 1;
		unsigned offers;

		world_init(&w, seed, SIM_OPEN, SIM_OPEN);
		open_both(&w);
		expect(&w, 2000, tunnel, "no tunnel");
		run(&w, 4000, NULL);
		offers = w.node[who].offers;
		w.sim.hosts[who].addr4 = nb_addr4(0xcb007100 + 200);
		w.node[who].net.hosts[0] = w.sim.hosts[who].addr4;
		client_conn_network_changed(w.node[who].conn, true, w.now);
		drain(&w, who);
		assert_true(w.node[who].status.connected);	/* WireGuard goes on meanwhile */
		assert_int_equal(w.node[who].offers, offers + 1);
		expect(&w, 2000, sees_new_address, "not back");
		assert_true(tunnel(&w));
		assert_int_equal(w.node[0].resets + w.node[1].resets + w.node[0].lost + w.node[1].lost, 0);
		world_fini(&w);
	}
}

/* WireGuard gets nothing through a path that ICE likes: given up after 30 s. */
static void watcher(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 6000, SIM_OPEN, SIM_OPEN);
	w.wg_dead = true;
	open_both(&w);
	run(&w, 29000, NULL);
	assert_true(w.node[0].status.connected && w.node[1].status.connected);
	run(&w, 2000, NULL);
	assert_true(w.node[0].lost >= 1 && w.node[1].lost >= 1);
	w.wg_dead = false;
	expect(&w, 20000, tunnel, "not back");
	/* handshakes come every two minutes: nothing happens */
	w.node[0].lost = w.node[1].lost = 0;
	run(&w, 1000 * 1000, NULL);
	assert_int_equal(w.node[0].lost + w.node[1].lost, 0);
	/* and then they stop: noticed within 3.5 minutes of the last one */
	w.wg_dead = true;
	run(&w, 211 * 1000, NULL);
	assert_true(w.node[0].lost >= 1 && w.node[1].lost >= 1);
	world_fini(&w);
}

/* The signal server is away for a minute in which the path breaks, too. */
static void signal_outage(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 7000, SIM_PORT, SIM_PORT);
	open_both(&w);
	expect(&w, 3000, tunnel, "no tunnel");
	w.signal_down = true;
	w.sim.cut = true;
	run(&w, 60000, NULL);
	assert_true(down(&w));
	w.sim.cut = false;
	w.signal_down = false;
	for (int i = 0; i < 2; i++)
		client_conn_signal_ready(w.node[i].conn, w.now);
	expect(&w, 3000, tunnel, "not back");
	world_fini(&w);
}

/* A side that may not use ICE: nobody runs ICE, offers carry no credentials, and it heals when
 * that ends. */
static void without_ice(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 8000, SIM_OPEN, SIM_OPEN);
	w.node[0].net.force_relay = true;
	open_both(&w);
	run(&w, 20000, NULL);
	assert_true(down(&w));
	assert_int_equal(w.node[0].demux.by_tag.count + w.node[1].demux.by_tag.count, 0);
	w.node[0].net.force_relay = false;
	client_conn_close(w.node[0].conn, w.now);
	client_conn_open(w.node[0].conn, w.now);
	expect(&w, 3000, tunnel, "not connected");
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clean), cmocka_unit_test(lossy), cmocka_unit_test(through_turn), cmocka_unit_test(through_real_turn),
		cmocka_unit_test(cut_and_back), cmocka_unit_test(idle_cost), cmocka_unit_test(restart), cmocka_unit_test(address_change),
		cmocka_unit_test(watcher), cmocka_unit_test(signal_outage), cmocka_unit_test(without_ice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
