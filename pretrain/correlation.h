/* correlation.h - a loss of the products of embeddings' columns, and its gradient: what Barlow
 * Twins and VICReg decorrelate by.
 *
 * With A and B (n, dim), C = A^T B (dim, dim) is made in blocks of rows and never whole, so that
 * memory grows with dim, not dim^2. The method turns each row of C into its loss and that row of
 * the gradient G = dL/dC; then dA = B G^T and dB = A G. Bound: 6 n dim^2 FLOP, 4 where dB is not
 * asked for.
 */
#ifndef TACIT_CORRELATION_H
#define TACIT_CORRELATION_H

#include "dense.h"

typedef struct tacit_correlation {
    size_t max_rows, dim;
    const tacit_work *work;
    float *transposed;           /* (dim, max_rows): A */
    float *packed;               /* B */
    float *block, *packed_block; /* rows of C, then of G */
    double *losses;              /* (dim), of each row of C */
} tacit_correlation;

/* Turns row `row` of C, c (dim), into that of G, and gives its share of the loss. */
typedef double tacit_correlation_fn(const void *ctx, size_t row, float *c);

void tacit_correlation_init(tacit_correlation *correlation, size_t max_rows, size_t dim,
                            const tacit_work *work);
bool tacit_correlation_plan(const tacit_correlation *correlation, size_t *total);
void tacit_correlation_take(tacit_correlation *correlation, tacit_arena *arena);

/* a, b, da, db: (n, dim), tight; da and db overlap neither, db may be NULL. The turns come from
 * many threads. Gives the sum of the rows' losses. */
double tacit_correlation_loss(const tacit_correlation *correlation, size_t n, const float *a,
                              const float *b, tacit_correlation_fn *turn, const void *ctx,
                              float *da, float *db);

#endif
