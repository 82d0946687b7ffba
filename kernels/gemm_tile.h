/* gemm_tile.h - the register tile behind gemm.c and attention.c, over the vocabulary.
 *
 * c (rows x panels * NR) = or += a (rows, k) times `panels` packed panels. Every accumulator is one
 * chain in k order from 0; the sum goes to c, or is added to what c holds. So the tile's shape does
 * not show in the result, and the cutting of k is the same everywhere: TACIT_KC.
 *
 * With the last chain comes the epilogue, its pointers moved to the tile's first output. Where it
 * has a gelu, that and what follows it is left to gemm.c, so that a call does not spill the tile.
 */
#ifndef TACIT_GEMM_TILE_H
#define TACIT_GEMM_TILE_H

#include "simd.h"

#define TACIT_NV (TACIT_NR / VF) /* vectors in a panel's row */
#define LINE     16              /* floats of a cache line */

/* acc[i][j] for all rows and vectors of the tile. */
#define TACIT_TILE_EACH(statement)                                                                 \
    _Pragma("GCC unroll 16") for (size_t i = 0; i < rows; i++)                                     \
    {                                                                                              \
        _Pragma("GCC unroll 8") for (size_t j = 0; j < nv; j++)                                    \
        {                                                                                          \
            statement;                                                                             \
        }                                                                                          \
    }

/* Every third row of a has a pointer, and the two behind it are one and two times lda away, which
 * an x86 address adds for nothing. */
#define TACIT_BASES ((TACIT_MR + 2) / 3)

/* One step of k: a column of a times a row of each panel. */
#define TACIT_TILE_STEP                                                                            \
    {                                                                                              \
        vf column[4 * TACIT_NV];                                                                   \
        _Pragma("GCC unroll 8") for (size_t j = 0; j < nv; j++)                                    \
        {                                                                                          \
            column[j] = vf_load(b + j / TACIT_NV * stride + j % TACIT_NV * VF);                    \
        }                                                                                          \
        _Pragma("GCC unroll 16") for (size_t i = 0; i < rows; i++)                                 \
        {                                                                                          \
            vf value = vf_set1(base[i / 3][i % 3 * lda]);                                          \
            _Pragma("GCC unroll 8") for (size_t j = 0; j < nv; j++)                                \
            {                                                                                      \
                if (nv <= TACIT_NV) /* fits into the registers */                                  \
                    vf_fma_into(&acc[i][j], value, column[j]);                                     \
                else                                                                               \
                    acc[i][j] = vf_fma(value, column[j], acc[i][j]);                               \
            }                                                                                      \
        }                                                                                          \
        _Pragma("GCC unroll 5") for (size_t i = 0; i < bases; i++)                                 \
        {                                                                                          \
            base[i]++;                                                                             \
        }                                                                                          \
        b += TACIT_NR;                                                                             \
    }

/* rows and nv are constants at every call. nv: so many vectors of columns, all valid: whole panels,
 * of which panel j begins at b + j * stride, or the first half of one. ahead: lines to ask for, so
 * many for four steps of k. more: add to c. e may be NULL. */
TACIT_INLINE void tile_fixed(size_t rows, size_t nv, size_t k, const float *a, size_t lda,
                             const float *b, size_t stride, const float *ahead, size_t lines,
                             float *c, size_t ldc, bool more, const tacit_epilogue *e)
{
    vf acc[TACIT_MR][4 * TACIT_NV];
    TACIT_TILE_EACH(acc[i][j] = vf_zero())
    const float *base[TACIT_BASES];
    const size_t bases = (rows + 2) / 3;
    _Pragma("GCC unroll 5") for (size_t i = 0; i < bases; i++)
    {
        base[i] = a + 3 * i * lda;
        __asm__("" : "+r"(base[i])); /* else gcc makes all rows' distances from the first */
    }
    for (const float *end = b + k / 4 * 4 * TACIT_NR; b != end;) {
        for (size_t line = 0; line < lines; line++, ahead += LINE)
            __builtin_prefetch(ahead);
        TACIT_TILE_STEP
        TACIT_TILE_STEP
        TACIT_TILE_STEP
        TACIT_TILE_STEP
    }
    for (size_t p = k / 4 * 4; p < k; p++)
        TACIT_TILE_STEP
    if (more)
        TACIT_TILE_EACH(acc[i][j] = vf_add(vf_load(c + i * ldc + j * VF), acc[i][j]))
    if (e) {
        if (e->bias)
            TACIT_TILE_EACH(acc[i][j] = vf_add(acc[i][j], vf_load(e->bias + j * VF)))
        if (e->scale && !e->gelu)
            TACIT_TILE_EACH(acc[i][j] = vf_mul(acc[i][j], vf_load(e->scale + j * VF)))
        if (e->residual && !e->gelu)
            TACIT_TILE_EACH(acc[i][j] =
                                vf_add(acc[i][j], vf_load(e->residual + i * e->ldr + j * VF)))
        if (e->relu && !e->gelu)
            TACIT_TILE_EACH(acc[i][j] = vf_relu(acc[i][j]))
    }
    TACIT_TILE_EACH(vf_store(c + i * ldc + j * VF, acc[i][j]))
}

/* ROWS(r) for all r up to MR. */
#define TACIT_TILE_ROWS_6 ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6)
#if TACIT_MR > 6
#define TACIT_TILE_ROWS                                                                            \
    TACIT_TILE_ROWS_6 ROWS(7) ROWS(8) ROWS(9) ROWS(10) ROWS(11) ROWS(12) ROWS(13) ROWS(14)
#else
#define TACIT_TILE_ROWS TACIT_TILE_ROWS_6
#endif

/* One panel, 1 to MR rows. Not inlined: one copy of each tile in a file. */
static __attribute__((noinline)) void whole_tile(size_t rows, size_t k, const float *a, size_t lda,
                                                 const float *b, const float *ahead, size_t lines,
                                                 float *c, size_t ldc, bool more,
                                                 const tacit_epilogue *e)
{
    switch (rows) {
#define ROWS(r)                                                                                    \
    case r: tile_fixed(r, TACIT_NV, k, a, lda, b, 0, ahead, lines, c, ldc, more, e); break;
        TACIT_TILE_ROWS
#undef ROWS
    }
}

/* Rows of the next of `tiles` tiles that share `rows`, nearly evenly: one short tile at the end
 * would leave the FMA units waiting for its few chains. */
TACIT_INLINE size_t even_rows(size_t rows, size_t tiles)
{
    return (rows + tiles - 1) / tiles;
}

/* Asks for the share of what comes next that belongs to a tile of `count`. */
TACIT_INLINE void ask_next(const tacit_coming *next, size_t tile, size_t count)
{
    if (!next->x)
        return;
    size_t end = next->rows * (tile + 1) / count;
    for (size_t p = next->rows * tile / count; p < end; p++)
        for (size_t j = 0; j < next->width; j += LINE)
            __builtin_prefetch(next->x + p * next->ld + j, 0, 2);
}

TACIT_INLINE vf load_left(const float *p, size_t left)
{
    return left == VF ? vf_load(p) : vf_load_n(p, left);
}

/* The last panel of a matrix, of which `columns` < NR are valid: by way of a whole tile aside. */
static __attribute__((noinline)) void part_tile(size_t rows, size_t columns, size_t k,
                                                const float *a, size_t lda, const float *b,
                                                float *c, size_t ldc, bool more,
                                                const tacit_epilogue *e)
{
    float aside[TACIT_MR * TACIT_NR];
    whole_tile(rows, k, a, lda, b, NULL, 0, aside, TACIT_NR, false, NULL);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j += VF) {
            size_t left = VF_LEFT(columns, j);
            float *to = c + i * ldc + j;
            vf y = vf_load(aside + i * TACIT_NR + j);
            if (more)
                y = vf_add(load_left(to, left), y);
            if (e && e->bias)
                y = vf_add(y, load_left(e->bias + j, left));
            if (e && e->scale && !e->gelu)
                y = vf_mul(y, load_left(e->scale + j, left));
            if (e && e->residual && !e->gelu)
                y = vf_add(y, load_left(e->residual + i * e->ldr + j, left));
            if (e && e->relu && !e->gelu)
                y = vf_relu(y);
            vf_store_n(to, y, left);
        }
}

TACIT_INLINE void tile(size_t rows, size_t columns, size_t k, const float *a, size_t lda,
                       const float *b, const float *ahead, size_t lines, float *c, size_t ldc,
                       bool more, const tacit_epilogue *e)
{
    if (columns == TACIT_NR)
        whole_tile(rows, k, a, lda, b, ahead, lines, c, ldc, more, e);
    else
        part_tile(rows, columns, k, a, lda, b, c, ldc, more, e);
}

#endif
