/* turn_int.h - what the files of the TURN server share: the tables (turn_table.c), credentials and
 * nonces (turn_auth.c), the peer policy (turn_policy.c), NAT behaviour discovery (turn_discover.c) and the
 * requests (turn_server.c). */
#ifndef NB_ICE_TURN_INT_H
#define NB_ICE_TURN_INT_H

#include "base/list.h"
#include "base/map.h"
#include "ice/stun.h"
#include "ice/turn_server.h"

#define TURN_FLOW_KEY 52		/* packed turn_flow */
#define TURN_NONCE_LEN 24		/* characters */
#define TURN_PERMISSION_LIFE (300 * NB_SEC)
#define TURN_CHANNEL_LIFE (600 * NB_SEC)
#define TURN_CHANNEL_REST (300 * NB_SEC)	/* a number or peer may not change partners for so long */
#define TURN_RESERVE_LIFE (30 * NB_SEC)
#define TURN_RESERVES_MAX 64
#define TURN_GONE_MAX 256
#define TURN_SOURCES 4096		/* buckets of the limits on unauthenticated answers */
#define TURN_CHALLENGE_UNIT 64		/* bytes of realm that make a 401 count once more */

/* An index over an array of entries: open addressing, rebuilt whenever the array changes. */
struct turn_index {
	uint16_t *slots;	/* position + 1, 0 empty */
	size_t n;		/* power of two, or 0 */
};

struct turn_perm {
	struct nb_addr addr;
	bool own;		/* one of our addresses: reachable on relay ports only */
	struct nb_time expires;
};

struct turn_chan {
	struct nb_endpoint peer;
	uint16_t number;
	struct nb_time expires;	/* kept for TURN_CHANNEL_REST longer */
};

struct turn_relay {
	struct turn_alloc *alloc;
	void *data;
	uint16_t port;
	uint8_t family;		/* 0: not in use */
};

/* Allocations of one user name from one client address, and what they may still send. */
struct turn_quota {
	size_t count;
	struct nb_bucket up, down;
	size_t key_len;
	uint8_t key[];
};

struct turn_alloc {
	struct turn_flow flow;
	struct nb_time expires;
	size_t heap;			/* position in the expiry heap */
	struct turn_relay relay[2];
	struct turn_quota *quota;
	char *user;
	uint8_t key[STUN_KEY_LEN];	/* pinned: credentials may expire, the allocation goes on */
	uint8_t txid[STUN_TXID_LEN];	/* of the Allocate, for repetitions */
	uint32_t granted_s;
	uint8_t token[8];
	bool has_token, refused_second;
	struct turn_perm *perms;
	struct turn_chan *chans;
	size_t nperms, nchans, cap_perms, cap_chans;
	struct turn_index by_addr, by_number, by_peer;
};

struct turn_reserve {
	uint8_t token[8];
	uint16_t port;
	uint8_t family;		/* 0: free */
	struct nb_time expires;
};

/* A deleted allocation, so that a repeated Refresh(0) gets the same answer. */
struct turn_gone {
	uint8_t flow[TURN_FLOW_KEY];
	uint8_t txid[STUN_TXID_LEN];
	uint8_t key[STUN_KEY_LEN];
	bool used;
};

/* What one network may still get out of us before it has shown that it can receive. */
struct turn_source {
	struct nb_bucket challenges, answers;
};

struct turn_server {
	struct turn_server_config cfg;
	const struct turn_server_ops *ops;
	void *ctx;
	char *realm, *secret;
	struct { char *name; uint8_t key[STUN_KEY_LEN]; } users[64];
	struct nb_addr own[TURN_OWN_MAX];
	size_t nown;
	struct nb_prefix allow[64];
	uint8_t nonce_key[32];
	uint64_t seed[2];
	bool soft_ok[2];		/* per family: peers see us at a private or documentation address */
	struct nb_map flows;		/* flow key -> alloc */
	struct turn_alloc *recent;	/* whose client sent last, or NULL: packets come in bursts */
	uint8_t txids[32][STUN_TXID_LEN];	/* random; those from ntxids on are unused */
	unsigned ntxids;
	struct nb_map quotas;
	struct turn_alloc **heap;
	size_t nheap, cap_heap;
	struct turn_relay **ports[2];	/* per family: port - port_min -> relay */
	uint8_t *reserved[2];		/* per family: ports held for a reservation token */
	struct turn_reserve reserves[TURN_RESERVES_MAX];
	struct turn_gone gone[TURN_GONE_MAX];
	size_t gone_at;
	struct nb_rate challenge_rate, answer_rate;	/* answers, not bytes, a second */
	struct turn_source sources[TURN_SOURCES];
	struct turn_stun stun;
	struct nb_bucket total;
	struct turn_server_stats stats;
};

static inline unsigned turn_family_index(uint8_t family)
{
	return family == 6;
}

/* turn_table.c */
void turn_flow_key(uint8_t out[TURN_FLOW_KEY], const struct turn_flow *f);
struct turn_alloc *turn_alloc_find(const struct turn_server *s, const struct turn_flow *f);
/* The same, for the packet path. */
struct turn_alloc *turn_alloc_recent(struct turn_server *s, const struct turn_flow *f);
/* A new, empty allocation in the tables. *err: NB_E_FULL or NB_E_NOMEM (508), NB_E_DENIED (quota, 486). */
struct turn_alloc *turn_alloc_new(struct turn_server *s, const struct turn_flow *f, struct nb_bytes user,
				  struct nb_time expires, int *err);
/* Closes its relays, too. */
void turn_alloc_free(struct turn_server *s, struct turn_alloc *a);
void turn_alloc_set_expiry(struct turn_server *s, struct turn_alloc *a, struct nb_time expires);
/* Open a relayed address. even: an even port; reserve: keep the next port and fill in a->token;
 * port: that very port (from a reservation), 0 for any. Returns 0, NB_E_FULL or the driver's error. */
int turn_relay_open(struct turn_server *s, struct turn_alloc *a, uint8_t family, uint16_t port, bool even,
		    bool reserve, struct nb_time now);
void turn_relay_close(struct turn_server *s, struct turn_relay *r);
struct turn_relay *turn_relay_at(const struct turn_server *s, uint8_t family, uint16_t port);
/* Take a reservation; false when the token is unknown. */
bool turn_reserve_take(struct turn_server *s, const uint8_t token[8], uint8_t *family, uint16_t *port);
void turn_reserve_expire(struct turn_server *s, struct nb_time now);
struct turn_perm *turn_perm_find(const struct turn_server *s, const struct turn_alloc *a,
				 const struct nb_addr *addr);
struct turn_chan *turn_chan_by_number(const struct turn_server *s, const struct turn_alloc *a,
				      uint16_t number);
struct turn_chan *turn_chan_by_peer(const struct turn_server *s, const struct turn_alloc *a,
				    const struct nb_endpoint *peer);
/* Install or refresh. Return 0, NB_E_FULL, NB_E_NOMEM; turn_chan_put also NB_E_BAD when number or peer
 * belong to another. */
int turn_perm_put(struct turn_server *s, struct turn_alloc *a, const struct nb_addr *addr, struct nb_time now);
int turn_chan_put(struct turn_server *s, struct turn_alloc *a, uint16_t number,
		  const struct nb_endpoint *peer, struct nb_time now);

/* turn_auth.c */
void turn_nonce_make(const struct turn_server *s, char out[TURN_NONCE_LEN + 1], const struct turn_flow *f,
		     struct nb_time now);
/* Ours, made for this client, and no older than max_s. */
bool turn_nonce_check(const struct turn_server *s, struct nb_bytes nonce, const struct turn_flow *f,
		      uint32_t max_s, struct nb_time now);
/* The long-term key of a user name. Returns 0, NB_E_NOTFOUND or NB_E_TIMEOUT (expired). */
int turn_user_key(const struct turn_server *s, uint8_t key[STUN_KEY_LEN], struct nb_bytes user,
		  struct nb_wall wall);
/* May this source get another 401, or another answer that goes elsewhere? Who came over a connection always may. */
bool turn_challenge_allowed(struct turn_server *s, const struct turn_flow *f, struct nb_time now);
/* May it get another unauthenticated answer that is longer than its request? */
bool turn_answer_allowed(struct turn_server *s, const struct turn_flow *f, struct nb_time now);

/* turn_discover.c: what RFC 5780 adds to a Binding request. */
struct turn_discovery {
	struct turn_flow flow;		/* where the answer leaves from and goes to */
	bool moved;			/* not the way the request came */
	struct nb_endpoint other;	/* OTHER-ADDRESS; family 0: none */
	uint16_t other_port;		/* without a second address: the second port, 0 none */
};
/* Returns 0, or the error: 420 for what cannot be done here, 400 for what makes no sense. */
unsigned turn_discover(const struct turn_server *s, const struct turn_flow *flow, const struct stun_msg *m,
		       struct turn_discovery *d);
/* Add RESPONSE-ORIGIN and where else to ask, as far as the answer, with `more` bytes to come, stays within the
 * length of the request: what a forged source address gets out of us is never more than was put in. */
void turn_discover_put(const struct turn_discovery *d, const struct stun_msg *m, struct stun_enc *e, size_t more);

/* turn_policy.c */
/* May a permission be given? *own: it is ours, so that only relay ports count. */
bool turn_peer_allowed(const struct turn_server *s, const struct nb_addr *addr, bool *own);
/* Special-purpose addresses that are fine inside a private network (RFC 1918, documentation ...). */
bool turn_addr_is_soft(const struct nb_addr *a);
bool turn_port_in_range(const struct turn_server *s, uint16_t port);

#endif
