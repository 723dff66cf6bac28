/* conn_path.c - see conn.h: which of ICE's path and the relay's carries traffic, and where WireGuard is pointed.
 * spec/peer-connection.md 3.2, 3.3, 4.3. Tests: tests/unit/client_conn_test.c, tests/sim/client_conn_sim_test.c */
#include "client/conn_int.h"

#include <string.h>

#define RESPONDER_WAIT_MS 5000		/* the controlling side's handshake comes first */
#define PUNCH_WAIT_MS 1000
#define ROAMED_MS 10000			/* WireGuard heard the peer elsewhere: so long that says something */
#define HEARD_MS 3000			/* silence on a path that counts as loss when the peer gives it up */
#define HANDSHAKE_FIRST_MS 30000
#define SHAKE_MS 500			/* until a handshake counts as lost, or three round trips; doubled */
#define SHAKE_RELAY_MS 1000
#define SHAKES 2				/* then WireGuard's own 5 s */
#define STEADY_MS 60000			/* a path that lives so long is no flapping one */
#define HOLD_MS 1000			/* doubled for each flap */
#define FLAPS_MAX 5
#define STRAY_MS 3000			/* so long packets of a path that died may still come */
#define HANDSHAKE_AGAIN_MS 210000

/* ---- The better of two ---- */

/* ICE has no path, or one that will not last. */
bool client_conn_is_loose(const struct client_conn *c)
{
	return !c->ice_path || !nb_time_is_never(c->loose_until);
}

void client_conn_stop_path_timers(struct client_conn *c)
{
	c->endpoint_at = c->watch_at = c->shake_at = NB_TIME_NEVER;
	c->handshake.ns = 0;
}

/* Point WireGuard at the path. A lost handshake is begun again long before WireGuard would. */
static void shake(struct client_conn *c, bool handshake, struct nb_time now)
{
	client_conn_push_endpoint(c, handshake);
	if (!handshake)
		return;
	c->shake_ms = c->path == CLIENT_PATH_RELAY ? SHAKE_RELAY_MS : SHAKE_MS;
	if (c->path != CLIENT_PATH_RELAY && c->pair.rtt_ns * 3 > c->shake_ms * NB_MS)
		c->shake_ms = c->pair.rtt_ns * 3 / NB_MS;
	c->shake_at = nb_time_add_ms(now, c->shake_ms);
	c->shakes = SHAKES;
}

static void run_shake(struct client_conn *c, struct nb_time now)
{
	if (!nb_time_due(c->shake_at, now))
		return;
	c->shake_at = NB_TIME_NEVER;
	if (c->path == CLIENT_PATH_NONE || !c->shakes--)
		return;
	client_conn_push_endpoint(c, true);
	c->shake_ms *= 2;
	c->shake_at = nb_time_add_ms(now, c->shake_ms);
}

/* The path is gone: WireGuard must stop sending there. */
static void no_path(struct client_conn *c, struct nb_time now)
{
	c->changed = now;
	c->shown = false;
	client_conn_stop_path_timers(c);
	client_conn_push(c, CLIENT_CONN_NO_ENDPOINT);
	client_conn_push(c, CLIENT_CONN_CHANGED);
}

/* The controlling side points WireGuard at the path at once; the other waits for a packet from there, which moves its
 * WireGuard, and acts on its own only when none comes. Back to the relay both go at once (spec 3.3), for a relayed packet moves
 * no WireGuard that was pointed at an address. */
static void use_path(struct client_conn *c, bool back, struct nb_time now)
{
	if (c->handshake.ns == 0 || nb_time_is_never(c->watch_at))
		c->watch_at = nb_time_add_ms(now, HANDSHAKE_FIRST_MS);
	if (c->controller || back || (c->shown && c->path == CLIENT_PATH_RELAY)) {
		c->endpoint_at = NB_TIME_NEVER;
		shake(c, c->controller && c->handshake.ns == 0, now);
	} else {
		c->endpoint_at = nb_time_add_ms(now, RESPONDER_WAIT_MS);
	}
	client_conn_push(c, CLIENT_CONN_CHANGED);
}

static bool is_held(const struct client_conn *c)
{
	return c->relay == RELAY_UP && !nb_time_is_never(c->hold_until);
}

static enum client_conn_path best_path(const struct client_conn *c)
{
	if (c->ice_path && !is_held(c))
		return c->ice_path;
	return c->relay == RELAY_UP ? CLIENT_PATH_RELAY : CLIENT_PATH_NONE;
}

/* After ICE or the relay came or went: the better of the two. */
static void choose_path(struct client_conn *c, struct nb_time now)
{
	enum client_conn_path old = c->path;

	c->path = best_path(c);
	if (c->path == old)
		return;
	client_conn_note_path(c, now);
	if (c->path == c->ice_path)
		c->gained = now;
	if (c->path == CLIENT_PATH_NONE) {
		no_path(c, now);
		return;
	}
	if (old == CLIENT_PATH_NONE)
		c->changed = now;
	use_path(c, old > c->path, now);
}

/* ---- ICE comes and goes ---- */

static enum client_conn_path path_of(const struct ice_pair_info *p)
{
	return p->local.type == ICE_RELAY || p->remote.type == ICE_RELAY ? CLIENT_PATH_TURN : CLIENT_PATH_DIRECT;
}

void client_conn_lose_ice(struct client_conn *c, struct nb_time now)
{
	if (!c->ice_path)
		return;
	if (c->ice_path == CLIENT_PATH_DIRECT)
		c->lost = now;
	c->ice_path = CLIENT_PATH_NONE;
	c->punch_at = c->loose_until = c->hold_until = NB_TIME_NEVER;
	choose_path(c, now);
	client_conn_guard_event(c, now);
}

/* A path that came a moment ago and is gone again will do so once more: the next one has to wait a while. */
void client_conn_doubt_flaps(struct client_conn *c, struct nb_time now)
{
	bool soon = c->gained.ns && nb_time_diff(now, c->gained) < STEADY_MS * NB_MS;

	if (c->ice_path && c->path == c->ice_path)
		c->flaps = !soon ? 0 : c->flaps < FLAPS_MAX ? c->flaps + 1 : FLAPS_MAX;
}

/* ICE's path does not answer and the relay is there: over to it, and let the peer do the same. What is under way arrives:
 * keys and sessions are those of before. */
void client_conn_path_died(struct client_conn *c, struct nb_time now)
{
	client_conn_note_idle_death(c, now);
	client_conn_doubt_flaps(c, now);
	client_conn_drop_session(c);
	c->died = now;
	c->path_lost = true;
	c->cause = "traffic went out and nothing came back on ICE's path";
	client_conn_lose_ice(c, now);
	c->offer_at = now;
	c->offer_ms = OFFER_AGAIN_MS;
}

void client_conn_silent(struct client_conn *c, struct nb_time now)
{
	c->now = now;
	if (!c->open)
		return;
	/* WireGuard is not where ICE's path or the relay is, which may well work. */
	if (c->path != CLIENT_PATH_NONE && c->astray && (c->path == CLIENT_PATH_RELAY || !client_conn_is_loose(c)))
		client_conn_push_endpoint(c, false);
	if (c->relay != RELAY_UP)
		return;
	/* Nobody is coming to move WireGuard from where it was. */
	if (!nb_time_is_never(c->endpoint_at))
		c->endpoint_at = now;
	if (!c->ice_path || c->path != c->ice_path)
		return;
	if (client_conn_is_loose(c)) {
		c->cause = "nothing came back on the path that was kept after a move";
		client_conn_lose_ice(c, now);	/* it was kept in case it goes on */
	} else {
		ice_probe(c->session->agent, now);
	}
}

void client_conn_run_hold(struct client_conn *c, struct nb_time now)
{
	if (!nb_time_due(c->hold_until, now))
		return;
	c->hold_until = NB_TIME_NEVER;
	c->cause = "ICE's path has held for a while";
	choose_path(c, now);
}

static void take_pair(struct client_conn *c, const struct ice_pair_info *pair)
{
	c->pair = *pair;
	c->ice_path = path_of(pair);
	if (c->ice_path == CLIENT_PATH_DIRECT)
		c->direct = pair->remote.at;
}

/* ICE has a pair: in place of the relay, of nothing, or of a path that had no session any more. */
void client_conn_gain_ice(struct client_conn *c, const struct ice_pair_info *pair, struct nb_time now)
{
	bool loose = c->ice_path != CLIENT_PATH_NONE;

	c->cause = "ICE found a pair that works";
	take_pair(c, pair);
	c->loose_until = NB_TIME_NEVER;
	c->path_lost = false;
	if (!loose && c->flaps)
		c->hold_until = nb_time_add_ms(now, HOLD_MS << c->flaps);
	if (!client_conn_relay_missing(c))
		c->offer_at = NB_TIME_NEVER;	/* client_conn_lose_ice() starts the guard again */
	c->punch_at = pair->local.type == ICE_RELAY ? NB_TIME_NEVER : nb_time_add_ms(now, PUNCH_WAIT_MS);
	if (!loose) {
		choose_path(c, now);
		return;
	}
	c->path = c->ice_path;
	client_conn_note_path(c, now);
	c->handshake.ns = 0;
	use_path(c, false, now);
}

/* The controlling side changed its mind. */
void client_conn_change_pair(struct client_conn *c, const struct ice_pair_info *pair)
{
	take_pair(c, pair);
	if (is_held(c))
		return;
	c->path = c->ice_path;
	c->cause = "ICE chose a better pair";
	client_conn_note_path(c, c->now);
	if (nb_time_is_never(c->endpoint_at))
		client_conn_push_endpoint(c, false);
	client_conn_push(c, CLIENT_CONN_CHANGED);
}

void client_conn_run_loose(struct client_conn *c, struct nb_time now)
{
	if (!nb_time_due(c->loose_until, now))
		return;
	c->cause = "no new path was found in time after a move";
	client_conn_lose_ice(c, now);
}

/* Does ICE's path still carry anything, as far as we can tell? */
bool client_conn_heard_lately(const struct client_conn *c, struct nb_time now)
{
	struct ice_pair_info live;

	if (c->roamed.ns && nb_time_diff(now, c->roamed) < ROAMED_MS * NB_MS)
		return true;
	return c->session && ice_selected(c->session->agent, &live) && nb_time_diff(now, live.heard) < HEARD_MS * NB_MS;
}

void client_conn_roamed(struct client_conn *c, const struct nb_endpoint *to, struct nb_time now)
{
	c->now = now;
	if (c->path == CLIENT_PATH_DIRECT && !nb_endpoint_eq(to, &c->pair.remote.at))
		c->roamed = now;
	c->astray = c->path == CLIENT_PATH_RELAY || (c->path == c->ice_path && !nb_endpoint_eq(to, &c->pair.remote.at));
	/* A straggler of the path that died does not bring it back. */
	if (c->path == CLIENT_PATH_RELAY && !c->ice_path && c->died.ns && nb_time_diff(now, c->died) < STRAY_MS * NB_MS)
		client_conn_push_endpoint(c, false);
}

/* Tell the peer where we are: the handshake moves its WireGuard here, long before the signal server has
 * heard of us. Needs no path: where it was last is the best guess. */
void client_conn_show_up(struct client_conn *c)
{
	struct conn_queued *q;

	if (!c->direct.addr.family || (c->path != CLIENT_PATH_NONE && c->path != CLIENT_PATH_DIRECT))
		return;
	c->shown = c->path == CLIENT_PATH_NONE;
	q = client_conn_push(c, CLIENT_CONN_ENDPOINT);
	q->path = CLIENT_PATH_DIRECT;
	q->remote = c->direct;
	q->handshake = true;
}

/* ---- The relay comes and goes ---- */

bool client_conn_relay_missing(const struct client_conn *c)
{
	return c->cfg.net->relay_url[0] && c->peer_relay[0] && c->relay != RELAY_UP;
}

void client_conn_close_relay(struct client_conn *c, struct nb_time now)
{
	if (c->relay == NO_RELAY)
		return;
	c->relay = NO_RELAY;
	client_conn_push(c, CLIENT_CONN_RELAY_CLOSE);
	choose_path(c, now);
}

/* The relay of a pair is the controlling side's home (spec 3.2). */
void client_conn_open_relay(struct client_conn *c, struct nb_time now)
{
	const struct client_network *net = c->cfg.net;
	const char *url = c->controller ? net->relay_url : c->peer_relay;

	if (!net->relay_url[0] || !c->peer_relay[0])
		return;
	if (c->relay != NO_RELAY && strcmp(c->relay_url, url) == 0)
		return;
	client_conn_close_relay(c, now);
	client_conn_copy_text(c->relay_url, sizeof c->relay_url, url);
	c->relay = RELAY_OPENING;
	client_conn_push(c, CLIENT_CONN_RELAY_OPEN)->remote.addr = c->controller ? (struct nb_addr){ 0 } : c->peer_relay_ip;
}

void client_conn_relay_up(struct client_conn *c, uint32_t channel, struct nb_time now)
{
	c->now = now;
	if (c->relay != RELAY_OPENING)
		return;
	c->relay = RELAY_UP;
	c->channel = channel;
	c->cause = "the relay is there";
	if (c->ice_path)
		c->offer_at = NB_TIME_NEVER;
	choose_path(c, now);
	client_conn_push(c, CLIENT_CONN_CHANGED);
}

void client_conn_relay_gone(struct client_conn *c, struct nb_time now)
{
	bool up = c->relay == RELAY_UP;

	c->now = now;
	if (c->relay == NO_RELAY)
		return;
	c->relay = NO_RELAY;
	c->cause = "the relay is gone, or the other agent left it";
	choose_path(c, now);
	/* The controlling side's packet was to draw us away from there. */
	if (up && c->path != CLIENT_PATH_NONE && !nb_time_is_never(c->endpoint_at))
		c->endpoint_at = now;
	if (up)
		client_conn_guard_event(c, now);
	client_conn_push(c, CLIENT_CONN_CHANGED);
}

void client_conn_relay_ready(struct client_conn *c, struct nb_time now)
{
	c->now = now;
	if (!c->open)
		return;
	client_conn_open_relay(c, now);
	if (c->path != CLIENT_PATH_NONE) {
		client_conn_guard_event(c, now);
		return;
	}
	/* What the peer knows of us so far has no relay in it. */
	client_conn_push_signal(c, CLIENT_SIGNAL_OFFER);
	client_conn_schedule_offer(c, OFFER_FIRST_MS, now);
}

/* ---- Handshakes ---- */

void client_conn_handshake(struct client_conn *c, struct nb_time now)
{
	c->now = now;
	c->handshake = now;
	c->shake_at = NB_TIME_NEVER;
}

/* WireGuard's sessions are of no use any more; the next endpoint takes a new handshake. */
void client_conn_reset_keys(struct client_conn *c)
{
	c->handshake.ns = 0;
	client_conn_push(c, CLIENT_CONN_RESET);
}

/* The controlling side had its time. When its handshake came WireGuard knows the endpoint already;
 * saying it again also undoes a roam to a path that was only a detour. */
void client_conn_run_responder(struct client_conn *c, struct nb_time now)
{
	run_shake(c, now);
	if (!nb_time_due(c->endpoint_at, now))
		return;
	c->endpoint_at = NB_TIME_NEVER;
	shake(c, c->handshake.ns == 0, now);
}

/* A path over which WireGuard gets no handshake is no path (spec 4.3). */
void client_conn_run_watcher(struct client_conn *c, struct nb_time now)
{
	struct nb_time next = nb_time_add_ms(c->handshake, HANDSHAKE_AGAIN_MS);

	if (!nb_time_due(c->watch_at, now))
		return;
	if (c->handshake.ns && nb_time_before(now, next)) {
		c->watch_at = next;
		return;
	}
	c->handshake.ns = 0;
	c->cause = "no WireGuard handshake came through";
	if (c->ice_path) {
		client_conn_end_session(c, now);
		return;
	}
	client_conn_close_relay(c, now);
	client_conn_guard_event(c, now);
}
