/* simd_avx2.h - the vocabulary of simd.h in two ymm registers. */
#ifndef TACIT_SIMD_AVX2_H
#define TACIT_SIMD_AVX2_H

#include <immintrin.h>

typedef struct vf {
    __m256 lo, hi;
} vf;

/* All ones in the first n of 8 lanes. */
TACIT_INLINE __m256i vf_mask8(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
TACIT_INLINE vf vf_zero(void)
{
    return (vf){ _mm256_setzero_ps(), _mm256_setzero_ps() };
}
TACIT_INLINE vf vf_set1(float x)
{
    __m256 v = _mm256_set1_ps(x);
    return (vf){ v, v };
}
TACIT_INLINE vf vf_load(const float *p)
{
    return (vf){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) };
}
TACIT_INLINE vf vf_load_n(const float *p, size_t n)
{
    size_t lo = n < 8 ? n : 8;
    return (vf){ _mm256_maskload_ps(p, vf_mask8(lo)),
                 n > 8 ? _mm256_maskload_ps(p + 8, vf_mask8(n - 8)) : _mm256_setzero_ps() };
}
TACIT_INLINE void vf_store(float *p, vf x)
{
    _mm256_storeu_ps(p, x.lo);
    _mm256_storeu_ps(p + 8, x.hi);
}
TACIT_INLINE void vf_store_n(float *p, vf x, size_t n)
{
    _mm256_maskstore_ps(p, vf_mask8(n < 8 ? n : 8), x.lo);
    if (n > 8)
        _mm256_maskstore_ps(p + 8, vf_mask8(n - 8), x.hi);
}
TACIT_INLINE vf vf_add(vf a, vf b)
{
    return (vf){ _mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi) };
}
TACIT_INLINE vf vf_sub(vf a, vf b)
{
    return (vf){ _mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi) };
}
TACIT_INLINE vf vf_mul(vf a, vf b)
{
    return (vf){ _mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi) };
}
TACIT_INLINE vf vf_div(vf a, vf b)
{
    return (vf){ _mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi) };
}
/* a * b + c, rounded once */
TACIT_INLINE vf vf_fma(vf a, vf b, vf c)
{
    return (vf){ _mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi) };
}
/* *sum += a * b, rounded once, where it lies: of a tile of accumulators gcc 12 otherwise moves some
 * to the stack and back at every step. */
TACIT_INLINE void vf_fma_into(vf *sum, vf a, vf b)
{
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum->lo) : "x"(a.lo), "x"(b.lo));
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum->hi) : "x"(a.hi), "x"(b.hi));
}
TACIT_INLINE vf vf_sqrt(vf a)
{
    return (vf){ _mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi) };
}
/* a > b ? a : b */
TACIT_INLINE vf vf_max(vf a, vf b)
{
    return (vf){ _mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi) };
}
/* a < b ? a : b */
TACIT_INLINE vf vf_min(vf a, vf b)
{
    return (vf){ _mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi) };
}
/* a > b ? x : y */
TACIT_INLINE vf vf_if_gt(vf a, vf b, vf x, vf y)
{
    return (vf){ _mm256_blendv_ps(y.lo, x.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_GT_OQ)),
                 _mm256_blendv_ps(y.hi, x.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_GT_OQ)) };
}
/* the first n lanes of a, the others of b */
TACIT_INLINE vf vf_first(vf a, vf b, size_t n)
{
    __m256i lo = vf_mask8(n < 8 ? n : 8), hi = vf_mask8(n > 8 ? n - 8 : 0);
    return (vf){ _mm256_blendv_ps(b.lo, a.lo, _mm256_castsi256_ps(lo)),
                 _mm256_blendv_ps(b.hi, a.hi, _mm256_castsi256_ps(hi)) };
}
/* The last nine bits as sign and exponent. */
TACIT_INLINE vf vf_exponent(vf x)
{
    return (vf){ _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x.lo), 23)),
                 _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x.hi), 23)) };
}
TACIT_INLINE vf vf_log(vf x)
{
    return (vf){ Sleef_finz_logf8_u10avx2(x.lo), Sleef_finz_logf8_u10avx2(x.hi) };
}
TACIT_INLINE float vf_sum(vf x)
{
    __m256 s8 = _mm256_add_ps(x.lo, x.hi);
    __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}
/* The maximum in the tree of vf_sum. */
TACIT_INLINE float vf_hmax(vf x)
{
    __m256 s8 = _mm256_max_ps(x.lo, x.hi);
    __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_max_ss(s2, _mm_movehdup_ps(s2)));
}
/* Bit j is set where lane j of a is at least that of b. */
TACIT_INLINE unsigned vf_ge_bits(vf a, vf b)
{
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a.lo, b.lo, _CMP_GE_OQ)) |
           (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a.hi, b.hi, _CMP_GE_OQ)) << 8;
}

/* The same lanes in double. */
typedef struct vd {
    __m256d q[4];
} vd;

TACIT_INLINE vd vd_zero(void)
{
    __m256d zero = _mm256_setzero_pd();
    return (vd){ { zero, zero, zero, zero } };
}
TACIT_INLINE vd vd_load(const double *p)
{
    return (vd){ { _mm256_loadu_pd(p), _mm256_loadu_pd(p + 4), _mm256_loadu_pd(p + 8),
                   _mm256_loadu_pd(p + 12) } };
}
TACIT_INLINE void vd_store(double *p, vd x)
{
    for (int i = 0; i < 4; i++)
        _mm256_storeu_pd(p + 4 * i, x.q[i]);
}
TACIT_INLINE __m256d vd_fma4(__m128 a, __m128 b, __m256d c)
{
    return _mm256_fmadd_pd(_mm256_cvtps_pd(a), _mm256_cvtps_pd(b), c);
}
/* a * b + c; the product of two floats is exact in double */
TACIT_INLINE vd vd_fma(vf a, vf b, vd c)
{
    return (vd){ {
        vd_fma4(_mm256_castps256_ps128(a.lo), _mm256_castps256_ps128(b.lo), c.q[0]),
        vd_fma4(_mm256_extractf128_ps(a.lo, 1), _mm256_extractf128_ps(b.lo, 1), c.q[1]),
        vd_fma4(_mm256_castps256_ps128(a.hi), _mm256_castps256_ps128(b.hi), c.q[2]),
        vd_fma4(_mm256_extractf128_ps(a.hi, 1), _mm256_extractf128_ps(b.hi, 1), c.q[3]),
    } };
}
TACIT_INLINE vd vd_set1(double x)
{
    __m256d v = _mm256_set1_pd(x);
    return (vd){ { v, v, v, v } };
}
TACIT_INLINE vd vd_mul(vd a, vd b)
{
    for (int i = 0; i < 4; i++)
        a.q[i] = _mm256_mul_pd(a.q[i], b.q[i]);
    return a;
}
/* a * b + c, rounded once */
TACIT_INLINE vd vd_fma_d(vd a, vd b, vd c)
{
    for (int i = 0; i < 4; i++)
        c.q[i] = _mm256_fmadd_pd(a.q[i], b.q[i], c.q[i]);
    return c;
}
TACIT_INLINE vf vf_from_vd(vd x)
{
    return (vf){ _mm256_set_m128(_mm256_cvtpd_ps(x.q[1]), _mm256_cvtpd_ps(x.q[0])),
                 _mm256_set_m128(_mm256_cvtpd_ps(x.q[3]), _mm256_cvtpd_ps(x.q[2])) };
}
/* In the tree of vf_sum. */
TACIT_INLINE double vd_sum(vd x)
{
    __m256d s4 = _mm256_add_pd(_mm256_add_pd(x.q[0], x.q[2]), _mm256_add_pd(x.q[1], x.q[3]));
    __m128d s2 = _mm_add_pd(_mm256_castpd256_pd128(s4), _mm256_extractf128_pd(s4, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s2, _mm_unpackhi_pd(s2, s2)));
}

TACIT_INLINE vf vf_from_f16(const uint16_t *p)
{
    return (vf){ _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p + 8))) };
}
TACIT_INLINE void vf_to_f16(uint16_t *p, vf x)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(x.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(void *)(p + 8), _mm256_cvtps_ph(x.hi, _MM_FROUND_TO_NEAREST_INT));
}
TACIT_INLINE __m256 vf_from_bf16x8(const uint16_t *p)
{
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
TACIT_INLINE vf vf_from_bf16(const uint16_t *p)
{
    return (vf){ vf_from_bf16x8(p), vf_from_bf16x8(p + 8) };
}
/* Nearest even by adding just less than half, and the last kept bit; a NaN is made quiet. */
TACIT_INLINE __m256i vf_round_bf16x8(__m256 x)
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i last = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), last);
    __m256 quiet = _mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_set1_epi32(0x400000)));
    __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    __m256 bits16 = _mm256_blendv_ps(_mm256_castsi256_ps(rounded), quiet, nan);
    return _mm256_srli_epi32(_mm256_castps_si256(bits16), 16);
}
TACIT_INLINE void vf_to_bf16(uint16_t *p, vf x)
{
    __m256i both = _mm256_packus_epi32(vf_round_bf16x8(x.lo), vf_round_bf16x8(x.hi));
    _mm256_storeu_si256((__m256i *)(void *)p, _mm256_permute4x64_epi64(both, 0xd8));
}

#endif
