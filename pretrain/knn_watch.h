/* knn_watch.h - how well the backbone's features tell labelled images apart while it trains.
 *
 * The images are embedded as tacit extract would, by the backbone that the run has written; each is
 * classified by its k nearest among the others.
 */
#ifndef TACIT_KNN_WATCH_H
#define TACIT_KNN_WATCH_H

#include "kernels.h"
#include "pool.h"
#include "status.h"

typedef struct tacit_knn_watch_options {
    const char *images;
    size_t k;
    double temperature;
    const tacit_kernels *kernels;
    tacit_pool *pool;
} tacit_knn_watch_options;

/* Whether the images are there and the first has a label: to be known before a long run. */
tacit_status tacit_knn_watch_check(const char *images, tacit_err *err);

/* weights: a checkpoint. top1: percent. Images without a label, or only one class, are
 * TACIT_EINVAL; images that cannot be used are left out. */
tacit_status tacit_knn_watch(const tacit_knn_watch_options *options, const char *weights,
                             double *top1, size_t *rows, tacit_err *err);

#endif
