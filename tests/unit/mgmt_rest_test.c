/* mgmt_rest_test.c - src/mgmt/rest*.c with the real control plane behind it: answers against recorded ones of
 * stock, permissions, refusals, waiting for the disk and for hashes, clients that leave. */
#include "rest_help.h"

#include "mgmt/rest_int.h"
#include "store/store.h"

/* ---- recorded answers */

static const char *list_key(struct rest_world *r, const char *name)
{
	size_t i;
	json_t *v;

	assert_int_equal(rest_go(r, "GET", "/api/setup-keys", NULL), 200);
	json_array_foreach(r->json, i, v)
		if (!strcmp(json_string_value(json_object_get(v, "name")), name))
			return json_string_value(json_object_get(v, "id"));
	fail_msg("no key %s", name);
	return NULL;
}

static void delete_key(struct rest_world *r, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/api/setup-keys/%s", list_key(r, name));
	assert_int_equal(rest_go(r, "DELETE", path, "\"\""), 200);
	assert_string_equal(r->body, "{}\n");
}

static void post_key(struct rest_world *r, const char *body, char plain[40])
{
	test_pass(&r->w, NB_SEC / 10 + 1);
	assert_int_equal(rest_go(r, "POST", "/api/setup-keys", body), 200);
	if (plain)
		snprintf(plain, 40, "%s", rest_str(r, "key"));
}

/* A peer as the recorded clients described themselves. */
static struct mgmt_peer *join(struct rest_world *r, uint8_t n, const char *host, const char *key, const char *from)
{
	Management__PeerSystemMeta meta;
	Management__Flags flags = MANAGEMENT__FLAGS__INIT;
	uint8_t wg[NB_KEY_LEN];
	struct mgmt_login l = { .key = wg, .meta = &meta, .setup_key = key, .from = from };
	struct mgmt_peer *p = NULL;
	struct mgmt_error e = { 0 };

	memset(wg, n, sizeof(wg));
	test_meta(&meta, host);
	meta.os = "Debian GNU/Linux";
	meta.osversion = "12";
	meta.kernelversion = "6.18.44-fc-v669";
	meta.flags = &flags;
	test_pass(&r->w, NB_SEC / 7);
	if (mgmt_peer_login(r->w.m, &l, &p, &e))
		fail_msg("join: %s", e.message);
	mgmt_peer_connected(p, r->w.wall.ns);
	return p;
}

/* The recorded lab: three keys, two peers. */
static void lab(struct rest_world *r, bool durable, struct mgmt_peer *peer[2])
{
	char plain[40];

	rest_world(r, durable);
	delete_key(r, "Default key");
	delete_key(r, "One-off key");
	post_key(r, "{\"name\":\"reusable-key\",\"type\":\"reusable\",\"expires_in\":86400,\"auto_groups\":[],"
		    "\"usage_limit\":0,\"ephemeral\":false}", plain);
	post_key(r, "{\"name\":\"second\",\"type\":\"one-off\",\"expires_in\":86400,\"auto_groups\":[],\"usage_limit\":1,"
		    "\"ephemeral\":true}", NULL);
	rest_like(r, "POST_setup-keys");
	post_key(r, "{\"name\":\"bad\",\"type\":\"reusable\",\"expires_in\":1,\"auto_groups\":[],\"usage_limit\":0}", NULL);
	assert_int_equal(rest_go(r, "GET", "/api/peers", NULL), 200);
	rest_like(r, "GET_peers-empty");
	test_pass(&r->w, 2 * NB_SEC);
	peer[0] = join(r, 1, "a", plain, "203.0.113.11");
	peer[1] = join(r, 2, "b", plain, "203.0.113.12");
}

static void replace(char *text, const char *from, const char *to)
{
	char *at = strstr(text, from);

	assert_non_null(at);
	memmove(at + strlen(to), at + strlen(from), strlen(at + strlen(from)) + 1);
	memcpy(at, to, strlen(to));
}

static void same(struct rest_world *r, const char *target, const char *name)
{
	rest_go(r, "GET", target, NULL);
	rest_like(r, name);
}

static void test_recorded_lists(void **state)
{
	struct rest_world r;
	struct mgmt_peer *peer[2];

	(void)state;
	lab(&r, false, peer);
	same(&r, "/api/instance", "GET_instance");
	same(&r, "/api/peers", "GET_peers");
	same(&r, "/api/groups", "GET_groups-two");
	same(&r, "/api/groups?name=All", "GET_groups-two");
	same(&r, "/api/policies", "GET_policies");
	same(&r, "/api/setup-keys", "GET_setup-keys-used");
	same(&r, "/api/users", "GET_users");
	same(&r, "/api/users?service_user=false", "GET_users");
	same(&r, "/api/users/current", "GET_users_current");
	same(&r, "/api/routes", "GET_routes");
	same(&r, "/api/dns/settings", "GET_dns_settings");
	same(&r, "/api/locations/countries", "GET_locations_countries");
	rest_go(&r, "GET", "/api/accounts", NULL);
	/* The recorded account was made without its domain, which stock writes at the first sign-in. */
	replace(r.body, "\"domain\":\"netbird.selfhosted\",\"domain_category\":\"private\"",
		"\"domain\":\"\",\"domain_category\":\"\"");
	rest_like(&r, "GET_accounts");
	rest_world_end(&r);
}

static void test_recorded_peer(void **state)
{
	struct rest_world r;
	struct mgmt_peer *peer[2];
	char path[80];

	(void)state;
	lab(&r, false, peer);
	snprintf(path, sizeof(path), "/api/peers/%s", peer[0]->rec->id);
	same(&r, path, "GET_peers_id");
	rest_go(&r, "PUT", path, "{\"name\":\"a-renamed\",\"ssh_enabled\":false,\"login_expiration_enabled\":false,"
				 "\"inactivity_expiration_enabled\":false}");
	rest_like(&r, "PUT_peer");
	snprintf(path, sizeof(path), "/api/peers/%s/accessible-peers", peer[0]->rec->id);
	same(&r, path, "GET_peers_accessible");
	rest_world_end(&r);
}

static void test_recorded_refusals(void **state)
{
	struct rest_world r;
	char *want;
	int status;

	(void)state;
	rest_world(&r, false);
	same(&r, "/api/nosuch", "GET_nosuch");
	same(&r, "/api/peers/nosuchpeer", "GET_peers_nosuchpeer");
	assert_non_null(strstr(r.headers, "content-type: application/json; charset=UTF-8\n"));
	assert_non_null(strstr(r.headers, "x-request-id: "));
	assert_non_null(strstr(r.headers, "vary: Origin\n"));
	assert_non_null(strstr(r.headers, "date: Thu, 01 Jan 2026 00:00:00 GMT\n"));
	rest_go(&r, "POST", "/api/setup", "{\"email\":\"x@example.com\",\"password\":\"lab-Password-1\",\"name\":\"X\"}");
	rest_like(&r, "POST_setup-again");
	/* Ours says where the JSON is broken, behind stock's words. */
	assert_int_equal(rest_go(&r, "POST", "/api/setup-keys", "{"), 400);
	want = rest_recorded("POST_setup-keys-bad-json", &status);
	assert_int_equal(status, 400);
	assert_int_equal(strncmp(want, r.body, strlen("{\"message\":\"couldn't parse JSON request")), 0);
	free(want);
	r.token = NULL;
	same(&r, "/api/peers", "GET_peers-noauth");
	same(&r, "/api/nosuch", "GET_nosuch");
	assert_null(strstr(r.headers, "x-request-id"));
	r.token = "nbp_wrong";
	same(&r, "/api/peers", "GET_peers-badtoken");
	rest_world_end(&r);
}

static void test_recorded_preflight(void **state)
{
	const struct web_header ask[] = {
		{ nb_bytes_str("origin"), nb_bytes_str("http://x.example") },
		{ nb_bytes_str("access-control-request-method"), nb_bytes_str("GET") },
	};
	struct rest_world r;

	(void)state;
	rest_world(&r, false);
	r.token = NULL;
	rest_go_with(&r, "OPTIONS", "/api/peers", NULL, ask, 2);
	rest_like(&r, "OPTIONS_peers");
	assert_non_null(strstr(r.headers, "access-control-allow-methods: GET\n"));
	assert_non_null(strstr(r.headers, "access-control-allow-origin: *\n"));
	assert_non_null(strstr(r.headers, "x-request-id: "));
	assert_int_equal(rest_go(&r, "PATCH", "/api/peers", NULL), 405);
	assert_string_equal(r.body, "");
	rest_world_end(&r);
}

/* The event of a list with this code and, unless NULL, this name. */
static json_t *find_event(json_t *list, const char *code, const char *name)
{
	size_t i;
	json_t *v;

	json_array_foreach(list, i, v) {
		const char *n = json_string_value(json_object_get(json_object_get(v, "meta"), "name"));

		if (!strcmp(json_string_value(json_object_get(v, "activity_code")), code) &&
		    (!name || (n && !strcmp(n, name)))) {
			json_object_del(v, "id");
			return v;
		}
	}
	fail_msg("no event %s %s", code, name ? name : "");
	return NULL;
}

static void test_recorded_events(void **state)
{
	static const char *const rows[][2] = {
		{ "account.create", NULL },	   { "setupkey.add", "reusable-key" }, { "setupkey.add", "second" },
		{ "peer.setupkey.add", "a" },	   { "peer.setupkey.add", "b" },
		{ "personal.access.token.create", "setup-token" },
	};
	struct rest_world r;
	struct mgmt_peer *peer[2];
	int status;
	char *text;
	json_t *want;

	(void)state;
	lab(&r, true, peer);
	text = rest_recorded("GET_events_audit-two", &status);
	want = json_loads(text, 0, NULL);
	assert_non_null(want);
	assert_int_equal(rest_go(&r, "GET", "/api/events", NULL), 200);
	assert_int_equal(rest_go(&r, "GET", "/api/events/audit", NULL), 200);
	/* Newest first. */
	assert_string_equal(json_string_value(json_object_get(json_array_get(r.json, 0), "activity_code")),
			    "peer.setupkey.add");
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		char *a = json_dumps(find_event(want, rows[i][0], rows[i][1]), JSON_COMPACT);
		char *b = json_dumps(find_event(r.json, rows[i][0], rows[i][1]), JSON_COMPACT);

		rest_mask(a);
		rest_mask(b);
		/* Stock forgot its own user's name here. */
		if (!strcmp(rows[i][0], "personal.access.token.create"))
			replace(a, "\"user_name\":\"\"", "\"user_name\":\"Owner\"");
		assert_string_equal(b, a);
		free(a);
		free(b);
	}
	json_decref(want);
	free(text);
	rest_world_end(&r);
}

/* ---- setup */

static void bare_world(struct rest_world *r, void (*hash)(void *, struct mgmt_rest_hash *), void *ctx)
{
	struct mgmt_rest_config cfg = { .hash_kib = 8, .hash_passes = 1, .hash = hash, .ctx = ctx };
	struct mgmt_error e = { 0 };

	memset(r, 0, sizeof(*r));
	nbc_init();
	r->w.cfg.random = test_random;
	r->w.cfg.map_seed = nb_bytes("a seed for tests", 16);
	r->w.now.ns = NB_SEC;
	r->w.wall.ns = T0 * NB_SEC;
	assert_int_equal(mgmt_new(&r->w.m, &r->w.cfg, NULL, r->w.now, r->w.wall, &e), 0);
	cfg.m = r->w.m;
	assert_int_equal(mgmt_rest_new(&r->rest, &cfg), 0);
	r->from = "2001:db8::7";
}

#define SETUP "{\"email\":\"owner@example.com\",\"password\":\"lab-Password-1\",\"name\":\"Owner\"," \
	      "\"create_pat\":true,\"pat_expire_in\":365,\"unknown\":[1]}"

static void test_setup(void **state)
{
	static const struct {
		const char *body;
		int status;
		const char *message;
	} bad[] = {
		{ "{\"email\":\"\",\"password\":\"12345678\",\"name\":\"X\"}", 422, "email is required" },
		{ "{\"password\":\"12345678\",\"name\":\"X\"}", 422, "email is required" },
		{ "{\"email\":\"x\",\"password\":\"12345678\",\"name\":\"X\"}", 422, "invalid email format" },
		{ "{\"email\":\"x@y\",\"password\":\"12345678\"}", 422, "name is required" },
		{ "{\"email\":\"x@y\",\"name\":\"X\"}", 422, "password is required" },
		{ "{\"email\":\"x@y\",\"password\":\"1234567\",\"name\":\"X\"}", 422,
		  "password must be at least 8 characters" },
		{ "{\"email\":\"x@y\",\"password\":\"" "123456789012345678901234567890123456789012345678901234567890"
		  "1234567890123\",\"name\":\"X\"}", 422, "password must be at most 72 characters" },
		{ "{\"email\":\"x@y\",\"password\":\"12345678\",\"name\":\"X\",\"create_pat\":true,\"pat_expire_in\":366}",
		  422, "pat_expire_in must be between 1 and 365" },
		{ "{\"email\":\"x@y\",\"password\":\"12345678\",\"name\":\"X\",\"create_pat\":true,\"pat_expire_in\":0}",
		  422, "pat_expire_in must be between 1 and 365" },
		{ "{\"email\":7}", 400, "couldn't parse JSON request: field email must be a string" },
		{ "{\"create_pat\":\"yes\"}", 400, "couldn't parse JSON request: field create_pat must be true or false" },
		{ "[]", 400, "couldn't parse JSON request: an object is expected" },
		{ "", 400, "couldn't parse JSON request: the body is empty" },
	};
	struct rest_world r;
	char token[64], key[40];
	const json_t *keys;

	(void)state;
	bare_world(&r, NULL, NULL);
	rest_go(&r, "GET", "/api/instance", NULL);
	assert_string_equal(r.body, "{\"setup_required\":true}\n");
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(rest_go(&r, "POST", "/api/setup", bad[i].body), bad[i].status);
		assert_string_equal(rest_str(&r, "message"), bad[i].message);
		assert_int_equal(json_integer_value(json_object_get(r.json, "code")), bad[i].status);
	}
	assert_int_equal(rest_go(&r, "POST", "/api/setup", SETUP), 200);
	assert_non_null(strstr(r.headers, "cache-control: no-store\n"));
	assert_string_equal(rest_str(&r, "email"), "owner@example.com");
	assert_int_equal(strlen(rest_str(&r, "user_id")), 36);
	snprintf(token, sizeof(token), "%s", rest_str(&r, "personal_access_token"));
	assert_int_equal(strlen(token), 40);
	keys = json_object_get(r.json, "setup_keys");
	assert_int_equal(json_array_size(keys), 2);
	assert_string_equal(json_string_value(json_object_get(json_array_get(keys, 0), "type")), "reusable");
	assert_string_equal(json_string_value(json_object_get(json_array_get(keys, 1), "type")), "one-off");
	snprintf(key, sizeof(key), "%s", json_string_value(json_object_get(json_array_get(keys, 0), "key")));
	/* What was told works. */
	r.w.a = mgmt_first_account(r.w.m);
	test_join(&r.w, 1, "host", key);
	r.token = token;
	assert_int_equal(rest_go(&r, "GET", "/api/users/current", NULL), 200);
	rest_go(&r, "GET", "/api/instance", NULL);
	assert_string_equal(r.body, "{\"setup_required\":false}\n");
	assert_int_equal(nbc_password_verify(mgmt_user_by_email(r.w.m, "Owner@example.com")->rec->local->hash,
					     nb_bytes_str("lab-Password-1")), 0);
	assert_int_equal(rest_go(&r, "POST", "/api/setup", SETUP), 412);
	rest_world_end(&r);
}

struct worker {
	struct mgmt_rest_hash *job[8];
	size_t n;
};

static void take_job(void *ctx, struct mgmt_rest_hash *job)
{
	struct worker *w = ctx;

	w->job[w->n++] = job;
}

static void do_job(struct worker *w, size_t i)
{
	mgmt_rest_hash_run(w->job[i]);
	mgmt_rest_hashed(w->job[i]);
}

static void test_setup_waits(void **state)
{
	struct worker w = { .n = 0 };
	struct rest_world r, other;
	struct web_call *call;

	(void)state;
	bare_world(&r, take_job, &w);
	/* A client that leaves takes its setup with it. */
	call = rest_start(&r, "POST", "/api/setup", SETUP);
	mgmt_rest_request(r.rest, call);
	assert_int_equal(w.n, 1);
	call->on_gone(call);
	web_call_fini(call);
	free(call);
	do_job(&w, 0);
	assert_true(mgmt_setup_required(r.w.m));
	/* Of two at a time one wins. */
	memset(&other, 0, sizeof(other));
	other.w = r.w;
	other.rest = r.rest;
	other.from = "192.0.2.99";
	assert_int_equal(rest_go(&r, "POST", "/api/setup", SETUP), 0);
	assert_int_equal(rest_go(&other, "POST", "/api/setup", SETUP), 0);
	assert_int_equal(w.n, 3);
	do_job(&w, 2);
	assert_int_equal(other.status, 200);
	do_job(&w, 1);
	assert_int_equal(r.status, 412);
	json_decref(other.json);
	free(other.body);
	rest_world_end(&r);
}

static void no_worker(void *ctx, struct mgmt_rest_hash *job)
{
	(void)ctx;
	job->err = NB_E_NOMEM;
	mgmt_rest_hashed(job);
}

static void test_setup_without_worker(void **state)
{
	struct rest_world r;

	(void)state;
	bare_world(&r, no_worker, NULL);
	assert_int_equal(rest_go(&r, "POST", "/api/setup", SETUP), 500);
	assert_string_equal(rest_str(&r, "message"), "internal server error");
	assert_true(mgmt_setup_required(r.w.m));
	rest_world_end(&r);
}

static void test_setup_limits(void **state)
{
	struct worker w = { .n = 0 };
	struct rest_world r;
	struct web_call *call[8];
	size_t n = 0;

	(void)state;
	bare_world(&r, take_job, &w);
	/* No more than a few hashes may wait. */
	for (; n < 4; n++) {
		call[n] = rest_start(&r, "POST", "/api/setup", SETUP);
		mgmt_rest_request(r.rest, call[n]);
		assert_int_equal(r.status, 0);
	}
	assert_int_equal(rest_go(&r, "POST", "/api/setup", SETUP), 429);
	assert_string_equal(rest_str(&r, "message"), "rate limit exceeded, please try again later");
	for (size_t i = 0; i < n; i++) {
		call[i]->on_gone(call[i]);
		web_call_fini(call[i]);
		free(call[i]);
		do_job(&w, i);
	}
	/* The source is known by its network, and forgiven with time. */
	r.from = "2001:db8::ffff";
	w.n = 0;
	assert_int_equal(rest_go(&r, "POST", "/api/setup", SETUP), 0);
	do_job(&w, 0);
	assert_int_equal(r.status, 200);
	rest_world_end(&r);
}

static void test_limiter(void **state)
{
	static struct mgmt_rest_limit l = { .every_ns = NB_SEC, .burst = 3 };
	struct nb_endpoint a = { .addr = { .family = 6, .ip = { 0x20, 1, 0xd, 0xb8 } } }, b = a;
	struct nb_time now = { 5 * NB_SEC };
	uint8_t ka[16], kb[16];

	(void)state;
	/* A /64 is one source; an IPv4 address is the same however it is written. */
	b.addr.ip[15] = 9;
	mgmt_rest_source(ka, &a);
	mgmt_rest_source(kb, &b);
	assert_memory_equal(ka, kb, 16);
	b.addr.ip[7] = 1;
	mgmt_rest_source(kb, &b);
	assert_memory_not_equal(ka, kb, 16);
	nb_addr_parse(&a.addr, "::ffff:1.2.3.4");
	nb_addr_parse(&b.addr, "1.2.3.4");
	mgmt_rest_source(ka, &a);
	mgmt_rest_source(kb, &b);
	assert_memory_equal(ka, kb, 16);
	kb[0] ^= 1;
	for (int i = 0; i < 3; i++)
		assert_true(mgmt_rest_allow(&l, ka, now));
	assert_false(mgmt_rest_allow(&l, ka, now));
	assert_true(mgmt_rest_allow(&l, kb, now));
	now.ns += NB_SEC;
	assert_true(mgmt_rest_allow(&l, ka, now));
	assert_false(mgmt_rest_allow(&l, ka, now));
	/* Many others push out the ones with the least record, not the worst. */
	for (unsigned i = 0; i < 4 * MGMT_REST_SLOTS; i++) {
		uint8_t k[16] = { 0 };

		nb_put_be32(k + 4, i + 1);
		assert_true(mgmt_rest_allow(&l, k, now));
	}
	assert_false(mgmt_rest_allow(&l, ka, now));
	now.ns += 60 * NB_SEC;
	for (int i = 0; i < 3; i++)
		assert_true(mgmt_rest_allow(&l, ka, now));
	assert_false(mgmt_rest_allow(&l, ka, now));
}

/* ---- who may do what */

struct guest {
	char id[24], token[MGMT_TOKEN_TEXT];
};

static void add_user(struct rest_world *r, struct guest *g, const char *role, bool service, bool blocked, bool pending)
{
	static int n;
	mgmt_user_rec rec = NESTBOX__USER_RECORD__INIT;
	struct mgmt_token *tok;
	struct mgmt_user *u;
	struct mgmt_txn *t;

	snprintf(g->id, sizeof(g->id), "guest-%d", ++n);
	rec.id = g->id;
	rec.role = (char *)role;
	rec.name = "Guest";
	rec.issued = "api";
	rec.service_user = service;
	rec.blocked = blocked;
	rec.pending_approval = pending;
	assert_int_equal(mgmt_begin(&t, r->w.m, r->w.a), 0);
	u = (struct mgmt_user *)mgmt_put(t, T_USER, NULL, &rec.base);
	assert_int_equal(mgmt_token_make(t, u, "t", 1, g->id, &tok, g->token), 0);
	assert_int_equal(mgmt_commit(t, NULL), 0);
}

static void test_roles(void **state)
{
	static const char *const targets[] = {
		"GET /api/setup-keys", "POST /api/setup-keys", "GET /api/peers", "GET /api/groups", "POST /api/groups",
		"GET /api/policies", "GET /api/users", "GET /api/users/current", "GET /api/accounts", "GET /api/events",
		"PUT /api/accounts/X", "GET /api/routes", "GET /api/instance/version",
	};
	static const struct {
		const char *role;
		bool service;
		int status[13];
	} rows[] = {
		{ "owner", false, { 200, 422, 200, 200, 422, 200, 200, 200, 200, 200, 422, 200, 200 } },
		{ "admin", false, { 200, 422, 200, 200, 422, 200, 200, 200, 200, 200, 422, 200, 200 } },
		{ "network_admin", false, { 200, 422, 200, 200, 422, 200, 200, 200, 200, 200, 422, 200, 200 } },
		{ "auditor", false, { 200, 422, 200, 200, 403, 200, 200, 200, 200, 200, 422, 200, 200 } },
		{ "user", false, { 403, 422, 200, 403, 403, 403, 200, 200, 403, 403, 422, 403, 200 } },
		{ "user", true, { 200, 422, 200, 200, 403, 200, 200, 403, 200, 200, 422, 200, 200 } },
		{ "billing_admin", false, { 403, 422, 403, 403, 403, 403, 403, 200, 403, 403, 422, 403, 200 } },
	};
	struct rest_world r;

	(void)state;
	rest_world(&r, false);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct guest g;

		add_user(&r, &g, rows[i].role, rows[i].service, false, false);
		r.token = g.token;
		for (size_t k = 0; k < 13; k++) {
			char method[8], path[64];

			sscanf(targets[k], "%7s %63s", method, path);
			if (strchr(path, 'X'))
				snprintf(path, sizeof(path), "/api/accounts/%s", r.w.a->rec->id);
			rest_go(&r, method, path, strchr("P", *method) ? "{\"name\":\"\",\"settings\":{}}" : NULL);
			if (r.status != rows[i].status[k] && !(r.status == 403 && rows[i].status[k] == 422))
				fail_msg("%s %s: %d %s", rows[i].role, targets[k], r.status, r.body);
		}
	}
	rest_world_end(&r);
}

static void test_role_writes(void **state)
{
	static const struct {
		const char *role;
		int key, group, settings;
	} rows[] = {
		{ "admin", 200, 200, 200 }, { "network_admin", 403, 200, 403 }, { "auditor", 403, 403, 403 },
		{ "user", 403, 403, 403 }, { "billing_admin", 403, 403, 403 },
	};
	struct rest_world r;
	char path[64], group[32];

	(void)state;
	rest_world(&r, false);
	snprintf(path, sizeof(path), "/api/accounts/%s", r.w.a->rec->id);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct guest g;

		add_user(&r, &g, rows[i].role, false, false, false);
		r.token = g.token;
		snprintf(group, sizeof(group), "{\"name\":\"g%zu\"}", i);
		assert_int_equal(rest_go(&r, "POST", "/api/setup-keys", "{\"name\":\"k\",\"type\":\"reusable\"}"),
				 rows[i].key);
		assert_int_equal(rest_go(&r, "POST", "/api/groups", group), rows[i].group);
		assert_int_equal(rest_go(&r, "PUT", path, "{\"settings\":{\"peer_login_expiration\":86400}}"),
				 rows[i].settings);
	}
	rest_world_end(&r);
}

static void test_blocked(void **state)
{
	struct rest_world r;
	struct guest blocked, pending;

	(void)state;
	rest_world(&r, false);
	add_user(&r, &blocked, "admin", false, true, false);
	add_user(&r, &pending, "user", false, true, true);
	r.token = blocked.token;
	assert_int_equal(rest_go(&r, "GET", "/api/peers", NULL), 403);
	assert_string_equal(rest_str(&r, "message"), "failed to validate user permissions: user is blocked");
	assert_int_equal(rest_go(&r, "GET", "/api/users", NULL), 403);
	assert_int_equal(rest_go(&r, "GET", "/api/users/current", NULL), 403);
	assert_string_equal(rest_str(&r, "message"), "user is blocked");
	assert_int_equal(rest_go(&r, "POST", "/api/groups", "{\"name\":\"g\"}"), 403);
	r.token = pending.token;
	assert_int_equal(rest_go(&r, "GET", "/api/peers", NULL), 403);
	assert_string_equal(rest_str(&r, "message"), "failed to validate user permissions: user is pending approval");
	assert_int_equal(rest_go(&r, "GET", "/api/users/current", NULL), 403);
	assert_string_equal(rest_str(&r, "message"), "user is pending approval");
	rest_world_end(&r);
}

static void test_own_peers(void **state)
{
	struct rest_world r;
	struct guest g;
	mgmt_settings_rec set;
	mgmt_peer_rec rec;
	struct mgmt_peer *mine, *other;
	struct mgmt_txn *t;
	struct mgmt_error e;
	char path[64];

	(void)state;
	rest_world(&r, false);
	mine = test_join(&r.w, 1, "mine", r.w.seed.keys[0].key);
	other = test_join(&r.w, 2, "other", r.w.seed.keys[0].key);
	add_user(&r, &g, "user", false, false, false);
	rec = *mine->rec;
	rec.user_id = g.id;
	assert_int_equal(mgmt_begin(&t, r.w.m, r.w.a), 0);
	mgmt_put(t, T_PEER, (struct mgmt_item *)mine, &rec.base);
	assert_int_equal(mgmt_commit(t, NULL), 0);
	r.token = g.token;
	/* View blocked, the default: nothing in lists. */
	assert_int_equal(rest_go(&r, "GET", "/api/peers", NULL), 200);
	assert_string_equal(r.body, "[]\n");
	snprintf(path, sizeof(path), "/api/peers/%s/accessible-peers", mine->rec->id);
	assert_int_equal(rest_go(&r, "GET", path, NULL), 200);
	assert_string_equal(r.body, "[]\n");
	set = *r.w.a->rec->settings;
	set.regular_users_view_blocked = false;
	assert_int_equal(mgmt_settings_update(&r.w.owner, &set, &e), 0);
	assert_int_equal(rest_go(&r, "GET", "/api/peers", NULL), 200);
	assert_int_equal(json_array_size(r.json), 1);
	assert_true(json_is_null(json_object_get(json_array_get(r.json, 0), "groups")));
	assert_int_equal(rest_go(&r, "GET", path, NULL), 200);
	assert_int_equal(json_array_size(r.json), 1);
	snprintf(path, sizeof(path), "/api/peers/%s", mine->rec->id);
	assert_int_equal(rest_go(&r, "GET", path, NULL), 200);
	snprintf(path, sizeof(path), "/api/peers/%s", other->rec->id);
	assert_int_equal(rest_go(&r, "GET", path, NULL), 403);
	assert_int_equal(rest_go(&r, "GET", "/api/peers/zz", NULL), 403);
	assert_int_equal(rest_go(&r, "GET", "/api/peers/zz/accessible-peers", NULL), 404);
	assert_int_equal(rest_go(&r, "GET", "/api/users", NULL), 200);
	assert_int_equal(json_array_size(r.json), 1);
	assert_string_equal(json_string_value(json_object_get(json_array_get(r.json, 0), "id")), g.id);
	/* And a plain user has no say in tokens, not even in his own. */
	snprintf(path, sizeof(path), "/api/users/%s/tokens", g.id);
	assert_int_equal(rest_go(&r, "POST", path, "{\"name\":\"x\",\"expires_in\":1}"), 403);
	rest_world_end(&r);
}

static void test_credentials(void **state)
{
	struct rest_world r;
	char text[4][64];
	const struct {
		const char *value;
		int status;
		const char *message;
	} rows[] = {
		{ text[0], 200, "" },
		{ text[1], 200, "" },
		{ text[2], 200, "" },
		{ text[3], 401, "no valid authentication provided" },
		{ "Bearer eyJhbGciOiJub25lIn0.e30.", 401, "token invalid" },
		{ "Token eyJhbGciOiJub25lIn0.e30.", 401, "token invalid" },
		{ "Basic dTpw", 401, "no valid authentication provided" },
		{ "Token", 401, "no valid authentication provided" },
		{ "Token ", 401, "no valid authentication provided" },
		{ "Token a b", 401, "no valid authentication provided" },
		{ "", 401, "no valid authentication provided" },
	};

	(void)state;
	rest_world(&r, false);
	snprintf(text[0], 64, "Token %s", r.w.seed.pat);
	snprintf(text[1], 64, "Bearer %s", r.w.seed.pat);
	snprintf(text[2], 64, "tOKEN %s", r.w.seed.pat);
	snprintf(text[3], 64, "Token  %s", r.w.seed.pat);
	r.token = NULL;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct web_header h = { nb_bytes_str("authorization"), nb_bytes_str(rows[i].value) };

		rest_go_with(&r, "GET", "/api/groups", NULL, &h, 1);
		if (r.status != rows[i].status || strcmp(rest_str(&r, "message"), rows[i].message))
			fail_msg("%s: %d %s", rows[i].value, r.status, r.body);
	}
	/* Guessing is slowed down; a right token still works from there. */
	r.token = "nbp_wrong";
	for (int i = 0; i < 40; i++)
		rest_go(&r, "GET", "/api/groups", NULL);
	assert_int_equal(r.status, 429);
	r.token = r.w.seed.pat;
	assert_int_equal(rest_go(&r, "GET", "/api/groups", NULL), 200);
	r.token = "nbp_wrong";
	test_pass(&r.w, 100 * NB_SEC);
	assert_int_equal(rest_go(&r, "GET", "/api/groups", NULL), 401);
	/* It ends. */
	r.token = r.w.seed.pat;
	test_pass(&r.w, 31LL * 86400 * NB_SEC);
	assert_int_equal(rest_go(&r, "GET", "/api/groups", NULL), 401);
	rest_world_end(&r);
}

static void test_token_limit(void **state)
{
	const struct web_header agent = { nb_bytes_str("user-agent"), nb_bytes_str("HashiCorp Terraform/1.9") };
	struct mgmt_rest_config cfg = { .token_rpm = 60, .token_burst = 2 };
	struct rest_world r;

	(void)state;
	rest_world(&r, false);
	mgmt_rest_free(r.rest);
	cfg.m = r.w.m;
	assert_int_equal(mgmt_rest_new(&r.rest, &cfg), 0);
	assert_int_equal(rest_go(&r, "GET", "/api/groups", NULL), 200);
	assert_int_equal(rest_go(&r, "GET", "/api/groups", NULL), 200);
	assert_int_equal(rest_go(&r, "GET", "/api/groups", NULL), 429);
	assert_string_equal(rest_str(&r, "message"), "too many requests");
	assert_int_equal(rest_go_with(&r, "GET", "/api/groups", NULL, &agent, 1), 200);
	test_pass(&r.w, NB_SEC);
	assert_int_equal(rest_go(&r, "GET", "/api/groups", NULL), 200);
	rest_world_end(&r);
}

/* ---- objects */

static void test_keys(void **state)
{
	static const struct {
		const char *body;
		int status;
		const char *message;
	} bad[] = {
		{ "{\"type\":\"reusable\"}", 422, "setup key name shouldn't be empty" },
		{ "{\"name\":\"k\"}", 422, "unknown setup key type " },
		{ "{\"name\":\"k\",\"type\":\"twice\"}", 422, "unknown setup key type twice" },
		{ "{\"name\":\"k\",\"type\":\"reusable\",\"expires_in\":-1}", 422, "expiresin can not be in the past" },
		{ "{\"name\":\"k\",\"type\":\"one-off\",\"usage_limit\":2}", 422,
		  "a one-off setup key can be used only once: usage limit must be 1" },
		{ "{\"name\":\"k\",\"type\":\"reusable\",\"auto_groups\":[\"zz\"]}", 422, "group: zz not found" },
		{ "{\"name\":\"k\",\"type\":\"reusable\",\"auto_groups\":\"zz\"}", 400,
		  "couldn't parse JSON request: field auto_groups must be a list" },
		{ "{\"name\":\"k\",\"type\":\"reusable\",\"auto_groups\":[1]}", 400,
		  "couldn't parse JSON request: field auto_groups must be a list of strings" },
		{ "{\"name\":\"k\",\"type\":\"reusable\",\"expires_in\":\"1\"}", 400,
		  "couldn't parse JSON request: field expires_in must be a whole number" },
		{ "{\"name\":\"k\",\"type\":\"reusable\",\"ephemeral\":1}", 400,
		  "couldn't parse JSON request: field ephemeral must be true or false" },
	};
	struct rest_world r;
	char path[64], group[32], body[128];

	(void)state;
	rest_world(&r, false);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		rest_go(&r, "POST", "/api/setup-keys", bad[i].body);
		if (r.status != bad[i].status || strcmp(rest_str(&r, "message"), bad[i].message))
			fail_msg("%s: %d %s", bad[i].body, r.status, r.body);
	}
	assert_int_equal(rest_go(&r, "POST", "/api/groups", "{\"name\":\"g\"}"), 200);
	snprintf(group, sizeof(group), "%s", rest_str(&r, "id"));
	assert_int_equal(rest_go(&r, "POST", "/api/setup-keys", "{\"name\":\"k\",\"type\":\"reusable\",\"usage_limit\":null,"
				 "\"auto_groups\":null,\"allow_extra_dns_labels\":true}"), 200);
	assert_string_equal(rest_str(&r, "expires"), "0001-01-01T00:00:00Z");
	assert_true(json_is_true(json_object_get(r.json, "allow_extra_dns_labels")));
	snprintf(path, sizeof(path), "/api/setup-keys/%s", rest_str(&r, "id"));
	assert_int_equal(rest_go(&r, "GET", path, NULL), 200);
	assert_string_equal(rest_str(&r, "key") + 5, "****");
	assert_int_equal(rest_go(&r, "PUT", path, "{\"revoked\":true}"), 422);
	assert_string_equal(rest_str(&r, "message"), "setup key autogroups field is invalid");
	snprintf(body, sizeof(body), "{\"auto_groups\":[\"%s\"],\"revoked\":true,\"name\":\"ignored\"}", group);
	assert_int_equal(rest_go(&r, "PUT", path, body), 200);
	assert_string_equal(rest_str(&r, "state"), "revoked");
	assert_string_equal(rest_str(&r, "name"), "k");
	assert_true(json_is_false(json_object_get(r.json, "valid")));
	assert_int_equal(rest_go(&r, "PUT", path, "{\"auto_groups\":[],\"revoked\":false}"), 422);
	/* The group is in use now. */
	snprintf(body, sizeof(body), "/api/groups/%s", group);
	assert_int_equal(rest_go(&r, "DELETE", body, NULL), 400);
	assert_string_equal(rest_str(&r, "message"), "group has been linked to setup key: k");
	assert_int_equal(rest_go(&r, "DELETE", path, "{}"), 200);
	assert_int_equal(rest_go(&r, "DELETE", path, NULL), 404);
	assert_int_equal(rest_go(&r, "GET", path, NULL), 404);
	assert_non_null(strstr(rest_str(&r, "message"), "not found"));
	assert_int_equal(rest_go(&r, "DELETE", body, NULL), 200);
	rest_world_end(&r);
}

static void test_groups(void **state)
{
	struct rest_world r;
	struct mgmt_peer *a, *b;
	char body[256], path[64], all[64];
	json_t *peers;

	(void)state;
	rest_world(&r, false);
	a = test_join(&r.w, 1, "a", r.w.seed.keys[0].key);
	b = test_join(&r.w, 2, "b", r.w.seed.keys[0].key);
	snprintf(body, sizeof(body), "{\"name\":\"Web <1>\",\"peers\":[\"%s\",\"unknown\"],\"resources\":[{\"id\":\"r1\","
				     "\"type\":\"host\"}]}", a->rec->id);
	assert_int_equal(rest_go(&r, "POST", "/api/groups", body), 200);
	assert_string_equal(rest_str(&r, "issued"), "api");
	assert_int_equal(json_integer_value(json_object_get(r.json, "peers_count")), 1);
	assert_int_equal(json_integer_value(json_object_get(r.json, "resources_count")), 1);
	snprintf(path, sizeof(path), "/api/groups/%s", rest_str(&r, "id"));
	assert_int_equal(rest_go(&r, "POST", "/api/groups", "{\"name\":\"Web <1>\"}"), 409);
	assert_string_equal(rest_str(&r, "message"), "group with name web <1> already exists");
	assert_int_equal(rest_go(&r, "GET", "/api/groups?name=Web%20%3C1%3E", NULL), 200);
	assert_int_equal(json_array_size(r.json), 1);
	assert_int_equal(rest_go(&r, "GET", "/api/groups?name=nobody", NULL), 404);
	assert_string_equal(rest_str(&r, "message"), "group: nobody not found");
	/* PUT replaces: the other peer in, the resource out. */
	snprintf(body, sizeof(body), "{\"name\":\"Web\",\"peers\":[\"%s\"]}", b->rec->id);
	assert_int_equal(rest_go(&r, "PUT", path, body), 200);
	peers = json_object_get(r.json, "peers");
	assert_int_equal(json_array_size(peers), 1);
	assert_string_equal(json_string_value(json_object_get(json_array_get(peers, 0), "name")), "b");
	assert_true(json_is_null(json_object_get(r.json, "resources")));
	assert_int_equal(rest_go(&r, "PUT", path, "{\"peers\":null}"), 422);
	assert_int_equal(rest_go(&r, "POST", "/api/groups", "{\"name\":\"x\",\"resources\":[{\"id\":\"r\",\"type\":\"dog\"}]}"),
			 400);
	assert_int_equal(rest_go(&r, "POST", "/api/groups", "{\"name\":\"x\",\"resources\":[null]}"), 400);
	assert_int_equal(rest_go(&r, "POST", "/api/groups", "{\"name\":\"x\",\"resources\":[\"r\"]}"), 400);
	snprintf(all, sizeof(all), "/api/groups/%s", mgmt_group_all(r.w.a)->rec->id);
	assert_int_equal(rest_go(&r, "PUT", all, "{\"name\":\"Everybody\"}"), 422);
	assert_string_equal(rest_str(&r, "message"), "updating group all is not allowed");
	assert_int_equal(rest_go(&r, "DELETE", all, NULL), 400);
	assert_string_equal(rest_str(&r, "message"), "deleting group ALL is not allowed");
	assert_int_equal(rest_go(&r, "DELETE", path, NULL), 200);
	assert_int_equal(rest_go(&r, "DELETE", path, NULL), 400);
	assert_int_equal(rest_go(&r, "GET", path, NULL), 404);
	assert_int_equal(rest_go(&r, "PUT", path, "{"), 404);
	rest_world_end(&r);
}

#define RULE(more) "{\"name\":\"p\",\"enabled\":true,\"rules\":[{\"name\":\"r\",\"enabled\":true,\"bidirectional\":true," \
		   "\"action\":\"accept\"," more "}]}"
#define SIDES "\"sources\":[],\"destinations\":[]"

static void test_policy_refusals(void **state)
{
	static const struct {
		const char *body;
		int status;
		const char *message;
	} rows[] = {
		{ "{\"rules\":[{}]}", 422, "policy name shouldn't be empty" },
		{ "{\"name\":\"p\",\"rules\":[]}", 422, "policy rules shouldn't be empty" },
		{ "{\"name\":\"p\",\"rules\":null}", 422, "policy rules shouldn't be empty" },
		{ "{\"name\":\"p\",\"rules\":[7]}", 400,
		  "couldn't parse JSON request: field rules must be a list of objects (in rules)" },
		{ RULE("\"protocol\":\"all\""), 422,
		  "specify either sources or source resources and destinations or destination resources" },
		{ RULE("\"protocol\":\"all\",\"sources\":null,\"destinations\":[]"), 422,
		  "specify either sources or source resources and destinations or destination resources" },
		{ RULE("\"protocol\":\"all\"," SIDES ",\"sourceResource\":{\"id\":\"a\",\"type\":\"peer\"}"), 422,
		  "specify either sources or  source resources, not both" },
		{ RULE("\"protocol\":\"gre\"," SIDES), 422, "unknown protocol type: gre" },
		{ RULE("\"protocol\":\"all\"," SIDES ",\"action\":\"deny\""), 422, "unknown action type" },
		{ RULE("\"protocol\":\"tcp\"," SIDES ",\"ports\":[\"80\"],\"port_ranges\":[{\"start\":1,\"end\":2}]"), 422,
		  "specify either individual ports or port ranges, not both" },
		{ RULE("\"protocol\":\"tcp\"," SIDES ",\"ports\":[\"0\"]"), 422, "valid port value is in 1..65535 range" },
		{ RULE("\"protocol\":\"tcp\"," SIDES ",\"ports\":[\"65536\"]"), 422,
		  "valid port value is in 1..65535 range" },
		{ RULE("\"protocol\":\"tcp\"," SIDES ",\"ports\":[\"80x\"]"), 422,
		  "valid port value is in 1..65535 range" },
		{ RULE("\"protocol\":\"tcp\"," SIDES ",\"port_ranges\":[{\"start\":0,\"end\":2}]"), 422,
		  "valid port value is in 1..65535 range" },
		{ RULE("\"protocol\":\"tcp\"," SIDES ",\"ports\":[80]"), 400,
		  "couldn't parse JSON request: field ports must be a list of strings (in rules)" },
		{ RULE("\"protocol\":\"icmp\"," SIDES ",\"ports\":[\"80\"]"), 422,
		  "for all or icmp protocol ports is not allowed" },
		{ RULE("\"protocol\":\"all\"," SIDES ",\"id\":\"zz\""), 200, "" },
		{ RULE("\"protocol\":\"netbird-ssh\"," SIDES ",\"authorized_groups\":{\"g\":7}"), 400,
		  "couldn't parse JSON request: field authorized_groups must map group ids to lists of strings (in rules)" },
	};
	struct rest_world r;

	(void)state;
	rest_world(&r, false);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		rest_go(&r, "POST", "/api/policies", rows[i].body);
		if (r.status != rows[i].status || strcmp(rest_str(&r, "message"), rows[i].message))
			fail_msg("%s: %d %s", rows[i].body, r.status, r.body);
	}
	assert_int_equal(rest_go(&r, "PUT", "/api/policies/zz", "{"), 404);
	assert_string_equal(rest_str(&r, "message"), "policy: zz not found");
	rest_world_end(&r);
}

static void test_policies(void **state)
{
	struct rest_world r;
	char body[512], path[64], g[32];
	json_t *rule;

	(void)state;
	rest_world(&r, false);
	assert_int_equal(rest_go(&r, "POST", "/api/groups", "{\"name\":\"g\"}"), 200);
	snprintf(g, sizeof(g), "%s", rest_str(&r, "id"));
	snprintf(body, sizeof(body), RULE("\"id\":\"zz\",\"protocol\":\"tcp\",\"sources\":[\"%s\",\"gone\"],\"description\":\"d\","
		 "\"destinationResource\":{\"id\":\"x\",\"type\":\"peer\"},\"destinations\":null,\"ports\":[\"80\",\"443\"]"), g);
	assert_int_equal(rest_go(&r, "POST", "/api/policies", body), 200);
	rule = json_array_get(json_object_get(r.json, "rules"), 0);
	assert_int_equal(json_array_size(json_object_get(rule, "sources")), 1);
	assert_true(json_is_null(json_object_get(rule, "destinations")));
	assert_null(json_object_get(rule, "port_ranges"));
	assert_string_equal(json_string_value(json_array_get(json_object_get(rule, "ports"), 1)), "443");
	assert_string_equal(json_string_value(json_object_get(rule, "id")), rest_str(&r, "id"));
	assert_string_equal(json_string_value(json_object_get(json_object_get(rule, "destinationResource"), "id")), "x");
	snprintf(path, sizeof(path), "/api/policies/%s", rest_str(&r, "id"));
	/* Replaced as a whole; the rule's id may be named or left out. */
	snprintf(body, sizeof(body), "{\"name\":\"q\",\"rules\":[{\"name\":\"r2\",\"action\":\"drop\",\"id\":\"%s\","
		 "\"protocol\":\"netbird-ssh\",\"sources\":[\"%s\"],\"destinations\":[\"%s\"],\"authorized_groups\":{\"%s\":"
		 "[\"root\"]},\"port_ranges\":[{\"start\":22,\"end\":23}]}]}", rest_str(&r, "id"), g, g, g);
	assert_int_equal(rest_go(&r, "PUT", path, body), 200);
	rule = json_array_get(json_object_get(r.json, "rules"), 0);
	assert_string_equal(rest_str(&r, "description"), "");
	assert_true(json_is_false(json_object_get(r.json, "enabled")));
	assert_string_equal(json_string_value(json_object_get(rule, "action")), "drop");
	assert_string_equal(json_string_value(json_array_get(json_object_get(json_object_get(rule, "authorized_groups"), g),
							     0)), "root");
	assert_int_equal(json_integer_value(json_object_get(json_array_get(json_object_get(rule, "port_ranges"), 0),
							    "end")), 23);
	snprintf(body, sizeof(body), "{\"name\":\"q\",\"rules\":[{\"id\":\"zz\",\"action\":\"drop\",\"protocol\":\"all\"," SIDES
		 "}]}");
	assert_int_equal(rest_go(&r, "PUT", path, body), 422);
	assert_int_equal(rest_go(&r, "GET", path, NULL), 200);
	assert_string_equal(rest_str(&r, "name"), "q");
	assert_int_equal(rest_go(&r, "DELETE", path, NULL), 200);
	assert_int_equal(rest_go(&r, "GET", path, NULL), 404);
	rest_world_end(&r);
}

static void test_peers(void **state)
{
	struct rest_world r;
	struct mgmt_peer *a, *b;
	char path[96], body[160], text[NB_ADDR_TEXT];
	struct nb_addr addr;

	(void)state;
	rest_world(&r, false);
	a = test_join(&r.w, 1, "alpha", r.w.seed.keys[0].key);
	b = test_join(&r.w, 2, "beta", r.w.seed.keys[0].key);
	addr = nb_addr4(nb_get_be32(b->rec->ip.data));
	nb_addr_format(text, &addr);
	snprintf(path, sizeof(path), "/api/peers?ip=%s", text);
	assert_int_equal(rest_go(&r, "GET", path, NULL), 200);
	assert_int_equal(json_array_size(r.json), 1);
	assert_int_equal(rest_go(&r, "GET", "/api/peers?name=lph", NULL), 200);
	assert_int_equal(json_array_size(r.json), 1);
	assert_int_equal(rest_go(&r, "GET", "/api/peers?name=zz&ip=1", NULL), 200);
	assert_int_equal(json_array_size(r.json), 0);
	snprintf(path, sizeof(path), "/api/peers/%s", a->rec->id);
	snprintf(body, sizeof(body), "{\"name\":\"alpha\",\"ssh_enabled\":true,\"ip\":\"%s\"}", text);
	assert_int_equal(rest_go(&r, "PUT", path, body), 422);
	assert_int_equal(rest_go(&r, "PUT", path, "{\"name\":\"alpha\",\"login_expiration_enabled\":true}"), 412);
	assert_int_equal(rest_go(&r, "PUT", path, "{}"), 422);
	assert_int_equal(rest_go(&r, "PUT", path, "{\"name\":\"alpha\",\"ssh_enabled\":true,\"peerId\":\"x\"}"), 200);
	assert_true(json_is_true(json_object_get(r.json, "ssh_enabled")));
	assert_int_equal(rest_go(&r, "PUT", "/api/peers/zz", "{\"name\":\"x\"}"), 404);
	assert_int_equal(rest_go(&r, "DELETE", path, "{}"), 200);
	assert_string_equal(r.body, "{}\n");
	assert_int_equal(rest_go(&r, "DELETE", path, NULL), 404);
	assert_int_equal(rest_go(&r, "GET", path, NULL), 404);
	assert_int_equal(rest_go(&r, "GET", "/api/peers/zz/accessible-peers", NULL), 200);
	assert_string_equal(r.body, "[]\n");
	rest_world_end(&r);
}

/* Texts of peers are theirs: whatever bytes they sent, the answer is JSON. */
static void test_odd_texts(void **state)
{
	struct rest_world r;
	Management__PeerSystemMeta meta;
	uint8_t key[NB_KEY_LEN] = { 7 };
	struct mgmt_login l = { .key = key, .meta = &meta, .from = "192.0.2.1" };
	struct mgmt_peer *p;
	struct mgmt_error e = { 0 };

	(void)state;
	rest_world(&r, false);
	l.setup_key = r.w.seed.keys[0].key;
	test_meta(&meta, "host");
	meta.os = "\xff\xfe\"\\\n";
	meta.kernelversion = "</script>\xc3\xa4";
	assert_int_equal(mgmt_peer_login(r.w.m, &l, &p, &e), 0);
	assert_int_equal(rest_go(&r, "GET", "/api/peers", NULL), 200);
	assert_non_null(r.json);
	assert_string_equal(json_string_value(json_object_get(json_array_get(r.json, 0), "kernel_version")),
			    "</script>\xc3\xa4");
	assert_string_equal(json_string_value(json_object_get(json_array_get(r.json, 0), "os")), "??\"\\\n ");
	rest_world_end(&r);
}

static void test_tokens(void **state)
{
	struct rest_world r;
	struct guest service, person;
	char list[64], path[96], plain[64];

	(void)state;
	rest_world(&r, false);
	add_user(&r, &service, "admin", true, false, false);
	add_user(&r, &person, "admin", false, false, false);
	snprintf(list, sizeof(list), "/api/users/%s/tokens", r.w.seed.user_id);
	assert_int_equal(rest_go(&r, "GET", list, NULL), 200);
	assert_int_equal(json_array_size(r.json), 1);
	assert_non_null(json_object_get(json_array_get(r.json, 0), "last_used"));
	assert_int_equal(rest_go(&r, "POST", list, "{\"name\":\"\",\"expires_in\":1}"), 422);
	assert_int_equal(rest_go(&r, "POST", list, "{\"name\":\"x\",\"expires_in\":366}"), 422);
	assert_int_equal(rest_go(&r, "POST", list, "{\"name\":\"x\"}"), 422);
	assert_int_equal(rest_go(&r, "POST", list, "{\"name\":\"x\",\"expires_in\":365}"), 200);
	snprintf(plain, sizeof(plain), "%s", rest_str(&r, "plain_token"));
	assert_null(json_object_get(json_object_get(r.json, "personal_access_token"), "last_used"));
	snprintf(path, sizeof(path), "%s/%s", list,
		 json_string_value(json_object_get(json_object_get(r.json, "personal_access_token"), "id")));
	assert_int_equal(rest_go(&r, "GET", path, NULL), 200);
	assert_string_equal(rest_str(&r, "name"), "x");
	r.token = plain;
	assert_int_equal(rest_go(&r, "GET", list, NULL), 200);
	assert_int_equal(rest_go(&r, "DELETE", path, NULL), 200);
	assert_int_equal(rest_go(&r, "GET", list, NULL), 401);
	r.token = r.w.seed.pat;
	assert_int_equal(rest_go(&r, "GET", path, NULL), 404);
	assert_non_null(strstr(rest_str(&r, "message"), "not found"));
	/* For others only when they are service users. */
	snprintf(list, sizeof(list), "/api/users/%s/tokens", service.id);
	assert_int_equal(rest_go(&r, "POST", list, "{\"name\":\"x\",\"expires_in\":1}"), 200);
	assert_int_equal(rest_go(&r, "GET", list, NULL), 200);
	assert_int_equal(json_array_size(r.json), 2);
	snprintf(list, sizeof(list), "/api/users/%s/tokens", person.id);
	assert_int_equal(rest_go(&r, "POST", list, "{\"name\":\"x\",\"expires_in\":1}"), 403);
	assert_string_equal(rest_str(&r, "message"), "admin role required to perform this action");
	assert_int_equal(rest_go(&r, "GET", list, NULL), 403);
	assert_int_equal(rest_go(&r, "GET", "/api/users/zz/tokens", NULL), 404);
	rest_world_end(&r);
}

static void test_account(void **state)
{
	static const struct {
		const char *settings;
		int status;
	} rows[] = {
		{ "\"peer_login_expiration\":3599", 422 },
		{ "\"peer_login_expiration\":15552001", 422 },
		{ "\"peer_login_expiration\":86400,\"peer_expose_enabled\":true", 422 },
		{ "\"peer_login_expiration\":86400,\"ipv6_enabled_groups\":[\"zz\"]", 422 },
		{ "\"peer_login_expiration\":86400,\"dns_domain\":\"*.x.test\"", 422 },
		{ "\"peer_login_expiration\":86400,\"dns_domain\":\"-x.test\"", 422 },
		{ "\"peer_login_expiration\":86400,\"auto_update_version\":\"newest\"", 422 },
		{ "\"peer_login_expiration\":86400,\"network_range\":\"10.0.0.0/16\"", 501 },
		{ "\"peer_login_expiration\":86400,\"network_range\":\"ten\"", 400 },
		{ "\"peer_login_expiration\":86400,\"extra\":{\"peer_approval_enabled\":1}", 400 },
		{ "\"peer_login_expiration\":\"1d\"", 400 },
		{ "\"peer_login_expiration\":9223372036854775807", 400 },
		{ "\"peer_login_expiration\":86400,\"auto_update_version\":\"0.77.1\",\"dns_domain\":\"nb.x-y.test\"", 200 },
	};
	struct rest_world r;
	char path[64], body[256];
	json_t *all, *settings;
	char *text;

	(void)state;
	rest_world(&r, false);
	snprintf(path, sizeof(path), "/api/accounts/%s", r.w.a->rec->id);
	/* Read and written back unchanged it is the same. */
	assert_int_equal(rest_go(&r, "GET", "/api/accounts", NULL), 200);
	all = json_incref(json_array_get(r.json, 0));
	text = json_dumps(all, 0);
	assert_int_equal(rest_go(&r, "PUT", path, text), 200);
	assert_true(json_equal(all, r.json));
	free(text);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		snprintf(body, sizeof(body), "{\"settings\":{%s}}", rows[i].settings);
		rest_go(&r, "PUT", path, body);
		if (r.status != rows[i].status)
			fail_msg("%s: %d %s", rows[i].settings, r.status, r.body);
	}
	/* What was left out is off now, but for extra and onboarding. */
	settings = json_object_get(r.json, "settings");
	assert_true(json_is_false(json_object_get(settings, "lazy_connection_enabled")));
	assert_true(json_is_null(json_object_get(settings, "ipv6_enabled_groups")));
	assert_string_equal(json_string_value(json_object_get(settings, "dns_domain")), "nb.x-y.test");
	assert_true(json_is_true(json_object_get(json_object_get(settings, "extra"), "user_approval_required")));
	assert_true(json_is_true(json_object_get(json_object_get(r.json, "onboarding"), "signup_form_pending")));
	assert_int_equal(rest_go(&r, "PUT", path, "{\"settings\":{\"peer_login_expiration\":86400},\"onboarding\":{}}"), 200);
	assert_true(json_is_false(json_object_get(json_object_get(r.json, "onboarding"), "signup_form_pending")));
	assert_int_equal(rest_go(&r, "PUT", path, "{}"), 400);
	assert_int_equal(rest_go(&r, "PUT", "/api/accounts/zz", "{\"settings\":{}}"), 403);
	json_decref(all);
	rest_world_end(&r);
}

/* ---- the table, sizes, time */

static void test_table(void **state)
{
	struct rest_world r;
	const char *pattern;
	size_t n = 0, done = 0;
	bool served;

	(void)state;
	rest_world(&r, false);
	for (; mgmt_rest_operation(n, &pattern, &served); n++) {
		char method[8], path[128];

		assert_int_equal(sscanf(pattern, "%7s %127s", method, path), 2);
		rest_go(&r, method, path, *method == 'P' ? "{" : NULL);
		if (r.status < 200 || r.status == 405 || (r.status == 501) == served)
			fail_msg("%s: %d %s", pattern, r.status, r.body);
		/* Everything but preflights and wrong paths says no without a token. */
		r.token = NULL;
		rest_go(&r, method, path, NULL);
		if (r.status != 401 && strcmp(path, "/api/instance") && strcmp(path, "/api/setup") &&
		    strncmp(path, "/api/users/invites/{id}", 23) && strcmp(path, "/api/reverse-proxy/callback"))
			fail_msg("%s without a token: %d", pattern, r.status);
		r.token = r.w.seed.pat;
		done += served;
	}
	assert_in_range(n, 110, 160);
	assert_in_range(done, 40, n);
	rest_world_end(&r);
}

static void test_sizes(void **state)
{
	struct rest_world r;
	char *body = calloc(1, MGMT_REST_BODY_MAX + 2);

	(void)state;
	rest_world(&r, false);
	memset(body, ' ', MGMT_REST_BODY_MAX + 1);
	assert_int_equal(rest_go(&r, "POST", "/api/groups", body), 413);
	assert_non_null(rest_str(&r, "message"));
	/* Depth, lengths and numbers have their ends too. */
	memset(body, '[', 200000);
	body[200000] = '\0';
	assert_int_equal(rest_go(&r, "POST", "/api/groups", body), 400);
	memset(body, 'x', 2000);
	memcpy(body, "{\"name\":\"", 9);
	strcpy(body + 2000, "\"}");
	assert_int_equal(rest_go(&r, "POST", "/api/groups", body), 400);
	assert_string_equal(rest_str(&r, "message"), "couldn't parse JSON request: field name is longer than 256 bytes");
	assert_int_equal(rest_go(&r, "POST", "/api/groups", "{\"name\":\"a\\u0000b\"}"), 400);
	assert_int_equal(rest_go(&r, "POST", "/api/setup-keys", "{\"expires_in\":1e400}"), 400);
	free(body);
	rest_world_end(&r);
}

/* No answer leaves before what it says is on the disk. */
static void test_durable(void **state)
{
	struct rest_world r;
	struct web_call *call;
	struct web_header auth;
	char text[64];
	struct mgmt_group *g;

	(void)state;
	rest_world(&r, true);
	snprintf(text, sizeof(text), "Token %s", r.token);
	auth = (struct web_header){ nb_bytes_str("authorization"), nb_bytes_str(text) };
	for (int leaves = 0; leaves < 2; leaves++) {
		call = rest_start(&r, "POST", "/api/groups", leaves ? "{\"name\":\"two\"}" : "{\"name\":\"one\"}");
		call->req.headers = &auth;
		call->req.n_headers = 1;
		mgmt_rest_request(r.rest, call);
		assert_int_equal(r.status, 0);
		if (leaves) {
			call->on_gone(call);
			web_call_fini(call);
			free(call);
		}
		store_sync(r.w.store);
		assert_int_equal(r.status, leaves ? 0 : 200);
	}
	/* A reader of the log who leaves. */
	call = rest_start(&r, "GET", "/api/events", NULL);
	call->req.headers = &auth;
	call->req.n_headers = 1;
	mgmt_rest_request(r.rest, call);
	assert_int_equal(r.status, 0);
	call->on_gone(call);
	web_call_fini(call);
	free(call);
	store_sync(r.w.store);
	assert_int_equal(r.status, 0);
	/* The change of the one who left was made all the same. */
	mgmt_rest_free(r.rest);
	r.rest = NULL;
	test_world_again(&r.w);
	g = mgmt_group_by_name(r.w.a, "two");
	assert_non_null(g);
	rest_world_end(&r);
}

static long alloc_left = -1;	/* until one fails; -1: none does */
static bool alloc_failed, alloc_all;

static void *failing_malloc(size_t n)
{
	if (alloc_left > 0)
		alloc_left--;
	else if (alloc_left == 0 && (alloc_all || !alloc_failed)) {
		alloc_failed = true;
		return NULL;
	}
	return malloc(n);
}

/* Fail every n-th allocation in turn, or everything from there on. */
static void starve(struct rest_world *r, const char *target, bool all)
{
	int status = rest_go(r, "GET", target, NULL);
	char *whole = strdup(r->body);
	long n = 0;

	r->unparsed = true;
	json_set_alloc_funcs(failing_malloc, free);
	for (alloc_failed = true; alloc_failed; n++) {
		alloc_left = n;
		alloc_all = all;
		alloc_failed = false;
		rest_go(r, "GET", target, NULL);
		if (r->status != 500 && (r->status != status || strcmp(r->body, whole) != 0))
			fail_msg("%s, %ld: %d %s", target, n, r->status, r->body);
	}
	alloc_left = -1;
	json_set_alloc_funcs(malloc, free);
	assert_in_range(n, 4, 20000);
	free(whole);
}

/* When memory runs out anywhere in the making of an answer, it is whole or a 500. */
static void test_short_of_memory(void **state)
{
	static const char *const targets[] = {
		"/api/peers", "/api/groups", "/api/policies", "/api/setup-keys", "/api/users/current", "/api/accounts",
		"/api/events", "/api/peers/nobody",
	};
	struct rest_world r;
	struct mgmt_peer *peer[2];
	char body[512];

	(void)state;
	lab(&r, true, peer);
	snprintf(body, sizeof(body), RULE("\"protocol\":\"netbird-ssh\",\"sources\":[\"%s\"],\"ports\":[\"80\"],"
		 "\"destinationResource\":{\"id\":\"x\",\"type\":\"peer\"},\"authorized_groups\":{\"%s\":[\"root\"]}"),
		 mgmt_group_all(r.w.a)->rec->id, mgmt_group_all(r.w.a)->rec->id);
	assert_int_equal(rest_go(&r, "POST", "/api/policies", body), 200);
	assert_int_equal(rest_go(&r, "POST", "/api/groups", "{\"name\":\"g\",\"resources\":[{\"id\":\"r\",\"type\":"
				 "\"host\"}]}"), 200);
	for (size_t i = 0; i < sizeof(targets) / sizeof(*targets); i++) {
		starve(&r, targets[i], false);
		starve(&r, targets[i], true);
	}
	rest_world_end(&r);
}

static void test_owns(void **state)
{
	static const struct {
		const char *path;
		bool ours;
	} rows[] = {
		{ "/api", true }, { "/api/peers", true }, { "//api/peers", true }, { "/apix", false }, { "/", false },
		{ "*", false }, { "", false }, { "/management.ManagementService/Sync", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct web_call call = { .req.path = nb_bytes_str(rows[i].path) };

		assert_int_equal(mgmt_rest_owns(&call), rows[i].ours);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recorded_lists), cmocka_unit_test(test_recorded_peer),
		cmocka_unit_test(test_recorded_refusals), cmocka_unit_test(test_recorded_preflight),
		cmocka_unit_test(test_recorded_events), cmocka_unit_test(test_setup),
		cmocka_unit_test(test_setup_waits), cmocka_unit_test(test_setup_without_worker),
		cmocka_unit_test(test_setup_limits),
		cmocka_unit_test(test_limiter), cmocka_unit_test(test_roles), cmocka_unit_test(test_role_writes),
		cmocka_unit_test(test_blocked), cmocka_unit_test(test_own_peers), cmocka_unit_test(test_credentials),
		cmocka_unit_test(test_token_limit), cmocka_unit_test(test_keys), cmocka_unit_test(test_groups),
		cmocka_unit_test(test_policy_refusals), cmocka_unit_test(test_policies), cmocka_unit_test(test_peers),
		cmocka_unit_test(test_odd_texts), cmocka_unit_test(test_tokens), cmocka_unit_test(test_account),
		cmocka_unit_test(test_table), cmocka_unit_test(test_sizes), cmocka_unit_test(test_durable),
		cmocka_unit_test(test_short_of_memory), cmocka_unit_test(test_owns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
