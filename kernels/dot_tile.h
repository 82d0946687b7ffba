/* dot_tile.h - the register tile of products whose instruction takes 4 bytes of a row and 4 of each
 * of 16 outputs at a time: int8_tile.h, bf16_tile.h. One chain of sums over the whole of k.
 *
 * Before it is included: vsum, 16 sums; vgroup, the 4 bytes of a row, for all lanes, or those of 16
 * outputs; group_of_row, group_of_panel, sum_zero, and sum_dot, which adds to each lane the
 * products of its bytes; ROWS and PANELS, rows of a tile and panels that lie side by side in it:
 * what the registers hold. A panel has VF outputs: output j's group p is at (j / VF groups + p) VF
 * + j % VF.
 */
#ifndef TACIT_DOT_TILE_H
#define TACIT_DOT_TILE_H

#include "simd.h"

#define LINE 16 /* floats of a cache line */

TACIT_INLINE vf load_some(const float *p, size_t left)
{
    return left == VF ? vf_load(p) : vf_load_n(p, left);
}

typedef struct product {
    size_t n, groups; /* outputs; groups of 4 bytes in a row */
    size_t lda, ldc;  /* bytes; floats                        */
    const tacit_epilogue *e;
    const float *a_scale, *scale; /* of int8: its factors, and what is taken off */
    const int32_t *minus;
} product;

/* A sum as the number that it stands for: what the includer defines. */
TACIT_INLINE vf sum_value(const product *p, vsum sum, size_t row, size_t column);

/* One sum, at output (row, column), to its place. */
TACIT_INLINE void finish_sum(const product *p, vsum sum, size_t row, size_t column, float *c)
{
    const tacit_epilogue *e = p->e;
    size_t left = VF_LEFT(p->n, column);
    vf y = sum_value(p, sum, row, column);
    if (e) {
        if (e->bias)
            y = vf_add(y, load_some(e->bias + column, left));
        if (e->gelu)
            y = vf_gelu_short(y);
        if (e->scale)
            y = vf_mul(y, load_some(e->scale + column, left));
        if (e->residual)
            y = vf_add(y, load_some(e->residual + row * e->ldr + column, left));
        if (e->relu)
            y = vf_relu(y);
    }
    if (left == VF)
        vf_store(c + column, y);
    else
        vf_store_n(c + column, y, left);
}

/* Asks for what a tile ends with, at its beginning. */
TACIT_INLINE void ask(const product *p, size_t rows, size_t panels, size_t row, size_t column,
                      const float *c)
{
    const float *residual = p->e && p->e->residual ? p->e->residual : NULL;
    for (size_t i = row; i < row + rows; i++)
        for (size_t j = column; j < column + panels * VF && j < p->n; j += LINE) {
            __builtin_prefetch(c + i * p->ldc + j, 1);
            if (residual)
                __builtin_prefetch(residual + i * p->e->ldr + j);
        }
}

/* rows and panels are constants at every call. */
TACIT_INLINE void dot_tile(const product *p, size_t rows, size_t panels, size_t row, size_t column,
                           const uint8_t *a, const uint8_t *b, float *c)
{
    vsum sum[ROWS][PANELS];
    const size_t stride = p->groups * 4 * VF;
    _Pragma("GCC unroll 16") for (size_t i = 0; i < rows; i++)
    {
        _Pragma("GCC unroll 2") for (size_t j = 0; j < panels; j++)
        {
            sum[i][j] = sum_zero();
        }
    }
    for (const uint8_t *end = a + 4 * p->groups; a != end; a += 4, b += 4 * VF) {
        vgroup w[PANELS];
        _Pragma("GCC unroll 2") for (size_t j = 0; j < panels; j++)
        {
            w[j] = group_of_panel(b + j * stride);
        }
        _Pragma("GCC unroll 16") for (size_t i = 0; i < rows; i++)
        {
            vgroup group = group_of_row(a + i * p->lda);
            _Pragma("GCC unroll 2") for (size_t j = 0; j < panels; j++)
            {
                sum[i][j] = sum_dot(sum[i][j], group, w[j]);
            }
        }
    }
    _Pragma("GCC unroll 16") for (size_t i = 0; i < rows; i++)
    {
        _Pragma("GCC unroll 2") for (size_t j = 0; j < panels; j++)
        {
            finish_sum(p, sum[i][j], row + i, column + j * VF, c + i * p->ldc);
        }
    }
}

/* All rows by `panels` panels. Not inlined: one copy of each tile. */
#define TILE(r)                                                                                    \
    case r:                                                                                        \
        dot_tile(p, r, panels, row, column, at, b, c + row * p->ldc);                              \
        break;
#define COLUMN_OF_TILES(name, count)                                                               \
    static __attribute__((noinline)) void name(const product *p, size_t m, size_t column,          \
                                               const uint8_t *a, const uint8_t *b, float *c)       \
    {                                                                                              \
        const size_t panels = count;                                                               \
        size_t tiles = (m + ROWS - 1) / ROWS;                                                      \
        for (size_t row = 0, rows; row < m; row += rows, tiles--) {                                \
            const uint8_t *at = a + row * p->lda;                                                  \
            rows = (m - row + tiles - 1) / tiles;                                                  \
            ask(p, rows, panels, row, column, c);                                                  \
            switch (rows) {                                                                        \
                TILE(1)                                                                            \
                TILE(2)                                                                            \
                TILE(3)                                                                            \
                TILE(4)                                                                            \
                TILES_TO_6                                                                         \
                TILES_TO_12                                                                        \
                TILES_TO_14                                                                        \
            }                                                                                      \
        }                                                                                          \
    }
#define TILES_TO_6
#define TILES_TO_12
#define TILES_TO_14
#if ROWS >= 6
#undef TILES_TO_6
#define TILES_TO_6 TILE(5) TILE(6)
#endif
#if ROWS >= 12
#undef TILES_TO_12
#define TILES_TO_12 TILE(7) TILE(8) TILE(9) TILE(10) TILE(11) TILE(12)
#endif
#if ROWS >= 14
#undef TILES_TO_14
#define TILES_TO_14 TILE(13) TILE(14)
#endif

COLUMN_OF_TILES(one_panel, 1)
#if PANELS > 1
COLUMN_OF_TILES(two_panels, 2)
#endif

/* c (m, n) = epilogue(sum_value(a times packed)). */
TACIT_INLINE void dot_gemm(const product *p, size_t m, const uint8_t *a, const uint8_t *packed,
                           float *c)
{
    const size_t panel = p->groups * 4 * VF;
    for (size_t j = 0; j < p->n;) {
        const uint8_t *b = packed + j / VF * panel;
#if PANELS > 1
        if (p->n - j > VF) {
            two_panels(p, m, j, a, b, c);
            j += 2 * VF;
            continue;
        }
#endif
        one_panel(p, m, j, a, b, c);
        j += VF;
    }
}

#endif
