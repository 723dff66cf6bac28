/* link.c - see link.h. What is read lies in one buffer for all connections; only the start of an unfinished message is
 * kept with its connection. What is sent gathers in the connection's queue and leaves with one write per turn. */
#include "run/link.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/map.h"
#include "crypto/tls.h"
#include "os/socket.h"
#include "proto/relaymsg.h"
#include "run/link_frame.h"
#include "web/websocket.h"

#define CHUNK 65536			/* read at once */
#define READS 4				/* of one connection in a turn */
#define OPEN 64				/* packets opened together */
#define WRITE_AT 65536			/* queued, before the turn is over */
#define QUEUE_MAX (512 * 1024)		/* then packets are dropped */
#define QUEUE_KEEP (128 * 1024)		/* of memory, while nothing is queued */
#define SAY_MAX (1024 * 1024)		/* of queue for control's own messages */
#define WAITING_MAX (256 * 1024)	/* of messages control has no room for */
#define CHANNELS_MAX 16384
#define MASKS 256			/* random bytes fetched at a time */
#define TURN_HEAD 4

struct link {
	unsigned id;
	enum run_link_kind kind;
	int fd;
	struct nbc_tls *tls;
	bool dead, blocked;
	char why[NBC_TLS_WHY];
	struct nb_map by_key;		/* channels */
	uint8_t part[RUN_FRAME_ROOM];	/* start of an unfinished frame */
	size_t n_part;
	struct nb_buf fragments;	/* of a message in several frames */
	struct nb_buf out;
	size_t sent;			/* of out */
	struct nb_buf waiting;		/* for control: length, bytes */
};

struct channel {
	uint32_t id;
	struct link *link;
	uint8_t key[RUN_LINK_KEY_MAX];
	size_t n_key;
};

struct run_links {
	struct run_links_config cfg;
	struct link *links[RUN_LINKS_MAX];
	struct nb_map by_id;		/* channels */
	uint8_t seed[16];
	struct channel *sent_to, *heard_of;	/* last found, for runs of packets */
	struct wg_pkt batch[OPEN];
	size_t n_batch;
	uint8_t masks[MASKS];
	size_t masks_left;
	uint64_t dropped;
};

/* --- connections and channels --- */

static struct link *find(const struct run_links *l, unsigned id)
{
	for (size_t i = 0; i < RUN_LINKS_MAX; i++)
		if (l->links[i] && l->links[i]->id == id && !l->links[i]->dead)
			return l->links[i];
	return NULL;
}

static size_t key_len(enum run_link_kind kind)
{
	return kind == RUN_LINK_RELAY ? RELAYMSG_ID_LEN : 2;
}

static struct channel *channel_find(struct run_links *l, uint32_t id)
{
	if (!l->sent_to || l->sent_to->id != id)
		l->sent_to = nb_map_get(&l->by_id, nb_bytes(&id, sizeof id));
	return l->sent_to;
}

static struct channel *channel_of(struct run_links *l, struct link *k, const uint8_t *key)
{
	struct channel *c = l->heard_of;

	if (!c || c->link != k || memcmp(c->key, key, c->n_key))
		l->heard_of = nb_map_get(&k->by_key, nb_bytes(key, key_len(k->kind)));
	return l->heard_of;
}

static void channel_free(struct run_links *l, struct channel *c)
{
	nb_map_del(&l->by_id, nb_bytes(&c->id, sizeof c->id));
	nb_map_del(&c->link->by_key, nb_bytes(c->key, c->n_key));
	l->sent_to = l->heard_of = NULL;
	free(c);
}

void run_links_channel_remove(struct run_links *l, uint32_t channel)
{
	struct channel *c = channel_find(l, channel);

	if (c)
		channel_free(l, c);
}

void run_links_channel_add(struct run_links *l, unsigned id, uint32_t channel, struct nb_bytes key)
{
	struct link *k = find(l, id);
	struct channel *c;

	run_links_channel_remove(l, channel);
	if (!k || key.n != key_len(k->kind))
		return;
	c = nb_map_get(&k->by_key, key);
	if (c)
		channel_free(l, c);
	c = calloc(1, sizeof *c);
	if (!c)
		return;
	c->id = channel;
	c->link = k;
	c->n_key = key.n;
	memcpy(c->key, key.p, key.n);
	l->sent_to = l->heard_of = NULL;
	if (nb_map_put(&l->by_id, nb_bytes(&c->id, sizeof c->id), c, NULL)) {
		free(c);
	} else if (nb_map_put(&k->by_key, nb_bytes(c->key, c->n_key), c, NULL)) {
		nb_map_del(&l->by_id, nb_bytes(&c->id, sizeof c->id));
		free(c);
	}
}

/* --- sending --- */

static void fail(struct link *k, const char *why)
{
	if (!k->dead)
		snprintf(k->why, sizeof k->why, "%s", why);
	k->dead = true;
}

static size_t queued(const struct link *k)
{
	return k->out.n - k->sent;
}

static struct nb_bytes unsent(const struct link *k)
{
	return nb_bytes(k->out.p + k->sent, queued(k));
}

static void was_sent(struct link *k, size_t n)
{
	k->sent += n;
	if (k->sent == k->out.n) {
		if (k->out.cap > QUEUE_KEEP)
			nb_buf_fini(&k->out);
		nb_buf_reset(&k->out);
		k->sent = 0;
	} else if (k->sent > WRITE_AT && k->sent > k->out.n / 2) {
		nb_buf_consume(&k->out, k->sent);
		k->sent = 0;
	}
}

/* Bytes the socket took; blocked when it takes no more. */
static size_t put(struct link *k, struct nb_bytes in)
{
	size_t n = 0;
	int r = os_write(k->fd, in.p, in.n, &n);

	if (r && r != NB_E_AGAIN)
		fail(k, os_why());
	k->blocked = n < in.n;
	return r ? 0 : n;
}

static void flush_tls(struct link *k)
{
	size_t n;

	do {
		struct nb_bytes cipher = nbc_tls_pending(k->tls);

		if (cipher.n)
			nbc_tls_pulled(k->tls, put(k, cipher));
		if (k->dead || k->blocked)
			return;
		n = queued(k) ? nbc_tls_write(k->tls, unsent(k)) : 0;
		was_sent(k, n);
	} while (n || nbc_tls_wants_pull(k->tls));
}

static void flush(struct link *k)
{
	if (k->dead)
		return;
	k->blocked = false;
	if (k->tls)
		flush_tls(k);
	else if (queued(k))
		was_sent(k, put(k, unsent(k)));
}

/* Masks must not be foreseeable, but need no system call each. */
static void next_mask(struct run_links *l, uint8_t mask[4])
{
	if (!l->masks_left) {
		l->cfg.random(NULL, l->masks, sizeof l->masks);
		l->masks_left = sizeof l->masks;
	}
	l->masks_left -= 4;
	memcpy(mask, l->masks + l->masks_left, 4);
}

static void put_frame(struct run_links *l, struct link *k, uint8_t opcode, struct nb_bytes head, struct nb_bytes body)
{
	struct web_ws_frame f = { .length = head.n + body.n, .opcode = opcode, .fin = true, .masked = true };
	uint8_t header[WEB_WS_HEADER_MAX], *at;
	size_t n;

	next_mask(l, f.mask);
	n = web_ws_frame_encode(header, &f);
	at = nb_buf_reserve(&k->out, n + head.n + body.n);
	if (!at) {
		k->out.err = 0;
		l->dropped++;
		return;
	}
	memcpy(at, header, n);
	if (head.n)
		memcpy(at + n, head.p, head.n);
	if (body.n)
		memcpy(at + n + head.n, body.p, body.n);
	web_ws_mask(at + n, head.n + body.n, f.mask, 0);
	nb_buf_commit(&k->out, n + head.n + body.n);
}

/* On a stream ChannelData ends at a multiple of four bytes (RFC 8656, 12.5). */
static void put_turn(struct run_links *l, struct link *k, struct nb_bytes head, struct nb_bytes body)
{
	size_t n = head.n + body.n, all = (n + 3) & ~(size_t)3;
	uint8_t *at = nb_buf_reserve(&k->out, all);

	if (!at) {
		k->out.err = 0;
		l->dropped++;
		return;
	}
	if (head.n)
		memcpy(at, head.p, head.n);
	if (body.n)
		memcpy(at + head.n, body.p, body.n);
	memset(at + n, 0, all - n);
	nb_buf_commit(&k->out, all);
}

static void put_message(struct run_links *l, struct link *k, struct nb_bytes head, struct nb_bytes body)
{
	if (k->kind == RUN_LINK_RELAY)
		put_frame(l, k, WEB_WS_BINARY, head, body);
	else
		put_turn(l, k, head, body);
}

void run_links_say(struct run_links *l, unsigned id, struct nb_bytes message)
{
	struct link *k = find(l, id);

	if (k && message.n && message.n <= RUN_FRAME_MAX)
		put_message(l, k, nb_bytes(NULL, 0), message);
}

bool run_links_send(struct run_links *l, uint32_t channel, struct nb_bytes message)
{
	struct channel *c = channel_find(l, channel);
	uint8_t head[RELAYMSG_TRANSPORT_HEADER];
	size_t n = TURN_HEAD;

	if (!c)
		return false;
	if (c->link->dead || queued(c->link) + message.n > QUEUE_MAX || message.n > RUN_FRAME_MAX - sizeof head) {
		l->dropped++;
		return true;
	}
	if (c->link->kind == RUN_LINK_RELAY) {
		relaymsg_transport_header(head, c->key);
		n = sizeof head;
	} else {
		memcpy(head, c->key, 2);
		nb_put_be16(head + 2, (uint16_t)message.n);
	}
	put_message(l, c->link, nb_bytes(head, n), message);
	if (queued(c->link) >= WRITE_AT && !c->link->blocked)
		flush(c->link);
	return true;
}

void run_links_flush(struct run_links *l)
{
	for (size_t i = 0; i < RUN_LINKS_MAX; i++)
		if (l->links[i] && !l->links[i]->blocked)
			flush(l->links[i]);
}

/* --- telling --- */

/* Messages for control that it had no room for wait in order; meanwhile nothing more is read. */
static void tell(struct run_links *l, struct link *k, struct nb_bytes in)
{
	if (!k->waiting.n && l->cfg.message(l->cfg.ctx, k->id, in))
		return;
	if (nb_buf_be32(&k->waiting, (uint32_t)in.n) || nb_buf_bytes(&k->waiting, in))
		fail(k, "more messages than can be handled");
}

static void tell_waiting(struct run_links *l, struct link *k)
{
	while (k->waiting.n) {
		size_t n = nb_get_be32(k->waiting.p);

		if (!l->cfg.message(l->cfg.ctx, k->id, nb_bytes(k->waiting.p + 4, n)))
			return;
		nb_buf_consume(&k->waiting, 4 + n);
	}
	nb_buf_fini(&k->waiting);
}

static void link_free(struct run_links *l, struct link *k)
{
	struct nb_map_iter it = { 0 };

	while (nb_map_next(&k->by_key, &it)) {
		struct channel *c = it.value;

		nb_map_del(&l->by_id, nb_bytes(&c->id, sizeof c->id));
		free(c);
	}
	l->sent_to = l->heard_of = NULL;
	nb_map_fini(&k->by_key);
	for (size_t i = 0; i < RUN_LINKS_MAX; i++)
		if (l->links[i] == k)
			l->links[i] = NULL;
	nbc_tls_free(k->tls);
	os_close(&k->fd);
	nb_buf_fini(&k->fragments);
	nb_buf_fini(&k->out);
	nb_buf_fini(&k->waiting);
	free(k);
}

void run_links_tell(struct run_links *l)
{
	for (size_t i = 0; i < RUN_LINKS_MAX; i++) {
		struct link *k = l->links[i];

		if (!k)
			continue;
		tell_waiting(l, k);
		if (k->dead && !k->waiting.n && l->cfg.lost(l->cfg.ctx, k->id, k->why))
			link_free(l, k);
	}
}

/* --- reading --- */

static void batch_open(struct run_links *l)
{
	if (l->n_batch)
		l->cfg.packets(l->cfg.ctx, l->batch, l->n_batch);
	l->n_batch = 0;
}

static void batch_add(struct run_links *l, const struct channel *c, uint8_t *p, size_t n)
{
	l->batch[l->n_batch++] = (struct wg_pkt){ .buf = p, .cap = n, .p = p, .n = n,
						  .ep = { .kind = WG_EP_STREAM, .id = c->id } };
	if (l->n_batch == OPEN)
		batch_open(l);
}

/* A packet of a known channel? Then it waits in the batch. */
static bool is_packet(struct run_links *l, struct link *k, uint8_t *p, size_t n)
{
	size_t head = k->kind == RUN_LINK_RELAY ? RELAYMSG_TRANSPORT_HEADER : TURN_HEAD;
	const struct channel *c;

	if (n <= head || !wg_looks_like(nb_bytes(p + head, n - head)))
		return false;
	if (k->kind == RUN_LINK_RELAY ? p[0] != RELAYMSG_VERSION || p[1] != RELAYMSG_TRANSPORT : (p[0] & 0xc0) != 0x40)
		return false;
	c = channel_of(l, k, k->kind == RUN_LINK_RELAY ? p + RELAYMSG_HEADER : p);
	if (!c)
		return false;
	batch_add(l, c, p + head, n - head);
	return true;
}

/* Lists may be longer than control has room for, and say the same in pieces. */
static void tell_list(struct run_links *l, struct link *k, uint8_t *p, size_t n)
{
	uint8_t head[RELAYMSG_HEADER] = { p[0], p[1] };
	size_t step = (l->cfg.max_message - sizeof head) / RELAYMSG_ID_LEN * RELAYMSG_ID_LEN;

	for (size_t at = sizeof head; at < n; at += step) {
		size_t len = n - at < step ? n - at : step;

		/* Over the end of what was told already. */
		memcpy(p + at - sizeof head, head, sizeof head);
		tell(l, k, nb_bytes(p + at - sizeof head, sizeof head + len));
	}
}

static void on_message(struct run_links *l, struct link *k, uint8_t *p, size_t n)
{
	if (is_packet(l, k, p, n))
		return;
	if (n <= l->cfg.max_message)
		tell(l, k, nb_bytes(p, n));
	else if (k->kind == RUN_LINK_RELAY && (p[1] == RELAYMSG_ONLINE || p[1] == RELAYMSG_OFFLINE))
		tell_list(l, k, p, n);
	else
		l->dropped++;
}

/* Only a proxy in between would cut messages into pieces. */
static void on_part(struct run_links *l, struct link *k, const struct run_frame *f)
{
	if (f->first != !k->fragments.n || nb_buf_put(&k->fragments, f->p, f->n)) {
		fail(k, "the relay broke the rules of WebSocket");
		return;
	}
	if (!f->last)
		return;
	on_message(l, k, k->fragments.p, k->fragments.n);
	/* The batch may point there. */
	batch_open(l);
	nb_buf_fini(&k->fragments);
}

static void on_frame(struct run_links *l, struct link *k, const struct run_frame *f)
{
	switch (f->kind) {
	case RUN_FRAME_MESSAGE:
		if (k->fragments.n)
			fail(k, "the relay broke the rules of WebSocket");
		else
			on_message(l, k, f->p, f->n);
		break;
	case RUN_FRAME_PART:
		on_part(l, k, f);
		break;
	case RUN_FRAME_PING:
		if (queued(k) <= QUEUE_MAX)
			put_frame(l, k, WEB_WS_PONG, nb_bytes(f->p, f->n), nb_bytes(NULL, 0));
		break;
	case RUN_FRAME_PONG:
		break;
	case RUN_FRAME_CLOSE:
		put_frame(l, k, WEB_WS_CLOSE, nb_bytes(f->p, f->n < 2 ? 0 : 2), nb_bytes(NULL, 0));
		flush(k);
		fail(k, "");
		break;
	}
}

/* Take the frames at p[n]. Returns the bytes used. */
static size_t take(struct run_links *l, struct link *k, uint8_t *p, size_t n)
{
	struct run_frame f;
	size_t used = 0;

	while (used < n && !k->dead) {
		int r = k->kind == RUN_LINK_RELAY ? run_frame_relay(&f, p + used, n - used) : run_frame_turn(&f, p + used, n - used);

		if (r < 0)
			fail(k, k->kind == RUN_LINK_RELAY ? "the relay broke the rules of WebSocket" :
			     "the TURN server sent what is no STUN message");
		if (r <= 0)
			break;
		used += (size_t)r;
		on_frame(l, k, &f);
	}
	return used;
}

/* Decipher in[n] to out. Returns the bytes there; all of in is used, or the connection is dead. */
static size_t decipher(struct link *k, const uint8_t *in, size_t n, uint8_t *out, size_t cap)
{
	size_t used = 0, got = 0, fed, had;

	do {
		fed = nbc_tls_feed(k->tls, nb_bytes(in + used, n - used));
		had = nbc_tls_read(k->tls, out + got, cap - got);
		used += fed;
		got += had;
	} while (fed || had);
	if (nbc_tls_error(k->tls)) {
		char why[NBC_TLS_WHY];

		nbc_tls_why(k->tls, why);
		fail(k, why);
	} else if (nbc_tls_closed(k->tls) || used < n) {
		fail(k, "the other side closed the connection");
	}
	return got;
}

/* One read into the shared room, behind what was left of the last. Returns false when there is no more. */
static bool read_once(struct run_links *l, struct link *k)
{
	uint8_t *at = l->cfg.room, *cipher = l->cfg.room + RUN_LINKS_ROOM - CHUNK;
	size_t n = 0, used;
	bool full;
	int r;

	memcpy(at, k->part, k->n_part);
	r = os_read(k->fd, k->tls ? cipher : at + k->n_part, CHUNK, &n);
	if (r == NB_E_AGAIN)
		return false;
	if (r) {
		fail(k, r == NB_E_CLOSED ? "the other side closed the connection" : os_why());
		return false;
	}
	full = n == CHUNK;
	if (k->tls)
		n = decipher(k, cipher, n, at + k->n_part, (size_t)(cipher - at) - k->n_part);
	n += k->n_part;
	used = take(l, k, at, n);
	batch_open(l);
	if (n - used > sizeof k->part) {
		fail(k, "a message without end");
		return false;
	}
	k->n_part = n - used;
	memcpy(k->part, at + used, k->n_part);
	return full && !k->dead;
}

static void read_link(struct run_links *l, struct link *k)
{
	for (int i = 0; i < READS && !k->waiting.n; i++)
		if (!read_once(l, k))
			break;
}

size_t run_links_poll(const struct run_links *l, struct pollfd *fds)
{
	size_t n = 0;

	for (size_t i = 0; i < RUN_LINKS_MAX; i++) {
		const struct link *k = l->links[i];

		if (k && !k->dead)
			fds[n++] = (struct pollfd){ k->fd, (short)((k->waiting.n ? 0 : POLLIN) | (k->blocked ? POLLOUT : 0)), 0 };
	}
	return n;
}

/* Connections may have come and gone since the descriptors were listed. */
static struct link *by_fd(const struct run_links *l, int fd)
{
	for (size_t i = 0; i < RUN_LINKS_MAX; i++)
		if (l->links[i] && !l->links[i]->dead && l->links[i]->fd == fd)
			return l->links[i];
	return NULL;
}

void run_links_read(struct run_links *l, const struct pollfd *fds, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct link *k = fds[i].revents ? by_fd(l, fds[i].fd) : NULL;

		if (k && (fds[i].revents & POLLOUT))
			flush(k);
		if (k && !k->dead && (fds[i].revents & (POLLIN | POLLHUP | POLLERR)))
			read_link(l, k);
	}
}

/* --- life --- */

void run_links_add(struct run_links *l, unsigned id, enum run_link_kind kind, int fd, struct nbc_tls *tls)
{
	struct link *k = NULL;
	size_t i = 0;

	while (i < RUN_LINKS_MAX && l->links[i])
		i++;
	if (i < RUN_LINKS_MAX)
		k = calloc(1, sizeof *k);
	if (!k) {
		/* Control notices: it has a time limit for the first answer. */
		nbc_tls_free(tls);
		os_close(&fd);
		return;
	}
	k->id = id;
	k->kind = kind;
	k->fd = fd;
	k->tls = tls;
	nb_map_init(&k->by_key, l->seed, CHANNELS_MAX);
	nb_buf_init(&k->fragments, RUN_FRAME_MAX);
	nb_buf_init(&k->out, QUEUE_MAX + SAY_MAX);
	nb_buf_init(&k->waiting, WAITING_MAX);
	l->links[i] = k;
}

void run_links_drop(struct run_links *l, unsigned id)
{
	struct link *k = find(l, id);

	if (!k)
		return;
	if (k->tls && !k->blocked) {
		flush(k);
		nbc_tls_close(k->tls);
	}
	flush(k);
	link_free(l, k);
}

struct run_links *run_links_new(const struct run_links_config *cfg)
{
	struct run_links *l = calloc(1, sizeof *l);

	if (!l)
		return NULL;
	l->cfg = *cfg;
	cfg->random(NULL, l->seed, sizeof l->seed);
	nb_map_init(&l->by_id, l->seed, CHANNELS_MAX);
	return l;
}

void run_links_free(struct run_links *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < RUN_LINKS_MAX; i++)
		if (l->links[i])
			link_free(l, l->links[i]);
	nb_map_fini(&l->by_id);
	nb_wipe(l->masks, sizeof l->masks);
	free(l);
}

uint64_t run_links_dropped(const struct run_links *l)
{
	return l->dropped;
}
