/* relay_client.h - the agent's side of the NetBird relay protocol: the home relay (chosen by a race, kept, dialled again,
 * and left for one that is measured to be much nearer), foreign relays where a peer's home is elsewhere, and one channel
 * per peer on them. Pure: messages of open connections and time in, messages and calls to the ops out. The drivers
 * (run/link_dial.h, run/link.h) dial, speak WebSocket and carry the packets of channels; what a channel is good for is
 * decided in client/conn.h. spec/relay-protocol.md 3, 6.
 * Tests: tests/unit/client_relay_client_test.c, tests/fuzz/relay_client_fuzz.c */
#ifndef NB_CLIENT_RELAY_CLIENT_H
#define NB_CLIENT_RELAY_CLIENT_H

#include "base/addr.h"
#include "base/time.h"
#include "proto/relaymsg.h"

#define CLIENT_RELAYS_URLS 7	/* dialled at once; more in the configuration are ignored */
#define CLIENT_RELAYS_MAX 32	/* connections */

struct client_relays;

/* Connections are known by an id that is not used again for long. */
struct client_relays_ops {
	/* Connect and upgrade at url. ip: dial this address first (family 0: none), the URL's host stays the name that is
	 * verified. Answered with client_relays_opened() or client_relays_lost(), not from within. */
	void (*dial)(void *arg, unsigned id, const struct relaymsg_url *url, const struct nb_addr *ip);
	/* Queue one message of two parts. */
	void (*send)(void *arg, unsigned id, struct nb_bytes head, struct nb_bytes body);
	/* Give the connection up, after what was queued is sent. It is not lost any more. */
	void (*hang_up)(void *arg, unsigned id);
	/* client_relays_home() has changed. moved: to a nearer relay, while the one before still carries its channels. */
	void (*home)(void *arg, bool moved);
	/* The peer of a channel can be reached. */
	void (*up)(void *arg, void *user, uint32_t channel);
	/* The channel is over; its id is void. why: one line. */
	void (*gone)(void *arg, void *user, uint32_t channel, const char *why);
	/* From now on (until on is false), what the peer of a channel sends need not come through here, and what goes to it
	 * does not: the driver takes both from and to connection id. peer: its id there, RELAYMSG_ID_LEN bytes. */
	void (*channel)(void *arg, unsigned id, uint32_t channel, const uint8_t *peer, bool on);
	/* What the peer sent before the driver knew the channel. Borrowed. */
	void (*data)(void *arg, void *user, uint32_t channel, struct nb_bytes payload);
};

struct client_relays_config {
	const struct client_relays_ops *ops;
	void *arg;
	char self_key[NB_KEY_TEXT_LEN];	/* base64 */
	nb_random_fn random;
	void *random_ctx;
};

/* NULL without memory. */
struct client_relays *client_relays_new(const struct client_relays_config *cfg);
/* Says Close to all relays and hangs up; no other op is called. NULL is allowed. */
void client_relays_free(struct client_relays *r);

/* What management names: URLs and token (relaymsg_token_join; empty: keep the one there is). An empty list ends all
 * dialling, not what is connected. A new token is for the next dial. */
void client_relays_update(struct client_relays *r, const char *const *urls, size_t n, struct nb_bytes token,
			  struct nb_time now);
bool client_relays_configured(const struct client_relays *r);
/* The home relay's instance URL, and the address it was reached at; NULL while not connected. */
const char *client_relays_home(const struct client_relays *r, struct nb_addr *ip);
/* What is wrong with the home relay; "" when it is connected. */
const char *client_relays_error(const struct client_relays *r);
/* The i-th configured URL, NULL at the end. */
const char *client_relays_url(const struct client_relays *r, size_t i);

/* Open a channel to a peer on the relay with this instance URL (ours or a foreign one, then ip may help). Returns its
 * id; 0 when our home is not connected, the URL is unusable, or something is full. up or gone follows. */
uint32_t client_relays_open(struct client_relays *r, const char *peer_key, const char *url, const struct nb_addr *ip,
			    void *user, struct nb_time now);
/* gone does not come. 0 is allowed. */
void client_relays_close(struct client_relays *r, uint32_t channel);

/* The driver's reports. ip: the remote address; rtt_ns: the round trip there, 0 when not known. */
void client_relays_opened(struct client_relays *r, unsigned id, const struct nb_addr *ip, int64_t rtt_ns, struct nb_time now);
void client_relays_message(struct client_relays *r, unsigned id, struct nb_bytes in, struct nb_time now);
void client_relays_lost(struct client_relays *r, unsigned id, const char *why, struct nb_time now);
/* The network came back or changed: dial at once instead of waiting. */
void client_relays_hurry(struct client_relays *r, struct nb_time now);

void client_relays_timer(struct client_relays *r, struct nb_time now);
struct nb_time client_relays_deadline(const struct client_relays *r);

#endif
