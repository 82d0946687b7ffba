/* ref.h - pieces of the reference kernels that more than one file needs. */
#ifndef TACIT_REF_H
#define TACIT_REF_H

#include "exp.h"
#include "gelu.h"
#include "tile.h"

#include <math.h>
#include <sleef.h>
#include <string.h>

#define LANES 16

/* In the library on every CPU, but declared by sleef.h only to callers compiled with FMA. */
float Sleef_finz_logf1_u10purecfma(float x);

/* SLEEF's scalar FMA variants are built with the CPU's FMA. On an x86 CPU without one (before 2013)
 * the variants without FMA stand in: within 1 ulp, but not the same bits. */
static inline bool has_fma(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx2");
#else
    return true;
#endif
}

static inline float ref_log(float x)
{
    return has_fma() ? Sleef_finz_logf1_u10purecfma(x) : Sleef_cinz_logf1_u10purec(x);
}

static inline float ref_max(float a, float b)
{
    return a > b ? a : b;
}

static inline float ref_min(float a, float b)
{
    return a < b ? a : b;
}

/* As exp.h says. */
static inline float ref_exp(float x)
{
    static const float p[] = TACIT_EXP_P;
    x = ref_min(TACIT_EXP_MOST, ref_max(TACIT_EXP_LEAST, x));
    float shifted = fmaf(x, TACIT_EXP_LOG2E, TACIT_EXP_SHIFT), n = shifted - TACIT_EXP_SHIFT;
    float r = fmaf(n, TACIT_EXP_LN2_LOW, fmaf(n, TACIT_EXP_LN2_HIGH, x)), sum = p[4], power;
    for (int i = 3; i >= 0; i--)
        sum = fmaf(sum, r, p[i]);
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits <<= 23;
    memcpy(&power, &bits, sizeof power);
    return (1 + fmaf(sum, r * r, r)) * power;
}

/* 1 + erf(x / sqrt 2), as gelu.h says. */
static inline float ref_erf_more(float x)
{
    static const float p[] = TACIT_ERF_P, q[] = TACIT_ERF_Q;
    float z = ref_min(TACIT_ERF_MOST, ref_max(-TACIT_ERF_MOST, x));
    float t = z * z, over = p[5], under = q[5];
    for (int i = 4; i >= 0; i--) {
        over = fmaf(over, t, p[i]);
        under = fmaf(under, t, q[i]);
    }
    float e = ref_min(1.0f, ref_max(-1.0f, z * over / under));
    return 1.0f + e;
}

static inline float ref_gelu(float x)
{
    return 0.5f * x * ref_erf_more(x);
}

/* The same by TACIT_ERF_SHORT. */
static inline float ref_gelu_short(float x)
{
    static const float p[] = TACIT_ERF_SHORT;
    float z = ref_min(TACIT_ERF_SHORT_MOST, ref_max(-TACIT_ERF_SHORT_MOST, x));
    float t = z * z, e = p[7], half = 0.5f * x;
    for (int i = 6; i >= 0; i--)
        e = fmaf(e, t, p[i]);
    return fmaf(half, ref_min(1.0f, ref_max(-1.0f, z * e)), half);
}

/* The epilogue (or none) of output (i, j); of products in 8 bits and in bfloat16, with the short
 * gelu. */
static inline float finish_by(float gelu(float), float y, const tacit_epilogue *e, size_t i,
                              size_t j)
{
    if (e && e->bias)
        y += e->bias[j];
    if (e && e->gelu)
        y = gelu(y);
    if (e && e->scale)
        y *= e->scale[j];
    if (e && e->residual)
        y += e->residual[i * e->ldr + j];
    if (e && e->relu)
        y = ref_max(0.0f, y);
    return y;
}

static inline float finish(float y, const tacit_epilogue *e, size_t i, size_t j)
{
    return finish_by(ref_gelu, y, e, i, j);
}

static inline float finish_rounded(float y, const tacit_epilogue *e, size_t i, size_t j)
{
    tacit_epilogue rest = e ? *e : (tacit_epilogue){ 0 };
    rest.relu = false;
    y = finish_by(ref_gelu_short, y, &rest, i, j);
    if (e && e->residual8)
        y = fmaf(e->residual8[i * e->ldr + j], e->residual_scale[i], y);
    return e && e->relu ? ref_max(0.0f, y) : y;
}

/* The tree over 16 lanes. */
static inline float sum_lanes(float lane[LANES])
{
    for (size_t half = LANES / 2; half; half /= 2)
        for (size_t i = 0; i < half; i++)
            lane[i] += lane[i + half];
    return lane[0];
}

static inline float max_lanes(float lane[LANES])
{
    for (size_t half = LANES / 2; half; half /= 2)
        for (size_t i = 0; i < half; i++)
            lane[i] = ref_max(lane[i], lane[i + half]);
    return lane[0];
}

/* The sum over k of a[p] * w[p * step]: chains of TACIT_KC terms, added in order. */
static inline float chains(size_t k, const float *a, const float *w, size_t step)
{
    float sum = 0;
    for (size_t from = 0; from < k; from += TACIT_KC) {
        float chain = 0;
        for (size_t p = from; p < k && p < from + TACIT_KC; p++)
            chain = fmaf(a[p], w[p * step], chain);
        sum = from ? sum + chain : chain;
    }
    return sum;
}

/* y = exp(fma(x, scale, -max(x) * scale)); the sum of y in 16 lanes. */
static inline float exp_row(size_t n, const float *x, float scale, float *y, float *most)
{
    float lane[LANES];
    for (size_t j = 0; j < LANES; j++)
        lane[j] = -INFINITY;
    for (size_t i = 0; i < n; i++)
        lane[i % LANES] = ref_max(lane[i % LANES], x[i]);
    /* The last, partial vector of the others has -inf in its missing lanes. */
    for (size_t j = n % LANES; n % LANES && j < LANES; j++)
        lane[j] = ref_max(lane[j], -INFINITY);
    *most = max_lanes(lane);
    float offset = -*most * scale;
    memset(lane, 0, sizeof lane);
    for (size_t i = 0; i < n; i++) {
        y[i] = ref_exp(fmaf(x[i], scale, offset));
        lane[i % LANES] += y[i];
    }
    return sum_lanes(lane);
}

#endif
