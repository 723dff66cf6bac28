/* agent_status.c - answers status: counters come from the data plane first, then the whole is put together. */
#include "run/agent_int.h"

#include <stdio.h>

#include "base/err.h"

static void fill_control(struct run_agent *a, Daemon__FullStatus *s, struct nb_arena *arena)
{
	Daemon__ManagementState *m = nb_arena_alloc(arena, sizeof *m);
	Daemon__SignalState *g = nb_arena_alloc(arena, sizeof *g);
	char url[CLIENT_HOST_MAX + 160];

	if (!m || !g)
		return;
	daemon__management_state__init(m);
	daemon__signal_state__init(g);
	client_url_format(url, sizeof url, &a->profile.management_url);
	m->url = nb_arena_strndup(arena, url, strlen(url));
	m->has_connected = m->connected = a->mgmt_up;
	if (a->mgmt_error[0])
		m->error = nb_arena_strndup(arena, a->mgmt_error, strlen(a->mgmt_error));
	if (a->signal_host[0])
		g->url = nb_arena_printf(arena, strchr(a->signal_host, ':') ? "%s://[%s]:%u" : "%s://%s:%u",
					 a->signal_tls ? "https" : "http", a->signal_host, a->signal_port);
	g->has_connected = g->connected = a->signal_up;
	if (a->signal_error[0])
		g->error = nb_arena_strndup(arena, a->signal_error, strlen(a->signal_error));
	s->managementstate = m;
	s->signalstate = g;
}

static void answer_status(struct run_agent *a, uint32_t ticket)
{
	Daemon__FullStatus s = DAEMON__FULL_STATUS__INIT;
	struct nb_arena arena;

	nb_arena_init(&arena, 64u << 20);
	if (a->purpose == UP) {
		fill_control(a, &s, &arena);
		if (a->engine)
			client_engine_status(a->engine, &s, &arena, os_now(), os_wall());
		if (a->tunnel)
			s.nestbox = run_agent_counts(a, &arena);
	}
	a->cfg.status_ready(a->cfg.arg, ticket, a->purpose == UP ? &s : NULL);
	nb_arena_fini(&arena);
}

void run_agent_answer_tickets(struct run_agent *a)
{
	while (a->ntickets)
		answer_status(a, a->tickets[--a->ntickets]);
}

void run_agent_status(struct run_agent *a, uint32_t ticket, bool probes)
{
	(void)probes;
	if (a->purpose != UP || !a->tunnel || a->ntickets == RUN_AGENT_TICKETS ||
	    run_tunnel_stats(a->tunnel, a->stats_tag + 1, false)) {
		answer_status(a, ticket);
		return;
	}
	a->stats_tag++;
	a->tickets[a->ntickets++] = ticket;
}

int run_agent_paths(struct run_agent *a, const char *peer, struct nb_arena *arena, Nestbox__PeerPaths **out)
{
	if (a->purpose != UP || !a->engine)
		return NB_E_STATE;
	return client_engine_paths(a->engine, peer, out, arena, os_now(), os_wall());
}
