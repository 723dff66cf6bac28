/* client_engine_lazy_test.c - peers that sleep: what a map, a packet, the other side and time make of them, as calls
 * to the driver. No sockets, a fake clock. What comes of two such engines: tests/sim/client_lazy_sim_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/err.h"
#include "client/engine_int.h"
#include "crypto/crypto.h"

#define MAX 8

struct world {
	struct client_engine *e;
	struct client_config cfg;
	struct nb_time now;
	unsigned peers, offers, answers, go_idles, resets, nones;
	char order[64];		/* r: reset, n: no endpoint, since the last look */
	/* the map */
	Management__SyncResponse sync;
	Management__NetworkMap map;
	Management__PeerConfig own;
	Management__RemotePeerConfig peer[MAX], *list[MAX];
	char key[MAX][NB_KEY_TEXT_LEN], ip[MAX][32], *ips[MAX][1];
};

static int op_iface(void *arg, const struct nb_prefix *v4, const struct nb_prefix *v6, int mtu)
{
	(void)arg, (void)v4, (void)v6, (void)mtu;
	return 0;
}

static void op_peer_set(void *arg, const struct client_wg_peer *p)
{
	(void)p;
	((struct world *)arg)->peers++;
}

static void op_peer_remove(void *arg, const uint8_t key[NB_KEY_LEN])
{
	(void)key;
	((struct world *)arg)->peers--;
}

static void op_filter(void *arg, struct filter_table *t)
{
	(void)arg;
	filter_table_free(t);
}

static void note(struct world *w, const char *what)
{
	size_t n = strlen(w->order);

	snprintf(w->order + n, sizeof w->order - n, "%s", what);
}

static void op_peer_reset(void *arg, const uint8_t key[NB_KEY_LEN])
{
	(void)key;
	((struct world *)arg)->resets++;
	note(arg, "r");
}

static void op_endpoint(void *arg, const uint8_t key[NB_KEY_LEN], const struct wg_ep *ep, bool handshake)
{
	(void)key, (void)handshake;
	assert_int_equal(ep->kind, WG_EP_NONE);
	((struct world *)arg)->nones++;
	note(arg, "n");
}

static void op_signal(void *arg, const uint8_t key[NB_KEY_LEN], const struct client_signal_msg *m)
{
	struct world *w = arg;

	(void)key;
	w->offers += m->type == CLIENT_SIGNAL_OFFER;
	w->answers += m->type == CLIENT_SIGNAL_ANSWER;
	w->go_idles += m->type == CLIENT_SIGNAL_GO_IDLE;
	if (m->type == CLIENT_SIGNAL_GO_IDLE)
		assert_true(!m->ufrag[0] && !m->pwd[0] && !m->has_session && !m->relay_url[0]);
}

static void op_dgram(void *arg, const struct nb_endpoint *to, const struct nb_addr *from, struct nb_bytes data)
{
	(void)arg, (void)to, (void)from, (void)data;
}

static void op_changed(void *arg)
{
	(void)arg;
}

static void op_event(void *arg, const char *message)
{
	(void)arg, (void)message;
}

static const struct client_engine_ops ops = {
	.iface = op_iface, .peer_set = op_peer_set, .peer_remove = op_peer_remove, .filter = op_filter, .peer_reset = op_peer_reset,
	.peer_endpoint = op_endpoint, .signal = op_signal, .dgram = op_dgram, .changed = op_changed, .event = op_event,
};

static void key_of(uint8_t key[NB_KEY_LEN], unsigned number)
{
	memset(key, 0, NB_KEY_LEN);
	key[0] = (uint8_t)number;
	key[31] = 0x40;
}

static void own_config(Management__PeerConfig *c, bool lazy)
{
	management__peer_config__init(c);
	c->address = (char *)(uintptr_t)"100.64.0.9/16";
	c->has_lazyconnectionenabled = 1;
	c->lazyconnectionenabled = lazy;
}

static struct world *setup(enum client_lazy_force force, bool lazy)
{
	struct client_engine_config c = { .ops = &ops, .port = 51820, .random = nbc_random, .lazy = force };
	Management__LoginResponse r = MANAGEMENT__LOGIN_RESPONSE__INIT;
	struct world *w = calloc(1, sizeof *w);
	struct nb_addr host = nb_addr4(0xcb007105);

	nbc_init();
	w->now.ns = 100 * NB_SEC;
	client_config_init(&w->cfg, nbc_random, NULL);
	c.arg = w;
	c.cfg = &w->cfg;
	c.public_key[0] = 99;
	w->e = client_engine_new(&c, w->now);
	own_config(&w->own, lazy);
	r.peerconfig = &w->own;
	assert_int_equal(client_engine_login(w->e, &r, w->now), 0);
	client_engine_hosts(w->e, &host, 1, false, w->now);
	client_engine_signal_ready(w->e, w->now);
	return w;
}

static void teardown(struct world *w)
{
	client_engine_free(w->e);
	client_config_fini(&w->cfg);
	free(w);
}

/* A map of n peers; change it, then sync(). */
static void make_map(struct world *w, size_t n, bool lazy)
{
	uint64_t serial = w->map.serial + 1;
	uint8_t key[NB_KEY_LEN];

	management__sync_response__init(&w->sync);
	management__network_map__init(&w->map);
	w->sync.networkmap = &w->map;
	w->map.has_serial = 1;
	w->map.serial = serial;
	own_config(&w->own, lazy);
	w->map.peerconfig = &w->own;
	w->map.remotepeers = w->list;
	w->map.n_remotepeers = n;
	w->map.has_remotepeersisempty = w->map.remotepeersisempty = n == 0;
	for (size_t i = 0; i < n; i++) {
		Management__RemotePeerConfig *p = w->list[i] = &w->peer[i];

		management__remote_peer_config__init(p);
		key_of(key, (unsigned)i + 1);
		nbc_key_format(w->key[i], key);
		snprintf(w->ip[i], sizeof w->ip[i], "100.64.1.%zu/32", i + 1);
		w->ips[i][0] = w->ip[i];
		p->wgpubkey = w->key[i];
		p->allowedips = w->ips[i];
		p->n_allowedips = 1;
		p->agentversion = (char *)(uintptr_t)"0.77.1";
	}
}

static void sync(struct world *w)
{
	client_engine_sync(w->e, &w->sync, w->now);
}

static void event(struct world *w, enum wg_event_kind kind, unsigned number)
{
	static const struct wg_ep ep = { .kind = WG_EP_UDP };
	uint8_t key[NB_KEY_LEN];

	key_of(key, number);
	client_engine_wg_event(w->e, kind, key, &ep, w->now);
}

static void hear(struct world *w, enum client_signal_type type, unsigned number)
{
	struct client_signal_msg m = { .type = type, .ufrag = "abcdefghijklmnop", .pwd = "abcdefghijklmnopabcdefghijklmnop",
				       .has_session = true, .session = { 1, 2, 3, 4, 5 }, .version = "0.77.1" };
	uint8_t key[NB_KEY_LEN];

	if (type == CLIENT_SIGNAL_GO_IDLE)
		memset(&m, 0, sizeof m);
	m.type = type;
	key_of(key, number);
	client_engine_signal(w->e, key, &m, w->now);
}

static void pass(struct world *w, int64_t seconds)
{
	struct nb_time end = nb_time_add(w->now, seconds * NB_SEC);

	for (unsigned n = 0;; n++) {
		struct nb_time t = client_engine_deadline(w->e);

		assert_true(n < 10000);
		if (nb_time_before(end, t))
			break;
		if (nb_time_before(w->now, t))
			w->now = t;
		client_engine_timer(w->e, w->now);
	}
	w->now = end;
}

static const char *status_of(struct world *w, unsigned number, int64_t *since_s)
{
	static char text[16];
	Daemon__FullStatus s = DAEMON__FULL_STATUS__INIT;
	struct nb_arena a;

	nb_arena_init(&a, 1 << 20);
	assert_int_equal(client_engine_status(w->e, &s, &a, w->now, (struct nb_wall){ 1790000000 * NB_SEC }), 0);
	assert_true(s.n_peers >= number);
	snprintf(text, sizeof text, "%s", s.peers[number - 1]->connstatus);
	if (since_s)
		*since_s = s.peers[number - 1]->connstatusupdate->seconds;
	nb_arena_fini(&a);
	return text;
}

/* A thousand years of nothing: no offer, no timer. */
static void sleepers_cost_nothing(void **state)
{
	struct world *w = setup(CLIENT_LAZY_UNSET, true);
	int64_t since;

	(void)state;
	make_map(w, 3, true);
	sync(w);
	assert_int_equal(w->peers, 3);
	pass(w, 1000);
	assert_true(nb_time_is_never(client_engine_deadline(w->e)));
	assert_int_equal(w->offers, 0);
	for (unsigned i = 1; i <= 3; i++)
		assert_string_equal(status_of(w, i, &since), "Idle");
	assert_int_equal(since, -62135596800);	/* Go's zero time: never */
	/* Network, signal and relay events are nothing to them. */
	client_engine_signal_lost(w->e);
	client_engine_signal_ready(w->e, w->now);
	client_engine_hosts(w->e, &(struct nb_addr){ .family = 4, .ip = { 192, 0, 2, 1 } }, 1, true, w->now);
	pass(w, 1000);
	assert_int_equal(w->offers, 0);
	teardown(w);
}

static void a_packet_wakes_one(void **state)
{
	struct world *w = setup(CLIENT_LAZY_UNSET, true);
	int64_t since;

	(void)state;
	make_map(w, 3, true);
	sync(w);
	event(w, WG_EV_WANTED, 2);
	assert_int_equal(w->offers, 1);
	assert_string_equal(status_of(w, 2, NULL), "Connecting");
	assert_string_equal(status_of(w, 1, NULL), "Idle");
	event(w, WG_EV_WANTED, 2);
	assert_int_equal(w->offers, 1);
	/* It does not answer: as long as packets come it is called, and a minute longer. */
	for (int i = 0; i < 300; i++) {
		pass(w, 1);
		event(w, WG_EV_WANTED, 2);
	}
	assert_string_equal(status_of(w, 2, NULL), "Connecting");
	assert_in_range(w->offers, 5, 20);
	pass(w, 59);
	assert_int_equal(w->go_idles, 0);
	w->order[0] = 0;
	pass(w, 2);
	assert_int_equal(w->go_idles, 1);
	assert_string_equal(w->order, "rn");
	assert_string_equal(status_of(w, 2, &since), "Idle");
	assert_int_equal(since, 1790000000 - 1);
	pass(w, 60);
	assert_true(nb_time_is_never(client_engine_deadline(w->e)));
	/* And again. */
	w->offers = 0;
	event(w, WG_EV_WANTED, 2);
	assert_int_equal(w->offers, 1);
	teardown(w);
}

static void the_other_side_wakes(void **state)
{
	static const enum client_signal_type types[] = { CLIENT_SIGNAL_OFFER, CLIENT_SIGNAL_ANSWER, CLIENT_SIGNAL_CANDIDATE };

	(void)state;
	for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
		struct world *w = setup(CLIENT_LAZY_UNSET, true);

		make_map(w, 2, true);
		sync(w);
		hear(w, CLIENT_SIGNAL_GO_IDLE, 1);
		assert_string_equal(status_of(w, 1, NULL), "Idle");
		hear(w, types[i], 1);
		assert_string_equal(status_of(w, 1, NULL), "Connecting");
		assert_int_equal(w->answers, types[i] == CLIENT_SIGNAL_OFFER);
		/* It goes to sleep again: no answer is needed. */
		w->order[0] = 0;
		hear(w, CLIENT_SIGNAL_GO_IDLE, 1);
		assert_string_equal(status_of(w, 1, NULL), "Idle");
		assert_string_equal(w->order, "rn");
		assert_int_equal(w->go_idles, 0);
		teardown(w);
	}
	/* Heard although it sleeps here: our word to it was lost. */
	struct world *w = setup(CLIENT_LAZY_UNSET, true);

	make_map(w, 1, true);
	sync(w);
	event(w, WG_EV_HANDSHAKE, 1);
	assert_string_equal(status_of(w, 1, NULL), "Idle");
	event(w, WG_EV_ROAMED, 1);
	assert_string_equal(status_of(w, 1, NULL), "Connecting");
	teardown(w);
}

/* The order to sleep and our call pass each other: the call counts. */
static void crossing_orders(void **state)
{
	struct world *w = setup(CLIENT_LAZY_UNSET, true);

	(void)state;
	make_map(w, 1, true);
	sync(w);
	event(w, WG_EV_WANTED, 1);
	hear(w, CLIENT_SIGNAL_GO_IDLE, 1);
	assert_string_equal(status_of(w, 1, NULL), "Connecting");
	pass(w, 11);
	hear(w, CLIENT_SIGNAL_GO_IDLE, 1);
	assert_string_equal(status_of(w, 1, NULL), "Idle");
	teardown(w);
}

/* Peers that may not sleep: too old, target of forwarded connections. */
static void exceptions(void **state)
{
	struct world *w = setup(CLIENT_LAZY_UNSET, true);
	Management__ForwardingRule rule = MANAGEMENT__FORWARDING_RULE__INIT, *rules = &rule;
	uint8_t to[16] = { 100, 64, 1, 3 };

	(void)state;
	make_map(w, 4, true);
	w->peer[1].agentversion = (char *)(uintptr_t)"0.44.0";
	rule.has_translatedaddress = 1;
	rule.translatedaddress.data = to;
	rule.translatedaddress.len = 4;
	w->map.forwardingrules = &rules;
	w->map.n_forwardingrules = 1;
	sync(w);
	assert_int_equal(w->offers, 2);
	assert_string_equal(status_of(w, 1, NULL), "Idle");
	assert_string_equal(status_of(w, 2, NULL), "Connecting");
	assert_string_equal(status_of(w, 3, NULL), "Connecting");
	assert_string_equal(status_of(w, 4, NULL), "Idle");
	/* They are told to sleep in vain, and do not do it themselves. */
	hear(w, CLIENT_SIGNAL_GO_IDLE, 2);
	hear(w, CLIENT_SIGNAL_GO_IDLE, 3);
	pass(w, 2000);
	assert_string_equal(status_of(w, 2, NULL), "Connecting");
	assert_string_equal(status_of(w, 3, NULL), "Connecting");
	/* The forwarding ends, and a rule of a strange length means nobody. */
	rule.translatedaddress.len = 3;
	w->map.serial++;
	sync(w);
	pass(w, 1);
	pass(w, 60);
	assert_string_equal(status_of(w, 3, NULL), "Idle");
	assert_string_equal(status_of(w, 2, NULL), "Connecting");
	teardown(w);
}

static void the_setting_changes(void **state)
{
	struct world *w = setup(CLIENT_LAZY_UNSET, true);

	(void)state;
	make_map(w, 3, true);
	sync(w);
	event(w, WG_EV_WANTED, 1);
	make_map(w, 3, false);
	sync(w);
	assert_int_equal(w->offers, 3);
	pass(w, 2000);
	hear(w, CLIENT_SIGNAL_GO_IDLE, 1);
	for (unsigned i = 1; i <= 3; i++)
		assert_string_equal(status_of(w, i, NULL), "Connecting");
	assert_int_equal(w->go_idles, 0);
	/* Back again: who was not needed for long enough sleeps at once. */
	event(w, WG_EV_WANTED, 1);
	make_map(w, 3, true);
	sync(w);
	pass(w, 1);
	assert_string_equal(status_of(w, 1, NULL), "Connecting");
	assert_string_equal(status_of(w, 2, NULL), "Idle");
	assert_string_equal(status_of(w, 3, NULL), "Idle");
	assert_int_equal(w->go_idles, 2);
	teardown(w);
}

static void the_environment_wins(void **state)
{
	struct world *w = setup(CLIENT_LAZY_OFF, true);

	(void)state;
	make_map(w, 2, true);
	sync(w);
	assert_int_equal(w->offers, 2);
	teardown(w);
	w = setup(CLIENT_LAZY_ON, false);
	make_map(w, 2, false);
	sync(w);
	assert_int_equal(w->offers, 0);
	teardown(w);
	/* Not together with Rosenpass, as in stock. */
	w = setup(CLIENT_LAZY_ON, true);
	w->cfg.rosenpass_enabled = CLIENT_YES;
	make_map(w, 2, true);
	sync(w);
	assert_int_equal(w->offers, 2);
	teardown(w);
}

/* Nobody sleeps while there is no signal to wake it by. */
static void not_without_signal(void **state)
{
	struct world *w = setup(CLIENT_LAZY_UNSET, true);

	(void)state;
	make_map(w, 1, true);
	sync(w);
	event(w, WG_EV_WANTED, 1);
	client_engine_signal_lost(w->e);
	pass(w, 2000);
	assert_string_equal(status_of(w, 1, NULL), "Connecting");
	client_engine_signal_ready(w->e, w->now);
	pass(w, 1);
	assert_string_equal(status_of(w, 1, NULL), "Idle");
	assert_int_equal(w->go_idles, 1);
	teardown(w);
}

/* Peers come, go and change while they sleep, or while they do not. */
static void maps_and_sleep(void **state)
{
	struct world *w = setup(CLIENT_LAZY_UNSET, true);

	(void)state;
	make_map(w, 2, true);
	sync(w);
	event(w, WG_EV_WANTED, 1);
	/* Both changed: whoever was awake stays so. */
	make_map(w, 4, true);
	w->peer[0].agentversion = w->peer[1].agentversion = (char *)(uintptr_t)"0.78.0";
	sync(w);
	assert_int_equal(w->peers, 4);
	assert_int_equal(w->offers, 2);
	assert_string_equal(status_of(w, 1, NULL), "Connecting");
	assert_string_equal(status_of(w, 2, NULL), "Idle");
	event(w, WG_EV_WANTED, 4);
	make_map(w, 0, true);
	sync(w);
	assert_int_equal(w->peers, 0);
	event(w, WG_EV_WANTED, 4);
	pass(w, 2000);
	assert_int_equal(w->offers, 3);
	assert_int_equal(w->go_idles, 0);
	teardown(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sleepers_cost_nothing), cmocka_unit_test(a_packet_wakes_one), cmocka_unit_test(the_other_side_wakes),
		cmocka_unit_test(crossing_orders), cmocka_unit_test(exceptions), cmocka_unit_test(the_setting_changes),
		cmocka_unit_test(the_environment_wins), cmocka_unit_test(not_without_signal), cmocka_unit_test(maps_and_sleep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
