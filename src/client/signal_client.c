/* signal_client.c - see signal_client.h. The stream decides the state; Sends are independent unary calls
 * that come and go. One way leads out of every trouble: fail(), which hangs up and waits. */
#include "client/signal_client.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "client/backoff.h"
#include "client/signal_msg.h"
#include "crypto/crypto.h"
#include "proto/envelope.h"

#define SERVICE "/signalexchange.SignalExchange/"
#define HEADER_ID "x-wiretrustee-peer-id"
#define HEADER_REGISTERED "x-wiretrustee-peer-registered"

#define MARKER_NS (15 * NB_SEC)		/* the answer's headers must be in by then */
#define TRAILERS_NS (2 * NB_SEC)	/* after headers without the marker */
#define SILENCE_NS (30 * NB_SEC)	/* nothing received this long: send ourselves a heartbeat */
#define ECHO_NS (10 * NB_SEC)		/* and it must be back this soon */
#define BODY_MAX 8192			/* a Body; offers are below 400 bytes */
#define ARENA_MAX (128 << 10)

/* Deadlines of the attempts of one Send. */
static const int64_t attempt_ns[] = { 10 * NB_SEC, 10 * NB_SEC, 10 * NB_SEC, 15 * NB_SEC };
#define ATTEMPTS (sizeof attempt_ns / sizeof *attempt_ns)

enum step {
	STEP_STOPPED,
	STEP_DIALING,
	STEP_OPENING,	/* ConnectStream under way, no marker yet */
	STEP_UP,
	STEP_WAITING,	/* until at */
};

/* One Send under way; the sealed envelope is kept for further attempts. */
struct letter {
	struct nb_list node;	/* client_signal.letters */
	struct client_signal *owner;
	struct grpc_call *call;
	unsigned attempt;
	struct nb_buf envelope;
};

struct client_signal {
	struct client_signal_config cfg;
	char public_text[NB_KEY_TEXT_LEN];
	uint8_t public_key[NB_KEY_LEN];
	enum step step;
	struct grpc_conn *conn;
	struct grpc_call *stream;
	struct nb_time at;		/* WAITING: retry; OPENING: marker deadline; UP: next look at silence */
	bool heartbeat_out;		/* UP: nothing was received since it was sent */
	struct nb_time last_received;
	struct nb_list letters;
	size_t n_letters;
	struct client_backoff wait;
	struct client_signal_stats st;
};

static void drop_letter(struct letter *l)
{
	nb_list_del(&l->node);
	l->owner->n_letters--;
	nb_buf_fini(&l->envelope);
	free(l);
}

/* Let go of the connection and every call on it. */
static void let_go(struct client_signal *s)
{
	if (s->stream)
		grpc_call_cancel(s->stream);
	s->stream = NULL;
	nb_list_each_safe(it, &s->letters) {
		struct letter *l = nb_container(it, struct letter, node);

		if (l->call)
			grpc_call_cancel(l->call);
		s->st.send_failed++;
		drop_letter(l);
	}
	if (s->conn) {
		s->conn = NULL;
		s->cfg.ops->hang_up(s->cfg.arg);
	}
}

static void fail(struct client_signal *s, const char *why, struct nb_time now)
{
	if (s->step == STEP_STOPPED || s->step == STEP_WAITING)
		return;
	s->step = STEP_WAITING;
	s->at = nb_time_add(now, client_backoff_next(&s->wait, s->cfg.random, s->cfg.random_ctx));
	let_go(s);
	s->cfg.ops->state(s->cfg.arg, false, why);
}

/* --- the stream --- */

static void stream_headers(struct grpc_call *call, void *user)
{
	struct client_signal *s = user;
	struct nb_time now = grpc_conn_now(s->conn);
	struct nb_bytes v;

	if (!grpc_call_metadata(call, HEADER_REGISTERED, &v)) {
		/* Most likely a refusal, whose trailers are about to say why. */
		s->at = nb_time_add(now, TRAILERS_NS);
		return;
	}
	s->step = STEP_UP;
	s->last_received = now;
	s->heartbeat_out = false;
	s->at = nb_time_add(now, SILENCE_NS);
	client_backoff_reset(&s->wait);
	s->cfg.ops->state(s->cfg.arg, true, NULL);
}

static void open_letter(struct client_signal *s, const uint8_t key[NB_KEY_LEN], struct nb_bytes sealed)
{
	struct client_signal_msg msg;
	Signalexchange__Body *body;
	uint8_t shared[NB_KEY_LEN];
	struct nb_arena arena;
	int r = nbc_box_key(shared, s->cfg.private_key, key);

	nb_arena_init(&arena, ARENA_MAX);
	if (!r)
		r = proto_open(&body, &signalexchange__body__descriptor, sealed, shared, &arena);
	if (!r)
		r = client_signal_from_body(&msg, body);
	if (!r)
		s->cfg.ops->message(s->cfg.arg, key, &msg);
	else if (r != NB_E_UNSUPPORTED)
		s->st.undecodable++;
	nb_wipe(shared, sizeof shared);
	nb_arena_fini(&arena);
}

static void stream_message(struct grpc_call *call, void *user, struct nb_bytes m)
{
	struct client_signal *s = user;
	struct proto_envelope e;
	uint8_t key[NB_KEY_LEN];

	(void)call;
	if (s->step != STEP_UP) {
		fail(s, "the signal server did not confirm the registration", grpc_conn_now(s->conn));
		return;
	}
	/* Any message is a sign of life, readable or not. */
	s->st.received++;
	s->last_received = grpc_conn_now(s->conn);
	s->heartbeat_out = false;
	s->at = nb_time_add(s->last_received, SILENCE_NS);
	if (proto_signal_envelope_decode(&e, m) || nbc_key_parse(key, e.key)) {
		s->st.undecodable++;
		return;
	}
	if (nb_equal_ct(key, s->public_key, sizeof key))
		return;		/* our own heartbeat has done its work */
	if (s->cfg.ops->known && !s->cfg.ops->known(s->cfg.arg, key)) {
		s->st.strangers++;
		return;
	}
	open_letter(s, key, e.body);
}

static void stream_end(struct grpc_call *call, void *user, const struct grpc_result *r)
{
	struct client_signal *s = user;
	char why[300];

	s->stream = NULL;
	snprintf(why, sizeof why, "the signal stream ended: %.200s",
		 r->status == GRPC_OK ? "closed by the server" : r->message);
	fail(s, why, grpc_conn_now(grpc_call_conn(call)));
}

static const struct grpc_call_ops stream_ops = {
	.on_headers = stream_headers, .on_message = stream_message, .on_end = stream_end,
};

static void open_stream(struct client_signal *s, struct nb_time now)
{
	struct grpc_meta id = { nb_bytes_str(HEADER_ID), nb_bytes_str(s->public_text) };
	struct grpc_request req = { .path = SERVICE "ConnectStream", .kind = GRPC_BIDI, .ops = &stream_ops,
		.user = s, .meta = &id, .n_meta = 1, .deadline = NB_TIME_NEVER };

	s->step = STEP_OPENING;
	s->at = nb_time_add(now, MARKER_NS);
	if (grpc_call_start(&s->stream, s->conn, &req, now)) {
		s->stream = NULL;
		fail(s, "the signal connection cannot be used", now);
	}
}

/* --- Send --- */

static int attempt(struct letter *l, struct nb_time now);

static void letter_end(struct grpc_call *call, void *user, const struct grpc_result *r)
{
	struct letter *l = user;
	struct client_signal *s = l->owner;
	struct nb_time now = grpc_conn_now(grpc_call_conn(call));

	l->call = NULL;
	if (r->status == GRPC_OK) {
		s->st.sent++;
		drop_letter(l);
		return;
	}
	if (r->status != GRPC_CANCELLED && ++l->attempt < ATTEMPTS && s->conn && !attempt(l, now))
		return;
	nb_debug("signal: a message was not sent: %s", r->message);
	s->st.send_failed++;
	drop_letter(l);
}

static const struct grpc_call_ops letter_ops = { .on_end = letter_end };

static int attempt(struct letter *l, struct nb_time now)
{
	struct client_signal *s = l->owner;
	struct grpc_request req = { .path = SERVICE "Send", .kind = GRPC_UNARY, .ops = &letter_ops, .user = l,
		.deadline = nb_time_add(now, attempt_ns[l->attempt]) };

	return grpc_call_unary(&l->call, s->conn, &req, nb_buf_view(&l->envelope), now);
}

static int seal(struct client_signal *s, struct nb_buf *out, const uint8_t key[NB_KEY_LEN],
		const Signalexchange__Body *body)
{
	char to[NB_KEY_TEXT_LEN];
	struct proto_envelope e = { .key = nb_bytes_str(s->public_text) };
	uint8_t shared[NB_KEY_LEN];
	struct nb_buf box;
	int r;

	nbc_key_format(to, key);
	e.remote = nb_bytes_str(to);
	nb_buf_init(&box, BODY_MAX + NBC_BOX_OVERHEAD);
	r = nbc_box_key(shared, s->cfg.private_key, key);
	if (!r)
		r = proto_seal(&box, body, BODY_MAX, shared, s->cfg.random, s->cfg.random_ctx);
	e.body = nb_buf_view(&box);
	if (!r)
		r = proto_signal_envelope_encode(out, &e);
	nb_wipe(shared, sizeof shared);
	nb_buf_fini(&box);
	return r;
}

static int post(struct client_signal *s, const uint8_t key[NB_KEY_LEN], const Signalexchange__Body *body,
		struct nb_time now)
{
	struct letter *l;
	int r;

	if (s->step != STEP_UP)
		return NB_E_STATE;
	if (s->n_letters >= CLIENT_SIGNAL_SENDS_MAX)
		return NB_E_FULL;
	l = calloc(1, sizeof *l);
	if (!l)
		return NB_E_NOMEM;
	l->owner = s;
	nb_buf_init(&l->envelope, BODY_MAX + 256);
	nb_list_push(&s->letters, &l->node);
	s->n_letters++;
	r = seal(s, &l->envelope, key, body);
	if (!r)
		r = attempt(l, now);
	if (r)
		drop_letter(l);
	return r;
}

int client_signal_send(struct client_signal *s, const uint8_t key[NB_KEY_LEN],
		       const struct client_signal_msg *m, struct nb_time now)
{
	struct client_signal_hold hold;
	Signalexchange__Body body;

	client_signal_to_body(&body, &hold, m);
	return post(s, key, &body, now);
}

/* --- time --- */

static void heartbeat(struct client_signal *s, struct nb_time now)
{
	Signalexchange__Body body = SIGNALEXCHANGE__BODY__INIT;

	if (s->heartbeat_out) {
		s->st.stalls++;
		fail(s, "the signal stream is stalled: no message came back", now);
		return;
	}
	body.has_type = true;
	body.type = SIGNALEXCHANGE__BODY__TYPE__HEARTBEAT;
	s->st.heartbeats++;
	s->heartbeat_out = true;
	s->at = nb_time_add(now, ECHO_NS);
	/* Whether it could be sent makes no difference: what counts is that it comes back. */
	post(s, s->public_key, &body, now);
}

struct nb_time client_signal_deadline(const struct client_signal *s)
{
	return s->step == STEP_STOPPED || s->step == STEP_DIALING ? NB_TIME_NEVER : s->at;
}

static void dial(struct client_signal *s)
{
	s->step = STEP_DIALING;
	s->cfg.ops->dial(s->cfg.arg);
}

void client_signal_timer(struct client_signal *s, struct nb_time now)
{
	if (!nb_time_due(client_signal_deadline(s), now))
		return;
	switch (s->step) {
	case STEP_WAITING:
		s->st.reconnects++;
		dial(s);
		break;
	case STEP_OPENING:
		fail(s, "the signal server did not confirm the registration in time", now);
		break;
	case STEP_UP:
		heartbeat(s, now);
		break;
	default:
		break;
	}
}

/* --- life --- */

struct client_signal *client_signal_new(const struct client_signal_config *cfg)
{
	struct client_signal *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->cfg = *cfg;
	nb_list_init(&s->letters);
	nbc_x25519_base(s->public_key, cfg->private_key);
	nbc_key_format(s->public_text, s->public_key);
	s->wait = (struct client_backoff){ .first_ns = 200 * NB_MS, .cap_ns = 10 * NB_SEC };
	s->at = NB_TIME_NEVER;
	return s;
}

void client_signal_free(struct client_signal *s)
{
	if (!s)
		return;
	client_signal_stop(s);
	nb_wipe(s->cfg.private_key, sizeof s->cfg.private_key);
	free(s);
}

void client_signal_start(struct client_signal *s, struct nb_time now)
{
	(void)now;
	if (s->step == STEP_STOPPED)
		dial(s);
}

void client_signal_stop(struct client_signal *s)
{
	s->step = STEP_STOPPED;
	let_go(s);
}

bool client_signal_connected(const struct client_signal *s)
{
	return s->step == STEP_UP;
}

void client_signal_network_changed(struct client_signal *s, bool broken, struct nb_time now)
{
	if (s->step == STEP_STOPPED)
		return;
	if (broken && s->step == STEP_DIALING)
		s->cfg.ops->hang_up(s->cfg.arg);
	if (broken)
		fail(s, "the network changed", now);
	if (s->step != STEP_WAITING)
		return;
	client_backoff_reset(&s->wait);
	s->at = now;
}

void client_signal_attach(struct client_signal *s, struct grpc_conn *c, struct nb_time now)
{
	if (s->step != STEP_DIALING) {
		/* Stopped meanwhile: the driver learns that nobody wants it. */
		s->cfg.ops->hang_up(s->cfg.arg);
		return;
	}
	s->conn = c;
	open_stream(s, now);
}

void client_signal_dial_failed(struct client_signal *s, const char *why, struct nb_time now)
{
	if (s->step == STEP_DIALING)
		fail(s, why, now);
}

void client_signal_lost(struct client_signal *s, const char *why, struct nb_time now)
{
	if (!s->conn)
		return;
	/* The driver knows already; it must not be told to hang up what is gone. */
	s->conn = NULL;
	fail(s, why, now);
}

void client_signal_get_stats(const struct client_signal *s, struct client_signal_stats *out)
{
	*out = s->st;
}
