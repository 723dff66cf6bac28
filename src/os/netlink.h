/* netlink.h - the few rtnetlink requests the agent makes: bring a link up, give it addresses and
 * routes, list interface addresses, look a route up, hear about changes. Each request waits for the kernel's answer.
 * Needs CAP_NET_ADMIN except for listing. Source: rtnetlink(7). Tests: tests/net/test_os_netlink.py
 * through the agent. */
#ifndef NB_OS_NETLINK_H
#define NB_OS_NETLINK_H

#include "base/addr.h"

#define OS_IFNAME_CAP 16	/* interface name, NUL included */

/* One address of one interface. */
struct os_ifaddr {
	unsigned index;
	char name[OS_IFNAME_CAP];
	struct nb_prefix prefix;	/* host bits kept */
	bool up, loopback, wireguard;	/* wireguard: a kernel WireGuard device */
	bool has_mac;
	uint8_t mac[6];
};

/* All addresses of all interfaces into out, at most max; *n gets the number. Returns 0, NB_E_SYS,
 * NB_E_FULL (the first max are there) . */
int os_ifaddr_list(struct os_ifaddr *out, size_t max, size_t *n);
/* Index of a link, or NB_E_NOTFOUND. */
int os_link_index(const char *name, unsigned *index);
/* Set the MTU (0: leave it) and bring the link up. Returns 0, NB_E_PERM, NB_E_NOTFOUND, NB_E_SYS. */
int os_link_up(unsigned index, unsigned mtu);
/* Remove a link; NB_E_NOTFOUND when it is not there. */
int os_link_delete(unsigned index);
/* Add an address with its prefix (and so the connected route). An address that is there already is fine. */
int os_addr_add(unsigned index, const struct nb_prefix *prefix);
int os_addr_del(unsigned index, const struct nb_prefix *prefix);
/* Add or replace a route to dst through the link in a routing table (254 is main). */
int os_route_set(const struct nb_prefix *dst, unsigned index, unsigned table);
int os_route_del(const struct nb_prefix *dst, unsigned index, unsigned table);

/* Where packets without a better route go: interface and gateway of the main table's default route of least
 * metric, one for each family; index 0: none. Returns 0 or NB_E_SYS. */
struct os_default_route {
	unsigned index;
	uint32_t metric;
	struct nb_addr gateway;		/* family 0: on the link itself */
};
int os_default_routes(struct os_default_route *v4, struct os_default_route *v6);
/* How the system would reach an address. */
struct os_route {
	struct nb_addr gateway;		/* family 0: on the link; link-local ones have their scope */
	struct nb_addr source;		/* our address on the way; family 0 when the kernel does not say */
	unsigned index;			/* outgoing interface */
};
/* Ask the kernel which way packets with this mark (0: none) to dst take. Returns 0, NB_E_NOTFOUND (no way), NB_E_SYS. */
int os_route_get(struct os_route *out, const struct nb_addr *dst, uint32_t mark);

/* A descriptor that becomes readable when links, addresses or routes change; nonblocking, the caller
 * closes it. Negative NB_E_SYS on failure. */
int os_netlink_monitor(void);
/* Read everything pending from it. Returns true when something relevant changed: an address or route
 * came or went, or a link changed state, on an interface other than `ignore_index`. */
bool os_netlink_drain(int fd, unsigned ignore_index);

#endif
