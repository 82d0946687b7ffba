/* gemm.c - packed fp32 matrix product with a fused epilogue, after BLIS (Van Zee and van de Geijn,
 * "BLIS: A Framework for Rapidly Instantiating BLAS Functionality", 2015).
 *
 * k is cut into blocks of TACIT_KC: a tile's rows of `a` then stay in the first-level cache and the
 * panels in the second, the rounding error grows like that of 256 terms, and the partial sums wait
 * in c. Callers cut m and n so that c and a's block stay in the second-level cache too.
 */
#include "gemm_tile.h"

/* Rows below which a second panel is read beside the first, to have enough chains in flight. */
#define FEW_ROWS 3

void TACIT_NAME(tacit_gemm_pack_f32)(size_t n, size_t k, const float *w, size_t ldw, float *packed)
{
    for (size_t j = 0; j < n; j += TACIT_NR) {
        size_t left = n - j < TACIT_NR ? n - j : TACIT_NR;
        for (size_t p = 0; p < k; p++, packed += TACIT_NR) {
            size_t i = 0;
            for (; i < left; i++)
                packed[i] = w[(j + i) * ldw + p];
            for (; i < TACIT_NR; i++)
                packed[i] = 0;
        }
    }
}

/* The epilogue on a block that was just stored and is still in the first-level cache. */
static void finish(size_t m, size_t n, float *c, size_t ldc, size_t column, const tacit_epilogue *e,
                   size_t row)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j += VF) {
            size_t left = VF_LEFT(n, j);
            float *at = c + i * ldc + j;
            vf y = left == VF ? vf_load(at) : vf_load_n(at, left);
#define OPERAND(p) (left == VF ? vf_load(p) : vf_load_n(p, left))
            if (e->bias)
                y = vf_add(y, OPERAND(e->bias + column + j));
            if (e->gelu)
                y = vf_gelu(y);
            if (e->scale)
                y = vf_mul(y, OPERAND(e->scale + column + j));
            if (e->residual)
                y = vf_add(y, OPERAND(e->residual + (row + i) * e->ldr + column + j));
#undef OPERAND
            if (left == VF)
                vf_store(at, y);
            else
                vf_store_n(at, y, left);
        }
}

/* 1 to FEW_ROWS rows: the weights are read once and nothing is reused, so what counts is to keep
 * several streams going. */
static void few_rows(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *packed,
                     float *c, size_t ldc, const tacit_epilogue *e)
{
    size_t stride = TACIT_NR * k;
    for (size_t j = 0; j < n;) {
        size_t left = n - j, panels = left >= 4 * TACIT_NR ? 4 : 1;
        const float *b = packed + j / TACIT_NR * stride;
        if (left > panels * TACIT_NR)
            left = panels * TACIT_NR;
        size_t p = 0;
        do {
            size_t kc = k - p < TACIT_KC ? k - p : TACIT_KC;
            if (panels == 1)
                tile(m, kc, a + p, lda, b, c + j, ldc, left, p > 0);
            else if (m == 1)
                tile_fixed(1, 4, kc, a + p, lda, b, stride, c + j, ldc, left, p > 0);
            else if (m == 2)
                tile_fixed(2, 4, kc, a + p, lda, b, stride, c + j, ldc, left, p > 0);
            else
                tile_fixed(3, 4, kc, a + p, lda, b, stride, c + j, ldc, left, p > 0);
            b += kc * TACIT_NR;
            p += kc;
        } while (p < k);
        if (e)
            finish(m, left, c + j, ldc, j, e, 0);
        j += left;
    }
}

void TACIT_NAME(tacit_gemm_f32)(size_t m, size_t n, size_t k, const float *a, size_t lda,
                                const float *packed, float *c, size_t ldc,
                                const tacit_epilogue *epilogue)
{
    if (m && m <= FEW_ROWS) {
        few_rows(m, n, k, a, lda, packed, c, ldc, epilogue);
        return;
    }
    /* k = 0 still has one (empty) block, which stores zeros. */
    size_t p = 0;
    do {
        size_t kc = k - p < TACIT_KC ? k - p : TACIT_KC;
        bool last = p + kc == k;
        for (size_t j = 0; j < n; j += TACIT_NR) {
            const float *b = packed + j * k + p * TACIT_NR;
            size_t left = n - j < TACIT_NR ? n - j : TACIT_NR;
            for (size_t i = 0; i < m; i += TACIT_MR) {
                size_t rows = m - i < TACIT_MR ? m - i : TACIT_MR;
                float *at = c + i * ldc + j;
                tile(rows, kc, a + i * lda + p, lda, b, at, ldc, left, p > 0);
                if (last && epilogue)
                    finish(rows, left, at, ldc, j, epilogue, i);
            }
        }
        p += kc;
    } while (p < k);
}
