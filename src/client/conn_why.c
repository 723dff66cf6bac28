/* conn_why.c - see conn.h: what a connection tells people: its state, the pairs that were tried, what its path was and
 * became, and the facts of the one sentence (why.h) that says why it is direct, relayed or not there.
 * Tests: tests/unit/client_conn_test.c, tests/unit/client_why_test.c */
#include "client/conn_int.h"

#include <stdlib.h>
#include <string.h>

#include "client/why.h"

/* ---- Pairs ---- */

size_t client_conn_pairs(const struct client_conn *c, struct ice_pair_report *out, size_t max)
{
	size_t n = c->session ? client_conn_report_pairs(c->session->agent, out, max) : 0;

	if (n)
		return n;
	n = c->ntried < max ? c->ntried : max;
	if (n)
		memcpy(out, c->tried, n * sizeof *out);
	return n;
}

size_t client_conn_pruned(const struct client_conn *c, struct ice_pair_report *out, size_t max)
{
	size_t n = 0;

	while (c->session && n < max && ice_pruned_report(c->session->agent, (unsigned)n, &out[n]))
		n++;
	return n;
}

/* ---- One sentence ---- */

static void count_pairs(const struct client_conn *c, struct client_why *w)
{
	struct ice_pair_report pairs[CLIENT_PAIRS_MAX];
	size_t n = client_conn_pairs(c, pairs, CLIENT_PAIRS_MAX);
	const struct nb_addr *mine = &c->cfg.net->nat.mapped.addr;

	for (size_t i = 0; i < n; i++) {
		const struct ice_pair_report *p = &pairs[i];

		if (p->local_type == ICE_RELAY || p->remote_type == ICE_RELAY)
			continue;
		w->direct++;
		w->learned |= p->remote_type == ICE_PRFLX;
		if (p->remote_type == ICE_SRFLX && nb_addr_eq(&p->remote.addr, mine))
			w->shared = *mine;
	}
}

static void count_candidates(const struct client_conn *c, struct client_why *w)
{
	w->session = c->session || c->tried_locals || c->tried_remotes;
	w->locals = c->tried_locals;
	w->remotes = c->tried_remotes;
	if (!c->session)
		return;
	ice_candidate_counts(c->session->agent, &w->locals, &w->remotes);
	w->checking = ice_state(c->session->agent) == ICE_CHECKING;
}

void client_conn_why(const struct client_conn *c, char out[CLIENT_WHY_MAX])
{
	const struct client_network *net = c->cfg.net;
	struct client_why w = {
		.open = c->open, .path = c->path, .loose = !nb_time_is_never(c->loose_until),
		.flaps = c->path == CLIENT_PATH_RELAY && c->ice_path ? c->flaps : 0,
		.local_type = c->pair.local.type, .remote_type = c->pair.remote.type, .remote = c->pair.remote.at,
		.force_relay = net->force_relay, .relay_only = net->relay_only, .described = c->described,
		.peer_ice = c->peer_ice, .peer_relay_only = c->peer_relay_only, .peer_ours = c->peer_ours,
		.here = net->nat, .there = c->peer_nat, .blacklisted = net->blacklisted,
		.relay_configured = net->relay_configured, .relay_home = net->relay_url[0], .relay_peer = c->peer_relay[0],
		.relay_up = c->relay == RELAY_UP,
	};

	count_pairs(c, &w);
	count_candidates(c, &w);
	client_why_text(out, &w);
}

/* ---- History ---- */

void client_conn_note_path(struct client_conn *c, struct nb_time now)
{
	struct client_conn_step *s;

	if (!c->steps)
		c->steps = calloc(CLIENT_STEPS_MAX, sizeof *c->steps);
	if (!c->steps)
		return;
	if (c->nsteps == CLIENT_STEPS_MAX) {
		c->steps_at = (c->steps_at + 1) % CLIENT_STEPS_MAX;
		c->nsteps--;
	}
	s = &c->steps[(c->steps_at + c->nsteps++) % CLIENT_STEPS_MAX];
	*s = (struct client_conn_step){ .at = now, .path = c->path, .why = c->cause ? c->cause : "" };
	if (c->path != CLIENT_PATH_DIRECT && c->path != CLIENT_PATH_TURN)
		return;
	s->local_type = c->pair.local.type;
	s->remote_type = c->pair.remote.type;
	s->remote = c->pair.remote.at;
}

size_t client_conn_steps(const struct client_conn *c, struct client_conn_step *out, size_t max)
{
	size_t n = c->nsteps < max ? c->nsteps : max;

	for (size_t i = 0; i < n; i++)
		out[i] = c->steps[(c->steps_at + c->nsteps - n + i) % CLIENT_STEPS_MAX];
	return n;
}

/* ---- The other side ---- */

void client_conn_peer(const struct client_conn *c, struct client_conn_peer *out)
{
	*out = (struct client_conn_peer){ .described = c->described, .ours = c->peer_ours, .ice = c->peer_ice,
					  .relay_only = c->peer_relay_only, .nat = c->peer_nat };
	client_conn_copy_text(out->relay_url, sizeof out->relay_url, c->peer_relay);
}

const char *client_conn_relay_state(const struct client_conn *c, const char **url)
{
	static const char *const words[] = { "none", "opening", "up" };

	*url = c->relay == NO_RELAY ? "" : c->relay_url;
	return words[c->relay];
}

/* ---- Status ---- */

void client_conn_status(const struct client_conn *c, struct client_conn_status *out)
{
	struct ice_pair_info live;

	*out = (struct client_conn_status){
		.connected = c->path != CLIENT_PATH_NONE,
		.connecting = c->open && c->path == CLIENT_PATH_NONE,
		.path = c->path,
		.changed = c->changed,
	};
	out->relay_up = c->relay == RELAY_UP;
	client_conn_copy_text(out->relay_url, sizeof out->relay_url, c->relay == NO_RELAY ? c->peer_relay : c->relay_url);
	if (!c->ice_path)
		return;
	out->local_type = c->pair.local.type;
	out->remote_type = c->pair.remote.type;
	out->local = c->pair.local.at;
	out->remote = c->pair.remote.at;
	out->rtt_ns = c->pair.rtt_ns;
	if (c->session && ice_selected(c->session->agent, &live))
		out->rtt_ns = live.rtt_ns;
}
