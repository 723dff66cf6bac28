/* run_loop_test.c - src/run/loop.c: order and accuracy of timers, descriptors, wake-ups, deferral. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "os/clock.h"
#include "run/loop.h"

static struct run_loop *loop;

static int setup(void **state)
{
	(void)state;
	return run_loop_new(&loop);
}

static int teardown(void **state)
{
	(void)state;
	run_loop_free(loop);
	return 0;
}

#define TIMERS 400

static struct run_timer timers[TIMERS];
static int64_t fired_at[TIMERS];
static int fired;
static int64_t last_fired;

static void on_timer(void *ctx, struct nb_time now)
{
	size_t i = (size_t)((struct run_timer *)ctx - timers);

	assert_true(now.ns >= fired_at[i]);
	assert_true(fired_at[i] >= last_fired);
	last_fired = fired_at[i];
	fired++;
}

/* Random starts, moves and stops; what is left fires in order. */
static void test_timer_order(void **state)
{
	struct nb_time base = os_now();
	int live = 0;

	(void)state;
	srand(7);
	fired = 0;
	last_fired = 0;
	for (int i = 0; i < TIMERS; i++)
		run_timer_init(&timers[i], loop, on_timer, &timers[i]);
	for (int k = 0; k < 5 * TIMERS; k++) {
		struct run_timer *t = &timers[rand() % TIMERS];

		if (rand() % 4 == 0)
			run_timer_stop(t);
		else
			run_timer_set(t, nb_time_add(base, rand() % 20 * NB_MS));
	}
	for (int i = 0; i < TIMERS; i++) {
		fired_at[i] = timers[i].at.ns;
		live += !nb_time_is_never(timers[i].at);
	}
	assert_true(live > TIMERS / 4);
	for (int rounds = 0; fired < live && rounds < 1000; rounds++)
		run_loop_once(loop, nb_time_add_ms(os_now(), 50));
	assert_int_equal(fired, live);
}

static void rearm(void *ctx, struct nb_time now)
{
	struct run_timer *t = ctx;

	if (++fired < 3)
		run_timer_set(t, nb_time_add_ms(now, 5));
	else
		run_loop_stop(loop);
}

static void test_timer_rearm(void **state)
{
	struct nb_time start = os_now();
	struct run_timer t;
	int64_t took;

	(void)state;
	fired = 0;
	run_timer_init(&t, loop, rearm, &t);
	run_timer_set(&t, (struct nb_time){ 0 });
	run_loop_run(loop);
	took = nb_time_diff(os_now(), start);
	assert_int_equal(fired, 3);
	assert_true(took >= 10 * NB_MS && took < 500 * NB_MS);
}

static int pipe_fds[2];
static char got[16];
static size_t ngot;

static void on_readable(void *ctx, int events)
{
	ssize_t n = read(pipe_fds[0], got, sizeof got);

	assert_int_equal(events, RUN_READ);
	ngot = n > 0 ? (size_t)n : 0;
	run_io_set(ctx, -1, 0);
	run_loop_stop(loop);
}

static void test_io(void **state)
{
	struct run_io io;

	(void)state;
	assert_int_equal(pipe(pipe_fds), 0);
	run_io_init(&io, loop, on_readable, &io);
	run_io_set(&io, pipe_fds[0], RUN_READ);
	assert_int_equal(write(pipe_fds[1], "hello", 5), 5);
	run_loop_run(loop);
	assert_int_equal(ngot, 5);
	/* Stopped: more bytes are not reported. */
	ngot = 0;
	assert_int_equal(write(pipe_fds[1], "again", 5), 5);
	run_loop_once(loop, nb_time_add_ms(os_now(), 5));
	assert_int_equal(ngot, 0);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

static void on_wake(void *ctx)
{
	++*(int *)ctx;
	run_loop_stop(loop);
}

static void *waker(void *ctx)
{
	usleep(5000);
	run_async_send(ctx);
	return NULL;
}

static void on_usr1(void *ctx, int signum)
{
	assert_int_equal(signum, SIGUSR1);
	++*(int *)ctx;
	run_loop_stop(loop);
}

static void test_wakeups(void **state)
{
	struct run_async a;
	struct run_signal s;
	pthread_t thread;
	int woken = 0, signals = 0;

	(void)state;
	run_async_start(&a, loop, on_wake, &woken);
	assert_int_equal(pthread_create(&thread, NULL, waker, &a), 0);
	run_loop_run(loop);
	pthread_join(thread, NULL);
	assert_int_equal(woken, 1);
	run_async_stop(&a);

	run_signal_start(&s, loop, SIGUSR1, on_usr1, &signals);
	raise(SIGUSR1);
	run_loop_run(loop);
	assert_int_equal(signals, 1);
	run_signal_stop(&s);
}

struct chain {
	struct run_defer d;
	int left;
};

static void chained(void *ctx)
{
	struct chain *c = ctx;

	if (--c->left)
		run_defer_call(loop, &c->d);
	else
		run_loop_stop(loop);
}

/* A chain longer than one round neither blocks the loop nor is lost. */
static void test_defer(void **state)
{
	struct chain a = { .left = 10000 }, b = { .left = 1 };

	(void)state;
	run_defer_init(&a.d, chained, &a);
	run_defer_init(&b.d, chained, &b);
	run_defer_call(loop, &a.d);
	run_defer_call(loop, &a.d);
	run_defer_call(loop, &b.d);
	run_defer_cancel(&b.d);
	run_loop_run(loop);
	assert_int_equal(a.left, 0);
	assert_int_equal(b.left, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_timer_order), cmocka_unit_test(test_timer_rearm),
		cmocka_unit_test(test_io), cmocka_unit_test(test_wakeups), cmocka_unit_test(test_defer),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
