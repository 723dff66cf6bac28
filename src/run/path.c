/* path.c - see path.h. A turn reads up to 64 times from TUN and receives one batch: what is read together is sealed
 * together and leaves in as few calls as the system allows; what is received together is opened together, joined
 * by flow and written once per group. */
#include "run/path.h"

#include "os/clock.h"
#include "os/socket.h"
#include "os/tun.h"

#include <stdlib.h>

#define SLOTS OS_DGRAM_BATCH
#define READS 64		/* of TUN in a turn */
#define TURN_SEGMENTS 768	/* after which a turn reads no more */
#define LARGE 16		/* messages of many datagrams received at once */
#define SMALL 64		/* plain ones */
#define OPEN 64			/* messages opened at once */
#define STUN_COOKIE 0x2112a442u
#define LOOK_GAP (250 * NB_MS)
#define LOOK_FROM 1200		/* bytes of a message that no way is too narrow for */
#define TOLD_GAP (100 * NB_MS)
#define TOLD_MAX 32		/* answers in that time */
#define MIN_MTU4 576
#define MIN_MTU6 1280
#define IP4_DF 0x40
#define CHANNEL_HEADER 4	/* of a TURN channel */

int run_path_init(struct run_path *p, unsigned tun_offloads)
{
	size_t small;

	p->stride = ((p->mtu > 1600 ? p->mtu : 1600) + WG_HEADROOM + WG_TAILROOM + WG_OVERHEAD + 63) & ~(size_t)63;
	small = SMALL * p->stride;
	p->rx = malloc(small > LARGE * OS_DGRAM_LARGE ? small : LARGE * OS_DGRAM_LARGE);
	p->tx = malloc(SLOTS * p->stride);
	p->super = malloc(OS_DGRAM_LARGE + p->mtu);
	p->tun_vnet = tun_offloads & OS_TUN_VNET;
	p->tun_tso = tun_offloads & OS_TUN_TSO;
	p->tun_uso = tun_offloads & OS_TUN_USO;
	wg_join_init(&p->join, p->tun_tso, p->tun_uso);
	run_path_set_udp(p, &p->udp);
	return p->rx && p->tx && p->super ? 0 : NB_E_NOMEM;
}

void run_path_fini(struct run_path *p)
{
	os_dgram_close(&p->udp);
	os_close(&p->tun);
	free(p->rx);
	free(p->tx);
	free(p->super);
}

void run_path_set_udp(struct run_path *p, const struct os_dgram_pair *fresh)
{
	bool gro = fresh->offloads & OS_DGRAM_GRO;

	p->udp = *fresh;
	p->rx_count = gro ? LARGE : SMALL;
	p->rx_room = gro ? OS_DGRAM_LARGE : p->stride;
}

/* --- out to the network --- */

static void out_send(struct run_path *p, struct run_path_out *v, bool six)
{
	if (v->n)
		p->udp_errors += v->n - os_dgram_send(&p->udp, six, v->d, v->n);
	v->n = 0;
}

static void out_flush(struct run_path *p)
{
	out_send(p, &p->out4, false);
	out_send(p, &p->out6, true);
}

static void out_add(struct run_path *p, const struct nb_endpoint *to, const struct nb_addr *from, uint8_t *data, size_t n,
		    uint8_t ecn)
{
	struct run_path_out *v = to->addr.family == 6 ? &p->out6 : &p->out4;
	struct os_dgram *d = &v->d[v->n++];

	d->remote = *to;
	d->local = from->family == to->addr.family ? *from : (struct nb_addr){ 0 };
	d->p = data;
	d->n = n;
	d->ecn = ecn;
	if (v->n == SLOTS)
		out_flush(p);
}

static void out_packet(struct run_path *p, const struct wg_pkt *k)
{
	if (k->ep.kind == WG_EP_STREAM)
		p->up.stream(p->up.ctx, &k->ep, nb_bytes(k->p, k->n));
	else
		out_add(p, &k->ep.remote, &k->ep.local, k->p, k->n, k->ecn);
}

void run_path_send(struct run_path *p, const struct nb_endpoint *to, const struct nb_addr *from, uint8_t *data, size_t n)
{
	out_add(p, to, from, data, n, 0);
	/* The bytes are the caller's. */
	out_flush(p);
}

void run_path_flush(struct run_path *p, struct nb_time now)
{
	struct wg_pkt k;
	size_t i = 0;

	for (;;) {
		k.buf = p->tx + i * p->stride;
		k.cap = p->stride;
		if (!wg_output(p->wg, &k, now))
			break;
		out_packet(p, &k);
		if (++i == SLOTS) {
			out_flush(p);
			i = 0;
		}
	}
	out_flush(p);
}

/* --- from TUN --- */

/* Packets that wait in the slots of tx to be sealed. */
struct sealing {
	struct wg_pkt k[SLOTS];
	size_t n;
	uint8_t *at;		/* the next slot; never further on than if all were stride bytes apart */
	size_t done;		/* in this turn */
	struct nb_time now;
};

static void sealing_begin(const struct run_path *p, struct sealing *s)
{
	s->n = 0;
	s->at = p->tx + WG_HEADROOM;
}

static size_t overhead(const struct wg_ep *ep)
{
	return WG_OVERHEAD + (ep->kind == WG_EP_TURN ? CHANNEL_HEADER : 0u);
}

/* Once in a while: may one of the long messages just made be fragmented on its way? Which one is left to chance. */
static void look(struct run_path *p, const struct sealing *s, struct nb_time now)
{
	p->look_at = nb_time_add(now, LOOK_GAP / 5);
	for (size_t i = 0, at = (size_t)(now.ns / NB_MS) % s->n; i < s->n; i++, at = (at + 1) % s->n) {
		const struct wg_pkt *k = &s->k[at];

		if (k->verdict != WG_WIRE || k->n < LOOK_FROM || k->ep.kind == WG_EP_STREAM)
			continue;
		os_dgram_look(&p->udp, &k->ep.remote, p->mtu + overhead(&k->ep));
		p->look_at = nb_time_add(now, LOOK_GAP);
		return;
	}
}

static void seal_all(struct run_path *p, struct sealing *s)
{
	struct nb_time now = os_now();

	wg_send(p->wg, s->k, s->n, now);
	for (size_t i = 0; i < s->n; i++)
		if (s->k[i].verdict == WG_WIRE)
			out_packet(p, &s->k[i]);
	if (nb_time_due(p->look_at, now))
		look(p, s, now);
	out_flush(p);
	s->done += s->n;
	sealing_begin(p, s);
}

/* The packet in the next slot is complete; the slot after it begins `step` bytes behind its begin. */
static void slot_filled(struct run_path *p, struct sealing *s, size_t n, size_t step)
{
	s->k[s->n++] = (struct wg_pkt){ .buf = s->at - WG_HEADROOM, .cap = p->stride, .p = s->at, .n = n };
	s->at += step;
	if (s->n == SLOTS)
		seal_all(p, s);
}

/* Write one packet that the kernel does not know yet. */
static int tun_write_plain(struct run_path *p, uint8_t *data, size_t n)
{
	static uint8_t vnet[WG_VNET];
	struct iovec parts[2] = { { vnet, sizeof vnet }, { data, n } };

	return os_tun_write(p->tun, p->tun_vnet ? parts : parts + 1, p->tun_vnet ? 2 : 1);
}

/* Tell the sender of a packet that longer ones than mtu cannot go. */
static void too_big(struct run_path *p, const uint8_t *packet, size_t n, size_t mtu)
{
	uint8_t answer[WG_TOO_BIG_MAX];
	size_t len = wg_too_big(answer, packet, n, mtu);

	p->too_big++;
	if (len)
		tun_write_plain(p, answer, len);
}

static bool may_tell(struct run_path *p, struct nb_time now)
{
	if (nb_time_diff(now, p->told_since) >= TOLD_GAP) {
		p->told_since = now;
		p->told = 0;
	}
	return p->told++ < TOLD_MAX;
}

/* The longest inner packet that goes to ep in one piece; at most the interface's MTU. Messages are padded to 16 bytes, but
 * not beyond that MTU. */
static size_t inner_room(const struct run_path *p, const struct wg_ep *ep)
{
	size_t room = ep->kind == WG_EP_UDP || ep->kind == WG_EP_TURN ? os_dgram_room(&p->udp, &ep->remote) : SIZE_MAX;

	if (room >= p->mtu + overhead(ep))
		return p->mtu;
	return room > overhead(ep) ? (room - overhead(ep)) & ~(size_t)15 : 0;
}

static const struct wg_peer *peer_of(const struct run_path *p, const uint8_t *packet, bool six)
{
	struct nb_addr to = { .family = six ? 6 : 4 };

	memcpy(to.ip, packet + (six ? 24 : 16), six ? 16 : 4);
	return wg_route(p->wg, &to);
}

/* A packet, or the longest segment of one, that would be fragmented outside, where fragments often get lost: its sender
 * is told, if it can send shorter ones; true: the packet is done with. What nobody can shorten, and what comes faster than
 * anybody needs to be told, goes out all the same. */
static bool narrow(struct run_path *p, const uint8_t *at, size_t n, size_t longest, struct nb_time now)
{
	bool six = n >= 40 && at[0] >> 4 == 6;
	const struct wg_peer *peer;
	size_t room;

	if (!six && (n < 20 || at[0] >> 4 != 4 || !(at[6] & IP4_DF)))
		return false;
	peer = peer_of(p, at, six);
	room = peer ? inner_room(p, wg_peer_ep(peer)) : p->mtu;
	if (longest <= room || room < (six ? MIN_MTU6 : MIN_MTU4) || !may_tell(p, now))
		return false;
	too_big(p, at, n, room);
	return true;
}

/* True: a packet cannot go because of its length, and its sender was told. */
static bool too_long(struct run_path *p, const struct sealing *s, const uint8_t *at, size_t n, size_t longest)
{
	if (longest <= p->mtu)
		return p->udp.nnarrow && narrow(p, at, n, longest, s->now);
	too_big(p, at, n, p->mtu);
	return true;
}

/* Segments whose messages will have nothing before or between them are put as close as the messages will be: one
 * run of bytes is less for the kernel to gather. */
static size_t cut_step(const struct run_path *p, const struct wg_split *c)
{
	const struct wg_peer *peer = peer_of(p, c->p, c->six);

	return peer && wg_peer_ep(peer)->kind == WG_EP_UDP ? wg_message_length(p->wg, wg_split_longest(c)) : p->stride;
}

static void cut(struct run_path *p, struct sealing *s, struct wg_split *c)
{
	size_t n, longest = wg_split_longest(c), step = cut_step(p, c);

	if (too_long(p, s, c->p, c->n, longest))
		return;
	while ((n = wg_split_next(c, s->at)) != 0)
		slot_filled(p, s, n, n == longest ? step : p->stride);
}

/* A packet for the network, of the next slot or somewhere else. */
static void tun_packet(struct run_path *p, struct sealing *s, const uint8_t *vnet, uint8_t *at, size_t n)
{
	bool in_slot = at == s->at;
	struct wg_split c;

	if (p->filter)
		filter_out(p->filter, nb_bytes(at, n), s->now);
	switch (p->tun_vnet ? wg_split_begin(&c, vnet, at, n) : 0) {
	case 0:
		if (too_long(p, s, at, n, n))
			break;
		if (!in_slot)
			memcpy(s->at, at, n);
		slot_filled(p, s, n, p->stride);
		break;
	case 1:
		/* A super-packet may be short; its segments would overwrite it. */
		if (in_slot) {
			memcpy(p->super, at, n);
			c.p = p->super;
		}
		cut(p, s, &c);
		break;
	default:
		p->tun_errors++;
	}
}

/* A packet was read: its first mtu bytes stand in the slot, the rest in super at mtu. */
static void tun_was_read(struct run_path *p, struct sealing *s, const uint8_t *vnet, size_t n)
{
	uint8_t *at = s->at;
	unsigned shard;

	if (n > p->mtu) {
		memcpy(p->super, at, p->mtu);
		at = p->super;
	}
	shard = p->shards > 1 ? wg_packet_shard(p->wg, nb_bytes(at, n)) : p->shard;
	if (shard == p->shard)
		tun_packet(p, s, vnet, at, n);
	else
		p->up.packet(p->up.ctx, shard, vnet, nb_bytes(at, n));
}

static int tun_read(struct run_path *p, struct sealing *s, uint8_t vnet[WG_VNET], size_t *n)
{
	struct iovec parts[3] = { { vnet, WG_VNET }, { s->at, p->mtu }, { p->super + p->mtu, OS_DGRAM_LARGE } };
	int err = os_tun_read(p->tun, p->tun_vnet ? parts : parts + 1, p->tun_vnet ? 3 : 2, n);

	if (err || !p->tun_vnet)
		return err;
	*n -= *n < WG_VNET ? *n : WG_VNET;
	return 0;
}

void run_path_tun(struct run_path *p)
{
	struct sealing s;
	uint8_t vnet[WG_VNET];
	size_t n;
	int err = 0;

	sealing_begin(p, &s);
	s.done = 0;
	s.now = os_now();
	for (int reads = 0; reads < READS && s.done < TURN_SEGMENTS; reads++) {
		err = tun_read(p, &s, vnet, &n);
		if (err)
			break;
		tun_was_read(p, &s, vnet, n);
	}
	if (s.n)
		seal_all(p, &s);
	if (err == NB_E_CLOSED) {
		os_close(&p->tun);
		p->tun_gone = true;
	}
}

void run_path_take(struct run_path *p, bool (*next)(void *ctx, const uint8_t **vnet, uint8_t **packet, size_t *n), void *ctx)
{
	struct sealing s;
	const uint8_t *vnet;
	uint8_t *at;
	size_t n;

	sealing_begin(p, &s);
	s.done = 0;
	s.now = os_now();
	while (next(ctx, &vnet, &at, &n))
		tun_packet(p, &s, vnet, at, n);
	if (s.n)
		seal_all(p, &s);
}

/* --- to TUN --- */

/* The device refused a group: never again, then. An interface that is down refuses everything. */
static void group_refused(struct run_path *p, size_t count, bool udp, int err)
{
	p->tun_errors += count;
	if (count == 1 || err == NB_E_IO || err == NB_E_AGAIN || err == NB_E_CLOSED)
		return;
	if (udp)
		p->join.udp = p->tun_uso = false;
	else
		p->join.tcp = p->tun_tso = false;
}

/* May group i reach this machine? Its packets agree in all that rules and flows look at. */
static bool welcome(struct run_path *p, size_t i, struct nb_time now)
{
	unsigned first = p->join.group[i].first;

	return !p->filter || filter_in(p->filter, nb_bytes(p->join.pkt[first].p, p->join.pkt[first].n),
				       (uintptr_t)p->from[first], now);
}

static void join_write(struct run_path *p)
{
	struct nb_time now = p->filter ? os_now() : (struct nb_time){ 0 };
	uint8_t vnet[WG_VNET];
	struct nb_bytes parts[WG_JOIN_PARTS];
	struct iovec iov[1 + WG_JOIN_PARTS];

	iov[0] = (struct iovec){ vnet, sizeof vnet };
	for (size_t i = 0; i < p->join.ngroups && p->tun >= 0; i++) {
		size_t n;
		int err;

		if (!welcome(p, i, now))
			continue;
		n = wg_join_group(&p->join, i, vnet, parts);
		for (size_t k = 0; k < n; k++)
			iov[1 + k] = (struct iovec){ (void *)(uintptr_t)parts[k].p, parts[k].n };
		err = os_tun_write(p->tun, p->tun_vnet ? iov : iov + 1, (int)n + p->tun_vnet);
		if (err)
			group_refused(p, wg_join_count(&p->join, i), !p->join.group[i].tcp, err);
	}
	wg_join_reset(&p->join);
}

/* Open messages and have what was in them wait in the join. */
static void open_all(struct run_path *p, struct wg_pkt *k, size_t n)
{
	wg_input(p->wg, k, n, os_now());
	for (size_t i = 0; i < n; i++) {
		if (k[i].verdict == WG_ELSEWHERE)
			p->up.message(p->up.ctx, k[i].shard, &k[i]);
		if (k[i].verdict != WG_INNER)
			continue;
		if (!wg_join_add(&p->join, k[i].p, k[i].n)) {
			join_write(p);
			wg_join_add(&p->join, k[i].p, k[i].n);
		}
		p->from[p->join.n - 1] = k[i].peer;
	}
}

void run_path_deliver(struct run_path *p, struct wg_pkt *k, size_t n)
{
	open_all(p, k, n);
	join_write(p);
}

/* --- UDP --- */

/* STUN (RFC 8489, 5): two zero bits, the cookie, and a length that is that of the datagram. No WireGuard message
 * can have all three. */
static bool is_stun(const uint8_t *p, size_t n)
{
	return n >= 20 && !(p[0] & 0xc0) && nb_get_be32(p + 4) == STUN_COOKIE && (size_t)nb_get_be16(p + 2) + 20 == n;
}

static bool from_turn(const struct run_path *p, const struct nb_endpoint *from)
{
	for (size_t i = 0; i < p->nturn; i++)
		if (nb_endpoint_eq(&p->turn[i], from))
			return true;
	return false;
}

void run_path_turn(struct run_path *p, const struct nb_endpoint *server, bool add)
{
	size_t i = 0;

	while (i < p->nturn && !nb_endpoint_eq(&p->turn[i], server))
		i++;
	if (add && i == p->nturn && i < RUN_PATH_TURN)
		p->turn[p->nturn++] = *server;
	else if (!add && i < p->nturn)
		p->turn[i] = p->turn[--p->nturn];
}

/* Is the datagram of n bytes at data for the device? Then fill in k. */
static bool classify(const struct run_path *p, const struct os_dgram *d, uint8_t *data, size_t n, struct wg_pkt *k)
{
	size_t len;

	*k = (struct wg_pkt){ .buf = data, .cap = n, .p = data, .n = n, .ecn = d->ecn };
	k->ep.remote = d->remote;
	k->ep.local = d->local;
	if (is_stun(data, n))
		return false;
	k->ep.kind = WG_EP_UDP;
	if (wg_looks_like(nb_bytes(data, n)))
		return true;
	/* ChannelData (RFC 8656, 12.4): channel, length; padding may follow. */
	if (n < 4 || (data[0] & 0xc0) != 0x40 || !from_turn(p, &d->remote))
		return false;
	len = nb_get_be16(data + 2);
	if (len > n - 4 || is_stun(data + 4, len) || !wg_looks_like(nb_bytes(data + 4, len)))
		return false;
	k->ep.kind = WG_EP_TURN;
	k->ep.id = nb_get_be16(data);
	k->p = data + 4;
	k->n = len;
	return true;
}

/* A message that another path's device has the key for. */
static bool is_elsewhere(const struct run_path *p, const struct wg_pkt *k)
{
	unsigned shard = p->shards > 1 ? wg_message_shard(nb_bytes(k->p, k->n), p->shards) : p->shard;

	if (shard == p->shard)
		return false;
	p->up.message(p->up.ctx, shard, k);
	return true;
}

static void tell_up(struct run_path *p, const struct os_dgram *d, uint8_t *data, size_t n)
{
	struct nb_endpoint to = { d->local, p->udp.port };

	p->up.dgram(p->up.ctx, &d->remote, &to, nb_bytes(data, n));
}

void run_path_udp(struct run_path *p, bool six)
{
	struct os_dgram d[SMALL];
	struct wg_pkt k[OPEN];
	size_t n, nk = 0;

	for (size_t i = 0; i < p->rx_count; i++) {
		d[i].p = p->rx + i * p->rx_room;
		d[i].cap = p->rx_room;
	}
	n = os_dgram_recv(&p->udp, six, d, p->rx_count);
	for (size_t i = 0; i < n; i++) {
		size_t each = d[i].segment ? d[i].segment : d[i].n, at = 0;

		do {
			size_t len = d[i].n - at < each ? d[i].n - at : each;

			if (!classify(p, &d[i], d[i].p + at, len, &k[nk])) {
				tell_up(p, &d[i], d[i].p + at, len);
			} else if (!is_elsewhere(p, &k[nk]) && ++nk == OPEN) {
				open_all(p, k, nk);
				nk = 0;
			}
			at += each;
		} while (at < d[i].n);
	}
	if (nk)
		open_all(p, k, nk);
	join_write(p);
}
