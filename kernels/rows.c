/* rows.c - kernels that work row by row: layer norm, softmax, cross entropy, L2 normalise, dot
 * product, pooling. */
#include "rows.h"

static void layernorm_row(size_t n, const float *x, const float *gamma, const float *beta,
                          float eps, float *y)
{
    vf sum = vf_zero();
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        sum = vf_add(sum, vf_load(x + i));
    if (i < n)
        sum = vf_add(sum, vf_load_n(x + i, n - i));
    vf mean = vf_set1(vf_sum(sum) / (float)n), squares = vf_zero();
    for (i = 0; i + VF <= n; i += VF) {
        vf d = vf_sub(vf_load(x + i), mean);
        squares = vf_fma(d, d, squares);
    }
    if (i < n) {
        vf d = vf_first(vf_sub(vf_load_n(x + i, n - i), mean), vf_zero(), n - i);
        squares = vf_fma(d, d, squares);
    }
    vf rstd = vf_set1(1.0f / sqrtf(vf_sum(squares) / (float)n + eps));
    for (i = 0; i + VF <= n; i += VF) {
        vf d = vf_mul(vf_sub(vf_load(x + i), mean), rstd);
        vf_store(y + i, vf_fma(d, vf_load(gamma + i), vf_load(beta + i)));
    }
    if (i < n) {
        size_t left = n - i;
        vf d = vf_mul(vf_sub(vf_load_n(x + i, left), mean), rstd);
        vf_store_n(y + i, vf_fma(d, vf_load_n(gamma + i, left), vf_load_n(beta + i, left)), left);
    }
}

void TACIT_NAME(tacit_layernorm_f32)(size_t rows, size_t n, const float *x, size_t ldx,
                                     const float *gamma, const float *beta, float eps, float *y,
                                     size_t ldy)
{
    for (size_t r = 0; r < rows; r++)
        layernorm_row(n, x + r * ldx, gamma, beta, eps, y + r * ldy);
}

void TACIT_NAME(tacit_softmax_f32)(size_t rows, size_t n, const float *x, size_t ldx, float scale,
                                   float *y, size_t ldy)
{
    for (size_t r = 0; n && r < rows; r++) {
        float sum = exp_row(n, x + r * ldx, scale, y + r * ldy, NULL);
        divide_row(n, y + r * ldy, sum, y + r * ldy);
    }
}

void TACIT_NAME(tacit_cross_entropy_f32)(size_t rows, size_t n, const float *x, size_t ldx,
                                         const uint32_t *labels, float *y, size_t ldy, float *loss)
{
    for (size_t r = 0; r < rows; r++, x += ldx, y += ldy) {
        float target = x[labels[r]], most, sum = exp_row(n, x, 1, y, &most), log[VF];
        divide_row(n, y, sum, y);
        y[labels[r]] -= 1;
        vf_store(log, vf_log(vf_set1(sum)));
        loss[r] = log[0] - (target - most);
    }
}

void TACIT_NAME(tacit_l2norm_f32)(size_t rows, size_t n, const float *x, size_t ldx, float *y,
                                  size_t ldy)
{
    for (size_t r = 0; r < rows; r++) {
        const float *row = x + r * ldx;
        vf squares = vf_zero();
        size_t i = 0;
        for (; i + VF <= n; i += VF) {
            vf v = vf_load(row + i);
            squares = vf_fma(v, v, squares);
        }
        if (i < n) {
            vf v = vf_load_n(row + i, n - i);
            squares = vf_fma(v, v, squares);
        }
        float norm = sqrtf(vf_sum(squares));
        divide_row(n, row, norm > 1e-12f ? norm : 1e-12f, y + r * ldy);
    }
}

double TACIT_NAME(tacit_dot_f64)(size_t n, const float *x, const float *y)
{
    vd sum = vd_zero();
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        sum = vd_fma(vf_load(x + i), vf_load(y + i), sum);
    if (i < n)
        sum = vd_fma(vf_load_n(x + i, n - i), vf_load_n(y + i, n - i), sum);
    return vd_sum(sum);
}

void TACIT_NAME(tacit_mean_rows_f32)(size_t rows, size_t n, const float *x, size_t ldx, float *y)
{
    vf count = vf_set1((float)rows);
    for (size_t i = 0; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        vf sum = vf_zero();
        for (size_t r = 0; r < rows;) {
            vf part = vf_zero();
            for (size_t end = rows - r > 16 ? r + 16 : rows; r < end; r++)
                part = vf_add(part, left == VF ? vf_load(x + r * ldx + i)
                                               : vf_load_n(x + r * ldx + i, left));
            sum = vf_add(sum, part);
        }
        vf_store_n(y + i, vf_div(sum, count), left);
    }
}
