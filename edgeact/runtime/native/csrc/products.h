#ifndef EDGEACT_PRODUCTS_H
#define EDGEACT_PRODUCTS_H

#include "store.h"

/* 64 or 32 pixels (32 for two tiles), `step` bytes apart, by tiles of 16 outputs: sums (tiles, pixels, 16). Does `rest`,
 * the work on other sums, to its end. */
void ea_products_amx(const ea_conv *conv, const uint8_t *from, int64_t step, int tile, int tiles, int positions,
                     int32_t *sums, ea_rest *rest);
void ea_products_vnni(const ea_conv *conv, const uint8_t *from, int64_t step, int tile, int tiles, int positions,
                      int32_t *sums, ea_rest *rest);

#endif
