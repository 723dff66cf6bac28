/* unpack.h - protobuf-c made safe for strangers' bytes: arena memory with a cap, a depth limit, no
 * embedded NUL, valid UTF-8; and packing into an nb_buf. The only way messages are read in this project.
 * design.md "Folders and direction". Tests: tests/unit/proto_unpack_test.c, tests/fuzz/proto_fuzz.c */
#ifndef NB_PROTO_UNPACK_H
#define NB_PROTO_UNPACK_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/bytes.h"

#include <protobuf-c/protobuf-c.h>

/* A decoded message takes at most this many times its wire size (two-byte empty submessages would take
 * fifty times), or PROTO_FLOOR bytes for a short one. */
#define PROTO_FACTOR 8
#define PROTO_FLOOR 65536
/* Submessages inside each other. */
#define PROTO_DEPTH 32

/* Decode in as desc says. *out and everything in it lives in arena (whose own cap counts as well) and
 * dies with it; do not call the generated free functions. in may go away afterwards.
 * Returns 0, NB_E_BAD (malformed, NUL or bad UTF-8 in a string, too deep), NB_E_FULL (over the cap).
 *	Foo__Bar *m;
 *	err = proto_unpack(&m, &foo__bar__descriptor, in, &arena); */
#define proto_unpack(out, desc, in, arena) proto_unpack_any((void **)(out), desc, in, arena)
int proto_unpack_any(void **out, const ProtobufCMessageDescriptor *desc, struct nb_bytes in,
		     struct nb_arena *arena);

/* Append the encoding of a message. Returns b->err. */
int proto_pack(struct nb_buf *b, const void *message);

/* Walk the top level of an encoded message without decoding it. */
struct proto_field {
	uint32_t number;
	unsigned wire;		/* 0 varint, 1 fixed 64, 2 length-delimited, 5 fixed 32 */
	uint64_t value;		/* wire 0, 1, 5 */
	struct nb_bytes data;	/* wire 2, borrowed from the input */
};
/* Returns 1 with *f filled, 0 at the end, NB_E_BAD. */
int proto_next(struct nb_cur *c, struct proto_field *f);

#endif
