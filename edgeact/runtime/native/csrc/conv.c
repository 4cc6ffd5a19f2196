/* Convolutions: how the output is divided into lines, blocks and chunks. */
#include "products.h"
#include "winograd.h"

enum { PART_PIXELS = 256, LARGE_WEIGHT_BYTES = 768 << 10 };

/* A line is a sequence of output pixels at a constant distance in the input. At stride 1 a line is a whole frame:
 * the positions of the padding between two rows are computed and dropped. At other strides padding would cost too
 * much, and a line is one row, or two rows of at most EA_TILE_PIXELS pixels, which would leave half of a block
 * empty. */
typedef struct {
    int flat, paired;
    int rows;           /* lines of a frame */
    int lines, length;  /* of the output; positions of a line, padding included */
    int pitch;          /* positions from one row to the next in a flat line */
    int64_t pixel_step; /* bytes from one position to the next */
    int parts;          /* of a line */
    int by_outputs;     /* whether chunks differ in outputs and share the lines */
} line_plan;

static line_plan make_plan(const ea_conv *conv)
{
    line_plan p;
    p.flat = conv->stride[1] == 1 && conv->stride[2] == 1;
    p.pitch = (int)(conv->from->row_stride / conv->from->pixel_stride);
    p.paired = !p.flat && conv->out_size[2] <= EA_TILE_PIXELS;
    p.rows = p.flat ? 1 : p.paired ? (conv->out_size[1] + 1) / 2 : conv->out_size[1];
    p.lines = conv->out_size[0] * p.rows;
    p.length = p.flat     ? (conv->out_size[1] - 1) * p.pitch + conv->out_size[2]
               : p.paired ? 2 * EA_TILE_PIXELS
                          : conv->out_size[2];
    p.pixel_step = conv->from->pixel_stride * conv->stride[2];
    p.by_outputs = (int64_t)conv->tiles * conv->windows * 1024 > LARGE_WEIGHT_BYTES && conv->tiles > 2;
    p.parts = (p.length + PART_PIXELS - 1) / PART_PIXELS;
    return p;
}

int ea_conv_chunks(const ea_conv *conv)
{
    int chunks = ea_winograd_chunks(conv);
    if (chunks)
        return chunks;
    line_plan p = make_plan(conv);
    return p.by_outputs ? (conv->tiles + 1) / 2 : p.lines * p.parts;
}

/* Find the output pixels among positions [begin, begin + count) of a line that begins in row `first`; the others
 * are padding. */
static int find_runs(const ea_conv *conv, const line_plan *p, int first, int begin, int count, ea_pixel_run *runs)
{
    if (!p->flat) {
        runs[0] = (ea_pixel_run){first, begin, p->paired ? conv->out_size[2] : count, 0};
        runs[1] = (ea_pixel_run){first + 1, begin, conv->out_size[2], EA_TILE_PIXELS};
        return p->paired && first + 1 < conv->out_size[1] ? 2 : 1;
    }
    int run_count = 0;
    for (int position = begin; position < begin + count;) {
        int row = position / p->pitch, pixel = position % p->pitch, end = begin + count;
        int next = (row + 1) * p->pitch < end ? (row + 1) * p->pitch : end;
        int last = pixel + next - position < conv->out_size[2] ? pixel + next - position : conv->out_size[2];
        if (pixel < last)
            runs[run_count++] = (ea_pixel_run){row, pixel, last - pixel, position - begin};
        position = next;
    }
    return run_count;
}

enum { MAX_TILE_PAIRS = 8 };

/* Compute positions [begin, end) of a line for the outputs of tiles [tile, last), in blocks of 1024 sums; the
 * epilogues of a block run during the products of the next one. All outputs of a pixel come in succession, while
 * its inputs are in the L1 cache. */
static void compute_line(const ea_conv *conv, const line_plan *p, int line, int begin, int end, int tile, int last,
                         int isa)
{
    int32_t sums[2][EA_BLOCK_SUMS] __attribute__((aligned(64)));
    ea_tile_epilogues epilogues[MAX_TILE_PAIRS];
    ea_pending pending[2];
    int current = 0, pairs = 0, most = EA_BLOCK_SUMS / 16 / (last - tile > 1 || p->paired ? 2 : 1);
    int time = line / p->rows, row = line % p->rows * (p->paired ? 2 : 1);
    int64_t row_step = conv->stride[1] * conv->from->row_stride;
    const uint8_t *from = conv->from->data + time * conv->stride[0] * conv->from->time_stride + row * row_step;
    ea_block block = {.pixel_step = p->pixel_step, .positions = most, .second_tile = EA_TILE_PIXELS * p->pixel_step};
    block.time = time;
    block.row = p->paired ? EA_TILE_PIXELS : most;
    block.first_window = conv->frame_windows[time * 2];
    block.last_window = conv->frame_windows[time * 2 + 1];
    block.first_quad = conv->quads + conv->window_quads[block.first_window];
    block.last_quad = conv->quads + conv->window_quads[block.last_window];
    if (p->paired)
        block.second_tile = row + 1 < conv->out_size[1] ? row_step : 0;
    for (int first = tile; first < last; first += 2)
        ea_restrict_epilogues(&epilogues[pairs++], conv, time, first, last - first > 1 ? 2 : 1, most);
    pending[1].vectors = 0;
    for (int position = begin; position < end; position += most) {
        int count = end - position < most ? end - position : most;
        block.from = from + position * p->pixel_step;
        block.used = p->paired ? conv->out_size[2] : count;
        for (int pair = 0; pair < pairs; pair++, current = !current) {
            int first = tile + pair * 2, tiles = last - first > 1 ? 2 : 1;
            ea_products(conv, &block, first, tiles, sums[current], &pending[!current], isa);
            pending[current].run_count = find_runs(conv, p, row, position, count, pending[current].runs);
            ea_pending_begin(&pending[current], &epilogues[pair], sums[current]);
        }
    }
    ea_pending_do(&pending[!current], pending[!current].vectors);
}

void ea_conv_do(const ea_conv *conv, int chunk, int isa, int thread)
{
    if (ea_winograd_chunks(conv)) {
        ea_winograd_do(conv, chunk, thread);
        return;
    }
    line_plan p = make_plan(conv);
    if (p.by_outputs) {
        int last = chunk * 2 + 2 < conv->tiles ? chunk * 2 + 2 : conv->tiles;
        for (int line = 0; line < p.lines; line++)
            compute_line(conv, &p, line, 0, p.length, chunk * 2, last, isa);
        return;
    }
    int line = chunk / p.parts, begin = chunk % p.parts * PART_PIXELS;
    int end = begin + PART_PIXELS < p.length ? begin + PART_PIXELS : p.length;
    for (int tile = 0; tile < conv->tiles; tile += 2 * MAX_TILE_PAIRS) {
        int last = tile + 2 * MAX_TILE_PAIRS < conv->tiles ? tile + 2 * MAX_TILE_PAIRS : conv->tiles;
        compute_line(conv, &p, line, begin, end, tile, last, isa);
    }
}
