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

int os_tun_open(int *fd, const char *name, unsigned mtu)
{
	struct ifreq r;
	int err;

	*fd = -1;
	if (!name[0] || strlen(name) >= OS_IFNAME || strchr(name, '/') || strchr(name, '%'))
		return NB_E_ARG;
	*fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (*fd < 0)
		return os_fail(errno);
	memset(&r, 0, sizeof r);
	r.ifr_flags = IFF_TUN | IFF_NO_PI;
	memcpy(r.ifr_name, name, strlen(name));
	if (ioctl(*fd, TUNSETIFF, &r)) {
		/* EINVAL: the name belongs to an interface of another kind, or one with several queues. */
		err = os_fail(errno == EINVAL ? EBUSY : errno);
		os_close(fd);
		return err;
	}
	err = set_mtu(&r, mtu);
	if (err)
		os_close(fd);
	return err;
}

int os_tun_read(int fd, void *buf, size_t cap, size_t *n)
{
	ssize_t k = read(fd, buf, cap);

	if (k >= 0) {
		*n = (size_t)k;
		return 0;
	}
	*n = 0;
	if (errno == EBADFD || errno == ENODEV)
		return NB_E_CLOSED;
	return errno == EAGAIN || errno == EINTR ? NB_E_AGAIN : NB_E_IO;
}

int os_tun_write(int fd, const void *buf, size_t n)
{
	if (write(fd, buf, n) >= 0)
		return 0;
	if (errno == EBADFD || errno == ENODEV)
		return NB_E_CLOSED;
	return os_fail(errno);
}
