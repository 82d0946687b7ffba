/* conv_tiles.h - 3 x 3 convolutions of stride 1 by Winograd's tiles (kernels_conv.h): when, and in
 * training all three products. Shared by conv_train.c and resnet_load.c.
 */
#ifndef TACIT_CONV_TILES_H
#define TACIT_CONV_TILES_H

#include "conv_train.h"

/* The side of the tiles that cost least, or 0: windows are cheaper. `weights`: what an image has to
 * pay for a transformed weight, in FLOPs. */
size_t tacit__tiles_side(const tacit_conv *shape, size_t out, double weights);

/* Notes what the work of a convolution with a side needs. */
void tacit__tiles_need(const tacit_convolution *conv, size_t max_batch, tacit_work *work);

/* As tacit_convolution_forward; the two parts of tacit_convolution_backward. */
void tacit__tiles_forward(const tacit_convolution *conv, size_t batch, const float *x, float *y);
void tacit__tiles_input_gradient(const tacit_convolution *conv, size_t batch, const float *dy,
                                 float *dx, const float *beside);
void tacit__tiles_weight_gradient(const tacit_convolution *conv, size_t batch, const float *x,
                                  const float *dy);

#endif
