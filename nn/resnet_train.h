/* resnet_train.h - a ResNet in training, to the mean of its last map; names as in resnet.h.
 *
 * Batch norm takes its statistics from the whole batch of a call, which is what a method's views
 * must share. Kept for the backward: what every convolution and every batch norm with its ReLU
 * gave.
 */
#ifndef TACIT_RESNET_TRAIN_H
#define TACIT_RESNET_TRAIN_H

#include "bn.h"
#include "conv_train.h"
#include "resnet.h"

/* A convolution, its batch norm, and what they gave. */
typedef struct tacit_conv_bn {
    tacit_convolution conv;
    tacit_bn bn;
    float *z, *y; /* of the convolution; of the norm, NULL where that is used up at once */
} tacit_conv_bn;

typedef struct tacit_residual {
    tacit_conv_bn part[3], shortcut; /* shortcut.conv.out 0: none */
    size_t parts;
    const float *x;
    float *out;
} tacit_residual;

typedef struct tacit_resnet_train {
    tacit_resnet_config config;
    const tacit_work *work;
    size_t max_batch, batch, count, dim; /* batch: of the last forward; dim: of the features */
    tacit_conv_bn stem;
    tacit_conv pool; /* kernel 0: none */
    tacit_residual *blocks;
    float *input, *pooled; /* images with channels last; the stem's map after pooling */
    float *features;       /* (max_batch, dim) */
    float *unpooled;       /* the gradient of the map before pooling */
    float *turn[4];        /* maps of the moment */
    size_t most;           /* values of the largest of them, for one image */
    const float *images;   /* during a forward */
    float *d; /* (max_batch, dim): the caller's gradient of the features, for backward */
} tacit_resnet_train;

/* With zero_init the last norm of each block begins with a gain of 0 (Goyal et al. 2017). What was
 * declared, well or badly, must be closed. */
tacit_status tacit_resnet_train_declare(tacit_resnet_train *net, const tacit_resnet_config *config,
                                        bool zero_init, size_t max_batch, tacit_params *params,
                                        tacit_work *work, tacit_err *err);
/* Every batch norm takes each of `groups` equal parts of a batch for itself, see bn.h. Between
 * declare and plan. */
void tacit_resnet_train_split(tacit_resnet_train *net, size_t groups, size_t pooled);
void tacit_resnet_train_close(tacit_resnet_train *net);
bool tacit_resnet_train_plan(const tacit_resnet_train *net, size_t *total);
void tacit_resnet_train_take(tacit_resnet_train *net, tacit_arena *arena);

/* images (batch, 3, height, width). Gives features (batch, dim) until the next call. */
const float *tacit_resnet_train_forward(tacit_resnet_train *net, const float *images, size_t batch);
/* From net->d to the gradients of the parameters. */
void tacit_resnet_train_backward(tacit_resnet_train *net);

#endif
