/* websocket_fuzz.c - src/web/websocket.c: any frames to either role, and any answer to the opening
 * handshake. First byte: lowest bit the role, the rest the length of the cuts (0: all at once). */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "web/websocket.h"

static void zeros(void *ctx, void *out, size_t n)
{
	(void)ctx;
	memset(out, 0, n);
}

static void on_message(void *ctx, bool text, struct nb_bytes message)
{
	struct web_ws **w = ctx;

	if (!text)
		(void)web_ws_send(*w, message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct web_ws *w = NULL;
	struct web_ws_config cfg = { .max_message = 2000, .max_queue = 4000, .rnd = zeros, .on_message = on_message,
				     .ctx = &w };
	uint8_t out[100];
	int status;
	size_t step;

	if (size < 1)
		return 0;
	(void)web_ws_response(nb_bytes(data + 1, size - 1), "dGhlIHNhbXBsZSBub25jZQ==", &status);
	cfg.client = data[0] & 1;
	step = data[0] >> 1 ? data[0] >> 1 : size;
	if (web_ws_new(&w, &cfg))
		return 0;
	for (size_t i = 1; i < size; i += step) {
		web_ws_input(w, nb_bytes(data + i, size - i < step ? size - i : step));
		/* A slow reader now and then. */
		if (data[i] & 1)
			while (web_ws_output(w, out, sizeof out))
				;
		if (web_ws_queued(w) > cfg.max_queue * 2 + cfg.max_message)
			abort();
	}
	web_ws_close(w, 1000);
	while (web_ws_output(w, out, sizeof out))
		;
	web_ws_free(w);
	return 0;
}
