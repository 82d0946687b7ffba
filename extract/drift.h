/* drift.h - how far the vectors of some images are from other vectors of the same images: those of
 * a network in int8 from those in fp32.
 *
 * Three questions: does each vector still point where it did, does each image still have the
 * neighbours that it had, and do these still tell the class that they told. Neighbours are those of
 * knn.h, exact, each image without itself. All is computed in double, in the order of the rows: the
 * answer is the same for every ISA and number of threads.
 */
#ifndef TACIT_DRIFT_H
#define TACIT_DRIFT_H

#include "kernels.h"
#include "pool.h"
#include "status.h"

#include <stddef.h>

typedef struct tacit_drift {
    size_t rows, k;    /* k: neighbours compared, at most rows - 1 */
    double mean;       /* of the cosines of each row with its other self: 1 for equal rows, also for
                          zeros, and 0 where one of them is zero */
    double worst;      /* the least of them */
    size_t worst_row;  /* the first that has it */
    double shared;     /* of its k nearest, the share that a row has in both sets; mean over rows */
    double same_first; /* the share of rows whose nearest is the same in both */
    double same_class; /* the share of rows that are of one class in both by the votes of their k
                          nearest (tacit_knn_vote), where classes are known */
} tacit_drift;

/* Of a and b (rows, dim), and of each row's class below `classes`, or NULL. TACIT_EINVAL for fewer
 * than two rows, or none of dim and k; TACIT_EFORMAT where a vector is not finite or longer than
 * 1e18. */
tacit_status tacit_drift_measure(tacit_drift *drift, const float *a, const float *b, size_t rows,
                                 size_t dim, size_t k, const uint32_t *class_of, size_t classes,
                                 const tacit_kernels *kernels, tacit_pool *pool, tacit_err *err);

#endif
