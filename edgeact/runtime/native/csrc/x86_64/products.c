/* Integer dot products of a convolution, by AMX tiles or by AVX-512 VNNI; both read the same packed weights. */
#include "products.h"

#include <cpuid.h>
#include <immintrin.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FOR_AMX __attribute__((target("amx-tile,amx-int8")))
#define FOR_VNNI __attribute__((target("avx512vnni")))

enum { WINDOW_BYTES = 64, TILE_BYTES = 1024 };

int ea_version(void) { return EA_VERSION; }

/* Compiled for plain x86-64: it runs before the instruction sets of the processor are known. */
__attribute__((target("arch=x86-64"))) int ea_instructions(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    enum { OSXSAVE = 1 << 27, AVX512_STATE = 0xe6, TILE_STATE = 0x60000, VNNI = 1 << 11, AMX = 3 << 24 };
    const unsigned avx512 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31; /* F, DQ, CD, BW, VL */
    unsigned eax, ebx, ecx, edx, low, high;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & OSXSAVE))
        return 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
        return 0;
    if ((low & AVX512_STATE) != AVX512_STATE || (ebx & avx512) != avx512 || !(ecx & VNNI))
        return 0;
    if ((low & TILE_STATE) == TILE_STATE && (edx & AMX) == AMX &&
        syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0)
        return EA_AMX;
    return EA_VNNI;
}

FOR_AMX void ea_tiles_begin(void)
{
    struct { uint8_t palette, start_row, reserved[14]; uint16_t bytes[16]; uint8_t rows[16]; } config;
    memset(&config, 0, sizeof config);
    config.palette = 1;
    for (int tile = 0; tile < 8; tile++) {
        config.bytes[tile] = 64;
        config.rows[tile] = 16;
    }
    _tile_loadconfig(&config);
}

FOR_AMX void ea_tiles_end(void) { _tile_release(); }

/* 2 tiles of pixels by 2 tiles of outputs: 4 loads for 4 products. */
FOR_AMX static void two_by_two(const ea_conv *conv, const ea_block *block, const int8_t *weights, int32_t *sums,
                               ea_pending *pending)
{
    const int64_t pixel_step = block->pixel_step, second_tile = block->second_tile;
    const int8_t *second_weights = weights + (int64_t)conv->windows * TILE_BYTES;
    int vectors_per_window = (pending->vectors + conv->windows - 1) / conv->windows;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int window = 0; window < conv->windows; window++) {
        const uint8_t *input = block->from + conv->offsets[window];
        _tile_loadd(6, weights, WINDOW_BYTES);
        _tile_loadd(4, input, pixel_step);
        _tile_dpbusd(0, 4, 6);
        _tile_loadd(5, input + second_tile, pixel_step);
        _tile_dpbusd(1, 5, 6);
        _tile_loadd(7, second_weights, WINDOW_BYTES);
        _tile_dpbusd(2, 4, 7);
        _tile_dpbusd(3, 5, 7);
        weights += TILE_BYTES;
        second_weights += TILE_BYTES;
        ea_pending_do(pending, vectors_per_window);
    }
    _tile_stored(0, sums, WINDOW_BYTES);
    _tile_stored(1, sums + 16 * 16, WINDOW_BYTES);
    _tile_stored(2, sums + 32 * 16, WINDOW_BYTES);
    _tile_stored(3, sums + 48 * 16, WINDOW_BYTES);
}

/* Up to 4 tiles of pixels by 1 tile of outputs: 5 loads for 4 products. */
FOR_AMX static void four_by_one(const ea_conv *conv, const ea_block *block, const int8_t *weights, int32_t *sums,
                                ea_pending *pending)
{
    const int64_t pixel_step = block->pixel_step, second_tile = block->second_tile;
    int vectors_per_window = (pending->vectors + conv->windows - 1) / conv->windows;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int window = 0; window < conv->windows; window++) {
        const uint8_t *input = block->from + conv->offsets[window];
        _tile_loadd(6, weights, WINDOW_BYTES);
        _tile_loadd(4, input, pixel_step);
        _tile_dpbusd(0, 4, 6);
        _tile_loadd(5, input + second_tile, pixel_step);
        _tile_dpbusd(1, 5, 6);
        if (block->positions > 32) {
            _tile_loadd(4, input + 32 * pixel_step, pixel_step);
            _tile_dpbusd(2, 4, 6);
            _tile_loadd(5, input + 48 * pixel_step, pixel_step);
            _tile_dpbusd(3, 5, 6);
        }
        weights += TILE_BYTES;
        ea_pending_do(pending, vectors_per_window);
    }
    _tile_stored(0, sums, WINDOW_BYTES);
    _tile_stored(1, sums + 16 * 16, WINDOW_BYTES);
    if (block->positions > 32) {
        _tile_stored(2, sums + 32 * 16, WINDOW_BYTES);
        _tile_stored(3, sums + 48 * 16, WINDOW_BYTES);
    }
}

static void products_amx(const ea_conv *conv, const ea_block *block, int tile, int tiles, int32_t *sums,
                         ea_pending *pending)
{
    const int8_t *weights = conv->weights + (int64_t)tile * conv->windows * TILE_BYTES;
    if (tiles == 2)
        two_by_two(conv, block, weights, sums, pending);
    else
        four_by_one(conv, block, weights, sums, pending);
}

/* 8 pixels by `tiles` tiles of 16 outputs; always inlined, with a constant for `tiles`. */
FOR_VNNI static inline __attribute__((always_inline)) void
eight_pixels(const ea_conv *conv, const uint8_t *from, int64_t pixel_step, const int8_t *weights, const int tiles,
             int32_t *sums)
{
    __m512i sum[2][8];
    for (int tile = 0; tile < tiles; tile++)
        for (int pixel = 0; pixel < 8; pixel++)
            sum[tile][pixel] = _mm512_setzero_si512();
    for (int window = 0; window < conv->windows; window++) {
        const uint8_t *input = from + conv->offsets[window];
        const int8_t *window_weights = weights + (int64_t)window * TILE_BYTES;
        for (int quad = 0; quad < conv->quads[window]; quad++) {
            __m512i quad_weights[2];
            for (int tile = 0; tile < tiles; tile++)
                quad_weights[tile] =
                    _mm512_loadu_si512(window_weights + tile * (int64_t)conv->windows * TILE_BYTES + quad * 64);
            for (int pixel = 0; pixel < 8; pixel++) {
                int32_t quad_input;
                memcpy(&quad_input, input + pixel * pixel_step + quad * 4, 4);
                for (int tile = 0; tile < tiles; tile++)
                    sum[tile][pixel] =
                        _mm512_dpbusd_epi32(sum[tile][pixel], _mm512_set1_epi32(quad_input), quad_weights[tile]);
            }
        }
    }
    for (int tile = 0; tile < tiles; tile++)
        for (int pixel = 0; pixel < 8; pixel++)
            _mm512_store_si512(sums + tile * (EA_BLOCK_SUMS / 2) + pixel * 16, sum[tile][pixel]);
}

FOR_VNNI static void eight_by_two(const ea_conv *conv, const uint8_t *from, int64_t pixel_step, const int8_t *weights,
                                  int32_t *sums)
{
    eight_pixels(conv, from, pixel_step, weights, 2, sums);
}

FOR_VNNI static void eight_by_one(const ea_conv *conv, const uint8_t *from, int64_t pixel_step, const int8_t *weights,
                                  int32_t *sums)
{
    eight_pixels(conv, from, pixel_step, weights, 1, sums);
}

static void products_vnni(const ea_conv *conv, const ea_block *block, int tile, int tiles, int32_t *sums,
                          ea_pending *pending)
{
    const int8_t *weights = conv->weights + (int64_t)tile * conv->windows * TILE_BYTES;
    const int64_t pixel_step = block->pixel_step, tile_gap = block->second_tile - EA_TILE_PIXELS * pixel_step;
    ea_pending_do(pending, pending->vectors);
    for (int position = 0; position < block->positions; position += 8) {
        const uint8_t *from = block->from + position * pixel_step + (position < EA_TILE_PIXELS ? 0 : tile_gap);
        if (tiles == 2)
            eight_by_two(conv, from, pixel_step, weights, sums + position * 16);
        else
            eight_by_one(conv, from, pixel_step, weights, sums + position * 16);
    }
}

void ea_products(const ea_conv *conv, const ea_block *block, int tile, int tiles, int32_t *sums, ea_pending *pending,
                 int isa)
{
    if (isa == EA_AMX)
        products_amx(conv, block, tile, tiles, sums, pending);
    else
        products_vnni(conv, block, tile, tiles, sums, pending);
}
