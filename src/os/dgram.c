/* dgram.c - see dgram.h. */
#include "os/dgram.h"

#include "base/err.h"

#include "os/os_int.h"
#include "os/socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define BUFFER_BYTES (7 << 20)	/* smaller ones lose packets at speed (data-plane-limits.md) */
#define SEND_WAIT_MS 5

/* Room for the one control message we use: the local address. */
union control {
	struct cmsghdr align;
	char room[CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

static void set_buffers(int fd)
{
	int n = BUFFER_BYTES;

	/* Forced past the system's limit where we may, else as far as it goes. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &n, sizeof n))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &n, sizeof n);
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &n, sizeof n))
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &n, sizeof n);
}

static int open_one(int *fd, int family, uint16_t port, uint32_t mark)
{
	union os_sockaddr sa;
	socklen_t len;
	int on = 1, err;

	memset(&sa, 0, sizeof sa);
	if (family == AF_INET6) {
		((struct sockaddr_in6 *)&sa.ss)->sin6_port = htons(port);
		len = sizeof(struct sockaddr_in6);
	} else {
		((struct sockaddr_in *)&sa.ss)->sin_port = htons(port);
		len = sizeof(struct sockaddr_in);
	}
	sa.ss.ss_family = (sa_family_t)family;
	*fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (*fd < 0)
		return os_fail(errno);
	if (family == AF_INET6) {
		setsockopt(*fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
		setsockopt(*fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
	} else {
		setsockopt(*fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
	}
	set_buffers(*fd);
	err = mark ? os_set_mark(*fd, mark) : 0;
	if (!err && bind(*fd, &sa.sa, len))
		err = os_fail(errno);
	if (err)
		os_close(fd);
	return err;
}

/* Both families, or the one there is. */
static int open_both(struct os_dgram_pair *p, uint16_t port, uint32_t mark)
{
	struct nb_endpoint at;
	int err4, err6;

	err4 = open_one(&p->fd4, AF_INET, port, mark);
	if (err4 == NB_E_BUSY || err4 == NB_E_PERM)
		return err4;
	if (!err4 && !port && os_local_endpoint(p->fd4, &at) == 0)
		port = at.port;
	err6 = open_one(&p->fd6, AF_INET6, port, mark);
	if (err6 == NB_E_BUSY || (err4 && err6)) {
		os_close(&p->fd4);
		return err6;
	}
	if (err4 && !port && os_local_endpoint(p->fd6, &at) == 0)
		port = at.port;
	p->port = port;
	return 0;
}

int os_dgram_open(struct os_dgram_pair *p, uint16_t port, uint32_t mark)
{
	int err = NB_E_BUSY;

	*p = (struct os_dgram_pair){ -1, -1, 0 };
	/* The port the system chose for IPv4 may be taken on IPv6: then another. */
	for (int tries = port ? 1 : 20; tries && err == NB_E_BUSY; tries--)
		err = open_both(p, port, mark);
	return err;
}

void os_dgram_close(struct os_dgram_pair *p)
{
	os_close(&p->fd4);
	os_close(&p->fd6);
}

int os_dgram_set_mark(const struct os_dgram_pair *p, uint32_t mark)
{
	int err = p->fd4 >= 0 ? os_set_mark(p->fd4, mark) : 0;

	return err ? err : p->fd6 >= 0 ? os_set_mark(p->fd6, mark) : 0;
}

/* The address a datagram was sent to; family 0 when the system does not say. */
static struct nb_addr local_of(struct msghdr *m)
{
	struct nb_addr a = { 0 };

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof info);
			/* The address we would answer from: differs from the header's for broadcasts. */
			a.family = 4;
			memcpy(a.ip, &info.ipi_spec_dst, 4);
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof info);
			a.family = 6;
			memcpy(a.ip, &info.ipi6_addr, 16);
			if (nb_addr_is_link_local(&a))
				a.scope = (uint32_t)info.ipi6_ifindex;
			if (nb_addr_is_multicast(&a))
				memset(&a, 0, sizeof a);
		}
	}
	return a;
}

size_t os_dgram_recv(int fd, uint16_t port, struct nb_dgram *d, size_t count)
{
	struct mmsghdr m[OS_DGRAM_BATCH];
	struct iovec iov[OS_DGRAM_BATCH];
	struct sockaddr_in6 sa[OS_DGRAM_BATCH];
	union control ctl[OS_DGRAM_BATCH];
	int n;

	if (count > OS_DGRAM_BATCH)
		count = OS_DGRAM_BATCH;
	for (size_t i = 0; i < count; i++) {
		iov[i] = (struct iovec){ d[i].p, d[i].cap };
		m[i].msg_hdr = (struct msghdr){
			.msg_name = &sa[i], .msg_namelen = sizeof sa[i], .msg_iov = &iov[i], .msg_iovlen = 1,
			.msg_control = &ctl[i], .msg_controllen = sizeof ctl[i],
		};
	}
	/* An error here is a stored ICMP answer at most; it is gone with the call. */
	n = recvmmsg(fd, m, (unsigned)count, 0, NULL);
	if (n < 0)
		return 0;
	for (int i = 0; i < n; i++) {
		d[i].from = os_endpoint_from((struct sockaddr *)&sa[i]);
		d[i].to.addr = local_of(&m[i].msg_hdr);
		d[i].to.port = port;
		d[i].n = m[i].msg_hdr.msg_flags & MSG_TRUNC ? 0 : m[i].msg_len;
	}
	return (size_t)n;
}

/* Ask for a source address. */
static void put_local(struct msghdr *m, union control *ctl, const struct nb_addr *local)
{
	struct cmsghdr *c;

	memset(ctl, 0, sizeof *ctl);
	m->msg_control = ctl;
	m->msg_controllen = sizeof *ctl;
	c = CMSG_FIRSTHDR(m);
	if (local->family == 4) {
		struct in_pktinfo info;

		memset(&info, 0, sizeof info);
		memcpy(&info.ipi_spec_dst, local->ip, 4);
		c->cmsg_level = IPPROTO_IP;
		c->cmsg_type = IP_PKTINFO;
		c->cmsg_len = CMSG_LEN(sizeof info);
		memcpy(CMSG_DATA(c), &info, sizeof info);
		m->msg_controllen = CMSG_SPACE(sizeof info);
	} else {
		struct in6_pktinfo info;

		memset(&info, 0, sizeof info);
		memcpy(&info.ipi6_addr, local->ip, 16);
		info.ipi6_ifindex = local->scope;
		c->cmsg_level = IPPROTO_IPV6;
		c->cmsg_type = IPV6_PKTINFO;
		c->cmsg_len = CMSG_LEN(sizeof info);
		memcpy(CMSG_DATA(c), &info, sizeof info);
		m->msg_controllen = CMSG_SPACE(sizeof info);
	}
}

/* The first of the rest failed with errno: true if it should be tried again. */
static bool again(int fd, struct msghdr *first, int *waits)
{
	struct pollfd pf = { fd, POLLOUT, 0 };

	switch (errno) {
	case EINTR:
		return true;
	case EAGAIN:
	case ENOBUFS:
		return (*waits)-- > 0 && poll(&pf, 1, SEND_WAIT_MS) >= 0;
	case EINVAL:
	case EADDRNOTAVAIL:
	case ENETUNREACH:
	case ENODEV:
		/* Perhaps only because of the source we asked for. */
		if (!first->msg_controllen)
			return false;
		first->msg_control = NULL;
		first->msg_controllen = 0;
		return true;
	default:
		return false;
	}
}

size_t os_dgram_send(int fd, const struct nb_dgram *d, size_t count)
{
	struct mmsghdr m[OS_DGRAM_BATCH];
	struct iovec iov[OS_DGRAM_BATCH];
	union os_sockaddr sa[OS_DGRAM_BATCH];
	union control ctl[OS_DGRAM_BATCH];
	size_t done = 0, sent = 0;
	int waits = 2;

	if (fd < 0)
		return 0;
	if (count > OS_DGRAM_BATCH)
		count = OS_DGRAM_BATCH;
	for (size_t i = 0; i < count; i++) {
		iov[i] = (struct iovec){ d[i].p, d[i].n };
		m[i].msg_hdr = (struct msghdr){
			.msg_name = &sa[i], .msg_namelen = os_sockaddr_from(&sa[i], &d[i].to),
			.msg_iov = &iov[i], .msg_iovlen = 1,
		};
		if (d[i].from.addr.family)
			put_local(&m[i].msg_hdr, &ctl[i], &d[i].from.addr);
	}
	while (done < count) {
		int n = sendmmsg(fd, m + done, (unsigned)(count - done), 0);

		if (n > 0) {
			done += (size_t)n;
			sent += (size_t)n;
		} else if (!again(fd, &m[done].msg_hdr, &waits)) {
			done++;
		}
	}
	return sent;
}
