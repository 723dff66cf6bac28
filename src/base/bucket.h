/* bucket.h - a limit on bytes per second as a token bucket: what was not used is saved up to a burst. State is one time:
 * when the bucket will be full again. Time comes in. Tests: tests/unit/base_bucket_test.c */
#ifndef NB_BASE_BUCKET_H
#define NB_BASE_BUCKET_H

#include "base/time.h"

#include <stddef.h>

#define NB_RATE_MAX 1000000000000ULL	/* bytes a second */

/* per_s 0: no limit. */
struct nb_rate {
	uint64_t per_s;		/* at most NB_RATE_MAX */
	int64_t burst_ns;	/* how much may be saved up, as time */
};

/* Zeroed: full. */
struct nb_bucket {
	struct nb_time full_at;
};

/* A limit with a burst of a quarter second, but never less than 64 KiB. */
struct nb_rate nb_rate(uint64_t per_s);
/* Take n (at most 2^20) bytes out. False, and nothing taken, when there are not so many. */
bool nb_bucket_take(struct nb_bucket *b, const struct nb_rate *r, size_t n, struct nb_time now);
/* Give n bytes back that were taken in vain. */
void nb_bucket_give(struct nb_bucket *b, const struct nb_rate *r, size_t n);

#endif
