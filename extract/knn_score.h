/* knn_score.h - accuracy of the k-NN classifier, for several k of one search. */
#ifndef TACIT_KNN_SCORE_H
#define TACIT_KNN_SCORE_H

#include "knn.h"
#include "score.h"

typedef struct tacit_knn_score {
    size_t k; /* as asked; where there are fewer neighbours, all of them vote */
    tacit_score weighted, majority;
} tacit_knn_score;

/* Sees every block of neighbours in order, (count, k); fails to stop. */
typedef tacit_status tacit_knn_tap(void *ctx, const tacit_neighbor *found, size_t count, size_t k,
                                   tacit_err *err);

/* Searches to the end, and fills scores[i] for ks[i], none of them above the k of the search. base
 * and query (the same where rows leave themselves out) must have the same classes, and stay. tap
 * may be NULL. Where it fails nothing is left to close. */
tacit_status tacit_knn_classify(tacit_knn *knn, const tacit_labels *base, const tacit_labels *query,
                                const size_t *ks, size_t count, double temperature,
                                tacit_knn_score *scores, tacit_knn_tap *tap, void *ctx,
                                tacit_pool *pool, tacit_err *err);
void tacit_knn_scores_close(tacit_knn_score *scores, size_t count);

#endif
