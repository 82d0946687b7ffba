/* rows.h - pieces of row-wise kernels that more than one file needs. */
#ifndef TACIT_ROWS_H
#define TACIT_ROWS_H

#include "simd.h"

#include <math.h>

/* y = exp(fma(x, scale, -max(x) * scale)); returns the sum of y. n > 0. y may be x. max(x) goes
 * to *largest where that is not NULL. */
TACIT_INLINE float exp_row(size_t n, const float *x, float scale, float *y, float *largest)
{
    vf most = vf_set1(-INFINITY);
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        most = vf_max(most, vf_load(x + i));
    if (i < n)
        most = vf_max(most, vf_first(vf_load_n(x + i, n - i), vf_set1(-INFINITY), n - i));
    float hmax = vf_hmax(most);
    if (largest)
        *largest = hmax;
    vf factor = vf_set1(scale), offset = vf_set1(-hmax * scale), sum = vf_zero();
    for (i = 0; i + VF <= n; i += VF) {
        vf e = vf_exp(vf_fma(vf_load(x + i), factor, offset));
        vf_store(y + i, e);
        sum = vf_add(sum, e);
    }
    if (i < n) {
        vf e = vf_exp(vf_fma(vf_load_n(x + i, n - i), factor, offset));
        vf_store_n(y + i, e, n - i);
        sum = vf_add(sum, vf_first(e, vf_zero(), n - i));
    }
    return vf_sum(sum);
}

/* x = fma(x, scale, bias) */
TACIT_INLINE void add_bias(size_t n, float *x, float scale, const float *bias)
{
    vf factor = vf_set1(scale);
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        vf_store(x + i, vf_fma(vf_load(x + i), factor, vf_load(bias + i)));
    if (i < n)
        vf_store_n(x + i, vf_fma(vf_load_n(x + i, n - i), factor, vf_load_n(bias + i, n - i)),
                   n - i);
}

/* y = x * factor */
TACIT_INLINE void scale_row(size_t n, const float *x, float factor, float *y)
{
    vf f = vf_set1(factor);
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        vf_store(y + i, vf_mul(vf_load(x + i), f));
    if (i < n)
        vf_store_n(y + i, vf_mul(vf_load_n(x + i, n - i), f), n - i);
}

/* y = x / divisor */
TACIT_INLINE void divide_row(size_t n, const float *x, float divisor, float *y)
{
    vf d = vf_set1(divisor);
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        vf_store(y + i, vf_div(vf_load(x + i), d));
    if (i < n)
        vf_store_n(y + i, vf_div(vf_load_n(x + i, n - i), d), n - i);
}

#endif
