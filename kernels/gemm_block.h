/* gemm_block.h - a product over one block of k, tile by tile: what gemm.c and conv.c share. */
#ifndef TACIT_GEMM_BLOCK_H
#define TACIT_GEMM_BLOCK_H

#include "gemm_tile.h"

/* Up to so many rows, four panels are read side by side. */
#define FEW_ROWS 3

/* The epilogue of a block, its pointers moved to the block's first output. */
static tacit_epilogue moved(const tacit_epilogue *e, size_t row, size_t column)
{
    tacit_epilogue at = *e;
    if (at.bias)
        at.bias += column;
    if (at.scale)
        at.scale += column;
    if (at.residual)
        at.residual += row * at.ldr + column;
    return at;
}

/* gelu, and the steps after it, on a block that was just stored and is still in the first-level
 * cache. */
static void finish_gelu(size_t rows, size_t columns, float *c, size_t ldc, const tacit_epilogue *e)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j += VF) {
            size_t left = VF_LEFT(columns, j);
            float *at = c + i * ldc + j;
            vf y = vf_gelu(load_left(at, left));
            if (e->scale)
                y = vf_mul(y, load_left(e->scale + j, left));
            if (e->residual)
                y = vf_add(y, load_left(e->residual + i * e->ldr + j, left));
            if (e->relu)
                y = vf_relu(y);
            if (left == VF)
                vf_store(at, y);
            else
                vf_store_n(at, y, left);
        }
}

/* 1 to FEW_ROWS rows and 4 panels: the weights are read once and nothing is reused, so what counts
 * is to keep several streams and chains going. */
static void wide_tile(size_t rows, size_t k, const float *a, size_t lda, const float *b,
                      size_t stride, float *c, size_t ldc, bool more, const tacit_epilogue *e)
{
    switch (rows) {
    case 1: tile_fixed(1, 4 * TACIT_NV, k, a, lda, b, stride, NULL, 0, c, ldc, more, e); break;
    case 2: tile_fixed(2, 4 * TACIT_NV, k, a, lda, b, stride, NULL, 0, c, ldc, more, e); break;
    case 3: tile_fixed(3, 4 * TACIT_NV, k, a, lda, b, stride, NULL, 0, c, ldc, more, e); break;
    }
}

/* Asks for what a tile ends with, at its beginning. */
TACIT_INLINE void ask(size_t rows, size_t columns, const float *c, size_t ldc,
                      const tacit_epilogue *e)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j += LINE) {
            __builtin_prefetch(c + i * ldc + j, 1);
            if (e && e->residual)
                __builtin_prefetch(e->residual + i * e->ldr + j);
        }
}

/* c (m, n) = or += a (m, kc) times rows [p, p + kc) of the packed (n, k). */
TACIT_INLINE void gemm_block(size_t m, size_t n, size_t k, size_t p, size_t kc, const float *a,
                             size_t lda, const float *packed, float *c, size_t ldc,
                             const tacit_epilogue *epilogue)
{
    bool last = p + kc == k;
    size_t panels = (n + TACIT_NR - 1) / TACIT_NR;
    for (size_t j = 0, columns; j < n; j += columns) {
        const float *b = packed + j * k + p * TACIT_NR;
        bool wide = m <= FEW_ROWS && n - j >= 4 * TACIT_NR;
        columns = wide ? 4 * TACIT_NR : n - j < TACIT_NR ? n - j : TACIT_NR;
        /* The panel that follows: of this block of k, else the first of the next. */
        const float *next = j + columns < n ? packed + (j + columns) * k + p * TACIT_NR
                            : !last         ? packed + (p + kc) * TACIT_NR
                                            : NULL;
        size_t tiles = (m + TACIT_MR - 1) / TACIT_MR, rows;
        size_t lines = tiles ? (4 * TACIT_NR / LINE + tiles - 1) / tiles : 0;
        size_t asking = lines ? (4 * TACIT_NR / LINE + lines - 1) / lines : 0; /* the last tiles */
        for (size_t i = 0, t = 0; i < m; i += rows, t++) {
            rows = even_rows(m - i, tiles - t);
            bool asks = next && tiles - t <= asking;
            const float *ahead =
                asks ? next + (t + asking - tiles) * (kc / 4) * lines * LINE : NULL;
            float *at = c + i * ldc + j;
            tacit_epilogue here, *e = NULL;
            if (last && epilogue) {
                here = moved(epilogue, i, j);
                e = &here;
            }
            if (m > FEW_ROWS)
                ask(rows, columns, at, ldc, e);
            if (epilogue && !p)
                ask_next(&epilogue->next, j / TACIT_NR * tiles + t, panels * tiles);
            if (wide)
                wide_tile(rows, kc, a + i * lda, lda, b, k * TACIT_NR, at, ldc, p > 0, e);
            else
                tile(rows, columns, kc, a + i * lda, lda, b, ahead, asks ? lines : 0, at, ldc,
                     p > 0, e);
            if (e && e->gelu)
                finish_gelu(rows, columns, at, ldc, e);
        }
    }
}

#endif
