/* paths.c - see paths.h. Tests: tests/unit/client_paths_test.c */
#include "client/paths.h"

#include "client/status_int.h"

/* ---- Text ---- */

void client_nat_text(struct nb_buf *out, const char *where, const Nestbox__NatView *n, const char *unknown)
{
	nb_buf_printf(out, "%s ", where);
	if (n && !strcmp(text(n->udp), "blocked")) {
		nb_buf_str(out, "UDP is blocked: no STUN server answered\n");
		return;
	}
	if (!n || strcmp(text(n->udp), "works")) {
		nb_buf_printf(out, "%s\n", unknown);
		return;
	}
	nb_buf_printf(out, "mapping %s, filtering %s", text(n->mapping), text(n->filtering));
	if (strcmp(text(n->mapping), "no NAT"))
		nb_buf_printf(out, ", hairpinning %s, port %s", text(n->hairpin), n->port_kept ? "kept" : "changed");
	if (*text(n->mapped))
		nb_buf_printf(out, ", seen as %s", n->mapped);
	nb_buf_u8(out, '\n');
}

static void pairs_text(struct nb_buf *out, const Nestbox__PeerPaths *p)
{
	nb_buf_str(out, "Candidate pairs\n");
	for (size_t i = 0; i < p->n_pairs; i++) {
		const Nestbox__PathPair *v = p->pairs[i];

		nb_buf_printf(out, "  %s %s -> %s %s: %s\n", text(v->local_type), text(v->local), text(v->remote_type),
			      text(v->remote), text(v->text));
	}
	if (!p->n_pairs)
		nb_buf_str(out, "  none\n");
}

static void history_text(struct nb_buf *out, const Nestbox__PeerPaths *p, struct nb_wall now)
{
	nb_buf_str(out, "Changes of path\n");
	for (size_t i = 0; i < p->n_history; i++) {
		const Nestbox__PathStep *v = p->history[i];
		char age[64];

		client_age(age, sizeof age, v->time / NB_SEC, (int32_t)(v->time % NB_SEC), now);
		nb_buf_printf(out, "  %s: %s", age, text(v->path));
		if (*text(v->remote))
			nb_buf_printf(out, " to %s (%s/%s)", v->remote, text(v->local_type), text(v->remote_type));
		nb_buf_printf(out, ": %s\n", text(v->why));
	}
	if (!p->n_history)
		nb_buf_str(out, "  none\n");
}

static void relay_text(struct nb_buf *out, const Nestbox__PeerPaths *p)
{
	nb_buf_printf(out, "NetBird relay\n  channel %s%s%s\n", text(p->relay_state), *text(p->relay) ? " on " : "", text(p->relay));
	nb_buf_printf(out, "  this end is on %s%s%s\n", *text(p->relay_home) ? p->relay_home : "none",
		      *text(p->relay_error) ? ": " : "", text(p->relay_error));
	nb_buf_printf(out, "  the other end is on %s\n", *text(p->relay_peer) ? p->relay_peer : "none, as far as it said");
}

static void servers_text(struct nb_buf *out, const Nestbox__PeerPaths *p)
{
	nb_buf_str(out, "STUN and TURN servers\n");
	for (size_t i = 0; i < p->n_servers; i++) {
		const Nestbox__ServerView *v = p->servers[i];

		nb_buf_printf(out, "  %s: %s", text(v->uri), text(v->state));
		if (*text(v->error))
			nb_buf_printf(out, ": %s", v->error);
		if (*text(v->relayed))
			nb_buf_printf(out, ", allocation %s", v->relayed);
		nb_buf_u8(out, '\n');
	}
	if (!p->n_servers)
		nb_buf_str(out, "  none\n");
}

int client_paths_text(struct nb_buf *out, const Nestbox__PeerPaths *p, struct nb_wall now)
{
	const char *agent = p->nestbox ? "nestbox" : p->answered ? "stock agent" : "agent not heard yet";

	nb_buf_printf(out, "%s (%s)\n  %s%s%s, %s\n  %s\n\n", text(p->fqdn), text(p->ip), agent, *text(p->version) ? " " : "",
		      text(p->version), text(p->status), text(p->sentence));
	nb_buf_str(out, "NAT\n");
	client_nat_text(out, "  here ", p->here, "not measured");
	client_nat_text(out, "  there", p->there, p->nestbox ? "not measured, or not told yet" : "not known: only a nestbox tells");
	pairs_text(out, p);
	history_text(out, p, now);
	relay_text(out, p);
	servers_text(out, p);
	return out->err;
}

/* ---- JSON ---- */

void client_put_nat(struct emitter *e, const char *name, const Nestbox__NatView *n)
{
	static const Nestbox__NatView none = NESTBOX__NAT_VIEW__INIT;

	n = n ? n : &none;
	client_put_key(e, name);
	client_put_map_open(e);
	client_put_string(e, "udp", n->udp);
	client_put_string(e, "mapping", n->mapping);
	client_put_string(e, "filtering", n->filtering);
	client_put_string(e, "hairpin", n->hairpin);
	client_put_bool(e, "portKept", n->port_kept);
	client_put_string(e, "mapped", n->mapped);
	client_put_map_close(e);
}

static void put_pairs(struct emitter *e, const Nestbox__PeerPaths *p)
{
	client_put_key(e, "pairs");
	if (!client_put_list_open(e, p->n_pairs, "[]"))
		return;
	for (size_t i = 0; i < p->n_pairs; i++) {
		const Nestbox__PathPair *v = p->pairs[i];

		client_put_item_open(e);
		client_put_string(e, "localType", v->local_type);
		client_put_string(e, "local", v->local);
		client_put_string(e, "remoteType", v->remote_type);
		client_put_string(e, "remote", v->remote);
		client_put_string(e, "end", v->end);
		client_put_string(e, "text", v->text);
		client_put_int(e, "rtt", v->rtt);
		client_put_int(e, "checks", v->checks);
		client_put_bool(e, "heard", v->heard);
		client_put_map_close(e);
	}
	client_put_list_close(e);
}

static void put_history(struct emitter *e, const Nestbox__PeerPaths *p, const struct client_status_view *v)
{
	client_put_key(e, "history");
	if (!client_put_list_open(e, p->n_history, "[]"))
		return;
	for (size_t i = 0; i < p->n_history; i++) {
		const Nestbox__PathStep *s = p->history[i];
		struct stamp at = { s->time / NB_SEC, (int32_t)(s->time % NB_SEC), false };

		client_put_item_open(e);
		client_put_time(e, "time", at, v);
		client_put_string(e, "path", s->path);
		client_put_string(e, "localType", s->local_type);
		client_put_string(e, "remoteType", s->remote_type);
		client_put_string(e, "remote", s->remote);
		client_put_string(e, "why", s->why);
		client_put_map_close(e);
	}
	client_put_list_close(e);
}

static void put_servers(struct emitter *e, const Nestbox__PeerPaths *p)
{
	client_put_key(e, "servers");
	if (!client_put_list_open(e, p->n_servers, "[]"))
		return;
	for (size_t i = 0; i < p->n_servers; i++) {
		const Nestbox__ServerView *v = p->servers[i];

		client_put_item_open(e);
		client_put_string(e, "uri", v->uri);
		client_put_string(e, "state", v->state);
		client_put_string(e, "error", v->error);
		client_put_string(e, "allocation", v->relayed);
		client_put_map_close(e);
	}
	client_put_list_close(e);
}

static void put_relay(struct emitter *e, const Nestbox__PeerPaths *p)
{
	client_put_key(e, "relay");
	client_put_map_open(e);
	client_put_string(e, "state", p->relay_state);
	client_put_string(e, "url", p->relay);
	client_put_string(e, "here", p->relay_home);
	client_put_string(e, "there", p->relay_peer);
	client_put_string(e, "error", p->relay_error);
	client_put_map_close(e);
}

int client_paths_json(struct nb_buf *out, const Nestbox__PeerPaths *p, int (*utc_offset)(int64_t unix_seconds))
{
	struct client_status_view v = { .utc_offset = utc_offset };
	struct emitter e = { .b = out, .empty = { true } };

	nb_buf_u8(out, '{');
	client_put_string(&e, "fqdn", p->fqdn);
	client_put_string(&e, "netbirdIp", p->ip);
	client_put_string(&e, "publicKey", p->key);
	client_put_string(&e, "version", p->version);
	client_put_bool(&e, "nestbox", p->nestbox);
	client_put_bool(&e, "answered", p->answered);
	client_put_string(&e, "status", p->status);
	client_put_string(&e, "path", p->path);
	client_put_string(&e, "why", p->sentence);
	client_put_nat(&e, "natHere", p->here);
	client_put_nat(&e, "natThere", p->there);
	put_pairs(&e, p);
	put_history(&e, p, &v);
	put_relay(&e, p);
	put_servers(&e, p);
	nb_buf_str(out, "}\n");
	return out->err;
}
