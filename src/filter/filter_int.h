/* filter_int.h - inside the filter: packet.c reads headers, table.c compiles rules and looks them up, filter.c keeps
 * flows and decides. */
#ifndef NB_FILTER_FILTER_INT_H
#define NB_FILTER_FILTER_INT_H

#include "filter/filter.h"

enum {
	IP_ICMP = 1,
	IP_TCP = 6,
	IP_UDP = 17,
	IP_ICMP6 = 58,
};

enum {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_ACK = 0x10,
};

/* What a packet says of itself. */
struct filter_pkt {
	uint8_t family;
	uint8_t proto;			/* after extension headers */
	uint8_t alen;			/* bytes of an address */
	const uint8_t *src, *dst;
	uint16_t sport, dport;		/* TCP and UDP */
	uint8_t tcp_flags;
	uint8_t icmp_type;
	uint16_t icmp_id;		/* of echo messages */
	bool first, later;		/* a fragment: the first, or another one */
	uint32_t frag_id;
	uint8_t frag_proto;		/* IPv4: protocol; IPv6: what follows the fragment header */
	uint32_t frag_off;		/* bytes; of the first: where its headers end, counted the same way */
	struct nb_bytes payload;	/* from the transport header on */
};

/* Read a whole packet, or (quoted) the piece of one that an ICMP error carries. Returns 0 or NB_E_BAD. */
int filter_parse(struct filter_pkt *p, struct nb_bytes in, bool quoted);

static inline bool filter_is_icmp(const struct filter_pkt *p)
{
	return p->proto == (p->family == 4 ? IP_ICMP : IP_ICMP6);
}

/* A compiled rule. The members up to hi make its identity, together with the text. */
struct filter_trule {
	uint8_t family;
	uint8_t wide;			/* not a single address; sorts behind those */
	uint8_t addr[16];
	uint8_t len;
	uint8_t accept;			/* sorts behind drop */
	uint8_t proto;			/* enum filter_proto */
	uint16_t lo, hi;
	uint16_t reach;			/* the greatest hi of its section up to here */
	const char *id;
};

/* Rules of one source prefix: first those that drop, then those that accept, each in sections of one protocol, those
 * sorted by port. */
struct filter_group {
	uint32_t first;
	uint32_t n[2][FILTER_ICMP + 1];
};

struct filter_table {
	struct filter_trule *rules;
	atomic_ulong *hits;		/* nrules for each user, written by the thread of that filter alone */
	unsigned nusers;
	struct filter_group *groups;	/* IPv4 single, IPv4 wide, IPv6 single, IPv6 wide */
	uint32_t *slots;		/* open addressing: group + 1 of a single address */
	char *texts;
	size_t nrules, nslots;
	uint32_t wide4, nwide4, wide6, nwide6;
	bool allow_all;
	uint8_t local4[16], local6[16];
	bool has4, has6;
	struct filter_table *link;
	atomic_uint users;
};

#define FILTER_NO_RULE UINT32_MAX

enum filter_judged { FILTER_DENY, FILTER_DROP, FILTER_ACCEPT };

/* What the rules say of new traffic from src. *rule: the deciding one, or FILTER_NO_RULE. */
enum filter_judged filter_judge(const struct filter_table *t, const uint8_t src[16], uint8_t family, uint8_t ip_proto,
				uint16_t dport, uint32_t *rule);
/* Add the user's counts of rules that are in both. */
void filter_table_inherit(struct filter_table *t, const struct filter_table *old, unsigned user);

static inline void filter_hit(struct filter_table *t, unsigned user, uint32_t rule)
{
	atomic_ulong *hits;

	if (rule == FILTER_NO_RULE || user >= t->nusers)
		return;
	/* One writer: no locked instruction is needed. */
	hits = &t->hits[user * t->nrules + rule];
	atomic_store_explicit(hits, atomic_load_explicit(hits, memory_order_relaxed) + 1, memory_order_relaxed);
}

#endif
