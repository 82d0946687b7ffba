/* backward.c - the gradients of what works row by row or element by element. */
#include "rows.h"

#define LOAD(p)     (left == VF ? vf_load(p) : vf_load_n(p, left))
#define STORE(p, x) (left == VF ? vf_store(p, x) : vf_store_n(p, x, left))

/* sum where it has a whole vector; what is beyond `left` must not count. */
TACIT_INLINE vf keep(vf next, vf sum, size_t left)
{
    return left == VF ? next : vf_first(next, sum, left);
}

static void layernorm_backward_row(size_t n, const float *x, const float *gamma, const float *beta,
                                   float eps, const float *dy, float *dx, bool more, float *dgamma,
                                   float *dbeta, float *normed)
{
    vf sum = vf_zero(), squares = vf_zero();
    for (size_t i = 0; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        sum = vf_add(sum, LOAD(x + i));
    }
    vf mean = vf_set1(vf_sum(sum) / (float)n);
    for (size_t i = 0; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        vf d = vf_sub(LOAD(x + i), mean);
        squares = keep(vf_fma(d, d, squares), squares, left);
    }
    vf rstd = vf_set1(1.0f / sqrtf(vf_sum(squares) / (float)n + eps));
    vf sum_g = vf_zero(), sum_gh = vf_zero();
    for (size_t i = 0; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        vf h = vf_mul(vf_sub(LOAD(x + i), mean), rstd), g = vf_mul(LOAD(dy + i), LOAD(gamma + i));
        sum_g = keep(vf_add(sum_g, g), sum_g, left);
        sum_gh = keep(vf_fma(g, h, sum_gh), sum_gh, left);
    }
    vf a = vf_set1(vf_sum(sum_g) / (float)n), minus_b = vf_set1(-(vf_sum(sum_gh) / (float)n));
    for (size_t i = 0; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        vf h = vf_mul(vf_sub(LOAD(x + i), mean), rstd), y = LOAD(dy + i), scale = LOAD(gamma + i);
        vf g = vf_mul(y, scale);
        if (normed)
            STORE(normed + i, vf_fma(h, scale, LOAD(beta + i)));
        vf d = vf_mul(vf_fma(h, minus_b, vf_sub(g, a)), rstd);
        STORE(dgamma + i, vf_fma(y, h, LOAD(dgamma + i)));
        STORE(dbeta + i, vf_add(LOAD(dbeta + i), y));
        STORE(dx + i, more ? vf_add(LOAD(dx + i), d) : d);
    }
}

void TACIT_NAME(tacit_layernorm_backward_f32)(size_t rows, size_t n, const float *x, size_t ldx,
                                              const float *gamma, const float *beta, float eps,
                                              const float *dy, size_t lddy, float *dx, size_t lddx,
                                              bool more, float *dgamma, float *dbeta, float *y,
                                              size_t ldy)
{
    for (size_t r = 0; r < rows; r++)
        layernorm_backward_row(n, x + r * ldx, gamma, beta, eps, dy + r * lddy, dx + r * lddx, more,
                               dgamma, dbeta, y ? y + r * ldy : NULL);
}

void TACIT_NAME(tacit_sum_rows_f32)(size_t rows, size_t n, const float *x, size_t ldx, bool more,
                                    float *y)
{
    size_t i = 0;
    for (; i + 4 * VF <= n; i += 4 * VF) { /* four lines of a row at a time */
        vf sum[4], part[4];
        for (size_t v = 0; v < 4; v++)
            sum[v] = more ? vf_load(y + i + v * VF) : vf_zero();
        for (size_t r = 0; r < rows;) {
            for (size_t v = 0; v < 4; v++)
                part[v] = vf_zero();
            for (size_t end = rows - r > 16 ? r + 16 : rows; r < end; r++)
                for (size_t v = 0; v < 4; v++)
                    part[v] = vf_add(part[v], vf_load(x + r * ldx + i + v * VF));
            for (size_t v = 0; v < 4; v++)
                sum[v] = vf_add(sum[v], part[v]);
        }
        for (size_t v = 0; v < 4; v++)
            vf_store(y + i + v * VF, sum[v]);
    }
    for (; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        vf sum = more ? LOAD(y + i) : vf_zero();
        for (size_t r = 0; r < rows;) {
            vf part = vf_zero();
            for (size_t end = rows - r > 16 ? r + 16 : rows; r < end; r++)
                part = vf_add(part, LOAD(x + r * ldx + i));
            sum = vf_add(sum, part);
        }
        STORE(y + i, sum);
    }
}

static void l2norm_backward_row(size_t n, const float *x, const float *dy, float *dx)
{
    vf squares = vf_zero(), sum = vf_zero();
    for (size_t i = 0; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        vf v = LOAD(x + i);
        squares = vf_fma(v, v, squares);
    }
    float norm = sqrtf(vf_sum(squares));
    vf divisor = vf_set1(norm > 1e-12f ? norm : 1e-12f);
    for (size_t i = 0; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        sum = keep(vf_fma(LOAD(dy + i), vf_div(LOAD(x + i), divisor), sum), sum, left);
    }
    vf minus_dot = vf_set1(-vf_sum(sum));
    for (size_t i = 0; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        vf d = LOAD(dy + i);
        if (norm > 1e-12f)
            d = vf_fma(vf_div(LOAD(x + i), divisor), minus_dot, d);
        STORE(dx + i, vf_div(d, divisor));
    }
}

void TACIT_NAME(tacit_l2norm_backward_f32)(size_t rows, size_t n, const float *x, size_t ldx,
                                           const float *dy, size_t lddy, float *dx, size_t lddx)
{
    for (size_t r = 0; r < rows; r++)
        l2norm_backward_row(n, x + r * ldx, dy + r * lddy, dx + r * lddx);
}

void TACIT_NAME(tacit_soft_cross_entropy_f32)(size_t rows, size_t n, const float *x, size_t ldx,
                                              const float *q, size_t ldq, float *dx, size_t lddx,
                                              float *loss)
{
    for (size_t r = 0; r < rows; r++, x += ldx, q += ldq, dx += lddx) {
        vf mass = vf_zero(), dot = vf_zero();
        for (size_t i = 0; i < n; i += VF) {
            size_t left = VF_LEFT(n, i);
            vf t = LOAD(q + i);
            mass = vf_add(mass, t);
            dot = keep(vf_fma(t, LOAD(x + i), dot), dot, left);
        }
        float m = vf_sum(mass), d = vf_sum(dot), most, sum = exp_row(n, x, 1, dx, &most), log[VF];
        divide_row(n, dx, sum, dx);
        for (size_t i = 0; i < n; i += VF) {
            size_t left = VF_LEFT(n, i);
            vf minus_q = vf_sub(vf_set1(-0.0f), LOAD(q + i));
            STORE(dx + i, vf_fma(LOAD(dx + i), vf_set1(m), minus_q));
        }
        vf_store(log, vf_log(vf_set1(sum)));
        loss[r] = fmaf(m, log[0] + most, -d);
    }
}

void TACIT_NAME(tacit_gelu_backward_f32)(size_t n, const float *x, const float *dy, float *y,
                                         float *dx)
{
    const vf half = vf_set1(0.5f), density = vf_set1(0.398942280f);
    for (size_t i = 0; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        vf v = LOAD(x + i), d = LOAD(dy + i), erf_more = vf_erf_more(v);
        vf phi = vf_mul(vf_exp(vf_mul(vf_mul(v, v), vf_set1(-0.5f))), density);
        STORE(y + i, vf_mul(vf_mul(half, v), erf_more));
        STORE(dx + i, vf_mul(d, vf_fma(v, phi, vf_mul(half, erf_more))));
    }
}

void TACIT_NAME(tacit_scale_add_f32)(size_t n, const float *x, float a, const float *y, float *z)
{
    for (size_t i = 0; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        vf v = LOAD(x + i), factor = vf_set1(a);
        STORE(z + i, y ? vf_fma(v, factor, LOAD(y + i)) : vf_mul(v, factor));
    }
}

double TACIT_NAME(tacit_squared_error_f32)(size_t n, const float *x, const float *t, float scale,
                                           float *dx)
{
    vd sum = vd_zero();
    for (size_t i = 0; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        vf d = vf_sub(LOAD(x + i), LOAD(t + i));
        sum = vd_fma(d, d, sum);
        STORE(dx + i, vf_mul(d, vf_set1(scale)));
    }
    return vd_sum(sum);
}

void TACIT_NAME(tacit_relu_backward_f32)(size_t n, const float *y, const float *dy, float *dx)
{
    for (size_t i = 0; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        STORE(dx + i, vf_if_gt(LOAD(y + i), vf_zero(), LOAD(dy + i), vf_zero()));
    }
}
