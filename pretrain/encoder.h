/* encoder.h - the backbone in training, of either family, behind one set of functions.
 *
 * Its features are what a head is put on: a ViT's class token, a ResNet's mean. Names have no
 * prefix, so that the backbone of a run is the tensors that no head claims.
 */
#ifndef TACIT_ENCODER_H
#define TACIT_ENCODER_H

#include "backbone.h"
#include "config.h"
#include "resnet_train.h"
#include "vit_train.h"

/* The architecture of the settings arch, size, patch, dim, depth, heads. */
tacit_status tacit_encoder_config(const tacit_config *config, tacit_backbone_config *backbone,
                                  tacit_err *err);

/* A ViT of those sizes, with the settings drop_path and recompute. */
tacit_vit_train_config tacit_encoder_vit(const tacit_config *config, const tacit_vit_config *vit);

/* Values of a feature. */
size_t tacit_encoder_dim(const tacit_backbone_config *backbone);

typedef struct tacit_encoder {
    tacit_family family;
    tacit_vit_train vit; /* one of the two */
    tacit_resnet_train resnet;
    size_t dim, ld; /* of the features, and between their rows */
    size_t max_batch;
    uint32_t *wanted; /* (max_batch): a ViT's class tokens, in the batch */
} tacit_encoder;

/* Must be closed, declared well or badly. */
tacit_status tacit_encoder_declare(tacit_encoder *encoder, const tacit_config *config,
                                   const tacit_backbone_config *backbone, size_t max_batch,
                                   tacit_params *params, tacit_work *work, tacit_err *err);
/* The same network for square images of `size` pixels, over the tensors that it has in params,
 * where it was declared before. Where it cannot take that size the error names local_size. */
tacit_status tacit_encoder_declare_again(tacit_encoder *encoder, const tacit_config *config,
                                         const tacit_backbone_config *backbone, unsigned size,
                                         size_t max_batch, tacit_params *params, tacit_work *work,
                                         tacit_err *err);
/* Of a ResNet: its batch norms take the batch in groups, see bn.h. Between declare and plan. */
void tacit_encoder_split(tacit_encoder *encoder, size_t groups, size_t pooled);
/* Of a ViT: tacit_vit_train_as_moco, between declare and plan. */
tacit_status tacit_encoder_as_moco(tacit_encoder *encoder, bool freeze, tacit_err *err);
void tacit_encoder_close(tacit_encoder *encoder);
bool tacit_encoder_plan(const tacit_encoder *encoder, size_t *total);
void tacit_encoder_take(tacit_encoder *encoder, tacit_arena *arena);

/* images (batch, 3, size, size). Gives the features (batch, dim), ld apart, until the next call.
 * draws: drop path's stream of each image, or NULL where nothing is dropped. */
const float *tacit_encoder_forward(tacit_encoder *encoder, const float *images, size_t batch,
                                   uint64_t seed, const uint64_t *draws);
/* Where the gradient of the features goes before a backward, ld apart. */
float *tacit_encoder_gradient(const tacit_encoder *encoder);
void tacit_encoder_backward(tacit_encoder *encoder);

/* FLOPs of a forward and a backward of one image. */
double tacit_encoder_flops(const tacit_encoder *encoder);

#endif
