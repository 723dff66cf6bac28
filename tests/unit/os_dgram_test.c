/* os_dgram_test.c - batches of datagrams over loopback, with their addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "unit/emulator.h"

#include "base/err.h"
#include "os/dgram.h"

#include <poll.h>

static uint8_t room[OS_DGRAM_BATCH][2000];

static size_t receive(const struct os_dgram_pair *p, bool six, struct os_dgram *d)
{
	struct pollfd pf = { six ? p->fd6 : p->fd4, POLLIN, 0 };

	for (size_t i = 0; i < OS_DGRAM_BATCH; i++)
		d[i] = (struct os_dgram){ .p = room[i], .cap = 1500 };
	assert_int_equal(poll(&pf, 1, 2000), 1);
	return os_dgram_recv(p, six, d, OS_DGRAM_BATCH);
}

static void batches(const char *ip, bool six)
{
	struct os_dgram_pair a, b;
	struct os_dgram out[OS_DGRAM_BATCH], in[OS_DGRAM_BATCH];
	static uint8_t bytes[OS_DGRAM_BATCH][100];
	struct nb_endpoint to;
	size_t got = 0;

	assert_int_equal(os_dgram_open(&a, 0, 0, 0), 0);
	assert_int_equal(os_dgram_open(&b, 0, 0, 0), 0);
	assert_int_not_equal(a.port, b.port);
	if (six && (a.fd6 < 0 || b.fd6 < 0))
		skip();
	assert_int_equal(nb_addr_parse(&to.addr, ip), 0);
	to.port = b.port;
	for (size_t i = 0; i < OS_DGRAM_BATCH; i++) {
		bytes[i][0] = (uint8_t)i;
		out[i] = (struct os_dgram){ .remote = to, .p = bytes[i], .n = i + 1 };
		/* every second one from an address we name */
		if (i % 2)
			out[i].local = to.addr;
	}
	assert_int_equal(os_dgram_send(&a, six, out, OS_DGRAM_BATCH), OS_DGRAM_BATCH);
	while (got < OS_DGRAM_BATCH) {
		size_t n = receive(&b, six, in);

		for (size_t i = 0; i < n; i++, got++) {
			assert_int_equal(in[i].n, got + 1);
			assert_int_equal(in[i].p[0], got);
			assert_int_equal(in[i].remote.port, a.port);
			assert_true(nb_addr_eq(&in[i].remote.addr, &to.addr));
			assert_true(nb_addr_eq(&in[i].local, &to.addr));
		}
	}
	os_dgram_close(&a);
	os_dgram_close(&b);
}

static void four(void **state)
{
	(void)state;
	batches("127.0.0.1", false);
}

static void six(void **state)
{
	(void)state;
	batches("::1", true);
}

/* A source that is not ours is left to the system; an impossible destination does not stop the others. */
static void bad_ones_between(void **state)
{
	struct os_dgram_pair a;
	struct os_dgram out[3], in[OS_DGRAM_BATCH];
	uint8_t big[1] = { 7 };

	(void)state;
	assert_int_equal(os_dgram_open(&a, 0, 0, 0), 0);
	for (int i = 0; i < 3; i++)
		out[i] = (struct os_dgram){ .remote = { nb_addr4(0x7f000001), a.port }, .p = big, .n = 1 };
	out[0].local = nb_addr4(0xc0000201);
	out[1].remote.port = 0;
	assert_int_equal(os_dgram_send(&a, false, out, 3), 2);
	assert_int_equal(receive(&a, false, in), 2);
	os_dgram_close(&a);
}

static void too_long_is_marked(void **state)
{
	struct os_dgram_pair a;
	struct os_dgram out[2], in[OS_DGRAM_BATCH];
	static uint8_t bytes[1501];

	(void)state;
	assert_int_equal(os_dgram_open(&a, 0, 0, 0), 0);
	for (int i = 0; i < 2; i++)
		out[i] = (struct os_dgram){ .remote = { nb_addr4(0x7f000001), a.port }, .p = bytes, .n = 1500 + (size_t)i };
	assert_int_equal(os_dgram_send(&a, false, out, 2), 2);
	assert_int_equal(receive(&a, false, in), 2);
	assert_int_equal(in[0].n, 1500);
	assert_int_equal(in[1].n, 0);
	os_dgram_close(&a);
}

static void port_taken(void **state)
{
	struct os_dgram_pair a, b;

	(void)state;
	assert_int_equal(os_dgram_open(&a, 0, 0, 0), 0);
	assert_int_equal(os_dgram_open(&b, a.port, 0, 0), NB_E_BUSY);
	assert_int_equal(b.fd4, -1);
	assert_int_equal(b.fd6, -1);
	os_dgram_close(&a);
}

static uint8_t large[4][OS_DGRAM_LARGE];

/* Receive as many bytes as were sent; each message's pieces are `each` long but the last. Returns the messages. */
static size_t receive_large(const struct os_dgram_pair *p, size_t bytes, size_t each, uint8_t ecn)
{
	struct pollfd pf = { p->fd4, POLLIN, 0 };
	struct os_dgram d[4];
	size_t messages = 0, at = 0;

	while (bytes) {
		size_t n;

		for (int i = 0; i < 4; i++)
			d[i] = (struct os_dgram){ .p = large[i], .cap = sizeof large[i] };
		assert_int_equal(poll(&pf, 1, 2000), 1);
		n = os_dgram_recv(p, false, d, 4);
		messages += n;
		for (size_t i = 0; i < n; i++) {
			assert_true(d[i].n && d[i].n <= bytes);
			assert_int_equal(d[i].ecn, ecn);
			if (d[i].segment)
				assert_int_equal(d[i].segment, each);
			else
				assert_true(d[i].n <= each);
			for (size_t k = 0; k < d[i].n; k++, at++)
				if (d[i].p[k] != (uint8_t)(at / each + at % each))
					fail_msg("byte %zu", at);
			bytes -= d[i].n;
		}
	}
	return messages;
}

/* 100 datagrams, the last of them shorter: the same bytes arrive whatever the system may join, be they in one piece of
 * memory or with gaps. */
static void runs(void **state)
{
	enum { EACH = 1200, COUNT = 100, BYTES = EACH * COUNT - 500 };
	static uint8_t bytes[(EACH + 8) * COUNT];
	struct os_dgram out[COUNT];

	(void)state;
	if (emulator_ancillary())
		skip();
	for (unsigned mix = 0; mix < 8; mix++) {
		struct os_dgram_pair a, b;
		size_t messages;
		uint8_t *p = bytes;

		assert_int_equal(os_dgram_open(&a, 0, 0, mix & 1 ? OS_DGRAM_SEGMENT : 0), 0);
		assert_int_equal(os_dgram_open(&b, 0, 0, mix & 2 ? OS_DGRAM_GRO : 0), 0);
		for (size_t i = 0; i < COUNT; i++, p += mix & 4 && i % 3 ? EACH + 8 : EACH) {
			out[i] = (struct os_dgram){ .remote = { nb_addr4(0x7f000001), b.port }, .p = p,
						    .n = i + 1 < COUNT ? EACH : EACH - 500, .ecn = 2 };
			for (size_t k = 0; k < EACH; k++)
				p[k] = (uint8_t)(i + k);
		}
		assert_int_equal(os_dgram_send(&a, false, out, COUNT), COUNT);
		messages = receive_large(&b, BYTES, EACH, 2);
		if (a.offloads && b.offloads)
			assert_int_equal(messages, 2);
		if (!b.offloads)
			assert_int_equal(messages, COUNT);
		os_dgram_close(&a);
		os_dgram_close(&b);
	}
}

/* A change of size, mark or destination ends a run; the order stays. */
static void runs_end(void **state)
{
	static const size_t sizes[] = { 100, 100, 101, 101, 50, 50, 50, 0, 50 };
	enum { COUNT = sizeof sizes / sizeof sizes[0] };
	static uint8_t bytes[COUNT][200];
	struct os_dgram out[COUNT], in[OS_DGRAM_BATCH];
	struct os_dgram_pair a, b;
	size_t got = 0;

	(void)state;
	if (emulator_ancillary())
		skip();
	assert_int_equal(os_dgram_open(&a, 0, 0, OS_DGRAM_SEGMENT), 0);
	assert_int_equal(os_dgram_open(&b, 0, 0, 0), 0);
	for (size_t i = 0; i < COUNT; i++) {
		bytes[i][0] = (uint8_t)i;
		out[i] = (struct os_dgram){ .remote = { nb_addr4(0x7f000001), b.port }, .p = bytes[i], .n = sizes[i],
					    .ecn = i == 6 };
	}
	assert_int_equal(os_dgram_send(&a, false, out, COUNT), COUNT);
	while (got < COUNT) {
		size_t n = receive(&b, false, in);

		for (size_t i = 0; i < n; i++, got++) {
			assert_int_equal(in[i].n, sizes[got]);
			assert_int_equal(in[i].ecn, got == 6);
			if (in[i].n)
				assert_int_equal(in[i].p[0], got);
		}
	}
	os_dgram_close(&a);
	os_dgram_close(&b);
}

static void mark6(void **state)
{
	struct os_dgram_pair a;
	struct os_dgram out = { .p = (uint8_t *)"x", .n = 1, .ecn = 3 }, in[OS_DGRAM_BATCH];

	(void)state;
	if (emulator_ancillary())
		skip();
	assert_int_equal(os_dgram_open(&a, 0, 0, 0), 0);
	if (a.fd6 < 0)
		skip();
	assert_int_equal(nb_addr_parse(&out.remote.addr, "::1"), 0);
	out.remote.port = a.port;
	out.local = out.remote.addr;
	assert_int_equal(os_dgram_send(&a, true, &out, 1), 1);
	assert_int_equal(receive(&a, true, in), 1);
	assert_int_equal(in[0].ecn, 3);
	os_dgram_close(&a);
}

/* The loopback interface carries 65,535 bytes: too few for a wish of 70,000, many for one of 1,000. */
static void narrow_way(void **state)
{
	struct os_dgram_pair p;
	struct nb_endpoint to, other;

	(void)state;
	if (emulator_sockets())
		skip();
	assert_int_equal(nb_endpoint_parse(&to, "127.0.0.1:9"), 0);
	assert_int_equal(nb_endpoint_parse(&other, "127.0.0.2:9"), 0);
	assert_int_equal(os_dgram_open(&p, 0, 0, 0), 0);
	assert_true(os_dgram_room(&p, &to) == SIZE_MAX);
	os_dgram_look(&p, &to, 1000);
	assert_int_equal(p.nnarrow, 0);
	os_dgram_look(&p, &to, 70000);
	assert_int_equal(os_dgram_room(&p, &to), 65535 - 28);
	assert_true(os_dgram_room(&p, &other) == SIZE_MAX);
	p.narrow[0].until = (struct nb_time){ 0 };
	assert_true(os_dgram_room(&p, &to) == SIZE_MAX);
	/* More than there is room for: the table stays full, the newest is in it. */
	for (unsigned i = 0; i < OS_DGRAM_NARROW + 5; i++) {
		to.port = (uint16_t)(100 + i);
		os_dgram_look(&p, &to, 70000);
	}
	assert_int_equal(p.nnarrow, OS_DGRAM_NARROW);
	assert_int_equal(os_dgram_room(&p, &to), 65535 - 28);
	/* Wide again, or so we see it. */
	os_dgram_look(&p, &to, 1000);
	assert_true(os_dgram_room(&p, &to) == SIZE_MAX);
	assert_int_equal(p.nnarrow, OS_DGRAM_NARROW - 1);
	os_dgram_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(four), cmocka_unit_test(six), cmocka_unit_test(bad_ones_between),
		cmocka_unit_test(too_long_is_marked), cmocka_unit_test(port_taken),
		cmocka_unit_test(runs), cmocka_unit_test(runs_end), cmocka_unit_test(mark6), cmocka_unit_test(narrow_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
