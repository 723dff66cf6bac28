/* engine_nat.c - what the NAT in front of us does: measured (ice/nat.h) on the shared port with the servers management
 * names, once after the start and after each change of network, never periodically; told to our own peers.
 * Tests: tests/unit/client_engine_test.c, tests/net/test_nat.py */
#include "client/engine_int.h"

#include "base/log.h"

#define WAIT_MS 1500			/* the first paths are looked for meanwhile */
#define STANDS_NS (300 * NB_SEC)	/* so long a NAT may remember whom we asked */

/* One address of each server, IPv4 if there is any. */
static size_t choose_servers(const struct client_engine *e, struct nb_endpoint out[ICE_NAT_SERVERS_MAX])
{
	size_t n = 0;

	for (int family = 4; family <= 6 && !n; family += 2)
		for (size_t i = 0; i < e->nservers; i++)
			for (size_t k = 0; k < e->servers[i].naddr && n < ICE_NAT_SERVERS_MAX; k++) {
				const struct nb_endpoint *at = &e->servers[i].addr[k];
				bool known = false;

				for (size_t j = 0; j < n; j++)
					known |= nb_addr_eq(&out[j].addr, &at->addr);
				if (!known && at->addr.family == family)
					out[n++] = *at;
			}
	return n;
}

static void tell(struct client_engine *e, struct nb_time now)
{
	nb_list_each_safe(it, &e->open) {
		struct engine_peer *p = nb_container(it, struct engine_peer, open);

		client_conn_nat_known(p->conn, now);
		client_engine_drain(e, p, now);
	}
}

static void finish(struct client_engine *e, struct nb_time now)
{
	struct engine_nat *n = &e->nat;
	const struct ice_nat_report *r = ice_nat_report(&n->m);

	n->running = false;
	e->net.nat = *r;
	if (r->udp == ICE_NAT_UDP_WORKS) {
		n->last = *r;
		n->last_at = now;
	}
	nb_debug("NAT: mapping %s, filtering %s, hairpinning %s%s; %u datagrams sent, %lld ms", ice_nat_mapping_name(r->mapping),
		 ice_nat_filtering_name(r->filtering), ice_nat_hairpin_name(r->hairpin),
		 r->udp == ICE_NAT_UDP_BLOCKED ? ", UDP blocked" : "", n->m.sent,
		 (long long)(nb_time_diff(n->m.ended, n->m.began) / NB_MS));
	tell(e, now);
	e->cfg.ops->changed(e->cfg.arg);
}

static void pump(struct client_engine *e, struct nb_time now)
{
	uint8_t room[ICE_NAT_DGRAM_MAX];
	struct nb_dgram d = { .p = room, .cap = sizeof room };
	static const struct nb_addr any;

	while (e->nat.running && ice_nat_output(&e->nat.m, &d, now))
		e->cfg.ops->dgram(e->cfg.arg, &d.to, &any, nb_bytes(d.p, d.n));
	if (e->nat.running && ice_nat_done(&e->nat.m))
		finish(e, now);
}

static void start(struct client_engine *e, struct nb_time now)
{
	struct ice_nat_config cfg = { .port = e->net.port, .random = e->cfg.random, .random_ctx = e->cfg.random_ctx };
	struct engine_nat *n = &e->nat;

	n->start_at = NB_TIME_NEVER;
	cfg.nservers = choose_servers(e, cfg.servers);
	if (!cfg.nservers)
		return;
	cfg.nhosts = e->net.nhosts < ICE_NAT_HOSTS_MAX ? e->net.nhosts : ICE_NAT_HOSTS_MAX;
	memcpy(cfg.hosts, e->net.hosts, cfg.nhosts * sizeof *cfg.hosts);
	if (n->last_at.ns && nb_time_diff(now, n->last_at) < STANDS_NS && n->last.filtering)
		cfg.before = &n->last;
	ice_nat_init(&n->m, &cfg, now);
	n->running = true;
}

void client_nat_schedule(struct client_engine *e, bool moved, struct nb_time now)
{
	if (e->cfg.force_relay)
		return;
	if (moved) {
		memset(&e->net.nat, 0, sizeof e->net.nat);
		e->nat.running = false;
	}
	if (!e->nat.running)
		e->nat.start_at = nb_time_add_ms(now, WAIT_MS);
}

bool client_nat_dgram(struct client_engine *e, const struct nb_endpoint *from, struct nb_bytes data, struct nb_time now)
{
	if (!e->nat.running || ice_nat_input(&e->nat.m, from, data, now))
		return false;
	pump(e, now);
	return true;
}

void client_nat_timer(struct client_engine *e, struct nb_time now)
{
	if (nb_time_due(e->nat.start_at, now))
		start(e, now);
	pump(e, now);
}

struct nb_time client_nat_deadline(const struct client_engine *e)
{
	return e->nat.running ? nb_time_min(ice_nat_deadline(&e->nat.m), e->nat.start_at) : e->nat.start_at;
}
