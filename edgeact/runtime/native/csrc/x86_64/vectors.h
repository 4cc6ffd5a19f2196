#ifndef EDGEACT_VECTORS_H
#define EDGEACT_VECTORS_H

#include <immintrin.h>

#define EA_INLINE static inline __attribute__((always_inline))

EA_INLINE void ea_pause(void) { _mm_pause(); }

#ifdef EA_AVX512
#include "vectors_avx512.h"
#else
#include "vectors_avx2.h"
#endif

#endif
