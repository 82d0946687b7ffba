/* dups.h - inputs that are the same, or nearly: groups of equal files and of near vectors.
 *
 * Two inputs are linked where the xxh3 of their bytes are equal (also inputs that gave no vector),
 * or where the cosine similarity of their vectors (cosine.h) is at least a threshold; a group is
 * all that links connect. So two members of a group may be further apart than the threshold.
 */
#ifndef TACIT_DUPS_H
#define TACIT_DUPS_H

#include "vectors.h"

#define TACIT_NO_ROW UINT32_MAX

typedef struct tacit_dup {
    size_t group;              /* from 0, in the order of their first members */
    uint32_t input;            /* line of index.tsv, from 0; for a bare .npy the row */
    uint32_t row;              /* TACIT_NO_ROW: it has no vector */
    double similarity;         /* to the group's first vector; NaN where there is no vector */
    char *path, *label, *hash; /* as in index.tsv; empty for a bare .npy */
} tacit_dup;

typedef struct tacit_dups {
    size_t inputs, groups, exact; /* exact: groups all of whose files are equal */
    size_t count;
    tacit_dup *members; /* (count), by group, then by input */
    bool *same;         /* (groups): whether all files are equal */
} tacit_dups;

/* Every pair is compared: rows^2 dim FLOP. */
tacit_status tacit_dups_open(tacit_dups **dups, const tacit_vectors *vectors, double threshold,
                             const tacit_kernels *kernels, tacit_pool *pool, tacit_err *err);
void tacit_dups_close(tacit_dups **dups);

#endif
