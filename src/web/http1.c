/* http1.c - see http1.h. A request's head is gathered whole and checked for bare CR, bare LF and NUL
 * before llhttp sees it: llhttp 8.1 lets a bare CR after an empty value end a header, a way to smuggle
 * one request inside another. Trailers are refused for the same reason.
 * Tests: tests/unit/web_http1_test.c, tests/fuzz/http1_fuzz.c */
#include "web/http1.h"

#include "base/buf.h"
#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>

#include <llhttp.h>

#define HEADERS_MAX 100
#define READ_AHEAD 65536	/* bytes kept unparsed beyond a head */
#define OUTPUT_HIGH (256 * 1024)	/* unsent answers that stop the next request */
#define CALL_BYTES 65536	/* memory of a call beside head and body */

enum state {
	ST_HEAD,	/* gathering a request's head, or waiting for one */
	ST_BODY,
	ST_BUSY,	/* the handler has the call */
	ST_CLOSING,	/* nothing more is read; the output drains */
	ST_UPGRADED,
};

struct web_http1 {
	struct web_http1_config cfg;
	enum state state;
	llhttp_t parser;
	struct nb_buf in, out, body;
	size_t sent;		/* of out */
	size_t scanned;		/* of in, without the end of the head */
	struct nb_time deadline;
	struct nb_time now;
	/* the request being parsed */
	struct web_call *call;
	struct web_header headers[HEADERS_MAX];
	size_t n_headers;
	struct nb_bytes target;
	int refuse;		/* status the parser callbacks decided on */
	void *upgrade_user;
	bool keep_alive, complete, upgrade, shutdown, running;
};

static void advance(struct web_http1 *h);

/* --- answers ---------------------------------------------------------------------------------- */

static bool status_has_body(int status)
{
	return status >= 200 && status != 204 && status != 304;
}

static void write_response(struct web_http1 *h, const struct web_response *res, bool head_only)
{
	struct nb_buf *o = &h->out;

	nb_buf_printf(o, "HTTP/1.1 %d %s\r\n", res->status, web_reason(res->status));
	for (size_t i = 0; i < res->n_headers; i++) {
		nb_buf_bytes(o, res->headers[i].name);
		nb_buf_str(o, ": ");
		nb_buf_bytes(o, res->headers[i].value);
		nb_buf_str(o, "\r\n");
	}
	if (status_has_body(res->status))
		nb_buf_printf(o, "content-length: %zu\r\n", res->body.n);
	if (!h->keep_alive && res->status != 101)
		nb_buf_str(o, "connection: close\r\n");
	nb_buf_str(o, "\r\n");
	if (!head_only && status_has_body(res->status))
		nb_buf_bytes(o, res->body);
	if (o->err) {
		/* A cut answer is worse than none. */
		nb_buf_reset(o);
		h->sent = 0;
		h->keep_alive = false;
	}
}

static void close_soon(struct web_http1 *h)
{
	h->state = ST_CLOSING;
	h->deadline = NB_TIME_NEVER;
	nb_buf_reset(&h->in);
}

/* Refuse what is being read, with a line of text, and close. */
static void refuse(struct web_http1 *h, int status)
{
	struct web_header type = { nb_bytes_str("content-type"), nb_bytes_str("text/plain; charset=utf-8") };
	struct web_response res = { .status = status, .headers = &type, .n_headers = 1 };
	char text[80];

	snprintf(text, sizeof text, "%d %s\n", status, web_reason(status));
	res.body = nb_bytes_str(text);
	h->keep_alive = false;
	write_response(h, &res, false);
	close_soon(h);
}

static void next_request(struct web_http1 *h)
{
	h->state = ST_HEAD;
	h->scanned = 0;
	h->deadline = nb_time_add(h->now, h->in.n ? h->cfg.head_ns : h->cfg.idle_ns);
}

static void drop_call(struct web_http1 *h)
{
	struct web_call *call = h->call;

	h->call = NULL;
	web_call_fini(call);
	free(call);
}

static void respond(struct web_call *call, const struct web_response *res)
{
	struct web_http1 *h = call->transport_ctx;

	if (h->shutdown)
		h->keep_alive = false;
	write_response(h, res, nb_bytes_eq_str(call->req.method, "HEAD"));
	h->upgrade_user = call->user;
	drop_call(h);
	if (res->status == 101 && h->upgrade) {
		h->state = ST_UPGRADED;
		h->deadline = NB_TIME_NEVER;
	} else if (h->keep_alive) {
		next_request(h);
	} else {
		close_soon(h);
	}
	if (!h->running && h->cfg.on_wake)
		h->cfg.on_wake(h->cfg.ctx);
}

static const struct web_transport transport = { .respond = respond };

/* --- parsing ---------------------------------------------------------------------------------- */

static int on_url(llhttp_t *p, const char *at, size_t n)
{
	struct web_http1 *h = p->data;

	/* The head is fed in one piece, so each span comes whole. */
	h->target = nb_bytes(at, n);
	return 0;
}

static int on_field(llhttp_t *p, const char *at, size_t n)
{
	struct web_http1 *h = p->data;

	if (h->state != ST_HEAD) {
		h->refuse = 400;	/* a trailer */
		return -1;
	}
	if (h->n_headers == HEADERS_MAX) {
		h->refuse = 431;
		return -1;
	}
	h->headers[h->n_headers++] = (struct web_header){ nb_bytes(at, n), nb_bytes(NULL, 0) };
	return 0;
}

static int on_value(llhttp_t *p, const char *at, size_t n)
{
	struct web_http1 *h = p->data;

	h->headers[h->n_headers - 1].value = nb_bytes(at, n);
	return 0;
}

static bool name_is(struct nb_bytes name, const char *lower)
{
	if (name.n != strlen(lower))
		return false;
	for (size_t i = 0; i < name.n; i++) {
		uint8_t c = name.p[i];

		if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != (uint8_t)lower[i])
			return false;
	}
	return true;
}

static const struct web_header *raw_header(const struct web_http1 *h, const char *lower)
{
	for (size_t i = 0; i < h->n_headers; i++)
		if (name_is(h->headers[i].name, lower))
			return &h->headers[i];
	return NULL;
}

static int on_headers_complete(llhttp_t *p)
{
	struct web_http1 *h = p->data;
	const struct web_header *upgrade = raw_header(h, "upgrade");

	/* Other upgrades (h2c) are declined by answering in HTTP/1.1. */
	h->upgrade = p->upgrade && p->method == HTTP_GET && h->cfg.handler->upgrade && upgrade &&
		     name_is(upgrade->value, "websocket");
	if (p->method == HTTP_CONNECT) {
		h->refuse = 501;
		return -1;
	}
	p->upgrade = 0;
	return 0;
}

static int on_body(llhttp_t *p, const char *at, size_t n)
{
	struct web_http1 *h = p->data;

	if (nb_buf_put(&h->body, at, n) == 0)
		return 0;
	h->refuse = 413;
	return -1;
}

static int on_complete(llhttp_t *p)
{
	struct web_http1 *h = p->data;

	h->complete = true;
	return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
	.on_url = on_url,
	.on_header_field = on_field,
	.on_header_value = on_value,
	.on_headers_complete = on_headers_complete,
	.on_body = on_body,
	.on_message_complete = on_complete,
};

/* Status for what llhttp did not like. */
static int status_of(const struct web_http1 *h, llhttp_errno_t e)
{
	if (h->refuse)
		return h->refuse;
	if (e == HPE_INVALID_METHOD)
		return 501;
	return e == HPE_INVALID_VERSION ? 505 : 400;
}

/* Length of the head including its empty line; 0: not here yet; negative: no head at all (a CR or LF on its
 * own, a NUL, or a folded line). */
static long find_head_end(struct web_http1 *h)
{
	const uint8_t *p = h->in.p;
	size_t i = h->scanned;

	for (; i < h->in.n; i++) {
		if (p[i] == 0 || (p[i] == '\n' && (i == 0 || p[i - 1] != '\r')))
			return -1;
		if ((p[i] == ' ' || p[i] == '\t') && (i == 0 || p[i - 1] == '\n'))
			return -1;
		if (p[i] != '\r')
			continue;
		if (i + 1 == h->in.n)
			break;
		if (p[i + 1] != '\n')
			return -1;
		if (i >= 2 && p[i - 1] == '\n')
			return (long)i + 2;
	}
	h->scanned = i;
	return 0;
}

/* Check what llhttp leaves to its user. Returns 0 or a status to refuse with. */
static int check_head(struct web_http1 *h)
{
	const struct web_header *host = raw_header(h, "host"), *length = raw_header(h, "content-length");
	const struct web_header *expect = raw_header(h, "expect");
	size_t hosts = 0;

	for (size_t i = 0; i < h->n_headers; i++) {
		struct nb_bytes n = h->headers[i].name;

		hosts += name_is(n, "host");
		/* "Content-Length : 5": refused by RFC 9112, 5.1; passed on by llhttp. */
		if (n.n == 0 || n.p[n.n - 1] == ' ' || n.p[n.n - 1] == '\t')
			return 400;
	}
	if (h->parser.http_major != 1)
		return 505;
	if (hosts > 1 || (!host && h->parser.http_minor >= 1))
		return 400;
	if (h->target.n == 0 || (h->target.p[0] != '/' && !nb_bytes_eq_str(h->target, "*")))
		return 400;
	if (length && h->parser.content_length > h->cfg.handler->max_body)
		return 413;
	if (expect && !name_is(expect->value, "100-continue"))
		return 417;
	return 0;
}

static struct nb_bytes keep(struct web_call *call, struct nb_bytes in)
{
	char *p = nb_arena_strndup(&call->mem, (const char *)in.p, in.n);

	return nb_bytes(p, p ? in.n : 0);
}

/* Copy the parsed head into a call: the input buffer moves on. */
static int make_call(struct web_http1 *h)
{
	struct web_call *call = malloc(sizeof *call);
	struct web_header *headers;
	const uint8_t *mark;

	if (!call)
		return NB_E_NOMEM;
	web_call_init(call, &transport, h, h->cfg.max_head * 2 + h->cfg.handler->max_body + CALL_BYTES);
	h->call = call;
	headers = nb_arena_alloc(&call->mem, (h->n_headers + 1) * sizeof *headers);
	if (!headers)
		return NB_E_NOMEM;
	for (size_t i = 0; i < h->n_headers; i++) {
		headers[i].name = keep(call, h->headers[i].name);
		headers[i].value = keep(call, h->headers[i].value);
		for (size_t k = 0; k < headers[i].name.n; k++) {
			uint8_t *c = (uint8_t *)(uintptr_t)&headers[i].name.p[k];

			if (*c >= 'A' && *c <= 'Z')
				*c += 32;
		}
	}
	call->req.headers = headers;
	call->req.n_headers = h->n_headers;
	call->req.method = nb_bytes_str(llhttp_method_name((llhttp_method_t)h->parser.method));
	call->req.path = keep(call, h->target);
	mark = call->req.path.n ? memchr(call->req.path.p, '?', call->req.path.n) : NULL;
	if (mark) {
		size_t n = (size_t)(mark - call->req.path.p);

		call->req.query = nb_bytes(mark + 1, call->req.path.n - n - 1);
		call->req.path.n = n;
	}
	web_header(call, "host", &call->req.host);
	call->req.peer = h->cfg.peer;
	call->req.secure = h->cfg.secure;
	return call->req.path.p ? 0 : NB_E_NOMEM;
}

/* A complete head lies at the front of `in`. */
static void take_head(struct web_http1 *h, size_t n)
{
	llhttp_errno_t e;
	int status;

	llhttp_init(&h->parser, HTTP_REQUEST, &settings);
	h->parser.data = h;
	h->n_headers = 0;
	h->refuse = 0;
	h->complete = false;
	nb_buf_reset(&h->body);
	h->body.max = h->cfg.handler->max_body;
	e = llhttp_execute(&h->parser, (const char *)h->in.p, n);
	if (e == HPE_PAUSED && h->complete)
		e = HPE_OK;
	status = e == HPE_OK ? check_head(h) : status_of(h, e);
	if (status) {
		refuse(h, status);
		return;
	}
	h->keep_alive = llhttp_should_keep_alive(&h->parser) != 0;
	if (make_call(h)) {
		if (h->call)
			drop_call(h);
		refuse(h, 503);
		return;
	}
	nb_buf_consume(&h->in, n);
	if (!h->complete && web_header(h->call, "expect", NULL) && !h->in.n)
		nb_buf_str(&h->out, "HTTP/1.1 100 Continue\r\n\r\n");
	h->state = ST_BODY;
	h->deadline = nb_time_add(h->now, h->cfg.body_ns);
}

/* The request is complete: hand it over. */
static void run_handler(struct web_http1 *h)
{
	const struct web_handler *handler = h->cfg.handler;
	struct web_call *call = h->call;

	call->req.body = keep(call, nb_buf_view(&h->body));
	if (h->body.n && !call->req.body.n) {
		drop_call(h);
		refuse(h, 503);
		return;
	}
	nb_buf_fini(&h->body);
	h->state = ST_BUSY;
	h->deadline = NB_TIME_NEVER;
	if (h->upgrade)
		handler->upgrade(handler->arg, call);
	else
		handler->request(handler->arg, call);
}

static void take_body(struct web_http1 *h)
{
	size_t used = h->in.n;
	llhttp_errno_t e = HPE_OK;

	if (!h->complete) {
		e = llhttp_execute(&h->parser, (const char *)h->in.p, h->in.n);
		if (e == HPE_PAUSED && h->complete) {
			used = (size_t)((const uint8_t *)llhttp_get_error_pos(&h->parser) - h->in.p);
			e = HPE_OK;
		}
		if (e != HPE_OK) {
			drop_call(h);
			refuse(h, status_of(h, e));
			return;
		}
		nb_buf_consume(&h->in, used);
	}
	if (h->complete)
		run_handler(h);
}

/* Empty lines before a request are skipped (RFC 9112, 2.2). */
static void skip_empty_lines(struct web_http1 *h)
{
	size_t n = 0;

	while (h->in.n - n >= 2 && h->in.p[n] == '\r' && h->in.p[n + 1] == '\n')
		n += 2;
	if (n)
		nb_buf_consume(&h->in, n);
}

static bool output_is_high(const struct web_http1 *h)
{
	return h->out.n - h->sent > OUTPUT_HIGH;
}

/* Use what is in `in` as far as it goes. */
static void advance(struct web_http1 *h)
{
	if (h->running)
		return;
	h->running = true;
	while (h->in.n && !output_is_high(h)) {
		long n;

		if (h->state == ST_HEAD) {
			if (!h->scanned)
				skip_empty_lines(h);
			n = find_head_end(h);
			if (n < 0)
				refuse(h, 400);
			else if (n > (long)h->cfg.max_head || (n == 0 && h->in.n > h->cfg.max_head))
				refuse(h, 431);
			else if (n > 0)
				take_head(h, (size_t)n);
			else
				break;
			if (h->state == ST_BODY && h->complete)
				take_body(h);
		} else if (h->state == ST_BODY) {
			take_body(h);
		} else {
			break;
		}
	}
	h->running = false;
}

/* --- face ------------------------------------------------------------------------------------- */

void web_http1_config_default(struct web_http1_config *cfg)
{
	memset(cfg, 0, sizeof *cfg);
	cfg->max_head = 16384;
	cfg->head_ns = 10 * NB_SEC;
	cfg->body_ns = 60 * NB_SEC;
	cfg->idle_ns = 120 * NB_SEC;
}

int web_http1_new(struct web_http1 **out, const struct web_http1_config *cfg, struct nb_time now)
{
	struct web_http1 *h = calloc(1, sizeof *h);

	if (!h)
		return NB_E_NOMEM;
	h->cfg = *cfg;
	h->now = now;
	h->keep_alive = true;
	nb_buf_init(&h->in, cfg->max_head + READ_AHEAD * 2);
	nb_buf_init(&h->out, 256u << 20);
	nb_buf_init(&h->body, cfg->handler->max_body);
	next_request(h);
	*out = h;
	return 0;
}

void web_http1_free(struct web_http1 *h)
{
	if (!h)
		return;
	if (h->call) {
		if (h->state == ST_BUSY && h->call->on_gone)
			h->call->on_gone(h->call);
		drop_call(h);
	}
	nb_buf_fini(&h->in);
	nb_buf_fini(&h->out);
	nb_buf_fini(&h->body);
	free(h);
}

void web_http1_input(struct web_http1 *h, struct nb_bytes in, struct nb_time now)
{
	h->now = now;
	while (in.n && h->state != ST_CLOSING) {
		size_t n = in.n < READ_AHEAD ? in.n : READ_AHEAD;

		if (h->state == ST_HEAD && !h->in.n)
			h->deadline = nb_time_add(now, h->cfg.head_ns);
		if (nb_buf_put(&h->in, in.p, n)) {
			/* Only a driver that ignores wants_input gets here, or there is no memory. */
			h->in.err = 0;
			if (h->state == ST_HEAD)
				refuse(h, 503);
			else
				h->keep_alive = false;
			return;
		}
		in.p += n;
		in.n -= n;
		advance(h);
	}
}

bool web_http1_wants_input(const struct web_http1 *h)
{
	return (h->state == ST_HEAD || h->state == ST_BODY) && !output_is_high(h);
}

size_t web_http1_output(struct web_http1 *h, void *out, size_t cap, struct nb_time now)
{
	size_t n;

	h->now = now;
	if (h->sent == h->out.n)
		advance(h);
	n = h->out.n - h->sent;
	if (n > cap)
		n = cap;
	if (n)
		memcpy(out, h->out.p + h->sent, n);
	h->sent += n;
	if (h->sent == h->out.n && h->out.n) {
		/* Idle connections are many: keep no memory. */
		nb_buf_fini(&h->out);
		h->sent = 0;
	}
	return n;
}

struct nb_time web_http1_deadline(const struct web_http1 *h)
{
	return h->deadline;
}

void web_http1_timer(struct web_http1 *h, struct nb_time now)
{
	h->now = now;
	if (!nb_time_due(h->deadline, now))
		return;
	if (h->state == ST_HEAD && !h->in.n) {
		close_soon(h);
	} else if (h->state == ST_HEAD || h->state == ST_BODY) {
		if (h->call)
			drop_call(h);
		refuse(h, 408);
	}
}

bool web_http1_done(const struct web_http1 *h)
{
	return h->state == ST_CLOSING && h->sent == h->out.n;
}

void web_http1_shutdown(struct web_http1 *h)
{
	h->shutdown = true;
	if (h->state == ST_HEAD && !h->in.n)
		close_soon(h);
}

bool web_http1_upgraded(const struct web_http1 *h, void **user, struct nb_bytes *rest)
{
	if (h->state != ST_UPGRADED || h->sent != h->out.n)
		return false;
	*user = h->upgrade_user;
	*rest = nb_buf_view(&h->in);
	return true;
}
