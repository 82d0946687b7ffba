/* loss_infonce.h - InfoNCE, the contrastive loss of MoCo (van den Oord et al. 2018,
 * arXiv:1807.03748; He et al. 2020, arXiv:1911.05722, eq. 1).
 *
 * A query tells its own key from all others: with unit vectors u and k, the cross entropy of
 * u k^T / temperature with the own key as label. Keys are constants. The own keys stand apart from
 * the others, in front of a queue (MoCo v1 and v2), or are among them, row by row (v3).
 */
#ifndef TACIT_LOSS_INFONCE_H
#define TACIT_LOSS_INFONCE_H

#include "dense.h"

typedef struct tacit_infonce {
    size_t max_rows, max_keys, dim;
    double temperature;
    const tacit_work *work;
    float *by_row, *by_column; /* the keys, packed: (keys, dim), and transposed */
    float *losses;             /* (max_rows) */
} tacit_infonce;

/* temperature > 0. Before work is opened, of which a worker's scores are taken. */
void tacit_infonce_init(tacit_infonce *loss, size_t max_rows, size_t max_keys, size_t dim,
                        double temperature, tacit_work *work);
bool tacit_infonce_plan(const tacit_infonce *loss, size_t *total);
void tacit_infonce_take(tacit_infonce *loss, tacit_arena *arena);

/* The sum over the rows, times factor. q (rows, dim): queries as the head gives them; their
 * gradient goes to dq (rows, dim). keys (count, dim): of unit norm. own (rows, dim), too: each
 * query's own key; NULL: row i's is keys' row i. All rows are tight. */
double tacit_infonce_loss(const tacit_infonce *loss, size_t rows, const float *q, const float *own,
                          size_t count, const float *keys, double factor, float *dq);

#endif
