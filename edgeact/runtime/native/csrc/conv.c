/* Convolutions: what is computed together, and what becomes of the sums. */
#include "engine.h"

#include <immintrin.h>

enum { PART = 256, LARGE_WEIGHTS = 768 << 10 };

/* Pixels that lie equally far apart: all of a frame where the stride is 1 (the margin between two rows is computed and
 * thrown away), else a row. */
typedef struct {
    int flat;
    int lines, length; /* how many, and pixels in each, those of margins among them */
    int pitch;         /* pixels from one row of `flat` lines to the next */
    int64_t step;      /* bytes */
    int parts;         /* of a line */
    int by_outputs;    /* whether chunks share lines and differ in outputs */
} plan;

static plan planned(const ea_conv *conv)
{
    plan p;
    p.flat = conv->stride[1] == 1 && conv->stride[2] == 1;
    p.pitch = (int)(conv->from->row / conv->from->pixel);
    p.lines = p.flat ? conv->out[0] : conv->out[0] * conv->out[1];
    p.length = p.flat ? (conv->out[1] - 1) * p.pitch + conv->out[2] : conv->out[2];
    p.step = conv->from->pixel * conv->stride[2];
    p.by_outputs = (int64_t)conv->tiles * conv->windows * 1024 > LARGE_WEIGHTS && conv->tiles > 2;
    p.parts = (p.length + PART - 1) / PART;
    return p;
}

int ea_conv_chunks(const ea_conv *conv)
{
    plan p = planned(conv);
    return p.by_outputs ? (conv->tiles + 1) / 2 : p.lines * p.parts;
}

typedef struct {
    int count;
    int sum[EA_POSITIONS]; /* which of the sums */
    int row[EA_POSITIONS], pixel[EA_POSITIONS];
    int time;
} places;

/* The output pixels among positions [begin, begin + count) of a line. */
static void placed(const ea_conv *conv, const plan *p, int line, int begin, int count, places *out)
{
    out->count = 0;
    out->time = p->flat ? line : line / conv->out[1];
    int row = p->flat ? begin / p->pitch : line % conv->out[1];
    int pixel = p->flat ? begin % p->pitch : begin;
    for (int index = 0; index < count; index++) {
        if (pixel < conv->out[2]) {
            out->sum[out->count] = index;
            out->row[out->count] = row;
            out->pixel[out->count++] = pixel;
        }
        if (++pixel == p->pitch && p->flat) {
            pixel = 0;
            row++;
        }
    }
}

/* One store of one tile of 16 outputs. */
static void stored(const ea_store *store, int tile, const int32_t *sums, const places *at)
{
    int low = store->first > tile * 16 ? store->first - tile * 16 : 0;
    int high = store->last < tile * 16 + 16 ? store->last - tile * 16 : 16;
    if (low >= high)
        return;
    int count = high - low, channel = tile * 16 + low - store->first; /* of the store's own */
    __mmask16 mask = (__mmask16)((1u << count) - 1);
    __m512 scale = _mm512_maskz_loadu_ps(mask, store->scale + channel);
    __m512 bias = _mm512_maskz_loadu_ps(mask, store->bias + channel);
    __m512 lowest = _mm512_set1_ps(store->relu ? 0.0f : -3e38f), lowest_sum = _mm512_set1_ps(store->relu_sum ? 0.0f : -3e38f);
    __m512 factor[2] = {_mm512_set1_ps(store->summand[0].scale), _mm512_set1_ps(store->summand[1].scale)};
    __m512i zero = _mm512_set1_epi32(store->to->zero);
    const ea_features *to = store->to;
    uint8_t *data = to->data + at->time * to->time + (int64_t)(store->channel + channel) * (store->is_float ? 4 : 1);
    const uint8_t *added[2] = {0, 0};
    for (int index = 0; index < store->summands; index++) {
        const ea_features *from = store->summand[index].from;
        added[index] = from->data + at->time * from->time + store->summand[index].channel + channel;
    }
    for (int index = 0; index < at->count; index++) {
        __m512i sum = _mm512_maskz_loadu_epi32(mask, sums + at->sum[index] * 16 + low);
        __m512 value = _mm512_max_ps(_mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, bias), lowest);
        for (int which = 0; which < store->summands; which++) {
            const ea_features *from = store->summand[which].from;
            const uint8_t *there = added[which] + at->row[index] * from->row + at->pixel[index] * from->pixel;
            __m512i integer = _mm512_sub_epi32(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, there)),
                                               _mm512_set1_epi32(from->zero));
            value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(integer), factor[which], value);
        }
        value = _mm512_max_ps(value, lowest_sum);
        uint8_t *here = data + at->row[index] * to->row + at->pixel[index] * to->pixel;
        if (store->is_float) {
            _mm512_mask_storeu_ps(here, mask, value);
        } else {
            __m512i rounded = _mm512_add_epi32(_mm512_cvtps_epi32(value), zero);
            rounded = _mm512_max_epi32(rounded, _mm512_setzero_si512());
            _mm_mask_storeu_epi8(here, mask, _mm512_cvtusepi32_epi8(rounded));
        }
    }
}

/* Positions [begin, end) of a line, outputs of tiles [tile, last). */
static void line_done(const ea_conv *conv, const plan *p, int line, int begin, int end, int tile, int last,
                      int instructions)
{
    int32_t sums[2 * EA_POSITIONS * 16] __attribute__((aligned(64)));
    places at;
    int time = p->flat ? line : line / conv->out[1], row = p->flat ? 0 : line % conv->out[1];
    const uint8_t *from = conv->from->data + time * conv->stride[0] * conv->from->time +
                          (int64_t)row * conv->stride[1] * conv->from->row;
    for (; tile < last; tile += 2) {
        int tiles = last - tile > 1 ? 2 : 1;
        for (int position = begin; position < end; position += EA_POSITIONS) {
            int count = end - position < EA_POSITIONS ? end - position : EA_POSITIONS;
            const uint8_t *first = from + position * p->step;
            if (instructions == EA_AMX)
                ea_products_amx(conv, first, p->step, count, tile, tiles, sums);
            else
                ea_products_vnni(conv, first, p->step, count, tile, tiles, sums);
            placed(conv, p, line, position, count, &at);
            for (int one = 0; one < tiles; one++)
                for (int index = 0; index < conv->stores; index++)
                    stored(&conv->store[index], tile + one, sums + one * EA_POSITIONS * 16, &at);
        }
    }
}

void ea_conv_do(const ea_conv *conv, int chunk, int instructions)
{
    plan p = planned(conv);
    if (p.by_outputs) {
        int last = chunk * 2 + 2 < conv->tiles ? chunk * 2 + 2 : conv->tiles;
        for (int line = 0; line < p.lines; line++)
            line_done(conv, &p, line, 0, p.length, chunk * 2, last, instructions);
        return;
    }
    int line = chunk / p.parts, begin = chunk % p.parts * PART;
    int end = begin + PART < p.length ? begin + PART : p.length;
    line_done(conv, &p, line, begin, end, 0, conv->tiles, instructions);
}
