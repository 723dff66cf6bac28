/* check.c - connectivity checks as bytes: requests, answers, what an incoming STUN message does to
 * the agent. Pair tables and timers are in agent.c.
 * RFC 8445 7, spec/peer-connection.md 1.7, 1.8. Tests: tests/unit/ice_agent_test.c,
 * tests/sim/ice_sim_test.c, tests/fuzz/ice_fuzz.c */
#include "ice/ice.h"

#include <stdio.h>

#include "base/err.h"
#include "ice/ice_int.h"
#include "ice/stun.h"

#define USERNAME_CAP (2 * ICE_UFRAG_MAX + 2)

/* ---- Writing ---- */

static void make_txid(const struct ice_agent *a, const uint8_t *nonce, uint8_t txid[STUN_TXID_LEN])
{
	memcpy(txid, a->tag, ICE_TAG_LEN);
	memcpy(txid + ICE_TAG_LEN, nonce, ICE_NONCE_LEN);
}

static int finish(struct stun_enc *e, struct nb_buf *b, struct nb_dgram *out)
{
	int err = stun_end(e);

	out->n = err ? 0 : b->n;
	return err;
}

/* A pair id counts when it is two ids with one colon between them. */
static bool pair_id_split(struct nb_bytes id, struct nb_bytes *sender, struct nb_bytes *receiver)
{
	const uint8_t *colon = id.n ? memchr(id.p, ':', id.n) : NULL;

	while (id.n && !id.p[id.n - 1])	/* stock counts its padding */
		id.n--;
	if (!colon || id.n > ICE_PAIR_ID_MAX)
		return false;
	*sender = nb_bytes(id.p, (size_t)(colon - id.p));
	*receiver = nb_bytes(colon + 1, id.n - sender->n - 1);
	return sender->n && receiver->n && sender->n <= ICE_CID_MAX && receiver->n <= ICE_CID_MAX &&
		!memchr(receiver->p, ':', receiver->n);
}

static void put_pair_id(struct stun_enc *e, const struct ice_agent *a, const struct ice_pair *p)
{
	const char *local = a->locals[p->label].c.cid, *remote = a->remotes[p->remote].cid;
	char id[2 * ICE_CID_MAX + 2];
	int n;

	if (!remote[0])
		return;
	n = snprintf(id, sizeof id, "%s:%s", local, remote);
	stun_put(e, ICE_A_NETBIRD_PAIR_ID, nb_bytes(id, (size_t)n));
}

/* Remember the request and draw its nonce. */
static struct ice_pending *pending_new(struct ice_agent *a, struct ice_pair *p, struct nb_time now)
{
	struct ice_pending *q = &p->pending[p->pending_at];

	p->pending_at = (uint8_t)((p->pending_at + 1) % ICE_PENDING);
	a->cfg.random(a->cfg.random_ctx, q->nonce, sizeof q->nonce);
	q->sent = now;
	q->nominating = p - a->pairs == a->nominating;
	q->controlling = a->controlling;
	return q;
}

int ice_write_check(struct ice_agent *a, struct ice_pair *p, struct nb_dgram *out, struct nb_time now)
{
	struct ice_pending *q = pending_new(a, p, now);
	uint8_t txid[STUN_TXID_LEN];
	char username[USERNAME_CAP];
	struct stun_enc e;
	struct nb_buf b;

	make_txid(a, q->nonce, txid);
	snprintf(username, sizeof username, "%s:%s", a->remote_ufrag, a->local_ufrag);
	nb_buf_fixed(&b, out->p, out->cap);
	e = stun_begin(&b, STUN_REQUEST, STUN_BINDING, txid);
	stun_put_str(&e, STUN_A_USERNAME, username);
	/* After a long pause the check may come from a new mapping of our NAT: the other side shall follow. */
	if (q->nominating || (a->cfg.idle_ms && a->controlling && p - a->pairs == a->selected))
		stun_put_flag(&e, ICE_A_USE_CANDIDATE);
	stun_put_u64(&e, a->controlling ? ICE_A_CONTROLLING : ICE_A_CONTROLLED, a->tie_breaker);
	stun_put_u32(&e, ICE_A_PRIORITY, a->locals[p->label].c.priority);
	put_pair_id(&e, a, p);
	stun_put_integrity(&e, nb_bytes_str(a->remote_pwd));
	stun_put_fingerprint(&e);
	out->to = a->remotes[p->remote].at;
	a->stats.checks_sent++;
	return finish(&e, &b, out);
}

int ice_write_answer(struct ice_agent *a, struct nb_dgram *out, unsigned *via)
{
	const struct ice_answer first = a->answers[0], *w = &first;
	struct stun_enc e;
	struct nb_buf b;

	memmove(a->answers, a->answers + 1, --a->nanswers * sizeof *a->answers);
	nb_buf_fixed(&b, out->p, out->cap);
	e = stun_begin(&b, w->conflict ? STUN_ERROR : STUN_SUCCESS, STUN_BINDING, w->txid);
	if (w->conflict)
		stun_put_error(&e, 487, "Role Conflict");
	else
		stun_put_xor_addr(&e, STUN_A_XOR_MAPPED_ADDRESS, &w->to);
	if (w->pair_id_len)
		stun_put(&e, ICE_A_NETBIRD_PAIR_ID, nb_bytes(w->pair_id, w->pair_id_len));
	stun_put_integrity(&e, nb_bytes_str(a->local_pwd));
	stun_put_fingerprint(&e);
	out->to = w->to;
	out->from = w->from;
	*via = w->via;
	a->stats.responses_sent++;
	return finish(&e, &b, out);
}

/* Stock's own form: no attributes at all. */
int ice_write_gather(struct ice_agent *a, struct ice_server *s, struct nb_dgram *out)
{
	uint8_t txid[STUN_TXID_LEN];
	struct stun_enc e;
	struct nb_buf b;

	make_txid(a, s->nonce, txid);
	nb_buf_fixed(&b, out->p, out->cap);
	e = stun_begin(&b, STUN_REQUEST, STUN_BINDING, txid);
	out->to = s->at;
	return finish(&e, &b, out);
}

/* ---- Answers that arrive ---- */

static struct ice_pending *pending_find(struct ice_agent *a, const uint8_t *txid, unsigned via,
	const struct nb_endpoint *from, struct nb_time now, struct ice_pair **pair)
{
	struct ice_pair *p = ice_pair_find(a, via, from);

	if (!p || memcmp(txid, a->tag, ICE_TAG_LEN))
		return NULL;
	for (unsigned i = 0; i < ICE_PENDING; i++) {
		struct ice_pending *q = &p->pending[i];

		if (!q->sent.ns || memcmp(q->nonce, txid + ICE_TAG_LEN, ICE_NONCE_LEN))
			continue;
		if (nb_time_diff(now, q->sent) > ICE_PENDING_MS * NB_MS)
			return NULL;
		*pair = p;
		return q;
	}
	return NULL;
}

static void pair_succeeded(struct ice_agent *a, struct ice_pair *p, bool nominating, struct nb_time now)
{
	int at = (int)(p - a->pairs);

	p->state = ICE_PAIR_SUCCEEDED;
	p->tries = 0;
	if (at == a->selected) {
		ice_selected_answers(a, p, now);
		return;
	}
	if (a->controlling && nominating && at == a->nominating)
		ice_select(a, p, now);
	else if (!a->controlling && p->nominated &&
		 (a->selected < 0 || p->priority >= a->pairs[a->selected].priority))
		ice_select(a, p, now);
	else if (at != a->nominating)
		p->next = NB_TIME_NEVER;
	p->nominated = false;
}

static int on_success(struct ice_agent *a, const struct stun_msg *m, const struct nb_endpoint *from,
		      unsigned via, struct nb_time now)
{
	struct ice_pair *p;
	struct ice_pending *q = pending_find(a, stun_txid(m), via, from, now, &p);

	if (!q)
		return NB_E_NOTFOUND;
	if (stun_check_integrity(m, nb_bytes_str(a->remote_pwd)))
		return NB_E_AUTH;
	p->rtt_ns = nb_time_diff(now, q->sent);
	q->sent.ns = 0;
	a->stats.responses_received++;
	ice_pair_heard(a, p, now);
	pair_succeeded(a, p, q->nominating, now);
	return 0;
}

static int on_error(struct ice_agent *a, const struct stun_msg *m, const struct nb_endpoint *from,
		    unsigned via, struct nb_time now)
{
	struct ice_pair *p;
	struct ice_pending *q = pending_find(a, stun_txid(m), via, from, now, &p);
	unsigned code;

	if (!q)
		return NB_E_NOTFOUND;
	if (stun_check_integrity(m, nb_bytes_str(a->remote_pwd)))
		return NB_E_AUTH;
	q->sent.ns = 0;
	a->stats.responses_received++;
	if (stun_get_error(m, &code, NULL))
		code = 0;
	p->conflict = code == 487;
	if (code != 487) {
		p->error = (uint16_t)code;
		return 0;	/* the check goes on being repeated */
	}
	if (q->controlling == a->controlling)
		ice_switch_role(a, !a->controlling, now);
	if (p->state != ICE_PAIR_SUCCEEDED)
		p->next = now;
	return 0;
}

/* The answer of a STUN server: only the transaction id and the address vouch for it. */
static int on_gathered(struct ice_agent *a, const struct stun_msg *m, const struct nb_endpoint *from,
		       struct nb_time now)
{
	struct nb_endpoint mapped;

	if (memcmp(stun_txid(m), a->tag, ICE_TAG_LEN))
		return NB_E_NOTFOUND;
	for (unsigned i = 0; i < a->nservers; i++) {
		struct ice_server *s = &a->servers[i];

		if (nb_time_is_never(s->next) || !nb_endpoint_eq(&s->at, from) ||
		    memcmp(stun_txid(m) + ICE_TAG_LEN, s->nonce, ICE_NONCE_LEN))
			continue;
		if (stun_get_xor_addr(m, STUN_A_XOR_MAPPED_ADDRESS, &mapped) &&
		    stun_get_addr(m, STUN_A_MAPPED_ADDRESS, &mapped))
			return NB_E_BAD;
		if (mapped.addr.family != from->addr.family)
			return NB_E_BAD;
		s->next = NB_TIME_NEVER;
		ice_add_local_reflexive(a, &mapped, s->port, now);
		return 0;
	}
	return NB_E_NOTFOUND;
}

/* ---- Requests that arrive ---- */

static bool username_ours(const struct ice_agent *a, struct nb_bytes name)
{
	size_t l = strlen(a->local_ufrag), r = strlen(a->remote_ufrag);

	return name.n == l + 1 + r && memcmp(name.p, a->local_ufrag, l) == 0 && name.p[l] == ':' &&
		memcmp(name.p + l + 1, a->remote_ufrag, r) == 0;
}

/* RFC 8445 7.3.1.1. Returns true when the request is refused with 487. */
static bool role_conflict(struct ice_agent *a, const struct stun_msg *m, struct nb_time now)
{
	uint64_t theirs;

	if (stun_get_u64(m, a->controlling ? ICE_A_CONTROLLING : ICE_A_CONTROLLED, &theirs))
		return false;
	if (a->controlling == (a->tie_breaker >= theirs))
		return true;
	ice_switch_role(a, !a->controlling, now);
	return false;
}

static int queue_answer(struct ice_agent *a, const struct stun_msg *m, const struct nb_dgram *in,
			unsigned via, bool conflict)
{
	struct nb_bytes id, sender, receiver;
	struct ice_answer *w;

	if (ice_grow(&a->answers, &a->answers_cap, a->nanswers, ICE_ANSWERS, sizeof *a->answers))
		return NB_E_FULL;
	w = &a->answers[a->nanswers++];
	*w = (struct ice_answer){ .to = in->from, .from = in->to, .via = via, .conflict = conflict };
	memcpy(w->txid, stun_txid(m), sizeof w->txid);
	if (stun_find_anywhere(m, ICE_A_NETBIRD_PAIR_ID, &id) || !pair_id_split(id, &sender, &receiver))
		return 0;
	memcpy(w->pair_id, receiver.p, receiver.n);
	w->pair_id[receiver.n] = ':';
	memcpy(w->pair_id + receiver.n + 1, sender.p, sender.n);
	w->pair_id_len = (uint8_t)(receiver.n + 1 + sender.n);
	return 0;
}

/* A request from an address nobody told us about (RFC 8445 7.3.1.3). */
static void learn_remote(struct ice_agent *a, const struct stun_msg *m, const struct nb_endpoint *from,
			 struct nb_time now)
{
	struct ice_candidate c = { .type = ICE_PRFLX, .at = *from };
	struct nb_bytes id, sender, receiver;

	if (ice_remote_find(a, from) >= 0)
		return;
	memcpy(c.ufrag, a->remote_ufrag, sizeof c.ufrag);
	if (!stun_find_anywhere(m, ICE_A_NETBIRD_PAIR_ID, &id) && pair_id_split(id, &sender, &receiver) &&
	    !memchr(sender.p, 0, sender.n))
		memcpy(c.cid, sender.p, sender.n);
	ice_remote_insert(a, &c, now);
}

/* The controlling side says by its pair id which of our candidates it means. */
static void label_pair(struct ice_agent *a, struct ice_pair *p, const struct stun_msg *m)
{
	struct nb_bytes id, sender, receiver;

	if (stun_find_anywhere(m, ICE_A_NETBIRD_PAIR_ID, &id) || !pair_id_split(id, &sender, &receiver))
		return;
	for (unsigned i = 0; i < a->nlocals; i++) {
		const struct ice_candidate *c = &a->locals[i].c, *own = &a->locals[p->local].c;

		if (c->via == own->via && c->at.addr.family == own->at.addr.family &&
		    nb_bytes_eq_str(receiver, c->cid))
			p->label = (uint8_t)i;
	}
}

static void nominated_by_peer(struct ice_agent *a, struct ice_pair *p, const struct stun_msg *m,
			      struct nb_time now)
{
	if (a->selected >= 0 && p->priority < a->pairs[a->selected].priority)
		return;
	if (p - a->pairs != a->selected)
		label_pair(a, p, m);
	if (p->state == ICE_PAIR_SUCCEEDED)
		ice_select(a, p, now);
	else
		p->nominated = true;
}

/* RFC 8445 7.3.1.4: check this pair too, soon, unless we know that it works. The pause keeps two
 * sides that provoke each other from flooding. */
static void trigger(struct ice_agent *a, struct ice_pair *p, struct nb_time now)
{
	struct nb_time earliest = nb_time_add_ms(p->last_sent, ICE_TRIGGER_MS);

	if (p->state == ICE_PAIR_SUCCEEDED || p - a->pairs == a->selected)
		return;
	if (p->tries >= ICE_TRIES)
		p->tries = 0;
	if (!p->last_sent.ns || nb_time_before(earliest, now))
		earliest = now;
	p->next = nb_time_min(p->next, earliest);
}

static int on_request(struct ice_agent *a, const struct stun_msg *m, const struct nb_dgram *in,
		      unsigned via, struct nb_time now)
{
	struct nb_bytes name;
	struct ice_pair *p;
	int err;

	if (stun_find(m, STUN_A_USERNAME, &name) || !username_ours(a, name) ||
	    stun_check_integrity(m, nb_bytes_str(a->local_pwd)))
		return NB_E_AUTH;
	if (a->cfg.relay_only && !via)
		return NB_E_DENIED;
	a->stats.requests_received++;
	if (role_conflict(a, m, now))
		return queue_answer(a, m, in, via, true);
	err = queue_answer(a, m, in, via, false);
	if (err)
		return err;
	learn_remote(a, m, &in->from, now);
	p = ice_pair_find(a, via, &in->from);
	if (!p)
		return 0;	/* no local candidate of that family yet, or the tables are full */
	p->provoked = true;
	ice_pair_heard(a, p, now);
	if (!a->controlling && stun_has(m, ICE_A_USE_CANDIDATE))
		nominated_by_peer(a, p, m, now);
	trigger(a, p, now);
	return 0;
}

static int dispatch(struct ice_agent *a, const struct stun_msg *m, const struct nb_dgram *in,
		    unsigned via, struct nb_time now)
{
	int err;

	switch (m->cls) {
	case STUN_REQUEST:
		return on_request(a, m, in, via, now);
	case STUN_SUCCESS:
		err = via ? NB_E_NOTFOUND : on_gathered(a, m, &in->from, now);
		return err == NB_E_NOTFOUND ? on_success(a, m, &in->from, via, now) : err;
	case STUN_ERROR:
		return on_error(a, m, &in->from, via, now);
	default:
		return 0;	/* indications prove nothing: they are not authenticated */
	}
}

int ice_input(struct ice_agent *a, const struct nb_dgram *in, unsigned via, struct nb_time now)
{
	struct nb_dgram d = *in;
	struct stun_msg m;
	int err;

	d.from.addr = nb_addr_unmap(&in->from.addr);
	d.from.addr.scope = 0;
	err = a->state == ICE_FAILED ? NB_E_STATE : stun_decode(&m, nb_bytes(in->p, in->n));
	if (!err)
		err = m.method == STUN_BINDING ? dispatch(a, &m, &d, via, now) : NB_E_UNSUPPORTED;
	if (err)
		a->stats.dropped++;
	return err;
}
