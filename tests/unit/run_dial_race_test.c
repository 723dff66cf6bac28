/* run_dial_race_test.c - src/run/dial.c with chosen addresses: families take turns, a silent address costs a
 * quarter of a second, a refusing one nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <unistd.h>

#include "unit/emulator.h"

#include "run/dial.c"

static struct run_loop *loop;
static struct run_resolver *resolver;
static struct run_stream *stream;
static int finished, listener, silent, fillers[8];
static char said[NBC_TLS_WHY];
static uint16_t port;

static void closed(void *p, const char *why, struct nb_time now)
{
	(void)p, (void)why, (void)now;
}

static void input(void *p, struct nb_bytes in, struct nb_time now)
{
	(void)p, (void)in, (void)now;
}

static const struct run_proto proto = { .input = input, .closed = closed };

static void done(void *ctx, struct run_stream *s, int err, const char *why)
{
	(void)ctx, (void)err;
	finished++;
	snprintf(said, sizeof said, "%s", why);
	stream = s;
	if (s)
		run_stream_attach(s, &proto, NULL);
}

/* Dial as if the name had these addresses; milliseconds it took. */
static int64_t dial_list(const char *const *texts, size_t n, int64_t timeout_ns)
{
	struct run_dial_config cfg = { .loop = loop, .resolver = resolver, .host = "192.0.2.1", .port = port,
				       .timeout_ns = timeout_ns, .done = done };
	struct nb_time start = os_now(), end = nb_time_add(start, 5 * NB_SEC);
	struct nb_addr addrs[RUN_RESOLVE_MAX];
	struct run_dial *d;

	for (size_t i = 0; i < n; i++)
		assert_int_equal(nb_addr_parse(&addrs[i], texts[i]), 0);
	finished = 0;
	stream = NULL;
	assert_int_equal(run_dial_start(&d, &cfg), 0);
	run_resolve_cancel(d->lookup);
	on_resolved(d, addrs, n, "");
	while (!finished && nb_time_before(os_now(), end))
		run_loop_once(loop, end);
	assert_int_equal(finished, 1);
	run_stream_free(stream);
	return nb_time_diff(os_now(), start) / NB_MS;
}

static void test_race(void **state)
{
	static const char *const silent_first[] = { "127.0.0.2", "127.0.0.1" };
	static const char *const refusing_first[] = { "127.0.0.3", "127.0.0.1" };
	static const char *const hopeless[] = { "127.0.0.3", "127.0.0.2" };
	int64_t ms;

	(void)state;
	ms = dial_list(silent_first, 2, 0);
	assert_string_equal(said, "");
	assert_non_null(stream);
	assert_true(ms >= 240 && ms < 1500);
	ms = dial_list(refusing_first, 2, 0);
	assert_non_null(stream);
	assert_true(ms < 200);
	ms = dial_list(hopeless, 2, NB_SEC);
	assert_null(stream);
	assert_non_null(strstr(said, "(127.0.0.2:"));
	assert_non_null(strstr(said, "no answer"));
	assert_true(ms >= 990 && ms < 2500);
	ms = dial_list(hopeless, 1, NB_SEC);
	if (!emulator_so_error())
		assert_non_null(strstr(said, "refused"));
	assert_true(ms < 200);
}

static void test_order(void **state)
{
	static const char *const in[] = { "::1", "::2", "::3", "1.0.0.1", "1.0.0.2" };
	static const char *const want[] = { "::1", "1.0.0.1", "::2", "1.0.0.2", "::3" };
	struct run_dial d = { .cfg = { .loop = loop } };
	struct nb_addr addrs[5];
	char text[NB_ADDR_TEXT];

	(void)state;
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(nb_addr_parse(&addrs[i], in[i]), 0);
	order_attempts(&d, addrs, 5);
	for (size_t i = 0; i < 5; i++) {
		nb_addr_format(text, &d.attempts[i].to.addr);
		assert_string_equal(text, want[i]);
	}
}

/* 127.0.0.1 listens; 127.0.0.2 has a full backlog, so that new connections get no answer at all. */
static int setup(void **state)
{
	struct nb_endpoint at;

	(void)state;
	if (run_loop_new(&loop) || run_resolver_new(&resolver, loop))
		return -1;
	(void)nb_endpoint_parse(&at, "127.0.0.1:0");
	if (os_tcp_listen(&listener, &at) || os_local_endpoint(listener, &at))
		return -1;
	port = at.port;
	(void)nb_addr_parse(&at.addr, "127.0.0.2");
	if (os_tcp_listen(&silent, &at) || listen(silent, 0))
		return -1;
	for (size_t i = 0; i < sizeof fillers / sizeof *fillers; i++)
		(void)os_tcp_connect(&fillers[i], &at, NULL);
	return usleep(50000);
}

static int teardown(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof fillers / sizeof *fillers; i++)
		os_close(&fillers[i]);
	os_close(&silent);
	os_close(&listener);
	run_resolver_free(resolver);
	run_loop_free(loop);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_race), cmocka_unit_test(test_order) };

	return cmocka_run_group_tests(tests, setup, teardown);
}
