/* loss_clusters.h - the cross entropy of embeddings with the clusters that they were put in, by
 * several clusterings: the loss of DeepCluster-v2 (Caron et al. 2020, arXiv:2006.09882;
 * facebookresearch/swav, main_deepclusterv2.py).
 *
 * With unit vectors u = z / |z|, and for each head its centroids C (clusters, dim), which are
 * constant: L = weight / heads * sum over heads and rows of the cross entropy of u C^T /
 * temperature with the row's label. Rows without a label add nothing. Scores are made for some rows
 * at a time and never whole. Bound: 4 rows clusters dim FLOP for each head.
 */
#ifndef TACIT_LOSS_CLUSTERS_H
#define TACIT_LOSS_CLUSTERS_H

#include "dense.h"

#define TACIT_CLUSTER_HEADS 8
#define TACIT_NO_CLUSTER    UINT32_MAX

typedef struct tacit_cluster_loss {
    size_t max_rows, dim, heads;
    size_t clusters[TACIT_CLUSTER_HEADS];
    double temperature;
    const tacit_work *work;
    float *by_row[TACIT_CLUSTER_HEADS], *by_column[TACIT_CLUSTER_HEADS]; /* the centroids' packs */
    float *losses;                                                       /* (max_rows, heads) */
} tacit_cluster_loss;

/* temperature > 0, 0 < heads <= TACIT_CLUSTER_HEADS. */
void tacit_cluster_loss_init(tacit_cluster_loss *loss, size_t max_rows, size_t dim, size_t heads,
                             const size_t *clusters, double temperature, tacit_work *work);
bool tacit_cluster_loss_plan(const tacit_cluster_loss *loss, size_t *total);
void tacit_cluster_loss_take(tacit_cluster_loss *loss, tacit_arena *arena);

/* z (rows, dim), tight; centroids (clusters, dim) and labels (rows), below clusters or
 * TACIT_NO_CLUSTER, of each head. Gives the loss; dz (rows, dim) may be z. */
double tacit_cluster_loss_run(const tacit_cluster_loss *loss, size_t rows, const float *z,
                              const float *const *centroids, const uint32_t *const *labels,
                              double weight, float *dz);

#endif
