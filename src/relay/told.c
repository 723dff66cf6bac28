/* told.c - says in the log that packets were dropped for a limit: at once, and then once a minute while it goes on.
 * See relay.h. Tests: tests/unit/relay_config_test.c */
#include "base/log.h"
#include "relay/relay.h"

#define PAUSE_NS (60 * NB_SEC)

bool relay_tell_dropped(struct relay_told *t, const char *which, uint64_t over_user, uint64_t over_total, struct nb_time now)
{
	uint64_t user = over_user - t->over_user, total = over_total - t->over_total;

	if ((!user && !total) || !nb_time_due(t->next, now))
		return false;
	*t = (struct relay_told){ over_user, over_total, nb_time_add(now, PAUSE_NS) };
	nb_warn("relay: %s: packets dropped: %llu of users over --max-bps, %llu over --bps-capacity; raise it, or expect that",
		which, (unsigned long long)user, (unsigned long long)total);
	return true;
}
