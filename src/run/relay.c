/* relay.c - see run/relay.h. Datagrams are received in batches into rooms that live until the round of the loop ends;
 * what the core wants sent is queued with pointers into them, by socket. At the end of the round, or when there is no
 * room left, each socket sends its queue in one system call, and equal datagrams to one destination go as one message. */
#include "run/relay.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "crypto/crypto.h"
#include "os/clock.h"
#include "os/priv.h"
#include "os/netlink.h"
#include "os/socket.h"
#include "os/udp.h"
#include "run/loop.h"
#include "run/relay_ws.h"
#include "run/turn_tcp.h"

#define DGRAM_MAX 2048			/* longer datagrams are dropped: no tunnel packet is that long */
#define LISTENER_BUFFER (4 << 20)
#define RELAY_BUFFER (1 << 20)
#define ROOMS 32			/* messages received before they are sent on; memory is used when they are long */
#define PER_RELAY 8			/* of them for one relayed address at a time */
#define CLIENT_BATCHES 4		/* received from clients before others get their turn */
#define ANSWERS 64
#define ANSWER_MAX 1400			/* as long as the core makes them */
#define NONE UINT16_MAX
#define OWN_REFRESH (60 * NB_SEC)	/* how long a list of own addresses is believed */
#define DEFAULT_PORT 3478
#define LISTENERS_MAX (2 * RELAY_LISTEN_MAX + 4)
#define SPARE_DESCRIPTORS 2048		/* for connections, listeners and files */
#define PUBLISH_NS NB_SEC		/* how old what other threads see of the counters may be */

/* A socket and its queue, linked through run_relay.next. */
struct outlet {
	struct os_udp udp;
	uint16_t first, last;		/* NONE: nothing waits */
};

struct listener {
	struct run_relay *owner;
	struct run_io io;
	struct outlet out;
	struct nb_endpoint at;
};

struct relay_sock {
	struct run_relay *owner;
	struct turn_relay *relay;
	struct run_io io;
	struct outlet out;
};

struct run_relay {
	struct relay_config cfg;
	struct turn_server *server;
	struct run_loop *loop;
	struct run_async stop;
	struct run_relay_ws *ws;	/* the NetBird relay protocol; NULL: not served */
	struct run_timer timer, publish;	/* publish: set while there is news */
	pthread_t thread;
	pthread_mutex_t lock;
	struct run_relay_turn_stats published;	/* under lock */
	bool running;
	struct listener listeners[LISTENERS_MAX];
	size_t nlisteners, nfirst;	/* nfirst: without those that are there for NAT discovery only */
	struct run_certs *certs;
	struct run_turn_tcp *tcp;
	struct nb_bucket total;		/* of both relays together */
	struct relay_told told;
	bool bind4, bind6;		/* the relay address is ours: bind to it, else to any */
	struct nb_time now, own_at;
	struct nb_wall wall;
	struct run_defer round_end;
	struct os_udp_in in[ROOMS];
	uint8_t room[ROOMS][OS_UDP_LARGE];
	unsigned nin;			/* rooms that the queue may point into */
	/* Datagrams that wait to be sent, and the sockets they wait for. */
	struct os_udp_out out[OS_UDP_OUT];
	uint16_t next[OS_UDP_OUT];
	uint8_t head[OS_UDP_OUT][TURN_HEAD_MAX];
	struct outlet *waiting[OS_UDP_OUT];
	uint8_t answers[ANSWERS][ANSWER_MAX];
	unsigned nout, nwaiting, nanswers;
};

/* ---- Sending ---- */

static void flush_outlet(struct run_relay *r, struct outlet *o)
{
	struct os_udp_out batch[OS_UDP_OUT];
	unsigned n = 0;

	for (uint16_t i = o->first; i != NONE; i = r->next[i])
		batch[n++] = r->out[i];
	os_udp_send(&o->udp, batch, n);
	o->first = NONE;
}

static void flush(struct run_relay *r)
{
	for (unsigned i = 0; i < r->nwaiting; i++)
		flush_outlet(r, r->waiting[i]);
	r->nout = r->nwaiting = r->nanswers = 0;
}

static void on_round_end(void *ctx)
{
	struct run_relay *r = ctx;

	flush(r);
	r->nin = 0;
}

/* A place in the queue of a socket. */
static unsigned queue_slot(struct run_relay *r, struct outlet *o)
{
	unsigned i;

	if (r->nout == OS_UDP_OUT)
		flush(r);
	i = r->nout++;
	r->next[i] = NONE;
	if (o->first == NONE) {
		r->waiting[r->nwaiting++] = o;
		o->first = (uint16_t)i;
	} else {
		r->next[o->last] = (uint16_t)i;
	}
	o->last = (uint16_t)i;
	return i;
}

static void outlet_init(struct outlet *o, int fd)
{
	os_udp_init(&o->udp, fd);
	os_udp_want_runs(&o->udp);
	os_udp_allow_fragments(&o->udp);
	o->first = NONE;
}

static void on_relay(void *ctx, struct turn_relay *relay, const struct nb_endpoint *peer, struct nb_bytes data)
{
	struct run_relay *r = ctx;
	struct relay_sock *s = turn_relay_data(relay);

	r->out[queue_slot(r, &s->out)] = (struct os_udp_out){ .to = *peer, .part = { data } };
}

static struct listener *listener_of(struct run_relay *r, const struct turn_flow *f)
{
	for (size_t i = 0; i < r->nlisteners; i++) {
		struct listener *l = &r->listeners[i];

		if (l->at.port == f->local.port &&
		    (nb_addr_is_unspecified(&l->at.addr) || nb_addr_eq(&l->at.addr, &f->local.addr)) &&
		    (l->at.addr.family != 4 || f->client.addr.family == 4))
			return l;
	}
	return NULL;
}

/* An answer to a request: its bytes are gone when we return, so they are kept. */
static void queue_answer(struct run_relay *r, struct listener *l, struct os_udp_out *out)
{
	uint8_t *room;
	unsigned i;

	if (out->part[0].n > ANSWER_MAX)
		return;
	if (r->nanswers == ANSWERS)
		flush(r);
	/* The slot first: taking it may send everything, and free the room for answers. */
	i = queue_slot(r, &l->out);
	room = r->answers[r->nanswers++];
	memcpy(room, out->part[0].p, out->part[0].n);
	out->part[0].p = room;
	r->out[i] = *out;
}

static void on_reply(void *ctx, const struct turn_flow *to, struct nb_bytes head, struct nb_bytes body,
		     struct nb_bytes tail)
{
	struct run_relay *r = ctx;
	struct listener *l = to->conn ? NULL : listener_of(r, to);
	struct os_udp_out out = { .to = to->client, .from = to->local.addr, .part = { head, body, tail } };
	unsigned i;

	if (to->conn)
		run_turn_tcp_send(r->tcp, to, out.part);
	if (!l)
		return;
	if (!body.n) {
		queue_answer(r, l, &out);
		return;
	}
	i = queue_slot(r, &l->out);
	memcpy(r->head[i], head.p, head.n);
	out.part[0].p = r->head[i];
	r->out[i] = out;
}

/* ---- Receiving ---- */

static void refresh_own(struct run_relay *r)
{
	struct os_ifaddr list[TURN_OWN_MAX];
	struct nb_addr own[TURN_OWN_MAX];
	size_t n = 0;

	if (os_ifaddr_list(list, TURN_OWN_MAX, &n) == NB_E_SYS)
		return;
	for (size_t i = 0; i < n; i++)
		own[i] = list[i].prefix.addr;
	turn_server_set_own(r->server, own, n);
	r->own_at = r->now;
}

static void on_publish(void *ctx, struct nb_time now)
{
	struct run_relay *r = ctx;
	struct run_relay_turn_stats s = { 0 };

	turn_server_stats(r->server, &s.turn);
	relay_tell_dropped(&r->told, "TURN", s.turn.over_user_rate, s.turn.over_total_rate, now);
	if (r->tcp)
		run_turn_tcp_stats(r->tcp, &s.tcp);
	pthread_mutex_lock(&r->lock);
	r->published = s;
	pthread_mutex_unlock(&r->lock);
}

/* The counters have moved: tell within a second, and then be quiet until they move again. */
static void news(struct run_relay *r)
{
	if (nb_time_is_never(r->publish.at))
		run_timer_set(&r->publish, nb_time_add(r->now, PUBLISH_NS));
}

static void set_timer(struct run_relay *r)
{
	struct nb_time at = turn_server_deadline(r->server);

	if (at.ns != r->timer.at.ns)
		run_timer_set(&r->timer, at);
	news(r);
}

/* Receive at most `most` messages into free rooms, which stay in use until the round ends. Returns where they are;
 * *n is how many. */
static const struct os_udp_in *receive(struct run_relay *r, const struct os_udp *u, unsigned most, int *n)
{
	struct os_udp_in *in;

	if (r->nin == ROOMS)
		on_round_end(r);
	in = r->in + r->nin;
	if (most > ROOMS - r->nin)
		most = ROOMS - r->nin;
	*n = os_udp_recv(u, in, most);
	if (*n < 0)
		*n = 0;
	r->nin += (unsigned)*n;
	r->now = os_now();
	r->wall = os_wall();
	run_defer_call(r->loop, &r->round_end);
	return in;
}

/* The datagram that begins at *at, which moves on; false after the last. One may be empty. */
static bool next_dgram(const struct os_udp_in *in, size_t *at, struct nb_bytes *out)
{
	size_t left = in->n - *at;

	if (in->cut || in->segment > DGRAM_MAX || *at > in->n)
		return false;
	*out = nb_bytes(in->p + *at, left < in->segment ? left : in->segment);
	*at += left > out->n ? out->n : left + 1;
	return true;
}

static void from_client(struct run_relay *r, const struct listener *l, const struct os_udp_in *in)
{
	struct turn_flow flow = { .client = in->from, .local = { in->to, l->at.port } };
	struct nb_bytes dgram;

	if (!flow.client.port)
		return;
	for (size_t at = 0; next_dgram(in, &at, &dgram);)
		turn_server_input(r->server, &flow, dgram, r->now, r->wall);
}

static void on_client(void *ctx, int events)
{
	struct listener *l = ctx;
	struct run_relay *r = l->owner;
	int n = ROOMS;

	(void)events;
	for (int batch = 0; batch < CLIENT_BATCHES && n == ROOMS; batch++) {
		const struct os_udp_in *in = receive(r, &l->out.udp, ROOMS, &n);

		if (nb_time_diff(r->now, r->own_at) > OWN_REFRESH)
			refresh_own(r);
		for (int i = 0; i < n; i++)
			from_client(r, l, &in[i]);
	}
	set_timer(r);
}

/* ---- Clients on TCP ---- */

static void on_tcp_input(void *ctx, const struct turn_flow *flow, struct nb_bytes in, struct nb_time now)
{
	struct run_relay *r = ctx;

	r->now = now;
	r->wall = os_wall();
	if (nb_time_diff(now, r->own_at) > OWN_REFRESH)
		refresh_own(r);
	turn_server_input(r->server, flow, in, now, r->wall);
}

static void on_tcp_flush(void *ctx)
{
	flush(ctx);
	set_timer(ctx);
}

static bool on_tcp_busy(void *ctx, const struct turn_flow *flow)
{
	struct run_relay *r = ctx;

	return turn_server_has(r->server, flow);
}

static void on_tcp_gone(void *ctx, const struct turn_flow *flow)
{
	struct run_relay *r = ctx;

	turn_server_gone(r->server, flow);
	news(r);
}

static void on_peer(void *ctx, int events)
{
	struct relay_sock *s = ctx;
	struct run_relay *r = s->owner;
	struct nb_bytes dgram;
	int n;
	const struct os_udp_in *in = receive(r, &s->out.udp, PER_RELAY, &n);

	(void)events;
	for (int i = 0; i < n; i++)
		for (size_t at = 0; next_dgram(&in[i], &at, &dgram);)
			turn_server_peer_input(r->server, s->relay, &in[i].from, dgram, r->now);
	news(r);
}

static void on_timer(void *ctx, struct nb_time now)
{
	struct run_relay *r = ctx;

	r->now = now;
	turn_server_tick(r->server, now);
	set_timer(r);
}

/* ---- Relayed addresses ---- */

static int on_open(void *ctx, struct turn_relay *relay)
{
	struct run_relay *r = ctx;
	bool six = turn_relay_family(relay) == 6;
	struct nb_endpoint at = { .port = turn_relay_port(relay) };
	struct relay_sock *s = calloc(1, sizeof *s);
	static const uint8_t any6[16];
	int err, fd;

	if (!s)
		return NB_E_NOMEM;
	at.addr = six ? nb_addr6(any6) : nb_addr4(0);
	if (six ? r->bind6 : r->bind4)
		at.addr = six ? r->cfg.relay6 : r->cfg.relay4;
	err = os_udp_bind(&fd, &at, NULL);
	if (err) {
		free(s);
		return err;
	}
	outlet_init(&s->out, fd);
	os_udp_buffers(&s->out.udp, RELAY_BUFFER);
	s->owner = r;
	s->relay = relay;
	turn_relay_set_data(relay, s);
	run_io_init(&s->io, r->loop, on_peer, s);
	run_io_set(&s->io, fd, RUN_READ);
	return 0;
}

static void on_close(void *ctx, struct turn_relay *relay)
{
	struct relay_sock *s = turn_relay_data(relay);

	flush(ctx);
	run_io_set(&s->io, -1, 0);
	os_close(&s->out.udp.fd);
	free(s);
}

/* ---- Start and stop ---- */

static bool usable(const struct nb_addr *a, uint8_t family)
{
	return a->family == family && !nb_addr_is_loopback(a) && !nb_addr_is_link_local(a) &&
	       !nb_addr_is_unspecified(a);
}

/* The address peers shall see: as configured; the one we listen on; the one the machine would use
 * towards the Internet; any other. */
static struct nb_addr choose_relay(const struct run_relay *r, uint8_t family, const char *far)
{
	struct nb_addr a = family == 4 ? r->cfg.relay4 : r->cfg.relay6, to;
	struct os_ifaddr list[TURN_OWN_MAX];
	size_t n = 0;

	if (a.family)
		return a;
	for (size_t i = 0; i < r->cfg.nlisten; i++)
		if (r->cfg.listen[i].addr.family == family && !nb_addr_is_unspecified(&r->cfg.listen[i].addr))
			return r->cfg.listen[i].addr;
	if (nb_addr_parse(&to, far) == 0 && os_source_addr(&a, &to) == 0 && usable(&a, family))
		return a;
	os_ifaddr_list(list, TURN_OWN_MAX, &n);
	for (size_t i = 0; i < n; i++)
		if (list[i].up && usable(&list[i].prefix.addr, family))
			return list[i].prefix.addr;
	return (struct nb_addr){ 0 };
}

static bool is_ours(const struct nb_addr *a)
{
	struct os_ifaddr list[TURN_OWN_MAX];
	size_t n = 0;

	os_ifaddr_list(list, TURN_OWN_MAX, &n);
	for (size_t i = 0; i < n; i++)
		if (nb_addr_eq(&list[i].prefix.addr, a))
			return true;
	return false;
}

static int bind_listener(struct run_relay *r, const struct nb_endpoint *at)
{
	struct listener *l = &r->listeners[r->nlisteners];
	int fd, err = r->nlisteners == LISTENERS_MAX ? NB_E_FULL : os_udp_bind(&fd, at, NULL);

	if (err)
		return err;
	l->owner = r;
	os_local_endpoint(fd, &l->at);
	outlet_init(&l->out, fd);
	os_udp_want_local(&l->out.udp);
	os_udp_buffers(&l->out.udp, LISTENER_BUFFER);
	run_io_init(&l->io, r->loop, on_client, l);
	run_io_set(&l->io, fd, RUN_READ);
	r->nlisteners++;
	return 0;
}

static int open_listener(struct run_relay *r, const struct nb_endpoint *at, const char *option)
{
	char text[NB_ADDR_TEXT];
	int err = bind_listener(r, at);

	if (!err)
		return 0;
	nb_endpoint_format(text, at);
	nb_error("relay: cannot listen on UDP %s%s: %s: stop the program that uses it, or choose another with %s",
		 at->addr.family ? "" : "port ", at->addr.family ? text : strrchr(text, ':') ? strrchr(text, ':') + 1 : text,
		 os_why(), option);
	return err;
}

/* ---- NAT behaviour discovery: a second port, a second address ---- */

static bool is_wild(const struct run_relay *r, uint8_t family)
{
	for (size_t i = 0; i < r->nfirst; i++) {
		const struct nb_addr *a = &r->listeners[i].at.addr;

		if (nb_addr_is_unspecified(a) && (a->family == family || a->family == 6))
			return true;
	}
	return false;
}

/* Two of the ports we listen on anyway, or 0. */
static uint16_t other_port(const struct run_relay *r)
{
	for (size_t i = 1; i < r->nfirst; i++)
		if (r->listeners[i].at.port != r->listeners[0].at.port &&
		    nb_addr_eq(&r->listeners[i].at.addr, &r->listeners[0].at.addr))
			return r->listeners[i].at.port;
	return 0;
}

/* The second port beside each of the first. One that nobody asked for may be taken. */
static int open_second_port(struct run_relay *r, struct turn_stun *stun)
{
	uint16_t first = r->listeners[0].at.port, other = other_port(r), port = r->cfg.alt_port ? r->cfg.alt_port : other;
	int err = 0;

	stun->port[0] = first;
	if (r->cfg.no_alt_port || port == first || (!port && first == UINT16_MAX))
		return 0;
	if (port && port == other) {
		stun->port[1] = port;
		return 0;
	}
	port = port ? port : (uint16_t)(first + 1);
	for (size_t i = 0; err == 0 && i < r->nfirst; i++) {
		struct nb_endpoint at = { r->listeners[i].at.addr, port };

		if (r->listeners[i].at.port == first)
			err = r->cfg.alt_port ? open_listener(r, &at, "--stun-alt-port") : bind_listener(r, &at);
	}
	stun->port[1] = err ? 0 : port;
	if (err && !r->cfg.alt_port)
		nb_info("relay: UDP port %u is not free: no second port for NAT discovery", port);
	return r->cfg.alt_port ? err : 0;
}

/* Our address beside alt, for clients that talk to alt. */
static struct nb_addr first_addr(const struct run_relay *r, const struct nb_addr *alt)
{
	struct os_ifaddr list[TURN_OWN_MAX];
	size_t n = 0;

	if (alt->family == 4 ? r->bind4 : r->bind6)
		return alt->family == 4 ? r->cfg.relay4 : r->cfg.relay6;
	os_ifaddr_list(list, TURN_OWN_MAX, &n);
	for (size_t i = 0; i < n; i++)
		if (list[i].up && usable(&list[i].prefix.addr, alt->family) && !nb_addr_eq(&list[i].prefix.addr, alt))
			return list[i].prefix.addr;
	return (struct nb_addr){ 0 };
}

static int open_second_addr(struct run_relay *r, const struct nb_addr *alt, const uint16_t port[2], struct nb_addr out[2])
{
	char text[NB_ADDR_TEXT];
	int err = 0;

	if (!alt->family)
		return 0;
	nb_addr_format(text, alt);
	out[0] = first_addr(r, alt);
	if (!is_ours(alt) || !out[0].family || nb_addr_eq(&out[0], alt)) {
		nb_error("relay: --stun-alt-ip: %s is no second address of this machine: name one that `ip addr` lists", text);
		return NB_E_CONFIG;
	}
	out[1] = *alt;
	for (int i = 0; err == 0 && !is_wild(r, alt->family) && i < 2; i++) {
		struct nb_endpoint at = { *alt, port[i] };

		if (port[i])
			err = open_listener(r, &at, "--stun-alt-ip");
	}
	return err;
}

static int open_discovery(struct run_relay *r)
{
	struct turn_stun stun = { 0 };
	int err = open_second_port(r, &stun);

	if (err == 0)
		err = open_second_addr(r, &r->cfg.alt4, stun.port, stun.addr4);
	if (err == 0)
		err = open_second_addr(r, &r->cfg.alt6, stun.port, stun.addr6);
	turn_server_set_stun(r->server, &stun);
	return err;
}

/* ---- TCP ---- */

static int open_tcp_at(struct run_relay *r, const struct nb_endpoint *at)
{
	char text[NB_ADDR_TEXT];
	int err = run_turn_tcp_listen(r->tcp, at);

	if (!err)
		return 0;
	nb_endpoint_format(text, at);
	nb_error("relay: cannot listen on TCP %s%s: %s: stop the program that uses it, or choose another port with "
		 "--turn-tcp-listen (off: none)", at->addr.family ? "" : "port ", at->addr.family ? text :
		 strrchr(text, ':') ? strrchr(text, ':') + 1 : text, os_why());
	return err;
}

/* TCP as configured, or where UDP listens. */
static int open_tcp(struct run_relay *r)
{
	struct run_turn_tcp_config tc = { .loop = r->loop, .input = on_tcp_input, .flush = on_tcp_flush, .busy = on_tcp_busy,
					  .gone = on_tcp_gone, .ctx = r };
	size_t n = r->cfg.ntcp ? r->cfg.ntcp : r->nfirst;
	int err;

	if (r->cfg.no_tcp)
		return 0;
	tc.certs = r->certs;
	err = run_turn_tcp_new(&r->tcp, &tc);
	for (size_t i = 0; err == 0 && i < n; i++)
		err = open_tcp_at(r, r->cfg.ntcp ? &r->cfg.tcp[i] : &r->listeners[i].at);
	return err;
}

static int open_server(struct run_relay *r)
{
	static const struct turn_server_ops ops = { on_open, on_close, on_relay, on_reply };
	struct turn_user users[RELAY_USERS_MAX];
	struct turn_server_config tc;

	r->cfg.relay4 = choose_relay(r, 4, "8.8.8.8");
	r->cfg.relay6 = choose_relay(r, 6, "2001:4860:4860::8888");
	r->bind4 = is_ours(&r->cfg.relay4);
	r->bind6 = is_ours(&r->cfg.relay6);
	relay_turn_config(&r->cfg, &tc, users);
	tc.random = nbc_random;
	tc.total = &r->total;
	r->server = turn_server_new(&tc, &ops, r);
	if (!r->server)
		return NB_E_NOMEM;
	refresh_own(r);
	return 0;
}

static void announce(const struct run_relay *r)
{
	char four[NB_ADDR_TEXT] = "none", six[NB_ADDR_TEXT] = "none", at[NB_ADDR_TEXT];

	if (r->ws)
		nb_info("relay: NetBird relay protocol as %s", r->cfg.url);
	if (r->cfg.no_udp)
		return;
	for (size_t i = 0; i < r->nlisteners; i++) {
		nb_endpoint_format(at, &r->listeners[i].at);
		nb_info("relay: STUN%s on UDP %s", relay_config_turn(&r->cfg) ? " and TURN" : "", at);
	}
	for (size_t i = 0; r->tcp && run_turn_tcp_endpoint(r->tcp, i).port; i++) {
		struct nb_endpoint tcp = run_turn_tcp_endpoint(r->tcp, i);

		nb_endpoint_format(at, &tcp);
		nb_info("relay: the same on TCP%s %s", r->certs ? " and TLS" : "", at);
	}
	if (!relay_config_turn(&r->cfg))
		return;
	if (r->cfg.relay4.family)
		nb_addr_format(four, &r->cfg.relay4);
	if (r->cfg.relay6.family)
		nb_addr_format(six, &r->cfg.relay6);
	nb_info("relay: relayed addresses: IPv4 %s, IPv6 %s, ports %u-%u", four, six, r->cfg.port_min,
		r->cfg.port_max);
	if (nb_addr_is_private(&r->cfg.relay4))
		nb_warn("relay: peers will see the private address %s: behind a NAT give the outside one with "
			"--external-ip", four);
}

static void on_stopped(void *ctx)
{
	struct run_relay *r = ctx;

	run_loop_stop(r->loop);
}

static void on_stop(void *ctx)
{
	struct run_relay *r = ctx;

	if (r->ws)
		run_relay_ws_stop(r->ws, on_stopped, r);
	else
		run_loop_stop(r->loop);
}

static int open_protocol(struct run_relay *r)
{
	struct relay_hub_config hc;
	int err;

	if (!r->cfg.url[0])
		return 0;
	relay_protocol_config(&r->cfg, &hc);
	hc.total = &r->total;
	err = run_relay_ws_new(&r->ws, r->loop, &hc);
	nb_wipe(&hc, sizeof hc);
	return err;
}

static int set_up(struct run_relay *r)
{
	struct nb_endpoint any = { .port = DEFAULT_PORT };
	int err;

	for (unsigned i = 0; i < ROOMS; i++) {
		r->in[i].p = r->room[i];
		r->in[i].cap = OS_UDP_LARGE;
	}
	run_defer_init(&r->round_end, on_round_end, r);
	r->now = os_now();
	err = run_loop_new(&r->loop);
	if (err)
		return err;
	run_async_start(&r->stop, r->loop, on_stop, r);
	run_timer_init(&r->timer, r->loop, on_timer, r);
	run_timer_init(&r->publish, r->loop, on_publish, r);
	err = open_protocol(r);
	if (err || r->cfg.no_udp)
		return err;
	err = open_server(r);
	if (err == 0 && !r->cfg.nlisten)
		err = open_listener(r, &any, "--turn-listen");
	for (size_t i = 0; err == 0 && i < r->cfg.nlisten; i++)
		err = open_listener(r, &r->cfg.listen[i], "--turn-listen");
	r->nfirst = r->nlisteners;
	if (err == 0)
		err = open_discovery(r);
	return err ? err : open_tcp(r);
}

static void *run(void *arg)
{
	struct run_relay *r = arg;

	run_loop_run(r->loop);
	return NULL;
}

/* Signals are for the main thread. */
static int start_thread(struct run_relay *r)
{
	sigset_t all, old;
	int e;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	e = pthread_create(&r->thread, NULL, run, r);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	r->running = e == 0;
	return e ? NB_E_NOMEM : 0;
}

/* One for each relayed address, and some for connections. */
static void check_descriptors(const struct relay_config *c)
{
	size_t ports = c->port_max - c->port_min + 1u, most = c->max_allocations ? c->max_allocations : TURN_ALLOCATIONS;
	size_t relays = relay_config_turn(c) ? (most < ports ? most : ports) : 0, want = relays + SPARE_DESCRIPTORS;
	size_t have = os_raise_descriptors(want);

	if (have < want)
		nb_warn("relay: this process may open %zu files, and %zu relayed addresses with their connections need %zu: clients will "
			"be refused then; raise the limit (ulimit -n, LimitNOFILE=), or lower --max-allocations", have, relays, want);
}

int run_relay_start(struct run_relay **out, const struct relay_config *cfg, struct run_certs *certs)
{
	struct run_relay *r = calloc(1, sizeof *r);
	int err;

	*out = NULL;
	if (!r)
		return NB_E_NOMEM;
	r->cfg = *cfg;
	r->certs = certs;
	pthread_mutex_init(&r->lock, NULL);
	check_descriptors(cfg);
	err = set_up(r);
	if (err == 0)
		err = start_thread(r);
	if (err) {
		run_relay_stop(r);
		return err;
	}
	announce(r);
	*out = r;
	return 0;
}

static void report(const struct run_relay *r)
{
	struct turn_server_stats s;
	struct relay_hub_stats h;

	if (r->ws) {
		run_relay_ws_stats(r->ws, &h);
		nb_info("relay: %llu bytes relayed, %llu refused connections, %llu packets lost to slow readers",
			(unsigned long long)h.sent_bytes, (unsigned long long)h.refused, (unsigned long long)h.dropped_full);
	}
	if (!r->server)
		return;
	turn_server_stats(r->server, &s);
	nb_info("relay: %llu bindings, %llu datagrams to peers, %llu to clients, %llu wrong credentials, "
		"%llu peers refused, %llu over quota", (unsigned long long)s.bindings,
		(unsigned long long)s.to_peers, (unsigned long long)s.to_clients,
		(unsigned long long)s.auth_failures, (unsigned long long)s.refused_peers,
		(unsigned long long)s.refused_quota);
}

void run_relay_stop(struct run_relay *r)
{
	if (!r)
		return;
	if (r->running) {
		run_async_send(&r->stop);
		pthread_join(r->thread, NULL);
		report(r);
	}
	run_relay_ws_free(r->ws);
	run_turn_tcp_free(r->tcp);
	turn_server_free(r->server);
	for (size_t i = 0; i < r->nlisteners; i++) {
		run_io_set(&r->listeners[i].io, -1, 0);
		os_close(&r->listeners[i].out.udp.fd);
	}
	if (r->loop) {
		run_timer_stop(&r->timer);
		run_timer_stop(&r->publish);
		run_defer_cancel(&r->round_end);
		run_async_stop(&r->stop);
		run_loop_free(r->loop);
	}
	nb_wipe(&r->cfg, sizeof r->cfg);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

void run_relay_hand_over(struct run_relay *r, struct run_loop *from, struct run_stream *s, struct nb_bytes rest)
{
	if (r->ws)
		run_relay_ws_hand_over(r->ws, from, s, rest);
}

bool run_relay_stats(struct run_relay *r, struct relay_hub_stats *out)
{
	if (!r || !r->ws)
		return false;
	run_relay_ws_stats(r->ws, out);
	return true;
}

bool run_relay_turn_stats(struct run_relay *r, struct run_relay_turn_stats *out)
{
	if (!r || !r->server)
		return false;
	pthread_mutex_lock(&r->lock);
	*out = r->published;
	pthread_mutex_unlock(&r->lock);
	return true;
}
