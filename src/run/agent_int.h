/* agent_int.h - what the files of the agent share: its state, and what one of them does for another. Only
 * src/run/agent*.c include it. */
#ifndef NB_RUN_AGENT_INT_H
#define NB_RUN_AGENT_INT_H

#include "client/engine.h"
#include "client/mgmt_client.h"
#include "client/signal_client.h"
#include "crypto/crypto.h"
#include "os/clock.h"
#include "os/netlink.h"
#include "run/agent.h"
#include "run/grpc_dial.h"
#include "run/link_dial.h"
#include "run/portmap.h"
#include "run/trust.h"
#include "run/tunnel.h"

#define RUN_AGENT_FWMARK 0x1bd00	/* control sockets stay outside the tunnel (spec/client.md 3) */
#define RUN_AGENT_TICKETS 32
#define RUN_AGENT_LOOKUPS 16

enum run_agent_purpose { NOTHING, LOGIN, UP, LOGOUT };

struct run_agent_lookup {
	struct run_agent *a;
	struct run_lookup *running;
	unsigned id;
};

struct run_agent {
	struct run_agent_config cfg;
	struct run_agent *aside;	/* deregisters; made for the first one, NULL before and in itself */
	bool is_aside;
	char *ca_file, *tai_path;
	struct run_resolver *resolver;
	enum run_agent_purpose purpose;
	struct client_config profile;	/* of the session; valid unless NOTHING */
	char hostname[256];
	char *setup_key;
	uint8_t private_key[NB_KEY_LEN];
	struct nb_arena meta_arena;
	Management__PeerSystemMeta *meta;
	struct nbc_trust *trust;	/* loaded when something speaks TLS */
	/* management */
	struct client_mgmt *mgmt;
	struct run_grpc *mgmt_link;
	struct run_timer mgmt_timer;
	bool mgmt_up;
	char mgmt_error[300];
	struct run_timer limit;		/* LOGIN and LOGOUT */
	/* UP only */
	struct client_signal *signal;
	struct run_grpc *signal_link;
	struct run_timer signal_timer;
	char signal_host[256];
	uint16_t signal_port;
	bool signal_tls, signal_up;
	char signal_error[300];
	struct client_engine *engine;
	struct run_timer engine_timer;
	struct run_link_dials *links;
	struct run_tunnel *tunnel;
	struct run_io tunnel_io;
	unsigned ifindex;
	int monitor;
	struct run_io monitor_io;
	struct run_timer settle;
	struct nb_time settle_by;
	struct nb_addr hosts[ICE_LOCAL_MAX];
	size_t nhosts;
	struct os_default_route routes[2];	/* IPv4, IPv6 */
	struct run_portmap *portmap;	/* NULL when switched off */
	struct run_agent_lookup lookups[RUN_AGENT_LOOKUPS];
	bool connected;			/* CLIENT_ENGINE_CONNECTED was said */
	int clock_fd;			/* -1: none */
	struct run_io clock_io;
	int64_t suspended;		/* os_suspended() when last looked */
	struct nb_time engine_due;	/* engine_timer fires then */
	/* status */
	uint32_t tickets[RUN_AGENT_TICKETS];
	size_t ntickets;
	uint32_t stats_tag;
	struct run_tunnel_counters counters;	/* as last told */
	/* what must wait until the stack is empty */
	struct run_defer later, delivered;
	bool later_restart, later_stop;
	char why[300];
	enum client_engine_event last_word;
	char refused_message[300];
	int refused_status;
	bool refused, refused_registering, login_ok, logged_out;
	int logout_status;
};

/* agent.c: the session */

/* Set the timers anew after calls into management client, signal client or engine. */
void run_agent_schedule(struct run_agent *a);
/* Look, once the stack is empty, at what was asked for meanwhile; sessions end only there. */
void run_agent_later(struct run_agent *a);
/* End the session for this reason once the stack is empty; word is what the user's side hears. */
void run_agent_give_up(struct run_agent *a, enum client_engine_event word, const char *why);
/* Begin the session anew once the stack is empty. */
void run_agent_restart(struct run_agent *a, const char *why);
/* Have a->trust. Returns NULL, or one line that says why there is none (static). */
const char *run_agent_trust(struct run_agent *a);

/* agent_control.c: management and signal */

extern const struct client_mgmt_ops run_agent_mgmt_ops;
void run_agent_mgmt_hang_up(void *arg);
/* Returns 0, NB_E_BAD (no usable address) or NB_E_NOMEM. */
int run_agent_start_signal(struct run_agent *a, const Management__HostConfig *h);
void run_agent_signal_hang_up(void *arg);
void run_agent_on_mgmt_timer(void *ctx, struct nb_time now);
void run_agent_on_signal_timer(void *ctx, struct nb_time now);

/* agent_engine.c: what the engine wants done, and its relays */

extern const struct client_engine_ops run_agent_engine_ops;
int run_agent_links_new(struct run_agent *a);

/* agent_counts.c: what the data plane counted, for status. NULL: out of memory */
Nestbox__TunnelState *run_agent_counts(const struct run_agent *a, struct nb_arena *arena);

/* agent_tunnel.c: interface and data-plane thread */

/* active_ms: as in run_tunnel_config. Returns NULL, or what went wrong and what to do (static). */
const char *run_agent_start_tunnel(struct run_agent *a, unsigned active_ms);
void run_agent_on_tunnel(void *ctx, int events);
void run_agent_on_delivered(void *ctx);

/* agent_hosts.c: the machine's addresses and routes */

/* Tell everybody when they changed. */
void run_agent_refresh_hosts(struct run_agent *a, struct nb_time now);
void run_agent_on_monitor(void *ctx, int events);
void run_agent_on_settled(void *ctx, struct nb_time now);
void run_agent_on_mapped(void *ctx, const struct nb_endpoint *external);

/* agent_wake.c: sleep and standing still */

void run_agent_watch_clock(struct run_agent *a);
void run_agent_unwatch_clock(struct run_agent *a);
/* The engine's timer is set to this. */
void run_agent_expect(struct run_agent *a, struct nb_time due);
/* Call it first where something arrives from outside or a timer fires. */
void run_agent_check_awake(struct run_agent *a, struct nb_time now);

/* agent_up.c: begin and end of everything that only `up` has */

/* On the first Login's answer. Failures end in run_agent_give_up. */
void run_agent_start_up(struct run_agent *a, const Management__LoginResponse *r);
void run_agent_stop_up(struct run_agent *a);

/* agent_status.c */

void run_agent_answer_tickets(struct run_agent *a);

#endif
