/* loop.h - the event loop: descriptors, timers, signals, wake-ups from other threads, deferred
 * calls. The only user of libev; nothing above sees its types. One loop belongs to one thread;
 * run_async_send is the only call that another thread may make.
 *
 * Watchers live in the caller's memory, are prepared once by their _init and cost nothing while
 * idle. A callback may stop, restart or free any watcher, its own included. Timers count
 * CLOCK_BOOTTIME: after the machine slept, what became due meanwhile fires at once. */
#ifndef NB_RUN_LOOP_H
#define NB_RUN_LOOP_H

#include "base/list.h"
#include "base/time.h"

struct run_loop;

#define RUN_READ 1
#define RUN_WRITE 2

/* Room for a libev watcher; loop.c asserts that it suffices. */
union run_watcher {
	uint64_t words[8];
	void *align;
};

/* A new loop (epoll). Returns 0, NB_E_NOMEM or NB_E_SYS. */
int run_loop_new(struct run_loop **out);
/* Runs what run_loop_at_free collected. Every other watcher must be stopped before. NULL is allowed. */
void run_loop_free(struct run_loop *l);
/* Run until run_loop_stop, even when no watcher is active. */
void run_loop_run(struct run_loop *l);
/* One round: wait at most until deadline (NB_TIME_NEVER: for ever), handle what is there.
 * For tests and one-shot commands. */
void run_loop_once(struct run_loop *l, struct nb_time deadline);
/* End run_loop_run after the current round. */
void run_loop_stop(struct run_loop *l);

/* A descriptor. */
struct run_io {
	union run_watcher w;
	struct run_loop *loop;
	void (*fn)(void *ctx, int events);
	void *ctx;
	int fd;
	int events;
};
/* fn gets RUN_READ and/or RUN_WRITE; a hung-up or failed descriptor reports what was asked for. */
void run_io_init(struct run_io *io, struct run_loop *l, void (*fn)(void *ctx, int events), void *ctx);
/* Watch fd for events; 0 stops. Repeating the same values is free. Stop before closing fd. */
void run_io_set(struct run_io *io, int fd, int events);

/* A timer that fires once. */
struct run_timer {
	struct run_loop *loop;
	void (*fn)(void *ctx, struct nb_time now);
	void *ctx;
	struct nb_time at;	/* NB_TIME_NEVER while stopped */
	struct run_timer *child, *next, *prev;	/* heap links */
};
void run_timer_init(struct run_timer *t, struct run_loop *l,
		    void (*fn)(void *ctx, struct nb_time now), void *ctx);
/* (Re)start for a point in time; NB_TIME_NEVER stops, a time that has passed fires in the next round. */
void run_timer_set(struct run_timer *t, struct nb_time at);
static inline void run_timer_stop(struct run_timer *t)
{
	run_timer_set(t, NB_TIME_NEVER);
}

/* A signal; only one loop of the process may watch a given one. */
struct run_signal {
	union run_watcher w;
	struct run_loop *loop;
	void (*fn)(void *ctx, int signum);
	void *ctx;
};
void run_signal_start(struct run_signal *s, struct run_loop *l, int signum,
		      void (*fn)(void *ctx, int signum), void *ctx);
void run_signal_stop(struct run_signal *s);

/* A wake-up from another thread. Several sends before fn runs become one call. */
struct run_async {
	union run_watcher w;
	struct run_loop *loop;
	void (*fn)(void *ctx);
	void *ctx;
};
void run_async_start(struct run_async *a, struct run_loop *l, void (*fn)(void *ctx), void *ctx);
/* Stop before freeing; no thread may send any more. */
void run_async_stop(struct run_async *a);
/* Thread-safe. */
void run_async_send(struct run_async *a);

/* A call at the end of the current round, before the loop waits: the place to free what is still on
 * the stack, and to flush once what many events touched. */
struct run_defer {
	struct nb_list node;
	void (*fn)(void *ctx);
	void *ctx;
};
void run_defer_init(struct run_defer *d, void (*fn)(void *ctx), void *ctx);
/* Queue; queueing again before it ran is free. */
void run_defer_call(struct run_loop *l, struct run_defer *d);
void run_defer_cancel(struct run_defer *d);
/* Queue for run_loop_free instead: for what may outlive its owner, such as a socket that lingers. */
void run_loop_at_free(struct run_loop *l, struct run_defer *d);

#endif
