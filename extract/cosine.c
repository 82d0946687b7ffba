/* cosine.c - see cosine.h. */
#include "cosine.h"

#include "mem.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES ((size_t)16 << 20) /* of packed base vectors */
#define TINY        1e-12              /* as in torch.nn.functional.normalize and l2norm_f32 */

/* A tile of scores, which lies beside its operands in the second-level cache. COLUMNS is a multiple
 * of every gemm_nr. */
#define ROWS    112
#define COLUMNS TACIT_SWEEP_COLUMNS

/* Per worker: rows converted to float32, ROWS of them normalised, and a tile of scores. */
static size_t work_size(size_t dim)
{
    return 2 * ROWS * dim + ROWS * COLUMNS;
}

tacit_status tacit_sweep_open(tacit_sweep *s, const tacit_vectors *base, const tacit_vectors *query,
                              const tacit_kernels *kernels, tacit_pool *pool, tacit_err *err)
{
    size_t dim = base->dim, rows = BLOCK_BYTES / sizeof(float) / dim / COLUMNS * COLUMNS;
    size_t most = (base->rows + COLUMNS - 1) / COLUMNS * COLUMNS, packed, work;
    if (rows < COLUMNS)
        rows = COLUMNS;
    *s = (tacit_sweep){ .base = base, .query = query, .kernels = kernels, .pool = pool };
    s->block = rows < most ? rows : most;
    if (!tacit_mul_size(s->block * sizeof(float), dim, &packed) || dim > SIZE_MAX / 4096 ||
        !tacit_mul_size(work_size(dim) * sizeof(float), tacit_pool_threads(pool), &work))
        return tacit_fail(err, TACIT_ELIMIT, "vectors of %zu values are too long to compare", dim);
    s->packed = tacit_alloc(packed);
    s->work = tacit_alloc(work);
    if (s->packed && s->work)
        return TACIT_OK;
    tacit_sweep_close(s);
    return tacit_fail(err, TACIT_ENOMEM, "out of memory to compare vectors of %zu values", dim);
}

void tacit_sweep_close(tacit_sweep *s)
{
    tacit_free(s->packed);
    tacit_free(s->work);
    *s = (tacit_sweep){ 0 };
}

typedef struct job {
    const tacit_sweep *sweep;
    size_t first, rows;       /* of the base, packed */
    size_t from, count, step; /* queries */
    bool upper;
    tacit_cosine_visit *visit;
    void *ctx;
} job;

/* Rows of v, normalised, in the worker's memory. */
static float *normalised(const tacit_sweep *s, const tacit_vectors *v, size_t from, size_t count,
                         unsigned worker)
{
    float *work = s->work + worker * work_size(v->dim), *out = work + ROWS * v->dim;
    const float *x = tacit_vectors_rows(v, from, count, s->kernels, work);
    s->kernels->l2norm_f32(count, v->dim, x, v->dim, out, v->dim);
    return out;
}

/* Packs 32 base rows: a multiple of every gemm_nr, so panels are whole but for the last. */
#define PACK 32

static void pack_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const job *j = ctx;
    const tacit_sweep *s = j->sweep;
    size_t row = chunk * PACK, count = j->rows - row < PACK ? j->rows - row : PACK;
    size_t dim = s->base->dim;
    const float *x = normalised(s, s->base, j->first + row, count, worker);
    s->kernels->gemm_pack_f32(count, dim, x, dim, s->packed + row * dim);
}

static void score_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const job *j = ctx;
    const tacit_sweep *s = j->sweep;
    size_t row = chunk * j->step, count = j->count - row < j->step ? j->count - row : j->step;
    size_t query = j->from + row, dim = s->base->dim;
    if (j->upper && j->first + j->rows <= query)
        return;
    const float *x = normalised(s, s->query, query, count, worker);
    float *scores = s->work + worker * work_size(dim) + 2 * ROWS * dim;
    for (size_t column = 0; column < j->rows; column += COLUMNS) {
        size_t columns = j->rows - column < COLUMNS ? j->rows - column : COLUMNS;
        s->kernels->gemm_f32(count, columns, dim, x, dim, s->packed + column * dim, scores, COLUMNS,
                             NULL);
        for (size_t i = 0; i < count; i++)
            j->visit(j->ctx, query + i, j->first + column, columns, scores + i * COLUMNS, worker);
    }
}

void tacit_sweep_run(const tacit_sweep *s, size_t from, size_t count, bool upper,
                     tacit_cosine_visit *visit, void *ctx)
{
    job j = {
        .sweep = s, .from = from, .count = count, .upper = upper, .visit = visit, .ctx = ctx
    };
    size_t chunks = (count + ROWS - 1) / ROWS;
    j.step = chunks ? (count + chunks - 1) / chunks : 1;
    for (; j.first < s->base->rows; j.first += s->block) {
        j.rows = s->base->rows - j.first < s->block ? s->base->rows - j.first : s->block;
        tacit_parallel_for(s->pool, (j.rows + PACK - 1) / PACK, pack_chunk, &j);
        tacit_parallel_for(s->pool, chunks, score_chunk, &j);
    }
}

/* Higham, "Accuracy and Stability of Numerical Algorithms", 3.1: a chain of k fused steps is off by
 * at most k u times the sum of the magnitudes, which is at most 1 for vectors of length 1; then the
 * sum of the chains; and twice a normalisation, whose lanes of squares are halved by the root. */
float tacit_cosine_error(size_t dim)
{
    size_t chain = dim < TACIT_KC ? dim : TACIT_KC;
    double steps = (double)(chain + dim / TACIT_KC) + (double)dim / 16 + 20;
    return (float)(steps * 0x1p-24 * 1.01);
}

double tacit_cosine(const float *x, double norm, const tacit_vectors *v, size_t row,
                    const tacit_kernels *kernels, float *scratch)
{
    const float *y = tacit_vectors_rows(v, row, 1, kernels, scratch);
    double other = v->norms[row];
    return kernels->dot_f64(v->dim, x, y) /
           ((norm > TINY ? norm : TINY) * (other > TINY ? other : TINY));
}
