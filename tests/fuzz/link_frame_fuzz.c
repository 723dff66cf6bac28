/* link_frame_fuzz.c - src/run/link_frame.c: frames stay within the input and take at least a byte. Input: one byte that says
 * which framing, then what arrived. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "run/link_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = size > 1 ? malloc(size - 1) : NULL;
	size_t n = size - 1, used = 0;

	if (!copy)
		return 0;
	memcpy(copy, data + 1, n);
	while (used < n) {
		struct run_frame f;
		int r = data[0] & 1 ? run_frame_relay(&f, copy + used, n - used) : run_frame_turn(&f, copy + used, n - used);

		if (r <= 0)
			break;
		if ((size_t)r > n - used || f.p < copy + used || f.p + f.n > copy + used + r || f.n > RUN_FRAME_MAX)
			abort();
		used += (size_t)r;
	}
	free(copy);
	return 0;
}
