/* filter.h - access control in the data path: which packets from the tunnel reach this machine.
 * Inbound is denied unless a rule accepts it or it belongs to a known flow; outbound creates flows and is never
 * dropped. Rules come as an immutable table that is exchanged whole; flows that came in by a rule are judged
 * again under each new table, so a connection that is forbidden now is cut. Pure: packets and time in,
 * verdicts and counters out; nothing is allocated per packet. One thread owns a filter; a table may be made
 * and read by another. Sources: spec/management-protocol.md section 4, spec/client.md sections 6, 6.3.
 * Tests: tests/unit/filter_filter_test.c, tests/unit/filter_table_test.c, tests/sim/filter_sim_test.c,
 * tests/fuzz/filter_fuzz.c, tests/bench/filter_bench.c */
#ifndef NB_FILTER_FILTER_H
#define NB_FILTER_FILTER_H

#include "base/addr.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/time.h"

#include <stdatomic.h>

struct filter;
struct filter_table;

#define FILTER_RULES_MAX 262144		/* rules of one table */
#define FILTER_ID_MAX 64		/* bytes of a rule's name kept */

/* --- tables --- */

enum filter_proto {
	FILTER_ALL,	/* every protocol; with ports: TCP and UDP of these ports */
	FILTER_TCP,
	FILTER_UDP,
	FILTER_ICMP,	/* ICMP from IPv4 sources, ICMPv6 from IPv6 sources; ports do not count */
};

/* One rule for new inbound traffic. Drop rules come before accept rules, whatever their order. */
struct filter_rule {
	struct nb_prefix src;		/* length 0: any source of this family */
	uint8_t proto;			/* enum filter_proto */
	bool drop;
	uint16_t port_lo, port_hi;	/* destination ports, both included; 0, 0: any */
	struct nb_bytes id;		/* name for counters (the policy); copied, cut at FILTER_ID_MAX */
};

struct filter_spec {
	struct nb_addr local4, local6;	/* our overlay addresses; new inbound traffic to others is denied. family 0: none */
	bool allow_all;			/* accept what no drop rule refuses (a server that knows no rules) */
	const struct filter_rule *rules;
	size_t nrules;
};

/* Compile rules. Nothing of spec is kept. Returns 0, NB_E_ARG (a family, length, protocol or port range is wrong),
 * NB_E_FULL (more than FILTER_RULES_MAX) or NB_E_NOMEM; *out is NULL then. */
int filter_table_new(struct filter_table **out, const struct filter_spec *spec);
/* NULL is fine. The filter must not use the table any more. */
void filter_table_free(struct filter_table *t);
/* Rules after equal ones were merged, in the table's own order. */
size_t filter_table_count(const struct filter_table *t);
/* The i-th rule (id borrowed from the table) and how many inbound packets it decided, accepted flows' packets
 * included; kept over exchanges for rules that stay. Any thread may ask. */
void filter_table_rule(const struct filter_table *t, size_t i, struct filter_rule *out, unsigned long *hits);
/* A link for whoever keeps tables in a list, and a count (0 at first) for whoever gives one to several filters; the
 * filter does not use them. */
struct filter_table **filter_table_link(struct filter_table *t);
atomic_uint *filter_table_users(struct filter_table *t);
/* Before a table that no filter has yet is given to n filters (their filter_config.user: 0 to n - 1), each in a thread
 * of its own: room for each one's counts. Without it, or when memory is short, only filter 0's hits are counted. */
void filter_table_share(struct filter_table *t, unsigned n);

/* --- the filter --- */

struct filter_config {
	uint32_t max_tcp, max_udp, max_icmp;	/* flows; 0: 65536, 16384, 2048 (other protocols count as UDP) */
	uint32_t max_owners;			/* peers that can have flows of their own account; 0: 16384 */
	unsigned user;				/* its number among filters that share tables */
	/* Seconds that a closing connection is remembered: its beginner has ended its side, the other one has, both have
	 * and the other one first; 0: 60, 60, 30. */
	uint32_t fin_wait_s, close_wait_s, last_ack_s;
	bool stateless;				/* remember nothing: rules decide about every packet, answers included */
	nb_random_fn random;			/* required: keys the hash */
	void *random_ctx;
};

/* Without a table everything inbound is denied. Memory is taken here and touched as it is needed.
 * Returns 0, NB_E_ARG or NB_E_NOMEM; *out is NULL then. */
int filter_new(struct filter **out, const struct filter_config *cfg);
/* NULL is fine. The table in force is not freed: take it out with filter_exchange first. */
void filter_free(struct filter *f);
/* Put a table in force, from the next packet on; NULL denies everything. Returns the old one (NULL: none). */
struct filter_table *filter_exchange(struct filter *f, struct filter_table *t);

/* May this packet (or super-packet) from the tunnel reach the machine? pkt: from the IP header on, what is behind
 * the packet's own length is ignored. owner: whose flows it makes, any number that stands for the peer. */
bool filter_in(struct filter *f, struct nb_bytes pkt, uint64_t owner, struct nb_time now);
/* Learn from a packet (or super-packet) on its way out. */
void filter_out(struct filter *f, struct nb_bytes pkt, struct nb_time now);

/* Inbound packets by outcome, then what happened to flows. */
struct filter_counters {
	uint64_t passed_flow;		/* belonged to a known flow */
	uint64_t passed_rule;		/* accepted by a rule as something new */
	uint64_t passed_related;	/* ICMP errors about a known flow */
	uint64_t passed_fragment;	/* later fragments of an accepted packet */
	uint64_t dropped_rule;		/* refused by a drop rule */
	uint64_t dropped_default;	/* no rule accepts it */
	uint64_t dropped_cut;		/* of a connection that a new table forbade */
	uint64_t dropped_address;	/* new, and not to our overlay address */
	uint64_t dropped_fragment;	/* later fragment of nothing accepted, or overlapping a header */
	uint64_t dropped_malformed;	/* no proper packet, source routed, impossible TCP flags */
	uint64_t flows_in, flows_out;	/* made, by who began */
	uint64_t cut;			/* flows a new table forbade */
	uint64_t evicted;		/* flows that made room for others */
	uint32_t flows;			/* now */
};
const struct filter_counters *filter_counters(const struct filter *f);

#endif
