/* Forms of a convolution's weights that an instruction set reads in place of `weights`. */
#ifndef EDGEACT_PACK_H
#define EDGEACT_PACK_H

#include "engine.h"

/* Groups of quads (groups.h); at most these bytes, -1 without memory. */
int64_t ea_group_bytes(const ea_conv *conv);
int64_t ea_pack_groups(const ea_conv *conv, uint8_t *to);

/* Winograd's form (winograd.c), from int8 (outputs, 3, 3, 3, inputs); whether the shape allows it and it is faster. */
int ea_fits_winograd(const ea_conv *conv, int isa);
int64_t ea_winograd_bytes(const ea_conv *conv);
int64_t ea_pack_winograd(const ea_conv *conv, const int8_t *taps, uint8_t *to);
/* Bytes of scratch memory that a thread needs. */
int64_t ea_winograd_scratch(void);

#endif
