/* backoff.c - see backoff.h. */
#include "client/backoff.h"

void client_backoff_reset(struct client_backoff *b)
{
	b->next_ns = 0;
	b->waits = 0;
}

int64_t client_backoff_next(struct client_backoff *b, nb_random_fn random, void *ctx)
{
	int64_t base = b->next_ns ? b->next_ns : b->first_ns;
	uint32_t r;

	random(ctx, &r, sizeof r);
	b->next_ns = base * 17 / 10;
	if (b->first_ns < CLIENT_BACKOFF_QUICK_NS && b->waits < CLIENT_BACKOFF_QUICK && b->next_ns > CLIENT_BACKOFF_QUICK_NS)
		b->next_ns = CLIENT_BACKOFF_QUICK_NS;
	b->waits++;
	if (b->next_ns > b->cap_ns)
		b->next_ns = b->cap_ns;
	return (int64_t)((double)r / UINT32_MAX * 2 * (double)base);
}
