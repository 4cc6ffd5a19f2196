/* Integer dot products of a convolution by AVX2, on weights in groups (groups.h), or by AVX-VNNI. */
#include "groups.h"
#include "products.h"

#include <immintrin.h>
#include <string.h>

#define FOR_AVX_VNNI __attribute__((target("avxvnni")))

enum { TILE_BYTES = 1024, PIXELS = 8 };

EA_INLINE __m256i repeated_quad(const uint8_t *from)
{
    int32_t quad;
    memcpy(&quad, from, 4);
    return _mm256_set1_epi32(quad);
}

typedef struct {
    const uint8_t *vectors;
    const int32_t *offsets;
} group_position;

/* Add `count` groups of `members` quads to 8 sums of 8 pixels; `members` and `is_complement` are constants. */
EA_INLINE group_position add_groups(group_position at, int count, const int members, const int is_complement,
                                    const uint8_t *from, int64_t pixel_step, __m256i sum[PIXELS])
{
    const __m256i ones = _mm256_set1_epi16(1), every_second = _mm256_set1_epi16((short)0xff00);
    for (; count > 0; count--) {
        const __m256i *vectors = (const __m256i *)at.vectors;
#pragma GCC unroll 8 /* else the sums are in memory */
        for (int pixel = 0; pixel < PIXELS; pixel++) {
            __m256i narrow = _mm256_loadu_si256(vectors);
            for (int i = 0; i < members; i++) {
                __m256i activations = repeated_quad(from + at.offsets[i] + pixel * pixel_step);
                if (is_complement)
                    activations = _mm256_xor_si256(activations, every_second);
                __m256i products = _mm256_maddubs_epi16(activations, _mm256_loadu_si256(vectors + 1 + i));
                narrow = _mm256_add_epi16(narrow, products);
            }
            sum[pixel] = _mm256_add_epi32(sum[pixel], _mm256_madd_epi16(narrow, ones));
        }
        at.vectors += (1 + members) * EA_GROUP_VECTOR;
        at.offsets += members;
    }
    return at;
}

static void eight_pixels_avx2(const ea_groups *groups, const uint8_t *from, int64_t pixel_step, int32_t *sums)
{
    const uint8_t *vectors = (const uint8_t *)(groups + 1);
    group_position at = {vectors, (const int32_t *)(vectors + (int64_t)groups->vectors * EA_GROUP_VECTOR)};
    __m256i sum[PIXELS];
    for (int pixel = 0; pixel < PIXELS; pixel++)
        sum[pixel] = _mm256_loadu_si256((const __m256i *)groups->first_sums);
    at = add_groups(at, groups->groups[0][0], 4, 0, from, pixel_step, sum);
    at = add_groups(at, groups->groups[0][1], 3, 0, from, pixel_step, sum);
    at = add_groups(at, groups->groups[0][2], 2, 0, from, pixel_step, sum);
    at = add_groups(at, groups->groups[0][3], 1, 0, from, pixel_step, sum);
    at = add_groups(at, groups->groups[1][0], 4, 1, from, pixel_step, sum);
    at = add_groups(at, groups->groups[1][1], 3, 1, from, pixel_step, sum);
    at = add_groups(at, groups->groups[1][2], 2, 1, from, pixel_step, sum);
    add_groups(at, groups->groups[1][3], 1, 1, from, pixel_step, sum);
    for (int pixel = 0; pixel < PIXELS; pixel++)
        _mm256_store_si256((__m256i *)(sums + pixel * 16), sum[pixel]);
}

/* 4 pixels by 16 outputs. */
FOR_AVX_VNNI static void four_pixels_avx_vnni(const ea_block *block, const uint8_t *from, const int8_t *weights,
                                              int32_t *sums)
{
    __m256i sum[4][2];
    for (int pixel = 0; pixel < 4; pixel++)
        sum[pixel][0] = sum[pixel][1] = _mm256_setzero_si256();
    for (const ea_quad *quad = block->first_quad; quad < block->last_quad; quad++) {
        __m256i low = _mm256_loadu_si256((const __m256i *)(weights + quad->weights));
        __m256i high = _mm256_loadu_si256((const __m256i *)(weights + quad->weights + 32));
        for (int pixel = 0; pixel < 4; pixel++) {
            __m256i activations = repeated_quad(from + quad->input + pixel * block->pixel_step);
            sum[pixel][0] = _mm256_dpbusd_avx_epi32(sum[pixel][0], activations, low);
            sum[pixel][1] = _mm256_dpbusd_avx_epi32(sum[pixel][1], activations, high);
        }
    }
    for (int pixel = 0; pixel < 4; pixel++)
        for (int i = 0; i < 2; i++)
            _mm256_store_si256((__m256i *)(sums + pixel * 16 + i * 8), sum[pixel][i]);
}

/* One half of a tile after the other: the groups of a half fit into the L1 cache with the activations. */
static void products_avx2(const ea_conv *conv, const ea_block *block, int tile, int32_t *sums)
{
    for (int half = 0; half < 2 && tile * 16 + half * EA_GROUP_OUTPUTS < conv->outputs; half++) {
        const ea_groups *groups = ea_find_groups(conv, block->time, tile * 2 + half);
        for (int position = 0; position < block->positions; position += PIXELS)
            if (ea_is_used(block, position))
                eight_pixels_avx2(groups, ea_position(block, position), block->pixel_step,
                                  sums + position * 16 + half * EA_GROUP_OUTPUTS);
    }
}

FOR_AVX_VNNI static void products_avx_vnni(const ea_conv *conv, const ea_block *block, int tile, int32_t *sums)
{
    const int8_t *weights = conv->weights + (int64_t)tile * conv->windows * TILE_BYTES;
    for (int position = 0; position < block->positions; position += 4)
        if (ea_is_used(block, position))
            four_pixels_avx_vnni(block, ea_position(block, position), weights, sums + position * 16);
}

void ea_products(const ea_conv *conv, const ea_block *block, int tile, int tiles, int32_t *sums, ea_pending *pending,
                 int isa)
{
    ea_pending_do(pending, pending->vectors);
    for (int i = 0; i < tiles; i++)
        if (isa == EA_AVX2)
            products_avx2(conv, block, tile + i, sums + i * (EA_BLOCK_SUMS / 2));
        else
            products_avx_vnni(conv, block, tile + i, sums + i * (EA_BLOCK_SUMS / 2));
}
