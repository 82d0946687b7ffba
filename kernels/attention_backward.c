/* attention_backward.c - the gradients of one head of scaled dot-product attention.
 *
 * For blocks of TACIT_KC queries: the tiles of attention.c make the rows of p again, a second
 * product the rows of dp, which become those of ds where they lie, in the first-level cache; the
 * block's share of dk and dv is then a product that is transposed on the left, as gemm_tn has it.
 */
#include "attention.h"
#include "score_tile.h"

/* g = p * (dp - sum(p * dp)) is added to sums, unless NULL; ds = g * scale, in the place of dp. */
TACIT_INLINE void softmax_gradient(size_t n, const float *p, float *dp, float scale, float *sums)
{
    vf sum = vf_zero(), factor = vf_set1(scale);
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        sum = vf_fma(vf_load(p + i), vf_load(dp + i), sum);
    if (i < n) {
        vf product = vf_fma(vf_load_n(p + i, n - i), vf_load_n(dp + i, n - i), sum);
        sum = vf_first(product, sum, n - i);
    }
    vf middle = vf_set1(vf_sum(sum));
    for (i = 0; i + VF <= n; i += VF) {
        vf d = vf_mul(vf_load(p + i), vf_sub(vf_load(dp + i), middle));
        if (sums)
            vf_store(sums + i, vf_add(vf_load(sums + i), d));
        vf_store(dp + i, vf_mul(d, factor));
    }
    if (i < n) {
        vf d = vf_mul(vf_load_n(p + i, n - i), vf_sub(vf_load_n(dp + i, n - i), middle));
        if (sums)
            vf_store_n(sums + i, vf_add(vf_load_n(sums + i, n - i), d), n - i);
        vf_store_n(dp + i, vf_mul(d, factor), n - i);
    }
}

void TACIT_NAME(tacit_attention_backward_f32)(size_t tokens, size_t dim, const float *q,
                                              const float *k, const float *v, size_t ld,
                                              float scale, const float *bias, float *dbias,
                                              size_t ldb, const float *dout, size_t ldo, float *dq,
                                              float *dk, float *dv, size_t ldd, float *scratch)
{
    const size_t width = (tokens + TACIT_NR - 1) / TACIT_NR * TACIT_NR;
    const size_t lds = width + TACIT_SCORES_PAD, most = tokens < TACIT_KC ? tokens : TACIT_KC;
    float *keys = scratch, *values = keys + width * dim, *columns = values + width * dim;
    float *p = columns + (dim + TACIT_NR - 1) / TACIT_NR * TACIT_NR * tokens, *ds = p + most * lds;
    TACIT_NAME(tacit_gemm_pack_f32)(tokens, dim, k, ld, keys);
    TACIT_NAME(tacit_gemm_pack_f32)(tokens, dim, v, ld, values);
    TACIT_NAME(tacit_gemm_pack_t_f32)(dim, tokens, k, ld, columns);

    for (size_t first = 0, block; first < tokens; first += block) {
        block = tokens - first < TACIT_KC ? tokens - first : TACIT_KC;
        size_t tiles = (block + TACIT_MR - 1) / TACIT_MR, count;
        for (size_t i = 0; i < block; i += count) {
            count = even_rows(block - i, tiles--);
            float *pi = p + i * lds, *dsi = ds + i * lds;
            for (size_t t = 0; t < tokens; t += TACIT_NR) {
                score_tile(count, tokens - t, dim, q + (first + i) * ld, ld, keys + t * dim, pi + t,
                           lds);
                score_tile(count, tokens - t, dim, dout + (first + i) * ldo, ldo, values + t * dim,
                           dsi + t, lds);
            }
            for (size_t r = 0; r < count; r++) {
                float *row = pi + r * lds;
                size_t at = (first + i + r) * ldb;
                if (bias)
                    add_bias(tokens, row, scale, bias + at);
                scale_row(tokens, row, 1.0f / exp_row(tokens, row, bias ? 1.0f : scale, row, NULL),
                          row);
                softmax_gradient(tokens, row, dsi + r * lds, scale, bias ? dbias + at : NULL);
            }
            for (size_t j = 0; j < dim; j += TACIT_NR)
                for (size_t t = 0; t < tokens; t += TACIT_KC)
                    tile(count, dim - j < TACIT_NR ? dim - j : TACIT_NR,
                         tokens - t < TACIT_KC ? tokens - t : TACIT_KC, dsi + t, lds,
                         columns + j * tokens + t * TACIT_NR, NULL, 0, dq + (first + i) * ldd + j,
                         ldd, t > 0, NULL);
        }
        TACIT_NAME(tacit_gemm_tn_f32)
        (tokens, dim, block, ds, lds, q + first * ld, ld, dk, ldd, first > 0, NULL);
        TACIT_NAME(tacit_gemm_tn_f32)
        (tokens, dim, block, p, lds, dout + first * ldo, ldo, dv, ldd, first > 0, NULL);
    }
}
