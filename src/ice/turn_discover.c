/* turn_discover.c - NAT behaviour discovery in Binding requests (RFC 5780, sections 6 and 7): from where else the
 * server can answer, and what a client asks of that. PADDING is not supported. OTHER-ADDRESS says that there is a
 * second address (7.4 forbids it otherwise); a server with a second port only says so in an attribute of ours.
 * Tests: tests/unit/ice_turn_server_test.c */
#include "ice/turn_int.h"

#include "base/err.h"

#define PORT_LOWEST 1024	/* of RESPONSE-PORT: no service of a system is made to hear from us */

static uint16_t second_port(const struct turn_server *s, uint16_t port)
{
	const uint16_t *p = s->stun.port;

	if (!p[0] || !p[1])
		return 0;
	return port == p[0] ? p[1] : port == p[1] ? p[0] : 0;
}

/* The address beside this one, or family 0. */
static struct nb_addr second_addr(const struct turn_server *s, const struct nb_addr *a)
{
	const struct nb_addr *p = a->family == 4 ? s->stun.addr4 : s->stun.addr6;
	struct nb_addr none = { 0 };

	if (!p[0].family || !p[1].family)
		return none;
	return nb_addr_eq(a, &p[0]) ? p[1] : nb_addr_eq(a, &p[1]) ? p[0] : none;
}

/* Where the answer leaves from. */
static unsigned change(const struct stun_msg *m, struct turn_discovery *d, const struct nb_addr *addr, uint16_t port)
{
	uint32_t flags;
	int r = stun_get_u32(m, STUN_A_CHANGE_REQUEST, &flags);

	if (r == NB_E_NOTFOUND)
		return 0;
	if (r)
		return 400;
	if ((flags & STUN_CHANGE_IP && !addr->family) || (flags & STUN_CHANGE_PORT && !port))
		return 420;
	if (flags & STUN_CHANGE_IP)
		d->flow.local.addr = *addr;
	if (flags & STUN_CHANGE_PORT)
		d->flow.local.port = port;
	d->moved = flags & (STUN_CHANGE_IP | STUN_CHANGE_PORT);
	return 0;
}

/* Where it goes: another port of the client's address. */
static unsigned redirect(const struct stun_msg *m, struct turn_discovery *d)
{
	uint32_t v;
	int r = stun_get_u32(m, STUN_A_RESPONSE_PORT, &v);

	if (r == NB_E_NOTFOUND)
		return 0;
	if (r || v >> 16 < PORT_LOWEST)
		return 400;
	d->moved = true;
	d->flow.client.port = (uint16_t)(v >> 16);
	return 0;
}

unsigned turn_discover(const struct turn_server *s, const struct turn_flow *flow, const struct stun_msg *m,
		       struct turn_discovery *d)
{
	struct nb_addr addr = second_addr(s, &flow->local.addr);
	uint16_t port = second_port(s, flow->local.port);
	unsigned code;

	*d = (struct turn_discovery){ .flow = *flow };
	/* A connection is one path, and who it belongs to is known. */
	if (flow->conn || !flow->local.addr.family)
		return stun_has(m, STUN_A_CHANGE_REQUEST) || stun_has(m, STUN_A_RESPONSE_PORT) ? 420 : 0;
	if (addr.family)
		d->other = (struct nb_endpoint){ addr, port ? port : flow->local.port };
	else
		d->other_port = port;
	code = change(m, d, &addr, port);
	return code ? code : redirect(m, d);
}

static size_t addr_len(const struct nb_endpoint *e)
{
	return e->addr.family == 4 ? 12 : 24;
}

void turn_discover_put(const struct turn_discovery *d, const struct stun_msg *m, struct stun_enc *e, size_t more)
{
	size_t room = m->raw.n, used = e->b->n + more;
	const struct nb_endpoint *origin = &d->flow.local;

	if (d->flow.conn || !origin->addr.family)
		return;
	if (used + addr_len(origin) > room)
		return;
	stun_put_addr(e, STUN_A_RESPONSE_ORIGIN, origin);
	used += addr_len(origin);
	if (d->other.addr.family && used + addr_len(&d->other) <= room)
		stun_put_addr(e, STUN_A_OTHER_ADDRESS, &d->other);
	else if (d->other_port && used + 8 <= room)
		stun_put_u32(e, STUN_A_NESTBOX_OTHER_PORT, (uint32_t)d->other_port << 16);
}
