/* gemm.c - packed fp32 matrix product with a fused epilogue, after BLIS (Van Zee and van de Geijn,
 * "BLIS: A Framework for Rapidly Instantiating BLAS Functionality", 2015).
 *
 * k is cut into blocks of TACIT_KC: a tile's rows of `a` then stay in the first-level cache and the
 * panels in the second, the rounding error grows like that of 384 terms, and the partial sums wait
 * in c. Callers cut m and n so that c and a's block stay in the second-level cache too.
 */
#include "gemm_block.h"

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
            if (p % LINE == 0)
                for (size_t r = 0; r < left; r++)
                    __builtin_prefetch(w + r * ldw + p + 2 * LINE);
            for (size_t q = left / VF * VF; q < TACIT_NR; q += VF)
                for (size_t r = 0; r < step; r++)
                    vf_store(packed + r * TACIT_NR + q, vf_zero());
            for (; step == 4 && i + 4 <= left; i += 4)
                transpose_quad(w + i * ldw + p, ldw, packed + i);
            for (; i < left; i++)
                for (size_t q = 0; q < step; q++)
                    packed[q * TACIT_NR + i] = w[i * ldw + p + q];
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

void TACIT_NAME(tacit_gemm_f32)(size_t m, size_t n, size_t k, const float *a, size_t lda,
                                const float *packed, float *c, size_t ldc,
                                const tacit_epilogue *epilogue)
{
    size_t p = 0, kc;
    do { /* k = 0 still has one (empty) block, which stores zeros */
        kc = k - p < TACIT_KC ? k - p : TACIT_KC;
        gemm_block(m, n, k, p, kc, a + p, lda, packed, c, ldc, epilogue);
        p += kc;
    } while (p < k);
}
