/* worker.c - see run/worker.h. */
#include "run/worker.h"

#include "base/err.h"
#include "base/list.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#define WORKER_STACK (256 * 1024)

struct job {
	struct nb_list node;
	void (*work)(void *arg);
	void (*done)(void *arg);
	void *arg;
};

struct run_worker {
	struct run_async wake;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct nb_list queue, finished;	/* under lock, as is what follows */
	size_t waiting, max;
	bool stop;
};

static void *worker_thread(void *arg)
{
	struct run_worker *w = arg;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		struct job *j;

		while (nb_list_empty(&w->queue) && !w->stop)
			pthread_cond_wait(&w->more, &w->lock);
		if (w->stop)
			break;
		j = nb_container(w->queue.next, struct job, node);
		nb_list_del(&j->node);
		pthread_mutex_unlock(&w->lock);
		j->work(j->arg);
		pthread_mutex_lock(&w->lock);
		nb_list_push(&w->finished, &j->node);
		run_async_send(&w->wake);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static struct job *take(struct run_worker *w, struct nb_list *from)
{
	struct job *j = NULL;

	pthread_mutex_lock(&w->lock);
	if (!nb_list_empty(from)) {
		j = nb_container(from->next, struct job, node);
		nb_list_del(&j->node);
		w->waiting--;
	}
	pthread_mutex_unlock(&w->lock);
	return j;
}

static void deliver(struct run_worker *w, struct nb_list *from)
{
	struct job *j;

	while ((j = take(w, from))) {
		j->done(j->arg);
		free(j);
	}
}

static void on_wake(void *arg)
{
	struct run_worker *w = arg;

	deliver(w, &w->finished);
}

/* Signals belong to the loop's thread. */
static int start_thread(struct run_worker *w)
{
	sigset_t all, old;
	pthread_attr_t attr;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, WORKER_STACK);
	rc = pthread_create(&w->thread, &attr, worker_thread, w);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

int run_worker_new(struct run_worker **out, struct run_loop *l, size_t max)
{
	struct run_worker *w = calloc(1, sizeof(*w));

	if (!w)
		return NB_E_NOMEM;
	w->max = max;
	nb_list_init(&w->queue);
	nb_list_init(&w->finished);
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->more, NULL);
	run_async_start(&w->wake, l, on_wake, w);
	if (start_thread(w)) {
		run_async_stop(&w->wake);
		free(w);
		return NB_E_NOMEM;
	}
	*out = w;
	return 0;
}

int run_worker_do(struct run_worker *w, void (*work)(void *arg), void (*done)(void *arg), void *arg)
{
	struct job *j = calloc(1, sizeof(*j));
	bool full;

	if (!j)
		return NB_E_NOMEM;
	*j = (struct job){ .work = work, .done = done, .arg = arg };
	pthread_mutex_lock(&w->lock);
	full = w->waiting >= w->max;
	if (!full) {
		w->waiting++;
		nb_list_push(&w->queue, &j->node);
		pthread_cond_signal(&w->more);
	}
	pthread_mutex_unlock(&w->lock);
	if (full)
		free(j);
	return full ? NB_E_FULL : 0;
}

void run_worker_free(struct run_worker *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->more);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	run_async_stop(&w->wake);
	deliver(w, &w->finished);
	deliver(w, &w->queue);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->more);
	free(w);
}
