/* recv.c - from stream bytes to messages: the 5-byte prefix, limits, pausing, receive windows.
 * HTTP/2 frame borders mean nothing here. gRPC "PROTOCOL-HTTP2", Length-Prefixed-Message.
 * Tests: tests/unit/grpc_conn_test.c */
#include "grpc/grpc_int.h"

/* A body buffer that grew beyond this is given back after its message. */
#define BODY_KEEP 16384

static bool account(struct grpc_call *call, size_t n)
{
	if (grpc_take(call->conn, n))
		return true;
	grpc_call_fail(call, GRPC_RESOURCE_EXHAUSTED, "too much data is waiting already");
	return false;
}

static void drop(struct grpc_call *call, struct nb_buf *b)
{
	grpc_give(call->conn, b->n);
	if (b->cap > BODY_KEEP)
		nb_buf_fini(b);
	else
		nb_buf_reset(b);
}

static bool store(struct grpc_call *call, struct nb_buf *b, struct nb_bytes in)
{
	if (!in.n)
		return true;
	if (!account(call, in.n))
		return false;
	if (!nb_buf_bytes(b, in))
		return true;
	grpc_give(call->conn, in.n);
	grpc_call_fail(call, GRPC_RESOURCE_EXHAUSTED, "not enough memory for the message");
	return false;
}

/* The prefix is complete: may this message be read? */
static bool check_prefix(struct grpc_call *call)
{
	struct nb_bytes enc;

	call->body_len = nb_get_be32(call->prefix + 1);
	if (call->prefix[0] > 1) {
		grpc_call_fail(call, GRPC_INTERNAL, "grpc: received unexpected payload format %u",
			       call->prefix[0]);
		return false;
	}
	if (call->prefix[0] == 1) {
		if (grpc_meta_get(&call->head, "grpc-encoding", &enc) && !nb_bytes_eq_str(enc, "identity"))
			grpc_call_fail(call, GRPC_UNIMPLEMENTED,
				       "grpc: Decompressor is not installed for grpc-encoding \"%.*s\"",
				       (int)(enc.n < 64 ? enc.n : 64), (const char *)enc.p);
		else
			grpc_call_fail(call, GRPC_INTERNAL,
				       "grpc: compressed flag set with identity or empty encoding");
		return false;
	}
	if (call->body_len > call->max_message) {
		grpc_call_fail(call, GRPC_RESOURCE_EXHAUSTED,
			       "grpc: received message larger than max (%zu vs. %zu)",
			       call->body_len, call->max_message);
		return false;
	}
	if (call->have_single) {
		grpc_call_fail(call, GRPC_INTERNAL, "more than one message where one is expected");
		return false;
	}
	return true;
}

/* Returns false when nothing more may be read from this call now. */
static bool deliver(struct grpc_call *call, struct nb_bytes message)
{
	call->prefix_n = 0;
	if (call->single) {
		call->have_single = true;
		return true;
	}
	if (call->ops && call->ops->on_message)
		call->ops->on_message(call, call->user, message);
	if (call->dead)
		return false;
	drop(call, &call->body);
	return !call->discard;
}

static size_t take_prefix(struct grpc_call *call, struct nb_bytes in)
{
	size_t n = GRPC_PREFIX - call->prefix_n;

	if (n > in.n)
		n = in.n;
	memcpy(call->prefix + call->prefix_n, in.p, n);
	call->prefix_n += (unsigned)n;
	return n;
}

/* One step through in; *used bytes are dealt with. Returns false when reading must stop. */
static bool step(struct grpc_call *call, struct nb_bytes in, size_t *used)
{
	size_t n;

	*used = 0;
	if (call->prefix_n < GRPC_PREFIX) {
		*used = take_prefix(call, in);
		if (call->prefix_n < GRPC_PREFIX)
			return true;
		if (!check_prefix(call))
			return false;
		return call->body_len ? true : deliver(call, nb_bytes(NULL, 0));
	}
	n = call->body_len - call->body.n;
	if (n > in.n)
		n = in.n;
	*used = n;
	/* A whole message inside one chunk needs no copy, unless it has to wait for the end. */
	if (!call->single && call->body.n == 0 && n == call->body_len)
		return deliver(call, nb_bytes(in.p, n));
	if (!store(call, &call->body, nb_bytes(in.p, n)))
		return false;
	return call->body.n < call->body_len || deliver(call, nb_buf_view(&call->body));
}

/* Work through in until its end, a pause or the end of the call; returns the bytes dealt with. */
static size_t feed(struct grpc_call *call, struct nb_bytes in)
{
	size_t done = 0, used;

	while (done < in.n && !call->paused) {
		bool more = step(call, nb_bytes(in.p + done, in.n - done), &used);

		done += used;
		if (!more)
			return call->dead || call->discard ? in.n : done;
	}
	return done;
}

static void refill(struct grpc_call *call, size_t n)
{
	if (n && !call->dead && call->conn->session)
		nghttp2_session_consume_stream(call->conn->session, call->id, n);
}

void grpc_recv_data(struct grpc_call *call, struct nb_bytes in)
{
	size_t done = 0;

	/* The connection's window is refilled at once: a paused stream must not stop the others. Its own
	 * window bounds what it can make us hold. */
	nghttp2_session_consume_connection(call->conn->session, in.n);
	if (call->discard) {
		refill(call, in.n);
		return;
	}
	if (call->role == GRPC_ROLE_RAW) {
		grpc_raw_data(call, in);
		refill(call, in.n);
		return;
	}
	if (call->held.n == 0)
		done = feed(call, in);
	refill(call, done);
	if (!call->dead && !call->discard && done < in.n)
		store(call, &call->held, nb_bytes(in.p + done, in.n - done));
}

void grpc_recv_work(struct grpc_call *call)
{
	size_t done;

	if (call->held.n && !call->discard) {
		done = feed(call, nb_buf_view(&call->held));
		if (call->dead)
			return;
		refill(call, done);
		grpc_give(call->conn, done);
		nb_buf_consume(&call->held, done);
		if (call->held.n && call->discard)
			drop(call, &call->held);
	}
	if (call->remote_end && !call->held.n)
		grpc_recv_end(call);
}

void grpc_recv_end(struct grpc_call *call)
{
	call->remote_end = true;
	call->request_by = NB_TIME_NEVER;
	if (call->dead || call->end_told || (call->held.n && !call->discard) || call->paused)
		return;
	call->end_told = true;
	if (call->role == GRPC_ROLE_RAW)
		grpc_raw_end(call);
	else if (call->role == GRPC_ROLE_SERVER)
		grpc_server_end(call);
	else
		grpc_client_end(call);
}
