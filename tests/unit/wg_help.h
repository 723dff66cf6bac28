/* wg_help.h - what the WireGuard tests share: repeatable randomness, vectors, two devices joined in memory. */
#ifndef NB_TESTS_WG_HELP_H
#define NB_TESTS_WG_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "wg/wg_int.h"

static inline void help_random(void *ctx, void *out, size_t n)
{
	uint64_t *s = ctx;
	uint8_t *p = out;

	while (n--) {
		*s = *s * 6364136223846793005ULL + 1442695040888963407ULL;
		*p++ = (uint8_t)(*s >> 56);
	}
}

static inline json_t *help_json(const char *path)
{
	json_error_t e;
	json_t *j = json_load_file(path, 0, &e);

	if (!j)
		fail_msg("%s: %s", path, e.text);
	return j;
}

static inline const char *help_str(const json_t *j, const char *name)
{
	const char *s = json_string_value(json_object_get(j, name));

	if (!s)
		fail_msg("no %s in the vector", name);
	return s;
}

/* Hex into out; returns the length. */
static inline size_t help_hex(uint8_t *out, size_t cap, const char *hex)
{
	size_t n = strlen(hex) / 2;

	assert_true(n <= cap);
	assert_int_equal(nb_hex_decode(out, n, nb_bytes_str(hex)), 0);
	return n;
}

static inline void help_field(uint8_t *out, size_t n, const json_t *j, const char *name)
{
	assert_int_equal(help_hex(out, n, help_str(j, name)), n);
}

/* A device at an address, with its clock. */
struct help_dev {
	struct wg_dev *d;
	struct wg_peer *peer;	/* the other side */
	uint64_t seed;
	uint8_t priv[32], pub[32];
	struct wg_ep at;	/* where the other side reaches it */
	uint8_t inner[4];
};

#define HELP_START ((struct nb_time){ 1000 * NB_SEC })
#define HELP_WALL ((struct nb_wall){ 1790000000 * NB_SEC })

static inline struct wg_ep help_ep(const char *text)
{
	struct wg_ep ep = { .kind = WG_EP_UDP };

	assert_int_equal(nb_endpoint_parse(&ep.remote, text), 0);
	return ep;
}

static inline void help_dev_init(struct help_dev *h, uint64_t seed, const char *at, uint8_t last, unsigned burst)
{
	struct wg_config cfg = { .random = help_random, .random_ctx = &h->seed, .handshake_burst = burst };

	memset(h, 0, sizeof *h);
	h->seed = seed;
	help_random(&h->seed, h->priv, 32);
	wg_dh_clamp(h->priv);
	wg_dh_public(h->pub, h->priv);
	memcpy(cfg.private_key, h->priv, 32);
	h->at = help_ep(at);
	memcpy(h->inner, (uint8_t[]){ 10, 9, 0, last }, 4);
	assert_int_equal(wg_new(&h->d, &cfg, HELP_START, HELP_WALL), 0);
}

/* Make b a peer of a. */
static inline void help_know(struct help_dev *a, const struct help_dev *b, bool endpoint)
{
	struct nb_prefix p = { .addr = { .family = 4 }, .len = 32 };

	memcpy(p.addr.ip, b->inner, 4);
	assert_int_equal(wg_peer_add(a->d, b->pub, &a->peer), 0);
	assert_int_equal(wg_peer_allow(a->d, a->peer, &p), 0);
	if (endpoint)
		wg_peer_set_endpoint(a->d, a->peer, &b->at, HELP_START);
}

static inline void help_pair(struct help_dev *a, struct help_dev *b)
{
	help_dev_init(a, 1, "192.0.2.1:1000", 1, 0);
	help_dev_init(b, 2, "192.0.2.2:2000", 2, 0);
	help_know(a, b, true);
	help_know(b, a, true);
}

static inline void help_unpair(struct help_dev *a, struct help_dev *b)
{
	wg_free(a->d);
	wg_free(b->d);
}

struct help_packet {
	uint8_t buf[2048];
	struct wg_pkt k;
};

/* An inner packet of n bytes from one device to the other, marked with tag. */
static inline void help_inner(struct help_packet *h, const struct help_dev *from, const struct help_dev *to, size_t n, uint32_t tag)
{
	memset(h, 0, sizeof *h);
	h->k.buf = h->buf;
	h->k.cap = sizeof h->buf;
	h->k.p = h->buf + WG_HEADROOM;
	h->k.n = n;
	h->k.p[0] = 0x45;
	nb_put_be16(h->k.p + 2, (uint16_t)n);
	memcpy(h->k.p + 12, from->inner, 4);
	memcpy(h->k.p + 16, to->inner, 4);
	if (n >= 24)
		nb_put_be32(h->k.p + 20, tag);
}

/* The next message from h, or false. */
static inline bool help_output(struct help_dev *h, struct help_packet *out, struct nb_time now)
{
	out->k = (struct wg_pkt){ .buf = out->buf, .cap = sizeof out->buf };
	return wg_output(h->d, &out->k, now) == 1;
}

/* Carry one message from `from` to `to`. Returns the verdict. */
static inline int help_deliver(const struct help_dev *from, struct help_dev *to, struct help_packet *m, struct nb_time now)
{
	m->k.ep = from->at;
	m->k.admitted = false;
	wg_input(to->d, &m->k, 1, now);
	return m->k.verdict;
}

/* Carry everything both ways until it is quiet; returns how many inner packets came out. */
static inline unsigned help_pump(struct help_dev *a, struct help_dev *b, struct nb_time now)
{
	struct help_packet m;
	unsigned inner = 0;
	bool more = true;

	while (more) {
		more = false;
		while (help_output(a, &m, now)) {
			more = true;
			inner += help_deliver(a, b, &m, now) == WG_INNER;
		}
		while (help_output(b, &m, now)) {
			more = true;
			inner += help_deliver(b, a, &m, now) == WG_INNER;
		}
	}
	return inner;
}

/* Send one inner packet and carry what follows. True if it (or one that waited) came out. */
static inline bool help_exchange(struct help_dev *from, struct help_dev *to, struct nb_time now)
{
	struct help_packet m;
	bool got = false;

	help_inner(&m, from, to, 100, 7);
	wg_send(from->d, &m.k, 1, now);
	if (m.k.verdict == WG_WIRE)
		got = help_deliver(from, to, &m, now) == WG_INNER;
	return help_pump(from, to, now) > 0 || got;
}

/* Take all events of one kind; returns how many. */
static inline unsigned help_events(struct help_dev *h, enum wg_event_kind kind)
{
	struct wg_event ev;
	unsigned n = 0;

	while (wg_event(h->d, &ev))
		n += ev.kind == kind;
	return n;
}

#endif
