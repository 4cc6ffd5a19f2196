/* All instructions but INT8 convolutions: quantizing the clip, pooling, and the float layers of attention and
 * classifier. */
#include "engine.h"

#include "vectors.h"

#include <math.h>
#include <string.h>

/* Round to nearest, ties to even: adding 1.5 * 2^23 leaves no fraction bits. NaN becomes the lowest value. */
static inline uint8_t quantized(float value, int zero)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23 */
    const float lowest = (float)-zero, highest = (float)(255 - zero);
    value = value > lowest ? value : lowest;
    value = value < highest ? value : highest;
    return (uint8_t)((int)(value + magic - magic) + zero);
}

enum { LINE = 1024 };

/* Scatter a line of `count` bytes: `width` successive bytes go to each output pixel, `pixel_stride` apart. */
static void space_to_depth(const uint8_t *line, int count, int width, uint8_t *out, int64_t pixel_stride)
{
    if (width == 2) { /* one move for each pixel */
        for (const uint8_t *end = line + count; line < end; line += 2, out += pixel_stride)
            memcpy(out, line, 2);
        return;
    }
    for (const uint8_t *end = line + count; line < end; line += width, out += pixel_stride)
        for (int k = 0; k < width; k++)
            out[k] = line[k];
}

/* One row of the output: quantize a line in vectors, then scatter it to channels. */
static void input_row(const ea_input *in, int chunk)
{
    const ea_buffer *to = in->to;
    int time = chunk / to->size[1], row = chunk % to->size[1];
    int bt = in->block[0], bh = in->block[1], bw = in->block[2], pixels = to->size[2] * bw;
    int64_t frame = (int64_t)in->size[1] * in->size[2];
    uint8_t line[LINE];
    for (int c = 0, channel = 0; c < in->channels; c++)
        for (int i = 0; i < bt; i++)
            for (int j = 0; j < bh; j++, channel += bw) {
                const float *from = in->from + ((int64_t)c * in->size[0] + time * bt + i) * frame +
                                    (int64_t)(row * bh + j) * in->size[2];
                uint8_t *out = to->data + time * to->time_stride + row * to->row_stride + channel;
                for (int begin = 0; begin < pixels; begin += LINE / bw * bw) {
                    int count = pixels - begin < LINE / bw * bw ? pixels - begin : LINE / bw * bw;
                    for (int pixel = 0; pixel < count; pixel++)
                        line[pixel] = quantized(from[begin + pixel] * in->scale, to->zero_point);
                    space_to_depth(line, count, bw, out, to->pixel_stride);
                    out += count / bw * to->pixel_stride;
                }
            }
}

/* One row of the output: the maximum of each window within the input, 64 channels at a time. */
static void pool_row(const ea_pool *pool, int chunk)
{
    const ea_buffer *from = pool->from, *to = pool->to;
    int at[3] = {chunk / to->size[1], chunk % to->size[1], 0};
    for (; at[2] < to->size[2]; at[2]++) {
        int low[3], high[3];
        for (int axis = 0; axis < 3; axis++) {
            int begin = at[axis] * pool->stride[axis] - pool->padding[axis], end = begin + pool->kernel[axis];
            low[axis] = begin < 0 ? 0 : begin;
            high[axis] = end > from->size[axis] ? from->size[axis] : end;
        }
        uint8_t *out = to->data + at[0] * to->time_stride + at[1] * to->row_stride + at[2] * to->pixel_stride;
        for (int c = 0; c < to->channels; c += 64) {
            int count = to->channels - c < 64 ? to->channels - c : 64;
            ea_bytes largest = ea_zero_bytes();
            for (int t = low[0]; t < high[0]; t++)
                for (int h = low[1]; h < high[1]; h++)
                    for (int w = low[2]; w < high[2]; w++) {
                        const uint8_t *in = from->data + t * from->time_stride + h * from->row_stride +
                                            w * from->pixel_stride + c;
                        largest = ea_max_bytes(largest, in, count);
                    }
            ea_store_bytes(out + c, count, largest);
        }
    }
}

static inline float binary_value(int op, float a, float b)
{
    switch (op) {
    case EA_MUL: return a * b;
    case EA_ADD: return a + b;
    case EA_SUB: return a - b;
    case EA_DIV: return a / b;
    default: return a > b ? a : b;
    }
}

/* One loop for each operator and pair of strides, so that compilers vectorize it. */
#define LOOP(OP, A, B) for (int c = 0; c < n; c++) out[c] = binary_value(OP, a[A], b[B])
#define LOOPS(OP)                          \
    if (sa && sb) LOOP(OP, c, c);          \
    else if (sa) LOOP(OP, c, 0);           \
    else if (sb) LOOP(OP, 0, c);           \
    else LOOP(OP, 0, 0);                   \
    break

static void binary_row(const ea_binary *op, int chunk)
{
    int n = op->size[3], t = chunk / op->size[1], h = chunk % op->size[1];
    int64_t sa = op->a_stride[3], sb = op->b_stride[3];
    for (int w = 0; w < op->size[2]; w++) {
        const float *a = op->a + t * op->a_stride[0] + h * op->a_stride[1] + w * op->a_stride[2];
        const float *b = op->b + t * op->b_stride[0] + h * op->b_stride[1] + w * op->b_stride[2];
        float *out = op->to + (((int64_t)t * op->size[1] + h) * op->size[2] + w) * n;
        switch (op->op) {
        case EA_MUL: LOOPS(EA_MUL);
        case EA_ADD: LOOPS(EA_ADD);
        case EA_SUB: LOOPS(EA_SUB);
        case EA_DIV: LOOPS(EA_DIV);
        default: LOOPS(EA_MAX);
        }
    }
}

/* e^x in double arithmetic, which gives the same bits on every processor and with every C library; accurate to float32.
 * x / ln 2 = n + r / ln 2; adding 1.5 * 2^52 leaves n in the low bits. */
static inline double exponential(double x)
{
    const double magic = 6755399441055744.0, ln2_high = 0x1.62e42fefap-1, ln2_low = 0x1.cf79abc9e3b39803p-41;
    double bounded = x > -150 ? x : -150; /* 0 in float32, as 150 is infinity */
    bounded = bounded < 150 ? bounded : 150;
    double shifted = bounded * 1.4426950408889634 + magic, n = shifted - magic;
    double r = bounded - n * ln2_high - n * ln2_low, power, sum = 1.0 / 3628800;
    sum = sum * r + 1.0 / 362880;
    sum = sum * r + 1.0 / 40320;
    sum = sum * r + 1.0 / 5040;
    sum = sum * r + 1.0 / 720;
    sum = sum * r + 1.0 / 120;
    sum = sum * r + 1.0 / 24;
    sum = sum * r + 1.0 / 6;
    sum = sum * r + 0.5;
    sum = sum * r + 1;
    sum = sum * r + 1;
    uint64_t bits;
    memcpy(&bits, &shifted, 8);
    bits = (bits + 1023) << 52;
    memcpy(&power, &bits, 8);
    return x == x ? sum * power : x;
}

static inline float hyperbolic_tangent(float x)
{
    double square = exponential(2.0 * x), value = x;
    return fabsf(x) < 1e-4f ? (float)(value - value * value * value / 3) : (float)((square - 1) / (square + 1));
}

enum { MAPPED = 64 };

/* One loop for each operator on a block of its own, so that compilers vectorize it even if a layer works in place. */
#define MAP(VALUE)                       \
    for (int i = 0; i < MAPPED; i++) {   \
        float x = values[i];             \
        values[i] = VALUE;               \
    }                                    \
    break

static void map_block(int op, float *restrict values)
{
    switch (op) {
    case EA_RELU: MAP(x > 0 ? x : 0);
    case EA_SIGMOID: MAP(1 / (1 + (float)exponential(-x)));
    case EA_TANH: MAP(hyperbolic_tangent(x));
    case EA_SQRT: MAP(sqrtf(x));
    case EA_EXP: MAP((float)exponential(x));
    default: break;
    }
}

static void unary(const ea_unary *op)
{
    float values[MAPPED] = {0};
    for (int64_t begin = 0; begin < op->count; begin += MAPPED) {
        size_t bytes = (size_t)(op->count - begin < MAPPED ? op->count - begin : MAPPED) * sizeof(float);
        memcpy(values, op->from + begin, bytes);
        map_block(op->op, values);
        memcpy(op->to + begin, values, bytes);
    }
}

/* Reduce channels in 16 lanes: a float sum in source order cannot be vectorized. */
static float reduce_channels(const float *from, int count, int largest)
{
    float lane[16];
    for (int i = 0; i < 16; i++)
        lane[i] = largest ? -INFINITY : 0;
    for (int c = 0; c + 16 <= count; c += 16)
        for (int i = 0; i < 16; i++)
            lane[i] = largest ? (from[c + i] > lane[i] ? from[c + i] : lane[i]) : lane[i] + from[c + i];
    float result = lane[0];
    for (int i = 1; i < 16; i++)
        result = largest ? (lane[i] > result ? lane[i] : result) : result + lane[i];
    for (int c = count - count % 16; c < count; c++)
        result = largest ? (from[c] > result ? from[c] : result) : result + from[c];
    return result;
}

static void reduce(const ea_reduce *op)
{
    const int *size = op->size, *axes = op->axes;
    int64_t stride[4], results = 1, merged = 1;
    for (int axis = 3; axis >= 0; axis--) {
        stride[axis] = axes[axis] ? 0 : results;
        results *= axes[axis] ? 1 : size[axis];
        merged *= axes[axis] ? size[axis] : 1;
    }
    int largest = op->op == EA_REDUCE_MAX, n = size[3];
    for (int64_t i = 0; i < results; i++)
        op->to[i] = largest ? -INFINITY : 0;
    const float *from = op->from;
    for (int t = 0; t < size[0]; t++)
        for (int h = 0; h < size[1]; h++)
            for (int w = 0; w < size[2]; w++, from += n) {
                float *to = op->to + t * stride[0] + h * stride[1] + w * stride[2];
                if (axes[3]) {
                    float part = reduce_channels(from, n, largest);
                    *to = largest ? (part > *to ? part : *to) : *to + part;
                } else if (largest) {
                    for (int c = 0; c < n; c++)
                        to[c] = from[c] > to[c] ? from[c] : to[c];
                } else {
                    for (int c = 0; c < n; c++)
                        to[c] += from[c];
                }
            }
    if (op->op == EA_REDUCE_MEAN)
        for (int64_t i = 0; i < results; i++)
            op->to[i] /= (float)merged;
}

static void dense(const ea_dense *op)
{
    for (int out = 0; out < op->outputs; out++) {
        const float *weights = op->weights + (int64_t)out * op->inputs;
        float lane[16] = {0}, sum = op->bias[out];
        int in = 0;
        for (; in + 16 <= op->inputs; in += 16)
            for (int i = 0; i < 16; i++)
                lane[i] += weights[in + i] * op->from[in + i];
        for (; in < op->inputs; in++)
            sum += weights[in] * op->from[in];
        for (int i = 0; i < 16; i++)
            sum += lane[i];
        op->to[out] = sum;
    }
}

/* One row of the output. */
static void float_conv_row(const ea_float_conv *op, int chunk)
{
    int h_size = op->size[1], w_size = op->size[2], t = chunk / h_size, h = chunk % h_size, n = op->channels;
    for (int w = 0; w < w_size; w++)
        for (int out = 0; out < op->outputs; out++) {
            float sum = op->bias[out];
            const float *weights = op->weights + (int64_t)out * op->kernel[0] * op->kernel[1] * op->kernel[2] * n;
            for (int i = 0; i < op->kernel[0]; i++)
                for (int j = 0; j < op->kernel[1]; j++) {
                    int ti = t + i - op->padding[0], hj = h + j - op->padding[1];
                    if (ti < 0 || ti >= op->size[0] || hj < 0 || hj >= h_size)
                        continue;
                    int first = op->padding[2] > w ? op->padding[2] - w : 0;
                    int right = w_size + op->padding[2] - w;
                    int last = right < op->kernel[2] ? right : op->kernel[2];
                    const float *in =
                        op->from + (((int64_t)ti * h_size + hj) * w_size + w + first - op->padding[2]) * n;
                    const float *tap = weights + ((int64_t)(i * op->kernel[1] + j) * op->kernel[2] + first) * n;
                    for (int c = 0; c < (last - first) * n; c++)
                        sum += in[c] * tap[c];
                }
            op->to[(((int64_t)t * h_size + h) * w_size + w) * op->outputs + out] = sum;
        }
}

static void quantize_row(const ea_quantize *op, int chunk)
{
    const ea_buffer *to = op->to;
    int t = chunk / to->size[1], h = chunk % to->size[1], channels = op->channels, zero = to->zero_point;
    float scale = op->scale; /* locals: the compiler must assume that a stored byte changes any field */
    const float *from = op->from + (int64_t)chunk * to->size[2] * channels;
    for (int w = 0; w < to->size[2]; w++, from += channels) {
        uint8_t *out = to->data + t * to->time_stride + h * to->row_stride + w * to->pixel_stride + op->channel;
        for (int c = 0; c < channels; c++)
            out[c] = quantized(from[c] * scale, zero);
    }
}

static void dequantize_row(const ea_dequantize *op, int chunk)
{
    const ea_buffer *from = op->from;
    int t = chunk / from->size[1], h = chunk % from->size[1];
    float *out = op->to + (int64_t)chunk * from->size[2] * op->to_channels + op->to_channel, scale = op->scale;
    for (int w = 0, zero = from->zero_point; w < from->size[2]; w++, out += op->to_channels) {
        const uint8_t *in =
            from->data + t * from->time_stride + h * from->row_stride + w * from->pixel_stride + op->channel;
        for (int c = 0; c < op->channels; c++)
            out[c] = (float)(in[c] - zero) * scale;
    }
}

/* The taps of an axis that are inside of the activation: [*first, *last), of those that output `out` reads. */
static void taps_inside(const ea_float_pool *op, int axis, int out, int *first, int *last)
{
    int begin = out * op->stride[axis] - op->padding[axis];
    *first = begin < 0 ? -begin : 0;
    *last = begin + op->kernel[axis] > op->size[axis] ? op->size[axis] - begin : op->kernel[axis];
}

static void float_pool_row(const ea_float_pool *op, int chunk)
{
    int t = chunk / op->out_size[1], h = chunk % op->out_size[1], n = op->channels, first[3], last[3];
    const float count = (float)op->kernel[0] * (float)op->kernel[1] * (float)op->kernel[2];
    float *to = op->to + (int64_t)chunk * op->out_size[2] * n;
    taps_inside(op, 0, t, &first[0], &last[0]);
    taps_inside(op, 1, h, &first[1], &last[1]);
    for (int w = 0; w < op->out_size[2]; w++, to += n) {
        taps_inside(op, 2, w, &first[2], &last[2]);
        for (int c = 0; c < n; c++)
            to[c] = 0;
        for (int i = first[0]; i < last[0]; i++)
            for (int j = first[1]; j < last[1]; j++)
                for (int k = first[2]; k < last[2]; k++) {
                    int64_t frame = t * op->stride[0] - op->padding[0] + i, row = h * op->stride[1] - op->padding[1] + j;
                    int64_t pixel = w * op->stride[2] - op->padding[2] + k;
                    const float *from = op->from + ((frame * op->size[1] + row) * op->size[2] + pixel) * n;
                    for (int c = 0; c < n; c++)
                        to[c] += from[c];
                }
        for (int c = 0; c < n; c++)
            to[c] /= count;
    }
}

int ea_chunks(const ea_op *op)
{
    const void *arguments = op->arguments;
    const ea_buffer *buffer = 0;
    switch (op->opcode) {
    case EA_OP_CONV: return ea_conv_chunks(arguments);
    case EA_OP_INPUT: buffer = ((const ea_input *)arguments)->to; break;
    case EA_OP_POOL: buffer = ((const ea_pool *)arguments)->to; break;
    case EA_OP_QUANTIZE: buffer = ((const ea_quantize *)arguments)->to; break;
    case EA_OP_DEQUANTIZE: buffer = ((const ea_dequantize *)arguments)->from; break;
    case EA_OP_BINARY: return ((const ea_binary *)arguments)->size[0] * ((const ea_binary *)arguments)->size[1];
    case EA_OP_FLOAT_CONV:
        return ((const ea_float_conv *)arguments)->size[0] * ((const ea_float_conv *)arguments)->size[1];
    case EA_OP_FLOAT_POOL:
        return ((const ea_float_pool *)arguments)->out_size[0] * ((const ea_float_pool *)arguments)->out_size[1];
    default: return 1;
    }
    return buffer->size[0] * buffer->size[1];
}

void ea_do(const ea_op *op, int chunk, int isa, int thread)
{
    const void *arguments = op->arguments;
    switch (op->opcode) {
    case EA_OP_INPUT: input_row(arguments, chunk); break;
    case EA_OP_CONV: ea_conv_do(arguments, chunk, isa, thread); break;
    case EA_OP_POOL: pool_row(arguments, chunk); break;
    case EA_OP_BINARY: binary_row(arguments, chunk); break;
    case EA_OP_UNARY: unary(arguments); break;
    case EA_OP_REDUCE: reduce(arguments); break;
    case EA_OP_DENSE: dense(arguments); break;
    case EA_OP_FLOAT_CONV: float_conv_row(arguments, chunk); break;
    case EA_OP_QUANTIZE: quantize_row(arguments, chunk); break;
    case EA_OP_DEQUANTIZE: dequantize_row(arguments, chunk); break;
    case EA_OP_FLOAT_POOL: float_pool_row(arguments, chunk); break;
    default: break;
    }
}
