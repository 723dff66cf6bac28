/* filter_sim_test.c - random conversations, rule changes and passing time: the filter against a slow model that keeps a
 * plain list of flows and walks plain rules. Written from filter.h and spec/client.md 6.3, not from filter.c. */
#include "unit/filter_help.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define STEPS 300000
#define FLOWS 4096
#define RULES 24

struct model_flow {
	struct help_pkt p;	/* as if it were an inbound packet: src is the other side */
	bool theirs, cut, answered, fin_in, fin_out, other_first;
	enum { SHAKE, OPEN, HALF, OVER, RESET } state;
	unsigned table;
	int64_t until;
};

static struct model_flow flows[FLOWS];
static size_t nflows;
static struct filter_rule rules[RULES];
static size_t nrules;
static unsigned table;
static int64_t now_s;
static uint64_t seed;

static unsigned roll(unsigned n)
{
	uint64_t x;

	help_random(&seed, &x, sizeof x);
	return (unsigned)(x >> 20) % n;
}

static bool is_icmp(const struct help_pkt *p)
{
	return p->proto == 1 || p->proto == 58;
}

static bool is_request(const struct help_pkt *p)
{
	return p->dport == (p->src.family == 4 ? 8 : 128);
}

static bool is_reply(const struct help_pkt *p)
{
	return p->dport == (p->src.family == 4 ? 0 : 129);
}

/* Do the rules accept this inbound packet as something new? */
static bool welcome(const struct help_pkt *p)
{
	struct nb_addr us = help_addr(p->dst.family == 4 ? 'L' : 'l');
	bool accept = false;

	if (!nb_addr_eq(&p->dst, &us))
		return false;
	for (size_t i = 0; i < nrules; i++) {
		const struct filter_rule *r = &rules[i];
		bool ports = r->port_lo || r->port_hi, match = true;

		if (!nb_prefix_contains(&r->src, &p->src))
			continue;
		if (r->proto == FILTER_TCP)
			match = p->proto == 6;
		else if (r->proto == FILTER_UDP)
			match = p->proto == 17;
		else if (r->proto == FILTER_ICMP)
			match = is_icmp(p);
		else if (ports)
			match = p->proto == 6 || p->proto == 17;
		if (ports && r->proto != FILTER_ICMP)
			match = match && p->dport >= r->port_lo && p->dport <= r->port_hi;
		if (match && r->drop)
			return false;
		accept |= match;
	}
	return accept;
}

static struct model_flow *find(const struct help_pkt *as_in, bool theirs)
{
	for (size_t i = 0; i < nflows; i++) {
		struct model_flow *m = &flows[i];

		if (m->until <= now_s) {
			*m = flows[--nflows];
			i--;
			continue;
		}
		if (m->p.proto == as_in->proto && m->p.sport == as_in->sport && m->p.dport == as_in->dport &&
		    nb_addr_eq(&m->p.src, &as_in->src) && nb_addr_eq(&m->p.dst, &as_in->dst) &&
		    (!is_icmp(as_in) || m->theirs == theirs))
			return m;
	}
	return NULL;
}

static int64_t lasts(const struct model_flow *m)
{
	if (m->p.proto == 17 || is_icmp(&m->p))
		return 30;
	if (m->p.proto != 6)
		return 600;
	switch (m->state) {
	case OVER:
		return m->other_first ? 30 : 240;
	case RESET:
		return 10;
	case SHAKE:
		return m->cut ? 10800 : 60;
	case HALF:
		return m->cut ? 10800 : 60;
	default:
		return 10800;
	}
}

static void begin(struct model_flow *m, const struct help_pkt *as_in, bool theirs, bool open)
{
	*m = (struct model_flow){ .p = *as_in, .theirs = theirs, .state = open ? OPEN : SHAKE, .table = table };
	m->until = now_s + lasts(m);
}

static struct model_flow *more(void)
{
	assert_true(nflows < FLOWS);
	return &flows[nflows++];
}

static void tcp_heard(struct model_flow *m, uint8_t flags, bool in)
{
	bool beginner = in == m->theirs;

	m->answered |= !beginner;
	if (flags & HELP_RST)
		m->state = RESET;
	else if (m->state == RESET && !in)
		m->state = OPEN;
	else if (m->state == SHAKE && beginner && flags & HELP_ACK && m->answered)
		m->state = OPEN;
	if (flags & HELP_FIN && m->state != OVER && m->state != RESET) {
		m->other_first |= m->state != HALF && !beginner;
		*(in ? &m->fin_in : &m->fin_out) = true;
		m->state = m->fin_in && m->fin_out ? OVER : HALF;
	}
}

/* The form flows are kept in: an inbound packet; of pings only the number. */
static struct help_pkt normal(const struct help_pkt *p, bool in)
{
	struct help_pkt n = *p;

	if (!in) {
		n.src = p->dst;
		n.dst = p->src;
		if (!is_icmp(p)) {
			n.sport = p->dport;
			n.dport = p->sport;
		}
	}
	if (is_icmp(p))
		n.dport = 0;
	return n;
}

static bool lives(struct model_flow *m)
{
	if (m->theirs && m->table != table) {
		m->table = table;
		m->cut = !welcome(&m->p);
	}
	return !m->cut;
}

static bool model_in(const struct help_pkt *p)
{
	struct help_pkt n = normal(p, true);
	bool ping = is_icmp(p), syn = p->proto == 6 && (p->flags & (HELP_SYN | HELP_ACK)) == HELP_SYN;
	struct model_flow *m;

	if (p->proto == 6 && (!p->flags || (p->flags & HELP_SYN && p->flags & (HELP_FIN | HELP_RST)) ||
			      (p->flags & HELP_FIN && p->flags & HELP_RST)))
		return false;
	if (ping && !is_request(p) && !is_reply(p))
		return welcome(p);
	m = find(&n, ping ? is_request(p) : false);
	if (m && syn && (m->state != SHAKE || m->cut)) {
		if (!welcome(p))
			return false;
		if (m->cut || m->state == OVER || m->state == RESET)
			begin(m, &n, true, false);
		return true;
	}
	if (m) {
		if (!lives(m))
			return false;
		if (p->proto == 6)
			tcp_heard(m, p->flags, true);
		m->until = now_s + lasts(m);
		return true;
	}
	if (!welcome(p))
		return false;
	if (ping ? is_request(p) : p->proto != 6 || syn || (p->flags & (HELP_SYN | HELP_FIN | HELP_RST | HELP_ACK)) == HELP_ACK)
		begin(more(), &n, true, p->proto == 6 && !syn);
	return true;
}

static void model_out(const struct help_pkt *p)
{
	struct help_pkt n = normal(p, false);
	bool ping = is_icmp(p), syn = p->proto == 6 && (p->flags & (HELP_SYN | HELP_ACK)) == HELP_SYN;
	struct model_flow *m;

	if (ping && !is_request(p) && !is_reply(p))
		return;
	m = find(&n, ping ? is_reply(p) : false);
	if (m) {
		if (p->proto == 6 && syn && (m->theirs || m->state != SHAKE)) {
			begin(m, &n, false, false);
			return;
		}
		if (p->proto == 6)
			tcp_heard(m, p->flags, false);
		m->until = now_s + lasts(m);
		return;
	}
	if (ping && !is_request(p))
		return;
	if (p->proto == 6 && !syn && (p->flags & (HELP_SYN | HELP_RST) || p->sport < 32768 || p->dport >= 32768))
		return;
	begin(more(), &n, false, p->proto == 6 && !syn);
}

static bool model_error(const struct help_pkt *quoted, struct nb_addr from, uint8_t type)
{
	struct help_pkt n = normal(quoted, false), outer = { .src = from, .dst = quoted->src, .dport = type,
							     .proto = from.family == 4 ? 1 : 58 };
	bool ping = is_icmp(quoted);
	struct model_flow *m;

	if (!ping || is_request(quoted) || is_reply(quoted)) {
		m = find(&n, ping ? is_reply(quoted) : false);
		if (m && lives(m))
			return true;
	}
	return welcome(&outer);
}

static struct help_pkt some_packet(bool in)
{
	static const char us[] = "LLLLLLX", them[] = "ABC";
	static const uint8_t flags[] = { 2, 18, 16, 16, 16, 17, 4, 20, 3, 0 };
	static const uint16_t ours[] = { 22, 80, 40000 }, theirs[] = { 22, 5000, 40001 };
	char low = roll(2) ? 32 : 0;
	struct help_pkt p = { 0 };

	p.src = help_addr((char)(them[roll(3)] | low));
	p.dst = help_addr((char)(us[roll(7)] | low));
	p.sport = theirs[roll(3)];
	p.dport = ours[roll(3)];
	switch (roll(4)) {
	case 0:
		p.proto = low ? 58 : 1;
		p.sport = (uint16_t)roll(3);
		p.dport = (uint16_t)(roll(6) ? low ? 128 + roll(2) : roll(2) * 8 : low ? 134 : 13);
		break;
	case 1:
		p.proto = 17;
		break;
	case 2:
		p.proto = roll(4) ? 6 : 47;
		p.flags = flags[roll(10)];
		break;
	default:
		p.proto = 6;
		p.flags = flags[roll(10)];
		break;
	}
	if (p.proto == 47)
		p.sport = p.dport = p.flags = 0;
	if (!in) {
		struct nb_addr a = p.src;
		uint16_t port = p.sport;

		p.src = p.dst;
		p.dst = a;
		if (!is_icmp(&p)) {
			p.sport = p.dport;
			p.dport = port;
		}
	}
	return p;
}

static void some_rules(struct filter *f)
{
	struct filter_spec spec = { .local4 = help_addr('L'), .local6 = help_addr('l'), .rules = rules };
	static const char *const texts[] = {
		"accept tcp A 22", "accept tcp A 80", "accept all B", "drop tcp B 22", "accept tcp * 80", "accept icmp *",
		"accept udp a 1-100", "accept all b", "drop all +", "accept tcp + 40000", "accept udp C", "drop icmp A",
		"accept all C 20-90", "accept icmp a", "drop udp B 80", "accept all A", "accept tcp c", "accept all *",
	};
	struct filter_table *t;

	nrules = 0;
	for (unsigned n = roll(8); n; n--)
		rules[nrules++] = help_rule(texts[roll(18)]);
	spec.nrules = nrules;
	table++;
	assert_int_equal(filter_table_new(&t, &spec), 0);
	filter_table_free(filter_exchange(f, t));
}

static void step(struct filter *f, int i)
{
	struct nb_time now = { now_s * NB_SEC + 5 };
	unsigned what = roll(200);
	struct help_pkt p = some_packet(what < 90);
	bool got, want;
	uint8_t b[256];

	if (what < 90) {
		want = model_in(&p);
		got = filter_in(f, nb_bytes(b, help_packet(b, &p)), p.src.ip[3], now);
	} else if (what < 170) {
		model_out(&p);
		filter_out(f, nb_bytes(b, help_packet(b, &p)), now);
		return;
	} else if (what < 185) {
		struct nb_addr from = help_addr(p.src.family == 4 ? 'B' : 'b');
		uint8_t type = p.src.family == 4 ? 3 : 1;

		want = model_error(&p, from, type);
		got = filter_in(f, nb_bytes(b, help_error(b, from, p.src, type, &p)), 9, now);
	} else if (what < 197) {
		static const int64_t waits[] = { 1, 1, 5, 9, 29, 31, 61, 200, 700 };

		now_s += waits[roll(9)];
		return;
	} else {
		some_rules(f);
		return;
	}
	if (got != want)
		fail_msg("step %d: the filter %s what the model %s (proto %u, ports %u %u, flags %u)", i, got ? "passed" : "dropped",
			 want ? "passed" : "dropped", p.proto, p.sport, p.dport, p.flags);
}

static void against_the_model(void **state)
{
	uint64_t own = 1;
	struct filter_config cfg = { .random = help_random, .random_ctx = &own };

	(void)state;
	for (unsigned round = 1; round <= 3; round++) {
		struct filter *f;

		seed = round;
		nflows = nrules = 0;
		now_s = 100;
		assert_int_equal(filter_new(&f, &cfg), 0);
		some_rules(f);
		for (int i = 0; i < STEPS / 3; i++)
			step(f, i);
		assert_int_equal(filter_counters(f)->evicted, 0);
		assert_true(filter_counters(f)->cut > 100);
		assert_true(filter_counters(f)->passed_related > 100);
		filter_table_free(filter_exchange(f, NULL));
		filter_free(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(against_the_model) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
