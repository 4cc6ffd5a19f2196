/* INT8 inference of 3-D CNNs on x86-64: activations uint8, channels last, weights int8.
 *
 * A program is a list of steps over buffers; both are laid out by edgeact/runtime/native/program.py, which holds the same
 * structures for ctypes. Whoever opens an engine owns all memory that steps point to, and keeps it while steps run.
 */
#ifndef EDGEACT_ENGINE_H
#define EDGEACT_ENGINE_H

#include <stdint.h>

#define EA_PUBLIC __attribute__((visibility("default")))

/* Of these structures; library.py expects the same. */
enum { EA_VERSION = 1 };
EA_PUBLIC int ea_version(void);

enum { EA_VNNI = 1, EA_AMX = 2 };

/* Features (time, height, width, channel); `data` is the first value inside the margin of padding. Strides in bytes. */
typedef struct {
    uint8_t *data;
    int64_t time, row, pixel;
    int32_t size[3]; /* T, H, W */
    int32_t channels;
    int32_t zero; /* what stands for 0: 0 or 128 */
} ea_features;

/* Something that is added to a convolution's result before it is stored. */
typedef struct {
    const ea_features *from;
    int32_t channel; /* there; its neighbours follow */
    float scale;
} ea_summand;

/* Where output channels [first, last) go: relu(acc * scale + bias) + summands, again relu, to uint8 or
 * float32. */
typedef struct {
    int32_t first, last;
    const ea_features *to;
    int32_t channel;
    int32_t relu, relu_sum, is_float;
    int32_t onto; /* added to the bytes that lie there */
    int32_t summands;
    ea_summand summand[2];
    const float *scale, *bias; /* one for each of [first, last) */
} ea_store;

typedef struct {
    const ea_features *from;
    int32_t out[3];
    int32_t stride[3];
    int32_t windows;             /* of 64 bytes of the input that one output needs */
    const int32_t *offsets;      /* of the windows, in bytes from the output's first input value */
    const int32_t *quads;        /* how many 4-byte groups of a window have weights */
    const int8_t *weights;       /* (outputs / 16, windows, 16, 16, 4): groups of 4 inputs for 16 outputs */
    int32_t tiles;               /* outputs / 16, rounded up */
    int32_t stores;
    const ea_store *store;
} ea_conv;

/* float32 (channels, T, H, W) -> uint8 in blocks: channel (c * block_h + i) * block_w + j holds pixel (i, j). */
typedef struct {
    const float *from;
    int32_t channels, size[3], block[3];
    float scale; /* of the division: 1 / step */
    const ea_features *to;
} ea_input;

typedef struct {
    const ea_features *from, *to;
    int32_t kernel[3], stride[3], pad[3];
} ea_pool;

/* Arithmetic in float32 on (T, H, W, C) arrays; a stride of 0 repeats. */
enum { EA_MUL, EA_ADD, EA_SUB, EA_DIV, EA_MAX };
typedef struct {
    int32_t kind;
    int32_t size[4];
    const float *a, *b;
    int64_t a_stride[4], b_stride[4]; /* in values */
    float *to;
} ea_binary;

enum { EA_RELU, EA_SIGMOID, EA_TANH, EA_SQRT, EA_EXP, EA_COPY };
typedef struct {
    int32_t kind;
    int64_t count;
    const float *from;
    float *to;
} ea_unary;

enum { EA_SUM, EA_MEAN, EA_LARGEST };
typedef struct {
    int32_t kind;
    int32_t size[4], over[4];
    const float *from;
    float *to;
} ea_reduce;

typedef struct {
    int32_t inputs, outputs;
    const float *from, *weights, *bias; /* weights (outputs, inputs) */
    float *to;
} ea_dense;

/* Small convolution in float32 at stride 1: (T, H, W, C) with zeros around, weights (outputs, kT, kH, kW, C). */
typedef struct {
    int32_t size[3], channels, outputs, kernel[3], pad[3];
    const float *from, *weights, *bias;
    float *to;
} ea_small_conv;

/* float32 (T, H, W, C) -> uint8, and back; part of the channels. */
typedef struct {
    const float *from;
    int32_t channel, channels; /* of `to`: first, and how many */
    float scale;
    const ea_features *to;
} ea_round;
typedef struct {
    const ea_features *from;
    int32_t channel, channels; /* of `from` */
    float scale;
    float *to;
    int32_t to_channel, to_channels; /* of `to`: first, and how many it has in all */
} ea_restore;

enum { EA_STEP_INPUT, EA_STEP_CONV, EA_STEP_POOL, EA_STEP_BINARY, EA_STEP_UNARY, EA_STEP_REDUCE, EA_STEP_DENSE,
       EA_STEP_SMALL_CONV, EA_STEP_ROUND, EA_STEP_RESTORE };
typedef struct {
    int32_t kind;
    const void *what;
} ea_step;

typedef struct ea_engine ea_engine;

/* The best instruction set here: EA_AMX, EA_VNNI, or 0. Asks the kernel for the tiles. */
EA_PUBLIC int ea_instructions(void);
/* Threads, the caller's among them; NULL where none could be started. */
EA_PUBLIC ea_engine *ea_open(int threads, int instructions);
/* All steps in turn; one caller at a time. `us` is NULL or takes the microseconds of each step. */
EA_PUBLIC void ea_run(ea_engine *engine, const ea_step *steps, int count, double *us);
EA_PUBLIC void ea_close(ea_engine *engine);

/* Between the files. A step is dealt out in chunks; `ea_chunks` says in how many, `ea_do` does one of them. */
int ea_chunks(const ea_step *step);
void ea_do(const ea_step *step, int chunk, int instructions);
int ea_conv_chunks(const ea_conv *conv);
void ea_conv_do(const ea_conv *conv, int chunk, int instructions);
/* Pixels computed together at most, and those of one AMX tile; sums, at 16 an output tile. */
enum { EA_POSITIONS = 64, EA_HALF = 16, EA_SUMS = 1024 };
void ea_tiles_begin(void);
void ea_tiles_end(void);

#endif
