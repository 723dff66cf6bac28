/* signal_msg.h - between the signal Body on the wire and what a peer connection understands
 * (spec/signal-protocol.md 3.2, 3.3). Sealing is the signal client's business. */
#ifndef NB_CLIENT_SIGNAL_MSG_H
#define NB_CLIENT_SIGNAL_MSG_H

#include "client/conn.h"
#include "proto/signalexchange.pb-c.h"

/* Read a Body. Returns 0, NB_E_UNSUPPORTED (a type that concerns no connection: heartbeat, mode, newer ones) or
 * NB_E_BAD (payload is not "ufrag:pwd", or too long). */
int client_signal_from_body(struct client_signal_msg *out, const Signalexchange__Body *body);
/* Fill in a Body that points into m and hold, which must outlive it. */
struct client_signal_hold {
	Signalexchange__RosenpassConfig rosenpass;
	Nestbox__PeerFeatures features;
	Nestbox__NatReport nat;
	char payload[ICE_UFRAG_MAX + ICE_PWD_MAX + 2];
};
void client_signal_to_body(Signalexchange__Body *body, struct client_signal_hold *hold, const struct client_signal_msg *m);

#endif
