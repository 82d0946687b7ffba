/* sinkhorn.c - see sinkhorn.h.
 *
 * Q_bk = a_b P_bk w_k. A column's sum becomes 1 by w_k = 1 / sum_b a_b P_bk, a row's by
 * a_b = 1 / sum_k P_bk w_k: what either was before does not matter, but for the first a_b, which is
 * the sum of the row's exp by which P was divided: exp((most_b - the most of all) / epsilon) / the
 * largest P_bk.
 */
#include "sinkhorn.h"

#include <assert.h>

double Sleef_cinz_expd1_u10purec(double);

#define ROWS    32 /* of a chunk */
#define COLUMNS 64
#define LANES   8
/* What counts as nothing, as a logarithm and as a sum: between them lies room for all that a float
 * can be of P, so that no factor is infinite and no row is lost. */
#define LEAST (-230.0)
#define NONE  1e-300

void tacit_sinkhorn_init(tacit_sinkhorn *s, size_t max_rows, size_t columns, double epsilon,
                         size_t iterations, const tacit_work *work)
{
    *s = (tacit_sinkhorn){ .max_rows = max_rows,
                           .columns = columns,
                           .iterations = iterations,
                           .epsilon = epsilon,
                           .work = work };
}

bool tacit_sinkhorn_plan(const tacit_sinkhorn *s, size_t *total)
{
    return tacit_arena_plan(total, s->max_rows, sizeof(double)) &&
           tacit_arena_plan(total, s->max_rows, sizeof(double)) &&
           tacit_arena_plan(total, s->columns, sizeof(double));
}

void tacit_sinkhorn_take(tacit_sinkhorn *s, tacit_arena *arena)
{
    s->most = tacit_arena_take(arena, s->max_rows, sizeof(double));
    s->by_row = tacit_arena_take(arena, s->max_rows, sizeof(double));
    s->by_column = tacit_arena_take(arena, s->columns, sizeof(double));
}

typedef struct job {
    const tacit_sinkhorn *s;
    size_t rows;
    float *p; /* (rows, columns) */
    bool last;
} job;

static size_t end_of(size_t all, size_t from, size_t step)
{
    return all - from < step ? all : from + step;
}

/* The place of a row's largest value. */
static size_t largest(const float *x, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

static void softmax_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_sinkhorn *s = j->s;
    size_t n = s->columns, from = chunk * ROWS;
    for (size_t b = from; b < end_of(j->rows, from, ROWS); b++) {
        float *p = j->p + b * n;
        size_t best = largest(p, n);
        s->most[b] = (double)p[best];
        s->work->kernels->softmax_f32(1, n, p, n, (float)(1 / s->epsilon), p, n);
        s->by_row[b] = 1 / (double)p[best];
    }
}

static void first_factors(const job *j)
{
    const tacit_sinkhorn *s = j->s;
    double most = s->most[0];
    for (size_t b = 1; b < j->rows; b++)
        if (s->most[b] > most)
            most = s->most[b];
    for (size_t b = 0; b < j->rows; b++) {
        double less = (s->most[b] - most) / s->epsilon;
        s->by_row[b] *= Sleef_cinz_expd1_u10purec(less > LEAST ? less : LEAST);
    }
}

static void columns_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_sinkhorn *s = j->s;
    size_t from = chunk * COLUMNS, count = end_of(s->columns, from, COLUMNS) - from;
    double sum[COLUMNS] = { 0 };
    for (size_t b = 0; b < j->rows; b++) {
        const float *p = j->p + b * s->columns + from;
        for (size_t k = 0; k < count; k++)
            sum[k] += s->by_row[b] * (double)p[k];
    }
    for (size_t k = 0; k < count; k++) /* what no row has any of stays empty */
        s->by_column[from + k] = sum[k] > NONE ? 1 / sum[k] : 0;
}

static double weighted_sum(const float *p, const double *w, size_t n)
{
    double lanes[LANES] = { 0 }, sum = 0;
    size_t k = 0;
    for (; k + LANES <= n; k += LANES)
        for (size_t i = 0; i < LANES; i++)
            lanes[i] += (double)p[k + i] * w[k + i];
    for (size_t i = 0; i < LANES; i++)
        sum += lanes[i];
    for (; k < n; k++)
        sum += (double)p[k] * w[k];
    return sum;
}

static void rows_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_sinkhorn *s = j->s;
    size_t n = s->columns, from = chunk * ROWS;
    for (size_t b = from; b < end_of(j->rows, from, ROWS); b++) {
        float *p = j->p + b * n;
        s->by_row[b] = 1 / weighted_sum(p, s->by_column, n);
        for (size_t k = 0; j->last && k < n; k++)
            p[k] = (float)((double)p[k] * s->by_column[k] * s->by_row[b]);
    }
}

void tacit_sinkhorn_run(const tacit_sinkhorn *s, size_t rows, float *scores)
{
    tacit_pool *pool = s->work->pool;
    job j = { .s = s, .rows = rows, .p = scores };
    assert(rows && rows <= s->max_rows);
    tacit_parallel_for(pool, (rows + ROWS - 1) / ROWS, softmax_chunk, &j);
    first_factors(&j);
    for (size_t i = 0; i < s->iterations; i++) {
        j.last = i + 1 == s->iterations;
        tacit_parallel_for(pool, (s->columns + COLUMNS - 1) / COLUMNS, columns_chunk, &j);
        tacit_parallel_for(pool, (rows + ROWS - 1) / ROWS, rows_chunk, &j);
    }
}
