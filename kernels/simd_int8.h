/* simd_int8.h - what dot_tile.h needs for products in 8 bits: 16 sums of 32 bits.
 *
 * Where TACIT_DOT is set, as in int8_dot.c, sum_dot is one instruction, VNNI's or Arm's; else pairs
 * of 16 bits are multiplied, the even bytes and the odd, which does not overflow (vpmaddubsw
 * would). sum_float takes off `minus` where the row's bytes are 128 too large.
 */
#ifndef TACIT_SIMD_INT8_H
#define TACIT_SIMD_INT8_H

#include "int8.h"
#include "simd.h"

TACIT_INLINE int32_t load_group(const uint8_t *p)
{
    int32_t group;
    memcpy(&group, p, sizeof group);
    return group;
}

#if TACIT_ISA_NUMBER == TACIT_ISA_IS_avx512

typedef __m512i vsum;

TACIT_INLINE vsum sum_zero(void)
{
    return _mm512_setzero_si512();
}
#if TACIT_DOT
typedef __m512i vgroup;

TACIT_INLINE vgroup group_of_row(const uint8_t *p)
{
    return _mm512_set1_epi32(load_group(p));
}
TACIT_INLINE vgroup group_of_panel(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}
TACIT_INLINE vsum sum_dot(vsum sum, vgroup a, vgroup w)
{
    return _mm512_dpbusd_epi32(sum, a, w);
}
#else
typedef struct vgroup {
    __m512i even, odd;
} vgroup;

TACIT_INLINE vgroup group_of_row(const uint8_t *p)
{
    __m512i whole = _mm512_set1_epi32(load_group(p));
    return (vgroup){ _mm512_and_si512(whole, _mm512_set1_epi16(0xff)),
                     _mm512_srli_epi16(whole, 8) };
}
TACIT_INLINE vgroup group_of_panel(const uint8_t *p)
{
    __m512i whole = _mm512_loadu_si512(p);
    return (vgroup){ _mm512_srai_epi16(_mm512_slli_epi16(whole, 8), 8),
                     _mm512_srai_epi16(whole, 8) };
}
TACIT_INLINE vsum sum_dot(vsum sum, vgroup a, vgroup w)
{
    return _mm512_add_epi32(_mm512_add_epi32(sum, _mm512_madd_epi16(a.even, w.even)),
                            _mm512_madd_epi16(a.odd, w.odd));
}
#endif
TACIT_INLINE vf sum_float(vsum sum, const int32_t *minus)
{
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, _mm512_loadu_si512(minus)));
}
/* The lowest byte of each lane. */
TACIT_INLINE void vf_store_bytes(uint8_t *p, vf x)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_castps_si512(x)));
}

#elif TACIT_ISA_NUMBER == TACIT_ISA_IS_avx2

typedef struct vsum {
    __m256i lo, hi;
} vsum;

TACIT_INLINE vsum sum_zero(void)
{
    return (vsum){ _mm256_setzero_si256(), _mm256_setzero_si256() };
}
#if TACIT_DOT
typedef vsum vgroup; /* a row's halves are the same */

TACIT_INLINE vgroup group_of_row(const uint8_t *p)
{
    __m256i whole = _mm256_set1_epi32(load_group(p));
    return (vgroup){ whole, whole };
}
TACIT_INLINE vgroup group_of_panel(const uint8_t *p)
{
    const __m256i *w = (const __m256i *)(const void *)p;
    return (vgroup){ _mm256_loadu_si256(w), _mm256_loadu_si256(w + 1) };
}
TACIT_INLINE vsum sum_dot(vsum sum, vgroup a, vgroup w)
{
    return (vsum){ _mm256_dpbusd_avx_epi32(sum.lo, a.lo, w.lo),
                   _mm256_dpbusd_avx_epi32(sum.hi, a.hi, w.hi) };
}
#else
typedef struct vgroup {
    __m256i even[2], odd[2]; /* a row's are all the same */
} vgroup;

TACIT_INLINE vgroup group_of_row(const uint8_t *p)
{
    __m256i whole = _mm256_set1_epi32(load_group(p));
    __m256i even = _mm256_and_si256(whole, _mm256_set1_epi16(0xff));
    __m256i odd = _mm256_srli_epi16(whole, 8);
    return (vgroup){ { even, even }, { odd, odd } };
}
TACIT_INLINE vgroup group_of_panel(const uint8_t *p)
{
    vgroup q;
    for (size_t i = 0; i < 2; i++) {
        __m256i whole = _mm256_loadu_si256((const __m256i *)(const void *)(p + 32 * i));
        q.even[i] = _mm256_srai_epi16(_mm256_slli_epi16(whole, 8), 8);
        q.odd[i] = _mm256_srai_epi16(whole, 8);
    }
    return q;
}
TACIT_INLINE vsum sum_dot(vsum sum, vgroup a, vgroup w)
{
    sum.lo = _mm256_add_epi32(sum.lo, _mm256_madd_epi16(a.even[0], w.even[0]));
    sum.hi = _mm256_add_epi32(sum.hi, _mm256_madd_epi16(a.even[1], w.even[1]));
    sum.lo = _mm256_add_epi32(sum.lo, _mm256_madd_epi16(a.odd[0], w.odd[0]));
    sum.hi = _mm256_add_epi32(sum.hi, _mm256_madd_epi16(a.odd[1], w.odd[1]));
    return sum;
}
#endif
TACIT_INLINE vf sum_float(vsum sum, const int32_t *minus)
{
    const __m256i *m = (const __m256i *)(const void *)minus;
    return (vf){ _mm256_cvtepi32_ps(_mm256_sub_epi32(sum.lo, _mm256_loadu_si256(m))),
                 _mm256_cvtepi32_ps(_mm256_sub_epi32(sum.hi, _mm256_loadu_si256(m + 1))) };
}
TACIT_INLINE void vf_store_bytes(uint8_t *p, vf x)
{
    const __m256i low = _mm256_set1_epi32(0xff);
    __m256i lo = _mm256_and_si256(_mm256_castps_si256(x.lo), low);
    __m256i hi = _mm256_and_si256(_mm256_castps_si256(x.hi), low);
    __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(lo, hi), 0xd8);
    _mm_storeu_si128((__m128i *)(void *)p, _mm_packus_epi16(_mm256_castsi256_si128(words),
                                                            _mm256_extracti128_si256(words, 1)));
}

#else

typedef struct vsum {
    int32x4_t q[4];
} vsum;
typedef struct vgroup {
    int8x16_t q[4]; /* a row's are all the same, and signed: nothing is to be taken off */
} vgroup;

TACIT_INLINE vsum sum_zero(void)
{
    int32x4_t zero = vdupq_n_s32(0);
    return (vsum){ { zero, zero, zero, zero } };
}
TACIT_INLINE vgroup group_of_row(const uint8_t *p)
{
    int8x16_t q =
        veorq_s8(vreinterpretq_s8_s32(vdupq_n_s32(load_group(p))), vdupq_n_s8((int8_t)-128));
    return (vgroup){ { q, q, q, q } };
}
TACIT_INLINE vgroup group_of_panel(const uint8_t *p)
{
    const int8_t *w = (const int8_t *)p;
    return (vgroup){ { vld1q_s8(w), vld1q_s8(w + 16), vld1q_s8(w + 32), vld1q_s8(w + 48) } };
}
TACIT_INLINE vsum sum_dot(vsum sum, vgroup a, vgroup w)
{
    for (size_t i = 0; i < 4; i++) {
#if TACIT_DOT
        sum.q[i] = vdotq_s32(sum.q[i], a.q[i], w.q[i]);
#else
        int16x8_t low = vmull_s8(vget_low_s8(a.q[i]), vget_low_s8(w.q[i]));
        int16x8_t high = vmull_high_s8(a.q[i], w.q[i]);
        sum.q[i] = vaddq_s32(sum.q[i], vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
#endif
    }
    return sum;
}
TACIT_INLINE vf sum_float(vsum sum, const int32_t *minus)
{
    (void)minus;
#define AT(i) vcvtq_f32_s32(sum.q[i])
    return VF_EACH(AT);
#undef AT
}
TACIT_INLINE void vf_store_bytes(uint8_t *p, vf x)
{
    uint16x4_t words[4];
    for (size_t i = 0; i < 4; i++)
        words[i] = vmovn_u32(vreinterpretq_u32_f32(x.q[i]));
    vst1_u8(p, vmovn_u16(vcombine_u16(words[0], words[1])));
    vst1_u8(p + 8, vmovn_u16(vcombine_u16(words[2], words[3])));
}

#endif

TACIT_INLINE vf absolute(vf x)
{
    return vf_max(x, vf_sub(vf_zero(), x));
}

/* 128 + round(x inverse) in the lowest byte of each lane: tacit_int8_byte. */
TACIT_INLINE vf to_bytes(vf x, vf inverse)
{
    vf v = vf_max(vf_mul(x, inverse), vf_set1(-127));
    return vf_add(vf_min(vf_set1(127), v), vf_set1(TACIT_INT8_MAGIC));
}

#endif
