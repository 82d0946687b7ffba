/* lbfgs.h - minimise a smooth function of many variables: L-BFGS (Liu and Nocedal 1989) with a
 * preconditioner and a line search for the strong Wolfe conditions (Nocedal and Wright, "Numerical
 * Optimization", 2nd edition, algorithms 3.5, 3.6 and 7.4).
 */
#ifndef TACIT_LBFGS_H
#define TACIT_LBFGS_H

#include "kernels.h"
#include "status.h"

#include <stdbool.h>

typedef struct tacit_lbfgs {
    size_t n;
    /* The value at x, and the gradient there. */
    double (*evaluate)(void *ctx, const float *x, float *gradient);
    /* y = an approximation of the inverse Hessian, times x. */
    void (*precondition)(void *ctx, const float *x, float *y);
    /* A step along direction to try first, while there is little curvature to go by; may be NULL.
     */
    double (*guess)(void *ctx, const float *x, const float *direction, double slope);
    void *ctx;
    const tacit_kernels *kernels;
    unsigned pairs; /* steps that are remembered */
    unsigned max_steps;
    /* Stops where the decrease that the quadratic model still promises is below this share of the
     * value. */
    double tolerance;
} tacit_lbfgs;

typedef struct tacit_lbfgs_result {
    double value;
    unsigned steps, evaluations;
    bool converged;
} tacit_lbfgs_result;

/* Floats that a run allocates. */
size_t tacit_lbfgs_floats(size_t n, unsigned pairs);

/* From x to the minimum, in place. Not to converge within max_steps is no failure. */
tacit_status tacit_lbfgs_minimize(const tacit_lbfgs *problem, float *x, tacit_lbfgs_result *result,
                                  tacit_err *err);

#endif
