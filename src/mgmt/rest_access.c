/* rest_access.c - /api/setup-keys, /api/groups and /api/policies: who may join and who may talk to whom.
 * rest-api.md sections 10.3-10.5. Tests: tests/unit/mgmt_rest_test.c */
#include "mgmt/rest_int.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- setup keys */

/* key: the plain text once, else what is left of it. */
static json_t *key_json(struct mgmt_rest_req *q, const struct mgmt_key *k, const char *key)
{
	const mgmt_key_rec *r = k->rec;
	enum mgmt_key_state state = mgmt_key_state(r, mgmt_now(q->m));

	return json_pack("{s:b, s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:b, s:s, s:s, s:o, s:I, s:I, s:b}",
			 "allow_extra_dns_labels", r->allow_extra_dns_labels,
			 "auto_groups", mgmt_rest_ids(q, r->auto_groups, r->n_auto_groups),
			 "ephemeral", r->ephemeral,
			 "expires", mgmt_rest_time(r->expires),
			 "id", mgmt_rest_text(r->id),
			 "key", mgmt_rest_text(key ? key : r->masked),
			 "last_used", mgmt_rest_time(r->last_used),
			 "name", mgmt_rest_text(r->name),
			 "revoked", r->revoked,
			 "state", mgmt_key_state_name(state),
			 "type", r->one_off ? "one-off" : "reusable",
			 "updated_at", mgmt_rest_time(r->updated),
			 "usage_limit", (json_int_t)r->usage_limit,
			 "used_times", (json_int_t)r->used_times,
			 "valid", state == MGMT_KEY_VALID);
}

void mgmt_rest_keys(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	struct mgmt_lists l;
	json_t *out;

	(void)arg;
	if (!mgmt_rest_permit(q, MGMT_MOD_SETUP_KEYS, MGMT_OP_READ))
		return;
	out = json_array();
	mgmt_account_lists(q->who.account, &l);
	for (size_t i = 0; i < l.n_keys; i++)
		mgmt_rest_add(q, out, key_json(q, l.keys[i], NULL));
	mgmt_rest_ok(q, out);
}

void mgmt_rest_key(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	struct mgmt_key *k = mgmt_key_get(q->who.account, web_param(call, "id"));

	(void)arg;
	if (!mgmt_rest_permit(q, MGMT_MOD_SETUP_KEYS, MGMT_OP_READ))
		return;
	if (k)
		mgmt_rest_ok(q, key_json(q, k, NULL));
	else
		mgmt_rest_refuse(q, MGMT_NOT_FOUND, "setup key: %s not found", web_param(call, "id"));
}

void mgmt_rest_key_post(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	mgmt_key_rec spec = NESTBOX__SETUP_KEY_RECORD__INIT;
	char plain[MGMT_KEY_TEXT] = "";
	struct mgmt_key *k = NULL;
	const char *type;
	int64_t expires;

	(void)arg;
	if (!mgmt_rest_body(q))
		return;
	spec.name = (char *)mgmt_rest_string(&q->f, "name", "", MGMT_REST_NAME_MAX);
	type = web_string(&q->f, "type", "");
	expires = web_int(&q->f, "expires_in", 0, INT64_MIN, INT64_MAX);
	spec.auto_groups = mgmt_rest_strings(q, &q->f, "auto_groups", &spec.n_auto_groups, NULL);
	spec.usage_limit = (uint32_t)web_int(&q->f, "usage_limit", 0, 0, INT32_MAX);
	spec.ephemeral = web_bool(&q->f, "ephemeral", false);
	spec.allow_extra_dns_labels = web_bool(&q->f, "allow_extra_dns_labels", false);
	spec.one_off = strcmp(type, "one-off") == 0;
	if (mgmt_rest_bad(q))
		return;
	if (!*spec.name)
		mgmt_rest_refuse(q, MGMT_INVALID, "setup key name shouldn't be empty");
	else if (!spec.one_off && strcmp(type, "reusable") != 0)
		mgmt_rest_refuse(q, MGMT_INVALID, "unknown setup key type %.64s", type);
	else if (expires < 0)
		mgmt_rest_refuse(q, MGMT_INVALID, "expiresIn can not be in the past");
	else if (mgmt_key_create(&q->who, &spec, expires, &k, plain, &q->e))
		mgmt_rest_fail(q);
	else
		mgmt_rest_ok(q, key_json(q, k, plain));
	nb_wipe(plain, sizeof(plain));
}

void mgmt_rest_key_put(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	struct mgmt_key *k;
	char **groups;
	bool revoked, given;
	size_t n;

	(void)arg;
	if (!mgmt_rest_body(q))
		return;
	groups = mgmt_rest_strings(q, &q->f, "auto_groups", &n, &given);
	revoked = web_bool(&q->f, "revoked", false);
	if (mgmt_rest_bad(q))
		return;
	if (!given)
		mgmt_rest_refuse(q, MGMT_INVALID, "setup key AutoGroups field is invalid");
	else if (mgmt_key_update(&q->who, web_param(call, "id"), (const char *const *)groups, n, revoked, &k, &q->e))
		mgmt_rest_fail(q);
	else
		mgmt_rest_ok(q, key_json(q, k, NULL));
}

void mgmt_rest_key_delete(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);

	(void)arg;
	if (mgmt_key_delete(&q->who, web_param(call, "id"), &q->e))
		mgmt_rest_fail(q);
	else
		mgmt_rest_empty(q);
}

/* ---- groups */

/* Peers that the caller cannot see are left out and not counted. */
static json_t *group_json(struct mgmt_rest_req *q, enum mgmt_rest_view view, const struct mgmt_group *g)
{
	const mgmt_group_rec *r = g->rec;
	json_t *peers = json_array(), *resources = json_array();
	size_t n;

	for (size_t i = 0; i < g->n_peers; i++) {
		const mgmt_peer_rec *p = g->peers[i]->rec;

		if (mgmt_rest_sees(q, view, g->peers[i]))
			mgmt_rest_add(q, peers, json_pack("{s:o, s:o}", "id", mgmt_rest_text(p->id), "name",
							       mgmt_rest_text(p->name)));
	}
	n = json_array_size(peers);
	for (size_t i = 0; i < r->n_resources; i++)
		mgmt_rest_add(q, resources, mgmt_rest_resource_json(r->resources[i]));
	if (!n) {
		json_decref(peers);
		peers = json_null();
	}
	if (!r->n_resources) {
		json_decref(resources);
		resources = json_null();
	}
	return json_pack("{s:o, s:o, s:o, s:o, s:I, s:o, s:I}", "id", mgmt_rest_text(r->id), "issued",
			 mgmt_rest_text(r->issued), "name", mgmt_rest_text(r->name), "peers", peers, "peers_count",
			 (json_int_t)n, "resources", resources, "resources_count", (json_int_t)r->n_resources);
}

static void answer_group(struct mgmt_rest_req *q, const struct mgmt_group *g)
{
	enum mgmt_rest_view view = mgmt_rest_view(q);

	if (view != MGMT_VIEW_FAILED)
		mgmt_rest_ok(q, group_json(q, view, g));
}

void mgmt_rest_groups(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	const char *name = web_query(call, "name");
	enum mgmt_rest_view view;
	struct mgmt_group *g = NULL;
	struct mgmt_lists l;
	json_t *out;

	(void)arg;
	if (!mgmt_rest_permit(q, MGMT_MOD_GROUPS, MGMT_OP_READ))
		return;
	if (name && *name) {
		g = mgmt_group_by_name(q->who.account, name);
		if (!g) {
			mgmt_rest_refuse(q, MGMT_NOT_FOUND, "group: %s not found", name);
			return;
		}
	}
	view = mgmt_rest_view(q);
	if (view == MGMT_VIEW_FAILED)
		return;
	out = json_array();
	mgmt_account_lists(q->who.account, &l);
	for (size_t i = 0; i < l.n_groups; i++)
		if (!g || g == l.groups[i])
			mgmt_rest_add(q, out, group_json(q, view, l.groups[i]));
	mgmt_rest_ok(q, out);
}

void mgmt_rest_group(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	struct mgmt_group *g = mgmt_group_get(q->who.account, web_param(call, "id"));

	(void)arg;
	if (!mgmt_rest_permit(q, MGMT_MOD_GROUPS, MGMT_OP_READ))
		return;
	if (g)
		answer_group(q, g);
	else
		mgmt_rest_refuse(q, MGMT_NOT_FOUND, "group: %s not found", web_param(call, "id"));
}

struct group_spec {
	mgmt_group_rec rec;
	char **peers;
	size_t n_peers;
};

static bool read_group(struct mgmt_rest_req *q, struct group_spec *s)
{
	const json_t *resources;

	if (!mgmt_rest_body(q))
		return false;
	s->rec = (mgmt_group_rec)NESTBOX__GROUP_RECORD__INIT;
	s->rec.name = (char *)mgmt_rest_string(&q->f, "name", "", MGMT_REST_NAME_MAX);
	s->peers = mgmt_rest_strings(q, &q->f, "peers", &s->n_peers, NULL);
	resources = web_array(&q->f, "resources");
	s->rec.resources = mgmt_rest_alloc(q, &q->f, json_array_size(resources) * sizeof(*s->rec.resources));
	for (size_t i = 0; s->rec.resources && i < json_array_size(resources); i++) {
		Nestbox__ResourceRef *r = mgmt_rest_resource(q, &q->f, "resources", json_array_get(resources, i));

		if (r)
			s->rec.resources[s->rec.n_resources++] = r;
		else
			web_problem(&q->f, "field resources must be a list of objects");
	}
	return !mgmt_rest_bad(q);
}

void mgmt_rest_group_post(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	struct group_spec s;
	struct mgmt_group *g;

	(void)arg;
	if (!read_group(q, &s))
		return;
	if (mgmt_group_create(&q->who, &s.rec, (const char *const *)s.peers, s.n_peers, &g, &q->e))
		mgmt_rest_fail(q);
	else
		answer_group(q, g);
}

void mgmt_rest_group_put(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	struct group_spec s;
	struct mgmt_group *g;

	(void)arg;
	if (!mgmt_rest_permit(q, MGMT_MOD_GROUPS, MGMT_OP_READ))
		return;
	/* Before the body is looked at, as stock. */
	if (!mgmt_group_get(q->who.account, web_param(call, "id"))) {
		mgmt_rest_refuse(q, MGMT_NOT_FOUND, "group: %s not found", web_param(call, "id"));
		return;
	}
	if (!read_group(q, &s))
		return;
	if (mgmt_group_update(&q->who, web_param(call, "id"), &s.rec, (const char *const *)s.peers, s.n_peers, &g,
			      &q->e))
		mgmt_rest_fail(q);
	else
		answer_group(q, g);
}

void mgmt_rest_group_delete(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	int rc = mgmt_group_delete(&q->who, web_param(call, "id"), &q->e);

	(void)arg;
	if (rc == 0)
		mgmt_rest_empty(q);
	else if (rc == MGMT_BAD_REQUEST)	/* stock keeps the case of these */
		mgmt_rest_error(q, 400, "%s", q->e.message);
	else
		mgmt_rest_fail(q);
}

/* ---- policies */

static json_t *rule_groups(struct mgmt_rest_req *q, char *const *ids, size_t n)
{
	json_t *out = json_array();

	for (size_t i = 0; i < n; i++) {
		const struct mgmt_group *g = mgmt_group_get(q->who.account, ids[i]);

		if (g)
			mgmt_rest_add(q, out, mgmt_rest_group_minimum(g));
	}
	if (json_array_size(out))
		return out;
	json_decref(out);
	return json_null();
}

static json_t *rule_ports(struct mgmt_rest_req *q, const mgmt_rule_rec *r)
{
	json_t *out = mgmt_rest_optional(q, r->n_ports, json_array());

	for (size_t i = 0; i < r->n_ports; i++) {
		char text[16];

		snprintf(text, sizeof(text), "%u", r->ports[i]);
		mgmt_rest_add(q, out, json_string(text));
	}
	return out;
}

static json_t *rule_ranges(struct mgmt_rest_req *q, const mgmt_rule_rec *r)
{
	json_t *out = mgmt_rest_optional(q, r->n_port_ranges, json_array());

	for (size_t i = 0; i < r->n_port_ranges; i++)
		mgmt_rest_add(q, out, json_pack("{s:I, s:I}", "end", (json_int_t)r->port_ranges[i]->end, "start",
						     (json_int_t)r->port_ranges[i]->start));
	return out;
}

static json_t *rule_authorized(struct mgmt_rest_req *q, const mgmt_rule_rec *r)
{
	json_t *out = mgmt_rest_optional(q, r->n_authorized_groups, json_object());

	for (size_t i = 0; i < r->n_authorized_groups; i++)
		if (json_object_set_new(out, mgmt_str(r->authorized_groups[i]->group),
					mgmt_rest_ids(q, r->authorized_groups[i]->users,
						      r->authorized_groups[i]->n_users)))
			q->short_of_memory = true;
	return out;
}

static json_t *resource(struct mgmt_rest_req *q, const Nestbox__ResourceRef *r)
{
	return r ? mgmt_rest_optional(q, true, mgmt_rest_resource_json(r)) : NULL;
}

static json_t *rule_json(struct mgmt_rest_req *q, const mgmt_rule_rec *r)
{
	return json_pack("{s:s, s:o*, s:b, s:o, s:o*, s:o, s:b, s:o, s:o, s:o*, s:o*, s:o, s:o*, s:o}",
			 "action", r->drop ? "drop" : "accept",
			 "authorized_groups", rule_authorized(q, r),
			 "bidirectional", r->bidirectional,
			 "description", mgmt_rest_text(r->description),
			 "destinationResource", resource(q, r->destination_resource),
			 "destinations", rule_groups(q, r->destinations, r->n_destinations),
			 "enabled", r->enabled,
			 "id", mgmt_rest_text(r->id),
			 "name", mgmt_rest_text(r->name),
			 "port_ranges", rule_ranges(q, r),
			 "ports", rule_ports(q, r),
			 "protocol", mgmt_rest_text(r->protocol),
			 "sourceResource", resource(q, r->source_resource),
			 "sources", rule_groups(q, r->sources, r->n_sources));
}

static json_t *policy_json(struct mgmt_rest_req *q, const struct mgmt_policy *p)
{
	const mgmt_policy_rec *r = p->rec;
	json_t *rules = json_array();

	for (size_t i = 0; i < r->n_rules; i++)
		mgmt_rest_add(q, rules, rule_json(q, r->rules[i]));
	return json_pack("{s:o, s:b, s:o, s:o, s:o, s:o}", "description", mgmt_rest_text(r->description), "enabled",
			 r->enabled, "id", mgmt_rest_text(r->id), "name", mgmt_rest_text(r->name), "rules", rules,
			 "source_posture_checks", mgmt_rest_ids_or_null(q, r->posture_checks, r->n_posture_checks));
}

static bool may_read_policies(struct mgmt_rest_req *q)
{
	return mgmt_rest_permit(q, MGMT_MOD_POLICIES, MGMT_OP_READ) &&
	       mgmt_rest_permit(q, MGMT_MOD_GROUPS, MGMT_OP_READ);
}

void mgmt_rest_policies(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	struct mgmt_lists l;
	json_t *out;

	(void)arg;
	if (!may_read_policies(q))
		return;
	out = json_array();
	mgmt_account_lists(q->who.account, &l);
	for (size_t i = 0; i < l.n_policies; i++)
		mgmt_rest_add(q, out, policy_json(q, l.policies[i]));
	mgmt_rest_ok(q, out);
}

void mgmt_rest_policy(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	struct mgmt_policy *p = mgmt_policy_get(q->who.account, web_param(call, "id"));

	(void)arg;
	if (!may_read_policies(q))
		return;
	if (p)
		mgmt_rest_ok(q, policy_json(q, p));
	else
		mgmt_rest_refuse(q, MGMT_NOT_FOUND, "policy: %s not found", web_param(call, "id"));
}

/* What is wrong with a policy beyond JSON types: the first one counts, as 422. */
static void invalid(struct mgmt_rest_req *q, const char *text)
{
	if (!q->e.kind)
		mgmt_fail(&q->e, MGMT_INVALID, "%s", text);
}

static uint32_t port_number(struct mgmt_rest_req *q, const char *text)
{
	char *end = "";
	unsigned long v = strlen(text) < 8 && *text >= '0' && *text <= '9' ? strtoul(text, &end, 10) : 0;

	if (v >= 1 && v <= 65535 && !*end)
		return (uint32_t)v;
	invalid(q, "valid port value is in 1..65535 range");
	return 1;
}

static void read_ports(struct mgmt_rest_req *q, struct web_fields *f, mgmt_rule_rec *r)
{
	const json_t *ranges;
	size_t n;
	char **ports = mgmt_rest_strings(q, f, "ports", &n, NULL);

	ranges = web_array(f, "port_ranges");
	r->ports = mgmt_rest_alloc(q, f, n * sizeof(*r->ports));
	r->port_ranges = mgmt_rest_alloc(q, f, json_array_size(ranges) * sizeof(*r->port_ranges));
	if (f->problem[0])
		return;
	if (n && json_array_size(ranges))
		invalid(q, "specify either individual ports or port ranges, not both");
	for (size_t i = 0; i < n; i++)
		r->ports[r->n_ports++] = port_number(q, ports[i]);
	for (size_t i = 0; i < json_array_size(ranges); i++) {
		Nestbox__PortRange *range = mgmt_rest_alloc(q, f, sizeof(*range));
		struct web_fields in;
		int64_t start, end;

		web_fields_init(&in, json_array_get(ranges, i));
		start = web_int(&in, "start", 0, INT64_MIN, INT64_MAX);
		end = web_int(&in, "end", 0, INT64_MIN, INT64_MAX);
		if (!json_is_object(in.obj))
			web_problem(&in, "field port_ranges must be a list of objects");
		if (in.problem[0])
			web_problem(f, "%s", in.problem);
		if (!range)
			return;
		if (start < 1 || start > 65535 || end < 1 || end > 65535)
			invalid(q, "valid port value is in 1..65535 range");
		*range = (Nestbox__PortRange)NESTBOX__PORT_RANGE__INIT;
		range->start = (uint32_t)start;
		range->end = (uint32_t)end;
		r->port_ranges[r->n_port_ranges++] = range;
	}
}

/* {group id: [local users]}, kept for netbird-ssh only. */
static void read_authorized(struct mgmt_rest_req *q, struct web_fields *f, mgmt_rule_rec *r)
{
	const json_t *map = web_object(f, "authorized_groups");
	struct web_fields in;
	const char *key;
	json_t *value;

	if (!map)
		return;
	r->authorized_groups = mgmt_rest_alloc(q, f, json_object_size(map) * sizeof(*r->authorized_groups));
	web_fields_init(&in, map);
	json_object_foreach((json_t *)map, key, value) {
		Nestbox__AuthorizedGroup *g = mgmt_rest_alloc(q, f, sizeof(*g));

		if (f->problem[0])
			return;
		*g = (Nestbox__AuthorizedGroup)NESTBOX__AUTHORIZED_GROUP__INIT;
		g->group = (char *)key;
		g->users = mgmt_rest_strings(q, &in, key, &g->n_users, NULL);
		if (in.problem[0])
			web_problem(f, "field authorized_groups must map group ids to lists of strings");
		r->authorized_groups[r->n_authorized_groups++] = g;
	}
	if (strcmp(r->protocol, "netbird-ssh") != 0)
		r->n_authorized_groups = 0;
}

/* Groups xor one resource, on each side. A present [] counts as given. */
static void read_sides(struct mgmt_rest_req *q, struct web_fields *f, mgmt_rule_rec *r)
{
	bool sources, destinations;

	r->sources = mgmt_rest_strings(q, f, "sources", &r->n_sources, &sources);
	r->destinations = mgmt_rest_strings(q, f, "destinations", &r->n_destinations, &destinations);
	r->source_resource = mgmt_rest_resource(q, f, "sourceResource", json_object_get(f->obj, "sourceResource"));
	r->destination_resource = mgmt_rest_resource(q, f, "destinationResource",
						     json_object_get(f->obj, "destinationResource"));
	if (sources && r->source_resource)
		invalid(q, "specify either sources or  source resources, not both");
	if (destinations && r->destination_resource)
		invalid(q, "specify either destinations or  destination resources, not both");
	if (!(sources || r->source_resource) || !(destinations || r->destination_resource))
		invalid(q, "specify either sources or source resources and destinations or destination resources");
}

static void read_rule(struct mgmt_rest_req *q, const json_t *in, bool update, mgmt_rule_rec *r)
{
	struct web_fields f;
	const char *action;

	web_fields_init(&f, in);
	if (!json_is_object(in))
		web_problem(&f, "field rules must be a list of objects");
	*r = (mgmt_rule_rec)NESTBOX__RULE_RECORD__INIT;
	r->id = (char *)mgmt_rest_string(&f, "id", "", MGMT_REST_NAME_MAX);
	if (!update)
		r->id = "";
	r->name = (char *)mgmt_rest_string(&f, "name", "", MGMT_REST_NAME_MAX);
	r->description = (char *)mgmt_rest_string(&f, "description", "", MGMT_REST_TEXT_MAX);
	r->enabled = web_bool(&f, "enabled", false);
	r->bidirectional = web_bool(&f, "bidirectional", false);
	action = web_string(&f, "action", "");
	r->protocol = (char *)mgmt_rest_string(&f, "protocol", "", MGMT_REST_NAME_MAX);
	read_sides(q, &f, r);
	r->drop = strcmp(action, "drop") == 0;
	if (!r->drop && strcmp(action, "accept") != 0)
		invalid(q, "unknown action type");
	read_ports(q, &f, r);
	read_authorized(q, &f, r);
	if (f.problem[0])
		web_problem(&q->f, "%.120s (in rules)", f.problem);
}

/* False: answered. */
static bool read_policy(struct mgmt_rest_req *q, bool update, mgmt_policy_rec *p)
{
	const json_t *rules;

	if (!mgmt_rest_body(q))
		return false;
	*p = (mgmt_policy_rec)NESTBOX__POLICY_RECORD__INIT;
	p->name = (char *)mgmt_rest_string(&q->f, "name", "", MGMT_REST_NAME_MAX);
	p->description = (char *)mgmt_rest_string(&q->f, "description", "", MGMT_REST_TEXT_MAX);
	p->enabled = web_bool(&q->f, "enabled", false);
	p->posture_checks = mgmt_rest_strings(q, &q->f, "source_posture_checks", &p->n_posture_checks, NULL);
	rules = web_array(&q->f, "rules");
	p->rules = mgmt_rest_alloc(q, &q->f, json_array_size(rules) * sizeof(*p->rules));
	if (!*p->name)
		invalid(q, "policy name shouldn't be empty");
	if (!json_array_size(rules))
		invalid(q, "policy rules shouldn't be empty");
	for (size_t i = 0; i < json_array_size(rules) && p->rules; i++) {
		mgmt_rule_rec *r = mgmt_rest_alloc(q, &q->f, sizeof(*r));

		if (!r)
			break;
		read_rule(q, json_array_get(rules, i), update, r);
		p->rules[p->n_rules++] = r;
	}
	if (mgmt_rest_bad(q))
		return false;
	if (!q->e.kind)
		return true;
	mgmt_rest_fail(q);
	return false;
}

static void answer_policy(struct mgmt_rest_req *q, const struct mgmt_policy *p)
{
	/* Expanding the groups takes the right to read them, as stock. */
	if (mgmt_rest_permit(q, MGMT_MOD_GROUPS, MGMT_OP_READ))
		mgmt_rest_ok(q, policy_json(q, p));
}

void mgmt_rest_policy_post(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	struct mgmt_policy *p;
	mgmt_policy_rec spec;

	(void)arg;
	if (!read_policy(q, false, &spec))
		return;
	if (mgmt_policy_create(&q->who, &spec, &p, &q->e))
		mgmt_rest_fail(q);
	else
		answer_policy(q, p);
}

void mgmt_rest_policy_put(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	const char *id = web_param(call, "id");
	struct mgmt_policy *p;
	mgmt_policy_rec spec;

	(void)arg;
	if (!mgmt_rest_permit(q, MGMT_MOD_POLICIES, MGMT_OP_READ))
		return;
	/* Before the body is looked at, as stock. */
	if (!mgmt_policy_get(q->who.account, id)) {
		mgmt_rest_refuse(q, MGMT_NOT_FOUND, "policy: %s not found", id);
		return;
	}
	if (!read_policy(q, true, &spec))
		return;
	if (mgmt_policy_update(&q->who, id, &spec, &p, &q->e))
		mgmt_rest_fail(q);
	else
		answer_policy(q, p);
}

void mgmt_rest_policy_delete(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);

	(void)arg;
	if (mgmt_policy_delete(&q->who, web_param(call, "id"), &q->e))
		mgmt_rest_fail(q);
	else
		mgmt_rest_empty(q);
}
