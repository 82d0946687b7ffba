/* ref_int8.c - the definition of the products in 8 bits, in plain C. */
#include "int8.h"
#include "ref.h"

#include <math.h>

void tacit_quantise_u8_ref(size_t rows, size_t n, const float *x, size_t ldx, uint8_t *q,
                           size_t ldq, float *scale)
{
    for (size_t r = 0; r < rows; r++, x += ldx, q += ldq) {
        float lane[LANES] = { 0 };
        for (size_t i = 0; i < n; i++)
            lane[i % LANES] = ref_max(lane[i % LANES], fabsf(x[i]));
        for (size_t half = LANES / 2; half; half /= 2)
            for (size_t i = 0; i < half; i++)
                lane[i] = ref_max(lane[i], lane[i + half]);
        float inverse = tacit_int8_inverse(lane[0]);
        scale[r] = tacit_int8_scale(lane[0]);
        for (size_t i = 0; i < 4 * TACIT_INT8_GROUPS(n); i++)
            q[i] = i < n ? tacit_int8_byte(x[i], inverse) : 128;
    }
}

void tacit_gemm_u8s8_ref(size_t m, size_t n, size_t k, const uint8_t *a, size_t lda,
                         const float *a_scale, const int8_t *packed, const float *scale,
                         const int32_t *minus, float *c, size_t ldc, const tacit_epilogue *e)
{
    (void)minus;
    size_t groups = TACIT_INT8_GROUPS(k), nr = TACIT_INT8_NR;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            const int8_t *w = packed + j / nr * nr * 4 * groups + j % nr * 4;
            int32_t sum = 0;
            for (size_t p = 0; p < k; p++)
                sum += (a[i * lda + p] - 128) * w[p / 4 * 4 * nr + p % 4];
            c[i * ldc + j] = finish_rounded((float)sum * (a_scale[i] * scale[j]), e, i, j);
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

/* round(min(16383, max(16383 e, 0))) */
static int32_t exp_number(float e)
{
    float x = ref_min(TACIT_INT8_EXP, ref_max(e * TACIT_INT8_EXP, 0));
    return (int32_t)nearbyintf(x);
}

void tacit_attention_u8s8_ref(size_t rows, size_t tokens, size_t dim, const float *q,
                              const float *k, const float *v, size_t ld, float scale,
                              const float *bias, size_t ldb, float *out, size_t ldo, float *scratch)
{
    uint8_t *query = (uint8_t *)(scratch + tokens), *key = query + 4 * TACIT_INT8_GROUPS(dim);
    uint8_t *value = key;
    for (size_t i = 0; i < rows; i++) {
        float query_scale, key_scale, most, factor = bias ? 1.0f : scale;
        tacit_quantise_u8_ref(1, dim, q + i * ld, ld, query, 0, &query_scale);
        for (size_t t = 0; t < tokens; t++) {
            int32_t sum = 0;
            tacit_quantise_u8_ref(1, dim, k + t * ld, ld, key, 0, &key_scale);
            for (size_t p = 0; p < dim; p++)
                sum += (query[p] - 128) * (key[p] - 128);
            scratch[t] = (float)sum * (query_scale * key_scale);
        }
        for (size_t t = 0; bias && t < tokens; t++)
            scratch[t] = fmaf(scratch[t], scale, bias[i * ldb + t]);
        float inverse = 1.0f / exp_row(tokens, scratch, factor, scratch, &most);
        for (size_t j = 0; j < dim; j++) {
            int32_t high = 0, low = 0;
            float s = quantise_column(tokens, v + j, ld, value);
            for (size_t t = 0; t < tokens; t++) {
                int32_t number = exp_number(scratch[t]);
                high += number / 128 * (value[t] - 128);
                low += number % 128 * (value[t] - 128);
            }
            out[i * ldo + j] =
                ((float)high * (128 * s) + (float)low * s) * (inverse * (1 / TACIT_INT8_EXP));
        }
    }
}
