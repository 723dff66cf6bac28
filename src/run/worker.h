/* run/worker.h - one thread for slow work that touches nothing but its own data (password hashes): jobs in, done in
 * the loop's thread, in order. Tests: tests/unit/run_worker_test.c */
#ifndef NB_RUN_WORKER_H
#define NB_RUN_WORKER_H

#include "run/loop.h"

struct run_worker;

/* Start the thread. max: jobs waiting at most. Returns 0 or NB_E_NOMEM. */
int run_worker_new(struct run_worker **out, struct run_loop *l, size_t max);
/* Queue work(arg) for the thread; done(arg) follows on the loop. Returns 0, NB_E_FULL or NB_E_NOMEM (neither is
 * called then). */
int run_worker_do(struct run_worker *w, void (*work)(void *arg), void (*done)(void *arg), void *arg);
/* Finish the running job, call done for every job that was queued (work may not have run for the last ones), end the
 * thread. NULL is allowed. */
void run_worker_free(struct run_worker *w);

#endif
