/* signal.h - the signal server: a blind mailbox router. A peer keeps one ConnectStream open under its key;
 * Send copies a message to the recipient's stream if it is connected right now, and drops it otherwise.
 * Nothing is stored, nobody is authenticated, bodies are sealed between peers. Pure: a gRPC service that
 * any number of grpc_conn of one thread share. signal-protocol.md section 5.
 * Tests: tests/unit/signal_server_test.c, tests/net/test_signal.py */
#ifndef NB_SIGNAL_SIGNAL_H
#define NB_SIGNAL_SIGNAL_H

#include "grpc/grpc.h"

#define SIGNAL_MESSAGE_MAX (64 << 10)	/* bytes of one message; real ones are below 1 KiB */
#define SIGNAL_ID_MAX 128		/* bytes of a peer id; real ones are 44 */
#define SIGNAL_QUEUE_MAX (256 << 10)	/* unsent bytes per recipient; more are dropped */
#define SIGNAL_STALL_NS (10 * NB_SEC)	/* a recipient that takes nothing this long is cut off */
#define SIGNAL_PEERS_MAX 200000		/* registrations */

struct signal_server;

/* Counters since the start, and one gauge. */
struct signal_stats {
	uint64_t active;		/* registered now */
	uint64_t registrations, deregistrations;
	uint64_t missing_id, bad_id, full;	/* ConnectStream refused */
	uint64_t displaced;		/* ended by a newer registration of the same id */
	uint64_t forwarded, bytes;	/* queued to a recipient */
	uint64_t absent;		/* no such recipient: dropped, sender told OK */
	uint64_t overflow;		/* recipient's queue full: dropped */
	uint64_t stalled;		/* recipients cut off */
};

/* seed: 16 random bytes. stall_ns: 0 for SIGNAL_STALL_NS. Returns 0 or NB_E_NOMEM. */
int signal_server_new(struct signal_server **out, const uint8_t seed[16], int64_t stall_ns);
/* Every connection that has served it must have been freed before. NULL is allowed. */
void signal_server_free(struct signal_server *s);
/* The row for grpc_config.services. */
struct grpc_service signal_service(struct signal_server *s);
/* End every stream (UNAVAILABLE), so that peers reconnect elsewhere; for a shutdown. */
void signal_server_stop(struct signal_server *s);
/* When to run signal_timer next; may be later than it could be by one round of the driver. */
struct nb_time signal_deadline(const struct signal_server *s);
void signal_timer(struct signal_server *s, struct nb_time now);
struct signal_stats signal_server_stats(const struct signal_server *s);

/* Append the counters in Prometheus' text form, names as stock's with this prefix ("" or "signal_").
 * Returns b->err. */
struct nb_buf;
int signal_metrics(const struct signal_server *s, struct nb_buf *b, const char *prefix);

#endif
