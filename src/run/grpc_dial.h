/* grpc_dial.h - an outgoing gRPC connection: dials, speaks HTTP/2 over the stream, reports its end. What
 * is called over it is the caller's business. Tests: tests/net/test_client.py, test_grpc_interop.py */
#ifndef NB_RUN_GRPC_DIAL_H
#define NB_RUN_GRPC_DIAL_H

#include "grpc/grpc.h"
#include "run/dial.h"

struct run_grpc;

struct run_grpc_config {
	struct run_loop *loop;
	struct run_resolver *resolver;
	const char *host;		/* copied; no brackets */
	uint16_t port;
	struct nbc_trust *trust;	/* TLS when set */
	struct os_sockopt sockopt;
	size_t max_message;		/* of one answer; 0: grpc's default */
	int64_t keepalive_ns;		/* 0: 30 s */
	/* The transport is open: calls may start. */
	void (*ready)(void *ctx, struct grpc_conn *c, struct nb_time now);
	/* Before the connection runs anything: the time, for machines that keep their own. May be NULL. */
	void (*tick)(void *ctx, struct nb_time now);
	/* It could not be opened, or is gone; every call has ended before. Once, the last callback. */
	void (*lost)(void *ctx, const char *why, struct nb_time now);
	void *ctx;
};

/* Returns 0, NB_E_NOMEM or NB_E_SYS. */
int run_grpc_start(struct run_grpc **out, const struct run_grpc_config *cfg);
/* Close without further callbacks; allowed inside them. NULL is allowed, not after lost came. */
void run_grpc_close(struct run_grpc *g);

/* Our address of the open connection. Returns 0, NB_E_STATE while dialling, NB_E_SYS. */
int run_grpc_local(const struct run_grpc *g, struct nb_endpoint *e);

/* "host:port", "[v6]:port": host without brackets. Returns 0 or NB_E_BAD. */
int run_host_port(const char *text, char *host, size_t cap, uint16_t *port);

#endif
