/* filter_fuzz.c - rules and packets from a stranger: the input is a row of length-prefixed steps for a small filter
 * (packets in and out, rule tables, time). What is checked: no memory is touched that is not ours, the counters
 * add up, and without rules nothing passes that nobody here began. */
#include <stdlib.h>

#include "unit/filter_help.h"

static struct nb_time now;

static size_t rules_read(struct filter_rule *r, size_t max, struct nb_bytes in)
{
	size_t n = 0;

	for (; in.n >= 8 && n < max; in.p += 8, in.n -= 8) {
		const uint8_t *p = in.p;

		r[n] = (struct filter_rule){ .proto = p[0] & 7, .drop = p[0] >> 7, .port_lo = nb_get_be16(p + 2),
					     .port_hi = nb_get_be16(p + 4), .id = nb_bytes(p + 6, 2) };
		r[n].src.addr = help_addr((char)('A' + (p[1] & 3) + (p[1] & 4 ? 32 : 0)));
		r[n].src.len = p[1] >> 4 == 1 ? p[6] : p[1] & 8 ? 0 : r[n].src.addr.family == 4 ? 32 : 128;
		n++;
	}
	return n;
}

static void table_step(struct filter *f, struct nb_bytes in, uint8_t kind, bool *closed)
{
	struct filter_rule r[64], out;
	struct filter_spec spec = { .local4 = help_addr('L'), .local6 = help_addr('l'), .rules = r, .allow_all = kind & 0x80 };
	struct filter_table *t;
	unsigned long hits;

	spec.nrules = rules_read(r, 64, in);
	if (filter_table_new(&t, &spec))
		return;
	*closed = *closed && !spec.allow_all && !spec.nrules;
	filter_table_free(filter_exchange(f, t));
	for (size_t i = 0; i < filter_table_count(t); i++)
		filter_table_rule(t, i, &out, &hits);
}

static uint64_t inbound(const struct filter_counters *c)
{
	return c->passed_flow + c->passed_rule + c->passed_related + c->passed_fragment + c->dropped_rule + c->dropped_default +
	       c->dropped_cut + c->dropped_address + c->dropped_fragment + c->dropped_malformed;
}

/* A copy of exactly this size, so that a read behind it is seen. */
static uint8_t *copy(struct nb_bytes in)
{
	uint8_t *b = malloc(in.n ? in.n : 1);

	if (!b)
		abort();
	if (in.n)
		memcpy(b, in.p, in.n);
	return b;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t seed = 3, packets = 0;
	struct filter_config cfg = { .max_tcp = 8, .max_udp = 8, .max_icmp = 4, .max_owners = 3, .random = help_random,
				     .random_ctx = &seed };
	bool closed = true, began = false;
	struct filter *f;

	now = (struct nb_time){ NB_SEC };
	if (filter_new(&f, &cfg))
		abort();
	while (size >= 2) {
		uint8_t kind = data[0];
		size_t n = data[1] < size - 2 ? data[1] : size - 2;
		struct nb_bytes step = nb_bytes(data + 2, n);
		uint8_t *b = copy(step);

		switch (kind & 7) {
		case 0:
			table_step(f, step, kind, &closed);
			break;
		case 1:
			now = nb_time_add(now, (int64_t)(kind >> 3) * (kind >> 3) * NB_SEC);
			break;
		case 2:
		case 3:
			began = true;
			filter_out(f, nb_bytes(b, n), now);
			break;
		default:
			if (filter_in(f, nb_bytes(b, n), kind >> 5, now) && closed && !began)
				abort();
			if (++packets != inbound(filter_counters(f)))
				abort();
			break;
		}
		if (filter_counters(f)->flows > 20)
			abort();
		free(b);
		data += 2 + n;
		size -= 2 + n;
	}
	filter_table_free(filter_exchange(f, NULL));
	filter_free(f);
	return 0;
}
