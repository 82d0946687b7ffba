/* cosine.h - all cosine similarities of queries with a base, block by block, in bounded memory.
 *
 * The similarity of x and y is dot(x, y) / (|x| |y|), computed in double from the vectors as they
 * are (tacit_cosine); a length below 1e-12 counts as 1e-12, so a zero vector is at 0 from all. The
 * blocks hold float32 products of the normalised vectors, each within tacit_cosine_error of that:
 * they tell which pairs to look at, and cost 2 dim FLOP a pair.
 */
#ifndef TACIT_COSINE_H
#define TACIT_COSINE_H

#include "vectors.h"

/* Scores (count) of a query with base rows first, first + 1, ... For one query the calls come one
 * after the other, first ascending; for different queries from several threads at once. worker: as
 * in pool.h. */
typedef void tacit_cosine_visit(void *ctx, size_t query, size_t first, size_t count,
                                const float *scores, unsigned worker);

typedef struct tacit_sweep {
    const tacit_vectors *base, *query; /* may be the same */
    const tacit_kernels *kernels;
    tacit_pool *pool;
    size_t block;  /* base rows that are packed at a time */
    float *packed; /* (block, dim) */
    float *work;   /* (workers, tacit_sweep_work) */
} tacit_sweep;

tacit_status tacit_sweep_open(tacit_sweep *sweep, const tacit_vectors *base,
                              const tacit_vectors *query, const tacit_kernels *kernels,
                              tacit_pool *pool, tacit_err *err);
void tacit_sweep_close(tacit_sweep *sweep);

/* Visits all pairs of queries [from, from + count) with the base; with `upper` at least those whose
 * base row is behind the query. */
void tacit_sweep_run(const tacit_sweep *sweep, size_t from, size_t count, bool upper,
                     tacit_cosine_visit *visit, void *ctx);

#define TACIT_SWEEP_COLUMNS 256 /* most scores of a visit */

/* The bound of |score - similarity|. */
float tacit_cosine_error(size_t dim);

/* The similarity of x, of that length, with a row of v; scratch has room for dim floats. */
double tacit_cosine(const float *x, double norm, const tacit_vectors *v, size_t row,
                    const tacit_kernels *kernels, float *scratch);

#endif
