/* attention.h - the softmax of attention, for the files that have its products. */
#ifndef TACIT_ATTENTION_H
#define TACIT_ATTENTION_H

#include "gemm_tile.h"
#include "rows.h"

/* The scores of `count` queries, rows `width` apart, to exponentials, with 1 / their sums. */
TACIT_INLINE void exp_scores(size_t count, size_t tokens, float *scores, size_t width, float scale,
                             const float *bias, size_t ldb, float *inverse)
{
    for (size_t r = 0; r < count; r++) {
        float *row = scores + r * width;
        if (bias)
            add_bias(tokens, row, scale, bias + r * ldb);
        inverse[r] = 1.0f / exp_row(tokens, row, bias ? 1.0f : scale, row, NULL);
    }
}

#endif
