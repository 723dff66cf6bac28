/* server.c - what a server does with a call's headers and with the client's half-close.
 * Refusals take stock's form: a HEADERS frame, then trailers. management-protocol.md section 1.
 * Tests: tests/unit/grpc_conn_test.c */
#include "grpc/grpc_int.h"

#include <stdlib.h>

static bool is_grpc_type(struct nb_bytes type)
{
	static const char base[] = "application/grpc";
	const size_t n = sizeof base - 1;

	if (type.n < n || memcmp(type.p, base, n))
		return false;
	if (type.n == n || type.p[n] == ';')
		return true;
	return nb_bytes_eq_str(nb_bytes(type.p + n, type.n - n), "+proto") ||
	       (type.n > n + 6 && memcmp(type.p + n, "+proto;", 7) == 0);
}

static bool is_grpc(const struct grpc_call *call)
{
	struct nb_bytes method, type;

	return grpc_meta_get(&call->head, ":method", &method) && nb_bytes_eq_str(method, "POST") &&
	       grpc_meta_get(&call->head, "content-type", &type) && is_grpc_type(type);
}

static const struct grpc_method *find_method(struct grpc_call *call, struct nb_bytes path)
{
	const struct grpc_config *cfg = &call->conn->cfg;

	for (size_t i = 0; i < cfg->n_services; i++) {
		const struct grpc_service *s = &cfg->services[i];

		for (size_t k = 0; k < s->n_methods; k++) {
			if (!nb_bytes_eq_str(path, s->methods[k].path))
				continue;
			call->service_arg = s->arg;
			return &s->methods[k];
		}
	}
	return NULL;
}

/* Texts as stock's library words them, because people search for them. */
static void refuse_unknown(struct grpc_call *call, struct nb_bytes path)
{
	size_t slash = path.n;
	int n = (int)(path.n < 200 ? path.n : 200);
	const char *p = (const char *)path.p;

	while (slash > 0 && path.p[slash - 1] != '/')
		slash--;
	if (n < 2 || slash < 2 || path.n > 200) {
		grpc_call_fail(call, GRPC_UNIMPLEMENTED, "malformed method name: \"%.*s\"",
			       n < 80 ? n : 80, p);
		return;
	}
	grpc_call_fail(call, GRPC_UNIMPLEMENTED, "unknown method %.*s for service %.*s",
		       n - (int)slash, p + slash, (int)slash - 2, p + 1);
}

/* Returns false when the call was refused. */
static bool read_options(struct grpc_call *call)
{
	struct nb_bytes v;
	int64_t ns;

	if (grpc_meta_get(&call->head, "grpc-timeout", &v)) {
		if (grpc_timeout_parse(&ns, v)) {
			grpc_call_fail(call, GRPC_INTERNAL, "malformed grpc-timeout");
			return false;
		}
		call->deadline = nb_time_add(call->conn->now, ns);
		call->conn->call_deadline = nb_time_min(call->conn->call_deadline, call->deadline);
	}
	if (grpc_meta_get(&call->head, "grpc-encoding", &v) && !nb_bytes_eq_str(v, "identity")) {
		grpc_call_fail(call, GRPC_UNIMPLEMENTED,
			       "grpc: Decompressor is not installed for grpc-encoding \"%.*s\"",
			       (int)(v.n < 64 ? v.n : 64), (const char *)v.p);
		return false;
	}
	return true;
}

void grpc_server_hurry(struct grpc_call *call)
{
	struct grpc_conn *c = call->conn;

	if (!c->cfg.request_ns)
		return;
	call->request_by = nb_time_add(c->now, c->cfg.request_ns);
	c->call_deadline = nb_time_min(c->call_deadline, call->request_by);
}

void grpc_server_headers(struct grpc_call *call)
{
	const struct grpc_method *m;
	struct nb_bytes path = { NULL, 0 };

	if (!is_grpc(call)) {
		grpc_raw_headers(call);
		return;
	}
	if (call->head.overflow) {
		grpc_call_fail(call, GRPC_RESOURCE_EXHAUSTED, "request headers are too large");
		return;
	}
	grpc_meta_get(&call->head, ":path", &path);
	m = find_method(call, path);
	if (!m) {
		refuse_unknown(call, path);
		return;
	}
	call->path = strdup(m->path);
	if (!call->path) {
		grpc_call_fail(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	call->kind = m->kind;
	call->single = m->kind == GRPC_UNARY || m->kind == GRPC_SERVER_STREAM;
	if (m->max_message)
		call->max_message = m->max_message;
	nb_buf_init(&call->body, call->max_message);
	if (!read_options(call))
		return;
	if (call->single)
		grpc_server_hurry(call);
	call->ops = m->ops;
	if (call->ops && call->ops->on_start)
		call->ops->on_start(call, call->user);
}

void grpc_server_end(struct grpc_call *call)
{
	if (call->discard)
		return;
	if (call->prefix_n && !call->have_single) {
		grpc_call_fail(call, GRPC_INTERNAL, "unexpected EOF");
		return;
	}
	if (!call->single) {
		if (call->ops && call->ops->on_half_close)
			call->ops->on_half_close(call, call->user);
		return;
	}
	if (!call->have_single) {
		grpc_call_fail(call, GRPC_INTERNAL, "the request message is missing");
		return;
	}
	if (call->ops && call->ops->on_message)
		call->ops->on_message(call, call->user, nb_buf_view(&call->body));
	if (call->dead)
		return;
	grpc_give(call->conn, call->body.n);
	nb_buf_fini(&call->body);
}
