/* wg_allowedips_test.c - the address trie: rows, and random prefixes against a linear search. */
#include "wg_help.h"

static struct wg_trie trie;
static struct wg_peer peers[8];

static int fresh(void **state)
{
	(void)state;
	memset(&trie, 0, sizeof trie);
	memset(peers, 0, sizeof peers);
	for (int i = 0; i < 8; i++)
		nb_list_init(&peers[i].allowed);
	return 0;
}

static int empty(void **state)
{
	(void)state;
	for (int i = 0; i < 8; i++) {
		wg_trie_remove_all(&trie, &peers[i]);
		assert_int_equal(peers[i].nallowed, 0);
	}
	assert_null(trie.root4);
	assert_null(trie.root6);
	return 0;
}

static struct nb_prefix prefix(const char *text)
{
	struct nb_prefix p;

	assert_int_equal(nb_prefix_parse(&p, text), 0);
	return p;
}

static void add(int peer, const char *text)
{
	struct nb_prefix p = prefix(text);

	assert_int_equal(wg_trie_insert(&trie, &p, &peers[peer]), 0);
}

static int del(int peer, const char *text)
{
	struct nb_prefix p = prefix(text);

	return wg_trie_remove(&trie, &p, &peers[peer]);
}

/* Which peer; -1: none. */
static int who(const char *text)
{
	struct nb_addr a;
	struct wg_peer *p;

	assert_int_equal(nb_addr_parse(&a, text), 0);
	p = a.family == 4 ? wg_trie_find4(&trie, a.ip) : wg_trie_find6(&trie, a.ip);
	return p ? (int)(p - peers) : -1;
}

static void longest_wins(void **state)
{
	(void)state;
	assert_int_equal(who("192.168.4.4"), -1);
	add(0, "192.168.4.0/24");
	add(1, "192.168.4.4/32");
	add(2, "192.168.0.0/16");
	add(3, "192.95.5.64/27");
	add(4, "192.95.5.65/27");	/* host bits: the same prefix, taken over */
	add(5, "0.0.0.0/0");
	add(6, "64.15.112.0/20");
	add(7, "64.15.123.211/25");
	assert_int_equal(who("192.168.4.20"), 0);
	assert_int_equal(who("192.168.4.4"), 1);
	assert_int_equal(who("192.168.200.182"), 2);
	assert_int_equal(who("192.95.5.68"), 4);
	assert_int_equal(who("192.95.5.96"), 5);
	assert_int_equal(who("64.15.116.26"), 6);
	assert_int_equal(who("64.15.123.128"), 7);
	assert_int_equal(who("64.15.123.127"), 6);
	assert_int_equal(peers[3].nallowed, 0);
	assert_int_equal(peers[4].nallowed, 1);
	assert_int_equal(who("::1"), -1);
}

static void six(void **state)
{
	(void)state;
	add(0, "2607:5300:60:6b0::c05f:543/128");
	add(1, "2607:5300:60:6b0::/64");
	add(2, "::/0");
	add(3, "2404:6800::/32");
	add(4, "2404:6800:4004:800:dead:beef:0:0/65");
	assert_int_equal(who("2607:5300:60:6b0::c05f:543"), 0);
	assert_int_equal(who("2607:5300:60:6b0::c02e:1ee"), 1);
	assert_int_equal(who("2607:5300:60:6b1::"), 2);
	assert_int_equal(who("2404:6800:4004:806::1006"), 3);
	assert_int_equal(who("2404:6800:4004:800:dead::1"), 4);
	assert_int_equal(who("2404:6800:4004:800:7ead::1"), 3);
	assert_int_equal(who("10.0.0.1"), -1);
}

static void removal(void **state)
{
	(void)state;
	add(0, "10.0.0.0/8");
	add(1, "10.1.0.0/16");
	add(2, "10.1.2.0/24");
	add(1, "10.1.3.0/24");
	assert_int_equal(del(0, "10.1.0.0/16"), NB_E_NOTFOUND);	/* another's */
	assert_int_equal(del(1, "10.1.0.0/17"), NB_E_NOTFOUND);	/* not there */
	assert_int_equal(del(1, "10.1.0.0/16"), 0);
	assert_int_equal(who("10.1.9.9"), 0);
	assert_int_equal(who("10.1.2.9"), 2);
	wg_trie_remove_all(&trie, &peers[2]);
	assert_int_equal(who("10.1.2.9"), 0);
	assert_int_equal(who("10.1.3.9"), 1);
}

static void prefixes_read_back(void **state)
{
	struct nb_prefix out;
	char text[NB_ADDR_TEXT];

	(void)state;
	add(0, "10.1.2.3/20");
	wg_trie_prefix(nb_container(peers[0].allowed.next, struct wg_trie_node, of_peer), &out);
	nb_prefix_format(text, &out);
	assert_string_equal(text, "10.1.0.0/20");
	add(1, "2001:db8:1:2:3::9/80");
	wg_trie_prefix(nb_container(peers[1].allowed.next, struct wg_trie_node, of_peer), &out);
	nb_prefix_format(text, &out);
	assert_string_equal(text, "2001:db8:1:2:3::/80");
}

/* Random adds, take-overs, removals and questions; a list of prefixes is the truth. */
static void against_a_list(void **state)
{
	enum { MAX = 400 };
	static struct {
		struct nb_prefix p;
		int peer;
	} list[MAX];
	size_t n = 0;
	uint64_t s = 17;

	(void)state;
	for (int round = 0; round < 30000; round++) {
		uint8_t r[24];
		struct nb_prefix p;

		help_random(&s, r, sizeof r);
		memset(&p, 0, sizeof p);
		p.addr.family = r[0] & 1 ? 4 : 6;
		/* Few different bits, so that prefixes nest. */
		memcpy(p.addr.ip, r + 4, p.addr.family == 4 ? 4 : 16);
		for (int i = 0; i < 16; i++)
			p.addr.ip[i] &= i == 1 || i == 3 || i == 9 ? 0x81 : 0x10;
		p.len = (uint8_t)(r[1] % (p.addr.family == 4 ? 33 : 129));
		int peer = r[2] % 8;
		size_t at;

		if (r[3] < 100) {
			int best = -1, best_len = -1;
			const struct wg_peer *got = p.addr.family == 4 ? wg_trie_find4(&trie, p.addr.ip) :
								       wg_trie_find6(&trie, p.addr.ip);

			for (at = 0; at < n; at++)
				if (list[at].p.len > best_len && nb_prefix_contains(&list[at].p, &p.addr)) {
					best = list[at].peer;
					best_len = list[at].p.len;
				}
			assert_int_equal(got ? got - peers : -1, best);
			continue;
		}
		nb_prefix_mask(&p);
		for (at = 0; at < n && (list[at].p.len != p.len || !nb_addr_eq(&list[at].p.addr, &p.addr)); at++)
			;
		if (r[3] < 180) {
			if (at == n && n == MAX)
				continue;
			assert_int_equal(wg_trie_insert(&trie, &p, &peers[peer]), 0);
			n += at == n;
			list[at].p = p;
			list[at].peer = peer;
		} else {
			bool mine = at < n && list[at].peer == peer;

			assert_int_equal(wg_trie_remove(&trie, &p, &peers[peer]), mine ? 0 : NB_E_NOTFOUND);
			if (mine)
				list[at] = list[--n];
		}
	}
	assert_true(n > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(longest_wins, fresh, empty),
		cmocka_unit_test_setup_teardown(six, fresh, empty),
		cmocka_unit_test_setup_teardown(removal, fresh, empty),
		cmocka_unit_test_setup_teardown(prefixes_read_back, fresh, empty),
		cmocka_unit_test_setup_teardown(against_a_list, fresh, empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
