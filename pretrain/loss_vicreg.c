/* loss_vicreg.c - see loss_vicreg.h. */
#include "loss_vicreg.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define EPS 1e-4 /* inside the root */

void tacit_vicreg_init(tacit_vicreg *v, size_t max_rows, size_t dim, const tacit_work *work)
{
    *v = (tacit_vicreg){ .max_rows = max_rows, .dim = dim };
    tacit_correlation_init(&v->correlation, max_rows, dim, work);
}

bool tacit_vicreg_plan(const tacit_vicreg *v, size_t *total)
{
    return tacit_correlation_plan(&v->correlation, total) &&
           tacit_arena_plan(total, v->max_rows, v->dim * sizeof(float)) &&
           tacit_arena_plan(total, 4 * v->dim, sizeof(float)) &&
           tacit_arena_plan(total, 2 * v->dim, sizeof(double));
}

void tacit_vicreg_take(tacit_vicreg *v, tacit_arena *arena)
{
    tacit_correlation_take(&v->correlation, arena);
    v->centred = tacit_arena_take(arena, v->max_rows, v->dim * sizeof(float));
    v->pull = tacit_arena_take(arena, 4 * v->dim, sizeof(float));
    v->mean = v->pull + v->dim;
    v->ones = v->mean + v->dim;
    v->zeros = v->ones + v->dim;
    v->sums = tacit_arena_take(arena, 2 * v->dim, sizeof(double));
    for (size_t d = 0; d < v->dim; d++) {
        v->ones[d] = 1;
        v->zeros[d] = 0;
    }
}

/* The hinge on the columns' deviations: gives v(X) / 2, puts the columns' means into mean, and into
 * pull what their centred values are to be multiplied with for its gradient. */
static double variance(const tacit_vicreg *v, size_t n, const float *x)
{
    const tacit_kernels *k = v->correlation.work->kernels;
    size_t dim = v->dim;
    double m = (double)n, hinge = 0, share = v->weight[TACIT_VICREG_VARIANCE] / (2 * (double)dim);
    memset(v->sums, 0, 2 * dim * sizeof *v->sums);
    k->moments_f32(n, dim, x, dim, v->sums, v->sums + dim);
    for (size_t d = 0; d < dim; d++) {
        double mean = v->sums[d] / m;
        double var = fmax(0, v->sums[dim + d] / m - mean * mean) * m / (m - 1);
        double deviation = sqrt(var + EPS);
        v->mean[d] = (float)mean;
        v->pull[d] = deviation < 1 ? (float)(-share / (deviation * (m - 1))) : 0;
        hinge += fmax(0, 1 - deviation);
    }
    return hinge / (2 * (double)dim);
}

typedef struct covariance {
    const tacit_vicreg *v;
    double rows; /* N - 1 */
} covariance;

/* A row of (N - 1) Cov. As Cov is symmetric, the gradient of a column is twice that by A alone. */
static double turn(const void *ctx, size_t row, float *c)
{
    const covariance *cov = ctx;
    const tacit_vicreg *v = cov->v;
    const tacit_kernels *k = v->correlation.work->kernels;
    double rows = cov->rows, dim = (double)v->dim;
    k->scale_add_f32(v->dim, c, (float)(1 / rows), NULL, c);
    c[row] = 0;
    double sum = k->dot_f64(v->dim, c, c);
    k->scale_add_f32(v->dim, c, (float)(4 * v->weight[TACIT_VICREG_COVARIANCE] / (dim * rows)),
                     NULL, c);
    return sum / dim;
}

double tacit_vicreg_loss(const tacit_vicreg *v, size_t n, const float *z, float *dz, double *parts)
{
    const tacit_kernels *k = v->correlation.work->kernels;
    size_t dim = v->dim, values = n * dim;
    const tacit_batchnorm centre = { v->mean, v->ones, v->ones, v->zeros, false };
    const covariance cov = { v, (double)n - 1 };
    double cells = (double)values, pull = 2 * v->weight[TACIT_VICREG_INVARIANCE] / cells;
    assert(n > 1 && n <= v->max_rows);
    memset(parts, 0, TACIT_VICREG_PARTS * sizeof *parts);
    for (size_t view = 0; view < 2; view++) {
        const float *x = z + view * values;
        float *dx = dz + view * values;
        parts[TACIT_VICREG_VARIANCE] += variance(v, n, x);
        k->batchnorm_f32(n, dim, x, dim, &centre, NULL, 0, v->centred, dim);
        parts[TACIT_VICREG_COVARIANCE] += tacit_correlation_loss(&v->correlation, n, v->centred,
                                                                 v->centred, turn, &cov, dx, NULL);
        for (size_t i = 0; i < n; i++)
            for (size_t d = 0; d < dim; d++)
                dx[i * dim + d] += v->pull[d] * v->centred[i * dim + d];
    }
    double squares = 0;
    for (size_t i = 0; i < values; i++) {
        float difference = z[i] - z[values + i], d = (float)(pull * (double)difference);
        squares += (double)difference * (double)difference;
        dz[i] += d;
        dz[values + i] -= d;
    }
    parts[TACIT_VICREG_INVARIANCE] = squares / cells;
    double loss = 0;
    for (int i = 0; i < TACIT_VICREG_PARTS; i++)
        loss += v->weight[i] * parts[i];
    return loss;
}
