/* resolve.c - see resolve.h. A lookup belongs to the loop and to its thread: `users` counts both, the last
 * one frees. The thread cannot be stopped inside getaddrinfo; a cancelled lookup ends unheard.
 * Tests: tests/unit/run_dial_test.c */
#include "run/resolve.h"

#include "base/err.h"
#include "base/list.h"

#include "os/clock.h"
#include "os/socket.h"

#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOST_MAX 256
#define STACK_BYTES (256 * 1024)
#define KNOWN_MAX 32			/* names whose last answer is kept */
#define PATIENCE_NS (700 * NB_MS)	/* for a name server, when there is an older answer */

struct run_lookup {
	struct run_resolver *r;
	struct nb_list node;		/* in r->done when the thread has finished */
	void (*fn)(void *ctx, const struct nb_addr *addrs, size_t n, const char *why);
	void *ctx;
	bool cancelled;		/* nobody waits any more */
	bool literal;		/* an address: nothing to remember */
	struct nb_list waiting;	/* in r->waiting while somebody waits */
	struct run_timer patience;
	char host[HOST_MAX], why[64];
	struct nb_addr addrs[RUN_RESOLVE_MAX];
	size_t n;
};

/* The last answer about a name: better than none when name servers are away. */
struct known {
	char host[HOST_MAX];
	struct nb_addr addrs[RUN_RESOLVE_MAX];
	size_t n;
};

struct run_resolver {
	struct run_loop *loop;
	struct known known[KNOWN_MAX];	/* the loop's own */
	size_t known_at;
	struct nb_list waiting;		/* the loop's own */
	pthread_mutex_t lock;
	struct run_async wake;
	struct nb_list done;
	size_t running;		/* threads */
	bool closed;		/* the loop has gone: threads free what they made */
};

static void look_up(struct run_lookup *k)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG }, *list = NULL;
	int r = getaddrinfo(k->host, NULL, &hints, &list);

	if (r) {
		snprintf(k->why, sizeof k->why, "%s", gai_strerror(r));
		return;
	}
	for (struct addrinfo *ai = list; ai && k->n < RUN_RESOLVE_MAX; ai = ai->ai_next) {
		struct nb_endpoint e = os_endpoint_from(ai->ai_addr);

		if (e.addr.family)
			k->addrs[k->n++] = e.addr;
	}
	freeaddrinfo(list);
	if (!k->n)
		snprintf(k->why, sizeof k->why, "the name has no address");
}

static void resolver_destroy(struct run_resolver *r)
{
	nb_list_each_safe(it, &r->done)
		free(nb_container(it, struct run_lookup, node));
	pthread_mutex_destroy(&r->lock);
	free(r);
}

static void *thread_main(void *arg)
{
	struct run_lookup *k = arg;
	struct run_resolver *r = k->r;
	bool last;

	look_up(k);
	pthread_mutex_lock(&r->lock);
	nb_list_push(&r->done, &k->node);
	r->running--;
	last = r->closed && !r->running;
	if (!r->closed)
		run_async_send(&r->wake);
	pthread_mutex_unlock(&r->lock);
	if (last)
		resolver_destroy(r);
	return NULL;
}

static struct run_lookup *take_done(struct run_resolver *r)
{
	struct run_lookup *k = NULL;

	pthread_mutex_lock(&r->lock);
	if (!nb_list_empty(&r->done)) {
		k = nb_container(r->done.next, struct run_lookup, node);
		nb_list_del(&k->node);
	}
	pthread_mutex_unlock(&r->lock);
	return k;
}

static struct known *known_find(struct run_resolver *r, const char *host)
{
	for (size_t i = 0; i < KNOWN_MAX; i++)
		if (r->known[i].n && !strcmp(r->known[i].host, host))
			return &r->known[i];
	return NULL;
}

static void remember(struct run_resolver *r, const struct run_lookup *k)
{
	struct known *o = known_find(r, k->host);

	if (!o)
		o = &r->known[r->known_at++ % KNOWN_MAX];
	memcpy(o->host, k->host, sizeof o->host);
	memcpy(o->addrs, k->addrs, sizeof o->addrs);
	o->n = k->n;
}

static void forget(struct run_lookup *k)
{
	if (k->cancelled)
		return;
	run_timer_stop(&k->patience);
	nb_list_del(&k->waiting);
	k->cancelled = true;
}

/* To whoever waits, once. */
static void answer(struct run_lookup *k, const struct nb_addr *addrs, size_t n)
{
	if (k->cancelled)
		return;
	forget(k);
	k->fn(k->ctx, addrs, n, k->why);
}

/* The name server takes its time: the answer of before will do. */
static void on_patience(void *ctx, struct nb_time now)
{
	struct run_lookup *k = ctx;
	const struct known *o = known_find(k->r, k->host);

	(void)now;
	if (o)
		answer(k, o->addrs, o->n);
}

static void finish(struct run_lookup *k)
{
	const struct known *o;

	if (k->n && !k->literal)
		remember(k->r, k);
	o = known_find(k->r, k->host);
	if (k->n || !o)
		answer(k, k->addrs, k->n);
	else
		answer(k, o->addrs, o->n);
}

static void on_wake(void *ctx)
{
	struct run_lookup *k;

	while ((k = take_done(ctx))) {
		finish(k);
		free(k);
	}
}

int run_resolver_new(struct run_resolver **out, struct run_loop *l)
{
	struct run_resolver *r = calloc(1, sizeof *r);

	if (!r)
		return NB_E_NOMEM;
	pthread_mutex_init(&r->lock, NULL);
	nb_list_init(&r->done);
	nb_list_init(&r->waiting);
	run_async_start(&r->wake, l, on_wake, r);
	r->loop = l;
	*out = r;
	return 0;
}

void run_resolver_free(struct run_resolver *r)
{
	bool last;

	if (!r)
		return;
	run_async_stop(&r->wake);
	nb_list_each_safe(it, &r->waiting)
		forget(nb_container(it, struct run_lookup, waiting));
	pthread_mutex_lock(&r->lock);
	r->closed = true;
	last = !r->running;
	pthread_mutex_unlock(&r->lock);
	if (last)
		resolver_destroy(r);
}

static int start_thread(struct run_lookup *k)
{
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	r = pthread_create(&thread, &attr, thread_main, k);
	pthread_attr_destroy(&attr);
	return r ? NB_E_SYS : 0;
}

int run_resolve(struct run_lookup **out, struct run_resolver *r, const char *host,
		void (*fn)(void *ctx, const struct nb_addr *addrs, size_t n, const char *why), void *ctx)
{
	struct run_lookup *k = calloc(1, sizeof *k);
	int err;

	if (!k)
		return NB_E_NOMEM;
	k->r = r;
	k->fn = fn;
	k->ctx = ctx;
	snprintf(k->host, sizeof k->host, "%s", host);
	run_timer_init(&k->patience, r->loop, on_patience, k);
	if (nb_addr_parse(&k->addrs[0], host) == 0) {
		/* No thread needed, but the same path back. */
		k->n = 1;
		k->literal = true;
		pthread_mutex_lock(&r->lock);
		nb_list_push(&r->done, &k->node);
		pthread_mutex_unlock(&r->lock);
		run_async_send(&r->wake);
		nb_list_push(&r->waiting, &k->waiting);
		*out = k;
		return 0;
	}
	pthread_mutex_lock(&r->lock);
	r->running++;
	pthread_mutex_unlock(&r->lock);
	err = start_thread(k);
	if (err) {
		pthread_mutex_lock(&r->lock);
		r->running--;
		pthread_mutex_unlock(&r->lock);
		free(k);
		return err;
	}
	nb_list_push(&r->waiting, &k->waiting);
	if (known_find(r, host))
		run_timer_set(&k->patience, nb_time_add(os_now(), PATIENCE_NS));
	*out = k;
	return 0;
}

void run_resolve_cancel(struct run_lookup *k)
{
	if (k)
		forget(k);
}
