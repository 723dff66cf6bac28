/* filter_help.h - packets and rules from short texts, for the tests of src/filter. Addresses are letters:
 * L is ours, A to D are peers, X is neither; small letters are their IPv6 addresses. */
#ifndef NB_TESTS_FILTER_HELP_H
#define NB_TESTS_FILTER_HELP_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "filter/filter.h"

#define HELP_FIN 1
#define HELP_SYN 2
#define HELP_RST 4
#define HELP_ACK 16

static inline struct nb_addr help_addr(char c)
{
	uint8_t six[16] = { 0xfd, 0, 0x12 };
	char up = (char)(c & ~32);
	uint8_t last = (uint8_t)(up == 'L' ? 1 : up == 'X' ? 200 : up - 'A' + 2);

	six[15] = last;
	return c & 32 ? nb_addr6(six) : nb_addr4(0x64400000u + last);
}

struct help_pkt {
	struct nb_addr src, dst;
	uint8_t proto;			/* IP number */
	uint16_t sport, dport;		/* ICMP: number, type */
	uint8_t flags;			/* TCP */
};

/* Transport header and 8 bytes more. */
static inline size_t help_transport(uint8_t *b, const struct help_pkt *p)
{
	bool icmp = p->proto == 1 || p->proto == 58;

	memset(b, 0, 28);
	if (icmp) {
		b[0] = (uint8_t)p->dport;
		nb_put_be16(b + 4, p->sport);
		return 16;
	}
	nb_put_be16(b, p->sport);
	nb_put_be16(b + 2, p->dport);
	if (p->proto == 6) {
		b[12] = 0x50;
		b[13] = p->flags;
		return 28;
	}
	nb_put_be16(b + 4, 16);
	return 16;
}

/* An IP header for n payload bytes that are at b + 20 or b + 40 already; the whole length. */
static inline size_t help_ip(uint8_t *b, const struct help_pkt *p, size_t n)
{
	if (p->src.family == 4) {
		memset(b, 0, 20);
		b[0] = 0x45;
		nb_put_be16(b + 2, (uint16_t)(20 + n));
		b[8] = 64;
		b[9] = p->proto;
		memcpy(b + 12, p->src.ip, 4);
		memcpy(b + 16, p->dst.ip, 4);
		return 20 + n;
	}
	memset(b, 0, 40);
	b[0] = 0x60;
	nb_put_be16(b + 4, (uint16_t)n);
	b[6] = p->proto;
	b[7] = 64;
	memcpy(b + 8, p->src.ip, 16);
	memcpy(b + 24, p->dst.ip, 16);
	return 40 + n;
}

/* A whole packet; b holds 128 bytes. */
static inline size_t help_packet(uint8_t *b, const struct help_pkt *p)
{
	return help_ip(b, p, help_transport(b + (p->src.family == 4 ? 20 : 40), p));
}

/* An ICMP error of this type from src to dst that quotes q; b holds 256 bytes. */
static inline size_t help_error(uint8_t *b, struct nb_addr src, struct nb_addr dst, uint8_t type, const struct help_pkt *q)
{
	struct help_pkt outer = { .src = src, .dst = dst, .proto = src.family == 4 ? 1 : 58 };
	size_t at = src.family == 4 ? 20 : 40, n;

	memset(b + at, 0, 8);
	b[at] = type;
	n = help_packet(b + at + 8, q);
	/* Eight bytes of the transport header are all that must be there. */
	n = (src.family == 4 ? 20 : 40) + 8 < n ? (src.family == 4 ? 20u : 40u) + 8 : n;
	return help_ip(b, &outer, 8 + n);
}

/* "tcp A 5000 L 22 SA": protocol, source, port, destination, port, flags. ICMP: number and type for ports. */
static inline struct help_pkt help_pkt(const char *text)
{
	struct help_pkt p = { 0 };
	char proto[8], src, dst, flags[8] = "";
	unsigned sport = 0, dport = 0;
	int n = sscanf(text, "%7s %c %u %c %u %7s", proto, &src, &sport, &dst, &dport, flags);

	assert(n >= 5);
	p.src = help_addr(src);
	p.dst = help_addr(dst);
	p.sport = (uint16_t)sport;
	p.dport = (uint16_t)dport;
	p.proto = !strcmp(proto, "tcp") ? 6 : !strcmp(proto, "udp") ? 17 : strcmp(proto, "icmp") ? 47 :
		  p.src.family == 4 ? 1 : 58;
	for (const char *f = flags; *f; f++)
		p.flags |= *f == 'S' ? HELP_SYN : *f == 'A' ? HELP_ACK : *f == 'F' ? HELP_FIN : *f == 'R' ? HELP_RST : 0;
	return p;
}

/* "accept tcp A 22", "drop all * 0", "accept udp a 100-200": '*' any IPv4 source, '+' any IPv6 source. */
static inline struct filter_rule help_rule(const char *text)
{
	struct filter_rule r = { 0 };
	char action[8], proto[8], src;
	unsigned lo = 0, hi = 0;
	int n = sscanf(text, "%7s %7s %c %u-%u", action, proto, &src, &lo, &hi);

	assert(n >= 3);
	r.drop = !strcmp(action, "drop");
	r.proto = (uint8_t)(!strcmp(proto, "tcp") ? FILTER_TCP : !strcmp(proto, "udp") ? FILTER_UDP :
			    !strcmp(proto, "icmp") ? FILTER_ICMP : FILTER_ALL);
	r.port_lo = (uint16_t)lo;
	r.port_hi = (uint16_t)(n == 5 ? hi : lo);
	if (src == '*' || src == '+') {
		r.src.addr.family = src == '*' ? 4 : 6;
	} else {
		r.src.addr = help_addr(src);
		r.src.len = r.src.addr.family == 4 ? 32 : 128;
	}
	r.id = nb_bytes_str(text);
	return r;
}

/* Rules separated by semicolons; "all" alone: allow_all. */
static inline struct filter_table *help_table(const char *text)
{
	struct filter_spec spec = { .local4 = help_addr('L'), .local6 = help_addr('l'), .allow_all = !strcmp(text, "all") };
	struct filter_rule rules[32];
	struct filter_table *t;
	char copy[512], *save = NULL;
	int err;

	assert(strlen(text) < sizeof copy);
	strcpy(copy, text);
	for (char *s = strtok_r(copy, ";", &save); s && !spec.allow_all; s = strtok_r(NULL, ";", &save))
		rules[spec.nrules++] = help_rule(s + strspn(s, " "));
	spec.rules = rules;
	err = filter_table_new(&t, &spec);
	assert(!err);
	(void)err;
	return t;
}

static inline void help_random(void *ctx, void *out, size_t n)
{
	uint64_t *s = ctx;
	uint8_t *p = out;

	while (n--) {
		*s = *s * 6364136223846793005u + 1442695040888963407u;
		*p++ = (uint8_t)(*s >> 56);
	}
}

#endif
