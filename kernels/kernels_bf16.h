/* kernels_bf16.h - products of bfloat16 with sums in float. Part of kernels.h.
 *
 * As AVX-512's vdpbf16ps defines them: two terms at a time, the second of the pair first,
 *   sum = flush(fma(a[2 p + 1], w[2 p + 1], sum)), sum = flush(fma(a[2 p], w[2 p], sum)),
 * where flush makes zeros of what is smaller than a normal number, of a and w, too. That is done as
 * well where the CPU has no such instruction: the same bits, but slower than floats.
 */
#ifndef TACIT_KERNELS_H
#error "include kernels.h"
#endif

/* Panels of packed weights have so many rows of w. */
#define TACIT_BF16_NR 16

/* Values of a row in memory: whole pairs. */
#define TACIT_BF16_PAIRS(k) (((k) + 1) / 2)

/* c (m, n) = epilogue(a (m, k) times weights by tacit_gemm_pack_bf16), one chain for each output.
 * Rows of a are lda values apart and have whole pairs, with 0 behind k. epilogue may be NULL.
 * Bound: 2 m n k FLOP, 32 multiply-adds an instruction. */
typedef void tacit_gemm_bf16_fn(size_t m, size_t n, size_t k, const uint16_t *a, size_t lda,
                                const uint16_t *packed, float *c, size_t ldc,
                                const tacit_epilogue *epilogue);

/* attention_f32 with both of its products in bfloat16: q, k and v are rounded, and so are the
 * exponentials, whose sum is that of before. */
typedef void tacit_attention_bf16_fn(size_t rows, size_t tokens, size_t dim, const float *q,
                                     const float *k, const float *v, size_t ld, float scale,
                                     const float *bias, size_t ldb, float *out, size_t ldo,
                                     float *scratch);
