/* peer.c - the life of a peer: registration, login, meta, expiry, removal; names and addresses on the way.
 * management-protocol.md sections 5, 6.2; management-domain.md sections 1.4, 4.
 * Tests: tests/unit/mgmt_peer_test.c */
#include "mgmt/mgmt_int.h"

#include "base/log.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#define META_MAX (64 * 1024)	/* packed bytes of a peer's description */
#define HOSTNAME_MAX 256
#define INVALID_KEY "couldn't add peer: setup key is invalid"

/* ---- small facts */

struct mgmt_peer *mgmt_peer_get(const struct mgmt_account *a, const char *id)
{
	return (struct mgmt_peer *)mgmt_table_get(&a->t[T_PEER], id);
}

struct mgmt_peer *mgmt_peer_by_key(const struct mgmt *m, const uint8_t key[NB_KEY_LEN])
{
	return nb_map_get(&m->peer_by_key, nb_bytes(key, NB_KEY_LEN));
}

void mgmt_peer_fqdn(const struct mgmt_peer *p, char *out, size_t cap)
{
	snprintf(out, cap, "%s.%s", mgmt_str(p->rec->dns_label), mgmt_dns_domain(p->account));
}

bool mgmt_meta_has(const Management__PeerSystemMeta *meta, int capability)
{
	for (size_t i = 0; meta && i < meta->n_capabilities; i++)
		if ((int)meta->capabilities[i] == capability)
			return true;
	return false;
}

static bool meta_v6(const Management__PeerSystemMeta *meta)
{
	return mgmt_meta_has(meta, MANAGEMENT__PEER_CAPABILITY__PeerCapabilityIPv6Overlay) &&
	       !(meta->flags && meta->flags->disableipv6);
}

bool mgmt_peer_has_v6(const struct mgmt_peer *p)
{
	return p->rec->ipv6.len == 16 && meta_v6(p->rec->meta);
}

bool mgmt_version_at_least(const char *version, int major, int minor, int patch)
{
	int v[3] = { 0 }, want[3] = { major, minor, patch }, n = 0;
	const char *s = mgmt_str(version);

	if (strcmp(s, "development") == 0 || strncmp(s, "dev-", 4) == 0 || strncmp(s, "ci-", 3) == 0)
		return true;
	s += *s == 'v';
	while (n < 3 && isdigit((unsigned char)*s)) {
		while (isdigit((unsigned char)*s) && v[n] < 1000000)
			v[n] = v[n] * 10 + (*s++ - '0');
		n++;
		if (*s != '.')
			break;
		s++;
	}
	if (n == 0)
		return false;
	for (int i = 0; i < 3; i++)
		if (v[i] != want[i])
			return v[i] > want[i];
	return true;
}

/* ---- labels */

/* One code point of UTF-8; 0 at the end or where it is malformed. */
static uint32_t next_rune(const char **s)
{
	const unsigned char *p = (const unsigned char *)*s;
	int more = *p >= 0xf0 ? 3 : *p >= 0xe0 ? 2 : *p >= 0xc0 ? 1 : 0;
	uint32_t c = more ? *p & (0x3fu >> more) : *p;

	if (*p >= 0x80 && (more == 0 || *p > 0xf4))
		return 0;
	for (int i = 1; i <= more; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	*s += more + 1;
	return c;
}

static int puny_adapt(int delta, int points, bool first)
{
	int k = 0;

	delta = first ? delta / 700 : delta / 2;
	for (delta += delta / points; delta > 455; k += 36)
		delta /= 35;
	return k + 36 * delta / (delta + 38);
}

/* Punycode (RFC 3492) of n code points into out; NB_E_FULL when it does not fit. */
static int punycode(char *out, size_t cap, const uint32_t *in, int n)
{
	uint32_t next = 128;
	int delta = 0, bias = 72, done = 0;
	size_t len = 0;

	for (int i = 0; i < n; i++)
		if (in[i] < 128 && len + 1 < cap)
			out[len++] = (char)in[i], done++;
	int basic = done;

	if (basic && len + 1 < cap)
		out[len++] = '-';
	while (done < n) {
		uint32_t low = UINT32_MAX;

		for (int i = 0; i < n; i++)
			if (in[i] >= next && in[i] < low)
				low = in[i];
		delta += (int)(low - next) * (done + 1);
		next = low;
		for (int i = 0; i < n; i++) {
			delta += in[i] < next;
			if (in[i] != next)
				continue;
			int q = delta;

			for (int k = 36;; k += 36) {
				int t = k <= bias ? 1 : k >= bias + 26 ? 26 : k - bias, d = q < t ? q : t + (q - t) % (36 - t);

				if (len + 1 >= cap)
					return NB_E_FULL;
				out[len++] = (char)(d < 26 ? 'a' + d : '0' + d - 26);
				if (q < t)
					break;
				q = (q - t) / (36 - t);
			}
			bias = puny_adapt(delta, done + 1, done == basic);
			delta = 0;
			done++;
		}
		delta++;
		next++;
	}
	out[len] = '\0';
	return 0;
}

/* The first label in ASCII; text that is no UTF-8 stays as it is, for the clean-up below. */
static void to_ascii(char *out, size_t cap, const char *label)
{
	uint32_t runes[64];
	int n = 0;
	bool ascii = true;

	for (const char *s = label; *s && n < 64;) {
		uint32_t c = next_rune(&s);

		if (c == 0) {
			ascii = true;
			break;
		}
		ascii &= c < 128;
		runes[n++] = c < 128 ? (uint32_t)tolower((int)c) : c;
	}
	if (ascii || cap < 5 || punycode(out + 4, cap - 4, runes, n)) {
		snprintf(out, cap, "%s", label);
		return;
	}
	memcpy(out, "xn--", 4);
}

void mgmt_label(char out[MGMT_LABEL_MAX + 1], const char *hostname)
{
	char first[HOSTNAME_MAX], ascii[HOSTNAME_MAX + 8];
	size_t n = strcspn(hostname, "."), k = 0;
	bool gap = false;

	snprintf(first, sizeof(first), "%.*s", (int)(n < sizeof(first) ? n : sizeof(first) - 1), hostname);
	to_ascii(ascii, sizeof(ascii), first);
	for (const char *s = ascii; *s && k < MGMT_LABEL_MAX; s++) {
		bool ok = isalnum((unsigned char)*s) || *s == '-';

		if (ok)
			out[k++] = (char)tolower((unsigned char)*s);
		else if (!gap)
			out[k++] = '-';
		gap = !ok;
	}
	out[k] = '\0';
}

static bool label_free(const struct mgmt_account *a, const char *label, const struct mgmt_peer *but)
{
	const struct mgmt_peer *p = nb_map_get(&a->by_label, nb_bytes_str(label));

	return !p || p == but;
}

static void suffixed(char out[80], const char *label, const uint8_t ip[4])
{
	snprintf(out, 80, "%s-%u-%u", label, ip[2], ip[3]);
}

/* An address and a label nobody has. */
static int draw_place(struct mgmt_account *a, const char *hostname, bool ephemeral, uint8_t ip[4], char name[80])
{
	char label[MGMT_LABEL_MAX + 1];

	mgmt_label(label, hostname);
	if (!*label)
		return NB_E_BAD;
	for (int i = 0; i < MGMT_INSERT_TRIES; i++) {
		int rc = mgmt_draw_ip(a, ip);

		if (rc)
			return rc;
		if (i == 0 && !ephemeral)
			snprintf(name, 80, "%s", label);
		else
			suffixed(name, label, ip);
		if (label_free(a, name, NULL))
			return 0;
	}
	return NB_E_FULL;
}

/* ---- registration */

static bool meta_acceptable(const Management__PeerSystemMeta *meta)
{
	return protobuf_c_message_get_packed_size(&meta->base) <= META_MAX;
}

static int check_labels(const struct mgmt_login *l, bool allowed, const char *what, struct mgmt_error *e)
{
	if (l->n_labels == 0)
		return 0;
	if (!allowed)
		return mgmt_fail(e, MGMT_PRECONDITION, "couldn't %s peer: setup key doesn't allow extra DNS labels", what);
	if (l->n_labels > MGMT_LABELS_MAX)
		return mgmt_fail(e, MGMT_INVALID, "couldn't %s peer: too many DNS labels", what);
	for (size_t i = 0; i < l->n_labels; i++) {
		size_t n = strlen(l->labels[i]);

		if (n == 0 || n > 63 || strspn(l->labels[i], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
							     "0123456789-_") != n)
			return mgmt_fail(e, MGMT_INVALID, "couldn't %s peer: invalid DNS label", what);
	}
	return 0;
}

static void use_key(struct mgmt_txn *t, struct mgmt_key *k)
{
	mgmt_key_rec rec = *k->rec;

	rec.has_used_times = rec.has_last_used = true;
	rec.used_times++;
	rec.last_used = t->m->wall.ns;
	mgmt_put(t, T_KEY, (struct mgmt_item *)k, &rec.base);
}

/* Who brings the peer: a setup key or a user. */
struct sponsor {
	struct mgmt_account *account;
	struct mgmt_key *key;
	const struct mgmt_user *user;
	char *const *groups;
	size_t n_groups;
};

static int find_sponsor(struct mgmt *m, const struct mgmt_login *l, struct sponsor *s, struct mgmt_error *e)
{
	struct mgmt_actor who;
	int rc;

	memset(s, 0, sizeof(*s));
	if (l->claims) {
		rc = mgmt_actor_by_claims(m, l->claims, &who, e);
		if (rc)
			return rc;
		if (who.user->rec->pending_approval)
			return mgmt_fail(e, MGMT_DENIED, "user pending approval cannot add peers");
		if (who.user->rec->blocked)
			return mgmt_fail(e, MGMT_DENIED, "user is blocked");
		s->account = who.account;
		s->user = who.user;
		s->groups = who.user->rec->auto_groups;
		s->n_groups = who.user->rec->n_auto_groups;
		return 0;
	}
	s->key = mgmt_key_find(m, l->setup_key);
	if (!s->key || mgmt_key_state(s->key->rec, m->wall) != MGMT_KEY_VALID)
		return mgmt_fail(e, MGMT_NOT_FOUND, INVALID_KEY);
	s->account = s->key->account;
	s->groups = s->key->rec->auto_groups;
	s->n_groups = s->key->rec->n_auto_groups;
	return 0;
}

/* The groups of the list that exist; the result is the caller's (the strings are borrowed). */
static char **known_groups(const struct mgmt_account *a, char *const *list, size_t *n)
{
	char **out = calloc(*n + 1, sizeof(*out));
	size_t k = 0;

	for (size_t i = 0; out && i < *n; i++) {
		const struct mgmt_group *g = mgmt_group_get(a, list[i]);

		if (g && !g->rec->all && !mgmt_has(out, k, list[i]))
			out[k++] = list[i];
	}
	*n = k;
	return out;
}

static void new_record(struct mgmt *m, const struct mgmt_login *l, const struct sponsor *s, mgmt_peer_rec *r)
{
	*r = (mgmt_peer_rec)NESTBOX__PEER_RECORD__INIT;
	r->has_key = true;
	r->key = (ProtobufCBinaryData){ NB_KEY_LEN, (uint8_t *)l->key };
	r->meta = (Management__PeerSystemMeta *)l->meta;
	r->name = l->meta->hostname;
	r->has_created = r->has_last_login = r->has_last_seen = true;
	r->created = r->last_login = r->last_seen = m->wall.ns;
	r->has_ssh_key = l->ssh_key.n > 0;
	r->ssh_key = (ProtobufCBinaryData){ l->ssh_key.n, (uint8_t *)l->ssh_key.p };
	r->connection_ip = (char *)mgmt_str(l->from);
	r->extra_dns_labels = (char **)l->labels;
	r->n_extra_dns_labels = l->n_labels;
	if (s->key) {
		r->has_ephemeral = r->has_allow_extra_dns_labels = true;
		r->ephemeral = s->key->rec->ephemeral;
		r->allow_extra_dns_labels = s->key->rec->allow_extra_dns_labels;
	} else {
		r->user_id = s->user->rec->id;
		r->has_login_expiration = r->login_expiration = true;
		r->has_inactivity_expiration = r->inactivity_expiration = true;
	}
}

static int insert(struct mgmt *m, const struct mgmt_login *l, struct sponsor *s, struct mgmt_peer **out,
		  struct mgmt_error *e)
{
	mgmt_peer_rec r;
	char id[NBC_XID_TEXT], name[80], **groups;
	uint8_t ip[4], ip6[16];
	struct mgmt_peer *p;
	struct mgmt_txn *t;
	size_t n = s->n_groups;
	int rc;

	new_record(m, l, s, &r);
	if (draw_place(s->account, r.name, r.ephemeral, ip, name))
		return mgmt_fail(e, MGMT_INTERNAL, "no free address or label for %s", r.name);
	groups = known_groups(s->account, s->groups, &n);
	if (!groups || mgmt_begin(&t, m, s->account)) {
		free(groups);
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	}
	mgmt_new_id(m, id);
	r.id = id;
	r.dns_label = name;
	r.has_ip = true;
	r.ip = (ProtobufCBinaryData){ sizeof(ip), ip };
	r.groups = groups;
	r.n_groups = n;
	if (mgmt_wants_v6(s->account, groups, n) && mgmt_draw_ip6(s->account, ip6) == 0) {
		r.has_ipv6 = true;
		r.ipv6 = (ProtobufCBinaryData){ sizeof(ip6), ip6 };
	}
	p = (struct mgmt_peer *)mgmt_put(t, T_PEER, NULL, &r.base);
	free(groups);
	if (p) {
		p->last_seen = m->wall.ns;
		if (p->rec->ephemeral)
			p->state->ephemeral_due = nb_time_add(m->now, MGMT_EPHEMERAL_NS);
		if (s->key)
			mgmt_event_peer(t, 1, s->key->rec->id, NULL, p,
					(const struct mgmt_pair[]){ { "setup_key_name", s->key->rec->name } }, 1);
		else
			mgmt_event_peer(t, 0, s->user->rec->id, NULL, p, NULL, 0);
		mgmt_affect_peer(t, p);
	}
	if (s->key)
		use_key(t, s->key);
	mgmt_bump(t);
	rc = mgmt_commit(t, e);
	*out = rc ? NULL : p;
	return rc;
}

static int add_peer(struct mgmt *m, const struct mgmt_login *l, struct mgmt_peer **out, struct mgmt_error *e)
{
	struct sponsor s;
	int rc = find_sponsor(m, l, &s, e);

	if (rc == 0)
		rc = check_labels(l, s.key ? s.key->rec->allow_extra_dns_labels : true, "add", e);
	if (rc)
		return rc;
	if (!*mgmt_str(l->meta->hostname) || !meta_acceptable(l->meta))
		return mgmt_fail(e, MGMT_INTERNAL, "peer description is empty or too large");
	return insert(m, l, &s, out, e);
}

/* ---- login of a known peer */

int64_t mgmt_peer_session_end(const struct mgmt_peer *p)
{
	const mgmt_settings_rec *s = p->account->rec->settings;

	if (!*mgmt_str(p->rec->user_id) || !p->rec->login_expiration || !s->login_expiration_enabled)
		return 0;
	return p->rec->last_login + s->login_expiration;
}

bool mgmt_peer_login_due(const struct mgmt_peer *p)
{
	int64_t end = mgmt_peer_session_end(p);

	return end && end <= p->account->m->wall.ns;
}

bool mgmt_peer_expired(const struct mgmt_peer *p)
{
	return p->rec->login_expired || mgmt_peer_login_due(p);
}

static int owner_allowed(const struct mgmt_peer *p, struct mgmt_error *e)
{
	const struct mgmt_user *u = *mgmt_str(p->rec->user_id) ? mgmt_user_get(p->account, p->rec->user_id) : NULL;

	if (u && u->rec->blocked)
		return mgmt_fail(e, MGMT_DENIED, "user is blocked");
	return 0;
}

static bool sso_expired(const struct mgmt_peer *p)
{
	return *mgmt_str(p->rec->user_id) && mgmt_peer_expired(p);
}

static int login_again(struct mgmt_peer *p, const struct mgmt_login *l, struct mgmt_error *e)
{
	mgmt_peer_rec rec = *p->rec;
	struct mgmt *m = p->account->m;
	bool renew = l->claims && sso_expired(p);
	struct mgmt_txn *t;
	int rc;

	if (l->claims && strcmp(mgmt_str(rec.user_id), l->claims->user_id) != 0)
		return mgmt_fail(e, MGMT_DENIED, "peer is already registered by a different User or a Setup Key");
	rc = owner_allowed(p, e);
	if (rc == 0 && !l->claims && sso_expired(p))
		rc = mgmt_fail(e, MGMT_DENIED, "peer login has expired, please log in once more");
	if (rc == 0)
		rc = check_labels(l, rec.allow_extra_dns_labels || l->claims, "login", e);
	if (rc)
		return rc;
	if (!renew && (l->ssh_key.n == 0 || nb_bytes_eq(l->ssh_key, nb_bytes(rec.ssh_key.data, rec.ssh_key.len))))
		return 0;
	if (mgmt_begin(&t, m, p->account))
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	if (l->ssh_key.n) {
		rec.has_ssh_key = true;
		rec.ssh_key = (ProtobufCBinaryData){ l->ssh_key.n, (uint8_t *)l->ssh_key.p };
	}
	if (renew) {
		rec.has_last_login = true;
		rec.last_login = m->wall.ns;
		rec.has_login_expired = rec.login_expired = false;
		mgmt_event_peer(t, 49, rec.user_id, NULL, p, NULL, 0);
	}
	mgmt_put(t, T_PEER, (struct mgmt_item *)p, &rec.base);
	mgmt_affect_peer(t, p);
	rc = mgmt_commit(t, e);
	mgmt_expiry_plan(p->account);
	return rc;
}

int mgmt_peer_login(struct mgmt *m, const struct mgmt_login *l, struct mgmt_peer **out, struct mgmt_error *e)
{
	struct mgmt_peer *p = mgmt_peer_by_key(m, l->key);

	if (p) {
		*out = p;
		return login_again(p, l, e);
	}
	if (!l->claims && !*mgmt_str(l->setup_key))
		return mgmt_fail(e, MGMT_DENIED,
				 "no peer auth method provided, please use a setup key or interactive SSO login");
	return add_peer(m, l, out, e);
}

int mgmt_peer_sync_check(struct mgmt_peer *p, struct mgmt_error *e)
{
	int rc = owner_allowed(p, e);

	if (rc == 0 && sso_expired(p))
		rc = mgmt_fail(e, MGMT_DENIED, "peer login has expired, please log in once more");
	return rc;
}

int mgmt_peer_extend(struct mgmt_peer *p, const struct mgmt_claims *c, struct mgmt_error *e)
{
	mgmt_peer_rec rec = *p->rec;
	struct mgmt_txn *t;
	int rc;

	if (!p->account->rec->settings->login_expiration_enabled)
		return mgmt_fail(e, MGMT_PRECONDITION, "peer login expiration is disabled for the account");
	if (!*mgmt_str(rec.user_id) || !rec.login_expiration)
		return mgmt_fail(e, MGMT_PRECONDITION, "peer is not eligible for session extension");
	if (strcmp(rec.user_id, c->user_id) != 0)
		return mgmt_fail(e, MGMT_DENIED, "peer is already registered by a different User or a Setup Key");
	if (mgmt_begin(&t, p->account->m, p->account))
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	rec.has_last_login = true;
	rec.last_login = p->account->m->wall.ns;
	rec.has_login_expired = rec.login_expired = false;
	mgmt_put(t, T_PEER, (struct mgmt_item *)p, &rec.base);
	mgmt_event_peer(t, 125, rec.user_id, NULL, p, NULL, 0);
	rc = mgmt_commit(t, e);
	mgmt_expiry_plan(p->account);
	return rc;
}

/* ---- meta */

static bool meta_empty(const Management__PeerSystemMeta *meta)
{
	return !meta || protobuf_c_message_get_packed_size(&meta->base) == 0;
}

static bool meta_same(const Management__PeerSystemMeta *a, const Management__PeerSystemMeta *b)
{
	size_t n = a ? protobuf_c_message_get_packed_size(&a->base) : 0;
	uint8_t *mem;
	bool same;

	if (!a || n != protobuf_c_message_get_packed_size(&b->base))
		return false;
	mem = malloc(2 * n + 1);
	if (!mem)
		return false;
	protobuf_c_message_pack(&a->base, mem);
	protobuf_c_message_pack(&b->base, mem + n);
	same = memcmp(mem, mem + n, n) == 0;
	free(mem);
	return same;
}

/* Do other peers see the difference? */
static bool meta_matters(const Management__PeerSystemMeta *a, const Management__PeerSystemMeta *b)
{
	return !a || strcmp(mgmt_str(a->netbirdversion), mgmt_str(b->netbirdversion)) != 0 ||
	       strcmp(mgmt_str(a->hostname), mgmt_str(b->hostname)) != 0 || meta_v6(a) != meta_v6(b);
}

int mgmt_peer_meta(struct mgmt_peer *p, const Management__PeerSystemMeta *meta, bool push, struct mgmt_error *e)
{
	const Management__PeerSystemMeta *old = p->rec->meta;
	Management__PeerSystemMeta fresh;
	mgmt_peer_rec rec = *p->rec;
	struct mgmt_txn *t;

	if (meta_empty(meta))
		return 0;
	fresh = *meta;
	if (!*mgmt_str(fresh.uiversion) && old)
		fresh.uiversion = old->uiversion;
	if (!*mgmt_str(fresh.osversion))
		fresh.osversion = fresh.core;
	if (!push && meta_same(old, &fresh))
		return 0;
	if (!meta_acceptable(&fresh))
		return mgmt_fail(e, MGMT_INTERNAL, "peer description is too large");
	push |= meta_matters(old, &fresh);
	if (mgmt_begin(&t, p->account->m, p->account))
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	rec.meta = &fresh;
	mgmt_put(t, T_PEER, (struct mgmt_item *)p, &rec.base);
	if (push)
		mgmt_affect_peer(t, p);
	return mgmt_commit(t, e);
}

/* ---- presence */

void mgmt_peer_connected(struct mgmt_peer *p, int64_t session)
{
	if (p->state->session >= session)
		return;
	p->state->session = session;
	p->connected = true;
	p->last_seen = p->account->m->wall.ns;
	p->state->seen_dirty = true;
	p->state->ephemeral_due = NB_TIME_NEVER;
	if (*mgmt_str(p->rec->user_id))
		mgmt_expiry_plan(p->account);
}

void mgmt_peer_disconnected(struct mgmt_peer *p, int64_t session)
{
	if (p->state->session != session)
		return;
	p->state->session = 0;
	p->connected = false;
	p->last_seen = p->account->m->wall.ns;
	p->state->seen_dirty = true;
	if (p->rec->ephemeral)
		p->state->ephemeral_due = nb_time_add(p->account->m->now, MGMT_EPHEMERAL_NS);
	if (*mgmt_str(p->rec->user_id))
		mgmt_expiry_plan(p->account);
}

void mgmt_peer_flush(struct mgmt *m)
{
	for (size_t i = 0; i < m->accounts.n; i++) {
		struct mgmt_account *a = (struct mgmt_account *)m->accounts.v[i];
		struct mgmt_txn *t = NULL;

		for (size_t k = 0; k < a->t[T_PEER].n; k++) {
			struct mgmt_peer *p = (struct mgmt_peer *)a->t[T_PEER].v[k];
			mgmt_peer_rec rec = *p->rec;

			if (!p->state->seen_dirty || (!t && mgmt_begin(&t, m, a)))
				continue;
			p->state->seen_dirty = false;
			rec.has_last_seen = true;
			rec.last_seen = p->last_seen;
			mgmt_put(t, T_PEER, (struct mgmt_item *)p, &rec.base);
		}
		for (size_t k = 0; k < a->t[T_TOKEN].n; k++) {
			struct mgmt_token *tok = (struct mgmt_token *)a->t[T_TOKEN].v[k];
			mgmt_token_rec rec = *tok->rec;

			if (rec.last_used == tok->last_used || (!t && mgmt_begin(&t, m, a)))
				continue;
			rec.has_last_used = true;
			rec.last_used = tok->last_used;
			mgmt_put(t, T_TOKEN, (struct mgmt_item *)tok, &rec.base);
		}
		if (t)
			mgmt_commit(t, NULL);
	}
}

/* ---- removal */

static bool names_peer(const mgmt_policy_rec *p, const char *id)
{
	for (size_t i = 0; i < p->n_rules; i++) {
		const mgmt_rule_rec *r = p->rules[i];

		if ((r->source_resource && strcmp(mgmt_str(r->source_resource->id), id) == 0) ||
		    (r->destination_resource && strcmp(mgmt_str(r->destination_resource->id), id) == 0))
			return true;
	}
	return false;
}

void mgmt_peer_remove(struct mgmt_txn *t, struct mgmt_peer *p, const char *initiator, bool quiet)
{
	struct mgmt_account *a = p->account;

	mgmt_affect_peer(t, p);
	for (size_t i = a->t[T_POLICY].n; i-- > 0;) {
		struct mgmt_policy *pol = (struct mgmt_policy *)a->t[T_POLICY].v[i];

		if (!names_peer(pol->rec, p->rec->id))
			continue;
		mgmt_affect_policy(t, pol->rec);
		mgmt_event(t, 11, initiator, p->rec->id, (const struct mgmt_pair[]){ { "name", pol->rec->name } }, 1);
		mgmt_drop(t, T_POLICY, (struct mgmt_item *)pol);
	}
	if (!quiet)
		mgmt_event_peer(t, 5, initiator, NULL, p, NULL, 0);
	mgmt_drop(t, T_PEER, (struct mgmt_item *)p);
}

static int remove_one(struct mgmt_peer *p, const char *initiator, struct mgmt_error *e)
{
	struct mgmt_txn *t;

	if (mgmt_begin(&t, p->account->m, p->account))
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	mgmt_peer_remove(t, p, initiator, false);
	mgmt_bump(t);
	return mgmt_commit(t, e);
}

int mgmt_peer_delete(const struct mgmt_actor *who, const char *id, struct mgmt_error *e)
{
	struct mgmt_peer *p;
	int rc = mgmt_permit(who, MGMT_MOD_PEERS, MGMT_OP_DELETE, e);

	if (rc)
		return rc;
	p = mgmt_peer_get(who->account, id);
	if (!p)
		return mgmt_fail(e, MGMT_NOT_FOUND, "peer not found: %s", id);
	return remove_one(p, mgmt_who(who), e);
}

int mgmt_peer_logout(struct mgmt_peer *p, struct mgmt_error *e)
{
	return remove_one(p, *mgmt_str(p->rec->user_id) ? p->rec->user_id : "sys", e);
}

/* Ephemeral peers that were away too long; the serial stays as it is. */
void mgmt_peer_sweep(struct mgmt *m)
{
	for (size_t i = 0; i < m->accounts.n; i++) {
		struct mgmt_account *a = (struct mgmt_account *)m->accounts.v[i];
		struct mgmt_txn *t = NULL;

		for (size_t k = a->t[T_PEER].n; k-- > 0;) {
			struct mgmt_peer *p = (struct mgmt_peer *)a->t[T_PEER].v[k];

			if (p->connected || !nb_time_due(p->state->ephemeral_due, m->now))
				continue;
			if (!t && mgmt_begin(&t, m, a))
				break;
			mgmt_peer_remove(t, p, "sys", false);
		}
		if (t) {
			mgmt_affect_all(t);
			mgmt_commit(t, NULL);
		}
	}
}

/* ---- changes by an administrator */

static int change_ip(struct mgmt_peer *p, const char *text, mgmt_peer_rec *rec, uint8_t ip[4], struct mgmt_error *e)
{
	struct nb_prefix net;
	struct nb_addr addr;
	struct mgmt_peer *other;

	if (nb_addr_parse(&addr, text) || addr.family != 4)
		return mgmt_fail(e, MGMT_INVALID, "invalid IP address %s", text);
	if (nb_prefix_parse(&net, mgmt_str(p->account->rec->net)) || !nb_prefix_contains(&net, &addr))
		return mgmt_fail(e, MGMT_INVALID, "IP address %s is not in the network range %s", text,
				 mgmt_str(p->account->rec->net));
	other = nb_map_get(&p->account->by_ip, nb_bytes(addr.ip, 4));
	if (other && other != p)
		return mgmt_fail(e, MGMT_INVALID, "IP address %s is already in use", text);
	memcpy(ip, addr.ip, 4);
	rec->has_ip = true;
	rec->ip = (ProtobufCBinaryData){ 4, ip };
	return 0;
}

static int change_ip6(struct mgmt_peer *p, const char *text, mgmt_peer_rec *rec, uint8_t ip[16], struct mgmt_error *e)
{
	struct nb_prefix net;
	struct nb_addr addr;
	struct mgmt_peer *other;

	if (!mgmt_wants_v6(p->account, rec->groups, rec->n_groups))
		return mgmt_fail(e, MGMT_PRECONDITION, "peer is not in a group with IPv6 enabled");
	if (nb_addr_parse(&addr, text) || addr.family != 6)
		return mgmt_fail(e, MGMT_INVALID, "invalid IPv6 address %s", text);
	if (nb_prefix_parse(&net, mgmt_str(p->account->rec->net_v6)) || !nb_prefix_contains(&net, &addr))
		return mgmt_fail(e, MGMT_INVALID, "IP address %s is not in the network range %s", text,
				 mgmt_str(p->account->rec->net_v6));
	other = nb_map_get(&p->account->by_ip6, nb_bytes(addr.ip, 16));
	if (other && other != p)
		return mgmt_fail(e, MGMT_INVALID, "IP address %s is already in use", text);
	memcpy(ip, addr.ip, 16);
	rec->has_ipv6 = true;
	rec->ipv6 = (ProtobufCBinaryData){ 16, ip };
	return 0;
}

static void ip_event(struct mgmt_txn *t, const char *who, const struct mgmt_peer *p, const mgmt_peer_rec *old)
{
	char was[NB_ADDR_TEXT], is[NB_ADDR_TEXT];
	struct nb_addr a = nb_addr4(nb_get_be32(old->ip.data)), b = nb_addr4(nb_get_be32(p->rec->ip.data));

	nb_addr_format(was, &a);
	nb_addr_format(is, &b);
	if (strcmp(was, is) != 0)
		mgmt_event_peer(t, 88, who, NULL, p,
				(const struct mgmt_pair[]){ { "old_ip", was }, { "ip", is } }, 2);
}

/* The label follows the name; a taken one gets the address as suffix. */
static int rename_peer(struct mgmt_peer *p, const char *name, mgmt_peer_rec *rec, char label[80], struct mgmt_error *e)
{
	char plain[MGMT_LABEL_MAX + 1];

	mgmt_label(plain, name);
	if (!*plain)
		return mgmt_fail(e, MGMT_INVALID, "peer name %s gives no DNS label", name);
	snprintf(label, 80, "%s", plain);
	if (!label_free(p->account, label, p))
		suffixed(label, plain, rec->ip.data);
	if (!label_free(p->account, label, p))
		return mgmt_fail(e, MGMT_INVALID, "DNS label %s is already in use", label);
	rec->name = (char *)name;
	rec->dns_label = label;
	return 0;
}

static void flag_event(struct mgmt_txn *t, const char *who, const struct mgmt_peer *p, bool was, bool is, uint32_t on,
		       uint32_t off)
{
	char ip[NB_ADDR_TEXT];
	struct nb_addr a = nb_addr4(nb_get_be32(p->rec->ip.data));

	nb_addr_format(ip, &a);
	if (was != is)
		mgmt_event_peer(t, is ? on : off, who, ip, p, NULL, 0);
}

int mgmt_peer_update(const struct mgmt_actor *who, const char *id, const struct mgmt_peer_change *c,
		     struct mgmt_error *e)
{
	struct mgmt_peer *p;
	mgmt_peer_rec rec, old;
	struct mgmt_txn *t;
	char label[80];
	uint8_t ip[4], ip6[16];
	int rc = mgmt_permit(who, MGMT_MOD_PEERS, MGMT_OP_UPDATE, e);

	if (rc)
		return rc;
	p = mgmt_peer_get(who->account, id);
	if (!p)
		return mgmt_fail(e, MGMT_NOT_FOUND, "peer not found: %s", id);
	old = rec = *p->rec;
	if (c->set_flags && !*mgmt_str(old.user_id) &&
	    (c->login_expiration != old.login_expiration || c->inactivity_expiration != old.inactivity_expiration))
		return mgmt_fail(e, MGMT_PRECONDITION,
				 "this peer hasn't been added with the SSO login, therefore the login expiration can't be updated");
	if (c->ip && *c->ip)
		rc = change_ip(p, c->ip, &rec, ip, e);
	if (rc == 0 && c->ipv6 && *c->ipv6)
		rc = change_ip6(p, c->ipv6, &rec, ip6, e);
	if (rc == 0 && c->name && strcmp(c->name, mgmt_str(old.name)) != 0)
		rc = rename_peer(p, c->name, &rec, label, e);
	if (rc)
		return rc;
	if (c->set_flags) {
		rec.has_ssh_enabled = rec.has_login_expiration = rec.has_inactivity_expiration = true;
		rec.ssh_enabled = c->ssh_enabled;
		rec.login_expiration = c->login_expiration;
		rec.inactivity_expiration = c->inactivity_expiration;
	}
	if (mgmt_begin(&t, p->account->m, p->account))
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	mgmt_put(t, T_PEER, (struct mgmt_item *)p, &rec.base);
	ip_event(t, mgmt_who(who), p, &old);
	if (rec.name != old.name)
		mgmt_event_peer(t, 32, mgmt_who(who), NULL, p, NULL, 0);
	flag_event(t, mgmt_who(who), p, old.ssh_enabled, rec.ssh_enabled, 30, 31);
	flag_event(t, mgmt_who(who), p, old.login_expiration, rec.login_expiration, 33, 34);
	flag_event(t, mgmt_who(who), p, old.inactivity_expiration, rec.inactivity_expiration, 63, 64);
	mgmt_affect_peer(t, p);
	mgmt_bump(t);
	rc = mgmt_commit(t, e);
	mgmt_expiry_plan(p->account);
	return rc;
}

/* ---- expiry */

/* When p's session or idle time runs out, wall ns; 0: never. */
static int64_t expires_at(const struct mgmt_peer *p)
{
	const mgmt_settings_rec *s = p->account->rec->settings;

	if (p->rec->login_expired || !*mgmt_str(p->rec->user_id))
		return 0;
	if (p->connected)
		return mgmt_peer_session_end(p);
	if (s->inactivity_expiration_enabled && p->rec->inactivity_expiration)
		return p->last_seen + s->inactivity_expiration;
	return 0;
}

void mgmt_expiry_plan(struct mgmt_account *a)
{
	int64_t first = 0;

	for (size_t i = 0; i < a->t[T_PEER].n; i++) {
		int64_t at = expires_at((struct mgmt_peer *)a->t[T_PEER].v[i]);

		if (at && (!first || at < first))
			first = at;
	}
	a->expiry.ns = first;
	mgmt_wake(a->m);
}

void mgmt_expiry_run(struct mgmt_account *a)
{
	struct mgmt *m = a->m;
	struct mgmt_txn *t = NULL;

	if (!a->expiry.ns || a->expiry.ns > m->wall.ns)
		return;
	for (size_t i = 0; i < a->t[T_PEER].n; i++) {
		struct mgmt_peer *p = (struct mgmt_peer *)a->t[T_PEER].v[i];
		int64_t at = expires_at(p);
		mgmt_peer_rec rec = *p->rec;

		if (!at || at > m->wall.ns || (!t && mgmt_begin(&t, m, a)))
			continue;
		rec.has_login_expired = rec.login_expired = true;
		mgmt_put(t, T_PEER, (struct mgmt_item *)p, &rec.base);
		mgmt_event_peer(t, 50, rec.user_id, NULL, p,
				(const struct mgmt_pair[]){
					{ "reason", p->connected ? "session expiration" : "inactivity timeout" } },
				1);
		mgmt_affect_peer(t, p);
		mgmt_stream_end(p, false);
	}
	if (t) {
		mgmt_bump(t);
		mgmt_commit(t, NULL);
	}
	mgmt_expiry_plan(a);
}
