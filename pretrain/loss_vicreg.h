/* loss_vicreg.h - VICReg's loss: variance, invariance, covariance (Bardes et al. 2021,
 * arXiv:2105.04906, eqs. 1 to 6, with the weights and means of facebookresearch/vicreg).
 *
 * Of two views X and Y (N, D), with the variance of columns over N - 1:
 *   invariance = mean over N D of (X - Y)^2,
 *   variance = 1/2 (v(X) + v(Y)), v(X) = mean_j max(0, 1 - sqrt(Var_j(X) + 1e-4)),
 *   covariance = c(X) + c(Y), c(X) = 1/D sum_(i != j) Cov_ij(X)^2,
 *   L = a invariance + b variance + c covariance.
 */
#ifndef TACIT_LOSS_VICREG_H
#define TACIT_LOSS_VICREG_H

#include "correlation.h"

enum {
    TACIT_VICREG_INVARIANCE,
    TACIT_VICREG_VARIANCE,
    TACIT_VICREG_COVARIANCE,
    TACIT_VICREG_PARTS
};

typedef struct tacit_vicreg {
    size_t max_rows, dim;
    double weight[TACIT_VICREG_PARTS];
    tacit_correlation correlation;
    float *centred, *pull; /* (max_rows, D) of one view; (D): the variance term's factor of it */
    float *mean, *ones, *zeros; /* (D) */
    double *sums;               /* (2, D) */
} tacit_vicreg;

/* max_rows: of N. weight is set by the caller. */
void tacit_vicreg_init(tacit_vicreg *loss, size_t max_rows, size_t dim, const tacit_work *work);
bool tacit_vicreg_plan(const tacit_vicreg *loss, size_t *total);
void tacit_vicreg_take(tacit_vicreg *loss, tacit_arena *arena);

/* z, dz: (2, n, D), tight, first X, then Y; n > 1. Gives L; parts (TACIT_VICREG_PARTS) gets the
 * three terms without their weights. */
double tacit_vicreg_loss(const tacit_vicreg *loss, size_t n, const float *z, float *dz,
                         double *parts);

#endif
