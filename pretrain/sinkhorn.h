/* sinkhorn.h - soft assignments of rows to columns that use all columns alike: Sinkhorn and Knopp,
 * as SwAV has them (Caron et al. 2020, arXiv:2006.09882, section 3.1; Cuturi 2013,
 * arXiv:1306.0895).
 *
 * Q = exp(s / epsilon); so many times: every column of Q is divided by its sum, then every row by
 * its own. Rows sum to 1 behind the last time, columns nearly to rows / columns. With no time at
 * all Q is the softmax of each row alone.
 *
 * No exp overflows, however small epsilon is: Q is kept as the rows' softmax P, a factor for each
 * row and one for each column, and the factors, in double, are all that changes.
 */
#ifndef TACIT_SINKHORN_H
#define TACIT_SINKHORN_H

#include "dense.h"

typedef struct tacit_sinkhorn {
    size_t max_rows, columns, iterations;
    double epsilon;
    const tacit_work *work;
    double *most, *by_row; /* (max_rows): each row's largest score, its factor */
    double *by_column;     /* (columns) */
} tacit_sinkhorn;

/* max_rows: of any call; epsilon > 0. */
void tacit_sinkhorn_init(tacit_sinkhorn *sinkhorn, size_t max_rows, size_t columns, double epsilon,
                         size_t iterations, const tacit_work *work);
bool tacit_sinkhorn_plan(const tacit_sinkhorn *sinkhorn, size_t *total);
void tacit_sinkhorn_take(tacit_sinkhorn *sinkhorn, tacit_arena *arena);

/* scores (rows, columns), tight, of up to 1e6 epsilon, become the assignments; rows > 0. */
void tacit_sinkhorn_run(const tacit_sinkhorn *sinkhorn, size_t rows, float *scores);

#endif
