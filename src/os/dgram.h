/* dgram.h - datagrams in batches through one port on IPv4 and IPv6, with the local address of each:
 * recvmmsg and sendmmsg. The data plane's sockets; plain UDP is in socket.h.
 * Tests: tests/unit/os_dgram_test.c */
#ifndef NB_OS_DGRAM_H
#define NB_OS_DGRAM_H

#include "base/addr.h"

#define OS_DGRAM_BATCH 64	/* datagrams per call at most */

struct os_dgram_pair {
	int fd4, fd6;	/* -1: the machine lacks that family */
	uint16_t port;
};

/* Bind wildcard sockets of both families to one port (0: any free one), with large buffers and this mark
 * (0: none). Returns 0, NB_E_BUSY, NB_E_PERM (mark), NB_E_SYS; nothing is open unless 0. */
int os_dgram_open(struct os_dgram_pair *p, uint16_t port, uint32_t mark);
void os_dgram_close(struct os_dgram_pair *p);
int os_dgram_set_mark(const struct os_dgram_pair *p, uint32_t mark);
/* Receive what is there, at most count. d[i].p and cap are given; n, from and to (local address, our port) are
 * filled. A datagram longer than cap has n = 0. Returns the number, 0 when there is nothing. */
size_t os_dgram_recv(int fd, uint16_t port, struct nb_dgram *d, size_t count);
/* Send count datagrams to d[i].to, all of fd's family, from d[i].from.addr (family 0: the system chooses; an
 * address that is no longer ours: too). A full socket is waited for, some milliseconds in all.
 * Returns how many the system took; the others are lost. */
size_t os_dgram_send(int fd, const struct nb_dgram *d, size_t count);

#endif
