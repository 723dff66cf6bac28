/* mgmt_client.c - see mgmt_client.h. One call is under way at a time, besides the Sync stream; step
 * says which. The server key is fetched once per connection: a server that changed its key has also
 * broken the connection, and INVALID_ARGUMENT makes us fetch it again. */
#include "client/mgmt_client.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "client/backoff.h"
#include "crypto/crypto.h"
#include "proto/envelope.h"

#define SERVICE "/management.ManagementService/"
#define KEY_DEADLINE_NS (5 * NB_SEC)
#define LOGIN_DEADLINE_NS (10 * NB_SEC)
#define LOGOUT_DEADLINE_NS (15 * NB_SEC)
#define MESSAGE_MAX (16u << 20)		/* stock's client limit for one message */
#define ARENA_MAX (128u << 20)		/* eight times the largest message */
#define STREAM_SETTLED_NS (10 * NB_SEC) /* a stream this old was a success: waits start anew */

enum step {
	STEP_STOPPED,
	STEP_DIALING,
	STEP_KEY,	/* GetServerKey under way */
	STEP_LOGIN,	/* Login without credentials under way */
	STEP_REGISTER,	/* Login with the setup key under way */
	STEP_READY,	/* logged in; Sync may be open */
	STEP_WAITING,	/* until retry_at */
};

struct client_mgmt {
	struct client_mgmt_config cfg;
	char *setup_key;
	uint8_t public_key[NB_KEY_LEN];
	char public_text[NB_KEY_TEXT_LEN];
	enum step step;
	struct grpc_conn *conn;
	struct grpc_call *call;		/* the unary call of step */
	struct grpc_call *stream;	/* Sync */
	uint8_t box_key[NB_KEY_LEN];
	bool have_key;
	bool logged_in;			/* since the machine was started, and not refused since */
	bool want_sync;
	bool got_reply;			/* the unary call's message was good */
	bool sync_alive;
	bool denied;			/* Sync was refused, and no message has come since */
	struct nb_time retry_at;
	struct nb_time stream_since;
	struct nb_time now;		/* as of the last call from the driver; callbacks have no clock */
	struct client_backoff login_wait, sync_wait;
};

static void advance(struct client_mgmt *m);

static int seal_request(struct client_mgmt *m, const ProtobufCMessage *inner, struct nb_buf *out)
{
	struct proto_envelope e = { .key = nb_bytes_str(m->public_text) };
	struct nb_buf body;
	int err;

	nb_buf_init(&body, MESSAGE_MAX);
	err = proto_seal(&body, inner, MESSAGE_MAX - NBC_BOX_OVERHEAD, m->box_key, m->cfg.random, m->cfg.random_ctx);
	e.body = nb_buf_view(&body);
	if (!err)
		err = proto_mgmt_envelope_encode(out, &e);
	nb_buf_fini(&body);
	return err;
}

/* The message inside a sealed answer; NULL when it does not open or parse. Lives in arena. */
static void *open_answer(struct client_mgmt *m, const ProtobufCMessageDescriptor *desc, struct nb_bytes message,
			 struct nb_arena *arena)
{
	struct proto_envelope e;
	void *out = NULL;

	nb_arena_init(arena, ARENA_MAX);
	if (proto_mgmt_envelope_decode(&e, message) || proto_open_any(&out, desc, e.body, m->box_key, arena))
		return NULL;
	return out;
}

/* Hang up and try again after a wait. */
static void fail(struct client_mgmt *m, struct client_backoff *wait, const char *why)
{
	if (m->call)
		grpc_call_cancel(m->call);
	if (m->stream)
		grpc_call_cancel(m->stream);
	m->call = m->stream = NULL;
	m->sync_alive = false;
	if (m->conn && m->step != STEP_STOPPED) {
		m->conn = NULL;
		m->cfg.ops->hang_up(m->cfg.arg);
	}
	m->have_key = false;
	m->step = STEP_WAITING;
	m->retry_at = nb_time_add(m->now, client_backoff_next(wait, m->cfg.random, m->cfg.random_ctx));
	m->cfg.ops->state(m->cfg.arg, false, why);
}

static void refuse(struct client_mgmt *m, int status, const char *message, bool registering)
{
	struct client_refusal why = { status, message, registering };
	char copy[512];

	/* The text dies with the call that carried it. */
	snprintf(copy, sizeof copy, "%s", message);
	why.message = copy;
	client_mgmt_stop(m);
	m->cfg.ops->state(m->cfg.arg, false, copy);
	m->cfg.ops->refused(m->cfg.arg, &why);
}

/* --- GetServerKey --- */

static void key_message(struct grpc_call *call, void *user, struct nb_bytes message)
{
	struct client_mgmt *m = user;
	Management__ServerKeyResponse *r;
	uint8_t server[NB_KEY_LEN];
	struct nb_arena arena;

	(void)call;
	nb_arena_init(&arena, ARENA_MAX);
	m->got_reply = !proto_unpack(&r, &management__server_key_response__descriptor, message, &arena) &&
		       r->key && !nbc_key_parse(server, nb_bytes_str(r->key)) &&
		       !nbc_box_key(m->box_key, m->cfg.private_key, server);
	nb_arena_fini(&arena);
}

static void key_end(struct grpc_call *call, void *user, const struct grpc_result *result)
{
	struct client_mgmt *m = user;
	char why[300];

	(void)call;
	m->call = NULL;
	if (result->status == GRPC_OK && m->got_reply) {
		m->have_key = true;
		advance(m);
		return;
	}
	snprintf(why, sizeof why, "management did not give its key: %.200s",
		 result->status == GRPC_OK ? "malformed answer; is this a NetBird management server?" : result->message);
	fail(m, &m->login_wait, why);
}

static const struct grpc_call_ops key_ops = { .on_message = key_message, .on_end = key_end };

/* --- Login --- */

static void login_message(struct grpc_call *call, void *user, struct nb_bytes message)
{
	struct client_mgmt *m = user;
	Management__LoginResponse *r;
	struct nb_arena arena;

	(void)call;
	r = open_answer(m, &management__login_response__descriptor, message, &arena);
	if (r && r->netbirdconfig && r->peerconfig && r->peerconfig->address) {
		m->got_reply = true;
		m->logged_in = true;
		m->cfg.ops->logged_in(m->cfg.arg, r);
	}
	nb_arena_fini(&arena);
}

static bool final_refusal(const struct client_mgmt *m, int status, bool registering)
{
	if (status == GRPC_PERMISSION_DENIED)
		return true;
	/* From a server that knew us a moment ago it is no verdict on this peer. */
	if (status == GRPC_INVALID_ARGUMENT)
		return !m->logged_in;
	return registering && (status == GRPC_NOT_FOUND || status == GRPC_FAILED_PRECONDITION ||
			       status == GRPC_UNAUTHENTICATED);
}

static void login_end(struct grpc_call *call, void *user, const struct grpc_result *result)
{
	struct client_mgmt *m = user;
	bool registering = m->step == STEP_REGISTER;
	char why[300];

	(void)call;
	m->call = NULL;
	if (m->step == STEP_STOPPED)
		return;
	if (result->status == GRPC_OK && m->got_reply) {
		m->step = STEP_READY;
		client_backoff_reset(&m->login_wait);
		m->cfg.ops->state(m->cfg.arg, true, NULL);
		advance(m);
	} else if (result->status == GRPC_PERMISSION_DENIED && !registering && m->setup_key && !m->logged_in) {
		m->step = STEP_REGISTER;
		advance(m);
	} else if (final_refusal(m, result->status, registering)) {
		refuse(m, result->status, result->message, registering);
	} else {
		snprintf(why, sizeof why, "login failed: %.200s",
			 result->status == GRPC_OK ? "malformed answer" : result->message);
		fail(m, &m->login_wait, why);
	}
}

static const struct grpc_call_ops login_ops = { .on_message = login_message, .on_end = login_end };

/* --- Sync --- */

static void sync_message(struct grpc_call *call, void *user, struct nb_bytes message)
{
	struct client_mgmt *m = user;
	Management__SyncResponse *r;
	struct nb_arena arena;

	(void)call;
	r = open_answer(m, &management__sync_response__descriptor, message, &arena);
	if (r) {
		m->sync_alive = true;
		m->denied = false;
		m->cfg.ops->sync(m->cfg.arg, r);
	} else {
		nb_warn("management: a sync message could not be opened and was ignored");
	}
	nb_arena_fini(&arena);
}

static void sync_end(struct grpc_call *call, void *user, const struct grpc_result *result)
{
	struct client_mgmt *m = user;
	char why[300];

	(void)call;
	m->stream = NULL;
	if (m->step == STEP_STOPPED)
		return;
	if (m->sync_alive && nb_time_diff(m->now, m->stream_since) > STREAM_SETTLED_NS)
		client_backoff_reset(&m->sync_wait);
	snprintf(why, sizeof why, "sync stream ended: %.200s",
		 result->status == GRPC_OK ? "closed by the server" : result->message);
	m->sync_alive = false;
	if (result->status == GRPC_PERMISSION_DENIED && !m->denied && m->conn && grpc_conn_usable(m->conn)) {
		/* Removed or expired: Login says which, in words. If it does not, a wait comes before the next try. */
		m->denied = true;
		m->cfg.ops->state(m->cfg.arg, false, why);
		m->step = STEP_LOGIN;
		advance(m);
		return;
	}
	m->denied = false;
	fail(m, &m->sync_wait, why);
}

static const struct grpc_call_ops sync_ops = { .on_message = sync_message, .on_end = sync_end };

/* --- Logout --- */

static void logout_end(struct grpc_call *call, void *user, const struct grpc_result *result)
{
	struct client_mgmt *m = user;

	(void)call;
	m->call = NULL;
	m->cfg.ops->logged_out(m->cfg.arg, result->status, result->message);
}

static const struct grpc_call_ops logout_ops = { .on_end = logout_end };

/* --- the machine --- */

static int start_call(struct client_mgmt *m, const char *method, enum grpc_kind kind, const struct grpc_call_ops *ops,
		      struct nb_bytes body, int64_t limit_ns, struct grpc_call **out)
{
	char path[80];
	struct grpc_request req = {
		.path = path, .kind = kind, .ops = ops, .user = m, .max_message = MESSAGE_MAX,
		.deadline = limit_ns ? nb_time_add(m->now, limit_ns) : NB_TIME_NEVER,
	};
	int err;

	snprintf(path, sizeof path, SERVICE "%s", method);
	if (kind == GRPC_UNARY)
		return grpc_call_unary(out, m->conn, &req, body, m->now);
	err = grpc_call_start(out, m->conn, &req, m->now);
	if (err)
		return err;
	err = grpc_call_send(*out, body);
	return err ? err : grpc_call_half_close(*out);
}

/* Start one sealed call; failures to start are failures of the connection. */
static void start_sealed(struct client_mgmt *m, const char *method, enum grpc_kind kind, const struct grpc_call_ops *ops,
			 const ProtobufCMessage *inner, int64_t limit_ns, struct grpc_call **out)
{
	struct nb_buf body;
	int err;

	nb_buf_init(&body, MESSAGE_MAX);
	m->got_reply = false;
	err = seal_request(m, inner, &body);
	if (!err)
		err = start_call(m, method, kind, ops, nb_buf_view(&body), limit_ns, out);
	nb_buf_fini(&body);
	if (err)
		fail(m, &m->login_wait, nb_strerror(err));
}

static void send_login(struct client_mgmt *m, bool registering)
{
	Management__LoginRequest r = MANAGEMENT__LOGIN_REQUEST__INIT;
	Management__PeerKeys keys = MANAGEMENT__PEER_KEYS__INIT;

	r.meta = (Management__PeerSystemMeta *)(uintptr_t)m->cfg.meta;
	r.peerkeys = &keys;
	if (registering) {
		r.setupkey = m->setup_key;
		r.dnslabels = (char **)(uintptr_t)m->cfg.dns_labels;
		r.n_dnslabels = m->cfg.n_dns_labels;
	}
	start_sealed(m, "Login", GRPC_UNARY, &login_ops, &r.base, LOGIN_DEADLINE_NS, &m->call);
}

static void send_sync(struct client_mgmt *m)
{
	Management__SyncRequest r = MANAGEMENT__SYNC_REQUEST__INIT;

	r.meta = (Management__PeerSystemMeta *)(uintptr_t)m->cfg.meta;
	m->stream_since = m->now;
	start_sealed(m, "Sync", GRPC_SERVER_STREAM, &sync_ops, &r.base, 0, &m->stream);
}

/* Do what the step needs next. */
static void advance(struct client_mgmt *m)
{
	if (m->step == STEP_STOPPED || m->call)
		return;
	if (!m->conn) {
		m->step = STEP_DIALING;
		m->cfg.ops->dial(m->cfg.arg);
		return;
	}
	if (!m->have_key) {
		m->step = STEP_KEY;
		m->got_reply = false;
		if (start_call(m, "GetServerKey", GRPC_UNARY, &key_ops, nb_bytes(NULL, 0), KEY_DEADLINE_NS, &m->call))
			fail(m, &m->login_wait, "the connection to management broke");
		return;
	}
	if (m->step == STEP_KEY)
		m->step = m->logged_in ? STEP_READY : STEP_LOGIN;
	if (m->step == STEP_LOGIN || m->step == STEP_REGISTER) {
		send_login(m, m->step == STEP_REGISTER);
		return;
	}
	if (m->step == STEP_READY && m->want_sync && !m->stream) {
		m->cfg.ops->state(m->cfg.arg, true, NULL);
		send_sync(m);
	}
}

struct client_mgmt *client_mgmt_new(const struct client_mgmt_config *cfg)
{
	struct client_mgmt *m = calloc(1, sizeof *m);

	if (!m)
		return NULL;
	m->cfg = *cfg;
	if (cfg->setup_key && *cfg->setup_key) {
		m->setup_key = strdup(cfg->setup_key);
		if (!m->setup_key) {
			free(m);
			return NULL;
		}
	}
	m->cfg.setup_key = NULL;
	nbc_x25519_base(m->public_key, cfg->private_key);
	nbc_key_format(m->public_text, m->public_key);
	m->retry_at = NB_TIME_NEVER;
	m->login_wait = (struct client_backoff){ .first_ns = NB_SEC, .cap_ns = 15 * NB_SEC };
	m->sync_wait = (struct client_backoff){ .first_ns = 200 * NB_MS, .cap_ns = 10 * NB_SEC };
	return m;
}

void client_mgmt_free(struct client_mgmt *m)
{
	if (!m)
		return;
	client_mgmt_stop(m);
	if (m->setup_key)
		nb_wipe(m->setup_key, strlen(m->setup_key));
	free(m->setup_key);
	nb_wipe(m, sizeof *m);
	free(m);
}

void client_mgmt_start(struct client_mgmt *m, struct nb_time now)
{
	m->now = now;
	m->step = STEP_KEY;
	m->logged_in = false;
	advance(m);
}

void client_mgmt_sync(struct client_mgmt *m, struct nb_time now)
{
	m->now = now;
	m->want_sync = true;
	if (m->step == STEP_READY)
		advance(m);
}

void client_mgmt_network_changed(struct client_mgmt *m, bool broken, struct nb_time now)
{
	m->now = now;
	if (m->step == STEP_STOPPED)
		return;
	if (broken && m->step == STEP_DIALING)
		m->cfg.ops->hang_up(m->cfg.arg);
	if (broken && m->step != STEP_WAITING)
		fail(m, &m->sync_wait, "the network changed");
	if (m->step != STEP_WAITING)
		return;
	client_backoff_reset(&m->login_wait);
	client_backoff_reset(&m->sync_wait);
	m->retry_at = now;
}

int client_mgmt_logout(struct client_mgmt *m, struct nb_time now)
{
	Management__Empty empty = MANAGEMENT__EMPTY__INIT;

	m->now = now;
	if (m->step != STEP_READY || m->call)
		return NB_E_STATE;
	start_sealed(m, "Logout", GRPC_UNARY, &logout_ops, &empty.base, LOGOUT_DEADLINE_NS, &m->call);
	return m->call ? 0 : NB_E_CLOSED;
}

void client_mgmt_stop(struct client_mgmt *m)
{
	m->step = STEP_STOPPED;
	m->want_sync = false;
	m->retry_at = NB_TIME_NEVER;
	if (m->call)
		grpc_call_cancel(m->call);
	if (m->stream)
		grpc_call_cancel(m->stream);
	m->call = m->stream = NULL;
	m->have_key = false;
	if (m->conn) {
		m->conn = NULL;
		m->cfg.ops->hang_up(m->cfg.arg);
	}
}

bool client_mgmt_stopped(const struct client_mgmt *m)
{
	return m->step == STEP_STOPPED;
}

void client_mgmt_attach(struct client_mgmt *m, struct grpc_conn *c, struct nb_time now)
{
	m->now = now;
	m->conn = c;
	m->have_key = false;
	m->step = STEP_KEY;
	advance(m);
}

void client_mgmt_dial_failed(struct client_mgmt *m, const char *why, struct nb_time now)
{
	m->now = now;
	if (m->step == STEP_DIALING)
		fail(m, m->logged_in ? &m->sync_wait : &m->login_wait, why);
}

void client_mgmt_lost(struct client_mgmt *m, const char *why, struct nb_time now)
{
	m->now = now;
	if (!m->conn)
		return;
	m->conn = NULL;
	if (m->step != STEP_STOPPED)
		fail(m, m->logged_in ? &m->sync_wait : &m->login_wait, why);
}

struct nb_time client_mgmt_deadline(const struct client_mgmt *m)
{
	return m->step == STEP_WAITING ? m->retry_at : NB_TIME_NEVER;
}

void client_mgmt_timer(struct client_mgmt *m, struct nb_time now)
{
	m->now = now;
	if (m->step == STEP_WAITING && nb_time_due(m->retry_at, now)) {
		m->retry_at = NB_TIME_NEVER;
		advance(m);
	}
}
