/* link.h - the data-plane thread's connections: TCP, or TLS over it, to NetBird relays (WebSocket) and to TURN servers.
 * Control dials them (run/link_dial.h) and hands them over; here packets of known channels go straight between them and
 * the WireGuard device, sealed and opened where they lie in a batch, and everything else goes up to control. A channel is
 * one peer behind a connection: WG_EP_STREAM with the channel's id. Owned and called by the thread of tunnel.h; nothing
 * waits or locks, and nothing is allocated per packet. spec/relay-protocol.md 2.2 and 3.2, RFC 8656.
 * Tests: tests/unit/run_link_test.c, tests/net/test_relay.py, tests/net/test_turn_stream.py */
#ifndef NB_RUN_LINK_H
#define NB_RUN_LINK_H

#include <poll.h>

#include "base/bytes.h"
#include "wg/wg.h"

struct nbc_tls;
struct run_links;

#define RUN_LINKS_MAX 40
#define RUN_LINK_KEY_MAX 36

enum run_link_kind {
	RUN_LINK_RELAY,		/* channels are named by the 36 bytes of a peer id */
	RUN_LINK_TURN,		/* by the two bytes of a TURN channel number */
};

/* Where things go. message and lost return false when there is no room: they are asked again by run_links_tell(). */
struct run_links_config {
	/* A message that is no packet of a known channel: borrowed. */
	bool (*message)(void *ctx, unsigned id, struct nb_bytes in);
	/* The connection is over and its id void. */
	bool (*lost)(void *ctx, unsigned id, const char *why);
	/* Packets for the device, to be opened in place. */
	void (*packets)(void *ctx, struct wg_pkt *k, size_t n);
	void *ctx;
	size_t max_message;	/* bytes; lists of relays are cut, other longer ones, packets for nobody, are dropped */
	uint8_t *room;		/* RUN_LINKS_ROOM bytes, ours during run_links_read() */
	nb_random_fn random;
};
#define RUN_LINKS_ROOM (160 * 1024)

/* NULL without memory. */
struct run_links *run_links_new(const struct run_links_config *cfg);
/* Closes what is open. NULL is allowed. */
void run_links_free(struct run_links *l);

/* Take a connected, non-blocking descriptor over, with its TLS state (NULL: plain). Without room for it, it is lost. */
void run_links_add(struct run_links *l, unsigned id, enum run_link_kind kind, int fd, struct nbc_tls *tls);
/* Send what can be sent now, and close; it is not lost any more. */
void run_links_drop(struct run_links *l, unsigned id);
/* Name a channel: key is that of its kind. Without the connection nothing happens. */
void run_links_channel_add(struct run_links *l, unsigned id, uint32_t channel, struct nb_bytes key);
void run_links_channel_remove(struct run_links *l, uint32_t channel);
/* Queue a whole message, as control made it. */
void run_links_say(struct run_links *l, unsigned id, struct nb_bytes message);
/* Queue a WireGuard message for the peer of a channel; dropped when the queue is full. False: there is no such channel. */
bool run_links_send(struct run_links *l, uint32_t channel, struct nb_bytes message);
/* Write what was queued: at the end of a turn. */
void run_links_flush(struct run_links *l);

/* What to wait for: fills at most RUN_LINKS_MAX places, returns how many. run_links_read() takes them after poll.
 * Bounded work. */
size_t run_links_poll(const struct run_links *l, struct pollfd *fds);
void run_links_read(struct run_links *l, const struct pollfd *fds, size_t n);
/* Ask again for what could not be told. */
void run_links_tell(struct run_links *l);
/* Packets that were dropped because a connection did not take more. */
uint64_t run_links_dropped(const struct run_links *l);

#endif
