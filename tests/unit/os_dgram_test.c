/* os_dgram_test.c - batches of datagrams over loopback, with their addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/err.h"
#include "os/dgram.h"

#include <poll.h>

static uint8_t room[OS_DGRAM_BATCH][2000];

static size_t receive(const struct os_dgram_pair *p, bool six, struct nb_dgram *d)
{
	struct pollfd pf = { six ? p->fd6 : p->fd4, POLLIN, 0 };

	for (size_t i = 0; i < OS_DGRAM_BATCH; i++)
		d[i] = (struct nb_dgram){ .p = room[i], .cap = 1500 };
	assert_int_equal(poll(&pf, 1, 2000), 1);
	return os_dgram_recv(pf.fd, p->port, d, OS_DGRAM_BATCH);
}

static void batches(const char *ip, bool six)
{
	struct os_dgram_pair a, b;
	struct nb_dgram out[OS_DGRAM_BATCH], in[OS_DGRAM_BATCH];
	static uint8_t bytes[OS_DGRAM_BATCH][100];
	struct nb_endpoint to;
	size_t got = 0;

	assert_int_equal(os_dgram_open(&a, 0, 0), 0);
	assert_int_equal(os_dgram_open(&b, 0, 0), 0);
	assert_int_not_equal(a.port, b.port);
	if (six && (a.fd6 < 0 || b.fd6 < 0))
		skip();
	assert_int_equal(nb_addr_parse(&to.addr, ip), 0);
	to.port = b.port;
	for (size_t i = 0; i < OS_DGRAM_BATCH; i++) {
		bytes[i][0] = (uint8_t)i;
		out[i] = (struct nb_dgram){ .to = to, .p = bytes[i], .n = i + 1 };
		/* every second one from an address we name */
		if (i % 2)
			out[i].from.addr = to.addr;
	}
	assert_int_equal(os_dgram_send(six ? a.fd6 : a.fd4, out, OS_DGRAM_BATCH), OS_DGRAM_BATCH);
	while (got < OS_DGRAM_BATCH) {
		size_t n = receive(&b, six, in);

		for (size_t i = 0; i < n; i++, got++) {
			assert_int_equal(in[i].n, got + 1);
			assert_int_equal(in[i].p[0], got);
			assert_int_equal(in[i].from.port, a.port);
			assert_true(nb_addr_eq(&in[i].from.addr, &to.addr));
			assert_true(nb_endpoint_eq(&in[i].to, &to));
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
	struct nb_dgram out[3], in[OS_DGRAM_BATCH];
	uint8_t big[1] = { 7 };

	(void)state;
	assert_int_equal(os_dgram_open(&a, 0, 0), 0);
	for (int i = 0; i < 3; i++)
		out[i] = (struct nb_dgram){ .to = { nb_addr4(0x7f000001), a.port }, .p = big, .n = 1 };
	out[0].from.addr = nb_addr4(0xc0000201);
	out[1].to.port = 0;
	assert_int_equal(os_dgram_send(a.fd4, out, 3), 2);
	assert_int_equal(receive(&a, false, in), 2);
	os_dgram_close(&a);
}

static void too_long_is_marked(void **state)
{
	struct os_dgram_pair a;
	struct nb_dgram out[2], in[OS_DGRAM_BATCH];
	static uint8_t bytes[1501];

	(void)state;
	assert_int_equal(os_dgram_open(&a, 0, 0), 0);
	for (int i = 0; i < 2; i++)
		out[i] = (struct nb_dgram){ .to = { nb_addr4(0x7f000001), a.port }, .p = bytes, .n = 1500 + (size_t)i };
	assert_int_equal(os_dgram_send(a.fd4, out, 2), 2);
	assert_int_equal(receive(&a, false, in), 2);
	assert_int_equal(in[0].n, 1500);
	assert_int_equal(in[1].n, 0);
	os_dgram_close(&a);
}

static void port_taken(void **state)
{
	struct os_dgram_pair a, b;

	(void)state;
	assert_int_equal(os_dgram_open(&a, 0, 0), 0);
	assert_int_equal(os_dgram_open(&b, a.port, 0), NB_E_BUSY);
	assert_int_equal(b.fd4, -1);
	assert_int_equal(b.fd6, -1);
	os_dgram_close(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(four), cmocka_unit_test(six), cmocka_unit_test(bad_ones_between),
		cmocka_unit_test(too_long_is_marked), cmocka_unit_test(port_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
