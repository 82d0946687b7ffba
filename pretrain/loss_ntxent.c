/* loss_ntxent.c - see loss_ntxent.h.
 *
 * With p the softmax of a row of s and y its label, ds = (p - y) / 2N, and u's gradient is
 * (ds + ds^T) u / temperature: what a row gets for its own scores, and for those of the others with
 * it. The second is a product over all rows, which blocks add to in order.
 */
#include "loss_ntxent.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define BLOCK  TACIT_KC /* rows of s at a time */
#define ROWS   32       /* of a chunk */
#define OTHERS 112      /* rows of u whose gradient as others is one chunk */

void tacit_ntxent_init(tacit_ntxent *loss, size_t max_rows, size_t dim, double temperature,
                       const tacit_work *work)
{
    *loss = (tacit_ntxent){
        .max_rows = max_rows, .dim = dim, .temperature = temperature, .work = work
    };
}

/* Adds up what is needed, or where arena is given takes it. */
static bool plan(const tacit_ntxent *l, size_t *total, tacit_ntxent *to, tacit_arena *arena)
{
    const tacit_kernels *k = l->work->kernels;
    size_t rows = l->max_rows, block = rows < BLOCK ? rows : BLOCK;
    const struct part {
        size_t count, size;
        float **at;
    } parts[] = {
        { rows, l->dim, arena ? &to->unit : NULL },
        { rows, l->dim, arena ? &to->scaled : NULL },
        { tacit_gemm_packed_size(k, rows, l->dim), 1, arena ? &to->by_row : NULL },
        { tacit_gemm_packed_size(k, l->dim, rows), 1, arena ? &to->by_column : NULL },
        { rows, l->dim, arena ? &to->own : NULL },
        { rows, l->dim, arena ? &to->others : NULL },
        { block, rows, arena ? &to->scores : NULL },
        { rows, 1, arena ? &to->losses : NULL },
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (arena)
            *parts[i].at = tacit_arena_take(arena, parts[i].count, parts[i].size * sizeof(float));
        else if (!tacit_arena_plan(total, parts[i].count, parts[i].size * sizeof(float)))
            return false;
    return true;
}

bool tacit_ntxent_plan(const tacit_ntxent *loss, size_t *total)
{
    size_t size;
    return tacit_mul_size(loss->max_rows, loss->dim + 64, &size) && plan(loss, total, NULL, NULL);
}

void tacit_ntxent_take(tacit_ntxent *loss, tacit_arena *arena)
{
    plan(loss, NULL, loss, arena);
}

typedef struct job {
    const tacit_ntxent *l;
    size_t rows, first, block; /* all, and the block's */
    const float *z;
    float *dz;
    size_t ldz, lddz;
} job;

static size_t rows_at(size_t rows, size_t from, size_t step)
{
    return rows - from < step ? rows - from : step;
}

static size_t chunks_of(size_t rows, size_t step)
{
    return (rows + step - 1) / step;
}

static void unit_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_ntxent *l = j->l;
    size_t from = chunk * ROWS, count = rows_at(j->rows, from, ROWS), at = from * l->dim;
    l->work->kernels->l2norm_f32(count, l->dim, j->z + from * j->ldz, j->ldz, l->unit + at, l->dim);
    l->work->kernels->scale_add_f32(count * l->dim, l->unit + at, (float)(1 / l->temperature), NULL,
                                    l->scaled + at);
}

/* Some rows of s, their losses, their softmax gradient in place, and u's as their rows. */
static void scores_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_ntxent *l = j->l;
    const tacit_kernels *k = l->work->kernels;
    size_t within = chunk * ROWS, count = rows_at(j->block, within, ROWS), from = j->first + within;
    float *scores = l->scores + within * j->rows;
    uint32_t labels[ROWS];
    k->gemm_f32(count, j->rows, l->dim, l->unit + from * l->dim, l->dim, l->by_row, scores, j->rows,
                NULL);
    for (size_t i = 0; i < count; i++) {
        scores[i * j->rows + from + i] = -INFINITY;
        labels[i] = (uint32_t)((from + i + j->rows / 2) % j->rows);
    }
    k->cross_entropy_f32(count, j->rows, scores, j->rows, labels, scores, j->rows,
                         l->losses + from);
    k->gemm_f32(count, l->dim, j->rows, scores, j->rows, l->by_column, l->own + from * l->dim,
                l->dim, NULL);
}

static void others_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_ntxent *l = j->l;
    size_t from = chunk * OTHERS;
    l->work->kernels->gemm_tn_f32(rows_at(j->rows, from, OTHERS), l->dim, j->block,
                                  l->scores + from, j->rows, l->scaled + j->first * l->dim, l->dim,
                                  l->others + from * l->dim, l->dim, j->first > 0, NULL);
}

static void gradient_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_ntxent *l = j->l;
    const tacit_kernels *k = l->work->kernels;
    size_t from = chunk * ROWS, count = rows_at(j->rows, from, ROWS), n = count * l->dim;
    float *own = l->own + from * l->dim;
    k->add_f32(n, own, l->others + from * l->dim, own);
    k->scale_add_f32(n, own, (float)(1 / (double)j->rows), NULL, own);
    k->l2norm_backward_f32(count, l->dim, j->z + from * j->ldz, j->ldz, own, l->dim, own, l->dim);
    for (size_t i = 0; i < count; i++)
        memcpy(j->dz + (from + i) * j->lddz, own + i * l->dim, l->dim * sizeof *own);
}

double tacit_ntxent_loss(const tacit_ntxent *loss, size_t rows, const float *z, size_t ldz,
                         float *dz, size_t lddz)
{
    tacit_pool *pool = loss->work->pool;
    const tacit_kernels *k = loss->work->kernels;
    job j = { .l = loss, .rows = rows, .z = z, .ldz = ldz, .dz = dz, .lddz = lddz };
    double sum = 0;
    assert(rows >= 2 && rows % 2 == 0 && rows <= loss->max_rows);
    tacit_parallel_for(pool, chunks_of(rows, ROWS), unit_chunk, &j);
    k->gemm_pack_f32(rows, loss->dim, loss->scaled, loss->dim, loss->by_row);
    k->gemm_pack_t_f32(loss->dim, rows, loss->scaled, loss->dim, loss->by_column);
    for (j.first = 0; j.first < rows; j.first += j.block) {
        j.block = rows_at(rows, j.first, BLOCK);
        tacit_parallel_for(pool, chunks_of(j.block, ROWS), scores_chunk, &j);
        tacit_parallel_for(pool, chunks_of(rows, OTHERS), others_chunk, &j);
    }
    for (size_t i = 0; i < rows; i++)
        sum += (double)loss->losses[i];
    tacit_parallel_for(pool, chunks_of(rows, ROWS), gradient_chunk, &j);
    return sum / (double)rows;
}
