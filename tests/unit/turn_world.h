/* turn_world.h - a TURN server on a fake driver: sockets are a table, datagrams a list, time a field.
 * Shared by the tests of the TURN server and client. */
#ifndef NB_TESTS_TURN_WORLD_H
#define NB_TESTS_TURN_WORLD_H

#include "ice/stun.h"
#include "ice/turn_server.h"

#define WORLD_MAIL 64
#define WORLD_BYTES 2048

struct world_dgram {
	bool relayed;			/* sent by a relay port to a peer; else to a client */
	struct turn_relay *relay;
	uint16_t port;			/* of that relay */
	struct nb_endpoint to, from;	/* from: our side, as far as the request said where it came to */
	size_t n;
	uint8_t p[WORLD_BYTES];
};

struct world {
	struct turn_server *server;
	struct nb_time now;
	struct nb_wall wall;
	uint32_t random;		/* state of a small generator */
	unsigned opened, closed;
	uint16_t busy_port;		/* open fails with NB_E_BUSY there */
	bool no_sockets;		/* open fails with NB_E_FULL */
	struct world_dgram mail[WORLD_MAIL];
	size_t nmail;
};

/* A configuration with realm "test", secret "secret", user alice/wonder, relay 192.0.2.1 and 2001:db8::1,
 * ports 50000-50099. */
struct turn_server_config world_config(struct world *w);
/* Start the server; cfg NULL: world_config. Time starts at 1000 s, wall clock at 1900000000. */
void world_start(struct world *w, const struct turn_server_config *cfg);
void world_stop(struct world *w);
void world_random(void *ctx, void *out, size_t n);
struct turn_flow world_flow(const char *client);
/* Hand a datagram to the server; clears the mail first. */
void world_send(struct world *w, const char *client, struct nb_bytes in);
/* The only datagram that came out, which must be for this client, decoded. */
void world_answer(struct world *w, const char *client, struct stun_msg *m);
struct nb_endpoint world_endpoint(const char *text);

#endif
