/* Vectors of 16 floats and of 64 bytes, by AVX2. vectors_avx512.h and aarch64/vectors.h have the same functions with the
 * same results. */
#ifndef EDGEACT_VECTORS_AVX2_H
#define EDGEACT_VECTORS_AVX2_H

#include <stdint.h>
#include <string.h>

typedef struct {
    __m256 low, high;
} ea_floats;
typedef struct {
    int count; /* how many of the first values of 16 */
    __m256i low, high;
} ea_mask;
typedef struct {
    __m128i part[4];
} ea_bytes;

EA_INLINE ea_mask ea_first(int count)
{
    const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return (ea_mask){count, _mm256_cmpgt_epi32(_mm256_set1_epi32(count), index),
                     _mm256_cmpgt_epi32(_mm256_set1_epi32(count - 8), index)};
}

EA_INLINE ea_floats ea_all(float value) { return (ea_floats){_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
EA_INLINE ea_floats ea_add(ea_floats a, ea_floats b)
{
    return (ea_floats){_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
EA_INLINE ea_floats ea_multiply_add(ea_floats a, ea_floats b, ea_floats c)
{
    return (ea_floats){_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
/* a > b ? a : b, so b if either is NaN. */
EA_INLINE ea_floats ea_max(ea_floats a, ea_floats b)
{
    return (ea_floats){_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}

EA_INLINE ea_floats ea_load_floats(const float *from, ea_mask mask)
{
    __m256 high = _mm256_setzero_ps();
    if (mask.count > 8) /* else `from + 8` would be no address of the array */
        high = _mm256_maskload_ps(from + 8, mask.high);
    return (ea_floats){_mm256_maskload_ps(from, mask.low), high};
}
EA_INLINE void ea_store_floats(void *to, ea_mask mask, ea_floats value)
{
    _mm256_maskstore_ps(to, mask.low, value.low);
    if (mask.count > 8)
        _mm256_maskstore_ps((float *)to + 8, mask.high, value.high);
}

/* Integer sums as floats; `full`: all 16, aligned to 64 bytes. */
EA_INLINE ea_floats ea_load_sums(const int32_t *from, ea_mask mask, int full)
{
    __m256i low, high = _mm256_setzero_si256();
    if (full) {
        low = _mm256_load_si256((const __m256i *)from);
        high = _mm256_load_si256((const __m256i *)(from + 8));
    } else {
        low = _mm256_maskload_epi32(from, mask.low);
        if (mask.count > 8)
            high = _mm256_maskload_epi32(from + 8, mask.high);
    }
    return (ea_floats){_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)};
}

/* Up to 8 bytes; two loads that overlap cover a count between powers of 2. */
EA_INLINE uint64_t ea_load_8_bytes(const uint8_t *from, int count)
{
    if (count >= 8) {
        uint64_t all;
        memcpy(&all, from, 8);
        return all;
    }
    if (count >= 4) {
        uint32_t first, last;
        memcpy(&first, from, 4);
        memcpy(&last, from + count - 4, 4);
        return first | (uint64_t)last << (count - 4) * 8;
    }
    uint64_t value = count > 0 ? from[0] : 0;
    value |= count > 1 ? (uint64_t)from[1] << 8 : 0;
    return value | (count > 2 ? (uint64_t)from[2] << 16 : 0);
}

EA_INLINE void ea_store_8_bytes(uint8_t *to, int count, uint64_t value)
{
    if (count >= 8) {
        memcpy(to, &value, 8);
    } else if (count >= 4) {
        uint32_t first = (uint32_t)value, last = (uint32_t)(value >> (count - 4) * 8);
        memcpy(to, &first, 4);
        memcpy(to + count - 4, &last, 4);
    } else {
        for (int i = 0; i < count; i++)
            to[i] = (uint8_t)(value >> i * 8);
    }
}

EA_INLINE __m128i ea_load_first_bytes(const uint8_t *from, int count)
{
    uint64_t high = count > 8 ? ea_load_8_bytes(from + 8, count - 8) : 0;
    return _mm_set_epi64x((int64_t)high, (int64_t)ea_load_8_bytes(from, count));
}

EA_INLINE void ea_store_first_bytes(uint8_t *to, int count, __m128i value)
{
    ea_store_8_bytes(to, count, (uint64_t)_mm_cvtsi128_si64(value));
    if (count > 8)
        ea_store_8_bytes(to + 8, count - 8, (uint64_t)_mm_extract_epi64(value, 1));
}

EA_INLINE __m128i ea_load_16_bytes(const uint8_t *from, ea_mask mask, int full)
{
    return full ? _mm_loadu_si128((const __m128i *)from) : ea_load_first_bytes(from, mask.count);
}

/* Bytes as floats. */
EA_INLINE ea_floats ea_load_activations(const uint8_t *from, ea_mask mask, int full)
{
    __m128i bytes = ea_load_16_bytes(from, mask, full);
    return (ea_floats){_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
                       _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))};
}

/* Round values of at least 0 to bytes, ties to even, and store them or add them to the bytes there, saturating. */
EA_INLINE void ea_store_quantized(uint8_t *to, ea_mask mask, int full, int accumulate, ea_floats value)
{
    const __m256 highest = _mm256_set1_ps(255); /* the conversion of a larger value may be negative */
    __m256i low = _mm256_cvtps_epi32(_mm256_min_ps(value.low, highest));
    __m256i high = _mm256_cvtps_epi32(_mm256_min_ps(value.high, highest));
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8); /* packing interleaves the halves */
    __m128i quantized = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    if (accumulate)
        quantized = _mm_adds_epu8(quantized, ea_load_16_bytes(to, mask, full));
    if (full)
        _mm_storeu_si128((__m128i *)to, quantized);
    else
        ea_store_first_bytes(to, mask.count, quantized);
}

EA_INLINE ea_bytes ea_zero_bytes(void)
{
    __m128i zero = _mm_setzero_si128();
    return (ea_bytes){{zero, zero, zero, zero}};
}
/* The larger of `largest` and the first `count` bytes in memory, 64 at most. */
EA_INLINE ea_bytes ea_max_bytes(ea_bytes largest, const uint8_t *from, int count)
{
    for (int i = 0; i < 4 && i * 16 < count; i++) {
        __m128i bytes = count - i * 16 >= 16 ? _mm_loadu_si128((const __m128i *)(from + i * 16))
                                             : ea_load_first_bytes(from + i * 16, count - i * 16);
        largest.part[i] = _mm_max_epu8(largest.part[i], bytes);
    }
    return largest;
}
EA_INLINE void ea_store_bytes(uint8_t *to, int count, ea_bytes value)
{
    for (int i = 0; i < 4 && i * 16 < count; i++)
        if (count - i * 16 >= 16)
            _mm_storeu_si128((__m128i *)(to + i * 16), value.part[i]);
        else
            ea_store_first_bytes(to + i * 16, count - i * 16, value.part[i]);
}

#endif
