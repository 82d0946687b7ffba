/* knn.h - the k nearest vectors by cosine similarity, exactly, and how they vote.
 *
 * The k found are those of an exhaustive search in double (cosine.h), of equal similarity the lower
 * row first. Memory does not grow with the queries.
 */
#ifndef TACIT_KNN_H
#define TACIT_KNN_H

#include "vectors.h"

typedef struct tacit_neighbor {
    double similarity;
    uint32_t row;
} tacit_neighbor;

typedef struct tacit_knn tacit_knn;

/* query NULL: the base itself, each row without itself. k may be larger than there are others. */
tacit_status tacit_knn_open(tacit_knn **knn, const tacit_vectors *base, const tacit_vectors *query,
                            size_t k, const tacit_kernels *kernels, tacit_pool *pool,
                            tacit_err *err);
void tacit_knn_close(tacit_knn **knn);

/* Neighbours of each query: min(k, rows there are); and the most queries of a call of next. */
size_t tacit_knn_k(const tacit_knn *knn);
size_t tacit_knn_most(const tacit_knn *knn);

/* The next queries: rows [*from, *from + count), and found (count, k), nearest first, valid until
 * the next call. Returns count, 0 at the end. */
size_t tacit_knn_next(tacit_knn *knn, size_t *from, const tacit_neighbor **found);

/* Votes (classes) of the k nearest for their classes: of weight exp(similarity / temperature), up
 * to a factor (Wu et al. 2018, arXiv:1805.01978, as in DINO), or 1 each for temperature 0. */
void tacit_knn_vote(const tacit_neighbor *found, size_t k, const uint32_t *class_of,
                    double temperature, double *votes, size_t classes);

#endif
