/* client_mgmt_client_test.c - the management client against a scripted server over an in-memory
 * HTTP/2 connection: registration, refusals, the sync stream, reconnects. No sockets, a fake clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "client/mgmt_client.h"
#include "crypto/crypto.h"
#include "proto/envelope.h"

struct world {
	struct client_mgmt *m;
	struct grpc_conn *client, *server;
	struct nb_time now;
	uint8_t peer_secret[NB_KEY_LEN], peer_pub[NB_KEY_LEN], server_secret[NB_KEY_LEN], server_pub[NB_KEY_LEN];
	uint8_t box[NB_KEY_LEN];
	/* the server's script */
	bool known;			/* the peer is registered */
	const char *good_key;
	int register_status;		/* for a bad key */
	int login_status;		/* for an unknown peer */
	bool garbage_login, sync_denied;
	struct grpc_call *stream;
	/* what happened */
	int dials, hang_ups, key_calls, logins, syncs, logged_in, sync_messages, connected, disconnected, logouts;
	bool refused, dial_ok;
	struct client_refusal refusal;
	char refusal_text[300], why[400];
	uint64_t serial;
};

/* --- the server's side --- */

static void reply_sealed(struct world *w, struct grpc_call *call, const ProtobufCMessage *msg, bool stream)
{
	struct proto_envelope e = { 0 };
	struct nb_buf body, out;
	char text[NB_KEY_TEXT_LEN];

	nb_buf_init(&body, 1 << 20);
	nb_buf_init(&out, 1 << 20);
	assert_int_equal(proto_seal(&body, msg, 1 << 19, w->box, nbc_random, NULL), 0);
	nbc_key_format(text, w->server_pub);
	e.key = nb_bytes_str(text);
	e.body = nb_buf_view(&body);
	assert_int_equal(proto_mgmt_envelope_encode(&out, &e), 0);
	if (stream)
		assert_int_equal(grpc_call_send(call, nb_buf_view(&out)), 0);
	else
		assert_int_equal(grpc_call_reply(call, nb_buf_view(&out)), 0);
	nb_buf_fini(&body);
	nb_buf_fini(&out);
}

static void on_key(struct grpc_call *call, void *user, struct nb_bytes message)
{
	struct world *w = grpc_call_service_arg(call);
	Management__ServerKeyResponse r = MANAGEMENT__SERVER_KEY_RESPONSE__INIT;
	char text[NB_KEY_TEXT_LEN];
	struct nb_buf out;

	(void)user;
	(void)message;
	w->key_calls++;
	nbc_key_format(text, w->server_pub);
	r.key = text;
	nb_buf_init(&out, 1000);
	proto_pack(&out, &r);
	grpc_call_reply(call, nb_buf_view(&out));
	nb_buf_fini(&out);
}

static void *open_request(struct world *w, struct nb_bytes message, const ProtobufCMessageDescriptor *d, struct nb_arena *a)
{
	struct proto_envelope e;
	uint8_t key[NB_KEY_LEN];
	void *out = NULL;

	nb_arena_init(a, 1 << 20);
	assert_int_equal(proto_mgmt_envelope_decode(&e, message), 0);
	assert_int_equal(nbc_key_parse(key, e.key), 0);
	assert_memory_equal(key, w->peer_pub, NB_KEY_LEN);
	assert_int_equal(proto_open_any(&out, d, e.body, w->box, a), 0);
	return out;
}

static void on_login(struct grpc_call *call, void *user, struct nb_bytes message)
{
	struct world *w = grpc_call_service_arg(call);
	Management__LoginResponse r = MANAGEMENT__LOGIN_RESPONSE__INIT;
	Management__NetbirdConfig nc = MANAGEMENT__NETBIRD_CONFIG__INIT;
	Management__PeerConfig pc = MANAGEMENT__PEER_CONFIG__INIT;
	Management__LoginRequest *req;
	struct nb_arena a;

	(void)user;
	w->logins++;
	req = open_request(w, message, &management__login_request__descriptor, &a);
	assert_string_equal(req->meta->hostname, "box");
	if (req->setupkey) {
		if (!w->good_key || strcmp(req->setupkey, w->good_key)) {
			grpc_call_finish(call, w->register_status, "couldn't add peer: setup key is invalid");
			nb_arena_fini(&a);
			return;
		}
		w->known = true;
	}
	nb_arena_fini(&a);
	if (!w->known) {
		grpc_call_finish(call, w->login_status, "no peer auth method provided");
		return;
	}
	if (w->garbage_login) {
		grpc_call_reply(call, nb_bytes_str("\x12\x03" "abc"));
		return;
	}
	r.netbirdconfig = &nc;
	r.peerconfig = &pc;
	pc.address = (char *)(uintptr_t)"100.64.0.9/16";
	reply_sealed(w, call, &r.base, false);
}

static void on_sync(struct grpc_call *call, void *user, struct nb_bytes message)
{
	struct world *w = grpc_call_service_arg(call);
	struct nb_arena a;

	(void)user;
	w->syncs++;
	open_request(w, message, &management__sync_request__descriptor, &a);
	nb_arena_fini(&a);
	if (!w->known || w->sync_denied) {
		grpc_call_finish(call, GRPC_PERMISSION_DENIED, "peer is not registered");
		return;
	}
	w->stream = call;
}

static void send_map(struct world *w, uint64_t serial)
{
	Management__SyncResponse r = MANAGEMENT__SYNC_RESPONSE__INIT;
	Management__NetworkMap map = MANAGEMENT__NETWORK_MAP__INIT;

	r.networkmap = &map;
	map.has_serial = 1;
	map.serial = serial;
	reply_sealed(w, w->stream, &r.base, true);
}

static void stream_end(struct grpc_call *call, void *user, const struct grpc_result *result)
{
	struct world *w = grpc_call_service_arg(call);

	(void)user;
	(void)result;
	if (w->stream == call)
		w->stream = NULL;
}

static void on_logout(struct grpc_call *call, void *user, struct nb_bytes message)
{
	struct world *w = grpc_call_service_arg(call);

	(void)user;
	(void)message;
	w->known = false;
	grpc_call_reply(call, nb_bytes(NULL, 0));
}

static const struct grpc_call_ops key_ops = { .on_message = on_key }, login_ops = { .on_message = on_login },
				  sync_ops = { .on_message = on_sync, .on_end = stream_end },
				  logout_ops = { .on_message = on_logout };
static const struct grpc_method methods[] = {
	{ "/management.ManagementService/GetServerKey", GRPC_UNARY, &key_ops, 0 },
	{ "/management.ManagementService/Login", GRPC_UNARY, &login_ops, 0 },
	{ "/management.ManagementService/Sync", GRPC_SERVER_STREAM, &sync_ops, 0 },
	{ "/management.ManagementService/Logout", GRPC_UNARY, &logout_ops, 0 },
};

/* --- the client's side --- */

static void op_dial(void *arg)
{
	struct world *w = arg;

	w->dials++;
}

static void op_hang_up(void *arg)
{
	struct world *w = arg;

	w->hang_ups++;
}

static void op_logged_in(void *arg, const Management__LoginResponse *r)
{
	struct world *w = arg;

	assert_string_equal(r->peerconfig->address, "100.64.0.9/16");
	w->logged_in++;
}

static void op_sync(void *arg, const Management__SyncResponse *r)
{
	struct world *w = arg;

	w->sync_messages++;
	w->serial = r->networkmap->serial;
}

static void op_state(void *arg, bool connected, const char *error)
{
	struct world *w = arg;

	if (connected)
		w->connected++;
	else
		w->disconnected++;
	snprintf(w->why, sizeof w->why, "%s", error ? error : "");
}

static void op_refused(void *arg, const struct client_refusal *why)
{
	struct world *w = arg;

	w->refused = true;
	w->refusal = *why;
	snprintf(w->refusal_text, sizeof w->refusal_text, "%s", why->message);
}

static void op_logged_out(void *arg, int status, const char *message)
{
	struct world *w = arg;

	(void)message;
	w->logouts++;
	assert_int_equal(status, GRPC_OK);
}

static const struct client_mgmt_ops ops = { op_dial, op_hang_up, op_logged_in, op_sync, op_state, op_refused, op_logged_out };

/* --- the wire --- */

static bool move(struct world *w, struct grpc_conn *from, struct grpc_conn *to)
{
	uint8_t room[4096];
	size_t n;
	bool moved = false;

	while ((n = grpc_conn_output(from, room, sizeof room, w->now))) {
		grpc_conn_input(to, nb_bytes(room, n), w->now);
		moved = true;
	}
	return moved;
}

static void pump(struct world *w)
{
	bool moved;

	do {
		moved = move(w, w->client, w->server);
		moved |= move(w, w->server, w->client);
	} while (moved);
}

static void disconnect(struct world *w)
{
	w->stream = NULL;
	grpc_conn_free(w->client);
	grpc_conn_free(w->server);
	w->client = w->server = NULL;
}

static void connect(struct world *w)
{
	struct grpc_service service = { methods, sizeof methods / sizeof *methods, w };
	static struct grpc_service kept;
	struct grpc_config cfg;

	kept = service;
	grpc_config_default(&cfg);
	cfg.authority = "test:80";
	assert_int_equal(grpc_client_new(&w->client, &cfg, w->now), 0);
	grpc_config_default(&cfg);
	cfg.services = &kept;
	cfg.n_services = 1;
	assert_int_equal(grpc_server_new(&w->server, &cfg, w->now), 0);
	client_mgmt_attach(w->m, w->client, w->now);
	pump(w);
}

static struct world *setup(const char *setup_key)
{
	static Management__PeerSystemMeta meta = MANAGEMENT__PEER_SYSTEM_META__INIT;
	struct client_mgmt_config cfg = { .ops = &ops, .meta = &meta, .setup_key = setup_key, .random = nbc_random };
	struct world *w = calloc(1, sizeof *w);

	nbc_init();
	meta.hostname = (char *)(uintptr_t)"box";
	nbc_keypair(w->peer_secret, w->peer_pub, nbc_random, NULL);
	nbc_keypair(w->server_secret, w->server_pub, nbc_random, NULL);
	nbc_box_key(w->box, w->server_secret, w->peer_pub);
	w->now.ns = 1000 * NB_SEC;
	w->login_status = GRPC_PERMISSION_DENIED;
	w->register_status = GRPC_NOT_FOUND;
	cfg.arg = w;
	memcpy(cfg.private_key, w->peer_secret, NB_KEY_LEN);
	w->m = client_mgmt_new(&cfg);
	client_mgmt_start(w->m, w->now);
	assert_int_equal(w->dials, 1);
	return w;
}

static void teardown(struct world *w)
{
	client_mgmt_free(w->m);
	if (w->client)
		disconnect(w);
	free(w);
}

/* --- tests --- */

static void registers_then_syncs(void **state)
{
	struct world *w = setup("A2C8E62B-38F5-4553-B31E-DD66C696CEBB");

	(void)state;
	w->good_key = "A2C8E62B-38F5-4553-B31E-DD66C696CEBB";
	connect(w);
	assert_int_equal(w->logins, 2);
	assert_int_equal(w->logged_in, 1);
	assert_int_equal(w->syncs, 0);
	client_mgmt_sync(w->m, w->now);
	pump(w);
	assert_int_equal(w->syncs, 1);
	send_map(w, 7);
	send_map(w, 8);
	pump(w);
	assert_int_equal(w->sync_messages, 2);
	assert_int_equal(w->serial, 8);
	assert_int_equal(client_mgmt_logout(w->m, w->now), 0);
	pump(w);
	assert_int_equal(w->logouts, 1);
	teardown(w);
}

static void a_bad_key_is_final(void **state)
{
	struct world *w = setup("00000000-0000-0000-0000-000000000001");

	(void)state;
	connect(w);
	assert_true(w->refused);
	assert_true(w->refusal.registering);
	assert_int_equal(w->refusal.status, GRPC_NOT_FOUND);
	assert_string_equal(w->refusal_text, "couldn't add peer: setup key is invalid");
	assert_true(client_mgmt_stopped(w->m));
	assert_int_equal(w->hang_ups, 1);
	assert_true(nb_time_is_never(client_mgmt_deadline(w->m)));
	teardown(w);
}

static void an_unknown_peer_without_key_is_refused(void **state)
{
	struct world *w = setup(NULL);

	(void)state;
	connect(w);
	assert_true(w->refused);
	assert_false(w->refusal.registering);
	assert_int_equal(w->refusal.status, GRPC_PERMISSION_DENIED);
	teardown(w);
}

static void a_lost_connection_is_dialed_again_and_goes_straight_to_sync(void **state)
{
	struct world *w = setup(NULL);

	(void)state;
	w->known = true;
	connect(w);
	client_mgmt_sync(w->m, w->now);
	pump(w);
	assert_int_equal(w->syncs, 1);
	w->now = nb_time_add(w->now, 60 * NB_SEC);
	client_mgmt_timer(w->m, w->now);
	grpc_conn_lost(w->client, "reset", w->now);
	client_mgmt_lost(w->m, "reset", w->now);
	disconnect(w);
	assert_true(w->disconnected >= 1);
	/* The first retry comes within twice the first interval. */
	assert_true(nb_time_diff(client_mgmt_deadline(w->m), w->now) <= 400 * NB_MS);
	w->now = client_mgmt_deadline(w->m);
	client_mgmt_timer(w->m, w->now);
	assert_int_equal(w->dials, 2);
	connect(w);
	assert_int_equal(w->logins, 1);
	assert_int_equal(w->syncs, 2);
	assert_int_equal(w->key_calls, 2);
	teardown(w);
}

static void dial_failures_wait_longer_and_longer(void **state)
{
	struct world *w = setup(NULL);
	int64_t longest = 0;

	(void)state;
	for (int i = 0; i < 20; i++) {
		int64_t wait;

		client_mgmt_dial_failed(w->m, "connection refused", w->now);
		assert_string_equal(w->why, "connection refused");
		wait = nb_time_diff(client_mgmt_deadline(w->m), w->now);
		assert_true(wait >= 0 && wait <= 30 * NB_SEC);
		longest = wait > longest ? wait : longest;
		w->now = client_mgmt_deadline(w->m);
		client_mgmt_timer(w->m, w->now);
		assert_int_equal(w->dials, i + 2);
	}
	assert_true(longest > 5 * NB_SEC);
	teardown(w);
}

static void removal_ends_in_a_refusal(void **state)
{
	struct world *w = setup(NULL);

	(void)state;
	w->known = true;
	connect(w);
	client_mgmt_sync(w->m, w->now);
	pump(w);
	w->known = false;
	grpc_call_finish(w->stream, GRPC_OK, NULL);
	pump(w);
	assert_false(w->refused);
	disconnect(w);
	w->now = client_mgmt_deadline(w->m);
	client_mgmt_timer(w->m, w->now);
	connect(w);
	assert_true(w->refused);
	assert_int_equal(w->refusal.status, GRPC_PERMISSION_DENIED);
	teardown(w);
}

/* Login says yes, Sync no: one try of each, then a wait. */
static void contradictory_refusals_are_no_loop(void **state)
{
	struct world *w = setup(NULL);

	(void)state;
	w->known = w->sync_denied = true;
	connect(w);
	client_mgmt_sync(w->m, w->now);
	pump(w);
	assert_int_equal(w->syncs, 2);
	assert_int_equal(w->logins, 2);
	assert_false(w->refused);
	disconnect(w);
	w->now = client_mgmt_deadline(w->m);
	client_mgmt_timer(w->m, w->now);
	w->known = false;
	connect(w);
	assert_true(w->refused);
	teardown(w);
}

static void garbage_is_retried_not_trusted(void **state)
{
	struct world *w = setup(NULL);

	(void)state;
	w->known = w->garbage_login = true;
	connect(w);
	assert_int_equal(w->logged_in, 0);
	assert_non_null(strstr(w->why, "malformed"));
	assert_false(nb_time_is_never(client_mgmt_deadline(w->m)));
	teardown(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers_then_syncs),
		cmocka_unit_test(a_bad_key_is_final),
		cmocka_unit_test(an_unknown_peer_without_key_is_refused),
		cmocka_unit_test(a_lost_connection_is_dialed_again_and_goes_straight_to_sync),
		cmocka_unit_test(dial_failures_wait_longer_and_longer),
		cmocka_unit_test(removal_ends_in_a_refusal),
		cmocka_unit_test(contradictory_refusals_are_no_loop),
		cmocka_unit_test(garbage_is_retried_not_trusted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
