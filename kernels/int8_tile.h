/* int8_tile.h - the product behind int8.c and int8_dot.c, over the vocabulary: TACIT_DOT says
 * which. */
#ifndef TACIT_INT8_TILE_H
#define TACIT_INT8_TILE_H

#include "simd_int8.h"

/* Rows of a tile, and panels that lie side by side in it: what the registers hold. avx512: 14 x 2
 * sums, 2 panels, 1 row; in pairs of 16 bits 12 x 2, 4 and 2. avx2: 4 sums of 2 registers, 4, 2.
 * neon: 6 sums of 4, 4 and 1; in pairs 4 of 4, as they need some more. */
#if TACIT_ISA_NUMBER == TACIT_ISA_IS_avx512 && TACIT_DOT
#define ROWS   14
#define PANELS 2
#elif TACIT_ISA_NUMBER == TACIT_ISA_IS_avx512
#define ROWS   12
#define PANELS 2
#elif TACIT_ISA_NUMBER == TACIT_ISA_IS_neon && TACIT_DOT
#define ROWS   6
#define PANELS 1
#else
#define ROWS   4
#define PANELS 1
#endif

TACIT_INLINE vf load_some(const float *p, size_t left)
{
    return left == VF ? vf_load(p) : vf_load_n(p, left);
}

typedef struct product {
    size_t n, groups, lda, ldc;
    const float *scale;
    const int32_t *minus;
    const tacit_epilogue *e;
} product;

/* Lanes [0, left) of one sum, at output (0, column) of the tile. */
TACIT_INLINE void finish_sum(const product *p, vi sum, float a_scale, size_t row, size_t column,
                             float *c)
{
    const tacit_epilogue *e = p->e;
    size_t left = VF_LEFT(p->n, column);
    vf y = vf_mul(vi_float(sum, p->minus + column),
                  vf_mul(vf_set1(a_scale), vf_load(p->scale + column)));
    if (e) {
        if (e->bias)
            y = vf_add(y, load_some(e->bias + column, left));
        if (e->gelu)
            y = vf_gelu(y);
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

/* rows and panels are constants at every call. */
TACIT_INLINE void tile_fixed8(const product *p, size_t rows, size_t panels, size_t row,
                              size_t column, const uint8_t *a, const float *a_scale,
                              const int8_t *b, float *c)
{
    vi sum[ROWS][PANELS];
    const size_t stride = p->groups * 4 * TACIT_INT8_NR;
    _Pragma("GCC unroll 16") for (size_t i = 0; i < rows; i++)
    {
        _Pragma("GCC unroll 2") for (size_t j = 0; j < panels; j++)
        {
            sum[i][j] = vi_zero();
        }
    }
    for (const uint8_t *end = a + 4 * p->groups; a != end; a += 4, b += 4 * TACIT_INT8_NR) {
        vq w[PANELS];
        _Pragma("GCC unroll 2") for (size_t j = 0; j < panels; j++)
        {
            w[j] = vq_panel(b + j * stride);
        }
        _Pragma("GCC unroll 16") for (size_t i = 0; i < rows; i++)
        {
            vq group = vq_row(a + i * p->lda);
            _Pragma("GCC unroll 2") for (size_t j = 0; j < panels; j++)
            {
                sum[i][j] = vi_dot(sum[i][j], group, w[j]);
            }
        }
    }
    _Pragma("GCC unroll 16") for (size_t i = 0; i < rows; i++)
    {
        _Pragma("GCC unroll 2") for (size_t j = 0; j < panels; j++)
        {
            finish_sum(p, sum[i][j], a_scale[i], row + i, column + j * VF, c + i * p->ldc);
        }
    }
}

/* All rows by `panels` panels. Not inlined: one copy of each tile. */
#define TILE(r)                                                                                    \
    case r:                                                                                        \
        tile_fixed8(p, r, panels, row, column, at, a_scale + row, b, c + row * p->ldc);            \
        break;
#define COLUMN_OF_TILES(name, count)                                                               \
    static __attribute__((noinline)) void name(const product *p, size_t m, size_t column,          \
                                               const uint8_t *a, const float *a_scale,             \
                                               const int8_t *b, float *c)                          \
    {                                                                                              \
        const size_t panels = count;                                                               \
        size_t tiles = (m + ROWS - 1) / ROWS;                                                      \
        for (size_t row = 0, rows; row < m; row += rows, tiles--) {                                \
            const uint8_t *at = a + row * p->lda;                                                  \
            rows = (m - row + tiles - 1) / tiles;                                                  \
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

TACIT_INLINE void gemm_u8s8(size_t m, size_t n, size_t k, const uint8_t *a, size_t lda,
                            const float *a_scale, const int8_t *packed, const float *scale,
                            const int32_t *minus, float *c, size_t ldc,
                            const tacit_epilogue *epilogue)
{
    const product p = { n, TACIT_INT8_GROUPS(k), lda, ldc, scale, minus, epilogue };
    const size_t panel = p.groups * 4 * TACIT_INT8_NR;
    for (size_t j = 0; j < n;) {
        const int8_t *b = packed + j / TACIT_INT8_NR * panel;
#if PANELS > 1
        if (n - j > TACIT_INT8_NR) {
            two_panels(&p, m, j, a, a_scale, b, c);
            j += 2 * TACIT_INT8_NR;
            continue;
        }
#endif
        one_panel(&p, m, j, a, a_scale, b, c);
        j += TACIT_INT8_NR;
    }
}

#endif
