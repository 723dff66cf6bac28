/* upnp.c - see upnp.h. */
#include "run/upnp.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <miniupnpc/miniupnpc.h>
#include <miniupnpc/upnpcommands.h>

#include "base/err.h"
#include "base/log.h"
#include "crypto/crypto.h"

#define STACK (256 * 1024)
#define SEARCH_MS 1000		/* for answers to the search; */
#define SEARCH_LONG_MS 3000	/* to the second one, when there was none */
#define LEASE "7200"		/* seconds */
#define RENEW_S 3600		/* also for leases without end: a router that was reset is found out */
#define AGAIN_S 1800		/* until the next search when there is no gateway of this kind */
#define PORT_TRIES 3
#define PORT_LOW 10000		/* external ports, as stock chooses them */
#define PORT_HIGH 65534
#define CONFLICT 718		/* UPnP IGD: ConflictInMappingEntry */
#define PERMANENT_ONLY 725	/* OnlyPermanentLeasesSupported */

struct run_upnp {
	/* fixed */
	char gateway[NB_ADDR_TEXT], local[NB_ADDR_TEXT];
	char port[8];
	void (*fn)(void *ctx, const struct nb_endpoint *external);
	void *ctx;
	/* the thread's */
	bool found;			/* urls and data are valid */
	struct UPNPUrls urls;
	struct IGDdatas data;
	char external_port[8];		/* "" while there is no mapping */
	const char *lease;
	/* shared, under lock */
	pthread_mutex_t lock;
	pthread_cond_t change;
	struct run_async wake;
	struct nb_endpoint external;
	bool mapping;			/* one is there or being made */
	bool stop, left, done;		/* asked to end; the owner has gone; the thread has ended */
};

static void upnp_free(struct run_upnp *u)
{
	pthread_mutex_destroy(&u->lock);
	pthread_cond_destroy(&u->change);
	free(u);
}

/* ---- The thread ---- */

/* Is this URL at the gateway's address? */
static bool at_gateway(const struct run_upnp *u, const char *url)
{
	size_t n = strlen(u->gateway);

	if (!url || strncmp(url, "http://", 7))
		return false;
	url += 7;
	return !strncmp(url, u->gateway, n) && (url[n] == ':' || url[n] == '/' || !url[n]);
}

/* Others' answers leave the list: whoever shares our network could give them. */
static struct UPNPDev *only_gateway(const struct run_upnp *u, struct UPNPDev *list)
{
	struct UPNPDev *kept = NULL, *others = NULL;

	while (list) {
		struct UPNPDev *next = list->pNext, **to = at_gateway(u, list->descURL) ? &kept : &others;

		list->pNext = *to;
		*to = list;
		list = next;
	}
	freeUPNPDevlist(others);
	return kept;
}

static void forget_device(struct run_upnp *u)
{
	if (u->found)
		FreeUPNPUrls(&u->urls);
	u->found = false;
	u->external_port[0] = 0;
}

static struct UPNPDev *search(const struct run_upnp *u, int ms)
{
	int err = 0;

	return only_gateway(u, upnpDiscover(ms, u->local, NULL, UPNP_LOCAL_PORT_ANY, 0, 2, &err));
}

static bool wanted(struct run_upnp *u)
{
	bool stop;

	pthread_mutex_lock(&u->lock);
	stop = u->stop;
	pthread_mutex_unlock(&u->lock);
	return !stop;
}

static bool find_device(struct run_upnp *u)
{
	char local[64] = "";
	struct UPNPDev *list;
	int kind;

	list = search(u, SEARCH_MS);
	if (!list && wanted(u))
		list = search(u, SEARCH_LONG_MS);
	if (!list)
		return false;
	kind = wanted(u) ? UPNP_GetValidIGD(list, &u->urls, &u->data, local, sizeof local) : 0;
	freeUPNPDevlist(list);
	if (!kind)
		return false;
	u->found = true;
	/* Not connected (2) is as good: routers are wrong about that, and the mapping is for later as well. */
	if (kind == 3 || !at_gateway(u, u->urls.controlURL))
		forget_device(u);
	return u->found;
}

static int add_mapping(struct run_upnp *u, const char *external_port)
{
	return UPNP_AddPortMapping(u->urls.controlURL, u->data.first.servicetype, external_port, u->port, u->local, "NetBird",
				   "UDP", NULL, u->lease);
}

static bool try_port(struct run_upnp *u, const char *external_port, bool *conflict)
{
	int err = add_mapping(u, external_port);

	if (err == PERMANENT_ONLY) {
		u->lease = "0";
		err = add_mapping(u, external_port);
	}
	*conflict = err == CONFLICT;
	if (err)
		return false;
	snprintf(u->external_port, sizeof u->external_port, "%s", external_port);
	return true;
}

static unsigned random_port(void)
{
	uint32_t r;

	nbc_random(NULL, &r, sizeof r);
	return PORT_LOW + r % (PORT_HIGH - PORT_LOW + 1);
}

/* False when it is not wanted any more. */
static bool begin_mapping(struct run_upnp *u)
{
	pthread_mutex_lock(&u->lock);
	u->mapping = !u->stop || u->external_port[0];
	pthread_mutex_unlock(&u->lock);
	return u->mapping;
}

/* Renew, or find a free port. */
static bool map_port(struct run_upnp *u)
{
	char port[8];
	bool conflict;

	if (!begin_mapping(u))
		return false;
	if (u->external_port[0]) {
		snprintf(port, sizeof port, "%s", u->external_port);
		u->external_port[0] = 0;
		if (try_port(u, port, &conflict))
			return true;
		if (!conflict)
			return false;
	}
	for (int i = 0; i < PORT_TRIES; i++) {
		snprintf(port, sizeof port, "%u", random_port());
		if (try_port(u, port, &conflict))
			return true;
	}
	return false;
}

/* The mapping's external end; an address the router does not know is left to STUN. */
static struct nb_endpoint external_end(struct run_upnp *u)
{
	struct nb_endpoint e = { .port = (uint16_t)strtoul(u->external_port, NULL, 10) };
	char text[40] = "";

	if (UPNP_GetExternalIPAddress(u->urls.controlURL, u->data.first.servicetype, text) || nb_addr_parse(&e.addr, text) ||
	    e.addr.family != 4)
		e.addr = nb_addr4(0);
	return e;
}

/* One round; port 0 when there is no mapping. */
static struct nb_endpoint work(struct run_upnp *u)
{
	struct nb_endpoint none = { 0 };

	if (u->found && map_port(u))
		return external_end(u);
	forget_device(u);
	if (!find_device(u) || !map_port(u)) {
		forget_device(u);
		return none;
	}
	return external_end(u);
}

static void publish(struct run_upnp *u, const struct nb_endpoint *external)
{
	if (u->stop || nb_endpoint_eq(external, &u->external))
		return;
	u->external = *external;
	run_async_send(&u->wake);
}

static void wait_for_change(struct run_upnp *u, int64_t seconds)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)seconds;
	while (!u->stop && pthread_cond_timedwait(&u->change, &u->lock, &until) != ETIMEDOUT)
		;
}

static void *upnp_thread(void *arg)
{
	struct run_upnp *u = arg;
	struct nb_endpoint e;
	bool left;

	pthread_mutex_lock(&u->lock);
	while (!u->stop) {
		pthread_mutex_unlock(&u->lock);
		e = work(u);
		pthread_mutex_lock(&u->lock);
		u->mapping = e.port != 0;
		publish(u, &e);
		wait_for_change(u, e.port ? RENEW_S : AGAIN_S);
	}
	pthread_mutex_unlock(&u->lock);
	if (u->external_port[0])
		UPNP_DeletePortMapping(u->urls.controlURL, u->data.first.servicetype, u->external_port, "UDP", NULL);
	forget_device(u);
	pthread_mutex_lock(&u->lock);
	u->done = true;
	left = u->left;
	pthread_cond_broadcast(&u->change);
	pthread_mutex_unlock(&u->lock);
	if (left)
		upnp_free(u);
	return NULL;
}

/* ---- The loop's side ---- */

static void on_wake(void *ctx)
{
	struct run_upnp *u = ctx;
	struct nb_endpoint e;

	pthread_mutex_lock(&u->lock);
	e = u->external;
	pthread_mutex_unlock(&u->lock);
	u->fn(u->ctx, &e);
}

/* Detached: an ending process does not wait for a router. Signals belong to the loop's thread. */
static int start_thread(struct run_upnp *u)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	rc = pthread_create(&thread, &attr, upnp_thread, u);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

int run_upnp_start(struct run_upnp **out, struct run_loop *l, const struct nb_addr *gateway, const struct nb_addr *local,
		   uint16_t port, void (*fn)(void *ctx, const struct nb_endpoint *external), void *ctx)
{
	struct run_upnp *u = calloc(1, sizeof *u);
	pthread_condattr_t attr;

	if (!u)
		return NB_E_NOMEM;
	nb_addr_format(u->gateway, gateway);
	nb_addr_format(u->local, local);
	snprintf(u->port, sizeof u->port, "%u", port);
	u->lease = LEASE;
	u->fn = fn;
	u->ctx = ctx;
	pthread_mutex_init(&u->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&u->change, &attr);
	pthread_condattr_destroy(&attr);
	run_async_start(&u->wake, l, on_wake, u);
	if (start_thread(u)) {
		run_async_stop(&u->wake);
		upnp_free(u);
		return NB_E_NOMEM;
	}
	*out = u;
	return 0;
}

void run_upnp_stop(struct run_upnp *u, bool wait)
{
	struct timespec until;
	bool done;

	if (!u)
		return;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += RUN_UPNP_STOP_MS / 1000;
	pthread_mutex_lock(&u->lock);
	u->stop = true;
	pthread_cond_broadcast(&u->change);
	while (wait && u->mapping && !u->done && pthread_cond_timedwait(&u->change, &u->lock, &until) != ETIMEDOUT)
		;
	/* From here on it is the thread's to free, which may be at once. */
	run_async_stop(&u->wake);
	u->left = true;
	done = u->done;
	pthread_mutex_unlock(&u->lock);
	if (done)
		upnp_free(u);
}
