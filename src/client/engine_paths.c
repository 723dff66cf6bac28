/* engine_paths.c - the engine's answer to `netbird debug paths PEER`: everything it knows about the ways to one peer.
 * Tests: tests/unit/client_engine_test.c, tests/net/test_nat.py */
#include "client/engine_int.h"

#include <strings.h>

#include "base/err.h"

static char *dup_text(struct nb_arena *a, const char *s)
{
	return s && *s ? nb_arena_strndup(a, s, strlen(s)) : NULL;
}

static char *endpoint_text(struct nb_arena *a, const struct nb_endpoint *e)
{
	char text[NB_ADDR_TEXT];

	if (!e->addr.family)
		return NULL;
	nb_endpoint_format(text, e);
	return dup_text(a, text);
}

/* ---- Which peer ---- */

static bool has_address(const struct engine_peer *p, const char *text)
{
	struct nb_addr a;

	if (nb_addr_parse(&a, text))
		return false;
	for (size_t i = 0; i < p->nallowed; i++)
		if (nb_addr_eq(&p->allowed[i].addr, &a))
			return true;
	return false;
}

/* The whole name, or the part before the first dot. */
static bool has_name(const struct engine_peer *p, const char *text)
{
	const char *fqdn = p->fqdn ? p->fqdn : "";
	size_t n = strlen(text);

	return n && !strncasecmp(fqdn, text, n) && (!fqdn[n] || fqdn[n] == '.') && (!fqdn[n] || !strchr(text, '.'));
}

static const struct engine_peer *find_peer(const struct client_engine *e, const char *text)
{
	struct nb_map_iter it = { 0 };

	while (nb_map_next(&e->peers, &it)) {
		const struct engine_peer *p = it.value;

		if (has_name(p, text) || has_address(p, text) || !strcmp(p->key_text, text))
			return p;
	}
	return NULL;
}

/* ---- The parts ---- */

static const char *path_name(enum client_conn_path path)
{
	static const char *const names[] = { "none", "NetBird relay", "TURN", "direct" };

	return names[path];
}

Nestbox__NatView *client_nat_view(const struct ice_nat_report *r, struct nb_arena *a)
{
	static const char *const udp[] = { "unknown", "works", "blocked" };
	Nestbox__NatView *v = nb_arena_alloc(a, sizeof *v);

	if (!v)
		return NULL;
	nestbox__nat_view__init(v);
	v->udp = dup_text(a, udp[r->udp]);
	v->mapping = dup_text(a, ice_nat_mapping_name(r->mapping));
	v->filtering = dup_text(a, ice_nat_filtering_name(r->filtering));
	v->hairpin = dup_text(a, ice_nat_hairpin_name(r->hairpin));
	v->has_port_kept = v->port_kept = r->port_kept;
	v->mapped = endpoint_text(a, &r->mapped);
	return v;
}

static Nestbox__PathPair *pair_view(const struct ice_pair_report *r, struct nb_arena *a)
{
	static const char *const ends[] = { "not tried", "no answer yet", "timed out", "refused", "role conflict", "pruned", "works",
					    "selected", "was selected" };
	Nestbox__PathPair *v = nb_arena_alloc(a, sizeof *v);
	char text[ICE_PAIR_TEXT];

	if (!v)
		return NULL;
	nestbox__path_pair__init(v);
	ice_pair_end_text(text, r);
	v->local_type = dup_text(a, ice_type_name(r->local_type));
	v->remote_type = dup_text(a, ice_type_name(r->remote_type));
	v->local = endpoint_text(a, &r->local);
	v->remote = endpoint_text(a, &r->remote);
	v->end = dup_text(a, ends[r->end]);
	v->text = dup_text(a, text);
	v->has_rtt = v->has_checks = v->has_heard = 1;
	v->rtt = r->rtt_ns;
	v->checks = r->checks;
	v->heard = r->heard;
	return v;
}

static void fill_pairs(Nestbox__PeerPaths *p, const struct client_conn *c, struct nb_arena *a)
{
	struct ice_pair_report pairs[CLIENT_PAIRS_MAX];
	size_t n = client_conn_pairs(c, pairs, CLIENT_PAIRS_MAX);

	n += client_conn_pruned(c, pairs + n, CLIENT_PAIRS_MAX - n);
	p->pairs = nb_arena_alloc(a, (n + 1) * sizeof *p->pairs);
	for (size_t i = 0; p->pairs && i < n; i++)
		if ((p->pairs[p->n_pairs] = pair_view(&pairs[i], a)))
			p->n_pairs++;
}

static void fill_history(Nestbox__PeerPaths *p, const struct client_conn *c, struct nb_arena *a, struct nb_time now,
			 struct nb_wall wall)
{
	struct client_conn_step steps[CLIENT_STEPS_MAX];
	size_t n = client_conn_steps(c, steps, CLIENT_STEPS_MAX);

	p->history = nb_arena_alloc(a, (n + 1) * sizeof *p->history);
	for (size_t i = 0; p->history && i < n; i++) {
		Nestbox__PathStep *v = nb_arena_alloc(a, sizeof *v);

		if (!v)
			return;
		nestbox__path_step__init(v);
		v->has_time = 1;
		v->time = wall.ns - nb_time_diff(now, steps[i].at);
		v->path = dup_text(a, path_name(steps[i].path));
		v->why = dup_text(a, steps[i].why);
		v->remote = endpoint_text(a, &steps[i].remote);
		if (v->remote) {
			v->local_type = dup_text(a, ice_type_name(steps[i].local_type));
			v->remote_type = dup_text(a, ice_type_name(steps[i].remote_type));
		}
		p->history[p->n_history++] = v;
	}
}

static void fill_relay(Nestbox__PeerPaths *p, const struct client_engine *e, const struct client_conn *c,
		       const struct client_conn_peer *peer, struct nb_arena *a)
{
	const char *url = "";

	p->relay_state = dup_text(a, c ? client_conn_relay_state(c, &url) : "none");
	p->relay = dup_text(a, url);
	p->relay_home = dup_text(a, e->net.relay_url);
	p->relay_peer = dup_text(a, peer->relay_url);
	if (!e->net.relay_configured)
		p->relay_error = dup_text(a, "the management server names no relay");
	else if (!e->net.relay_url[0])
		p->relay_error = dup_text(a, client_relays_error(e->relays));
}

static Nestbox__ServerView *server_view(const struct client_engine *e, const struct engine_server *s, struct nb_arena *a)
{
	static const char *const states[] = { "looking up its name", "checking", "available", "unavailable" };
	Nestbox__ServerView *v = nb_arena_alloc(a, sizeof *v);

	if (!v)
		return NULL;
	nestbox__server_view__init(v);
	v->uri = dup_text(a, s->uri);
	v->state = dup_text(a, states[s->state]);
	if (s->state == SERVER_DOWN)
		v->error = dup_text(a, s->error);
	if (s->via)
		v->relayed = endpoint_text(a, &e->net.relayed[s->via - 1]);
	return v;
}

static void fill_servers(Nestbox__PeerPaths *p, const struct client_engine *e, struct nb_arena *a)
{
	p->servers = nb_arena_alloc(a, (e->nservers + 1) * sizeof *p->servers);
	for (size_t i = 0; p->servers && i < e->nservers; i++)
		if ((p->servers[p->n_servers] = server_view(e, &e->servers[i], a)))
			p->n_servers++;
}

static void fill_peer(Nestbox__PeerPaths *p, const struct engine_peer *peer, struct nb_arena *a)
{
	char text[NB_ADDR_TEXT];

	p->fqdn = dup_text(a, peer->fqdn);
	p->key = dup_text(a, peer->key_text);
	p->version = dup_text(a, peer->version);
	for (size_t i = 0; i < peer->nallowed && !p->ip; i++)
		if (peer->allowed[i].addr.family == 4) {
			nb_addr_format(text, &peer->allowed[i].addr);
			p->ip = dup_text(a, text);
		}
	p->has_nestbox = p->has_answered = 1;
	p->here = client_nat_view(&peer->e->net.nat, a);
}

/* A peer that sleeps has no connection, so nothing was tried. */
static void fill_asleep(Nestbox__PeerPaths *p, const struct engine_peer *peer, const struct client_conn_peer *said,
			struct nb_arena *a)
{
	p->status = dup_text(a, "Idle");
	p->path = dup_text(a, path_name(CLIENT_PATH_NONE));
	p->sentence = dup_text(a, client_engine_why_asleep(peer));
	p->there = client_nat_view(&said->nat, a);
}

static void fill_connection(Nestbox__PeerPaths *p, const struct client_conn *c, const struct client_conn_peer *said,
			    struct nb_arena *a)
{
	struct client_conn_status s;
	char text[CLIENT_WHY_MAX];

	client_conn_status(c, &s);
	p->status = dup_text(a, s.connected ? "Connected" : s.connecting ? "Connecting" : "Idle");
	p->path = dup_text(a, path_name(s.path));
	client_conn_why(c, text);
	p->sentence = dup_text(a, text);
	p->nestbox = said->ours;
	p->answered = said->described;
	p->there = client_nat_view(&said->nat, a);
}

int client_engine_paths(const struct client_engine *e, const char *name, Nestbox__PeerPaths **out, struct nb_arena *a,
			struct nb_time now, struct nb_wall wall)
{
	const struct engine_peer *peer = find_peer(e, name);
	struct client_conn_peer said = { 0 };
	Nestbox__PeerPaths *p;

	if (!peer)
		return NB_E_NOTFOUND;
	p = nb_arena_alloc(a, sizeof *p);
	if (!p)
		return NB_E_NOMEM;
	nestbox__peer_paths__init(p);
	fill_peer(p, peer, a);
	if (peer->conn) {
		client_conn_peer(peer->conn, &said);
		fill_connection(p, peer->conn, &said, a);
		fill_pairs(p, peer->conn, a);
		fill_history(p, peer->conn, a, now, wall);
	} else {
		fill_asleep(p, peer, &said, a);
	}
	fill_relay(p, e, peer->conn, &said, a);
	fill_servers(p, e, a);
	*out = p;
	return 0;
}
