/* wg_load.c - many WireGuard initiators in one process, for benchmarks and for tests under attack. Each has a key of its
 * own and an address of its own (base + number, which must be local here; `ip route add local NET dev lo` makes it so).
 *
 *   wg_load keys --count N
 *	Print the public keys of N initiators, base64, one a line.
 *   wg_load handshakes --to ADDR:PORT --peer KEY --source ADDR --count N --window W --seconds S
 *	Initiators in turn, W handshakes under way at once, cookies taken and used. The messages are made before the clock
 *	runs, and a sample of the answers is opened after it. Prints JSON.
 *   wg_load flood --to ADDR:PORT --peer KEY --source ADDR --count N --rate R --seconds S
 *	R initiations a second that look right from outside (mac1), of initiators that the other side does not know; what
 *	comes back is thrown away. Prints JSON.
 *
 * All three end by themselves; --seconds is at most 600. */
#include "wg/wg_int.h"

#include "crypto/crypto.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PEERS_MAX 16384
#define MESSAGES_MAX 60000
#define WINDOW_MAX 4096
#define SAMPLE 50		/* of so many answers one is opened */
#define GIVE_UP (NB_SEC)

struct initiator {
	struct wg_self self;
	struct wg_remote remote;
	struct wg_cookie_jar jar;
};

struct message {
	struct wg_noise noise;
	uint8_t msg[WG_INI_LEN], answer[WG_RES_LEN];
	int64_t sent;
	unsigned who;
	bool answered, waits, cookie;
};

static struct {
	struct sockaddr_in to;
	struct nb_addr source;
	uint8_t peer[32];
	unsigned count, window, rate, seconds;
} opt = { .count = 1, .window = 1, .rate = 1000, .seconds = 1 };

static struct initiator *all;
static struct message *messages;
static int fd;

static void die(const char *what)
{
	fprintf(stderr, "wg_load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * NB_SEC + ts.tv_nsec;
}

/* The key of an initiator is a hash of its number: the same in every run. */
static void initiator_init(struct initiator *i, unsigned number, const char *kind)
{
	uint8_t priv[32], in[32] = { 0 };

	snprintf((char *)in, sizeof in, "wg_load %s %u", kind, number);
	wg_blake2s(priv, 32, NULL, 0, in, sizeof in);
	memset(i, 0, sizeof *i);
	wg_self_set(&i->self, priv);
	if (wg_remote_set(&i->remote, &i->self, opt.peer))
		die("--peer");
}

static void initiators(const char *kind)
{
	all = calloc(opt.count, sizeof *all);
	if (!all)
		die("memory");
	for (unsigned i = 0; i < opt.count; i++)
		initiator_init(&all[i], i, kind);
}

/* Initiation k; each initiator's stamps rise by more than the coarsest clock's step. */
static void message_make(struct message *m, unsigned k, int64_t wall)
{
	uint8_t tai[WG_TAI], eph[32];
	int64_t at = wall + (int64_t)(k / opt.count) * 40 * NB_MS;

	memset(m, 0, sizeof *m);
	m->who = k % opt.count;
	nb_put_be64(tai, 0x400000000000000aULL + (uint64_t)(at / NB_SEC));
	nb_put_be32(tai + 8, (uint32_t)(at % NB_SEC));
	nbc_random(NULL, eph, sizeof eph);
	if (wg_create_initiation(m->msg, &m->noise, &all[m->who].self, &all[m->who].remote, k, tai, eph))
		die("initiation");
	wg_add_macs(m->msg, WG_INI_LEN, &all[m->who].jar, &all[m->who].remote, (struct nb_time){ NB_SEC });
}

static unsigned messages_make(unsigned n)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	messages = malloc(n * sizeof *messages);
	if (!messages)
		die("memory");
	for (unsigned k = 0; k < n; k++)
		message_make(&messages[k], k, (int64_t)ts.tv_sec * NB_SEC + ts.tv_nsec);
	return n;
}

static void socket_open(void)
{
	struct sockaddr_in any = { .sin_family = AF_INET };
	int room = 4 << 20;

	fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof any))
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
}

static bool message_send(const struct message *m)
{
	union {
		struct cmsghdr c;
		char room[CMSG_SPACE(sizeof(struct in_pktinfo))];
	} ctl;
	struct iovec iov = { (void *)(uintptr_t)m->msg, WG_INI_LEN };
	struct msghdr h = { .msg_name = &opt.to, .msg_namelen = sizeof opt.to, .msg_iov = &iov, .msg_iovlen = 1,
			    .msg_control = &ctl, .msg_controllen = sizeof ctl };
	struct in_pktinfo info = { 0 };

	info.ipi_spec_dst.s_addr = htonl(nb_get_be32(opt.source.ip) + m->who);
	memset(&ctl, 0, sizeof ctl);
	ctl.c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof info), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO };
	memcpy(CMSG_DATA(&ctl.c), &info, sizeof info);
	if (sendmsg(fd, &h, 0) == WG_INI_LEN)
		return true;
	if (errno != EAGAIN && errno != ENOBUFS)
		die("sendmsg");
	return false;
}

static void keys(void)
{
	initiators("friend");
	for (unsigned i = 0; i < opt.count; i++) {
		char text[NB_KEY_TEXT_LEN];

		nbc_key_format(text, all[i].self.pub);
		puts(text);
	}
}

/* --- handshakes --- */

static struct {
	unsigned next, made, under_way, answered, cookies, lost;
	unsigned window[WINDOW_MAX];	/* messages under way */
} run;

static void begin_one(int64_t now)
{
	struct message *m = &messages[run.next];

	m->sent = now;
	m->waits = true;
	message_send(m);
	run.window[run.under_way++] = run.next++;
}

static void cookie_came(struct message *m, const uint8_t *p)
{
	struct initiator *i = &all[m->who];
	struct nb_time at = { NB_SEC };

	/* The jar remembers the last message it made; here several are prepared. */
	memcpy(i->jar.last_mac1, m->msg + WG_INI_LEN - 2 * WG_MAC, WG_MAC);
	i->jar.sent = true;
	if (m->cookie || wg_consume_cookie(&i->jar, &i->remote, p, at))
		return;
	run.cookies++;
	m->cookie = true;
	wg_add_macs(m->msg, WG_INI_LEN, &i->jar, &i->remote, at);
	message_send(m);
}

static void receive(void)
{
	uint8_t p[2048];
	ssize_t n;

	while ((n = recv(fd, p, sizeof p, 0)) > 0) {
		bool response = n == WG_RES_LEN && p[0] == WG_MSG_RESPONSE;
		uint32_t k;

		if (!response && !(n == WG_COO_LEN && p[0] == WG_MSG_COOKIE))
			continue;
		k = nb_get_le32(p + (response ? WG_RES_RECEIVER : WG_COO_RECEIVER));
		if (k >= run.next || !messages[k].waits)
			continue;
		if (!response) {
			cookie_came(&messages[k], p);
			continue;
		}
		memcpy(messages[k].answer, p, WG_RES_LEN);
		messages[k].answered = true;
		messages[k].waits = false;
		run.answered++;
	}
}

/* Those that were answered, or waited in vain, make room. */
static void sweep(int64_t now)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < run.under_way; i++) {
		struct message *m = &messages[run.window[i]];

		if (m->waits && now - m->sent > GIVE_UP) {
			m->waits = false;
			run.lost++;
		}
		if (m->waits)
			run.window[kept++] = run.window[i];
	}
	run.under_way = kept;
}

static unsigned open_sample(void)
{
	unsigned opened = 0;

	for (unsigned k = 0; k < run.next; k += SAMPLE) {
		struct message *m = &messages[k];
		struct wg_session_keys got;

		if (!m->answered)
			continue;
		if (wg_consume_response(&got, &m->noise, &all[m->who].self, &all[m->who].remote, m->answer)) {
			fprintf(stderr, "wg_load: answer %u does not open\n", k);
			exit(1);
		}
		opened++;
	}
	return opened;
}

static void handshakes(void)
{
	int64_t began, now, end;
	double took;

	initiators("friend");
	run.made = messages_make(opt.seconds * 12000 < MESSAGES_MAX ? opt.seconds * 12000 : MESSAGES_MAX);
	began = now = now_ns();
	end = began + opt.seconds * NB_SEC;
	while (now < end && (run.next < run.made || run.under_way)) {
		struct pollfd pf = { fd, POLLIN, 0 };

		while (run.under_way < opt.window && run.next < run.made)
			begin_one(now);
		poll(&pf, 1, 10);
		receive();
		now = now_ns();
		sweep(now);
	}
	took = (double)(now - began) / NB_SEC;
	printf("{\"answered\": %u, \"seconds\": %.3f, \"rate\": %.1f, \"cookies\": %u, \"lost\": %u, \"opened\": %u}\n",
	       run.answered, took, run.answered / took, run.cookies, run.lost, open_sample());
}

/* --- flood --- */

static void flood(void)
{
	unsigned made, at = 0;
	uint64_t sent = 0, back = 0;
	int64_t began, now, end;
	uint8_t p[256];

	initiators("stranger");
	made = messages_make(4096);
	began = now = now_ns();
	end = began + opt.seconds * NB_SEC;
	while (now < end) {
		uint64_t due = (uint64_t)((double)(now - began) / NB_SEC * opt.rate);

		/* What could not be sent in time is not made up for. */
		for (unsigned k = 0; k < 256 && sent < due; k++, sent++)
			message_send(&messages[at++ % made]);
		while (recv(fd, p, sizeof p, 0) > 0)
			back++;
		if (sent >= due)
			usleep(500);
		now = now_ns();
	}
	printf("{\"sent\": %" PRIu64 ", \"back\": %" PRIu64 ", \"seconds\": %u}\n", sent, back, opt.seconds);
}

static unsigned number(const char *name, const char *text, unsigned max)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	if (!*text || *end || !v || v > max) {
		fprintf(stderr, "wg_load: %s takes a number up to %u\n", name, max);
		exit(2);
	}
	return (unsigned)v;
}

static void options(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "to", required_argument, NULL, 't' }, { "peer", required_argument, NULL, 'p' },
		{ "source", required_argument, NULL, 's' }, { "count", required_argument, NULL, 'c' },
		{ "window", required_argument, NULL, 'w' }, { "rate", required_argument, NULL, 'r' },
		{ "seconds", required_argument, NULL, 'n' }, { NULL, 0, NULL, 0 },
	};
	struct nb_endpoint e;
	int c, bad = 0;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 't':
			bad |= nb_endpoint_parse(&e, optarg) || e.addr.family != 4;
			opt.to = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(e.port) };
			memcpy(&opt.to.sin_addr, e.addr.ip, 4);
			break;
		case 'p':
			bad |= nbc_key_parse(opt.peer, nb_bytes_str(optarg));
			break;
		case 's':
			bad |= nb_addr_parse(&opt.source, optarg) || opt.source.family != 4;
			break;
		case 'c':
			opt.count = number("--count", optarg, PEERS_MAX);
			break;
		case 'w':
			opt.window = number("--window", optarg, WINDOW_MAX);
			break;
		case 'r':
			opt.rate = number("--rate", optarg, 1000000);
			break;
		case 'n':
			opt.seconds = number("--seconds", optarg, 600);
			break;
		default:
			bad = 1;
		}
	}
	if (bad || optind != argc) {
		fprintf(stderr, "wg_load: bad options\n");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (nbc_init())
		die("random numbers");
	/* Any good key will do where none is needed. */
	nbc_x25519_base(opt.peer, (const uint8_t[32]){ 1 });
	if (argc > 1)
		options(argc - 1, argv + 1);
	if (!strcmp(what, "keys")) {
		keys();
		return 0;
	}
	socket_open();
	if (!strcmp(what, "handshakes"))
		handshakes();
	else if (!strcmp(what, "flood"))
		flood();
	else
		return 2;
	return 0;
}
