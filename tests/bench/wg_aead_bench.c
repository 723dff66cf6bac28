/* wg_aead_bench.c - how fast each kernel of the packet cipher is: GB/s and nanoseconds per message, sealing
 * batches of 64 and single messages, in a run beside the others. Prints a table. */
#include "wg/aead_int.h"

#include "crypto/crypto.h"

#include <stdio.h>
#include <time.h>

#define BATCH 64
#define ROOM 1536

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Nanoseconds per message: best of several short runs, to see past the neighbours on a shared machine. */
static double measure(const struct wg_aead *k, size_t n, size_t batch, bool open)
{
	static uint8_t room[BATCH][ROOM] __attribute__((aligned(64)));
	static const uint8_t key[32] = { 1, 2, 3 };
	struct wg_aead_op ops[BATCH];
	double best = 1e9;

	for (int run = 0; run < 150; run++) {
		size_t rounds = 300000 / (n + 200) / batch + 1;
		double t = seconds();

		for (size_t r = 0; r < rounds; r++) {
			for (size_t i = 0; i < batch; i++)
				ops[i] = (struct wg_aead_op){ room[i], n, key, r * batch + i, false };
			if (open)
				k->open(ops, batch);
			else
				k->seal(ops, batch);
		}
		t = (seconds() - t) / (double)(rounds * batch) * 1e9;
		best = t < best ? t : best;
	}
	return best;
}

int main(void)
{
	static const size_t sizes[] = { 64, 512, 1424 };
	const struct wg_aead *k;

	if (nbc_init())
		return 1;
	printf("%-10s %6s %14s %14s %14s\n", "kernel", "bytes", "seal x64", "seal x1", "open reject x64");
	for (size_t i = 0; (k = wg_aead_kernel(i)); i++) {
		if (!wg_aead_usable(k))
			continue;
		for (size_t s = 0; s < 3; s++) {
			double many = measure(k, sizes[s], BATCH, false), one = measure(k, sizes[s], 1, false);
			double bad = measure(k, sizes[s], BATCH, true);

			printf("%-10s %6zu %6.0f ns %4.2f GB/s %6.0f ns %6.0f ns\n", k->name, sizes[s], many,
			       (double)sizes[s] / many, one, bad);
		}
	}
	return 0;
}
