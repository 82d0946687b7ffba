/* loss_swav.h - SwAV's loss: the codes of a view are predicted from the other views (Caron et al.
 * 2020, arXiv:2006.09882, eqs. 1 and 2; facebookresearch/swav, main_swav.py).
 *
 * Of V views of N images with unit vectors u and prototypes C (K, dim), scores s = u C^T. The first
 * two views have codes q (N, K), constants, whose rows sum to 1. With p = softmax(s / temperature)
 *   L = 1/2 sum_(i < 2) 1/(V - 1) sum_(v != i) mean_n -sum_k q_i log p_v.
 * Scores are made in blocks of rows and never whole.
 */
#ifndef TACIT_LOSS_SWAV_H
#define TACIT_LOSS_SWAV_H

#include "dense.h"

#define TACIT_SWAV_CODES 2 /* views with codes */

typedef struct tacit_swav {
    size_t max_images, views, dim, prototypes;
    double temperature;
    const tacit_work *work;
    float *unit, *dunit;       /* (views, images, dim) */
    float *by_row, *by_column; /* the prototypes' packs */
    float *scores;             /* (a block, prototypes) */
    double *losses;            /* (views * images) */
} tacit_swav;

/* max_images: of any call; views >= 2, temperature > 0. */
void tacit_swav_init(tacit_swav *loss, size_t max_images, size_t views, size_t dim,
                     size_t prototypes, double temperature, const tacit_work *work);
bool tacit_swav_plan(const tacit_swav *loss, size_t *total);
void tacit_swav_take(tacit_swav *loss, tacit_arena *arena);

/* z (views, images, dim), as the head gives them, to loss->unit, and packs the prototypes (K, dim):
 * before the others. */
void tacit_swav_begin(const tacit_swav *loss, size_t images, const float *z,
                      const float *prototypes);
/* Scores (rows, K), tight, of unit vectors x (rows, dim). */
void tacit_swav_scores(const tacit_swav *loss, size_t rows, const float *x, float *scores);
/* The loss, with codes (2, images, K); dz, tight, gets the gradient of the z of begin, and the
 * prototypes' is added to dprototypes. */
double tacit_swav_loss(const tacit_swav *loss, size_t images, const float *z, const float *codes,
                       float *dz, float *dprototypes);

#endif
