/* cookie.c - mac1, mac2 and cookies (WireGuard paper, 5.3 and 5.4.4 to 5.4.7): who may make us compute.
 * Also the load meter and the per-source rate limit behind it; both are fixed tables, so strangers
 * cannot make them grow. Tests: tests/unit/wg_cookie_test.c */
#include "wg/wg_int.h"

void wg_add_macs(uint8_t *msg, size_t n, struct wg_cookie_jar *jar, const struct wg_remote *r, struct nb_time now)
{
	uint8_t *mac1 = msg + n - 2 * WG_MAC, *mac2 = msg + n - WG_MAC;

	wg_blake2s(mac1, WG_MAC, r->mac1_key, 32, msg, n - 2 * WG_MAC);
	memcpy(jar->last_mac1, mac1, WG_MAC);
	jar->sent = true;
	/* Slightly less than the other side's secret lives, so that it is still good on arrival. */
	if (jar->have && nb_time_diff(now, jar->birth) < WG_COOKIE_LIFE - WG_COOKIE_LATENCY)
		wg_blake2s(mac2, WG_MAC, jar->cookie, WG_MAC, msg, n - WG_MAC);
	else
		memset(mac2, 0, WG_MAC);
}

bool wg_mac1_ok(const struct wg_self *s, const uint8_t *msg, size_t n)
{
	uint8_t want[WG_MAC];

	wg_blake2s(want, WG_MAC, s->mac1_key, 32, msg, n - 2 * WG_MAC);
	return nb_equal_ct(want, msg + n - 2 * WG_MAC, WG_MAC);
}

/* The bytes that stand for a source in a cookie: address and port for datagrams; at most SOURCE_MAX. */
#define SOURCE_MAX (16 + 2 + 1 + 4)
static size_t source_bytes(uint8_t *out, const struct wg_ep *from)
{
	size_t n = 0;

	if (from->kind != WG_EP_STREAM) {
		n = from->remote.addr.family == 4 ? 4 : 16;
		memcpy(out, from->remote.addr.ip, n);
		out[n++] = (uint8_t)from->remote.port;
		out[n++] = (uint8_t)(from->remote.port >> 8);
	}
	if (from->kind != WG_EP_UDP) {
		out[n++] = from->kind;
		nb_put_le32(out + n, from->id);
		n += 4;
	}
	return n;
}

void wg_cookie_of(struct wg_cookie_checker *c, uint8_t cookie[WG_MAC], const struct wg_ep *from, struct nb_time now,
		  nb_random_fn random, void *ctx)
{
	uint8_t src[SOURCE_MAX];

	if (!c->have_secret || nb_time_diff(now, c->secret_birth) >= WG_COOKIE_LIFE) {
		random(ctx, c->secret, sizeof c->secret);
		c->secret_birth = now;
		c->have_secret = true;
	}
	wg_blake2s(cookie, WG_MAC, c->secret, sizeof c->secret, src, source_bytes(src, from));
}

bool wg_mac2_ok(struct wg_cookie_checker *c, const uint8_t *msg, size_t n, const struct wg_ep *from, struct nb_time now,
		nb_random_fn random, void *ctx)
{
	uint8_t cookie[WG_MAC], want[WG_MAC];

	wg_cookie_of(c, cookie, from, now, random, ctx);
	wg_blake2s(want, WG_MAC, cookie, WG_MAC, msg, n - WG_MAC);
	nb_wipe(cookie, sizeof cookie);
	return nb_equal_ct(want, msg + n - WG_MAC, WG_MAC);
}

void wg_create_cookie(uint8_t out[WG_COO_LEN], struct wg_cookie_checker *c, const struct wg_self *s, const uint8_t *msg,
		      size_t n, const struct wg_ep *from, struct nb_time now, nb_random_fn random, void *ctx)
{
	uint8_t cookie[WG_MAC];

	memset(out, 0, WG_COO_RECEIVER);
	out[0] = WG_MSG_COOKIE;
	/* Both handshake messages carry their sender's index at the same place. */
	memcpy(out + WG_COO_RECEIVER, msg + WG_INI_SENDER, 4);
	random(ctx, out + WG_COO_NONCE, 24);
	wg_cookie_of(c, cookie, from, now, random, ctx);
	wg_seal_cookie(out + WG_COO_COOKIE, cookie, out + WG_COO_NONCE, s->cookie_key, msg + n - 2 * WG_MAC);
	nb_wipe(cookie, sizeof cookie);
}

int wg_consume_cookie(struct wg_cookie_jar *jar, const struct wg_remote *r, const uint8_t msg[WG_COO_LEN], struct nb_time now)
{
	uint8_t cookie[WG_MAC];

	if (!jar->sent)
		return NB_E_STATE;
	if (wg_open_cookie(cookie, msg + WG_COO_COOKIE, msg + WG_COO_NONCE, r->cookie_key, jar->last_mac1))
		return NB_E_AUTH;
	memcpy(jar->cookie, cookie, WG_MAC);
	nb_wipe(cookie, sizeof cookie);
	jar->birth = now;
	jar->have = true;
	jar->sent = false;	/* one cookie per message */
	return 0;
}

bool wg_under_load(struct wg_cookie_checker *c, struct nb_time now)
{
	if (nb_time_diff(now, c->window) >= NB_SEC) {
		c->window = now;
		c->seen = 0;
	}
	if (++c->seen > c->burst)
		c->load_until = nb_time_add(now, WG_UNDER_LOAD_STICKY);
	return nb_time_before(now, c->load_until);
}

/* The bucket of a source: its own, or an unused one of the four it may have, or one that was idle for a second
 * (full again, so it may change hands). Failing all, strangers share one until it is idle. */
static struct wg_rate_bucket *bucket_of(struct wg_cookie_checker *c, uint64_t source, struct nb_time now)
{
	struct wg_rate_bucket *set = &c->buckets[(source >> 32) % (WG_RATE_BUCKETS / 4) * 4], *idle = NULL;

	for (int i = 0; i < 4; i++) {
		if (set[i].source == source)
			return &set[i];
		if (!idle && (!set[i].source || nb_time_diff(now, set[i].last) >= NB_SEC))
			idle = &set[i];
	}
	if (!idle)
		return &set[source >> 62];
	idle->source = source;
	idle->fresh = true;
	return idle;
}

bool wg_rate_allow(struct wg_cookie_checker *c, const struct wg_ep *from, struct nb_time now)
{
	const int64_t cost = NB_SEC / WG_RATE_PER_SEC, full = cost * WG_RATE_BURST;
	uint8_t src[SOURCE_MAX + 1] = { from->kind };
	size_t n = 1;

	if (from->kind == WG_EP_UDP) {
		size_t k = from->remote.addr.family == 4 ? 4 : 8;

		memcpy(src + n, from->remote.addr.ip, k);
		n += k;
	} else {
		n += source_bytes(src + n, from);
	}

	struct wg_rate_bucket *b = bucket_of(c, nb_siphash(c->hash_key, nb_bytes(src, n)) | 1, now);

	if (b->fresh) {
		b->fresh = false;
		b->tokens_ns = full;
	} else {
		b->tokens_ns += nb_time_diff(now, b->last);
		if (b->tokens_ns > full)
			b->tokens_ns = full;
	}
	b->last = now;
	if (b->tokens_ns < cost)
		return false;
	b->tokens_ns -= cost;
	return true;
}
