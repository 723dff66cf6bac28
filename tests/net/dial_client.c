/* dial_client.c - one dial as the client makes it: dial_client HOST PORT [CA_FILE]. With a CA file over TLS,
 * asking for h2. Prints "open ALPN", or the line a user would see, and "took N ms". */
#include <stdio.h>
#include <stdlib.h>

#include "crypto/crypto.h"
#include "os/clock.h"
#include "run/dial.h"
#include "run/trust.h"

static struct run_loop *loop;
static struct run_stream *stream;

static void input(void *p, struct nb_bytes in, struct nb_time now)
{
	(void)p, (void)in, (void)now;
}

static void closed(void *p, const char *why, struct nb_time now)
{
	(void)p, (void)why, (void)now;
	stream = NULL;
}

static const struct run_proto proto = { .input = input, .closed = closed };

static void done(void *ctx, struct run_stream *s, int err, const char *why)
{
	(void)ctx, (void)err;
	if (s) {
		printf("open %s\n", run_stream_tls(s) ? nbc_tls_alpn(run_stream_tls(s)) : "clear");
		run_stream_attach(s, &proto, NULL);
		stream = s;
	} else {
		printf("%s\n", why);
	}
	run_loop_stop(loop);
}

int main(int argc, char **argv)
{
	struct run_dial_config cfg = { .alpn = { "h2" }, .timeout_ns = 4 * NB_SEC, .done = done };
	struct run_resolver *resolver;
	struct run_dial *dial;
	struct nb_time start = os_now();
	char why[NBC_TLS_WHY];

	if (argc < 3 || nbc_init() || run_loop_new(&loop) || run_resolver_new(&resolver, loop))
		return 2;
	cfg.loop = loop;
	cfg.resolver = resolver;
	cfg.host = argv[1];
	cfg.port = (uint16_t)atoi(argv[2]);
	if (argc > 3 && run_trust_load(&cfg.trust, argv[3], why)) {
		puts(why);
		return 1;
	}
	if (run_dial_start(&dial, &cfg))
		return 2;
	run_loop_run(loop);
	printf("took %lld ms\n", (long long)(nb_time_diff(os_now(), start) / NB_MS));
	run_stream_free(stream);
	nbc_trust_unref(cfg.trust);
	run_resolver_free(resolver);
	run_loop_free(loop);
	return 0;
}
