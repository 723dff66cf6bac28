/* conn_int.h - inside a peer connection (conn.h): what conn.c, conn_signal.c, conn_path.c, conn_session.c and
 * conn_why.c share. Nobody else includes it. */
#ifndef NB_CLIENT_CONN_INT_H
#define NB_CLIENT_CONN_INT_H

#include "client/conn.h"

#define OFFER_FIRST_MS 3000		/* second OFFER after opening; doubles */
#define OFFER_AGAIN_MS 800		/* first OFFER after a loss; doubles */
#define QUEUE_MAX 64

/* What waits for client_conn_event(); signal messages are filled in when they are taken. */
struct conn_queued {
	enum client_conn_event_type type;
	enum client_signal_type signal;
	enum client_conn_path path;
	struct nb_endpoint remote;
	unsigned via;
	uint32_t channel;
	bool handshake;
};

/* Candidates that may belong to an agent that is still to come. */
struct conn_early {
	struct ice_candidate c;
	struct nb_time at;
};

/* The channel on the relay we share with the peer. */
enum conn_relay { NO_RELAY, RELAY_OPENING, RELAY_UP };

/* One ICE agent and what belongs to it only. */
struct conn_session {
	struct ice_agent *agent;
	char ufrag[ICE_UFRAG_MAX + 1];		/* the peer's: one for each life of it */
	bool has_remote;			/* the peer named its session */
	uint8_t remote[CLIENT_SESSION_LEN];
	bool turn;				/* TURN candidates take part */
	struct ice_candidate *announce;		/* ours, to be signalled; kept to repeat them */
	unsigned nannounce, announced;
	struct nb_time repeat_at;
	struct nb_addr peers[ICE_REMOTE_MAX];	/* addresses for permissions */
	unsigned npeers;
};

struct client_conn {
	struct client_conn_config cfg;
	bool open, controller;
	char ufrag[ICE_UFRAG_LEN + 1], pwd[ICE_PWD_LEN + 1];
	uint8_t session_id[CLIENT_SESSION_LEN];
	struct conn_session *session;
	struct ice_pair_report *tried;	/* of the session before, for `why` */
	size_t ntried;
	unsigned tried_locals, tried_remotes;
	struct client_conn_step *steps;	/* a ring of CLIENT_STEPS_MAX, allocated with the first */
	unsigned steps_at, nsteps;
	const char *cause;		/* of the next change of path; a constant, for people */
	struct nb_time now;		/* of the last call that brought the time */

	bool peer_ice;			/* the peer sends credentials, as far as we know */
	bool described;			/* it has said something since we opened */
	bool peer_ours;			/* it is a nestbox: it said so */
	bool peer_relay_only;
	struct ice_nat_report peer_nat;	/* as it said */
	struct ice_nat_report told_nat;	/* what we said last */
	uint16_t peer_port;
	char peer_relay[CLIENT_RELAY_URL_MAX];
	struct nb_addr peer_relay_ip;
	char peer_ufrag[ICE_UFRAG_MAX + 1];	/* another one: the peer has started anew */
	struct conn_early *early;		/* allocated while there are any */
	unsigned nearly;
	struct nb_time early_until;

	struct nb_time offer_at;
	int64_t offer_ms, offer_cap_ms;

	enum conn_relay relay;
	char relay_url[CLIENT_RELAY_URL_MAX];	/* where the channel is, unless NO_RELAY */
	uint32_t channel;

	enum client_conn_path path;	/* in use: ICE's, else the relay */
	enum client_conn_path ice_path;	/* NONE, TURN or DIRECT */
	struct ice_pair_info pair;	/* valid unless ice_path is NONE */
	struct nb_endpoint direct;	/* where the last direct path led; family 0: there was none */
	struct nb_time gained;		/* ICE's path was found; 0 for never */
	unsigned flaps;			/* how often it was lost soon after */
	struct nb_time hold_until;	/* so long the relay is preferred to it: no going back and forth */
	struct nb_time shake_at;	/* begin the handshake once more */
	int64_t shake_ms;
	unsigned shakes;
	bool astray;			/* WireGuard left the relay for an address that ICE has not found */
	bool shown;			/* WireGuard was pointed somewhere though there is no path */
	struct nb_time lost;		/* a direct path was; 0 for never */
	struct nb_time died;		/* it stopped answering; 0 for never */
	bool path_lost;			/* to be said in the next OFFER */
	struct nb_time loose_until;	/* ICE's path has no session any more: no longer than this */
	struct nb_time roamed;		/* WireGuard heard the peer from elsewhere; 0 for never */
	struct nb_time changed;
	unsigned idle_ms;		/* of the next session */
	struct nb_time active;		/* data passed, as far as we know */
	struct nb_time endpoint_at;	/* responder: set the endpoint ourselves */
	struct nb_time punch_at;
	struct nb_time watch_at;
	struct nb_time handshake;	/* last one, 0 for none on this path */

	struct conn_queued queue[QUEUE_MAX];
	unsigned queue_at, nqueue;
};

/* conn.c */
struct conn_queued *client_conn_push(struct client_conn *c, enum client_conn_event_type type);
void client_conn_push_endpoint(struct client_conn *c, bool handshake);
void client_conn_copy_text(char *to, size_t cap, const char *from);

/* conn_signal.c */
int64_t client_conn_random_between(struct client_conn *c, int64_t low, int64_t high);
void client_conn_push_signal(struct client_conn *c, enum client_signal_type type);
void client_conn_describe(const struct client_conn *c, struct client_signal_msg *m);
bool client_conn_take_candidate(struct client_conn *c, struct client_conn_event *ev);
void client_conn_schedule_offer(struct client_conn *c, int64_t ms, struct nb_time now);
void client_conn_run_guard(struct client_conn *c, struct nb_time now);
void client_conn_guard_event(struct client_conn *c, struct nb_time now);
void client_conn_drop_early(struct client_conn *c);
void client_conn_use_early(struct client_conn *c, const char *ufrag, struct nb_time now);

/* conn_path.c */
bool client_conn_is_loose(const struct client_conn *c);
void client_conn_stop_path_timers(struct client_conn *c);
void client_conn_lose_ice(struct client_conn *c, struct nb_time now);
void client_conn_gain_ice(struct client_conn *c, const struct ice_pair_info *pair, struct nb_time now);
void client_conn_change_pair(struct client_conn *c, const struct ice_pair_info *pair);
void client_conn_doubt_flaps(struct client_conn *c, struct nb_time now);
void client_conn_path_died(struct client_conn *c, struct nb_time now);
void client_conn_run_hold(struct client_conn *c, struct nb_time now);
void client_conn_run_loose(struct client_conn *c, struct nb_time now);
bool client_conn_heard_lately(const struct client_conn *c, struct nb_time now);
void client_conn_show_up(struct client_conn *c);
bool client_conn_relay_missing(const struct client_conn *c);
void client_conn_close_relay(struct client_conn *c, struct nb_time now);
void client_conn_open_relay(struct client_conn *c, struct nb_time now);
void client_conn_reset_keys(struct client_conn *c);
void client_conn_run_responder(struct client_conn *c, struct nb_time now);
void client_conn_run_watcher(struct client_conn *c, struct nb_time now);

/* conn_why.c */
/* The path has changed, for the reason in c->cause: remember it. */
void client_conn_note_path(struct client_conn *c, struct nb_time now);

/* conn_session.c */
void client_conn_add_candidate(struct client_conn *c, const struct ice_candidate *cand, struct nb_time now);
void client_conn_run_repeat(struct client_conn *c, struct nb_time now);
void client_conn_new_session_id(struct client_conn *c);
size_t client_conn_report_pairs(const struct ice_agent *a, struct ice_pair_report *out, size_t max);
void client_conn_end_session(struct client_conn *c, struct nb_time now);
void client_conn_drop_session(struct client_conn *c);
void client_conn_note_idle_death(struct client_conn *c, struct nb_time now);
void client_conn_loosen(struct client_conn *c, struct nb_time now);
void client_conn_begin_session(struct client_conn *c, const struct client_signal_msg *m, struct nb_time now);
void client_conn_pump(struct client_conn *c, struct nb_time now);

#endif
