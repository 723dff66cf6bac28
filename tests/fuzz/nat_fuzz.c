/* nat_fuzz.c - measuring the NAT against hostile servers: the script's bytes arrive raw, or as attributes of an answer to
 * what was asked last, from where it was asked or from elsewhere; time passes in between.
 * Script: op (1 byte: low 2 bits what, next 2 from where, next 2 which question), length (1 byte), data. */
#include "ice/nat.h"

#include <stdlib.h>

#include "ice/stun.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct nb_dgram asked[4];
static uint8_t rooms[4][ICE_NAT_DGRAM_MAX];
static unsigned at, seed;

static void rnd(void *ctx, void *out, size_t n)
{
	uint8_t *p = out;

	(void)ctx;
	while (n--)
		*p++ = (uint8_t)((seed = seed * 1103515245 + 12345) >> 16);
}

static void pump(struct ice_nat *m, struct nb_time now)
{
	unsigned n = 0;

	for (;; at++) {
		struct nb_dgram *d = &asked[at & 3];

		d->p = rooms[at & 3];
		d->cap = ICE_NAT_DGRAM_MAX;
		if (!ice_nat_output(m, d, now))
			break;
		if (++n > 10 || m->sent > ICE_NAT_SENT_MAX || !d->n || !d->to.port || nb_addr_is_unspecified(&d->to.addr))
			abort();
	}
	if (!ice_nat_done(m) && !nb_time_before(now, ice_nat_deadline(m)))
		abort();
}

static void answer(struct ice_nat *m, uint8_t op, struct nb_bytes part, struct nb_time now)
{
	const struct nb_dgram *d = &asked[op >> 4 & 3];
	struct nb_endpoint from = d->to;
	struct nb_cur c = nb_cur(part);
	uint8_t mem[512];
	struct stun_enc e;
	struct nb_buf b;

	if (!d->n)
		return;
	from.port = (uint16_t)(from.port + (op >> 2 & 1));
	from.addr.ip[3] = (uint8_t)(from.addr.ip[3] + (op >> 3 & 1));
	nb_buf_fixed(&b, mem, sizeof mem);
	e = stun_begin(&b, op & 0x40 ? STUN_ERROR : op & 0x80 ? STUN_REQUEST : STUN_SUCCESS, STUN_BINDING, d->p + 8);
	while (nb_cur_left(&c) >= 3) {
		uint16_t type = nb_cur_be16(&c);

		stun_put(&e, type, nb_cur_take(&c, nb_cur_u8(&c) & 31));
	}
	if (stun_end(&e) == 0)
		ice_nat_input(m, &from, nb_buf_view(&b), now);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ice_nat_config cfg = { .nservers = 2, .nhosts = 1, .port = 51820, .random = rnd };
	struct nb_cur c = nb_cur(nb_bytes(data, size));
	struct nb_time now = { NB_SEC };
	struct ice_nat m;

	seed = 1;
	at = 0;
	memset(asked, 0, sizeof asked);
	cfg.hosts[0] = nb_addr4(0x0a000001);
	cfg.servers[0] = (struct nb_endpoint){ nb_addr4(0xcb007101), 3478 };
	cfg.servers[1] = (struct nb_endpoint){ nb_addr4(0xcb00710b), 3478 };
	ice_nat_init(&m, &cfg, now);
	pump(&m, now);
	while (nb_cur_left(&c) && !ice_nat_done(&m)) {
		uint8_t op = nb_cur_u8(&c), len = nb_cur_u8(&c);
		struct nb_bytes part = nb_cur_take(&c, len < nb_cur_left(&c) ? len : nb_cur_left(&c));

		if ((op & 3) == 0)
			ice_nat_input(&m, &asked[op >> 4 & 3].to, part, now);
		else if ((op & 3) == 1)
			answer(&m, op, part, now);
		else if ((op & 3) == 2)
			now = nb_time_add_ms(now, len * 20);
		else
			now = ice_nat_deadline(&m);
		pump(&m, now);
	}
	/* Whatever was said, it ends. */
	for (int i = 0; !ice_nat_done(&m); i++) {
		if (i > 100)
			abort();
		now = ice_nat_deadline(&m);
		pump(&m, now);
	}
	if (ice_nat_report(&m)->mapping >= ICE_NAT_MAP_END || ice_nat_report(&m)->filtering >= ICE_NAT_FILTER_END)
		abort();
	return 0;
}
