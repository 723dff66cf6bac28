/* relay_link.h - the agent's connections to relays: dialled, with TLS where the URL says so, upgraded to WebSocket at
 * /relay, messages both ways. Which relay and what is said there is client/relay_client.h's.
 * Tests: tests/net/test_relay.py */
#ifndef NB_RUN_RELAY_LINK_H
#define NB_RUN_RELAY_LINK_H

#include "proto/relaymsg.h"
#include "run/dial.h"

struct run_relay_links;

struct run_relay_links_config {
	struct run_loop *loop;
	struct run_resolver *resolver;
	/* The certificates to trust, for rels://; NULL with a line in *why when there are none. */
	struct nbc_trust *(*trust)(void *ctx, const char **why);
	/* All from the loop. Nothing follows lost. ip: the relay's address. */
	void (*opened)(void *ctx, unsigned id, const struct nb_addr *ip);
	void (*message)(void *ctx, unsigned id, struct nb_bytes in);
	void (*lost)(void *ctx, unsigned id, const char *why);
	void *ctx;
};

int run_relay_links_new(struct run_relay_links **out, const struct run_relay_links_config *cfg);
/* Cut everything. NULL is allowed. */
void run_relay_links_free(struct run_relay_links *l);
/* A connection named id. ip: try this address first (family 0: none). */
void run_relay_links_dial(struct run_relay_links *l, unsigned id, const struct relaymsg_url *url, const struct nb_addr *ip,
			  const struct os_sockopt *sockopt);
/* As web_ws_send_parts; NB_E_NOTFOUND without such a connection. */
int run_relay_links_send(struct run_relay_links *l, unsigned id, struct nb_bytes head, struct nb_bytes body, bool must);
/* Forget it: what was queued is sent, nothing is reported any more. */
void run_relay_links_hang_up(struct run_relay_links *l, unsigned id);
/* Addresses of this machine changed: connections from one that is gone are lost. */
void run_relay_links_addresses(struct run_relay_links *l);

#endif
