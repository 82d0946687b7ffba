/* test_kernels_ref.c - the reference kernels against their definitions, computed in double.
 *
 * Bounds are those of the arithmetic: an fp32 chain of k fused steps is off by at most k 2^-24
 * times the sum of the magnitudes (Higham, "Accuracy and Stability of Numerical Algorithms", 3.1).
 */
#define TACIT_ISA ref /* for ref.h */

#include "kernels.h"
#include "ref.h"
#include "rng.h"

#include <check.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define U 0x1p-24 /* half a unit in the last place of 1 */

static const tacit_kernels *ref;
static uint64_t draws;

static float number(void)
{
    return 4 * tacit_rng_uniform(1, 2, draws++) - 2;
}

static float *numbers(size_t n)
{
    float *x = malloc((n + !n) * sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < n; i++)
        x[i] = number();
    return x;
}

static double gelu(double x)
{
    return 0.5 * x * (1 + erf(x / sqrt(2)));
}

/* What GELU in fp32 may be off: 1 + erf loses the digits that cancel. */
static double gelu_error(double x)
{
    return fabs(x) * 4 * U;
}

static void check_near(double got, double want, double bound, const char *what, size_t at)
{
    if (!(fabs(got - want) <= bound))
        ck_abort_msg("%s, element %zu: %.9g, should be %.9g within %.3g", what, at, got, want,
                     bound);
}

START_TEST(gemm_is_the_product)
{
    static const size_t shapes[][3] = {
        { 1, 1, 1 }, { 5, 7, 3 }, { 17, 33, 65 }, { 3, 40, 768 }, { 13, 9, 1500 }
    };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (unsigned flags = 0; flags < 32; flags++) {
            size_t m = shapes[s][0], n = shapes[s][1], k = shapes[s][2];
            float *a = numbers(m * k), *w = numbers(n * k), *bias = numbers(n);
            float *scale = numbers(n), *residual = numbers(m * n), *c = numbers(m * n);
            float *packed = numbers(tacit_gemm_packed_size(ref, n, k));
            tacit_epilogue e = { .bias = flags & 1 ? bias : NULL,
                                 .gelu = (flags & 2) != 0,
                                 .scale = flags & 4 ? scale : NULL,
                                 .residual = flags & 8 ? residual : NULL,
                                 .ldr = n,
                                 .relu = (flags & 16) != 0 };
            ref->gemm_pack_f32(n, k, w, k, packed);
            ref->gemm_f32(m, n, k, a, k, packed, c, n, flags ? &e : NULL);
            for (size_t i = 0; i < m; i++)
                for (size_t j = 0; j < n; j++) {
                    double y = 0, size = 0;
                    for (size_t p = 0; p < k; p++) {
                        double term = (double)a[i * k + p] * (double)w[j * k + p];
                        y += term;
                        size += fabs(term);
                    }
                    double bound = (double)k * U * size;
                    if (flags & 1)
                        y += (double)bias[j];
                    bound += fabs(y) * 2 * U;
                    if (flags & 2) {
                        bound = bound * 1.13 + gelu_error(y); /* GELU's slope is below 1.13 */
                        y = gelu(y);
                    }
                    if (flags & 4) {
                        y *= (double)scale[j];
                        bound = bound * fabs((double)scale[j]) + fabs(y) * 2 * U;
                    }
                    if (flags & 8)
                        y += (double)residual[i * n + j];
                    if (flags & 16)
                        y = fmax(y, 0);
                    check_near((double)c[i * n + j], y, bound * 1.01 + fabs(y) * 2 * U, "gemm",
                               i * n + j);
                }
            free(a), free(w), free(bias), free(scale), free(residual), free(c), free(packed);
        }
}
END_TEST

/* What is quantised is half a step off at most, in a row of a and in a row of w. */
START_TEST(gemm_u8s8_is_near_the_product)
{
    static const size_t shapes[][3] = { { 1, 1, 1 }, { 5, 7, 3 }, { 17, 33, 65 }, { 3, 40, 768 } };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        size_t m = shapes[s][0], n = shapes[s][1], k = shapes[s][2], whole = (k + 3) / 4 * 4;
        size_t panels = (n + TACIT_INT8_NR - 1) / TACIT_INT8_NR * TACIT_INT8_NR;
        float *a = numbers(m * k), *w = numbers(n * k), *c = numbers(m * n);
        float *a_scale = numbers(m), *scale = numbers(panels);
        uint8_t *q = malloc(m * whole);
        int8_t *packed = malloc(tacit_gemm_s8_size(n, k));
        int32_t *minus = malloc(panels * sizeof *minus);
        ck_assert(q && packed && minus);
        ref->quantise_u8(m, k, a, k, TACIT_INT8_MIDDLE, q, whole, a_scale);
        tacit_gemm_pack_s8(ref, n, k, w, k, packed, scale, minus);
        ref->gemm_u8s8(m, n, k, q, whole, a_scale, TACIT_INT8_MIDDLE, packed, scale, minus, c, n,
                       NULL);
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                double y = 0, bound = 0, da = (double)a_scale[i] / 2, dw = (double)scale[j] / 2;
                for (size_t p = 0; p < k; p++) {
                    double x = (double)a[i * k + p], v = (double)w[j * k + p];
                    y += x * v;
                    bound += fabs(x) * dw + fabs(v) * da + da * dw;
                }
                check_near((double)c[i * n + j], y, bound * 1.001, "gemm_u8s8", i * n + j);
            }
        free(minus);
        free(packed);
        free(q);
        free(scale);
        free(a_scale);
        free(c);
        free(w);
        free(a);
    }
}
END_TEST

/* Each value is rounded by one part in 2^8 of itself at most, and sums are those of floats. */
START_TEST(gemm_bf16_is_near_the_product)
{
    static const size_t shapes[][3] = { { 1, 1, 1 }, { 5, 7, 3 }, { 17, 33, 65 }, { 3, 40, 768 } };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        size_t m = shapes[s][0], n = shapes[s][1], k = shapes[s][2], whole = (k + 1) / 2 * 2;
        float *a = numbers(m * k), *w = numbers(n * k), *c = numbers(m * n);
        uint16_t *rounded = calloc(m * whole, sizeof *rounded);
        uint16_t *packed = malloc(tacit_gemm_bf16_size(n, k) * sizeof *packed);
        ck_assert(rounded && packed);
        for (size_t i = 0; i < m; i++)
            ref->f32_to_bf16(k, a + i * k, rounded + i * whole);
        tacit_gemm_pack_bf16(ref, n, k, w, k, packed);
        ref->gemm_bf16(m, n, k, rounded, whole, packed, c, n, NULL);
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                double y = 0, size = 0;
                for (size_t p = 0; p < k; p++) {
                    double term = (double)a[i * k + p] * (double)w[j * k + p];
                    y += term;
                    size += fabs(term);
                }
                check_near((double)c[i * n + j], y, size * (0x1.01p-7 + (double)k * U), "gemm_bf16",
                           i * n + j);
            }
        free(packed);
        free(rounded);
        free(c);
        free(w);
        free(a);
    }
}
END_TEST

START_TEST(gemm_tn_is_the_product)
{
    static const size_t shapes[][3] = { { 1, 1, 1 }, { 5, 7, 3 }, { 17, 33, 65 }, { 3, 4, 1500 } };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (unsigned more = 0; more < 2; more++) {
            size_t m = shapes[s][0], n = shapes[s][1], k = shapes[s][2];
            float *a = numbers(k * m), *b = numbers(k * n), *c = numbers(m * n);
            float *before = numbers(m * n);
            memcpy(before, c, m * n * sizeof *c);
            ref->gemm_tn_f32(m, n, k, a, m, b, n, c, n, more, NULL);
            for (size_t i = 0; i < m; i++)
                for (size_t j = 0; j < n; j++) {
                    double y = more ? (double)before[i * n + j] : 0, size = fabs(y);
                    for (size_t p = 0; p < k; p++) {
                        y += (double)a[p * m + i] * (double)b[p * n + j];
                        size += fabs((double)a[p * m + i] * (double)b[p * n + j]);
                    }
                    check_near((double)c[i * n + j], y, (double)(k + 1) * U * size, "gemm_tn",
                               i * n + j);
                }
            free(a), free(b), free(c), free(before);
        }
}
END_TEST

START_TEST(dot_and_above)
{
    for (size_t n = 0; n < 2000; n += 1 + n / 3) {
        float *x = numbers(n), *y = numbers(n);
        uint32_t *at = malloc((n + 1) * sizeof *at);
        ck_assert_ptr_nonnull(at);
        double sum = 0, size = 0;
        for (size_t i = 0; i < n; i++) {
            sum += (double)x[i] * (double)y[i];
            size += fabs((double)x[i] * (double)y[i]);
        }
        check_near(ref->dot_f64(n, x, y), sum, (double)n * 0x1p-52 * size, "dot", n);
        if (n > 8)
            x[5] = NAN, x[7] = 0.5f;
        size_t count = ref->above_f32(n, x, 0.5f, at), due = 0;
        for (size_t i = 0; i < n; i++)
            if (x[i] >= 0.5f) {
                ck_assert_uint_lt(due, count);
                ck_assert_uint_eq(at[due++], i);
            }
        ck_assert_uint_eq(count, due);
        free(x), free(y), free(at);
    }
}
END_TEST

/* softmax(x * scale) of n values in double. */
static void softmax(size_t n, const double *x, double scale, double *y)
{
    double most = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, x[i]);
    for (size_t i = 0; i < n; i++)
        sum += y[i] = exp((x[i] - most) * scale);
    for (size_t i = 0; i < n; i++)
        y[i] /= sum;
}

START_TEST(attention_is_softmax_of_scores_times_values)
{
    static const size_t shapes[][3] = { { 1, 1, 1 }, { 4, 7, 5 }, { 19, 50, 64 }, { 3, 197, 32 } };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        size_t rows = shapes[s][0], tokens = shapes[s][1], dim = shapes[s][2];
        float *q = numbers(rows * dim), *k = numbers(tokens * dim), *v = numbers(tokens * dim);
        float *out = numbers(rows * dim);
        float *scratch = numbers(tacit_attention_scratch(ref, tokens, dim));
        double *score = calloc(2 * tokens, sizeof *score), *weight = score + tokens;
        float scale = 1 / sqrtf((float)dim);
        float *bias = s % 2 ? numbers(rows * tokens) : NULL;
        ref->attention_f32(rows, tokens, dim, q, k, v, dim, scale, bias, tokens, out, dim, scratch);
        for (size_t i = 0; i < rows; i++) {
            double size = 0; /* of the largest sum of magnitudes behind a score */
            for (size_t t = 0; t < tokens; t++) {
                double here = 0;
                score[t] = 0;
                for (size_t p = 0; p < dim; p++) {
                    double term = (double)q[i * dim + p] * (double)k[t * dim + p];
                    score[t] += term;
                    here += fabs(term);
                }
                size = fmax(size, here);
            }
            for (size_t t = 0; bias && t < tokens; t++)
                score[t] += (double)bias[i * tokens + t] / (double)scale;
            softmax(tokens, score, (double)scale, weight);
            /* A weight is off by the relative error of its exponent's argument, twice (the sum). */
            double off =
                2 * ((double)dim + 4) * U * size * (double)scale + 8 * U + (double)tokens * U;
            for (size_t j = 0; j < dim; j++) {
                double y = 0, sum = 0;
                for (size_t t = 0; t < tokens; t++) {
                    y += weight[t] * (double)v[t * dim + j];
                    sum += weight[t] * fabs((double)v[t * dim + j]);
                }
                check_near((double)out[i * dim + j], y, (off + (double)tokens * U) * sum,
                           "attention", i * dim + j);
            }
        }
        free(q), free(k), free(v), free(out), free(scratch), free(score);
        free(bias);
    }
}
END_TEST

START_TEST(rows_are_normalised)
{
    static const size_t lengths[] = { 1, 2, 15, 16, 17, 100, 384, 769, 3000 };
    for (size_t s = 0; s < sizeof lengths / sizeof *lengths; s++) {
        size_t n = lengths[s];
        float *x = numbers(n), *gamma = numbers(n), *beta = numbers(n), *y = numbers(n);
        double *wide = calloc(2 * n, sizeof *wide), *want = wide + n;
        double mean = 0, var = 0, squares = 0, depth = (double)n / 16 + 5;
        for (size_t i = 0; i < n; i++) {
            wide[i] = (double)x[i];
            mean += wide[i] / (double)n;
            squares += wide[i] * wide[i];
        }
        for (size_t i = 0; i < n; i++)
            var += (wide[i] - mean) * (wide[i] - mean) / (double)n;

        ref->layernorm_f32(1, n, x, n, gamma, beta, 1e-3f, y, n);
        double rstd = 1 / sqrt(var + (double)1e-3f);
        for (size_t i = 0; i < n; i++) {
            double scaled = fabs((wide[i] - mean) * rstd * (double)gamma[i]);
            double v = (wide[i] - mean) * rstd * (double)gamma[i] + (double)beta[i];
            check_near((double)y[i], v,
                       2 * depth * U * (2 * rstd * fabs((double)gamma[i]) + scaled) +
                           4 * U * fabs(v),
                       "layernorm", i);
        }
        ref->softmax_f32(1, n, x, n, 3, y, n);
        softmax(n, wide, 3, want);
        for (size_t i = 0; i < n; i++)
            check_near((double)y[i], want[i], want[i] * (40 + depth) * U, "softmax", i);

        ref->l2norm_f32(1, n, x, n, y, n);
        for (size_t i = 0; i < n; i++)
            check_near((double)y[i], wide[i] / sqrt(squares), fabs((double)y[i]) * (depth + 4) * U,
                       "l2norm", i);

        size_t rows = n < 20 ? n : 20, cols = n / rows;
        ref->mean_rows_f32(rows, cols, x, cols, y);
        for (size_t j = 0; j < cols; j++) {
            double sum = 0;
            for (size_t r = 0; r < rows; r++)
                sum += wide[r * cols + j];
            check_near((double)y[j], sum / (double)rows, 2.0 * (double)(rows + 1) * U, "mean", j);
        }
        free(x), free(gamma), free(beta), free(y), free(wide);
    }
    float zero[3] = { 0 }, y[3] = { 1, 1, 1 };
    ref->l2norm_f32(1, 3, zero, 3, y, 3);
    ck_assert(y[0] == 0 && y[1] == 0 && y[2] == 0);
}
END_TEST

START_TEST(cross_entropy_and_its_gradient)
{
    for (size_t n = 1; n < 1500; n += 1 + n / 2) {
        float *x = numbers(n), *y = numbers(n), loss;
        double *wide = malloc(n * sizeof *wide), *p = malloc(n * sizeof *p);
        ck_assert(wide && p);
        for (size_t i = 0; i < n; i++)
            wide[i] = (double)x[i];
        softmax(n, wide, 1, p);
        uint32_t label = (uint32_t)(n * 2 / 3);
        ref->cross_entropy_f32(1, n, x, n, &label, y, n, &loss);
        check_near((double)loss, -log(p[label]), 1e-6 * (1 - log(p[label])), "loss", n);
        for (size_t i = 0; i < n; i++)
            check_near((double)y[i], p[i] - (i == label), 1e-6 * p[i] + 2 * U, "gradient", i);
        free(x), free(y), free(wide), free(p);
    }
}
END_TEST

START_TEST(swish_is_x_times_a_logistic)
{
    for (uint32_t bits = 0; bits < 0x7f800000; bits += 4099)
        for (uint32_t sign = 0; sign < 2; sign++) {
            uint32_t b = bits | sign << 31;
            float x, y, two = 0.5f;
            memcpy(&x, &b, sizeof x);
            ref->swish_f32(1, 1.702f, &x, &two, &y);
            double e = fmin(88, -(double)1.702f * (double)x), want = 0.5 * (double)x / (1 + exp(e));
            /* The exponent is off by half a unit, which is |e| U of the result. */
            if (!(fabs((double)y - want) <= (5 + fabs(e)) * U * fabs(want) + 0x1p-149))
                ck_abort_msg("swish(%a) is %a, should be %a", (double)x, (double)y, want);
        }
}
END_TEST

START_TEST(gelu_is_exact)
{
    for (uint32_t bits = 0; bits < 0x7f800000; bits += 4099)
        for (uint32_t sign = 0; sign < 2; sign++) {
            uint32_t b = bits | sign << 31;
            float x, y;
            memcpy(&x, &b, sizeof x);
            ref->gelu_f32(1, &x, &y);
            double want = gelu((double)x);
            if (!(fabs((double)y - want) <= gelu_error((double)x) + 0x1p-149))
                ck_abort_msg("gelu(%a) is %a, should be %a", (double)x, (double)y, want);
        }
    const float edge[] = { -INFINITY, INFINITY, 0.0f, -0.0f };
    float y[4];
    ref->gelu_f32(4, edge, y);
    ck_assert(isnan(y[0]) && y[1] == INFINITY); /* -inf * 0, as PyTorch has it */
    ck_assert(y[2] == 0 && y[3] == 0);
}
END_TEST

/* Of every 997th float. */
START_TEST(exp_is_near)
{
    double worst = 0;
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += 997) {
        uint32_t low = (uint32_t)bits;
        float x;
        memcpy(&x, &low, sizeof x);
        float y = ref_exp(x);
        double want = exp((double)x);
        if (isnan(x))
            ck_assert(isnan(y));
        else if (x < -87.69f)
            ck_assert(y == 0);
        else if (x > 88.38f)
            ck_assert(y == INFINITY);
        else if (want < (double)FLT_MIN) /* has fewer bits, or is 0 already */
            ck_assert(y == 0 || fabs((double)y - want) <= (double)FLT_MIN / 1e6);
        else if (y < INFINITY || x < 88.37f)
            worst = fmax(worst, fabs((double)y - want) / ldexp(1, ilogb(want) - 23));
    }
    ck_assert_msg(worst > 0.5 && worst < 1.01, "exp is wrong by %.3f ulp", worst);
}
END_TEST

/* The sum is kept, no value is a step off or more, and packing takes the numbers as they are. */
START_TEST(rounding_keeps_the_sum)
{
    static const size_t lengths[] = { 1, 2, 27, 147, 768, 5000 };
    for (size_t n = 0; n < sizeof lengths / sizeof *lengths; n++) {
        size_t k = lengths[n], whole = (k + 3) / 4 * 4;
        float *w = numbers(k), *is = malloc(k * sizeof *is), most = 0, scale;
        uint8_t *q = malloc(whole);
        ck_assert(w && is && q);
        for (size_t p = 0; p < k; p++) {
            w[p] += 0.3f;
            is[p] = w[p];
            most = fabsf(w[p]) > most ? fabsf(w[p]) : most;
        }
        tacit_round_s8(k, is);
        ref->quantise_u8(1, k, is, k, TACIT_INT8_MIDDLE, q, whole, &scale);
        ck_assert(scale == most / 127);
        double sum = 0, kept = 0;
        for (size_t p = 0; p < k; p++) {
            sum += (double)w[p];
            kept += (double)is[p];
            ck_assert(fabsf(is[p] - w[p]) < scale);
            ck_assert(is[p] == (float)(q[p] - 128) * scale);
        }
        ck_assert_msg(fabs(sum - kept) <= 0.501 * (double)scale, "%zu: %g of a step", k,
                      (sum - kept) / (double)scale);
        free(q);
        free(is);
        free(w);
    }
    float none[3] = { 0, 0, 0 }, equal[2] = { -2, -2 };
    tacit_round_s8(3, none);
    tacit_round_s8(2, equal);
    ck_assert(none[0] == 0 && none[2] == 0 && equal[0] == equal[1] && equal[0] < -1.99f);
}
END_TEST

/* Of products in 8 bits: one of 1 by 1, whose scale is x. */
START_TEST(gelu_of_few_bits_is_near)
{
    const uint8_t one[4] = { 129, 128, 128, 128 };
    const float unit[TACIT_INT8_NR] = { 1 };
    const int32_t minus[TACIT_INT8_NR] = { 128 };
    const int8_t packed[4 * TACIT_INT8_NR] = { 1 };
    const tacit_epilogue e = { .gelu = true };
    for (int i = -13000; i <= 13000; i++) {
        float x = (float)i * 1e-3f, y;
        ref->gemm_u8s8(1, 1, 1, one, 4, &x, TACIT_INT8_MIDDLE, packed, unit, minus, &y, 1, &e);
        check_near((double)y, gelu((double)x), 7.4e-5, "gelu of few bits", (size_t)(i + 13000));
    }
}
END_TEST

/* The value of a 16-bit float with that many bits of exponent and fraction; its infinity counts as
 * the next power of two, which is how rounding treats it. */
static double value16(uint32_t bits, int exponent_bits, int fraction_bits)
{
    int bias = (1 << (exponent_bits - 1)) - 1, fraction = (int)bits & ((1 << fraction_bits) - 1);
    int exponent = (int)(bits & 0x7fff) >> fraction_bits;
    double x = exponent ? ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits)
                        : ldexp(fraction, 1 - bias - fraction_bits);
    return bits & 0x8000 ? -x : x;
}

static void check_rounding(tacit_f32_to_f16_fn *narrow, double x, uint32_t want)
{
    float f = (float)x;
    uint16_t got;
    ck_assert((double)f == x); /* the test's own numbers are exact */
    narrow(1, &f, &got);
    if (got != want)
        ck_abort_msg("%a is rounded to %04x, should be %04x", x, got, want);
}

START_TEST(sixteen_bit_floats)
{
    for (int bf16 = 0; bf16 < 2; bf16++) {
        tacit_f16_to_f32_fn *widen = bf16 ? ref->bf16_to_f32 : ref->f16_to_f32;
        tacit_f32_to_f16_fn *narrow = bf16 ? ref->f32_to_bf16 : ref->f32_to_f16;
        int e = bf16 ? 8 : 5, f = bf16 ? 7 : 10;
        uint32_t infinity = bf16 ? 0x7f80 : 0x7c00;
        for (uint32_t bits = 0; bits < 0x10000; bits++) {
            uint16_t in = (uint16_t)bits, back;
            uint32_t rest = bits & 0x7fff, sign = bits & 0x8000;
            float y;
            widen(1, &in, &y);
            narrow(1, &y, &back);
            if (rest > infinity) { /* a NaN stays one, of the same sign */
                if (!isnan(y) || (back & 0x7fff) <= infinity || (back & 0x8000) != sign)
                    ck_abort_msg("NaN %04x becomes %a, then %04x", bits, (double)y, back);
                continue;
            }
            double v = value16(bits, e, f);
            double want = rest < infinity ? v : copysign(INFINITY, v);
            if ((double)y != want || !signbit(y) != !sign || back != bits)
                ck_abort_msg("%04x becomes %a, then %04x", bits, (double)y, back);
            if (rest == infinity)
                continue;
            /* Halfway to the next: to even; a hair before and after: to the nearer. */
            double next = value16(bits + 1, e, f), middle = v + (next - v) / 2;
            check_rounding(narrow, middle, bits & 1 ? bits + 1 : bits);
            float below = nextafterf((float)middle, (float)v);
            check_rounding(narrow, (double)below, bits);
            float above = nextafterf((float)middle, sign ? -INFINITY : INFINITY);
            check_rounding(narrow, (double)above, bits + 1);
        }
    }
}
END_TEST

START_TEST(patches_and_packing)
{
    enum { H = 11, W = 14, P = 3, PLANE = H * W + 5 };
    float *image = numbers(3 * PLANE), *rows = numbers((H / P) * (W / P) * 3 * P * P);
    ref->patchify_f32(H, W, P, image, PLANE, rows, 3 * P * P);
    const float *at = rows;
    for (size_t gy = 0; gy < H / P; gy++)
        for (size_t gx = 0; gx < W / P; gx++)
            for (size_t channel = 0; channel < 3; channel++)
                for (size_t y = 0; y < P; y++)
                    for (size_t x = 0; x < P; x++, at++)
                        ck_assert(*at == image[channel * PLANE + (gy * P + y) * W + gx * P + x]);
    free(image);
    free(rows);
}
END_TEST

/* By angles, as HOGLayerC has them; cells of 1 show the bins. */
START_TEST(oriented_gradients)
{
    enum { H = 13, W = 22, LD = 25, BINS = TACIT_HOG_BINS };
    const size_t cell = _i ? 4 : 1, cols = W / cell;
    float *x = numbers(H * LD), y[H * W * BINS];
    for (size_t i = 0; _i == 2 && i < H * LD; i++) /* few values: flat places, and straight ones */
        x[i] = floorf(x[i] * 2);
    ref->hog_f32(H, W, cell, x, LD, y, BINS);
    for (size_t c = 0; c < (H / cell) * cols; c++) {
        double want[BINS] = { 0 };
        for (size_t p = 0; p < cell * cell; p++) {
            size_t i = c / cols * cell + p / cell, j = c % cols * cell + p % cell;
            const float *up = x + (i ? i - 1 : 1) * LD, *mid = x + i * LD;
            const float *down = x + (i + 1 < H ? i + 1 : H - 2) * LD;
            size_t l = j ? j - 1 : 1, r = j + 1 < W ? j + 1 : W - 2;
            double gx = ((double)up[l] - (double)up[r]) + 2 * ((double)mid[l] - (double)mid[r]) +
                        ((double)down[l] - (double)down[r]);
            double gy = ((double)up[l] - (double)down[l]) + 2 * ((double)up[j] - (double)down[j]) +
                        ((double)up[r] - (double)down[r]);
            double bin = floor(atan2(gx, gy) / acos(-1) * BINS);
            want[(size_t)(bin + BINS) % BINS] += sqrt(gx * gx + gy * gy);
        }
        for (size_t k = 0; k < BINS; k++)
            check_near((double)y[c * BINS + k], want[k], 40 * want[k] * U, "bin", c * BINS + k);
    }
    free(x);
}
END_TEST

START_TEST(rows_of_bytes_are_weighed)
{
    enum { N = 37, ROWS = 9, LD = 40 };
    float *weights = numbers(ROWS), y[N];
    uint8_t x[ROWS * LD];
    for (size_t i = 0; i < sizeof x; i++)
        x[i] = (uint8_t)(i * 151 + 7);
    ref->weighted_rows_u8(ROWS, weights, N, x, LD, y);
    for (size_t i = 0; i < N; i++) {
        double want = 0, size = 0;
        for (size_t j = 0; j < ROWS; j++) {
            want += (double)weights[j] * x[j * LD + i];
            size += fabs((double)weights[j]) * x[j * LD + i];
        }
        ck_assert_double_le(fabs(want - (double)y[i]), ROWS * size * 0x1p-24);
    }
    free(weights);
}
END_TEST

int main(void)
{
    ref = tacit_kernels_for(TACIT_ISA_REF);
    Suite *suite = suite_create("kernels_ref");
    TCase *t = tcase_create("kernels_ref");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, gemm_is_the_product);
    tcase_add_test(t, gemm_u8s8_is_near_the_product);
    tcase_add_test(t, rounding_keeps_the_sum);
    tcase_add_test(t, gemm_bf16_is_near_the_product);
    tcase_add_test(t, gemm_tn_is_the_product);
    tcase_add_test(t, dot_and_above);
    tcase_add_test(t, cross_entropy_and_its_gradient);
    tcase_add_test(t, attention_is_softmax_of_scores_times_values);
    tcase_add_test(t, rows_are_normalised);
    tcase_add_test(t, swish_is_x_times_a_logistic);
    tcase_add_test(t, gelu_is_exact);
    tcase_add_test(t, exp_is_near);
    tcase_add_test(t, gelu_of_few_bits_is_near);
    tcase_add_test(t, sixteen_bit_floats);
    tcase_add_test(t, patches_and_packing);
    tcase_add_loop_test(t, oriented_gradients, 0, 3);
    tcase_add_test(t, rows_of_bytes_are_weighed);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
