/* proto_unpack_test.c - what the safe unpacker refuses: NUL and bad UTF-8 in strings, bombs of empty
 * submessages, deep nesting, malformed wire; and that good messages come through. */
#include "proto/unpack.h"

#include "base/err.h"
#include "proto/daemon.pb-c.h"
#include "proto/signalexchange.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct nb_arena arena;

static int setup(void **state)
{
	(void)state;
	nb_arena_init(&arena, 1 << 20);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	nb_arena_fini(&arena);
	return 0;
}

static int body(const void *p, size_t n)
{
	Signalexchange__Body *b;

	return proto_unpack(&b, &signalexchange__body__descriptor, nb_bytes(p, n), &arena);
}

static void test_good(void **state)
{
	/* type 2, payload "ab", unknown field 99, rosenpass config present and empty */
	static const uint8_t in[] = { 0x08, 2, 0x12, 2, 'a', 'b', 0x9a, 6, 1, 0, 0x3a, 0 };
	Signalexchange__Body *b;

	(void)state;
	assert_int_equal(proto_unpack(&b, &signalexchange__body__descriptor, nb_bytes(in, sizeof in), &arena), 0);
	assert_int_equal(b->type, SIGNALEXCHANGE__BODY__TYPE__CANDIDATE);
	assert_string_equal(b->payload, "ab");
	assert_non_null(b->rosenpassconfig);
	assert_int_equal(body(NULL, 0), 0);
}

static void test_text(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		int want;
	} rows[] = {
		{ "a\0b", 3, NB_E_BAD }, { "\0", 1, NB_E_BAD }, { "abc", 3, 0 },
		{ "\xc3\xa9", 2, 0 }, { "\xe2\x82\xac", 3, 0 }, { "\xf0\x9f\x98\x80", 4, 0 },
		{ "\xc0\x80", 2, NB_E_BAD }, { "\xed\xa0\x80", 3, NB_E_BAD }, { "\xff", 1, NB_E_BAD },
		{ "\xf4\x90\x80\x80", 4, NB_E_BAD }, { "\xe2\x82", 2, NB_E_BAD }, { "\x80", 1, NB_E_BAD },
		{ "\xe0\x80\x80", 3, NB_E_BAD }, { "\xf0\x80\x80\x80", 4, NB_E_BAD },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		uint8_t in[16] = { 0x12, (uint8_t)rows[i].n };

		memcpy(in + 2, rows[i].bytes, rows[i].n);
		assert_int_equal(body(in, rows[i].n + 2), rows[i].want);
	}
	/* a string inside a submessage, and bytes, which may hold anything */
	assert_int_equal(body("\x3a\x03\x12\x01\x00", 5), NB_E_BAD);
	assert_int_equal(body("\x3a\x03\x0a\x01\x00", 5), 0);
}

static void test_malformed(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
	} rows[] = {
		{ "\x12", 1 }, { "\x12\x05""ab", 4 }, { "\x08", 1 }, { "\x08\x80", 2 },
		{ "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11 },
		{ "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12 }, { "\x00\x01", 2 },
		{ "\x0b", 1 }, { "\x0f", 1 }, { "\x0d\x01\x02", 3 }, { "\x09\x01", 2 },
		{ "\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		assert_int_equal(body(rows[i].bytes, rows[i].n), NB_E_BAD);
}

static void test_bomb(void **state)
{
	/* 30000 empty entries of Status.peers-like repeated messages: 60 KB that would take some MB. */
	static uint8_t in[60000];
	Daemon__FullStatus *s;
	const ProtobufCFieldDescriptor *f =
		protobuf_c_message_descriptor_get_field_by_name(&daemon__full_status__descriptor, "peers");

	(void)state;
	assert_non_null(f);
	for (size_t i = 0; i < sizeof in; i += 2) {
		in[i] = (uint8_t)(f->id << 3 | 2);
		in[i + 1] = 0;
	}
	assert_int_equal(proto_unpack(&s, &daemon__full_status__descriptor, nb_bytes(in, sizeof in), &arena),
			 NB_E_FULL);
	assert_true(arena.used <= 8 * sizeof in + 1024);
	/* the arena's own cap counts as well */
	nb_arena_fini(&arena);
	nb_arena_init(&arena, 64);
	assert_int_equal(body("\x12\x01""a", 3), NB_E_FULL);
}

static void test_pack(void **state)
{
	Signalexchange__Body b = SIGNALEXCHANGE__BODY__INIT;
	struct nb_buf out;

	(void)state;
	b.has_type = true;
	b.type = SIGNALEXCHANGE__BODY__TYPE__HEARTBEAT;
	nb_buf_init(&out, 100);
	assert_int_equal(proto_pack(&out, &b), 0);
	assert_int_equal(out.n, 2);
	assert_memory_equal(out.p, "\x08\x06", 2);
	nb_buf_fini(&out);
	nb_buf_init(&out, 1);
	assert_int_equal(proto_pack(&out, &b), NB_E_FULL);
	nb_buf_fini(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_good, setup, teardown),
		cmocka_unit_test_setup_teardown(test_text, setup, teardown),
		cmocka_unit_test_setup_teardown(test_malformed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bomb, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pack, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
