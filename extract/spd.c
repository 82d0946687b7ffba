/* spd.c - see spd.h. */
#include "spd.h"

#include "mem.h"

#include <math.h>
#include <string.h>

#define BLOCK   64
#define ROWS    112 /* of a chunk of the update */
#define COLUMNS 128

/* p (b, b) from rows of a to its inverse, in double. */
static bool invert_block(size_t b, double p[BLOCK][BLOCK])
{
    for (size_t k = 0; k < b; k++) {
        double pivot = p[k][k];
        if (!(pivot > 0) || !isfinite(pivot))
            return false;
        p[k][k] = 1;
        for (size_t j = 0; j < b; j++)
            p[k][j] /= pivot;
        for (size_t i = 0; i < b; i++) {
            double factor = i == k ? 0 : p[i][k];
            if (i != k)
                p[i][k] = 0;
            for (size_t j = 0; j < b; j++)
                p[i][j] -= factor * p[k][j];
        }
    }
    return true;
}

typedef struct update {
    const tacit_kernels *kernels;
    float *a;
    size_t n, b, row_chunks;
    const float *column, *row; /* (b, n) each */
} update;

/* a += column transposed times row, a tile of it. */
static void update_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const update *u = ctx;
    size_t i = chunk % u->row_chunks * ROWS, j = chunk / u->row_chunks * COLUMNS;
    size_t rows = u->n - i < ROWS ? u->n - i : ROWS;
    size_t columns = u->n - j < COLUMNS ? u->n - j : COLUMNS;
    u->kernels->gemm_tn_f32(rows, columns, u->b, u->column + i, u->n, u->row + j, u->n,
                            u->a + i * u->n + j, u->n, true, NULL);
}

/* Eliminates rows and columns [at, at + b): with P the inverse of that block and R = P a[at, :],
 * a[i, j] -= a[i, at] R[:, j], a[i, at] = -a[i, at] P, a[at, :] = R, a[at, at] = P. */
static bool eliminate(const update *u, size_t at, float *column, float *row, tacit_pool *pool)
{
    double p[BLOCK][BLOCK];
    float transposed[BLOCK * BLOCK] = { 0 };
    size_t n = u->n, b = u->b;
    for (size_t k = 0; k < b; k++)
        for (size_t l = 0; l < b; l++)
            p[k][l] = (double)u->a[(at + k) * n + at + l];
    if (!invert_block(b, p))
        return false;
    for (size_t k = 0; k < b; k++)
        for (size_t l = 0; l < b; l++)
            transposed[l * b + k] = (float)p[k][l];
    u->kernels->gemm_tn_f32(b, n, b, transposed, b, u->a + at * n, n, row, n, false, NULL);
    for (size_t k = 0; k < b; k++)
        for (size_t l = 0; l < b; l++)
            row[k * n + at + l] = (float)p[k][l];
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < b; k++) {
            bool inside = i >= at && i < at + b;
            column[k * n + i] = inside ? 0 : -u->a[i * n + at + k];
            u->a[i * n + at + k] = 0;
        }
    tacit_parallel_for(pool, u->row_chunks * ((n + COLUMNS - 1) / COLUMNS), update_chunk,
                       (void *)u);
    memcpy(u->a + at * n, row, b * n * sizeof *row);
    return true;
}

tacit_status tacit_spd_invert(float *a, size_t n, const tacit_kernels *kernels, tacit_pool *pool,
                              tacit_err *err)
{
    float *column = tacit_calloc(n, BLOCK * sizeof *column);
    float *row = tacit_calloc(n, BLOCK * sizeof *row);
    tacit_status st = TACIT_OK;
    if (!column || !row)
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for a matrix of %zu rows", n);
    update u = { kernels, a, n, 0, (n + ROWS - 1) / ROWS, column, row };
    for (size_t at = 0; st == TACIT_OK && at < n; at += BLOCK) {
        u.b = n - at < BLOCK ? n - at : BLOCK;
        if (!eliminate(&u, at, column, row, pool))
            st = tacit_fail(err, TACIT_EFORMAT, "a matrix of %zu rows has no inverse", n);
    }
    tacit_free(column);
    tacit_free(row);
    return st;
}
