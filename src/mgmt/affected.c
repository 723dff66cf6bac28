/* affected.c - which connected peers a change can touch, so that nobody else gets a new map.
 * A superset is allowed, a subset is not. Call before and after a change: the old and the new state count.
 * management-domain.md section 2.11. Tests: tests/unit/mgmt_map_test.c */
#include "mgmt/mgmt_int.h"

static void members(struct mgmt_txn *t, char *const *groups, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct mgmt_group *g = mgmt_group_get(t->account, groups[i]);

		if (!g)
			continue;
		if (g->rec->all) {
			mgmt_affect_all(t);
			return;
		}
		for (size_t k = 0; k < g->n_peers; k++)
			mgmt_affect(t, g->peers[k]);
	}
}

static void direct(struct mgmt_txn *t, const Nestbox__ResourceRef *r)
{
	struct mgmt_peer *p = r && strcmp(mgmt_str(r->type), "peer") == 0 ?
				      mgmt_peer_get(t->account, mgmt_str(r->id)) : NULL;

	if (p)
		mgmt_affect(t, p);
}

static void sources(struct mgmt_txn *t, const mgmt_rule_rec *r)
{
	members(t, r->sources, r->n_sources);
	direct(t, r->source_resource);
}

static void destinations(struct mgmt_txn *t, const mgmt_rule_rec *r)
{
	members(t, r->destinations, r->n_destinations);
	direct(t, r->destination_resource);
}

void mgmt_affect_policy(struct mgmt_txn *t, const mgmt_policy_rec *rec)
{
	for (size_t i = 0; i < rec->n_rules && !t->everybody; i++) {
		sources(t, rec->rules[i]);
		destinations(t, rec->rules[i]);
	}
}

/* The far side of every enabled rule that names one of the groups or the peer itself. */
static void opposite(struct mgmt_txn *t, char *const *groups, size_t n, const char *peer)
{
	const struct mgmt_table *policies = &t->account->t[T_POLICY];

	for (size_t i = 0; i < policies->n && !t->everybody; i++) {
		const mgmt_policy_rec *p = ((struct mgmt_policy *)policies->v[i])->rec;

		for (size_t k = 0; k < p->n_rules && p->enabled; k++) {
			const mgmt_rule_rec *r = p->rules[k];
			bool src = false, dst = false;

			for (size_t g = 0; g < n; g++) {
				src |= mgmt_has(r->sources, r->n_sources, groups[g]);
				dst |= mgmt_has(r->destinations, r->n_destinations, groups[g]);
			}
			if (peer && r->source_resource)
				src |= strcmp(mgmt_str(r->source_resource->id), peer) == 0;
			if (peer && r->destination_resource)
				dst |= strcmp(mgmt_str(r->destination_resource->id), peer) == 0;
			if (src && r->enabled)
				destinations(t, r);
			if (dst && r->enabled)
				sources(t, r);
		}
	}
}

void mgmt_affect_group(struct mgmt_txn *t, struct mgmt_group *g)
{
	members(t, &g->rec->id, 1);
	opposite(t, &g->rec->id, 1, NULL);
}

void mgmt_affect_peer(struct mgmt_txn *t, struct mgmt_peer *p)
{
	mgmt_affect(t, p);
	opposite(t, p->rec->groups, p->rec->n_groups, p->rec->id);
	if (p->account->all)
		opposite(t, &p->account->all->rec->id, 1, NULL);
}
