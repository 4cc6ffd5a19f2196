/* Integer products of a convolution, by AMX tiles or by AVX-512 VNNI; both read the same packed weights. */
#include "products.h"

#include <cpuid.h>
#include <immintrin.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FOR_AMX __attribute__((target("amx-tile,amx-int8")))
#define FOR_VNNI __attribute__((target("avx512vnni")))

enum { WINDOW = 64, TILE_BYTES = 1024 };

int ea_version(void) { return EA_VERSION; }

/* Plain integer code: it runs before anybody knows what the processor has. */
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

/* Four tiles of sums: 4 loads for 4 products. */
FOR_AMX static void square(const ea_conv *conv, const ea_block *block, const int8_t *weights, int32_t *sums, ea_rest *rest)
{
    const int64_t step = block->step, behind = block->second;
    const int8_t *second = weights + (int64_t)conv->windows * TILE_BYTES;
    int between = (rest->left + conv->windows - 1) / conv->windows;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int window = 0; window < conv->windows; window++) {
        const uint8_t *a = block->from + conv->offsets[window];
        _tile_loadd(6, weights, WINDOW);
        _tile_loadd(4, a, step);
        _tile_dpbusd(0, 4, 6);
        _tile_loadd(5, a + behind, step);
        _tile_dpbusd(1, 5, 6);
        _tile_loadd(7, second, WINDOW);
        _tile_dpbusd(2, 4, 7);
        _tile_dpbusd(3, 5, 7);
        weights += TILE_BYTES;
        second += TILE_BYTES;
        ea_rest_do(rest, between);
    }
    _tile_stored(0, sums, WINDOW);
    _tile_stored(1, sums + 16 * 16, WINDOW);
    _tile_stored(2, sums + 32 * 16, WINDOW);
    _tile_stored(3, sums + 48 * 16, WINDOW);
}

/* Up to four tiles of sums of the same 16 outputs: 5 loads for 4 products. */
FOR_AMX static void column(const ea_conv *conv, const ea_block *block, const int8_t *weights, int32_t *sums, ea_rest *rest)
{
    const int64_t step = block->step, behind = block->second;
    int between = (rest->left + conv->windows - 1) / conv->windows;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int window = 0; window < conv->windows; window++) {
        const uint8_t *a = block->from + conv->offsets[window];
        _tile_loadd(6, weights, WINDOW);
        _tile_loadd(4, a, step);
        _tile_dpbusd(0, 4, 6);
        _tile_loadd(5, a + behind, step);
        _tile_dpbusd(1, 5, 6);
        if (block->positions > 32) {
            _tile_loadd(4, a + 32 * step, step);
            _tile_dpbusd(2, 4, 6);
            _tile_loadd(5, a + 48 * step, step);
            _tile_dpbusd(3, 5, 6);
        }
        weights += TILE_BYTES;
        ea_rest_do(rest, between);
    }
    _tile_stored(0, sums, WINDOW);
    _tile_stored(1, sums + 16 * 16, WINDOW);
    if (block->positions > 32) {
        _tile_stored(2, sums + 32 * 16, WINDOW);
        _tile_stored(3, sums + 48 * 16, WINDOW);
    }
}

FOR_AMX void ea_products_amx(const ea_conv *conv, const ea_block *block, int tile, int tiles, int32_t *sums, ea_rest *rest)
{
    const int8_t *weights = conv->weights + (int64_t)tile * conv->windows * TILE_BYTES;
    if (tiles == 2)
        square(conv, block, weights, sums, rest);
    else
        column(conv, block, weights, sums, rest);
}

/* 8 pixels by 16 outputs times `tiles`, inlined with a constant. */
FOR_VNNI static inline __attribute__((always_inline)) void eight(const ea_conv *conv, const uint8_t *from, int64_t step,
                                                               const int8_t *weights, const int tiles, int32_t *sums)
{
    __m512i sum[2][8];
    for (int tile = 0; tile < tiles; tile++)
        for (int pixel = 0; pixel < 8; pixel++)
            sum[tile][pixel] = _mm512_setzero_si512();
    for (int window = 0; window < conv->windows; window++) {
        const uint8_t *a = from + conv->offsets[window];
        const int8_t *b = weights + (int64_t)window * TILE_BYTES;
        for (int quad = 0; quad < conv->quads[window]; quad++) {
            __m512i w[2];
            for (int tile = 0; tile < tiles; tile++)
                w[tile] = _mm512_loadu_si512(b + tile * (int64_t)conv->windows * TILE_BYTES + quad * 64);
            for (int pixel = 0; pixel < 8; pixel++) {
                int32_t group;
                memcpy(&group, a + pixel * step + quad * 4, 4);
                for (int tile = 0; tile < tiles; tile++)
                    sum[tile][pixel] = _mm512_dpbusd_epi32(sum[tile][pixel], _mm512_set1_epi32(group), w[tile]);
            }
        }
    }
    for (int tile = 0; tile < tiles; tile++)
        for (int pixel = 0; pixel < 8; pixel++)
            _mm512_store_si512(sums + tile * (EA_SUMS / 2) + pixel * 16, sum[tile][pixel]);
}

FOR_VNNI static void eight_by_two(const ea_conv *conv, const uint8_t *from, int64_t step, const int8_t *weights,
                                  int32_t *sums)
{
    eight(conv, from, step, weights, 2, sums);
}

FOR_VNNI static void eight_by_one(const ea_conv *conv, const uint8_t *from, int64_t step, const int8_t *weights,
                                  int32_t *sums)
{
    eight(conv, from, step, weights, 1, sums);
}

void ea_products_vnni(const ea_conv *conv, const ea_block *block, int tile, int tiles, int32_t *sums, ea_rest *rest)
{
    const int8_t *weights = conv->weights + (int64_t)tile * conv->windows * TILE_BYTES;
    const int64_t step = block->step, behind = block->second - EA_HALF * step;
    ea_rest_do(rest, rest->left);
    for (int done = 0; done < block->positions; done += 8) {
        const uint8_t *from = block->from + done * step + (done < EA_HALF ? 0 : behind);
        if (tiles == 2)
            eight_by_two(conv, from, step, weights, sums + done * 16);
        else
            eight_by_one(conv, from, step, weights, sums + done * 16);
    }
}
