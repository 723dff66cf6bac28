/* relay_client_fuzz.c - src/client/relay_client.c: whatever relays say, in whatever order connections open and break,
 * channels are reported once, ids stay true, and nothing loops. Input: records of what (one byte), a length and bytes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/err.h"
#include "client/relay_client.h"

#define CHANNELS 4
#define CONNS 64

struct peer {
	uint32_t channel;
	bool up;
};

static struct peer peers[CHANNELS];
static unsigned conns[CONNS], n_conns;
static struct client_relays *r;
static struct nb_time now;
static bool freeing;
static int known;
static const char *const keys[CHANNELS] = { "a", "b", "c", "d" };
static const char *const urls[3] = { "rel://a", "rel://b", "rels://c:1" };

static void random_bytes(void *ctx, void *out, size_t n)
{
	(void)ctx;
	memset(out, 3, n);
}

static void on_dial(void *arg, unsigned id, const struct relaymsg_url *url, const struct nb_addr *ip)
{
	(void)arg, (void)url, (void)ip;
	if (n_conns < CONNS)
		conns[n_conns++] = id;
}

static void on_send(void *arg, unsigned id, struct nb_bytes head, struct nb_bytes body)
{
	(void)arg, (void)id;
	if (head.n + body.n < 2 || head.n + body.n > RELAYMSG_MAX || head.p[0] != 1)
		abort();
}

/* Known channels are forgotten once, and no other. */
static void on_channel(void *arg, unsigned id, uint32_t channel, const uint8_t *peer, bool on)
{
	(void)arg, (void)id, (void)peer;
	if (!channel || channel >> 31)
		abort();
	known += on ? 1 : -1;
	if (known < 0 || known > CHANNELS)
		abort();
}

static void on_hang_up(void *arg, unsigned id)
{
	(void)arg, (void)id;
}

static void on_home(void *arg, bool moved)
{
	struct nb_addr ip;

	(void)arg;
	if (moved && !client_relays_home(r, &ip))
		abort();
	if (freeing)
		abort();
	(void)client_relays_home(r, &ip);
}

static void on_up(void *arg, void *user, uint32_t channel)
{
	struct peer *p = user;

	(void)arg;
	if (p->channel != channel || p->up)
		abort();
	p->up = true;
	/* A peer that makes up its mind in the middle of it. */
	if (p == &peers[3]) {
		client_relays_close(r, channel);
		memset(p, 0, sizeof *p);
	}
}

static void on_gone(void *arg, void *user, uint32_t channel, const char *why)
{
	struct peer *p = user;

	(void)arg, (void)why;
	if (freeing || p->channel != channel)
		abort();
	memset(p, 0, sizeof *p);
	if (p == &peers[2])
		p->channel = client_relays_open(r, keys[2], urls[1], NULL, p, now);
}

static void on_data(void *arg, void *user, uint32_t channel, struct nb_bytes payload)
{
	struct peer *p = user;

	(void)arg, (void)payload;
	if (p->channel != channel || !p->up)
		abort();
}

static void open_or_close(unsigned i, unsigned url)
{
	struct peer *p = &peers[i];

	if (p->channel) {
		client_relays_close(r, p->channel);
		memset(p, 0, sizeof *p);
	} else {
		p->channel = client_relays_open(r, keys[i], urls[url % 3], NULL, p, now);
	}
}

/* A list or transport message about one of our peers. */
static void say(unsigned id, unsigned type, unsigned who)
{
	uint8_t m[100] = { 0 };

	relaymsg_header(m, (enum relaymsg_type)type);
	relaymsg_peer_id(m + 2, keys[who % CHANNELS]);
	client_relays_message(r, id, nb_bytes(m, type == RELAYMSG_TRANSPORT ? 60 : 38), now);
}

static void step(unsigned what, struct nb_bytes in)
{
	unsigned id = n_conns ? conns[in.n ? in.p[0] % n_conns : n_conns - 1] : 0, arg = in.n > 1 ? in.p[1] : 0;

	switch (what % 11) {
	case 0:
		client_relays_update(r, urls, arg % 4, nb_bytes("token", 5), now);
		break;
	case 1:
		client_relays_opened(r, id, NULL, (int64_t)arg * NB_MS, now);
		break;
	case 2: {
		uint8_t m[20] = { 1, RELAYMSG_AUTH_RESPONSE };

		memcpy(m + 2, urls[arg % 3], strlen(urls[arg % 3]));
		client_relays_message(r, id, nb_bytes(m, 2 + strlen(urls[arg % 3])), now);
		break;
	}
	case 3:
		client_relays_lost(r, id, "", now);
		break;
	case 4:
	case 5:
		open_or_close(arg % CHANNELS, arg / CHANNELS);
		break;
	case 6:
		say(id, RELAYMSG_ONLINE, arg);
		break;
	case 7:
		say(id, RELAYMSG_OFFLINE, arg);
		break;
	case 8:
		say(id, RELAYMSG_TRANSPORT, arg);
		break;
	case 9:
		now = nb_time_add_ms(now, arg * 100);
		client_relays_timer(r, now);
		break;
	default:
		client_relays_message(r, id, in.n ? nb_bytes(in.p + 1, in.n - 1) : in, now);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct client_relays_ops ops = { on_dial, on_send, on_hang_up, on_home, on_up, on_gone, on_channel, on_data };
	struct client_relays_config cfg = { .ops = &ops, .self_key = "self", .random = random_bytes };
	struct nb_cur cur = nb_cur(nb_bytes(data, size));

	memset(peers, 0, sizeof peers);
	n_conns = 0;
	now.ns = NB_SEC;
	freeing = false;
	known = 0;
	r = client_relays_new(&cfg);
	if (!r)
		return 0;
	while (nb_cur_left(&cur) >= 2) {
		unsigned what = nb_cur_u8(&cur);
		size_t n = nb_cur_u8(&cur) % 64, left = nb_cur_left(&cur);

		step(what, nb_cur_take(&cur, n < left ? n : left));
		/* No timer that is due may be left behind. */
		client_relays_timer(r, now);
		if (nb_time_before(client_relays_deadline(r), now))
			abort();
	}
	for (int i = 0; i < 50 && !nb_time_is_never(client_relays_deadline(r)); i++) {
		now = nb_time_due(client_relays_deadline(r), now) ? nb_time_add_ms(now, 1) : client_relays_deadline(r);
		client_relays_timer(r, now);
	}
	freeing = true;
	client_relays_free(r);
	return 0;
}
