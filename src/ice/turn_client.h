/* turn_client.h - one TURN allocation as a client sees it (RFC 8656, over UDP or a stream): allocate, keep alive,
 * permissions, channels, wrapping and unwrapping of data. No sockets, no clock; the caller sends what
 * turn_client_output() gives to the server and hands in what comes from it.
 *
 *   c = turn_client_new(&cfg, now);
 *   loop: turn_client_input(), then turn_client_output() until 0 and turn_client_event() until 0;
 *         sleep to turn_client_deadline().
 *   TURN_EV_ALLOCATED: event.relayed is the address peers send to (an ICE relay candidate).
 *   turn_client_permit() for each remote candidate address; turn_client_wrap() sends ICE checks.
 *   turn_client_bind() once a pair is selected. From TURN_EV_BOUND on anybody who knows the server and
 *   the channel number may frame data by himself (turn_channel_header, turn_channel_decode).
 * spec/peer-connection.md 5. Tests: tests/unit/ice_turn_client_test.c, tests/fuzz/turn_client_fuzz.c,
 * tests/net/test_turn_interop.py */
#ifndef NB_ICE_TURN_CLIENT_H
#define NB_ICE_TURN_CLIENT_H

#include "base/addr.h"
#include "base/time.h"

#define TURN_CLIENT_PEERS_MAX 1024	/* permissions and channels together */
#define TURN_CLIENT_DGRAM_MAX 2048	/* room turn_client_output() wants */
#define TURN_WRAP_MAX 52		/* most that turn_client_wrap() adds to a payload */

struct turn_client_config {
	struct nb_endpoint server;
	const char *username;		/* copied */
	const char *password;		/* copied; wiped when the client is freed */
	uint8_t family;			/* of the relayed address: 4 or 6; 0 means 4 */
	uint32_t lifetime_s;		/* asked for; 0: the server's choice */
	bool stream;			/* over TCP or TLS: nothing is sent twice. ChannelData still has to be padded to a multiple
					 * of four bytes there by whoever sends it */
	nb_random_fn random;
	void *random_ctx;
};

enum turn_client_state {
	TURN_ALLOCATING,
	TURN_READY,
	TURN_CLOSING,	/* the allocation is being given back */
	TURN_DEAD,	/* failed or closed: only turn_client_free() is of use */
};

enum turn_event_type {
	TURN_EV_NONE,
	TURN_EV_ALLOCATED,	/* relayed, mapped */
	TURN_EV_FAILED,		/* final. code: the server's error (401 wrong credentials, 486 quota, 300 with
				 * alternate set ...), or 0 with err NB_E_TIMEOUT or NB_E_PROTO */
	TURN_EV_CLOSED,		/* after turn_client_close() */
	TURN_EV_PERMITTED,	/* peer (port 0): data may pass; once per turn_client_permit() */
	TURN_EV_BOUND,		/* peer, channel: ChannelData may be used; once per turn_client_bind() */
	TURN_EV_PEER_FAILED,	/* peer, channel (0 for a permission), code, err; the entry is gone. A bound peer
				 * may fail later too, when a refresh is refused */
};

struct turn_event {
	enum turn_event_type type;
	struct nb_endpoint relayed, mapped, alternate, peer;
	uint16_t channel;
	unsigned code;
	int err;
};

struct turn_client;

/* Starts allocating. cfg is borrowed during the call. NULL without memory or with over-long names. */
struct turn_client *turn_client_new(const struct turn_client_config *cfg, struct nb_time now);
/* Wipes keys; gives nothing back to the server (turn_client_close does). NULL is allowed. */
void turn_client_free(struct turn_client *c);
/* Ask the server to delete the allocation; TURN_EV_CLOSED follows, after an answer or 3 s at most. */
void turn_client_close(struct turn_client *c, struct nb_time now);
/* Ask whether the allocation still exists (a Refresh now instead of later): data has stopped coming through. A server
 * that was restarted says no: TURN_EV_FAILED, 437. Nothing happens while another request is under way. */
void turn_client_check(struct turn_client *c, struct nb_time now);
/* New credentials are for the next allocation: a running one keeps its own (stock does the same). */

/* Keep a permission for this peer address until turn_client_forget. May be called while allocating.
 * Returns 0, NB_E_EXISTS (nothing to do), NB_E_FULL, NB_E_NOMEM, or NB_E_STATE when dead. */
int turn_client_permit(struct turn_client *c, const struct nb_addr *peer, struct nb_time now);
/* Keep a channel to this peer (which permits its address, too). *channel (may be NULL) gets its number,
 * usable for sending from TURN_EV_BOUND on. Returns as above (NB_E_EXISTS sets *channel). */
int turn_client_bind(struct turn_client *c, const struct nb_endpoint *peer, uint16_t *channel,
		     struct nb_time now);
/* Stop refreshing. port 0: the permission; else the channel. Unknown peers are ignored. */
void turn_client_forget(struct turn_client *c, const struct nb_endpoint *peer);

/* One datagram from the server. 1: data from a peer: *peer and *data (borrowed from in) are set.
 * 0: consumed. NB_E_BAD: not TURN traffic of this client (ours are only answers to our requests,
 * Data indications and ChannelData); nothing changed. */
int turn_client_input(struct turn_client *c, struct nb_bytes in, struct nb_endpoint *peer,
		      struct nb_bytes *data, struct nb_time now);
/* Run timers; write the next request. out->p with room out->cap >= TURN_CLIENT_DGRAM_MAX is the
 * caller's; out->n and out->to (the server) are set. Returns 1, or 0 when idle. */
int turn_client_output(struct turn_client *c, struct nb_dgram *out, struct nb_time now);
/* The next event; call until it returns 0. */
int turn_client_event(struct turn_client *c, struct turn_event *ev);
struct nb_time turn_client_deadline(const struct turn_client *c);

/* Frame data for a peer: ChannelData when bound, else a Send indication. out: room for
 * data.n + TURN_WRAP_MAX. Returns the length, NB_E_STATE when not ready, NB_E_ARG when too long. */
int turn_client_wrap(struct turn_client *c, const struct nb_endpoint *peer, struct nb_bytes data,
		     uint8_t *out);

enum turn_client_state turn_client_state(const struct turn_client *c);
/* The relayed address; false before TURN_EV_ALLOCATED. */
bool turn_client_relayed(const struct turn_client *c, struct nb_endpoint *out);
/* The bound channel of a peer, 0 when there is none yet. */
uint16_t turn_client_channel(const struct turn_client *c, const struct nb_endpoint *peer);

#endif
