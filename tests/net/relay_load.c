/* relay_load.c - load for a relay: many TURN allocations from one process, each on a socket of its own, and traffic
 * through them that is counted where it comes out; and the same for the NetBird relay protocol over WebSocket. Works
 * with any server, so that ours is measured beside others. Used by tests/bench/bench_relay.py and tests/net.
 *
 *   relay_load turn SERVER USER PASSWORD [KEY=VALUE]...
 *     n=1 allocations   peer=ADDRESS:0 where the peer is   size=1200 bytes   window=256 datagrams on their way
 *     burst=1 datagrams of one allocation in a row   join=1: a burst is sent as one message (UDP_SEGMENT)
 *     way=up (client to peer) or down   mode=channel or indication   seconds=3
 *   relay_load ws ADDRESS:PORT SECRET [KEY=VALUE]...
 *     n=2 clients in pairs   size=1200   window=256   seconds=3
 *   out: "ready COUNT SECONDS" ("ready COUNT SECONDS CODE" when the server refused the next one); then for each line "go"
 *   on stdin: "done SENT RECEIVED SECONDS". End of input ends the program; allocations are given back first. */
#include "ice/stun.h"

#include "base/err.h"
#include "crypto/crypto.h"
#include "os/clock.h"
#include "os/socket.h"
#include "os/udp.h"
#include "proto/relaymsg.h"
#include "web/websocket.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BURST_MAX 64
#define FIRST_CHANNEL 0x4000
#define ANSWER_MS 500
#define TRIES 10
#define LOST_MS 30		/* silence after which what is on its way counts as lost */

static struct {
	unsigned n, size, burst, join, window, seconds;
	bool down, indication;
	struct nb_endpoint peer;
} opt = { .n = 1, .size = 1200, .burst = 1, .window = 256, .seconds = 3 };

static uint8_t payload[65536];
static unsigned long sent, received;
static int epfd;

static void die(const char *what)
{
	fprintf(stderr, "relay_load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double seconds_since(struct nb_time t)
{
	return (double)nb_time_diff(os_now(), t) / (double)NB_SEC;
}

static void watch(int fd, void *what)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = what };

	if (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev))
		die("epoll");
}

/* Datagrams that came out of the relay. */
static void count(const struct os_udp *u)
{
	static uint8_t room[16][OS_UDP_LARGE];
	struct os_udp_in in[16];
	int n;

	do {
		for (int i = 0; i < 16; i++)
			in[i] = (struct os_udp_in){ .p = room[i], .cap = OS_UDP_LARGE };
		n = os_udp_recv(u, in, 16);
		for (int i = 0; i < n; i++)
			received += in[i].segment ? (in[i].n + in[i].segment - 1) / in[i].segment : 1;
	} while (n == 16);
}

/* ---- TURN */

struct session {
	struct os_udp udp;
	struct nb_endpoint relayed;
	uint8_t frame[64];		/* what stands before the data */
	size_t nframe;
};

static struct session *sessions;
static struct os_udp peer;
static struct nb_endpoint server;
static const char *user, *password;
static struct {
	char realm[256], nonce[256];
	uint8_t key[STUN_KEY_LEN];
	bool known;
} login;

static void take_login(const struct stun_msg *m)
{
	struct nb_bytes realm, nonce;

	if (stun_find(m, STUN_A_REALM, &realm) || stun_find(m, STUN_A_NONCE, &nonce) || realm.n > 255 || nonce.n > 255)
		return;
	snprintf(login.realm, sizeof login.realm, "%.*s", (int)realm.n, (const char *)realm.p);
	snprintf(login.nonce, sizeof login.nonce, "%.*s", (int)nonce.n, (const char *)nonce.p);
	login.known = stun_long_term_key(login.key, nb_bytes_str(user), realm, nb_bytes_str(password)) == 0;
}

/* One exchange: the attributes of a request are put by put(). Returns 0, an error code of the server, or -1 for silence. */
static int ask(struct session *s, unsigned method, void (*put)(struct stun_enc *e), uint8_t room[1500], struct stun_msg *m)
{
	uint8_t mem[1500], txid[STUN_TXID_LEN];
	struct pollfd p = { s->udp.fd, POLLIN, 0 };
	struct os_udp_in in;
	struct os_udp_out out = { .to = server };
	struct stun_enc e;
	struct nb_buf b;
	unsigned code = 0;

	for (int i = 0; i < TRIES; i++) {
		nbc_random(NULL, txid, sizeof txid);
		nb_buf_fixed(&b, mem, sizeof mem);
		e = stun_begin(&b, STUN_REQUEST, method, txid);
		put(&e);
		if (login.known) {
			stun_put_str(&e, STUN_A_USERNAME, user);
			stun_put_str(&e, STUN_A_REALM, login.realm);
			stun_put_str(&e, STUN_A_NONCE, login.nonce);
			stun_put_integrity(&e, nb_bytes(login.key, sizeof login.key));
		}
		out.part[0] = nb_buf_view(&b);
		os_udp_send(&s->udp, &out, 1);
		if (poll(&p, 1, ANSWER_MS) != 1)
			continue;
		in = (struct os_udp_in){ .p = room, .cap = 1500 };
		if (os_udp_recv(&s->udp, &in, 1) != 1 || stun_decode(m, nb_bytes(room, in.n)))
			continue;
		if (m->cls == STUN_SUCCESS)
			return 0;
		if (stun_get_error(m, &code, NULL) || (code != 401 && code != 438))
			return (int)code;
		take_login(m);
	}
	return code ? (int)code : -1;
}

static void put_allocate(struct stun_enc *e)
{
	stun_put_u32(e, TURN_A_REQUESTED_TRANSPORT, 17u << 24);
}

static void put_permission(struct stun_enc *e)
{
	stun_put_xor_addr(e, TURN_A_XOR_PEER_ADDRESS, &opt.peer);
}

static void put_channel(struct stun_enc *e)
{
	stun_put_u32(e, TURN_A_CHANNEL_NUMBER, (uint32_t)FIRST_CHANNEL << 16);
	put_permission(e);
}

static void put_refresh(struct stun_enc *e)
{
	stun_put_u32(e, TURN_A_LIFETIME, 0);
}

static int open_session(struct session *s)
{
	struct nb_endpoint any = { 0 };
	uint8_t room[1500];
	struct stun_msg m;
	int fd, r;

	any.addr = server.addr.family == 4 ? nb_addr4(0) : any.addr;
	if (os_udp_bind(&fd, &any, NULL))
		die("socket");
	os_udp_init(&s->udp, fd);
	r = ask(s, TURN_ALLOCATE, put_allocate, room, &m);
	if (r == 0)
		r = stun_get_xor_addr(&m, TURN_A_XOR_RELAYED_ADDRESS, &s->relayed);
	if (r == 0)
		r = opt.indication ? ask(s, TURN_CREATE_PERMISSION, put_permission, room, &m) :
				     ask(s, TURN_CHANNEL_BIND, put_channel, room, &m);
	if (r) {
		os_close(&s->udp.fd);
		return r;
	}
	os_udp_want_runs(&s->udp);
	watch(fd, &s->udp);
	return 0;
}

/* The bytes before the data, towards the relay. */
static void make_frame(struct session *s)
{
	uint8_t txid[STUN_TXID_LEN] = { 1 };
	struct stun_enc e;
	struct nb_buf b;

	nb_buf_fixed(&b, s->frame, sizeof s->frame);
	if (opt.down) {
		s->nframe = 0;
	} else if (!opt.indication) {
		nb_buf_be16(&b, FIRST_CHANNEL);
		nb_buf_be16(&b, (uint16_t)opt.size);
		s->nframe = b.n;
	} else {
		e = stun_begin(&b, STUN_INDICATION, TURN_SEND, txid);
		stun_put_xor_addr(&e, TURN_A_XOR_PEER_ADDRESS, &opt.peer);
		nb_buf_be16(&b, TURN_A_DATA);
		nb_buf_be16(&b, (uint16_t)opt.size);
		nb_put_be16(b.p + 2, (uint16_t)(b.n - STUN_HEADER_LEN + opt.size));
		s->nframe = b.n;
	}
}

static void burst(struct session *s)
{
	struct os_udp_out out[BURST_MAX];

	for (unsigned i = 0; i < opt.burst; i++)
		out[i] = (struct os_udp_out){ .to = opt.down ? s->relayed : server,
					      .part = { nb_bytes(s->frame, s->nframe), nb_bytes(payload, opt.size) } };
	sent += os_udp_send(opt.down ? &peer : &s->udp, out, opt.burst);
}

static void open_peer(void)
{
	int fd;

	if (os_udp_bind(&fd, &opt.peer, NULL) || os_local_endpoint(fd, &opt.peer))
		die("peer");
	os_udp_init(&peer, fd);
	os_udp_buffers(&peer, 4 << 20);
	os_udp_want_runs(&peer);
	watch(fd, &peer);
	if (!opt.join)
		peer.segment = false;
}

static void flood(void)
{
	struct nb_time began = os_now(), heard = began, end = nb_time_add(began, opt.seconds * NB_SEC), now;
	unsigned long lost = 0, first_sent = sent, first_received = received;
	struct epoll_event ev[256];
	unsigned next = 0;
	int n;

	for (unsigned i = 0; i < opt.n; i++) {
		make_frame(&sessions[i]);
		if (!opt.join)
			sessions[i].udp.segment = false;
	}
	while (now = os_now(), nb_time_before(now, end)) {
		while (sent - received - lost + opt.burst <= opt.window) {
			burst(&sessions[next]);
			next = (next + 1) % opt.n;
		}
		n = epoll_wait(epfd, ev, 256, 5);
		for (int i = 0; i < n; i++)
			count(ev[i].data.ptr);
		if (n > 0)
			heard = os_now();
		else if (nb_time_diff(os_now(), heard) > LOST_MS * NB_MS)
			lost = sent - received;
	}
	for (int quiet = 0; received - first_received < sent - first_sent && quiet < 10;) {
		n = epoll_wait(epfd, ev, 256, 20);
		quiet = n > 0 ? 0 : quiet + 1;
		for (int i = 0; i < n; i++)
			count(ev[i].data.ptr);
	}
	printf("done %lu %lu %.3f\n", sent - first_sent, received - first_received, (double)opt.seconds);
}

static void turn(char **argv)
{
	struct nb_time began;
	uint8_t room[1500];
	struct stun_msg m;
	char line[16];
	unsigned i;
	int r = 0;

	if (nb_endpoint_parse(&server, argv[0]))
		die("server");
	user = argv[1];
	password = argv[2];
	sessions = calloc(opt.n, sizeof *sessions);
	if (!sessions)
		die("memory");
	open_peer();
	began = os_now();
	for (i = 0; i < opt.n; i++) {
		r = open_session(&sessions[i]);
		if (r)
			break;
	}
	if (r)
		printf("ready %u %.3f %d\n", i, seconds_since(began), r);
	else
		printf("ready %u %.3f\n", i, seconds_since(began));
	opt.n = i;
	while (fgets(line, sizeof line, stdin) && opt.n)
		flood();
	for (i = 0; i < opt.n; i++) {
		struct pollfd p = { sessions[i].udp.fd, POLLIN, 0 };

		/* What is left of the traffic would be taken for the answer. */
		while (poll(&p, 1, 0) == 1)
			count(&sessions[i].udp);
		if (ask(&sessions[i], TURN_REFRESH, put_refresh, room, &m) < 0)
			break;		/* the server is gone */
	}
}

/* ---- the NetBird relay protocol */

struct link {
	int fd;
	struct web_ws *ws;
	uint8_t id[RELAYMSG_ID_LEN];
	bool joined;
};

static struct link *links;

static void on_message(void *ctx, bool text, struct nb_bytes in)
{
	struct link *l = ctx;

	(void)text;
	if (in.n > 2 && in.p[1] == RELAYMSG_TRANSPORT)
		received++;
	else if (in.n > 2 && in.p[1] == RELAYMSG_AUTH_RESPONSE)
		l->joined = true;
}

/* Send what is queued, as far as the socket takes it. */
static bool push(struct link *l)
{
	static uint8_t out[65536];
	size_t n, done, k;

	while ((n = web_ws_output(l->ws, out, sizeof out)) > 0) {
		for (done = 0; done < n; done += k) {
			struct pollfd p = { l->fd, POLLOUT, 0 };
			int r = os_write(l->fd, out + done, n - done, &k);

			if (r && r != NB_E_AGAIN)
				return false;
			if (r)
				poll(&p, 1, 100);
		}
	}
	return true;
}

static void pull(struct link *l)
{
	static uint8_t in[262144];
	size_t n;

	if (os_read(l->fd, in, sizeof in, &n) == 0)
		web_ws_input(l->ws, nb_bytes(in, n));
}

static void open_link(struct link *l, unsigned i, const struct nb_endpoint *at, const char *secret)
{
	struct web_ws_config wc = { .client = true, .max_message = RELAYMSG_MAX, .max_queue = 1 << 22, .rnd = nbc_random,
				    .on_message = on_message, .ctx = l };
	char key[WEB_WS_KEY_TEXT];
	uint8_t hmac_key[32], got[4096], token[RELAYMSG_TOKEN_MAX], auth[RELAYMSG_AUTH_MAX];
	struct pollfd p;
	struct nb_buf b;
	size_t n, have = 0;
	int status, r;

	r = os_tcp_connect(&l->fd, at, NULL);
	p = (struct pollfd){ l->fd, POLLOUT, 0 };
	if (r == NB_E_AGAIN && poll(&p, 1, 3000) == 1)
		r = os_connect_result(l->fd);
	if (r)
		die("connect");
	memcpy(l->id, "sha-", 4);
	memset(l->id + 4, 0, 32);
	nb_put_be32(l->id + 4, i + 1);
	nb_buf_init(&b, 4096);
	web_ws_request(&b, "relay", "/relay", key, nbc_random, NULL);
	os_write(l->fd, b.p, b.n, &n);
	for (r = NB_E_AGAIN; r == NB_E_AGAIN;) {
		p.events = POLLIN;
		if (poll(&p, 1, 5000) != 1 || os_read(l->fd, got + have, sizeof got - have, &n))
			die("upgrade");
		have += n;
		r = web_ws_response(nb_bytes(got, have), key, &status);
	}
	if (r < 0 || web_ws_new(&l->ws, &wc))
		die("upgrade");
	relaymsg_key(hmac_key, nb_bytes_str(secret));
	n = relaymsg_token(token, hmac_key, os_wall().ns / NB_SEC + 3600);
	n = relaymsg_auth(auth, l->id, nb_bytes(token, n));
	web_ws_send(l->ws, nb_bytes(auth, n));
	push(l);
	nb_buf_fini(&b);
	while (!l->joined) {
		if (poll(&p, 1, 5000) != 1)
			die("no answer to the handshake");
		pull(l);
	}
	watch(l->fd, l);
}

static void ws_flood(void)
{
	struct nb_time began = os_now(), end = nb_time_add(began, opt.seconds * NB_SEC);
	unsigned long first_sent = sent, first_received = received;
	struct epoll_event ev[256];
	uint8_t head[RELAYMSG_TRANSPORT_HEADER];
	unsigned next = 0;
	int n;

	while (nb_time_before(os_now(), end)) {
		while (sent - received + opt.burst <= opt.window) {
			struct link *l = &links[next];

			relaymsg_transport_header(head, links[next ^ 1].id);
			for (unsigned i = 0; i < opt.burst; i++, sent++)
				web_ws_send_parts(l->ws, nb_bytes(head, sizeof head), nb_bytes(payload, opt.size), true);
			if (!push(l))
				die("send");
			next = (next + 1) % opt.n;
		}
		n = epoll_wait(epfd, ev, 256, 100);
		for (int i = 0; i < n; i++)
			pull(ev[i].data.ptr);
		if (n == 0)
			break;
	}
	printf("done %lu %lu %.3f\n", sent - first_sent, received - first_received, seconds_since(began));
	received = sent;
}

static void ws(char **argv)
{
	struct nb_time began = os_now();
	struct nb_endpoint at;
	char line[16];

	if (nb_endpoint_parse(&at, argv[0]))
		die("server");
	opt.n = (opt.n + 1) & ~1u;
	links = calloc(opt.n, sizeof *links);
	if (!links)
		die("memory");
	for (unsigned i = 0; i < opt.n; i++)
		open_link(&links[i], i, &at, argv[1]);
	printf("ready %u %.3f\n", opt.n, seconds_since(began));
	while (fgets(line, sizeof line, stdin))
		ws_flood();
}

/* ---- */

static bool read_option(const char *text)
{
	const char *value = strchr(text, '=');
	size_t n = value ? (size_t)(value++ - text) : 0;
	static const struct {
		const char *name;
		unsigned *to;
	} numbers[] = { { "n", &opt.n }, { "size", &opt.size }, { "burst", &opt.burst }, { "join", &opt.join },
			{ "window", &opt.window }, { "seconds", &opt.seconds } };

	for (size_t i = 0; value && i < sizeof numbers / sizeof *numbers; i++) {
		if (strlen(numbers[i].name) == n && !strncmp(numbers[i].name, text, n)) {
			*numbers[i].to = (unsigned)atoi(value);
			return true;
		}
	}
	if (value && !strncmp(text, "peer=", 5))
		return nb_endpoint_parse(&opt.peer, value) == 0;
	opt.down = opt.down || !strcmp(text, "way=down");
	opt.indication = opt.indication || !strcmp(text, "mode=indication");
	return value != NULL;
}

int main(int argc, char **argv)
{
	int first = argc > 1 && !strcmp(argv[1], "turn") ? 5 : 4;

	setvbuf(stdout, NULL, _IOLBF, 0);
	os_raise_descriptors(0);
	epfd = epoll_create1(EPOLL_CLOEXEC);
	if (argc < first || epfd < 0 || nbc_init())
		return 2;
	for (int i = first; i < argc; i++)
		if (!read_option(argv[i]))
			return 2;
	if (!opt.n || !opt.burst || opt.burst > BURST_MAX || opt.size > 8192)
		return 2;
	if (first == 5)
		turn(argv + 2);
	else
		ws(argv + 2);
	return 0;
}
