/* relay_hub_test.c - the relay's hub: recorded sessions of stock clients and of hand-made ones are played in and must
 * give what stock's relay answered, byte for byte; refusals; displacement; subscriptions; slow readers; limits. */
#include "relay/hub.h"

#include <jansson.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"

#define URL "rel://203.0.113.10:8080"
#define SECRET "vector-relay-secret"
#define PEERS 8

/* One connection as the driver sees it. */
struct peer {
	struct relay_conn *c;
	struct nb_buf got;	/* messages, each behind a 16-bit length */
	unsigned n;
	bool full, closed;
	const char *name;	/* of its recording */
	json_t *recording, *frames;
	size_t at;		/* next recorded answer */
};

static struct relay_hub *hub;
static struct peer peers[PEERS];
static struct nb_time now;
static struct nb_wall wall;
static bool replaying;
static unsigned health;

static void compare(struct peer *p, struct nb_bytes m)
{
	char *hex = malloc(m.n * 2 + 1);
	json_t *f;

	nb_hex_encode(hex, m);
	if (m.n == 2 && m.p[1] == RELAYMSG_HEALTH) {
		health++;	/* the recorder's clock is not ours */
		free(hex);
		return;
	}
	for (;; p->at++) {
		f = json_array_get(p->frames, p->at);
		if (!f)
			fail_msg("%s: more than recorded: %.80s", p->name, hex);
		if (!strcmp(json_string_value(json_object_get(f, "dir")), "s2c") &&
		    json_integer_value(json_object_get(f, "opcode")) == 2 &&
		    strcmp(json_string_value(json_object_get(f, "hex")), "0105"))
			break;
	}
	assert_string_equal(hex, json_string_value(json_object_get(f, "hex")));
	p->at++;
	free(hex);
}

static int on_send(void *user, struct nb_bytes head, struct nb_bytes body, bool must)
{
	struct peer *p = user;
	size_t at = p->got.n + 2;

	assert_false(p->closed);
	if (p->full && !must)
		return NB_E_FULL;
	nb_buf_be16(&p->got, (uint16_t)(head.n + body.n));
	nb_buf_bytes(&p->got, head);
	nb_buf_bytes(&p->got, body);
	p->n++;
	if (replaying)
		compare(p, nb_bytes(p->got.p + at, p->got.n - at));
	return 0;
}

static void on_close(void *user)
{
	struct peer *p = user;

	p->closed = true;
	p->c = NULL;
}

static const struct relay_hub_ops ops = { on_send, on_close };

static void begin(const struct relay_hub_config *more)
{
	struct relay_hub_config cfg = { 0 };

	if (more)
		cfg = *more;
	snprintf(cfg.url, sizeof cfg.url, URL);
	relaymsg_key(cfg.key, nb_bytes_str(SECRET));
	hub = relay_hub_new(&cfg, &ops);
	assert_non_null(hub);
	now.ns = 1000 * NB_SEC;
	wall.ns = 1795410756 * NB_SEC;
	memset(peers, 0, sizeof peers);
	for (unsigned i = 0; i < PEERS; i++)
		nb_buf_init(&peers[i].got, 1 << 20);
	replaying = false;
	health = 0;
}

static void end(void)
{
	for (unsigned i = 0; i < PEERS; i++) {
		if (peers[i].c)
			relay_hub_del(hub, peers[i].c);
		nb_buf_fini(&peers[i].got);
		json_decref(peers[i].recording);
	}
	relay_hub_free(hub);
}

static int say(struct peer *p, struct nb_bytes in)
{
	int r = relay_hub_message(hub, p->c, in, now, wall);

	relay_hub_flush(hub);
	return r;
}

static int say_hex(struct peer *p, const char *hex)
{
	size_t n = strlen(hex) / 2;
	uint8_t *b = malloc(n + 1);
	int r;

	assert_int_equal(nb_hex_decode(b, n, nb_bytes_str(hex)), 0);
	r = say(p, nb_bytes(b, n));
	free(b);
	return r;
}

static void run_to(struct nb_time t)
{
	while (nb_time_before(relay_hub_deadline(hub), t)) {
		now = relay_hub_deadline(hub);
		relay_hub_timer(hub, now);
	}
	now = t;
}

/* --- recordings --- */

static json_t *load(const char *name)
{
	char path[200];
	json_t *j;

	snprintf(path, sizeof path, "tests/vectors/relay/%s.json", name);
	j = json_load_file(path, 0, NULL);
	assert_non_null(j);
	return j;
}

/* All sessions at once, in the order of their recorded times. last: who may go only at the very end. */
static void replay(const char *const *names, unsigned n, double drop_last_at)
{
	size_t next[PEERS] = { 0 };
	struct nb_time start;

	begin(NULL);
	replaying = true;
	start = now;
	for (unsigned i = 0; i < n; i++) {
		peers[i].recording = load(names[i]);
		peers[i].frames = json_object_get(peers[i].recording, "frames");
		peers[i].name = names[i];
	}
	for (;;) {
		json_t *f, *best = NULL;
		double t, t_best = 1e9;
		unsigned who = 0;

		for (unsigned i = 0; i < n; i++) {
			while ((f = json_array_get(peers[i].frames, next[i])) != NULL &&
			       (strcmp(json_string_value(json_object_get(f, "dir")), "c2s") ||
				json_integer_value(json_object_get(f, "opcode")) != 2))
				next[i]++;
			t = f ? json_number_value(json_object_get(f, "t_s")) : 1e9;
			if (f && t < t_best) {
				t_best = t;
				best = f;
				who = i;
			}
		}
		if (!best)
			break;
		next[who]++;
		run_to(nb_time_add(start, (int64_t)(t_best * 1e9)));
		/* Who only drops its connection leaves no frame of that. */
		if (drop_last_at > 0 && t_best > drop_last_at && peers[n - 1].c) {
			relay_hub_del(hub, peers[n - 1].c);
			relay_hub_flush(hub);
			peers[n - 1].c = NULL;
		}
		if (!peers[who].c && !peers[who].closed)
			assert_int_equal(relay_hub_add(hub, &peers[who].c, &peers[who], now), 0);
		say_hex(&peers[who], json_string_value(json_object_get(best, "hex")));
	}
	for (unsigned i = 0; i < n; i++) {
		json_t *f;

		for (; (f = json_array_get(peers[i].frames, peers[i].at)) != NULL; peers[i].at++)
			if (!strcmp(json_string_value(json_object_get(f, "dir")), "s2c") &&
			    json_integer_value(json_object_get(f, "opcode")) == 2 &&
			    strcmp(json_string_value(json_object_get(f, "hex")), "0105"))
				fail_msg("%s: recorded but not said: frame %zu", names[i], peers[i].at);
	}
}

static void unload(const char *const *names, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		json_t *j = load(names[i]);
		bool relay_closed = !strcmp(json_string_value(json_object_get(j, "first_to_close")), "relay");

		assert_int_equal(peers[i].closed, relay_closed);
		json_decref(j);
	}
	end();
}

static void test_replay_peers(void **state)
{
	static const char *const names[] = { "peer-a", "peer-b", "peer-b-again", "peer-b-third" };

	(void)state;
	replay(names, 4, 4.0);
	assert_int_equal(health, 1);
	unload(names, 4);
}

static void test_replay_clients(void **state)
{
	static const char *const names[] = { "client-a", "client-b", "client-b-relay-only" };

	(void)state;
	replay(names, 3, 0);
	/* both echoed every probe of 125 s; both said Close in the end */
	assert_int_equal(health, 10);
	assert_true(peers[0].closed && peers[1].closed && !peers[2].closed);
	end();
}

static void test_refused(void **state)
{
	json_t *j = load("refused"), *c;
	struct relay_hub_stats s;
	unsigned n = 0;
	size_t i;

	(void)state;
	begin(NULL);
	json_array_foreach(json_object_get(j, "cases"), i, c) {
		const json_t *f = json_array_get(json_object_get(c, "frames"), 0);

		if (json_integer_value(json_object_get(f, "opcode")) != 2)
			continue;	/* text: the driver's to refuse */
		peers[0].closed = false;
		assert_int_equal(relay_hub_add(hub, &peers[0].c, &peers[0], now), 0);
		assert_int_equal(say_hex(&peers[0], json_string_value(json_object_get(f, "hex"))), NB_E_CLOSED);
		assert_true(peers[0].closed);
		n++;
	}
	assert_int_equal(peers[0].n, 0);
	assert_int_equal(n, 9);
	relay_hub_stats(hub, &s, now);
	assert_int_equal(s.refused, 9);
	assert_int_equal(s.conns, 0);
	json_decref(j);
	end();
}

static void test_shutdown(void **state)
{
	json_t *j = load("server-shutdown");

	(void)state;
	begin(NULL);
	peers[0].frames = json_object_get(j, "frames");
	replaying = true;
	wall.ns = 1795414850 * NB_SEC;
	assert_int_equal(relay_hub_add(hub, &peers[0].c, &peers[0], now), 0);
	assert_int_equal(relay_hub_add(hub, &peers[1].c, &peers[1], now), 0);
	say_hex(&peers[0], json_string_value(json_object_get(json_array_get(peers[0].frames, 0), "hex")));
	relay_hub_stop(hub);
	assert_true(peers[0].closed && peers[1].closed);
	assert_int_equal(peers[0].n, 2);
	assert_int_equal(peers[1].n, 0);
	json_decref(j);
	end();
}

/* --- by hand --- */

static void id_of(uint8_t id[RELAYMSG_ID_LEN], char who)
{
	memcpy(id, "sha-", 4);
	memset(id + 4, who, 32);
}

static int join(unsigned i, char who)
{
	uint8_t key[32], token[RELAYMSG_TOKEN_MAX], id[RELAYMSG_ID_LEN], out[RELAYMSG_AUTH_MAX];
	int r = relay_hub_add(hub, &peers[i].c, &peers[i], now);

	if (r)
		return r;
	peers[i].closed = false;
	relaymsg_key(key, nb_bytes_str(SECRET));
	id_of(id, who);
	return say(&peers[i], nb_bytes(out, relaymsg_auth(out, id, nb_bytes(token, relaymsg_token(token, key, wall.ns / NB_SEC)))));
}

static int list(unsigned i, enum relaymsg_type type, const char *who)
{
	uint8_t m[RELAYMSG_MAX];
	size_t n = RELAYMSG_HEADER;

	relaymsg_header(m, type);
	for (; *who; who++, n += RELAYMSG_ID_LEN)
		id_of(m + n, *who);
	return say(&peers[i], nb_bytes(m, n));
}

static int transport(unsigned i, char to, const char *payload)
{
	uint8_t m[100], id[RELAYMSG_ID_LEN];
	size_t n = strlen(payload);

	id_of(id, to);
	relaymsg_transport_header(m, id);
	memcpy(m + RELAYMSG_TRANSPORT_HEADER, payload, n);
	return say(&peers[i], nb_bytes(m, RELAYMSG_TRANSPORT_HEADER + n));
}

/* All that peer i got since the last call, as text: "7" AuthResponse, "+ab" online, "-a" offline, "5", "4", "3a:payload". */
static const char *heard(unsigned i)
{
	static char text[2000];
	struct peer *p = &peers[i];
	size_t at = 0, n = 0;

	text[0] = 0;
	while (at < p->got.n) {
		size_t len = nb_get_be16(p->got.p + at);
		struct relaymsg m;

		assert_int_equal(relaymsg_decode(&m, nb_bytes(p->got.p + at + 2, len)), 0);
		if (m.n_ids || m.type == RELAYMSG_ONLINE) {
			n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", n ? " " : "", m.type == RELAYMSG_ONLINE ? "+" : "-");
			for (size_t k = 0; k < m.n_ids; k++)
				n += (size_t)snprintf(text + n, sizeof text - n, "%c", m.body.p[k * RELAYMSG_ID_LEN + 4]);
		} else if (m.type == RELAYMSG_TRANSPORT) {
			n += (size_t)snprintf(text + n, sizeof text - n, "%s3%c:%.*s", n ? " " : "", m.id[4], (int)m.body.n,
					      (const char *)m.body.p);
		} else {
			n += (size_t)snprintf(text + n, sizeof text - n, "%s%d", n ? " " : "", m.type);
		}
		at += 2 + len;
	}
	nb_buf_reset(&p->got);
	return text;
}

static void test_transport(void **state)
{
	(void)state;
	begin(NULL);
	join(0, 'a');
	join(1, 'b');
	assert_string_equal(heard(0), "7");
	transport(0, 'b', "hello");
	transport(0, 'x', "nobody");
	transport(1, 'a', "");
	assert_string_equal(heard(1), "7 3a:hello");
	assert_string_equal(heard(0), "3b:");
	end();
}

static void test_slow_reader(void **state)
{
	struct relay_hub_stats s;

	(void)state;
	begin(NULL);
	join(0, 'a');
	join(1, 'b');
	join(2, 'c');
	heard(2);
	peers[1].full = true;
	for (int i = 0; i < 100; i++)
		assert_int_equal(transport(0, 'b', "lost"), 0);
	transport(0, 'c', "kept");
	assert_string_equal(heard(2), "3a:kept");
	relay_hub_stats(hub, &s, now);
	assert_int_equal(s.dropped_full, 100);
	assert_int_equal(s.active, 1);
	/* what must arrive is handed over all the same */
	list(1, RELAYMSG_SUBSCRIBE, "a");
	assert_string_equal(heard(1), "7 +a");
	end();
}

static void test_subscriptions(void **state)
{
	(void)state;
	begin(NULL);
	join(0, 'a');
	join(1, 'b');
	list(0, RELAYMSG_SUBSCRIBE, "abc");
	assert_string_equal(heard(0), "7 +ab");
	/* once more for those the snapshot named: stock does not count an answer as the event */
	relay_hub_del(hub, peers[1].c);
	peers[1].c = NULL;
	relay_hub_flush(hub);
	assert_string_equal(heard(0), "-b");
	join(1, 'b');
	assert_string_equal(heard(0), "+b");
	join(2, 'c');
	assert_string_equal(heard(0), "+c");
	/* online is told once, offline always */
	for (int i = 0; i < 2; i++) {
		relay_hub_del(hub, peers[2].c);
		peers[2].c = NULL;
		relay_hub_flush(hub);
		assert_string_equal(heard(0), "-c");
		join(2, 'c');
		assert_string_equal(heard(0), "");
	}
	list(0, RELAYMSG_UNSUBSCRIBE, "cz");
	relay_hub_del(hub, peers[2].c);
	peers[2].c = NULL;
	relay_hub_flush(hub);
	assert_string_equal(heard(0), "");
	end();
}

/* Off and on in one round arrive in that order; many of a kind in one message. */
static void test_batches(void **state)
{
	(void)state;
	begin(NULL);
	join(0, 'a');
	list(0, RELAYMSG_SUBSCRIBE, "bcd");
	join(1, 'b');
	join(2, 'c');
	assert_string_equal(heard(0), "7 +b +c");
	list(0, RELAYMSG_SUBSCRIBE, "bc");
	heard(0);
	relay_hub_del(hub, peers[1].c);
	relay_hub_del(hub, peers[2].c);
	peers[1].c = peers[2].c = NULL;
	join(1, 'b');
	assert_string_equal(heard(0), "-bc +b");
	end();
}

/* An id's new connection takes over: silently for the old one, no offline for others. */
static void test_displacement(void **state)
{
	struct relay_hub_stats s;

	(void)state;
	begin(NULL);
	join(0, 'a');
	join(1, 'b');
	list(1, RELAYMSG_SUBSCRIBE, "b");	/* itself: freed in the middle of the change */
	list(0, RELAYMSG_SUBSCRIBE, "b");
	heard(0);
	heard(1);
	join(2, 'b');
	assert_true(peers[1].closed);
	assert_string_equal(heard(1), "");
	assert_string_equal(heard(0), "+b");
	transport(0, 'b', "to the new one");
	assert_string_equal(heard(2), "7 3a:to the new one");
	relay_hub_stats(hub, &s, now);
	assert_int_equal(s.replaced, 1);
	assert_int_equal(s.conns, 2);
	end();
}

static void test_violations(void **state)
{
	static const char *const fatal[] = { "01", "", "0205", "0100", "0101", "0107", "010772", "010a", "010b", "0104", "01ff" };
	static const char *const ignored[] = { "0103", "01030000", "010800", "010900", "0108", "0109", "0105", "0106", "010621" };
	static uint8_t big[RELAYMSG_MAX + 1] = { 1, 3 };

	(void)state;
	begin(NULL);
	for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) {
		join(0, 'a');
		assert_int_equal(say_hex(&peers[0], fatal[i]), NB_E_CLOSED);
		assert_true(peers[0].closed);
	}
	join(0, 'a');
	for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
		assert_int_equal(say_hex(&peers[0], ignored[i]), 0);
	assert_int_equal(say(&peers[0], nb_bytes(big, RELAYMSG_MAX)), 0);
	assert_int_equal(say(&peers[0], nb_bytes(big, RELAYMSG_MAX + 1)), NB_E_CLOSED);
	/* before Auth everything is fatal, and so is an Auth too long for stock's buffer */
	for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) {
		assert_int_equal(relay_hub_add(hub, &peers[1].c, &peers[1], now), 0);
		assert_int_equal(say_hex(&peers[1], ignored[i]), NB_E_CLOSED);
		peers[1].closed = false;
	}
	assert_int_equal(peers[1].n, 0);
	end();
}

static void test_times(void **state)
{
	(void)state;
	begin(NULL);
	assert_true(nb_time_is_never(relay_hub_deadline(hub)));
	assert_int_equal(relay_hub_add(hub, &peers[1].c, &peers[1], now), 0);
	join(0, 'a');
	run_to(nb_time_add(now, 9 * NB_SEC));
	assert_false(peers[1].closed);
	run_to(nb_time_add(now, 3 * NB_SEC));
	assert_true(peers[1].closed);
	/* a client that answers stays, and gets a probe at least every 35 s */
	heard(0);
	for (int i = 0; i < 10; i++) {
		run_to(nb_time_add(now, 30 * NB_SEC));
		assert_non_null(strchr(heard(0), '5'));
		say_hex(&peers[0], "0105");
	}
	run_to(nb_time_add(now, 44 * NB_SEC));
	assert_false(peers[0].closed);
	run_to(nb_time_add(now, 3 * NB_SEC));
	assert_true(peers[0].closed);
	assert_true(nb_time_is_never(relay_hub_deadline(hub)));
	end();
}

static void test_limits(void **state)
{
	struct relay_hub_config cfg = { .max_conns = 3, .max_waiting = 2, .max_watched = 2, .max_interests = 3 };

	(void)state;
	begin(&cfg);
	assert_int_equal(relay_hub_add(hub, &peers[0].c, &peers[0], now), 0);
	assert_int_equal(relay_hub_add(hub, &peers[1].c, &peers[1], now), 0);
	assert_int_equal(relay_hub_add(hub, &peers[2].c, &peers[2], now), NB_E_FULL);
	relay_hub_del(hub, peers[0].c);
	relay_hub_del(hub, peers[1].c);
	peers[0].c = peers[1].c = NULL;
	for (int i = 0; i < 3; i++)
		assert_int_equal(join((unsigned)i, (char)('a' + i)), 0);
	assert_int_equal(join(3, 'd'), NB_E_FULL);
	peers[3].c = NULL;
	list(0, RELAYMSG_SUBSCRIBE, "bcx");	/* two are kept */
	list(1, RELAYMSG_SUBSCRIBE, "ac");	/* one is left */
	assert_string_equal(heard(0), "7 +bc");
	assert_string_equal(heard(1), "7 +a");
	end();
}

/* Tokens hold until their second is over; afterwards the connection stays. */
static void test_expiry(void **state)
{
	(void)state;
	begin(NULL);
	assert_int_equal(join(0, 'a'), 0);
	wall.ns += 3600 * NB_SEC;
	assert_int_equal(transport(0, 'a', "self"), 0);
	assert_string_equal(heard(0), "7 3a:self");
	end();
}

/* 62 payload bytes make messages of 100. */
static void test_bandwidth(void **state)
{
	struct relay_hub_config cfg = { 0 };
	struct relay_hub_stats s;
	char payload[63];

	(void)state;
	memset(payload, 'p', 62);
	payload[62] = 0;
	cfg.user_rate = nb_rate(320000);	/* saves up 80,000 */
	cfg.total_rate = nb_rate(400000);	/* 100,000 */
	begin(&cfg);
	join(0, 'a');
	join(1, 'b');
	join(2, 'c');
	join(3, 'd');
	for (int i = 0; i < 1000; i++)
		assert_int_equal(transport(0, 'b', payload), 0);
	relay_hub_stats(hub, &s, now);
	assert_int_equal(s.sent_bytes, 80000);
	assert_int_equal(s.over_user_rate, 200);
	/* b has all it may get; c and d only what is left for all; what others hear is not counted */
	transport(2, 'b', payload);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(transport(2, 'd', payload), 0);
	list(0, RELAYMSG_SUBSCRIBE, "c");
	relay_hub_stats(hub, &s, now);
	assert_int_equal(s.sent_bytes, 100000);
	assert_int_equal(s.over_user_rate, 201);
	assert_int_equal(s.over_total_rate, 800);
	assert_string_equal(heard(0), "7 +c");
	now = nb_time_add(now, 100 * NB_MS);
	for (int i = 0; i < 1000; i++)
		transport(2, 'd', payload);
	relay_hub_stats(hub, &s, now);
	assert_int_equal(s.sent_bytes, 140000);
	assert_int_equal(s.dropped_full, 0);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replay_peers), cmocka_unit_test(test_replay_clients), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_shutdown), cmocka_unit_test(test_transport), cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_subscriptions), cmocka_unit_test(test_batches), cmocka_unit_test(test_displacement),
		cmocka_unit_test(test_violations), cmocka_unit_test(test_times), cmocka_unit_test(test_limits),
		cmocka_unit_test(test_expiry), cmocka_unit_test(test_bandwidth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
