/* Integer dot products of a convolution on ARM, exact in 32 bits: by int16 products (NEON), by signed dot products, or by
 * mixed-sign ones (i8mm). All read the same packed weights, and each computes 4 pixels by 16 outputs at a time. */
#include "products.h"
#include "winograd.h"

#include <arm_neon.h>
#include <string.h>
#include <sys/auxv.h>

#define FOR_DOT __attribute__((target("dotprod")))
#define FOR_I8MM __attribute__((target("i8mm")))

enum { TILE_BYTES = 1024, PIXELS = 4, VECTORS = 4 };

typedef void four_pixels(const ea_block *block, const uint8_t *from, const int8_t *weights, int32_t *sums);

int ea_version(void) { return EA_VERSION; }

int ea_isas(void)
{
    enum { ASIMD = 1 << 1, ASIMDDP = 1 << 20, I8MM = 1 << 13 };
    unsigned long features = getauxval(AT_HWCAP);
    int isas = features & ASIMD ? 1 << EA_NEON : 0;
    if (features & ASIMDDP)
        isas |= 1 << EA_NEON_DOTPROD;
    if (getauxval(AT_HWCAP2) & I8MM)
        isas |= 1 << EA_NEON_I8MM;
    return isas;
}

int ea_choose_form(const ea_conv *conv, int isa)
{
    (void)conv, (void)isa;
    return EA_FORM_WINDOWS;
}

int64_t ea_pack_bytes(const ea_conv *conv)
{
    (void)conv;
    return 0;
}

int64_t ea_pack(const ea_conv *conv, const int8_t *taps, uint8_t *to)
{
    (void)conv, (void)taps, (void)to;
    return 0;
}

int64_t ea_scratch_bytes(const ea_conv *conv)
{
    (void)conv;
    return 0;
}

int ea_winograd_chunks(const ea_conv *conv)
{
    (void)conv;
    return 0;
}

void ea_winograd_do(const ea_conv *conv, int chunk, int thread)
{
    (void)conv, (void)chunk, (void)thread;
}

ea_compute *ea_compute_for(int isa)
{
    (void)isa;
    return ea_do;
}

void ea_tiles_begin(void) {}

void ea_tiles_end(void) {}

static inline __attribute__((always_inline)) uint8x16_t repeated_quad(const uint8_t *from)
{
    uint32_t quad;
    memcpy(&quad, from, 4);
    return vreinterpretq_u8_u32(vdupq_n_u32(quad));
}

/* A product of uint8 and int8 fits into int16; products are added to 32 bits in pairs, two sums for each output. */
static void four_pixels_neon(const ea_block *block, const uint8_t *from, const int8_t *weights, int32_t *sums)
{
    int32x4_t sum[PIXELS][2 * VECTORS];
    for (int pixel = 0; pixel < PIXELS; pixel++)
        for (int i = 0; i < 2 * VECTORS; i++)
            sum[pixel][i] = vdupq_n_s32(0);
    for (const ea_quad *quad = block->first_quad; quad < block->last_quad; quad++) {
        for (int pixel = 0; pixel < PIXELS; pixel++) {
            uint8x16_t bytes = repeated_quad(from + quad->input + pixel * block->pixel_step);
            int16x8_t activations = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(bytes)));
            for (int i = 0; i < 2 * VECTORS; i++) {
                int16x8_t products = vmulq_s16(activations, vmovl_s8(vld1_s8(weights + quad->weights + i * 8)));
                sum[pixel][i] = vpadalq_s16(sum[pixel][i], products);
            }
        }
    }
    for (int pixel = 0; pixel < PIXELS; pixel++)
        for (int i = 0; i < VECTORS; i++)
            vst1q_s32(sums + pixel * 16 + i * 4, vpaddq_s32(sum[pixel][2 * i], sum[pixel][2 * i + 1]));
}

/* Both operands must be signed: sum(x * w) = sum((x - 128) * w) - sum(-128 * w). */
FOR_DOT static void four_pixels_dot(const ea_block *block, const uint8_t *from, const int8_t *weights, int32_t *sums)
{
    const int8x16_t lowest = vdupq_n_s8(-128);
    int32x4_t sum[PIXELS][VECTORS], correction[VECTORS];
    for (int i = 0; i < VECTORS; i++) {
        correction[i] = vdupq_n_s32(0);
        for (int pixel = 0; pixel < PIXELS; pixel++)
            sum[pixel][i] = vdupq_n_s32(0);
    }
    for (const ea_quad *quad = block->first_quad; quad < block->last_quad; quad++) {
        int8x16x4_t vector = vld1q_s8_x4(weights + quad->weights);
        for (int i = 0; i < VECTORS; i++)
            correction[i] = vdotq_s32(correction[i], vector.val[i], lowest);
        for (int pixel = 0; pixel < PIXELS; pixel++) {
            uint8x16_t bytes = repeated_quad(from + quad->input + pixel * block->pixel_step);
            int8x16_t activations = vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(128)));
            for (int i = 0; i < VECTORS; i++)
                sum[pixel][i] = vdotq_s32(sum[pixel][i], vector.val[i], activations);
        }
    }
    for (int pixel = 0; pixel < PIXELS; pixel++)
        for (int i = 0; i < VECTORS; i++)
            vst1q_s32(sums + pixel * 16 + i * 4, vsubq_s32(sum[pixel][i], correction[i]));
}

FOR_I8MM static void four_pixels_i8mm(const ea_block *block, const uint8_t *from, const int8_t *weights, int32_t *sums)
{
    int32x4_t sum[PIXELS][VECTORS];
    for (int pixel = 0; pixel < PIXELS; pixel++)
        for (int i = 0; i < VECTORS; i++)
            sum[pixel][i] = vdupq_n_s32(0);
    for (const ea_quad *quad = block->first_quad; quad < block->last_quad; quad++) {
        int8x16x4_t vector = vld1q_s8_x4(weights + quad->weights);
        for (int pixel = 0; pixel < PIXELS; pixel++) {
            uint8x16_t activations = repeated_quad(from + quad->input + pixel * block->pixel_step);
            for (int i = 0; i < VECTORS; i++)
                sum[pixel][i] = vusdotq_s32(sum[pixel][i], activations, vector.val[i]);
        }
    }
    for (int pixel = 0; pixel < PIXELS; pixel++)
        for (int i = 0; i < VECTORS; i++)
            vst1q_s32(sums + pixel * 16 + i * 4, sum[pixel][i]);
}

void ea_products(const ea_conv *conv, const ea_block *block, int tile, int tiles, int32_t *sums, ea_pending *pending,
                 int isa)
{
    four_pixels *compute = isa == EA_NEON_I8MM      ? four_pixels_i8mm
                           : isa == EA_NEON_DOTPROD ? four_pixels_dot
                                                    : four_pixels_neon;
    ea_pending_do(pending, pending->vectors);
    for (int i = 0; i < tiles; i++) {
        const int8_t *weights = conv->weights + (int64_t)(tile + i) * conv->windows * TILE_BYTES;
        for (int position = 0; position < block->positions; position += PIXELS)
            if (ea_is_used(block, position))
                compute(block, ea_position(block, position), weights,
                        sums + i * (EA_BLOCK_SUMS / 2) + position * 16);
    }
}
