/* segment.c - see offload.h: super-packets become segments, as segmentation in hardware would make them. The header
 * length the kernel names is a hint only: what counts is in the packet itself.
 * Tests: tests/unit/wg_offload_test.c */
#include "base/err.h"
#include "wg/offload_int.h"

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
	uint64_t payload;
	uint16_t sum;

	if (!len)
		return 0;
	/* A copy of known size is a few moves; what is too much of it is overwritten next. */
	if (s->n >= HEADERS_MAX && n >= HEADERS_MAX && s->hdr <= HEADERS_MAX)
		memcpy(out, s->p, HEADERS_MAX);
	else
		memcpy(out, s->p, s->hdr);
	payload = wg_sum_copy(out + s->hdr, s->p + s->hdr + s->at, len);
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
	payload = wg_sum_add(payload, wg_sum_pseudo(out, s->six, s->tcp ? IP_TCP : IP_UDP, l4len));
	sum = (uint16_t)~wg_sum_fold(wg_sum(payload, l4, s->hdr - s->l4));
	wg_sum_store(field, sum || s->tcp ? sum : 0xffff);
	s->at += len;
	s->i++;
	return n;
}
