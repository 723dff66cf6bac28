/* mgmt.h - the control plane: what a management server decides.
 * Accounts live in memory as typed records (nestbox.proto). Every change is one function here: it checks
 * permission and validity, applies to memory and queues one store batch with its activity events.
 * Nothing of a change may leave the process before it is durable: release every answer, of reads too,
 * through mgmt_after_commit; maps wait by themselves. When the disk refuses, memory is rolled back and the waiting
 * answers fail.
 * What must stay out: sockets, clocks, threads, HTTP, JSON, LMDB. Time and randomness come from the driver.
 * Specs: management-protocol.md, management-domain.md, rest-api.md. Tests: tests/unit/mgmt_*_test.c. */
#ifndef NB_MGMT_MGMT_H
#define NB_MGMT_MGMT_H

#include "base/addr.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/time.h"
#include "proto/management.pb-c.h"
#include "proto/nestbox.pb-c.h"

struct mgmt;
struct mgmt_account;
struct store;
struct grpc_service;

/* Shorter names for the records. In a record given to a function below, has_ flags need not be set: a scalar
 * counts as present when it is not zero. */
typedef Nestbox__AccountRecord mgmt_account_rec;
typedef Nestbox__SettingsRecord mgmt_settings_rec;
typedef Nestbox__PeerRecord mgmt_peer_rec;
typedef Nestbox__GroupRecord mgmt_group_rec;
typedef Nestbox__PolicyRecord mgmt_policy_rec;
typedef Nestbox__RuleRecord mgmt_rule_rec;
typedef Nestbox__SetupKeyRecord mgmt_key_rec;
typedef Nestbox__UserRecord mgmt_user_rec;
typedef Nestbox__TokenRecord mgmt_token_rec;
typedef Nestbox__EventRecord mgmt_event_rec;

/* An absent string field reads as "". */
static inline const char *mgmt_str(const char *s)
{
	return s ? s : "";
}

/* ---- errors: NetBird's kinds (management-domain.md section 0) */

enum mgmt_kind {
	MGMT_OK = 0,
	MGMT_USER_EXISTS = 1,
	MGMT_PRECONDITION = 2,
	MGMT_DENIED = 3,
	MGMT_NOT_FOUND = 4,
	MGMT_INTERNAL = 5,
	MGMT_INVALID = 6,
	MGMT_EXISTS = 7,
	MGMT_UNAUTHORIZED = 8,
	MGMT_BAD_REQUEST = 9,
	MGMT_UNAUTHENTICATED = 10,
	MGMT_TOO_MANY = 11,
};

struct mgmt_error {
	enum mgmt_kind kind;
	char message[256];
};

/* Fill in *e (may be NULL); returns kind, so that "return mgmt_fail(...)" works. All functions below that
 * return int return an enum mgmt_kind, 0 when done, with *e filled in otherwise. */
int mgmt_fail(struct mgmt_error *e, enum mgmt_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* HTTP status of a kind; the REST body is the message in lower case, except that MGMT_INTERNAL says
 * "internal server error". */
int mgmt_http_status(enum mgmt_kind kind);
/* gRPC status (grpc.h numbers); *text is e's message, or "failed handling request" where stock hides it. */
int mgmt_grpc_status(const struct mgmt_error *e, const char **text);

/* ---- objects in memory
 * Read freely, never write: a change replaces the record behind rec. The struct pointers stay valid until the
 * object is deleted, rec and its strings until the object's next change. Lists are in the order of ids. */

struct mgmt_peer {
	mgmt_peer_rec *rec;
	struct mgmt_account *account;
	bool connected;
	int64_t last_seen;	/* wall ns; rec->last_seen is what was flushed */
	struct mgmt_peer_state *state;	/* the module's own */
};

struct mgmt_group {
	mgmt_group_rec *rec;
	struct mgmt_account *account;
	struct mgmt_peer **peers;	/* members, by id; of All every peer */
	size_t n_peers;
};

struct mgmt_policy {
	mgmt_policy_rec *rec;
	struct mgmt_account *account;
};

struct mgmt_key {
	mgmt_key_rec *rec;
	struct mgmt_account *account;
};

struct mgmt_user {
	mgmt_user_rec *rec;
	struct mgmt_account *account;
};

struct mgmt_token {
	mgmt_token_rec *rec;
	struct mgmt_account *account;
	int64_t last_used;	/* wall ns; rec->last_used is what was flushed */
};

/* An account's objects. The arrays change with every change of the account. */
struct mgmt_lists {
	struct mgmt_peer *const *peers;
	size_t n_peers;
	struct mgmt_group *const *groups;
	size_t n_groups;
	struct mgmt_policy *const *policies;
	size_t n_policies;
	struct mgmt_key *const *keys;
	size_t n_keys;
	struct mgmt_user *const *users;
	size_t n_users;
	struct mgmt_token *const *tokens;
	size_t n_tokens;
};

/* ---- the control plane */

struct mgmt_turn {
	const char *uri;	/* turn:host:port?transport=udp */
	const char *user, *password;	/* static credentials; ignored with a secret */
};

/* A configured interactive login (section 6.6). Absent: client_id NULL. */
struct mgmt_flow {
	const char *client_id, *client_secret, *domain, *audience;
	const char *device_auth_endpoint, *token_endpoint, *authorization_endpoint;
	const char *scope;
	bool use_id_token, disable_prompt_login;
	uint32_t login_flag;
	const char *const *redirect_urls;
	size_t n_redirect_urls;
};

/* What a checked access token says. Strings may be NULL; user_id never. */
struct mgmt_claims {
	const char *user_id, *email, *name;
	const char *const *groups;	/* of the configured claim */
	size_t n_groups;
	int64_t expires;		/* wall ns */
	bool local;			/* issued by us for a password user: exempt from group rules */
};

/* All strings and arrays are borrowed for the life of the mgmt. */
struct mgmt_config {
	nb_random_fn random;
	void *random_ctx;
	struct nb_bytes map_seed;	/* 16 random bytes for hash tables */
	const char *dns_domain;		/* NULL: netbird.selfhosted */
	bool no_default_policy;
	bool no_events;			/* keep no activity log */
	/* netbirdConfig */
	const char *signal_uri;		/* host:port */
	bool signal_tls;
	const char *const *stuns;	/* stun:host:port */
	size_t n_stuns;
	const struct mgmt_turn *turns;
	size_t n_turns;
	const char *turn_secret;	/* time-limited credentials; NULL: static */
	int64_t turn_ttl;		/* ns; 0: 12 h */
	const char *const *relay_urls;	/* rel://host:port */
	size_t n_relay_urls;
	const char *relay_secret;
	int64_t relay_ttl;		/* ns; 0: 12 h */
	/* interactive login */
	struct mgmt_flow device, pkce;
	/* Check an access token. Returns 0 or fills in e as the peer shall see it; claims live until the next
	 * call. NULL: no interactive login here. */
	int (*check_token)(void *arg, const char *token, struct mgmt_claims *claims, struct mgmt_error *e);
	void *check_token_arg;
	size_t max_in_flight;		/* bytes of maps built and not yet sent, all streams; 0: 64 MiB */
	int max_syncs;			/* Sync set-ups per second in progress; 0: 1000; <0: no limit */
	/* Read the clocks, when a call comes in. NULL: only mgmt_clock sets the time. */
	void (*clock)(void *arg, struct nb_time *now, struct nb_wall *wall);
	void *clock_arg;
	/* Tell the driver that mgmt_deadline may have changed outside mgmt_run. May be NULL. */
	void (*wake)(void *arg);
	void *wake_arg;
};

/* Load everything from the store (borrowed; NULL keeps nothing, for tests) and create the server record
 * on first use. Returns 0 or a kind with *e for people. */
int mgmt_new(struct mgmt **out, const struct mgmt_config *cfg, struct store *store, struct nb_time now,
	     struct nb_wall wall, struct mgmt_error *e);
/* Write last-seen times and free. Every connection that served it must be gone. NULL is allowed. */
void mgmt_free(struct mgmt *m);
/* End every stream (UNAVAILABLE), so that peers reconnect soon; for a shutdown. */
void mgmt_stop(struct mgmt *m);
/* The time: set it before mgmt_run and store_poll. */
void mgmt_clock(struct mgmt *m, struct nb_time now, struct nb_wall wall);
/* Ask cfg.clock for it: call first in every handler that did not come through mgmt_grpc (REST). */
void mgmt_tick(struct mgmt *m);
/* Take over what peers are told about servers and flows from cfg; the next messages carry it. */
void mgmt_reconfigure(struct mgmt *m, const struct mgmt_config *cfg);
/* Run what is due (map pushes, ephemeral peers, expiry, credentials, flushes); next due time. */
void mgmt_run(struct mgmt *m);
struct nb_time mgmt_deadline(const struct mgmt *m);
/* The gRPC service to hang into a connection (management.ManagementService). */
const struct grpc_service *mgmt_grpc(struct mgmt *m);
struct nb_wall mgmt_now(const struct mgmt *m);
/* The public half of the server's box key, base64. */
const char *mgmt_server_key(const struct mgmt *m);
/* A 32-byte secret of this data directory for purpose (a short word), for relay and TURN run beside us. */
void mgmt_secret(const struct mgmt *m, const char *purpose, uint8_t out[32]);

/* Call fn once everything changed so far is durable: at once when nothing is waiting. err: 0, or NB_E_IO when
 * the disk refused and the changes were undone (answer with status 500). fn must not change the domain. */
void mgmt_after_commit(struct mgmt *m, void (*fn)(void *arg, int err), void *arg);
/* Forget every waiting call with this arg (its owner is going away). */
void mgmt_after_commit_forget(struct mgmt *m, void *arg);

/* ---- who asks */

/* user NULL: the system itself, always allowed. */
struct mgmt_actor {
	struct mgmt_account *account;
	const struct mgmt_user *user;
};

enum mgmt_module {
	MGMT_MOD_NETWORKS, MGMT_MOD_PEERS, MGMT_MOD_REMOTE_JOBS, MGMT_MOD_GROUPS, MGMT_MOD_SETTINGS,
	MGMT_MOD_ACCOUNTS, MGMT_MOD_DNS, MGMT_MOD_NAMESERVERS, MGMT_MOD_EVENTS, MGMT_MOD_POLICIES,
	MGMT_MOD_ROUTES, MGMT_MOD_USERS, MGMT_MOD_SETUP_KEYS, MGMT_MOD_PATS, MGMT_MOD_IDENTITY_PROVIDERS,
	MGMT_MOD_SERVICES, MGMT_MOD_COUNT
};
enum mgmt_op { MGMT_OP_CREATE, MGMT_OP_READ, MGMT_OP_UPDATE, MGMT_OP_DELETE };

/* "networks", ... as the API spells them. */
const char *mgmt_module_name(enum mgmt_module mod);
/* Does the role (any text) grant it? Blocked users are not looked at here. */
bool mgmt_role_grants(const char *role, enum mgmt_module mod, enum mgmt_op op);
bool mgmt_role_known(const char *role);
/* 0, or MGMT_DENIED with stock's text. Every changing function below calls it by itself. */
int mgmt_permit(const struct mgmt_actor *who, enum mgmt_module mod, enum mgmt_op op, struct mgmt_error *e);
/* Authenticate a personal access token (nbp_...) and note its use. 0 or MGMT_UNAUTHORIZED "token invalid". */
int mgmt_actor_by_token(struct mgmt *m, const char *token, struct mgmt_actor *who, struct mgmt_error *e);
/* Find or create user (and account) for checked claims; single-account mode. */
int mgmt_actor_by_claims(struct mgmt *m, const struct mgmt_claims *c, struct mgmt_actor *who, struct mgmt_error *e);

/* ---- instance */

/* The only account so far, or NULL before setup. */
struct mgmt_account *mgmt_first_account(const struct mgmt *m);
/* True while there is neither account nor user. */
bool mgmt_setup_required(const struct mgmt *m);
/* Peers of all accounts, and open Sync streams; for metrics. */
void mgmt_count(const struct mgmt *m, size_t *peers, size_t *streams);

struct mgmt_setup {
	const char *email, *name;
	const char *password_hash;	/* nbc_password_hash text; made beforehand on a worker */
	bool create_pat;
	int pat_days;			/* 1..365; 0: 1 */
};
struct mgmt_setup_result {
	char user_id[40];
	char pat[48];			/* "" unless asked for */
	struct {
		char id[24];
		const char *name, *type;	/* "reusable", "one-off" */
		char key[40];
	} keys[2];
};
/* Create owner, account, All, Default and the two keys of the seed. The result holds the only copy of the
 * secrets: wipe it. MGMT_PRECONDITION "setup already completed", MGMT_INVALID. */
int mgmt_setup(struct mgmt *m, const struct mgmt_setup *spec, struct mgmt_setup_result *out, struct mgmt_error *e);
/* Checks that need no hash yet, with stock's texts (email, name, password length, already done). */
int mgmt_setup_check(const struct mgmt *m, const char *email, const char *name, struct nb_bytes password,
		     struct mgmt_error *e);

/* ---- account */

const mgmt_account_rec *mgmt_account_record(const struct mgmt_account *a);
void mgmt_account_lists(const struct mgmt_account *a, struct mgmt_lists *out);
struct mgmt_group *mgmt_group_all(const struct mgmt_account *a);
/* The DNS domain in force. */
const char *mgmt_dns_domain(const struct mgmt_account *a);
/* Replace the settings; absent fields mean their zero value. Events, serial and pushes as section 1.2. */
int mgmt_settings_update(const struct mgmt_actor *who, const mgmt_settings_rec *spec, struct mgmt_error *e);
/* The dashboard's notes on how far its first steps are. */
int mgmt_onboarding_update(const struct mgmt_actor *who, bool flow_pending, bool signup_pending, struct mgmt_error *e);

/* ---- peers */

struct mgmt_peer *mgmt_peer_get(const struct mgmt_account *a, const char *id);
struct mgmt_peer *mgmt_peer_by_key(const struct mgmt *m, const uint8_t key[NB_KEY_LEN]);
/* "label.domain" */
void mgmt_peer_fqdn(const struct mgmt_peer *p, char *out, size_t cap);
/* Time-based or flagged login expiry, as the API shows it. */
bool mgmt_peer_expired(const struct mgmt_peer *p);
bool mgmt_peer_in_group(const struct mgmt_peer *p, const struct mgmt_group *g);

struct mgmt_peer_change {
	const char *name;		/* NULL: keep */
	bool set_flags;			/* the three below count */
	bool ssh_enabled, login_expiration, inactivity_expiration;
	const char *ip, *ipv6;		/* NULL: keep */
};
int mgmt_peer_update(const struct mgmt_actor *who, const char *id, const struct mgmt_peer_change *c,
		     struct mgmt_error *e);
/* Also ends its stream and deletes policies naming it as a resource. */
int mgmt_peer_delete(const struct mgmt_actor *who, const char *id, struct mgmt_error *e);
/* Peers visible to p by policy: online[] then offline[] (expired), each n long; free both with free(). */
int mgmt_peer_accessible(const struct mgmt_peer *p, struct mgmt_peer ***online, size_t *n_online,
			 struct mgmt_peer ***offline, size_t *n_offline);

/* ---- groups. In a spec only name, resources and (here) peers count; ids are ours. */

struct mgmt_group *mgmt_group_get(const struct mgmt_account *a, const char *id);
/* Of several with the name, the one with most peers. */
struct mgmt_group *mgmt_group_by_name(const struct mgmt_account *a, const char *name);
int mgmt_group_create(const struct mgmt_actor *who, const mgmt_group_rec *spec, const char *const *peers, size_t n,
		      struct mgmt_group **out, struct mgmt_error *e);
/* Replaces name, resources and membership. */
int mgmt_group_update(const struct mgmt_actor *who, const char *id, const mgmt_group_rec *spec,
		      const char *const *peers, size_t n, struct mgmt_group **out, struct mgmt_error *e);
/* Failures are MGMT_BAD_REQUEST with stock's text (section 1.7). */
int mgmt_group_delete(const struct mgmt_actor *who, const char *id, struct mgmt_error *e);

/* ---- policies. Rules with an empty id get the policy's. Unknown groups in a spec are dropped. */

struct mgmt_policy *mgmt_policy_get(const struct mgmt_account *a, const char *id);
int mgmt_policy_create(const struct mgmt_actor *who, const mgmt_policy_rec *spec, struct mgmt_policy **out,
		       struct mgmt_error *e);
int mgmt_policy_update(const struct mgmt_actor *who, const char *id, const mgmt_policy_rec *spec,
		       struct mgmt_policy **out, struct mgmt_error *e);
int mgmt_policy_delete(const struct mgmt_actor *who, const char *id, struct mgmt_error *e);

/* ---- setup keys. Of a spec name, one_off, usage_limit, ephemeral, allow_extra_dns_labels, auto_groups count. */

#define MGMT_KEY_TEXT 37	/* plain text with NUL: upper-case UUID */

enum mgmt_key_state { MGMT_KEY_VALID, MGMT_KEY_EXPIRED, MGMT_KEY_REVOKED, MGMT_KEY_OVERUSED };

struct mgmt_key *mgmt_key_get(const struct mgmt_account *a, const char *id);
enum mgmt_key_state mgmt_key_state(const mgmt_key_rec *k, struct nb_wall now);
const char *mgmt_key_state_name(enum mgmt_key_state s);
/* expires_in: seconds, 0 = never. plain gets the only copy of the secret. */
int mgmt_key_create(const struct mgmt_actor *who, const mgmt_key_rec *spec, int64_t expires_in,
		    struct mgmt_key **out, char plain[MGMT_KEY_TEXT], struct mgmt_error *e);
int mgmt_key_update(const struct mgmt_actor *who, const char *id, const char *const *auto_groups, size_t n,
		    bool revoked, struct mgmt_key **out, struct mgmt_error *e);
int mgmt_key_delete(const struct mgmt_actor *who, const char *id, struct mgmt_error *e);

/* ---- users and personal access tokens */

struct mgmt_user *mgmt_user_get(const struct mgmt_account *a, const char *id);
/* A user with a password here, by e-mail (any case); NULL when there is none. */
struct mgmt_user *mgmt_user_by_email(const struct mgmt *m, const char *email);
/* Note a sign-in to the dashboard (dashboard.login event when it is a new one). */
void mgmt_user_signed_in(struct mgmt_user *u, struct nb_wall when);
/* Replace the stored password hash of a local user. */
int mgmt_user_set_password(struct mgmt_user *u, const char *hash, struct mgmt_error *e);

#define MGMT_TOKEN_TEXT 41	/* nbp_ + 30 + 6, NUL included */
struct mgmt_token *mgmt_token_get(const struct mgmt_account *a, const char *id);
/* May who do that with the tokens of a user: one's own, or a service user's for owner and admin? */
int mgmt_token_permit(const struct mgmt_actor *who, const char *user_id, enum mgmt_op op, struct mgmt_error *e);
int mgmt_token_create(const struct mgmt_actor *who, const char *user_id, const char *name, int days,
		      struct mgmt_token **out, char plain[MGMT_TOKEN_TEXT], struct mgmt_error *e);
int mgmt_token_delete(const struct mgmt_actor *who, const char *user_id, const char *id, struct mgmt_error *e);

/* ---- activity events */

/* "peer.user.add" and "Peer added" of an activity number; "UNKNOWN_ACTIVITY" when there is none. */
const char *mgmt_activity_code(uint32_t activity);
const char *mgmt_activity_text(uint32_t activity);
/* The newest events, newest first, at most max. fn runs once, later, on the loop; records live until it
 * returns. err: 0 or NB_E_*. */
void mgmt_events_read(struct mgmt_account *a, size_t max,
		      void (*fn)(void *arg, int err, mgmt_event_rec *const *ev, size_t n), void *arg);

#endif
