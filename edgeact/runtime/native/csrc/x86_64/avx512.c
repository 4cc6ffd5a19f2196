/* The engine with vectors of 512 bits, and integer dot products of a convolution by AVX-512 VNNI. */
#include "avx512.h"

EA_AVX512_BEGIN

#include "conv.c"
#include "epilogue.c"
#include "layers.c"

#include "products_avx512.h"

enum { WINDOW_BYTES = 64, TILE_BYTES = 1024 };

/* 8 pixels by `tiles` tiles of 16 outputs; always inlined, with a constant for `tiles`. */
static inline __attribute__((always_inline)) void
eight_pixels(const ea_conv *conv, const ea_block *block, const uint8_t *from, const int8_t *weights, const int tiles,
             int32_t *sums)
{
    __m512i sum[2][8];
    for (int tile = 0; tile < tiles; tile++)
        for (int pixel = 0; pixel < 8; pixel++)
            sum[tile][pixel] = _mm512_setzero_si512();
    for (const ea_quad *quad = block->first_quad; quad < block->last_quad; quad++) {
        __m512i vector[2];
        for (int tile = 0; tile < tiles; tile++)
            vector[tile] = _mm512_loadu_si512(weights + tile * (int64_t)conv->windows * TILE_BYTES + quad->weights);
        for (int pixel = 0; pixel < 8; pixel++) {
            int32_t activations;
            memcpy(&activations, from + quad->input + pixel * block->pixel_step, 4);
            for (int tile = 0; tile < tiles; tile++)
                sum[tile][pixel] = _mm512_dpbusd_epi32(sum[tile][pixel], _mm512_set1_epi32(activations), vector[tile]);
        }
    }
    for (int tile = 0; tile < tiles; tile++)
        for (int pixel = 0; pixel < 8; pixel++)
            _mm512_store_si512(sums + tile * (EA_BLOCK_SUMS / 2) + pixel * 16, sum[tile][pixel]);
}

static void eight_by_two(const ea_conv *conv, const ea_block *block, const uint8_t *from, const int8_t *weights,
                                  int32_t *sums)
{
    eight_pixels(conv, block, from, weights, 2, sums);
}

static void eight_by_one(const ea_conv *conv, const ea_block *block, const uint8_t *from, const int8_t *weights,
                                  int32_t *sums)
{
    eight_pixels(conv, block, from, weights, 1, sums);
}

static void products_vnni(const ea_conv *conv, const ea_block *block, int tile, int tiles, int32_t *sums,
                          ea_pending *pending)
{
    const int8_t *weights = conv->weights + (int64_t)tile * conv->windows * TILE_BYTES;
    ea_pending_do(pending, pending->vectors);
    for (int position = 0; position < block->positions; position += 8) {
        if (!ea_is_used(block, position))
            continue;
        const uint8_t *from = ea_position(block, position);
        if (tiles == 2)
            eight_by_two(conv, block, from, weights, sums + position * 16);
        else
            eight_by_one(conv, block, from, weights, sums + position * 16);
    }
}

void ea_products(const ea_conv *conv, const ea_block *block, int tile, int tiles, int32_t *sums, ea_pending *pending,
                 int isa)
{
    if (isa == EA_AMX_INT8)
        ea_products_amx(conv, block, tile, tiles, sums, pending);
    else
        products_vnni(conv, block, tile, tiles, sums, pending);
}

EA_AVX512_END
