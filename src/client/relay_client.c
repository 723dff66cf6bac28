/* relay_client.c - see relay_client.h. A relay is one connection and its channels. Callbacks come last in each step,
 * when the own state is complete: they may open and close channels. */
#include "client/relay_client.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/list.h"
#include "base/map.h"

#define AUTH_NS (8 * NB_SEC)
#define PROBE_NS (35 * NB_SEC)		/* relays say something at least every 25 s */
#define ONLINE_NS (30 * NB_SEC)		/* for the peer to appear */
#define HURRY_NS NB_SEC			/* a connection lost so soon after a change of the network is dialled at once */
#define REDIAL_NS (400 * NB_MS)		/* the only relay there is, after it was lost; more or less */
#define RETRY_FIRST_NS NB_SEC
#define RETRY_CAP_NS (60 * NB_SEC)
#define SWEEP_NS (60 * NB_SEC)		/* foreign relays without channels */
#define FOREIGN_MIN_NS (5 * NB_SEC)
#define PROBE_FIRST_NS (5 * NB_SEC)	/* how far the relays are: after the home relay was found, */
#define PROBE_AGAIN_NS (10 * NB_SEC)	/* again before it is left for another one, */
#define PROBE_EVERY_NS (900 * NB_SEC)	/* and from time to time */
#define PROBE_LIMIT_NS (5 * NB_SEC)
#define NEARER_NS (5 * NB_MS)		/* by so much and a quarter another one must be nearer */
#define EARLY_NS (5 * NB_SEC)
#define EARLY_MAX 64
#define CHANNELS_MAX 16384
#define SLOT_BITS 14
#define GENERATIONS ((1u << (31 - SLOT_BITS)) - 1)	/* the top bit of ids is not ours */

enum relay_state { FREE, DYING, DIALLING, AUTHENTICATING, UP };

struct relay {
	enum relay_state state;
	unsigned id;
	char url[RELAYMSG_URL_MAX];		/* as dialled */
	char instance[RELAYMSG_URL_MAX];	/* as it calls itself */
	struct nb_addr ip;
	bool foreign;				/* else home, or in the race for it */
	bool probe;				/* only asks how far it is; foreign, too */
	struct nb_time since, deadline;		/* of the answer to Auth, then of the next sign of life */
	struct nb_list channels;
	struct nb_map by_peer;			/* peer id -> channel */
};

struct channel {
	struct nb_list node;
	uint32_t id;
	uint8_t peer[RELAYMSG_ID_LEN];
	struct relay *relay;
	bool up, subscribed;
	struct nb_time deadline;
	void *user;
};

/* The last message of a peer without an open channel: the first handshake tends to be it. */
struct early {
	uint8_t peer[RELAYMSG_ID_LEN];
	unsigned relay;
	struct nb_time at;
	uint8_t *p;
	size_t n;
};

struct client_relays {
	struct client_relays_config cfg;
	uint8_t self[RELAYMSG_ID_LEN], seed[16];
	char urls[CLIENT_RELAYS_URLS][RELAYMSG_URL_MAX];
	size_t n_urls;
	uint8_t token[RELAYMSG_TOKEN_MAX];
	size_t n_token;
	struct relay relays[CLIENT_RELAYS_MAX];
	unsigned generation;
	struct relay *home;
	char again[RELAYMSG_URL_MAX];	/* dial this one alone, first */
	bool alone;			/* that is what is being tried */
	struct nb_time retry_at, sweep_at;
	struct nb_time probe_at;	/* next look at how far the relays are */
	int64_t rtt_ns[CLIENT_RELAYS_URLS];	/* in the one that runs; 0: no answer */
	char nearer[RELAYMSG_URL_MAX];	/* in the one before */
	struct nb_time hurry_until;
	struct nb_time channels_at;	/* no channel is due earlier */
	int64_t retry_ns;
	char error[160];
	bool refused;			/* the token, the last time */
	struct channel **channels;	/* by the low bits of their ids */
	size_t n_slots;
	uint32_t channel_generation;
	struct early early[EARLY_MAX];
};

/* --- relays --- */

static struct relay *relay_find(struct client_relays *r, unsigned id)
{
	struct relay *y = &r->relays[id % CLIENT_RELAYS_MAX];

	return y->state > DYING && y->id == id ? y : NULL;
}

static struct relay *relay_dial(struct client_relays *r, const char *url, const struct nb_addr *ip, bool foreign,
				struct nb_time now)
{
	static const struct nb_addr none;
	struct relaymsg_url u;

	if (strlen(url) >= sizeof r->relays[0].url || relaymsg_url_parse(&u, url))
		return NULL;
	for (unsigned i = 0; i < CLIENT_RELAYS_MAX; i++) {
		struct relay *y = &r->relays[i];

		if (y->state != FREE)
			continue;
		memset(y, 0, sizeof *y);
		y->state = DIALLING;
		y->id = (++r->generation * CLIENT_RELAYS_MAX + i) & ~(1u << 31);	/* which is not ours */
		snprintf(y->url, sizeof y->url, "%s", url);
		y->foreign = foreign;
		y->since = now;
		y->deadline = NB_TIME_NEVER;
		nb_list_init(&y->channels);
		nb_map_init(&y->by_peer, r->seed, CHANNELS_MAX);
		r->cfg.ops->dial(r->cfg.arg, y->id, &u, ip ? ip : &none);
		return y;
	}
	return NULL;
}

static void say(struct client_relays *r, struct relay *y, enum relaymsg_type type, const uint8_t *id)
{
	uint8_t head[RELAYMSG_HEADER];

	relaymsg_header(head, type);
	r->cfg.ops->send(r->cfg.arg, y->id, nb_bytes(head, sizeof head), nb_bytes(id, id ? RELAYMSG_ID_LEN : 0));
}

/* --- channels --- */

static struct channel *channel_find(const struct client_relays *r, uint32_t id)
{
	size_t slot = id & ((1u << SLOT_BITS) - 1);
	struct channel *c = slot < r->n_slots ? r->channels[slot] : NULL;

	return c && c->id == id ? c : NULL;
}

static struct channel *channel_of(const struct relay *y, const uint8_t *peer)
{
	return nb_map_get(&y->by_peer, nb_bytes(peer, RELAYMSG_ID_LEN));
}

static int channel_slot(struct client_relays *r, size_t *slot)
{
	size_t n = r->n_slots ? r->n_slots * 2 : 16;
	struct channel **p;

	for (*slot = 0; *slot < r->n_slots; (*slot)++)
		if (!r->channels[*slot])
			return 0;
	if (n > CHANNELS_MAX)
		return NB_E_FULL;
	p = realloc(r->channels, n * sizeof(*p));
	if (!p)
		return NB_E_NOMEM;
	memset(p + r->n_slots, 0, (n - r->n_slots) * sizeof(*p));
	r->channels = p;
	r->n_slots = n;
	return 0;
}

static void channel_free(struct client_relays *r, struct channel *c)
{
	struct relay *y = c->relay;

	if (c->up)
		r->cfg.ops->channel(r->cfg.arg, y->id, c->id, c->peer, false);
	if (c->subscribed && y->state == UP)
		say(r, y, RELAYMSG_UNSUBSCRIBE, c->peer);
	nb_map_del(&y->by_peer, nb_bytes(c->peer, sizeof c->peer));
	nb_list_del(&c->node);
	r->channels[c->id & ((1u << SLOT_BITS) - 1)] = NULL;
	free(c);
}

static void channel_end(struct client_relays *r, struct channel *c, const char *why)
{
	void *user = c->user;
	uint32_t id = c->id;

	channel_free(r, c);
	r->cfg.ops->gone(r->cfg.arg, user, id, why);
}

static void subscribe(struct client_relays *r, struct channel *c, struct nb_time now)
{
	c->subscribed = true;
	c->deadline = nb_time_add(now, ONLINE_NS);
	r->channels_at = nb_time_min(r->channels_at, c->deadline);
	say(r, c->relay, RELAYMSG_SUBSCRIBE, c->peer);
}

/* --- early messages --- */

static void early_drop(struct early *e)
{
	free(e->p);
	memset(e, 0, sizeof *e);
}

static void early_keep(struct client_relays *r, const struct relay *y, const struct relaymsg *m, struct nb_time now)
{
	struct early *e = &r->early[0];
	uint8_t *p = malloc(m->body.n + 1);

	if (!p)
		return;
	for (size_t i = 0; i < EARLY_MAX; i++) {
		struct early *k = &r->early[i];

		if (k->p && k->relay == y->id && !memcmp(k->peer, m->id, sizeof k->peer)) {
			e = k;
			break;
		}
		/* else the free or oldest one */
		if (e->p && (!k->p || nb_time_before(k->at, e->at)))
			e = k;
	}
	early_drop(e);
	e->p = p;
	e->n = m->body.n;
	memcpy(p, m->body.p, m->body.n);
	memcpy(e->peer, m->id, sizeof e->peer);
	e->relay = y->id;
	e->at = now;
}

/* Take the early message of a channel out. */
static bool early_take(struct client_relays *r, const struct channel *c, struct early *out, struct nb_time now)
{
	for (size_t i = 0; i < EARLY_MAX; i++) {
		struct early *e = &r->early[i];

		if (!e->p || e->relay != c->relay->id || memcmp(e->peer, c->peer, sizeof e->peer))
			continue;
		*out = *e;
		memset(e, 0, sizeof *e);
		if (nb_time_diff(now, out->at) <= EARLY_NS)
			return true;
		free(out->p);
		return false;
	}
	return false;
}

/* --- the home relay --- */

/* In the race for home. */
static bool is_candidate(const struct client_relays *r, const struct relay *y)
{
	return y->state > DYING && !y->foreign && y != r->home;
}

static bool racing(const struct client_relays *r)
{
	for (unsigned i = 0; i < CLIENT_RELAYS_MAX; i++)
		if (is_candidate(r, &r->relays[i]))
			return true;
	return false;
}

/* Between half and one and a half of it. */
static int64_t about(struct client_relays *r, int64_t ns)
{
	uint32_t x;

	r->cfg.random(r->cfg.random_ctx, &x, sizeof x);
	return ns / 2 + (int64_t)(x % 1001) * (ns / 1000);
}

static bool is_configured(const struct client_relays *r, const char *url)
{
	for (size_t i = 0; i < r->n_urls; i++)
		if (!strcmp(r->urls[i], url))
			return true;
	return false;
}

/* Nothing is being tried: wait. */
static void wait_retry(struct client_relays *r, struct nb_time now)
{
	r->retry_at = nb_time_add(now, about(r, r->retry_ns));
	r->retry_ns = r->retry_ns * 2 < RETRY_CAP_NS ? r->retry_ns * 2 : RETRY_CAP_NS;
}

/* The relay that was lost alone, or all there are; the first that answers will be home. */
static void start_race(struct client_relays *r, struct nb_time now)
{
	bool any = false;

	r->retry_at = NB_TIME_NEVER;
	if (!r->n_urls || r->home || racing(r))
		return;
	r->alone = r->again[0] && is_configured(r, r->again) && relay_dial(r, r->again, NULL, false, now);
	r->again[0] = 0;
	for (size_t i = 0; !r->alone && i < r->n_urls; i++)
		any |= relay_dial(r, r->urls[i], NULL, false, now) != NULL;
	if (!r->alone && !any) {
		snprintf(r->error, sizeof r->error, "management named no usable relay address");
		wait_retry(r, now);
	}
}

static void relay_hang_up(struct client_relays *r, struct relay *y)
{
	if (y->state == UP)
		say(r, y, RELAYMSG_CLOSE, NULL);
	y->state = FREE;
	nb_map_fini(&y->by_peer);
	r->cfg.ops->hang_up(r->cfg.arg, y->id);
}

static void became_home(struct client_relays *r, struct relay *y, struct nb_time now)
{
	struct relay *old = r->home;

	if (old) {
		/* Goes when its last channel does. */
		old->foreign = true;
		old->since = now;
		snprintf(old->url, sizeof old->url, "%s", old->instance);
		r->sweep_at = nb_time_min(r->sweep_at, nb_time_add(now, SWEEP_NS));
	}
	for (unsigned i = 0; i < CLIENT_RELAYS_MAX; i++)
		if (&r->relays[i] != y && is_candidate(r, &r->relays[i]))
			relay_hang_up(r, &r->relays[i]);
	r->home = y;
	r->retry_ns = RETRY_FIRST_NS;
	r->error[0] = 0;
	r->probe_at = r->n_urls > 1 ? nb_time_add(now, old ? about(r, PROBE_EVERY_NS) : PROBE_FIRST_NS) : NB_TIME_NEVER;
	r->cfg.ops->home(r->cfg.arg, old != NULL);
}

/* --- how far the relays are --- */

static bool probing(const struct client_relays *r)
{
	for (unsigned i = 0; i < CLIENT_RELAYS_MAX; i++)
		if (r->relays[i].state > DYING && r->relays[i].probe)
			return true;
	return false;
}

/* All are asked at once and in the same way, the home relay, too: a connection without a word. */
static void start_probes(struct client_relays *r, struct nb_time now)
{
	r->probe_at = NB_TIME_NEVER;
	if (!r->home || r->n_urls < 2 || racing(r))
		return;
	for (size_t i = 0; i < r->n_urls; i++) {
		struct relay *y = relay_dial(r, r->urls[i], NULL, true, now);

		r->rtt_ns[i] = 0;
		if (!y)
			continue;
		y->probe = true;
		y->deadline = nb_time_add(now, PROBE_LIMIT_NS);
	}
	if (!probing(r))
		r->probe_at = nb_time_add(now, PROBE_EVERY_NS);
}

/* The nearest one, if it is much nearer than home; else NULL. */
static const char *much_nearer(const struct client_relays *r)
{
	int64_t home = 0, best = INT64_MAX;
	size_t at = 0;

	for (size_t i = 0; i < r->n_urls; i++) {
		if (!strcmp(r->urls[i], r->home->url))
			home = r->rtt_ns[i];
		if (r->rtt_ns[i] && r->rtt_ns[i] < best) {
			best = r->rtt_ns[i];
			at = i;
		}
	}
	return home && best + NEARER_NS < home && best < home - home / 4 ? r->urls[at] : NULL;
}

/* Twice in a row, then home moves there: what it carries stays where it is meanwhile. */
static void end_probes(struct client_relays *r, struct nb_time now)
{
	const char *url = r->home ? much_nearer(r) : NULL;
	bool again = url && !strcmp(url, r->nearer);

	snprintf(r->nearer, sizeof r->nearer, "%s", url && !again ? url : "");
	r->probe_at = nb_time_add(now, url && !again ? PROBE_AGAIN_NS : about(r, PROBE_EVERY_NS));
	if (again)
		relay_dial(r, url, NULL, false, now);
}

static void probe_answered(struct client_relays *r, struct relay *y, int64_t rtt_ns, struct nb_time now)
{
	for (size_t i = 0; i < r->n_urls; i++)
		if (!strcmp(r->urls[i], y->url))
			r->rtt_ns[i] = rtt_ns;
	relay_hang_up(r, y);
	if (!probing(r))
		end_probes(r, now);
}

static void give_up(struct client_relays *r, struct relay *y, const char *why, struct nb_time now)
{
	r->cfg.ops->hang_up(r->cfg.arg, y->id);
	client_relays_lost(r, y->id, why, now);
}

static void became_up(struct client_relays *r, struct relay *y, struct nb_bytes url, struct nb_time now)
{
	if (url.n >= sizeof y->instance || memchr(url.p, 0, url.n)) {
		give_up(r, y, "the relay gave no usable address of its own", now);
		return;
	}
	memcpy(y->instance, url.p, url.n);
	y->instance[url.n] = 0;
	y->state = UP;
	y->deadline = nb_time_add(now, PROBE_NS);
	nb_list_each(it, &y->channels)
		subscribe(r, nb_container(it, struct channel, node), now);
	if (!y->foreign)
		became_home(r, y, now);
}

/* After a candidate failed: a single redial is followed by all at once, all by a wait. */
static void next_try(struct client_relays *r, struct nb_time now)
{
	if (!r->n_urls || r->home || racing(r))
		return;
	if (r->alone && r->n_urls > 1)
		start_race(r, now);
	else
		wait_retry(r, now);
}

void client_relays_lost(struct client_relays *r, unsigned id, const char *why, struct nb_time now)
{
	struct relay *y = relay_find(r, id);
	bool home = y && y == r->home;
	char line[sizeof r->error];

	if (!y)
		return;
	snprintf(line, sizeof line, "%s", y->state == AUTHENTICATING && (!why || !*why) ?
		 "the relay refused this peer or its token" : why && *why ? why : "the relay closed the connection");
	if (!y->foreign) {
		snprintf(r->error, sizeof r->error, "%s", line);
		r->refused = y->state == AUTHENTICATING;
	}
	y->state = DYING;	/* callbacks find another one */
	if (home) {
		r->home = NULL;
		/* Lost because the network changed: the relay is well. Else another one does, if there is any. */
		if (nb_time_before(now, r->hurry_until))
			snprintf(r->again, sizeof r->again, "%s", y->url);
		r->retry_at = !r->n_urls ? NB_TIME_NEVER :
			      r->again[0] || r->n_urls > 1 ? now : nb_time_add(now, about(r, REDIAL_NS));
		r->cfg.ops->home(r->cfg.arg, false);
	} else if (!y->foreign) {
		next_try(r, now);
	}
	while (!nb_list_empty(&y->channels))
		channel_end(r, nb_container(y->channels.next, struct channel, node), line);
	nb_map_fini(&y->by_peer);
	y->state = FREE;
	if (y->probe && !probing(r))
		end_probes(r, now);
}

/* --- messages --- */

static void channel_up(struct client_relays *r, struct channel *c, struct nb_time now)
{
	struct early e;
	uint32_t id = c->id;

	if (c->up)
		return;
	c->up = true;
	c->deadline = NB_TIME_NEVER;
	r->cfg.ops->channel(r->cfg.arg, c->relay->id, id, c->peer, true);
	r->cfg.ops->up(r->cfg.arg, c->user, id);
	c = channel_find(r, id);
	if (!c || !early_take(r, c, &e, now))
		return;
	r->cfg.ops->data(r->cfg.arg, c->user, id, nb_bytes(e.p, e.n));
	free(e.p);
}

static void on_transport(struct client_relays *r, const struct relay *y, const struct relaymsg *m, struct nb_time now)
{
	struct channel *c = channel_of(y, m->id);

	if (c && c->up)
		r->cfg.ops->data(r->cfg.arg, c->user, c->id, m->body);
	else
		early_keep(r, y, m, now);
}

static void on_list(struct client_relays *r, unsigned id, const struct relaymsg *m, struct nb_time now)
{
	for (size_t i = 0; i < m->n_ids; i++) {
		/* A callback may have ended the relay. */
		struct relay *y = relay_find(r, id);
		struct channel *c = y ? channel_of(y, m->body.p + i * RELAYMSG_ID_LEN) : NULL;

		if (!c)
			continue;
		if (m->type == RELAYMSG_ONLINE)
			channel_up(r, c, now);
		else
			channel_end(r, c, "the peer left the relay");
	}
}

void client_relays_message(struct client_relays *r, unsigned id, struct nb_bytes in, struct nb_time now)
{
	struct relay *y = relay_find(r, id);
	struct relaymsg m;

	if (!y || y->state == DIALLING || relaymsg_decode(&m, in))
		return;
	if (y->state == AUTHENTICATING) {
		if (m.type == RELAYMSG_AUTH_RESPONSE)
			became_up(r, y, m.body, now);
		else if (m.type == RELAYMSG_TRANSPORT)
			early_keep(r, y, &m, now);
		return;
	}
	y->deadline = nb_time_add(now, PROBE_NS);
	switch (m.type) {
	case RELAYMSG_TRANSPORT:
		on_transport(r, y, &m, now);
		break;
	case RELAYMSG_HEALTH:
		say(r, y, RELAYMSG_HEALTH, NULL);
		break;
	case RELAYMSG_ONLINE:
	case RELAYMSG_OFFLINE:
		on_list(r, id, &m, now);
		break;
	case RELAYMSG_CLOSE:
		give_up(r, y, "the relay is shutting down", now);
		break;
	default:
		break;
	}
}

void client_relays_opened(struct client_relays *r, unsigned id, const struct nb_addr *ip, int64_t rtt_ns, struct nb_time now)
{
	struct relay *y = relay_find(r, id);
	uint8_t auth[RELAYMSG_AUTH_MAX];
	size_t n;

	if (!y || y->state != DIALLING)
		return;
	if (y->probe) {
		probe_answered(r, y, rtt_ns, now);
		return;
	}
	if (ip)
		y->ip = *ip;
	y->state = AUTHENTICATING;
	y->deadline = nb_time_add(now, AUTH_NS);
	n = relaymsg_auth(auth, r->self, nb_bytes(r->token, r->n_token));
	r->cfg.ops->send(r->cfg.arg, id, nb_bytes(auth, n), nb_bytes(NULL, 0));
	nb_wipe(auth, sizeof auth);
}

/* --- the engine's calls --- */

static struct relay *relay_for(struct client_relays *r, const char *url, const struct nb_addr *ip, struct nb_time now)
{
	if (!strcmp(r->home->instance, url))
		return r->home;
	for (unsigned i = 0; i < CLIENT_RELAYS_MAX; i++) {
		struct relay *y = &r->relays[i];

		if (y->state > DYING && y->foreign && !y->probe && !strcmp(y->url, url))
			return y;
	}
	if (nb_time_is_never(r->sweep_at))
		r->sweep_at = nb_time_add(now, SWEEP_NS);
	return relay_dial(r, url, ip, true, now);
}

uint32_t client_relays_open(struct client_relays *r, const char *peer_key, const char *url, const struct nb_addr *ip,
			    void *user, struct nb_time now)
{
	struct relay *y = r->home ? relay_for(r, url, ip, now) : NULL;
	struct channel *c;
	size_t slot;

	if (!y || channel_slot(r, &slot))
		return 0;
	c = calloc(1, sizeof *c);
	if (!c)
		return 0;
	relaymsg_peer_id(c->peer, peer_key);
	c->relay = y;
	c->user = user;
	c->deadline = NB_TIME_NEVER;
	r->channel_generation = r->channel_generation % GENERATIONS + 1;
	c->id = r->channel_generation << SLOT_BITS | (uint32_t)slot;
	if (channel_of(y, c->peer) || nb_map_put(&y->by_peer, nb_bytes(c->peer, sizeof c->peer), c, NULL)) {
		free(c);
		return 0;
	}
	r->channels[slot] = c;
	nb_list_push(&y->channels, &c->node);
	if (y->state == UP)
		subscribe(r, c, now);
	return c->id;
}

void client_relays_close(struct client_relays *r, uint32_t channel)
{
	struct channel *c = channel_find(r, channel);

	if (c)
		channel_free(r, c);
}

void client_relays_update(struct client_relays *r, const char *const *urls, size_t n, struct nb_bytes token,
			  struct nb_time now)
{
	r->n_urls = 0;
	for (size_t i = 0; i < n && r->n_urls < CLIENT_RELAYS_URLS; i++)
		if (urls[i] && strlen(urls[i]) < RELAYMSG_URL_MAX)
			snprintf(r->urls[r->n_urls++], RELAYMSG_URL_MAX, "%s", urls[i]);
	if (token.n && token.n <= sizeof r->token) {
		/* What was refused may have been the old one. */
		if (r->refused && (token.n != r->n_token || memcmp(token.p, r->token, token.n))) {
			r->retry_at = nb_time_is_never(r->retry_at) ? r->retry_at : now;
			r->refused = false;
		}
		memcpy(r->token, token.p, token.n);
		r->n_token = token.n;
	}
	r->nearer[0] = 0;
	if (!r->n_urls) {
		r->retry_at = r->probe_at = NB_TIME_NEVER;
		for (unsigned i = 0; i < CLIENT_RELAYS_MAX; i++)
			if (is_candidate(r, &r->relays[i]))
				relay_hang_up(r, &r->relays[i]);
	} else if (!r->home && nb_time_is_never(r->retry_at)) {
		start_race(r, now);
	} else if (r->home && r->n_urls > 1 && nb_time_is_never(r->probe_at) && !probing(r)) {
		r->probe_at = nb_time_add(now, PROBE_FIRST_NS);
	}
}

bool client_relays_configured(const struct client_relays *r)
{
	return r->n_urls > 0;
}

const char *client_relays_home(const struct client_relays *r, struct nb_addr *ip)
{
	if (!r->home)
		return NULL;
	*ip = r->home->ip;
	return r->home->instance;
}

const char *client_relays_error(const struct client_relays *r)
{
	return r->home ? "" : r->error[0] ? r->error : "relay connection is not established";
}

const char *client_relays_url(const struct client_relays *r, size_t i)
{
	return i < r->n_urls ? r->urls[i] : NULL;
}

void client_relays_hurry(struct client_relays *r, struct nb_time now)
{
	r->retry_ns = RETRY_FIRST_NS;
	r->hurry_until = nb_time_add(now, HURRY_NS);
	if (!nb_time_is_never(r->retry_at))
		r->retry_at = now;
}

/* --- time --- */

static void sweep(struct client_relays *r, struct nb_time now)
{
	bool left = false;

	for (unsigned i = 0; i < CLIENT_RELAYS_MAX; i++) {
		struct relay *y = &r->relays[i];

		if (y->state <= DYING || !y->foreign || y->probe)
			continue;
		if (nb_list_empty(&y->channels) && nb_time_diff(now, y->since) >= FOREIGN_MIN_NS)
			relay_hang_up(r, y);
		else
			left = true;
	}
	r->sweep_at = left ? nb_time_add(now, SWEEP_NS) : NB_TIME_NEVER;
}

static void check_channels(struct client_relays *r, struct nb_time now)
{
	if (!nb_time_due(r->channels_at, now))
		return;
	r->channels_at = NB_TIME_NEVER;
	for (size_t i = 0; i < r->n_slots; i++) {
		if (r->channels[i] && nb_time_due(r->channels[i]->deadline, now))
			channel_end(r, r->channels[i], "the peer did not come to the relay");
		else if (r->channels[i])
			r->channels_at = nb_time_min(r->channels_at, r->channels[i]->deadline);
	}
}

void client_relays_timer(struct client_relays *r, struct nb_time now)
{
	for (unsigned i = 0; i < CLIENT_RELAYS_MAX; i++) {
		struct relay *y = &r->relays[i];

		if (y->state > DYING && nb_time_due(y->deadline, now))
			give_up(r, y, y->state == UP ? "the relay has gone silent" : "the relay did not answer", now);
	}
	check_channels(r, now);
	if (nb_time_due(r->sweep_at, now))
		sweep(r, now);
	if (nb_time_due(r->probe_at, now))
		start_probes(r, now);
	if (nb_time_due(r->retry_at, now))
		start_race(r, now);
}

struct nb_time client_relays_deadline(const struct client_relays *r)
{
	struct nb_time t = nb_time_min(nb_time_min(r->retry_at, r->sweep_at), nb_time_min(r->channels_at, r->probe_at));

	for (unsigned i = 0; i < CLIENT_RELAYS_MAX; i++)
		if (r->relays[i].state > DYING)
			t = nb_time_min(t, r->relays[i].deadline);
	return t;
}

/* --- life --- */

struct client_relays *client_relays_new(const struct client_relays_config *cfg)
{
	struct client_relays *r = calloc(1, sizeof *r);

	if (!r)
		return NULL;
	r->cfg = *cfg;
	relaymsg_peer_id(r->self, cfg->self_key);
	cfg->random(cfg->random_ctx, r->seed, sizeof r->seed);
	r->retry_at = r->sweep_at = r->channels_at = r->probe_at = NB_TIME_NEVER;
	r->retry_ns = RETRY_FIRST_NS;
	return r;
}

void client_relays_free(struct client_relays *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->n_slots; i++)
		if (r->channels[i])
			channel_free(r, r->channels[i]);
	for (unsigned i = 0; i < CLIENT_RELAYS_MAX; i++)
		if (r->relays[i].state > DYING)
			relay_hang_up(r, &r->relays[i]);
	for (size_t i = 0; i < EARLY_MAX; i++)
		early_drop(&r->early[i]);
	free(r->channels);
	nb_wipe(r, sizeof *r);
	free(r);
}
