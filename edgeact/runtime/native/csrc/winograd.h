#ifndef EDGEACT_WINOGRAD_H
#define EDGEACT_WINOGRAD_H

#include "engine.h"

/* Chunks of a convolution in Winograd's form, 0 if it has another one. */
int ea_winograd_chunks(const ea_conv *conv);
void ea_winograd_do(const ea_conv *conv, int chunk, int thread);

#endif
