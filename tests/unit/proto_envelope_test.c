/* proto_envelope_test.c - every recorded signal message: envelope read and written byte for byte, box
 * opened with keys computed here, Body decoded and re-encoded, sealed again with the recorded nonce;
 * and the management vector of the specification. */
#include "proto/envelope.h"

#include "base/err.h"
#include "crypto/crypto.h"
#include "proto/signalexchange.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

static json_t *load(const char *name)
{
	char path[128];
	json_t *j;

	snprintf(path, sizeof path, "tests/vectors/%s.json", name);
	j = json_load_file(path, 0, NULL);
	assert_non_null(j);
	return j;
}

static struct nb_bytes unhex(const char *text)
{
	size_t n = strlen(text) / 2;
	uint8_t *p = test_malloc(n + 1);

	assert_int_equal(nb_hex_decode(p, n, nb_bytes_str(text)), 0);
	return nb_bytes(p, n);
}

static void key(uint8_t out[NB_KEY_LEN], const json_t *keys, const char *who, const char *which)
{
	const json_t *peer = json_object_get(json_object_get(keys, "clients"), who);
	size_t n;

	assert_int_equal(nb_base64_decode(out, NB_KEY_LEN, &n,
		nb_bytes_str(json_string_value(json_object_get(peer, which)))), 0);
	assert_int_equal(n, NB_KEY_LEN);
}

/* The nonce of the recording, as a random source. */
static void recorded_nonce(void *ctx, void *out, size_t n)
{
	memcpy(out, ctx, n);
}

static void same_text(const json_t *decoded, const char *name, const char *have)
{
	const char *want = json_string_value(json_object_get(decoded, name));

	assert_string_equal(have ? have : "", want ? want : "");
}

static void check_decoded(const Signalexchange__Body *b, const json_t *decoded)
{
	static const char *const types[] = { "OFFER", "ANSWER", "CANDIDATE", "", "MODE", "GO_IDLE", "HEARTBEAT" };
	const char *type = json_string_value(json_object_get(decoded, "type"));

	assert_string_equal(type ? type : "OFFER", types[b->type]);
	same_text(decoded, "payload", b->payload);
	same_text(decoded, "netBirdVersion", b->netbirdversion);
	same_text(decoded, "relayServerAddress", b->relayserveraddress);
	assert_int_equal(json_integer_value(json_object_get(decoded, "wgListenPort")), b->wglistenport);
	assert_int_equal(json_object_get(decoded, "rosenpassConfig") != NULL, b->rosenpassconfig != NULL);
	assert_int_equal(json_object_get(decoded, "sessionId") != NULL, b->has_sessionid);
	if (b->has_sessionid)
		assert_int_equal(b->sessionid.len, 5);
}

static void check_message(const json_t *keys, const json_t *m)
{
	struct nb_bytes wire = unhex(json_string_value(json_object_get(m, "envelope_hex")));
	struct nb_bytes plain = unhex(json_string_value(json_object_get(m, "plain_hex")));
	uint8_t secret[NB_KEY_LEN], pub[NB_KEY_LEN], shared[NB_KEY_LEN];
	Signalexchange__Body *b;
	struct proto_envelope e;
	struct nb_arena arena;
	struct nb_buf out;

	assert_int_equal(proto_signal_envelope_decode(&e, wire), 0);
	key(secret, keys, json_string_value(json_object_get(m, "to")), "private");
	key(pub, keys, json_string_value(json_object_get(m, "from")), "public");
	assert_int_equal(nbc_box_key(shared, secret, pub), 0);
	nb_arena_init(&arena, 1 << 20);
	assert_int_equal(proto_open(&b, &signalexchange__body__descriptor, e.body, shared, &arena), 0);
	check_decoded(b, json_object_get(m, "decoded"));

	nb_buf_init(&out, 4096);
	assert_int_equal(proto_pack(&out, b), 0);
	assert_int_equal(out.n, plain.n);
	assert_memory_equal(out.p, plain.p, plain.n);
	nb_buf_reset(&out);
	assert_int_equal(proto_seal(&out, b, 4096, shared, recorded_nonce, (void *)(uintptr_t)e.body.p), 0);
	assert_int_equal(out.n, e.body.n);
	assert_memory_equal(out.p, e.body.p, out.n);
	nb_buf_reset(&out);
	assert_int_equal(proto_signal_envelope_encode(&out, &e), 0);
	assert_int_equal(out.n, wire.n);
	assert_memory_equal(out.p, wire.p, wire.n);
	nb_buf_fini(&out);

	shared[0] ^= 1;
	assert_int_equal(proto_open(&b, &signalexchange__body__descriptor, e.body, shared, &arena), NB_E_AUTH);
	assert_null(b);
	nb_arena_fini(&arena);
	test_free((void *)(uintptr_t)wire.p);
	test_free((void *)(uintptr_t)plain.p);
}

static void test_recorded(void **state)
{
	static const char *const names[] = {
		"offer", "answer", "offer-no-ice", "answer-no-ice", "candidate-host", "candidate-srflx",
		"go-idle", "heartbeat",
	};
	json_t *keys = load("keys"), *m;
	size_t n = 0, i;

	(void)state;
	for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
		char path[64];
		json_t *j;

		snprintf(path, sizeof path, "signal/%s", names[k]);
		j = load(path);
		json_array_foreach(json_object_get(j, "messages"), i, m) {
			check_message(keys, m);
			n++;
		}
		json_decref(j);
	}
	assert_true(n >= 8);
	json_decref(keys);
}

/* management-protocol.md section 2, test vector. */
static void test_management(void **state)
{
	static const char sealed[] = "000102030405060708090a0b0c0d0e0f1011121314151617c36aab8341a54923e8420a17"
				     "d348602f69d1b5311d";
	uint8_t secret[NB_KEY_LEN], pub[NB_KEY_LEN], shared[NB_KEY_LEN];
	struct nb_bytes body = unhex(sealed);
	struct proto_envelope e = { .key = nb_bytes_str("j0DF"), .body = body }, back;
	struct nb_buf out;
	size_t n;

	(void)state;
	nb_base64_decode(secret, sizeof secret, &n, nb_bytes_str("ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pn8="));
	nb_base64_decode(pub, sizeof pub, &n, nb_bytes_str("j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8="));
	assert_int_equal(nbc_box_key(shared, secret, pub), 0);
	nb_buf_init(&out, 1000);
	assert_int_equal(nbc_box_open_buf(&out, body, shared), 0);
	assert_int_equal(out.n, 5);
	assert_memory_equal(out.p, "\x0a\x03\x0a\x01\x61", 5);
	nb_buf_reset(&out);
	assert_int_equal(proto_mgmt_envelope_encode(&out, &e), 0);
	assert_int_equal(proto_mgmt_envelope_decode(&back, nb_buf_view(&out)), 0);
	assert_true(nb_bytes_eq(back.key, e.key) && nb_bytes_eq(back.body, e.body) && !back.remote.n);
	nb_buf_fini(&out);
	test_free((void *)(uintptr_t)body.p);
}

static void test_bad(void **state)
{
	struct proto_envelope e;

	(void)state;
	assert_int_equal(proto_signal_envelope_decode(&e, nb_bytes("", 0)), 0);
	assert_int_equal(e.key.n + e.remote.n + e.body.n, 0);
	assert_int_equal(proto_signal_envelope_decode(&e, nb_bytes("\x12\x05""ab", 4)), NB_E_BAD);
	assert_int_equal(proto_signal_envelope_decode(&e, nb_bytes("\x12\x01\x0a", 3)), NB_E_BAD);
	assert_int_equal(proto_signal_envelope_decode(&e, nb_bytes("\x1a\x01\x00", 3)), NB_E_BAD);
	/* the last of two wins; unknown fields and other wire types pass */
	assert_int_equal(proto_signal_envelope_decode(&e,
		nb_bytes("\x12\x01""a\x12\x01""b\x10\x07\x78\x01", 10)), 0);
	assert_true(nb_bytes_eq_str(e.key, "b"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recorded),
		cmocka_unit_test(test_management),
		cmocka_unit_test(test_bad),
	};

	return nbc_init() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
