/* turn_client_fuzz.c - a TURN client and a hostile server: the script's bytes arrive as datagrams, either
 * raw or made into a signed answer to whatever the client asked last.
 * Script: op (1 byte), length (1 byte), data. */
#include "ice/stun.h"
#include "ice/turn_client.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t txid[STUN_TXID_LEN];
static uint16_t method;

static void rnd(void *ctx, void *out, size_t n)
{
	static unsigned seed;
	uint8_t *p = out;

	(void)ctx;
	while (n--)
		*p++ = (uint8_t)((seed = seed * 1103515245 + 12345) >> 16);
}

static void pump(struct turn_client *c, struct nb_time now)
{
	uint8_t mem[TURN_CLIENT_DGRAM_MAX];
	struct nb_dgram out = { .p = mem, .cap = sizeof mem };
	struct turn_event ev;
	unsigned n = 0;

	while (turn_client_output(c, &out, now)) {
		struct stun_msg m;

		if (++n > 100 || stun_decode(&m, nb_bytes(out.p, out.n)))
			abort();
		if (m.cls == STUN_REQUEST) {
			memcpy(txid, stun_txid(&m), sizeof txid);
			method = m.method;
		}
	}
	while (turn_client_event(c, &ev))
		;
}

static void input(struct turn_client *c, struct nb_bytes in, struct nb_time now)
{
	struct nb_endpoint peer;
	struct nb_bytes data;

	if (turn_client_input(c, in, &peer, &data, now) == 1 &&
	    (data.n > in.n || (data.n && (data.p < in.p || data.p + data.n > in.p + in.n))))
		abort();
}

static void answer(struct turn_client *c, enum stun_class cls, struct nb_bytes script, struct nb_time now)
{
	struct nb_cur cur = nb_cur(script);
	uint8_t mem[2048], key[STUN_KEY_LEN];
	struct stun_enc e;
	struct nb_buf b;

	nb_buf_fixed(&b, mem, sizeof mem);
	e = stun_begin(&b, cls, method, txid);
	while (nb_cur_left(&cur) >= 3) {
		uint16_t type = nb_cur_be16(&cur);

		stun_put(&e, type, nb_cur_take(&cur, nb_cur_u8(&cur) & 31));
	}
	/* The key for realm "r", which a script may have announced. */
	stun_long_term_key(key, nb_bytes_str("u"), nb_bytes_str("r"), nb_bytes_str("p"));
	stun_put_integrity(&e, nb_bytes(key, sizeof key));
	if (stun_end(&e) == 0)
		input(c, nb_buf_view(&b), now);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct turn_client_config cfg = { .server = { nb_addr4(0x08080808), 3478 }, .username = "u",
					  .password = "p", .random = rnd };
	struct nb_cur c = nb_cur(nb_bytes(data, size));
	struct nb_time now = { 1 };
	struct turn_client *t = turn_client_new(&cfg, now);

	if (!t)
		return 0;
	pump(t, now);
	while (nb_cur_left(&c)) {
		uint8_t op = nb_cur_u8(&c), len = nb_cur_u8(&c), frame[300 + TURN_WRAP_MAX];
		struct nb_bytes part = nb_cur_take(&c, len < nb_cur_left(&c) ? len : nb_cur_left(&c));
		struct nb_endpoint peer = { nb_addr4(0x01010100u | (op >> 4)), (uint16_t)(1 + (op >> 5)) };

		switch (op & 7) {
		case 0: input(t, part, now); break;
		case 1: answer(t, STUN_SUCCESS, part, now); break;
		case 2: answer(t, STUN_ERROR, part, now); break;
		case 3: turn_client_permit(t, &peer.addr, now); break;
		case 4: turn_client_bind(t, &peer, NULL, now); break;
		case 5: turn_client_forget(t, &peer); break;
		case 6: turn_client_wrap(t, &peer, part, frame); break;
		default: now = nb_time_add(now, len * NB_SEC); break;
		}
		pump(t, now);
	}
	turn_client_free(t);
	return 0;
}
