/* udp.h - datagrams in batches on one socket: one system call receives or sends many, and where the system can, a run of
 * equal datagrams is one message (UDP_SEGMENT, UDP_GRO). A datagram to send may lie in parts, and IPv4 and IPv6 share a
 * socket: what a server needs; the data plane's pair of sockets is in dgram.h. Sockets come from os_udp_bind.
 * Errors as in os/socket.h. Source: udp(7). Tests: tests/unit/os_udp_test.c */
#ifndef NB_OS_UDP_H
#define NB_OS_UDP_H

#include "base/addr.h"

#define OS_UDP_BATCH 64		/* most messages received by one call */
#define OS_UDP_OUT 256		/* most datagrams sent by one call */
#define OS_UDP_PARTS 3
#define OS_UDP_LARGE 65536	/* room for a message of many datagrams */

struct os_udp {
	int fd;
	bool six;		/* takes IPv6, and IPv4 as mapped addresses */
	bool segment;		/* runs are sent as one message; sending can drop that for good */
};

/* One datagram, or with os_udp_want_runs several of one sender. */
struct os_udp_in {
	uint8_t *p;			/* the caller's room */
	size_t cap;
	size_t n;			/* bytes received */
	size_t segment;			/* of each datagram but the last, which may be shorter; n: there is one */
	bool cut;			/* it was longer than cap */
	struct nb_endpoint from;
	struct nb_addr to;		/* our address; family 0 without os_udp_want_local */
};

struct os_udp_out {
	struct nb_endpoint to;
	struct nb_addr from;		/* our address to use; family 0: the system's choice */
	struct nb_bytes part[OS_UDP_PARTS];	/* the datagram is their concatenation */
};

/* Take a bound socket; it stays the caller's to close. Finds out what the system can do. */
void os_udp_init(struct os_udp *u, int fd);
/* Receive runs of datagrams as one message, where the system can: in[].cap must then be OS_UDP_LARGE. */
void os_udp_want_runs(const struct os_udp *u);
/* Have the kernel tell to which of our addresses a datagram was sent. */
void os_udp_want_local(const struct os_udp *u);
/* Ask for this much kernel buffer in both directions; the system may give less. */
void os_udp_buffers(const struct os_udp *u, int bytes);
/* Let routers fragment what is too long for a link (DF clear), as RFC 8656, 15 asks of a relay. */
void os_udp_allow_fragments(const struct os_udp *u);
/* Receive what is there, at most n <= OS_UDP_BATCH messages. Returns how many (> 0), NB_E_AGAIN or
 * NB_E_SYS. */
int os_udp_recv(const struct os_udp *u, struct os_udp_in *in, unsigned n);
/* Send n <= OS_UDP_OUT datagrams; those the kernel refuses are dropped, as a network would.
 * Returns how many it took. */
unsigned os_udp_send(struct os_udp *u, const struct os_udp_out *out, unsigned n);
/* The address the system would use to reach another one (nothing is sent). Returns 0, NB_E_NOTFOUND
 * (no route) or NB_E_SYS. */
int os_source_addr(struct nb_addr *out, const struct nb_addr *to);
/* Let this process open as many descriptors as the system permits it, and as root at least want (0: no matter).
 * Returns how many it may have. */
size_t os_raise_descriptors(size_t want);

#endif
