/* batchnorm.c - batch norm in training mode, in blocks of rows of channels. */
#include "simd.h"

#define LOAD(p) (left == VF ? vf_load(p) : vf_load_n(p, left))

/* 16 columns of doubles, of which `left` are there. */
TACIT_INLINE vd load_sums(const double *p, size_t left)
{
    double whole[VF] = { 0 };
    if (left == VF)
        return vd_load(p);
    memcpy(whole, p, left * sizeof *p);
    return vd_load(whole);
}

TACIT_INLINE void store_sums(double *p, vd x, size_t left)
{
    double whole[VF];
    if (left == VF) {
        vd_store(p, x);
    } else {
        vd_store(whole, x);
        memcpy(p, whole, left * sizeof *p);
    }
}

void TACIT_NAME(tacit_moments_f32)(size_t rows, size_t n, const float *x, size_t ldx, double *sum,
                                   double *square)
{
    const vf one = vf_set1(1);
    for (size_t i = 0; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        vd s = load_sums(sum + i, left), q = load_sums(square + i, left);
        for (size_t r = 0; r < rows; r++) {
            vf v = LOAD(x + r * ldx + i);
            s = vd_fma(v, one, s);
            q = vd_fma(v, v, q);
        }
        store_sums(sum + i, s, left);
        store_sums(square + i, q, left);
    }
}

/* h and y of 16 columns. */
typedef struct columns {
    vf mean, rstd, gamma, beta;
} columns;

TACIT_INLINE columns columns_of(const tacit_batchnorm *norm, size_t i, size_t left)
{
    return (columns){ LOAD(norm->mean + i), LOAD(norm->rstd + i), LOAD(norm->gamma + i),
                      LOAD(norm->beta + i) };
}

TACIT_INLINE vf hat(const columns *c, vf x)
{
    return vf_mul(vf_sub(x, c->mean), c->rstd);
}

/* dy, or 0 where the relu was shut. */
TACIT_INLINE vf open_only(const columns *c, vf h, vf dy)
{
    return vf_if_gt(vf_fma(h, c->gamma, c->beta), vf_zero(), dy, vf_zero());
}

void TACIT_NAME(tacit_batchnorm_f32)(size_t rows, size_t n, const float *x, size_t ldx,
                                     const tacit_batchnorm *norm, float *y, size_t ldy)
{
    for (size_t i = 0; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        columns c = columns_of(norm, i, left);
        for (size_t r = 0; r < rows; r++) {
            vf v = vf_fma(hat(&c, LOAD(x + r * ldx + i)), c.gamma, c.beta);
            if (norm->relu)
                v = vf_max(v, vf_zero());
            if (left == VF)
                vf_store(y + r * ldy + i, v);
            else
                vf_store_n(y + r * ldy + i, v, left);
        }
    }
}

void TACIT_NAME(tacit_batchnorm_sums_f32)(size_t rows, size_t n, const float *x, size_t ldx,
                                          const tacit_batchnorm *norm, const float *dy, size_t lddy,
                                          double *sum, double *dot)
{
    const vf one = vf_set1(1);
    for (size_t i = 0; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        columns c = columns_of(norm, i, left);
        vd s = load_sums(sum + i, left), q = load_sums(dot + i, left);
        for (size_t r = 0; r < rows; r++) {
            vf h = hat(&c, LOAD(x + r * ldx + i)), d = LOAD(dy + r * lddy + i);
            if (norm->relu)
                d = open_only(&c, h, d);
            s = vd_fma(d, one, s);
            q = vd_fma(d, h, q);
        }
        store_sums(sum + i, s, left);
        store_sums(dot + i, q, left);
    }
}

void TACIT_NAME(tacit_batchnorm_backward_f32)(size_t rows, size_t n, const float *x, size_t ldx,
                                              const tacit_batchnorm *norm, const float *dy,
                                              size_t lddy, const float *a, const float *b,
                                              float *dx, size_t lddx)
{
    for (size_t i = 0; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        columns c = columns_of(norm, i, left);
        vf mean_d = LOAD(a + i), minus_b = vf_sub(vf_set1(-0.0f), LOAD(b + i));
        vf factor = vf_mul(c.gamma, c.rstd);
        for (size_t r = 0; r < rows; r++) {
            vf h = hat(&c, LOAD(x + r * ldx + i)), d = LOAD(dy + r * lddy + i);
            if (norm->relu)
                d = open_only(&c, h, d);
            d = vf_mul(vf_fma(h, minus_b, vf_sub(d, mean_d)), factor);
            if (left == VF)
                vf_store(dx + r * lddx + i, d);
            else
                vf_store_n(dx + r * lddx + i, d, left);
        }
    }
}
