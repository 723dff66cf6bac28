/* mgmt_int.h - what the files of src/mgmt share: tables, transactions, streams. See mgmt.h. */
#ifndef NB_MGMT_MGMT_INT_H
#define NB_MGMT_MGMT_INT_H

#include "mgmt/mgmt.h"

#include "base/buf.h"
#include "base/list.h"
#include "base/map.h"
#include "crypto/crypto.h"

#define MGMT_ALL "All"
#define MGMT_DEFAULT_DOMAIN "netbird.selfhosted"
#define MGMT_LABEL_MAX 59		/* characters of a DNS label, room for "-255-255" */
#define MGMT_LABELS_MAX 32		/* extra DNS labels of a registration */
#define MGMT_INSERT_TRIES 10		/* random addresses before a linear search */
#define MGMT_PUSH_NS (250 * NB_MS)	/* at least this long between two maps of one stream */
#define MGMT_PUSH_MAX_NS (10 * NB_SEC)	/* and never more than this */
#define MGMT_PUSH_BYTES 64e6		/* map bytes a second to all streams together, beyond one map each MGMT_PUSH_NS */
#define MGMT_EPHEMERAL_NS (600 * NB_SEC)
#define MGMT_SWEEP_NS (60 * NB_SEC)
#define MGMT_FLUSH_NS (300 * NB_SEC)	/* last-seen and last-used times reach the disk this often */
#define MGMT_RECORD_MAX ((size_t)8 << 20)
#define MGMT_MAX_PEERS ((size_t)1 << 20)

/* ---- tables: objects by id */

enum mgmt_table_id { T_ACCOUNT, T_GROUP, T_PEER, T_POLICY, T_KEY, T_USER, T_TOKEN, T_COUNT };

/* What every object begins with. */
struct mgmt_item {
	ProtobufCMessage *rec;
	struct mgmt_account *account;
};

struct mgmt_table {
	struct mgmt_item **v;	/* sorted by id */
	size_t n, cap;
};

struct mgmt_account {
	mgmt_account_rec *rec;
	struct mgmt_account *self;
	struct mgmt *m;
	struct mgmt_table t[T_COUNT];	/* T_ACCOUNT unused */
	struct mgmt_group *all;
	struct nb_map by_ip, by_ip6, by_label;	/* peers */
	size_t old_forwarders;		/* peers whose version lacks the DNS forwarder's new port */
	struct nb_wall expiry;		/* next login or inactivity expiry; 0: none */
};

struct mgmt_peer_state {
	struct mgmt_stream *stream;
	struct mgmt_job *job;
	int64_t session;		/* fencing token, wall ns of the stream's start; 0: none */
	bool seen_dirty;		/* last_seen not flushed */
	bool counted_old;		/* in account->old_forwarders */
	bool box_ready;
	struct nb_time ephemeral_due;	/* NB_TIME_NEVER: not waiting */
	uint32_t mark;			/* of the walk that last touched it */
	uint32_t mark_b;
	uint8_t box[NB_KEY_LEN];	/* shared with this peer */
	struct nb_bytes remote[2];	/* encoded RemotePeerConfig by class (MAP_V6); heap */
	struct nb_bytes dns[2];		/* encoded SimpleRecords */
	/* PeerIP and sourcePrefixes of rules about this peer, for its IPv4 and IPv6 address; ip_n 0: not made yet. */
	struct {
		uint8_t ip[NB_ADDR_TEXT], prefix[24];
		uint8_t ip_n, prefix_n;
	} rule_parts[2];
};

/* ---- transactions (txn.c) */

struct mgmt_change {
	enum mgmt_table_id table;
	struct mgmt_item *item;
	ProtobufCMessage *old;		/* NULL: created */
	bool deleted;
};

struct mgmt_txn {
	struct nb_list node;		/* m->txns, in order */
	struct mgmt *m;
	struct mgmt_account *account;
	struct store_batch *batch;
	struct mgmt_change *changes;
	size_t n, cap;
	struct mgmt_peer **affected;
	size_t n_affected, cap_affected;
	bool everybody;			/* the whole account is affected */
	bool serial;			/* already counted */
	bool undone;
	int err;
	uint64_t seq;
};

struct mgmt_waiter {
	struct nb_list node;
	uint64_t seq;
	void (*fn)(void *arg, int err);
	void *arg;
};

struct mgmt {
	struct mgmt_config cfg;
	struct store *store;
	struct nb_time now;
	struct nb_wall wall;
	struct nbc_xid xid;
	uint8_t box_secret[NB_KEY_LEN], box_public[NB_KEY_LEN], token_secret[32];
	char box_text[NB_KEY_TEXT_LEN];
	struct mgmt_table accounts;
	struct nb_map peer_by_key, key_by_hash, token_by_hash, user_by_id, user_by_email;
	struct nb_map used_tokens;	/* SHA-256 of an access token -> its expiry */
	struct nb_map failures;		/* failed registrations by source, limit.c */
	uint64_t event_seq;
	struct nb_list txns;		/* submitted, not yet durable */
	struct nb_list waiters;
	uint64_t submitted, durable;
	uint32_t mark;
	struct nb_list streams;		/* every open Sync */
	struct nb_list due;		/* streams waiting for their time */
	struct nb_list starved;		/* streams waiting until less is in flight */
	size_t in_flight;		/* bytes of messages built and not yet sent */
	struct nb_time next_sweep, next_flush;
	int64_t last_session;
	struct mgmt_service *service;
};

/* Start and end a change of one account (NULL: the account itself is being created by it). */
int mgmt_begin(struct mgmt_txn **out, struct mgmt *m, struct mgmt_account *a);
/* Create or replace: rec is packed, so it may be a shallow copy with borrowed parts. item NULL: create; the
 * result is in *out (may be NULL). Errors are latched in the transaction. */
struct mgmt_item *mgmt_put(struct mgmt_txn *t, enum mgmt_table_id table, struct mgmt_item *item,
			   const ProtobufCMessage *rec);
void mgmt_drop(struct mgmt_txn *t, enum mgmt_table_id table, struct mgmt_item *item);
/* The network serial goes up by one (once per transaction). */
void mgmt_bump(struct mgmt_txn *t);
/* p (or everybody) must get a new map once this is durable. */
void mgmt_affect(struct mgmt_txn *t, struct mgmt_peer *p);
void mgmt_affect_all(struct mgmt_txn *t);
/* Hand to the store; returns 0 or MGMT_INTERNAL after undoing everything (an error was latched). */
int mgmt_commit(struct mgmt_txn *t, struct mgmt_error *e);
/* Take everything back. */
void mgmt_abort(struct mgmt_txn *t);
struct mgmt_item *mgmt_table_get(const struct mgmt_table *t, const char *id);
int mgmt_load(struct mgmt *m);
void mgmt_unload(struct mgmt *m);
const char *mgmt_item_id(const struct mgmt_item *it);
void mgmt_new_id(struct mgmt *m, char out[NBC_XID_TEXT]);
/* True while something submitted is not durable. */
bool mgmt_unsettled(const struct mgmt *m);
/* Deadlines changed. */
void mgmt_wake(struct mgmt *m);

/* Packed copy of a record; NULL without memory. */
ProtobufCMessage *mgmt_clone(const ProtobufCMessage *rec);

/* Lists of strings. */
bool mgmt_has(char *const *list, size_t n, const char *s);

/* ---- events (activity.c) */

struct mgmt_pair {
	const char *key, *value;
};
/* Add an event to t. initiator NULL: "sys". */
void mgmt_event(struct mgmt_txn *t, uint32_t activity, const char *initiator, const char *target,
		const struct mgmt_pair *meta, size_t n);
/* The same about a peer: its PM pairs plus extra ones. */
void mgmt_event_peer(struct mgmt_txn *t, uint32_t activity, const char *initiator, const char *target,
		     const struct mgmt_peer *p, const struct mgmt_pair *extra, size_t n);
const char *mgmt_who(const struct mgmt_actor *who);

/* ---- who is affected (affected.c); call before and after the change */

void mgmt_affect_policy(struct mgmt_txn *t, const mgmt_policy_rec *rec);
void mgmt_affect_group(struct mgmt_txn *t, struct mgmt_group *g);
/* The peer itself and whoever may see it. */
void mgmt_affect_peer(struct mgmt_txn *t, struct mgmt_peer *p);

/* ---- peers (peer.c) */

struct mgmt_login {
	const uint8_t *key;		/* WireGuard public key */
	const Management__PeerSystemMeta *meta;
	const char *setup_key;		/* "" or NULL: none */
	const struct mgmt_claims *claims;	/* NULL: none */
	struct nb_bytes ssh_key;
	char *const *labels;
	size_t n_labels;
	const char *from;		/* the client's address as text, for the location */
};
/* Login of section 3.2: re-login or registration. */
int mgmt_peer_login(struct mgmt *m, const struct mgmt_login *l, struct mgmt_peer **out, struct mgmt_error *e);
/* Sync's checks; stores changed meta (NULL: none came). */
int mgmt_peer_sync_check(struct mgmt_peer *p, struct mgmt_error *e);
int mgmt_peer_meta(struct mgmt_peer *p, const Management__PeerSystemMeta *meta, bool push, struct mgmt_error *e);
int mgmt_peer_logout(struct mgmt_peer *p, struct mgmt_error *e);
int mgmt_peer_extend(struct mgmt_peer *p, const struct mgmt_claims *c, struct mgmt_error *e);
void mgmt_peer_connected(struct mgmt_peer *p, int64_t session);
void mgmt_peer_disconnected(struct mgmt_peer *p, int64_t session);
/* Wall ns of the login deadline; 0: none applies. */
int64_t mgmt_peer_session_end(const struct mgmt_peer *p);
bool mgmt_peer_login_due(const struct mgmt_peer *p);
void mgmt_peer_sweep(struct mgmt *m);
void mgmt_peer_flush(struct mgmt *m);
void mgmt_expiry_plan(struct mgmt_account *a);
void mgmt_expiry_run(struct mgmt_account *a);
/* Everything a deletion takes with it, inside t. */
void mgmt_peer_remove(struct mgmt_txn *t, struct mgmt_peer *p, const char *initiator, bool quiet);
bool mgmt_peer_has_v6(const struct mgmt_peer *p);	/* owns an address and can use it */
bool mgmt_meta_has(const Management__PeerSystemMeta *meta, int capability);
/* label of a host name (section 6.2); "" when nothing is left. */
void mgmt_label(char out[MGMT_LABEL_MAX + 1], const char *hostname);
/* Version gate: true for development builds; false when unreadable. */
bool mgmt_version_at_least(const char *version, int major, int minor, int patch);

/* ---- accounts (account.c) */

/* A new account. With res the two keys of the seed are made too and told there, with pat_days a token. */
struct mgmt_seed {
	const char *owner_id, *email, *name, *password_hash;
	const char *domain;
	int pat_days;			/* 0: no token */
};
int mgmt_account_create(struct mgmt *m, const struct mgmt_seed *seed, struct mgmt_setup_result *res,
			struct mgmt_account **out, struct mgmt_error *e);
int mgmt_check_groups(const struct mgmt_account *a, char *const *ids, size_t n, struct mgmt_error *e);
/* Draw an address that no peer has. Returns 0 or NB_E_FULL. */
int mgmt_draw_ip(struct mgmt_account *a, uint8_t ip[4]);
int mgmt_draw_ip6(struct mgmt_account *a, uint8_t ip[16]);
/* May a peer with these groups have an IPv6 address? */
bool mgmt_wants_v6(const struct mgmt_account *a, char *const *groups, size_t n);

/* ---- setup keys and tokens (key.c) */

void mgmt_key_hash(char out[NB_BASE64_LEN(32) + 1], const char *text);
struct mgmt_key *mgmt_key_find(const struct mgmt *m, const char *text);
int mgmt_key_make(struct mgmt_txn *t, const mgmt_key_rec *spec, int64_t expires_in, const char *initiator,
		  struct mgmt_key **out, char plain[MGMT_KEY_TEXT]);
int mgmt_token_make(struct mgmt_txn *t, const struct mgmt_user *u, const char *name, int days, const char *creator,
		    struct mgmt_token **out, char plain[MGMT_TOKEN_TEXT]);

/* ---- network maps (map.c) */

/* Classes of receivers: what of an entry depends on who reads it. */
enum { MAP_V6 = 1, MAP_PREFIXES = 2 };
unsigned mgmt_map_class(const struct mgmt_peer *p);
/* A complete SyncResponse for p: without map when map is false, with netbirdConfig parts as asked. */
enum { SYNC_MAP = 1, SYNC_CONFIG = 2, SYNC_TURN = 4, SYNC_RELAY = 8 };
int mgmt_map_sync(struct mgmt_peer *p, unsigned what, struct nb_buf *out);
/* The last message of a removed peer. */
int mgmt_map_farewell(struct mgmt_peer *p, struct nb_buf *out);
int mgmt_map_login(struct mgmt_peer *p, struct nb_buf *out);
/* Drop cached encodings after p changed. */
void mgmt_map_forget(struct mgmt_peer *p);

/* ---- failed attempts by source (limit.c) */

bool mgmt_limit_allows(struct mgmt *m, const struct nb_addr *from);
void mgmt_limit_failed(struct mgmt *m, const struct nb_addr *from);
void mgmt_limit_fini(struct mgmt *m);

/* ---- streams (service.c) */

int mgmt_service_new(struct mgmt *m);
void mgmt_service_free(struct mgmt *m);
/* p's map is outdated. */
void mgmt_stream_dirty(struct mgmt_peer *p);
/* End p's streams; farewell: tell it that it was removed. */
void mgmt_stream_end(struct mgmt_peer *p, bool farewell);
void mgmt_stream_run(struct mgmt *m);
struct nb_time mgmt_stream_deadline(const struct mgmt *m);

#endif
