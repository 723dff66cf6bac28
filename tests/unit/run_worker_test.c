/* run_worker_test.c - jobs run elsewhere and in order, and end here; the queue has a limit; ending early calls done
 * for all. Tests src/run/worker.c. */
#include "run/worker.h"

#include "base/err.h"
#include "os/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static pthread_t loop_thread;
static int order[16], n_done, elsewhere;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static void work(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&gate);
	elsewhere += !pthread_equal(pthread_self(), loop_thread);
	pthread_mutex_unlock(&gate);
}

static void done(void *arg)
{
	assert_true(pthread_equal(pthread_self(), loop_thread));
	order[n_done++] = (int)(intptr_t)arg;
}

static void jobs_come_back_in_order(void **state)
{
	struct run_loop *l;
	struct run_worker *w;

	(void)state;
	loop_thread = pthread_self();
	n_done = elsewhere = 0;
	assert_int_equal(run_loop_new(&l), 0);
	assert_int_equal(run_worker_new(&w, l, 8), 0);
	for (int i = 0; i < 5; i++)
		assert_int_equal(run_worker_do(w, work, done, (void *)(intptr_t)i), 0);
	while (n_done < 5)
		run_loop_once(l, nb_time_add_ms(os_now(), 1000));
	assert_int_equal(elsewhere, 5);
	for (int i = 0; i < 5; i++)
		assert_int_equal(order[i], i);
	run_worker_free(w);
	run_loop_free(l);
}

static void the_queue_has_a_limit_and_ends(void **state)
{
	struct run_loop *l;
	struct run_worker *w;

	(void)state;
	loop_thread = pthread_self();
	n_done = 0;
	assert_int_equal(run_loop_new(&l), 0);
	assert_int_equal(run_worker_new(&w, l, 2), 0);
	pthread_mutex_lock(&gate);
	assert_int_equal(run_worker_do(w, work, done, (void *)0), 0);
	assert_int_equal(run_worker_do(w, work, done, (void *)1), 0);
	assert_int_equal(run_worker_do(w, work, done, (void *)2), NB_E_FULL);
	pthread_mutex_unlock(&gate);
	run_worker_free(w);
	assert_int_equal(n_done, 2);
	run_loop_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(jobs_come_back_in_order), cmocka_unit_test(the_queue_has_a_limit_and_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
