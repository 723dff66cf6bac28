/* ice_sim_test.c - two ICE agents over a virtual network with a fake clock: every NAT pairing, loss,
 * reordering, late starts, relays, same LAN, IPv6, role conflicts, a path that is cut. Each run must
 * end as spec/peer-connection.md 6 says, within the time stated here. */
#include "ice/ice.h"

#include "ice/stun.h"
#include "sim/sim_net.h"

#include <stdio.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

struct side {
	struct ice_agent *agent;
	struct ice_demux demux;
	char ufrag[ICE_UFRAG_LEN + 1], pwd[ICE_PWD_LEN + 1];
	bool controlling;
	struct nb_time start;
	struct ice_candidate early[ICE_REMOTE_MAX];	/* arrived before the agent */
	unsigned nearly;
	struct nb_time connected;
	unsigned events[ICE_EV_FAILED + 1];
	bool got_data;
};

struct world {
	struct sim net;
	struct side side[2];
	struct nb_time now;
	bool relays;
	uint32_t seed;
};

static void world_init(struct world *w, uint32_t seed)
{
	uint8_t key[16] = { 1 };

	memset(w, 0, sizeof *w);
	w->seed = seed;
	w->now.ns = 1000 * NB_SEC;
	sim_init(&w->net, seed);
	for (int i = 0; i < 2; i++) {
		ice_make_credentials(w->side[i].ufrag, w->side[i].pwd, sim_random_bytes, &w->net);
		ice_demux_init(&w->side[i].demux, key, 4);
		w->side[i].start = w->now;
	}
	w->side[0].controlling = sim_below(&w->net, 2);
	w->side[1].controlling = !w->side[0].controlling;
}

static void world_fini(struct world *w)
{
	for (int i = 0; i < 2; i++) {
		ice_free(w->side[i].agent);
		ice_demux_fini(&w->side[i].demux);
	}
	sim_fini(&w->net);
}

static void add_locals(struct world *w, int i)
{
	struct sim_host *h = &w->net.hosts[i];
	struct ice_agent *a = w->side[i].agent;
	struct ice_candidate c;

	ice_host_candidate(&c, &h->addr4, SIM_PORT_NUMBER);
	assert_int_equal(ice_add_local(a, &c, w->now), 0);
	if (h->addr6.family) {
		ice_host_candidate(&c, &h->addr6, SIM_PORT_NUMBER);
		assert_int_equal(ice_add_local(a, &c, w->now), 0);
	}
	assert_int_equal(ice_add_stun_server(a, &w->net.stun, SIM_PORT_NUMBER, w->now), 0);
	if (w->relays) {
		struct ice_candidate r = { .type = ICE_RELAY, .via = 1, .at = h->relayed };

		assert_int_equal(ice_add_local(a, &r, w->now), 0);
	}
}

static void start(struct world *w, int i)
{
	struct side *me = &w->side[i], *other = &w->side[!i];
	struct ice_config cfg;

	ice_config_default(&cfg);
	cfg.local_ufrag = me->ufrag;
	cfg.local_pwd = me->pwd;
	cfg.remote_ufrag = other->ufrag;
	cfg.remote_pwd = other->pwd;
	cfg.controlling = me->controlling;
	cfg.random = sim_random_bytes;
	cfg.random_ctx = &w->net;
	me->agent = ice_new(&cfg, w->now);
	assert_non_null(me->agent);
	assert_int_equal(ice_demux_add(&me->demux, me->agent), 0);
	add_locals(w, i);
	for (unsigned k = 0; k < me->nearly; k++)
		ice_add_remote(me->agent, &me->early[k], w->now);
}

static void signal_in(struct world *w, const struct sim_packet *p)
{
	struct side *me = &w->side[p->host];
	struct ice_candidate c;

	assert_int_equal(ice_candidate_parse(&c, nb_bytes(p->p, p->n)), 0);
	if (me->agent)
		ice_add_remote(me->agent, &c, w->now);
	else
		me->early[me->nearly++] = c;
}

static void datagram_in(struct world *w, struct sim_packet *p)
{
	struct side *me = &w->side[p->host];
	struct nb_dgram d = { .from = p->from, .p = p->p, .n = p->n };

	if (p->n == 4 && memcmp(p->p, "data", 4) == 0) {
		me->got_data = true;
		return;
	}
	assert_true(ice_is_stun(nb_bytes(p->p, p->n)));
	if (!me->agent || ice_demux_find(&me->demux, nb_bytes(p->p, p->n)) != me->agent)
		return;
	ice_input(me->agent, &d, p->via, w->now);
}

static void drain(struct world *w, int i)
{
	struct side *me = &w->side[i];
	uint8_t mem[ICE_DGRAM_MAX];
	struct nb_dgram out = { .p = mem, .cap = sizeof mem };
	char text[ICE_CANDIDATE_TEXT];
	struct ice_event ev;
	unsigned via, rounds = 0;

	while (ice_output(me->agent, &out, &via, w->now)) {
		sim_send(&w->net, (unsigned)i, via, &out.to, out.p, out.n, w->now);
		assert_true(++rounds < 300);
	}
	while (ice_event(me->agent, &ev)) {
		me->events[ev.type]++;
		if (ev.type == ICE_EV_CANDIDATE) {
			ice_candidate_format(text, &ev.candidate);
			sim_signal(&w->net, !i, text, strlen(text), w->now);
		} else if (ev.type == ICE_EV_CONNECTED && !me->connected.ns) {
			me->connected = w->now;
		}
	}
}

static struct nb_time next_time(const struct world *w)
{
	struct nb_time t = sim_deadline(&w->net);

	for (int i = 0; i < 2; i++)
		t = nb_time_min(t, w->side[i].agent ? ice_deadline(w->side[i].agent) : w->side[i].start);
	return t;
}

static void run_until(struct world *w, struct nb_time end, bool (*done)(const struct world *))
{
	struct sim_packet p;
	struct nb_time t;

	while (!done || !done(w)) {
		t = next_time(w);
		if (nb_time_before(end, t)) {
			w->now = end;
			return;
		}
		if (nb_time_before(w->now, t))
			w->now = t;
		for (int i = 0; i < 2; i++) {
			if (!w->side[i].agent && nb_time_due(w->side[i].start, w->now))
				start(w, i);
		}
		while (sim_receive(&w->net, &p, w->now)) {
			if (p.kind == SIM_SIGNAL)
				signal_in(w, &p);
			else
				datagram_in(w, &p);
		}
		for (int i = 0; i < 2; i++) {
			if (w->side[i].agent)
				drain(w, i);
		}
	}
}

static bool both_connected(const struct world *w)
{
	return w->side[0].connected.ns && w->side[1].connected.ns;
}

static bool any_failed(const struct world *w)
{
	return w->side[0].events[ICE_EV_FAILED] && w->side[1].events[ICE_EV_FAILED];
}

static void describe(const struct world *w, const char *what)
{
	print_message("%s: seed %u nat %d/%d delay %u+%u loss %u%% controlling %d relays %d\n", what, w->seed,
		      w->net.lans[w->net.hosts[0].lan].nat, w->net.lans[w->net.hosts[1].lan].nat,
		      w->net.delay_ms, w->net.jitter_ms, w->net.loss_pct, w->side[0].controlling ? 0 : 1,
		      w->relays);
}

static bool relayed(const struct world *w, int i)
{
	struct ice_pair_info info;

	assert_true(ice_selected(w->side[i].agent, &info));
	return info.local.type == ICE_RELAY || info.remote.type == ICE_RELAY;
}

/* What is sent on each side's selected path arrives at the other side. */
static void data_flows(struct world *w)
{
	struct ice_pair_info info;

	for (int i = 0; i < 2; i++) {
		for (int k = 0; k < 20; k++) {	/* loss */
			assert_true(ice_selected(w->side[i].agent, &info));
			sim_send(&w->net, (unsigned)i, info.via, &info.remote.at, "data", 4, w->now);
		}
	}
	run_until(w, nb_time_add_ms(w->now, 3000), NULL);
	for (int i = 0; i < 2; i++) {
		if (!w->side[i].got_data)
			describe(w, "no data");
		assert_true(w->side[i].got_data);
	}
}

/* The matrix of spec/peer-connection.md 6. */
static bool direct_possible(enum sim_nat a, enum sim_nat b)
{
	return !((a == SIM_SYMMETRIC && b >= SIM_PORT) || (b == SIM_SYMMETRIC && a >= SIM_PORT));
}

static void connect_within(struct world *w, int64_t ms)
{
	run_until(w, nb_time_add_ms(w->now, ms), both_connected);
	if (!both_connected(w))
		describe(w, "not connected");
	assert_true(both_connected(w));
}

/* Every NAT pairing without loss: the expected path, within 1 s and 6 one-way delays (2.5 s more when
 * a relay has to be waited for). */
static void nat_matrix(void **state)
{
	struct world w;

	(void)state;
	for (uint32_t seed = 1; seed <= 300; seed++) {
		enum sim_nat a = (enum sim_nat)(seed % SIM_NATS), b = (enum sim_nat)(seed / SIM_NATS % SIM_NATS);
		bool direct = direct_possible(a, b);

		world_init(&w, seed);
		sim_add_host(&w.net, sim_add_lan(&w.net, a), false);
		sim_add_host(&w.net, sim_add_lan(&w.net, b), false);
		w.net.delay_ms = sim_below(&w.net, 100);
		w.net.jitter_ms = sim_below(&w.net, 20);
		w.net.signal_ms = 20 + sim_below(&w.net, 100);
		w.relays = !direct || sim_below(&w.net, 2);
		if (w.relays) {
			sim_allocate(&w.net, 0);
			sim_allocate(&w.net, 1);
		}
		connect_within(&w, 1000 + 6 * (w.net.delay_ms + w.net.jitter_ms) + 2 * w.net.signal_ms +
				       (direct ? 0 : 2500));
		for (int i = 0; i < 2; i++) {
			if (relayed(&w, i) == direct)
				describe(&w, "wrong path");
			assert_int_equal(relayed(&w, i), !direct);
		}
		data_flows(&w);
		world_fini(&w);
	}
}

/* Loss up to 25 %, reordering, one side up to 1.5 s late: connected within 9 s. */
static void loss_and_late_start(void **state)
{
	struct world w;

	(void)state;
	for (uint32_t seed = 1000; seed < 1300; seed++) {
		enum sim_nat a, b;

		world_init(&w, seed);
		a = (enum sim_nat)sim_below(&w.net, SIM_NATS);
		b = (enum sim_nat)sim_below(&w.net, SIM_NATS);
		sim_add_host(&w.net, sim_add_lan(&w.net, a), sim_below(&w.net, 4) == 0);
		sim_add_host(&w.net, sim_add_lan(&w.net, b), sim_below(&w.net, 4) == 0);
		w.net.delay_ms = sim_below(&w.net, 150);
		w.net.jitter_ms = sim_below(&w.net, 100);
		w.net.loss_pct = sim_below(&w.net, 26);
		w.net.signal_ms = 20;
		w.net.signal_jitter_ms = 300;
		w.side[sim_below(&w.net, 2)].start = nb_time_add_ms(w.now, sim_below(&w.net, 1500));
		w.relays = true;
		sim_allocate(&w.net, 0);
		sim_allocate(&w.net, 1);
		connect_within(&w, 9000);
		data_flows(&w);
		/* and it stays so */
		run_until(&w, nb_time_add_ms(w.now, 20000), NULL);
		assert_int_equal(w.side[0].events[ICE_EV_FAILED] + w.side[1].events[ICE_EV_FAILED], 0);
		world_fini(&w);
	}
}

/* Behind the same NAT, which does not hairpin: host candidates. */
static void same_lan(void **state)
{
	struct ice_pair_info info;
	struct world w;

	(void)state;
	for (uint32_t seed = 2000; seed < 2020; seed++) {
		unsigned lan;

		world_init(&w, seed);
		lan = sim_add_lan(&w.net, (enum sim_nat)(1 + seed % 4));
		sim_add_host(&w.net, lan, false);
		sim_add_host(&w.net, lan, false);
		w.net.delay_ms = 1;
		w.net.signal_ms = 10;
		connect_within(&w, 200);
		assert_true(ice_selected(w.side[0].agent, &info));
		assert_int_equal(info.remote.type, ICE_HOST);
		assert_true(info.rtt_ns >= 2 * NB_MS && info.rtt_ns < 10 * NB_MS);
		data_flows(&w);
		world_fini(&w);
	}
}

/* IPv6 has no NAT here: two symmetric NATs still connect directly. */
static void ipv6_saves(void **state)
{
	struct ice_pair_info info;
	struct world w;

	(void)state;
	world_init(&w, 3000);
	sim_add_host(&w.net, sim_add_lan(&w.net, SIM_SYMMETRIC), true);
	sim_add_host(&w.net, sim_add_lan(&w.net, SIM_SYMMETRIC), true);
	w.net.delay_ms = 20;
	connect_within(&w, 1000);
	assert_true(ice_selected(w.side[1].agent, &info));
	assert_int_equal(info.remote.at.addr.family, 6);
	data_flows(&w);
	world_fini(&w);
}

/* Both sides with the same role: the tie-breakers settle it. */
static void role_conflict(void **state)
{
	struct world w;

	(void)state;
	for (uint32_t seed = 4000; seed < 4040; seed++) {
		world_init(&w, seed);
		w.side[0].controlling = w.side[1].controlling = seed & 1;
		sim_add_host(&w.net, sim_add_lan(&w.net, SIM_PORT), false);
		sim_add_host(&w.net, sim_add_lan(&w.net, SIM_OPEN), false);
		w.net.delay_ms = sim_below(&w.net, 80);
		w.net.loss_pct = seed % 3 ? 0 : 10;
		connect_within(&w, seed % 3 ? 2000 : 6000);
		assert_int_equal(ice_is_controlling(w.side[0].agent) + ice_is_controlling(w.side[1].agent), 1);
		data_flows(&w);
		world_fini(&w);
	}
}

/* A path that is cut: disconnected after 6 s, failed after 12; cut for 8 s only: back again. */
static void cut(void **state)
{
	struct world w;
	struct nb_time at;

	(void)state;
	for (int forever = 0; forever < 2; forever++) {
		world_init(&w, 5000 + (uint32_t)forever);
		sim_add_host(&w.net, sim_add_lan(&w.net, SIM_OPEN), false);
		sim_add_host(&w.net, sim_add_lan(&w.net, SIM_FULL_CONE), false);
		w.net.delay_ms = 10;
		connect_within(&w, 2000);
		run_until(&w, nb_time_add_ms(w.now, 60000), NULL);
		assert_int_equal(w.side[0].events[ICE_EV_DISCONNECTED], 0);
		w.net.cut = true;
		at = w.now;
		run_until(&w, nb_time_add_ms(at, 8000), NULL);
		for (int i = 0; i < 2; i++) {
			assert_int_equal(w.side[i].events[ICE_EV_DISCONNECTED], 1);
			assert_int_equal(ice_state(w.side[i].agent), ICE_DISCONNECTED);
		}
		w.net.cut = forever;
		run_until(&w, nb_time_add_ms(at, 13000), NULL);
		for (int i = 0; i < 2; i++)
			assert_int_equal(ice_state(w.side[i].agent), forever ? ICE_FAILED : ICE_CONNECTED);
		world_fini(&w);
	}
}

/* Nothing gets through at all: failed after 12 s, and no endless traffic until then. */
static void no_path(void **state)
{
	struct world w;
	struct nb_time from;

	(void)state;
	world_init(&w, 6000);
	sim_add_host(&w.net, sim_add_lan(&w.net, SIM_SYMMETRIC), false);
	sim_add_host(&w.net, sim_add_lan(&w.net, SIM_SYMMETRIC), false);
	from = w.now;
	run_until(&w, nb_time_add_ms(w.now, 20000), any_failed);
	assert_true(any_failed(&w));
	assert_true(nb_time_diff(w.now, from) >= 12 * NB_SEC && nb_time_diff(w.now, from) < 13 * NB_SEC);
	for (int i = 0; i < 2; i++) {
		assert_true(ice_stats(w.side[i].agent)->checks_sent < 80);
		assert_true(nb_time_is_never(ice_deadline(w.side[i].agent)));
	}
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nat_matrix), cmocka_unit_test(loss_and_late_start), cmocka_unit_test(same_lan),
		cmocka_unit_test(ipv6_saves), cmocka_unit_test(role_conflict), cmocka_unit_test(cut),
		cmocka_unit_test(no_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
