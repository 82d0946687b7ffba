/* kernels_int8.h - products in whole numbers of 8 bits. Part of kernels.h.
 *
 * A row of activations is bytes a = 128 + round(x 127 / most) with one scale most / 127, a row of
 * weights signed bytes w in the same way, without the 128: u8 times s8 is what VNNI multiplies.
 * Sums are exact, so the same on every CPU, and sum(128 w) is taken off at the end. A row has at
 * most TACIT_INT8_MOST values: sums stay within 32 bits.
 */
#ifndef TACIT_KERNELS_H
#error "include kernels.h"
#endif

#define TACIT_INT8_MOST 65536

/* Values of a row in memory: whole groups of 4, which one instruction multiplies. */
#define TACIT_INT8_GROUPS(k) (((k) + 3) / 4)

/* Panels of packed weights have so many rows of w. */
#define TACIT_INT8_NR 16

/* Each row of x (rows, n), ldx apart: most = max |x|, scale = most / 127 and
 * q = 128 + round(min(127, max(x (127 / most), -127))); both factors are 0 where most is not above
 * 1e-30 or not finite. Behind the row q is 128 up to a whole group. Bound: 5 n bytes. */
typedef void tacit_quantise_u8_fn(size_t rows, size_t n, const float *x, size_t ldx, uint8_t *q,
                                  size_t ldq, float *scale);

/* c (m, n) = epilogue(float(sum of (a[p] - 128) w[p]) * (a_scale * scale)) for bytes a (m, k), rows
 * lda apart, and weights by tacit_gemm_pack_s8. a has whole groups; what is behind k does not
 * matter. epilogue may be NULL. Bound: 2 m n k operations. */
typedef void tacit_gemm_u8s8_fn(size_t m, size_t n, size_t k, const uint8_t *a, size_t lda,
                                const float *a_scale, const int8_t *packed, const float *scale,
                                const int32_t *minus, float *c, size_t ldc,
                                const tacit_epilogue *epilogue);

/* attention_f32 with both of its products in 8 bits. Rows of q and of k by quantise_u8:
 * score = float(sum of (q[p] - 128) (k[p] - 128)) * (q_scale * k_scale). Columns of v likewise,
 * each over all tokens, w with scale s. The exponentials e are whole numbers of 14 bits,
 * round(min(16383, max(16383 e, 0))) = 128 h + l:
 * out = (float(sum_t h w) * (128 s) + float(sum_t l w) * s) * ((1 / sum_t e) * (1 / 16383)).
 * tokens and dim are at most TACIT_INT8_MOST. */
typedef void tacit_attention_u8s8_fn(size_t rows, size_t tokens, size_t dim, const float *q,
                                     const float *k, const float *v, size_t ld, float scale,
                                     const float *bias, size_t ldb, float *out, size_t ldo,
                                     float *scratch);
