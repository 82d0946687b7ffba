/* whiten.c - see whiten.h. */
#include "whiten.h"

#include "eigen.h"

#include <math.h>

#define LEAST   1e-6 /* variance of a direction, of the largest */
#define COLUMNS 16   /* of a chunk of means */
#define ROWS    112  /* of a chunk of products */
#define ACROSS  192

void tacit_whiten_init(tacit_whiten *w, size_t in, size_t out, tacit_work *work)
{
    *w = (tacit_whiten){ .in = in, .out = out, .work = work };
}

static size_t packed_size(const tacit_whiten *w)
{
    return tacit_gemm_packed_size(w->work->kernels, w->out, w->in);
}

bool tacit_whiten_plan(const tacit_whiten *w, size_t *total)
{
    return tacit_arena_plan(total, w->in, sizeof *w->mean) &&
           tacit_arena_plan(total, w->out, w->in * sizeof *w->matrix) &&
           tacit_arena_plan(total, packed_size(w), sizeof *w->packed) &&
           tacit_arena_plan(total, w->in, w->in * sizeof *w->products) &&
           tacit_arena_plan(total, w->in, w->in * sizeof *w->covariance) &&
           tacit_arena_plan(total, w->in, w->in * sizeof *w->vectors) &&
           tacit_arena_plan(total, w->in, sizeof *w->values) &&
           tacit_arena_plan(total, w->in, 2 * sizeof *w->scratch);
}

void tacit_whiten_take(tacit_whiten *w, tacit_arena *arena)
{
    w->mean = tacit_arena_take(arena, w->in, sizeof *w->mean);
    w->matrix = tacit_arena_take(arena, w->out, w->in * sizeof *w->matrix);
    w->packed = tacit_arena_take(arena, packed_size(w), sizeof *w->packed);
    w->products = tacit_arena_take(arena, w->in, w->in * sizeof *w->products);
    w->covariance = tacit_arena_take(arena, w->in, w->in * sizeof *w->covariance);
    w->vectors = tacit_arena_take(arena, w->in, w->in * sizeof *w->vectors);
    w->values = tacit_arena_take(arena, w->in, sizeof *w->values);
    w->scratch = tacit_arena_take(arena, w->in, 2 * sizeof *w->scratch);
}

typedef struct job {
    const tacit_whiten *w;
    size_t rows;
    float *x, *y;
} job;

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t pieces(size_t n, size_t step)
{
    return (n + step - 1) / step;
}

static void mean_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    size_t in = j->w->in, from = chunk * COLUMNS, count = least(in - from, COLUMNS);
    double sum[COLUMNS] = { 0 };
    for (size_t i = 0; i < j->rows; i++)
        for (size_t c = 0; c < count; c++)
            sum[c] += (double)j->x[i * in + from + c];
    for (size_t c = 0; c < count; c++)
        j->w->mean[from + c] = (float)(sum[c] / (double)j->rows);
}

static void centre_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    size_t in = j->w->in, from = chunk * ROWS, to = least(from + ROWS, j->rows);
    for (size_t i = from; i < to; i++)
        for (size_t c = 0; c < in; c++)
            j->x[i * in + c] -= j->w->mean[c];
}

static void product_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    size_t in = j->w->in, across = pieces(in, ACROSS);
    size_t row = chunk / across * ROWS, column = chunk % across * ACROSS;
    j->w->work->kernels->gemm_tn_f32(least(in - row, ROWS), least(in - column, ACROSS), j->rows,
                                     j->x + row, in, j->x + column, in,
                                     j->w->products + row * in + column, in, false, NULL);
}

static void project_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_whiten *w = j->w;
    const tacit_kernels *k = w->work->kernels;
    size_t from = chunk * ROWS, count = least(j->rows - from, ROWS);
    float *y = j->y + from * w->out;
    k->gemm_f32(count, w->out, w->in, j->x + from * w->in, w->in, w->packed, y, w->out, NULL);
    k->l2norm_f32(count, w->out, y, w->out, y, w->out);
}

/* M from x^T x. */
static void directions(const tacit_whiten *w)
{
    size_t n = w->in;
    double first = 0;
    for (size_t i = 0; i < n; i++) /* both halves are the same but for rounding */
        for (size_t c = 0; c < n; c++)
            w->covariance[i * n + c] =
                ((double)w->products[i * n + c] + (double)w->products[c * n + i]) / 2;
    tacit_eigen_symmetric(n, w->covariance, w->values, w->vectors, w->scratch);
    for (size_t i = 0; i < w->out; i++) {
        size_t at = 0;
        for (size_t c = 1; c < n; c++)
            if (w->values[c] > w->values[at])
                at = c;
        double value = w->values[at];
        first = i ? first : value;
        double factor = value > LEAST * first ? 1 / sqrt(value / first) : 0;
        for (size_t c = 0; c < n; c++)
            w->matrix[i * n + c] = (float)(factor * w->vectors[at * n + c]);
        w->values[at] = -INFINITY; /* taken */
    }
}

void tacit_whiten_run(const tacit_whiten *w, size_t rows, float *x, float *y)
{
    tacit_pool *pool = w->work->pool;
    job j = { w, rows, x, y };
    tacit_parallel_for(pool, pieces(w->in, COLUMNS), mean_chunk, &j);
    tacit_parallel_for(pool, pieces(rows, ROWS), centre_chunk, &j);
    tacit_parallel_for(pool, pieces(w->in, ROWS) * pieces(w->in, ACROSS), product_chunk, &j);
    directions(w);
    w->work->kernels->gemm_pack_f32(w->out, w->in, w->matrix, w->in, w->packed);
    tacit_parallel_for(pool, pieces(rows, ROWS), project_chunk, &j);
}
