/* bn.c - see bn.h. */
#include "bn.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define ROWS 128

tacit_status tacit_bn_declare(tacit_bn *bn, const char *name, size_t n, bool relu,
                              tacit_bn_affine affine, double gain, size_t max_rows,
                              tacit_params *params, tacit_work *work, tacit_err *err)
{
    const tacit_init first = { .kind = TACIT_INIT_CONSTANT, .size = gain };
    const struct part {
        const char *name;
        tacit_init init;
        bool learned, buffer;
        tacit_param **at;
    } parts[] = {
        { "weight", first, affine != TACIT_BN_PLAIN, false, &bn->gamma },
        { "bias", TACIT_ZEROS, affine == TACIT_BN_AFFINE, false, &bn->beta },
        { "running_mean", TACIT_ZEROS, false, true, &bn->running_mean },
        { "running_var", TACIT_ONES, false, true, &bn->running_var },
    };
    *bn = (tacit_bn){ .n = n, .eps = 1e-5f, .momentum = 0.1f, .relu = relu, .groups = 1 };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char full[2 * TACIT_PARAM_NAME];
        snprintf(full, sizeof full, "%s.%s", name, parts[i].name);
        tacit_status st = tacit_params_add(params, full, 1, &n, parts[i].init, parts[i].at, err);
        if (st < 0)
            return st;
        (*parts[i].at)->frozen = !parts[i].learned;
        (*parts[i].at)->buffer = parts[i].buffer;
    }
    /* two doubles for each channel of each slot */
    tacit_work_need(&work->partial_floats, (max_rows + ROWS - 1) / ROWS * 4 * n);
    return TACIT_OK;
}

bool tacit_bn_plan(const tacit_bn *bn, size_t *total)
{
    return tacit_arena_plan(total, 2 * (bn->groups + 1) * bn->n, sizeof(float));
}

void tacit_bn_take(tacit_bn *bn, tacit_arena *arena)
{
    bn->mean = tacit_arena_take(arena, 2 * (bn->groups + 1) * bn->n, sizeof(float));
    bn->rstd = bn->mean + bn->groups * bn->n;
    bn->a = bn->rstd + bn->groups * bn->n;
    bn->b = bn->a + bn->n;
}

typedef struct bn_job {
    const tacit_work *work;
    const tacit_bn *bn;
    tacit_batchnorm norm;
    size_t rows, ldx, ldb, lddy, ldy;
    const float *x, *beside, *dy;
    float *y;
} bn_job;

static size_t chunks_of(size_t rows)
{
    return (rows + ROWS - 1) / ROWS;
}

static size_t rows_of(const bn_job *j, size_t chunk)
{
    return j->rows - chunk * ROWS < ROWS ? j->rows - chunk * ROWS : ROWS;
}

/* The two sums of a chunk's rows. */
static double *slot_of(const bn_job *j, size_t chunk)
{
    return (double *)(void *)j->work->partial + chunk * 2 * j->bn->n;
}

static void moments_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const bn_job *j = ctx;
    size_t n = j->bn->n;
    double *slot = slot_of(j, chunk);
    memset(slot, 0, 2 * n * sizeof *slot);
    j->work->kernels->moments_f32(rows_of(j, chunk), n, j->x + chunk * ROWS * j->ldx, j->ldx, slot,
                                  slot + n);
}

static void sums_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const bn_job *j = ctx;
    size_t n = j->bn->n, row = chunk * ROWS;
    double *slot = slot_of(j, chunk);
    memset(slot, 0, 2 * n * sizeof *slot);
    j->work->kernels->batchnorm_sums_f32(rows_of(j, chunk), n, j->x + row * j->ldx, j->ldx,
                                         &j->norm, j->dy + row * j->lddy, j->lddy, slot, slot + n);
}

/* All slots into the first. */
static const double *gather_slots(const bn_job *j)
{
    double *sum = slot_of(j, 0);
    for (size_t chunk = 1; chunk < chunks_of(j->rows); chunk++) {
        const double *slot = slot_of(j, chunk);
        for (size_t i = 0; i < 2 * j->bn->n; i++)
            sum[i] += slot[i];
    }
    return sum;
}

static void forward_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const bn_job *j = ctx;
    size_t row = chunk * ROWS;
    j->work->kernels->batchnorm_f32(rows_of(j, chunk), j->bn->n, j->x + row * j->ldx, j->ldx,
                                    &j->norm, j->beside ? j->beside + row * j->ldb : NULL, j->ldb,
                                    j->y + row * j->ldy, j->ldy);
}

static tacit_batchnorm norm_of(const tacit_bn *bn, size_t group)
{
    return (tacit_batchnorm){ bn->mean + group * bn->n, bn->rstd + group * bn->n, bn->gamma->value,
                              bn->beta->value, bn->relu };
}

/* The running statistics take `share` of these, by momentum. */
static void run(const tacit_bn *bn, size_t i, double mean, double var, double keep, double share)
{
    float *running_mean = &bn->running_mean->value[i], *running_var = &bn->running_var->value[i];
    *running_mean = (float)(keep * (double)*running_mean + share * mean);
    *running_var = (float)(keep * (double)*running_var + share * var);
}

/* Mean and deviation of one group, whose rows are j's. */
static void take_statistics(const bn_job *j, size_t group)
{
    const tacit_bn *bn = j->bn;
    const double *sums = gather_slots(j);
    double m = (double)j->rows, a = (double)bn->momentum;
    size_t pool = bn->pooled ? bn->pooled : 1;
    double share = a / (double)pool, keep = group % pool ? 1 : 1 - a;
    float *mean_of = bn->mean + group * bn->n, *rstd_of = bn->rstd + group * bn->n;
    for (size_t i = 0; i < bn->n; i++) {
        double mean = sums[i] / m, var = fmax(0, sums[bn->n + i] / m - mean * mean);
        mean_of[i] = (float)mean;
        rstd_of[i] = (float)(1 / sqrt(var + (double)bn->eps));
        run(bn, i, mean, var * (j->rows > 1 ? m / (m - 1) : 1), keep, share);
    }
}

void tacit_bn_forward(const tacit_work *work, tacit_bn *bn, size_t rows, const float *x, size_t ldx,
                      const float *beside, size_t ldb, float *y, size_t ldy)
{
    bn_job j = {
        .work = work, .bn = bn, .rows = rows / bn->groups, .ldx = ldx, .ldb = ldb, .ldy = ldy
    };
    assert(rows && rows % bn->groups == 0 && !(beside && bn->relu));
    for (size_t g = 0; g < bn->groups; g++) {
        j.norm = norm_of(bn, g);
        j.x = x + g * j.rows * ldx;
        j.beside = beside ? beside + g * j.rows * ldb : NULL;
        j.y = y + g * j.rows * ldy;
        tacit_parallel_for(work->pool, chunks_of(j.rows), moments_chunk, &j);
        take_statistics(&j, g);
        tacit_parallel_for(work->pool, chunks_of(j.rows), forward_chunk, &j);
    }
}

static void backward_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const bn_job *j = ctx;
    size_t row = chunk * ROWS;
    j->work->kernels->batchnorm_backward_f32(rows_of(j, chunk), j->bn->n, j->x + row * j->ldx,
                                             j->ldx, &j->norm, j->dy + row * j->lddy, j->lddy,
                                             j->bn->a, j->bn->b, j->y + row * j->ldy, j->ldy);
}

void tacit_bn_backward(const tacit_work *work, tacit_bn *bn, size_t rows, const float *x,
                       size_t ldx, const float *dy, size_t lddy, float *dx, size_t lddx)
{
    bn_job j = {
        .work = work, .bn = bn, .rows = rows / bn->groups, .ldx = ldx, .lddy = lddy, .ldy = lddx
    };
    for (size_t g = 0; g < bn->groups; g++) {
        j.norm = norm_of(bn, g);
        j.x = x + g * j.rows * ldx;
        j.dy = dy + g * j.rows * lddy;
        j.y = dx + g * j.rows * lddx;
        tacit_parallel_for(work->pool, chunks_of(j.rows), sums_chunk, &j);
        const double *sums = gather_slots(&j);
        for (size_t i = 0; i < bn->n; i++) {
            bn->a[i] = (float)(sums[i] / (double)j.rows);
            bn->b[i] = (float)(sums[bn->n + i] / (double)j.rows);
            bn->beta->grad[i] += (float)sums[i];
            bn->gamma->grad[i] += (float)sums[bn->n + i];
        }
        tacit_parallel_for(work->pool, chunks_of(j.rows), backward_chunk, &j);
    }
}
