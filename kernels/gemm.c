/* gemm.c - packed fp32 matrix product with a fused epilogue, after BLIS (Van Zee and van de Geijn,
 * "BLIS: A Framework for Rapidly Instantiating BLAS Functionality", 2015).
 *
 * k is cut into blocks of TACIT_KC: a tile's rows of `a` then stay in the first-level cache and the
 * panels in the second, the rounding error grows like that of 384 terms, and the partial sums wait
 * in c. Callers cut m and n so that c and a's block stay in the second-level cache too.
 */
#include "gemm_tile.h"

/* Up to so many rows, four panels are read side by side. */
#define FEW_ROWS 3

typedef float quad __attribute__((vector_size(16), aligned(4), may_alias));

/* 4 x 4 values, rows ldw apart, transposed to rows NR apart. */
TACIT_INLINE void transpose_quad(const float *w, size_t ldw, float *packed)
{
    quad a = *(const quad *)w, b = *(const quad *)(w + ldw);
    quad c = *(const quad *)(w + 2 * ldw), d = *(const quad *)(w + 3 * ldw);
    quad ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    quad cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    *(quad *)packed = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    *(quad *)(packed + TACIT_NR) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    ab = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    cd = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(quad *)(packed + 2 * TACIT_NR) = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    *(quad *)(packed + 3 * TACIT_NR) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

void TACIT_NAME(tacit_gemm_pack_f32)(size_t n, size_t k, const float *w, size_t ldw, float *packed)
{
    for (size_t j = 0; j < n; j += TACIT_NR, w += TACIT_NR * ldw) {
        size_t left = n - j < TACIT_NR ? n - j : TACIT_NR, step;
        for (size_t p = 0; p < k; p += step, packed += step * TACIT_NR) {
            size_t i = 0;
            step = k - p < 4 ? 1 : 4;
            for (; step == 4 && i + 4 <= left; i += 4)
                transpose_quad(w + i * ldw + p, ldw, packed + i);
            for (; i < TACIT_NR; i++)
                for (size_t q = 0; q < step; q++)
                    packed[q * TACIT_NR + i] = i < left ? w[i * ldw + p + q] : 0;
        }
    }
}

void TACIT_NAME(tacit_gemm_pack_t_f32)(size_t n, size_t k, const float *w, size_t ldw,
                                       float *packed)
{
    for (size_t j = 0; j < n; j += TACIT_NR)
        for (size_t p = 0; p < k; p++, packed += TACIT_NR)
            for (size_t i = 0; i < TACIT_NR; i += VF) {
                size_t from = j + i, left = from < n ? VF_LEFT(n, from) : 0;
                vf x = left == VF ? vf_load(w + p * ldw + from)
                       : left     ? vf_load_n(w + p * ldw + from, left)
                                  : vf_zero();
                vf_store(packed + i, x);
            }
}

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
                y = vf_max(y, vf_zero());
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
    case 1: tile_fixed(1, 4, k, a, lda, b, stride, NULL, c, ldc, more, e); break;
    case 2: tile_fixed(2, 4, k, a, lda, b, stride, NULL, c, ldc, more, e); break;
    case 3: tile_fixed(3, 4, k, a, lda, b, stride, NULL, c, ldc, more, e); break;
    }
}

void TACIT_NAME(tacit_gemm_f32)(size_t m, size_t n, size_t k, const float *a, size_t lda,
                                const float *packed, float *c, size_t ldc,
                                const tacit_epilogue *epilogue)
{
    size_t p = 0;
    do { /* k = 0 still has one (empty) block, which stores zeros */
        size_t kc = k - p < TACIT_KC ? k - p : TACIT_KC, columns;
        bool last = p + kc == k;
        for (size_t j = 0; j < n; j += columns) {
            const float *b = packed + j * k + p * TACIT_NR;
            bool wide = m <= FEW_ROWS && n - j >= 4 * TACIT_NR;
            columns = wide ? 4 * TACIT_NR : n - j < TACIT_NR ? n - j : TACIT_NR;
            /* The panel that follows: of this block of k, else the first of the next. */
            const float *next = j + columns < n ? packed + (j + columns) * k + p * TACIT_NR
                                : !last         ? packed + (p + kc) * TACIT_NR
                                                : NULL;
            size_t tiles = (m + TACIT_MR - 1) / TACIT_MR, rows;
            for (size_t i = 0, t = 0; i < m; i += rows, t++) {
                rows = even_rows(m - i, tiles - t);
                const float *ahead = next ? next + t * (kc / 4) * VF : NULL;
                float *at = c + i * ldc + j;
                tacit_epilogue here, *e = NULL;
                if (last && epilogue) {
                    here = moved(epilogue, i, j);
                    e = &here;
                }
                if (wide)
                    wide_tile(rows, kc, a + i * lda + p, lda, b, k * TACIT_NR, at, ldc, p > 0, e);
                else
                    tile(rows, columns, kc, a + i * lda + p, lda, b, ahead, at, ldc, p > 0, e);
                if (e && e->gelu)
                    finish_gelu(rows, columns, at, ldc, e);
            }
        }
        p += kc;
    } while (p < k);
}
