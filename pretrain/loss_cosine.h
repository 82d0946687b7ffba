/* loss_cosine.h - the distance of predictions from targets on the unit sphere, BYOL's loss (Grill
 * et al. 2020, arXiv:2006.07733, eq. 2): |p / |p| - t / |t||^2 = 2 - 2 cos(p, t), summed over rows.
 *
 * Of the patches of a teacher's features it is MaskFeat's (Wei et al. 2021, arXiv:2112.09133,
 * section 3.2, deep features).
 */
#ifndef TACIT_LOSS_COSINE_H
#define TACIT_LOSS_COSINE_H

#include "dense.h"

/* p, target, dp: (rows, dim), tight. Gives the sum of the distances times factor, and its gradient
 * in dp, which may be p. target is overwritten. */
double tacit_cosine_loss(const tacit_work *work, size_t rows, size_t dim, const float *p,
                         float *target, double factor, float *dp);

/* What the next needs of the work's scratch, for batches up to max_batch. */
void tacit_cosine_patches_declare(size_t max_batch, tacit_work *work);

/* The mean over masked patches, times share. Rows first[i] to first[i + 1] of the predictions, ld
 * apart, are of image i, of the patches that `patches` has there; features (batch, count, dim) has
 * all of them, and is overwritten. The predictions become the gradients. 0 where there are no rows.
 */
double tacit_cosine_patches_loss(const tacit_work *work, size_t batch, const uint32_t *first,
                                 const uint32_t *patches, size_t count, size_t dim, double share,
                                 float *features, float *predictions, size_t ld);

#endif
