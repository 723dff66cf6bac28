/* grpc_failmalloc_test.c - the whole conversation of a small session with the Nth allocation failing, for
 * every N: nothing may crash or leak, every call still ends exactly once. The sources are included so that
 * their allocations, nghttp2's among them, can be made to fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static long fail_at;	/* 1: the next allocation fails; 0 or less: none */
static long live;

static int fails(void)
{
	return fail_at > 0 && --fail_at == 0;
}

static void *t_malloc(size_t n)
{
	void *p = fails() ? NULL : malloc(n);

	live += p != NULL;
	return p;
}

static void *t_calloc(size_t n, size_t size)
{
	void *p = fails() ? NULL : calloc(n, size);

	live += p != NULL;
	return p;
}

static void *t_realloc(void *old, size_t n)
{
	void *p = fails() ? NULL : realloc(old, n);

	live += p != NULL && !old;
	return p;
}

static void t_free(void *p)
{
	live -= p != NULL;
	free(p);
}

static char *t_strdup(const char *s)
{
	size_t n = strlen(s) + 1;
	char *p = t_malloc(n);

	return p ? memcpy(p, s, n) : NULL;
}

#define malloc t_malloc
#define calloc t_calloc
#define realloc t_realloc
#define free t_free
#define strdup t_strdup
#include "base/arena.c"
#include "base/buf.c"
#include "grpc/call.c"
#include "grpc/client.c"
#define refill conn_refill
#include "grpc/conn.c"
#undef refill
#include "grpc/meta.c"
#include "grpc/raw.c"
#include "grpc/recv.c"
#include "grpc/server.c"
#include "grpc/status.c"
#undef malloc
#undef calloc
#undef realloc
#undef free
#undef strdup

#include <cmocka.h>

#include "grpc_echo_service.h"

static struct grpc_conn *client, *server;
static const struct nb_time now = { 1 };
static unsigned started, ended, good;

static void on_end(struct grpc_call *call, void *user, const struct grpc_result *r)
{
	(void)call;
	(void)user;
	ended++;
	good += r->status == GRPC_OK;
}

static const struct grpc_call_ops ops = { .on_end = on_end };

static size_t move(struct grpc_conn *from, struct grpc_conn *to)
{
	static uint8_t buf[4096];
	size_t n, total = 0;

	while ((n = grpc_conn_output(from, buf, sizeof buf, now)) > 0) {
		total += n;
		if (grpc_conn_input(to, nb_bytes(buf, n), now))
			break;
	}
	return total;
}

static void call(const char *path, enum grpc_kind kind, const char *message)
{
	struct grpc_meta meta[] = { GRPC_META("x-ask", "1"), GRPC_META("x-ask-bin", "2") };
	struct grpc_request req = { .path = path, .kind = kind, .ops = &ops, .meta = meta, .n_meta = 2,
		.deadline = nb_time_add(now, NB_SEC) };
	struct grpc_call *c;

	if (!grpc_call_unary(&c, client, &req, nb_bytes_str(message), now))
		started++;
}

static void session(void)
{
	struct echo_stats st = { 0 };
	struct grpc_service svc = echo_service(&st);
	struct grpc_config cfg;

	client = server = NULL;
	started = ended = good = 0;
	grpc_config_default(&cfg);
	cfg.services = &svc;
	cfg.n_services = 1;
	if (!grpc_server_new(&server, &cfg, now) && !grpc_client_new(&client, &cfg, now)) {
		call("/test.Echo/Unary", GRPC_UNARY, "hello");
		call("/test.Echo/Download", GRPC_SERVER_STREAM, "3 100");
		call("/test.Echo/Upload", GRPC_CLIENT_STREAM, "x");
		call("/test.Echo/Chat", GRPC_BIDI, "x");
		call("/test.Echo/Nope", GRPC_UNARY, "x");
		while (move(client, server) + move(server, client))
			;
	}
	grpc_conn_free(client);
	grpc_conn_free(server);
	assert_int_equal(ended, started);
	assert_int_equal(st.ended, st.started);
}

static void test_all(void **state)
{
	long n = 0;

	(void)state;
	/* once more after the last failure was never reached */
	do {
		fail_at = ++n;
		live = 0;
		session();
		assert_int_equal(live, 0);
	} while (fail_at <= 0 && n < 5000);
	assert_in_range(n, 100, 4999);
	assert_int_equal(good, 4);
	assert_int_equal(started, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_all) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
