/* mgmt_domain_test.c - the account and its objects: setup, roles, setup keys, groups, policies, tokens, events;
 * what survives a restart and what a failing disk undoes. Tests src/mgmt/{account,access,key,group,policy,txn}.c. */
#include "mgmt_help.h"

#include "store/store.h"

static void setup_makes_the_whole_account(void **state)
{
	struct world w;
	struct mgmt_lists l;
	struct mgmt_setup again = { "x@example.com", "X", "h", false, 0 };
	struct mgmt_setup_result res;
	struct mgmt_error e;
	struct nb_prefix net, range;

	(void)state;
	test_world(&w, false);
	mgmt_account_lists(w.a, &l);
	assert_int_equal(l.n_users, 1);
	assert_int_equal(l.n_groups, 1);
	assert_int_equal(l.n_policies, 1);
	assert_int_equal(l.n_keys, 2);
	assert_int_equal(l.n_tokens, 1);
	assert_string_equal(l.users[0]->rec->role, "owner");
	assert_string_equal(l.groups[0]->rec->name, "All");
	assert_string_equal(l.policies[0]->rec->name, "Default");
	assert_string_equal(l.policies[0]->rec->rules[0]->id, l.policies[0]->rec->id);
	assert_true(mgmt_account_record(w.a)->settings->login_expiration_enabled);
	nb_prefix_parse(&range, "100.64.0.0/10");
	assert_int_equal(nb_prefix_parse(&net, mgmt_account_record(w.a)->net), 0);
	assert_int_equal(net.len, 16);
	assert_true(nb_prefix_contains(&range, &net.addr));
	assert_int_equal(nb_prefix_parse(&net, mgmt_account_record(w.a)->net_v6), 0);
	assert_int_equal(net.len, 64);
	assert_int_equal(net.addr.ip[0], 0xfd);
	assert_int_equal(strlen(w.seed.keys[0].key), 36);
	assert_string_equal(w.seed.keys[0].type, "reusable");
	assert_string_equal(w.seed.keys[1].type, "one-off");
	assert_int_equal(mgmt_setup(w.m, &again, &res, &e), MGMT_PRECONDITION);
	assert_string_equal(e.message, "setup already completed");
	assert_false(mgmt_setup_required(w.m));
	/* The text is kept nowhere. */
	for (size_t i = 0; i < 2; i++) {
		assert_string_not_equal(l.keys[i]->rec->hash, w.seed.keys[i].key);
		assert_int_equal(strlen(l.keys[i]->rec->masked), 9);
	}
	test_world_end(&w);
}

static void setup_refuses_nonsense(void **state)
{
	static const struct {
		const char *email, *name, *password;
	} bad[] = {
		{ "", "N", "longenough" }, { "nobody", "N", "longenough" }, { "a@b", "", "longenough" },
		{ "a@b@c", "N", "longenough" }, { "a b@c", "N", "longenough" }, { "a@b", "N", "short" }, { "a@b", "N", "" },
	};
	struct world w;
	struct mgmt_error e;

	(void)state;
	test_world(&w, false);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(mgmt_setup_check(w.m, bad[i].email, bad[i].name, nb_bytes_str(bad[i].password), &e),
				 MGMT_INVALID);
	test_world_end(&w);
}

static void key_hash_is_stocks(void **state)
{
	char hash[NB_BASE64_LEN(32) + 1];

	(void)state;
	mgmt_key_hash(hash, "a2c8e62b-38f5-4553-b31e-dd66c696cebb");
	assert_string_equal(hash, "uXspNY+GG/bbf0inGAz7i1Yb7ZtGQghH2PwMtZG4LI0=");
}

static void roles_grant_what_the_table_says(void **state)
{
	(void)state;
	assert_true(mgmt_role_grants("owner", MGMT_MOD_ACCOUNTS, MGMT_OP_DELETE));
	assert_false(mgmt_role_grants("admin", MGMT_MOD_ACCOUNTS, MGMT_OP_DELETE));
	assert_true(mgmt_role_grants("admin", MGMT_MOD_ACCOUNTS, MGMT_OP_READ));
	assert_true(mgmt_role_grants("auditor", MGMT_MOD_EVENTS, MGMT_OP_READ));
	assert_false(mgmt_role_grants("auditor", MGMT_MOD_GROUPS, MGMT_OP_CREATE));
	assert_true(mgmt_role_grants("network_admin", MGMT_MOD_POLICIES, MGMT_OP_DELETE));
	assert_false(mgmt_role_grants("network_admin", MGMT_MOD_PEERS, MGMT_OP_DELETE));
	assert_true(mgmt_role_grants("network_admin", MGMT_MOD_PEERS, MGMT_OP_READ));
	assert_false(mgmt_role_grants("user", MGMT_MOD_PEERS, MGMT_OP_READ));
	assert_false(mgmt_role_grants("billing_admin", MGMT_MOD_PEERS, MGMT_OP_READ));
	assert_true(mgmt_role_known("billing_admin"));
	assert_false(mgmt_role_known("root"));
}

static void tokens_identify_their_user(void **state)
{
	struct world w;
	struct mgmt_actor who;
	struct mgmt_error e;
	char plain[MGMT_TOKEN_TEXT], bad[MGMT_TOKEN_TEXT];
	struct mgmt_token *t;

	(void)state;
	test_world(&w, false);
	assert_int_equal(mgmt_actor_by_token(w.m, w.seed.pat, &who, &e), 0);
	assert_ptr_equal(who.user, w.owner.user);
	assert_int_equal(mgmt_token_create(&w.owner, w.seed.user_id, "t", 1, &t, plain, &e), 0);
	assert_int_equal(mgmt_token_create(&w.owner, w.seed.user_id, "t", 366, &t, bad, &e), MGMT_INVALID);
	assert_int_equal(mgmt_token_create(&w.owner, w.seed.user_id, "", 1, &t, bad, &e), MGMT_INVALID);
	assert_int_equal(strlen(plain), 40);
	strcpy(bad, plain);
	bad[10] = bad[10] == 'a' ? 'b' : 'a';
	assert_int_equal(mgmt_actor_by_token(w.m, bad, &who, &e), MGMT_UNAUTHORIZED);
	assert_string_equal(e.message, "token invalid");
	assert_int_equal(mgmt_actor_by_token(w.m, plain, &who, &e), 0);
	test_pass(&w, 86400 * NB_SEC);
	assert_int_equal(mgmt_actor_by_token(w.m, plain, &who, &e), MGMT_UNAUTHORIZED);
	assert_int_equal(mgmt_token_delete(&w.owner, w.seed.user_id, t->rec->id, &e), 0);
	assert_int_equal(mgmt_token_delete(&w.owner, w.seed.user_id, "nope", &e), MGMT_NOT_FOUND);
	test_world_end(&w);
}

static void setup_keys_live_and_die(void **state)
{
	struct world w;
	struct mgmt_error e;
	mgmt_key_rec spec = NESTBOX__SETUP_KEY_RECORD__INIT;
	struct mgmt_key *k;
	char plain[MGMT_KEY_TEXT], *all;
	char *unknown = "nope";

	(void)state;
	test_world(&w, false);
	spec.name = "k";
	all = mgmt_group_all(w.a)->rec->id;
	spec.auto_groups = &all;
	spec.n_auto_groups = 1;
	assert_int_equal(mgmt_key_create(&w.owner, &spec, 0, &k, plain, &e), MGMT_INVALID);
	spec.auto_groups = &unknown;
	assert_int_equal(mgmt_key_create(&w.owner, &spec, 0, &k, plain, &e), MGMT_INVALID);
	spec.n_auto_groups = 0;
	spec.one_off = true;
	spec.usage_limit = 2;
	assert_int_equal(mgmt_key_create(&w.owner, &spec, 0, &k, plain, &e), MGMT_INVALID);
	spec.usage_limit = 0;
	assert_int_equal(mgmt_key_create(&w.owner, &spec, 60, &k, plain, &e), 0);
	assert_int_equal(k->rec->usage_limit, 1);
	assert_ptr_equal(mgmt_key_find(w.m, plain), k);
	assert_int_equal(mgmt_key_state(k->rec, mgmt_now(w.m)), MGMT_KEY_VALID);
	test_pass(&w, 61 * NB_SEC);
	assert_int_equal(mgmt_key_state(k->rec, mgmt_now(w.m)), MGMT_KEY_EXPIRED);
	assert_int_equal(mgmt_key_update(&w.owner, k->rec->id, NULL, 0, true, NULL, &e), 0);
	assert_int_equal(mgmt_key_update(&w.owner, k->rec->id, NULL, 0, false, NULL, &e), MGMT_INVALID);
	assert_int_equal(mgmt_key_delete(&w.owner, k->rec->id, &e), 0);
	assert_null(mgmt_key_find(w.m, plain));
	assert_int_equal(mgmt_key_delete(&w.owner, "x", &e), MGMT_NOT_FOUND);
	assert_string_equal(e.message, "setup key: x not found");
	test_world_end(&w);
}

static void groups_hold_members(void **state)
{
	struct world w;
	struct mgmt_error e;
	mgmt_group_rec spec = NESTBOX__GROUP_RECORD__INIT;
	struct mgmt_group *g, *other;
	struct mgmt_peer *p, *q;
	const char *ids[2];
	uint64_t serial;

	(void)state;
	test_world(&w, false);
	p = test_join(&w, 1, "one", w.seed.keys[0].key);
	q = test_join(&w, 2, "two", w.seed.keys[0].key);
	spec.name = "dev";
	ids[0] = p->rec->id;
	ids[1] = "unknown";
	serial = w.a->rec->serial;
	assert_int_equal(mgmt_group_create(&w.owner, &spec, ids, 2, &g, &e), 0);
	assert_int_equal(w.a->rec->serial, serial + 1);
	assert_int_equal(g->n_peers, 1);
	assert_true(mgmt_peer_in_group(p, g));
	assert_false(mgmt_peer_in_group(q, g));
	assert_int_equal(mgmt_group_create(&w.owner, &spec, ids, 1, &other, &e), MGMT_EXISTS);
	ids[0] = q->rec->id;
	assert_int_equal(mgmt_group_update(&w.owner, g->rec->id, &spec, ids, 1, NULL, &e), 0);
	assert_int_equal(g->n_peers, 1);
	assert_ptr_equal(g->peers[0], q);
	assert_int_equal(mgmt_group_all(w.a)->n_peers, 2);
	assert_int_equal(mgmt_group_update(&w.owner, mgmt_group_all(w.a)->rec->id, &spec, ids, 1, NULL, &e), MGMT_INVALID);
	assert_int_equal(mgmt_group_delete(&w.owner, mgmt_group_all(w.a)->rec->id, &e), MGMT_BAD_REQUEST);
	assert_int_equal(mgmt_group_delete(&w.owner, g->rec->id, &e), 0);
	assert_int_equal(q->rec->n_groups, 0);
	test_world_end(&w);
}

static void linked_groups_stay(void **state)
{
	struct world w;
	struct mgmt_error e;
	mgmt_group_rec gspec = NESTBOX__GROUP_RECORD__INIT;
	mgmt_key_rec kspec = NESTBOX__SETUP_KEY_RECORD__INIT;
	struct mgmt_group *g;
	struct mgmt_key *k;
	char plain[MGMT_KEY_TEXT];

	(void)state;
	test_world(&w, false);
	gspec.name = "dev";
	assert_int_equal(mgmt_group_create(&w.owner, &gspec, NULL, 0, &g, &e), 0);
	kspec.name = "kk";
	kspec.auto_groups = &g->rec->id;
	kspec.n_auto_groups = 1;
	assert_int_equal(mgmt_key_create(&w.owner, &kspec, 0, &k, plain, &e), 0);
	assert_int_equal(mgmt_group_delete(&w.owner, g->rec->id, &e), MGMT_BAD_REQUEST);
	assert_string_equal(e.message, "group has been linked to setup key: kk");
	test_world_end(&w);
}

static void policies_are_checked_and_idempotent(void **state)
{
	struct world w;
	struct mgmt_error e;
	mgmt_policy_rec spec = NESTBOX__POLICY_RECORD__INIT;
	mgmt_rule_rec rule = NESTBOX__RULE_RECORD__INIT, *rules = &rule;
	struct mgmt_policy *p;
	uint32_t port = 70000;
	char *groups[2];
	uint64_t serial;

	(void)state;
	test_world(&w, false);
	groups[0] = mgmt_group_all(w.a)->rec->id;
	groups[1] = "unknown";
	spec.name = "p";
	spec.enabled = true;
	assert_int_equal(mgmt_policy_create(&w.owner, &spec, &p, &e), MGMT_INVALID);
	spec.rules = &rules;
	spec.n_rules = 1;
	rule.enabled = true;
	rule.protocol = "gre";
	rule.sources = rule.destinations = groups;
	rule.n_sources = rule.n_destinations = 2;
	assert_int_equal(mgmt_policy_create(&w.owner, &spec, &p, &e), MGMT_INVALID);
	rule.protocol = "tcp";
	rule.ports = &port;
	rule.n_ports = 1;
	assert_int_equal(mgmt_policy_create(&w.owner, &spec, &p, &e), MGMT_INVALID);
	port = 80;
	assert_int_equal(mgmt_policy_create(&w.owner, &spec, &p, &e), 0);
	assert_int_equal(p->rec->rules[0]->n_sources, 1);
	assert_string_equal(p->rec->rules[0]->id, p->rec->id);
	assert_true(p->rec->enabled);
	serial = w.a->rec->serial;
	assert_int_equal(mgmt_policy_update(&w.owner, p->rec->id, &spec, NULL, &e), 0);
	assert_int_equal(w.a->rec->serial, serial);
	port = 81;
	assert_int_equal(mgmt_policy_update(&w.owner, p->rec->id, &spec, NULL, &e), 0);
	assert_int_equal(w.a->rec->serial, serial + 1);
	assert_int_equal(p->rec->rules[0]->ports[0], 81);
	rule.id = "other";
	assert_int_equal(mgmt_policy_update(&w.owner, p->rec->id, &spec, NULL, &e), MGMT_INVALID);
	assert_int_equal(mgmt_policy_delete(&w.owner, p->rec->id, &e), 0);
	assert_int_equal(mgmt_policy_delete(&w.owner, "x", &e), MGMT_NOT_FOUND);
	test_world_end(&w);
}

static void a_user_without_rights_is_refused(void **state)
{
	struct world w;
	struct mgmt_error e;
	struct mgmt_claims c = { .user_id = "u2", .email = "u2@example.com", .expires = INT64_MAX };
	struct mgmt_actor who;
	mgmt_group_rec spec = NESTBOX__GROUP_RECORD__INIT;

	(void)state;
	test_world(&w, false);
	assert_int_equal(mgmt_actor_by_claims(w.m, &c, &who, &e), 0);
	assert_string_equal(who.user->rec->role, "user");
	assert_true(who.user->rec->blocked && who.user->rec->pending_approval);
	spec.name = "g";
	assert_int_equal(mgmt_group_create(&who, &spec, NULL, 0, NULL, &e), MGMT_DENIED);
	assert_non_null(strstr(e.message, "pending approval"));
	test_world_end(&w);
}

/* ---- durability */

struct events {
	size_t n;
	uint32_t first, last;
	char codes[256];
};

static void count_events(void *arg, int err, mgmt_event_rec *const *ev, size_t n)
{
	struct events *x = arg;

	assert_int_equal(err, 0);
	x->n = n;
	for (size_t i = 0; i < n; i++) {
		strcat(x->codes, mgmt_activity_code(ev[i]->activity));
		strcat(x->codes, " ");
		if (i)
			assert_true(ev[i]->id < ev[i - 1]->id);
	}
}

static void everything_survives_a_restart(void **state)
{
	struct world w;
	char ip[4], key[NB_KEY_TEXT_LEN], net[32];
	struct mgmt_peer *p;
	uint64_t serial;
	struct events ev = { 0 };
	struct mgmt_actor who;
	struct mgmt_error e;

	(void)state;
	test_world(&w, true);
	p = test_join(&w, 1, "one", w.seed.keys[0].key);
	test_join(&w, 2, "two", w.seed.keys[1].key);
	memcpy(ip, p->rec->ip.data, 4);
	strcpy(key, mgmt_server_key(w.m));
	strcpy(net, w.a->rec->net);
	serial = w.a->rec->serial;
	assert_int_equal(serial, 2);
	test_pass(&w, NB_SEC);
	test_world_again(&w);
	assert_non_null(w.a);
	assert_string_equal(mgmt_server_key(w.m), key);
	assert_string_equal(w.a->rec->net, net);
	assert_int_equal(w.a->rec->serial, serial);
	p = mgmt_peer_by_key(w.m, (const uint8_t[32]){ [0 ... 31] = 1 });
	assert_non_null(p);
	assert_memory_equal(p->rec->ip.data, ip, 4);
	assert_string_equal(p->rec->dns_label, "one");
	assert_int_equal(mgmt_group_all(w.a)->n_peers, 2);
	assert_int_equal(mgmt_key_state(mgmt_key_find(w.m, w.seed.keys[1].key)->rec, w.wall), MGMT_KEY_OVERUSED);
	assert_int_equal(mgmt_actor_by_token(w.m, w.seed.pat, &who, &e), 0);
	mgmt_events_read(w.a, 100, count_events, &ev);
	store_sync(w.store);
	assert_int_equal(ev.n, 7);
	assert_string_equal(ev.codes, "peer.setupkey.add peer.setupkey.add personal.access.token.create setupkey.add "
				      "setupkey.add user.join account.create ");
	test_join(&w, 3, "three", w.seed.keys[0].key);
	memset(&ev, 0, sizeof(ev));
	mgmt_events_read(w.a, 1, count_events, &ev);
	store_sync(w.store);
	assert_string_equal(ev.codes, "peer.setupkey.add ");
	test_world_end(&w);
}

static int waited, waited_err;
static void wait_done(void *arg, int err)
{
	(void)arg;
	waited++;
	waited_err = err;
}

static void answers_wait_for_the_disk(void **state)
{
	struct world w;

	(void)state;
	test_world(&w, true);
	waited = 0;
	test_join(&w, 1, "one", w.seed.keys[0].key);
	mgmt_after_commit(w.m, wait_done, &w);
	assert_int_equal(waited, 0);
	mgmt_after_commit(w.m, wait_done, &waited);
	mgmt_after_commit_forget(w.m, &waited);
	store_sync(w.store);
	assert_int_equal(waited, 1);
	assert_int_equal(waited_err, 0);
	mgmt_after_commit(w.m, wait_done, &w);
	assert_int_equal(waited, 2);
	test_world_end(&w);
}

static void a_full_disk_undoes_everything(void **state)
{
	struct world w;
	struct store_config sc = { .who = "test", .map_max = 256 << 10 };
	char why[256] = "";
	mgmt_group_rec spec = NESTBOX__GROUP_RECORD__INIT;
	struct mgmt_peer *p;
	char *name = malloc(200 * 1024);
	struct mgmt_error e;
	uint64_t serial;
	struct mgmt_group *g;

	(void)state;
	test_world(&w, true);
	mgmt_free(w.m);
	store_close(w.store);
	sc.dir = w.dir;
	assert_int_equal(store_open(&w.store, &sc, why, sizeof(why)), 0);
	assert_int_equal(mgmt_new(&w.m, &w.cfg, w.store, w.now, w.wall, &e), 0);
	w.a = mgmt_first_account(w.m);
	w.owner = (struct mgmt_actor){ w.a, mgmt_user_get(w.a, w.seed.user_id) };
	serial = w.a->rec->serial;
	waited = 0;
	memset(name, 'x', 200 * 1024 - 1);
	name[200 * 1024 - 1] = '\0';
	spec.name = name;
	assert_int_equal(mgmt_group_create(&w.owner, &spec, NULL, 0, &g, &e), 0);
	p = test_join(&w, 1, "one", w.seed.keys[1].key);
	assert_non_null(p);
	mgmt_after_commit(w.m, wait_done, &w);
	store_sync(w.store);
	assert_int_equal(waited, 1);
	assert_int_equal(waited_err, NB_E_IO);
	assert_int_equal(w.a->t[T_PEER].n, 0);
	assert_int_equal(w.a->t[T_GROUP].n, 1);
	assert_int_equal(w.a->rec->serial, serial);
	assert_int_equal(mgmt_group_all(w.a)->n_peers, 0);
	assert_int_equal(mgmt_key_state(mgmt_key_find(w.m, w.seed.keys[1].key)->rec, w.wall), MGMT_KEY_VALID);
	assert_null(mgmt_peer_by_key(w.m, (const uint8_t[32]){ [0 ... 31] = 1 }));
	/* And it goes on working. */
	store_poll(w.store);
	test_join(&w, 1, "one", w.seed.keys[1].key);
	store_sync(w.store);
	assert_int_equal(w.a->t[T_PEER].n, 1);
	free(name);
	test_world_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(setup_makes_the_whole_account), cmocka_unit_test(setup_refuses_nonsense),
		cmocka_unit_test(key_hash_is_stocks), cmocka_unit_test(roles_grant_what_the_table_says),
		cmocka_unit_test(tokens_identify_their_user), cmocka_unit_test(setup_keys_live_and_die),
		cmocka_unit_test(groups_hold_members), cmocka_unit_test(linked_groups_stay),
		cmocka_unit_test(policies_are_checked_and_idempotent), cmocka_unit_test(a_user_without_rights_is_refused),
		cmocka_unit_test(everything_survives_a_restart), cmocka_unit_test(answers_wait_for_the_disk),
		cmocka_unit_test(a_full_disk_undoes_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
