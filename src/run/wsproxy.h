/* wsproxy.h - gRPC for clients inside browsers: the binary messages of a WebSocket are, one after the other, the bytes
 * of one HTTP/2 connection, whatever their borders (management-protocol.md section 1, signal-protocol.md 2.2).
 * Tests: tests/net/test_wsproxy.py */
#ifndef NB_RUN_WSPROXY_H
#define NB_RUN_WSPROXY_H

#include "grpc/grpc.h"
#include "run/stream.h"
#include "web/web.h"

struct run_wsproxy;

#define RUN_WSPROXY_MANAGEMENT "/ws-proxy/management"
#define RUN_WSPROXY_SIGNAL "/ws-proxy/signal"

/* grpc: settings of the connections, copied; what it points to is borrowed. Its peer, ops and user are set here.
 * Returns 0 or NB_E_NOMEM. */
int run_wsproxy_new(struct run_wsproxy **out, struct run_loop *loop, const struct grpc_config *grpc);
/* Answer an upgrade request: accepted, or 503 when there are too many. run_listener_config.upgraded then gets p as user. */
void run_wsproxy_accept(struct run_wsproxy *p, struct web_call *call);
/* In run_listener_config.upgraded: speak on that stream. */
void run_wsproxy_serve(struct run_wsproxy *p, struct run_stream *s, struct nb_bytes rest, struct nb_time now);
/* Announce the end (GOAWAY); what runs has grace_ns. */
void run_wsproxy_shutdown(struct run_wsproxy *p, int64_t grace_ns);
/* Close everything; the calls end in the programs, which must still be there. NULL is allowed. */
void run_wsproxy_free(struct run_wsproxy *p);

#endif
