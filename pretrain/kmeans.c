/* kmeans.c - see kmeans.h.
 *
 * The nearest centroid is that of the largest x c - |c|^2 / 2: a product, with a bias. Rows are
 * counted to their clusters in row order, and each cluster's are added in it, in double.
 */
#include "kmeans.h"

#include "rng.h"

#include <assert.h>
#include <string.h>

#define ROWS     32 /* of a chunk of products    */
#define CLUSTERS 8  /* of a chunk of means       */
#define APART    (1.0f / 1024)

void tacit_kmeans_init(tacit_kmeans *k, size_t max_rows, size_t max_clusters, size_t dim,
                       bool spherical, tacit_work *work)
{
    *k = (tacit_kmeans){ .max_rows = max_rows,
                         .max_clusters = max_clusters,
                         .dim = dim,
                         .spherical = spherical,
                         .work = work };
    tacit_work_need(&work->worker_floats, ROWS * max_clusters);
    tacit_work_need(&work->worker_floats, sizeof(double) / sizeof(float) * dim);
}

bool tacit_kmeans_plan(const tacit_kmeans *k, size_t *total)
{
    size_t packed = tacit_gemm_packed_size(k->work->kernels, k->max_clusters, k->dim);
    return tacit_arena_plan(total, packed, sizeof *k->packed) &&
           tacit_arena_plan(total, k->max_clusters, sizeof *k->bias) &&
           tacit_arena_plan(total, k->max_rows, sizeof *k->order) &&
           tacit_arena_plan(total, k->max_clusters + 1, sizeof *k->first);
}

void tacit_kmeans_take(tacit_kmeans *k, tacit_arena *arena)
{
    size_t packed = tacit_gemm_packed_size(k->work->kernels, k->max_clusters, k->dim);
    k->packed = tacit_arena_take(arena, packed, sizeof *k->packed);
    k->bias = tacit_arena_take(arena, k->max_clusters, sizeof *k->bias);
    k->order = tacit_arena_take(arena, k->max_rows, sizeof *k->order);
    k->first = tacit_arena_take(arena, k->max_clusters + 1, sizeof *k->first);
}

typedef struct job {
    const tacit_kmeans *k;
    size_t rows, clusters;
    const float *x, *centroids;
    uint32_t *labels;
    float *to; /* the centroids, while they are made */
} job;

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static float *scratch(const tacit_kmeans *k, unsigned worker)
{
    return k->work->worker + worker * k->work->worker_floats;
}

/* Assignment ---------------------------------------------------------------------------------- */

static uint32_t largest(const float *x, size_t n)
{
    uint32_t at = 0;
    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[at])
            at = i;
    return at;
}

static void assign_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const job *j = ctx;
    const tacit_kmeans *k = j->k;
    const tacit_epilogue shift = { .bias = k->bias };
    size_t from = chunk * ROWS, count = least(j->rows - from, ROWS);
    float *scores = scratch(k, worker);
    k->work->kernels->gemm_f32(count, j->clusters, k->dim, j->x + from * k->dim, k->dim, k->packed,
                               scores, j->clusters, k->spherical ? NULL : &shift);
    for (size_t i = 0; i < count; i++)
        j->labels[from + i] = largest(scores + i * j->clusters, j->clusters);
}

static void assign(job *j)
{
    const tacit_kmeans *k = j->k;
    const tacit_kernels *kernels = k->work->kernels;
    for (size_t c = 0; c < j->clusters && !k->spherical; c++) {
        const float *at = j->centroids + c * k->dim;
        k->bias[c] = (float)(-0.5 * kernels->dot_f64(k->dim, at, at));
    }
    kernels->gemm_pack_f32(j->clusters, k->dim, j->centroids, k->dim, k->packed);
    tacit_parallel_for(k->work->pool, (j->rows + ROWS - 1) / ROWS, assign_chunk, j);
}

void tacit_kmeans_assign(const tacit_kmeans *k, size_t rows, const float *x, size_t clusters,
                         const float *centroids, uint32_t *labels)
{
    job j = { k, rows, clusters, x, centroids, labels, NULL };
    assert(rows <= k->max_rows && clusters && clusters <= k->max_clusters);
    assign(&j);
}

/* Centroids ----------------------------------------------------------------------------------- */

/* Distinct rows in a random order (Fisher and Yates), and where these are too few, all over again.
 */
static void begin(const job *j, uint64_t seed, uint64_t stream)
{
    uint32_t *order = j->k->order;
    size_t size = j->k->dim * sizeof(float);
    for (size_t i = 0; i < j->rows; i++)
        order[i] = (uint32_t)i;
    for (size_t c = 0; c < j->clusters; c++) {
        size_t i = c % j->rows;
        if (c < j->rows) {
            uint64_t u = tacit_rng_u32(seed, stream, c);
            size_t other = i + (size_t)(u * (j->rows - i) >> 32);
            uint32_t swap = order[i];
            order[i] = order[other];
            order[other] = swap;
        }
        memcpy(j->to + c * j->k->dim, j->x + order[i] * j->k->dim, size);
    }
}

/* first and order, from the labels. */
static void sort(const job *j)
{
    size_t *first = j->k->first;
    memset(first, 0, (j->clusters + 1) * sizeof *first);
    for (size_t i = 0; i < j->rows; i++)
        first[j->labels[i] + 1]++;
    for (size_t c = 0; c < j->clusters; c++)
        first[c + 1] += first[c];
    for (size_t i = 0; i < j->rows; i++) /* each moves its cluster's on */
        j->k->order[first[j->labels[i]]++] = (uint32_t)i;
    memmove(first + 1, first, j->clusters * sizeof *first);
    first[0] = 0;
}

static void mean_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const job *j = ctx;
    const tacit_kmeans *k = j->k;
    double *sum = (double *)(void *)scratch(k, worker);
    for (size_t c = chunk * CLUSTERS; c < least((chunk + 1) * CLUSTERS, j->clusters); c++) {
        size_t from = k->first[c], to = k->first[c + 1];
        float *centroid = j->to + c * k->dim;
        memset(sum, 0, k->dim * sizeof *sum);
        for (size_t i = from; i < to; i++)
            for (size_t d = 0; d < k->dim; d++)
                sum[d] += (double)j->x[k->order[i] * k->dim + d];
        for (size_t d = 0; d < k->dim && from < to; d++)
            centroid[d] = (float)(sum[d] / (double)(to - from));
        if (k->spherical)
            k->work->kernels->l2norm_f32(1, k->dim, centroid, k->dim, centroid, k->dim);
    }
}

/* faiss' split_clusters. `first` becomes the clusters' sizes, from its second entry on. */
static void split(const job *j, uint64_t seed, uint64_t stream)
{
    const tacit_kmeans *k = j->k;
    size_t *size = k->first + 1;
    uint64_t draw = j->rows; /* behind those of begin */
    for (size_t c = j->clusters; c-- > 0;)
        size[c] -= c ? size[c - 1] : 0;
    for (size_t c = 0; c < j->clusters; c++) {
        size_t taken = 0;
        if (size[c] || j->rows <= j->clusters)
            continue;
        for (;; taken = (taken + 1) % j->clusters) {
            double share = ((double)size[taken] - 1) / (double)(j->rows - j->clusters);
            if ((double)tacit_rng_uniform(seed, stream, draw++) < share)
                break;
        }
        float *a = j->to + c * k->dim, *b = j->to + taken * k->dim;
        for (size_t d = 0; d < k->dim; d++) {
            float sign = d % 2 ? -APART : APART, value = b[d];
            a[d] = value * (1 + sign);
            b[d] = value * (1 - sign);
        }
        size[c] = size[taken] / 2;
        size[taken] -= size[c];
    }
}

void tacit_kmeans_run(const tacit_kmeans *k, size_t rows, const float *x, size_t clusters,
                      size_t iterations, uint64_t seed, uint64_t stream, float *centroids,
                      uint32_t *labels)
{
    job j = { k, rows, clusters, x, centroids, labels, centroids };
    assert(rows && rows <= k->max_rows && clusters && clusters <= k->max_clusters);
    begin(&j, seed, stream);
    assign(&j);
    for (size_t i = 0; i < iterations; i++) {
        sort(&j);
        tacit_parallel_for(k->work->pool, (clusters + CLUSTERS - 1) / CLUSTERS, mean_chunk, &j);
        if (!k->spherical)
            split(&j, seed, stream);
        assign(&j);
    }
}
