/* envelope.c - see envelope.h. Tests: tests/unit/proto_envelope_test.c */
#include "proto/envelope.h"

#include "base/err.h"
#include "crypto/crypto.h"

/* Field numbers of one form; 0: the form has no such field. */
struct form {
	uint32_t key, remote, body;
};

static const struct form mgmt_form = { .key = 1, .body = 2 };
static const struct form signal_form = { .key = 2, .remote = 3, .body = 4 };

/* Keys are base64 text in practice and go into logs and maps: printable ASCII only. */
static bool plain_text(struct nb_bytes s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < 0x20 || s.p[i] > 0x7e)
			return false;
	return true;
}

static int decode(struct proto_envelope *e, struct nb_bytes in, const struct form *form)
{
	struct nb_cur c = nb_cur(in);
	struct proto_field f;
	int r;

	memset(e, 0, sizeof *e);
	while ((r = proto_next(&c, &f)) == 1) {
		if (f.wire != 2)
			continue;
		if (f.number == form->key)
			e->key = f.data;
		else if (f.number == form->remote)
			e->remote = f.data;
		else if (f.number == form->body)
			e->body = f.data;
	}
	if (r < 0 || !plain_text(e->key) || !plain_text(e->remote))
		return NB_E_BAD;
	return 0;
}

static void put_field(struct nb_buf *b, uint32_t number, struct nb_bytes v)
{
	size_t n = v.n;

	if (!n)
		return;
	nb_buf_u8(b, (uint8_t)(number << 3 | 2));
	for (; n > 0x7f; n >>= 7)
		nb_buf_u8(b, (uint8_t)(n | 0x80));
	nb_buf_u8(b, (uint8_t)n);
	nb_buf_bytes(b, v);
}

int proto_mgmt_envelope_decode(struct proto_envelope *e, struct nb_bytes in)
{
	return decode(e, in, &mgmt_form);
}

int proto_mgmt_envelope_encode(struct nb_buf *b, const struct proto_envelope *e)
{
	put_field(b, mgmt_form.key, e->key);
	put_field(b, mgmt_form.body, e->body);
	return b->err;
}

int proto_signal_envelope_decode(struct proto_envelope *e, struct nb_bytes in)
{
	return decode(e, in, &signal_form);
}

int proto_signal_envelope_encode(struct nb_buf *b, const struct proto_envelope *e)
{
	put_field(b, signal_form.key, e->key);
	put_field(b, signal_form.remote, e->remote);
	put_field(b, signal_form.body, e->body);
	return b->err;
}

int proto_seal(struct nb_buf *body, const void *message, size_t max_bytes,
	       const uint8_t key[NB_KEY_LEN], nb_random_fn rnd, void *rnd_ctx)
{
	struct nb_buf plain;
	int r;

	nb_buf_init(&plain, max_bytes);
	r = proto_pack(&plain, message);
	if (!r)
		r = nbc_box_seal_buf(body, nb_buf_view(&plain), key, rnd, rnd_ctx);
	nb_buf_fini(&plain);
	return r;
}

int proto_open_any(void **out, const ProtobufCMessageDescriptor *desc, struct nb_bytes body,
		   const uint8_t key[NB_KEY_LEN], struct nb_arena *arena)
{
	struct nb_buf plain;
	int r;

	*out = NULL;
	nb_buf_init(&plain, body.n);
	r = nbc_box_open_buf(&plain, body, key);
	if (!r)
		r = proto_unpack_any(out, desc, nb_buf_view(&plain), arena);
	nb_buf_fini(&plain);
	return r;
}
