/* Integer dot products of a convolution by AVX2 or AVX-VNNI; both read the weights that are packed for 16 outputs. */
#include "products.h"

#include <immintrin.h>
#include <string.h>

#define FOR_AVX_VNNI __attribute__((target("avxvnni")))

enum { TILE_BYTES = 1024, PIXELS = 4, VECTORS = 2 };

typedef void four_pixels(const ea_conv *conv, const ea_block *block, const uint8_t *from, const int8_t *weights, int32_t *sums);

static inline __attribute__((always_inline)) __m256i repeated_quad(const uint8_t *from)
{
    int32_t quad;
    memcpy(&quad, from, 4);
    return _mm256_set1_epi32(quad);
}

/* int16 products: `vpmaddubsw` would add two products of int8 in 16 bits, which they may exceed. */
static void four_pixels_avx2(const ea_conv *conv, const ea_block *block, const uint8_t *from, const int8_t *weights, int32_t *sums)
{
    const __m256i even_bytes = _mm256_set1_epi16(255);
    __m256i sum[PIXELS][VECTORS];
    for (int pixel = 0; pixel < PIXELS; pixel++)
        for (int i = 0; i < VECTORS; i++)
            sum[pixel][i] = _mm256_setzero_si256();
    for (int window = block->first_window; window < block->last_window; window++) {
        const uint8_t *input = from + conv->offsets[window];
        const int8_t *quad_weights = weights + (int64_t)window * TILE_BYTES;
        for (int quad = 0; quad < conv->quads[window]; quad++, quad_weights += 64) {
            __m256i even[VECTORS], odd[VECTORS];
            for (int i = 0; i < VECTORS; i++) {
                __m256i vector = _mm256_loadu_si256((const __m256i *)(quad_weights + i * 32));
                even[i] = _mm256_srai_epi16(_mm256_slli_epi16(vector, 8), 8);
                odd[i] = _mm256_srai_epi16(vector, 8);
            }
            for (int pixel = 0; pixel < PIXELS; pixel++) {
                __m256i activations = repeated_quad(input + pixel * block->pixel_step + quad * 4);
                __m256i even_activations = _mm256_and_si256(activations, even_bytes);
                __m256i odd_activations = _mm256_srli_epi16(activations, 8);
                for (int i = 0; i < VECTORS; i++) {
                    sum[pixel][i] = _mm256_add_epi32(sum[pixel][i], _mm256_madd_epi16(even_activations, even[i]));
                    sum[pixel][i] = _mm256_add_epi32(sum[pixel][i], _mm256_madd_epi16(odd_activations, odd[i]));
                }
            }
        }
    }
    for (int pixel = 0; pixel < PIXELS; pixel++)
        for (int i = 0; i < VECTORS; i++)
            _mm256_store_si256((__m256i *)(sums + pixel * 16 + i * 8), sum[pixel][i]);
}

FOR_AVX_VNNI static void four_pixels_avx_vnni(const ea_conv *conv, const ea_block *block, const uint8_t *from, const int8_t *weights, int32_t *sums)
{
    __m256i sum[PIXELS][VECTORS];
    for (int pixel = 0; pixel < PIXELS; pixel++)
        for (int i = 0; i < VECTORS; i++)
            sum[pixel][i] = _mm256_setzero_si256();
    for (int window = block->first_window; window < block->last_window; window++) {
        const uint8_t *input = from + conv->offsets[window];
        const int8_t *quad_weights = weights + (int64_t)window * TILE_BYTES;
        for (int quad = 0; quad < conv->quads[window]; quad++, quad_weights += 64) {
            __m256i vector[VECTORS];
            for (int i = 0; i < VECTORS; i++)
                vector[i] = _mm256_loadu_si256((const __m256i *)(quad_weights + i * 32));
            for (int pixel = 0; pixel < PIXELS; pixel++) {
                __m256i activations = repeated_quad(input + pixel * block->pixel_step + quad * 4);
                for (int i = 0; i < VECTORS; i++)
                    sum[pixel][i] = _mm256_dpbusd_avx_epi32(sum[pixel][i], activations, vector[i]);
            }
        }
    }
    for (int pixel = 0; pixel < PIXELS; pixel++)
        for (int i = 0; i < VECTORS; i++)
            _mm256_store_si256((__m256i *)(sums + pixel * 16 + i * 8), sum[pixel][i]);
}

void ea_products(const ea_conv *conv, const ea_block *block, int tile, int tiles, int32_t *sums, ea_pending *pending,
                 int isa)
{
    four_pixels *compute = isa == EA_AVX_VNNI ? four_pixels_avx_vnni : four_pixels_avx2;
    const int64_t pixel_step = block->pixel_step, tile_gap = block->second_tile - EA_TILE_PIXELS * pixel_step;
    ea_pending_do(pending, pending->vectors);
    for (int i = 0; i < tiles; i++) {
        const int8_t *weights = conv->weights + (int64_t)(tile + i) * conv->windows * TILE_BYTES;
        for (int position = 0; position < block->positions; position += PIXELS) {
            const uint8_t *from = block->from + position * pixel_step + (position < EA_TILE_PIXELS ? 0 : tile_gap);
            compute(conv, block, from, weights, sums + i * (EA_BLOCK_SUMS / 2) + position * 16);
        }
    }
}
