/* shard.h - one data-plane thread: the sole owner of a WireGuard device with its peers, of their flows, of a queue of the
 * TUN interface and of a pair of UDP sockets. tunnel.h has one or several of them and is the only one who calls;
 * between threads go packets and messages that another's peer is concerned by, through rings, and nothing else.
 * Tests: tests/unit/run_tunnel_test.c, tests/net/test_wireguard_threads.py */
#ifndef NB_RUN_SHARD_H
#define NB_RUN_SHARD_H

#include "os/dgram.h"
#include "run/tunnel.h"

#include <stdatomic.h>

struct run_shard;

/* Tables that no thread uses any more, for control to free. */
typedef _Atomic(struct filter_table *) run_shard_tables;

struct run_shard_config {
	const struct run_tunnel_config *tunnel;
	unsigned shard, shards;		/* its number, and how many there are */
	struct os_dgram_pair udp;	/* taken over if run_shard_new succeeds */
	int told_fd;			/* eventfd, kicked when there are messages */
	run_shard_tables *past;
};

int run_shard_new(struct run_shard **out, const struct run_shard_config *cfg);
/* Make the rings between shards[0..n-1]. Returns 0 or NB_E_NOMEM. */
int run_shard_join(struct run_shard *const shards[], unsigned n);
/* While the thread does not run: its queue of the TUN interface, and the table of os/steer.h to keep; -1: none. */
void run_shard_take_tun(struct run_shard *s, int fd, int steer);
int run_shard_start(struct run_shard *s);
/* End the thread, not before it has done the commands given. */
void run_shard_stop(struct run_shard *s);
/* All of a group are stopped first. NULL is fine. */
void run_shard_free(struct run_shard *s);

enum run_command_kind {
	RUN_CMD_PEER_SET,
	RUN_CMD_PEER_REMOVE,
	RUN_CMD_PEER_DISALLOW,
	RUN_CMD_PEER_RESET,
	RUN_CMD_ENDPOINT,
	RUN_CMD_SEND,
	RUN_CMD_DELIVER,
	RUN_CMD_TURN_ADD,
	RUN_CMD_TURN_REMOVE,
	RUN_CMD_PRIVATE_KEY,
	RUN_CMD_FWMARK,
	RUN_CMD_PORT,			/* of all threads; for the first one */
	RUN_CMD_PEERS_CLEAR,
	/* For the first thread: a connection, `value`; SEND and CHANNEL (flag: add) have bytes. */
	RUN_CMD_LINK_ADD,		/* flag: TURN; bytes: struct run_link_parts */
	RUN_CMD_LINK_DROP,
	RUN_CMD_LINK_SEND,
	RUN_CMD_LINK_CHANNEL,		/* ep.id: the channel */
};

struct run_link_parts {
	int fd;
	struct nbc_tls *tls;
};

struct run_command {
	enum run_command_kind kind;
	bool flag;
	uint32_t value;
	uint8_t key[NB_KEY_LEN];
	struct run_tunnel_peer peer;
	struct wg_ep ep;
	struct nb_endpoint to;
	struct nb_addr from;
	size_t n;	/* bytes, or prefixes, that follow */
	_Alignas(8) uint8_t bytes[];
};

/* Bytes behind the structure. */
size_t run_command_extra(const struct run_command *c);
void run_command_free(struct run_command *c);
/* c belongs to the shard, whatever is returned: 0, or NB_E_AGAIN as in tunnel.h. */
int run_shard_put(struct run_shard *s, struct run_command *c);
/* Wake the thread for what RUN_CMD_DELIVER left. */
void run_shard_flush(struct run_shard *s);
/* Ask for RUN_TUNNEL_STATS (allowed: and RUN_TUNNEL_ALLOWED) messages, up to RUN_TUNNEL_STATS_END; one request at a time.
 * The tags are left to the caller. */
void run_shard_stats(struct run_shard *s, bool allowed);
/* The table to use from now on, counted among its users. Returns one that was never looked at, or NULL. */
struct filter_table *run_shard_set_filter(struct run_shard *s, struct filter_table *t);
bool run_shard_filters(const struct run_shard *s);

/* Of enum run_tunnel_offload: those of os/tun.h and of os/dgram.h. */
unsigned run_shard_tun_bits(unsigned offloads);
unsigned run_shard_udp_bits(unsigned offloads);

uint16_t run_shard_port(const struct run_shard *s);
unsigned run_shard_offloads(const struct run_shard *s);
/* The oldest message, borrowed until run_shard_release; NULL when there is none. */
const struct run_tunnel_msg *run_shard_next(struct run_shard *s);
void run_shard_release(struct run_shard *s);

void run_kick(int eventfd);
void run_unkick(int eventfd);

#endif
