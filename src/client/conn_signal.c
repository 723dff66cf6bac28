/* conn_signal.c - see conn.h: what a connection says to the other peer and makes of what it hears: offers, answers,
 * candidates that come early, and the guard that offers again. spec/peer-connection.md 1.1-1.5.
 * Tests: tests/unit/client_conn_test.c, tests/sim/client_conn_sim_test.c */
#include "client/conn_int.h"

#include <stdlib.h>
#include <string.h>

#define OFFER_PARTIAL_CAP_MS 600000	/* where it ends while one of two paths works */
#define OFFER_CAP_LOST_MS 8000		/* the same for five minutes after a path was lost */
#define OFFER_RETURN_CAP_MS 14000	/* relayed, for five minutes after a direct path was lost */
#define LOST_LATELY_MS 300000
#define EARLY_MS 10000

/* ---- What we say ---- */

int64_t client_conn_random_between(struct client_conn *c, int64_t low, int64_t high)
{
	uint32_t r;

	c->cfg.random(c->cfg.random_ctx, &r, sizeof r);
	return low + (int64_t)(r % (uint64_t)(high - low + 1));
}

void client_conn_push_signal(struct client_conn *c, enum client_signal_type type)
{
	client_conn_push(c, CLIENT_CONN_SEND)->signal = type;
}

/* An OFFER or ANSWER as of now (spec 1.1). An ANSWER has no credentials when the peer sent none, as
 * stock does it. An OFFER always says what we can do: two sides that each wait for the other's
 * credentials would wait for good. */
void client_conn_describe(const struct client_conn *c, struct client_signal_msg *m)
{
	const struct client_network *net = c->cfg.net;

	m->nat = net->nat;
	memset(&m->nat.mapped, 0, sizeof m->nat.mapped);	/* candidates say where we are */
	m->relay_only = net->relay_only;
	if (m->type == CLIENT_SIGNAL_NAT)
		return;
	if (!net->force_relay && (c->peer_ice || m->type == CLIENT_SIGNAL_OFFER)) {
		memcpy(m->ufrag, c->ufrag, sizeof c->ufrag);
		memcpy(m->pwd, c->pwd, sizeof c->pwd);
		memcpy(m->session, c->session_id, sizeof m->session);
		m->has_session = true;
	}
	m->rare_checks = true;
	m->path_lost = c->path_lost && m->type == CLIENT_SIGNAL_OFFER;
	m->wg_port = net->port;
	client_conn_copy_text(m->version, sizeof m->version, net->version);
	client_conn_copy_text(m->relay_url, sizeof m->relay_url, net->relay_url);
	if (m->relay_url[0])
		m->relay_ip = net->relay_ip;
}

/* Offers and answers are queued, so candidates never come before them. */
bool client_conn_take_candidate(struct client_conn *c, struct client_conn_event *ev)
{
	struct conn_session *s = c->session;

	if (!s || s->announced == s->nannounce)
		return false;
	ev->type = CLIENT_CONN_SEND;
	ev->signal.type = CLIENT_SIGNAL_CANDIDATE;
	ice_candidate_format(ev->signal.candidate, &s->announce[s->announced++]);
	return true;
}

/* ---- The reconnect guard (spec 1.5) ---- */

/* A path that was lost lately is likely to come back; a peer that never had one is likely to be off. */
static int64_t offer_cap(const struct client_conn *c, struct nb_time now)
{
	bool lost = c->path == CLIENT_PATH_NONE && c->pair.remote.at.addr.family;

	return lost && nb_time_diff(now, c->changed) < LOST_LATELY_MS * NB_MS ? OFFER_CAP_LOST_MS : c->offer_cap_ms;
}

/* The next OFFER after ms, ten percent more or less, and then twice as long. */
void client_conn_schedule_offer(struct client_conn *c, int64_t ms, struct nb_time now)
{
	bool lost = c->lost.ns && nb_time_diff(now, c->lost) < LOST_LATELY_MS * NB_MS;
	int64_t cap = c->path == CLIENT_PATH_NONE ? offer_cap(c, now) : lost ? OFFER_RETURN_CAP_MS : OFFER_PARTIAL_CAP_MS;

	c->offer_at = nb_time_add_ms(now, client_conn_random_between(c, ms - ms / 10, ms + ms / 10));
	c->offer_ms = ms * 2 < cap ? ms * 2 : cap;
}

/* Has the peer's agent been heard? If not, our ANSWER may be lost: an OFFER with the same session does
 * no harm where it arrived. */
static bool peer_heard(const struct conn_session *s)
{
	const struct ice_stats *st = ice_stats(s->agent);

	return st->requests_received || st->responses_received;
}

static bool ice_missing(const struct client_conn *c)
{
	return !c->cfg.net->force_relay && c->peer_ice && client_conn_is_loose(c) && !(c->session && peer_heard(c->session));
}

/* Offers until there is a path; rarer and rarer while one of two is missing (stock makes three and then one each
 * hour); none when all is there. */
void client_conn_run_guard(struct client_conn *c, struct nb_time now)
{
	if (!c->open || !nb_time_due(c->offer_at, now))
		return;
	if (!client_conn_is_loose(c) && !client_conn_relay_missing(c)) {
		c->offer_at = NB_TIME_NEVER;
		return;
	}
	if (c->path == CLIENT_PATH_NONE ? !c->session || !peer_heard(c->session) || client_conn_relay_missing(c) :
					  ice_missing(c) || client_conn_relay_missing(c))
		client_conn_push_signal(c, CLIENT_SIGNAL_OFFER);
	client_conn_schedule_offer(c, c->offer_ms, now);
}

/* Something was lost, or came back. */
void client_conn_guard_event(struct client_conn *c, struct nb_time now)
{
	if (c->open)
		client_conn_schedule_offer(c, OFFER_AGAIN_MS, now);
}

void client_conn_signal_ready(struct client_conn *c, struct nb_time now)
{
	c->now = now;
	if (!c->open || (!client_conn_is_loose(c) && !client_conn_relay_missing(c)))
		return;
	c->offer_at = now;
	c->offer_ms = OFFER_AGAIN_MS;
}

/* What our NAT does is known seconds after the first offers. */
void client_conn_nat_known(struct client_conn *c, struct nb_time now)
{
	c->now = now;
	if (c->open && c->peer_ours && !ice_nat_same(&c->cfg.net->nat, &c->told_nat))
		client_conn_push_signal(c, CLIENT_SIGNAL_NAT);
}

/* ---- Candidates that come early ---- */

void client_conn_drop_early(struct client_conn *c)
{
	free(c->early);
	c->early = NULL;
	c->nearly = 0;
	c->early_until = NB_TIME_NEVER;
}

static void remember_early(struct client_conn *c, const struct ice_candidate *cand, struct nb_time now)
{
	if (!c->early)
		c->early = calloc(CLIENT_EARLY_MAX, sizeof *c->early);
	if (!c->early)
		return;
	if (c->nearly == CLIENT_EARLY_MAX)
		memmove(c->early, c->early + 1, --c->nearly * sizeof *c->early);
	c->early[c->nearly++] = (struct conn_early){ *cand, now };
	c->early_until = nb_time_add_ms(now, EARLY_MS);
}

/* Candidates that overtook their OFFER or ANSWER. Those of an earlier life of the peer carry another
 * ufrag. */
void client_conn_use_early(struct client_conn *c, const char *ufrag, struct nb_time now)
{
	for (unsigned i = 0; i < c->nearly; i++) {
		const struct conn_early *e = &c->early[i];

		if (nb_time_diff(now, e->at) > EARLY_MS * NB_MS)
			continue;
		if (!e->c.ufrag[0] || strcmp(e->c.ufrag, ufrag) == 0)
			client_conn_add_candidate(c, &e->c, now);
	}
}

/* ---- What the peer says ---- */

/* The peer begins a new session. The same name: it moved or lost us, and its keys are still good. Another
 * one: it was restarted. */
static void end_for_new(struct client_conn *c, const struct client_signal_msg *m, struct nb_time now)
{
	bool restarted = strcmp(c->session->ufrag, m->ufrag) != 0;

	c->cause = m->path_lost ? "the other agent hears nothing on ICE's path" : restarted ? "the other agent was restarted" :
		   "the other agent moved, or lost us";
	if (m->path_lost) {
		client_conn_doubt_flaps(c, now);
		c->died = now;
	} else if (!restarted && client_conn_heard_lately(c, now)) {
		client_conn_loosen(c, now);
		return;
	}
	if (restarted && c->ice_path && c->controller)
		client_conn_reset_keys(c);
	client_conn_end_session(c, now);
}

/* The ICE part of an OFFER or ANSWER: the table in spec 1.3. */
static void ice_message(struct client_conn *c, const struct client_signal_msg *m, struct nb_time now)
{
	struct conn_session *s = c->session;

	if (s) {
		if (!m->has_session)
			return;
		if (s->has_remote && memcmp(s->remote, m->session, sizeof s->remote) == 0) {
			if (m->type == CLIENT_SIGNAL_OFFER && client_conn_is_loose(c))
				s->announced = 0;	/* it has missed our ANSWER, so our candidates too */
			return;
		}
		end_for_new(c, m, now);
	}
	client_conn_begin_session(c, m, now);
}

static void on_candidate(struct client_conn *c, const struct client_signal_msg *m, struct nb_time now)
{
	struct ice_candidate cand;

	if (ice_candidate_parse(&cand, nb_bytes_str(m->candidate)))
		return;
	if (c->session)
		client_conn_add_candidate(c, &cand, now);
	/* Even with an agent: the candidate may belong to the session whose OFFER it has overtaken. */
	remember_early(c, &cand, now);
}

/* A peer that comes with other credentials has started anew, and its WireGuard with it. Where the relay did not notice
 * (it took the new connection for the old one) the controlling side begins again. */
static void note_restart(struct client_conn *c, const struct client_signal_msg *m)
{
	bool other = m->ufrag[0] && c->peer_ufrag[0] && strcmp(c->peer_ufrag, m->ufrag) != 0;

	if (m->ufrag[0])
		client_conn_copy_text(c->peer_ufrag, sizeof c->peer_ufrag, m->ufrag);
	if (other)
		c->peer_relay[0] = 0;
	if (!other || !c->controller || c->path != CLIENT_PATH_RELAY)
		return;
	client_conn_reset_keys(c);
	client_conn_push_endpoint(c, true);
}

static void note_nat(struct client_conn *c, const struct client_signal_msg *m)
{
	c->peer_nat = m->nat;
	c->peer_relay_only = m->relay_only;
}

static void on_description(struct client_conn *c, const struct client_signal_msg *m, struct nb_time now)
{
	c->peer_ice = m->ufrag[0] && m->pwd[0];
	c->described = true;
	c->peer_ours = m->rare_checks;
	note_nat(c, m);
	c->peer_port = m->wg_port;
	note_restart(c, m);
	/* A peer that says it is on no relay is on its way back to the one it was on: we meet it there. */
	if (m->relay_url[0]) {
		client_conn_copy_text(c->peer_relay, sizeof c->peer_relay, m->relay_url);
		c->peer_relay_ip = m->relay_ip;
	}
	client_conn_open_relay(c, now);
	if (!c->peer_ice) {
		c->cause = "the other agent uses relays only";
		client_conn_end_session(c, now);
	} else if (!c->cfg.net->force_relay) {
		ice_message(c, m, now);
	}
	if (m->type == CLIENT_SIGNAL_OFFER)
		client_conn_push_signal(c, CLIENT_SIGNAL_ANSWER);
}

void client_conn_signal(struct client_conn *c, const struct client_signal_msg *m, struct nb_time now)
{
	if (m->type == CLIENT_SIGNAL_GO_IDLE)
		return;		/* without lazy connections it means nothing (spec 3.5) */
	if (m->type == CLIENT_SIGNAL_NAT) {
		note_nat(c, m);
		return;
	}
	client_conn_open(c, now);
	c->now = now;
	if (m->type == CLIENT_SIGNAL_CANDIDATE)
		on_candidate(c, m, now);
	else if (m->type == CLIENT_SIGNAL_OFFER || m->type == CLIENT_SIGNAL_ANSWER)
		on_description(c, m, now);
	client_conn_pump(c, now);
}
