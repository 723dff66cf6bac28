/* engine_status.c - the engine's part of the daemon's FullStatus. Tests: tests/unit/client_engine_test.c */
#include "client/engine_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"

static char *dup_text(struct nb_arena *a, const char *s)
{
	return s && *s ? nb_arena_strndup(a, s, strlen(s)) : NULL;
}

static Google__Protobuf__Timestamp *timestamp(struct nb_arena *a, int64_t wall_ns)
{
	Google__Protobuf__Timestamp *t = nb_arena_alloc(a, sizeof *t);

	if (!t)
		return NULL;
	google__protobuf__timestamp__init(t);
	t->has_seconds = t->has_nanos = 1;
	t->seconds = wall_ns / NB_SEC;
	t->nanos = (int32_t)(wall_ns % NB_SEC);
	return t;
}

static Google__Protobuf__Duration *duration(struct nb_arena *a, int64_t ns)
{
	Google__Protobuf__Duration *d = nb_arena_alloc(a, sizeof *d);

	if (!d)
		return NULL;
	google__protobuf__duration__init(d);
	d->has_seconds = d->has_nanos = 1;
	d->seconds = ns / NB_SEC;
	d->nanos = (int32_t)(ns % NB_SEC);
	return d;
}

static char *endpoint_text(struct nb_arena *a, const struct nb_endpoint *e)
{
	char text[NB_ADDR_TEXT];

	if (!e->addr.family)
		return NULL;
	nb_endpoint_format(text, e);
	return dup_text(a, text);
}

static void fill_addresses(const struct engine_peer *p, Daemon__PeerState *s, struct nb_arena *a)
{
	char text[NB_ADDR_TEXT];

	for (size_t i = 0; i < p->nallowed; i++) {
		nb_addr_format(text, &p->allowed[i].addr);
		if (p->allowed[i].addr.family == 4 && !s->ip)
			s->ip = dup_text(a, text);
		else if (p->allowed[i].addr.family == 6 && !s->ipv6)
			s->ipv6 = dup_text(a, text);
	}
}

static void fill_path(const struct client_conn_status *c, Daemon__PeerState *s, struct nb_arena *a)
{
	s->has_relayed = 1;
	s->relayed = c->path != CLIENT_PATH_DIRECT;
	if (c->path == CLIENT_PATH_DIRECT || c->path == CLIENT_PATH_TURN) {
		s->localicecandidatetype = dup_text(a, ice_type_name(c->local_type));
		s->remoteicecandidatetype = dup_text(a, ice_type_name(c->remote_type));
		s->localicecandidateendpoint = endpoint_text(a, &c->local);
		s->remoteicecandidateendpoint = endpoint_text(a, &c->remote);
	}
	s->relayaddress = dup_text(a, c->relay_url);
	s->latency = duration(a, c->rtt_ns);
}

static char *pair_text(const struct ice_pair_report *r, struct nb_arena *a)
{
	char from[NB_ADDR_TEXT], to[NB_ADDR_TEXT], end[ICE_PAIR_TEXT];

	nb_endpoint_format(from, &r->local);
	nb_endpoint_format(to, &r->remote);
	ice_pair_end_text(end, r);
	return nb_arena_printf(a, "%s %s -> %s %s: %s", ice_type_name(r->local_type), from, ice_type_name(r->remote_type), to,
			       end);
}

static Nestbox__PeerWhy *peer_why(const struct client_conn *c, struct nb_arena *a)
{
	struct ice_pair_report pairs[CLIENT_PAIRS_MAX];
	size_t n = client_conn_pairs(c, pairs, CLIENT_PAIRS_MAX);
	Nestbox__PeerWhy *w = nb_arena_alloc(a, sizeof *w);
	char sentence[CLIENT_WHY_MAX];

	if (!w)
		return NULL;
	nestbox__peer_why__init(w);
	client_conn_why(c, sentence);
	w->sentence = dup_text(a, sentence);
	w->pairs = nb_arena_alloc(a, (n + 1) * sizeof *w->pairs);
	for (size_t i = 0; i < n && w->pairs; i++)
		if ((w->pairs[w->n_pairs] = pair_text(&pairs[i], a)))
			w->n_pairs++;
	return w;
}

static void fill_counts(Nestbox__PeerWhy *w, const struct wg_peer_stats *s)
{
	w->has_rx_packets = w->has_tx_packets = w->has_handshakes = 1;
	w->rx_packets = s->rx_packets;
	w->tx_packets = s->tx_packets;
	w->handshakes = s->handshakes;
}

/* What Go calls no time. */
static Google__Protobuf__Timestamp *no_time(struct nb_arena *a)
{
	Google__Protobuf__Timestamp *t = timestamp(a, 0);

	if (t)
		t->seconds = -62135596800;
	return t;
}

const char *client_engine_why_asleep(const struct engine_peer *p)
{
	return p->closed.ns ? "idle: nobody has sent anything for a while; the next packet connects it" :
			      "idle: nobody has needed it yet; the first packet connects it";
}

static Nestbox__PeerWhy *why_asleep(const struct engine_peer *p, struct nb_arena *a)
{
	Nestbox__PeerWhy *w = nb_arena_alloc(a, sizeof *w);

	if (!w)
		return NULL;
	nestbox__peer_why__init(w);
	w->sentence = dup_text(a, client_engine_why_asleep(p));
	return w;
}

static void fill_asleep(const struct engine_peer *p, Daemon__PeerState *s, struct nb_arena *a, struct nb_time now,
			struct nb_wall wall)
{
	s->nestbox = why_asleep(p, a);
	s->connstatus = dup_text(a, "Idle");
	s->connstatusupdate = p->closed.ns ? timestamp(a, wall.ns - nb_time_diff(now, p->closed)) : no_time(a);
	s->lastwireguardhandshake = no_time(a);
}

static Daemon__PeerState *peer_state(const struct engine_peer *p, struct nb_arena *a, struct nb_time now,
				     struct nb_wall wall)
{
	Daemon__PeerState *s = nb_arena_alloc(a, sizeof *s);
	struct client_conn_status c;

	if (!s)
		return NULL;
	daemon__peer_state__init(s);
	fill_addresses(p, s, a);
	s->pubkey = dup_text(a, p->key_text);
	s->fqdn = dup_text(a, p->fqdn);
	if (!p->conn) {
		fill_asleep(p, s, a, now, wall);
		return s;
	}
	client_conn_status(p->conn, &c);
	s->nestbox = peer_why(p->conn, a);
	if (s->nestbox)
		fill_counts(s->nestbox, &p->stats);
	s->connstatus = dup_text(a, c.connected ? "Connected" : c.connecting ? "Connecting" : "Idle");
	s->connstatusupdate = timestamp(a, wall.ns - nb_time_diff(now, c.changed));
	if (!c.connected)
		return s;
	fill_path(&c, s, a);
	s->has_bytesrx = s->has_bytestx = 1;
	s->bytesrx = (int64_t)p->stats.rx_bytes;
	s->bytestx = (int64_t)p->stats.tx_bytes;
	if (p->stats.last_handshake.ns)
		s->lastwireguardhandshake = timestamp(a, p->stats.last_handshake.ns);
	return s;
}

static Daemon__RelayState *relay_state(struct nb_arena *a, const char *uri, bool available, const char *error)
{
	Daemon__RelayState *r = nb_arena_alloc(a, sizeof *r);

	if (!r)
		return NULL;
	daemon__relay_state__init(r);
	r->uri = dup_text(a, uri);
	r->has_available = available;
	r->available = available;
	r->error = dup_text(a, error);
	return r;
}

/* As stock: the relay we are on, or all that management named with what is wrong. */
static void fill_protocol(const struct client_engine *e, Daemon__FullStatus *s, struct nb_arena *a)
{
	struct nb_addr ip;
	const char *url = client_relays_home(e->relays, &ip);
	Daemon__RelayState *r;

	if (url) {
		r = relay_state(a, url, true, NULL);
		if (!r)
			return;
		r->transport = dup_text(a, "ws");
		s->relays[s->n_relays++] = r;
		return;
	}
	for (size_t i = 0; (url = client_relays_url(e->relays, i)) != NULL; i++)
		if ((s->relays[s->n_relays] = relay_state(a, url, false, client_relays_error(e->relays))))
			s->n_relays++;
}

static int fill_relays(const struct client_engine *e, Daemon__FullStatus *s, struct nb_arena *a)
{
	s->relays = nb_arena_alloc(a, (e->nservers + CLIENT_RELAYS_URLS + 1) * sizeof *s->relays);
	if (!s->relays)
		return NB_E_NOMEM;
	for (size_t i = 0; i < e->nservers; i++) {
		const struct engine_server *v = &e->servers[i];
		const char *error = v->state == SERVER_OK ? NULL : v->state == SERVER_DOWN ? v->error ? v->error : v->why : "checking";

		if (v->state != SERVER_STANDBY &&
		    (s->relays[s->n_relays] = relay_state(a, v->uri, v->state == SERVER_OK, error)))
			s->n_relays++;
	}
	fill_protocol(e, s, a);
	return 0;
}

static Daemon__LocalPeerState *local_state(const struct client_engine *e, struct nb_arena *a)
{
	Daemon__LocalPeerState *l = nb_arena_alloc(a, sizeof *l);
	char text[NB_ADDR_TEXT];

	if (!l)
		return NULL;
	daemon__local_peer_state__init(l);
	l->ip = dup_text(a, e->address);
	l->pubkey = dup_text(a, e->self_key);
	l->fqdn = dup_text(a, e->fqdn);
	if (e->v6.addr.family) {
		nb_prefix_format(text, &e->v6);
		l->ipv6 = dup_text(a, text);
	}
	l->nestbox = client_nat_view(&e->net.nat, a);
	l->has_wgport = 1;
	l->wgport = e->net.port;
	return l;
}

static int by_address(const void *x, const void *y)
{
	const Daemon__PeerState *a = *(Daemon__PeerState *const *)x, *b = *(Daemon__PeerState *const *)y;

	return strcmp(a->ip ? a->ip : "", b->ip ? b->ip : "");
}

int client_engine_status(const struct client_engine *e, Daemon__FullStatus *s, struct nb_arena *a, struct nb_time now,
			 struct nb_wall wall)
{
	struct nb_map_iter it = { 0 };

	s->localpeerstate = local_state(e, a);
	s->peers = nb_arena_alloc(a, (e->peers.count + 1) * sizeof *s->peers);
	if (!s->localpeerstate || !s->peers || fill_relays(e, s, a))
		return NB_E_NOMEM;
	while (nb_map_next(&e->peers, &it)) {
		s->peers[s->n_peers] = peer_state(it.value, a, now, wall);
		if (!s->peers[s->n_peers])
			return NB_E_NOMEM;
		s->n_peers++;
	}
	qsort(s->peers, s->n_peers, sizeof *s->peers, by_address);
	s->has_lazyconnectionenabled = e->lazy;
	s->lazyconnectionenabled = e->lazy;
	return 0;
}
