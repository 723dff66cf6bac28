/* http1.h - the server side of one HTTP/1.1 connection, without I/O: bytes and time in, bytes and a
 * deadline out (llhttp parses). Keep-alive, pipelining (one request at a time, in order),
 * 100-continue, chunked request bodies. Answers always carry content-length. RFC 9110, 9112.
 * Tests: tests/unit/web_http1_test.c, tests/fuzz/http1_fuzz.c, tests/net/test_listener.py */
#ifndef NB_WEB_HTTP1_H
#define NB_WEB_HTTP1_H

#include "base/time.h"
#include "web/web.h"

struct web_http1;

struct web_http1_config {
	const struct web_handler *handler;	/* borrowed */
	struct nb_endpoint peer;
	bool secure;
	size_t max_head;	/* request line and headers; beyond: 431 */
	int64_t head_ns;	/* from the first byte of a request to the end of its headers; beyond: 408 */
	int64_t body_ns;	/* from there to the end of the body */
	int64_t idle_ns;	/* between requests; beyond: closed */
	/* An answer came outside input/output/timer: pull output soon. */
	void (*on_wake)(void *ctx);
	void *ctx;
};

/* max_head 16 KiB, head 10 s, body 60 s, idle 120 s. */
void web_http1_config_default(struct web_http1_config *cfg);
int web_http1_new(struct web_http1 **out, const struct web_http1_config *cfg, struct nb_time now);
/* A call still being answered ends with on_gone. NULL is allowed. */
void web_http1_free(struct web_http1 *h);

/* Bytes from the client, all consumed. May run the handler. */
void web_http1_input(struct web_http1 *h, struct nb_bytes in, struct nb_time now);
/* False: do not read from the client now (a request is being answered, or answers wait to be sent). */
bool web_http1_wants_input(const struct web_http1 *h);
/* Up to cap bytes for the client; 0 when there is nothing now. May run the handler for the next
 * pipelined request. */
size_t web_http1_output(struct web_http1 *h, void *out, size_t cap, struct nb_time now);
struct nb_time web_http1_deadline(const struct web_http1 *h);
void web_http1_timer(struct web_http1 *h, struct nb_time now);
/* Everything is sent and the connection must be closed. */
bool web_http1_done(const struct web_http1 *h);
/* No more keep-alive: done after the current request, at once when idle. */
void web_http1_shutdown(struct web_http1 *h);
/* A 101 answer was given and is completely sent: the connection speaks something else from here. *user gets the
 * call's user pointer, *rest the bytes that came behind the request; valid until web_http1_free. */
bool web_http1_upgraded(const struct web_http1 *h, void **user, struct nb_bytes *rest);

#endif
