/* dense.c - see dense.h. */
#include "dense.h"

#include "linear.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Chunks of the products: 112 x 128 outputs as in linear.c. */
#define ROWS      112
#define COLUMNS   128
#define NORM_ROWS 64
/* Rows that GELU's memory is asked for ahead of time, and floats of a cache line. */
#define AHEAD 4
#define LINE  16
/* Most rows of a block of dW: of so many the copy fills 300 KB of a second-level cache. */
#define WEIGHT_ROWS 196
/* What copying a value costs, in products. */
#define COPY 10

static size_t pieces(size_t n, size_t step)
{
    return (n + step - 1) / step;
}

static size_t step_at(size_t n, size_t at, size_t step)
{
    return n - at < step ? n - at : step;
}

void tacit_work_need(size_t *most, size_t floats)
{
    if (*most < floats)
        *most = floats;
}

tacit_status tacit_work_open(tacit_work *work, tacit_err *err)
{
    size_t total = 0, floats;
    work->worker_floats = (work->worker_floats + 15) / 16 * 16;
    if (!tacit_mul_size(work->worker_floats, tacit_pool_threads(work->pool), &floats) ||
        !tacit_arena_plan(&total, work->packed_floats, sizeof(float)) ||
        !tacit_arena_plan(&total, work->partial_floats, sizeof(float)) ||
        !tacit_arena_plan(&total, work->tiles_floats, sizeof(float)) ||
        !tacit_arena_plan(&total, floats, sizeof(float)))
        return tacit_fail(err, TACIT_ELIMIT, "a network is too large for its scratch memory");
    tacit_status st = tacit_arena_open(&work->arena, total, err);
    if (st < 0)
        return tacit_fail_at(err, st, "scratch memory");
    work->packed = tacit_arena_take(&work->arena, work->packed_floats, sizeof(float));
    work->partial = tacit_arena_take(&work->arena, work->partial_floats, sizeof(float));
    work->tiles = tacit_arena_take(&work->arena, work->tiles_floats, sizeof(float));
    work->worker = tacit_arena_take(&work->arena, floats, sizeof(float));
    return TACIT_OK;
}

void tacit_work_close(tacit_work *work)
{
    tacit_arena_close(&work->arena);
}

tacit_status tacit_dense_declare(tacit_dense *dense, const char *name, size_t in, size_t out,
                                 bool bias, unsigned rank, const size_t *shape, tacit_init weight,
                                 tacit_init bias_init, size_t max_rows, tacit_params *params,
                                 tacit_work *work, tacit_err *err)
{
    char full[2 * TACIT_PARAM_NAME];
    *dense = (tacit_dense){ .in = in, .out = out };
    snprintf(full, sizeof full, "%s.weight", name);
    tacit_status st =
        tacit_params_add(params, full, shape ? rank : 2,
                         shape ? shape : (const size_t[]){ out, in }, weight, &dense->w, err);
    snprintf(full, sizeof full, "%s.bias", name);
    if (st == TACIT_OK && bias)
        st = tacit_params_add(params, full, 1, &out, bias_init, &dense->b, err);
    tacit_work_need(&work->packed_floats, tacit_gemm_packed_size(work->kernels, out, in));
    tacit_work_need(&work->packed_floats, tacit_gemm_packed_size(work->kernels, in, out));
    tacit_work_need(&work->partial_floats, pieces(max_rows, ROWS) * out);
    tacit_work_need(&work->worker_floats,
                    tacit_gemm_tn_scratch(work->kernels, out < WEIGHT_ROWS ? out : WEIGHT_ROWS));
    return st;
}

/* One pass over a layer: the product of chunks, and what it needs. */
typedef struct dense_job {
    const tacit_work *work;
    const tacit_dense *dense;
    size_t m, in, out; /* y (m, out) of x (m, in): of the backward, the other way round */
    const float *x, *dy;
    float *y;
    size_t ldx, ldy, lddy, row_step, row_chunks, column_step;
    tacit_after after;
    bool backward;
} dense_job;

/* Packs the weights of COLUMNS outputs. */
static void pack_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const dense_job *j = ctx;
    const tacit_kernels *k = j->work->kernels;
    size_t from = chunk * COLUMNS, columns = step_at(j->out, from, COLUMNS);
    const float *w = j->dense->w->value;
    float *packed = j->work->packed + from * j->in;
    if (j->backward)
        k->gemm_pack_t_f32(columns, j->in, w + from, j->out, packed);
    else
        k->gemm_pack_f32(columns, j->in, w + from * j->in, j->in, packed);
}

/* Row by row, what follows the product. */
static void finish(const dense_job *j, size_t row, size_t rows, size_t column, size_t columns)
{
    const tacit_kernels *k = j->work->kernels;
    const tacit_after *a = &j->after;
    float *wide = a->gelu ? a->gelu : a->gelu_input; /* in no cache yet */
    for (size_t i = row; i < row + rows; i++) {
        float *y = j->y + i * j->ldy + column;
        if (wide && i + AHEAD < row + rows)
            for (size_t c = 0; c < columns; c += LINE)
                __builtin_prefetch(wide + (i + AHEAD) * a->ldg + column + c, 1);
        if (a->scale)
            k->scale_add_f32(columns, y, a->scale[i / a->group],
                             a->residual ? a->residual + i * a->ldr + column : NULL, y);
        if (a->gelu)
            k->gelu_f32(columns, y, a->gelu + i * a->ldg + column);
        if (a->gelu_input) {
            float *x = a->gelu_input + i * a->ldg + column;
            k->gelu_backward_f32(columns, x, y, x, y);
        }
    }
}

static void product_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const dense_job *j = ctx;
    const tacit_kernels *k = j->work->kernels;
    /* Columns vary first: the rows stay in the second-level cache, and the weights, which are few
     * beside the rows of a batch, in the third. */
    size_t across = pieces(j->out, COLUMNS), slot = chunk / across, row = slot * j->row_step;
    size_t column = chunk % across * COLUMNS;
    size_t rows = step_at(j->m, row, j->row_step), columns = step_at(j->out, column, COLUMNS);
    tacit_epilogue e = { 0 };
    if (!j->backward && j->dense->b)
        e.bias = j->dense->b->value + column;
    if (j->after.residual && !j->after.scale) {
        e.residual = j->after.residual + row * j->after.ldr + column;
        e.ldr = j->after.ldr;
    }
    if (slot + 1 < j->row_chunks) { /* this thread's, too, but for the last of a run */
        size_t part = chunk % across, next = row + j->row_step;
        size_t count = step_at(j->m, next, j->row_step), from = count * part / across;
        e.next = (tacit_coming){ j->x + (next + from) * j->ldx, count * (part + 1) / across - from,
                                 j->in, j->ldx };
    }
    if (j->backward && j->dense->b && !column)
        k->sum_rows_f32(rows, j->in, j->x + row * j->ldx, j->ldx, false,
                        j->work->partial + slot * j->in);
    k->gemm_f32(rows, columns, j->in, j->x + row * j->ldx, j->ldx, j->work->packed + column * j->in,
                j->y + row * j->ldy + column, j->ldy, &e);
    finish(j, row, rows, column, columns);
}

static void run_product(dense_job *j, const tacit_after *after)
{
    if (after)
        j->after = *after;
    j->row_step = tacit_even_chunk(j->m, ROWS);
    j->row_chunks = pieces(j->m, j->row_step);
    tacit_parallel_for(j->work->pool, pieces(j->out, COLUMNS), pack_chunk, j);
    tacit_parallel_for(j->work->pool, j->row_chunks * pieces(j->out, COLUMNS), product_chunk, j);
}

void tacit_dense_forward(const tacit_work *work, const tacit_dense *dense, size_t m, const float *x,
                         size_t ldx, float *y, size_t ldy, const tacit_after *after)
{
    dense_job j = { .work = work,
                    .dense = dense,
                    .m = m,
                    .in = dense->in,
                    .out = dense->out,
                    .x = x,
                    .ldx = ldx,
                    .y = y,
                    .ldy = ldy };
    run_product(&j, after);
}

/* Cuts dW into blocks. A row of dy and x costs a block its products, and as much as COPY of them
 * for each value that is copied first; the blocks go to the threads in rounds. No block adds to
 * another, so how they are cut does not show in the result. */
static size_t weight_blocks(dense_job *j)
{
    const tacit_kernels *k = j->work->kernels;
    size_t out = j->dense->out, in = j->dense->in, threads = tacit_pool_threads(j->work->pool);
    size_t most = pieces(out, WEIGHT_ROWS), enough = most + 2 * threads;
    size_t least = SIZE_MAX, count = 0;
    for (size_t rows = most; rows <= pieces(out, k->gemm_mr) && rows <= enough; rows++)
        for (size_t columns = 1; columns <= pieces(in, k->gemm_nr) && rows * columns <= enough;
             columns++) {
            size_t high = pieces(pieces(out, rows), k->gemm_mr) * k->gemm_mr;
            size_t wide = pieces(pieces(in, columns), k->gemm_nr) * k->gemm_nr;
            size_t blocks = pieces(out, high) * pieces(in, wide);
            size_t cost = (4 * pieces(blocks, threads) + 1) * (high * wide + COPY * (high + wide));
            if (cost < least) {
                least = cost;
                count = blocks;
                j->row_step = high;
                j->column_step = wide;
            }
        }
    return count;
}

/* A block of dW += dy^T x. */
static void weight_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const dense_job *j = ctx;
    const tacit_dense *d = j->dense;
    size_t across = pieces(d->in, j->column_step), row = chunk / across * j->row_step;
    size_t column = chunk % across * j->column_step;
    j->work->kernels->gemm_tn_f32(step_at(d->out, row, j->row_step),
                                  step_at(d->in, column, j->column_step), j->m, j->dy + row,
                                  j->lddy, j->x + column, j->ldx, d->w->grad + row * d->in + column,
                                  d->in, true, j->work->worker + worker * j->work->worker_floats);
}

void tacit_dense_inputs(const tacit_work *work, const tacit_dense *dense, size_t m, const float *dy,
                        size_t lddy, float *dx, size_t lddx, const tacit_after *after)
{
    dense_job j = { .work = work,
                    .dense = dense,
                    .m = m,
                    .in = dense->out,
                    .out = dense->in,
                    .x = dy,
                    .ldx = lddy,
                    .y = dx,
                    .ldy = lddx,
                    .backward = true };
    run_product(&j, after);
    if (dense->b)
        work->kernels->sum_rows_f32(j.row_chunks, dense->out, work->partial, dense->out, true,
                                    dense->b->grad);
}

void tacit_dense_backward(const tacit_work *work, const tacit_dense *dense, size_t m,
                          const float *dy, size_t lddy, const float *x, size_t ldx, float *dx,
                          size_t lddx, const tacit_after *after)
{
    if (dx)
        tacit_dense_inputs(work, dense, m, dy, lddy, dx, lddx, after);
    else if (dense->b)
        tacit_sum_rows(work, m, dense->out, dy, lddy, dense->b->grad);
    tacit_dense_weights(work, dense, m, dy, lddy, x, ldx);
}

void tacit_dense_weights(const tacit_work *work, const tacit_dense *dense, size_t m,
                         const float *dy, size_t lddy, const float *x, size_t ldx)
{
    dense_job j = {
        .work = work, .dense = dense, .m = m, .dy = dy, .lddy = lddy, .x = x, .ldx = ldx
    };
    tacit_parallel_for(work->pool, weight_blocks(&j), weight_chunk, &j);
}

void tacit_dense_turned(const tacit_work *work, const tacit_dense *dense, size_t m, const float *x,
                        size_t ldx, float *y, size_t ldy)
{
    assert(!dense->b);
    dense_job j = { .work = work,
                    .dense = dense,
                    .m = m,
                    .in = dense->out,
                    .out = dense->in,
                    .x = x,
                    .ldx = ldx,
                    .y = y,
                    .ldy = ldy,
                    .backward = true };
    run_product(&j, NULL);
}

/* Sums of rows -------------------------------------------------------------------------------- */

typedef struct rows_job {
    const tacit_work *work;
    const tacit_layernorm *norm;
    size_t rows, n, step;
    const float *x, *dy;
    float *y, *normed;
    size_t ldx, lddy, ldy, ldn;
    bool more;
} rows_job;

static void sum_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const rows_job *j = ctx;
    size_t row = chunk * j->step;
    j->work->kernels->sum_rows_f32(step_at(j->rows, row, j->step), j->n, j->x + row * j->ldx,
                                   j->ldx, false, j->work->partial + chunk * j->n);
}

void tacit_sum_rows_need(tacit_work *work, size_t max_rows, size_t n)
{
    tacit_work_need(&work->partial_floats, pieces(max_rows, ROWS) * n);
}

void tacit_sum_rows(const tacit_work *work, size_t rows, size_t n, const float *x, size_t ldx,
                    float *sum)
{
    rows_job j = {
        .work = work, .rows = rows, .n = n, .step = tacit_even_chunk(rows, ROWS), .x = x, .ldx = ldx
    };
    tacit_parallel_for(work->pool, pieces(rows, j.step), sum_chunk, &j);
    work->kernels->sum_rows_f32(pieces(rows, j.step), n, work->partial, n, true, sum);
}

/* LayerNorm ----------------------------------------------------------------------------------- */

tacit_status tacit_layernorm_declare(tacit_layernorm *norm, const char *name, size_t n, float eps,
                                     size_t max_rows, tacit_params *params, tacit_work *work,
                                     tacit_err *err)
{
    char full[2 * TACIT_PARAM_NAME];
    *norm = (tacit_layernorm){ .n = n, .eps = eps };
    snprintf(full, sizeof full, "%s.weight", name);
    tacit_status st = tacit_params_add(params, full, 1, &n, TACIT_ONES, &norm->gamma, err);
    snprintf(full, sizeof full, "%s.bias", name);
    if (st == TACIT_OK)
        st = tacit_params_add(params, full, 1, &n, TACIT_ZEROS, &norm->beta, err);
    tacit_work_need(&work->partial_floats, pieces(max_rows, NORM_ROWS) * 2 * n);
    return st;
}

static void norm_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const rows_job *j = ctx;
    size_t row = chunk * NORM_ROWS;
    j->work->kernels->layernorm_f32(step_at(j->rows, row, NORM_ROWS), j->n, j->x + row * j->ldx,
                                    j->ldx, j->norm->gamma->value, j->norm->beta->value,
                                    j->norm->eps, j->y + row * j->ldy, j->ldy);
}

void tacit_layernorm_forward(const tacit_work *work, const tacit_layernorm *norm, size_t rows,
                             const float *x, size_t ldx, float *y, size_t ldy)
{
    rows_job j = { .work = work,
                   .norm = norm,
                   .rows = rows,
                   .n = norm->n,
                   .x = x,
                   .ldx = ldx,
                   .y = y,
                   .ldy = ldy };
    tacit_parallel_for(work->pool, pieces(rows, NORM_ROWS), norm_chunk, &j);
}

/* dgamma and dbeta of a chunk lie side by side in its slot. */
static void norm_back_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const rows_job *j = ctx;
    size_t row = chunk * NORM_ROWS;
    float *slot = j->work->partial + chunk * 2 * j->n;
    memset(slot, 0, 2 * j->n * sizeof *slot);
    j->work->kernels->layernorm_backward_f32(
        step_at(j->rows, row, NORM_ROWS), j->n, j->x + row * j->ldx, j->ldx, j->norm->gamma->value,
        j->norm->beta->value, j->norm->eps, j->dy + row * j->lddy, j->lddy, j->y + row * j->ldy,
        j->ldy, j->more, slot, slot + j->n, j->normed ? j->normed + row * j->ldn : NULL, j->ldn);
}

void tacit_layernorm_backward(const tacit_work *work, const tacit_layernorm *norm, size_t rows,
                              const float *x, size_t ldx, const float *dy, size_t lddy, float *dx,
                              size_t lddx, bool more, float *y, size_t ldy)
{
    rows_job j = { .work = work,
                   .norm = norm,
                   .rows = rows,
                   .n = norm->n,
                   .x = x,
                   .ldx = ldx,
                   .dy = dy,
                   .lddy = lddy,
                   .y = dx,
                   .ldy = lddx,
                   .normed = y,
                   .ldn = ldy,
                   .more = more };
    size_t chunks = pieces(rows, NORM_ROWS), n = norm->n;
    tacit_parallel_for(work->pool, chunks, norm_back_chunk, &j);
    work->kernels->sum_rows_f32(chunks, n, work->partial, 2 * n, true, norm->gamma->grad);
    work->kernels->sum_rows_f32(chunks, n, work->partial + n, 2 * n, true, norm->beta->grad);
}
