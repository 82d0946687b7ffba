/* score_tile.h - tiles of scores: what attention.c and attention_backward.c share. */
#ifndef TACIT_SCORE_TILE_H
#define TACIT_SCORE_TILE_H

#include "gemm_tile.h"

/* A panel of the products of count rows of a with `left` packed rows or more. What is behind those
 * is of no use: where half a panel has them all, the other half is left out. */
static __attribute__((noinline)) void score_tile(size_t count, size_t left, size_t k,
                                                 const float *a, size_t lda, const float *b,
                                                 float *c, size_t ldc)
{
    if (left * 2 > TACIT_NR || TACIT_NV == 1) {
        whole_tile(count, k, a, lda, b, NULL, 0, c, ldc, false, NULL);
        return;
    }
    switch (count) {
#define ROWS(r)                                                                                    \
    case r: tile_fixed(r, (TACIT_NV + 1) / 2, k, a, lda, b, 0, NULL, 0, c, ldc, false, NULL); break;
        TACIT_TILE_ROWS
#undef ROWS
    }
}

#endif
