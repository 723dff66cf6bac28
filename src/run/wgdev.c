/* wgdev.c - see wgdev.h. The control side is one loop: the tunnel's messages, the socket of `wg`, signals.
 * What a request changes goes straight to the data-plane thread; only the private key, the mark and the
 * name are kept here. Answers that need the thread (statistics, a new port) wait for its message. */
#include "run/wgdev.h"

#include "base/log.h"
#include "crypto/crypto.h"
#include "os/file.h"
#include "os/netlink.h"
#include "os/socket.h"
#include "os/tun.h"
#include "run/loop.h"
#include "run/tunnel.h"
#include "run/wgdev_int.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLIENTS 8
#define REQUEST_MAX (4u << 20)
#define ANSWER_MAX (32u << 20)

struct wgdev;

/* One program at the socket. */
struct client {
	struct wgdev *dev;
	int fd;
	struct run_io io;
	struct nb_buf in, out;
	bool waits_stats, waits_port;
	bool counts;		/* the statistics it waits for are counters */
	uint32_t tag;
	unsigned turn;		/* order of those that wait for a port */
};

struct wgdev {
	const struct run_wgdev_options *opt;
	struct run_loop *loop;
	struct run_tunnel *tunnel;
	struct run_io tunnel_io, listen_io;
	struct run_signal sigint, sigterm;
	int listener;
	char path[sizeof RUN_WGDEV_SOCKETS + OS_IFNAME + 8];
	uint8_t key[NB_KEY_LEN];
	uint32_t mark;
	bool peer_begun;	/* get: a peer's lines are being written */
	uint32_t next_tag;
	unsigned next_turn;
	int status;
	struct client clients[CLIENTS];
};

/* A command the ring had no room for: the thread is taking them out right now. */
#define COMMAND(call) do { while ((err = (call)) == NB_E_AGAIN) usleep(500); } while (0)

/* --- applying --- */

struct apply {
	struct wgdev *dev;
	bool port_asked;
};

static int apply_iface(void *ctx, const struct run_wgdev_iface *i)
{
	struct apply *a = ctx;
	struct wgdev *d = a->dev;
	int err = 0;

	if (i->set_key) {
		memcpy(d->key, i->key, NB_KEY_LEN);
		COMMAND(run_tunnel_set_private_key(d->tunnel, d->key));
	}
	if (!err && i->set_mark) {
		d->mark = i->mark;
		COMMAND(run_tunnel_set_fwmark(d->tunnel, d->mark));
	}
	if (!err && i->set_port) {
		COMMAND(run_tunnel_set_port(d->tunnel, i->port));
		a->port_asked = !err;
	}
	if (!err && i->replace_peers)
		COMMAND(run_tunnel_peers_clear(d->tunnel));
	return err;
}

static int apply_peer(void *ctx, const struct run_wgdev_peer *p)
{
	struct wgdev *d = ((struct apply *)ctx)->dev;
	struct run_tunnel_peer s = {
		.set_psk = p->set_psk, .set_keepalive = p->set_keepalive, .set_endpoint = p->set_endpoint,
		.replace_allowed = p->replace_allowed, .update_only = p->update_only, .keepalive = p->keepalive,
		.ep = { .kind = WG_EP_UDP, .remote = p->endpoint }, .allowed = p->add, .nallowed = p->nadd,
	};
	int err = 0;

	if (p->remove) {
		COMMAND(run_tunnel_peer_remove(d->tunnel, p->key));
		return err;
	}
	memcpy(s.key, p->key, NB_KEY_LEN);
	memcpy(s.psk, p->psk, NB_KEY_LEN);
	COMMAND(run_tunnel_peer_set(d->tunnel, &s));
	if (!err && p->ndel)
		COMMAND(run_tunnel_peer_disallow(d->tunnel, p->key, p->del, p->ndel));
	nb_wipe(&s, sizeof s);
	return err;
}

/* --- answers --- */

static void client_close(struct client *c)
{
	run_io_set(&c->io, c->fd, 0);
	os_close(&c->fd);
	nb_buf_fini(&c->in);
	nb_buf_fini(&c->out);
	c->waits_stats = c->waits_port = false;
}

static void put_hex(struct nb_buf *b, const char *name, const uint8_t key[NB_KEY_LEN])
{
	char text[2 * NB_KEY_LEN + 1];

	nb_hex_encode(text, nb_bytes(key, NB_KEY_LEN));
	nb_buf_printf(b, "%s=%s\n", name, text);
	nb_wipe(text, sizeof text);
}

static void put_errno(struct nb_buf *b, int number)
{
	nb_buf_printf(b, "errno=%d\n\n", -number);
}

static void get_stats(struct client *c, bool counts)
{
	struct wgdev *d = c->dev;
	int err;

	c->tag = d->next_tag++;
	c->counts = counts;
	COMMAND(run_tunnel_stats(d->tunnel, c->tag, !counts));
	if (err)
		put_errno(&c->out, EIO);
	else
		c->waits_stats = true;
}

static void get_begin(struct client *c)
{
	struct wgdev *d = c->dev;
	static const uint8_t zero[NB_KEY_LEN];

	if (memcmp(d->key, zero, NB_KEY_LEN) != 0)
		put_hex(&c->out, "private_key", d->key);
	nb_buf_printf(&c->out, "listen_port=%u\n", run_tunnel_port(d->tunnel));
	if (d->mark)
		nb_buf_printf(&c->out, "fwmark=%u\n", d->mark);
	get_stats(c, false);
}

static void get_peer(struct client *c, const struct run_tunnel_msg *m)
{
	const struct wg_peer_stats *s = &m->stats;
	char text[NB_ADDR_TEXT];

	put_hex(&c->out, "public_key", m->key);
	put_hex(&c->out, "preshared_key", s->psk);
	nb_buf_str(&c->out, "protocol_version=1\n");
	if (s->ep.kind == WG_EP_UDP) {
		nb_endpoint_format(text, &s->ep.remote);
		nb_buf_printf(&c->out, "endpoint=%s\n", text);
	}
	nb_buf_printf(&c->out, "last_handshake_time_sec=%lld\nlast_handshake_time_nsec=%lld\n",
		      (long long)(s->last_handshake.ns / NB_SEC), (long long)(s->last_handshake.ns % NB_SEC));
	nb_buf_printf(&c->out, "tx_bytes=%llu\nrx_bytes=%llu\npersistent_keepalive_interval=%u\n",
		      (unsigned long long)s->tx_bytes, (unsigned long long)s->rx_bytes, s->keepalive);
}

static void get_allowed(struct client *c, const struct run_tunnel_msg *m)
{
	char text[NB_ADDR_TEXT];

	for (size_t i = 0; i < m->nprefixes; i++) {
		nb_prefix_format(text, &m->prefixes[i]);
		nb_buf_printf(&c->out, "allowed_ip=%s\n", text);
	}
}

/* --- requests --- */

static int request_errno(int err)
{
	switch (err) {
	case 0:
		return 0;
	case NB_E_BAD:
	case NB_E_FULL:
		return EINVAL;
	default:
		return EIO;
	}
}

static void set_request(struct client *c, struct nb_bytes lines)
{
	struct apply a = { .dev = c->dev };
	struct run_wgdev_sink sink = { apply_iface, apply_peer, &a };
	int err = run_wgdev_set(lines, &sink);

	if (!err && a.port_asked) {
		c->waits_port = true;
		c->turn = c->dev->next_turn++;
	} else {
		put_errno(&c->out, request_errno(err));
	}
}

static bool starts(struct nb_bytes in, const char *with)
{
	size_t n = strlen(with);

	return in.n >= n && memcmp(in.p, with, n) == 0;
}

/* Handle the first whole request in c->in; false when there is none yet. */
static bool request(struct client *c)
{
	struct nb_bytes in = nb_buf_view(&c->in);
	const uint8_t *end = in.n ? memmem(in.p, in.n, "\n\n", 2) : NULL;

	if (!end || c->waits_port || c->waits_stats)
		return false;
	in.n = (size_t)(end - in.p) + 1;
	if (in.n == 6 && starts(in, "get=1\n"))
		get_begin(c);
	else if (in.n == 13 && starts(in, "get=counters\n"))
		get_stats(c, true);
	else if (starts(in, "set=1\n"))
		set_request(c, nb_bytes(in.p + 6, in.n - 6));
	else
		put_errno(&c->out, EPROTO);
	nb_buf_consume(&c->in, in.n + 1);
	return true;
}

static void client_write(struct client *c)
{
	size_t n;
	int err = c->out.err;

	while (!err && c->out.n && !c->waits_stats) {
		err = os_write(c->fd, c->out.p, c->out.n, &n);
		if (!err)
			nb_buf_consume(&c->out, n);
	}
	if (err && err != NB_E_AGAIN) {
		client_close(c);
		return;
	}
	run_io_set(&c->io, c->fd, RUN_READ | (err == NB_E_AGAIN ? RUN_WRITE : 0));
}

static void client_work(struct client *c)
{
	while (request(c))
		;
	client_write(c);
}

static void client_ready(void *ctx, int events)
{
	struct client *c = ctx;
	size_t n;
	int err = 0;

	if (events & RUN_READ) {
		uint8_t *room = nb_buf_reserve(&c->in, 4096);

		err = room ? os_read(c->fd, room, 4096, &n) : NB_E_FULL;
		if (!err)
			nb_buf_commit(&c->in, n);
	}
	if (err && err != NB_E_AGAIN)
		client_close(c);
	else
		client_work(c);
}

static void accept_ready(void *ctx, int events)
{
	struct wgdev *d = ctx;
	struct nb_endpoint from;
	struct client *c = d->clients;
	int fd;

	(void)events;
	if (os_accept(&fd, &from, d->listener))
		return;
	while (c < d->clients + CLIENTS && c->fd >= 0)
		c++;
	if (c == d->clients + CLIENTS) {
		os_close(&fd);
		return;
	}
	c->fd = fd;
	nb_buf_init(&c->in, REQUEST_MAX);
	nb_buf_init(&c->out, ANSWER_MAX);
	run_io_set(&c->io, fd, RUN_READ);
}

/* --- the thread's messages --- */

static struct client *stats_client(struct wgdev *d, uint32_t tag)
{
	for (struct client *c = d->clients; c < d->clients + CLIENTS; c++)
		if (c->waits_stats && c->tag == tag)
			return c;
	return NULL;
}

static void port_told(struct wgdev *d, const struct run_tunnel_msg *m)
{
	struct client *first = NULL;

	for (struct client *c = d->clients; c < d->clients + CLIENTS; c++)
		if (c->waits_port && (!first || (int)(c->turn - first->turn) < 0))
			first = c;
	if (!first)
		return;
	first->waits_port = false;
	put_errno(&first->out, m->err == NB_E_BUSY ? EADDRINUSE : request_errno(m->err));
	client_work(first);
}

static void message(struct wgdev *d, const struct run_tunnel_msg *m)
{
	struct client *c = stats_client(d, m->tag);

	switch (m->kind) {
	case RUN_TUNNEL_STATS:
		if (c && c->counts)
			run_wgdev_put_peer_counts(&c->out, m);
		else if (c)
			get_peer(c, m);
		break;
	case RUN_TUNNEL_ALLOWED:
		if (c)
			get_allowed(c, m);
		break;
	case RUN_TUNNEL_STATS_END:
		if (c) {
			c->waits_stats = false;
			if (c->counts)
				run_wgdev_put_counts(&c->out, &m->counters, run_tunnel_offloads(d->tunnel));
			put_errno(&c->out, 0);
			client_work(c);
		}
		break;
	case RUN_TUNNEL_PORT:
		port_told(d, m);
		break;
	case RUN_TUNNEL_TUN_GONE:
		fprintf(stderr, "nestbox wg: %s was removed, ending\n", d->opt->name);
		run_loop_stop(d->loop);
		break;
	default:
		/* Datagrams that are not WireGuard have no use here; events show in the statistics. */
		break;
	}
}

static void tunnel_ready(void *ctx, int events)
{
	struct wgdev *d = ctx;
	struct run_tunnel_msg m;

	(void)events;
	while (run_tunnel_next(d->tunnel, &m))
		message(d, &m);
	nb_wipe(&m, sizeof m);
}

static void ended(void *ctx, int signum)
{
	(void)signum;
	run_loop_stop(((struct wgdev *)ctx)->loop);
}

/* --- life --- */

static int fail(const char *what, const char *why, const char *next)
{
	fprintf(stderr, "nestbox wg: %s: %s; %s\n", what, why, next);
	return 1;
}

/* What the configuration says of the interface, before there is a thread to tell. */
struct early {
	struct run_wgdev_iface iface;
};

static int early_iface(void *ctx, const struct run_wgdev_iface *i)
{
	((struct early *)ctx)->iface = *i;
	return 0;
}

static int early_peer(void *ctx, const struct run_wgdev_peer *p)
{
	(void)ctx;
	(void)p;
	return 0;
}

static int later_iface(void *ctx, const struct run_wgdev_iface *i)
{
	(void)ctx;
	(void)i;
	return 0;
}

static int read_config(struct wgdev *d, struct nb_buf *text, struct run_wgdev_iface *iface)
{
	struct early e = { 0 };
	struct run_wgdev_sink sink = { early_iface, early_peer, &e };
	unsigned line;
	const char *why;
	char where[600];
	int err;

	if (!d->opt->config)
		return 0;
	err = os_read_file(text, d->opt->config);
	if (err)
		return fail(d->opt->config, err == NB_E_FULL ? "larger than 4 MB" : os_why(), "name a readable file with --config");
	err = run_wgdev_config(nb_buf_view(text), &sink, &line, &why);
	*iface = e.iface;
	nb_wipe(&e, sizeof e);
	if (err != NB_E_CONFIG)
		return err ? fail(d->opt->config, nb_strerror(err), "try again") : 0;
	snprintf(where, sizeof where, "%s, line %u", d->opt->config, line);
	return fail(where, why, "correct it");
}

static int tunnel_start(struct wgdev *d, const struct run_wgdev_iface *i)
{
	struct run_tunnel_config cfg = { .mtu = d->opt->mtu, .port = i->port, .fwmark = i->mark,
					 .threads = d->opt->threads };
	int err = run_tunnel_tun(&cfg, d->opt->name);

	if (err)
		return fail(d->opt->name, err == NB_E_ARG ? "no good interface name or MTU" : os_why(),
			    err == NB_E_PERM ? "run as root" : "a TUN interface of that name must be possible and not in use");
	memcpy(d->key, i->key, NB_KEY_LEN);
	memcpy(cfg.private_key, i->key, NB_KEY_LEN);
	d->mark = i->mark;
	err = run_tunnel_new(&d->tunnel, &cfg);
	nb_wipe(&cfg.private_key, NB_KEY_LEN);
	if (!err)
		return 0;
	run_tunnel_tun_close(&cfg);
	return fail("UDP port", err == NB_E_BUSY ? "in use" : os_why(), "choose another ListenPort, or none");
}

static int peers_start(struct wgdev *d, const struct nb_buf *text)
{
	struct apply a = { .dev = d };
	struct run_wgdev_sink sink = { later_iface, apply_peer, &a };
	unsigned line;
	const char *why;
	int err = text->n ? run_wgdev_config(nb_buf_view(text), &sink, &line, &why) : 0;

	return err ? fail(d->opt->config, nb_strerror(err), "try again") : 0;
}

static int socket_start(struct wgdev *d)
{
	int err = os_mkdir_p(RUN_WGDEV_SOCKETS, 0700);

	snprintf(d->path, sizeof d->path, RUN_WGDEV_SOCKETS "/%s.sock", d->opt->name);
	if (!err)
		err = os_unix_listen(&d->listener, d->path, 0600);
	return err ? fail(d->path, err == NB_E_BUSY ? "another program listens there" : os_why(), "end it, or use another name") : 0;
}

static int link_start(struct wgdev *d)
{
	unsigned index;
	int err = os_link_index(d->opt->name, &index);

	if (!err)
		err = os_link_up(index, 0);
	return err ? fail(d->opt->name, os_why(), "the interface could not be brought up") : 0;
}

static int start(struct wgdev *d)
{
	struct run_wgdev_iface iface = { .port = 0 };
	struct nb_buf text;
	int status;

	nb_buf_init(&text, REQUEST_MAX);
	status = read_config(d, &text, &iface);
	if (!status)
		status = tunnel_start(d, &iface);
	if (!status)
		status = peers_start(d, &text);
	if (!status)
		status = link_start(d);
	if (!status)
		status = socket_start(d);
	nb_buf_fini(&text);
	nb_wipe(&iface, sizeof iface);
	return status;
}

static void loop_start(struct wgdev *d)
{
	run_io_init(&d->tunnel_io, d->loop, tunnel_ready, d);
	run_io_set(&d->tunnel_io, run_tunnel_fd(d->tunnel), RUN_READ);
	run_io_init(&d->listen_io, d->loop, accept_ready, d);
	run_io_set(&d->listen_io, d->listener, RUN_READ);
	run_signal_start(&d->sigint, d->loop, SIGINT, ended, d);
	run_signal_start(&d->sigterm, d->loop, SIGTERM, ended, d);
	for (struct client *c = d->clients; c < d->clients + CLIENTS; c++) {
		c->dev = d;
		run_io_init(&c->io, d->loop, client_ready, c);
	}
}

static void loop_end(struct wgdev *d)
{
	for (struct client *c = d->clients; c < d->clients + CLIENTS; c++)
		if (c->fd >= 0)
			client_close(c);
	run_io_set(&d->tunnel_io, -1, 0);
	run_io_set(&d->listen_io, -1, 0);
	run_signal_stop(&d->sigint);
	run_signal_stop(&d->sigterm);
}

int run_wgdev(const struct run_wgdev_options *o)
{
	struct wgdev *d = calloc(1, sizeof *d);
	int status = 1;

	if (!d || run_loop_new(&d->loop)) {
		free(d);
		return fail(o->name, "out of memory", "try again");
	}
	d->opt = o;
	d->listener = -1;
	for (int i = 0; i < CLIENTS; i++)
		d->clients[i].fd = -1;
	signal(SIGPIPE, SIG_IGN);
	status = start(d);
	if (!status) {
		loop_start(d);
		fprintf(stderr, "nestbox wg: %s is up, UDP port %u\n", o->name, run_tunnel_port(d->tunnel));
		run_loop_run(d->loop);
		loop_end(d);
	}
	if (d->listener >= 0)
		unlink(d->path);
	os_close(&d->listener);
	run_tunnel_free(d->tunnel);
	run_loop_free(d->loop);
	nb_wipe(d, sizeof *d);
	free(d);
	return status;
}
