/* agent_counts.c - what the data plane does and has counted as a message for `netbird status --why`: the offloads in use,
 * counters by reason, access rules with the packets each decided. Read now and then; nothing is counted for this alone.
 * Tests: tests/net/test_access.py */
#include "run/agent_int.h"

#include <stdio.h>

#define RULES_SHOWN 256

static char *rule_text(const struct filter_rule *r, struct nb_arena *arena)
{
	static const char *const protocols[] = { "all", "tcp", "udp", "icmp" };
	char from[NB_ADDR_TEXT] = "any address", ports[16] = "";

	if (r->src.len == (r->src.addr.family == 4 ? 32 : 128))
		nb_addr_format(from, &r->src.addr);
	else if (r->src.len)
		nb_prefix_format(from, &r->src);
	if (r->port_lo && r->port_lo == r->port_hi)
		snprintf(ports, sizeof ports, " %u", r->port_lo);
	else if (r->port_lo || r->port_hi)
		snprintf(ports, sizeof ports, " %u-%u", r->port_lo, r->port_hi);
	return nb_arena_printf(arena, "%s %s%s from %s%s", r->drop ? "drop" : "accept", protocols[r->proto], ports, from,
			       r->src.len ? "" : r->src.addr.family == 4 ? " (IPv4)" : " (IPv6)");
}

/* A policy's id is text; a server could send anything. */
static char *policy_text(struct nb_bytes id, struct nb_arena *arena)
{
	char *text = nb_arena_strndup(arena, (const char *)id.p, id.n);

	for (char *c = text; c && *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	return text;
}

static Nestbox__RuleCount *rule_count(const struct filter_table *t, size_t i, struct nb_arena *arena)
{
	Nestbox__RuleCount *c = nb_arena_alloc(arena, sizeof *c);
	struct filter_rule r;
	unsigned long hits;

	if (!c)
		return NULL;
	filter_table_rule(t, i, &r, &hits);
	nestbox__rule_count__init(c);
	c->rule = rule_text(&r, arena);
	if (r.id.n)
		c->policy = policy_text(r.id, arena);
	c->has_packets = 1;
	c->packets = hits;
	return c;
}

/* Of many rules those that decided something come first, so that they are shown. */
static void put_rules(Nestbox__TunnelState *s, const struct filter_table *t, struct nb_arena *arena)
{
	size_t all = filter_table_count(t), room = all < RULES_SHOWN ? all : RULES_SHOWN;

	s->has_rules_in_force = 1;
	s->rules_in_force = (uint32_t)all;
	s->rules = nb_arena_alloc(arena, (room + 1) * sizeof *s->rules);
	for (int used = 1; used >= 0 && s->rules; used--) {
		for (size_t i = 0; i < all && s->n_rules < room; i++) {
			struct filter_rule r;
			unsigned long hits;

			filter_table_rule(t, i, &r, &hits);
			if ((hits != 0) != used)
				continue;
			s->rules[s->n_rules] = rule_count(t, i, arena);
			s->n_rules += s->rules[s->n_rules] != NULL;
		}
	}
}

static void put_counts(Nestbox__TunnelState *s, const struct run_tunnel_counters *counters, bool filter, struct nb_arena *arena)
{
	struct run_tunnel_count c;
	size_t n = 0;

	while (run_tunnel_count(counters, n, &c))
		n++;
	s->counts = nb_arena_alloc(arena, n * sizeof *s->counts);
	for (size_t i = 0; i < n && s->counts && run_tunnel_count(counters, i, &c); i++) {
		Nestbox__Count *one = c.filter && !filter ? NULL : nb_arena_alloc(arena, sizeof *one);

		if (!one)
			continue;
		nestbox__count__init(one);
		/* They are not changed, and live as long as the program. */
		one->name = (char *)(uintptr_t)c.name;
		one->words = (char *)(uintptr_t)c.words;
		one->has_value = 1;
		one->value = c.value;
		s->counts[s->n_counts++] = one;
	}
}

Nestbox__TunnelState *run_agent_counts(const struct run_agent *a, struct nb_arena *arena)
{
	Nestbox__TunnelState *s = nb_arena_alloc(arena, sizeof *s);
	const struct filter_table *rules = run_tunnel_filter(a->tunnel);
	char offloads[RUN_TUNNEL_OFFLOADS_TEXT];

	if (!s)
		return NULL;
	nestbox__tunnel_state__init(s);
	run_tunnel_offloads_text(offloads, run_tunnel_offloads(a->tunnel));
	s->offloads = nb_arena_strndup(arena, offloads, strlen(offloads));
	put_counts(s, &a->counters, rules != NULL, arena);
	if (rules)
		put_rules(s, rules, arena);
	return s;
}
