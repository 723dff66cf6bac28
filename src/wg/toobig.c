/* toobig.c - see offload.h: what a router says to a packet that is longer than the way behind it takes.
 * Tests: tests/unit/wg_offload_test.c */
#include "wg/offload_int.h"

#define ICMP_UNREACHABLE 3
#define ICMP_FRAG_NEEDED 4
#define ICMP6_TOO_BIG 2
#define TTL 64

/* ICMPv4 types that are errors: unreachable, quench, redirect, time exceeded, parameter problem. */
static bool is_error4(uint8_t type)
{
	return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
}

static size_t too_big4(uint8_t *out, const uint8_t *p, size_t n, size_t mtu)
{
	size_t ihl = (p[0] & 15u) * 4, quote = n < 576 - 28 ? n : 576 - 28;

	if (ihl < 20 || n < ihl + 8 || nb_get_be16(p + 6) & 0x1fff || p[16] >= 224 || p[12] >= 224 ||
	    (p[9] == IP_ICMP && is_error4(p[ihl])))
		return 0;
	memset(out, 0, 28);
	out[0] = 0x45;
	nb_put_be16(out + 2, (uint16_t)(28 + quote));
	out[8] = TTL;
	out[9] = IP_ICMP;
	memcpy(out + 12, p + 16, 4);
	memcpy(out + 16, p + 12, 4);
	wg_sum_ip4(out, 20);
	out[20] = ICMP_UNREACHABLE;
	out[21] = ICMP_FRAG_NEEDED;
	nb_put_be16(out + 26, (uint16_t)mtu);
	memcpy(out + 28, p, quote);
	wg_sum_store(out + 22, (uint16_t)~wg_sum_fold(wg_sum(0, out + 20, 8 + quote)));
	return 28 + quote;
}

static size_t too_big6(uint8_t *out, const uint8_t *p, size_t n, size_t mtu)
{
	size_t quote = n < WG_TOO_BIG_MAX - 48 ? n : WG_TOO_BIG_MAX - 48;
	uint64_t sum;

	/* Types below 128 are errors. */
	if (n < 48 || p[24] == 0xff || p[8] == 0xff || (p[6] == IP_ICMP6 && p[40] < 128))
		return 0;
	memset(out, 0, 48);
	out[0] = 0x60;
	nb_put_be16(out + 4, (uint16_t)(8 + quote));
	out[6] = IP_ICMP6;
	out[7] = TTL;
	memcpy(out + 8, p + 24, 16);
	memcpy(out + 24, p + 8, 16);
	out[40] = ICMP6_TOO_BIG;
	nb_put_be32(out + 44, (uint32_t)mtu);
	memcpy(out + 48, p, quote);
	sum = wg_sum_pseudo(out, true, IP_ICMP6, 8 + quote);
	wg_sum_store(out + 42, (uint16_t)~wg_sum_fold(wg_sum(sum, out + 40, 8 + quote)));
	return 48 + quote;
}

size_t wg_too_big(uint8_t out[WG_TOO_BIG_MAX], const uint8_t *p, size_t n, size_t mtu)
{
	if (n >= 28 && p[0] >> 4 == 4)
		return too_big4(out, p, n, mtu);
	return n >= 48 && p[0] >> 4 == 6 ? too_big6(out, p, n, mtu) : 0;
}
