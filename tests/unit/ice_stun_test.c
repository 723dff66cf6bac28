/* ice_stun_test.c - the STUN codec against RFC 5769, RFC 8489 B.1 (erratum 6268), packets recorded
 * from stock NetBird, and malformed input. */
#include "ice/stun.h"

#include "base/err.h"
#include "crypto/crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* RFC 5769, 2.1 to 2.4; padding bytes are spaces there. */
static const char req_5769[] =
	"000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e7400240004"
	"6e0001ff80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56"
	"781ef2b5b2d3f249c1b571a280280004e57a3bcf";
static const char resp4_5769[] =
	"0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147"
	"e112a643000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";
static const char resp6_5769[] =
	"010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a147"
	"0113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004"
	"c8fb0b4c";
static const char long_term_5769[] =
	"000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b90000"
	"0015001c662f2f3439396b39353464364f4c33346f4c394653547679363473410014000b6578616d706c652e"
	"6f72670000080014f67024656dd64a3e02b8e0712e85c9a28ca89666";
/* RFC 8489, B.1 as corrected by erratum 6268. */
static const char sha256_8489[] =
	"000100902112a44278ad3433c6ad72c029da412e001e00204a3cf38fef6992bda952c6780417da0f24819415"
	"569e60b205c46e41407f1704001500296f624d61744a6f733241414143662f2f3439396b39353464364f4c33"
	"346f4c394653547679363473410000000014000b6578616d706c652e6f726700001d000400020000001c0020"
	"b5c7bf005b6c52a21c51c5e892f81924136296cb927c43149309278cc6518e65";
/* vectors/ice/checks.json: a check and its answer, 0x8100 behind FINGERPRINT. */
static const char stock_check[] =
	"000100a42112a442e3ad6773d04b7a16ab0dcec3000600216650576a4c79754e73766a4d445866723a737473"
	"704d4b4a46704a6672657a7541000000802a00084c64022e807a860d002400047effffff00080014def00a2c"
	"bc9dbacac8271e3d323c3328c21f06f980280004d766e883810000414533574f344a693547552f426c656466"
	"7a37537070424f303877386d624f704b3a6b685a55394335594f615050426f7765554b6d49546148304f4f6d"
	"7a66527877000000";
static const char stock_answer[] =
	"010100742112a442b0608ddc481d460919824240002000080001eb7eea12d554000800140580907cb572e095"
	"f19b46a0e74f6f61150fa73c802800046c016dfe810000414c41774d7975707a4f2f6542502f332b33394b65"
	"594663444a4a41397a345a313a4533574f344a693547552f426c6564667a37537070424f303877386d624f70"
	"4b000000";
/* vectors/ice/stun-server.json: stock answers a Binding from 203.0.113.11:51820. */
static const char stock_binding[] =
	"010100142112a4422f19d58293987276e23d4186002000080001eb7eea12d549802800046b1c2224";
#define PWD_CHECK "QWcCFsPDKSQyQRtZMsnbZBupWzKqIikT"
#define PWD_ANSWER "QWcCFsPDKSQyQRtZMsnbZBupWzKqIikT"
#define PWD_5769 "VOkJxbRl1RmTxUk/WvJxBt"
#define MATRIX "\xe3\x83\x9e\xe3\x83\x88\xe3\x83\xaa\xe3\x83\x83\xe3\x82\xaf\xe3\x82\xb9"

static uint8_t mem[1024];

/* Hex to mem; the slice of it. */
static struct nb_bytes unhex(const char *text)
{
	size_t n = strlen(text) / 2;

	assert_true(n <= sizeof mem);
	assert_int_equal(nb_hex_decode(mem, n, nb_bytes_str(text)), 0);
	return nb_bytes(mem, n);
}

static void decode_hex(struct stun_msg *m, const char *text)
{
	assert_int_equal(stun_decode(m, unhex(text)), 0);
}

static void assert_bytes(struct nb_bytes got, const char *want)
{
	assert_int_equal(got.n, strlen(want));
	assert_memory_equal(got.p, want, got.n);
}

static void assert_endpoint(const struct nb_endpoint *e, const char *want)
{
	char text[NB_ADDR_TEXT];

	nb_endpoint_format(text, e);
	assert_string_equal(text, want);
}

static void rfc5769_request(void **state)
{
	struct stun_msg m;
	struct nb_bytes v;
	uint32_t priority;
	uint64_t tie;

	(void)state;
	decode_hex(&m, req_5769);
	assert_int_equal(m.method, STUN_BINDING);
	assert_int_equal(m.cls, STUN_REQUEST);
	assert_int_equal(stun_find(&m, STUN_A_SOFTWARE, &v), 0);
	assert_bytes(v, "STUN test client");
	assert_int_equal(stun_find(&m, STUN_A_USERNAME, &v), 0);
	assert_bytes(v, "evtj:h6vY");
	assert_int_equal(stun_get_u32(&m, ICE_A_PRIORITY, &priority), 0);
	assert_int_equal(priority, 0x6e0001ff);
	assert_int_equal(stun_get_u64(&m, ICE_A_CONTROLLED, &tie), 0);
	assert_true(tie == 0x932ff9b151263b36ULL);
	assert_int_equal(stun_get_u64(&m, ICE_A_CONTROLLING, &tie), NB_E_NOTFOUND);
	assert_int_equal(stun_get_u64(&m, ICE_A_PRIORITY, &tie), NB_E_BAD);
	assert_int_equal(stun_check_integrity(&m, nb_bytes_str(PWD_5769)), 0);
	assert_int_equal(stun_check_integrity(&m, nb_bytes_str("other")), NB_E_AUTH);
	assert_int_equal(stun_check_integrity_sha256(&m, nb_bytes_str(PWD_5769)), NB_E_NOTFOUND);
	assert_int_equal(stun_check_fingerprint(&m), 0);
}

static void rfc5769_responses(void **state)
{
	static const struct {
		const char *hex, *addr;
	} rows[] = {
		{ resp4_5769, "192.0.2.1:32853" },
		{ resp6_5769, "[2001:db8:1234:5678:11:2233:4455:6677]:32853" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct nb_endpoint e;
		struct stun_msg m;

		decode_hex(&m, rows[i].hex);
		assert_int_equal(m.cls, STUN_SUCCESS);
		assert_int_equal(stun_get_xor_addr(&m, STUN_A_XOR_MAPPED_ADDRESS, &e), 0);
		assert_endpoint(&e, rows[i].addr);
		assert_int_equal(stun_check_integrity(&m, nb_bytes_str(PWD_5769)), 0);
		assert_int_equal(stun_check_fingerprint(&m), 0);
	}
}

static void rfc5769_long_term(void **state)
{
	uint8_t key[STUN_KEY_LEN];
	struct stun_msg m;

	(void)state;
	decode_hex(&m, long_term_5769);
	assert_int_equal(stun_long_term_key(key, nb_bytes_str(MATRIX), nb_bytes_str("example.org"),
					    nb_bytes_str("TheMatrIX")), 0);
	assert_int_equal(stun_check_integrity(&m, nb_bytes(key, sizeof key)), 0);
	assert_int_equal(stun_check_fingerprint(&m), NB_E_NOTFOUND);
}

static void rfc8489_sha256(void **state)
{
	struct stun_msg m;
	uint8_t key[32], hash[32];
	struct nb_bytes v;

	(void)state;
	decode_hex(&m, sha256_8489);
	nbc_sha256(key, nb_bytes_str(MATRIX ":example.org:TheMatrIX"));
	assert_int_equal(stun_check_integrity_sha256(&m, nb_bytes(key, sizeof key)), 0);
	key[0] ^= 1;
	assert_int_equal(stun_check_integrity_sha256(&m, nb_bytes(key, sizeof key)), NB_E_AUTH);
	nbc_sha256(hash, nb_bytes_str(MATRIX ":example.org"));
	assert_int_equal(stun_find(&m, STUN_A_USERHASH, &v), 0);
	assert_true(nb_bytes_eq(v, nb_bytes(hash, sizeof hash)));
}

/* Every value of the RFC's messages written again; the padding differs (spaces there). */
static void write_like_rfc(void **state)
{
	struct nb_endpoint e;
	struct stun_enc enc;
	struct stun_msg m;
	uint8_t txid[STUN_TXID_LEN], key[32], out[512];
	struct nb_buf b;

	(void)state;
	nb_buf_fixed(&b, out, sizeof out);
	decode_hex(&m, sha256_8489);
	memcpy(txid, stun_txid(&m), sizeof txid);
	enc = stun_begin(&b, STUN_REQUEST, STUN_BINDING, txid);
	for (unsigned i = 0; i + 1 < m.nattrs; i++)
		stun_put(&enc, m.attrs[i].type, stun_value(&m, i));
	nbc_sha256(key, nb_bytes_str(MATRIX ":example.org:TheMatrIX"));
	stun_put_integrity_sha256(&enc, nb_bytes(key, sizeof key));
	assert_int_equal(stun_end(&enc), 0);
	assert_true(nb_bytes_eq(nb_buf_view(&b), m.raw));

	nb_buf_reset(&b);
	decode_hex(&m, stock_binding);
	enc = stun_begin(&b, STUN_SUCCESS, STUN_BINDING, stun_txid(&m));
	assert_int_equal(nb_endpoint_parse(&e, "203.0.113.11:51820"), 0);
	stun_put_xor_addr(&enc, STUN_A_XOR_MAPPED_ADDRESS, &e);
	stun_put_fingerprint(&enc);
	assert_int_equal(stun_end(&enc), 0);
	assert_true(nb_bytes_eq(nb_buf_view(&b), m.raw));
}

static void stock_packets(void **state)
{
	struct stun_msg m;
	struct nb_bytes v;

	(void)state;
	decode_hex(&m, stock_check);
	assert_int_equal(stun_check_integrity(&m, nb_bytes_str(PWD_CHECK)), 0);
	assert_int_equal(stun_check_fingerprint(&m), 0);
	/* Unprotected, so found only when asked for by name. */
	assert_int_equal(stun_find(&m, ICE_A_NETBIRD_PAIR_ID, &v), NB_E_NOTFOUND);
	assert_int_equal(stun_find_anywhere(&m, ICE_A_NETBIRD_PAIR_ID, &v), 0);
	assert_int_equal(v.n, 65);
	decode_hex(&m, stock_answer);
	assert_int_equal(stun_check_integrity(&m, nb_bytes_str(PWD_ANSWER)), 0);
	assert_int_equal(stun_check_fingerprint(&m), 0);
}

static void trailing_attributes_are_not_trusted(void **state)
{
	uint8_t out[256], txid[STUN_TXID_LEN] = { 1 };
	struct nb_bytes key = nb_bytes_str("k");
	struct stun_enc enc;
	struct stun_msg m;
	struct nb_buf b;

	(void)state;
	nb_buf_fixed(&b, out, sizeof out);
	enc = stun_begin(&b, STUN_REQUEST, STUN_BINDING, txid);
	stun_put_u32(&enc, ICE_A_PRIORITY, 7);
	stun_put_integrity(&enc, key);
	stun_put_flag(&enc, ICE_A_USE_CANDIDATE);
	stun_put_fingerprint(&enc);
	assert_int_equal(stun_decode(&m, nb_buf_view(&b)), 0);
	assert_int_equal(stun_check_integrity(&m, key), 0);
	assert_int_equal(stun_check_fingerprint(&m), 0);
	assert_true(stun_has(&m, ICE_A_PRIORITY));
	assert_false(stun_has(&m, ICE_A_USE_CANDIDATE));
}

static void types_and_classes(void **state)
{
	static const unsigned methods[] = { STUN_BINDING, TURN_ALLOCATE, TURN_CHANNEL_BIND, 0x0f5, 0xfff };
	uint8_t out[64], txid[STUN_TXID_LEN] = { 9 };

	(void)state;
	for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
		for (unsigned cls = 0; cls < 4; cls++) {
			struct stun_enc enc;
			struct stun_msg m;
			struct nb_buf b;

			nb_buf_fixed(&b, out, sizeof out);
			enc = stun_begin(&b, cls, methods[i], txid);
			assert_int_equal(stun_end(&enc), 0);
			assert_int_equal(stun_decode(&m, nb_buf_view(&b)), 0);
			assert_int_equal(m.method, methods[i]);
			assert_int_equal(m.cls, cls);
		}
	}
	/* RFC 8489, 5: 0x0111 is the Binding error. */
	assert_int_equal(nb_get_be16(out) & 0xc000, 0);
}

static void errors_and_unknown(void **state)
{
	static const uint16_t types[] = { 0x7001, 0x7002, 0x7001 };
	static const uint16_t known[] = { STUN_A_UNKNOWN_ATTRIBUTES, STUN_A_ERROR_CODE };
	uint8_t out[256], txid[STUN_TXID_LEN] = { 3 };
	uint16_t got[4];
	struct nb_bytes v;
	struct stun_enc enc;
	struct stun_msg m;
	struct nb_buf b;
	unsigned code;

	(void)state;
	nb_buf_fixed(&b, out, sizeof out);
	enc = stun_begin(&b, STUN_ERROR, TURN_ALLOCATE, txid);
	stun_put_error(&enc, 438, "Stale Nonce");
	stun_put_unknown(&enc, types, 3);
	for (int i = 0; i < 3; i++)
		stun_put_u32(&enc, types[i], 0);
	assert_int_equal(stun_decode(&m, nb_buf_view(&b)), 0);
	assert_int_equal(stun_get_error(&m, &code, &v), 0);
	assert_int_equal(code, 438);
	assert_bytes(v, "Stale Nonce");
	assert_int_equal(stun_find(&m, STUN_A_UNKNOWN_ATTRIBUTES, &v), 0);
	assert_int_equal(v.n, 6);
	assert_int_equal(stun_unknown(&m, known, 2, got, 4), 2);
	assert_int_equal(got[0], 0x7001);
	assert_int_equal(got[1], 0x7002);
	assert_int_equal(stun_unknown(&m, known, 2, got, 1), 1);
}

static void malformed(void **state)
{
	static const struct {
		const char *hex;
		int want;
	} rows[] = {
		{ "000100002112a442000000000000000000000000", 0 },
		{ "000100002112a4420000000000000000000000", NB_E_SHORT },
		{ "400100002112a442000000000000000000000000", NB_E_BAD },		/* not STUN's first bits */
		{ "000100002112a443000000000000000000000000", NB_E_BAD },		/* cookie */
		{ "000100022112a4420000000000000000000000000000", NB_E_BAD },		/* length not in words */
		{ "000100042112a442000000000000000000000000", NB_E_SHORT },
		{ "000100002112a44200000000000000000000000000060000", NB_E_BAD },	/* bytes behind the end */
		{ "000100042112a44200000000000000000000000000060000", 0 },
		{ "000100042112a44200000000000000000000000000060001", NB_E_BAD },	/* value cut off */
		{ "000100042112a4420000000000000000000000000006ffff", NB_E_BAD },
		{ "000100082112a4420000000000000000000000000006000541414141", NB_E_BAD }, /* padding cut off */
	};
	struct stun_msg m;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		assert_int_equal(stun_decode(&m, unhex(rows[i].hex)), rows[i].want);
	assert_int_equal(stun_decode(&m, nb_bytes(NULL, 0)), NB_E_SHORT);
}

static void caps(void **state)
{
	static uint8_t big[70000], out[70100];
	uint8_t txid[STUN_TXID_LEN] = { 3 };
	struct stun_enc enc;
	struct stun_msg m;
	struct nb_buf b;

	(void)state;
	nb_buf_fixed(&b, out, sizeof out);
	enc = stun_begin(&b, STUN_REQUEST, STUN_BINDING, txid);
	for (int i = 0; i < STUN_MAX_ATTRS; i++)
		stun_put_flag(&enc, 0x9000);
	assert_int_equal(stun_decode(&m, nb_buf_view(&b)), 0);
	stun_put_flag(&enc, 0x9000);
	assert_int_equal(stun_decode(&m, nb_buf_view(&b)), NB_E_FULL);

	nb_buf_reset(&b);
	enc = stun_begin(&b, STUN_INDICATION, TURN_SEND, txid);
	stun_put(&enc, TURN_A_DATA, nb_bytes(big, 65000));
	stun_put_fingerprint(&enc);
	assert_int_equal(stun_end(&enc), 0);
	assert_int_equal(stun_decode(&m, nb_buf_view(&b)), 0);
	assert_int_equal(stun_check_fingerprint(&m), 0);
	out[40000] ^= 1;
	assert_int_equal(stun_check_fingerprint(&m), NB_E_AUTH);
	stun_put(&enc, TURN_A_DATA, nb_bytes(big, 600));
	assert_int_equal(stun_end(&enc), NB_E_FULL);
	assert_int_equal(stun_long_term_key(big, nb_bytes(big, 509), nb_bytes(big, 1), nb_bytes(big, 1)),
			 NB_E_ARG);
}

static void addresses(void **state)
{
	static const char *const rows[] = { "1.2.3.4:5", "[2001:db8::7]:65535", "255.255.255.255:1" };
	uint8_t out[256], txid[STUN_TXID_LEN] = { 0xff, 0x80, 7, 8 };
	struct nb_endpoint e;
	struct stun_msg m;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct stun_enc enc;
		struct nb_buf b;

		nb_buf_fixed(&b, out, sizeof out);
		assert_int_equal(nb_endpoint_parse(&e, rows[i]), 0);
		enc = stun_begin(&b, STUN_SUCCESS, TURN_ALLOCATE, txid);
		stun_put_xor_addr(&enc, TURN_A_XOR_RELAYED_ADDRESS, &e);
		stun_put_addr(&enc, STUN_A_ALTERNATE_SERVER, &e);
		assert_int_equal(stun_decode(&m, nb_buf_view(&b)), 0);
		assert_int_equal(stun_get_xor_addr(&m, TURN_A_XOR_RELAYED_ADDRESS, &e), 0);
		assert_endpoint(&e, rows[i]);
		assert_int_equal(stun_get_addr(&m, STUN_A_ALTERNATE_SERVER, &e), 0);
		assert_endpoint(&e, rows[i]);
	}
	/* Family 1 with 16 bytes of address, family 3. */
	assert_int_equal(stun_xor_addr_value(&m, nb_bytes("\0\1\0\0" "0123456789abcdef", 20), &e), NB_E_BAD);
	assert_int_equal(stun_xor_addr_value(&m, nb_bytes("\0\3\0\0" "0123", 8), &e), NB_E_BAD);
	assert_int_equal(stun_xor_addr_value(&m, nb_bytes("\0\1", 2), &e), NB_E_BAD);
}

static void channel_data(void **state)
{
	struct nb_bytes data;
	uint8_t head[TURN_CHANNEL_HEADER];
	uint16_t channel;

	(void)state;
	assert_int_equal(turn_channel_decode(nb_bytes("\x40\x01\0\3abcX", 8), &channel, &data), 0);
	assert_int_equal(channel, 0x4001);
	assert_bytes(data, "abc");
	assert_int_equal(turn_channel_decode(nb_bytes("\x7f\xff\0\0", 4), &channel, &data), 0);
	assert_int_equal(data.n, 0);
	assert_int_equal(turn_channel_decode(nb_bytes("\x40\x01\0\5abc", 7), &channel, &data), NB_E_SHORT);
	assert_int_equal(turn_channel_decode(nb_bytes("\x40\x01\0", 3), &channel, &data), NB_E_SHORT);
	assert_int_equal(turn_channel_decode(nb_bytes("\x80\x01\0\0", 4), &channel, &data), NB_E_BAD);
	turn_channel_header(head, 0x4abc, 0x0102);
	assert_memory_equal(head, "\x4a\xbc\1\2", 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rfc5769_request),
		cmocka_unit_test(rfc5769_responses),
		cmocka_unit_test(rfc5769_long_term),
		cmocka_unit_test(rfc8489_sha256),
		cmocka_unit_test(write_like_rfc),
		cmocka_unit_test(stock_packets),
		cmocka_unit_test(trailing_attributes_are_not_trusted),
		cmocka_unit_test(types_and_classes),
		cmocka_unit_test(errors_and_unknown),
		cmocka_unit_test(malformed),
		cmocka_unit_test(caps),
		cmocka_unit_test(addresses),
		cmocka_unit_test(channel_data),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
