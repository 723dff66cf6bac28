/* tunnel.c - see tunnel.h. Control's side of the data-plane threads (shard.h): commands go to the thread they concern,
 * messages of all come out as one stream, counters are summed. */
#include "run/tunnel.h"

#include "base/log.h"
#include "crypto/crypto.h"
#include "crypto/tls.h"
#include "os/socket.h"
#include "os/steer.h"
#include "os/tun.h"
#include "run/shard.h"
#include "run/steer.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/sysinfo.h>

#define STATS_WAITING 8
#define MEMORY_PER_THREAD (256u << 20)	/* of the machine, when nobody says how many threads to take */

struct stats_request {
	uint32_t tag;
	bool allowed;
};

struct run_tunnel {
	struct run_shard *shard[WG_SHARDS_MAX];
	unsigned n;
	bool several_wanted;
	int told_fd;
	unsigned at;			/* the thread whose messages come next */
	bool holding;			/* its oldest message was handed out */
	bool gone_told;
	struct nb_wall tai;		/* told last */
	struct stats_request stats[STATS_WAITING];
	size_t nstats;
	unsigned stats_at;		/* the thread that answers the first request */
	struct run_tunnel_counters sum;	/* of the threads before */
	struct filter_table *filter_given;
	run_shard_tables filter_past;
};

/* --- offloads --- */

static const struct {
	const char *name;
	unsigned bit;
} offload_names[] = {
	{ "checksum", RUN_TUNNEL_CHECKSUM }, { "tso", RUN_TUNNEL_TSO }, { "uso", RUN_TUNNEL_USO },
	{ "segment", RUN_TUNNEL_SEGMENT }, { "gro", RUN_TUNNEL_GRO },
};
#define NOFFLOADS (sizeof offload_names / sizeof offload_names[0])

unsigned run_tunnel_offloads(const struct run_tunnel *t)
{
	unsigned all = RUN_TUNNEL_ALL;

	for (unsigned i = 0; i < t->n; i++)
		all &= run_shard_offloads(t->shard[i]);
	return all | (t->several_wanted ? t->n * RUN_TUNNEL_THREADS : 0);
}

void run_tunnel_offloads_text(char out[RUN_TUNNEL_OFFLOADS_TEXT], unsigned offloads)
{
	size_t n = 0;

	snprintf(out, RUN_TUNNEL_OFFLOADS_TEXT, "none");
	for (size_t i = 0; i < NOFFLOADS; i++)
		if (offloads & offload_names[i].bit)
			n += (size_t)snprintf(out + n, RUN_TUNNEL_OFFLOADS_TEXT - n, "%s%s", n ? "," : "",
					      offload_names[i].name);
	n = strlen(out);
	if (offloads / RUN_TUNNEL_THREADS)
		snprintf(out + n, RUN_TUNNEL_OFFLOADS_TEXT - n, ",threads=%u", offloads / RUN_TUNNEL_THREADS);
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

/* --- threads --- */

unsigned run_tunnel_threads_parse(const char *text)
{
	unsigned n = text ? (unsigned)strtoul(text, NULL, 10) : 0;

	return n > WG_SHARDS_MAX ? WG_SHARDS_MAX : n;
}

/* One on up to three processors, where more only cost; then half as many as there are. */
static unsigned threads_default(void)
{
	struct sysinfo si;
	cpu_set_t cpus;
	unsigned n = sched_getaffinity(0, sizeof cpus, &cpus) ? 1 : (unsigned)CPU_COUNT(&cpus);
	uint64_t memory = sysinfo(&si) ? 0 : (uint64_t)si.totalram * si.mem_unit;

	n = n < 4 ? 1 : n / 2;
	if (n > memory / MEMORY_PER_THREAD)
		n = (unsigned)(memory / MEMORY_PER_THREAD);
	return n < 1 ? 1 : n > WG_SHARDS_MAX ? WG_SHARDS_MAX : n;
}

/* Packets must come through the queue of the thread they are for: without that, one thread has to do. */
static void steer(struct run_tunnel_config *cfg)
{
	cfg->steered = cfg->threads > 1 && !os_steer_open(&cfg->steer, cfg->tun_fds[0]);
	for (; cfg->threads > 1 && !cfg->steered; cfg->threads--)
		os_close(&cfg->tun_fds[cfg->threads - 1]);
}

int run_tunnel_tun(struct run_tunnel_config *cfg, const char *name)
{
	unsigned wanted = run_tunnel_offloads_parse(getenv("NB_TUNNEL_OFFLOADS")), tun = run_shard_tun_bits(wanted);
	unsigned asked = run_tunnel_threads_parse(getenv("NB_TUNNEL_THREADS"));
	int err;

	if (asked)
		cfg->threads = asked;
	else if (!cfg->threads || cfg->threads > WG_SHARDS_MAX)
		cfg->threads = cfg->threads ? WG_SHARDS_MAX : threads_default();
	cfg->several = cfg->threads > 1;
	err = os_tun_open(cfg->tun_fds, &cfg->threads, name, (unsigned)cfg->mtu, &tun);
	if (!err)
		steer(cfg);
	cfg->offloads = (wanted & (RUN_TUNNEL_SEGMENT | RUN_TUNNEL_GRO)) | (tun & OS_TUN_VNET ? RUN_TUNNEL_CHECKSUM : 0u) |
			(tun & OS_TUN_TSO ? RUN_TUNNEL_TSO : 0u) | (tun & OS_TUN_USO ? RUN_TUNNEL_USO : 0u);
	return err;
}

void run_tunnel_tun_close(struct run_tunnel_config *cfg)
{
	for (unsigned i = 0; i < cfg->threads; i++)
		os_close(&cfg->tun_fds[i]);
	if (cfg->steered)
		os_close(&cfg->steer);
}

/* --- access rules --- */

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
	struct filter_table *old;

	filter_free_past(t);
	if (!rules || !run_shard_filters(t->shard[0])) {
		filter_table_free(rules);
		return;
	}
	t->filter_given = rules;
	filter_table_share(rules, t->n);
	atomic_store(filter_table_users(rules), t->n);
	for (unsigned i = 0; i < t->n; i++) {
		old = run_shard_set_filter(t->shard[i], rules);
		/* One that nobody took is ours again. */
		if (old && atomic_fetch_sub(filter_table_users(old), 1) == 1)
			filter_table_free(old);
	}
}

const struct filter_table *run_tunnel_filter(const struct run_tunnel *t)
{
	return t->filter_given;
}

/* --- life --- */

/* Sockets for the threads; for one when the system cannot share a port. */
static int ports_open(struct os_dgram_pair udp[], unsigned *n, const struct run_tunnel_config *cfg)
{
	unsigned length, bits = run_shard_udp_bits(cfg->offloads);
	const struct sock_filter *pick = run_steer(&length);
	int err = os_dgram_open_group(udp, *n, cfg->port, cfg->fwmark, bits, pick, length);

	if (*n == 1 || !err || err == NB_E_BUSY)
		return err;
	*n = 1;
	return os_dgram_open(udp, cfg->port, cfg->fwmark, bits);
}

/* The threads, not yet running; what was not taken over is still the caller's. */
static int shards_new(struct run_tunnel *t, const struct run_tunnel_config *cfg, unsigned n, struct os_dgram_pair udp[])
{
	struct run_shard_config sc = { .tunnel = cfg, .shards = n, .told_fd = t->told_fd, .past = &t->filter_past };
	int err = 0;

	for (unsigned i = 0; i < n && !err; i++) {
		sc.shard = i;
		sc.udp = udp[i];
		err = run_shard_new(&t->shard[i], &sc);
		if (!err)
			udp[i].fd4 = udp[i].fd6 = -1;
		t->n += !err;
	}
	for (unsigned i = 0; i < n; i++)
		os_dgram_close(&udp[i]);
	return err ? err : run_shard_join(t->shard, n);
}

static int shards_start(struct run_tunnel *t)
{
	int err = 0;

	for (unsigned i = 0; i < t->n && !err; i++)
		err = run_shard_start(t->shard[i]);
	return err;
}

int run_tunnel_new(struct run_tunnel **out, const struct run_tunnel_config *cfg)
{
	struct os_dgram_pair udp[WG_SHARDS_MAX];
	char text[RUN_TUNNEL_OFFLOADS_TEXT];
	unsigned n = cfg->threads > 1 ? cfg->threads : 1;
	struct run_tunnel *t;
	int err;

	*out = NULL;
	if (cfg->mtu < 576 || cfg->mtu > 8192 || n > WG_SHARDS_MAX)
		return NB_E_ARG;
	t = calloc(1, sizeof *t);
	if (!t)
		return NB_E_NOMEM;
	t->several_wanted = cfg->several;
	t->told_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = t->told_fd < 0 ? NB_E_SYS : nbc_init();
	if (!err)
		err = ports_open(udp, &n, cfg);
	if (!err)
		err = shards_new(t, cfg, n, udp);
	for (unsigned i = 0; i < n && !err; i++)
		run_shard_take_tun(t->shard[i], cfg->tun_fds[i], !i && cfg->steered ? cfg->steer : -1);
	if (!err)
		err = shards_start(t);
	if (err) {
		for (unsigned i = 0; i < t->n; i++)
			run_shard_stop(t->shard[i]);
		for (unsigned i = 0; i < t->n; i++)
			run_shard_take_tun(t->shard[i], -1, -1);
		run_tunnel_free(t);
		return err;
	}
	for (unsigned i = n; i < cfg->threads; i++) {
		int queue = cfg->tun_fds[i];

		os_close(&queue);
	}
	run_tunnel_offloads_text(text, run_tunnel_offloads(t));
	nb_info("tunnel: offloads in use: %s", text);
	*out = t;
	return 0;
}

void run_tunnel_free(struct run_tunnel *t)
{
	if (!t)
		return;
	for (unsigned i = 0; i < t->n; i++)
		run_shard_stop(t->shard[i]);
	for (unsigned i = 0; i < t->n; i++)
		run_shard_free(t->shard[i]);
	filter_free_past(t);
	os_close(&t->told_fd);
	nb_wipe(t, sizeof *t);
	free(t);
}

uint16_t run_tunnel_port(const struct run_tunnel *t)
{
	return run_shard_port(t->shard[0]);
}

int run_tunnel_fd(const struct run_tunnel *t)
{
	return t->told_fd;
}

/* --- commands --- */

/* A command with n bytes (or n prefixes) behind it. */
static struct run_command *command_new(enum run_command_kind kind, const void *p, size_t n, size_t each)
{
	struct run_command *c = calloc(1, sizeof *c + n * each);

	if (!c)
		return NULL;
	c->kind = kind;
	c->n = n;
	if (n)
		memcpy(c->bytes, p, n * each);
	return c;
}

/* The same command for every thread. */
static int put_all(struct run_tunnel *t, struct run_command *c)
{
	size_t n = sizeof *c + run_command_extra(c);
	struct run_command *copy[WG_SHARDS_MAX] = { c };
	int err = 0, one;

	for (unsigned i = 1; i < t->n; i++) {
		copy[i] = malloc(n);
		if (copy[i])
			memcpy(copy[i], c, n);
		else
			err = NB_E_NOMEM;
	}
	for (unsigned i = 0; i < t->n; i++) {
		if (err == NB_E_NOMEM) {
			if (copy[i])
				run_command_free(copy[i]);
			continue;
		}
		one = run_shard_put(t->shard[i], copy[i]);
		err = err ? err : one;
	}
	return err;
}

static struct run_shard *home(struct run_tunnel *t, const uint8_t key[NB_KEY_LEN])
{
	return t->shard[wg_home(key, t->n)];
}

static struct run_command *key_command(enum run_command_kind kind, const uint8_t key[NB_KEY_LEN], const void *p, size_t n)
{
	struct run_command *c = command_new(kind, p, n, sizeof(struct nb_prefix));

	if (c)
		memcpy(c->key, key, NB_KEY_LEN);
	return c;
}

static int key_all(struct run_tunnel *t, enum run_command_kind kind, const uint8_t key[NB_KEY_LEN], const void *p, size_t n)
{
	struct run_command *c = key_command(kind, key, p, n);

	return c ? put_all(t, c) : NB_E_NOMEM;
}

static int value_all(struct run_tunnel *t, enum run_command_kind kind, uint32_t value)
{
	struct run_command *c = command_new(kind, NULL, 0, 1);

	if (!c)
		return NB_E_NOMEM;
	c->value = value;
	return put_all(t, c);
}

static int server_all(struct run_tunnel *t, enum run_command_kind kind, const struct nb_endpoint *server)
{
	struct run_command *c = command_new(kind, NULL, 0, 1);

	if (!c)
		return NB_E_NOMEM;
	c->to = *server;
	return put_all(t, c);
}

int run_tunnel_peer_set(struct run_tunnel *t, const struct run_tunnel_peer *p)
{
	struct run_command *c = command_new(RUN_CMD_PEER_SET, p->allowed, p->nallowed, sizeof(struct nb_prefix));

	if (!c)
		return NB_E_NOMEM;
	c->peer = *p;
	c->peer.allowed = NULL;
	return put_all(t, c);
}

int run_tunnel_peer_remove(struct run_tunnel *t, const uint8_t key[NB_KEY_LEN])
{
	return key_all(t, RUN_CMD_PEER_REMOVE, key, NULL, 0);
}

int run_tunnel_peer_disallow(struct run_tunnel *t, const uint8_t key[NB_KEY_LEN], const struct nb_prefix *prefixes, size_t n)
{
	return key_all(t, RUN_CMD_PEER_DISALLOW, key, prefixes, n);
}

int run_tunnel_peer_reset(struct run_tunnel *t, const uint8_t key[NB_KEY_LEN])
{
	struct run_command *c = key_command(RUN_CMD_PEER_RESET, key, NULL, 0);

	return c ? run_shard_put(home(t, key), c) : NB_E_NOMEM;
}

int run_tunnel_endpoint(struct run_tunnel *t, const uint8_t key[NB_KEY_LEN], const struct wg_ep *ep, bool handshake)
{
	struct run_command *c = key_command(RUN_CMD_ENDPOINT, key, NULL, 0);

	if (!c)
		return NB_E_NOMEM;
	c->ep = *ep;
	c->flag = handshake;
	return run_shard_put(home(t, key), c);
}

int run_tunnel_send(struct run_tunnel *t, const struct nb_endpoint *to, const struct nb_addr *from, struct nb_bytes data)
{
	struct run_command *c = command_new(RUN_CMD_SEND, data.p, data.n, 1);

	if (!c)
		return NB_E_NOMEM;
	c->to = *to;
	if (from)
		c->from = *from;
	return run_shard_put(t->shard[0], c);
}

int run_tunnel_turn_add(struct run_tunnel *t, const struct nb_endpoint *server)
{
	return server_all(t, RUN_CMD_TURN_ADD, server);
}

int run_tunnel_turn_remove(struct run_tunnel *t, const struct nb_endpoint *server)
{
	return server_all(t, RUN_CMD_TURN_REMOVE, server);
}

int run_tunnel_deliver(struct run_tunnel *t, const struct wg_ep *from, struct nb_bytes data)
{
	struct run_command *c = command_new(RUN_CMD_DELIVER, data.p, data.n, 1);

	if (!c)
		return NB_E_NOMEM;
	c->ep = *from;
	return run_shard_put(t->shard[wg_message_shard(data, t->n)], c);
}

void run_tunnel_flush(struct run_tunnel *t)
{
	for (unsigned i = 0; i < t->n; i++)
		run_shard_flush(t->shard[i]);
}

int run_tunnel_set_private_key(struct run_tunnel *t, const uint8_t key[NB_KEY_LEN])
{
	return key_all(t, RUN_CMD_PRIVATE_KEY, key, NULL, 0);
}

int run_tunnel_set_fwmark(struct run_tunnel *t, uint32_t fwmark)
{
	return value_all(t, RUN_CMD_FWMARK, fwmark);
}

int run_tunnel_set_port(struct run_tunnel *t, uint16_t port)
{
	struct run_command *c = command_new(RUN_CMD_PORT, NULL, 0, 1);

	if (!c)
		return NB_E_NOMEM;
	c->value = port;
	return run_shard_put(t->shard[0], c);
}

int run_tunnel_peers_clear(struct run_tunnel *t)
{
	return value_all(t, RUN_CMD_PEERS_CLEAR, 0);
}

/* --- connections: the first thread's --- */

int run_tunnel_link_add(struct run_tunnel *t, unsigned id, bool turn, int fd, struct nbc_tls *tls)
{
	struct run_link_parts parts = { fd, tls };
	struct run_command *c = command_new(RUN_CMD_LINK_ADD, &parts, sizeof parts, 1);
	int err = NB_E_NOMEM;

	if (c) {
		c->value = id;
		c->flag = turn;
		err = run_shard_put(t->shard[0], c);
	}
	if (err) {
		nbc_tls_free(tls);
		os_close(&fd);
	}
	return err;
}

int run_tunnel_link_drop(struct run_tunnel *t, unsigned id)
{
	struct run_command *c = command_new(RUN_CMD_LINK_DROP, NULL, 0, 1);

	if (!c)
		return NB_E_NOMEM;
	c->value = id;
	return run_shard_put(t->shard[0], c);
}

int run_tunnel_link_send(struct run_tunnel *t, unsigned id, struct nb_bytes head, struct nb_bytes body)
{
	struct run_command *c = calloc(1, sizeof *c + head.n + body.n);

	if (!c)
		return NB_E_NOMEM;
	c->kind = RUN_CMD_LINK_SEND;
	c->value = id;
	c->n = head.n + body.n;
	memcpy(c->bytes, head.p, head.n);
	if (body.n)
		memcpy(c->bytes + head.n, body.p, body.n);
	return run_shard_put(t->shard[0], c);
}

int run_tunnel_link_channel(struct run_tunnel *t, unsigned id, uint32_t channel, struct nb_bytes key)
{
	struct run_command *c = command_new(RUN_CMD_LINK_CHANNEL, key.p, key.n, 1);

	if (!c)
		return NB_E_NOMEM;
	c->value = id;
	c->ep.id = channel;
	c->flag = key.n != 0;
	return run_shard_put(t->shard[0], c);
}

/* --- statistics: the threads answer one after the other, one request at a time --- */

int run_tunnel_stats(struct run_tunnel *t, uint32_t tag, bool allowed)
{
	if (t->nstats == STATS_WAITING)
		return NB_E_AGAIN;
	t->stats[t->nstats++] = (struct stats_request){ tag, allowed };
	if (t->nstats == 1)
		run_shard_stats(t->shard[0], allowed);
	return 0;
}

static void add_words(void *sum, const void *more, size_t bytes)
{
	uint64_t *to = sum;
	const uint64_t *from = more;

	for (size_t i = 0; i < bytes / sizeof *to; i++)
		to[i] += from[i];
}

static void counters_add(struct run_tunnel_counters *sum, const struct run_tunnel_counters *more)
{
	uint32_t flows = sum->filter.flows + more->filter.flows;

	_Static_assert(sizeof *sum % sizeof(uint64_t) == 0, "counters are whole words");
	add_words(sum, more, sizeof *sum);
	sum->filter.flows = flows;
}

/* A thread has answered. True: it was the last one. */
static bool stats_end(struct run_tunnel *t, struct run_tunnel_msg *m)
{
	counters_add(&t->sum, &m->counters);
	if (++t->stats_at < t->n) {
		run_shard_stats(t->shard[t->stats_at], t->stats[0].allowed);
		return false;
	}
	m->counters = t->sum;
	memset(&t->sum, 0, sizeof t->sum);
	t->stats_at = 0;
	memmove(t->stats, t->stats + 1, --t->nstats * sizeof t->stats[0]);
	if (t->nstats)
		run_shard_stats(t->shard[0], t->stats[0].allowed);
	return true;
}

/* --- messages --- */

/* Complete a thread's message. False: it is nothing new. */
static bool complete(struct run_tunnel *t, struct run_tunnel_msg *m)
{
	bool first = !t->gone_told;

	switch (m->kind) {
	case RUN_TUNNEL_STATS:
	case RUN_TUNNEL_ALLOWED:
		m->tag = t->stats[0].tag;
		return true;
	case RUN_TUNNEL_STATS_END:
		m->tag = t->stats[0].tag;
		return stats_end(t, m);
	case RUN_TUNNEL_TAI:
		/* Each thread is ahead of its own stamps; what counts is who is ahead of all. */
		if (m->tai.ns <= t->tai.ns)
			return false;
		t->tai = m->tai;
		return true;
	case RUN_TUNNEL_TUN_GONE:
		t->gone_told = true;
		return first;
	default:
		return true;
	}
}

/* The next message of any thread, in turn. */
static const struct run_tunnel_msg *next_of_any(struct run_tunnel *t)
{
	const struct run_tunnel_msg *m = NULL;

	for (unsigned i = 0; i < t->n; i++) {
		m = run_shard_next(t->shard[t->at]);
		if (m)
			break;
		t->at = (t->at + 1) % t->n;
	}
	return m;
}

static void release(struct run_tunnel *t)
{
	run_shard_release(t->shard[t->at]);
	t->at = (t->at + 1) % t->n;
	t->holding = false;
}

int run_tunnel_next(struct run_tunnel *t, struct run_tunnel_msg *m)
{
	const struct run_tunnel_msg *next;

	if (t->holding)
		release(t);
	for (;;) {
		next = next_of_any(t);
		if (!next) {
			/* Empty: clear the signal, then look once more, for what came in between. */
			run_unkick(t->told_fd);
			next = next_of_any(t);
		}
		if (!next)
			return 0;
		*m = *next;
		t->holding = true;
		if (complete(t, m))
			return 1;
		release(t);
	}
}
