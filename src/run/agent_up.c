/* agent_up.c - begin and end of what only an `up` session has: engine, tunnel, port mapping, signal and the
 * watch on the machine's addresses. */
#include "run/agent_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"

void run_agent_stop_up(struct run_agent *a)
{
	run_io_set(&a->tunnel_io, -1, 0);
	run_io_set(&a->monitor_io, -1, 0);
	run_agent_unwatch_clock(a);
	run_timer_stop(&a->settle);
	a->settle_by = NB_TIME_NEVER;
	if (a->monitor >= 0)
		close(a->monitor);
	a->monitor = -1;
	run_portmap_free(a->portmap);
	a->portmap = NULL;
	for (size_t i = 0; i < RUN_AGENT_LOOKUPS; i++) {
		run_resolve_cancel(a->lookups[i].running);
		a->lookups[i].running = NULL;
	}
	client_signal_free(a->signal);
	a->signal = NULL;
	run_agent_signal_hang_up(a);
	if (a->engine)
		client_engine_stop(a->engine, os_now());
	client_engine_free(a->engine);
	a->engine = NULL;
	run_tunnel_free(a->tunnel);
	a->tunnel = NULL;
	a->ifindex = 0;
	memset(a->hosts, 0, sizeof a->hosts);
	memset(a->routes, 0, sizeof a->routes);
	a->nhosts = 0;
	a->signal_up = a->connected = false;
	a->signal_error[0] = 0;
}

static bool env_true(const char *name)
{
	const char *v = getenv(name);

	return v && (!strcmp(v, "true") || !strcmp(v, "1") || !strcmp(v, "TRUE") || !strcmp(v, "True"));
}

/* Stock's choice of transport: we have WebSocket only, which all its values but one allow. */
static void check_relay_transport(void)
{
	const char *v = getenv("NB_RELAY_TRANSPORT");

	if (v && !strcmp(v, "quic"))
		nb_warn("NB_RELAY_TRANSPORT=quic is not supported by nestbox: relays are reached by WebSocket; unset it");
}

/* Without it the agent has what STUN and TURN give. */
static void start_portmap(struct run_agent *a, const struct client_engine_config *engine)
{
	struct run_portmap_config cfg = { .loop = a->cfg.loop, .port = engine->port, .mark = RUN_AGENT_FWMARK,
					  .no_health = env_true("NB_DISABLE_PCP_HEALTH_CHECK"),
					  .mapped = run_agent_on_mapped, .ctx = a };

	if (env_true("NB_DISABLE_NAT_MAPPER") || engine->force_relay || engine->relay_only)
		return;
	if (run_portmap_new(&a->portmap, &cfg))
		nb_warn("no memory for port mapping");
}

/* Stock's two variables; a word it cannot read leaves the default there, too. */
static void read_lazy(struct client_engine_config *cfg)
{
	if (client_lazy_force_parse(&cfg->lazy, getenv("NB_LAZY_CONN")))
		nb_warn("NB_LAZY_CONN is neither on nor off: management decides");
	if (client_lazy_idle_parse(&cfg->idle_ns, getenv("NB_LAZY_CONN_INACTIVITY_THRESHOLD")))
		nb_warn("NB_LAZY_CONN_INACTIVITY_THRESHOLD is no time such as 30m or 1h: 15m are used");
}

/* The first Login of an `up`: build everything that needs its answer. */
void run_agent_start_up(struct run_agent *a, const Management__LoginResponse *r)
{
	struct client_engine_config cfg = { .ops = &run_agent_engine_ops, .arg = a, .cfg = &a->profile, .random = nbc_random,
					    .force_relay = env_true("NB_FORCE_RELAY"),
					    .relay_only = env_true("NB_ICE_FORCE_RELAY_CONN"),
					    .home_relays = getenv("NB_HOME_RELAY_SERVERS") };
	const char *why;
	int err;

	read_lazy(&cfg);
	why = run_agent_start_tunnel(a, client_lazy_watch_ms(cfg.idle_ns));
	if (why) {
		run_agent_give_up(a, CLIENT_ENGINE_FAILED, why);
		return;
	}
	check_relay_transport();
	nbc_x25519_base(cfg.public_key, a->private_key);
	cfg.port = run_tunnel_port(a->tunnel);
	a->engine = client_engine_new(&cfg, os_now());
	if (!a->engine) {
		run_agent_give_up(a, CLIENT_ENGINE_FAILED, "out of memory");
		return;
	}
	err = client_engine_login(a->engine, r, os_now());
	if (err) {
		char text[200];

		snprintf(text, sizeof text, "cannot set the overlay address %s on interface %s: %s", r->peerconfig->address,
			 a->profile.iface, nb_strerror(err));
		run_agent_give_up(a, CLIENT_ENGINE_FAILED, text);
		return;
	}
	a->monitor = os_netlink_monitor();
	if (a->monitor >= 0)
		run_io_set(&a->monitor_io, a->monitor, RUN_READ);
	run_agent_watch_clock(a);
	run_agent_refresh_hosts(a, os_now());
	start_portmap(a, &cfg);
	err = run_agent_start_signal(a, r->netbirdconfig->signal);
	if (err)
		run_agent_give_up(a, CLIENT_ENGINE_FAILED, "management gave no usable signal address");
}
