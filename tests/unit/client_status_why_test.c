/* client_status_why_test.c - `netbird status --why`: its text and the key `nestbox` that it adds to JSON and YAML, which
 * comes last and leaves stock's part as it is. */
#include "client/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>

#define S(text) ((char *)(uintptr_t)(text))

static Nestbox__NatView nat;
static Nestbox__PeerWhy why;
static Daemon__PeerState peer[2], *peers[] = { &peer[0], &peer[1] };
static Daemon__LocalPeerState local;
static Daemon__FullStatus full;
static Daemon__StatusResponse answer;
static struct client_status_view v;

/* One peer of which our agent says why, one of which it does not. */
static int setup(void **state)
{
	static char *pairs[] = { S("host 192.0.2.1:1 -> host 192.0.2.2:2: selected, 0.4 ms"), S("host 192.0.2.1:1 -> srflx 192.0.2.3:3: "
				 "not tried: another pair was selected first") };

	(void)state;
	nestbox__nat_view__init(&nat);
	nestbox__peer_why__init(&why);
	daemon__local_peer_state__init(&local);
	daemon__full_status__init(&full);
	daemon__status_response__init(&answer);
	for (int i = 0; i < 2; i++)
		daemon__peer_state__init(&peer[i]);
	nat.udp = S("works");
	nat.mapping = S("endpoint-independent");
	nat.filtering = S("address-dependent");
	nat.hairpin = S("not seen");
	nat.port_kept = true;
	nat.mapped = S("198.51.100.7:51820");
	local.nestbox = &nat;
	why.sentence = S("direct because both machines reach each other's own address, 192.0.2.2:2");
	why.pairs = pairs;
	why.n_pairs = 2;
	peer[0].fqdn = S("alpha.netbird");
	peer[0].ip = S("100.64.0.1");
	peer[0].connstatus = S("Connected");
	peer[0].nestbox = &why;
	peer[1].fqdn = S("bravo.netbird");
	peer[1].ip = S("100.64.0.2");
	peer[1].connstatus = S("Idle");
	full.localpeerstate = &local;
	full.peers = peers;
	full.n_peers = 2;
	answer.fullstatus = &full;
	v = (struct client_status_view){ .answer = &answer, .cli_version = "0", .profile = "default", .why = true };
	return 0;
}

static void says(const char *want)
{
	struct nb_buf out;

	nb_buf_init(&out, 1 << 16);
	assert_int_equal(client_status_why(&out, &v), 0);
	assert_string_equal(nb_buf_cstr(&out), want);
	nb_buf_fini(&out);
}

static void text(void **state)
{
	char *names[] = { S("bravo") };

	(void)state;
	says("NAT of this machine: mapping endpoint-independent, filtering address-dependent, hairpinning not seen, port kept, "
	     "seen as 198.51.100.7:51820\n"
	     "alpha.netbird (100.64.0.1)\n"
	     "  direct because both machines reach each other's own address, 192.0.2.2:2\n"
	     "  tried host 192.0.2.1:1 -> host 192.0.2.2:2: selected, 0.4 ms\n"
	     "  tried host 192.0.2.1:1 -> srflx 192.0.2.3:3: not tried: another pair was selected first\n"
	     "bravo.netbird (100.64.0.2)\n"
	     "  the agent does not say: it is another program, or older\n");
	v.filter.names = names;
	v.filter.n_names = 1;
	nat.udp = S("blocked");
	says("NAT of this machine: UDP is blocked: no STUN server answered\n"
	     "bravo.netbird (100.64.0.2)\n"
	     "  the agent does not say: it is another program, or older\n");
	local.nestbox = NULL;
	full.n_peers = 0;
	says("NAT of this machine: not measured\nno peers\n");
}

static char *json(void)
{
	struct nb_buf out;
	char *copy;

	nb_buf_init(&out, 1 << 16);
	assert_int_equal(client_status_json(&out, &v), 0);
	copy = strdup(nb_buf_cstr(&out));
	nb_buf_fini(&out);
	return copy;
}

static void key_of_json(void **state)
{
	char *with, *without;
	json_t *j, *n;
	size_t same;

	(void)state;
	with = json();
	v.why = false;
	without = json();
	/* Stock's part first, to its last brace. */
	same = strlen(without) - 1;
	assert_memory_equal(with, without, same);
	assert_memory_equal(with + same, ",\"nestbox\":{", 12);
	j = json_loads(with, JSON_REJECT_DUPLICATES, NULL);
	n = json_object_get(j, "nestbox");
	assert_string_equal(json_string_value(json_object_get(json_object_get(n, "nat"), "filtering")), "address-dependent");
	n = json_object_get(n, "peers");
	assert_int_equal(json_array_size(n), 2);
	assert_string_equal(json_string_value(json_object_get(json_array_get(n, 0), "why")), why.sentence);
	assert_int_equal(json_array_size(json_object_get(json_array_get(n, 0), "pairs")), 2);
	assert_string_equal(json_string_value(json_object_get(json_array_get(n, 1), "why")), "");
	json_decref(j);
	free(with);
	free(without);
}

static void key_of_yaml(void **state)
{
	struct nb_buf out;

	(void)state;
	nb_buf_init(&out, 1 << 16);
	assert_int_equal(client_status_yaml(&out, &v), 0);
	assert_non_null(strstr(nb_buf_cstr(&out),
			       "nestbox:\n"
			       "    nat:\n"
			       "        udp: works\n"
			       "        mapping: endpoint-independent\n"
			       "        filtering: address-dependent\n"
			       "        hairpin: not seen\n"
			       "        portKept: true\n"
			       "        mapped: 198.51.100.7:51820\n"
			       "    peers:\n"
			       "        - fqdn: alpha.netbird\n"
			       "          why: direct because both machines reach each other's own address, 192.0.2.2:2\n"));
	nb_buf_fini(&out);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, setup)
	const struct CMUnitTest tests[] = { T(text), T(key_of_json), T(key_of_yaml) };

	return cmocka_run_group_tests_name("client_status_why", tests, NULL, NULL);
}
