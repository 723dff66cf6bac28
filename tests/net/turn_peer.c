/* turn_peer.c - our TURN client on a real socket, and a plain peer, driven over stdin and stdout.
 *
 *   turn_peer client SERVER USER PASSWORD [4|6]
 *     out: "allocated RELAYED MAPPED", "permitted ADDRESS", "bound PEER CHANNEL", "data PEER TEXT",
 *          "peer-failed PEER CODE", "failed CODE ERROR", "closed"
 *     in:  "permit ADDRESS", "bind PEER", "send PEER TEXT", "flood PEER SECONDS SIZE" (as fast as it goes,
 *          answers "flooded COUNT"), "close"
 *   turn_peer peer ADDRESS:PORT
 *     out: "listening ADDRESS:PORT"; "got FROM TEXT" (short datagrams only), which are sent back
 *     in:  "count" answers "count DATAGRAMS"; "send PEER TEXT"
 * End of input ends the program. */
#include "ice/stun.h"
#include "ice/turn_client.h"

#include "base/err.h"
#include "crypto/crypto.h"
#include "os/clock.h"
#include "os/socket.h"
#include "os/udp.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ECHO_MAX 200	/* longer datagrams are counted only */

static struct turn_client *client;
static struct nb_endpoint server;
static unsigned long count;
static struct os_udp sock;

static void transmit(const struct nb_endpoint *to, const void *p, size_t n)
{
	struct os_udp_out out = { .to = *to, .part = { nb_bytes(p, n) } };

	os_udp_send(&sock, &out, 1);
}

static const char *endpoint_text(const struct nb_endpoint *e)
{
	static char text[4][NB_ADDR_TEXT];
	static unsigned at;
	char *out = text[at++ % 4];

	nb_endpoint_format(out, e);
	return out;
}

static void send_text(const struct nb_endpoint *to, const char *text)
{
	uint8_t out[1024 + TURN_WRAP_MAX];
	int n;

	if (!client) {
		transmit(to, text, strlen(text));
		return;
	}
	n = strlen(text) <= 1024 ? turn_client_wrap(client, to, nb_bytes_str(text), out) : NB_E_ARG;
	if (n > 0)
		transmit(&server, out, (size_t)n);
}

static void flood(const struct nb_endpoint *to, unsigned seconds, size_t size)
{
	static uint8_t data[1500], frame[1500 + TURN_WRAP_MAX];
	struct os_udp_out out[OS_UDP_BATCH];
	struct nb_time end = nb_time_add(os_now(), seconds * NB_SEC);
	unsigned long sent = 0;
	int n;

	if (size > sizeof data)
		return;
	n = turn_client_wrap(client, to, nb_bytes(data, size), frame);
	if (n < 0)
		return;
	for (int i = 0; i < OS_UDP_BATCH; i++)
		out[i] = (struct os_udp_out){ .to = server, .part = { nb_bytes(frame, (size_t)n) } };
	while (nb_time_before(os_now(), end)) {
		unsigned took = os_udp_send(&sock, out, OS_UDP_BATCH);

		sent += took;
		if (took < OS_UDP_BATCH)
			poll(&(struct pollfd){ sock.fd, POLLOUT, 0 }, 1, 10);
	}
	printf("flooded %lu\n", sent);
}

static void peer_command(const struct nb_endpoint *to, const char *word, const char *rest)
{
	unsigned seconds, size;

	if (strcmp(word, "bind") == 0)
		turn_client_bind(client, to, NULL, os_now());
	else if (strcmp(word, "send") == 0)
		send_text(to, rest);
	else if (strcmp(word, "flood") == 0 && sscanf(rest, "%u %u", &seconds, &size) == 2)
		flood(to, seconds, size);
}

static void command(const char *line)
{
	char word[16] = "", at[80] = "";
	struct nb_endpoint to;
	struct nb_addr addr;
	int rest = 0;

	sscanf(line, "%15s %79s %n", word, at, &rest);
	if (strcmp(word, "count") == 0)
		printf("count %lu\n", count);
	else if (strcmp(word, "close") == 0)
		turn_client_close(client, os_now());
	else if (strcmp(word, "permit") == 0 && nb_addr_parse(&addr, at) == 0)
		turn_client_permit(client, &addr, os_now());
	else if (nb_endpoint_parse(&to, at) == 0)
		peer_command(&to, word, line + rest);
}

/* Returns false at the end of input. */
static bool read_commands(void)
{
	static char buf[4096];
	static size_t have;
	ssize_t n = read(0, buf + have, sizeof buf - 1 - have);
	char *end;

	if (n <= 0)
		return false;
	have += (size_t)n;
	buf[have] = 0;
	while ((end = strchr(buf, '\n'))) {
		*end = 0;
		command(buf);
		have -= (size_t)(end + 1 - buf);
		memmove(buf, end + 1, have + 1);
	}
	return have < sizeof buf - 1;
}

static void from_server(struct nb_bytes in)
{
	struct nb_endpoint peer;
	struct nb_bytes data;

	if (turn_client_input(client, in, &peer, &data, os_now()) == 1)
		printf("data %s %.*s\n", endpoint_text(&peer), (int)data.n, (const char *)data.p);
}

static void from_anybody(const struct os_udp_in *in)
{
	count++;
	if (in->n > ECHO_MAX)
		return;
	printf("got %s %.*s\n", endpoint_text(&in->from), (int)in->n, (const char *)in->p);
	transmit(&in->from, in->p, in->n);
}

static void read_socket(void)
{
	static uint8_t room[OS_UDP_BATCH][2048];
	static struct os_udp_in in[OS_UDP_BATCH];
	int n;

	for (int i = 0; i < OS_UDP_BATCH; i++)
		in[i] = (struct os_udp_in){ .p = room[i], .cap = sizeof room[i] };
	n = os_udp_recv(&sock, in, OS_UDP_BATCH);
	for (int i = 0; i < n; i++) {
		if (!client)
			from_anybody(&in[i]);
		else if (nb_endpoint_eq(&in[i].from, &server))
			from_server(nb_bytes(in[i].p, in[i].n));
	}
}

static void report(const struct turn_event *ev)
{
	static const char *const names[] = { "none", "allocated", "failed", "closed", "permitted", "bound",
					     "peer-failed" };
	char addr[NB_ADDR_TEXT];

	printf("%s", names[ev->type]);
	if (ev->type == TURN_EV_ALLOCATED) {
		printf(" %s %s", endpoint_text(&ev->relayed), endpoint_text(&ev->mapped));
	} else if (ev->type == TURN_EV_FAILED) {
		printf(" %u %s", ev->code, nb_strerror(ev->err));
	} else if (ev->type == TURN_EV_PERMITTED) {
		nb_addr_format(addr, &ev->peer.addr);
		printf(" %s", addr);
	} else if (ev->type == TURN_EV_BOUND) {
		printf(" %s 0x%x", endpoint_text(&ev->peer), ev->channel);
	} else if (ev->type == TURN_EV_PEER_FAILED) {
		printf(" %s %u", endpoint_text(&ev->peer), ev->code);
	}
	printf("\n");
}

static void drain(void)
{
	uint8_t mem[TURN_CLIENT_DGRAM_MAX];
	struct nb_dgram out = { .p = mem, .cap = sizeof mem };
	struct turn_event ev;

	while (turn_client_output(client, &out, os_now()))
		transmit(&out.to, out.p, out.n);
	while (turn_client_event(client, &ev))
		report(&ev);
}

static int wait_ms(void)
{
	struct nb_time t = client ? turn_client_deadline(client) : NB_TIME_NEVER;
	int64_t ns;

	if (nb_time_is_never(t))
		return -1;
	ns = nb_time_diff(t, os_now());
	return ns <= 0 ? 0 : (int)((ns + NB_MS - 1) / NB_MS);
}

static bool set_up(int argc, char **argv)
{
	struct turn_client_config cfg = { .random = nbc_random };
	struct nb_endpoint at = { 0 };
	int fd;

	if (argc < 3 || nbc_init() || nb_endpoint_parse(&at, argv[2]))
		return false;
	if (strcmp(argv[1], "peer") == 0) {
		if (os_udp_bind(&fd, &at, NULL) || os_local_endpoint(fd, &at))
			return false;
		os_udp_init(&sock, fd);
		os_udp_buffers(&sock, 4 << 20);
		printf("listening %s\n", endpoint_text(&at));
		return true;
	}
	if (argc < 5)
		return false;
	cfg.server = server = at;
	cfg.username = argv[3];
	cfg.password = argv[4];
	cfg.family = argc > 5 && argv[5][0] == '6' ? 6 : 4;
	at = (struct nb_endpoint){ 0 };
	client = turn_client_new(&cfg, os_now());
	if (!client || os_udp_bind(&fd, &at, NULL))
		return false;
	os_udp_init(&sock, fd);
	return true;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!set_up(argc, argv))
		return 2;
	for (;;) {
		struct pollfd p[2] = { { .fd = 0, .events = POLLIN }, { .fd = sock.fd, .events = POLLIN } };

		if (client)
			drain();
		poll(p, 2, wait_ms());
		if (p[1].revents)
			read_socket();
		if (p[0].revents && !read_commands())
			break;
	}
	turn_client_free(client);
	return 0;
}
