/* access.c - who may do what: error kinds, roles, and turning a token or claims into an actor.
 * Passwords and signatures are checked elsewhere (src/idp); here only what they mean.
 * management-domain.md sections 0, 1.1, 1.5; rest-api.md sections 2, 6.
 * Tests: tests/unit/mgmt_domain_test.c */
#include "mgmt/mgmt_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define TOKEN_SECRET 30
#define TOKEN_CHECK 6
#define MAX_AGE_DAYS 365
#define BASE62 "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

int mgmt_fail(struct mgmt_error *e, enum mgmt_kind kind, const char *fmt, ...)
{
	va_list ap;

	if (e) {
		e->kind = kind;
		va_start(ap, fmt);
		vsnprintf(e->message, sizeof(e->message), fmt, ap);
		va_end(ap);
	}
	return (int)kind;
}

int mgmt_http_status(enum mgmt_kind kind)
{
	switch (kind) {
	case MGMT_OK:
		return 200;
	case MGMT_USER_EXISTS:
	case MGMT_EXISTS:
		return 409;
	case MGMT_PRECONDITION:
		return 412;
	case MGMT_DENIED:
		return 403;
	case MGMT_NOT_FOUND:
		return 404;
	case MGMT_INVALID:
		return 422;
	case MGMT_UNAUTHORIZED:
		return 401;
	case MGMT_BAD_REQUEST:
		return 400;
	case MGMT_TOO_MANY:
		return 429;
	default:
		return 500;
	}
}

int mgmt_grpc_status(const struct mgmt_error *e, const char **text)
{
	*text = e->message;
	switch (e->kind) {
	case MGMT_DENIED:
	case MGMT_UNAUTHORIZED:
	case MGMT_UNAUTHENTICATED:
		return 7;
	case MGMT_PRECONDITION:
		return 9;
	case MGMT_NOT_FOUND:
		return 5;
	default:
		*text = "failed handling request";
		return 13;
	}
}

/* ---- roles */

#define BIT(mod) (1u << (mod))
#define CRUD_NETWORK_ADMIN \
	(BIT(MGMT_MOD_NETWORKS) | BIT(MGMT_MOD_GROUPS) | BIT(MGMT_MOD_DNS) | BIT(MGMT_MOD_NAMESERVERS) | \
	 BIT(MGMT_MOD_POLICIES) | BIT(MGMT_MOD_ROUTES) | BIT(MGMT_MOD_PATS))
#define READ_NETWORK_ADMIN \
	(BIT(MGMT_MOD_SETTINGS) | BIT(MGMT_MOD_ACCOUNTS) | BIT(MGMT_MOD_EVENTS) | BIT(MGMT_MOD_USERS) | \
	 BIT(MGMT_MOD_SETUP_KEYS) | BIT(MGMT_MOD_PEERS) | BIT(MGMT_MOD_IDENTITY_PROVIDERS))
#define EVERY ((1u << MGMT_MOD_COUNT) - 1)

static const struct role {
	const char *name;
	bool has_set;		/* billing_admin may be written, but has no permission set */
	uint32_t read, write;	/* bits of modules */
} roles[] = {
	{ "owner", true, EVERY, EVERY },
	{ "admin", true, EVERY, EVERY & ~BIT(MGMT_MOD_ACCOUNTS) },
	{ "network_admin", true, CRUD_NETWORK_ADMIN | READ_NETWORK_ADMIN, CRUD_NETWORK_ADMIN },
	{ "auditor", true, EVERY, 0 },
	{ "user", true, 0, 0 },
	{ "billing_admin", false, 0, 0 },
};

static const struct role *role_find(const char *name)
{
	for (size_t i = 0; i < sizeof(roles) / sizeof(*roles); i++)
		if (strcmp(roles[i].name, mgmt_str(name)) == 0)
			return &roles[i];
	return NULL;
}

const char *mgmt_module_name(enum mgmt_module mod)
{
	static const char *const names[MGMT_MOD_COUNT] = {
		"networks", "peers", "remote_jobs", "groups", "settings", "accounts", "dns", "nameservers",
		"events", "policies", "routes", "users", "setup_keys", "pats", "identity_providers", "services",
	};

	return names[mod];
}

bool mgmt_role_known(const char *role)
{
	return role_find(role) != NULL;
}

bool mgmt_role_grants(const char *role, enum mgmt_module mod, enum mgmt_op op)
{
	const struct role *r = role_find(role);

	return r && ((op == MGMT_OP_READ ? r->read : r->write) & BIT(mod));
}

int mgmt_permit(const struct mgmt_actor *who, enum mgmt_module mod, enum mgmt_op op, struct mgmt_error *e)
{
	const mgmt_user_rec *u;
	const struct role *r;

	if (!who->user)
		return 0;
	u = who->user->rec;
	if (u->pending_approval)
		return mgmt_fail(e, MGMT_DENIED, "failed to validate user permissions: user is pending approval");
	if (u->blocked)
		return mgmt_fail(e, MGMT_DENIED, "failed to validate user permissions: user is blocked");
	if (u->service_user && op == MGMT_OP_READ)
		return 0;
	r = role_find(u->role);
	if (!r || !r->has_set)
		return mgmt_fail(e, MGMT_DENIED, "user role not found");
	if (!mgmt_role_grants(u->role, mod, op))
		return mgmt_fail(e, MGMT_DENIED, "permission denied");
	return 0;
}

/* ---- personal access tokens */

static void token_check(char out[TOKEN_CHECK + 1], const char *secret)
{
	uint32_t v = nbc_crc32(0, nb_bytes(secret, TOKEN_SECRET));

	for (int i = TOKEN_CHECK; i-- > 0; v /= 62)
		out[i] = BASE62[v % 62];
	out[TOKEN_CHECK] = '\0';
}

/* Checksums are zero padded; some stock builds pad with blanks. */
static bool token_well_formed(const char *token)
{
	char want[TOKEN_CHECK + 1];

	if (strlen(token) != MGMT_TOKEN_TEXT - 1 || strncmp(token, "nbp_", 4) != 0)
		return false;
	token_check(want, token + 4);
	token += 4 + TOKEN_SECRET;
	for (int i = 0; i < TOKEN_CHECK; i++)
		if (token[i] != want[i] && !(token[i] == ' ' && want[i] == '0' && (i == 0 || token[i - 1] == ' ')))
			return false;
	return true;
}

static void token_hash(char out[NB_BASE64_LEN(32) + 1], const char *token)
{
	uint8_t sum[32];

	nbc_sha256(sum, nb_bytes_str(token));
	nb_base64_encode(out, NB_BASE64_LEN(32) + 1, nb_bytes(sum, sizeof(sum)));
}

int mgmt_actor_by_token(struct mgmt *m, const char *token, struct mgmt_actor *who, struct mgmt_error *e)
{
	char hash[NB_BASE64_LEN(32) + 1];
	struct mgmt_token *t;
	struct mgmt_user *u;

	if (!token_well_formed(token))
		return mgmt_fail(e, MGMT_UNAUTHORIZED, "token invalid");
	token_hash(hash, token);
	t = nb_map_get(&m->token_by_hash, nb_bytes_str(hash));
	u = t && t->rec->expires > m->wall.ns ? mgmt_user_get(t->account, t->rec->user_id) : NULL;
	if (!u)
		return mgmt_fail(e, MGMT_UNAUTHORIZED, "token invalid");
	t->last_used = m->wall.ns;
	*who = (struct mgmt_actor){ t->account, u };
	return 0;
}

struct mgmt_token *mgmt_token_get(const struct mgmt_account *a, const char *id)
{
	return (struct mgmt_token *)mgmt_table_get(&a->t[T_TOKEN], id);
}

int mgmt_token_make(struct mgmt_txn *t, const struct mgmt_user *u, const char *name, int days, const char *creator,
		    struct mgmt_token **out, char plain[MGMT_TOKEN_TEXT])
{
	struct mgmt *m = t->m;
	mgmt_token_rec rec = NESTBOX__TOKEN_RECORD__INIT;
	char id[NBC_XID_TEXT], hash[NB_BASE64_LEN(32) + 1];
	const struct mgmt_pair meta[] = {
		{ "name", name }, { "is_service_user", u->rec->service_user ? "true" : "false" },
		{ "user_name", u->rec->name },
	};

	memcpy(plain, "nbp_", 4);
	nbc_random_text(plain + 4, TOKEN_SECRET, BASE62, m->cfg.random, m->cfg.random_ctx);
	token_check(plain + 4 + TOKEN_SECRET, plain + 4);
	token_hash(hash, plain);
	mgmt_new_id(m, id);
	rec.id = id;
	rec.user_id = u->rec->id;
	rec.name = (char *)name;
	rec.hash = hash;
	rec.created_by = (char *)creator;
	rec.has_created = rec.has_expires = true;
	rec.created = m->wall.ns;
	rec.expires = m->wall.ns + days * 86400 * NB_SEC;
	*out = (struct mgmt_token *)mgmt_put(t, T_TOKEN, NULL, &rec.base);
	mgmt_event(t, 41, creator, u->rec->id, meta, 3);
	return t->err;
}

/* Only for oneself, or by owner and admin for a service user. */
static int token_owner(const struct mgmt_actor *who, const char *user_id, struct mgmt_user **u, struct mgmt_error *e)
{
	const char *role = who->user ? mgmt_str(who->user->rec->role) : "owner";
	bool admin = strcmp(role, "owner") == 0 || strcmp(role, "admin") == 0;

	*u = mgmt_user_get(who->account, user_id);
	if (!*u)
		return mgmt_fail(e, MGMT_NOT_FOUND, "user: %s not found", user_id);
	if (*u != who->user && !((*u)->rec->service_user && admin))
		return mgmt_fail(e, MGMT_DENIED, "admin role required to perform this action");
	return 0;
}

int mgmt_token_permit(const struct mgmt_actor *who, const char *user_id, enum mgmt_op op, struct mgmt_error *e)
{
	struct mgmt_user *u;
	int rc = mgmt_permit(who, MGMT_MOD_PATS, op, e);

	return rc ? rc : token_owner(who, user_id, &u, e);
}

int mgmt_token_create(const struct mgmt_actor *who, const char *user_id, const char *name, int days,
		      struct mgmt_token **out, char plain[MGMT_TOKEN_TEXT], struct mgmt_error *e)
{
	struct mgmt_txn *t;
	struct mgmt_user *u;
	int rc = mgmt_permit(who, MGMT_MOD_PATS, MGMT_OP_CREATE, e);

	if (rc)
		return rc;
	if (!*mgmt_str(name))
		return mgmt_fail(e, MGMT_INVALID, "name can't be empty");
	if (days < 1 || days > MAX_AGE_DAYS)
		return mgmt_fail(e, MGMT_INVALID, "expiration has to be between 1 and 365");
	rc = token_owner(who, user_id, &u, e);
	if (rc)
		return rc;
	if (mgmt_begin(&t, who->account->m, who->account))
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	mgmt_token_make(t, u, name, days, mgmt_who(who), out, plain);
	return mgmt_commit(t, e);
}

int mgmt_token_delete(const struct mgmt_actor *who, const char *user_id, const char *id, struct mgmt_error *e)
{
	struct mgmt_token *tok;
	struct mgmt_txn *t;
	struct mgmt_user *u;
	int rc = mgmt_permit(who, MGMT_MOD_PATS, MGMT_OP_DELETE, e);

	if (rc == 0)
		rc = token_owner(who, user_id, &u, e);
	if (rc)
		return rc;
	tok = mgmt_token_get(who->account, id);
	if (!tok || strcmp(tok->rec->user_id, user_id) != 0)
		return mgmt_fail(e, MGMT_NOT_FOUND, "pat: %s not found", id);
	if (mgmt_begin(&t, who->account->m, who->account))
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	mgmt_event(t, 42, mgmt_who(who), user_id,
		   (const struct mgmt_pair[]){ { "name", tok->rec->name },
					       { "is_service_user", u->rec->service_user ? "true" : "false" },
					       { "user_name", u->rec->name } },
		   3);
	mgmt_drop(t, T_TOKEN, (struct mgmt_item *)tok);
	return mgmt_commit(t, e);
}

/* ---- users */

struct mgmt_user *mgmt_user_get(const struct mgmt_account *a, const char *id)
{
	return (struct mgmt_user *)mgmt_table_get(&a->t[T_USER], id);
}

struct mgmt_user *mgmt_user_by_email(const struct mgmt *m, const char *email)
{
	char mail[320];
	size_t n = 0;

	for (; email[n] && n + 1 < sizeof(mail); n++)
		mail[n] = (char)(email[n] >= 'A' && email[n] <= 'Z' ? email[n] + 32 : email[n]);
	mail[n] = '\0';
	return nb_map_get(&m->user_by_email, nb_bytes_str(mail));
}

void mgmt_user_signed_in(struct mgmt_user *u, struct nb_wall when)
{
	mgmt_user_rec rec = *u->rec;
	char text[NB_RFC3339_CAP];
	struct mgmt_txn *t;

	if (rec.last_login == when.ns || mgmt_begin(&t, u->account->m, u->account))
		return;
	rec.has_last_login = true;
	rec.last_login = when.ns;
	nb_wall_format(text, when);
	mgmt_put(t, T_USER, (struct mgmt_item *)u, &rec.base);
	mgmt_event(t, 51, rec.id, rec.id, (const struct mgmt_pair[]){ { "timestamp", text } }, 1);
	mgmt_commit(t, NULL);
}

int mgmt_user_set_password(struct mgmt_user *u, const char *hash, struct mgmt_error *e)
{
	mgmt_user_rec rec = *u->rec;
	Nestbox__LocalLogin local = NESTBOX__LOCAL_LOGIN__INIT;
	struct mgmt_txn *t;

	if (!rec.local)
		return mgmt_fail(e, MGMT_PRECONDITION, "user has no local password");
	if (mgmt_begin(&t, u->account->m, u->account))
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	local.hash = (char *)hash;
	local.has_changed = true;
	local.changed = u->account->m->wall.ns;
	rec.local = &local;
	mgmt_put(t, T_USER, (struct mgmt_item *)u, &rec.base);
	mgmt_event(t, 103, rec.id, rec.id, NULL, 0);
	return mgmt_commit(t, e);
}

/* A user seen for the first time joins the account as "user"; without any account one is made. */
static int user_join(struct mgmt *m, const struct mgmt_claims *c, struct mgmt_actor *who, struct mgmt_error *e)
{
	struct mgmt_account *a = mgmt_first_account(m);
	mgmt_user_rec rec = NESTBOX__USER_RECORD__INIT;
	struct mgmt_seed seed = { .owner_id = c->user_id, .email = c->email, .name = c->name };
	struct mgmt_txn *t;
	int rc;

	if (!a) {
		rc = mgmt_account_create(m, &seed, NULL, &a, e);
		if (rc)
			return rc;
		*who = (struct mgmt_actor){ a, mgmt_user_get(a, c->user_id) };
		return 0;
	}
	if (mgmt_begin(&t, m, a))
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	rec.id = (char *)c->user_id;
	rec.role = "user";
	rec.email = (char *)c->email;
	rec.name = (char *)c->name;
	rec.issued = "api";
	rec.has_created = true;
	rec.created = m->wall.ns;
	rec.has_blocked = rec.has_pending_approval = a->rec->settings->user_approval_required;
	rec.blocked = rec.pending_approval = rec.has_blocked;
	who->account = a;
	who->user = (struct mgmt_user *)mgmt_put(t, T_USER, NULL, &rec.base);
	mgmt_event(t, 2, c->user_id, c->user_id,
		   (const struct mgmt_pair[]){ { "pending_approval", rec.blocked ? "true" : "false" } }, 1);
	return mgmt_commit(t, e);
}

static bool claims_allowed(const mgmt_settings_rec *s, const struct mgmt_claims *c)
{
	if (c->local || !s->jwt_groups_enabled || s->n_jwt_allow_groups == 0)
		return true;
	for (size_t i = 0; i < c->n_groups; i++)
		if (mgmt_has(s->jwt_allow_groups, s->n_jwt_allow_groups, c->groups[i]))
			return true;
	return false;
}

int mgmt_actor_by_claims(struct mgmt *m, const struct mgmt_claims *c, struct mgmt_actor *who, struct mgmt_error *e)
{
	struct mgmt_user *u = nb_map_get(&m->user_by_id, nb_bytes_str(c->user_id));
	int rc;

	*who = (struct mgmt_actor){ u ? u->account : NULL, u };
	if (!u) {
		rc = user_join(m, c, who, e);
		if (rc)
			return rc;
	}
	if (!claims_allowed(who->account->rec->settings, c))
		return mgmt_fail(e, MGMT_DENIED, "user does not belong to any of the allowed JWT groups");
	return 0;
}
