/* wg_fuzz.c - the WireGuard device fed by a stranger: the input is a row of steps for two devices that know
 * each other (length-prefixed datagrams, damaged or true, inner packets, time). Randomness and clock are fixed. */
#include <stdlib.h>

#include "wg/wg_int.h"

struct side {
	struct wg_dev *d;
	struct wg_peer *peer;
	uint64_t seed;
	uint8_t pub[32];
	uint8_t inner[4];
};

static void fixed_random(void *ctx, void *out, size_t n)
{
	uint64_t *s = ctx;
	uint8_t *p = out;

	while (n--) {
		*s = *s * 6364136223846793005ULL + 1442695040888963407ULL;
		*p++ = (uint8_t)(*s >> 56);
	}
}

static struct nb_time now;

static void side_init(struct side *s, uint64_t seed, uint8_t last)
{
	struct wg_config cfg = { .random = fixed_random, .random_ctx = &s->seed, .handshake_burst = 16, .max_peers = 8 };

	memset(s, 0, sizeof *s);
	s->seed = seed;
	fixed_random(&s->seed, cfg.private_key, 32);
	wg_dh_clamp(cfg.private_key);
	wg_dh_public(s->pub, cfg.private_key);
	memcpy(s->inner, (uint8_t[]){ 10, 9, 0, last }, 4);
	if (wg_new(&s->d, &cfg, now, (struct nb_wall){ 1790000000 * NB_SEC }))
		abort();
}

static void side_know(struct side *a, const struct side *b)
{
	struct nb_prefix p = { .addr = { .family = 4 }, .len = 32 };
	struct wg_ep ep = { .kind = WG_EP_UDP, .remote = { .addr = nb_addr4(0xc0000200u + b->inner[3]), .port = 9 } };

	memcpy(p.addr.ip, b->inner, 4);
	if (wg_peer_add(a->d, b->pub, &a->peer) || wg_peer_allow(a->d, a->peer, &p))
		abort();
	wg_peer_set_endpoint(a->d, a->peer, &ep, now);
}

/* Give bytes to a device as the stranger (or the peer) would. */
static void input(struct side *to, const uint8_t *p, size_t n, uint8_t from)
{
	static uint8_t buf[2048];
	struct wg_pkt k = { .buf = buf, .cap = sizeof buf, .p = buf, .n = n };

	if (n)
		memcpy(buf, p, n);
	k.ep.kind = (uint8_t)(WG_EP_STREAM + from % 3);
	k.ep.id = from;
	k.ep.remote.addr = nb_addr4(0xc0000200u + from);
	k.ep.remote.port = 9;
	wg_input(to->d, &k, 1, now);
	if (k.verdict == WG_INNER && (k.n < 20 || k.p < buf || k.p + k.n > buf + sizeof buf))
		abort();
}

/* Everything a side has to say reaches the other, with one byte changed if damage is not zero. */
static void drain(struct side *from, struct side *to, uint8_t damage)
{
	uint8_t out[2048];
	struct wg_pkt k = { .buf = out, .cap = sizeof out };

	for (int i = 0; i < 200 && wg_output(from->d, &k, now); i++) {
		if (k.ep.kind == WG_EP_TURN) {
			k.p += 4;
			k.n -= 4;
		}
		if (damage)
			k.p[(size_t)damage * 7 % k.n] ^= damage;
		input(to, k.p, k.n, from->inner[3]);
	}
}

static void send_inner(struct side *from, const struct side *to, const uint8_t *p, size_t n)
{
	uint8_t buf[WG_HEADROOM + 300 + WG_TAILROOM] = { 0 };
	struct wg_pkt k = { .buf = buf, .cap = sizeof buf, .p = buf + WG_HEADROOM, .n = n };

	if (n)
		memcpy(k.p, p, n);
	if (n >= 20 && k.p[0] >> 4 == 4 && k.p[1] & 1) {
		nb_put_be16(k.p + 2, (uint16_t)n);
		memcpy(k.p + 12, from->inner, 4);
		memcpy(k.p + 16, to->inner, 4);
	}
	wg_send(from->d, &k, 1, now);
	if (k.verdict == WG_WIRE && (k.p < buf || k.p + k.n > buf + sizeof buf))
		abort();
}

static void change(struct side *s, uint8_t what)
{
	struct nb_prefix p = { .addr = { .family = what & 1 ? 4 : 6, .ip = { what, 9, 0, what } }, .len = what % 33 };

	switch (what % 5) {
	case 0:
		wg_peer_allow(s->d, s->peer, &p);
		break;
	case 1:
		wg_peer_disallow(s->d, s->peer, &p);
		break;
	case 2:
		wg_peer_set_keepalive(s->d, s->peer, what, now);
		break;
	case 3:
		wg_peer_reset(s->d, s->peer);
		break;
	default:
		wg_peer_handshake(s->d, s->peer, what & 8, now);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct side side[2];
	struct nb_cur c = nb_cur(nb_bytes(data, size));
	struct wg_event ev;

	now = (struct nb_time){ 1000 * NB_SEC };
	side_init(&side[0], 1, 1);
	side_init(&side[1], 2, 2);
	side_know(&side[0], &side[1]);
	side_know(&side[1], &side[0]);
	while (nb_cur_left(&c)) {
		uint8_t step = nb_cur_u8(&c), arg = nb_cur_u8(&c);
		struct side *a = &side[step & 1], *b = &side[!(step & 1)];
		size_t n = arg < nb_cur_left(&c) ? arg : nb_cur_left(&c);

		switch (step >> 1 & 7) {
		case 0:
			input(b, nb_cur_take(&c, n).p, n, a->inner[3]);
			break;
		case 1:
			send_inner(a, b, nb_cur_take(&c, n).p, n);
			break;
		case 2:
			drain(a, b, 0);
			drain(b, a, 0);
			break;
		case 3:
			drain(a, b, arg);
			break;
		case 4:
			now = nb_time_add_ms(now, (int64_t)arg * arg * 10);
			break;
		case 5:
			change(a, arg);
			break;
		case 6:
			while (wg_event(a->d, &ev))
				;
			break;
		default: {
			/* a true handshake message of a, cut or stretched */
			uint8_t msg[WG_INI_LEN + 20] = { 0 }, buf[2048];
			struct wg_pkt k = { .buf = buf, .cap = sizeof buf };

			if (wg_output(a->d, &k, now) && k.n <= WG_INI_LEN) {
				memcpy(msg, k.p, k.n);
				input(b, msg, k.n + arg % 20 > 10 ? k.n - arg % 10 : k.n + arg % 10, 3);
			}
			break;
		}
		}
	}
	wg_free(side[0].d);
	wg_free(side[1].d);
	return 0;
}
