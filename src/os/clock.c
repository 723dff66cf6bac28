/* clock.c - see clock.h. Tests: tests/unit/run_loop_test.c */
#include "os/clock.h"

#include <time.h>

static int64_t read_clock(clockid_t id)
{
	struct timespec ts = { 0 };

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * NB_SEC + ts.tv_nsec;
}

struct nb_time os_now(void)
{
	return (struct nb_time){ read_clock(CLOCK_BOOTTIME) };
}

struct nb_wall os_wall(void)
{
	return (struct nb_wall){ read_clock(CLOCK_REALTIME) };
}
