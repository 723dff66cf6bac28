/* addr.c - see addr.h. Text conversion is libc's inet_pton and inet_ntop.
 * Tests: tests/unit/base_addr_test.c */
#include "base/addr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"

/* Asked for every packet: in words, where memcmp may look at one byte after the other. */
bool nb_addr_eq(const struct nb_addr *a, const struct nb_addr *b)
{
	uint64_t p[2], q[2];

	memcpy(p, a->ip, sizeof p);
	memcpy(q, b->ip, sizeof q);
	return a->family == b->family && a->scope == b->scope && p[0] == q[0] && p[1] == q[1];
}

bool nb_endpoint_eq(const struct nb_endpoint *a, const struct nb_endpoint *b)
{
	return a->port == b->port && nb_addr_eq(&a->addr, &b->addr);
}

struct nb_addr nb_addr4(uint32_t host_order)
{
	struct nb_addr a = { .family = 4 };

	nb_put_be32(a.ip, host_order);
	return a;
}

struct nb_addr nb_addr6(const uint8_t ip[16])
{
	struct nb_addr a = { .family = 6 };

	memcpy(a.ip, ip, 16);
	return a;
}

int nb_addr_parse(struct nb_addr *a, const char *text)
{
	struct nb_addr r = { 0 };

	if (inet_pton(AF_INET, text, r.ip) == 1)
		r.family = 4;
	else if (inet_pton(AF_INET6, text, r.ip) == 1)
		r.family = 6;
	else
		return NB_E_BAD;
	*a = r;
	return 0;
}

void nb_addr_format(char out[NB_ADDR_TEXT], const struct nb_addr *a)
{
	if (!a->family || !inet_ntop(a->family == 4 ? AF_INET : AF_INET6, a->ip, out, NB_ADDR_TEXT))
		out[0] = 0;
}

static int parse_uint(const char *text, unsigned max, unsigned *v)
{
	*v = 0;
	if (!*text || strlen(text) > 5)
		return NB_E_BAD;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return NB_E_BAD;
		*v = *v * 10 + (unsigned)(*text - '0');
	}
	return *v > max ? NB_E_BAD : 0;
}

int nb_endpoint_parse(struct nb_endpoint *e, const char *text)
{
	const char *colon = strrchr(text, ':');
	struct nb_endpoint r = { 0 };
	char host[NB_ADDR_TEXT];
	unsigned port;
	size_t n;

	if (!colon || parse_uint(colon + 1, 65535, &port))
		return NB_E_BAD;
	n = (size_t)(colon - text);
	if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
		text++;
		n -= 2;
	} else if (memchr(text, ':', n)) {
		return NB_E_BAD;
	}
	if (n >= sizeof host)
		return NB_E_BAD;
	memcpy(host, text, n);
	host[n] = 0;
	if (nb_addr_parse(&r.addr, host))
		return NB_E_BAD;
	r.port = (uint16_t)port;
	*e = r;
	return 0;
}

void nb_endpoint_format(char out[NB_ADDR_TEXT], const struct nb_endpoint *e)
{
	char host[NB_ADDR_TEXT];

	nb_addr_format(host, &e->addr);
	snprintf(out, NB_ADDR_TEXT, e->addr.family == 6 ? "[%.46s]:%u" : "%.46s:%u", host, e->port);
}

int nb_prefix_parse(struct nb_prefix *p, const char *text)
{
	const char *slash = strchr(text, '/');
	size_t n = slash ? (size_t)(slash - text) : strlen(text);
	struct nb_prefix r = { 0 };
	char host[NB_ADDR_TEXT];
	unsigned len;

	if (n >= sizeof host)
		return NB_E_BAD;
	memcpy(host, text, n);
	host[n] = 0;
	if (nb_addr_parse(&r.addr, host))
		return NB_E_BAD;
	len = r.addr.family == 4 ? 32 : 128;
	if (slash && parse_uint(slash + 1, len, &len))
		return NB_E_BAD;
	r.len = (uint8_t)len;
	*p = r;
	return 0;
}

void nb_prefix_format(char out[NB_ADDR_TEXT], const struct nb_prefix *p)
{
	char host[NB_ADDR_TEXT];

	nb_addr_format(host, &p->addr);
	snprintf(out, NB_ADDR_TEXT, "%.46s/%u", host, p->len);
}

void nb_prefix_mask(struct nb_prefix *p)
{
	unsigned bits = p->addr.family == 4 ? 32 : 128;

	for (unsigned i = p->len; i < bits; i++)
		p->addr.ip[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
}

bool nb_prefix_contains(const struct nb_prefix *p, const struct nb_addr *a)
{
	unsigned whole = p->len / 8, rest = p->len % 8;

	if (p->addr.family != a->family || memcmp(p->addr.ip, a->ip, whole))
		return false;
	return !rest || ((p->addr.ip[whole] ^ a->ip[whole]) >> (8 - rest)) == 0;
}

bool nb_addr_is_loopback(const struct nb_addr *a)
{
	static const uint8_t one[16] = { [15] = 1 };

	return a->family == 4 ? a->ip[0] == 127 : a->family == 6 && memcmp(a->ip, one, 16) == 0;
}

bool nb_addr_is_link_local(const struct nb_addr *a)
{
	if (a->family == 4)
		return a->ip[0] == 169 && a->ip[1] == 254;
	return a->family == 6 && a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

bool nb_addr_is_multicast(const struct nb_addr *a)
{
	return a->family == 4 ? (a->ip[0] & 0xf0) == 0xe0 : a->family == 6 && a->ip[0] == 0xff;
}

bool nb_addr_is_unspecified(const struct nb_addr *a)
{
	static const uint8_t zero[16];

	return memcmp(a->ip, zero, 16) == 0;
}

bool nb_addr_is_private(const struct nb_addr *a)
{
	if (a->family == 6)
		return (a->ip[0] & 0xfe) == 0xfc;
	return a->family == 4 && (a->ip[0] == 10 || (a->ip[0] == 172 && (a->ip[1] & 0xf0) == 16) ||
		(a->ip[0] == 192 && a->ip[1] == 168) || (a->ip[0] == 100 && (a->ip[1] & 0xc0) == 64));
}

struct nb_addr nb_addr_unmap(const struct nb_addr *a)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	struct nb_addr r = { .family = 4 };

	if (a->family != 6 || memcmp(a->ip, mapped, 12))
		return *a;
	memcpy(r.ip, a->ip + 12, 4);
	return r;
}
