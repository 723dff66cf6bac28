/* listen.h - one TCP port for everything: TLS, HTTP/2 and HTTP/1.1 are told apart by their first bytes
 * (inside TLS by ALPN first). gRPC goes to the services, other HTTP/2 requests and HTTP/1.1 to the web
 * handler, WebSocket upgrades to whoever accepts them. Connections are limited in number, per source and
 * in the time they may take. Tests: tests/net/test_listener.py, run against tests/net/echo_server.c. */
#ifndef NB_RUN_LISTEN_H
#define NB_RUN_LISTEN_H

#include "grpc/grpc.h"
#include "run/certs.h"
#include "run/stream.h"
#include "web/http1.h"

struct run_listener;

struct run_listener_config {
	struct run_loop *loop;
	struct nb_endpoint at;		/* family 0: all addresses, both families */
	struct run_certs *certs;	/* TLS; NULL: cleartext only. Borrowed, outlives the listener */
	bool cleartext_too;		/* with certs: serve cleartext as well, else it is told to use https */
	/* HTTP/2 settings, services included; NULL: no HTTP/2. peer and raw are filled in here. Copied; what
	 * it points to is borrowed. */
	const struct grpc_config *grpc;
	/* Other requests; NULL: 404. Copied. With several listeners or connections, request and upgrade come one at
	 * a time from the loop's thread. */
	const struct web_handler *web;
	/* After an upgrade was answered with 101: attach a protocol to s (else it is closed) and give it rest (bytes already
	 * read; valid during the call). user: what web_call.user was. Needed when web->upgrade is set. */
	void (*upgraded)(void *arg, void *user, struct run_stream *s, struct nb_bytes rest, struct nb_time now);
	void *arg;
	size_t max_conns;		/* 0: 8192 */
	size_t max_per_source;		/* per IPv4 address or IPv6 /64, loopback excepted; 0: 1024 */
};

/* Listen. why gets a line on failure ("cannot listen on ...: ..."). Returns 0 or NB_E_BUSY, NB_E_PERM,
 * NB_E_SYS, NB_E_NOMEM. */
int run_listener_new(struct run_listener **out, const struct run_listener_config *cfg, char why[NBC_TLS_WHY]);
/* Close everything at once. NULL is allowed. Not from within a callback of one of its connections. */
void run_listener_free(struct run_listener *l);
/* No new connections; HTTP/2 gets GOAWAY, HTTP/1.1 finishes its request; what is left after grace_ns is
 * cut. drained (may be NULL) comes from the loop when no connection is left. */
void run_listener_shutdown(struct run_listener *l, int64_t grace_ns, void (*drained)(void *ctx), void *ctx);
/* The address it listens on, with the port the system chose. */
struct nb_endpoint run_listener_endpoint(const struct run_listener *l);
/* Connections now; upgraded ones are not counted any more. */
size_t run_listener_count(const struct run_listener *l);

#endif
