/* conn.c - see conn.h: one peer connection as a state machine. What it decides: when to offer, which
 * session a message belongs to, when ICE begins and ends, where WireGuard shall send. What it leaves
 * alone: sockets, sealing, TURN allocations, WireGuard itself.
 * spec/peer-connection.md 1.1-1.9, 3.3, 4.3. Tests: tests/unit/client_conn_test.c,
 * tests/sim/client_conn_sim_test.c */
#include "client/conn.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"

#define OFFER_FIRST_MS 3000		/* second OFFER after opening; doubles */
#define OFFER_AGAIN_MS 800		/* first OFFER after a loss; doubles */
#define OFFER_PARTIAL_CAP_MS 600000	/* where it ends while one of two paths works */
#define OFFER_CAP_MIN_MS 30000		/* where doubling ends, random per peer */
#define OFFER_CAP_MAX_MS 45000
#define OFFER_CAP_LOST_MS 8000		/* the same for five minutes after a path was lost */
#define LOST_LATELY_MS 300000
#define RESPONDER_WAIT_MS 5000		/* the controlling side's handshake comes first */
#define PUNCH_WAIT_MS 1000
#define IDLE_MS 25000			/* between checks of an idle path with one of ours; what NATs bear */
#define IDLE_MIN_MS 10000		/* where that was too rare, down to this */
#define ACCEPT_SRFLX_MS 200		/* with one of ours, which loses nothing when a better pair comes later */
#define ACCEPT_PRFLX_MS 300
#define PUNCH_PORT 51820		/* when the peer did not name its port */
#define EARLY_MS 10000
#define REPEAT_MS 250			/* after an ANSWER: candidates again, see run_repeat() */
#define ROAMED_MS 10000			/* WireGuard heard the peer elsewhere: so long that says something */
#define HEARD_MS 3000			/* silence on a path that counts as loss when the peer gives it up */
#define LOOSE_MS 6000			/* a path whose session ended because somebody moved */
#define HANDSHAKE_FIRST_MS 30000
#define HANDSHAKE_AGAIN_MS 210000
#define QUEUE_MAX 64
#define MAPPED_BONUS 1000		/* a port mapping's priority is that much above srflx (spec 1.6) */

/* What waits for client_conn_event(); signal messages are filled in when they are taken. */
struct queued {
	enum client_conn_event_type type;
	enum client_signal_type signal;
	enum client_conn_path path;
	struct nb_endpoint remote;
	unsigned via;
	uint32_t channel;
	bool handshake;
};

/* Candidates that may belong to an agent that is still to come. */
struct early {
	struct ice_candidate c;
	struct nb_time at;
};

/* The channel on the relay we share with the peer. */
enum relay_state { NO_RELAY, RELAY_OPENING, RELAY_UP };

/* One ICE agent and what belongs to it only. */
struct session {
	struct ice_agent *agent;
	char ufrag[ICE_UFRAG_MAX + 1];		/* the peer's: one for each life of it */
	bool has_remote;			/* the peer named its session */
	uint8_t remote[CLIENT_SESSION_LEN];
	bool turn;				/* TURN candidates take part */
	struct ice_candidate *announce;		/* ours, to be signalled; kept to repeat them */
	unsigned nannounce, announced;
	struct nb_time repeat_at;
	struct nb_addr peers[ICE_REMOTE_MAX];	/* addresses for permissions */
	unsigned npeers;
};

struct client_conn {
	struct client_conn_config cfg;
	bool open, controller;
	char ufrag[ICE_UFRAG_LEN + 1], pwd[ICE_PWD_LEN + 1];
	uint8_t session_id[CLIENT_SESSION_LEN];
	struct session *session;
	struct ice_pair_report *tried;	/* of the session before, for `why` */
	size_t ntried;
	struct nb_time now;		/* of the last call that brought the time */

	bool peer_ice;			/* the peer sends credentials, as far as we know */
	uint16_t peer_port;
	char peer_relay[CLIENT_RELAY_URL_MAX];
	struct nb_addr peer_relay_ip;
	char peer_ufrag[ICE_UFRAG_MAX + 1];	/* another one: the peer has started anew */
	struct early *early;		/* allocated while there are any */
	unsigned nearly;
	struct nb_time early_until;

	struct nb_time offer_at;
	int64_t offer_ms, offer_cap_ms;

	enum relay_state relay;
	char relay_url[CLIENT_RELAY_URL_MAX];	/* where the channel is, unless NO_RELAY */
	uint32_t channel;

	enum client_conn_path path;	/* in use: ICE's, else the relay */
	enum client_conn_path ice_path;	/* NONE, TURN or DIRECT */
	struct ice_pair_info pair;	/* valid unless ice_path is NONE */
	struct nb_endpoint direct;	/* where the last direct path led; family 0: there was none */
	struct nb_time loose_until;	/* ICE's path has no session any more: no longer than this */
	struct nb_time roamed;		/* WireGuard heard the peer from elsewhere; 0 for never */
	struct nb_time changed;
	unsigned idle_ms;		/* of the next session */
	struct nb_time active;		/* data passed, as far as we know */
	struct nb_time endpoint_at;	/* responder: set the endpoint ourselves */
	struct nb_time punch_at;
	struct nb_time watch_at;
	struct nb_time handshake;	/* last one, 0 for none on this path */

	struct queued queue[QUEUE_MAX];
	unsigned queue_at, nqueue;
};

/* ---- Events ---- */

static struct queued *push(struct client_conn *c, enum client_conn_event_type type)
{
	struct queued *q;

	if (c->nqueue == QUEUE_MAX) {	/* nobody takes them: the oldest matter least */
		c->queue_at = (c->queue_at + 1) % QUEUE_MAX;
		c->nqueue--;
	}
	q = &c->queue[(c->queue_at + c->nqueue++) % QUEUE_MAX];
	*q = (struct queued){ .type = type };
	return q;
}

static void push_signal(struct client_conn *c, enum client_signal_type type)
{
	push(c, CLIENT_CONN_SEND)->signal = type;
}

static void push_endpoint(struct client_conn *c, bool handshake)
{
	struct queued *q = push(c, CLIENT_CONN_ENDPOINT);

	q->path = c->path;
	q->handshake = handshake;
	if (c->path == CLIENT_PATH_RELAY) {
		q->channel = c->channel;
		return;
	}
	q->remote = c->pair.remote.at;
	q->via = c->pair.via;
}

static void push_permit(struct client_conn *c, const struct nb_addr *peer)
{
	push(c, CLIENT_CONN_PERMIT)->remote.addr = *peer;
}

static void copy_text(char *to, size_t cap, const char *from)
{
	size_t n = from ? strnlen(from, cap - 1) : 0;

	memcpy(to, from ? from : "", n);
	to[n] = 0;
}

/* An OFFER or ANSWER as of now (spec 1.1). An ANSWER has no credentials when the peer sent none, as
 * stock does it. An OFFER always says what we can do: two sides that each wait for the other's
 * credentials would wait for good. */
static void describe(const struct client_conn *c, struct client_signal_msg *m)
{
	const struct client_network *net = c->cfg.net;

	if (!net->force_relay && (c->peer_ice || m->type == CLIENT_SIGNAL_OFFER)) {
		memcpy(m->ufrag, c->ufrag, sizeof c->ufrag);
		memcpy(m->pwd, c->pwd, sizeof c->pwd);
		memcpy(m->session, c->session_id, sizeof m->session);
		m->has_session = true;
	}
	m->rare_checks = true;
	m->wg_port = net->port;
	copy_text(m->version, sizeof m->version, net->version);
	copy_text(m->relay_url, sizeof m->relay_url, net->relay_url);
	if (m->relay_url[0])
		m->relay_ip = net->relay_ip;
}

static bool take_queued(struct client_conn *c, struct client_conn_event *ev)
{
	const struct queued *q = &c->queue[c->queue_at];

	if (!c->nqueue)
		return false;
	c->queue_at = (c->queue_at + 1) % QUEUE_MAX;
	c->nqueue--;
	ev->type = q->type;
	ev->path = q->path;
	ev->remote = q->remote;
	ev->via = q->via;
	ev->channel = q->channel;
	ev->handshake = q->handshake;
	if (q->type == CLIENT_CONN_RELAY_OPEN)
		memcpy(ev->relay_url, c->relay_url, sizeof ev->relay_url);
	if (q->type == CLIENT_CONN_SEND) {
		ev->signal.type = q->signal;
		describe(c, &ev->signal);
	}
	return true;
}

/* Offers and answers are queued, so candidates never come before them. */
static bool take_candidate(struct client_conn *c, struct client_conn_event *ev)
{
	struct session *s = c->session;

	if (!s || s->announced == s->nannounce)
		return false;
	ev->type = CLIENT_CONN_SEND;
	ev->signal.type = CLIENT_SIGNAL_CANDIDATE;
	ice_candidate_format(ev->signal.candidate, &s->announce[s->announced++]);
	return true;
}

int client_conn_event(struct client_conn *c, struct client_conn_event *ev)
{
	memset(ev, 0, sizeof *ev);
	return take_queued(c, ev) || take_candidate(c, ev);
}

/* ---- The reconnect guard (spec 1.5) ---- */

static int64_t random_between(struct client_conn *c, int64_t low, int64_t high)
{
	uint32_t r;

	c->cfg.random(c->cfg.random_ctx, &r, sizeof r);
	return low + (int64_t)(r % (uint64_t)(high - low + 1));
}

/* A path that was lost lately is likely to come back; a peer that never had one is likely to be off. */
static int64_t offer_cap(const struct client_conn *c, struct nb_time now)
{
	bool lost = c->path == CLIENT_PATH_NONE && c->pair.remote.at.addr.family;

	return lost && nb_time_diff(now, c->changed) < LOST_LATELY_MS * NB_MS ? OFFER_CAP_LOST_MS : c->offer_cap_ms;
}

/* The next OFFER after ms, ten percent more or less, and then twice as long. */
static void schedule_offer(struct client_conn *c, int64_t ms, struct nb_time now)
{
	int64_t cap = c->path == CLIENT_PATH_NONE ? offer_cap(c, now) : OFFER_PARTIAL_CAP_MS;

	c->offer_at = nb_time_add_ms(now, random_between(c, ms - ms / 10, ms + ms / 10));
	c->offer_ms = ms * 2 < cap ? ms * 2 : cap;
}

/* Has the peer's agent been heard? If not, our ANSWER may be lost: an OFFER with the same session does
 * no harm where it arrived. */
static bool peer_heard(const struct session *s)
{
	const struct ice_stats *st = ice_stats(s->agent);

	return st->requests_received || st->responses_received;
}

/* ICE has no path, or one that will not last. */
static bool is_loose(const struct client_conn *c)
{
	return !c->ice_path || !nb_time_is_never(c->loose_until);
}

static bool ice_missing(const struct client_conn *c)
{
	return !c->cfg.net->force_relay && c->peer_ice && is_loose(c) && !(c->session && peer_heard(c->session));
}

static bool relay_missing(const struct client_conn *c)
{
	return c->cfg.net->relay_url[0] && c->peer_relay[0] && c->relay != RELAY_UP;
}

/* Offers until there is a path; rarer and rarer while one of two is missing (stock makes three and then one each
 * hour); none when all is there. */
static void run_guard(struct client_conn *c, struct nb_time now)
{
	if (!c->open || !nb_time_due(c->offer_at, now))
		return;
	if (!is_loose(c) && !relay_missing(c)) {
		c->offer_at = NB_TIME_NEVER;
		return;
	}
	if (c->path == CLIENT_PATH_NONE ? !c->session || !peer_heard(c->session) || relay_missing(c) :
					  ice_missing(c) || relay_missing(c))
		push_signal(c, CLIENT_SIGNAL_OFFER);
	schedule_offer(c, c->offer_ms, now);
}

/* Something was lost, or came back. */
static void guard_event(struct client_conn *c, struct nb_time now)
{
	if (c->open)
		schedule_offer(c, OFFER_AGAIN_MS, now);
}

/* ---- Paths ---- */

static enum client_conn_path path_of(const struct ice_pair_info *p)
{
	return p->local.type == ICE_RELAY || p->remote.type == ICE_RELAY ? CLIENT_PATH_TURN : CLIENT_PATH_DIRECT;
}

static void stop_path_timers(struct client_conn *c)
{
	c->endpoint_at = c->watch_at = NB_TIME_NEVER;
	c->handshake.ns = 0;
}

/* The path is gone: WireGuard must stop sending there. */
static void no_path(struct client_conn *c, struct nb_time now)
{
	c->changed = now;
	stop_path_timers(c);
	push(c, CLIENT_CONN_NO_ENDPOINT);
	push(c, CLIENT_CONN_CHANGED);
}

/* The controlling side points WireGuard at the path at once; the other waits for a packet from there, which moves its
 * WireGuard, and acts on its own only when none comes. Back to the relay both go at once (spec 3.3). */
static void use_path(struct client_conn *c, bool back, struct nb_time now)
{
	if (c->handshake.ns == 0 || nb_time_is_never(c->watch_at))
		c->watch_at = nb_time_add_ms(now, HANDSHAKE_FIRST_MS);
	if (c->controller || back) {
		c->endpoint_at = NB_TIME_NEVER;
		push_endpoint(c, c->controller && c->handshake.ns == 0);
	} else {
		c->endpoint_at = nb_time_add_ms(now, RESPONDER_WAIT_MS);
	}
	push(c, CLIENT_CONN_CHANGED);
}

/* After ICE or the relay came or went: the better of the two. */
static void choose_path(struct client_conn *c, struct nb_time now)
{
	enum client_conn_path old = c->path;

	c->path = c->ice_path ? c->ice_path : c->relay == RELAY_UP ? CLIENT_PATH_RELAY : CLIENT_PATH_NONE;
	if (c->path == old)
		return;
	if (c->path == CLIENT_PATH_NONE) {
		no_path(c, now);
		return;
	}
	if (old == CLIENT_PATH_NONE)
		c->changed = now;
	use_path(c, old > c->path, now);
}

static void lose_ice(struct client_conn *c, struct nb_time now)
{
	if (!c->ice_path)
		return;
	c->ice_path = CLIENT_PATH_NONE;
	c->punch_at = c->loose_until = NB_TIME_NEVER;
	choose_path(c, now);
	guard_event(c, now);
}

static void take_pair(struct client_conn *c, const struct ice_pair_info *pair)
{
	c->pair = *pair;
	c->ice_path = path_of(pair);
	if (c->ice_path == CLIENT_PATH_DIRECT)
		c->direct = pair->remote.at;
}

/* ICE has a pair: in place of the relay, of nothing, or of a path that had no session any more. */
static void gain_ice(struct client_conn *c, const struct ice_pair_info *pair, struct nb_time now)
{
	bool loose = c->ice_path != CLIENT_PATH_NONE;

	take_pair(c, pair);
	c->loose_until = NB_TIME_NEVER;
	if (!relay_missing(c))
		c->offer_at = NB_TIME_NEVER;	/* lose_ice() starts the guard again */
	c->punch_at = pair->local.type == ICE_RELAY ? NB_TIME_NEVER : nb_time_add_ms(now, PUNCH_WAIT_MS);
	if (!loose) {
		choose_path(c, now);
		return;
	}
	c->path = c->ice_path;
	c->handshake.ns = 0;
	use_path(c, false, now);
}

/* The controlling side changed its mind. */
static void change_pair(struct client_conn *c, const struct ice_pair_info *pair)
{
	take_pair(c, pair);
	c->path = c->ice_path;
	if (nb_time_is_never(c->endpoint_at))
		push_endpoint(c, false);
	push(c, CLIENT_CONN_CHANGED);
}

/* ---- The relay ---- */

static void close_relay(struct client_conn *c, struct nb_time now)
{
	if (c->relay == NO_RELAY)
		return;
	c->relay = NO_RELAY;
	push(c, CLIENT_CONN_RELAY_CLOSE);
	choose_path(c, now);
}

/* The relay of a pair is the controlling side's home (spec 3.2). */
static void open_relay(struct client_conn *c, struct nb_time now)
{
	const struct client_network *net = c->cfg.net;
	const char *url = c->controller ? net->relay_url : c->peer_relay;

	if (!net->relay_url[0] || !c->peer_relay[0])
		return;
	if (c->relay != NO_RELAY && strcmp(c->relay_url, url) == 0)
		return;
	close_relay(c, now);
	copy_text(c->relay_url, sizeof c->relay_url, url);
	c->relay = RELAY_OPENING;
	push(c, CLIENT_CONN_RELAY_OPEN)->remote.addr = c->controller ? (struct nb_addr){ 0 } : c->peer_relay_ip;
}

void client_conn_relay_up(struct client_conn *c, uint32_t channel, struct nb_time now)
{
	c->now = now;
	if (c->relay != RELAY_OPENING)
		return;
	c->relay = RELAY_UP;
	c->channel = channel;
	if (c->ice_path)
		c->offer_at = NB_TIME_NEVER;
	choose_path(c, now);
	push(c, CLIENT_CONN_CHANGED);
}

void client_conn_relay_gone(struct client_conn *c, struct nb_time now)
{
	bool up = c->relay == RELAY_UP;

	c->now = now;
	if (c->relay == NO_RELAY)
		return;
	c->relay = NO_RELAY;
	choose_path(c, now);
	if (up)
		guard_event(c, now);
	push(c, CLIENT_CONN_CHANGED);
}

void client_conn_relay_ready(struct client_conn *c, struct nb_time now)
{
	c->now = now;
	if (!c->open)
		return;
	open_relay(c, now);
	if (c->path != CLIENT_PATH_NONE) {
		guard_event(c, now);
		return;
	}
	/* What the peer knows of us so far has no relay in it. */
	push_signal(c, CLIENT_SIGNAL_OFFER);
	schedule_offer(c, OFFER_FIRST_MS, now);
}

/* ---- Sessions ---- */

static void new_session_id(struct client_conn *c)
{
	c->cfg.random(c->cfg.random_ctx, c->session_id, sizeof c->session_id);
}

/* The agent goes, and with it both session ids: the next one is a new session (spec 1.3). */
static size_t report_pairs(const struct ice_agent *a, struct ice_pair_report *out, size_t max)
{
	size_t n = 0;

	while (n < max && ice_pair_report(a, (unsigned)n, &out[n]))
		n++;
	return n;
}

static void keep_report(struct client_conn *c)
{
	struct ice_pair_report all[CLIENT_PAIRS_MAX];
	size_t n = report_pairs(c->session->agent, all, CLIENT_PAIRS_MAX);

	free(c->tried);
	c->tried = n ? malloc(n * sizeof *all) : NULL;
	c->ntried = c->tried ? n : 0;
	if (c->ntried)
		memcpy(c->tried, all, n * sizeof *all);
}

static void drop_session(struct client_conn *c)
{
	struct session *s = c->session;

	if (!s)
		return;
	keep_report(c);
	ice_demux_del(c->cfg.demux, s->agent);
	ice_free(s->agent);
	free(s->announce);
	free(s);
	c->session = NULL;
	new_session_id(c);
}

static void end_session(struct client_conn *c, struct nb_time now)
{
	drop_session(c);
	lose_ice(c, now);
}

/* The session is of no use any more because we or the peer moved. WireGuard sends from where it is now
 * and answers to where it was heard: a direct path may well go on. It gets some time, until the next
 * session has found one. */
static void loosen(struct client_conn *c, struct nb_time now)
{
	if (c->ice_path != CLIENT_PATH_DIRECT) {
		end_session(c, now);
		return;
	}
	drop_session(c);
	c->endpoint_at = c->watch_at = c->punch_at = NB_TIME_NEVER;
	c->loose_until = nb_time_add_ms(now, LOOSE_MS);
	schedule_offer(c, OFFER_AGAIN_MS, now);
}

/* Tell the peer where we are: the handshake moves its WireGuard here, long before the signal server has
 * heard of us. Needs no path: where it was last is the best guess. */
static void show_up(struct client_conn *c)
{
	struct queued *q;

	if (!c->direct.addr.family || (c->path != CLIENT_PATH_NONE && c->path != CLIENT_PATH_DIRECT))
		return;
	q = push(c, CLIENT_CONN_ENDPOINT);
	q->path = CLIENT_PATH_DIRECT;
	q->remote = c->direct;
	q->handshake = true;
}

static void set_timers(struct ice_config *cfg, const struct client_network *net)
{
	if (net->keepalive_ms)
		cfg->keepalive_ms = net->keepalive_ms;
	if (net->disconnected_ms)
		cfg->disconnected_ms = net->disconnected_ms;
	if (net->failed_ms)
		cfg->failed_ms = net->failed_ms;
	if (net->accept_relay_ms)
		cfg->accept_relay_ms = net->accept_relay_ms;
}

static struct ice_agent *new_agent(struct client_conn *c, const struct client_signal_msg *m, struct nb_time now)
{
	struct ice_agent *a;
	struct ice_config cfg;

	ice_config_default(&cfg);
	if (m->rare_checks) {
		cfg.idle_ms = c->idle_ms;
		cfg.accept_srflx_ms = ACCEPT_SRFLX_MS;
		cfg.accept_prflx_ms = ACCEPT_PRFLX_MS;
	}
	set_timers(&cfg, c->cfg.net);
	cfg.local_ufrag = c->ufrag;
	cfg.local_pwd = c->pwd;
	cfg.remote_ufrag = m->ufrag;
	cfg.remote_pwd = m->pwd;
	cfg.controlling = c->controller;
	cfg.relay_only = c->cfg.net->relay_only;
	cfg.random = c->cfg.random;
	cfg.random_ctx = c->cfg.random_ctx;
	cfg.user = c;
	a = ice_new(&cfg, now);
	if (a && ice_demux_add(c->cfg.demux, a)) {
		ice_free(a);
		return NULL;
	}
	return a;
}

/* The first reflexive address that STUN has found. */
static bool reflexive(const struct session *s, struct nb_addr *out)
{
	for (unsigned i = 0; i < s->nannounce; i++) {
		const struct ice_candidate *own = &s->announce[i];

		if (own->type != ICE_SRFLX || own->at.addr.family != 4)
			continue;
		*out = own->at.addr;
		return true;
	}
	return false;
}

/* What the gateway forwards to us is one more reflexive candidate, to be preferred to STUN's: it lets in whom
 * we have not sent to. */
static void offer_mapping(struct client_conn *c, struct nb_time now)
{
	const struct client_network *net = c->cfg.net;
	struct ice_candidate cand = { .type = ICE_SRFLX, .at = net->mapped, .priority = ice_priority(ICE_SRFLX) + MAPPED_BONUS };

	if (!net->mapped.port)
		return;
	if (nb_addr_is_unspecified(&cand.at.addr) && !reflexive(c->session, &cand.at.addr))
		return;
	cand.related = (struct nb_endpoint){ { .family = cand.at.addr.family }, net->port };
	ice_add_local(c->session->agent, &cand, now);
}

/* Our side's candidates as the network is now; what the agent has already is no news to it. */
static void offer_network(struct client_conn *c, struct nb_time now)
{
	const struct client_network *net = c->cfg.net;
	struct session *s = c->session;
	struct ice_candidate cand;

	for (size_t i = 0; i < net->nhosts; i++) {
		ice_host_candidate(&cand, &net->hosts[i], net->port);
		ice_add_local(s->agent, &cand, now);
	}
	offer_mapping(c, now);
	for (size_t i = 0; i < net->nstun; i++)
		ice_add_stun_server(s->agent, &net->stun[i], net->port, now);
	for (size_t i = 0; s->turn && i < net->nrelayed; i++) {
		cand = (struct ice_candidate){ .type = ICE_RELAY, .via = (unsigned)i + 1, .at = net->relayed[i] };
		cand.related = (struct nb_endpoint){ { .family = cand.at.addr.family }, net->port };
		ice_add_local(s->agent, &cand, now);
	}
}

static bool has_allocation(const struct client_network *net)
{
	for (size_t i = 0; i < net->nrelayed; i++) {
		if (net->relayed[i].addr.family)
			return true;
	}
	return false;
}

static void permit_peer(struct client_conn *c, const struct nb_addr *peer)
{
	struct session *s = c->session;

	for (unsigned i = 0; i < s->npeers; i++) {
		if (nb_addr_eq(&s->peers[i], peer))
			return;
	}
	if (s->npeers == ICE_REMOTE_MAX)
		return;
	s->peers[s->npeers++] = *peer;
	if (s->turn && has_allocation(c->cfg.net))
		push_permit(c, peer);
}

static void add_candidate(struct client_conn *c, const struct ice_candidate *cand, struct nb_time now)
{
	if (ice_add_remote(c->session->agent, cand, now) != NB_E_ARG)
		permit_peer(c, &cand->at.addr);
}

static void drop_early(struct client_conn *c)
{
	free(c->early);
	c->early = NULL;
	c->nearly = 0;
	c->early_until = NB_TIME_NEVER;
}

/* Candidates that overtook their OFFER or ANSWER. Those of an earlier life of the peer carry another
 * ufrag. */
static void use_early(struct client_conn *c, const char *ufrag, struct nb_time now)
{
	for (unsigned i = 0; i < c->nearly; i++) {
		const struct early *e = &c->early[i];

		if (nb_time_diff(now, e->at) > EARLY_MS * NB_MS)
			continue;
		if (!e->c.ufrag[0] || strcmp(e->c.ufrag, ufrag) == 0)
			add_candidate(c, &e->c, now);
	}
}

static void begin_session(struct client_conn *c, const struct client_signal_msg *m, struct nb_time now)
{
	const struct client_network *net = c->cfg.net;
	struct session *s = calloc(1, sizeof *s);

	if (!s)
		return;
	s->agent = new_agent(c, m, now);
	if (!s->agent) {
		free(s);
		return;
	}
	copy_text(s->ufrag, sizeof s->ufrag, m->ufrag);
	s->repeat_at = m->type == CLIENT_SIGNAL_OFFER ? nb_time_add_ms(now, REPEAT_MS) : NB_TIME_NEVER;
	s->has_remote = m->has_session;
	memcpy(s->remote, m->session, sizeof s->remote);
	s->turn = net->relay_only || !(net->relay_url[0] || net->relay_configured) || !m->relay_url[0];
	c->session = s;
	offer_network(c, now);
	use_early(c, m->ufrag, now);
}

/* WireGuard's sessions are of no use any more; the next endpoint takes a new handshake. */
static void reset_keys(struct client_conn *c)
{
	c->handshake.ns = 0;
	push(c, CLIENT_CONN_RESET);
}

/* Does ICE's path still carry anything, as far as we can tell? */
static bool heard_lately(const struct client_conn *c, struct nb_time now)
{
	struct ice_pair_info live;

	if (c->roamed.ns && nb_time_diff(now, c->roamed) < ROAMED_MS * NB_MS)
		return true;
	return c->session && ice_selected(c->session->agent, &live) && nb_time_diff(now, live.heard) < HEARD_MS * NB_MS;
}

/* The peer begins a new session. The same name: it moved or lost us, and its keys are still good. Another
 * one: it was restarted. */
static void end_for_new(struct client_conn *c, const struct client_signal_msg *m, struct nb_time now)
{
	bool restarted = strcmp(c->session->ufrag, m->ufrag) != 0;

	if (!restarted && heard_lately(c, now)) {
		loosen(c, now);
		return;
	}
	if (restarted && c->ice_path && c->controller)
		reset_keys(c);
	end_session(c, now);
}

/* The ICE part of an OFFER or ANSWER: the table in spec 1.3. */
static void ice_message(struct client_conn *c, const struct client_signal_msg *m, struct nb_time now)
{
	struct session *s = c->session;

	if (s) {
		if (!m->has_session)
			return;
		if (s->has_remote && memcmp(s->remote, m->session, sizeof s->remote) == 0) {
			if (m->type == CLIENT_SIGNAL_OFFER && is_loose(c))
				s->announced = 0;	/* it has missed our ANSWER, so our candidates too */
			return;
		}
		end_for_new(c, m, now);
	}
	begin_session(c, m, now);
}

/* ---- What the agent reports ---- */

static void announce(struct session *s, const struct ice_candidate *cand)
{
	struct ice_candidate *p;

	if (s->nannounce == ICE_LOCAL_MAX)
		return;
	p = realloc(s->announce, (s->nannounce + 1) * sizeof *p);
	if (!p)
		return;
	s->announce = p;
	p[s->nannounce++] = *cand;
}

/* ICE hears nothing. If WireGuard does, from another address, the peer has moved and not said so yet. */
static void session_died(struct client_conn *c, struct nb_time now)
{
	/* Died while nobody used it: perhaps a NAT has forgotten us between two checks. */
	if (c->ice_path && nb_time_diff(now, c->active) > 2 * ICE_ACTIVE_MS * NB_MS && c->idle_ms > IDLE_MIN_MS)
		c->idle_ms = c->idle_ms / 2 > IDLE_MIN_MS ? c->idle_ms / 2 : IDLE_MIN_MS;
	if (heard_lately(c, now))
		loosen(c, now);
	else
		end_session(c, now);
}

static void agent_event(struct client_conn *c, const struct ice_event *ev, struct nb_time now)
{
	struct session *s = c->session;

	switch (ev->type) {
	case ICE_EV_CANDIDATE:
		announce(s, &ev->candidate);
		if (ev->candidate.type == ICE_SRFLX)
			offer_mapping(c, now);
		break;
	case ICE_EV_CONNECTED:
		gain_ice(c, &ev->pair, now);
		break;
	case ICE_EV_SELECTED:
		change_pair(c, &ev->pair);
		break;
	case ICE_EV_DISCONNECTED:
	case ICE_EV_FAILED:
		session_died(c, now);
		break;
	default:
		break;
	}
}

/* After anything that may have moved the agent. */
static void pump(struct client_conn *c, struct nb_time now)
{
	struct ice_event ev;

	while (c->session && ice_event(c->session->agent, &ev))
		agent_event(c, &ev, now);
}

/* ---- Signal messages ---- */

static void remember_early(struct client_conn *c, const struct ice_candidate *cand, struct nb_time now)
{
	if (!c->early)
		c->early = calloc(CLIENT_EARLY_MAX, sizeof *c->early);
	if (!c->early)
		return;
	if (c->nearly == CLIENT_EARLY_MAX)
		memmove(c->early, c->early + 1, --c->nearly * sizeof *c->early);
	c->early[c->nearly++] = (struct early){ *cand, now };
	c->early_until = nb_time_add_ms(now, EARLY_MS);
}

static void on_candidate(struct client_conn *c, const struct client_signal_msg *m, struct nb_time now)
{
	struct ice_candidate cand;

	if (ice_candidate_parse(&cand, nb_bytes_str(m->candidate)))
		return;
	if (c->session)
		add_candidate(c, &cand, now);
	/* Even with an agent: the candidate may belong to the session whose OFFER it has overtaken. */
	remember_early(c, &cand, now);
}

/* A peer that comes with other credentials has started anew, and its WireGuard with it. Where the relay did not notice
 * (it took the new connection for the old one) the controlling side begins again. */
static void note_restart(struct client_conn *c, const struct client_signal_msg *m)
{
	bool other = m->ufrag[0] && c->peer_ufrag[0] && strcmp(c->peer_ufrag, m->ufrag) != 0;

	if (m->ufrag[0])
		copy_text(c->peer_ufrag, sizeof c->peer_ufrag, m->ufrag);
	if (!other || !c->controller || c->path != CLIENT_PATH_RELAY)
		return;
	reset_keys(c);
	push_endpoint(c, true);
}

static void on_description(struct client_conn *c, const struct client_signal_msg *m, struct nb_time now)
{
	c->peer_ice = m->ufrag[0] && m->pwd[0];
	c->peer_port = m->wg_port;
	copy_text(c->peer_relay, sizeof c->peer_relay, m->relay_url);
	c->peer_relay_ip = m->relay_ip;
	note_restart(c, m);
	open_relay(c, now);
	if (!c->peer_ice)
		end_session(c, now);
	else if (!c->cfg.net->force_relay)
		ice_message(c, m, now);
	if (m->type == CLIENT_SIGNAL_OFFER)
		push_signal(c, CLIENT_SIGNAL_ANSWER);
}

void client_conn_signal(struct client_conn *c, const struct client_signal_msg *m, struct nb_time now)
{
	if (m->type == CLIENT_SIGNAL_GO_IDLE)
		return;		/* without lazy connections it means nothing (spec 3.5) */
	client_conn_open(c, now);
	c->now = now;
	if (m->type == CLIENT_SIGNAL_CANDIDATE)
		on_candidate(c, m, now);
	else if (m->type == CLIENT_SIGNAL_OFFER || m->type == CLIENT_SIGNAL_ANSWER)
		on_description(c, m, now);
	pump(c, now);
}

/* ---- Life ---- */

struct client_conn *client_conn_new(const struct client_conn_config *cfg, struct nb_time now)
{
	struct client_conn *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->cfg = *cfg;
	c->controller = strcmp(cfg->self_key, cfg->peer_key) > 0;
	c->now = c->changed = c->active = now;
	c->idle_ms = IDLE_MS;
	c->offer_at = c->early_until = NB_TIME_NEVER;
	c->offer_cap_ms = random_between(c, OFFER_CAP_MIN_MS, OFFER_CAP_MAX_MS);
	stop_path_timers(c);
	c->punch_at = c->loose_until = NB_TIME_NEVER;
	return c;
}

void client_conn_free(struct client_conn *c)
{
	if (!c)
		return;
	end_session(c, c->now);
	drop_early(c);
	free(c->tried);
	nb_wipe(c, sizeof *c);
	free(c);
}

void client_conn_open(struct client_conn *c, struct nb_time now)
{
	if (c->open)
		return;
	c->open = true;
	c->now = c->changed = now;
	c->peer_ice = true;
	c->offer_at = now;
	c->offer_ms = OFFER_FIRST_MS;
	ice_make_credentials(c->ufrag, c->pwd, c->cfg.random, c->cfg.random_ctx);
	new_session_id(c);
	push(c, CLIENT_CONN_CHANGED);
	run_guard(c, now);
}

void client_conn_close(struct client_conn *c, struct nb_time now)
{
	if (!c->open)
		return;
	c->open = false;
	c->now = c->changed = now;
	end_session(c, now);
	close_relay(c, now);
	drop_early(c);
	c->offer_at = NB_TIME_NEVER;
	c->peer_ufrag[0] = c->peer_relay[0] = 0;
	push(c, CLIENT_CONN_CHANGED);
}

bool client_conn_is_open(const struct client_conn *c)
{
	return c->open;
}

bool client_conn_is_controller(const struct client_conn *c)
{
	return c->controller;
}

void *client_conn_user(const struct client_conn *c)
{
	return c->cfg.user;
}

/* ---- Outside events ---- */

void client_conn_signal_ready(struct client_conn *c, struct nb_time now)
{
	c->now = now;
	if (!c->open || (!is_loose(c) && !relay_missing(c)))
		return;
	c->offer_at = now;
	c->offer_ms = OFFER_AGAIN_MS;
}

static bool announced(const struct session *s, const struct nb_addr *host)
{
	for (unsigned i = 0; i < s->nannounce; i++) {
		if (s->announce[i].type == ICE_HOST && nb_addr_eq(&s->announce[i].at.addr, host))
			return true;
	}
	return false;
}

static bool present(const struct client_network *net, const struct nb_addr *host)
{
	for (size_t i = 0; i < net->nhosts; i++) {
		if (nb_addr_eq(&net->hosts[i], host))
			return true;
	}
	return false;
}

/* Has the session lost an address its path may use? */
static bool lost_address(const struct client_conn *c)
{
	const struct session *s = c->session;
	bool direct = c->ice_path && !c->pair.via;

	for (unsigned i = 0; i < s->nannounce; i++) {
		const struct ice_candidate *own = &s->announce[i];

		if (own->type != ICE_HOST || present(c->cfg.net, &own->at.addr))
			continue;
		if (!direct || own->at.addr.family == c->pair.remote.at.addr.family)
			return true;
	}
	return false;
}

static bool same_addresses(const struct client_conn *c)
{
	const struct client_network *net = c->cfg.net;

	for (size_t i = 0; i < net->nhosts; i++) {
		if (!announced(c->session, &net->hosts[i]))
			return false;
	}
	return true;
}

/* Do the sockets' packets still leave as the session thinks they do? */
static bool session_survives(const struct client_conn *c)
{
	return c->session && !lost_address(c) && !same_addresses(c);
}

void client_conn_network_changed(struct client_conn *c, bool hard, struct nb_time now)
{
	c->now = now;
	if (!c->open)
		return;
	pump(c, now);
	if (hard && !session_survives(c)) {
		loosen(c, now);
		show_up(c);
		c->offer_at = now;
		c->offer_ms = OFFER_AGAIN_MS;
		run_guard(c, now);
	} else if (c->session) {
		offer_network(c, now);
		for (unsigned i = 0; c->session->turn && has_allocation(c->cfg.net) && i < c->session->npeers; i++)
			push_permit(c, &c->session->peers[i]);
	}
	pump(c, now);
}

void client_conn_handshake(struct client_conn *c, struct nb_time now)
{
	c->now = now;
	c->handshake = now;
}

void client_conn_active(struct client_conn *c, struct nb_time now)
{
	c->now = c->active = now;
	if (c->session)
		ice_active(c->session->agent, now);
}

void client_conn_roamed(struct client_conn *c, const struct nb_endpoint *to, struct nb_time now)
{
	c->now = now;
	if (c->path == CLIENT_PATH_DIRECT && !nb_endpoint_eq(to, &c->pair.remote.at))
		c->roamed = now;
}

struct client_conn *client_conn_find(const struct ice_demux *d, struct nb_bytes dgram)
{
	struct ice_agent *a = ice_demux_find(d, dgram);

	return a ? ice_user(a) : NULL;
}

int client_conn_input(struct client_conn *c, const struct nb_dgram *in, unsigned via, struct nb_time now)
{
	int err;

	c->now = now;
	if (!c->session)
		return NB_E_STATE;
	err = ice_input(c->session->agent, in, via, now);
	pump(c, now);
	return err;
}

/* ---- Time ---- */

/* The controlling side had its time. When its handshake came WireGuard knows the endpoint already;
 * saying it again also undoes a roam to a path that was only a detour. */
static void run_responder(struct client_conn *c, struct nb_time now)
{
	if (!nb_time_due(c->endpoint_at, now))
		return;
	c->endpoint_at = NB_TIME_NEVER;
	push_endpoint(c, c->handshake.ns == 0);
}

/* A path over which WireGuard gets no handshake is no path (spec 4.3). */
static void run_watcher(struct client_conn *c, struct nb_time now)
{
	struct nb_time next = nb_time_add_ms(c->handshake, HANDSHAKE_AGAIN_MS);

	if (!nb_time_due(c->watch_at, now))
		return;
	if (c->handshake.ns && nb_time_before(now, next)) {
		c->watch_at = next;
		return;
	}
	c->handshake.ns = 0;
	if (c->ice_path) {
		end_session(c, now);
		return;
	}
	close_relay(c, now);
	guard_event(c, now);
}

static void run_loose(struct client_conn *c, struct nb_time now)
{
	if (nb_time_due(c->loose_until, now))
		lose_ice(c, now);
}

/* Stock makes its agent out of our ANSWER and throws away what comes before that is done, so the candidates
 * close behind the ANSWER may be lost, the only useful one among them. */
static void run_repeat(struct client_conn *c, struct nb_time now)
{
	if (!c->session || !nb_time_due(c->session->repeat_at, now))
		return;
	c->session->repeat_at = NB_TIME_NEVER;
	if (is_loose(c))
		c->session->announced = 0;
}

/* Two bytes for peers whose WireGuard listens elsewhere (spec 1.7). */
static int output_punch(struct client_conn *c, struct nb_dgram *out, unsigned *via, struct nb_time now)
{
	if (!nb_time_due(c->punch_at, now))
		return 0;
	c->punch_at = NB_TIME_NEVER;
	memcpy(out->p, "nb", 2);
	out->n = 2;
	out->to = c->pair.remote.at;
	out->to.port = c->peer_port ? c->peer_port : PUNCH_PORT;
	memset(&out->from, 0, sizeof out->from);
	*via = 0;
	return 1;
}

int client_conn_output(struct client_conn *c, struct nb_dgram *out, unsigned *via, struct nb_time now)
{
	int got = 0;

	c->now = now;
	run_responder(c, now);
	run_watcher(c, now);
	run_loose(c, now);
	run_guard(c, now);
	run_repeat(c, now);
	if (nb_time_due(c->early_until, now))
		drop_early(c);
	if (output_punch(c, out, via, now))
		return 1;
	if (c->session)
		got = ice_output(c->session->agent, out, via, now);
	pump(c, now);
	return got;
}

struct nb_time client_conn_deadline(const struct client_conn *c)
{
	struct nb_time t = nb_time_min(nb_time_min(c->endpoint_at, c->punch_at), nb_time_min(c->watch_at, c->offer_at));

	t = nb_time_min(nb_time_min(t, c->early_until), c->loose_until);
	if (c->nqueue || (c->session && c->session->announced < c->session->nannounce))
		return (struct nb_time){ 0 };
	return c->session ? nb_time_min(t, nb_time_min(c->session->repeat_at, ice_deadline(c->session->agent))) : t;
}

/* ---- Why ---- */

size_t client_conn_pairs(const struct client_conn *c, struct ice_pair_report *out, size_t max)
{
	size_t n = c->session ? report_pairs(c->session->agent, out, max) : 0;

	if (n)
		return n;
	n = c->ntried < max ? c->ntried : max;
	if (n)
		memcpy(out, c->tried, n * sizeof *out);
	return n;
}

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
	copy_text(out->relay_url, sizeof out->relay_url, c->relay == NO_RELAY ? c->peer_relay : c->relay_url);
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
