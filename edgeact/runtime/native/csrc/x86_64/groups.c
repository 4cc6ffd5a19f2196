#include "groups.h"

#include "pack.h"

#include <immintrin.h>
#include <stdlib.h>
#include <string.h>

enum { TILE_BYTES = 1024, QUAD_BYTES = 32, LANES = 16, MOST_IN_PAIR = 128, MOST_IN_GROUP = 257, MAX_RANGES = 8, MAX_OPEN = 512 };

/* Weights of 8 outputs for 4 bytes of the input; a lane is a pair of weights that `vpmaddubsw` adds. */
typedef struct {
    int32_t offset;
    int is_complement;
    int largest;               /* of `magnitudes` */
    int16_t magnitudes[LANES]; /* of both weights of a lane, added */
    int8_t weights[QUAD_BYTES];
} quad;

typedef struct {
    __m256i magnitudes;
    int count, is_complement;
    const quad *members[EA_GROUP_MEMBERS];
} group;

/* Frames with the same windows share their groups; a convolution with more than MAX_RANGES different ones reads all. */
typedef struct {
    int count;
    int first[MAX_RANGES], last[MAX_RANGES];
} ranges;

static int find_range(const ranges *all, int first, int last)
{
    for (int i = 0; i < all->count; i++)
        if (all->first[i] == first && all->last[i] == last)
            return i;
    return -1;
}

static ranges find_ranges(const ea_conv *conv)
{
    ranges all = {.count = 0};
    for (int time = 0; time < conv->out_size[0]; time++) {
        int first = conv->frame_windows[time * 2], last = conv->frame_windows[time * 2 + 1];
        if (find_range(&all, first, last) >= 0)
            continue;
        if (all.count == MAX_RANGES)
            return (ranges){.count = 1, .first = {0}, .last = {conv->windows}};
        all.first[all.count] = first;
        all.last[all.count++] = last;
    }
    return all;
}

static int range_of_frame(const ea_conv *conv, const ranges *all, int time)
{
    int index = find_range(all, conv->frame_windows[time * 2], conv->frame_windows[time * 2 + 1]);
    return index >= 0 ? index : 0;
}

static int count_quads(const ea_conv *conv, int first, int last)
{
    return conv->window_quads[last] - conv->window_quads[first];
}

static void set_lane(quad *q, int lane, int first, int second)
{
    q->weights[lane * 2] = (int8_t)first;
    q->weights[lane * 2 + 1] = (int8_t)second;
    q->magnitudes[lane] = (int16_t)(abs(first) + abs(second));
    q->largest = q->magnitudes[lane] > q->largest ? q->magnitudes[lane] : q->largest;
}

/* Weights of one sign that are too large together: what to subtract from the first one. */
static int excess(int first, int second)
{
    int sum = first + second;
    if (first > 0 && second > 0 && sum > MOST_IN_PAIR)
        return sum - MOST_IN_PAIR;
    return first < 0 && second < 0 && sum < -MOST_IN_PAIR ? sum + MOST_IN_PAIR : 0;
}

/* Whether all pairs are exact if every second activation is complemented. */
static int may_complement(const int8_t *weights)
{
    for (int lane = 0; lane < LANES; lane++)
        if (weights[lane * 2 + 1] == INT8_MIN || excess(weights[lane * 2], -weights[lane * 2 + 1]))
            return 0;
    return 1;
}

/* Convert weights to quads whose pairs are exact: 0 if all weights are zero, else 1 or 2. */
static int convert(const int8_t *weights, int32_t offset, quad *to)
{
    int is_exact = 1;
    for (int lane = 0; lane < LANES; lane++)
        is_exact &= !excess(weights[lane * 2], weights[lane * 2 + 1]);
    to[0] = to[1] = (quad){.offset = offset, .is_complement = !is_exact && may_complement(weights)};
    for (int lane = 0; lane < LANES; lane++) {
        int first = weights[lane * 2], second = weights[lane * 2 + 1];
        int rest = to[0].is_complement ? 0 : excess(first, second);
        set_lane(&to[0], lane, first - rest, to[0].is_complement ? -second : second);
        set_lane(&to[1], lane, rest, 0);
    }
    return to[1].largest ? 2 : to[0].largest ? 1 : 0;
}

static int compare_quads(const void *a, const void *b)
{
    const quad *first = a, *second = b;
    if (first->is_complement != second->is_complement)
        return first->is_complement - second->is_complement;
    if (first->largest != second->largest)
        return second->largest - first->largest;
    return first < second ? -1 : 1; /* the same order with every C library */
}

/* Collect the quads of 8 outputs in windows [first, last): plain ones, then complements; the hardest to combine first. */
static int collect(const ea_conv *conv, int half, int first, int last, quad *quads)
{
    const int8_t *weights = conv->weights + (int64_t)(half / 2) * conv->windows * TILE_BYTES + half % 2 * QUAD_BYTES;
    int count = 0;
    for (int i = conv->window_quads[first]; i < conv->window_quads[last]; i++)
        count += convert(weights + conv->quads[i].weights, conv->quads[i].input, &quads[count]);
    qsort(quads, count, sizeof *quads, compare_quads);
    return count;
}

/* Put each quad into the first group in which it fits, of the last MAX_OPEN ones; returns the number of groups. */
static int combine(const quad *quads, int count, group *groups)
{
    const __m256i most = _mm256_set1_epi16(MOST_IN_GROUP);
    int total = 0, open = 0; /* groups before `open` are full */
    for (int i = 0; i < count; i++) {
        __m256i magnitudes = _mm256_loadu_si256((const __m256i *)quads[i].magnitudes), sum = magnitudes;
        int index = total - open > MAX_OPEN ? total - MAX_OPEN : open;
        for (; index < total; index++) {
            sum = _mm256_add_epi16(magnitudes, groups[index].magnitudes);
            int is_open = groups[index].count < EA_GROUP_MEMBERS;
            if (is_open && groups[index].is_complement == quads[i].is_complement && _mm256_testz_si256(_mm256_cmpgt_epi16(sum, most), most))
                break;
        }
        if (index == total)
            groups[total++] = (group){.magnitudes = sum = magnitudes, .is_complement = quads[i].is_complement};
        groups[index].magnitudes = sum;
        groups[index].members[groups[index].count++] = &quads[i];
        while (open < total && groups[open].count == EA_GROUP_MEMBERS)
            open++;
    }
    return total;
}

/* Set the first summands of a group, which move its smallest sums to -32768, and subtract what is constant from the first
 * sums. */
static void set_first_summands(const group *g, int16_t *summands, int32_t *first_sums)
{
    for (int lane = 0; lane < LANES; lane++) {
        int negative = 0;
        for (int i = 0; i < g->count; i++)
            for (int k = 0; k < 2; k++) {
                int weight = g->members[i]->weights[lane * 2 + k];
                negative -= weight < 0 ? weight : 0;
                first_sums[lane / 2] -= g->is_complement && k == 1 ? 255 * weight : 0;
            }
        summands[lane] = (int16_t)(255 * negative - 32768);
        first_sums[lane / 2] -= summands[lane];
    }
}

/* Sort groups: plain ones, then complements, by descending number of members. */
static int compare_groups(const void *a, const void *b)
{
    const group *first = a, *second = b;
    if (first->is_complement != second->is_complement)
        return first->is_complement - second->is_complement;
    if (first->count != second->count)
        return second->count - first->count;
    return first->members[0] < second->members[0] ? -1 : 1;
}

/* Returns the bytes. */
static int64_t write_groups(group *groups, int count, uint8_t *to)
{
    ea_groups *header = (ea_groups *)to;
    memset(header, 0, sizeof *header);
    qsort(groups, count, sizeof *groups, compare_groups);
    uint8_t *vector = to + sizeof *header;
    for (int i = 0; i < count; i++) {
        header->groups[groups[i].is_complement][EA_GROUP_MEMBERS - groups[i].count]++;
        header->vectors += 1 + groups[i].count;
        set_first_summands(&groups[i], (int16_t *)vector, header->first_sums);
        vector += EA_GROUP_VECTOR;
        for (int k = 0; k < groups[i].count; k++, vector += EA_GROUP_VECTOR)
            memcpy(vector, groups[i].members[k]->weights, QUAD_BYTES);
    }
    int32_t *offset = (int32_t *)vector;
    for (int i = 0; i < count; i++)
        for (int k = 0; k < groups[i].count; k++)
            *offset++ = groups[i].members[k]->offset;
    return (uint8_t *)offset - to;
}

static int64_t aligned(int64_t bytes) { return (bytes + EA_GROUP_VECTOR - 1) / EA_GROUP_VECTOR * EA_GROUP_VECTOR; }

/* The packed form begins with the position of the groups of each frame and 8 outputs. */
static int64_t table_bytes(const ea_conv *conv)
{
    return aligned((int64_t)conv->out_size[0] * conv->tiles * 2 * sizeof(int64_t));
}

const ea_groups *ea_find_groups(const ea_conv *conv, int time, int half)
{
    const int64_t *position = (const int64_t *)conv->packed + (int64_t)time * conv->tiles * 2 + half;
    return (const ea_groups *)(conv->packed + *position);
}

int64_t ea_group_bytes(const ea_conv *conv)
{
    const ranges all = find_ranges(conv);
    int64_t bytes = table_bytes(conv), quad_bytes = 2 * (2 * EA_GROUP_VECTOR + sizeof(int32_t));
    for (int i = 0; i < all.count; i++)
        bytes += conv->tiles * 2 * (aligned(count_quads(conv, all.first[i], all.last[i]) * quad_bytes) +
                                    (int64_t)sizeof(ea_groups));
    return bytes;
}

int64_t ea_pack_groups(const ea_conv *conv, uint8_t *to)
{
    const ranges all = find_ranges(conv);
    int most = count_quads(conv, 0, conv->windows) * 2 + 2;
    quad *quads = malloc(most * sizeof *quads);
    group *groups = aligned_alloc(EA_GROUP_VECTOR, most * sizeof *groups);
    int64_t used = quads && groups ? table_bytes(conv) : -1;
    for (int i = 0; i < all.count && used > 0; i++)
        for (int half = 0; half < conv->tiles * 2; half++) {
            int count = combine(quads, collect(conv, half, all.first[i], all.last[i], quads), groups);
            for (int time = 0; time < conv->out_size[0]; time++)
                if (range_of_frame(conv, &all, time) == i)
                    ((int64_t *)to)[(int64_t)time * conv->tiles * 2 + half] = used;
            used = aligned(used + write_groups(groups, count, to + used));
        }
    free(quads);
    free(groups);
    return used;
}
