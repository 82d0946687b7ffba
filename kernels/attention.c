/* attention.c - one head of scaled dot-product attention, for a block of queries.
 *
 * Keys and values are packed once; then for each tile of MR queries the whole rows of scores are
 * made, turned into exponentials and multiplied with the values, all inside the first-level cache.
 */
#include "gemm_tile.h"
#include "rows.h"

/* The scores of `count` queries, rows `width` apart, to exponentials, with 1 / their sums. */
static void exp_scores(size_t count, size_t tokens, float *scores, size_t width, float scale,
                       const float *bias, size_t ldb, float *inverse)
{
    for (size_t r = 0; r < count; r++) {
        float *row = scores + r * width;
        if (bias)
            add_bias(tokens, row, scale, bias + r * ldb);
        inverse[r] = 1.0f / exp_row(tokens, row, bias ? 1.0f : scale, row, NULL);
    }
}

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

/* Rows of n values in bfloat16, whole pairs, ld values apart. */
static void round_rows(size_t rows, size_t n, const float *x, size_t ldx, uint16_t *y, size_t ldy)
{
    for (size_t r = 0; r < rows; r++) {
        TACIT_NAME(tacit_f32_to_bf16)(n, x + r * ldx, y + r * ldy);
        if (n % 2)
            y[r * ldy + n] = 0;
    }
}

/* Keys (tokens, dim) to the panels of gemm_bf16; row: room for one. */
static void pack_keys_bf16(size_t tokens, size_t dim, const float *k, size_t ld, uint16_t *row,
                           uint16_t *packed)
{
    const size_t nr = TACIT_BF16_NR, pairs = TACIT_BF16_PAIRS(dim);
    for (size_t t = 0; t < (tokens + nr - 1) / nr * nr; t++) {
        uint16_t *to = packed + 2 * (t / nr * nr * pairs + t % nr);
        if (t < tokens)
            round_rows(1, dim, k + t * ld, ld, row, 0);
        else
            memset(row, 0, 4 * pairs);
        for (size_t p = 0; p < pairs; p++)
            memcpy(to + 2 * p * nr, row + 2 * p, 4);
    }
}

/* Values (tokens, dim) transposed; rows: room for two. */
static void pack_values_bf16(size_t tokens, size_t dim, const float *v, size_t ld, uint16_t *rows,
                             uint16_t *packed)
{
    const size_t nr = TACIT_BF16_NR, pairs = TACIT_BF16_PAIRS(tokens);
    const size_t columns = (dim + nr - 1) / nr * nr;
    uint16_t *first = rows, *second = rows + columns;
    memset(rows, 0, 4 * columns);
    for (size_t p = 0; p < pairs; p++) {
        TACIT_NAME(tacit_f32_to_bf16)(dim, v + 2 * p * ld, first);
        if (2 * p + 1 < tokens)
            TACIT_NAME(tacit_f32_to_bf16)(dim, v + (2 * p + 1) * ld, second);
        else
            memset(second, 0, 2 * columns);
        for (size_t j = 0; j < columns; j += nr) {
            uint32_t both[TACIT_BF16_NR];
            for (size_t i = 0; i < nr; i++)
                both[i] = first[j + i] | (uint32_t)second[j + i] << 16;
            memcpy(packed + 2 * (j * pairs + p * nr), both, sizeof both);
        }
    }
}

void TACIT_NAME(tacit_attention_bf16)(size_t rows, size_t tokens, size_t dim, const float *q,
                                      const float *k, const float *v, size_t ld, float scale,
                                      const float *bias, size_t ldb, float *out, size_t ldo,
                                      float *scratch)
{
    const size_t width = (tokens + TACIT_NR - 1) / TACIT_NR * TACIT_NR;
    const size_t ldq = 2 * TACIT_BF16_PAIRS(dim), ldp = 2 * TACIT_BF16_PAIRS(tokens);
    float *scores = scratch, inverse[TACIT_MR];
    uint16_t *keys = (uint16_t *)(void *)(scores + TACIT_MR * width);
    uint16_t *values = keys + tacit_gemm_bf16_size(tokens, dim);
    uint16_t *queries = values + tacit_gemm_bf16_size(dim, tokens); /* two rows before */
    uint16_t *weights = queries + TACIT_MR * (ldq + TACIT_BF16_NR);
    pack_keys_bf16(tokens, dim, k, ld, queries, keys);
    pack_values_bf16(tokens, dim, v, ld, queries, values);

    size_t tiles = (rows + TACIT_MR - 1) / TACIT_MR, count;
    for (size_t i = 0; i < rows; i += count) {
        count = even_rows(rows - i, tiles--);
        round_rows(count, dim, q + i * ld, ld, queries, ldq);
        TACIT_NAME(tacit_gemm_bf16)(count, tokens, dim, queries, ldq, keys, scores, width, NULL);
        exp_scores(count, tokens, scores, width, scale, bias ? bias + i * ldb : NULL, ldb, inverse);
        round_rows(count, tokens, scores, width, weights, ldp);
        TACIT_NAME(tacit_gemm_bf16)
        (count, dim, tokens, weights, ldp, values, out + i * ldo, ldo, NULL);
        for (size_t r = 0; r < count; r++)
            scale_row(dim, out + (i + r) * ldo, inverse[r], out + (i + r) * ldo);
    }
}
