/* portmap.c - see portmap.h. Two requests run side by side until one of them gives a mapping: a PCP MAP and
 * a NAT-PMP question for the external address, which makes nothing at the gateway. Only when PCP is refused,
 * or stays silent while NAT-PMP answers, NAT-PMP is asked for a mapping, too.
 * Tests: tests/unit/ice_portmap_test.c */
#include "ice/portmap.h"

#include <assert.h>

#include "base/buf.h"
#include "base/err.h"

#define PCP_VERSION 2
#define PCP_ANNOUNCE 0
#define PCP_MAP 1
#define PCP_HEADER 24
#define PCP_MAP_LEN 36
#define PMP_ADDRESS 0
#define PMP_MAP_UDP 1
#define REPLY 0x80
#define UDP_PROTOCOL 17

enum pcp_result { PCP_SUCCESS = 0, PCP_UNSUPP_VERSION = 1, PCP_UNSUPP_OPCODE = 4 };
enum pmp_result { PMP_SUCCESS = 0, PMP_UNSUPP_VERSION = 1, PMP_NETWORK_FAILURE = 3, PMP_NO_RESOURCES = 4 };

#define PCP_FIRST_MS 3000	/* RFC 6887 8.1.1 */
#define PMP_FIRST_MS 250	/* RFC 6886 3.1 */
#define REPEAT_MAX_MS 1024000
#define HOLD_MS 500		/* NAT-PMP answered, PCP has this long to be the better choice */
#define HEALTH_MS 60000		/* between two looks at the gateway's clock */
#define RENEW_MIN_MS 4000	/* RFC 6887 11.2.1 */
#define REFUSED_MIN_MS 30000	/* how long a refusal stands */
#define REFUSED_MAX_MS 1800000
#define LIFETIME_MIN_S 60	/* shorter ones are taken for this */
#define LIFETIME_MAX_S 86400	/* longer ones are renewed after half of this */

/* ---- Timers ---- */

static int64_t random_below(struct ice_portmap *m, int64_t n)
{
	uint32_t r;

	m->cfg.random(m->cfg.random_ctx, &r, sizeof r);
	return n > 0 ? (int64_t)(r % (uint64_t)n) : 0;
}

static void timer_stop(struct ice_portmap_timer *t)
{
	t->next = NB_TIME_NEVER;
	t->wait_ms = 0;
}

static void timer_start(struct ice_portmap_timer *t, struct nb_time at)
{
	t->next = at;
	t->wait_ms = 0;
}

/* The request goes out now; when again if nobody answers: twice as long each time, a tenth more or less. */
static void timer_sent(struct ice_portmap *m, struct ice_portmap_timer *t, int64_t first_ms, struct nb_time now)
{
	t->wait_ms = t->wait_ms ? t->wait_ms * 2 : first_ms;
	if (t->wait_ms > REPEAT_MAX_MS)
		t->wait_ms = REPEAT_MAX_MS;
	t->next = nb_time_add_ms(now, t->wait_ms - t->wait_ms / 10 + random_below(m, t->wait_ms / 5));
}

/* Renewals come after half of what is left, again and again (RFC 6887 11.2.1). */
static struct nb_time renewal(struct ice_portmap *m, struct nb_time now)
{
	int64_t left = nb_time_diff(m->expires, now) / NB_MS, wait = left / 2 + random_below(m, left / 16 + 1);

	return nb_time_add_ms(now, wait > RENEW_MIN_MS ? wait : RENEW_MIN_MS);
}

static void renewal_sent(struct ice_portmap *m, struct ice_portmap_timer *t, int64_t first_ms, struct nb_time now)
{
	if (m->proto != ICE_PORTMAP_NONE && !m->fresh)
		t->next = renewal(m, now);
	else
		timer_sent(m, t, first_ms, now);
}

/* ---- The mapping ---- */

static bool is_six(const struct ice_portmap *m)
{
	return m->cfg.gateway.family == 6;
}

/* Ask for everything again. */
static void search(struct ice_portmap *m, struct nb_time now)
{
	m->proto = ICE_PORTMAP_NONE;
	m->fresh = false;
	m->expires = NB_TIME_NEVER;
	m->pcp_silent = true;
	timer_start(&m->pcp_map, now);
	timer_stop(&m->pcp_announce);
	timer_stop(&m->pmp_map);
	if (is_six(m))
		timer_stop(&m->pmp_address);
	else
		timer_start(&m->pmp_address, now);
}

static void say(struct ice_portmap *m, enum ice_portmap_event_type news, unsigned code)
{
	m->news = news;
	m->code = code;
}

static void lose(struct ice_portmap *m, struct nb_time now)
{
	if (m->proto == ICE_PORTMAP_NONE)
		return;
	say(m, ICE_PORTMAP_EV_LOST, 0);
	search(m, now);
}

static void gain(struct ice_portmap *m, enum ice_portmap_proto proto, const struct nb_endpoint *external,
		 uint32_t lifetime_s, struct nb_time now)
{
	bool news = m->proto != proto || !nb_endpoint_eq(&m->external, external);

	if (lifetime_s < LIFETIME_MIN_S)
		lifetime_s = LIFETIME_MIN_S;
	if (lifetime_s > LIFETIME_MAX_S)
		lifetime_s = LIFETIME_MAX_S;
	m->proto = proto;
	m->fresh = false;
	m->external = *external;
	m->lifetime_s = lifetime_s;
	m->expires = nb_time_add(now, lifetime_s * NB_SEC);
	if (news)
		say(m, ICE_PORTMAP_EV_MAPPED, 0);
}

/* The gateway started anew: what it knew of us is gone (or will be, or somebody else's), so ask at once. */
static void start_over(struct ice_portmap *m, struct nb_time now)
{
	if (m->proto == ICE_PORTMAP_NONE)
		return;
	m->fresh = true;
	timer_start(m->proto == ICE_PORTMAP_PCP ? &m->pcp_map : &m->pmp_map, now);
}

/* Take in the gateway's clock; true when it shows a restart. */
static bool epoch_broken(struct ice_portmap_epoch *e, uint32_t server, bool strict, struct nb_time now)
{
	int64_t client = nb_time_diff(now, e->at) / NB_SEC, moved = (int64_t)server - e->server;
	bool broken = e->known && (moved < -1 || client + 2 < moved - moved / 16 || moved + 2 < client - client / 16);

	/* NAT-PMP's rule forgives fast clocks and those that lose an eighth. */
	if (!strict)
		broken = e->known && moved + 2 < client - client / 8;
	*e = (struct ice_portmap_epoch){ true, server, now };
	return broken;
}

/* ---- Requests ---- */

static void put_addr(struct nb_buf *b, const struct nb_addr *a)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (a->family == 6) {
		nb_buf_put(b, a->ip, 16);
	} else {
		nb_buf_put(b, mapped, sizeof mapped);
		nb_buf_put(b, a->ip, 4);
	}
}

static void put_pcp_header(const struct ice_portmap *m, struct nb_buf *b, uint8_t opcode, uint32_t lifetime_s)
{
	nb_buf_u8(b, PCP_VERSION);
	nb_buf_u8(b, opcode);
	nb_buf_be16(b, 0);
	nb_buf_be32(b, lifetime_s);
	put_addr(b, &m->cfg.local);
}

static void put_pcp_map(const struct ice_portmap *m, struct nb_buf *b, uint32_t lifetime_s)
{
	struct nb_addr wish = { .family = m->cfg.gateway.family };
	uint16_t port = m->external.port ? m->external.port : m->cfg.port;

	if (lifetime_s && m->external.addr.family == wish.family)
		wish = m->external.addr;
	put_pcp_header(m, b, PCP_MAP, lifetime_s);
	nb_buf_put(b, m->nonce, sizeof m->nonce);
	nb_buf_be32(b, (uint32_t)UDP_PROTOCOL << 24);
	nb_buf_be16(b, m->cfg.port);
	nb_buf_be16(b, lifetime_s ? port : 0);
	put_addr(b, &wish);
}

static void put_pmp_map(const struct ice_portmap *m, struct nb_buf *b, uint32_t lifetime_s)
{
	uint16_t port = m->external.port ? m->external.port : m->cfg.port;

	nb_buf_be16(b, PMP_MAP_UDP);
	nb_buf_be16(b, 0);
	nb_buf_be16(b, m->cfg.port);
	nb_buf_be16(b, lifetime_s ? port : 0);
	nb_buf_be32(b, lifetime_s);
}

static void health_later(struct ice_portmap *m, struct nb_time now)
{
	if (m->cfg.no_health)
		timer_stop(&m->pcp_announce);
	else
		timer_start(&m->pcp_announce, nb_time_add_ms(now, HEALTH_MS));
}

static bool put_release(struct ice_portmap *m, struct nb_buf *b)
{
	if (m->closed)
		return false;
	m->closed = true;
	if (m->proto == ICE_PORTMAP_NATPMP)
		put_pmp_map(m, b, 0);
	/* A request whose answer is still to come may have made a mapping, too. */
	else if (m->proto == ICE_PORTMAP_PCP || m->pcp_map.wait_ms)
		put_pcp_map(m, b, 0);
	return b->n > 0;
}

static bool put_request(struct ice_portmap *m, struct nb_buf *b, struct nb_time now)
{
	if (nb_time_due(m->pcp_map.next, now)) {
		renewal_sent(m, &m->pcp_map, PCP_FIRST_MS, now);
		put_pcp_map(m, b, ICE_PORTMAP_LIFETIME_S);
	} else if (nb_time_due(m->pmp_map.next, now)) {
		renewal_sent(m, &m->pmp_map, PMP_FIRST_MS, now);
		put_pmp_map(m, b, ICE_PORTMAP_LIFETIME_S);
	} else if (nb_time_due(m->pcp_announce.next, now)) {
		health_later(m, now);
		put_pcp_header(m, b, PCP_ANNOUNCE, 0);
	} else if (nb_time_due(m->pmp_address.next, now)) {
		if (m->proto == ICE_PORTMAP_NATPMP)
			timer_start(&m->pmp_address, nb_time_add_ms(now, HEALTH_MS));
		else
			timer_sent(m, &m->pmp_address, PMP_FIRST_MS, now);
		nb_buf_be16(b, PMP_ADDRESS);
	} else {
		return false;
	}
	return true;
}

int ice_portmap_output(struct ice_portmap *m, struct nb_dgram *out, struct nb_time now)
{
	struct nb_buf b;
	bool wrote;

	assert(out->cap >= ICE_PORTMAP_DGRAM_MAX);
	if (nb_time_due(m->expires, now) && !m->closing)
		lose(m, now);
	nb_buf_fixed(&b, out->p, out->cap);
	wrote = m->closing ? put_release(m, &b) : put_request(m, &b, now);
	out->n = b.n;
	out->to = (struct nb_endpoint){ m->cfg.gateway, ICE_PORTMAP_PORT };
	return wrote && !b.err;
}

/* ---- Answers ---- */

static int64_t refused_ms(uint32_t lifetime_s)
{
	int64_t ms = (int64_t)lifetime_s * 1000;

	return ms < REFUSED_MIN_MS ? REFUSED_MIN_MS : ms > REFUSED_MAX_MS ? REFUSED_MAX_MS : ms;
}

/* NAT-PMP's turn, if it has one: the gateway answers NAT-PMP and PCP does not lead to a mapping. */
static void try_natpmp(struct ice_portmap *m, int64_t hold_ms, struct nb_time now)
{
	if (m->proto == ICE_PORTMAP_NONE && m->pmp_external.family && nb_time_is_never(m->pmp_map.next))
		timer_start(&m->pmp_map, nb_time_add_ms(now, hold_ms));
	else if (m->proto == ICE_PORTMAP_NONE && !hold_ms && m->pmp_external.family && !m->pmp_map.wait_ms)
		m->pmp_map.next = now;
}

/* A refused request for a mapping that exists changes nothing before it runs out, unless the gateway has
 * forgotten it. */
static void refused(struct ice_portmap *m, enum ice_portmap_proto proto, int64_t again_ms, unsigned code,
		    struct nb_time now)
{
	struct ice_portmap_timer *t = proto == ICE_PORTMAP_PCP ? &m->pcp_map : &m->pmp_map;

	if (m->proto == proto && !m->fresh)
		return;
	if (m->proto == proto)
		lose(m, now);
	else
		say(m, ICE_PORTMAP_EV_REFUSED, code);
	timer_start(t, nb_time_add_ms(now, again_ms));
	if (proto == ICE_PORTMAP_PCP) {
		m->pcp_silent = false;
		try_natpmp(m, 0, now);
	}
}

static void pcp_mapped(struct ice_portmap *m, struct nb_cur *c, uint32_t lifetime_s, struct nb_time now)
{
	struct nb_endpoint external;
	uint8_t ip[16];

	external.port = nb_cur_be16(c);
	nb_cur_copy(c, ip, sizeof ip);
	external.addr = nb_addr6(ip);
	external.addr = nb_addr_unmap(&external.addr);
	if (!lifetime_s || !external.port || external.addr.family != m->cfg.gateway.family) {
		refused(m, ICE_PORTMAP_PCP, REFUSED_MIN_MS, PCP_SUCCESS, now);
		return;
	}
	gain(m, ICE_PORTMAP_PCP, &external, lifetime_s, now);
	timer_stop(&m->pmp_map);
	timer_stop(&m->pmp_address);
	timer_start(&m->pcp_map, renewal(m, now));
	health_later(m, now);
}

/* Is what follows the header the answer to our MAP? Leaves the cursor at the external port. */
static bool pcp_is_ours(const struct ice_portmap *m, struct nb_cur *c)
{
	struct nb_bytes nonce = nb_cur_take(c, sizeof m->nonce);
	uint8_t protocol = nb_cur_u8(c);

	nb_cur_skip(c, 3);
	return nb_cur_be16(c) == m->cfg.port && !c->err && nb_cur_left(c) >= 18 && protocol == UDP_PROTOCOL &&
		nb_equal_ct(nonce.p, m->nonce, sizeof m->nonce);
}

static bool wants_pcp(const struct ice_portmap *m)
{
	return m->proto != ICE_PORTMAP_NATPMP && (m->proto == ICE_PORTMAP_PCP || m->pcp_map.wait_ms);
}

static int pcp_input(struct ice_portmap *m, struct nb_bytes in, struct nb_time now)
{
	struct nb_cur c = nb_cur(in);
	uint32_t lifetime_s, epoch;
	uint8_t version, opcode, result;

	version = nb_cur_u8(&c);
	opcode = nb_cur_u8(&c);
	nb_cur_skip(&c, 1);
	result = nb_cur_u8(&c);
	lifetime_s = nb_cur_be32(&c);
	epoch = nb_cur_be32(&c);
	nb_cur_skip(&c, 12);
	if (c.err || in.n % 4 || m->proto == ICE_PORTMAP_NATPMP)
		return NB_E_BAD;
	if (version == PCP_VERSION && opcode == (REPLY | PCP_ANNOUNCE) && m->proto == ICE_PORTMAP_NONE) {
		/* It has just started: what it could not do before it may do now. */
		timer_start(&m->pcp_map, now);
		return 0;
	}
	if (!wants_pcp(m))
		return NB_E_BAD;
	/* Who does not know our version may not have understood the rest, either. (With the opcode of ANNOUNCE this
	 * would be about a NAT-PMP request.) */
	if (result == PCP_UNSUPP_VERSION && opcode == (REPLY | PCP_MAP)) {
		refused(m, ICE_PORTMAP_PCP, REFUSED_MAX_MS, result, now);
		return 0;
	}
	if (version != PCP_VERSION)
		return NB_E_BAD;
	if (opcode != (REPLY | PCP_ANNOUNCE) && (opcode != (REPLY | PCP_MAP) || !pcp_is_ours(m, &c)))
		return NB_E_BAD;
	if (epoch_broken(&m->pcp_epoch, epoch, true, now))
		start_over(m, now);
	if (opcode == (REPLY | PCP_ANNOUNCE)) {
		if (result == PCP_UNSUPP_OPCODE)
			timer_stop(&m->pcp_announce);
		return 0;
	}
	if (result != PCP_SUCCESS) {
		refused(m, ICE_PORTMAP_PCP, refused_ms(lifetime_s), result, now);
		return 0;
	}
	pcp_mapped(m, &c, lifetime_s, now);
	return 0;
}

/* No NAT-PMP here, or not yet. */
static int pmp_refused(struct ice_portmap *m, uint8_t opcode, uint16_t result, struct nb_time now)
{
	bool passing = result == PMP_NETWORK_FAILURE || result == PMP_NO_RESOURCES;
	int64_t again_ms = passing ? REFUSED_MIN_MS : REFUSED_MAX_MS;

	if (opcode == (REPLY | PMP_MAP_UDP)) {
		refused(m, ICE_PORTMAP_NATPMP, again_ms, result, now);
		return 0;
	}
	/* With a mapping the next look at the gateway is due soon anyway. */
	if (m->proto == ICE_PORTMAP_NONE)
		timer_start(&m->pmp_address, nb_time_add_ms(now, again_ms));
	return 0;
}

static void pmp_address(struct ice_portmap *m, uint32_t epoch, const struct nb_addr *address, struct nb_time now)
{
	struct nb_endpoint external = { *address, m->external.port };
	bool broken = epoch_broken(&m->pmp_epoch, epoch, false, now);

	m->pmp_external = *address;
	if (m->proto == ICE_PORTMAP_NATPMP) {
		timer_start(&m->pmp_address, nb_time_add_ms(now, HEALTH_MS));
		if (broken)
			start_over(m, now);
		else if (!nb_addr_eq(address, &m->external.addr))
			gain(m, ICE_PORTMAP_NATPMP, &external, m->lifetime_s, now);
		return;
	}
	/* It need not be told again; search() will ask when the mapping is lost. */
	timer_stop(&m->pmp_address);
	/* Back after a long silence: PCP's next turn may be far off. */
	if (m->pcp_silent && m->pcp_map.wait_ms > PCP_FIRST_MS)
		timer_start(&m->pcp_map, now);
	try_natpmp(m, m->pcp_silent ? HOLD_MS : 0, now);
}

static void pmp_mapped(struct ice_portmap *m, uint32_t epoch, uint16_t port, uint32_t lifetime_s, struct nb_time now)
{
	struct nb_endpoint external = { m->pmp_external, port };
	bool first = m->proto == ICE_PORTMAP_NONE;

	epoch_broken(&m->pmp_epoch, epoch, false, now);
	if (!port || !lifetime_s) {
		refused(m, ICE_PORTMAP_NATPMP, REFUSED_MIN_MS, PMP_SUCCESS, now);
		return;
	}
	gain(m, ICE_PORTMAP_NATPMP, &external, lifetime_s, now);
	timer_stop(&m->pcp_map);
	timer_start(&m->pmp_map, renewal(m, now));
	/* A gateway that restarted may have another address, too. */
	timer_start(&m->pmp_address, first ? nb_time_add_ms(now, HEALTH_MS) : now);
}

static int pmp_input(struct ice_portmap *m, struct nb_bytes in, struct nb_time now)
{
	struct nb_cur c = nb_cur(in);
	struct nb_addr address;
	uint16_t result, inner, port;
	uint32_t epoch;
	uint8_t opcode;

	nb_cur_skip(&c, 1);
	opcode = nb_cur_u8(&c);
	result = nb_cur_be16(&c);
	if (c.err || !(opcode & REPLY) || is_six(m) || m->proto == ICE_PORTMAP_PCP)
		return NB_E_BAD;
	/* So a NAT-PMP gateway says that it does not know PCP (RFC 6887 appendix A). The opcode is that of NAT-PMP's
	 * own map request, which is only sent once the gateway has shown that it knows NAT-PMP. */
	if (result == PMP_UNSUPP_VERSION && opcode == (REPLY | PMP_MAP_UDP)) {
		if (!wants_pcp(m))
			return NB_E_BAD;
		refused(m, ICE_PORTMAP_PCP, REFUSED_MAX_MS, result, now);
		return 0;
	}
	if (result != PMP_SUCCESS)
		return pmp_refused(m, opcode, result, now);
	epoch = nb_cur_be32(&c);
	if (opcode == (REPLY | PMP_ADDRESS)) {
		address = nb_addr4(nb_cur_be32(&c));
		if (c.err)
			return NB_E_BAD;
		pmp_address(m, epoch, &address, now);
		return 0;
	}
	inner = nb_cur_be16(&c);
	port = nb_cur_be16(&c);
	if (opcode != (REPLY | PMP_MAP_UDP) || inner != m->cfg.port || nb_cur_left(&c) < 4 || !m->pmp_external.family ||
	    (m->proto == ICE_PORTMAP_NONE && !m->pmp_map.wait_ms))
		return NB_E_BAD;
	pmp_mapped(m, epoch, port, nb_cur_be32(&c), now);
	return 0;
}

int ice_portmap_input(struct ice_portmap *m, const struct nb_endpoint *from, struct nb_bytes in, struct nb_time now)
{
	int err = NB_E_BAD;

	if (!m->closing && from->port == ICE_PORTMAP_PORT && nb_addr_eq(&from->addr, &m->cfg.gateway) && in.n >= 4 &&
	    in.n <= ICE_PORTMAP_INPUT_MAX)
		err = in.p[0] == 0 ? pmp_input(m, in, now) : pcp_input(m, in, now);
	if (err)
		m->dropped++;
	return err;
}

/* ---- Life ---- */

void ice_portmap_init(struct ice_portmap *m, const struct ice_portmap_config *cfg, struct nb_time now)
{
	memset(m, 0, sizeof *m);
	m->cfg = *cfg;
	cfg->random(cfg->random_ctx, m->nonce, sizeof m->nonce);
	search(m, now);
}

void ice_portmap_check(struct ice_portmap *m, struct nb_time now)
{
	if (m->proto == ICE_PORTMAP_PCP)
		timer_start(&m->pcp_announce, now);
	else if (m->proto == ICE_PORTMAP_NATPMP)
		timer_start(&m->pmp_address, now);
}

void ice_portmap_release(struct ice_portmap *m)
{
	m->closing = true;
	m->closed = false;
	m->news = ICE_PORTMAP_EV_NONE;
}

int ice_portmap_event(struct ice_portmap *m, struct ice_portmap_event *ev)
{
	*ev = (struct ice_portmap_event){ .type = m->news, .proto = m->proto, .code = m->code };
	if (m->news == ICE_PORTMAP_EV_MAPPED) {
		ev->external = m->external;
		ev->lifetime_s = m->lifetime_s;
	}
	m->news = ICE_PORTMAP_EV_NONE;
	return ev->type != ICE_PORTMAP_EV_NONE;
}

struct nb_time ice_portmap_deadline(const struct ice_portmap *m)
{
	struct nb_time t = nb_time_min(m->pcp_map.next, m->pmp_map.next);

	if (m->closing)
		return m->closed ? NB_TIME_NEVER : (struct nb_time){ 0 };
	t = nb_time_min(t, nb_time_min(m->pcp_announce.next, m->pmp_address.next));
	return nb_time_min(t, m->expires);
}

const char *ice_portmap_name(enum ice_portmap_proto proto)
{
	static const char *const names[] = { "none", "PCP", "NAT-PMP" };

	return names[proto];
}
