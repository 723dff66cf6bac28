/* stun_fuzz.c - any bytes through the STUN and ChannelData decoders; what decodes is read through
 * every getter and written again, which must decode to the same attributes. */
#include "ice/stun.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const struct stun_msg *m)
{
	static const uint16_t known[] = { STUN_A_USERNAME, STUN_A_REALM };
	struct nb_endpoint e;
	struct nb_bytes v;
	uint16_t types[8];
	uint32_t u32;
	uint64_t u64;
	unsigned code;

	for (unsigned i = 0; i < m->nattrs; i++) {
		stun_get_u32(m, m->attrs[i].type, &u32);
		stun_get_u64(m, m->attrs[i].type, &u64);
		stun_get_addr(m, m->attrs[i].type, &e);
		stun_get_xor_addr(m, m->attrs[i].type, &e);
		stun_find_anywhere(m, m->attrs[i].type, &v);
	}
	stun_get_error(m, &code, &v);
	stun_unknown(m, known, 2, types, 8);
	stun_check_integrity(m, nb_bytes_str("key"));
	stun_check_integrity_sha256(m, nb_bytes_str("key"));
	stun_check_fingerprint(m);
}

static void write_again(const struct stun_msg *m)
{
	struct stun_enc e;
	struct stun_msg back;
	struct nb_buf b;

	nb_buf_init(&b, 70000);
	e = stun_begin(&b, m->cls, m->method, stun_txid(m));
	for (unsigned i = 0; i < m->nattrs; i++)
		stun_put(&e, m->attrs[i].type, stun_value(m, i));
	if (stun_end(&e) || stun_decode(&back, nb_buf_view(&b)) || back.nattrs != m->nattrs)
		abort();
	for (unsigned i = 0; i < m->nattrs; i++)
		if (!nb_bytes_eq(stun_value(m, i), stun_value(&back, i)))
			abort();
	nb_buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nb_bytes in = nb_bytes(data, size), payload;
	struct stun_msg m;
	uint16_t channel;

	if (turn_channel_decode(in, &channel, &payload) == 0 && payload.n > size)
		abort();
	if (stun_decode(&m, in) == 0) {
		read_all(&m);
		write_again(&m);
	}
	return 0;
}
