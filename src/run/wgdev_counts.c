/* wgdev_counts.c - the counters of a plain WireGuard interface: the answer to `get=counters`, a request of ours beside those
 * of the standard, and the program that asks (`nestbox wg NAME --counters`).
 * Tests: tests/net/test_wireguard_load.py */
#include "os/socket.h"
#include "run/wgdev.h"
#include "run/wgdev_int.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_MS 5000

void run_wgdev_put_peer_counts(struct nb_buf *out, const struct run_tunnel_msg *m)
{
	const struct wg_peer_stats *s = &m->stats;
	char text[2 * NB_KEY_LEN + 1];

	nb_hex_encode(text, nb_bytes(m->key, NB_KEY_LEN));
	nb_buf_printf(out, "public_key=%s\nrx_bytes=%llu\ntx_bytes=%llu\nrx_packets=%llu\ntx_packets=%llu\nhandshakes=%llu\n", text,
		      (unsigned long long)s->rx_bytes, (unsigned long long)s->tx_bytes, (unsigned long long)s->rx_packets,
		      (unsigned long long)s->tx_packets, (unsigned long long)s->handshakes);
}

void run_wgdev_put_counts(struct nb_buf *out, const struct run_tunnel_counters *counters, unsigned offloads)
{
	char text[RUN_TUNNEL_OFFLOADS_TEXT];
	struct run_tunnel_count c;

	for (size_t i = 0; run_tunnel_count(counters, i, &c); i++)
		if (!c.filter)
			nb_buf_printf(out, "%s=%llu\n", c.name, (unsigned long long)c.value);
	run_tunnel_offloads_text(text, offloads);
	nb_buf_printf(out, "offloads=%s\n", text);
}

/* Read until the empty line. */
static int read_answer(int fd, struct nb_buf *in)
{
	struct pollfd pf = { fd, POLLIN, 0 };
	int err = 0;

	while (!err && (in->n < 2 || memcmp(in->p + in->n - 2, "\n\n", 2))) {
		uint8_t *room = nb_buf_reserve(in, 4096);
		size_t n;

		if (poll(&pf, 1, ANSWER_MS) <= 0)
			return NB_E_TIMEOUT;
		err = room ? os_read(fd, room, 4096, &n) : NB_E_FULL;
		if (!err)
			nb_buf_commit(in, n);
		err = err == NB_E_AGAIN ? 0 : err;
	}
	return err;
}

int run_wgdev_counters(const char *name)
{
	static const char request[] = "get=counters\n\n", good[] = "errno=0\n\n";
	char path[sizeof RUN_WGDEV_SOCKETS + 64];
	struct nb_buf in;
	int fd, err;

	nb_buf_init(&in, 32u << 20);
	snprintf(path, sizeof path, RUN_WGDEV_SOCKETS "/%s.sock", name);
	err = os_unix_connect(&fd, path);
	if (err) {
		fprintf(stderr, "nestbox wg: %s: %s; start `nestbox wg %s` first, and ask as the same user\n", path, os_why(), name);
		return 1;
	}
	err = write(fd, request, sizeof request - 1) == (ssize_t)sizeof request - 1 ? read_answer(fd, &in) : NB_E_SYS;
	if (!err && (in.n < sizeof good || memcmp(in.p + in.n - sizeof good + 1, good, sizeof good - 1)))
		err = NB_E_BAD;
	if (err)
		fprintf(stderr, "nestbox wg: %s: %s; only `nestbox wg` has counters\n", path,
			err == NB_E_BAD ? "another program answers there" : nb_strerror(err));
	else
		fwrite(in.p, 1, in.n - sizeof good + 1, stdout);
	nb_buf_fini(&in);
	os_close(&fd);
	return err ? 1 : 0;
}
