/* call.c - requests and answers: looking things up, decoding, answering. See web/web.h.
 * Tests: tests/unit/web_router_test.c */
#include "web/web.h"

#include "base/err.h"

#include <stdio.h>

void web_call_init(struct web_call *call, const struct web_transport *t, void *ctx, size_t max_bytes)
{
	memset(call, 0, sizeof *call);
	nb_arena_init(&call->mem, max_bytes);
	call->transport = t;
	call->transport_ctx = ctx;
}

void web_call_fini(struct web_call *call)
{
	nb_arena_fini(&call->mem);
}

bool web_header(const struct web_call *call, const char *name, struct nb_bytes *value)
{
	for (size_t i = 0; i < call->req.n_headers; i++) {
		if (!nb_bytes_eq_str(call->req.headers[i].name, name))
			continue;
		if (value)
			*value = call->req.headers[i].value;
		return true;
	}
	return false;
}

const char *web_header_text(struct web_call *call, const char *name)
{
	struct nb_bytes v;

	return web_header(call, name, &v) ? nb_arena_strndup(&call->mem, (const char *)v.p, v.n) : NULL;
}

char *web_decode(struct web_call *call, struct nb_bytes text, bool plus)
{
	char *out = nb_arena_alloc(&call->mem, text.n + 1);
	size_t o = 0;

	if (!out)
		return NULL;
	for (size_t i = 0; i < text.n; i++) {
		uint8_t c = text.p[i];

		if (c == '%') {
			if (text.n - i < 3 || nb_hex_decode(&c, 1, nb_bytes(text.p + i + 1, 2)))
				return NULL;
			i += 2;
		} else if (c == '+' && plus) {
			c = ' ';
		}
		if (c == 0)
			return NULL;
		out[o++] = (char)c;
	}
	out[o] = 0;
	return out;
}

/* Cut in at the first sep; *rest gets what follows. */
static struct nb_bytes cut(struct nb_bytes in, char sep, struct nb_bytes *rest)
{
	const uint8_t *at = in.n ? memchr(in.p, sep, in.n) : NULL;
	size_t n = at ? (size_t)(at - in.p) : in.n;

	*rest = at ? nb_bytes(at + 1, in.n - n - 1) : nb_bytes(NULL, 0);
	return nb_bytes(in.p, n);
}

const char *web_query(struct web_call *call, const char *name)
{
	struct nb_bytes rest = call->req.query;

	while (rest.n) {
		struct nb_bytes value, pair = cut(rest, '&', &rest);
		struct nb_bytes key = cut(pair, '=', &value);
		char *text;

		if (!nb_bytes_eq_str(key, name)) {
			/* A name is seldom escaped: decode only those that are. */
			if (!key.n || (!memchr(key.p, '%', key.n) && !memchr(key.p, '+', key.n)))
				continue;
			text = web_decode(call, key, true);
			if (!text || strcmp(text, name))
				continue;
		}
		return web_decode(call, value, true);
	}
	return NULL;
}

const char *web_param(const struct web_call *call, const char *name)
{
	for (size_t i = 0; i < call->n_params; i++)
		if (nb_bytes_eq_str(call->params[i].name, name))
			return (const char *)call->params[i].value.p;
	return "";
}

void web_set_header(struct web_call *call, const char *name, const char *value)
{
	struct web_header *h = &call->extra[call->n_extra];
	char *n = nb_arena_strndup(&call->mem, name, strlen(name));
	char *v = nb_arena_strndup(&call->mem, value, strlen(value));

	if (!n || !v || call->n_extra == WEB_EXTRA_MAX)
		return;
	for (char *p = v; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 127)
			*p = ' ';
	h->name = nb_bytes_str(n);
	h->value = nb_bytes_str(v);
	call->n_extra++;
}

void web_respond(struct web_call *call, int status, const char *type, struct nb_bytes body)
{
	struct web_response res = { .status = status, .body = body };

	if (type)
		web_set_header(call, "content-type", type);
	res.headers = call->extra;
	res.n_headers = call->n_extra;
	call->transport->respond(call, &res);
}

void web_respond_text(struct web_call *call, int status, const char *text)
{
	web_respond(call, status, "text/plain; charset=utf-8", nb_bytes_str(text));
}

const char *web_reason(int status)
{
	static const struct {
		int status;
		const char *words;
	} table[] = {
		{ 100, "Continue" }, { 101, "Switching Protocols" }, { 200, "OK" }, { 201, "Created" },
		{ 202, "Accepted" }, { 204, "No Content" }, { 301, "Moved Permanently" }, { 302, "Found" },
		{ 303, "See Other" }, { 304, "Not Modified" }, { 307, "Temporary Redirect" },
		{ 308, "Permanent Redirect" }, { 400, "Bad Request" }, { 401, "Unauthorized" },
		{ 403, "Forbidden" }, { 404, "Not Found" }, { 405, "Method Not Allowed" },
		{ 408, "Request Timeout" }, { 409, "Conflict" }, { 411, "Length Required" },
		{ 412, "Precondition Failed" }, { 413, "Content Too Large" }, { 414, "URI Too Long" },
		{ 417, "Expectation Failed" }, { 421, "Misdirected Request" },
		{ 422, "Unprocessable Content" }, { 426, "Upgrade Required" },
		{ 429, "Too Many Requests" }, { 431, "Request Header Fields Too Large" },
		{ 500, "Internal Server Error" }, { 501, "Not Implemented" },
		{ 503, "Service Unavailable" }, { 505, "HTTP Version Not Supported" },
	};

	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		if (table[i].status == status)
			return table[i].words;
	return "Status";
}
