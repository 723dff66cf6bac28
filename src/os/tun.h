/* tun.h - TUN interfaces: open, read, write. Addresses and routes are netlink.h's business.
 * Source: Linux Documentation/networking/tuntap.rst. Tests: tests/net/test_wireguard_interop.py */
#ifndef NB_OS_TUN_H
#define NB_OS_TUN_H

#include <stddef.h>

#define OS_IFNAME 16	/* room for an interface name, NUL included */

/* Make (or take over) the TUN interface `name`, non-blocking, plain IP packets, with this MTU. It goes away
 * when *fd is closed. Returns 0, NB_E_PERM, NB_E_NOTFOUND (no /dev/net/tun), NB_E_BUSY (another process
 * has it, or it is another kind of interface), NB_E_ARG (name or MTU), NB_E_SYS; os_why() says more. */
int os_tun_open(int *fd, const char *name, unsigned mtu);
/* One packet. A packet longer than cap is cut to it without notice. Returns 0, NB_E_AGAIN, NB_E_CLOSED
 * (the interface is gone), NB_E_IO. */
int os_tun_read(int fd, void *buf, size_t cap, size_t *n);
/* One packet. Returns 0, NB_E_AGAIN, NB_E_IO (the interface is down), NB_E_CLOSED, NB_E_SYS. */
int os_tun_write(int fd, const void *buf, size_t n);

#endif
