/* logistic.h - multinomial logistic regression on a labelled set.
 *
 * Minimises mean_n CE(W x_n + b, y_n) + |W|^2 / (2 C N) over the N rows that take part:
 * scikit-learn's LogisticRegression with the same C; the bias is not penalised, and the vectors are
 * taken as they are. The problem is convex (strictly in W), so how it is solved does not show in
 * the result:
 *  - b is moved to b + W m, m about the mean of the vectors, so that it has little to do with W;
 *  - L-BFGS is preconditioned with the Hessian at W = 0, cov(x) / classes + 1 / (C N), of a sample
 *    of the rows, which takes away what differs in scale between directions of x.
 */
#ifndef TACIT_LOGISTIC_H
#define TACIT_LOGISTIC_H

#include "labels.h"

typedef struct tacit_logistic tacit_logistic;

typedef struct tacit_logistic_fit {
    double objective; /* with the penalty */
    unsigned steps, evaluations;
    bool converged;
} tacit_logistic_fit;

/* vectors and labels must stay. TACIT_EINVAL where there are less than two classes. */
tacit_status tacit_logistic_open(tacit_logistic **problem, const tacit_vectors *vectors,
                                 const tacit_labels *labels, const tacit_kernels *kernels,
                                 tacit_pool *pool, tacit_err *err);
void tacit_logistic_close(tacit_logistic **problem);

/* Back to zero. */
void tacit_logistic_restart(tacit_logistic *problem);

/* From where the last solve ended, or from zero. left_out: rows that do not take part, NULL: all
 * do. */
tacit_status tacit_logistic_solve(tacit_logistic *problem, double c, const bool *left_out,
                                  unsigned max_steps, double tolerance, tacit_logistic_fit *fit,
                                  tacit_err *err);

/* Copies weight (classes, dim) and bias (classes). */
void tacit_logistic_result(const tacit_logistic *problem, float *weight, float *bias);

#endif
