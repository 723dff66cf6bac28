/* engine_servers.c - the STUN and TURN servers that management names: look-ups, a Binding check whose result
 * `status` shows, and one TURN allocation per server: on the shared port, or, where UDP does not get through, over a
 * connection of its own (TCP, TLS). */
#include "client/engine_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "ice/stun.h"

#define CHECK_INTERVAL_NS (500 * NB_MS)		/* between the tries of one Binding check */
#define CHECK_TRIES 5
#define RETRY_NS (30 * NB_SEC)			/* a server that is down */
#define RECHECK_NS (600 * NB_SEC)		/* one that answered */
#define DEFAULT_PORT 3478
#define DEFAULT_TLS_PORT 5349
#define UDP_FIRST_NS (400 * NB_MS)		/* before servers are tried over TCP and TLS */
#define LINK_NS (12 * NB_SEC)			/* for the connection to a server */
#define LOST_NS (300 * NB_MS)			/* until a server that worked is tried again; doubled each time */
/* Relayed candidates differ in local preference only (RFC 8445, 5.1.2.1): UDP before TCP before TLS. */
#define PRIORITY(below) ((65535u - (below)) << 8 | 255)

/* "stun:host[:port]" or "turn:host[:port][?transport=udp]" (RFC 7064, 7065), both with s. *usable: we speak what it
 * asks for; not TLS over UDP, nor STUN over a stream. */
static bool parse_uri(struct engine_server *s, bool *usable, const char *uri)
{
	const char *host = strchr(uri, ':'), *query, *end, *colon;
	size_t n;

	if (!host || strlen(uri) >= sizeof s->uri)
		return false;
	snprintf(s->uri, sizeof s->uri, "%s", uri);
	s->turn = !strncmp(uri, "turn:", 5) || !strncmp(uri, "turns:", 6);
	if (!s->turn && strncmp(uri, "stun:", 5) && strncmp(uri, "stuns:", 6))
		return false;
	host++;
	query = strchr(host, '?');
	s->tls = !strncmp(uri, "turns:", 6) || !strncmp(uri, "stuns:", 6);
	s->stream = query && strstr(query, "transport=") ? !strstr(query, "transport=udp") : s->tls;
	*usable = s->stream ? s->turn : !s->tls;
	end = query ? query : host + strlen(host);
	s->port = s->tls ? DEFAULT_TLS_PORT : DEFAULT_PORT;
	if (*host == '[') {
		const char *close = memchr(host, ']', (size_t)(end - host));

		if (!close)
			return false;
		colon = close + 1 < end && close[1] == ':' ? close + 1 : NULL;
		host++;
		n = (size_t)(close - host);
	} else {
		colon = memchr(host, ':', (size_t)(end - host));
		n = (size_t)((colon ? colon : end) - host);
	}
	if (colon) {
		long port = strtol(colon + 1, NULL, 10);

		if (port < 1 || port > 65535)
			return false;
		s->port = (uint16_t)port;
	}
	if (!n || n >= sizeof s->host)
		return false;
	snprintf(s->host, sizeof s->host, "%.*s", (int)n, host);
	return true;
}

/* A look-up that could not even begin is tried again as one that failed. */
static void lookup(struct client_engine *e, size_t i, struct nb_time now)
{
	struct engine_server *s = &e->servers[i];
	bool begun = e->cfg.ops->lookup(e->cfg.arg, e->server_epoch << 8 | (unsigned)i, s->host, s->port) == 0;

	s->retry_at = begun ? NB_TIME_NEVER : nb_time_add(now, RETRY_NS);
}

/* --- the lists --- */

static void put_out(struct client_engine *e, const struct engine_server *s, struct nb_bytes message)
{
	static const struct nb_addr any;

	if (s->stream)
		e->cfg.ops->link_send(e->cfg.arg, s->link, message, nb_bytes(NULL, 0));
	else
		e->cfg.ops->dgram(e->cfg.arg, &s->addr[0], &any, message);
}

/* The data plane's part of an allocation ends. */
static void close_transport(struct client_engine *e, struct engine_server *s)
{
	if (!s->stream)
		e->cfg.ops->turn_server(e->cfg.arg, &s->addr[0], false);
	else if (s->link)
		e->cfg.ops->link_hang_up(e->cfg.arg, s->link);
	s->link = 0;
}

/* Without this a server refuses the next allocation from our port until the old one has expired. One message
 * is all there is time for; if it is lost, the server's own limit does the rest. */
static void give_back(struct client_engine *e, struct engine_server *s, struct nb_time now)
{
	uint8_t room[TURN_CLIENT_DGRAM_MAX];
	struct nb_dgram d = { .p = room, .cap = sizeof room };

	if (!s->client || turn_client_state(s->client) != TURN_READY)
		return;
	turn_client_close(s->client, now);
	if (turn_client_output(s->client, &d, now))
		put_out(e, s, nb_bytes(d.p, d.n));
}

static void drop_server(struct client_engine *e, struct engine_server *s, struct nb_time now)
{
	give_back(e, s, now);
	if (s->via)
		memset(&e->net.relayed[s->via - 1], 0, sizeof e->net.relayed[0]);
	if (s->via || s->link)
		close_transport(e, s);
	turn_client_free(s->client);
	nb_wipe(s, sizeof *s);
}

/* Keep what both lists have: a running allocation survives a refresh of its credentials. */
static void put_server(struct client_engine *e, struct engine_server *list, size_t *n, const char *uri,
		       const char *user, const char *password)
{
	struct engine_server s = { 0 };
	bool usable;

	if (*n == SERVERS_MAX || !uri)
		return;
	if (!parse_uri(&s, &usable, uri)) {
		nb_warn("management named an unusable STUN or TURN server: %.100s", uri);
		e->skipped++;
		return;
	}
	if (!usable)
		return;
	for (size_t i = 0; i < e->nservers; i++)
		if (!strcmp(e->servers[i].uri, uri)) {
			s = e->servers[i];
			memset(&e->servers[i], 0, sizeof e->servers[i]);
			break;
		}
	snprintf(s.user, sizeof s.user, "%s", user ? user : "");
	snprintf(s.password, sizeof s.password, "%s", password ? password : "");
	list[(*n)++] = s;
	nb_wipe(&s, sizeof s);
}

/* UDP goes first; where it does not get through is seen soon. */
static void begin_stream(const struct client_engine *e, struct engine_server *s, struct nb_time now)
{
	s->state = SERVER_STANDBY;
	s->retry_at = now;
	for (size_t i = 0; i < e->nservers; i++)
		if (e->servers[i].turn && !e->servers[i].stream)
			s->retry_at = nb_time_add(now, UDP_FIRST_NS);
}

void client_servers_update(struct client_engine *e, const Management__NetbirdConfig *c, struct nb_time now)
{
	struct engine_server *list = calloc(SERVERS_MAX, sizeof *list);
	size_t n = 0;

	if (!list || (!c->n_stuns && !c->n_turns)) {
		free(list);
		return;
	}
	/* An empty list keeps what there is of its kind. */
	for (size_t i = 0; i < c->n_stuns; i++)
		put_server(e, list, &n, c->stuns[i]->uri, NULL, NULL);
	for (size_t i = 0; i < c->n_turns; i++)
		if (c->turns[i]->hostconfig)
			put_server(e, list, &n, c->turns[i]->hostconfig->uri, c->turns[i]->user, c->turns[i]->password);
	for (size_t i = 0; i < e->nservers; i++) {
		struct engine_server *old = &e->servers[i];

		if (!old->uri[0])
			continue;
		if (n < SERVERS_MAX && ((old->turn && !c->n_turns) || (!old->turn && !c->n_stuns))) {
			list[n++] = *old;
			memset(old, 0, sizeof *old);
		} else {
			drop_server(e, old, now);
		}
	}
	memcpy(e->servers, list, sizeof e->servers);
	nb_wipe(list, SERVERS_MAX * sizeof *list);
	free(list);
	e->nservers = n;
	e->server_epoch++;
	for (size_t i = 0; i < n; i++) {
		struct engine_server *s = &e->servers[i];

		if (s->stream && s->state == SERVER_LOOKUP)
			begin_stream(e, s, now);
		else if (!s->stream && !s->naddr)
			lookup(e, i, now);
	}
	client_gather_servers(e, now);
}

/* --- checks and allocations --- */

static void send_check(struct client_engine *e, struct engine_server *s, struct nb_time now)
{
	uint8_t room[64];
	struct nb_buf b;
	struct stun_enc enc;
	static const struct nb_addr any;

	nb_buf_fixed(&b, room, sizeof room);
	enc = stun_begin(&b, STUN_REQUEST, STUN_BINDING, s->txid);
	if (!stun_end(&enc))
		e->cfg.ops->dgram(e->cfg.arg, &s->addr[0], &any, nb_buf_view(&b));
	s->tries++;
	s->retry_at = nb_time_add(now, CHECK_INTERVAL_NS);
}

static void start_check(struct client_engine *e, struct engine_server *s, struct nb_time now)
{
	e->cfg.random(e->cfg.random_ctx, s->txid, sizeof s->txid);
	s->tries = 0;
	if (s->state != SERVER_OK)
		s->state = SERVER_CHECKING;
	send_check(e, s, now);
}

static unsigned free_via(const struct client_engine *e)
{
	for (unsigned via = 1; via <= CLIENT_TURN_MAX; via++) {
		bool used = false;

		for (size_t i = 0; i < e->nservers; i++)
			used |= e->servers[i].via == via;
		if (!used)
			return via;
	}
	return 0;
}

static void drain_turn(struct client_engine *e, struct engine_server *s, struct nb_time now);

static void start_allocation(struct client_engine *e, struct engine_server *s, struct nb_time now)
{
	struct turn_client_config c = { .server = s->addr[0], .username = s->user, .password = s->password, .stream = s->stream,
					.random = e->cfg.random, .random_ctx = e->cfg.random_ctx };

	s->retry_at = nb_time_add(now, RETRY_NS);
	s->via = free_via(e);
	if (s->via)
		s->client = turn_client_new(&c, now);
	if (!s->client) {
		s->via = 0;
		s->state = SERVER_DOWN;
		s->error = "no allocation is possible now";
		if (s->stream)
			close_transport(e, s);
		return;
	}
	s->state = SERVER_CHECKING;
	s->retry_at = NB_TIME_NEVER;
	e->net.relayed_priority[s->via - 1] = PRIORITY(s->tls ? 2u : s->stream ? 1u : 0u);
	if (!s->stream)
		e->cfg.ops->turn_server(e->cfg.arg, &s->addr[0], true);
	drain_turn(e, s, now);
}

/* When to try a server again that did not do. */
static void retry_later(struct engine_server *s, struct nb_time now)
{
	int64_t ns = s->fails < 7 ? LOST_NS << s->fails++ : RETRY_NS;

	s->retry_at = nb_time_add(now, ns < RETRY_NS ? ns : RETRY_NS);
}

/* Paths through the allocation are no more. */
static void tell_lost(struct client_engine *e, unsigned via, struct nb_time now)
{
	nb_list_each_safe(it, &e->open) {
		struct engine_peer *p = nb_container(it, struct engine_peer, open);

		client_conn_via_lost(p->conn, via, now);
		client_engine_drain(e, p, now);
	}
}

static void end_allocation(struct client_engine *e, struct engine_server *s, const char *why, struct nb_time now)
{
	bool worked = s->state == SERVER_OK, udp_worked = worked && !s->stream;
	unsigned via = s->via;

	memset(&e->net.relayed[s->via - 1], 0, sizeof e->net.relayed[0]);
	close_transport(e, s);
	turn_client_free(s->client);
	s->client = NULL;
	s->via = 0;
	s->state = SERVER_DOWN;
	s->error = why;
	retry_later(s, now);
	if (worked)
		tell_lost(e, via, now);
	for (size_t i = 0; udp_worked && i < e->nservers; i++)
		if (e->servers[i].state == SERVER_STANDBY)
			begin_stream(e, &e->servers[i], now);
}

/* --- connections to servers --- */

static bool udp_works(const struct client_engine *e)
{
	for (size_t i = 0; i < e->nservers; i++)
		if (e->servers[i].turn && !e->servers[i].stream && e->servers[i].state == SERVER_OK)
			return true;
	return false;
}

static void start_stream(struct client_engine *e, struct engine_server *s, struct nb_time now)
{
	static const struct nb_addr none;
	struct relaymsg_url url = { .port = s->port, .tls = s->tls };

	s->retry_at = NB_TIME_NEVER;
	s->state = SERVER_STANDBY;
	if (udp_works(e))
		return;
	snprintf(url.host, sizeof url.host, "%s", s->host);
	s->state = SERVER_CHECKING;
	s->link = SERVER_LINK | (++e->turn_links & ~SERVER_LINK);
	s->retry_at = nb_time_add(now, LINK_NS);
	e->cfg.ops->link_dial(e->cfg.arg, s->link, true, &url, &none);
}

static struct engine_server *by_link(struct client_engine *e, unsigned id)
{
	for (size_t i = 0; i < e->nservers; i++)
		if (e->servers[i].link == id)
			return &e->servers[i];
	return NULL;
}

void client_servers_link_opened(struct client_engine *e, unsigned id, struct nb_time now)
{
	struct engine_server *s = by_link(e, id);

	if (s && !s->client)
		start_allocation(e, s, now);
}

/* It did not come about, or broke: an allocation ends with its connection. */
static void stream_failed(struct client_engine *e, struct engine_server *s, const char *why, struct nb_time now)
{
	snprintf(s->why, sizeof s->why, "%s", *why ? why : "the server closed the connection");
	nb_info("TURN server %s: %s", s->uri, s->why);
	if (s->client) {
		end_allocation(e, s, NULL, now);
	} else {
		close_transport(e, s);
		s->state = SERVER_DOWN;
		s->error = NULL;
		retry_later(s, now);
	}
	e->cfg.ops->changed(e->cfg.arg);
}

void client_servers_link_lost(struct client_engine *e, unsigned id, const char *why, struct nb_time now)
{
	struct engine_server *s = by_link(e, id);

	if (s)
		stream_failed(e, s, why, now);
}

/* A server that was restarted forgot us; it will give us another. */
static void renew_allocation(struct client_engine *e, struct engine_server *s, struct nb_time now)
{
	nb_info("TURN server %s forgot our allocation: asking for a new one", s->uri);
	end_allocation(e, s, "forgotten by the server", now);
	s->retry_at = now;
}

void client_servers_resolved(struct client_engine *e, unsigned id, const struct nb_addr *addrs, size_t n, struct nb_time now)
{
	struct engine_server *s = &e->servers[(id & 0xff) % SERVERS_MAX];

	if (id >> 8 != (e->server_epoch & 0xffffff) || (id & 0xff) >= e->nservers || s->naddr)
		return;
	for (int family = 4; family <= 6; family += 2)
		for (size_t i = 0; i < n; i++)
			if (addrs[i].family == family) {
				s->addr[s->naddr++] = (struct nb_endpoint){ addrs[i], s->port };
				break;
			}
	if (!s->naddr) {
		s->state = SERVER_DOWN;
		s->error = "host name could not be resolved";
		s->retry_at = nb_time_add(now, RETRY_NS);
		return;
	}
	client_gather_servers(e, now);
	client_nat_schedule(e, false, now);
	if (s->turn)
		start_allocation(e, s, now);
	else
		start_check(e, s, now);
}

/* --- TURN --- */

static void tell_connections(struct client_engine *e, struct nb_time now)
{
	nb_list_each_safe(it, &e->open) {
		struct engine_peer *p = nb_container(it, struct engine_peer, open);

		client_conn_network_changed(p->conn, false, now);
		client_engine_drain(e, p, now);
	}
}

/* How the data plane names a channel: by itself on the shared port, else by an id that no relay channel has. */
static struct wg_ep channel_ep(const struct engine_server *s, uint16_t channel)
{
	if (s->stream)
		return (struct wg_ep){ .kind = WG_EP_STREAM, .id = SERVER_LINK | s->via << 16 | channel };
	return (struct wg_ep){ .kind = WG_EP_TURN, .id = channel, .remote = s->addr[0] };
}

static void point_at_channel(struct client_engine *e, struct engine_server *s, struct engine_peer *p, uint16_t channel)
{
	struct wg_ep ep = channel_ep(s, channel);

	p->waits_channel = false;
	e->cfg.ops->peer_endpoint(e->cfg.arg, p->key, &ep, p->waits_handshake);
}

static void channel_bound(struct client_engine *e, struct engine_server *s, const struct turn_event *ev)
{
	struct wg_ep ep = channel_ep(s, ev->channel);
	uint8_t key[2];

	nb_put_be16(key, ev->channel);
	if (s->stream)
		e->cfg.ops->link_channel(e->cfg.arg, s->link, ep.id, nb_bytes(key, sizeof key));
	nb_list_each(it, &e->open) {
		struct engine_peer *p = nb_container(it, struct engine_peer, open);

		if (p->waits_channel && p->waits_via == s->via && nb_endpoint_eq(&p->waits_remote, &ev->peer))
			point_at_channel(e, s, p, ev->channel);
	}
	if (s->nearly && nb_endpoint_eq(&s->early_from, &ev->peer)) {
		e->cfg.ops->deliver(e->cfg.arg, &ep, nb_bytes(s->early, s->nearly));
		s->nearly = 0;
	}
}

static void on_turn_event(struct client_engine *e, struct engine_server *s, const struct turn_event *ev,
			  struct nb_time now)
{
	switch (ev->type) {
	case TURN_EV_ALLOCATED:
		s->state = SERVER_OK;
		s->fails = 0;
		s->error = NULL;
		e->net.relayed[s->via - 1] = ev->relayed;
		tell_connections(e, now);
		e->cfg.ops->changed(e->cfg.arg);
		break;
	case TURN_EV_FAILED:
		if (s->state == SERVER_OK && ev->code == 437) {
			renew_allocation(e, s, now);
			break;
		}
		end_allocation(e, s, ev->code == 401 ? "credentials were refused" : ev->code == 486 ? "quota reached"
			       : ev->code ? "allocation was refused" : "no answer", now);
		e->cfg.ops->changed(e->cfg.arg);
		break;
	case TURN_EV_BOUND:
		channel_bound(e, s, ev);
		break;
	case TURN_EV_PEER_FAILED:
		if (ev->code == 437) {
			renew_allocation(e, s, now);
			break;
		}
		nb_info("TURN server %s refused a peer address (error %u)", s->uri, ev->code);
		break;
	case TURN_EV_NONE:
	case TURN_EV_CLOSED:
	case TURN_EV_PERMITTED:
		break;
	}
}

static void drain_turn(struct client_engine *e, struct engine_server *s, struct nb_time now)
{
	uint8_t room[TURN_CLIENT_DGRAM_MAX];
	struct nb_dgram d = { .p = room, .cap = sizeof room };
	struct turn_event ev;
	bool busy;

	do {
		busy = false;
		while (s->client && turn_client_output(s->client, &d, now)) {
			put_out(e, s, nb_bytes(d.p, d.n));
			busy = true;
		}
		while (s->client && turn_client_event(s->client, &ev)) {
			on_turn_event(e, s, &ev, now);
			busy = true;
		}
	} while (busy);
}

static struct engine_server *by_via(struct client_engine *e, unsigned via)
{
	for (size_t i = 0; i < e->nservers; i++)
		if (e->servers[i].via == via && e->servers[i].client)
			return &e->servers[i];
	return NULL;
}

void client_servers_send(struct client_engine *e, unsigned via, const struct nb_endpoint *to, struct nb_bytes data,
		  struct nb_time now)
{
	struct engine_server *s = by_via(e, via);
	uint8_t room[ICE_DGRAM_MAX + TURN_WRAP_MAX];
	int n;

	(void)now;
	if (!s || data.n > ICE_DGRAM_MAX)
		return;
	n = turn_client_wrap(s->client, to, data, room);
	if (n > 0)
		put_out(e, s, nb_bytes(room, (size_t)n));
}

void client_servers_permit(struct client_engine *e, const struct nb_addr *peer, struct nb_time now)
{
	for (size_t i = 0; i < e->nservers; i++) {
		struct engine_server *s = &e->servers[i];

		/* Allocations here are IPv4; another family would be refused by the server. */
		if (!s->client || peer->family != 4)
			continue;
		turn_client_permit(s->client, peer, now);
		drain_turn(e, s, now);
	}
}

void client_servers_bind(struct client_engine *e, struct engine_peer *p, unsigned via, const struct nb_endpoint *remote,
		  bool handshake, struct nb_time now)
{
	struct engine_server *s = by_via(e, via);
	uint16_t channel;

	if (!s)
		return;
	p->waits_via = via;
	p->waits_remote = *remote;
	p->waits_handshake = handshake;
	channel = turn_client_channel(s->client, remote);
	if (channel) {
		point_at_channel(e, s, p, channel);
		return;
	}
	p->waits_channel = true;
	turn_client_bind(s->client, remote, NULL, now);
	drain_turn(e, s, now);
}

/* Data from a peer through an allocation: ICE goes to its connection, WireGuard to the data plane. */
static void relayed_data(struct client_engine *e, struct engine_server *s, const struct nb_endpoint *peer,
			 struct nb_bytes data, struct nb_time now)
{
	struct nb_dgram d = { .from = *peer, .p = (uint8_t *)(uintptr_t)data.p, .n = data.n };
	struct client_conn *c;
	struct wg_ep ep;
	uint16_t channel;

	if (ice_is_stun(data)) {
		c = client_conn_find(&e->demux, data);
		if (!c)
			return;
		client_conn_input(c, &d, s->via, now);
		client_engine_drain(e, client_conn_user(c), now);
		return;
	}
	if (!wg_looks_like(data) || data.n > sizeof s->early)
		return;
	channel = turn_client_channel(s->client, peer);
	if (channel) {
		ep = channel_ep(s, channel);
		e->cfg.ops->deliver(e->cfg.arg, &ep, data);
		return;
	}
	/* The answer needs a channel: keep the message until there is one; a handshake rather than what comes behind it. */
	if (s->nearly && wg_is_transport(data))
		return;
	s->early_from = *peer;
	s->nearly = data.n;
	memcpy(s->early, data.p, data.n);
	turn_client_bind(s->client, peer, NULL, now);
}

static bool answers_check(struct client_engine *e, struct engine_server *s, const struct nb_endpoint *from,
			  struct nb_bytes data, struct nb_time now)
{
	struct stun_msg m;

	if (!s->tries || !stun_is(data) || memcmp(data.p + 8, s->txid, sizeof s->txid) ||
	    !nb_endpoint_eq(from, &s->addr[0]) || stun_decode(&m, data))
		return false;
	s->tries = 0;
	if (e->net.nat.udp == ICE_NAT_UDP_BLOCKED)
		client_nat_schedule(e, false, now);
	s->state = m.cls == STUN_SUCCESS ? SERVER_OK : SERVER_DOWN;
	s->error = m.cls == STUN_SUCCESS ? NULL : "the server answered with an error";
	s->retry_at = nb_time_add(now, s->state == SERVER_OK ? RECHECK_NS : RETRY_NS);
	e->cfg.ops->changed(e->cfg.arg);
	return true;
}

/* Returns whether it was the server's. */
static bool from_turn(struct client_engine *e, struct engine_server *s, struct nb_bytes data, struct nb_time now)
{
	struct nb_endpoint peer;
	struct nb_bytes inner;
	int r = turn_client_input(s->client, data, &peer, &inner, now);

	if (r == 1)
		relayed_data(e, s, &peer, inner, now);
	drain_turn(e, s, now);
	return r >= 0;
}

void client_servers_link_message(struct client_engine *e, unsigned id, struct nb_bytes in, struct nb_time now)
{
	struct engine_server *s = by_link(e, id);

	if (s && s->client)
		from_turn(e, s, in, now);
}

bool client_servers_dgram(struct client_engine *e, const struct nb_endpoint *from, struct nb_bytes data, struct nb_time now)
{
	for (size_t i = 0; i < e->nservers; i++) {
		struct engine_server *s = &e->servers[i];

		if (!s->naddr)
			continue;
		if (answers_check(e, s, from, data, now))
			return true;
		if (s->client && nb_endpoint_eq(from, &s->addr[0]) && from_turn(e, s, data, now))
			return true;
	}
	return false;
}

/* --- time --- */

static void server_due(struct client_engine *e, size_t i, struct nb_time now)
{
	struct engine_server *s = &e->servers[i];

	if (s->stream) {
		if (s->link)
			stream_failed(e, s, "no answer", now);
		else
			start_stream(e, s, now);
	} else if (!s->naddr) {
		s->state = SERVER_LOOKUP;
		lookup(e, i, now);
	} else if (s->turn) {
		if (!s->client)
			start_allocation(e, s, now);
	} else if (s->tries >= CHECK_TRIES) {
		s->tries = 0;
		s->state = SERVER_DOWN;
		s->error = "no answer";
		s->retry_at = nb_time_add(now, RETRY_NS);
		e->cfg.ops->changed(e->cfg.arg);
	} else if (s->tries) {
		send_check(e, s, now);
	} else {
		start_check(e, s, now);
	}
}

void client_servers_timer(struct client_engine *e, struct nb_time now)
{
	for (size_t i = 0; i < e->nservers; i++) {
		struct engine_server *s = &e->servers[i];

		if (nb_time_due(s->retry_at, now))
			server_due(e, i, now);
		if (s->client && nb_time_due(turn_client_deadline(s->client), now))
			drain_turn(e, s, now);
	}
}

struct nb_time client_servers_deadline(const struct client_engine *e)
{
	struct nb_time next = NB_TIME_NEVER;

	for (size_t i = 0; i < e->nservers; i++) {
		next = nb_time_min(next, e->servers[i].retry_at);
		if (e->servers[i].client)
			next = nb_time_min(next, turn_client_deadline(e->servers[i].client));
	}
	return next;
}

void client_servers_doubt(struct client_engine *e, struct nb_time now)
{
	for (size_t i = 0; i < e->nservers; i++) {
		if (!e->servers[i].client)
			continue;
		turn_client_check(e->servers[i].client, now);
		drain_turn(e, &e->servers[i], now);
	}
}

void client_servers_moved(struct client_engine *e, struct nb_time now)
{
	for (size_t i = 0; i < e->nservers; i++) {
		struct engine_server *s = &e->servers[i];

		if (s->client)
			end_allocation(e, s, "our address changed", now);
		if (s->naddr || (s->stream && !s->link))
			s->retry_at = now;
		s->tries = 0;
	}
}

void client_servers_stop(struct client_engine *e, struct nb_time now)
{
	for (size_t i = 0; i < e->nservers; i++)
		give_back(e, &e->servers[i], now);
}

void client_servers_free(struct client_engine *e)
{
	for (size_t i = 0; i < e->nservers; i++) {
		if (e->servers[i].link)
			e->cfg.ops->link_hang_up(e->cfg.arg, e->servers[i].link);
		turn_client_free(e->servers[i].client);
	}
	e->nservers = 0;
}
