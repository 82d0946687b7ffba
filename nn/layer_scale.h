/* layer_scale.h - LayerScale (Touvron et al. 2021, arXiv:2103.17239, section 2): the outputs of a
 * branch times a learned gamma each, in training.
 *
 * gamma * (W x + b) is a Linear with the rows of W and b times gamma, and is run as such: nothing
 * more is kept of a forward. Of the gradients G, g of these, dW = gamma * G, db = gamma * g, and
 * dgamma = the rows' dot products of W and G, and b g. Memory is shared by all layers.
 */
#ifndef TACIT_LAYER_SCALE_H
#define TACIT_LAYER_SCALE_H

#include "dense.h"

typedef struct tacit_layer_scale {
    const tacit_work *work;
    tacit_dense dense; /* the layer as it is run, and its tensors */
    tacit_param w, b;
} tacit_layer_scale;

/* For layers of up to so many outputs and inputs. */
bool tacit_layer_scale_plan(size_t out, size_t in, size_t *total);
void tacit_layer_scale_take(tacit_layer_scale *scale, const tacit_work *work, size_t out, size_t in,
                            tacit_arena *arena);

/* dense, which has a bias, with its outputs times gamma (out): the layer to run in its place, until
 * the next call, with gradients of 0. */
const tacit_dense *tacit_layer_scale_begin(tacit_layer_scale *scale, const tacit_dense *dense,
                                           const tacit_param *gamma);
/* Behind a backward of what `begin` gave, from its gradients to those of dense and gamma. */
void tacit_layer_scale_end(tacit_layer_scale *scale, const tacit_dense *dense, tacit_param *gamma);

#endif
