/* proto_relaymsg_test.c - relay messages against recorded stock bytes: every frame decodes as recorded and encodes to
 * the same bytes, peer ids and tokens are those of stock, URLs. */
#include "proto/relaymsg.h"

#include <jansson.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/err.h"
#include "crypto/crypto.h"

static json_t *load(const char *name)
{
	char path[200];
	json_t *j;

	snprintf(path, sizeof path, "tests/vectors/relay/%s.json", name);
	j = json_load_file(path, 0, NULL);
	assert_non_null(j);
	return j;
}

static const char *text(const json_t *j, const char *key)
{
	return json_string_value(json_object_get(j, key));
}

static uint8_t bytes[RELAYMSG_MAX + 1];

static struct nb_bytes unhex(const char *hex)
{
	size_t n = strlen(hex) / 2;

	assert_true(n <= sizeof bytes);
	assert_int_equal(nb_hex_decode(bytes, n, nb_bytes_str(hex)), 0);
	return nb_bytes(bytes, n);
}

static void check_hex(struct nb_bytes b, const char *hex)
{
	char *got = malloc(b.n * 2 + 1);

	assert_non_null(got);
	nb_hex_encode(got, b);
	assert_string_equal(got, hex);
	free(got);
}

/* Back to bytes by the encoder for its kind. */
static void check_encode(const struct relaymsg *m, struct nb_bytes in)
{
	uint8_t out[RELAYMSG_AUTH_MAX];

	if (m->type == RELAYMSG_AUTH) {
		assert_int_equal(relaymsg_auth(out, m->id, m->body), in.n);
		assert_memory_equal(out, in.p, in.n);
	} else if (m->type == RELAYMSG_TRANSPORT) {
		relaymsg_transport_header(out, m->id);
		assert_memory_equal(out, in.p, RELAYMSG_TRANSPORT_HEADER);
	} else {
		relaymsg_header(out, m->type);
		assert_memory_equal(out, in.p, RELAYMSG_HEADER);
	}
}

static unsigned check_session(const char *name)
{
	json_t *j = load(name), *f;
	unsigned n = 0;
	size_t i;

	json_array_foreach(json_object_get(j, "frames"), i, f) {
		const json_t *want = json_object_get(f, "parsed");
		const char *kind = text(want, "name");
		struct nb_bytes in = unhex(text(f, "hex"));
		struct relaymsg m;
		int err = relaymsg_decode(&m, in);

		if (!kind)
			continue;
		n++;
		if (!strcmp(kind, "unknown")) {
			assert_int_equal(err, NB_E_UNSUPPORTED);
			continue;
		}
		assert_int_equal(m.type, json_integer_value(json_object_get(want, "type")));
		if (err) {
			assert_int_equal(err, NB_E_BAD);
			assert_int_equal((in.n - 2) % RELAYMSG_ID_LEN, 35);
			continue;
		}
		if (m.type == RELAYMSG_AUTH) {
			check_hex(nb_bytes(m.id, RELAYMSG_ID_LEN), text(want, "peer_id"));
			check_hex(m.body, text(want, "token"));
		} else if (m.type == RELAYMSG_AUTH_RESPONSE) {
			assert_true(nb_bytes_eq_str(m.body, text(want, "instance_url")));
		} else if (m.type == RELAYMSG_TRANSPORT) {
			check_hex(nb_bytes(m.id, RELAYMSG_ID_LEN), text(want, "peer_id"));
			assert_int_equal(m.body.n, in.n - 38);
		} else {
			assert_int_equal(m.n_ids, json_array_size(json_object_get(want, "peer_ids")));
		}
		check_encode(&m, in);
	}
	json_decref(j);
	return n;
}

static void test_recorded(void **state)
{
	(void)state;
	assert_true(check_session("client-a") > 40);
	assert_true(check_session("client-b") > 10);
	assert_true(check_session("client-b-relay-only") > 15);
	assert_true(check_session("peer-a") > 20);
	assert_int_equal(check_session("peer-b"), 5);
	assert_int_equal(check_session("server-shutdown"), 3);
}

static void test_peer_ids(void **state)
{
	json_t *j = load("peer-id"), *e;
	char shown[RELAYMSG_ID_TEXT];
	uint8_t id[RELAYMSG_ID_LEN];
	size_t i;

	(void)state;
	assert_true(json_array_size(json_object_get(j, "ids")) >= 8);
	json_array_foreach(json_object_get(j, "ids"), i, e) {
		relaymsg_peer_id(id, text(e, "public_key"));
		check_hex(nb_bytes(id, sizeof id), text(e, "peer_id_hex"));
		relaymsg_peer_id_text(shown, id);
		assert_string_equal(shown, text(e, "display"));
	}
	json_decref(j);
}

static void test_tokens(void **state)
{
	json_t *j = load("tokens"), *e;
	uint8_t key[32], token[RELAYMSG_TOKEN_MAX];
	size_t i, n;

	(void)state;
	assert_true(json_array_size(json_object_get(j, "relay")) >= 6);
	json_array_foreach(json_object_get(j, "relay"), i, e) {
		int64_t expiry = strtoll(text(e, "tokenPayload"), NULL, 10);

		relaymsg_key(key, nb_bytes_str(text(e, "secret")));
		check_hex(nb_bytes(key, sizeof key), text(e, "hmac_key_hex"));
		n = relaymsg_token(token, key, expiry);
		check_hex(nb_bytes(token, n), text(e, "token_hex"));
		memset(token, 0, sizeof token);
		n = relaymsg_token_join(token, text(e, "tokenPayload"), text(e, "tokenSignature"));
		check_hex(nb_bytes(token, n), text(e, "token_hex"));
		assert_int_equal(relaymsg_token_check(nb_bytes(token, n), key, expiry), 0);
		assert_int_equal(relaymsg_token_check(nb_bytes(token, n), key, expiry + 1), NB_E_TIMEOUT);
		for (size_t k = 0; k < n; k++) {
			token[k] ^= 0x10;
			assert_true(relaymsg_token_check(nb_bytes(token, n), key, expiry) < 0);
			token[k] ^= 0x10;
			assert_true(relaymsg_token_check(nb_bytes(token, k), key, expiry) < 0);
		}
	}
	json_decref(j);
}

/* Right MAC, payload that is no time. */
static void test_token_payloads(void **state)
{
	static const char *const bad[] = { "190000000", "19000000000000000000", "9223372036854775808", "-1900000000",
					   "1900000000 ", "0x71400000000", "19000000a0" };
	uint8_t key[32] = { 7 }, token[RELAYMSG_TOKEN_MAX], out[RELAYMSG_TOKEN_MAX];
	char sig[NB_BASE64_LEN(32) + 1];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		size_t n = strlen(bad[i]);

		token[0] = 1;
		memcpy(token + 33, bad[i], n);
		nbc_hmac_sha256(token + 1, nb_bytes(key, 32), nb_bytes_str(bad[i]));
		assert_int_equal(relaymsg_token_check(nb_bytes(token, 33 + n), key, 0), NB_E_BAD);
	}
	assert_int_equal(relaymsg_token(token, key, 5), 43);	/* padded to what a checker wants */
	assert_int_equal(relaymsg_token_check(nb_bytes(token, 43), key, 5), 0);
	nb_base64_encode(sig, sizeof sig, nb_bytes(key, 31));
	assert_int_equal(relaymsg_token_join(out, "1900000000", sig), 0);
	assert_int_equal(relaymsg_token_join(out, "1900000000", "!"), 0);
	assert_int_equal(relaymsg_token_join(out, "", "x"), 0);
	assert_int_equal(relaymsg_token_join(out, NULL, NULL), 0);
}

static void test_malformed(void **state)
{
	struct relaymsg m;
	uint8_t in[60] = { 1, 3 }, out[RELAYMSG_AUTH_MAX], token[RELAYMSG_TOKEN_MAX + 1] = { 0 }, id[RELAYMSG_ID_LEN] = { 0 };

	(void)state;
	assert_int_equal(relaymsg_decode(&m, nb_bytes(in, 0)), NB_E_SHORT);
	assert_int_equal(relaymsg_decode(&m, nb_bytes(in, 1)), NB_E_SHORT);
	assert_int_equal(relaymsg_decode(&m, nb_bytes(in, 37)), NB_E_BAD);
	assert_int_equal(relaymsg_decode(&m, nb_bytes(in, 38)), 0);
	assert_int_equal(m.body.n, 0);
	in[0] = 2;
	assert_int_equal(relaymsg_decode(&m, nb_bytes(in, 38)), NB_E_UNSUPPORTED);
	in[0] = 1;
	for (unsigned t = 0; t < 256; t++) {
		in[1] = (uint8_t)t;
		if (t < 3 || t > 11)
			assert_int_equal(relaymsg_decode(&m, nb_bytes(in, 38)), NB_E_UNSUPPORTED);
	}
	in[1] = RELAYMSG_AUTH_RESPONSE;
	assert_int_equal(relaymsg_decode(&m, nb_bytes(in, 2)), NB_E_BAD);
	in[1] = RELAYMSG_AUTH;
	assert_int_equal(relaymsg_decode(&m, nb_bytes(in, 60)), NB_E_BAD);
	assert_int_equal(relaymsg_auth(out, id, nb_bytes(token, RELAYMSG_TOKEN_MAX)), RELAYMSG_AUTH_MAX);
	assert_int_equal(relaymsg_auth(out, id, nb_bytes(token, RELAYMSG_TOKEN_MAX + 1)), 0);
}

static void check_url(const char *in, const char *host, unsigned port, bool tls, const char *header)
{
	char h[RELAYMSG_HOST_MAX];
	struct relaymsg_url u;

	assert_int_equal(relaymsg_url_parse(&u, in), 0);
	assert_string_equal(u.host, host);
	assert_int_equal(u.port, port);
	assert_int_equal(u.tls, tls);
	relaymsg_url_host(h, &u);
	assert_string_equal(h, header);
}

static void test_urls(void **state)
{
	static const char *const bad[] = { "", "rel:/x", "http://x", "rel://", "rels://:443", "rel://h:", "rel://h:0",
					   "rel://h:65536", "rel://h:8x", "rel://[::1", "rel://[::1]x", "rel://u@h", "rel://a b",
					   "rel://h\r\nx" };
	char huge[400] = "rel://";
	struct relaymsg_url u;

	(void)state;
	check_url("rel://203.0.113.10:8080", "203.0.113.10", 8080, false, "203.0.113.10:8080");
	check_url("rels://relay.example", "relay.example", 443, true, "relay.example");
	check_url("REL://relay.example", "relay.example", 80, false, "relay.example");
	check_url("rels://[2001:db8::1]:33080/path?x", "2001:db8::1", 33080, true, "[2001:db8::1]:33080");
	check_url("rel://[::1]", "::1", 80, false, "[::1]");
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(relaymsg_url_parse(&u, bad[i]), NB_E_BAD);
	memset(huge + 6, 'a', RELAYMSG_URL_MAX);
	assert_int_equal(relaymsg_url_parse(&u, huge), NB_E_BAD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recorded), cmocka_unit_test(test_peer_ids), cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_token_payloads), cmocka_unit_test(test_malformed), cmocka_unit_test(test_urls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
