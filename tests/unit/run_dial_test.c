/* run_dial_test.c - src/run/{dial,resolve,stream,h2,listen,certs,trust}.c joined on loopback in one loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <unistd.h>

#include "unit/emulator.h"

#include "base/buf.h"
#include "base/err.h"
#include "crypto/crypto.h"
#include "grpc_echo_service.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/socket.h"
#include "run/dial.h"
#include "run/h2.h"
#include "run/listen.h"
#include "run/trust.h"

#define VECTORS "tests/vectors/tls/"

static struct run_loop *loop;
static struct run_resolver *resolver;
static struct run_certs *certs;
static struct echo_stats stats;
static struct grpc_service service;
static struct grpc_config grpc_cfg;

/* What a dial led to. */
static struct {
	int finished, err;
	char why[NBC_TLS_WHY];
	struct run_h2 *h2;
	int h2_closed, messages, ended;
	struct nb_buf got;
} seen;

static void on_h2_closed(void *ctx, const char *why)
{
	(void)ctx;
	snprintf(seen.why, sizeof seen.why, "%s", why);
	seen.h2 = NULL;
	seen.h2_closed++;
}

static void on_dialled(void *ctx, struct run_stream *s, int err, const char *why)
{
	struct grpc_config cfg;

	(void)ctx;
	seen.finished++;
	seen.err = err;
	snprintf(seen.why, sizeof seen.why, "%s", why);
	if (!s)
		return;
	grpc_config_default(&cfg);
	cfg.authority = "localhost";
	assert_int_equal(run_h2_client(&seen.h2, s, &cfg, on_h2_closed, NULL), 0);
}

static void until(const int *flag, int64_t ms)
{
	struct nb_time end = nb_time_add_ms(os_now(), ms);

	while (!*flag && nb_time_before(os_now(), end))
		run_loop_once(loop, end);
	assert_true(*flag);
}

static struct run_listener *listener(struct run_certs *c, bool grpc)
{
	struct run_listener_config cfg = { .loop = loop, .certs = c, .grpc = grpc ? &grpc_cfg : NULL };
	struct run_listener *l = NULL;
	char why[NBC_TLS_WHY];

	assert_int_equal(nb_endpoint_parse(&cfg.at, "127.0.0.1:0"), 0);
	assert_int_equal(run_listener_new(&l, &cfg, why), 0);
	return l;
}

static struct run_dial *dial_to(const char *host, uint16_t port, const char *ca)
{
	struct run_dial_config cfg = { .loop = loop, .resolver = resolver, .host = host, .port = port,
				       .alpn = { "h2" }, .timeout_ns = 3 * NB_SEC / 2, .done = on_dialled };
	struct run_dial *d = NULL;
	char why[NBC_TLS_WHY];

	memset(&seen, 0, sizeof seen);
	if (ca)
		assert_int_equal(run_trust_load(&cfg.trust, ca, why), 0);
	assert_int_equal(run_dial_start(&d, &cfg), 0);
	nbc_trust_unref(cfg.trust);
	return d;
}

static void on_message(struct grpc_call *call, void *user, struct nb_bytes message)
{
	(void)call, (void)user;
	seen.messages++;
	nb_buf_bytes(&seen.got, message);
}

static void on_end(struct grpc_call *call, void *user, const struct grpc_result *result)
{
	(void)call, (void)user;
	seen.err = result->status;
	seen.ended++;
}

static const struct grpc_call_ops call_ops = { .on_message = on_message, .on_end = on_end };

/* One unary call with a large message over the open connection. */
static void call_echo(void)
{
	struct grpc_request req = { .path = "/test.Echo/Unary", .kind = GRPC_UNARY, .ops = &call_ops,
				    .deadline = NB_TIME_NEVER };
	size_t n = 300000;
	uint8_t *data = malloc(n);
	struct grpc_call *call;

	assert_non_null(seen.h2);
	assert_non_null(data);
	nbc_random(NULL, data, n);
	nb_buf_init(&seen.got, 1 << 20);
	assert_int_equal(grpc_call_unary(&call, run_h2_conn(seen.h2), &req, nb_bytes(data, n), os_now()), 0);
	until(&seen.ended, 5000);
	assert_int_equal(seen.err, GRPC_OK);
	assert_int_equal(seen.messages, 1);
	assert_true(nb_bytes_eq(nb_buf_view(&seen.got), nb_bytes(data, n)));
	nb_buf_fini(&seen.got);
	free(data);
}

static void check_works(struct run_certs *c, const char *host, const char *ca)
{
	struct run_listener *l = listener(c, true);

	dial_to(host, run_listener_endpoint(l).port, ca);
	until(&seen.finished, 5000);
	assert_string_equal(seen.why, "");
	assert_int_equal(seen.err, 0);
	call_echo();
	assert_int_equal(run_listener_count(l), 1);
	/* The server goes: the client hears of it. */
	run_listener_free(l);
	until(&seen.h2_closed, 5000);
	assert_null(seen.h2);
}

static void test_works(void **state)
{
	(void)state;
	check_works(NULL, "127.0.0.1", NULL);
	check_works(NULL, "localhost", NULL);
	check_works(certs, "localhost", VECTORS "ca.pem");
}

static void drained(void *ctx)
{
	++*(int *)ctx;
}

/* A running call ends within the grace time; no connection is left. */
static void test_shutdown(void **state)
{
	struct run_listener *l = listener(certs, true);
	struct run_dial *again;
	int done = 0;

	(void)state;
	dial_to("localhost", run_listener_endpoint(l).port, VECTORS "ca.pem");
	until(&seen.finished, 5000);
	call_echo();
	run_listener_shutdown(l, NB_SEC, drained, &done);
	until(&done, 5000);
	assert_int_equal(run_listener_count(l), 0);
	until(&seen.h2_closed, 5000);
	again = dial_to("localhost", run_listener_endpoint(l).port, NULL);
	assert_non_null(again);
	until(&seen.finished, 5000);
	assert_non_null(strstr(seen.why, "cannot connect to localhost (127.0.0.1:"));
	if (!emulator_so_error())
		assert_non_null(strstr(seen.why, "refused"));
	run_listener_free(l);
}

static void fails(struct run_listener *l, const char *host, const char *ca, int err, const char *words)
{
	dial_to(host, run_listener_endpoint(l).port, ca);
	until(&seen.finished, 6000);
	if (!strstr(seen.why, words))
		fail_msg("\"%s\" lacks \"%s\"", seen.why, words);
	assert_int_equal(seen.err, err);
	assert_null(seen.h2);
}

static void test_failures(void **state)
{
	struct run_listener *tls = listener(certs, true), *no_h2 = listener(certs, false);
	struct run_listener *clear = listener(NULL, true);

	(void)state;
	fails(tls, "localhost", VECTORS "self.pem", NB_E_AUTH, "--ca-file");
	fails(tls, "127.0.0.1", VECTORS "ca.pem", NB_E_AUTH, "use the host name");
	fails(no_h2, "localhost", VECTORS "ca.pem", NB_E_UNSUPPORTED, "does not offer h2");
	fails(clear, "localhost", VECTORS "ca.pem", NB_E_PROTO, "does not speak TLS on this port");
	run_listener_free(tls);
	run_listener_free(no_h2);
	run_listener_free(clear);
}

/* A listener that never answers: its backlog accepts, nobody reads. */
static void on_dialled_unwanted(void *ctx, struct run_stream *s, int err, const char *why)
{
	(void)ctx, (void)err, (void)why;
	assert_non_null(s);
	seen.finished++;
}

/* A stream that nobody attaches to is closed. */
static void test_unwanted(void **state)
{
	struct run_listener *l = listener(NULL, true);
	struct run_dial_config cfg = { .loop = loop, .resolver = resolver, .host = "127.0.0.1",
				       .port = run_listener_endpoint(l).port, .done = on_dialled_unwanted };
	struct nb_time end = nb_time_add_ms(os_now(), 3000);
	struct run_dial *d;

	(void)state;
	memset(&seen, 0, sizeof seen);
	assert_int_equal(run_dial_start(&d, &cfg), 0);
	until(&seen.finished, 5000);
	run_loop_once(loop, nb_time_add_ms(os_now(), 20));
	while (run_listener_count(l) && nb_time_before(os_now(), end))
		run_loop_once(loop, end);
	assert_int_equal(run_listener_count(l), 0);
	run_listener_free(l);
}

static void test_timeout_and_cancel(void **state)
{
	struct nb_endpoint at;
	struct nb_time start = os_now();
	struct run_dial *d;
	int fd;

	(void)state;
	assert_int_equal(nb_endpoint_parse(&at, "127.0.0.1:0"), 0);
	assert_int_equal(os_tcp_listen(&fd, &at), 0);
	assert_int_equal(os_local_endpoint(fd, &at), 0);
	/* Cancelled at once, and after each of the first rounds. */
	for (int rounds = 0; rounds < 6; rounds++) {
		d = dial_to(rounds % 2 ? "localhost" : "127.0.0.1", at.port, VECTORS "ca.pem");
		for (int i = 0; i < rounds; i++)
			run_loop_once(loop, nb_time_add_ms(os_now(), 5));
		run_dial_cancel(d);
		run_loop_once(loop, nb_time_add_ms(os_now(), 20));
		assert_int_equal(seen.finished, 0);
	}
	d = dial_to("localhost", at.port, VECTORS "ca.pem");
	assert_non_null(d);
	until(&seen.finished, 7000);
	assert_int_equal(seen.err, NB_E_TIMEOUT);
	assert_non_null(strstr(seen.why, "no answer during the TLS handshake"));
	assert_true(nb_time_diff(os_now(), start) >= NB_SEC);
	os_close(&fd);
}

static void test_trust(void **state)
{
	struct nbc_trust *t = NULL;
	char why[NBC_TLS_WHY];

	(void)state;
	assert_int_equal(run_trust_load(&t, "/no/such/file", why), NB_E_CONFIG);
	assert_non_null(strstr(why, "cannot read the CA file /no/such/file: No such file"));
	assert_int_equal(run_trust_load(&t, VECTORS "ec.key", why), NB_E_CONFIG);
	assert_non_null(strstr(why, "no usable certificate"));
	setenv("SSL_CERT_FILE", VECTORS "ca.pem", 1);
	assert_int_equal(run_trust_load(&t, NULL, why), 0);
	assert_int_equal(nbc_trust_count(t), 1);
	nbc_trust_unref(t);
	unsetenv("SSL_CERT_FILE");
	setenv("SSL_CERT_DIR", VECTORS, 1);
	assert_int_equal(run_trust_load(&t, NULL, why), 0);
	assert_true(nbc_trust_count(t) >= 6);
	nbc_trust_unref(t);
	setenv("SSL_CERT_DIR", "src", 1);
	assert_int_equal(run_trust_load(&t, NULL, why), NB_E_CONFIG);
	assert_non_null(strstr(why, "SSL_CERT_DIR src"));
	unsetenv("SSL_CERT_DIR");
	/* Whatever this machine has. */
	assert_int_equal(run_trust_load(&t, NULL, why), 0);
	nbc_trust_unref(t);
}

static void copy_file(const char *from, const char *to)
{
	struct nb_buf b;

	nb_buf_init(&b, 1 << 16);
	assert_int_equal(os_read_file(&b, from), 0);
	assert_int_equal(os_write_file(to, nb_buf_view(&b), 0600), 0);
	nb_buf_fini(&b);
}

/* New files are used by new connections; bad ones are not. */
static void test_reload(void **state)
{
	char dir[] = "/tmp/nb-certs-XXXXXX", cert[64], key[64], why[NBC_TLS_WHY];
	struct run_certs *c = NULL;
	struct run_listener *l;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(cert, sizeof cert, "%s/cert.pem", dir);
	snprintf(key, sizeof key, "%s/key.pem", dir);
	copy_file(VECTORS "expired.pem", cert);
	assert_int_equal(run_certs_new(&c, loop, cert, key, why), NB_E_CONFIG);
	assert_non_null(strstr(why, "cannot read"));
	copy_file(VECTORS "ec.key", key);
	assert_int_equal(run_certs_new(&c, loop, cert, key, why), 0);
	l = listener(c, true);
	fails(l, "localhost", VECTORS "ca.pem", NB_E_AUTH, "expired on 2026-01-01");
	copy_file(VECTORS "rsa.pem", cert);
	assert_int_equal(run_certs_reload(c), NB_E_CONFIG);
	fails(l, "localhost", VECTORS "ca.pem", NB_E_AUTH, "expired on 2026-01-01");
	copy_file(VECTORS "rsa.key", key);
	assert_int_equal(run_certs_reload(c), 0);
	dial_to("localhost", run_listener_endpoint(l).port, VECTORS "ca.pem");
	until(&seen.finished, 5000);
	assert_string_equal(seen.why, "");
	call_echo();
	run_listener_free(l);
	until(&seen.h2_closed, 5000);
	run_certs_free(c);
	unlink(cert);
	unlink(key);
	rmdir(dir);
}

static int setup(void **state)
{
	char why[NBC_TLS_WHY];

	(void)state;
	service = echo_service(&stats);
	grpc_config_default(&grpc_cfg);
	grpc_cfg.services = &service;
	grpc_cfg.n_services = 1;
	return nbc_init() || run_loop_new(&loop) || run_resolver_new(&resolver, loop) ||
	       run_certs_new(&certs, loop, VECTORS "ec.pem", VECTORS "ec.key", why);
}

static int teardown(void **state)
{
	(void)state;
	run_certs_free(certs);
	run_resolver_free(resolver);
	run_loop_free(loop);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_works), cmocka_unit_test(test_shutdown), cmocka_unit_test(test_failures),
		cmocka_unit_test(test_timeout_and_cancel), cmocka_unit_test(test_unwanted),
		cmocka_unit_test(test_trust),
		cmocka_unit_test(test_reload),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
