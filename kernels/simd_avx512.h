/* simd_avx512.h - the vocabulary of simd.h in one zmm register. */
#ifndef TACIT_SIMD_AVX512_H
#define TACIT_SIMD_AVX512_H

#include <immintrin.h>

typedef __m512 vf;

TACIT_INLINE __mmask16 vf_mask(size_t n)
{
    return (__mmask16)((1u << n) - 1);
}
TACIT_INLINE vf vf_zero(void)
{
    return _mm512_setzero_ps();
}
TACIT_INLINE vf vf_set1(float x)
{
    return _mm512_set1_ps(x);
}
TACIT_INLINE vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
TACIT_INLINE vf vf_load_n(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps(vf_mask(n), p);
}
TACIT_INLINE void vf_store(float *p, vf x)
{
    _mm512_storeu_ps(p, x);
}
TACIT_INLINE void vf_store_n(float *p, vf x, size_t n)
{
    _mm512_mask_storeu_ps(p, vf_mask(n), x);
}
TACIT_INLINE vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
TACIT_INLINE vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
TACIT_INLINE vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
TACIT_INLINE vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
/* a * b + c, rounded once */
TACIT_INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}
TACIT_INLINE void vf_fma_into(vf *sum, vf a, vf b)
{
    *sum = vf_fma(a, b, *sum);
}
TACIT_INLINE vf vf_sqrt(vf a)
{
    return _mm512_sqrt_ps(a);
}
/* a > b ? a : b */
TACIT_INLINE vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
/* a < b ? a : b */
TACIT_INLINE vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}
/* a > b ? x : y */
TACIT_INLINE vf vf_if_gt(vf a, vf b, vf x, vf y)
{
    return _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), x);
}
/* the first n lanes of a, the others of b */
TACIT_INLINE vf vf_first(vf a, vf b, size_t n)
{
    return _mm512_mask_mov_ps(b, vf_mask(n), a);
}
/* The last nine bits as sign and exponent. */
TACIT_INLINE vf vf_exponent(vf x)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(x), 23));
}
TACIT_INLINE vf vf_log(vf x)
{
    return Sleef_finz_logf16_u10avx512f(x);
}
TACIT_INLINE float vf_sum(vf x)
{
    __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}
/* The maximum in the tree of vf_sum. */
TACIT_INLINE float vf_hmax(vf x)
{
    __m256 s8 = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_max_ss(s2, _mm_movehdup_ps(s2)));
}
/* Bit j is set where lane j of a is at least that of b. */
TACIT_INLINE unsigned vf_ge_bits(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ);
}

/* The same lanes in double. */
typedef struct vd {
    __m512d lo, hi;
} vd;

TACIT_INLINE vd vd_zero(void)
{
    return (vd){ _mm512_setzero_pd(), _mm512_setzero_pd() };
}
TACIT_INLINE vd vd_load(const double *p)
{
    return (vd){ _mm512_loadu_pd(p), _mm512_loadu_pd(p + 8) };
}
TACIT_INLINE void vd_store(double *p, vd x)
{
    _mm512_storeu_pd(p, x.lo);
    _mm512_storeu_pd(p + 8, x.hi);
}
/* a * b + c; the product of two floats is exact in double */
TACIT_INLINE vd vd_fma(vf a, vf b, vd c)
{
    __m512d a0 = _mm512_cvtps_pd(_mm512_castps512_ps256(a));
    __m512d b0 = _mm512_cvtps_pd(_mm512_castps512_ps256(b));
    __m512d a1 = _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1));
    __m512d b1 = _mm512_cvtps_pd(_mm512_extractf32x8_ps(b, 1));
    return (vd){ _mm512_fmadd_pd(a0, b0, c.lo), _mm512_fmadd_pd(a1, b1, c.hi) };
}
TACIT_INLINE vd vd_set1(double x)
{
    __m512d v = _mm512_set1_pd(x);
    return (vd){ v, v };
}
TACIT_INLINE vd vd_mul(vd a, vd b)
{
    return (vd){ _mm512_mul_pd(a.lo, b.lo), _mm512_mul_pd(a.hi, b.hi) };
}
/* a * b + c, rounded once */
TACIT_INLINE vd vd_fma_d(vd a, vd b, vd c)
{
    return (vd){ _mm512_fmadd_pd(a.lo, b.lo, c.lo), _mm512_fmadd_pd(a.hi, b.hi, c.hi) };
}
TACIT_INLINE vf vf_from_vd(vd x)
{
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(x.lo)), _mm512_cvtpd_ps(x.hi),
                              1);
}
/* In the tree of vf_sum. */
TACIT_INLINE double vd_sum(vd x)
{
    __m512d s8 = _mm512_add_pd(x.lo, x.hi);
    __m256d s4 = _mm256_add_pd(_mm512_castpd512_pd256(s8), _mm512_extractf64x4_pd(s8, 1));
    __m128d s2 = _mm_add_pd(_mm256_castpd256_pd128(s4), _mm256_extractf128_pd(s4, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s2, _mm_unpackhi_pd(s2, s2)));
}

TACIT_INLINE vf vf_from_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
TACIT_INLINE void vf_to_f16(uint16_t *p, vf x)
{
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
TACIT_INLINE vf vf_from_bf16(const uint16_t *p)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
/* Nearest even by adding just less than half, and the last kept bit; a NaN is made quiet. */
TACIT_INLINE void vf_to_bf16(uint16_t *p, vf x)
{
    __m512i bits = _mm512_castps_si512(x);
    __m512i last = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), last);
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    _mm256_storeu_si256((__m256i *)(void *)p,
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}

#endif
