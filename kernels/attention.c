/* attention.c - one head of scaled dot-product attention, for a block of queries.
 *
 * Keys and values are packed once; then for each tile of MR queries the whole rows of scores are
 * made, turned into exponentials and multiplied with the values, all inside the first-level cache.
 */
#include "gemm_tile.h"
#include "rows.h"

/* From the scores of `count` queries, rows `width` apart, to their outputs. values: packed. */
static void weigh_values(size_t count, size_t tokens, size_t dim, float *scores, size_t width,
                         float scale, const float *bias, size_t ldb, const float *values,
                         float *out, size_t ldo)
{
    float inverse[TACIT_MR];
    for (size_t r = 0; r < count; r++) {
        float *row = scores + r * width;
        if (bias)
            add_bias(tokens, row, scale, bias + r * ldb);
        inverse[r] = 1.0f / exp_row(tokens, row, bias ? 1.0f : scale, row, NULL);
    }
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
            whole_tile(count, dim, q + i * ld, ld, keys + t * dim, NULL, 0, scores + t, width,
                       false, NULL);
        weigh_values(count, tokens, dim, scores, width, scale, bias ? bias + i * ldb : NULL, ldb,
                     values, out + i * ldo, ldo);
    }
}

/* Rows of keys to the panels of gemm_u8s8; row: room for one in bytes. */
static void pack_keys(size_t tokens, size_t dim, const float *k, size_t ld, uint8_t *row,
                      int8_t *packed, float *scale, int32_t *minus)
{
    const size_t nr = TACIT_INT8_NR, groups = TACIT_INT8_GROUPS(dim);
    for (size_t t = 0; t < (tokens + nr - 1) / nr * nr; t++) {
        int8_t *to = packed + t / nr * nr * 4 * groups + t % nr * 4;
        int32_t sum = 0;
        scale[t] = 0;
        if (t < tokens)
            TACIT_NAME(tacit_quantise_u8)(1, dim, k + t * ld, ld, row, 4 * groups, scale + t);
        else
            memset(row, 128, 4 * groups);
        for (size_t i = 0; i < 4 * groups; i++)
            sum += row[i] - 128;
        minus[t] = 128 * sum;
        for (size_t p = 0; p < groups; p++) {
            uint32_t group;
            memcpy(&group, row + 4 * p, sizeof group);
            group ^= 0x80808080; /* 128 less each */
            memcpy(to + p * 4 * nr, &group, sizeof group);
        }
    }
}

void TACIT_NAME(tacit_attention_u8s8)(size_t rows, size_t tokens, size_t dim, const float *q,
                                      const float *k, const float *v, size_t ld, float scale,
                                      const float *bias, size_t ldb, float *out, size_t ldo,
                                      float *scratch)
{
    const size_t width = (tokens + TACIT_NR - 1) / TACIT_NR * TACIT_NR;
    const size_t keys = (tokens + TACIT_INT8_NR - 1) / TACIT_INT8_NR * TACIT_INT8_NR;
    const size_t bytes = 4 * TACIT_INT8_GROUPS(dim);
    float *values = scratch;
    float *scores = values + (dim + TACIT_NR - 1) / TACIT_NR * TACIT_NR * tokens;
    float *key_scale = scores + TACIT_MR * width, query_scale[TACIT_MR];
    int32_t *minus = (int32_t *)(void *)(key_scale + keys);
    int8_t *packed = (int8_t *)(minus + keys);
    uint8_t *queries = (uint8_t *)packed + keys * bytes; /* and a row of keys before */
    pack_keys(tokens, dim, k, ld, queries, packed, key_scale, minus);
    TACIT_NAME(tacit_gemm_pack_t_f32)(dim, tokens, v, ld, values);

    size_t tiles = (rows + TACIT_MR - 1) / TACIT_MR, count;
    for (size_t i = 0; i < rows; i += count) {
        count = even_rows(rows - i, tiles--);
        TACIT_NAME(tacit_quantise_u8)(count, dim, q + i * ld, ld, queries, bytes, query_scale);
        TACIT_NAME(tacit_gemm_u8s8)
        (count, tokens, dim, queries, bytes, query_scale, packed, key_scale, minus, scores, width,
         NULL);
        weigh_values(count, tokens, dim, scores, width, scale, bias ? bias + i * ldb : NULL, ldb,
                     values, out + i * ldo, ldo);
    }
}
