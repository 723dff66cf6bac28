/* mgmt_service_test.c - the gRPC service seen by a client: two connections in memory, a clock moved by hand, and a
 * store on disk where durability matters. Statuses and messages are those of management-protocol.md 3.1.
 * Tests src/mgmt/service.c and, through it, src/mgmt/peer.c. */
#include "mgmt_help.h"

#include "grpc/grpc.h"
#include "proto/envelope.h"
#include "store/store.h"

#define CALLS 64
#define MESSAGES 32
#define PATH "/management.ManagementService/"

/* One call as the client sees it. */
struct call {
	struct grpc_call *call;
	int status;		/* -1: running */
	char text[256];
	struct nb_buf messages[MESSAGES];
	size_t n;
};

/* A peer program: its own connection and key. */
struct client {
	struct world *w;
	struct grpc_conn *mine, *theirs;
	uint8_t secret[NB_KEY_LEN], pub[NB_KEY_LEN], box[NB_KEY_LEN];
	char key[NB_KEY_TEXT_LEN];
	struct call calls[CALLS];
	size_t n_calls;
	struct nb_arena arena;
};

static void on_message(struct grpc_call *call, void *user, struct nb_bytes m)
{
	struct call *c = user;

	(void)call;
	assert_true(c->n < MESSAGES);
	nb_buf_init(&c->messages[c->n], 16 << 20);
	nb_buf_bytes(&c->messages[c->n++], m);
}

static void on_end(struct grpc_call *call, void *user, const struct grpc_result *r)
{
	struct call *c = user;

	(void)call;
	c->status = r->status;
	c->call = NULL;
	snprintf(c->text, sizeof(c->text), "%s", r->message);
}

static const struct grpc_call_ops ops = { .on_message = on_message, .on_end = on_end };

static void pump(struct client *c)
{
	uint8_t buf[16384];
	size_t n, idle = 0;

	while (idle < 2) {
		idle++;
		while ((n = grpc_conn_output(c->mine, buf, sizeof(buf), c->w->now))) {
			grpc_conn_input(c->theirs, nb_bytes(buf, n), c->w->now);
			idle = 0;
		}
		if (c->w->store)
			store_sync(c->w->store);
		while ((n = grpc_conn_output(c->theirs, buf, sizeof(buf), c->w->now))) {
			grpc_conn_input(c->mine, nb_bytes(buf, n), c->w->now);
			idle = 0;
		}
	}
}

static void connect_client(struct client *c, struct world *w)
{
	struct grpc_config sc, cc;

	memset(c, 0, sizeof(*c));
	c->w = w;
	nb_arena_init(&c->arena, 64 << 20);
	grpc_config_default(&sc);
	sc.services = mgmt_grpc(w->m);
	sc.n_services = 1;
	nb_endpoint_parse(&sc.peer, "192.0.2.7:1234");
	grpc_config_default(&cc);
	cc.authority = "mgmt.test:443";
	cc.max_message = 16 << 20;
	assert_int_equal(grpc_server_new(&c->theirs, &sc, w->now), 0);
	assert_int_equal(grpc_client_new(&c->mine, &cc, w->now), 0);
	nbc_keypair(c->secret, c->pub, test_random, NULL);
	nbc_key_format(c->key, c->pub);
	assert_int_equal(nbc_box_key(c->box, c->secret, w->m->box_public), 0);
	pump(c);
}

static void hang_up(struct client *c)
{
	grpc_conn_free(c->mine);
	grpc_conn_free(c->theirs);
	for (size_t i = 0; i < c->n_calls; i++)
		for (size_t k = 0; k < c->calls[i].n; k++)
			nb_buf_fini(&c->calls[i].messages[k]);
	nb_arena_fini(&c->arena);
}

static struct call *start(struct client *c, const char *method, enum grpc_kind kind, struct nb_bytes message)
{
	struct call *k = &c->calls[c->n_calls++];
	char path[96];
	struct grpc_request req = { .path = path, .kind = kind, .ops = &ops, .user = k, .deadline = NB_TIME_NEVER };

	assert_true(c->n_calls <= CALLS);
	snprintf(path, sizeof(path), PATH "%s", method);
	k->status = -1;
	assert_int_equal(grpc_call_start(&k->call, c->mine, &req, c->w->now), 0);
	assert_int_equal(grpc_call_send(k->call, message), 0);
	if (kind != GRPC_BIDI)
		assert_int_equal(grpc_call_half_close(k->call), 0);
	pump(c);
	return k;
}

static struct call *sealed(struct client *c, const char *method, enum grpc_kind kind, const void *msg)
{
	struct proto_envelope env = { .key = nb_bytes_str(c->key) };
	struct nb_buf body, out;
	struct call *k;

	nb_buf_init(&body, 16 << 20);
	nb_buf_init(&out, 16 << 20);
	assert_int_equal(proto_seal(&body, msg, 16 << 20, c->box, test_random, NULL), 0);
	env.body = nb_buf_view(&body);
	assert_int_equal(proto_mgmt_envelope_encode(&out, &env), 0);
	k = start(c, method, kind, nb_buf_view(&out));
	nb_buf_fini(&body);
	nb_buf_fini(&out);
	return k;
}

static void *opened(struct client *c, struct call *k, size_t index, const ProtobufCMessageDescriptor *desc)
{
	struct proto_envelope env;
	void *out = NULL;

	assert_true(index < k->n);
	assert_int_equal(proto_mgmt_envelope_decode(&env, nb_buf_view(&k->messages[index])), 0);
	assert_true(nb_bytes_eq_str(env.key, mgmt_server_key(c->w->m)));
	assert_int_equal(proto_open_any(&out, desc, env.body, c->box, &c->arena), 0);
	return out;
}

static void expect(const struct call *k, int status, const char *text)
{
	assert_int_equal(k->status, status);
	assert_string_equal(k->text, text);
}

static struct call *login(struct client *c, const char *host, const char *setup_key)
{
	Management__LoginRequest req = MANAGEMENT__LOGIN_REQUEST__INIT;
	Management__PeerSystemMeta meta;

	test_meta(&meta, host);
	req.meta = &meta;
	req.setupkey = (char *)setup_key;
	return sealed(c, "Login", GRPC_UNARY, &req);
}

static struct call *sync_stream(struct client *c, const char *host)
{
	Management__SyncRequest req = MANAGEMENT__SYNC_REQUEST__INIT;
	Management__PeerSystemMeta meta;

	test_meta(&meta, host);
	req.meta = &meta;
	return sealed(c, "Sync", GRPC_SERVER_STREAM, &req);
}

static Management__SyncResponse *update(struct client *c, struct call *k, size_t index)
{
	return opened(c, k, index, &management__sync_response__descriptor);
}

/* ---- tests */

static void a_client_registers_syncs_and_leaves(void **state)
{
	Management__Empty empty = MANAGEMENT__EMPTY__INIT;
	Management__LoginResponse *rsp;
	Management__SyncResponse *up;
	struct client a, b;
	struct call *k, *s;
	char *address;
	struct world w;

	(void)state;
	test_world(&w, true);
	connect_client(&a, &w);
	connect_client(&b, &w);
	k = start(&a, "GetServerKey", GRPC_UNARY, nb_bytes(NULL, 0));
	expect(k, 0, "");
	assert_int_equal(k->n, 1);
	k = start(&a, "isHealthy", GRPC_UNARY, nb_bytes(NULL, 0));
	expect(k, 0, "");
	assert_int_equal(k->messages[0].n, 0);

	expect(login(&a, "alpha", NULL), 7,
	       "no peer auth method provided, please use a setup key or interactive SSO login");
	expect(login(&a, "alpha", w.seed.keys[1].key), 0, "");
	k = login(&a, "alpha", "not looked at");
	expect(k, 0, "");
	rsp = opened(&a, k, 0, &management__login_response__descriptor);
	assert_string_equal(rsp->peerconfig->fqdn, "alpha.netbird.selfhosted");
	assert_string_equal(rsp->netbirdconfig->signal->uri, "signal.test:443");
	assert_int_equal(rsp->netbirdconfig->signal->protocol, 3);
	assert_non_null(rsp->sessionexpiresat);
	address = rsp->peerconfig->address;

	s = sync_stream(&a, "alpha");
	assert_int_equal(s->status, -1);
	assert_int_equal(s->n, 1);
	up = update(&a, s, 0);
	assert_string_equal(up->networkmap->peerconfig->address, address);
	assert_int_equal(up->networkmap->serial, 1);
	assert_true(up->networkmap->remotepeersisempty);
	assert_non_null(up->netbirdconfig);
	assert_true(w.a->t[T_PEER].n == 1 && ((struct mgmt_peer *)w.a->t[T_PEER].v[0])->connected);

	/* A second peer appears at once, further changes after a second and together. */
	expect(login(&b, "beta", w.seed.keys[0].key), 0, "");
	pump(&a);
	assert_int_equal(s->n, 2);
	up = update(&a, s, 1);
	assert_null(up->netbirdconfig);
	assert_int_equal(up->networkmap->n_remotepeers, 1);
	assert_string_equal(up->networkmap->remotepeers[0]->wgpubkey, b.key);
	test_join(&w, 7, "gamma", w.seed.keys[0].key);
	test_join(&w, 8, "delta", w.seed.keys[0].key);
	pump(&a);
	assert_int_equal(s->n, 2);
	assert_true(mgmt_deadline(w.m).ns <= w.now.ns + NB_SEC);
	test_pass(&w, NB_SEC);
	pump(&a);
	assert_int_equal(s->n, 3);
	assert_int_equal(update(&a, s, 2)->networkmap->serial, 4);
	assert_int_equal(update(&a, s, 2)->networkmap->n_remotepeers, 3);

	expect(sealed(&b, "Logout", GRPC_UNARY, &empty), 0, "");
	test_pass(&w, NB_SEC);
	pump(&a);
	assert_int_equal(update(&a, s, 3)->networkmap->n_remotepeers, 2);
	k = sealed(&b, "Logout", GRPC_UNARY, &empty);
	assert_int_equal(k->status, 5);
	assert_int_equal(strncmp(k->text, "peer not found: ", 16), 0);
	hang_up(&a);
	assert_false(((struct mgmt_peer *)w.a->t[T_PEER].v[0])->connected);
	hang_up(&b);
	test_world_end(&w);
}

static void registration_refusals(void **state)
{
	static const char invalid[] = "couldn't add peer: setup key is invalid";
	char expired[MGMT_KEY_TEXT], revoked[MGMT_KEY_TEXT];
	mgmt_key_rec spec = NESTBOX__SETUP_KEY_RECORD__INIT;
	Management__LoginRequest req = MANAGEMENT__LOGIN_REQUEST__INIT;
	Management__PeerSystemMeta meta;
	struct mgmt_key *k;
	struct mgmt_error e;
	struct client c;
	struct world w;
	char *label = "extra";
	struct call *r;

	(void)state;
	test_world(&w, false);
	spec.name = "x";
	assert_int_equal(mgmt_key_create(&w.owner, &spec, 1, &k, expired, &e), 0);
	assert_int_equal(mgmt_key_create(&w.owner, &spec, 0, &k, revoked, &e), 0);
	assert_int_equal(mgmt_key_update(&w.owner, k->rec->id, NULL, 0, true, NULL, &e), 0);
	test_pass(&w, 2 * NB_SEC);
	connect_client(&c, &w);
	expect(login(&c, "h", "11111111-2222-3333-4444-555555555555"), 5, invalid);
	expect(login(&c, "h", "00000000-0000-0000-0000-000000000000"), 5, invalid);
	expect(login(&c, "h", "no uuid"), 5, invalid);
	expect(login(&c, "h", expired), 5, invalid);
	expect(login(&c, "h", revoked), 5, invalid);
	test_join(&w, 9, "first", w.seed.keys[1].key);
	expect(login(&c, "h", w.seed.keys[1].key), 5, invalid);
	expect(login(&c, "", w.seed.keys[0].key), 13, "failed handling request");
	r = sealed(&c, "Login", GRPC_UNARY, &req);
	assert_int_equal(r->status, 9);
	assert_int_equal(strncmp(r->text, "peer system meta has to be provided to log in. Peer ", 52), 0);
	assert_non_null(strstr(r->text, "remote addr 192.0.2.7"));
	test_meta(&meta, "h");
	req.meta = &meta;
	req.setupkey = w.seed.keys[0].key;
	req.dnslabels = &label;
	req.n_dnslabels = 1;
	expect(sealed(&c, "Login", GRPC_UNARY, &req), 9,
	       "couldn't add peer: setup key doesn't allow extra DNS labels");
	req.jwttoken = "a.b.c";
	expect(sealed(&c, "Login", GRPC_UNARY, &req), 3,
	       "invalid jwt token, err: this server has no identity provider");
	assert_int_equal(w.a->t[T_PEER].n, 1);
	hang_up(&c);
	test_world_end(&w);
}

static void guessing_is_slowed_down(void **state)
{
	static const char wrong[] = "11111111-2222-3333-4444-555555555555";
	struct client c;
	struct world w;

	(void)state;
	test_world(&w, false);
	connect_client(&c, &w);
	for (int i = 0; i < 20; i++)
		assert_int_equal(login(&c, "h", wrong)->status, 5);
	expect(login(&c, "h", wrong), 8, "too many failed registrations, please try again later");
	expect(login(&c, "h", w.seed.keys[0].key), 8, "too many failed registrations, please try again later");
	test_pass(&w, 6 * NB_SEC);
	expect(login(&c, "h", w.seed.keys[0].key), 0, "");
	/* A known peer is not concerned. */
	assert_int_equal(login(&c, "h", wrong)->status, 0);
	hang_up(&c);
	test_world_end(&w);
}

static void bad_envelopes(void **state)
{
	struct proto_envelope env = { 0 };
	struct nb_buf out;
	struct client c;
	struct world w;
	uint8_t junk[64] = { 1, 2, 3 }, ff[3] = { 0xff, 0xff, 0xff };
	struct nb_bytes bodies[] = { { NULL, 0 }, { junk, 10 }, { junk, 40 }, { junk, 64 } };

	(void)state;
	test_world(&w, false);
	connect_client(&c, &w);
	assert_int_equal(start(&c, "Login", GRPC_UNARY, nb_bytes(ff, 3))->status, 13);
	env.key = nb_bytes_str("not-a-key");
	nb_buf_init(&out, 4096);
	proto_mgmt_envelope_encode(&out, &env);
	expect(start(&c, "Login", GRPC_UNARY, nb_buf_view(&out)), 3, "provided wgPubKey not-a-key is invalid");
	for (size_t i = 0; i < sizeof(bodies) / sizeof(*bodies); i++) {
		static const char *const methods[] = { "Login", "SyncMeta", "Logout", "ExtendAuthSession" };

		for (size_t k = 0; k < 4; k++) {
			nb_buf_reset(&out);
			env.key = nb_bytes_str(c.key);
			env.body = bodies[i];
			proto_mgmt_envelope_encode(&out, &env);
			expect(start(&c, methods[k], GRPC_UNARY, nb_buf_view(&out)), 3, "invalid request message");
		}
	}
	nb_buf_reset(&out);
	env.body = bodies[3];
	proto_mgmt_envelope_encode(&out, &env);
	expect(start(&c, "Sync", GRPC_SERVER_STREAM, nb_buf_view(&out)), 3, "invalid request message");
	expect(start(&c, "Job", GRPC_BIDI, nb_buf_view(&out)), 3, "invalid request message");
	/* Sealed with the key of somebody else. */
	c.box[0] ^= 1;
	expect(login(&c, "h", w.seed.keys[0].key), 3, "invalid request message");
	assert_int_equal(start(&c, "Nonsense", GRPC_UNARY, nb_bytes(NULL, 0))->status, 12);
	assert_int_equal(w.a->t[T_PEER].n, 0);
	nb_buf_fini(&out);
	hang_up(&c);
	test_world_end(&w);
}

static void strangers_are_told(void **state)
{
	Management__SyncMetaRequest sm = MANAGEMENT__SYNC_META_REQUEST__INIT;
	Management__JobRequest job = MANAGEMENT__JOB_REQUEST__INIT;
	Management__DeviceAuthorizationFlowRequest dev = MANAGEMENT__DEVICE_AUTHORIZATION_FLOW_REQUEST__INIT;
	Management__PKCEAuthorizationFlowRequest pkce = MANAGEMENT__PKCEAUTHORIZATION_FLOW_REQUEST__INIT;
	Management__ExposeServiceRequest ex = MANAGEMENT__EXPOSE_SERVICE_REQUEST__INIT;
	Management__RenewExposeRequest renew = MANAGEMENT__RENEW_EXPOSE_REQUEST__INIT;
	Management__StopExposeRequest stop = MANAGEMENT__STOP_EXPOSE_REQUEST__INIT;
	Management__ExtendAuthSessionRequest ext = MANAGEMENT__EXTEND_AUTH_SESSION_REQUEST__INIT;
	Management__PeerSystemMeta meta;
	struct client c;
	struct world w;

	(void)state;
	test_world(&w, false);
	connect_client(&c, &w);
	test_meta(&meta, "h");
	expect(sync_stream(&c, "h"), 7, "peer is not registered");
	expect(sealed(&c, "Job", GRPC_BIDI, &job), 7, "peer is not registered");
	assert_int_equal(sealed(&c, "SyncMeta", GRPC_UNARY, &sm)->status, 9);
	sm.meta = &meta;
	expect(sealed(&c, "SyncMeta", GRPC_UNARY, &sm), 5, "account not found: index lookup failed");
	expect(sealed(&c, "GetDeviceAuthorizationFlow", GRPC_UNARY, &dev), 5,
	       "no device authorization flow information available");
	expect(sealed(&c, "GetPKCEAuthorizationFlow", GRPC_UNARY, &pkce), 5,
	       "no pkce authorization flow information available");
	expect(sealed(&c, "ExtendAuthSession", GRPC_UNARY, &ext), 3, "jwt token is required");
	ex.has_port = true;
	ex.port = 80;
	expect(sealed(&c, "CreateExpose", GRPC_UNARY, &ex), 7, "peer is not registered");
	expect(sealed(&c, "RenewExpose", GRPC_UNARY, &renew), 7, "peer is not registered");
	expect(sealed(&c, "StopExpose", GRPC_UNARY, &stop), 7, "peer is not registered");
	expect(login(&c, "h", w.seed.keys[0].key), 0, "");
	expect(sealed(&c, "CreateExpose", GRPC_UNARY, &ex), 7, "peer expose is not enabled for this account");
	expect(sealed(&c, "SyncMeta", GRPC_UNARY, &sm), 0, "");
	assert_int_equal(sealed(&c, "Job", GRPC_BIDI, &job)->status, -1);
	hang_up(&c);
	test_world_end(&w);
}

static void deletion_says_farewell(void **state)
{
	Management__JobRequest job = MANAGEMENT__JOB_REQUEST__INIT;
	struct mgmt_error e;
	struct client c;
	struct world w;
	struct call *s, *j;
	Management__SyncResponse *up;

	(void)state;
	test_world(&w, true);
	connect_client(&c, &w);
	expect(login(&c, "h", w.seed.keys[0].key), 0, "");
	s = sync_stream(&c, "h");
	j = sealed(&c, "Job", GRPC_BIDI, &job);
	assert_int_equal(s->n, 1);
	assert_int_equal(mgmt_peer_delete(&w.owner, mgmt_item_id(w.a->t[T_PEER].v[0]), &e), 0);
	assert_int_equal(s->status, -1);
	store_sync(w.store);
	pump(&c);
	expect(s, 0, "");
	expect(j, 0, "");
	up = update(&c, s, 1);
	assert_true(up->remotepeersisempty && up->networkmap->remotepeersisempty);
	assert_true(up->networkmap->firewallrulesisempty);
	assert_int_equal(up->networkmap->serial, w.a->rec->serial);
	expect(sync_stream(&c, "h"), 7, "peer is not registered");
	assert_int_equal(login(&c, "h", NULL)->status, 7);
	hang_up(&c);
	test_world_end(&w);
}

static void the_newer_stream_wins(void **state)
{
	struct client a, b;
	struct world w;
	struct call *s, *t;
	struct mgmt_peer *p;

	(void)state;
	test_world(&w, false);
	connect_client(&a, &w);
	connect_client(&b, &w);
	memcpy(b.secret, a.secret, sizeof(a.secret));
	memcpy(b.pub, a.pub, sizeof(a.pub));
	memcpy(b.box, a.box, sizeof(a.box));
	memcpy(b.key, a.key, sizeof(a.key));
	expect(login(&a, "h", w.seed.keys[0].key), 0, "");
	s = sync_stream(&a, "h");
	t = sync_stream(&b, "h");
	pump(&a);
	expect(s, 0, "");
	assert_int_equal(t->status, -1);
	assert_int_equal(t->n, 1);
	p = (struct mgmt_peer *)w.a->t[T_PEER].v[0];
	assert_true(p->connected);
	hang_up(&a);
	assert_true(p->connected);
	test_join(&w, 5, "x", w.seed.keys[0].key);
	pump(&b);
	assert_int_equal(t->n, 2);
	hang_up(&b);
	assert_false(p->connected);
	test_world_end(&w);
}

static void nothing_unsaved_is_sent(void **state)
{
	struct client c;
	struct world w;
	struct call *s;
	uint8_t buf[65536];

	(void)state;
	test_world(&w, true);
	connect_client(&c, &w);
	expect(login(&c, "h", w.seed.keys[0].key), 0, "");
	s = sync_stream(&c, "h");
	assert_int_equal(s->n, 1);
	test_join(&w, 5, "x", w.seed.keys[0].key);
	/* Not polled yet: not durable as far as the loop knows, so there is nothing for the client. */
	assert_int_equal(grpc_conn_output(c.theirs, buf, sizeof(buf), w.now), 0);
	store_sync(w.store);
	pump(&c);
	assert_int_equal(s->n, 2);
	hang_up(&c);
	test_world_end(&w);
}

static void credentials_are_renewed(void **state)
{
	static const char *const relays[] = { "rel://relay.test:443" };
	static const struct mgmt_turn turn = { "turn:turn.test:3478", NULL, NULL };
	struct client c;
	struct world w;
	struct call *s;
	Management__SyncResponse *up;

	(void)state;
	test_world(&w, false);
	w.m->cfg.relay_urls = relays;
	w.m->cfg.n_relay_urls = 1;
	w.m->cfg.relay_secret = "secret";
	w.m->cfg.relay_ttl = 80 * NB_SEC;
	w.m->cfg.turns = &turn;
	w.m->cfg.n_turns = 1;
	w.m->cfg.turn_secret = "secret";
	w.m->cfg.turn_ttl = 40 * NB_SEC;
	connect_client(&c, &w);
	expect(login(&c, "h", w.seed.keys[0].key), 0, "");
	s = sync_stream(&c, "h");
	test_pass(&w, 29 * NB_SEC);
	pump(&c);
	assert_int_equal(s->n, 1);
	test_pass(&w, 1 * NB_SEC);
	pump(&c);
	assert_int_equal(s->n, 2);
	up = update(&c, s, 1);
	assert_null(up->networkmap);
	assert_int_equal(up->netbirdconfig->n_turns, 1);
	assert_int_equal(up->netbirdconfig->n_stuns, 0);
	assert_non_null(up->netbirdconfig->relay);
	hang_up(&c);
	test_world_end(&w);
}

static void ephemeral_peers_go_after_ten_minutes(void **state)
{
	mgmt_key_rec spec = NESTBOX__SETUP_KEY_RECORD__INIT;
	char plain[MGMT_KEY_TEXT];
	struct mgmt_key *k;
	struct mgmt_error e;
	struct client c;
	struct world w;
	uint64_t serial;
	struct mgmt_peer *p;

	(void)state;
	test_world(&w, false);
	spec.name = "eph";
	spec.ephemeral = true;
	assert_int_equal(mgmt_key_create(&w.owner, &spec, 0, &k, plain, &e), 0);
	connect_client(&c, &w);
	expect(login(&c, "job", plain), 0, "");
	p = (struct mgmt_peer *)w.a->t[T_PEER].v[0];
	assert_int_equal(strncmp(p->rec->dns_label, "job-", 4), 0);
	sync_stream(&c, "job");
	test_pass(&w, 3600 * NB_SEC);
	assert_int_equal(w.a->t[T_PEER].n, 1);
	hang_up(&c);
	serial = w.a->rec->serial;
	test_pass(&w, 540 * NB_SEC);
	assert_int_equal(w.a->t[T_PEER].n, 1);
	test_pass(&w, 120 * NB_SEC);
	assert_int_equal(w.a->t[T_PEER].n, 0);
	assert_int_equal(w.a->rec->serial, serial);
	test_world_end(&w);
}

static struct mgmt_claims claims;
static int check_token(void *arg, const char *token, struct mgmt_claims *c, struct mgmt_error *e)
{
	(void)arg;
	if (strncmp(token, "good", 4) != 0)
		return mgmt_fail(e, MGMT_INVALID, "token is unverifiable");
	*c = claims;
	return 0;
}

static void users_bring_peers_that_expire(void **state)
{
	Management__LoginRequest req = MANAGEMENT__LOGIN_REQUEST__INIT;
	Management__ExtendAuthSessionRequest ext = MANAGEMENT__EXTEND_AUTH_SESSION_REQUEST__INIT;
	Management__PeerSystemMeta meta;
	struct client c;
	struct world w;
	struct call *s;

	(void)state;
	test_world(&w, false);
	w.m->cfg.check_token = check_token;
	claims = (struct mgmt_claims){ .user_id = w.seed.user_id, .expires = INT64_MAX };
	connect_client(&c, &w);
	test_meta(&meta, "laptop");
	req.meta = &meta;
	req.setupkey = "00000000-0000-0000-0000-000000000000";
	req.jwttoken = "bad";
	expect(sealed(&c, "Login", GRPC_UNARY, &req), 3, "invalid jwt token, err: token is unverifiable");
	req.jwttoken = "good1";
	expect(sealed(&c, "Login", GRPC_UNARY, &req), 0, "");
	expect(sealed(&c, "Login", GRPC_UNARY, &req), 16, "JWT already used");
	s = sync_stream(&c, "laptop");
	assert_int_equal(update(&c, s, 0)->sessionexpiresat->seconds, w.wall.ns / NB_SEC + 86400);
	test_pass(&w, 3600 * NB_SEC);
	ext.jwttoken = "good2";
	expect(sealed(&c, "ExtendAuthSession", GRPC_UNARY, &ext), 0, "");
	test_pass(&w, 86399 * NB_SEC);
	pump(&c);
	assert_int_equal(s->status, -1);
	test_pass(&w, 2 * NB_SEC);
	pump(&c);
	expect(s, 0, "");
	expect(sync_stream(&c, "laptop"), 7, "peer login has expired, please log in once more");
	expect(login(&c, "laptop", NULL), 7, "peer login has expired, please log in once more");
	claims.user_id = "somebody";
	req.jwttoken = "good3";
	expect(sealed(&c, "Login", GRPC_UNARY, &req), 7,
	       "peer is already registered by a different User or a Setup Key");
	claims.user_id = w.seed.user_id;
	req.jwttoken = "good4";
	expect(sealed(&c, "Login", GRPC_UNARY, &req), 0, "");
	assert_int_equal(sync_stream(&c, "laptop")->status, -1);
	hang_up(&c);
	test_world_end(&w);
}

static void what_is_in_flight_is_capped(void **state)
{
	struct client a, b;
	struct world w;
	struct call *s, *t;
	uint8_t buf[16384];
	size_t n;

	(void)state;
	test_world(&w, false);
	w.m->cfg.max_in_flight = 1;
	connect_client(&a, &w);
	connect_client(&b, &w);
	expect(login(&a, "a", w.seed.keys[0].key), 0, "");
	expect(login(&b, "b", w.seed.keys[0].key), 0, "");
	s = sync_stream(&a, "a");
	t = sync_stream(&b, "b");
	assert_int_equal(s->n, 1);
	assert_int_equal(t->n, 1);
	assert_int_equal(w.m->in_flight, 0);
	/* The first one to be asked takes all there is while its bytes do not leave. */
	test_join(&w, 9, "c", w.seed.keys[0].key);
	n = grpc_conn_output(a.theirs, buf, 16, w.now);
	assert_int_equal(n, 16);
	assert_true(w.m->in_flight > 0);
	assert_int_equal(grpc_conn_output(b.theirs, buf + 16, sizeof(buf) - 16, w.now), 0);
	assert_false(nb_list_empty(&w.m->starved));
	grpc_conn_input(a.mine, nb_bytes(buf, n), w.now);
	pump(&a);
	pump(&b);
	pump(&a);
	assert_int_equal(s->n, 2);
	assert_int_equal(t->n, 2);
	assert_int_equal(w.m->in_flight, 0);
	/* A stream that ends gives its share back. */
	test_pass(&w, 2 * NB_SEC);
	test_join(&w, 10, "d", w.seed.keys[0].key);
	grpc_conn_output(a.theirs, buf, 16, w.now);
	assert_true(w.m->in_flight > 0);
	hang_up(&a);
	assert_int_equal(w.m->in_flight, 0);
	pump(&b);
	assert_true(t->n >= 3);
	hang_up(&b);
	test_world_end(&w);
}

static void too_many_syncs_at_once(void **state)
{
	struct client a, b;
	struct world w, idle;
	struct call *first;

	(void)state;
	test_world(&w, true);
	connect_client(&a, &w);
	connect_client(&b, &w);
	expect(login(&a, "a", w.seed.keys[0].key), 0, "");
	expect(login(&b, "b", w.seed.keys[0].key), 0, "");
	/* While the disk is busy the first message waits, and its stream counts as being set up. */
	idle = w;
	idle.store = NULL;
	a.w = b.w = &idle;
	w.m->cfg.max_syncs = 1;
	test_join(&w, 9, "c", w.seed.keys[0].key);
	first = sync_stream(&a, "a");
	assert_int_equal(first->n, 0);
	expect(sync_stream(&b, "b"), 8, "too many concurrent sync requests, please try again later");
	store_sync(w.store);
	pump(&a);
	assert_true(first->n >= 1);
	assert_int_equal(sync_stream(&b, "b")->status, -1);
	hang_up(&a);
	hang_up(&b);
	test_world_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_client_registers_syncs_and_leaves), cmocka_unit_test(registration_refusals),
		cmocka_unit_test(guessing_is_slowed_down),
		cmocka_unit_test(bad_envelopes), cmocka_unit_test(strangers_are_told),
		cmocka_unit_test(deletion_says_farewell), cmocka_unit_test(the_newer_stream_wins),
		cmocka_unit_test(nothing_unsaved_is_sent), cmocka_unit_test(credentials_are_renewed),
		cmocka_unit_test(ephemeral_peers_go_after_ten_minutes), cmocka_unit_test(users_bring_peers_that_expire),
		cmocka_unit_test(what_is_in_flight_is_capped), cmocka_unit_test(too_many_syncs_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
