/* shard_int.h - one data-plane thread, as its files see it: shard.c has the thread and its rings, shard_command.c what
 * control asks of it. */
#ifndef NB_RUN_SHARD_INT_H
#define NB_RUN_SHARD_INT_H

#include "run/shard.h"

#include "run/path.h"
#include "run/ring.h"

#include <pthread.h>
#include <stdatomic.h>

#define COMMANDS 1024
#define DELIVERIES 64		/* messages opened together */
#define SLOTS 512

/* A message on its way to control; data follows. */
struct slot {
	struct run_tunnel_msg m;
	_Alignas(8) uint8_t data[];
};

/* What one thread gives another; the packet or message follows. */
struct handed {
	struct wg_ep ep;
	uint8_t ecn;
	bool admitted;
	bool out;		/* for the peer of channel ep.id of a link, sealed */
	uint8_t vnet[WG_VNET];
	uint8_t data[];
};

/* From each other thread. */
struct inbox {
	struct run_ring packets, messages;
};

struct run_shard {
	/* shared */
	_Atomic(struct run_command *) commands[COMMANDS];
	atomic_uint command_head, command_tail;
	uint8_t *slots;
	size_t slot_stride, slot_room;
	atomic_uint slot_head, slot_tail;
	atomic_bool wants_room;		/* the thread found the slots full */
	atomic_bool stop;
	_Atomic uint16_t port;
	atomic_uint offloads;
	atomic_uint stats_asked;	/* 1, or 2: with prefixes */
	_Atomic(struct filter_table *) filter_next;	/* for the thread to take */
	run_shard_tables *filter_past;
	_Atomic(struct os_dgram_pair *) udp_next;	/* from the first thread */
	struct inbox inbox[WG_SHARDS_MAX];
	struct run_shard *all[WG_SHARDS_MAX];
	unsigned shards;		/* of all; 1 until they are joined */
	int command_fd, told_fd;
	pthread_t thread;

	/* control's */
	bool running;

	/* the thread's */
	struct run_path path;
	struct run_links *links;	/* the first thread's; NULL in others */
	int steer;			/* table of os/steer.h that follows the prefixes, -1: another thread has it */
	unsigned udp_wanted;
	uint32_t fwmark;
	bool told, port_done;
	int port_err;
	unsigned stats;			/* as asked; 0: none */
	struct wg_peer *stats_peer;	/* where it stands */
	bool stats_told;
	size_t stats_skip;
	uint64_t dgrams_lost, handed, handed_lost;
	unsigned woken, wake;		/* bit per thread: was given something in this turn; after it was woken */
};

/* The oldest command, which is the caller's now (run_command_free), or NULL. */
struct run_command *run_shard_command_take(struct run_shard *t);
/* Do all commands there are. */
void run_shard_commands_run(struct run_shard *t, struct nb_time now);
/* Use the sockets that the first thread has opened for a new port, if it has. */
void run_shard_udp_take(struct run_shard *t);
/* The statistics being told go on behind the peer they stand at. */
void run_shard_stats_advance(struct run_shard *t);

#endif
