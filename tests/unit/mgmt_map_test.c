/* mgmt_map_test.c - network maps: equal to recorded stock bytes, and what each policy does to whom; which peers a
 * change touches; names, versions, credentials. Tests src/mgmt/map.c and affected.c. */
#include "mgmt_help.h"

#include "proto/unpack.h"

#include <jansson.h>

static json_t *load(const char *name)
{
	char path[128];
	json_t *j;

	snprintf(path, sizeof(path), "tests/vectors/%s.json", name);
	j = json_load_file(path, 0, NULL);
	assert_non_null(j);
	return j;
}

static void hex_of(const json_t *file, const char *side, size_t index, struct nb_buf *out)
{
	const json_t *m = json_array_get(json_object_get(json_object_get(file, side), "messages"), index);
	const char *hex = json_string_value(json_object_get(m, "plain_hex"));
	size_t n = strlen(hex) / 2;

	nb_buf_init(out, 1 << 20);
	assert_int_equal(nb_hex_decode(nb_buf_reserve(out, n), n, nb_bytes_str(hex)), 0);
	nb_buf_commit(out, n);
}

static void key_of(const json_t *keys, const char *who, uint8_t key[NB_KEY_LEN])
{
	const json_t *peers = json_object_get(
		json_object_get(json_object_get(json_object_get(keys, "management"), "runs"), "main"), "peers");

	assert_int_equal(nbc_key_parse(key, nb_bytes_str(json_string_value(
		json_object_get(json_object_get(peers, who), "public")))), 0);
}

/* The recorded login of a peer, against our own setup key; then the recorded addresses. */
static struct mgmt_peer *replay_login(struct world *w, const json_t *keys, const char *who, const char *file,
				      const char *key_text, const char *ip, const char *ip6)
{
	struct mgmt_peer_change c = { .ip = ip, .ipv6 = ip6 };
	Management__LoginRequest *req;
	uint8_t key[NB_KEY_LEN];
	struct mgmt_login l = { .key = key, .setup_key = key_text };
	struct mgmt_peer *p;
	struct mgmt_error e = { 0 };
	struct nb_arena arena;
	struct nb_buf plain;
	json_t *j = load(file);

	hex_of(j, "request", 0, &plain);
	nb_arena_init(&arena, 1 << 20);
	assert_int_equal(proto_unpack(&req, &management__login_request__descriptor, nb_buf_view(&plain), &arena), 0);
	key_of(keys, who, key);
	l.meta = req->meta;
	l.ssh_key = nb_bytes(req->peerkeys->sshpubkey.data, req->peerkeys->sshpubkey.len);
	l.labels = req->dnslabels;
	l.n_labels = req->n_dnslabels;
	if (mgmt_peer_login(w->m, &l, &p, &e) || mgmt_peer_update(&w->owner, p->rec->id, &c, &e))
		fail_msg("%s", e.message);
	nb_arena_fini(&arena);
	nb_buf_fini(&plain);
	json_decref(j);
	return p;
}

static void set_account(struct world *w, const char *net, const char *net6, uint64_t serial)
{
	mgmt_account_rec rec = *w->a->rec;
	struct mgmt_txn *t;

	assert_int_equal(mgmt_begin(&t, w->m, w->a), 0);
	rec.net = (char *)net;
	rec.net_v6 = (char *)net6;
	rec.serial = serial;
	mgmt_put(t, T_ACCOUNT, (struct mgmt_item *)w->a, &rec.base);
	assert_int_equal(mgmt_commit(t, NULL), 0);
}

/* The id of the only policy differs: give ours the recorded one. */
static void set_policy_id(struct world *w, const char *id)
{
	struct mgmt_policy *p = (struct mgmt_policy *)w->a->t[T_POLICY].v[0];
	mgmt_policy_rec rec = *p->rec;
	mgmt_rule_rec rule = *rec.rules[0], *rules = &rule;
	struct mgmt_txn *t;

	assert_int_equal(mgmt_begin(&t, w->m, w->a), 0);
	rule.id = (char *)id;
	rec.rules = &rules;
	mgmt_put(t, T_POLICY, (struct mgmt_item *)p, &rec.base);
	assert_int_equal(mgmt_commit(t, NULL), 0);
}

static void same_bytes(const struct nb_buf *have, const struct nb_buf *want)
{
	assert_int_equal(have->err, 0);
	assert_int_equal(have->n, want->n);
	assert_memory_equal(have->p, want->p, want->n);
}

static void maps_equal_stocks(void **state)
{
	static const char *const stuns[] = { "stun:203.0.113.10:3478" }, *const relays[] = { "rel://203.0.113.10:8080" };
	json_t *keys = load("keys"), *sync = load("management/sync-alpha"), *login = load("management/login-setup-key");
	mgmt_key_rec spec = NESTBOX__SETUP_KEY_RECORD__INIT;
	char plain[MGMT_KEY_TEXT];
	struct mgmt_peer *alpha;
	struct mgmt_key *k;
	struct mgmt_error e;
	struct world w;
	struct nb_buf want, have;

	(void)state;
	test_world(&w, false);
	w.m->cfg.stuns = stuns;
	w.m->cfg.n_stuns = 1;
	w.m->cfg.relay_urls = relays;
	w.m->cfg.n_relay_urls = 1;
	w.m->cfg.signal_uri = "203.0.113.10:8080";
	w.m->cfg.signal_tls = false;
	w.m->cfg.relay_secret = json_string_value(json_object_get(keys, "relay_secret"));
	assert_non_null(w.m->cfg.relay_secret);
	spec.name = "labels";
	spec.allow_extra_dns_labels = true;
	assert_int_equal(mgmt_key_create(&w.owner, &spec, 0, &k, plain, &e), 0);
	set_account(&w, "100.125.0.0/16", "fdf0:1e45:dbb:5a08::/64", 0);
	alpha = replay_login(&w, keys, "alpha", "management/login-setup-key", plain, "100.125.72.48",
			     "fdf0:1e45:dbb:5a08:5ab5:84d8:5ab7:b173");
	set_account(&w, "100.125.0.0/16", "fdf0:1e45:dbb:5a08::/64", 1);
	w.wall.ns = 1795411132 * NB_SEC - 12 * 3600 * NB_SEC;
	mgmt_clock(w.m, w.now, w.wall);

	nb_buf_init(&have, 1 << 20);
	hex_of(login, "response", 0, &want);
	assert_int_equal(mgmt_map_login(alpha, &have), 0);
	same_bytes(&have, &want);
	nb_buf_fini(&want);

	nb_buf_reset(&have);
	hex_of(sync, "response", 0, &want);
	assert_int_equal(mgmt_map_sync(alpha, SYNC_MAP | SYNC_CONFIG, &have), 0);
	same_bytes(&have, &want);
	nb_buf_fini(&want);

	replay_login(&w, keys, "bravo", "management/login-bravo", plain, "100.125.124.108",
		     "fdf0:1e45:dbb:5a08:71a3:cd08:6a24:d2f4");
	set_account(&w, "100.125.0.0/16", "fdf0:1e45:dbb:5a08::/64", 2);
	set_policy_id(&w, "dc1sp0tqmd2vg3fqk4n0");
	nb_buf_reset(&have);
	hex_of(sync, "response", 1, &want);
	assert_int_equal(mgmt_map_sync(alpha, SYNC_MAP, &have), 0);
	same_bytes(&have, &want);
	nb_buf_fini(&want);

	nb_buf_fini(&have);
	json_decref(keys);
	json_decref(sync);
	json_decref(login);
	test_world_end(&w);
}

/* ---- policies */

struct view {
	struct nb_arena arena;
	struct nb_buf buf;
	Management__SyncResponse *rsp;
	Management__NetworkMap *map;
};

static void look(struct view *v, struct mgmt_peer *p)
{
	nb_buf_init(&v->buf, 16 << 20);
	nb_arena_init(&v->arena, 64 << 20);
	assert_int_equal(mgmt_map_sync(p, SYNC_MAP, &v->buf), 0);
	assert_int_equal(proto_unpack(&v->rsp, &management__sync_response__descriptor, nb_buf_view(&v->buf), &v->arena),
			 0);
	v->map = v->rsp->networkmap;
	assert_non_null(v->map);
	assert_int_equal(v->map->n_remotepeers == 0, v->map->remotepeersisempty);
	assert_int_equal(v->map->n_firewallrules == 0, v->map->firewallrulesisempty);
	assert_true(v->map->routesfirewallrulesisempty);
	assert_null(v->rsp->netbirdconfig);
}

static void forget(struct view *v)
{
	nb_arena_fini(&v->arena);
	nb_buf_fini(&v->buf);
}

static bool sees(const struct view *v, const struct mgmt_peer *p)
{
	char key[NB_KEY_TEXT_LEN];

	nbc_key_format(key, p->rec->key.data);
	for (size_t i = 0; i < v->map->n_remotepeers; i++)
		if (strcmp(v->map->remotepeers[i]->wgpubkey, key) == 0)
			return true;
	return false;
}

static size_t count_rules(const struct view *v, int direction, const char *port)
{
	size_t n = 0;

	for (size_t i = 0; i < v->map->n_firewallrules; i++) {
		const Management__FirewallRule *r = v->map->firewallrules[i];

		n += (int)r->direction == direction && (!port || strcmp(mgmt_str(r->port), port) == 0);
	}
	return n;
}

static struct mgmt_group *group(struct world *w, const char *name, struct mgmt_peer *p)
{
	mgmt_group_rec spec = NESTBOX__GROUP_RECORD__INIT;
	const char *id = p->rec->id;
	struct mgmt_group *g;
	struct mgmt_error e;

	spec.name = (char *)name;
	assert_int_equal(mgmt_group_create(&w->owner, &spec, &id, 1, &g, &e), 0);
	return g;
}

static void no_default(struct world *w)
{
	struct mgmt_error e;

	assert_int_equal(mgmt_policy_delete(&w->owner, mgmt_item_id(w->a->t[T_POLICY].v[0]), &e), 0);
}

struct rule_spec {
	mgmt_policy_rec policy;
	mgmt_rule_rec rule, *rules;
	char *src, *dst;
};

static struct mgmt_policy *allow(struct world *w, struct rule_spec *s, struct mgmt_group *from, struct mgmt_group *to,
				 const char *protocol)
{
	struct mgmt_policy *p;
	struct mgmt_error e;

	s->policy = (mgmt_policy_rec)NESTBOX__POLICY_RECORD__INIT;
	s->policy.name = s->rule.name = "p";
	s->policy.enabled = s->rule.enabled = true;
	s->policy.rules = &s->rules;
	s->policy.n_rules = 1;
	s->rules = &s->rule;
	s->rule.protocol = (char *)protocol;
	s->src = from->rec->id;
	s->dst = to->rec->id;
	s->rule.sources = &s->src;
	s->rule.destinations = &s->dst;
	s->rule.n_sources = s->rule.n_destinations = 1;
	if (mgmt_policy_create(&w->owner, &s->policy, &p, &e))
		fail_msg("%s", e.message);
	return p;
}

static void only_policies_connect(void **state)
{
	struct rule_spec s = { .rule = NESTBOX__RULE_RECORD__INIT };
	struct mgmt_peer *a, *b, *c;
	struct mgmt_group *ga, *gb;
	struct mgmt_policy *p;
	struct mgmt_error e;
	struct world w;
	struct view v;
	uint32_t ports[] = { 80, 443 };

	(void)state;
	test_world(&w, false);
	a = test_join(&w, 1, "a", w.seed.keys[0].key);
	b = test_join(&w, 2, "b", w.seed.keys[0].key);
	c = test_join(&w, 3, "c", w.seed.keys[0].key);
	no_default(&w);
	look(&v, a);
	assert_int_equal(v.map->n_remotepeers, 0);
	assert_int_equal(v.map->serial, w.a->rec->serial);
	forget(&v);

	ga = group(&w, "ga", a);
	gb = group(&w, "gb", b);
	s.rule.ports = ports;
	s.rule.n_ports = 2;
	p = allow(&w, &s, ga, gb, "tcp");
	look(&v, a);
	assert_true(sees(&v, b) && !sees(&v, c));
	assert_int_equal(count_rules(&v, 0, NULL), 0);
	assert_int_equal(count_rules(&v, 1, "80"), 2);
	assert_int_equal(count_rules(&v, 1, "443"), 2);
	forget(&v);
	look(&v, b);
	assert_true(sees(&v, a));
	assert_int_equal(count_rules(&v, 0, NULL), 4);
	assert_int_equal(count_rules(&v, 1, NULL), 0);
	assert_int_equal(v.map->firewallrules[0]->protocol, 2);
	assert_string_equal(v.map->dnsconfig->customzones[0]->records[0]->name, "b.netbird.selfhosted");
	forget(&v);
	look(&v, c);
	assert_int_equal(v.map->n_remotepeers, 0);
	forget(&v);

	s.rule.bidirectional = true;
	s.rule.drop = true;
	assert_int_equal(mgmt_policy_update(&w.owner, p->rec->id, &s.policy, NULL, &e), 0);
	look(&v, a);
	assert_true(sees(&v, b));
	assert_int_equal(count_rules(&v, 0, NULL), 4);
	assert_int_equal(count_rules(&v, 1, NULL), 4);
	assert_int_equal(v.map->firewallrules[0]->action, 1);
	forget(&v);

	s.policy.enabled = false;
	assert_int_equal(mgmt_policy_update(&w.owner, p->rec->id, &s.policy, NULL, &e), 0);
	look(&v, a);
	assert_int_equal(v.map->n_remotepeers + v.map->n_firewallrules, 0);
	forget(&v);
	test_world_end(&w);
}

static void set_meta(struct mgmt_peer *p, const char *version, size_t caps)
{
	Management__PeerSystemMeta meta;
	struct mgmt_error e;

	test_meta(&meta, p->rec->name);
	meta.netbirdversion = (char *)version;
	meta.n_capabilities = caps;
	assert_int_equal(mgmt_peer_meta(p, &meta, true, &e), 0);
}

static void receivers_differ(void **state)
{
	struct rule_spec s = { .rule = NESTBOX__RULE_RECORD__INIT };
	Nestbox__PortRange range = NESTBOX__PORT_RANGE__INIT, *ranges = &range;
	struct mgmt_peer *a, *b;
	struct world w;
	struct view v;

	(void)state;
	test_world(&w, false);
	a = test_join(&w, 1, "a", w.seed.keys[0].key);
	b = test_join(&w, 2, "b", w.seed.keys[0].key);
	look(&v, a);
	assert_int_equal(v.map->remotepeers[0]->n_allowedips, 2);
	assert_int_equal(v.map->n_firewallrules, 4);
	assert_int_equal(v.map->firewallrules[0]->sourceprefixes[0].len, 5);
	assert_int_equal(v.map->firewallrules[1]->sourceprefixes[0].len, 17);
	assert_int_equal(v.rsp->peerconfig->address_v6.len, 17);
	assert_int_equal(v.map->dnsconfig->forwarderport, 22054);
	forget(&v);
	set_meta(a, "0.28.0", 0);
	look(&v, a);
	assert_int_equal(v.map->remotepeers[0]->n_allowedips, 1);
	assert_int_equal(v.map->n_firewallrules, 2);
	assert_int_equal(v.map->firewallrules[0]->n_sourceprefixes, 0);
	assert_int_equal(v.rsp->peerconfig->address_v6.len, 0);
	assert_int_equal(v.rsp->n_remotepeers, 1);
	assert_int_equal(v.map->dnsconfig->forwarderport, 5353);
	forget(&v);
	look(&v, b);
	assert_int_equal(v.rsp->n_remotepeers, 0);
	assert_string_equal(v.map->remotepeers[0]->agentversion, "0.28.0");
	forget(&v);

	/* A range is nothing to a client that cannot read it, and never everything. */
	no_default(&w);
	range.start = 100;
	range.end = 200;
	s.rule.port_ranges = &ranges;
	s.rule.n_port_ranges = 1;
	allow(&w, &s, mgmt_group_all(w.a), mgmt_group_all(w.a), "udp");
	look(&v, a);
	assert_int_equal(v.map->n_remotepeers, 1);
	assert_int_equal(v.map->n_firewallrules, 0);
	forget(&v);
	look(&v, b);
	assert_int_equal(v.map->n_firewallrules, 4);
	assert_int_equal(v.map->firewallrules[0]->portinfo->port_selection_case, 2);
	assert_int_equal(v.map->firewallrules[0]->portinfo->range->end, 200);
	forget(&v);
	test_world_end(&w);
}

static void a_named_peer_is_a_side(void **state)
{
	struct rule_spec s = { .rule = NESTBOX__RULE_RECORD__INIT };
	Nestbox__ResourceRef ref = NESTBOX__RESOURCE_REF__INIT;
	struct mgmt_peer *a, *b, *c;
	struct mgmt_error e;
	struct mgmt_policy *p;
	struct world w;
	struct view v;

	(void)state;
	test_world(&w, false);
	a = test_join(&w, 1, "a", w.seed.keys[0].key);
	b = test_join(&w, 2, "b", w.seed.keys[0].key);
	c = test_join(&w, 3, "c", w.seed.keys[0].key);
	no_default(&w);
	ref.id = b->rec->id;
	ref.type = "peer";
	s.rule.destination_resource = &ref;
	p = allow(&w, &s, mgmt_group_all(w.a), mgmt_group_all(w.a), "all");
	look(&v, a);
	assert_true(sees(&v, b) && !sees(&v, c));
	forget(&v);
	look(&v, b);
	assert_true(sees(&v, a) && sees(&v, c));
	assert_int_equal(count_rules(&v, 0, NULL), 4);
	assert_int_equal(count_rules(&v, 1, NULL), 0);
	forget(&v);
	/* Deleting the peer takes the policy along. */
	assert_int_equal(mgmt_peer_delete(&w.owner, b->rec->id, &e), 0);
	assert_int_equal(w.a->t[T_POLICY].n, 0);
	(void)p;
	test_world_end(&w);
}

static void expired_peers_go_offline(void **state)
{
	struct mgmt_claims c = { .user_id = NULL, .expires = INT64_MAX };
	Management__PeerSystemMeta meta;
	uint8_t key[NB_KEY_LEN] = { 9 };
	struct mgmt_login l = { .key = key, .meta = &meta, .claims = &c };
	struct mgmt_peer *a, *p, **on, **off;
	struct mgmt_error e;
	size_t n_on, n_off;
	struct world w;
	struct view v;

	(void)state;
	test_world(&w, false);
	c.user_id = w.seed.user_id;
	test_meta(&meta, "laptop");
	a = test_join(&w, 1, "a", w.seed.keys[0].key);
	assert_int_equal(mgmt_peer_login(w.m, &l, &p, &e), 0);
	assert_int_equal(mgmt_peer_session_end(p), w.wall.ns + 86400 * NB_SEC);
	look(&v, a);
	assert_true(sees(&v, p));
	forget(&v);
	look(&v, p);
	assert_int_equal(v.rsp->sessionexpiresat->seconds, T0 + 86400);
	forget(&v);
	test_pass(&w, 86400 * NB_SEC + 1);
	look(&v, a);
	assert_false(sees(&v, p));
	assert_int_equal(v.map->n_offlinepeers, 1);
	forget(&v);
	assert_int_equal(mgmt_peer_accessible(a, &on, &n_on, &off, &n_off), 0);
	assert_int_equal(n_on, 0);
	assert_int_equal(n_off, 1);
	assert_ptr_equal(off[0], p);
	free(on);
	free(off);
	test_world_end(&w);
}

static void turn_credentials_are_timed(void **state)
{
	static const struct mgmt_turn turn = { "turn:turn.test:3478?transport=udp", NULL, NULL };
	Management__SyncResponse *rsp;
	struct nb_arena arena;
	struct nb_buf b;
	struct world w;

	(void)state;
	test_world(&w, false);
	w.m->cfg.turns = &turn;
	w.m->cfg.n_turns = 1;
	w.m->cfg.turn_secret = "secret";
	w.m->cfg.turn_ttl = NB_SEC;
	w.wall.ns = (T0 - 1) * NB_SEC;
	mgmt_clock(w.m, w.now, w.wall);
	nb_buf_init(&b, 1 << 20);
	nb_arena_init(&arena, 1 << 20);
	assert_int_equal(mgmt_map_sync(test_join(&w, 1, "a", w.seed.keys[0].key), SYNC_TURN | SYNC_RELAY, &b), 0);
	assert_int_equal(proto_unpack(&rsp, &management__sync_response__descriptor, nb_buf_view(&b), &arena), 0);
	assert_null(rsp->networkmap);
	assert_null(rsp->netbirdconfig->signal);
	assert_string_equal(rsp->netbirdconfig->turns[0]->user, "1767225600");
	assert_string_equal(rsp->netbirdconfig->turns[0]->password, "bPqBHZz4rrGKFii4mhPCWh9QtaM=");
	nb_arena_fini(&arena);
	nb_buf_fini(&b);
	test_world_end(&w);
}

/* ---- who is affected */

static bool touched(struct mgmt_txn *t, struct mgmt_peer *p)
{
	for (size_t i = 0; i < t->n_affected; i++)
		if (t->affected[i] == p)
			return true;
	return t->everybody;
}

static void changes_touch_only_whom_they_concern(void **state)
{
	struct rule_spec s = { .rule = NESTBOX__RULE_RECORD__INIT };
	struct mgmt_stream *stream = (struct mgmt_stream *)1;
	struct mgmt_peer *a, *b, *c;
	struct mgmt_group *ga, *gb, *gc;
	struct mgmt_policy *p;
	struct mgmt_txn *t;
	struct world w;

	(void)state;
	test_world(&w, false);
	a = test_join(&w, 1, "a", w.seed.keys[0].key);
	b = test_join(&w, 2, "b", w.seed.keys[0].key);
	c = test_join(&w, 3, "c", w.seed.keys[0].key);
	no_default(&w);
	ga = group(&w, "ga", a);
	gb = group(&w, "gb", b);
	gc = group(&w, "gc", c);
	p = allow(&w, &s, ga, gb, "all");
	a->state->stream = b->state->stream = c->state->stream = stream;

	assert_int_equal(mgmt_begin(&t, w.m, w.a), 0);
	mgmt_affect_policy(t, p->rec);
	assert_true(touched(t, a) && touched(t, b) && !touched(t, c));
	mgmt_abort(t);
	assert_int_equal(mgmt_begin(&t, w.m, w.a), 0);
	mgmt_affect_peer(t, a);
	assert_true(touched(t, a) && touched(t, b) && !touched(t, c));
	mgmt_abort(t);
	assert_int_equal(mgmt_begin(&t, w.m, w.a), 0);
	mgmt_affect_group(t, gc);
	assert_true(!touched(t, a) && !touched(t, b) && touched(t, c));
	mgmt_abort(t);
	a->state->stream = b->state->stream = c->state->stream = NULL;
	test_world_end(&w);
}

/* ---- names and versions */

static void labels(void **state)
{
	static const struct {
		const char *host, *label;
	} rows[] = {
		{ "Web-1.example.com", "web-1" }, { "my_host  name", "my-host-name" }, { "ABC", "abc" }, { ".x", "" },
		{ "b\xc3\xbc" "cher", "xn--bcher-kva" }, { "\xe4\xbe\x8b\xe5\xad\x90", "xn--fsqu00a" },
		{ "bad\xff", "bad-" },
		{ "0123456789012345678901234567890123456789012345678901234567890123456789",
		  "01234567890123456789012345678901234567890123456789012345678" },
	};
	char out[MGMT_LABEL_MAX + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		mgmt_label(out, rows[i].host);
		assert_string_equal(out, rows[i].label);
	}
}

static void versions(void **state)
{
	(void)state;
	assert_true(mgmt_version_at_least("0.77.1", 0, 59, 0));
	assert_true(mgmt_version_at_least("0.59.0", 0, 59, 0));
	assert_true(mgmt_version_at_least("v1.0", 0, 59, 0));
	assert_true(mgmt_version_at_least("0.59.0-rc1", 0, 59, 0));
	assert_false(mgmt_version_at_least("0.58.9", 0, 59, 0));
	assert_true(mgmt_version_at_least("development", 0, 59, 0));
	assert_true(mgmt_version_at_least("ci-123", 0, 59, 0));
	assert_false(mgmt_version_at_least("", 0, 0, 1));
	assert_false(mgmt_version_at_least("x", 0, 0, 1));
	assert_false(mgmt_version_at_least(NULL, 0, 0, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(maps_equal_stocks), cmocka_unit_test(only_policies_connect),
		cmocka_unit_test(receivers_differ), cmocka_unit_test(a_named_peer_is_a_side),
		cmocka_unit_test(expired_peers_go_offline), cmocka_unit_test(turn_credentials_are_timed),
		cmocka_unit_test(changes_touch_only_whom_they_concern), cmocka_unit_test(labels), cmocka_unit_test(versions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
