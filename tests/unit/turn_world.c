/* turn_world.c - see turn_world.h. */
#include "unit/turn_world.h"

#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

void world_random(void *ctx, void *out, size_t n)
{
	struct world *w = ctx;
	uint8_t *p = out;

	while (n--) {
		w->random = w->random * 1664525 + 1013904223;
		*p++ = (uint8_t)(w->random >> 24);
	}
}

static struct world_dgram *post(struct world *w, size_t n)
{
	struct world_dgram *d = &w->mail[w->nmail++];

	assert_true(w->nmail <= WORLD_MAIL);
	assert_true(n <= WORLD_BYTES);
	*d = (struct world_dgram){ .n = n };
	return d;
}

static int on_open(void *ctx, struct turn_relay *r)
{
	struct world *w = ctx;

	if (w->no_sockets)
		return NB_E_FULL;
	if (turn_relay_port(r) == w->busy_port)
		return NB_E_BUSY;
	w->opened++;
	turn_relay_set_data(r, w);
	return 0;
}

static void on_close(void *ctx, struct turn_relay *r)
{
	struct world *w = ctx;

	assert_ptr_equal(turn_relay_data(r), w);
	w->closed++;
}

static void on_relay(void *ctx, struct turn_relay *r, const struct nb_endpoint *peer, struct nb_bytes data)
{
	struct world_dgram *d = post(ctx, data.n);

	d->relayed = true;
	d->relay = r;
	d->port = turn_relay_port(r);
	d->to = *peer;
	memcpy(d->p, data.p, data.n);
}

static void on_reply(void *ctx, const struct turn_flow *to, struct nb_bytes head, struct nb_bytes body,
		     struct nb_bytes tail)
{
	struct world_dgram *d = post(ctx, head.n + body.n + tail.n);

	assert_true(body.n == 0 || head.n <= TURN_HEAD_MAX);
	d->to = to->client;
	d->from = to->local;
	memcpy(d->p, head.p, head.n);
	if (body.n)
		memcpy(d->p + head.n, body.p, body.n);
	if (tail.n)
		memcpy(d->p + head.n + body.n, tail.p, tail.n);
}

static const struct turn_server_ops ops = { on_open, on_close, on_relay, on_reply };
static const struct turn_user users[] = { { "alice", "wonder" }, { "bob", "builder" } };

struct turn_server_config world_config(struct world *w)
{
	return (struct turn_server_config){
		.realm = "test", .secret = "secret", .users = users, .nusers = 2,
		.relay4 = world_endpoint("192.0.2.1:1").addr, .relay6 = world_endpoint("[2001:db8::1]:1").addr,
		.port_min = 50000, .port_max = 50099, .random = world_random, .random_ctx = w,
	};
}

void world_start(struct world *w, const struct turn_server_config *cfg)
{
	struct turn_server_config c;

	memset(w, 0, sizeof *w);
	w->now.ns = 1000 * NB_SEC;
	w->wall.ns = 1900000000 * NB_SEC;
	c = cfg ? *cfg : world_config(w);
	c.random_ctx = w;
	w->server = turn_server_new(&c, &ops, w);
	assert_non_null(w->server);
}

void world_stop(struct world *w)
{
	turn_server_free(w->server);
	assert_int_equal(w->opened, w->closed);
}

struct nb_endpoint world_endpoint(const char *text)
{
	struct nb_endpoint e;

	assert_int_equal(nb_endpoint_parse(&e, text), 0);
	return e;
}

struct turn_flow world_flow(const char *client)
{
	return (struct turn_flow){ .client = world_endpoint(client) };
}

void world_send(struct world *w, const char *client, struct nb_bytes in)
{
	struct turn_flow flow = world_flow(client);

	w->nmail = 0;
	turn_server_input(w->server, &flow, in, w->now, w->wall);
}

void world_answer(struct world *w, const char *client, struct stun_msg *m)
{
	struct nb_endpoint to = world_endpoint(client);

	assert_int_equal(w->nmail, 1);
	assert_false(w->mail[0].relayed);
	assert_true(nb_endpoint_eq(&w->mail[0].to, &to));
	assert_int_equal(stun_decode(m, nb_bytes(w->mail[0].p, w->mail[0].n)), 0);
}
