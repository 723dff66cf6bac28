/* turn_server.h - STUN and TURN server (RFC 8489, 8656): Binding, UDP allocations on IPv4 and IPv6,
 * permissions, channels, relaying. No sockets and no clock: datagrams and times come in, the driver's
 * functions are called for what must go out. Client transport is the driver's business, too.
 * What it refuses and why: design.md "Relay peers", spec/peer-connection.md 5.3.
 * Tests: tests/unit/ice_turn_server_test.c, tests/fuzz/turn_server_fuzz.c, tests/net/test_turn_interop.py */
#ifndef NB_ICE_TURN_SERVER_H
#define NB_ICE_TURN_SERVER_H

#include "base/addr.h"
#include "base/bucket.h"

#define TURN_PEERS_MAX 1024	/* permissions of one allocation, and channels of one */
#define TURN_ALLOCATIONS 10000	/* at most, unless configured otherwise */
#define TURN_OWN_MAX 64		/* own addresses remembered */
#define TURN_HEAD_MAX 52	/* longest head part handed to turn_server_ops.reply */

struct turn_server;
struct turn_relay;		/* one relayed address of one allocation */

/* Where a client's datagram came from and where the answer goes: the 5-tuple. */
struct turn_flow {
	struct nb_endpoint client;
	struct nb_endpoint local;	/* our address it was sent to; family 0 when the driver does not know */
	uint32_t conn;			/* 0: UDP; else the driver's number of the client's connection */
};

/* What the driver does for the core. Called from inside turn_server_* functions; must not call back. */
struct turn_server_ops {
	/* Bind a UDP socket for r on turn_relay_port(r) of its family. Returns 0, NB_E_BUSY (port taken: the
	 * core tries another) or another error. */
	int (*open)(void *ctx, struct turn_relay *r);
	/* Close it; r is gone afterwards. */
	void (*close)(void *ctx, struct turn_relay *r);
	/* Send data from the relayed address to a peer. */
	void (*relay)(void *ctx, struct turn_relay *r, const struct nb_endpoint *peer, struct nb_bytes data);
	/* Send to a client the concatenation of three parts. head (at most TURN_HEAD_MAX bytes when body is
	 * not empty) and tail live during the call only; body is what turn_server_peer_input or turn_server_input
	 * got, so a driver that batches may keep pointing at it while it keeps that buffer. */
	void (*reply)(void *ctx, const struct turn_flow *to, struct nb_bytes head, struct nb_bytes body,
		      struct nb_bytes tail);
};

struct turn_user {
	const char *name, *password;
};

struct turn_server_config {
	const char *realm;		/* copied, like every string here */
	const char *secret;		/* shared secret of time-limited credentials; NULL or "": none */
	const struct turn_user *users;	/* static long-term users */
	size_t nusers;			/* at most 64 */
	struct nb_addr relay4, relay6;	/* addresses peers see (the outside of a NAT); family 0: not offered */
	uint16_t port_min, port_max;	/* relay ports */
	const struct nb_addr *own;	/* addresses of this machine, relay addresses and listeners included */
	size_t nown;
	const struct nb_prefix *allow;	/* peers allowed whatever the policy says */
	size_t nallow;			/* at most 64 */
	size_t max_allocations;		/* 0: TURN_ALLOCATIONS */
	size_t max_per_user;		/* per user name and client address; 0: 64 */
	struct nb_rate user_rate;	/* payload of one user name and client address, each way on its own; zero: any */
	struct nb_rate total_rate;	/* of all together, both ways in one; zero: any */
	struct nb_bucket *total;	/* shared with others; borrowed for the server's life; NULL: one of its own */
	/* Before authentication over UDP, to one source network (IPv4 /24, IPv6 /64), a second: */
	unsigned challenges_per_s;	/* 401 answers; 0: 50 */
	unsigned answers_per_s;		/* other answers longer than their requests; 0: 1000 */
	uint32_t lifetime_s;		/* default lifetime; 0: 600 */
	uint32_t max_lifetime_s;	/* 0: 3600 */
	uint32_t nonce_s;		/* 0: 1800; ChannelBind may use a nonce twice as long */
	nb_random_fn random;
	void *random_ctx;
};

struct turn_server_stats {
	uint64_t bindings, challenges, challenges_held, answers_held;	/* held: not answered, over the rate */
	uint64_t discoveries, discoveries_held;		/* answers sent from or to elsewhere (RFC 5780) */
	uint64_t auth_failures, refused_peers, refused_quota, malformed, no_permission;
	uint64_t over_user_rate, over_total_rate;	/* packets dropped */
	uint64_t to_peers, to_peers_bytes, to_clients, to_clients_bytes;
	size_t allocations;
};

/* cfg is borrowed during the call, ops and ctx for the server's life. Returns NULL without memory or
 * with a configuration that cannot work (no realm, empty port range, too many users or prefixes). */
struct turn_server *turn_server_new(const struct turn_server_config *cfg, const struct turn_server_ops *ops,
				    void *ctx);
/* Closes every relay through ops.close. NULL is allowed. */
void turn_server_free(struct turn_server *s);
/* New list of own addresses (interfaces changed). Existing permissions keep their verdict. */
void turn_server_set_own(struct turn_server *s, const struct nb_addr *own, size_t n);

/* NAT behaviour discovery (RFC 5780): pairs of places the driver listens at and can answer from. Port 0: there is but
 * one; family 0: one address of that family, which is the usual case. To begin with there are none. */
struct turn_stun {
	uint16_t port[2];
	struct nb_addr addr4[2], addr6[2];
};
void turn_server_set_stun(struct turn_server *s, const struct turn_stun *stun);

/* A datagram from a client. wall is for the expiry in time-limited user names. */
void turn_server_input(struct turn_server *s, const struct turn_flow *flow, struct nb_bytes in,
		       struct nb_time now, struct nb_wall wall);
/* The connection of this flow is over: its allocation goes, too. */
void turn_server_gone(struct turn_server *s, const struct turn_flow *flow);
/* Does this flow have an allocation? */
bool turn_server_has(const struct turn_server *s, const struct turn_flow *flow);
/* A datagram that arrived on a relayed address. */
void turn_server_peer_input(struct turn_server *s, struct turn_relay *r, const struct nb_endpoint *peer,
			    struct nb_bytes data, struct nb_time now);
/* Delete what has expired. */
void turn_server_tick(struct turn_server *s, struct nb_time now);
/* When to call turn_server_tick. */
struct nb_time turn_server_deadline(const struct turn_server *s);
void turn_server_stats(const struct turn_server *s, struct turn_server_stats *out);

/* May a peer at this address be reached at all? (Own addresses: only their relay ports.) */
bool turn_server_peer_allowed(const struct turn_server *s, const struct nb_addr *peer);

uint16_t turn_relay_port(const struct turn_relay *r);
uint8_t turn_relay_family(const struct turn_relay *r);	/* 4 or 6 */
/* A pointer of the driver's. */
void *turn_relay_data(const struct turn_relay *r);
void turn_relay_set_data(struct turn_relay *r, void *data);

#endif
