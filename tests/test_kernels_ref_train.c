/* test_kernels_ref_train.c - the reference training kernels against definitions in double.
 *
 * A gradient is held against central differences of the forward, written here in double: of
 * sum(weight * y), one input after the other. The differences are good to 1e-9, the kernels to some
 * units of fp32 in the sizes of what they add.
 */
#include "kernels.h"
#include "rng.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 40 * 24 * 4 };

static const tacit_kernels *ref;
static uint64_t draws;

static void numbers(size_t n, float *x, double *wide)
{
    ck_assert_uint_le(n, MOST);
    for (size_t i = 0; i < n; i++) {
        x[i] = 4 * tacit_rng_uniform(1, 7, draws++) - 2;
        if (wide)
            wide[i] = (double)x[i];
    }
}

static void check_near(double got, double want, double bound, const char *what, size_t at)
{
    if (!(fabs(got - want) <= bound))
        ck_abort_msg("%s, element %zu: %.9g, should be %.9g within %.3g", what, at, got, want,
                     bound);
}

/* What a forward sees; x is what is moved. */
typedef struct problem {
    size_t rows, n;
    double *x, *gamma, *beta, *weight, scale;
    bool relu;
} problem;

typedef double objective_fn(const problem *p);

/* got[i] is the derivative of objective by value[i], for all n of them, to `bound` in the largest.
 */
static void check_gradient(objective_fn *objective, const problem *p, double *value, size_t n,
                           const float *got, double bound, const char *what)
{
    static double want[MOST];
    const double h = 1e-6;
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double at = value[i];
        value[i] = at + h;
        double above = objective(p);
        value[i] = at - h;
        want[i] = (above - objective(p)) / (2 * h);
        value[i] = at;
        most = fmax(most, fabs(want[i]));
    }
    for (size_t i = 0; i < n; i++)
        check_near((double)got[i], want[i], bound * most + 1e-8, what, i);
}

static float xf[MOST], yf[MOST], gf[MOST], bf[MOST], wf[MOST], df[MOST], d2f[MOST], d3f[MOST];
static double x[MOST], gamma_[MOST], beta[MOST], weight[MOST];

/* q, k, v one after the other in x; where there is a gamma it is the bias. */
static double attention(const problem *p)
{
    size_t tokens = p->rows, dim = p->n, size = tokens * dim;
    const double *q = p->x, *k = q + size, *v = k + size;
    double sum = 0;
    static double e[400];
    for (size_t i = 0; i < tokens; i++) {
        double total = 0;
        for (size_t t = 0; t < tokens; t++) {
            double score = 0;
            for (size_t j = 0; j < dim; j++)
                score += q[i * dim + j] * k[t * dim + j];
            total += e[t] = exp(score * p->scale + (p->gamma ? p->gamma[i * tokens + t] : 0));
        }
        for (size_t t = 0; t < tokens; t++)
            for (size_t j = 0; j < dim; j++)
                sum += p->weight[i * dim + j] * e[t] / total * v[t * dim + j];
    }
    return sum;
}

START_TEST(attention_gradients)
{
    static const size_t shapes[][2] = { { 1, 1 }, { 2, 3 }, { 7, 5 }, { 33, 9 }, { 19, 32 } };
    static float scratch[100000];
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        size_t tokens = shapes[s][0], dim = shapes[s][1], size = tokens * dim;
        ck_assert_uint_le(tacit_attention_backward_scratch(ref, tokens, dim), 100000);
        problem p = { tokens, dim, x, NULL, NULL, weight, (double)0.375f, false };
        numbers(3 * size, xf, x);
        numbers(size, wf, weight);
        ref->attention_backward_f32(tokens, dim, xf, xf + size, xf + 2 * size, dim, 0.375f, NULL,
                                    NULL, 0, wf, dim, df, df + size, df + 2 * size, dim, scratch);
        check_gradient(attention, &p, x, 3 * size, df, 1e-5, "attention");
        numbers(tokens * tokens, gf, gamma_);
        memset(d2f, 0, sizeof d2f);
        p.gamma = gamma_;
        for (int twice = 0; twice < 2; twice++) /* what is asked for is added */
            ref->attention_backward_f32(tokens, dim, xf, xf + size, xf + 2 * size, dim, 0.375f, gf,
                                        d2f, tokens, wf, dim, df, df + size, df + 2 * size, dim,
                                        scratch);
        for (size_t i = 0; i < tokens * tokens; i++)
            d2f[i] /= 2;
        check_gradient(attention, &p, x, 3 * size, df, 1e-5, "attention with biases");
        check_gradient(attention, &p, gamma_, tokens * tokens, d2f, 1e-5, "biases");
    }
}
END_TEST

/* Over 384 queries the sums go on in a second block: keys of 0 have a closed form. */
START_TEST(attention_gradients_of_many_tokens)
{
    enum { T = 500 };
    static float q[T], k[T], v[T], dout[T], dq[T], dk[T], dv[T], scratch[600000];
    double sum = 0, mean = 0;
    ck_assert_uint_le(tacit_attention_backward_scratch(ref, T, 1), 600000);
    for (size_t t = 0; t < T; t++) {
        k[t] = 0; /* all weights are 1 / T */
        v[t] = (float)(t % 7) - 3;
        dout[t] = (float)(t % 5) - 1;
        q[t] = (float)(t % 3);
        sum += (double)dout[t];
        mean += (double)v[t] / T;
    }
    ref->attention_backward_f32(T, 1, q, k, v, 1, 1, NULL, NULL, 0, dout, 1, dq, dk, dv, 1,
                                scratch);
    double dot = 0; /* dk_t = sum_i dout_i q_i (v_t - mean) / T */
    for (size_t t = 0; t < T; t++)
        dot += (double)dout[t] * (double)q[t];
    for (size_t t = 0; t < T; t++) {
        check_near((double)dq[t], 0, 1e-5, "dq", t);
        check_near((double)dv[t], sum / T, 1e-5 * fabs(sum / T), "dv", t);
        check_near((double)dk[t], dot * ((double)v[t] - mean) / T, 1e-5 * fabs(dot / T) * 3, "dk",
                   t);
    }
}
END_TEST

static double layernorm(const problem *p)
{
    double sum = 0;
    for (size_t r = 0; r < p->rows; r++) {
        const double *row = p->x + r * p->n;
        double mean = 0, var = 0;
        for (size_t i = 0; i < p->n; i++)
            mean += row[i] / (double)p->n;
        for (size_t i = 0; i < p->n; i++)
            var += (row[i] - mean) * (row[i] - mean) / (double)p->n;
        for (size_t i = 0; i < p->n; i++)
            sum += p->weight[r * p->n + i] *
                   ((row[i] - mean) / sqrt(var + (double)1e-3f) * p->gamma[i] + p->beta[i]);
    }
    return sum;
}

START_TEST(layernorm_gradients)
{
    static float made[MOST], again[MOST];
    for (size_t n = 1; n < 200; n += 1 + n / 3)
        for (int more = 0; more < 2; more++) {
            size_t rows = 5;
            problem p = { rows, n, x, gamma_, beta, weight, 0, false };
            numbers(rows * n, xf, x);
            numbers(rows * n, wf, weight);
            numbers(n, gf, gamma_);
            numbers(n, bf, beta);
            numbers(rows * n, yf, NULL);
            memcpy(df, yf, sizeof df);
            memset(d2f, 0, sizeof d2f);
            memset(d3f, 0, sizeof d3f);
            ref->layernorm_backward_f32(rows, n, xf, n, gf, bf, 1e-3f, wf, n, df, n, more, d2f, d3f,
                                        again, n);
            ref->layernorm_f32(rows, n, xf, n, gf, bf, 1e-3f, made, n);
            ck_assert_mem_eq(again, made, rows * n * sizeof *again);
            for (size_t i = 0; more && i < rows * n; i++)
                df[i] -= yf[i];
            check_gradient(layernorm, &p, x, rows * n, df, n > 2 ? 5e-6 : 1e-3, "layernorm");
            check_gradient(layernorm, &p, gamma_, n, d2f, 5e-6, "gamma");
            check_gradient(layernorm, &p, beta, n, d3f, 5e-6, "beta");
            float before = d2f[0]; /* gains add up */
            ref->layernorm_backward_f32(rows, n, xf, n, gf, NULL, 1e-3f, wf, n, df, n, false, d2f,
                                        d3f, NULL, 0);
            check_near((double)d2f[0], 2 * (double)before, 1e-5 * (1 + fabs((double)before)),
                       "gamma twice", 0);
        }
}
END_TEST

static double l2norm(const problem *p)
{
    double sum = 0;
    for (size_t r = 0; r < p->rows; r++) {
        double squares = 0, dot = 0;
        for (size_t i = 0; i < p->n; i++) {
            squares += p->x[r * p->n + i] * p->x[r * p->n + i];
            dot += p->x[r * p->n + i] * p->weight[r * p->n + i];
        }
        sum += dot / sqrt(squares);
    }
    return sum;
}

/* Soft cross entropy; the targets are in weight. */
static double cross_entropy(const problem *p)
{
    double sum = 0;
    for (size_t r = 0; r < p->rows; r++) {
        double total = 0;
        for (size_t i = 0; i < p->n; i++)
            total += exp(p->x[r * p->n + i]);
        for (size_t i = 0; i < p->n; i++)
            sum -= p->weight[r * p->n + i] * (p->x[r * p->n + i] - log(total));
    }
    return sum;
}

START_TEST(l2norm_and_cross_entropy_gradients)
{
    for (size_t n = 1; n < 600; n += 1 + n / 3) {
        size_t rows = 3;
        problem p = { rows, n, x, NULL, NULL, weight, 0, false };
        numbers(rows * n, xf, x);
        numbers(rows * n, wf, weight);
        ref->l2norm_backward_f32(rows, n, xf, n, wf, n, df, n);
        if (n > 1)
            check_gradient(l2norm, &p, x, rows * n, df, 5e-6, "l2norm");
        float loss[3];
        ref->soft_cross_entropy_f32(rows, n, xf, n, wf, n, df, n, loss);
        check_gradient(cross_entropy, &p, x, rows * n, df, 5e-6, "cross entropy");
        double want = cross_entropy(&p), size = 0;
        for (size_t i = 0; i < rows * n; i++)
            size += fabs(weight[i]) * (2 + log((double)n));
        check_near((double)loss[0] + (double)loss[1] + (double)loss[2], want, 1e-6 * (1 + size),
                   "loss", n);
    }
    float zero[2] = { 0 }, dy[2] = { 1e-13f, -2e-13f }, dx[2];
    ref->l2norm_backward_f32(1, 2, zero, 2, dy, 2, dx, 2); /* there the norm is 1e-12 */
    check_near((double)dx[0], 0.1, 1e-7, "l2norm of zeros", 0);
    check_near((double)dx[1], -0.2, 1e-7, "l2norm of zeros", 1);
}
END_TEST

static double batchnorm(const problem *p)
{
    double sum = 0, m = (double)p->rows;
    for (size_t i = 0; i < p->n; i++) {
        double mean = 0, var = 0;
        for (size_t r = 0; r < p->rows; r++)
            mean += p->x[r * p->n + i] / m;
        for (size_t r = 0; r < p->rows; r++)
            var += (p->x[r * p->n + i] - mean) * (p->x[r * p->n + i] - mean) / m;
        for (size_t r = 0; r < p->rows; r++) {
            double y = (p->x[r * p->n + i] - mean) / sqrt(var + 1e-3) * p->gamma[i] + p->beta[i];
            sum += p->weight[r * p->n + i] * (p->relu ? fmax(y, 0) : y);
        }
    }
    return sum;
}

START_TEST(batchnorm_gradients)
{
    for (size_t n = 1; n < 30; n += 4)
        for (int relu = 0; relu < 2; relu++) {
            size_t rows = 25;
            problem p = { rows, n, x, gamma_, beta, weight, 0, relu };
            numbers(rows * n, xf, x);
            numbers(rows * n, wf, weight);
            numbers(n, gf, gamma_);
            numbers(n, bf, beta);
            double sum[30] = { 0 }, square[30] = { 0 }, ds[30] = { 0 }, dg[30] = { 0 };
            float mean[30], rstd[30], a[30], b[30], d[30];
            ref->moments_f32(10, n, xf, n, sum, square); /* in two parts */
            ref->moments_f32(rows - 10, n, xf + 10 * n, n, sum, square);
            for (size_t i = 0; i < n; i++) {
                double middle = sum[i] / (double)rows;
                mean[i] = (float)middle;
                rstd[i] = (float)(1 / sqrt(square[i] / (double)rows - middle * middle + 1e-3));
            }
            tacit_batchnorm norm = { mean, rstd, gf, bf, relu };
            ref->batchnorm_f32(rows, n, xf, n, &norm, NULL, 0, yf, n);
            double total = 0;
            for (size_t i = 0; i < rows * n; i++)
                total += (double)yf[i] * weight[i];
            check_near(total, batchnorm(&p), 1e-4, "batch norm", n);
            ref->batchnorm_sums_f32(10, n, xf, n, &norm, wf, n, ds, dg);
            ref->batchnorm_sums_f32(rows - 10, n, xf + 10 * n, n, &norm, wf + 10 * n, n, ds, dg);
            for (size_t i = 0; i < n; i++) {
                a[i] = (float)(ds[i] / (double)rows);
                b[i] = (float)(dg[i] / (double)rows);
                d[i] = (float)ds[i];
                d2f[i] = (float)dg[i];
            }
            ref->batchnorm_backward_f32(rows, n, xf, n, &norm, wf, n, a, b, df, n);
            check_gradient(batchnorm, &p, x, rows * n, df, 1e-5, "batch norm");
            check_gradient(batchnorm, &p, beta, n, d, 1e-6, "beta");
            check_gradient(batchnorm, &p, gamma_, n, d2f, 5e-6, "gamma");
        }
}
END_TEST

START_TEST(gelu_gradient)
{
    for (float v = -9; v < 9; v += 1.0f / 64) {
        float dy = 3, y, dx, again;
        ref->gelu_backward_f32(1, &v, &dy, &y, &dx);
        ref->gelu_f32(1, &v, &again);
        ck_assert(y == again);
        double z = (double)v;
        double want = 0.5 * (1 + erf(z / sqrt(2))) + z * exp(-0.5 * z * z) / sqrt(2 * acos(-1));
        check_near((double)dx, 3 * want, 3e-6, "gelu", 0);
    }
}
END_TEST

START_TEST(sums_and_errors)
{
    for (size_t n = 0; n < 70; n += 1 + n / 4)
        for (int more = 0; more < 2; more++) {
            size_t rows = 37;
            numbers(rows * n, xf, x);
            numbers(rows * n, yf, NULL);
            numbers(n, df, NULL);
            for (size_t i = 0; i < n; i++) {
                weight[i] = more ? (double)df[i] : 0;
                for (size_t r = 0; r < rows; r++)
                    weight[i] += x[r * n + i];
            }
            ref->sum_rows_f32(rows, n, xf, n, more, df);
            for (size_t i = 0; i < n; i++)
                check_near((double)df[i], weight[i], 1e-5, "sum of rows", i);
            double sum = 0;
            for (size_t i = 0; i < rows * n; i++)
                sum += ((double)xf[i] - (double)yf[i]) * ((double)xf[i] - (double)yf[i]);
            check_near(ref->squared_error_f32(rows * n, xf, yf, 0.25f, df), sum, 1e-6 * sum,
                       "squared error", n);
            for (size_t i = 0; i < rows * n; i++)
                check_near((double)df[i], ((double)xf[i] - (double)yf[i]) / 4, 1e-6, "dx", i);
            ref->scale_add_f32(rows * n, xf, -3, yf, df);
            for (size_t i = 0; i < rows * n; i++)
                check_near((double)df[i], (double)yf[i] - 3 * x[i], 2e-6, "scale_add", i);
        }
}
END_TEST

/* Two steps each, by the published formulas in double. */
START_TEST(optimisers)
{
    const float g[2][2] = { { 0.5f, -0.25f }, { -1, 0.125f } };
    /* AdamW by its definition (Loshchilov and Hutter, algorithm 2), lr 0.1, decay 0.1 */
    float w[2] = { 1, -2 }, m[2] = { 0 }, v[2] = { 0 };
    double dw[2] = { 1, -2 }, dm[2] = { 0 }, dv[2] = { 0 };
    for (uint64_t t = 1; t <= 2; t++) {
        tacit_adamw a = tacit_adamw_step(0.1, 0.1, 0.9, 0.95, 1e-8, t);
        ref->adamw_f32(2, &a, g[t - 1], m, v, w);
        for (size_t i = 0; i < 2; i++) {
            double gi = (double)g[t - 1][i];
            dm[i] = 0.9 * dm[i] + 0.1 * gi;
            dv[i] = 0.95 * dv[i] + 0.05 * gi * gi;
            dw[i] -= 0.1 * 0.1 * dw[i] + 0.1 * (dm[i] / (1 - pow(0.9, (double)t))) /
                                             (sqrt(dv[i] / (1 - pow(0.95, (double)t))) + 1e-8);
            check_near((double)w[i], dw[i], 1e-6, "AdamW", i);
        }
        if (t == 1)
            check_near((double)w[0], 0.89, 1e-6, "AdamW's first step", 0);
    }
    for (int nesterov = 0; nesterov < 2; nesterov++) {
        float u[2] = { 3, 4 }, speed[2] = { 0 };
        double du[2] = { 3, 4 }, dspeed[2] = { 0 };
        tacit_sgd sgd = { 0.1f, 0.9f, 0.01f, 0.5f, nesterov };
        for (int t = 0; t < 2; t++) {
            ref->sgd_f32(2, &sgd, g[t], speed, u);
            for (size_t i = 0; i < 2; i++) {
                double gi = ((double)g[t][i] + 0.01 * du[i]) * 0.5;
                dspeed[i] = 0.9 * dspeed[i] + gi;
                du[i] -= 0.1 * (nesterov ? gi + 0.9 * dspeed[i] : dspeed[i]);
                check_near((double)u[i], du[i], 1e-6, "SGD", i);
            }
        }
    }
    float from[2] = { 1, 2 }, to[2] = { 3, -1 };
    ref->ema_f32(2, 0.25f, from, to);
    check_near((double)to[0], 2.5, 1e-6, "ema", 0);
    check_near((double)to[1], -0.25, 1e-6, "ema", 1);
}
END_TEST

START_TEST(packing_transposed)
{
    enum { N = 45, K = 7 };
    float *w = xf, *flat = yf, *packed = df, *same = wf;
    numbers(N * K, w, NULL);
    for (size_t j = 0; j < N; j++)
        for (size_t p = 0; p < K; p++)
            flat[j * K + p] = w[p * N + j];
    ref->gemm_pack_t_f32(N, K, w, N, packed);
    ref->gemm_pack_f32(N, K, flat, K, same);
    ck_assert_mem_eq(packed, same, tacit_gemm_packed_size(ref, N, K) * sizeof(float));
}
END_TEST

int main(void)
{
    ref = tacit_kernels_for(TACIT_ISA_REF);
    Suite *suite = suite_create("kernels_ref_train");
    TCase *t = tcase_create("kernels_ref_train");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, attention_gradients);
    tcase_add_test(t, attention_gradients_of_many_tokens);
    tcase_add_test(t, layernorm_gradients);
    tcase_add_test(t, l2norm_and_cross_entropy_gradients);
    tcase_add_test(t, batchnorm_gradients);
    tcase_add_test(t, gelu_gradient);
    tcase_add_test(t, sums_and_errors);
    tcase_add_test(t, optimisers);
    tcase_add_test(t, packing_transposed);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
