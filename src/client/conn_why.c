/* conn_why.c - see conn.h: what a connection tells people: its state, the pairs that were tried, and one sentence that
 * says why it is direct, relayed or not there. Changes nothing. Tests: tests/unit/client_conn_test.c */
#include "client/conn_int.h"

#include <stdio.h>
#include <string.h>

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

/* ---- One sentence ---- */

/* What speaks against a direct path, from what was tried. */
static void why_not_direct(const struct client_conn *c, char *out, size_t cap)
{
	struct ice_pair_report pairs[CLIENT_PAIRS_MAX];
	size_t n = client_conn_pairs(c, pairs, CLIENT_PAIRS_MAX), direct = 0;
	bool mapped = false, learned = false;

	for (size_t i = 0; i < n; i++) {
		if (pairs[i].local_type == ICE_RELAY || pairs[i].remote_type == ICE_RELAY)
			continue;
		direct++;
		mapped |= pairs[i].remote_type == ICE_SRFLX;
		learned |= pairs[i].remote_type == ICE_PRFLX;
	}
	if (c->cfg.net->force_relay || c->cfg.net->relay_only)
		snprintf(out, cap, "this agent was told to use relays only");
	else if (!c->peer_ice)
		snprintf(out, cap, "the other agent was told to use relays only");
	else if (!n)
		snprintf(out, cap, "the two have not exchanged addresses yet");
	else if (!direct)
		snprintf(out, cap, "the two have no address of one family in common");
	else if (learned)
		snprintf(out, cap, "none of %zu direct pairs works both ways: a NAT gives each destination another port", direct);
	else
		snprintf(out, cap, "none of %zu direct pairs answered: %s", direct, mapped ?
			 "a NAT gives each destination another port, or a firewall drops UDP" :
			 "the other side has no address that can be reached from here, or a firewall drops UDP");
}

static void why_direct(const struct client_conn *c, char *out, size_t cap)
{
	char at[NB_ADDR_TEXT + 8];
	bool nat = c->pair.local.type != ICE_HOST || c->pair.remote.type != ICE_HOST;

	nb_endpoint_format(at, &c->pair.remote.at);
	if (!nb_time_is_never(c->loose_until))
		snprintf(out, cap, "one of the two moved; packets still pass by %s while a new path is looked for", at);
	else if (nat)
		snprintf(out, cap, "the NATs on the way let checks through: the other side answers as %s (%s)", at,
			 ice_type_name(c->pair.remote.type));
	else
		snprintf(out, cap, "both machines reach each other's own address, %s", at);
}

void client_conn_why(const struct client_conn *c, char out[CLIENT_WHY_MAX])
{
	static const char *const how[] = { "not connected", "relayed over the NetBird relay", "relayed over TURN", "direct" };
	char reason[CLIENT_WHY_MAX - 60];

	if (!c->open) {
		snprintf(out, CLIENT_WHY_MAX, "idle: nobody needs this peer");
		return;
	}
	if (c->path == CLIENT_PATH_DIRECT)
		why_direct(c, reason, sizeof reason);
	else if (c->path == CLIENT_PATH_RELAY && c->ice_path)
		snprintf(reason, sizeof reason, "the direct path was lost soon after it was found, %u times in a row; "
			 "it is there again and will be used when it has held for a while", c->flaps);
	else
		why_not_direct(c, reason, sizeof reason);
	snprintf(out, CLIENT_WHY_MAX, "%s because %s", how[c->path], reason);
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
