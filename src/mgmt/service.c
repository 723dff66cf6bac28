/* service.c - management.ManagementService: what a call means and which status it gets.
 * Unary calls are answered when their change is durable. A Sync stream holds what its peer still has to be told
 * (a new map, fresh credentials) as a few bits: the message is built and sealed when the stream can take it, so
 * that a slow reader gets the newest state only, and leaves when everything in it is durable.
 * management-protocol.md sections 2, 3, 5. Tests: tests/unit/mgmt_service_test.c, tests/net/test_management.py */
#include "mgmt/mgmt_int.h"

#include "grpc/grpc.h"
#include "proto/envelope.h"

#include <stdio.h>
#include <stdlib.h>

#define STRANGER_MEMORY ((size_t)4 << 20)	/* decoding a request takes at most this */
#define MESSAGE_MAX ((size_t)16 << 20)
#define MAX_SYNCS 1000
#define MAX_IN_FLIGHT ((size_t)64 << 20)
#define TTL_DEFAULT (12 * 3600 * NB_SEC)
#define USED_TOKENS_MAX 65536
#define INVALID_REQUEST "invalid request message"

struct mgmt_service {
	struct grpc_service face;
	size_t unsent;			/* streams that did not get their first message yet */
	size_t n_streams;		/* open ones */
	struct nb_time next_credentials;
};

struct mgmt_stream {
	struct nb_list node;		/* m->streams */
	struct nb_list due;		/* m->due while it waits for not_before */
	struct nb_list starved;		/* m->starved while too much is in flight */
	size_t in_flight;		/* its share of m->in_flight */
	struct mgmt *m;
	struct grpc_call *call;
	struct mgmt_peer *peer;		/* NULL once detached: the call only has to end */
	int64_t session;
	unsigned what;			/* SYNC_* bits still to be told */
	unsigned sending;		/* bits inside held */
	bool asked;			/* on_writable is outstanding */
	bool holding;			/* held waits for the disk */
	bool started;			/* the first message is out */
	struct nb_buf held;
	struct nb_time not_before;	/* the next map is not sent earlier */
	struct nb_time turn_at, relay_at;
	uint8_t box[NB_KEY_LEN];
};

struct mgmt_job {
	struct mgmt *m;
	struct grpc_call *call;
	struct mgmt_peer *peer;
};

/* ---- envelopes */

/* An opened request. */
struct request {
	struct mgmt *m;
	struct nb_arena arena;
	uint8_t key[NB_KEY_LEN];	/* the sender's */
	char key_text[NB_KEY_TEXT_LEN];
	uint8_t box[NB_KEY_LEN];
	struct mgmt_peer *peer;		/* NULL: unknown */
	char from[NB_ADDR_TEXT];
	struct nb_addr source;		/* the same as an address */
};

static void request_done(struct request *r)
{
	nb_wipe(r->box, sizeof(r->box));
	nb_arena_fini(&r->arena);
}

/* The client's address: the proxy's word for it when there is one, else the TCP peer. */
static void client_address(struct grpc_call *call, struct nb_addr *from, char out[NB_ADDR_TEXT])
{
	struct nb_endpoint peer = grpc_call_peer(call);
	struct nb_bytes v;
	struct nb_addr a;
	char text[NB_ADDR_TEXT];

	*from = peer.addr;
	nb_addr_format(out, &peer.addr);
	if (!grpc_call_metadata(call, "x-forwarded-for", &v) && !grpc_call_metadata(call, "x-real-ip", &v))
		return;
	for (size_t i = v.n; i-- > 0;)
		if (v.p[i] == ',' || v.p[i] == ' ') {
			v = nb_bytes(v.p + i + 1, v.n - i - 1);
			break;
		}
	if (v.n == 0 || v.n >= sizeof(text))
		return;
	memcpy(text, v.p, v.n);
	text[v.n] = '\0';
	if (nb_addr_parse(&a, text))
		return;
	nb_addr_format(out, &a);
	/* Whoever comes straight from the Internet can write what he likes there. */
	if (nb_addr_is_loopback(&peer.addr) || nb_addr_is_private(&peer.addr))
		*from = a;
}

static int shared_key(struct request *r)
{
	struct mgmt_peer_state *s = r->peer ? r->peer->state : NULL;
	int err;

	if (s && s->box_ready) {
		memcpy(r->box, s->box, sizeof(r->box));
		return 0;
	}
	err = nbc_box_key(r->box, r->m->box_secret, r->key);
	if (err == 0 && s) {
		memcpy(s->box, r->box, sizeof(s->box));
		s->box_ready = true;
	}
	return err;
}

/* Open message as desc. On failure the call is finished with stock's status and NB_E_* returned. */
static int open_request(struct request *r, struct grpc_call *call, struct nb_bytes message,
			const ProtobufCMessageDescriptor *desc, void **out)
{
	struct proto_envelope env;
	char text[160];

	memset(r, 0, sizeof(*r));
	r->m = grpc_call_service_arg(call);
	mgmt_tick(r->m);
	nb_arena_init(&r->arena, STRANGER_MEMORY);
	if (proto_mgmt_envelope_decode(&env, message)) {
		grpc_call_finish(call, GRPC_INTERNAL, "grpc: error unmarshalling request");
		return NB_E_BAD;
	}
	if (nbc_key_parse(r->key, env.key)) {
		snprintf(text, sizeof(text), "provided wgPubKey %.*s is invalid", (int)(env.key.n < 100 ? env.key.n : 100),
			 (const char *)env.key.p);
		grpc_call_finish(call, GRPC_INVALID_ARGUMENT, text);
		return NB_E_BAD;
	}
	nbc_key_format(r->key_text, r->key);
	client_address(call, &r->source, r->from);
	r->peer = mgmt_peer_by_key(r->m, r->key);
	if (shared_key(r) || proto_open_any(out, desc, env.body, r->box, &r->arena)) {
		grpc_call_finish(call, GRPC_INVALID_ARGUMENT, INVALID_REQUEST);
		request_done(r);
		return NB_E_AUTH;
	}
	return 0;
}

/* Append an envelope around plain, sealed for the holder of box. */
static int seal(struct mgmt *m, struct nb_buf *out, struct nb_bytes plain, const uint8_t box[NB_KEY_LEN])
{
	struct proto_envelope env = { .key = nb_bytes_str(m->box_text) };
	struct nb_buf body;

	nb_buf_init(&body, MESSAGE_MAX);
	nbc_box_seal_buf(&body, plain, box, m->cfg.random, m->cfg.random_ctx);
	env.body = nb_buf_view(&body);
	if (body.err)
		out->err = body.err;
	else
		proto_mgmt_envelope_encode(out, &env);
	nb_buf_fini(&body);
	return out->err;
}

/* ---- answers to unary calls, sent when durable */

struct reply {
	struct mgmt *m;
	struct grpc_call *call;
	struct nb_buf out;
};

static void reply_free(struct reply *rp)
{
	nb_buf_fini(&rp->out);
	free(rp);
}

static void reply_send(void *arg, int err)
{
	struct reply *rp = arg;

	grpc_call_set_user(rp->call, NULL);
	if (err || rp->out.err)
		grpc_call_finish(rp->call, GRPC_INTERNAL, "failed handling request");
	else
		grpc_call_reply(rp->call, nb_buf_view(&rp->out));
	reply_free(rp);
}

/* The caller went away first. */
static void unary_end(struct grpc_call *call, void *user, const struct grpc_result *result)
{
	struct reply *rp = user;

	(void)call, (void)result;
	if (!rp)
		return;
	mgmt_after_commit_forget(rp->m, rp);
	reply_free(rp);
}

static struct reply *reply_new(struct mgmt *m, struct grpc_call *call)
{
	struct reply *rp = calloc(1, sizeof(*rp));

	if (!rp) {
		grpc_call_finish(call, GRPC_INTERNAL, "failed handling request");
		return NULL;
	}
	rp->m = m;
	rp->call = call;
	nb_buf_init(&rp->out, MESSAGE_MAX);
	return rp;
}

static void reply_start(struct reply *rp)
{
	grpc_call_set_user(rp->call, rp);
	mgmt_after_commit(rp->m, reply_send, rp);
}

static void answer_empty(struct mgmt *m, struct grpc_call *call)
{
	struct reply *rp = reply_new(m, call);

	if (rp)
		reply_start(rp);
}

static void answer_plain(const struct request *r, struct grpc_call *call, struct nb_bytes plain)
{
	struct reply *rp = reply_new(r->m, call);

	if (!rp)
		return;
	seal(r->m, &rp->out, plain, r->box);
	reply_start(rp);
}

static void answer_message(const struct request *r, struct grpc_call *call, const void *message)
{
	struct nb_buf plain;

	nb_buf_init(&plain, MESSAGE_MAX);
	if (proto_pack(&plain, message))
		grpc_call_finish(call, GRPC_INTERNAL, "failed handling request");
	else
		answer_plain(r, call, nb_buf_view(&plain));
	nb_buf_fini(&plain);
}

static void refuse(struct grpc_call *call, const struct mgmt_error *e)
{
	const char *text;
	int status = mgmt_grpc_status(e, &text);

	grpc_call_finish(call, status, text);
}

static void refuse_meta(struct grpc_call *call, const struct request *r, const char *where)
{
	char text[256];

	snprintf(text, sizeof(text), "peer system meta has to be provided %s. Peer %s, remote addr %s", where, r->key_text,
		 r->from);
	grpc_call_finish(call, GRPC_FAILED_PRECONDITION, text);
}

/* ---- plain calls */

static void on_server_key(struct grpc_call *call, void *user, struct nb_bytes message)
{
	struct mgmt *m = grpc_call_service_arg(call);
	Management__ServerKeyResponse rsp = MANAGEMENT__SERVER_KEY_RESPONSE__INIT;
	struct nb_buf b;

	(void)user, (void)message;
	nb_buf_init(&b, 256);
	rsp.key = m->box_text;
	if (proto_pack(&b, &rsp))
		grpc_call_finish(call, GRPC_INTERNAL, "failed handling request");
	else
		grpc_call_reply(call, nb_buf_view(&b));
	nb_buf_fini(&b);
}

static void on_healthy(struct grpc_call *call, void *user, struct nb_bytes message)
{
	(void)user, (void)message;
	grpc_call_reply(call, nb_bytes(NULL, 0));
}

/* ---- access tokens */

static void forget_used_tokens(struct mgmt *m)
{
	struct nb_map_iter it = { 0 };

	while (nb_map_next(&m->used_tokens, &it))
		if (*(int64_t *)it.value <= m->wall.ns)
			free(nb_map_del(&m->used_tokens, it.key));
}

/* A token is good for one login. */
static bool token_take(struct mgmt *m, const char *token, int64_t expires)
{
	uint8_t sum[NBC_SHA256_LEN];
	int64_t *when;

	nbc_sha256(sum, nb_bytes_str(token));
	if (nb_map_get(&m->used_tokens, nb_bytes(sum, sizeof(sum))))
		return false;
	if (m->used_tokens.count + 1 >= USED_TOKENS_MAX)
		forget_used_tokens(m);
	when = malloc(sizeof(*when));
	if (!when)
		return false;
	*when = expires;
	if (nb_map_put(&m->used_tokens, nb_bytes(sum, sizeof(sum)), when, NULL)) {
		free(when);
		return false;
	}
	return true;
}

/* Check an access token; on failure the call is finished. */
static bool token_claims(struct mgmt *m, struct grpc_call *call, const char *token, struct mgmt_claims *c)
{
	struct mgmt_error e = { 0 };
	char text[300];

	memset(c, 0, sizeof(*c));
	if (!m->cfg.check_token)
		mgmt_fail(&e, MGMT_INVALID, "this server has no identity provider");
	else
		m->cfg.check_token(m->cfg.check_token_arg, token, c, &e);
	if (e.kind) {
		snprintf(text, sizeof(text), "invalid jwt token, err: %s", e.message);
		grpc_call_finish(call, GRPC_INVALID_ARGUMENT, text);
	} else if (c->expires == 0) {
		grpc_call_finish(call, GRPC_UNAUTHENTICATED, "jwt token has no expiration");
	} else if (c->expires <= m->wall.ns) {
		grpc_call_finish(call, GRPC_UNAUTHENTICATED, "JWT expired");
	} else if (!token_take(m, token, c->expires)) {
		grpc_call_finish(call, GRPC_UNAUTHENTICATED, "JWT already used");
	} else {
		return true;
	}
	return false;
}

/* ---- Login */

static void answer_login(const struct request *r, struct grpc_call *call, struct mgmt_peer *p)
{
	struct nb_buf plain;

	nb_buf_init(&plain, MESSAGE_MAX);
	if (mgmt_map_login(p, &plain))
		grpc_call_finish(call, GRPC_INTERNAL, "failed handling request");
	else
		answer_plain(r, call, nb_buf_view(&plain));
	nb_buf_fini(&plain);
}

static void login(struct request *r, struct grpc_call *call, const Management__LoginRequest *req)
{
	struct mgmt_login l = {
		.key = r->key, .meta = req->meta, .setup_key = req->setupkey, .labels = req->dnslabels,
		.n_labels = req->n_dnslabels, .from = r->from,
	};
	struct mgmt_claims claims;
	struct mgmt_peer *p;
	struct mgmt_error e;

	if (!req->meta) {
		refuse_meta(call, r, "to log in");
		return;
	}
	if (req->peerkeys && req->peerkeys->has_sshpubkey)
		l.ssh_key = nb_bytes(req->peerkeys->sshpubkey.data, req->peerkeys->sshpubkey.len);
	if (*mgmt_str(req->jwttoken)) {
		if (!token_claims(r->m, call, req->jwttoken, &claims))
			return;
		l.claims = &claims;
	}
	if (!r->peer && !l.claims && *mgmt_str(l.setup_key) && !mgmt_limit_allows(r->m, &r->source)) {
		grpc_call_finish(call, GRPC_RESOURCE_EXHAUSTED, "too many failed registrations, please try again later");
		return;
	}
	if (mgmt_peer_login(r->m, &l, &p, &e) == 0) {
		answer_login(r, call, p);
		return;
	}
	if (e.kind == MGMT_NOT_FOUND)
		mgmt_limit_failed(r->m, &r->source);
	refuse(call, &e);
}

static void on_login(struct grpc_call *call, void *user, struct nb_bytes message)
{
	Management__LoginRequest *req;
	struct request r;

	(void)user;
	if (open_request(&r, call, message, &management__login_request__descriptor, (void **)&req))
		return;
	login(&r, call, req);
	request_done(&r);
}

static void on_extend(struct grpc_call *call, void *user, struct nb_bytes message)
{
	Management__ExtendAuthSessionRequest *req;
	Management__ExtendAuthSessionResponse rsp = MANAGEMENT__EXTEND_AUTH_SESSION_RESPONSE__INIT;
	Google__Protobuf__Timestamp end = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	struct mgmt_claims claims;
	struct mgmt_error e;
	struct request r;

	(void)user;
	if (open_request(&r, call, message, &management__extend_auth_session_request__descriptor, (void **)&req))
		return;
	if (!*mgmt_str(req->jwttoken)) {
		grpc_call_finish(call, GRPC_INVALID_ARGUMENT, "jwt token is required");
	} else if (!r.peer) {
		grpc_call_finish(call, GRPC_PERMISSION_DENIED, "peer is not registered");
	} else if (token_claims(r.m, call, req->jwttoken, &claims)) {
		if (mgmt_peer_extend(r.peer, &claims, &e)) {
			refuse(call, &e);
		} else {
			end.has_seconds = true;
			end.seconds = mgmt_peer_session_end(r.peer) / NB_SEC;
			rsp.sessionexpiresat = &end;
			answer_message(&r, call, &rsp);
		}
	}
	request_done(&r);
}

/* ---- SyncMeta and Logout */

static void on_sync_meta(struct grpc_call *call, void *user, struct nb_bytes message)
{
	Management__SyncMetaRequest *req;
	struct mgmt_error e;
	struct request r;

	(void)user;
	if (open_request(&r, call, message, &management__sync_meta_request__descriptor, (void **)&req))
		return;
	if (!req->meta)
		refuse_meta(call, &r, "on sync");
	else if (!r.peer)
		grpc_call_finish(call, GRPC_NOT_FOUND, "account not found: index lookup failed");
	else if (mgmt_peer_meta(r.peer, req->meta, true, &e))
		refuse(call, &e);
	else
		answer_empty(r.m, call);
	request_done(&r);
}

static void on_logout(struct grpc_call *call, void *user, struct nb_bytes message)
{
	Management__Empty *req;
	char text[96];
	struct mgmt_error e;
	struct request r;

	(void)user;
	if (open_request(&r, call, message, &management__empty__descriptor, (void **)&req))
		return;
	snprintf(text, sizeof(text), "peer not found: %s", r.key_text);
	if (!r.peer)
		grpc_call_finish(call, GRPC_NOT_FOUND, text);
	else if (mgmt_peer_logout(r.peer, &e))
		refuse(call, &e);
	else
		answer_empty(r.m, call);
	request_done(&r);
}

/* ---- interactive login */

static void fill_flow(Management__ProviderConfig *c, const struct mgmt_flow *f)
{
	*c = (Management__ProviderConfig)MANAGEMENT__PROVIDER_CONFIG__INIT;
	c->clientid = (char *)f->client_id;
	c->clientsecret = (char *)f->client_secret;
	c->domain = (char *)f->domain;
	c->audience = (char *)f->audience;
	c->deviceauthendpoint = (char *)f->device_auth_endpoint;
	c->tokenendpoint = (char *)f->token_endpoint;
	c->authorizationendpoint = (char *)f->authorization_endpoint;
	c->scope = (char *)f->scope;
	c->has_useidtoken = c->useidtoken = f->use_id_token;
	c->has_disablepromptlogin = c->disablepromptlogin = f->disable_prompt_login;
	c->has_loginflag = f->login_flag != 0;
	c->loginflag = f->login_flag;
	c->redirecturls = (char **)f->redirect_urls;
	c->n_redirecturls = f->n_redirect_urls;
}

static void on_device_flow(struct grpc_call *call, void *user, struct nb_bytes message)
{
	Management__DeviceAuthorizationFlow rsp = MANAGEMENT__DEVICE_AUTHORIZATION_FLOW__INIT;
	Management__DeviceAuthorizationFlowRequest *req;
	Management__ProviderConfig config;
	struct request r;

	(void)user;
	if (open_request(&r, call, message, &management__device_authorization_flow_request__descriptor, (void **)&req))
		return;
	if (r.m->cfg.device.client_id) {
		fill_flow(&config, &r.m->cfg.device);
		rsp.providerconfig = &config;
		answer_message(&r, call, &rsp);
	} else {
		grpc_call_finish(call, GRPC_NOT_FOUND, "no device authorization flow information available");
	}
	request_done(&r);
}

static void on_pkce_flow(struct grpc_call *call, void *user, struct nb_bytes message)
{
	Management__PKCEAuthorizationFlow rsp = MANAGEMENT__PKCEAUTHORIZATION_FLOW__INIT;
	Management__PKCEAuthorizationFlowRequest *req;
	Management__ProviderConfig config;
	struct request r;

	(void)user;
	if (open_request(&r, call, message, &management__pkceauthorization_flow_request__descriptor, (void **)&req))
		return;
	if (r.m->cfg.pkce.client_id) {
		fill_flow(&config, &r.m->cfg.pkce);
		rsp.providerconfig = &config;
		answer_message(&r, call, &rsp);
	} else {
		grpc_call_finish(call, GRPC_NOT_FOUND, "no pkce authorization flow information available");
	}
	request_done(&r);
}

/* ---- exposing local ports: answered as a server on which the feature is off */

static void on_create_expose(struct grpc_call *call, void *user, struct nb_bytes message)
{
	Management__ExposeServiceRequest *req;
	struct request r;
	char text[64];

	(void)user;
	if (open_request(&r, call, message, &management__expose_service_request__descriptor, (void **)&req))
		return;
	snprintf(text, sizeof(text), "port out of range: %u", req->port);
	if (!r.peer)
		grpc_call_finish(call, GRPC_PERMISSION_DENIED, "peer is not registered");
	else if (req->port < 1 || req->port > 65535)
		grpc_call_finish(call, GRPC_INVALID_ARGUMENT, text);
	else
		grpc_call_finish(call, GRPC_PERMISSION_DENIED, "peer expose is not enabled for this account");
	request_done(&r);
}

/* Nothing was ever exposed, so no domain is known. */
static void no_service(struct grpc_call *call, const struct request *r, const char *domain)
{
	if (!r->peer)
		grpc_call_finish(call, GRPC_PERMISSION_DENIED, "peer is not registered");
	else if (!*mgmt_str(domain))
		grpc_call_finish(call, GRPC_INVALID_ARGUMENT, "domain is required");
	else
		grpc_call_finish(call, GRPC_NOT_FOUND, "service not found");
}

static void on_renew_expose(struct grpc_call *call, void *user, struct nb_bytes message)
{
	Management__RenewExposeRequest *req;
	struct request r;

	(void)user;
	if (open_request(&r, call, message, &management__renew_expose_request__descriptor, (void **)&req))
		return;
	no_service(call, &r, req->domain);
	request_done(&r);
}

static void on_stop_expose(struct grpc_call *call, void *user, struct nb_bytes message)
{
	Management__StopExposeRequest *req;
	struct request r;

	(void)user;
	if (open_request(&r, call, message, &management__stop_expose_request__descriptor, (void **)&req))
		return;
	no_service(call, &r, req->domain);
	request_done(&r);
}

/* ---- Sync streams */

static bool timed_turn(const struct mgmt *m)
{
	return m->cfg.turn_secret && m->cfg.n_turns;
}

static bool timed_relay(const struct mgmt *m)
{
	return m->cfg.relay_secret && m->cfg.n_relay_urls;
}

static struct nb_time refresh_at(const struct mgmt *m, bool on, int64_t ttl)
{
	return on ? nb_time_add(m->now, (ttl ? ttl : TTL_DEFAULT) / 4 * 3) : NB_TIME_NEVER;
}

static void plan_credentials(struct mgmt_stream *s, bool turn, bool relay)
{
	struct mgmt *m = s->m;

	if (turn)
		s->turn_at = refresh_at(m, timed_turn(m), m->cfg.turn_ttl);
	if (relay)
		s->relay_at = refresh_at(m, timed_relay(m), m->cfg.relay_ttl);
	m->service->next_credentials = nb_time_min(m->service->next_credentials, nb_time_min(s->turn_at, s->relay_at));
	mgmt_wake(m);
}

/* Into m->due, which is sorted by time; the place is near its end. */
static void wait_for_turn(struct mgmt_stream *s)
{
	struct nb_list *at = s->m->due.prev;

	while (at != &s->m->due &&
	       nb_time_before(s->not_before, nb_container(at, struct mgmt_stream, due)->not_before))
		at = at->prev;
	s->due.prev = at;
	s->due.next = at->next;
	at->next->prev = &s->due;
	at->next = &s->due;
}

static void ask(struct mgmt_stream *s)
{
	s->asked = true;
	grpc_call_want_write(s->call);
}

/* See that something waiting gets its turn: now, or when the last map is old enough. */
static void schedule(struct mgmt_stream *s)
{
	struct mgmt *m = s->m;

	if (!s->what || s->asked || s->holding || !s->peer)
		return;
	if (s->what == SYNC_MAP && !nb_time_due(s->not_before, m->now)) {
		if (nb_list_empty(&s->due))
			wait_for_turn(s);
		mgmt_wake(m);
		return;
	}
	nb_list_del(&s->due);
	if (nb_list_empty(&s->starved))
		ask(s);
}

static bool crowded(const struct mgmt *m)
{
	return m->in_flight > (m->cfg.max_in_flight ? m->cfg.max_in_flight : MAX_IN_FLIGHT);
}

/* What s had in flight is gone: the next ones may build theirs. */
static void landed(struct mgmt_stream *s)
{
	struct mgmt *m = s->m;

	m->in_flight -= s->in_flight;
	s->in_flight = 0;
	while (!nb_list_empty(&m->starved) && !crowded(m)) {
		struct mgmt_stream *next = nb_container(m->starved.next, struct mgmt_stream, starved);

		nb_list_del(&next->starved);
		ask(next);
		if (m->in_flight)
			return;
	}
}

void mgmt_stream_dirty(struct mgmt_peer *p)
{
	struct mgmt_stream *s = p->state->stream;

	if (!s)
		return;
	s->what |= SYNC_MAP;
	schedule(s);
}

/* Time until the next map of a stream. In a storm of joins every stream would be sent a map of all peers each
 * second; the pushes of all streams together are held to a byte rate, within bounds, so that the rest still
 * answers. A single change after a quiet while is not delayed by this. */
static int64_t push_gap(const struct mgmt_stream *s)
{
	int64_t gap = (int64_t)((double)s->held.n * (double)s->m->service->n_streams / MGMT_PUSH_BYTES * (double)NB_SEC);

	return gap < MGMT_PUSH_NS ? MGMT_PUSH_NS : gap > MGMT_PUSH_MAX_NS ? MGMT_PUSH_MAX_NS : gap;
}

/* Everything in the message is on disk (or was undone: then it is built again). */
static void stream_release(void *arg, int err)
{
	struct mgmt_stream *s = arg;
	unsigned sent = s->sending;

	s->holding = false;
	s->sending = 0;
	if (err || grpc_call_send(s->call, nb_buf_view(&s->held)))
		s->what |= sent;
	else if (s->started && (sent & SYNC_MAP))
		s->not_before = nb_time_add(s->m->now, push_gap(s));
	if (s->what & sent)
		landed(s);
	else
		ask(s);
	if (!err && !s->started) {
		s->started = true;
		s->m->service->unsent--;
	}
	nb_buf_fini(&s->held);
	schedule(s);
}

static int stream_build(struct mgmt_stream *s, unsigned what)
{
	struct nb_buf plain;
	int err;

	nb_buf_init(&plain, MESSAGE_MAX);
	err = mgmt_map_sync(s->peer, what, &plain);
	if (!err)
		err = seal(s->m, &s->held, nb_buf_view(&plain), s->box);
	nb_buf_fini(&plain);
	return err;
}

static void on_stream_writable(struct grpc_call *call, void *user)
{
	struct mgmt_stream *s = user;

	if (!s || !s->peer)
		return;
	mgmt_tick(s->m);
	s->asked = false;
	if (!s->holding)
		landed(s);
	if (!s->what || s->holding)
		return;
	if (s->what == SYNC_MAP && !nb_time_due(s->not_before, s->m->now)) {
		schedule(s);
		return;
	}
	if (crowded(s->m)) {
		nb_list_push(&s->m->starved, &s->starved);
		return;
	}
	s->sending = s->what;
	s->what = 0;
	nb_buf_reset(&s->held);
	if (stream_build(s, s->sending)) {
		grpc_call_finish(call, GRPC_INTERNAL, "failed handling request");
		return;
	}
	s->in_flight = s->held.n;
	s->m->in_flight += s->in_flight;
	s->holding = true;
	mgmt_after_commit(s->m, stream_release, s);
}

/* Part stream and peer; the stream lives on until its call ends. */
static struct mgmt_stream *detach(struct mgmt_peer *p)
{
	struct mgmt_stream *s = p->state->stream;

	if (!s)
		return NULL;
	p->state->stream = NULL;
	s->peer = NULL;
	s->what = 0;
	nb_list_del(&s->due);
	nb_list_del(&s->starved);
	mgmt_after_commit_forget(s->m, s);
	s->holding = false;
	mgmt_peer_disconnected(p, s->session);
	return s;
}

static void end_job(struct mgmt_peer *p)
{
	struct mgmt_job *j = p->state->job;

	if (!j)
		return;
	p->state->job = NULL;
	j->peer = NULL;
	grpc_call_finish(j->call, GRPC_OK, NULL);
}

static void end_sync(struct mgmt_peer *p, bool farewell)
{
	struct mgmt_stream *s = detach(p);
	struct nb_buf plain, out;

	if (!s)
		return;
	if (farewell) {
		nb_buf_init(&plain, 4096);
		nb_buf_init(&out, 8192);
		if (mgmt_map_farewell(p, &plain) == 0 && seal(s->m, &out, nb_buf_view(&plain), s->box) == 0)
			grpc_call_send(s->call, nb_buf_view(&out));
		nb_buf_fini(&plain);
		nb_buf_fini(&out);
	}
	grpc_call_finish(s->call, GRPC_OK, NULL);
}

void mgmt_stream_end(struct mgmt_peer *p, bool farewell)
{
	end_job(p);
	end_sync(p, farewell);
}

/* on_end comes later, so the lists hold still. */
void mgmt_stop(struct mgmt *m)
{
	nb_list_each(node, &m->streams)
		grpc_call_finish(nb_container(node, struct mgmt_stream, node)->call, GRPC_UNAVAILABLE,
				 "the management server is shutting down");
	for (size_t i = 0; i < m->accounts.n; i++) {
		struct mgmt_account *a = (struct mgmt_account *)m->accounts.v[i];

		for (size_t k = 0; k < a->t[T_PEER].n; k++)
			end_job((struct mgmt_peer *)a->t[T_PEER].v[k]);
	}
}

static void on_stream_end(struct grpc_call *call, void *user, const struct grpc_result *result)
{
	struct mgmt_stream *s = user;

	(void)call, (void)result;
	if (!s)
		return;
	mgmt_tick(s->m);
	if (s->peer)
		detach(s->peer);
	landed(s);
	if (!s->started)
		s->m->service->unsent--;
	nb_list_del(&s->node);
	nb_buf_fini(&s->held);
	nb_wipe(s->box, sizeof(s->box));
	s->m->service->n_streams--;
	free(s);
}

static void stream_start(const struct request *r, struct grpc_call *call)
{
	struct mgmt_stream *s = calloc(1, sizeof(*s));
	struct mgmt *m = r->m;

	if (!s) {
		grpc_call_finish(call, GRPC_INTERNAL, "failed handling request");
		return;
	}
	end_sync(r->peer, false);
	s->m = m;
	s->call = call;
	s->peer = r->peer;
	memcpy(s->box, r->box, sizeof(s->box));
	nb_list_init(&s->due);
	nb_list_init(&s->starved);
	nb_list_push(&m->streams, &s->node);
	m->service->n_streams++;
	nb_buf_init(&s->held, MESSAGE_MAX);
	s->session = m->wall.ns > m->last_session ? m->wall.ns : m->last_session + 1;
	m->last_session = s->session;
	s->what = SYNC_MAP | SYNC_CONFIG;
	s->turn_at = s->relay_at = NB_TIME_NEVER;
	m->service->unsent++;
	grpc_call_set_user(call, s);
	r->peer->state->stream = s;
	mgmt_peer_connected(r->peer, s->session);
	plan_credentials(s, true, true);
	schedule(s);
}

static bool admitted(const struct mgmt *m)
{
	int most = m->cfg.max_syncs ? m->cfg.max_syncs : MAX_SYNCS;

	return most < 0 || m->service->unsent < (size_t)most;
}

static void on_sync(struct grpc_call *call, void *user, struct nb_bytes message)
{
	Management__SyncRequest *req;
	struct mgmt_error e;
	struct request r;

	(void)user;
	if (!admitted(grpc_call_service_arg(call))) {
		grpc_call_finish(call, GRPC_RESOURCE_EXHAUSTED,
				 "too many concurrent sync requests, please try again later");
		return;
	}
	if (open_request(&r, call, message, &management__sync_request__descriptor, (void **)&req))
		return;
	if (!r.peer)
		grpc_call_finish(call, GRPC_PERMISSION_DENIED, "peer is not registered");
	else if (mgmt_peer_sync_check(r.peer, &e) || mgmt_peer_meta(r.peer, req->meta, false, &e))
		refuse(call, &e);
	else
		stream_start(&r, call);
	request_done(&r);
}

static void refresh_credentials(struct mgmt *m)
{
	m->service->next_credentials = NB_TIME_NEVER;
	nb_list_each(node, &m->streams) {
		struct mgmt_stream *s = nb_container(node, struct mgmt_stream, node);
		bool turn = nb_time_due(s->turn_at, m->now), relay = nb_time_due(s->relay_at, m->now);

		s->what |= (turn ? SYNC_TURN | SYNC_RELAY : 0) | (relay ? SYNC_RELAY : 0);
		plan_credentials(s, turn, turn || relay);
		schedule(s);
	}
}

void mgmt_stream_run(struct mgmt *m)
{
	while (!nb_list_empty(&m->due)) {
		struct mgmt_stream *s = nb_container(m->due.next, struct mgmt_stream, due);

		if (!nb_time_due(s->not_before, m->now))
			break;
		nb_list_del(&s->due);
		schedule(s);
	}
	if (nb_time_due(m->service->next_credentials, m->now))
		refresh_credentials(m);
}

struct nb_time mgmt_stream_deadline(const struct mgmt *m)
{
	struct nb_time at = m->service->next_credentials;

	if (!nb_list_empty(&m->due))
		at = nb_time_min(at, nb_container(m->due.next, struct mgmt_stream, due)->not_before);
	return at;
}

/* ---- Job: held open; the work itself has its own place */

static void job_open(const struct request *r, struct grpc_call *call)
{
	struct mgmt_job *j = calloc(1, sizeof(*j));

	if (!j) {
		grpc_call_finish(call, GRPC_INTERNAL, "failed handling request");
		return;
	}
	end_job(r->peer);
	j->m = r->m;
	j->call = call;
	j->peer = r->peer;
	r->peer->state->job = j;
	grpc_call_set_user(call, j);
	grpc_call_send_headers(call, NULL, 0);
}

static void on_job_message(struct grpc_call *call, void *user, struct nb_bytes message)
{
	Management__JobRequest *req;
	struct request r;

	if (user)
		return;
	if (open_request(&r, call, message, &management__job_request__descriptor, (void **)&req))
		return;
	if (!r.peer)
		grpc_call_finish(call, GRPC_PERMISSION_DENIED, "peer is not registered");
	else
		job_open(&r, call);
	request_done(&r);
}

static void on_job_half_close(struct grpc_call *call, void *user)
{
	(void)user;
	grpc_call_finish(call, GRPC_OK, NULL);
}

static void on_job_end(struct grpc_call *call, void *user, const struct grpc_result *result)
{
	struct mgmt_job *j = user;

	(void)call, (void)result;
	if (!j)
		return;
	if (j->peer)
		j->peer->state->job = NULL;
	free(j);
}

/* ---- the table */

#define UNARY(name, fn) \
	static const struct grpc_call_ops ops_##fn = { .on_message = fn, .on_end = unary_end };
UNARY(GetServerKey, on_server_key)
UNARY(isHealthy, on_healthy)
UNARY(Login, on_login)
UNARY(ExtendAuthSession, on_extend)
UNARY(SyncMeta, on_sync_meta)
UNARY(Logout, on_logout)
UNARY(GetDeviceAuthorizationFlow, on_device_flow)
UNARY(GetPKCEAuthorizationFlow, on_pkce_flow)
UNARY(CreateExpose, on_create_expose)
UNARY(RenewExpose, on_renew_expose)
UNARY(StopExpose, on_stop_expose)
#undef UNARY

static const struct grpc_call_ops sync_ops = {
	.on_message = on_sync, .on_writable = on_stream_writable, .on_end = on_stream_end,
};
static const struct grpc_call_ops job_ops = {
	.on_message = on_job_message, .on_half_close = on_job_half_close, .on_end = on_job_end,
};

#define PATH(name) "/management.ManagementService/" name
static const struct grpc_method methods[] = {
	{ PATH("GetServerKey"), GRPC_UNARY, &ops_on_server_key, 0 },
	{ PATH("isHealthy"), GRPC_UNARY, &ops_on_healthy, 0 },
	{ PATH("Login"), GRPC_UNARY, &ops_on_login, 0 },
	{ PATH("Sync"), GRPC_SERVER_STREAM, &sync_ops, 0 },
	{ PATH("SyncMeta"), GRPC_UNARY, &ops_on_sync_meta, 0 },
	{ PATH("Logout"), GRPC_UNARY, &ops_on_logout, 0 },
	{ PATH("Job"), GRPC_BIDI, &job_ops, 0 },
	{ PATH("ExtendAuthSession"), GRPC_UNARY, &ops_on_extend, 0 },
	{ PATH("GetDeviceAuthorizationFlow"), GRPC_UNARY, &ops_on_device_flow, 0 },
	{ PATH("GetPKCEAuthorizationFlow"), GRPC_UNARY, &ops_on_pkce_flow, 0 },
	{ PATH("CreateExpose"), GRPC_UNARY, &ops_on_create_expose, 0 },
	{ PATH("RenewExpose"), GRPC_UNARY, &ops_on_renew_expose, 0 },
	{ PATH("StopExpose"), GRPC_UNARY, &ops_on_stop_expose, 0 },
};

const struct grpc_service *mgmt_grpc(struct mgmt *m)
{
	return &m->service->face;
}

int mgmt_service_new(struct mgmt *m)
{
	struct mgmt_service *s = calloc(1, sizeof(*s));

	if (!s)
		return NB_E_NOMEM;
	s->face = (struct grpc_service){ methods, sizeof(methods) / sizeof(*methods), m };
	s->next_credentials = NB_TIME_NEVER;
	m->service = s;
	return 0;
}

void mgmt_service_free(struct mgmt *m)
{
	struct nb_map_iter it = { 0 };

	while (nb_map_next(&m->used_tokens, &it))
		free(nb_map_del(&m->used_tokens, it.key));
	free(m->service);
}
