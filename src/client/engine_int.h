/* engine_int.h - inside the engine: engine.c takes the network map apart and drives connections,
 * engine_lazy.c opens and closes them, engine_filter.c has the access rules, engine_relay.c ties relay channels to
 * connections, engine_servers.c keeps STUN and TURN servers, engine_nat.c measures our NAT with them, engine_status.c
 * describes it all to the daemon. */
#ifndef NB_CLIENT_ENGINE_INT_H
#define NB_CLIENT_ENGINE_INT_H

#include "base/list.h"
#include "client/engine.h"
#include "client/lazy.h"
#include "client/relay_client.h"
#include "ice/turn_client.h"

#define SERVERS_MAX 8		/* STUN and TURN servers together */
#define SERVER_URI_MAX 280
#define ALLOWED_MAX 64		/* prefixes of one peer's overlay addresses */

/* One remote peer of the map. */
struct engine_peer {
	struct client_engine *e;
	uint8_t key[NB_KEY_LEN];
	char key_text[NB_KEY_TEXT_LEN];
	char *fqdn;
	char version[48];
	struct nb_prefix *allowed;
	size_t nallowed;
	struct client_conn *conn;	/* NULL while the peer sleeps: it costs nothing but this struct then */
	struct nb_list open;		/* of those that have a connection */
	struct client_lazy lazy;
	bool can_sleep;			/* its version can */
	bool needed;			/* forwarded connections end at it: it may not */
	struct nb_time closed;		/* when it fell asleep; 0: it was never awake */
	uint32_t channel;		/* on a relay; 0: none */
	bool in_map;			/* mark of the sweep after a map */
	/* An endpoint that waits for its TURN channel. */
	bool on_turn;			/* the path leads through a TURN allocation, ours or the peer's */
	bool waits_channel, waits_handshake;
	unsigned waits_via;
	struct nb_endpoint waits_remote;
	struct wg_peer_stats stats;	/* as of the last snapshot */
};

enum server_state {
	SERVER_LOOKUP,		/* name not resolved yet */
	SERVER_CHECKING,	/* Binding request under way */
	SERVER_OK,
	SERVER_DOWN,		/* error says why; tried again at retry_at */
	SERVER_STANDBY,		/* TURN over a stream, while an allocation over UDP does */
};

/* A STUN or TURN server from management. */
struct engine_server {
	bool turn;
	char uri[SERVER_URI_MAX];
	char host[256];
	uint16_t port;
	char user[256], password[256];
	struct nb_endpoint addr[2];	/* resolved: IPv4, IPv6 */
	size_t naddr;
	enum server_state state;
	const char *error;
	unsigned tries;
	unsigned fails;			/* in a row, of allocations and their connections */
	struct nb_time retry_at;
	uint8_t txid[12];		/* of the Binding request under way */
	/* TURN */
	bool stream, tls;		/* reached by TCP, or TLS over it; has no addr then */
	unsigned link;			/* its connection; 0: none */
	char why[160];			/* what is wrong, when error is NULL */
	struct turn_client *client;
	unsigned via;			/* 1-based place in client_network.relayed; 0: none */
	struct nb_endpoint early_from;	/* a WireGuard message that came before its channel */
	uint8_t early[1600];
	size_t nearly;
};

/* Our address as one server sees it. */
struct engine_gather {
	struct nb_endpoint server, mapped;	/* mapped.port 0: not known */
	struct nb_time answered;
	struct nb_time next;			/* never: nothing asked now */
	unsigned tries;
	uint8_t txid[12];
};

/* What our NAT does, measured a while after each change of network. */
struct engine_nat {
	struct ice_nat m;
	bool running;
	struct nb_time start_at;	/* never: nothing to measure now */
	struct ice_nat_report last;	/* the last result, also of another network, and when it was had */
	struct nb_time last_at;
};

struct client_engine {
	struct client_engine_config cfg;
	char self_key[NB_KEY_TEXT_LEN];
	struct client_network net;
	struct ice_demux demux;
	struct nb_map peers;		/* raw key -> engine_peer */
	struct nb_list open;		/* engine_peer.open */
	struct nb_time lazy_at;		/* no connection may be closed earlier */
	bool signal_up;
	struct nb_time next;		/* no connection is due earlier */
	struct engine_server servers[SERVERS_MAX];
	size_t nservers;
	struct engine_gather gather[ICE_SERVERS_MAX];
	size_t ngather;
	struct engine_nat nat;
	unsigned turn_links;		/* connections to servers so far */
	unsigned server_epoch;		/* answers to look-ups of an older list are ignored */
	struct client_relays *relays;
	struct nb_time relay_now;	/* the time, for its callbacks */
	uint64_t filter_seed[2], filter_digest;	/* of the access rules in force */
	bool has_filter;
	struct nb_prefix v4, v6;	/* own overlay addresses; v6.addr.family 0: none */
	char address[64];		/* peerConfig.address as sent: compared as text */
	char *fqdn;
	bool has_map;
	bool lazy;			/* in force: management's word, unless the environment has one */
	uint64_t serial;
	uint64_t skipped;		/* malformed parts of maps */
	size_t offline;
};

/* Do what a connection wants done; afterwards its deadline is taken into e->next. */
void client_engine_drain(struct client_engine *e, struct engine_peer *p, struct nb_time now);

/* engine_lazy.c */
/* Who wants a connection: a packet of ours (or it may not sleep), a signal message of the peer, or a WireGuard message. */
enum engine_caller { ENGINE_OURS, ENGINE_CALLED, ENGINE_HEARD };
/* Have a connection to the peer. Without memory there is none, and the next packet asks again. */
void client_engine_wake(struct client_engine *e, struct engine_peer *p, enum engine_caller who, struct nb_time now);
/* Forget the connection and what it holds, silently. */
void client_engine_drop_conn(struct engine_peer *p);
void client_engine_told_to_sleep(struct client_engine *e, struct engine_peer *p, struct nb_time now);
/* A map was taken: who may sleep now, and who may not any more. */
void client_engine_lazy_take(struct client_engine *e, const Management__NetworkMap *map, struct nb_time now);
void client_engine_lazy_flag(struct client_engine *e, bool management, struct nb_time now);
/* A connection got or lost its path. */
void client_engine_lazy_look(struct client_engine *e, const struct engine_peer *p, struct nb_time now);
void client_engine_lazy_timer(struct client_engine *e, struct nb_time now);

/* engine_filter.c: put the map's access rules in force, if they changed. */
void client_filter_take(struct client_engine *e, const Management__NetworkMap *map);

/* engine_relay.c */
int client_engine_relays_new(struct client_engine *e);
/* A NetbirdConfig: without relays means none (spec/relay-protocol.md 4.3). */
void client_engine_relays_update(struct client_engine *e, const Management__NetbirdConfig *c, struct nb_time now);
void client_engine_relay_open_channel(struct client_engine *e, struct engine_peer *p, const struct client_conn_event *ev,
				      struct nb_time now);

/* engine_servers.c */
/* Take over the lists of a NetbirdConfig (empty lists keep the old ones). */
void client_servers_update(struct client_engine *e, const Management__NetbirdConfig *c, struct nb_time now);
void client_servers_resolved(struct client_engine *e, unsigned id, const struct nb_addr *addrs, size_t n, struct nb_time now);
/* Consume a datagram that is from a TURN server or answers one of our Binding requests. */
bool client_servers_dgram(struct client_engine *e, const struct nb_endpoint *from, struct nb_bytes data, struct nb_time now);
void client_servers_timer(struct client_engine *e, struct nb_time now);
struct nb_time client_servers_deadline(const struct client_engine *e);
/* Send through allocation via - 1. */
void client_servers_send(struct client_engine *e, unsigned via, const struct nb_endpoint *to, struct nb_bytes data,
		  struct nb_time now);
/* A path through TURN died: find out whether the servers still know our allocations. */
void client_servers_doubt(struct client_engine *e, struct nb_time now);
/* Our address changed: make allocations anew, check servers again. */
void client_servers_moved(struct client_engine *e, struct nb_time now);
/* Connections to TURN servers have ids with the top bit set. */
#define SERVER_LINK 0x80000000u
void client_servers_link_opened(struct client_engine *e, unsigned id, struct nb_time now);
void client_servers_link_message(struct client_engine *e, unsigned id, struct nb_bytes in, struct nb_time now);
void client_servers_link_lost(struct client_engine *e, unsigned id, const char *why, struct nb_time now);
void client_servers_permit(struct client_engine *e, const struct nb_addr *peer, struct nb_time now);
/* Point a peer's WireGuard endpoint at a TURN channel, at once or when it is bound. */
void client_servers_bind(struct client_engine *e, struct engine_peer *p, unsigned via, const struct nb_endpoint *remote,
		  bool handshake, struct nb_time now);
/* Give allocations back, as far as one message each does it. */
void client_servers_stop(struct client_engine *e, struct nb_time now);
void client_servers_free(struct client_engine *e);

/* engine_status.c: why a peer without a connection has none. */
const char *client_engine_why_asleep(const struct engine_peer *p);

/* engine_paths.c: in words. NULL without memory. */
Nestbox__NatView *client_nat_view(const struct ice_nat_report *r, struct nb_arena *a);

/* engine_gather.c */
/* The list of servers or their addresses changed: new ones are asked. */
void client_gather_servers(struct client_engine *e, struct nb_time now);
/* A session begins: ask those whose last answer is not fresh. */
void client_gather_want(struct client_engine *e, struct nb_time now);
/* We are on another network: what was known means nothing. */
void client_gather_moved(struct client_engine *e, struct nb_time now);
/* Consume an answer. changed: connections are to look at client_network again. */
bool client_gather_dgram(struct client_engine *e, const struct nb_endpoint *from, struct nb_bytes data, bool *changed,
			 struct nb_time now);
void client_gather_timer(struct client_engine *e, struct nb_time now);
struct nb_time client_gather_deadline(const struct client_engine *e);

/* engine_nat.c */
/* There is a server we did not know, or (moved) we are on another network: measure soon. */
void client_nat_schedule(struct client_engine *e, bool moved, struct nb_time now);
/* Consume a datagram that belongs to a measurement. */
bool client_nat_dgram(struct client_engine *e, const struct nb_endpoint *from, struct nb_bytes data, struct nb_time now);
void client_nat_timer(struct client_engine *e, struct nb_time now);
struct nb_time client_nat_deadline(const struct client_engine *e);

#endif
