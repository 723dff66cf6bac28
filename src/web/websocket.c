/* websocket.c - see websocket.h.
 * Tests: tests/unit/web_websocket_test.c, tests/fuzz/websocket_fuzz.c */
#include "web/websocket.h"

#include "base/err.h"

#include "crypto/crypto.h"

#include <stdio.h>
#include <stdlib.h>

#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#define RESPONSE_MAX 8192
#define CONTROL_MAX 125

#define MASK_POOL 256		/* random bytes fetched at a time */
#define KEEP_MAX (256 * 1024)	/* an idle connection keeps no larger buffer */

enum { CLOSE_NORMAL = 1000, CLOSE_PROTOCOL = 1002, CLOSE_NONE = 1005, CLOSE_TOO_BIG = 1009 };

struct web_ws {
	struct web_ws_config cfg;
	struct nb_buf out;
	size_t sent;		/* of out */
	struct nb_buf message;	/* fragments so far */
	uint8_t header[WEB_WS_HEADER_MAX];
	size_t n_header;
	struct web_ws_frame frame;
	uint64_t taken;		/* of the frame's payload */
	uint8_t control[CONTROL_MAX];
	bool in_frame, in_message, text, close_sent, close_got, broken;
	unsigned close_code;
	uint8_t masks[MASK_POOL];
	size_t masks_left;
};

/* --- opening handshake ------------------------------------------------------------------------- */

static void accept_text(char out[29], struct nb_bytes key)
{
	uint8_t digest[NBC_SHA1_LEN], in[24 + sizeof GUID];

	memcpy(in, key.p, 24);
	memcpy(in + 24, GUID, sizeof GUID - 1);
	nbc_sha1(digest, nb_bytes(in, 24 + sizeof GUID - 1));
	(void)nb_base64_encode(out, 29, nb_bytes(digest, sizeof digest));
}

static bool key_is_valid(struct nb_bytes key)
{
	uint8_t raw[16];
	size_t n;

	return key.n == 24 && nb_base64_decode(raw, sizeof raw, &n, key) == 0 && n == 16;
}

int web_ws_accept(struct web_call *call, void *user)
{
	struct nb_bytes key, version;
	char text[29];

	if (!web_header(call, "sec-websocket-version", &version) || !nb_bytes_eq_str(version, "13")) {
		web_set_header(call, "sec-websocket-version", "13");
		web_respond_text(call, 426, "WebSocket version 13 is needed\n");
		return NB_E_BAD;
	}
	if (!web_header(call, "sec-websocket-key", &key) || !key_is_valid(key)) {
		web_respond_text(call, 400, "a Sec-WebSocket-Key of 16 bytes is needed\n");
		return NB_E_BAD;
	}
	accept_text(text, key);
	web_set_header(call, "upgrade", "websocket");
	web_set_header(call, "connection", "Upgrade");
	web_set_header(call, "sec-websocket-accept", text);
	call->user = user;
	web_respond(call, 101, NULL, nb_bytes(NULL, 0));
	return 0;
}

int web_ws_request(struct nb_buf *out, const char *host, const char *path, char key[WEB_WS_KEY_TEXT],
		   nb_random_fn rnd, void *ctx)
{
	uint8_t raw[16];

	rnd(ctx, raw, sizeof raw);
	(void)nb_base64_encode(key, WEB_WS_KEY_TEXT, nb_bytes(raw, sizeof raw));
	return nb_buf_printf(out, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
			     "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", path, host, key);
}

/* A line without its CRLF from the front of *in; false when there is no CRLF. */
static bool take_line(struct nb_bytes *in, struct nb_bytes *line)
{
	for (size_t i = 0; i + 1 < in->n; i++) {
		if (in->p[i] != '\r' || in->p[i + 1] != '\n')
			continue;
		*line = nb_bytes(in->p, i);
		*in = nb_bytes(in->p + i + 2, in->n - i - 2);
		return true;
	}
	return false;
}

static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

static bool same_nocase(struct nb_bytes a, const char *b)
{
	if (a.n != strlen(b))
		return false;
	for (size_t i = 0; i < a.n; i++)
		if (lower(a.p[i]) != lower((uint8_t)b[i]))
			return false;
	return true;
}

static void trim(struct nb_bytes *s)
{
	while (s->n && (s->p[0] == ' ' || s->p[0] == '\t')) {
		s->p++;
		s->n--;
	}
	while (s->n && (s->p[s->n - 1] == ' ' || s->p[s->n - 1] == '\t'))
		s->n--;
}

/* The status of "HTTP/1.1 101 Words"; 0 when it is none. */
static int status_of(struct nb_bytes line)
{
	if (line.n < 12 || memcmp(line.p, "HTTP/1.", 7) || line.p[8] != ' ' || (line.n > 12 && line.p[12] != ' '))
		return 0;
	for (size_t i = 9; i < 12; i++)
		if (line.p[i] < '0' || line.p[i] > '9')
			return 0;
	return (line.p[9] - '0') * 100 + (line.p[10] - '0') * 10 + (line.p[11] - '0');
}

int web_ws_response(struct nb_bytes in, const char key[WEB_WS_KEY_TEXT], int *status)
{
	struct nb_bytes rest = in, line, value;
	bool upgraded = false, accepted = false;
	char want[29];

	*status = 0;
	if (!take_line(&rest, &line))
		return in.n > RESPONSE_MAX ? NB_E_FULL : NB_E_AGAIN;
	*status = status_of(line);
	if (*status == 0)
		return NB_E_PROTO;
	if (*status != 101)
		return NB_E_DENIED;
	accept_text(want, nb_bytes_str(key));
	while (take_line(&rest, &line)) {
		const uint8_t *colon;

		if (!line.n)
			return upgraded && accepted ? (int)(in.n - rest.n) : NB_E_PROTO;
		colon = memchr(line.p, ':', line.n);
		if (!colon || in.n - rest.n > RESPONSE_MAX)
			return colon ? NB_E_FULL : NB_E_PROTO;
		value = nb_bytes(colon + 1, line.n - (size_t)(colon - line.p) - 1);
		line.n = (size_t)(colon - line.p);
		trim(&value);
		if (same_nocase(line, "upgrade"))
			upgraded = same_nocase(value, "websocket");
		else if (same_nocase(line, "sec-websocket-accept"))
			accepted = nb_bytes_eq_str(value, want);
		else if (same_nocase(line, "sec-websocket-extensions"))
			return NB_E_PROTO;	/* we offered none */
	}
	return in.n > RESPONSE_MAX ? NB_E_FULL : NB_E_AGAIN;
}

/* --- frames ------------------------------------------------------------------------------------ */

static bool opcode_is_known(uint8_t op)
{
	return op <= WEB_WS_BINARY || (op >= WEB_WS_CLOSE && op <= WEB_WS_PONG);
}

int web_ws_frame_decode(struct web_ws_frame *f, struct nb_bytes in)
{
	uint8_t len7;

	memset(f, 0, sizeof *f);
	if (in.n < 2)
		return NB_E_AGAIN;
	f->fin = in.p[0] & 0x80;
	f->opcode = in.p[0] & 0x0f;
	f->masked = in.p[1] & 0x80;
	len7 = in.p[1] & 0x7f;
	if ((in.p[0] & 0x70) || !opcode_is_known(f->opcode))
		return NB_E_PROTO;
	if (f->opcode >= WEB_WS_CLOSE && (!f->fin || len7 > CONTROL_MAX))
		return NB_E_PROTO;
	f->header = (uint8_t)(2 + (len7 == 126 ? 2 : len7 == 127 ? 8 : 0) + (f->masked ? 4 : 0));
	if (in.n < f->header)
		return NB_E_AGAIN;
	f->length = len7 == 126 ? nb_get_be16(in.p + 2) : len7 == 127 ? nb_get_be64(in.p + 2) : len7;
	if ((len7 == 126 && f->length < 126) || (len7 == 127 && (f->length < 65536 || f->length >> 63)))
		return NB_E_PROTO;
	if (f->masked)
		memcpy(f->mask, in.p + f->header - 4, 4);
	return 0;
}

size_t web_ws_frame_encode(uint8_t out[WEB_WS_HEADER_MAX], const struct web_ws_frame *f)
{
	size_t n = 2;

	out[0] = (uint8_t)((f->fin ? 0x80 : 0) | f->opcode);
	out[1] = f->masked ? 0x80 : 0;
	if (f->length < 126) {
		out[1] |= (uint8_t)f->length;
	} else if (f->length < 65536) {
		out[1] |= 126;
		nb_put_be16(out + 2, (uint16_t)f->length);
		n = 4;
	} else {
		out[1] |= 127;
		nb_put_be64(out + 2, f->length);
		n = 10;
	}
	if (f->masked) {
		memcpy(out + n, f->mask, 4);
		n += 4;
	}
	return n;
}

void web_ws_mask(uint8_t *p, size_t n, const uint8_t mask[4], uint64_t offset)
{
	uint8_t turned[8];
	uint64_t word, part;
	size_t i = 0;

	for (unsigned k = 0; k < 8; k++)
		turned[k] = mask[(offset + k) & 3];
	memcpy(&word, turned, 8);
	for (; n - i >= 8; i += 8) {
		memcpy(&part, p + i, 8);
		part ^= word;
		memcpy(p + i, &part, 8);
	}
	for (; i < n; i++)
		p[i] ^= turned[i & 7];
}

/* --- sending ----------------------------------------------------------------------------------- */

/* Masks must not be foreseeable, but need no system call each. */
static void next_mask(struct web_ws *w, uint8_t mask[4])
{
	if (!w->masks_left) {
		w->cfg.rnd(w->cfg.rnd_ctx, w->masks, sizeof w->masks);
		w->masks_left = sizeof w->masks;
	}
	w->masks_left -= 4;
	memcpy(mask, w->masks + w->masks_left, 4);
}

static int send_frame(struct web_ws *w, uint8_t opcode, struct nb_bytes head, struct nb_bytes body)
{
	struct web_ws_frame f = { .length = head.n + body.n, .opcode = opcode, .fin = true, .masked = w->cfg.client };
	uint8_t header[WEB_WS_HEADER_MAX], *at;
	size_t n;

	if (f.masked)
		next_mask(w, f.mask);
	n = web_ws_frame_encode(header, &f);
	at = nb_buf_reserve(&w->out, n + head.n + body.n);
	if (!at) {
		int r = w->out.err;

		w->out.err = 0;
		return r;
	}
	memcpy(at, header, n);
	if (head.n)
		memcpy(at + n, head.p, head.n);
	if (body.n)
		memcpy(at + n + head.n, body.p, body.n);
	if (f.masked)
		web_ws_mask(at + n, head.n + body.n, f.mask, 0);
	nb_buf_commit(&w->out, n + head.n + body.n);
	return 0;
}

size_t web_ws_queued(const struct web_ws *w)
{
	return w->out.n - w->sent;
}

int web_ws_send_parts(struct web_ws *w, struct nb_bytes head, struct nb_bytes body, bool must)
{
	if (w->close_sent)
		return NB_E_STATE;
	if (!must && web_ws_queued(w) && web_ws_queued(w) + head.n + body.n > w->cfg.max_queue)
		return NB_E_FULL;
	return send_frame(w, WEB_WS_BINARY, head, body);
}

int web_ws_send(struct web_ws *w, struct nb_bytes message)
{
	return web_ws_send_parts(w, message, nb_bytes(NULL, 0), false);
}

void web_ws_close(struct web_ws *w, unsigned code)
{
	uint8_t payload[2];

	if (w->close_sent)
		return;
	nb_put_be16(payload, (uint16_t)code);
	(void)send_frame(w, WEB_WS_CLOSE, nb_bytes(payload, code == CLOSE_NONE ? 0 : 2), nb_bytes(NULL, 0));
	w->close_sent = true;
}

size_t web_ws_output(struct web_ws *w, void *out, size_t cap)
{
	size_t n = web_ws_queued(w);

	if (n > cap)
		n = cap;
	if (n)
		memcpy(out, w->out.p + w->sent, n);
	w->sent += n;
	if (w->sent == w->out.n) {
		if (w->out.cap > KEEP_MAX)
			nb_buf_fini(&w->out);
		nb_buf_reset(&w->out);
		w->sent = 0;
	} else if (w->sent > 65536 && w->sent > w->out.n / 2) {
		nb_buf_consume(&w->out, w->sent);
		w->sent = 0;
	}
	return n;
}

/* --- receiving --------------------------------------------------------------------------------- */

/* The peer broke the rules: say so, and be done. */
static void break_off(struct web_ws *w, unsigned code)
{
	web_ws_close(w, code);
	w->broken = true;
}

static void got_close(struct web_ws *w, struct nb_bytes payload)
{
	w->close_got = true;
	if (payload.n == 1) {
		break_off(w, CLOSE_PROTOCOL);
		return;
	}
	w->close_code = payload.n ? nb_get_be16(payload.p) : CLOSE_NONE;
	web_ws_close(w, w->close_code);
}

static void got_control(struct web_ws *w)
{
	struct nb_bytes payload = nb_bytes(w->control, (size_t)w->frame.length);

	if (w->frame.opcode == WEB_WS_CLOSE)
		got_close(w, payload);
	/* A peer that pings without reading gets no more pongs than the queue holds. */
	else if (w->frame.opcode == WEB_WS_PING && !w->close_sent && web_ws_queued(w) <= w->cfg.max_queue)
		(void)send_frame(w, WEB_WS_PONG, payload, nb_bytes(NULL, 0));
}

/* Is this header allowed here? Returns 0 or a close code. */
static unsigned check_frame(const struct web_ws *w)
{
	const struct web_ws_frame *f = &w->frame;

	if (f->masked == w->cfg.client)
		return CLOSE_PROTOCOL;
	if (f->opcode >= WEB_WS_CLOSE)
		return 0;
	if ((f->opcode == WEB_WS_CONTINUATION) != w->in_message)
		return CLOSE_PROTOCOL;
	return f->length > w->cfg.max_message - w->message.n ? CLOSE_TOO_BIG : 0;
}

static void end_frame(struct web_ws *w)
{
	w->in_frame = false;
	if (w->frame.opcode >= WEB_WS_CLOSE) {
		got_control(w);
		return;
	}
	if (!w->frame.fin)
		return;
	w->in_message = false;
	if (!w->close_sent)
		w->cfg.on_message(w->cfg.ctx, w->text, nb_buf_view(&w->message));
	nb_buf_reset(&w->message);
}

/* Header bytes from *in; begins a frame when they are complete. */
static void take_header(struct web_ws *w, struct nb_bytes *in)
{
	unsigned bad;
	int r;

	w->header[w->n_header++] = in->p[0];
	*in = nb_bytes(in->p + 1, in->n - 1);
	r = web_ws_frame_decode(&w->frame, nb_bytes(w->header, w->n_header));
	if (r == NB_E_AGAIN)
		return;
	w->n_header = 0;
	bad = r ? CLOSE_PROTOCOL : check_frame(w);
	if (bad) {
		break_off(w, bad);
		return;
	}
	if (w->frame.opcode == WEB_WS_TEXT || w->frame.opcode == WEB_WS_BINARY) {
		w->text = w->frame.opcode == WEB_WS_TEXT;
		w->in_message = true;
	}
	w->in_frame = true;
	w->taken = 0;
	if (!w->frame.length)
		end_frame(w);
}

static void take_payload(struct web_ws *w, struct nb_bytes *in)
{
	uint64_t left = w->frame.length - w->taken;
	size_t n = left < in->n ? (size_t)left : in->n;
	bool control = w->frame.opcode >= WEB_WS_CLOSE;
	uint8_t *at;

	/* A whole message that needs no unmasking is handed on where it lies. */
	if (!control && !w->frame.masked && w->frame.fin && !w->message.n && !w->taken && n == left && !w->close_sent) {
		struct nb_bytes message = nb_bytes(in->p, n);

		*in = nb_bytes(in->p + n, in->n - n);
		w->in_frame = w->in_message = false;
		w->cfg.on_message(w->cfg.ctx, w->text, message);
		return;
	}
	at = control ? w->control + w->taken : nb_buf_reserve(&w->message, n);

	if (!at) {
		break_off(w, CLOSE_TOO_BIG);
		return;
	}
	memcpy(at, in->p, n);
	if (w->frame.masked)
		web_ws_mask(at, n, w->frame.mask, w->taken);
	if (!control)
		nb_buf_commit(&w->message, n);
	w->taken += n;
	*in = nb_bytes(in->p + n, in->n - n);
	if (w->taken == w->frame.length)
		end_frame(w);
}

void web_ws_input(struct web_ws *w, struct nb_bytes in)
{
	while (in.n && !w->broken && !w->close_got) {
		if (w->in_frame)
			take_payload(w, &in);
		else
			take_header(w, &in);
	}
}

int web_ws_new(struct web_ws **out, const struct web_ws_config *cfg)
{
	struct web_ws *w = calloc(1, sizeof *w);

	if (!w)
		return NB_E_NOMEM;
	w->cfg = *cfg;
	nb_buf_init(&w->message, cfg->max_message ? cfg->max_message : 1);
	nb_buf_init(&w->out, cfg->max_queue * 2 + cfg->max_message + 65536 * 2);
	*out = w;
	return 0;
}

void web_ws_free(struct web_ws *w)
{
	if (!w)
		return;
	nb_buf_fini(&w->message);
	nb_buf_fini(&w->out);
	nb_wipe(w->masks, sizeof w->masks);
	free(w);
}

bool web_ws_done(const struct web_ws *w)
{
	return (w->broken || (w->close_sent && w->close_got)) && !web_ws_queued(w);
}

unsigned web_ws_close_code(const struct web_ws *w)
{
	return w->close_code;
}
