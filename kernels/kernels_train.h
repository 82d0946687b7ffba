/* kernels_train.h - the kernels that only training needs. Included by kernels.h; its rules hold.
 *
 * A gradient has the name of its value with a d before it; where it says `more`, it is added to
 * what its block holds.
 */
#ifndef TACIT_KERNELS_TRAIN_H
#define TACIT_KERNELS_TRAIN_H

#ifndef TACIT_KERNELS_H
#error "include kernels.h"
#endif

/* Floats between the rows of scores that attention_backward_f32 keeps, so that rows of a power of
 * two do not fall into one set of the cache. */
#define TACIT_SCORES_PAD 16

/* Linear algebra ------------------------------------------------------------------------------ */

/* The pack of gemm_pack_f32 for a w that lies transposed, (k, n): element (j, p) is w[p ldw + j].
 * With it gemm_f32 makes dx = dy W from the W (out, in) of a Linear layer, n = in and k = out.
 * Moves 8 n k bytes. */
typedef void tacit_gemm_pack_t_f32_fn(size_t n, size_t k, const float *w, size_t ldw,
                                      float *packed);

/* The gradients of one head of attention_f32 by dout (tokens, dim), with as many queries as keys;
 * q, k, v rows ld apart, dout's ldo, those of dq, dk, dv ldd. The scores and their softmax are made
 * again, p = e * (1 / sum(e)), and nothing of the forward is needed (Dao et al. 2022, appendix B):
 *   dp = dout v^T, g = p * (dp - sum_t p_t dp_t), ds = g * scale,
 *   dq = ds k, dk = ds^T q, dv = p^T dout.
 * bias (tokens, tokens) as in the forward, its gradient dbias += g, rows of both ldb apart; both
 * NULL where there is none.
 * Products over tokens as in gemm_f32, over dim in one chain; the sum over t is fma(p, dp, lane) in
 * 16 lanes. tokens > 0. scratch: tacit_attention_backward_scratch floats.
 * Bound: 10 tokens^2 dim FLOP and tokens^2 exp. */
typedef void tacit_attention_backward_f32_fn(size_t tokens, size_t dim, const float *q,
                                             const float *k, const float *v, size_t ld, float scale,
                                             const float *bias, float *dbias, size_t ldb,
                                             const float *dout, size_t ldo, float *dq, float *dk,
                                             float *dv, size_t ldd, float *scratch);

/* Rows ---------------------------------------------------------------------------------------- */

/* The gradients of layernorm_f32, whose mean and rstd are made again: with h = (x - mean) * rstd
 * and g = dy * gamma, a = sum(g) / n, b = sum_i fma(g, h, .) / n,
 *   dx = fma(h, -b, g - a) * rstd (+ dx with more); dgamma = fma(dy, h, dgamma); dbeta += dy,
 * the last two row after row. dx may be dy without more. y, unless NULL, gets layernorm_f32's
 * result, for which alone beta is read. Bound: 12 rows n bytes, 4 more with more and with y. */
typedef void tacit_layernorm_backward_f32_fn(size_t rows, size_t n, const float *x, size_t ldx,
                                             const float *gamma, const float *beta, float eps,
                                             const float *dy, size_t lddy, float *dx, size_t lddx,
                                             bool more, float *dgamma, float *dbeta, float *y,
                                             size_t ldy);

/* y (n) = the sum of the rows (+ y with more): for each column chains of 16 additions, from 0,
 * which are added one after the other. Bound: 4 rows n bytes. */
typedef void tacit_sum_rows_f32_fn(size_t rows, size_t n, const float *x, size_t ldx, bool more,
                                   float *y);

/* The gradient of l2norm_f32: with r = max(sqrt(sum(x * x)), 1e-12) and y = x / r,
 * dx = fma(y, -sum_i fma(dy, y, .), dy) / r, or dy / r where the norm is below 1e-12.
 * dx may be dy. */
typedef void tacit_l2norm_backward_f32_fn(size_t rows, size_t n, const float *x, size_t ldx,
                                          const float *dy, size_t lddy, float *dx, size_t lddx);

/* The cross entropy of each row of n > 0 logits with soft targets q (they need not sum to 1), and
 * its gradient: with m = sum(q), dx = fma(p, m, -q), p as softmax_f32 with scale 1 has it;
 * loss = fma(m, log(sum_i exp(x_i - max(x))) + max(x), -sum_i fma(q, x, .)).
 * dx must overlap neither. */
typedef void tacit_soft_cross_entropy_f32_fn(size_t rows, size_t n, const float *x, size_t ldx,
                                             const float *q, size_t ldq, float *dx, size_t lddx,
                                             float *loss);

/* Batch norm in training mode (Ioffe and Szegedy 2015), over the rows: maps in NHWC are rows of
 * channels. Column sums are in double, row after row, so that blocks of rows can be summed apart
 * and E(x^2) - E(x)^2 holds. */
typedef struct tacit_batchnorm {
    const float *mean, *rstd;  /* (n) */
    const float *gamma, *beta; /* (n) */
    bool relu;                 /* y = max(y, 0) */
} tacit_batchnorm;

/* sum += x and square += x * x, for each of n columns. Bound: 4 rows n bytes. */
typedef void tacit_moments_f32_fn(size_t rows, size_t n, const float *x, size_t ldx, double *sum,
                                  double *square);

/* y = fma(h, gamma, beta), h = (x - mean) * rstd; then the relu. With beside (rows, n), or NULL, it
 * is max(y + beside, 0), the end of a residual block, whose norm has no relu of its own. y may be x
 * or beside. Bound: 8 rows n bytes, 12 with beside. */
typedef void tacit_batchnorm_f32_fn(size_t rows, size_t n, const float *x, size_t ldx,
                                    const tacit_batchnorm *norm, const float *beside, size_t ldb,
                                    float *y, size_t ldy);

/* sum += dy and dot += dy * h for each column: the gradients of beta and gamma. With relu, dy
 * counts as 0 unless y > 0. Bound: 8 rows n bytes. */
typedef void tacit_batchnorm_sums_f32_fn(size_t rows, size_t n, const float *x, size_t ldx,
                                         const tacit_batchnorm *norm, const float *dy, size_t lddy,
                                         double *sum, double *dot);

/* dx = fma(h, -b, dy - a) * (gamma * rstd), a and b (n) the two sums divided by the rows of the
 * batch; dy as above. dx may be dy. Bound: 12 rows n bytes. */
typedef void tacit_batchnorm_backward_f32_fn(size_t rows, size_t n, const float *x, size_t ldx,
                                             const tacit_batchnorm *norm, const float *dy,
                                             size_t lddy, const float *a, const float *b, float *dx,
                                             size_t lddx);

/* Convolutions, after kernels_conv.h ---------------------------------------------------------- */

/* Terms [p, p + kc) of the windows of outputs [first, first + m), zeros for the padding, to rows of
 * kc: the gradient of the weights is gemm_tn_f32 of dy and these. Moves 8 m kc bytes. */
typedef void tacit_conv_windows_f32_fn(const tacit_conv *conv, size_t first, size_t m, size_t p,
                                       size_t kc, const float *x, float *to);

/* dx of one image from the gradients of its windows, d (rows * columns, kernel^2 channels), rows
 * ldd apart, which are dy W: for each pixel the sum over the places of the window that it was seen
 * at, in raster order, from 0. dx has pixels conv->ldx apart. For strides above 1; at stride 1 dx
 * is itself a convolution. Bound: 4 bytes of each value of d and dx. */
typedef void tacit_conv_scatter_f32_fn(const tacit_conv *conv, const float *d, size_t ldd,
                                       float *dx);

/* The weights' part of Winograd's filtering (kernels_conv.h) where they change at every step:
 * u = G g G^T, in float, of n neighbouring windows g of each row of w, whose nine places lie `tap`
 * floats apart, and with `turned` are taken from the last to the first: the p-th value of window i
 * of row r goes to u[p * step + r * ldu + i]. First down the columns, then along the rows, as
 * ref_conv.c writes it. Bound: 4 (9 + P) bytes for each window. */
typedef void tacit_winograd_weights_f32_fn(size_t side, size_t rows, size_t n, const float *w,
                                           size_t ldw, size_t tap, bool turned, float *u,
                                           size_t ldu, size_t step);

/* The gradients of these windows from that of u: dw += G^T du G. Bound: 4 (18 + P) bytes for each
 * window. */
typedef void tacit_winograd_weights_backward_f32_fn(size_t side, size_t rows, size_t n,
                                                    const float *du, size_t ldu, size_t step,
                                                    float *dw, size_t lddw, size_t tap);

/* The gradient of winograd_output_f32's products from dy, the gradient of its outputs: z = A dy A^T
 * for n channels of tiles [first, first + count), laid out as there; outputs beyond the edge count
 * as 0. dy is that of the first pixel of the first image. du, the gradient of the transformed
 * weights, is then gemm_tn_f32 of z and of what winograd_input_f32 makes of x.
 * Bound: 4 (side^2 + P) bytes for each tile and channel. */
typedef void tacit_winograd_output_backward_f32_fn(const tacit_conv *conv, size_t side,
                                                   size_t first, size_t count, size_t n,
                                                   const float *dy, size_t lddy, float *z,
                                                   size_t ldz, size_t step);

/* dx of one image from dy (rows * columns, channels), rows lddy apart: each window's goes to its
 * first largest input, in raster order; pixels of x and dx are conv->ldx apart. For each place of
 * the window, dx += most > x ? 0 : d, after which d is 0 where it went; from dx = 0. */
typedef void tacit_maxpool_backward_f32_fn(const tacit_conv *conv, const float *x, const float *dy,
                                           size_t lddy, float *dx);

/* Elements ------------------------------------------------------------------------------------ */

/* y = gelu(x) as gelu_f32 has it, and dx = dy * fma(x, exp(x * x * -0.5) * 0.3989423, 0.5 (1 +
 * erf)). y may be x, dx may be dy. */
typedef void tacit_gelu_backward_f32_fn(size_t n, const float *x, const float *dy, float *y,
                                        float *dx);

/* dx = y > 0 ? dy : 0, y being what the relu gave. dx may be dy. */
typedef void tacit_relu_backward_f32_fn(size_t n, const float *y, const float *dy, float *dx);

/* z = fma(x, a, y): a residual branch under drop path, a sum of gradients;
 * z = x * a where y is NULL. z may be x or y. */
typedef void tacit_scale_add_f32_fn(size_t n, const float *x, float a, const float *y, float *z);

/* The sum of d * d, d = x - t, in double as dot_f64 adds; dx = d * scale. dx may be x. */
typedef double tacit_squared_error_f32_fn(size_t n, const float *x, const float *t, float scale,
                                          float *dx);

/* Optimisers ---------------------------------------------------------------------------------- */

/* One step of stochastic gradient descent as PyTorch has it (Sutskever et al. 2013, without
 * dampening), and with scale of every LARS (You et al. 2017):
 *   g = fma(w, decay, dw) * scale; v = fma(v, momentum, g); w = fma(v, -rate, w),
 * or with nesterov w = fma(fma(v, momentum, g), -rate, w). */
typedef struct tacit_sgd {
    float rate, momentum, decay, scale;
    bool nesterov;
} tacit_sgd;

/* Bound: 20 n bytes. */
typedef void tacit_sgd_f32_fn(size_t n, const tacit_sgd *sgd, const float *dw, float *v, float *w);

/* One step of AdamW as PyTorch has it (Loshchilov and Hutter 2019):
 *   m = fma(dw - m, 1 - beta1, m); v = fma(dw * dw, 1 - beta2, v * beta2);
 *   w = fma(m / fma(sqrt(v), inverse_root, eps), -rate, w * keep). */
typedef struct tacit_adamw {
    float keep;       /* 1 - learning rate * decay */
    float beta1_less; /* 1 - beta1 */
    float beta2, beta2_less;
    float rate;         /* learning rate / (1 - beta1^t) */
    float inverse_root; /* 1 / sqrt(1 - beta2^t) */
    float eps;
} tacit_adamw;

/* The coefficients of step t = 1, 2, ..., from double. */
tacit_adamw tacit_adamw_step(double rate, double decay, double beta1, double beta2, double eps,
                             uint64_t t);

/* Bound: 28 n bytes. */
typedef void tacit_adamw_f32_fn(size_t n, const tacit_adamw *adamw, const float *dw, float *m,
                                float *v, float *w);

/* y = fma(x - y, less, y): the moving average with the momentum 1 - less. Bound: 12 n bytes. */
typedef void tacit_ema_f32_fn(size_t n, float less, const float *x, float *y);

#endif
