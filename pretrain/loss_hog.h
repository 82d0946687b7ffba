/* loss_hog.h - MaskFeat's targets and loss (Wei et al. 2021, arXiv:2112.09133, section 3.2).
 *
 * The target of a patch are the histograms of oriented gradients of its cells, each colour for
 * itself, made of the whole image as the network has it (hog_f32): of each cell 9 values of length
 * 1, or 0 where all is flat; in the order (colour, bin, row, column of the cell), as masked.py of
 * facebookresearch/SlowFast has them. L = the mean of (prediction - target)^2 over all values of
 * all masked patches.
 */
#ifndef TACIT_LOSS_HOG_H
#define TACIT_LOSS_HOG_H

#include "dense.h"

typedef struct tacit_hog_target {
    size_t image, patch, cell; /* height and width; each is divided by the one behind it */
} tacit_hog_target;

/* Values of a patch: 27 (patch / cell)^2; and of an image. */
size_t tacit_hog_values(const tacit_hog_target *target);
size_t tacit_hog_image_values(const tacit_hog_target *target);

/* Of an image (3, image, image), all: cells (3, image / cell, image / cell, 9). */
void tacit_hog_image(const tacit_hog_target *target, const tacit_kernels *kernels,
                     const float *image, float *cells);
/* From those, of patch `index`. */
void tacit_hog_patch(const tacit_hog_target *target, const float *cells, size_t index,
                     float *values);

/* What the loss needs of the work's scratch, for batches up to max_batch. */
void tacit_hog_loss_declare(const tacit_hog_target *target, size_t max_batch, tacit_work *work);

/* images (batch, 3, image, image). Rows first[i] to first[i + 1] of the predictions, ld apart, are
 * of image i, of the patches that `patches` has there. Gives share times the loss; the predictions
 * become its gradients. 0 where there are no rows. */
double tacit_hog_loss(const tacit_hog_target *target, const tacit_work *work, const float *images,
                      size_t batch, const uint32_t *first, const uint32_t *patches, double share,
                      float *predictions, size_t ld);

#endif
