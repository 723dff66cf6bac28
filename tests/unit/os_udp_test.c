/* os_udp_test.c - batches of datagrams over loopback: parts, cut datagrams, local addresses, both families
 * on one socket. */
#include "os/udp.h"

#include "base/err.h"
#include "os/socket.h"
#include "unit/emulator.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

static uint8_t room[OS_UDP_BATCH][64];
static struct os_udp_in in[OS_UDP_BATCH];

static struct os_udp bind_endpoint(const struct nb_endpoint *e)
{
	struct os_udp u;
	int fd;

	assert_int_equal(os_udp_bind(&fd, e, NULL), 0);
	os_udp_init(&u, fd);
	return u;
}

static struct os_udp bind_at(const char *text)
{
	struct nb_endpoint e;

	assert_int_equal(nb_endpoint_parse(&e, text), 0);
	return bind_endpoint(&e);
}

/* Receive until n datagrams are there. */
static void receive(const struct os_udp *u, unsigned n)
{
	unsigned got = 0;

	while (got < n) {
		struct pollfd p = { u->fd, POLLIN, 0 };
		int r;

		assert_int_equal(poll(&p, 1, 2000), 1);
		for (unsigned i = got; i < OS_UDP_BATCH; i++)
			in[i] = (struct os_udp_in){ .p = room[i], .cap = sizeof room[i] };
		r = os_udp_recv(u, in + got, OS_UDP_BATCH - got);
		assert_true(r > 0);
		got += (unsigned)r;
	}
	assert_int_equal(got, n);
}

static void batch(void **state)
{
	struct os_udp a = bind_at("127.0.0.1:0"), b = bind_at("127.0.0.1:0");
	struct os_udp_out out[OS_UDP_BATCH];
	struct nb_endpoint ea, eb;
	char text[OS_UDP_BATCH][8];

	(void)state;
	assert_int_equal(os_local_endpoint(a.fd, &ea), 0);
	assert_int_equal(os_local_endpoint(b.fd, &eb), 0);
	os_udp_want_local(&b);
	for (int i = 0; i < OS_UDP_BATCH; i++) {
		snprintf(text[i], sizeof text[i], "%d", i);
		out[i] = (struct os_udp_out){ .to = eb, .part = { nb_bytes_str("n="), nb_bytes(NULL, 0),
								  nb_bytes_str(text[i]) } };
	}
	assert_int_equal(os_udp_send(&a, out, OS_UDP_BATCH), OS_UDP_BATCH);
	receive(&b, OS_UDP_BATCH);
	for (int i = 0; i < OS_UDP_BATCH; i++) {
		assert_int_equal(in[i].n, 2 + strlen(text[i]));
		assert_memory_equal(in[i].p + 2, text[i], in[i].n - 2);
		assert_true(nb_endpoint_eq(&in[i].from, &ea));
		assert_true(nb_addr_eq(&in[i].to, &eb.addr));
		assert_false(in[i].cut);
	}
	assert_int_equal(os_udp_recv(&b, in, OS_UDP_BATCH), NB_E_AGAIN);
	os_close(&a.fd);
	os_close(&b.fd);
}

static void cut_and_refused(void **state)
{
	static const uint8_t big[100];
	struct os_udp a = bind_at("127.0.0.1:0");
	struct nb_endpoint e, bad;
	struct os_udp_out out[3];

	(void)state;
	assert_int_equal(os_local_endpoint(a.fd, &e), 0);
	assert_int_equal(nb_endpoint_parse(&bad, "127.0.0.1:0"), 0);	/* port 0: the kernel refuses */
	out[0] = (struct os_udp_out){ .to = e, .part = { nb_bytes(big, sizeof big) } };
	out[1] = (struct os_udp_out){ .to = bad, .part = { nb_bytes(big, 1) } };
	out[2] = (struct os_udp_out){ .to = e, .part = { nb_bytes(big, 2) } };
	assert_int_equal(os_udp_send(&a, out, 3), 2);
	receive(&a, 2);
	assert_true(in[0].cut);
	assert_int_equal(in[0].n, sizeof room[0]);
	assert_false(in[1].cut);
	assert_int_equal(in[1].n, 2);
	os_close(&a.fd);
}

/* Equal datagrams, a shorter one, other destinations, an empty one: each arrives as it was, in order, singly at one
 * socket and in runs at another. */
static void runs(void **state)
{
	static uint8_t large[OS_UDP_LARGE], data[OS_UDP_OUT][3];
	struct os_udp a = bind_at("127.0.0.1:0"), single = bind_at("127.0.0.1:0"), many = bind_at("127.0.0.1:0");
	struct os_udp_out out[OS_UDP_OUT];
	struct nb_endpoint to[2];
	unsigned n = 0, messages = 0;

	(void)state;
	if (emulator_sockets())
		skip();
	assert_int_equal(os_local_endpoint(single.fd, &to[0]), 0);
	assert_int_equal(os_local_endpoint(many.fd, &to[1]), 0);
	os_udp_want_runs(&many);
	/* 10 of three bytes, one of two, one empty, then three to the other: for each of the two */
	for (int i = 0; i < 30; i++) {
		size_t len = i % 15 == 10 ? 2 : i % 15 == 11 ? 0 : 3;
		bool last = i % 15 > 11;

		memset(data[i], i, sizeof data[i]);
		out[i] = (struct os_udp_out){ .to = to[(i >= 15) ^ last], .part = { nb_bytes(data[i], len ? 1 : 0),
								nb_bytes(data[i], len ? len - 1 : 0) } };
	}
	assert_int_equal(os_udp_send(&a, out, 30), 30);
	receive(&single, 15);
	for (int i = 0; i < 15; i++) {
		assert_int_equal(in[i].n, i == 10 ? 2 : i == 11 ? 0 : 3);
		assert_int_equal(in[i].segment, in[i].n);
	}
	while (n < 15) {
		struct os_udp_in one = { .p = large, .cap = sizeof large };
		struct pollfd p = { many.fd, POLLIN, 0 };

		assert_int_equal(poll(&p, 1, 2000), 1);
		assert_int_equal(os_udp_recv(&many, &one, 1), 1);
		assert_false(one.cut);
		n += one.segment ? (unsigned)((one.n + one.segment - 1) / one.segment) : 1;
		messages++;
	}
	assert_int_equal(n, 15);
	if (a.segment)
		assert_true(messages < 15);
	os_close(&a.fd);
	os_close(&single.fd);
	os_close(&many.fd);
}

/* A wildcard socket answers from the address that was asked. */
static void answers_from_the_address_asked(void **state)
{
	static const char *const asked[] = { "127.0.0.1", "127.0.0.77", "::1" };
	struct nb_endpoint any = { 0 }, e;
	struct os_udp server = bind_endpoint(&any);

	(void)state;
	os_udp_want_local(&server);
	assert_int_equal(os_local_endpoint(server.fd, &e), 0);
	for (size_t i = 0; i < 3; i++) {
		struct os_udp_out out = { .to = { .port = e.port }, .part = { nb_bytes_str("?") } };
		struct os_udp client;

		assert_int_equal(nb_addr_parse(&out.to.addr, asked[i]), 0);
		if (out.to.addr.family == 6 && e.addr.family == 4)
			continue;	/* a machine without IPv6 */
		client = bind_at(out.to.addr.family == 4 ? "127.0.0.1:0" : "[::1]:0");
		assert_int_equal(os_udp_send(&client, &out, 1), 1);
		receive(&server, 1);
		assert_true(nb_addr_eq(&in[0].to, &out.to.addr));
		out = (struct os_udp_out){ .to = in[0].from, .from = in[0].to, .part = { nb_bytes_str("!") } };
		assert_int_equal(os_udp_send(&server, &out, 1), 1);
		receive(&client, 1);
		assert_int_equal(nb_addr_parse(&out.to.addr, asked[i]), 0);
		assert_true(nb_addr_eq(&in[0].from.addr, &out.to.addr));
		os_close(&client.fd);
	}
	os_close(&server.fd);
}

static void source_address(void **state)
{
	struct nb_addr to, from;

	(void)state;
	assert_int_equal(nb_addr_parse(&to, "127.0.0.9"), 0);
	assert_int_equal(os_source_addr(&from, &to), 0);
	assert_true(nb_addr_is_loopback(&from));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(batch),
		cmocka_unit_test(cut_and_refused),
		cmocka_unit_test(runs),
		cmocka_unit_test(answers_from_the_address_asked),
		cmocka_unit_test(source_address),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
