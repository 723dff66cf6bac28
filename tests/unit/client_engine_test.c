/* client_engine_test.c - network maps in, calls to the driver out: peers appear, change and vanish; maps that
 * are old, partial, malformed or move us; STUN and TURN servers; the status. No sockets, a fake clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/err.h"
#include "client/engine.h"
#include "client/engine_int.h"
#include "crypto/crypto.h"
#include "ice/stun.h"
#include "ice/turn_server.h"

#define MAX 16

struct world {
	struct client_engine *e;
	struct client_config cfg;
	struct nb_time now;
	uint8_t self[NB_KEY_LEN];
	/* what the driver would know */
	uint8_t peers[MAX][NB_KEY_LEN];
	size_t npeers, sets, removes, ifaces, restarts, events, lookups, turn_on, turn_off, offers, candidates;
	size_t allowed_of_last;
	unsigned last_lookup;
	char last_host[64];
	uint8_t dgram[2048];
	uint8_t *keep_first;
	size_t questions;
	size_t ndgram, dgrams, nat_asked, nat_told;
	uint8_t probe[128];		/* the last question about our NAT */
	struct nb_endpoint probe_to;
	struct nb_endpoint dgram_to;
	struct nb_prefix v4, v6;
	int iface_error;
	bool no_lookups;
	struct turn_server *turn;	/* gets what the engine sends; answers go to mail */
	uint8_t mail[2048];
	size_t nmail;
	size_t link_dials, hang_ups;
	unsigned link;			/* dialled last; what is said there goes to turn, too */
	struct relaymsg_url link_url;
	struct filter_table *filter;
	size_t filters, filter_before_peers;
};

static int op_iface(void *arg, const struct nb_prefix *v4, const struct nb_prefix *v6, int mtu)
{
	struct world *w = arg;

	assert_int_equal(mtu, 1280);
	w->ifaces++;
	w->v4 = *v4;
	memset(&w->v6, 0, sizeof w->v6);
	if (v6)
		w->v6 = *v6;
	return w->iface_error;
}

static size_t find(struct world *w, const uint8_t *key)
{
	for (size_t i = 0; i < w->npeers; i++)
		if (!memcmp(w->peers[i], key, NB_KEY_LEN))
			return i;
	return MAX;
}

static void op_peer_set(void *arg, const struct client_wg_peer *p)
{
	struct world *w = arg;

	w->sets++;
	w->allowed_of_last = p->nallowed;
	assert_int_equal(p->keepalive, 25);
	assert_int_equal(find(w, p->key), MAX);
	memcpy(w->peers[w->npeers++], p->key, NB_KEY_LEN);
}

static void op_peer_remove(void *arg, const uint8_t key[NB_KEY_LEN])
{
	struct world *w = arg;
	size_t i = find(w, key);

	assert_true(i < MAX);
	w->removes++;
	memmove(w->peers[i], w->peers[--w->npeers], NB_KEY_LEN);
}

static void op_key(void *arg, const uint8_t key[NB_KEY_LEN])
{
	(void)arg;
	(void)key;
}

static void op_endpoint(void *arg, const uint8_t key[NB_KEY_LEN], const struct wg_ep *ep, bool handshake)
{
	(void)arg;
	(void)key;
	(void)ep;
	(void)handshake;
}

static void op_filter(void *arg, struct filter_table *t)
{
	struct world *w = arg;

	/* Rules are there before the peers of their map. */
	w->filters++;
	w->filter_before_peers = w->npeers;
	filter_table_free(w->filter);
	w->filter = t;
}

static void op_deliver(void *arg, const struct wg_ep *from, struct nb_bytes data)
{
	(void)arg;
	(void)from;
	(void)data;
}

static void op_turn(void *arg, const struct nb_endpoint *server, bool on)
{
	struct world *w = arg;

	(void)server;
	if (on)
		w->turn_on++;
	else
		w->turn_off++;
}

static void op_dgram(void *arg, const struct nb_endpoint *to, const struct nb_addr *from, struct nb_bytes data)
{
	struct world *w = arg;

	(void)from;
	if (data.n == 100 && nb_get_be16(data.p + 20) == STUN_A_SOFTWARE) {	/* our NAT is being measured */
		w->nat_asked++;
		memcpy(w->probe, data.p, data.n);
		w->probe_to = *to;
		return;
	}
	w->dgrams++;
	w->questions += data.n == 20;	/* a Binding request without attributes */
	if (w->keep_first && data.n == 20) {
		memcpy(w->keep_first, data.p, 20);
		w->keep_first = NULL;
	}
	w->dgram_to = *to;
	w->ndgram = data.n;
	memcpy(w->dgram, data.p, data.n);
	if (w->turn) {
		const struct turn_flow flow = { .client = { nb_addr4(0xcb007105), 51820 } };

		turn_server_input(w->turn, &flow, data, w->now, (struct nb_wall){ 1790000000 * NB_SEC });
	}
}

static void op_signal(void *arg, const uint8_t key[NB_KEY_LEN], const struct client_signal_msg *m)
{
	struct world *w = arg;

	assert_true(find(w, key) < MAX);
	if (m->type == CLIENT_SIGNAL_OFFER)
		w->offers++;
	else if (m->type == CLIENT_SIGNAL_NAT)
		w->nat_told++;
	else if (m->type == CLIENT_SIGNAL_CANDIDATE)
		w->candidates++;
}

static int op_lookup(void *arg, unsigned id, const char *host, uint16_t port)
{
	struct world *w = arg;

	(void)port;
	if (w->no_lookups)
		return NB_E_FULL;
	w->lookups++;
	w->last_lookup = id;
	snprintf(w->last_host, sizeof w->last_host, "%s", host);
	return 0;
}

static void op_restart(void *arg, const char *why)
{
	struct world *w = arg;

	(void)why;
	w->restarts++;
}

static void op_link_dial(void *arg, unsigned id, bool turn, const struct relaymsg_url *url, const struct nb_addr *ip)
{
	struct world *w = arg;

	assert_true(turn && id >> 31 && !ip->family);
	w->link_dials++;
	w->link = id;
	w->link_url = *url;
}

static void op_link_send(void *arg, unsigned id, struct nb_bytes head, struct nb_bytes body)
{
	struct world *w = arg;

	assert_int_equal(id, w->link);
	assert_int_equal(body.n, 0);
	op_dgram(w, &(struct nb_endpoint){ 0 }, &(struct nb_addr){ 0 }, head);
}

static void op_link_hang_up(void *arg, unsigned id)
{
	struct world *w = arg;

	(void)id;
	w->hang_ups++;
}

static void op_changed(void *arg)
{
	(void)arg;
}

static void op_event(void *arg, const char *message)
{
	struct world *w = arg;

	assert_string_equal(message, "Network map updated");
	w->events++;
}

static const struct client_engine_ops ops = {
	.iface = op_iface, .peer_set = op_peer_set, .peer_remove = op_peer_remove, .filter = op_filter, .peer_reset = op_key,
	.peer_endpoint = op_endpoint, .deliver = op_deliver, .turn_server = op_turn, .dgram = op_dgram, .signal = op_signal,
	.lookup = op_lookup, .restart = op_restart, .changed = op_changed, .event = op_event,
	.link_dial = op_link_dial, .link_send = op_link_send, .link_hang_up = op_link_hang_up,
};

static uint8_t address6[17] = { 0xfd, 1, [15] = 9, [16] = 64 };

static Management__PeerConfig *own(void)
{
	static Management__PeerConfig c;

	management__peer_config__init(&c);
	c.address = (char *)(uintptr_t)"100.64.0.9/16";
	c.fqdn = (char *)(uintptr_t)"me.netbird.selfhosted";
	c.has_address_v6 = 1;
	c.address_v6.data = address6;
	c.address_v6.len = 17;
	return &c;
}

static struct world *setup(void)
{
	struct client_engine_config c = { .ops = &ops, .port = 51820, .random = nbc_random };
	Management__LoginResponse r = MANAGEMENT__LOGIN_RESPONSE__INIT;
	struct world *w = calloc(1, sizeof *w);
	uint8_t secret[NB_KEY_LEN];
	struct nb_addr host;

	nbc_init();
	w->now.ns = 100 * NB_SEC;
	client_config_init(&w->cfg, nbc_random, NULL);
	nbc_keypair(secret, w->self, nbc_random, NULL);
	c.arg = w;
	c.cfg = &w->cfg;
	memcpy(c.public_key, w->self, NB_KEY_LEN);
	w->e = client_engine_new(&c, w->now);
	r.peerconfig = own();
	assert_int_equal(client_engine_login(w->e, &r, w->now), 0);
	assert_int_equal(nb_addr_parse(&host, "203.0.113.5"), 0);
	client_engine_hosts(w->e, &host, 1, false, w->now);
	return w;
}

static void teardown(struct world *w)
{
	client_engine_free(w->e);
	filter_table_free(w->filter);
	client_config_fini(&w->cfg);
	free(w);
}

/* A map of n peers, numbered from first; text arrays live until the next call. */
struct map {
	Management__SyncResponse sync;
	Management__NetworkMap map;
	Management__RemotePeerConfig peer[MAX], *list[MAX];
	char key[MAX][NB_KEY_TEXT_LEN], ip[MAX][32], ip6[MAX][32], *ips[MAX][2];
};

static void key_of(uint8_t key[NB_KEY_LEN], unsigned number)
{
	memset(key, 0, NB_KEY_LEN);
	key[0] = (uint8_t)number;
	key[31] = 0x40;
}

static struct map *make_map(uint64_t serial, unsigned first, size_t n)
{
	static struct map m;
	uint8_t key[NB_KEY_LEN];

	memset(&m, 0, sizeof m);
	management__sync_response__init(&m.sync);
	management__network_map__init(&m.map);
	m.sync.networkmap = &m.map;
	m.map.has_serial = 1;
	m.map.serial = serial;
	m.map.peerconfig = own();
	m.map.remotepeers = m.list;
	m.map.n_remotepeers = n;
	m.map.has_remotepeersisempty = m.map.remotepeersisempty = n == 0;
	for (size_t i = 0; i < n; i++) {
		Management__RemotePeerConfig *p = m.list[i] = &m.peer[i];

		management__remote_peer_config__init(p);
		key_of(key, first + (unsigned)i);
		nbc_key_format(m.key[i], key);
		snprintf(m.ip[i], sizeof m.ip[i], "100.64.1.%u/32", first + (unsigned)i);
		snprintf(m.ip6[i], sizeof m.ip6[i], "fd01::%u/128", first + (unsigned)i);
		m.ips[i][0] = m.ip[i];
		m.ips[i][1] = m.ip6[i];
		p->wgpubkey = m.key[i];
		p->allowedips = m.ips[i];
		p->n_allowedips = 2;
		p->agentversion = (char *)(uintptr_t)"0.77.1";
		p->fqdn = (char *)(uintptr_t)"peer.netbird.selfhosted";
	}
	return &m;
}

static void sync(struct world *w, struct map *m)
{
	client_engine_sync(w->e, &m->sync, w->now);
}

static void peers_come_and_go(void **state)
{
	struct world *w = setup();
	uint8_t key[NB_KEY_LEN];

	(void)state;
	assert_int_equal(w->ifaces, 1);
	assert_int_equal(w->v4.len, 16);
	assert_int_equal(w->v6.len, 64);
	sync(w, make_map(5, 1, 3));
	assert_int_equal(w->npeers, 3);
	assert_int_equal(w->allowed_of_last, 2);
	assert_int_equal(w->offers, 3);
	assert_true(client_engine_has_map(w->e));
	/* The same map again does nothing but tell. */
	sync(w, make_map(5, 1, 3));
	assert_int_equal(w->sets, 3);
	assert_int_equal(w->removes, 0);
	/* 1 leaves, 4 comes. */
	sync(w, make_map(6, 2, 3));
	assert_int_equal(w->sets, 4);
	assert_int_equal(w->removes, 1);
	key_of(key, 1);
	assert_int_equal(find(w, key), MAX);
	key_of(key, 4);
	assert_true(find(w, key) < MAX);
	sync(w, make_map(7, 0, 0));
	assert_int_equal(w->npeers, 0);
	assert_int_equal(w->events, 4);
	teardown(w);
}

static void a_changed_peer_is_made_anew(void **state)
{
	struct world *w = setup();
	struct map *m;

	(void)state;
	sync(w, make_map(1, 1, 2));
	m = make_map(2, 1, 2);
	m->peer[1].agentversion = (char *)(uintptr_t)"0.78.0";
	sync(w, m);
	assert_int_equal(w->sets, 3);
	assert_int_equal(w->removes, 1);
	m = make_map(3, 1, 2);
	m->peer[1].agentversion = (char *)(uintptr_t)"0.78.0";
	m->peer[0].n_allowedips = 1;
	sync(w, m);
	assert_int_equal(w->sets, 4);
	assert_int_equal(w->npeers, 2);
	teardown(w);
}

static void what_is_no_map_changes_nothing(void **state)
{
	struct world *w = setup();
	struct map *m;

	(void)state;
	sync(w, make_map(9, 1, 2));
	/* older */
	sync(w, make_map(8, 5, 1));
	assert_int_equal(w->npeers, 2);
	/* an empty list that is not said to be empty */
	m = make_map(10, 0, 0);
	m->map.remotepeersisempty = 0;
	sync(w, m);
	assert_int_equal(w->npeers, 2);
	/* configuration only */
	m = make_map(11, 0, 0);
	m->sync.networkmap = NULL;
	sync(w, m);
	assert_int_equal(w->npeers, 2);
	/* another kind of map */
	m = make_map(12, 0, 0);
	m->sync.has_version = 1;
	m->sync.version = 1;
	sync(w, m);
	assert_int_equal(w->npeers, 2);
	assert_int_equal(w->restarts, 0);
	teardown(w);
}

/* A server that was restored from a backup counts from an earlier serial. */
static void a_new_stream_may_start_lower(void **state)
{
	struct world *w = setup();

	(void)state;
	sync(w, make_map(9, 1, 2));
	sync(w, make_map(5, 1, 1));
	assert_int_equal(w->npeers, 2);
	client_engine_sync_begins(w->e);
	sync(w, make_map(5, 1, 1));
	assert_int_equal(w->npeers, 1);
	sync(w, make_map(4, 1, 2));
	assert_int_equal(w->npeers, 1);
	teardown(w);
}

static void malformed_peers_are_skipped_alone(void **state)
{
	struct world *w = setup();
	struct map *m = make_map(1, 1, 5);

	(void)state;
	m->peer[0].wgpubkey = (char *)(uintptr_t)"short";
	m->peer[1].allowedips[0] = (char *)(uintptr_t)"nonsense";
	m->peer[1].n_allowedips = 1;
	m->peer[2].wgpubkey = NULL;
	nbc_key_format(m->key[3], w->self);	/* ourselves: no peer */
	sync(w, m);
	assert_int_equal(w->npeers, 1);
	teardown(w);
}

static void another_address_restarts(void **state)
{
	struct world *w = setup();
	struct map *m = make_map(1, 1, 1);

	(void)state;
	m->map.peerconfig->address = (char *)(uintptr_t)"100.64.0.10/16";
	sync(w, m);
	assert_int_equal(w->restarts, 1);
	assert_int_equal(w->npeers, 0);
	address6[15] = 8;
	sync(w, make_map(2, 1, 1));
	address6[15] = 9;
	assert_int_equal(w->restarts, 2);
	teardown(w);
}

static void bad_own_addresses(void **state)
{
	static const char *const bad[] = { "", "100.64.0.9/33", "fd00::1/64", "x" };
	Management__LoginResponse r = MANAGEMENT__LOGIN_RESPONSE__INIT;
	struct world *w = setup();

	(void)state;
	r.peerconfig = own();
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		r.peerconfig->address = (char *)(uintptr_t)bad[i];
		assert_int_equal(client_engine_login(w->e, &r, w->now), NB_E_BAD);
	}
	r.peerconfig->address = NULL;
	assert_int_equal(client_engine_login(w->e, &r, w->now), NB_E_BAD);
	r.peerconfig = own();
	w->iface_error = NB_E_PERM;
	assert_int_equal(client_engine_login(w->e, &r, w->now), NB_E_PERM);
	teardown(w);
}

static void give_stun(struct world *w, const char *uri)
{
	Management__SyncResponse s = MANAGEMENT__SYNC_RESPONSE__INIT;
	Management__NetbirdConfig c = MANAGEMENT__NETBIRD_CONFIG__INIT;
	Management__HostConfig h = MANAGEMENT__HOST_CONFIG__INIT, *hosts[] = { &h };

	h.uri = (char *)(uintptr_t)uri;
	c.stuns = hosts;
	c.n_stuns = 1;
	s.netbirdconfig = &c;
	client_engine_sync(w->e, &s, w->now);
}

static bool stun_available(struct world *w)
{
	Daemon__FullStatus s = DAEMON__FULL_STATUS__INIT;
	struct nb_arena a;
	bool ok;

	nb_arena_init(&a, 1 << 20);
	assert_int_equal(client_engine_status(w->e, &s, &a, w->now, (struct nb_wall){ 1790000000 * NB_SEC }), 0);
	assert_int_equal(s.n_relays, 1);
	ok = s.relays[0]->available;
	nb_arena_fini(&a);
	return ok;
}

static void a_stun_server_is_looked_up_and_checked(void **state)
{
	struct world *w = setup();
	struct nb_endpoint server;
	struct nb_addr addr = nb_addr4(0x01020304);
	struct stun_msg request;
	struct stun_enc enc;
	struct nb_buf answer;

	(void)state;
	give_stun(w, "stun:stun.example.com:3479");
	assert_string_equal(w->last_host, "stun.example.com");
	client_engine_resolved(w->e, w->last_lookup + 1, &addr, 1, w->now);	/* not ours */
	assert_int_equal(w->dgrams, 0);
	client_engine_resolved(w->e, w->last_lookup, &addr, 1, w->now);
	assert_int_equal(w->dgrams, 2);		/* for our mapped address, and whether it works */
	assert_int_equal(w->dgram_to.port, 3479);
	assert_false(stun_available(w));
	assert_int_equal(stun_decode(&request, nb_bytes(w->dgram, w->ndgram)), 0);
	nb_buf_init(&answer, 1000);
	enc = stun_begin(&answer, STUN_SUCCESS, STUN_BINDING, stun_txid(&request));
	stun_put_xor_addr(&enc, STUN_A_XOR_MAPPED_ADDRESS, &w->dgram_to);
	assert_int_equal(stun_end(&enc), 0);
	server = w->dgram_to;
	server.port++;
	client_engine_dgram(w->e, &server, NULL, nb_buf_view(&answer), w->now);	/* from elsewhere */
	assert_false(stun_available(w));
	client_engine_dgram(w->e, &w->dgram_to, NULL, nb_buf_view(&answer), w->now);
	assert_true(stun_available(w));
	nb_buf_fini(&answer);
	teardown(w);
}

/* Let time pass until the engine asks about its NAT; false: it does not within a minute. */
static bool next_probe(struct world *w)
{
	struct nb_time end = nb_time_add(w->now, 60 * NB_SEC);
	size_t asked = w->nat_asked;

	while (w->nat_asked == asked && nb_time_before(client_engine_deadline(w->e), end)) {
		if (nb_time_before(w->now, client_engine_deadline(w->e)))
			w->now = client_engine_deadline(w->e);
		client_engine_timer(w->e, w->now);
	}
	return w->nat_asked > asked;
}

/* The server answers the last question: it sees us at this port of 198.51.100.7. */
static void answer_probe(struct world *w, uint16_t port)
{
	struct nb_endpoint mapped = { nb_addr4(0xc6336407), port };
	uint8_t mem[128];
	struct stun_enc e;
	struct nb_buf b;

	nb_buf_fixed(&b, mem, sizeof mem);
	e = stun_begin(&b, STUN_SUCCESS, STUN_BINDING, w->probe + 8);
	stun_put_xor_addr(&e, STUN_A_XOR_MAPPED_ADDRESS, &mapped);
	assert_int_equal(stun_end(&e), 0);
	client_engine_dgram(w->e, &w->probe_to, NULL, nb_buf_view(&b), w->now);
}

static void nat_is(struct world *w, const char *udp, const char *mapped)
{
	Daemon__FullStatus s = DAEMON__FULL_STATUS__INIT;
	struct nb_arena a;

	nb_arena_init(&a, 1 << 20);
	assert_int_equal(client_engine_status(w->e, &s, &a, w->now, (struct nb_wall){ 1790000000 * NB_SEC }), 0);
	assert_string_equal(s.localpeerstate->nestbox->udp, udp);
	assert_string_equal(s.localpeerstate->nestbox->mapped ? s.localpeerstate->nestbox->mapped : "", mapped);
	nb_arena_fini(&a);
}

/* Once when there is a server, once more after each change of network, never by itself; our own peers are told. */
static void the_nat_is_measured_and_told(void **state)
{
	struct client_signal_msg offer = { .type = CLIENT_SIGNAL_OFFER, .ufrag = "ufrag", .pwd = "password", .wg_port = 1 };
	struct world *w = setup();
	struct nb_addr addr = nb_addr4(0x01020304), host = nb_addr4(0xcb007106);
	uint8_t key[NB_KEY_LEN];

	(void)state;
	sync(w, make_map(1, 1, 2));
	for (unsigned i = 1; i <= 2; i++) {	/* the first is one of ours, the second stock's */
		key_of(key, i);
		offer.rare_checks = i == 1;
		client_engine_signal(w->e, key, &offer, w->now);
	}
	give_stun(w, "stun:1.2.3.4");
	client_engine_resolved(w->e, w->last_lookup, &addr, 1, w->now);
	nat_is(w, "unknown", "");
	assert_true(next_probe(w));
	answer_probe(w, 40000);
	assert_int_equal(w->nat_told, 0);
	assert_int_equal(w->probe_to.port, 40000);	/* our own mapping, for hairpinning */
	assert_false(next_probe(w));
	nat_is(w, "works", "198.51.100.7:40000");
	assert_int_equal(w->nat_told, 1);
	/* Another network: what was known is forgotten; it is asked again. */
	client_engine_hosts(w->e, &host, 1, true, w->now);
	nat_is(w, "unknown", "");
	assert_true(next_probe(w));
	answer_probe(w, 40000);
	assert_false(next_probe(w));
	nat_is(w, "works", "198.51.100.7:40000");
	assert_int_equal(w->nat_told, 2);	/* the offer after the change could say nothing about it */
	/* And one that lets no UDP out: nobody answers, and it is said once. */
	client_engine_hosts(w->e, &host, 1, true, w->now);
	w->nat_asked = 0;
	for (int i = 0; i < 100 && next_probe(w); i++)
		;
	assert_int_equal(w->nat_asked, 4);
	nat_is(w, "blocked", "");
	assert_int_equal(w->nat_told, 3);
	teardown(w);
}

static void what_is_known_of_one_peer(void **state)
{
	struct client_signal_msg m = { .type = CLIENT_SIGNAL_OFFER, .ufrag = "ufrag", .pwd = "password", .rare_checks = true };
	static const char *const good[] = { "peer", "PEER.netbird.selfhosted", "100.64.1.1", "fd01::1", NULL };
	static const char *const bad[] = { "", "pee", "peer.netbird", "100.64.1.2", "me" };
	const struct nb_wall wall = { 1790000000 * NB_SEC };
	struct world *w = setup();
	Nestbox__PeerPaths *p = NULL;
	struct nb_arena a;
	uint8_t key[NB_KEY_LEN];
	char key_text[NB_KEY_TEXT_LEN];

	(void)state;
	sync(w, make_map(1, 1, 1));
	key_of(key, 1);
	nbc_key_format(key_text, key);
	nb_arena_init(&a, 1 << 20);
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(client_engine_paths(w->e, good[i] ? good[i] : key_text, &p, &a, w->now, wall), 0);
		assert_string_equal(p->ip, "100.64.1.1");
	}
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(client_engine_paths(w->e, bad[i], &p, &a, w->now, wall), NB_E_NOTFOUND);
	assert_false(p->answered);
	assert_non_null(strstr(p->sentence, "the other agent has not answered"));
	assert_int_equal(p->n_pairs, 0);
	/* The peer answers, and says what its NAT does. */
	m.nat = (struct ice_nat_report){ .udp = ICE_NAT_UDP_WORKS, .mapping = ICE_NAT_MAP_ADDRESS };
	client_engine_signal(w->e, key, &m, w->now);
	m.type = CLIENT_SIGNAL_CANDIDATE;
	strcpy(m.candidate, "1 1 udp 2130706431 203.0.113.77 51820 typ host");
	client_engine_signal(w->e, key, &m, w->now);
	assert_int_equal(client_engine_paths(w->e, "peer", &p, &a, w->now, wall), 0);
	assert_true(p->answered && p->nestbox);
	assert_string_equal(p->there->mapping, "address-dependent");
	assert_string_equal(p->relay_state, "none");
	assert_string_equal(p->relay_error, "the management server names no relay");
	assert_int_equal(p->n_pairs, 1);
	assert_string_equal(p->pairs[0]->local, "203.0.113.5:51820");
	assert_string_equal(p->pairs[0]->remote, "203.0.113.77:51820");
	assert_string_equal(p->path, "none");
	/* A message about the NAT alone replaces it. */
	m.type = CLIENT_SIGNAL_NAT;
	m.nat.udp = ICE_NAT_UDP_BLOCKED;
	client_engine_signal(w->e, key, &m, w->now);
	assert_int_equal(client_engine_paths(w->e, "peer", &p, &a, w->now, wall), 0);
	assert_string_equal(p->there->udp, "blocked");
	assert_non_null(strstr(p->sentence, "UDP is blocked at the other end"));
	nb_arena_fini(&a);
	teardown(w);
}

static void a_silent_stun_server_is_tried_again(void **state)
{
	struct world *w = setup();
	struct nb_addr addr = nb_addr4(0x01020304);

	(void)state;
	give_stun(w, "stun:1.2.3.4");
	client_engine_resolved(w->e, w->last_lookup, &addr, 1, w->now);
	/* Six for the mapped address and then no more, five checks, and five again half a minute later. */
	for (int i = 0; i < 100 && w->dgrams < 14; i++) {
		assert_false(nb_time_is_never(client_engine_deadline(w->e)));
		w->now = client_engine_deadline(w->e);
		client_engine_timer(w->e, w->now);
	}
	assert_int_equal(w->dgrams, 14);
	assert_true(w->now.ns - 100 * NB_SEC > 30 * NB_SEC);
	assert_false(stun_available(w));
	teardown(w);
}

static void a_lookup_that_cannot_begin_is_tried_again(void **state)
{
	struct world *w = setup();

	(void)state;
	w->no_lookups = true;
	give_stun(w, "stun:stun.example.com");
	assert_int_equal(w->lookups, 0);
	w->no_lookups = false;
	for (int i = 0; i < 3 && !w->lookups; i++) {
		assert_true(nb_time_before(w->now, client_engine_deadline(w->e)));
		assert_false(nb_time_is_never(client_engine_deadline(w->e)));
		w->now = client_engine_deadline(w->e);
		client_engine_timer(w->e, w->now);
	}
	assert_int_equal(w->lookups, 1);
	teardown(w);
}

static void give_turns(struct world *w, const char *const *uris, size_t n)
{
	Management__SyncResponse s = MANAGEMENT__SYNC_RESPONSE__INIT;
	Management__NetbirdConfig c = MANAGEMENT__NETBIRD_CONFIG__INIT;
	Management__ProtectedHostConfig p[8], *list[8];
	Management__HostConfig h[8];

	for (size_t i = 0; i < n; i++) {
		management__protected_host_config__init(&p[i]);
		management__host_config__init(&h[i]);
		h[i].uri = (char *)(uintptr_t)uris[i];
		p[i].hostconfig = &h[i];
		p[i].user = (char *)(uintptr_t)"alice";
		p[i].password = (char *)(uintptr_t)"wonder";
		list[i] = &p[i];
	}
	c.turns = list;
	c.n_turns = n;
	s.netbirdconfig = &c;
	client_engine_sync(w->e, &s, w->now);
}

/* More servers than allocations fit: the last one waits, without keeping us busy. */
static void too_many_turn_servers(void **state)
{
	static const char *const uris[] = { "turn:192.0.2.1", "turn:192.0.2.2", "turn:192.0.2.3", "turn:192.0.2.4",
					    "turn:192.0.2.5" };
	struct world *w = setup();
	struct nb_addr addr = nb_addr4(0xc0000201);
	size_t rounds = 0;
	struct nb_time end;

	(void)state;
	give_turns(w, uris, 5);
	assert_int_equal(w->lookups, 5);
	for (unsigned i = 0; i < 5; i++)
		client_engine_resolved(w->e, w->last_lookup - 4 + i, &addr, 1, w->now);
	assert_int_equal(w->turn_on, CLIENT_TURN_MAX);
	end = nb_time_add(w->now, 300 * NB_SEC);
	while (nb_time_before(client_engine_deadline(w->e), end)) {
		w->now = client_engine_deadline(w->e);
		client_engine_timer(w->e, w->now);
		assert_true(++rounds < 500);
	}
	teardown(w);
}

/* Servers over TCP are not for us and do not look like faults in the status. */
static void wait_ms(struct world *w, int64_t ms)
{
	w->now = nb_time_add_ms(w->now, ms);
	client_engine_timer(w->e, w->now);
}

/* They are tried when UDP has had its chance; TLS over UDP is not spoken. */
static void servers_over_tcp(void **state)
{
	static const char *const uris[] = { "turn:192.0.2.1:3478?transport=tcp", "turn:192.0.2.1:3478?transport=udp",
					    "turns:relay.example:443?transport=tcp",
					    "turns:192.0.2.2?transport=udp", "turns:[2001:db8::1]" };
	struct world *w = setup();

	(void)state;
	give_turns(w, uris, 5);
	assert_int_equal(w->e->nservers, 4);
	assert_int_equal(w->lookups, 1);
	wait_ms(w, 399);
	assert_int_equal(w->link_dials, 0);
	wait_ms(w, 1);
	assert_int_equal(w->link_dials, 3);
	assert_string_equal(w->link_url.host, "2001:db8::1");
	assert_int_equal(w->link_url.port, 5349);
	assert_true(w->link_url.tls);
	/* The first connection fails, and is tried again ever later. */
	for (int64_t ms = 300; ms < 5000; ms *= 2) {
		size_t before = w->link_dials;

		client_engine_link_lost(w->e, w->link, "refused", w->now);
		wait_ms(w, ms - 1);
		assert_int_equal(w->link_dials, before);
		wait_ms(w, 1);
		assert_true(w->link_dials > before);
	}
	/* Over UDP there is no allocation either, so there is nothing to give back but connections. */
	w->hang_ups = 0;
	give_turns(w, uris + 1, 1);
	assert_int_equal(w->hang_ups, 3);
	teardown(w);
}

static int turn_open(void *ctx, struct turn_relay *r)
{
	(void)ctx, (void)r;
	return 0;
}

static void turn_close(void *ctx, struct turn_relay *r)
{
	(void)ctx, (void)r;
}

static void turn_relay(void *ctx, struct turn_relay *r, const struct nb_endpoint *peer, struct nb_bytes data)
{
	(void)ctx, (void)r, (void)peer, (void)data;
}

static void turn_reply(void *ctx, const struct turn_flow *to, struct nb_bytes head, struct nb_bytes body,
		       struct nb_bytes tail)
{
	struct world *w = ctx;

	(void)to, (void)body;
	assert_true(head.n + tail.n <= sizeof w->mail);
	memcpy(w->mail, head.p, head.n);
	w->nmail = head.n;
	if (tail.n)
		memcpy(w->mail + w->nmail, tail.p, tail.n);
	w->nmail += tail.n;
}

static size_t allocations(const struct world *w)
{
	struct turn_server_stats s;

	turn_server_stats(w->turn, &s);
	return s.allocations;
}

static void start_turn(struct world *w)
{
	static const struct turn_server_ops turn_ops = { turn_open, turn_close, turn_relay, turn_reply };
	static const struct turn_user user = { "alice", "wonder" };
	struct turn_server_config c = { .realm = "r", .users = &user, .nusers = 1, .relay4 = nb_addr4(0xc0000201),
					.port_min = 49152, .port_max = 49200, .random = nbc_random };

	turn_server_free(w->turn);
	w->turn = turn_server_new(&c, &turn_ops, w);
	assert_non_null(w->turn);
}

static const struct nb_endpoint turn_at = { { .family = 4, .ip = { 192, 0, 2, 1 } }, 3478 };

/* What the server answered reaches the engine, until nobody says anything. */
static void pass_mail(struct world *w)
{
	while (w->nmail) {
		uint8_t copy[sizeof w->mail];
		size_t n = w->nmail;

		memcpy(copy, w->mail, n);
		w->nmail = 0;
		if (w->link)
			client_engine_link_message(w->e, w->link, nb_bytes(copy, n), w->now);
		else
			client_engine_dgram(w->e, &turn_at, NULL, nb_bytes(copy, n), w->now);
	}
}

static struct world *with_allocation(void)
{
	static const char *const uri = "turn:192.0.2.1";
	struct world *w = setup();

	start_turn(w);
	give_turns(w, &uri, 1);
	client_engine_resolved(w->e, w->last_lookup, &turn_at.addr, 1, w->now);
	pass_mail(w);
	assert_int_equal(allocations(w), 1);
	return w;
}

static void end_turn(struct world *w)
{
	turn_server_free(w->turn);
	w->turn = NULL;
	teardown(w);
}

/* A server keeps an allocation to its port for ten minutes, and refuses the next run another one meanwhile. */
static void an_allocation_is_given_back_at_the_end(void **state)
{
	struct world *w = with_allocation();

	(void)state;
	client_engine_stop(w->e, w->now);
	assert_int_equal(allocations(w), 0);
	end_turn(w);
}

/* One over TCP ends with its connection, and is made again on the next. */
static void an_allocation_over_tcp(void **state)
{
	static const char *const uri = "turn:192.0.2.1?transport=tcp";
	struct world *w = setup();

	(void)state;
	start_turn(w);
	give_turns(w, &uri, 1);
	wait_ms(w, 0);
	assert_int_equal(w->link_dials, 1);
	client_engine_link_opened(w->e, w->link, &turn_at.addr, 0, w->now);
	pass_mail(w);
	assert_int_equal(allocations(w), 1);
	assert_int_equal(w->turn_on, 0);
	assert_int_equal(w->e->net.relayed[0].addr.family, 4);
	assert_int_equal(w->e->net.relayed_priority[0], 65534 << 8 | 255);
	start_turn(w);
	client_engine_link_lost(w->e, w->link, "", w->now);
	assert_int_equal(w->e->net.relayed[0].addr.family, 0);
	wait_ms(w, 300);
	assert_int_equal(w->link_dials, 2);
	client_engine_link_opened(w->e, w->link, &turn_at.addr, 0, w->now);
	pass_mail(w);
	assert_int_equal(allocations(w), 1);
	client_engine_stop(w->e, w->now);
	assert_int_equal(allocations(w), 0);
	end_turn(w);
}

/* When a path through TURN dies the allocation is asked after; one that still exists stays, a restarted server gives
 * another at once. */
static void a_forgotten_allocation_is_replaced(void **state)
{
	struct world *w = with_allocation();
	size_t on = w->turn_on;

	(void)state;
	client_servers_doubt(w->e, w->now);
	pass_mail(w);
	client_engine_timer(w->e, w->now);
	assert_int_equal(w->turn_on, on);
	assert_int_equal(allocations(w), 1);
	start_turn(w);
	assert_int_equal(allocations(w), 0);
	client_servers_doubt(w->e, w->now);
	pass_mail(w);
	client_engine_timer(w->e, w->now);
	pass_mail(w);
	assert_int_equal(w->turn_on, on + 1);
	assert_int_equal(allocations(w), 1);
	end_turn(w);
}

static void unusable_servers_do_no_harm(void **state)
{
	static const char *const bad[] = { "stun", "stun:", "http://x", "turn://host", "stun:host:0", "stun:host:99999", "stun:[::1", "" };
	struct world *w = setup();

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		give_stun(w, bad[i]);
	sync(w, make_map(1, 1, 1));
	assert_int_equal(w->npeers, 1);
	teardown(w);
}

static void strangers_and_our_own_overlay_are_ignored(void **state)
{
	struct world *w = setup();
	struct client_signal_msg m = { .type = CLIENT_SIGNAL_OFFER, .ufrag = "abcdefghijklmnop",
				       .pwd = "abcdefghijklmnopabcdefghijklmnop" };
	struct nb_endpoint inside;
	uint8_t key[NB_KEY_LEN], junk[64] = { 0 };

	(void)state;
	sync(w, make_map(1, 1, 1));
	key_of(key, 9);
	client_engine_signal(w->e, key, &m, w->now);
	assert_int_equal(nb_endpoint_parse(&inside, "100.64.7.7:51820"), 0);
	junk[1] = 1;
	memcpy(junk + 4, "\x21\x12\xa4\x42", 4);
	client_engine_dgram(w->e, &inside, NULL, nb_bytes(junk, 20), w->now);
	client_engine_dgram(w->e, &inside, NULL, nb_bytes(junk, 0), w->now);
	client_engine_wg_event(w->e, WG_EV_HANDSHAKE, key, NULL, w->now);
	assert_int_equal(client_engine_peers(w->e), 1);
	teardown(w);
}

static void an_offer_is_answered_with_candidates(void **state)
{
	struct world *w = setup();
	struct client_signal_msg m = { .type = CLIENT_SIGNAL_OFFER, .ufrag = "abcdefghijklmnop", .has_session = true,
				       .pwd = "abcdefghijklmnopabcdefghijklmnop", .version = "0.77.1" };
	uint8_t key[NB_KEY_LEN];

	(void)state;
	sync(w, make_map(1, 1, 1));
	key_of(key, 1);
	client_engine_signal(w->e, key, &m, w->now);
	assert_true(w->candidates >= 1);
	teardown(w);
}

/* One question to the server serves all peers: those that are there, and those that come while the answer is fresh. */
static void one_question_serves_all_peers(void **state)
{
	struct world *w = setup();
	struct client_signal_msg m = { .type = CLIENT_SIGNAL_OFFER, .ufrag = "abcdefghijklmnop", .has_session = true,
				       .pwd = "abcdefghijklmnopabcdefghijklmnop", .version = "0.77.1" };
	struct nb_endpoint mapped = { nb_addr4(0xc6336407), 40000 };
	struct nb_addr server = nb_addr4(0x01020304);
	struct stun_msg request;
	struct stun_enc enc;
	uint8_t key[NB_KEY_LEN], first[2048];
	struct nb_buf answer;
	size_t before;

	(void)state;
	give_stun(w, "stun:1.2.3.4");
	w->keep_first = first;
	client_engine_resolved(w->e, w->last_lookup, &server, 1, w->now);
	assert_int_equal(w->dgrams, 2);
	sync(w, make_map(1, 1, MAX));
	for (unsigned i = 1; i <= MAX; i++) {
		key_of(key, i);
		client_engine_signal(w->e, key, &m, w->now);
		if (i != MAX / 2)
			continue;
		before = w->candidates;
		assert_int_equal(stun_decode(&request, nb_bytes(first, 20)), 0);
		nb_buf_init(&answer, 1000);
		enc = stun_begin(&answer, STUN_SUCCESS, STUN_BINDING, stun_txid(&request));
		stun_put_xor_addr(&enc, STUN_A_XOR_MAPPED_ADDRESS, &mapped);
		assert_int_equal(stun_end(&enc), 0);
		client_engine_dgram(w->e, &w->dgram_to, NULL, nb_buf_view(&answer), w->now);
		nb_buf_fini(&answer);
		assert_int_equal(w->candidates, before + MAX / 2);
	}
	assert_int_equal(w->candidates, 2 * MAX);	/* each has heard of our own address and of the mapped one */
	assert_int_equal(w->dgrams, 2);
	/* Half a minute later the answer is no longer fresh: the next session asks, once, and has the old one meanwhile. */
	w->now = nb_time_add(w->now, 26 * NB_SEC);
	m.session[0] = 1;
	for (unsigned i = 1; i <= 3; i++) {
		key_of(key, i);
		client_engine_signal(w->e, key, &m, w->now);
	}
	assert_int_equal(w->candidates, 2 * MAX + 6);
	assert_int_equal(w->questions, 3);
	teardown(w);
}

static void a_mapping_reaches_every_session(void **state)
{
	struct world *w = setup();
	struct client_signal_msg m = { .type = CLIENT_SIGNAL_OFFER, .ufrag = "abcdefghijklmnop", .has_session = true,
				       .pwd = "abcdefghijklmnopabcdefghijklmnop", .version = "0.77.1" };
	struct nb_endpoint mapped = { nb_addr4(0xcb007109), 40001 };
	uint8_t key[NB_KEY_LEN];
	unsigned before;

	(void)state;
	sync(w, make_map(1, 1, 2));
	for (unsigned i = 1; i <= 2; i++) {
		key_of(key, i);
		client_engine_signal(w->e, key, &m, w->now);
	}
	before = w->candidates;
	client_engine_mapped(w->e, &mapped, w->now);
	assert_int_equal(w->candidates, before + 2);
	client_engine_mapped(w->e, &mapped, w->now);
	assert_int_equal(w->candidates, before + 2);
	teardown(w);
}

static void status_shows_peers_in_order(void **state)
{
	Daemon__FullStatus s = DAEMON__FULL_STATUS__INIT;
	struct world *w = setup();
	struct nb_arena a;

	(void)state;
	sync(w, make_map(1, 1, 3));
	nb_arena_init(&a, 1 << 20);
	assert_int_equal(client_engine_status(w->e, &s, &a, w->now, (struct nb_wall){ 1790000000 * NB_SEC }), 0);
	assert_string_equal(s.localpeerstate->ip, "100.64.0.9/16");
	assert_string_equal(s.localpeerstate->ipv6, "fd01::9/64");
	assert_int_equal(s.n_peers, 3);
	assert_string_equal(s.peers[0]->ip, "100.64.1.1");
	assert_string_equal(s.peers[2]->ipv6, "fd01::3");
	assert_string_equal(s.peers[1]->connstatus, "Connecting");
	nb_arena_fini(&a);
	teardown(w);
}

/* --- access rules --- */

struct rule {
	const char *ip;
	int protocol, action;
	const char *port;
	int lo, hi;		/* PortInfo: -1 none; hi -1: a single port */
	int prefix;		/* 0: none; 4, 6: a source prefix of ip in its place; 1: one of a strange length */
	bool out;
};

#define RULES_MAX 8

/* Give the map these rules. */
static void put_rules(struct map *m, const struct rule *r, size_t n)
{
	static Management__FirewallRule rules[RULES_MAX], *list[RULES_MAX];
	static Management__PortInfo info[RULES_MAX];
	static Management__PortInfo__Range range[RULES_MAX];
	static ProtobufCBinaryData prefix[RULES_MAX];
	static uint8_t bytes[RULES_MAX][17];

	assert_true(n <= RULES_MAX);
	for (size_t i = 0; i < n; i++) {
		Management__FirewallRule *o = list[i] = &rules[i];
		struct nb_addr a;

		management__firewall_rule__init(o);
		o->peerip = (char *)(uintptr_t)r[i].ip;
		o->has_direction = o->has_protocol = o->has_action = o->has_policyid = 1;
		o->direction = r[i].out ? MANAGEMENT__RULE_DIRECTION__OUT : MANAGEMENT__RULE_DIRECTION__IN;
		o->protocol = (Management__RuleProtocol)r[i].protocol;
		o->action = (Management__RuleAction)r[i].action;
		o->port = (char *)(uintptr_t)r[i].port;
		o->policyid.data = (uint8_t *)(uintptr_t)"policy";
		o->policyid.len = 6;
		if (r[i].lo >= 0) {
			management__port_info__init(&info[i]);
			management__port_info__range__init(&range[i]);
			range[i].start = (uint32_t)r[i].lo;
			range[i].end = (uint32_t)r[i].hi;
			info[i].port_selection_case = MANAGEMENT__PORT_INFO__PORT_SELECTION_RANGE;
			info[i].range = &range[i];
			if (r[i].hi < 0) {
				info[i].port_selection_case = MANAGEMENT__PORT_INFO__PORT_SELECTION_PORT;
				info[i].port = (uint32_t)r[i].lo;
			}
			o->portinfo = &info[i];
		}
		if (r[i].prefix) {
			size_t len = r[i].prefix == 4 ? 4 : 16;

			assert_int_equal(nb_addr_parse(&a, r[i].ip), 0);
			memcpy(bytes[i], a.ip, len);
			bytes[i][len] = nb_addr_is_unspecified(&a) ? 0 : (uint8_t)(len * 8);
			prefix[i] = (ProtobufCBinaryData){ r[i].prefix == 1 ? 3 : len + 1, bytes[i] };
			o->sourceprefixes = &prefix[i];
			o->n_sourceprefixes = 1;
			o->peerip = NULL;
		}
	}
	m->map.firewallrules = list;
	m->map.n_firewallrules = n;
	m->map.has_firewallrulesisempty = m->map.firewallrulesisempty = n == 0;
}

/* What the table holds, as text: "accept tcp 100.64.1.1/32 80-80; ..." */
static const char *table_text(const struct filter_table *t)
{
	static const char *const protos[] = { "all", "tcp", "udp", "icmp" };
	static char text[1000];
	size_t at = 0;

	text[0] = 0;
	for (size_t i = 0; i < filter_table_count(t); i++) {
		char src[NB_ADDR_TEXT];
		struct filter_rule r;
		unsigned long hits;

		filter_table_rule(t, i, &r, &hits);
		assert_true(nb_bytes_eq_str(r.id, "policy"));
		nb_prefix_format(src, &r.src);
		at += (size_t)snprintf(text + at, sizeof text - at, "%s%s %s %s %u-%u", i ? "; " : "",
				       r.drop ? "drop" : "accept", protos[r.proto], src, r.port_lo, r.port_hi);
	}
	return text;
}

static void rules_become_a_table(void **state)
{
	static const struct {
		struct rule r;
		const char *want;
	} rows[] = {
		{ { "100.64.1.1", 1, 0, NULL, -1, 0, 0, false }, "accept all 100.64.1.1/32 0-0" },
		{ { "100.64.1.1", 1, 0, NULL, -1, 0, 0, true }, "" },
		{ { "100.64.1.1", 2, 1, "80", -1, 0, 0, false }, "drop tcp 100.64.1.1/32 80-80" },
		{ { "100.64.1.1", 3, 0, "80", 90, -1, 0, false }, "accept udp 100.64.1.1/32 90-90" },
		{ { "100.64.1.1", 3, 0, "80", 0, 0, 0, false }, "accept udp 100.64.1.1/32 80-80" },
		{ { "100.64.1.1", 3, 0, "", 0, 0, 0, false }, "accept udp 100.64.1.1/32 0-0" },
		{ { "100.64.1.1", 2, 0, NULL, 8000, 8100, 4, false }, "accept tcp 100.64.1.1/32 8000-8100" },
		{ { "fd01::1", 4, 0, NULL, -1, 0, 6, false }, "accept icmp fd01::1/128 0-0" },
		{ { "fd01::1", 4, 0, NULL, -1, 0, 0, false }, "accept icmp fd01::1/128 0-0" },
		{ { "0.0.0.0", 1, 0, NULL, -1, 0, 4, false }, "accept all 0.0.0.0/0 0-0" },
		{ { "::", 1, 0, NULL, -1, 0, 6, false }, "accept all ::/0 0-0" },
		{ { "0.0.0.0", 1, 0, NULL, -1, 0, 0, false }, "accept all 0.0.0.0/0 0-0" },
		/* What cannot be read: nothing is accepted by it, more is dropped by it. */
		{ { "nonsense", 1, 0, NULL, -1, 0, 0, false }, "" },
		{ { "nonsense", 2, 1, "80", -1, 0, 0, false }, "drop tcp 0.0.0.0/0 80-80; drop tcp ::/0 80-80" },
		{ { "100.64.1.1", 1, 0, NULL, -1, 0, 1, false }, "" },
		{ { "100.64.1.1", 2, 0, "80a", -1, 0, 0, false }, "" },
		{ { "100.64.1.1", 2, 0, "65536", -1, 0, 0, false }, "" },
		{ { "100.64.1.1", 2, 1, "-1", -1, 0, 0, false }, "drop tcp 100.64.1.1/32 0-0" },
		{ { "100.64.1.1", 2, 0, NULL, 100, 99, 0, false }, "" },
		{ { "100.64.1.1", 2, 0, NULL, 100, 70000, 0, false }, "" },
		{ { "100.64.1.1", 2, 1, NULL, 100, 99, 0, false }, "drop tcp 100.64.1.1/32 0-0" },
		{ { "100.64.1.1", 0, 0, NULL, -1, 0, 0, false }, "" },
		{ { "100.64.1.1", 6, 0, NULL, -1, 0, 0, false }, "" },
		{ { "100.64.1.1", 2, 7, NULL, -1, 0, 0, false }, "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct world *w = setup();
		struct map *m = make_map(1, 1, 1);

		put_rules(m, &rows[i].r, 1);
		sync(w, m);
		assert_int_equal(w->filters, 1);
		assert_int_equal(w->filter_before_peers, 0);
		if (strcmp(table_text(w->filter), rows[i].want))
			fail_msg("row %zu: %s, not %s", i, table_text(w->filter), rows[i].want);
		teardown(w);
	}
}

/* Does the table accept TCP from the first peer? */
static bool accepts(const struct world *w)
{
	struct filter_config c = { .random = nbc_random };
	uint8_t p[40] = { 0x45, [3] = 40, [9] = 6, [12] = 100, 64, 1, 1, 100, 64, 0, 9, 0, 1, 0, 80, [32] = 0x50, 2 };
	struct filter *f;
	bool pass;

	assert_int_equal(filter_new(&f, &c), 0);
	filter_exchange(f, w->filter);
	pass = filter_in(f, nb_bytes(p, sizeof p), 1, w->now);
	filter_exchange(f, NULL);
	filter_free(f);
	return pass;
}

static void rules_change_only_when_they_do(void **state)
{
	static const struct rule two[] = { { "100.64.1.1", 1, 0, NULL, -1, 0, 0, false }, { "100.64.1.2", 2, 0, "5", -1, 0, 0, false } },
		turned[] = { { "100.64.1.2", 2, 0, "5", -1, 0, 0, false }, { "100.64.1.1", 1, 0, NULL, -1, 0, 0, false } },
		other[] = { { "100.64.1.2", 2, 0, "6", -1, 0, 0, false }, { "100.64.1.1", 1, 0, NULL, -1, 0, 0, false } };
	const struct rule *steps[] = { two, turned, other, other, two };
	const size_t filters[] = { 1, 1, 2, 2, 3 };
	struct world *w = setup();

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		struct map *m = make_map(i + 1, 1, 2);

		put_rules(m, steps[i], 2);
		sync(w, m);
		assert_int_equal(w->filters, filters[i]);
		assert_true(accepts(w));
	}
	teardown(w);
}

static void empty_lists(void **state)
{
	static const struct rule unusable = { "100.64.1.1", 6, 0, NULL, -1, 0, 0, false };
	struct world *w = setup();
	struct map *m = make_map(1, 1, 1);

	(void)state;
	/* Truly empty: nothing may come in. */
	put_rules(m, NULL, 0);
	sync(w, m);
	assert_false(accepts(w));
	/* An old server. */
	m->map.firewallrulesisempty = 0;
	sync(w, m);
	assert_true(accepts(w));
	/* Rules of which none can be used. */
	put_rules(m, &unusable, 1);
	sync(w, m);
	assert_false(accepts(w));
	teardown(w);
}

static void inbound_blocked(void **state)
{
	static const struct rule all = { "100.64.1.1", 1, 0, NULL, -1, 0, 0, false };
	struct world *w = setup();
	struct map *m = make_map(1, 1, 1);

	(void)state;
	w->cfg.block_inbound = CLIENT_YES;
	put_rules(m, &all, 1);
	sync(w, m);
	assert_false(accepts(w));
	m->map.n_firewallrules = 0;
	m->map.firewallrulesisempty = 0;
	sync(w, m);
	assert_false(accepts(w));
	teardown(w);
}

static void firewall_switched_off(void **state)
{
	static const struct rule all = { "100.64.1.1", 1, 0, NULL, -1, 0, 0, false };
	struct world *w = setup();
	struct map *m = make_map(1, 1, 1);

	(void)state;
	w->cfg.disable_firewall = CLIENT_YES;
	put_rules(m, &all, 1);
	sync(w, m);
	assert_int_equal(w->filters, 0);
	teardown(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(peers_come_and_go),
		cmocka_unit_test(a_changed_peer_is_made_anew),
		cmocka_unit_test(what_is_no_map_changes_nothing),
		cmocka_unit_test(a_new_stream_may_start_lower),
		cmocka_unit_test(malformed_peers_are_skipped_alone),
		cmocka_unit_test(another_address_restarts),
		cmocka_unit_test(bad_own_addresses),
		cmocka_unit_test(a_stun_server_is_looked_up_and_checked),
		cmocka_unit_test(the_nat_is_measured_and_told), cmocka_unit_test(what_is_known_of_one_peer),
		cmocka_unit_test(a_silent_stun_server_is_tried_again),
		cmocka_unit_test(a_lookup_that_cannot_begin_is_tried_again),
		cmocka_unit_test(too_many_turn_servers),
		cmocka_unit_test(an_allocation_is_given_back_at_the_end), cmocka_unit_test(an_allocation_over_tcp),
		cmocka_unit_test(a_forgotten_allocation_is_replaced),
		cmocka_unit_test(servers_over_tcp),
		cmocka_unit_test(unusable_servers_do_no_harm),
		cmocka_unit_test(strangers_and_our_own_overlay_are_ignored),
		cmocka_unit_test(an_offer_is_answered_with_candidates),
		cmocka_unit_test(one_question_serves_all_peers), cmocka_unit_test(a_mapping_reaches_every_session),
		cmocka_unit_test(status_shows_peers_in_order),
		cmocka_unit_test(rules_become_a_table),
		cmocka_unit_test(rules_change_only_when_they_do),
		cmocka_unit_test(empty_lists),
		cmocka_unit_test(inbound_blocked),
		cmocka_unit_test(firewall_switched_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
