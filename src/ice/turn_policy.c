/* turn_policy.c - which peers a client may reach through us (design.md "Relay peers",
 * spec/peer-connection.md 5.3). An allowed prefix wins over everything. Then: never loopback,
 * link-local, multicast, unspecified or reserved addresses; our own addresses on relay ports only;
 * private and documentation ranges only when peers of that family see us at such an address, too; IPv4
 * inside IPv6 is judged as IPv4. Tests: tests/unit/ice_turn_server_test.c */
#include "ice/turn_int.h"

struct range {
	uint8_t family, len;
	uint8_t ip[8];	/* its first bytes; no prefix here is longer than 64 bits but the full ones below */
};

/* Never (RFC 6890 and successors). 0.0.0.0/8 and :: reach loopback on Linux (CVE-2020-26262). */
static const struct range hard[] = {
	{ 4, 8, { 0 } },		{ 4, 8, { 127 } },	{ 4, 16, { 169, 254 } },
	{ 4, 4, { 224 } },		{ 4, 4, { 240 } },	{ 4, 24, { 192, 0, 0 } },
	{ 4, 24, { 192, 88, 99 } },	{ 6, 10, { 0xfe, 0x80 } }, { 6, 10, { 0xfe, 0xc0 } },
	{ 6, 8, { 0xff } },		{ 6, 64, { 1 } },	{ 6, 32, { 0x20, 0x01 } },
	/* Local NAT64: where the IPv4 address sits depends on the network. */
	{ 6, 48, { 0, 0x64, 0xff, 0x9b, 0, 1 } },
};

/* Inside a private network or a laboratory only. */
static const struct range soft[] = {
	{ 4, 8, { 10 } },		{ 4, 10, { 100, 64 } },	 { 4, 12, { 172, 16 } },
	{ 4, 16, { 192, 168 } },	{ 4, 15, { 198, 18 } },	 { 4, 24, { 192, 0, 2 } },
	{ 4, 24, { 198, 51, 100 } },	{ 4, 24, { 203, 0, 113 } }, { 6, 7, { 0xfc } },
	{ 6, 32, { 0x20, 0x01, 0x0d, 0xb8 } }, { 6, 20, { 0x3f, 0xff } },
};

static bool in_range(const struct range *r, const struct nb_addr *a)
{
	unsigned full = r->len / 8, rest = r->len % 8;

	if (r->family != a->family || memcmp(r->ip, a->ip, full) != 0)
		return false;
	return rest == 0 || ((r->ip[full] ^ a->ip[full]) & (0xff00 >> rest) & 0xff) == 0;
}

static bool in_any(const struct range *r, size_t n, const struct nb_addr *a)
{
	for (size_t i = 0; i < n; i++)
		if (in_range(&r[i], a))
			return true;
	return false;
}

bool turn_addr_is_soft(const struct nb_addr *a)
{
	return in_any(soft, sizeof soft / sizeof *soft, a);
}

/* The IPv4 address inside: mapped (::ffff/96), compatible (::/96), NAT64 (64:ff9b::/96),
 * 6to4 (2002::/16). */
static struct nb_addr embedded(const struct nb_addr *a)
{
	static const uint8_t zero[12], mapped[12] = { [10] = 0xff, [11] = 0xff };
	static const uint8_t nat64[12] = { 0, 0x64, 0xff, 0x9b };

	if (a->family != 6)
		return *a;
	if (a->ip[0] == 0x20 && a->ip[1] == 0x02)
		return nb_addr4(nb_get_be32(a->ip + 2));
	if (memcmp(a->ip, zero, 12) == 0 || memcmp(a->ip, mapped, 12) == 0 || memcmp(a->ip, nat64, 12) == 0)
		return nb_addr4(nb_get_be32(a->ip + 12));
	return *a;
}

static bool is_own(const struct turn_server *s, const struct nb_addr *a)
{
	for (size_t i = 0; i < s->nown; i++)
		if (nb_addr_eq(&s->own[i], a))
			return true;
	return nb_addr_eq(&s->cfg.relay4, a) || nb_addr_eq(&s->cfg.relay6, a);
}

bool turn_peer_allowed(const struct turn_server *s, const struct nb_addr *addr, bool *own)
{
	struct nb_addr a = embedded(addr);

	*own = false;
	for (size_t i = 0; i < s->cfg.nallow; i++)
		if (nb_prefix_contains(&s->allow[i], addr) || nb_prefix_contains(&s->allow[i], &a))
			return true;
	if (in_any(hard, sizeof hard / sizeof *hard, &a))
		return false;
	*own = is_own(s, &a);
	return *own || s->soft_ok[turn_family_index(a.family)] || !turn_addr_is_soft(&a);
}

bool turn_port_in_range(const struct turn_server *s, uint16_t port)
{
	return port >= s->cfg.port_min && port <= s->cfg.port_max;
}

bool turn_server_peer_allowed(const struct turn_server *s, const struct nb_addr *peer)
{
	bool own;

	return turn_peer_allowed(s, peer, &own);
}
