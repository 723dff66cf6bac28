/* ice_agent_test.c - the agent message by message: stock's recorded checks, wire form of ours,
 * nomination and its waits, learned candidates, gathering, refusals, caps. */
#include "ice/ice.h"

#include "base/err.h"
#include "ice/stun.h"

#include <stdio.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>

#define OUR_UFRAG "fPWjLyuNsvjMDXfr"
#define OUR_PWD "QWcCFsPDKSQyQRtZMsnbZBupWzKqIikT"
#define THEIR_UFRAG "stspMKJFpJfrezuA"
#define THEIR_PWD "bfKhVuWMoZavQQzJPrNrBxFyTUAhArhT"

static uint32_t rng;
static unsigned idle_ms;
static struct nb_time now;
static struct ice_agent *a;
static uint8_t mem[ICE_DGRAM_MAX];
static struct nb_dgram out;
static unsigned out_via;
static struct stun_msg msg;

static void random_bytes(void *ctx, void *to, size_t n)
{
	(void)ctx;
	for (size_t i = 0; i < n; i++) {
		rng = rng * 1664525u + 1013904223u;
		((uint8_t *)to)[i] = (uint8_t)(rng >> 24);
	}
}

static void config(struct ice_config *cfg, bool controlling)
{
	ice_config_default(cfg);
	cfg->local_ufrag = OUR_UFRAG;
	cfg->local_pwd = OUR_PWD;
	cfg->remote_ufrag = THEIR_UFRAG;
	cfg->remote_pwd = THEIR_PWD;
	cfg->controlling = controlling;
	cfg->idle_ms = idle_ms;
	cfg->random = random_bytes;
}

static void begin(bool controlling)
{
	struct ice_config cfg;

	rng = 7;
	now.ns = 100 * NB_SEC;
	out = (struct nb_dgram){ .p = mem, .cap = sizeof mem };
	config(&cfg, controlling);
	a = ice_new(&cfg, now);
	assert_non_null(a);
}

static void later(int64_t ms)
{
	now = nb_time_add_ms(now, ms);
}

static int local(const char *line, unsigned via)
{
	struct ice_candidate c;

	assert_int_equal(ice_candidate_parse(&c, nb_bytes_str(line)), 0);
	c.via = via;
	return ice_add_local(a, &c, now);
}

static int remote(const char *line)
{
	struct ice_candidate c;

	assert_int_equal(ice_candidate_parse(&c, nb_bytes_str(line)), 0);
	return ice_add_remote(a, &c, now);
}

static struct nb_endpoint at(const char *text)
{
	struct nb_endpoint e;

	assert_int_equal(nb_endpoint_parse(&e, text), 0);
	return e;
}

static bool output(void)
{
	if (!ice_output(a, &out, &out_via, now))
		return false;
	assert_int_equal(stun_decode(&msg, nb_bytes(out.p, out.n)), 0);
	assert_int_equal(msg.method, STUN_BINDING);
	return true;
}

/* Skip what goes out now. */
static unsigned flush(void)
{
	unsigned n = 0;

	while (output())
		n++;
	return n;
}

/* The next check to `to` within ms; time moves on with it. */
static void next_check(const char *to, int64_t ms)
{
	struct nb_time end = nb_time_add_ms(now, ms);
	struct nb_endpoint e = at(to);

	while (!nb_time_before(end, now)) {
		while (output()) {
			if (msg.cls == STUN_REQUEST && nb_endpoint_eq(&out.to, &e) && msg.nattrs)
				return;
		}
		now = ice_deadline(a);
	}
	fail_msg("no check to %s", to);
}

static int input(const uint8_t *p, size_t n, const char *from, unsigned via)
{
	uint8_t copy[ICE_DGRAM_MAX];
	struct nb_dgram in = { .from = at(from), .p = copy, .n = n };

	memcpy(copy, p, n);
	return ice_input(a, &in, via, now);
}

/* Answer the request in msg as the other side, from `from`. */
static int answer(const char *from, const char *pwd, unsigned code)
{
	uint8_t b_mem[512], txid[STUN_TXID_LEN];
	struct nb_endpoint mapped = at("203.0.113.11:51820");
	struct nb_buf b;
	struct stun_enc e;

	memcpy(txid, stun_txid(&msg), sizeof txid);
	nb_buf_fixed(&b, b_mem, sizeof b_mem);
	e = stun_begin(&b, code ? STUN_ERROR : STUN_SUCCESS, STUN_BINDING, txid);
	if (code)
		stun_put_error(&e, code, "no");
	else
		stun_put_xor_addr(&e, STUN_A_XOR_MAPPED_ADDRESS, &mapped);
	if (pwd)
		stun_put_integrity(&e, nb_bytes_str(pwd));
	assert_int_equal(stun_end(&e), 0);
	return input(b.p, b.n, from, out_via);
}

struct ask {
	const char *user, *pwd, *id;
	uint16_t role;
	uint64_t tie;
	bool use;
};

static int request(const char *from, unsigned via, struct ask q)
{
	uint8_t b_mem[512];
	struct nb_buf b;
	struct stun_enc e;

	nb_buf_fixed(&b, b_mem, sizeof b_mem);
	e = stun_begin(&b, STUN_REQUEST, STUN_BINDING, (const uint8_t *)"0123456789ab");
	stun_put_str(&e, STUN_A_USERNAME, q.user ? q.user : OUR_UFRAG ":" THEIR_UFRAG);
	if (q.use)
		stun_put_flag(&e, ICE_A_USE_CANDIDATE);
	stun_put_u64(&e, q.role ? q.role : ICE_A_CONTROLLING, q.tie);
	stun_put_u32(&e, ICE_A_PRIORITY, 12345);
	stun_put_integrity(&e, nb_bytes_str(q.pwd ? q.pwd : OUR_PWD));
	stun_put_fingerprint(&e);
	if (q.id)
		stun_put_str(&e, ICE_A_NETBIRD_PAIR_ID, q.id);
	assert_int_equal(stun_end(&e), 0);
	return input(b.p, b.n, from, via);
}

static enum ice_event_type event(void)
{
	struct ice_event ev;

	do {
		if (!ice_event(a, &ev))
			return ICE_EV_NONE;
	} while (ev.type == ICE_EV_CANDIDATE);
	return ev.type;
}

#define HOST "1 1 udp 0 203.0.113.11 51820 typ host cid khZU9C5YOaPPBoweUKmITaH0OOmzfRxw"
#define R_HOST "1 1 udp 0 203.0.113.99 51820 typ host cid E3WO4Ji5GU/Bledfz7SppBO08w8mbOpK"
#define R_SRFLX "1 1 udp 0 203.0.113.22 51820 typ srflx raddr 0.0.0.0 rport 51820 cid sGJAEutY+UpOXnWFZuMtQjoqQ09bSB3B"
#define R_RELAY "1 1 udp 0 198.51.100.9 50000 typ relay raddr 0.0.0.0 rport 9"
#define A_HOST "203.0.113.99:51820"
#define A_SRFLX "203.0.113.22:51820"
#define A_RELAY "198.51.100.9:50000"

/* ---- Stock ---- */

static json_t *find_success(json_t *packets, const char *transaction)
{
	json_t *p;
	size_t i;

	json_array_foreach(packets, i, p) {
		if (strcmp(json_string_value(json_object_get(p, "class")), "success") == 0 &&
		    strcmp(json_string_value(json_object_get(p, "transaction")), transaction) == 0)
			return p;
	}
	return NULL;
}

static size_t unhex(uint8_t *to, json_t *packet)
{
	const char *hex = json_string_value(json_object_get(packet, "hex"));

	assert_int_equal(nb_hex_decode(to, strlen(hex) / 2, nb_bytes_str(hex)), 0);
	return strlen(hex) / 2;
}

/* Our answer says what stock's recorded answer to the same request says. The second half of the pair
 * id may differ: stock names the candidate it found by address, we the one that asked. */
static void same_answer(json_t *recorded)
{
	static const uint16_t order[] = { STUN_A_XOR_MAPPED_ADDRESS, ICE_A_NETBIRD_PAIR_ID,
					  STUN_A_MESSAGE_INTEGRITY, STUN_A_FINGERPRINT };
	struct nb_bytes id, want_id;
	struct nb_endpoint e, want_e;
	struct stun_msg want;
	uint8_t buf[512];

	assert_int_equal(stun_decode(&want, nb_bytes(buf, unhex(buf, recorded))), 0);
	assert_int_equal(msg.cls, STUN_SUCCESS);
	assert_memory_equal(stun_txid(&msg), stun_txid(&want), STUN_TXID_LEN);
	assert_int_equal(msg.nattrs, 4);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(msg.attrs[i].type, order[i]);
	assert_int_equal(stun_check_integrity(&msg, nb_bytes_str(OUR_PWD)), 0);
	assert_int_equal(stun_check_fingerprint(&msg), 0);
	assert_int_equal(stun_get_xor_addr(&msg, STUN_A_XOR_MAPPED_ADDRESS, &e), 0);
	assert_int_equal(stun_get_xor_addr(&want, STUN_A_XOR_MAPPED_ADDRESS, &want_e), 0);
	assert_true(nb_endpoint_eq(&e, &want_e));
	assert_int_equal(stun_find_anywhere(&msg, ICE_A_NETBIRD_PAIR_ID, &id), 0);
	assert_int_equal(stun_find_anywhere(&want, ICE_A_NETBIRD_PAIR_ID, &want_id), 0);
	assert_int_equal(id.n, 65);
	assert_memory_equal(id.p, want_id.p, 33);
}

/* Stock's controlling side b, replayed at us in the place of a: every request gets a's answer, and
 * its nomination selects the pair. */
static void stock_controls_us(void **state)
{
	json_t *all = json_load_file("tests/vectors/ice/checks.json", 0, NULL), *packets, *p, *want;
	unsigned answered = 0, checks = 0;
	struct ice_pair_info info;
	uint8_t buf[512];
	size_t i;

	(void)state;
	assert_non_null(all);
	packets = json_object_get(all, "packets");
	begin(false);
	assert_int_equal(local(HOST, 0), 0);
	json_array_foreach(packets, i, p) {
		const char *src = json_string_value(json_object_get(p, "src"));

		if (strcmp(json_string_value(json_object_get(p, "sender")), "b") ||
		    strcmp(json_string_value(json_object_get(p, "class")), "request"))
			continue;
		now.ns = (int64_t)(json_number_value(json_object_get(p, "t_s")) * 1e9) + 96 * NB_SEC;
		assert_int_equal(input(buf, unhex(buf, p), src, 0), 0);
		want = find_success(packets, json_string_value(json_object_get(p, "transaction")));
		while (output()) {
			if (msg.cls == STUN_REQUEST) {
				checks++;
				assert_int_equal(answer(src, THEIR_PWD, 0), 0);
				continue;
			}
			answered++;
			if (want)	/* the recording ends before the last one */
				same_answer(want);
		}
	}
	assert_true(answered >= 12 && checks >= 1);
	assert_int_equal(event(), ICE_EV_CONNECTED);
	assert_true(ice_selected(a, &info));
	assert_string_equal(info.local.cid, "khZU9C5YOaPPBoweUKmITaH0OOmzfRxw");
	assert_int_equal(info.remote.type, ICE_PRFLX);	/* b's candidates were not given here */
	assert_int_equal(remote(R_SRFLX), NB_E_EXISTS);
	assert_true(ice_selected(a, &info));
	assert_int_equal(info.remote.type, ICE_SRFLX);
	ice_free(a);
	json_decref(all);
}

/* Attributes and their order as stock reads them. */
static void our_check(void **state)
{
	static const uint16_t order[] = { STUN_A_USERNAME, ICE_A_USE_CANDIDATE, ICE_A_CONTROLLING, ICE_A_PRIORITY,
					  ICE_A_NETBIRD_PAIR_ID, STUN_A_MESSAGE_INTEGRITY, STUN_A_FINGERPRINT };
	struct nb_bytes v;
	uint32_t priority;

	(void)state;
	begin(true);
	assert_int_equal(local(HOST, 0), 0);
	assert_int_equal(remote(R_HOST), 0);
	next_check(A_HOST, 0);
	assert_false(stun_has(&msg, ICE_A_USE_CANDIDATE));
	assert_int_equal(answer(A_HOST, THEIR_PWD, 0), 0);
	next_check(A_HOST, 10);
	assert_int_equal(msg.nattrs, 7);
	for (unsigned i = 0; i < 7; i++)
		assert_int_equal(msg.attrs[i].type, order[i]);
	assert_int_equal(stun_check_integrity(&msg, nb_bytes_str(THEIR_PWD)), 0);
	assert_int_equal(stun_check_fingerprint(&msg), 0);
	assert_int_equal(stun_find(&msg, STUN_A_USERNAME, &v), 0);
	assert_true(nb_bytes_eq_str(v, THEIR_UFRAG ":" OUR_UFRAG));
	assert_int_equal(stun_get_u32(&msg, ICE_A_PRIORITY, &priority), 0);
	assert_int_equal(priority, 2130706431);
	assert_int_equal(stun_find(&msg, ICE_A_NETBIRD_PAIR_ID, &v), 0);
	assert_true(nb_bytes_eq_str(v, "khZU9C5YOaPPBoweUKmITaH0OOmzfRxw:E3WO4Ji5GU/Bledfz7SppBO08w8mbOpK"));
	ice_free(a);
}

/* ---- Nomination ---- */

static const struct {
	const char *remote, *at;
	int64_t wait_ms;
} waits[] = {
	{ R_HOST, A_HOST, 0 },
	{ R_SRFLX, A_SRFLX, 500 },
	{ NULL, "203.0.113.77:1", 1000 },	/* learned */
	{ R_RELAY, A_RELAY, 2000 },
};

static void acceptance_waits(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
		struct nb_time started;

		begin(true);
		started = now;
		assert_int_equal(local(HOST, 0), 0);
		if (waits[i].remote)
			assert_int_equal(remote(waits[i].remote), 0);
		else
			assert_int_equal(request(waits[i].at, 0, (struct ask){ .role = ICE_A_CONTROLLED }), 0);
		next_check(waits[i].at, 10);
		assert_int_equal(answer(waits[i].at, THEIR_PWD, 0), 0);
		next_check(waits[i].at, 2100);
		assert_true(stun_has(&msg, ICE_A_USE_CANDIDATE));
		assert_true(nb_time_diff(now, started) >= waits[i].wait_ms * NB_MS);
		assert_true(nb_time_diff(now, started) <= (waits[i].wait_ms + 10) * NB_MS);
		assert_int_equal(event(), ICE_EV_NONE);
		assert_int_equal(answer(waits[i].at, THEIR_PWD, 0), 0);
		assert_int_equal(event(), ICE_EV_CONNECTED);
		ice_free(a);
	}
}

/* A relay that works at once does not win over a direct path that works a little later. */
static void direct_beats_relay(void **state)
{
	struct ice_pair_info info;

	(void)state;
	begin(true);
	assert_int_equal(local(HOST, 0), 0);
	assert_int_equal(local("1 1 udp 0 198.51.100.7 50001 typ relay", 3), 0);
	assert_int_equal(remote(R_RELAY), 0);
	assert_int_equal(remote(R_SRFLX), 0);
	next_check(A_RELAY, 30);
	assert_int_equal(answer(A_RELAY, THEIR_PWD, 0), 0);
	later(900);
	do {
		next_check(A_SRFLX, 300);
	} while (out_via);
	assert_int_equal(answer(A_SRFLX, THEIR_PWD, 0), 0);
	for (int i = 0; i < 20 && event() != ICE_EV_CONNECTED; i++) {
		next_check(A_SRFLX, 300);
		answer(A_SRFLX, THEIR_PWD, 0);
	}
	assert_true(ice_selected(a, &info));
	assert_int_equal(info.remote.type, ICE_SRFLX);
	assert_int_equal(info.via, 0);
	ice_free(a);
}

/* Selected over the other side's relay. */
static void connect_relayed(bool controlling)
{
	begin(controlling);
	assert_int_equal(local(HOST, 0), 0);
	assert_int_equal(remote(R_RELAY), 0);
	if (!controlling)
		assert_int_equal(request(A_RELAY, 0, (struct ask){ .use = true }), 0);
	for (int i = 0; i < 20; i++) {
		next_check(A_RELAY, 2100);
		assert_int_equal(answer(A_RELAY, THEIR_PWD, 0), 0);
		if (event() == ICE_EV_CONNECTED)
			return;
	}
	fail();
}

/* A candidate that comes when only a relay was found: a direct way replaces it. */
static void direct_replaces_relay(void **state)
{
	struct ice_pair_info info;

	(void)state;
	connect_relayed(true);
	assert_int_equal(remote(R_SRFLX), 0);
	next_check(A_SRFLX, 10);
	assert_false(stun_has(&msg, ICE_A_USE_CANDIDATE));
	assert_int_equal(answer(A_SRFLX, THEIR_PWD, 0), 0);
	assert_int_equal(event(), ICE_EV_NONE);
	next_check(A_SRFLX, 10);
	assert_true(stun_has(&msg, ICE_A_USE_CANDIDATE));
	assert_int_equal(answer(A_SRFLX, THEIR_PWD, 0), 0);
	assert_int_equal(event(), ICE_EV_SELECTED);
	assert_true(ice_selected(a, &info));
	assert_int_equal(info.remote.type, ICE_SRFLX);
	/* Direct is good enough, and a relay is no reason at all. */
	assert_int_equal(remote(R_HOST), 0);
	assert_int_equal(local("1 1 udp 0 198.51.100.7 50001 typ relay", 3), 0);
	for (int i = 0; i < 20; i++) {
		while (output())
			assert_int_equal(out.to.addr.ip[3], 22);
		later(50);
	}
	ice_free(a);
}

static void direct_replaces_relay_as_the_other_side_says(void **state)
{
	struct ice_pair_info info;

	(void)state;
	connect_relayed(false);
	assert_int_equal(remote(R_SRFLX), 0);
	next_check(A_SRFLX, 10);
	assert_int_equal(answer(A_SRFLX, THEIR_PWD, 0), 0);
	later(100);
	flush();
	assert_int_equal(event(), ICE_EV_NONE);
	assert_int_equal(request(A_SRFLX, 0, (struct ask){ .use = true }), 0);
	assert_int_equal(event(), ICE_EV_SELECTED);
	assert_true(ice_selected(a, &info));
	assert_int_equal(info.remote.type, ICE_SRFLX);
	ice_free(a);
}

/* It does not answer: eight tries, and the relay stays. */
static void relay_stays_when_direct_is_silent(void **state)
{
	struct ice_pair_info info;
	int tries = 0;

	(void)state;
	connect_relayed(true);
	assert_int_equal(remote(R_SRFLX), 0);
	for (struct nb_time end = nb_time_add_ms(now, 5000); nb_time_before(now, end);) {
		while (output()) {
			tries += out.to.addr.ip[3] == 22;
			if (out.to.addr.ip[3] == 9)
				answer(A_RELAY, THEIR_PWD, 0);
		}
		now = ice_deadline(a);
	}
	assert_int_equal(tries, 8);
	assert_int_equal(event(), ICE_EV_NONE);
	assert_true(ice_selected(a, &info));
	assert_int_equal(info.remote.type, ICE_RELAY);
	ice_free(a);
}

/* Nobody answers the nomination: after 8 tries the next best pair gets it. */
static void nomination_lost(void **state)
{
	struct ice_pair_info info;
	int tries = 0;

	(void)state;
	begin(true);
	assert_int_equal(local(HOST, 0), 0);
	assert_int_equal(remote(R_HOST), 0);
	assert_int_equal(remote(R_SRFLX), 0);
	next_check(A_HOST, 10);
	assert_int_equal(answer(A_HOST, THEIR_PWD, 0), 0);
	next_check(A_SRFLX, 10);
	assert_int_equal(answer(A_SRFLX, THEIR_PWD, 0), 0);
	for (struct nb_time end = nb_time_add_ms(now, 4000); nb_time_before(now, end);) {
		while (output()) {
			tries += out.to.addr.ip[3] == 99 && stun_has(&msg, ICE_A_USE_CANDIDATE);
			if (out.to.addr.ip[3] == 22)
				answer(A_SRFLX, THEIR_PWD, 0);
		}
		now = ice_deadline(a);
	}
	assert_int_equal(tries, 7);	/* and one before, while we waited for the check of the other pair */
	assert_int_equal(event(), ICE_EV_CONNECTED);
	assert_true(ice_selected(a, &info));
	assert_int_equal(info.remote.type, ICE_SRFLX);
	ice_free(a);
}

/* Without another pair the nomination is repeated every 200 ms, however long. */
static void nomination_goes_on(void **state)
{
	struct nb_time last;

	(void)state;
	begin(true);
	assert_int_equal(local(HOST, 0), 0);
	assert_int_equal(remote(R_HOST), 0);
	next_check(A_HOST, 0);
	assert_int_equal(answer(A_HOST, THEIR_PWD, 0), 0);
	next_check(A_HOST, 10);
	for (int i = 0; i < 20; i++) {
		last = now;
		next_check(A_HOST, 200);
		assert_true(stun_has(&msg, ICE_A_USE_CANDIDATE));
		assert_int_equal(nb_time_diff(now, last), 200 * NB_MS);
	}
	assert_int_equal(answer(A_HOST, THEIR_PWD, 0), 0);
	assert_int_equal(event(), ICE_EV_CONNECTED);
	ice_free(a);
}

static void controlled_selects(void **state)
{
	struct ice_pair_info info;

	(void)state;
	begin(false);
	assert_int_equal(local(HOST, 0), 0);
	assert_int_equal(local("1 1 udp 0 192.0.2.1 4 typ srflx raddr 0.0.0.0 rport 51820 cid ours", 0), 0);
	assert_int_equal(remote(R_SRFLX), 0);
	assert_int_equal(remote(R_HOST), 0);
	/* before our own check succeeded: deferred */
	assert_int_equal(request(A_SRFLX, 0, (struct ask){ .use = true, .id = "theirs:ours" }), 0);
	assert_int_equal(event(), ICE_EV_NONE);
	next_check(A_SRFLX, 10);
	assert_int_equal(answer(A_SRFLX, THEIR_PWD, 0), 0);
	assert_int_equal(event(), ICE_EV_CONNECTED);
	assert_true(ice_selected(a, &info));
	assert_string_equal(info.local.cid, "ours");	/* the one the controlling side named */
	assert_int_equal(info.local.type, ICE_SRFLX);
	/* a better pair, nominated later: selected; a worse one: not */
	assert_int_equal(request(A_HOST, 0, (struct ask){ .use = true }), 0);
	next_check(A_HOST, 100);
	assert_int_equal(answer(A_HOST, THEIR_PWD, 0), 0);
	assert_int_equal(event(), ICE_EV_SELECTED);
	assert_int_equal(request(A_SRFLX, 0, (struct ask){ .use = true }), 0);
	assert_int_equal(event(), ICE_EV_NONE);
	assert_true(ice_selected(a, &info));
	assert_int_equal(info.remote.type, ICE_HOST);
	ice_free(a);
}

/* Two pairs are nominated before either check succeeded: the better one stays selected. */
static void deferred_nominations(void **state)
{
	struct ice_pair_info info;

	(void)state;
	begin(false);
	assert_int_equal(local(HOST, 0), 0);
	assert_int_equal(remote(R_SRFLX), 0);
	assert_int_equal(remote(R_HOST), 0);
	assert_int_equal(request(A_SRFLX, 0, (struct ask){ .use = true }), 0);
	assert_int_equal(request(A_HOST, 0, (struct ask){ .use = true }), 0);
	next_check(A_HOST, 10);
	assert_int_equal(answer(A_HOST, THEIR_PWD, 0), 0);
	assert_int_equal(event(), ICE_EV_CONNECTED);
	next_check(A_SRFLX, 300);
	assert_int_equal(answer(A_SRFLX, THEIR_PWD, 0), 0);
	assert_int_equal(event(), ICE_EV_NONE);
	assert_true(ice_selected(a, &info));
	assert_int_equal(info.remote.type, ICE_HOST);
	ice_free(a);
}

/* A learned address turns out to be a relay: the pair loses its rank to the server-reflexive one. */
static void learned_then_signalled(void **state)
{
	struct ice_pair_info info;
	struct nb_time started;

	(void)state;
	begin(true);
	started = now;
	assert_int_equal(local(HOST, 0), 0);
	assert_int_equal(request(A_RELAY, 0, (struct ask){ .role = ICE_A_CONTROLLED }), 0);
	assert_int_equal(remote(R_SRFLX), 0);
	next_check(A_RELAY, 10);
	assert_int_equal(answer(A_RELAY, THEIR_PWD, 0), 0);
	next_check(A_SRFLX, 10);
	assert_int_equal(answer(A_SRFLX, THEIR_PWD, 0), 0);
	assert_int_equal(remote(R_RELAY), NB_E_EXISTS);
	next_check(A_SRFLX, 600);
	assert_true(nb_time_diff(now, started) < 600 * NB_MS);
	assert_int_equal(answer(A_SRFLX, THEIR_PWD, 0), 0);
	assert_true(ice_selected(a, &info));
	assert_int_equal(info.remote.type, ICE_SRFLX);
	ice_free(a);
}

/* The best local candidate names the path, even when it comes later. */
static void better_local_name(void **state)
{
	struct ice_pair_info info;
	struct nb_bytes v;

	(void)state;
	begin(true);
	assert_int_equal(local("1 1 udp 0 192.0.2.1 4 typ srflx raddr 0.0.0.0 rport 51820 cid reflexive", 0), 0);
	assert_int_equal(remote(R_HOST), 0);
	assert_int_equal(local(HOST, 0), 0);
	next_check(A_HOST, 0);
	assert_int_equal(stun_find(&msg, ICE_A_NETBIRD_PAIR_ID, &v), 0);
	assert_memory_equal(v.p, "khZU9C5YOaPPBoweUKmITaH0OOmzfRxw:", 33);
	assert_int_equal(answer(A_HOST, THEIR_PWD, 0), 0);
	next_check(A_HOST, 10);
	assert_int_equal(answer(A_HOST, THEIR_PWD, 0), 0);
	assert_true(ice_selected(a, &info));
	assert_int_equal(info.local.type, ICE_HOST);
	ice_free(a);
}

/* Checks leave one by one, 5 ms apart, the best pair first; each again after 200 ms. */
static void pacing(void **state)
{
	struct nb_time started, sent[40] = { { 0 } };
	unsigned n = 0;

	(void)state;
	begin(true);
	started = now;
	assert_int_equal(local(HOST, 0), 0);
	assert_int_equal(remote(R_RELAY), 0);
	assert_int_equal(remote(R_SRFLX), 0);
	assert_int_equal(remote(R_HOST), 0);
	while (n < 6) {
		while (output()) {
			static const uint8_t order[] = { 99, 22, 9 };

			assert_int_equal(out.to.addr.ip[3], order[n % 3]);
			sent[n++] = now;
		}
		now = ice_deadline(a);
	}
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(nb_time_diff(sent[i], started), i * 5 * NB_MS);
		assert_int_equal(nb_time_diff(sent[i + 3], sent[i]), 200 * NB_MS);
	}
	ice_free(a);
}

/* The controlled side holds its own checks for 100 ms, but answers, and checks what was checked. */
static void controlled_holds(void **state)
{
	(void)state;
	begin(false);
	assert_int_equal(local(HOST, 0), 0);
	assert_int_equal(remote(R_HOST), 0);
	assert_int_equal(remote(R_SRFLX), 0);
	later(99);
	assert_int_equal(flush(), 0);
	assert_int_equal(request(A_SRFLX, 0, (struct ask){ 0 }), 0);
	assert_true(output());
	assert_int_equal(msg.cls, STUN_SUCCESS);
	next_check(A_SRFLX, 0);
	assert_int_equal(flush(), 0);
	next_check(A_HOST, 5);
	ice_free(a);
}

/* ---- Liveness ---- */

static void connect_host(bool controlling)
{
	begin(controlling);
	assert_int_equal(local(HOST, 0), 0);
	assert_int_equal(remote(R_HOST), 0);
	if (!controlling)
		assert_int_equal(request(A_HOST, 0, (struct ask){ .use = true }), 0);
	for (int i = 0; i < 3 && event() != ICE_EV_CONNECTED; i++) {
		next_check(A_HOST, 10);
		assert_int_equal(answer(A_HOST, THEIR_PWD, 0), 0);
	}
	assert_int_equal(ice_state(a), ICE_CONNECTED);
	flush();
}

static void keepalive(void **state)
{
	struct nb_time last;

	(void)state;
	connect_host(true);
	last = now;
	for (int i = 0; i < 5; i++) {
		next_check(A_HOST, 2100);
		assert_int_equal(nb_time_diff(now, last), 2 * NB_SEC);
		assert_false(stun_has(&msg, ICE_A_USE_CANDIDATE));
		last = now;
		later(30);
		assert_int_equal(answer(A_HOST, THEIR_PWD, 0), 0);
		now = last;
	}
	ice_free(a);
}

/* Both know the rules: while no data passes one check in 25 s, with USE-CANDIDATE in case our NAT gave us another
 * mapping; lost ones are repeated; data brings the usual watch back at once. */
static void idle_path(void **state)
{
	struct nb_time last;

	(void)state;
	idle_ms = 25000;
	connect_host(true);
	idle_ms = 0;
	for (last = now; nb_time_diff(now, last) < 10 * NB_SEC;) {
		next_check(A_HOST, 2100);
		assert_int_equal(answer(A_HOST, THEIR_PWD, 0), 0);
	}
	for (int i = 0; i < 10; i++) {
		last = now;
		next_check(A_HOST, 25100);
		assert_int_equal(nb_time_diff(now, last), 25 * NB_SEC);
		assert_true(stun_has(&msg, ICE_A_USE_CANDIDATE));
		assert_int_equal(answer(A_HOST, THEIR_PWD, 0), 0);
	}
	last = now;
	next_check(A_HOST, 25100);
	next_check(A_HOST, 2100);	/* the first was lost */
	assert_int_equal(nb_time_diff(now, last), 25350 * NB_MS);
	assert_int_equal(answer(A_HOST, THEIR_PWD, 0), 0);
	later(5000);
	last = now;
	ice_active(a, now);
	next_check(A_HOST, 10);
	later(5990);
	ice_active(a, now);
	flush();
	assert_int_equal(event(), ICE_EV_NONE);
	later(20);
	flush();
	assert_int_equal(event(), ICE_EV_DISCONNECTED);
	ice_free(a);
}

/* Events without ICE_EV_SILENT, which has tests of its own. */
static enum ice_event_type life(void)
{
	enum ice_event_type ev;

	do {
		ev = event();
	} while (ev == ICE_EV_SILENT);
	return ev;
}

/* Run until the next event or for ms; nobody answers. Returns how many checks went out. */
static unsigned unanswered(int64_t ms, enum ice_event_type *ev)
{
	struct nb_time end = nb_time_add_ms(now, ms);
	unsigned n = 0;

	for (*ev = ICE_EV_NONE; *ev == ICE_EV_NONE && !nb_time_before(end, now); now = ice_deadline(a)) {
		n += flush();
		*ev = event();
		if (*ev != ICE_EV_NONE)
			break;
	}
	return n;
}

/* A selected pair that stops answering: asked more often, said after 2 s; the rest takes its time as before. */
static void silent_pair(void **state)
{
	struct nb_time last;
	enum ice_event_type ev;

	(void)state;
	connect_host(true);
	next_check(A_HOST, 2100);
	last = now;
	assert_int_equal(unanswered(5000, &ev), 5);
	assert_int_equal(ev, ICE_EV_SILENT);
	assert_int_equal(nb_time_diff(now, last), 2 * NB_SEC);
	/* told once, and no flood afterwards */
	assert_true(unanswered(3000, &ev) <= 4);
	assert_int_equal(ev, ICE_EV_DISCONNECTED);
	ice_free(a);
}

/* Doubt from outside: six checks in 600 ms and the answer is there, or the pair is silent. */
static void probe(void **state)
{
	enum ice_event_type ev;
	struct nb_time last;

	(void)state;
	connect_host(false);
	ice_probe(a, now);		/* an answer came this moment */
	assert_int_equal(flush(), 0);
	later(700);
	ice_probe(a, now);
	next_check(A_HOST, 0);
	later(150);
	assert_int_equal(answer(A_HOST, THEIR_PWD, 0), 0);
	flush();
	last = now;
	next_check(A_HOST, 2100);	/* trusted again: the usual pause */
	assert_in_range(nb_time_diff(now, last), 1800 * NB_MS, 2000 * NB_MS);
	assert_int_equal(answer(A_HOST, THEIR_PWD, 0), 0);
	later(600);
	ice_probe(a, now);
	last = now;
	assert_in_range(unanswered(5000, &ev), 5, 7);
	assert_int_equal(ev, ICE_EV_SILENT);
	assert_in_range(nb_time_diff(now, last), 600 * NB_MS, 700 * NB_MS);
	assert_int_equal(ice_state(a), ICE_CONNECTED);
	/* alive again: that can be said of it once more */
	next_check(A_HOST, 2100);
	assert_int_equal(answer(A_HOST, THEIR_PWD, 0), 0);
	later(600);
	ice_probe(a, now);
	unanswered(5000, &ev);
	assert_int_equal(ev, ICE_EV_SILENT);
	ice_free(a);
}

/* Requests of the other side count as life, indications do not; silence is noticed after 6 s. */
static void silence(void **state)
{
	uint8_t indication[20] = { 0x00, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42 };

	(void)state;
	connect_host(false);
	for (int i = 0; i < 4; i++) {
		later(4000);
		assert_int_equal(request(A_HOST, 0, (struct ask){ 0 }), 0);
		flush();
		assert_int_equal(life(), ICE_EV_NONE);
	}
	later(4000);
	assert_int_equal(input(indication, 20, A_HOST, 0), 0);
	flush();
	later(2000);
	flush();
	assert_int_equal(life(), ICE_EV_DISCONNECTED);
	later(1000);
	assert_int_equal(request(A_HOST, 0, (struct ask){ 0 }), 0);
	assert_int_equal(life(), ICE_EV_CONNECTED);
	later(12000);
	flush();
	assert_int_equal(life(), ICE_EV_DISCONNECTED);
	assert_int_equal(life(), ICE_EV_FAILED);
	assert_int_equal(request(A_HOST, 0, (struct ask){ 0 }), NB_E_STATE);
	assert_true(nb_time_is_never(ice_deadline(a)));
	ice_free(a);
}

/* RFC 7675: their requests alone, without any answer to ours, do not keep the consent. */
static void consent_ends(void **state)
{
	(void)state;
	connect_host(false);
	for (int i = 0; i < 14; i++) {
		later(2000);
		assert_int_equal(request(A_HOST, 0, (struct ask){ 0 }), 0);
		flush();
		assert_int_equal(life(), ICE_EV_NONE);
	}
	later(2000);
	flush();
	assert_int_equal(life(), ICE_EV_DISCONNECTED);
	ice_free(a);
}

/* ---- Refusals ---- */

static void refuses(void **state)
{
	const char *stranger = "198.18.0.1:9";
	uint8_t garbage[64] = { 0 };
	struct ice_event ev;

	(void)state;
	begin(false);
	assert_int_equal(local(HOST, 0), 0);
	while (ice_event(a, &ev))
		;
	assert_int_equal(request(stranger, 0, (struct ask){ .pwd = THEIR_PWD }), NB_E_AUTH);
	assert_int_equal(request(stranger, 0, (struct ask){ .user = OUR_UFRAG ":" OUR_UFRAG }), NB_E_AUTH);
	assert_int_equal(request(stranger, 0, (struct ask){ .user = OUR_UFRAG ":" THEIR_UFRAG "x" }), NB_E_AUTH);
	assert_int_equal(request(stranger, 0, (struct ask){ .user = OUR_UFRAG }), NB_E_AUTH);
	assert_true(input(garbage, sizeof garbage, stranger, 0) < 0);
	assert_int_equal(flush(), 0);	/* no answer, no learned address, no check */
	assert_int_equal(ice_stats(a)->dropped, 5);

	assert_int_equal(remote(R_HOST), 0);
	next_check(A_HOST, 100);
	assert_int_equal(answer(A_SRFLX, THEIR_PWD, 0), NB_E_NOTFOUND);	/* not where it was sent */
	assert_int_equal(answer(A_HOST, NULL, 0), NB_E_AUTH);
	assert_int_equal(answer(A_HOST, OUR_PWD, 0), NB_E_AUTH);
	out_via = 1;
	assert_int_equal(answer(A_HOST, THEIR_PWD, 0), NB_E_NOTFOUND);	/* another path */
	out_via = 0;
	later(4001);
	assert_int_equal(answer(A_HOST, THEIR_PWD, 0), NB_E_NOTFOUND);	/* too late */
	later(-4001);
	assert_int_equal(answer(A_HOST, THEIR_PWD, 0), 0);
	assert_int_equal(answer(A_HOST, THEIR_PWD, 0), NB_E_NOTFOUND);	/* a second time */
	ice_free(a);
}

static void credentials_needed(void **state)
{
	char huge[ICE_PWD_MAX + 2];
	struct ice_config cfg;

	(void)state;
	memset(huge, 'a', sizeof huge);
	huge[sizeof huge - 1] = 0;
	begin(true);
	ice_free(a);
	config(&cfg, true);
	cfg.remote_ufrag = "";
	assert_null(ice_new(&cfg, now));
	config(&cfg, true);
	cfg.remote_pwd = huge;
	assert_null(ice_new(&cfg, now));
	config(&cfg, true);
	cfg.local_pwd = NULL;
	assert_null(ice_new(&cfg, now));
	ice_free(NULL);
}

static void relay_only(void **state)
{
	struct ice_config cfg;

	(void)state;
	begin(true);
	ice_free(a);
	config(&cfg, true);
	cfg.relay_only = true;
	a = ice_new(&cfg, now);
	assert_int_equal(local(HOST, 0), 0);
	assert_int_equal(ice_add_stun_server(a, &(struct nb_endpoint){ nb_addr4(0x01020304), 3478 }, 51820, now), 0);
	assert_int_equal(remote(R_HOST), 0);
	assert_int_equal(flush(), 0);
	assert_int_equal(request(A_HOST, 0, (struct ask){ .role = ICE_A_CONTROLLED }), NB_E_DENIED);
	assert_int_equal(local("1 1 udp 0 198.51.100.7 50001 typ relay", 2), 0);
	next_check(A_HOST, 10);
	assert_int_equal(out_via, 2);
	ice_free(a);
}

static void role_conflicts(void **state)
{
	unsigned code;

	(void)state;
	for (int controlling = 0; controlling < 2; controlling++) {
		uint16_t same = controlling ? ICE_A_CONTROLLING : ICE_A_CONTROLLED;

		for (int lower = 0; lower < 2; lower++) {
			bool we_win = lower;	/* ours is larger than 0 and smaller than the maximum */

			begin(controlling);
			assert_int_equal(local(HOST, 0), 0);
			assert_int_equal(request(A_HOST, 0, (struct ask){ .role = same, .tie = lower ? 0 : UINT64_MAX }), 0);
			assert_true(output());
			/* the larger tie-breaker becomes (or stays) controlling; who keeps its role answers 487 */
			if (we_win == (bool)controlling) {
				assert_int_equal(msg.cls, STUN_ERROR);
				assert_int_equal(stun_get_error(&msg, &code, NULL), 0);
				assert_int_equal(code, 487);
				assert_int_equal(stun_check_integrity(&msg, nb_bytes_str(OUR_PWD)), 0);
			} else {
				assert_int_equal(msg.cls, STUN_SUCCESS);
			}
			assert_int_equal(ice_is_controlling(a), we_win);
			ice_free(a);
		}
	}
	begin(true);
	assert_int_equal(local(HOST, 0), 0);
	assert_int_equal(remote(R_HOST), 0);
	next_check(A_HOST, 0);
	assert_int_equal(answer(A_HOST, THEIR_PWD, 487), 0);
	assert_false(ice_is_controlling(a));
	next_check(A_HOST, 10);
	assert_true(stun_has(&msg, ICE_A_CONTROLLED));
	ice_free(a);
}

/* ---- Candidates and gathering ---- */

static void learned_candidates(void **state)
{
	struct ice_pair_info info;
	struct nb_bytes v;

	(void)state;
	begin(false);
	/* a request before there is any local candidate is answered all the same */
	assert_int_equal(request("203.0.113.77:9", 0, (struct ask){ .id = "theirs:mine", .use = true }), 0);
	assert_true(output());
	assert_int_equal(msg.cls, STUN_SUCCESS);
	assert_int_equal(stun_find(&msg, ICE_A_NETBIRD_PAIR_ID, &v), 0);
	assert_true(nb_bytes_eq_str(v, "mine:theirs"));
	assert_int_equal(local(HOST, 0), 0);
	next_check("203.0.113.77:9", 10);
	assert_int_equal(stun_find(&msg, ICE_A_NETBIRD_PAIR_ID, &v), 0);
	assert_true(nb_bytes_eq_str(v, "khZU9C5YOaPPBoweUKmITaH0OOmzfRxw:theirs"));
	assert_int_equal(answer("203.0.113.77:9", THEIR_PWD, 0), 0);
	assert_int_equal(request("203.0.113.77:9", 0, (struct ask){ .use = true }), 0);
	assert_int_equal(event(), ICE_EV_CONNECTED);
	assert_true(ice_selected(a, &info));
	assert_int_equal(info.remote.type, ICE_PRFLX);
	assert_int_equal(info.remote.priority, 1862270975);
	/* pair ids that are not two ids are not repeated */
	assert_int_equal(request("203.0.113.77:9", 0, (struct ask){ .id = "a:b:c" }), 0);
	assert_true(output());
	assert_false(stun_has(&msg, ICE_A_NETBIRD_PAIR_ID));
	ice_free(a);
}

static void caps(void **state)
{
	char line[128];
	unsigned n;

	(void)state;
	begin(false);
	for (n = 0; n < 100; n++) {
		snprintf(line, sizeof line, "1 1 udp 0 10.0.0.%u 51820 typ host", n + 1);
		if (local(line, 0))
			break;
	}
	assert_int_equal(n, ICE_LOCAL_MAX);
	for (n = 0; n < 100; n++) {	/* learned ones leave room for signalled ones */
		snprintf(line, sizeof line, "10.1.0.1:%u", 1000 + n);
		assert_int_equal(request(line, 0, (struct ask){ 0 }), 0);
		flush();
	}
	for (n = 0; n < 100; n++) {
		snprintf(line, sizeof line, "1 1 udp 0 10.2.0.1 %u typ host", n + 1);
		if (remote(line))
			break;
	}
	assert_int_equal(n, ICE_REMOTE_MAX - 16);
	/* a burst without output: answers are bounded */
	for (n = 0; n < 100 && request(A_HOST, 0, (struct ask){ 0 }) == 0; n++)
		;
	assert_int_equal(n, 32);
	ice_free(a);
}

static void refused_candidates(void **state)
{
	struct ice_candidate c = { .type = ICE_HOST, .at = { nb_addr4(0xe0000001), 9 } };

	(void)state;
	begin(true);
	assert_int_equal(ice_add_remote(a, &c, now), NB_E_ARG);	/* multicast */
	c.at = (struct nb_endpoint){ nb_addr4(0), 9 };
	assert_int_equal(ice_add_remote(a, &c, now), NB_E_ARG);
	c.at = (struct nb_endpoint){ nb_addr4(0x01020304), 0 };
	assert_int_equal(ice_add_remote(a, &c, now), NB_E_ARG);
	assert_int_equal(local(HOST, 1), NB_E_ARG);		/* only relays have a via */
	assert_int_equal(local("1 1 udp 0 198.51.100.7 50001 typ relay", 0), NB_E_ARG);
	assert_int_equal(local(HOST, 0), 0);
	assert_int_equal(local(HOST, 0), NB_E_EXISTS);
	assert_int_equal(local("1 1 udp 0 203.0.113.11 51820 typ srflx", 0), NB_E_EXISTS);
	assert_int_equal(remote(R_HOST), 0);
	assert_int_equal(remote(R_HOST), NB_E_EXISTS);
	ice_free(a);
}

/* The guess about a forwarded WireGuard port is checked too. */
static void derived_is_checked(void **state)
{
	(void)state;
	begin(true);
	assert_int_equal(local(HOST, 0), 0);
	assert_int_equal(remote("1 1 udp 0 203.0.113.22 4000 typ srflx raddr 0.0.0.0 rport 51820 cid x"), 0);
	next_check("203.0.113.22:4000", 10);
	next_check("203.0.113.22:51820", 10);
	assert_false(stun_has(&msg, ICE_A_NETBIRD_PAIR_ID));
	ice_free(a);
}

static void gathering(void **state)
{
	struct nb_endpoint server = at("198.51.100.1:3478"), mapped = at("192.0.2.7:4321");
	struct nb_time started, sent[8];
	struct nb_endpoint mapped6 = at("[2001:db8::7]:4321");
	uint8_t b_mem[128], wrong_mem[128];
	char text[ICE_CANDIDATE_TEXT];
	struct ice_event ev;
	struct stun_enc e;
	struct nb_buf b, wrong;
	unsigned n = 0;

	(void)state;
	begin(true);
	started = now;
	assert_int_equal(ice_add_stun_server(a, &server, 51820, now), 0);
	assert_int_equal(ice_add_stun_server(a, &server, 51820, now), NB_E_EXISTS);
	while (nb_time_diff(now, started) < 11 * NB_SEC) {
		while (output()) {
			assert_int_equal(out.n, 20);	/* stock's form: nothing but the header */
			assert_true(nb_endpoint_eq(&out.to, &server));
			sent[n++] = now;
		}
		now = ice_deadline(a);
	}
	assert_int_equal(n, 5);		/* 0, 0.25, 0.75, 1.75, 3.75 s; given up after 5 s */
	assert_int_equal(nb_time_diff(sent[4], started), 3750 * NB_MS);

	now = sent[4];
	ice_free(a);
	begin(true);
	assert_int_equal(ice_add_stun_server(a, &server, 51820, now), 0);
	assert_true(output());
	nb_buf_fixed(&b, b_mem, sizeof b_mem);
	e = stun_begin(&b, STUN_SUCCESS, STUN_BINDING, stun_txid(&msg));
	stun_put_xor_addr(&e, STUN_A_XOR_MAPPED_ADDRESS, &mapped);
	assert_int_equal(stun_end(&e), 0);
	assert_int_equal(input(b.p, b.n, "198.51.100.2:3478", 0), NB_E_NOTFOUND);	/* somebody else */
	assert_int_equal(input(b.p, b.n, "198.51.100.1:3478", 1), NB_E_NOTFOUND);	/* another path */
	nb_buf_fixed(&wrong, wrong_mem, sizeof wrong_mem);
	e = stun_begin(&wrong, STUN_SUCCESS, STUN_BINDING, stun_txid(&msg));
	stun_put_xor_addr(&e, STUN_A_XOR_MAPPED_ADDRESS, &mapped6);
	assert_int_equal(stun_end(&e), 0);
	assert_int_equal(input(wrong.p, wrong.n, "198.51.100.1:3478", 0), NB_E_BAD);	/* another family */
	assert_int_equal(input(b.p, b.n, "198.51.100.1:3478", 0), 0);
	assert_int_equal(input(b.p, b.n, "198.51.100.1:3478", 0), NB_E_NOTFOUND);
	assert_int_equal(ice_event(a, &ev), 1);
	assert_int_equal(ev.type, ICE_EV_CANDIDATE);
	ice_candidate_format(text, &ev.candidate);
	assert_non_null(strstr(text, " 1 udp 1694498815 192.0.2.7 4321 typ srflx raddr 0.0.0.0 rport 51820 ufrag "
			       OUR_UFRAG " cid "));
	assert_int_equal(strlen(ev.candidate.cid), ICE_CID_LEN);
	assert_int_equal(ice_event(a, &ev), 0);
	ice_free(a);
}

/* What people are told of each pair, in every state it can end in. */
static void pair_reports(void **state)
{
	static const char *const ends[] = {
		[ICE_PAIR_UNTRIED] = "not tried: another pair was selected first", [ICE_PAIR_UNANSWERED] = "no answer yet to 1 check",
		[ICE_PAIR_TIMED_OUT] = "timed out: no answer to 9 checks", [ICE_PAIR_REFUSED] = "refused with error 400",
		[ICE_PAIR_CONFLICT] = "role conflict", [ICE_PAIR_PRUNED] = "pruned: leaves by the same socket as another pair",
		[ICE_PAIR_WORKS] = "works, 1.5 ms", [ICE_PAIR_SELECTED] = "selected, 1.5 ms",
		[ICE_PAIR_WAS_SELECTED] = "was selected",
	};
	struct ice_pair_report r = { .note = ICE_NOTE_OTHER_SELECTED, .error = 400 };
	char text[ICE_PAIR_TEXT];

	(void)state;
	for (int i = 0; i <= ICE_PAIR_WAS_SELECTED; i++) {
		r.end = (enum ice_pair_end)i;
		r.checks = i == ICE_PAIR_UNANSWERED ? 1 : 9;
		r.rtt_ns = i == ICE_PAIR_WAS_SELECTED ? 0 : 1500000;
		ice_pair_end_text(text, &r);
		assert_string_equal(text, ends[i]);
	}
	r = (struct ice_pair_report){ .end = ICE_PAIR_TIMED_OUT, .checks = 2, .heard = true };
	ice_pair_end_text(text, &r);
	assert_string_equal(text, "timed out: no answer to 2 checks, though the other side's came this way");

	/* The same from an agent: one host and one reflexive candidate behind one socket, three remote ones. */
	begin(true);
	local("1 1 udp 2130706431 192.0.2.7 51820 typ host", 0);
	local("1 1 udp 1694498815 198.51.100.7 51820 typ srflx raddr 0.0.0.0 rport 51820", 0);
	remote("1 1 udp 2130706431 192.0.2.1 1 typ host");
	remote("1 1 udp 2130706431 192.0.2.2 2 typ host");
	assert_true(ice_pair_report(a, 1, &r));
	assert_int_equal(r.end, ICE_PAIR_UNTRIED);
	assert_int_equal(r.note, ICE_NOTE_WAITS);
	assert_false(ice_pair_report(a, 2, &r));
	assert_true(ice_pruned_report(a, 1, &r));
	assert_int_equal(r.end, ICE_PAIR_PRUNED);
	assert_int_equal(r.local_type, ICE_SRFLX);
	assert_false(ice_pruned_report(a, 2, &r));
	assert_true(output());
	assert_int_equal(answer("192.0.2.1:1", THEIR_PWD, 400), 0);
	assert_true(ice_pair_report(a, 0, &r));
	assert_int_equal(r.end, ICE_PAIR_REFUSED);
	assert_int_equal(r.error, 400);
	later(5);
	assert_true(output());
	assert_true(ice_pair_report(a, 1, &r));
	assert_int_equal(r.end, ICE_PAIR_UNANSWERED);
	assert_int_equal(r.checks, 1);
	assert_int_equal(answer("192.0.2.2:2", THEIR_PWD, 487), 0);
	assert_true(ice_pair_report(a, 1, &r));
	assert_int_equal(r.end, ICE_PAIR_CONFLICT);
	ice_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pair_reports),
		cmocka_unit_test(stock_controls_us), cmocka_unit_test(our_check),
		cmocka_unit_test(acceptance_waits), cmocka_unit_test(direct_replaces_relay),
		cmocka_unit_test(direct_replaces_relay_as_the_other_side_says),
		cmocka_unit_test(relay_stays_when_direct_is_silent),
		cmocka_unit_test(direct_beats_relay),
		cmocka_unit_test(nomination_lost),
		cmocka_unit_test(nomination_goes_on), cmocka_unit_test(controlled_selects), cmocka_unit_test(controlled_holds),
		cmocka_unit_test(deferred_nominations), cmocka_unit_test(learned_then_signalled),
		cmocka_unit_test(better_local_name), cmocka_unit_test(pacing),
		cmocka_unit_test(keepalive), cmocka_unit_test(idle_path), cmocka_unit_test(silence), cmocka_unit_test(consent_ends),
		cmocka_unit_test(silent_pair), cmocka_unit_test(probe),
		cmocka_unit_test(refuses), cmocka_unit_test(credentials_needed), cmocka_unit_test(relay_only),
		cmocka_unit_test(role_conflicts), cmocka_unit_test(learned_candidates), cmocka_unit_test(caps),
		cmocka_unit_test(refused_candidates), cmocka_unit_test(derived_is_checked),
		cmocka_unit_test(gathering),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
