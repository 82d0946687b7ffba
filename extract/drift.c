/* drift.c - see drift.h. */
#include "drift.h"

#include "knn.h"
#include "mem.h"

#include <math.h>

#define LONGEST   1e18 /* as in vectors.h */
#define MOST_ROWS UINT32_MAX
/* Of the votes: what `tacit knn` has for its default. */
#define TEMPERATURE 0.07

/* The rows of a matrix as what knn.h takes. */
static tacit_status open_set(tacit_vectors *v, const float *rows, const tacit_drift *d, size_t dim,
                             const tacit_kernels *kernels, tacit_err *err)
{
    *v = (tacit_vectors){ .path = (char *)"drift",
                          .npy = { .dtype = TACIT_F32 },
                          .elements = rows,
                          .rows = d->rows,
                          .dim = dim,
                          .norms = tacit_calloc(d->rows, sizeof *v->norms) };
    if (!v->norms)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu rows", d->rows);
    for (size_t i = 0; i < d->rows; i++) {
        v->norms[i] = sqrt(kernels->dot_f64(dim, rows + i * dim, rows + i * dim));
        if (!(v->norms[i] <= LONGEST))
            return tacit_fail(err, TACIT_EFORMAT, "vector %zu %s", i,
                              isfinite(v->norms[i]) ? "is longer than 1e18"
                                                    : "holds a NaN or an infinity");
    }
    return TACIT_OK;
}

/* One root of the product, not two roots: for equal vectors it is the product they have, so that
 * they are at 1 exactly. Squares of what a float holds stay above 0 in double. */
static double cosine(const float *x, const float *y, size_t dim, const tacit_kernels *kernels)
{
    double xx = kernels->dot_f64(dim, x, x), yy = kernels->dot_f64(dim, y, y);
    if (xx == 0 || yy == 0)
        return xx == yy;
    double value = kernels->dot_f64(dim, x, y) / sqrt(xx * yy);
    return value > 1 ? 1 : value;
}

static void compare_rows(tacit_drift *d, const float *a, const float *b, size_t dim,
                         const tacit_kernels *kernels)
{
    double sum = 0;
    d->worst = INFINITY;
    for (size_t i = 0; i < d->rows; i++) {
        double value = cosine(a + i * dim, b + i * dim, dim, kernels);
        sum += value;
        if (value < d->worst) {
            d->worst = value;
            d->worst_row = i;
        }
    }
    d->mean = sum / (double)d->rows;
}

/* found: each set's neighbours of `count` rows. seen (rows), by number the last row, counted from
 * 1, that had it for a neighbour in the first set. */
static void count_shared(const tacit_drift *d, const tacit_neighbor *const found[2], size_t from,
                         size_t count, uint32_t *seen, uint64_t *shared, uint64_t *same)
{
    for (size_t i = 0; i < count; i++) {
        const tacit_neighbor *a = found[0] + i * d->k, *b = found[1] + i * d->k;
        uint32_t row = (uint32_t)(from + i) + 1;
        for (size_t j = 0; j < d->k; j++)
            seen[a[j].row] = row;
        for (size_t j = 0; j < d->k; j++)
            *shared += seen[b[j].row] == row;
        *same += a->row == b->row;
    }
}

/* Rows whose neighbours vote for the same class in both sets. votes: room for the classes. */
static uint64_t count_agreeing(const tacit_drift *d, const tacit_neighbor *const found[2],
                               size_t count, const uint32_t *class_of, double *votes,
                               size_t classes)
{
    uint64_t agree = 0;
    for (size_t i = 0; i < count; i++) {
        size_t best[2] = { 0 };
        for (size_t s = 0; s < 2; s++) {
            tacit_knn_vote(found[s] + i * d->k, d->k, class_of, TEMPERATURE, votes, classes);
            for (size_t c = 1; c < classes; c++)
                best[s] = votes[c] > votes[best[s]] ? c : best[s];
        }
        agree += best[0] == best[1];
    }
    return agree;
}

static tacit_status compare_neighbours(tacit_drift *d, const tacit_vectors sets[2], size_t k,
                                       const uint32_t *class_of, size_t classes,
                                       const tacit_kernels *kernels, tacit_pool *pool,
                                       tacit_err *err)
{
    tacit_knn *knn[2] = { NULL, NULL };
    uint32_t *seen = tacit_calloc(d->rows, sizeof *seen);
    double *votes = tacit_calloc(classes ? classes : 1, sizeof *votes);
    uint64_t shared = 0, same = 0, agree = 0;
    tacit_status st = seen && votes ? TACIT_OK : tacit_fail(err, TACIT_ENOMEM, "out of memory");
    for (int i = 0; st == TACIT_OK && i < 2; i++)
        st = tacit_knn_open(&knn[i], &sets[i], NULL, k, kernels, pool, err);
    if (st == TACIT_OK) {
        const tacit_neighbor *found[2];
        size_t from, count;
        d->k = tacit_knn_k(knn[0]);
        /* Turns are cut by rows and k, so both are at the same queries. */
        while ((count = tacit_knn_next(knn[0], &from, &found[0])) > 0) {
            tacit_knn_next(knn[1], &from, &found[1]);
            count_shared(d, found, from, count, seen, &shared, &same);
            if (class_of)
                agree += count_agreeing(d, found, count, class_of, votes, classes);
        }
        d->shared = (double)shared / (double)d->k / (double)d->rows;
        d->same_first = (double)same / (double)d->rows;
        d->same_class = (double)agree / (double)d->rows;
    }
    tacit_knn_close(&knn[0]);
    tacit_knn_close(&knn[1]);
    tacit_free(seen);
    tacit_free(votes);
    return st;
}

tacit_status tacit_drift_measure(tacit_drift *drift, const float *a, const float *b, size_t rows,
                                 size_t dim, size_t k, const uint32_t *class_of, size_t classes,
                                 const tacit_kernels *kernels, tacit_pool *pool, tacit_err *err)
{
    *drift = (tacit_drift){ .rows = rows };
    if (rows < 2 || !dim || !k)
        return tacit_fail(err, TACIT_EINVAL, "%zu neighbours of %zu vectors of %zu values", k, rows,
                          dim);
    if (rows >= MOST_ROWS)
        return tacit_fail(err, TACIT_ELIMIT, "%zu rows are too many", rows);
    tacit_vectors sets[2] = { 0 };
    tacit_status st = open_set(&sets[0], a, drift, dim, kernels, err);
    if (st == TACIT_OK)
        st = open_set(&sets[1], b, drift, dim, kernels, err);
    if (st == TACIT_OK) {
        compare_rows(drift, a, b, dim, kernels);
        st = compare_neighbours(drift, sets, k, class_of, classes, kernels, pool, err);
    }
    tacit_free(sets[0].norms);
    tacit_free(sets[1].norms);
    return st;
}
