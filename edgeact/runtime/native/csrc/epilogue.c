#include "epilogue.h"

#include <math.h>

/* Apply an epilogue to `count` pixels of a run. Always inlined with a constant `variant`, so that each becomes a
 * loop of its own. The fields are copied first: the compiler must assume that a stored byte changes any of them. */
static inline __attribute__((always_inline)) void
apply(const ea_tile_epilogue *e, const int32_t *sum, const ea_pixel_run *run, int begin, int count, int variant)
{
    const int full = variant & 1, is_float = variant & 2, summands = variant >> 2 & 3, accumulate = variant >> 4;
    const ea_floats scale = e->scale, bias = e->bias;
    const ea_floats lower_bound = e->lower_bound, lower_bound_after_sum = e->lower_bound_after_sum;
    const ea_floats factor[2] = {e->factor[0], e->factor[1]};
    const ea_mask mask = e->mask;
    const int64_t pixel_stride = e->pixel_stride;
    const int64_t summand_stride[2] = {e->summand_pixel_stride[0], e->summand_pixel_stride[1]};
    const uint8_t *summand[2] = {0, 0};
    for (int i = 0; i < summands; i++)
        summand[i] = e->summand[i] + run->row * e->summand_row_stride[i] + (run->pixel + begin) * summand_stride[i];
    uint8_t *to = e->to + run->row * e->row_stride + (run->pixel + begin) * pixel_stride;
    sum += e->sum + (run->position + begin) * 16;
    for (const int32_t *end = sum + count * 16; sum < end; sum += 16, to += pixel_stride) {
        ea_floats value = ea_multiply_add(ea_load_sums(sum, mask, full), scale, bias);
        if (summands)
            value = ea_max(value, lower_bound);
        for (int i = 0; i < summands; i++) {
            value = ea_multiply_add(ea_load_activations(summand[i], mask, full), factor[i], value);
            summand[i] += summand_stride[i];
        }
        value = ea_max(value, lower_bound_after_sum);
        if (is_float)
            ea_store_floats(to, mask, value);
        else
            ea_store_quantized(to, mask, full, accumulate, value);
    }
}

#define VARIANT(V) case V: apply(e, sums, run, begin, count, V); break

static void apply_variant(const ea_tile_epilogue *e, const int32_t *sums, const ea_pixel_run *run, int begin, int count)
{
    switch (e->variant) {
    VARIANT(0);
    VARIANT(1);
    VARIANT(2);
    VARIANT(3);
    VARIANT(4);
    VARIANT(5);
    VARIANT(6);
    VARIANT(7);
    VARIANT(8);
    VARIANT(9);
    VARIANT(10);
    VARIANT(11);
    VARIANT(16);
    VARIANT(17);
    VARIANT(20);
    VARIANT(21);
    VARIANT(24);
    VARIANT(25);
    default: break;
    }
}

/* Restrict one epilogue to one tile; returns 0 if they share no output. */
static int restrict_to_tile(ea_tile_epilogue *e, const ea_epilogue *epilogue, int time, int tile)
{
    int low = epilogue->first > tile * 16 ? epilogue->first - tile * 16 : 0;
    int high = epilogue->last < tile * 16 + 16 ? epilogue->last - tile * 16 : 16;
    if (low >= high)
        return 0;
    const ea_buffer *to = epilogue->to;
    int channel = tile * 16 + low - epilogue->first; /* first one, counted from the epilogue's first */
    float shift = (float)to->zero_point;
    int is_relu = epilogue->relu_after_sum || (!epilogue->summands && epilogue->relu);
    e->variant = epilogue->accumulate * 16 + epilogue->summands * 4 + epilogue->is_float * 2 + (high - low == 16);
    e->mask = ea_first(high - low);
    e->sum = low;
    e->row_stride = to->row_stride;
    e->pixel_stride = to->pixel_stride;
    e->to = to->data + time * to->time_stride + (int64_t)(epilogue->channel + channel) * (epilogue->is_float ? 4 : 1);
    for (int i = 0; i < epilogue->summands; i++) {
        const ea_buffer *from = epilogue->summand[i].from;
        e->summand[i] = from->data + time * from->time_stride + epilogue->summand[i].channel + channel;
        e->summand_row_stride[i] = from->row_stride;
        e->summand_pixel_stride[i] = from->pixel_stride;
        e->factor[i] = ea_all(epilogue->summand[i].scale);
        shift -= epilogue->summand[i].scale * (float)from->zero_point;
    }
    /* Fold the zero points of summands and destination into the bias: max(x, 0) + shift = max(x + shift, shift). */
    e->scale = ea_load_floats(epilogue->scale + channel, e->mask);
    e->bias = ea_add(ea_load_floats(epilogue->bias + channel, e->mask), ea_all(shift));
    e->lower_bound = ea_all(epilogue->relu ? shift : -INFINITY);
    e->lower_bound_after_sum = ea_all(is_relu ? (float)to->zero_point : epilogue->is_float ? -INFINITY : 0);
    return 1;
}

void ea_restrict_epilogues(ea_tile_epilogues *restricted, const ea_conv *conv, int time, int tile, int tiles,
                           int positions)
{
    restricted->count = 0;
    for (int i = 0; i < tiles; i++)
        for (int index = 0; index < conv->epilogues && restricted->count < EA_TILE_EPILOGUES; index++) {
            ea_tile_epilogue *next = &restricted->items[restricted->count];
            if (restrict_to_tile(next, &conv->epilogue[index], time, tile + i)) {
                next->sum += i * positions * 16;
                restricted->count++;
            }
        }
}

void ea_pending_begin(ea_pending *pending, const ea_tile_epilogues *epilogues, const int32_t *sums)
{
    int pixels = 0;
    for (int index = 0; index < pending->run_count; index++)
        pixels += pending->runs[index].count;
    pending->epilogues = epilogues;
    pending->sums = sums;
    pending->item = pending->run = pending->pixel = 0;
    pending->vectors = pixels * epilogues->count;
}

void ea_pending_do(ea_pending *pending, int vectors)
{
    while (vectors > 0 && pending->vectors > 0) {
        const ea_pixel_run *run = &pending->runs[pending->run];
        int count = run->count - pending->pixel < vectors ? run->count - pending->pixel : vectors;
        apply_variant(&pending->epilogues->items[pending->item], pending->sums, run, pending->pixel, count);
        vectors -= count;
        pending->vectors -= count;
        pending->pixel += count;
        if (pending->pixel == run->count) {
            pending->pixel = 0;
            if (++pending->run == pending->run_count) {
                pending->run = 0;
                pending->item++;
            }
        }
    }
}
