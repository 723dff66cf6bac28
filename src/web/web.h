/* web.h - HTTP requests and their answers, apart from how they travel: the HTTP/1.1 core
 * (web/http1.h) and HTTP/2 (run/listen.h) both make struct web_call and hand it to one handler, in
 * most programs web_router_dispatch. No I/O, no clock. JSON helpers are in web/json.h.
 * rest-api.md, 1. Tests: tests/unit/web_router_test.c */
#ifndef NB_WEB_WEB_H
#define NB_WEB_WEB_H

#include "base/addr.h"
#include "base/arena.h"
#include "base/bytes.h"

struct web_call;
struct web_response;

/* Names are lower case. */
struct web_header {
	struct nb_bytes name;
	struct nb_bytes value;
};

#define WEB_PARAMS_MAX 4
#define WEB_EXTRA_MAX 12

/* A request as it came. Slices live as long as the call. */
struct web_request {
	struct nb_bytes method;		/* "GET" */
	struct nb_bytes path;		/* starts with "/", still percent-encoded, without the query */
	struct nb_bytes query;		/* raw, without "?" */
	struct nb_bytes host;		/* Host or :authority */
	const struct web_header *headers;
	size_t n_headers;
	struct nb_bytes body;
	struct nb_endpoint peer;	/* the TCP peer */
	bool secure;			/* came over TLS */
};

/* How a call's connection takes the answer and gives up a call; made by transports only. */
struct web_transport {
	/* Send, then free call (web_call_fini). */
	void (*respond)(struct web_call *call, const struct web_response *res);
};

/* One request being answered. It lives until web_respond, or until on_gone returned. An answer may be
 * given later, from any place in the same thread. */
struct web_call {
	struct web_request req;
	struct nb_arena mem;		/* memory of the call's life */
	/* The handler's: called when the client is gone before the answer; then there must be none. */
	void (*on_gone)(struct web_call *call);
	void *user;
	/* The router's. */
	const struct web_route *route;
	struct web_header params[WEB_PARAMS_MAX];
	size_t n_params;
	/* Headers that web_set_header added. */
	struct web_header extra[WEB_EXTRA_MAX];
	size_t n_extra;
	/* The transport's. */
	const struct web_transport *transport;
	void *transport_ctx;
};

struct web_response {
	int status;
	const struct web_header *headers;
	size_t n_headers;
	struct nb_bytes body;
};

/* Where complete requests go. request must lead to one web_respond. */
struct web_handler {
	void (*request)(void *arg, struct web_call *call);
	/* A WebSocket upgrade request over HTTP/1.1 (may be NULL: treated as a plain request). To accept, answer
	 * 101; the connection is then the driver's to hand over. */
	void (*upgrade)(void *arg, struct web_call *call);
	void *arg;
	size_t max_body;	/* bytes; larger ones are answered 413 */
};

/* For transports: fields to their start values, memory cap for headers, texts and body. */
void web_call_init(struct web_call *call, const struct web_transport *t, void *ctx, size_t max_bytes);
void web_call_fini(struct web_call *call);

/* First header of that lower-case name; false when absent. value may be NULL. */
bool web_header(const struct web_call *call, const char *name, struct nb_bytes *value);
/* The same as NUL-terminated text; NULL when absent or without memory. */
const char *web_header_text(struct web_call *call, const char *name);
/* Query parameter, percent and plus decoded, NUL-terminated; NULL when absent, malformed or without
 * memory. */
const char *web_query(struct web_call *call, const char *name);
/* Path parameter "{name}" of the matched route, decoded; "" when the route has none of that name. */
const char *web_param(const struct web_call *call, const char *name);
/* Percent-decode into the call's memory; plus: "+" is a space. NULL for a bad escape, an embedded NUL or
 * without memory. */
char *web_decode(struct web_call *call, struct nb_bytes text, bool plus);

/* Add a header to the answer; both are copied. Control characters in value become spaces. */
void web_set_header(struct web_call *call, const char *name, const char *value);
/* Answer; the body is copied, content-length added. type may be NULL for an empty body. The call is
 * gone when this returns. */
void web_respond(struct web_call *call, int status, const char *type, struct nb_bytes body);
void web_respond_text(struct web_call *call, int status, const char *text);
/* Standard words for a status ("Not Found"). */
const char *web_reason(int status);

/* --- routes ------------------------------------------------------------------------------------ */

/* pattern: "METHOD /path/{name}/more". METHOD may be "*" (any). A last segment "*" takes the rest of the
 * path, none included. Of several that match, the one with the earliest literal segment wins. */
struct web_route {
	const char *pattern;
	void (*fn)(struct web_call *call, void *arg);
	unsigned flags;		/* the program's, for before() */
};

struct web_router {
	const struct web_route *routes;
	size_t n;
	void *arg;
	/* Runs for every known path, preflights and wrong methods too: headers of all answers. May be NULL. */
	void (*matched)(struct web_call *call, void *arg);
	/* Runs before a matched route (authentication); false: it has answered. May be NULL. */
	bool (*before)(struct web_call *call, const struct web_route *route, void *arg);
	/* Answers unknown paths; NULL: 404 as stock. */
	void (*not_found)(struct web_call *call, void *arg);
	bool cors;		/* rest-api.md, 1: any origin; preflights are answered here */
};

/* A web_handler.request whose arg is a struct web_router. */
void web_router_dispatch(void *router, struct web_call *call);

#endif
