/* ref_int8.c - the definition of the products in 8 bits, in plain C. */
#include "int8.h"
#include "ref.h"

#include <math.h>

/* The larger by its bits without the sign: a NaN is the largest. */
static uint32_t larger(uint32_t most, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= INT32_MAX;
    return bits > most ? bits : most;
}

void tacit_quantise_u8_ref(size_t rows, size_t n, const float *x, size_t ldx, uint8_t zero,
                           uint8_t *q, size_t ldq, float *scale)
{
    float steps = tacit_int8_steps(zero);
    for (size_t r = 0; r < rows; r++, x += ldx, q += ldq) {
        uint32_t bits = 0;
        float most;
        for (size_t i = 0; i < n; i++)
            bits = larger(bits, x[i]);
        memcpy(&most, &bits, sizeof most);
        float inverse = tacit_int8_inverse_of(steps, most);
        scale[r] = tacit_int8_scale_of(steps, most);
        for (size_t i = 0; i < 4 * TACIT_INT8_GROUPS(n); i++) {
            float y = i < n && inverse > 0 ? nearbyintf(x[i] * inverse) : 0;
            q[i] = zero ? (uint8_t)(zero + (int)y) : (uint8_t)(y > 0 ? y : 0);
        }
    }
}

void tacit_gemm_u8s8_ref(size_t m, size_t n, size_t k, const uint8_t *a, size_t lda,
                         const float *a_scale, uint8_t zero, const int8_t *packed,
                         const float *scale, const int32_t *minus, float *c, size_t ldc,
                         const tacit_epilogue *e)
{
    (void)minus;
    size_t groups = TACIT_INT8_GROUPS(k), nr = TACIT_INT8_NR;
    tacit_epilogue rest = e ? *e : (tacit_epilogue){ 0 };
    rest.bias = NULL;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            const int8_t *w = packed + j / nr * nr * 4 * groups + j % nr * 4;
            int32_t sum = 0;
            for (size_t p = 0; p < k; p++)
                sum += (a[i * lda + p] - zero) * w[p / 4 * 4 * nr + p % 4];
            float factor = a_scale[i] * scale[j];
            float y = e && e->bias ? fmaf((float)sum, factor, e->bias[j]) : (float)sum * factor;
            c[i * ldc + j] = finish_rounded(y, &rest, i, j);
        }
}

void tacit_conv_windows_u8_ref(const tacit_conv *c, size_t first, size_t m, uint8_t zero,
                               const uint8_t *x, uint8_t *to, size_t ldt)
{
    size_t k = c->kernel * c->kernel * c->channels;
    for (size_t o = first; o < first + m; o++, to += ldt) {
        const uint8_t *image = x + o / (c->rows * c->columns) * c->height * c->width * c->ldx;
        size_t row = o / c->columns % c->rows * c->stride, column = o % c->columns * c->stride;
        for (size_t q = 0; q < 4 * TACIT_INT8_GROUPS(k); q++) {
            size_t tap = q / c->channels, v = row + tap / c->kernel - c->pad;
            size_t u = column + tap % c->kernel - c->pad; /* both wrap below 0 */
            bool inside = q < k && v < c->height && u < c->width;
            to[q] = inside ? image[(v * c->width + u) * c->ldx + q % c->channels] : zero;
        }
    }
}

/* Column j of v: the byte of each token, with the scale. */
static float quantise_column(size_t tokens, const float *v, size_t ld, uint8_t *q)
{
    float most = 0;
    for (size_t t = 0; t < tokens; t++)
        most = ref_max(most, fabsf(v[t * ld]));
    for (size_t t = 0; t < tokens; t++)
        q[t] = tacit_int8_byte(v[t * ld], tacit_int8_inverse(most));
    return tacit_int8_scale(most);
}

/* round(min(most, max(most e, 0))) */
static int32_t exp_number(float most, float e)
{
    return (int32_t)nearbyintf(ref_min(most, ref_max(e * most, 0)));
}

void tacit_attention_u8s8_ref(size_t rows, size_t tokens, size_t dim, const float *q,
                              const float *k, const float *v, size_t ld, float scale,
                              const float *bias, size_t ldb, float *out, size_t ldo, float *scratch)
{
    uint8_t *query = (uint8_t *)(scratch + tokens), *key = query + 4 * TACIT_INT8_GROUPS(dim);
    uint8_t *value = key;
    for (size_t i = 0; i < rows; i++) {
        float query_scale, key_scale, most, factor = bias ? 1.0f : scale;
        tacit_quantise_u8_ref(1, dim, q + i * ld, ld, TACIT_INT8_MIDDLE, query, 0, &query_scale);
        for (size_t t = 0; t < tokens; t++) {
            int32_t sum = 0;
            tacit_quantise_u8_ref(1, dim, k + t * ld, ld, TACIT_INT8_MIDDLE, key, 0, &key_scale);
            for (size_t p = 0; p < dim; p++)
                sum += (query[p] - 128) * (key[p] - 128);
            scratch[t] = (float)sum * (query_scale * key_scale);
        }
        for (size_t t = 0; bias && t < tokens; t++)
            scratch[t] = fmaf(scratch[t], scale, bias[i * ldb + t]);
        float inverse = 1.0f / exp_row(tokens, scratch, factor, scratch, &most);
        for (size_t j = 0; j < dim; j++) {
            int32_t high = 0, low = 0, sum = 0;
            float s = quantise_column(tokens, v + j, ld, value);
            for (size_t t = 0; t < tokens; t++) {
                int32_t number = exp_number(TACIT_INT8_EXP, scratch[t]);
                high += number / 128 * (value[t] - 128);
                low += number % 128 * (value[t] - 128);
                sum += exp_number(255, scratch[t]) * (value[t] - 128);
            }
            float y = tacit_int8_spread(tokens, inverse) ? (float)sum * (TACIT_INT8_EXP / 255 * s)
                                                         : (float)high * (128 * s) + (float)low * s;
            out[i * ldo + j] = y * (inverse * (1 / TACIT_INT8_EXP));
        }
    }
}
