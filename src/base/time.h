/* time.h - monotonic time as a value. Reading the clock is src/os's business;
 * cores get nb_time as an argument. nb_time counts nanoseconds of CLOCK_BOOTTIME;
 * wall-clock time is nb_wall (nanoseconds since 1970, UTC) and never mixes with it. */
#ifndef NB_BASE_TIME_H
#define NB_BASE_TIME_H

#include <stdbool.h>
#include <stdint.h>

struct nb_time {
	int64_t ns;
};

struct nb_wall {
	int64_t ns;
};

#define NB_MS 1000000LL		/* nanoseconds in a millisecond */
#define NB_SEC 1000000000LL	/* nanoseconds in a second */

/* "No deadline": later than every other time. */
#define NB_TIME_NEVER ((struct nb_time){ INT64_MAX })

static inline bool nb_time_is_never(struct nb_time t)
{
	return t.ns == INT64_MAX;
}
static inline struct nb_time nb_time_add(struct nb_time t, int64_t ns)
{
	if (nb_time_is_never(t) || ns > INT64_MAX - t.ns)
		return NB_TIME_NEVER;
	return (struct nb_time){ t.ns + ns };
}
static inline struct nb_time nb_time_add_ms(struct nb_time t, int64_t ms)
{
	return nb_time_add(t, ms * NB_MS);
}
/* a - b in nanoseconds. */
static inline int64_t nb_time_diff(struct nb_time a, struct nb_time b)
{
	return a.ns - b.ns;
}
static inline bool nb_time_before(struct nb_time a, struct nb_time b)
{
	return a.ns < b.ns;
}
/* True once now has reached t. */
static inline bool nb_time_due(struct nb_time t, struct nb_time now)
{
	return t.ns <= now.ns;
}
static inline struct nb_time nb_time_min(struct nb_time a, struct nb_time b)
{
	return a.ns < b.ns ? a : b;
}

/* RFC 3339 UTC text with as many fraction digits as needed (none when zero, else 9 with trailing
 * zeros cut, as Go prints it), e.g. "2026-08-01T12:00:00.5Z". out holds NB_RFC3339_CAP bytes. */
#define NB_RFC3339_CAP 40
void nb_wall_format(char *out, struct nb_wall t);
/* Read RFC 3339 (any offset, optional fraction). Returns 0 or NB_E_BAD. */
int nb_wall_parse(struct nb_wall *t, const char *text);

#endif
