/* engine_filter.c - the network map's access rules become a table for the data plane (filter/filter.h). Only rules for
 * what comes in count: answers need none. A part of a rule that cannot be read makes an accept rule void and a
 * drop rule broader, never the other way round; a list of which nothing can be used denies.
 * Sources: spec/management-protocol.md 4 (FirewallRule), spec/client.md 6. Tests: tests/unit/client_engine_test.c,
 * tests/net/test_access.py */
#include "client/engine_int.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"

static bool read_port_text(const char *text, struct filter_rule *r)
{
	unsigned long port = 0;
	size_t n = strspn(text, "0123456789");

	if (!n || n > 5 || text[n])
		return false;
	port = strtoul(text, NULL, 10);
	if (!port || port > 65535)
		return false;
	r->port_lo = r->port_hi = (uint16_t)port;
	return true;
}

/* PortInfo comes before Port; neither, or the range 0-0, is any port. */
static bool read_ports(const Management__FirewallRule *in, struct filter_rule *r)
{
	const Management__PortInfo *info = in->portinfo;
	uint32_t lo = 0, hi = 0;

	if (info && info->port_selection_case == MANAGEMENT__PORT_INFO__PORT_SELECTION_PORT) {
		lo = hi = info->port;
	} else if (info && info->port_selection_case == MANAGEMENT__PORT_INFO__PORT_SELECTION_RANGE) {
		lo = info->range->start;
		hi = info->range->end;
	}
	if (!lo && !hi)
		return !in->port || !*in->port || read_port_text(in->port, r);
	if (lo > hi || hi > 65535)
		return false;
	r->port_lo = (uint16_t)lo;
	r->port_hi = (uint16_t)hi;
	return true;
}

/* The first source prefix's address, as stock; without prefixes the text. The unspecified address is any source. */
static bool read_source(const Management__FirewallRule *in, struct filter_rule *r)
{
	struct nb_addr *a = &r->src.addr;

	if (in->n_sourceprefixes) {
		const ProtobufCBinaryData *p = &in->sourceprefixes[0];

		if (p->len != 5 && p->len != 17)
			return false;
		*a = p->len == 5 ? nb_addr4(nb_get_be32(p->data)) : nb_addr6(p->data);
	} else if (!in->peerip || nb_addr_parse(a, in->peerip)) {
		return false;
	}
	*a = nb_addr_unmap(a);
	r->src.len = nb_addr_is_unspecified(a) ? 0 : a->family == 4 ? 32 : 128;
	return true;
}

static bool read_protocol(const Management__FirewallRule *in, struct filter_rule *r)
{
	switch (in->protocol) {
	case MANAGEMENT__RULE_PROTOCOL__ALL:
		r->proto = FILTER_ALL;
		return true;
	case MANAGEMENT__RULE_PROTOCOL__TCP:
		r->proto = FILTER_TCP;
		return true;
	case MANAGEMENT__RULE_PROTOCOL__UDP:
		r->proto = FILTER_UDP;
		return true;
	case MANAGEMENT__RULE_PROTOCOL__ICMP:
		r->proto = FILTER_ICMP;
		return true;
	default:
		/* Of a newer server; stock skips these, too. */
		return false;
	}
}

/* One rule of the map as 0, 1 or 2 of ours. *bad: something in it could not be read. */
static size_t read_rule(const Management__FirewallRule *in, struct filter_rule out[2], bool *bad)
{
	struct filter_rule r = { .drop = in->action == MANAGEMENT__RULE_ACTION__DROP };
	bool ports, source;

	*bad = false;
	if (in->direction != MANAGEMENT__RULE_DIRECTION__IN)
		return 0;
	if (!read_protocol(in, &r) || (in->action != MANAGEMENT__RULE_ACTION__ACCEPT && !r.drop)) {
		*bad = true;
		return 0;
	}
	r.id = nb_bytes(in->policyid.data, in->has_policyid ? in->policyid.len : 0);
	ports = read_ports(in, &r);
	source = read_source(in, &r);
	*bad = !ports || !source;
	if (*bad && !r.drop)
		return 0;
	out[0] = r;
	if (source)
		return 1;
	out[0].src = (struct nb_prefix){ .addr = nb_addr4(0) };
	out[1] = out[0];
	out[1].src.addr.family = 6;
	return 2;
}

/* The same for the same rules in any order. */
static uint64_t digest(const struct client_engine *e, const struct filter_spec *spec)
{
	uint64_t sum = spec->allow_all + spec->nrules * 2;

	for (size_t i = 0; i < spec->nrules; i++) {
		const struct filter_rule *r = &spec->rules[i];
		uint8_t fixed[24] = { r->src.addr.family, r->src.len, r->proto, r->drop };
		uint64_t key[2] = { e->filter_seed[0], 0 };

		nb_put_be16(fixed + 4, r->port_lo);
		nb_put_be16(fixed + 6, r->port_hi);
		memcpy(fixed + 8, r->src.addr.ip, 16);
		key[1] = e->filter_seed[1] ^ nb_siphash(e->filter_seed, r->id);
		sum += nb_siphash(key, nb_bytes(fixed, sizeof fixed));
	}
	return sum;
}

static void put_in_force(struct client_engine *e, struct filter_spec *spec)
{
	uint64_t sum = digest(e, spec);
	struct filter_table *t;
	int err;

	if (e->has_filter && sum == e->filter_digest)
		return;
	err = filter_table_new(&t, spec);
	if (err) {
		nb_error("the %zu access rules could not be taken over (%s): everything new from other peers is refused",
			 spec->nrules, nb_strerror(err));
		spec->nrules = 0;
		spec->allow_all = false;
		sum = 0;
		err = filter_table_new(&t, spec);
	}
	if (err) {
		e->cfg.ops->restart(e->cfg.arg, "out of memory for access rules");
		return;
	}
	e->cfg.ops->filter(e->cfg.arg, t);
	e->filter_digest = sum;
	e->has_filter = true;
}

void client_filter_take(struct client_engine *e, const Management__NetworkMap *map)
{
	struct filter_spec spec = { .local4 = e->v4.addr, .local6 = e->v6.addr };
	bool blocked = e->cfg.cfg->block_inbound == CLIENT_YES, bad;
	size_t nbad = 0;
	struct filter_rule *rules = NULL;

	if (e->cfg.cfg->disable_firewall == CLIENT_YES)
		return;
	if (!blocked)
		rules = calloc(map->n_firewallrules + 1, 2 * sizeof *rules);
	for (size_t i = 0; i < map->n_firewallrules && rules; i++) {
		spec.nrules += read_rule(map->firewallrules[i], rules + spec.nrules, &bad);
		nbad += bad;
	}
	if (nbad) {
		nb_warn("network map: %zu of %zu access rules could not be read", nbad, map->n_firewallrules);
		e->skipped += nbad;
	}
	spec.rules = rules;
	/* A server from before there were rules sends none, and not the flag that says so. */
	spec.allow_all = rules && !map->n_firewallrules && !map->firewallrulesisempty;
	put_in_force(e, &spec);
	free(rules);
}
