/* backoff.h - exponential waits with full jitter, as stock's control connections use them
 * (spec/client.md 7: first, factor 1.7, cap, randomised from 0 to twice the interval). */
#ifndef NB_CLIENT_BACKOFF_H
#define NB_CLIENT_BACKOFF_H

#include "base/bytes.h"
#include "base/time.h"

struct client_backoff {
	int64_t first_ns, cap_ns;
	int64_t next_ns;	/* 0: start from first_ns */
	unsigned waits;		/* since then */
};

/* The first waits of one that starts low stay low: what was restarted is back in seconds. */
#define CLIENT_BACKOFF_QUICK 8
#define CLIENT_BACKOFF_QUICK_NS (700 * NB_MS)

/* Back to the first interval. */
void client_backoff_reset(struct client_backoff *b);
/* How long to wait now, in nanoseconds: up to twice the current interval, which then grows. */
int64_t client_backoff_next(struct client_backoff *b, nb_random_fn random, void *ctx);

#endif
