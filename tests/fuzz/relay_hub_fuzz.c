/* relay_hub_fuzz.c - src/relay/hub.c: four connections, three of them authenticated with two ids. Input: records of
 * who (2 bits), what (6 bits) and a length, then that many bytes as a message. Ids are made short so that they meet. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/err.h"
#include "relay/hub.h"

#define CONNS 4

struct peer {
	struct relay_conn *c;
	bool full;
};

static struct peer peers[CONNS];

static int on_send(void *user, struct nb_bytes head, struct nb_bytes body, bool must)
{
	struct peer *p = user;

	if (!p->c || head.n + body.n > RELAYMSG_MAX || (head.n + body.n < 2))
		abort();
	return p->full && !must ? NB_E_FULL : 0;
}

static void on_close(void *user)
{
	struct peer *p = user;

	if (!p->c)
		abort();
	p->c = NULL;
}

static void join(struct relay_hub *hub, unsigned i, struct nb_time now, struct nb_wall wall)
{
	uint8_t key[32], token[RELAYMSG_TOKEN_MAX], id[RELAYMSG_ID_LEN] = "sha-", out[RELAYMSG_AUTH_MAX];
	size_t n;

	if (peers[i].c || relay_hub_add(hub, &peers[i].c, &peers[i], now))
		return;
	id[4] = i & 1;
	relaymsg_key(key, nb_bytes_str("secret"));
	n = relaymsg_token(token, key, 2000000000);
	if (i != 3)
		(void)relay_hub_message(hub, peers[i].c, nb_bytes(out, relaymsg_auth(out, id, nb_bytes(token, n))), now, wall);
}

/* A list or transport message to ids that differ in one byte. */
static size_t make(uint8_t out[400], unsigned what, struct nb_bytes in)
{
	size_t n = RELAYMSG_HEADER;

	relaymsg_header(out, (enum relaymsg_type)(what & 15));
	for (size_t i = 0; i < in.n && i < 10; i++, n += RELAYMSG_ID_LEN) {
		memset(out + n, 0, RELAYMSG_ID_LEN);
		memcpy(out + n, "sha-", 4);
		out[n + 4] = in.p[i] & 3;
	}
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct relay_hub_ops ops = { on_send, on_close };
	struct relay_hub_config cfg = { .url = "rel://x", .max_watched = 5, .max_interests = 12 };
	struct nb_cur cur = nb_cur(nb_bytes(data, size));
	struct nb_time now = { NB_SEC };
	struct nb_wall wall = { NB_SEC };
	struct relay_hub *hub;

	memset(peers, 0, sizeof peers);
	relaymsg_key(cfg.key, nb_bytes_str("secret"));
	hub = relay_hub_new(&cfg, &ops);
	if (!hub)
		return 0;
	while (nb_cur_left(&cur) >= 2) {
		uint8_t what = nb_cur_u8(&cur), room[400];
		size_t left, n = nb_cur_u8(&cur);
		struct peer *p = &peers[what & 3];
		struct nb_bytes in;

		left = nb_cur_left(&cur);
		in = nb_cur_take(&cur, n < left ? n : left);
		what >>= 2;
		join(hub, (unsigned)(p - peers), now, wall);
		p->full = what & 1;
		if (what >= 48) {
			now = nb_time_add(now, (int64_t)in.n * NB_SEC);
			relay_hub_timer(hub, now);
		} else if (what >= 40 && p->c) {
			relay_hub_del(hub, p->c);
			p->c = NULL;
		} else if (what >= 24 && p->c) {
			(void)relay_hub_message(hub, p->c, nb_bytes(room, make(room, what, in)), now, wall);
		} else if (p->c) {
			(void)relay_hub_message(hub, p->c, in, now, wall);
		}
		if (what & 2)
			relay_hub_flush(hub);
	}
	relay_hub_stop(hub);
	for (unsigned i = 0; i < CONNS; i++)
		if (peers[i].c)
			abort();
	relay_hub_free(hub);
	return 0;
}
