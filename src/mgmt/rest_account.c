/* rest_account.c - /api/instance, /api/setup, /api/accounts, /api/users with their tokens, the audit log.
 * rest-api.md sections 7-9, 11.4. Tests: tests/unit/mgmt_rest_test.c */
#include "mgmt/rest_int.h"

#include "base/version.h"

#include <stdio.h>
#include <stdlib.h>

#define HASHES_MAX 4		/* passwords waiting for the worker */
#define EVENTS_MAX 10000
#define SECONDS_MAX (100LL * 365 * 86400)

/* ---- instance */

void mgmt_rest_instance(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);

	(void)arg;
	mgmt_rest_ok(q, json_pack("{s:b}", "setup_required", mgmt_setup_required(q->m)));
}

/* Nobody is asked for newer versions. */
void mgmt_rest_version(struct web_call *call, void *arg)
{
	(void)arg;
	mgmt_rest_ok(mgmt_rest_of(call), json_pack("{s:s, s:b}", "management_current_version", NB_COMPAT,
						   "management_update_available", 0));
}

struct setup_job {
	struct mgmt_rest_hash hash;	/* first */
	struct nb_list node;
	struct mgmt_rest *rest;		/* NULL: gone */
	struct mgmt_rest_req *q;	/* NULL: the client is gone */
	char *email, *name;
	bool create_pat;
	int pat_days;
};

void mgmt_rest_hash_run(struct mgmt_rest_hash *job)
{
	job->err = nbc_password_hash(job->hash, nb_bytes(job->password, job->n), job->kib, job->passes);
}

static void job_free(struct setup_job *job)
{
	if (job->rest) {
		nb_list_del(&job->node);
		job->rest->n_hashes--;
	}
	free(job->email);
	free(job->name);
	nb_wipe(job, sizeof(*job));
	free(job);
}

void mgmt_rest_free(struct mgmt_rest *r)
{
	if (!r)
		return;
	nb_list_each_safe(it, &r->hashes) {
		struct setup_job *job = nb_container(it, struct setup_job, node);

		nb_list_del(&job->node);
		job->rest = NULL;
		job->q = NULL;
	}
	free(r);
}

static json_t *setup_json(struct mgmt_rest_req *q, const struct setup_job *job, const struct mgmt_setup_result *res)
{
	json_t *keys = json_array();

	for (int i = 0; i < 2; i++)
		mgmt_rest_add(q, keys, json_pack("{s:s, s:s, s:s}", "key", res->keys[i].key, "name",
						      res->keys[i].name, "type", res->keys[i].type));
	return json_pack("{s:o, s:o*, s:o, s:s}", "email", mgmt_rest_text(job->email), "personal_access_token",
			 mgmt_rest_optional(q, *res->pat, json_string(res->pat)), "setup_keys", keys, "user_id", res->user_id);
}

static void setup_finish(struct setup_job *job)
{
	struct mgmt_rest_req *q = job->q;
	struct mgmt_setup spec = { job->email, job->name, job->hash.hash, job->create_pat, job->pat_days };
	struct mgmt_setup_result res;

	q->job = NULL;
	q->gone = NULL;
	if (job->hash.err || !*job->hash.hash) {
		mgmt_rest_error(q, 500, "internal server error");
	} else if (mgmt_setup(q->m, &spec, &res, &q->e)) {
		mgmt_rest_fail(q);
	} else {
		web_set_header(q->call, "cache-control", "no-store");
		mgmt_rest_ok(q, setup_json(q, job, &res));
		nb_wipe(&res, sizeof(res));
	}
}

void mgmt_rest_hashed(struct mgmt_rest_hash *hash)
{
	struct setup_job *job = nb_container(hash, struct setup_job, hash);

	nb_wipe(job->hash.password, sizeof(job->hash.password));
	if (job->rest)
		mgmt_tick(job->rest->m);
	/* Without a client nobody would ever see the keys: leave the setup undone. */
	if (job->q)
		setup_finish(job);
	job_free(job);
}

static void setup_gone(struct mgmt_rest_req *q)
{
	struct setup_job *job = q->job;

	job->q = NULL;
}

static void setup_start(struct mgmt_rest_req *q, const char *email, const char *name, struct nb_bytes password,
			bool create_pat, int days)
{
	struct mgmt_rest *r = q->rest;
	struct setup_job *job = calloc(1, sizeof(*job));

	if (!job || !(job->email = strdup(email)) || !(job->name = strdup(name))) {
		if (job)
			job_free(job);
		mgmt_rest_error(q, 500, "internal server error");
		return;
	}
	memcpy(job->hash.password, password.p, password.n);
	job->hash.n = password.n;
	job->hash.kib = r->cfg.hash_kib;
	job->hash.passes = r->cfg.hash_passes;
	job->rest = r;
	job->q = q;
	job->create_pat = create_pat;
	job->pat_days = days;
	nb_list_push(&r->hashes, &job->node);
	r->n_hashes++;
	q->job = job;
	q->gone = setup_gone;
	if (r->cfg.hash) {
		r->cfg.hash(r->cfg.ctx, &job->hash);
		return;
	}
	mgmt_rest_hash_run(&job->hash);
	mgmt_rest_hashed(&job->hash);
}

void mgmt_rest_setup(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	const char *email, *name;
	struct nb_bytes password;
	uint8_t source[16];
	bool create_pat;
	int days;

	(void)arg;
	if (!mgmt_rest_body(q))
		return;
	email = mgmt_rest_string(&q->f, "email", "", MGMT_REST_NAME_MAX);
	name = mgmt_rest_string(&q->f, "name", "", MGMT_REST_NAME_MAX);
	password = nb_bytes_str(web_string(&q->f, "password", ""));
	create_pat = web_bool(&q->f, "create_pat", false);
	days = (int)web_int(&q->f, "pat_expire_in", 1, INT32_MIN, INT32_MAX);
	if (mgmt_rest_bad(q))
		return;
	mgmt_rest_source(source, &call->req.peer);
	if (mgmt_setup_check(q->m, email, name, password, &q->e))
		mgmt_rest_fail(q);
	else if (create_pat && (days < 1 || days > 365))
		mgmt_rest_refuse(q, MGMT_INVALID, "pat_expire_in must be between 1 and 365");
	else if (q->rest->n_hashes >= HASHES_MAX || !mgmt_rest_allow(&q->rest->setup, source, q->m->now))
		mgmt_rest_error(q, 429, "rate limit exceeded, please try again later");
	else
		setup_start(q, email, name, password, create_pat, days);
}

/* ---- accounts */

static json_t *extra_json(const mgmt_settings_rec *s)
{
	return json_pack("{s:b, s:n, s:b, s:b, s:b}", "network_traffic_logs_enabled", 0,
			 "network_traffic_logs_groups", "network_traffic_packet_counter_enabled", 0,
			 "peer_approval_enabled", s->peer_approval, "user_approval_required", s->user_approval_required);
}

static json_t *settings_json(struct mgmt_rest_req *q, const mgmt_account_rec *a)
{
	const mgmt_settings_rec *s = a->settings;

	return json_pack("{s:b, s:b, s:o, s:o, s:b, s:o, s:b, s:o, s:o, s:o, s:b, s:b, s:b, s:b, s:b, s:o, s:o, s:b,"
			 " s:o, s:I, s:b, s:I, s:b, s:b, s:b}",
			 "agent_network_only", 0,
			 "auto_update_always", s->auto_update_always,
			 "auto_update_version", mgmt_rest_text(s->auto_update_version),
			 "dns_domain", mgmt_rest_text(s->dns_domain),
			 "embedded_idp_enabled", 1,
			 "extra", extra_json(s),
			 "groups_propagation_enabled", s->groups_propagation,
			 "ipv6_enabled_groups", mgmt_rest_ids_or_null(q, s->ipv6_groups, s->n_ipv6_groups),
			 "jwt_allow_groups", mgmt_rest_ids(q, s->jwt_allow_groups, s->n_jwt_allow_groups),
			 "jwt_groups_claim_name", mgmt_rest_text(s->jwt_groups_claim),
			 "jwt_groups_enabled", s->jwt_groups_enabled,
			 "lazy_connection_enabled", s->lazy_connection,
			 "local_auth_disabled", 0,
			 "local_mfa_enabled", s->local_mfa,
			 "metrics_push_enabled", s->metrics_push,
			 "network_range", mgmt_rest_text(a->net),
			 "network_range_v6", mgmt_rest_text(a->net_v6),
			 "peer_expose_enabled", s->peer_expose_enabled,
			 "peer_expose_groups", mgmt_rest_ids_or_null(q, s->peer_expose_groups, s->n_peer_expose_groups),
			 "peer_inactivity_expiration", (json_int_t)(s->inactivity_expiration / NB_SEC),
			 "peer_inactivity_expiration_enabled", s->inactivity_expiration_enabled,
			 "peer_login_expiration", (json_int_t)(s->login_expiration / NB_SEC),
			 "peer_login_expiration_enabled", s->login_expiration_enabled,
			 "regular_users_view_blocked", s->regular_users_view_blocked,
			 "routing_peer_dns_resolution_enabled", s->routing_peer_dns_resolution);
}

static json_t *account_json(struct mgmt_rest_req *q)
{
	const mgmt_account_rec *a = mgmt_account_record(q->who.account);

	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:{s:b, s:b}, s:o}",
			 "created_at", mgmt_rest_time(a->created),
			 "created_by", mgmt_rest_text(a->created_by),
			 "domain", mgmt_rest_text(a->domain),
			 "domain_category", mgmt_rest_text(a->domain_category),
			 "id", mgmt_rest_text(a->id),
			 "onboarding",
				"onboarding_flow_pending", a->onboarding_flow_pending,
				"signup_form_pending", a->signup_form_pending,
			 "settings", settings_json(q, a));
}

void mgmt_rest_accounts(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);

	(void)arg;
	if (mgmt_rest_permit(q, MGMT_MOD_ACCOUNTS, MGMT_OP_READ) &&
	    mgmt_rest_permit(q, MGMT_MOD_SETTINGS, MGMT_OP_READ))
		mgmt_rest_ok(q, json_pack("[o]", account_json(q)));
}

/* "latest", "disabled", "" or x.y.z with an optional v and suffix. */
static bool update_version_ok(const char *s)
{
	int dots = 0, digits = 0;

	if (!*s || strcmp(s, "latest") == 0 || strcmp(s, "disabled") == 0)
		return true;
	for (s += *s == 'v'; *s && *s != '-' && *s != '+'; s++) {
		if (*s == '.' && digits) {
			dots++;
			digits = 0;
		} else if (*s >= '0' && *s <= '9') {
			digits++;
		} else {
			return false;
		}
	}
	return dots <= 2 && digits && strlen(s) < 64;
}

static bool domain_ok(const char *s)
{
	size_t label = 0, n = strlen(s);

	for (size_t i = 0; i < n; i++) {
		char c = s[i];
		bool edge = label == 0 || i + 1 == n || s[i + 1] == '.';

		if (c == '.' && label) {
			label = 0;
			continue;
		}
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      ((c == '-' || c == '_') && !edge)) || ++label > 63)
			return false;
	}
	return n <= 253 && (n == 0 || label);
}

static int64_t read_seconds(struct web_fields *f, const char *name)
{
	return web_int(f, name, 0, -SECONDS_MAX, SECONDS_MAX) * NB_SEC;
}

/* Absent members mean zero; an absent extra keeps what is stored. */
static void read_settings(struct mgmt_rest_req *q, struct web_fields *f, mgmt_settings_rec *s)
{
	const mgmt_settings_rec *old = q->who.account->rec->settings;
	struct web_fields extra;

	*s = (mgmt_settings_rec)NESTBOX__SETTINGS_RECORD__INIT;
	s->login_expiration_enabled = web_bool(f, "peer_login_expiration_enabled", false);
	s->login_expiration = read_seconds(f, "peer_login_expiration");
	s->inactivity_expiration_enabled = web_bool(f, "peer_inactivity_expiration_enabled", false);
	s->inactivity_expiration = read_seconds(f, "peer_inactivity_expiration");
	s->regular_users_view_blocked = web_bool(f, "regular_users_view_blocked", false);
	s->peer_expose_enabled = web_bool(f, "peer_expose_enabled", false);
	s->peer_expose_groups = mgmt_rest_strings(q, f, "peer_expose_groups", &s->n_peer_expose_groups, NULL);
	s->groups_propagation = web_bool(f, "groups_propagation_enabled", false);
	s->jwt_groups_enabled = web_bool(f, "jwt_groups_enabled", false);
	s->jwt_groups_claim = (char *)mgmt_rest_string(f, "jwt_groups_claim_name", "", MGMT_REST_NAME_MAX);
	s->jwt_allow_groups = mgmt_rest_strings(q, f, "jwt_allow_groups", &s->n_jwt_allow_groups, NULL);
	s->routing_peer_dns_resolution = web_bool(f, "routing_peer_dns_resolution_enabled", false);
	s->dns_domain = (char *)mgmt_rest_string(f, "dns_domain", "", MGMT_REST_NAME_MAX);
	s->ipv6_groups = mgmt_rest_strings(q, f, "ipv6_enabled_groups", &s->n_ipv6_groups, NULL);
	s->lazy_connection = web_bool(f, "lazy_connection_enabled", false);
	s->metrics_push = web_bool(f, "metrics_push_enabled", false);
	s->auto_update_version = (char *)mgmt_rest_string(f, "auto_update_version", "", MGMT_REST_NAME_MAX);
	s->auto_update_always = web_bool(f, "auto_update_always", false);
	s->local_mfa = web_bool(f, "local_mfa_enabled", false);
	s->peer_approval = old->peer_approval;
	s->user_approval_required = old->user_approval_required;
	if (!web_has(f, "extra"))
		return;
	web_fields_init(&extra, web_object(f, "extra"));
	s->peer_approval = web_bool(&extra, "peer_approval_enabled", false);
	s->user_approval_required = web_bool(&extra, "user_approval_required", false);
	if (extra.problem[0])
		web_problem(f, "%s", extra.problem);
}

/* The effective range echoed back is no change; anything else would move every peer. */
static bool range_changes(struct web_fields *f, const char *name, const char *now)
{
	const char *text = mgmt_rest_string(f, name, "", NB_ADDR_TEXT);
	struct nb_prefix want, have;

	if (!*text)
		return false;
	if (nb_prefix_parse(&want, text) || !strchr(text, '/')) {
		web_problem(f, "field %s is no address range", name);
		return false;
	}
	if (nb_prefix_parse(&have, now))
		return true;
	nb_prefix_mask(&want);
	nb_prefix_mask(&have);
	return want.len != have.len || !nb_addr_eq(&want.addr, &have.addr);
}

struct onboarding {
	bool given, flow, signup;
};

static void read_onboarding(struct mgmt_rest_req *q, struct onboarding *o)
{
	struct web_fields in;

	o->given = web_has(&q->f, "onboarding");
	web_fields_init(&in, web_object(&q->f, "onboarding"));
	o->flow = web_bool(&in, "onboarding_flow_pending", false);
	o->signup = web_bool(&in, "signup_form_pending", false);
	if (in.problem[0])
		web_problem(&q->f, "%s", in.problem);
}

static bool settings_acceptable(struct mgmt_rest_req *q, const mgmt_settings_rec *s, bool moves, bool agent_only)
{
	if (moves)
		mgmt_rest_error(q, 501, "changing network_range is not supported by this version of nestbox");
	else if (agent_only)
		mgmt_rest_error(q, 501, "agent_network_only is not supported by nestbox");
	else if (!domain_ok(s->dns_domain))
		mgmt_rest_refuse(q, MGMT_INVALID, "invalid domain %s", s->dns_domain);
	else if (!update_version_ok(s->auto_update_version))
		mgmt_rest_refuse(q, MGMT_INVALID, "invalid AutoUpdateVersion");
	else
		return true;
	return false;
}

void mgmt_rest_account_put(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	const mgmt_account_rec *a = mgmt_account_record(q->who.account);
	struct web_fields f;
	struct onboarding onboarding;
	mgmt_settings_rec s;
	bool moves, agent_only;

	(void)arg;
	if (strcmp(web_param(call, "id"), a->id) != 0) {
		mgmt_rest_refuse(q, MGMT_DENIED, "user is not part of this account");
		return;
	}
	if (!mgmt_rest_body(q))
		return;
	web_fields_init(&f, web_object(&q->f, "settings"));
	if (!f.obj)
		web_problem(&q->f, "field settings is required");
	read_onboarding(q, &onboarding);
	read_settings(q, &f, &s);
	moves = range_changes(&f, "network_range", mgmt_str(a->net));
	moves |= range_changes(&f, "network_range_v6", mgmt_str(a->net_v6));
	agent_only = web_bool(&f, "agent_network_only", false);
	if (f.problem[0])
		web_problem(&q->f, "%s", f.problem);
	if (mgmt_rest_bad(q) || !settings_acceptable(q, &s, moves, agent_only))
		return;
	if (mgmt_settings_update(&q->who, &s, &q->e) ||
	    (onboarding.given && mgmt_onboarding_update(&q->who, onboarding.flow, onboarding.signup, &q->e)))
		mgmt_rest_fail(q);
	else
		mgmt_rest_ok(q, account_json(q));
}

void mgmt_rest_dns_settings(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	const mgmt_account_rec *a = mgmt_account_record(q->who.account);

	(void)arg;
	if (mgmt_rest_permit(q, MGMT_MOD_DNS, MGMT_OP_READ))
		mgmt_rest_ok(q, json_pack("{s:o}", "disabled_management_groups",
					  mgmt_rest_ids(q, a->dns_disabled_groups, a->n_dns_disabled_groups)));
}

/* ---- users */

/* The dotted ones belong to a product that is not here; dashboards expect stock's whole list. */
static const struct {
	const char *name;
	enum mgmt_module grants_like;
} modules[] = {
	{ "accounts", MGMT_MOD_ACCOUNTS },
	{ "agent_network", MGMT_MOD_SERVICES },
	{ "agent_network.budgets", MGMT_MOD_SERVICES },
	{ "agent_network.guardrails", MGMT_MOD_SERVICES },
	{ "agent_network.logs", MGMT_MOD_SERVICES },
	{ "agent_network.policies", MGMT_MOD_SERVICES },
	{ "agent_network.providers", MGMT_MOD_SERVICES },
	{ "agent_network.settings", MGMT_MOD_SERVICES },
	{ "agent_network.usage", MGMT_MOD_SERVICES },
	{ "dns", MGMT_MOD_DNS },
	{ "events", MGMT_MOD_EVENTS },
	{ "groups", MGMT_MOD_GROUPS },
	{ "identity_providers", MGMT_MOD_IDENTITY_PROVIDERS },
	{ "nameservers", MGMT_MOD_NAMESERVERS },
	{ "networks", MGMT_MOD_NETWORKS },
	{ "pats", MGMT_MOD_PATS },
	{ "peers", MGMT_MOD_PEERS },
	{ "policies", MGMT_MOD_POLICIES },
	{ "remote_jobs", MGMT_MOD_REMOTE_JOBS },
	{ "routes", MGMT_MOD_ROUTES },
	{ "services", MGMT_MOD_SERVICES },
	{ "settings", MGMT_MOD_SETTINGS },
	{ "setup_keys", MGMT_MOD_SETUP_KEYS },
	{ "users", MGMT_MOD_USERS },
};

static json_t *permissions_json(struct mgmt_rest_req *q, const struct mgmt_user *u)
{
	const char *role = mgmt_str(u->rec->role);
	bool billing = strcmp(role, "billing_admin") == 0, plain = billing || strcmp(role, "user") == 0;
	json_t *list = json_object();

	/* billing_admin has no permission set at all. */
	for (size_t i = 0; i < sizeof(modules) / sizeof(*modules) && !billing; i++) {
		enum mgmt_module mod = modules[i].grants_like;

		if (json_object_set_new(list, modules[i].name,
					json_pack("{s:b, s:b, s:b, s:b}", "create",
						  mgmt_role_grants(role, mod, MGMT_OP_CREATE), "delete",
						  mgmt_role_grants(role, mod, MGMT_OP_DELETE), "read",
						  mgmt_role_grants(role, mod, MGMT_OP_READ), "update",
						  mgmt_role_grants(role, mod, MGMT_OP_UPDATE))))
			q->short_of_memory = true;
	}
	return json_pack("{s:b, s:o}", "is_restricted",
			 plain && u->account->rec->settings->regular_users_view_blocked, "modules", list);
}

static json_t *user_json(struct mgmt_rest_req *q, const struct mgmt_user *u, bool permissions)
{
	const mgmt_user_rec *r = u->rec;

	return json_pack("{s:o, s:o, s:o, s:o*, s:b, s:b, s:b, s:o, s:o, s:o, s:b, s:o*, s:o, s:s}",
			 "auto_groups", mgmt_rest_ids(q, r->auto_groups, r->n_auto_groups),
			 "email", mgmt_rest_text(r->email),
			 "id", mgmt_rest_text(r->id),
			 "idp_id", mgmt_rest_optional(q, r->local, json_string("local")),
			 "is_blocked", r->blocked,
			 "is_current", u == q->who.user,
			 "is_service_user", r->service_user,
			 "issued", mgmt_rest_text(r->issued),
			 "last_login", mgmt_rest_time(r->last_login),
			 "name", mgmt_rest_text(r->name),
			 "pending_approval", r->pending_approval,
			 "permissions", permissions ? mgmt_rest_optional(q, true, permissions_json(q, u)) : NULL,
			 "role", mgmt_rest_text(r->role),
			 "status", r->blocked ? "blocked" : "active");
}

/* As Go reads a boolean. -1: it is none. */
static int bool_text(const char *s)
{
	static const char *const yes[] = { "1", "t", "T", "true", "TRUE", "True" };
	static const char *const no[] = { "0", "f", "F", "false", "FALSE", "False" };

	for (size_t i = 0; i < 6; i++) {
		if (strcmp(s, yes[i]) == 0)
			return 1;
		if (strcmp(s, no[i]) == 0)
			return 0;
	}
	return -1;
}

void mgmt_rest_users(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	const char *filter = web_query(call, "service_user");
	int want = filter && *filter ? bool_text(filter) : 2;
	bool all = mgmt_permit(&q->who, MGMT_MOD_USERS, MGMT_OP_READ, &q->e) == 0;
	struct mgmt_lists l;
	json_t *out;

	(void)arg;
	if (!all && !mgmt_rest_only_role(q)) {
		mgmt_rest_fail(q);
		return;
	}
	if (want < 0) {
		mgmt_rest_refuse(q, MGMT_INVALID, "invalid service_user query parameter");
		return;
	}
	out = json_array();
	mgmt_account_lists(q->who.account, &l);
	for (size_t i = 0; i < l.n_users; i++) {
		const mgmt_user_rec *u = l.users[i]->rec;

		if (!u->non_deletable && (all || l.users[i] == q->who.user) && (want == 2 || want == u->service_user))
			mgmt_rest_add(q, out, user_json(q, l.users[i], false));
	}
	mgmt_rest_ok(q, out);
}

void mgmt_rest_user_current(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	const mgmt_user_rec *u = q->who.user->rec;

	(void)arg;
	if (u->pending_approval)
		mgmt_rest_refuse(q, MGMT_DENIED, "user is pending approval");
	else if (u->blocked)
		mgmt_rest_refuse(q, MGMT_DENIED, "user is blocked");
	else if (u->service_user)
		mgmt_rest_refuse(q, MGMT_DENIED, "permission denied");
	else
		mgmt_rest_ok(q, user_json(q, q->who.user, true));
}

/* ---- personal access tokens */

static json_t *token_json(struct mgmt_rest_req *q, const struct mgmt_token *t)
{
	const mgmt_token_rec *r = t->rec;

	return json_pack("{s:o, s:o, s:o, s:o, s:o*, s:o}",
			 "created_at", mgmt_rest_time(r->created),
			 "created_by", mgmt_rest_text(r->created_by),
			 "expiration_date", mgmt_rest_time(r->expires),
			 "id", mgmt_rest_text(r->id),
			 "last_used", mgmt_rest_optional(q, t->last_used, mgmt_rest_time(t->last_used)),
			 "name", mgmt_rest_text(r->name));
}

static bool token_of(const struct mgmt_token *t, const char *user_id)
{
	return strcmp(mgmt_str(t->rec->user_id), user_id) == 0;
}

void mgmt_rest_tokens(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	const char *user = web_param(call, "user");
	struct mgmt_lists l;
	json_t *out;

	(void)arg;
	if (mgmt_token_permit(&q->who, user, MGMT_OP_READ, &q->e)) {
		mgmt_rest_fail(q);
		return;
	}
	out = json_array();
	mgmt_account_lists(q->who.account, &l);
	for (size_t i = 0; i < l.n_tokens; i++)
		if (token_of(l.tokens[i], user))
			mgmt_rest_add(q, out, token_json(q, l.tokens[i]));
	mgmt_rest_ok(q, out);
}

void mgmt_rest_token(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	const char *user = web_param(call, "user");
	struct mgmt_token *t = mgmt_token_get(q->who.account, web_param(call, "id"));

	(void)arg;
	if (mgmt_token_permit(&q->who, user, MGMT_OP_READ, &q->e))
		mgmt_rest_fail(q);
	else if (!t || !token_of(t, user))
		mgmt_rest_refuse(q, MGMT_NOT_FOUND, "PAT: %s not found", web_param(call, "id"));
	else
		mgmt_rest_ok(q, token_json(q, t));
}

void mgmt_rest_token_post(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	char plain[MGMT_TOKEN_TEXT] = "";
	struct mgmt_token *t = NULL;
	const char *name;
	int days;

	(void)arg;
	if (!mgmt_rest_body(q))
		return;
	name = mgmt_rest_string(&q->f, "name", "", MGMT_REST_NAME_MAX);
	days = (int)web_int(&q->f, "expires_in", 0, INT32_MIN, INT32_MAX);
	if (mgmt_rest_bad(q))
		return;
	if (mgmt_token_create(&q->who, web_param(call, "user"), name, days, &t, plain, &q->e))
		mgmt_rest_fail(q);
	else
		mgmt_rest_ok(q, json_pack("{s:o, s:s}", "personal_access_token", token_json(q, t), "plain_token", plain));
	nb_wipe(plain, sizeof(plain));
}

void mgmt_rest_token_delete(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);

	(void)arg;
	if (mgmt_token_delete(&q->who, web_param(call, "user"), web_param(call, "id"), &q->e))
		mgmt_rest_fail(q);
	else
		mgmt_rest_empty(q);
}

/* ---- audit log */

struct events_job {
	struct mgmt_rest_req *q;	/* NULL: the client is gone */
};

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct mgmt_pair *)a)->key, ((const struct mgmt_pair *)b)->key);
}

/* About a user the reader also learns its e-mail and name. */
static json_t *meta_json(struct mgmt_rest_req *q, const mgmt_event_rec *ev)
{
	const struct mgmt_user *target = mgmt_user_get(q->who.account, mgmt_str(ev->target));
	struct mgmt_pair *pairs = calloc(ev->n_meta + 2, sizeof(*pairs));
	json_t *out = json_object();
	size_t n = 0;

	q->short_of_memory |= !pairs;
	for (size_t i = 0; pairs && i < ev->n_meta; i++)
		pairs[n++] = (struct mgmt_pair){ mgmt_str(ev->meta[i]->key), ev->meta[i]->value };
	if (pairs && target) {
		pairs[n++] = (struct mgmt_pair){ "email", target->rec->email };
		pairs[n++] = (struct mgmt_pair){ "username", target->rec->name };
	}
	if (n)
		qsort(pairs, n, sizeof(*pairs), by_key);
	for (size_t i = 0; i < n; i++)
		if (json_object_set_new(out, pairs[i].key, mgmt_rest_text(pairs[i].value)))
			q->short_of_memory = true;
	free(pairs);
	return out;
}

static json_t *event_json(struct mgmt_rest_req *q, const mgmt_event_rec *ev)
{
	const struct mgmt_user *by = mgmt_user_get(q->who.account, mgmt_str(ev->initiator));
	char id[24];

	snprintf(id, sizeof(id), "%llu", (unsigned long long)ev->id);
	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o}",
			 "activity", mgmt_activity_text(ev->activity),
			 "activity_code", mgmt_activity_code(ev->activity),
			 "id", id,
			 "initiator_email", mgmt_rest_text(by ? by->rec->email : ""),
			 "initiator_id", mgmt_rest_text(ev->initiator),
			 "initiator_name", mgmt_rest_text(by ? by->rec->name : ""),
			 "meta", meta_json(q, ev),
			 "target_id", mgmt_rest_text(ev->target),
			 "timestamp", mgmt_rest_time(ev->time));
}

static void events_read(void *arg, int err, mgmt_event_rec *const *ev, size_t n)
{
	struct events_job *job = arg;
	struct mgmt_rest_req *q = job->q;
	json_t *out;

	free(job);
	if (!q)
		return;
	q->job = NULL;
	q->gone = NULL;
	if (err) {
		mgmt_rest_error(q, 500, "internal server error");
		return;
	}
	out = json_array();
	for (size_t i = 0; i < n; i++)
		mgmt_rest_add(q, out, event_json(q, ev[i]));
	mgmt_rest_ok(q, out);
}

static void events_gone(struct mgmt_rest_req *q)
{
	struct events_job *job = q->job;

	job->q = NULL;
}

void mgmt_rest_events(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	struct events_job *job;

	(void)arg;
	if (!mgmt_rest_permit(q, MGMT_MOD_EVENTS, MGMT_OP_READ))
		return;
	job = calloc(1, sizeof(*job));
	if (!job) {
		mgmt_rest_error(q, 500, "internal server error");
		return;
	}
	job->q = q;
	q->job = job;
	q->gone = events_gone;
	mgmt_events_read(q->who.account, EVENTS_MAX, events_read, job);
}
