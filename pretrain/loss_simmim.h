/* loss_simmim.h - the loss of SimMIM (Xie et al. 2021, arXiv:2111.09886, eq. 1, as microsoft/SimMIM
 * has it): L = sum |x - y| / (m + 1e-5) / 3 over the values of masked patches, m their pixels.
 */
#ifndef TACIT_LOSS_SIMMIM_H
#define TACIT_LOSS_SIMMIM_H

#include "dense.h"

/* What the loss needs of the work's scratch, for batches up to max_batch. */
void tacit_simmim_loss_declare(size_t max_batch, tacit_work *work);

/* images (batch, 3, image, image), of patches `patch` wide. Rows first[i] to first[i + 1] of the
 * predictions, ld apart, are of image i, of the patches that `patches` has there: (3 patch^2),
 * channels before rows before columns. Gives these images' share of the loss over m pixels, so that
 * parts of a batch add up. The predictions become their gradients, which are 0 where |x - y| is. */
double tacit_simmim_loss(const tacit_work *work, const float *images, size_t image, size_t patch,
                         size_t batch, const uint32_t *first, const uint32_t *patches, double m,
                         float *predictions, size_t ld);

#endif
