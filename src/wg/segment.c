/* segment.c - see offload.h: super-packets become segments, as segmentation in hardware would make them; and the
 * Internet checksum. The header length the kernel names is a hint only: what counts is in the packet itself.
 * Tests: tests/unit/wg_offload_test.c */
#include "base/err.h"
#include "wg/offload_int.h"

/* --- sums --- */

static inline uint64_t load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

static inline uint64_t add_carry(uint64_t a, uint64_t b)
{
	a += b;
	return a + (a < b);
}

uint64_t wg_sum(uint64_t sum, const uint8_t *p, size_t n)
{
	uint64_t a = sum, b = 0, c = 0, d = 0;
	uint32_t four;
	uint16_t two;
	uint8_t rest[2] = { 0 };

	/* Four chains, so that the carries of one do not hold up the others. */
	for (; n >= 32; p += 32, n -= 32) {
		a = add_carry(a, load64(p));
		b = add_carry(b, load64(p + 8));
		c = add_carry(c, load64(p + 16));
		d = add_carry(d, load64(p + 24));
	}
	a = add_carry(add_carry(a, b), add_carry(c, d));
	for (; n >= 8; p += 8, n -= 8)
		a = add_carry(a, load64(p));
	if (n & 4) {
		memcpy(&four, p, sizeof four);
		a = add_carry(a, four);
		p += 4;
	}
	if (n & 2) {
		memcpy(&two, p, sizeof two);
		a = add_carry(a, two);
		p += 2;
	}
	if (n & 1)
		rest[0] = *p;
	memcpy(&two, rest, sizeof two);
	return add_carry(a, two);
}

uint16_t wg_sum_fold(uint64_t sum)
{
	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return (uint16_t)((sum >> 16) + sum);
}

void wg_sum_store(uint8_t *p, uint16_t v)
{
	memcpy(p, &v, sizeof v);
}

uint64_t wg_sum_pseudo(const uint8_t *ip, bool six, uint8_t protocol, size_t len)
{
	uint8_t tail[8] = { 0 };
	uint64_t sum;

	nb_put_be32(tail, (uint32_t)len);
	tail[7] = protocol;
	sum = load64(tail);
	for (size_t i = six ? 8 : 12, end = six ? 40 : 20; i < end; i += 8)
		sum = add_carry(sum, load64(ip + i));
	return sum;
}

void wg_sum_ip4(uint8_t *ip, size_t len)
{
	nb_put_be16(ip + 10, 0);
	wg_sum_store(ip + 10, (uint16_t)~wg_sum_fold(wg_sum(0, ip, len)));
}

/* --- cutting --- */

#define HEADERS_MAX 128		/* usual ones are shorter than that */

struct vnet {
	uint8_t flags, type;
	uint16_t hdr_len, size, start, offset;
};

static struct vnet vnet_read(const uint8_t *p)
{
	struct vnet v = { .flags = p[0], .type = p[1] };

	memcpy(&v.hdr_len, p + 2, 2);
	memcpy(&v.size, p + 4, 2);
	memcpy(&v.start, p + 6, 2);
	memcpy(&v.offset, p + 8, 2);
	return v;
}

/* The field holds the pseudo-header's sum already. */
static int finish_sum(const struct vnet *v, uint8_t *p, size_t n)
{
	size_t field = (size_t)v->start + v->offset;
	uint16_t sum;

	if (field + 2 > n)
		return NB_E_BAD;
	sum = (uint16_t)~wg_sum_fold(wg_sum(0, p + v->start, n - v->start));
	/* Zero means "no sum" in UDP; to the others both are the same number. */
	wg_sum_store(p + field, sum ? sum : 0xffff);
	return 0;
}

int wg_split_begin(struct wg_split *s, const uint8_t vnet[WG_VNET], uint8_t *p, size_t n)
{
	struct vnet v = vnet_read(vnet);
	uint8_t type = v.type & (uint8_t)~VNET_ECN;
	unsigned version = n ? p[0] >> 4 : 0;

	if (type == VNET_NONE)
		return v.flags & VNET_NEEDS_CSUM ? finish_sum(&v, p, n) : 0;
	*s = (struct wg_split){ .p = p, .n = n, .l4 = v.start, .size = v.size, .six = version == 6 };
	s->tcp = type == VNET_TCP4 || type == VNET_TCP6;
	if (!(v.flags & VNET_NEEDS_CSUM) || !v.size || n > WG_SUPER_MAX || (!s->tcp && type != VNET_UDP_L4) ||
	    v.offset != (s->tcp ? CSUM_TCP : CSUM_UDP) || (version != 4 && version != 6) ||
	    (type == VNET_TCP4 && version != 4) || (type == VNET_TCP6 && version != 6))
		return NB_E_BAD;
	if (s->l4 < (s->six ? 40u : 20u) || s->l4 + (s->tcp ? 20 : 8) > n || (!s->six && (p[0] & 15u) * 4 != s->l4))
		return NB_E_BAD;
	s->hdr = s->l4 + (s->tcp ? (size_t)(p[s->l4 + 12] >> 4) * 4 : 8);
	if (s->hdr < s->l4 + (s->tcp ? 20 : 8) || s->hdr >= n)
		return NB_E_BAD;
	return 1;
}

size_t wg_split_longest(const struct wg_split *s)
{
	size_t left = s->n - s->hdr - s->at;

	return s->hdr + (left < s->size ? left : s->size);
}

static void segment_tcp(const struct wg_split *s, uint8_t *tcp, bool last)
{
	nb_put_be32(tcp + 4, nb_get_be32(tcp + 4) + (uint32_t)s->at);
	if (!last)
		tcp[13] &= (uint8_t)~(TCP_FIN | TCP_PSH);
	if (s->i)
		tcp[13] &= (uint8_t)~TCP_CWR;
}

size_t wg_split_next(struct wg_split *s, uint8_t *out)
{
	size_t n = wg_split_longest(s), len = n - s->hdr, l4len = n - s->l4;
	uint8_t *l4 = out + s->l4, *field = l4 + (s->tcp ? CSUM_TCP : CSUM_UDP);
	uint16_t sum;

	if (!len)
		return 0;
	/* A copy of known size is a few moves; what is too much of it is overwritten next. */
	if (s->n >= HEADERS_MAX && n >= HEADERS_MAX && s->hdr <= HEADERS_MAX)
		memcpy(out, s->p, HEADERS_MAX);
	else
		memcpy(out, s->p, s->hdr);
	memcpy(out + s->hdr, s->p + s->hdr + s->at, len);
	if (s->six) {
		nb_put_be16(out + 4, (uint16_t)(n - 40));
	} else {
		nb_put_be16(out + 2, (uint16_t)n);
		nb_put_be16(out + 4, (uint16_t)(nb_get_be16(out + 4) + s->i));
		wg_sum_ip4(out, s->l4);
	}
	if (s->tcp)
		segment_tcp(s, l4, s->hdr + s->at + len == s->n);
	else
		nb_put_be16(l4 + 4, (uint16_t)l4len);
	nb_put_be16(field, 0);
	sum = wg_sum_fold(wg_sum(wg_sum_pseudo(out, s->six, s->tcp ? IP_TCP : IP_UDP, l4len), l4, l4len));
	sum = (uint16_t)~sum;
	wg_sum_store(field, sum || s->tcp ? sum : 0xffff);
	s->at += len;
	s->i++;
	return n;
}
