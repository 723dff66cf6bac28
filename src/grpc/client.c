/* client.c - starting calls and reading how they ended.
 * gRPC "PROTOCOL-HTTP2". Tests: tests/unit/grpc_conn_test.c */
#include "grpc/grpc_int.h"

#include <stdlib.h>

static int submit(struct grpc_call *call, const struct grpc_request *req, struct nb_time now)
{
	struct grpc_conn *c = call->conn;
	nghttp2_data_provider prd = { .read_callback = grpc_call_read };
	struct grpc_nv nv;
	char timeout[16];
	int32_t id = 0;

	grpc_nv_init(&nv, req->n_meta + 8);
	grpc_nv_add(&nv, ":method", "POST");
	grpc_nv_add(&nv, ":scheme", c->cfg.tls ? "https" : "http");
	grpc_nv_add(&nv, ":path", call->path);
	grpc_nv_add(&nv, ":authority", c->authority);
	grpc_nv_add(&nv, "content-type", "application/grpc");
	grpc_nv_add(&nv, "user-agent", c->user_agent);
	grpc_nv_add(&nv, "te", "trailers");
	if (!nb_time_is_never(req->deadline)) {
		grpc_timeout_format(timeout, nb_time_diff(req->deadline, now));
		grpc_nv_add(&nv, "grpc-timeout", timeout);
	}
	for (size_t i = 0; i < req->n_meta; i++)
		grpc_nv_meta(&nv, &req->meta[i]);
	if (!nv.err)
		id = nghttp2_submit_request(c->session, NULL, nv.nv, nv.n, &prd, call);
	if (!nv.err && id < 0)
		nv.err = id == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE ? NB_E_CLOSED : NB_E_NOMEM;
	call->id = id > 0 ? id : -1;
	grpc_nv_fini(&nv);
	return nv.err;
}

/* Everything but the wake-up. */
static int start(struct grpc_call **out, struct grpc_conn *c, const struct grpc_request *req,
		 struct nb_time now)
{
	struct grpc_call *call;
	int r;

	if (c->server || !req->path || req->path[0] != '/' || req->n_meta > 1000)
		return NB_E_ARG;
	for (size_t i = 0; i < req->n_meta; i++)
		if (!grpc_meta_valid(&req->meta[i]))
			return NB_E_ARG;
	if (!grpc_conn_usable(c))
		return NB_E_CLOSED;
	call = grpc_call_new(c, GRPC_ROLE_CLIENT);
	if (!call)
		return NB_E_NOMEM;
	call->kind = req->kind;
	call->single = req->kind == GRPC_UNARY || req->kind == GRPC_CLIENT_STREAM;
	if (req->max_message)
		call->max_message = req->max_message;
	nb_buf_init(&call->body, call->max_message);
	call->deadline = req->deadline;
	call->head_out = true;
	call->path = strdup(req->path);
	r = call->path ? submit(call, req, now) : NB_E_NOMEM;
	if (r) {
		grpc_call_bury(call);
		return r;
	}
	call->ops = req->ops;
	call->user = req->user;
	c->call_deadline = nb_time_min(c->call_deadline, call->deadline);
	*out = call;
	return 0;
}

int grpc_call_start(struct grpc_call **out, struct grpc_conn *c, const struct grpc_request *req,
		    struct nb_time now)
{
	int r = start(out, c, req, now);

	if (!r)
		grpc_call_wake(*out);
	return r;
}

int grpc_call_unary(struct grpc_call **out, struct grpc_conn *c, const struct grpc_request *req,
		    struct nb_bytes message, struct nb_time now)
{
	int r = start(out, c, req, now);

	if (r)
		return r;
	/* One frame with END_STREAM: the half-close is set before nghttp2 reads the queue. */
	r = grpc_call_send(*out, message);
	if (!r)
		r = grpc_call_half_close(*out);
	if (r)
		grpc_call_cancel(*out);
	return r;
}

static int http_status(const struct grpc_call *call)
{
	struct nb_bytes v;

	if (!grpc_meta_get(&call->head, ":status", &v) || v.n != 3)
		return 0;
	return (v.p[0] - '0') * 100 + (v.p[1] - '0') * 10 + (v.p[2] - '0');
}

static bool is_grpc_answer(const struct grpc_call *call)
{
	struct nb_bytes type;

	return grpc_meta_get(&call->head, "content-type", &type) && type.n >= 16 &&
	       memcmp(type.p, "application/grpc", 16) == 0;
}

/* The final header block is in; end: it carried END_STREAM (trailers only). */
void grpc_client_headers(struct grpc_call *call, bool end)
{
	int http = http_status(call);

	if (call->head.overflow) {
		grpc_call_fail(call, GRPC_RESOURCE_EXHAUSTED, "the answer's headers are too large");
		return;
	}
	if (http != 200) {
		grpc_call_fail(call, grpc_status_of_http(http), "unexpected HTTP status code received "
			       "from server: %d", http);
		return;
	}
	if (!is_grpc_answer(call)) {
		grpc_call_fail(call, GRPC_UNKNOWN, "the server's answer is not gRPC: is this the right "
			       "address?");
		return;
	}
	if (!end && call->ops && call->ops->on_headers)
		call->ops->on_headers(call, call->user);
}

static bool parse_status(int *status, struct nb_bytes v)
{
	int n = 0;

	if (v.n == 0 || v.n > 5)
		return false;
	for (size_t i = 0; i < v.n; i++) {
		if (v.p[i] < '0' || v.p[i] > '9')
			return false;
		n = n * 10 + (v.p[i] - '0');
	}
	*status = n;
	return true;
}

/* Deliver the single message of an OK answer. Returns false when the call is gone meanwhile. */
static bool deliver_single(struct grpc_call *call)
{
	if (call->ops && call->ops->on_message)
		call->ops->on_message(call, call->user, nb_buf_view(&call->body));
	return !call->dead;
}

void grpc_client_end(struct grpc_call *call)
{
	struct nb_bytes v;
	int status;

	if (!nghttp2_session_get_stream_local_close(call->conn->session, call->id) && !call->gone)
		nghttp2_submit_rst_stream(call->conn->session, NGHTTP2_FLAG_NONE, call->id,
					  NGHTTP2_NO_ERROR);
	if (!call->trail.count && !call->trail.overflow) {
		/* Trailers only: the one block is both. */
		struct grpc_meta_set t = call->trail;

		call->trail = call->head;
		call->head = t;
	}
	if (!grpc_meta_get(&call->trail, "grpc-status", &v) || !parse_status(&status, v)) {
		grpc_call_end(call, call->trail.overflow ? GRPC_RESOURCE_EXHAUSTED : GRPC_INTERNAL,
			      "server closed the stream without sending a status");
		return;
	}
	if (grpc_meta_get(&call->trail, "grpc-message", &v))
		call->message = grpc_percent_decode(v);
	if (status == GRPC_OK && call->prefix_n && !call->have_single) {
		grpc_call_end(call, GRPC_INTERNAL, "unexpected EOF");
		return;
	}
	if (status == GRPC_OK && call->single) {
		if (!call->have_single) {
			grpc_call_end(call, GRPC_INTERNAL, "the answer's message is missing");
			return;
		}
		if (!deliver_single(call))
			return;
	}
	grpc_call_end(call, status, call->message);
}
