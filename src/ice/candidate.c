/* candidate.c - ICE candidates as values and as text: priorities, foundations, the candidate line,
 * the rules for usable addresses, credentials. No agent state here.
 * spec/signal-protocol.md 3.3, spec/peer-connection.md 1.6, RFC 8839 5.1.
 * Tests: tests/unit/ice_candidate_test.c */
#include "ice/ice.h"

#include <stdio.h>

#include "base/err.h"
#include "crypto/crypto.h"
#include "ice/ice_int.h"

static const char *const type_names[] = { "host", "srflx", "prflx", "relay" };
static const uint8_t type_prefs[] = { 126, 100, 110, 0 };

const char *ice_type_name(enum ice_type type)
{
	return type_names[type];
}

uint32_t ice_priority(enum ice_type type)
{
	return (uint32_t)type_prefs[type] << 24 | 65535u << 8 | 255;
}

uint32_t ice_foundation(enum ice_type type, const struct nb_addr *addr)
{
	char text[NB_ADDR_TEXT];
	uint32_t crc;

	nb_addr_format(text, addr);
	crc = nbc_crc32(0, nb_bytes_str(type_names[type]));
	crc = nbc_crc32(crc, nb_bytes_str(text));
	return nbc_crc32(crc, nb_bytes_str(addr->family == 6 ? "udp6" : "udp4"));
}

uint64_t ice_pair_priority(uint32_t g, uint32_t d)
{
	uint64_t lo = g < d ? g : d, hi = g < d ? d : g;

	return 0xffffffffULL * lo + 2 * hi + (g > d);
}

void ice_candidate_complete(struct ice_candidate *c)
{
	if (!c->component)
		c->component = 1;
	if (!c->priority)
		c->priority = ice_priority(c->type);
	if (!c->foundation)
		c->foundation = ice_foundation(c->type, &c->at.addr);
}

/* ---- Reading ---- */

/* The next word; single spaces separate words. */
static struct nb_bytes word(struct nb_cur *c)
{
	const uint8_t *start = c->p;
	struct nb_bytes w;

	while (c->p < c->end && *c->p != ' ')
		c->p++;
	w = nb_bytes(start, (size_t)(c->p - start));
	if (c->p < c->end)
		c->p++;
	return w;
}

static int number(struct nb_bytes w, uint64_t max, uint32_t *out)
{
	uint64_t v = 0;

	if (!w.n || w.n > 10)
		return NB_E_BAD;
	for (size_t i = 0; i < w.n; i++) {
		if (w.p[i] < '0' || w.p[i] > '9')
			return NB_E_BAD;
		v = v * 10 + (uint64_t)(w.p[i] - '0');
	}
	if (v > max)
		return NB_E_BAD;
	*out = (uint32_t)v;
	return 0;
}

static bool copy_text(char *out, size_t cap, struct nb_bytes w)
{
	if (w.n >= cap || memchr(w.p, 0, w.n)) {
		out[0] = 0;
		return false;
	}
	memcpy(out, w.p, w.n);
	out[w.n] = 0;
	return true;
}

static int address(struct nb_addr *a, struct nb_bytes w)
{
	char text[NB_ADDR_TEXT], *zone;

	if (!w.n || !copy_text(text, sizeof text, w))
		return NB_E_BAD;
	zone = strchr(text, '%');
	if (zone)
		*zone = 0;
	if (nb_addr_parse(a, text))
		return NB_E_BAD;
	*a = nb_addr_unmap(a);
	return 0;
}

static bool ice_chars(struct nb_bytes w, size_t max)
{
	if (w.n > max)
		return false;
	for (size_t i = 0; i < w.n; i++) {
		uint8_t ch = w.p[i];

		if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
		      ch == '+' || ch == '/'))
			return false;
	}
	return true;
}

static bool is_udp(struct nb_bytes w)
{
	return w.n == 3 && (w.p[0] | 32) == 'u' && (w.p[1] | 32) == 'd' && (w.p[2] | 32) == 'p';
}

static int read_type(struct ice_candidate *c, struct nb_bytes w)
{
	for (unsigned i = 0; i < 4; i++) {
		if (nb_bytes_eq_str(w, type_names[i])) {
			c->type = (enum ice_type)i;
			return 0;
		}
	}
	return NB_E_UNSUPPORTED;
}

/* raddr and rport come as a pair right behind the type, or not at all. */
static int read_related(struct ice_candidate *c, struct nb_cur *cur)
{
	struct nb_cur at = *cur;
	struct nb_bytes text;
	uint32_t port;

	if (!nb_bytes_eq_str(word(&at), "raddr"))
		return 0;
	text = word(&at);
	if (!nb_bytes_eq_str(word(&at), "rport") || number(word(&at), 65535, &port))
		return NB_E_BAD;
	/* Others hide the address behind a name or leave it out; the port still counts. */
	if (address(&c->related.addr, text))
		c->related.addr = (struct nb_addr){ .family = c->at.addr.family };
	c->related.port = (uint16_t)port;
	*cur = at;
	return 0;
}

static int read_extensions(struct ice_candidate *c, struct nb_cur *cur)
{
	while (cur->p < cur->end) {
		struct nb_bytes key = word(cur), value;

		if (!key.n || cur->p >= cur->end)
			return key.n ? NB_E_BAD : 0;	/* a trailing space is harmless */
		value = word(cur);
		if (nb_bytes_eq_str(key, "ufrag"))
			copy_text(c->ufrag, sizeof c->ufrag, value);
		else if (nb_bytes_eq_str(key, "cid"))
			copy_text(c->cid, sizeof c->cid, value);
	}
	return 0;
}

static struct nb_bytes skip_prefix(struct nb_bytes t, const char *prefix)
{
	size_t n = strlen(prefix);

	if (t.n >= n && memcmp(t.p, prefix, n) == 0)
		return nb_bytes(t.p + n, t.n - n);
	return t;
}

int ice_candidate_parse(struct ice_candidate *c, struct nb_bytes text)
{
	struct ice_candidate r = { 0 };
	struct nb_cur cur;
	uint32_t component, port;
	struct nb_bytes transport, host;
	int err;

	if (!text.n)
		return NB_E_BAD;
	text = skip_prefix(skip_prefix(text, "a="), "candidate:");
	cur = nb_cur(text);
	if (!ice_chars(word(&cur), 32) || number(word(&cur), 99999, &component))
		return NB_E_BAD;
	transport = word(&cur);
	if (number(word(&cur), UINT32_MAX, &r.priority))
		return NB_E_BAD;
	host = word(&cur);
	if (number(word(&cur), 65535, &port) || !nb_bytes_eq_str(word(&cur), "typ"))
		return NB_E_BAD;
	err = read_type(&r, word(&cur));
	if (err)
		return err;
	if (!is_udp(transport) || component != 1)
		return NB_E_UNSUPPORTED;
	if (host.n > 6 && memcmp(host.p + host.n - 6, ".local", 6) == 0)
		return NB_E_UNSUPPORTED;
	if (address(&r.at.addr, host) || !port)
		return NB_E_BAD;
	r.at.port = (uint16_t)port;
	if (read_related(&r, &cur) || read_extensions(&r, &cur))
		return NB_E_BAD;
	ice_candidate_complete(&r);
	*c = r;
	return 0;
}

/* ---- Writing ---- */

int ice_candidate_format(char out[ICE_CANDIDATE_TEXT], const struct ice_candidate *cand)
{
	struct ice_candidate c = *cand;
	char host[NB_ADDR_TEXT], related[NB_ADDR_TEXT + 32] = "", raddr[NB_ADDR_TEXT];

	ice_candidate_complete(&c);
	nb_addr_format(host, &c.at.addr);
	if ((c.type == ICE_SRFLX || c.type == ICE_RELAY) && c.related.addr.family && c.related.port) {
		nb_addr_format(raddr, &c.related.addr);
		snprintf(related, sizeof related, " raddr %.46s rport %u", raddr, c.related.port);
	}
	snprintf(out, ICE_CANDIDATE_TEXT, "%u %u udp %u %.46s %u typ %s%s%s%s%s%s", c.foundation,
		c.component, c.priority, host, c.at.port, type_names[c.type], related,
		c.ufrag[0] ? " ufrag " : "", c.ufrag, c.cid[0] ? " cid " : "", c.cid);
	return 0;
}

bool ice_candidate_derive(const struct ice_candidate *c, struct ice_candidate *extra)
{
	if (c->type != ICE_SRFLX || !c->cid[0] || !c->related.port || c->at.port == c->related.port)
		return false;
	*extra = *c;
	extra->at.port = c->related.port;
	extra->cid[0] = 0;
	extra->priority = 0;
	extra->foundation = 0;
	ice_candidate_complete(extra);
	return true;
}

void ice_host_candidate(struct ice_candidate *c, const struct nb_addr *addr, uint16_t port)
{
	*c = (struct ice_candidate){ .type = ICE_HOST, .at = { .addr = *addr, .port = port } };
	c->at.addr.scope = 0;
	ice_candidate_complete(c);
}

/* ---- What may be a host candidate ---- */

bool ice_interface_usable(const char *name)
{
	static const char *const refused[] = {
		"lo", "wt", "utun", "tun0", "zt", "ZeroTier", "wg", "ts", "Tailscale", "tailscale",
		"docker", "veth", "br-",
	};

	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		if (strncmp(name, refused[i], strlen(refused[i])) == 0)
			return false;
	}
	return true;
}

bool ice_address_usable(const struct nb_addr *addr)
{
	static const uint8_t compatible[12];

	if (!addr->family || nb_addr_is_unspecified(addr) || nb_addr_is_loopback(addr) ||
	    nb_addr_is_multicast(addr))
		return false;
	if (addr->family == 4)
		return true;
	return !nb_addr_is_link_local(addr) && !(addr->ip[0] == 0xfe && (addr->ip[1] & 0xc0) == 0xc0) &&
		memcmp(addr->ip, compatible, sizeof compatible) != 0;
}

/* ---- Random text ---- */

void ice_random_text(char *out, size_t n, const char *alphabet, unsigned letters,
		     nb_random_fn random, void *random_ctx)
{
	unsigned limit = 256 / letters * letters;	/* reject the rest: no bias */
	uint8_t pool[32];
	size_t used = sizeof pool;

	for (size_t i = 0; i < n;) {
		if (used == sizeof pool) {
			random(random_ctx, pool, sizeof pool);
			used = 0;
		}
		if (pool[used] < limit)
			out[i++] = alphabet[pool[used] % letters];
		used++;
	}
	out[n] = 0;
	nb_wipe(pool, sizeof pool);
}

void ice_make_credentials(char ufrag[ICE_UFRAG_LEN + 1], char pwd[ICE_PWD_LEN + 1],
	nb_random_fn random, void *random_ctx)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

	ice_random_text(ufrag, ICE_UFRAG_LEN, letters, 52, random, random_ctx);
	ice_random_text(pwd, ICE_PWD_LEN, letters, 52, random, random_ctx);
}
