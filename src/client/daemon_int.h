/* daemon_int.h - what the parts of client/daemon.h share: the state, answers to calls, profile files.
 * daemon.c has the lifecycle, daemon_config.c configuration, profiles and privileges, daemon_events.c
 * events and the log level, profiles.c the files. */
#ifndef NB_CLIENT_DAEMON_INT_H
#define NB_CLIENT_DAEMON_INT_H

#include <limits.h>

#include "base/arena.h"
#include "base/list.h"
#include "client/daemon.h"

#define NAME_MAX_BYTES 513	/* a display name of 128 characters, with NUL */
#define USER_MAX 256
#define PROFILES_MAX 256	/* profiles of one user */
#define WHY_MAX 320

enum waiter_kind { WAIT_LOGIN, WAIT_UP, WAIT_DOWN, WAIT_READY, WAIT_STATUS, WAIT_LOGOUT };

/* A call that is answered later; the call's user pointer. */
struct waiter {
	struct nb_list node;
	struct client_daemon *d;
	struct grpc_call *call;
	enum waiter_kind kind;
	struct nb_time deadline;
	uint32_t ticket;		/* WAIT_STATUS */
	bool full, probes;		/* WAIT_READY: what the Status call asked for */
};

struct subscriber {
	struct nb_list node;
	struct client_daemon *d;
	struct grpc_call *call;
};

struct event {
	char id[40];
	Daemon__SystemEvent__Severity severity;
	Daemon__SystemEvent__Category category;
	char *message, *user_message;
	char *meta[4][2];
	size_t n_meta;
	struct nb_wall at;
};

/* A profile as handles are resolved to. */
struct profile {
	char id[CLIENT_PROFILE_ID_LEN];
	char name[NAME_MAX_BYTES];
	char user[USER_MAX];		/* "" for the built-in one */
	bool active;
};

struct profile_list {
	struct profile *v;
	size_t n;
};

struct client_daemon {
	struct client_daemon_config cfg;
	char state_dir[PATH_MAX - 256], default_profile[PATH_MAX], log_file[PATH_MAX];
	struct grpc_service service;

	struct profile active;		/* id and user */
	struct client_config conf;
	bool have_conf;

	enum client_state state;
	enum client_state state_after_down;
	bool engine_on;			/* ops.up was called and it has not ended since */
	bool stopping;			/* ops.down was called, client_daemon_is_down has not come */
	bool was_connected;		/* since ops.up */
	bool up_wanted;			/* start again when it is down */
	bool session_active;		/* connected once: the next NeedsLogin is an expired session */
	char engine_error[WHY_MAX];

	struct waiter *login;		/* the one Login under way */
	bool login_running;		/* ops.login was called */
	char *login_key;
	char hostname[256];
	struct waiter *logout;		/* the one Logout or RemoveProfile under way */
	struct profile logout_profile;
	bool logout_removes;

	struct nb_list waiters;
	size_t n_waiters;
	uint32_t next_ticket;

	struct event events[CLIENT_EVENTS_MAX];
	size_t n_events;
	struct nb_list subscribers;
	size_t n_subscribers;
	Daemon__LogLevel log_level;
};

/* --- answering (daemon.c) */

/* Decode a request into arena, or answer with an error and return NULL. */
void *client_request(struct grpc_call *call, const ProtobufCMessageDescriptor *desc, struct nb_bytes in,
		     struct nb_arena *arena);
void client_reply(struct grpc_call *call, const void *message);
void client_fail(struct grpc_call *call, int status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Park a call; NULL (and it is answered) when too many wait. */
struct waiter *client_wait(struct client_daemon *d, struct grpc_call *call, enum waiter_kind kind, int64_t ns);
/* Take the waiter off; its call can be answered then. */
struct grpc_call *client_unwait(struct waiter *w);
void client_call_end(struct grpc_call *call, void *user, const struct grpc_result *r);
void client_stop_engine(struct client_daemon *d, enum client_state afterwards);

/* --- profiles and their files (profiles.c); why holds WHY_MAX bytes */

int client_profile_path(const struct client_daemon *d, const struct profile *p, const char *suffix, char *out,
			size_t cap);
/* Read a profile; NB_E_NOTFOUND when there is no file. */
int client_profile_load(struct client_daemon *d, const struct profile *p, struct client_config *c, char *why);
int client_profile_save(struct client_daemon *d, const struct profile *p, const struct client_config *c, char *why);
int client_profile_list(struct client_daemon *d, const char *user, struct profile_list *out);
void client_profile_list_free(struct profile_list *l);
/* A name, an ID or the beginning of one. Returns a gRPC status and the text for it in why. */
int client_profile_resolve(struct client_daemon *d, const char *handle, const char *user, struct profile *out,
			   char *why);
int client_profile_create(struct client_daemon *d, const char *name, const char *user, struct profile *out, char *why);
int client_profile_rename(struct client_daemon *d, const struct profile *p, const char *name, char *why);
void client_profile_remove(struct client_daemon *d, const struct profile *p);
/* active_profile.json */
void client_active_read(struct client_daemon *d);
int client_active_write(struct client_daemon *d, const struct profile *p);

/* --- configuration (daemon_config.c) */

/* Make this profile the active one unless it is. Returns a gRPC status, why filled. */
int client_switch_profile(struct client_daemon *d, const char *handle, const char *user, char *why);
/* Load the active profile into d->conf, making the file when it is missing (*created). */
int client_load_active(struct client_daemon *d, bool *created, char *why);
struct client_change {
	const char *url;
	bool has_ssh, ssh, has_root, root, has_noauth, noauth;
};
/* Answers the call and returns false when the caller may not do this (spec/client.md 2.4). stored: NULL none. */
bool client_may_change(struct client_daemon *d, struct grpc_call *call, const struct client_config *stored,
		       const struct client_change *c);
bool client_may_deregister(struct client_daemon *d, struct grpc_call *call, const struct client_config *stored);

extern const struct grpc_call_ops client_get_config_ops, client_set_config_ops, client_switch_profile_ops,
	client_add_profile_ops, client_rename_profile_ops, client_remove_profile_ops, client_list_profiles_ops,
	client_get_active_profile_ops, client_get_features_ops, client_paths_ops;
/* RemoveProfile's second half, when the peer is deregistered or not. */
void client_remove_profile_now(struct client_daemon *d, struct grpc_call *call, const struct profile *p);

/* --- events (daemon_events.c) */
extern const struct grpc_call_ops client_get_events_ops, client_subscribe_ops, client_get_log_level_ops,
	client_set_log_level_ops;
void client_profile_list_changed(struct client_daemon *d, const char *name);
/* The history as messages, memory from a; NULL when empty or out of memory. */
Daemon__SystemEvent **client_event_messages(const struct client_daemon *d, struct nb_arena *a, size_t *n);
void client_events_fini(struct client_daemon *d);

#endif
