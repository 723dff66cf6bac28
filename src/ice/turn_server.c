/* turn_server.c - the requests and indications of the STUN and TURN server, and the relaying itself.
 * Order of checks in a request (RFC 8656, 5 and 7.2): credentials, unknown attributes, the method's own.
 * Who may do what is in turn_auth.c and turn_policy.c, the tables in turn_table.c.
 * Tests: tests/unit/ice_turn_server_test.c */
#include "ice/turn_server.h"

#include <stdlib.h>

#include "base/err.h"
#include "ice/turn_int.h"

#define ANSWER_MAX 1400
#define TRANSPORT_UDP 17

/* One request on its way through the server. */
struct req {
	struct turn_server *s;
	const struct turn_flow *flow;
	struct stun_msg m;
	struct nb_time now;
	struct nb_wall wall;
	struct turn_alloc *alloc;	/* of this 5-tuple, or NULL */
	struct nb_bytes user;
	uint8_t key[STUN_KEY_LEN];
	bool keyed;			/* authenticated: answers are signed */
	bool rationed;			/* the answer was allowed already */
	uint8_t mem[ANSWER_MAX];
	struct nb_buf b;
	struct stun_enc e;
};

/* ---- Set up and tear down ---- */

static uint32_t or_default(uint32_t v, uint32_t d)
{
	return v ? v : d;
}

static bool config_ok(const struct turn_server_config *c)
{
	return c->realm && *c->realm && strlen(c->realm) <= 255 && c->port_min && c->port_min <= c->port_max &&
	       c->nusers <= 64 && c->nallow <= 64 && c->random;
}

static int copy_users(struct turn_server *s, const struct turn_server_config *c)
{
	for (size_t i = 0; i < c->nusers; i++) {
		const struct turn_user *u = &c->users[i];

		if (stun_long_term_key(s->users[i].key, nb_bytes_str(u->name), nb_bytes_str(c->realm),
				       nb_bytes_str(u->password)))
			return NB_E_CONFIG;
		s->users[i].name = strdup(u->name);
		if (!s->users[i].name)
			return NB_E_NOMEM;
	}
	return 0;
}

static int copy_config(struct turn_server *s, const struct turn_server_config *c)
{
	size_t n = c->port_max - c->port_min + 1u;

	s->realm = strdup(c->realm);
	s->secret = c->secret && *c->secret ? strdup(c->secret) : NULL;
	if (!s->realm || (c->secret && *c->secret && !s->secret))
		return NB_E_NOMEM;
	for (int i = 0; i < 2; i++) {
		s->ports[i] = calloc(n, sizeof *s->ports[i]);
		s->reserved[i] = calloc(n, 1);
		if (!s->ports[i] || !s->reserved[i])
			return NB_E_NOMEM;
	}
	for (size_t i = 0; i < c->nallow; i++)
		s->allow[i] = c->allow[i];
	turn_server_set_own(s, c->own, c->nown);
	return copy_users(s, c);
}

static void set_defaults(struct turn_server *s)
{
	struct turn_server_config *c = &s->cfg;
	uint8_t seed[16];

	c->realm = c->secret = NULL;
	c->users = NULL;
	c->own = NULL;
	c->allow = NULL;
	if (!c->total)
		c->total = &s->total;
	c->max_allocations = c->max_allocations ? c->max_allocations : TURN_ALLOCATIONS;
	c->max_per_user = c->max_per_user ? c->max_per_user : 64;
	c->challenges_per_s = or_default(c->challenges_per_s, 50);
	c->answers_per_s = or_default(c->answers_per_s, 1000);
	s->challenge_rate = (struct nb_rate){ c->challenges_per_s, 4 * NB_SEC };
	s->answer_rate = (struct nb_rate){ c->answers_per_s, 2 * NB_SEC };
	c->lifetime_s = or_default(c->lifetime_s, 600);
	c->max_lifetime_s = or_default(c->max_lifetime_s, 3600);
	c->nonce_s = or_default(c->nonce_s, 1800);
	c->random(c->random_ctx, seed, sizeof seed);
	nb_map_init(&s->flows, seed, c->max_allocations);
	nb_map_init(&s->quotas, seed, c->max_allocations);
	s->seed[0] = nb_get_le64(seed);
	s->seed[1] = nb_get_le64(seed + 8);
	c->random(c->random_ctx, s->nonce_key, sizeof s->nonce_key);
	/* Judged by what peers see, not by every interface: a public relay inside a cloud must not open the
	 * cloud's private network. */
	s->soft_ok[0] = turn_addr_is_soft(&c->relay4);
	s->soft_ok[1] = turn_addr_is_soft(&c->relay6);
}

struct turn_server *turn_server_new(const struct turn_server_config *cfg, const struct turn_server_ops *ops,
				    void *ctx)
{
	struct turn_server *s;

	if (!config_ok(cfg))
		return NULL;
	s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->cfg = *cfg;
	s->ops = ops;
	s->ctx = ctx;
	set_defaults(s);
	if (copy_config(s, cfg)) {
		turn_server_free(s);
		return NULL;
	}
	return s;
}

static void free_secret(char *text)
{
	if (text)
		nb_wipe(text, strlen(text));
	free(text);
}

void turn_server_free(struct turn_server *s)
{
	if (!s)
		return;
	while (s->nheap)
		turn_alloc_free(s, s->heap[0]);
	free(s->heap);
	nb_map_fini(&s->flows);
	nb_map_fini(&s->quotas);
	for (int i = 0; i < 2; i++) {
		free(s->ports[i]);
		free(s->reserved[i]);
	}
	for (size_t i = 0; i < s->cfg.nusers; i++)
		free(s->users[i].name);
	free(s->realm);
	free_secret(s->secret);
	nb_wipe(s, sizeof *s);
	free(s);
}

void turn_server_set_own(struct turn_server *s, const struct nb_addr *own, size_t n)
{
	s->nown = n < TURN_OWN_MAX ? n : TURN_OWN_MAX;
	if (s->nown)
		memcpy(s->own, own, s->nown * sizeof *own);
}

void turn_server_set_stun(struct turn_server *s, const struct turn_stun *stun)
{
	s->stun = *stun;
}

/* ---- Answers ---- */

static void begin(struct req *q, enum stun_class cls)
{
	nb_buf_fixed(&q->b, q->mem, sizeof q->mem);
	q->e = stun_begin(&q->b, cls, q->m.method, stun_txid(&q->m));
}

static void finish(struct req *q)
{
	struct nb_bytes fp, none = { 0 };

	if (q->keyed)
		stun_put_integrity(&q->e, nb_bytes(q->key, sizeof q->key));
	if (stun_find_anywhere(&q->m, STUN_A_FINGERPRINT, &fp) == 0 || q->m.method == STUN_BINDING)
		stun_put_fingerprint(&q->e);
	/* To whom a request says it came from goes no more than it sent, or only so much. */
	if (!q->keyed && !q->rationed && q->b.n > q->m.raw.n && !turn_answer_allowed(q->s, q->flow, q->now)) {
		q->s->stats.answers_held++;
		return;
	}
	if (stun_end(&q->e) == 0)
		q->s->ops->reply(q->s->ctx, q->flow, nb_buf_view(&q->b), none, none);
}

static const char *reason(unsigned code)
{
	switch (code) {
	case 400: return "Bad Request";
	case 403: return "Forbidden";
	case 420: return "Unknown Attribute";
	case 437: return "Allocation Mismatch";
	case 440: return "Address Family not Supported";
	case 441: return "Wrong Credentials";
	case 442: return "Unsupported Transport Protocol";
	case 443: return "Peer Address Family Mismatch";
	case 486: return "Allocation Quota Reached";
	case 508: return "Insufficient Capacity";
	default: return "";
	}
}

static void error(struct req *q, unsigned code)
{
	begin(q, STUN_ERROR);
	stun_put_error(&q->e, code, reason(code));
	finish(q);
}

/* How long challenge()'s answer will be. */
static size_t challenge_len(const struct req *q, unsigned code)
{
	size_t n = STUN_HEADER_LEN + 8, realm = strlen(q->s->realm);
	struct nb_bytes fp;

	if (code != 400)
		n += 4 + realm + (-realm & 3) + 4 + TURN_NONCE_LEN;
	return stun_find_anywhere(&q->m, STUN_A_FINGERPRINT, &fp) == 0 ? n + STUN_FINGERPRINT_LEN : n;
}

/* An error before authentication: no words in it, and only so many to one source network, so that a forged source
 * address gets little out of us. Those who prove to have been here before sent more than they get, and a restarted
 * server is asked by many of them at once. */
static void challenge(struct req *q, unsigned code)
{
	char nonce[TURN_NONCE_LEN + 1];
	bool longer = challenge_len(q, code) > q->m.raw.n;

	if (longer ? !turn_challenge_allowed(q->s, q->flow, q->now) : !turn_answer_allowed(q->s, q->flow, q->now)) {
		q->s->stats.challenges_held++;
		return;
	}
	q->s->stats.challenges++;
	q->rationed = true;
	begin(q, STUN_ERROR);
	stun_put_error(&q->e, code, "");
	if (code != 400) {
		turn_nonce_make(q->s, nonce, q->flow, q->now);
		stun_put_str(&q->e, STUN_A_REALM, q->s->realm);
		stun_put_str(&q->e, STUN_A_NONCE, nonce);
	}
	finish(q);
}

/* True when the request has a mandatory attribute that we do not know (and was answered). DONT-FRAGMENT
 * is among those: we cannot set the bit per packet (RFC 8656, 7.2 step 5). */
static unsigned unknown(const struct stun_msg *m, uint16_t out[8])
{
	/* The first two are known to Binding only. */
	static const uint16_t known[] = {
		STUN_A_CHANGE_REQUEST, STUN_A_RESPONSE_PORT,
		STUN_A_USERNAME, STUN_A_REALM, STUN_A_NONCE, TURN_A_CHANNEL_NUMBER, TURN_A_LIFETIME,
		TURN_A_XOR_PEER_ADDRESS, TURN_A_DATA, TURN_A_REQUESTED_ADDRESS_FAMILY, TURN_A_EVEN_PORT,
		TURN_A_REQUESTED_TRANSPORT, TURN_A_RESERVATION_TOKEN, STUN_A_MAPPED_ADDRESS,
		ICE_A_PRIORITY, ICE_A_USE_CANDIDATE,
	};

	unsigned skip = m->method == STUN_BINDING ? 0 : 2;

	return stun_unknown(m, known + skip, sizeof known / sizeof *known - skip, out, 8);
}

static bool refuse_unknown(struct req *q)
{
	uint16_t types[8];
	unsigned n = unknown(&q->m, types);

	if (!n)
		return false;
	begin(q, STUN_ERROR);
	stun_put_error(&q->e, 420, q->keyed ? reason(420) : "");
	stun_put_unknown(&q->e, types, n);
	finish(q);
	return true;
}

static void refuse_discovery(struct req *q, unsigned code)
{
	static const uint16_t types[] = { STUN_A_CHANGE_REQUEST, STUN_A_RESPONSE_PORT };
	bool has[2] = { stun_has(&q->m, types[0]), stun_has(&q->m, types[1]) };

	if (code != 420) {
		challenge(q, code);
		return;
	}
	begin(q, STUN_ERROR);
	stun_put_error(&q->e, code, "");
	stun_put_unknown(&q->e, has[0] ? types : types + 1, has[0] + has[1]);
	finish(q);
}

/* An answer that goes another way than it was asked for could be aimed at somebody: it is never longer than the
 * request, and only so many go to one source network. */
static bool may_move(struct req *q)
{
	if (q->b.n + STUN_FINGERPRINT_LEN <= q->m.raw.n && turn_challenge_allowed(q->s, q->flow, q->now)) {
		q->s->stats.discoveries++;
		return true;
	}
	q->s->stats.discoveries_held++;
	return false;
}

static void binding(struct req *q)
{
	const struct nb_endpoint *mapped = &q->flow->client;
	struct turn_discovery d;
	unsigned code;

	q->s->stats.bindings++;
	if (refuse_unknown(q))
		return;
	code = turn_discover(q->s, q->flow, &q->m, &d);
	if (code) {
		refuse_discovery(q, code);
		return;
	}
	begin(q, STUN_SUCCESS);
	stun_put_xor_addr(&q->e, STUN_A_XOR_MAPPED_ADDRESS, mapped);
	if (d.moved && !may_move(q))
		return;
	turn_discover_put(&d, &q->m, &q->e, STUN_FINGERPRINT_LEN);
	q->flow = &d.flow;
	finish(q);
}

/* ---- Credentials ---- */

static struct turn_gone *gone_find(struct req *q)
{
	uint8_t key[TURN_FLOW_KEY];

	turn_flow_key(key, q->flow);
	for (size_t i = 0; i < TURN_GONE_MAX; i++) {
		struct turn_gone *g = &q->s->gone[i];

		if (g->used && memcmp(g->txid, stun_txid(&q->m), STUN_TXID_LEN) == 0 &&
		    memcmp(g->flow, key, sizeof key) == 0)
			return g;
	}
	return NULL;
}

static void gone_put(struct req *q)
{
	struct turn_gone *g = &q->s->gone[q->s->gone_at++ % TURN_GONE_MAX];

	turn_flow_key(g->flow, q->flow);
	memcpy(g->txid, stun_txid(&q->m), sizeof g->txid);
	memcpy(g->key, q->key, sizeof g->key);
	g->used = true;
}

static int find_key(struct req *q)
{
	struct turn_gone *g;

	if (q->alloc && nb_bytes_eq_str(q->user, q->alloc->user)) {
		memcpy(q->key, q->alloc->key, sizeof q->key);
		return 0;
	}
	g = !q->alloc && q->m.method == TURN_REFRESH ? gone_find(q) : NULL;
	if (g) {
		memcpy(q->key, g->key, sizeof q->key);
		return 0;
	}
	return turn_user_key(q->s, q->key, q->user, q->wall);
}

/* ChannelBind gets twice the time: stock clients take any error on it as final, but renew their nonce with
 * CreatePermission and Refresh (spec/peer-connection.md 5.2). */
static uint32_t nonce_life(const struct req *q)
{
	return q->m.method == TURN_CHANNEL_BIND ? q->s->cfg.nonce_s * 2 : q->s->cfg.nonce_s;
}

static bool is_number(struct nb_bytes text)
{
	for (size_t i = 0; i < text.n; i++)
		if (text.p[i] < '0' || text.p[i] > '9')
			return false;
	return text.n > 0;
}

/* A time-limited user without a name is only an expiry: all of them are whoever management trusts. A client
 * that was restarted comes with another one, from the same port, and must get at what its last run left. */
static bool same_user(struct nb_bytes user, const char *owner)
{
	return nb_bytes_eq_str(user, owner) || (is_number(user) && is_number(nb_bytes_str(owner)));
}

static bool authenticate(struct req *q)
{
	struct nb_bytes realm, nonce, mac;

	if (stun_find(&q->m, STUN_A_MESSAGE_INTEGRITY, &mac)) {
		challenge(q, 401);
		return false;
	}
	if (stun_find(&q->m, STUN_A_USERNAME, &q->user) || stun_find(&q->m, STUN_A_REALM, &realm) ||
	    stun_find(&q->m, STUN_A_NONCE, &nonce) || q->user.n == 0 || q->user.n > STUN_MAX_USERNAME) {
		challenge(q, 400);
		return false;
	}
	if (!turn_nonce_check(q->s, nonce, q->flow, nonce_life(q), q->now)) {
		challenge(q, 438);
		return false;
	}
	if (find_key(q) || stun_check_integrity(&q->m, nb_bytes(q->key, sizeof q->key))) {
		q->s->stats.auth_failures++;
		challenge(q, 401);
		return false;
	}
	q->keyed = true;
	if (q->alloc && !same_user(q->user, q->alloc->user)) {
		error(q, 441);
		return false;
	}
	return true;
}

/* ---- Allocate and Refresh ---- */

struct wanted {
	uint8_t family, second;		/* second: another relayed address, or 0 */
	uint16_t port;			/* from a reservation */
	bool even, reserve;
	uint32_t lifetime_s;
};

static bool family_offered(const struct turn_server *s, uint8_t family)
{
	return (family == 4 ? s->cfg.relay4.family : s->cfg.relay6.family) != 0;
}

/* The family named by an attribute: 4, 6, 0 when absent, or an error code. */
static unsigned get_family(const struct stun_msg *m, uint16_t type, uint8_t *family)
{
	uint32_t v;
	int r = stun_get_u32(m, type, &v);

	*family = 0;
	if (r == NB_E_NOTFOUND)
		return 0;
	if (r)
		return 400;
	if (v >> 24 != 1 && v >> 24 != 2)
		return 440;
	*family = v >> 24 == 1 ? 4 : 6;
	return 0;
}

static uint32_t get_lifetime(const struct req *q)
{
	const struct turn_server_config *c = &q->s->cfg;
	uint32_t s;

	if (stun_get_u32(&q->m, TURN_A_LIFETIME, &s) || s < c->lifetime_s)
		s = c->lifetime_s;
	return s < c->max_lifetime_s ? s : c->max_lifetime_s;
}

static unsigned read_token(struct req *q, struct wanted *w, struct nb_bytes token)
{
	struct nb_bytes v;

	if (token.n != 8 || stun_find(&q->m, TURN_A_EVEN_PORT, &v) == 0 || w->family || w->second)
		return 400;
	turn_reserve_expire(q->s, q->now);
	return turn_reserve_take(q->s, token.p, &w->family, &w->port) ? 0 : 508;
}

/* RFC 8656, 7.2, steps 3 to 11. Returns 0 or the error code. */
static unsigned read_wanted(struct req *q, struct wanted *w)
{
	struct nb_bytes v;
	unsigned code;

	*w = (struct wanted){ .lifetime_s = get_lifetime(q) };
	if (stun_find(&q->m, TURN_A_REQUESTED_TRANSPORT, &v) || v.n != 4)
		return 400;
	if (v.p[0] != TRANSPORT_UDP)
		return 442;
	code = get_family(&q->m, TURN_A_REQUESTED_ADDRESS_FAMILY, &w->family);
	if (code == 0)
		code = get_family(&q->m, TURN_A_ADDITIONAL_ADDRESS_FAMILY, &w->second);
	if (code)
		return code;
	if (stun_find(&q->m, TURN_A_EVEN_PORT, &v) == 0) {
		if (v.n != 1)
			return 400;
		w->even = true;
		w->reserve = v.p[0] & 0x80;
	}
	if (w->second && (w->second != 6 || w->family || w->reserve))
		return 400;
	if (stun_find(&q->m, TURN_A_RESERVATION_TOKEN, &v) == 0)
		return read_token(q, w, v);
	if (!w->family)
		w->family = 4;
	return family_offered(q->s, w->family) ? 0 : 440;
}

static struct nb_endpoint relayed(const struct turn_server *s, const struct turn_relay *r)
{
	return (struct nb_endpoint){ r->family == 4 ? s->cfg.relay4 : s->cfg.relay6, r->port };
}

static void answer_allocate(struct req *q)
{
	const struct turn_alloc *a = q->alloc;

	begin(q, STUN_SUCCESS);
	for (int i = 0; i < 2; i++) {
		struct nb_endpoint e = relayed(q->s, &a->relay[i]);

		if (a->relay[i].family)
			stun_put_xor_addr(&q->e, TURN_A_XOR_RELAYED_ADDRESS, &e);
	}
	stun_put_u32(&q->e, TURN_A_LIFETIME, a->granted_s);
	if (a->has_token)
		stun_put(&q->e, TURN_A_RESERVATION_TOKEN, nb_bytes(a->token, sizeof a->token));
	stun_put_xor_addr(&q->e, STUN_A_XOR_MAPPED_ADDRESS, &q->flow->client);
	if (a->refused_second)	/* family 2, 508 */
		stun_put_u32(&q->e, TURN_A_ADDRESS_ERROR_CODE, 2u << 24 | 5 << 8 | 8);
	finish(q);
}

static unsigned make_allocation(struct req *q, const struct wanted *w)
{
	struct turn_server *s = q->s;
	struct turn_alloc *a;
	int err;

	a = turn_alloc_new(s, q->flow, q->user, nb_time_add(q->now, w->lifetime_s * NB_SEC), &err);
	if (!a) {
		s->stats.refused_quota++;
		return err == NB_E_DENIED ? 486 : 508;
	}
	if (turn_relay_open(s, a, w->family, w->port, w->even, w->reserve, q->now)) {
		turn_alloc_free(s, a);
		return 508;
	}
	if (w->second)
		a->refused_second = !family_offered(s, w->second) ||
				    turn_relay_open(s, a, w->second, 0, false, false, q->now);
	memcpy(a->key, q->key, sizeof a->key);
	memcpy(a->txid, stun_txid(&q->m), sizeof a->txid);
	a->granted_s = w->lifetime_s;
	q->alloc = a;
	return 0;
}

static void allocate(struct req *q)
{
	struct wanted w;
	unsigned code;

	if (q->alloc && memcmp(q->alloc->txid, stun_txid(&q->m), STUN_TXID_LEN) == 0) {
		answer_allocate(q);
		return;
	}
	code = q->alloc ? 437 : read_wanted(q, &w);
	if (code == 0)
		code = make_allocation(q, &w);
	if (code)
		error(q, code);
	else
		answer_allocate(q);
}

static struct turn_relay *relay_of(struct turn_alloc *a, uint8_t family)
{
	for (int i = 0; i < 2; i++)
		if (a->relay[i].family == family)
			return &a->relay[i];
	return NULL;
}

static void answer_lifetime(struct req *q, uint32_t s)
{
	begin(q, STUN_SUCCESS);
	stun_put_u32(&q->e, TURN_A_LIFETIME, s);
	finish(q);
}

/* Lifetime 0: give up one family of two, or everything. */
static void give_back(struct req *q, uint8_t family)
{
	if (family && q->alloc->relay[0].family && q->alloc->relay[1].family) {
		turn_relay_close(q->s, relay_of(q->alloc, family));
	} else {
		gone_put(q);
		turn_alloc_free(q->s, q->alloc);
		q->alloc = NULL;
	}
	answer_lifetime(q, 0);
}

static void refresh(struct req *q)
{
	uint8_t family;
	uint32_t s;
	unsigned code = get_family(&q->m, TURN_A_REQUESTED_ADDRESS_FAMILY, &family);

	if (code) {
		error(q, code);
	} else if (!q->alloc) {
		if (gone_find(q))
			answer_lifetime(q, 0);
		else
			error(q, 437);
	} else if (family && !relay_of(q->alloc, family)) {
		error(q, 443);
	} else if (stun_get_u32(&q->m, TURN_A_LIFETIME, &s) == 0 && s == 0) {
		give_back(q, family);
	} else {
		s = get_lifetime(q);
		turn_alloc_set_expiry(q->s, q->alloc, nb_time_add(q->now, s * NB_SEC));
		answer_lifetime(q, s);
	}
}

/* ---- Permissions and channels ---- */

/* Check one peer address of a request; 0 or the error code. port 0: any. */
static unsigned check_peer(struct req *q, struct nb_bytes value, bool with_port, struct nb_endpoint *peer)
{
	bool own;

	if (stun_xor_addr_value(&q->m, value, peer))
		return 400;
	if (!relay_of(q->alloc, peer->addr.family))
		return 443;
	if (!turn_peer_allowed(q->s, &peer->addr, &own) ||
	    (own && with_port && !turn_port_in_range(q->s, peer->port))) {
		q->s->stats.refused_peers++;
		return 403;
	}
	return 0;
}

/* All peers are checked before any permission is installed (RFC 8656, 10.2). */
static unsigned check_peers(struct req *q)
{
	struct nb_endpoint peer;
	unsigned n = 0, code;

	for (unsigned i = 0; i < q->m.ntrusted; i++) {
		if (q->m.attrs[i].type != TURN_A_XOR_PEER_ADDRESS)
			continue;
		code = check_peer(q, stun_value(&q->m, i), false, &peer);
		if (code)
			return code;
		n++;
	}
	return n ? 0 : 400;
}

static unsigned put_peers(struct req *q)
{
	struct nb_endpoint peer;

	for (unsigned i = 0; i < q->m.ntrusted; i++)
		if (q->m.attrs[i].type == TURN_A_XOR_PEER_ADDRESS &&
		    stun_xor_addr_value(&q->m, stun_value(&q->m, i), &peer) == 0 &&
		    turn_perm_put(q->s, q->alloc, &peer.addr, q->now))
			return 508;
	return 0;
}

static void answer_empty(struct req *q, unsigned code)
{
	if (code) {
		error(q, code);
		return;
	}
	begin(q, STUN_SUCCESS);
	finish(q);
}

static void create_permission(struct req *q)
{
	unsigned code = q->alloc ? check_peers(q) : 437;

	answer_empty(q, code ? code : put_peers(q));
}

static unsigned bind_channel(struct req *q)
{
	struct nb_endpoint peer;
	struct nb_bytes v;
	uint32_t number;
	unsigned code;
	int r;

	if (stun_get_u32(&q->m, TURN_A_CHANNEL_NUMBER, &number) ||
	    stun_find(&q->m, TURN_A_XOR_PEER_ADDRESS, &v))
		return 400;
	number >>= 16;
	if (number < TURN_CHANNEL_MIN || number > TURN_CHANNEL_MAX)
		return 400;
	code = check_peer(q, v, true, &peer);
	if (code)
		return code;
	r = turn_chan_put(q->s, q->alloc, (uint16_t)number, &peer, q->now);
	if (r == 0)
		r = turn_perm_put(q->s, q->alloc, &peer.addr, q->now);
	return r == 0 ? 0 : r == NB_E_BAD ? 400 : 508;
}

static void channel_bind(struct req *q)
{
	answer_empty(q, q->alloc ? bind_channel(q) : 437);
}

/* ---- Data ---- */

/* May n more bytes pass? What is over a limit is dropped, as a narrow line would. */
static bool within_rates(struct turn_server *s, struct nb_bucket *user, size_t n, bool counted, struct nb_time now)
{
	const struct turn_server_config *c = &s->cfg;

	if (!nb_bucket_take(user, &c->user_rate, n, now)) {
		s->stats.over_user_rate++;
		return false;
	}
	if (counted || nb_bucket_take(c->total, &c->total_rate, n, now))
		return true;
	nb_bucket_give(user, &c->user_rate, n);
	s->stats.over_total_rate++;
	return false;
}

static void peer_input(struct turn_server *s, struct turn_relay *r, const struct nb_endpoint *peer,
		       struct nb_bytes data, bool counted, struct nb_time now);

static void relay_out(struct turn_server *s, struct turn_alloc *a, const struct nb_endpoint *peer,
		      struct nb_bytes data, struct nb_time now)
{
	const struct turn_perm *p = turn_perm_find(s, a, &peer->addr);
	struct turn_relay *r = relay_of(a, peer->addr.family), *other;
	struct nb_endpoint from;

	if (!p || !r || nb_time_due(p->expires, now)) {
		s->stats.no_permission++;
		return;
	}
	if (!within_rates(s, &a->quota->up, data.n, false, now))
		return;
	s->stats.to_peers++;
	s->stats.to_peers_bytes += data.n;
	if (!p->own) {
		s->ops->relay(s->ctx, r, peer, data);
		return;
	}
	/* One of our own relayed addresses: handed over here, so that no packet of a client reaches this
	 * machine's own addresses, and a NAT in front of us need not send it back. */
	other = turn_relay_at(s, peer->addr.family, peer->port);
	from = relayed(s, r);
	if (other)
		peer_input(s, other, &from, data, true, now);
}

static void send_indication(struct req *q)
{
	struct nb_endpoint peer;
	struct nb_bytes data;
	uint16_t types[8];

	if (!q->alloc || stun_get_xor_addr(&q->m, TURN_A_XOR_PEER_ADDRESS, &peer) ||
	    stun_find(&q->m, TURN_A_DATA, &data) || unknown(&q->m, types)) {
		q->s->stats.malformed++;
		return;
	}
	relay_out(q->s, q->alloc, &peer, data, q->now);
}

static void channel_data(struct turn_server *s, const struct turn_flow *flow, struct nb_bytes in,
			 struct nb_time now)
{
	struct turn_alloc *a = turn_alloc_recent(s, flow);
	const struct turn_chan *c;
	struct nb_bytes data;
	uint16_t number;

	if (!a || turn_channel_decode(in, &number, &data)) {
		s->stats.malformed++;
		return;
	}
	c = turn_chan_by_number(s, a, number);
	if (!c || nb_time_due(c->expires, now)) {
		s->stats.no_permission++;
		return;
	}
	relay_out(s, a, &c->peer, data, now);
}

/* Randomness is a system call, so it is fetched for many. */
static const uint8_t *next_txid(struct turn_server *s)
{
	const unsigned n = sizeof s->txids / sizeof *s->txids;

	if (s->ntxids == n)
		s->ntxids = 0;
	if (s->ntxids == 0)
		s->cfg.random(s->cfg.random_ctx, s->txids, sizeof s->txids);
	return s->txids[s->ntxids++];
}

static void data_indication(struct turn_server *s, const struct turn_flow *flow, const struct nb_endpoint *peer,
			    struct nb_bytes data)
{
	static const uint8_t zero[4];
	uint8_t mem[TURN_HEAD_MAX];
	size_t pad = -data.n & 3;
	struct nb_buf b;
	struct stun_enc e;

	nb_buf_fixed(&b, mem, sizeof mem);
	e = stun_begin(&b, STUN_INDICATION, TURN_DATA, next_txid(s));
	stun_put_xor_addr(&e, TURN_A_XOR_PEER_ADDRESS, peer);
	nb_buf_be16(&b, TURN_A_DATA);
	nb_buf_be16(&b, (uint16_t)data.n);
	nb_put_be16(mem + 2, (uint16_t)(b.n - STUN_HEADER_LEN + data.n + pad));
	s->ops->reply(s->ctx, flow, nb_buf_view(&b), data, nb_bytes(zero, pad));
}

/* counted: the total limit has seen it already. */
static void peer_input(struct turn_server *s, struct turn_relay *r, const struct nb_endpoint *peer,
		       struct nb_bytes data, bool counted, struct nb_time now)
{
	struct turn_alloc *a = r->alloc;
	const struct turn_perm *p = turn_perm_find(s, a, &peer->addr);
	const struct turn_chan *c;
	uint8_t head[TURN_CHANNEL_HEADER];
	static const uint8_t zero[4];

	if (!p || nb_time_due(p->expires, now) || data.n > UINT16_MAX - TURN_HEAD_MAX - 4) {
		s->stats.no_permission++;
		return;
	}
	if (!within_rates(s, &a->quota->down, data.n, counted, now))
		return;
	s->stats.to_clients++;
	s->stats.to_clients_bytes += data.n;
	c = turn_chan_by_peer(s, a, peer);
	if (!c || nb_time_due(c->expires, now)) {
		data_indication(s, &a->flow, peer, data);
		return;
	}
	turn_channel_header(head, c->number, (uint16_t)data.n);
	s->ops->reply(s->ctx, &a->flow, nb_bytes(head, sizeof head), data,
		      nb_bytes(zero, a->flow.conn ? -data.n & 3 : 0));
}

void turn_server_peer_input(struct turn_server *s, struct turn_relay *r, const struct nb_endpoint *peer,
			    struct nb_bytes data, struct nb_time now)
{
	peer_input(s, r, peer, data, false, now);
}

/* ---- Entrance ---- */

static bool turn_is_on(const struct turn_server *s)
{
	return s->secret || s->cfg.nusers;
}

static void request(struct req *q)
{
	static const struct {
		uint16_t method;
		void (*run)(struct req *);
	} methods[] = {
		{ TURN_ALLOCATE, allocate },
		{ TURN_REFRESH, refresh },
		{ TURN_CREATE_PERMISSION, create_permission },
		{ TURN_CHANNEL_BIND, channel_bind },
	};

	if (q->m.method == STUN_BINDING) {
		binding(q);
		return;
	}
	/* Without credentials for anybody this is a STUN server, which stays silent as stock's does. */
	for (size_t i = 0; turn_is_on(q->s) && i < sizeof methods / sizeof *methods; i++) {
		if (methods[i].method != q->m.method)
			continue;
		if (authenticate(q) && !refuse_unknown(q))
			methods[i].run(q);
		return;
	}
	q->s->stats.malformed++;
}

static void expire_allocations(struct turn_server *s, struct nb_time now)
{
	while (s->nheap && nb_time_due(s->heap[0]->expires, now))
		turn_alloc_free(s, s->heap[0]);
}

void turn_server_input(struct turn_server *s, const struct turn_flow *flow, struct nb_bytes in,
		       struct nb_time now, struct nb_wall wall)
{
	struct req q;

	expire_allocations(s, now);
	if (turn_channel_is(in)) {
		channel_data(s, flow, in, now);
		return;
	}
	if (stun_decode(&q.m, in)) {
		s->stats.malformed++;
		return;
	}
	q.s = s;
	q.flow = flow;
	q.now = now;
	q.wall = wall;
	q.user = nb_bytes(NULL, 0);
	q.keyed = q.rationed = false;
	q.alloc = q.m.method == STUN_BINDING ? NULL : turn_alloc_recent(s, flow);
	if (q.m.cls == STUN_REQUEST && stun_check_fingerprint(&q.m) == NB_E_AUTH)
		s->stats.malformed++;
	else if (q.m.cls == STUN_REQUEST)
		request(&q);
	else if (q.m.cls == STUN_INDICATION && q.m.method == TURN_SEND)
		send_indication(&q);
	/* Binding indications keep NAT mappings alive and want no answer; responses are not for servers. */
	nb_wipe(q.key, sizeof q.key);
}

void turn_server_gone(struct turn_server *s, const struct turn_flow *flow)
{
	struct turn_alloc *a = turn_alloc_find(s, flow);

	if (a)
		turn_alloc_free(s, a);
}

bool turn_server_has(const struct turn_server *s, const struct turn_flow *flow)
{
	return turn_alloc_find(s, flow) != NULL;
}

void turn_server_tick(struct turn_server *s, struct nb_time now)
{
	expire_allocations(s, now);
	turn_reserve_expire(s, now);
}

struct nb_time turn_server_deadline(const struct turn_server *s)
{
	struct nb_time t = s->nheap ? s->heap[0]->expires : NB_TIME_NEVER;

	for (unsigned i = 0; i < TURN_RESERVES_MAX; i++)
		if (s->reserves[i].family)
			t = nb_time_min(t, s->reserves[i].expires);
	return t;
}

void turn_server_stats(const struct turn_server *s, struct turn_server_stats *out)
{
	*out = s->stats;
}
