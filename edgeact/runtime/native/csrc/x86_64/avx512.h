/* The engine is compiled twice: as it is, for AVX2, and with vectors of 512 bits under these names (avx512.c). */
#ifndef EDGEACT_AVX512_H
#define EDGEACT_AVX512_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define EA_AVX512
#define ea_chunks ea_chunks_avx512
#define ea_conv_chunks ea_conv_chunks_avx512
#define ea_conv_do ea_conv_do_avx512
#define ea_do ea_do_avx512
#define ea_pending_begin ea_pending_begin_avx512
#define ea_pending_do ea_pending_do_avx512
#define ea_products ea_products_avx512
#define ea_restrict_epilogues ea_restrict_epilogues_avx512

/* All functions between BEGIN and END use AVX-512; the headers of the system, above, do not. */
#define EA_AVX512_FEATURES "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni"
#ifdef __clang__
#define EA_AVX512_BEGIN \
    _Pragma("clang attribute push(__attribute__((target(EA_AVX512_FEATURES))), apply_to = function)")
#define EA_AVX512_END _Pragma("clang attribute pop")
#else
#define EA_AVX512_BEGIN \
    _Pragma("GCC push_options") _Pragma("GCC target(\"avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni\")")
#define EA_AVX512_END _Pragma("GCC pop_options")
#endif

#endif
