/* hub.h - the server side of the NetBird relay protocol: who is connected, who wants to hear of whom, and which
 * message goes to which connection. Pure: messages and time in, messages and closures out through two callbacks.
 * The driver (run/relay_ws.h) has the WebSocket connections and their queues: a destination that does not read
 * loses packets, nobody waits for it. spec/relay-protocol.md 3-5.
 * Tests: tests/unit/relay_hub_test.c, tests/fuzz/relay_hub_fuzz.c */
#ifndef NB_RELAY_HUB_H
#define NB_RELAY_HUB_H

#include "base/bucket.h"
#include "proto/relaymsg.h"

struct relay_hub;
struct relay_conn;

struct relay_hub_ops {
	/* Queue one message, the concatenation of both parts, for this connection. must: it may not be lost (else it
	 * is dropped when the queue is full). Returns 0, or NB_E_* when it was not queued. Must not call the hub. */
	int (*send)(void *user, struct nb_bytes head, struct nb_bytes body, bool must);
	/* Close the connection once what was queued is sent; relay_hub_del() was called already. */
	void (*close)(void *user);
};

/* Zero means the default. */
struct relay_hub_config {
	char url[RELAYMSG_URL_MAX];	/* instance URL: what clients are answered, rel[s]://host[:port] */
	uint8_t key[32];		/* relaymsg_key() of the shared secret */
	uint8_t seed[16];		/* random, for hash tables */
	size_t max_conns;		/* 16384 */
	size_t max_waiting;		/* connections before Auth: 1024 */
	size_t max_watched;		/* ids one connection may subscribe to: 16384 */
	size_t max_interests;		/* subscriptions of all connections: 1048576 */
	struct nb_rate user_rate;	/* transport messages of one connection, each way on its own: any */
	struct nb_rate total_rate;	/* of all together: any */
	struct nb_bucket *total;	/* shared with others; borrowed for the hub's life; NULL: one of its own */
};

struct relay_hub_stats {
	uint64_t received_bytes, sent_bytes;	/* whole transport messages */
	uint64_t dropped_absent, dropped_full;	/* transport messages without a destination, or with one that is slow */
	uint64_t over_user_rate, over_total_rate;	/* dropped for a limit */
	uint64_t refused;			/* failed handshakes */
	uint64_t replaced;			/* connections displaced by a newer one of the same id */
	size_t conns, waiting, active;		/* all; before Auth; with traffic in the last 30 s */
};

/* NULL without memory. */
struct relay_hub *relay_hub_new(const struct relay_hub_config *cfg, const struct relay_hub_ops *ops);
/* All connections must be deleted before. NULL is allowed. */
void relay_hub_free(struct relay_hub *h);

/* A connection is open. user: handed to the callbacks. Returns 0, NB_E_FULL or NB_E_NOMEM. */
int relay_hub_add(struct relay_hub *h, struct relay_conn **out, void *user, struct nb_time now);
/* The connection is gone. Others are told; ops.close does not come. */
void relay_hub_del(struct relay_hub *h, struct relay_conn *c);
/* One binary message of c. Returns 0, or NB_E_CLOSED when c is deleted and ops.close was called. */
int relay_hub_message(struct relay_hub *h, struct relay_conn *c, struct nb_bytes in, struct nb_time now,
		      struct nb_wall wall);
/* What subscribers are to hear is collected: send it now. Call after a round of messages or deletions. */
void relay_hub_flush(struct relay_hub *h);
/* Health checks and time limits. */
void relay_hub_timer(struct relay_hub *h, struct nb_time now);
struct nb_time relay_hub_deadline(const struct relay_hub *h);
/* Tell every client that we stop: Close, then ops.close for all. */
void relay_hub_stop(struct relay_hub *h);

/* now: to tell idle from active. */
void relay_hub_stats(const struct relay_hub *h, struct relay_hub_stats *out, struct nb_time now);
/* The id, once authenticated; NULL before. */
const uint8_t *relay_conn_id(const struct relay_conn *c);

#endif
