/* grpc_echo_service.h - a small gRPC service for tests: test.Echo with every kind of call.
 *   Unary     the request back; header x-seen and trailer x-seen-bin repeat the request's x-ask and
 *             x-ask-bin; a request "fail:CODE:TEXT" ends with that status instead
 *   Download  request "COUNT SIZE": that many messages, each built when the stream is writable
 *   Upload    answers "COUNT BYTES" of what was sent
 *   Chat      each message back at once, reading only as fast as the answers leave
 *   Hang      early headers with x-hang: 1, then nothing until the call ends */
#ifndef GRPC_ECHO_SERVICE_H
#define GRPC_ECHO_SERVICE_H

#include "grpc/grpc.h"

struct echo_stats {
	unsigned started, ended;
	int last_status;
	char last_message[128];
	size_t most_queued;	/* bytes queued by Download, at most */
	unsigned built;		/* messages built by Download */
	struct nb_time last_deadline;
};

/* A service row with these methods and stats as its arg. */
struct grpc_service echo_service(struct echo_stats *stats);

#endif
