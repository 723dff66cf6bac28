/* tun.h - TUN interfaces: open, read, write. Addresses and routes are netlink.h's business; what virtio headers
 * say is wg/offload.h's. Source: Linux Documentation/networking/tuntap.rst.
 * Tests: tests/net/test_wireguard_interop.py, tests/net/test_wireguard_offloads.py */
#ifndef NB_OS_TUN_H
#define NB_OS_TUN_H

#include <stddef.h>

#include <sys/uio.h>

#define OS_IFNAME 16	/* room for an interface name, NUL included */

/* What an interface can do beyond plain packets; each needs those before it. */
enum os_tun_offload {
	OS_TUN_VNET = 1,	/* a virtio header of 10 bytes before every packet, sums left to us */
	OS_TUN_TSO = 2,		/* TCP super-packets */
	OS_TUN_USO = 4,		/* UDP super-packets (Linux 6.2) */
};

/* Make (or take over) the TUN interface `name`, non-blocking, with this MTU. It goes away when all of fd[] are closed.
 * fd[*queues]: one descriptor per queue; packets of a flow come through one queue, preferably through that which
 * packets of its other direction were written to. *queues becomes 1 when the system or the interface refuses
 * more. offloads: in, those wanted (enum os_tun_offload); out, those the system has. Returns 0, NB_E_PERM, NB_E_NOTFOUND
 * (no /dev/net/tun), NB_E_BUSY (another process has it, or it is another kind of interface), NB_E_ARG (name or
 * MTU), NB_E_SYS; os_why() says more. */
int os_tun_open(int fd[], unsigned *queues, const char *name, unsigned mtu, unsigned *offloads);
/* One packet, header included, spread over count parts. What is longer is cut without notice. Returns 0,
 * NB_E_AGAIN, NB_E_CLOSED (the interface is gone), NB_E_IO. */
int os_tun_read(int fd, const struct iovec *parts, int count, size_t *n);
/* One packet. Returns 0, NB_E_AGAIN, NB_E_IO (the interface is down), NB_E_CLOSED, NB_E_SYS. */
int os_tun_write(int fd, const struct iovec *parts, int count);

#endif
