/* engine.h - what a running agent decides: the network map becomes peers, each peer a connection
 * (client/conn.h) and a WireGuard peer; STUN and TURN servers; the state that `status` shows.
 * Pure: protobuf messages, datagrams, look-up answers and time in; calls to the ops below out. The
 * driver (run/agent.h) owns sockets, the data-plane thread, the interface and the control connections.
 * Sources: spec/client.md 2.6, spec/management-protocol.md 5.5, spec/peer-connection.md.
 * Tests: tests/unit/client_engine_test.c */
#ifndef NB_CLIENT_ENGINE_H
#define NB_CLIENT_ENGINE_H

#include "base/arena.h"
#include "client/config.h"
#include "client/conn.h"
#include "client/lazy.h"
#include "filter/filter.h"
#include "proto/daemon.pb-c.h"
#include "proto/management.pb-c.h"
#include "proto/nestbox.pb-c.h"
#include "proto/relaymsg.h"
#include "wg/wg.h"

#define CLIENT_PEERS_MAX 16384	/* remote peers of one agent */
#define CLIENT_TURN_MAX 4	/* TURN allocations: the shared port, one each server */

struct client_engine;

/* A WireGuard peer as the map wants it. */
struct client_wg_peer {
	const uint8_t *key;			/* 32 bytes */
	const struct nb_prefix *allowed;
	size_t nallowed;
	const uint8_t *psk;			/* 32 bytes or NULL */
	uint16_t keepalive;			/* seconds */
};

struct client_engine_ops {
	/* Give the interface its addresses (v6 NULL: none) and MTU, create it if necessary. Returns 0 or
	 * NB_E_*; the engine then reports the failure as its state. */
	int (*iface)(void *arg, const struct nb_prefix *v4, const struct nb_prefix *v6, int mtu);
	void (*peer_set)(void *arg, const struct client_wg_peer *p);
	void (*peer_remove)(void *arg, const uint8_t key[NB_KEY_LEN]);
	/* Put this table of access rules, now the driver's, in force: before the peers of the same map. */
	void (*filter)(void *arg, struct filter_table *t);
	void (*peer_reset)(void *arg, const uint8_t key[NB_KEY_LEN]);
	void (*peer_endpoint)(void *arg, const uint8_t key[NB_KEY_LEN], const struct wg_ep *ep, bool handshake);
	/* A WireGuard message that came in a TURN Data indication. */
	void (*deliver)(void *arg, const struct wg_ep *from, struct nb_bytes data);
	/* Data-plane support for this TURN server's ChannelData on or off. */
	void (*turn_server)(void *arg, const struct nb_endpoint *server, bool on);
	/* Send from the shared port. from: family 0 for any address. */
	void (*dgram)(void *arg, const struct nb_endpoint *to, const struct nb_addr *from, struct nb_bytes data);
	/* Seal and send to a peer through signal. */
	void (*signal)(void *arg, const uint8_t key[NB_KEY_LEN], const struct client_signal_msg *m);
	/* Look a host name up; answered with client_engine_resolved(id, ...), never from inside. Returns 0, or an
	 * error when there will be no answer (asked again later). */
	int (*lookup)(void *arg, unsigned id, const char *host, uint16_t port);
	/* Our own address changed: stop this engine and start a new one, after this call has returned. */
	void (*restart)(void *arg, const char *why);
	/* Something that status shows has changed. */
	void (*changed)(void *arg);
	/* One entry of the event history. */
	void (*event)(void *arg, const char *message);
	/* Connections to relays, as in client/relay_client.h, and to TURN servers (turn: url only names host, port and whether
	 * there is TLS): dial, queue a message, give up. */
	void (*link_dial)(void *arg, unsigned id, bool turn, const struct relaymsg_url *url, const struct nb_addr *ip);
	void (*link_send)(void *arg, unsigned id, struct nb_bytes head, struct nb_bytes body);
	void (*link_hang_up)(void *arg, unsigned id);
	/* Name a channel on a connection for endpoints of kind STREAM (run/link.h); an empty key forgets it. */
	void (*link_channel)(void *arg, unsigned id, uint32_t channel, struct nb_bytes key);
};

struct client_engine_config {
	const struct client_engine_ops *ops;
	void *arg;
	const struct client_config *cfg;	/* borrowed */
	uint8_t public_key[NB_KEY_LEN];
	uint16_t port;				/* the shared UDP port */
	bool force_relay, relay_only;
	enum client_lazy_force lazy;	/* over management's word */
	int64_t idle_ns;		/* without data a connection is kept that long; 0: CLIENT_LAZY_IDLE_NS */
	const char *home_relays;		/* NB_HOME_RELAY_SERVERS: instead of management's list; NULL or ""; borrowed */
	nb_random_fn random;
	void *random_ctx;
};

/* NULL without memory. */
struct client_engine *client_engine_new(const struct client_engine_config *cfg, struct nb_time now);
/* The last thing before the free, while datagrams can still be sent: gives TURN allocations back. */
void client_engine_stop(struct client_engine *e, struct nb_time now);
/* Closes all connections silently; peers in the data plane are the driver's to drop. */
void client_engine_free(struct client_engine *e);

/* The Login answer: own address and name. Returns 0, NB_E_BAD (unusable address), or what ops.iface said. */
int client_engine_login(struct client_engine *e, const Management__LoginResponse *r, struct nb_time now);
/* One message of the Sync stream. A malformed part is skipped and counted, never half applied. */
void client_engine_sync(struct client_engine *e, const Management__SyncResponse *r, struct nb_time now);
/* A new Sync stream is opened: its first map counts whatever its serial, for the server may have been restored
 * from a backup. */
void client_engine_sync_begins(struct client_engine *e);
/* A signal message, opened and decoded, from this key. Strangers are ignored. */
void client_engine_signal(struct client_engine *e, const uint8_t key[NB_KEY_LEN], const struct client_signal_msg *m,
			  struct nb_time now);
/* The signal stream is up (again). */
void client_engine_signal_ready(struct client_engine *e, struct nb_time now);
/* It is down: no connection is closed for being idle, for it could not be opened again. */
void client_engine_signal_lost(struct client_engine *e);
/* Usable interface addresses. hard: addresses changed or a default route moved. */
void client_engine_hosts(struct client_engine *e, const struct nb_addr *hosts, size_t n, bool hard, struct nb_time now);
/* Interfaces with usable addresses that the configuration leaves out ("eth0, wlan0"), for people. */
void client_engine_left_out(struct client_engine *e, const char *names);
/* The machine or the process stood still for so long. To be called first of all afterwards. */
void client_engine_woke(struct client_engine *e, int64_t slept_ns, struct nb_time now);
/* A server that was away is back: relays are likely to be, too. */
void client_engine_hurry(struct client_engine *e, struct nb_time now);
/* The gateway forwards this endpoint to the shared port; port 0: no longer. Address 0.0.0.0: it does not know its own. */
void client_engine_mapped(struct client_engine *e, const struct nb_endpoint *external, struct nb_time now);
/* A datagram of the shared port that is not WireGuard. */
void client_engine_dgram(struct client_engine *e, const struct nb_endpoint *from, const struct nb_endpoint *to,
			 struct nb_bytes data, struct nb_time now);
/* Answer to ops.lookup; n 0: the name has no address now (asked again later). */
void client_engine_resolved(struct client_engine *e, unsigned id, const struct nb_addr *addrs, size_t n,
			    struct nb_time now);
/* What the data plane reports of a peer. */
void client_engine_wg_event(struct client_engine *e, enum wg_event_kind kind, const uint8_t key[NB_KEY_LEN],
			    const struct wg_ep *ep, struct nb_time now);
/* Counters of a peer for the next status. */
void client_engine_wg_stats(struct client_engine *e, const uint8_t key[NB_KEY_LEN], const struct wg_peer_stats *s);

/* Connections: as client_relays_opened(), _message(), _lost(). */
void client_engine_link_opened(struct client_engine *e, unsigned id, const struct nb_addr *ip, int64_t rtt_ns,
			       struct nb_time now);
void client_engine_link_message(struct client_engine *e, unsigned id, struct nb_bytes in, struct nb_time now);
void client_engine_link_lost(struct client_engine *e, unsigned id, const char *why, struct nb_time now);

struct nb_time client_engine_deadline(const struct client_engine *e);
void client_engine_timer(struct client_engine *e, struct nb_time now);

/* A map was received: the agent counts as connected. */
bool client_engine_has_map(const struct client_engine *e);
size_t client_engine_peers(const struct client_engine *e);
/* Fill in localPeerState, peers and relays, all memory from a. wall: now, to turn ages into times. Returns 0 or NB_E_NOMEM. */
int client_engine_status(const struct client_engine *e, Daemon__FullStatus *s, struct nb_arena *a, struct nb_time now,
			 struct nb_wall wall);
/* Everything about the ways to the peer of this name (whole, or before the first dot), address or key, all memory from a.
 * Returns 0, NB_E_NOTFOUND or NB_E_NOMEM. */
int client_engine_paths(const struct client_engine *e, const char *peer, Nestbox__PeerPaths **out, struct nb_arena *a,
			struct nb_time now, struct nb_wall wall);

#endif
