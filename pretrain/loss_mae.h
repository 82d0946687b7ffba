/* loss_mae.h - the loss of the masked autoencoder (He et al. 2021, arXiv:2111.06377, section 3).
 *
 * L = the mean over masked patches of the mean over a patch's values of (prediction - target)^2. A
 * target is the patch's pixels in the order (row, column, channel), by default normalised: less
 * their mean, divided by sqrt(var + 1e-6), var unbiased, as facebookresearch/mae has it.
 */
#ifndef TACIT_LOSS_MAE_H
#define TACIT_LOSS_MAE_H

#include "dense.h"

typedef struct tacit_mae_target {
    size_t image, patch; /* height and width */
    bool normalised;
} tacit_mae_target;

/* What the loss needs of the work's scratch, for batches up to max_batch. */
void tacit_mae_loss_declare(const tacit_mae_target *target, size_t max_batch, tacit_work *work);

/* images (batch, 3, image, image), mask (batch, masked): the patches that are predicted,
 * predictions (batch * masked, 3 patch^2), rows ld apart. Gives the loss over `of` >= batch images,
 * of which these may be a part: parts add up. The predictions become their gradients. */
double tacit_mae_loss(const tacit_mae_target *target, const tacit_work *work, const float *images,
                      size_t batch, const uint32_t *mask, size_t masked, size_t of,
                      float *predictions, size_t ld);

/* A prediction (3 patch^2) of patch `index` of an image (3, image, image) becomes pixels as those
 * of the image are: normalisation, where it is in the target, is undone by the patch's own mean and
 * variance. */
void tacit_mae_pixels(const tacit_mae_target *target, const float *image, size_t index,
                      float *prediction);

#endif
