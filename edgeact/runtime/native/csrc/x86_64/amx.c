/* Integer dot products of a convolution by AMX tiles. */
#include "avx512.h"

#include "engine.h"

EA_AVX512_BEGIN
#include "products_avx512.h"
EA_AVX512_END

#define FOR_AMX __attribute__((target("amx-tile,amx-int8")))

enum { WINDOW_BYTES = 64, TILE_BYTES = 1024 };

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
    int windows = block->last_window - block->first_window;
    int vectors_per_window = windows ? (pending->vectors + windows - 1) / windows : 0;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int window = block->first_window; window < block->last_window; window++) {
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
    int windows = block->last_window - block->first_window;
    int vectors_per_window = windows ? (pending->vectors + windows - 1) / windows : 0;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int window = block->first_window; window < block->last_window; window++) {
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

void ea_products_amx(const ea_conv *conv, const ea_block *block, int tile, int tiles, int32_t *sums,
                         ea_pending *pending)
{
    const int8_t *weights = conv->weights + ((int64_t)tile * conv->windows + block->first_window) * TILE_BYTES;
    if (tiles == 2)
        two_by_two(conv, block, weights, sums, pending);
    else
        four_by_one(conv, block, weights, sums, pending);
    ea_pending_do(pending, pending->vectors); /* left if no window is read */
}
