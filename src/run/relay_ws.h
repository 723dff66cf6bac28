/* relay_ws.h - the NetBird relay protocol's connections: WebSockets on one loop around the hub (relay/hub.h), each
 * with a queue of its own. They are accepted and upgraded elsewhere, perhaps in another thread, and handed over.
 * Tests: tests/net/test_relay.py */
#ifndef NB_RUN_RELAY_WS_H
#define NB_RUN_RELAY_WS_H

#include "relay/hub.h"
#include "run/stream.h"

struct run_relay_ws;

/* loop: where the connections live. cfg is copied, the seed filled in. Returns 0 or NB_E_NOMEM. */
int run_relay_ws_new(struct run_relay_ws **out, struct run_loop *loop, const struct relay_hub_config *cfg);
/* Close everything at once. The loop's thread must have ended, or be this one. NULL is allowed. */
void run_relay_ws_free(struct run_relay_ws *w);
/* A stream of loop `from` (the calling thread's) whose WebSocket upgrade was answered: to be called in
 * run_listener_config.upgraded. rest: bytes read already. All calls must come from one thread. */
void run_relay_ws_hand_over(struct run_relay_ws *w, struct run_loop *from, struct run_stream *s, struct nb_bytes rest);
/* In the loop's thread: tell the clients; done comes when all are gone, or after half a second. */
void run_relay_ws_stop(struct run_relay_ws *w, void (*done)(void *ctx), void *ctx);
/* As of the last second. Any thread. */
void run_relay_ws_stats(struct run_relay_ws *w, struct relay_hub_stats *out);

#endif
