/* signal_client.h - the agent's side of the signal protocol: the ConnectStream and its marker header,
 * reconnecting with back-off, the watch by heartbeats to ourselves, Send with retries, boxes. No sockets
 * and no clock: the driver dials when asked and attaches the gRPC connection (as in mgmt_client.h). What
 * offers and candidates mean is the engine's business. Source: spec/signal-protocol.md 3, 4, 6.1-6.3.
 * Tests: tests/unit/client_signal_client_test.c */
#ifndef NB_CLIENT_SIGNAL_CLIENT_H
#define NB_CLIENT_SIGNAL_CLIENT_H

#include "client/conn.h"
#include "grpc/grpc.h"

struct client_signal;

struct client_signal_ops {
	/* Dial the signal address; answer with client_signal_attach or client_signal_dial_failed. */
	void (*dial)(void *arg);
	/* The connection is not needed any more, or is broken: close it. May come from inside its callbacks, so
	 * free it later; the pointer is not used after this. */
	void (*hang_up)(void *arg);
	/* Registered (error NULL: start Sync, tell the engine) or not (error: one line for people). */
	void (*state)(void *arg, bool connected, const char *error);
	/* Is this key a peer of ours? Strangers' messages are dropped unopened. NULL: everybody is. */
	bool (*known)(void *arg, const uint8_t key[NB_KEY_LEN]);
	/* A message that opened and decoded; m is borrowed. */
	void (*message)(void *arg, const uint8_t key[NB_KEY_LEN], const struct client_signal_msg *m);
};

struct client_signal_config {
	const struct client_signal_ops *ops;
	void *arg;
	uint8_t private_key[NB_KEY_LEN];	/* copied */
	nb_random_fn random;
	void *random_ctx;
};

struct client_signal_stats {
	uint64_t received, undecodable, strangers, sent, send_failed, heartbeats, stalls, reconnects;
};

/* A stopped machine. NULL without memory. */
struct client_signal *client_signal_new(const struct client_signal_config *cfg);
/* Wipes keys; calls no ops but hang_up. NULL is allowed. */
void client_signal_free(struct client_signal *s);

/* Connect, and keep connected for ever. */
void client_signal_start(struct client_signal *s, struct nb_time now);
/* Give up everything and hang up. */
void client_signal_stop(struct client_signal *s);
bool client_signal_connected(const struct client_signal *s);
/* Addresses or the default route changed: if a reconnect is being waited for, do it now. broken: the connection
 * cannot have survived, dial anew at once. */
void client_signal_network_changed(struct client_signal *s, bool broken, struct nb_time now);
/* Seal and send; up to four attempts. OK means under way, never delivered. Returns 0, NB_E_STATE (not
 * registered now), NB_E_FULL (CLIENT_SIGNAL_SENDS_MAX are under way), NB_E_NOMEM, NB_E_BAD (useless key). */
#define CLIENT_SIGNAL_SENDS_MAX 1024
int client_signal_send(struct client_signal *s, const uint8_t key[NB_KEY_LEN],
		       const struct client_signal_msg *m, struct nb_time now);

/* The driver's answers to dial. c stays the driver's; it is used until hang_up or client_signal_lost. */
void client_signal_attach(struct client_signal *s, struct grpc_conn *c, struct nb_time now);
void client_signal_dial_failed(struct client_signal *s, const char *why, struct nb_time now);
/* The attached connection is gone (after grpc_conn_lost ended its calls). Harmless after hang_up. */
void client_signal_lost(struct client_signal *s, const char *why, struct nb_time now);

struct nb_time client_signal_deadline(const struct client_signal *s);
void client_signal_timer(struct client_signal *s, struct nb_time now);
void client_signal_get_stats(const struct client_signal *s, struct client_signal_stats *out);

#endif
