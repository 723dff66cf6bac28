/* policy.c - access policies: validation and changes. What a policy means for a peer is map.c's.
 * management-domain.md section 1.8, rest-api.md section 10.5. Tests: tests/unit/mgmt_domain_test.c */
#include "mgmt/mgmt_int.h"

#include <stdlib.h>

#define RULES_MAX 64
#define PORTS_MAX 1024

struct mgmt_policy *mgmt_policy_get(const struct mgmt_account *a, const char *id)
{
	return (struct mgmt_policy *)mgmt_table_get(&a->t[T_POLICY], id);
}

static bool protocol_known(const char *p)
{
	static char *const names[] = { "all", "tcp", "udp", "icmp", "netbird-ssh" };

	return mgmt_has(names, 5, mgmt_str(p));
}

static int check_ports(const mgmt_rule_rec *r, struct mgmt_error *e)
{
	bool portless = strcmp(r->protocol, "all") == 0 || strcmp(r->protocol, "icmp") == 0;

	if (r->n_ports && r->n_port_ranges)
		return mgmt_fail(e, MGMT_INVALID, "specify either individual ports or port ranges, not both");
	if (r->n_ports > PORTS_MAX || r->n_port_ranges > PORTS_MAX)
		return mgmt_fail(e, MGMT_INVALID, "a rule can hold at most %d ports", PORTS_MAX);
	if (portless && (r->n_ports || r->n_port_ranges))
		return mgmt_fail(e, MGMT_INVALID, "for ALL or ICMP protocol ports is not allowed");
	for (size_t i = 0; i < r->n_ports; i++)
		if (r->ports[i] < 1 || r->ports[i] > 65535)
			return mgmt_fail(e, MGMT_INVALID, "valid port value is in 1..65535 range");
	for (size_t i = 0; i < r->n_port_ranges; i++)
		if (r->port_ranges[i]->start < 1 || r->port_ranges[i]->start > 65535 ||
		    r->port_ranges[i]->end < 1 || r->port_ranges[i]->end > 65535)
			return mgmt_fail(e, MGMT_INVALID, "valid port value is in 1..65535 range");
	return 0;
}

static int check_ssh(const mgmt_rule_rec *r, struct mgmt_error *e)
{
	if (strcmp(r->protocol, "netbird-ssh") != 0 || r->n_authorized_groups == 0)
		return 0;
	for (size_t i = 0; i < r->n_sources; i++) {
		bool named = false;

		for (size_t k = 0; k < r->n_authorized_groups; k++)
			named |= strcmp(mgmt_str(r->authorized_groups[k]->group), r->sources[i]) == 0;
		if (!named)
			return mgmt_fail(e, MGMT_INVALID,
					 "authorized group for netbird-ssh protocol does not exist in the source group");
	}
	return 0;
}

static int check_policy(const mgmt_policy_rec *p, struct mgmt_error *e)
{
	if (!*mgmt_str(p->name))
		return mgmt_fail(e, MGMT_INVALID, "policy name shouldn't be empty");
	if (p->n_rules == 0)
		return mgmt_fail(e, MGMT_INVALID, "policy rules shouldn't be empty");
	if (p->n_rules > RULES_MAX)
		return mgmt_fail(e, MGMT_INVALID, "a policy can hold at most %d rules", RULES_MAX);
	for (size_t i = 0; i < p->n_rules; i++) {
		int rc;

		if (!protocol_known(p->rules[i]->protocol))
			return mgmt_fail(e, MGMT_INVALID, "unknown protocol type: %s", mgmt_str(p->rules[i]->protocol));
		rc = check_ports(p->rules[i], e);
		if (rc == 0)
			rc = check_ssh(p->rules[i], e);
		if (rc)
			return rc;
	}
	return 0;
}

/* Keep the known groups only, in place. */
static void drop_unknown(const struct mgmt_account *a, char **list, size_t *n)
{
	size_t k = 0;

	for (size_t i = 0; i < *n; i++)
		if (mgmt_group_get(a, list[i]))
			list[k++] = list[i];
	*n = k;
}

/* A copy of spec as it will be stored: ids set, unknown groups gone. NULL without memory. Posture checks are
 * not built, so every id of one is unknown. */
static mgmt_policy_rec *normal_form(const mgmt_policy_rec *spec, const char *id)
{
	mgmt_policy_rec *p = (mgmt_policy_rec *)mgmt_clone(&spec->base);

	if (!p)
		return NULL;
	free(p->id);
	p->id = strdup(id);
	p->has_enabled = true;
	for (size_t i = 0; i < p->n_posture_checks; i++)
		free(p->posture_checks[i]);
	p->n_posture_checks = 0;
	for (size_t i = 0; i < p->n_rules; i++) {
		mgmt_rule_rec *r = p->rules[i];

		if (!*mgmt_str(r->id)) {
			free(r->id);
			r->id = strdup(id);
		}
		r->has_enabled = r->has_drop = r->has_bidirectional = true;
	}
	return p->id ? p : NULL;
}

/* Store p without the groups that do not exist; p itself stays as it is. */
static struct mgmt_item *put_policy(struct mgmt_txn *t, struct mgmt_item *it, const mgmt_policy_rec *p)
{
	mgmt_policy_rec rec = *p;
	mgmt_rule_rec rules[RULES_MAX], *list[RULES_MAX];
	struct mgmt_item *res = NULL;
	char **copies[RULES_MAX][2] = { { NULL } };

	for (size_t i = 0; i < p->n_rules; i++) {
		rules[i] = *p->rules[i];
		list[i] = &rules[i];
		copies[i][0] = calloc(rules[i].n_sources + 1, sizeof(char *));
		copies[i][1] = calloc(rules[i].n_destinations + 1, sizeof(char *));
		if (!copies[i][0] || !copies[i][1]) {
			t->err = NB_E_NOMEM;
			goto out;
		}
		if (rules[i].n_sources)
			memcpy(copies[i][0], rules[i].sources, rules[i].n_sources * sizeof(char *));
		if (rules[i].n_destinations)
			memcpy(copies[i][1], rules[i].destinations, rules[i].n_destinations * sizeof(char *));
		rules[i].sources = copies[i][0];
		rules[i].destinations = copies[i][1];
		drop_unknown(t->account, rules[i].sources, &rules[i].n_sources);
		drop_unknown(t->account, rules[i].destinations, &rules[i].n_destinations);
	}
	rec.rules = list;
	res = mgmt_put(t, T_POLICY, it, &rec.base);
out:
	for (size_t i = 0; i < p->n_rules; i++) {
		free(copies[i][0]);
		free(copies[i][1]);
	}
	return res;
}

static bool same_record(const ProtobufCMessage *a, const ProtobufCMessage *b)
{
	size_t na = protobuf_c_message_get_packed_size(a), nb = protobuf_c_message_get_packed_size(b);
	uint8_t *pa, *pb;
	bool same = false;

	if (na != nb)
		return false;
	pa = malloc(na + 1);
	pb = malloc(nb + 1);
	if (pa && pb) {
		protobuf_c_message_pack(a, pa);
		protobuf_c_message_pack(b, pb);
		same = memcmp(pa, pb, na) == 0;
	}
	free(pa);
	free(pb);
	return same;
}

static void policy_event(struct mgmt_txn *t, uint32_t activity, const char *who, const mgmt_policy_rec *p)
{
	mgmt_event(t, activity, who, p->id, (const struct mgmt_pair[]){ { "name", p->name } }, 1);
}

int mgmt_policy_create(const struct mgmt_actor *who, const mgmt_policy_rec *spec, struct mgmt_policy **out,
		       struct mgmt_error *e)
{
	struct mgmt_account *a = who->account;
	struct mgmt_policy *p;
	mgmt_policy_rec *rec;
	struct mgmt_txn *t;
	char id[NBC_XID_TEXT];
	int rc = mgmt_permit(who, MGMT_MOD_POLICIES, MGMT_OP_CREATE, e);

	if (rc == 0)
		rc = check_policy(spec, e);
	if (rc)
		return rc;
	mgmt_new_id(a->m, id);
	rec = normal_form(spec, id);
	if (!rec || mgmt_begin(&t, a->m, a)) {
		if (rec)
			nestbox__policy_record__free_unpacked(rec, NULL);
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	}
	p = (struct mgmt_policy *)put_policy(t, NULL, rec);
	nestbox__policy_record__free_unpacked(rec, NULL);
	if (p) {
		policy_event(t, 9, mgmt_who(who), p->rec);
		mgmt_affect_policy(t, p->rec);
	}
	mgmt_bump(t);
	rc = mgmt_commit(t, e);
	if (rc == 0 && out)
		*out = p;
	return rc;
}

int mgmt_policy_update(const struct mgmt_actor *who, const char *id, const mgmt_policy_rec *spec,
		       struct mgmt_policy **out, struct mgmt_error *e)
{
	struct mgmt_account *a = who->account;
	struct mgmt_policy *p;
	mgmt_policy_rec *rec, *old;
	struct mgmt_txn *t;
	int rc = mgmt_permit(who, MGMT_MOD_POLICIES, MGMT_OP_UPDATE, e);

	if (rc)
		return rc;
	p = mgmt_policy_get(a, id);
	if (!p)
		return mgmt_fail(e, MGMT_NOT_FOUND, "policy: %s not found", id);
	rc = check_policy(spec, e);
	if (rc)
		return rc;
	for (size_t i = 0; i < spec->n_rules; i++) {
		bool known = !*mgmt_str(spec->rules[i]->id);

		for (size_t k = 0; k < p->rec->n_rules; k++)
			known |= strcmp(mgmt_str(spec->rules[i]->id), mgmt_str(p->rec->rules[k]->id)) == 0;
		if (!known)
			return mgmt_fail(e, MGMT_INVALID, "invalid rule ID: %s", spec->rules[i]->id);
	}
	rec = normal_form(spec, id);
	if (!rec || mgmt_begin(&t, a->m, a)) {
		if (rec)
			nestbox__policy_record__free_unpacked(rec, NULL);
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	}
	old = p->rec;
	mgmt_affect_policy(t, old);
	put_policy(t, (struct mgmt_item *)p, rec);
	nestbox__policy_record__free_unpacked(rec, NULL);
	if (out)
		*out = p;
	if (!t->err && same_record(&old->base, &p->rec->base)) {
		mgmt_abort(t);
		return 0;
	}
	mgmt_affect_policy(t, p->rec);
	policy_event(t, 10, mgmt_who(who), p->rec);
	mgmt_bump(t);
	return mgmt_commit(t, e);
}

int mgmt_policy_delete(const struct mgmt_actor *who, const char *id, struct mgmt_error *e)
{
	struct mgmt_account *a = who->account;
	struct mgmt_policy *p;
	struct mgmt_txn *t;
	int rc = mgmt_permit(who, MGMT_MOD_POLICIES, MGMT_OP_DELETE, e);

	if (rc)
		return rc;
	p = mgmt_policy_get(a, id);
	if (!p)
		return mgmt_fail(e, MGMT_NOT_FOUND, "policy: %s not found", id);
	if (mgmt_begin(&t, a->m, a))
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	mgmt_affect_policy(t, p->rec);
	policy_event(t, 11, mgmt_who(who), p->rec);
	mgmt_drop(t, T_POLICY, (struct mgmt_item *)p);
	mgmt_bump(t);
	return mgmt_commit(t, e);
}
