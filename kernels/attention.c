/* attention.c - one head of scaled dot-product attention, for a block of queries.
 *
 * Keys and values are packed once; then for each tile of MR queries the whole rows of scores are
 * made, turned into exponentials and multiplied with the values, all inside the first-level cache.
 */
#include "attention.h"
#include "score_tile.h"

/* From scores to outputs. values: packed. */
static void weigh_values(size_t count, size_t tokens, size_t dim, float *scores, size_t width,
                         float scale, const float *bias, size_t ldb, const float *values,
                         float *out, size_t ldo)
{
    float inverse[TACIT_MR];
    exp_scores(count, tokens, scores, width, scale, bias, ldb, inverse);
    for (size_t j = 0; j < dim; j += TACIT_NR)
        for (size_t t = 0; t < tokens; t += TACIT_KC)
            tile(count, dim - j < TACIT_NR ? dim - j : TACIT_NR,
                 tokens - t < TACIT_KC ? tokens - t : TACIT_KC, scores + t, width,
                 values + j * tokens + t * TACIT_NR, NULL, 0, out + j, ldo, t > 0, NULL);
    for (size_t r = 0; r < count; r++)
        scale_row(dim, out + r * ldo, inverse[r], out + r * ldo);
}

void TACIT_NAME(tacit_attention_f32)(size_t rows, size_t tokens, size_t dim, const float *q,
                                     const float *k, const float *v, size_t ld, float scale,
                                     const float *bias, size_t ldb, float *out, size_t ldo,
                                     float *scratch)
{
    const size_t width = (tokens + TACIT_NR - 1) / TACIT_NR * TACIT_NR;
    float *keys = scratch;
    float *values = keys + width * dim;
    float *scores = values + (dim + TACIT_NR - 1) / TACIT_NR * TACIT_NR * tokens;
    TACIT_NAME(tacit_gemm_pack_f32)(tokens, dim, k, ld, keys);
    TACIT_NAME(tacit_gemm_pack_t_f32)(dim, tokens, v, ld, values);

    size_t tiles = (rows + TACIT_MR - 1) / TACIT_MR, count;
    for (size_t i = 0; i < rows; i += count) {
        count = even_rows(rows - i, tiles--);
        for (size_t t = 0; t < tokens; t += TACIT_NR)
            score_tile(count, tokens - t, dim, q + i * ld, ld, keys + t * dim, scores + t, width);
        weigh_values(count, tokens, dim, scores, width, scale, bias ? bias + i * ldb : NULL, ldb,
                     values, out + i * ldo, ldo);
    }
}
