/* acceptor.h - the accepting half of a TCP server: a listening socket on a loop, at most so many connections, and so many
 * from one source; a pause when the machine has no descriptors left. What a connection then speaks is the owner's.
 * Tests: tests/net/test_listener.py, tests/unit/run_turn_tcp_test.c */
#ifndef NB_RUN_ACCEPTOR_H
#define NB_RUN_ACCEPTOR_H

#include "base/addr.h"
#include "base/map.h"
#include "run/loop.h"

/* Connections of several listeners, counted together. */
struct run_crowd {
	struct nb_map sources;		/* source -> count */
	size_t count, max, max_per_source;
	bool loopback_too;		/* the limit per source is for loopback addresses, too */
	uint64_t refused;
	bool told_full, told_stuck;
	const char *who;		/* for the log: "relay: ", "" */
};

/* Limits as given; max_per_source counts an IPv4 address or an IPv6 /64. who is borrowed. */
void run_crowd_init(struct run_crowd *c, size_t max, size_t max_per_source, const char *who);
void run_crowd_fini(struct run_crowd *c);
/* A connection that the crowd counted is over. */
void run_crowd_leave(struct run_crowd *c, const struct nb_endpoint *peer);

struct run_acceptor {
	int fd;
	struct nb_endpoint at;		/* with the port the system chose */
	struct run_io io;
	struct run_timer pause;
	struct run_crowd *crowd;
	/* A new connection, counted. Returns 0, or an error: it is then closed and not counted. */
	int (*accepted)(void *ctx, int fd, const struct nb_endpoint *peer);
	void *ctx;
};

/* Listen on at (family 0: every address) and begin to accept. a is the caller's memory, and stays where it is. crowd is
 * borrowed. Returns 0, NB_E_BUSY, NB_E_PERM or NB_E_SYS. */
int run_acceptor_start(struct run_acceptor *a, struct run_loop *l, const struct nb_endpoint *at, struct run_crowd *crowd,
		       int (*accepted)(void *ctx, int fd, const struct nb_endpoint *peer), void *ctx);
/* Accept no more. May be called twice. */
void run_acceptor_stop(struct run_acceptor *a);

#endif
