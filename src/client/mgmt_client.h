/* mgmt_client.h - the agent's side of the management protocol: server key, Login (registering with a
 * setup key when the peer is unknown), the Sync stream, Logout, and the schedule of retries. No
 * sockets and no clock: the driver dials when asked and attaches the gRPC connection. What a network
 * map means is the engine's business (client/engine.h). Source: spec/management-protocol.md 2-5, 7.2.
 * Tests: tests/unit/client_mgmt_client_test.c. */
#ifndef NB_CLIENT_MGMT_CLIENT_H
#define NB_CLIENT_MGMT_CLIENT_H

#include "base/time.h"
#include "grpc/grpc.h"
#include "proto/management.pb-c.h"

struct client_mgmt;

/* Why management said no for good; retrying would not help. */
struct client_refusal {
	int status;			/* enum grpc_status */
	const char *message;		/* the server's words */
	bool registering;		/* a setup key was being used */
};

struct client_mgmt_ops {
	/* Dial the management URL; answer with client_mgmt_attach or client_mgmt_dial_failed. */
	void (*dial)(void *arg);
	/* The connection is not needed any more, or is broken: close it. The pointer dies with the call. */
	void (*hang_up)(void *arg);
	/* Login succeeded. r is borrowed. */
	void (*logged_in)(void *arg, const Management__LoginResponse *r);
	/* One message of the Sync stream, borrowed. */
	void (*sync)(void *arg, const Management__SyncResponse *r);
	/* Connected (error NULL) or not (error: one line for people). */
	void (*state)(void *arg, bool connected, const char *error);
	/* The server refused for good; the machine is stopped (client_mgmt_stopped). */
	void (*refused)(void *arg, const struct client_refusal *why);
	/* client_mgmt_logout ended: status as of gRPC. */
	void (*logged_out)(void *arg, int status, const char *message);
};

struct client_mgmt_config {
	const struct client_mgmt_ops *ops;
	void *arg;
	uint8_t private_key[NB_KEY_LEN];	/* copied */
	const char *setup_key;			/* copied; NULL or "": cannot register */
	const Management__PeerSystemMeta *meta; /* borrowed for the life of the machine */
	char *const *dns_labels;		/* borrowed */
	size_t n_dns_labels;
	nb_random_fn random;
	void *random_ctx;
};

/* A stopped machine. NULL without memory. */
struct client_mgmt *client_mgmt_new(const struct client_mgmt_config *cfg);
/* Wipes keys; calls no ops but hang_up. */
void client_mgmt_free(struct client_mgmt *m);

/* Log in; keeps trying until logged in or refused. */
void client_mgmt_start(struct client_mgmt *m, struct nb_time now);
/* Open the Sync stream (after logged_in, when the signal stream is up) and keep it open. */
void client_mgmt_sync(struct client_mgmt *m, struct nb_time now);
/* Addresses or the default route changed: as client_signal_network_changed. */
void client_mgmt_network_changed(struct client_mgmt *m, bool broken, struct nb_time now);
/* Deregister this peer; only while attached and logged in. */
int client_mgmt_logout(struct client_mgmt *m, struct nb_time now);
/* Give up everything and hang up. */
void client_mgmt_stop(struct client_mgmt *m);
bool client_mgmt_stopped(const struct client_mgmt *m);

/* The driver's answers to dial. c stays the driver's; it is used until hang_up or client_mgmt_lost. */
void client_mgmt_attach(struct client_mgmt *m, struct grpc_conn *c, struct nb_time now);
void client_mgmt_dial_failed(struct client_mgmt *m, const char *why, struct nb_time now);
/* The attached connection is gone (after grpc_conn_lost ended its calls). */
void client_mgmt_lost(struct client_mgmt *m, const char *why, struct nb_time now);

struct nb_time client_mgmt_deadline(const struct client_mgmt *m);
void client_mgmt_timer(struct client_mgmt *m, struct nb_time now);

#endif
