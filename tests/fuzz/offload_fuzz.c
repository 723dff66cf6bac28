/* offload_fuzz.c - a header and a packet from the device: cut, with every segment's sums right; and the input as
 * a run of packets: joined, cut again by what the header says, and nothing lost on the way. */
#include "wg/offload_int.h"

#include <stdlib.h>

static uint8_t in[WG_SUPER_MAX], out[WG_SUPER_MAX + 100];

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void cut(const uint8_t *vnet, const uint8_t *data, size_t n)
{
	struct wg_split c;

	memcpy(in, data, n);
	if (wg_split_begin(&c, vnet, in, n) != 1)
		return;
	for (size_t len, total = 0;; total += len - c.hdr) {
		size_t longest = wg_split_longest(&c);

		check(longest <= n);
		len = wg_split_next(&c, out);
		if (!len) {
			check(total == n - c.hdr);
			return;
		}
		check(len <= longest);
		check(wg_sum_fold(wg_sum(wg_sum_pseudo(out, c.six, c.tcp ? IP_TCP : IP_UDP, len - c.l4), out + c.l4,
					 len - c.l4)) == 0xffff);
	}
}

/* Packets: two bytes of length, then the bytes. */
static void join(const uint8_t *data, size_t n)
{
	static struct wg_join j;
	static struct nb_bytes parts[WG_JOIN_PARTS];
	uint8_t vnet[WG_VNET], answer[WG_TOO_BIG_MAX];
	size_t at = 0, bytes = 0, packets = 0;

	wg_join_init(&j, true, true);
	memcpy(in, data, n);
	while (n - at > 2) {
		size_t len = nb_get_be16(in + at) & 0x7ff;

		at += 2;
		if (len > n - at)
			len = n - at;
		check(wg_too_big(answer, in + at, len, 1280) <= WG_TOO_BIG_MAX);
		if (!wg_join_add(&j, in + at, len))
			break;
		packets++;
		at += len;
	}
	for (size_t g = 0; g < j.ngroups; g++) {
		size_t count = wg_join_group(&j, g, vnet, parts);

		check(count == wg_join_count(&j, g));
		packets -= count;
		bytes = 0;
		for (size_t i = 0; i < count; i++) {
			memcpy(out + bytes, parts[i].p, parts[i].n);
			bytes += parts[i].n;
		}
		check(bytes <= WG_SUPER_MAX);
		if (count > 1) {
			static uint8_t one[WG_SUPER_MAX];
			struct wg_split c;
			size_t k = 0;

			check(wg_split_begin(&c, vnet, out, bytes) == 1);
			while (wg_split_next(&c, one))
				k++;
			check(k == count);
		}
	}
	check(packets == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n < WG_VNET || n > WG_SUPER_MAX)
		return 0;
	cut(data, data + WG_VNET, n - WG_VNET);
	join(data, n);
	return 0;
}
