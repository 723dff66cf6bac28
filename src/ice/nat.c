/* nat.c - see nat.h. Three rounds. First every server is asked where it sees us and what other places it has. Then the
 * one that has most is asked to answer from there: before anything is sent to those places, for that would open the
 * filter. Then they are asked directly, which compares mappings and shows that they can be reached; our own mapping is
 * asked, too, to see whether the request comes back.
 * Tests: tests/unit/ice_nat_test.c, tests/fuzz/nat_fuzz.c */
#include "ice/nat.h"

#include <assert.h>

#include "base/err.h"
#include "ice/stun.h"

#define REQUEST_LEN 100		/* room for the longest answer: a server of ours answers with no more */
#define FIRST_WAIT_MS 250	/* doubles with each try */
#define HELLO_TRIES 4
#define OTHER_TRIES 3
#define SELF_TRIES 1

enum { HELLO, FILTER, MAP, DONE };

/* The questions, each stage's together. */
enum {
	TO_SERVER,
	FROM_PORT = ICE_NAT_SERVERS_MAX,	/* answer from another port of the same address */
	FROM_BOTH,				/* from another address and port */
	AT_PORT,				/* asked at another port */
	AT_ADDR,				/* at another address */
	AT_BOTH,
	AT_SELF,				/* at our own mapping: hairpinning */
	END
};

_Static_assert(END == ICE_NAT_PROBES, "one slot for each question");

/* ---- Names ---- */

const char *ice_nat_mapping_name(enum ice_nat_mapping m)
{
	static const char *const names[ICE_NAT_MAP_END] = {
		"unknown", "no NAT", "endpoint-independent", "address-dependent", "address-and-port-dependent",
		"address-dependent or address-and-port-dependent", "endpoint-independent or address-dependent",
	};

	return m < ICE_NAT_MAP_END ? names[m] : names[0];
}

const char *ice_nat_filtering_name(enum ice_nat_filtering f)
{
	static const char *const names[ICE_NAT_FILTER_END] = {
		"unknown", "endpoint-independent", "address-dependent", "address-and-port-dependent",
		"endpoint-independent or address-dependent",
	};

	return f < ICE_NAT_FILTER_END ? names[f] : names[0];
}

const char *ice_nat_hairpin_name(enum ice_nat_hairpin h)
{
	static const char *const names[ICE_NAT_HAIRPIN_END] = { "unknown", "not seen", "yes" };

	return h < ICE_NAT_HAIRPIN_END ? names[h] : names[0];
}

bool ice_nat_same(const struct ice_nat_report *a, const struct ice_nat_report *b)
{
	return a->udp == b->udp && a->mapping == b->mapping && a->filtering == b->filtering && a->hairpin == b->hairpin &&
	       a->port_kept == b->port_kept;
}

bool ice_nat_maps_anew(enum ice_nat_mapping m)
{
	return m == ICE_NAT_MAP_ADDRESS || m == ICE_NAT_MAP_ADDRESS_PORT || m == ICE_NAT_MAP_DEPENDENT;
}

/* ---- Questions ---- */

static void ask(struct ice_nat *n, struct ice_nat_probe *p, const struct nb_endpoint *to, uint32_t change, struct nb_time now)
{
	*p = (struct ice_nat_probe){ .state = ICE_NAT_ASKING, .to = *to, .change = change, .next = now };
	n->cfg.random(n->cfg.random_ctx, p->txid, sizeof p->txid);
}

/* The questions of a stage are those from here to before that of the next. */
static int first_of(int stage)
{
	static const int first[] = { TO_SERVER, FROM_PORT, AT_PORT, END };

	return first[stage];
}

static int behind(int stage)
{
	return stage == DONE ? END : first_of(stage + 1);
}

static void settle(struct ice_nat_probe *p, enum ice_nat_probe_state state)
{
	p->state = state;
	p->next = NB_TIME_NEVER;
}

static bool answered(const struct ice_nat_probe *p)
{
	return p->state == ICE_NAT_ANSWERED;
}

static bool stage_over(const struct ice_nat *n)
{
	for (int i = first_of(n->stage); i < behind(n->stage); i++)
		if (n->probe[i].state == ICE_NAT_ASKING)
			return false;
	return true;
}

/* ---- Conclusions ---- */

static bool own_address(const struct ice_nat *n, const struct nb_endpoint *e)
{
	for (size_t i = 0; i < n->cfg.nhosts; i++)
		if (nb_addr_eq(&n->cfg.hosts[i], &e->addr))
			return e->port == n->cfg.port;
	return false;
}

/* What asking another address showed. */
struct elsewhere {
	bool asked, differs;
};

static void compare(struct elsewhere *w, const struct ice_nat_probe *p, const struct nb_endpoint *mapped)
{
	if (!answered(p))
		return;
	w->asked = true;
	w->differs |= !nb_endpoint_eq(&p->mapped, mapped);
}

static enum ice_nat_mapping dependent(const struct ice_nat *n, bool port_asked)
{
	const struct ice_nat_probe *a = &n->probe[AT_ADDR], *b = &n->probe[AT_BOTH];

	if (port_asked)
		return ICE_NAT_MAP_ADDRESS;
	if (answered(a) && answered(b))
		return nb_endpoint_eq(&a->mapped, &b->mapped) ? ICE_NAT_MAP_ADDRESS : ICE_NAT_MAP_ADDRESS_PORT;
	return ICE_NAT_MAP_DEPENDENT;
}

static enum ice_nat_mapping conclude_mapping(const struct ice_nat *n)
{
	const struct ice_nat_probe *base = &n->probe[n->base];
	const struct nb_endpoint *m = &base->mapped;
	struct elsewhere port = { 0 }, addr = { 0 };

	if (own_address(n, m))
		return ICE_NAT_MAP_NONE;
	compare(&port, &n->probe[AT_PORT], m);
	compare(&addr, &n->probe[AT_ADDR], m);
	compare(&addr, &n->probe[AT_BOTH], m);
	for (int i = 0; i < ICE_NAT_SERVERS_MAX; i++)
		if (!nb_addr_eq(&n->probe[i].to.addr, &base->to.addr))
			compare(&addr, &n->probe[i], m);
	if (port.differs)
		return ICE_NAT_MAP_ADDRESS_PORT;
	if (addr.differs)
		return dependent(n, port.asked);
	if (addr.asked)
		return ICE_NAT_MAP_INDEPENDENT;
	return port.asked ? ICE_NAT_MAP_ONE_ADDRESS : ICE_NAT_MAP_UNKNOWN;
}

/* Silence says something only about places that do answer when they are asked. */
static enum ice_nat_filtering conclude_filtering(const struct ice_nat *n)
{
	const struct ice_nat_probe *port = &n->probe[FROM_PORT], *both = &n->probe[FROM_BOTH];

	if (answered(both))
		return ICE_NAT_FILTER_INDEPENDENT;
	if (answered(port))
		return both->state == ICE_NAT_SILENT && answered(&n->probe[AT_BOTH]) ? ICE_NAT_FILTER_ADDRESS :
										     ICE_NAT_FILTER_NOT_PORT;
	return port->state == ICE_NAT_SILENT && answered(&n->probe[AT_PORT]) ? ICE_NAT_FILTER_ADDRESS_PORT :
									     ICE_NAT_FILTER_UNKNOWN;
}

static void conclude(struct ice_nat *n, struct nb_time now)
{
	struct ice_nat_report *r = &n->report;

	n->stage = DONE;
	n->ended = now;
	if (n->base < 0)
		return;
	r->mapping = conclude_mapping(n);
	r->filtering = conclude_filtering(n);
	if (answered(&n->probe[AT_SELF]))
		r->hairpin = ICE_NAT_HAIRPIN_YES;
	else if (n->probe[AT_SELF].state == ICE_NAT_SILENT)
		r->hairpin = ICE_NAT_HAIRPIN_NOT_SEEN;
}

/* ---- Rounds ---- */

static int knowledge(const struct ice_nat_probe *p)
{
	return !answered(p) ? 0 : p->other.addr.family ? 3 : p->other_port ? 2 : 1;
}

static void choose_base(struct ice_nat *n)
{
	n->base = -1;
	for (int i = 0; i < ICE_NAT_SERVERS_MAX; i++)
		if (knowledge(&n->probe[i]) > (n->base < 0 ? 0 : knowledge(&n->probe[n->base])))
			n->base = i;
}

/* Places we send to anyway cannot show who else is let in. port 0: any. */
static bool is_server(const struct ice_nat *n, const struct nb_addr *a, uint16_t port)
{
	for (size_t i = 0; i < n->cfg.nservers; i++)
		if (nb_addr_eq(&n->cfg.servers[i].addr, a) && (!port || n->cfg.servers[i].port == port))
			return true;
	return false;
}

static struct nb_endpoint other_port(const struct ice_nat_probe *base)
{
	return (struct nb_endpoint){ base->to.addr, base->other.addr.family ? base->other.port : base->other_port };
}

static bool has_other_port(const struct ice_nat_probe *base)
{
	struct nb_endpoint e = other_port(base);

	return e.port && e.port != base->to.port;
}

static bool has_other_addr(const struct ice_nat_probe *base)
{
	return base->other.addr.family && !nb_addr_eq(&base->other.addr, &base->to.addr);
}

static void begin_filter(struct ice_nat *n, struct nb_time now)
{
	const struct ice_nat_probe *base = &n->probe[n->base];
	struct nb_endpoint port = other_port(base);

	n->stage = FILTER;
	if (has_other_port(base) && !is_server(n, &port.addr, port.port))
		ask(n, &n->probe[FROM_PORT], &base->to, STUN_CHANGE_PORT, now);
	if (has_other_addr(base) && !is_server(n, &base->other.addr, 0))
		ask(n, &n->probe[FROM_BOTH], &base->to, STUN_CHANGE_IP | STUN_CHANGE_PORT, now);
}

static void begin_map(struct ice_nat *n, struct nb_time now)
{
	const struct ice_nat_probe *base = &n->probe[n->base];
	struct nb_endpoint port = other_port(base), addr = { base->other.addr, base->to.port };

	n->stage = MAP;
	if (has_other_port(base))
		ask(n, &n->probe[AT_PORT], &port, 0, now);
	if (has_other_addr(base))
		ask(n, &n->probe[AT_ADDR], &addr, 0, now);
	if (has_other_addr(base) && has_other_port(base))
		ask(n, &n->probe[AT_BOTH], &base->other, 0, now);
	if (!own_address(n, &base->mapped))
		ask(n, &n->probe[AT_SELF], &base->mapped, 0, now);
}

/* What was measured a short time ago stands, but for a mapping that servers which are new since then can tell more of. */
static void keep_before(struct ice_nat *n, struct nb_time now)
{
	enum ice_nat_mapping m = conclude_mapping(n);
	struct ice_nat_report *r = &n->report;

	*r = n->before;
	if (r->mapping == ICE_NAT_MAP_UNKNOWN)
		r->mapping = m;
	else if (r->mapping == ICE_NAT_MAP_ONE_ADDRESS && m == ICE_NAT_MAP_DEPENDENT)
		r->mapping = ICE_NAT_MAP_ADDRESS;
	else if (r->mapping == ICE_NAT_MAP_ONE_ADDRESS && m == ICE_NAT_MAP_INDEPENDENT)
		r->mapping = m;
	n->stage = DONE;
	n->ended = now;
}

static void end_hello(struct ice_nat *n, struct nb_time now)
{
	struct ice_nat_report *r = &n->report;

	choose_base(n);
	if (n->base < 0) {
		r->udp = n->received ? ICE_NAT_UDP_WORKS : n->cfg.nservers ? ICE_NAT_UDP_BLOCKED : ICE_NAT_UDP_UNKNOWN;
		conclude(n, now);
		return;
	}
	r->udp = ICE_NAT_UDP_WORKS;
	r->mapped = n->probe[n->base].mapped;
	r->port_kept = r->mapped.port == n->cfg.port;
	if (n->has_before && nb_endpoint_eq(&n->before.mapped, &r->mapped)) {
		keep_before(n, now);
		return;
	}
	begin_filter(n, now);
}

static void advance(struct ice_nat *n, struct nb_time now)
{
	while (n->stage != DONE && stage_over(n)) {
		if (n->stage == HELLO)
			end_hello(n, now);
		else if (n->stage == FILTER)
			begin_map(n, now);
		else
			conclude(n, now);
	}
}

void ice_nat_init(struct ice_nat *n, const struct ice_nat_config *cfg, struct nb_time now)
{
	memset(n, 0, sizeof *n);
	n->cfg = *cfg;
	n->cfg.before = NULL;
	n->base = -1;
	n->began = n->ended = now;
	if (cfg->before && cfg->before->mapped.addr.family) {
		n->before = *cfg->before;
		n->has_before = true;
	}
	if (n->cfg.nservers > ICE_NAT_SERVERS_MAX)
		n->cfg.nservers = ICE_NAT_SERVERS_MAX;
	if (n->cfg.nhosts > ICE_NAT_HOSTS_MAX)
		n->cfg.nhosts = ICE_NAT_HOSTS_MAX;
	for (size_t i = 0; i < n->cfg.nservers; i++)
		ask(n, &n->probe[i], &n->cfg.servers[i], 0, now);
	advance(n, now);
}

bool ice_nat_done(const struct ice_nat *n)
{
	return n->stage == DONE;
}

const struct ice_nat_report *ice_nat_report(const struct ice_nat *n)
{
	return &n->report;
}

/* ---- Input ---- */

static bool asking(const struct ice_nat_probe *p, const struct stun_msg *m)
{
	return p->state == ICE_NAT_ASKING && p->tries && memcmp(p->txid, stun_txid(m), sizeof p->txid) == 0;
}

static struct ice_nat_probe *find(struct ice_nat *n, const struct stun_msg *m)
{
	for (int i = first_of(n->stage); i < behind(n->stage); i++)
		if (i != AT_SELF && asking(&n->probe[i], m))
			return &n->probe[i];
	return NULL;
}

/* Does the answer come from where it was asked to? A server that knows no CHANGE-REQUEST may have skipped it. */
static bool from_there(const struct ice_nat_probe *p, const struct nb_endpoint *from)
{
	bool port = from->port != p->to.port, addr = !nb_addr_eq(&from->addr, &p->to.addr);

	return port == !!(p->change & STUN_CHANGE_PORT) && addr == !!(p->change & STUN_CHANGE_IP);
}

static int mapped_address(const struct stun_msg *m, struct nb_endpoint *out)
{
	int err = stun_get_xor_addr(m, STUN_A_XOR_MAPPED_ADDRESS, out);

	return err ? stun_get_addr(m, STUN_A_MAPPED_ADDRESS, out) : 0;
}

/* What a server names makes us send there: it must be a machine's address, of its family. */
static bool is_place(const struct nb_endpoint *e, const struct nb_endpoint *server)
{
	const struct nb_addr *a = &e->addr;

	return a->family == server->addr.family && e->port && !nb_addr_is_loopback(a) && !nb_addr_is_multicast(a) &&
	       !nb_addr_is_unspecified(a) && !nb_addr_is_link_local(a);
}

/* Another place that the server may really have. */
static bool plausible(const struct nb_endpoint *other, const struct nb_endpoint *server)
{
	return is_place(other, server) && (!nb_addr_is_private(&other->addr) || nb_addr_is_private(&server->addr));
}

static void take_answer(struct ice_nat_probe *p, const struct stun_msg *m, const struct nb_endpoint *from)
{
	uint32_t port;

	if (mapped_address(m, &p->mapped) || !is_place(&p->mapped, &p->to)) {
		settle(p, ICE_NAT_REFUSED);
		return;
	}
	if (stun_get_addr(m, STUN_A_OTHER_ADDRESS, &p->other) || !plausible(&p->other, &p->to))
		memset(&p->other, 0, sizeof p->other);
	if (!stun_get_u32(m, STUN_A_NESTBOX_OTHER_PORT, &port))
		p->other_port = (uint16_t)(port >> 16);
	settle(p, from_there(p, from) ? ICE_NAT_ANSWERED : ICE_NAT_REFUSED);
}

int ice_nat_input(struct ice_nat *n, const struct nb_endpoint *from, struct nb_bytes in, struct nb_time now)
{
	struct nb_endpoint f = { nb_addr_unmap(&from->addr), from->port };
	struct ice_nat_probe *p;
	struct stun_msg m;

	f.addr.scope = 0;
	if (n->stage == DONE || stun_decode(&m, in) || m.method != STUN_BINDING)
		return NB_E_NOTFOUND;
	if (m.cls == STUN_REQUEST && n->stage == MAP && asking(&n->probe[AT_SELF], &m)) {
		n->received++;
		settle(&n->probe[AT_SELF], ICE_NAT_ANSWERED);
		advance(n, now);
		return 0;
	}
	p = m.cls == STUN_SUCCESS || m.cls == STUN_ERROR ? find(n, &m) : NULL;
	if (!p || (!p->change && !nb_endpoint_eq(&f, &p->to)))
		return NB_E_NOTFOUND;
	n->received++;
	if (m.cls == STUN_ERROR)
		settle(p, ICE_NAT_REFUSED);
	else
		take_answer(p, &m, &f);
	advance(n, now);
	return 0;
}

/* ---- Output ---- */

static void write_request(const struct ice_nat_probe *p, struct nb_dgram *out)
{
	static const char name[REQUEST_LEN] = "nestbox";
	struct stun_enc e;
	struct nb_buf b;

	nb_buf_fixed(&b, out->p, out->cap);
	e = stun_begin(&b, STUN_REQUEST, STUN_BINDING, p->txid);
	if (p->change)
		stun_put_u32(&e, STUN_A_CHANGE_REQUEST, p->change);
	stun_put(&e, STUN_A_SOFTWARE, nb_bytes(name, REQUEST_LEN - b.n - 4));
	stun_end(&e);
	out->n = b.n;
	out->to = p->to;
}

/* One more try, or the end of them. True when something was written. */
static bool try_probe(struct ice_nat *n, struct ice_nat_probe *p, unsigned tries, struct nb_dgram *out, struct nb_time now)
{
	if (p->state != ICE_NAT_ASKING || !nb_time_due(p->next, now))
		return false;
	if (p->tries == tries) {
		settle(p, ICE_NAT_SILENT);
		return false;
	}
	p->next = nb_time_add_ms(now, FIRST_WAIT_MS << p->tries++);
	write_request(p, out);
	n->sent++;
	return true;
}

int ice_nat_output(struct ice_nat *n, struct nb_dgram *out, struct nb_time now)
{
	int stage;

	assert(out->cap >= ICE_NAT_DGRAM_MAX);
	do {
		stage = n->stage;
		for (int i = first_of(stage); i < behind(stage); i++)
			if (try_probe(n, &n->probe[i], i == AT_SELF ? SELF_TRIES : stage == HELLO ? HELLO_TRIES : OTHER_TRIES, out, now))
				return 1;
		advance(n, now);
	} while (n->stage != stage);
	return 0;
}

struct nb_time ice_nat_deadline(const struct ice_nat *n)
{
	struct nb_time t = NB_TIME_NEVER;

	for (int i = first_of(n->stage); i < behind(n->stage); i++)
		if (n->probe[i].state == ICE_NAT_ASKING)
			t = nb_time_min(t, n->probe[i].next);
	return t;
}
