/* gemm_tn.c - a transposed times b.
 *
 * A step of k broadcasts MR neighbours of a row of a, and loads NR of a row of b. As they lie, both
 * rows of every step are on other pages, which costs a third of the rate. So a panel of b that many
 * tiles use is copied before that, to the first-level cache, and a that many panels use to the
 * second. What is copied next is asked for meanwhile, a share in each tile.
 */
#include "gemm_tile.h"

#include <string.h>

/* So few uses do not pay for a copy. */
#define FEW_TILES  2
#define FEW_PANELS 4

/* rows is a constant at every call. */
TACIT_INLINE void tn_fixed(size_t rows, size_t k, const float *a, size_t lda, const float *b,
                           size_t ldb, float *c, size_t ldc, bool more)
{
    vf acc[TACIT_MR][TACIT_NV];
    const size_t nv = TACIT_NV;
    TACIT_TILE_EACH(acc[i][j] = vf_zero())
    for (size_t i = 0; more && i < rows; i++)
        __builtin_prefetch(c + i * ldc, 1);
    _Pragma("GCC unroll 4") for (size_t p = 0; p < k; p++, a += lda, b += ldb)
    {
        vf column[TACIT_NV];
        _Pragma("GCC unroll 8") for (size_t j = 0; j < nv; j++)
        {
            column[j] = vf_load(b + j * VF);
        }
        TACIT_TILE_EACH(vf_fma_into(&acc[i][j], vf_set1(a[i]), column[j]))
    }
    if (more)
        TACIT_TILE_EACH(acc[i][j] = vf_add(vf_load(c + i * ldc + j * VF), acc[i][j]))
    TACIT_TILE_EACH(vf_store(c + i * ldc + j * VF, acc[i][j]))
}

static __attribute__((noinline)) void tn_tile(size_t rows, size_t k, const float *a, size_t lda,
                                              const float *b, size_t ldb, float *c, size_t ldc,
                                              bool more)
{
    switch (rows) {
#define ROWS(r)                                                                                    \
    case r: tn_fixed(r, k, a, lda, b, ldb, c, ldc, more); break;
        TACIT_TILE_ROWS
#undef ROWS
    }
}

/* Of the last panel `columns` < NR are valid: by way of a whole tile aside. b is a copy. */
static __attribute__((noinline)) void tn_part(size_t rows, size_t columns, size_t k, const float *a,
                                              size_t lda, const float *b, float *c, size_t ldc,
                                              bool more)
{
    float aside[TACIT_MR * TACIT_NR];
    tn_tile(rows, k, a, lda, b, TACIT_NR, aside, TACIT_NR, false);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j += VF) {
            size_t left = VF_LEFT(columns, j);
            float *to = c + i * ldc + j;
            vf y = vf_load(aside + i * TACIT_NR + j);
            vf_store_n(to, more ? vf_add(load_left(to, left), y) : y, left);
        }
}

/* k rows of x, of which n >= 1 values are valid, to rows of `width`, zeros behind n. Writes up to a
 * vector less one behind the last row. */
TACIT_INLINE void copy_rows(size_t width, size_t n, size_t k, const float *x, size_t ldx, float *to)
{
    for (size_t p = 0; p < k; p++, x += ldx, to += width)
        for (size_t j = 0; j < width; j += VF)
            vf_store(to + j, n >= j + VF ? vf_load(x + j)
                             : n > j     ? vf_load_n(x + j, n - j)
                                         : vf_zero());
}

/* A panel of c: k rows of a, or where tiles is not NULL the copies of a's tiles, by those of b. */
static void tn_panel(size_t m, size_t columns, size_t k, const float *a, size_t lda,
                     const float *tiles, const float *b, size_t ldb, float *c, size_t ldc,
                     bool more, const tacit_coming *next_a, const tacit_coming *next_b)
{
    size_t count = (m + TACIT_MR - 1) / TACIT_MR, rows, step = tiles ? TACIT_MR : lda;
    for (size_t i = 0, t = 0; i < m; i += rows, t++) {
        const float *at = tiles ? tiles : a + i;
        ask_next(next_a, t, count);
        ask_next(next_b, t, count);
        rows = even_rows(m - i, count - t);
        if (columns == TACIT_NR)
            tn_tile(rows, k, at, step, b, ldb, c + i * ldc, ldc, more);
        else
            tn_part(rows, columns, k, at, step, b, c + i * ldc, ldc, more);
        if (tiles)
            tiles += k * TACIT_MR;
    }
}

static void copy_tiles(size_t m, size_t k, const float *a, size_t lda, float *tiles)
{
    size_t count = (m + TACIT_MR - 1) / TACIT_MR;
    for (size_t i = 0; count; count--, tiles += k * TACIT_MR) {
        if (m - i < TACIT_MR)
            copy_rows(TACIT_MR, m - i, k, a + i, lda, tiles);
        else
            for (size_t p = 0; p < k; p++)
                memcpy(tiles + p * TACIT_MR, a + p * lda + i, TACIT_MR * sizeof *a);
        i += even_rows(m - i, count);
    }
}

void TACIT_NAME(tacit_gemm_tn_f32)(size_t m, size_t n, size_t k, const float *a, size_t lda,
                                   const float *b, size_t ldb, float *c, size_t ldc, bool more,
                                   float *scratch)
{
    float panel[TACIT_KC * TACIT_NR], *tiles = n > FEW_PANELS * TACIT_NR ? scratch : NULL;
    size_t p = 0, kc;
    if (!k && more)
        return;
    do { /* k = 0 still has one (empty) block, which stores zeros */
        kc = k - p < TACIT_KC ? k - p : TACIT_KC;
        const float *rows = a + p * lda;
        if (tiles)
            copy_tiles(m, kc, rows, lda, tiles);
        size_t panels = (n + TACIT_NR - 1) / TACIT_NR, left = k - p - kc;
        left = left < TACIT_KC ? left : TACIT_KC; /* rows of the next block */
        for (size_t j = 0, t = 0; j < n; j += TACIT_NR, t++) {
            size_t columns = n - j < TACIT_NR ? n - j : TACIT_NR, from = left * t / panels;
            const float *at = b + p * ldb + j;
            bool copied = m > FEW_TILES * TACIT_MR || columns < TACIT_NR;
            if (copied)
                copy_rows(TACIT_NR, columns, kc, at, ldb, panel);
            tacit_coming next_a = { tiles && left ? rows + (kc + from) * lda : NULL,
                                    left * (t + 1) / panels - from, m, lda };
            tacit_coming next_b = { NULL, kc, TACIT_NR, ldb };
            if (copied && j + TACIT_NR < n)
                next_b.x = at + TACIT_NR;
            else if (copied && left)
                next_b = (tacit_coming){ b + (p + kc) * ldb, left, TACIT_NR, ldb };
            tn_panel(m, columns, kc, rows, lda, tiles, copied ? panel : at, copied ? TACIT_NR : ldb,
                     c + j, ldc, more, &next_a, &next_b);
        }
        more = true;
        p += kc;
    } while (p < k);
}
