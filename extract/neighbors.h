/* neighbors.h - the images nearest to each one of a folder that tacit extract wrote.
 *
 * As knn.h finds them, with the names that index.tsv has for the rows.
 */
#ifndef TACIT_NEIGHBORS_H
#define TACIT_NEIGHBORS_H

#include "knn.h"

typedef struct tacit_neighbors {
    size_t rows, k;          /* k is at most rows - 1 */
    char **paths;            /* (rows) */
    char **labels;           /* (rows), empty where the input has none */
    tacit_neighbor *nearest; /* (rows, k), nearest first */
} tacit_neighbors;

/* Reads DIR/embeddings.npy and DIR/index.tsv. */
tacit_status tacit_neighbors_open(tacit_neighbors **found, const char *dir, size_t k,
                                  const tacit_kernels *kernels, tacit_pool *pool, tacit_err *err);
void tacit_neighbors_close(tacit_neighbors **found);

#endif
