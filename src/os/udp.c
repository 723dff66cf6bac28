/* udp.c - see udp.h. */
#include "os/udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "os/os_int.h"
#include "os/socket.h"

#define SEGMENTS 64		/* of one message: what every kernel takes that takes any */
#define MESSAGE_MAX 65507

/* Room for one packet-info message of either family, and the size of a segment. */
union control {
	struct cmsghdr align;
	char room[CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(struct in_pktinfo)) + CMSG_SPACE(sizeof(int))];
};

void os_udp_init(struct os_udp *u, int fd)
{
	int domain = 0, none = 0;
	socklen_t len = sizeof domain;

	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
	u->fd = fd;
	u->six = domain == AF_INET6;
	/* Setting the size to none is how to ask whether there is one. */
	u->segment = setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &none, sizeof none) == 0;
}

void os_udp_want_runs(const struct os_udp *u)
{
	int on = 1;

	setsockopt(u->fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on);
}

void os_udp_want_local(const struct os_udp *u)
{
	int on = 1;

	/* Whichever the socket's family understands. */
	setsockopt(u->fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
	setsockopt(u->fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
}

void os_udp_buffers(const struct os_udp *u, int bytes)
{
	/* Forced past the system's limit where we may, else as far as it goes. */
	if (setsockopt(u->fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes))
		setsockopt(u->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
	if (setsockopt(u->fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes))
		setsockopt(u->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

void os_udp_allow_fragments(const struct os_udp *u)
{
	int dont = IP_PMTUDISC_DONT, dont6 = IPV6_PMTUDISC_DONT;

	setsockopt(u->fd, IPPROTO_IP, IP_MTU_DISCOVER, &dont, sizeof dont);
	setsockopt(u->fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &dont6, sizeof dont6);
}

/* --- receiving --- */

static void read_control(struct os_udp_in *in, struct msghdr *h)
{
	in->to = (struct nb_addr){ 0 };
	in->segment = in->n;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		struct in6_pktinfo six;
		struct in_pktinfo four;
		int size;

		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			memcpy(&six, CMSG_DATA(c), sizeof six);
			in->to = nb_addr6(six.ipi6_addr.s6_addr);
			in->to = nb_addr_unmap(&in->to);
			if (in->to.family == 6 && nb_addr_is_link_local(&in->to))
				in->to.scope = six.ipi6_ifindex;
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO && !in->to.family) {
			memcpy(&four, CMSG_DATA(c), sizeof four);
			in->to = nb_addr4(ntohl(four.ipi_addr.s_addr));
		} else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
			memcpy(&size, CMSG_DATA(c), sizeof size);
			if (size > 0 && (size_t)size < in->n)
				in->segment = (size_t)size;
		}
	}
}

int os_udp_recv(const struct os_udp *u, struct os_udp_in *in, unsigned n)
{
	struct mmsghdr m[OS_UDP_BATCH];
	union os_sockaddr sa[OS_UDP_BATCH];
	union control control[OS_UDP_BATCH];
	struct iovec iov[OS_UDP_BATCH];
	int got;

	for (unsigned i = 0; i < n; i++) {
		iov[i] = (struct iovec){ in[i].p, in[i].cap };
		m[i].msg_hdr = (struct msghdr){
			.msg_name = &sa[i], .msg_namelen = sizeof sa[i], .msg_iov = &iov[i], .msg_iovlen = 1,
			.msg_control = &control[i], .msg_controllen = sizeof control[i],
		};
	}
	do {
		got = recvmmsg(u->fd, m, n, MSG_DONTWAIT, NULL);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN ? NB_E_AGAIN : os_fail(errno);
	for (int i = 0; i < got; i++) {
		in[i].n = m[i].msg_len;
		in[i].cut = m[i].msg_hdr.msg_flags & MSG_TRUNC;
		in[i].from = os_endpoint_from(&sa[i].sa);
		read_control(&in[i], &m[i].msg_hdr);
	}
	return got;
}

/* --- sending --- */

/* An IPv4 address on an IPv6 socket is written as ::ffff:a.b.c.d. */
static struct nb_addr mapped(const struct nb_addr *a)
{
	uint8_t ip[16] = { [10] = 0xff, [11] = 0xff };

	if (a->family != 4)
		return *a;
	memcpy(ip + 12, a->ip, 4);
	return nb_addr6(ip);
}

static void put_source(struct msghdr *h, union control *ctl, const struct nb_addr *from, bool six)
{
	if (six) {
		struct in6_pktinfo info = { .ipi6_ifindex = from->scope };
		struct nb_addr a = mapped(from);

		memcpy(&info.ipi6_addr, a.ip, 16);
		os_put_control(h, ctl, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
	} else {
		struct in_pktinfo info = { 0 };

		memcpy(&info.ipi_spec_dst, from->ip, 4);
		os_put_control(h, ctl, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
	}
}

static size_t length(const struct os_udp_out *o)
{
	return o->part[0].n + o->part[1].n + o->part[2].n;
}

/* How many datagrams from out[0] on may be one message: equal in all but that the last may be shorter. */
static unsigned run_length(const struct os_udp_out *out, unsigned n, bool segment)
{
	size_t size = length(out), last = size, sum = size;
	unsigned i = 1;

	if (!segment || !size)
		return 1;
	for (; i < n && i < SEGMENTS && last == size; i++) {
		last = length(&out[i]);
		sum += last;
		if (!last || last > size || sum > MESSAGE_MAX || !nb_endpoint_eq(&out[i].to, &out->to) ||
		    !nb_addr_eq(&out[i].from, &out->from))
			break;
	}
	return i;
}

/* What one call sends: messages made of the datagrams from `at` on. */
struct outbox {
	const struct os_udp_out *out;
	unsigned n, at, single_until;	/* single_until: nothing before it is joined */
	unsigned n_messages, n_iov, end[OS_UDP_OUT];
	struct mmsghdr m[OS_UDP_OUT];
	union os_sockaddr sa[OS_UDP_OUT];
	union control control[OS_UDP_OUT];
	struct iovec iov[OS_UDP_OUT * OS_UDP_PARTS];
};

static void add_message(struct outbox *o, unsigned at, unsigned run, bool six)
{
	const struct os_udp_out *out = &o->out[at];
	unsigned i = o->n_messages++;
	struct msghdr *h = &o->m[i].msg_hdr;
	struct nb_endpoint to = out->to;

	*h = (struct msghdr){ .msg_name = &o->sa[i], .msg_iov = &o->iov[o->n_iov] };
	if (six)
		to.addr = mapped(&to.addr);
	h->msg_namelen = os_sockaddr_from(&o->sa[i], &to);
	for (unsigned k = 0; k < run; k++)
		for (unsigned p = 0; p < OS_UDP_PARTS; p++)
			if (out[k].part[p].n)
				o->iov[o->n_iov++] = (struct iovec){ (void *)out[k].part[p].p, out[k].part[p].n };
	h->msg_iovlen = (int)(&o->iov[o->n_iov] - h->msg_iov);
	if (out->from.family)
		put_source(h, &o->control[i], &out->from, six);
	if (run > 1) {
		uint16_t size = (uint16_t)length(out);

		os_put_control(h, &o->control[i], IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size);
	}
	o->end[i] = at + run;
}

static void build(struct outbox *o, const struct os_udp *u)
{
	o->n_messages = o->n_iov = 0;
	for (unsigned at = o->at; at < o->n; at = o->end[o->n_messages - 1])
		add_message(o, at, run_length(o->out + at, o->n - at, u->segment && at >= o->single_until), u->six);
}

/* The first message failed: true if its datagrams should be tried once more, one by one. Too long a segment for the
 * way, or a device that cannot: the latter will not learn it. */
static bool again(struct outbox *o, struct os_udp *u, int e)
{
	if (e == EINTR)
		return true;
	if (o->end[0] - o->at < 2)
		return false;
	if (e == EIO || e == EOPNOTSUPP)
		u->segment = false;
	o->single_until = o->end[0];
	return true;
}

unsigned os_udp_send(struct os_udp *u, const struct os_udp_out *out, unsigned n)
{
	struct outbox o;	/* large: build writes what it needs of it */
	unsigned taken = 0;
	int r;

	o.out = out;
	o.n = n;
	o.at = o.single_until = 0;
	build(&o, u);
	for (unsigned first = 0; o.at < o.n;) {
		/* musl's own sendmmsg makes one call per message. */
		r = (int)syscall(SYS_sendmmsg, u->fd, o.m + first, o.n_messages - first, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (r > 0) {
			first += (unsigned)r;
			taken += o.end[first - 1] - o.at;
			o.at = o.end[first - 1];
			continue;
		}
		if (errno == EAGAIN || errno == ENOBUFS)
			break;
		o.end[0] = o.end[first];
		if (!again(&o, u, errno))
			o.at = o.end[0];	/* this one cannot be sent; the next may */
		build(&o, u);
		first = 0;
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

size_t os_raise_descriptors(size_t want)
{
	struct rlimit r, more;

	if (getrlimit(RLIMIT_NOFILE, &r))
		return SIZE_MAX;
	if (r.rlim_max < want) {
		more = (struct rlimit){ want, want };
		if (setrlimit(RLIMIT_NOFILE, &more) == 0)
			return want;
	}
	if (r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
	return r.rlim_cur == RLIM_INFINITY ? SIZE_MAX : (size_t)r.rlim_cur;
}
