/* tunnel.h - the data-plane threads, one or several: each owns a WireGuard device with the peers that are at home in it,
 * a pair of UDP sockets (IPv4 and IPv6, one port for all, shared with STUN) and a queue of the TUN interface; the
 * first also owns the connections to relays and TURN servers (link.h). The control thread talks to each through a ring
 * of commands and receives a ring of messages; every ring has one producer, one consumer and an eventfd.
 * Memory, touched as it is used: 2.9 MB for each thread, 0.64 MB for each pair of threads and direction, 0.8 kB for each
 * peer in each thread it is not at home in, up to 8 MB of flows for each thread that filters. The system's socket buffers
 * are 7 MB each.
 * All calls below belong to one control thread. Deciding anything (ICE, names, policy) stays out.
 * Design: design.md "Process model", "Data plane". Tests: tests/unit/run_tunnel_test.c,
 * tests/net/test_wireguard_interop.py. */
#ifndef NB_RUN_TUNNEL_H
#define NB_RUN_TUNNEL_H

#include "filter/filter.h"
#include "wg/wg.h"

struct run_tunnel;

#define RUN_TUNNEL_DGRAM_MAX 1600	/* longer non-WireGuard datagrams are dropped and counted */

/* What the system does for us, of the TUN interface and of the sockets. */
enum run_tunnel_offload {
	RUN_TUNNEL_CHECKSUM = 1,	/* virtio headers on TUN; sums of inner packets are left to us */
	RUN_TUNNEL_TSO = 2,		/* TCP super-packets from and to TUN */
	RUN_TUNNEL_USO = 4,		/* UDP super-packets from and to TUN */
	RUN_TUNNEL_SEGMENT = 8,		/* UDP_SEGMENT */
	RUN_TUNNEL_GRO = 16,		/* UDP_GRO */
	RUN_TUNNEL_ALL = 31,
	RUN_TUNNEL_THREADS = 32,	/* times the number of threads, when several were asked for */
};

struct run_tunnel_config {
	unsigned threads;		/* 0 and 1: one; at most WG_SHARDS_MAX */
	bool several;			/* more than one were asked for, whatever came of it */
	/* One for each thread: nonblocking, IFF_NO_PI; -1: no inner side. Taken over: closed by run_tunnel_free */
	int tun_fds[WG_SHARDS_MAX];
	bool steered;			/* steer is a table of os/steer.h, to be kept and closed with tun_fds */
	int steer;
	unsigned offloads;		/* those the interface has, and those wanted of the sockets */
	size_t mtu;			/* of the TUN interface: 576..8192; larger inner packets are dropped */
	uint16_t port;			/* UDP port; 0: the system chooses, see run_tunnel_port */
	uint32_t fwmark;		/* SO_MARK of the UDP sockets; 0: none */
	uint8_t private_key[NB_KEY_LEN];
	bool filter;			/* access control: inbound is denied until run_tunnel_set_filter allows */
	struct nb_wall tai_floor;	/* from RUN_TUNNEL_TAI of an earlier run; 0: none */
	unsigned active_ms;		/* that data passes is told at most that often; 0: 4000 */
};

/* Open TUN interface `name` with cfg->mtu into cfg->tun_fds, and set cfg->offloads to what it has together with what
 * to try on the sockets. The environment variable NB_TUNNEL_OFFLOADS (see run_tunnel_offloads_parse) takes
 * away from that, for tests and for a system whose offloads are broken. cfg->threads is how many are wanted (0: one
 * on up to three processors, then half as many as there are, and no more than one for each 256 MB of memory),
 * unless NB_TUNNEL_THREADS says so, and becomes how many the system allows. Returns as os_tun_open. */
int run_tunnel_tun(struct run_tunnel_config *cfg, const char *name);
/* When run_tunnel_new failed. */
void run_tunnel_tun_close(struct run_tunnel_config *cfg);
/* A number of threads in text; 0: none said. */
unsigned run_tunnel_threads_parse(const char *text);
/* "all", "none", or a list of checksum, tso, uso, segment and gro with commas; NULL is "all", other words count as none. */
unsigned run_tunnel_offloads_parse(const char *text);
/* Open the sockets and start the threads; one only, when the system cannot share a port among several. Returns 0,
 * NB_E_BUSY (port taken), NB_E_PERM, NB_E_SYS, NB_E_NOMEM, NB_E_ARG; on failure tun_fds still belong to the caller. */
int run_tunnel_new(struct run_tunnel **out, const struct run_tunnel_config *cfg);
/* Stop the threads, wipe the keys, close everything. NULL is fine. */
void run_tunnel_free(struct run_tunnel *t);
/* The UDP port in use. */
uint16_t run_tunnel_port(const struct run_tunnel *t);
/* The offloads in use: each was tried, and goes for good when the system refuses it later. */
unsigned run_tunnel_offloads(const struct run_tunnel *t);
#define RUN_TUNNEL_OFFLOADS_TEXT 48
/* As a list for users, "none" when empty. */
void run_tunnel_offloads_text(char out[RUN_TUNNEL_OFFLOADS_TEXT], unsigned offloads);
/* Readable when run_tunnel_next may have something; level-triggered. Do not read from it. */
int run_tunnel_fd(const struct run_tunnel *t);

/* --- commands ---
 * Each returns 0, NB_E_NOMEM, or NB_E_AGAIN when the ring is full: at once for datagrams and run_tunnel_stats, after
 * a second of waiting for the others. They act in order. */

struct run_tunnel_peer {
	uint8_t key[NB_KEY_LEN];
	bool set_psk, set_keepalive, set_endpoint;	/* which of the fields below to apply */
	bool replace_allowed;				/* forget the prefixes the peer had first */
	bool update_only;				/* do nothing when the peer does not exist */
	uint8_t psk[NB_KEY_LEN];			/* all zero removes it */
	uint16_t keepalive;				/* seconds, 0 off */
	struct wg_ep ep;
	const struct nb_prefix *allowed;		/* copied; added to the peer */
	size_t nallowed;
};
/* Make or change a peer. */
int run_tunnel_peer_set(struct run_tunnel *t, const struct run_tunnel_peer *p);
int run_tunnel_peer_remove(struct run_tunnel *t, const uint8_t key[NB_KEY_LEN]);
/* Remove all peers. */
int run_tunnel_peers_clear(struct run_tunnel *t);
/* Withdraw prefixes. */
int run_tunnel_peer_disallow(struct run_tunnel *t, const uint8_t key[NB_KEY_LEN], const struct nb_prefix *prefixes, size_t n);
/* Forget the peer's sessions, keep its configuration and packets that wait. */
int run_tunnel_peer_reset(struct run_tunnel *t, const uint8_t key[NB_KEY_LEN]);
/* Set where to send. handshake: begin one at once (never two within 20 ms). */
int run_tunnel_endpoint(struct run_tunnel *t, const uint8_t key[NB_KEY_LEN], const struct wg_ep *ep, bool handshake);
/* Send one raw datagram (STUN, TURN control) from the shared port. from: our address to use, family 0 for any. */
int run_tunnel_send(struct run_tunnel *t, const struct nb_endpoint *to, const struct nb_addr *from, struct nb_bytes data);
/* Name a TURN server reached through the shared port: from it, ChannelData that carries WireGuard is
 * consumed here as endpoint kind TURN; all else from it goes up raw. At most 16. */
int run_tunnel_turn_add(struct run_tunnel *t, const struct nb_endpoint *server);
int run_tunnel_turn_remove(struct run_tunnel *t, const struct nb_endpoint *server);
/* Hand in a WireGuard message that came up because its channel was not known yet. */
int run_tunnel_deliver(struct run_tunnel *t, const struct wg_ep *from, struct nb_bytes data);
/* To be called once after some run_tunnel_deliver: several messages make one batch. */
void run_tunnel_flush(struct run_tunnel *t);
int run_tunnel_set_private_key(struct run_tunnel *t, const uint8_t key[NB_KEY_LEN]);
int run_tunnel_set_fwmark(struct run_tunnel *t, uint32_t fwmark);
/* Connections: messages that WireGuard exchanges with the peers of named channels stay on this side (WG_EP_STREAM with the
 * channel's id, which is the caller's choice); all others come as RUN_TUNNEL_LINK_MESSAGE. add: fd and tls (NULL: plain)
 * belong to the tunnel from now on, whatever is returned; turn: see enum run_link_kind. drop: what was sent before still
 * goes out. channel: a key of no bytes forgets the channel. */
struct nbc_tls;
int run_tunnel_link_add(struct run_tunnel *t, unsigned id, bool turn, int fd, struct nbc_tls *tls);
int run_tunnel_link_drop(struct run_tunnel *t, unsigned id);
int run_tunnel_link_send(struct run_tunnel *t, unsigned id, struct nb_bytes head, struct nb_bytes body);
int run_tunnel_link_channel(struct run_tunnel *t, unsigned id, uint32_t channel, struct nb_bytes key);
/* Move to another port (0: any); the outcome comes as RUN_TUNNEL_PORT. On failure the old port stays. */
int run_tunnel_set_port(struct run_tunnel *t, uint16_t port);
/* Put access rules in force (config.filter was set), from the next packet on. The table belongs to the tunnel from now on;
 * nothing can fail, and the newest table counts. */
void run_tunnel_set_filter(struct run_tunnel *t, struct filter_table *rules);
/* The table given last, for its counters; valid until the next run_tunnel_set_filter. NULL: none yet. */
const struct filter_table *run_tunnel_filter(const struct run_tunnel *t);
/* Ask for a snapshot: one RUN_TUNNEL_STATS per peer, then RUN_TUNNEL_STATS_END with the same tag. allowed:
 * also the prefixes, in RUN_TUNNEL_ALLOWED messages directly after each peer's RUN_TUNNEL_STATS. */
int run_tunnel_stats(struct run_tunnel *t, uint32_t tag, bool allowed);

/* --- messages --- */

enum run_tunnel_kind {
	RUN_TUNNEL_DGRAM,	/* from, to (to.addr family 0 when unknown), data */
	RUN_TUNNEL_LINK_MESSAGE,	/* tag (the connection), data */
	RUN_TUNNEL_LINK_LOST,	/* tag, data: text with its end that says why, "" for an orderly end */
	RUN_TUNNEL_EVENT,	/* event (enum wg_event_kind, not TAI), key, ep */
	RUN_TUNNEL_TAI,		/* tai: persist before the hour is over */
	RUN_TUNNEL_STATS,	/* tag, key, stats */
	RUN_TUNNEL_ALLOWED,	/* tag, key, prefixes[nprefixes] */
	RUN_TUNNEL_STATS_END,	/* tag, counters */
	RUN_TUNNEL_PORT,	/* err (0 or NB_E_*), port in use now */
	RUN_TUNNEL_TUN_GONE,	/* the interface disappeared; the inner side is closed */
};

struct run_tunnel_counters {
	struct wg_counters wg;
	struct filter_counters filter;
	uint64_t dgrams_lost;	/* non-WireGuard datagrams dropped: ring full or too long */
	uint64_t udp_errors;	/* sends the system refused */
	uint64_t tun_errors;	/* inner packets the system refused */
	uint64_t too_big;	/* inner packets too long for the tunnel or their way; senders were told */
	uint64_t links_dropped;	/* packets a relay or TURN connection was too slow for */
	uint64_t handed;	/* packets and messages that went from one thread to another */
	uint64_t handed_lost;	/* that did not, its ring being full */
};

/* A counter by its name for programs, with words for people to put behind the number. */
struct run_tunnel_count {
	const char *name, *words;
	uint64_t value;
	bool filter;		/* means nothing without access rules */
};
/* The i-th; false past the last (counts.c). */
bool run_tunnel_count(const struct run_tunnel_counters *c, size_t i, struct run_tunnel_count *out);

struct run_tunnel_msg {
	uint8_t kind;			/* enum run_tunnel_kind */
	uint8_t event;			/* enum wg_event_kind */
	uint32_t tag;
	int err;
	uint16_t port;
	uint8_t key[NB_KEY_LEN];
	struct wg_ep ep;
	struct nb_endpoint from, to;
	struct nb_wall tai;
	struct wg_peer_stats stats;
	struct run_tunnel_counters counters;
	struct nb_bytes data;			/* borrowed until the next call */
	const struct nb_prefix *prefixes;	/* borrowed until the next call */
	size_t nprefixes;
};
/* Take the next message: 1, or 0 when there is none. */
int run_tunnel_next(struct run_tunnel *t, struct run_tunnel_msg *m);

#endif
