/* lazy.h - connections that exist only while somebody needs them: whether a peer may sleep, and when. Pure: words of
 * the environment, versions and time in; yes, no and a time out. What waking and sleeping take is the engine's
 * (client/engine_lazy.c). Source: spec/peer-connection.md 3.5, spec/client.md 9.3.
 * Tests: tests/unit/client_lazy_test.c, tests/sim/client_lazy_sim_test.c */
#ifndef NB_CLIENT_LAZY_H
#define NB_CLIENT_LAZY_H

#include <stdbool.h>

#include "base/time.h"

#define CLIENT_LAZY_IDLE_NS (15 * 60 * NB_SEC)	/* without data a connection is kept that long */
#define CLIENT_LAZY_REACH_NS (60 * NB_SEC)	/* a peer that cannot be reached is looked for that long, after it was wanted last */

/* Who decides: NB_LAZY_CONN, else management. */
enum client_lazy_force { CLIENT_LAZY_UNSET, CLIENT_LAZY_ON, CLIENT_LAZY_OFF };

/* A connection that is kept for idle_ns after its last data must hear of data this often (milliseconds). */
unsigned client_lazy_watch_ms(int64_t idle_ns);
/* NB_LAZY_CONN: on, off, or a Go boolean. NULL and "" are UNSET. Returns 0, or NB_E_BAD, with *out UNSET. */
int client_lazy_force_parse(enum client_lazy_force *out, const char *text);
/* NB_LAZY_CONN_INACTIVITY_THRESHOLD: a Go duration, or a number of minutes. NULL and "" are the default. At least
 * one second. Returns 0, or NB_E_BAD, with *ns the default. */
int client_lazy_idle_parse(int64_t *ns, const char *text);
/* Does an agent of this version sleep, and wake when it gets an offer? From 0.45.0 on, and builds without release. */
bool client_lazy_supported(const char *version);

/* One peer. All zero: never connected. */
struct client_lazy {
	struct nb_time used;		/* somebody needed the connection: data passed, a packet waits, the peer calls */
	struct nb_time wanted;		/* a packet of ours had no path; 0: never */
	struct nb_time slept;		/* when we put the connection to sleep; 0: the peer did, or nobody */
	bool vain;			/* it came back at once, and nothing has passed since */
	unsigned patience;		/* the idle time counts so many times */
};

/* The connection opens; by the peer, or by a packet of ours (or because it may not sleep). A peer that comes back
 * at once, and for nothing, does not know about sleeping: it is left alone for longer and longer. */
void client_lazy_woken(struct client_lazy *l, bool by_peer, struct nb_time now);
/* We close it (ours) or the peer asked for it. */
void client_lazy_slept(struct client_lazy *l, bool ours, struct nb_time now);
/* Data passed. */
void client_lazy_used(struct client_lazy *l, struct nb_time now);
/* The peer calls, and there is no path yet. */
void client_lazy_called(struct client_lazy *l, struct nb_time now);
void client_lazy_wanted(struct client_lazy *l, struct nb_time now);
/* When an open connection may be closed. connected: it has a path; changed: since when that is so, or not. */
struct nb_time client_lazy_due(const struct client_lazy *l, int64_t idle_ns, bool connected, struct nb_time changed);
/* The peer has told us to sleep: is that from before our own call, which will wake it? */
bool client_lazy_outdated(const struct client_lazy *l, bool connected, struct nb_time now);

#endif
