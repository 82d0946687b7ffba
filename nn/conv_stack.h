/* conv_stack.h - convolutions in training, one behind the other: with biases, ReLUs and shortcuts,
 * on maps with channels last.
 *
 * y = relu(conv(x) + bias + what came out of the layer `skip` layers before), of which a layer has
 * what it asks for. All maps are kept for the backward.
 */
#ifndef TACIT_CONV_STACK_H
#define TACIT_CONV_STACK_H

#include "conv_train.h"

typedef struct tacit_conv_spec {
    const char *name; /* of its tensors: name.weight, name.bias */
    size_t out;       /* channels */
    size_t kernel, stride, pad;
    bool transposed; /* a transposed convolution, which needs a stride; its weight is (in, out, y,
                        x) */
    bool relu;
    size_t skip; /* 0: none; of a map of the same size */
} tacit_conv_spec;

typedef struct tacit_conv_layer {
    tacit_convolution conv; /* of a transposed one that whose gradient it is */
    tacit_param *bias;
    bool transposed, relu;
    size_t skip, pixels, out; /* pixels, channels of its map */
    float *y;                 /* (batch, pixels, out) */
} tacit_conv_layer;

typedef struct tacit_conv_stack {
    tacit_conv_layer *layers;
    size_t count, room;
    size_t height, width, channels; /* of the last map so far */
    size_t max_batch, batch;
    size_t widest; /* values of the largest map but the last one */
    bool fixed;    /* without a backward */
    float *turn[3];
    const float *x;
    tacit_params *params;
    tacit_work *work;
} tacit_conv_stack;

/* For up to `room` layers on maps (height, width, channels). fixed: of weights that are not
 * trained. Must be closed, opened well or badly. */
tacit_status tacit_conv_stack_open(tacit_conv_stack *stack, size_t room, size_t height,
                                   size_t width, size_t channels, size_t max_batch, bool fixed,
                                   tacit_params *params, tacit_work *work, tacit_err *err);
/* The next layer: weights and bias uniform as PyTorch's Conv2d and ConvTranspose2d begin. */
tacit_status tacit_conv_stack_add(tacit_conv_stack *stack, const tacit_conv_spec *spec,
                                  tacit_err *err);
void tacit_conv_stack_close(tacit_conv_stack *stack);
bool tacit_conv_stack_plan(const tacit_conv_stack *stack, size_t *total);
void tacit_conv_stack_take(tacit_conv_stack *stack, tacit_arena *arena);

/* x must stay until the backward. Gives the last map, until the next call. */
float *tacit_conv_stack_forward(tacit_conv_stack *stack, const float *x, size_t batch);
/* dy (batch, the last map) is overwritten; dx (batch, the first map), unless it is NULL. */
void tacit_conv_stack_backward(tacit_conv_stack *stack, float *dy, float *dx);

/* FLOPs of a forward of one image. */
double tacit_conv_stack_flops(const tacit_conv_stack *stack);

#endif
