/* wg.h - WireGuard without input and output: the whole protocol as one device object.
 * Packets and time in, packets, deadlines and events out; no sockets, clocks, locks or logging.
 * Nothing is allocated per packet: memory is taken when a device or peer is made.
 * One thread owns a device. Packets are sealed and opened in place, so buffers carry room around
 * the payload (WG_HEADROOM, WG_TAILROOM).
 * Source: WireGuard paper (2020-06-01 revision); constants in spec/peer-connection.md section 4.4.
 * Tests: tests/unit/wg_*_test.c, tests/sim/wg_link_test.c, tests/fuzz/wg_fuzz.c. */
#ifndef NB_WG_WG_H
#define NB_WG_WG_H

#include "base/addr.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/time.h"

struct wg_dev;
struct wg_peer;

/* Room a caller leaves before and after an inner packet given to wg_send: ChannelData and
 * transport headers in front; padding and tag behind. */
#define WG_HEADROOM 32
#define WG_TAILROOM 32
#define WG_OVERHEAD 32		/* bytes a transport message adds to the padded inner packet */
#define WG_CONTROL_MAX 160	/* the largest handshake message, ChannelData header included */
#define WG_ALLOWED_MAX 4096	/* prefixes per peer */
#define WG_PEERS_MAX 65536
#define WG_SHARDS_MAX 4

/* Where a peer's messages go. Control code sets it; authenticated packets move it (roaming). */
enum wg_ep_kind {
	WG_EP_NONE,
	WG_EP_STREAM,	/* message on a relay connection: the driver knows it by `id` */
	WG_EP_TURN,	/* ChannelData on channel `id` to the TURN server `remote` */
	WG_EP_UDP,	/* datagrams to `remote` */
};

struct wg_ep {
	uint8_t kind;			/* enum wg_ep_kind */
	uint32_t id;			/* TURN: channel number; STREAM: the driver's id; UDP: 0 */
	struct nb_endpoint remote;	/* UDP: the peer; TURN: the server; STREAM: zero */
	struct nb_addr local;		/* our address to send from; family 0: the system chooses */
};

enum wg_verdict {
	WG_DROP,	/* nothing to do: consumed, staged or refused */
	WG_WIRE,	/* p,n is a message for ep */
	WG_INNER,	/* p,n is an inner IP packet from `peer` */
	WG_ELSEWHERE,	/* p,n is an initiation for device `shard`: give it to that one, with `admitted` set */
};

/* One packet. buf[cap] is the caller's storage; the content is p,n within it. Input: p,n and,
 * for wg_input, ep. Output: verdict, and p,n, ep and peer where the verdict has a use for them. */
struct wg_pkt {
	uint8_t *buf;
	size_t cap;
	uint8_t *p;
	size_t n;
	struct wg_ep ep;
	struct wg_peer *peer;	/* valid until the next control call that removes peers */
	uint8_t verdict;	/* enum wg_verdict */
	uint8_t ecn;		/* congestion bits of the outer header: wg_input reads, the others write them (RFC 6040) */
	uint8_t shard;
	bool admitted;		/* input: an initiation whose MACs and rate another device of the group has checked */
};

struct wg_config {
	uint8_t private_key[NB_KEY_LEN];	/* all zero: no key yet, nothing is sent or accepted */
	size_t max_peers;		/* at most WG_PEERS_MAX; 0: 4096 */
	size_t max_staged;		/* packets waiting for handshakes, all peers together; 0: 1024. Memory of a place is
					 * touched when it is first used */
	size_t mtu;			/* inner: largest packet that may wait, and limit of the padding; 0: 1420 */
	unsigned handshake_burst;	/* handshake messages in 1 s before cookies are demanded; 0: 128 */
	unsigned active_ms;		/* WG_EV_ACTIVE is told at most that often; 0: 4000 */
	nb_random_fn random;		/* required */
	void *random_ctx;
	struct nb_wall tai_floor;	/* no initiation carries a stamp at or below this (persisted value) */
	/* Device number `shard` of `shards` (0 or 1: alone; at most WG_SHARDS_MAX) that share key and port. Each peer is
	 * at home in one of them, by its key; the others know its prefixes, so that they can tell whose a packet is,
	 * and nothing else of it. Control tells every device of every peer and prefix; endpoints, preshared keys
	 * and keepalive matter where the peer is at home. */
	uint8_t shard, shards;
};

/* Which of shards devices a peer is at home in. */
unsigned wg_home(const uint8_t key[NB_KEY_LEN], unsigned shards);
/* Which of them a message is for: by its receiver index, whose low two bits are the device's number. Initiations,
 * and what is no message, are for device 0. */
unsigned wg_message_shard(struct nb_bytes in, unsigned shards);
/* Which device an inner packet's destination is at home in; d's own when nobody is known. */
unsigned wg_packet_shard(const struct wg_dev *d, struct nb_bytes packet);

/* Make a device. The configuration is copied. now and wall are the two clocks at this moment.
 * Returns 0, NB_E_ARG or NB_E_NOMEM; *out is NULL then. */
int wg_new(struct wg_dev **out, const struct wg_config *cfg, struct nb_time now, struct nb_wall wall);
/* Wipe all keys and free. NULL is fine. */
void wg_free(struct wg_dev *d);

/* --- control --- */

/* Replace the device's key: every session ends; a peer that has this very key is removed. All zero: none.
 * The key it has already: nothing happens. */
void wg_set_private_key(struct wg_dev *d, const uint8_t key[NB_KEY_LEN]);
void wg_private_key(const struct wg_dev *d, uint8_t out[NB_KEY_LEN]);
/* All zero when there is no private key. */
void wg_public_key(const struct wg_dev *d, uint8_t out[NB_KEY_LEN]);
/* Tell the device the wall clock again, after a jump. Used for the handshake time stamp only. */
void wg_set_wall(struct wg_dev *d, struct nb_time now, struct nb_wall wall);

/* Find or make a peer. New peers have no endpoint, keepalive, preshared key or allowed address.
 * Returns 0, NB_E_EXISTS (*out is the existing one), NB_E_ARG (our own key, or an unusable one), NB_E_FULL, NB_E_NOMEM. */
int wg_peer_add(struct wg_dev *d, const uint8_t key[NB_KEY_LEN], struct wg_peer **out);
struct wg_peer *wg_peer_find(struct wg_dev *d, const uint8_t key[NB_KEY_LEN]);
void wg_peer_remove(struct wg_dev *d, struct wg_peer *p);
/* Remove all, those at home elsewhere too. */
void wg_peers_clear(struct wg_dev *d);
/* Walk all peers that are at home here: NULL starts; returns NULL at the end. */
struct wg_peer *wg_peer_next(struct wg_dev *d, struct wg_peer *after);
const uint8_t *wg_peer_key(const struct wg_peer *p);	/* 32 bytes */
/* Where its messages go now. */
const struct wg_ep *wg_peer_ep(const struct wg_peer *p);
/* The driver's own pointer, never touched by the device. */
void *wg_peer_user(const struct wg_peer *p);
void wg_peer_set_user(struct wg_peer *p, void *user);
/* All zero: none. Takes effect with the next handshake. */
void wg_peer_set_psk(struct wg_dev *d, struct wg_peer *p, const uint8_t psk[NB_KEY_LEN]);
/* 0 switches off; going from off to on sends one at once. */
void wg_peer_set_keepalive(struct wg_dev *d, struct wg_peer *p, uint16_t seconds, struct nb_time now);
/* Where to send. A peer that has no usable session and packets waiting (or a keepalive interval) starts its
 * handshake at once, though never two within 20 ms. Kind NONE leaves the peer without endpoint, sessions kept; packets
 * that wait are told by WG_EV_WANTED. */
void wg_peer_set_endpoint(struct wg_dev *d, struct wg_peer *p, const struct wg_ep *ep, struct nb_time now);
/* Begin a handshake now, unless one was begun within 5 s (force: 20 ms). */
void wg_peer_handshake(struct wg_dev *d, struct wg_peer *p, bool force, struct nb_time now);
/* Forget sessions and running handshake; packets that wait go with the next session, the configuration stays. */
void wg_peer_reset(struct wg_dev *d, struct wg_peer *p);
/* Route an inner prefix to the peer, taking it from whoever had it. Host bits are cleared.
 * Returns 0, NB_E_ARG, NB_E_FULL, NB_E_NOMEM. */
int wg_peer_allow(struct wg_dev *d, struct wg_peer *p, const struct nb_prefix *prefix);
/* Withdraw one prefix; NB_E_NOTFOUND when the peer does not have exactly this one. */
int wg_peer_disallow(struct wg_dev *d, struct wg_peer *p, const struct nb_prefix *prefix);
void wg_peer_disallow_all(struct wg_dev *d, struct wg_peer *p);
/* Copy the peer's prefixes from the skip-th on, at most max; returns how many were copied. */
size_t wg_peer_allowed(const struct wg_dev *d, const struct wg_peer *p, size_t skip, struct nb_prefix *out, size_t max);
/* Who an inner address belongs to, or NULL. */
struct wg_peer *wg_route(struct wg_dev *d, const struct nb_addr *inner);
/* How long the message around an inner packet of n bytes is, without a ChannelData header. */
size_t wg_message_length(const struct wg_dev *d, size_t n);

struct wg_peer_stats {
	uint64_t rx_bytes, tx_bytes;		/* WireGuard messages, as `wg show` counts */
	uint64_t rx_packets, tx_packets;	/* inner ones */
	uint64_t handshakes;			/* that led to a session used in both directions */
	struct nb_wall last_handshake;		/* 0: never */
	struct nb_time last_rx_data;		/* last inner packet (keepalives excluded); 0: never */
	struct wg_ep ep;
	uint16_t keepalive;			/* seconds */
	bool session;				/* a key pair that may be used right now */
	uint8_t psk[NB_KEY_LEN];		/* wipe after use */
};
void wg_peer_stats(const struct wg_dev *d, const struct wg_peer *p, struct wg_peer_stats *out, struct nb_time now);

/* Counted refusals of the whole device. */
struct wg_counters {
	uint64_t bad_message;		/* no WireGuard message, or wrong length */
	uint64_t bad_mac;		/* handshake message not meant for us */
	uint64_t bad_handshake;		/* decryption, unknown peer, replayed or too frequent */
	uint64_t rate_limited;		/* under load, source over its rate */
	uint64_t cookies_sent;
	uint64_t bad_transport;		/* unknown index, key too old, failed authentication */
	uint64_t replayed;
	uint64_t bad_inner;		/* inner packet malformed or from an address not allowed */
	uint64_t no_route;		/* outbound: no peer for the destination */
	uint64_t staged_drop;		/* outbound: waited in vain or too many waiting */
};
const struct wg_counters *wg_counters(const struct wg_dev *d);

/* --- packets --- */

/* Datagrams from the network: p,n the WireGuard message (ChannelData header already removed), ep
 * where it came from (local: the address it came to). Each entry's verdict becomes WG_INNER or WG_DROP.
 * Call wg_output until it is idle afterwards. */
void wg_input(struct wg_dev *d, struct wg_pkt *pkts, size_t count, struct nb_time now);
/* Inner IP packets to the network, each with WG_HEADROOM before p and WG_TAILROOM behind p+n. Verdict
 * WG_WIRE (sealed in place, ep set) or WG_DROP (copied to wait for a handshake, or refused).
 * Call wg_output until it is idle afterwards. */
void wg_send(struct wg_dev *d, struct wg_pkt *pkts, size_t count, struct nb_time now);
/* Run due timers and write one message that is waiting to go out (handshakes, cookies, keepalives, packets
 * that waited) into pkt->buf. cap must be at least mtu + WG_HEADROOM + WG_TAILROOM (and WG_CONTROL_MAX).
 * Returns 1 with verdict WG_WIRE, or 0 when idle. */
int wg_output(struct wg_dev *d, struct wg_pkt *pkt, struct nb_time now);
/* When wg_output has something to do without further input; NB_TIME_NEVER if never, past when now. */
struct nb_time wg_deadline(const struct wg_dev *d);

enum wg_event_kind {
	WG_EV_HANDSHAKE,	/* a session was confirmed in both directions */
	WG_EV_ROAMED,		/* an authenticated packet moved the endpoint */
	WG_EV_GAVE_UP,		/* no answer within 90 s: waiting packets were dropped */
	WG_EV_WANTED,		/* a packet waits for a peer without endpoint (told at most once per second) */
	WG_EV_ACTIVE,		/* data is sent or received (told at most every active_ms) */
	WG_EV_SILENT,		/* for 0.4 s nothing came back the way we send, though two packets or a handshake went out; told again while
				 * that goes on. One-way traffic does it, too */
	WG_EV_TAI,		/* persist `tai` now: it is ahead of every stamp used for the next hour */
};
struct wg_event {
	uint8_t kind;		/* enum wg_event_kind */
	struct wg_peer *peer;	/* NULL for WG_EV_TAI; valid until peers are removed */
	struct wg_ep ep;	/* ROAMED and HANDSHAKE: the endpoint now */
	struct nb_wall tai;
};
/* Pull the next event: 1, or 0 when there is none. Several of one kind for one peer are told once. */
int wg_event(struct wg_dev *d, struct wg_event *ev);

/* --- telling messages apart --- */

/* True for bytes that have the shape of a WireGuard message (type, zero bytes, length). STUN must be asked
 * about first: its magic cookie may follow. */
bool wg_looks_like(struct nb_bytes in);
/* True for what carries data, of messages that look like one. */
bool wg_is_transport(struct nb_bytes in);

#endif
