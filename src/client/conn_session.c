/* conn_session.c - see conn.h: one ICE agent per session with the other peer: its candidates and servers, what it
 * reports, and when a change of our network ends it. spec/peer-connection.md 1.6, 1.8, 1.9.
 * Tests: tests/unit/client_conn_test.c, tests/sim/client_conn_sim_test.c */
#include "client/conn_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define IDLE_MIN_MS 10000		/* where that was too rare, down to this */
#define ACCEPT_SRFLX_MS 200		/* with one of ours, which loses nothing when a better pair comes later */
#define ACCEPT_PRFLX_MS 300
#define ACCEPT_RELAY_MS 250
#define REPEAT_MS 250			/* after an ANSWER: candidates again, see run_repeat() */
#define LOOSE_MS 6000			/* a path whose session ended because somebody moved */
#define MAPPED_BONUS 1000		/* a port mapping's priority is that much above srflx (spec 1.6) */

/* ---- Candidates ---- */

/* The first reflexive address that STUN has found. */
static bool reflexive(const struct conn_session *s, struct nb_addr *out)
{
	for (unsigned i = 0; i < s->nannounce; i++) {
		const struct ice_candidate *own = &s->announce[i];

		if (own->type != ICE_SRFLX || own->at.addr.family != 4)
			continue;
		*out = own->at.addr;
		return true;
	}
	return false;
}

/* What the gateway forwards to us is one more reflexive candidate, to be preferred to STUN's: it lets in whom
 * we have not sent to. */
static void offer_mapping(struct client_conn *c, struct nb_time now)
{
	const struct client_network *net = c->cfg.net;
	struct ice_candidate cand = { .type = ICE_SRFLX, .at = net->mapped, .priority = ice_priority(ICE_SRFLX) + MAPPED_BONUS };

	if (!net->mapped.port)
		return;
	if (nb_addr_is_unspecified(&cand.at.addr) && !reflexive(c->session, &cand.at.addr))
		return;
	cand.related = (struct nb_endpoint){ { .family = cand.at.addr.family }, net->port };
	ice_add_local(c->session->agent, &cand, now);
}

/* Our side's candidates as the network is now; what the agent has already is no news to it. */
static void offer_network(struct client_conn *c, struct nb_time now)
{
	const struct client_network *net = c->cfg.net;
	struct conn_session *s = c->session;
	struct ice_candidate cand;

	for (size_t i = 0; i < net->nhosts; i++) {
		ice_host_candidate(&cand, &net->hosts[i], net->port);
		ice_add_local(s->agent, &cand, now);
	}
	offer_mapping(c, now);
	for (size_t i = 0; i < net->nstun; i++)
		ice_add_stun_server(s->agent, &net->stun[i], net->port, now);
	for (size_t i = 0; i < net->nreflexive; i++) {
		cand = (struct ice_candidate){ .type = ICE_SRFLX, .at = net->reflexive[i] };
		cand.related = (struct nb_endpoint){ { .family = cand.at.addr.family }, net->port };
		ice_add_local(s->agent, &cand, now);
	}
	for (size_t i = 0; s->turn && i < net->nrelayed; i++) {
		cand = (struct ice_candidate){ .type = ICE_RELAY, .via = (unsigned)i + 1, .at = net->relayed[i],
					       .priority = net->relayed_priority[i] };
		cand.related = (struct nb_endpoint){ { .family = cand.at.addr.family }, net->port };
		ice_add_local(s->agent, &cand, now);
	}
}

static bool has_allocation(const struct client_network *net)
{
	for (size_t i = 0; i < net->nrelayed; i++) {
		if (net->relayed[i].addr.family)
			return true;
	}
	return false;
}

static void push_permit(struct client_conn *c, const struct nb_addr *peer)
{
	client_conn_push(c, CLIENT_CONN_PERMIT)->remote.addr = *peer;
}

static void permit_peer(struct client_conn *c, const struct nb_addr *peer)
{
	struct conn_session *s = c->session;

	for (unsigned i = 0; i < s->npeers; i++) {
		if (nb_addr_eq(&s->peers[i], peer))
			return;
	}
	if (s->npeers == ICE_REMOTE_MAX)
		return;
	s->peers[s->npeers++] = *peer;
	if (s->turn && has_allocation(c->cfg.net))
		push_permit(c, peer);
}

void client_conn_add_candidate(struct client_conn *c, const struct ice_candidate *cand, struct nb_time now)
{
	if (ice_add_remote(c->session->agent, cand, now) != NB_E_ARG)
		permit_peer(c, &cand->at.addr);
}

static void announce(struct conn_session *s, const struct ice_candidate *cand)
{
	struct ice_candidate *p;

	if (s->nannounce == ICE_LOCAL_MAX)
		return;
	p = realloc(s->announce, (s->nannounce + 1) * sizeof *p);
	if (!p)
		return;
	s->announce = p;
	p[s->nannounce++] = *cand;
}

/* Stock makes its agent out of our ANSWER and throws away what comes before that is done, so the candidates
 * close behind the ANSWER may be lost, the only useful one among them. */
void client_conn_run_repeat(struct client_conn *c, struct nb_time now)
{
	if (!c->session || !nb_time_due(c->session->repeat_at, now))
		return;
	c->session->repeat_at = NB_TIME_NEVER;
	if (client_conn_is_loose(c))
		c->session->announced = 0;
}

/* ---- Begin and end ---- */

void client_conn_new_session_id(struct client_conn *c)
{
	c->cfg.random(c->cfg.random_ctx, c->session_id, sizeof c->session_id);
}

size_t client_conn_report_pairs(const struct ice_agent *a, struct ice_pair_report *out, size_t max)
{
	size_t n = 0;

	while (n < max && ice_pair_report(a, (unsigned)n, &out[n]))
		n++;
	return n;
}

/* What a pair had come to when its session ended. */
static void close_report(struct ice_pair_report *r)
{
	if (r->end == ICE_PAIR_UNANSWERED)
		r->end = ICE_PAIR_TIMED_OUT;
	else if (r->end == ICE_PAIR_SELECTED)
		r->end = ICE_PAIR_WAS_SELECTED;
	else if (r->end == ICE_PAIR_UNTRIED && r->note == ICE_NOTE_WAITS)
		r->note = ICE_NOTE_GIVEN_UP;
}

static void keep_report(struct client_conn *c)
{
	struct ice_pair_report all[CLIENT_PAIRS_MAX];
	size_t n = client_conn_report_pairs(c->session->agent, all, CLIENT_PAIRS_MAX);

	ice_candidate_counts(c->session->agent, &c->tried_locals, &c->tried_remotes);
	free(c->tried);
	c->tried = n ? malloc(n * sizeof *all) : NULL;
	c->ntried = c->tried ? n : 0;
	if (c->ntried)
		memcpy(c->tried, all, n * sizeof *all);
	for (size_t i = 0; i < c->ntried; i++)
		close_report(&c->tried[i]);
}

/* The agent goes, and with it both session ids: the next one is a new session (spec 1.3). */
void client_conn_drop_session(struct client_conn *c)
{
	struct conn_session *s = c->session;

	if (!s)
		return;
	keep_report(c);
	ice_demux_del(c->cfg.demux, s->agent);
	ice_free(s->agent);
	free(s->announce);
	free(s);
	c->session = NULL;
	client_conn_new_session_id(c);
}

void client_conn_end_session(struct client_conn *c, struct nb_time now)
{
	client_conn_drop_session(c);
	client_conn_lose_ice(c, now);
}

/* The session is of no use any more because we or the peer moved. WireGuard sends from where it is now
 * and answers to where it was heard: a direct path may well go on. It gets some time, until the next
 * session has found one. */
void client_conn_loosen(struct client_conn *c, struct nb_time now)
{
	if (c->ice_path != CLIENT_PATH_DIRECT) {
		client_conn_end_session(c, now);
		return;
	}
	client_conn_drop_session(c);
	c->endpoint_at = c->watch_at = c->punch_at = NB_TIME_NEVER;
	c->loose_until = nb_time_add_ms(now, LOOSE_MS);
	client_conn_schedule_offer(c, OFFER_AGAIN_MS, now);
}

static void set_timers(struct ice_config *cfg, const struct client_network *net)
{
	if (net->keepalive_ms)
		cfg->keepalive_ms = net->keepalive_ms;
	if (net->disconnected_ms)
		cfg->disconnected_ms = net->disconnected_ms;
	if (net->failed_ms)
		cfg->failed_ms = net->failed_ms;
	if (net->accept_relay_ms)
		cfg->accept_relay_ms = net->accept_relay_ms;
}

static struct ice_agent *new_agent(struct client_conn *c, const struct client_signal_msg *m, struct nb_time now)
{
	struct ice_agent *a;
	struct ice_config cfg;

	ice_config_default(&cfg);
	if (m->rare_checks) {
		cfg.idle_ms = c->idle_ms;
		cfg.accept_srflx_ms = ACCEPT_SRFLX_MS;
		cfg.accept_prflx_ms = ACCEPT_PRFLX_MS;
		cfg.accept_relay_ms = ACCEPT_RELAY_MS;
	}
	set_timers(&cfg, c->cfg.net);
	cfg.local_ufrag = c->ufrag;
	cfg.local_pwd = c->pwd;
	cfg.remote_ufrag = m->ufrag;
	cfg.remote_pwd = m->pwd;
	cfg.controlling = c->controller;
	cfg.relay_only = c->cfg.net->relay_only;
	cfg.random = c->cfg.random;
	cfg.random_ctx = c->cfg.random_ctx;
	cfg.user = c;
	a = ice_new(&cfg, now);
	if (a && ice_demux_add(c->cfg.demux, a)) {
		ice_free(a);
		return NULL;
	}
	return a;
}

void client_conn_begin_session(struct client_conn *c, const struct client_signal_msg *m, struct nb_time now)
{
	const struct client_network *net = c->cfg.net;
	struct conn_session *s = calloc(1, sizeof *s);

	if (!s)
		return;
	s->agent = new_agent(c, m, now);
	if (!s->agent) {
		free(s);
		return;
	}
	client_conn_copy_text(s->ufrag, sizeof s->ufrag, m->ufrag);
	s->repeat_at = m->type == CLIENT_SIGNAL_OFFER ? nb_time_add_ms(now, REPEAT_MS) : NB_TIME_NEVER;
	s->has_remote = m->has_session;
	memcpy(s->remote, m->session, sizeof s->remote);
	s->turn = net->relay_only || !(net->relay_url[0] || net->relay_configured) || !m->relay_url[0];
	c->session = s;
	client_conn_push(c, CLIENT_CONN_GATHER);
	offer_network(c, now);
	client_conn_use_early(c, m->ufrag, now);
}

/* ---- What the agent reports ---- */

/* Died while nobody used it: perhaps a NAT has forgotten us between two checks. */
void client_conn_note_idle_death(struct client_conn *c, struct nb_time now)
{
	if (c->ice_path && nb_time_diff(now, c->active) > 2 * ICE_ACTIVE_MS * NB_MS && c->idle_ms > IDLE_MIN_MS)
		c->idle_ms = c->idle_ms / 2 > IDLE_MIN_MS ? c->idle_ms / 2 : IDLE_MIN_MS;
}

/* ICE hears nothing. If WireGuard does, from another address, the peer has moved and not said so yet. */
static void session_died(struct client_conn *c, struct nb_time now)
{
	client_conn_note_idle_death(c, now);
	if (client_conn_heard_lately(c, now)) {
		client_conn_loosen(c, now);
		return;
	}
	client_conn_doubt_flaps(c, now);
	c->cause = "ICE got no answer any more";
	client_conn_end_session(c, now);
}

static void agent_event(struct client_conn *c, const struct ice_event *ev, struct nb_time now)
{
	struct conn_session *s = c->session;

	switch (ev->type) {
	case ICE_EV_CANDIDATE:
		announce(s, &ev->candidate);
		if (ev->candidate.type == ICE_SRFLX)
			offer_mapping(c, now);
		break;
	case ICE_EV_CONNECTED:
		client_conn_gain_ice(c, &ev->pair, now);
		break;
	case ICE_EV_SELECTED:
		client_conn_change_pair(c, &ev->pair);
		break;
	case ICE_EV_SILENT:
		if (c->relay == RELAY_UP)
			client_conn_path_died(c, now);
		break;
	case ICE_EV_DISCONNECTED:
	case ICE_EV_FAILED:
		session_died(c, now);
		break;
	default:
		break;
	}
}

/* After anything that may have moved the agent. */
void client_conn_pump(struct client_conn *c, struct nb_time now)
{
	struct ice_event ev;

	while (c->session && ice_event(c->session->agent, &ev))
		agent_event(c, &ev, now);
}

/* ---- Datagrams ---- */

struct client_conn *client_conn_find(const struct ice_demux *d, struct nb_bytes dgram)
{
	struct ice_agent *a = ice_demux_find(d, dgram);

	return a ? ice_user(a) : NULL;
}

int client_conn_input(struct client_conn *c, const struct nb_dgram *in, unsigned via, struct nb_time now)
{
	int err;

	c->now = now;
	if (!c->session)
		return NB_E_STATE;
	err = ice_input(c->session->agent, in, via, now);
	client_conn_pump(c, now);
	return err;
}

/* ---- The network changed ---- */

static bool announced(const struct conn_session *s, const struct nb_addr *host)
{
	for (unsigned i = 0; i < s->nannounce; i++) {
		if (s->announce[i].type == ICE_HOST && nb_addr_eq(&s->announce[i].at.addr, host))
			return true;
	}
	return false;
}

static bool present(const struct client_network *net, const struct nb_addr *host)
{
	for (size_t i = 0; i < net->nhosts; i++) {
		if (nb_addr_eq(&net->hosts[i], host))
			return true;
	}
	return false;
}

/* Has the session lost an address its path may use? */
static bool lost_address(const struct client_conn *c)
{
	const struct conn_session *s = c->session;
	bool direct = c->ice_path && !c->pair.via;

	for (unsigned i = 0; i < s->nannounce; i++) {
		const struct ice_candidate *own = &s->announce[i];

		if (own->type != ICE_HOST || present(c->cfg.net, &own->at.addr))
			continue;
		if (!direct || own->at.addr.family == c->pair.remote.at.addr.family)
			return true;
	}
	return false;
}

static bool same_addresses(const struct client_conn *c)
{
	const struct client_network *net = c->cfg.net;

	for (size_t i = 0; i < net->nhosts; i++) {
		if (!announced(c->session, &net->hosts[i]))
			return false;
	}
	return true;
}

/* Do the sockets' packets still leave as the session thinks they do? */
static bool session_survives(const struct client_conn *c)
{
	return c->session && !lost_address(c) && !same_addresses(c);
}

void client_conn_via_lost(struct client_conn *c, unsigned via, struct nb_time now)
{
	c->now = now;
	if (!c->session || !c->ice_path || c->pair.via != via)
		return;
	c->cause = "the TURN server does not know our allocation any more";
	client_conn_end_session(c, now);
	c->path_lost = true;
	client_conn_pump(c, now);
}

/* Nothing works and nothing is tried, but now there is something to offer. */
static void offer_allocation(struct client_conn *c, struct nb_time now)
{
	if (c->path_lost && !c->ice_path && has_allocation(c->cfg.net))
		c->offer_at = nb_time_min(c->offer_at, now);
}

void client_conn_network_changed(struct client_conn *c, bool hard, struct nb_time now)
{
	c->now = now;
	if (!c->open)
		return;
	client_conn_pump(c, now);
	if (hard)
		c->flaps = 0;
	if (hard && !session_survives(c)) {
		c->cause = "our network changed";
		client_conn_loosen(c, now);
		client_conn_show_up(c);
		c->offer_at = now;
		c->offer_ms = OFFER_AGAIN_MS;
		client_conn_run_guard(c, now);
	} else if (c->session) {
		offer_network(c, now);
		for (unsigned i = 0; c->session->turn && has_allocation(c->cfg.net) && i < c->session->npeers; i++)
			push_permit(c, &c->session->peers[i]);
	} else {
		offer_allocation(c, now);
	}
	client_conn_pump(c, now);
}

/* ---- After standing still ---- */

/* Both ends' patience with silence, as the other side has it; less is for ICE to find out. */
static bool outslept(const struct client_conn *c, int64_t slept_ns)
{
	struct ice_config cfg;

	ice_config_default(&cfg);
	set_timers(&cfg, c->cfg.net);
	return slept_ns > cfg.disconnected_ms * NB_MS;
}

void client_conn_woke(struct client_conn *c, int64_t slept_ns, struct nb_time now)
{
	c->now = now;
	if (!c->open)
		return;
	if (c->session && !outslept(c, slept_ns)) {
		ice_active(c->session->agent, now);
		ice_probe(c->session->agent, now);
		return;
	}
	/* NATs may have kept us in mind: WireGuard tries where the path was, and the peer's roams. */
	client_conn_loosen(c, now);
	client_conn_show_up(c);
	c->offer_at = now;
	c->offer_ms = OFFER_AGAIN_MS;
	client_conn_run_guard(c, now);
}
