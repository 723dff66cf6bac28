/* turn_tcp.h - STUN and TURN clients that come over TCP or TLS (RFC 8489, 6.2.2; RFC 8656, 12.5): connections,
 * messages cut out of the stream, answers queued. TLS is told by its first byte. What the messages mean is
 * ice/turn_server.h's; relaying stays UDP. Tests: tests/unit/run_turn_tcp_test.c, tests/net/test_turn_interop.py */
#ifndef NB_RUN_TURN_TCP_H
#define NB_RUN_TURN_TCP_H

#include "ice/turn_server.h"
#include "run/certs.h"

struct run_turn_tcp;

struct run_turn_tcp_config {
	struct run_loop *loop;
	struct run_certs *certs;	/* NULL: plain TCP only; borrowed, may belong to another loop */
	/* A whole message, which lives until flush returns. */
	void (*input)(void *ctx, const struct turn_flow *flow, struct nb_bytes in, struct nb_time now);
	void (*flush)(void *ctx);
	/* Does this connection have an allocation? Those without are closed when idle. */
	bool (*busy)(void *ctx, const struct turn_flow *flow);
	/* The connection is over. */
	void (*gone)(void *ctx, const struct turn_flow *flow);
	void *ctx;
	size_t max_conns;		/* 0: 4096 */
	size_t max_per_source;		/* per IPv4 address or IPv6 /64; 0: 256 */
	int64_t idle_ns;		/* without an allocation; 0: 30 s */
};

struct run_turn_tcp_stats {
	uint64_t accepted, refused, broken, dropped;	/* dropped: messages to clients that read too slowly */
	size_t conns;
};

/* cfg is copied. Returns 0 or NB_E_NOMEM. */
int run_turn_tcp_new(struct run_turn_tcp **out, const struct run_turn_tcp_config *cfg);
/* Listen on one more address; family 0: all. Returns 0, NB_E_FULL, NB_E_BUSY, NB_E_PERM, NB_E_SYS. */
int run_turn_tcp_listen(struct run_turn_tcp *t, const struct nb_endpoint *at);
/* The address of listener i, with the port the system chose; family 0 and port 0 beyond the last. */
struct nb_endpoint run_turn_tcp_endpoint(const struct run_turn_tcp *t, size_t i);
/* Send a message of three parts (copied) to the connection flow->conn; dropped when it is gone or full. */
void run_turn_tcp_send(struct run_turn_tcp *t, const struct turn_flow *flow, const struct nb_bytes part[3]);
void run_turn_tcp_stats(const struct run_turn_tcp *t, struct run_turn_tcp_stats *out);
/* Close everything; gone is called. NULL is allowed. */
void run_turn_tcp_free(struct run_turn_tcp *t);

#endif
