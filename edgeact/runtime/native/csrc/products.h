#ifndef EDGEACT_PRODUCTS_H
#define EDGEACT_PRODUCTS_H

#include "epilogue.h"

/* Pixels that are computed together, `pixel_step` bytes apart: 64, or 32 whose second tile begins `second_tile`
 * bytes behind the first one. Of each `row` positions only the first `used` are pixels of the output. `time` is the frame
 * of the output, which reads the windows [first_window, last_window), and their quads: the others hold padding. */
typedef struct {
    const uint8_t *from;
    int64_t pixel_step, second_tile;
    int positions, row, used;
    int time, first_window, last_window;
    const ea_quad *first_quad, *last_quad;
} ea_block;

/* Whether a position or one behind it in its row is a pixel of the output. */
EA_INLINE int ea_is_used(const ea_block *block, int position) { return position % block->row < block->used; }

/* The first input value of a position. */
EA_INLINE const uint8_t *ea_position(const ea_block *block, int position)
{
    int64_t second = position < EA_TILE_PIXELS ? 0 : block->second_tile - EA_TILE_PIXELS * block->pixel_step;
    return block->from + position * block->pixel_step + second;
}

/* Dot products of a block with one or two tiles of 16 outputs (32 pixels with two): sums (tiles, pixels, 16).
 * Also completes `pending`, the epilogues of the block before. */
void ea_products(const ea_conv *conv, const ea_block *block, int tile, int tiles, int32_t *sums, ea_pending *pending,
                 int isa);

#endif
