/* simd_bf16.h - what dot_tile.h needs for products of bfloat16, as kernels_bf16.h defines them.
 *
 * Where TACIT_DOT is set, as in bf16_dot.c, sum_dot is one instruction; else both values of a pair
 * are widened and multiplied one after the other.
 */
#ifndef TACIT_SIMD_BF16_H
#define TACIT_SIMD_BF16_H

#include "bf16.h"
#include "simd.h"

typedef vf vacc;

#if TACIT_DOT

typedef __m512bh vgroup;

TACIT_INLINE vgroup group_of_row(const uint8_t *p)
{
    int32_t pair;
    memcpy(&pair, p, sizeof pair);
    return (vgroup)_mm512_set1_epi32(pair);
}
TACIT_INLINE vgroup group_of_panel(const uint8_t *p)
{
    return (vgroup)_mm512_loadu_si512(p);
}
TACIT_INLINE vacc sum_dot(vacc sum, vgroup a, vgroup w)
{
    return _mm512_dpbf16_ps(sum, a, w);
}

#else

typedef struct vgroup {
    vf first, second;
} vgroup;

TACIT_INLINE vf flush(vf x)
{
    vf size = vf_max(x, vf_sub(vf_zero(), x));
    return vf_mul(x, vf_if_gt(vf_set1(FLT_MIN), size, vf_zero(), vf_set1(1)));
}
TACIT_INLINE vgroup group_of_row(const uint8_t *p)
{
    uint16_t pair[2];
    memcpy(pair, p, sizeof pair);
    return (vgroup){ vf_set1(tacit_bf16_value(pair[0])), vf_set1(tacit_bf16_value(pair[1])) };
}
TACIT_INLINE vgroup group_of_panel(const uint8_t *p)
{
    uint32_t pairs[VF], first[VF], second[VF];
    float values[2][VF];
    memcpy(pairs, p, sizeof pairs);
    for (size_t i = 0; i < VF; i++) {
        first[i] = pairs[i] << 16;
        second[i] = pairs[i] & 0xffff0000;
    }
    memcpy(values[0], first, sizeof first);
    memcpy(values[1], second, sizeof second);
    return (vgroup){ flush(vf_load(values[0])), flush(vf_load(values[1])) };
}
TACIT_INLINE vacc sum_dot(vacc sum, vgroup a, vgroup w)
{
    return flush(vf_fma(a.first, w.first, flush(vf_fma(a.second, w.second, sum))));
}

#endif

#endif
