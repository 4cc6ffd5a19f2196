#ifndef EDGEACT_PRODUCTS_AVX512_H
#define EDGEACT_PRODUCTS_AVX512_H

#include "products.h"

/* `ea_products` by AMX tiles, which have epilogues by AVX-512. */
void ea_products_amx(const ea_conv *conv, const ea_block *block, int tile, int tiles, int32_t *sums,
                     ea_pending *pending);

#endif
