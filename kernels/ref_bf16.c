/* ref_bf16.c - the definition of the products of bfloat16, in plain C. */
#include "bf16.h"
#include "ref.h"

/* A pair of terms onto a sum. */
static float add_pair(float sum, const uint16_t *a, const uint16_t *w)
{
    sum = tacit_bf16_flush(fmaf(tacit_bf16_value(a[1]), tacit_bf16_value(w[1]), sum));
    return tacit_bf16_flush(fmaf(tacit_bf16_value(a[0]), tacit_bf16_value(w[0]), sum));
}

void tacit_gemm_bf16_ref(size_t m, size_t n, size_t k, const uint16_t *a, size_t lda,
                         const uint16_t *packed, float *c, size_t ldc, const tacit_epilogue *e)
{
    const size_t pairs = TACIT_BF16_PAIRS(k), nr = TACIT_BF16_NR;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            const uint16_t *w = packed + 2 * (j / nr * nr * pairs + j % nr);
            float sum = 0;
            for (size_t p = 0; p < pairs; p++)
                sum = add_pair(sum, a + i * lda + 2 * p, w + 2 * p * nr);
            c[i * ldc + j] = finish_rounded(sum, e, i, j);
        }
}

void tacit_attention_bf16_ref(size_t rows, size_t tokens, size_t dim, const float *q,
                              const float *k, const float *v, size_t ld, float scale,
                              const float *bias, size_t ldb, float *out, size_t ldo, float *scratch)
{
    uint16_t a[2], w[2];
    for (size_t i = 0; i < rows; i++) {
        float most, factor = bias ? 1.0f : scale;
        for (size_t t = 0; t < tokens; t++) {
            scratch[t] = 0;
            for (size_t p = 0; p < dim; p += 2) {
                a[1] = w[1] = 0;
                tacit_f32_to_bf16_ref(dim - p < 2 ? 1 : 2, q + i * ld + p, a);
                tacit_f32_to_bf16_ref(dim - p < 2 ? 1 : 2, k + t * ld + p, w);
                scratch[t] = add_pair(scratch[t], a, w);
            }
        }
        for (size_t t = 0; bias && t < tokens; t++)
            scratch[t] = fmaf(scratch[t], scale, bias[i * ldb + t]);
        float inverse = 1.0f / exp_row(tokens, scratch, factor, scratch, &most);
        for (size_t j = 0; j < dim; j++) {
            float sum = 0;
            for (size_t t = 0; t < tokens; t += 2) {
                a[1] = w[1] = 0;
                tacit_f32_to_bf16_ref(tokens - t < 2 ? 1 : 2, scratch + t, a);
                tacit_f32_to_bf16_ref(1, v + t * ld + j, w);
                if (tokens - t > 1)
                    tacit_f32_to_bf16_ref(1, v + (t + 1) * ld + j, w + 1);
                sum = add_pair(sum, a, w);
            }
            out[i * ldo + j] = sum * inverse;
        }
    }
}
