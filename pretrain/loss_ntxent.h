/* loss_ntxent.h - NT-Xent, the contrastive loss of SimCLR (Chen et al. 2020, arXiv:2002.05709, eq.
 * 1).
 *
 * Of 2N embeddings row i and row i + N are two views of one image. With unit vectors u and
 * s = u u^T / temperature without its diagonal, L = the mean over the 2N rows of the cross entropy
 * with the other view as label. (google-research/simclr adds its two directions up: twice this.)
 * s is made in blocks of rows and never whole, so that memory grows with N, not N^2.
 */
#ifndef TACIT_LOSS_NTXENT_H
#define TACIT_LOSS_NTXENT_H

#include "dense.h"

typedef struct tacit_ntxent {
    size_t max_rows, dim; /* 2N at most */
    double temperature;
    const tacit_work *work;
    float *unit, *scaled, *by_row, *by_column; /* u, u / temperature, and its two packs */
    float *own, *others;                       /* gradients of u as row, and as column  */
    float *scores, *losses;                    /* a block's, and all rows'              */
} tacit_ntxent;

/* rows: the most of a call, 2N; temperature > 0. */
void tacit_ntxent_init(tacit_ntxent *loss, size_t max_rows, size_t dim, double temperature,
                       const tacit_work *work);
bool tacit_ntxent_plan(const tacit_ntxent *loss, size_t *total);
void tacit_ntxent_take(tacit_ntxent *loss, tacit_arena *arena);

/* z (rows, dim), rows even and at least 2: embeddings as the head gives them, ldz apart. Gives the
 * loss; dz (rows, dim), lddz apart, may be z. */
double tacit_ntxent_loss(const tacit_ntxent *loss, size_t rows, const float *z, size_t ldz,
                         float *dz, size_t lddz);

#endif
