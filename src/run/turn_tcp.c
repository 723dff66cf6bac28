/* turn_tcp.c - see turn_tcp.h. A message that came in one piece is handed on where it was read; only the
 * start of an unfinished one is kept. Tests: tests/unit/run_turn_tcp_test.c */
#include "run/turn_tcp.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "crypto/crypto.h"
#include "os/clock.h"
#include "os/socket.h"
#include "run/acceptor.h"
#include "run/stream.h"

#include <stdlib.h>

#define LISTEN_MAX 8
#define MESSAGE_MAX 2048		/* as for datagrams: longer ones are read and dropped */
#define QUEUE_MAX (256 << 10)
#define MAX_CONNS 4096
#define MAX_PER_SOURCE 256
#define IDLE_NS (30 * NB_SEC)
#define HEAD 4				/* tells how long a message is */
#define TLS_HANDSHAKE 0x16

struct conn {
	struct nb_list node;
	struct run_turn_tcp *t;
	struct run_stream *s;
	struct turn_flow flow;
	uint8_t part[MESSAGE_MAX];	/* start of an unfinished message */
	size_t n_part;
	size_t skip;			/* bytes of a message that is too long */
	struct nb_buf out;
	struct nb_time idle_at;
	bool begun, broken;
};

struct run_turn_tcp {
	struct run_turn_tcp_config cfg;
	struct run_acceptor acceptors[LISTEN_MAX];
	size_t n_acceptors;
	struct run_crowd crowd;
	struct nb_map by_number;
	struct nb_list conns;
	uint32_t last_number;
	struct run_turn_tcp_stats stats;
};

/* ---- messages ---- */

/* Length on the wire of the message that begins so; 0: no message begins so. */
static size_t message_length(const uint8_t head[HEAD])
{
	size_t n = nb_get_be16(head + 2);

	if (head[0] >> 6 == 1)
		return HEAD + ((n + 3) & ~(size_t)3);
	return head[0] >> 6 == 0 && n % 4 == 0 ? 20 + n : 0;
}

static void hand_on(struct conn *c, struct nb_bytes message, struct nb_time now)
{
	struct run_turn_tcp *t = c->t;

	c->idle_at = nb_time_add(now, t->cfg.idle_ns);
	t->cfg.input(t->cfg.ctx, &c->flow, message, now);
}

static struct nb_bytes after(struct nb_bytes in, size_t n)
{
	return nb_bytes(in.p + n, in.n - n);
}

/* Add to the kept start until it has want bytes, or there are no more. */
static struct nb_bytes keep(struct conn *c, struct nb_bytes in, size_t want)
{
	size_t n = want - c->n_part < in.n ? want - c->n_part : in.n;

	memcpy(c->part + c->n_part, in.p, n);
	c->n_part += n;
	return after(in, n);
}

static struct nb_bytes skip(struct conn *c, struct nb_bytes in)
{
	size_t n = c->skip < in.n ? c->skip : in.n;

	c->skip -= n;
	return after(in, n);
}

/* One step: the rest of the kept message, a message as it lies, or a start to keep. */
static struct nb_bytes take(struct conn *c, struct nb_bytes in, struct nb_time now)
{
	size_t want;

	if (c->n_part < HEAD && (c->n_part || in.n < HEAD)) {
		in = keep(c, in, HEAD);
		if (c->n_part < HEAD)
			return in;
	}
	want = message_length(c->n_part ? c->part : in.p);
	if (!want) {
		c->broken = true;
		return in;
	}
	if (want > MESSAGE_MAX) {
		c->skip = want - c->n_part;
		c->n_part = 0;
		return in;
	}
	if (!c->n_part && in.n >= want) {
		hand_on(c, nb_bytes(in.p, want), now);
		return after(in, want);
	}
	in = keep(c, in, want);
	if (c->n_part == want) {
		hand_on(c, nb_bytes(c->part, want), now);
		c->t->cfg.flush(c->t->cfg.ctx);
		c->n_part = 0;
	}
	return in;
}

/* ---- one connection ---- */

static bool start_tls(struct conn *c, struct nb_bytes in)
{
	static const char *const alpn[NBC_TLS_ALPN_MAX] = { "stun.turn" };	/* RFC 7443 */
	struct nbc_tls *tls;

	if (c->begun || !c->t->cfg.certs || in.p[0] != TLS_HANDSHAKE)
		return false;
	c->begun = true;
	if (run_certs_server_tls(c->t->cfg.certs, &tls, alpn))
		run_stream_abort(c->s, nb_strerror(NB_E_NOMEM));
	else
		run_stream_start_tls(c->s, tls, in);
	return true;
}

static void on_input(void *p, struct nb_bytes in, struct nb_time now)
{
	struct conn *c = p;

	if (c->broken || start_tls(c, in))
		return;
	c->begun = true;
	while (in.n && !c->broken)
		in = c->skip ? skip(c, in) : take(c, in, now);
	c->t->cfg.flush(c->t->cfg.ctx);
	if (c->broken) {
		c->t->stats.broken++;
		run_stream_abort(c->s, "what came is neither STUN nor TURN");
	}
}

static size_t on_output(void *p, void *out, size_t cap, struct nb_time now)
{
	struct conn *c = p;
	size_t n = c->out.n < cap ? c->out.n : cap;

	(void)now;
	if (!n)
		return 0;
	memcpy(out, c->out.p, n);
	nb_buf_consume(&c->out, n);
	if (!c->out.n)
		nb_buf_fini(&c->out);
	return n;
}

static struct nb_time on_deadline(void *p)
{
	const struct conn *c = p;

	return c->idle_at;
}

static void on_timer(void *p, struct nb_time now)
{
	struct conn *c = p;
	struct run_turn_tcp *t = c->t;

	c->idle_at = nb_time_add(now, t->cfg.idle_ns);
	if (!t->cfg.busy(t->cfg.ctx, &c->flow))
		run_stream_abort(c->s, "idle");
}

static struct nb_bytes number_key(const struct turn_flow *flow)
{
	return nb_bytes(&flow->conn, sizeof flow->conn);
}

static void on_closed(void *p, const char *why, struct nb_time now)
{
	struct conn *c = p;
	struct run_turn_tcp *t = c->t;
	char at[NB_ADDR_TEXT];

	(void)now;
	nb_endpoint_format(at, &c->flow.client);
	nb_debug("relay: TCP connection from %s ended: %s", at, why);
	t->cfg.gone(t->cfg.ctx, &c->flow);
	(void)nb_map_del(&t->by_number, number_key(&c->flow));
	nb_list_del(&c->node);
	nb_buf_fini(&c->out);
	run_crowd_leave(&t->crowd, &c->flow.client);
	free(c);
}

static const struct run_proto proto = {
	.input = on_input,
	.output = on_output,
	.deadline = on_deadline,
	.timer = on_timer,
	.closed = on_closed,
};

/* ---- accepting ---- */

static uint32_t new_number(struct run_turn_tcp *t)
{
	do
		t->last_number++;
	while (!t->last_number || nb_map_get(&t->by_number, nb_bytes(&t->last_number, sizeof t->last_number)));
	return t->last_number;
}

static int add_conn(void *ctx, int fd, const struct nb_endpoint *peer)
{
	struct run_turn_tcp *t = ctx;
	struct run_stream_config sc = { .loop = t->cfg.loop, .fd = fd };
	struct conn *c = calloc(1, sizeof *c);

	if (!c)
		return NB_E_NOMEM;
	c->t = t;
	c->flow = (struct turn_flow){ .client = *peer, .conn = new_number(t) };
	(void)os_local_endpoint(fd, &c->flow.local);
	c->idle_at = nb_time_add(os_now(), t->cfg.idle_ns);
	nb_buf_init(&c->out, QUEUE_MAX);
	if (nb_map_put(&t->by_number, number_key(&c->flow), c, NULL) || run_stream_new(&c->s, &sc, &proto, c)) {
		(void)nb_map_del(&t->by_number, number_key(&c->flow));
		free(c);
		return NB_E_NOMEM;
	}
	nb_list_push(&t->conns, &c->node);
	t->stats.accepted++;
	os_keepalive(fd, 60, 20, 5);
	return 0;
}

/* ---- face ---- */

int run_turn_tcp_new(struct run_turn_tcp **out, const struct run_turn_tcp_config *cfg)
{
	struct run_turn_tcp *t = calloc(1, sizeof *t);
	uint8_t seed[16];

	*out = t;
	if (!t)
		return NB_E_NOMEM;
	t->cfg = *cfg;
	t->cfg.max_conns = cfg->max_conns ? cfg->max_conns : MAX_CONNS;
	t->cfg.max_per_source = cfg->max_per_source ? cfg->max_per_source : MAX_PER_SOURCE;
	t->cfg.idle_ns = cfg->idle_ns ? cfg->idle_ns : IDLE_NS;
	nbc_random(NULL, seed, sizeof seed);
	nb_map_init(&t->by_number, seed, t->cfg.max_conns);
	nb_list_init(&t->conns);
	run_crowd_init(&t->crowd, t->cfg.max_conns, t->cfg.max_per_source, "relay: ");
	t->crowd.loopback_too = true;
	return 0;
}

int run_turn_tcp_listen(struct run_turn_tcp *t, const struct nb_endpoint *at)
{
	int r;

	if (t->n_acceptors == LISTEN_MAX)
		return NB_E_FULL;
	r = run_acceptor_start(&t->acceptors[t->n_acceptors], t->cfg.loop, at, &t->crowd, add_conn, t);
	if (r == 0)
		t->n_acceptors++;
	return r;
}

struct nb_endpoint run_turn_tcp_endpoint(const struct run_turn_tcp *t, size_t i)
{
	return i < t->n_acceptors ? t->acceptors[i].at : (struct nb_endpoint){ 0 };
}

void run_turn_tcp_send(struct run_turn_tcp *t, const struct turn_flow *flow, const struct nb_bytes part[3])
{
	struct conn *c = nb_map_get(&t->by_number, number_key(flow));
	size_t n = part[0].n + part[1].n + part[2].n;

	if (!c)
		return;
	if (n > QUEUE_MAX - c->out.n || !nb_buf_reserve(&c->out, n)) {
		c->out.err = 0;
		t->stats.dropped++;
		return;
	}
	for (int i = 0; i < 3; i++)
		if (part[i].n)
			(void)nb_buf_bytes(&c->out, part[i]);
	run_stream_wake(c->s);
}

void run_turn_tcp_stats(const struct run_turn_tcp *t, struct run_turn_tcp_stats *out)
{
	*out = t->stats;
	out->refused = t->crowd.refused;
	out->conns = t->crowd.count;
}

void run_turn_tcp_free(struct run_turn_tcp *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->n_acceptors; i++)
		run_acceptor_stop(&t->acceptors[i]);
	while (!nb_list_empty(&t->conns))
		run_stream_close_now(nb_container(t->conns.next, struct conn, node)->s, "the relay is stopping");
	nb_map_fini(&t->by_number);
	run_crowd_fini(&t->crowd);
	free(t);
}
