/* ref_train.c - the definition of the training kernels' results, in plain C. Read beside
 * kernels_train.h. */
#include "ref.h"

void tacit_gemm_pack_t_f32_ref(size_t n, size_t k, const float *w, size_t ldw, float *packed)
{
    for (size_t j = 0; j < n; j += TACIT_NR)
        for (size_t p = 0; p < k; p++)
            for (size_t i = 0; i < TACIT_NR; i++)
                *packed++ = j + i < n ? w[p * ldw + j + i] : 0.0f;
}

static float chain(size_t n, const float *x, const float *y)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++)
        sum = fmaf(x[i], y[i], sum);
    return sum;
}

void tacit_attention_backward_f32_ref(size_t tokens, size_t dim, const float *q, const float *k,
                                      const float *v, size_t ld, float scale, const float *bias,
                                      float *dbias, size_t ldb, const float *dout, size_t ldo,
                                      float *dq, float *dk, float *dv, size_t ldd, float *scratch)
{
    for (size_t first = 0, block; first < tokens; first += block) {
        block = tokens - first < TACIT_KC ? tokens - first : TACIT_KC;
        float *p = scratch, *ds = p + block * tokens; /* (block, tokens) each */
        for (size_t i = 0; i < block; i++) {
            float *pi = p + i * tokens, *dsi = ds + i * tokens, most, lane[LANES] = { 0 };
            const float *query = q + (first + i) * ld, *d = dout + (first + i) * ldo;
            for (size_t t = 0; t < tokens; t++) {
                pi[t] = chain(dim, query, k + t * ld);
                dsi[t] = chain(dim, d, v + t * ld);
                if (bias)
                    pi[t] = fmaf(pi[t], scale, bias[(first + i) * ldb + t]);
            }
            float inverse = 1.0f / exp_row(tokens, pi, bias ? 1.0f : scale, pi, &most);
            for (size_t t = 0; t < tokens; t++) {
                pi[t] *= inverse;
                lane[t % LANES] = fmaf(pi[t], dsi[t], lane[t % LANES]);
            }
            float middle = sum_lanes(lane);
            for (size_t t = 0; t < tokens; t++) {
                dsi[t] = pi[t] * (dsi[t] - middle);
                if (bias)
                    dbias[(first + i) * ldb + t] += dsi[t];
                dsi[t] *= scale;
            }
            for (size_t j = 0; j < dim; j++)
                dq[(first + i) * ldd + j] = chains(tokens, dsi, k + j, ld);
        }
        tacit_gemm_tn_f32_ref(tokens, dim, block, ds, tokens, q + first * ld, ld, dk, ldd,
                              first > 0, NULL);
        tacit_gemm_tn_f32_ref(tokens, dim, block, p, tokens, dout + first * ldo, ldo, dv, ldd,
                              first > 0, NULL);
    }
}

void tacit_layernorm_backward_f32_ref(size_t rows, size_t n, const float *x, size_t ldx,
                                      const float *gamma, const float *beta, float eps,
                                      const float *dy, size_t lddy, float *dx, size_t lddx,
                                      bool more, float *dgamma, float *dbeta, float *y, size_t ldy)
{
    for (size_t r = 0; r < rows; r++, x += ldx, dy += lddy, dx += lddx) {
        float sum[LANES] = { 0 }, squares[LANES] = { 0 }, g[LANES] = { 0 }, gh[LANES] = { 0 };
        for (size_t i = 0; i < n; i++)
            sum[i % LANES] += x[i];
        float mean = sum_lanes(sum) / (float)n;
        for (size_t i = 0; i < n; i++)
            squares[i % LANES] = fmaf(x[i] - mean, x[i] - mean, squares[i % LANES]);
        float rstd = 1.0f / sqrtf(sum_lanes(squares) / (float)n + eps);
        for (size_t i = 0; i < n; i++) {
            float h = (x[i] - mean) * rstd;
            g[i % LANES] += dy[i] * gamma[i];
            gh[i % LANES] = fmaf(dy[i] * gamma[i], h, gh[i % LANES]);
        }
        float a = sum_lanes(g) / (float)n, b = sum_lanes(gh) / (float)n;
        for (size_t i = 0; i < n; i++) {
            float h = (x[i] - mean) * rstd, d = fmaf(h, -b, dy[i] * gamma[i] - a) * rstd;
            dgamma[i] = fmaf(dy[i], h, dgamma[i]);
            dbeta[i] += dy[i];
            dx[i] = more ? dx[i] + d : d;
            if (y)
                y[r * ldy + i] = fmaf(h, gamma[i], beta[i]);
        }
    }
}

void tacit_sum_rows_f32_ref(size_t rows, size_t n, const float *x, size_t ldx, bool more, float *y)
{
    for (size_t i = 0; i < n; i++) {
        float sum = more ? y[i] : 0;
        for (size_t r = 0; r < rows;) {
            float part = 0;
            for (size_t end = rows - r > 16 ? r + 16 : rows; r < end; r++)
                part += x[r * ldx + i];
            sum += part;
        }
        y[i] = sum;
    }
}

void tacit_l2norm_backward_f32_ref(size_t rows, size_t n, const float *x, size_t ldx,
                                   const float *dy, size_t lddy, float *dx, size_t lddx)
{
    for (size_t r = 0; r < rows; r++, x += ldx, dy += lddy, dx += lddx) {
        float squares[LANES] = { 0 }, dot[LANES] = { 0 };
        for (size_t i = 0; i < n; i++)
            squares[i % LANES] = fmaf(x[i], x[i], squares[i % LANES]);
        float norm = sqrtf(sum_lanes(squares));
        float divisor = norm > 1e-12f ? norm : 1e-12f;
        for (size_t i = 0; i < n; i++)
            dot[i % LANES] = fmaf(dy[i], x[i] / divisor, dot[i % LANES]);
        float minus_dot = -sum_lanes(dot);
        for (size_t i = 0; i < n; i++)
            dx[i] = (norm > 1e-12f ? fmaf(x[i] / divisor, minus_dot, dy[i]) : dy[i]) / divisor;
    }
}

void tacit_soft_cross_entropy_f32_ref(size_t rows, size_t n, const float *x, size_t ldx,
                                      const float *q, size_t ldq, float *dx, size_t lddx,
                                      float *loss)
{
    for (size_t r = 0; r < rows; r++, x += ldx, q += ldq, dx += lddx) {
        float mass[LANES] = { 0 }, dot[LANES] = { 0 }, most;
        for (size_t i = 0; i < n; i++) {
            mass[i % LANES] += q[i];
            dot[i % LANES] = fmaf(q[i], x[i], dot[i % LANES]);
        }
        float m = sum_lanes(mass), sum = exp_row(n, x, 1, dx, &most);
        for (size_t i = 0; i < n; i++)
            dx[i] = fmaf(dx[i] / sum, m, -q[i]);
        loss[r] = fmaf(m, ref_log(sum) + most, -sum_lanes(dot));
    }
}

void tacit_moments_f32_ref(size_t rows, size_t n, const float *x, size_t ldx, double *sum,
                           double *square)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++) {
            sum[i] += (double)x[r * ldx + i];
            square[i] += (double)x[r * ldx + i] * (double)x[r * ldx + i];
        }
}

void tacit_batchnorm_f32_ref(size_t rows, size_t n, const float *x, size_t ldx,
                             const tacit_batchnorm *norm, const float *beside, size_t ldb, float *y,
                             size_t ldy)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++) {
            float h = (x[r * ldx + i] - norm->mean[i]) * norm->rstd[i];
            float v = fmaf(h, norm->gamma[i], norm->beta[i]);
            if (beside)
                v += beside[r * ldb + i];
            y[r * ldy + i] = norm->relu || beside ? ref_max(v, 0) : v;
        }
}

/* The gradient of batch norm's output as it arrives behind the relu. */
static float open_only(const tacit_batchnorm *norm, size_t i, float h, float dy)
{
    return !norm->relu || fmaf(h, norm->gamma[i], norm->beta[i]) > 0 ? dy : 0;
}

void tacit_batchnorm_sums_f32_ref(size_t rows, size_t n, const float *x, size_t ldx,
                                  const tacit_batchnorm *norm, const float *dy, size_t lddy,
                                  double *sum, double *dot)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++) {
            float h = (x[r * ldx + i] - norm->mean[i]) * norm->rstd[i];
            float d = open_only(norm, i, h, dy[r * lddy + i]);
            sum[i] += (double)d;
            dot[i] += (double)d * (double)h;
        }
}

void tacit_batchnorm_backward_f32_ref(size_t rows, size_t n, const float *x, size_t ldx,
                                      const tacit_batchnorm *norm, const float *dy, size_t lddy,
                                      const float *a, const float *b, float *dx, size_t lddx)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++) {
            float h = (x[r * ldx + i] - norm->mean[i]) * norm->rstd[i];
            float d = open_only(norm, i, h, dy[r * lddy + i]);
            dx[r * lddx + i] = fmaf(h, -b[i], d - a[i]) * (norm->gamma[i] * norm->rstd[i]);
        }
}

/* Value of the input, zero in the padding: y and x count from the padding's first row and pixel. */
static float window_value(const tacit_conv *c, const float *image, size_t y, size_t x, size_t i)
{
    if (y < c->pad || x < c->pad || y - c->pad >= c->height || x - c->pad >= c->width)
        return 0;
    return image[((y - c->pad) * c->width + x - c->pad) * c->ldx + i];
}

void tacit_conv_windows_f32_ref(const tacit_conv *c, size_t first, size_t m, size_t p, size_t kc,
                                const float *x, float *to)
{
    for (size_t o = first; o < first + m; o++) {
        const float *image = x + o / (c->rows * c->columns) * c->height * c->width * c->ldx;
        size_t row = o / c->columns % c->rows * c->stride, column = o % c->columns * c->stride;
        for (size_t q = p; q < p + kc; q++) {
            size_t tap = q / c->channels;
            *to++ = window_value(c, image, row + tap / c->kernel, column + tap % c->kernel,
                                 q % c->channels);
        }
    }
}

void tacit_conv_scatter_f32_ref(const tacit_conv *c, const float *d, size_t ldd, float *dx)
{
    for (size_t p = 0; p < c->height * c->width; p++)
        for (size_t i = 0; i < c->channels; i++)
            dx[p * c->ldx + i] = 0;
    for (size_t tap = 0; tap < c->kernel * c->kernel; tap++)
        for (size_t o = 0; o < c->rows * c->columns; o++) {
            size_t y = o / c->columns * c->stride + tap / c->kernel;
            size_t x = o % c->columns * c->stride + tap % c->kernel;
            if (y < c->pad || x < c->pad || y - c->pad >= c->height || x - c->pad >= c->width)
                continue;
            for (size_t i = 0; i < c->channels; i++)
                dx[((y - c->pad) * c->width + x - c->pad) * c->ldx + i] +=
                    d[o * ldd + tap * c->channels + i];
        }
}

void tacit_maxpool_backward_f32_ref(const tacit_conv *c, const float *x, const float *dy,
                                    size_t lddy, float *dx)
{
    for (size_t p = 0; p < c->height * c->width; p++)
        for (size_t i = 0; i < c->channels; i++)
            dx[p * c->ldx + i] = 0;
    for (size_t o = 0; o < c->rows * c->columns; o++)
        for (size_t i = 0; i < c->channels; i++) {
            float d = dy[o * lddy + i], most = 0;
            for (int pass = 0, any = 0; pass < 2; pass++)
                for (size_t tap = 0; tap < c->kernel * c->kernel; tap++) {
                    size_t v = o / c->columns * c->stride + tap / c->kernel - c->pad;
                    size_t u = o % c->columns * c->stride + tap % c->kernel - c->pad;
                    if (v >= c->height || u >= c->width) /* also below 0, which wraps */
                        continue;
                    float value = x[(v * c->width + u) * c->ldx + i];
                    if (!pass) {
                        most = any ? ref_max(value, most) : value;
                        any = 1;
                        continue;
                    }
                    dx[(v * c->width + u) * c->ldx + i] += most > value ? 0 : d;
                    d = most > value ? d : 0;
                }
        }
}

void tacit_relu_backward_f32_ref(size_t n, const float *y, const float *dy, float *dx)
{
    for (size_t i = 0; i < n; i++)
        dx[i] = y[i] > 0 ? dy[i] : 0;
}

void tacit_gelu_backward_f32_ref(size_t n, const float *x, const float *dy, float *y, float *dx)
{
    for (size_t i = 0; i < n; i++) {
        float v = x[i], d = dy[i], erf_more = ref_erf_more(v);
        float phi = ref_exp(v * v * -0.5f) * 0.398942280f;
        y[i] = 0.5f * v * erf_more;
        dx[i] = d * fmaf(v, phi, 0.5f * erf_more);
    }
}

void tacit_scale_add_f32_ref(size_t n, const float *x, float a, const float *y, float *z)
{
    for (size_t i = 0; i < n; i++)
        z[i] = y ? fmaf(x[i], a, y[i]) : x[i] * a;
}

double tacit_squared_error_f32_ref(size_t n, const float *x, const float *t, float scale, float *dx)
{
    double lane[LANES] = { 0 };
    for (size_t i = 0; i < n; i++) {
        float d = x[i] - t[i];
        lane[i % LANES] += (double)d * (double)d;
        dx[i] = d * scale;
    }
    for (size_t half = LANES / 2; half; half /= 2)
        for (size_t i = 0; i < half; i++)
            lane[i] += lane[i + half];
    return lane[0];
}

void tacit_sgd_f32_ref(size_t n, const tacit_sgd *sgd, const float *dw, float *v, float *w)
{
    for (size_t i = 0; i < n; i++) {
        float g = fmaf(w[i], sgd->decay, dw[i]) * sgd->scale;
        v[i] = fmaf(v[i], sgd->momentum, g);
        w[i] = fmaf(sgd->nesterov ? fmaf(v[i], sgd->momentum, g) : v[i], -sgd->rate, w[i]);
    }
}

void tacit_adamw_f32_ref(size_t n, const tacit_adamw *a, const float *dw, float *m, float *v,
                         float *w)
{
    for (size_t i = 0; i < n; i++) {
        m[i] = fmaf(dw[i] - m[i], a->beta1_less, m[i]);
        v[i] = fmaf(dw[i] * dw[i], a->beta2_less, v[i] * a->beta2);
        float step = m[i] / fmaf(sqrtf(v[i]), a->inverse_root, a->eps);
        w[i] = fmaf(step, -a->rate, w[i] * a->keep);
    }
}

void tacit_ema_f32_ref(size_t n, float less, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = fmaf(x[i] - y[i], less, y[i]);
}
