/* agent.h - the machinery of a NetBird agent on a loop: dials management and signal, runs the engine
 * (client/engine.h) over the data-plane thread (run/tunnel.h), the interface and the machine's
 * addresses. What the user asks for arrives from client/daemon.h or from `up -F`; the calls below have
 * the shape of client_daemon_ops and answer through run_agent_config. One loop, one thread.
 * Tests: tests/net/test_client.py. */
#ifndef NB_RUN_AGENT_H
#define NB_RUN_AGENT_H

#include "client/daemon.h"
#include "run/loop.h"

struct run_agent;

/* Every callback may come from inside a run_agent_* call. */
struct run_agent_config {
	struct run_loop *loop;
	void *arg;
	void (*login_done)(void *arg, enum client_login_end how, int status, const char *message);
	void (*engine)(void *arg, enum client_engine_event e, const char *why);
	void (*down)(void *arg);
	void (*logout_done)(void *arg, int status, const char *message);
	void (*status_ready)(void *arg, uint32_t ticket, Daemon__FullStatus *s);
	void (*event)(void *arg, const char *message);	/* one line for the event history */
	const char *ca_file;		/* NULL: where other programs find it */
	const char *tai_path;		/* file that keeps the handshake clock across restarts; NULL: none */
};

/* Returns 0, NB_E_NOMEM or NB_E_SYS. cfg is copied, texts are borrowed. */
int run_agent_new(struct run_agent **out, const struct run_agent_config *cfg);
/* Stop everything at once and free. NULL is allowed. */
void run_agent_free(struct run_agent *a);

/* As client_daemon_ops of the same names; a is their arg. */
void run_agent_login(struct run_agent *a, const struct client_config *cfg, const char *setup_key, const char *hostname);
void run_agent_login_cancel(struct run_agent *a);
void run_agent_up(struct run_agent *a, const struct client_config *cfg, const char *hostname);
void run_agent_down(struct run_agent *a);
void run_agent_logout(struct run_agent *a, const struct client_config *cfg);
void run_agent_status(struct run_agent *a, uint32_t ticket, bool probes);
int run_agent_paths(struct run_agent *a, const char *peer, struct nb_arena *arena, Nestbox__PeerPaths **out);

#endif
