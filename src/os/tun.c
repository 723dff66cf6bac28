/* tun.c - see tun.h. */
#include "os/tun.h"

#include "base/err.h"

#include "os/os_int.h"
#include "os/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <net/if.h>

#include <linux/if_tun.h>

/* Newer than the headers may be: UDP segmentation, both families only together. */
#define F_USO4 0x20
#define F_USO6 0x40

static int set_mtu(const struct ifreq *named, unsigned mtu)
{
	struct ifreq r = *named;
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), err = 0;

	if (s < 0)
		return os_fail(errno);
	r.ifr_mtu = (int)mtu;
	if (ioctl(s, SIOCSIFMTU, &r))
		err = errno == EINVAL ? NB_E_ARG : os_fail(errno);
	close(s);
	return err;
}

/* Ask for super-packets, the most first; every refusal takes one step back. */
static void set_offloads(int fd, unsigned *offloads)
{
	static const struct {
		unsigned needs, bits;
	} steps[] = {
		{ OS_TUN_VNET | OS_TUN_TSO | OS_TUN_USO, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | F_USO4 | F_USO6 },
		{ OS_TUN_VNET | OS_TUN_TSO, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 },
		{ OS_TUN_VNET, TUN_F_CSUM },
		{ OS_TUN_VNET, 0 },
	};

	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		if ((*offloads & steps[i].needs) != steps[i].needs || ioctl(fd, TUNSETOFFLOAD, (unsigned long)steps[i].bits))
			continue;
		*offloads = steps[i].needs;
		return;
	}
	/* The header is there even so. */
	*offloads = OS_TUN_VNET;
}

static int attach(int fd, struct ifreq *r, short flags, unsigned *offloads)
{
	flags |= IFF_TUN | IFF_NO_PI;
	if (*offloads & OS_TUN_VNET) {
		r->ifr_flags = (short)(flags | IFF_VNET_HDR);
		if (!ioctl(fd, TUNSETIFF, r))
			return 0;
	}
	*offloads = 0;
	r->ifr_flags = flags;
	return ioctl(fd, TUNSETIFF, r);
}

/* One descriptor of the interface. */
static int open_queue(int *fd, struct ifreq *r, short flags, unsigned *offloads)
{
	int err;

	*fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (*fd < 0)
		return os_fail(errno);
	if (!attach(*fd, r, flags, offloads))
		return 0;
	/* EINVAL: the name belongs to an interface of another kind, or the number of its queues is. */
	err = os_fail(errno == EINVAL ? EBUSY : errno);
	os_close(fd);
	return err;
}

/* All of them; those that are not open are -1 afterwards. An interface that is there already is not joined: it may
 * be another process's, which would share its packets. Made beforehand for one user, it is good for one queue. */
static int open_queues(int fd[], unsigned *queues, struct ifreq *r, unsigned *offloads)
{
	unsigned wanted = *offloads, n = 0, more;

	while (*queues > 1 && n < *queues) {
		more = n ? *offloads : wanted;
		/* Every queue must be of the kind of the first. */
		if (open_queue(&fd[n], r, (short)(n ? IFF_MULTI_QUEUE : IFF_MULTI_QUEUE | IFF_TUN_EXCL), &more) ||
		    (n && more != *offloads))
			break;
		*offloads = more;
		n++;
	}
	if (*queues > 1 && n == *queues)
		return 0;
	for (unsigned i = 0; i < *queues; i++)
		os_close(&fd[i]);
	*queues = 1;
	*offloads = wanted;
	return open_queue(&fd[0], r, 0, offloads);
}

int os_tun_open(int fd[], unsigned *queues, const char *name, unsigned mtu, unsigned *offloads)
{
	struct ifreq r;
	int err;

	for (unsigned i = 0; i < *queues; i++)
		fd[i] = -1;
	if (!name[0] || strlen(name) >= OS_IFNAME || strchr(name, '/') || strchr(name, '%'))
		return NB_E_ARG;
	memset(&r, 0, sizeof r);
	memcpy(r.ifr_name, name, strlen(name));
	err = open_queues(fd, queues, &r, offloads);
	if (err)
		return err;
	if (*offloads)
		set_offloads(fd[0], offloads);
	err = set_mtu(&r, mtu);
	for (unsigned i = 0; err && i < *queues; i++)
		os_close(&fd[i]);
	return err;
}

int os_tun_read(int fd, const struct iovec *parts, int count, size_t *n)
{
	ssize_t k = readv(fd, parts, count);

	if (k >= 0) {
		*n = (size_t)k;
		return 0;
	}
	*n = 0;
	if (errno == EBADFD || errno == ENODEV)
		return NB_E_CLOSED;
	return errno == EAGAIN || errno == EINTR ? NB_E_AGAIN : NB_E_IO;
}

int os_tun_write(int fd, const struct iovec *parts, int count)
{
	if (writev(fd, parts, count) >= 0)
		return 0;
	if (errno == EBADFD || errno == ENODEV)
		return NB_E_CLOSED;
	return os_fail(errno);
}
