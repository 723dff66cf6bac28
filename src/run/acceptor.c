/* acceptor.c - see acceptor.h. */
#include "run/acceptor.h"

#include "base/err.h"
#include "base/log.h"

#include "crypto/crypto.h"
#include "os/clock.h"
#include "os/socket.h"

#define ACCEPTS_PER_ROUND 64
#define PAUSE_NS (500 * NB_MS)		/* no accepting after running out of descriptors */

struct source_key {
	uint8_t b[9];
};

/* IPv4 address, or the first half of an IPv6 one: the other half is the client's to choose. */
static struct source_key source_key(const struct nb_endpoint *peer)
{
	struct source_key k = { { peer->addr.family } };

	memcpy(k.b + 1, peer->addr.ip, peer->addr.family == 4 ? 4 : 8);
	return k;
}

void run_crowd_init(struct run_crowd *c, size_t max, size_t max_per_source, const char *who)
{
	uint8_t seed[16];

	*c = (struct run_crowd){ .max = max, .max_per_source = max_per_source, .who = who };
	nbc_random(NULL, seed, sizeof seed);
	nb_map_init(&c->sources, seed, max);
}

void run_crowd_fini(struct run_crowd *c)
{
	nb_map_fini(&c->sources);
}

static int enter(struct run_crowd *c, const struct nb_endpoint *peer)
{
	struct source_key k = source_key(peer);
	struct nb_bytes key = nb_bytes(&k, sizeof k);
	size_t n = (size_t)(uintptr_t)nb_map_get(&c->sources, key);
	int r;

	if (c->count >= c->max || (n >= c->max_per_source && (c->loopback_too || !nb_addr_is_loopback(&peer->addr))))
		return NB_E_FULL;
	r = nb_map_put(&c->sources, key, (void *)(uintptr_t)(n + 1), NULL);
	if (r == 0)
		c->count++;
	return r;
}

void run_crowd_leave(struct run_crowd *c, const struct nb_endpoint *peer)
{
	struct source_key k = source_key(peer);
	struct nb_bytes key = nb_bytes(&k, sizeof k);
	size_t n = (size_t)(uintptr_t)nb_map_get(&c->sources, key);

	c->count--;
	if (n > 1)
		/* Replaces an entry that exists: cannot fail. */
		(void)nb_map_put(&c->sources, key, (void *)(uintptr_t)(n - 1), NULL);
	else
		(void)nb_map_del(&c->sources, key);
}

static void refuse(struct run_crowd *c, const struct nb_endpoint *peer)
{
	char at[NB_ADDR_TEXT];

	c->refused++;
	if (c->told_full)
		return;
	c->told_full = true;
	nb_endpoint_format(at, peer);
	nb_warn("%stoo many connections, refusing the one from %s (told once)", c->who, at);
}

static void stuck(struct run_acceptor *a)
{
	if (!a->crowd->told_stuck)
		nb_warn("%scannot accept connections for now: %s (told once)", a->crowd->who, os_why());
	a->crowd->told_stuck = true;
	run_io_set(&a->io, -1, 0);
	run_timer_set(&a->pause, nb_time_add(os_now(), PAUSE_NS));
}

static void on_acceptable(void *ctx, int events)
{
	struct run_acceptor *a = ctx;
	struct nb_endpoint peer;
	int fd, r;

	(void)events;
	for (int i = 0; i < ACCEPTS_PER_ROUND; i++) {
		r = os_accept(&fd, &peer, a->fd);
		if (r == NB_E_AGAIN)
			return;
		if (r) {
			stuck(a);
			return;
		}
		r = enter(a->crowd, &peer);
		if (r == 0) {
			r = a->accepted(a->ctx, fd, &peer);
			if (r)
				run_crowd_leave(a->crowd, &peer);
		}
		if (r) {
			refuse(a->crowd, &peer);
			os_close(&fd);
		}
	}
}

static void on_pause_over(void *ctx, struct nb_time now)
{
	struct run_acceptor *a = ctx;

	(void)now;
	run_io_set(&a->io, a->fd, RUN_READ);
}

int run_acceptor_start(struct run_acceptor *a, struct run_loop *l, const struct nb_endpoint *at, struct run_crowd *crowd,
		       int (*accepted)(void *ctx, int fd, const struct nb_endpoint *peer), void *ctx)
{
	int r = os_tcp_listen(&a->fd, at);

	if (r) {
		a->fd = -1;
		return r;
	}
	a->at = *at;
	(void)os_local_endpoint(a->fd, &a->at);
	a->crowd = crowd;
	a->accepted = accepted;
	a->ctx = ctx;
	run_io_init(&a->io, l, on_acceptable, a);
	run_timer_init(&a->pause, l, on_pause_over, a);
	run_io_set(&a->io, a->fd, RUN_READ);
	return 0;
}

void run_acceptor_stop(struct run_acceptor *a)
{
	if (a->fd < 0)
		return;
	run_io_set(&a->io, -1, 0);
	run_timer_stop(&a->pause);
	os_close(&a->fd);
}
