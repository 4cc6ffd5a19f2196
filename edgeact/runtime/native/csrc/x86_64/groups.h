/* Weights of a convolution in the form that AVX2 reads.
 *
 * `vpmaddubsw` adds two products of uint8 by int8 in 16 bits, saturating: 32 products in one instruction. It is exact if
 * weights of one sign add up to 128 at most, because 255 * 128 = 32640. Pairs beyond that have a different form:
 * - Complement: with y = 255 - x for every second activation, w * x = 255 * w - w * y. Weights of one sign become weights
 *   of different signs, which are exact.
 * - Quads that have such pairs in both forms become two quads, whose weights add up to the original ones.
 *
 * Results of several quads, a group, are added in 16 bits before `vpmaddwd` widens them. If the magnitudes of their
 * weights add up to 257 at most, the sum has 255 * 257 + 1 = 65536 values, from -255 * (sum of negative weights). A first
 * summand moves these to -32768..32767, so the sum is exact, although an intermediate one may wrap around. What it adds is
 * constant, as are the 255 * w, and subtracted before the first group. */
#ifndef EDGEACT_GROUPS_H
#define EDGEACT_GROUPS_H

#include "engine.h"

enum { EA_GROUP_OUTPUTS = 8, EA_GROUP_MEMBERS = 4, EA_GROUP_VECTOR = 32 };

/* Groups for 8 outputs: vectors of 32 bytes behind this structure, then the offset of each member as int32. A group is its
 * first summands (8 outputs, 2 of int16) and the weights of its members (8 outputs, 4 of int8). */
typedef struct {
    int32_t groups[2][EA_GROUP_MEMBERS]; /* plain and complement; of 4, 3, 2 and 1 members, in this order */
    int32_t vectors;
    int32_t unused[7];
    int32_t first_sums[EA_GROUP_OUTPUTS];
} ea_groups;

/* The groups for outputs [8 * half, 8 * half + 8) in frame `time`. */
const ea_groups *ea_find_groups(const ea_conv *conv, int time, int half);

#endif
