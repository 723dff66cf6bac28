/* run/relay.h - the relay on real sockets, on its own thread so that a flood cannot stall the control plane: UDP
 * and TCP listeners, one socket for each relayed address, batches both ways (STUN, TURN); and the connections of the NetBird
 * relay protocol, which are accepted in another thread. What is decided is in relay/relay.h, relay/hub.h and
 * ice/turn_server.h. Tests: tests/net/test_turn_interop.py, tests/net/test_relay.py */
#ifndef NB_RUN_RELAY_H
#define NB_RUN_RELAY_H

#include "relay/relay.h"
#include "run/stream.h"
#include "run/turn_tcp.h"

struct run_relay;

/* Open the listeners (the default is UDP and TCP 3478 on every address) and start the thread. cfg is copied; certs, for
 * TLS on the TCP ports, is borrowed and may belong to another loop (NULL: none).
 * Failures are logged in one line. Returns 0, NB_E_BUSY, NB_E_PERM, NB_E_CONFIG, NB_E_NOMEM, NB_E_SYS. */
int run_relay_start(struct run_relay **out, const struct relay_config *cfg, struct run_certs *certs);
/* End the thread, close everything. NULL is allowed. */
void run_relay_stop(struct run_relay *r);
/* A connection on loop `from` (the caller's) whose upgrade at RUN_RELAY_PATH was answered: in
 * run_listener_config.upgraded. Always from the same thread. */
#define RUN_RELAY_PATH "/relay"
void run_relay_hand_over(struct run_relay *r, struct run_loop *from, struct run_stream *s, struct nb_bytes rest);
/* As of the last second; any thread. False, and nothing filled in, when that part is not served. */
struct run_relay_turn_stats {
	struct turn_server_stats turn;
	struct run_turn_tcp_stats tcp;
};
bool run_relay_stats(struct run_relay *r, struct relay_hub_stats *out);
bool run_relay_turn_stats(struct run_relay *r, struct run_relay_turn_stats *out);

#endif
