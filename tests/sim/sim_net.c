/* sim_net.c - see sim_net.h. */
#include "sim/sim_net.h"

#include "ice/stun.h"

#include <assert.h>
#include <stdlib.h>

#define STUN_HOST SIM_HOSTS	/* receiver number of the STUN server */

uint32_t sim_random(struct sim *s)
{
	s->rng ^= s->rng << 13;
	s->rng ^= s->rng >> 17;
	s->rng ^= s->rng << 5;
	return s->rng * 2654435761u;
}

unsigned sim_below(struct sim *s, unsigned n)
{
	return n ? (sim_random(s) >> 8) % n : 0;
}

void sim_random_bytes(void *sim, void *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)out)[i] = (uint8_t)(sim_random(sim) >> 16);
}

void sim_init(struct sim *s, uint32_t seed)
{
	memset(s, 0, sizeof *s);
	s->rng = seed * 2654435761u + 1;
	s->stun = (struct nb_endpoint){ nb_addr4(0xc6336401), 3478 };	/* 198.51.100.1 */
}

void sim_fini(struct sim *s)
{
	for (unsigned i = 0; i < s->nqueue; i++)
		free(s->queue[i]);
	free(s->queue);
	s->queue = NULL;
}

unsigned sim_add_lan(struct sim *s, enum sim_nat nat)
{
	unsigned i = s->nlans++;

	assert(i < SIM_LANS);
	s->lans[i].nat = nat;
	s->lans[i].outer = nb_addr4(0xcb007100 + 10 + i);	/* 203.0.113.10.. */
	return i;
}

unsigned sim_add_host(struct sim *s, unsigned lan, bool ipv6)
{
	unsigned i = s->nhosts++;
	struct sim_host *h = &s->hosts[i];
	uint8_t ip[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = (uint8_t)(i + 1) };

	assert(i < SIM_HOSTS);
	h->lan = lan;
	if (s->lans[lan].nat == SIM_OPEN)
		h->addr4 = nb_addr4(0xcb007100 + 100 + i);
	else
		h->addr4 = nb_addr4(0xc0a80000 + lan * 256 + 10 + i);
	if (ipv6)
		h->addr6 = nb_addr6(ip);
	return i;
}

void sim_move_host(struct sim *s, unsigned host, unsigned lan)
{
	struct sim_host *h = &s->hosts[host];
	uint32_t n = 20 + host * 50 + sim_below(s, 50);	/* no two hosts have the same */

	h->lan = lan;
	h->addr4 = nb_addr4(s->lans[lan].nat == SIM_OPEN ? 0xc6336500 + host * 128 + n : 0xc0a80000 + lan * 256 + n);
}

void sim_allocate(struct sim *s, unsigned host)
{
	s->hosts[host].relayed = (struct nb_endpoint){ nb_addr4(0xc6336402), (uint16_t)(50000 + host) };
}

/* ---- The queue ---- */

static void swap(struct sim *s, unsigned a, unsigned b)
{
	struct sim_packet *t = s->queue[a];

	s->queue[a] = s->queue[b];
	s->queue[b] = t;
}

static bool earlier(const struct sim *s, unsigned a, unsigned b)
{
	return nb_time_before(s->queue[a]->at, s->queue[b]->at);
}

static void push(struct sim *s, struct sim_packet *p)
{
	unsigned i = s->nqueue++;

	if (i == s->queue_cap) {
		s->queue_cap = s->queue_cap ? s->queue_cap * 2 : 64;
		s->queue = realloc(s->queue, s->queue_cap * sizeof *s->queue);
		assert(s->queue);
	}
	s->queue[i] = p;
	for (; i && earlier(s, i, (i - 1) / 2); i = (i - 1) / 2)
		swap(s, i, (i - 1) / 2);
}

static struct sim_packet *pop(struct sim *s)
{
	struct sim_packet *p = s->queue[0];
	unsigned i = 0, child;

	s->queue[0] = s->queue[--s->nqueue];
	while ((child = 2 * i + 1) < s->nqueue) {
		if (child + 1 < s->nqueue && earlier(s, child + 1, child))
			child++;
		if (!earlier(s, child, i))
			break;
		swap(s, child, i);
		i = child;
	}
	return p;
}

static struct sim_packet *post(struct sim *s, enum sim_kind kind, unsigned host, unsigned via,
			       const struct nb_endpoint *from, const void *bytes, size_t n, struct nb_time at)
{
	struct sim_packet *p = calloc(1, sizeof *p);

	assert(p && n <= sizeof p->p);
	p->kind = kind;
	p->host = host;
	p->via = via;
	if (from)
		p->from = *from;
	p->at = at;
	p->n = n;
	memcpy(p->p, bytes, n);
	push(s, p);
	return p;
}

/* ---- NATs ---- */

static bool forgotten(const struct sim *s, struct nb_time used, struct nb_time now)
{
	return s->forget_ms && nb_time_diff(now, used) > s->forget_ms * NB_MS;
}

static uint16_t map_out(struct sim *s, struct sim_lan *l, const struct nb_endpoint *inner,
			const struct nb_endpoint *dest, struct nb_time now)
{
	struct sim_mapping *m, *free_one = NULL;

	for (unsigned i = 0; i < l->nmap; i++) {
		m = &l->map[i];
		if (forgotten(s, m->used, now)) {
			free_one = m;
		} else if (nb_endpoint_eq(&m->inner, inner) && (l->nat != SIM_SYMMETRIC || nb_endpoint_eq(&m->dest, dest))) {
			m->used = now;
			return m->outer_port;
		}
	}
	assert(free_one || l->nmap < SIM_MAPPINGS);
	m = free_one ? free_one : &l->map[l->nmap++];
	*m = (struct sim_mapping){ *inner, *dest, (uint16_t)(20000 + sim_below(s, 100) * 100 + (unsigned)(m - l->map) % 100), now };
	return m->outer_port;
}

static void note_contact(const struct sim *s, struct sim_lan *l, uint16_t port, const struct nb_endpoint *dest, struct nb_time now)
{
	struct sim_contact *c, *free_one = NULL;

	for (unsigned i = 0; i < l->ncontact; i++) {
		c = &l->contact[i];
		if (c->outer_port == port && nb_endpoint_eq(&c->dest, dest)) {
			c->used = now;
			return;
		}
		if (forgotten(s, c->used, now))
			free_one = c;
	}
	assert(free_one || l->ncontact < SIM_CONTACTS);
	c = free_one ? free_one : &l->contact[l->ncontact++];
	*c = (struct sim_contact){ port, *dest, now };
}

static bool lets_in(const struct sim *s, struct sim_lan *l, uint16_t port, const struct nb_endpoint *from, struct nb_time now)
{
	if (l->nat == SIM_FULL_CONE)
		return true;
	for (unsigned i = 0; i < l->ncontact; i++) {
		struct sim_contact *c = &l->contact[i];

		if (c->outer_port != port || forgotten(s, c->used, now) || !nb_addr_eq(&c->dest.addr, &from->addr) ||
		    (l->nat != SIM_ADDRESS && c->dest.port != from->port))
			continue;
		c->used = now;
		return true;
	}
	return false;
}

/* ---- Routing ---- */

static bool host_at(const struct sim *s, const struct nb_addr *a, unsigned from_lan, unsigned *host)
{
	for (unsigned i = 0; i < s->nhosts; i++) {
		const struct sim_host *h = &s->hosts[i];

		if (nb_addr_eq(&h->addr6, a) ||
		    (nb_addr_eq(&h->addr4, a) && (h->lan == from_lan || s->lans[h->lan].nat == SIM_OPEN))) {
			*host = i;
			return true;
		}
	}
	return false;
}

/* Where a datagram from the public side ends up. */
static bool enter(struct sim *s, const struct nb_endpoint *from, const struct nb_endpoint *to, unsigned *host,
		  struct nb_time now)
{
	for (unsigned i = 0; i < s->nlans; i++) {
		struct sim_lan *l = &s->lans[i];

		if (l->nat == SIM_OPEN || !nb_addr_eq(&l->outer, &to->addr))
			continue;
		for (unsigned k = 0; k < l->nmap; k++) {
			if (l->map[k].outer_port != to->port || forgotten(s, l->map[k].used, now) ||
			    !lets_in(s, l, to->port, from, now))
				continue;
			l->map[k].used = now;
			return host_at(s, &l->map[k].inner.addr, i, host);
		}
		return false;
	}
	return host_at(s, &to->addr, SIM_LANS, host);
}

static bool permitted(struct sim_host *h, const struct nb_endpoint *from)
{
	for (unsigned i = 0; i < h->npermit; i++) {
		if (nb_addr_eq(&h->permit[i].dest.addr, &from->addr))
			return true;
	}
	return false;
}

static void permit(struct sim_host *h, const struct nb_endpoint *to)
{
	if (permitted(h, to))
		return;
	assert(h->npermit < 64);
	h->permit[h->npermit++].dest = *to;
}

static bool to_allocation(struct sim *s, const struct nb_endpoint *from, const struct nb_endpoint *to,
			  unsigned *host)
{
	for (unsigned i = 0; i < s->nhosts; i++) {
		if (nb_endpoint_eq(&s->hosts[i].relayed, to) && permitted(&s->hosts[i], from)) {
			*host = i;
			return true;
		}
	}
	return false;
}


/* Delay and loss of some hops; false when it got lost. */
static bool travel(struct sim *s, unsigned hops, struct nb_time *now)
{
	for (unsigned i = 0; i < hops; i++) {
		*now = nb_time_add_ms(*now, s->delay_ms + sim_below(s, s->jitter_ms + 1));
		if (sim_below(s, 100) < s->loss_pct) {
			s->lost++;
			return false;
		}
	}
	return true;
}

void sim_send(struct sim *s, unsigned host, unsigned via, const struct nb_endpoint *to,
	      const void *p, size_t n, struct nb_time now)
{
	struct sim_host *h = &s->hosts[host];
	struct sim_lan *l = &s->lans[h->lan];
	struct nb_endpoint from = { to->addr.family == 6 ? h->addr6 : h->addr4, SIM_PORT_NUMBER };
	unsigned dest = 0, dest_via = 0, hops = via ? 2 : 1;
	bool found, twice;

	if (!from.addr.family || h->down || l->nat == SIM_BLOCKED)
		return;
	if (via) {
		from = h->relayed;
		permit(h, to);
	} else if (to->addr.family == 4 && host_at(s, &to->addr, h->lan, &dest) && s->hosts[dest].lan == h->lan) {
		;	/* same LAN: no translation */
	} else if (to->addr.family == 4 && l->nat != SIM_OPEN) {
		if (nb_addr_is_private(&to->addr))
			return;
		from.port = map_out(s, l, &from, to, now);
		from.addr = l->outer;
		note_contact(s, l, from.port, to, now);
	}
	if (nb_endpoint_eq(to, &s->stun)) {
		dest = STUN_HOST;
		found = true;
	} else if (s->server.family && nb_addr_eq(&to->addr, &s->server)) {
		dest = SIM_SERVER;
		found = true;
	} else if (to_allocation(s, &from, to, &dest)) {
		found = true;
		dest_via = 1;
		hops++;
	} else if (nb_addr_is_private(&to->addr)) {
		found = !via && host_at(s, &to->addr, h->lan, &dest);
	} else {
		found = enter(s, &from, to, &dest, now);
	}
	if (found && dest < SIM_HOSTS && !dest_via && s->lans[s->hosts[dest].lan].nat == SIM_BLOCKED && s->hosts[dest].lan != h->lan)
		found = false;
	if (!found || ((s->cut || s->cut_from == host + 1) && dest != STUN_HOST)) {
		s->lost++;
		return;
	}
	twice = s->duplicate_pct && sim_below(s, 100) < s->duplicate_pct;
	if (travel(s, hops, &now))
		post(s, SIM_DATAGRAM, dest, dest_via, &from, p, n, now)->to = *to;
	if (twice && travel(s, hops, &now))
		post(s, SIM_DATAGRAM, dest, dest_via, &from, p, n, now)->to = *to;
}

void sim_send_server(struct sim *s, const struct nb_endpoint *from, const struct nb_endpoint *to,
		     const void *p, size_t n, struct nb_time now)
{
	unsigned dest = SIM_SERVER;

	if (nb_addr_eq(&to->addr, &s->server)) {	/* from one of its ports to another */
		post(s, SIM_DATAGRAM, dest, 0, from, p, n, now)->to = *to;
		return;
	}
	if (nb_addr_is_private(&to->addr) || !enter(s, from, to, &dest, now) || s->cut) {
		s->lost++;
		return;
	}
	if (travel(s, 1, &now))
		post(s, SIM_DATAGRAM, dest, 0, from, p, n, now);
}

void sim_signal(struct sim *s, unsigned to_host, const void *p, size_t n, struct nb_time now)
{
	if (sim_below(s, 100) < s->signal_loss_pct)
		return;
	now = nb_time_add_ms(now, s->signal_ms + sim_below(s, s->signal_jitter_ms + 1));
	post(s, SIM_SIGNAL, to_host, 0, NULL, p, n, now);
}

struct nb_time sim_deadline(const struct sim *s)
{
	return s->nqueue ? s->queue[0]->at : NB_TIME_NEVER;
}

/* The STUN server's answer goes back through the NAT to whoever asked. */
static void answer_binding(struct sim *s, const struct sim_packet *q, struct nb_time now)
{
	uint8_t mem[128];
	struct stun_msg m;
	struct stun_enc e;
	struct nb_buf b;
	unsigned dest;

	if (stun_decode(&m, nb_bytes(q->p, q->n)) || m.cls != STUN_REQUEST || !enter(s, &s->stun, &q->from, &dest, now))
		return;
	nb_buf_fixed(&b, mem, sizeof mem);
	e = stun_begin(&b, STUN_SUCCESS, STUN_BINDING, stun_txid(&m));
	stun_put_xor_addr(&e, STUN_A_XOR_MAPPED_ADDRESS, &q->from);
	if (stun_end(&e) || sim_below(s, 100) < s->loss_pct)
		return;
	post(s, SIM_DATAGRAM, dest, 0, &s->stun, mem, b.n,
	     nb_time_add_ms(now, s->delay_ms + sim_below(s, s->jitter_ms + 1)));
}

bool sim_receive(struct sim *s, struct sim_packet *out, struct nb_time now)
{
	while (nb_time_due(sim_deadline(s), now)) {
		struct sim_packet *p = pop(s);
		bool stun = p->host == STUN_HOST;
		bool gone = p->kind == SIM_DATAGRAM && p->host < SIM_HOSTS && s->hosts[p->host].down;

		if (stun)
			answer_binding(s, p, p->at);
		else
			*out = *p;
		free(p);
		if (stun || gone)
			continue;
		s->delivered++;
		return true;
	}
	return false;
}
