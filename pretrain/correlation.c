/* correlation.c - see correlation.h. */
#include "correlation.h"

#include <assert.h>
#include <string.h>

#define BLOCK   TACIT_KC /* rows of C at a time */
#define ROWS    32       /* of a chunk */
#define DB_ROWS 112      /* a chunk of dB */
#define COLUMNS 192

void tacit_correlation_init(tacit_correlation *c, size_t max_rows, size_t dim,
                            const tacit_work *work)
{
    *c = (tacit_correlation){ .max_rows = max_rows, .dim = dim, .work = work };
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t pieces(size_t n, size_t step)
{
    return (n + step - 1) / step;
}

/* Adds up what is needed, or where arena is given takes it. */
static bool plan(const tacit_correlation *c, size_t *total, tacit_correlation *to,
                 tacit_arena *arena)
{
    const tacit_kernels *k = c->work->kernels;
    size_t block = least(c->dim, BLOCK), grown = tacit_gemm_packed_size(k, block, c->dim);
    size_t by_column = tacit_gemm_packed_size(k, c->dim, block);
    const struct part {
        size_t count, size;
        float **at;
    } parts[] = {
        { c->dim, c->max_rows, arena ? &to->transposed : NULL },
        { tacit_gemm_packed_size(k, c->dim, c->max_rows), 1, arena ? &to->packed : NULL },
        { block, c->dim, arena ? &to->block : NULL },
        { grown > by_column ? grown : by_column, 1, arena ? &to->packed_block : NULL },
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (arena)
            *parts[i].at = tacit_arena_take(arena, parts[i].count, parts[i].size * sizeof(float));
        else if (!tacit_arena_plan(total, parts[i].count, parts[i].size * sizeof(float)))
            return false;
    if (arena)
        to->losses = tacit_arena_take(arena, c->dim, sizeof(double));
    return arena || tacit_arena_plan(total, c->dim, sizeof(double));
}

bool tacit_correlation_plan(const tacit_correlation *c, size_t *total)
{
    size_t size;
    return tacit_mul_size(c->max_rows + 64, c->dim + 64, &size) && plan(c, total, NULL, NULL);
}

void tacit_correlation_take(tacit_correlation *c, tacit_arena *arena)
{
    plan(c, NULL, c, arena);
}

typedef struct job {
    const tacit_correlation *c;
    size_t n, first, rows; /* rows of A; of C: where the block begins, and how many it has */
    const float *a, *b;
    float *da, *db;
    tacit_correlation_fn *turn;
    const void *ctx;
} job;

static void transpose_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    size_t dim = j->c->dim, from = chunk * ROWS, to = least(from + ROWS, dim);
    for (size_t i = 0; i < j->n; i++)
        for (size_t d = from; d < to; d++)
            j->c->transposed[d * j->n + i] = j->a[i * dim + d];
}

static void rows_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_correlation *c = j->c;
    size_t from = chunk * ROWS, count = least(j->rows - from, ROWS), row = j->first + from;
    float *block = c->block + from * c->dim;
    c->work->kernels->gemm_f32(count, c->dim, j->n, c->transposed + row * j->n, j->n, c->packed,
                               block, c->dim, NULL);
    for (size_t i = 0; i < count; i++)
        c->losses[row + i] = j->turn(j->ctx, row + i, block + i * c->dim);
}

/* Columns [first, first + rows) of dA = B G^T. */
static void da_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_correlation *c = j->c;
    size_t from = chunk * ROWS, count = least(j->n - from, ROWS);
    c->work->kernels->gemm_f32(count, j->rows, c->dim, j->b + from * c->dim, c->dim,
                               c->packed_block, j->da + from * c->dim + j->first, c->dim, NULL);
}

/* What the block adds to dB = A G. */
static void db_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_correlation *c = j->c;
    size_t across = pieces(c->dim, COLUMNS), row = chunk / across * DB_ROWS;
    size_t column = chunk % across * COLUMNS;
    c->work->kernels->gemm_tn_f32(least(j->n - row, DB_ROWS), least(c->dim - column, COLUMNS),
                                  j->rows, c->transposed + j->first * j->n + row, j->n,
                                  c->block + column, c->dim, j->db + row * c->dim + column, c->dim,
                                  j->first > 0, NULL);
}

double tacit_correlation_loss(const tacit_correlation *c, size_t n, const float *a, const float *b,
                              tacit_correlation_fn *turn, const void *ctx, float *da, float *db)
{
    const tacit_kernels *k = c->work->kernels;
    tacit_pool *pool = c->work->pool;
    job j = { .c = c, .n = n, .a = a, .b = b, .da = da, .db = db, .turn = turn, .ctx = ctx };
    double sum = 0;
    assert(n && n <= c->max_rows);
    tacit_parallel_for(pool, pieces(c->dim, ROWS), transpose_chunk, &j);
    k->gemm_pack_t_f32(c->dim, n, b, c->dim, c->packed);
    for (j.first = 0; j.first < c->dim; j.first += j.rows) {
        j.rows = least(c->dim - j.first, BLOCK);
        tacit_parallel_for(pool, pieces(j.rows, ROWS), rows_chunk, &j);
        k->gemm_pack_f32(j.rows, c->dim, c->block, c->dim, c->packed_block);
        tacit_parallel_for(pool, pieces(n, ROWS), da_chunk, &j);
        if (db)
            tacit_parallel_for(pool, pieces(n, DB_ROWS) * pieces(c->dim, COLUMNS), db_chunk, &j);
    }
    for (size_t i = 0; i < c->dim; i++)
        sum += c->losses[i];
    return sum;
}
