/* loss_smooth_l1.h - the distance that is quadratic near 0 and linear beyond 1 (Girshick 2015,
 * arXiv:1504.08083, eq. 3), of predictions from targets: with d = x - t, d^2 / 2 where |d| < 1,
 * else |d| - 1/2. PyTorch's smooth_l1_loss with beta = 1.
 */
#ifndef TACIT_LOSS_SMOOTH_L1_H
#define TACIT_LOSS_SMOOTH_L1_H

#include "dense.h"

/* What the loss needs of the work's scratch, for up to max_rows. */
void tacit_smooth_l1_declare(size_t max_rows, tacit_work *work);

/* x and t (rows, dim), rows ld apart. Gives factor times the sum over all values; x becomes its
 * gradient. */
double tacit_smooth_l1_loss(const tacit_work *work, size_t rows, size_t dim, float *x,
                            const float *t, size_t ld, double factor);

#endif
