/* Weights of a convolution in Winograd's form. */
#include "pack.h"
#include "winograd_form.h"

#include <string.h>

/* Whether most weights are not 0. The other forms skip zeros, which grouped and depthwise convolutions consist of; the
 * transformed weights of a kernel with any weight are not 0. */
static int is_dense(const ea_conv *conv)
{
    int64_t bytes = (int64_t)conv->tiles * conv->windows * 1024, weights = 0;
    for (int64_t i = 0; i < bytes; i++)
        weights += conv->weights[i] != 0;
    return 2 * weights > (int64_t)27 * conv->inputs * conv->outputs;
}

/* Where it was measured to be faster: its products are of int16, so `vpdpbusd` of 512 bits and AMX do better without it;
 * with few channels or narrow rows the transforms take longer than they save; and large weights leave the cache. */
int ea_fits_winograd(const ea_conv *conv, int isa)
{
    enum { MIN_CHANNELS = 16, MIN_CHANNELS_VNNI = 24, MIN_WIDTH = 20, MOST_BYTES = 4 << 20 };
    if (isa != EA_AVX2 && isa != EA_AVX_VNNI)
        return 0;
    for (int axis = 0; axis < 3; axis++)
        if (conv->kernel[axis] != 3 || conv->stride[axis] != 1 || conv->out_size[axis] % 2)
            return 0;
    int least = isa == EA_AVX2 ? MIN_CHANNELS : MIN_CHANNELS_VNNI;
    return conv->inputs >= least && conv->inputs <= EA_STRIP_CHANNELS && conv->outputs >= least &&
           conv->out_size[2] >= MIN_WIDTH && ea_winograd_bytes(conv) <= MOST_BYTES && is_dense(conv);
}

static int pairs(const ea_conv *conv) { return (conv->inputs + 1) / 2; }

int64_t ea_winograd_bytes(const ea_conv *conv)
{
    return (int64_t)conv->tiles * EA_WINOGRAD_POINTS * pairs(conv) * 32 * sizeof(int16_t);
}

/* 3 taps to 4, times 2, `step` apart. */
static void transform_taps(const int *from, int from_step, int *to, int to_step)
{
    int first = from[0], second = from[from_step], third = from[2 * from_step];
    to[0] = 2 * first;
    to[to_step] = first + second + third;
    to[2 * to_step] = first - second + third;
    to[3 * to_step] = 2 * third;
}

/* 27 taps to 64, times 8. */
static void transform_kernel(const int8_t *taps, int inputs, int to[EA_WINOGRAD_POINTS])
{
    int kernel[27], wide[9 * 4], high[3 * 4 * 4];
    for (int tap = 0; tap < 27; tap++)
        kernel[tap] = taps[(int64_t)tap * inputs];
    for (int row = 0; row < 9; row++)
        transform_taps(kernel + row * 3, 1, wide + row * 4, 1);
    for (int frame = 0; frame < 3; frame++)
        for (int column = 0; column < 4; column++)
            transform_taps(wide + frame * 12 + column, 4, high + frame * 16 + column, 4);
    for (int point = 0; point < 16; point++)
        transform_taps(high + point, 16, to + point, 16);
}

int64_t ea_pack_winograd(const ea_conv *conv, const int8_t *taps, uint8_t *to)
{
    int points[EA_WINOGRAD_POINTS];
    int16_t *packed = (int16_t *)to;
    memset(to, 0, ea_winograd_bytes(conv));
    for (int output = 0; output < conv->outputs; output++)
        for (int input = 0; input < conv->inputs; input++) {
            transform_kernel(taps + (int64_t)output * 27 * conv->inputs + input, conv->inputs, points);
            for (int point = 0; point < EA_WINOGRAD_POINTS; point++) {
                int64_t row = ((int64_t)(output / 16) * EA_WINOGRAD_POINTS + point) * pairs(conv) + input / 2;
                packed[row * 32 + output % 16 * 2 + input % 2] = (int16_t)points[point];
            }
        }
    return ea_winograd_bytes(conv);
}

int64_t ea_winograd_scratch(void) { return sizeof(ea_winograd_memory); }
