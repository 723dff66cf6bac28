/* conn.c - see conn.h: the life of a peer connection, its queue of events and its clock. The decisions are next door:
 * conn_signal.c (offers, answers, when to offer again), conn_session.c (ICE), conn_path.c (where WireGuard sends),
 * conn_why.c (what people are told). None of them knows sockets, sealing, TURN allocations or WireGuard itself.
 * spec/peer-connection.md 1.1-1.9, 3.3, 4.3. Tests: tests/unit/client_conn_test.c, tests/sim/client_conn_sim_test.c */
#include "client/conn_int.h"

#include <stdlib.h>
#include <string.h>

#define OFFER_CAP_MIN_MS 30000		/* where doubling ends, random per peer */
#define OFFER_CAP_MAX_MS 45000
#define IDLE_MS 18000			/* between checks of an idle path with one of ours: some NATs forget after 20 s */
#define PUNCH_PORT 51820		/* when the peer did not name its port */

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
	c->offer_cap_ms = client_conn_random_between(c, OFFER_CAP_MIN_MS, OFFER_CAP_MAX_MS);
	client_conn_stop_path_timers(c);
	c->punch_at = c->loose_until = c->hold_until = NB_TIME_NEVER;
	return c;
}

void client_conn_free(struct client_conn *c)
{
	if (!c)
		return;
	client_conn_end_session(c, c->now);
	client_conn_drop_early(c);
	free(c->tried);
	free(c->steps);
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
	c->described = false;
	c->offer_at = now;
	c->offer_ms = OFFER_FIRST_MS;
	ice_make_credentials(c->ufrag, c->pwd, c->cfg.random, c->cfg.random_ctx);
	client_conn_new_session_id(c);
	client_conn_push(c, CLIENT_CONN_CHANGED);
	client_conn_run_guard(c, now);
}

void client_conn_close(struct client_conn *c, struct nb_time now)
{
	if (!c->open)
		return;
	c->open = false;
	c->now = c->changed = now;
	c->cause = "the connection was closed";
	/* The relay first: ICE's end is not to send anybody there. */
	client_conn_close_relay(c, now);
	client_conn_end_session(c, now);
	client_conn_drop_early(c);
	c->offer_at = c->hold_until = NB_TIME_NEVER;
	c->flaps = 0;
	c->path_lost = false;
	c->peer_ufrag[0] = c->peer_relay[0] = 0;
	client_conn_push(c, CLIENT_CONN_CHANGED);
}

bool client_conn_is_open(const struct client_conn *c)
{
	return c->open;
}

enum client_conn_path client_conn_path(const struct client_conn *c)
{
	return c->path;
}

bool client_conn_is_controller(const struct client_conn *c)
{
	return c->controller;
}

void *client_conn_user(const struct client_conn *c)
{
	return c->cfg.user;
}

/* ---- What is to be done outside ---- */

struct conn_queued *client_conn_push(struct client_conn *c, enum client_conn_event_type type)
{
	struct conn_queued *q;

	if (c->nqueue == QUEUE_MAX) {	/* nobody takes them: the oldest matter least */
		c->queue_at = (c->queue_at + 1) % QUEUE_MAX;
		c->nqueue--;
	}
	q = &c->queue[(c->queue_at + c->nqueue++) % QUEUE_MAX];
	*q = (struct conn_queued){ .type = type };
	return q;
}

void client_conn_push_endpoint(struct client_conn *c, bool handshake)
{
	struct conn_queued *q = client_conn_push(c, CLIENT_CONN_ENDPOINT);

	q->path = c->path;
	q->handshake = handshake;
	c->astray = c->shown = false;
	if (c->path == CLIENT_PATH_RELAY) {
		q->channel = c->channel;
		return;
	}
	q->remote = c->pair.remote.at;
	q->via = c->pair.via;
}

void client_conn_copy_text(char *to, size_t cap, const char *from)
{
	size_t n = from ? strnlen(from, cap - 1) : 0;

	memcpy(to, from ? from : "", n);
	to[n] = 0;
}

static bool take_queued(struct client_conn *c, struct client_conn_event *ev)
{
	const struct conn_queued *q = &c->queue[c->queue_at];

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
		client_conn_describe(c, &ev->signal);
		c->told_nat = ev->signal.nat;
	}
	return true;
}

int client_conn_event(struct client_conn *c, struct client_conn_event *ev)
{
	memset(ev, 0, sizeof *ev);
	return take_queued(c, ev) || client_conn_take_candidate(c, ev);
}

/* ---- Time ---- */

void client_conn_active(struct client_conn *c, struct nb_time now)
{
	c->now = c->active = now;
	if (c->session)
		ice_active(c->session->agent, now);
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
	client_conn_run_responder(c, now);
	client_conn_run_watcher(c, now);
	client_conn_run_loose(c, now);
	client_conn_run_hold(c, now);
	client_conn_run_guard(c, now);
	client_conn_run_repeat(c, now);
	if (nb_time_due(c->early_until, now))
		client_conn_drop_early(c);
	if (output_punch(c, out, via, now))
		return 1;
	if (c->session)
		got = ice_output(c->session->agent, out, via, now);
	client_conn_pump(c, now);
	return got;
}

struct nb_time client_conn_deadline(const struct client_conn *c)
{
	struct nb_time t = nb_time_min(nb_time_min(c->endpoint_at, c->punch_at), nb_time_min(c->watch_at, c->offer_at));

	t = nb_time_min(nb_time_min(t, c->early_until), nb_time_min(nb_time_min(c->loose_until, c->hold_until), c->shake_at));
	if (c->nqueue || (c->session && c->session->announced < c->session->nannounce))
		return (struct nb_time){ 0 };
	return c->session ? nb_time_min(t, nb_time_min(c->session->repeat_at, ice_deadline(c->session->agent))) : t;
}
