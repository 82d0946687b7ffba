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

/* Vectors of columns whose sums fit into the registers: so many lines of a row are read at a time.
 */
#define WIDE 4

/* width is a constant at every call. */
TACIT_INLINE void moments(size_t width, size_t rows, size_t n, const float *x, size_t ldx,
                          double *sum, double *square)
{
    const vf one = vf_set1(1);
    vd s[WIDE], q[WIDE];
    for (size_t j = 0; j < width; j++) {
        s[j] = load_sums(sum + j * VF, VF_LEFT(n, j * VF));
        q[j] = load_sums(square + j * VF, VF_LEFT(n, j * VF));
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < width; j++) {
            size_t left = VF_LEFT(n, j * VF);
            vf v = LOAD(x + r * ldx + j * VF);
            s[j] = vd_fma(v, one, s[j]);
            q[j] = vd_fma(v, v, q[j]);
        }
    for (size_t j = 0; j < width; j++) {
        store_sums(sum + j * VF, s[j], VF_LEFT(n, j * VF));
        store_sums(square + j * VF, q[j], VF_LEFT(n, j * VF));
    }
}

void TACIT_NAME(tacit_moments_f32)(size_t rows, size_t n, const float *x, size_t ldx, double *sum,
                                   double *square)
{
    size_t i = 0;
    for (; i + WIDE * VF <= n; i += WIDE * VF)
        moments(WIDE, rows, WIDE * VF, x + i, ldx, sum + i, square + i);
    for (; i < n; i += VF)
        moments(1, rows, n - i, x + i, ldx, sum + i, square + i);
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
                                     const tacit_batchnorm *norm, const float *beside, size_t ldb,
                                     float *y, size_t ldy)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i += VF) {
            size_t left = VF_LEFT(n, i);
            columns c = columns_of(norm, i, left);
            vf v = vf_fma(hat(&c, LOAD(x + r * ldx + i)), c.gamma, c.beta);
            if (beside)
                v = vf_add(v, LOAD(beside + r * ldb + i));
            if (norm->relu || beside)
                v = vf_max(v, vf_zero());
            if (left == VF)
                vf_store(y + r * ldy + i, v);
            else
                vf_store_n(y + r * ldy + i, v, left);
        }
}

/* Of the columns from i on; width is a constant at every call. */
TACIT_INLINE void sums(size_t width, size_t rows, size_t n, size_t i, const float *x, size_t ldx,
                       const tacit_batchnorm *norm, const float *dy, size_t lddy, double *sum,
                       double *dot)
{
    const vf one = vf_set1(1);
    vd s[WIDE], q[WIDE];
    for (size_t j = 0; j < width; j++) {
        s[j] = load_sums(sum + i + j * VF, VF_LEFT(n, i + j * VF));
        q[j] = load_sums(dot + i + j * VF, VF_LEFT(n, i + j * VF));
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < width; j++) {
            size_t at = i + j * VF, left = VF_LEFT(n, at);
            columns c = columns_of(norm, at, left);
            vf h = hat(&c, LOAD(x + r * ldx + at)), d = LOAD(dy + r * lddy + at);
            if (norm->relu)
                d = open_only(&c, h, d);
            s[j] = vd_fma(d, one, s[j]);
            q[j] = vd_fma(d, h, q[j]);
        }
    for (size_t j = 0; j < width; j++) {
        store_sums(sum + i + j * VF, s[j], VF_LEFT(n, i + j * VF));
        store_sums(dot + i + j * VF, q[j], VF_LEFT(n, i + j * VF));
    }
}

void TACIT_NAME(tacit_batchnorm_sums_f32)(size_t rows, size_t n, const float *x, size_t ldx,
                                          const tacit_batchnorm *norm, const float *dy, size_t lddy,
                                          double *sum, double *dot)
{
    size_t i = 0;
    for (; i + WIDE * VF <= n; i += WIDE * VF)
        sums(WIDE, rows, i + WIDE * VF, i, x, ldx, norm, dy, lddy, sum, dot);
    for (; i < n; i += VF)
        sums(1, rows, n, i, x, ldx, norm, dy, lddy, sum, dot);
}

void TACIT_NAME(tacit_batchnorm_backward_f32)(size_t rows, size_t n, const float *x, size_t ldx,
                                              const tacit_batchnorm *norm, const float *dy,
                                              size_t lddy, const float *a, const float *b,
                                              float *dx, size_t lddx)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i += VF) {
            size_t left = VF_LEFT(n, i);
            columns c = columns_of(norm, i, left);
            vf h = hat(&c, LOAD(x + r * ldx + i)), d = LOAD(dy + r * lddy + i);
            if (norm->relu)
                d = open_only(&c, h, d);
            vf minus_b = vf_sub(vf_set1(-0.0f), LOAD(b + i));
            d = vf_mul(vf_fma(h, minus_b, vf_sub(d, LOAD(a + i))), vf_mul(c.gamma, c.rstd));
            if (left == VF)
                vf_store(dx + r * lddx + i, d);
            else
                vf_store_n(dx + r * lddx + i, d, left);
        }
}
