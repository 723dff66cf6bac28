/* ice_fuzz.c - the agent, its demultiplexer and the candidate line against any bytes. The input is a
 * list of records: a kind byte, a length byte, that many bytes. Datagrams can be signed with the
 * right password, so that what lies behind the integrity check is reached. */
#include "ice/ice.h"

#include "ice/stun.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
	struct ice_agent *agent;
	struct ice_demux demux;
	struct nb_time now;
	uint32_t rng;
	uint8_t last[ICE_DGRAM_MAX];	/* what went out last, to be answered */
	size_t nlast;
	struct nb_endpoint to;
};

static void random_bytes(void *ctx, void *out, size_t n)
{
	uint32_t *x = ctx;

	for (size_t i = 0; i < n; i++) {
		*x = *x * 1664525u + 1013904223u;
		((uint8_t *)out)[i] = (uint8_t)(*x >> 24);
	}
}

static void drain(struct world *w)
{
	uint8_t mem[ICE_DGRAM_MAX];
	struct nb_dgram out = { .p = mem, .cap = sizeof mem };
	struct ice_event ev;
	unsigned via, n = 0;

	while (ice_output(w->agent, &out, &via, w->now)) {
		struct stun_msg m;

		if (out.n > sizeof mem || stun_decode(&m, nb_bytes(mem, out.n)) || ++n > 1000)
			abort();
		memcpy(w->last, mem, out.n);
		w->nlast = out.n;
		w->to = out.to;
	}
	while (ice_event(w->agent, &ev)) {
		char text[ICE_CANDIDATE_TEXT];

		if (ev.type == ICE_EV_CANDIDATE)
			ice_candidate_format(text, &ev.candidate);
	}
}

static void feed(struct world *w, struct nb_bytes bytes, unsigned via, unsigned port)
{
	struct nb_dgram in = { .from = { nb_addr4(0xc0000200 + port % 4), (uint16_t)(1000 + port) } };

	in.p = malloc(bytes.n ? bytes.n : 1);
	if (!in.p)
		abort();
	memcpy(in.p, bytes.p, bytes.n);
	in.n = bytes.n;
	if (w->to.port && port & 1)
		in.from = w->to;
	ice_is_stun(bytes);
	ice_demux_find(&w->demux, nb_bytes(in.p, in.n));
	ice_input(w->agent, &in, via, w->now);
	free(in.p);
}

/* A message with the attributes in bytes (type and length as they come), correctly signed. */
static void feed_signed(struct world *w, enum stun_class cls, struct nb_bytes bytes, unsigned via, unsigned port)
{
	struct nb_cur c = nb_cur(bytes);
	uint8_t mem[1024], txid[STUN_TXID_LEN] = { 0 };
	struct stun_enc e;
	struct nb_buf b;

	if (w->nlast >= STUN_HEADER_LEN)
		memcpy(txid, w->last + 8, sizeof txid);
	nb_buf_fixed(&b, mem, sizeof mem);
	e = stun_begin(&b, cls, STUN_BINDING, txid);
	if (cls == STUN_REQUEST)
		stun_put_str(&e, STUN_A_USERNAME, "us:them");
	while (nb_cur_left(&c) >= 3) {
		uint16_t type = nb_cur_be16(&c);
		size_t n = nb_cur_u8(&c);

		stun_put(&e, type, nb_cur_take(&c, n < nb_cur_left(&c) ? n : nb_cur_left(&c)));
	}
	stun_put_integrity(&e, nb_bytes_str(cls == STUN_REQUEST ? "our password" : "their password"));
	if (stun_end(&e) == 0)
		feed(w, nb_buf_view(&b), via, port);
}

static void candidate(struct world *w, struct nb_bytes text, bool local, unsigned via)
{
	char line[ICE_CANDIDATE_TEXT];
	struct ice_candidate c, again;

	if (ice_candidate_parse(&c, text))
		return;
	ice_candidate_format(line, &c);
	if (ice_candidate_parse(&again, nb_bytes_str(line)) || !nb_endpoint_eq(&c.at, &again.at) ||
	    c.type != again.type || strcmp(c.cid, again.cid))
		abort();
	c.via = via;
	if (local)
		ice_add_local(w->agent, &c, w->now);
	else
		ice_add_remote(w->agent, &c, w->now);
}

static void one_record(struct world *w, uint8_t kind, struct nb_bytes bytes)
{
	unsigned via = kind >> 3 & 1, port = kind >> 4;

	switch (kind & 7) {
	case 0:
		feed(w, bytes, via, port);
		break;
	case 1:
		feed_signed(w, STUN_REQUEST, bytes, via, port);
		break;
	case 2:
		feed_signed(w, STUN_SUCCESS, bytes, via, port);
		break;
	case 3:
		feed_signed(w, STUN_ERROR, bytes, via, port);
		break;
	case 4:
		candidate(w, bytes, false, 0);
		break;
	case 5:
		candidate(w, bytes, true, via);
		break;
	case 6:
		ice_add_stun_server(w->agent, &(struct nb_endpoint){ nb_addr4(0xc6336400 + port), 3478 }, 51820, w->now);
		break;
	default:
		w->now = nb_time_add_ms(w->now, (int64_t)bytes.n * (1 + port));
	}
	drain(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nb_cur c = nb_cur(nb_bytes(data, size));
	struct world w = { .now = { NB_SEC }, .rng = 1 };
	struct ice_config cfg;
	uint8_t seed[16] = { 0 };

	ice_config_default(&cfg);
	cfg.local_ufrag = "us";
	cfg.local_pwd = "our password";
	cfg.remote_ufrag = "them";
	cfg.remote_pwd = "their password";
	cfg.controlling = nb_cur_u8(&c) & 1;
	cfg.random = random_bytes;
	cfg.random_ctx = &w.rng;
	w.agent = ice_new(&cfg, w.now);
	if (!w.agent)
		abort();
	ice_demux_init(&w.demux, seed, 4);
	ice_demux_add(&w.demux, w.agent);
	while (nb_cur_left(&c) >= 2) {
		uint8_t kind = nb_cur_u8(&c);
		size_t n = nb_cur_u8(&c);

		one_record(&w, kind, nb_cur_take(&c, n < nb_cur_left(&c) ? n : nb_cur_left(&c)));
	}
	ice_demux_del(&w.demux, w.agent);
	ice_demux_fini(&w.demux);
	ice_free(w.agent);
	return 0;
}
