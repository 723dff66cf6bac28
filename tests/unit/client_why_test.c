/* client_why_test.c - every sentence that says why a peer is direct, relayed or not connected, and which cause comes first
 * where several are true. */
#include "client/why.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#define REL "relayed over the NetBird relay because "
#define NONE "not connected because "

static struct client_why w;

/* Two of ours behind NATs that nobody measured; nine direct pairs were tried in vain, the relay carries the traffic. */
static int setup(void **state)
{
	(void)state;
	w = (struct client_why){
		.open = true, .path = CLIENT_PATH_RELAY, .described = true, .peer_ice = true, .peer_ours = true, .session = true,
		.locals = 2, .remotes = 3, .direct = 9, .relay_configured = true, .relay_home = true, .relay_peer = true,
		.relay_up = true, .blacklisted = "", .local_type = ICE_SRFLX, .remote_type = ICE_SRFLX,
	};
	nb_endpoint_parse(&w.remote, "203.0.113.5:51820");
	return 0;
}

static void says(const char *want)
{
	char text[CLIENT_WHY_MAX];

	client_why_text(text, &w);
	assert_string_equal(text, want);
}

static struct ice_nat_report nat(enum ice_nat_mapping m, enum ice_nat_filtering f)
{
	return (struct ice_nat_report){ .udp = ICE_NAT_UDP_WORKS, .mapping = m, .filtering = f };
}

static void idle(void **state)
{
	(void)state;
	w.open = false;
	says("idle: nobody needs this peer");
}

static void direct(void **state)
{
	const struct ice_nat_report port = nat(ICE_NAT_MAP_INDEPENDENT, ICE_NAT_FILTER_ADDRESS_PORT);
	const struct ice_nat_report none = nat(ICE_NAT_MAP_NONE, ICE_NAT_FILTER_INDEPENDENT);
	const struct ice_nat_report full = nat(ICE_NAT_MAP_INDEPENDENT, ICE_NAT_FILTER_INDEPENDENT);
	const struct ice_nat_report addr = nat(ICE_NAT_MAP_INDEPENDENT, ICE_NAT_FILTER_ADDRESS);
	const struct ice_nat_report symmetric = nat(ICE_NAT_MAP_ADDRESS_PORT, ICE_NAT_FILTER_ADDRESS_PORT);

	(void)state;
	w.path = CLIENT_PATH_DIRECT;
	says("direct because the checks of both ends opened the NATs between them: it answers as 203.0.113.5:51820 (srflx)");
	w.here = w.there = port;
	says("direct because both NATs keep one mapping for all destinations, and the checks of each end opened its own for the "
	     "other: it answers as 203.0.113.5:51820 (srflx)");
	w.there = none;
	says("direct because the other end is behind no NAT: it answers as 203.0.113.5:51820 (srflx)");
	w.here = none;
	w.there = symmetric;
	w.remote_type = ICE_PRFLX;
	says("direct because this end is behind no NAT: it answers as 203.0.113.5:51820 (prflx)");
	w.here = symmetric;
	w.there = full;
	says("direct because the NAT at the other end lets in whoever sends to it (endpoint-independent filtering): it answers as "
	     "203.0.113.5:51820 (prflx)");
	w.here = full;
	w.there = symmetric;
	says("direct because the NAT at this end lets in whoever sends to it (endpoint-independent filtering): it answers as "
	     "203.0.113.5:51820 (prflx)");
	w.here = addr;
	says("direct because the NAT at this end lets in all ports of an address it has sent to (address-dependent filtering): it "
	     "answers as 203.0.113.5:51820 (prflx)");
	w.here = symmetric;
	w.there = addr;
	says("direct because the NAT at the other end lets in all ports of an address it has sent to (address-dependent filtering): "
	     "it answers as 203.0.113.5:51820 (prflx)");
	w.local_type = w.remote_type = ICE_HOST;
	says("direct because both machines reach each other's own address, 203.0.113.5:51820");
	w.there = none;
	says("direct because the other end is behind no NAT: it answers as 203.0.113.5:51820 (host)");
	w.here = none;
	says("direct because both machines reach each other's own address, 203.0.113.5:51820");
	w.loose = true;
	says("direct because one of the two moved; packets still pass by 203.0.113.5:51820 while a new path is looked for");
}

static void told(void **state)
{
	(void)state;
	w.peer_relay_only = true;
	says(REL "the other agent was told to use TURN only (NB_ICE_FORCE_RELAY_CONN)");
	w.peer_ice = false;
	says(REL "the other agent was told to use relays only");
	w.relay_only = true;
	says(REL "this agent was told to use TURN only (NB_ICE_FORCE_RELAY_CONN)");
	w.path = CLIENT_PATH_TURN;
	says("relayed over TURN because this agent was told to use TURN only (NB_ICE_FORCE_RELAY_CONN)");
	w.path = CLIENT_PATH_RELAY;
	w.force_relay = true;
	says(REL "this agent was told to use relays only (NB_FORCE_RELAY)");
}

static void missing(void **state)
{
	(void)state;
	w.direct = 0;
	says(REL "the two have no address of one family in common");
	w.there.udp = ICE_NAT_UDP_BLOCKED;
	says(REL "UDP is blocked at the other end: no STUN server answered it");
	w.here.udp = ICE_NAT_UDP_BLOCKED;
	says(REL "UDP is blocked at this end: no STUN server answered");
	w.remotes = 0;
	says(REL "the other agent offered no candidates");
	w.locals = 0;
	says(REL "this machine has no usable address");
	w.blacklisted = "eth0, wlan0";
	says(REL "this machine has no usable address: eth0, wlan0 is on the list of interfaces to leave out (--extra-iface-blacklist)");
	w.session = false;
	says(REL "the two have not exchanged addresses yet");
}

static void the_nats(void **state)
{
	const struct ice_nat_report port = nat(ICE_NAT_MAP_INDEPENDENT, ICE_NAT_FILTER_ADDRESS_PORT);
	const struct ice_nat_report symmetric = nat(ICE_NAT_MAP_ADDRESS_PORT, ICE_NAT_FILTER_ADDRESS_PORT);

	(void)state;
	w.here = w.there = symmetric;
	w.checking = true;	/* that will lead nowhere */
	says(REL "both NATs have address-and-port-dependent mapping: each destination is given another port");
	w.there.mapping = ICE_NAT_MAP_ADDRESS;
	says(REL "both NATs give each destination another port (mapping: here address-and-port-dependent, there address-dependent)");
	w.there = port;
	says(REL "the NAT at this end gives each destination another port (address-and-port-dependent mapping) and the one at the "
	     "other end lets in only ports it has sent to (address-and-port-dependent filtering)");
	w.here = port;
	w.there = symmetric;
	says(REL "the NAT at the other end gives each destination another port (address-and-port-dependent mapping) and the one at "
	     "this end lets in only ports it has sent to (address-and-port-dependent filtering)");
	w.there = port;
	w.checking = false;
	nb_addr_parse(&w.shared, "198.51.100.9");
	says(REL "both ends are behind one public address, 198.51.100.9, whose NAT does not send packets back inside (no hairpinning)");
	w.checking = true;
	says(REL "9 direct pairs are still being tried");
	w.direct = 1;
	says(REL "1 direct pair is still being tried");
}

static void seen(void **state)
{
	const struct ice_nat_report port = nat(ICE_NAT_MAP_INDEPENDENT, ICE_NAT_FILTER_ADDRESS_PORT);
	const struct ice_nat_report symmetric = nat(ICE_NAT_MAP_ADDRESS_PORT, ICE_NAT_FILTER_UNKNOWN);

	(void)state;
	says(REL "none of 9 direct pairs answered: a NAT gives each destination another port, or a firewall drops UDP");
	w.here = port;
	says(REL "none of 9 direct pairs answered; the NAT at this end would let them (endpoint-independent mapping), the other end's "
	     "was not measured");
	w.peer_ours = false;
	says(REL "none of 9 direct pairs answered; the NAT at this end would let them (endpoint-independent mapping), the other end's "
	     "is not known: it is a stock agent");
	w.here = symmetric;
	says(REL "none of 9 direct pairs answered: the NAT at this end gives each destination another port "
	     "(address-and-port-dependent mapping); the other end's is not known: it is a stock agent");
	w.peer_ours = true;
	w.there = symmetric;
	w.here = nat(ICE_NAT_MAP_INDEPENDENT, ICE_NAT_FILTER_UNKNOWN);
	says(REL "none of 9 direct pairs answered: the NAT at the other end gives each destination another port "
	     "(address-and-port-dependent mapping)");
	w.here = w.there = port;
	says(REL "none of 9 direct pairs answered although both NATs would let them: a firewall drops UDP between the two");
	w.learned = true;
	says(REL "none of 9 direct pairs works both ways: a NAT gives each destination another port");
	w.flaps = 3;
	says(REL "the direct path was lost soon after it was found, 3 times in a row; it is there again and will be used when it has "
	     "held for a while");
}

static void not_connected(void **state)
{
	(void)state;
	w.path = CLIENT_PATH_NONE;
	w.relay_up = false;
	w.checking = true;
	says(NONE "9 direct pairs are still being tried");
	w.relay_peer = false;
	says(NONE "9 direct pairs are still being tried; the other agent is on no relay");
	w.relay_home = false;
	says(NONE "9 direct pairs are still being tried; this agent does not reach a relay");
	w.relay_configured = false;
	says(NONE "9 direct pairs are still being tried; the management server names no relay");
	w.force_relay = true;
	says(NONE "this agent was told to use relays only (NB_FORCE_RELAY); the management server names no relay");
	w.force_relay = false;
	w.described = false;
	says(NONE "the other agent has not answered: it is off, or does not reach the signal server");
}

/* The longest of everything still fits. */
static void length(void **state)
{
	char text[CLIENT_WHY_MAX], names[128];

	(void)state;
	memset(names, 'x', sizeof names - 1);
	names[sizeof names - 1] = 0;
	w.locals = 0;
	w.blacklisted = names;
	w.path = CLIENT_PATH_NONE;
	w.relay_configured = false;
	client_why_text(text, &w);
	assert_non_null(strstr(text, "names no relay"));
	w = (struct client_why){ .open = true, .path = CLIENT_PATH_DIRECT, .remote_type = ICE_PRFLX };
	nb_endpoint_parse(&w.remote, "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:51820");
	w.here.mapping = w.there.mapping = ICE_NAT_MAP_INDEPENDENT;
	client_why_text(text, &w);
	assert_non_null(strstr(text, ":51820 (prflx)"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, setup)
	const struct CMUnitTest tests[] = {
		T(idle), T(direct), T(told), T(missing), T(the_nats), T(seen), T(not_connected), T(length),
	};

	return cmocka_run_group_tests_name("client_why", tests, NULL, NULL);
}
