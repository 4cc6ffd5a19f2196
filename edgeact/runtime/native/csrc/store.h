/* What becomes of a block's sums. The work can be done bit by bit between tile products, which use other units. */
#ifndef EDGEACT_STORE_H
#define EDGEACT_STORE_H

#include "engine.h"

#include <immintrin.h>

/* Neighbouring output pixels of one row, and the first of their sums. */
typedef struct {
    int row, pixel, count, sum;
} ea_run_of_pixels;

/* A store as far as it concerns one tile of 16 outputs. */
typedef struct {
    __m512 scale, bias, lowest, lowest_sum, factor[2];
    __mmask16 mask;
    uint8_t *to; /* at the frame's first pixel, as are the summands */
    const uint8_t *added[2];
    int64_t row, pixel, added_row[2], added_pixel[2];
    int sum; /* where its sums begin among those of a block */
    int kind;
} ea_slice;

enum { EA_SLICES = 24 };

/* All stores of one or two tiles in one frame. */
typedef struct {
    ea_slice slices[EA_SLICES];
    int count;
} ea_sliced;

/* The rest of a block's work. */
typedef struct {
    const ea_sliced *sliced;
    const int32_t *sums;
    ea_run_of_pixels runs[EA_POSITIONS];
    int run_count;
    int slice, run, pixel; /* how far it is */
    int left;              /* vectors of up to 16 outputs */
} ea_rest;

/* The stores of tiles [tile, tile + tiles) in frame `time`; a block's sums lie in (tiles, positions, 16). */
void ea_slice_stores(ea_sliced *sliced, const ea_conv *conv, int time, int tile, int tiles, int positions);
/* All of the work on `sums` for the pixels in `runs`, which are set. */
void ea_rest_begin(ea_rest *rest, const ea_sliced *sliced, const int32_t *sums);
/* Do some of it. */
void ea_rest_do(ea_rest *rest, int vectors);

#endif
