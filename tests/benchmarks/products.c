/* The products of an INT8 convolution by AVX2 without anything else: no load, no store, no epilogue. */
#include <immintrin.h>
#include <time.h>

enum { SUMS = 6, STEPS = 1 << 24 };

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

/* Multiply-accumulates a second of one core: 32 activations by weights, added in pairs, widened, added to a sum. */
double products_per_second(void)
{
    __m256i sum[SUMS], activations = _mm256_set1_epi8(3), weights = _mm256_set1_epi8(5);
    const __m256i ones = _mm256_set1_epi16(1);
    for (int i = 0; i < SUMS; i++)
        sum[i] = _mm256_setzero_si256();
    double begin = seconds();
    for (int step = 0; step < STEPS; step++)
#pragma GCC unroll 6
        for (int i = 0; i < SUMS; i++) {
            __asm__ volatile("" : "+x"(activations)); /* else the compiler multiplies once */
            __m256i pairs = _mm256_maddubs_epi16(activations, weights);
            sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(pairs, ones));
        }
    double end = seconds();
    for (int i = 0; i < SUMS; i++)
        __asm__ volatile("" : : "x"(sum[i]));
    return 32.0 * SUMS * STEPS / (end - begin);
}
