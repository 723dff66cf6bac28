/* account.c - accounts: the first one with its seed, settings, and drawing addresses from its ranges.
 * management-domain.md sections 1.1-1.3, rest-api.md sections 7, 8. Tests: tests/unit/mgmt_domain_test.c */
#include "mgmt/mgmt_int.h"

#include <stdio.h>
#include <stdlib.h>

#define SEED_KEY_SECONDS (30 * 86400)
#define DEFAULT_LOGIN_EXPIRATION (24 * 3600 * NB_SEC)
#define DEFAULT_INACTIVITY (600 * NB_SEC)
#define PASSWORD_MIN 8
#define PASSWORD_MAX 72

struct mgmt_account *mgmt_first_account(const struct mgmt *m)
{
	return m->accounts.n ? (struct mgmt_account *)m->accounts.v[0] : NULL;
}

void mgmt_count(const struct mgmt *m, size_t *peers, size_t *streams)
{
	*peers = *streams = 0;
	for (size_t i = 0; i < m->accounts.n; i++)
		*peers += ((const struct mgmt_account *)m->accounts.v[i])->t[T_PEER].n;
	nb_list_each(it, &m->streams)
		(*streams)++;
}

bool mgmt_setup_required(const struct mgmt *m)
{
	return m->accounts.n == 0;
}

const mgmt_account_rec *mgmt_account_record(const struct mgmt_account *a)
{
	return a->rec;
}

void mgmt_account_lists(const struct mgmt_account *a, struct mgmt_lists *out)
{
#define LIST(field, type, table) \
	out->field = (struct type *const *)a->t[table].v; \
	out->n_##field = a->t[table].n
	LIST(peers, mgmt_peer, T_PEER);
	LIST(groups, mgmt_group, T_GROUP);
	LIST(policies, mgmt_policy, T_POLICY);
	LIST(keys, mgmt_key, T_KEY);
	LIST(users, mgmt_user, T_USER);
	LIST(tokens, mgmt_token, T_TOKEN);
#undef LIST
}

const char *mgmt_dns_domain(const struct mgmt_account *a)
{
	const char *own = mgmt_str(a->rec->settings->dns_domain);

	return *own ? own : a->m->cfg.dns_domain ? a->m->cfg.dns_domain : MGMT_DEFAULT_DOMAIN;
}

/* ---- addresses */

static int account_net(const struct mgmt_account *a, struct nb_prefix *net)
{
	return nb_prefix_parse(net, mgmt_str(a->rec->net)) || net->addr.family != 4 || net->len > 30 ? NB_E_BAD : 0;
}

static uint32_t random_u32(struct mgmt *m)
{
	uint8_t raw[4];

	m->cfg.random(m->cfg.random_ctx, raw, sizeof(raw));
	return nb_get_be32(raw);
}

int mgmt_draw_ip(struct mgmt_account *a, uint8_t ip[4])
{
	struct nb_prefix net;
	uint32_t base, hosts, at;

	if (account_net(a, &net))
		return NB_E_FULL;
	nb_prefix_mask(&net);
	base = nb_get_be32(net.addr.ip);
	hosts = (1u << (32 - net.len)) - 2;
	for (int i = 0; i < MGMT_INSERT_TRIES; i++) {
		nb_put_be32(ip, base + 1 + random_u32(a->m) % hosts);
		if (!nb_map_get(&a->by_ip, nb_bytes(ip, 4)))
			return 0;
	}
	at = random_u32(a->m) % hosts;
	for (uint32_t i = 0; i < hosts; i++) {
		nb_put_be32(ip, base + 1 + (at + i) % hosts);
		if (!nb_map_get(&a->by_ip, nb_bytes(ip, 4)))
			return 0;
	}
	return NB_E_FULL;
}

int mgmt_draw_ip6(struct mgmt_account *a, uint8_t ip[16])
{
	struct nb_prefix net;

	if (nb_prefix_parse(&net, mgmt_str(a->rec->net_v6)) || net.addr.family != 6 || net.len > 120)
		return NB_E_FULL;
	nb_prefix_mask(&net);
	for (int i = 0; i < MGMT_INSERT_TRIES; i++) {
		uint8_t raw[16], all = 0xff, any = 0;

		a->m->cfg.random(a->m->cfg.random_ctx, raw, sizeof(raw));
		for (int k = 0; k < 16; k++) {
			int bits = net.len - k * 8;
			uint8_t mask = bits >= 8 ? 0 : bits <= 0 ? 0xff : (uint8_t)(0xff >> bits);

			ip[k] = net.addr.ip[k] | (raw[k] & mask);
			any |= raw[k] & mask;
			all &= (uint8_t)(raw[k] | ~mask);
		}
		if (any && all != 0xff && !nb_map_get(&a->by_ip6, nb_bytes(ip, 16)))
			return 0;
	}
	return NB_E_FULL;
}

bool mgmt_wants_v6(const struct mgmt_account *a, char *const *groups, size_t n)
{
	const mgmt_settings_rec *s = a->rec->settings;

	if (a->all && mgmt_has(s->ipv6_groups, s->n_ipv6_groups, a->all->rec->id))
		return true;
	for (size_t i = 0; i < n; i++)
		if (mgmt_has(s->ipv6_groups, s->n_ipv6_groups, groups[i]))
			return true;
	return false;
}

/* ---- creation */

static void default_settings(mgmt_settings_rec *s, char **ipv6_groups)
{
	*s = (mgmt_settings_rec)NESTBOX__SETTINGS_RECORD__INIT;
#define SET(field, v) s->has_##field = true, s->field = v
	SET(login_expiration_enabled, true);
	SET(login_expiration, DEFAULT_LOGIN_EXPIRATION);
	SET(inactivity_expiration, DEFAULT_INACTIVITY);
	SET(regular_users_view_blocked, true);
	SET(groups_propagation, true);
	SET(routing_peer_dns_resolution, true);
	SET(lazy_connection, true);
	SET(user_approval_required, true);
#undef SET
	s->auto_update_version = "disabled";
	s->ipv6_groups = ipv6_groups;
	s->n_ipv6_groups = 1;
}

static void put_owner(struct mgmt_txn *t, const struct mgmt_seed *seed)
{
	mgmt_user_rec rec = NESTBOX__USER_RECORD__INIT;
	Nestbox__LocalLogin local = NESTBOX__LOCAL_LOGIN__INIT;

	rec.id = (char *)seed->owner_id;
	rec.role = "owner";
	rec.name = (char *)seed->name;
	rec.email = (char *)seed->email;
	rec.issued = "api";
	rec.has_created = true;
	rec.created = t->m->wall.ns;
	if (seed->password_hash) {
		local.hash = (char *)seed->password_hash;
		local.has_changed = true;
		local.changed = t->m->wall.ns;
		rec.local = &local;
	}
	mgmt_put(t, T_USER, NULL, &rec.base);
}

static void put_all_group(struct mgmt_txn *t, char *id)
{
	mgmt_group_rec rec = NESTBOX__GROUP_RECORD__INIT;

	rec.id = id;
	rec.name = MGMT_ALL;
	rec.issued = "api";
	rec.has_all = rec.all = true;
	mgmt_put(t, T_GROUP, NULL, &rec.base);
}

static void put_default_policy(struct mgmt_txn *t, char *group)
{
	mgmt_policy_rec rec = NESTBOX__POLICY_RECORD__INIT;
	mgmt_rule_rec rule = NESTBOX__RULE_RECORD__INIT, *rules = &rule;
	char id[NBC_XID_TEXT];

	mgmt_new_id(t->m, id);
	rec.id = rule.id = id;
	rec.name = rule.name = "Default";
	rec.description = rule.description = "This is a default rule that allows connections between all the resources";
	rec.has_enabled = rec.enabled = rule.has_enabled = rule.enabled = true;
	rule.has_drop = true;
	rule.has_bidirectional = rule.bidirectional = true;
	rule.protocol = "all";
	rule.sources = rule.destinations = &group;
	rule.n_sources = rule.n_destinations = 1;
	rec.rules = &rules;
	rec.n_rules = 1;
	mgmt_put(t, T_POLICY, NULL, &rec.base);
}

/* The two keys of the seed: one reusable, one for a single machine. */
static void put_seed_keys(struct mgmt_txn *t, const struct mgmt_seed *seed, struct mgmt_setup_result *res)
{
	static const char *const names[2] = { "Default key", "One-off key" };

	for (int i = 0; i < 2; i++) {
		mgmt_key_rec spec = NESTBOX__SETUP_KEY_RECORD__INIT;
		struct mgmt_key *k = NULL;

		spec.name = (char *)names[i];
		spec.one_off = i == 1;
		mgmt_key_make(t, &spec, SEED_KEY_SECONDS, seed->owner_id, &k, res->keys[i].key);
		res->keys[i].name = names[i];
		res->keys[i].type = i == 1 ? "one-off" : "reusable";
		snprintf(res->keys[i].id, sizeof(res->keys[i].id), "%s", k ? k->rec->id : "");
	}
}

static void account_base(struct mgmt *m, const struct mgmt_seed *seed, mgmt_account_rec *rec, char net[32],
			 char net6[NB_ADDR_TEXT])
{
	struct nb_prefix p6 = { .addr = { .family = 6 }, .len = 64 };

	snprintf(net, 32, "100.%u.0.0/16", 64 + random_u32(m) % 64);
	p6.addr.ip[0] = 0xfd;
	m->cfg.random(m->cfg.random_ctx, p6.addr.ip + 1, 7);
	nb_prefix_format(net6, &p6);
	*rec = (mgmt_account_rec)NESTBOX__ACCOUNT_RECORD__INIT;
	rec->created_by = (char *)seed->owner_id;
	rec->has_created = true;
	rec->created = m->wall.ns;
	rec->domain = (char *)(seed->domain ? seed->domain : MGMT_DEFAULT_DOMAIN);
	rec->domain_category = "private";
	rec->net = net;
	rec->net_v6 = net6;
	rec->has_serial = true;
	rec->has_onboarding_flow_pending = rec->onboarding_flow_pending = true;
	rec->has_signup_form_pending = rec->signup_form_pending = true;
}

int mgmt_account_create(struct mgmt *m, const struct mgmt_seed *seed, struct mgmt_setup_result *res,
			struct mgmt_account **out, struct mgmt_error *e)
{
	char id[NBC_XID_TEXT], network[NBC_XID_TEXT], group[NBC_XID_TEXT], *all = group;
	char net[32], net6[NB_ADDR_TEXT];
	mgmt_account_rec rec;
	mgmt_settings_rec settings;
	struct mgmt_txn *t;
	int rc;

	if (mgmt_begin(&t, m, NULL))
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	mgmt_new_id(m, id);
	mgmt_new_id(m, network);
	mgmt_new_id(m, group);
	account_base(m, seed, &rec, net, net6);
	rec.id = id;
	rec.network_id = network;
	default_settings(&settings, &all);
	rec.settings = &settings;
	*out = (struct mgmt_account *)mgmt_put(t, T_ACCOUNT, NULL, &rec.base);
	if (*out) {
		put_owner(t, seed);
		put_all_group(t, group);
		if (!m->cfg.no_default_policy)
			put_default_policy(t, group);
		mgmt_event(t, 4, seed->owner_id, id, NULL, 0);
		mgmt_event(t, 2, seed->owner_id, seed->owner_id, NULL, 0);
	}
	if (*out && res)
		put_seed_keys(t, seed, res);
	if (*out && res && seed->pat_days) {
		struct mgmt_user *u = mgmt_user_get(*out, seed->owner_id);
		struct mgmt_token *tok;

		if (u)
			mgmt_token_make(t, u, "setup-token", seed->pat_days, seed->owner_id, &tok, res->pat);
	}
	rc = mgmt_commit(t, e);
	if (rc)
		*out = NULL;
	return rc;
}

static bool email_plausible(const char *s)
{
	const char *at = strchr(s, '@');

	if (!at || at == s || !at[1] || strchr(at + 1, '@') || strlen(s) > 254)
		return false;
	for (; *s; s++)
		if ((unsigned char)*s <= ' ' || *s == 0x7f)
			return false;
	return true;
}

int mgmt_setup_check(const struct mgmt *m, const char *email, const char *name, struct nb_bytes password,
		     struct mgmt_error *e)
{
	if (!*mgmt_str(email))
		return mgmt_fail(e, MGMT_INVALID, "email is required");
	if (!email_plausible(email))
		return mgmt_fail(e, MGMT_INVALID, "invalid email format");
	if (!*mgmt_str(name))
		return mgmt_fail(e, MGMT_INVALID, "name is required");
	if (password.n == 0)
		return mgmt_fail(e, MGMT_INVALID, "password is required");
	if (password.n < PASSWORD_MIN)
		return mgmt_fail(e, MGMT_INVALID, "password must be at least 8 characters");
	if (password.n > PASSWORD_MAX)
		return mgmt_fail(e, MGMT_INVALID, "password must be at most 72 characters");
	if (!mgmt_setup_required(m))
		return mgmt_fail(e, MGMT_PRECONDITION, "setup already completed");
	return 0;
}

int mgmt_setup(struct mgmt *m, const struct mgmt_setup *spec, struct mgmt_setup_result *out, struct mgmt_error *e)
{
	struct mgmt_account *a;
	struct mgmt_seed seed = { .email = spec->email, .name = spec->name, .password_hash = spec->password_hash };
	int days = spec->pat_days ? spec->pat_days : 1, rc;

	memset(out, 0, sizeof(*out));
	if (!mgmt_setup_required(m))
		return mgmt_fail(e, MGMT_PRECONDITION, "setup already completed");
	if (spec->create_pat && (days < 1 || days > 365))
		return mgmt_fail(e, MGMT_INVALID, "pat_expire_in must be between 1 and 365");
	nbc_uuid4(out->user_id, m->cfg.random, m->cfg.random_ctx);
	seed.owner_id = out->user_id;
	seed.pat_days = spec->create_pat ? days : 0;
	rc = mgmt_account_create(m, &seed, out, &a, e);
	if (rc)
		nb_wipe(out, sizeof(*out));
	return rc;
}

/* ---- settings */

static int check_settings(const struct mgmt_account *a, const mgmt_settings_rec *s, struct mgmt_error *e)
{
	if (s->login_expiration < 3600 * NB_SEC)
		return mgmt_fail(e, MGMT_INVALID, "peer login expiration can't be smaller than one hour");
	if (s->login_expiration > 180 * 86400 * NB_SEC)
		return mgmt_fail(e, MGMT_INVALID, "peer login expiration can't be larger than 180 days");
	if (s->peer_expose_enabled && s->n_peer_expose_groups == 0)
		return mgmt_fail(e, MGMT_INVALID, "peer expose requires at least one group");
	for (size_t i = 0; i < s->n_ipv6_groups; i++)
		if (!mgmt_group_get(a, s->ipv6_groups[i]))
			return mgmt_fail(e, MGMT_INVALID, "group: %s not found", s->ipv6_groups[i]);
	for (size_t i = 0; i < s->n_peer_expose_groups; i++)
		if (!mgmt_group_get(a, s->peer_expose_groups[i]))
			return mgmt_fail(e, MGMT_INVALID, "group: %s not found", s->peer_expose_groups[i]);
	return 0;
}

static bool same_list(char *const *a, size_t na, char *const *b, size_t nb)
{
	if (na != nb)
		return false;
	for (size_t i = 0; i < na; i++)
		if (!mgmt_has(b, nb, a[i]))
			return false;
	return true;
}

static void switch_event(struct mgmt_txn *t, const char *who, bool was, bool is, uint32_t on, uint32_t off)
{
	if (was != is)
		mgmt_event(t, is ? on : off, who, t->account->rec->id, NULL, 0);
}

static void settings_events(struct mgmt_txn *t, const char *who, const mgmt_settings_rec *o, const mgmt_settings_rec *n)
{
	const char *id = t->account->rec->id;

	switch_event(t, who, o->login_expiration_enabled, n->login_expiration_enabled, 38, 39);
	if (o->login_expiration != n->login_expiration)
		mgmt_event(t, 40, who, id, NULL, 0);
	switch_event(t, who, o->inactivity_expiration_enabled, n->inactivity_expiration_enabled, 65, 66);
	if (o->inactivity_expiration != n->inactivity_expiration)
		mgmt_event(t, 67, who, id, NULL, 0);
	switch_event(t, who, o->groups_propagation, n->groups_propagation, 69, 70);
	switch_event(t, who, o->routing_peer_dns_resolution, n->routing_peer_dns_resolution, 71, 72);
	switch_event(t, who, o->lazy_connection, n->lazy_connection, 85, 86);
	switch_event(t, who, o->peer_expose_enabled, n->peer_expose_enabled, 114, 115);
	switch_event(t, who, o->auto_update_always, n->auto_update_always, 116, 117);
	switch_event(t, who, o->n_ipv6_groups > 0, n->n_ipv6_groups > 0, 121, 122);
	switch_event(t, who, o->local_mfa, n->local_mfa, 123, 124);
	switch_event(t, who, o->metrics_push, n->metrics_push, 140, 141);
	if (strcmp(mgmt_str(o->auto_update_version), mgmt_str(n->auto_update_version)) != 0)
		mgmt_event(t, 92, who, id, (const struct mgmt_pair[]){ { "version", n->auto_update_version } }, 1);
	if (strcmp(mgmt_str(o->dns_domain), mgmt_str(n->dns_domain)) != 0)
		mgmt_event(t, 84, who, id,
			   (const struct mgmt_pair[]){ { "old_dns_domain", o->dns_domain },
						       { "new_dns_domain", n->dns_domain } },
			   2);
}

/* Do peers see a difference? */
static bool settings_push(const mgmt_settings_rec *o, const mgmt_settings_rec *n)
{
	return o->routing_peer_dns_resolution != n->routing_peer_dns_resolution ||
	       o->lazy_connection != n->lazy_connection || o->auto_update_always != n->auto_update_always ||
	       o->login_expiration_enabled != n->login_expiration_enabled ||
	       o->login_expiration != n->login_expiration || o->metrics_push != n->metrics_push ||
	       strcmp(mgmt_str(o->dns_domain), mgmt_str(n->dns_domain)) != 0 ||
	       strcmp(mgmt_str(o->auto_update_version), mgmt_str(n->auto_update_version)) != 0 ||
	       !same_list(o->ipv6_groups, o->n_ipv6_groups, n->ipv6_groups, n->n_ipv6_groups);
}

/* Give IPv6 addresses to the peers that may have one now and take the others'. */
static void reassign_v6(struct mgmt_txn *t)
{
	struct mgmt_account *a = t->account;

	for (size_t i = 0; i < a->t[T_PEER].n && !t->err; i++) {
		struct mgmt_peer *p = (struct mgmt_peer *)a->t[T_PEER].v[i];
		bool wants = mgmt_wants_v6(a, p->rec->groups, p->rec->n_groups);
		mgmt_peer_rec rec = *p->rec;
		uint8_t ip[16];

		if (wants == (rec.ipv6.len != 0) || (wants && mgmt_draw_ip6(a, ip)))
			continue;
		rec.has_ipv6 = wants;
		rec.ipv6 = (ProtobufCBinaryData){ wants ? sizeof(ip) : 0, wants ? ip : NULL };
		mgmt_put(t, T_PEER, (struct mgmt_item *)p, &rec.base);
	}
}

int mgmt_settings_update(const struct mgmt_actor *who, const mgmt_settings_rec *spec, struct mgmt_error *e)
{
	struct mgmt_account *a = who->account;
	const mgmt_settings_rec *old = a->rec->settings;
	mgmt_account_rec rec = *a->rec;
	struct mgmt_txn *t;
	int rc = mgmt_permit(who, MGMT_MOD_SETTINGS, MGMT_OP_UPDATE, e);

	if (rc == 0)
		rc = check_settings(a, spec, e);
	if (rc)
		return rc;
	if (mgmt_begin(&t, a->m, a))
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	rec.settings = (mgmt_settings_rec *)spec;
	mgmt_put(t, T_ACCOUNT, (struct mgmt_item *)a, &rec.base);
	if (!same_list(old->ipv6_groups, old->n_ipv6_groups, spec->ipv6_groups, spec->n_ipv6_groups))
		reassign_v6(t);
	settings_events(t, mgmt_who(who), old, spec);
	if (settings_push(old, spec)) {
		for (size_t i = 0; i < a->t[T_PEER].n; i++)
			mgmt_map_forget((struct mgmt_peer *)a->t[T_PEER].v[i]);
		mgmt_affect_all(t);
		mgmt_bump(t);
	}
	rc = mgmt_commit(t, e);
	mgmt_expiry_plan(a);
	return rc;
}

int mgmt_onboarding_update(const struct mgmt_actor *who, bool flow_pending, bool signup_pending, struct mgmt_error *e)
{
	struct mgmt_account *a = who->account;
	mgmt_account_rec rec = *a->rec;
	struct mgmt_txn *t;
	int rc = mgmt_permit(who, MGMT_MOD_SETTINGS, MGMT_OP_UPDATE, e);

	if (rc)
		return rc;
	if (mgmt_begin(&t, a->m, a))
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	rec.onboarding_flow_pending = flow_pending;
	rec.signup_form_pending = signup_pending;
	mgmt_put(t, T_ACCOUNT, (struct mgmt_item *)a, &rec.base);
	return mgmt_commit(t, e);
}
