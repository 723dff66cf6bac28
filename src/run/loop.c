/* loop.c - see loop.h. libev waits on descriptors, signals and wake-ups. Timers are a pairing heap
 * of our own behind one timerfd, because libev's clock stands still while the machine sleeps.
 * Tests: tests/unit/run_loop_test.c */
#include "run/loop.h"

#include "base/err.h"
#include "os/clock.h"

#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <ev.h>

/* libev's init macros write through its base type; they do so in their own documented way. */
#pragma GCC diagnostic ignored "-Wstrict-aliasing"

/* Deferred calls and timers handled in one round; the rest waits for the next, after descriptors. */
#define ROUND_MAX 4096

struct run_loop {
	struct ev_loop *ev;
	ev_prepare prepare;
	ev_idle idle;		/* active while deferred calls are left over: do not wait */
	ev_io timer_io;
	int timer_fd;
	struct nb_time armed;	/* what timer_fd is set to */
	struct run_timer *heap;
	struct nb_list deferred, at_free;
	bool stopped, once;
};

_Static_assert(sizeof(ev_io) <= sizeof(union run_watcher), "run_watcher too small");
_Static_assert(sizeof(ev_signal) <= sizeof(union run_watcher), "run_watcher too small");
_Static_assert(sizeof(ev_async) <= sizeof(union run_watcher), "run_watcher too small");

/* --- timers -------------------------------------------------------------------------------- */

/* Both are roots without siblings; the earlier one becomes the parent. */
static struct run_timer *heap_merge(struct run_timer *a, struct run_timer *b)
{
	struct run_timer *t;

	if (!a || !b)
		return a ? a : b;
	if (nb_time_before(b->at, a->at)) {
		t = a;
		a = b;
		b = t;
	}
	b->prev = a;
	b->next = a->child;
	if (b->next)
		b->next->prev = b;
	a->child = b;
	return a;
}

/* Merge a list of siblings into one heap: pairwise, then all pairs. */
static struct run_timer *heap_collapse(struct run_timer *first)
{
	struct run_timer *pairs = NULL, *heap = NULL, *rest, *a, *b;

	while (first) {
		a = first;
		b = a->next;
		first = b ? b->next : NULL;
		a->next = a->prev = NULL;
		if (b)
			b->next = b->prev = NULL;
		a = heap_merge(a, b);
		a->next = pairs;
		pairs = a;
	}
	for (; pairs; pairs = rest) {
		rest = pairs->next;
		pairs->next = NULL;
		heap = heap_merge(heap, pairs);
	}
	return heap;
}

static void heap_remove(struct run_loop *l, struct run_timer *t)
{
	struct run_timer *children = heap_collapse(t->child);

	if (l->heap == t) {
		l->heap = children;
	} else {
		if (t->prev->child == t)
			t->prev->child = t->next;
		else
			t->prev->next = t->next;
		if (t->next)
			t->next->prev = t->prev;
		l->heap = heap_merge(l->heap, children);
	}
	t->child = t->next = t->prev = NULL;
}

void run_timer_init(struct run_timer *t, struct run_loop *l,
		    void (*fn)(void *ctx, struct nb_time now), void *ctx)
{
	*t = (struct run_timer){ .loop = l, .fn = fn, .ctx = ctx, .at = NB_TIME_NEVER };
}

void run_timer_set(struct run_timer *t, struct nb_time at)
{
	if (t->at.ns == at.ns)
		return;
	if (!nb_time_is_never(t->at))
		heap_remove(t->loop, t);
	t->at = at;
	if (!nb_time_is_never(at))
		t->loop->heap = heap_merge(t->loop->heap, t);
}

/* Returns how many fired. */
static int run_due_timers(struct run_loop *l)
{
	struct nb_time now;
	struct run_timer *t;
	int n = 0;

	if (!l->heap)
		return 0;
	now = os_now();
	for (; n < ROUND_MAX && (t = l->heap) && nb_time_due(t->at, now); n++) {
		run_timer_stop(t);
		t->fn(t->ctx, now);
	}
	return n;
}

static void arm_timer_fd(struct run_loop *l)
{
	struct nb_time at = l->heap ? l->heap->at : NB_TIME_NEVER;
	struct itimerspec its = { 0 };

	if (at.ns == l->armed.ns)
		return;
	l->armed = at;
	if (!nb_time_is_never(at)) {
		/* Zero would disarm it; any time in the past fires at once. */
		if (at.ns < 1)
			at.ns = 1;
		its.it_value.tv_sec = (time_t)(at.ns / NB_SEC);
		its.it_value.tv_nsec = (long)(at.ns % NB_SEC);
	}
	timerfd_settime(l->timer_fd, TFD_TIMER_ABSTIME, &its, NULL);
}

static void on_timer_fd(struct ev_loop *ev, ev_io *w, int revents)
{
	struct run_loop *l = w->data;
	uint64_t count;

	(void)ev, (void)revents;
	/* The timers themselves run before the next wait. */
	if (read(l->timer_fd, &count, sizeof count) == (ssize_t)sizeof count)
		l->armed = NB_TIME_NEVER;
}

/* --- deferred calls ------------------------------------------------------------------------ */

void run_defer_init(struct run_defer *d, void (*fn)(void *ctx), void *ctx)
{
	nb_list_init(&d->node);
	d->fn = fn;
	d->ctx = ctx;
}

void run_defer_call(struct run_loop *l, struct run_defer *d)
{
	if (nb_list_empty(&d->node))
		nb_list_push(&l->deferred, &d->node);
}

void run_loop_at_free(struct run_loop *l, struct run_defer *d)
{
	if (nb_list_empty(&d->node))
		nb_list_push(&l->at_free, &d->node);
}

void run_defer_cancel(struct run_defer *d)
{
	nb_list_del(&d->node);
}

/* Returns how many ran. */
static int run_list(struct nb_list *list)
{
	int n = 0;

	for (; n < ROUND_MAX && !nb_list_empty(list); n++) {
		struct run_defer *d = nb_container(list->next, struct run_defer, node);

		nb_list_del(&d->node);
		d->fn(d->ctx);
	}
	return n;
}

/* --- the loop ------------------------------------------------------------------------------ */

static void on_idle(struct ev_loop *ev, ev_idle *w, int revents)
{
	(void)ev, (void)w, (void)revents;
}

static void on_prepare(struct ev_loop *ev, ev_prepare *w, int revents)
{
	struct run_loop *l = w->data;
	int ran = run_due_timers(l);

	(void)revents;
	ran += run_list(&l->deferred);
	/* A single round that did something is over. */
	if (l->stopped || (l->once && ran) || !nb_list_empty(&l->deferred))
		ev_idle_start(ev, &l->idle);
	else
		ev_idle_stop(ev, &l->idle);
	arm_timer_fd(l);
}

int run_loop_new(struct run_loop **out)
{
	struct run_loop *l = calloc(1, sizeof *l);

	if (!l)
		return NB_E_NOMEM;
	nb_list_init(&l->deferred);
	nb_list_init(&l->at_free);
	l->armed = NB_TIME_NEVER;
	l->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
	l->ev = l->timer_fd < 0 ? NULL : ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
	if (!l->ev) {
		if (l->timer_fd >= 0)
			close(l->timer_fd);
		free(l);
		return NB_E_SYS;
	}
	ev_prepare_init(&l->prepare, on_prepare);
	l->prepare.data = l;
	ev_prepare_start(l->ev, &l->prepare);
	ev_idle_init(&l->idle, on_idle);
	ev_io_init(&l->timer_io, on_timer_fd, l->timer_fd, EV_READ);
	l->timer_io.data = l;
	ev_io_start(l->ev, &l->timer_io);
	*out = l;
	return 0;
}

void run_loop_free(struct run_loop *l)
{
	if (!l)
		return;
	while (run_list(&l->at_free))
		;
	ev_prepare_stop(l->ev, &l->prepare);
	ev_idle_stop(l->ev, &l->idle);
	ev_io_stop(l->ev, &l->timer_io);
	ev_loop_destroy(l->ev);
	close(l->timer_fd);
	free(l);
}

void run_loop_run(struct run_loop *l)
{
	l->stopped = false;
	while (!l->stopped)
		ev_run(l->ev, EVRUN_ONCE);
}

static void once_due(void *ctx, struct nb_time now)
{
	(void)ctx, (void)now;
}

void run_loop_once(struct run_loop *l, struct nb_time deadline)
{
	struct run_timer t;

	run_timer_init(&t, l, once_due, NULL);
	run_timer_set(&t, deadline);
	l->once = true;
	ev_run(l->ev, EVRUN_ONCE);
	l->once = false;
	run_due_timers(l);
	run_list(&l->deferred);
	run_timer_stop(&t);
}

void run_loop_stop(struct run_loop *l)
{
	l->stopped = true;
}

/* --- descriptors, signals, wake-ups -------------------------------------------------------- */

static void on_io(struct ev_loop *ev, ev_io *w, int revents)
{
	struct run_io *io = w->data;
	int events = 0;

	(void)ev;
	if (revents & EV_READ)
		events |= RUN_READ;
	if (revents & EV_WRITE)
		events |= RUN_WRITE;
	if (revents & EV_ERROR)
		events = io->events;
	io->fn(io->ctx, events);
}

void run_io_init(struct run_io *io, struct run_loop *l, void (*fn)(void *ctx, int events), void *ctx)
{
	ev_io *w = (ev_io *)(void *)&io->w;

	*io = (struct run_io){ .loop = l, .fn = fn, .ctx = ctx, .fd = -1 };
	ev_init(w, on_io);
	w->data = io;
}

void run_io_set(struct run_io *io, int fd, int events)
{
	ev_io *w = (ev_io *)(void *)&io->w;
	int want = (events & RUN_READ ? EV_READ : 0) | (events & RUN_WRITE ? EV_WRITE : 0);

	if (io->fd == fd && io->events == events)
		return;
	ev_io_stop(io->loop->ev, w);
	io->fd = fd;
	io->events = events;
	if (!events) {
		io->fd = -1;
		return;
	}
	ev_io_set(w, fd, want);
	ev_io_start(io->loop->ev, w);
}

static void on_signal(struct ev_loop *ev, ev_signal *w, int revents)
{
	struct run_signal *s = w->data;

	(void)ev, (void)revents;
	s->fn(s->ctx, w->signum);
}

void run_signal_start(struct run_signal *s, struct run_loop *l, int signum,
		      void (*fn)(void *ctx, int signum), void *ctx)
{
	ev_signal *w = (ev_signal *)(void *)&s->w;

	*s = (struct run_signal){ .loop = l, .fn = fn, .ctx = ctx };
	ev_signal_init(w, on_signal, signum);
	w->data = s;
	ev_signal_start(l->ev, w);
}

void run_signal_stop(struct run_signal *s)
{
	ev_signal_stop(s->loop->ev, (ev_signal *)(void *)&s->w);
}

static void on_async(struct ev_loop *ev, ev_async *w, int revents)
{
	struct run_async *a = w->data;

	(void)ev, (void)revents;
	a->fn(a->ctx);
}

void run_async_start(struct run_async *a, struct run_loop *l, void (*fn)(void *ctx), void *ctx)
{
	ev_async *w = (ev_async *)(void *)&a->w;

	*a = (struct run_async){ .loop = l, .fn = fn, .ctx = ctx };
	ev_async_init(w, on_async);
	w->data = a;
	ev_async_start(l->ev, w);
}

void run_async_stop(struct run_async *a)
{
	ev_async_stop(a->loop->ev, (ev_async *)(void *)&a->w);
}

void run_async_send(struct run_async *a)
{
	ev_async_send(a->loop->ev, (ev_async *)(void *)&a->w);
}
