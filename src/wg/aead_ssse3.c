/* aead_ssse3.c - the packet cipher for x86-64 without AVX2. ChaCha20: four blocks at once, one per lane; Poly1305 as
 * poly1305.c has it. Chosen by aead.c when the processor can. */
#if defined(__x86_64__)

#include <immintrin.h>

#define LANES 4
#define TARGET __attribute__((target("ssse3")))
#define VEC __m128i
#define V_ADD(a, b) _mm_add_epi32(a, b)
#define V_XOR(a, b) _mm_xor_si128(a, b)
#define V_ROL(a, n) _mm_or_si128(_mm_slli_epi32(a, n), _mm_srli_epi32(a, 32 - (n)))
#define V_ROL16(a) _mm_shuffle_epi8(a, _mm_set_epi64x(0x0d0c0f0e09080b0a, 0x0504070601000302))
#define V_ROL12(a) V_ROL(a, 12)
#define V_ROL8(a) _mm_shuffle_epi8(a, _mm_set_epi64x(0x0e0d0c0f0a09080b, 0x0605040702010003))
#define V_ROL7(a) V_ROL(a, 7)
#define V_SET(w) _mm_set1_epi32((int)(w))
#define V_LOAD(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define V_STORE(p, v) _mm_storeu_si128((__m128i *)(void *)(p), v)
#define PAIRS 2
#define KEY_ROW 32
#include "wg/aead_lanes.h"

bool wg_ssse3_usable(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("ssse3");
}

/* Four rows of words become four quarter blocks. */
TARGET INLINE void transpose(__m128i x[4])
{
	__m128i a = _mm_unpacklo_epi32(x[0], x[1]), b = _mm_unpackhi_epi32(x[0], x[1]);
	__m128i c = _mm_unpacklo_epi32(x[2], x[3]), d = _mm_unpackhi_epi32(x[2], x[3]);

	x[0] = _mm_unpacklo_epi64(a, c);
	x[1] = _mm_unpackhi_epi64(a, c);
	x[2] = _mm_unpacklo_epi64(b, d);
	x[3] = _mm_unpackhi_epi64(b, d);
}

#include "wg/aead_four.h"

const struct wg_aead wg_aead_ssse3 = { "ssse3", seal, open };

#endif
