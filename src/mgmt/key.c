/* key.c - setup keys: what a machine joins with. Only a hash of the text is kept.
 * management-domain.md section 1.6, management-protocol.md section 5.2. Tests: tests/unit/mgmt_domain_test.c */
#include "mgmt/mgmt_int.h"

#include <ctype.h>
#include <stdio.h>

#define NEVER_YEARS_NS ((int64_t)200 * 365 * 86400)	/* seconds: what still fits our time type */

struct mgmt_key *mgmt_key_get(const struct mgmt_account *a, const char *id)
{
	return (struct mgmt_key *)mgmt_table_get(&a->t[T_KEY], id);
}

enum mgmt_key_state mgmt_key_state(const mgmt_key_rec *k, struct nb_wall now)
{
	if (k->expires && k->expires <= now.ns)
		return MGMT_KEY_EXPIRED;
	if (k->revoked)
		return MGMT_KEY_REVOKED;
	if (k->usage_limit && k->used_times >= k->usage_limit)
		return MGMT_KEY_OVERUSED;
	return MGMT_KEY_VALID;
}

const char *mgmt_key_state_name(enum mgmt_key_state s)
{
	static const char *const names[] = { "valid", "expired", "revoked", "overused" };

	return names[s];
}

void mgmt_key_hash(char out[NB_BASE64_LEN(32) + 1], const char *text)
{
	char upper[MGMT_KEY_TEXT];
	uint8_t sum[32];
	size_t n = 0;

	for (; text[n] && n < sizeof(upper) - 1; n++)
		upper[n] = (char)toupper((unsigned char)text[n]);
	upper[n] = '\0';
	nbc_sha256(sum, nb_bytes(upper, n));
	nb_base64_encode(out, NB_BASE64_LEN(32) + 1, nb_bytes(sum, sizeof(sum)));
	nb_wipe(upper, sizeof(upper));
}

struct mgmt_key *mgmt_key_find(const struct mgmt *m, const char *text)
{
	char hash[NB_BASE64_LEN(32) + 1];

	if (!nbc_uuid_parse(NULL, nb_bytes_str(text)))
		return NULL;
	mgmt_key_hash(hash, text);
	return nb_map_get(&m->key_by_hash, nb_bytes_str(hash));
}

static void key_event(struct mgmt_txn *t, uint32_t activity, const char *initiator, const mgmt_key_rec *k)
{
	const struct mgmt_pair meta[] = {
		{ "name", k->name }, { "type", k->one_off ? "one-off" : "reusable" }, { "key", k->masked },
	};

	mgmt_event(t, activity, initiator, k->id, meta, 3);
}

static void group_events(struct mgmt_txn *t, uint32_t activity, const char *initiator, const mgmt_key_rec *k,
			 char *const *groups, size_t n, char *const *other, size_t n_other)
{
	for (size_t i = 0; i < n; i++) {
		const struct mgmt_group *g = mgmt_group_get(t->account, groups[i]);

		if (mgmt_has(other, n_other, groups[i]))
			continue;
		mgmt_event(t, activity, initiator, k->id,
			   (const struct mgmt_pair[]){ { "group", g ? g->rec->name : "" },
						       { "group_id", groups[i] }, { "setupkey", k->name } },
			   3);
	}
}

int mgmt_key_make(struct mgmt_txn *t, const mgmt_key_rec *spec, int64_t expires_in, const char *initiator,
		  struct mgmt_key **out, char plain[MGMT_KEY_TEXT])
{
	struct mgmt *m = t->m;
	mgmt_key_rec rec = *spec;
	char id[NBC_XID_TEXT], hash[NB_BASE64_LEN(32) + 1], masked[10];

	nbc_uuid4(plain, m->cfg.random, m->cfg.random_ctx);
	for (char *c = plain; *c; c++)
		*c = (char)toupper((unsigned char)*c);
	mgmt_key_hash(hash, plain);
	snprintf(masked, sizeof(masked), "%.5s****", plain);
	mgmt_new_id(m, id);
	rec.id = id;
	rec.hash = hash;
	rec.masked = masked;
	rec.has_created = rec.has_updated = true;
	rec.created = rec.updated = m->wall.ns;
	rec.has_expires = expires_in > 0;
	rec.expires = expires_in > 0 ? m->wall.ns + expires_in * NB_SEC : 0;
	rec.has_one_off = rec.has_usage_limit = rec.has_ephemeral = rec.has_allow_extra_dns_labels = true;
	if (rec.one_off)
		rec.usage_limit = 1;
	rec.has_revoked = rec.has_used_times = rec.has_last_used = false;
	rec.revoked = false;
	rec.used_times = 0;
	rec.last_used = 0;
	*out = (struct mgmt_key *)mgmt_put(t, T_KEY, NULL, &rec.base);
	key_event(t, 12, initiator, &rec);
	group_events(t, 23, initiator, &rec, rec.auto_groups, rec.n_auto_groups, NULL, 0);
	return t->err;
}

int mgmt_key_create(const struct mgmt_actor *who, const mgmt_key_rec *spec, int64_t expires_in,
		    struct mgmt_key **out, char plain[MGMT_KEY_TEXT], struct mgmt_error *e)
{
	struct mgmt_account *a = who->account;
	struct mgmt_txn *t;
	int rc = mgmt_permit(who, MGMT_MOD_SETUP_KEYS, MGMT_OP_CREATE, e);

	if (rc == 0)
		rc = mgmt_check_groups(a, spec->auto_groups, spec->n_auto_groups, e);
	if (rc)
		return rc;
	if (!*mgmt_str(spec->name))
		return mgmt_fail(e, MGMT_INVALID, "setup key name can't be empty");
	if (expires_in < 0 || expires_in > NEVER_YEARS_NS)
		return mgmt_fail(e, MGMT_INVALID, "expiresIn is out of range");
	if (spec->one_off && spec->usage_limit > 1)
		return mgmt_fail(e, MGMT_INVALID, "a one-off setup key can be used only once: usage limit must be 1");
	if (mgmt_begin(&t, a->m, a))
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	mgmt_key_make(t, spec, expires_in, mgmt_who(who), out, plain);
	return mgmt_commit(t, e);
}

int mgmt_key_update(const struct mgmt_actor *who, const char *id, const char *const *auto_groups, size_t n,
		    bool revoked, struct mgmt_key **out, struct mgmt_error *e)
{
	struct mgmt_account *a = who->account;
	struct mgmt_key *k;
	struct mgmt_txn *t;
	mgmt_key_rec rec, old;
	int rc = mgmt_permit(who, MGMT_MOD_SETUP_KEYS, MGMT_OP_UPDATE, e);

	if (rc == 0)
		rc = mgmt_check_groups(a, (char *const *)auto_groups, n, e);
	if (rc)
		return rc;
	k = mgmt_key_get(a, id);
	if (!k)
		return mgmt_fail(e, MGMT_NOT_FOUND, "setup key: %s not found", id);
	if (k->rec->revoked && !revoked)
		return mgmt_fail(e, MGMT_INVALID, "can't un-revoke a revoked setup key");
	if (mgmt_begin(&t, a->m, a))
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	old = rec = *k->rec;
	rec.auto_groups = (char **)auto_groups;
	rec.n_auto_groups = n;
	rec.has_revoked = true;
	rec.revoked = revoked;
	rec.has_updated = true;
	rec.updated = a->m->wall.ns;
	mgmt_put(t, T_KEY, (struct mgmt_item *)k, &rec.base);
	if (revoked && !old.revoked)
		key_event(t, 14, mgmt_who(who), &old);
	group_events(t, 23, mgmt_who(who), &old, rec.auto_groups, n, old.auto_groups, old.n_auto_groups);
	group_events(t, 24, mgmt_who(who), &old, old.auto_groups, old.n_auto_groups, rec.auto_groups, n);
	if (out)
		*out = k;
	return mgmt_commit(t, e);
}

int mgmt_key_delete(const struct mgmt_actor *who, const char *id, struct mgmt_error *e)
{
	struct mgmt_account *a = who->account;
	struct mgmt_key *k;
	struct mgmt_txn *t;
	int rc = mgmt_permit(who, MGMT_MOD_SETUP_KEYS, MGMT_OP_DELETE, e);

	if (rc)
		return rc;
	k = mgmt_key_get(a, id);
	if (!k)
		return mgmt_fail(e, MGMT_NOT_FOUND, "setup key: %s not found", id);
	if (mgmt_begin(&t, a->m, a))
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	key_event(t, 68, mgmt_who(who), k->rec);
	mgmt_drop(t, T_KEY, (struct mgmt_item *)k);
	return mgmt_commit(t, e);
}
