/* http1_fuzz.c - src/web/http1.c: any bytes, in cuts that the input chooses, with a router behind it. The
 * first byte is the cut length (0: all at once). */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "web/http1.h"

static void echo(struct web_call *call, void *arg)
{
	(void)arg;
	(void)web_query(call, "a");
	(void)web_header_text(call, "x-a");
	web_set_header(call, "x-param", web_param(call, "id"));
	web_respond(call, 200, "text/plain", call->req.body);
}

static void upgrade(void *arg, struct web_call *call)
{
	(void)arg;
	web_respond(call, 101, NULL, nb_bytes(NULL, 0));
}

static const struct web_route routes[] = {
	{ "GET /", echo, 0 }, { "POST /a/{id}", echo, 0 }, { "* /b/*", echo, 0 },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct web_router router = { .routes = routes, .n = 3, .cors = true };
	struct web_handler handler = { .request = web_router_dispatch, .upgrade = upgrade, .arg = &router,
				       .max_body = 4096 };
	struct web_http1_config cfg;
	struct web_http1 *h;
	struct nb_bytes rest;
	void *user;
	uint8_t out[300];
	size_t step;

	if (size < 1)
		return 0;
	web_http1_config_default(&cfg);
	cfg.handler = &handler;
	cfg.max_head = 1024;
	if (web_http1_new(&h, &cfg, (struct nb_time){ 0 }))
		return 0;
	step = data[0] ? data[0] : size;
	for (size_t i = 1; i < size && web_http1_wants_input(h); i += step) {
		web_http1_input(h, nb_bytes(data + i, size - i < step ? size - i : step), (struct nb_time){ 0 });
		while (web_http1_output(h, out, sizeof out, (struct nb_time){ 0 }))
			;
	}
	web_http1_timer(h, (struct nb_time){ 300 * NB_SEC });
	while (web_http1_output(h, out, sizeof out, (struct nb_time){ 0 }))
		;
	/* Something must have ended it: the client, a refusal, an upgrade, or the idle timer. */
	if (!web_http1_done(h) && !web_http1_upgraded(h, &user, &rest))
		abort();
	web_http1_free(h);
	return 0;
}
