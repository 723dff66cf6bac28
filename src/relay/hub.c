/* hub.c - see hub.h. A topic is a peer id that is connected, watched, or both; an interest ties a connection to a
 * topic it watches. Snapshot and registration happen in one call, so no event is lost between them. What a
 * connection is to hear waits in its batch, which holds ids of one kind: events of one id keep their order. */
#include "relay/hub.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"

#define MAX_CONNS 16384
#define MAX_WAITING 1024
#define MAX_WATCHED 16384
#define MAX_INTERESTS (1u << 20)
#define TICK_NS (1 * NB_SEC)
#define HANDSHAKE_NS (10 * NB_SEC)
#define PROBE_NS (25 * NB_SEC)		/* clients give up after 35 s without one */
#define SILENCE_NS (45 * NB_SEC)	/* without an echo */
#define IDLE_NS (30 * NB_SEC)

struct topic {
	uint8_t id[RELAYMSG_ID_LEN];
	struct relay_conn *conn;	/* NULL: not here */
	struct nb_list interests;
};

struct interest {
	struct nb_list node;		/* of the topic */
	struct topic *topic;
	struct relay_conn *conn;
	bool online;			/* armed; offline is for as long as the interest lives */
};

struct relay_conn {
	struct nb_list node;
	struct nb_list unflushed;	/* linked while there is a batch */
	void *user;
	struct topic *topic;		/* NULL before Auth */
	struct nb_map watched;		/* id -> interest */
	struct nb_time since, probed, heard, used;
	struct nb_bucket up, down;
	bool sent_any;
	/* ids waiting to be told, all of one kind */
	enum relaymsg_type batch_type;
	uint8_t *batch;
	size_t n_batch, cap_batch;
};

struct relay_hub {
	struct relay_hub_config cfg;
	struct relay_hub_ops ops;
	struct nb_map topics;
	struct nb_list conns, unflushed;
	struct nb_time ticked;
	size_t n_conns, n_waiting, n_interests;
	struct nb_bucket total;
	struct relay_hub_stats stats;
};

/* --- telling --- */

static int say(struct relay_hub *h, struct relay_conn *c, enum relaymsg_type type, struct nb_bytes body)
{
	uint8_t head[RELAYMSG_HEADER];

	relaymsg_header(head, type);
	return h->ops.send(c->user, nb_bytes(head, sizeof head), body, true);
}

static void flush_conn(struct relay_hub *h, struct relay_conn *c)
{
	size_t at = 0;

	while (at < c->n_batch) {
		size_t n = c->n_batch - at;

		if (n > RELAYMSG_IDS_MAX)
			n = RELAYMSG_IDS_MAX;
		(void)say(h, c, c->batch_type, nb_bytes(c->batch + at * RELAYMSG_ID_LEN, n * RELAYMSG_ID_LEN));
		at += n;
	}
	c->n_batch = 0;
	nb_list_del(&c->unflushed);
}

/* Tell c of an id, later. */
static void tell(struct relay_hub *h, struct relay_conn *c, enum relaymsg_type type, const uint8_t *id)
{
	if (c->n_batch && (c->batch_type != type || c->n_batch == RELAYMSG_IDS_MAX))
		flush_conn(h, c);
	if (c->n_batch == c->cap_batch) {
		size_t cap = c->cap_batch ? c->cap_batch * 4 : 4;
		uint8_t *p;

		if (cap > RELAYMSG_IDS_MAX)
			cap = RELAYMSG_IDS_MAX;
		p = realloc(c->batch, cap * RELAYMSG_ID_LEN);
		if (!p) {
			(void)say(h, c, type, nb_bytes(id, RELAYMSG_ID_LEN));
			return;
		}
		c->batch = p;
		c->cap_batch = cap;
	}
	if (!c->n_batch)
		nb_list_push(&h->unflushed, &c->unflushed);
	c->batch_type = type;
	memcpy(c->batch + c->n_batch++ * RELAYMSG_ID_LEN, id, RELAYMSG_ID_LEN);
}

void relay_hub_flush(struct relay_hub *h)
{
	while (!nb_list_empty(&h->unflushed))
		flush_conn(h, nb_container(h->unflushed.next, struct relay_conn, unflushed));
}

/* --- topics and interests --- */

static struct topic *topic_find(const struct relay_hub *h, const uint8_t *id)
{
	return nb_map_get(&h->topics, nb_bytes(id, RELAYMSG_ID_LEN));
}

static struct topic *topic_get(struct relay_hub *h, const uint8_t *id)
{
	struct topic *t = topic_find(h, id);

	if (t)
		return t;
	t = calloc(1, sizeof *t);
	if (!t)
		return NULL;
	memcpy(t->id, id, sizeof t->id);
	nb_list_init(&t->interests);
	if (nb_map_put(&h->topics, nb_bytes(t->id, sizeof t->id), t, NULL)) {
		free(t);
		return NULL;
	}
	return t;
}

static void topic_put(struct relay_hub *h, struct topic *t)
{
	if (t->conn || !nb_list_empty(&t->interests))
		return;
	nb_map_del(&h->topics, nb_bytes(t->id, sizeof t->id));
	free(t);
}

static void interest_free(struct relay_hub *h, struct interest *i)
{
	struct topic *t = i->topic;

	nb_list_del(&i->node);
	free(i);
	h->n_interests--;
	topic_put(h, t);
}

static void watch(struct relay_hub *h, struct relay_conn *c, const uint8_t *id)
{
	struct nb_bytes key = nb_bytes(id, RELAYMSG_ID_LEN);
	struct interest *i = nb_map_get(&c->watched, key);

	if (!i) {
		struct topic *t;

		if (h->n_interests >= h->cfg.max_interests)
			return;
		t = topic_get(h, id);
		if (!t)
			return;
		i = calloc(1, sizeof *i);
		if (!i || nb_map_put(&c->watched, key, i, NULL)) {
			free(i);
			topic_put(h, t);
			return;
		}
		i->topic = t;
		i->conn = c;
		nb_list_push(&t->interests, &i->node);
		h->n_interests++;
	}
	i->online = true;
	if (i->topic->conn)
		tell(h, c, RELAYMSG_ONLINE, id);
}

static void unwatch(struct relay_hub *h, struct relay_conn *c, const uint8_t *id)
{
	struct interest *i = nb_map_del(&c->watched, nb_bytes(id, RELAYMSG_ID_LEN));

	if (i)
		interest_free(h, i);
}

static void unwatch_all(struct relay_hub *h, struct relay_conn *c)
{
	struct nb_map_iter it = { 0 };

	while (nb_map_next(&c->watched, &it))
		interest_free(h, it.value);
	nb_map_fini(&c->watched);
}

static void announce_online(struct relay_hub *h, struct topic *t)
{
	nb_list_each(it, &t->interests) {
		struct interest *i = nb_container(it, struct interest, node);

		if (!i->online)
			continue;
		i->online = false;
		tell(h, i->conn, RELAYMSG_ONLINE, t->id);
	}
}

static void announce_offline(struct relay_hub *h, struct topic *t)
{
	nb_list_each(it, &t->interests)
		tell(h, nb_container(it, struct interest, node)->conn, RELAYMSG_OFFLINE, t->id);
}

/* --- connections --- */

int relay_hub_add(struct relay_hub *h, struct relay_conn **out, void *user, struct nb_time now)
{
	struct relay_conn *c;

	if (h->n_conns >= h->cfg.max_conns || h->n_waiting >= h->cfg.max_waiting)
		return NB_E_FULL;
	c = calloc(1, sizeof *c);
	if (!c)
		return NB_E_NOMEM;
	c->user = user;
	c->since = c->probed = c->heard = now;
	nb_map_init(&c->watched, h->cfg.seed, h->cfg.max_watched);
	nb_list_init(&c->unflushed);
	nb_list_push(&h->conns, &c->node);
	if (!h->n_conns++)
		h->ticked = now;
	h->n_waiting++;
	*out = c;
	return 0;
}

void relay_hub_del(struct relay_hub *h, struct relay_conn *c)
{
	struct topic *t = c->topic;

	nb_list_del(&c->unflushed);
	unwatch_all(h, c);
	if (t && t->conn == c) {
		t->conn = NULL;
		announce_offline(h, t);
		topic_put(h, t);
	}
	if (!t)
		h->n_waiting--;
	h->n_conns--;
	nb_list_del(&c->node);
	free(c->batch);
	free(c);
}

static int shut(struct relay_hub *h, struct relay_conn *c)
{
	void *user = c->user;

	relay_hub_del(h, c);
	h->ops.close(user);
	return NB_E_CLOSED;
}

/* The newest connection of an id is the one: the peer lost the other. No offline event. */
static void displace(struct relay_hub *h, struct topic *t, struct relay_conn *c)
{
	struct relay_conn *old = t->conn;

	t->conn = c;
	if (!old)
		return;
	h->stats.replaced++;
	(void)shut(h, old);
}

static int authenticate(struct relay_hub *h, struct relay_conn *c, const struct relaymsg *m, struct nb_time now,
			struct nb_wall wall)
{
	int err = relaymsg_token_check(m->body, h->cfg.key, wall.ns / NB_SEC);
	struct topic *t;

	if (err) {
		h->stats.refused++;
		return shut(h, c);
	}
	t = topic_get(h, m->id);
	if (!t)
		return shut(h, c);
	/* The answer goes out before anybody can reach this peer. */
	if (say(h, c, RELAYMSG_AUTH_RESPONSE, nb_bytes_str(h->cfg.url))) {
		topic_put(h, t);
		return shut(h, c);
	}
	c->topic = t;
	displace(h, t, c);
	c->heard = c->probed = now;
	h->n_waiting--;
	announce_online(h, t);
	return 0;
}

/* May n more bytes go from one to the other? What is over a limit is dropped: WireGuard lives with that. */
static bool within_rates(struct relay_hub *h, struct relay_conn *from, struct relay_conn *to, size_t n, struct nb_time now)
{
	const struct nb_rate *user = &h->cfg.user_rate;

	if (!nb_bucket_take(&from->up, user, n, now)) {
		h->stats.over_user_rate++;
		return false;
	}
	if (!nb_bucket_take(&to->down, user, n, now)) {
		h->stats.over_user_rate++;
	} else if (!nb_bucket_take(h->cfg.total, &h->cfg.total_rate, n, now)) {
		nb_bucket_give(&to->down, user, n);
		h->stats.over_total_rate++;
	} else {
		return true;
	}
	nb_bucket_give(&from->up, user, n);
	return false;
}

static void transport(struct relay_hub *h, struct relay_conn *c, const struct relaymsg *m, struct nb_time now)
{
	const struct topic *t = topic_find(h, m->id);
	uint8_t head[RELAYMSG_TRANSPORT_HEADER];
	size_t n = sizeof head + m->body.n;

	c->used = now;
	c->sent_any = true;
	h->stats.received_bytes += n;
	if (!t || !t->conn) {
		h->stats.dropped_absent++;
		return;
	}
	if (!within_rates(h, c, t->conn, n, now))
		return;
	/* That the sender is there comes before what it says. */
	if (t->conn->n_batch)
		flush_conn(h, t->conn);
	relaymsg_transport_header(head, c->topic->id);
	if (h->ops.send(t->conn->user, nb_bytes(head, sizeof head), m->body, false))
		h->stats.dropped_full++;
	else
		h->stats.sent_bytes += n;
}

static void list(struct relay_hub *h, struct relay_conn *c, const struct relaymsg *m)
{
	for (size_t i = 0; i < m->n_ids; i++) {
		const uint8_t *id = m->body.p + i * RELAYMSG_ID_LEN;

		if (m->type == RELAYMSG_SUBSCRIBE)
			watch(h, c, id);
		else
			unwatch(h, c, id);
	}
}

int relay_hub_message(struct relay_hub *h, struct relay_conn *c, struct nb_bytes in, struct nb_time now,
		      struct nb_wall wall)
{
	struct relaymsg m;
	int err = in.n > RELAYMSG_MAX ? NB_E_UNSUPPORTED : relaymsg_decode(&m, in);

	if (!c->topic) {
		if (!err && in.n <= RELAYMSG_AUTH_MAX && m.type == RELAYMSG_AUTH)
			return authenticate(h, c, &m, now, wall);
		h->stats.refused++;
		return shut(h, c);
	}
	if (err == NB_E_SHORT || err == NB_E_UNSUPPORTED)
		return shut(h, c);
	c->heard = now;
	switch (m.type) {
	case RELAYMSG_TRANSPORT:
		if (!err)
			transport(h, c, &m, now);
		return 0;
	case RELAYMSG_SUBSCRIBE:
	case RELAYMSG_UNSUBSCRIBE:
		if (!err)
			list(h, c, &m);
		return 0;
	case RELAYMSG_HEALTH:
	case RELAYMSG_AUTH:
		return 0;
	default:
		/* Close, and what only servers say. */
		return shut(h, c);
	}
}

/* --- time --- */

static void check(struct relay_hub *h, struct relay_conn *c, struct nb_time now)
{
	if (!c->topic) {
		if (nb_time_diff(now, c->since) >= HANDSHAKE_NS) {
			h->stats.refused++;
			(void)shut(h, c);
		}
	} else if (nb_time_diff(now, c->heard) >= SILENCE_NS) {
		(void)shut(h, c);
	} else if (nb_time_diff(now, c->probed) >= PROBE_NS) {
		c->probed = now;
		(void)say(h, c, RELAYMSG_HEALTH, nb_bytes(NULL, 0));
	}
}

void relay_hub_timer(struct relay_hub *h, struct nb_time now)
{
	if (!nb_time_due(relay_hub_deadline(h), now))
		return;
	h->ticked = now;
	nb_list_each_safe(it, &h->conns)
		check(h, nb_container(it, struct relay_conn, node), now);
	relay_hub_flush(h);
}

struct nb_time relay_hub_deadline(const struct relay_hub *h)
{
	return h->n_conns ? nb_time_add(h->ticked, TICK_NS) : NB_TIME_NEVER;
}

/* --- life --- */

struct relay_hub *relay_hub_new(const struct relay_hub_config *cfg, const struct relay_hub_ops *ops)
{
	struct relay_hub *h = calloc(1, sizeof *h);

	if (!h)
		return NULL;
	h->cfg = *cfg;
	h->ops = *ops;
	if (!h->cfg.max_conns)
		h->cfg.max_conns = MAX_CONNS;
	if (!h->cfg.max_waiting)
		h->cfg.max_waiting = MAX_WAITING;
	if (!h->cfg.max_watched)
		h->cfg.max_watched = MAX_WATCHED;
	if (!h->cfg.total)
		h->cfg.total = &h->total;
	if (!h->cfg.max_interests)
		h->cfg.max_interests = MAX_INTERESTS;
	nb_map_init(&h->topics, h->cfg.seed, h->cfg.max_interests + h->cfg.max_conns);
	nb_list_init(&h->conns);
	nb_list_init(&h->unflushed);
	return h;
}

void relay_hub_free(struct relay_hub *h)
{
	if (!h)
		return;
	nb_map_fini(&h->topics);
	nb_wipe(&h->cfg, sizeof h->cfg);
	free(h);
}

void relay_hub_stop(struct relay_hub *h)
{
	nb_list_each(it, &h->conns) {
		struct relay_conn *c = nb_container(it, struct relay_conn, node);

		if (c->topic)
			(void)say(h, c, RELAYMSG_CLOSE, nb_bytes(NULL, 0));
	}
	while (!nb_list_empty(&h->conns))
		(void)shut(h, nb_container(h->conns.next, struct relay_conn, node));
}

void relay_hub_stats(const struct relay_hub *h, struct relay_hub_stats *out, struct nb_time now)
{
	*out = h->stats;
	out->conns = h->n_conns;
	out->waiting = h->n_waiting;
	nb_list_each(it, &h->conns) {
		const struct relay_conn *c = nb_container(it, struct relay_conn, node);

		out->active += c->sent_any && nb_time_diff(now, c->used) < IDLE_NS;
	}
}

const uint8_t *relay_conn_id(const struct relay_conn *c)
{
	return c->topic ? c->topic->id : NULL;
}
