/* table.c - rules, compiled: sorted into groups of one source prefix each, drop rules first, within them by protocol
 * and port. A single address is found by hash, wider prefixes are walked (there is one at most from today's servers:
 * any source), ports are found by halving.
 * The order is the same for equal rules in any input order, so that two tables can be compared by walking both.
 * Tests: tests/unit/filter_table_test.c, tests/sim/filter_sim_test.c */
#include "filter/filter_int.h"

#include <stdlib.h>

#define RECENT_IDS 64	/* names looked through before a name is stored again */

static int rule_cmp(const void *va, const void *vb)
{
	const struct filter_trule *a = va, *b = vb;
	int d = (int)a->family - b->family;

	if (!d)
		d = (int)a->wide - b->wide;
	if (!d)
		d = memcmp(a->addr, b->addr, sizeof a->addr);
	if (!d)
		d = (int)a->len - b->len;
	if (!d)
		d = (int)a->accept - b->accept;
	if (!d)
		d = (int)a->proto - b->proto;
	if (!d)
		d = (int)a->lo - b->lo;
	if (!d)
		d = (int)a->hi - b->hi;
	return d ? d : strcmp(a->id, b->id);
}

static bool same_source(const struct filter_trule *a, const struct filter_trule *b)
{
	return a->family == b->family && a->len == b->len && !memcmp(a->addr, b->addr, sizeof a->addr);
}

/* --- making --- */

struct texts {
	char *p;
	size_t n;
	const char *recent[RECENT_IDS];
	size_t nrecent;
};

/* A NUL inside the name ends it. */
static const char *text_keep(struct texts *x, struct nb_bytes id)
{
	size_t n = strnlen((const char *)id.p, id.n < FILTER_ID_MAX ? id.n : FILTER_ID_MAX);
	char *s = x->p + x->n;

	for (size_t i = 0; i < x->nrecent && i < RECENT_IDS; i++)
		if (!strncmp(x->recent[i], (const char *)id.p, n) && !x->recent[i][n])
			return x->recent[i];
	memcpy(s, id.p, n);
	s[n] = 0;
	x->n += n + 1;
	x->recent[x->nrecent++ % RECENT_IDS] = s;
	return s;
}

static int rule_take(struct filter_trule *out, const struct filter_rule *r, struct texts *x)
{
	struct nb_prefix src = r->src;
	uint8_t full = src.addr.family == 4 ? 32 : 128;

	if ((src.addr.family != 4 && src.addr.family != 6) || src.len > full || r->proto > FILTER_ICMP ||
	    r->port_lo > r->port_hi)
		return NB_E_ARG;
	nb_prefix_mask(&src);
	*out = (struct filter_trule){ .family = src.addr.family, .wide = src.len < full, .len = src.len, .accept = !r->drop,
				      .proto = r->proto, .lo = r->port_lo, .hi = r->port_hi };
	memcpy(out->addr, src.addr.ip, sizeof out->addr);
	out->id = r->id.n ? text_keep(x, r->id) : "";
	return 0;
}

static size_t slot_of(const struct filter_table *t, const uint8_t addr[16])
{
	uint64_t h = (nb_get_be64(addr) ^ nb_get_be64(addr + 8) * 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu;

	return (size_t)(h >> 32) & (t->nslots - 1);
}

static void slots_fill(struct filter_table *t, uint32_t first, uint32_t end)
{
	for (uint32_t g = first; g < end; g++) {
		size_t i = slot_of(t, t->rules[t->groups[g].first].addr);

		while (t->slots[i])
			i = (i + 1) & (t->nslots - 1);
		t->slots[i] = g + 1;
	}
}

/* Groups of one family and kind that begin at rule *at; returns how many. */
static uint32_t groups_make(struct filter_table *t, uint32_t *at, uint32_t group, uint8_t family, uint8_t wide)
{
	uint32_t n = 0, i = *at;

	while (i < t->nrules && t->rules[i].family == family && t->rules[i].wide == wide) {
		struct filter_group *g = &t->groups[group + n++];

		*g = (struct filter_group){ .first = i };
		for (; i < t->nrules && same_source(&t->rules[i], &t->rules[g->first]); i++) {
			uint32_t *section = &g->n[t->rules[i].accept][t->rules[i].proto];
			uint16_t before = *section ? t->rules[i - 1].reach : 0;

			t->rules[i].reach = t->rules[i].hi > before ? t->rules[i].hi : before;
			++*section;
		}
	}
	*at = i;
	return n;
}

static void index_make(struct filter_table *t)
{
	uint32_t at = 0, n4, n6;

	n4 = groups_make(t, &at, 0, 4, 0);
	t->wide4 = n4;
	t->nwide4 = groups_make(t, &at, n4, 4, 1);
	n6 = groups_make(t, &at, t->wide4 + t->nwide4, 6, 0);
	t->wide6 = t->wide4 + t->nwide4 + n6;
	t->nwide6 = groups_make(t, &at, t->wide6, 6, 1);
	slots_fill(t, 0, n4);
	slots_fill(t, t->wide6 - n6, t->wide6);
}

static void local_set(uint8_t out[16], bool *has, const struct nb_addr *a, uint8_t family)
{
	*has = a->family == family;
	if (*has)
		memcpy(out, a->ip, 16);
}

static int memory_take(struct filter_table *t, const struct filter_spec *spec)
{
	size_t n = spec->nrules, bytes = 1;

	for (size_t i = 0; i < n; i++)
		bytes += (spec->rules[i].id.n < FILTER_ID_MAX ? spec->rules[i].id.n : FILTER_ID_MAX) + 1;
	for (t->nslots = 8; t->nslots < n * 2;)
		t->nslots *= 2;
	t->rules = calloc(n + 1, sizeof *t->rules);
	t->hits = calloc(n + 1, sizeof *t->hits);
	t->groups = calloc(n + 1, sizeof *t->groups);
	t->slots = calloc(t->nslots, sizeof *t->slots);
	t->texts = malloc(bytes);
	return t->rules && t->hits && t->groups && t->slots && t->texts ? 0 : NB_E_NOMEM;
}

int filter_table_new(struct filter_table **out, const struct filter_spec *spec)
{
	struct filter_table *t;
	struct texts x = { 0 };
	size_t kept = 0;
	int err;

	*out = NULL;
	if (spec->nrules > FILTER_RULES_MAX)
		return NB_E_FULL;
	t = calloc(1, sizeof *t);
	if (!t)
		return NB_E_NOMEM;
	err = memory_take(t, spec);
	x.p = t->texts;
	for (size_t i = 0; i < spec->nrules && !err; i++)
		err = rule_take(&t->rules[i], &spec->rules[i], &x);
	if (err) {
		filter_table_free(t);
		return err;
	}
	qsort(t->rules, spec->nrules, sizeof *t->rules, rule_cmp);
	for (size_t i = 0; i < spec->nrules; i++)
		if (!i || rule_cmp(&t->rules[i], &t->rules[kept - 1]))
			t->rules[kept++] = t->rules[i];
	t->nrules = kept;
	t->nusers = 1;
	t->allow_all = spec->allow_all;
	local_set(t->local4, &t->has4, &spec->local4, 4);
	local_set(t->local6, &t->has6, &spec->local6, 6);
	index_make(t);
	*out = t;
	return 0;
}

void filter_table_free(struct filter_table *t)
{
	if (!t)
		return;
	free(t->rules);
	free(t->hits);
	free(t->groups);
	free(t->slots);
	free(t->texts);
	free(t);
}

/* --- asking --- */

static bool covers(const struct filter_trule *r, const uint8_t addr[16])
{
	unsigned bytes = r->len / 8, bits = r->len % 8;

	return !memcmp(r->addr, addr, bytes) && (!bits || !((r->addr[bytes] ^ addr[bytes]) >> (8 - bits)));
}

/* A rule among the n from first on, all of one protocol, that covers the port. */
static uint32_t in_section(const struct filter_table *t, uint32_t first, uint32_t n, bool ports, uint16_t dport)
{
	const struct filter_trule *r = t->rules + first;
	uint32_t lo = 0, hi = n;

	if (!n)
		return FILTER_NO_RULE;
	/* Without ports it is the first in order. */
	if (!r->hi)
		return first;
	if (!ports)
		return FILTER_NO_RULE;
	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (r[mid].lo <= dport)
			lo = mid + 1;
		else
			hi = mid;
	}
	while (lo-- && r[lo].reach >= dport)
		if (r[lo].hi >= dport)
			return first + lo;
	return FILTER_NO_RULE;
}

/* A rule of this group and action that matches. */
static uint32_t in_group(const struct filter_table *t, const struct filter_group *g, bool accept, uint8_t family,
			 uint8_t ip_proto, uint16_t dport)
{
	bool ports = ip_proto == IP_TCP || ip_proto == IP_UDP;
	int own = ip_proto == IP_TCP ? FILTER_TCP : ip_proto == IP_UDP ? FILTER_UDP :
		  ip_proto == (family == 4 ? IP_ICMP : IP_ICMP6) ? FILTER_ICMP : FILTER_ALL;
	uint32_t at = g->first, found = FILTER_NO_RULE;

	for (int k = 0; k <= FILTER_ICMP && accept; k++)
		at += g->n[0][k];
	for (int k = 0; k <= FILTER_ICMP && found == FILTER_NO_RULE; at += g->n[accept][k++]) {
		/* Ports of an ICMP rule do not count. */
		if (k == FILTER_ICMP && own == FILTER_ICMP && g->n[accept][k])
			return at;
		if (k == FILTER_ALL || k == own)
			found = in_section(t, at, g->n[accept][k], ports, dport);
	}
	return found;
}

static const struct filter_group *single(const struct filter_table *t, uint8_t family, const uint8_t src[16])
{
	for (size_t i = slot_of(t, src); t->slots[i]; i = (i + 1) & (t->nslots - 1)) {
		const struct filter_group *g = &t->groups[t->slots[i] - 1];
		const struct filter_trule *r = &t->rules[g->first];

		if (r->family == family && !memcmp(r->addr, src, 16))
			return g;
	}
	return NULL;
}

enum filter_judged filter_judge(const struct filter_table *t, const uint8_t src[16], uint8_t family, uint8_t ip_proto,
				uint16_t dport, uint32_t *rule)
{
	const struct filter_group *one = single(t, family, src);
	const struct filter_group *wide = &t->groups[family == 4 ? t->wide4 : t->wide6];
	uint32_t nwide = family == 4 ? t->nwide4 : t->nwide6;

	for (int accept = 0; accept < 2; accept++) {
		*rule = one ? in_group(t, one, accept, family, ip_proto, dport) : FILTER_NO_RULE;
		for (uint32_t i = 0; i < nwide && *rule == FILTER_NO_RULE; i++)
			if (covers(&t->rules[wide[i].first], src))
				*rule = in_group(t, &wide[i], accept, family, ip_proto, dport);
		if (*rule != FILTER_NO_RULE)
			return accept ? FILTER_ACCEPT : FILTER_DROP;
	}
	return t->allow_all ? FILTER_ACCEPT : FILTER_DENY;
}

void filter_table_inherit(struct filter_table *t, const struct filter_table *old, unsigned user)
{
	size_t i = 0, k = 0;
	atomic_ulong *hits = t->hits + user * t->nrules;
	const atomic_ulong *past = old->hits + user * old->nrules;

	if (user >= t->nusers || user >= old->nusers)
		return;
	while (i < t->nrules && k < old->nrules) {
		int d = rule_cmp(&t->rules[i], &old->rules[k]);

		if (!d)
			atomic_fetch_add_explicit(&hits[i], atomic_load_explicit(&past[k], memory_order_relaxed),
						  memory_order_relaxed);
		i += d <= 0;
		k += d >= 0;
	}
}

size_t filter_table_count(const struct filter_table *t)
{
	return t->nrules;
}

void filter_table_rule(const struct filter_table *t, size_t i, struct filter_rule *out, unsigned long *hits)
{
	const struct filter_trule *r = &t->rules[i];

	memset(out, 0, sizeof *out);
	out->src.addr = r->family == 4 ? nb_addr4(nb_get_be32(r->addr)) : nb_addr6(r->addr);
	out->src.len = r->len;
	out->proto = r->proto;
	out->drop = !r->accept;
	out->port_lo = r->lo;
	out->port_hi = r->hi;
	out->id = nb_bytes_str(r->id);
	*hits = 0;
	for (unsigned user = 0; user < t->nusers; user++)
		*hits += atomic_load_explicit(&t->hits[user * t->nrules + i], memory_order_relaxed);
}

struct filter_table **filter_table_link(struct filter_table *t)
{
	return &t->link;
}

atomic_uint *filter_table_users(struct filter_table *t)
{
	return &t->users;
}

void filter_table_share(struct filter_table *t, unsigned n)
{
	atomic_ulong *hits = n > t->nusers ? calloc(n * t->nrules + 1, sizeof *hits) : NULL;

	if (!hits)
		return;
	free(t->hits);
	t->hits = hits;
	t->nusers = n;
}
