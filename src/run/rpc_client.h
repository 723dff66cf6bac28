/* rpc_client.h - one gRPC call after the other, each waited for: what one-shot commands need of a
 * server, usually the agent's control socket. Everything runs on the calling thread.
 * Tests: tests/unit/run_rpc_client_test.c */
#ifndef NB_RUN_RPC_CLIENT_H
#define NB_RUN_RPC_CLIENT_H

#include "base/arena.h"
#include "grpc/grpc.h"
#include "run/loop.h"

#include <protobuf-c/protobuf-c.h>

struct run_rpc;

/* How a call ended. */
struct run_rpc_result {
	int status;		/* enum grpc_status */
	char message[1024];
	char summary[512];	/* google.rpc.ErrorInfo PRIVILEGE_REQUIRED: what and how; "" otherwise */
	char command[512];
};

/* Connect to "unix:///path" or "tcp://address:port", trying again for timeout_ns while nobody listens.
 * why: one line. Returns 0, NB_E_ARG (address), NB_E_PERM, NB_E_TIMEOUT, NB_E_NOMEM, NB_E_SYS. */
int run_rpc_open(struct run_rpc **out, const char *addr, int64_t timeout_ns, char *why, size_t why_cap);
/* A connection through memory to a server in this process, for which loop is run while waiting. stop (may be
 * NULL): give up waiting once true. server: as for grpc_server_new; borrowed for the call. */
int run_rpc_pair(struct run_rpc **out, struct run_loop *loop, const struct grpc_config *server, const bool *stop);
/* NULL is allowed. */
void run_rpc_close(struct run_rpc *r);

/* Call a unary method, "/package.Service/Method", and wait at most timeout_ns (0: for ever). *answer lives in
 * arena. Returns result->status; *answer is NULL unless that is GRPC_OK. */
int run_rpc_call(struct run_rpc *r, const char *path, const void *request, const ProtobufCMessageDescriptor *desc,
		 void **answer, struct nb_arena *arena, int64_t timeout_ns, struct run_rpc_result *result);

#endif
