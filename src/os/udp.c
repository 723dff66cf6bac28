/* udp.c - see udp.h. */
#include "os/udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "os/os_int.h"
#include "os/socket.h"

/* Room for one packet-info message of either family. */
union control {
	struct cmsghdr align;
	char room[CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(struct in_pktinfo))];
};

void os_udp_want_local(int fd)
{
	int on = 1;

	/* Whichever the socket's family understands. */
	setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
	setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
}

void os_udp_buffers(int fd, int bytes)
{
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

void os_udp_allow_fragments(int fd)
{
	int dont = IP_PMTUDISC_DONT, dont6 = IPV6_PMTUDISC_DONT;

	setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &dont, sizeof dont);
	setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &dont6, sizeof dont6);
}

static struct nb_addr local_of(struct msghdr *h)
{
	struct nb_addr a = { 0 };

	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		struct in6_pktinfo six;
		struct in_pktinfo four;

		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			memcpy(&six, CMSG_DATA(c), sizeof six);
			a = nb_addr6(six.ipi6_addr.s6_addr);
			a = nb_addr_unmap(&a);
			if (a.family == 6 && nb_addr_is_link_local(&a))
				a.scope = six.ipi6_ifindex;
			return a;
		}
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			memcpy(&four, CMSG_DATA(c), sizeof four);
			a = nb_addr4(ntohl(four.ipi_addr.s_addr));
		}
	}
	return a;
}

int os_udp_recv(int fd, struct os_udp_in *in, unsigned n)
{
	struct mmsghdr m[OS_UDP_BATCH];
	union os_sockaddr sa[OS_UDP_BATCH];
	union control control[OS_UDP_BATCH];
	struct iovec iov[OS_UDP_BATCH];
	int got;

	memset(m, 0, n * sizeof *m);
	for (unsigned i = 0; i < n; i++) {
		iov[i] = (struct iovec){ in[i].p, in[i].cap };
		m[i].msg_hdr.msg_name = &sa[i];
		m[i].msg_hdr.msg_namelen = sizeof sa[i];
		m[i].msg_hdr.msg_iov = &iov[i];
		m[i].msg_hdr.msg_iovlen = 1;
		m[i].msg_hdr.msg_control = &control[i];
		m[i].msg_hdr.msg_controllen = sizeof control[i];
	}
	do {
		got = recvmmsg(fd, m, n, MSG_DONTWAIT, NULL);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN ? NB_E_AGAIN : os_fail(errno);
	for (int i = 0; i < got; i++) {
		in[i].n = m[i].msg_len;
		in[i].cut = m[i].msg_hdr.msg_flags & MSG_TRUNC;
		in[i].from = os_endpoint_from(&sa[i].sa);
		in[i].to = local_of(&m[i].msg_hdr);
	}
	return got;
}

static int socket_family(int fd)
{
	int domain = 0;
	socklen_t len = sizeof domain;

	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
	return domain;
}

/* An IPv4 address on an IPv6 socket is written as ::ffff:a.b.c.d. */
static struct nb_addr mapped(const struct nb_addr *a)
{
	uint8_t ip[16] = { [10] = 0xff, [11] = 0xff };

	if (a->family != 4)
		return *a;
	memcpy(ip + 12, a->ip, 4);
	return nb_addr6(ip);
}

static void set_source(struct msghdr *h, union control *room, const struct nb_addr *from, bool six)
{
	struct cmsghdr *c = &room->align;

	memset(room, 0, sizeof *room);
	h->msg_control = room;
	if (six) {
		struct in6_pktinfo info = { .ipi6_ifindex = from->scope };
		struct nb_addr a = mapped(from);

		memcpy(&info.ipi6_addr, a.ip, 16);
		c->cmsg_level = IPPROTO_IPV6;
		c->cmsg_type = IPV6_PKTINFO;
		c->cmsg_len = CMSG_LEN(sizeof info);
		memcpy(CMSG_DATA(c), &info, sizeof info);
		h->msg_controllen = CMSG_SPACE(sizeof info);
	} else {
		struct in_pktinfo info = { 0 };

		memcpy(&info.ipi_spec_dst, from->ip, 4);
		c->cmsg_level = IPPROTO_IP;
		c->cmsg_type = IP_PKTINFO;
		c->cmsg_len = CMSG_LEN(sizeof info);
		memcpy(CMSG_DATA(c), &info, sizeof info);
		h->msg_controllen = CMSG_SPACE(sizeof info);
	}
}

/* musl's sendmmsg sends one by one to clear padding; ours is clear. */
static int send_many(int fd, struct mmsghdr *m, unsigned n)
{
	return (int)syscall(SYS_sendmmsg, fd, m, n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

unsigned os_udp_send(int fd, const struct os_udp_out *out, unsigned n)
{
	struct mmsghdr m[OS_UDP_BATCH];
	union os_sockaddr sa[OS_UDP_BATCH];
	union control control[OS_UDP_BATCH];
	struct iovec iov[OS_UDP_BATCH][OS_UDP_PARTS];
	bool six = socket_family(fd) == AF_INET6;
	unsigned done = 0, taken = 0;

	memset(m, 0, n * sizeof *m);
	for (unsigned i = 0; i < n; i++) {
		struct msghdr *h = &m[i].msg_hdr;
		struct nb_endpoint to = out[i].to;

		if (six)
			to.addr = mapped(&to.addr);
		for (unsigned k = 0; k < OS_UDP_PARTS; k++)
			if (out[i].part[k].n)
				iov[i][h->msg_iovlen++] =
					(struct iovec){ (void *)out[i].part[k].p, out[i].part[k].n };
		h->msg_namelen = os_sockaddr_from(&sa[i], &to);
		h->msg_name = &sa[i];
		h->msg_iov = iov[i];
		if (out[i].from.family)
			set_source(h, &control[i], &out[i].from, six);
	}
	while (done < n) {
		int r = send_many(fd, m + done, n - done);

		if (r > 0) {
			done += (unsigned)r;
			taken += (unsigned)r;
		} else if (errno == EAGAIN || errno == ENOBUFS) {
			break;
		} else if (errno != EINTR) {
			done++;		/* this one cannot be sent; the next may */
		}
	}
	return taken;
}

int os_source_addr(struct nb_addr *out, const struct nb_addr *to)
{
	struct nb_endpoint e = { *to, 9 };
	union os_sockaddr sa;
	socklen_t len = os_sockaddr_from(&sa, &e);
	int fd = socket(sa.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), r = 0;

	if (fd < 0)
		return os_fail(errno);
	if (connect(fd, &sa.sa, len))
		r = errno == ENETUNREACH || errno == EADDRNOTAVAIL ? NB_E_NOTFOUND : os_fail(errno);
	else if (os_local_endpoint(fd, &e))
		r = NB_E_SYS;
	else
		*out = e.addr;
	close(fd);
	return r;
}

void os_raise_descriptors(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}
