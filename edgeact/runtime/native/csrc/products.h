#ifndef EDGEACT_PRODUCTS_H
#define EDGEACT_PRODUCTS_H

#include "epilogue.h"

/* Pixels that are computed together, `pixel_step` bytes apart: 64, or 32 whose second tile begins `second_tile`
 * bytes behind the first one; and the windows that they read, the others hold padding. */
typedef struct {
    const uint8_t *from;
    int64_t pixel_step, second_tile;
    int positions;
    int first_window, last_window;
} ea_block;

/* Dot products of a block with one or two tiles of 16 outputs (32 pixels with two): sums (tiles, pixels, 16).
 * Also completes `pending`, the epilogues of the block before. */
void ea_products(const ea_conv *conv, const ea_block *block, int tile, int tiles, int32_t *sums, ea_pending *pending,
                 int isa);

#endif
