/* portmap_fuzz.c - the PCP and NAT-PMP client and a hostile gateway: the script's bytes arrive raw, or as the
 * tail of an answer to what was asked last; time passes in between.
 * Script: op (1 byte), length (1 byte), data. */
#include "ice/portmap.h"

#include <stdlib.h>

#include "base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t last[ICE_PORTMAP_DGRAM_MAX];
static size_t nlast;

static void rnd(void *ctx, void *out, size_t n)
{
	(void)ctx;
	memset(out, 0x42, n);
}

static void pump(struct ice_portmap *m, struct nb_time now)
{
	uint8_t room[ICE_PORTMAP_DGRAM_MAX];
	struct nb_dgram out = { .p = room, .cap = sizeof room };
	struct ice_portmap_event ev;
	unsigned n = 0;

	while (ice_portmap_output(m, &out, now)) {
		if (++n > 10 || !out.n)
			abort();
		memcpy(last, out.p, out.n);
		nlast = out.n;
	}
	while (ice_portmap_event(m, &ev)) {
		if (ev.type == ICE_PORTMAP_EV_MAPPED && !ev.external.port)
			abort();
	}
	if (!nb_time_before(now, ice_portmap_deadline(m)))
		abort();
}

/* The request as its own answer, overwritten from byte 2 on by the script. */
static void answer(struct ice_portmap *m, struct nb_bytes part, struct nb_time now)
{
	struct nb_endpoint from = { m->cfg.gateway, ICE_PORTMAP_PORT };
	uint8_t b[ICE_PORTMAP_DGRAM_MAX + 16] = { 0 };
	size_t n = last[0] ? nlast : 16;

	memcpy(b, last, nlast);
	b[1] |= 0x80;
	if (n > 2 && part.n)
		memcpy(b + 2, part.p, part.n < 10 ? part.n : 10);
	if (n == 60 && part.n > 10)
		memcpy(b + 42, part.p + 10, part.n - 10 < 18 ? part.n - 10 : 18);
	ice_portmap_input(m, &from, nb_bytes(b, n), now);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ice_portmap_config cfg = { .gateway = nb_addr4(0xc0a80101), .local = nb_addr4(0xc0a80102), .port = 51820,
					  .random = rnd };
	struct nb_endpoint from = { cfg.gateway, ICE_PORTMAP_PORT };
	struct nb_cur c = nb_cur(nb_bytes(data, size));
	struct nb_time now = { 1 };
	struct ice_portmap m;

	ice_portmap_init(&m, &cfg, now);
	pump(&m, now);
	while (nb_cur_left(&c)) {
		uint8_t op = nb_cur_u8(&c), len = nb_cur_u8(&c);
		struct nb_bytes part = nb_cur_take(&c, len < nb_cur_left(&c) ? len : nb_cur_left(&c));

		switch (op & 3) {
		case 0:
			ice_portmap_input(&m, &from, part, now);
			break;
		case 1:
			answer(&m, part, now);
			break;
		case 2:
			now = nb_time_add(now, len * NB_SEC);
			break;
		default:
			if (!nb_time_is_never(ice_portmap_deadline(&m)))
				now = ice_portmap_deadline(&m);
			if (op == 255)
				ice_portmap_release(&m);
			break;
		}
		pump(&m, now);
	}
	return 0;
}
