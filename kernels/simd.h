/* simd.h - the vocabulary in which kernels are written once: vectors of 16 floats.
 *
 * One zmm, two ymm, or four NEON registers. A kernel over it has the same bits on every ISA,
 * because lane j always holds elements j, j + 16, ... and vf_sum always adds in the same tree.
 * vf_load_n and vf_store_n touch exactly n <= 16 elements; the missing lanes load as zero.
 */
#ifndef TACIT_SIMD_H
#define TACIT_SIMD_H

#include "exp.h"
#include "gelu.h"
#include "tile.h"

#include <sleef.h>
#include <string.h>

#define VF 16

#if TACIT_ISA_NUMBER == TACIT_ISA_IS_avx512
#include "simd_avx512.h"
#elif TACIT_ISA_NUMBER == TACIT_ISA_IS_avx2
#include "simd_avx2.h"
#elif TACIT_ISA_NUMBER == TACIT_ISA_IS_neon
#include "simd_neon.h"
#else
#error "ref is plain C and does not use the vocabulary"
#endif

/* Elements [i, i + 16) of n: the whole vector, or what is left of it. */
#define VF_LEFT(n, i) ((n) - (i) < VF ? (n) - (i) : (size_t)VF)

/* exp(x), as exp.h says. */
TACIT_INLINE vf vf_exp(vf x)
{
    static const float p[] = TACIT_EXP_P;
    const vf shift = vf_set1(TACIT_EXP_SHIFT);
    x = vf_min(vf_set1(TACIT_EXP_MOST), vf_max(vf_set1(TACIT_EXP_LEAST), x));
    vf shifted = vf_fma(x, vf_set1(TACIT_EXP_LOG2E), shift), n = vf_sub(shifted, shift);
    vf r = vf_fma(n, vf_set1(TACIT_EXP_LN2_HIGH), x), sum = vf_set1(p[4]);
    r = vf_fma(n, vf_set1(TACIT_EXP_LN2_LOW), r);
#pragma GCC unroll 4
    for (int i = 3; i >= 0; i--)
        sum = vf_fma(sum, r, vf_set1(p[i]));
    sum = vf_add(vf_set1(1), vf_fma(sum, vf_mul(r, r), r));
    return vf_mul(sum, vf_exponent(shifted));
}

/* max(0, x); a NaN stays one. */
TACIT_INLINE vf vf_relu(vf x)
{
    return vf_max(vf_zero(), x);
}

/* 1 + erf(x / sqrt 2), as gelu.h says. */
TACIT_INLINE vf vf_erf_more(vf x)
{
    static const float p[] = TACIT_ERF_P, q[] = TACIT_ERF_Q;
    vf z = vf_min(vf_set1(TACIT_ERF_MOST), vf_max(vf_set1(-TACIT_ERF_MOST), x));
    vf t = vf_mul(z, z), over = vf_set1(p[5]), under = vf_set1(q[5]);
#pragma GCC unroll 5
    for (int i = 4; i >= 0; i--) {
        over = vf_fma(over, t, vf_set1(p[i]));
        under = vf_fma(under, t, vf_set1(q[i]));
    }
    vf e = vf_div(vf_mul(z, over), under);
    e = vf_min(vf_set1(1), vf_max(vf_set1(-1), e));
    return vf_add(vf_set1(1), e);
}

/* 0.5 x (1 + erf(x / sqrt 2)) */
TACIT_INLINE vf vf_gelu(vf x)
{
    return vf_mul(vf_mul(vf_set1(0.5f), x), vf_erf_more(x));
}

/* The same by TACIT_ERF_SHORT. */
TACIT_INLINE vf vf_gelu_short(vf x)
{
    static const float p[] = TACIT_ERF_SHORT;
    vf z = vf_min(vf_set1(TACIT_ERF_SHORT_MOST), vf_max(vf_set1(-TACIT_ERF_SHORT_MOST), x));
    vf t = vf_mul(z, z), e = vf_set1(p[7]), half = vf_mul(vf_set1(0.5f), x);
#pragma GCC unroll 7
    for (int i = 6; i >= 0; i--)
        e = vf_fma(e, t, vf_set1(p[i]));
    e = vf_min(vf_set1(1), vf_max(vf_set1(-1), vf_mul(z, e)));
    return vf_fma(half, e, half);
}

#endif
