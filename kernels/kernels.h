/* kernels.h - pure functions on pointers and sizes, one table of them for each ISA.
 *
 * A kernel does not allocate, start threads, print, or keep state. It works for every size with 0,
 * for any alignment of its pointers, and touches only the elements that it was given. `ref`, plain
 * C, is the definition of each result; the class in kernels.inc says how close the others are:
 * EXACT is the same bits for every input (where a result is NaN, any NaN).
 *
 * The habits behind EXACT: fma where it is written and nowhere else; one chain for every
 * TACIT_KC terms of each output of a matrix product, in k order, their sums added in order; sums in
 * 16 lanes (lane j takes elements j, j + 16, ...) and then one tree (i + 8, i + 4, i + 2, i + 1);
 * exact division and square root; exp as in exp.h, erf as in gelu.h, log from SLEEF's FMA variants;
 * max(a, b) is a > b ? a : b; round to nearest even.
 */
#ifndef TACIT_KERNELS_H
#define TACIT_KERNELS_H

#include "cpu.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Length of one chain of fma. */
#define TACIT_KC 384

/* Linear algebra ------------------------------------------------------------------------------ */

/* Rows that are read next: a product asks the second-level cache for them meanwhile. */
typedef struct tacit_coming {
    const float *x; /* or NULL */
    size_t rows, width, ld;
} tacit_coming;

/* What is done to each output of a product before it is stored, in this order:
 * y = acc; y += bias; y = gelu(y); y *= scale; y += residual; y = max(0, y). NULL and false leave a
 * step out. Products in 8 bits and in bfloat16 have the short gelu of gelu.h, and may have the
 * residual as bytes: y = fma(residual8, residual_scale, y). */
typedef struct tacit_epilogue {
    const float *bias; /* (n) */
    bool gelu;
    const float *scale;    /* (n), the layer scale */
    const float *residual; /* (m, n), rows ldr apart; must not overlap c */
    size_t ldr;
    const uint8_t *residual8;    /* (m, n), rows ldr bytes apart */
    const float *residual_scale; /* (m) */
    bool relu;                   /* a NaN stays one */
    tacit_coming next;
} tacit_epilogue;

/* Weights w (n, k) as Linear holds them, rows ldw apart, to panels of gemm_nr columns: element
 * (j, p) goes to packed[j / nr * nr * k + p * nr + j % nr]; missing columns are zero.
 * Moves 8 n k bytes. */
typedef void tacit_gemm_pack_f32_fn(size_t n, size_t k, const float *w, size_t ldw, float *packed);

/* c (m, n) = epilogue(a (m, k) times packed (n, k) transposed). Chains acc = fma(a[p], w[p], acc)
 * from 0, p ascending, TACIT_KC terms long, added one after the other. epilogue may be NULL.
 * Bound: 2 m n k FLOP; 4 (m k + n k + m n) bytes. */
typedef void tacit_gemm_f32_fn(size_t m, size_t n, size_t k, const float *a, size_t lda,
                               const float *packed, float *c, size_t ldc,
                               const tacit_epilogue *epilogue);

/* c (m, n) = a (k, m) transposed times b (k, n), and with `more` added to what c holds: the
 * gradient of a Linear layer's weights. Rows lda, ldb and ldc apart. Chains as in gemm_f32. Of each
 * TACIT_KC rows a is copied to scratch (tacit_gemm_tn_scratch floats, or NULL: a is used as it
 * lies), which is to stay in the second-level cache, and b a panel at a time: callers cut m and n,
 * and the larger both are the more a copy is used. Bound: 2 m n k FLOP. */
typedef void tacit_gemm_tn_f32_fn(size_t m, size_t n, size_t k, const float *a, size_t lda,
                                  const float *b, size_t ldb, float *c, size_t ldc, bool more,
                                  float *scratch);

/* The sum of x * y in double, where each product is exact: 16 lanes and the tree. */
typedef double tacit_dot_f64_fn(size_t n, const float *x, const float *y);

/* One head of softmax(q k^T * scale + bias) v for `rows` queries over `tokens` keys of `dim` values
 * (Vaswani et al. 2017, eq. 1); q, k, v rows ld apart, out rows ldo apart. bias (rows, tokens),
 * rows ldb apart, is added by fma(score, scale, bias), and may be NULL. Products over
 * tokens as in gemm_f32, over dim in one chain; the rows' softmax is softmax_f32 without its
 * division, which is done to the sum instead: out = (sum_t e_t v_t) * (1 / sum_t e_t). scratch:
 * tacit_attention_scratch floats. tokens > 0. Bound: 4 rows tokens dim FLOP and rows tokens exp;
 * scores stay in the cache. */
typedef void tacit_attention_f32_fn(size_t rows, size_t tokens, size_t dim, const float *q,
                                    const float *k, const float *v, size_t ld, float scale,
                                    const float *bias, size_t ldb, float *out, size_t ldo,
                                    float *scratch);

/* Rows ---------------------------------------------------------------------------------------- */

/* y = (x - mean) * (1 / sqrt(var + eps)) * gamma + beta for each row of n values (Ba et al. 2016,
 * arXiv:1607.06450): fma(d * rstd, gamma, beta); variance of the centred values. y may be x.
 * Bound: 8 rows n bytes. */
typedef void tacit_layernorm_f32_fn(size_t rows, size_t n, const float *x, size_t ldx,
                                    const float *gamma, const float *beta, float eps, float *y,
                                    size_t ldy);

/* y = e / sum(e), e = exp(fma(x, scale, -max(x) * scale)), scale > 0. y may be x. */
typedef void tacit_softmax_f32_fn(size_t rows, size_t n, const float *x, size_t ldx, float scale,
                                  float *y, size_t ldy);

/* The cross entropy of each row of n > 0 logits with its label, and its gradient:
 * y = p - (i == label), p as softmax_f32 with scale 1 has it;
 * loss = log(sum_i exp(x_i - max(x))) - (x_label - max(x)). y may be x. */
typedef void tacit_cross_entropy_f32_fn(size_t rows, size_t n, const float *x, size_t ldx,
                                        const uint32_t *labels, float *y, size_t ldy, float *loss);

/* y = x / max(sqrt(sum(x * x)), 1e-12): torch.nn.functional.normalize. y may be x. */
typedef void tacit_l2norm_f32_fn(size_t rows, size_t n, const float *x, size_t ldx, float *y,
                                 size_t ldy);

/* y (n) = mean over the rows: for each column chains of 16 additions, from 0, which are added one
 * after the other; then a division by rows. */
typedef void tacit_mean_rows_f32_fn(size_t rows, size_t n, const float *x, size_t ldx, float *y);

/* Elements ------------------------------------------------------------------------------------ */

/* y = 0.5 x (1 + erf(x / sqrt 2)), the exact GELU (Hendrycks and Gimpel, arXiv:1606.08415), by
 * gelu.h.
 * y may be x. */
typedef void tacit_gelu_f32_fn(size_t n, const float *x, float *y);

/* z = x / (1 + exp(-beta x)) * y: the swish of x (Ramachandran et al. 2017, arXiv:1710.05941) as a
 * gate of y, or alone where y is NULL. beta 1 is SiLU, 1.702 the quick GELU. The exponent is
 * x * -beta, rounded; no more than 88 is taken of it. */
typedef void tacit_swish_f32_fn(size_t n, float beta, const float *x, const float *y, float *z);

/* z = x + y. */
typedef void tacit_add_f32_fn(size_t n, const float *x, const float *y, float *z);

/* IEEE half and bfloat16, round to nearest even; a NaN stays a NaN. */
typedef void tacit_f16_to_f32_fn(size_t n, const uint16_t *x, float *y);
typedef void tacit_f32_to_f16_fn(size_t n, const float *x, uint16_t *y);
typedef void tacit_bf16_to_f32_fn(size_t n, const uint16_t *x, float *y);
typedef void tacit_f32_to_bf16_fn(size_t n, const float *x, uint16_t *y);

/* Writes to `at` the indices of all x >= threshold, ascending, and returns how many they are; a NaN
 * is not one. at has room for n. Bound: 4 n bytes where they are few. */
typedef size_t tacit_above_f32_fn(size_t n, const float *x, float threshold, uint32_t *at);

/* Images -------------------------------------------------------------------------------------- */

/* image of three planes (height, width), `plane` floats apart, to rows, one for each whole patch in
 * raster order, of 3 * patch * patch values in the order (channel, y, x): the left side of the
 * patch embedding's product. */
typedef void tacit_patchify_f32_fn(size_t height, size_t width, size_t patch, const float *image,
                                   size_t plane, float *rows, size_t ldr);

#define TACIT_HOG_BINS 9

/* Histograms of oriented gradients (Dalal and Triggs 2005) of a plane (height, width), rows ldx
 * apart, as HOGLayerC of facebookresearch/SlowFast has them before it divides by their norms: to y
 * a row of 9 for each whole cell of cell x cell pixels, in raster order, rows ldy apart. cell > 0.
 * Of the 3 x 3 pixels around one, a b c over d e f over g h i, at the border mirrored at the
 * outermost (at a side of 1 the same again), in double, in this order:
 *   gx = a - c + 2 d - 2 f + g - i, gy = a + 2 b + c - g - 2 h - i,
 * which is exact for pixels that are not 2^20 apart in size. With x and y, gx and gy rounded to
 * float, sqrt(fma(x, x, y * y)) is added to the bin floor(9 atan2(gx, gy) / pi) mod 9. A bin is
 * found without an angle: (gx, gy), times -1 where x < 0 or x = 0 > y, lies in a half plane, where
 * its bin is how many of the directions k pi / 9, k = 1 .. 8, lie before it, which their cross
 * product tells: float(fma(gx, cos(k pi / 9), gy * -sin(k pi / 9))) > 0. Both in double are so near
 * to what is meant that no pixel falls into a neighbour of its bin: atan2 in float, rounded, then
 * times 9 / pi, is less exact than that, and has no like in vectors. A cell's bin is the sum of
 * those of its columns, added from 0; a column's that of its pixels, downwards.
 * Bound: 4 bytes of each pixel; some 30 FLOP in double. */
typedef void tacit_hog_f32_fn(size_t height, size_t width, size_t cell, const float *x, size_t ldx,
                              float *y, size_t ldy);

/* y (cols, rows) = x (rows, cols) transposed; rows of x ldx, of y ldy apart. They must not overlap.
 * Moves 2 rows cols bytes. */
typedef void tacit_transpose_u8_fn(size_t rows, size_t cols, const uint8_t *x, size_t ldx,
                                   uint8_t *y, size_t ldy);

/* What one output of a resize reads: inputs [first, first + count), count > 0, with their weights
 * k in fixed point, 22 bits. Each is stored as h = k >> 11 and l = k & 2047, and two by two:
 * weights[4 p ..] = h(2p), h(2p + 1), l(2p), l(2p + 1); for an odd count the missing one is 0.
 * |k| < 2^26, so that both halves fit a signed 16-bit multiplication. */
typedef struct tacit_taps {
    size_t first, count;
    const int16_t *weights;
} tacit_taps;

/* Output i, a row of n values, is the weighted sum of rows of x: y[i] = clip((sum_j k_j x[j] +
 * 2^21) >> 22) to 0..255, arithmetic shift. The sum is one of 32 bits: with weights that sum to
 * 2^22 and whose absolute values sum to less than 2^23 (the most found: bicubic 1.25, Lanczos 1.58
 * times 2^22) it stays in range, |sum| < 255 * 2^23 < 2^31; beyond, it wraps. Rows ldx and ldy
 * apart; x and y must not overlap. Bound: one multiply-add for each tap and value. */
typedef void tacit_resample_u8_fn(size_t outputs, const tacit_taps *taps, size_t n,
                                  const uint8_t *x, size_t ldx, uint8_t *y, size_t ldy);

/* y (n) = the weighted sum of `count` rows of x, ldx apart, in float: acc = fma(weights[j], x[j],
 * acc) from 0, j ascending. Bound: one multiply-add for each row and value. */
typedef void tacit_weighted_rows_u8_fn(size_t count, const float *weights, size_t n,
                                       const uint8_t *x, size_t ldx, float *y);

/* How bytes become normalised floats. The table is the definition; where `fma` holds, a division by
 * multiplication and remainder (Markstein 1990) was tried on all of it and gives the same bits. */
typedef struct tacit_normalize {
    float table[3][256]; /* (v / 255 - mean) / std, each step rounded to float */
    float mean[3], std[3], inverse[3];
    bool fma;
} tacit_normalize;

void tacit_normalize_init(tacit_normalize *normalize, const float mean[3], const float std[3]);

/* Three rows of n bytes, ldx apart, one for each channel, to three rows of floats ldy apart.
 * Bound: 15 n bytes. */
typedef void tacit_normalize_u8_fn(size_t n, const uint8_t *x, size_t ldx,
                                   const tacit_normalize *normalize, float *y, size_t ldy);

#include "kernels_colour.h"

/* Convolution --------------------------------------------------------------------------------- */

#include "kernels_conv.h"

/* Training ------------------------------------------------------------------------------------ */

#include "kernels_train.h"

/* Whole numbers of 8 bits --------------------------------------------------------------------- */

#include "kernels_int8.h"

/* bfloat16 ------------------------------------------------------------------------------------ */

#include "kernels_bf16.h"

/* The table ----------------------------------------------------------------------------------- */

typedef struct tacit_kernels {
    tacit_isa isa;
    size_t gemm_mr, gemm_nr; /* the tile, which belongs to the packing */
#define TACIT_KERNEL(slot, class, cases) tacit_##slot##_fn *slot;
#include "kernels.inc"
#undef TACIT_KERNEL
} tacit_kernels;

/* The table of an ISA that tacit_isa_available admits. */
const tacit_kernels *tacit_kernels_for(tacit_isa isa);

/* Floats of a packed (n, k). */
size_t tacit_gemm_packed_size(const tacit_kernels *kernels, size_t n, size_t k);

/* Bytes of weights (n, k) packed for gemm_u8s8; scale and minus have round_up(n, TACIT_INT8_NR)
 * elements each. */
size_t tacit_gemm_s8_size(size_t n, size_t k);

/* Packs w (n, k), rows ldw apart, for gemm_u8s8, on every ISA in the same way: output j's group p
 * is at packed[(j / nr * nr * groups + p * nr + j % nr) * 4]. scale[j] = max |w[j]| / 127, minus[j]
 * is 128 times the sum of the row's bytes. Missing rows are zeros. */
void tacit_gemm_pack_s8(const tacit_kernels *kernels, size_t n, size_t k, const float *w,
                        size_t ldw, int8_t *packed, float *scale, int32_t *minus);

/* Rounds a row of weights in place to numbers of which tacit_gemm_pack_s8 loses nothing, so that
 * their sum is kept to half a step: where it would not be, some that lie nearest to the middle of
 * two steps go the other way. What inputs have in common, as the brightness of an image, then comes
 * through as it is, where the sum of all the roundings would be multiplied by it. */
void tacit_round_s8(size_t k, float *w);

/* Values of weights (n, k) packed for gemm_bf16. */
size_t tacit_gemm_bf16_size(size_t n, size_t k);

/* Rounds and packs w (n, k), rows ldw apart, for gemm_bf16, on every ISA in the same way: element
 * (j, p) is at packed[2 (j / nr * nr * pairs + p / 2 * nr + j % nr) + p % 2], and 0 is what is
 * missing. */
void tacit_gemm_pack_bf16(const tacit_kernels *kernels, size_t n, size_t k, const float *w,
                          size_t ldw, uint16_t *packed);

/* Floats of scratch for gemm_tn_f32 with up to m columns of a. */
size_t tacit_gemm_tn_scratch(const tacit_kernels *kernels, size_t m);

/* Floats of scratch for attention_f32, _u8s8 or _bf16, and for the gradients; the sizes must be
 * those of a model, far from overflow. */
size_t tacit_attention_scratch(const tacit_kernels *kernels, size_t tokens, size_t dim);
size_t tacit_attention_backward_scratch(const tacit_kernels *kernels, size_t tokens, size_t dim);

#endif
