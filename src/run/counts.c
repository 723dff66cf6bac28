/* counts.c - names and words for what the data plane counts (run_tunnel_counters), for status texts. A reason that
 * is not here cannot be seen by users. Tests: tests/unit/run_counts_test.c, tests/net/test_wireguard_load.py */
#include "run/tunnel.h"

#include <stddef.h>

#define AT(field) offsetof(struct run_tunnel_counters, field)

static const struct {
	const char *name, *words;
	size_t at;
} names[] = {
	{ "bad_message", "datagrams that were no WireGuard message", AT(wg.bad_message) },
	{ "bad_mac", "handshake messages not meant for us", AT(wg.bad_mac) },
	{ "bad_handshake", "handshake messages refused: unknown peer, replayed or too frequent", AT(wg.bad_handshake) },
	{ "rate_limited", "handshake messages over their source's rate, under load", AT(wg.rate_limited) },
	{ "cookies_sent", "cookies asked for, under load", AT(wg.cookies_sent) },
	{ "bad_transport", "messages refused: unknown or old key, or damaged", AT(wg.bad_transport) },
	{ "replayed", "messages refused: seen before, or far too late", AT(wg.replayed) },
	{ "bad_inner", "packets refused: malformed, or from an address their peer may not use", AT(wg.bad_inner) },
	{ "no_route", "packets of ours to addresses of no peer", AT(wg.no_route) },
	{ "staged_drop", "packets of ours that waited for a connection in vain", AT(wg.staged_drop) },
	{ "too_big", "packets of ours too long for the tunnel or a narrow path (their senders were told)", AT(too_big) },
	{ "udp_errors", "messages the system would not send", AT(udp_errors) },
	{ "tun_errors", "packets the system would not take from us, or we not from it", AT(tun_errors) },
	{ "dgrams_lost", "STUN and other datagrams lost between data plane and control", AT(dgrams_lost) },
	{ "links_dropped", "packets a relay or TURN connection was too slow for", AT(links_dropped) },
	{ "handed", "packets handed from one thread to another", AT(handed) },
	{ "handed_lost", "packets lost between threads", AT(handed_lost) },
	{ "filter_passed_flow", "packets of known connections let in", AT(filter.passed_flow) },
	{ "filter_passed_rule", "packets let in by a rule", AT(filter.passed_rule) },
	{ "filter_passed_related", "ICMP errors about known connections let in", AT(filter.passed_related) },
	{ "filter_passed_fragment", "later fragments let in", AT(filter.passed_fragment) },
	{ "filter_dropped_rule", "packets refused by a rule", AT(filter.dropped_rule) },
	{ "filter_dropped_default", "packets refused because no rule lets them in", AT(filter.dropped_default) },
	{ "filter_dropped_cut", "packets refused of connections that a change of rules forbade", AT(filter.dropped_cut) },
	{ "filter_dropped_address", "packets refused because they are not for our address", AT(filter.dropped_address) },
	{ "filter_dropped_fragment", "fragments refused", AT(filter.dropped_fragment) },
	{ "filter_dropped_malformed", "packets refused as malformed", AT(filter.dropped_malformed) },
	{ "filter_flows_in", "connections begun by peers", AT(filter.flows_in) },
	{ "filter_flows_out", "connections begun here", AT(filter.flows_out) },
	{ "filter_cut", "connections ended by a change of rules", AT(filter.cut) },
	{ "filter_evicted", "connections forgotten to make room", AT(filter.evicted) },
};
#define NNAMES (sizeof names / sizeof names[0])

bool run_tunnel_count(const struct run_tunnel_counters *c, size_t i, struct run_tunnel_count *out)
{
	if (i > NNAMES)
		return false;
	if (i == NNAMES) {
		/* The only one of another width, and the only one that can go down. */
		*out = (struct run_tunnel_count){ "filter_flows", "connections known now", c->filter.flows, true };
		return true;
	}
	*out = (struct run_tunnel_count){ .name = names[i].name, .words = names[i].words };
	memcpy(&out->value, (const uint8_t *)c + names[i].at, sizeof out->value);
	out->filter = strncmp(out->name, "filter_", 7) == 0;
	return true;
}
