/* loss_infonce.c - see loss_infonce.h.
 *
 * With p the softmax of a row's scores and y its label, u's gradient is (p - y) k / temperature.
 * Some rows at a time have their scores in a worker's memory, so that no one is kept.
 */
#include "loss_infonce.h"

#include <assert.h>

#define ROWS 16 /* of a chunk */

void tacit_infonce_init(tacit_infonce *loss, size_t max_rows, size_t max_keys, size_t dim,
                        double temperature, tacit_work *work)
{
    *loss = (tacit_infonce){ .max_rows = max_rows,
                             .max_keys = max_keys,
                             .dim = dim,
                             .temperature = temperature,
                             .work = work };
    tacit_work_need(&work->worker_floats, ROWS * (1 + max_keys + dim));
}

bool tacit_infonce_plan(const tacit_infonce *l, size_t *total)
{
    const tacit_kernels *k = l->work->kernels;
    size_t size;
    return tacit_mul_size(l->max_keys + 64, l->dim + 64, &size) &&
           tacit_arena_plan(total, tacit_gemm_packed_size(k, l->max_keys, l->dim), sizeof(float)) &&
           tacit_arena_plan(total, tacit_gemm_packed_size(k, l->dim, l->max_keys), sizeof(float)) &&
           tacit_arena_plan(total, l->max_rows, sizeof(float));
}

void tacit_infonce_take(tacit_infonce *l, tacit_arena *arena)
{
    const tacit_kernels *k = l->work->kernels;
    l->by_row =
        tacit_arena_take(arena, tacit_gemm_packed_size(k, l->max_keys, l->dim), sizeof(float));
    l->by_column =
        tacit_arena_take(arena, tacit_gemm_packed_size(k, l->dim, l->max_keys), sizeof(float));
    l->losses = tacit_arena_take(arena, l->max_rows, sizeof(float));
}

typedef struct job {
    const tacit_infonce *l;
    size_t rows, count;
    const float *q, *own;
    double factor;
    float *dq;
} job;

static void rows_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const job *j = ctx;
    const tacit_infonce *l = j->l;
    const tacit_kernels *k = l->work->kernels;
    size_t from = chunk * ROWS, rows = j->rows - from < ROWS ? j->rows - from : ROWS;
    size_t dim = l->dim, apart = j->own != NULL, ld = apart + j->count;
    float *unit = l->work->worker + worker * l->work->worker_floats, *scores = unit + ROWS * dim;
    const float *q = j->q + from * dim, *own = j->own ? j->own + from * dim : NULL;
    float *dq = j->dq + from * dim;
    uint32_t labels[ROWS];
    k->l2norm_f32(rows, dim, q, dim, unit, dim);
    k->scale_add_f32(rows * dim, unit, (float)(1 / l->temperature), NULL, unit);
    k->gemm_f32(rows, j->count, dim, unit, dim, l->by_row, scores + apart, ld, NULL);
    for (size_t i = 0; i < rows; i++) {
        if (own)
            scores[i * ld] = (float)k->dot_f64(dim, unit + i * dim, own + i * dim);
        labels[i] = own ? 0 : (uint32_t)(from + i);
    }
    k->cross_entropy_f32(rows, ld, scores, ld, labels, scores, ld, l->losses + from);
    k->gemm_f32(rows, dim, j->count, scores + apart, ld, l->by_column, unit, dim, NULL);
    for (size_t i = 0; own && i < rows; i++)
        k->scale_add_f32(dim, own + i * dim, scores[i * ld], unit + i * dim, unit + i * dim);
    k->scale_add_f32(rows * dim, unit, (float)(j->factor / l->temperature), NULL, unit);
    k->l2norm_backward_f32(rows, dim, q, dim, unit, dim, dq, dim);
}

double tacit_infonce_loss(const tacit_infonce *l, size_t rows, const float *q, const float *own,
                          size_t count, const float *keys, double factor, float *dq)
{
    const tacit_kernels *k = l->work->kernels;
    job j = { l, rows, count, q, own, factor, dq };
    double sum = 0;
    assert(rows <= l->max_rows && count <= l->max_keys && (own || rows <= count));
    k->gemm_pack_f32(count, l->dim, keys, l->dim, l->by_row);
    k->gemm_pack_t_f32(l->dim, count, keys, l->dim, l->by_column);
    tacit_parallel_for(l->work->pool, (rows + ROWS - 1) / ROWS, rows_chunk, &j);
    for (size_t i = 0; i < rows; i++)
        sum += (double)l->losses[i];
    return factor * sum;
}
