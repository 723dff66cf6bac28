/* raw.c - requests over HTTP/2 that are not gRPC, collected whole and handed to the program (REST,
 * dashboard); answers are whole as well. What they mean is src/web's business.
 * RFC 9113 section 8. Tests: tests/unit/grpc_conn_test.c */
#include "grpc/grpc_int.h"

#include <stdio.h>
#include <stdlib.h>

void grpc_raw_headers(struct grpc_call *call)
{
	const struct grpc_raw_handler *raw = call->conn->cfg.raw;
	struct nb_bytes method;

	call->role = GRPC_ROLE_RAW;
	nb_buf_init(&call->body, raw ? raw->max_body : 0);
	call->raw_no_body = grpc_meta_get(&call->head, ":method", &method) &&
			    nb_bytes_eq_str(method, "HEAD");
	if (call->head.overflow)
		grpc_raw_respond(call, 431, NULL, 0, nb_bytes_str("request headers are too large\n"));
	else if (!raw)
		grpc_raw_respond(call, 404, NULL, 0, nb_bytes_str("not found\n"));
	else
		grpc_server_hurry(call);
}

void grpc_raw_data(struct grpc_call *call, struct nb_bytes in)
{
	if (in.n > call->body.max - call->body.n) {
		grpc_raw_respond(call, 413, NULL, 0, nb_bytes_str("request body is too large\n"));
		return;
	}
	if (grpc_take(call->conn, in.n)) {
		if (!nb_buf_bytes(&call->body, in))
			return;
		grpc_give(call->conn, in.n);
	}
	grpc_raw_respond(call, 503, NULL, 0, nb_bytes_str("the server is out of memory\n"));
}

/* Build the slice table over the header set, which does not move any more. */
static struct grpc_meta *header_table(const struct grpc_call *call, size_t *n)
{
	struct grpc_meta *t = calloc(call->head.count + 1, sizeof *t), m;

	*n = 0;
	if (!t)
		return NULL;
	for (size_t pos = 0; grpc_meta_each(&call->head, &pos, &m);)
		if (m.name.n && m.name.p[0] != ':')
			t[(*n)++] = m;
	return t;
}

void grpc_raw_end(struct grpc_call *call)
{
	const struct grpc_raw_handler *raw = call->conn->cfg.raw;
	struct grpc_raw_request req = { .body = nb_buf_view(&call->body) };
	struct grpc_meta *headers;

	if (call->discard || !raw)
		return;
	headers = header_table(call, &req.n_headers);
	if (!headers) {
		grpc_raw_respond(call, 503, NULL, 0, nb_bytes_str("the server is out of memory\n"));
		return;
	}
	req.headers = headers;
	grpc_meta_get(&call->head, ":method", &req.method);
	grpc_meta_get(&call->head, ":scheme", &req.scheme);
	if (!grpc_meta_get(&call->head, ":authority", &req.authority))
		grpc_meta_get(&call->head, "host", &req.authority);
	grpc_meta_get(&call->head, ":path", &req.path);
	raw->request(raw->arg, call, &req);
	free(headers);
	if (call->dead)
		return;
	grpc_give(call->conn, call->body.n);
	nb_buf_fini(&call->body);
}

/* The whole body as one queued run of bytes (no message prefix here). */
static int queue_body(struct grpc_call *call, struct nb_bytes body)
{
	struct grpc_tx *t;

	if (!grpc_take(call->conn, body.n))
		return NB_E_FULL;
	t = malloc(sizeof *t + body.n);
	if (!t) {
		grpc_give(call->conn, body.n);
		return NB_E_NOMEM;
	}
	*t = (struct grpc_tx){ .n = body.n };
	memcpy(t->data, body.p, body.n);
	call->tx_head = call->tx_tail = t;
	call->tx_bytes = body.n;
	return 0;
}

int grpc_raw_respond(struct grpc_call *call, int status, const struct grpc_meta *headers, size_t n,
		     struct nb_bytes body)
{
	nghttp2_data_provider prd = { .read_callback = grpc_call_read };
	bool data = body.n && !call->raw_no_body;
	char code[16], length[24];
	struct grpc_nv nv;

	if (call->dead || call->finished || call->role != GRPC_ROLE_RAW)
		return NB_E_STATE;
	if (status < 200 || status > 599)
		return NB_E_ARG;
	snprintf(code, sizeof code, "%d", status);
	snprintf(length, sizeof length, "%zu", body.n);
	grpc_nv_init(&nv, n + 2);
	grpc_nv_add(&nv, ":status", code);
	if (status != 204 && status != 304)
		grpc_nv_add(&nv, "content-length", length);
	for (size_t i = 0; i < n; i++)
		grpc_nv_add_bytes(&nv, headers[i].name, headers[i].value);
	if (!nv.err && data)
		nv.err = queue_body(call, body);
	call->finished = true;
	call->discard = true;
	if (!nv.err && nghttp2_submit_response(call->conn->session, call->id, nv.nv, nv.n,
					       data ? &prd : NULL))
		nv.err = NB_E_NOMEM;
	grpc_nv_fini(&nv);
	if (nv.err)
		nghttp2_submit_rst_stream(call->conn->session, NGHTTP2_FLAG_NONE, call->id,
					  NGHTTP2_INTERNAL_ERROR);
	grpc_call_wake(call);
	return nv.err;
}
