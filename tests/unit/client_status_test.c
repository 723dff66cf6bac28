/* client_status_test.c - src/client/status.c against recorded answers and outputs of stock's daemon and
 * command line (tests/vectors/client/status-*: the answer as protobuf, the moment, and what was
 * printed), and the corners of its small formatters. */
#include "client/status.h"
#include "base/err.h"
#include "proto/unpack.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define VECTORS "tests/vectors/client"

static struct nb_buf slurp(const char *dir, const char *base, const char *ext)
{
	char path[512];
	struct nb_buf b;
	FILE *f;
	int c;

	snprintf(path, sizeof path, "%s/%s%s", dir, base, ext);
	nb_buf_init(&b, 1 << 20);
	f = fopen(path, "rb");
	if (!f)
		return b;
	while ((c = getc(f)) != EOF)
		nb_buf_u8(&b, (uint8_t)c);
	fclose(f);
	return b;
}

/* The recordings are of x86-64; what else they say does not depend on the machine. */
static struct nb_buf with_our_os(struct nb_buf text)
{
	static const char theirs[] = "linux/amd64";
	struct nb_buf b;
	const char *s = nb_buf_cstr(&text);

	nb_buf_init(&b, 1 << 20);
	for (const char *at; (at = strstr(s, theirs)); s = at + sizeof theirs - 1) {
		nb_buf_put(&b, s, (size_t)(at - s));
		nb_buf_str(&b, client_status_os());
	}
	nb_buf_str(&b, s);
	nb_buf_fini(&text);
	return b;
}

static int form(const char *dir, const char *base, const char *ext, const struct client_status_view *v,
		int (*fn)(struct nb_buf *, const struct client_status_view *))
{
	struct nb_buf want = with_our_os(slurp(dir, base, ext)), have;
	int checked = want.n > 0;

	nb_buf_init(&have, 1 << 20);
	if (checked) {
		assert_int_equal(fn(&have, v), 0);
		if (have.n != want.n || memcmp(have.p, want.p, want.n)) {
			print_error("%s%s:\n--- want\n%s\n--- have\n%s\n", base, ext, nb_buf_cstr(&want), nb_buf_cstr(&have));
			fail();
		}
	}
	nb_buf_fini(&have);
	nb_buf_fini(&want);
	return checked;
}

static int one(const char *dir, const char *base)
{
	struct nb_buf pb = slurp(dir, base, ".pb"), now = slurp(dir, base, ".now"), profile = slurp(dir, base, ".profile");
	struct client_status_view v = { .cli_version = "0.77.1", .profile = nb_buf_cstr(&profile) };
	Daemon__StatusResponse *r;
	struct nb_arena arena;
	int n = 0;

	nb_arena_init(&arena, 1 << 22);
	assert_int_equal(proto_unpack(&r, &daemon__status_response__descriptor, nb_buf_view(&pb), &arena), 0);
	v.answer = r;
	v.now.ns = strtoll(nb_buf_cstr(&now), NULL, 10);
	n += form(dir, base, ".text", &v, client_status_summary);
	n += form(dir, base, ".detail", &v, client_status_detail);
	n += form(dir, base, ".json", &v, client_status_json);
	n += form(dir, base, ".yaml", &v, client_status_yaml);
	nb_arena_fini(&arena);
	nb_buf_fini(&pb);
	nb_buf_fini(&now);
	nb_buf_fini(&profile);
	return n;
}

/* NB_STATUS_VECTORS names another folder of the same shape, for comparing with a stock build. */
static void recorded_outputs(void **state)
{
	const char *dir = getenv("NB_STATUS_VECTORS") ? getenv("NB_STATUS_VECTORS") : VECTORS;
	DIR *d = opendir(dir);
	int n = 0;

	(void)state;
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));) {
		char base[256];
		size_t len = strlen(e->d_name);

		if (strncmp(e->d_name, "status-", 7) || len < 4 || strcmp(e->d_name + len - 3, ".pb"))
			continue;
		snprintf(base, sizeof base, "%.*s", (int)(len - 3), e->d_name);
		n += one(dir, base);
	}
	closedir(d);
	assert_true(n >= 25);
}

static void durations(void **state)
{
	static const struct { int64_t ns; const char *want; } rows[] = {
		{ 0, "0s" }, { 1, "1ns" }, { 999, "999ns" }, { 1000, "1\xc2\xb5s" }, { 431642, "431.642\xc2\xb5s" },
		{ 12304000, "12.304ms" }, { 1500000, "1.5ms" }, { 1000000000, "1s" }, { 90500000000, "1m30.5s" },
		{ 3600000000000, "1h0m0s" }, { -1500000, "-1.5ms" }, { INT64_MIN, "-2562047h47m16.854775808s" },
	};
	char out[40];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		client_go_duration(out, sizeof out, rows[i].ns);
		assert_string_equal(out, rows[i].want);
	}
}

static void ages(void **state)
{
	static const struct { int64_t s; int32_t ns; const char *want; } rows[] = {
		{ 0, 0, "-" }, { -62135596800, 0, "-" }, { 1000000, 0, "Now" }, { 1000060, 0, "Now" }, { 999999, 600000000, "Now" },
		{ 999999, 0, "1 second ago" }, { 999941, 0, "59 seconds ago" }, { 999940, 0, "1 minute ago" },
		{ 999939, 0, "1 minute, 1 second ago" }, { 999698, 0, "5 minutes, 2 seconds ago" }, { 996400, 0, "1 hour ago" },
		{ 992739, 0, "2 hours, 1 minutes ago" }, { 913600, 0, "1 day ago" }, { 820000, 0, "2 days, 2 hours ago" },
		{ INT64_MIN, 0, "106751 days, 23 hours ago" }, { INT64_MAX, 0, "Now" },
	};
	char out[64];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		client_age(out, sizeof out, rows[i].s, rows[i].ns, (struct nb_wall){ 1000000 * NB_SEC + 500000000 });
		assert_string_equal(out, rows[i].want);
	}
}

static void sizes(void **state)
{
	static const struct { int64_t n; const char *want; } rows[] = {
		{ 0, "0 B" }, { 1023, "1023 B" }, { 1024, "1.0 KiB" }, { 1258291, "1.2 MiB" }, { INT64_MAX, "8.0 EiB" },
		{ -5, "-5 B" },
	};
	char out[32];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		client_size_text(out, sizeof out, rows[i].n);
		assert_string_equal(out, rows[i].want);
	}
}

static void remaining(void **state)
{
	static const struct { int64_t s; const char *want; } rows[] = {
		{ 187200, "2d 4h" }, { 172800, "2d" }, { 8100, "2h 15m" }, { 7200, "2h" }, { 2820, "47m" }, { 8, "8s" },
		{ -180, "expired 3m ago" }, { 0, "expired 1s ago" },
	};
	char out[64];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		client_remaining_text(out, sizeof out, rows[i].s * NB_SEC);
		assert_string_equal(out, rows[i].want);
	}
}

static Daemon__PeerState peer(char *ip, char *fqdn, char *status, bool relayed)
{
	Daemon__PeerState p = DAEMON__PEER_STATE__INIT;

	p.ip = ip;
	p.fqdn = fqdn;
	p.connstatus = status;
	p.relayed = relayed;
	return p;
}

static int plus_one_hour(int64_t seconds)
{
	(void)seconds;
	return 3600;
}

static void filters(void **state)
{
	Daemon__PeerState a = peer("100.64.0.20", "zoo.netbird.cloud", "Connected", false),
			  b = peer("100.64.0.3", "ant.netbird.cloud", "Connected", true),
			  c = peer("100.64.0.9", "bee.netbird.cloud", "Idle", false), *all[] = { &a, &b, &c };
	Daemon__FullStatus s = DAEMON__FULL_STATUS__INIT;
	Daemon__StatusResponse r = DAEMON__STATUS_RESPONSE__INIT;
	char *ips[] = { "100.64.0.9", "100.64.0.3" }, *names[] = { "ZOO", "b" };
	static const struct { const char *status, *conn; size_t ips, names; const char *want; } rows[] = {
		{ NULL, NULL, 0, 0, "2/3" }, { "connected", NULL, 0, 0, "2/2" }, { "IDLE", NULL, 0, 0, "0/1" },
		{ NULL, "p2p", 0, 0, "1/1" }, { NULL, "Relayed", 0, 0, "1/1" }, { NULL, NULL, 2, 0, "1/2" },
		{ NULL, NULL, 0, 2, "1/2" }, { "connected", "P2P", 2, 0, "0/0" },
	};

	(void)state;
	s.peers = all;
	s.n_peers = 3;
	r.fullstatus = &s;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct client_status_view v = { .answer = &r, .cli_version = "1", .profile = "p",
			.filter = { rows[i].status, rows[i].conn, ips, rows[i].ips, names, rows[i].names } };
		char want[64];
		struct nb_buf out;

		nb_buf_init(&out, 65536);
		snprintf(want, sizeof want, "Peers count: %s Connected\n", rows[i].want);
		assert_int_equal(client_status_summary(&out, &v), 0);
		assert_string_equal(strstr(nb_buf_cstr(&out), "Peers count"), want);
		nb_buf_reset(&out);
		v.utc_offset = plus_one_hour;
		assert_int_equal(client_status_json(&out, &v), 0);
		if (i == 0) {
			const char *t = nb_buf_cstr(&out);

			/* in order of addresses, times in the local zone */
			assert_true(strstr(t, "ant") < strstr(t, "bee") && strstr(t, "bee") < strstr(t, "zoo"));
			assert_non_null(strstr(t, "\"lastStatusUpdate\":\"1970-01-01T01:00:00+01:00\""));
		}
		nb_buf_fini(&out);
	}
}

/* What the data plane counted: nothing of it without --why, all of it with. */
static void tunnel_counts(void **state)
{
	Nestbox__Count c[2] = { NESTBOX__COUNT__INIT, NESTBOX__COUNT__INIT }, *counts[] = { &c[0], &c[1] };
	Nestbox__RuleCount rule = NESTBOX__RULE_COUNT__INIT, *rules[] = { &rule };
	Nestbox__PeerWhy w = NESTBOX__PEER_WHY__INIT;
	Nestbox__TunnelState t = NESTBOX__TUNNEL_STATE__INIT;
	Daemon__PeerState a = peer("100.64.0.20", "zoo.netbird.cloud", "Connected", false), *all[] = { &a };
	Daemon__FullStatus s = DAEMON__FULL_STATUS__INIT;
	Daemon__StatusResponse r = DAEMON__STATUS_RESPONSE__INIT;
	struct client_status_view v = { .answer = &r, .cli_version = "1", .profile = "p" };
	struct nb_buf out;

	(void)state;
	c[0].name = (char *)"replayed";
	c[0].words = (char *)"messages refused";
	c[0].value = 7;
	c[1].name = (char *)"too_big";
	c[1].words = (char *)"packets too long";
	rule.rule = (char *)"accept tcp 80 from 100.64.0.20";
	rule.policy = (char *)"web";
	rule.packets = 12;
	t = (Nestbox__TunnelState){ .base = t.base, .offloads = (char *)"tso,gro", .n_counts = 2, .counts = counts, .has_rules_in_force = 1,
				    .rules_in_force = 3, .n_rules = 1, .rules = rules };
	w.sentence = (char *)"direct";
	w.has_rx_packets = w.has_tx_packets = w.has_handshakes = 1;
	w.rx_packets = 5;
	w.tx_packets = 6;
	w.handshakes = 2;
	a.nestbox = &w;
	a.bytesrx = 640;
	s.peers = all;
	s.n_peers = 1;
	s.nestbox = &t;
	r.fullstatus = &s;
	nb_buf_init(&out, 65536);
	assert_int_equal(client_status_why(&out, &v), 0);
	assert_non_null(strstr(nb_buf_cstr(&out), "  received 640 B in 5 packets, sent 0 B in 6; handshakes: 2\n"
			       "tunnel\n  offloads in use: tso,gro\n  7 messages refused\naccess rules: 3\n"
			       "  accept tcp 80 from 100.64.0.20: 12 packets, policy web\n  and 2 more\n"));
	nb_buf_reset(&out);
	assert_int_equal(client_status_json(&out, &v), 0);
	assert_null(strstr(nb_buf_cstr(&out), "replayed"));
	nb_buf_reset(&out);
	v.why = true;
	assert_int_equal(client_status_json(&out, &v), 0);
	assert_non_null(strstr(nb_buf_cstr(&out), "\"receivedPackets\":5,\"sentPackets\":6,\"handshakes\":2}],\"tunnel\":"
			       "{\"offloads\":\"tso,gro\",\"counters\":{\"replayed\":7,\"too_big\":0},\"rulesInForce\":3,\"rules\":"
			       "[{\"rule\":\"accept tcp 80 from 100.64.0.20\",\"policy\":\"web\",\"packets\":12}]}}"));
	nb_buf_fini(&out);
}

static void filter_words(void **state)
{
	char *bad[] = { "1.2.3" };
	struct client_status_filter ok = { .status = "Idle", .connection = "RELAYED" }, s = { .status = "up" },
				    t = { .connection = "turn" }, ip = { .ips = bad, .n_ips = 1 };
	char out[256];

	(void)state;
	assert_null(client_status_filter_check(&ok, out, sizeof out));
	assert_string_equal(client_status_filter_check(&s, out, sizeof out),
			    "wrong status filter, should be one of connected|connecting|idle, got: up");
	assert_string_equal(client_status_filter_check(&t, out, sizeof out),
			    "wrong connection-type filter, should be one of P2P|Relayed, got: turn");
	assert_non_null(strstr(client_status_filter_check(&ip, out, sizeof out), "address 1.2.3"));
}

static void checks(void **state)
{
	Daemon__ManagementState m = DAEMON__MANAGEMENT_STATE__INIT;
	Daemon__SignalState g = DAEMON__SIGNAL_STATE__INIT;
	Daemon__RelayState stun = DAEMON__RELAY_STATE__INIT, rel = DAEMON__RELAY_STATE__INIT, *relays[] = { &stun, &rel };
	Daemon__FullStatus s = DAEMON__FULL_STATUS__INIT;
	Daemon__StatusResponse r = DAEMON__STATUS_RESPONSE__INIT;
	char why[128];

	(void)state;
	r.status = "NeedsLogin";
	assert_int_equal(client_status_check(&r, "LIVE", why, sizeof why), 0);
	assert_int_equal(client_status_check(&r, "ready", why, sizeof why), NB_E_STATE);
	assert_string_equal(why, "readiness check: daemon status is NeedsLogin");
	r.status = "Connecting";
	assert_int_equal(client_status_check(&r, "ready", why, sizeof why), 0);
	assert_int_equal(client_status_check(&r, "startup", why, sizeof why), NB_E_STATE);
	r.fullstatus = &s;
	s.managementstate = &m;
	s.signalstate = &g;
	assert_int_equal(client_status_check(&r, "startup", why, sizeof why), NB_E_STATE);
	assert_string_equal(why, "startup check: management not connected");
	m.connected = true;
	assert_int_equal(client_status_check(&r, "startup", why, sizeof why), NB_E_STATE);
	assert_string_equal(why, "startup check: signal not connected");
	g.connected = true;
	assert_int_equal(client_status_check(&r, "startup", why, sizeof why), 0);
	stun.uri = "stun:a:1";
	rel.uri = "rels://b:443";
	s.relays = relays;
	s.n_relays = 2;
	stun.available = true;
	assert_int_equal(client_status_check(&r, "startup", why, sizeof why), NB_E_STATE);
	assert_string_equal(why, "startup check: no relay servers available (0/1 connected)");
	rel.available = true;
	assert_int_equal(client_status_check(&r, "startup", why, sizeof why), 0);
	assert_int_equal(client_status_check(&r, "sometimes", why, sizeof why), NB_E_ARG);
}

static void own_address(void **state)
{
	struct nb_buf out;

	(void)state;
	nb_buf_init(&out, 256);
	client_status_ip(&out, "100.90.4.7/16");
	client_status_ip(&out, "fd12:aa:bb::7/64");
	client_status_ip(&out, "100.90.4.7");
	client_status_ip(&out, "N/A");
	client_status_ip(&out, NULL);
	assert_string_equal(nb_buf_cstr(&out), "100.90.4.7\nfd12:aa:bb::7\n");
	nb_buf_fini(&out);
}

/* What stock printed while the daemon wanted a login. */
static void login_hint(void **state)
{
	struct nb_buf want = slurp(VECTORS, "hint-needs-login", ".text"), out;
	Daemon__StatusResponse r = DAEMON__STATUS_RESPONSE__INIT;

	(void)state;
	nb_buf_init(&out, 4096);
	r.status = "Connected";
	assert_false(client_status_login_hint(&out, &r));
	r.status = "NeedsLogin";
	assert_true(client_status_login_hint(&out, &r));
	assert_string_equal(nb_buf_cstr(&out), nb_buf_cstr(&want));
	nb_buf_fini(&out);
	nb_buf_fini(&want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(recorded_outputs), cmocka_unit_test(durations), cmocka_unit_test(ages),
		cmocka_unit_test(sizes), cmocka_unit_test(remaining), cmocka_unit_test(filters),
		cmocka_unit_test(tunnel_counts), cmocka_unit_test(filter_words), cmocka_unit_test(checks), cmocka_unit_test(own_address),
		cmocka_unit_test(login_hint),
	};

	return cmocka_run_group_tests_name("client_status", tests, NULL, NULL);
}
