/* simd_int8.h - what dot_tile.h needs for products in 8 bits: 16 sums of 32 bits.
 *
 * Where TACIT_DOT is set, as in int8_dot.c, sum_dot is one instruction, VNNI's or Arm's; else pairs
 * of 16 bits are multiplied, the even bytes and the odd, which does not overflow (vpmaddubsw
 * would). Sums begin with what makes up for rows whose bytes are not what they stand for: from
 * `minus`, 128 times the sum of an output's weights.
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

typedef __m512i vacc;

TACIT_INLINE vacc sum_begin(const int32_t *minus, uint8_t zero)
{
    vacc none = _mm512_setzero_si512();
    return zero ? _mm512_sub_epi32(none, _mm512_loadu_si512(minus)) : none;
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
TACIT_INLINE vacc sum_dot(vacc sum, vgroup a, vgroup w)
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
TACIT_INLINE vacc sum_dot(vacc sum, vgroup a, vgroup w)
{
    return _mm512_add_epi32(_mm512_add_epi32(sum, _mm512_madd_epi16(a.even, w.even)),
                            _mm512_madd_epi16(a.odd, w.odd));
}
#endif
TACIT_INLINE vf sum_float(vacc sum)
{
    return _mm512_cvtepi32_ps(sum);
}
/* The larger size of a lane's two values, by its bits: a NaN is the largest. */
TACIT_INLINE vf vf_larger(vf most, vf x)
{
    __m512i size = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(INT32_MAX));
    return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(most), size));
}
TACIT_INLINE float vf_largest(vf most)
{
    uint32_t bits = (uint32_t)_mm512_reduce_max_epi32(_mm512_castps_si512(most));
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
/* Bytes zero + round(x) of 64 values, 0 for those below where zero is 0. */
TACIT_INLINE void vf_store_rounded(uint8_t *p, const vf x[4], uint8_t zero)
{
    /* packing works on quarters of a register */
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i low = _mm512_packs_epi32(_mm512_cvtps_epi32(x[0]), _mm512_cvtps_epi32(x[1]));
    __m512i high = _mm512_packs_epi32(_mm512_cvtps_epi32(x[2]), _mm512_cvtps_epi32(x[3]));
    __m512i bytes =
        zero ? _mm512_xor_si512(_mm512_packs_epi16(low, high), _mm512_set1_epi8((char)zero))
             : _mm512_packus_epi16(low, high);
    _mm512_storeu_si512(p, _mm512_permutexvar_epi32(order, bytes));
}
/* The lowest byte of each lane. */
TACIT_INLINE void vf_store_bytes(uint8_t *p, vf x)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_castps_si512(x)));
}

#elif TACIT_ISA_NUMBER == TACIT_ISA_IS_avx2

typedef struct vacc {
    __m256i lo, hi;
} vacc;

TACIT_INLINE vacc sum_begin(const int32_t *minus, uint8_t zero)
{
    const __m256i *m = (const __m256i *)(const void *)minus;
    __m256i none = _mm256_setzero_si256();
    return zero ? (vacc){ _mm256_sub_epi32(none, _mm256_loadu_si256(m)),
                          _mm256_sub_epi32(none, _mm256_loadu_si256(m + 1)) }
                : (vacc){ none, none };
}
#if TACIT_DOT
typedef vacc vgroup; /* a row's halves are the same */

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
TACIT_INLINE vacc sum_dot(vacc sum, vgroup a, vgroup w)
{
    return (vacc){ _mm256_dpbusd_avx_epi32(sum.lo, a.lo, w.lo),
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
TACIT_INLINE vacc sum_dot(vacc sum, vgroup a, vgroup w)
{
    sum.lo = _mm256_add_epi32(sum.lo, _mm256_madd_epi16(a.even[0], w.even[0]));
    sum.hi = _mm256_add_epi32(sum.hi, _mm256_madd_epi16(a.even[1], w.even[1]));
    sum.lo = _mm256_add_epi32(sum.lo, _mm256_madd_epi16(a.odd[0], w.odd[0]));
    sum.hi = _mm256_add_epi32(sum.hi, _mm256_madd_epi16(a.odd[1], w.odd[1]));
    return sum;
}
#endif
TACIT_INLINE vf sum_float(vacc sum)
{
    return (vf){ _mm256_cvtepi32_ps(sum.lo), _mm256_cvtepi32_ps(sum.hi) };
}
TACIT_INLINE __m256 larger_half(__m256 most, __m256 x)
{
    __m256i size = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(INT32_MAX));
    return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(most), size));
}
TACIT_INLINE vf vf_larger(vf most, vf x)
{
    return (vf){ larger_half(most.lo, x.lo), larger_half(most.hi, x.hi) };
}
TACIT_INLINE float vf_largest(vf most)
{
    __m256 all = larger_half(most.lo, most.hi);
    __m128i four = _mm_max_epi32(_mm_castps_si128(_mm256_castps256_ps128(all)),
                                 _mm_castps_si128(_mm256_extractf128_ps(all, 1)));
    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0xb1));
    return _mm_cvtss_f32(_mm_castsi128_ps(four));
}
/* 16 of x, whose quarters are not in order yet */
TACIT_INLINE __m256i rounded_words(vf x)
{
    return _mm256_packs_epi32(_mm256_cvtps_epi32(x.lo), _mm256_cvtps_epi32(x.hi));
}
TACIT_INLINE void vf_store_rounded(uint8_t *p, const vf x[4], uint8_t zero)
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (size_t i = 0; i < 2; i++) {
        __m256i low = rounded_words(x[2 * i]), high = rounded_words(x[2 * i + 1]);
        __m256i bytes =
            zero ? _mm256_xor_si256(_mm256_packs_epi16(low, high), _mm256_set1_epi8((char)zero))
                 : _mm256_packus_epi16(low, high);
        _mm256_storeu_si256((__m256i *)(void *)(p + 32 * i),
                            _mm256_permutevar8x32_epi32(bytes, order));
    }
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

typedef struct vacc {
    int32x4_t q[4];
} vacc;
typedef struct vgroup {
    int8x16_t q[4]; /* a row's are all the same, and 128 less than its bytes */
} vgroup;

TACIT_INLINE vacc sum_begin(const int32_t *minus, uint8_t zero)
{
    vacc sum;
    for (size_t i = 0; i < 4; i++)
        sum.q[i] = zero ? vdupq_n_s32(0) : vld1q_s32(minus + 4 * i);
    return sum;
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
TACIT_INLINE vacc sum_dot(vacc sum, vgroup a, vgroup w)
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
TACIT_INLINE vf sum_float(vacc sum)
{
#define AT(i) vcvtq_f32_s32(sum.q[i])
    return VF_EACH(AT);
#undef AT
}
TACIT_INLINE vf vf_larger(vf most, vf x)
{
    const int32x4_t size = vdupq_n_s32(INT32_MAX);
#define AT(i)                                                                                      \
    vreinterpretq_f32_s32(vmaxq_s32(vreinterpretq_s32_f32(most.q[i]),                              \
                                    vandq_s32(vreinterpretq_s32_f32(x.q[i]), size)))
    return VF_EACH(AT);
#undef AT
}
TACIT_INLINE float vf_largest(vf most)
{
    int32_t bits = 0;
    float x;
    for (size_t i = 0; i < 4; i++) {
        int32_t here = vmaxvq_s32(vreinterpretq_s32_f32(most.q[i]));
        bits = here > bits ? here : bits;
    }
    memcpy(&x, &bits, sizeof x);
    return x;
}
TACIT_INLINE void vf_store_rounded(uint8_t *p, const vf x[4], uint8_t zero)
{
    for (size_t v = 0; v < 4; v++)
        for (size_t i = 0; i < 4; i += 2) {
            int16x8_t words = vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(x[v].q[i])),
                                           vqmovn_s32(vcvtnq_s32_f32(x[v].q[i + 1])));
            uint8x8_t bytes = zero ? veor_u8(vreinterpret_u8_s8(vqmovn_s16(words)), vdup_n_u8(zero))
                                   : vqmovun_s16(words);
            vst1_u8(p + 16 * v + 4 * i, bytes);
        }
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

#define WIDE (4 * VF) /* values that are rounded together */

/* n bytes zero + round(x factor), none of which is out of range, and `zero` up to a whole group. */
TACIT_INLINE void round_row(size_t n, const float *x, float factor, uint8_t zero, uint8_t *q)
{
    vf some[4], factors = vf_set1(factor);
    size_t i = 0;
    for (; i + WIDE <= n; i += WIDE) {
        for (size_t v = 0; v < 4; v++)
            some[v] = vf_mul(vf_load(x + i + v * VF), factors);
        vf_store_rounded(q + i, some, zero);
    }
    if (i < n) {
        uint8_t last[WIDE];
        for (size_t v = 0, at = i; v < 4; v++, at += VF)
            some[v] = at + VF <= n ? vf_mul(vf_load(x + at), factors)
                      : at < n     ? vf_mul(vf_load_n(x + at, n - at), factors)
                                   : vf_zero();
        vf_store_rounded(last, some, zero);
        memcpy(q + i, last, 4 * TACIT_INT8_GROUPS(n - i));
    }
}

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
