/* gemm_tile.h - the register tile behind gemm.c and attention.c, over the vocabulary.
 *
 * c (rows x panels * NR) = or += a (rows, k) times `panels` packed panels. Every accumulator is one
 * chain in k order from 0; the sum goes to c, or is added to what c holds. So the tile's shape does
 * not show in the result, and the cutting of k is the same everywhere: TACIT_KC.
 */
#ifndef TACIT_GEMM_TILE_H
#define TACIT_GEMM_TILE_H

#include "simd.h"

#define TACIT_NV (TACIT_NR / VF) /* vectors in a panel's row */

/* rows and panels are constants at every call. b: panel j begins at b + j * stride. left: valid
 * columns, at most panels * NR. */
TACIT_INLINE void tile_fixed(size_t rows, size_t panels, size_t k, const float *a, size_t lda,
                             const float *b, size_t stride, float *c, size_t ldc, size_t left,
                             bool more)
{
    vf acc[TACIT_MR][4 * TACIT_NV];
    const size_t nv = panels * TACIT_NV;
    bool whole = left == panels * TACIT_NR;
#pragma GCC unroll 16
    for (size_t i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (size_t j = 0; j < nv; j++)
            acc[i][j] = vf_zero();
    for (size_t p = 0; p < k; p++) {
        vf column[4 * TACIT_NV];
#pragma GCC unroll 8
        for (size_t j = 0; j < nv; j++)
            column[j] = vf_load(b + j / TACIT_NV * stride + j % TACIT_NV * VF);
        b += TACIT_NR;
#pragma GCC unroll 16
        for (size_t i = 0; i < rows; i++) {
            vf value = vf_set1(a[i * lda]);
#pragma GCC unroll 8
            for (size_t j = 0; j < nv; j++)
                acc[i][j] = vf_fma(value, column[j], acc[i][j]);
        }
        a++;
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (size_t j = 0; j < nv; j++) {
            size_t from = j * VF;
            float *to = c + i * ldc + from;
            if (whole) {
                vf_store(to, more ? vf_add(vf_load(to), acc[i][j]) : acc[i][j]);
            } else if (from < left) {
                size_t n = VF_LEFT(left, from);
                vf_store_n(to, more ? vf_add(vf_load_n(to, n), acc[i][j]) : acc[i][j], n);
            }
        }
}

/* One panel, 1 to MR rows. Not inlined: one copy of each tile in a file. */
static __attribute__((noinline)) void tile(size_t rows, size_t k, const float *a, size_t lda,
                                           const float *b, float *c, size_t ldc, size_t left,
                                           bool more)
{
    switch (rows) {
#define ROWS(r)                                                                                    \
    case r: tile_fixed(r, 1, k, a, lda, b, 0, c, ldc, left, more); break;
        ROWS(1)
        ROWS(2)
        ROWS(3)
        ROWS(4)
        ROWS(5)
        ROWS(6)
#if TACIT_MR > 6
        ROWS(7)
        ROWS(8)
        ROWS(9)
        ROWS(10)
        ROWS(11)
        ROWS(12)
        ROWS(13)
        ROWS(14)
#endif
#undef ROWS
    }
}

#endif
