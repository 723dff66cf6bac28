/* conn.h - one peer connection of the agent, spec/peer-connection.md section 1: offers and answers,
 * session ids, the reconnect schedule, one ICE agent per session, and from its outcome the endpoint
 * WireGuard shall use. Pure: signal messages, STUN datagrams and time in; signal messages, datagrams,
 * events and the next deadline out. The engine (client/engine.h) owns the connections, the shared
 * socket and the TURN allocations; what a network map means is not known here.
 * Tests: tests/unit/client_conn_test.c, tests/sim/client_conn_sim_test.c, tests/fuzz/client_conn_fuzz.c */
#ifndef NB_CLIENT_CONN_H
#define NB_CLIENT_CONN_H

#include "base/time.h"
#include "ice/ice.h"
#include "ice/nat.h"
#include "wg/wg.h"

#define CLIENT_SESSION_LEN 5		/* bytes of a session id */
#define CLIENT_RELAY_URL_MAX 256
#define CLIENT_EARLY_MAX 16		/* candidates kept for an agent that does not exist yet, 10 s */

/* Signal body types this module handles (spec/signal-protocol.md 3.2). */
enum client_signal_type {
	CLIENT_SIGNAL_OFFER = 0,
	CLIENT_SIGNAL_ANSWER = 1,
	CLIENT_SIGNAL_CANDIDATE = 2,
	CLIENT_SIGNAL_GO_IDLE = 5,
	CLIENT_SIGNAL_NAT = 20000,	/* ours: what the sender's NAT does; only to peers that are ours, too */
};

/* One signal message to or from the other peer, decoded. */
struct client_signal_msg {
	enum client_signal_type type;
	/* OFFER, ANSWER */
	char ufrag[ICE_UFRAG_MAX + 1];		/* "" both: the sender has no ICE */
	char pwd[ICE_PWD_MAX + 1];
	bool has_session;			/* false too when the id had another length */
	uint8_t session[CLIENT_SESSION_LEN];
	uint16_t wg_port;
	char version[32];
	char relay_url[CLIENT_RELAY_URL_MAX];	/* "" when the sender is on no relay */
	struct nb_addr relay_ip;		/* family 0 when absent */
	bool rare_checks;			/* one of ours, which knows ice_config.idle_ms */
	bool path_lost;				/* one of ours that hears nothing over ICE's path and left it */
	/* The same, and NAT */
	struct ice_nat_report nat;		/* of the sender; all unknown when it does not say. No address in it */
	bool relay_only;			/* the sender may use TURN candidates only */
	/* CANDIDATE */
	char candidate[ICE_CANDIDATE_TEXT];
};

/* What all connections of an agent share; the engine keeps it up to date and calls
 * client_conn_network_changed() after a change. */
struct client_network {
	struct nb_addr hosts[ICE_LOCAL_MAX];	/* usable interface addresses */
	size_t nhosts;
	uint16_t port;				/* shared UDP port */
	struct nb_endpoint stun[ICE_SERVERS_MAX];	/* STUN and TURN servers, resolved */
	size_t nstun;
	struct nb_endpoint reflexive[ICE_SERVERS_MAX];	/* or what they have answered already: see CLIENT_CONN_GATHER */
	size_t nreflexive;
	struct nb_endpoint relayed[4];		/* TURN allocations: address of via i + 1; family 0 while absent */
	uint32_t relayed_priority[4];	/* of their candidates */
	size_t nrelayed;
	struct nb_endpoint mapped;		/* where the gateway forwards to our port; port 0: no mapping; address
						 * 0.0.0.0: not known, taken from STUN */
	char relay_url[CLIENT_RELAY_URL_MAX];	/* our home relay when connected, else "" */
	struct nb_addr relay_ip;
	bool relay_configured;		/* management named relays, connected or not */
	const char *version;			/* NB_COMPAT */
	bool force_relay;			/* no ICE at all (NB_FORCE_RELAY) */
	bool relay_only;			/* TURN candidates only (NB_ICE_FORCE_RELAY_CONN) */
	struct ice_nat_report nat;		/* in front of us, as far as it was measured */
	char blacklisted[128];			/* interfaces with addresses that the configuration leaves out; for people */
	/* Milliseconds, 0 for the default (NB_ICE_KEEP_ALIVE_INTERVAL_SEC, NB_ICE_DISCONNECTED_TIMEOUT_SEC,
	 * NB_ICE_FAILED_TIMEOUT_SEC, NB_ICE_RELAY_ACCEPTANCE_MIN_WAIT_SEC); read when an agent is made. */
	unsigned keepalive_ms, disconnected_ms, failed_ms, accept_relay_ms;
};

struct client_conn_config {
	char self_key[NB_KEY_TEXT_LEN];		/* base64; decide the roles */
	char peer_key[NB_KEY_TEXT_LEN];
	const struct client_network *net;	/* borrowed for the connection's life */
	struct ice_demux *demux;		/* agents are entered and removed here */
	nb_random_fn random;
	void *random_ctx;
	void *user;				/* client_conn_user() */
};

enum client_conn_path { CLIENT_PATH_NONE, CLIENT_PATH_RELAY, CLIENT_PATH_TURN, CLIENT_PATH_DIRECT };

enum client_conn_event_type {
	CLIENT_CONN_SEND,	/* signal: seal and send to the peer */
	CLIENT_CONN_PERMIT,	/* remote: give this address a permission on every TURN allocation */
	CLIENT_CONN_ENDPOINT,	/* path, remote and via or channel: point WireGuard there. handshake: start one now (we are
				 * the controlling side, or waited long enough). Path TURN: bind a channel first */
	CLIENT_CONN_NO_ENDPOINT,	/* no path: remove WireGuard's endpoint, keep the peer */
	CLIENT_CONN_RESET,	/* the other side was restarted: forget WireGuard's sessions with it */
	CLIENT_CONN_RELAY_OPEN,	/* relay_url, remote.addr (family 0: unknown): open a channel to the peer there; answer with
				 * client_conn_relay_up() or _gone() */
	CLIENT_CONN_RELAY_CLOSE,	/* close that channel, without an answer */
	CLIENT_CONN_CHANGED,	/* client_conn_status() has something new */
	CLIENT_CONN_GATHER,	/* a session begins: client_network.reflexive should be fresh, or become so */
};

struct client_conn_event {
	enum client_conn_event_type type;
	struct client_signal_msg signal;
	enum client_conn_path path;
	struct nb_endpoint remote;
	unsigned via;			/* 0: shared socket; k: TURN allocation k - 1 */
	uint32_t channel;		/* path RELAY */
	bool handshake;
	char relay_url[CLIENT_RELAY_URL_MAX];
};

/* What `netbird status -d` and --json show of a peer. */
struct client_conn_status {
	bool connected;			/* a path exists */
	bool connecting;		/* open, no path */
	enum client_conn_path path;
	enum ice_type local_type, remote_type;	/* valid when path is DIRECT or TURN */
	struct nb_endpoint local, remote;
	int64_t rtt_ns;
	struct nb_time changed;		/* when `connected` changed last */
	char relay_url[CLIENT_RELAY_URL_MAX];	/* the relay we share, else the peer's own, as it said */
	bool relay_up;			/* the relay can carry traffic, as path or standby */
};

struct client_conn;

/* After every call below that takes the time: client_conn_output() and client_conn_event() until both give 0, then
 * sleep to client_conn_deadline(). (CLIENT_PATH_RELAY is NetBird's own relay. One of the datagrams is no STUN: the two
 * bytes of spec 1.7.)
 * Relay and ICE go on in parallel: the relay carries traffic until ICE has a pair, stays open beside it, and takes over
 * the moment ICE loses it; WireGuard's keys survive both (spec 3). */

/* A closed connection: nothing happens before client_conn_open(). cfg is copied. NULL without memory. */
struct client_conn *client_conn_new(const struct client_conn_config *cfg, struct nb_time now);
/* Takes its agent out of the demultiplexer, wipes credentials. NULL is allowed. */
void client_conn_free(struct client_conn *c);
/* New credentials, first OFFER at once. */
void client_conn_open(struct client_conn *c, struct nb_time now);
/* Back to idle: agent gone, CLIENT_CONN_NO_ENDPOINT if there was a path. */
void client_conn_close(struct client_conn *c, struct nb_time now);
bool client_conn_is_open(const struct client_conn *c);

/* A signal message from this peer. A closed connection is opened by anything but GO_IDLE. */
void client_conn_signal(struct client_conn *c, const struct client_signal_msg *m, struct nb_time now);
/* The connection a STUN datagram belongs to, or NULL. */
struct client_conn *client_conn_find(const struct ice_demux *d, struct nb_bytes dgram);
/* A STUN datagram of path via. Returns as ice_input. */
int client_conn_input(struct client_conn *c, const struct nb_dgram *in, unsigned via, struct nb_time now);
/* Run timers; next datagram, as ice_output (room ICE_DGRAM_MAX). 1 or 0. */
int client_conn_output(struct client_conn *c, struct nb_dgram *out, unsigned *via, struct nb_time now);
/* Pull until 0. */
int client_conn_event(struct client_conn *c, struct client_conn_event *ev);
struct nb_time client_conn_deadline(const struct client_conn *c);

/* The signal stream (or management) came back after a loss: re-offer at once unless connected. */
void client_conn_signal_ready(struct client_conn *c, struct nb_time now);
/* The channel asked for with CLIENT_CONN_RELAY_OPEN reaches the peer: id for endpoints. */
void client_conn_relay_up(struct client_conn *c, uint32_t channel, struct nb_time now);
/* There is no such channel, or not any more. */
void client_conn_relay_gone(struct client_conn *c, struct nb_time now);
/* Our home relay is connected (client_network says so): the peer is told, a channel opened. */
void client_conn_relay_ready(struct client_conn *c, struct nb_time now);
/* Our NAT was measured (client_network.nat): a peer of ours is told, unless it knows. */
void client_conn_nat_known(struct client_conn *c, struct nb_time now);
/* client_network changed. Not hard: a TURN allocation, STUN server, relay or port mapping appeared: a running agent takes the new
 * candidates in. hard: interface addresses changed, or (same addresses) the default route: a session that used an
 * address which is gone starts anew at once, as does every session after a route change; where addresses were only
 * added, or lost in a family the path does not use, the session stays. A direct path is kept meanwhile, and WireGuard
 * told to show itself there: peers that can be reached as before follow at once. */
void client_conn_network_changed(struct client_conn *c, bool hard, struct nb_time now);
/* The machine, or this process alone, stood still for so long; to be called before anything else afterwards. A session that
 * cannot have survived it starts anew at once, another one is asked whether it is still there. */
void client_conn_woke(struct client_conn *c, int64_t slept_ns, struct nb_time now);
/* Allocation via - 1 is gone, and with it a path through it: the peer is offered another one. */
void client_conn_via_lost(struct client_conn *c, unsigned via, struct nb_time now);
/* WireGuard finished a handshake (feeds the watcher of 4.3: no handshake 30 s after a path appeared, or
 * 3 min 30 s after the last, closes the path). */
void client_conn_handshake(struct client_conn *c, struct nb_time now);

/* Data passes between us and the peer: the path must be watched closely. */
void client_conn_active(struct client_conn *c, struct nb_time now);
/* WireGuard sends and hears nothing by the path in use. It is asked whether it is still there; if not, traffic goes over
 * the relay within a second, and the peer is told. Without a relay that is up ICE's own patience counts. */
void client_conn_silent(struct client_conn *c, struct nb_time now);
/* WireGuard heard the peer from this address and sends there now. */
void client_conn_roamed(struct client_conn *c, const struct nb_endpoint *to, struct nb_time now);

/* The pairs of the session that runs, or of the last one. At most max; returns how many. */
#define CLIENT_PAIRS_MAX ICE_PAIRS_MAX
size_t client_conn_pairs(const struct client_conn *c, struct ice_pair_report *out, size_t max);
/* One sentence for people: direct because ..., relayed because ..., not connected because ... */
#define CLIENT_WHY_MAX 448
void client_conn_why(const struct client_conn *c, char out[CLIENT_WHY_MAX]);
void client_conn_status(const struct client_conn *c, struct client_conn_status *out);
/* The path of client_conn_status() alone; CLIENT_CONN_CHANGED tells when it is another one. */
enum client_conn_path client_conn_path(const struct client_conn *c);
/* The pairs that ICE did not make because another one is the same path. */
size_t client_conn_pruned(const struct client_conn *c, struct ice_pair_report *out, size_t max);
/* The last changes of path, oldest first, and why each was made. At most max; returns how many. */
#define CLIENT_STEPS_MAX 12
struct client_conn_step {
	struct nb_time at;
	enum client_conn_path path;
	enum ice_type local_type, remote_type;	/* TURN and DIRECT */
	struct nb_endpoint remote;		/* the same */
	const char *why;			/* a constant */
};
size_t client_conn_steps(const struct client_conn *c, struct client_conn_step *out, size_t max);
/* What the other agent said of itself. */
struct client_conn_peer {
	bool described;			/* since this connection is wanted */
	bool ours;			/* a nestbox */
	bool ice, relay_only;
	struct ice_nat_report nat;
	char relay_url[CLIENT_RELAY_URL_MAX];
};
void client_conn_peer(const struct client_conn *c, struct client_conn_peer *out);
/* The channel on the relay of the two: "none", "opening", "up"; url: where, "" for nowhere. */
const char *client_conn_relay_state(const struct client_conn *c, const char **url);
void *client_conn_user(const struct client_conn *c);
bool client_conn_is_controller(const struct client_conn *c);

#endif
