/* addr.h - Internet addresses, ports and prefixes as plain values, independent of the system's
 * sockaddr types (src/os converts). */
#ifndef NB_BASE_ADDR_H
#define NB_BASE_ADDR_H

#include "base/bytes.h"

/* family: 0 none, 4, 6. IPv4 in ip[0..3]; the rest is zero, so memcmp compares. scope: interface
 * index of a link-local IPv6 address, else 0. */
struct nb_addr {
	uint8_t family;
	uint8_t ip[16];
	uint32_t scope;
};

struct nb_endpoint {
	struct nb_addr addr;
	uint16_t port;	/* host order */
};

struct nb_prefix {
	struct nb_addr addr;
	uint8_t len;
};

/* One datagram at a core's edge. Buffers belong to whoever filled the struct in. */
struct nb_dgram {
	struct nb_endpoint from;	/* remote on input; unused on output */
	struct nb_endpoint to;		/* remote on output; local address on input when known */
	uint8_t *p;
	size_t n;			/* bytes at p */
	size_t cap;			/* room at p, for outputs */
};

#define NB_ADDR_TEXT 64	/* fits any text below, NUL included */

bool nb_addr_eq(const struct nb_addr *a, const struct nb_addr *b);
bool nb_endpoint_eq(const struct nb_endpoint *a, const struct nb_endpoint *b);
struct nb_addr nb_addr4(uint32_t host_order);
struct nb_addr nb_addr6(const uint8_t ip[16]);
/* IP literal, no brackets; IPv6 as RFC 5952; no zone. Returns 0 or NB_E_BAD. */
int nb_addr_parse(struct nb_addr *a, const char *text);
void nb_addr_format(char out[NB_ADDR_TEXT], const struct nb_addr *a);
/* "1.2.3.4:5" or "[::1]:5". */
int nb_endpoint_parse(struct nb_endpoint *e, const char *text);
void nb_endpoint_format(char out[NB_ADDR_TEXT], const struct nb_endpoint *e);
/* "100.64.0.0/10"; a bare address is its full length. Host bits are kept. */
int nb_prefix_parse(struct nb_prefix *p, const char *text);
void nb_prefix_format(char out[NB_ADDR_TEXT], const struct nb_prefix *p);
/* Clear the host bits. */
void nb_prefix_mask(struct nb_prefix *p);
bool nb_prefix_contains(const struct nb_prefix *p, const struct nb_addr *a);
bool nb_addr_is_loopback(const struct nb_addr *a);
bool nb_addr_is_link_local(const struct nb_addr *a);
bool nb_addr_is_multicast(const struct nb_addr *a);
bool nb_addr_is_unspecified(const struct nb_addr *a);
/* RFC 1918, 100.64/10 and fc00::/7. */
bool nb_addr_is_private(const struct nb_addr *a);
/* ::ffff:a.b.c.d becomes the IPv4 address; others stay. */
struct nb_addr nb_addr_unmap(const struct nb_addr *a);

#endif
