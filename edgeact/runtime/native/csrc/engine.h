/* INT8 inference of 3-D CNNs on x86-64 and ARM: uint8 activations, channels-last; int8 weights.
 *
 * A program is a list of instructions over buffers and float arrays; edgeact/runtime/native/library.py mirrors
 * the structures below for ctypes. The caller that opens an engine owns all memory that the structures point to,
 * and keeps it while the engine runs. Nothing is checked here: reading.py refuses every program that would reach
 * outside its memory. */
#ifndef EDGEACT_ENGINE_H
#define EDGEACT_ENGINE_H

#include <stdint.h>

#define EA_PUBLIC __attribute__((visibility("default")))

/* Version of the structures below; library.py expects the same. */
enum { EA_VERSION = 7 };
EA_PUBLIC int ea_version(void);

/* Instruction sets: x86-64, then ARM. */
enum { EA_AVX2, EA_AVX_VNNI, EA_AVX512_VNNI, EA_AMX_INT8, EA_NEON, EA_NEON_DOTPROD, EA_NEON_I8MM };

/* A quantized activation (time, height, width, channel). `data` is the first value behind the leading padding;
 * strides are in bytes. */
typedef struct {
    uint8_t *data;
    int64_t time_stride, row_stride, pixel_stride;
    int32_t size[3]; /* T, H, W */
    int32_t channels;
    int32_t zero_point; /* 0 or 128 */
} ea_buffer;

/* A residual that an epilogue dequantizes and adds. */
typedef struct {
    const ea_buffer *from;
    int32_t channel; /* the first one; the others follow */
    float scale;
} ea_summand;

/* Store output channels [first, last) of a convolution, as uint8 or float32: relu(relu(sum * scale + bias) +
 * summands). */
typedef struct {
    int32_t first, last;
    const ea_buffer *to;
    int32_t channel;
    int32_t relu, relu_after_sum, is_float;
    int32_t accumulate; /* add to the bytes in `to`, saturating */
    int32_t summands;
    ea_summand summand[2];
    const float *scale, *bias; /* (last - first) each */
} ea_epilogue;

/* Forms of weights: `weights` as they are, or `packed` (x86_64/groups.h, x86_64/winograd_form.h). */
enum { EA_FORM_WINDOWS, EA_FORM_GROUPS, EA_FORM_WINOGRAD };

/* A group of 4 bytes that has a weight: offset from the output's first input value, and of its weights in a tile. */
typedef struct {
    int32_t input, weights;
} ea_quad;

/* Implicit im2col: `windows` of 64 bytes, read in place, cover the inputs of one output. */
typedef struct {
    const ea_buffer *from;
    int32_t out_size[3];
    int32_t stride[3];
    int32_t kernel[3], padding[3];
    int32_t channel, inputs, outputs; /* channels: the first one of `from`, and how many */
    int32_t form;
    int32_t windows;
    const int32_t *offsets;       /* of the windows, in bytes from the output's first input value */
    const ea_quad *quads;         /* of all windows */
    const int32_t *window_quads;  /* (windows + 1): first quad of each window, and the end */
    const int32_t *frame_windows; /* (out T, 2): first window and end of those that read more than padding */
    const int8_t *weights;        /* (tiles, windows, 16 quads, 16 outputs, 4 bytes) */
    const uint8_t *packed;        /* weights in another form, NULL if `form` is EA_FORM_WINDOWS */
    uint8_t *scratch;             /* memory of the first thread; `scratch_bytes` behind it begins the next one's */
    int64_t scratch_bytes;
    int32_t tiles;                /* of 16 outputs, rounded up */
    int32_t epilogues;
    const ea_epilogue *epilogue;
} ea_conv;

/* Quantize float32 (channels, T, H, W) with space-to-depth: channel (c * block_h + i) * block_w + j holds pixel
 * (i, j). */
typedef struct {
    const float *from;
    int32_t channels, size[3], block[3];
    float scale; /* reciprocal of the quantization scale */
    const ea_buffer *to;
} ea_input;

typedef struct {
    const ea_buffer *from, *to;
    int32_t kernel[3], stride[3], padding[3];
} ea_pool;

/* Elementwise float32 arithmetic on (T, H, W, C) arrays; a stride of 0 broadcasts. */
enum { EA_MUL, EA_ADD, EA_SUB, EA_DIV, EA_MAX };
typedef struct {
    int32_t op;
    int32_t size[4];
    const float *a, *b;
    int64_t a_stride[4], b_stride[4]; /* in elements */
    float *to;
} ea_binary;

enum { EA_RELU, EA_SIGMOID, EA_TANH, EA_SQRT, EA_EXP, EA_COPY };
typedef struct {
    int32_t op;
    int64_t count;
    const float *from;
    float *to;
} ea_unary;

enum { EA_REDUCE_SUM, EA_REDUCE_MEAN, EA_REDUCE_MAX };
typedef struct {
    int32_t op;
    int32_t size[4], axes[4]; /* axes: whether each is reduced */
    const float *from;
    float *to;
} ea_reduce;

typedef struct {
    int32_t inputs, outputs;
    const float *from, *weights, *bias; /* weights (outputs, inputs) */
    float *to;
} ea_dense;

/* Float32 convolution at stride 1 with zero padding: (T, H, W, C), weights (outputs, kT, kH, kW, C). */
typedef struct {
    int32_t size[3], channels, outputs, kernel[3], padding[3];
    const float *from, *weights, *bias;
    float *to;
} ea_float_conv;

/* Mean of each window of a (T, H, W, C) array; padding counts as 0. */
typedef struct {
    int32_t size[3], channels, out_size[3], kernel[3], stride[3], padding[3];
    const float *from;
    float *to;
} ea_float_pool;

/* float32 (T, H, W, C) to a slice of a buffer's channels. */
typedef struct {
    const float *from;
    int32_t channel, channels; /* of `to`: the first one, and how many */
    float scale;               /* reciprocal of the quantization scale */
    const ea_buffer *to;
} ea_quantize;

/* A slice of a buffer's channels to a slice of an array's. */
typedef struct {
    const ea_buffer *from;
    int32_t channel, channels; /* of `from`: the first one, and how many */
    float scale;
    float *to;
    int32_t to_channel, to_channels; /* of `to`: the first one, and the channels of a pixel */
} ea_dequantize;

/* One instruction of a program. */
enum { EA_OP_INPUT, EA_OP_CONV, EA_OP_POOL, EA_OP_BINARY, EA_OP_UNARY, EA_OP_REDUCE, EA_OP_DENSE, EA_OP_FLOAT_CONV,
       EA_OP_QUANTIZE, EA_OP_DEQUANTIZE, EA_OP_FLOAT_POOL };
typedef struct {
    int32_t opcode;
    const void *arguments; /* the structure of that opcode */
} ea_op;

typedef struct ea_engine ea_engine;

/* The instruction sets of this processor as bits, 1 << EA_AVX2. Asks the kernel for permission to use tiles. */
EA_PUBLIC int ea_isas(void);
/* The form of weights by which an instruction set computes a convolution the fastest. */
EA_PUBLIC int ea_choose_form(const ea_conv *conv, int isa);
/* Convert the weights to `form`, from `weights` or from int8 (outputs, kT, kH, kW, inputs), and return the bytes used: 0 if
 * `form` is EA_FORM_WINDOWS, -1 without memory. `to` has room for `ea_pack_bytes`. */
EA_PUBLIC int64_t ea_pack(const ea_conv *conv, const int8_t *taps, uint8_t *to);
EA_PUBLIC int64_t ea_pack_bytes(const ea_conv *conv);
/* Bytes of scratch memory that each thread needs for a convolution in its form. */
EA_PUBLIC int64_t ea_scratch_bytes(const ea_conv *conv);
/* Start an engine of `threads` threads, the caller's among them; NULL if they cannot be started. */
EA_PUBLIC ea_engine *ea_open(int threads, int isa);
/* Run all instructions in order; one caller at a time. `us` is NULL or receives the microseconds of each
 * instruction. */
EA_PUBLIC void ea_run(ea_engine *engine, const ea_op *ops, int count, double *us);
EA_PUBLIC void ea_close(ea_engine *engine);

/* Internal: an instruction is divided into `ea_chunks` independent chunks; `ea_do` computes one of them on a
 * thread. */
int ea_chunks(const ea_op *op);
void ea_do(const ea_op *op, int chunk, int isa, int thread);
/* The compiled form of `ea_do` for an instruction set. */
typedef void ea_compute(const ea_op *op, int chunk, int isa, int thread);
ea_compute *ea_compute_for(int isa);
int ea_conv_chunks(const ea_conv *conv);
void ea_conv_do(const ea_conv *conv, int chunk, int isa, int thread);
/* Pixels of a block at most, pixels of one AMX tile, and integer sums of a block: 16 for each pixel and output
 * tile. */
enum { EA_BLOCK_PIXELS = 64, EA_TILE_PIXELS = 16, EA_BLOCK_SUMS = 1024 };
void ea_tiles_begin(void);
void ea_tiles_end(void);

#endif
