/* agent_wake.c - notices that the machine slept, or that this process alone stood still, and has looked at again what may not
 * have survived it. Sleep shows as a difference between two clocks, and the kernel tells of it through a timer that a set
 * clock cancels; a stopped process shows as a timer that fires late. A clock that is merely set concerns nobody here: WireGuard
 * reads it for each handshake. Tests: tests/unit/client_conn_test.c, tests/net/test_roaming.py */
#include "run/agent_int.h"

#include <unistd.h>

#define LATE_NS (3 * NB_SEC)		/* a timer so late was not held up by load */
#define CONTROL_NS (20 * NB_SEC)	/* servers have given connections up, or soon will */

static void woke(struct run_agent *a, int64_t slept_ns, struct nb_time now)
{
	a->engine_due = NB_TIME_NEVER;
	client_engine_woke(a->engine, slept_ns, now);
	if (slept_ns >= CONTROL_NS) {
		client_mgmt_network_changed(a->mgmt, a->mgmt_link != NULL, now);
		if (a->signal)
			client_signal_network_changed(a->signal, a->signal_link != NULL, now);
	}
	if (a->portmap)
		run_portmap_refresh(a->portmap);
	run_agent_later(a);
}

void run_agent_check_awake(struct run_agent *a, struct nb_time now)
{
	int64_t suspended = os_suspended(), slept = suspended - a->suspended, late;

	if (!a->engine || !a->connected)
		return;
	a->suspended = suspended;
	late = nb_time_is_never(a->engine_due) ? 0 : nb_time_diff(now, a->engine_due);
	if (slept > LATE_NS || late > LATE_NS)
		woke(a, slept > late ? slept : late, now);
}

void run_agent_expect(struct run_agent *a, struct nb_time due)
{
	struct nb_time now = os_now();

	/* Whatever ran first after standing still comes by here. */
	run_agent_check_awake(a, now);
	/* What is due since long is due now: that it was set so late is not sleep. */
	a->engine_due = nb_time_before(due, now) ? now : due;
}

static void on_clock(void *ctx, int events)
{
	struct run_agent *a = ctx;

	(void)events;
	if (os_clock_was_set(a->clock_fd))
		run_agent_check_awake(a, os_now());
}

void run_agent_watch_clock(struct run_agent *a)
{
	a->suspended = os_suspended();
	a->engine_due = NB_TIME_NEVER;
	a->clock_fd = os_clock_watch();
	run_io_init(&a->clock_io, a->cfg.loop, on_clock, a);
	if (a->clock_fd >= 0)
		run_io_set(&a->clock_io, a->clock_fd, RUN_READ);
}

void run_agent_unwatch_clock(struct run_agent *a)
{
	if (a->clock_fd < 0)
		return;
	run_io_set(&a->clock_io, -1, 0);
	close(a->clock_fd);
	a->clock_fd = -1;
}
