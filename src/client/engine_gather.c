/* engine_gather.c - our mapped addresses, asked of each STUN and TURN server once for all connections: an answer serves every
 * session that begins within FRESH_MS, and an older one until the next has come (spec/peer-connection.md 1.6).
 * Tests: tests/unit/client_engine_test.c, tests/sim/client_engine_sim_test.c */
#include "client/engine_int.h"

#include "ice/stun.h"

#define FRESH_MS 25000
#define AGAIN_MS 250			/* first repetition; doubles */
#define TRIES 6				/* 8 s in all */

static void ask(struct client_engine *e, struct engine_gather *g, struct nb_time now)
{
	static const struct nb_addr any;
	uint8_t room[64];
	struct stun_enc enc;
	struct nb_buf b;

	if (g->tries == TRIES) {
		g->next = NB_TIME_NEVER;
		return;
	}
	nb_buf_fixed(&b, room, sizeof room);
	enc = stun_begin(&b, STUN_REQUEST, STUN_BINDING, g->txid);
	if (!stun_end(&enc))
		e->cfg.ops->dgram(e->cfg.arg, &g->server, &any, nb_buf_view(&b));
	g->next = nb_time_add_ms(now, AGAIN_MS << g->tries++);
}

static void start(struct client_engine *e, struct engine_gather *g, struct nb_time now)
{
	if (e->net.force_relay || e->net.relay_only)
		return;
	e->cfg.random(e->cfg.random_ctx, g->txid, sizeof g->txid);
	g->tries = 0;
	ask(e, g, now);
}

static void list_reflexive(struct client_engine *e)
{
	e->net.nreflexive = 0;
	for (size_t i = 0; i < e->ngather; i++)
		if (e->gather[i].mapped.port)
			e->net.reflexive[e->net.nreflexive++] = e->gather[i].mapped;
}

static const struct engine_gather *gather_of(const struct engine_gather *list, size_t n, const struct nb_endpoint *server)
{
	for (size_t i = 0; i < n; i++)
		if (nb_endpoint_eq(&list[i].server, server))
			return &list[i];
	return NULL;
}

void client_gather_servers(struct client_engine *e, struct nb_time now)
{
	struct engine_gather old[ICE_SERVERS_MAX];
	size_t nold = e->ngather;

	memcpy(old, e->gather, sizeof old);
	e->ngather = 0;
	for (size_t i = 0; i < e->nservers; i++) {
		for (size_t k = 0; k < e->servers[i].naddr && e->ngather < ICE_SERVERS_MAX; k++) {
			const struct nb_endpoint *at = &e->servers[i].addr[k];
			const struct engine_gather *was = gather_of(old, nold, at);
			struct engine_gather *g;

			if (gather_of(e->gather, e->ngather, at))
				continue;
			g = &e->gather[e->ngather++];
			*g = was ? *was : (struct engine_gather){ .server = *at, .next = NB_TIME_NEVER };
			if (!was)
				start(e, g, now);
		}
	}
	list_reflexive(e);
}

void client_gather_want(struct client_engine *e, struct nb_time now)
{
	for (size_t i = 0; i < e->ngather; i++) {
		struct engine_gather *g = &e->gather[i];
		bool fresh = g->mapped.port && nb_time_diff(now, g->answered) < FRESH_MS * NB_MS;

		if (!fresh && nb_time_is_never(g->next))
			start(e, g, now);
	}
}

void client_gather_moved(struct client_engine *e, struct nb_time now)
{
	for (size_t i = 0; i < e->ngather; i++) {
		memset(&e->gather[i].mapped, 0, sizeof e->gather[i].mapped);
		start(e, &e->gather[i], now);
	}
	list_reflexive(e);
}

static bool read_mapped(struct nb_endpoint *out, const struct engine_gather *g, struct nb_bytes data)
{
	struct stun_msg m;

	if (stun_decode(&m, data) || m.cls != STUN_SUCCESS || m.method != STUN_BINDING)
		return false;
	if (stun_get_xor_addr(&m, STUN_A_XOR_MAPPED_ADDRESS, out) && stun_get_addr(&m, STUN_A_MAPPED_ADDRESS, out))
		return false;
	return out->addr.family == g->server.addr.family && out->port;
}

bool client_gather_dgram(struct client_engine *e, const struct nb_endpoint *from, struct nb_bytes data, bool *changed,
			 struct nb_time now)
{
	struct nb_endpoint mapped;

	*changed = false;
	for (size_t i = 0; i < e->ngather; i++) {
		struct engine_gather *g = &e->gather[i];

		if (nb_time_is_never(g->next) || !stun_is(data) || memcmp(data.p + 8, g->txid, sizeof g->txid) ||
		    !nb_endpoint_eq(from, &g->server))
			continue;
		if (!read_mapped(&mapped, g, data))
			return true;
		g->next = NB_TIME_NEVER;
		g->answered = now;
		*changed = !nb_endpoint_eq(&mapped, &g->mapped);
		g->mapped = mapped;
		list_reflexive(e);
		return true;
	}
	return false;
}

void client_gather_timer(struct client_engine *e, struct nb_time now)
{
	for (size_t i = 0; i < e->ngather; i++)
		if (nb_time_due(e->gather[i].next, now))
			ask(e, &e->gather[i], now);
}

struct nb_time client_gather_deadline(const struct client_engine *e)
{
	struct nb_time t = NB_TIME_NEVER;

	for (size_t i = 0; i < e->ngather; i++)
		t = nb_time_min(t, e->gather[i].next);
	return t;
}
