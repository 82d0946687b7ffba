/* int8_tile.h - the product behind int8.c and int8_dot.c, over the vocabulary: TACIT_DOT says
 * which. */
#ifndef TACIT_INT8_TILE_H
#define TACIT_INT8_TILE_H

#include "simd_int8.h"

/* Rows of a tile, and panels that lie side by side in it: what the registers hold. avx512: 14 x 2
 * sums, 2 panels, 1 row; in pairs of 16 bits 12 x 2, 4 and 2. avx2: 6 sums of 2 registers, 2
 * and 1; in pairs 4 of 2, 4 and 2. neon: 6 sums of 4, 4 and 1; in pairs 4 of 4, as they need some
 * more. */
#if TACIT_ISA_NUMBER == TACIT_ISA_IS_avx512 && TACIT_DOT
#define ROWS   14
#define PANELS 2
#elif TACIT_ISA_NUMBER == TACIT_ISA_IS_avx512
#define ROWS   12
#define PANELS 2
#elif TACIT_DOT
#define ROWS   6
#define PANELS 1
#else
#define ROWS   4
#define PANELS 1
#endif

#include "dot_tile.h"

TACIT_INLINE vacc sum_first(const product *p, size_t column)
{
    return sum_begin(p->minus + column, p->zero);
}

TACIT_INLINE vf sum_value(const place *at, vacc sum, size_t j, const vf *bias)
{
    vf scale = vf_mul(vf_set1(at->a_scale[at->row]), vf_load(at->scale + at->column + j));
    return bias ? vf_fma(sum_float(sum), scale, *bias) : vf_mul(sum_float(sum), scale);
}

TACIT_INLINE void gemm_u8s8(size_t m, size_t n, size_t k, const uint8_t *a, size_t lda,
                            const float *a_scale, uint8_t zero, const int8_t *packed,
                            const float *scale, const int32_t *minus, float *c, size_t ldc,
                            const tacit_epilogue *epilogue)
{
    const product p = { n, TACIT_INT8_GROUPS(k), lda, ldc, epilogue, a_scale, scale, minus, zero };
    dot_gemm(&p, m, a, (const uint8_t *)packed, c);
}

#endif
