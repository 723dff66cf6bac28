/* filter_filter_test.c - access control: a table of conversations, then what does not fit into rows. */
#include "filter_help.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct filter *filter;
static struct nb_time now;
static uint64_t seed;

static void fresh_with(const struct filter_config *settings, const char *rules)
{
	struct filter_config cfg = *settings;

	cfg.random = help_random;
	cfg.random_ctx = &seed;
	seed = 7;
	now = (struct nb_time){ 1000 * NB_SEC };
	assert_int_equal(filter_new(&filter, &cfg), 0);
	if (rules)
		assert_null(filter_exchange(filter, help_table(rules)));
}

static void fresh(uint32_t tcp, uint32_t udp, uint32_t icmp, const char *rules)
{
	struct filter_config cfg = { .max_tcp = tcp, .max_udp = udp, .max_icmp = icmp };

	fresh_with(&cfg, rules);
}

static void done(void)
{
	filter_table_free(filter_exchange(filter, NULL));
	filter_free(filter);
}

static void rules(const char *text)
{
	filter_table_free(filter_exchange(filter, help_table(text)));
}

static bool in_bytes(const uint8_t *b, size_t n)
{
	return filter_in(filter, nb_bytes(b, n), b[0] >> 4 == 4 ? b[15] : b[23], now);
}

static bool in(const char *text)
{
	struct help_pkt p = help_pkt(text);
	uint8_t b[128];

	return in_bytes(b, help_packet(b, &p));
}

static void out(const char *text)
{
	struct help_pkt p = help_pkt(text);
	uint8_t b[128];

	filter_out(filter, nb_bytes(b, help_packet(b, &p)), now);
}

/* "from type: packet": an ICMP error from that address that quotes the packet. */
static bool error(const char *text)
{
	struct help_pkt q = help_pkt(strchr(text, ':') + 2);
	unsigned type;
	uint8_t b[256];
	char from;

	assert_int_equal(sscanf(text, "%c %u:", &from, &type), 2);
	return in_bytes(b, help_error(b, help_addr(from), help_addr(from & 32 ? 'l' : 'L'), (uint8_t)type, &q));
}

/* --- conversations: "+ packet" comes in and passes, "- packet" comes in and does not, "> packet" goes out,
 * "e+", "e-" the same for ICMP errors, "wait N" seconds, "rules ..." a new table --- */

struct row {
	const char *name, *rules;
	const char *steps[24];
};

static const struct row rows[] = {
	{ "empty table denies", "", { "- tcp A 5000 L 22 S", "- udp A 1 L 53", "- icmp A 1 L 8",
	  "- gre A 0 L 0", "- tcp a 1 l 22 S" } },
	{ "no table denies", NULL, { "- tcp A 5000 L 22 S", "- icmp A 1 L 8", "> udp L 9 A 53",
	  "+ udp A 53 L 9" } },
	{ "one port of one peer", "accept tcp A 22", { "+ tcp A 5000 L 22 S", "- tcp A 5000 L 23 S",
	  "- tcp B 5000 L 22 S", "- udp A 5000 L 22", "- icmp A 1 L 8", "- tcp a 5000 l 22 S" } },
	{ "range", "accept udp A 100-200", { "- udp A 1 L 99", "+ udp A 1 L 100", "+ udp A 1 L 200",
	  "- udp A 1 L 201" } },
	{ "icmp only", "accept icmp A", { "+ icmp A 1 L 8", "+ icmp A 1 L 13", "- tcp A 1 L 22 S",
	  "- udp A 1 L 22", "- icmp B 1 L 8" } },
	{ "icmp of IPv6", "accept icmp a", { "+ icmp a 1 l 128", "- icmp A 1 L 8", "- udp a 1 l 5" } },
	{ "all", "accept all A", { "+ tcp A 1 L 2 S", "+ udp A 1 L 2", "+ icmp A 1 L 8",
	  "+ gre A 0 L 0" } },
	{ "all with ports", "accept all A 80", { "+ tcp A 1 L 80 S", "+ udp A 1 L 80",
	  "- tcp A 1 L 81 S", "- icmp A 1 L 8", "- gre A 0 L 0" } },
	{ "any source", "accept tcp * 80", { "+ tcp A 1 L 80 S", "+ tcp X 1 L 80 S",
	  "- tcp a 1 l 80 S" } },
	{ "any IPv6 source", "accept tcp + 80", { "+ tcp a 1 l 80 S", "- tcp A 1 L 80 S" } },
	{ "drop before accept", "accept all A; drop tcp A 22", { "- tcp A 1 L 22 S",
	  "+ tcp A 1 L 23 S" } },
	{ "any-source drop before the peer's accept", "accept tcp A 22; drop tcp * 22", {
	  "- tcp A 1 L 22 S" } },
	{ "the peer's drop before any-source accept", "accept all *; drop all A", { "- tcp A 1 L 22 S",
	  "+ tcp B 1 L 22 S" } },
	{ "old server", "all", { "+ tcp A 1 L 22 S", "+ icmp a 1 l 128", "- tcp A 1 X 22 S" } },
	{ "not our address", "accept all *", { "- tcp A 1 X 22 S", "- udp A 1 B 5",
	  "+ tcp A 1 L 22 S" } },
	{ "answers pass, and nothing else of theirs", "", { "> tcp L 40000 A 80 S",
	  "+ tcp A 80 L 40000 SA", "> tcp L 40000 A 80 A", "+ tcp A 80 L 40000 A",
	  "- tcp A 81 L 40000 A", "- tcp A 80 L 40001 A", "- tcp B 80 L 40000 A",
	  "- tcp A 80 L 40000 S" } },
	{ "outbound from another address of ours", "", { "> udp X 9 A 53", "+ udp A 53 X 9",
	  "- udp A 53 L 9" } },
	{ "handshake expires", "", { "> tcp L 40000 A 80 S", "wait 59", "+ tcp A 80 L 40000 SA",
	  "wait 61", "- tcp A 80 L 40000 SA" } },
	{ "open connection expires", "", { "> tcp L 40000 A 80 S", "+ tcp A 80 L 40000 SA",
	  "> tcp L 40000 A 80 A", "wait 10799", "+ tcp A 80 L 40000 A", "wait 10801",
	  "- tcp A 80 L 40000 A" } },
	{ "half closed", "", { "> tcp L 40000 A 80 S", "+ tcp A 80 L 40000 SA", "> tcp L 40000 A 80 A",
	  "> tcp L 40000 A 80 FA", "wait 59", "+ tcp A 80 L 40000 A", "wait 61",
	  "- tcp A 80 L 40000 A" } },
	{ "closed, then late segments, then over", "", { "> tcp L 40000 A 80 S",
	  "+ tcp A 80 L 40000 SA", "> tcp L 40000 A 80 A", "> tcp L 40000 A 80 FA",
	  "+ tcp A 80 L 40000 FA", "> tcp L 40000 A 80 A", "wait 100", "+ tcp A 80 L 40000 FA",
	  "wait 241", "- tcp A 80 L 40000 A" } },
	{ "reset", "", { "> tcp L 40000 A 80 S", "+ tcp A 80 L 40000 SA", "> tcp L 40000 A 80 A",
	  "+ tcp A 80 L 40000 R", "wait 11", "- tcp A 80 L 40000 A" } },
	{ "a reset that our side does not take", "", { "> tcp L 40000 A 80 S", "+ tcp A 80 L 40000 SA",
	  "> tcp L 40000 A 80 A", "+ tcp A 80 L 40000 R", "> tcp L 40000 A 80 A", "wait 60",
	  "+ tcp A 80 L 40000 A" } },
	{ "no way back in through a closed connection", "", { "> tcp L 40000 A 80 S",
	  "+ tcp A 80 L 40000 RA", "- tcp A 80 L 40000 S" } },
	{ "the same ports again", "", { "> tcp L 40000 A 80 S", "+ tcp A 80 L 40000 RA",
	  "> tcp L 40000 A 80 S", "+ tcp A 80 L 40000 SA", "> tcp L 40000 A 80 A", "wait 100",
	  "+ tcp A 80 L 40000 A" } },
	{ "simultaneous open", "", { "> tcp L 40000 A 40001 S", "+ tcp A 40001 L 40000 S",
	  "> tcp L 40000 A 40001 SA" } },
	{ "inbound connection", "accept tcp A 22", { "+ tcp A 5000 L 22 S", "> tcp L 22 A 5000 SA",
	  "+ tcp A 5000 L 22 A", "wait 3000", "+ tcp A 5000 L 22 A" } },
	{ "picked up in the middle, begun here", "", { "> tcp L 40000 A 80 A",
	  "+ tcp A 80 L 40000 A" } },
	{ "picked up in the middle, not begun here", "", { "> tcp L 22 A 40000 A",
	  "- tcp A 40000 L 22 A" } },
	{ "an answer to a refused SYN opens nothing", "", { "- tcp A 5000 L 40000 S",
	  "> tcp L 40000 A 80 SA", "- tcp A 80 L 40000 A" } },
	{ "impossible flags", "accept all A", { "- tcp A 1 L 2 SF", "- tcp A 1 L 2 SR",
	  "- tcp A 1 L 2 FR", "- tcp A 1 L 2", "+ tcp A 1 L 2 S" } },
	{ "udp answers", "", { "> udp L 4000 A 53", "+ udp A 53 L 4000", "- udp A 54 L 4000", "wait 29",
	  "+ udp A 53 L 4000", "wait 29", "+ udp A 53 L 4000", "wait 31", "- udp A 53 L 4000" } },
	{ "ping answers", "", { "> icmp L 7 A 8", "+ icmp A 7 L 0", "- icmp A 8 L 0", "- icmp A 7 L 8",
	  "- icmp B 7 L 0", "wait 31", "- icmp A 7 L 0" } },
	{ "ping with number 0", "", { "> icmp L 0 A 8", "- icmp A 0 L 8", "+ icmp A 0 L 0" } },
	{ "ping answers of IPv6", "", { "> icmp l 7 a 128", "+ icmp a 7 l 129", "- icmp a 7 l 128" } },
	{ "an answer from us makes no flow", "", { "> icmp L 7 A 0", "- icmp A 7 L 8",
	  "- icmp A 7 L 0" } },
	{ "other protocols answer, too", "", { "> gre L 0 A 0", "+ gre A 0 L 0", "wait 599",
	  "+ gre A 0 L 0", "wait 601", "- gre A 0 L 0" } },
	{ "a rule that goes cuts", "accept tcp A 22", { "+ tcp A 5000 L 22 S", "> tcp L 22 A 5000 SA",
	  "+ tcp A 5000 L 22 A", "rules ", "- tcp A 5000 L 22 A", "> tcp L 22 A 5000 A",
	  "- tcp A 5000 L 22 A", "wait 7200", "> tcp L 22 A 5000 A", "- tcp A 5000 L 22 A" } },
	{ "cut also on ports that look like our choice", "accept tcp A 40000", { "+ tcp A 80 L 40000 S",
	  "> tcp L 40000 A 80 SA", "+ tcp A 80 L 40000 A", "rules ", "- tcp A 80 L 40000 A",
	  "> tcp L 40000 A 80 A", "- tcp A 80 L 40000 A" } },
	{ "a rule that comes back revives", "accept tcp A 22", { "+ tcp A 5000 L 22 S",
	  "> tcp L 22 A 5000 SA", "+ tcp A 5000 L 22 A", "rules ", "- tcp A 5000 L 22 A",
	  "rules accept tcp A 20-30", "+ tcp A 5000 L 22 A" } },
	{ "a drop rule that comes cuts", "accept all A", { "+ udp A 5000 L 53", "> udp L 53 A 5000",
	  "rules accept all A; drop udp A 53", "- udp A 5000 L 53", "> udp L 53 A 5000",
	  "- udp A 5000 L 53" } },
	{ "what we began goes on", "accept all A", { "> tcp L 40000 A 80 S", "+ tcp A 80 L 40000 SA",
	  "> tcp L 40000 A 80 A", "rules drop all A", "+ tcp A 80 L 40000 A", "- tcp A 5000 L 22 S" } },
	{ "ping is cut", "accept icmp A", { "+ icmp A 1 L 8", "> icmp L 1 A 0", "rules accept icmp B",
	  "- icmp A 1 L 8" } },
	{ "we may connect where we were cut", "accept tcp A 40000", { "+ tcp A 80 L 40000 S", "rules ",
	  "- tcp A 80 L 40000 A", "> tcp L 40000 A 80 S", "+ tcp A 80 L 40000 SA" } },
	{ "a table that allows the same changes nothing", "accept tcp A 22", { "+ tcp A 5000 L 22 S",
	  "> tcp L 22 A 5000 SA", "rules accept tcp A 22", "+ tcp A 5000 L 22 A" } },
	{ "related errors", "", { "> udp L 4000 A 53", "e+ A 3: udp L 4000 A 53",
	  "e+ B 11: udp L 4000 A 53", "e- A 3: udp L 4001 A 53", "e- A 5: udp L 4000 A 53",
	  "e- A 3: udp A 53 L 4000", "wait 31", "e- A 3: udp L 4000 A 53" } },
	{ "an error about what another address of ours sent", "", { "> udp X 4000 A 53",
	  "e- A 3: udp X 4000 A 53" } },
	{ "related errors of IPv6", "", { "> tcp l 40000 a 80 S", "e+ a 2: tcp l 40000 a 80",
	  "e+ a 1: tcp l 40000 a 80", "e- a 5: tcp l 40000 a 80", "e- a 2: tcp l 40000 b 80" } },
	{ "related errors about pings", "", { "> icmp L 7 A 8", "e+ B 11: icmp L 7 A 8",
	  "e- B 11: icmp L 8 A 8" } },
	{ "errors about a cut connection", "accept udp A 53", { "+ udp A 5000 L 53",
	  "e+ A 3: udp L 53 A 5000", "rules ", "e- A 3: udp L 53 A 5000" } },
	{ "errors by rule", "accept icmp A", { "e+ A 3: udp L 1 A 2", "e- B 3: udp L 1 A 2" } },
};

static void run_step(const struct row *r, size_t i)
{
	const char *s = r->steps[i];
	bool pass;

	if (*s == '>') {
		out(s + 2);
		return;
	}
	if (!strncmp(s, "wait ", 5)) {
		now = nb_time_add(now, atoi(s + 5) * NB_SEC);
		return;
	}
	if (!strncmp(s, "rules ", 6)) {
		rules(s + 6);
		return;
	}
	pass = *s == 'e' ? error(s + 3) : in(s + 2);
	if (pass != (s[*s == 'e'] == '+'))
		fail_msg("%s: step %zu (%s) %s", r->name, i, s, pass ? "passed" : "was dropped");
}

static void conversations(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		fresh(64, 64, 64, rows[i].rules);
		for (size_t k = 0; k < 24 && rows[i].steps[k]; k++)
			run_step(&rows[i], k);
		done();
	}
}

/* --- packets that are no packets --- */

static void malformed(void **state)
{
	struct help_pkt p = help_pkt("tcp A 1 L 2 S"), p6 = help_pkt("tcp a 1 l 2 S");
	uint8_t b[128], c[128];
	size_t n = help_packet(b, &p);

	(void)state;
	fresh(0, 0, 0, "accept all *; accept all +");
	assert_true(in_bytes(b, n));
	assert_true(in_bytes(b, n + 16));	/* WireGuard's padding behind it */
	for (size_t i = 1; i < n; i++)
		assert_false(filter_in(filter, nb_bytes(b, i), 1, now));
	assert_false(filter_in(filter, nb_bytes(NULL, 0), 1, now));
	memcpy(c, b, n);
	c[0] = 0x44;
	assert_false(in_bytes(c, n));
	c[0] = 0x55;
	assert_false(in_bytes(c, n));
	memcpy(c, b, n);
	nb_put_be16(c + 2, 39);		/* ends within the TCP header */
	assert_false(in_bytes(c, n));
	/* Loose source route. */
	memmove(c + 24, b + 20, n - 20);
	memcpy(c, b, 20);
	c[0] = 0x46;
	nb_put_be16(c + 2, (uint16_t)(n + 4));
	memcpy(c + 20, (uint8_t[]){ 131, 3, 4, 0 }, 4);
	assert_false(in_bytes(c, n + 4));
	memcpy(c + 20, (uint8_t[]){ 148, 4, 0, 0 }, 4);	/* router alert is fine */
	assert_true(in_bytes(c, n + 4));
	n = help_packet(b, &p6);
	assert_true(in_bytes(b, n));
	for (size_t i = 1; i < n; i++)
		assert_false(filter_in(filter, nb_bytes(b, i), 1, now));
	assert_true(filter_counters(filter)->dropped_malformed > 100);
	done();
}

/* Put an extension header of 8 bytes between IPv6 header and the rest. */
static size_t extend(uint8_t *to, const uint8_t *from, size_t n, uint8_t type, const uint8_t head[8])
{
	memcpy(to, from, 40);
	memcpy(to + 40, head, 8);
	to[40] = from[6];
	to[6] = type;
	memcpy(to + 48, from + 40, n - 40);
	nb_put_be16(to + 4, (uint16_t)(n - 40 + 8));
	return n + 8;
}

static void extension_headers(void **state)
{
	static const uint8_t plain[8] = { 0, 0, 1, 4 }, rh2[8] = { 0, 0, 2, 0 }, rh0[8] = { 0, 0, 0, 0 }, longer[8] = { 0, 9 };
	struct help_pkt p = help_pkt("tcp a 1 l 22 S");
	uint8_t b[512], c[512];
	size_t n = help_packet(b, &p), m;

	(void)state;
	fresh(0, 0, 0, "accept tcp a 22");
	m = extend(c, b, n, 60, plain);
	assert_true(in_bytes(c, m));
	assert_int_equal(filter_counters(filter)->flows, 1);
	m = extend(c, b, n, 0, plain);
	assert_true(in_bytes(c, m));
	assert_int_equal(filter_counters(filter)->flows, 1);
	m = extend(c, b, n, 43, rh2);
	assert_true(in_bytes(c, m));
	m = extend(c, b, n, 43, rh0);
	assert_false(in_bytes(c, m));
	m = extend(c, b, n, 60, longer);
	assert_false(in_bytes(c, m));
	/* A port behind the headers is seen. */
	p = help_pkt("tcp a 1 l 23 S");
	n = help_packet(b, &p);
	m = extend(c, b, n, 60, plain);
	assert_false(in_bytes(c, m));
	/* Too many. */
	p = help_pkt("tcp a 1 l 22 S");
	n = help_packet(b, &p);
	for (int i = 0; i < 8; i++) {
		n = extend(c, b, n, 60, plain);
		memcpy(b, c, n);
	}
	assert_true(in_bytes(b, n));
	n = extend(c, b, n, 60, plain);
	assert_false(in_bytes(c, n));
	done();
}

static size_t fragment4(uint8_t *b, const char *text, uint16_t id, unsigned offset, bool more, size_t payload)
{
	struct help_pkt p = help_pkt(text);

	help_packet(b, &p);
	nb_put_be16(b + 2, (uint16_t)(20 + payload));
	nb_put_be16(b + 4, id);
	nb_put_be16(b + 6, (uint16_t)(offset / 8 | (more ? 0x2000 : 0)));
	return 20 + payload;
}

static size_t fragment6(uint8_t *b, const char *text, uint32_t id, unsigned offset, bool more)
{
	struct help_pkt p = help_pkt(text);
	uint8_t whole[128], head[8] = { 0 };
	size_t n = help_packet(whole, &p);

	nb_put_be16(head + 2, (uint16_t)(offset | more));
	nb_put_be32(head + 4, id);
	return extend(b, whole, n, 44, head);
}

static void fragments(void **state)
{
	uint8_t b[256] = { 0 };

	(void)state;
	fresh(0, 0, 0, "accept udp A 53; accept udp a 53; accept tcp A 22");
	/* The first decides for the others. */
	assert_false(in_bytes(b, fragment4(b, "udp A 9 L 53", 77, 24, true, 24)));
	assert_true(in_bytes(b, fragment4(b, "udp A 9 L 53", 77, 0, true, 24)));
	assert_true(in_bytes(b, fragment4(b, "udp A 9 L 53", 77, 24, true, 24)));
	assert_true(in_bytes(b, fragment4(b, "udp A 9 L 53", 77, 48, false, 24)));
	assert_false(in_bytes(b, fragment4(b, "udp A 9 L 53", 78, 24, true, 24)));
	assert_false(in_bytes(b, fragment4(b, "udp B 9 L 53", 77, 24, true, 24)));
	assert_false(in_bytes(b, fragment4(b, "tcp A 9 L 53", 77, 24, true, 24)));
	assert_false(in_bytes(b, fragment4(b, "udp A 9 L 54", 79, 0, true, 24)));
	assert_false(in_bytes(b, fragment4(b, "udp A 9 L 54", 79, 24, false, 24)));
	/* A first one without its whole header, and one that overwrites a header. */
	assert_false(in_bytes(b, fragment4(b, "tcp A 9 L 22 S", 80, 0, true, 16)));
	assert_true(in_bytes(b, fragment4(b, "tcp A 9 L 22 S", 80, 0, true, 24)));
	assert_false(in_bytes(b, fragment4(b, "tcp A 9 L 22 S", 80, 8, true, 24)));
	assert_true(in_bytes(b, fragment4(b, "tcp A 9 L 22 S", 80, 24, true, 24)));
	assert_true(in_bytes(b, fragment6(b, "udp a 9 l 53", 99, 0, true)));
	assert_true(in_bytes(b, fragment6(b, "udp a 9 l 53", 99, 16, false)));
	assert_false(in_bytes(b, fragment6(b, "udp a 9 l 53", 98, 16, false)));
	assert_true(in_bytes(b, fragment6(b, "udp a 9 l 53", 97, 0, false)));	/* not a fragment at all */
	/* They expire, and end with the table that passed them. */
	now = nb_time_add(now, 31 * NB_SEC);
	assert_false(in_bytes(b, fragment4(b, "udp A 9 L 53", 77, 24, true, 24)));
	assert_true(in_bytes(b, fragment4(b, "udp A 9 L 53", 77, 0, true, 24)));
	rules("");
	assert_false(in_bytes(b, fragment4(b, "udp A 9 L 53", 77, 24, true, 24)));
	done();
}

/* --- room --- */

static bool in_udp(char from, unsigned sport, unsigned dport)
{
	char text[64];

	snprintf(text, sizeof text, "udp %c %u L %u", from, sport, dport);
	return in(text);
}

/* Flows of B and of this machine that are still known, when rules forbid everything new. */
static unsigned alive(char from, unsigned n)
{
	unsigned known = 0;

	for (unsigned i = 0; i < n; i++)
		known += in_udp(from, 1000 + i, 53);
	return known;
}

static void fair_eviction(void **state)
{
	uint64_t before;

	(void)state;
	fresh(64, 64, 64, "accept udp A; accept udp B");
	for (unsigned i = 0; i < 20; i++)
		assert_true(in_udp('B', 1000 + i, 53));
	for (unsigned i = 0; i < 10; i++) {
		char text[64];

		snprintf(text, sizeof text, "udp L %u B 53", 2000 + i);
		out(text);
	}
	/* A neighbour makes a thousand: all but the room that was free is taken from its own. */
	for (unsigned i = 0; i < 1000; i++)
		assert_true(in_udp('A', 1000 + i, 53));
	assert_int_equal(filter_counters(filter)->flows, 64);
	assert_int_equal(filter_counters(filter)->evicted, 1000 - 34);
	before = filter_counters(filter)->passed_flow;
	assert_int_equal(alive('B', 20), 20);
	assert_int_equal(filter_counters(filter)->passed_flow - before, 20);
	for (unsigned i = 0; i < 10; i++) {
		char text[64];

		snprintf(text, sizeof text, "udp B 53 L %u", 2000 + i);
		assert_true(in(text));
	}
	/* One who has less takes from the one who has most: the oldest first. */
	before = filter_counters(filter)->passed_rule;
	assert_true(in_udp('B', 5000, 53));
	assert_int_equal(filter_counters(filter)->passed_rule, before + 1);
	assert_true(in_udp('B', 5000, 53));
	assert_int_equal(filter_counters(filter)->passed_rule, before + 1);
	assert_true(in_udp('A', 1000 + 966, 53));	/* A's oldest: was evicted, is new */
	assert_int_equal(filter_counters(filter)->passed_rule, before + 2);
	done();
}

static void ended_connections_go_first(void **state)
{
	(void)state;
	fresh(4, 4, 4, "accept tcp A");
	assert_true(in("tcp A 1 L 22 S"));
	assert_true(in("tcp A 2 L 22 S"));
	assert_true(in("tcp A 3 L 22 S"));
	now = nb_time_add(now, NB_SEC);
	assert_true(in("tcp A 4 L 22 S"));
	assert_true(in("tcp A 4 L 22 R"));
	assert_true(in("tcp A 5 L 22 S"));
	/* Still flows: an ACK of theirs is nothing new. */
	assert_int_equal(filter_counters(filter)->flows, 4);
	assert_int_equal(filter_counters(filter)->passed_rule, 5);
	for (int i = 1; i <= 3; i++) {
		char text[64];

		snprintf(text, sizeof text, "tcp A %d L 22 A", i);
		assert_true(in(text));
	}
	assert_int_equal(filter_counters(filter)->passed_rule, 5);
	done();
}

static void expired_flows_leave(void **state)
{
	(void)state;
	fresh(64, 64, 64, "accept udp A");
	for (unsigned i = 0; i < 60; i++)
		assert_true(in_udp('A', 1000 + i, 53));
	now = nb_time_add(now, 31 * NB_SEC);
	for (unsigned i = 0; i < 40; i++)
		assert_true(in_udp('A', 3000 + i, 53));
	assert_int_equal(filter_counters(filter)->evicted, 0);
	assert_int_equal(filter_counters(filter)->flows, 40);
	done();
}

/* More peers than records for them: they share this machine's. */
static void owners_run_out(void **state)
{
	struct filter_config cfg = { .max_tcp = 8, .max_udp = 8, .max_icmp = 8, .max_owners = 2, .random = help_random,
				     .random_ctx = &seed };

	(void)state;
	now = (struct nb_time){ 1000 * NB_SEC };
	assert_int_equal(filter_new(&filter, &cfg), 0);
	filter_exchange(filter, help_table("accept udp *"));
	for (unsigned round = 0; round < 50; round++)
		for (char c = 'A'; c <= 'D'; c++)
			assert_true(in_udp(c, 1000 + round, 53));
	assert_int_equal(filter_counters(filter)->flows, 8);
	done();
}

static void counters(void **state)
{
	const struct filter_counters *c;

	(void)state;
	fresh(0, 0, 0, "accept tcp A 22; drop tcp A 23");
	c = filter_counters(filter);
	in("tcp A 1 L 22 S");
	in("tcp A 1 L 22 A");
	in("tcp A 1 L 23 S");
	in("tcp A 1 L 24 S");
	in("tcp A 1 X 22 S");
	assert_int_equal(c->passed_rule, 1);
	assert_int_equal(c->passed_flow, 1);
	assert_int_equal(c->dropped_rule, 1);
	assert_int_equal(c->dropped_default, 1);
	assert_int_equal(c->dropped_address, 1);
	assert_int_equal(c->flows_in, 1);
	rules("");
	in("tcp A 1 L 22 A");
	in("tcp A 1 L 22 A");
	assert_int_equal(c->dropped_cut, 2);
	assert_int_equal(c->cut, 1);
	done();
}

static void rule_counters(void **state)
{
	struct filter_table *first = help_table("accept tcp A 22; accept tcp A 23; drop udp A"), *second, *old;
	struct filter_rule r;
	unsigned long hits, sum = 0;

	(void)state;
	fresh(0, 0, 0, NULL);
	filter_exchange(filter, first);
	in("tcp A 1 L 22 S");
	in("tcp A 1 L 22 A");
	in("tcp A 1 L 22 A");
	in("tcp A 1 L 23 S");
	in("udp A 1 L 5");
	for (size_t i = 0; i < filter_table_count(first); i++) {
		filter_table_rule(first, i, &r, &hits);
		assert_int_equal(hits, r.drop ? 1 : r.port_lo == 22 ? 3 : 1);
		assert_true(nb_bytes_eq_str(r.id, r.drop ? "drop udp A" : r.port_lo == 22 ? "accept tcp A 22" : "accept tcp A 23"));
	}
	second = help_table("accept tcp A 22; accept tcp B 23");
	old = filter_exchange(filter, second);
	assert_ptr_equal(old, first);
	filter_table_free(old);
	in("tcp A 1 L 22 A");
	for (size_t i = 0; i < filter_table_count(second); i++) {
		filter_table_rule(second, i, &r, &hits);
		sum += hits;
		assert_int_equal(hits, r.port_lo == 22 ? 4 : 0);
	}
	assert_int_equal(sum, 4);
	done();
}

/* How long closing connections are remembered, and a filter that remembers nothing. */
static void settings(void **state)
{
	static const struct row closing[] = {
		{ "the beginner ends first", "", { "> tcp L 40000 A 80 S", "+ tcp A 80 L 40000 SA", "> tcp L 40000 A 80 A",
		  "> tcp L 40000 A 80 FA", "wait 4", "+ tcp A 80 L 40000 A", "wait 6", "- tcp A 80 L 40000 A" } },
		{ "the other one ends first", "", { "> tcp L 40000 A 80 S", "+ tcp A 80 L 40000 SA", "> tcp L 40000 A 80 A",
		  "+ tcp A 80 L 40000 FA", "wait 19", "> tcp L 40000 A 80 A", "+ tcp A 80 L 40000 A", "wait 21",
		  "- tcp A 80 L 40000 A" } },
		{ "and both have", "", { "> tcp L 40000 A 80 S", "+ tcp A 80 L 40000 SA", "> tcp L 40000 A 80 A",
		  "+ tcp A 80 L 40000 FA", "> tcp L 40000 A 80 FA", "wait 2", "+ tcp A 80 L 40000 A", "wait 4",
		  "- tcp A 80 L 40000 A" } },
	}, nothing[] = {
		{ "rules decide about answers, too", "accept tcp A 22", { "+ tcp A 5000 L 22 S", "> tcp L 22 A 5000 SA",
		  "+ tcp A 5000 L 22 A", "> tcp L 40000 A 80 S", "- tcp A 80 L 40000 SA", "e+ B 3: tcp L 40000 A 80",
		  "rules ", "- tcp A 5000 L 22 A" } },
	};
	struct filter_config cfg = { .fin_wait_s = 5, .close_wait_s = 20, .last_ack_s = 3 };

	(void)state;
	for (size_t i = 0; i < sizeof closing / sizeof *closing; i++) {
		fresh_with(&cfg, closing[i].rules);
		for (size_t k = 0; k < 24 && closing[i].steps[k]; k++)
			run_step(&closing[i], k);
		done();
	}
	cfg.stateless = true;
	fresh_with(&cfg, nothing[0].rules);
	for (size_t k = 0; k < 24 && nothing[0].steps[k]; k++)
		run_step(&nothing[0], k);
	assert_int_equal(filter_counters(filter)->flows, 0);
	done();
}

static void arguments(void **state)
{
	struct filter_config cfg = { 0 };
	struct filter *f;

	(void)state;
	assert_int_equal(filter_new(&f, &cfg), NB_E_ARG);
	cfg.random = help_random;
	cfg.random_ctx = &seed;
	cfg.max_tcp = 1u << 30;
	assert_int_equal(filter_new(&f, &cfg), NB_E_ARG);
	assert_null(f);
	filter_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(conversations),
		cmocka_unit_test(malformed),
		cmocka_unit_test(extension_headers),
		cmocka_unit_test(fragments),
		cmocka_unit_test(fair_eviction),
		cmocka_unit_test(ended_connections_go_first),
		cmocka_unit_test(expired_flows_leave),
		cmocka_unit_test(owners_run_out),
		cmocka_unit_test(counters),
		cmocka_unit_test(rule_counters), cmocka_unit_test(settings),
		cmocka_unit_test(arguments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
