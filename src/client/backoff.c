/* backoff.c - see backoff.h. */
#include "client/backoff.h"

void client_backoff_reset(struct client_backoff *b)
{
	b->next_ns = 0;
}

int64_t client_backoff_next(struct client_backoff *b, nb_random_fn random, void *ctx)
{
	int64_t base = b->next_ns ? b->next_ns : b->first_ns;
	uint32_t r;

	random(ctx, &r, sizeof r);
	b->next_ns = base * 17 / 10;
	if (b->next_ns > b->cap_ns)
		b->next_ns = b->cap_ns;
	return (int64_t)((double)r / UINT32_MAX * 2 * (double)base);
}
