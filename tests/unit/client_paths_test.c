/* client_paths_test.c - what `netbird debug paths PEER` prints: text and JSON, with everything known and with nothing. */
#include "client/paths.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>

#define S(text) ((char *)(uintptr_t)(text))

static Nestbox__NatView here = NESTBOX__NAT_VIEW__INIT, there = NESTBOX__NAT_VIEW__INIT;
static Nestbox__PathPair pair[2] = { NESTBOX__PATH_PAIR__INIT, NESTBOX__PATH_PAIR__INIT };
static Nestbox__PathStep step[2] = { NESTBOX__PATH_STEP__INIT, NESTBOX__PATH_STEP__INIT };
static Nestbox__ServerView server[2] = { NESTBOX__SERVER_VIEW__INIT, NESTBOX__SERVER_VIEW__INIT };
static const struct nb_wall now = { 1790000000 * NB_SEC };

static Nestbox__PeerPaths full(void)
{
	static Nestbox__PathPair *pairs[] = { &pair[0], &pair[1] };
	static Nestbox__PathStep *steps[] = { &step[0], &step[1] };
	static Nestbox__ServerView *servers[] = { &server[0], &server[1] };
	Nestbox__PeerPaths p = NESTBOX__PEER_PATHS__INIT;

	here.udp = there.udp = S("works");
	here.mapping = S("address-and-port-dependent");
	here.filtering = here.mapping;
	here.hairpin = S("not seen");
	here.mapped = S("198.51.100.7:40001");
	there.mapping = S("no NAT");
	there.filtering = S("endpoint-independent");
	there.hairpin = S("unknown");
	there.port_kept = true;
	pair[0].local_type = pair[0].remote_type = S("host");
	pair[0].local = S("192.168.1.2:51820");
	pair[0].remote = S("203.0.113.9:51820");
	pair[0].end = S("selected");
	pair[0].text = S("selected, 12.5 ms");
	pair[0].rtt = 12500000;
	pair[0].checks = 3;
	pair[0].heard = true;
	pair[1] = pair[0];
	pair[1].local_type = S("srflx");
	pair[1].end = S("pruned");
	pair[1].text = S("pruned: leaves by the same socket as another pair");
	pair[1].rtt = 0;
	step[0].time = now.ns - 61 * NB_SEC;
	step[0].path = S("NetBird relay");
	step[0].why = S("the relay is there");
	step[1].time = now.ns - 59 * NB_SEC;
	step[1].path = S("direct");
	step[1].local_type = step[1].remote_type = S("host");
	step[1].remote = S("203.0.113.9:51820");
	step[1].why = S("ICE found a pair that works");
	server[0].uri = S("stun:stun.example:3478");
	server[0].state = S("available");
	server[1].uri = S("turn:turn.example:3478?transport=udp");
	server[1].state = S("unavailable");
	server[1].error = S("credentials were refused");
	server[1].relayed = S("203.0.113.1:50000");
	p.fqdn = S("bravo.netbird.selfhosted");
	p.ip = S("100.64.0.2");
	p.key = S("KEY=");
	p.version = S("0.77.1");
	p.status = S("Connected");
	p.path = S("direct");
	p.sentence = S("direct because the other end is behind no NAT: it answers as 203.0.113.9:51820 (host)");
	p.nestbox = p.answered = true;
	p.here = &here;
	p.there = &there;
	p.pairs = pairs;
	p.history = steps;
	p.servers = servers;
	p.n_pairs = p.n_history = p.n_servers = 2;
	p.relay = p.relay_home = S("rels://relay.example:443");
	p.relay_state = S("up");
	p.relay_peer = S("rels://other.example:443");
	return p;
}

static void check_text(const Nestbox__PeerPaths *p, const char *want)
{
	struct nb_buf out;

	nb_buf_init(&out, 1 << 16);
	assert_int_equal(client_paths_text(&out, p, now), 0);
	assert_string_equal(nb_buf_cstr(&out), want);
	nb_buf_fini(&out);
}

static void text_of_everything(void **state)
{
	Nestbox__PeerPaths p = full();

	(void)state;
	check_text(&p,
		"bravo.netbird.selfhosted (100.64.0.2)\n"
		"  nestbox 0.77.1, Connected\n"
		"  direct because the other end is behind no NAT: it answers as 203.0.113.9:51820 (host)\n"
		"\n"
		"NAT\n"
		"  here  mapping address-and-port-dependent, filtering address-and-port-dependent, hairpinning not seen, port changed, "
		"seen as 198.51.100.7:40001\n"
		"  there mapping no NAT, filtering endpoint-independent\n"
		"Candidate pairs\n"
		"  host 192.168.1.2:51820 -> host 203.0.113.9:51820: selected, 12.5 ms\n"
		"  srflx 192.168.1.2:51820 -> host 203.0.113.9:51820: pruned: leaves by the same socket as another pair\n"
		"Changes of path\n"
		"  1 minute, 1 second ago: NetBird relay: the relay is there\n"
		"  59 seconds ago: direct to 203.0.113.9:51820 (host/host): ICE found a pair that works\n"
		"NetBird relay\n"
		"  channel up on rels://relay.example:443\n"
		"  this end is on rels://relay.example:443\n"
		"  the other end is on rels://other.example:443\n"
		"STUN and TURN servers\n"
		"  stun:stun.example:3478: available\n"
		"  turn:turn.example:3478?transport=udp: unavailable: credentials were refused, allocation 203.0.113.1:50000\n");
}

static void text_of_nothing(void **state)
{
	Nestbox__PeerPaths p = NESTBOX__PEER_PATHS__INIT;

	(void)state;
	p.fqdn = S("alpha");
	p.ip = S("100.64.0.1");
	p.status = S("Connecting");
	p.sentence = S("not connected because the other agent has not answered");
	p.relay_state = S("none");
	p.relay_error = S("the management server names no relay");
	here = (Nestbox__NatView)NESTBOX__NAT_VIEW__INIT;
	here.udp = S("blocked");
	p.here = &here;
	check_text(&p,
		"alpha (100.64.0.1)\n"
		"  agent not heard yet, Connecting\n"
		"  not connected because the other agent has not answered\n"
		"\n"
		"NAT\n"
		"  here  UDP is blocked: no STUN server answered\n"
		"  there not known: only a nestbox tells\n"
		"Candidate pairs\n"
		"  none\n"
		"Changes of path\n"
		"  none\n"
		"NetBird relay\n"
		"  channel none\n"
		"  this end is on none: the management server names no relay\n"
		"  the other end is on none, as far as it said\n"
		"STUN and TURN servers\n"
		"  none\n");
}

static const char *at(json_t *o, const char *a, const char *b)
{
	o = json_object_get(o, a);
	return json_string_value(b ? json_object_get(o, b) : o);
}

static void json_of_everything(void **state)
{
	Nestbox__PeerPaths p = full();
	struct nb_buf out;
	json_t *j, *v;

	(void)state;
	nb_buf_init(&out, 1 << 16);
	assert_int_equal(client_paths_json(&out, &p, NULL), 0);
	j = json_loads(nb_buf_cstr(&out), JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(j);
	assert_string_equal(at(j, "fqdn", NULL), "bravo.netbird.selfhosted");
	assert_string_equal(at(j, "path", NULL), "direct");
	assert_string_equal(at(j, "why", NULL), p.sentence);
	assert_string_equal(at(j, "natHere", "mapping"), "address-and-port-dependent");
	assert_string_equal(at(j, "natHere", "mapped"), "198.51.100.7:40001");
	assert_string_equal(at(j, "natThere", "mapping"), "no NAT");
	assert_string_equal(at(j, "relay", "there"), "rels://other.example:443");
	v = json_array_get(json_object_get(j, "pairs"), 0);
	assert_string_equal(at(v, "end", NULL), "selected");
	assert_int_equal(json_integer_value(json_object_get(v, "rtt")), 12500000);
	assert_true(json_is_true(json_object_get(v, "heard")));
	v = json_array_get(json_object_get(j, "history"), 1);
	assert_string_equal(at(v, "time", NULL), "2026-09-21T14:12:21Z");
	assert_string_equal(at(v, "remoteType", NULL), "host");
	v = json_array_get(json_object_get(j, "servers"), 1);
	assert_string_equal(at(v, "allocation", NULL), "203.0.113.1:50000");
	json_decref(j);
	nb_buf_fini(&out);
}

static void json_of_nothing(void **state)
{
	Nestbox__PeerPaths p = NESTBOX__PEER_PATHS__INIT;
	struct nb_buf out;
	json_t *j;

	(void)state;
	nb_buf_init(&out, 1 << 16);
	assert_int_equal(client_paths_json(&out, &p, NULL), 0);
	j = json_loads(nb_buf_cstr(&out), JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(j);
	assert_int_equal(json_array_size(json_object_get(j, "pairs")), 0);
	assert_true(json_is_array(json_object_get(j, "history")));
	assert_string_equal(at(j, "natThere", "udp"), "");
	json_decref(j);
	nb_buf_fini(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_of_everything), cmocka_unit_test(text_of_nothing), cmocka_unit_test(json_of_everything),
		cmocka_unit_test(json_of_nothing),
	};

	return cmocka_run_group_tests_name("client_paths", tests, NULL, NULL);
}
