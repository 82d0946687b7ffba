/* kmeans.h - k-means (Lloyd 1982) over the features of a data set, Euclidean or of unit vectors.
 *
 * Euclidean: a row belongs to the centroid at the least distance, a centroid is the mean of its
 * rows; where it has none, a large cluster is split in two, as faiss does (Clustering.cpp):
 * the clusters are gone through, each taken with probability (its rows - 1) / (rows - clusters),
 * and the empty one becomes a copy of the one taken, their values by turns 1 +- 1/1024 times it.
 *
 * Spherical: the largest product counts, a centroid is the mean of its rows at length 1, and with
 * no rows it stays (facebookresearch/swav, main_deepclusterv2.py, cluster_memory).
 *
 * The first centroids are rows, no row twice. Of centroids that are as near the first is taken. The
 * result is a function of (seed, stream) and the values: not of threads or ISA. Bound of an
 * iteration: 2 rows clusters dim FLOP.
 */
#ifndef TACIT_KMEANS_H
#define TACIT_KMEANS_H

#include "dense.h"

typedef struct tacit_kmeans {
    size_t max_rows, max_clusters, dim;
    bool spherical;
    const tacit_work *work;
    float *packed;   /* the centroids */
    float *bias;     /* (max_clusters): Euclidean, -|c|^2 / 2 */
    uint32_t *order; /* (max_rows): rows by cluster */
    size_t *first;   /* (max_clusters + 1): where a cluster's rows begin in order */
} tacit_kmeans;

/* Clusters may be more than rows: those over stay empty. Rows fit 32 bits. */
void tacit_kmeans_init(tacit_kmeans *kmeans, size_t max_rows, size_t max_clusters, size_t dim,
                       bool spherical, tacit_work *work);
bool tacit_kmeans_plan(const tacit_kmeans *kmeans, size_t *total);
void tacit_kmeans_take(tacit_kmeans *kmeans, tacit_arena *arena);

/* Which of the centroids (clusters, dim) each of x (rows, dim) belongs to, to labels (rows). */
void tacit_kmeans_assign(const tacit_kmeans *kmeans, size_t rows, const float *x, size_t clusters,
                         const float *centroids, uint32_t *labels);

/* x (rows, dim), rows > 0, of unit length where spherical. Gives the centroids (clusters, dim)
 * after so many iterations, and which of them each row belongs to. */
void tacit_kmeans_run(const tacit_kmeans *kmeans, size_t rows, const float *x, size_t clusters,
                      size_t iterations, uint64_t seed, uint64_t stream, float *centroids,
                      uint32_t *labels);

#endif
