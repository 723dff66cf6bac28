/* netlink.c - see netlink.h. One request, one answer, on a socket made for it: these calls are rare. */
#include "os/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include "base/err.h"

#define REQUEST_CAP 256
#define REPLY_CAP 32768
#define LINKS_MAX 512

struct request {
	union {
		struct nlmsghdr h;
		uint8_t bytes[REQUEST_CAP];
	} u;
};

static int error_of(int err)
{
	switch (err) {
	case 0: return 0;
	case EPERM:
	case EACCES: return NB_E_PERM;
	case ENODEV:
	case ESRCH:
	case ENOENT:
	case ENETUNREACH:
	case EHOSTUNREACH:
	case EADDRNOTAVAIL: return NB_E_NOTFOUND;
	case EEXIST: return NB_E_EXISTS;
	}
	return NB_E_SYS;
}

static void *begin(struct request *r, uint16_t type, uint16_t flags, size_t body)
{
	memset(r, 0, sizeof *r);
	r->u.h.nlmsg_len = (uint32_t)NLMSG_LENGTH(body);
	r->u.h.nlmsg_type = type;
	r->u.h.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	return NLMSG_DATA(&r->u.h);
}

static void attr(struct request *r, uint16_t type, const void *p, size_t n)
{
	struct rtattr *a = (struct rtattr *)(void *)(r->u.bytes + NLMSG_ALIGN(r->u.h.nlmsg_len));

	a->rta_type = type;
	a->rta_len = (uint16_t)RTA_LENGTH(n);
	memcpy(RTA_DATA(a), p, n);
	r->u.h.nlmsg_len = (uint32_t)(NLMSG_ALIGN(r->u.h.nlmsg_len) + RTA_ALIGN(a->rta_len));
}

static void attr_u32(struct request *r, uint16_t type, uint32_t v)
{
	attr(r, type, &v, sizeof v);
}

static int open_socket(unsigned groups)
{
	struct sockaddr_nl at = { .nl_family = AF_NETLINK, .nl_groups = groups };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | (groups ? SOCK_NONBLOCK : 0), NETLINK_ROUTE);

	if (fd < 0)
		return NB_E_SYS;
	if (bind(fd, (struct sockaddr *)&at, sizeof at)) {
		close(fd);
		return NB_E_SYS;
	}
	return fd;
}

/* Called for each message of an answer. */
typedef void (*each_fn)(void *ctx, const struct nlmsghdr *h);

static int receive(int fd, each_fn each, void *ctx, bool dump)
{
	static _Thread_local union {
		struct nlmsghdr h;
		uint8_t bytes[REPLY_CAP];
	} reply;

	for (;;) {
		ssize_t got = recv(fd, &reply, sizeof reply, 0);
		size_t left = got > 0 ? (size_t)got : 0;

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return NB_E_SYS;
		for (struct nlmsghdr *h = &reply.h; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_type == NLMSG_ERROR)
				return error_of(-((struct nlmsgerr *)NLMSG_DATA(h))->error);
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (each)
				each(ctx, h);
			if (!dump)
				return 0;
		}
	}
}

static int transact(struct request *r, each_fn each, void *ctx)
{
	bool dump = (r->u.h.nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
	int fd = open_socket(0), err;

	if (fd < 0)
		return fd;
	if (!each)
		r->u.h.nlmsg_flags |= NLM_F_ACK;
	err = send(fd, &r->u, r->u.h.nlmsg_len, 0) < 0 ? error_of(errno) : receive(fd, each, ctx, dump);
	close(fd);
	return err;
}

static const struct rtattr *find_attr(const struct nlmsghdr *h, size_t body, uint16_t type)
{
	const struct rtattr *a = (const struct rtattr *)(const void *)((const uint8_t *)NLMSG_DATA(h) + NLMSG_ALIGN(body));
	size_t left = h->nlmsg_len > NLMSG_SPACE(body) ? h->nlmsg_len - NLMSG_SPACE(body) : 0;

	for (; RTA_OK(a, left); a = RTA_NEXT(a, left))
		if ((a->rta_type & NLA_TYPE_MASK) == type)
			return a;
	return NULL;
}

struct link {
	unsigned index, flags;
	char name[OS_IFNAME_CAP];
	bool wireguard, has_mac;
	uint8_t mac[6];
};

struct listing {
	struct link links[LINKS_MAX];
	size_t nlinks;
	struct os_ifaddr *out;
	size_t max, n;
	bool full;
};

static bool is_wireguard(const struct rtattr *linkinfo)
{
	const struct rtattr *a;
	size_t left;

	if (!linkinfo)
		return false;
	a = RTA_DATA(linkinfo);
	left = RTA_PAYLOAD(linkinfo);
	for (; RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == IFLA_INFO_KIND)
			return !strncmp(RTA_DATA(a), "wireguard", RTA_PAYLOAD(a));
	return false;
}

static void note_link(void *ctx, const struct nlmsghdr *h)
{
	const struct ifinfomsg *m = NLMSG_DATA(h);
	const struct rtattr *name = find_attr(h, sizeof *m, IFLA_IFNAME), *mac = find_attr(h, sizeof *m, IFLA_ADDRESS);
	struct listing *l = ctx;
	struct link *k;

	if (h->nlmsg_type != RTM_NEWLINK || !name || l->nlinks == LINKS_MAX)
		return;
	k = &l->links[l->nlinks++];
	*k = (struct link){ .index = (unsigned)m->ifi_index, .flags = m->ifi_flags };
	snprintf(k->name, sizeof k->name, "%.*s", (int)RTA_PAYLOAD(name), (const char *)RTA_DATA(name));
	k->wireguard = is_wireguard(find_attr(h, sizeof *m, IFLA_LINKINFO));
	if (mac && RTA_PAYLOAD(mac) == 6) {
		k->has_mac = true;
		memcpy(k->mac, RTA_DATA(mac), 6);
	}
}

static const struct link *link_of(const struct listing *l, unsigned index)
{
	for (size_t i = 0; i < l->nlinks; i++)
		if (l->links[i].index == index)
			return &l->links[i];
	return NULL;
}

static void note_addr(void *ctx, const struct nlmsghdr *h)
{
	const struct ifaddrmsg *m = NLMSG_DATA(h);
	const struct rtattr *local = find_attr(h, sizeof *m, IFA_LOCAL);
	struct listing *l = ctx;
	const struct link *k = link_of(l, m->ifa_index);
	struct os_ifaddr a = { .index = m->ifa_index };
	size_t want = m->ifa_family == AF_INET ? 4 : 16;

	if (!local)
		local = find_attr(h, sizeof *m, IFA_ADDRESS);
	if (h->nlmsg_type != RTM_NEWADDR || !k || !local || RTA_PAYLOAD(local) != want ||
	    (m->ifa_family != AF_INET && m->ifa_family != AF_INET6))
		return;
	if (l->n == l->max) {
		l->full = true;
		return;
	}
	memcpy(a.name, k->name, sizeof a.name);
	a.prefix.addr.family = want == 4 ? 4 : 6;
	memcpy(a.prefix.addr.ip, RTA_DATA(local), want);
	a.prefix.len = m->ifa_prefixlen;
	if (nb_addr_is_link_local(&a.prefix.addr) && want == 16)
		a.prefix.addr.scope = m->ifa_index;
	a.up = k->flags & IFF_UP;
	a.loopback = k->flags & IFF_LOOPBACK;
	a.wireguard = k->wireguard;
	a.has_mac = k->has_mac && !a.loopback;
	memcpy(a.mac, k->mac, 6);
	l->out[l->n++] = a;
}

int os_ifaddr_list(struct os_ifaddr *out, size_t max, size_t *n)
{
	static _Thread_local struct listing l;
	struct request r;
	int err;

	l.nlinks = 0;
	l.out = out;
	l.max = max;
	l.n = 0;
	l.full = false;
	begin(&r, RTM_GETLINK, NLM_F_DUMP, sizeof(struct ifinfomsg));
	err = transact(&r, note_link, &l);
	begin(&r, RTM_GETADDR, NLM_F_DUMP, sizeof(struct ifaddrmsg));
	if (!err)
		err = transact(&r, note_addr, &l);
	*n = l.n;
	return err ? err : l.full ? NB_E_FULL : 0;
}

int os_link_index(const char *name, unsigned *index)
{
	*index = if_nametoindex(name);
	return *index ? 0 : NB_E_NOTFOUND;
}

int os_link_up(unsigned index, unsigned mtu)
{
	struct request r;
	struct ifinfomsg *m = begin(&r, RTM_NEWLINK, 0, sizeof *m);

	m->ifi_index = (int)index;
	m->ifi_flags = m->ifi_change = IFF_UP;
	if (mtu)
		attr_u32(&r, IFLA_MTU, mtu);
	return transact(&r, NULL, NULL);
}

int os_link_delete(unsigned index)
{
	struct request r;
	struct ifinfomsg *m = begin(&r, RTM_DELLINK, 0, sizeof *m);

	m->ifi_index = (int)index;
	return transact(&r, NULL, NULL);
}

static size_t addr_bytes(const struct nb_addr *a)
{
	return a->family == 4 ? 4 : 16;
}

static int change_addr(uint16_t type, uint16_t flags, unsigned index, const struct nb_prefix *p)
{
	struct request r;
	struct ifaddrmsg *m = begin(&r, type, flags, sizeof *m);

	m->ifa_family = p->addr.family == 4 ? AF_INET : AF_INET6;
	m->ifa_prefixlen = p->len;
	m->ifa_index = index;
	/* The address is ours by configuration: no duplicate detection delay on a tunnel. */
	m->ifa_flags = p->addr.family == 6 ? IFA_F_NODAD : 0;
	attr(&r, IFA_LOCAL, p->addr.ip, addr_bytes(&p->addr));
	attr(&r, IFA_ADDRESS, p->addr.ip, addr_bytes(&p->addr));
	return transact(&r, NULL, NULL);
}

int os_addr_add(unsigned index, const struct nb_prefix *prefix)
{
	int err = change_addr(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, index, prefix);

	return err == NB_E_EXISTS ? 0 : err;
}

int os_addr_del(unsigned index, const struct nb_prefix *prefix)
{
	return change_addr(RTM_DELADDR, 0, index, prefix);
}

static int change_route(uint16_t type, uint16_t flags, const struct nb_prefix *dst, unsigned index, unsigned table)
{
	struct nb_prefix net = *dst;
	struct request r;
	struct rtmsg *m = begin(&r, type, flags, sizeof *m);

	nb_prefix_mask(&net);
	m->rtm_family = net.addr.family == 4 ? AF_INET : AF_INET6;
	m->rtm_dst_len = net.len;
	m->rtm_table = table < 256 ? (unsigned char)table : RT_TABLE_UNSPEC;
	m->rtm_protocol = RTPROT_STATIC;
	m->rtm_scope = RT_SCOPE_LINK;
	m->rtm_type = RTN_UNICAST;
	attr_u32(&r, RTA_TABLE, table);
	attr_u32(&r, RTA_OIF, index);
	if (net.len)
		attr(&r, RTA_DST, net.addr.ip, addr_bytes(&net.addr));
	return transact(&r, NULL, NULL);
}

int os_route_set(const struct nb_prefix *dst, unsigned index, unsigned table)
{
	return change_route(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, dst, index, table);
}

int os_route_del(const struct nb_prefix *dst, unsigned index, unsigned table)
{
	return change_route(RTM_DELROUTE, 0, dst, index, table);
}

static struct nb_addr read_addr(const struct rtattr *a)
{
	struct nb_addr none = { 0 };

	if (a && RTA_PAYLOAD(a) == 4)
		return nb_addr4(ntohl(*(const uint32_t *)RTA_DATA(a)));
	return a && RTA_PAYLOAD(a) == 16 ? nb_addr6(RTA_DATA(a)) : none;
}

static void note_route(void *ctx, const struct nlmsghdr *h)
{
	struct os_default_route *best = ctx, r = { 0 };
	const struct rtmsg *m = NLMSG_DATA(h);
	const struct rtattr *oif = find_attr(h, sizeof *m, RTA_OIF), *metric = find_attr(h, sizeof *m, RTA_PRIORITY);

	if (h->nlmsg_type != RTM_NEWROUTE || m->rtm_dst_len || m->rtm_table != RT_TABLE_MAIN || m->rtm_type != RTN_UNICAST ||
	    !oif || (m->rtm_flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN)))
		return;
	best += m->rtm_family == AF_INET6;
	r.index = *(const uint32_t *)RTA_DATA(oif);
	r.metric = metric ? *(const uint32_t *)RTA_DATA(metric) : 0;
	r.gateway = read_addr(find_attr(h, sizeof *m, RTA_GATEWAY));
	if (!best->index || r.metric < best->metric)
		*best = r;
}

int os_default_routes(struct os_default_route *v4, struct os_default_route *v6)
{
	struct os_default_route found[2] = { 0 };
	struct request r;
	int err;

	begin(&r, RTM_GETROUTE, NLM_F_DUMP, sizeof(struct rtmsg));
	err = transact(&r, note_route, found);
	*v4 = found[0];
	*v6 = found[1];
	return err;
}

int os_netlink_monitor(void)
{
	return open_socket(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE);
}

/* The interface a change is about; 0 when it names none. */
static unsigned subject(const struct nlmsghdr *h)
{
	const struct rtattr *oif;

	switch (h->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		return (unsigned)((const struct ifinfomsg *)NLMSG_DATA(h))->ifi_index;
	case RTM_NEWADDR:
	case RTM_DELADDR:
		return ((const struct ifaddrmsg *)NLMSG_DATA(h))->ifa_index;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		oif = find_attr(h, sizeof(struct rtmsg), RTA_OIF);
		return oif && RTA_PAYLOAD(oif) == 4 ? *(const uint32_t *)RTA_DATA(oif) : 0;
	}
	return 0;
}

static void note_way(void *ctx, const struct nlmsghdr *h)
{
	const struct rtmsg *m = NLMSG_DATA(h);
	struct os_route *r = ctx;

	if (h->nlmsg_type != RTM_NEWROUTE || h->nlmsg_len < NLMSG_LENGTH(sizeof *m) || m->rtm_type != RTN_UNICAST)
		return;
	r->index = subject(h);
	r->gateway = read_addr(find_attr(h, sizeof *m, RTA_GATEWAY));
	r->source = read_addr(find_attr(h, sizeof *m, RTA_PREFSRC));
	if (r->gateway.family == 6 && nb_addr_is_link_local(&r->gateway))
		r->gateway.scope = r->index;
}

int os_route_get(struct os_route *out, const struct nb_addr *dst, uint32_t mark)
{
	struct request r;
	struct rtmsg *m = begin(&r, RTM_GETROUTE, 0, sizeof *m);
	int err;

	memset(out, 0, sizeof *out);
	m->rtm_family = dst->family == 4 ? AF_INET : AF_INET6;
	m->rtm_dst_len = dst->family == 4 ? 32 : 128;
	attr(&r, RTA_DST, dst->ip, addr_bytes(dst));
	if (mark)
		attr_u32(&r, RTA_MARK, mark);
	err = transact(&r, note_way, out);
	return err ? err : out->index ? 0 : NB_E_NOTFOUND;
}

bool os_netlink_drain(int fd, unsigned ignore_index)
{
	union {
		struct nlmsghdr h;
		uint8_t bytes[8192];
	} buf;
	bool changed = false;
	ssize_t got;

	while ((got = recv(fd, &buf, sizeof buf, MSG_DONTWAIT)) > 0 || (got < 0 && errno == ENOBUFS)) {
		size_t left = got > 0 ? (size_t)got : 0;

		/* The kernel dropped notes: assume the worst. */
		if (got < 0)
			changed = true;
		for (struct nlmsghdr *h = &buf.h; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left))
			if (h->nlmsg_type >= RTM_NEWLINK && h->nlmsg_type <= RTM_DELROUTE && subject(h) != ignore_index)
				changed = true;
	}
	return changed;
}
