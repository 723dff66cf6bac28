/* run_link_test.c - the data-plane thread's connections over socket pairs: frames in pieces of every size, lists that are
 * cut, messages that must wait for control, queues that are full, and the rules that end a connection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "crypto/crypto.h"
#include "os/socket.h"
#include "proto/relaymsg.h"
#include "run/link.h"
#include "run/link_frame.h"
#include "web/websocket.h"

static struct run_links *l;
static int far;			/* the server's end */
static bool full;		/* control has no room */
static char log_text[20000];
static uint8_t room[RUN_LINKS_ROOM];
static uint8_t id_b[RELAYMSG_ID_LEN];

static void note(const char *fmt, ...)
{
	size_t n = strlen(log_text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(log_text + n, sizeof log_text - n, fmt, ap);
	va_end(ap);
}

static const char *took(void)
{
	static char copy[sizeof log_text];

	memcpy(copy, log_text, sizeof copy);
	log_text[0] = 0;
	return copy;
}

static bool on_message(void *ctx, unsigned id, struct nb_bytes in)
{
	(void)ctx;
	if (full)
		return false;
	note("message%u:%zu:%02x%02x ", id, in.n, in.p[0], in.p[1]);
	return true;
}

static bool on_lost(void *ctx, unsigned id, const char *why)
{
	(void)ctx;
	if (full)
		return false;
	note("lost%u:%s ", id, why);
	return true;
}

static void on_packets(void *ctx, struct wg_pkt *k, size_t n)
{
	(void)ctx;
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(k[i].ep.kind, WG_EP_STREAM);
		assert_int_equal(k[i].p[0], 4);
		note("packet%u:%zu ", k[i].ep.id, k[i].n);
	}
}

static void begin(enum run_link_kind kind)
{
	struct run_links_config cfg = { .message = on_message, .lost = on_lost, .packets = on_packets, .max_message = 1600,
					.room = room, .random = nbc_random };
	int fds[2];

	assert_int_equal(nbc_init(), 0);
	l = run_links_new(&cfg);
	assert_non_null(l);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	far = fds[1];
	full = false;
	log_text[0] = 0;
	relaymsg_peer_id(id_b, "b");
	run_links_add(l, 3, kind, fds[0], NULL);
}

static void end(void)
{
	run_links_free(l);
	close(far);
}

/* One turn of the thread. */
static void turn(void)
{
	struct pollfd fds[RUN_LINKS_MAX];
	size_t n = run_links_poll(l, fds);

	poll(fds, n, 0);
	run_links_read(l, fds, n);
	run_links_flush(l);
	run_links_tell(l);
}

static void hear(const void *p, size_t n)
{
	assert_int_equal(write(far, p, n), n);
}

/* A frame as servers write them. */
static size_t frame(uint8_t *out, uint8_t opcode, bool fin, const void *p, size_t n)
{
	struct web_ws_frame f = { .length = n, .opcode = opcode, .fin = fin };
	size_t h = web_ws_frame_encode(out, &f);

	if (n)
		memcpy(out + h, p, n);
	return h + n;
}

/* A transport message from peer b with a WireGuard data message of n bytes. */
static size_t packet(uint8_t *out, size_t n)
{
	relaymsg_transport_header(out, id_b);
	memset(out + RELAYMSG_TRANSPORT_HEADER, 0, n);
	out[RELAYMSG_TRANSPORT_HEADER] = 4;
	return RELAYMSG_TRANSPORT_HEADER + n;
}

static void test_relay_messages(void **state)
{
	uint8_t m[9000], f[9100], all[20000];
	size_t n = 0;

	(void)state;
	begin(RUN_LINK_RELAY);
	/* before the channel is known, and a message that is none of WireGuard's */
	hear(f, frame(f, WEB_WS_BINARY, true, m, packet(m, 96)));
	turn();
	assert_string_equal(took(), "message3:134:0103 ");
	run_links_channel_add(l, 3, 77, nb_bytes(id_b, sizeof id_b));
	hear(f, frame(f, WEB_WS_BINARY, true, m, packet(m, 96)));
	hear(f, frame(f, WEB_WS_BINARY, true, "\1\5", 2));
	packet(m, 96);
	m[RELAYMSG_TRANSPORT_HEADER] = 9;
	hear(f, frame(f, WEB_WS_BINARY, true, m, 134));
	turn();
	assert_string_equal(took(), "message3:2:0105 message3:134:0103 packet77:96 ");
	/* in pieces of every size */
	for (size_t size = 1; size < 40; size++) {
		n = frame(all, WEB_WS_BINARY, true, "\1\5", 2);
		n += frame(all + n, WEB_WS_BINARY, true, m, packet(m, 1312));
		n += frame(all + n, WEB_WS_BINARY, true, m, packet(m, 8736));
		for (size_t at = 0; at < n; at += size) {
			hear(all + at, n - at < size ? n - at : size);
			turn();
		}
		assert_string_equal(took(), "message3:2:0105 packet77:1312 packet77:8736 ");
	}
	/* more than a batch */
	for (int i = 0; i < 100; i++)
		hear(f, frame(f, WEB_WS_BINARY, true, m, packet(m, 96)));
	turn();
	n = 0;
	for (const char *p = took(); (p = strstr(p, "packet77:96 ")) != NULL; p++)
		n++;
	assert_int_equal(n, 100);
	run_links_channel_remove(l, 77);
	hear(f, frame(f, WEB_WS_BINARY, true, m, packet(m, 96)));
	turn();
	assert_string_equal(took(), "message3:134:0103 ");
	end();
}

static void test_fragments_and_control(void **state)
{
	uint8_t m[9000], f[9100], back[200];
	struct web_ws_frame w;
	size_t n;

	(void)state;
	begin(RUN_LINK_RELAY);
	run_links_channel_add(l, 3, 77, nb_bytes(id_b, sizeof id_b));
	packet(m, 96);
	hear(f, frame(f, WEB_WS_BINARY, false, m, 50));
	hear(f, frame(f, WEB_WS_PING, true, "hi", 2));
	hear(f, frame(f, WEB_WS_CONTINUATION, false, m + 50, 50));
	turn();
	hear(f, frame(f, WEB_WS_CONTINUATION, true, m + 100, 34));
	hear(f, frame(f, WEB_WS_PONG, true, NULL, 0));
	turn();
	assert_string_equal(took(), "packet77:96 ");
	assert_int_equal(read(far, back, sizeof back), 8);
	assert_int_equal(web_ws_frame_decode(&w, nb_bytes(back, 8)), 0);
	assert_int_equal(w.opcode, WEB_WS_PONG);
	assert_true(w.masked);
	web_ws_mask(back + 6, 2, w.mask, 0);
	assert_memory_equal(back + 6, "hi", 2);
	/* an orderly end */
	hear(f, frame(f, WEB_WS_CLOSE, true, "\3\xe8", 2));
	turn();
	assert_string_equal(took(), "lost3: ");
	n = (size_t)read(far, back, sizeof back);
	assert_int_equal(n, 8);
	assert_int_equal(back[0], 0x88);
	end();
}

static void test_rules(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
	} bad[] = {
		{ "\x81\x01x", 3 },			/* text */
		{ "\x82\x81\0\0\0\0x", 7 },		/* masked */
		{ "\x80\x01x", 3 },			/* goes on with nothing */
		{ "\x02\x01x\x82\x01x", 6 },		/* begins twice */
		{ "\x82\x7e\x22\x75", 4 },		/* 8821 bytes */
		{ "\xc2\x01x", 3 },			/* reserved bit */
		{ "\x82\x7f\0\0\0\1\0\0\0\0", 10 },
	};
	uint8_t m[9000], f[9100];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		begin(RUN_LINK_RELAY);
		hear(bad[i].bytes, bad[i].n);
		turn();
		assert_string_equal(took(), "lost3:the relay broke the rules of WebSocket ");
		end();
	}
	begin(RUN_LINK_TURN);
	hear("GET / HTTP/1.1", 14);
	turn();
	assert_string_equal(took(), "lost3:the TURN server sent what is no STUN message ");
	end();
	/* fragments without end */
	begin(RUN_LINK_RELAY);
	memset(m, 0, sizeof m);
	hear(f, frame(f, WEB_WS_BINARY, false, m, 8000));
	hear(f, frame(f, WEB_WS_CONTINUATION, false, m, 8000));
	turn();
	assert_string_equal(took(), "lost3:the relay broke the rules of WebSocket ");
	end();
}

/* Lists are cut to what control takes; nothing is lost while it has no room. */
static void test_lists_and_room(void **state)
{
	uint8_t m[2 + 244 * RELAYMSG_ID_LEN] = { 1, RELAYMSG_ONLINE }, f[9100];
	struct pollfd fds[RUN_LINKS_MAX];

	(void)state;
	begin(RUN_LINK_RELAY);
	hear(f, frame(f, WEB_WS_BINARY, true, m, sizeof m));
	turn();
	assert_string_equal(took(), "message3:1586:010a message3:1586:010a message3:1586:010a message3:1586:010a "
			    "message3:1586:010a message3:866:010a ");
	m[1] = RELAYMSG_AUTH_RESPONSE;
	hear(f, frame(f, WEB_WS_BINARY, true, m, sizeof m));
	turn();
	assert_string_equal(took(), "");
	assert_int_equal(run_links_dropped(l), 1);
	full = true;
	for (int i = 0; i < 3; i++)
		hear(f, frame(f, WEB_WS_BINARY, true, "\1\5", 2));
	turn();
	assert_int_equal(run_links_poll(l, fds), 1);
	assert_int_equal(fds[0].events & POLLIN, 0);
	close(far);
	turn();
	assert_string_equal(took(), "");
	full = false;
	turn();
	assert_string_equal(took(), "message3:2:0105 message3:2:0105 message3:2:0105 ");
	turn();
	assert_string_equal(took(), "lost3:the other side closed the connection ");
	assert_int_equal(run_links_poll(l, fds), 0);
	far = -1;
	end();
}

/* Read everything that is queued, as the server would. */
static size_t drain(struct nb_buf *b)
{
	uint8_t buf[65536];
	ssize_t n;

	for (;;) {
		turn();
		n = read(far, buf, sizeof buf);
		if (n <= 0)
			return b->n;
		assert_int_equal(nb_buf_put(b, buf, (size_t)n), 0);
	}
}

static void test_sending(void **state)
{
	uint8_t m[1400] = { 4, 0, 0, 0, 1 };
	size_t n = 0, packets = 0;
	struct nb_buf b;

	(void)state;
	begin(RUN_LINK_RELAY);
	nb_buf_init(&b, 4u << 20);
	run_links_channel_add(l, 3, 77, nb_bytes(id_b, sizeof id_b));
	assert_false(run_links_send(l, 78, nb_bytes(m, 96)));
	run_links_say(l, 4, nb_bytes("\1\5", 2));
	/* the far end does not read: the queue fills, then packets are dropped, but not what control says */
	for (int i = 0; i < 2000; i++)
		run_links_send(l, 77, nb_bytes(m, 1312));
	assert_true(run_links_dropped(l) > 500);
	run_links_say(l, 3, nb_bytes("\1\5", 2));
	drain(&b);
	while (n < b.n) {
		struct web_ws_frame f;
		uint8_t *at = b.p + n;

		assert_int_equal(web_ws_frame_decode(&f, nb_bytes(at, b.n - n)), 0);
		assert_true(f.masked && f.fin && f.opcode == WEB_WS_BINARY);
		web_ws_mask(at + f.header, (size_t)f.length, f.mask, 0);
		n += f.header + (size_t)f.length;
		if (n == b.n) {
			assert_memory_equal(at + f.header, "\1\5", 2);
			break;
		}
		assert_int_equal(f.length, 38 + 1312);
		assert_int_equal(at[f.header + 1], RELAYMSG_TRANSPORT);
		assert_memory_equal(at + f.header + 2, id_b, sizeof id_b);
		assert_memory_equal(at + f.header + 38, m, 1312);
		packets++;
	}
	assert_int_equal(packets + run_links_dropped(l), 2000);
	nb_buf_fini(&b);
	end();
}

static void test_turn(void **state)
{
	static const uint8_t out[] = { 0x40, 1, 0, 33, 4, 0, 0, 0 };
	uint8_t m[200] = { 0x40, 1, 0, 96, 4, 0, 0, 0 }, back[200];

	(void)state;
	begin(RUN_LINK_TURN);
	run_links_channel_add(l, 3, 9, nb_bytes("\x40\x01", 2));
	hear(m, 100);
	/* padding, another channel, STUN */
	m[3] = 97;
	m[4] = 9;
	hear(m, 104);
	m[1] = 2;
	m[3] = 96;
	hear(m, 100);
	hear("\1\1\0\4\x21\x12\xa4\x42............abcd", 24);
	turn();
	assert_string_equal(took(), "message3:101:4001 message3:100:4002 message3:24:0101 packet9:96 ");
	run_links_send(l, 9, nb_bytes(out + 4, 4));
	memset(m, 7, sizeof m);
	m[0] = 4;
	run_links_send(l, 9, nb_bytes(m, 33));
	run_links_flush(l);
	assert_int_equal(read(far, back, sizeof back), 8 + 40);
	assert_memory_equal(back, "\x40\1\0\4\4\0\0\0", 8);
	assert_memory_equal(back + 8, "\x40\1\0\x21\4", 5);
	assert_memory_equal(back + 8 + 37, "\0\0\0", 3);
	/* a queue of one turn leaves with the drop */
	run_links_say(l, 3, nb_bytes(back, 8));
	run_links_drop(l, 3);
	assert_int_equal(read(far, back, sizeof back), 8);
	assert_int_equal(read(far, back, sizeof back), 0);
	turn();
	assert_string_equal(took(), "");
	end();
}

/* As many as there is room for; the next one is closed at once. */
static void test_many(void **state)
{
	int fds[2];
	char c;

	(void)state;
	begin(RUN_LINK_RELAY);
	for (unsigned i = 1; i <= RUN_LINKS_MAX; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
		run_links_add(l, 100 + i, RUN_LINK_RELAY, fds[0], NULL);
		if (i == RUN_LINKS_MAX)
			assert_int_equal(read(fds[1], &c, 1), 0);
		close(fds[1]);
	}
	turn();
	assert_non_null(strstr(took(), "lost101:"));
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_relay_messages), cmocka_unit_test(test_fragments_and_control), cmocka_unit_test(test_rules),
		cmocka_unit_test(test_lists_and_room), cmocka_unit_test(test_sending), cmocka_unit_test(test_turn),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
