/* wg_primitives_test.c - BLAKE2s, HMAC and the cipher kernels against published vectors and libsodium. */
#include "wg_help.h"

#include <sodium.h>

static void blake2s_rfc(void **state)
{
	uint8_t out[32], want[32];

	(void)state;
	/* RFC 7693, appendix B */
	help_hex(want, 32, "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982");
	wg_blake2s(out, 32, NULL, 0, "abc", 3);
	assert_memory_equal(out, want, 32);
}

static void blake2s_keyed(void **state)
{
	uint8_t key[32], out[32], want[32], in[255];

	(void)state;
	for (int i = 0; i < 255; i++)
		in[i] = (uint8_t)i;
	memcpy(key, in, 32);
	/* The first and last rows of the reference package's keyed list. */
	help_hex(want, 32, "48a8997da407876b3d79c0d92325ad3b89cbb754d86ab71aee047ad345fd2c49");
	wg_blake2s(out, 32, key, 32, NULL, 0);
	assert_memory_equal(out, want, 32);
	help_hex(want, 32, "3fb735061abc519dfe979e54c1ee5bfad0a9d858b3315bad34bde999efd724dd");
	wg_blake2s(out, 32, key, 32, in, 255);
	assert_memory_equal(out, want, 32);
}

/* RFC 7693, appendix E: a hash over hashes of many lengths, keyed and not. */
static void self_seq(uint8_t *out, size_t len, uint32_t seed)
{
	uint32_t a = 0xdead4bad * seed, b = 1;

	for (size_t i = 0; i < len; i++) {
		uint32_t t = a + b;

		a = b;
		b = t;
		out[i] = (uint8_t)(t >> 24);
	}
}

static void blake2s_grand_hash(void **state)
{
	static const size_t md_len[4] = { 16, 20, 28, 32 }, in_len[6] = { 0, 3, 64, 65, 255, 1024 };
	uint8_t in[1024], md[32], key[32], want[32];
	struct wg_blake2s all;

	(void)state;
	wg_blake2s_init(&all, 32, NULL, 0);
	for (int i = 0; i < 4; i++) {
		for (int j = 0; j < 6; j++) {
			self_seq(in, in_len[j], (uint32_t)in_len[j]);
			wg_blake2s(md, md_len[i], NULL, 0, in, in_len[j]);
			wg_blake2s_update(&all, md, md_len[i]);
			self_seq(key, md_len[i], (uint32_t)md_len[i]);
			wg_blake2s(md, md_len[i], key, md_len[i], in, in_len[j]);
			wg_blake2s_update(&all, md, md_len[i]);
		}
	}
	wg_blake2s_final(&all, md);
	help_hex(want, 32, "6a411f08ce25adcdfb02aba641451cec53c598b24f4fc787fbdc88797f4c1dfe");
	assert_memory_equal(md, want, 32);
}

static void hmac_long_key(void **state)
{
	uint8_t key[100], hashed[32], a[32], b[32];

	(void)state;
	memset(key, 7, sizeof key);
	wg_blake2s(hashed, 32, NULL, 0, key, sizeof key);
	wg_hmac(a, key, sizeof key, "x", 1);
	wg_hmac(b, hashed, 32, "x", 1);
	assert_memory_equal(a, b, 32);
}

/* RFC 8439, A.5: the nonce there has the shape of ours. (Its tag covers associated data, ours none.) */
static void chacha_rfc(void **state)
{
	static const char text[] = "Internet-Drafts are draft documents valid for a maximum of six months and may be "
		"updated, replaced, or obsoleted by other documents at any time. It is inappropriate to use "
		"Internet-Drafts as reference material or to cite them other than as "
		"/\xe2\x80\x9cwork in progress./\xe2\x80\x9d";
	static const char cipher[] =
		"64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43eea09ee94e382d26b0"
		"bdb7b73c321b0100d4f03b7f355894cf332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c855"
		"9797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4b9166c767b804d46a59b5216cde7a4e9"
		"9040c5a40433225ee282a1b0a06c523eaf4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a"
		"0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a1049e617d91d361094fa68f0ff77987130"
		"305beaba2eda04df997b714d6c6f2c29a6ad5cb4022b02709b";
	uint8_t key[32], buf[400], want[400];
	struct wg_aead_op op = { buf, sizeof text - 1, key, 0x0807060504030201, false };

	(void)state;
	help_hex(key, 32, "1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0");
	assert_int_equal(help_hex(want, sizeof want, cipher), sizeof text - 1);
	memcpy(buf, text, sizeof text - 1);
	wg_aead()->seal(&op, 1);
	assert_memory_equal(buf, want, sizeof text - 1);
	wg_aead()->open(&op, 1);
	assert_true(op.ok);
	assert_memory_equal(buf, text, sizeof text - 1);
}

/* Every length up to some blocks, in batches, against libsodium; and one flipped bit each. */
static void kernel_matches_sodium(void **state)
{
	enum { N = 300 };
	static uint8_t mine[N][N + 16], theirs[N][N + 16];
	static struct wg_aead_op ops[N];
	uint64_t seed = 5;
	uint8_t key[32], nonce[12];

	(void)state;
	help_random(&seed, key, 32);
	for (size_t i = 0; i < N; i++) {
		uint64_t counter;

		help_random(&seed, mine[i], i);
		help_random(&seed, &counter, sizeof counter);
		nb_put_le32(nonce, 0);
		nb_put_le64(nonce + 4, counter);
		crypto_aead_chacha20poly1305_ietf_encrypt(theirs[i], NULL, mine[i], i, NULL, 0, NULL, nonce, key);
		ops[i] = (struct wg_aead_op){ mine[i], i, key, counter, false };
	}
	wg_aead()->seal(ops, N);
	for (size_t i = 0; i < N; i++) {
		assert_memory_equal(mine[i], theirs[i], i + 16);
		if (i % 2)
			mine[i][seed % (i + 16)] ^= 1;
	}
	wg_aead()->open(ops, N);
	for (size_t i = 0; i < N; i++)
		assert_int_equal(ops[i].ok, i % 2 == 0);
}

static void dh_refuses_small_order(void **state)
{
	uint8_t zero[32] = { 0 }, one[32] = { 1 }, priv[32] = { 9, 9 }, out[32];

	(void)state;
	wg_dh_clamp(priv);
	assert_int_equal(wg_dh(out, priv, zero), NB_E_BAD);
	assert_int_equal(wg_dh(out, priv, one), NB_E_BAD);
	assert_memory_equal(out, zero, 32);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blake2s_rfc),	       cmocka_unit_test(blake2s_keyed),
		cmocka_unit_test(blake2s_grand_hash),  cmocka_unit_test(hmac_long_key),
		cmocka_unit_test(chacha_rfc),	       cmocka_unit_test(kernel_matches_sodium),
		cmocka_unit_test(dh_refuses_small_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
