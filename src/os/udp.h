/* udp.h - datagrams in batches: one system call receives or sends many. Sockets come from
 * os_udp_bind. Errors as in os/socket.h. Tests: tests/unit/os_udp_test.c */
#ifndef NB_OS_UDP_H
#define NB_OS_UDP_H

#include "base/addr.h"

#define OS_UDP_BATCH 64		/* most per call */
#define OS_UDP_PARTS 3

struct os_udp_in {
	uint8_t *p;			/* the caller's room */
	size_t cap;
	size_t n;			/* bytes received */
	bool cut;			/* the datagram was longer than cap */
	struct nb_endpoint from;
	struct nb_addr to;		/* our address; family 0 without os_udp_want_local */
};

struct os_udp_out {
	struct nb_endpoint to;
	struct nb_addr from;		/* our address to use; family 0: the system's choice */
	struct nb_bytes part[OS_UDP_PARTS];	/* the datagram is their concatenation */
};

/* Have the kernel tell to which of our addresses a datagram was sent. */
void os_udp_want_local(int fd);
/* Ask for this much kernel buffer in both directions; the system may give less. */
void os_udp_buffers(int fd, int bytes);
/* Let routers fragment what is too long for a link (DF clear), as RFC 8656, 15 asks of a relay. */
void os_udp_allow_fragments(int fd);
/* Receive what is there, at most n <= OS_UDP_BATCH datagrams. Returns how many (> 0), NB_E_AGAIN or
 * NB_E_SYS. */
int os_udp_recv(int fd, struct os_udp_in *in, unsigned n);
/* Send n <= OS_UDP_BATCH datagrams; those the kernel refuses are dropped, as a network would.
 * Returns how many it took. */
unsigned os_udp_send(int fd, const struct os_udp_out *out, unsigned n);
/* The address the system would use to reach another one (nothing is sent). Returns 0, NB_E_NOTFOUND
 * (no route) or NB_E_SYS. */
int os_source_addr(struct nb_addr *out, const struct nb_addr *to);
/* Let this process open as many descriptors as the system permits it. */
void os_raise_descriptors(void);

#endif
