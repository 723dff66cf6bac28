/* client_signal_client_test.c - the signal client against our own signal server through memory, with a
 * network that can break: marker, boxes, routing, strangers, heartbeats, stalls, back-off, retries. */
#include "client/signal_client.h"

#include "base/err.h"
#include "crypto/crypto.h"
#include "signal/signal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct agent {
	struct client_signal *s;
	struct grpc_conn *mine, *theirs, *dead[64];
	size_t n_dead;
	uint8_t pub[NB_KEY_LEN];
	unsigned dials, ups, downs, messages;
	char error[300];
	struct client_signal_msg last;
	uint8_t from[NB_KEY_LEN];
	bool refuse;		/* dialling fails */
	bool deaf;		/* nothing comes back from the server */
	bool no_server;		/* connected to something without a signal service */
	int fail_sends;		/* status its Sends end with; 0: they work */
	unsigned send_tries;
};

static struct agent ag[2];
static struct signal_server *server;
static struct grpc_service svc;
static struct grpc_config scfg, ccfg;
static struct nb_time now;
static bool strangers;
static uint32_t seed;

static void fake_random(void *ctx, void *out, size_t n)
{
	uint8_t *p = out;

	(void)ctx;
	while (n--)
		*p++ = (uint8_t)((seed = seed * 1103515245 + 12345) >> 16);
}

static void dial(void *arg)
{
	struct agent *a = arg;

	a->dials++;
}

static void hang_up(void *arg)
{
	struct agent *a = arg;

	/* freed later: this may come from inside its callbacks */
	assert_in_range(a->n_dead, 0, 61);
	a->dead[a->n_dead++] = a->mine;
	a->dead[a->n_dead++] = a->theirs;
	a->mine = a->theirs = NULL;
}

static void state_changed(void *arg, bool connected, const char *error)
{
	struct agent *a = arg;

	assert_int_equal(connected, error == NULL);
	if (connected)
		a->ups++;
	else
		a->downs++;
	snprintf(a->error, sizeof a->error, "%s", error ? error : "");
}

static bool known(void *arg, const uint8_t key[NB_KEY_LEN])
{
	(void)arg;
	(void)key;
	return !strangers;
}

static void message(void *arg, const uint8_t key[NB_KEY_LEN], const struct client_signal_msg *m)
{
	struct agent *a = arg;

	a->messages++;
	a->last = *m;
	memcpy(a->from, key, NB_KEY_LEN);
}

static const struct client_signal_ops ops = { dial, hang_up, state_changed, known, message };

static size_t move(struct grpc_conn *from, struct grpc_conn *to)
{
	static uint8_t buf[16384];
	size_t n, total = 0;

	while ((n = grpc_conn_output(from, buf, sizeof buf, now)) > 0) {
		total += n;
		if (to && grpc_conn_input(to, nb_bytes(buf, n), now))
			break;
	}
	return total;
}

static void reap(struct agent *a)
{
	for (size_t i = 0; i < a->n_dead; i++)
		grpc_conn_free(a->dead[i]);
	a->n_dead = 0;
}

static size_t pump_agent(struct agent *a)
{
	struct grpc_conn *theirs = a->theirs, *mine = a->mine;
	size_t n = 0;

	if (!mine)
		return 0;
	n += move(mine, theirs);
	if (a->mine == mine)
		n += a->deaf ? (size_t)0 : move(theirs, mine);
	return n;
}

static void pump(void)
{
	size_t n;

	do {
		n = 0;
		for (int i = 0; i < 2; i++) {
			n += pump_agent(&ag[i]);
			reap(&ag[i]);
		}
	} while (n);
}

/* A service in front of the real one whose Send fails. */
static void failing_send(struct grpc_call *call, void *user, struct nb_bytes m)
{
	struct agent *a = grpc_call_service_arg(call);

	(void)user;
	(void)m;
	a->send_tries++;
	grpc_call_finish(call, a->fail_sends, "not now");
}

static const struct grpc_call_ops failing_ops = { .on_message = failing_send };
static const struct grpc_method failing_methods[] = {
	{ "/signalexchange.SignalExchange/Send", GRPC_UNARY, &failing_ops, 0 },
};
static struct grpc_service failing[2];

/* Answer a dial that was asked for. */
static void answer(struct agent *a)
{
	struct grpc_config cfg = scfg;

	if (a->refuse) {
		client_signal_dial_failed(a->s, "connection refused", now);
		return;
	}
	if (a->no_server)
		cfg.n_services = 0;
	if (a->fail_sends) {
		failing[0] = (struct grpc_service){ failing_methods, 1, a };
		failing[1] = svc;
		cfg.services = failing;
		cfg.n_services = 2;
	}
	assert_int_equal(grpc_server_new(&a->theirs, &cfg, now), 0);
	assert_int_equal(grpc_client_new(&a->mine, &ccfg, now), 0);
	client_signal_attach(a->s, a->mine, now);
}

static int setup(void **state)
{
	static const uint8_t seed16[16] = { 1 };

	(void)state;
	memset(ag, 0, sizeof ag);
	now.ns = NB_SEC;
	strangers = false;
	seed = 1;
	assert_int_equal(signal_server_new(&server, seed16, 0), 0);
	svc = signal_service(server);
	grpc_config_default(&scfg);
	grpc_config_default(&ccfg);
	scfg.services = &svc;
	scfg.n_services = 1;
	for (int i = 0; i < 2; i++) {
		struct client_signal_config cfg = { .ops = &ops, .arg = &ag[i], .random = fake_random };

		nbc_keypair(cfg.private_key, ag[i].pub, nbc_random, NULL);
		ag[i].s = client_signal_new(&cfg);
		assert_non_null(ag[i].s);
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		client_signal_free(ag[i].s);
		reap(&ag[i]);
	}
	signal_server_free(server);
	return 0;
}

static void up(int i)
{
	client_signal_start(ag[i].s, now);
	answer(&ag[i]);
	pump();
	assert_true(client_signal_connected(ag[i].s));
}

static struct client_signal_msg offer(void)
{
	struct client_signal_msg m = { .type = CLIENT_SIGNAL_OFFER, .ufrag = "ufrag", .pwd = "password", .wg_port = 51820 };

	strcpy(m.version, "0.77.1");
	return m;
}

/* Let time pass, running timers and answering dials. */
static void advance(int64_t ns)
{
	struct nb_time end = nb_time_add(now, ns), t;

	for (;;) {
		t = NB_TIME_NEVER;
		for (int i = 0; i < 2; i++) {
			t = nb_time_min(t, client_signal_deadline(ag[i].s));
			if (ag[i].mine)
				t = nb_time_min(t, grpc_conn_deadline(ag[i].mine));
		}
		if (nb_time_before(end, t))
			break;
		if (nb_time_before(now, t))
			now = t;
		for (int i = 0; i < 2; i++) {
			unsigned dials = ag[i].dials;

			if (ag[i].mine)
				grpc_conn_timer(ag[i].mine, now);
			client_signal_timer(ag[i].s, now);
			if (ag[i].dials != dials)
				answer(&ag[i]);
		}
		pump();
	}
	now = end;
}

static void test_talk(void **state)
{
	struct client_signal_msg m = offer();
	struct client_signal_stats st;

	(void)state;
	assert_int_equal(client_signal_send(ag[0].s, ag[1].pub, &m, now), NB_E_STATE);
	up(0);
	up(1);
	assert_int_equal(ag[0].ups, 1);
	assert_int_equal(client_signal_send(ag[0].s, ag[1].pub, &m, now), 0);
	pump();
	assert_int_equal(ag[1].messages, 1);
	assert_memory_equal(ag[1].from, ag[0].pub, NB_KEY_LEN);
	assert_int_equal(ag[1].last.type, CLIENT_SIGNAL_OFFER);
	assert_string_equal(ag[1].last.ufrag, "ufrag");
	assert_string_equal(ag[1].last.pwd, "password");
	assert_int_equal(ag[1].last.wg_port, 51820);
	m.type = CLIENT_SIGNAL_CANDIDATE;
	strcpy(m.candidate, "1 1 udp 2130706431 192.0.2.1 1 typ host");
	assert_int_equal(client_signal_send(ag[1].s, ag[0].pub, &m, now), 0);
	pump();
	assert_string_equal(ag[0].last.candidate, m.candidate);
	client_signal_get_stats(ag[0].s, &st);
	assert_int_equal(st.sent, 1);
	assert_int_equal(st.received, 1);
	strangers = true;
	assert_int_equal(client_signal_send(ag[1].s, ag[0].pub, &m, now), 0);
	pump();
	client_signal_get_stats(ag[0].s, &st);
	assert_int_equal(st.strangers, 1);
	assert_int_equal(ag[0].messages, 1);
}

static void test_heartbeat(void **state)
{
	struct client_signal_stats st;

	(void)state;
	up(0);
	advance(29 * NB_SEC);
	client_signal_get_stats(ag[0].s, &st);
	assert_int_equal(st.heartbeats, 0);
	advance(601 * NB_SEC);
	client_signal_get_stats(ag[0].s, &st);
	/* one per 30 s, each comes back, nothing is ever stalled, nothing reaches the engine */
	assert_int_equal(st.heartbeats, 21);
	assert_int_equal(st.received, 21);
	assert_int_equal(st.stalls, 0);
	assert_int_equal(ag[0].messages, 0);
	assert_int_equal(ag[0].downs, 0);
}

static void test_stall(void **state)
{
	struct client_signal_stats st;

	(void)state;
	up(0);
	ag[0].deaf = true;
	advance(41 * NB_SEC);
	client_signal_get_stats(ag[0].s, &st);
	assert_int_equal(st.stalls, 1);
	assert_int_equal(ag[0].downs, 1);
	assert_non_null(strstr(ag[0].error, "stalled"));
	ag[0].deaf = false;
	advance(20 * NB_SEC);
	assert_true(client_signal_connected(ag[0].s));
}

/* A message that cannot be opened is a sign of life all the same. */
static void test_undecodable(void **state)
{
	struct client_signal_msg m = offer();
	struct client_signal_stats st;
	struct client_signal_config cfg = { .ops = &ops, .arg = &ag[1], .random = fake_random };

	(void)state;
	up(0);
	/* somebody registered under B's key sends with another private key: the box does not open */
	client_signal_free(ag[1].s);
	nbc_keypair(cfg.private_key, ag[1].pub, nbc_random, NULL);
	ag[1].s = client_signal_new(&cfg);
	up(1);
	assert_int_equal(client_signal_send(ag[1].s, ag[0].pub, &m, now), 0);
	pump();
	assert_int_equal(ag[0].messages, 1);
	client_signal_get_stats(ag[0].s, &st);
	assert_int_equal(st.undecodable, 0);
	/* a low-order key is refused before anything leaves */
	memset(ag[1].pub, 0, NB_KEY_LEN);
	assert_int_equal(client_signal_send(ag[0].s, ag[1].pub, &m, now), NB_E_BAD);
}

static void test_reconnect(void **state)
{
	struct nb_time began;

	(void)state;
	up(0);
	ag[0].refuse = true;
	grpc_conn_lost(ag[0].mine, "connection reset", now);
	client_signal_lost(ag[0].s, "connection reset", now);
	reap(&ag[0]);
	assert_int_equal(ag[0].downs, 1);
	assert_non_null(strstr(ag[0].error, "connection reset"));
	began = now;
	advance(120 * NB_SEC);
	/* 0.8 s growing by 1.7 to 10 s, each jittered from nothing to twice: some 10 to 40 tries */
	assert_in_range(ag[0].dials, 8, 60);
	assert_string_equal(ag[0].error, "connection refused");
	ag[0].refuse = false;
	advance(20 * NB_SEC);
	assert_true(client_signal_connected(ag[0].s));
	assert_int_equal(ag[0].ups, 2);
	assert_true(nb_time_before(began, now));
	/* an established stream was a success: the waits begin anew, whatever they had grown to */
	grpc_conn_lost(ag[0].mine, "again", now);
	reap(&ag[0]);
	assert_in_range(nb_time_diff(client_signal_deadline(ag[0].s), now), 0, 1600 * NB_MS);
}

static void test_retries(void **state)
{
	static const struct {
		int status;
		unsigned tries;
	} rows[] = { { GRPC_UNAVAILABLE, 4 }, { GRPC_INTERNAL, 4 }, { GRPC_CANCELLED, 1 } };
	struct client_signal_msg m = offer();
	struct client_signal_stats st;

	(void)state;
	ag[0].fail_sends = GRPC_UNAVAILABLE;
	up(0);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		ag[0].fail_sends = rows[i].status;
		ag[0].send_tries = 0;
		assert_int_equal(client_signal_send(ag[0].s, ag[1].pub, &m, now), 0);
		pump();
		assert_int_equal(ag[0].send_tries, rows[i].tries);
		client_signal_get_stats(ag[0].s, &st);
		assert_int_equal(st.send_failed, i + 1);
	}
	assert_int_equal(ag[0].downs, 0);
	ag[0].fail_sends = 0;
}

static void test_network_changed(void **state)
{
	(void)state;
	client_signal_start(ag[0].s, now);
	ag[0].refuse = true;
	answer(&ag[0]);
	advance(60 * NB_SEC);
	assert_false(client_signal_connected(ag[0].s));
	ag[0].refuse = false;
	client_signal_network_changed(ag[0].s, false, now);
	advance(NB_SEC / 4);
	assert_true(client_signal_connected(ag[0].s));
}

static void test_displaced(void **state)
{
	(void)state;
	up(0);
	signal_server_stop(server);
	pump();
	assert_int_equal(ag[0].downs, 1);
	assert_non_null(strstr(ag[0].error, "shutting down"));
	advance(3 * NB_SEC);
	assert_true(client_signal_connected(ag[0].s));
}

static void test_wrong_server(void **state)
{
	(void)state;
	ag[0].no_server = true;
	client_signal_start(ag[0].s, now);
	answer(&ag[0]);
	pump();
	assert_false(client_signal_connected(ag[0].s));
	assert_non_null(strstr(ag[0].error, "unknown method ConnectStream"));
	assert_int_equal(ag[0].ups, 0);
}

static void test_no_answer(void **state)
{
	(void)state;
	ag[0].deaf = true;
	client_signal_start(ag[0].s, now);
	answer(&ag[0]);
	pump();
	advance(11 * NB_SEC);	/* HTTP/2 itself never came up */
	assert_int_equal(ag[0].downs, 1);
	assert_non_null(strstr(ag[0].error, "SETTINGS"));
}

static void test_stop(void **state)
{
	struct client_signal_msg m = offer();

	(void)state;
	up(0);
	assert_int_equal(client_signal_send(ag[0].s, ag[1].pub, &m, now), 0);
	client_signal_stop(ag[0].s);
	assert_null(ag[0].mine);
	assert_true(nb_time_is_never(client_signal_deadline(ag[0].s)));
	reap(&ag[0]);
	advance(60 * NB_SEC);
	assert_int_equal(ag[0].dials, 1);
	/* a dial that completes after the stop is hung up */
	client_signal_start(ag[0].s, now);
	client_signal_stop(ag[0].s);
	answer(&ag[0]);
	assert_null(ag[0].mine);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_talk), T(test_heartbeat), T(test_stall), T(test_undecodable), T(test_reconnect), T(test_retries),
		T(test_network_changed), T(test_displaced), T(test_wrong_server), T(test_no_answer), T(test_stop),
	};

	return nbc_init() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
