/* bucket.c - see bucket.h. */
#include "base/bucket.h"

#define BURST_NS (250 * NB_MS)
#define BURST_BYTES 65536

static int64_t cost(const struct nb_rate *r, size_t n)
{
	uint64_t ns = (uint64_t)n * (uint64_t)NB_SEC;

	return (int64_t)((ns + r->per_s - 1) / r->per_s);
}

struct nb_rate nb_rate(uint64_t per_s)
{
	struct nb_rate r = { .per_s = per_s, .burst_ns = BURST_NS };

	if (per_s && cost(&r, BURST_BYTES) > BURST_NS)
		r.burst_ns = cost(&r, BURST_BYTES);
	return r;
}

bool nb_bucket_take(struct nb_bucket *b, const struct nb_rate *r, size_t n, struct nb_time now)
{
	struct nb_time full;

	if (!r->per_s)
		return true;
	full = nb_time_add(nb_time_before(b->full_at, now) ? now : b->full_at, cost(r, n));
	if (nb_time_diff(full, now) > r->burst_ns)
		return false;
	b->full_at = full;
	return true;
}

void nb_bucket_give(struct nb_bucket *b, const struct nb_rate *r, size_t n)
{
	if (r->per_s)
		b->full_at.ns -= cost(r, n);
}
