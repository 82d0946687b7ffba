/* loss_cosine.h - the distance of predictions from targets on the unit sphere, BYOL's loss (Grill
 * et al. 2020, arXiv:2006.07733, eq. 2): |p / |p| - t / |t||^2 = 2 - 2 cos(p, t), summed over rows.
 */
#ifndef TACIT_LOSS_COSINE_H
#define TACIT_LOSS_COSINE_H

#include "dense.h"

/* p, target, dp: (rows, dim), tight. Gives the sum of the distances times factor, and its gradient
 * in dp, which may be p. target is overwritten. */
double tacit_cosine_loss(const tacit_work *work, size_t rows, size_t dim, const float *p,
                         float *target, double factor, float *dp);

#endif
