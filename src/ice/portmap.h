/* portmap.h - asking one gateway to forward a UDP port to us: PCP version 2 (RFC 6887: MAP, ANNOUNCE) and
 * NAT-PMP (RFC 6886), both tried at once, PCP preferred. No sockets, no clock: datagrams and time in;
 * datagrams, news of the mapping and the next deadline out. UPnP is run/portmap.c's business, as is which
 * gateway is asked. The state lives in the caller's memory and has a fixed size.
 *
 *   ice_portmap_init(&m, &cfg, now);
 *   loop: ice_portmap_input(), then ice_portmap_output() until 0 and ice_portmap_event() until 0;
 *         sleep to ice_portmap_deadline().
 *   ice_portmap_release(), then ice_portmap_output() until 0: the gateway is told to forget it.
 *
 * With an IPv6 gateway only PCP is spoken, and what it gives is usually a hole in a firewall: the external
 * endpoint is then our own. A mapping keeps its nonce for life (RFC 6887 11.2: a renewal or deletion with
 * another one is refused). What the gateway cannot do is asked again later, at least every half hour.
 * spec/peer-connection.md 7. Tests: tests/unit/ice_portmap_test.c, tests/fuzz/portmap_fuzz.c,
 * tests/net/test_portmap.py */
#ifndef NB_ICE_PORTMAP_H
#define NB_ICE_PORTMAP_H

#include "base/addr.h"
#include "base/time.h"

#define ICE_PORTMAP_PORT 5351		/* of the gateway */
#define ICE_PORTMAP_HEAR_PORT 5350	/* ours: the gateway announces to 224.0.0.1 that it has restarted */
#define ICE_PORTMAP_DGRAM_MAX 64	/* room that ice_portmap_output() wants; ours are 60 bytes at most */
#define ICE_PORTMAP_INPUT_MAX 1100	/* no answer is longer (RFC 6887 7) */
#define ICE_PORTMAP_LIFETIME_S 7200	/* what we ask for */

enum ice_portmap_proto { ICE_PORTMAP_NONE, ICE_PORTMAP_PCP, ICE_PORTMAP_NATPMP };

struct ice_portmap_config {
	struct nb_addr gateway;
	struct nb_addr local;		/* the address our datagrams to it have */
	uint16_t port;			/* internal port, and the external one we wish for */
	nb_random_fn random;
	void *random_ctx;
	bool no_health;			/* PCP: do not ask every minute whether the gateway has restarted */
};

enum ice_portmap_event_type {
	ICE_PORTMAP_EV_NONE,
	ICE_PORTMAP_EV_MAPPED,		/* a mapping, or another external endpoint for it */
	ICE_PORTMAP_EV_LOST,		/* it is gone; the search goes on */
	ICE_PORTMAP_EV_REFUSED,		/* no mapping for now; code: the gateway's result */
};

struct ice_portmap_event {
	enum ice_portmap_event_type type;
	enum ice_portmap_proto proto;
	struct nb_endpoint external;
	uint32_t lifetime_s;
	unsigned code;
};

/* One request and when it is sent (again). */
struct ice_portmap_timer {
	struct nb_time next;		/* NB_TIME_NEVER: not wanted */
	int64_t wait_ms;		/* until the next repetition; 0: not sent yet */
};

/* The gateway's clock as last heard, to notice that it has lost its state (RFC 6887 8.5, RFC 6886 3.6). */
struct ice_portmap_epoch {
	bool known;
	uint32_t server;
	struct nb_time at;
};

struct ice_portmap {
	struct ice_portmap_config cfg;
	uint8_t nonce[12];		/* of the PCP mapping */
	enum ice_portmap_proto proto;	/* of the mapping in use */
	bool fresh;			/* the gateway has restarted and not confirmed the mapping yet */
	bool closing, closed;
	struct nb_endpoint external;	/* as last given; wished for when it has to be made anew */
	uint32_t lifetime_s;
	struct nb_time expires;
	struct ice_portmap_timer pcp_map, pcp_announce, pmp_address, pmp_map;
	struct ice_portmap_epoch pcp_epoch, pmp_epoch;
	bool pcp_silent;		/* no answer to PCP so far: NAT-PMP may wait a moment for it */
	struct nb_addr pmp_external;	/* family 0: not known */
	enum ice_portmap_event_type news;	/* at most one waits: the latest state counts */
	unsigned code;
	uint32_t dropped;		/* input that was malformed, foreign or asked for by nobody */
};

/* Begin asking. cfg is copied. */
void ice_portmap_init(struct ice_portmap *m, const struct ice_portmap_config *cfg, struct nb_time now);
/* Something around us has changed: see soon whether the gateway is still the one that has our mapping. */
void ice_portmap_check(struct ice_portmap *m, struct nb_time now);
/* Stop asking, delete the mapping if there is one: ice_portmap_output() has the last datagram. Again: once more. */
void ice_portmap_release(struct ice_portmap *m);
/* One datagram. Returns 0 when it was an answer we wanted, else NB_E_BAD and no change. */
int ice_portmap_input(struct ice_portmap *m, const struct nb_endpoint *from, struct nb_bytes in, struct nb_time now);
/* Run timers; write the next request. out->p with room out->cap >= ICE_PORTMAP_DGRAM_MAX is the caller's; out->n
 * and out->to are set. Returns 1, or 0 when idle. */
int ice_portmap_output(struct ice_portmap *m, struct nb_dgram *out, struct nb_time now);
/* The latest news; call until it returns 0. */
int ice_portmap_event(struct ice_portmap *m, struct ice_portmap_event *ev);
struct nb_time ice_portmap_deadline(const struct ice_portmap *m);
/* The protocol's name: "PCP", "NAT-PMP", "none". */
const char *ice_portmap_name(enum ice_portmap_proto proto);

#endif
