/* websocket.h - WebSocket (RFC 6455), both roles, without I/O: the opening handshake, frames, and a
 * message connection over them. No extensions. What is sent goes out as one unfragmented frame per message
 * (the relay protocol depends on it); fragments that arrive are put together.
 * relay-protocol.md, 2.2. Tests: tests/unit/web_websocket_test.c, tests/fuzz/websocket_fuzz.c */
#ifndef NB_WEB_WEBSOCKET_H
#define NB_WEB_WEBSOCKET_H

#include "base/buf.h"
#include "web/web.h"

/* --- opening handshake ------------------------------------------------------------------------- */

/* Server: answer an upgrade request (web_handler.upgrade). 101 with user kept for the driver's `upgraded`
 * hook, or a refusal (400, 426). Returns 0 or NB_E_BAD when it was refused; the call is gone either way. */
int web_ws_accept(struct web_call *call, void *user);

#define WEB_WS_KEY_TEXT 25	/* 24 characters and NUL */

/* Client: write the request; key gets what the answer is checked with. host: as in a URL, with its port if
 * that is not the default. Returns out->err. */
int web_ws_request(struct nb_buf *out, const char *host, const char *path, char key[WEB_WS_KEY_TEXT],
		   nb_random_fn rnd, void *ctx);
/* Client: read the answer at the front of in. Returns the bytes it took (> 0; frames follow), NB_E_AGAIN
 * (not complete), NB_E_DENIED (another status, in *status), NB_E_PROTO or NB_E_FULL (longer than 8 KiB). */
int web_ws_response(struct nb_bytes in, const char key[WEB_WS_KEY_TEXT], int *status);

/* --- frames ------------------------------------------------------------------------------------ */

enum web_ws_opcode {
	WEB_WS_CONTINUATION = 0, WEB_WS_TEXT = 1, WEB_WS_BINARY = 2,
	WEB_WS_CLOSE = 8, WEB_WS_PING = 9, WEB_WS_PONG = 10,
};

#define WEB_WS_HEADER_MAX 14

struct web_ws_frame {
	uint64_t length;	/* payload */
	uint8_t opcode;
	bool fin, masked;
	uint8_t mask[4];
	uint8_t header;		/* bytes of the header itself */
};

/* Read a header. Returns 0, NB_E_AGAIN (too short yet) or NB_E_PROTO (reserved bits or opcodes, control
 * frames that are long or fragmented, lengths not in their shortest form). */
int web_ws_frame_decode(struct web_ws_frame *f, struct nb_bytes in);
/* Write a header; f->header is ignored. Returns its length. */
size_t web_ws_frame_encode(uint8_t out[WEB_WS_HEADER_MAX], const struct web_ws_frame *f);
/* Apply or remove a mask in place; offset: position of p[0] in the payload. */
void web_ws_mask(uint8_t *p, size_t n, const uint8_t mask[4], uint64_t offset);

/* --- messages ---------------------------------------------------------------------------------- */

struct web_ws;

struct web_ws_config {
	bool client;		/* masks what it sends, refuses masked input; a server the other way round */
	size_t max_message;	/* bytes of one received message */
	size_t max_queue;	/* unsent bytes; web_ws_send says NB_E_FULL beyond */
	nb_random_fn rnd;	/* client: masks */
	void *rnd_ctx;
	/* One message, borrowed during the call. May send and close. */
	void (*on_message)(void *ctx, bool text, struct nb_bytes message);
	void *ctx;
};

int web_ws_new(struct web_ws **out, const struct web_ws_config *cfg);
void web_ws_free(struct web_ws *w);
/* Bytes from the peer, all consumed. Pings are answered. After a protocol error a close frame is queued. */
void web_ws_input(struct web_ws *w, struct nb_bytes in);
/* Queue a binary message. Returns 0, NB_E_FULL, NB_E_STATE (closing) or NB_E_NOMEM. */
int web_ws_send(struct web_ws *w, struct nb_bytes message);
/* The same for a message in two parts. must: max_queue does not count, up to twice as much. */
int web_ws_send_parts(struct web_ws *w, struct nb_bytes head, struct nb_bytes body, bool must);
/* Unsent bytes. */
size_t web_ws_queued(const struct web_ws *w);
size_t web_ws_output(struct web_ws *w, void *out, size_t cap);
/* Begin the closing handshake (1000 normal, 1001 going away, 1008 policy). */
void web_ws_close(struct web_ws *w, unsigned code);
/* Both sides closed, or the peer broke the rules, and everything is sent. */
bool web_ws_done(const struct web_ws *w);
/* The peer's close code; 0 while there is none, 1005 when it gave none. */
unsigned web_ws_close_code(const struct web_ws *w);

#endif
