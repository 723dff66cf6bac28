/* rest_json.c - reading request bodies and writing the values that several answers share.
 * rest-api.md sections 1, 5. Tests: tests/unit/mgmt_rest_test.c */
#include "mgmt/rest_int.h"

#include <stdlib.h>

/* ---- reading */

bool mgmt_rest_body(struct mgmt_rest_req *q)
{
	json_error_t e;
	struct nb_bytes in = q->call->req.body;
	json_t *v = json_loadb((const char *)in.p, in.n, 0, &e);

	if (json_is_object(v)) {
		q->body = v;
		web_fields_init(&q->f, v);
		return true;
	}
	if (v)
		mgmt_rest_error(q, 400, "couldn't parse JSON request: an object is expected");
	else if (!in.n)
		mgmt_rest_error(q, 400, "couldn't parse JSON request: the body is empty");
	else
		mgmt_rest_error(q, 400, "couldn't parse JSON request: %s at line %d, column %d", e.text, e.line,
				e.column);
	json_decref(v);
	return false;
}

bool mgmt_rest_bad(struct mgmt_rest_req *q)
{
	if (!q->f.problem[0])
		return false;
	mgmt_rest_error(q, 400, "couldn't parse JSON request: %s", q->f.problem);
	return true;
}

const char *mgmt_rest_string(struct web_fields *f, const char *name, const char *dflt, size_t max)
{
	const char *s = web_string(f, name, dflt);

	if (!s || strlen(s) <= max)
		return s;
	web_problem(f, "field %s is longer than %zu bytes", name, max);
	return dflt;
}

void *mgmt_rest_alloc(struct mgmt_rest_req *q, struct web_fields *f, size_t n)
{
	void *p = nb_arena_alloc(&q->call->mem, n ? n : 1);

	if (!p)
		web_problem(f, "it takes too much memory");
	return p;
}

char **mgmt_rest_strings(struct mgmt_rest_req *q, struct web_fields *f, const char *name, size_t *n, bool *given)
{
	const json_t *list = web_array(f, name);
	size_t count = json_array_size(list);
	char **out = mgmt_rest_alloc(q, f, count * sizeof(*out));

	*n = 0;
	if (given)
		*given = list != NULL;
	for (size_t i = 0; i < count && out; i++) {
		const char *s = web_array_string(f, name, list, i);

		if (strlen(s) > MGMT_REST_NAME_MAX)
			web_problem(f, "an item of field %s is longer than %d bytes", name, MGMT_REST_NAME_MAX);
		out[(*n)++] = (char *)s;
	}
	return out;
}

Nestbox__ResourceRef *mgmt_rest_resource(struct mgmt_rest_req *q, struct web_fields *f, const char *name,
					 const json_t *v)
{
	static const char *const types[] = { "peer", "host", "subnet", "domain" };
	Nestbox__ResourceRef *r;
	struct web_fields in;

	if (!v || json_is_null(v))
		return NULL;
	web_fields_init(&in, v);
	if (!json_is_object(v))
		web_problem(&in, "field %s must be an object", name);
	r = mgmt_rest_alloc(q, &in, sizeof(*r));
	if (!in.problem[0]) {
		*r = (Nestbox__ResourceRef)NESTBOX__RESOURCE_REF__INIT;
		r->id = (char *)mgmt_rest_string(&in, "id", "", MGMT_REST_NAME_MAX);
		r->type = (char *)web_string(&in, "type", "");
		for (size_t i = 0; i < 4; i++)
			if (strcmp(types[i], r->type) == 0 && !in.problem[0])
				return r;
		web_problem(&in, "field type of %s must be peer, host, subnet or domain", name);
	}
	web_problem(f, "%s", in.problem);
	return NULL;
}

/* ---- writing */

json_t *mgmt_rest_text(const char *s)
{
	json_t *v = json_string(mgmt_str(s));
	char *copy;

	if (v)
		return v;
	copy = strdup(mgmt_str(s));
	for (char *c = copy; c && *c; c++)
		if (*c & 0x80)
			*c = '?';
	v = copy ? json_string(copy) : NULL;
	free(copy);
	return v;
}

json_t *mgmt_rest_time(int64_t wall_ns)
{
	char text[NB_RFC3339_CAP];

	if (!wall_ns)
		return json_string("0001-01-01T00:00:00Z");
	nb_wall_format(text, (struct nb_wall){ wall_ns });
	return json_string(text);
}

void mgmt_rest_add(struct mgmt_rest_req *q, json_t *list, json_t *item)
{
	if (json_array_append_new(list, item))
		q->short_of_memory = true;
}

json_t *mgmt_rest_optional(struct mgmt_rest_req *q, bool present, json_t *v)
{
	if (present && !v)
		q->short_of_memory = true;
	if (present)
		return v;
	json_decref(v);
	return NULL;
}

json_t *mgmt_rest_ids(struct mgmt_rest_req *q, char *const *list, size_t n)
{
	json_t *out = json_array();

	for (size_t i = 0; i < n; i++)
		mgmt_rest_add(q, out, mgmt_rest_text(list[i]));
	return out;
}

json_t *mgmt_rest_ids_or_null(struct mgmt_rest_req *q, char *const *list, size_t n)
{
	return n ? mgmt_rest_ids(q, list, n) : json_null();
}

json_t *mgmt_rest_group_minimum(const struct mgmt_group *g)
{
	return json_pack("{s:o, s:o, s:I, s:I}", "id", mgmt_rest_text(g->rec->id), "name", mgmt_rest_text(g->rec->name),
			 "peers_count", (json_int_t)g->n_peers, "resources_count", (json_int_t)g->rec->n_resources);
}

json_t *mgmt_rest_resource_json(const Nestbox__ResourceRef *r)
{
	return json_pack("{s:o, s:o}", "id", mgmt_rest_text(r->id), "type", mgmt_rest_text(r->type));
}

/* ---- who sees which peers */

bool mgmt_rest_only_role(const struct mgmt_rest_req *q)
{
	return strcmp(q->e.message, "permission denied") == 0;
}

enum mgmt_rest_view mgmt_rest_view(struct mgmt_rest_req *q)
{
	const mgmt_user_rec *u = q->who.user ? q->who.user->rec : NULL;
	bool plain = u && (strcmp(mgmt_str(u->role), "user") == 0 || strcmp(mgmt_str(u->role), "billing_admin") == 0);

	if (mgmt_permit(&q->who, MGMT_MOD_PEERS, MGMT_OP_READ, &q->e) == 0)
		return MGMT_VIEW_ALL;
	if (!mgmt_rest_only_role(q)) {
		mgmt_rest_fail(q);
		return MGMT_VIEW_FAILED;
	}
	return plain && q->who.account->rec->settings->regular_users_view_blocked ? MGMT_VIEW_NONE : MGMT_VIEW_OWN;
}

bool mgmt_rest_sees(const struct mgmt_rest_req *q, enum mgmt_rest_view view, const struct mgmt_peer *p)
{
	if (view == MGMT_VIEW_ALL)
		return true;
	return view == MGMT_VIEW_OWN && *mgmt_str(p->rec->user_id) &&
	       strcmp(p->rec->user_id, q->who.user->rec->id) == 0;
}
