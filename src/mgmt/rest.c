/* rest.c - the API as a whole: the table of operations, who is calling, and how a request ends. Every
 * operation has its row, so that what this build does not serve is visible here and answered as such.
 * rest-api.md sections 1-6. Tests: tests/unit/mgmt_rest_test.c */
#include "mgmt/rest_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PUBLIC (1u << 31)	/* answered without authentication */
#define FAILURE_NS (2 * NB_SEC)	/* wrong tokens of one source: one in this time, */
#define FAILURE_BURST 30	/* this many at once */
#define SETUP_NS (6 * NB_SEC)
#define SETUP_BURST 5

static void later(struct web_call *call, void *arg);
static void no_such_objects(struct web_call *call, void *arg);
static void no_places(struct web_call *call, void *arg);

#define LATER(pattern, flags) { pattern, later, flags }

static const struct web_route table[] = {
	{ "GET /api/instance", mgmt_rest_instance, PUBLIC },
	{ "POST /api/setup", mgmt_rest_setup, PUBLIC },
	{ "GET /api/instance/version", mgmt_rest_version, 0 },
	/* accounts */
	{ "GET /api/accounts", mgmt_rest_accounts, 0 },
	{ "PUT /api/accounts/{id}", mgmt_rest_account_put, 0 },
	LATER("DELETE /api/accounts/{id}", 0),
	/* users, invites, tokens */
	{ "GET /api/users", mgmt_rest_users, 0 },
	LATER("POST /api/users", 0),
	{ "GET /api/users/current", mgmt_rest_user_current, 0 },
	LATER("PUT /api/users/{id}", 0),
	LATER("DELETE /api/users/{id}", 0),
	LATER("POST /api/users/{id}/invite", 0),
	LATER("POST /api/users/{id}/approve", 0),
	LATER("DELETE /api/users/{id}/reject", 0),
	LATER("PUT /api/users/{id}/password", 0),
	LATER("GET /api/users/invites", 0),
	LATER("POST /api/users/invites", 0),
	LATER("DELETE /api/users/invites/{id}", 0),
	LATER("POST /api/users/invites/{id}/regenerate", 0),
	LATER("GET /api/users/invites/{id}", PUBLIC),
	LATER("POST /api/users/invites/{id}/accept", PUBLIC),
	{ "GET /api/users/{user}/tokens", mgmt_rest_tokens, 0 },
	{ "POST /api/users/{user}/tokens", mgmt_rest_token_post, 0 },
	{ "GET /api/users/{user}/tokens/{id}", mgmt_rest_token, 0 },
	{ "DELETE /api/users/{user}/tokens/{id}", mgmt_rest_token_delete, 0 },
	/* peers */
	{ "GET /api/peers", mgmt_rest_peers, 0 },
	{ "GET /api/peers/{id}", mgmt_rest_peer, 0 },
	{ "PUT /api/peers/{id}", mgmt_rest_peer_put, 0 },
	{ "DELETE /api/peers/{id}", mgmt_rest_peer_delete, 0 },
	{ "GET /api/peers/{id}/accessible-peers", mgmt_rest_peer_accessible, 0 },
	LATER("POST /api/peers/{id}/temporary-access", 0),
	LATER("GET /api/peers/{id}/jobs", 0),
	LATER("POST /api/peers/{id}/jobs", 0),
	LATER("GET /api/peers/{id}/jobs/{job}", 0),
	/* setup keys, groups, policies, posture checks */
	{ "GET /api/setup-keys", mgmt_rest_keys, 0 },
	{ "POST /api/setup-keys", mgmt_rest_key_post, 0 },
	{ "GET /api/setup-keys/{id}", mgmt_rest_key, 0 },
	{ "PUT /api/setup-keys/{id}", mgmt_rest_key_put, 0 },
	{ "DELETE /api/setup-keys/{id}", mgmt_rest_key_delete, 0 },
	{ "GET /api/groups", mgmt_rest_groups, 0 },
	{ "POST /api/groups", mgmt_rest_group_post, 0 },
	{ "GET /api/groups/{id}", mgmt_rest_group, 0 },
	{ "PUT /api/groups/{id}", mgmt_rest_group_put, 0 },
	{ "DELETE /api/groups/{id}", mgmt_rest_group_delete, 0 },
	{ "GET /api/policies", mgmt_rest_policies, 0 },
	{ "POST /api/policies", mgmt_rest_policy_post, 0 },
	{ "GET /api/policies/{id}", mgmt_rest_policy, 0 },
	{ "PUT /api/policies/{id}", mgmt_rest_policy_put, 0 },
	{ "DELETE /api/policies/{id}", mgmt_rest_policy_delete, 0 },
	{ "GET /api/posture-checks", no_such_objects, MGMT_MOD_POLICIES },
	LATER("POST /api/posture-checks", 0),
	LATER("GET /api/posture-checks/{id}", 0),
	LATER("PUT /api/posture-checks/{id}", 0),
	LATER("DELETE /api/posture-checks/{id}", 0),
	/* networks and routes */
	{ "GET /api/networks", no_such_objects, MGMT_MOD_NETWORKS },
	LATER("POST /api/networks", 0),
	LATER("GET /api/networks/{id}", 0),
	LATER("PUT /api/networks/{id}", 0),
	LATER("DELETE /api/networks/{id}", 0),
	{ "GET /api/networks/resources", no_such_objects, MGMT_MOD_NETWORKS },
	{ "GET /api/networks/routers", no_such_objects, MGMT_MOD_NETWORKS },
	LATER("GET /api/networks/{id}/resources", 0),
	LATER("POST /api/networks/{id}/resources", 0),
	LATER("GET /api/networks/{id}/resources/{rid}", 0),
	LATER("PUT /api/networks/{id}/resources/{rid}", 0),
	LATER("DELETE /api/networks/{id}/resources/{rid}", 0),
	LATER("GET /api/networks/{id}/routers", 0),
	LATER("POST /api/networks/{id}/routers", 0),
	LATER("GET /api/networks/{id}/routers/{rid}", 0),
	LATER("PUT /api/networks/{id}/routers/{rid}", 0),
	LATER("DELETE /api/networks/{id}/routers/{rid}", 0),
	{ "GET /api/routes", no_such_objects, MGMT_MOD_ROUTES },
	LATER("POST /api/routes", 0),
	LATER("GET /api/routes/{id}", 0),
	LATER("PUT /api/routes/{id}", 0),
	LATER("DELETE /api/routes/{id}", 0),
	/* DNS */
	{ "GET /api/dns/nameservers", no_such_objects, MGMT_MOD_NAMESERVERS },
	LATER("POST /api/dns/nameservers", 0),
	LATER("GET /api/dns/nameservers/{id}", 0),
	LATER("PUT /api/dns/nameservers/{id}", 0),
	LATER("DELETE /api/dns/nameservers/{id}", 0),
	{ "GET /api/dns/settings", mgmt_rest_dns_settings, 0 },
	LATER("PUT /api/dns/settings", 0),
	{ "GET /api/dns/zones", no_such_objects, MGMT_MOD_DNS },
	LATER("POST /api/dns/zones", 0),
	LATER("GET /api/dns/zones/{id}", 0),
	LATER("PUT /api/dns/zones/{id}", 0),
	LATER("DELETE /api/dns/zones/{id}", 0),
	LATER("GET /api/dns/zones/{id}/records", 0),
	LATER("POST /api/dns/zones/{id}/records", 0),
	LATER("GET /api/dns/zones/{id}/records/{rid}", 0),
	LATER("PUT /api/dns/zones/{id}/records/{rid}", 0),
	LATER("DELETE /api/dns/zones/{id}/records/{rid}", 0),
	/* events, places, identity providers */
	{ "GET /api/events/audit", mgmt_rest_events, 0 },
	{ "GET /api/events", mgmt_rest_events, 0 },
	LATER("GET /api/events/proxy", 0),
	{ "GET /api/locations/countries", no_places, 0 },
	{ "GET /api/locations/countries/{country}/cities", no_places, 0 },
	{ "GET /api/identity-providers", no_such_objects, MGMT_MOD_IDENTITY_PROVIDERS },
	LATER("POST /api/identity-providers", 0),
	LATER("GET /api/identity-providers/{id}", 0),
	LATER("PUT /api/identity-providers/{id}", 0),
	LATER("DELETE /api/identity-providers/{id}", 0),
	/* reverse proxy: a server without proxy clusters */
	{ "GET /api/reverse-proxies/clusters", no_such_objects, MGMT_MOD_SERVICES },
	LATER("DELETE /api/reverse-proxies/clusters/{address}", 0),
	{ "GET /api/reverse-proxies/domains", no_such_objects, MGMT_MOD_SERVICES },
	LATER("POST /api/reverse-proxies/domains", 0),
	LATER("DELETE /api/reverse-proxies/domains/{id}", 0),
	LATER("GET /api/reverse-proxies/domains/{id}/validate", 0),
	{ "GET /api/reverse-proxies/services", no_such_objects, MGMT_MOD_SERVICES },
	LATER("POST /api/reverse-proxies/services", 0),
	LATER("GET /api/reverse-proxies/services/{id}", 0),
	LATER("PUT /api/reverse-proxies/services/{id}", 0),
	LATER("DELETE /api/reverse-proxies/services/{id}", 0),
	{ "GET /api/reverse-proxies/proxy-tokens", no_such_objects, MGMT_MOD_SERVICES },
	LATER("POST /api/reverse-proxies/proxy-tokens", 0),
	LATER("DELETE /api/reverse-proxies/proxy-tokens/{id}", 0),
	LATER("GET /api/reverse-proxy/callback", PUBLIC),
};

bool mgmt_rest_operation(size_t i, const char **pattern, bool *served)
{
	if (i >= sizeof(table) / sizeof(*table))
		return false;
	*pattern = table[i].pattern;
	*served = table[i].fn != later;
	return true;
}

/* ---- answers */

static void req_end(struct mgmt_rest_req *q)
{
	json_decref(q->body);
	json_decref(q->answer);
	q->body = q->answer = NULL;
}

/* Everything the answer says is durable now. */
static void settled(void *arg, int err)
{
	struct mgmt_rest_req *q = arg;
	json_t *answer = q->answer;
	struct web_call *call = q->call;
	int status = q->status;

	q->answer = NULL;
	req_end(q);
	call->on_gone = NULL;
	if (err) {
		json_decref(answer);
		web_error(call, 500, "internal server error");
		return;
	}
	web_json(call, status, answer);
}

static void finish(struct mgmt_rest_req *q, int status, json_t *answer)
{
	if (q->short_of_memory) {
		json_decref(answer);
		answer = NULL;
	}
	q->status = status;
	q->answer = answer;
	mgmt_after_commit(q->m, settled, q);
}

static void req_gone(struct web_call *call)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);

	mgmt_after_commit_forget(q->m, q);
	if (q->gone)
		q->gone(q);
	req_end(q);
}

void mgmt_rest_ok(struct mgmt_rest_req *q, json_t *value)
{
	finish(q, 200, value);
}

void mgmt_rest_empty(struct mgmt_rest_req *q)
{
	finish(q, 200, json_object());
}

void mgmt_rest_error(struct mgmt_rest_req *q, int status, const char *fmt, ...)
{
	char text[320];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	finish(q, status, json_pack("{s:o, s:i}", "message", mgmt_rest_text(text), "code", status));
}

void mgmt_rest_fail(struct mgmt_rest_req *q)
{
	if (mgmt_http_status(q->e.kind) == 500) {
		mgmt_rest_error(q, 500, "internal server error");
		return;
	}
	for (char *c = q->e.message; *c; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c + 32);
	mgmt_rest_error(q, mgmt_http_status(q->e.kind), "%s", q->e.message);
}

void mgmt_rest_refuse(struct mgmt_rest_req *q, enum mgmt_kind kind, const char *fmt, ...)
{
	va_list ap;

	q->e.kind = kind;
	va_start(ap, fmt);
	vsnprintf(q->e.message, sizeof(q->e.message), fmt, ap);
	va_end(ap);
	mgmt_rest_fail(q);
}

bool mgmt_rest_permit(struct mgmt_rest_req *q, enum mgmt_module mod, enum mgmt_op op)
{
	if (mgmt_permit(&q->who, mod, op, &q->e) == 0)
		return true;
	mgmt_rest_fail(q);
	return false;
}

/* ---- what is not here */

static void later(struct web_call *call, void *arg)
{
	const char *what = call->route->pattern;

	(void)arg;
	mgmt_rest_error(mgmt_rest_of(call), 501, "%s is not supported by this version of nestbox", what);
}

/* Lists of objects that cannot be made here yet are empty, not errors: dashboards read them all. */
static void no_such_objects(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);

	(void)arg;
	if (mgmt_rest_permit(q, (enum mgmt_module)call->route->flags, MGMT_OP_READ))
		mgmt_rest_ok(q, json_array());
}

static void no_places(struct web_call *call, void *arg)
{
	(void)arg;
	mgmt_rest_refuse(mgmt_rest_of(call), MGMT_PRECONDITION, "geo location database is not initialized");
}

/* ---- rate limits */

void mgmt_rest_source(uint8_t key[16], const struct nb_endpoint *peer)
{
	struct nb_addr a = nb_addr_unmap(&peer->addr);

	memset(key, 0, 16);
	memcpy(key, a.ip, a.family == 6 ? 8 : 4);
	key[15] = a.family;
}

bool mgmt_rest_allow(struct mgmt_rest_limit *l, const uint8_t key[16], struct nb_time now)
{
	size_t at = 0;
	int64_t until;

	for (size_t i = 0; i < MGMT_REST_SLOTS; i++) {
		if (l->slot[i].until && memcmp(l->slot[i].key, key, 16) == 0) {
			at = i;
			break;
		}
		/* Whoever is closest to a clean record makes room. */
		if (l->slot[i].until < l->slot[at].until)
			at = i;
	}
	until = l->slot[at].until;
	if (memcmp(l->slot[at].key, key, 16) != 0 || until < now.ns)
		until = now.ns;
	if (until - now.ns > (l->burst - 1) * l->every_ns)
		return false;
	memcpy(l->slot[at].key, key, 16);
	l->slot[at].until = until + l->every_ns;
	return true;
}

/* ---- who is calling */

static bool word_is(struct nb_bytes word, const char *lower)
{
	if (word.n != strlen(lower))
		return false;
	for (size_t i = 0; i < word.n; i++)
		if ((word.p[i] | 32) != (uint8_t)lower[i])
			return false;
	return true;
}

/* The credential of "scheme credential"; NULL when there is none. */
static const char *credential(struct web_call *call, bool *jwt)
{
	struct nb_bytes v;
	const uint8_t *space;
	char *text;

	if (!web_header(call, "authorization", &v) || !v.n)
		return NULL;
	space = memchr(v.p, ' ', v.n);
	if (!space || space + 1 == v.p + v.n || memchr(space + 1, ' ', v.n - (size_t)(space + 1 - v.p)))
		return NULL;
	text = nb_arena_strndup(&call->mem, (const char *)space + 1, v.n - (size_t)(space + 1 - v.p));
	v.n = (size_t)(space - v.p);
	*jwt = word_is(v, "bearer") && text && strncmp(text, "nbp_", 4) != 0;
	return word_is(v, "bearer") || word_is(v, "token") ? text : NULL;
}

static bool terraform(struct web_call *call)
{
	const char *agent = web_header_text(call, "user-agent");

	return agent && strcasestr(agent, "terraform");
}

/* Stock's limit per token, off by default. */
static bool token_spent(struct mgmt_rest_req *q, const char *token)
{
	uint8_t sum[32];

	if (!q->rest->cfg.token_rpm || terraform(q->call))
		return false;
	nbc_sha256(sum, nb_bytes_str(token));
	return !mgmt_rest_allow(&q->rest->tokens, sum, q->m->now);
}

/* Wrong tokens only count against the source: a right one is never refused for its neighbours' sake. */
static bool authenticate(struct mgmt_rest_req *q)
{
	uint8_t source[16];
	bool jwt = false;
	const char *text = credential(q->call, &jwt);

	if (!text) {
		mgmt_rest_error(q, 401, "no valid authentication provided");
		return false;
	}
	if (!jwt && mgmt_actor_by_token(q->m, text, &q->who, &q->e) == 0) {
		if (!token_spent(q, text))
			return true;
		mgmt_rest_error(q, 429, "too many requests");
		return false;
	}
	mgmt_rest_source(source, &q->call->req.peer);
	if (mgmt_rest_allow(&q->rest->failures, source, q->m->now))
		mgmt_rest_error(q, 401, "token invalid");
	else
		mgmt_rest_error(q, 429, "too many requests");
	return false;
}

/* Every answer of a known path carries these. */
static void matched(struct web_call *call, void *arg)
{
	struct mgmt_rest *r = arg;
	char id[NBC_XID_TEXT], date[40];
	time_t now = (time_t)(mgmt_now(r->m).ns / NB_SEC);
	struct tm tm;

	mgmt_new_id(r->m, id);
	web_set_header(call, "x-request-id", id);
	if (gmtime_r(&now, &tm) && strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm))
		web_set_header(call, "date", date);
}

static bool before(struct web_call *call, const struct web_route *route, void *arg)
{
	struct mgmt_rest *r = arg;
	struct mgmt_rest_req *q = nb_arena_alloc(&call->mem, sizeof(*q));

	if (!q) {
		web_error(call, 500, "internal server error");
		return false;
	}
	q->rest = r;
	q->m = r->m;
	q->call = call;
	call->user = q;
	call->on_gone = req_gone;
	if (call->req.body.n > MGMT_REST_BODY_MAX) {
		mgmt_rest_error(q, 413, "request body is larger than %zu bytes", MGMT_REST_BODY_MAX);
		return false;
	}
	return (route->flags & PUBLIC) || authenticate(q);
}

/* ---- the whole */

int mgmt_rest_new(struct mgmt_rest **out, const struct mgmt_rest_config *cfg)
{
	struct mgmt_rest *r = calloc(1, sizeof(*r));

	if (!r)
		return NB_E_NOMEM;
	r->cfg = *cfg;
	if (!r->cfg.hash_kib)
		r->cfg.hash_kib = NBC_PASSWORD_KIB;
	if (!r->cfg.hash_passes)
		r->cfg.hash_passes = NBC_PASSWORD_PASSES;
	r->m = cfg->m;
	r->router = (struct web_router){ .routes = table, .n = sizeof(table) / sizeof(*table), .arg = r,
					 .matched = matched, .before = before, .cors = true };
	nb_list_init(&r->hashes);
	r->setup.every_ns = SETUP_NS;
	r->setup.burst = SETUP_BURST;
	r->failures.every_ns = FAILURE_NS;
	r->failures.burst = FAILURE_BURST;
	if (cfg->token_rpm) {
		r->tokens.every_ns = 60 * NB_SEC / cfg->token_rpm;
		r->tokens.burst = cfg->token_burst ? (int)cfg->token_burst : 1;
	}
	*out = r;
	return 0;
}

void mgmt_rest_request(void *rest, struct web_call *call)
{
	struct mgmt_rest *r = rest;

	mgmt_tick(r->m);
	web_router_dispatch(&r->router, call);
}

bool mgmt_rest_owns(const struct web_call *call)
{
	struct nb_bytes path = call->req.path;

	while (path.n > 1 && path.p[0] == '/' && path.p[1] == '/') {
		path.p++;
		path.n--;
	}
	return path.n >= 4 && memcmp(path.p, "/api", 4) == 0 && (path.n == 4 || path.p[4] == '/');
}
