#include "store.h"

#include <math.h>

/* Pixels of one run; called with constants, so that every case is a loop of its own. Everything is copied first: for all
 * the compiler knows, a stored byte could change it. */
static inline __attribute__((always_inline)) void
stored(const ea_slice *s, const int32_t *sum, const ea_run_of_pixels *run, int begin, int count, int kind)
{
    const int full = kind & 1, is_float = kind & 2, summands = kind >> 2 & 3, onto = kind >> 4;
    const __m512 scale = s->scale, bias = s->bias, lowest = s->lowest, lowest_sum = s->lowest_sum;
    const __m512 factor[2] = {s->factor[0], s->factor[1]};
    const __mmask16 mask = s->mask;
    const int64_t pixel = s->pixel, added_pixel[2] = {s->added_pixel[0], s->added_pixel[1]};
    const uint8_t *added[2] = {0, 0};
    for (int which = 0; which < summands; which++)
        added[which] = s->added[which] + run->row * s->added_row[which] + (run->pixel + begin) * added_pixel[which];
    uint8_t *to = s->to + run->row * s->row + (run->pixel + begin) * pixel;
    sum += s->sum + (run->sum + begin) * 16;
    for (const int32_t *end = sum + count * 16; sum < end; sum += 16, to += pixel) {
        __m512i whole = full ? _mm512_load_si512(sum) : _mm512_maskz_loadu_epi32(mask, sum);
        __m512 value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), scale, bias);
        if (summands)
            value = _mm512_max_ps(value, lowest);
        for (int which = 0; which < summands; which++) {
            const __m128i *there = (const __m128i *)added[which];
            __m128i bytes = full ? _mm_loadu_si128(there) : _mm_maskz_loadu_epi8(mask, there);
            value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)), factor[which], value);
            added[which] += added_pixel[which];
        }
        value = _mm512_max_ps(value, lowest_sum);
        if (is_float) {
            _mm512_mask_storeu_ps(to, mask, value);
            continue;
        }
        __m128i rounded = _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(value));
        if (onto) {
            __m128i there = full ? _mm_loadu_si128((const __m128i *)to) : _mm_maskz_loadu_epi8(mask, to);
            rounded = _mm_adds_epu8(rounded, there);
        }
        if (full)
            _mm_storeu_si128((__m128i *)to, rounded);
        else
            _mm_mask_storeu_epi8(to, mask, rounded);
    }
}

#define KIND(K) case K: stored(s, sums, run, begin, count, K); break

static void stored_any(const ea_slice *s, const int32_t *sums, const ea_run_of_pixels *run, int begin, int count)
{
    switch (s->kind) {
    KIND(0);
    KIND(1);
    KIND(2);
    KIND(3);
    KIND(4);
    KIND(5);
    KIND(6);
    KIND(7);
    KIND(8);
    KIND(9);
    KIND(10);
    KIND(11);
    KIND(16);
    KIND(17);
    KIND(20);
    KIND(21);
    KIND(24);
    KIND(25);
    default: break;
    }
}

/* Returns whether the store has anything to do with the tile. */
static int sliced(ea_slice *s, const ea_store *store, int time, int tile)
{
    int low = store->first > tile * 16 ? store->first - tile * 16 : 0;
    int high = store->last < tile * 16 + 16 ? store->last - tile * 16 : 16;
    if (low >= high)
        return 0;
    const ea_features *to = store->to;
    int channel = tile * 16 + low - store->first; /* of the store's own */
    float shift = (float)to->zero;
    int is_relu = store->relu_sum || (!store->summands && store->relu);
    s->kind = store->onto * 16 + store->summands * 4 + store->is_float * 2 + (high - low == 16);
    s->mask = (__mmask16)((1u << (high - low)) - 1);
    s->sum = low;
    s->row = to->row;
    s->pixel = to->pixel;
    s->to = to->data + time * to->time + (int64_t)(store->channel + channel) * (store->is_float ? 4 : 1);
    for (int which = 0; which < store->summands; which++) {
        const ea_features *from = store->summand[which].from;
        s->added[which] = from->data + time * from->time + store->summand[which].channel + channel;
        s->added_row[which] = from->row;
        s->added_pixel[which] = from->pixel;
        s->factor[which] = _mm512_set1_ps(store->summand[which].scale);
        shift -= store->summand[which].scale * (float)from->zero;
    }
    /* The zero points, of summands and of the result, are added first: max(x, 0) + shift = max(x + shift, shift). */
    s->scale = _mm512_maskz_loadu_ps(s->mask, store->scale + channel);
    s->bias = _mm512_add_ps(_mm512_maskz_loadu_ps(s->mask, store->bias + channel), _mm512_set1_ps(shift));
    s->lowest = _mm512_set1_ps(store->relu ? shift : -INFINITY);
    s->lowest_sum = _mm512_set1_ps(is_relu ? (float)to->zero : store->is_float ? -INFINITY : 0);
    return 1;
}

void ea_slice_stores(ea_sliced *sliced_, const ea_conv *conv, int time, int tile, int tiles, int positions)
{
    sliced_->count = 0;
    for (int one = 0; one < tiles; one++)
        for (int index = 0; index < conv->stores && sliced_->count < EA_SLICES; index++) {
            ea_slice *next = &sliced_->slices[sliced_->count];
            if (sliced(next, &conv->store[index], time, tile + one)) {
                next->sum += one * positions * 16;
                sliced_->count++;
            }
        }
}

void ea_rest_begin(ea_rest *rest, const ea_sliced *sliced, const int32_t *sums)
{
    int pixels = 0;
    for (int index = 0; index < rest->run_count; index++)
        pixels += rest->runs[index].count;
    rest->sliced = sliced;
    rest->sums = sums;
    rest->slice = rest->run = rest->pixel = 0;
    rest->left = pixels * sliced->count;
}

void ea_rest_do(ea_rest *rest, int vectors)
{
    while (vectors > 0 && rest->left > 0) {
        const ea_run_of_pixels *run = &rest->runs[rest->run];
        int count = run->count - rest->pixel < vectors ? run->count - rest->pixel : vectors;
        stored_any(&rest->sliced->slices[rest->slice], rest->sums, run, rest->pixel, count);
        vectors -= count;
        rest->left -= count;
        rest->pixel += count;
        if (rest->pixel == run->count) {
            rest->pixel = 0;
            if (++rest->run == rest->run_count) {
                rest->run = 0;
                rest->slice++;
            }
        }
    }
}
