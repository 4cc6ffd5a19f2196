/* Vectors of 16 floats and of 64 bytes, by AVX-512. vectors_avx2.h and aarch64/vectors.h have the same functions with the
 * same results. */
#ifndef EDGEACT_VECTORS_AVX512_H
#define EDGEACT_VECTORS_AVX512_H

typedef __m512 ea_floats;
typedef __mmask16 ea_mask; /* of the first values of 16 */
typedef __m512i ea_bytes;

EA_INLINE ea_mask ea_first(int count) { return (ea_mask)((1u << count) - 1); }
EA_INLINE ea_floats ea_all(float value) { return _mm512_set1_ps(value); }
EA_INLINE ea_floats ea_add(ea_floats a, ea_floats b) { return _mm512_add_ps(a, b); }
EA_INLINE ea_floats ea_multiply_add(ea_floats a, ea_floats b, ea_floats c) { return _mm512_fmadd_ps(a, b, c); }
/* a > b ? a : b, so b if either is NaN. */
EA_INLINE ea_floats ea_max(ea_floats a, ea_floats b) { return _mm512_max_ps(a, b); }

EA_INLINE ea_floats ea_load_floats(const float *from, ea_mask mask) { return _mm512_maskz_loadu_ps(mask, from); }
EA_INLINE void ea_store_floats(void *to, ea_mask mask, ea_floats value) { _mm512_mask_storeu_ps(to, mask, value); }

/* Integer sums as floats; `full`: all 16, aligned to 64 bytes. */
EA_INLINE ea_floats ea_load_sums(const int32_t *from, ea_mask mask, int full)
{
    return _mm512_cvtepi32_ps(full ? _mm512_load_si512(from) : _mm512_maskz_loadu_epi32(mask, from));
}

EA_INLINE __m128i ea_load_16_bytes(const uint8_t *from, ea_mask mask, int full)
{
    return full ? _mm_loadu_si128((const __m128i *)from) : _mm_maskz_loadu_epi8(mask, from);
}

/* Bytes as floats. */
EA_INLINE ea_floats ea_load_activations(const uint8_t *from, ea_mask mask, int full)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(ea_load_16_bytes(from, mask, full)));
}

/* Round values of at least 0 to bytes, ties to even, and store them or add them to the bytes there, saturating. */
EA_INLINE void ea_store_quantized(uint8_t *to, ea_mask mask, int full, int accumulate, ea_floats value)
{
    __m128i quantized = _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(value));
    if (accumulate)
        quantized = _mm_adds_epu8(quantized, ea_load_16_bytes(to, mask, full));
    if (full)
        _mm_storeu_si128((__m128i *)to, quantized);
    else
        _mm_mask_storeu_epi8(to, mask, quantized);
}

EA_INLINE __mmask64 ea_first_bytes(int count) { return count < 64 ? (1ull << count) - 1 : ~0ull; }
EA_INLINE ea_bytes ea_zero_bytes(void) { return _mm512_setzero_si512(); }
/* The larger of `largest` and the first `count` bytes in memory, 64 at most. */
EA_INLINE ea_bytes ea_max_bytes(ea_bytes largest, const uint8_t *from, int count)
{
    return _mm512_max_epu8(largest, _mm512_maskz_loadu_epi8(ea_first_bytes(count), from));
}
EA_INLINE void ea_store_bytes(uint8_t *to, int count, ea_bytes value)
{
    _mm512_mask_storeu_epi8(to, ea_first_bytes(count), value);
}

#endif
