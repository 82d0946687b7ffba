/* trainer.h - a run from its first step to its last: data, log, checkpoints, monitors, stops.
 *
 * A run that was killed at any instant and resumed ends with the weights, the optimiser's state
 * and, but for times, the log of one that was not; threads and ISA may differ.
 */
#ifndef TACIT_TRAINER_H
#define TACIT_TRAINER_H

#include "engine.h"

#include <stdatomic.h>

typedef struct tacit_progress {
    const tacit_step *step;
    uint64_t steps;  /* of the run, or up to where this process goes */
    double images_s; /* of late */
} tacit_progress;

typedef struct tacit_trainer_options {
    tacit_config *config; /* settings that follow from files are pinned in it */
    const char *out;      /* the run's folder */
    bool resume;
    const tacit_feed *feed; /* in place of the setting images; or NULL */
    uint64_t stop_after;    /* go no further than this step; 0: to the end */
    const tacit_kernels *kernels;
    tacit_pool *pool;
    const atomic_int *stop; /* not 0: save and leave; may be NULL */
    void *ctx;
    void (*say)(void *ctx, const char *line); /* may be NULL; from any thread, one at a time */
    void (*progress)(void *ctx, const tacit_progress *progress); /* may be NULL */
} tacit_trainer_options;

typedef struct tacit_trainer_result {
    uint64_t first, step, steps; /* done before, done now, of the run */
    double loss;                 /* of the last step, where there was one */
    double seconds, images_s;
    double knn_top1;   /* of the last classification, percent */
    size_t knn_rows;   /* 0: there was none                   */
    size_t bad_images; /* that came up and could not be used */
} tacit_trainer_result;

/* TACIT_ECANCELLED where `stop` ended it; what is done is saved then. */
tacit_status tacit_train(const tacit_trainer_options *options, tacit_trainer_result *result,
                         tacit_err *err);

/* What a run would take; the time is measured on noise. */
typedef struct tacit_estimate {
    char arch[64];
    uint64_t images, steps, epoch_steps;
    size_t trained, backbone; /* numbers */
    size_t parameter_bytes, activation_bytes, loader_bytes;
    size_t peak_bytes;   /* of the process: these, the program and the data set */
    double flops, bytes; /* of a step */
    double step_s;       /* without the data; 0: the machine has not the memory to try */
    size_t machine_bytes;
} tacit_estimate;

/* options->out is not touched. */
tacit_status tacit_train_estimate(const tacit_trainer_options *options, tacit_estimate *estimate,
                                  tacit_err *err);

#endif
