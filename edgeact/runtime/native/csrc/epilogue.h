/* Epilogues of convolutions: scale, bias, ReLU, residuals and quantization of a block's integer sums. They run in
 * small pieces between the dot products of the next block, which use other execution units. */
#ifndef EDGEACT_EPILOGUE_H
#define EDGEACT_EPILOGUE_H

#include "engine.h"

#include "vectors.h"

/* Consecutive output pixels of one row, and the position of their first sums in the block. */
typedef struct {
    int row, pixel, count, position;
} ea_pixel_run;

/* An epilogue restricted to one tile of 16 outputs in one frame. */
typedef struct {
    ea_floats scale, bias, lower_bound, lower_bound_after_sum, factor[2];
    ea_mask mask;
    uint8_t *to; /* first pixel of the frame, as are the summands */
    const uint8_t *summand[2];
    int64_t row_stride, pixel_stride, summand_row_stride[2], summand_pixel_stride[2];
    int sum;     /* first sum of the slice in a pixel of the block */
    int variant; /* accumulate * 16 + summands * 4 + is_float * 2 + is_full_tile */
} ea_tile_epilogue;

enum { EA_TILE_EPILOGUES = 24 };

/* All epilogues of one or two tiles in one frame. */
typedef struct {
    ea_tile_epilogue items[EA_TILE_EPILOGUES];
    int count;
} ea_tile_epilogues;

/* Epilogues of a block that are still to be applied. */
typedef struct {
    const ea_tile_epilogues *epilogues;
    const int32_t *sums;
    ea_pixel_run runs[EA_BLOCK_PIXELS];
    int run_count;
    int item, run, pixel; /* next vector: epilogue, run, pixel of the run */
    int vectors;          /* of up to 16 outputs that are left */
} ea_pending;

/* Restrict the epilogues to tiles [tile, tile + tiles) of frame `time`; a block's sums are (tiles, positions, 16). */
void ea_restrict_epilogues(ea_tile_epilogues *restricted, const ea_conv *conv, int time, int tile, int tiles,
                           int positions);
/* Start the epilogues on `sums` for the pixels in `runs`, which the caller has set. */
void ea_pending_begin(ea_pending *pending, const ea_tile_epilogues *epilogues, const int32_t *sums);
/* Apply the next `vectors` of them. */
void ea_pending_do(ea_pending *pending, int vectors);

#endif
