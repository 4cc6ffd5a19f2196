#ifndef EDGEACT_PRODUCTS_H
#define EDGEACT_PRODUCTS_H

#include "store.h"

/* Pixels computed together, `step` bytes apart: 64, or 32, of which the second half begins `second` bytes behind the first. */
typedef struct {
    const uint8_t *from;
    int64_t step, second;
    int positions;
} ea_block;

/* A block by one or two tiles of 16 outputs (32 pixels for two): sums (tiles, pixels, 16). Does `rest`, the work on other
 * sums, to its end. */
void ea_products_amx(const ea_conv *conv, const ea_block *block, int tile, int tiles, int32_t *sums, ea_rest *rest);
void ea_products_vnni(const ea_conv *conv, const ea_block *block, int tile, int tiles, int32_t *sums, ea_rest *rest);

#endif
