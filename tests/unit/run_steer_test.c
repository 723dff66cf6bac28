/* run_steer_test.c - the system itself gives datagrams to the sockets that share a port, by our program: each kind of
 * message, of a length or shape that is wrong, and of index bits that no socket has. Tests src/run/steer.c with
 * src/os/dgram.c. */
#include "run/steer.h"

#include "base/err.h"
#include "os/dgram.h"
#include "wg/wg.h"
#include "unit/emulator.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct os_dgram_pair group[WG_SHARDS_MAX], sender;

static void send_to(struct os_dgram_pair *from, bool six, uint16_t port, uint8_t *p, size_t n)
{
	struct os_dgram d = { .p = p, .n = n };

	d.remote.port = port;
	d.remote.addr = nb_addr4(0x7f000001);
	if (six)
		d.remote.addr = nb_addr6((const uint8_t[16]){ [15] = 1 });
	assert_int_equal(os_dgram_send(from, six, &d, 1), 1);
}

/* Which of the sockets has the datagram. */
static unsigned who_got(bool six, unsigned n, size_t want)
{
	struct pollfd pf[WG_SHARDS_MAX];
	uint8_t room[2048];
	struct os_dgram d = { .p = room, .cap = sizeof room };
	unsigned got = n;

	for (unsigned i = 0; i < n; i++)
		pf[i] = (struct pollfd){ six ? group[i].fd6 : group[i].fd4, POLLIN, 0 };
	assert_int_equal(poll(pf, n, 2000), 1);
	for (unsigned i = 0; i < n; i++)
		if (pf[i].revents)
			got = i;
	assert_int_equal(os_dgram_recv(&group[got], six, &d, 1), 1);
	assert_int_equal(d.n, want);
	return got;
}

static void open_group(unsigned n)
{
	unsigned length;
	const struct sock_filter *pick = run_steer(&length);

	if (emulator_sockets())
		skip();
	assert_int_equal(os_dgram_open_group(group, n, 0, 0, 0, pick, length), 0);
	assert_int_equal(os_dgram_open(&sender, 0, 0, 0), 0);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(group[i].port, group[0].port);
}

static void close_group(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		os_dgram_close(&group[i]);
	os_dgram_close(&sender);
}

static const struct {
	uint8_t type;
	size_t n, index;	/* index: where it stands; 0: no message has one */
} messages[] = {
	{ 1, 148, 0 }, { 2, 92, 8 }, { 3, 64, 4 }, { 4, 32, 4 }, { 4, 1452, 4 },
};

static void every_message(void **state)
{
	uint8_t p[2048];

	(void)state;
	open_group(4);
	for (int six = 0; six < 1 + (group[0].fd6 >= 0); six++) {
		for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
			for (unsigned shard = 0; shard < 8; shard++) {
				size_t n = messages[i].n;

				memset(p, 0xff, sizeof p);
				memcpy(p, (uint8_t[]){ 0x40, 1, (uint8_t)(n >> 8), (uint8_t)n, messages[i].type, 0, 0, 0 }, 8);
				if (messages[i].index)
					p[4 + messages[i].index] = (uint8_t)(0xf0 | shard);
				/* as it is, and in ChannelData; the index's other bits do not count */
				send_to(&sender, six, group[0].port, p + 4, n);
				assert_int_equal(who_got(six, 4, n), messages[i].index ? shard & 3 : 0);
				assert_int_equal(wg_message_shard(nb_bytes(p + 4, n), 4), messages[i].index ? shard & 3 : 0);
				send_to(&sender, six, group[0].port, p, n + 4);
				assert_int_equal(who_got(six, 4, n + 4), messages[i].index ? shard & 3 : 0);
			}
		}
	}
	close_group(4);
}

static void other_datagrams(void **state)
{
	static const uint8_t stun[20] = { 0x01, 0x01, 0, 0, 0x21, 0x12, 0xa4, 0x42, 3 };
	uint8_t p[64];

	(void)state;
	open_group(4);
	memcpy(p, stun, sizeof stun);
	send_to(&sender, false, group[0].port, p, sizeof stun);
	assert_int_equal(who_got(false, 4, sizeof stun), 0);
	/* ending before the byte that counts */
	for (uint8_t type = 0; type < 5; type++) {
		memset(p, 0xff, sizeof p);
		p[0] = type;
		send_to(&sender, false, group[0].port, p, type == 2 ? 8 : 4);
		assert_int_equal(who_got(false, 4, type == 2 ? 8 : 4), 0);
	}
	p[0] = 0x40;
	send_to(&sender, false, group[0].port, p, 1);
	assert_int_equal(who_got(false, 4, 1), 0);
	send_to(&sender, false, group[0].port, p, 0);
	assert_int_equal(who_got(false, 4, 0), 0);
	close_group(4);
}

/* Index bits of a socket that is not there: the datagram arrives nevertheless, and our word is that the first has it. */
static void no_such_socket(void **state)
{
	uint8_t p[32] = { 4, 0, 0, 0, 3 };

	(void)state;
	open_group(2);
	send_to(&sender, false, group[0].port, p, sizeof p);
	assert_in_range(who_got(false, 2, sizeof p), 0, 1);
	assert_int_equal(wg_message_shard(nb_bytes(p, sizeof p), 2), 0);
	p[4] = 1;
	send_to(&sender, false, group[0].port, p, sizeof p);
	assert_int_equal(who_got(false, 2, sizeof p), 1);
	close_group(2);
}

static void a_port_has_one_owner(void **state)
{
	struct os_dgram_pair other[2];
	unsigned length;
	const struct sock_filter *pick = run_steer(&length);

	(void)state;
	open_group(2);
	assert_int_equal(os_dgram_open(&other[0], group[0].port, 0, 0), NB_E_BUSY);
	assert_int_equal(os_dgram_open_group(other, 2, group[0].port, 0, 0, pick, length), NB_E_BUSY);
	assert_int_equal(os_dgram_open_group(other, 2, sender.port, 0, 0, pick, length), NB_E_BUSY);
	close_group(2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_message), cmocka_unit_test(other_datagrams), cmocka_unit_test(no_such_socket),
		cmocka_unit_test(a_port_has_one_owner),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
