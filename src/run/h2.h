/* h2.h - a gRPC connection (src/grpc) on a stream, either role: moves bytes, deadlines and wake-ups.
 * Tests: tests/net/test_listener.py, tests/unit/run_dial_test.c */
#ifndef NB_RUN_H2_H
#define NB_RUN_H2_H

#include "grpc/grpc.h"
#include "run/stream.h"

struct run_h2;

/* Make a connection of that role and attach it to the stream. cfg->ops and cfg->user are kept: on_ready and
 * on_goaway come as usual, on_wake is taken care of before it comes. grpc_conn_user gives the struct run_h2;
 * run_h2_user has cfg->user. closed (may be NULL) comes once, when the transport is over and every call has
 * ended; connection and run_h2 die when it returns. Returns 0, NB_E_NOMEM or NB_E_ARG, nothing attached then. */
int run_h2_client(struct run_h2 **out, struct run_stream *s, const struct grpc_config *cfg,
		  void (*closed)(void *ctx, const char *why), void *ctx);
int run_h2_server(struct run_h2 **out, struct run_stream *s, const struct grpc_config *cfg,
		  void (*closed)(void *ctx, const char *why), void *ctx);
struct grpc_conn *run_h2_conn(const struct run_h2 *h);
/* cfg->user of the connection. */
void *run_h2_user(const struct grpc_conn *c);
/* Over TLS. */
bool run_h2_secure(const struct run_h2 *h);
/* Bytes that were read before the connection was made. */
void run_h2_input(struct run_h2 *h, struct nb_bytes in, struct nb_time now);
/* Drop the connection: every call ends, closed comes from the loop. */
void run_h2_abort(struct run_h2 *h, const char *why);

#endif
