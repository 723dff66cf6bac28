/* limit.c - a brake on guessing: failed attempts per source, a bucket that refills. Who succeeds is never slowed down.
 * design.md "Security posture". Tests: tests/unit/mgmt_service_test.c */
#include "mgmt/mgmt_int.h"

#include <stdlib.h>

#define BURST 20		/* failures at once */
#define REFILL_NS (6 * NB_SEC)	/* one more after this long */
#define SOURCES_MAX 4096

struct bucket {
	struct nb_time empty_until;	/* when all failures so far are forgotten */
};

/* One IPv6 customer has a /64. */
static struct nb_bytes source(const struct nb_addr *a)
{
	return nb_bytes(a->ip, a->family == 4 ? 4 : 8);
}

static void forget(struct mgmt *m, bool all)
{
	struct nb_map_iter it = { 0 };

	while (nb_map_next(&m->failures, &it)) {
		struct bucket *b = it.value;

		if (all || nb_time_due(b->empty_until, m->now))
			free(nb_map_del(&m->failures, it.key));
	}
}

void mgmt_limit_fini(struct mgmt *m)
{
	forget(m, true);
	nb_map_fini(&m->failures);
}

bool mgmt_limit_allows(struct mgmt *m, const struct nb_addr *from)
{
	const struct bucket *b = nb_map_get(&m->failures, source(from));

	return !b || nb_time_diff(b->empty_until, m->now) <= (BURST - 1) * REFILL_NS;
}

void mgmt_limit_failed(struct mgmt *m, const struct nb_addr *from)
{
	struct bucket *b = nb_map_get(&m->failures, source(from));

	if (!b) {
		if (m->failures.count >= SOURCES_MAX)
			forget(m, false);
		b = calloc(1, sizeof(*b));
		if (!b || nb_map_put(&m->failures, source(from), b, NULL)) {
			free(b);
			return;
		}
	}
	if (nb_time_due(b->empty_until, m->now))
		b->empty_until = m->now;
	b->empty_until = nb_time_add(b->empty_until, REFILL_NS);
}
