/* path.h - the way of a packet: from TUN through the WireGuard device to UDP and back, in batches, with what the
 * system can do for us (super-packets on both sides). Owned and called by one data-plane thread (shard.h), which
 * decides when; nothing here waits, allocates or locks. With several threads, each has its path: what a path meets
 * that is another one's goes there through `up`, before anything was done with it. Inside tests/unit/run_tunnel_test.c's and
 * tests/net/test_wireguard_offloads.py's reach. Design: design.md "Data plane". */
#ifndef NB_RUN_PATH_H
#define NB_RUN_PATH_H

#include "filter/filter.h"
#include "os/dgram.h"
#include "wg/offload.h"
#include "wg/wg.h"

#define RUN_PATH_TURN 16	/* TURN servers */

struct run_path_out {
	struct os_dgram d[OS_DGRAM_BATCH];
	size_t n;
};

/* What is not for the device or cannot leave through a socket goes to these. */
struct run_path_up {
	/* A datagram that is no WireGuard message; to.addr family 0 when unknown. */
	void (*dgram)(void *ctx, const struct nb_endpoint *from, const struct nb_endpoint *to, struct nb_bytes data);
	/* A message for a relay stream. */
	void (*stream)(void *ctx, const struct wg_ep *ep, struct nb_bytes data);
	/* For path number `shard`: a packet from TUN as it was read, with its virtio header if there are such; a message
	 * as it came. Never called when there is one path. */
	void (*packet)(void *ctx, unsigned shard, const uint8_t *vnet, struct nb_bytes packet);
	void (*message)(void *ctx, unsigned shard, const struct wg_pkt *k);
	void *ctx;
};

struct run_path {
	struct wg_dev *wg;
	struct filter *filter;		/* NULL: everything may pass */
	struct os_dgram_pair udp;
	int tun;			/* -1: none, or gone */
	bool tun_vnet, tun_tso, tun_uso;
	bool tun_gone;			/* to be told */
	unsigned shard, shards;		/* this is path number shard of shards, as its device is */
	size_t mtu, stride;
	uint8_t *rx, *tx;		/* messages received; OS_DGRAM_BATCH buffers of stride bytes */
	uint8_t *super;			/* a super-packet from TUN */
	size_t rx_count, rx_room;
	struct run_path_out out4, out6;
	struct wg_join join;
	const struct wg_peer *from[WG_JOIN_MAX];	/* who sent the packets in join */
	struct nb_endpoint turn[RUN_PATH_TURN];
	size_t nturn;
	struct run_path_up up;
	struct nb_time look_at;		/* when to ask again how wide a way is */
	struct nb_time told_since;	/* answers about packets too long for their way: how many since then */
	unsigned told;
	uint64_t udp_errors, tun_errors;
	uint64_t too_big;		/* packets refused with such an answer */
};

/* Fields of path zero but wg, filter, udp, tun, shard, shards, mtu and up; tun_offloads: enum os_tun_offload. Returns 0 or NB_E_NOMEM. */
int run_path_init(struct run_path *p, unsigned tun_offloads);
void run_path_fini(struct run_path *p);
/* A fresh pair of sockets in place of the old. */
void run_path_set_udp(struct run_path *p, const struct os_dgram_pair *fresh);
/* Packets from TUN to the network; bounded work. */
void run_path_tun(struct run_path *p);
/* Packets that other paths read from TUN, until next() says that there are no more. What it gives (vnet is not looked
 * at without virtio headers) is used, and changed, until it is asked again. */
void run_path_take(struct run_path *p, bool (*next)(void *ctx, const uint8_t **vnet, uint8_t **packet, size_t *n), void *ctx);
/* Datagrams of one family to TUN; bounded work. */
void run_path_udp(struct run_path *p, bool six);
/* WireGuard messages from elsewhere. */
void run_path_deliver(struct run_path *p, struct wg_pkt *k, size_t n);
/* One datagram as it is. */
void run_path_send(struct run_path *p, const struct nb_endpoint *to, const struct nb_addr *from, uint8_t *data, size_t n);
/* What the device has to say by itself. */
void run_path_flush(struct run_path *p, struct nb_time now);
void run_path_turn(struct run_path *p, const struct nb_endpoint *server, bool add);

#endif
