/* web_websocket_test.c - src/web/websocket.c: RFC 6455's examples, both roles joined, refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/err.h"
#include "crypto/crypto.h"
#include "web/websocket.h"

/* --- handshake --------------------------------------------------------------------------------- */

static int status;
static char headers[1024];

static void respond(struct web_call *call, const struct web_response *res)
{
	int n = 0;

	status = res->status;
	for (size_t i = 0; i < res->n_headers; i++)
		n += snprintf(headers + n, sizeof headers - (size_t)n, "%.*s: %.*s\r\n", (int)res->headers[i].name.n,
			      (const char *)res->headers[i].name.p, (int)res->headers[i].value.n,
			      (const char *)res->headers[i].value.p);
	web_call_fini(call);
}

static const struct web_transport transport = { .respond = respond };

static int try_accept(const char *version, const char *key)
{
	struct web_header h[] = { { nb_bytes_str("sec-websocket-version"), nb_bytes_str(version) },
				  { nb_bytes_str("sec-websocket-key"), nb_bytes_str(key) } };
	struct web_call call;

	web_call_init(&call, &transport, NULL, 4096);
	call.req.headers = h;
	call.req.n_headers = 2;
	return web_ws_accept(&call, NULL);
}

/* RFC 6455, 1.3. */
static void test_accept(void **state)
{
	(void)state;
	assert_int_equal(try_accept("13", "dGhlIHNhbXBsZSBub25jZQ=="), 0);
	assert_int_equal(status, 101);
	assert_string_equal(headers, "upgrade: websocket\r\nconnection: Upgrade\r\n"
				     "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n");
	assert_int_equal(try_accept("8", "dGhlIHNhbXBsZSBub25jZQ=="), NB_E_BAD);
	assert_int_equal(status, 426);
	assert_int_equal(try_accept("13", "dGhlIHNhbXBsZQ=="), NB_E_BAD);
	assert_int_equal(status, 400);
	assert_int_equal(try_accept("13", ""), NB_E_BAD);
}

static void counting(void *ctx, void *out, size_t n)
{
	(void)ctx;
	memset(out, 7, n);
}

static void test_response(void **state)
{
	static const char key[] = "dGhlIHNhbXBsZSBub25jZQ==";
	static const char good[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nX: y\r\n"
				   "Sec-WebSocket-Accept:  s3pPLMBiTxaQ9kYGzzhZRbK+xOo= \r\n\r\n\x82";
	static const struct {
		const char *text;
		int result, status;
	} rows[] = {
		{ "HTTP/1.1 404 Not Found\r\n\r\n", NB_E_DENIED, 404 },
		{ "SSH-2.0-x\r\n\r\n", NB_E_PROTO, 0 },
		{ "HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n", NB_E_PROTO, 101 },
		{ "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: wrong\r\n\r\n", NB_E_PROTO, 101 },
		{ "HTTP/1.1 101 x\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", NB_E_PROTO, 101 },
		{ "HTTP/1.1 101 x\r\nno colon\r\n\r\n", NB_E_PROTO, 101 },
	};
	char made[WEB_WS_KEY_TEXT];
	struct nb_buf b;
	int s;

	(void)state;
	assert_int_equal(web_ws_response(nb_bytes_str(good), key, &s), sizeof good - 2);
	for (size_t i = 0; i < sizeof good - 2; i++)
		assert_int_equal(web_ws_response(nb_bytes(good, i), key, &s), NB_E_AGAIN);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_int_equal(web_ws_response(nb_bytes_str(rows[i].text), key, &s), rows[i].result);
		assert_int_equal(s, rows[i].status);
	}
	nb_buf_init(&b, 4096);
	assert_int_equal(web_ws_request(&b, "h:1", "/relay", made, counting, NULL), 0);
	assert_string_equal(nb_buf_cstr(&b), "GET /relay HTTP/1.1\r\nHost: h:1\r\nConnection: Upgrade\r\n"
		"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: BwcHBwcHBwcHBwcHBwcHBw==\r\n\r\n");
	assert_string_equal(made, "BwcHBwcHBwcHBwcHBwcHBw==");
	nb_buf_fini(&b);
}

/* --- messages ---------------------------------------------------------------------------------- */

struct end {
	struct web_ws *ws;
	struct nb_buf got;	/* the last message */
	int messages, texts;
	bool echo;
};

static void on_message(void *ctx, bool text, struct nb_bytes message)
{
	struct end *e = ctx;

	nb_buf_reset(&e->got);
	nb_buf_bytes(&e->got, message);
	e->messages++;
	e->texts += text;
	if (e->echo)
		assert_int_equal(web_ws_send(e->ws, message), 0);
}

static void start(struct end *e, bool client)
{
	struct web_ws_config cfg = { .client = client, .max_message = 100000, .max_queue = 200000,
				     .rnd = nbc_random, .on_message = on_message, .ctx = e };

	memset(e, 0, sizeof *e);
	nb_buf_init(&e->got, 1 << 20);
	assert_int_equal(web_ws_new(&e->ws, &cfg), 0);
}

static void stop(struct end *e)
{
	web_ws_free(e->ws);
	nb_buf_fini(&e->got);
}

static void move(struct end *from, struct end *to, size_t step)
{
	uint8_t buf[4096];
	size_t n;

	while ((n = web_ws_output(from->ws, buf, step)) > 0)
		web_ws_input(to->ws, nb_bytes(buf, n));
}

static void test_messages(void **state)
{
	static const size_t sizes[] = { 0, 1, 125, 126, 127, 1350, 65535, 65536, 100000 };
	static const size_t steps[] = { 1, 7, 4096 };
	uint8_t *data = malloc(100001);
	struct end c, s;

	(void)state;
	nbc_random(NULL, data, 100001);
	start(&c, true);
	start(&s, false);
	s.echo = true;
	for (size_t k = 0; k < 3; k++) {
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
			assert_int_equal(web_ws_send(c.ws, nb_bytes(data, sizes[i])), 0);
			move(&c, &s, steps[k]);
			move(&s, &c, steps[k]);
			assert_true(nb_bytes_eq(nb_buf_view(&c.got), nb_bytes(data, sizes[i])));
		}
	}
	assert_int_equal(c.messages, 27);
	assert_int_equal(c.texts, 0);
	web_ws_close(c.ws, 1001);
	assert_int_equal(web_ws_send(c.ws, nb_bytes(data, 1)), NB_E_STATE);
	move(&c, &s, 5);
	move(&s, &c, 5);
	assert_true(web_ws_done(c.ws) && web_ws_done(s.ws));
	assert_int_equal(web_ws_close_code(s.ws), 1001);
	stop(&c);
	stop(&s);
	/* Too large for the other side: 1009. */
	start(&c, true);
	start(&s, false);
	assert_int_equal(web_ws_send(c.ws, nb_bytes(data, 100001)), 0);
	move(&c, &s, 4096);
	assert_int_equal(s.messages, 0);
	move(&s, &c, 4096);
	assert_true(web_ws_done(s.ws));
	assert_int_equal(web_ws_close_code(c.ws), 1009);
	/* The queue has its cap. */
	assert_int_equal(web_ws_send(s.ws, nb_bytes(data, 1)), NB_E_STATE);
	stop(&c);
	stop(&s);
	start(&c, true);
	assert_int_equal(web_ws_send(c.ws, nb_bytes(data, 100000)), 0);
	assert_int_equal(web_ws_send(c.ws, nb_bytes(data, 90000)), 0);
	assert_int_equal(web_ws_send(c.ws, nb_bytes(data, 20000)), NB_E_FULL);
	stop(&c);
	free(data);
}

/* Feed hex to a client or server; what it answers, as hex. */
static const char *feed(struct end *e, const char *hex)
{
	static char out[1024];
	uint8_t in[256], buf[500];
	size_t n = strlen(hex) / 2;

	assert_int_equal(nb_hex_decode(in, n, nb_bytes_str(hex)), 0);
	web_ws_input(e->ws, nb_bytes(in, n));
	n = web_ws_output(e->ws, buf, sizeof buf);
	nb_hex_encode(out, nb_bytes(buf, n));
	return out;
}

/* RFC 6455, 5.7. */
static void test_examples(void **state)
{
	struct end c, s;

	(void)state;
	start(&c, true);
	start(&s, false);
	assert_string_equal(feed(&c, "810548656c6c6f"), "");
	assert_int_equal(c.texts, 1);
	assert_memory_equal(c.got.p, "Hello", 5);
	assert_string_equal(feed(&s, "818537fa213d7f9f4d5158"), "");
	assert_memory_equal(s.got.p, "Hello", 5);
	/* Fragments with a ping between them. */
	assert_string_equal(feed(&s, "01830000000048656c"), "");
	assert_string_equal(feed(&s, "898537fa213d7f9f4d5158"), "8a0548656c6c6f");
	assert_string_equal(feed(&s, "8082000000006c6f"), "");
	assert_int_equal(s.messages, 2);
	assert_memory_equal(s.got.p, "Hello", 5);
	/* An unsolicited pong is ignored; a close is answered. */
	assert_string_equal(feed(&s, "8a8000000000"), "");
	assert_string_equal(feed(&s, "88820000000003e8"), "880203e8");
	assert_true(web_ws_done(s.ws));
	stop(&c);
	stop(&s);
}

static void test_refusals(void **state)
{
	static const char *const to_server[] = {
		"810548656c6c6f",		/* not masked */
		"c18500000000",			/* reserved bit */
		"838500000000",			/* reserved opcode */
		"808100000000aa",		/* continuation of nothing */
		"018100000000aa018100000000aa",	/* a message inside a message */
		"098000000000",			/* fragmented ping */
		"89fe0000",			/* long ping */
		"82fe000500000000",		/* length not in its shortest form */
		"82ff000000000000000500000000",
		"82ffffffffffffffffff00000000",
		"88810000000003",		/* close code of one byte */
	};

	(void)state;
	for (size_t i = 0; i < sizeof to_server / sizeof *to_server; i++) {
		struct end s;
		const char *out;

		start(&s, false);
		out = feed(&s, to_server[i]);
		if (strcmp(out, "880203ea") || !web_ws_done(s.ws) || s.messages)
			fail_msg("row %zu: \"%s\"", i, out);
		stop(&s);
	}
}

static int setup(void **state)
{
	(void)state;
	return nbc_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accept), cmocka_unit_test(test_response), cmocka_unit_test(test_messages),
		cmocka_unit_test(test_examples), cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
