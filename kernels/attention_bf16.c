/* attention_bf16.c - attention.c with both of its products in bfloat16. See kernels_bf16.h. */
#include "attention.h"

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
