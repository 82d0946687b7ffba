/* loss_swav.c - see loss_swav.h.
 *
 * A row of view v has m codes to predict: those of the views 0 and 1 that it is not, m is 1 for
 * these two and 2 for all others. With c = 1 / (2 (V - 1) N), its loss is
 * c (m log sum_k exp(s / t) - sum_i q_i s / t), and ds = c / t (m p - sum_i q_i).
 */
#include "loss_swav.h"

#include <assert.h>

double Sleef_cinz_logd1_u10purec(double);

#define BLOCK  TACIT_KC /* rows of s at a time */
#define ROWS   32       /* of a chunk */
#define OTHERS 112      /* prototypes whose gradient is one chunk */

void tacit_swav_init(tacit_swav *loss, size_t max_images, size_t views, size_t dim,
                     size_t prototypes, double temperature, const tacit_work *work)
{
    *loss = (tacit_swav){ .max_images = max_images,
                          .views = views,
                          .dim = dim,
                          .prototypes = prototypes,
                          .temperature = temperature,
                          .work = work };
}

/* Adds up what is needed, or where arena is given takes it. */
static bool plan(const tacit_swav *l, size_t *total, tacit_swav *to, tacit_arena *arena)
{
    const tacit_kernels *k = l->work->kernels;
    size_t rows = l->views * l->max_images, block = rows < BLOCK ? rows : BLOCK;
    const struct part {
        size_t count, size;
        float **at;
    } parts[] = {
        { rows, l->dim, arena ? &to->unit : NULL },
        { rows, l->dim, arena ? &to->dunit : NULL },
        { tacit_gemm_packed_size(k, l->prototypes, l->dim), 1, arena ? &to->by_row : NULL },
        { tacit_gemm_packed_size(k, l->dim, l->prototypes), 1, arena ? &to->by_column : NULL },
        { block, l->prototypes, arena ? &to->scores : NULL },
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (arena)
            *parts[i].at = tacit_arena_take(arena, parts[i].count, parts[i].size * sizeof(float));
        else if (!tacit_arena_plan(total, parts[i].count, parts[i].size * sizeof(float)))
            return false;
    if (!arena)
        return tacit_arena_plan(total, rows, sizeof(double));
    to->losses = tacit_arena_take(arena, rows, sizeof(double));
    return true;
}

bool tacit_swav_plan(const tacit_swav *loss, size_t *total)
{
    return plan(loss, total, NULL, NULL);
}

void tacit_swav_take(tacit_swav *loss, tacit_arena *arena)
{
    plan(loss, NULL, loss, arena);
}

typedef struct job {
    const tacit_swav *l;
    size_t images, rows, first, block; /* rows: all; the block's */
    const float *x, *codes;
    float *y;
} job;

static size_t rows_at(size_t rows, size_t from, size_t step)
{
    return rows - from < step ? rows - from : step;
}

static void run(job *j, size_t rows, size_t step, tacit_chunk_fn *chunk)
{
    tacit_parallel_for(j->l->work->pool, (rows + step - 1) / step, chunk, j);
}

static void unit_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    size_t dim = j->l->dim, from = chunk * ROWS;
    j->l->work->kernels->l2norm_f32(rows_at(j->rows, from, ROWS), dim, j->x + from * dim, dim,
                                    j->l->unit + from * dim, dim);
}

void tacit_swav_begin(const tacit_swav *l, size_t images, const float *z, const float *prototypes)
{
    const tacit_kernels *k = l->work->kernels;
    job j = { .l = l, .rows = l->views * images, .x = z };
    assert(images && images <= l->max_images);
    run(&j, j.rows, ROWS, unit_chunk);
    k->gemm_pack_f32(l->prototypes, l->dim, prototypes, l->dim, l->by_row);
    k->gemm_pack_t_f32(l->dim, l->prototypes, prototypes, l->dim, l->by_column);
}

static void scores_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_swav *l = j->l;
    size_t from = chunk * ROWS, n = l->prototypes;
    l->work->kernels->gemm_f32(rows_at(j->rows, from, ROWS), n, l->dim, j->x + from * l->dim,
                               l->dim, l->by_row, j->y + from * n, n, NULL);
}

void tacit_swav_scores(const tacit_swav *l, size_t rows, const float *x, float *scores)
{
    job j = { .l = l, .rows = rows, .x = x, .y = scores };
    run(&j, rows, ROWS, scores_chunk);
}

/* The loss of a row of scores over temperature without c; they become their gradient. b: NULL where
 * there is one code. */
static double predict(const tacit_swav *l, const float *a, const float *b, float c, float *scores)
{
    const tacit_kernels *k = l->work->kernels;
    size_t n = l->prototypes, best = 0;
    float m = b ? 2 : 1;
    for (size_t i = 1; i < n; i++)
        if (scores[i] > scores[best])
            best = i;
    double most = (double)scores[best], agree = k->dot_f64(n, a, scores);
    if (b)
        agree += k->dot_f64(n, b, scores);
    k->softmax_f32(1, n, scores, n, 1, scores, n);
    double all = most - Sleef_cinz_logd1_u10purec((double)scores[best]);
    for (size_t i = 0; i < n; i++)
        scores[i] = c * (m * scores[i] - (b ? a[i] + b[i] : a[i]));
    return (double)m * all - agree;
}

static void predict_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_swav *l = j->l;
    const tacit_kernels *k = l->work->kernels;
    size_t within = chunk * ROWS, count = rows_at(j->block, within, ROWS), from = j->first + within;
    size_t n = l->prototypes;
    double share = TACIT_SWAV_CODES * (double)(l->views - 1) * (double)j->images;
    float *scores = l->scores + within * n;
    k->gemm_f32(count, n, l->dim, l->unit + from * l->dim, l->dim, l->by_row, scores, n, NULL);
    k->scale_add_f32(count * n, scores, (float)(1 / l->temperature), NULL, scores);
    for (size_t i = 0; i < count; i++) {
        size_t view = (from + i) / j->images, image = (from + i) % j->images;
        const float *first = j->codes + image * n, *second = first + j->images * n;
        l->losses[from + i] =
            predict(l, view ? first : second, view >= TACIT_SWAV_CODES ? second : NULL,
                    (float)(1 / (share * l->temperature)), scores + i * n) /
            share;
    }
    k->gemm_f32(count, l->dim, n, scores, n, l->by_column, l->dunit + from * l->dim, l->dim, NULL);
}

static void prototypes_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_swav *l = j->l;
    size_t from = chunk * OTHERS;
    l->work->kernels->gemm_tn_f32(rows_at(l->prototypes, from, OTHERS), l->dim, j->block,
                                  l->scores + from, l->prototypes, l->unit + j->first * l->dim,
                                  l->dim, j->y + from * l->dim, l->dim, true, NULL);
}

static void gradient_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    size_t dim = j->l->dim, from = chunk * ROWS;
    j->l->work->kernels->l2norm_backward_f32(rows_at(j->rows, from, ROWS), dim, j->x + from * dim,
                                             dim, j->l->dunit + from * dim, dim, j->y + from * dim,
                                             dim);
}

double tacit_swav_loss(const tacit_swav *l, size_t images, const float *z, const float *codes,
                       float *dz, float *dprototypes)
{
    job j = { .l = l,
              .images = images,
              .rows = l->views * images,
              .x = z,
              .codes = codes,
              .y = dprototypes };
    double sum = 0;
    for (; j.first < j.rows; j.first += j.block) {
        j.block = rows_at(j.rows, j.first, BLOCK);
        run(&j, j.block, ROWS, predict_chunk);
        run(&j, l->prototypes, OTHERS, prototypes_chunk);
    }
    j.y = dz;
    run(&j, j.rows, ROWS, gradient_chunk);
    for (size_t i = 0; i < j.rows; i++)
        sum += l->losses[i];
    return sum;
}
