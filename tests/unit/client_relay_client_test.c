/* client_relay_client_test.c - the agent's relay connections: what a stock client said in a recording must come out for
 * the same inputs, byte for byte; the race for a home relay, loss and return, foreign relays, early messages. */
#include "client/relay_client.h"

#include <jansson.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"

#define KEY_A "XMEyyH443QB6R+GjHgMxZ2J1XHh7vvJXIAMm2pnOlAY="
#define KEY_B "wWXl8q+typU7P96SpJk0v3IXlqmdOMr5D6oFD1mkYQs="
#define TOKEN "01token"

static struct client_relays *r;
static struct nb_time now;
static char log_text[4000];	/* what was called, in short */
static struct nb_buf sent;	/* the last message */
static unsigned dialled[8], n_dialled;
static uint32_t channel;
static bool reopen, log_channels;
static int64_t rtt_ms;		/* of connections that open */

static void note(const char *fmt, ...)
{
	size_t n = strlen(log_text);
	va_list ap;

	va_start(ap, fmt);
	if (n && n < sizeof log_text - 1)
		log_text[n++] = ' ';
	vsnprintf(log_text + n, sizeof log_text - n, fmt, ap);
	va_end(ap);
}

static const char *took(void)
{
	static char copy[sizeof log_text];

	memcpy(copy, log_text, sizeof copy);
	log_text[0] = 0;
	return copy;
}

static void on_dial(void *arg, unsigned id, const struct relaymsg_url *url, const struct nb_addr *ip)
{
	(void)arg;
	assert_true(n_dialled < 8);
	dialled[n_dialled++] = id;
	note("dial:%s:%u%s", url->host, url->port, ip->family ? "!" : "");
}

static void on_send(void *arg, unsigned id, struct nb_bytes head, struct nb_bytes body)
{
	(void)arg, (void)id;
	nb_buf_reset(&sent);
	nb_buf_bytes(&sent, head);
	nb_buf_bytes(&sent, body);
	note("say%u", sent.p[1]);
}

static void on_hang_up(void *arg, unsigned id)
{
	(void)arg, (void)id;
	note("hangup");
}

static void on_home(void *arg, bool moved)
{
	struct nb_addr ip;

	(void)arg;
	note("%s=%s", moved ? "moved" : "home", client_relays_home(r, &ip) ? client_relays_home(r, &ip) : "");
}

static void on_up(void *arg, void *user, uint32_t id)
{
	(void)arg;
	assert_int_equal(id, channel);
	note("up:%s", (const char *)user);
}

static void on_gone(void *arg, void *user, uint32_t id, const char *why)
{
	(void)arg;
	assert_true(*why);
	assert_int_equal(id, channel);
	note("gone:%s", (const char *)user);
	channel = 0;
	if (reopen) {
		reopen = false;
		channel = client_relays_open(r, KEY_B, "rel://b", NULL, "again", now);
		note(channel ? "reopened" : "refused");
	}
}

static void on_channel(void *arg, unsigned id, uint32_t c, const uint8_t *peer, bool on)
{
	uint8_t want[RELAYMSG_ID_LEN];

	(void)arg;
	if (log_channels) {
		assert_int_equal(c, channel);
		relaymsg_peer_id(want, KEY_B);
		assert_memory_equal(peer, want, sizeof want);
		assert_int_equal(id, dialled[0]);
		note(on ? "know" : "forget");
	}
}

static void on_data(void *arg, void *user, uint32_t id, struct nb_bytes payload)
{
	(void)arg;
	assert_int_equal(id, channel);
	note("data:%s:%zu", (const char *)user, payload.n);
}

static const struct client_relays_ops ops = { on_dial, on_send, on_hang_up, on_home, on_up, on_gone, on_channel, on_data };

static void random_bytes(void *ctx, void *out, size_t n)
{
	(void)ctx;
	memset(out, 0x11, n);
}

static void begin(void)
{
	struct client_relays_config cfg = { .ops = &ops, .self_key = KEY_A, .random = random_bytes };

	r = client_relays_new(&cfg);
	assert_non_null(r);
	now.ns = 1000 * NB_SEC;
	n_dialled = 0;
	channel = 0;
	reopen = log_channels = false;
	rtt_ms = 0;
	log_text[0] = 0;
	nb_buf_init(&sent, RELAYMSG_MAX + 10);
}

static void end(void)
{
	client_relays_free(r);
	nb_buf_fini(&sent);
}

static void update(const char *urls[], size_t n)
{
	client_relays_update(r, urls, n, nb_bytes_str(TOKEN), now);
}

static void opened(unsigned id)
{
	struct nb_addr ip = nb_addr4(0xcb00710a);

	client_relays_opened(r, id, &ip, rtt_ms * NB_MS, now);
}

static void hear(unsigned id, const char *hex)
{
	size_t n = strlen(hex) / 2;
	uint8_t *p = malloc(n);

	assert_int_equal(nb_hex_decode(p, n, nb_bytes_str(hex)), 0);
	client_relays_message(r, id, nb_bytes(p, n), now);
	free(p);
}

static void answer(unsigned id, const char *url)
{
	uint8_t m[300];

	relaymsg_header(m, RELAYMSG_AUTH_RESPONSE);
	memcpy(m + 2, url, strlen(url));
	client_relays_message(r, id, nb_bytes(m, 2 + strlen(url)), now);
}

static void from(unsigned id, enum relaymsg_type type, const char *key, const char *payload)
{
	uint8_t m[200];

	relaymsg_header(m, type);
	relaymsg_peer_id(m + 2, key);
	memcpy(m + 38, payload, strlen(payload));
	client_relays_message(r, id, nb_bytes(m, 38 + strlen(payload)), now);
}

static void run_to(struct nb_time t)
{
	while (nb_time_due(client_relays_deadline(r), t)) {
		now = client_relays_deadline(r);
		client_relays_timer(r, now);
	}
	now = t;
}

static void home(const char *url)
{
	const char *urls[] = { url };

	update(urls, 1);
	opened(dialled[0]);
	answer(dialled[0], url);
	took();
}

/* --- recordings --- */

static void check_sent(const json_t *f)
{
	char *hex = malloc(sent.n * 2 + 1);

	nb_hex_encode(hex, nb_buf_view(&sent));
	assert_string_equal(hex, json_string_value(json_object_get(f, "hex")));
	free(hex);
}

/* Play the relay's side; do what the client did and compare. */
static unsigned replay(const char *name, const char *self, const char *peer)
{
	struct client_relays_config cfg = { .ops = &ops, .random = random_bytes };
	const char *urls[] = { "rel://203.0.113.10:8080" };
	uint8_t token[RELAYMSG_TOKEN_MAX], bytes[RELAYMSG_MAX];
	unsigned n = 0, echoes = 0;
	char path[200];
	json_t *j, *f;
	size_t i;

	snprintf(path, sizeof path, "tests/vectors/relay/%s.json", name);
	j = json_load_file(path, 0, NULL);
	assert_non_null(j);
	begin();
	client_relays_free(r);
	snprintf(cfg.self_key, sizeof cfg.self_key, "%s", self);
	r = client_relays_new(&cfg);
	json_array_foreach(json_object_get(j, "frames"), i, f) {
		const char *hex = json_string_value(json_object_get(f, "hex"));
		size_t len = strlen(hex) / 2;
		struct relaymsg m;

		now.ns = (int64_t)((1000 + json_number_value(json_object_get(f, "t_s"))) * 1e9);
		if (!strcmp(json_string_value(json_object_get(f, "dir")), "s2c")) {
			hear(dialled[0], hex);
			if (!strcmp(hex, "0105"))
				check_sent(f);
			continue;
		}
		assert_int_equal(nb_hex_decode(bytes, len, nb_bytes_str(hex)), 0);
		assert_int_equal(relaymsg_decode(&m, nb_bytes(bytes, len)), 0);
		n++;
		switch (m.type) {
		case RELAYMSG_AUTH:
			memcpy(token, m.body.p, m.body.n);
			client_relays_update(r, urls, 1, nb_bytes(token, m.body.n), now);
			opened(dialled[0]);
			break;
		case RELAYMSG_SUBSCRIBE:
			channel = client_relays_open(r, peer, urls[0], NULL, "peer", now);
			assert_true(channel);
			break;
		case RELAYMSG_UNSUBSCRIBE:
			client_relays_close(r, channel);
			break;
		case RELAYMSG_TRANSPORT:
			continue;	/* the data plane's: run_link_test.c */
		case RELAYMSG_HEALTH:
			echoes++;
			continue;	/* came by itself */
		case RELAYMSG_CLOSE:
			client_relays_free(r);
			r = client_relays_new(&cfg);
			break;
		default:
			fail();
		}
		check_sent(f);
	}
	json_decref(j);
	end();
	return n + echoes;
}

static void test_recorded(void **state)
{
	(void)state;
	assert_true(replay("client-a", KEY_A, KEY_B) > 20);
	assert_true(replay("client-b", KEY_B, KEY_A) > 10);
	assert_true(replay("client-b-relay-only", KEY_B, KEY_A) > 8);
}

/* --- home --- */

static void test_race(void **state)
{
	const char *urls[] = { "rel://a", "rels://b", "ftp://c" };
	struct nb_addr ip;

	(void)state;
	begin();
	assert_false(client_relays_configured(r));
	update(urls, 3);
	assert_string_equal(took(), "dial:a:80 dial:b:443");
	assert_null(client_relays_home(r, &ip));
	opened(dialled[1]);
	opened(dialled[0]);
	assert_string_equal(took(), "say6 say6");
	/* other messages may come before the answer */
	hear(dialled[1], "0105");
	hear(dialled[1], "02ff");
	answer(dialled[1], "rels://b.example:443");
	assert_string_equal(took(), "hangup home=rels://b.example:443");
	assert_string_equal(client_relays_home(r, &ip), "rels://b.example:443");
	assert_int_equal(ip.family, 4);
	/* the loser's late answer means nothing */
	answer(dialled[0], "rel://a");
	client_relays_lost(r, dialled[0], "", now);
	assert_string_equal(took(), "");
	/* the same configuration again, with a fresh token, is no reason to dial */
	update(urls, 3);
	assert_string_equal(took(), "");
	end();
	assert_string_equal(took(), "say4 hangup");
}

static void test_loss_and_return(void **state)
{
	const char *urls[] = { "rel://a", "rel://b" };

	(void)state;
	begin();
	update(urls, 2);
	opened(dialled[1]);
	answer(dialled[1], "rel://b");
	took();
	client_relays_lost(r, dialled[1], "", now);
	assert_string_equal(took(), "home=");
	assert_string_equal(client_relays_error(r), "the relay closed the connection");
	/* whoever answers first does, and at once */
	run_to(now);
	assert_string_equal(took(), "dial:a:80 dial:b:80");
	client_relays_lost(r, dialled[3], "refused", now);
	assert_string_equal(took(), "");
	client_relays_lost(r, dialled[2], "refused", now);
	assert_string_equal(client_relays_error(r), "refused");
	run_to(nb_time_add_ms(now, 499));
	assert_string_equal(took(), "");
	run_to(nb_time_add_ms(now, 1001));
	assert_string_equal(took(), "dial:a:80 dial:b:80");
	end();
	/* the only one there is gets a moment, but a changed network is no reason to wait */
	begin();
	home("rel://a");
	client_relays_lost(r, dialled[0], "", now);
	took();
	run_to(nb_time_add_ms(now, 199));
	assert_string_equal(took(), "");
	run_to(nb_time_add_ms(now, 401));
	assert_string_equal(took(), "dial:a:80");
	opened(dialled[1]);
	answer(dialled[1], "rel://a");
	client_relays_hurry(r, now);
	client_relays_lost(r, dialled[1], "our address is gone", now);
	took();
	run_to(now);
	assert_string_equal(took(), "dial:a:80");
	end();
}

/* The next look at how far the three relays are (c 0: no answer); home's health checks go on meanwhile. */
static void probe(int64_t a, int64_t b, int64_t c)
{
	unsigned first = n_dialled;

	while (n_dialled == first) {
		hear(dialled[1], "0105");
		run_to(nb_time_min(client_relays_deadline(r), nb_time_add_ms(now, 20000)));
	}
	assert_int_equal(n_dialled, first + 3);
	took();
	rtt_ms = a;
	opened(dialled[first]);
	rtt_ms = b;
	opened(dialled[first + 1]);
	rtt_ms = c;
	if (c)
		opened(dialled[first + 2]);
	else
		client_relays_lost(r, dialled[first + 2], "refused", now);
	n_dialled = first;
}

static void test_nearer(void **state)
{
	const char *urls[] = { "rel://a", "rel://b", "rel://c" };
	struct nb_addr ip;
	struct nb_time began;

	(void)state;
	begin();
	update(urls, 3);
	opened(dialled[1]);
	answer(dialled[1], "rel://b");
	channel = client_relays_open(r, KEY_B, "rel://b", NULL, "b", now);
	from(dialled[1], RELAYMSG_ONLINE, KEY_B, "");
	n_dialled = 2;
	probe(16, 20, 0);	/* nearer, but not by much */
	assert_string_equal(took(), "hangup hangup");
	began = now;
	probe(20, 20, 5);	/* once is not enough */
	assert_true(nb_time_diff(now, began) >= 450 * NB_SEC);
	began = now;
	probe(20, 20, 20);
	assert_int_equal(nb_time_diff(now, began), 10 * NB_SEC);
	probe(20, 20, 5);
	took();
	assert_string_equal(client_relays_home(r, &ip), "rel://b");
	probe(20, 20, 5);
	assert_string_equal(took(), "hangup hangup hangup dial:c:80");
	opened(dialled[5]);
	answer(dialled[5], "rel://c");
	assert_string_equal(took(), "say6 moved=rel://c");
	/* the channel stays where it is, and so does its connection until it closes */
	from(dialled[1], RELAYMSG_TRANSPORT, KEY_B, "x");
	assert_string_equal(took(), "data:b:1");
	for (int i = 0; i < 4; i++) {
		run_to(nb_time_add_ms(now, 30000));
		hear(dialled[1], "0105");
		hear(dialled[5], "0105");
	}
	assert_string_equal(took(), "say5 say5 say5 say5 say5 say5 say5 say5");
	client_relays_close(r, channel);
	assert_string_equal(took(), "say9");
	run_to(nb_time_add_ms(now, 30000));
	hear(dialled[5], "0105");
	hear(dialled[1], "0105");
	run_to(nb_time_add_ms(now, 31000));
	assert_non_null(strstr(took(), "say4 hangup"));
	assert_string_equal(client_relays_home(r, &ip), "rel://c");
	end();
}

static void test_retry_grows(void **state)
{
	const char *urls[] = { "rel://a" };
	struct nb_time last;
	int64_t wait = 0;

	(void)state;
	begin();
	update(urls, 1);
	for (int i = 0; i < 12; i++) {
		last = now;
		client_relays_lost(r, dialled[n_dialled - 1], "", now);
		n_dialled = 0;
		run_to(client_relays_deadline(r));
		assert_int_equal(n_dialled, 1);
		assert_true(nb_time_diff(now, last) >= wait);
		wait = i < 4 ? nb_time_diff(now, last) : wait;
		assert_true(nb_time_diff(now, last) <= 90 * NB_SEC);
	}
	/* the network is back: at once */
	client_relays_lost(r, dialled[0], "", now);
	n_dialled = 0;
	client_relays_hurry(r, now);
	run_to(now);
	assert_int_equal(n_dialled, 1);
	/* relays are switched off */
	update(urls, 0);
	took();
	assert_true(nb_time_is_never(client_relays_deadline(r)));
	end();
}

static void test_silence(void **state)
{
	const char *urls[] = { "rel://a" };

	(void)state;
	begin();
	update(urls, 1);
	opened(dialled[0]);
	took();
	run_to(nb_time_add_ms(now, 8001));
	assert_string_equal(took(), "hangup");
	run_to(nb_time_add_ms(now, 3500));
	opened(dialled[1]);
	answer(dialled[1], "rel://a");
	took();
	for (int i = 0; i < 5; i++) {
		run_to(nb_time_add_ms(now, 34000));
		hear(dialled[1], "0105");
	}
	assert_string_equal(took(), "say5 say5 say5 say5 say5");
	run_to(nb_time_add_ms(now, 35001));
	assert_string_equal(took(), "hangup home=");
	end();
}

static void test_refused(void **state)
{
	const char *urls[] = { "rel://a" };

	(void)state;
	begin();
	update(urls, 1);
	opened(dialled[0]);
	client_relays_lost(r, dialled[0], "", now);
	assert_string_equal(client_relays_error(r), "the relay refused this peer or its token");
	/* the same token again changes nothing, another one is tried at once */
	for (int i = 1; i < 6; i++) {
		run_to(client_relays_deadline(r));
		opened(dialled[i]);
		client_relays_lost(r, dialled[i], "", now);
	}
	took();
	update(urls, 1);
	run_to(now);
	assert_string_equal(took(), "");
	client_relays_update(r, urls, 1, nb_bytes_str("01other"), now);
	run_to(now);
	assert_string_equal(took(), "dial:a:80");
	opened(dialled[6]);
	assert_memory_equal(sent.p + sent.n - 7, "01other", 7);
	end();
}

/* --- channels --- */

static void test_channel(void **state)
{
	(void)state;
	begin();
	assert_int_equal(client_relays_open(r, KEY_B, "rel://h", NULL, "b", now), 0);	/* no home yet */
	home("rel://h");
	channel = client_relays_open(r, KEY_B, "rel://h", NULL, "b", now);
	assert_string_equal(took(), "say8");
	assert_int_equal(client_relays_open(r, KEY_B, "rel://h", NULL, "b", now), 0);
	log_channels = true;
	/* what overtakes the news that the peer is there is kept, the last of it */
	from(dialled[0], RELAYMSG_TRANSPORT, KEY_B, "one");
	from(dialled[0], RELAYMSG_TRANSPORT, KEY_B, "three");
	from(dialled[0], RELAYMSG_ONLINE, KEY_B, "");
	assert_string_equal(took(), "know up:b data:b:5");
	from(dialled[0], RELAYMSG_ONLINE, KEY_B, "");
	/* one that was under way when the driver learnt of the channel */
	from(dialled[0], RELAYMSG_TRANSPORT, KEY_B, "");
	assert_string_equal(took(), "data:b:0");
	from(dialled[0], RELAYMSG_OFFLINE, KEY_B, "");
	assert_string_equal(took(), "forget say9 gone:b");
	log_channels = false;
	/* a peer that does not come */
	channel = client_relays_open(r, KEY_B, "rel://h", NULL, "b", now);
	took();
	for (int i = 0; i < 2; i++) {
		run_to(nb_time_add_ms(now, 14000));
		hear(dialled[0], "0105");
	}
	took();
	run_to(nb_time_add_ms(now, 2100));
	assert_string_equal(took(), "say9 gone:b");
	end();
}

static void test_early_expires(void **state)
{
	(void)state;
	begin();
	home("rel://h");
	from(dialled[0], RELAYMSG_TRANSPORT, KEY_B, "old");
	now = nb_time_add_ms(now, 5001);
	channel = client_relays_open(r, KEY_B, "rel://h", NULL, "b", now);
	from(dialled[0], RELAYMSG_ONLINE, KEY_B, "");
	assert_string_equal(took(), "say8 up:b");
	client_relays_close(r, channel);
	assert_string_equal(took(), "say9");
	end();
}

static void test_foreign(void **state)
{
	struct nb_addr ip = nb_addr4(1);

	(void)state;
	begin();
	home("rel://h");
	channel = client_relays_open(r, KEY_B, "rel://b", &ip, "b", now);
	assert_string_equal(took(), "dial:b:80!");
	opened(dialled[1]);
	answer(dialled[1], "rel://b");
	assert_string_equal(took(), "say6 say8");
	from(dialled[1], RELAYMSG_ONLINE, KEY_B, "");
	assert_string_equal(took(), "up:b");
	/* an early message on one relay is none on the other */
	from(dialled[0], RELAYMSG_TRANSPORT, KEY_B, "x");
	assert_string_equal(took(), "");
	/* its loss ends the channel; a new one dials anew */
	reopen = true;
	client_relays_lost(r, dialled[1], "", now);
	assert_string_equal(took(), "gone:b dial:b:80 reopened");
	client_relays_close(r, channel);
	/* unused, it is swept */
	opened(dialled[2]);
	answer(dialled[2], "rel://b");
	took();
	for (int i = 0; i < 4; i++) {
		run_to(nb_time_add_ms(now, 20000));
		hear(dialled[0], "0105");
		hear(dialled[2], "0105");
	}
	assert_non_null(strstr(took(), "say4 hangup"));
	assert_int_equal(client_relays_open(r, KEY_B, "nonsense", NULL, "b", now), 0);
	end();
}

/* Home is lost: its channels end before anybody may open new ones there. */
static void test_home_lost_with_channels(void **state)
{
	(void)state;
	begin();
	home("rel://b");
	channel = client_relays_open(r, KEY_B, "rel://b", NULL, "b", now);
	from(dialled[0], RELAYMSG_ONLINE, KEY_B, "");
	took();
	reopen = true;
	hear(dialled[0], "0104");
	assert_string_equal(took(), "hangup home= gone:b refused");
	end();
}

static void test_many_channels(void **state)
{
	uint32_t ids[40];
	char key[] = KEY_B;

	(void)state;
	begin();
	home("rel://h");
	for (int i = 0; i < 40; i++) {
		key[0] = (char)('A' + i % 26);
		key[1] = (char)('a' + i / 26);
		ids[i] = client_relays_open(r, key, "rel://h", NULL, "b", now);
		assert_true(ids[i]);
		for (int k = 0; k < i; k++)
			assert_int_not_equal(ids[i], ids[k]);
	}
	for (int i = 0; i < 40; i += 2)
		client_relays_close(r, ids[i]);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recorded), cmocka_unit_test(test_race), cmocka_unit_test(test_loss_and_return),
		cmocka_unit_test(test_nearer),
		cmocka_unit_test(test_retry_grows), cmocka_unit_test(test_silence), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_channel), cmocka_unit_test(test_early_expires), cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_home_lost_with_channels), cmocka_unit_test(test_many_channels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
