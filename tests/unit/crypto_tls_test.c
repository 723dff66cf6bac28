/* crypto_tls_test.c - src/crypto/tls.c and pem.c: both roles joined in memory, identities, refusals. */
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
#include "crypto/tls.h"

#define WALL_2027 ((struct nb_wall){ 1798761600LL * NB_SEC })

static struct nb_bytes file(struct nb_buf *b, const char *name)
{
	char path[200];
	uint8_t *at;
	FILE *f;

	snprintf(path, sizeof path, "tests/vectors/tls/%s", name);
	f = fopen(path, "r");
	assert_non_null(f);
	nb_buf_init(b, 1 << 20);
	at = nb_buf_reserve(b, 65536);
	assert_non_null(at);
	nb_buf_commit(b, fread(at, 1, 65536, f));
	fclose(f);
	return nb_buf_view(b);
}

static struct nbc_identity *identity(const char *cert, const char *key)
{
	struct nbc_identity *id = NULL;
	struct nb_buf c, k;
	char why[NBC_TLS_WHY];
	int r = nbc_identity_new(&id, file(&c, cert), file(&k, key), why);

	if (r)
		print_message("%s\n", why);
	assert_int_equal(r, 0);
	assert_string_equal(why, "");
	nb_buf_fini(&c);
	nb_buf_fini(&k);
	return id;
}

static struct nbc_trust *trust(const char *name)
{
	struct nbc_trust *t = NULL;
	struct nb_buf b;

	assert_int_equal(nbc_trust_new(&t, file(&b, name), name), 0);
	assert_int_equal(nbc_trust_count(t), 1);
	nb_buf_fini(&b);
	return t;
}

static struct nbc_tls *server(const char *cert, const char *key, const char *alpn)
{
	const char *names[NBC_TLS_ALPN_MAX] = { alpn };
	struct nbc_identity *id = identity(cert, key);
	struct nbc_tls *t = NULL;

	assert_int_equal(nbc_tls_server_new(&t, id, names), 0);
	/* The connection keeps it. */
	nbc_identity_unref(id);
	return t;
}

static struct nbc_tls *client(struct nbc_trust *ca, const char *host, struct nb_wall now)
{
	struct nbc_tls_client cfg = { .trust = ca, .host = host, .alpn = { "h2", "http/1.1" }, .now = now };
	struct nbc_tls *t = NULL;

	assert_int_equal(nbc_tls_client_new(&t, &cfg), 0);
	nbc_trust_unref(ca);
	return t;
}

/* What is on its way between the two sides under test. */
static struct {
	struct nbc_tls *from[2];
	uint8_t buf[2][4096];
	size_t held[2];
} wire;

/* Move ciphertext both ways, at most chunk bytes at a time, until nothing moves. */
static void settle(struct nbc_tls *a, struct nbc_tls *b, size_t chunk)
{
	bool moved = true;

	if (wire.from[0] != a || wire.from[1] != b)
		memset(&wire, 0, sizeof wire);
	wire.from[0] = a;
	wire.from[1] = b;
	while (moved) {
		moved = false;
		for (int i = 0; i < 2; i++) {
			size_t n;

			if (!wire.held[i])
				wire.held[i] = nbc_tls_pull(wire.from[i], wire.buf[i], chunk);
			n = nbc_tls_feed(wire.from[!i], nb_bytes(wire.buf[i], wire.held[i]));
			memmove(wire.buf[i], wire.buf[i] + n, wire.held[i] - n);
			wire.held[i] -= n;
			moved |= n > 0;
		}
	}
}

/* len bytes from a to b, with b reading slowly. */
static void transfer(struct nbc_tls *a, struct nbc_tls *b, size_t len)
{
	uint8_t *data = malloc(len), *got = malloc(len);
	size_t sent = 0, have = 0;

	nbc_random(NULL, data, len);
	while (have < len) {
		size_t n = nbc_tls_write(a, nb_bytes(data + sent, len - sent));

		sent += n;
		settle(a, b, 1000);
		n = nbc_tls_read(b, got + have, len - have < 700 ? len - have : 700);
		have += n;
		assert_true(n > 0);
	}
	assert_memory_equal(data, got, len);
	free(data);
	free(got);
}

static void check_pair(const char *cert, const char *key, const char *ca, size_t chunk)
{
	struct nbc_tls *s = server(cert, key, "h2"), *c = client(trust(ca), "localhost", WALL_2027);
	uint8_t byte;

	assert_false(nbc_tls_open(c));
	settle(c, s, chunk);
	assert_true(nbc_tls_open(c) && nbc_tls_open(s));
	assert_string_equal(nbc_tls_alpn(c), "h2");
	assert_string_equal(nbc_tls_alpn(s), "h2");
	assert_string_equal(nbc_tls_sni(s), "localhost");
	transfer(c, s, 100000);
	transfer(s, c, 100000);
	nbc_tls_close(c);
	settle(c, s, chunk);
	assert_true(nbc_tls_closed(c) && nbc_tls_closed(s));
	assert_int_equal(nbc_tls_error(c), 0);
	assert_int_equal(nbc_tls_error(s), 0);
	assert_int_equal(nbc_tls_read(s, &byte, 1), 0);
	nbc_tls_free(c);
	nbc_tls_free(s);
}

static void test_pairs(void **state)
{
	(void)state;
	check_pair("ec.pem", "ec.key", "ca.pem", 4096);
	check_pair("ec.pem", "ec.key", "ca.pem", 1);
	check_pair("rsa.pem", "rsa.key", "ca.pem", 4096);
	check_pair("rsa.pem", "rsa1.key", "ca.pem", 100);
	check_pair("self.pem", "ec.key", "self.pem", 4096);
}

/* The client refuses with this error, and its sentence contains these words. */
static void refused(const char *cert, struct nbc_trust *ca, const char *host, struct nb_wall now, int error,
		    const char *words)
{
	struct nbc_tls *s = server(cert, "ec.key", "h2"), *c = client(ca, host, now);
	char why[NBC_TLS_WHY];

	settle(c, s, 4096);
	nbc_tls_why(c, why);
	if (!strstr(why, words))
		fail_msg("\"%s\" lacks \"%s\"", why, words);
	assert_int_equal(nbc_tls_error(c), error);
	assert_false(nbc_tls_open(c));
	assert_true(nbc_tls_closed(c));
	nbc_tls_free(c);
	nbc_tls_free(s);
}

static void test_refusals(void **state)
{
	struct nbc_trust *none = NULL;

	(void)state;
	refused("ec.pem", trust("self.pem"), "localhost", WALL_2027, NB_E_AUTH, "--ca-file");
	refused("ec.pem", trust("ca.pem"), "example.org", WALL_2027, NB_E_AUTH,
		"the certificate is for localhost, not for example.org");
	refused("ec.pem", trust("ca.pem"), "127.0.0.1", WALL_2027, NB_E_AUTH, "use the host name");
	refused("expired.pem", trust("ca.pem"), "localhost", WALL_2027, NB_E_AUTH,
		"expired on 2026-01-01T00:00:00Z; the clock here is 2027-01-01T00:00:00Z: renew");
	refused("future.pem", trust("ca.pem"), "localhost", WALL_2027, NB_E_AUTH,
		"not valid before 2090-01-01T00:00:00Z; the clock here is 2027-01-01T00:00:00Z: set the clock");
	assert_int_equal(nbc_trust_none(&none), 0);
	refused("ec.pem", none, "localhost", WALL_2027, NB_E_AUTH, "install the ca-certificates package");
}

/* A machine that believes in 1970 still connects: the build date is the floor. */
static void test_clock_floor(void **state)
{
	struct nbc_tls *s = server("ec.pem", "ec.key", "h2");
	struct nbc_tls *c = client(trust("ca.pem"), "localhost", (struct nb_wall){ 5 * NB_SEC });

	(void)state;
	settle(c, s, 4096);
	assert_true(nbc_tls_open(c));
	nbc_tls_free(c);
	nbc_tls_free(s);
	refused("expired.pem", trust("ca.pem"), "localhost", (struct nb_wall){ 0 }, NB_E_AUTH, "set the clock");
}

static void test_alpn(void **state)
{
	struct nbc_tls *s = server("ec.pem", "ec.key", "http/1.1");
	struct nbc_tls *c = client(trust("ca.pem"), "nestbox.test", WALL_2027);

	(void)state;
	settle(c, s, 4096);
	assert_true(nbc_tls_open(c));
	assert_string_equal(nbc_tls_alpn(c), "http/1.1");
	nbc_tls_free(c);
	nbc_tls_free(s);
	s = server("ec.pem", "ec.key", NULL);
	c = client(trust("ca.pem"), "localhost", WALL_2027);
	settle(c, s, 4096);
	assert_true(nbc_tls_open(c) && nbc_tls_open(s));
	assert_string_equal(nbc_tls_alpn(c), "");
	assert_string_equal(nbc_tls_alpn(s), "");
	nbc_tls_free(c);
	nbc_tls_free(s);
}

static void garbage(struct nbc_tls *t, struct nb_bytes in, const char *words)
{
	char why[NBC_TLS_WHY];
	uint8_t out[512];

	while (nbc_tls_pull(t, out, sizeof out))
		;
	nbc_tls_feed(t, in);
	assert_true(nbc_tls_closed(t));
	assert_int_not_equal(nbc_tls_error(t), 0);
	nbc_tls_why(t, why);
	if (!strstr(why, words))
		fail_msg("\"%s\" lacks \"%s\"", why, words);
	nbc_tls_free(t);
}

static void test_garbage(void **state)
{
	/* Alert, fatal, protocol_version; alert, fatal, handshake_failure. */
	static const uint8_t alert70[] = { 21, 3, 3, 0, 2, 2, 70 }, alert40[] = { 21, 3, 3, 0, 2, 2, 40 };

	(void)state;
	garbage(client(trust("ca.pem"), "localhost", WALL_2027), nb_bytes_str("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"does not speak TLS on this port");
	garbage(client(trust("ca.pem"), "localhost", WALL_2027), nb_bytes(alert70, 7),
		"the server requires TLS 1.3");
	garbage(client(trust("ca.pem"), "localhost", WALL_2027), nb_bytes(alert40, 7),
		"it may require TLS 1.3");
	garbage(server("ec.pem", "ec.key", "h2"), nb_bytes_str("GET / HTTP/1.1\r\n\r\n"), "does not speak TLS");
}

static void bad_identity(const char *cert, const char *key, const char *words)
{
	struct nbc_identity *id = NULL;
	struct nb_buf c, k;
	char why[NBC_TLS_WHY];

	assert_int_equal(nbc_identity_new(&id, file(&c, cert), file(&k, key), why), NB_E_BAD);
	assert_null(id);
	if (!strstr(why, words))
		fail_msg("\"%s\" lacks \"%s\"", why, words);
	nb_buf_fini(&c);
	nb_buf_fini(&k);
}

static void test_identities(void **state)
{
	struct nbc_identity *id;
	struct nb_wall from, until;
	char text[NB_RFC3339_CAP];

	(void)state;
	bad_identity("rsa.pem", "ec.key", "does not belong");
	bad_identity("ec.pem", "rsa.key", "does not belong");
	bad_identity("ec.key", "ec.key", "no certificate");
	bad_identity("ec.pem", "ec.pem", "no private key");
	bad_identity("ec.pem", "encrypted.key", "encrypted");
	bad_identity("README.md", "ec.key", "no certificate");
	id = identity("expired.pem", "ec.key");
	nbc_identity_validity(id, &from, &until);
	nb_wall_format(text, until);
	assert_string_equal(text, "2026-01-01T00:00:00Z");
	nbc_identity_unref(id);
}

static int setup(void **state)
{
	(void)state;
	return nbc_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pairs), cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_clock_floor), cmocka_unit_test(test_alpn),
		cmocka_unit_test(test_garbage), cmocka_unit_test(test_identities),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
