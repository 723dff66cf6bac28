/* aead_neon.c - the packet cipher for aarch64, whose processors all have NEON. ChaCha20: four blocks at once, one per
 * lane; Poly1305 as poly1305.c has it, with 64-bit multiplications. */
#if defined(__aarch64__) && defined(__ARM_NEON) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__

#include <arm_neon.h>

#define LANES 4
#define TARGET
#define VEC uint32x4_t
#define V_ADD(a, b) vaddq_u32(a, b)
#define V_XOR(a, b) veorq_u32(a, b)
#define V_ROL(a, n) vsriq_n_u32(vshlq_n_u32(a, n), a, 32 - (n))
#define V_ROL16(a) vreinterpretq_u32_u16(vrev32q_u16(vreinterpretq_u16_u32(a)))
#define V_ROL12(a) V_ROL(a, 12)
#define V_ROL8(a) V_ROL(a, 8)
#define V_ROL7(a) V_ROL(a, 7)
#define V_SET(w) vdupq_n_u32(w)
#define V_LOAD(p) vreinterpretq_u32_u8(vld1q_u8((const uint8_t *)(p)))
#define V_STORE(p, v) vst1q_u8((uint8_t *)(p), vreinterpretq_u8_u32(v))
#define PAIRS 4
#define KEY_ROW 32
#include "wg/aead_lanes.h"

/* Four rows of words become four quarter blocks. */
INLINE void transpose(uint32x4_t x[4])
{
	uint32x4x2_t a = vtrnq_u32(x[0], x[1]), b = vtrnq_u32(x[2], x[3]);

	x[0] = vcombine_u32(vget_low_u32(a.val[0]), vget_low_u32(b.val[0]));
	x[1] = vcombine_u32(vget_low_u32(a.val[1]), vget_low_u32(b.val[1]));
	x[2] = vcombine_u32(vget_high_u32(a.val[0]), vget_high_u32(b.val[0]));
	x[3] = vcombine_u32(vget_high_u32(a.val[1]), vget_high_u32(b.val[1]));
}

#include "wg/aead_four.h"

const struct wg_aead wg_aead_neon = { "neon", seal, open };

#endif
