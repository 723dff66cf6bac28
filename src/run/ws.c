/* ws.c - see ws.h. Tests: tests/unit/run_ws_test.c, tests/net/test_listener.py */
#include "run/ws.h"

#include "base/buf.h"
#include "base/err.h"

#include "crypto/crypto.h"
#include "os/clock.h"

#include <stdio.h>
#include <stdlib.h>

#define OPEN_NS (10 * NB_SEC)
#define CLOSE_NS (2 * NB_SEC)
#define ANSWER_MAX 8192

struct run_ws {
	struct run_ws_config cfg;
	struct run_stream *stream;
	struct web_ws *ws;
	bool open, had_output;
	struct nb_buf request, answer;	/* client, until it is open */
	size_t request_sent;
	char key[WEB_WS_KEY_TEXT];
	struct nb_time deadline;	/* of the opening or closing handshake */
};

static void on_message(void *ctx, bool text, struct nb_bytes message)
{
	struct run_ws *w = ctx;

	w->cfg.message(w->cfg.ctx, text, message);
}

static void refuse_answer(struct run_ws *w, int r, int status)
{
	char why[80];

	if (r == NB_E_DENIED)
		snprintf(why, sizeof why, "the server answered the WebSocket request with status %d", status);
	else
		snprintf(why, sizeof why, "the server's answer to the WebSocket request is not acceptable");
	run_stream_abort(w->stream, why);
}

/* The server's answer arrives; frames may follow in the same bytes. */
static void take_answer(struct run_ws *w, struct nb_bytes in)
{
	int status, r;

	if (nb_buf_bytes(&w->answer, in)) {
		refuse_answer(w, NB_E_FULL, 0);
		return;
	}
	r = web_ws_response(nb_buf_view(&w->answer), w->key, &status);
	if (r == NB_E_AGAIN)
		return;
	if (r <= 0) {
		refuse_answer(w, r, status);
		return;
	}
	w->open = true;
	w->deadline = NB_TIME_NEVER;
	if (w->cfg.opened)
		w->cfg.opened(w->cfg.ctx);
	web_ws_input(w->ws, nb_bytes(w->answer.p + r, w->answer.n - (size_t)r));
	nb_buf_fini(&w->answer);
}

static void proto_input(void *p, struct nb_bytes in, struct nb_time now)
{
	struct run_ws *w = p;

	(void)now;
	if (w->open)
		web_ws_input(w->ws, in);
	else
		take_answer(w, in);
}

static size_t proto_output(void *p, void *out, size_t cap, struct nb_time now)
{
	struct run_ws *w = p;
	size_t n = w->request.n - w->request_sent;

	(void)now;
	if (n) {
		if (n > cap)
			n = cap;
		memcpy(out, w->request.p + w->request_sent, n);
		w->request_sent += n;
		return n;
	}
	if (!w->open)
		return 0;
	n = web_ws_output(w->ws, out, cap);
	if (n) {
		w->had_output = true;
	} else if (w->had_output) {
		w->had_output = false;
		if (w->cfg.drained)
			w->cfg.drained(w->cfg.ctx);
		/* It may have sent more. */
		n = web_ws_output(w->ws, out, cap);
		w->had_output = n > 0;
	}
	return n;
}

static struct nb_time proto_deadline(void *p)
{
	struct run_ws *w = p;

	return w->deadline;
}

static void proto_timer(void *p, struct nb_time now)
{
	struct run_ws *w = p;

	(void)now;
	run_stream_abort(w->stream, w->open ? "" : "no answer to the WebSocket request");
}

static bool proto_done(void *p)
{
	struct run_ws *w = p;

	return w->open && web_ws_done(w->ws);
}

static void proto_closed(void *p, const char *why, struct nb_time now)
{
	struct run_ws *w = p;

	(void)now;
	/* A peer that said goodbye and then went was orderly. */
	w->cfg.closed(w->cfg.ctx, web_ws_close_code(w->ws) ? "" : why);
	run_ws_forget(w);
}

static const struct run_proto ws_proto = {
	.input = proto_input,
	.output = proto_output,
	.deadline = proto_deadline,
	.timer = proto_timer,
	.done = proto_done,
	.closed = proto_closed,
};

static struct run_ws *make(struct run_stream *s, const struct run_ws_config *cfg, bool client)
{
	struct web_ws_config wc = { .client = client, .max_message = cfg->max_message, .max_queue = cfg->max_queue,
				    .rnd = nbc_random, .on_message = on_message };
	struct run_ws *w = calloc(1, sizeof *w);

	if (!w)
		return NULL;
	w->cfg = *cfg;
	w->stream = s;
	w->deadline = NB_TIME_NEVER;
	wc.ctx = w;
	if (web_ws_new(&w->ws, &wc)) {
		free(w);
		return NULL;
	}
	return w;
}

int run_ws_server(struct run_ws **out, struct run_stream *s, const struct run_ws_config *cfg, struct nb_bytes rest,
		  struct nb_time now)
{
	struct run_ws *w = make(s, cfg, false);

	if (!w)
		return NB_E_NOMEM;
	w->open = true;
	*out = w;
	run_stream_attach(s, &ws_proto, w);
	if (rest.n)
		proto_input(w, rest, now);
	return 0;
}

int run_ws_client(struct run_ws **out, struct run_stream *s, const struct run_ws_config *cfg, const char *host,
		  const char *path, struct nb_time now)
{
	struct run_ws *w = make(s, cfg, true);

	if (!w)
		return NB_E_NOMEM;
	nb_buf_init(&w->request, 2048);
	nb_buf_init(&w->answer, ANSWER_MAX + cfg->max_message);
	if (web_ws_request(&w->request, host, path, w->key, nbc_random, NULL)) {
		web_ws_free(w->ws);
		nb_buf_fini(&w->request);
		free(w);
		return NB_E_NOMEM;
	}
	w->deadline = nb_time_add(now, cfg->open_ns ? cfg->open_ns : OPEN_NS);
	*out = w;
	run_stream_attach(s, &ws_proto, w);
	return 0;
}

int run_ws_send(struct run_ws *w, struct nb_bytes message)
{
	int r = w->open ? web_ws_send(w->ws, message) : NB_E_STATE;

	if (r == 0)
		run_stream_wake(w->stream);
	return r;
}

int run_ws_send_parts(struct run_ws *w, struct nb_bytes head, struct nb_bytes body, bool must)
{
	int r = w->open ? web_ws_send_parts(w->ws, head, body, must) : NB_E_STATE;

	if (r == 0)
		run_stream_wake(w->stream);
	return r;
}

void run_ws_forget(struct run_ws *w)
{
	web_ws_free(w->ws);
	nb_buf_fini(&w->request);
	nb_buf_fini(&w->answer);
	free(w);
}

size_t run_ws_queued(const struct run_ws *w)
{
	return web_ws_queued(w->ws);
}

void run_ws_close(struct run_ws *w, unsigned code)
{
	if (!w->open) {
		run_stream_abort(w->stream, "");
		return;
	}
	web_ws_close(w->ws, code);
	w->deadline = nb_time_min(w->deadline, nb_time_add(os_now(), CLOSE_NS));
	run_stream_wake(w->stream);
}
