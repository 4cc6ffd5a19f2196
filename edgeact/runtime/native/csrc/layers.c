/* Everything but convolutions: rounding the clip, pooling, and the small float parts of attention and classifier. */
#include "engine.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

/* To the nearest, halves to even: adding 1.5 * 2^23 leaves no bit below 1. */
static inline uint8_t rounded(float value, int zero)
{
    const float no_fraction = 12582912.0f;
    value = value < (float)-zero ? (float)-zero : value > (float)(255 - zero) ? (float)(255 - zero) : value;
    return (uint8_t)((int)(value + no_fraction - no_fraction) + zero);
}

enum { ROW = 1024 };

/* `width` bytes a pixel. */
static void dealt_out(const uint8_t *line, int count, int width, uint8_t *out, int64_t step)
{
    if (width == 2) { /* space to depth, in one move a pixel */
        for (const uint8_t *end = line + count; line < end; line += 2, out += step)
            memcpy(out, line, 2);
        return;
    }
    for (const uint8_t *end = line + count; line < end; line += width, out += step)
        for (int k = 0; k < width; k++)
            out[k] = line[k];
}

/* One row of the result; rounded in vectors first, then dealt out to channels. */
static void input_row(const ea_input *in, int chunk)
{
    const ea_features *to = in->to;
    int time = chunk / to->size[1], row = chunk % to->size[1];
    int bt = in->block[0], bh = in->block[1], bw = in->block[2], pixels = to->size[2] * bw;
    int64_t frame = (int64_t)in->size[1] * in->size[2];
    uint8_t line[ROW];
    for (int c = 0, channel = 0; c < in->channels; c++)
        for (int i = 0; i < bt; i++)
            for (int j = 0; j < bh; j++, channel += bw) {
                const float *from = in->from + ((int64_t)c * in->size[0] + time * bt + i) * frame +
                                    (int64_t)(row * bh + j) * in->size[2];
                uint8_t *out = to->data + time * to->time + row * to->row + channel;
                for (int begin = 0; begin < pixels; begin += ROW / bw * bw) {
                    int count = pixels - begin < ROW / bw * bw ? pixels - begin : ROW / bw * bw;
                    for (int pixel = 0; pixel < count; pixel++)
                        line[pixel] = rounded(from[begin + pixel] * in->scale, to->zero);
                    dealt_out(line, count, bw, out, to->pixel);
                    out += count / bw * to->pixel;
                }
            }
}

/* One row of the result: the largest of what lies inside, 64 channels at a time. */
static void pool_row(const ea_pool *pool, int chunk)
{
    const ea_features *from = pool->from, *to = pool->to;
    int at[3] = {chunk / to->size[1], chunk % to->size[1], 0};
    for (; at[2] < to->size[2]; at[2]++) {
        int low[3], high[3];
        for (int axis = 0; axis < 3; axis++) {
            int begin = at[axis] * pool->stride[axis] - pool->pad[axis], end = begin + pool->kernel[axis];
            low[axis] = begin < 0 ? 0 : begin;
            high[axis] = end > from->size[axis] ? from->size[axis] : end;
        }
        uint8_t *out = to->data + at[0] * to->time + at[1] * to->row + at[2] * to->pixel;
        for (int c = 0; c < to->channels; c += 64) {
            __mmask64 mask = to->channels - c < 64 ? (1ull << (to->channels - c)) - 1 : ~0ull;
            __m512i largest = _mm512_setzero_si512();
            for (int t = low[0]; t < high[0]; t++)
                for (int h = low[1]; h < high[1]; h++)
                    for (int w = low[2]; w < high[2]; w++) {
                        const uint8_t *in = from->data + t * from->time + h * from->row + w * from->pixel + c;
                        largest = _mm512_max_epu8(largest, _mm512_maskz_loadu_epi8(mask, in));
                    }
            _mm512_mask_storeu_epi8(out + c, mask, largest);
        }
    }
}

static inline float combined(int kind, float a, float b)
{
    switch (kind) {
    case EA_MUL: return a * b;
    case EA_ADD: return a + b;
    case EA_SUB: return a - b;
    case EA_DIV: return a / b;
    default: return a > b ? a : b;
    }
}

/* One kind and one pair of strides a loop, so that compilers make vectors of it. */
#define LOOP(KIND, A, B) for (int c = 0; c < n; c++) out[c] = combined(KIND, a[A], b[B])
#define LOOPS(KIND)                          \
    if (sa && sb) LOOP(KIND, c, c);          \
    else if (sa) LOOP(KIND, c, 0);           \
    else if (sb) LOOP(KIND, 0, c);           \
    else LOOP(KIND, 0, 0);                   \
    break

static void binary_row(const ea_binary *op, int chunk)
{
    int n = op->size[3], t = chunk / op->size[1], h = chunk % op->size[1];
    int64_t sa = op->a_stride[3], sb = op->b_stride[3];
    for (int w = 0; w < op->size[2]; w++) {
        const float *a = op->a + t * op->a_stride[0] + h * op->a_stride[1] + w * op->a_stride[2];
        const float *b = op->b + t * op->b_stride[0] + h * op->b_stride[1] + w * op->b_stride[2];
        float *out = op->to + (((int64_t)t * op->size[1] + h) * op->size[2] + w) * n;
        switch (op->kind) {
        case EA_MUL: LOOPS(EA_MUL);
        case EA_ADD: LOOPS(EA_ADD);
        case EA_SUB: LOOPS(EA_SUB);
        case EA_DIV: LOOPS(EA_DIV);
        default: LOOPS(EA_MAX);
        }
    }
}

static void unary(const ea_unary *op)
{
    for (int64_t i = 0; i < op->count; i++) {
        float x = op->from[i];
        switch (op->kind) {
        case EA_RELU: x = x > 0 ? x : 0; break;
        case EA_SIGMOID: x = 1 / (1 + expf(-x)); break;
        case EA_TANH: x = tanhf(x); break;
        case EA_SQRT: x = sqrtf(x); break;
        case EA_EXP: x = expf(x); break;
        default: break;
        }
        op->to[i] = x;
    }
}

/* Sums over channels in 16 lanes: a float sum in order would be one addition after the other. */
static float over_channels(const float *from, int count, int largest)
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
    const int *size = op->size, *over = op->over;
    int64_t stride[4], results = 1, merged = 1;
    for (int axis = 3; axis >= 0; axis--) {
        stride[axis] = over[axis] ? 0 : results;
        results *= over[axis] ? 1 : size[axis];
        merged *= over[axis] ? size[axis] : 1;
    }
    int largest = op->kind == EA_LARGEST, n = size[3];
    for (int64_t i = 0; i < results; i++)
        op->to[i] = largest ? -INFINITY : 0;
    const float *from = op->from;
    for (int t = 0; t < size[0]; t++)
        for (int h = 0; h < size[1]; h++)
            for (int w = 0; w < size[2]; w++, from += n) {
                float *to = op->to + t * stride[0] + h * stride[1] + w * stride[2];
                if (over[3]) {
                    float part = over_channels(from, n, largest);
                    *to = largest ? (part > *to ? part : *to) : *to + part;
                } else if (largest) {
                    for (int c = 0; c < n; c++)
                        to[c] = from[c] > to[c] ? from[c] : to[c];
                } else {
                    for (int c = 0; c < n; c++)
                        to[c] += from[c];
                }
            }
    if (op->kind == EA_MEAN)
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

/* One row of the result. */
static void small_conv_row(const ea_small_conv *op, int chunk)
{
    int h_size = op->size[1], w_size = op->size[2], t = chunk / h_size, h = chunk % h_size, n = op->channels;
    for (int w = 0; w < w_size; w++)
        for (int out = 0; out < op->outputs; out++) {
            float sum = op->bias[out];
            const float *weights = op->weights + (int64_t)out * op->kernel[0] * op->kernel[1] * op->kernel[2] * n;
            for (int i = 0; i < op->kernel[0]; i++)
                for (int j = 0; j < op->kernel[1]; j++) {
                    int ti = t + i - op->pad[0], hj = h + j - op->pad[1];
                    if (ti < 0 || ti >= op->size[0] || hj < 0 || hj >= h_size)
                        continue;
                    int first = op->pad[2] > w ? op->pad[2] - w : 0;
                    int last = w_size + op->pad[2] - w < op->kernel[2] ? w_size + op->pad[2] - w : op->kernel[2];
                    const float *in = op->from + (((int64_t)ti * h_size + hj) * w_size + w + first - op->pad[2]) * n;
                    const float *tap = weights + ((int64_t)(i * op->kernel[1] + j) * op->kernel[2] + first) * n;
                    for (int c = 0; c < (last - first) * n; c++)
                        sum += in[c] * tap[c];
                }
            op->to[(((int64_t)t * h_size + h) * w_size + w) * op->outputs + out] = sum;
        }
}

static void round_row(const ea_round *op, int chunk)
{
    const ea_features *to = op->to;
    int t = chunk / to->size[1], h = chunk % to->size[1], channels = op->channels, zero = to->zero;
    float scale = op->scale; /* all of these in registers: a byte that is stored may be any of them to a compiler */
    const float *from = op->from + (int64_t)chunk * to->size[2] * channels;
    for (int w = 0; w < to->size[2]; w++, from += channels) {
        uint8_t *out = to->data + t * to->time + h * to->row + w * to->pixel + op->channel;
        for (int c = 0; c < channels; c++)
            out[c] = rounded(from[c] * scale, zero);
    }
}

static void restore_row(const ea_restore *op, int chunk)
{
    const ea_features *from = op->from;
    int t = chunk / from->size[1], h = chunk % from->size[1];
    float *out = op->to + (int64_t)chunk * from->size[2] * op->to_channels + op->to_channel, scale = op->scale;
    for (int w = 0, zero = from->zero; w < from->size[2]; w++, out += op->to_channels) {
        const uint8_t *in = from->data + t * from->time + h * from->row + w * from->pixel + op->channel;
        for (int c = 0; c < op->channels; c++)
            out[c] = (float)(in[c] - zero) * scale;
    }
}

int ea_chunks(const ea_step *step)
{
    const void *what = step->what;
    const ea_features *features = 0;
    switch (step->kind) {
    case EA_STEP_CONV: return ea_conv_chunks(what);
    case EA_STEP_INPUT: features = ((const ea_input *)what)->to; break;
    case EA_STEP_POOL: features = ((const ea_pool *)what)->to; break;
    case EA_STEP_ROUND: features = ((const ea_round *)what)->to; break;
    case EA_STEP_RESTORE: features = ((const ea_restore *)what)->from; break;
    case EA_STEP_BINARY: return ((const ea_binary *)what)->size[0] * ((const ea_binary *)what)->size[1];
    case EA_STEP_SMALL_CONV: return ((const ea_small_conv *)what)->size[0] * ((const ea_small_conv *)what)->size[1];
    default: return 1;
    }
    return features->size[0] * features->size[1];
}

void ea_do(const ea_step *step, int chunk, int instructions)
{
    const void *what = step->what;
    switch (step->kind) {
    case EA_STEP_INPUT: input_row(what, chunk); break;
    case EA_STEP_CONV: ea_conv_do(what, chunk, instructions); break;
    case EA_STEP_POOL: pool_row(what, chunk); break;
    case EA_STEP_BINARY: binary_row(what, chunk); break;
    case EA_STEP_UNARY: unary(what); break;
    case EA_STEP_REDUCE: reduce(what); break;
    case EA_STEP_DENSE: dense(what); break;
    case EA_STEP_SMALL_CONV: small_conv_row(what, chunk); break;
    case EA_STEP_ROUND: round_row(what, chunk); break;
    case EA_STEP_RESTORE: restore_row(what, chunk); break;
    default: break;
    }
}
