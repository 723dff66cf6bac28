/* status_why.c - why each peer is connected as it is: `netbird status --why` and the `nestbox` key of
 * JSON and YAML. All of it is ours, none stock's. Tests: tests/unit/client_status_why_test.c. */
#include "client/status_int.h"

/* Ours, and so behind everything that is stock's. */
void client_put_why(struct emitter *e, const struct overview *o)
{
	client_put_key(e, "nestbox");
	client_put_map_open(e);
	client_put_nat(e, "nat", client_local_of(o->s)->nestbox);
	client_put_key(e, "peers");
	if (client_put_list_open(e, o->n_peers, "[]")) {
		for (size_t i = 0; i < o->n_peers; i++) {
			const Daemon__PeerState *p = o->peers[i].p;
			const Nestbox__PeerWhy *w = p->nestbox;

			client_put_item_open(e);
			client_put_string(e, "fqdn", p->fqdn);
			client_put_string(e, "why", w ? w->sentence : NULL);
			client_put_strings(e, "pairs", w ? w->pairs : NULL, w ? w->n_pairs : 0);
			client_put_peer_counts(e, w);
			client_put_map_close(e);
		}
		client_put_list_close(e);
	}
	client_put_tunnel(e, o);
	client_put_map_close(e);
}

int client_status_why(struct nb_buf *out, const struct client_status_view *v)
{
	struct overview o;

	client_overview_init(&o, v);
	if (o.err)
		return o.err;
	client_nat_text(out, "NAT of this machine:", client_local_of(o.s)->nestbox, "not measured");
	for (size_t i = 0; i < o.n_peers; i++) {
		const Daemon__PeerState *p = o.peers[i].p;
		const Nestbox__PeerWhy *w = p->nestbox;

		nb_buf_printf(out, "%s (%s)\n  %s\n", text(p->fqdn), text(p->ip),
			      w ? text(w->sentence) : "the agent does not say: it is another program, or older");
		for (size_t k = 0; w && k < w->n_pairs; k++)
			nb_buf_printf(out, "  tried %s\n", text(w->pairs[k]));
		client_peer_counts_text(out, p);
	}
	if (!o.n_peers)
		nb_buf_str(out, "no peers\n");
	client_tunnel_text(out, &o);
	client_overview_fini(&o);
	return out->err;
}
