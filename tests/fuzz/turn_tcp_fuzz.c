/* turn_tcp_fuzz.c - the framing of src/run/turn_tcp.c: the same bytes in one piece and in cuts that the input
 * chooses (first byte) must give the same messages. */
#include <stdlib.h>

#include "run/turn_tcp.c"

static struct nb_buf got;

static void on_message(void *ctx, const struct turn_flow *flow, struct nb_bytes in, struct nb_time now)
{
	(void)ctx, (void)flow, (void)now;
	nb_buf_be16(&got, (uint16_t)in.n);
	nb_buf_bytes(&got, in);
}

static void on_flush(void *ctx)
{
	(void)ctx;
}

static bool feed(struct nb_bytes in, size_t step)
{
	static struct run_turn_tcp t = { .cfg = { .input = on_message, .flush = on_flush } };
	struct conn c = { .t = &t };

	while (in.n && !c.broken) {
		struct nb_bytes piece = nb_bytes(in.p, in.n < step ? in.n : step);

		in = after(in, piece.n);
		while (piece.n && !c.broken)
			piece = c.skip ? skip(&c, piece) : take(&c, piece, (struct nb_time){ 0 });
	}
	return c.broken;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nb_buf whole;
	bool broken;

	if (size < 2)
		return 0;
	nb_buf_init(&got, 2 << 20);
	broken = feed(nb_bytes(data + 1, size - 1), size);
	whole = got;
	nb_buf_init(&got, 2 << 20);
	if (feed(nb_bytes(data + 1, size - 1), data[0] ? data[0] : 1) != broken || whole.n != got.n ||
	    (got.n && memcmp(whole.p, got.p, got.n)))
		abort();
	nb_buf_fini(&got);
	nb_buf_fini(&whole);
	return 0;
}
