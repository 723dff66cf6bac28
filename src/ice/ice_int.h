/* ice_int.h - what the files of the agent share: its state. Only src/ice/{candidate,agent,check,
 * demux}.c include it. */
#ifndef NB_ICE_ICE_INT_H
#define NB_ICE_ICE_INT_H

#include "ice/ice.h"

#define ICE_TAG_LEN 4		/* start of every transaction id: which agent */
#define ICE_NONCE_LEN 8		/* the rest of it: which request */
#define ICE_PENDING 8		/* unanswered requests remembered per pair */
#define ICE_ANSWERS 32		/* answers waiting for ice_output() */
#define ICE_EVENTS 16
#define ICE_PRFLX_MAX 16	/* learned remote candidates, so that signalled ones still fit */
#define ICE_TRIES 8		/* checks at full rate, then slowly */
#define ICE_SLOW_MS 1000
#define ICE_PENDING_MS 4000	/* later answers are not ours any more */
#define ICE_TRIGGER_MS 50	/* at least this between checks that the other side provokes */
#define ICE_CONSENT_MS 30000	/* RFC 7675 5.1: no answer for this long ends the consent */
/* A selected pair that does not answer. With a reason to doubt it (ice_probe) the first numbers count. */
#define ICE_PROBE_MS 100	/* between checks, or half a round trip if that is longer */
#define ICE_PROBE_SILENT_MS 600	/* without an answer, or four round trips */
#define ICE_AGAIN_MS 350	/* the same without reason, or two round trips */
#define ICE_SILENT_MS 2000
#define ICE_AGAIN_MAX 6		/* checks in a row without an answer before the usual rate takes over; so many that loss is no cause */
#define ICE_PROBE_GAP_MS 500	/* an answer so fresh removes the doubt */
#define ICE_IDLE_GRACE_MS 3000	/* the controlled side leaves idle checks to the other one, this much longer */
#define ICE_PAIR_ID_MAX (2 * ICE_CID_MAX + 1)

enum ice_pair_state {
	ICE_PAIR_WAITING,	/* never checked */
	ICE_PAIR_PROGRESS,	/* checked, no answer yet */
	ICE_PAIR_SUCCEEDED,
};

struct ice_pending {
	uint8_t nonce[ICE_NONCE_LEN];
	struct nb_time sent;	/* 0: empty */
	bool nominating;	/* carried USE-CANDIDATE */
	bool controlling;	/* role it was sent in */
};

/* One path to one remote address. Local candidates behind the same socket share it. */
struct ice_pair {
	uint8_t local;		/* index: the best local candidate of this via and family */
	uint8_t label;		/* index: the local candidate the controlling side named */
	uint8_t remote;
	uint8_t state;		/* enum ice_pair_state */
	uint8_t tries;		/* checks without an answer */
	uint8_t pending_at;
	bool nominated;		/* controlled: the other side wants it, select on success */
	bool conflict;		/* the last answer was a role conflict */
	bool provoked;		/* the other side's checks came this way */
	uint16_t checks;	/* sent in all, for people */
	uint16_t error;		/* STUN error code of the last refusal */
	uint64_t priority;
	struct nb_time next;	/* next check, or never */
	struct nb_time last_sent;
	struct nb_time heard;
	int64_t rtt_ns;
	struct ice_pending pending[ICE_PENDING];
};

struct ice_local {
	struct ice_candidate c;
	bool announced;
};

struct ice_server {
	struct nb_endpoint at;
	uint16_t port;
	uint8_t nonce[ICE_NONCE_LEN];
	uint8_t tries;
	struct nb_time next;	/* never: answered or given up */
	struct nb_time give_up;
};

/* An answer to a request, encoded when it is sent. */
struct ice_answer {
	struct nb_endpoint to;
	struct nb_endpoint from;
	unsigned via;
	uint8_t txid[12];
	bool conflict;		/* 487 instead of success */
	uint8_t pair_id_len;
	char pair_id[ICE_PAIR_ID_MAX];
};

struct ice_agent {
	struct ice_config cfg;	/* texts point to the fields below */
	char local_ufrag[ICE_UFRAG_MAX + 1], local_pwd[ICE_PWD_MAX + 1];
	char remote_ufrag[ICE_UFRAG_MAX + 1], remote_pwd[ICE_PWD_MAX + 1];
	uint8_t tag[ICE_TAG_LEN];
	uint64_t tie_breaker;
	bool controlling;
	enum ice_state state;
	struct nb_time started;
	struct nb_time pace;		/* no check before this */
	struct nb_time active_since, active_until;	/* with idle_ms only */
	struct nb_time answered;	/* last success response on the selected pair */
	struct nb_time asked;		/* first check on it since then; never: none */
	unsigned asks;			/* how many */
	bool doubted, silent_told;	/* ice_probe(); ICE_EV_SILENT was said */
	int selected;			/* pair index, -1 none */
	int nominating;			/* controlling: pair being nominated, -1 none */

	/* Tables that grow to their caps: most agents need a few entries of each. */
	unsigned nlocals, nremotes, npairs, nanswers, nservers;
	unsigned locals_cap, remotes_cap, pairs_cap, answers_cap;
	struct ice_local *locals;
	struct ice_candidate *remotes;
	struct ice_pair *pairs;
	struct ice_answer *answers;	/* oldest first */
	struct ice_server servers[ICE_SERVERS_MAX];

	uint8_t events[ICE_EVENTS];	/* enum ice_event_type */
	unsigned events_at, nevents;
	struct ice_stats stats;
};

/* candidate.c */
void ice_candidate_complete(struct ice_candidate *c);	/* fill in fields that are 0 */
void ice_random_text(char *out, size_t n, const char *alphabet, unsigned letters,
		     nb_random_fn random, void *random_ctx);

/* agent.c */
/* Room for one more element of `size` bytes in a table of n; it grows to max. Returns 0, NB_E_FULL or
 * NB_E_NOMEM. */
int ice_grow(void *table, unsigned *cap, unsigned n, unsigned max, size_t size);
struct ice_pair *ice_pair_find(struct ice_agent *a, unsigned via, const struct nb_endpoint *remote);
/* The local candidate that stands for the path of this one. */
unsigned ice_best_local(const struct ice_agent *a, unsigned like);
int ice_remote_find(const struct ice_agent *a, const struct nb_endpoint *at);
/* Remember a remote candidate and pair it; returns its index or a negative error. */
int ice_remote_insert(struct ice_agent *a, const struct ice_candidate *c, struct nb_time now);
int ice_add_local_reflexive(struct ice_agent *a, const struct nb_endpoint *mapped, uint16_t port,
			    struct nb_time now);
void ice_push_event(struct ice_agent *a, enum ice_event_type type);
void ice_select(struct ice_agent *a, struct ice_pair *p, struct nb_time now);
void ice_switch_role(struct ice_agent *a, bool controlling, struct nb_time now);
/* A check on the selected pair was answered. */
void ice_selected_answers(struct ice_agent *a, struct ice_pair *p, struct nb_time now);
/* The selected pair was heard: it is alive, or alive again. */
void ice_pair_heard(struct ice_agent *a, struct ice_pair *p, struct nb_time now);

/* check.c */
int ice_write_check(struct ice_agent *a, struct ice_pair *p, struct nb_dgram *out, struct nb_time now);
int ice_write_answer(struct ice_agent *a, struct nb_dgram *out, unsigned *via);
int ice_write_gather(struct ice_agent *a, struct ice_server *s, struct nb_dgram *out);

#endif
