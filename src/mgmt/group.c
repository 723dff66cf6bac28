/* group.c - groups. A peer's record names its groups; a group object knows its members.
 * management-domain.md section 1.7. Tests: tests/unit/mgmt_domain_test.c */
#include "mgmt/mgmt_int.h"

#include <stdlib.h>

struct mgmt_group *mgmt_group_get(const struct mgmt_account *a, const char *id)
{
	return (struct mgmt_group *)mgmt_table_get(&a->t[T_GROUP], id);
}

struct mgmt_group *mgmt_group_all(const struct mgmt_account *a)
{
	return a->all;
}

struct mgmt_group *mgmt_group_by_name(const struct mgmt_account *a, const char *name)
{
	struct mgmt_group *best = NULL;

	for (size_t i = 0; i < a->t[T_GROUP].n; i++) {
		struct mgmt_group *g = (struct mgmt_group *)a->t[T_GROUP].v[i];

		if (strcmp(mgmt_str(g->rec->name), name) == 0 && (!best || g->n_peers > best->n_peers))
			best = g;
	}
	return best;
}

bool mgmt_peer_in_group(const struct mgmt_peer *p, const struct mgmt_group *g)
{
	return g->account == p->account &&
	       (g->rec->all || mgmt_has(p->rec->groups, p->rec->n_groups, g->rec->id));
}

int mgmt_check_groups(const struct mgmt_account *a, char *const *ids, size_t n, struct mgmt_error *e)
{
	for (size_t i = 0; i < n; i++) {
		const struct mgmt_group *g = mgmt_group_get(a, ids[i]);

		if (!g)
			return mgmt_fail(e, MGMT_INVALID, "group: %s not found", ids[i]);
		if (g->rec->all)
			return mgmt_fail(e, MGMT_INVALID, "can't add All group to auto groups");
	}
	return 0;
}

/* Put p into g or take it out. */
static void set_member(struct mgmt_txn *t, struct mgmt_peer *p, const struct mgmt_group *g, bool in)
{
	mgmt_peer_rec rec = *p->rec;
	char **list = calloc(rec.n_groups + 1, sizeof(*list));
	size_t n = 0;

	if (!list) {
		t->err = NB_E_NOMEM;
		return;
	}
	for (size_t i = 0; i < rec.n_groups; i++)
		if (strcmp(rec.groups[i], g->rec->id) != 0)
			list[n++] = rec.groups[i];
	if (in)
		list[n++] = g->rec->id;
	rec.groups = list;
	rec.n_groups = n;
	/* An address of the IPv6 overlay comes and goes with membership. */
	uint8_t ip6[16];

	if (rec.ipv6.len == 0 && mgmt_wants_v6(p->account, list, n) && mgmt_draw_ip6(p->account, ip6) == 0) {
		rec.has_ipv6 = true;
		rec.ipv6 = (ProtobufCBinaryData){ sizeof(ip6), ip6 };
	} else if (rec.ipv6.len && !mgmt_wants_v6(p->account, list, n)) {
		rec.has_ipv6 = false;
		rec.ipv6 = (ProtobufCBinaryData){ 0, NULL };
	}
	mgmt_put(t, T_PEER, (struct mgmt_item *)p, &rec.base);
	free(list);
}

static void member_event(struct mgmt_txn *t, uint32_t activity, const char *initiator, const struct mgmt_peer *p,
			 const char *group, const char *id)
{
	char fqdn[320], ip[NB_ADDR_TEXT];
	struct nb_addr addr = nb_addr4(nb_get_be32(p->rec->ip.data));

	mgmt_peer_fqdn(p, fqdn, sizeof(fqdn));
	nb_addr_format(ip, &addr);
	mgmt_event(t, activity, initiator, p->rec->id,
		   (const struct mgmt_pair[]){ { "group", group }, { "group_id", id }, { "peer_ip", ip },
					       { "peer_fqdn", fqdn } },
		   4);
}

/* Make the members of g exactly the known ones of ids: a difference, not a replacement of lists. */
static void set_members(struct mgmt_txn *t, struct mgmt_group *g, const char *const *ids, size_t n,
			const char *initiator)
{
	struct mgmt_peer **old = g->n_peers ? calloc(g->n_peers, sizeof(*old)) : NULL;
	size_t n_old = g->n_peers;

	if (n_old && !old) {
		t->err = NB_E_NOMEM;
		return;
	}
	if (n_old)
		memcpy(old, g->peers, n_old * sizeof(*old));
	for (size_t i = 0; i < n_old; i++)
		if (!mgmt_has((char *const *)ids, n, old[i]->rec->id)) {
			mgmt_affect_peer(t, old[i]);
			set_member(t, old[i], g, false);
			member_event(t, 19, initiator, old[i], g->rec->name, g->rec->id);
		}
	for (size_t i = 0; i < n; i++) {
		struct mgmt_peer *p = mgmt_peer_get(t->account, ids[i]);

		if (!p || mgmt_peer_in_group(p, g))
			continue;
		set_member(t, p, g, true);
		mgmt_affect_peer(t, p);
		member_event(t, 18, initiator, p, g->rec->name, g->rec->id);
	}
	free(old);
}

static void resource_events(struct mgmt_txn *t, uint32_t activity, const char *initiator, const mgmt_group_rec *g,
			    Nestbox__ResourceRef *const *list, size_t n, Nestbox__ResourceRef *const *other,
			    size_t n_other)
{
	for (size_t i = 0; i < n; i++) {
		bool both = false;

		for (size_t k = 0; k < n_other; k++)
			both |= strcmp(mgmt_str(other[k]->id), mgmt_str(list[i]->id)) == 0;
		if (!both)
			mgmt_event(t, activity, initiator, g->id,
				   (const struct mgmt_pair[]){ { "name", g->name }, { "id", g->id },
							       { "resource_id", list[i]->id },
							       { "resource_type", list[i]->type } },
				   4);
	}
}

int mgmt_group_create(const struct mgmt_actor *who, const mgmt_group_rec *spec, const char *const *peers, size_t n,
		      struct mgmt_group **out, struct mgmt_error *e)
{
	struct mgmt_account *a = who->account;
	mgmt_group_rec rec = *spec;
	struct mgmt_group *g;
	struct mgmt_txn *t;
	char id[NBC_XID_TEXT];
	int rc = mgmt_permit(who, MGMT_MOD_GROUPS, MGMT_OP_CREATE, e);

	if (rc)
		return rc;
	if (!*mgmt_str(spec->name))
		return mgmt_fail(e, MGMT_INVALID, "group name shouldn't be empty");
	g = mgmt_group_by_name(a, spec->name);
	if (g && strcmp(mgmt_str(g->rec->issued), "api") == 0)
		return mgmt_fail(e, MGMT_EXISTS, "group with name %s already exists", spec->name);
	if (mgmt_begin(&t, a->m, a))
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	mgmt_new_id(a->m, id);
	rec.id = id;
	rec.issued = spec->issued && *spec->issued ? spec->issued : "api";
	rec.has_all = false;
	rec.all = false;
	g = (struct mgmt_group *)mgmt_put(t, T_GROUP, NULL, &rec.base);
	mgmt_event(t, 16, mgmt_who(who), id, (const struct mgmt_pair[]){ { "name", rec.name } }, 1);
	if (g) {
		set_members(t, g, peers, n, mgmt_who(who));
		resource_events(t, 82, mgmt_who(who), &rec, rec.resources, rec.n_resources, NULL, 0);
	}
	mgmt_bump(t);
	rc = mgmt_commit(t, e);
	if (rc == 0 && out)
		*out = g;
	return rc;
}

int mgmt_group_update(const struct mgmt_actor *who, const char *id, const mgmt_group_rec *spec,
		      const char *const *peers, size_t n, struct mgmt_group **out, struct mgmt_error *e)
{
	struct mgmt_account *a = who->account;
	struct mgmt_group *g;
	mgmt_group_rec rec, old;
	struct mgmt_txn *t;
	int rc = mgmt_permit(who, MGMT_MOD_GROUPS, MGMT_OP_UPDATE, e);

	if (rc)
		return rc;
	g = mgmt_group_get(a, id);
	if (!g)
		return mgmt_fail(e, MGMT_NOT_FOUND, "group: %s not found", id);
	if (g->rec->all)
		return mgmt_fail(e, MGMT_INVALID, "updating group ALL is not allowed");
	if (!*mgmt_str(spec->name))
		return mgmt_fail(e, MGMT_INVALID, "group name shouldn't be empty");
	if (mgmt_begin(&t, a->m, a))
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	old = rec = *g->rec;
	rec.name = spec->name;
	rec.resources = spec->resources;
	rec.n_resources = spec->n_resources;
	mgmt_put(t, T_GROUP, (struct mgmt_item *)g, &rec.base);
	if (strcmp(mgmt_str(old.name), rec.name) != 0)
		mgmt_event(t, 17, mgmt_who(who), id,
			   (const struct mgmt_pair[]){ { "old_name", old.name }, { "new_name", rec.name } }, 2);
	set_members(t, g, peers, n, mgmt_who(who));
	resource_events(t, 82, mgmt_who(who), &rec, rec.resources, rec.n_resources, old.resources, old.n_resources);
	resource_events(t, 83, mgmt_who(who), &rec, old.resources, old.n_resources, rec.resources, rec.n_resources);
	mgmt_affect_group(t, g);
	mgmt_bump(t);
	rc = mgmt_commit(t, e);
	if (rc == 0 && out)
		*out = g;
	return rc;
}

static bool rule_uses(const mgmt_rule_rec *r, const char *id)
{
	return mgmt_has(r->sources, r->n_sources, id) || mgmt_has(r->destinations, r->n_destinations, id);
}

/* What still refers to the group; order and words as stock's. */
static int group_linked(const struct mgmt_account *a, const struct mgmt_group *g, struct mgmt_error *e)
{
	const char *id = g->rec->id;

	if (g->rec->n_resources)
		return mgmt_fail(e, MGMT_BAD_REQUEST, "group has been linked to network resource: %s",
				 g->rec->resources[0]->id);
	for (size_t i = 0; i < a->t[T_POLICY].n; i++) {
		const mgmt_policy_rec *p = ((struct mgmt_policy *)a->t[T_POLICY].v[i])->rec;

		for (size_t k = 0; k < p->n_rules; k++)
			if (rule_uses(p->rules[k], id))
				return mgmt_fail(e, MGMT_BAD_REQUEST, "group has been linked to policy: %s", p->name);
	}
	for (size_t i = 0; i < a->t[T_KEY].n; i++) {
		const mgmt_key_rec *k = ((struct mgmt_key *)a->t[T_KEY].v[i])->rec;

		if (mgmt_has(k->auto_groups, k->n_auto_groups, id))
			return mgmt_fail(e, MGMT_BAD_REQUEST, "group has been linked to setup key: %s", k->name);
	}
	for (size_t i = 0; i < a->t[T_USER].n; i++) {
		const mgmt_user_rec *u = ((struct mgmt_user *)a->t[T_USER].v[i])->rec;

		if (mgmt_has(u->auto_groups, u->n_auto_groups, id))
			return mgmt_fail(e, MGMT_BAD_REQUEST, "group has been linked to user: %s", u->id);
	}
	if (mgmt_has(a->rec->dns_disabled_groups, a->rec->n_dns_disabled_groups, id))
		return mgmt_fail(e, MGMT_BAD_REQUEST,
				 "group has been linked to disabled DNS management groups: %s", g->rec->name);
	return 0;
}

int mgmt_group_delete(const struct mgmt_actor *who, const char *id, struct mgmt_error *e)
{
	struct mgmt_account *a = who->account;
	struct mgmt_group *g;
	struct mgmt_txn *t;
	int rc = mgmt_permit(who, MGMT_MOD_GROUPS, MGMT_OP_DELETE, e);

	if (rc)
		return rc;
	g = mgmt_group_get(a, id);
	if (!g)
		return mgmt_fail(e, MGMT_BAD_REQUEST, "group: %s not found", id);
	if (g->rec->all)
		return mgmt_fail(e, MGMT_BAD_REQUEST, "deleting group ALL is not allowed");
	rc = group_linked(a, g, e);
	if (rc)
		return rc;
	if (mgmt_begin(&t, a->m, a))
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	while (g->n_peers && !t->err)
		set_member(t, g->peers[g->n_peers - 1], g, false);
	mgmt_event(t, 48, mgmt_who(who), id, (const struct mgmt_pair[]){ { "name", g->rec->name } }, 1);
	if (!t->err)
		mgmt_drop(t, T_GROUP, (struct mgmt_item *)g);
	mgmt_bump(t);
	return mgmt_commit(t, e);
}
