/* turn_server_fuzz.c - the TURN server driven by a script of bytes: raw datagrams, correctly signed
 * requests with any attributes, peers' datagrams, time. Sizes and caps are checked on the way out.
 * Script: op (1 byte: low 2 bits what, next 2 which client), length (1 byte), data. */
#include "ice/turn_int.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct turn_relay *relays[16];
static unsigned seed;
static struct turn_flow asked;		/* the request under way: from where to where, and how long */
static size_t asked_len;

static void rnd(void *ctx, void *out, size_t n)
{
	uint8_t *p = out;

	(void)ctx;
	while (n--)
		*p++ = (uint8_t)((seed = seed * 1103515245 + 12345) >> 16);
}

static int on_open(void *ctx, struct turn_relay *r)
{
	(void)ctx;
	for (unsigned i = 0; i < 16; i++) {
		if (!relays[i]) {
			relays[i] = r;
			return 0;
		}
	}
	return -41;
}

static void on_close(void *ctx, struct turn_relay *r)
{
	(void)ctx;
	for (unsigned i = 0; i < 16; i++)
		if (relays[i] == r)
			relays[i] = NULL;
}

static void on_relay(void *ctx, struct turn_relay *r, const struct nb_endpoint *peer, struct nb_bytes data)
{
	(void)ctx;
	(void)data;
	/* Nothing may leave for this machine itself. */
	if (nb_addr_is_loopback(&peer->addr) || nb_addr_is_unspecified(&peer->addr) ||
	    peer->addr.family != turn_relay_family(r))
		abort();
}

static void on_reply(void *ctx, const struct turn_flow *to, struct nb_bytes head, struct nb_bytes body,
		     struct nb_bytes tail)
{
	uint8_t out[2048];

	(void)ctx;
	if (head.n + body.n + tail.n > sizeof out || (body.n && head.n > TURN_HEAD_MAX))
		abort();
	/* What goes another way than it was asked for is no longer than what was asked. */
	if (!body.n && (!nb_endpoint_eq(&to->local, &asked.local) || to->client.port != asked.client.port) &&
	    (head.n > asked_len || !nb_addr_eq(&to->client.addr, &asked.client.addr)))
		abort();
	memcpy(out, head.p, head.n);
	if (body.n)
		memcpy(out + head.n, body.p, body.n);
	if (!turn_channel_is(head) && !stun_is(nb_bytes(out, head.n)))
		abort();
}

static const struct turn_server_ops ops = { on_open, on_close, on_relay, on_reply };

/* A signed request: method and attributes from the script. */
static void signed_request(struct turn_server *s, const struct turn_flow *f, struct nb_bytes in,
			   struct nb_time now)
{
	static const struct nb_wall wall = { 1 };
	struct nb_cur c = nb_cur(in);
	uint8_t mem[2048], key[STUN_KEY_LEN], txid[STUN_TXID_LEN] = { 0 };
	char nonce[TURN_NONCE_LEN + 1];
	struct nb_buf b;
	struct stun_enc e;

	nb_buf_fixed(&b, mem, sizeof mem);
	txid[0] = nb_cur_u8(&c);
	e = stun_begin(&b, STUN_REQUEST, nb_cur_u8(&c) & 15, txid);
	while (nb_cur_left(&c) >= 3) {
		uint16_t type = nb_cur_be16(&c);

		stun_put(&e, type, nb_cur_take(&c, nb_cur_u8(&c) & 31));
	}
	turn_nonce_make(s, nonce, f, now);
	stun_long_term_key(key, nb_bytes_str("u"), nb_bytes_str("r"), nb_bytes_str("p"));
	stun_put_str(&e, STUN_A_USERNAME, "u");
	stun_put_str(&e, STUN_A_REALM, "r");
	stun_put_str(&e, STUN_A_NONCE, nonce);
	stun_put_integrity(&e, nb_bytes(key, sizeof key));
	asked_len = b.n;
	if (stun_end(&e) == 0)
		turn_server_input(s, f, nb_buf_view(&b), now, wall);
}

static void peer(struct turn_server *s, unsigned which, struct nb_bytes in, struct nb_time now)
{
	struct nb_cur c = nb_cur(in);
	struct nb_endpoint from = { .addr = nb_addr4(0x08080800u | nb_cur_u8(&c)), .port = nb_cur_u8(&c) };

	if (relays[which])
		turn_server_peer_input(s, relays[which], &from, nb_cur_take(&c, nb_cur_left(&c)), now);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct turn_user user = { "u", "p" };
	static const struct nb_wall wall = { 1 };
	struct turn_server_config cfg = {
		.realm = "r", .users = &user, .nusers = 1, .relay4 = nb_addr4(0x05050505), .port_min = 50000,
		.port_max = 50007, .random = rnd, .max_allocations = 3, .challenges_per_s = 1000,
	};
	struct nb_cur c = nb_cur(nb_bytes(data, size));
	struct nb_time now = { 1000 * NB_SEC };
	struct turn_stun stun = { { 3478, 3479 }, { nb_addr4(0x05050505), nb_addr4(0x05050506) }, { { 0 } } };
	struct turn_server *s;

	cfg.relay6 = nb_addr6((const uint8_t[16]){ 0x2a, 1 });
	seed = 1;
	memset(relays, 0, sizeof relays);
	s = turn_server_new(&cfg, &ops, NULL);
	if (!s)
		return 0;
	turn_server_set_stun(s, &stun);
	while (nb_cur_left(&c)) {
		uint8_t op = nb_cur_u8(&c), len = nb_cur_u8(&c);
		struct nb_bytes part = nb_cur_take(&c, len < nb_cur_left(&c) ? len : nb_cur_left(&c));
		struct turn_flow f = { .client = { nb_addr4(0x09090909), (uint16_t)(op >> 2 & 3) } };

		if (op & 0x40)
			f.local = (struct nb_endpoint){ nb_addr4(0x05050505 + (op >> 4 & 1)), (uint16_t)(3478 + (op >> 5 & 1)) };
		asked = f;
		asked_len = part.n;
		if ((op & 3) == 0)
			turn_server_input(s, &f, part, now, wall);
		else if ((op & 3) == 1)
			signed_request(s, &f, part, now);
		else if ((op & 3) == 2)
			peer(s, op >> 4, part, now);
		else
			now = nb_time_add(now, len * 20 * NB_SEC);
		turn_server_tick(s, now);
	}
	turn_server_free(s);
	for (unsigned i = 0; i < 16; i++)
		if (relays[i])
			abort();
	return 0;
}
