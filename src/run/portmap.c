/* portmap.c - see portmap.h. */
#include "run/portmap.h"

#include <poll.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "crypto/crypto.h"
#include "ice/portmap.h"
#include "os/clock.h"
#include "os/netlink.h"
#include "os/socket.h"
#include "os/udp.h"
#include "run/upnp.h"

#define RELEASE_TRIES 3
#define RELEASE_MS 100
#define MAP_REPLY 0x81		/* second byte, of PCP and NAT-PMP alike */

/* One gateway, IPv4 or IPv6. */
struct leg {
	struct run_portmap *p;
	bool on;
	struct os_route route;
	struct ice_portmap core;
	int fd, hear_fd;
	struct run_io io, hear_io;
	struct run_timer timer;
};

struct run_portmap {
	struct run_portmap_config cfg;
	struct leg v4, v6;
	struct run_upnp *upnp;
	struct nb_endpoint ours, upnps;	/* mappings of v4.core and of UPnP; port 0: none */
	struct nb_endpoint told;
	const char *how;
	struct run_defer tell;
};

/* ---- News ---- */

/* What cannot be a gateway's outer address is no news for peers: STUN knows better. */
static struct nb_addr believable(const struct nb_addr *a)
{
	bool no = nb_addr_is_loopback(a) || nb_addr_is_link_local(a) || nb_addr_is_multicast(a);

	return no ? nb_addr4(0) : *a;
}

static void on_tell(void *ctx)
{
	struct run_portmap *p = ctx;
	struct nb_endpoint now = p->ours.port ? p->ours : p->upnps;
	char text[NB_ADDR_TEXT];

	now.addr = believable(&now.addr);
	if (nb_endpoint_eq(&now, &p->told))
		return;
	p->told = now;
	nb_endpoint_format(text, &now);
	if (now.port)
		nb_info("port mapping: %s forwards %s to our port %u", p->ours.port ? p->how : "UPnP", text, p->cfg.port);
	else
		nb_info("port mapping: lost");
	p->cfg.mapped(p->cfg.ctx, &now);
}

static void on_upnp(void *ctx, const struct nb_endpoint *external)
{
	struct run_portmap *p = ctx;

	p->upnps = *external;
	run_defer_call(p->cfg.loop, &p->tell);
}

static void upnp_off(struct run_portmap *p, bool wait)
{
	run_upnp_stop(p->upnp, wait);
	p->upnp = NULL;
	memset(&p->upnps, 0, sizeof p->upnps);
}

static void upnp_on(struct run_portmap *p)
{
	if (!p->upnp && run_upnp_start(&p->upnp, p->cfg.loop, &p->v4.route.gateway, &p->v4.route.source, p->cfg.port, on_upnp, p))
		nb_warn("port mapping: no memory for UPnP");
}

/* ---- PCP and NAT-PMP ---- */

static void on_event(struct leg *g, const struct ice_portmap_event *ev)
{
	struct run_portmap *p = g->p;
	char text[NB_ADDR_TEXT];

	if (ev->type == ICE_PORTMAP_EV_REFUSED)
		nb_debug("port mapping: the gateway refuses it (result %u)", ev->code);
	if (g == &p->v6) {
		nb_endpoint_format(text, &ev->external);
		if (ev->type == ICE_PORTMAP_EV_MAPPED)
			nb_info("port mapping: the IPv6 gateway lets packets to %s in", text);
		return;
	}
	/* Unless there is a mapping the external endpoint is empty. */
	p->ours = ev->external;
	p->how = ice_portmap_name(ev->proto);
	if (ev->type == ICE_PORTMAP_EV_MAPPED)
		upnp_off(p, false);
	else
		upnp_on(p);
	run_defer_call(p->cfg.loop, &p->tell);
}

/* Returns how many datagrams went out. */
static unsigned drain(struct leg *g)
{
	uint8_t room[ICE_PORTMAP_DGRAM_MAX];
	struct nb_dgram d = { .p = room, .cap = sizeof room };
	struct ice_portmap_event ev;
	struct os_udp u;
	unsigned n = 0;

	os_udp_init(&u, g->fd);
	while (ice_portmap_output(&g->core, &d, os_now())) {
		struct os_udp_out out = { .to = d.to, .part = { nb_bytes(d.p, d.n) } };

		os_udp_send(&u, &out, 1);
		n++;
	}
	while (ice_portmap_event(&g->core, &ev))
		on_event(g, &ev);
	run_timer_set(&g->timer, ice_portmap_deadline(&g->core));
	return n;
}

static void on_timer(void *ctx, struct nb_time now)
{
	(void)now;
	drain(ctx);
}

static void receive(struct leg *g, int fd)
{
	uint8_t room[ICE_PORTMAP_INPUT_MAX];
	struct os_udp_in in = { .p = room, .cap = sizeof room };
	struct os_udp u;

	os_udp_init(&u, fd);
	/* An error on the socket (nobody listens there) is cleared by the call and means the same as silence. */
	if (os_udp_recv(&u, &in, 1) > 0 && !in.cut)
		ice_portmap_input(&g->core, &in.from, nb_bytes(room, in.n), os_now());
	drain(g);
}

static void on_readable(void *ctx, int events)
{
	struct leg *g = ctx;

	(void)events;
	receive(g, g->fd);
}

static void on_announced(void *ctx, int events)
{
	struct leg *g = ctx;

	(void)events;
	receive(g, g->hear_fd);
}

/* Has the gateway answered a request for a mapping? Other answers may still be in the socket. */
static bool answered(struct leg *g)
{
	struct pollfd fd = { .fd = g->fd, .events = POLLIN };
	uint8_t room[ICE_PORTMAP_INPUT_MAX];
	struct os_udp_in in = { .p = room, .cap = sizeof room };
	struct os_udp u;

	os_udp_init(&u, g->fd);
	while (poll(&fd, 1, RELEASE_MS) > 0 && os_udp_recv(&u, &in, 1) > 0) {
		if (in.n > 1 && room[1] == MAP_REPLY && nb_addr_eq(&in.from.addr, &g->route.gateway))
			return true;
		in.cap = sizeof room;
	}
	return false;
}

/* The deletion is the last chance: wait a moment for its answer, say it again without one. Answers are rarely slower than
 * a few milliseconds; a gateway that is gone costs all of RELEASE_TRIES * RELEASE_MS. */
static void release(struct leg *g, bool wait)
{
	unsigned sent;

	for (unsigned i = 0; i < RELEASE_TRIES; i++) {
		ice_portmap_release(&g->core);
		sent = drain(g);
		if (!sent || !wait || answered(g))
			return;
	}
}

static void leg_stop(struct leg *g, bool wait)
{
	if (!g->on)
		return;
	g->on = false;
	release(g, wait);
	run_timer_stop(&g->timer);
	run_io_set(&g->io, -1, 0);
	run_io_set(&g->hear_io, -1, 0);
	os_close(&g->fd);
	os_close(&g->hear_fd);
	if (g != &g->p->v4)
		return;
	upnp_off(g->p, wait);
	memset(&g->p->ours, 0, sizeof g->p->ours);
	run_defer_call(g->p->cfg.loop, &g->p->tell);
}

/* Every machine is in the group 224.0.0.1; without this socket a restart is noticed a minute later. */
static void listen_to_announcements(struct leg *g)
{
	struct nb_endpoint at = { nb_addr4(0), ICE_PORTMAP_HEAR_PORT };
	struct os_sockopt opt = { .shared = true };

	if (os_udp_bind(&g->hear_fd, &at, &opt))
		g->hear_fd = -1;
	else
		run_io_set(&g->hear_io, g->hear_fd, RUN_READ);
}

static void leg_start(struct leg *g, const struct os_route *r)
{
	struct ice_portmap_config cfg = { .gateway = r->gateway, .local = r->source, .port = g->p->cfg.port, .random = nbc_random,
					  .no_health = g->p->cfg.no_health };
	struct nb_endpoint at = { r->source, 0 };
	struct os_sockopt opt = { .mark = g->p->cfg.mark };

	if (os_udp_bind(&g->fd, &at, &opt)) {
		nb_warn("port mapping: cannot open a socket: %s", os_why());
		return;
	}
	g->on = true;
	g->route = *r;
	ice_portmap_init(&g->core, &cfg, os_now());
	run_io_set(&g->io, g->fd, RUN_READ);
	if (g == &g->p->v4) {
		listen_to_announcements(g);
		upnp_on(g->p);
	}
	drain(g);
}

static void leg_init(struct leg *g, struct run_portmap *p)
{
	g->p = p;
	g->fd = g->hear_fd = -1;
	run_io_init(&g->io, p->cfg.loop, on_readable, g);
	run_io_init(&g->hear_io, p->cfg.loop, on_announced, g);
	run_timer_init(&g->timer, p->cfg.loop, on_timer, g);
}

/* ---- Which gateway ---- */

static bool same_route(const struct os_route *a, const struct os_route *b)
{
	return a->index == b->index && nb_addr_eq(&a->gateway, &b->gateway) && nb_addr_eq(&a->source, &b->source);
}

static void leg_use(struct leg *g, const struct os_route *r, bool use)
{
	if (g->on && use && same_route(&g->route, r)) {
		/* Another network may have given us the same addresses. */
		ice_portmap_check(&g->core, os_now());
		drain(g);
		return;
	}
	leg_stop(g, false);
	if (use)
		leg_start(g, r);
}

void run_portmap_refresh(struct run_portmap *p)
{
	/* The way to the Internet: that to the anycast addresses of PCP (RFC 7723), to which nothing is sent. */
	static const uint8_t anycast6[16] = { 0x20, 0x01, 0, 1, [15] = 1 };
	struct nb_addr to4 = nb_addr4(0xc0000009), to6 = nb_addr6(anycast6);
	struct os_route r4, r6;
	bool have4 = !os_route_get(&r4, &to4, p->cfg.mark), have6 = !os_route_get(&r6, &to6, p->cfg.mark);
	bool use4 = have4 && nb_addr_is_private(&r4.gateway) && nb_addr_is_private(&r4.source);
	bool near6 = have6 && (nb_addr_is_link_local(&r6.gateway) || nb_addr_is_private(&r6.gateway));

	leg_use(&p->v4, &r4, use4);
	leg_use(&p->v6, &r6, near6 && r6.source.family == 6 && !nb_addr_is_link_local(&r6.source) && (use4 || !have4));
}

/* ---- Life ---- */

int run_portmap_new(struct run_portmap **out, const struct run_portmap_config *cfg)
{
	struct run_portmap *p = calloc(1, sizeof *p);

	if (!p)
		return NB_E_NOMEM;
	p->cfg = *cfg;
	p->how = "";
	leg_init(&p->v4, p);
	leg_init(&p->v6, p);
	run_defer_init(&p->tell, on_tell, p);
	run_portmap_refresh(p);
	*out = p;
	return 0;
}

void run_portmap_free(struct run_portmap *p)
{
	if (!p)
		return;
	leg_stop(&p->v4, true);
	leg_stop(&p->v6, true);
	run_defer_cancel(&p->tell);
	free(p);
}
