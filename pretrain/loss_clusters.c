/* loss_clusters.c - see loss_clusters.h.
 *
 * Of a row and a head, with s = u C^T / temperature and p its softmax, ds = p - y and
 * du = ds C / temperature; the heads' are added in order.
 */
#include "loss_clusters.h"

#include <assert.h>
#include <string.h>

#define ROWS 32 /* of a chunk */

void tacit_cluster_loss_init(tacit_cluster_loss *l, size_t max_rows, size_t dim, size_t heads,
                             const size_t *clusters, double temperature, tacit_work *work)
{
    assert(heads && heads <= TACIT_CLUSTER_HEADS && temperature > 0);
    *l = (tacit_cluster_loss){
        .max_rows = max_rows, .dim = dim, .heads = heads, .temperature = temperature, .work = work
    };
    for (size_t h = 0; h < heads; h++) {
        l->clusters[h] = clusters[h];
        tacit_work_need(&work->worker_floats, ROWS * (clusters[h] + 3 * dim));
    }
}

/* Adds up what is needed, or where arena is given takes it. */
static bool plan(const tacit_cluster_loss *l, size_t *total, tacit_cluster_loss *to,
                 tacit_arena *arena)
{
    const tacit_kernels *k = l->work->kernels;
    struct part {
        size_t count, size;
        float **at;
    } parts[1 + 2 * TACIT_CLUSTER_HEADS] = {
        { l->max_rows, l->heads, arena ? &to->losses : NULL },
    };
    size_t n = 1;
    for (size_t h = 0; h < l->heads; h++) {
        size_t by_row = tacit_gemm_packed_size(k, l->clusters[h], l->dim);
        size_t by_column = tacit_gemm_packed_size(k, l->dim, l->clusters[h]);
        parts[n++] = (struct part){ by_row, 1, arena ? &to->by_row[h] : NULL };
        parts[n++] = (struct part){ by_column, 1, arena ? &to->by_column[h] : NULL };
    }
    for (size_t i = 0; i < n; i++)
        if (arena)
            *parts[i].at = tacit_arena_take(arena, parts[i].count, parts[i].size * sizeof(float));
        else if (!tacit_arena_plan(total, parts[i].count, parts[i].size * sizeof(float)))
            return false;
    return true;
}

bool tacit_cluster_loss_plan(const tacit_cluster_loss *l, size_t *total)
{
    return plan(l, total, NULL, NULL);
}

void tacit_cluster_loss_take(tacit_cluster_loss *l, tacit_arena *arena)
{
    plan(l, NULL, l, arena);
}

typedef struct job {
    const tacit_cluster_loss *l;
    size_t rows;
    const float *z;
    const uint32_t *const *labels;
    float weight; /* of a row and a head, in the gradient of u */
    float *dz;
} job;

/* Rows [from, from + count) by head h: their losses, and the gradient of u / temperature to d. */
static void head_rows(const job *j, size_t h, size_t from, size_t count, const float *scaled,
                      float *scores, float *d)
{
    const tacit_cluster_loss *l = j->l;
    const tacit_kernels *k = l->work->kernels;
    size_t clusters = l->clusters[h];
    uint32_t labels[ROWS];
    float losses[ROWS];
    k->gemm_f32(count, clusters, l->dim, scaled, l->dim, l->by_row[h], scores, clusters, NULL);
    for (size_t i = 0; i < count; i++) {
        uint32_t label = j->labels[h][from + i];
        labels[i] = label == TACIT_NO_CLUSTER ? 0 : label;
    }
    k->cross_entropy_f32(count, clusters, scores, clusters, labels, scores, clusters, losses);
    for (size_t i = 0; i < count; i++) {
        bool none = j->labels[h][from + i] == TACIT_NO_CLUSTER;
        l->losses[(from + i) * l->heads + h] = none ? 0 : losses[i];
        if (none)
            memset(scores + i * clusters, 0, clusters * sizeof *scores);
    }
    k->gemm_f32(count, l->dim, clusters, scores, clusters, l->by_column[h], d, l->dim, NULL);
}

static void rows_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const job *j = ctx;
    const tacit_cluster_loss *l = j->l;
    const tacit_kernels *k = l->work->kernels;
    size_t from = chunk * ROWS, count = j->rows - from < ROWS ? j->rows - from : ROWS;
    size_t n = count * l->dim, at = from * l->dim;
    float *scaled = l->work->worker + worker * l->work->worker_floats;
    float *d = scaled + ROWS * l->dim, *du = d + ROWS * l->dim, *scores = du + ROWS * l->dim;
    k->l2norm_f32(count, l->dim, j->z + at, l->dim, scaled, l->dim);
    k->scale_add_f32(n, scaled, (float)(1 / l->temperature), NULL, scaled);
    for (size_t h = 0; h < l->heads; h++) {
        head_rows(j, h, from, count, scaled, scores, d);
        k->scale_add_f32(n, d, j->weight, h ? du : NULL, du);
    }
    k->l2norm_backward_f32(count, l->dim, j->z + at, l->dim, du, l->dim, j->dz + at, l->dim);
}

double tacit_cluster_loss_run(const tacit_cluster_loss *l, size_t rows, const float *z,
                              const float *const *centroids, const uint32_t *const *labels,
                              double weight, float *dz)
{
    const tacit_kernels *k = l->work->kernels;
    double sum = 0, each = weight / (double)l->heads;
    job j = { l, rows, z, labels, (float)(each / l->temperature), dz };
    assert(rows <= l->max_rows);
    for (size_t h = 0; h < l->heads; h++) {
        k->gemm_pack_f32(l->clusters[h], l->dim, centroids[h], l->dim, l->by_row[h]);
        k->gemm_pack_t_f32(l->dim, l->clusters[h], centroids[h], l->dim, l->by_column[h]);
    }
    tacit_parallel_for(l->work->pool, (rows + ROWS - 1) / ROWS, rows_chunk, &j);
    for (size_t i = 0; i < rows * l->heads; i++)
        sum += (double)l->losses[i];
    return each * sum;
}
