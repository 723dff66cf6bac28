/* ice_portmap_test.c - the PCP and NAT-PMP client against a scripted gateway with a fake clock. */
#include "ice/portmap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"

#define GATEWAY "192.168.1.1"
#define INNER "192.168.1.7"
#define PORT 51820

/* What the gateway does, and what it has seen. */
static struct gateway {
	bool pcp, pmp;			/* understands it */
	bool silent, pcp_silent, pmp_silent;
	bool strict_nonce;
	uint8_t pcp_result, pcp_version;
	uint16_t pmp_result, pmp_address_result;
	uint32_t lifetime, error_lifetime;
	struct nb_time booted;
	struct nb_addr external;
	uint16_t external_port;
	/* the one mapping it can have */
	bool mapped;
	uint8_t nonce[12];
	unsigned nrequests, nmaps, ndeletes, nannounces, naddresses;
	uint16_t wished;
	uint8_t last[64];
} gw;

static struct ice_portmap m;
static struct nb_time now;
static struct ice_portmap_event ev;

static void rnd(void *ctx, void *out, size_t n)
{
	static unsigned seed = 7;
	uint8_t *p = out;

	(void)ctx;
	while (n--)
		*p++ = (uint8_t)((seed = seed * 1103515245 + 12345) >> 16);
}

static struct nb_addr addr(const char *text)
{
	struct nb_addr a;

	assert_int_equal(nb_addr_parse(&a, text), 0);
	return a;
}

static int give(struct nb_bytes b)
{
	struct nb_endpoint from = { m.cfg.gateway, ICE_PORTMAP_PORT };
	/* A copy of the exact size, so that a sanitizer sees reads beyond it. */
	uint8_t *p = malloc(b.n ? b.n : 1);
	int err;

	memcpy(p, b.p, b.n);
	err = ice_portmap_input(&m, &from, nb_bytes(p, b.n), now);
	free(p);
	return err;
}

static uint32_t epoch(void)
{
	return (uint32_t)(nb_time_diff(now, gw.booted) / NB_SEC);
}

static void put_mapped(struct nb_buf *b, const struct nb_addr *a)
{
	static const uint8_t v4[12] = { [10] = 0xff, [11] = 0xff };

	if (a->family == 6) {
		nb_buf_put(b, a->ip, 16);
		return;
	}
	nb_buf_put(b, v4, 12);
	nb_buf_put(b, a->ip, 4);
}

static void gateway_pcp(struct nb_bytes q, struct nb_buf *b)
{
	uint32_t lifetime = nb_get_be32(q.p + 4);
	uint8_t result = gw.pcp_result;

	if (gw.pcp_silent)
		return;
	if (q.p[1] == 1) {
		assert_int_equal(q.n, 60);
		assert_int_equal(q.p[36], 17);
		assert_int_equal(nb_get_be16(q.p + 40), PORT);
		gw.wished = nb_get_be16(q.p + 42);
		if (gw.strict_nonce && gw.mapped && memcmp(gw.nonce, q.p + 24, 12))
			result = 2;
	} else {
		assert_int_equal(q.n, 24);
		gw.nannounces++;
	}
	nb_buf_u8(b, gw.pcp_version ? gw.pcp_version : 2);
	nb_buf_u8(b, q.p[1] | 0x80);
	nb_buf_u8(b, 0);
	nb_buf_u8(b, result);
	if (q.p[1] == 1 && !result && lifetime) {
		gw.nmaps++;
		gw.mapped = true;
		memcpy(gw.nonce, q.p + 24, 12);
	} else if (q.p[1] == 1 && !result) {
		gw.ndeletes++;
		gw.mapped = false;
	}
	nb_buf_be32(b, result ? gw.error_lifetime : lifetime ? gw.lifetime : 0);
	nb_buf_be32(b, epoch());
	nb_buf_put(b, (uint8_t[12]){ 0 }, 12);
	if (q.p[1] == 0)
		return;
	nb_buf_put(b, q.p + 24, 18);
	nb_buf_be16(b, lifetime ? gw.external_port : 0);
	put_mapped(b, &gw.external);
}

static void gateway_pmp(struct nb_bytes q, struct nb_buf *b)
{
	uint16_t result = q.p[1] ? gw.pmp_result : gw.pmp_address_result;

	if (gw.pmp_silent)
		return;
	nb_buf_u8(b, 0);
	nb_buf_u8(b, q.p[1] | 0x80);
	if (q.p[0] != 0 || !gw.pmp)
		result = 1;
	nb_buf_be16(b, result);
	nb_buf_be32(b, epoch());
	if (result) {
		if (q.p[1])
			nb_buf_be64(b, 0);
		return;
	}
	if (q.p[1] == 0) {
		assert_int_equal(q.n, 2);
		gw.naddresses++;
		nb_buf_put(b, gw.external.ip, 4);
		return;
	}
	assert_int_equal(q.n, 12);
	assert_int_equal(nb_get_be16(q.p + 4), PORT);
	gw.wished = nb_get_be16(q.p + 6);
	gw.mapped = nb_get_be32(q.p + 8) != 0;
	gw.nmaps += gw.mapped;
	gw.ndeletes += !gw.mapped;
	nb_buf_be16(b, PORT);
	nb_buf_be16(b, gw.mapped ? gw.external_port : 0);
	nb_buf_be32(b, gw.mapped ? gw.lifetime : 0);
}

static void gateway(struct nb_bytes q)
{
	uint8_t room[128];
	struct nb_buf b;

	gw.nrequests++;
	memcpy(gw.last, q.p, q.n);
	nb_buf_fixed(&b, room, sizeof room);
	if (gw.silent)
		return;
	if (q.p[0] == 2 && (gw.pcp || !gw.pmp))
		gateway_pcp(q, &b);
	else
		gateway_pmp(q, &b);
	if (b.n)
		give(nb_buf_view(&b));
}

/* Let both talk until the client is idle; the last event stays in ev. */
static void settle(void)
{
	uint8_t room[ICE_PORTMAP_DGRAM_MAX];
	struct nb_dgram out = { .p = room, .cap = sizeof room };
	struct ice_portmap_event e;

	while (ice_portmap_output(&m, &out, now)) {
		assert_true(nb_addr_eq(&out.to.addr, &m.cfg.gateway));
		assert_int_equal(out.to.port, 5351);
		gateway(nb_bytes(out.p, out.n));
	}
	while (ice_portmap_event(&m, &e))
		ev = e;
}

static void run(int64_t ms)
{
	struct nb_time end = nb_time_add_ms(now, ms);

	for (;;) {
		struct nb_time next;

		settle();
		next = ice_portmap_deadline(&m);
		if (!nb_time_before(next, end))
			break;
		assert_true(nb_time_before(now, next));
		now = next;
	}
	now = end;
}

static void begin_with(const char *gateway_ip, const char *local)
{
	struct ice_portmap_config cfg = { .gateway = addr(gateway_ip), .local = addr(local), .port = PORT, .random = rnd };

	memset(&ev, 0, sizeof ev);
	ice_portmap_init(&m, &cfg, now);
}

static int setup(void **state)
{
	(void)state;
	now = (struct nb_time){ 1000 * NB_SEC };
	gw = (struct gateway){ .pcp = true, .pmp = true, .strict_nonce = true, .lifetime = 7200, .external_port = 40001,
			       .booted = { 500 * NB_SEC }, .external = addr("203.0.113.9") };
	begin_with(GATEWAY, INNER);
	return 0;
}

static void expect_mapped(enum ice_portmap_proto proto, const char *ip, uint16_t port)
{
	struct nb_addr a = addr(ip);

	assert_int_equal(ev.type, ICE_PORTMAP_EV_MAPPED);
	assert_int_equal(ev.proto, proto);
	assert_true(nb_addr_eq(&ev.external.addr, &a));
	assert_int_equal(ev.external.port, port);
	memset(&ev, 0, sizeof ev);
}

static void pcp_wins_over_natpmp(void **state)
{
	(void)state;
	run(10);
	expect_mapped(ICE_PORTMAP_PCP, "203.0.113.9", 40001);
	assert_int_equal(gw.nmaps, 1);
	assert_int_equal(gw.wished, PORT);
	run(5000);
	assert_int_equal(gw.nmaps, 1);
}

/* RFC 6887 figures 2, 3, 9: every byte of the request. */
static void pcp_request_bytes(void **state)
{
	static const uint8_t fixed[24] = { 2, 1, 0, 0, 0, 0, 0x1c, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff,
					   192, 168, 1, 7 };
	static const uint8_t rest[24] = { 17, 0, 0, 0, 0xca, 0x6c, 0xca, 0x6c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	uint8_t room[ICE_PORTMAP_DGRAM_MAX];
	struct nb_dgram out = { .p = room, .cap = sizeof room };

	(void)state;
	assert_int_equal(ice_portmap_output(&m, &out, now), 1);
	assert_int_equal(out.n, 60);
	assert_memory_equal(room, fixed, 24);
	assert_memory_equal(room + 24, m.nonce, 12);
	assert_memory_equal(room + 36, rest, 24);
	assert_int_equal(ice_portmap_output(&m, &out, now), 1);
	assert_int_equal(out.n, 2);
	assert_memory_equal(room, "\0\0", 2);
	assert_int_equal(ice_portmap_output(&m, &out, now), 0);
}

static void renewed_with_the_same_nonce(void **state)
{
	(void)state;
	run(10);
	expect_mapped(ICE_PORTMAP_PCP, "203.0.113.9", 40001);
	run(3500000);
	assert_int_equal(gw.nmaps, 1);
	run(600000);
	assert_int_equal(gw.nmaps, 2);
	assert_int_equal(gw.wished, 40001);
	run(24 * 3600000);
	assert_in_range(gw.nmaps, 20, 27);
	assert_int_equal(ev.type, ICE_PORTMAP_EV_NONE);
	assert_in_range(gw.nannounces, 1400, 1600);
}

static void renewal_refused_until_it_runs_out(void **state)
{
	(void)state;
	run(10);
	expect_mapped(ICE_PORTMAP_PCP, "203.0.113.9", 40001);
	gw.pcp_result = 8;
	gw.error_lifetime = 30;
	gw.pmp = false;
	run(7000000);
	assert_int_equal(ev.type, ICE_PORTMAP_EV_NONE);
	run(300000);
	assert_int_equal(ev.type, ICE_PORTMAP_EV_REFUSED);
	assert_int_equal(m.proto, ICE_PORTMAP_NONE);
	gw.pcp_result = 0;
	run(31000);
	expect_mapped(ICE_PORTMAP_PCP, "203.0.113.9", 40001);
}

static void silence_loses_it_at_the_end_only(void **state)
{
	(void)state;
	run(10);
	expect_mapped(ICE_PORTMAP_PCP, "203.0.113.9", 40001);
	gw.silent = true;
	run(7190000);
	assert_int_equal(ev.type, ICE_PORTMAP_EV_NONE);
	run(20000);
	assert_int_equal(ev.type, ICE_PORTMAP_EV_LOST);
	gw.silent = false;
	run(15000);
	expect_mapped(ICE_PORTMAP_PCP, "203.0.113.9", 40001);
}

static void restart_makes_it_anew(void **state)
{
	(void)state;
	run(300000);
	expect_mapped(ICE_PORTMAP_PCP, "203.0.113.9", 40001);
	gw.booted = now;
	gw.mapped = false;
	gw.external_port = 40002;
	run(61000);
	assert_true(gw.mapped);
	assert_int_equal(gw.wished, 40001);
	expect_mapped(ICE_PORTMAP_PCP, "203.0.113.9", 40002);
	/* The same place again: nothing to tell. */
	gw.booted = now;
	gw.mapped = false;
	run(61000);
	assert_true(gw.mapped);
	assert_int_equal(ev.type, ICE_PORTMAP_EV_NONE);
}

static void checked_on_demand(void **state)
{
	(void)state;
	run(100000);
	expect_mapped(ICE_PORTMAP_PCP, "203.0.113.9", 40001);
	/* Another router with the same address, which has been up for longer. */
	gw.booted = nb_time_add(gw.booted, -100 * NB_SEC);
	gw.mapped = false;
	gw.external = addr("203.0.113.10");
	ice_portmap_check(&m, now);
	settle();
	assert_true(gw.mapped);
	expect_mapped(ICE_PORTMAP_PCP, "203.0.113.10", 40001);
}

static void restart_and_refusal_is_a_loss(void **state)
{
	(void)state;
	run(300000);
	expect_mapped(ICE_PORTMAP_PCP, "203.0.113.9", 40001);
	gw.booted = now;
	gw.pcp = gw.pmp = false;
	gw.pcp_result = 2;
	gw.error_lifetime = 3600;
	run(61000);
	assert_int_equal(m.proto, ICE_PORTMAP_NONE);
	assert_true(ev.type == ICE_PORTMAP_EV_LOST || ev.type == ICE_PORTMAP_EV_REFUSED);
}

/* Clocks that run a little fast or slow are no restart (RFC 6887 8.5). */
static void drift_is_forgiven(void **state)
{
	(void)state;
	run(10);
	for (int i = 0; i < 100; i++) {
		gw.booted = nb_time_add_ms(gw.booted, i & 1 ? 1500 : -1500);
		run(60000);
	}
	assert_in_range(gw.nmaps, 1, 3);
}

static void natpmp_when_pcp_is_unknown(void **state)
{
	(void)state;
	gw.pcp = false;
	run(10);
	expect_mapped(ICE_PORTMAP_NATPMP, "203.0.113.9", 40001);
	assert_int_equal(gw.nmaps, 1);
	run(4000000);
	assert_int_equal(gw.nmaps, 2);
	assert_int_equal(gw.wished, 40001);
	/* Another address, found by the look at its clock. */
	gw.external = addr("203.0.113.77");
	run(61000);
	expect_mapped(ICE_PORTMAP_NATPMP, "203.0.113.77", 40001);
	/* A restart. */
	gw.booted = now;
	gw.mapped = false;
	gw.external_port = 40005;
	run(61000);
	assert_true(gw.mapped);
	expect_mapped(ICE_PORTMAP_NATPMP, "203.0.113.77", 40005);
}

static void natpmp_when_pcp_is_silent_takes_half_a_second(void **state)
{
	(void)state;
	gw.pcp_silent = true;
	run(490);
	assert_int_equal(ev.type, ICE_PORTMAP_EV_NONE);
	run(20);
	expect_mapped(ICE_PORTMAP_NATPMP, "203.0.113.9", 40001);
}

static void natpmp_when_pcp_refuses(void **state)
{
	(void)state;
	gw.pcp_result = 2;
	gw.error_lifetime = 1800;
	run(10);
	expect_mapped(ICE_PORTMAP_NATPMP, "203.0.113.9", 40001);
}

static void pcp_of_another_version(void **state)
{
	(void)state;
	gw.pmp = false;
	gw.pcp_version = 1;
	gw.pcp_result = 1;
	run(1000);
	assert_int_equal(ev.type, ICE_PORTMAP_EV_REFUSED);
	assert_int_equal(ev.code, 1);
	gw.pcp_version = 2;
	gw.pcp_result = 0;
	run(1801000);
	expect_mapped(ICE_PORTMAP_PCP, "203.0.113.9", 40001);
}

static void refused_by_both(void **state)
{
	unsigned before;

	(void)state;
	gw.pcp_result = 2;
	gw.error_lifetime = 1800;
	gw.pmp_result = 2;
	run(1000);
	assert_int_equal(ev.type, ICE_PORTMAP_EV_REFUSED);
	before = gw.nrequests;
	run(1700000);
	assert_int_equal(gw.nrequests, before);
	gw.pmp_result = 0;
	run(200000);
	expect_mapped(ICE_PORTMAP_NATPMP, "203.0.113.9", 40001);
}

static void natpmp_without_wan_address_yet(void **state)
{
	(void)state;
	gw.pcp = false;
	gw.pmp_address_result = 3;
	run(20000);
	assert_int_equal(m.proto, ICE_PORTMAP_NONE);
	gw.pmp_address_result = 0;
	run(20000);
	expect_mapped(ICE_PORTMAP_NATPMP, "203.0.113.9", 40001);
}

static void silence_is_not_pestered(void **state)
{
	(void)state;
	gw.silent = true;
	run(60000);
	assert_in_range(gw.nrequests, 8, 16);
	run(86400000);
	assert_in_range(gw.nrequests, 150, 220);
	assert_int_equal(ev.type, ICE_PORTMAP_EV_NONE);
	gw.silent = false;
	run(1200000);
	expect_mapped(ICE_PORTMAP_PCP, "203.0.113.9", 40001);
}

/* A gateway that starts says so; nobody waits for the next try. */
static void an_announcement_ends_the_wait(void **state)
{
	static const uint8_t announce[24] = { 2, 0x80 };

	(void)state;
	gw.silent = true;
	run(100000);
	gw.silent = false;
	assert_int_equal(give(nb_bytes(announce, sizeof announce)), 0);
	settle();
	expect_mapped(ICE_PORTMAP_PCP, "203.0.113.9", 40001);
}

static void lost_datagrams(void **state)
{
	(void)state;
	gw.silent = true;
	run(200);
	gw.silent = false;
	gw.pcp = false;
	run(1200);
	expect_mapped(ICE_PORTMAP_NATPMP, "203.0.113.9", 40001);
}

/* Switched off, the gateway is not asked about its health; the mapping is renewed all the same. */
static void no_health_checks(void **state)
{
	struct ice_portmap_config cfg = { .gateway = addr(GATEWAY), .local = addr(INNER), .port = PORT, .random = rnd,
					  .no_health = true };

	(void)state;
	ice_portmap_init(&m, &cfg, now);
	run(24 * 3600 * 1000);
	assert_int_equal(gw.nannounces, 0);
	assert_true(gw.nmaps > 12);
	expect_mapped(ICE_PORTMAP_PCP, "203.0.113.9", 40001);
	ice_portmap_check(&m, now);
	run(600000);
	assert_int_equal(gw.nannounces, 1);
}

static void released(void **state)
{
	(void)state;
	run(10);
	assert_true(gw.mapped);
	ice_portmap_release(&m);
	settle();
	assert_false(gw.mapped);
	assert_int_equal(gw.ndeletes, 1);
	assert_int_equal(nb_get_be32(gw.last + 4), 0);
	assert_true(nb_time_is_never(ice_portmap_deadline(&m)));
	/* The gateway may not have got it: once more. */
	ice_portmap_release(&m);
	settle();
	assert_int_equal(gw.ndeletes, 2);
	assert_true(nb_time_is_never(ice_portmap_deadline(&m)));
	gw.pcp = false;
	gw.ndeletes = 1;
	begin_with(GATEWAY, INNER);
	run(10);
	assert_true(gw.mapped);
	ice_portmap_release(&m);
	settle();
	assert_false(gw.mapped);
	assert_int_equal(gw.ndeletes, 2);
}

static void release_before_any_answer(void **state)
{
	(void)state;
	gw.silent = true;
	run(10);
	gw.silent = false;
	gw.mapped = true;
	memcpy(gw.nonce, m.nonce, 12);
	ice_portmap_release(&m);
	settle();
	assert_false(gw.mapped);
	/* And before any question there is nothing to take back. */
	gw.nrequests = 0;
	begin_with(GATEWAY, INNER);
	ice_portmap_release(&m);
	settle();
	assert_int_equal(gw.nrequests, 0);
}

static void ipv6_pinhole(void **state)
{
	(void)state;
	gw.external = addr("2001:db8::7");
	gw.external_port = PORT;
	begin_with("fe80::1", "2001:db8::7");
	run(700000);
	expect_mapped(ICE_PORTMAP_PCP, "2001:db8::7", PORT);
	assert_int_equal(gw.naddresses, 0);
}

/* Success with nothing in it is no success. */
static void empty_success(void **state)
{
	(void)state;
	gw.pmp = false;
	gw.external_port = 0;
	run(1000);
	assert_int_equal(ev.type, ICE_PORTMAP_EV_REFUSED);
	assert_int_equal(m.proto, ICE_PORTMAP_NONE);
}

static void foreign_and_broken_input(void **state)
{
	struct nb_endpoint other = { addr("192.168.1.66"), ICE_PORTMAP_PORT }, port = { addr(GATEWAY), 5350 };
	uint8_t answer[60] = { 2, 0x81, 0, 0, 0, 0, 0x1c, 0x20, 0, 0, 0, 9 };
	uint8_t room[ICE_PORTMAP_DGRAM_MAX];
	struct nb_dgram out = { .p = room, .cap = sizeof room };

	(void)state;
	gw.silent = true;
	/* Answers to nothing. */
	assert_int_equal(give(nb_bytes(answer, sizeof answer)), NB_E_BAD);
	while (ice_portmap_output(&m, &out, now))
		;
	memcpy(answer + 24, m.nonce, 12);
	answer[36] = 17;
	nb_put_be16(answer + 40, PORT);
	nb_put_be16(answer + 42, 40001);
	memcpy(answer + 54, "\xff\xff\xcb\x00\x71\x09", 6);
	assert_int_equal(ice_portmap_input(&m, &other, nb_bytes(answer, 60), now), NB_E_BAD);
	assert_int_equal(ice_portmap_input(&m, &port, nb_bytes(answer, 60), now), NB_E_BAD);
	for (size_t n = 0; n < 60; n++)
		assert_int_equal(give(nb_bytes(answer, n)), NB_E_BAD);
	for (size_t i = 24; i < 42; i++) {
		bool reserved = i >= 37 && i < 40;

		answer[i] ^= 1;
		if (!reserved)
			assert_int_equal(give(nb_bytes(answer, 60)), NB_E_BAD);
		answer[i] ^= 1;
	}
	answer[0] = 3;
	assert_int_equal(give(nb_bytes(answer, 60)), NB_E_BAD);
	answer[0] = 2;
	answer[1] = 1;	/* a request */
	assert_int_equal(give(nb_bytes(answer, 60)), NB_E_BAD);
	answer[1] = 0x82;	/* PEER */
	assert_int_equal(give(nb_bytes(answer, 60)), NB_E_BAD);
	settle();
	assert_int_equal(m.proto, ICE_PORTMAP_NONE);
	answer[1] = 0x81;
	assert_int_equal(give(nb_bytes(answer, 60)), 0);
	settle();
	expect_mapped(ICE_PORTMAP_PCP, "203.0.113.9", 40001);
	/* NAT-PMP has no say any more. */
	assert_int_equal(give(nb_bytes("\0\x80\0\0\0\0\0\1\1\2\3\4", 12)), NB_E_BAD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(pcp_wins_over_natpmp, setup),
		cmocka_unit_test_setup(pcp_request_bytes, setup),
		cmocka_unit_test_setup(renewed_with_the_same_nonce, setup),
		cmocka_unit_test_setup(renewal_refused_until_it_runs_out, setup),
		cmocka_unit_test_setup(silence_loses_it_at_the_end_only, setup),
		cmocka_unit_test_setup(restart_makes_it_anew, setup),
		cmocka_unit_test_setup(checked_on_demand, setup),
		cmocka_unit_test_setup(restart_and_refusal_is_a_loss, setup),
		cmocka_unit_test_setup(drift_is_forgiven, setup),
		cmocka_unit_test_setup(natpmp_when_pcp_is_unknown, setup),
		cmocka_unit_test_setup(natpmp_when_pcp_is_silent_takes_half_a_second, setup),
		cmocka_unit_test_setup(natpmp_when_pcp_refuses, setup),
		cmocka_unit_test_setup(pcp_of_another_version, setup),
		cmocka_unit_test_setup(refused_by_both, setup),
		cmocka_unit_test_setup(natpmp_without_wan_address_yet, setup),
		cmocka_unit_test_setup(silence_is_not_pestered, setup),
		cmocka_unit_test_setup(an_announcement_ends_the_wait, setup),
		cmocka_unit_test_setup(lost_datagrams, setup),
		cmocka_unit_test_setup(released, setup), cmocka_unit_test_setup(no_health_checks, setup),
		cmocka_unit_test_setup(release_before_any_answer, setup),
		cmocka_unit_test_setup(ipv6_pinhole, setup),
		cmocka_unit_test_setup(empty_success, setup),
		cmocka_unit_test_setup(foreign_and_broken_input, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
