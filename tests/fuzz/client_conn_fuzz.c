/* client_conn_fuzz.c - two peer connections driven by a script of bytes: signal messages lost, late,
 * doubled or made up, datagrams lost, address changes, closing and opening, time. Whatever happens:
 * the number of agents is right, nothing loops, a path in status means an agent or has its end in sight, and when the script
 * is over and everything gets through, the two find each other. */
#include "client/conn.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAIL 32

struct mail {
	bool signal;
	int to;
	struct client_signal_msg m;
	uint8_t p[ICE_DGRAM_MAX];
	size_t n;
};

struct node {
	struct client_conn *conn;
	struct client_network net;
	struct ice_demux demux;
};

static struct world {
	struct node node[2];
	struct nb_time now;
	uint32_t rng;
	struct mail mail[MAIL];
	unsigned nmail;
} w;

static void random_bytes(void *ctx, void *out, size_t n)
{
	(void)ctx;
	for (size_t i = 0; i < n; i++) {
		w.rng = w.rng * 1664525u + 1013904223u;
		((uint8_t *)out)[i] = (uint8_t)(w.rng >> 24);
	}
}

static void post(const struct mail *m)
{
	if (w.nmail < MAIL)
		w.mail[w.nmail++] = *m;
}

static void check(const struct node *n)
{
	struct client_conn_status st;

	client_conn_status(n->conn, &st);
	if (n->demux.by_tag.count > 1 || n->demux.by_ufrag.count != n->demux.by_tag.count)
		abort();
	/* A direct path may be without an agent for a while, after somebody moved; never for good. */
	if (st.connected && (st.connecting || st.path == CLIENT_PATH_NONE ||
			     (!n->demux.by_tag.count && (st.path != CLIENT_PATH_DIRECT ||
							 nb_time_diff(client_conn_deadline(n->conn), w.now) > 6 * NB_SEC))))
		abort();
	if (!client_conn_is_open(n->conn) && (st.connected || st.connecting))
		abort();
}

static void drain(int i)
{
	struct node *n = &w.node[i];
	struct mail m = { .to = !i };
	struct client_conn_event ev;
	struct nb_dgram out = { .p = m.p, .cap = sizeof m.p };
	unsigned via, rounds = 0;
	bool busy;

	do {
		busy = false;
		while (client_conn_output(n->conn, &out, &via, w.now)) {
			m.signal = false;
			m.n = out.n;
			if (out.to.port == 51820 + !i)
				post(&m);
			busy = true;
		}
		while (client_conn_event(n->conn, &ev)) {
			m.signal = true;
			m.m = ev.signal;
			if (ev.type == CLIENT_CONN_SEND)
				post(&m);
			busy = true;
		}
		if (++rounds > 200)
			abort();
	} while (busy);
	check(n);
}

static void deliver(unsigned k)
{
	struct mail m = w.mail[k];
	struct node *n = &w.node[m.to];
	struct nb_dgram in = { .p = m.p, .n = m.n };

	if (m.signal) {
		client_conn_signal(n->conn, &m.m, w.now);
	} else if (m.n != 2) {
		in.from = (struct nb_endpoint){ w.node[!m.to].net.hosts[0], (uint16_t)(51820 + !m.to) };
		if (client_conn_find(&n->demux, nb_bytes(m.p, m.n)) == n->conn)
			client_conn_input(n->conn, &in, 0, w.now);
	}
	drain(m.to);
}

static void take_out(unsigned k)
{
	memmove(w.mail + k, w.mail + k + 1, (--w.nmail - k) * sizeof *w.mail);
}

/* A message out of the script's bytes. */
static void made_up(int to, struct nb_cur *c)
{
	struct client_signal_msg m = { 0 };
	uint8_t what = nb_cur_u8(c);

	m.type = what & 3 ? (enum client_signal_type)(what & 1) : CLIENT_SIGNAL_CANDIDATE;
	m.has_session = what & 4;
	m.session[0] = what >> 5;
	snprintf(m.ufrag, sizeof m.ufrag, "%s", what & 8 ? "somebody" : "");
	snprintf(m.pwd, sizeof m.pwd, "%s", what & 16 ? "something" : "");
	snprintf(m.candidate, sizeof m.candidate, "1 1 udp %u 10.0.%u.%u %u typ %s raddr 0.0.0.0 rport 51820 cid x",
		 what, what, nb_cur_u8(c), 1 + nb_cur_u8(c), what & 32 ? "host" : "srflx");
	client_conn_signal(w.node[to].conn, &m, w.now);
	drain(to);
}

static void step(uint8_t op, struct nb_cur *c)
{
	struct node *n = &w.node[op >> 7];
	int i = op >> 7;
	unsigned k = w.nmail ? (op >> 3 & 15) % w.nmail : 0;

	switch (op & 7) {
	case 0:
	case 1:
		if (w.nmail) {
			deliver(k);
			if (op & 1)	/* 0: it comes once more */
				take_out(k);
		}
		break;
	case 2:
		if (w.nmail)
			take_out(k);
		break;
	case 3:
		w.now = nb_time_add_ms(w.now, 1 + (int64_t)nb_cur_u8(c) * (1 + (op >> 3 & 15) * 16));
		drain(0);
		drain(1);
		break;
	case 4:
		made_up(i, c);
		break;
	case 5:
		n->net.hosts[0].ip[3] ^= op >> 3 & 3;
		n->net.force_relay = (op >> 5 & 3) == 3;
		client_conn_network_changed(n->conn, op & 16, w.now);
		drain(i);
		break;
	case 6:
		if (op & 8)
			client_conn_close(n->conn, w.now);
		else
			client_conn_open(n->conn, w.now);
		drain(i);
		break;
	default:
		if (op & 8)
			client_conn_handshake(n->conn, w.now);
		else
			client_conn_signal_ready(n->conn, w.now);
		drain(i);
	}
}

static void start(void)
{
	static const char *const keys[] = { "A", "z" };
	uint8_t seed[16] = { 0 };

	memset(&w, 0, sizeof w);
	w.now.ns = NB_SEC;
	for (int i = 0; i < 2; i++) {
		struct node *n = &w.node[i];
		struct client_conn_config cfg = { .net = &n->net, .demux = &n->demux, .random = random_bytes };

		n->net.hosts[0] = nb_addr4(0xcb007100u + 16u * (unsigned)(i + 1));
		n->net.nhosts = 1;
		n->net.port = (uint16_t)(51820 + i);
		n->net.version = "x";
		ice_demux_init(&n->demux, seed, 4);
		snprintf(cfg.self_key, sizeof cfg.self_key, "%s", keys[i]);
		snprintf(cfg.peer_key, sizeof cfg.peer_key, "%s", keys[!i]);
		n->conn = client_conn_new(&cfg, w.now);
		if (!n->conn)
			abort();
	}
}

static bool both_connected(void)
{
	struct client_conn_status a, b;

	client_conn_status(w.node[0].conn, &a);
	client_conn_status(w.node[1].conn, &b);
	return a.connected && b.connected;
}

/* Calm weather: everything arrives in order. Whatever state the script left, nobody may stay stuck. */
static void must_connect(void)
{
	struct nb_time end = nb_time_add_ms(w.now, 180000);

	for (int i = 0; i < 2; i++) {
		w.node[i].net.force_relay = false;
		client_conn_open(w.node[i].conn, w.now);
		drain(i);
	}
	while (!both_connected()) {
		struct nb_time t = nb_time_min(client_conn_deadline(w.node[0].conn), client_conn_deadline(w.node[1].conn));

		if (nb_time_before(end, w.now))
			abort();
		if (w.nmail) {
			deliver(0);
			take_out(0);
			continue;
		}
		w.now = nb_time_before(w.now, t) ? t : nb_time_add_ms(w.now, 1);
		drain(0);
		drain(1);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nb_cur c = nb_cur(nb_bytes(data, size < 2000 ? size : 2000));

	start();
	while (nb_cur_left(&c))
		step(nb_cur_u8(&c), &c);
	must_connect();
	for (int i = 0; i < 2; i++) {
		client_conn_free(w.node[i].conn);
		if (w.node[i].demux.by_tag.count)
			abort();
		ice_demux_fini(&w.node[i].demux);
	}
	return 0;
}
