/* conn.c - one HTTP/2 connection: the nghttp2 session and its callbacks, input, output, timers,
 * shutdown. Calls are in call.c; no message contents here.
 * RFC 9113; management-protocol.md section 1. Tests: tests/unit/grpc_conn_test.c */
#include "grpc/grpc_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* A first GOAWAY only announces; the second, this much later, names the last stream. */
#define GOAWAY_NOTICE_NS NB_SEC
#define IDLE_GRACE_NS (5 * NB_SEC)
/* Windows of the whole connection, in stream windows. */
#define CONN_WINDOWS 4
#define PREFACE_BYTES 24

static void *mem_malloc(size_t n, void *user)
{
	(void)user;
	return malloc(n);
}

static void mem_free(void *p, void *user)
{
	(void)user;
	free(p);
}

static void *mem_calloc(size_t n, size_t size, void *user)
{
	(void)user;
	return calloc(n, size);
}

static void *mem_realloc(void *p, size_t n, void *user)
{
	(void)user;
	return realloc(p, n);
}

void grpc_config_default(struct grpc_config *cfg)
{
	*cfg = (struct grpc_config){
		.max_streams = 250,
		.max_message = 4 << 20,
		.max_header_bytes = 16 << 10,
		.max_send_queue = 1 << 20,
		.max_buffered = 24 << 20,
		.window = 256 << 10,
		.keepalive_timeout_ns = 10 * NB_SEC,
		.request_ns = 60 * NB_SEC,
		.handshake_ns = 10 * NB_SEC,
	};
}

static void enter(struct grpc_conn *c, struct nb_time now)
{
	c->now = now;
	c->depth++;
}

static void leave(struct grpc_conn *c)
{
	if (--c->depth)
		return;
	nb_list_each_safe(it, &c->dead)
		grpc_call_free(nb_container(it, struct grpc_call, node));
	nb_list_init(&c->dead);
}

bool grpc_take(struct grpc_conn *c, size_t n)
{
	struct grpc_budget *b = c->cfg.budget;

	if (c->buffered > c->cfg.max_buffered || n > c->cfg.max_buffered - c->buffered)
		return false;
	if (b && (b->used > b->max || n > b->max - b->used))
		return false;
	c->buffered += n;
	if (b)
		b->used += n;
	return true;
}

void grpc_give(struct grpc_conn *c, size_t n)
{
	c->buffered -= n;
	if (c->cfg.budget)
		c->cfg.budget->used -= n;
}

static void set_why(struct grpc_conn *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void set_why(struct grpc_conn *c, const char *fmt, ...)
{
	va_list ap;

	if (c->why[0])
		return;
	va_start(ap, fmt);
	vsnprintf(c->why, sizeof c->why, fmt, ap);
	va_end(ap);
}

/* --- callbacks of nghttp2 --- */

static int on_begin_headers(nghttp2_session *s, const nghttp2_frame *frame, void *user)
{
	struct grpc_conn *c = user;
	struct grpc_call *call;

	if (!c->server || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	call = grpc_call_new(c, GRPC_ROLE_SERVER);
	if (!call)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	call->id = frame->hd.stream_id;
	nghttp2_session_set_stream_user_data(s, call->id, call);
	return 0;
}

static int on_header(nghttp2_session *s, const nghttp2_frame *frame, const uint8_t *name, size_t name_n,
		     const uint8_t *value, size_t value_n, uint8_t flags, void *user)
{
	struct grpc_call *call = nghttp2_session_get_stream_user_data(s, frame->hd.stream_id);

	(void)flags;
	(void)user;
	if (call && frame->hd.type == NGHTTP2_HEADERS)
		grpc_meta_add(call->head_done ? &call->trail : &call->head, nb_bytes(name, name_n),
			      nb_bytes(value, value_n));
	return 0;
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *data, size_t n, void *user)
{
	struct grpc_call *call = nghttp2_session_get_stream_user_data(s, id);

	(void)flags;
	(void)user;
	if (call)
		grpc_recv_data(call, nb_bytes(data, n));
	else
		nghttp2_session_consume(s, id, n);
	return 0;
}

static bool is_informational(const struct grpc_call *call)
{
	struct nb_bytes v;

	return grpc_meta_get(&call->head, ":status", &v) && v.n == 3 && v.p[0] == '1';
}

static void headers_complete(struct grpc_call *call, bool end)
{
	if (call->head_done)
		return;
	if (call->role == GRPC_ROLE_CLIENT && !end && is_informational(call)) {
		size_t max = call->head.text.max;

		grpc_meta_fini(&call->head);
		grpc_meta_init(&call->head, max);
		return;
	}
	call->head_done = true;
	if (call->role == GRPC_ROLE_CLIENT)
		grpc_client_headers(call, end);
	else
		grpc_server_headers(call);
}

static void stream_frame(nghttp2_session *s, const nghttp2_frame *frame)
{
	struct grpc_call *call = nghttp2_session_get_stream_user_data(s, frame->hd.stream_id);
	bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;

	if (!call)
		return;
	if (frame->hd.type == NGHTTP2_HEADERS)
		headers_complete(call, end);
	if (end && !call->dead)
		grpc_recv_end(call);
}

static int on_frame(nghttp2_session *s, const nghttp2_frame *frame, void *user)
{
	struct grpc_conn *c = user;

	switch (frame->hd.type) {
	case NGHTTP2_HEADERS:
	case NGHTTP2_DATA:
		stream_frame(s, frame);
		break;
	case NGHTTP2_SETTINGS:
		if (frame->hd.flags & NGHTTP2_FLAG_ACK || c->ready)
			break;
		c->ready = true;
		c->handshake_by = NB_TIME_NEVER;
		if (c->cfg.ops && c->cfg.ops->on_ready)
			c->cfg.ops->on_ready(c, c->cfg.user);
		break;
	case NGHTTP2_GOAWAY:
		if (c->goaway_in)
			break;
		c->goaway_in = true;
		if (frame->goaway.error_code)
			set_why(c, "the peer sent GOAWAY: %s%s%.*s",
				nghttp2_http2_strerror(frame->goaway.error_code),
				frame->goaway.opaque_data_len ? ", " : "",
				(int)(frame->goaway.opaque_data_len < 40 ? frame->goaway.opaque_data_len : 40),
				(const char *)frame->goaway.opaque_data);
		if (c->cfg.ops && c->cfg.ops->on_goaway)
			c->cfg.ops->on_goaway(c, c->cfg.user);
		break;
	default:
		break;
	}
	return 0;
}

static int on_frame_sent(nghttp2_session *s, const nghttp2_frame *frame, void *user)
{
	struct grpc_call *call;

	(void)user;
	if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
		return 0;
	if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;
	call = nghttp2_session_get_stream_user_data(s, frame->hd.stream_id);
	if (!call)
		return 0;
	call->local_end = true;
	/* A server that has answered need not hear the rest of the request (RFC 9113, 8.1). */
	if (call->role != GRPC_ROLE_CLIENT && !nghttp2_session_get_stream_remote_close(s, call->id))
		nghttp2_submit_rst_stream(s, NGHTTP2_FLAG_NONE, call->id, NGHTTP2_NO_ERROR);
	return 0;
}

static int on_frame_unsent(nghttp2_session *s, const nghttp2_frame *frame, int error, void *user)
{
	struct grpc_call *call;

	(void)user;
	if (frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	call = nghttp2_session_get_stream_user_data(s, frame->hd.stream_id);
	if (call && call->role == GRPC_ROLE_CLIENT)
		grpc_call_end(call, GRPC_UNAVAILABLE, nghttp2_strerror(error));
	return 0;
}

static void server_closed(struct grpc_call *call, uint32_t error)
{
	if (call->local_end || call->failed)
		grpc_call_end(call, call->status, call->message);
	else
		grpc_call_end(call, GRPC_CANCELLED, error == NGHTTP2_CANCEL ?
			      "the client cancelled the call" : "the client reset the stream");
}

static int on_stream_close(nghttp2_session *s, int32_t id, uint32_t error, void *user)
{
	struct grpc_call *call = nghttp2_session_get_stream_user_data(s, id);
	char text[80];

	(void)user;
	if (!call)
		return 0;
	call->gone = true;
	if (call->role != GRPC_ROLE_CLIENT) {
		server_closed(call, error);
		return 0;
	}
	/* Everything arrived while the program had paused: the end is told after the resume. */
	if (call->remote_end && !call->end_told)
		return 0;
	snprintf(text, sizeof text, "stream terminated by RST_STREAM with error code: %s",
		 nghttp2_http2_strerror(error));
	grpc_call_end(call, grpc_status_of_reset(error), text);
	return 0;
}

static int on_invalid_frame(nghttp2_session *s, const nghttp2_frame *frame, int error, void *user)
{
	(void)s;
	/* Trouble of one stream ends that stream; only the connection's is worth keeping as its reason. */
	if (frame->hd.stream_id == 0)
		set_why(user, "bad HTTP/2 from the peer: %s", nghttp2_strerror(error));
	return 0;
}

static nghttp2_session_callbacks *new_callbacks(void)
{
	nghttp2_session_callbacks *cb;

	if (nghttp2_session_callbacks_new(&cb))
		return NULL;
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_sent);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(cb, on_frame_unsent);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, on_invalid_frame);
	return cb;
}

static nghttp2_option *new_options(void)
{
	nghttp2_option *opt;

	if (nghttp2_option_new(&opt))
		return NULL;
	nghttp2_option_set_no_auto_window_update(opt, 1);
	nghttp2_option_set_no_closed_streams(opt, 1);
	return opt;
}

static int new_session(struct grpc_conn *c)
{
	nghttp2_mem mem = { NULL, mem_malloc, mem_free, mem_calloc, mem_realloc };
	nghttp2_session_callbacks *cb = new_callbacks();
	nghttp2_option *opt = new_options();
	int r = NGHTTP2_ERR_NOMEM;

	if (cb && opt)
		r = c->server ? nghttp2_session_server_new3(&c->session, cb, c, opt, &mem)
			      : nghttp2_session_client_new3(&c->session, cb, c, opt, &mem);
	nghttp2_session_callbacks_del(cb);
	nghttp2_option_del(opt);
	return r ? NB_E_NOMEM : 0;
}

/* NO_RFC7540_PRIORITIES is left out on purpose: with it nghttp2 1.52 frees a queued frame twice when an
 * allocation fails (grpc_failmalloc_test finds it). */
static int submit_settings(struct grpc_conn *c)
{
	nghttp2_settings_entry iv[] = {
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, c->cfg.window },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)c->cfg.max_header_bytes },
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, c->cfg.max_streams },
	};
	size_t n = sizeof iv / sizeof *iv;

	if (!c->server)
		iv[n - 1] = (nghttp2_settings_entry){ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 };
	if (nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, iv, n) ||
	    nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0,
						  (int32_t)(c->cfg.window * CONN_WINDOWS)))
		return NB_E_NOMEM;
	return 0;
}

static int conn_new(struct grpc_conn **out, const struct grpc_config *cfg, bool server, struct nb_time now)
{
	struct grpc_conn *c;

	*out = NULL;
	if (!cfg->window || cfg->window > INT32_MAX / CONN_WINDOWS || !cfg->max_buffered ||
	    cfg->max_header_bytes > 1 << 20)
		return NB_E_ARG;
	c = calloc(1, sizeof *c);
	if (!c)
		return NB_E_NOMEM;
	c->cfg = *cfg;
	c->server = server;
	c->now = c->last_read = c->idle_since = now;
	c->frame.skip = PREFACE_BYTES;
	c->ping_at = c->goaway_final = c->cut_at = c->call_deadline = NB_TIME_NEVER;
	c->handshake_by = cfg->handshake_ns ? nb_time_add(now, cfg->handshake_ns) : NB_TIME_NEVER;
	nb_list_init(&c->calls);
	nb_list_init(&c->dead);
	nb_list_init(&c->wanting);
	nb_list_init(&c->working);
	c->authority = strdup(cfg->authority ? cfg->authority : "localhost");
	c->user_agent = strdup(cfg->user_agent ? cfg->user_agent : "nestbox");
	if (!c->authority || !c->user_agent || new_session(c) || submit_settings(c)) {
		grpc_conn_free(c);
		return NB_E_NOMEM;
	}
	*out = c;
	return 0;
}

int grpc_server_new(struct grpc_conn **out, const struct grpc_config *cfg, struct nb_time now)
{
	return conn_new(out, cfg, true, now);
}

int grpc_client_new(struct grpc_conn **out, const struct grpc_config *cfg, struct nb_time now)
{
	return conn_new(out, cfg, false, now);
}

/* Nothing works any more: every call ends. The session stays for a last GOAWAY. */
static void give_up(struct grpc_conn *c, const char *why)
{
	set_why(c, "%s", why);
	c->lost = true;
	while (!nb_list_empty(&c->calls))
		grpc_call_end(nb_container(c->calls.next, struct grpc_call, node), GRPC_UNAVAILABLE, c->why);
}

void grpc_conn_free(struct grpc_conn *c)
{
	if (!c)
		return;
	enter(c, c->now);
	give_up(c, "connection closed");
	leave(c);
	nghttp2_session_del(c->session);
	free(c->authority);
	free(c->user_agent);
	free(c);
}

void grpc_conn_lost(struct grpc_conn *c, const char *why, struct nb_time now)
{
	enter(c, now);
	c->out_n = 0;
	c->cut = true;
	give_up(c, why);
	leave(c);
}

/* The session may have come to its end by itself (protocol error, last call after a GOAWAY). */
static void settle(struct grpc_conn *c)
{
	if (c->lost || c->out_n)
		return;
	if (!nghttp2_session_want_read(c->session) && !nghttp2_session_want_write(c->session))
		give_up(c, c->goaway_out ? "connection shut down" : "connection ended");
}

static int input_error(struct grpc_conn *c, ssize_t r)
{
	give_up(c, r == NGHTTP2_ERR_BAD_CLIENT_MAGIC ? "the peer does not speak HTTP/2" :
		nghttp2_strerror((int)r));
	return r == NGHTTP2_ERR_NOMEM ? NB_E_NOMEM : NB_E_PROTO;
}

/* How many of these bytes come before the last-stream-id of a GOAWAY. */
static size_t before_last_id(struct grpc_conn *c, struct nb_bytes in)
{
	size_t at = 0, n;

	while (at < in.n && !c->frame.n_last) {
		if (c->frame.skip) {
			n = c->frame.skip < in.n - at ? c->frame.skip : in.n - at;
			c->frame.skip -= n;
			at += n;
			continue;
		}
		c->frame.head[c->frame.n_head++] = in.p[at++];
		if (c->frame.n_head < sizeof c->frame.head)
			continue;
		c->frame.n_head = 0;
		c->frame.skip = nb_get_be32(c->frame.head) >> 8;
		if (c->frame.head[3] != NGHTTP2_GOAWAY || c->frame.skip < 8)
			continue;
		c->frame.n_last = 4;
		c->frame.skip -= 4;
	}
	return at;
}

/* A client's GOAWAY names the last stream that we pushed. We push none, so the number says nothing; Go sends
 * 2^31-1, which nghttp2 takes for a violation since it is no stream of a server. It gets 0 instead. */
static ssize_t feed_session(struct grpc_conn *c, struct nb_bytes in)
{
	static const uint8_t zero[4];
	ssize_t r = 0;

	if (!c->server)
		return nghttp2_session_mem_recv(c->session, in.p, in.n);
	while (in.n && r >= 0) {
		size_t n = before_last_id(c, in);

		r = n ? nghttp2_session_mem_recv(c->session, in.p, n) : 0;
		in = nb_bytes(in.p + n, in.n - n);
		n = c->frame.n_last < in.n ? c->frame.n_last : in.n;
		if (!n || r < 0)
			continue;
		r = nghttp2_session_mem_recv(c->session, zero, n);
		c->frame.n_last -= (uint8_t)n;
		in = nb_bytes(in.p + n, in.n - n);
	}
	return r;
}

int grpc_conn_input(struct grpc_conn *c, struct nb_bytes in, struct nb_time now)
{
	ssize_t r;
	int err = 0;

	if (c->lost)
		return NB_E_CLOSED;
	enter(c, now);
	c->last_read = now;
	c->ping_at = NB_TIME_NEVER;
	r = feed_session(c, in);
	if (r < 0)
		err = input_error(c, r);
	else
		settle(c);
	leave(c);
	return err;
}

static void run_work(struct grpc_conn *c)
{
	while (!nb_list_empty(&c->working)) {
		struct grpc_call *call = nb_container(c->working.next, struct grpc_call, work);

		nb_list_del(&call->work);
		grpc_recv_work(call);
	}
}

/* Ask one producer for a message. Each is asked once per round unless it sent something, so that one
 * that keeps asking without sending cannot hold the loop. */
static bool produce(struct grpc_conn *c)
{
	if (nghttp2_session_get_remote_window_size(c->session) <= 0)
		return false;
	nb_list_each(it, &c->wanting) {
		struct grpc_call *call = nb_container(it, struct grpc_call, want);

		if (call->asked_round == c->round || !grpc_call_writable(call))
			continue;
		nb_list_del(&call->want);
		call->asked_round = c->round;
		if (call->ops && call->ops->on_writable)
			call->ops->on_writable(call, call->user);
		return true;
	}
	return false;
}

/* Get the next run of bytes from nghttp2. Returns false when there is none. */
static bool refill(struct grpc_conn *c)
{
	const uint8_t *p;
	ssize_t n;

	do {
		n = nghttp2_session_mem_send(c->session, &p);
		if (n < 0) {
			give_up(c, nghttp2_strerror((int)n));
			c->cut = true;
			return false;
		}
	} while (n == 0 && !c->lost && produce(c));
	c->out = p;
	c->out_n = (size_t)n;
	return n > 0;
}

size_t grpc_conn_output(struct grpc_conn *c, void *out, size_t cap, struct nb_time now)
{
	uint8_t *to = out;
	size_t n = 0;

	if (c->cut)
		return 0;
	enter(c, now);
	c->round++;
	run_work(c);
	while (n < cap && (c->out_n || refill(c))) {
		size_t k = c->out_n < cap - n ? c->out_n : cap - n;

		memcpy(to + n, c->out, k);
		c->out += k;
		c->out_n -= k;
		n += k;
	}
	if (n < cap)
		settle(c);
	leave(c);
	return n;
}

static struct nb_time keepalive_due(const struct grpc_conn *c)
{
	if (!c->cfg.keepalive_ns)
		return NB_TIME_NEVER;
	if (!nb_time_is_never(c->ping_at))
		return nb_time_add(c->ping_at, c->cfg.keepalive_timeout_ns);
	if (!c->n_calls && !c->cfg.keepalive_idle)
		return NB_TIME_NEVER;
	return nb_time_add(c->last_read, c->cfg.keepalive_ns);
}

static struct nb_time idle_due(const struct grpc_conn *c)
{
	if (!c->server || !c->cfg.idle_ns || c->goaway_out)
		return NB_TIME_NEVER;
	return nb_time_add(c->idle_since, c->cfg.idle_ns);
}

struct nb_time grpc_conn_deadline(const struct grpc_conn *c)
{
	struct nb_time t = c->call_deadline;

	if (c->lost)
		return NB_TIME_NEVER;
	t = nb_time_min(t, keepalive_due(c));
	t = nb_time_min(t, idle_due(c));
	t = nb_time_min(t, c->handshake_by);
	t = nb_time_min(t, c->goaway_final);
	return nb_time_min(t, c->cut_at);
}

static void expire(struct grpc_call *call)
{
	bool late_request = !nb_time_due(call->deadline, call->conn->now);

	call->deadline = call->request_by = NB_TIME_NEVER;
	if (call->role == GRPC_ROLE_RAW)
		grpc_raw_respond(call, 408, NULL, 0, nb_bytes_str("the request took too long to arrive\n"));
	else
		grpc_call_fail(call, GRPC_DEADLINE_EXCEEDED, "%s", late_request ?
			       "the request took too long to arrive" : "context deadline exceeded");
}

static void expire_calls(struct grpc_conn *c)
{
	struct nb_time next = NB_TIME_NEVER;
	struct grpc_call *due;

	do {
		/* A failing call may make the program cancel others: start over after each. */
		due = NULL;
		next = NB_TIME_NEVER;
		nb_list_each(it, &c->calls) {
			struct grpc_call *call = nb_container(it, struct grpc_call, node);
			struct nb_time t = nb_time_min(call->deadline, call->request_by);

			if (nb_time_due(t, c->now))
				due = call;
			else
				next = nb_time_min(next, t);
		}
		if (due)
			expire(due);
	} while (due);
	c->call_deadline = next;
}

static void keepalive(struct grpc_conn *c)
{
	if (!nb_time_due(keepalive_due(c), c->now))
		return;
	if (!nb_time_is_never(c->ping_at)) {
		c->cut = true;
		give_up(c, "keepalive ping failed to receive ACK within timeout");
		return;
	}
	if (!nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL))
		c->ping_at = c->now;
}

static void shut_down(struct grpc_conn *c, int64_t grace_ns)
{
	c->cut_at = nb_time_min(c->cut_at, nb_time_add(c->now, grace_ns));
	if (c->goaway_out)
		return;
	c->goaway_out = true;
	if (c->server && c->ready && grace_ns > GOAWAY_NOTICE_NS) {
		nghttp2_submit_shutdown_notice(c->session);
		c->goaway_final = nb_time_add(c->now, GOAWAY_NOTICE_NS);
	} else {
		c->goaway_final = c->now;
	}
}

static void shutdown_timers(struct grpc_conn *c)
{
	if (nb_time_due(c->goaway_final, c->now)) {
		c->goaway_final = NB_TIME_NEVER;
		nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE,
				      nghttp2_session_get_last_proc_stream_id(c->session),
				      NGHTTP2_NO_ERROR, NULL, 0);
	}
	if (nb_time_due(c->cut_at, c->now)) {
		c->cut_at = NB_TIME_NEVER;
		nghttp2_session_terminate_session(c->session, NGHTTP2_NO_ERROR);
		give_up(c, "connection shut down");
	}
}

void grpc_conn_timer(struct grpc_conn *c, struct nb_time now)
{
	if (c->lost)
		return;
	enter(c, now);
	if (nb_time_due(c->handshake_by, now)) {
		c->cut = true;
		give_up(c, "no HTTP/2 SETTINGS from the peer in time");
	}
	if (!c->lost && nb_time_due(c->call_deadline, now))
		expire_calls(c);
	if (!c->lost)
		keepalive(c);
	if (!c->lost && nb_time_due(idle_due(c), now))
		shut_down(c, IDLE_GRACE_NS);
	if (!c->lost)
		shutdown_timers(c);
	leave(c);
}

void grpc_conn_shutdown(struct grpc_conn *c, int64_t grace_ns, struct nb_time now)
{
	if (c->lost)
		return;
	enter(c, now);
	shut_down(c, grace_ns);
	shutdown_timers(c);
	leave(c);
	if (!c->depth && c->cfg.ops && c->cfg.ops->on_wake)
		c->cfg.ops->on_wake(c, c->cfg.user);
}

bool grpc_conn_done(const struct grpc_conn *c)
{
	if (c->cut)
		return true;
	return c->lost && !c->out_n && !nghttp2_session_want_write(c->session);
}

bool grpc_conn_ready(const struct grpc_conn *c)
{
	return c->ready;
}

bool grpc_conn_usable(const struct grpc_conn *c)
{
	return !c->lost && !c->goaway_in && !c->goaway_out;
}

size_t grpc_conn_calls(const struct grpc_conn *c)
{
	return c->n_calls;
}

const char *grpc_conn_why(const struct grpc_conn *c)
{
	return c->why;
}

void *grpc_conn_user(const struct grpc_conn *c)
{
	return c->cfg.user;
}

struct nb_time grpc_conn_now(const struct grpc_conn *c)
{
	return c->now;
}
