/* link_frame.c - see link_frame.h. */
#include "run/link_frame.h"

#include "base/err.h"
#include "web/websocket.h"

#define TURN_HEAD 4
#define STUN_HEAD 20

int run_frame_relay(struct run_frame *f, uint8_t *in, size_t n)
{
	struct web_ws_frame w;
	int r = web_ws_frame_decode(&w, nb_bytes(in, n));

	if (r)
		return r == NB_E_AGAIN ? 0 : NB_E_PROTO;
	/* Relays speak binary, and only clients mask. */
	if (w.masked || w.opcode == WEB_WS_TEXT || w.length > RUN_FRAME_MAX)
		return NB_E_PROTO;
	if (n < w.header + w.length)
		return 0;
	*f = (struct run_frame){ .p = in + w.header, .n = (size_t)w.length, .last = w.fin, .first = w.opcode == WEB_WS_BINARY };
	switch (w.opcode) {
	case WEB_WS_PING:
		f->kind = RUN_FRAME_PING;
		break;
	case WEB_WS_PONG:
		f->kind = RUN_FRAME_PONG;
		break;
	case WEB_WS_CLOSE:
		f->kind = RUN_FRAME_CLOSE;
		break;
	default:
		f->kind = w.fin && f->first ? RUN_FRAME_MESSAGE : RUN_FRAME_PART;
		break;
	}
	return (int)(w.header + w.length);
}

int run_frame_turn(struct run_frame *f, uint8_t *in, size_t n)
{
	size_t len, all;

	if (n < TURN_HEAD)
		return 0;
	len = nb_get_be16(in + 2);
	if (in[0] >> 6 == 1) {
		len += TURN_HEAD;
		all = (len + 3) & ~(size_t)3;
	} else if (in[0] >> 6 == 0 && len % 4 == 0) {
		len += STUN_HEAD;
		all = len;
	} else {
		return NB_E_PROTO;
	}
	if (all > RUN_FRAME_MAX)
		return NB_E_PROTO;
	if (n < all)
		return 0;
	*f = (struct run_frame){ .kind = RUN_FRAME_MESSAGE, .last = true, .first = true, .p = in, .n = len };
	return (int)all;
}
