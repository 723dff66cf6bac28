/* dgram.c - see dgram.h. */
#include "os/dgram.h"

#include "base/err.h"

#include "os/clock.h"
#include "os/os_int.h"
#include "os/socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <netinet/udp.h>

#include <linux/filter.h>

#define BUFFER_BYTES (7 << 20)	/* smaller ones lose packets at speed (data-plane-limits.md) */
#define SEND_WAIT_MS 5

#define SEGMENTS 64		/* per message: what every kernel takes that takes any */
#define MESSAGE_MAX 65507
#define NARROW_TIME (600 * NB_SEC)	/* as long as Linux believes a router */

/* Room for the control messages we use: local address, congestion mark, size of a segment. */
union control {
	struct cmsghdr align;
	char room[CMSG_SPACE(sizeof(struct in6_pktinfo)) + 2 * CMSG_SPACE(sizeof(int))];
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

/* The old way for what the system lacks. */
static unsigned set_offloads(int fd, unsigned offloads)
{
	int on = 1, off = 0;

	/* Setting the size to none is how to ask whether there is one. */
	if (offloads & OS_DGRAM_SEGMENT && setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &off, sizeof off))
		offloads &= ~(unsigned)OS_DGRAM_SEGMENT;
	if (offloads & OS_DGRAM_GRO && setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on))
		offloads &= ~(unsigned)OS_DGRAM_GRO;
	return offloads;
}

static int open_one(int *fd, int family, uint16_t port, bool share, uint32_t mark, unsigned *offloads)
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
		setsockopt(*fd, IPPROTO_IPV6, IPV6_RECVTCLASS, &on, sizeof on);
	} else {
		setsockopt(*fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
		setsockopt(*fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof on);
	}
	set_buffers(*fd);
	*offloads = set_offloads(*fd, *offloads);
	err = mark ? os_set_mark(*fd, mark) : 0;
	if (!err && share && setsockopt(*fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on))
		err = os_fail(errno);
	if (!err && bind(*fd, &sa.sa, len))
		err = os_fail(errno);
	if (err)
		os_close(fd);
	return err;
}

/* Both families, or the one there is. */
static int open_both(struct os_dgram_pair *p, uint16_t port, bool share, uint32_t mark)
{
	struct nb_endpoint at;
	int err4, err6, off = 0;

	err4 = open_one(&p->fd4, AF_INET, port, share, mark, &p->offloads);
	if (err4 == NB_E_BUSY || err4 == NB_E_PERM)
		return err4;
	if (!err4 && !port && os_local_endpoint(p->fd4, &at) == 0)
		port = at.port;
	err6 = open_one(&p->fd6, AF_INET6, port, share, mark, &p->offloads);
	if (err6 == NB_E_BUSY || (err4 && err6)) {
		os_close(&p->fd4);
		return err6;
	}
	if (err4 && !port && os_local_endpoint(p->fd6, &at) == 0)
		port = at.port;
	/* Both or neither: who receives asks for the pair. */
	if (!err4 && !(p->offloads & OS_DGRAM_GRO))
		setsockopt(p->fd4, IPPROTO_UDP, UDP_GRO, &off, sizeof off);
	p->port = port;
	return 0;
}

int os_dgram_open(struct os_dgram_pair *p, uint16_t port, uint32_t mark, unsigned offloads)
{
	int err = NB_E_BUSY;

	*p = (struct os_dgram_pair){ .fd4 = -1, .fd6 = -1, .offloads = offloads };
	/* The port the system chose for IPv4 may be taken on IPv6: then another. */
	for (int tries = port ? 1 : 20; tries && err == NB_E_BUSY; tries--)
		err = open_both(p, port, false, mark);
	return err;
}

/* Let sockets that are bound alone have company, which joins them in order. */
static int share(const struct os_dgram_pair *p)
{
	int on = 1;

	if ((p->fd4 >= 0 && setsockopt(p->fd4, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on)) ||
	    (p->fd6 >= 0 && setsockopt(p->fd6, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on)))
		return os_fail(errno);
	return 0;
}

static int set_pick(const struct os_dgram_pair *p, const struct sock_filter *pick, unsigned length)
{
	struct sock_fprog prog = { (unsigned short)length, (struct sock_filter *)(uintptr_t)pick };

	if ((p->fd4 >= 0 && setsockopt(p->fd4, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof prog)) ||
	    (p->fd6 >= 0 && setsockopt(p->fd6, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof prog)))
		return os_fail(errno);
	return 0;
}

int os_dgram_open_group(struct os_dgram_pair p[], unsigned n, uint16_t port, uint32_t mark, unsigned offloads,
			const struct sock_filter *pick, unsigned length)
{
	int err;

	for (unsigned i = 0; i < n; i++)
		p[i] = (struct os_dgram_pair){ .fd4 = -1, .fd6 = -1, .offloads = offloads };
	/* The first alone: a port that somebody has, if only to share it, is taken. */
	err = os_dgram_open(&p[0], port, mark, offloads);
	if (!err && n > 1)
		err = share(&p[0]);
	for (unsigned i = 1; i < n && !err; i++) {
		p[i].offloads = p[0].offloads;
		err = open_both(&p[i], p[0].port, true, mark);
		if (!err && (p[i].offloads != p[0].offloads || (p[i].fd4 < 0) != (p[0].fd4 < 0) ||
			     (p[i].fd6 < 0) != (p[0].fd6 < 0)))
			err = NB_E_SYS;
	}
	if (!err && n > 1)
		err = set_pick(&p[0], pick, length);
	for (unsigned i = 0; err && i < n; i++)
		os_dgram_close(&p[i]);
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

/* --- receiving --- */

static struct nb_addr local4(const struct cmsghdr *c)
{
	struct nb_addr a = { .family = 4 };
	struct in_pktinfo info;

	memcpy(&info, CMSG_DATA(c), sizeof info);
	/* The address we would answer from: differs from the header's for broadcasts. */
	memcpy(a.ip, &info.ipi_spec_dst, 4);
	return a;
}

static struct nb_addr local6(const struct cmsghdr *c)
{
	struct nb_addr a = { .family = 6 };
	struct in6_pktinfo info;

	memcpy(&info, CMSG_DATA(c), sizeof info);
	memcpy(a.ip, &info.ipi6_addr, 16);
	if (nb_addr_is_link_local(&a))
		a.scope = (uint32_t)info.ipi6_ifindex;
	return nb_addr_is_multicast(&a) ? (struct nb_addr){ 0 } : a;
}

/* What the control messages say; without them there is no address, no mark, and one datagram. */
static void take_control(struct os_dgram *d, struct msghdr *m)
{
	int value;

	d->local = (struct nb_addr){ 0 };
	d->segment = 0;
	d->ecn = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			d->local = local4(c);
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			d->local = local6(c);
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
			d->ecn = *CMSG_DATA(c) & 3;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
			memcpy(&value, CMSG_DATA(c), sizeof value);
			d->ecn = value & 3;
		} else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
			memcpy(&value, CMSG_DATA(c), sizeof value);
			if (value > 0 && (size_t)value < d->n)
				d->segment = (uint16_t)value;
		}
	}
}

size_t os_dgram_recv(const struct os_dgram_pair *p, bool six, struct os_dgram *d, size_t count)
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
	n = recvmmsg(six ? p->fd6 : p->fd4, m, (unsigned)count, 0, NULL);
	if (n < 0)
		return 0;
	for (int i = 0; i < n; i++) {
		d[i].remote = os_endpoint_from((struct sockaddr *)&sa[i]);
		d[i].n = m[i].msg_hdr.msg_flags & MSG_TRUNC ? 0 : m[i].msg_len;
		take_control(&d[i], &m[i].msg_hdr);
	}
	return (size_t)n;
}

/* --- sending --- */

/* Messages made of the datagrams from `at` on. Until an index nothing is joined, or no source asked for: what the
 * system's refusals have taught. */
struct outbox {
	struct os_dgram_pair *pair;
	const struct os_dgram *d;
	size_t count, at, single_until, any_source_until;
	size_t n;			/* messages */
	size_t end[OS_DGRAM_BATCH];	/* of each, in datagrams */
	int waits;
	struct mmsghdr m[OS_DGRAM_BATCH];
	struct iovec iov[OS_DGRAM_BATCH];
	union os_sockaddr sa[OS_DGRAM_BATCH];
	union control ctl[OS_DGRAM_BATCH];
};

/* Ask for a source address. */
static void put_local(struct msghdr *m, union control *ctl, const struct nb_addr *local)
{
	if (local->family == 4) {
		struct in_pktinfo info;

		memset(&info, 0, sizeof info);
		memcpy(&info.ipi_spec_dst, local->ip, 4);
		os_put_control(m, ctl, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
	} else {
		struct in6_pktinfo info;

		memset(&info, 0, sizeof info);
		memcpy(&info.ipi6_addr, local->ip, 16);
		info.ipi6_ifindex = local->scope;
		os_put_control(m, ctl, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
	}
}

/* The entry of a way, or NULL. */
static struct os_dgram_narrow *narrow_find(struct os_dgram_pair *p, const struct nb_endpoint *to)
{
	for (unsigned i = 0; i < p->nnarrow; i++)
		if (nb_endpoint_eq(&p->narrow[i].to, to))
			return &p->narrow[i];
	return NULL;
}

/* A way for a new one, in place of the one that was believed longest when all are taken. */
static struct os_dgram_narrow *narrow_new(struct os_dgram_pair *p)
{
	struct os_dgram_narrow *oldest = p->narrow;

	if (p->nnarrow < OS_DGRAM_NARROW)
		return &p->narrow[p->nnarrow++];
	for (unsigned i = 1; i < OS_DGRAM_NARROW; i++)
		if (nb_time_before(p->narrow[i].until, oldest->until))
			oldest = &p->narrow[i];
	return oldest;
}

static void narrow_set(struct os_dgram_pair *p, const struct nb_endpoint *to, size_t room)
{
	struct os_dgram_narrow *e = narrow_find(p, to);

	if (!e)
		e = narrow_new(p);
	*e = (struct os_dgram_narrow){ *to, room, nb_time_add(os_now(), NARROW_TIME) };
}

size_t os_dgram_room(const struct os_dgram_pair *p, const struct nb_endpoint *to)
{
	for (unsigned i = 0; i < p->nnarrow; i++)
		if (nb_endpoint_eq(&p->narrow[i].to, to))
			return nb_time_due(p->narrow[i].until, os_now()) ? SIZE_MAX : p->narrow[i].room;
	return SIZE_MAX;
}

/* What the system knows of the way, be it the interface, the route or what routers told; 0: nothing. */
static size_t system_room(const struct os_dgram_pair *p, const struct nb_endpoint *to)
{
	bool six = to->addr.family == 6;
	int fd = socket(six ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), mtu = 0;
	size_t headers = six ? 48 : 28;
	union os_sockaddr sa;
	socklen_t n = sizeof mtu;
	uint32_t mark = 0;

	if (fd < 0)
		return 0;
	/* The mark may choose another route. */
	if (getsockopt(six ? p->fd6 : p->fd4, SOL_SOCKET, SO_MARK, &mark, &n) == 0 && mark)
		setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark);
	n = sizeof mtu;
	if (connect(fd, &sa.sa, os_sockaddr_from(&sa, to)) ||
	    getsockopt(fd, six ? IPPROTO_IPV6 : IPPROTO_IP, six ? IPV6_MTU : IP_MTU, &mtu, &n))
		mtu = 0;
	close(fd);
	return mtu > (int)headers ? (size_t)mtu - headers : 0;
}

void os_dgram_look(struct os_dgram_pair *p, const struct nb_endpoint *to, size_t n)
{
	size_t room = system_room(p, to);
	struct os_dgram_narrow *e;

	if (room && room < n) {
		narrow_set(p, to, room);
		return;
	}
	e = narrow_find(p, to);
	/* Wide again. */
	if (e && room)
		*e = p->narrow[--p->nnarrow];
}

/* The system refused a run of such datagrams. */
static void refuse(struct os_dgram_pair *p, const struct os_dgram *d)
{
	size_t room = system_room(p, &d->remote);

	narrow_set(p, &d->remote, room && room < d->n ? room : d->n - 1);
}

/* How many datagrams from d[0] on may be one message: equal in all but that the last may be shorter. */
static size_t run_length(const struct outbox *o, size_t at)
{
	const struct os_dgram *d = o->d + at;
	size_t n = 1, bytes = d->n, most = o->count - at;

	if (!(o->pair->offloads & OS_DGRAM_SEGMENT) || at < o->single_until || most < 2 || !d->n ||
	    (o->pair->nnarrow && d->n > os_dgram_room(o->pair, &d->remote)))
		return 1;
	if (most > SEGMENTS)
		most = SEGMENTS;
	while (n < most && d[n - 1].n == d->n && d[n].n && d[n].n <= d->n && bytes + d[n].n <= MESSAGE_MAX &&
	       d[n].ecn == d->ecn && nb_endpoint_eq(&d[n].remote, &d->remote) && nb_addr_eq(&d[n].local, &d->local))
		bytes += d[n++].n;
	return n;
}

/* The bytes of a run of datagrams, in as few parts as they make. */
static size_t gather(struct iovec *iov, const struct os_dgram *d, size_t run)
{
	size_t n = 0;

	for (size_t i = 0; i < run; i++) {
		if (n && (uint8_t *)iov[n - 1].iov_base + iov[n - 1].iov_len == d[i].p)
			iov[n - 1].iov_len += d[i].n;
		else
			iov[n++] = (struct iovec){ d[i].p, d[i].n };
	}
	return n;
}

static void add_message(struct outbox *o, size_t at, size_t run)
{
	const struct os_dgram *d = o->d + at;
	size_t i = o->n++;
	struct msghdr *m = &o->m[i].msg_hdr;

	*m = (struct msghdr){ .msg_name = &o->sa[i], .msg_namelen = os_sockaddr_from(&o->sa[i], &d->remote),
			      .msg_iov = &o->iov[at], .msg_iovlen = gather(&o->iov[at], d, run) };
	if (d->local.family && at >= o->any_source_until)
		put_local(m, &o->ctl[i], &d->local);
	if (d->ecn) {
		int tos = d->ecn;

		os_put_control(m, &o->ctl[i], d->remote.addr.family == 6 ? IPPROTO_IPV6 : IPPROTO_IP,
			    d->remote.addr.family == 6 ? IPV6_TCLASS : IP_TOS, &tos, sizeof tos);
	}
	if (run > 1) {
		uint16_t size = (uint16_t)d->n;

		os_put_control(m, &o->ctl[i], IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size);
	}
	o->end[i] = at + run;
}

static void build(struct outbox *o)
{
	o->n = 0;
	for (size_t at = o->at; at < o->count; at = o->end[o->n - 1])
		add_message(o, at, run_length(o, at));
}

/* The first message failed with errno e: true if its datagrams should be tried once more, perhaps otherwise. */
static bool again(struct outbox *o, int fd, int e)
{
	bool joined = o->end[0] - o->at > 1, sourced = o->d[o->at].local.family && o->at >= o->any_source_until;
	struct pollfd pf = { fd, POLLOUT, 0 };

	if (e == EINTR)
		return true;
	if (e == EAGAIN || e == ENOBUFS)
		return o->waits-- > 0 && poll(&pf, 1, SEND_WAIT_MS) >= 0;
	/* Perhaps only because of the source we asked for. */
	if (sourced && (e == EINVAL || e == EADDRNOTAVAIL || e == ENETUNREACH || e == ENODEV)) {
		o->any_source_until = o->end[0];
		return true;
	}
	if (!joined || (e != EMSGSIZE && e != EIO && e != EOPNOTSUPP && e != EINVAL))
		return false;
	if (e == EMSGSIZE)
		refuse(o->pair, &o->d[o->at]);
	else if (e != EINVAL)
		o->pair->offloads &= ~(unsigned)OS_DGRAM_SEGMENT;
	o->single_until = o->end[0];
	return true;
}

size_t os_dgram_send(struct os_dgram_pair *p, bool six, const struct os_dgram *d, size_t count)
{
	struct outbox o;	/* large: build writes what it needs of it */
	int fd = six ? p->fd6 : p->fd4, n;
	size_t sent = 0;

	if (fd < 0)
		return 0;
	o.pair = p;
	o.d = d;
	o.count = count > OS_DGRAM_BATCH ? OS_DGRAM_BATCH : count;
	o.at = o.single_until = o.any_source_until = 0;
	o.waits = 2;
	while (o.at < o.count) {
		build(&o);
		/* musl's own makes one call per message. */
		n = (int)syscall(SYS_sendmmsg, fd, o.m, (unsigned)o.n, 0);
		if (n > 0) {
			sent += o.end[n - 1] - o.at;
			o.at = o.end[n - 1];
		} else if (!again(&o, fd, errno)) {
			o.at = o.end[0];
		}
	}
	return sent;
}
