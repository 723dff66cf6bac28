/* tunnel.c - see tunnel.h. One thread waits for TUN, UDP, commands and the device's deadline; the work on packets
 * is path.c's. The rings hold pointers one way (commands are made and sized by control) and fixed slots the other
 * way, so that the packet path never allocates.
 * Fields of struct run_tunnel belong to one side each; only rings, eventfds and the atomics are shared. */
#include "run/tunnel.h"

#include "base/log.h"
#include "crypto/crypto.h"
#include "os/clock.h"
#include "os/socket.h"
#include "os/tun.h"
#include "run/path.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define COMMANDS 1024
#define DELIVERIES 64		/* messages opened together */
#define COMMAND_WAITS 2000	/* of COMMAND_WAIT_US: one second in all */
#define COMMAND_WAIT_US 500
#define SLOTS 512
#define STATS_WAITING 8

enum command_kind {
	CMD_PEER_SET,
	CMD_PEER_REMOVE,
	CMD_PEER_DISALLOW,
	CMD_PEER_RESET,
	CMD_ENDPOINT,
	CMD_SEND,
	CMD_DELIVER,
	CMD_TURN_ADD,
	CMD_TURN_REMOVE,
	CMD_PRIVATE_KEY,
	CMD_FWMARK,
	CMD_PORT,
	CMD_PEERS_CLEAR,
	CMD_STATS,
};

struct command {
	enum command_kind kind;
	bool flag;
	uint32_t value;
	uint8_t key[NB_KEY_LEN];
	struct run_tunnel_peer peer;
	struct wg_ep ep;
	struct nb_endpoint to;
	struct nb_addr from;
	size_t n;	/* bytes, or prefixes, that follow */
	_Alignas(8) uint8_t bytes[];
};

/* A message on its way to control; data follows. */
struct slot {
	struct run_tunnel_msg m;
	_Alignas(8) uint8_t data[];
};

struct stats_request {
	uint32_t tag;
	bool allowed;
};

struct run_tunnel {
	/* shared */
	_Atomic(struct command *) commands[COMMANDS];
	atomic_uint command_head, command_tail;
	uint8_t *slots;
	size_t slot_stride, slot_room;
	atomic_uint slot_head, slot_tail;
	atomic_bool wants_room;		/* the thread found the slots full */
	atomic_bool stop;
	_Atomic uint16_t port;
	atomic_uint offloads;
	_Atomic(struct filter_table *) filter_next;	/* for the thread to take */
	_Atomic(struct filter_table *) filter_past;	/* a list for control to free */
	int command_fd, slot_fd;
	pthread_t thread;

	/* control's */
	bool running;
	bool holding;			/* the slot at the tail was handed out */
	unsigned stats_asked;
	struct filter_table *filter_given;

	/* the thread's */
	struct run_path path;
	unsigned udp_wanted;
	uint32_t fwmark;
	bool told, port_done;
	int port_err;
	struct stats_request stats[STATS_WAITING];
	size_t nstats;
	struct wg_peer *stats_peer;	/* where the first request stands */
	bool stats_begun, stats_told;
	size_t stats_skip;
	uint64_t dgrams_lost;
};

/* --- the ring to control --- */

static struct slot *slot_at(const struct run_tunnel *t, unsigned i)
{
	return (struct slot *)(t->slots + (size_t)(i % SLOTS) * t->slot_stride);
}

/* A free slot, zeroed, or NULL; then control will wake the thread once there is room. */
static struct slot *slot_new(struct run_tunnel *t, enum run_tunnel_kind kind)
{
	unsigned head = atomic_load_explicit(&t->slot_head, memory_order_relaxed);
	struct slot *s = slot_at(t, head);

	if (head - atomic_load(&t->slot_tail) == SLOTS) {
		atomic_store(&t->wants_room, true);
		if (head - atomic_load(&t->slot_tail) == SLOTS)
			return NULL;
	}
	memset(&s->m, 0, sizeof s->m);
	s->m.kind = (uint8_t)kind;
	return s;
}

static void slot_commit(struct run_tunnel *t)
{
	atomic_fetch_add(&t->slot_head, 1);
	t->told = true;
}

static void kick(int fd)
{
	uint64_t one = 1;
	ssize_t n = write(fd, &one, sizeof one);

	/* Only a full counter refuses, and that is a wake-up already. */
	(void)n;
}

static void unkick(int fd)
{
	uint64_t v;
	ssize_t n = read(fd, &v, sizeof v);

	(void)n;
}

static void tell_data(struct run_tunnel *t, enum run_tunnel_kind kind, const struct nb_endpoint *from,
		      const struct nb_endpoint *to, const struct wg_ep *ep, const uint8_t *p, size_t n)
{
	struct slot *s = n <= t->slot_room ? slot_new(t, kind) : NULL;

	if (!s) {
		t->dgrams_lost++;
		return;
	}
	if (from)
		s->m.from = *from;
	if (to)
		s->m.to = *to;
	if (ep)
		s->m.ep = *ep;
	memcpy(s->data, p, n);
	s->m.data = nb_bytes(s->data, n);
	slot_commit(t);
}

static bool tell_event(struct run_tunnel *t)
{
	struct slot *s = slot_new(t, RUN_TUNNEL_EVENT);
	struct wg_event ev;

	if (!s || !wg_event(t->path.wg, &ev))
		return false;
	if (ev.kind == WG_EV_TAI) {
		s->m.kind = RUN_TUNNEL_TAI;
		s->m.tai = ev.tai;
	} else {
		s->m.event = ev.kind;
		s->m.ep = ev.ep;
		memcpy(s->m.key, wg_peer_key(ev.peer), NB_KEY_LEN);
	}
	slot_commit(t);
	return true;
}

static bool tell_stats_end(struct run_tunnel *t)
{
	struct slot *s = slot_new(t, RUN_TUNNEL_STATS_END);

	if (!s)
		return false;
	s->m.tag = t->stats[0].tag;
	s->m.counters.wg = *wg_counters(t->path.wg);
	if (t->path.filter)
		s->m.counters.filter = *filter_counters(t->path.filter);
	s->m.counters.dgrams_lost = t->dgrams_lost;
	s->m.counters.udp_errors = t->path.udp_errors;
	s->m.counters.tun_errors = t->path.tun_errors;
	slot_commit(t);
	memmove(t->stats, t->stats + 1, --t->nstats * sizeof t->stats[0]);
	t->stats_begun = false;
	return true;
}

static void stats_advance(struct run_tunnel *t)
{
	t->stats_peer = wg_peer_next(t->path.wg, t->stats_peer);
	t->stats_told = false;
	t->stats_skip = 0;
}

/* The next message of the first request for statistics; false when there is none, or no room. */
static bool tell_stats(struct run_tunnel *t, struct nb_time now)
{
	struct slot *s;
	size_t n;

	if (!t->nstats)
		return false;
	if (!t->stats_begun) {
		t->stats_begun = true;
		t->stats_peer = NULL;
		stats_advance(t);
	}
	if (!t->stats_peer)
		return tell_stats_end(t);
	s = slot_new(t, t->stats_told ? RUN_TUNNEL_ALLOWED : RUN_TUNNEL_STATS);
	if (!s)
		return false;
	s->m.tag = t->stats[0].tag;
	memcpy(s->m.key, wg_peer_key(t->stats_peer), NB_KEY_LEN);
	if (!t->stats_told) {
		wg_peer_stats(t->path.wg, t->stats_peer, &s->m.stats, now);
		slot_commit(t);
		t->stats_told = true;
		if (!t->stats[0].allowed)
			stats_advance(t);
		return true;
	}
	n = wg_peer_allowed(t->path.wg, t->stats_peer, t->stats_skip, (struct nb_prefix *)s->data,
			    t->slot_room / sizeof(struct nb_prefix));
	if (n) {
		s->m.prefixes = (const struct nb_prefix *)s->data;
		s->m.nprefixes = n;
		slot_commit(t);
		t->stats_skip += n;
	} else {
		stats_advance(t);
	}
	return true;
}

static void dgram_up(void *ctx, const struct nb_endpoint *from, const struct nb_endpoint *to, struct nb_bytes data)
{
	struct run_tunnel *t = ctx;

	if (data.n && data.n <= RUN_TUNNEL_DGRAM_MAX)
		tell_data(t, RUN_TUNNEL_DGRAM, from, to, NULL, data.p, data.n);
	else
		t->dgrams_lost++;
}

static void stream_up(void *ctx, const struct wg_ep *ep, struct nb_bytes data)
{
	tell_data(ctx, RUN_TUNNEL_STREAM, NULL, NULL, ep, data.p, data.n);
}

/* Everything that waits to be told and must not be lost. */
static void tell_all(struct run_tunnel *t, struct nb_time now)
{
	struct slot *s;

	while (tell_event(t))
		;
	if (t->port_done && (s = slot_new(t, RUN_TUNNEL_PORT)) != NULL) {
		s->m.err = t->port_err;
		s->m.port = t->path.udp.port;
		slot_commit(t);
		t->port_done = false;
	}
	if (t->path.tun_gone && slot_new(t, RUN_TUNNEL_TUN_GONE)) {
		slot_commit(t);
		t->path.tun_gone = false;
	}
	while (tell_stats(t, now))
		;
	if (t->told)
		kick(t->slot_fd);
	t->told = false;
}

/* --- commands --- */

static void peer_set(struct run_tunnel *t, const struct command *c, struct nb_time now)
{
	const struct run_tunnel_peer *s = &c->peer;
	const struct nb_prefix *prefixes = (const struct nb_prefix *)c->bytes;
	struct wg_peer *p = wg_peer_find(t->path.wg, s->key);

	if (!p && (s->update_only || wg_peer_add(t->path.wg, s->key, &p)))
		return;
	if (s->set_psk)
		wg_peer_set_psk(t->path.wg, p, s->psk);
	if (s->replace_allowed)
		wg_peer_disallow_all(t->path.wg, p);
	for (size_t i = 0; i < c->n; i++)
		wg_peer_allow(t->path.wg, p, &prefixes[i]);
	if (s->set_endpoint)
		wg_peer_set_endpoint(t->path.wg, p, &s->ep, now);
	if (s->set_keepalive)
		wg_peer_set_keepalive(t->path.wg, p, s->keepalive, now);
}

static void peer_remove(struct run_tunnel *t, struct wg_peer *p)
{
	if (t->stats_begun && t->stats_peer == p)
		stats_advance(t);
	wg_peer_remove(t->path.wg, p);
}

static void peer_command(struct run_tunnel *t, const struct command *c, struct nb_time now)
{
	struct wg_peer *p = wg_peer_find(t->path.wg, c->key);
	const struct nb_prefix *prefixes = (const struct nb_prefix *)c->bytes;

	if (!p)
		return;
	switch (c->kind) {
	case CMD_PEER_REMOVE:
		peer_remove(t, p);
		break;
	case CMD_PEER_RESET:
		wg_peer_reset(t->path.wg, p);
		break;
	case CMD_PEER_DISALLOW:
		for (size_t i = 0; i < c->n; i++)
			wg_peer_disallow(t->path.wg, p, &prefixes[i]);
		break;
	default:
		wg_peer_set_endpoint(t->path.wg, p, &c->ep, now);
		if (c->flag)
			wg_peer_handshake(t->path.wg, p, true, now);
		break;
	}
}

static void private_key(struct run_tunnel *t, const struct command *c)
{
	/* The peer with this key goes; the position in the statistics must not point to it. */
	uint8_t pub[NB_KEY_LEN];
	struct wg_peer *self;

	nbc_x25519_base(pub, c->key);
	self = wg_peer_find(t->path.wg, pub);
	if (self)
		peer_remove(t, self);
	wg_set_private_key(t->path.wg, c->key);
}

static void change_port(struct run_tunnel *t, uint16_t port)
{
	struct os_dgram_pair fresh;

	t->port_done = true;
	t->port_err = 0;
	if (port && port == t->path.udp.port)
		return;
	t->port_err = os_dgram_open(&fresh, port, t->fwmark, t->udp_wanted);
	if (t->port_err)
		return;
	os_dgram_close(&t->path.udp);
	run_path_set_udp(&t->path, &fresh);
	atomic_store(&t->port, fresh.port);
}

static void command_run(struct run_tunnel *t, struct command *c, struct nb_time now)
{
	switch (c->kind) {
	case CMD_PEER_SET:
		peer_set(t, c, now);
		break;
	case CMD_PEER_REMOVE:
	case CMD_PEER_DISALLOW:
	case CMD_PEER_RESET:
	case CMD_ENDPOINT:
		peer_command(t, c, now);
		break;
	case CMD_SEND:
		run_path_send(&t->path, &c->to, &c->from, c->bytes, c->n);
		break;
	case CMD_DELIVER:	/* commands_run() has them */
		break;
	case CMD_TURN_ADD:
	case CMD_TURN_REMOVE:
		run_path_turn(&t->path, &c->to, c->kind == CMD_TURN_ADD);
		break;
	case CMD_PRIVATE_KEY:
		private_key(t, c);
		break;
	case CMD_FWMARK:
		t->fwmark = c->value;
		if (os_dgram_set_mark(&t->path.udp, c->value))
			t->path.udp_errors++;
		break;
	case CMD_PORT:
		change_port(t, (uint16_t)c->value);
		break;
	case CMD_PEERS_CLEAR:
		for (struct wg_peer *p; (p = wg_peer_next(t->path.wg, NULL)) != NULL;)
			peer_remove(t, p);
		break;
	case CMD_STATS:
		if (t->nstats < STATS_WAITING)
			t->stats[t->nstats++] = (struct stats_request){ c->value, c->flag };
		break;
	}
}

static void command_free(struct command *c, size_t extra)
{
	nb_wipe(c, sizeof *c + extra);
	free(c);
}

static size_t command_extra(const struct command *c)
{
	bool prefixes = c->kind == CMD_PEER_SET || c->kind == CMD_PEER_DISALLOW;

	return prefixes ? c->n * sizeof(struct nb_prefix) : c->n;
}

static struct command *command_take(struct run_tunnel *t)
{
	unsigned tail = atomic_load_explicit(&t->command_tail, memory_order_relaxed);
	struct command *c;

	if (tail == atomic_load_explicit(&t->command_head, memory_order_acquire))
		return NULL;
	c = atomic_load_explicit(&t->commands[tail % COMMANDS], memory_order_relaxed);
	atomic_store_explicit(&t->command_tail, tail + 1, memory_order_release);
	return c;
}

/* Messages that came elsewhere are opened together, as those of a socket are. */
struct delivery {
	struct command *c[DELIVERIES];
	struct wg_pkt k[DELIVERIES];
	size_t n;
};

static void deliver(struct run_tunnel *t, struct delivery *d)
{
	if (d->n)
		run_path_deliver(&t->path, d->k, d->n);
	for (size_t i = 0; i < d->n; i++)
		free(d->c[i]);
	d->n = 0;
}

static void deliver_add(struct run_tunnel *t, struct delivery *d, struct command *c)
{
	d->c[d->n] = c;
	d->k[d->n++] = (struct wg_pkt){ .buf = c->bytes, .cap = c->n, .p = c->bytes, .n = c->n, .ep = c->ep };
	if (d->n == DELIVERIES)
		deliver(t, d);
}

static void commands_run(struct run_tunnel *t, struct nb_time now)
{
	struct delivery d;
	struct command *c;

	d.n = 0;
	while ((c = command_take(t)) != NULL) {
		if (c->kind == CMD_DELIVER) {
			deliver_add(t, &d, c);
			continue;
		}
		deliver(t, &d);
		command_run(t, c, now);
		command_free(c, command_extra(c));
	}
	deliver(t, &d);
}

/* --- access rules --- */

static void filter_retire(struct run_tunnel *t, struct filter_table *old)
{
	struct filter_table *head = atomic_load(&t->filter_past);

	do {
		*filter_table_link(old) = head;
	} while (!atomic_compare_exchange_weak(&t->filter_past, &head, old));
}

/* Control left a newer table: use it. */
static void filter_take(struct run_tunnel *t)
{
	struct filter_table *fresh, *old;

	if (!atomic_load_explicit(&t->filter_next, memory_order_relaxed))
		return;
	fresh = atomic_exchange(&t->filter_next, NULL);
	old = fresh ? filter_exchange(t->path.filter, fresh) : NULL;
	if (old)
		filter_retire(t, old);
}

static void filter_free_past(struct run_tunnel *t)
{
	struct filter_table *at = atomic_exchange(&t->filter_past, NULL), *next;

	for (; at; at = next) {
		next = *filter_table_link(at);
		filter_table_free(at);
	}
}

void run_tunnel_set_filter(struct run_tunnel *t, struct filter_table *rules)
{
	filter_free_past(t);
	if (!t->path.filter) {
		filter_table_free(rules);
		return;
	}
	t->filter_given = rules;
	/* One that was never taken is ours again. */
	filter_table_free(atomic_exchange(&t->filter_next, rules));
	kick(t->command_fd);
}

const struct filter_table *run_tunnel_filter(const struct run_tunnel *t)
{
	return t->filter_given;
}

/* The thread has ended. */
static void filter_end(struct run_tunnel *t)
{
	filter_free_past(t);
	filter_table_free(atomic_exchange(&t->filter_next, NULL));
	if (t->path.filter)
		filter_table_free(filter_exchange(t->path.filter, NULL));
	filter_free(t->path.filter);
}

static int filter_begin(struct run_tunnel *t)
{
	struct filter_config fc = { .random = nbc_random };

	return filter_new(&t->path.filter, &fc);
}

/* --- offloads --- */

static const struct {
	const char *name;
	unsigned bit;
} offload_names[] = {
	{ "checksum", RUN_TUNNEL_CHECKSUM }, { "tso", RUN_TUNNEL_TSO }, { "uso", RUN_TUNNEL_USO },
	{ "segment", RUN_TUNNEL_SEGMENT }, { "gro", RUN_TUNNEL_GRO },
};
#define NOFFLOADS (sizeof offload_names / sizeof offload_names[0])

static unsigned tun_bits(unsigned offloads)
{
	return (offloads & RUN_TUNNEL_CHECKSUM ? OS_TUN_VNET : 0u) | (offloads & RUN_TUNNEL_TSO ? OS_TUN_TSO : 0u) |
	       (offloads & RUN_TUNNEL_USO ? OS_TUN_USO : 0u);
}

static unsigned udp_bits(unsigned offloads)
{
	return (offloads & RUN_TUNNEL_SEGMENT ? OS_DGRAM_SEGMENT : 0u) | (offloads & RUN_TUNNEL_GRO ? OS_DGRAM_GRO : 0u);
}

/* Let control see what is in use now. */
static void offloads_tell(struct run_tunnel *t)
{
	const struct run_path *p = &t->path;
	unsigned udp = p->udp.offloads;

	atomic_store_explicit(&t->offloads, (p->tun_vnet ? RUN_TUNNEL_CHECKSUM : 0u) | (p->tun_tso ? RUN_TUNNEL_TSO : 0u) |
			      (p->tun_uso ? RUN_TUNNEL_USO : 0u) | (udp & OS_DGRAM_SEGMENT ? RUN_TUNNEL_SEGMENT : 0u) |
			      (udp & OS_DGRAM_GRO ? RUN_TUNNEL_GRO : 0u), memory_order_relaxed);
}

unsigned run_tunnel_offloads(const struct run_tunnel *t)
{
	return atomic_load_explicit(&t->offloads, memory_order_relaxed);
}

void run_tunnel_offloads_text(char out[RUN_TUNNEL_OFFLOADS_TEXT], unsigned offloads)
{
	size_t n = 0;

	snprintf(out, RUN_TUNNEL_OFFLOADS_TEXT, "none");
	for (size_t i = 0; i < NOFFLOADS; i++)
		if (offloads & offload_names[i].bit)
			n += (size_t)snprintf(out + n, RUN_TUNNEL_OFFLOADS_TEXT - n, "%s%s", n ? "," : "",
					      offload_names[i].name);
}

unsigned run_tunnel_offloads_parse(const char *text)
{
	unsigned bits = 0;

	if (!text || !strcmp(text, "all"))
		return RUN_TUNNEL_ALL;
	while (*text) {
		size_t n = strcspn(text, ",");

		for (size_t i = 0; i < NOFFLOADS; i++)
			if (nb_bytes_eq_str(nb_bytes(text, n), offload_names[i].name))
				bits |= offload_names[i].bit;
		text += n + (text[n] == ',');
	}
	/* Each of the device's needs those before it. */
	if (bits & RUN_TUNNEL_USO)
		bits |= RUN_TUNNEL_TSO;
	if (bits & RUN_TUNNEL_TSO)
		bits |= RUN_TUNNEL_CHECKSUM;
	return bits;
}

int run_tunnel_tun(struct run_tunnel_config *cfg, const char *name)
{
	unsigned wanted = run_tunnel_offloads_parse(getenv("NB_TUNNEL_OFFLOADS")), tun = tun_bits(wanted);
	int err = os_tun_open(&cfg->tun_fd, name, (unsigned)cfg->mtu, &tun);

	cfg->offloads = (wanted & (RUN_TUNNEL_SEGMENT | RUN_TUNNEL_GRO)) | (tun & OS_TUN_VNET ? RUN_TUNNEL_CHECKSUM : 0u) |
			(tun & OS_TUN_TSO ? RUN_TUNNEL_TSO : 0u) | (tun & OS_TUN_USO ? RUN_TUNNEL_USO : 0u);
	return err;
}

/* --- the thread --- */

static void wait_for(struct run_tunnel *t, struct pollfd fds[4], struct nb_time deadline)
{
	struct timespec ts, *timeout = NULL;

	fds[0] = (struct pollfd){ t->command_fd, POLLIN, 0 };
	fds[1] = (struct pollfd){ t->path.tun, POLLIN, 0 };
	fds[2] = (struct pollfd){ t->path.udp.fd4, POLLIN, 0 };
	fds[3] = (struct pollfd){ t->path.udp.fd6, POLLIN, 0 };
	if (!nb_time_is_never(deadline)) {
		int64_t left = nb_time_diff(deadline, os_now());

		left = left < 0 ? 0 : left;
		ts = (struct timespec){ left / NB_SEC, left % NB_SEC };
		timeout = &ts;
	}
	if (ppoll(fds, 4, timeout, NULL) < 0)
		for (int i = 0; i < 4; i++)
			fds[i].revents = 0;
}

static void *thread_main(void *arg)
{
	struct run_tunnel *t = arg;
	struct pollfd fds[4];

	while (!atomic_load(&t->stop)) {
		struct nb_time now;

		wait_for(t, fds, wg_deadline(t->path.wg));
		if (fds[0].revents)
			unkick(t->command_fd);
		/* Jumps of the wall clock show in the next handshake, without anybody watching for them. */
		now = os_now();
		wg_set_wall(t->path.wg, now, os_wall());
		/* Always, and first: a packet that was sent after a command must find it done. */
		filter_take(t);
		commands_run(t, now);
		if (fds[1].revents && t->path.tun >= 0)
			run_path_tun(&t->path);
		if (fds[2].revents)
			run_path_udp(&t->path, false);
		if (fds[3].revents)
			run_path_udp(&t->path, true);
		now = os_now();
		run_path_flush(&t->path, now);
		offloads_tell(t);
		tell_all(t, now);
	}
	/* What was asked for before the end: the last words to a TURN server. */
	commands_run(t, os_now());
	return NULL;
}

static int thread_start(struct run_tunnel *t)
{
	sigset_t all, old;
	int err;

	/* Signals are the control loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&t->thread, NULL, thread_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	t->running = !err;
	return err ? NB_E_NOMEM : 0;
}

/* --- control's side --- */

static int slots_new(struct run_tunnel *t)
{
	size_t mtu = t->path.mtu;

	t->slot_room = (mtu + 64 > RUN_TUNNEL_DGRAM_MAX ? mtu + 64 : RUN_TUNNEL_DGRAM_MAX) & ~(size_t)7;
	t->slot_stride = (sizeof(struct slot) + t->slot_room + 63) & ~(size_t)63;
	t->slots = malloc(SLOTS * t->slot_stride);
	return t->slots ? 0 : NB_E_NOMEM;
}

static int device_new(struct run_tunnel *t, const struct run_tunnel_config *cfg)
{
	struct wg_config wc = { .mtu = cfg->mtu, .random = nbc_random, .tai_floor = cfg->tai_floor };
	int err;

	memcpy(wc.private_key, cfg->private_key, NB_KEY_LEN);
	err = wg_new(&t->path.wg, &wc, os_now(), os_wall());
	nb_wipe(&wc, sizeof wc);
	return err;
}

int run_tunnel_new(struct run_tunnel **out, const struct run_tunnel_config *cfg)
{
	char text[RUN_TUNNEL_OFFLOADS_TEXT];
	struct run_tunnel *t;
	int err;

	*out = NULL;
	if (cfg->mtu < 576 || cfg->mtu > 8192)
		return NB_E_ARG;
	t = calloc(1, sizeof *t);
	if (!t)
		return NB_E_NOMEM;
	t->path.udp.fd4 = t->path.udp.fd6 = t->path.tun = -1;
	t->path.mtu = cfg->mtu;
	t->path.up = (struct run_path_up){ dgram_up, stream_up, t };
	t->udp_wanted = udp_bits(cfg->offloads);
	t->fwmark = cfg->fwmark;
	t->command_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	t->slot_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = t->command_fd < 0 || t->slot_fd < 0 ? NB_E_SYS : nbc_init();
	if (!err)
		err = slots_new(t);
	if (!err)
		err = device_new(t, cfg);
	if (!err && cfg->filter)
		err = filter_begin(t);
	if (!err)
		err = os_dgram_open(&t->path.udp, cfg->port, cfg->fwmark, t->udp_wanted);
	if (!err)
		err = run_path_init(&t->path, tun_bits(cfg->offloads));
	if (!err) {
		offloads_tell(t);
		atomic_store(&t->port, t->path.udp.port);
		t->path.tun = cfg->tun_fd;
		err = thread_start(t);
	}
	if (err) {
		t->path.tun = -1;
		run_tunnel_free(t);
		return err;
	}
	run_tunnel_offloads_text(text, run_tunnel_offloads(t));
	nb_info("tunnel: offloads in use: %s", text);
	*out = t;
	return 0;
}

static bool commands_full(struct run_tunnel *t, unsigned head)
{
	return head - atomic_load_explicit(&t->command_tail, memory_order_acquire) == COMMANDS;
}

/* A large network map is thousands of commands at once, and none of them may be lost: the control thread
 * waits a little for the other side to take some. Datagrams are sent again by whoever wants an answer. */
static int command_put(struct run_tunnel *t, struct command *c)
{
	unsigned head = atomic_load_explicit(&t->command_head, memory_order_relaxed);
	/* A message alone does not wake the thread, run_tunnel_flush() does; only many of them. */
	bool quiet = c->kind == CMD_DELIVER && head % DELIVERIES;
	bool droppable = c->kind == CMD_SEND || c->kind == CMD_DELIVER || c->kind == CMD_STATS;

	for (unsigned waits = 0; commands_full(t, head); waits++) {
		if (droppable || waits == COMMAND_WAITS) {
			command_free(c, command_extra(c));
			return NB_E_AGAIN;
		}
		usleep(COMMAND_WAIT_US);
	}
	atomic_store_explicit(&t->commands[head % COMMANDS], c, memory_order_relaxed);
	atomic_store_explicit(&t->command_head, head + 1, memory_order_release);
	if (!quiet)
		kick(t->command_fd);
	return 0;
}

void run_tunnel_free(struct run_tunnel *t)
{
	struct command *c;

	if (!t)
		return;
	if (t->running) {
		atomic_store(&t->stop, true);
		kick(t->command_fd);
		pthread_join(t->thread, NULL);
	}
	while ((c = command_take(t)) != NULL)
		command_free(c, command_extra(c));
	filter_end(t);
	wg_free(t->path.wg);
	run_path_fini(&t->path);
	os_close(&t->command_fd);
	os_close(&t->slot_fd);
	if (t->slots)
		nb_wipe(t->slots, SLOTS * t->slot_stride);
	free(t->slots);
	free(t);
}

uint16_t run_tunnel_port(const struct run_tunnel *t)
{
	return atomic_load(&t->port);
}

int run_tunnel_fd(const struct run_tunnel *t)
{
	return t->slot_fd;
}

/* A command with n bytes (or n prefixes) behind it. */
static struct command *command_new(enum command_kind kind, const void *p, size_t n, size_t each)
{
	struct command *c = calloc(1, sizeof *c + n * each);

	if (!c)
		return NULL;
	c->kind = kind;
	c->n = n;
	if (n)
		memcpy(c->bytes, p, n * each);
	return c;
}

static int put_key(struct run_tunnel *t, enum command_kind kind, const uint8_t key[NB_KEY_LEN], const void *p, size_t n)
{
	struct command *c = command_new(kind, p, n, sizeof(struct nb_prefix));

	if (!c)
		return NB_E_NOMEM;
	memcpy(c->key, key, NB_KEY_LEN);
	return command_put(t, c);
}

static int put_value(struct run_tunnel *t, enum command_kind kind, uint32_t value, bool flag)
{
	struct command *c = command_new(kind, NULL, 0, 1);

	if (!c)
		return NB_E_NOMEM;
	c->value = value;
	c->flag = flag;
	return command_put(t, c);
}

static int put_server(struct run_tunnel *t, enum command_kind kind, const struct nb_endpoint *server)
{
	struct command *c = command_new(kind, NULL, 0, 1);

	if (!c)
		return NB_E_NOMEM;
	c->to = *server;
	return command_put(t, c);
}

int run_tunnel_peer_set(struct run_tunnel *t, const struct run_tunnel_peer *p)
{
	struct command *c = command_new(CMD_PEER_SET, p->allowed, p->nallowed, sizeof(struct nb_prefix));

	if (!c)
		return NB_E_NOMEM;
	c->peer = *p;
	c->peer.allowed = NULL;
	return command_put(t, c);
}

int run_tunnel_peer_remove(struct run_tunnel *t, const uint8_t key[NB_KEY_LEN])
{
	return put_key(t, CMD_PEER_REMOVE, key, NULL, 0);
}

int run_tunnel_peer_disallow(struct run_tunnel *t, const uint8_t key[NB_KEY_LEN], const struct nb_prefix *prefixes, size_t n)
{
	return put_key(t, CMD_PEER_DISALLOW, key, prefixes, n);
}

int run_tunnel_peer_reset(struct run_tunnel *t, const uint8_t key[NB_KEY_LEN])
{
	return put_key(t, CMD_PEER_RESET, key, NULL, 0);
}

int run_tunnel_endpoint(struct run_tunnel *t, const uint8_t key[NB_KEY_LEN], const struct wg_ep *ep, bool handshake)
{
	struct command *c = command_new(CMD_ENDPOINT, NULL, 0, 1);

	if (!c)
		return NB_E_NOMEM;
	memcpy(c->key, key, NB_KEY_LEN);
	c->ep = *ep;
	c->flag = handshake;
	return command_put(t, c);
}

int run_tunnel_send(struct run_tunnel *t, const struct nb_endpoint *to, const struct nb_addr *from, struct nb_bytes data)
{
	struct command *c = command_new(CMD_SEND, data.p, data.n, 1);

	if (!c)
		return NB_E_NOMEM;
	c->to = *to;
	if (from)
		c->from = *from;
	return command_put(t, c);
}

int run_tunnel_turn_add(struct run_tunnel *t, const struct nb_endpoint *server)
{
	return put_server(t, CMD_TURN_ADD, server);
}

int run_tunnel_turn_remove(struct run_tunnel *t, const struct nb_endpoint *server)
{
	return put_server(t, CMD_TURN_REMOVE, server);
}

int run_tunnel_deliver(struct run_tunnel *t, const struct wg_ep *from, struct nb_bytes data)
{
	struct command *c = command_new(CMD_DELIVER, data.p, data.n, 1);

	if (!c)
		return NB_E_NOMEM;
	c->ep = *from;
	return command_put(t, c);
}

void run_tunnel_flush(struct run_tunnel *t)
{
	kick(t->command_fd);
}

int run_tunnel_set_private_key(struct run_tunnel *t, const uint8_t key[NB_KEY_LEN])
{
	return put_key(t, CMD_PRIVATE_KEY, key, NULL, 0);
}

int run_tunnel_set_fwmark(struct run_tunnel *t, uint32_t fwmark)
{
	return put_value(t, CMD_FWMARK, fwmark, false);
}

int run_tunnel_set_port(struct run_tunnel *t, uint16_t port)
{
	return put_value(t, CMD_PORT, port, false);
}

int run_tunnel_peers_clear(struct run_tunnel *t)
{
	return put_value(t, CMD_PEERS_CLEAR, 0, false);
}

int run_tunnel_stats(struct run_tunnel *t, uint32_t tag, bool allowed)
{
	int err;

	if (t->stats_asked == STATS_WAITING)
		return NB_E_AGAIN;
	err = put_value(t, CMD_STATS, tag, allowed);
	if (!err)
		t->stats_asked++;
	return err;
}

static void slot_release(struct run_tunnel *t)
{
	struct slot *s = slot_at(t, atomic_load_explicit(&t->slot_tail, memory_order_relaxed));

	nb_wipe(s->m.stats.psk, NB_KEY_LEN);
	t->holding = false;
	atomic_fetch_add(&t->slot_tail, 1);
	if (atomic_exchange(&t->wants_room, false))
		kick(t->command_fd);
}

int run_tunnel_next(struct run_tunnel *t, struct run_tunnel_msg *m)
{
	unsigned tail;

	if (t->holding)
		slot_release(t);
	tail = atomic_load_explicit(&t->slot_tail, memory_order_relaxed);
	if (tail == atomic_load(&t->slot_head)) {
		/* Empty: clear the signal, then look once more, for what came in between. */
		unkick(t->slot_fd);
		if (tail == atomic_load(&t->slot_head))
			return 0;
	}
	*m = slot_at(t, tail)->m;
	t->holding = true;
	if (m->kind == RUN_TUNNEL_STATS_END)
		t->stats_asked--;
	return 1;
}
