/* row_moves.h - rows of activations to and from other places, in chunks for a pool.
 *
 * Rows have n values and lie ld apart on both sides, which do not overlap. An index has a place for
 * each row, and is the caller's.
 */
#ifndef TACIT_ROW_MOVES_H
#define TACIT_ROW_MOVES_H

#include "kernels.h"
#include "pool.h"

/* y's row r = x's row index[r], or where index is NULL x's row r. */
void tacit_rows_gather(tacit_pool *pool, size_t rows, size_t n, size_t ld, const uint32_t *index,
                       const float *x, float *y);

/* y's row index[r] = x's row r, all different; the others of `all` rows are 0. */
void tacit_rows_scatter(tacit_pool *pool, size_t all, size_t rows, size_t n, size_t ld,
                        const uint32_t *index, const float *x, float *y);

/* For tacit_rows_unite: the rows r with source[r] = u, rising, are members[first[u]] to
 * members[first[u + 1] - 1]. first (origins + 1), members (rows); every source < origins. */
void tacit_rows_members(size_t rows, const uint32_t *source, size_t origins, uint32_t *first,
                        uint32_t *members);

/* The gradient of a gather: y's row u = the sum of the rows of x that are u's members, in order. */
void tacit_rows_unite(const tacit_kernels *kernels, tacit_pool *pool, size_t origins, size_t n,
                      size_t ld, const uint32_t *first, const uint32_t *members, const float *x,
                      float *y);

#endif
