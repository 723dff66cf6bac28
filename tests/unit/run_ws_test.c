/* run_ws_test.c - src/run/ws.c: our client against our server on loopback, over TLS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "crypto/crypto.h"
#include "os/clock.h"
#include "run/dial.h"
#include "run/listen.h"
#include "run/trust.h"
#include "run/ws.h"

#define VECTORS "tests/vectors/tls/"

static struct run_loop *loop;
static struct run_resolver *resolver;
static struct run_certs *certs;
static struct run_listener *listener;
static struct run_ws *server, *client;
static struct {
	int opened, messages, server_closed, client_closed, drained;
	size_t bytes;
	char why[NBC_TLS_WHY];
	const char *path;
} seen;

/* --- server: sends back what comes ------------------------------------------------------------- */

static void server_message(void *ctx, bool text, struct nb_bytes message)
{
	(void)ctx, (void)text;
	(void)run_ws_send(server, message);
}

static void server_closed(void *ctx, const char *why)
{
	(void)ctx, (void)why;
	server = NULL;
	seen.server_closed++;
}

static void request(void *arg, struct web_call *call)
{
	(void)arg;
	web_respond_text(call, 404, "no\n");
}

static void upgrade(void *arg, struct web_call *call)
{
	if (nb_bytes_eq_str(call->req.path, "/relay"))
		(void)web_ws_accept(call, NULL);
	else
		request(arg, call);
}

static void upgraded(void *arg, void *user, struct run_stream *s, struct nb_bytes rest, struct nb_time now)
{
	struct run_ws_config cfg = { .max_message = 65536, .max_queue = 1 << 20, .message = server_message,
				     .closed = server_closed };

	(void)arg, (void)user;
	assert_int_equal(run_ws_server(&server, s, &cfg, rest, now), 0);
}

/* --- client ------------------------------------------------------------------------------------ */

static void client_opened(void *ctx)
{
	(void)ctx;
	seen.opened++;
	assert_int_equal(run_ws_send(client, nb_bytes_str("first")), 0);
}

static void client_message(void *ctx, bool text, struct nb_bytes message)
{
	(void)ctx;
	assert_false(text);
	seen.messages++;
	seen.bytes += message.n;
}

static void client_drained(void *ctx)
{
	(void)ctx;
	seen.drained++;
}

static void client_closed(void *ctx, const char *why)
{
	(void)ctx;
	client = NULL;
	seen.client_closed++;
	snprintf(seen.why, sizeof seen.why, "%s", why);
}

static void dialled(void *ctx, struct run_stream *s, int err, const char *why)
{
	struct run_ws_config cfg = { .max_message = 65536, .max_queue = 1 << 20, .opened = client_opened,
				     .message = client_message, .drained = client_drained, .closed = client_closed };

	(void)ctx, (void)err;
	assert_string_equal(why, "");
	assert_int_equal(run_ws_client(&client, s, &cfg, "localhost", seen.path, os_now()), 0);
	assert_int_equal(run_ws_send(client, nb_bytes_str("too early")), NB_E_STATE);
}

static void until(const int *value, int at_least)
{
	struct nb_time end = nb_time_add_ms(os_now(), 5000);

	while (*value < at_least && nb_time_before(os_now(), end))
		run_loop_once(loop, end);
	assert_true(*value >= at_least);
}

static void dial(const char *path)
{
	struct run_dial_config cfg = { .loop = loop, .resolver = resolver, .host = "localhost",
				       .port = run_listener_endpoint(listener).port, .done = dialled };
	struct run_dial *d;
	char why[NBC_TLS_WHY];

	memset(&seen, 0, sizeof seen);
	seen.path = path;
	assert_int_equal(run_trust_load(&cfg.trust, VECTORS "ca.pem", why), 0);
	assert_int_equal(run_dial_start(&d, &cfg), 0);
	nbc_trust_unref(cfg.trust);
}

static void test_messages(void **state)
{
	uint8_t data[1350];

	(void)state;
	nbc_random(NULL, data, sizeof data);
	dial("/relay");
	until(&seen.messages, 1);
	assert_int_equal(seen.bytes, 5);
	for (int i = 0; i < 500; i++)
		assert_int_equal(run_ws_send(client, nb_bytes(data, sizeof data)), 0);
	assert_true(run_ws_queued(client) > 500 * 1350);
	until(&seen.messages, 501);
	assert_int_equal(seen.bytes, 5 + 500 * 1350);
	assert_int_equal(run_ws_queued(client), 0);
	assert_true(seen.drained >= 2);
	/* Handed over: not the listener's any more. */
	assert_int_equal(run_listener_count(listener), 0);
	run_ws_close(client, 1000);
	until(&seen.client_closed, 1);
	until(&seen.server_closed, 1);
	assert_string_equal(seen.why, "");
	/* The other way round. */
	dial("/relay");
	until(&seen.messages, 1);
	run_ws_close(server, 1001);
	until(&seen.client_closed, 1);
	until(&seen.server_closed, 1);
	assert_string_equal(seen.why, "");
}

static void test_refused(void **state)
{
	(void)state;
	dial("/elsewhere");
	until(&seen.client_closed, 1);
	assert_int_equal(seen.opened, 0);
	assert_string_equal(seen.why, "the server answered the WebSocket request with status 404");
}

static int setup(void **state)
{
	static const struct web_handler web = { .request = request, .upgrade = upgrade, .max_body = 100 };
	struct run_listener_config cfg = { .web = &web, .upgraded = upgraded };
	char why[NBC_TLS_WHY];

	(void)state;
	if (nbc_init() || run_loop_new(&loop) || run_resolver_new(&resolver, loop) ||
	    run_certs_new(&certs, loop, VECTORS "ec.pem", VECTORS "ec.key", why))
		return -1;
	cfg.loop = loop;
	cfg.certs = certs;
	(void)nb_endpoint_parse(&cfg.at, "127.0.0.1:0");
	return run_listener_new(&listener, &cfg, why);
}

static int teardown(void **state)
{
	(void)state;
	run_listener_free(listener);
	run_certs_free(certs);
	run_resolver_free(resolver);
	run_loop_free(loop);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_messages), cmocka_unit_test(test_refused) };

	return cmocka_run_group_tests(tests, setup, teardown);
}
