/* Convolutions: what is computed together, and what becomes of the sums. */
#include "products.h"

enum { PART = 256, LARGE_WEIGHTS = 768 << 10 };

/* Pixels that are computed together: all of a frame where the stride is 1 (the margin between two rows is computed and
 * thrown away), else a row, or two of at most EA_HALF pixels, which would leave half of a block empty. */
typedef struct {
    int flat, paired;
    int rows; /* of lines in a frame */
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
    p.paired = !p.flat && conv->out[2] <= EA_HALF;
    p.rows = p.flat ? 1 : p.paired ? (conv->out[1] + 1) / 2 : conv->out[1];
    p.lines = conv->out[0] * p.rows;
    p.length = p.flat ? (conv->out[1] - 1) * p.pitch + conv->out[2] : p.paired ? 2 * EA_HALF : conv->out[2];
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

/* The output pixels among positions [begin, begin + count) of a line that begins in `first`; the rest are margins. */
static int runs_of(const ea_conv *conv, const plan *p, int first, int begin, int count, ea_run_of_pixels *runs)
{
    if (!p->flat) {
        runs[0] = (ea_run_of_pixels){first, begin, p->paired ? conv->out[2] : count, 0};
        runs[1] = (ea_run_of_pixels){first + 1, begin, conv->out[2], EA_HALF};
        return p->paired && first + 1 < conv->out[1] ? 2 : 1;
    }
    int found = 0;
    for (int position = begin; position < begin + count;) {
        int row = position / p->pitch, pixel = position % p->pitch, end = begin + count;
        int next = (row + 1) * p->pitch < end ? (row + 1) * p->pitch : end;
        int last = pixel + next - position < conv->out[2] ? pixel + next - position : conv->out[2];
        if (pixel < last)
            runs[found++] = (ea_run_of_pixels){row, pixel, last - pixel, position - begin};
        position = next;
    }
    return found;
}

enum { PAIRS = 8 };

/* Positions [begin, end) of a line, outputs of tiles [tile, last): blocks of 1024 sums, each stored while the next one
 * is computed. All outputs of a pixel follow each other, while its inputs are in the nearest cache. */
static void line_done(const ea_conv *conv, const plan *p, int line, int begin, int end, int tile, int last,
                      int instructions)
{
    int32_t sums[2][EA_SUMS] __attribute__((aligned(64)));
    ea_sliced sliced[PAIRS];
    ea_rest rest[2];
    int which = 0, pairs = 0, most = EA_SUMS / 16 / (last - tile > 1 || p->paired ? 2 : 1);
    int time = line / p->rows, row = line % p->rows * (p->paired ? 2 : 1);
    int64_t down = conv->stride[1] * conv->from->row;
    const uint8_t *from = conv->from->data + time * conv->stride[0] * conv->from->time + row * down;
    ea_block block = {.step = p->step, .positions = most, .second = EA_HALF * p->step};
    if (p->paired)
        block.second = row + 1 < conv->out[1] ? down : 0;
    for (int first = tile; first < last; first += 2)
        ea_slice_stores(&sliced[pairs++], conv, time, first, last - first > 1 ? 2 : 1, most);
    rest[1].left = 0;
    for (int position = begin; position < end; position += most) {
        int count = end - position < most ? end - position : most;
        block.from = from + position * p->step;
        for (int pair = 0; pair < pairs; pair++, which = !which) {
            int begins = tile + pair * 2, tiles = last - begins > 1 ? 2 : 1;
            if (instructions == EA_AMX)
                ea_products_amx(conv, &block, begins, tiles, sums[which], &rest[!which]);
            else
                ea_products_vnni(conv, &block, begins, tiles, sums[which], &rest[!which]);
            rest[which].run_count = runs_of(conv, p, row, position, count, rest[which].runs);
            ea_rest_begin(&rest[which], &sliced[pair], sums[which]);
        }
    }
    ea_rest_do(&rest[!which], rest[!which].left);
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
    for (int tile = 0; tile < conv->tiles; tile += 2 * PAIRS) {
        int last = tile + 2 * PAIRS < conv->tiles ? tile + 2 * PAIRS : conv->tiles;
        line_done(conv, &p, line, begin, end, tile, last, instructions);
    }
}
