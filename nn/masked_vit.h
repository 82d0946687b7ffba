/* masked_vit.h - a ViT on images of which some patches are masked, and a Linear that predicts
 * something of each of those.
 *
 * All patches are seen, the mask token in place of the masked ones' embeddings; there is no decoder
 * (SimMIM, Xie et al. 2021, arXiv:2111.09886; MaskFeat, Wei et al. 2021, arXiv:2112.09133). Images
 * may have different numbers of masked patches. A prediction is a row of `values`, image after
 * image, in the order of the patches.
 */
#ifndef TACIT_MASKED_VIT_H
#define TACIT_MASKED_VIT_H

#include "vit_train.h"

typedef struct tacit_masked_vit {
    tacit_vit_train vit;
    tacit_dense predict;
    size_t max_masked, rows, ld; /* patches of an image at most; of the last forward; in rows */
    uint8_t *masks;              /* (max_batch, patches), not 0 where masked: set by the caller */
    uint32_t *first;    /* (max_batch + 1): where an image's rows begin, and the last's end */
    uint32_t *patches;  /* (rows): the patch of each row, in its image                      */
    uint32_t *wanted;   /* (rows): its token, in the batch                                  */
    float *predictions; /* (rows, values), ld apart; the caller puts their gradients there */
} tacit_masked_vit;

/* Declares the ViT, mask_token, and <head>.weight and .bias, which begin as N(0, 0.02) and 0. No
 * image may have more than max_masked masked patches. What was declared, well or badly, must be
 * closed. */
tacit_status tacit_masked_vit_declare(tacit_masked_vit *masked,
                                      const tacit_vit_train_config *config, size_t max_batch,
                                      size_t max_masked, size_t values, const char *head,
                                      tacit_params *params, tacit_work *work, tacit_err *err);
void tacit_masked_vit_close(tacit_masked_vit *masked);
bool tacit_masked_vit_plan(const tacit_masked_vit *masked, size_t *total);
void tacit_masked_vit_take(tacit_masked_vit *masked, tacit_arena *arena);

/* images (batch, 3, image, image), masks as set. The predictions are in masked->predictions, the
 * normalised tokens (rows, dim) that they are made from in vit.trunk.normed until the backward.
 * drop: as for a trunk. */
void tacit_masked_vit_forward(tacit_masked_vit *masked, const float *images, size_t batch,
                              bool drop);
/* From the gradients in masked->predictions to those of the parameters. */
void tacit_masked_vit_backward(tacit_masked_vit *masked);

/* FLOPs of a forward and a backward of one image with max_masked masked patches. */
double tacit_masked_vit_flops(const tacit_masked_vit *masked);

#endif
