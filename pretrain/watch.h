/* watch.h - signs of collapse in the features of a batch, and in what the loss is of. They change
 * nothing.
 *
 * Of u = x / |x|, for up to 128 rows: the spread sqrt(D) mean_d std(u_d), 0 where all are alike and
 * 1 for a round cloud (Chen and He 2020, arXiv:2011.10566); the effective rank exp(entropy of the
 * singular values / their sum) (Garrido et al. 2022, arXiv:2210.02885); alignment, the mean
 * |u_i - u_j|^2 of two views of an image, and uniformity, log mean exp(-2 |u_i - u_j|^2) of
 * different images (Wang and Isola 2020, arXiv:2005.10242).
 *
 * A head can collapse and leave the features as they were: of what the loss is of there are the
 * spread, or where lengths count the mean deviation of a column, and the effective rank about the
 * mean, which is 1 where all lies on a line.
 */
#ifndef TACIT_WATCH_H
#define TACIT_WATCH_H

#include "method.h"

#define TACIT_WATCH_ROWS 128

typedef struct tacit_watch {
    size_t room;         /* most floats of a row */
    double *unit, *gram; /* (TACIT_WATCH_ROWS, room), (TACIT_WATCH_ROWS, TACIT_WATCH_ROWS) */
    bool seen, pairs, seen_outputs;
    double spread, rank, alignment, uniformity; /* alignment of pairs only */
    double output_spread, output_rank;
} tacit_watch;

tacit_status tacit_watch_open(tacit_watch *watch, size_t dim, tacit_err *err);
void tacit_watch_close(tacit_watch *watch);

/* At least two rows are needed, of at most `dim`; else nothing is seen. */
void tacit_watch_look(tacit_watch *watch, const tacit_embeddings *embeddings);
/* The same for what the loss is of. */
void tacit_watch_look_outputs(tacit_watch *watch, const tacit_embeddings *outputs);

/* What collapsed, in words; NULL: nothing. */
const char *tacit_watch_collapse(const tacit_watch *watch);

#endif
