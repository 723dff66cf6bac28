/* link_dial.h - makes the connections that the data-plane thread then owns (run/link.h): dialled on the control loop, with
 * TLS where asked for, for relays upgraded to WebSocket at /relay, and handed over before the first message. Which server
 * and what is said there is client/relay_client.h's and client/engine.h's. Tests: tests/net/test_relay.py,
 * tests/net/test_turn_stream.py */
#ifndef NB_RUN_LINK_DIAL_H
#define NB_RUN_LINK_DIAL_H

#include "proto/relaymsg.h"
#include "run/dial.h"

struct run_link_dials;

struct run_link_dials_config {
	struct run_loop *loop;
	struct run_resolver *resolver;
	/* The certificates to trust, for TLS; NULL with a line in *why when there are none. */
	struct nbc_trust *(*trust)(void *ctx, const char **why);
	/* All from the loop. opened: fd and tls (NULL: plain) are the receiver's now; ip: the server's address; rtt_ns:
	 * the way there and back. lost: the
	 * connection did not come about, or, opened before, its own address is gone (run_link_dials_addresses). */
	void (*opened)(void *ctx, unsigned id, bool turn, int fd, struct nbc_tls *tls, const struct nb_addr *ip,
		       int64_t rtt_ns);
	void (*lost)(void *ctx, unsigned id, const char *why);
	void *ctx;
};

int run_link_dials_new(struct run_link_dials **out, const struct run_link_dials_config *cfg);
/* End all dialling. NULL is allowed. */
void run_link_dials_free(struct run_link_dials *l);
/* A connection named id, to a relay or to a TURN server. ip: try this address first (family 0: none). */
void run_link_dials_start(struct run_link_dials *l, unsigned id, bool turn, const struct relaymsg_url *url,
			  const struct nb_addr *ip, const struct os_sockopt *sockopt);
/* It is over, or not wanted any more: nothing is reported. Unknown ids are fine. */
void run_link_dials_forget(struct run_link_dials *l, unsigned id);
/* Addresses of this machine changed: connections from one that is gone are lost, and to be dropped by the receiver. */
void run_link_dials_addresses(struct run_link_dials *l);

#endif
