/* simd_neon.h - the vocabulary of simd.h in four NEON registers. */
#ifndef TACIT_SIMD_NEON_H
#define TACIT_SIMD_NEON_H

#include <arm_neon.h>

typedef struct vf {
    float32x4_t q[4];
} vf;

#define VF_EACH(expression)                                                                        \
    (vf)                                                                                           \
    {                                                                                              \
        {                                                                                          \
            expression(0), expression(1), expression(2), expression(3)                             \
        }                                                                                          \
    }

TACIT_INLINE vf vf_set1(float x)
{
    float32x4_t v = vdupq_n_f32(x);
    return (vf){ { v, v, v, v } };
}
TACIT_INLINE vf vf_zero(void)
{
    return vf_set1(0);
}
TACIT_INLINE vf vf_load(const float *p)
{
#define AT(i) vld1q_f32(p + 4 * (i))
    return VF_EACH(AT);
#undef AT
}
TACIT_INLINE vf vf_load_n(const float *p, size_t n)
{
    float whole[VF] = { 0 };
    memcpy(whole, p, n * sizeof *p);
    return vf_load(whole);
}
TACIT_INLINE void vf_store(float *p, vf x)
{
    vst1q_f32(p, x.q[0]);
    vst1q_f32(p + 4, x.q[1]);
    vst1q_f32(p + 8, x.q[2]);
    vst1q_f32(p + 12, x.q[3]);
}
TACIT_INLINE void vf_store_n(float *p, vf x, size_t n)
{
    float whole[VF];
    vf_store(whole, x);
    memcpy(p, whole, n * sizeof *p);
}
TACIT_INLINE vf vf_add(vf a, vf b)
{
#define AT(i) vaddq_f32(a.q[i], b.q[i])
    return VF_EACH(AT);
#undef AT
}
TACIT_INLINE vf vf_sub(vf a, vf b)
{
#define AT(i) vsubq_f32(a.q[i], b.q[i])
    return VF_EACH(AT);
#undef AT
}
TACIT_INLINE vf vf_mul(vf a, vf b)
{
#define AT(i) vmulq_f32(a.q[i], b.q[i])
    return VF_EACH(AT);
#undef AT
}
TACIT_INLINE vf vf_div(vf a, vf b)
{
#define AT(i) vdivq_f32(a.q[i], b.q[i])
    return VF_EACH(AT);
#undef AT
}
/* a * b + c, rounded once */
TACIT_INLINE vf vf_fma(vf a, vf b, vf c)
{
#define AT(i) vfmaq_f32(c.q[i], a.q[i], b.q[i])
    return VF_EACH(AT);
#undef AT
}
TACIT_INLINE void vf_fma_into(vf *sum, vf a, vf b)
{
    *sum = vf_fma(a, b, *sum);
}
TACIT_INLINE vf vf_sqrt(vf a)
{
#define AT(i) vsqrtq_f32(a.q[i])
    return VF_EACH(AT);
#undef AT
}
/* a > b ? a : b; vmaxq would give a NaN for either NaN */
TACIT_INLINE float32x4_t vf_max4(float32x4_t a, float32x4_t b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
TACIT_INLINE vf vf_max(vf a, vf b)
{
#define AT(i) vf_max4(a.q[i], b.q[i])
    return VF_EACH(AT);
#undef AT
}
/* a < b ? a : b */
TACIT_INLINE vf vf_min(vf a, vf b)
{
#define AT(i) vbslq_f32(vcltq_f32(a.q[i], b.q[i]), a.q[i], b.q[i])
    return VF_EACH(AT);
#undef AT
}
/* a > b ? x : y */
TACIT_INLINE vf vf_if_gt(vf a, vf b, vf x, vf y)
{
#define AT(i) vbslq_f32(vcgtq_f32(a.q[i], b.q[i]), x.q[i], y.q[i])
    return VF_EACH(AT);
#undef AT
}
/* the first n lanes of a, the others of b */
TACIT_INLINE vf vf_first(vf a, vf b, size_t n)
{
    static const uint32_t order[VF] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    uint32x4_t count = vdupq_n_u32((uint32_t)n);
#define AT(i) vbslq_f32(vcltq_u32(vld1q_u32(order + 4 * (i)), count), a.q[i], b.q[i])
    return VF_EACH(AT);
#undef AT
}
/* The last nine bits as sign and exponent. */
TACIT_INLINE vf vf_exponent(vf x)
{
#define AT(i) vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(x.q[i]), 23))
    return VF_EACH(AT);
#undef AT
}
TACIT_INLINE vf vf_log(vf x)
{
#define AT(i) Sleef_finz_logf4_u10advsimd(x.q[i])
    return VF_EACH(AT);
#undef AT
}
TACIT_INLINE float vf_sum(vf x)
{
    float32x4_t s4 = vaddq_f32(vaddq_f32(x.q[0], x.q[2]), vaddq_f32(x.q[1], x.q[3]));
    float32x2_t s2 = vadd_f32(vget_low_f32(s4), vget_high_f32(s4));
    return vget_lane_f32(s2, 0) + vget_lane_f32(s2, 1);
}
/* The maximum in the tree of vf_sum. */
TACIT_INLINE float vf_hmax(vf x)
{
    float32x4_t s4 = vf_max4(vf_max4(x.q[0], x.q[2]), vf_max4(x.q[1], x.q[3]));
    float32x4_t s2 = vf_max4(s4, vextq_f32(s4, s4, 2));
    return vgetq_lane_f32(vf_max4(s2, vdupq_laneq_f32(s2, 1)), 0);
}
/* Bit j is set where lane j of a is at least that of b. */
TACIT_INLINE unsigned vf_ge_bits(vf a, vf b)
{
    static const uint32_t weights[4] = { 1, 2, 4, 8 };
    uint32x4_t w = vld1q_u32(weights);
    unsigned bits = 0;
    for (int i = 0; i < 4; i++)
        bits |= vaddvq_u32(vandq_u32(vcgeq_f32(a.q[i], b.q[i]), w)) << 4 * i;
    return bits;
}

/* The same lanes in double. */
typedef struct vd {
    float64x2_t q[8];
} vd;

TACIT_INLINE vd vd_zero(void)
{
    float64x2_t zero = vdupq_n_f64(0);
    return (vd){ { zero, zero, zero, zero, zero, zero, zero, zero } };
}
TACIT_INLINE vd vd_load(const double *p)
{
    vd x;
    for (int i = 0; i < 8; i++)
        x.q[i] = vld1q_f64(p + 2 * i);
    return x;
}
TACIT_INLINE void vd_store(double *p, vd x)
{
    for (int i = 0; i < 8; i++)
        vst1q_f64(p + 2 * i, x.q[i]);
}
/* a * b + c; the product of two floats is exact in double */
TACIT_INLINE vd vd_fma(vf a, vf b, vd c)
{
    for (int i = 0; i < 4; i++) {
        c.q[2 * i] = vfmaq_f64(c.q[2 * i], vcvt_f64_f32(vget_low_f32(a.q[i])),
                               vcvt_f64_f32(vget_low_f32(b.q[i])));
        c.q[2 * i + 1] =
            vfmaq_f64(c.q[2 * i + 1], vcvt_high_f64_f32(a.q[i]), vcvt_high_f64_f32(b.q[i]));
    }
    return c;
}
TACIT_INLINE vd vd_set1(double x)
{
    vd y;
    for (int i = 0; i < 8; i++)
        y.q[i] = vdupq_n_f64(x);
    return y;
}
TACIT_INLINE vd vd_mul(vd a, vd b)
{
    for (int i = 0; i < 8; i++)
        a.q[i] = vmulq_f64(a.q[i], b.q[i]);
    return a;
}
/* a * b + c, rounded once */
TACIT_INLINE vd vd_fma_d(vd a, vd b, vd c)
{
    for (int i = 0; i < 8; i++)
        c.q[i] = vfmaq_f64(c.q[i], a.q[i], b.q[i]);
    return c;
}
TACIT_INLINE vf vf_from_vd(vd x)
{
#define AT(i) vcvt_high_f32_f64(vcvt_f32_f64(x.q[2 * (i)]), x.q[2 * (i) + 1])
    return VF_EACH(AT);
#undef AT
}
/* In the tree of vf_sum. */
TACIT_INLINE double vd_sum(vd x)
{
    for (int i = 0; i < 4; i++)
        x.q[i] = vaddq_f64(x.q[i], x.q[i + 4]);
    float64x2_t s2 = vaddq_f64(vaddq_f64(x.q[0], x.q[2]), vaddq_f64(x.q[1], x.q[3]));
    return vgetq_lane_f64(s2, 0) + vgetq_lane_f64(s2, 1);
}

TACIT_INLINE vf vf_from_f16(const uint16_t *p)
{
#define AT(i) vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * (i))))
    return VF_EACH(AT);
#undef AT
}
TACIT_INLINE void vf_to_f16(uint16_t *p, vf x)
{
    for (int i = 0; i < 4; i++)
        vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(x.q[i])));
}
TACIT_INLINE vf vf_from_bf16(const uint16_t *p)
{
#define AT(i) vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * (i)), 16))
    return VF_EACH(AT);
#undef AT
}
/* Nearest even by adding just less than half, and the last kept bit; a NaN is made quiet. */
TACIT_INLINE void vf_to_bf16(uint16_t *p, vf x)
{
    for (int i = 0; i < 4; i++) {
        uint32x4_t bits = vreinterpretq_u32_f32(x.q[i]);
        uint32x4_t last = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
        uint32x4_t rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), last);
        uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
        uint32x4_t number = vceqq_f32(x.q[i], x.q[i]);
        vst1_u16(p + 4 * i, vshrn_n_u32(vbslq_u32(number, rounded, quiet), 16));
    }
}

#endif
