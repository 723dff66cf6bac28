/* shard.c - see shard.h. The thread waits for TUN, UDP, commands, other threads and the device's deadline; the work on
 * packets is path.c's. The rings hold pointers from control (commands are made and sized by it) and fixed slots to
 * control, so that the packet path never allocates. Between threads there are two rings each way: data can fill its
 * own, and handshakes still get through.
 * Fields of struct run_shard belong to one side each; only rings, eventfds and the atomics are shared. */
#include "run/shard_int.h"

#include "crypto/crypto.h"
#include "os/clock.h"
#include "os/socket.h"
#include "os/tun.h"
#include "run/conntrack.h"
#include "run/link.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define COMMAND_WAITS 2000	/* of COMMAND_WAIT_US: one second in all */
#define COMMAND_WAIT_US 500
#define DH_PER_HANDSHAKE 4	/* scalar multiplications that answering takes */
#define BURST_MIN 32
#define BURST_MAX 4096
#define PACKET_BYTES (512u << 10)	/* rings between threads: super-packets of TUN */
#define MESSAGE_BYTES (128u << 10)	/* and messages; half for handshakes alone */
#define TAKE 64			/* of a ring in a turn */
#define POLL_OWN 4		/* descriptors besides those of links */

/* --- the ring to control --- */

static struct slot *slot_at(const struct run_shard *t, unsigned i)
{
	return (struct slot *)(t->slots + (size_t)(i % SLOTS) * t->slot_stride);
}

/* A free slot, zeroed, or NULL; then control will wake the thread once there is room. */
static struct slot *slot_new(struct run_shard *t, enum run_tunnel_kind kind)
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

static void slot_commit(struct run_shard *t)
{
	atomic_fetch_add(&t->slot_head, 1);
	t->told = true;
}

void run_kick(int eventfd)
{
	uint64_t one = 1;
	ssize_t n = write(eventfd, &one, sizeof one);

	/* Only a full counter refuses, and that is a wake-up already. */
	(void)n;
}

void run_unkick(int eventfd)
{
	uint64_t v;
	ssize_t n = read(eventfd, &v, sizeof v);

	(void)n;
}

static void tell_data(struct run_shard *t, enum run_tunnel_kind kind, const struct nb_endpoint *from,
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

static bool tell_event(struct run_shard *t)
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

static bool tell_stats_end(struct run_shard *t)
{
	struct slot *s = slot_new(t, RUN_TUNNEL_STATS_END);

	if (!s)
		return false;
	s->m.counters.wg = *wg_counters(t->path.wg);
	if (t->path.filter)
		s->m.counters.filter = *filter_counters(t->path.filter);
	s->m.counters.dgrams_lost = t->dgrams_lost;
	s->m.counters.udp_errors = t->path.udp_errors;
	s->m.counters.tun_errors = t->path.tun_errors;
	s->m.counters.too_big = t->path.too_big;
	s->m.counters.links_dropped = t->links ? run_links_dropped(t->links) : 0;
	s->m.counters.handed = t->handed;
	s->m.counters.handed_lost = t->handed_lost;
	slot_commit(t);
	t->stats = 0;
	return true;
}

void run_shard_stats_advance(struct run_shard *t)
{
	t->stats_peer = wg_peer_next(t->path.wg, t->stats_peer);
	t->stats_told = false;
	t->stats_skip = 0;
}

/* The next message of the request for statistics; false when there is none, or no room. */
static bool tell_stats(struct run_shard *t, struct nb_time now)
{
	struct slot *s;
	size_t n;

	if (!t->stats) {
		t->stats = atomic_exchange(&t->stats_asked, 0);
		if (!t->stats)
			return false;
		t->stats_peer = NULL;
		run_shard_stats_advance(t);
	}
	if (!t->stats_peer)
		return tell_stats_end(t);
	s = slot_new(t, t->stats_told ? RUN_TUNNEL_ALLOWED : RUN_TUNNEL_STATS);
	if (!s)
		return false;
	memcpy(s->m.key, wg_peer_key(t->stats_peer), NB_KEY_LEN);
	if (!t->stats_told) {
		wg_peer_stats(t->path.wg, t->stats_peer, &s->m.stats, now);
		slot_commit(t);
		t->stats_told = true;
		if (t->stats == 1)
			run_shard_stats_advance(t);
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
		run_shard_stats_advance(t);
	}
	return true;
}

static void dgram_up(void *ctx, const struct nb_endpoint *from, const struct nb_endpoint *to, struct nb_bytes data)
{
	struct run_shard *t = ctx;

	if (data.n && data.n <= RUN_TUNNEL_DGRAM_MAX)
		tell_data(t, RUN_TUNNEL_DGRAM, from, to, NULL, data.p, data.n);
	else
		t->dgrams_lost++;
}

static bool tell_link(struct run_shard *t, enum run_tunnel_kind kind, unsigned id, struct nb_bytes data)
{
	struct slot *s = slot_new(t, kind);

	if (!s)
		return false;
	s->m.tag = id;
	memcpy(s->data, data.p, data.n);
	s->m.data = nb_bytes(s->data, data.n);
	slot_commit(t);
	return true;
}

static bool link_message(void *ctx, unsigned id, struct nb_bytes in)
{
	return tell_link(ctx, RUN_TUNNEL_LINK_MESSAGE, id, in);
}

static bool link_lost(void *ctx, unsigned id, const char *why)
{
	return tell_link(ctx, RUN_TUNNEL_LINK_LOST, id, nb_bytes(why, strlen(why) + 1));
}

/* Everything that waits to be told and must not be lost. */
static void tell_all(struct run_shard *t, struct nb_time now)
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
	if (t->links)
		run_links_tell(t->links);
	if (t->told)
		run_kick(t->told_fd);
	t->told = false;
}

/* --- between threads --- */

/* The other thread may sleep: it is woken for the first thing at once, to begin while this one goes on, and for what
 * came later at the end of the turn. */
static void wake(struct run_shard *t, unsigned shard)
{
	unsigned bit = 1u << shard;

	if (t->woken & bit)
		t->wake |= bit;
	else
		run_kick(t->all[shard]->command_fd);
	t->woken |= bit;
}

static void wake_all(struct run_shard *t)
{
	for (unsigned i = 0; t->wake; i++, t->wake >>= 1)
		if (t->wake & 1)
			run_kick(t->all[i]->command_fd);
	t->woken = 0;
}

/* A place for n bytes in another thread's ring; NULL, and counted, when there is none. */
static struct handed *hand(struct run_shard *t, struct run_ring *r, size_t n)
{
	struct handed *h = run_ring_reserve(r, (uint32_t)(sizeof *h + n));

	if (h)
		t->handed++;
	else
		t->handed_lost++;
	return h;
}

static void packet_elsewhere(void *ctx, unsigned shard, const uint8_t *vnet, struct nb_bytes packet)
{
	struct run_shard *t = ctx;
	struct run_ring *r = &t->all[shard]->inbox[t->path.shard].packets;
	struct handed *h = hand(t, r, packet.n);

	if (!h)
		return;
	memcpy(h->vnet, vnet, WG_VNET);
	memcpy(h->data, packet.p, packet.n);
	run_ring_commit(r);
	wake(t, shard);
}

/* The caller fills the rest in, commits and wakes. */
static struct handed *hand_message(struct run_shard *t, struct run_ring *r, const struct wg_ep *ep, struct nb_bytes message)
{
	/* Data that came to the wrong thread must not be in the way of handshakes. */
	bool welcome = !wg_is_transport(message) || run_ring_room(r) > MESSAGE_BYTES / 2;
	struct handed *h = welcome ? hand(t, r, message.n) : NULL;

	if (!h) {
		t->handed_lost += !welcome;
		return NULL;
	}
	*h = (struct handed){ .ep = *ep };
	memcpy(h->data, message.p, message.n);
	return h;
}

static void message_elsewhere(void *ctx, unsigned shard, const struct wg_pkt *k)
{
	struct run_shard *t = ctx;
	struct run_ring *r = &t->all[shard]->inbox[t->path.shard].messages;
	struct handed *h = hand_message(t, r, &k->ep, nb_bytes(k->p, k->n));

	if (!h)
		return;
	h->ecn = k->ecn;
	h->admitted = k->verdict == WG_ELSEWHERE;
	run_ring_commit(r);
	wake(t, shard);
}

/* A sealed message for a link: the first thread's. */
static void stream_out(void *ctx, const struct wg_ep *ep, struct nb_bytes data)
{
	struct run_shard *t = ctx;
	struct run_ring *r;
	struct handed *h;

	if (t->links) {
		run_links_send(t->links, ep->id, data);
		return;
	}
	r = &t->all[0]->inbox[t->path.shard].messages;
	h = hand_message(t, r, ep, data);
	if (!h)
		return;
	h->ecn = 0;
	h->admitted = false;
	h->out = true;
	run_ring_commit(r);
	wake(t, 0);
}

/* What came in on a link: some may be for other threads' peers. */
static void link_packets(void *ctx, struct wg_pkt *k, size_t n)
{
	struct run_shard *t = ctx;
	size_t own = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned shard = t->shards > 1 ? wg_message_shard(nb_bytes(k[i].p, k[i].n), t->shards) : t->path.shard;

		if (shard == t->path.shard)
			k[own++] = k[i];
		else
			message_elsewhere(t, shard, &k[i]);
	}
	run_path_deliver(&t->path, k, own);
}

/* Control may have named the channel since this turn began. */
static void send_for_other(struct run_shard *t, uint32_t channel, struct nb_bytes message)
{
	if (run_links_send(t->links, channel, message))
		return;
	run_shard_commands_run(t, os_now());
	run_links_send(t->links, channel, message);
}

/* Up to TAKE messages; true if there are more. */
static bool take_messages(struct run_shard *t, struct run_ring *r)
{
	struct handed *h = NULL;
	uint32_t n;

	for (int i = 0; i < TAKE && (h = run_ring_peek(r, &n)) != NULL; i++) {
		struct wg_pkt k = { .p = h->data, .n = n - sizeof *h, .ep = h->ep, .ecn = h->ecn, .admitted = h->admitted };

		k.buf = k.p;
		k.cap = k.n;
		if (h->out)
			send_for_other(t, h->ep.id, nb_bytes(k.p, k.n));
		else
			run_path_deliver(&t->path, &k, 1);
		run_ring_pop(r);
	}
	return h && run_ring_peek(r, &n);
}

/* A walk through the packets of a ring. */
struct walk {
	struct run_ring *ring;
	int taken;
};

static bool next_packet(void *ctx, const uint8_t **vnet, uint8_t **packet, size_t *n)
{
	struct walk *w = ctx;
	struct handed *h;
	uint32_t size;

	if (w->taken)
		run_ring_pop(w->ring);
	h = w->taken < TAKE ? run_ring_peek(w->ring, &size) : NULL;
	if (!h)
		return false;
	w->taken++;
	*vnet = h->vnet;
	*packet = h->data;
	*n = size - sizeof *h;
	return true;
}

static void take_all(struct run_shard *t)
{
	bool more = false;
	uint32_t n;

	for (unsigned i = 0; i < t->shards; i++) {
		struct inbox *in = &t->inbox[i];
		struct walk w = { &in->packets, 0 };

		if (i == t->path.shard)
			continue;
		more |= take_messages(t, &in->messages);
		if (run_ring_peek(w.ring, &n))
			run_path_take(&t->path, next_packet, &w);
		more |= w.taken == TAKE;
	}
	if (more)
		run_kick(t->command_fd);
}

/* --- access rules --- */

/* Whoever is the last to leave a table gives it to control. */
static void filter_leave(struct run_shard *t, struct filter_table *old)
{
	struct filter_table *head;

	if (atomic_fetch_sub(filter_table_users(old), 1) != 1)
		return;
	head = atomic_load(t->filter_past);
	do {
		*filter_table_link(old) = head;
	} while (!atomic_compare_exchange_weak(t->filter_past, &head, old));
}

/* Control left a newer table: use it. */
static void filter_take(struct run_shard *t)
{
	struct filter_table *fresh, *old;

	if (!atomic_load_explicit(&t->filter_next, memory_order_relaxed))
		return;
	fresh = atomic_exchange(&t->filter_next, NULL);
	old = fresh ? filter_exchange(t->path.filter, fresh) : NULL;
	if (old)
		filter_leave(t, old);
}

struct filter_table *run_shard_set_filter(struct run_shard *t, struct filter_table *fresh)
{
	struct filter_table *old = atomic_exchange(&t->filter_next, fresh);

	run_kick(t->command_fd);
	return old;
}

bool run_shard_filters(const struct run_shard *t)
{
	return t->path.filter != NULL;
}

/* The thread has ended. */
static void filter_end(struct run_shard *t)
{
	struct filter_table *next = atomic_exchange(&t->filter_next, NULL), *now;

	if (next)
		filter_leave(t, next);
	now = t->path.filter ? filter_exchange(t->path.filter, NULL) : NULL;
	if (now)
		filter_leave(t, now);
	filter_free(t->path.filter);
}

static int filter_begin(struct run_shard *t)
{
	struct filter_config fc = { .random = nbc_random, .user = t->path.shard };

	run_conntrack_env(&fc, getenv);
	return filter_new(&t->path.filter, &fc);
}

/* --- offloads --- */

unsigned run_shard_tun_bits(unsigned offloads)
{
	return (offloads & RUN_TUNNEL_CHECKSUM ? OS_TUN_VNET : 0u) | (offloads & RUN_TUNNEL_TSO ? OS_TUN_TSO : 0u) |
	       (offloads & RUN_TUNNEL_USO ? OS_TUN_USO : 0u);
}

unsigned run_shard_udp_bits(unsigned offloads)
{
	return (offloads & RUN_TUNNEL_SEGMENT ? OS_DGRAM_SEGMENT : 0u) | (offloads & RUN_TUNNEL_GRO ? OS_DGRAM_GRO : 0u);
}

/* Let control see what is in use now. */
static void offloads_tell(struct run_shard *t)
{
	const struct run_path *p = &t->path;
	unsigned udp = p->udp.offloads;

	atomic_store_explicit(&t->offloads, (p->tun_vnet ? RUN_TUNNEL_CHECKSUM : 0u) | (p->tun_tso ? RUN_TUNNEL_TSO : 0u) |
			      (p->tun_uso ? RUN_TUNNEL_USO : 0u) | (udp & OS_DGRAM_SEGMENT ? RUN_TUNNEL_SEGMENT : 0u) |
			      (udp & OS_DGRAM_GRO ? RUN_TUNNEL_GRO : 0u), memory_order_relaxed);
}

/* --- the thread --- */

/* Returns how many descriptors of links there are behind the own ones. */
static size_t wait_for(struct run_shard *t, struct pollfd fds[POLL_OWN + RUN_LINKS_MAX], struct nb_time deadline)
{
	size_t links = t->links ? run_links_poll(t->links, fds + POLL_OWN) : 0;
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
	if (ppoll(fds, POLL_OWN + links, timeout, NULL) < 0)
		for (size_t i = 0; i < POLL_OWN + links; i++)
			fds[i].revents = 0;
	return links;
}

static void *thread_main(void *arg)
{
	struct run_shard *t = arg;
	struct pollfd fds[POLL_OWN + RUN_LINKS_MAX];

	while (!atomic_load(&t->stop)) {
		size_t links = wait_for(t, fds, wg_deadline(t->path.wg));
		struct nb_time now;

		if (fds[0].revents)
			run_unkick(t->command_fd);
		/* Jumps of the wall clock show in the next handshake, without anybody watching for them. */
		now = os_now();
		wg_set_wall(t->path.wg, now, os_wall());
		/* Always, and first: a packet that was sent after a command must find it done. */
		filter_take(t);
		run_shard_udp_take(t);
		run_shard_commands_run(t, now);
		take_all(t);
		if (fds[1].revents && t->path.tun >= 0)
			run_path_tun(&t->path);
		if (fds[2].revents)
			run_path_udp(&t->path, false);
		if (fds[3].revents)
			run_path_udp(&t->path, true);
		if (links)
			run_links_read(t->links, fds + POLL_OWN, links);
		now = os_now();
		run_path_flush(&t->path, now);
		if (t->links)
			run_links_flush(t->links);
		offloads_tell(t);
		tell_all(t, now);
		wake_all(t);
	}
	/* What was asked for before the end: the last words to a TURN server. */
	run_shard_commands_run(t, os_now());
	if (t->links)
		run_links_flush(t->links);
	return NULL;
}

int run_shard_start(struct run_shard *t)
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

static int slots_new(struct run_shard *t)
{
	size_t mtu = t->path.mtu;

	t->slot_room = (mtu + 64 > RUN_TUNNEL_DGRAM_MAX ? mtu + 64 : RUN_TUNNEL_DGRAM_MAX) & ~(size_t)7;
	t->slot_stride = (sizeof(struct slot) + t->slot_room + 63) & ~(size_t)63;
	t->slots = malloc(SLOTS * t->slot_stride);
	return t->slots ? 0 : NB_E_NOMEM;
}

/* How many handshake messages of strangers take a quarter of a second of this processor: that much of each second, and then
 * cookies are asked for. A server is not impressed by a thousand peers at once, and a small router still moves packets. */
static unsigned handshake_burst(void)
{
	static const uint8_t secret[NB_KEY_LEN] = { 1 };
	static unsigned burst;
	uint8_t pub[NB_KEY_LEN], out[NB_KEY_LEN];
	int64_t best = NB_SEC;

	if (burst)
		return burst;
	nbc_x25519_base(pub, secret);
	for (int i = 0; i < 3; i++) {
		struct nb_time began = os_now();
		int err = nbc_x25519(out, secret, pub);
		int64_t took = nb_time_diff(os_now(), began);

		if (!err && took > 0 && took < best)
			best = took;
	}
	burst = (unsigned)(NB_SEC / 4 / (best * DH_PER_HANDSHAKE));
	burst = burst < BURST_MIN ? BURST_MIN : burst > BURST_MAX ? BURST_MAX : burst;
	return burst;
}

static int device_new(struct run_shard *t, const struct run_tunnel_config *cfg)
{
	struct wg_config wc = { .mtu = cfg->mtu, .active_ms = cfg->active_ms, .random = nbc_random, .tai_floor = cfg->tai_floor,
				.handshake_burst = handshake_burst(),
				.shard = (uint8_t)t->path.shard, .shards = (uint8_t)t->path.shards };
	int err;

	memcpy(wc.private_key, cfg->private_key, NB_KEY_LEN);
	err = wg_new(&t->path.wg, &wc, os_now(), os_wall());
	nb_wipe(&wc, sizeof wc);
	return err;
}

static int links_new(struct run_shard *t)
{
	struct run_links_config lc = { .message = link_message, .lost = link_lost, .packets = link_packets, .ctx = t,
				       .max_message = t->slot_room, .room = t->path.rx, .random = nbc_random };

	t->links = run_links_new(&lc);
	return t->links ? 0 : NB_E_NOMEM;
}

int run_shard_new(struct run_shard **out, const struct run_shard_config *cfg)
{
	const struct run_tunnel_config *tc = cfg->tunnel;
	struct run_shard *t = aligned_alloc(_Alignof(struct run_shard), sizeof *t);
	int err;

	*out = NULL;
	if (!t)
		return NB_E_NOMEM;
	memset(t, 0, sizeof *t);
	t->shards = 1;
	t->path.shard = cfg->shard;
	t->path.shards = cfg->shards;
	t->path.udp = cfg->udp;
	t->path.tun = t->steer = -1;
	t->path.mtu = tc->mtu;
	t->path.up = (struct run_path_up){ dgram_up, stream_out, packet_elsewhere, message_elsewhere, t };
	t->udp_wanted = run_shard_udp_bits(tc->offloads);
	t->fwmark = tc->fwmark;
	t->told_fd = cfg->told_fd;
	t->filter_past = cfg->past;
	t->command_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = t->command_fd < 0 ? NB_E_SYS : slots_new(t);
	if (!err)
		err = device_new(t, tc);
	if (!err && tc->filter)
		err = filter_begin(t);
	if (!err)
		err = run_path_init(&t->path, run_shard_tun_bits(tc->offloads));
	if (!err && !cfg->shard)
		err = links_new(t);
	if (err) {
		t->path.udp.fd4 = t->path.udp.fd6 = -1;
		run_shard_free(t);
		return err;
	}
	offloads_tell(t);
	atomic_store(&t->port, t->path.udp.port);
	*out = t;
	return 0;
}

int run_shard_join(struct run_shard *const shards[], unsigned n)
{
	int err = 0;

	for (unsigned i = 0; i < n; i++) {
		struct run_shard *t = shards[i];

		for (unsigned k = 0; k < n && !err; k++) {
			t->all[k] = shards[k];
			if (k != i)
				err = run_ring_init(&t->inbox[k].packets, PACKET_BYTES);
			if (k != i && !err)
				err = run_ring_init(&t->inbox[k].messages, MESSAGE_BYTES);
		}
		t->shards = n;
	}
	return err;
}

static bool commands_full(struct run_shard *t, unsigned head)
{
	return head - atomic_load_explicit(&t->command_tail, memory_order_acquire) == COMMANDS;
}

/* A large network map is thousands of commands at once, and none of them may be lost: the control thread
 * waits a little for the other side to take some. Datagrams are sent again by whoever wants an answer. */
int run_shard_put(struct run_shard *t, struct run_command *c)
{
	unsigned head = atomic_load_explicit(&t->command_head, memory_order_relaxed);
	/* A message alone does not wake the thread, run_shard_flush() does; only many of them. */
	bool quiet = c->kind == RUN_CMD_DELIVER && head % DELIVERIES;
	bool droppable = c->kind == RUN_CMD_SEND || c->kind == RUN_CMD_DELIVER;

	for (unsigned waits = 0; commands_full(t, head); waits++) {
		if (droppable || waits == COMMAND_WAITS) {
			run_command_free(c);
			return NB_E_AGAIN;
		}
		usleep(COMMAND_WAIT_US);
	}
	atomic_store_explicit(&t->commands[head % COMMANDS], c, memory_order_relaxed);
	atomic_store_explicit(&t->command_head, head + 1, memory_order_release);
	if (!quiet)
		run_kick(t->command_fd);
	return 0;
}

void run_shard_flush(struct run_shard *t)
{
	run_kick(t->command_fd);
}

void run_shard_stats(struct run_shard *t, bool allowed)
{
	atomic_store(&t->stats_asked, allowed ? 2 : 1);
	run_kick(t->command_fd);
}

void run_shard_take_tun(struct run_shard *t, int fd, int table)
{
	t->path.tun = fd;
	t->steer = table;
}

void run_shard_stop(struct run_shard *t)
{
	if (!t->running)
		return;
	atomic_store(&t->stop, true);
	run_kick(t->command_fd);
	pthread_join(t->thread, NULL);
	t->running = false;
}

void run_shard_free(struct run_shard *t)
{
	struct os_dgram_pair *fresh;
	struct run_command *c;

	if (!t)
		return;
	while ((c = run_shard_command_take(t)) != NULL)
		run_command_free(c);
	fresh = atomic_load(&t->udp_next);
	if (fresh)
		os_dgram_close(fresh);
	free(fresh);
	filter_end(t);
	run_links_free(t->links);
	wg_free(t->path.wg);
	run_path_fini(&t->path);
	os_close(&t->command_fd);
	os_close(&t->steer);
	for (unsigned i = 0; i < WG_SHARDS_MAX; i++) {
		run_ring_fini(&t->inbox[i].packets);
		run_ring_fini(&t->inbox[i].messages);
	}
	if (t->slots)
		nb_wipe(t->slots, SLOTS * t->slot_stride);
	free(t->slots);
	free(t);
}

uint16_t run_shard_port(const struct run_shard *t)
{
	return atomic_load(&t->port);
}

unsigned run_shard_offloads(const struct run_shard *t)
{
	return atomic_load_explicit(&t->offloads, memory_order_relaxed);
}

const struct run_tunnel_msg *run_shard_next(struct run_shard *t)
{
	unsigned tail = atomic_load_explicit(&t->slot_tail, memory_order_relaxed);

	return tail == atomic_load(&t->slot_head) ? NULL : &slot_at(t, tail)->m;
}

void run_shard_release(struct run_shard *t)
{
	struct slot *s = slot_at(t, atomic_load_explicit(&t->slot_tail, memory_order_relaxed));

	nb_wipe(s->m.stats.psk, NB_KEY_LEN);
	atomic_fetch_add(&t->slot_tail, 1);
	if (atomic_exchange(&t->wants_room, false))
		run_kick(t->command_fd);
}
