/* client_signal_msg_test.c - signal bodies to and from what a connection understands, our own additions among them: stock
 * reads past them, and what stock sends says nothing about NATs. */
#include "client/signal_msg.h"

#include "base/err.h"
#include "proto/unpack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static const struct client_signal_msg offer = {
	.type = CLIENT_SIGNAL_OFFER, .ufrag = "ufrag", .pwd = "password", .has_session = true, .session = { 1, 2, 3, 4, 5 },
	.wg_port = 51820, .version = "0.77.1", .relay_url = "rels://relay.example:443", .rare_checks = true,
};

/* Over the wire and back. */
static int carry(struct client_signal_msg *out, const struct client_signal_msg *in, bool strip)
{
	struct client_signal_hold hold;
	Signalexchange__Body body, *read;
	struct nb_arena arena;
	uint8_t mem[1024];
	size_t n;
	int err;

	client_signal_to_body(&body, &hold, in);
	if (strip)
		body.nestbox = NULL;
	n = signalexchange__body__get_packed_size(&body);
	assert_true(n <= sizeof mem);
	signalexchange__body__pack(&body, mem);
	nb_arena_init(&arena, 1 << 16);
	assert_int_equal(proto_unpack(&read, &signalexchange__body__descriptor, nb_bytes(mem, n), &arena), 0);
	err = client_signal_from_body(out, read);
	nb_arena_fini(&arena);
	return err;
}

static void an_offer_with_a_nat(void **state)
{
	struct client_signal_msg m = offer, out;

	(void)state;
	m.nat = (struct ice_nat_report){ .udp = ICE_NAT_UDP_WORKS, .mapping = ICE_NAT_MAP_ADDRESS_PORT,
					 .filtering = ICE_NAT_FILTER_ADDRESS, .hairpin = ICE_NAT_HAIRPIN_NOT_SEEN, .port_kept = true };
	m.relay_only = true;
	assert_int_equal(carry(&out, &m, false), 0);
	assert_int_equal(out.type, CLIENT_SIGNAL_OFFER);
	assert_string_equal(out.ufrag, "ufrag");
	assert_string_equal(out.relay_url, offer.relay_url);
	assert_int_equal(out.wg_port, 51820);
	assert_true(out.rare_checks && out.relay_only && out.has_session);
	assert_true(ice_nat_same(&out.nat, &m.nat));
	/* As stock reads it. */
	assert_int_equal(carry(&out, &m, true), 0);
	assert_string_equal(out.pwd, "password");
	assert_false(out.rare_checks || out.relay_only);
	assert_int_equal(out.nat.mapping, ICE_NAT_MAP_UNKNOWN);
}

/* What is not known is not said, so an offer is as long as it was. */
static void an_unknown_nat_takes_no_bytes(void **state)
{
	struct client_signal_msg m = offer;
	struct client_signal_hold hold;
	Signalexchange__Body body;

	(void)state;
	client_signal_to_body(&body, &hold, &m);
	assert_non_null(body.nestbox);
	assert_null(body.nestbox->nat);
	m.rare_checks = false;
	client_signal_to_body(&body, &hold, &m);
	assert_null(body.nestbox);
}

static void a_message_about_the_nat_alone(void **state)
{
	struct client_signal_msg m = { .type = CLIENT_SIGNAL_NAT, .rare_checks = true }, out;

	(void)state;
	m.nat.udp = ICE_NAT_UDP_BLOCKED;
	m.nat.hairpin = ICE_NAT_HAIRPIN_YES;
	assert_int_equal(carry(&out, &m, false), 0);
	assert_int_equal(out.type, CLIENT_SIGNAL_NAT);
	assert_int_equal(out.nat.udp, ICE_NAT_UDP_BLOCKED);
	assert_int_equal(out.nat.hairpin, ICE_NAT_HAIRPIN_YES);
	assert_false(out.nat.port_kept);
}

/* Numbers that only a later version knows. */
static void numbers_of_the_future(void **state)
{
	Nestbox__PeerFeatures f = NESTBOX__PEER_FEATURES__INIT;
	Nestbox__NatReport n = NESTBOX__NAT_REPORT__INIT;
	Signalexchange__Body b = SIGNALEXCHANGE__BODY__INIT;
	struct client_signal_msg out;

	(void)state;
	f.nat = &n;
	b.nestbox = &f;
	b.payload = (char[]){ "u:p" };
	n.has_udp = n.has_mapping = n.has_filtering = n.has_hairpin = 1;
	n.udp = n.mapping = n.filtering = n.hairpin = 77;
	assert_int_equal(client_signal_from_body(&out, &b), 0);
	assert_int_equal(out.nat.udp, ICE_NAT_UDP_UNKNOWN);
	assert_int_equal(out.nat.mapping, ICE_NAT_MAP_UNKNOWN);
	assert_int_equal(out.nat.filtering, ICE_NAT_FILTER_UNKNOWN);
	assert_int_equal(out.nat.hairpin, ICE_NAT_HAIRPIN_UNKNOWN);
	b.has_type = 1;
	b.type = (Signalexchange__Body__Type)20001;
	assert_int_equal(client_signal_from_body(&out, &b), NB_E_UNSUPPORTED);
}

static void candidates_and_others(void **state)
{
	struct client_signal_msg m = { .type = CLIENT_SIGNAL_CANDIDATE, .candidate = "1 1 udp 1 192.0.2.1 9 typ host" }, out;
	Signalexchange__Body b = SIGNALEXCHANGE__BODY__INIT;

	(void)state;
	assert_int_equal(carry(&out, &m, false), 0);
	assert_string_equal(out.candidate, m.candidate);
	m.type = CLIENT_SIGNAL_GO_IDLE;
	assert_int_equal(carry(&out, &m, false), 0);
	assert_int_equal(out.type, CLIENT_SIGNAL_GO_IDLE);
	b.payload = (char[]){ "no colon" };
	assert_int_equal(client_signal_from_body(&out, &b), NB_E_BAD);
	b.has_type = 1;
	b.type = SIGNALEXCHANGE__BODY__TYPE__HEARTBEAT;
	assert_int_equal(client_signal_from_body(&out, &b), NB_E_UNSUPPORTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_offer_with_a_nat),
		cmocka_unit_test(an_unknown_nat_takes_no_bytes),
		cmocka_unit_test(a_message_about_the_nat_alone),
		cmocka_unit_test(numbers_of_the_future),
		cmocka_unit_test(candidates_and_others),
	};

	return cmocka_run_group_tests_name("client_signal_msg", tests, NULL, NULL);
}
