/* offload_int.h - Internet checksums (sum.c) and header facts shared by segment.c, join.c and toobig.c.
 * Sums are kept in memory order: what comes out is stored as it is, on machines of either byte order. */
#ifndef NB_WG_OFFLOAD_INT_H
#define NB_WG_OFFLOAD_INT_H

#include "wg/offload.h"

enum { IP_TCP = 6, IP_UDP = 17, IP_ICMP = 1, IP_ICMP6 = 58 };
enum { TCP_FIN = 0x01, TCP_PSH = 0x08, TCP_ACK = 0x10, TCP_CWR = 0x80 };
enum { VNET_NEEDS_CSUM = 1 };
enum { VNET_NONE = 0, VNET_TCP4 = 1, VNET_UDP = 3, VNET_TCP6 = 4, VNET_UDP_L4 = 5, VNET_ECN = 0x80 };
enum { CSUM_TCP = 16, CSUM_UDP = 6 };

/* Two sums become one. */
static inline uint64_t wg_sum_add(uint64_t a, uint64_t b)
{
	a += b;
	return a + (a < b);
}

/* Add n bytes to a sum; all ranges but the last of one sum have an even length. */
uint64_t wg_sum(uint64_t sum, const uint8_t *p, size_t n);
/* The sum of n bytes at p, which are copied to out. */
uint64_t wg_sum_copy(uint8_t *out, const uint8_t *p, size_t n);
/* Addresses, protocol and length, as transport sums include them. */
uint64_t wg_sum_pseudo(const uint8_t *ip, bool six, uint8_t protocol, size_t len);
/* Down to 16 bits, not complemented. */
uint16_t wg_sum_fold(uint64_t sum);
void wg_sum_store(uint8_t *p, uint16_t v);
/* The IPv4 header's own sum, anew. */
void wg_sum_ip4(uint8_t *ip, size_t len);

#endif
