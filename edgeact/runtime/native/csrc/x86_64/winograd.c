#include "winograd.h"

#include "epilogue.h"
#include "winograd_form.h"

#include <immintrin.h>
#include <string.h>

/* One strip of a convolution. */
typedef struct {
    const ea_conv *conv;
    ea_winograd_memory *memory;
    int time, row, pixel; /* of the first output */
    int tiles;
    int channels; /* of the inputs, rounded up to 16 */
} strip;

static int strips_of_row(const ea_conv *conv)
{
    return (conv->out_size[2] / 2 + EA_STRIP_TILES - 1) / EA_STRIP_TILES;
}

int ea_winograd_chunks(const ea_conv *conv)
{
    if (conv->form != EA_FORM_WINOGRAD)
        return 0;
    return conv->out_size[0] / 2 * (conv->out_size[1] / 2) * strips_of_row(conv);
}

EA_INLINE void transform_activations(__m256i *d, int step)
{
    __m256i first = _mm256_sub_epi16(d[0], d[2 * step]), second = _mm256_add_epi16(d[step], d[2 * step]);
    __m256i third = _mm256_sub_epi16(d[2 * step], d[step]), fourth = _mm256_sub_epi16(d[step], d[3 * step]);
    d[0] = first;
    d[step] = second;
    d[2 * step] = third;
    d[3 * step] = fourth;
}

/* Transform 16 channels of the strip's columns in time and height. */
static void transform_columns(const strip *s, int channel)
{
    const ea_buffer *from = s->conv->from;
    const int *padding = s->conv->padding;
    const uint8_t *column = from->data + (s->time - padding[0]) * from->time_stride +
                            (s->row - padding[1]) * from->row_stride + (s->pixel - padding[2]) * from->pixel_stride +
                            s->conv->channel + channel;
    for (int index = 0; index < 2 * s->tiles + 2; index++, column += from->pixel_stride) {
        __m256i d[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            const uint8_t *pixel = column + i / 4 * from->time_stride + i % 4 * from->row_stride;
            d[i] = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)pixel));
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            transform_activations(d + i, 4);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            transform_activations(d + i * 4, 1);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            _mm256_store_si256((__m256i *)s->memory->columns[index][i], d[i]);
    }
}

/* Transform the columns in width. */
static void transform_strip(const strip *s, int channel)
{
    for (int tile = 0; tile < s->tiles; tile++)
        for (int point = 0; point < 16; point++) {
            __m256i d[4];
            for (int i = 0; i < 4; i++)
                d[i] = _mm256_load_si256((const __m256i *)s->memory->columns[2 * tile + i][point]);
            transform_activations(d, 1);
            for (int i = 0; i < 4; i++) {
                int64_t to = ((int64_t)(point * 4 + i) * s->tiles + tile) * s->channels + channel;
                _mm256_store_si256((__m256i *)(s->memory->activations + to), d[i]);
            }
        }
}

EA_INLINE int32_t channel_pair(const int16_t *from)
{
    int32_t pair;
    memcpy(&pair, from, 4);
    return pair;
}

EA_INLINE __m256i load_sums(const void *from) { return _mm256_loadu_si256(from); }
EA_INLINE void store_sums(void *to, __m256i value) { _mm256_storeu_si256(to, value); }

/* Multiply `tiles` tiles, a constant, by the weights of 16 outputs at one point. */
EA_INLINE void multiply_tiles(const strip *s, const int16_t *activations, const int16_t *weights, const int tiles,
                              int32_t (*to)[16])
{
    __m256i sum[EA_PRODUCT_TILES][2];
    int pairs = (s->conv->inputs + 1) / 2;
#pragma GCC unroll 6
    for (int tile = 0; tile < tiles; tile++)
        for (int i = 0; i < 2; i++)
            sum[tile][i] = _mm256_setzero_si256();
    for (int pair = 0; pair < pairs; pair++) {
        __m256i vector[2];
        for (int i = 0; i < 2; i++)
            vector[i] = load_sums(weights + pair * 32 + i * 16);
#pragma GCC unroll 6
        for (int tile = 0; tile < tiles; tile++) {
            __m256i both = _mm256_set1_epi32(channel_pair(activations + (int64_t)tile * s->channels + pair * 2));
            for (int i = 0; i < 2; i++)
                sum[tile][i] = _mm256_add_epi32(sum[tile][i], _mm256_madd_epi16(both, vector[i]));
        }
    }
#pragma GCC unroll 6
    for (int tile = 0; tile < tiles; tile++)
        for (int i = 0; i < 2; i++)
            store_sums(to[tile] + i * 8, sum[tile][i]);
}

#define TILES(N) case N: multiply_tiles(s, activations, weights, N, to); break

static void multiply(const strip *s, const int16_t *activations, const int16_t *weights, int tiles, int32_t (*to)[16])
{
    switch (tiles) {
    TILES(1);
    TILES(2);
    TILES(3);
    TILES(4);
    TILES(5);
    default: multiply_tiles(s, activations, weights, EA_PRODUCT_TILES, to); break;
    }
}

/* 4 products to 2 outputs, times 2. */
EA_INLINE void transform_products(const __m256i *m, __m256i *first, __m256i *second)
{
    *first = _mm256_add_epi32(_mm256_add_epi32(m[0], m[1]), m[2]);
    *second = _mm256_sub_epi32(_mm256_sub_epi32(m[1], m[2]), m[3]);
}

/* Transform the products of a tile from `output` on in height and width, at one point in time. */
EA_INLINE void transform_plane(const ea_winograd_memory *memory, int time, int tile, int output, __m256i plane[2][2])
{
    __m256i row[2][4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m256i m[4];
        for (int k = 0; k < 4; k++)
            m[k] = load_sums(&memory->products[time * 16 + i * 4 + k][tile][output]);
        transform_products(m, &row[0][i], &row[1][i]);
    }
    for (int pixel = 0; pixel < 2; pixel++)
        transform_products(row[pixel], &plane[0][pixel], &plane[1][pixel]);
}

/* Transform the products of a tile with 8 outputs to their sums. */
static void transform_tile(ea_winograd_memory *memory, int tile, int output, int pixel)
{
    __m256i plane[4][2][2];
#pragma GCC unroll 4
    for (int time = 0; time < 4; time++)
        transform_plane(memory, time, tile, output, plane[time]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        int row = i / 2, column = i % 2;
        __m256i m[4] = {plane[0][row][column], plane[1][row][column], plane[2][row][column], plane[3][row][column]};
        __m256i first, second;
        transform_products(m, &first, &second);
        store_sums(&memory->sums[0][row][pixel + column][output], _mm256_srai_epi32(first, 3));
        store_sums(&memory->sums[1][row][pixel + column][output], _mm256_srai_epi32(second, 3));
    }
}

/* Compute the sums of a strip for 16 outputs, a few tiles at a time, so that their products stay in the L1 cache. */
static void multiply_strip(const strip *s, const int16_t *weights)
{
    int pairs = (s->conv->inputs + 1) / 2;
    for (int first = 0; first < s->tiles; first += EA_PRODUCT_TILES) {
        int tiles = s->tiles - first < EA_PRODUCT_TILES ? s->tiles - first : EA_PRODUCT_TILES;
        for (int point = 0; point < EA_WINOGRAD_POINTS; point++)
            multiply(s, s->memory->activations + ((int64_t)point * s->tiles + first) * s->channels,
                     weights + (int64_t)point * pairs * 32, tiles, s->memory->products[point]);
        for (int tile = 0; tile < tiles; tile++)
            for (int output = 0; output < 16; output += 8)
                transform_tile(s->memory, tile, output, (first + tile) * 2);
    }
}

/* Apply the epilogues of a tile of 16 outputs. */
static void finish(const strip *s, int output_tile)
{
    ea_tile_epilogues epilogues;
    ea_pending pending;
    for (int frame = 0; frame < 2; frame++) {
        ea_restrict_epilogues(&epilogues, s->conv, s->time + frame, output_tile, 1, EA_BLOCK_PIXELS);
        for (int row = 0; row < 2; row++) {
            pending.runs[0] = (ea_pixel_run){s->row + row, s->pixel, 2 * s->tiles, 0};
            pending.run_count = 1;
            ea_pending_begin(&pending, &epilogues, s->memory->sums[frame][row][0]);
            ea_pending_do(&pending, pending.vectors);
        }
    }
}

void ea_winograd_do(const ea_conv *conv, int chunk, int thread)
{
    int strips = strips_of_row(conv), rows = conv->out_size[1] / 2, tiles = conv->out_size[2] / 2;
    int first = chunk % strips * EA_STRIP_TILES;
    strip s = {
        .conv = conv,
        .memory = (ea_winograd_memory *)(conv->scratch + thread * conv->scratch_bytes),
        .time = chunk / strips / rows * 2,
        .row = chunk / strips % rows * 2,
        .pixel = first * 2,
        .tiles = tiles - first < EA_STRIP_TILES ? tiles - first : EA_STRIP_TILES,
        .channels = (conv->inputs + 15) / 16 * 16,
    };
    for (int channel = 0; channel < s.channels; channel += 16) {
        transform_columns(&s, channel);
        transform_strip(&s, channel);
    }
    const int16_t *weights = (const int16_t *)conv->packed;
    for (int tile = 0; tile < conv->tiles; tile++) {
        multiply_strip(&s, weights);
        weights += EA_WINOGRAD_POINTS * ((conv->inputs + 1) / 2) * 32;
        finish(&s, tile);
    }
}
