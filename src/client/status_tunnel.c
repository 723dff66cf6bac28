/* status_tunnel.c - what the data plane does and has counted, in `netbird status --why` and below the `nestbox` key of JSON
 * and YAML. All of it is ours, none stock's. Tests: tests/unit/client_status_test.c */
#include "client/status_int.h"

#include <inttypes.h>

#include "base/err.h"

void client_put_tunnel(struct emitter *e, const struct overview *o)
{
	const Nestbox__TunnelState *t = o->s->nestbox;

	if (!t)
		return;
	client_put_key(e, "tunnel");
	client_put_map_open(e);
	client_put_string(e, "offloads", t->offloads);
	client_put_key(e, "counters");
	client_put_map_open(e);
	for (size_t i = 0; i < t->n_counts; i++)
		if (t->counts[i]->name)
			client_put_int(e, t->counts[i]->name, (int64_t)t->counts[i]->value);
	client_put_map_close(e);
	client_put_int(e, "rulesInForce", t->rules_in_force);
	client_put_key(e, "rules");
	if (client_put_list_open(e, t->n_rules, "[]")) {
		for (size_t i = 0; i < t->n_rules; i++) {
			client_put_item_open(e);
			client_put_string(e, "rule", t->rules[i]->rule);
			client_put_string(e, "policy", t->rules[i]->policy);
			client_put_int(e, "packets", (int64_t)t->rules[i]->packets);
			client_put_map_close(e);
		}
		client_put_list_close(e);
	}
	client_put_map_close(e);
}

void client_put_peer_counts(struct emitter *e, const Nestbox__PeerWhy *w)
{
	if (!w || !w->has_rx_packets)
		return;
	client_put_int(e, "receivedPackets", (int64_t)w->rx_packets);
	client_put_int(e, "sentPackets", (int64_t)w->tx_packets);
	client_put_int(e, "handshakes", (int64_t)w->handshakes);
}

void client_peer_counts_text(struct nb_buf *out, const Daemon__PeerState *p)
{
	const Nestbox__PeerWhy *w = p->nestbox;
	char in[32], sent[32];

	if (!w || !w->has_rx_packets || !w->handshakes)
		return;
	client_size_text(in, sizeof in, p->bytesrx);
	client_size_text(sent, sizeof sent, p->bytestx);
	nb_buf_printf(out, "  received %s in %" PRIu64 " packets, sent %s in %" PRIu64 "; handshakes: %" PRIu64 "\n", in, w->rx_packets,
		      sent, w->tx_packets, w->handshakes);
}

void client_tunnel_text(struct nb_buf *out, const struct overview *o)
{
	const Nestbox__TunnelState *t = o->s->nestbox;

	if (!t)
		return;
	nb_buf_printf(out, "tunnel\n  offloads in use: %s\n", text(t->offloads));
	for (size_t i = 0; i < t->n_counts; i++)
		if (t->counts[i]->value)
			nb_buf_printf(out, "  %" PRIu64 " %s\n", t->counts[i]->value, text(t->counts[i]->words));
	if (!t->has_rules_in_force)
		return;
	nb_buf_printf(out, "access rules: %" PRIu32 "\n", t->rules_in_force);
	for (size_t i = 0; i < t->n_rules; i++) {
		const Nestbox__RuleCount *r = t->rules[i];

		nb_buf_printf(out, "  %s: %" PRIu64 " packets%s%s\n", text(r->rule), r->packets, r->policy ? ", policy " : "",
			      text(r->policy));
	}
	if (t->n_rules < t->rules_in_force)
		nb_buf_printf(out, "  and %zu more\n", t->rules_in_force - t->n_rules);
}
