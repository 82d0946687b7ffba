/* kernels_conv.h - the kernels of convolutional networks; a part of kernels.h.
 *
 * Pixels are rows of channels (NHWC), so that a 1 x 1 convolution is gemm_f32 as it stands.
 */
#ifndef TACIT_KERNELS_CONV_H
#define TACIT_KERNELS_CONV_H

/* The geometry of a convolution or a pooling with square windows. */
typedef struct tacit_conv {
    size_t height, width, channels; /* of the input; images follow one another                */
    size_t ldx;                     /* floats from one pixel to the next                       */
    size_t kernel, stride, pad;     /* pad: pixels of zeros on each side, less than the kernel */
    size_t rows, columns;           /* of the output: tacit_conv_size of height and width      */
} tacit_conv;

/* Outputs along an axis of `size` pixels; 0 where the window does not fit. */
size_t tacit_conv_size(size_t size, size_t kernel, size_t stride, size_t pad);

/* Outputs [first, first + m), counted in raster order through all images, of the convolution with
 * packed weights (n, k), k in the order (y, x, channel) of the window:
 * y (m, n) = epilogue(sum_k x[k] w[k]), chains as in gemm_f32, to which zeros of the padding add
 * their products as well. y and the epilogue's pointers are those of output `first`. The windows
 * are gathered by blocks of TACIT_KC terms into scratch: m * min(k, TACIT_KC) floats.
 * Bound: 2 m n k FLOP. */
typedef void tacit_conv_f32_fn(const tacit_conv *conv, size_t first, size_t m, size_t n,
                               const float *x, const float *packed, float *y, size_t ldy,
                               const tacit_epilogue *epilogue, float *scratch);

/* A 3 x 3 convolution with stride 1 by Winograd's minimal filtering (Lavin and Gray 2016,
 * arXiv:1509.09308): tiles of side x side outputs, side 2 or 4, from P = (side + 2)^2 products
 * instead of 9 side^2. Of the points of interpolation 0, +-1 and infinity (side 2) or 0, +-3/4,
 * +-3/2 and infinity (side 4), all coefficients are exact in float; the second set has a third of
 * the error of 0, +-1, +-2 (after Barabasz et al. 2020, arXiv:1803.10986).
 *
 * Three steps: winograd_input_f32; for each p < P a gemm_f32 with the weights transformed by
 * tacit_winograd_weights; winograd_output_f32. Tiles are counted in raster order, image by image;
 * outputs beyond the edge are not stored. */

/* U = G g G^T of the window g (3, 3): P values, to u[p * step]. */
void tacit_winograd_weights(size_t side, const double g[9], double *u, size_t step);

/* V = B^T d B for tiles [first, first + count) and all channels: the p-th value of channel c of
 * the t-th of them goes to v[p * step + t * ldv + c]. First down the columns, then along the rows,
 * each as ref_conv.c writes it. Bound: 4 (side^2 + P) bytes for each tile and channel. */
typedef void tacit_winograd_input_f32_fn(const tacit_conv *conv, size_t side, size_t first,
                                         size_t count, const float *x, float *v, size_t ldv,
                                         size_t step);

/* y = A^T m A of products m laid out like v, n channels; then the epilogue, of which bias, residual
 * and relu are looked at. y and the residual are those of the first pixel of the first image.
 * Bound: 4 (side^2 + P) bytes for each tile and channel. */
typedef void tacit_winograd_output_f32_fn(const tacit_conv *conv, size_t side, size_t first,
                                          size_t count, size_t n, const float *products, size_t ldp,
                                          size_t step, float *y, size_t ldy,
                                          const tacit_epilogue *epilogue);

/* Outputs [first, first + m) of the largest value of each window, padding left out: from the first
 * pixel of the window on in raster order, y = max(x, y). pad <= kernel / 2.
 * Bound: 4 bytes for each input and output. */
typedef void tacit_maxpool_f32_fn(const tacit_conv *conv, size_t first, size_t m, const float *x,
                                  float *y, size_t ldy);

#endif
