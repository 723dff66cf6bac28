/* ice_nat_test.c - what kind of NAT is in the way: the measuring side against a NAT of every kind and servers of every
 * kind, without sockets and with a clock of its own. The servers are our own STUN server's code. */
#include "ice/nat.h"

#include "base/err.h"
#include "ice/stun.h"
#include "ice/turn_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#define PORT 51820
#define MAPS 64
#define MAIL 64
#define RTT_MS 40

enum depends { ON_NOTHING, ON_ADDRESS, ON_BOTH };
enum server_kind { PLAIN, TWO_PORTS, TWO_ADDRESSES, SKIPS_CHANGE, LIES };

struct mapping {
	struct nb_endpoint dest;
	uint16_t outer;
};

struct mail {
	struct nb_time at;
	bool back;			/* to the client */
	struct nb_endpoint from, to;
	size_t n;
	uint8_t p[256];
};

static struct {
	struct ice_nat m;
	struct nb_time now;
	uint32_t random;
	/* the NAT */
	bool nat, closed, hairpin;
	bool keeps_port;
	enum depends mapping, filtering;
	struct mapping maps[MAPS];
	size_t nmaps;
	/* servers */
	enum server_kind kind[3];
	struct turn_server *server[3];
	int at;				/* the server that answers now */
	bool down[3];
	bool second_port_shut;		/* a firewall in front of the servers */
	unsigned lose;			/* every so many datagrams, 0: none */
	unsigned count;
	struct mail mail[MAIL];
	size_t nmail;
} w;

static void world_random(void *ctx, void *out, size_t n)
{
	uint8_t *p = out;

	(void)ctx;
	while (n--) {
		w.random = w.random * 1664525 + 1013904223;
		*p++ = (uint8_t)(w.random >> 24);
	}
}

static struct nb_endpoint ep(const char *text)
{
	struct nb_endpoint e;

	assert_int_equal(nb_endpoint_parse(&e, text), 0);
	return e;
}

/* Server i is at 203.0.113.(10 i + 1) and, with two addresses, at .(10 i + 2); ports 3478 and 3479. */
static struct nb_addr server_addr(int i, int which)
{
	return nb_addr4(0xcb007100u + (uint32_t)(10 * i + 1 + which));
}

static void post(bool back, const struct nb_endpoint *from, const struct nb_endpoint *to, struct nb_bytes data)
{
	struct mail *d;

	if (w.lose && ++w.count % w.lose == 0)
		return;
	assert_true(w.nmail < MAIL && data.n <= sizeof d->p);
	d = &w.mail[w.nmail++];
	*d = (struct mail){ .at = nb_time_add_ms(w.now, RTT_MS / 2), .back = back, .from = *from, .to = *to, .n = data.n };
	memcpy(d->p, data.p, data.n);
}

/* ---- The NAT ---- */

static bool same(const struct nb_endpoint *a, const struct nb_endpoint *b, enum depends d)
{
	return d == ON_NOTHING || (nb_addr_eq(&a->addr, &b->addr) && (d == ON_ADDRESS || a->port == b->port));
}

static uint16_t map_out(const struct nb_endpoint *dest)
{
	uint16_t outer = 0;

	for (size_t i = 0; i < w.nmaps && !outer; i++)
		if (same(&w.maps[i].dest, dest, w.mapping))
			outer = w.maps[i].outer;
	if (!outer)
		outer = (uint16_t)((w.keeps_port && !w.nmaps ? PORT : 40000) + w.nmaps * 7);
	assert_true(w.nmaps < MAPS);
	w.maps[w.nmaps++] = (struct mapping){ *dest, outer };
	return outer;
}

static bool lets_in(const struct nb_endpoint *from, uint16_t outer)
{
	for (size_t i = 0; i < w.nmaps; i++)
		if (w.maps[i].outer == outer && same(&w.maps[i].dest, from, w.filtering))
			return true;
	return false;
}

static void client_sends(const struct nb_dgram *out)
{
	struct nb_endpoint from = ep(w.nat ? "198.51.100.1:1" : "192.0.2.7:1");

	if (w.closed)
		return;
	from.port = map_out(&out->to);
	if (!w.nat)
		from.port = PORT;
	if (w.nat && nb_addr_eq(&out->to.addr, &from.addr)) {
		if (w.hairpin && lets_in(&from, out->to.port))
			post(true, &from, &out->to, nb_bytes(out->p, out->n));
		return;
	}
	post(false, &from, &out->to, nb_bytes(out->p, out->n));
}

/* ---- The servers ---- */

static int no_open(void *ctx, struct turn_relay *r)
{
	(void)ctx, (void)r;
	return NB_E_FULL;
}

static void no_close(void *ctx, struct turn_relay *r)
{
	(void)ctx, (void)r;
}

static void no_relay(void *ctx, struct turn_relay *r, const struct nb_endpoint *peer, struct nb_bytes data)
{
	(void)ctx, (void)r, (void)peer, (void)data;
}

static void on_reply(void *ctx, const struct turn_flow *to, struct nb_bytes head, struct nb_bytes body, struct nb_bytes tail)
{
	(void)ctx, (void)tail;
	assert_int_equal(body.n, 0);
	post(true, &to->local, &to->client, head);
}

/* Old STUN servers skip what they do not know; a hostile one says that it has a place where somebody else is. */
static void odd_server(const struct mail *d)
{
	uint8_t mem[256];
	struct stun_msg m;
	struct stun_enc e;
	struct nb_buf b;
	struct nb_endpoint other = ep("127.0.0.1:22");

	assert_int_equal(stun_decode(&m, nb_bytes(d->p, d->n)), 0);
	nb_buf_fixed(&b, mem, sizeof mem);
	e = stun_begin(&b, STUN_SUCCESS, STUN_BINDING, stun_txid(&m));
	stun_put_addr(&e, STUN_A_MAPPED_ADDRESS, &d->from);
	if (w.kind[w.at] == SKIPS_CHANGE)
		other = (struct nb_endpoint){ server_addr(w.at, 1), 3479 };
	stun_put_addr(&e, STUN_A_OTHER_ADDRESS, &other);
	post(true, &d->to, &d->from, nb_buf_view(&b));
}

static void server_hears(const struct mail *d)
{
	struct turn_flow flow = { .client = d->from, .local = d->to };
	static const struct nb_wall wall = { 1 };

	for (w.at = 0; w.at < 3; w.at++)
		for (int k = 0; k < 2; k++) {
			struct nb_addr a = server_addr(w.at, k);

			if (!nb_addr_eq(&a, &d->to.addr) || (k && w.kind[w.at] < TWO_ADDRESSES))
				continue;
			if (w.down[w.at])
				return;
			if (d->to.port != 3478 && (w.second_port_shut || d->to.port != 3479 || w.kind[w.at] == PLAIN))
				return;
			if (w.kind[w.at] >= SKIPS_CHANGE)
				odd_server(d);
			else
				turn_server_input(w.server[w.at], &flow, nb_bytes(d->p, d->n), w.now, wall);
			return;
		}
	fail_msg("a request to nobody");
}

static const struct turn_server_ops ops = { no_open, no_close, no_relay, on_reply };

static void start_server(int i, enum server_kind kind)
{
	struct turn_server_config cfg = { .realm = "r", .port_min = 50000, .port_max = 50001, .random = world_random };
	struct turn_stun stun = { 0 };

	w.kind[i] = kind;
	w.server[i] = turn_server_new(&cfg, &ops, NULL);
	assert_non_null(w.server[i]);
	if (kind == TWO_PORTS || kind == TWO_ADDRESSES)
		stun.port[0] = 3478, stun.port[1] = 3479;
	if (kind == TWO_ADDRESSES)
		stun.addr4[0] = server_addr(i, 0), stun.addr4[1] = server_addr(i, 1);
	turn_server_set_stun(w.server[i], &stun);
}

static int setup(void **state)
{
	(void)state;
	memset(&w, 0, sizeof w);
	w.now.ns = 1000 * NB_SEC;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		turn_server_free(w.server[i]);
		w.server[i] = NULL;
	}
	return 0;
}

/* ---- The run ---- */

static void begin(size_t nservers, const struct ice_nat_report *before)
{
	struct ice_nat_config cfg = { .nservers = nservers, .hosts = { ep("192.0.2.7:1").addr }, .nhosts = 1, .port = PORT,
				      .before = before, .random = world_random };

	for (size_t i = 0; i < nservers; i++)
		cfg.servers[i] = (struct nb_endpoint){ server_addr((int)i, 0), 3478 };
	ice_nat_init(&w.m, &cfg, w.now);
}

static void pump(void)
{
	uint8_t room[ICE_NAT_DGRAM_MAX];
	struct nb_dgram out = { .p = room, .cap = sizeof room };

	while (ice_nat_output(&w.m, &out, w.now)) {
		assert_int_equal(out.n, 100);
		client_sends(&out);
	}
}

static void deliver(void)
{
	struct mail d = w.mail[0];

	w.nmail--;
	memmove(w.mail, w.mail + 1, w.nmail * sizeof *w.mail);
	if (!d.back)
		server_hears(&d);
	else if (!w.nat || lets_in(&d.from, d.to.port))
		assert_true(ice_nat_input(&w.m, &d.from, nb_bytes(d.p, d.n), w.now) <= 0);
}

/* Until it is done; the milliseconds it took. */
static int64_t measure(size_t nservers, const struct ice_nat_report *before)
{
	struct nb_time start = w.now;

	begin(nservers, before);
	for (pump(); !ice_nat_done(&w.m); pump()) {
		struct nb_time next = ice_nat_deadline(&w.m);

		if (w.nmail)
			next = nb_time_min(next, w.mail[0].at);
		assert_false(nb_time_is_never(next));
		assert_true(nb_time_diff(next, start) < 20 * NB_SEC);
		w.now = nb_time_before(w.now, next) ? next : w.now;
		while (w.nmail && nb_time_due(w.mail[0].at, w.now))
			deliver();
	}
	assert_true(nb_time_is_never(ice_nat_deadline(&w.m)));
	assert_true(w.m.sent <= ICE_NAT_SENT_MAX);
	return nb_time_diff(w.now, start) / NB_MS;
}

static void nat(enum depends mapping, enum depends filtering)
{
	w.nat = true;
	w.mapping = mapping;
	w.filtering = filtering;
	w.nmaps = w.nmail = 0;
}

static const enum ice_nat_mapping maps[] = { ICE_NAT_MAP_INDEPENDENT, ICE_NAT_MAP_ADDRESS, ICE_NAT_MAP_ADDRESS_PORT };
static const enum ice_nat_filtering filters[] = { ICE_NAT_FILTER_INDEPENDENT, ICE_NAT_FILTER_ADDRESS,
						  ICE_NAT_FILTER_ADDRESS_PORT };

static void found(enum ice_nat_mapping m, enum ice_nat_filtering f)
{
	const struct ice_nat_report *r = ice_nat_report(&w.m);

	assert_int_equal(r->udp, ICE_NAT_UDP_WORKS);
	assert_string_equal(ice_nat_mapping_name(r->mapping), ice_nat_mapping_name(m));
	assert_string_equal(ice_nat_filtering_name(r->filtering), ice_nat_filtering_name(f));
}

/* Every NAT, as a server with two addresses sees it. */
static void all_kinds(void **state)
{
	(void)state;
	start_server(0, TWO_ADDRESSES);
	for (int m = 0; m < 3; m++)
		for (int f = 0; f < 3; f++) {
			int64_t took;

			nat((enum depends)m, (enum depends)f);
			took = measure(1, NULL);
			found(maps[m], filters[f]);
			/* Round trips, and the waits for answers that a filter keeps out. */
			assert_true(took <= 2 * RTT_MS + 1750 + 250);
			assert_int_equal(ice_nat_report(&w.m)->port_kept, false);
		}
}

/* One address: what depends on the address alone cannot be told from what depends on nothing. */
static void two_ports_only(void **state)
{
	static const enum ice_nat_mapping m1[] = { ICE_NAT_MAP_ONE_ADDRESS, ICE_NAT_MAP_ONE_ADDRESS, ICE_NAT_MAP_ADDRESS_PORT };
	static const enum ice_nat_filtering f1[] = { ICE_NAT_FILTER_NOT_PORT, ICE_NAT_FILTER_NOT_PORT,
						     ICE_NAT_FILTER_ADDRESS_PORT };

	(void)state;
	start_server(0, TWO_PORTS);
	start_server(1, PLAIN);
	for (int m = 0; m < 3; m++)
		for (int f = 0; f < 3; f++) {
			nat((enum depends)m, (enum depends)f);
			measure(1, NULL);
			found(m1[m], f1[f]);
			/* Another server of any kind settles the mapping. */
			nat((enum depends)m, (enum depends)f);
			measure(2, NULL);
			found(maps[m], f1[f]);
		}
}

static void plain_servers(void **state)
{
	static const enum ice_nat_mapping m2[] = { ICE_NAT_MAP_INDEPENDENT, ICE_NAT_MAP_DEPENDENT, ICE_NAT_MAP_DEPENDENT };

	(void)state;
	for (int i = 0; i < 3; i++)
		start_server(i, PLAIN);
	for (int m = 0; m < 3; m++) {
		nat((enum depends)m, ON_BOTH);
		assert_int_equal(measure(1, NULL), RTT_MS + 250);	/* waiting for a hairpin */
		found(ICE_NAT_MAP_UNKNOWN, ICE_NAT_FILTER_UNKNOWN);
		nat((enum depends)m, ON_BOTH);
		measure(3, NULL);
		found(m2[m], ICE_NAT_FILTER_UNKNOWN);
	}
}

static void no_nat(void **state)
{
	(void)state;
	start_server(0, TWO_ADDRESSES);
	assert_int_equal(measure(1, NULL), 3 * RTT_MS);
	found(ICE_NAT_MAP_NONE, ICE_NAT_FILTER_INDEPENDENT);
	assert_true(ice_nat_report(&w.m)->port_kept);
	assert_int_equal(ice_nat_report(&w.m)->hairpin, ICE_NAT_HAIRPIN_UNKNOWN);
	assert_int_equal(w.m.sent, 6);
	assert_int_equal(w.m.received, 6);
}

static void hairpin_and_port(void **state)
{
	(void)state;
	start_server(0, TWO_ADDRESSES);
	nat(ON_NOTHING, ON_NOTHING);
	w.hairpin = w.keeps_port = true;
	measure(1, NULL);
	found(ICE_NAT_MAP_INDEPENDENT, ICE_NAT_FILTER_INDEPENDENT);
	assert_int_equal(ice_nat_report(&w.m)->hairpin, ICE_NAT_HAIRPIN_YES);
	assert_true(ice_nat_report(&w.m)->port_kept);
	nat(ON_NOTHING, ON_BOTH);
	w.hairpin = false;
	measure(1, NULL);
	assert_int_equal(ice_nat_report(&w.m)->hairpin, ICE_NAT_HAIRPIN_NOT_SEEN);
}

static void blocked(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++)
		start_server(i, PLAIN);
	nat(ON_NOTHING, ON_BOTH);
	w.closed = true;
	assert_int_equal(measure(3, NULL), 3750);
	assert_int_equal(ice_nat_report(&w.m)->udp, ICE_NAT_UDP_BLOCKED);
	assert_int_equal(w.m.sent, 12);
	/* Without a server nothing can be said. */
	begin(0, NULL);
	assert_true(ice_nat_done(&w.m));
	assert_int_equal(ice_nat_report(&w.m)->udp, ICE_NAT_UDP_UNKNOWN);
	/* One of three that answers is enough. */
	nat(ON_ADDRESS, ON_BOTH);
	w.closed = false;
	w.down[0] = w.down[2] = true;
	measure(3, NULL);
	assert_int_equal(ice_nat_report(&w.m)->udp, ICE_NAT_UDP_WORKS);
}

/* A firewall in front of the server eats what goes to its second port: silence from there says nothing. */
static void shut_port(void **state)
{
	(void)state;
	start_server(0, TWO_PORTS);
	nat(ON_NOTHING, ON_BOTH);
	w.second_port_shut = true;
	measure(1, NULL);
	found(ICE_NAT_MAP_UNKNOWN, ICE_NAT_FILTER_UNKNOWN);
}

static void odd_servers(void **state)
{
	(void)state;
	start_server(0, SKIPS_CHANGE);
	nat(ON_ADDRESS, ON_BOTH);
	measure(1, NULL);
	found(ICE_NAT_MAP_ADDRESS, ICE_NAT_FILTER_UNKNOWN);
	turn_server_free(w.server[0]);
	/* It is not made to send to itself. */
	start_server(0, LIES);
	nat(ON_ADDRESS, ON_BOTH);
	measure(1, NULL);
	found(ICE_NAT_MAP_UNKNOWN, ICE_NAT_FILTER_UNKNOWN);
}

/* The server's second address is another server we talk to anyway: it would get in through most filters. */
static void second_address_in_use(void **state)
{
	struct ice_nat_config cfg = { .nservers = 2, .port = PORT, .random = world_random };

	(void)state;
	start_server(0, TWO_ADDRESSES);
	nat(ON_NOTHING, ON_ADDRESS);
	cfg.servers[0] = (struct nb_endpoint){ server_addr(0, 0), 3478 };
	cfg.servers[1] = (struct nb_endpoint){ server_addr(0, 1), 3478 };
	ice_nat_init(&w.m, &cfg, w.now);
	for (pump(); !ice_nat_done(&w.m); pump()) {
		w.now = nb_time_min(ice_nat_deadline(&w.m), w.nmail ? w.mail[0].at : NB_TIME_NEVER);
		while (w.nmail && nb_time_due(w.mail[0].at, w.now))
			deliver();
	}
	found(ICE_NAT_MAP_INDEPENDENT, ICE_NAT_FILTER_NOT_PORT);
}

/* Again a short time later: the NAT still lets in whom we asked, so what was found then stands; after a move it does not. */
static void again(void **state)
{
	struct ice_nat_report first;
	struct nb_endpoint elsewhere = ep("198.51.100.1:40700");

	(void)state;
	start_server(0, TWO_ADDRESSES);
	nat(ON_NOTHING, ON_BOTH);
	measure(1, NULL);
	first = *ice_nat_report(&w.m);
	assert_int_equal(measure(1, NULL) > RTT_MS, true);
	found(ICE_NAT_MAP_INDEPENDENT, ICE_NAT_FILTER_INDEPENDENT);	/* why one should not */
	assert_int_equal(measure(1, &first), RTT_MS);
	assert_int_equal(w.m.sent, 1);
	found(ICE_NAT_MAP_INDEPENDENT, ICE_NAT_FILTER_ADDRESS_PORT);
	/* A server that is new since then tells what the first could not. */
	turn_server_free(w.server[0]);
	start_server(0, TWO_PORTS);
	start_server(1, PLAIN);
	for (int m = 0; m < 2; m++) {
		nat((enum depends)m, ON_BOTH);
		measure(1, NULL);
		found(ICE_NAT_MAP_ONE_ADDRESS, ICE_NAT_FILTER_ADDRESS_PORT);
		first = *ice_nat_report(&w.m);
		assert_int_equal(measure(2, &first), RTT_MS);
		found(maps[m], ICE_NAT_FILTER_ADDRESS_PORT);
	}
	turn_server_free(w.server[0]);
	start_server(0, TWO_ADDRESSES);
	first.mapped = elsewhere;
	nat(ON_ADDRESS, ON_BOTH);
	measure(1, &first);
	found(ICE_NAT_MAP_ADDRESS, ICE_NAT_FILTER_ADDRESS_PORT);
}

/* Lost datagrams may leave something unknown, but make nothing wrong. */
static void loss(void **state)
{
	(void)state;
	start_server(0, TWO_ADDRESSES);
	for (unsigned lose = 2; lose < 12; lose++)
		for (unsigned shift = 0; shift < lose; shift++) {
			const struct ice_nat_report *r;

			nat(ON_BOTH, ON_BOTH);
			w.lose = lose;
			w.count = shift;
			measure(1, NULL);
			r = ice_nat_report(&w.m);
			assert_true(r->mapping == ICE_NAT_MAP_ADDRESS_PORT || r->mapping == ICE_NAT_MAP_UNKNOWN ||
				    r->mapping == ICE_NAT_MAP_DEPENDENT);
			assert_true(r->filtering == ICE_NAT_FILTER_ADDRESS_PORT || r->filtering == ICE_NAT_FILTER_UNKNOWN);
			if (lose > 3)
				found(ICE_NAT_MAP_ADDRESS_PORT, ICE_NAT_FILTER_ADDRESS_PORT);
		}
}

/* Answers of strangers, to other questions, of the wrong family, cut short. */
static void foreign(void **state)
{
	struct nb_endpoint server = { server_addr(0, 0), 3478 }, stranger = ep("203.0.113.99:3478");
	struct nb_endpoint six = ep("[2001:db8::1]:7"), mapped = ep("198.51.100.1:9");
	uint8_t room[ICE_NAT_DGRAM_MAX], mem[256], other[STUN_TXID_LEN] = { 1 };
	struct nb_dgram out = { .p = room, .cap = sizeof room };
	struct stun_enc e;
	struct nb_buf b;

	(void)state;
	begin(1, NULL);
	assert_int_equal(ice_nat_output(&w.m, &out, w.now), 1);
	for (int i = 0; i < 4; i++) {
		nb_buf_fixed(&b, mem, sizeof mem);
		e = stun_begin(&b, i == 2 ? STUN_INDICATION : STUN_SUCCESS, i == 3 ? TURN_REFRESH : STUN_BINDING,
			       i == 1 ? other : room + 8);
		stun_put_xor_addr(&e, STUN_A_XOR_MAPPED_ADDRESS, &mapped);
		assert_int_equal(ice_nat_input(&w.m, i ? &server : &stranger, nb_buf_view(&b), w.now), NB_E_NOTFOUND);
	}
	assert_int_equal(ice_nat_input(&w.m, &server, nb_bytes(mem, 30), w.now), NB_E_NOTFOUND);
	nb_buf_fixed(&b, mem, sizeof mem);
	e = stun_begin(&b, STUN_SUCCESS, STUN_BINDING, room + 8);
	stun_put_xor_addr(&e, STUN_A_XOR_MAPPED_ADDRESS, &six);
	assert_int_equal(ice_nat_input(&w.m, &server, nb_buf_view(&b), w.now), 0);
	assert_true(ice_nat_done(&w.m));
	assert_int_equal(ice_nat_report(&w.m)->udp, ICE_NAT_UDP_WORKS);
	assert_int_equal(ice_nat_report(&w.m)->mapping, ICE_NAT_MAP_UNKNOWN);
}

static void names(void **state)
{
	(void)state;
	for (int i = 0; i <= ICE_NAT_MAP_END; i++)
		assert_non_null(ice_nat_mapping_name((enum ice_nat_mapping)i));
	assert_string_equal(ice_nat_mapping_name(ICE_NAT_MAP_ADDRESS_PORT), "address-and-port-dependent");
	assert_string_equal(ice_nat_filtering_name(ICE_NAT_FILTER_ADDRESS), "address-dependent");
	assert_string_equal(ice_nat_filtering_name(ICE_NAT_FILTER_END), "unknown");
	assert_string_equal(ice_nat_hairpin_name(ICE_NAT_HAIRPIN_YES), "yes");
	assert_true(ice_nat_maps_anew(ICE_NAT_MAP_DEPENDENT));
	assert_false(ice_nat_maps_anew(ICE_NAT_MAP_ONE_ADDRESS));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(all_kinds), T(two_ports_only), T(plain_servers), T(no_nat), T(hairpin_and_port), T(blocked), T(shut_port),
		T(odd_servers), T(second_address_in_use), T(again), T(loss), T(foreign), T(names),
	};

	return cmocka_run_group_tests_name("ice_nat", tests, NULL, NULL);
}
