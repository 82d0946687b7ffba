/* conv_train.h - convolutions in training, on maps with channels last.
 *
 * A map is (batch, height, width, channels), tight. Weights are declared with PyTorch's shape (out,
 * in, y, x) and lie as (out, y, x, in): tacit_param's channels_last.
 */
#ifndef TACIT_CONV_TRAIN_H
#define TACIT_CONV_TRAIN_H

#include "dense.h"

typedef struct tacit_convolution {
    tacit_conv shape;
    size_t out, side;  /* side: of Winograd's tiles, 0 where windows are gathered */
    tacit_dense dense; /* the weights (out, window); for 1 x 1 at stride 1 all there is to it */
    const tacit_work *work;
} tacit_convolution;

/* Declares `name`.weight, no bias: normal with the variance 2 / (out * kernel^2), He's fan_out. */
tacit_status tacit_convolution_declare(tacit_convolution *conv, const char *name, size_t height,
                                       size_t width, size_t channels, size_t out, size_t kernel,
                                       size_t stride, size_t pad, size_t max_batch,
                                       tacit_params *params, tacit_work *work, tacit_err *err);

/* Values of an output map. */
size_t tacit_convolution_size(const tacit_convolution *conv);

void tacit_convolution_forward(const tacit_convolution *conv, size_t batch, const float *x,
                               float *y);
/* dW += ...; dx unless it is NULL, plus `beside`, the gradient that its map has from elsewhere,
 * unless that is NULL. */
void tacit_convolution_backward(const tacit_convolution *conv, size_t batch, const float *x,
                                const float *dy, float *dx, const float *beside);

/* The transposed convolution, PyTorch's ConvTranspose2d with the same weights: the gradient of a
 * convolution with a stride by its input, taken as a layer. x (batch, rows, columns, out) is what
 * the convolution gives, y (batch, height, width, channels) what it takes. */
void tacit_convolution_transposed(const tacit_convolution *conv, size_t batch, const float *x,
                                  float *y);
/* dW += ...; dx unless it is NULL. */
void tacit_convolution_transposed_backward(const tacit_convolution *conv, size_t batch,
                                           const float *x, const float *dy, float *dx);

#endif
