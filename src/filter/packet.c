/* packet.c - reads IPv4 and IPv6 headers as far as access control needs them. Whatever could be read
 * differently by the receiving machine (lengths that disagree, a first fragment without its whole header, source
 * routes, endless extension headers) is refused. RFC 791, 8200, 7112, 5095.
 * Tests: tests/unit/filter_filter_test.c, tests/fuzz/filter_fuzz.c */
#include "filter/filter_int.h"

#define EXT_MAX 8	/* extension headers walked */

enum {
	EXT_HOP = 0,
	EXT_ROUTING = 43,
	EXT_FRAGMENT = 44,
	EXT_AUTH = 51,
	EXT_DEST = 60,
};

static bool source_route(struct nb_bytes options)
{
	size_t i = 0;

	while (i < options.n && options.p[i] != 0) {
		uint8_t type = options.p[i];

		if (type == 131 || type == 137)
			return true;
		if (type == 1) {
			i++;
			continue;
		}
		if (i + 1 >= options.n || options.p[i + 1] < 2)
			return true;
		i += options.p[i + 1];
	}
	return false;
}

/* Ports, flags, type. A quoted packet may end after 8 bytes of this header. */
static int transport(struct filter_pkt *p, bool quoted)
{
	const uint8_t *h = p->payload.p;
	size_t need = 0;

	if (p->proto == IP_TCP)
		need = quoted ? 8 : 20;
	else if (p->proto == IP_UDP || filter_is_icmp(p))
		need = 8;
	if (p->payload.n < need)
		return NB_E_BAD;
	if (p->proto == IP_TCP || p->proto == IP_UDP) {
		p->sport = nb_get_be16(h);
		p->dport = nb_get_be16(h + 2);
		if (p->proto == IP_TCP && !quoted)
			p->tcp_flags = h[13];
	} else if (need) {
		p->icmp_type = h[0];
		p->icmp_id = nb_get_be16(h + 4);
	}
	p->frag_off += (uint32_t)need;
	return 0;
}

static int parse4(struct filter_pkt *p, struct nb_bytes in, bool quoted)
{
	size_t ihl, total;
	uint16_t frag;

	if (in.n < 20)
		return NB_E_BAD;
	ihl = (size_t)(in.p[0] & 15) * 4;
	total = nb_get_be16(in.p + 2);
	if (ihl < 20 || total < ihl || in.n < ihl || (!quoted && in.n < total))
		return NB_E_BAD;
	if (ihl > 20 && source_route(nb_bytes(in.p + 20, ihl - 20)))
		return NB_E_BAD;
	if (in.n > total)
		in.n = total;
	p->family = p->alen = 4;
	p->src = in.p + 12;
	p->dst = in.p + 16;
	p->proto = p->frag_proto = in.p[9];
	p->payload = nb_bytes(in.p + ihl, in.n - ihl);
	frag = nb_get_be16(in.p + 6);
	p->frag_id = nb_get_be16(in.p + 4);
	p->frag_off = (uint32_t)(frag & 0x1fff) * 8;
	p->later = p->frag_off != 0;
	p->first = !p->later && (frag & 0x2000);
	return p->later ? 0 : transport(p, quoted);
}

/* One extension header, whose first bytes are at c: its length, or 0 when it is not a whole one. */
static size_t extension(uint8_t type, const struct nb_cur *c)
{
	size_t left = nb_cur_left(c), n;

	if (left < 8)
		return 0;
	n = type == EXT_FRAGMENT ? 8 : type == EXT_AUTH ? ((size_t)c->p[1] + 2) * 4 : ((size_t)c->p[1] + 1) * 8;
	return n <= left ? n : 0;
}

static int parse6(struct filter_pkt *p, struct nb_bytes in, bool quoted)
{
	const uint8_t *frag_start = NULL;
	struct nb_cur c;
	size_t total;
	uint8_t next;

	if (in.n < 40)
		return NB_E_BAD;
	total = 40 + (size_t)nb_get_be16(in.p + 4);
	if (!quoted && in.n < total)
		return NB_E_BAD;
	if (in.n > total)
		in.n = total;
	p->family = 6;
	p->alen = 16;
	p->src = in.p + 8;
	p->dst = in.p + 24;
	next = in.p[6];
	c = nb_cur(nb_bytes(in.p + 40, in.n - 40));
	for (int i = 0;; i++) {
		size_t n;

		if (next != EXT_HOP && next != EXT_ROUTING && next != EXT_FRAGMENT && next != EXT_AUTH && next != EXT_DEST)
			break;
		n = extension(next, &c);
		if (!n || i == EXT_MAX || (next == EXT_ROUTING && c.p[2] == 0) || (next == EXT_HOP && i))
			return NB_E_BAD;
		if (next == EXT_FRAGMENT) {
			uint16_t frag = nb_get_be16(c.p + 2);

			if (frag_start)
				return NB_E_BAD;
			frag_start = c.p + 8;
			p->frag_id = nb_get_be32(c.p + 4);
			p->frag_proto = c.p[0];
			p->later = frag >> 3 != 0;
			p->first = !p->later && (frag & 1);
			p->frag_off = frag & 0xfff8;
		}
		next = c.p[0];
		nb_cur_skip(&c, n);
		if (p->later)
			break;
	}
	p->proto = next;
	p->payload = nb_bytes(c.p, nb_cur_left(&c));
	if (p->later)
		return 0;
	if (frag_start)
		p->frag_off = (uint32_t)(c.p - frag_start);
	return transport(p, quoted);
}

int filter_parse(struct filter_pkt *p, struct nb_bytes in, bool quoted)
{
	memset(p, 0, sizeof *p);
	if (in.n && in.p[0] >> 4 == 4)
		return parse4(p, in, quoted);
	if (in.n && in.p[0] >> 4 == 6)
		return parse6(p, in, quoted);
	return NB_E_BAD;
}
