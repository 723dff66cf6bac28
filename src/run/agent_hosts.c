/* agent_hosts.c - the machine's addresses and default routes: listed at the start, watched by netlink, and
 * told to engine, relays, management and signal when they have settled. */
#include "run/agent_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETTLE_NS (50 * NB_MS)		/* quiet time after address changes */
#define SETTLE_LIMIT_NS (300 * NB_MS)	/* but not longer than this after the first */
#define IFADDRS_MAX 256

#define LEFT_OUT_MAX 128

/* Names of interfaces that only the configuration makes unusable, each once. */
static void leave_out(char out[LEFT_OUT_MAX], const char *name)
{
	size_t n = strlen(out), len = strlen(name);
	const char *at = strstr(out, name);

	if ((at && (at == out || at[-1] == ' ') && (!at[len] || at[len] == ',')) || n + len + 3 > LEFT_OUT_MAX)
		return;
	snprintf(out + n, LEFT_OUT_MAX - n, "%s%s", n ? ", " : "", name);
}

static bool usable(const struct run_agent *a, const struct os_ifaddr *i, char left_out[LEFT_OUT_MAX])
{
	if (!i->up || i->loopback || i->wireguard || i->index == a->ifindex || !ice_interface_usable(i->name) ||
	    !ice_address_usable(&i->prefix.addr))
		return false;
	if (!client_config_blacklisted(&a->profile, i->name))
		return true;
	leave_out(left_out, i->name);
	return false;
}

static size_t list_hosts(const struct run_agent *a, struct nb_addr out[ICE_LOCAL_MAX], char left_out[LEFT_OUT_MAX])
{
	struct os_ifaddr *list = calloc(IFADDRS_MAX, sizeof *list);
	size_t n = 0, hosts = 0;

	if (list)
		os_ifaddr_list(list, IFADDRS_MAX, &n);
	for (size_t i = 0; i < n && hosts < ICE_LOCAL_MAX; i++)
		if (usable(a, &list[i], left_out))
			out[hosts++] = list[i].prefix.addr;
	free(list);
	return hosts;
}

/* Can this connection still carry anything? Not from an address we lost, nor after another way out. */
static bool link_broken(const struct run_agent *a, const struct run_grpc *link, bool rerouted)
{
	struct nb_endpoint e;

	if (!link || run_grpc_local(link, &e))
		return link != NULL;
	if (nb_addr_is_loopback(&e.addr))
		return false;
	for (size_t i = 0; i < a->nhosts; i++)
		if (nb_addr_eq(&a->hosts[i], &e.addr))
			return rerouted;
	return true;
}

static bool route_changed(struct run_agent *a)
{
	struct os_default_route routes[2];
	bool changed;

	memset(routes, 0, sizeof routes);
	if (os_default_routes(&routes[0], &routes[1]))
		return false;
	/* Losing the way out is no news yet: what comes instead is. */
	for (int i = 0; i < 2; i++)
		if (!routes[i].index)
			routes[i] = a->routes[i];
	changed = memcmp(routes, a->routes, sizeof routes) != 0;
	memcpy(a->routes, routes, sizeof routes);
	return changed;
}

void run_agent_refresh_hosts(struct run_agent *a, struct nb_time now)
{
	struct nb_addr hosts[ICE_LOCAL_MAX];
	char left_out[LEFT_OUT_MAX] = "";
	bool rerouted = route_changed(a);
	size_t n;

	memset(hosts, 0, sizeof hosts);
	n = list_hosts(a, hosts, left_out);
	client_engine_left_out(a->engine, left_out);
	if (!rerouted && n == a->nhosts && !memcmp(hosts, a->hosts, sizeof hosts))
		return;
	memcpy(a->hosts, hosts, sizeof hosts);
	a->nhosts = n;
	run_link_dials_addresses(a->links);
	/* The first list is not a change. */
	client_engine_hosts(a->engine, hosts, n, a->connected, now);
	if (!a->connected)
		return;
	client_mgmt_network_changed(a->mgmt, link_broken(a, a->mgmt_link, rerouted), now);
	if (a->signal)
		client_signal_network_changed(a->signal, link_broken(a, a->signal_link, rerouted), now);
}

void run_agent_on_monitor(void *ctx, int events)
{
	struct run_agent *a = ctx;

	(void)events;
	if (!os_netlink_drain(a->monitor, a->ifindex))
		return;
	if (nb_time_is_never(a->settle_by))
		a->settle_by = nb_time_add(os_now(), SETTLE_LIMIT_NS);
	run_timer_set(&a->settle, nb_time_min(nb_time_add(os_now(), SETTLE_NS), a->settle_by));
}

void run_agent_on_settled(void *ctx, struct nb_time now)
{
	struct run_agent *a = ctx;

	a->settle_by = NB_TIME_NEVER;
	if (a->engine)
		run_agent_refresh_hosts(a, now);
	if (a->portmap)
		run_portmap_refresh(a->portmap);
	run_agent_schedule(a);
}

void run_agent_on_mapped(void *ctx, const struct nb_endpoint *external)
{
	struct run_agent *a = ctx;

	client_engine_mapped(a->engine, external, os_now());
	run_agent_schedule(a);
}
