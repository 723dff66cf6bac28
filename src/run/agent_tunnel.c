/* agent_tunnel.c - the tunnel interface, the data-plane thread and what it reports (run/tunnel.h). */
#include "run/agent_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "os/file.h"
#include "os/socket.h"
#include "os/tun.h"

#define MESSAGES_PER_TURN 256	/* of the data plane, before others get theirs */

static void save_tai(struct run_agent *a, struct nb_wall tai)
{
	char text[32];
	int n = snprintf(text, sizeof text, "%lld\n", (long long)tai.ns);

	if (a->tai_path && os_write_file(a->tai_path, nb_bytes(text, (size_t)n), 0600))
		nb_warn("cannot write %s: %s; after a restart with a wrong clock peers may refuse handshakes", a->tai_path,
			os_why());
}

static struct nb_wall load_tai(struct run_agent *a)
{
	struct nb_wall tai = { 0 };
	struct nb_buf b;

	nb_buf_init(&b, 64);
	if (a->tai_path && !os_read_file(&b, a->tai_path))
		tai.ns = strtoll(nb_buf_cstr(&b), NULL, 10);
	nb_buf_fini(&b);
	return tai;
}

static void on_tunnel_msg(struct run_agent *a, const struct run_tunnel_msg *m, struct nb_time now)
{
	switch (m->kind) {
	case RUN_TUNNEL_DGRAM:
		client_engine_dgram(a->engine, &m->from, &m->to, m->data, now);
		break;
	case RUN_TUNNEL_LINK_MESSAGE:
		client_engine_link_message(a->engine, m->tag, m->data, now);
		break;
	case RUN_TUNNEL_LINK_LOST:
		run_link_dials_forget(a->links, m->tag);
		client_engine_link_lost(a->engine, m->tag, (const char *)m->data.p, now);
		break;
	case RUN_TUNNEL_EVENT:
		client_engine_wg_event(a->engine, m->event, m->key, &m->ep, now);
		break;
	case RUN_TUNNEL_TAI:
		save_tai(a, m->tai);
		break;
	case RUN_TUNNEL_STATS:
		client_engine_wg_stats(a->engine, m->key, &m->stats);
		break;
	case RUN_TUNNEL_STATS_END:
		a->counters = m->counters;
		if (m->tag == a->stats_tag)
			run_agent_answer_tickets(a);
		break;
	case RUN_TUNNEL_TUN_GONE:
		run_agent_restart(a, "the tunnel interface disappeared");
		break;
	default:
		break;
	}
}

void run_agent_on_tunnel(void *ctx, int events)
{
	struct run_agent *a = ctx;
	struct run_tunnel_msg m;

	(void)events;
	run_agent_check_awake(a, os_now());
	for (int i = 0; i < MESSAGES_PER_TURN && a->tunnel && a->engine && run_tunnel_next(a->tunnel, &m); i++) {
		on_tunnel_msg(a, &m, os_now());
		nb_wipe(m.stats.psk, sizeof m.stats.psk);
	}
	run_agent_schedule(a);
}

/* All that came in this round is one batch for the data plane. */
void run_agent_on_delivered(void *ctx)
{
	struct run_agent *a = ctx;

	if (a->tunnel)
		run_tunnel_flush(a->tunnel);
}

/* Interface and data-plane thread. Returns NULL or what went wrong and what to do. */
const char *run_agent_start_tunnel(struct run_agent *a, unsigned active_ms)
{
	static char why[300];
	struct run_tunnel_config cfg = { .mtu = (size_t)a->profile.mtu, .port = (uint16_t)a->profile.port,
					 .fwmark = RUN_AGENT_FWMARK, .tai_floor = load_tai(a), .active_ms = active_ms,
					 .filter = a->profile.disable_firewall != CLIENT_YES };
	int err = run_tunnel_tun(&cfg, a->profile.iface);

	if (err == NB_E_PERM)
		return "no permission to create the tunnel interface: run the agent as root, or give it CAP_NET_ADMIN";
	if (err == NB_E_NOTFOUND)
		return "there is no /dev/net/tun: load the kernel's tun module (modprobe tun)";
	if (err == NB_E_BUSY) {
		snprintf(why, sizeof why, "interface %s belongs to another process: stop it, or choose another name with "
			 "--interface-name", a->profile.iface);
		return why;
	}
	if (err) {
		snprintf(why, sizeof why, "cannot create interface %s: %s", a->profile.iface, os_why());
		return why;
	}
	os_link_index(a->profile.iface, &a->ifindex);
	memcpy(cfg.private_key, a->private_key, NB_KEY_LEN);
	err = run_tunnel_new(&a->tunnel, &cfg);
	/* A busy port is no reason to fail: stock takes a random one, too. */
	if (err == NB_E_BUSY) {
		cfg.port = 0;
		err = run_tunnel_new(&a->tunnel, &cfg);
	}
	nb_wipe(cfg.private_key, sizeof cfg.private_key);
	if (err) {
		run_tunnel_tun_close(&cfg);
		snprintf(why, sizeof why, "cannot open the WireGuard port: %s", nb_strerror(err));
		return why;
	}
	run_io_set(&a->tunnel_io, run_tunnel_fd(a->tunnel), RUN_READ);
	return NULL;
}
