/* why.c - see why.h. The order of the questions is the order of the causes: what was configured, what is missing, what
 * the NATs do, and only then what was merely observed. Tests: tests/unit/client_why_test.c */
#include "client/why.h"

#include <stdio.h>

#define REASON_MAX (CLIENT_WHY_MAX - 100)

/* ---- Direct ---- */

static bool is_open(const struct ice_nat_report *n)
{
	return n->filtering == ICE_NAT_FILTER_INDEPENDENT;
}

static bool keeps_mapping(const struct ice_nat_report *n)
{
	return n->mapping == ICE_NAT_MAP_INDEPENDENT || n->mapping == ICE_NAT_MAP_NONE;
}

static const char *direct_cause(const struct client_why *w)
{
	if (w->there.mapping == ICE_NAT_MAP_NONE)
		return "the other end is behind no NAT";
	if (w->here.mapping == ICE_NAT_MAP_NONE)
		return "this end is behind no NAT";
	if (is_open(&w->there))
		return "the NAT at the other end lets in whoever sends to it (endpoint-independent filtering)";
	if (is_open(&w->here))
		return "the NAT at this end lets in whoever sends to it (endpoint-independent filtering)";
	if (keeps_mapping(&w->here) && keeps_mapping(&w->there))
		return "both NATs keep one mapping for all destinations, and the checks of each end opened its own for the other";
	if (ice_nat_maps_anew(w->there.mapping) && w->here.filtering == ICE_NAT_FILTER_ADDRESS)
		return "the NAT at this end lets in all ports of an address it has sent to (address-dependent filtering)";
	if (ice_nat_maps_anew(w->here.mapping) && w->there.filtering == ICE_NAT_FILTER_ADDRESS)
		return "the NAT at the other end lets in all ports of an address it has sent to (address-dependent filtering)";
	return "the checks of both ends opened the NATs between them";
}

/* The own address of a machine without a NAT, reached from behind one. */
static bool only_there_open(const struct client_why *w)
{
	return w->there.mapping == ICE_NAT_MAP_NONE && w->here.mapping > ICE_NAT_MAP_NONE;
}

static void why_direct(const struct client_why *w, char *out)
{
	char at[NB_ADDR_TEXT];

	nb_endpoint_format(at, &w->remote);
	if (w->loose)
		snprintf(out, REASON_MAX, "one of the two moved; packets still pass by %s while a new path is looked for", at);
	else if (w->local_type == ICE_HOST && w->remote_type == ICE_HOST && !only_there_open(w))
		snprintf(out, REASON_MAX, "both machines reach each other's own address, %s", at);
	else
		snprintf(out, REASON_MAX, "%s: it answers as %s (%s)", direct_cause(w), at, ice_type_name(w->remote_type));
}

/* ---- What was configured, what is missing ---- */

static bool why_told(const struct client_why *w, char *out)
{
	const char *text = NULL;

	if (w->force_relay)
		text = "this agent was told to use relays only (NB_FORCE_RELAY)";
	else if (w->relay_only)
		text = "this agent was told to use TURN only (NB_ICE_FORCE_RELAY_CONN)";
	else if (!w->described)
		text = "the other agent has not answered: it is off, or does not reach the signal server";
	else if (!w->peer_ice)
		text = "the other agent was told to use relays only";
	else if (w->peer_relay_only)
		text = "the other agent was told to use TURN only (NB_ICE_FORCE_RELAY_CONN)";
	if (text)
		snprintf(out, REASON_MAX, "%s", text);
	return text;
}

static bool why_missing(const struct client_why *w, char *out)
{
	if (!w->session)
		snprintf(out, REASON_MAX, "the two have not exchanged addresses yet");
	else if (!w->locals && w->blacklisted && *w->blacklisted)
		snprintf(out, REASON_MAX, "this machine has no usable address: %.120s is on the list of interfaces to leave out "
			 "(--extra-iface-blacklist)", w->blacklisted);
	else if (!w->locals)
		snprintf(out, REASON_MAX, "this machine has no usable address");
	else if (!w->remotes)
		snprintf(out, REASON_MAX, "the other agent offered no candidates");
	else if (w->here.udp == ICE_NAT_UDP_BLOCKED)
		snprintf(out, REASON_MAX, "UDP is blocked at this end: no STUN server answered");
	else if (w->there.udp == ICE_NAT_UDP_BLOCKED)
		snprintf(out, REASON_MAX, "UDP is blocked at the other end: no STUN server answered it");
	else if (!w->direct)
		snprintf(out, REASON_MAX, "the two have no address of one family in common");
	else
		return false;
	return true;
}

/* ---- What the NATs do ---- */

/* One end gives each destination another port, the other lets in only ports it has sent to. */
static bool strict(const struct ice_nat_report *anew, const struct ice_nat_report *filter)
{
	return ice_nat_maps_anew(anew->mapping) && filter->filtering == ICE_NAT_FILTER_ADDRESS_PORT;
}

static bool why_nats(const struct client_why *w, char *out)
{
	const char *here = ice_nat_mapping_name(w->here.mapping), *there = ice_nat_mapping_name(w->there.mapping);
	bool here_anew = ice_nat_maps_anew(w->here.mapping), there_anew = ice_nat_maps_anew(w->there.mapping);
	char at[NB_ADDR_TEXT];

	if (w->shared.family && !w->checking && w->here.mapping != ICE_NAT_MAP_NONE && w->here.hairpin != ICE_NAT_HAIRPIN_YES) {
		nb_addr_format(at, &w->shared);
		snprintf(out, REASON_MAX, "both ends are behind one public address, %s, whose NAT does not send packets back inside "
			 "(no hairpinning)", at);
	} else if (here_anew && there_anew && w->here.mapping == w->there.mapping) {
		snprintf(out, REASON_MAX, "both NATs have %s mapping: each destination is given another port", here);
	} else if (here_anew && there_anew) {
		snprintf(out, REASON_MAX, "both NATs give each destination another port (mapping: here %s, there %s)", here, there);
	} else if (strict(&w->here, &w->there)) {
		snprintf(out, REASON_MAX, "the NAT at this end gives each destination another port (%s mapping) and the one at the other "
			 "end lets in only ports it has sent to (%s filtering)", here, ice_nat_filtering_name(w->there.filtering));
	} else if (strict(&w->there, &w->here)) {
		snprintf(out, REASON_MAX, "the NAT at the other end gives each destination another port (%s mapping) and the one at this "
			 "end lets in only ports it has sent to (%s filtering)", there, ice_nat_filtering_name(w->here.filtering));
	} else {
		return false;
	}
	return true;
}

/* ---- What was seen ---- */

static void why_seen(const struct client_why *w, char *out)
{
	const char *whose = w->peer_ours ? "was not measured" : "is not known: it is a stock agent";

	if (w->learned)
		snprintf(out, REASON_MAX, "none of %u direct pairs works both ways: a NAT gives each destination another port",
			 w->direct);
	else if (ice_nat_maps_anew(w->here.mapping))
		snprintf(out, REASON_MAX, "none of %u direct pairs answered: the NAT at this end gives each destination another port "
			 "(%s mapping); the other end's %s", w->direct, ice_nat_mapping_name(w->here.mapping), whose);
	else if (ice_nat_maps_anew(w->there.mapping))
		snprintf(out, REASON_MAX, "none of %u direct pairs answered: the NAT at the other end gives each destination another "
			 "port (%s mapping)", w->direct, ice_nat_mapping_name(w->there.mapping));
	else if (w->here.mapping && w->there.mapping)
		snprintf(out, REASON_MAX, "none of %u direct pairs answered although both NATs would let them: a firewall drops UDP "
			 "between the two", w->direct);
	else if (w->here.mapping)
		snprintf(out, REASON_MAX, "none of %u direct pairs answered; the NAT at this end would let them (%s mapping), the other "
			 "end's %s", w->direct, ice_nat_mapping_name(w->here.mapping), whose);
	else
		snprintf(out, REASON_MAX, "none of %u direct pairs answered: a NAT gives each destination another port, or a firewall "
			 "drops UDP", w->direct);
}

static void why_not_direct(const struct client_why *w, char *out)
{
	if (why_told(w, out) || why_missing(w, out) || why_nats(w, out))
		return;
	if (w->checking)
		snprintf(out, REASON_MAX, "%u direct pair%s %s still being tried", w->direct, w->direct == 1 ? "" : "s",
			 w->direct == 1 ? "is" : "are");
	else
		why_seen(w, out);
}

/* ---- Neither ---- */

/* What speaks against the relay; NULL: nothing, it is on its way. */
static const char *no_relay(const struct client_why *w)
{
	if (!w->relay_configured)
		return "the management server names no relay";
	if (!w->relay_home)
		return "this agent does not reach a relay";
	return w->described && !w->relay_peer ? "the other agent is on no relay" : NULL;
}

/* ---- The sentence ---- */

void client_why_text(char out[CLIENT_WHY_MAX], const struct client_why *w)
{
	static const char *const how[] = { "not connected", "relayed over the NetBird relay", "relayed over TURN", "direct" };
	const char *relay = w->path == CLIENT_PATH_NONE && w->described ? no_relay(w) : NULL;
	char reason[REASON_MAX] = "";

	if (!w->open) {
		snprintf(out, CLIENT_WHY_MAX, "idle: nobody needs this peer");
		return;
	}
	if (w->path == CLIENT_PATH_DIRECT)
		why_direct(w, reason);
	else if (w->flaps)
		snprintf(reason, sizeof reason, "the direct path was lost soon after it was found, %u times in a row; "
			 "it is there again and will be used when it has held for a while", w->flaps);
	else
		why_not_direct(w, reason);
	snprintf(out, CLIENT_WHY_MAX, "%s because %s%s%s", how[w->path], reason, relay ? "; " : "", relay ? relay : "");
}
