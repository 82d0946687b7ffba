/* neighbors.h - the images nearest to each one of a folder that tacit extract wrote.
 *
 * By cosine similarity, exhaustively: rows^2 * dim multiply-adds. Of two that are equally near the
 * one of the lower row comes first. A vector that is not finite is nobody's neighbour.
 */
#ifndef TACIT_NEIGHBORS_H
#define TACIT_NEIGHBORS_H

#include "kernels.h"
#include "pool.h"
#include "status.h"

typedef struct tacit_neighbor {
    size_t row;
    float similarity;
} tacit_neighbor;

typedef struct tacit_neighbors {
    size_t rows, k;          /* k is at most rows - 1 */
    char **paths;            /* (rows) */
    char **labels;           /* (rows), empty where the input has none */
    tacit_neighbor *nearest; /* (rows, k), nearest first; rows of similarity -inf are none */
} tacit_neighbors;

/* Reads DIR/embeddings.npy and DIR/index.tsv. TACIT_EUNSUPPORTED where there is not one float32
 * vector an image. */
tacit_status tacit_neighbors_open(tacit_neighbors **found, const char *dir, size_t k,
                                  const tacit_kernels *kernels, tacit_pool *pool, tacit_err *err);
void tacit_neighbors_close(tacit_neighbors **found);

#endif
