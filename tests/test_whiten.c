/* test_whiten.c - eigenvectors of symmetric matrices of any kind, by what they promise; whitening
 * against its definition, the same bits for any ISA and number of threads.
 */
#include "eigen.h"
#include "rng.h"
#include "whiten.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static tacit_isa isas[TACIT_ISA_COUNT];
static size_t isa_count;

static double number(uint64_t stream, uint64_t i)
{
    return 2 * (double)tacit_rng_uniform(3, stream, i) - 1;
}

enum { MOST = 70 };

/* Random; of low rank; diagonal, with the same value often; all 0; a block and zeros; of all sizes.
 */
static void fill(size_t kind, size_t n, double *a)
{
    memset(a, 0, n * n * sizeof *a);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double x = number(1, i * n + j);
            if (kind == 1)
                x = number(2, i) * number(2, j) + (double)(i % 7) * (double)(j % 7);
            if (kind == 2)
                x = i == j ? (double)(i % 3) : 0;
            if (kind == 3)
                x = 0;
            if (kind == 4)
                x = i < n / 2 ? x : 0;
            if (kind == 5)
                x *= pow(10, -(double)(i % 9) - (double)(j % 9));
            a[i * n + j] = a[j * n + i] = x;
        }
}

START_TEST(eigenvectors)
{
    static double a[MOST * MOST], kept[MOST * MOST], v[MOST * MOST], values[MOST],
        scratch[2 * MOST];
    static const size_t sizes[] = { 0, 1, 2, 3, 5, 16, 33, MOST };
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t n = sizes[s];
        fill((size_t)_i, n, a);
        memcpy(kept, a, sizeof a);
        double size = 1e-300;
        for (size_t i = 0; i < n * n; i++)
            size = fabs(a[i]) > size ? fabs(a[i]) : size;
        tacit_eigen_symmetric(n, a, values, v, scratch);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                double product = 0, length = 0;
                for (size_t k = 0; k < n; k++) {
                    product += kept[j * n + k] * v[i * n + k];
                    length += v[i * n + k] * v[j * n + k];
                }
                ck_assert_msg(fabs(length - (i == j)) < 1e-13 * (double)(n + 4), "size %zu", n);
                ck_assert_msg(fabs(product - values[i] * v[i * n + j]) <
                                  1e-14 * size * (double)(n + 4),
                              "size %zu, value %zu: off by %g", n, i,
                              fabs(product - values[i] * v[i * n + j]));
            }
    }
}
END_TEST

START_TEST(not_finite_ends)
{
    double a[25], v[25], values[5], scratch[10];
    for (size_t at = 0; at < 25; at += 6) {
        fill(0, 5, a);
        a[at] = at % 4 ? NAN : INFINITY;
        tacit_eigen_symmetric(5, a, values, v, scratch);
    }
}
END_TEST

static float *whiten(tacit_isa isa, unsigned threads, size_t rows, size_t in, size_t out,
                     const float *from, float *matrix)
{
    tacit_work work = { .kernels = tacit_kernels_for(isa) };
    tacit_whiten w;
    tacit_arena arena = { 0 };
    size_t total = 0;
    float *x = malloc(rows * in * sizeof *x), *y = malloc(rows * out * sizeof *y);
    memcpy(x, from, rows * in * sizeof *x);
    ck_assert_int_eq(tacit_pool_open(&work.pool, threads, NULL), TACIT_OK);
    tacit_whiten_init(&w, in, out, &work);
    ck_assert(tacit_whiten_plan(&w, &total));
    ck_assert_int_eq(tacit_arena_open(&arena, total, NULL), TACIT_OK);
    memset(arena.base, 0xff, total);
    tacit_whiten_take(&w, &arena);
    ck_assert_uint_eq(arena.used, total);
    uint64_t allocations = tacit_alloc_count();
    tacit_whiten_run(&w, rows, x, y);
    ck_assert_uint_eq(tacit_alloc_count(), allocations);
    memcpy(matrix, w.matrix, in * out * sizeof *matrix);
    tacit_arena_close(&arena);
    tacit_pool_close(&work.pool);
    free(x);
    return y;
}

static float *make_rows(size_t rows, size_t in)
{
    float *x = malloc(rows * in * sizeof *x);
    for (size_t i = 0; i < rows; i++)
        for (size_t c = 0; c < in; c++)
            x[i * in + c] = (float)(3 + number(5, i * in + c) * (1 + (double)(c % 5)) +
                                    2 * number(6, i * 3 + c % 3));
    return x;
}

/* The covariance of M x is a multiple of 1, M's rows hold the largest variances, and y is M x at
 * length 1. */
START_TEST(whitened)
{
    static const size_t shapes[][3] = { { 200, 12, 5 }, { 300, 40, 40 }, { 9, 3, 1 } };
    for (size_t s = 0; s < 3; s++) {
        size_t rows = shapes[s][0], in = shapes[s][1], out = shapes[s][2];
        float *x = make_rows(rows, in), matrix[40 * 40];
        float *y = whiten(isas[_i], 2, rows, in, out, x, matrix);
        double *p = calloc(rows * out, sizeof *p), mean[40] = { 0 }, scale = 0, last = 0;
        for (size_t i = 0; i < rows * in; i++)
            mean[i % in] += (double)x[i] / (double)rows;
        for (size_t i = 0; i < rows; i++) {
            double norm = 0;
            for (size_t o = 0; o < out; o++) {
                for (size_t c = 0; c < in; c++)
                    p[i * out + o] +=
                        (double)matrix[o * in + c] * ((double)x[i * in + c] - mean[c]);
                norm += p[i * out + o] * p[i * out + o];
            }
            for (size_t o = 0; o < out; o++)
                ck_assert_double_eq_tol((double)y[i * out + o], p[i * out + o] / sqrt(norm), 3e-6);
        }
        for (size_t a = 0; a < out; a++) {
            double length = 0;
            for (size_t b = 0; b <= a; b++) {
                double sum = 0;
                for (size_t i = 0; i < rows; i++)
                    sum += p[i * out + a] * p[i * out + b];
                scale = a ? scale : sum;
                ck_assert_double_eq_tol(sum / scale, a == b, 2e-5);
            }
            for (size_t c = 0; c < in; c++)
                length += (double)matrix[a * in + c] * (double)matrix[a * in + c];
            ck_assert_double_gt(length, last * 0.9999); /* 1 / variance */
            last = length;
        }
        free(x), free(y), free(p);
    }
}
END_TEST

/* Columns that are alike or do not change, fewer rows than columns: what is noise is left out. */
START_TEST(directions_without_variance)
{
    enum { ROWS = 6, IN = 20 };
    float *x = make_rows(ROWS, IN), matrix[IN * IN];
    for (size_t i = 0; i < ROWS; i++) {
        x[i * IN] = 7;
        x[i * IN + 1] = x[i * IN + 2];
    }
    float *y = whiten(isas[_i], 1, ROWS, IN, IN, x, matrix);
    for (size_t i = 0; i < ROWS; i++) {
        double norm = 0;
        for (size_t c = 0; c < IN; c++) {
            norm += (double)y[i * IN + c] * (double)y[i * IN + c];
            ck_assert(c < ROWS - 1 || y[i * IN + c] == 0);
        }
        ck_assert_double_eq_tol(norm, 1, 1e-6);
    }
    free(x), free(y);
}
END_TEST

START_TEST(same_bits)
{
    enum { ROWS = 2 * TACIT_KC + 5, IN = 250, OUT = 100 };
    static const unsigned threads[] = { 1, 2, 3, 8 };
    float *x = make_rows(ROWS, IN), *matrix = malloc(IN * OUT * sizeof *matrix), *want = NULL;
    for (size_t n = 0; n < isa_count * 4; n++) {
        float *y = whiten(isas[n / 4], threads[n % 4], ROWS, IN, OUT, x, matrix);
        ck_assert(!want || !memcmp(y, want, ROWS * OUT * sizeof *y));
        if (want)
            free(y);
        else
            want = y;
    }
    free(x), free(matrix), free(want);
}
END_TEST

int main(void)
{
    for (int isa = 0; isa < TACIT_ISA_COUNT; isa++)
        if (tacit_isa_available((tacit_isa)isa))
            isas[isa_count++] = (tacit_isa)isa;
    Suite *suite = suite_create("whiten");
    TCase *tests = tcase_create("whiten");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, eigenvectors, 0, 6);
    tcase_add_test(tests, not_finite_ends);
    tcase_add_loop_test(tests, whitened, 0, (int)isa_count);
    tcase_add_loop_test(tests, directions_without_variance, 0, (int)isa_count);
    tcase_add_test(tests, same_bits);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
