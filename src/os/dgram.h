/* dgram.h - datagrams in batches through one port on IPv4 and IPv6, with the local address and the congestion
 * mark of each: recvmmsg and sendmmsg, and where the system can, many datagrams as one message (UDP_SEGMENT,
 * UDP_GRO). The data plane's sockets; plain UDP is in socket.h. Source: udp(7), ip(7), ipv6(7).
 * Tests: tests/unit/os_dgram_test.c */
#ifndef NB_OS_DGRAM_H
#define NB_OS_DGRAM_H

#include "base/addr.h"
#include "base/time.h"

#define OS_DGRAM_BATCH 128	/* datagrams per call at most */
#define OS_DGRAM_LARGE 65536	/* room for a message of many datagrams */
#define OS_DGRAM_NARROW 32	/* narrow ways remembered */

enum os_dgram_offload {
	OS_DGRAM_SEGMENT = 1,	/* runs of equal datagrams to one destination are sent as one message (Linux 4.18) */
	OS_DGRAM_GRO = 2,	/* they are received so, too (Linux 5.0) */
};

/* One datagram, or on receiving several of one sender, `segment` bytes each but the last, which may be shorter. */
struct os_dgram {
	struct nb_endpoint remote;
	struct nb_addr local;	/* received: the address it was sent to, family 0 when unknown; sent: the address to
				 * send from, family 0: the system chooses */
	uint8_t *p;		/* cap bytes of room, or n bytes */
	size_t n, cap;
	uint16_t segment;	/* received: 0: one datagram */
	uint8_t ecn;		/* the two bits of RFC 3168 */
};

struct os_dgram_pair {
	int fd4, fd6;		/* -1: the machine lacks that family */
	uint16_t port;
	unsigned offloads;	/* enum os_dgram_offload: in use; sending can drop one for good */
	/* Where the way is narrow: the longest datagram that goes there in one piece, and until when that is believed. */
	struct os_dgram_narrow {
		struct nb_endpoint to;
		size_t room;
		struct nb_time until;
	} narrow[OS_DGRAM_NARROW];
	unsigned nnarrow;	/* 0: no narrow way was met */
};

struct sock_filter;

/* Bind wildcard sockets of both families to one port (0: any free one), with large buffers, this mark (0: none)
 * and those of the wanted offloads that the system has. Returns 0, NB_E_BUSY, NB_E_PERM (mark), NB_E_SYS; nothing
 * is open unless 0. */
int os_dgram_open(struct os_dgram_pair *p, uint16_t port, uint32_t mark, unsigned offloads);
/* The same for n pairs that share the port, for a thread each; the system gives each arriving datagram to one of
 * them: pick (n instructions of classic BPF, over the datagram from its first byte on) returns its index. NB_E_SYS
 * also when the system has no such thing. Nobody else can share the port by accident. */
int os_dgram_open_group(struct os_dgram_pair p[], unsigned n, uint16_t port, uint32_t mark, unsigned offloads,
			const struct sock_filter *pick, unsigned length);
void os_dgram_close(struct os_dgram_pair *p);
int os_dgram_set_mark(const struct os_dgram_pair *p, uint32_t mark);
/* Receive what is there, at most count messages. d[i].p and cap (OS_DGRAM_LARGE with OS_DGRAM_GRO) are given, the
 * rest is filled. What is longer than cap has n = 0. Returns the number, 0 when there is nothing. */
size_t os_dgram_recv(const struct os_dgram_pair *p, bool six, struct os_dgram *d, size_t count);
/* Send count datagrams, all of one family, in order. An address to send from that is no longer ours is left to the
 * system; a run that the system refuses as one message goes singly. A full socket is waited for, some
 * milliseconds in all. Returns how many the system took; the others are lost. */
size_t os_dgram_send(struct os_dgram_pair *p, bool six, const struct os_dgram *d, size_t count);

/* The longest datagram that is known to reach `to` in one piece; SIZE_MAX: no reason to think that any does not. */
size_t os_dgram_room(const struct os_dgram_pair *p, const struct nb_endpoint *to);
/* Ask the system how long a datagram to `to` may be, in case that is less than the n bytes somebody means to send. Some
 * system calls: for once in a while, as refusals of runs (os_dgram_send) are noticed without. */
void os_dgram_look(struct os_dgram_pair *p, const struct nb_endpoint *to, size_t n);

#endif
