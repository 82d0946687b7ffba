/* whiten.h - PCA whitening of the features of a data set, to unit vectors: what DeepCluster
 * clusters (Caron et al. 2018, arXiv:1807.05520, section 3.4; facebookresearch/deepcluster,
 * clustering.py, preprocess_features; faiss' PCAMatrix with an eigen_power of -1/2).
 *
 * y = M (x - mean) / |M (x - mean)|: the rows of M are the principal directions of the centred
 * rows, those with the largest variance first, each over its deviation. A direction whose variance
 * is below 1e-6 of the largest is left out, as 0: it is noise of rounding. Bound: 2 rows in^2 FLOP,
 * and 8 in^3 on one thread.
 */
#ifndef TACIT_WHITEN_H
#define TACIT_WHITEN_H

#include "dense.h"

typedef struct tacit_whiten {
    size_t in, out; /* values of a row; out <= in */
    const tacit_work *work;
    float *mean;            /* (in) */
    float *matrix, *packed; /* (out, in): M, up to a factor; and its pack */
    float *products;        /* (in, in): x^T x */
    double *covariance, *vectors, *values, *scratch;
} tacit_whiten;

void tacit_whiten_init(tacit_whiten *whiten, size_t in, size_t out, tacit_work *work);
bool tacit_whiten_plan(const tacit_whiten *whiten, size_t *total);
void tacit_whiten_take(tacit_whiten *whiten, tacit_arena *arena);

/* x (rows, in), tight, has its mean taken away; y (rows, out). rows > 0. */
void tacit_whiten_run(const tacit_whiten *whiten, size_t rows, float *x, float *y);

#endif
