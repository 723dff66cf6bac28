/* ws.h - WebSocket messages (web/websocket.h) on a stream, either role, closing handshake included.
 * Tests: tests/unit/run_ws_test.c, tests/net/test_listener.py */
#ifndef NB_RUN_WS_H
#define NB_RUN_WS_H

#include "run/stream.h"
#include "web/websocket.h"

struct run_ws;

struct run_ws_config {
	size_t max_message, max_queue;	/* as in web_ws_config */
	int64_t open_ns;		/* client: for the server's answer; 0: 10 s */
	/* Client: the server agreed. May be NULL. */
	void (*opened)(void *ctx);
	/* One message; sending and closing are allowed. */
	void (*message)(void *ctx, bool text, struct nb_bytes message);
	/* Unsent bytes fell to nothing after there were some. May be NULL. */
	void (*drained)(void *ctx);
	/* The connection is over and run_ws dies when this returns. why: one line, "" after an orderly end. */
	void (*closed)(void *ctx, const char *why);
	void *ctx;
};

/* Server: after an upgrade (run_listener_config.upgraded) for a call that web_ws_accept answered. Messages
 * in rest come before this returns. Returns 0 or NB_E_NOMEM, nothing attached then. */
int run_ws_server(struct run_ws **out, struct run_stream *s, const struct run_ws_config *cfg, struct nb_bytes rest,
		  struct nb_time now);
/* Client: on a dialled stream (run_dial, ALPN none or "http/1.1"): sends the upgrade request for host and path. */
int run_ws_client(struct run_ws **out, struct run_stream *s, const struct run_ws_config *cfg, const char *host,
		  const char *path, struct nb_time now);
/* Queue a binary message. Returns 0, NB_E_FULL, NB_E_STATE (not open yet, or closing), NB_E_NOMEM. */
int run_ws_send(struct run_ws *w, struct nb_bytes message);
/* As web_ws_send_parts. */
int run_ws_send_parts(struct run_ws *w, struct nb_bytes head, struct nb_bytes body, bool must);
/* Client, open, nothing queued: free the WebSocket state and leave the stream to the caller, who attaches another protocol or
 * takes it apart before the loop runs on; closed does not come. Not from within a callback. */
void run_ws_forget(struct run_ws *w);
size_t run_ws_queued(const struct run_ws *w);
/* Close in good order, with a WebSocket code; what does not finish in two seconds is cut. */
void run_ws_close(struct run_ws *w, unsigned code);

#endif
