/* turn_client.c - see turn_client.h. One control transaction (allocate, refresh, give back) and one
 * transaction per peer (permission or channel) may be under way; a request is written anew for each
 * transmission from the same transaction id, so nothing is stored but the id.
 * Tests: tests/unit/ice_turn_client_test.c */
#include "ice/turn_client.h"

#include <stdlib.h>

#include "base/err.h"
#include "ice/stun.h"

#define RTO_FIRST (250 * NB_MS)		/* stock starts at 200 ms; doubles */
#define RTO_MAX NB_SEC			/* a server that comes back is found soon */
#define SENDS_MAX 9			/* so that they still take longer than 7 s */
#define STREAM_WAIT (8 * NB_SEC)	/* for the answer, where nothing is lost */
#define STALE_MAX 5			/* 438 answers to one request before giving up */
#define PEER_REFRESH (240 * NB_SEC)	/* permissions live 300 s (RFC 8656, 9) */
#define CHANNEL_REST (900 * NB_SEC)	/* 10 min of life and 5 min of quarantine (RFC 8656, 12) */
#define CLOSE_WAIT (3 * NB_SEC)
#define KEEPALIVE (25 * NB_SEC)		/* NAT mapping towards the server */
#define TEXT_MAX 512			/* realm, nonce */
#define TRANSPORT_UDP (17u << 24)
#define CHANNEL_LAST 0x4fff		/* RFC 8656, 12: the last number a client may choose */

struct txn {
	bool active;
	uint8_t id[STUN_TXID_LEN];
	uint8_t sends, stale;
	int64_t rto;
	struct nb_time next;	/* transmission, or giving up after the last one */
};

struct entry {
	struct nb_endpoint peer;	/* port 0 for a permission */
	uint16_t channel;		/* 0 for a permission */
	bool live;			/* granted at least once */
	bool announce, failed;		/* an event to pull */
	bool forgotten;			/* kept so that a later bind uses the same number */
	unsigned code;
	int err;
	struct nb_time next;		/* refresh, or when a forgotten number is free again */
	struct txn t;
};

enum control { CTL_ALLOCATE, CTL_REFRESH, CTL_RELEASE, CTL_CLOSE };

struct turn_client {
	struct turn_client_config cfg;
	char username[STUN_MAX_USERNAME + 1];
	char password[512 + 1];
	char realm[TEXT_MAX], nonce[TEXT_MAX];
	size_t realm_len, nonce_len;
	uint8_t key[STUN_KEY_LEN];
	bool authed;			/* the server asked for credentials: sign, and want signatures */
	bool released;			/* a left-over allocation was deleted once (437) */
	enum turn_client_state state;
	enum control control;
	struct txn ctl;
	struct nb_time refresh, keepalive, close_by;
	struct nb_endpoint relayed;
	struct turn_event ev;		/* pending event of the allocation itself */
	struct entry *entries;
	size_t nentries, cap;
	uint16_t next_channel;
};

static const char *dup_text(char *out, size_t cap, const char *text)
{
	size_t n = text ? strlen(text) : 0;

	if (n == 0 || n >= cap)
		return NULL;
	return memcpy(out, text, n + 1);
}

static void txn_start(struct turn_client *c, struct txn *t, struct nb_time now)
{
	t->active = true;
	t->sends = 0;
	t->rto = c->cfg.stream ? STREAM_WAIT : RTO_FIRST;
	t->next = now;
	c->cfg.random(c->cfg.random_ctx, t->id, sizeof t->id);
}

static void control_start(struct turn_client *c, enum control kind, struct nb_time now)
{
	c->control = kind;
	c->ctl.stale = 0;
	txn_start(c, &c->ctl, now);
}

struct turn_client *turn_client_new(const struct turn_client_config *cfg, struct nb_time now)
{
	struct turn_client *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->cfg = *cfg;
	c->cfg.username = dup_text(c->username, sizeof c->username, cfg->username);
	c->cfg.password = dup_text(c->password, sizeof c->password, cfg->password);
	if (!c->cfg.username || !c->cfg.password) {
		turn_client_free(c);
		return NULL;
	}
	if (!c->cfg.family)
		c->cfg.family = 4;
	c->state = TURN_ALLOCATING;
	c->refresh = c->keepalive = c->close_by = NB_TIME_NEVER;
	c->next_channel = TURN_CHANNEL_MIN;
	control_start(c, CTL_ALLOCATE, now);
	return c;
}

void turn_client_free(struct turn_client *c)
{
	if (!c)
		return;
	free(c->entries);
	nb_wipe(c, sizeof *c);
	free(c);
}

static void die(struct turn_client *c, enum turn_event_type type, unsigned code, int err)
{
	c->state = TURN_DEAD;
	c->ctl.active = false;
	c->ev.type = type;
	c->ev.code = code;
	c->ev.err = err;
}

void turn_client_close(struct turn_client *c, struct nb_time now)
{
	if (c->state == TURN_READY) {
		c->state = TURN_CLOSING;
		c->close_by = nb_time_add(now, CLOSE_WAIT);
		control_start(c, CTL_CLOSE, now);
	} else if (c->state == TURN_ALLOCATING) {
		/* Nothing was granted yet; an answer under way leaves an allocation that expires. */
		die(c, TURN_EV_CLOSED, 0, 0);
	}
}

/* ---- Peers ---- */

static struct entry *find_entry(const struct turn_client *c, const struct nb_endpoint *peer, bool channel)
{
	for (size_t i = 0; i < c->nentries; i++) {
		struct entry *e = &c->entries[i];

		if ((e->channel != 0) == channel && nb_endpoint_eq(&e->peer, peer))
			return e;
	}
	return NULL;
}

static struct entry *find_channel(const struct turn_client *c, uint16_t channel)
{
	for (size_t i = 0; i < c->nentries; i++)
		if (c->entries[i].channel == channel)
			return &c->entries[i];
	return NULL;
}

static void drop_entry(struct turn_client *c, struct entry *e)
{
	*e = c->entries[--c->nentries];
}

static void drop_rested(struct turn_client *c, struct nb_time now)
{
	for (size_t i = c->nentries; i-- > 0;)
		if (c->entries[i].forgotten && nb_time_due(c->entries[i].next, now))
			drop_entry(c, &c->entries[i]);
}

static struct entry *new_entry(struct turn_client *c, const struct nb_endpoint *peer, int *err)
{
	struct entry *e;

	if (c->nentries == TURN_CLIENT_PEERS_MAX) {
		*err = NB_E_FULL;
		return NULL;
	}
	if (c->nentries == c->cap) {
		size_t cap = c->cap ? c->cap * 2 : 8;

		e = realloc(c->entries, cap * sizeof *e);
		if (!e) {
			*err = NB_E_NOMEM;
			return NULL;
		}
		c->entries = e;
		c->cap = cap;
	}
	e = &c->entries[c->nentries++];
	*e = (struct entry){ .peer = *peer, .next = NB_TIME_NEVER };
	return e;
}

static uint16_t free_channel(struct turn_client *c)
{
	for (unsigned i = 0; i <= CHANNEL_LAST - TURN_CHANNEL_MIN; i++) {
		uint16_t n = c->next_channel;

		c->next_channel = n == CHANNEL_LAST ? TURN_CHANNEL_MIN : (uint16_t)(n + 1);
		if (!find_channel(c, n))
			return n;
	}
	return 0;
}

static int add_entry(struct turn_client *c, const struct nb_endpoint *peer, bool channel, struct entry **out,
		     struct nb_time now)
{
	struct entry *e;
	int err = 0;

	if (c->state == TURN_DEAD || c->state == TURN_CLOSING)
		return NB_E_STATE;
	drop_rested(c, now);
	e = find_entry(c, peer, channel);
	if (e && !e->forgotten && !e->failed) {
		*out = e;
		return NB_E_EXISTS;
	}
	if (!e) {
		uint16_t number = channel ? free_channel(c) : 0;

		e = new_entry(c, peer, &err);
		if (!e)
			return err;
		e->channel = number;
	}
	e->forgotten = e->failed = e->live = false;
	e->t.stale = 0;
	txn_start(c, &e->t, now);
	*out = e;
	return 0;
}

void turn_client_check(struct turn_client *c, struct nb_time now)
{
	if (c->state == TURN_READY && !c->ctl.active)
		control_start(c, CTL_REFRESH, now);
}

int turn_client_permit(struct turn_client *c, const struct nb_addr *peer, struct nb_time now)
{
	struct nb_endpoint ep = { .addr = *peer };
	struct entry *e;

	return add_entry(c, &ep, false, &e, now);
}

int turn_client_bind(struct turn_client *c, const struct nb_endpoint *peer, uint16_t *channel,
		     struct nb_time now)
{
	struct entry *e;
	int r = add_entry(c, peer, true, &e, now);

	if (channel && (r == 0 || r == NB_E_EXISTS))
		*channel = e->channel;
	return r;
}

void turn_client_forget(struct turn_client *c, const struct nb_endpoint *peer)
{
	struct entry *e = find_entry(c, peer, peer->port != 0);

	if (!e)
		return;
	if (!e->channel) {
		drop_entry(c, e);
		return;
	}
	e->forgotten = true;
	e->t.active = e->announce = e->failed = false;
	/* Counted from the last refresh that the server can have seen, at most PEER_REFRESH away. */
	e->next = e->live ? nb_time_add(e->next, CHANNEL_REST) : nb_time_add(e->t.next, CHANNEL_REST);
}

/* ---- Requests ---- */

static void put_credentials(const struct turn_client *c, struct stun_enc *e)
{
	if (c->authed) {
		stun_put_str(e, STUN_A_USERNAME, c->username);
		stun_put(e, STUN_A_REALM, nb_bytes(c->realm, c->realm_len));
		stun_put(e, STUN_A_NONCE, nb_bytes(c->nonce, c->nonce_len));
		stun_put_integrity(e, nb_bytes(c->key, sizeof c->key));
	}
	stun_put_fingerprint(e);
}

static void put_allocate(const struct turn_client *c, struct stun_enc *e)
{
	stun_put_u32(e, TURN_A_REQUESTED_TRANSPORT, TRANSPORT_UDP);
	if (c->cfg.family == 6)
		stun_put_u32(e, TURN_A_REQUESTED_ADDRESS_FAMILY, 2u << 24);
	if (c->cfg.lifetime_s)
		stun_put_u32(e, TURN_A_LIFETIME, c->cfg.lifetime_s);
}

static int write_control(const struct turn_client *c, struct nb_buf *b)
{
	unsigned method = c->control == CTL_ALLOCATE ? TURN_ALLOCATE : TURN_REFRESH;
	struct stun_enc e = stun_begin(b, STUN_REQUEST, method, c->ctl.id);

	if (c->control == CTL_ALLOCATE)
		put_allocate(c, &e);
	else if (c->control != CTL_REFRESH)
		stun_put_u32(&e, TURN_A_LIFETIME, 0);
	else if (c->cfg.lifetime_s)
		stun_put_u32(&e, TURN_A_LIFETIME, c->cfg.lifetime_s);
	put_credentials(c, &e);
	return stun_end(&e);
}

static int write_entry(const struct turn_client *c, const struct entry *en, struct nb_buf *b)
{
	unsigned method = en->channel ? TURN_CHANNEL_BIND : TURN_CREATE_PERMISSION;
	struct stun_enc e = stun_begin(b, STUN_REQUEST, method, en->t.id);

	if (en->channel)
		stun_put_u32(&e, TURN_A_CHANNEL_NUMBER, (uint32_t)en->channel << 16);
	stun_put_xor_addr(&e, TURN_A_XOR_PEER_ADDRESS, &en->peer);
	put_credentials(c, &e);
	return stun_end(&e);
}

static int write_keepalive(struct turn_client *c, struct nb_buf *b)
{
	uint8_t id[STUN_TXID_LEN];
	struct stun_enc e;

	c->cfg.random(c->cfg.random_ctx, id, sizeof id);
	e = stun_begin(b, STUN_INDICATION, STUN_BINDING, id);
	return stun_end(&e);
}

/* True when the transaction is to be sent now; *gave_up when no answer came to all transmissions. */
static bool txn_due(const struct turn_client *c, struct txn *t, struct nb_time now, bool *gave_up)
{
	if (!t->active || !nb_time_due(t->next, now))
		return false;
	if (t->sends == (c->cfg.stream ? 1 : SENDS_MAX)) {
		t->active = false;
		*gave_up = true;
		return false;
	}
	t->sends++;
	t->next = nb_time_add(now, t->rto);
	t->rto = t->rto * 2 < RTO_MAX ? t->rto * 2 : RTO_MAX;
	return true;
}

static void entry_failed(struct entry *e, unsigned code, int err)
{
	e->t.active = e->announce = e->live = false;
	e->failed = true;
	e->code = code;
	e->err = err;
	e->next = NB_TIME_NEVER;
}

static bool control_due(struct turn_client *c, struct nb_time now)
{
	bool gave_up = false, due;

	if (c->state == TURN_CLOSING && nb_time_due(c->close_by, now)) {
		die(c, TURN_EV_CLOSED, 0, NB_E_TIMEOUT);
		return false;
	}
	if (c->state == TURN_READY && !c->ctl.active && nb_time_due(c->refresh, now))
		control_start(c, CTL_REFRESH, now);
	due = txn_due(c, &c->ctl, now, &gave_up);
	if (gave_up)
		die(c, c->state == TURN_CLOSING ? TURN_EV_CLOSED : TURN_EV_FAILED, 0, NB_E_TIMEOUT);
	return due;
}

static struct entry *entry_due(struct turn_client *c, struct nb_time now)
{
	for (size_t i = 0; i < c->nentries; i++) {
		struct entry *e = &c->entries[i];
		bool gave_up = false;

		if (e->failed || e->forgotten)
			continue;
		if (!e->t.active && nb_time_due(e->next, now)) {
			e->t.stale = 0;
			txn_start(c, &e->t, now);
		}
		if (txn_due(c, &e->t, now, &gave_up))
			return e;
		if (gave_up)
			entry_failed(e, 0, NB_E_TIMEOUT);
	}
	return NULL;
}

int turn_client_output(struct turn_client *c, struct nb_dgram *out, struct nb_time now)
{
	struct entry *e;
	struct nb_buf b;
	int r;

	if (c->state == TURN_DEAD)
		return 0;
	nb_buf_fixed(&b, out->p, out->cap);
	if (control_due(c, now)) {
		r = write_control(c, &b);
	} else if (c->state == TURN_READY && (e = entry_due(c, now))) {
		r = write_entry(c, e, &b);
	} else if (c->state == TURN_READY && nb_time_due(c->keepalive, now)) {
		c->keepalive = nb_time_add(now, KEEPALIVE);
		r = write_keepalive(c, &b);
	} else {
		return 0;
	}
	if (r)
		return 0;
	out->to = c->cfg.server;
	out->n = b.n;
	return 1;
}

struct nb_time turn_client_deadline(const struct turn_client *c)
{
	struct nb_time t = NB_TIME_NEVER;

	if (c->state == TURN_DEAD)
		return t;
	if (c->ctl.active)
		t = c->ctl.next;
	if (c->state == TURN_CLOSING)
		return nb_time_min(t, c->close_by);
	if (c->state != TURN_READY)
		return t;
	if (!c->ctl.active)
		t = c->refresh;
	t = nb_time_min(t, c->keepalive);
	for (size_t i = 0; i < c->nentries; i++) {
		const struct entry *e = &c->entries[i];

		if (!e->failed && !e->forgotten)
			t = nb_time_min(t, e->t.active ? e->t.next : e->next);
	}
	return t;
}

/* ---- Answers ---- */

static bool take_text(char *out, size_t *len, struct nb_bytes v)
{
	if (v.n == 0 || v.n > TEXT_MAX)
		return false;
	memcpy(out, v.p, v.n);
	*len = v.n;
	return true;
}

/* Take REALM and NONCE of a 401 or 438. */
static int take_challenge(struct turn_client *c, const struct stun_msg *m)
{
	struct nb_bytes realm, nonce;

	if (stun_find(m, STUN_A_NONCE, &nonce) || !take_text(c->nonce, &c->nonce_len, nonce))
		return NB_E_PROTO;
	if (stun_find(m, STUN_A_REALM, &realm))
		return c->authed ? 0 : NB_E_PROTO;	/* a 438 may leave it out */
	if (!take_text(c->realm, &c->realm_len, realm))
		return NB_E_PROTO;
	return stun_long_term_key(c->key, nb_bytes_str(c->username), realm, nb_bytes_str(c->password));
}

/* Handle the codes that mean "ask again". Returns 1 when the request goes out again, 0 when the error
 * is for the caller, or NB_E_PROTO. */
static int try_again(struct turn_client *c, struct txn *t, const struct stun_msg *m, unsigned code,
		     struct nb_time now)
{
	bool first = code == 401 && !c->authed;
	int r;

	if (!first && (code != 438 || t->stale == STALE_MAX))
		return 0;
	r = take_challenge(c, m);
	if (r)
		return NB_E_PROTO;
	if (!first)
		t->stale++;
	c->authed = true;
	txn_start(c, t, now);
	return 1;
}

static void set_refresh(struct turn_client *c, const struct stun_msg *m, struct nb_time now)
{
	uint32_t s;

	if (stun_get_u32(m, TURN_A_LIFETIME, &s))
		s = 600;
	if (s < 10)
		s = 10;
	c->refresh = nb_time_add(now, s / 2 * NB_SEC);
}

static void allocated(struct turn_client *c, const struct stun_msg *m, struct nb_time now)
{
	if (stun_get_xor_addr(m, TURN_A_XOR_RELAYED_ADDRESS, &c->relayed) ||
	    c->relayed.addr.family != c->cfg.family) {
		die(c, TURN_EV_FAILED, 0, NB_E_PROTO);
		return;
	}
	c->state = TURN_READY;
	c->ev = (struct turn_event){ .type = TURN_EV_ALLOCATED, .relayed = c->relayed };
	stun_get_xor_addr(m, STUN_A_XOR_MAPPED_ADDRESS, &c->ev.mapped);
	set_refresh(c, m, now);
	c->keepalive = nb_time_add(now, KEEPALIVE);
	/* What was asked for while allocating starts its retransmissions now. */
	for (size_t i = 0; i < c->nentries; i++)
		if (c->entries[i].t.active)
			txn_start(c, &c->entries[i].t, now);
}

static void control_success(struct turn_client *c, const struct stun_msg *m, struct nb_time now)
{
	c->ctl.active = false;
	switch (c->control) {
	case CTL_ALLOCATE:
		allocated(c, m, now);
		break;
	case CTL_REFRESH:
		set_refresh(c, m, now);
		break;
	case CTL_RELEASE:
		control_start(c, CTL_ALLOCATE, now);
		break;
	case CTL_CLOSE:
		die(c, TURN_EV_CLOSED, 0, 0);
		break;
	}
}

static void control_error(struct turn_client *c, const struct stun_msg *m, unsigned code, struct nb_time now)
{
	int r = try_again(c, &c->ctl, m, code, now);

	if (r == 1)
		return;
	c->ctl.active = false;
	if (r < 0) {
		die(c, TURN_EV_FAILED, code, r);
	} else if (c->control == CTL_CLOSE) {
		die(c, TURN_EV_CLOSED, code, 0);
	} else if (c->control == CTL_ALLOCATE && code == 437 && !c->released) {
		/* An earlier run left an allocation on this 5-tuple: give it back first. */
		c->released = true;
		control_start(c, CTL_RELEASE, now);
	} else if (c->control == CTL_RELEASE) {
		control_start(c, CTL_ALLOCATE, now);
	} else {
		die(c, TURN_EV_FAILED, code, NB_E_DENIED);
		if (code == 300)
			stun_get_addr(m, STUN_A_ALTERNATE_SERVER, &c->ev.alternate);
	}
}

static void entry_success(struct entry *e, struct nb_time now)
{
	e->t.active = false;
	e->announce = e->announce || !e->live;
	e->live = true;
	e->next = nb_time_add(now, PEER_REFRESH);
}

static void entry_error(struct turn_client *c, struct entry *e, const struct stun_msg *m, unsigned code,
			struct nb_time now)
{
	int r = try_again(c, &e->t, m, code, now);

	if (r != 1)
		entry_failed(e, code, r < 0 ? r : NB_E_DENIED);
}

static struct entry *find_txn(const struct turn_client *c, const uint8_t *id)
{
	for (size_t i = 0; i < c->nentries; i++)
		if (c->entries[i].t.active && memcmp(c->entries[i].t.id, id, STUN_TXID_LEN) == 0)
			return &c->entries[i];
	return NULL;
}

/* Successes must be signed once we sign; so must errors that carry a signature at all. Errors without
 * one are believed, because servers send many so: who can see the transaction id can drop the
 * request, too. */
static bool authentic(const struct turn_client *c, const struct stun_msg *m)
{
	int r;

	if (!c->authed)
		return true;
	r = stun_check_integrity(m, nb_bytes(c->key, sizeof c->key));
	return r == 0 || (r == NB_E_NOTFOUND && m->cls == STUN_ERROR);
}

static int answer(struct turn_client *c, const struct stun_msg *m, struct nb_time now)
{
	bool control = c->ctl.active && memcmp(c->ctl.id, stun_txid(m), STUN_TXID_LEN) == 0;
	struct entry *e = control ? NULL : find_txn(c, stun_txid(m));
	unsigned code = 0;

	if ((!control && !e) || !authentic(c, m))
		return NB_E_BAD;
	if (m->cls == STUN_ERROR && stun_get_error(m, &code, NULL))
		return NB_E_BAD;
	if (control && code)
		control_error(c, m, code, now);
	else if (control)
		control_success(c, m, now);
	else if (code)
		entry_error(c, e, m, code, now);
	else
		entry_success(e, now);
	return 0;
}

static int channel_input(const struct turn_client *c, struct nb_bytes in, struct nb_endpoint *peer,
			 struct nb_bytes *data)
{
	const struct entry *e;
	uint16_t channel;

	if (turn_channel_decode(in, &channel, data))
		return NB_E_BAD;
	e = find_channel(c, channel);
	if (!e || !e->live)
		return NB_E_BAD;
	*peer = e->peer;
	return 1;
}

int turn_client_input(struct turn_client *c, struct nb_bytes in, struct nb_endpoint *peer,
		      struct nb_bytes *data, struct nb_time now)
{
	struct stun_msg m;

	if (c->state == TURN_DEAD)
		return NB_E_BAD;
	if (turn_channel_is(in))
		return channel_input(c, in, peer, data);
	if (stun_decode(&m, in))
		return NB_E_BAD;
	if (m.cls == STUN_SUCCESS || m.cls == STUN_ERROR)
		return answer(c, &m, now);
	if (m.cls != STUN_INDICATION || m.method != TURN_DATA || c->state != TURN_READY)
		return NB_E_BAD;
	if (stun_get_xor_addr(&m, TURN_A_XOR_PEER_ADDRESS, peer) || stun_find(&m, TURN_A_DATA, data))
		return NB_E_BAD;
	return 1;
}

static bool entry_event(struct turn_client *c, struct entry *e, struct turn_event *ev)
{
	if (!e->announce && !e->failed)
		return false;
	*ev = (struct turn_event){ .peer = e->peer, .channel = e->channel };
	if (e->announce) {
		ev->type = e->channel ? TURN_EV_BOUND : TURN_EV_PERMITTED;
		e->announce = false;
		return true;
	}
	ev->type = TURN_EV_PEER_FAILED;
	ev->code = e->code;
	ev->err = e->err;
	drop_entry(c, e);
	return true;
}

int turn_client_event(struct turn_client *c, struct turn_event *ev)
{
	if (c->ev.type != TURN_EV_NONE) {
		*ev = c->ev;
		c->ev.type = TURN_EV_NONE;
		return 1;
	}
	for (size_t i = 0; i < c->nentries; i++)
		if (entry_event(c, &c->entries[i], ev))
			return 1;
	return 0;
}

static int wrap_indication(struct turn_client *c, const struct nb_endpoint *peer, struct nb_bytes data,
			   uint8_t *out)
{
	uint8_t id[STUN_TXID_LEN];
	struct stun_enc e;
	struct nb_buf b;

	c->cfg.random(c->cfg.random_ctx, id, sizeof id);
	nb_buf_fixed(&b, out, data.n + TURN_WRAP_MAX);
	e = stun_begin(&b, STUN_INDICATION, TURN_SEND, id);
	stun_put_xor_addr(&e, TURN_A_XOR_PEER_ADDRESS, peer);
	stun_put(&e, TURN_A_DATA, data);
	return stun_end(&e) ? NB_E_ARG : (int)b.n;
}

int turn_client_wrap(struct turn_client *c, const struct nb_endpoint *peer, struct nb_bytes data,
		     uint8_t *out)
{
	uint16_t channel;

	if (c->state != TURN_READY)
		return NB_E_STATE;
	if (data.n > UINT16_MAX - TURN_WRAP_MAX)
		return NB_E_ARG;
	channel = turn_client_channel(c, peer);
	if (!channel)
		return wrap_indication(c, peer, data, out);
	turn_channel_header(out, channel, (uint16_t)data.n);
	if (data.n)
		memcpy(out + TURN_CHANNEL_HEADER, data.p, data.n);
	return (int)(data.n + TURN_CHANNEL_HEADER);
}

enum turn_client_state turn_client_state(const struct turn_client *c)
{
	return c->state;
}

bool turn_client_relayed(const struct turn_client *c, struct nb_endpoint *out)
{
	*out = c->relayed;
	return c->relayed.addr.family != 0;
}

uint16_t turn_client_channel(const struct turn_client *c, const struct nb_endpoint *peer)
{
	const struct entry *e = find_entry(c, peer, true);

	return e && e->live && !e->forgotten ? e->channel : 0;
}
