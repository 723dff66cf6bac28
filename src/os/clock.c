/* clock.c - see clock.h. Tests: tests/unit/run_loop_test.c */
#include "os/clock.h"

#include "base/err.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

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

int64_t os_suspended(void)
{
	return read_clock(CLOCK_BOOTTIME) - read_clock(CLOCK_MONOTONIC);
}

/* A time that never comes; what counts is that the timer is cancelled. */
static int arm(int fd)
{
	struct itimerspec far = { .it_value.tv_sec = INT32_MAX };

	return timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &far, NULL);
}

int os_clock_watch(void)
{
	int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);

	if (fd >= 0 && arm(fd)) {
		close(fd);
		fd = -1;
	}
	return fd < 0 ? NB_E_SYS : fd;
}

bool os_clock_was_set(int fd)
{
	uint64_t n;
	bool set = read(fd, &n, sizeof n) < 0 && errno == ECANCELED;

	(void)arm(fd);
	return set;
}
