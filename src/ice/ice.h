/* ice.h - the ICE agent (RFC 8445, 8838, 7675) as one peer connection uses it: one component, full
 * trickle, regular nomination, the liveness rules of stock. No sockets, no clock: datagrams, time
 * and candidates in; datagrams, events and the next deadline out. Signalling, TURN clients and the
 * choice of interfaces stay outside. STUN bytes are in ice/stun.h, TURN in ice/turn.h.
 *
 * How a driver uses it:
 *   a = ice_new(&cfg, now);              credentials of both sides are in cfg
 *   ice_demux_add(&demux, a);            so that ice_demux_find() routes datagrams to it
 *   ice_add_local(a, &cand, now);        once per usable address: ice_host_candidate()
 *   ice_add_stun_server(a, &server, now);  server-reflexive candidates are gathered by the agent
 *   ice_add_remote(a, &cand, now);       for each candidate line that arrives: ice_candidate_parse()
 *   loop: ice_input(), then ice_output() until 0 and ice_event() until 0; sleep to ice_deadline().
 * An ICE restart is a new agent. Everything runs on one thread.
 *
 * Paths: `via` 0 is the shared UDP socket, bound to the wildcard address: the system picks the
 * source address, so all candidates of one family behind it are one path. `via` k > 0 is a TURN
 * allocation of the driver, announced with ice_add_local() (type ICE_RELAY, the relayed address):
 * the driver wraps datagrams that ice_output() gives for it and unwraps those it hands to
 * ice_input(). spec/peer-connection.md 1.5-1.9. Tests: tests/unit/ice_*_test.c,
 * tests/sim/ice_sim_test.c, tests/fuzz/ice_fuzz.c, tests/net/test_ice_interop.py */
#ifndef NB_ICE_ICE_H
#define NB_ICE_ICE_H

#include "base/addr.h"
#include "base/map.h"
#include "base/time.h"

/* ---- Candidates (spec/signal-protocol.md 3.3) ---- */

enum ice_type { ICE_HOST, ICE_SRFLX, ICE_PRFLX, ICE_RELAY };

#define ICE_UFRAG_MAX 64	/* longest credentials accepted (ours: 16 and 32 letters) */
#define ICE_PWD_MAX 128
#define ICE_CID_MAX 80		/* longest `cid` kept; longer ones are treated as absent */
#define ICE_CANDIDATE_TEXT 512	/* a candidate line of ours fits, NUL included */

#define ICE_UFRAG_LEN 16	/* what ice_make_credentials() writes */
#define ICE_PWD_LEN 32
#define ICE_CID_LEN 32

struct ice_candidate {
	enum ice_type type;
	uint8_t component;		/* 1 */
	unsigned via;			/* local candidates: path, see above */
	uint32_t priority;		/* 0: computed from the type when added or formatted */
	uint32_t foundation;		/* CRC-32; 0: computed when added or formatted */
	struct nb_endpoint at;
	struct nb_endpoint related;	/* raddr and rport; addr.family 0 when absent */
	char ufrag[ICE_UFRAG_MAX + 1];	/* "" when absent */
	char cid[ICE_CID_MAX + 1];	/* "" when absent */
};

/* "host", "srflx", "prflx", "relay". */
const char *ice_type_name(enum ice_type type);
/* 2^24 typePref + 2^8 65535 + 255 (RFC 8445 5.1.2 with stock's constants). */
uint32_t ice_priority(enum ice_type type);
/* CRC-32 (IEEE) of type, address text and "udp4" or "udp6". */
uint32_t ice_foundation(enum ice_type type, const struct nb_addr *addr);
/* Stock's pair priority: G of the controlling, D of the controlled side. */
uint64_t ice_pair_priority(uint32_t g, uint32_t d);

/* Read a candidate line. text: borrowed; "candidate:" or "a=candidate:" in front is accepted,
 * extensions may come in any order, unknown ones are skipped. Foundation becomes the CRC-32 of what
 * the line describes (the text itself is not kept). Returns 0, NB_E_BAD (malformed) or
 * NB_E_UNSUPPORTED (TCP, host names such as .local, other components, unknown types). */
int ice_candidate_parse(struct ice_candidate *c, struct nb_bytes text);
/* Write the line without "candidate:" in front. raddr and rport are written for srflx and relay with
 * a related address and port. Returns 0. */
int ice_candidate_format(char out[ICE_CANDIDATE_TEXT], const struct ice_candidate *c);
/* The second server-reflexive candidate that stock derives from a received one: type srflx, with a
 * cid, port other than rport. *extra gets port = rport and no cid. Returns true when there is one. */
bool ice_candidate_derive(const struct ice_candidate *c, struct ice_candidate *extra);
/* A local host candidate for one interface address and the shared port. */
void ice_host_candidate(struct ice_candidate *c, const struct nb_addr *addr, uint16_t port);
/* May this interface / address give a host candidate? (the lists in spec/peer-connection.md 1.6; the
 * caller also leaves out WireGuard interfaces, its own tunnel and configured prefixes) */
bool ice_interface_usable(const char *name);
bool ice_address_usable(const struct nb_addr *addr);
/* Random ufrag (16) and pwd (32) from [a-zA-Z], with NUL. */
void ice_make_credentials(char ufrag[ICE_UFRAG_LEN + 1], char pwd[ICE_PWD_LEN + 1],
	nb_random_fn random, void *random_ctx);

/* ---- The agent ---- */

#define ICE_LOCAL_MAX 16	/* local candidates */
#define ICE_REMOTE_MAX 32	/* remote candidates, signalled and learned */
#define ICE_PAIRS_MAX 96	/* candidate pairs */
#define ICE_SERVERS_MAX 8	/* STUN servers (one entry per address) */
#define ICE_DGRAM_MAX 512	/* no datagram of ours is longer; give ice_output() this room */

struct ice_config {
	const char *local_ufrag;	/* copied by ice_new() */
	const char *local_pwd;
	const char *remote_ufrag;
	const char *remote_pwd;
	bool controlling;		/* own base64 key text > the remote one's */
	bool relay_only;		/* use relay candidates only (NB_ICE_FORCE_RELAY_CONN) */
	nb_random_fn random;
	void *random_ctx;
	void *user;			/* ice_user() gives it back */
	/* Milliseconds; ice_config_default() fills in what the specification says. */
	unsigned check_ms;		/* between checks of one pair: 200 */
	unsigned pace_ms;		/* between any two checks of one agent: 5 */
	unsigned hold_ms;		/* controlled side: before its first own checks, 100. They would overtake
					 * our signalled candidates, and stock then waits a second because it
					 * takes us for peer-reflexive */
	unsigned keepalive_ms;		/* 4000; as in stock a request goes out every half of it */
	unsigned disconnected_ms;	/* silence until ICE_EV_DISCONNECTED: 6000 */
	unsigned failed_ms;		/* further silence until ICE_EV_FAILED: 6000; checking gives up
					 * after the sum of both */
	unsigned accept_srflx_ms;	/* acceptance waits of the controlling side: 500, 1000, 2000 */
	unsigned accept_prflx_ms;
	unsigned accept_relay_ms;
	unsigned idle_ms;		/* 0: never rare. Else, while ice_active() is not called, the controlling
					 * side's checks of the selected pair are that far apart and the other
					 * side only answers: both must do it, stock cannot */
	unsigned gather_ms;		/* give up on a STUN server: 5000 */
};

enum ice_state {
	ICE_CHECKING,		/* no selected pair yet */
	ICE_CONNECTED,		/* a pair is selected and alive */
	ICE_DISCONNECTED,	/* silence on the selected pair; may come back */
	ICE_FAILED,		/* final: make a new agent */
};

enum ice_event_type {
	ICE_EV_NONE,
	ICE_EV_CANDIDATE,	/* candidate: a local candidate to signal (cid and ufrag filled in) */
	ICE_EV_CONNECTED,	/* pair: first selection, or alive again after ICE_EV_DISCONNECTED */
	ICE_EV_SELECTED,	/* pair: another pair was selected later on */
	ICE_EV_SILENT,		/* the selected pair does not answer any more: told once, seconds before the other two */
	ICE_EV_DISCONNECTED,
	ICE_EV_FAILED,
};

/* The selected pair as the user of the agent sees it. */
struct ice_pair_info {
	struct ice_candidate local;
	struct ice_candidate remote;
	unsigned via;			/* path to send on */
	int64_t rtt_ns;			/* last measured round trip, 0 before the first */
	struct nb_time heard;		/* last authenticated STUN message on it */
};

struct ice_event {
	enum ice_event_type type;
	struct ice_candidate candidate;
	struct ice_pair_info pair;
};

/* Counters for status and tests. */
struct ice_stats {
	uint32_t checks_sent, responses_sent, responses_received, requests_received;
	uint32_t dropped;		/* input that was malformed, unauthenticated or matched nothing */
};

/* One candidate pair and what became of it, for people. */
enum ice_pair_end {
	ICE_PAIR_UNTRIED,	/* note says why */
	ICE_PAIR_UNANSWERED,	/* so far */
	ICE_PAIR_TIMED_OUT,
	ICE_PAIR_REFUSED,	/* error says with what */
	ICE_PAIR_CONFLICT,	/* both sides took the same role, and that was the last word */
	ICE_PAIR_PRUNED,	/* no pair of its own: it leaves by the same socket as another local candidate */
	ICE_PAIR_WORKS,
	ICE_PAIR_SELECTED,
	ICE_PAIR_WAS_SELECTED,	/* until its session ended */
};
enum ice_pair_note { ICE_NOTE_NONE, ICE_NOTE_WAITS, ICE_NOTE_OTHER_SELECTED, ICE_NOTE_GIVEN_UP };
struct ice_pair_report {
	enum ice_type local_type, remote_type;
	struct nb_endpoint local, remote;
	enum ice_pair_end end;
	int64_t rtt_ns;			/* 0: never measured */
	uint16_t checks;		/* sent */
	uint16_t error;			/* STUN error code of the last refusal, 0 none */
	bool heard;			/* checks of the other side came this way */
	enum ice_pair_note note;
};
#define ICE_PAIR_TEXT 96
/* "no answer to 9 checks", "selected, 0.4 ms" and so on. */
void ice_pair_end_text(char out[ICE_PAIR_TEXT], const struct ice_pair_report *r);

struct ice_agent;

void ice_config_default(struct ice_config *cfg);
/* A running agent: checks begin as soon as there are pairs. cfg: borrowed during the call.
 * NULL without memory or with credentials that are empty or too long. */
struct ice_agent *ice_new(const struct ice_config *cfg, struct nb_time now);
/* Wipes the credentials. Take it out of its demultiplexer first. NULL is allowed. */
void ice_free(struct ice_agent *a);

/* Add a local candidate (host, srflx of a port mapping, relay with its via). Gives ICE_EV_CANDIDATE,
 * except with relay_only for what is not a relay, which is ignored. Returns 0, NB_E_EXISTS (same type,
 * address and via; or a srflx equal to a host candidate), NB_E_FULL, NB_E_ARG. */
int ice_add_local(struct ice_agent *a, const struct ice_candidate *c, struct nb_time now);
/* Ask this server for our mapped address (from via 0); the answer becomes a srflx candidate with
 * rport = port, the shared socket's. Returns 0, NB_E_EXISTS or NB_E_FULL. */
int ice_add_stun_server(struct ice_agent *a, const struct nb_endpoint *server, uint16_t port,
	struct nb_time now);
/* A candidate of the other side; the derived one (ice_candidate_derive) is added by this call too.
 * Returns 0, NB_E_EXISTS (address known; a learned one takes over the signalled data) or NB_E_FULL. */
int ice_add_remote(struct ice_agent *a, const struct ice_candidate *c, struct nb_time now);

/* One STUN datagram of path via. in->from is the remote; in->to may be given (local address): the
 * answer's `from` then repeats it. Returns 0 when it was ours, else a negative value and no change. */
int ice_input(struct ice_agent *a, const struct nb_dgram *in, unsigned via, struct nb_time now);
/* Run due timers and give the next datagram: out->p with room out->cap >= ICE_DGRAM_MAX is the
 * caller's; out->n, out->to, out->from (family 0: any) and *via are set. Returns 1, or 0 when idle. */
int ice_output(struct ice_agent *a, struct nb_dgram *out, unsigned *via, struct nb_time now);
/* The next event; call until it returns 0, after inputs and outputs. */
int ice_event(struct ice_agent *a, struct ice_event *ev);
/* Data passes: check often for the next ICE_ACTIVE_MS. */
#define ICE_ACTIVE_MS 10000
void ice_active(struct ice_agent *a, struct nb_time now);
/* Data goes out on the selected pair and nothing comes back: ask now, and say soon whether it still answers. */
void ice_probe(struct ice_agent *a, struct nb_time now);
/* When to call ice_output() again; a time that has passed when something waits. */
struct nb_time ice_deadline(const struct ice_agent *a);

enum ice_state ice_state(const struct ice_agent *a);
/* The selected pair; false when there is none. */
bool ice_selected(const struct ice_agent *a, struct ice_pair_info *info);
/* The i-th pair; false behind the last. */
bool ice_pair_report(const struct ice_agent *a, unsigned i, struct ice_pair_report *out);
/* The same for pairs that were not made (ICE_PAIR_PRUNED). */
bool ice_pruned_report(const struct ice_agent *a, unsigned i, struct ice_pair_report *out);
/* How many candidates there are of our own and of the other side's, learned ones included. */
void ice_candidate_counts(const struct ice_agent *a, unsigned *local, unsigned *remote);
const struct ice_stats *ice_stats(const struct ice_agent *a);
bool ice_is_controlling(const struct ice_agent *a);
void *ice_user(const struct ice_agent *a);

/* ---- Many agents on one socket ---- */

/* Requests are routed by the receiver's ufrag in USERNAME, responses by the first four bytes of the
 * transaction id, which are the agent's tag. Two hash lookups at most; nothing else is parsed. */
struct ice_demux {
	struct nb_map by_ufrag;
	struct nb_map by_tag;
};

/* seed: 16 random bytes; max: agents at most. */
void ice_demux_init(struct ice_demux *d, const uint8_t seed[16], size_t max);
void ice_demux_fini(struct ice_demux *d);
/* A newer agent with the same ufrag (ICE restart) takes over its requests. Call it before the first
 * ice_output(). Returns 0, NB_E_FULL, NB_E_NOMEM. */
int ice_demux_add(struct ice_demux *d, struct ice_agent *a);
void ice_demux_del(struct ice_demux *d, struct ice_agent *a);
/* The agent a STUN datagram is for, or NULL. */
struct ice_agent *ice_demux_find(const struct ice_demux *d, struct nb_bytes dgram);
/* Is this a STUN datagram as the shared socket sees it? WireGuard's types come first: length >= 32
 * and first word 1..4 is WireGuard (spec/peer-connection.md 2). */
bool ice_is_stun(struct nb_bytes dgram);

#endif
