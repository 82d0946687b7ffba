/* kernels_int8.h - products in whole numbers of 8 bits. Part of kernels.h.
 *
 * A row of activations is bytes a with one scale, in either of two ways, told by the byte that
 * stands for 0, `zero`: TACIT_INT8_MIDDLE, values of any sign, a = 128 + round(x 127 / most), scale
 * most / 127; or 0, no value below 0, as behind a ReLU, a = round(x 255 / most), scale most / 255.
 * A row of weights is signed bytes w = round(x 127 / most): u8 times s8 is what VNNI multiplies.
 * Sums are exact, so the same on every CPU, and sum(zero w) is taken off. A row has at most
 * TACIT_INT8_MOST values: sums stay within 32 bits.
 */
#ifndef TACIT_KERNELS_H
#error "include kernels.h"
#endif

#define TACIT_INT8_MOST 65536

/* The byte of 0 where values have signs. */
#define TACIT_INT8_MIDDLE 128

/* Values of a row in memory: whole groups of 4, which one instruction multiplies. */
#define TACIT_INT8_GROUPS(k) (((k) + 3) / 4)

/* Panels of packed weights have so many rows of w. */
#define TACIT_INT8_NR 16

/* Each row of x (rows, n), ldx apart: most = max |x|, scale = most / steps and
 * q = zero + round(x (steps / most)), steps being 127, or 255 where zero is 0: there q is 0 for an
 * x below 0. Where most is not above 1e-30, or a value is not finite, the scale is 0 and q is
 * `zero`, as it is behind the row up to a whole group. Bound: 5 n bytes. */
typedef void tacit_quantise_u8_fn(size_t rows, size_t n, const float *x, size_t ldx, uint8_t zero,
                                  uint8_t *q, size_t ldq, float *scale);

/* c (m, n) = epilogue(float(sum of (a[p] - zero) w[p]) * (a_scale * scale)) for bytes a (m, k),
 * rows lda apart, and weights by tacit_gemm_pack_s8; the product with the scales and the bias that
 * is added to it are one fma. a has whole groups; what is behind k does not matter. epilogue may be
 * NULL. Bound: 2 m n k operations. */
typedef void tacit_gemm_u8s8_fn(size_t m, size_t n, size_t k, const uint8_t *a, size_t lda,
                                const float *a_scale, uint8_t zero, const int8_t *packed,
                                const float *scale, const int32_t *minus, float *c, size_t ldc,
                                const tacit_epilogue *epilogue);

/* The windows of outputs [first, first + m) of a map of bytes, `zero` for the padding and up to a
 * whole group, to rows ldt apart. conv->ldx counts bytes. Moves 2 m k bytes. */
typedef void tacit_conv_windows_u8_fn(const tacit_conv *conv, size_t first, size_t m, uint8_t zero,
                                      const uint8_t *x, uint8_t *to, size_t ldt);

/* attention_f32 with both of its products in 8 bits. Rows of q and of k by quantise_u8 around the
 * middle: score = float(sum of (q[p] - 128) (k[p] - 128)) * (q_scale * k_scale). Columns of v
 * likewise, each over all tokens, w with scale s. The exponentials e are whole numbers of 14 bits,
 * round(min(16383, max(16383 e, 0))) = 128 h + l:
 * out = (float(sum_t h w) * (128 s) + float(sum_t l w) * s) * ((1 / sum_t e) * (1 / 16383)),
 * and of 8 bits, b = round(min(255, max(255 e, 0))), where tokens (1 / sum_t e) <= 32:
 * out = (float(sum_t b w) * (16383 / 255 s)) * ((1 / sum_t e) * (1 / 16383)).
 * tokens and dim are at most TACIT_INT8_MOST. */
typedef void tacit_attention_u8s8_fn(size_t rows, size_t tokens, size_t dim, const float *q,
                                     const float *k, const float *v, size_t ld, float scale,
                                     const float *bias, size_t ldb, float *out, size_t ldo,
                                     float *scratch);
