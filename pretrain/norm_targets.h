/* norm_targets.h - pixels normalised by the window around them (microsoft/SimMIM, norm_targets of
 * models/simmim.py): y = (x - mean) / sqrt(variance + 1e-6), over what of the window lies in the
 * image, the variance unbiased and no less than 0. Sums are in double.
 */
#ifndef TACIT_NORM_TARGETS_H
#define TACIT_NORM_TARGETS_H

#include <stddef.h>

/* Doubles of scratch for images size wide. */
size_t tacit_norm_targets_scratch(size_t size);

/* A plane x (size, size), window odd and above 1, to y; and the mean and the root of each pixel
 * where those are not NULL. */
void tacit_norm_targets(size_t size, size_t window, const float *x, float *y, float *mean,
                        float *root, double *scratch);

#endif
