/* wg_noise_test.c - recorded sessions of another implementation, step by step: every chaining key, hash,
 * product, key, sealed field and packet. The tested unit is included so that its steps can be watched. */
#include "wg_help.h"

/* Everything the handshake derives, in order. */
static uint8_t trace[256][32];
static size_t ntrace;

static void note(const uint8_t *v)
{
	if (v && ntrace < 256) {
		memcpy(trace[ntrace++], v, 32);
	}
}

static void watch_kdf(uint8_t *o1, uint8_t *o2, uint8_t *o3, const uint8_t key[32], const void *p, size_t n)
{
	wg_kdf(o1, o2, o3, key, p, n);
	note(o1);
	note(o2);
	note(o3);
}

static int watch_dh(uint8_t out[32], const uint8_t priv[32], const uint8_t pub[32])
{
	int err = wg_dh(out, priv, pub);

	note(out);
	return err;
}

static void watch_final(struct wg_blake2s *s, uint8_t *out)
{
	wg_blake2s_final(s, out);
	note(out);
}

static void watch_blake2s(uint8_t *out, size_t outlen, const void *key, size_t keylen, const void *p, size_t n)
{
	wg_blake2s(out, outlen, key, keylen, p, n);
	note(out);
}

#define wg_kdf(...) watch_kdf(__VA_ARGS__)
#define wg_dh(...) watch_dh(__VA_ARGS__)
#define wg_blake2s_final(...) watch_final(__VA_ARGS__)
#define wg_blake2s(...) watch_blake2s(__VA_ARGS__)
#include "wg/noise.c"
#undef wg_kdf
#undef wg_dh
#undef wg_blake2s_final
#undef wg_blake2s

struct session {
	json_t *j;
	struct wg_self a, b;		/* initiator, responder */
	struct wg_remote to_a, to_b;
	uint8_t eph_a[32], eph_b[32];
	uint8_t ini[WG_INI_LEN], res[WG_RES_LEN], tai[WG_TAI];
};

static const char *step_hex(const json_t *j, const char *name)
{
	size_t i;
	json_t *s;

	json_array_foreach(json_object_get(j, "steps"), i, s)
		if (strcmp(help_str(s, "step"), name) == 0)
			return help_str(s, "hex");
	fail_msg("no step %s", name);
	return NULL;
}

static void session_load(struct session *s, const char *path)
{
	uint8_t key[32];
	json_t *packets;

	memset(s, 0, sizeof *s);
	s->j = help_json(path);
	help_field(key, 32, s->j, "initiator_static_private");
	wg_self_set(&s->a, key);
	help_field(key, 32, s->j, "responder_static_private");
	wg_self_set(&s->b, key);
	assert_int_equal(wg_remote_set(&s->to_b, &s->a, s->b.pub), 0);
	assert_int_equal(wg_remote_set(&s->to_a, &s->b, s->a.pub), 0);
	if (json_object_get(s->j, "psk")) {
		help_field(s->to_a.psk, 32, s->j, "psk");
		help_field(s->to_b.psk, 32, s->j, "psk");
	}
	help_field(s->eph_a, 32, s->j, "initiator_ephemeral_private");
	help_field(s->eph_b, 32, s->j, "responder_ephemeral_private");
	help_hex(s->tai, WG_TAI, step_hex(s->j, "decrypted timestamp"));
	packets = json_object_get(s->j, "packets");
	assert_int_equal(help_hex(s->ini, sizeof s->ini, help_str(json_array_get(packets, 0), "hex")), WG_INI_LEN);
	assert_int_equal(help_hex(s->res, sizeof s->res, help_str(json_array_get(packets, 1), "hex")), WG_RES_LEN);
}

/* Each 32-byte step (up to only_before, if given) must be in the trace. */
static void check_trace(const json_t *j, const char *only_before)
{
	size_t i, at, seen = 0;
	json_t *s;
	uint8_t want[32];

	json_array_foreach(json_object_get(j, "steps"), i, s) {
		const char *name = help_str(s, "step"), *hex = help_str(s, "hex");

		if (only_before && strcmp(name, only_before) == 0)
			break;
		/* mac keys, macs and plain fields are checked elsewhere */
		if (strlen(hex) != 64 || strncmp(name, "mac1", 4) == 0 || strncmp(name, "decrypted", 9) == 0 ||
		    strncmp(name, "dh ss", 5) == 0 || strncmp(name, "transport", 9) == 0)
			continue;
		help_hex(want, 32, hex);
		for (at = 0; at < ntrace && memcmp(trace[at], want, 32) != 0; at++)
			;
		if (at == ntrace)
			fail_msg("step not reached: %s", name);
		seen++;
	}
	assert_true(seen >= 11);
}

static void transport_keys_match(const struct session *s, const struct wg_session_keys *a, const struct wg_session_keys *b)
{
	uint8_t want[32];

	help_hex(want, 32, step_hex(s->j, "transport key initiator to responder"));
	assert_memory_equal(a->send, want, 32);
	assert_memory_equal(b->recv, want, 32);
	help_hex(want, 32, step_hex(s->j, "transport key responder to initiator"));
	assert_memory_equal(a->recv, want, 32);
	assert_memory_equal(b->send, want, 32);
}

/* Open every recorded transport packet, then seal its content again: the bytes must be the recorded ones. */
static void transport_packets_match(const struct session *s, const struct wg_session_keys *a)
{
	size_t i, n = 0;
	json_t *k;

	json_array_foreach(json_object_get(s->j, "packets"), i, k) {
		uint8_t rec[256], work[256], inner[256];
		size_t len;
		bool from_a = strcmp(help_str(k, "from"), "initiator") == 0;

		if (i < 2)
			continue;
		len = help_hex(rec, sizeof rec, help_str(k, "hex"));
		memcpy(work, rec, len);
		struct wg_aead_op op = { work + 16, len - 32, from_a ? a->send : a->recv, nb_get_le64(work + 8), false };

		wg_aead()->open(&op, 1);
		assert_true(op.ok);
		if (json_object_get(k, "inner_hex")) {
			assert_int_equal(help_hex(inner, sizeof inner, help_str(k, "inner_hex")), op.n);
			assert_memory_equal(op.p, inner, op.n);
		} else {
			assert_int_equal(op.n, 0);
		}
		wg_aead()->seal(&op, 1);
		assert_memory_equal(work, rec, len);
		n++;
	}
	assert_true(n >= 4);
}

static void run_session(const char *path)
{
	struct session s;
	struct wg_noise na, nb;
	struct wg_session_keys ka, kb;
	struct wg_cookie_jar jar = { .have = false };
	uint8_t msg[WG_INI_LEN], res[WG_RES_LEN], pub[32], tai[WG_TAI], want[32];
	struct nb_time now = { 0 };

	session_load(&s, path);

	help_hex(want, 32, step_hex(s.j, "dh ss = DH(Si, Sr)"));
	assert_memory_equal(s.to_b.ss, want, 32);
	assert_memory_equal(s.to_a.ss, want, 32);
	help_hex(want, 32, step_hex(s.j, "mac1 key of responder"));
	assert_memory_equal(s.b.mac1_key, want, 32);
	assert_memory_equal(s.to_b.mac1_key, want, 32);
	help_hex(want, 32, step_hex(s.j, "mac1 key of initiator"));
	assert_memory_equal(s.a.mac1_key, want, 32);

	/* Write the initiation: all steps up to its mac, and the very packet. */
	ntrace = 0;
	assert_int_equal(wg_create_initiation(msg, &na, &s.a, &s.to_b, nb_get_le32(s.ini + WG_INI_SENDER), s.tai, s.eph_a), 0);
	check_trace(s.j, "mac1 key of responder");
	wg_add_macs(msg, WG_INI_LEN, &jar, &s.to_b, now);
	assert_memory_equal(msg, s.ini, WG_INI_LEN);
	assert_true(wg_mac1_ok(&s.b, s.ini, WG_INI_LEN));
	assert_false(wg_mac1_ok(&s.a, s.ini, WG_INI_LEN));

	/* Read it, answer it: all steps of the whole handshake. */
	ntrace = 0;
	assert_int_equal(wg_consume_initiation_static(&nb, pub, &s.b, s.ini), 0);
	assert_memory_equal(pub, s.a.pub, 32);
	assert_int_equal(wg_consume_initiation(&nb, tai, &s.to_a, s.ini), 0);
	assert_memory_equal(tai, s.tai, WG_TAI);
	assert_int_equal(wg_create_response(res, &kb, &nb, &s.to_a, nb_get_le32(s.res + WG_RES_SENDER), s.eph_b), 0);
	check_trace(s.j, NULL);
	wg_add_macs(res, WG_RES_LEN, &jar, &s.to_a, now);
	assert_memory_equal(res, s.res, WG_RES_LEN);

	/* A forged answer changes nothing; the true one then completes. */
	res[WG_RES_EMPTY] ^= 1;
	assert_int_equal(wg_consume_response(&ka, &na, &s.a, &s.to_b, res), NB_E_AUTH);
	assert_int_equal(wg_consume_response(&ka, &na, &s.a, &s.to_b, s.res), 0);
	transport_keys_match(&s, &ka, &kb);
	transport_packets_match(&s, &ka);

	/* Nothing secret stays behind. */
	static const struct wg_noise wiped;
	assert_memory_equal(&na, &wiped, sizeof na);
	assert_memory_equal(&nb, &wiped, sizeof nb);
	json_decref(s.j);
}

static void with_psk(void **state)
{
	(void)state;
	run_session("tests/vectors/wireguard/handshake-psk.json");
}

static void without_psk(void **state)
{
	(void)state;
	run_session("tests/vectors/wireguard/handshake-nopsk.json");
}

/* Initiations between stock clients: the owner of the private key finds who and when. */
static void stock_initiations(void **state)
{
	json_t *j = help_json("tests/vectors/wireguard/clients.json"), *k;
	struct wg_self self[2];
	struct wg_remote remote;
	size_t i, n, initiations = 0, others = 0;
	uint8_t key[32];

	(void)state;
	for (i = 0; i < 2; i++) {
		const json_t *who = json_object_get(j, i ? "b" : "a");

		assert_int_equal(nb_base64_decode(key, 32, &n, nb_bytes_str(help_str(who, "private"))), 0);
		wg_self_set(&self[i], key);
	}
	json_array_foreach(json_object_get(j, "packets"), i, k) {
		uint8_t msg[1500], want[32], pub[32], tai[WG_TAI];
		size_t len = help_hex(msg, sizeof msg, help_str(k, "hex"));
		const struct wg_self *to = &self[help_str(k, "sender")[0] == 'a'];
		struct wg_noise noise;

		assert_true(wg_looks_like(nb_bytes(msg, len)));
		if (len == WG_INI_LEN || len == WG_RES_LEN)
			assert_true(wg_mac1_ok(to, msg, len));
		if (strcmp(help_str(k, "kind"), "initiation") != 0) {
			others++;
			continue;
		}
		assert_int_equal(wg_consume_initiation_static(&noise, pub, to, msg), 0);
		help_field(want, 32, k, "decrypted_static");
		assert_memory_equal(pub, want, 32);
		wg_remote_set(&remote, to, pub);
		assert_int_equal(wg_consume_initiation(&noise, tai, &remote, msg), 0);
		help_field(want, WG_TAI, k, "decrypted_timestamp");
		assert_memory_equal(tai, want, WG_TAI);
		initiations++;
	}
	assert_int_equal(initiations, 5);
	assert_int_equal(others, 20);
	json_decref(j);
}

/* One flipped bit anywhere in an initiation or response is refused. */
static void flipped_bits(void **state)
{
	struct session s;
	struct wg_noise na, nb;
	struct wg_session_keys keys;
	uint8_t msg[WG_INI_LEN], pub[32], tai[WG_TAI];

	(void)state;
	session_load(&s, "tests/vectors/wireguard/handshake-psk.json");
	for (size_t bit = 8 * WG_INI_EPHEMERAL; bit < 8 * (WG_INI_LEN - 32); bit += 3) {
		memcpy(msg, s.ini, WG_INI_LEN);
		msg[bit / 8] ^= (uint8_t)(1 << bit % 8);
		/* X25519 ignores the top bit of a point, but the hash does not. */
		assert_true(wg_consume_initiation_static(&nb, pub, &s.b, msg) || wg_consume_initiation(&nb, tai, &s.to_a, msg));
	}
	assert_int_equal(wg_create_initiation(msg, &na, &s.a, &s.to_b, nb_get_le32(s.ini + 4), s.tai, s.eph_a), 0);
	for (size_t bit = 8 * WG_RES_EPHEMERAL; bit < 8 * (WG_RES_LEN - 32); bit += 3) {
		uint8_t res[WG_RES_LEN];

		memcpy(res, s.res, WG_RES_LEN);
		res[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(wg_consume_response(&keys, &na, &s.a, &s.to_b, res), NB_E_AUTH);
	}
	json_decref(s.j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(with_psk), cmocka_unit_test(without_psk),
		cmocka_unit_test(stock_initiations), cmocka_unit_test(flipped_bits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
