/* crypto_crypto_test.c - src/crypto/crypto.c against published vectors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/err.h"
#include "crypto/crypto.h"

/* argon2-cffi 25.1: hash_secret(b"password", b"somesaltsomesalt", 2, 64, 1, 32, Type.ID) */
#define VECTOR_ARGON2 "$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHRzb21lc2FsdA" \
		      "$Gpj7qOY5RCXJvcMzqcdQqvgR3wcPX7SleI4c9NtXk6E"

/* Bytes of a hex text, in one of eight rotating buffers. */
static struct nb_bytes hex(const char *s)
{
	static uint8_t ring[8][512];
	static unsigned turn;
	uint8_t *p = ring[turn++ % 8];
	size_t n = strlen(s) / 2;

	assert_true(n <= sizeof ring[0]);
	assert_int_equal(nb_hex_decode(p, n, nb_bytes_str(s)), 0);
	return nb_bytes(p, n);
}

static void same(const void *got, const char *want)
{
	struct nb_bytes w = hex(want);

	assert_memory_equal(got, w.p, w.n);
}

static void counting(void *ctx, void *out, size_t n)
{
	uint8_t *next = ctx, *p = out;

	while (n--)
		*p++ = (*next)++;
}

/* RFC 7748, 5.2 and 6.1. */
static void test_x25519(void **state)
{
	uint8_t out[32], zero[32] = { 0 };

	(void)state;
	assert_int_equal(nbc_x25519(out,
		hex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4").p,
		hex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c").p), 0);
	same(out, "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552");
	nbc_x25519_base(out, hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb").p);
	same(out, "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
	assert_int_equal(nbc_x25519(out, out, zero), NB_E_BAD);
	assert_memory_equal(out, zero, 32);
}

static void test_keys(void **state)
{
	uint8_t secret[32], pub[32], again[32], next = 0;
	char text[NB_KEY_TEXT_LEN];

	(void)state;
	/* The client of management-protocol.md, 2: bytes 0..31 with 0x5f as the last one. */
	assert_int_equal(nbc_key_parse(secret,
		nb_bytes_str("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHl8=")), 0);
	nbc_x25519_base(pub, secret);
	nbc_key_format(text, pub);
	assert_string_equal(text, "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8=");
	nbc_keypair(again, pub, counting, &next);
	assert_memory_equal(again, secret, 32);
	assert_int_equal(nbc_key_parse(again, nb_bytes_str("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd")),
			 NB_E_BAD);
	assert_int_equal(nbc_key_parse(again, nb_bytes_str("!AECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHl8=")),
			 NB_E_BAD);
	assert_int_equal(nbc_key_parse(again, nb_bytes_str("")), NB_E_BAD);
}

/* management-protocol.md, 2. */
static void test_box(void **state)
{
	static const char nonce[] = "000102030405060708090a0b0c0d0e0f1011121314151617";
	static const char body[] = "000102030405060708090a0b0c0d0e0f1011121314151617"
				   "c36aab8341a54923e8420a17d348602f69d1b5311d";
	uint8_t secret[32], pub[32], key[32], other[32], out[128], next = 0;
	struct nb_buf b;

	(void)state;
	nbc_key_parse(secret, nb_bytes_str("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHl8="));
	nbc_key_parse(pub, nb_bytes_str("NYBy1jZYgNGu6jKa35EhODhR7SGijjt16WXQ0s0WYlQ="));
	assert_int_equal(nbc_box_key(key, secret, pub), 0);
	nbc_key_parse(secret, nb_bytes_str("ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pn8="));
	nbc_key_parse(pub, nb_bytes_str("j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8="));
	assert_int_equal(nbc_box_key(other, secret, pub), 0);
	assert_memory_equal(key, other, 32);

	nbc_box_seal(out, hex("0a030a0161"), key, hex(nonce).p);
	same(out, body);
	nbc_box_seal(out, nb_bytes(NULL, 0), key, hex(nonce).p);
	same(out, "000102030405060708090a0b0c0d0e0f1011121314151617b647a9ee7303e0d0235d0a8e90544b04");

	assert_int_equal(nbc_box_open(out, hex(body), key), 0);
	same(out, "0a030a0161");
	nb_buf_init(&b, 4096);
	assert_int_equal(nbc_box_seal_buf(&b, hex("0a030a0161"), key, counting, &next), 0);
	assert_true(nb_bytes_eq(nb_buf_view(&b), hex(body)));
	nb_buf_reset(&b);
	assert_int_equal(nbc_box_open_buf(&b, hex(body), key), 0);
	assert_true(nb_bytes_eq(nb_buf_view(&b), hex("0a030a0161")));
	nb_buf_reset(&b);
	nbc_box_seal(out, nb_bytes(NULL, 0), key, hex(nonce).p);
	assert_int_equal(nbc_box_open_buf(&b, nb_bytes(out, 40), key), 0);
	assert_int_equal(b.n, 0);
	/* Every damaged byte and every cut is refused. */
	for (size_t i = 0; i < 45; i++) {
		uint8_t bad[45];

		memcpy(bad, hex(body).p, 45);
		bad[i] ^= 1;
		assert_int_equal(nbc_box_open(out, nb_bytes(bad, 45), key), NB_E_AUTH);
		assert_int_equal(nbc_box_open_buf(&b, nb_bytes(hex(body).p, i), key),
				 i < 40 ? NB_E_SHORT : NB_E_AUTH);
	}
	nb_buf_fini(&b);
	memset(pub, 0, sizeof pub);
	assert_int_equal(nbc_box_key(key, secret, pub), NB_E_BAD);
}

/* RFC 8439, 2.8.2; draft-irtf-cfrg-xchacha-03, A.3.1. */
static void test_aead(void **state)
{
	static const char text[] = "Ladies and Gentlemen of the class of '99: If I could offer you "
				   "only one tip for the future, sunscreen would be it.";
	struct nb_bytes key = hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
	struct nb_bytes ad = hex("50515253c0c1c2c3c4c5c6c7");
	struct nb_bytes nonce = hex("070000004041424344454647");
	struct nb_bytes xnonce = hex("404142434445464748494a4b4c4d4e4f5051525354555657");
	uint8_t buf[160];

	(void)state;
	memcpy(buf, text, 114);
	nbc_aead_seal(buf, nb_bytes(buf, 114), ad, nonce.p, key.p);
	same(buf, "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6");
	same(buf + 114, "1ae10b594f09e26a7e902ecbd0600691");
	assert_int_equal(nbc_aead_open(buf, nb_bytes(buf, 130), ad, nonce.p, key.p), 0);
	assert_memory_equal(buf, text, 114);
	assert_int_equal(nbc_aead_open(buf, nb_bytes(buf, 130), ad, nonce.p, key.p), NB_E_AUTH);
	assert_int_equal(nbc_aead_open(buf, nb_bytes(buf, 15), ad, nonce.p, key.p), NB_E_SHORT);

	memcpy(buf, text, 114);
	nbc_xaead_seal(buf, nb_bytes(buf, 114), ad, xnonce.p, key.p);
	same(buf, "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb");
	same(buf + 114, "c0875924c1c7987947deafd8780acf49");
	assert_int_equal(nbc_xaead_open(buf, nb_bytes(buf, 130), ad, xnonce.p, key.p), 0);
	assert_memory_equal(buf, text, 114);
	assert_int_equal(nbc_xaead_open(buf, nb_bytes(buf, 130), ad, xnonce.p, key.p), NB_E_AUTH);
	assert_int_equal(nbc_xaead_open(buf, nb_bytes(buf, 3), ad, xnonce.p, key.p), NB_E_SHORT);
}

/* FIPS 180 and RFC 1321 examples; RFC 2202 and RFC 4231, case 2; the CRC check value. */
static void test_hashes(void **state)
{
	struct nb_bytes abc = nb_bytes_str("abc"), key = nb_bytes_str("Jefe");
	struct nb_bytes parts[3] = { nb_bytes_str("what do ya want "), nb_bytes(NULL, 0),
				     nb_bytes_str("for nothing?") };
	struct nb_bytes whole = nb_bytes_str("what do ya want for nothing?");
	uint8_t out[32];

	(void)state;
	nbc_md5(out, abc);
	same(out, "900150983cd24fb0d6963f7d28e17f72");
	nbc_sha1(out, abc);
	same(out, "a9993e364706816aba3e25717850c26c9cd0d89d");
	nbc_sha256(out, abc);
	same(out, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	nbc_sha256(out, nb_bytes(NULL, 0));
	same(out, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	nbc_hmac_sha1(out, key, whole);
	same(out, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
	nbc_hmac_sha256(out, key, whole);
	same(out, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	nbc_hmac_sha1_v(out, key, parts, 3);
	same(out, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
	nbc_hmac_sha256_v(out, key, parts, 3);
	same(out, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	assert_int_equal(nbc_crc32(0, nb_bytes_str("123456789")), 0xcbf43926);
	assert_int_equal(nbc_crc32(nbc_crc32(0, nb_bytes_str("1234")), nb_bytes_str("56789")), 0xcbf43926);
	assert_int_equal(nbc_crc32(0xcbf43926, nb_bytes(NULL, 0)), 0xcbf43926);
}

static void test_password(void **state)
{
	char text[NBC_PASSWORD_TEXT];

	(void)state;
	assert_int_equal(nbc_password_hash(text, nb_bytes_str("correct horse"), NBC_PASSWORD_KIB,
					   NBC_PASSWORD_PASSES), 0);
	assert_non_null(strstr(text, "$argon2id$v=19$m=19456,t=2,p=1$"));
	assert_int_equal(nbc_password_verify(text, nb_bytes_str("correct horse")), 0);
	assert_int_equal(nbc_password_verify(text, nb_bytes_str("correct horsf")), NB_E_AUTH);
	assert_int_equal(nbc_password_verify("$argon2id$", nb_bytes_str("x")), NB_E_AUTH);
	assert_int_equal(nbc_password_verify("", nb_bytes_str("x")), NB_E_AUTH);
	assert_false(nbc_password_outdated(text, NBC_PASSWORD_KIB, NBC_PASSWORD_PASSES));
	assert_true(nbc_password_outdated(text, NBC_PASSWORD_KIB * 2, NBC_PASSWORD_PASSES));
	assert_int_equal(nbc_password_hash(text, nb_bytes_str("x"), 1, 1), NB_E_ARG);
	assert_int_equal(nbc_password_verify(VECTOR_ARGON2, nb_bytes_str("password")), 0);
	assert_int_equal(nbc_password_verify(VECTOR_ARGON2, nb_bytes_str("passwore")), NB_E_AUTH);
}

static void test_ids(void **state)
{
	uint8_t next = 0xf0;
	char uuid[NBC_UUID_TEXT], id[NBC_XID_TEXT], rnd[41];
	struct nbc_xid x = { { 0x60, 0xf4, 0x86, 0xe4, 0x28 }, 0x412dc9 };

	(void)state;
	nbc_uuid4(uuid, counting, &next);
	assert_string_equal(uuid, "f0f1f2f3-f4f5-46f7-b8f9-fafbfcfdfeff");
	assert_true(nbc_uuid_parse(uuid, nb_bytes_str("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11")));
	assert_string_equal(uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
	assert_false(nbc_uuid_parse(NULL, nb_bytes_str("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1")));
	assert_false(nbc_uuid_parse(NULL, nb_bytes_str("a0eebc9909c0b-4ef8-bb6d-6bb9bd380a11")));
	assert_false(nbc_uuid_parse(NULL, nb_bytes_str("g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")));

	/* The example of rs/xid's own tests. */
	nbc_xid_next(&x, id, (struct nb_wall){ 1300816219LL * NB_SEC });
	assert_string_equal(id, "9m4e2mr0ui3e8a215n4g");
	nbc_xid_next(&x, id, (struct nb_wall){ 1300816219LL * NB_SEC });
	assert_string_equal(id, "9m4e2mr0ui3e8a215n50");
	assert_true(nbc_xid_valid(nb_bytes_str(id)));
	assert_false(nbc_xid_valid(nb_bytes_str("9m4e2mr0ui3e8a215n4z")));
	assert_false(nbc_xid_valid(nb_bytes_str("9m4e2mr0ui3e8a215n4")));
	nbc_xid_init(&x, nbc_random, NULL);

	nbc_random_text(rnd, 40, "ab3", nbc_random, NULL);
	assert_int_equal(strspn(rnd, "ab3"), 40);
	assert_int_equal(strlen(rnd), 40);
}

static int setup(void **state)
{
	(void)state;
	return nbc_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_x25519), cmocka_unit_test(test_keys), cmocka_unit_test(test_box),
		cmocka_unit_test(test_aead), cmocka_unit_test(test_hashes),
		cmocka_unit_test(test_password), cmocka_unit_test(test_ids),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
