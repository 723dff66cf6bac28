/* link_frame.h - takes messages out of the bytes of a data-plane connection (run/link.h): WebSocket frames from a relay
 * (RFC 6455, unmasked), STUN messages and ChannelData from a TURN server over a stream (RFC 8656, 3.4 and 12.5).
 * Pure. Tests: tests/unit/run_link_test.c, tests/fuzz/link_frame_fuzz.c */
#ifndef NB_RUN_LINK_FRAME_H
#define NB_RUN_LINK_FRAME_H

#include "base/bytes.h"

#define RUN_FRAME_MAX 8820	/* bytes of a message, as relays have it */
#define RUN_FRAME_ROOM (RUN_FRAME_MAX + 14)	/* with what stands around it */

enum run_frame_kind {
	RUN_FRAME_MESSAGE,	/* a whole one */
	RUN_FRAME_PART,		/* a fragment; last: the message is complete with it */
	RUN_FRAME_PING,
	RUN_FRAME_PONG,
	RUN_FRAME_CLOSE,
};

struct run_frame {
	enum run_frame_kind kind;
	bool last;
	bool first;		/* PART: nothing before it belongs to the message */
	uint8_t *p;		/* within the input */
	size_t n;
};

/* Read the frame at the front of in[n]. Returns the bytes it takes, 0 when more must come first, or NB_E_PROTO (the other
 * side breaks the rules, or the message is too long). */
int run_frame_relay(struct run_frame *f, uint8_t *in, size_t n);
int run_frame_turn(struct run_frame *f, uint8_t *in, size_t n);

#endif
