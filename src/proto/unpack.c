/* unpack.c - see unpack.h. Strings are checked on the wire, before protobuf-c turns them into C
 * strings and their length is lost. Tests: tests/unit/proto_unpack_test.c, tests/fuzz/proto_fuzz.c */
#include "proto/unpack.h"

#include "base/err.h"

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

/* At most 10 bytes; err on more, or past the end. */
static uint64_t varint(struct nb_cur *c)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 70; shift += 7) {
		uint8_t b = nb_cur_u8(c);

		v |= (uint64_t)(b & 0x7f) << (shift < 64 ? shift : 0);
		if (shift == 63 && b > 1)
			break;
		if (!(b & 0x80))
			return v;
	}
	c->err = true;
	return 0;
}

int proto_next(struct nb_cur *c, struct proto_field *f)
{
	uint64_t tag, n;

	if (c->err)
		return NB_E_BAD;
	if (!nb_cur_left(c))
		return 0;
	memset(f, 0, sizeof *f);
	tag = varint(c);
	if (c->err || tag >> 3 == 0 || tag >> 3 > 0x1fffffff)
		return NB_E_BAD;
	f->number = (uint32_t)(tag >> 3);
	f->wire = tag & 7;
	switch (f->wire) {
	case WIRE_VARINT:
		f->value = varint(c);
		break;
	case WIRE_64:
		f->value = nb_cur_le64(c);
		break;
	case WIRE_32:
		f->value = nb_cur_le32(c);
		break;
	case WIRE_BYTES:
		n = varint(c);
		if (c->err || n > nb_cur_left(c))
			return NB_E_BAD;
		f->data = nb_cur_take(c, (size_t)n);
		break;
	default:
		return NB_E_BAD;
	}
	return c->err ? NB_E_BAD : 1;
}

/* Length of the well-formed UTF-8 sequence at p (RFC 3629), 0 when it is none. */
static size_t utf8_len(const uint8_t *p, size_t left)
{
	uint8_t lo = 0x80, hi = 0xbf;
	size_t n;

	if (p[0] < 0x80)
		return p[0] != 0;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		n = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		n = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		n = 4;
	else
		return 0;
	if (p[0] == 0xe0)
		lo = 0xa0;
	else if (p[0] == 0xed)
		hi = 0x9f;
	else if (p[0] == 0xf0)
		lo = 0x90;
	else if (p[0] == 0xf4)
		hi = 0x8f;
	if (left < n || p[1] < lo || p[1] > hi)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

static bool good_text(struct nb_bytes s)
{
	for (size_t i = 0, n; i < s.n; i += n) {
		n = utf8_len(s.p + i, s.n - i);
		if (!n)
			return false;
	}
	return true;
}

static int check(const ProtobufCMessageDescriptor *desc, struct nb_bytes in, unsigned depth)
{
	const ProtobufCFieldDescriptor *fd;
	struct nb_cur c = nb_cur(in);
	struct proto_field f;
	int r;

	if (depth > PROTO_DEPTH)
		return NB_E_BAD;
	while ((r = proto_next(&c, &f)) == 1) {
		fd = protobuf_c_message_descriptor_get_field(desc, f.number);
		if (!fd || f.wire != WIRE_BYTES)
			continue;
		if (fd->type == PROTOBUF_C_TYPE_STRING && !good_text(f.data))
			return NB_E_BAD;
		if (fd->type == PROTOBUF_C_TYPE_MESSAGE && check(fd->descriptor, f.data, depth + 1))
			return NB_E_BAD;
	}
	return r;
}

struct pool {
	struct nb_arena *arena;
	size_t left;
	bool full;
};

static void *pool_alloc(void *data, size_t n)
{
	struct pool *pool = data;
	void *p;

	if (n > pool->left || !(p = nb_arena_alloc(pool->arena, n))) {
		pool->full = true;
		return NULL;
	}
	pool->left -= n;
	return p;
}

static void pool_free(void *data, void *p)
{
	(void)data;
	(void)p;
}

/* What passed check() and has no field that we know. protobuf-c would walk a table that is not there. */
static int unpack_empty(void **out, const ProtobufCMessageDescriptor *desc, struct pool *pool)
{
	*out = pool_alloc(pool, desc->sizeof_message);
	if (!*out)
		return NB_E_FULL;
	desc->message_init(*out);
	return 0;
}

int proto_unpack_any(void **out, const ProtobufCMessageDescriptor *desc, struct nb_bytes in,
		     struct nb_arena *arena)
{
	struct pool pool = { .arena = arena, .left = PROTO_FLOOR };
	ProtobufCAllocator a = { pool_alloc, pool_free, &pool };

	*out = NULL;
	if (in.n > SIZE_MAX / PROTO_FACTOR || check(desc, in, 0))
		return NB_E_BAD;
	if (in.n * PROTO_FACTOR > pool.left)
		pool.left = in.n * PROTO_FACTOR;
	if (desc->n_fields == 0)
		return unpack_empty(out, desc, &pool);
	/* protobuf-c wants a pointer even for nothing. */
	*out = protobuf_c_message_unpack(desc, &a, in.n, in.n ? in.p : (const uint8_t *)"");
	if (*out)
		return 0;
	return pool.full ? NB_E_FULL : NB_E_BAD;
}

int proto_pack(struct nb_buf *b, const void *message)
{
	size_t n = protobuf_c_message_get_packed_size(message);
	uint8_t *p;

	if (!n || !(p = nb_buf_reserve(b, n)))
		return b->err;
	nb_buf_commit(b, protobuf_c_message_pack(message, p));
	return 0;
}
