/* join.c - see offload.h: packets of a flow become super-packets. A flow's newest group stays open until
 * something does not fit, which then begins the next: so what belongs together leaves in the order it came, and
 * whatever is not understood is a group of its own. Tests: tests/unit/wg_offload_test.c */
#include "wg/offload_int.h"

#define NONE 0xffff
#define UDP_SEGMENTS 64		/* more than that, kernels before 6.10 refuse */

/* A packet's place in the order of things. */
struct shape {
	bool six, tcp, flow;	/* flow: TCP or UDP, whole */
	bool joins;		/* nothing about it forbids joining */
	bool ends;		/* nothing may be joined behind it */
	size_t l4, hdr;
};

void wg_join_init(struct wg_join *j, bool tcp, bool udp)
{
	j->tcp = tcp;
	j->udp = udp;
	wg_join_reset(j);
}

void wg_join_reset(struct wg_join *j)
{
	j->n = j->ngroups = 0;
	memset(j->bucket, 0xff, sizeof j->bucket);
}

size_t wg_join_count(const struct wg_join *j, size_t i)
{
	return j->group[i].count;
}

static void look_l4(struct shape *s, const uint8_t *p, size_t n, uint8_t protocol)
{
	const uint8_t *l4 = p + s->l4;

	if (protocol == IP_UDP && n >= s->l4 + 8) {
		s->flow = true;
		s->hdr = s->l4 + 8;
		/* A zero sum is none at all; a super-packet would have one. */
		s->joins = nb_get_be16(l4 + 4) == n - s->l4 && n > s->hdr && nb_get_be16(l4 + 6) != 0;
	} else if (protocol == IP_TCP && n >= s->l4 + 20) {
		s->flow = s->tcp = true;
		s->hdr = s->l4 + (size_t)(l4[12] >> 4) * 4;
		s->joins = s->hdr >= s->l4 + 20 && s->hdr < n && !(l4[12] & 15) &&
			   (l4[13] & ~TCP_PSH) == TCP_ACK;
		s->ends = l4[13] & TCP_PSH;
	}
}

static void look(struct shape *s, const uint8_t *p, size_t n)
{
	*s = (struct shape){ 0 };
	if (n >= 40 && p[0] >> 4 == 6 && nb_get_be16(p + 4) == n - 40) {
		s->six = true;
		s->l4 = 40;
		look_l4(s, p, n, p[6]);
	} else if (n >= 20 && p[0] == 0x45 && nb_get_be16(p + 2) == n && !(nb_get_be16(p + 6) & 0xbfff)) {
		s->l4 = 20;
		look_l4(s, p, n, p[9]);
	}
}

/* Addresses and ports: 12 bytes at 12 in IPv4, 36 at 8 in IPv6 (the header has 40). */
static unsigned flow_bucket(const struct shape *s, const uint8_t *p)
{
	uint32_t h = nb_get_be32(p + s->l4) * 0x9e3779b1u ^ nb_get_be32(p + s->l4 - 8) * 0x85ebca6bu ^
		     nb_get_be32(p + s->l4 - 4) * 0xc2b2ae35u;

	return h >> 26;
}

static inline uint32_t load32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

/* memcmp for the short runs of a header, which are multiples of four: no call, no bytewise loop. */
static inline bool same_words(const uint8_t *a, const uint8_t *b, size_t n)
{
	uint32_t differ = 0;

	for (size_t i = 0; i < n; i += 4)
		differ |= load32(a + i) ^ load32(b + i);
	return !differ;
}

static bool same_flow(const struct wg_join_group *g, const struct shape *s, const uint8_t *a, const uint8_t *b)
{
	size_t from = s->six ? 8 : 12;

	return g->six == s->six && g->tcp == s->tcp && same_words(a + from, b + from, s->l4 + 4 - from);
}

/* Is everything but lengths, sums, identification and position the same? */
static bool same_headers(const struct shape *s, const uint8_t *a, const uint8_t *b)
{
	const uint8_t *ta = a + s->l4, *tb = b + s->l4;

	if (s->six ? !same_words(a, b, 4) || a[7] != b[7] : a[1] != b[1] || a[6] != b[6] || a[8] != b[8])
		return false;
	/* Acknowledgement, header length, window, urgent pointer, options; flags, PSH aside. */
	return !s->tcp || (same_words(ta + 8, tb + 8, 4) && ta[12] == tb[12] && !((ta[13] ^ tb[13]) & ~TCP_PSH) &&
			   !memcmp(ta + 14, tb + 14, 2) && !memcmp(ta + 18, tb + 18, 2) &&
			   same_words(ta + 20, tb + 20, s->hdr - s->l4 - 20));
}

static bool sums_right(bool six, bool tcp, size_t l4, const uint8_t *p, size_t n)
{
	if (!six && wg_sum_fold(wg_sum(0, p, l4)) != 0xffff)
		return false;
	return wg_sum_fold(wg_sum(wg_sum_pseudo(p, six, tcp ? IP_TCP : IP_UDP, n - l4), p + l4, n - l4)) == 0xffff;
}

/* Join packet k to group g if it fits. */
static bool try_join(struct wg_join *j, struct wg_join_group *g, const struct shape *s, uint8_t *p, size_t n)
{
	uint8_t *head = j->pkt[g->first].p;
	size_t len = n - s->hdr;

	if (!s->joins || g->hdr != s->hdr || len > g->size || g->total + len > WG_SUPER_MAX ||
	    (!s->tcp && g->count == UDP_SEGMENTS) || !same_headers(s, head, p))
		return false;
	if (s->tcp && nb_get_be32(p + s->l4 + 4) != g->seq)
		return false;
	if (!g->checked && !sums_right(s->six, s->tcp, s->l4, head, j->pkt[g->first].n)) {
		g->open = false;
		return false;
	}
	g->checked = true;
	if (!sums_right(s->six, s->tcp, s->l4, p, n))
		return false;
	j->pkt[g->last].next = (uint16_t)j->n;
	g->last = (uint16_t)j->n;
	g->count++;
	g->total += (uint32_t)len;
	g->seq += (uint32_t)len;
	g->open = len == g->size && !s->ends;
	return true;
}

static struct wg_join_group *group_new(struct wg_join *j, const struct shape *s, const uint8_t *p, size_t n)
{
	struct wg_join_group *g = &j->group[j->ngroups++];

	*g = (struct wg_join_group){ .first = (uint16_t)j->n, .last = (uint16_t)j->n, .count = 1, .total = (uint32_t)n,
				     .l4 = (uint16_t)s->l4, .hdr = (uint16_t)s->hdr, .six = s->six, .tcp = s->tcp };
	g->open = s->joins && !s->ends && (s->tcp ? j->tcp : j->udp);
	if (g->open) {
		g->size = (uint16_t)(n - s->hdr);
		if (s->tcp)
			g->seq = nb_get_be32(p + s->l4 + 4) + g->size;
	}
	return g;
}

/* Find the flow's newest group in its bucket. */
static uint16_t group_find(const struct wg_join *j, uint16_t at, const struct shape *s, const uint8_t *p)
{
	while (at != NONE && !same_flow(&j->group[at], s, j->pkt[j->group[at].first].p, p))
		at = j->group[at].next_group;
	return at;
}

bool wg_join_add(struct wg_join *j, uint8_t *p, size_t n)
{
	uint16_t *bucket, at;
	struct shape s;

	look(&s, p, n);
	if (j->n == WG_JOIN_MAX)
		return false;
	j->pkt[j->n].p = p;
	j->pkt[j->n].n = (uint32_t)n;
	j->pkt[j->n].next = NONE;
	if (!s.flow) {
		group_new(j, &s, p, n);
	} else {
		bucket = &j->bucket[flow_bucket(&s, p)];
		at = group_find(j, *bucket, &s, p);
		if (at == NONE || !j->group[at].open || !try_join(j, &j->group[at], &s, p, n)) {
			group_new(j, &s, p, n)->next_group = *bucket;
			*bucket = (uint16_t)(j->ngroups - 1);
		}
	}
	j->n++;
	return true;
}

static void vnet_write(uint8_t *v, uint8_t type, const struct wg_join_group *g)
{
	uint16_t f[4] = { g->hdr, g->size, g->l4, g->tcp ? CSUM_TCP : CSUM_UDP };

	v[0] = VNET_NEEDS_CSUM;
	v[1] = type;
	memcpy(v + 2, f, sizeof f);
}

/* Lengths, and the sums as the device wants them: the transport's only begun. */
static void head_rewrite(const struct wg_join_group *g, uint8_t *p, bool psh)
{
	uint8_t *l4 = p + g->l4;
	size_t l4len = g->total - g->l4;

	if (g->six) {
		nb_put_be16(p + 4, (uint16_t)(g->total - 40));
	} else {
		nb_put_be16(p + 2, (uint16_t)g->total);
		wg_sum_ip4(p, g->l4);
	}
	if (!g->tcp)
		nb_put_be16(l4 + 4, (uint16_t)l4len);
	else if (psh)
		l4[13] |= TCP_PSH;
	wg_sum_store(l4 + (g->tcp ? CSUM_TCP : CSUM_UDP),
		     wg_sum_fold(wg_sum_pseudo(p, g->six, g->tcp ? IP_TCP : IP_UDP, l4len)));
}

size_t wg_join_group(struct wg_join *j, size_t i, uint8_t vnet[WG_VNET], struct nb_bytes *parts)
{
	const struct wg_join_group *g = &j->group[i];
	size_t k = g->first, n = 0;

	memset(vnet, 0, WG_VNET);
	parts[n++] = nb_bytes(j->pkt[k].p, j->pkt[k].n);
	if (g->count == 1)
		return n;
	while ((k = j->pkt[k].next) != NONE)
		parts[n++] = nb_bytes(j->pkt[k].p + g->hdr, j->pkt[k].n - g->hdr);
	vnet_write(vnet, !g->tcp ? VNET_UDP_L4 : g->six ? VNET_TCP6 : VNET_TCP4, g);
	head_rewrite(g, j->pkt[g->first].p, g->tcp && j->pkt[g->last].p[g->l4 + 13] & TCP_PSH);
	return n;
}
