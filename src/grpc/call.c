/* call.c - the life of a call on both sides: headers, queued messages, half-close, trailers, cancel,
 * end. What differs between the roles is in server.c, client.c and raw.c.
 * gRPC "PROTOCOL-HTTP2". Tests: tests/unit/grpc_conn_test.c */
#include "grpc/grpc_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct grpc_call *grpc_call_new(struct grpc_conn *c, enum grpc_role role)
{
	struct grpc_call *call = calloc(1, sizeof *call);

	if (!call)
		return NULL;
	call->conn = c;
	call->role = role;
	call->deadline = call->request_by = NB_TIME_NEVER;
	call->max_message = c->cfg.max_message;
	nb_list_init(&call->want);
	nb_list_init(&call->work);
	grpc_meta_init(&call->head, c->cfg.max_header_bytes);
	grpc_meta_init(&call->trail, c->cfg.max_header_bytes);
	grpc_meta_init(&call->trail_out, c->cfg.max_header_bytes);
	nb_buf_init(&call->body, c->cfg.max_message);
	nb_buf_init(&call->held, c->cfg.max_buffered);
	nb_list_push(&c->calls, &call->node);
	c->n_calls++;
	c->idle_since = NB_TIME_NEVER;
	return call;
}

static void drop_queue(struct grpc_call *call)
{
	struct grpc_tx *next;

	for (struct grpc_tx *t = call->tx_head; t; t = next) {
		next = t->next;
		free(t);
	}
	call->tx_head = call->tx_tail = NULL;
	grpc_give(call->conn, call->tx_bytes);
	call->tx_bytes = 0;
}

void grpc_call_free(struct grpc_call *call)
{
	nb_buf_fini(&call->body);
	nb_buf_fini(&call->held);
	grpc_meta_fini(&call->head);
	grpc_meta_fini(&call->trail);
	grpc_meta_fini(&call->trail_out);
	free(call->message);
	free(call->path);
	free(call);
}

void grpc_call_bury(struct grpc_call *call)
{
	struct grpc_conn *c = call->conn;

	if (call->dead)
		return;
	call->dead = true;
	drop_queue(call);
	grpc_give(c, call->body.n + call->held.n);
	nb_list_del(&call->want);
	nb_list_del(&call->work);
	nb_list_del(&call->node);
	if (c->session)
		nghttp2_session_set_stream_user_data(c->session, call->id, NULL);
	if (--c->n_calls == 0)
		c->idle_since = c->now;
	if (c->depth)
		nb_list_push(&c->dead, &call->node);
	else
		grpc_call_free(call);
}

void grpc_call_end(struct grpc_call *call, int status, const char *message)
{
	struct grpc_result result = { status, message ? message : "" };

	if (call->dead)
		return;
	grpc_call_bury(call);
	if (call->role == GRPC_ROLE_RAW) {
		const struct grpc_raw_handler *raw = call->conn->cfg.raw;

		if (raw && raw->end)
			raw->end(raw->arg, call, call->user);
	} else if (call->ops && call->ops->on_end) {
		call->ops->on_end(call, call->user, &result);
	}
}

void grpc_call_wake(struct grpc_call *call)
{
	struct grpc_conn *c = call->conn;

	if (!c->depth && c->cfg.ops && c->cfg.ops->on_wake)
		c->cfg.ops->on_wake(c, c->cfg.user);
}

static int submit_trailers(struct grpc_call *call)
{
	struct grpc_nv nv;
	struct nb_buf text;
	struct grpc_meta m;
	char number[16];

	snprintf(number, sizeof number, "%d", call->status);
	nb_buf_init(&text, 3 * 65536 + 1);
	grpc_nv_init(&nv, call->trail_out.count + 2);
	grpc_nv_add(&nv, "grpc-status", number);
	if (call->message && call->message[0]) {
		grpc_percent_encode(&text, call->message);
		grpc_nv_add(&nv, "grpc-message", nb_buf_cstr(&text));
	}
	for (size_t pos = 0; grpc_meta_each(&call->trail_out, &pos, &m);)
		grpc_nv_meta(&nv, &m);
	if (!nv.err && nghttp2_submit_trailer(call->conn->session, call->id, nv.nv, nv.n))
		nv.err = NB_E_NOMEM;
	grpc_nv_fini(&nv);
	nb_buf_fini(&text);
	call->trail_out_done = true;
	if (nv.err)
		nghttp2_submit_rst_stream(call->conn->session, NGHTTP2_FLAG_NONE, call->id,
					  NGHTTP2_INTERNAL_ERROR);
	return nv.err;
}

ssize_t grpc_call_read(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t length,
		       uint32_t *flags, nghttp2_data_source *source, void *user)
{
	struct grpc_call *call = nghttp2_session_get_stream_user_data(session, stream_id);
	size_t n = 0;

	(void)source;
	(void)user;
	if (!call)
		return NGHTTP2_ERR_DEFERRED;
	while (call->tx_head && n < length) {
		struct grpc_tx *t = call->tx_head;
		size_t k = t->n - t->off < length - n ? t->n - t->off : length - n;

		memcpy(buf + n, t->data + t->off, k);
		n += k;
		t->off += k;
		call->tx_bytes -= k;
		grpc_give(call->conn, k);
		if (t->off < t->n)
			break;
		call->tx_head = t->next;
		if (!call->tx_head)
			call->tx_tail = NULL;
		free(t);
	}
	if (!call->tx_head && call->finished) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (call->role == GRPC_ROLE_SERVER) {
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
			if (!call->trail_out_done)
				submit_trailers(call);
		}
		return (ssize_t)n;
	}
	if (n == 0) {
		call->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	return (ssize_t)n;
}

/* Response HEADERS. Without data to follow (a refusal) there is no data provider. */
static int submit_head(struct grpc_call *call, const struct grpc_meta *meta, size_t n, bool data)
{
	nghttp2_data_provider prd = { .read_callback = grpc_call_read };
	nghttp2_session *s = call->conn->session;
	struct grpc_nv nv;
	int r = 0;

	grpc_nv_init(&nv, n + 5);
	grpc_nv_add(&nv, ":status", "200");
	grpc_nv_add(&nv, "content-type", "application/grpc");
	/* Stock announces these three; proxies that buffer trailers look for them. */
	grpc_nv_add(&nv, "trailer", "Grpc-Status");
	grpc_nv_add(&nv, "trailer", "Grpc-Message");
	grpc_nv_add(&nv, "trailer", "Grpc-Status-Details-Bin");
	for (size_t i = 0; i < n; i++)
		grpc_nv_meta(&nv, &meta[i]);
	if (!nv.err && data)
		r = nghttp2_submit_response(s, call->id, nv.nv, nv.n, &prd);
	else if (!nv.err)
		r = nghttp2_submit_headers(s, NGHTTP2_FLAG_NONE, call->id, NULL, nv.nv, nv.n, NULL);
	if (r)
		nv.err = NB_E_NOMEM;
	grpc_nv_fini(&nv);
	call->head_out = !nv.err;
	return nv.err;
}

int grpc_call_send_headers(struct grpc_call *call, const struct grpc_meta *meta, size_t n)
{
	int r;

	if (call->dead || call->head_out || call->finished || call->role != GRPC_ROLE_SERVER)
		return NB_E_STATE;
	for (size_t i = 0; i < n; i++)
		if (!grpc_meta_valid(&meta[i]))
			return NB_E_ARG;
	r = submit_head(call, meta, n, true);
	if (!r)
		grpc_call_wake(call);
	return r;
}

static struct grpc_tx *frame_message(struct nb_bytes message)
{
	struct grpc_tx *t;

	if (message.n > UINT32_MAX - 64)
		return NULL;
	t = malloc(sizeof *t + GRPC_PREFIX + message.n);
	if (!t)
		return NULL;
	t->next = NULL;
	t->off = 0;
	t->n = GRPC_PREFIX + message.n;
	t->data[0] = 0;
	nb_put_be32(t->data + 1, (uint32_t)message.n);
	if (message.n)
		memcpy(t->data + GRPC_PREFIX, message.p, message.n);
	return t;
}

int grpc_call_send(struct grpc_call *call, struct nb_bytes message)
{
	struct grpc_conn *c = call->conn;
	size_t n = GRPC_PREFIX + message.n;
	struct grpc_tx *t;
	int r;

	if (call->dead || call->finished || call->role == GRPC_ROLE_RAW)
		return NB_E_STATE;
	if (call->tx_bytes && (n > c->cfg.max_send_queue || call->tx_bytes > c->cfg.max_send_queue - n))
		return NB_E_FULL;
	if (!grpc_take(c, n))
		return NB_E_FULL;
	t = frame_message(message);
	r = t ? 0 : NB_E_NOMEM;
	if (!r && !call->head_out)
		r = submit_head(call, NULL, 0, true);
	if (r) {
		grpc_give(c, n);
		free(t);
		return r;
	}
	if (call->tx_tail)
		call->tx_tail->next = t;
	else
		call->tx_head = t;
	call->tx_tail = t;
	call->tx_bytes += n;
	call->asked_round = 0;
	if (call->deferred) {
		call->deferred = false;
		nghttp2_session_resume_data(c->session, call->id);
	}
	grpc_call_wake(call);
	return 0;
}

bool grpc_call_writable(const struct grpc_call *call)
{
	nghttp2_session *s = call->conn->session;

	if (call->dead || call->finished || call->tx_head || call->role == GRPC_ROLE_RAW)
		return false;
	return nghttp2_session_get_stream_remote_window_size(s, call->id) > 0 &&
	       nghttp2_session_get_remote_window_size(s) > 0;
}

void grpc_call_want_write(struct grpc_call *call)
{
	if (call->dead || call->finished || !nb_list_empty(&call->want))
		return;
	nb_list_push(&call->conn->wanting, &call->want);
	grpc_call_wake(call);
}

size_t grpc_call_queued(const struct grpc_call *call)
{
	return call->tx_bytes;
}

int grpc_call_half_close(struct grpc_call *call)
{
	if (call->dead || call->finished || call->role != GRPC_ROLE_CLIENT)
		return NB_E_STATE;
	call->finished = true;
	nb_list_del(&call->want);
	if (call->deferred) {
		call->deferred = false;
		nghttp2_session_resume_data(call->conn->session, call->id);
	}
	grpc_call_wake(call);
	return 0;
}

static int set_status(struct grpc_call *call, int status, const char *message)
{
	char *copy = NULL;

	if (message && message[0]) {
		size_t n = strnlen(message, 4096);

		copy = malloc(n + 1);
		if (!copy)
			return NB_E_NOMEM;
		memcpy(copy, message, n);
		copy[n] = 0;
	}
	free(call->message);
	call->message = copy;
	call->status = status;
	return 0;
}

int grpc_call_finish_meta(struct grpc_call *call, int status, const char *message,
			  const struct grpc_meta *meta, size_t n)
{
	int r;

	if (call->dead || call->finished || call->role != GRPC_ROLE_SERVER)
		return NB_E_STATE;
	for (size_t i = 0; i < n; i++) {
		if (!grpc_meta_valid(&meta[i]))
			return NB_E_ARG;
		r = grpc_meta_put(&call->trail_out, meta[i].name, meta[i].value);
		if (r)
			return r;
	}
	r = set_status(call, status, message);
	if (r)
		return r;
	call->finished = true;
	call->discard = true;
	nb_list_del(&call->want);
	if (!call->head_out)
		r = submit_head(call, NULL, 0, false);
	if (!r && !call->tx_head && !call->trail_out_done)
		r = submit_trailers(call);
	if (r)
		nghttp2_submit_rst_stream(call->conn->session, NGHTTP2_FLAG_NONE, call->id,
					  NGHTTP2_INTERNAL_ERROR);
	grpc_call_wake(call);
	return r;
}

int grpc_call_finish(struct grpc_call *call, int status, const char *message)
{
	return grpc_call_finish_meta(call, status, message, NULL, 0);
}

int grpc_call_reply(struct grpc_call *call, struct nb_bytes message)
{
	int r = grpc_call_send(call, message);

	if (r == NB_E_FULL || r == NB_E_NOMEM)
		grpc_call_finish(call, GRPC_RESOURCE_EXHAUSTED, "no memory for the answer");
	return r ? r : grpc_call_finish(call, GRPC_OK, NULL);
}

static void fail_server(struct grpc_call *call, int status, const char *text)
{
	bool clean = !call->finished && !(call->tx_head && call->tx_head->off);

	call->discard = true;
	if (clean) {
		drop_queue(call);
		if (!grpc_call_finish(call, status, text))
			return;
	}
	/* Too late for trailers (part of a message is out): a reset is all that can be said. */
	call->local_end = false;
	call->finished = true;
	set_status(call, status, text);
	call->failed = true;
	nghttp2_submit_rst_stream(call->conn->session, NGHTTP2_FLAG_NONE, call->id, NGHTTP2_CANCEL);
}

void grpc_call_fail(struct grpc_call *call, int status, const char *fmt, ...)
{
	char text[160];
	va_list ap;

	if (call->dead)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (call->role == GRPC_ROLE_SERVER) {
		fail_server(call, status, text);
		return;
	}
	nghttp2_submit_rst_stream(call->conn->session, NGHTTP2_FLAG_NONE, call->id, NGHTTP2_CANCEL);
	grpc_call_end(call, status, text);
}

void grpc_call_cancel(struct grpc_call *call)
{
	struct grpc_conn *c = call->conn;
	bool outside = !c->depth;

	if (call->dead)
		return;
	nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, call->id, NGHTTP2_CANCEL);
	grpc_call_bury(call);
	if (outside && c->cfg.ops && c->cfg.ops->on_wake)
		c->cfg.ops->on_wake(c, c->cfg.user);
}

void grpc_call_pause(struct grpc_call *call)
{
	call->paused = true;
}

void grpc_call_resume(struct grpc_call *call)
{
	if (call->dead || !call->paused)
		return;
	call->paused = false;
	if (nb_list_empty(&call->work))
		nb_list_push(&call->conn->working, &call->work);
	grpc_call_wake(call);
}

void grpc_call_set_user(struct grpc_call *call, void *user)
{
	call->user = user;
}

void *grpc_call_user(const struct grpc_call *call)
{
	return call->user;
}

void *grpc_call_service_arg(const struct grpc_call *call)
{
	return call->service_arg;
}

struct grpc_conn *grpc_call_conn(const struct grpc_call *call)
{
	return call->conn;
}

bool grpc_call_metadata(const struct grpc_call *call, const char *name, struct nb_bytes *value)
{
	return grpc_meta_get(&call->head, name, value);
}

bool grpc_call_trailer(const struct grpc_call *call, const char *name, struct nb_bytes *value)
{
	return grpc_meta_get(&call->trail, name, value);
}

struct nb_time grpc_call_deadline(const struct grpc_call *call)
{
	return call->deadline;
}

const char *grpc_call_path(const struct grpc_call *call)
{
	return call->path ? call->path : "";
}

struct nb_endpoint grpc_call_peer(const struct grpc_call *call)
{
	return call->conn->cfg.peer;
}
