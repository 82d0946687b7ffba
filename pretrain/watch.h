/* watch.h - signs of collapse in the features of a batch. They change nothing.
 *
 * Of u = x / |x|, for up to 128 rows: the spread sqrt(D) mean_d std(u_d), 0 where all are alike and
 * 1 for a round cloud (Chen and He 2020, arXiv:2011.10566); the effective rank exp(entropy of the
 * singular values / their sum) (Garrido et al. 2022, arXiv:2210.02885); alignment, the mean
 * |u_i - u_j|^2 of two views of an image, and uniformity, log mean exp(-2 |u_i - u_j|^2) of
 * different images (Wang and Isola 2020, arXiv:2005.10242).
 */
#ifndef TACIT_WATCH_H
#define TACIT_WATCH_H

#include "method.h"

#define TACIT_WATCH_ROWS 128

typedef struct tacit_watch {
    size_t room;         /* most floats of a row */
    double *unit, *gram; /* (TACIT_WATCH_ROWS, room), (TACIT_WATCH_ROWS, TACIT_WATCH_ROWS) */
    bool seen, pairs;
    double spread, rank, alignment, uniformity; /* alignment of pairs only */
} tacit_watch;

tacit_status tacit_watch_open(tacit_watch *watch, size_t dim, tacit_err *err);
void tacit_watch_close(tacit_watch *watch);

/* At least two rows are needed, of at most `dim`; else nothing is seen. */
void tacit_watch_look(tacit_watch *watch, const tacit_embeddings *embeddings);

/* Whether all features are nearly the same. */
bool tacit_watch_collapsed(const tacit_watch *watch);

#endif
