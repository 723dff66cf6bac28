/* counter.c - the replay window: a ring of bits over the last 8128 counters, cleared word by word
 * as it moves (RFC 6479). Tests: tests/unit/wg_counter_test.c */
#include "wg/wg_int.h"

#define WORDS (WG_WINDOW_BITS / 64)

bool wg_window_accept(struct wg_window *w, uint64_t counter)
{
	uint64_t word = counter / 64, bit = 1ULL << (counter % 64);

	if (counter >= WG_REJECT_AFTER_MESSAGES)
		return false;
	if (w->next > WG_WINDOW && counter < w->next - WG_WINDOW)
		return false;
	if (counter >= w->next) {
		/* next - 1 is the highest seen; its word is in use, all words after it are stale. */
		uint64_t top = w->next ? (w->next - 1) / 64 : 0;
		uint64_t clear = word - top < WORDS ? word - top : WORDS;

		for (uint64_t i = 1; i <= clear; i++)
			w->bits[(top + i) % WORDS] = 0;
		w->next = counter + 1;
	}
	if (w->bits[word % WORDS] & bit)
		return false;
	w->bits[word % WORDS] |= bit;
	return true;
}
