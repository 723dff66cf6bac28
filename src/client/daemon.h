/* daemon.h - what the agent answers on its control socket: NetBird's daemon.DaemonService, the
 * lifecycle words behind `status`, profiles and their files, the event history. It decides; the
 * machinery (management, signal, tunnel) is reached through client_daemon_ops and reports back through
 * the functions below. No sockets, no clock, no engine in here.
 * Source: spec/client.md 1.5, 2.1 to 2.5. Tests: tests/unit/client_daemon_test.c.
 *
 * Contract
 * - One thread. Ops may call back into the daemon at once, from inside themselves.
 * - Call client_daemon_timer at client_daemon_deadline; ops.wake says that the deadline moved.
 * - Texts passed in are copied, messages passed in are borrowed for the call. */
#ifndef NB_CLIENT_DAEMON_H
#define NB_CLIENT_DAEMON_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/bytes.h"
#include "base/time.h"
#include "client/config.h"
#include "grpc/grpc.h"
#include "proto/daemon.pb-c.h"
#include "proto/nestbox.pb-c.h"

#define CLIENT_EVENTS_MAX 10		/* history shown by status */
#define CLIENT_SUBSCRIBERS_MAX 16	/* open SubscribeEvents streams */
#define CLIENT_WAITERS_MAX 32		/* Up, Status and Down calls waiting at a time */
#define CLIENT_PROFILE_ID_LEN 65	/* text with NUL */
#define CLIENT_FILE_MAX (1u << 20)	/* bytes of a profile or small state file */
#define CLIENT_DEFAULT_PROFILE "default"

/* Lifecycle; the words of `status` are client_state_name. */
enum client_state {
	CLIENT_IDLE,
	CLIENT_CONNECTING,
	CLIENT_CONNECTED,
	CLIENT_NEEDS_LOGIN,
	CLIENT_LOGIN_FAILED,
	CLIENT_SESSION_EXPIRED,		/* shown once in place of NEEDS_LOGIN after a session */
};
const char *client_state_name(enum client_state s);

/* Who is calling over the control socket. */
struct client_caller {
	bool known;		/* false over TCP: no privileged operation */
	uint32_t uid;
};

/* What the engine says about itself (client_daemon_engine). */
enum client_engine_event {
	CLIENT_ENGINE_CONNECTING,	/* working on it; also after a lost connection */
	CLIENT_ENGINE_CONNECTED,	/* logged in, network map applied, interface up */
	CLIENT_ENGINE_NEEDS_LOGIN,	/* management refused this peer; the engine has stopped by itself */
	CLIENT_ENGINE_FAILED,		/* gave up (no TUN permission, ...); it has stopped by itself */
};

struct client_daemon_ops {
	/* Log this peer in with cfg, without starting the tunnel: Login with the key alone and, when the
	 * peer is unknown and setup_key is not empty, registration. Never called while the engine runs.
	 * Transient failures are retried inside, 2 minutes at most. Answer: client_daemon_login_done.
	 * cfg and texts are borrowed for the call. */
	void (*login)(void *arg, const struct client_config *cfg, const char *setup_key, const char *hostname);
	/* The caller gave up waiting or something else was asked for: no answer to login is wanted any more. */
	void (*login_cancel)(void *arg);
	/* Start the engine; it reports through client_daemon_engine until it is down. hostname "": the
	 * machine's own. cfg is borrowed for the call. */
	void (*up)(void *arg, const struct client_config *cfg, const char *hostname);
	/* Stop the engine and undo what it did to the host. Answer: client_daemon_is_down. */
	void (*down)(void *arg);
	/* Deregister this peer from management (the engine may be running). Answer: client_daemon_logout_done. */
	void (*logout)(void *arg, const struct client_config *cfg);
	/* Collect a full status, running or not. probes: STUN and TURN servers may be asked first.
	 * Answer: client_daemon_status_ready with the same ticket. */
	void (*status)(void *arg, uint32_t ticket, bool probes);
	/* The ways to one peer, with memory from a: 0, NB_E_NOTFOUND, NB_E_STATE (the engine is not running), NB_E_NOMEM. */
	int (*paths)(void *arg, const char *peer, struct nb_arena *a, Nestbox__PeerPaths **out);

	/* Whole small files by absolute path. read: append to out, which has its cap; 0, NB_E_NOTFOUND, other.
	 * write: atomic, mode 0600, missing directories made with 0700. remove: 0 or NB_E_NOTFOUND. list: each()
	 * for every name in a directory; NB_E_NOTFOUND when there is no such directory. */
	int (*read)(void *arg, const char *path, struct nb_buf *out);
	int (*write)(void *arg, const char *path, struct nb_bytes content);
	int (*remove)(void *arg, const char *path);
	int (*list)(void *arg, const char *dir, void (*each)(void *ctx, const char *name), void *ctx);

	/* Peer credentials of the connection a call came over. */
	struct client_caller (*caller)(void *arg, struct grpc_call *call);
	struct nb_time (*now)(void *arg);
	struct nb_wall (*wall)(void *arg);
	/* client_daemon_deadline moved to an earlier time. */
	void (*wake)(void *arg);
};

struct client_daemon_config {
	const struct client_daemon_ops *ops;
	void *arg;
	nb_random_fn random;
	void *random_ctx;
	const char *state_dir;		/* copied; /var/lib/netbird or NB_STATE_DIR */
	const char *default_profile;	/* copied; path of the built-in profile, NULL: STATE_DIR/default.json */
	const char *log_file;		/* copied; for GetConfig, may be NULL */
	uint32_t uid;			/* the daemon's own, for the privilege rule */
	bool disable_profiles, disable_update_settings, disable_networks;	/* service flags */
	bool wait_for_up;		/* never connect at start */
};

struct client_daemon;

/* NULL without memory. Nothing is read or started yet. */
struct client_daemon *client_daemon_new(const struct client_daemon_config *cfg);
/* Waiting calls are ended; ops are not called any more. */
void client_daemon_free(struct client_daemon *d);
/* Load the active profile and begin: a fresh machine or one without a management URL waits in
 * NeedsLogin, DisableAutoConnect in Idle, anything else connects. why (may be NULL): one line for people
 * when the profile cannot be used. Returns 0, NB_E_CONFIG, NB_E_IO, NB_E_NOMEM. */
int client_daemon_start(struct client_daemon *d, char *why, size_t why_cap);

/* The gRPC service to serve on the control socket; lives as long as d. */
const struct grpc_service *client_daemon_service(struct client_daemon *d);

struct nb_time client_daemon_deadline(const struct client_daemon *d);
void client_daemon_timer(struct client_daemon *d, struct nb_time now);

enum client_state client_daemon_state(const struct client_daemon *d);
/* The profile in use; changes with SetConfig and SwitchProfile. */
const struct client_config *client_daemon_profile(const struct client_daemon *d);
/* Path of the residual state file of the active profile (state.json or USER/ID.state.json). out: PATH_MAX. */
void client_daemon_state_path(const struct client_daemon *d, char *out, size_t cap);

/* How login ended. */
enum client_login_end {
	CLIENT_LOGIN_OK,
	CLIENT_LOGIN_NEEDED,	/* not registered and no setup key was given */
	CLIENT_LOGIN_DENIED,	/* management refused the credentials (PermissionDenied) */
	CLIENT_LOGIN_ERROR,	/* everything else; status and message tell */
};
/* status, message: management's answer as of gRPC, passed on to the caller. */
void client_daemon_login_done(struct client_daemon *d, enum client_login_end how, int status, const char *message);
/* The engine started by up has something to say. why: one line for people, "" or NULL when there is none;
 * kept as the management error of `status` until the next report. */
void client_daemon_engine(struct client_daemon *d, enum client_engine_event e, const char *why);
void client_daemon_is_down(struct client_daemon *d);
/* status as of gRPC; NOT_FOUND counts as done: the peer was gone already. */
void client_daemon_logout_done(struct client_daemon *d, int status, const char *message);
/* s is borrowed; the daemon adds events, and the management URL when it is missing. NULL: nothing known. */
void client_daemon_status_ready(struct client_daemon *d, uint32_t ticket, Daemon__FullStatus *s);

/* Keep an event and send it to subscribers. meta: n pairs of key and value. */
void client_daemon_event(struct client_daemon *d, Daemon__SystemEvent__Severity severity,
			 Daemon__SystemEvent__Category category, const char *message, const char *user_message,
			 const char *const (*meta)[2], size_t n_meta);

#endif
