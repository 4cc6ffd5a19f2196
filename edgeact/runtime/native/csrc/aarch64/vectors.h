/* Vectors of 16 floats and of 64 bytes, by NEON. x86_64/vectors_avx2.h and vectors_avx512.h have the same functions with
 * the same results. */
#ifndef EDGEACT_VECTORS_H
#define EDGEACT_VECTORS_H

#include <arm_neon.h>
#include <string.h>

typedef float32x4x4_t ea_floats;
typedef int ea_mask; /* how many of the first values of 16 */
typedef uint8x16x4_t ea_bytes;

#define EA_INLINE static inline __attribute__((always_inline))

EA_INLINE void ea_pause(void) { __asm__ volatile("yield"); }

EA_INLINE ea_mask ea_first(int count) { return count; }

EA_INLINE ea_floats ea_all(float value)
{
    float32x4_t same = vdupq_n_f32(value);
    return (ea_floats){{same, same, same, same}};
}

EA_INLINE ea_floats ea_add(ea_floats a, ea_floats b)
{
    for (int i = 0; i < 4; i++)
        a.val[i] = vaddq_f32(a.val[i], b.val[i]);
    return a;
}

EA_INLINE ea_floats ea_multiply_add(ea_floats a, ea_floats b, ea_floats c)
{
    for (int i = 0; i < 4; i++)
        c.val[i] = vfmaq_f32(c.val[i], a.val[i], b.val[i]);
    return c;
}

/* a > b ? a : b, so b if either is NaN. */
EA_INLINE ea_floats ea_max(ea_floats a, ea_floats b)
{
    for (int i = 0; i < 4; i++)
        a.val[i] = vbslq_f32(vcgtq_f32(a.val[i], b.val[i]), a.val[i], b.val[i]);
    return a;
}

EA_INLINE ea_floats ea_load_floats(const float *from, ea_mask count)
{
    float values[16] = {0};
    memcpy(values, from, (size_t)count * 4);
    return vld1q_f32_x4(values);
}

EA_INLINE void ea_store_floats(void *to, ea_mask count, ea_floats value)
{
    float values[16];
    vst1q_f32_x4(values, value);
    memcpy(to, values, (size_t)count * 4);
}

/* Integer sums as floats. */
EA_INLINE ea_floats ea_load_sums(const int32_t *from, ea_mask count, int full)
{
    int32_t partial[16] = {0};
    if (!full) {
        memcpy(partial, from, (size_t)count * 4);
        from = partial;
    }
    ea_floats value;
    for (int i = 0; i < 4; i++)
        value.val[i] = vcvtq_f32_s32(vld1q_s32(from + i * 4));
    return value;
}

EA_INLINE uint8x16_t ea_load_16_bytes(const uint8_t *from, ea_mask count, int full)
{
    uint8_t partial[16] = {0};
    if (full)
        return vld1q_u8(from);
    memcpy(partial, from, (size_t)count);
    return vld1q_u8(partial);
}

/* Bytes as floats. */
EA_INLINE ea_floats ea_load_activations(const uint8_t *from, ea_mask count, int full)
{
    uint8x16_t bytes = ea_load_16_bytes(from, count, full);
    uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_high_u8(bytes);
    return (ea_floats){{vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))), vcvtq_f32_u32(vmovl_high_u16(low)),
                        vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))), vcvtq_f32_u32(vmovl_high_u16(high))}};
}

/* Round values of at least 0 to bytes, ties to even, and store them or add them to the bytes there, saturating. */
EA_INLINE void ea_store_quantized(uint8_t *to, ea_mask count, int full, int accumulate, ea_floats value)
{
    uint16x4_t part[4];
    for (int i = 0; i < 4; i++)
        part[i] = vqmovn_u32(vcvtnq_u32_f32(value.val[i]));
    uint8x16_t quantized =
        vcombine_u8(vqmovn_u16(vcombine_u16(part[0], part[1])), vqmovn_u16(vcombine_u16(part[2], part[3])));
    if (accumulate)
        quantized = vqaddq_u8(quantized, ea_load_16_bytes(to, count, full));
    if (full) {
        vst1q_u8(to, quantized);
    } else {
        uint8_t partial[16];
        vst1q_u8(partial, quantized);
        memcpy(to, partial, (size_t)count);
    }
}

EA_INLINE ea_bytes ea_zero_bytes(void)
{
    uint8x16_t zero = vdupq_n_u8(0);
    return (ea_bytes){{zero, zero, zero, zero}};
}

/* The larger of `largest` and the first `count` bytes in memory, 64 at most. */
EA_INLINE ea_bytes ea_max_bytes(ea_bytes largest, const uint8_t *from, int count)
{
    uint8_t partial[64] = {0};
    if (count < 64) {
        memcpy(partial, from, (size_t)count);
        from = partial;
    }
    for (int i = 0; i < 4; i++)
        largest.val[i] = vmaxq_u8(largest.val[i], vld1q_u8(from + i * 16));
    return largest;
}

EA_INLINE void ea_store_bytes(uint8_t *to, int count, ea_bytes value)
{
    uint8_t bytes[64];
    vst1q_u8_x4(bytes, value);
    memcpy(to, bytes, (size_t)(count < 64 ? count : 64));
}

#endif
