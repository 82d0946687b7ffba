/* probe.h - linear probes: a linear classifier of frozen vectors, its one free setting chosen on a
 * part of the training set that was held out, then trained with it on all of the set.
 *
 * A tenth of the rows is held out, drawn by the seed. Of settings that classify it equally well the
 * first is taken. With one setting there is nothing to choose, and nothing is held out. The test
 * set takes no part.
 */
#ifndef TACIT_PROBE_H
#define TACIT_PROBE_H

#include "classifier.h"

#define TACIT_PROBE_TRIALS 64

typedef struct tacit_probe_options {
    double values[TACIT_PROBE_TRIALS]; /* C of the L-BFGS probe, learning rates of the SGD probe */
    unsigned count;
    uint64_t seed;
    /* L-BFGS: each solve ends after so many steps, or before, by its tolerance (lbfgs.h). */
    unsigned max_steps;
    double tolerance;
    /* SGD */
    unsigned epochs, batch;
    bool batch_norm;
} tacit_probe_options;

typedef struct tacit_probe_trial {
    double value;
    double top1, top5; /* percent of the rows held out */
    bool finite;       /* false: it diverged */
} tacit_probe_trial;

typedef struct tacit_probe_result {
    tacit_probe_trial trials[TACIT_PROBE_TRIALS];
    unsigned count, chosen;
    size_t held_out;
    double loss;                 /* L-BFGS: the objective; SGD: the mean of the last epoch */
    unsigned steps, evaluations; /* of the last training; evaluations: L-BFGS */
    bool converged;              /* L-BFGS */
} tacit_probe_result;

/* What a probe works on. */
typedef struct tacit_probe_set {
    const tacit_vectors *vectors;
    const tacit_labels *labels;
    const tacit_kernels *kernels;
    tacit_pool *pool;
} tacit_probe_set;

/* Multinomial logistic regression (logistic.h), as DINOv2 and CLIP are evaluated. */
tacit_status tacit_probe_lbfgs(const tacit_probe_set *set, const tacit_probe_options *options,
                               tacit_classifier *classifier, tacit_probe_result *result,
                               tacit_err *err);

/* SGD with momentum 0.9 and a cosine schedule without warm-up, no weight decay, from zero, all
 * learning rates side by side over the same batches, as DINO and DINOv2 are evaluated. A learning
 * rate is for 256 rows and scaled to the batch. batch_norm: the vectors are standardised by each
 * batch, in the end by running statistics (torch.nn.BatchNorm1d without affine, eps 1e-6), as MAE
 * is evaluated; it becomes part of the classifier. */
tacit_status tacit_probe_sgd(const tacit_probe_set *set, const tacit_probe_options *options,
                             tacit_classifier *classifier, tacit_probe_result *result,
                             tacit_err *err);

/* For the probes: numbers 0 to n - 1 in an order drawn from (seed, stream). */
void tacit_shuffle(uint32_t *order, size_t n, uint64_t seed, uint64_t stream);

/* held (rows): which are held out; returns their number. scratch: rows numbers. */
size_t tacit_hold_out(bool *held, uint32_t *scratch, size_t rows, uint64_t seed);

/* Fills the accuracy of a trial from the rows held out. */
tacit_status tacit_probe_try(const tacit_probe_set *set, const tacit_classifier *classifier,
                             const bool *held, tacit_probe_trial *trial, tacit_err *err);

/* The best of the trials; TACIT_EINVAL where all have diverged. */
tacit_status tacit_probe_choose(tacit_probe_result *result, tacit_err *err);

#endif
