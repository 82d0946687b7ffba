/* simd_u8.h - the vocabulary of the image kernels: vectors of VB bytes, in lanes of 16.
 *
 * vb_zip_lo and vb_zip_hi interleave the lower and upper halves of each lane; vb_load_lanes
 * takes 16 bytes of each 16th row from `row` on, the last of `rows` in place of those after it.
 * vsum is VB sums of 32 bits, in two halves that tacit_taps.weights describes; how it is laid out
 * inside is the ISA's affair. vw is 16 unsigned words of 32 bits; vf_to_u8 and vw_to_u8 take whole
 * numbers from 0 to 255 and a fraction, which is cut off.
 */
#ifndef TACIT_SIMD_U8_H
#define TACIT_SIMD_U8_H

#include "simd.h"

TACIT_INLINE size_t vb_row(size_t row, size_t rows)
{
    return row < rows ? row : rows - 1;
}

#if TACIT_ISA_NUMBER == TACIT_ISA_IS_avx512

#define VB 64
typedef __m512i vb;

TACIT_INLINE __mmask64 vb_mask(size_t n)
{
    return ~(__mmask64)0 >> (64 - n);
}
TACIT_INLINE vb vb_load(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}
/* n from 1 to VB */
TACIT_INLINE vb vb_load_n(const uint8_t *p, size_t n)
{
    return _mm512_maskz_loadu_epi8(vb_mask(n), p);
}
TACIT_INLINE void vb_store_n(uint8_t *p, vb x, size_t n)
{
    _mm512_mask_storeu_epi8(p, vb_mask(n), x);
}
TACIT_INLINE __m128i vb_load_lane(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}
/* Masked broadcasts, which cost no shuffle. */
TACIT_INLINE vb vb_load_lanes(const uint8_t *p, size_t ld, size_t row, size_t rows)
{
    vb x = _mm512_castsi128_si512(vb_load_lane(p + vb_row(row, rows) * ld));
    x = _mm512_mask_broadcast_i32x4(x, 0x00f0, vb_load_lane(p + vb_row(row + 16, rows) * ld));
    x = _mm512_mask_broadcast_i32x4(x, 0x0f00, vb_load_lane(p + vb_row(row + 32, rows) * ld));
    return _mm512_mask_broadcast_i32x4(x, 0xf000, vb_load_lane(p + vb_row(row + 48, rows) * ld));
}
TACIT_INLINE vb vb_zip_lo(vb a, vb b)
{
    return _mm512_unpacklo_epi8(a, b);
}
TACIT_INLINE vb vb_zip_hi(vb a, vb b)
{
    return _mm512_unpackhi_epi8(a, b);
}
TACIT_INLINE vf vf_from_u8(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(vb_load_lane(p)));
}

TACIT_INLINE void vf_to_u8(uint8_t *p, vf x)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(x)));
}
TACIT_INLINE vf vf_trunc(vf x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
}

typedef __m512i vw;

TACIT_INLINE vw vw_set1(uint32_t x)
{
    return _mm512_set1_epi32((int)x);
}
TACIT_INLINE vw vw_from_u8(const uint8_t *p)
{
    return _mm512_cvtepu8_epi32(vb_load_lane(p));
}
TACIT_INLINE vw vw_add(vw a, vw b)
{
    return _mm512_add_epi32(a, b);
}
TACIT_INLINE vw vw_sub(vw a, vw b)
{
    return _mm512_sub_epi32(a, b);
}
TACIT_INLINE vw vw_mul(vw a, vw b)
{
    return _mm512_mullo_epi32(a, b);
}
TACIT_INLINE vw vw_top(vw x)
{
    return _mm512_srli_epi32(x, 24);
}
TACIT_INLINE void vw_to_u8(uint8_t *p, vw x)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(x));
}

typedef __m512i vi;
#define VI(name) _mm512_##name
#define VI_ZERO  _mm512_setzero_si512()

#elif TACIT_ISA_NUMBER == TACIT_ISA_IS_avx2

#define VB       32
typedef __m256i vb;

TACIT_INLINE vb vb_load(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
TACIT_INLINE __m128i vb_load_lane(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}
TACIT_INLINE vb vb_load_lanes(const uint8_t *p, size_t ld, size_t row, size_t rows)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(vb_load_lane(p + vb_row(row, rows) * ld)),
                                   vb_load_lane(p + vb_row(row + 16, rows) * ld), 1);
}
TACIT_INLINE void vb_store(uint8_t *p, vb x)
{
    _mm256_storeu_si256((__m256i *)(void *)p, x);
}
TACIT_INLINE vb vb_zip_lo(vb a, vb b)
{
    return _mm256_unpacklo_epi8(a, b);
}
TACIT_INLINE vb vb_zip_hi(vb a, vb b)
{
    return _mm256_unpackhi_epi8(a, b);
}
TACIT_INLINE vf vf_from_u8(const uint8_t *p)
{
    __m128i x = vb_load_lane(p);
    return (vf){ _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(x)),
                 _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(x, 8))) };
}

typedef struct vw {
    __m256i lo, hi;
} vw;

TACIT_INLINE vw vw_set1(uint32_t x)
{
    __m256i v = _mm256_set1_epi32((int)x);
    return (vw){ v, v };
}
TACIT_INLINE vw vw_from_u8(const uint8_t *p)
{
    __m128i x = vb_load_lane(p);
    return (vw){ _mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8)) };
}
TACIT_INLINE vw vw_add(vw a, vw b)
{
    return (vw){ _mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi) };
}
TACIT_INLINE vw vw_sub(vw a, vw b)
{
    return (vw){ _mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi) };
}
TACIT_INLINE vw vw_mul(vw a, vw b)
{
    return (vw){ _mm256_mullo_epi32(a.lo, b.lo), _mm256_mullo_epi32(a.hi, b.hi) };
}
TACIT_INLINE vw vw_top(vw x)
{
    return (vw){ _mm256_srli_epi32(x.lo, 24), _mm256_srli_epi32(x.hi, 24) };
}
/* Two packs, which work in halves of 16 bytes, and the order put right. */
TACIT_INLINE void vw_to_u8(uint8_t *p, vw x)
{
    __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(x.lo, x.hi), 0xd8);
    __m128i bytes =
        _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)(void *)p, bytes);
}
TACIT_INLINE void vf_to_u8(uint8_t *p, vf x)
{
    vw_to_u8(p, (vw){ _mm256_cvttps_epi32(x.lo), _mm256_cvttps_epi32(x.hi) });
}
TACIT_INLINE vf vf_trunc(vf x)
{
    return (vf){ _mm256_round_ps(x.lo, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC),
                 _mm256_round_ps(x.hi, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC) };
}

typedef __m256i vi;
#define VI(name) _mm256_##name
#define VI_ZERO  _mm256_setzero_si256()

#else

#define VB 16
typedef uint8x16_t vb;

TACIT_INLINE vb vb_load(const uint8_t *p)
{
    return vld1q_u8(p);
}
TACIT_INLINE vb vb_load_lanes(const uint8_t *p, size_t ld, size_t row, size_t rows)
{
    return vld1q_u8(p + vb_row(row, rows) * ld);
}
TACIT_INLINE void vb_store(uint8_t *p, vb x)
{
    vst1q_u8(p, x);
}
TACIT_INLINE vb vb_zip_lo(vb a, vb b)
{
    return vzip1q_u8(a, b);
}
TACIT_INLINE vb vb_zip_hi(vb a, vb b)
{
    return vzip2q_u8(a, b);
}
TACIT_INLINE vf vf_from_u8(const uint8_t *p)
{
    uint8x16_t x = vld1q_u8(p);
    uint16x8_t lo = vmovl_u8(vget_low_u8(x)), hi = vmovl_high_u8(x);
    return (vf){ { vcvtq_f32_u32(vmovl_u16(vget_low_u16(lo))), vcvtq_f32_u32(vmovl_high_u16(lo)),
                   vcvtq_f32_u32(vmovl_u16(vget_low_u16(hi))),
                   vcvtq_f32_u32(vmovl_high_u16(hi)) } };
}

typedef struct vw {
    uint32x4_t q[4];
} vw;

#define VW_EACH(expression)                                                                        \
    (vw)                                                                                           \
    {                                                                                              \
        {                                                                                          \
            expression(0), expression(1), expression(2), expression(3)                             \
        }                                                                                          \
    }

TACIT_INLINE vw vw_set1(uint32_t x)
{
    uint32x4_t v = vdupq_n_u32(x);
    return (vw){ { v, v, v, v } };
}
TACIT_INLINE vw vw_from_u8(const uint8_t *p)
{
    uint8x16_t x = vld1q_u8(p);
    uint16x8_t lo = vmovl_u8(vget_low_u8(x)), hi = vmovl_high_u8(x);
    return (vw){ { vmovl_u16(vget_low_u16(lo)), vmovl_high_u16(lo), vmovl_u16(vget_low_u16(hi)),
                   vmovl_high_u16(hi) } };
}
TACIT_INLINE vw vw_add(vw a, vw b)
{
#define AT(i) vaddq_u32(a.q[i], b.q[i])
    return VW_EACH(AT);
#undef AT
}
TACIT_INLINE vw vw_sub(vw a, vw b)
{
#define AT(i) vsubq_u32(a.q[i], b.q[i])
    return VW_EACH(AT);
#undef AT
}
TACIT_INLINE vw vw_mul(vw a, vw b)
{
#define AT(i) vmulq_u32(a.q[i], b.q[i])
    return VW_EACH(AT);
#undef AT
}
TACIT_INLINE vw vw_top(vw x)
{
#define AT(i) vshrq_n_u32(x.q[i], 24)
    return VW_EACH(AT);
#undef AT
}
TACIT_INLINE void vw_to_u8(uint8_t *p, vw x)
{
    uint16x8_t lo = vcombine_u16(vmovn_u32(x.q[0]), vmovn_u32(x.q[1]));
    uint16x8_t hi = vcombine_u16(vmovn_u32(x.q[2]), vmovn_u32(x.q[3]));
    vst1q_u8(p, vcombine_u8(vmovn_u16(lo), vmovn_u16(hi)));
}
TACIT_INLINE void vf_to_u8(uint8_t *p, vf x)
{
#define AT(i) vcvtq_u32_f32(x.q[i])
    vw_to_u8(p, VW_EACH(AT));
#undef AT
}
TACIT_INLINE vf vf_trunc(vf x)
{
#define AT(i) vrndq_f32(x.q[i])
    return VF_EACH(AT);
#undef AT
}

typedef struct vsum {
    int32x4_t h[4], l[4];
} vsum;

TACIT_INLINE vsum vsum_zero(void)
{
    int32x4_t zero = vdupq_n_s32(0);
    return (vsum){ { zero, zero, zero, zero }, { zero, zero, zero, zero } };
}
TACIT_INLINE void vsum_add(vsum *s, uint8x16_t x, int16_t wh, int16_t wl)
{
    int16x8_t lo = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(x)));
    int16x8_t hi = vreinterpretq_s16_u16(vmovl_high_u8(x));
    int16x8_t h = vdupq_n_s16(wh), l = vdupq_n_s16(wl);
    s->h[0] = vmlal_s16(s->h[0], vget_low_s16(lo), vget_low_s16(h));
    s->h[1] = vmlal_high_s16(s->h[1], lo, h);
    s->h[2] = vmlal_s16(s->h[2], vget_low_s16(hi), vget_low_s16(h));
    s->h[3] = vmlal_high_s16(s->h[3], hi, h);
    s->l[0] = vmlal_s16(s->l[0], vget_low_s16(lo), vget_low_s16(l));
    s->l[1] = vmlal_high_s16(s->l[1], lo, l);
    s->l[2] = vmlal_s16(s->l[2], vget_low_s16(hi), vget_low_s16(l));
    s->l[3] = vmlal_high_s16(s->l[3], hi, l);
}
/* Adds a weighted pair; w: h, h, l, l. */
TACIT_INLINE void vsum_add2(vsum *s, vb a, vb b, const int16_t *w)
{
    vsum_add(s, a, w[0], w[2]);
    vsum_add(s, b, w[1], w[3]);
}
/* (2048 h + l + 2^21) >> 22, clipped: the shift without rounding, then twice a saturation. */
TACIT_INLINE vb vsum_round(const vsum *s)
{
    int32x4_t half = vdupq_n_s32(1 << 21), v[4];
    for (int i = 0; i < 4; i++)
        v[i] = vshrq_n_s32(vaddq_s32(vaddq_s32(vshlq_n_s32(s->h[i], 11), s->l[i]), half), 22);
    int16x8_t lo = vcombine_s16(vqmovn_s32(v[0]), vqmovn_s32(v[1]));
    int16x8_t hi = vcombine_s16(vqmovn_s32(v[2]), vqmovn_s32(v[3]));
    return vcombine_u8(vqmovun_s16(lo), vqmovun_s16(hi));
}

#endif

#if TACIT_ISA_NUMBER != TACIT_ISA_IS_avx512

TACIT_INLINE vb vb_load_n(const uint8_t *p, size_t n)
{
    if (n == VB)
        return vb_load(p);
    uint8_t whole[VB] = { 0 };
    memcpy(whole, p, n);
    return vb_load(whole);
}
TACIT_INLINE void vb_store_n(uint8_t *p, vb x, size_t n)
{
    if (n == VB) {
        vb_store(p, x);
        return;
    }
    uint8_t whole[VB];
    vb_store(whole, x);
    memcpy(p, whole, n);
}

#endif

#if TACIT_ISA_NUMBER != TACIT_ISA_IS_neon

/* Sum i of a lane is in element i % 4 of vector i / 4. */
typedef struct vsum {
    vi h[4], l[4];
} vsum;

TACIT_INLINE vsum vsum_zero(void)
{
    vi zero = VI_ZERO;
    return (vsum){ { zero, zero, zero, zero }, { zero, zero, zero, zero } };
}
/* Adds a weighted pair; w: h, h, l, l. The pair's bytes become 16-bit neighbours, which one
 * instruction multiplies and adds. */
TACIT_INLINE void vsum_add2(vsum *s, vb a, vb b, const int16_t *w)
{
    int pair[2];
    memcpy(pair, w, sizeof pair);
    vi h = VI(set1_epi32)(pair[0]), l = VI(set1_epi32)(pair[1]), zero = VI_ZERO;
    vi lo = vb_zip_lo(a, b), hi = vb_zip_hi(a, b);
    vi x[4] = { vb_zip_lo(lo, zero), vb_zip_hi(lo, zero), vb_zip_lo(hi, zero),
                vb_zip_hi(hi, zero) };
    for (int i = 0; i < 4; i++) {
        s->h[i] = VI(add_epi32)(s->h[i], VI(madd_epi16)(x[i], h));
        s->l[i] = VI(add_epi32)(s->l[i], VI(madd_epi16)(x[i], l));
    }
}
/* (2048 h + l + 2^21) >> 22, clipped: the packs saturate. */
TACIT_INLINE vb vsum_round(const vsum *s)
{
    vi half = VI(set1_epi32)(1 << 21), v[4];
    for (int i = 0; i < 4; i++)
        v[i] = VI(srai_epi32)(
            VI(add_epi32)(VI(add_epi32)(VI(slli_epi32)(s->h[i], 11), s->l[i]), half), 22);
    return VI(packus_epi16)(VI(packs_epi32)(v[0], v[1]), VI(packs_epi32)(v[2], v[3]));
}

#endif

/* a / b by the reciprocal of b, then corrected by the remainder. */
TACIT_INLINE vf vf_over(vf a, vf minus_b, vf inverse)
{
    vf q = vf_mul(a, inverse);
    return vf_fma(vf_fma(q, minus_b, a), inverse, q);
}

#endif
