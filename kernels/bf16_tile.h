/* bf16_tile.h - the product behind bf16.c and bf16_dot.c, over the vocabulary: TACIT_DOT says
 * which. */
#ifndef TACIT_BF16_TILE_H
#define TACIT_BF16_TILE_H

#include "simd_bf16.h"

/* With the instruction 14 x 2 sums, 2 panels and 1 row; without, what any ISA holds. */
#if TACIT_DOT
#define ROWS   14
#define PANELS 2
#else
#define ROWS   4
#define PANELS 1
#endif

#include "dot_tile.h"

TACIT_INLINE vacc sum_first(const product *p, size_t column)
{
    (void)p, (void)column;
    return vf_zero();
}

TACIT_INLINE vf sum_value(const place *at, vacc sum, size_t j, const vf *bias)
{
    (void)at, (void)j;
    return bias ? vf_add(sum, *bias) : sum;
}

TACIT_INLINE void gemm_bf16(size_t m, size_t n, size_t k, const uint16_t *a, size_t lda,
                            const uint16_t *packed, float *c, size_t ldc,
                            const tacit_epilogue *epilogue)
{
    const product p = { n, TACIT_BF16_PAIRS(k), 2 * lda, ldc, epilogue, NULL, NULL, NULL, 0 };
    dot_gemm(&p, m, (const uint8_t *)a, (const uint8_t *)packed, c);
}

#endif
