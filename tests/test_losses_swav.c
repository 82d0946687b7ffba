/* test_losses_swav.c - SwAV's codes and loss as pure functions: against definitions in double, the
 * gradients against differences of those, the same bits for any ISA and number of threads, also
 * where there is more than one block; codes of scores that a plain exp would not survive.
 */
#include "loss_swav.h"
#include "rng.h"
#include "sinkhorn.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static tacit_isa isas[TACIT_ISA_COUNT];
static size_t isa_count;

static float number(uint64_t stream, uint64_t i)
{
    return 2 * tacit_rng_uniform(3, stream, i) - 1;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static void *take(size_t count, size_t size)
{
    void *values = calloc(count, size);
    ck_assert_ptr_nonnull(values);
    return values;
}

/* Codes --------------------------------------------------------------------------------------- */

/* main_swav.py, distributed_sinkhorn, with logarithms in place of the values. */
static void sinkhorn(size_t rows, size_t n, double epsilon, size_t iterations, const float *scores,
                     double *q)
{
    for (size_t i = 0; i < rows * n; i++)
        q[i] = (double)scores[i] / epsilon;
    for (size_t t = 0; t <= iterations; t++) {
        for (size_t k = 0; t < iterations && k < n; k++) {
            double most = -INFINITY, sum = 0;
            for (size_t b = 0; b < rows; b++)
                most = larger(most, q[b * n + k]);
            for (size_t b = 0; b < rows; b++)
                sum += exp(q[b * n + k] - most);
            for (size_t b = 0; b < rows; b++)
                q[b * n + k] -= most + log(sum) + log((double)n);
        }
        for (size_t b = 0; b < rows; b++) { /* the last time after the last iteration, as there */
            double most = -INFINITY, sum = 0;
            for (size_t k = 0; k < n; k++)
                most = larger(most, q[b * n + k]);
            for (size_t k = 0; k < n; k++)
                sum += exp(q[b * n + k] - most);
            for (size_t k = 0; k < n; k++)
                q[b * n + k] -= most + log(sum) + (t < iterations ? log((double)rows) : 0);
        }
    }
    for (size_t i = 0; i < rows * n; i++)
        q[i] = exp(q[i]);
}

static void run_sinkhorn(tacit_isa isa, unsigned threads, size_t rows, size_t n, double epsilon,
                         size_t iterations, float *scores)
{
    tacit_work work = { .kernels = tacit_kernels_for(isa) };
    tacit_sinkhorn s;
    tacit_arena arena = { 0 };
    size_t total = 0;
    ck_assert_int_eq(tacit_pool_open(&work.pool, threads, NULL), TACIT_OK);
    tacit_sinkhorn_init(&s, rows + 3, n, epsilon, iterations, &work);
    ck_assert(tacit_sinkhorn_plan(&s, &total));
    ck_assert_int_eq(tacit_arena_open(&arena, total, NULL), TACIT_OK);
    memset(arena.base, 0xff, total);
    tacit_sinkhorn_take(&s, &arena);
    ck_assert_uint_eq(arena.used, total);
    tacit_sinkhorn_run(&s, rows, scores);
    tacit_arena_close(&arena);
    tacit_pool_close(&work.pool);
}

START_TEST(codes_are_sinkhorns)
{
    static const struct {
        size_t rows, n, iterations;
        double epsilon;
    } cases[] = {
        { 1, 1, 3, 0.05 },   { 8, 6, 3, 0.05 },     { 37, 70, 3, 0.05 }, { 90, 131, 3, 0.05 },
        { 40, 5, 100, 0.3 }, { 70, 66, 1, 0.05 },   { 9, 20, 0, 0.05 },  { 50, 20, 3, 0.002 },
        { 9, 130, 3, 100 },  { 33, 129, 10, 0.01 },
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        size_t rows = cases[c].rows, n = cases[c].n;
        float *q = take(rows * n, sizeof *q);
        double *want = take(rows * n, sizeof *want), balance = 0;
        for (size_t i = 0; i < rows * n; i++)
            q[i] = number(c, i);
        sinkhorn(rows, n, cases[c].epsilon, cases[c].iterations, q, want);
        run_sinkhorn(isas[_i], 2, rows, n, cases[c].epsilon, cases[c].iterations, q);
        for (size_t b = 0; b < rows; b++) {
            double sum = 0;
            for (size_t k = 0; k < n; k++) {
                double error = fabs((double)q[b * n + k] - want[b * n + k]);
                /* s / epsilon is rounded to a float before its exp */
                ck_assert_msg(error < 1e-6 + 1e-7 / cases[c].epsilon,
                              "case %zu, %zu %zu: %g, not %g", c, b, k, (double)q[b * n + k],
                              want[b * n + k]);
                sum += (double)q[b * n + k];
            }
            ck_assert_double_eq_tol(sum, 1, 1e-5);
        }
        for (size_t k = 0; k < n; k++) {
            double sum = 0;
            for (size_t b = 0; b < rows; b++)
                sum += (double)q[b * n + k];
            balance = larger(balance, fabs(sum * (double)n / (double)rows - 1));
        }
        if (cases[c].iterations >= 100)
            ck_assert_double_lt(balance, 1e-5);
        free(q), free(want);
    }
}
END_TEST

/* Scores of any size have codes that are finite: all alike, or one for each. */
START_TEST(codes_of_extreme_scores)
{
    enum { R = 6, N = 4 };
    static const float scales[] = { 0, 1e-30f, 1, 1e3f };
    for (size_t s = 0; s < sizeof scales / sizeof *scales; s++) {
        float q[R * N];
        for (size_t i = 0; i < R * N; i++)
            q[i] = scales[s] * number(7, i);
        run_sinkhorn(isas[_i], 1, R, N, 0.001, 3, q);
        for (size_t b = 0; b < R; b++) {
            double sum = 0;
            for (size_t k = 0; k < N; k++) {
                ck_assert(isfinite(q[b * N + k]) && q[b * N + k] >= 0);
                sum += (double)q[b * N + k];
            }
            ck_assert_double_eq_tol(sum, 1, 1e-6);
        }
    }
}
END_TEST

/* Loss ---------------------------------------------------------------------------------------- */

enum { VIEWS = 4, DIM = 7 };
static const double temperature = 0.2;

/* z (VIEWS, n, DIM), c (k, DIM), q (2, n, k). */
static double swav(size_t n, size_t k, const double *z, const double *c, const float *q)
{
    double loss = 0, *s = take(k, sizeof *s);
    for (size_t v = 0; v < VIEWS; v++)
        for (size_t i = 0; i < n; i++) {
            const double *x = z + (v * n + i) * DIM;
            double norm = 0, sum = 0;
            for (size_t d = 0; d < DIM; d++)
                norm += x[d] * x[d];
            for (size_t j = 0; j < k; j++) {
                s[j] = 0;
                for (size_t d = 0; d < DIM; d++)
                    s[j] += x[d] * c[j * DIM + d] / sqrt(norm) / temperature;
                sum += exp(s[j]);
            }
            for (size_t crop = 0; crop < 2; crop++)
                for (size_t j = 0; crop != v && j < k; j++)
                    loss -= (double)q[(crop * n + i) * k + j] * (s[j] - log(sum)) /
                            (2 * (VIEWS - 1) * (double)n);
        }
    free(s);
    return loss;
}

static double run_swav(tacit_isa isa, unsigned threads, size_t n, size_t k, const float *z,
                       const float *c, const float *q, float *dz, float *dc)
{
    tacit_work work = { .kernels = tacit_kernels_for(isa) };
    tacit_swav loss;
    tacit_arena arena = { 0 };
    size_t total = 0;
    ck_assert_int_eq(tacit_pool_open(&work.pool, threads, NULL), TACIT_OK);
    tacit_swav_init(&loss, n + 3, VIEWS, DIM, k, temperature, &work);
    ck_assert(tacit_swav_plan(&loss, &total));
    ck_assert_int_eq(tacit_arena_open(&arena, total, NULL), TACIT_OK);
    memset(arena.base, 0xff, total);
    tacit_swav_take(&loss, &arena);
    ck_assert_uint_eq(arena.used, total);
    tacit_swav_begin(&loss, n, z, c);
    double value = tacit_swav_loss(&loss, n, z, q, dz, dc);
    tacit_arena_close(&arena);
    tacit_pool_close(&work.pool);
    return value;
}

/* Codes that sum to 1. */
static void make_codes(size_t rows, size_t k, float *q)
{
    for (size_t i = 0; i < rows * k; i++)
        q[i] = number(9, i);
    run_sinkhorn(TACIT_ISA_REF, 1, rows, k, 0.5, 0, q);
}

/* A gradient against differences of the definition, by the values x that it is of. */
static void check_gradient(const char *of, double *x, size_t count, const float *got, size_t n,
                           size_t k, const double *z, const double *c, const float *q)
{
    double *want = take(count, sizeof *want), most = 0;
    for (size_t i = 0; i < count; i++) {
        double at = x[i];
        x[i] = at + 1e-6;
        double above = swav(n, k, z, c, q);
        x[i] = at - 1e-6;
        want[i] = (above - swav(n, k, z, c, q)) / 2e-6;
        x[i] = at;
        most = larger(most, fabs(want[i]));
    }
    for (size_t i = 0; i < count; i++)
        ck_assert_msg(fabs((double)got[i] - want[i]) < 1e-5 * most,
                      "%s, %zu x %zu, %zu: %g, not %g", of, n, k, i, (double)got[i], want[i]);
    free(want);
}

START_TEST(loss_and_gradients)
{
    static const size_t shapes[][2] = { { 1, 2 }, { 5, 3 }, { 11, 20 }, { 3, 130 } };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        size_t n = shapes[s][0], k = shapes[s][1], m = VIEWS * n * DIM;
        float *z = take(2 * m, sizeof *z), *dz = z + m, *c = take(2 * k * DIM, sizeof *c);
        float *dc = c + k * DIM, *q = take(2 * n * k, sizeof *q);
        double *wide = take(m + k * DIM, sizeof *wide), *wide_c = wide + m;
        for (size_t i = 0; i < m; i++)
            wide[i] = (double)(z[i] = number(s, i) * 3);
        for (size_t i = 0; i < k * DIM; i++) {
            wide_c[i] = (double)(c[i] = number(s + 10, i));
            dc[i] = 1; /* is added to */
        }
        make_codes(2 * n, k, q);
        double loss = run_swav(isas[_i], 2, n, k, z, c, q, dz, dc);
        ck_assert_double_eq_tol(loss, swav(n, k, wide, wide_c, q), 2e-6 * (1 + loss));
        for (size_t i = 0; i < k * DIM; i++)
            dc[i] -= 1;
        check_gradient("dz", wide, m, dz, n, k, wide, wide_c, q);
        check_gradient("dC", wide_c, k * DIM, dc, n, k, wide, wide_c, q);
        free(z), free(c), free(q), free(wide);
    }
}
END_TEST

START_TEST(same_bits)
{
    enum { N = TACIT_KC / 2 + 9, K = 300, M = VIEWS * N * DIM };
    float *z = take(M, sizeof *z), *c = take(K * DIM, sizeof *c), *q = take(2 * N * K, sizeof *q);
    float *got = take(M + K * DIM + N * K, sizeof *got);
    float *want = take(M + K * DIM + N * K, sizeof *want);
    double loss = 0;
    for (size_t i = 0; i < M; i++)
        z[i] = number(5, i);
    for (size_t i = 0; i < K * DIM; i++)
        c[i] = number(6, i);
    make_codes(2 * N, K, q);
    for (size_t i = 0; i < isa_count; i++)
        for (unsigned threads = 1; threads <= 8; threads = threads == 3 ? 8 : threads + 1) {
            float *scores = got + M + K * DIM;
            memset(got, 0, (M + K * DIM) * sizeof *got);
            for (size_t j = 0; j < N * K; j++)
                scores[j] = number(8, j);
            run_sinkhorn(isas[i], threads, N, K, 0.05, 3, scores);
            double value = run_swav(isas[i], threads, N, K, z, c, q, got, got + M);
            if (i == 0 && threads == 1) {
                loss = value;
                memcpy(want, got, (M + K * DIM + N * K) * sizeof *got);
            }
            ck_assert(value == loss);
            ck_assert_mem_eq(got, want, (M + K * DIM + N * K) * sizeof *got);
        }
    free(z), free(c), free(q), free(got), free(want);
}
END_TEST

int main(void)
{
    for (int isa = 0; isa < TACIT_ISA_COUNT; isa++)
        if (tacit_isa_available((tacit_isa)isa))
            isas[isa_count++] = (tacit_isa)isa;
    Suite *suite = suite_create("losses_swav");
    TCase *tests = tcase_create("losses_swav");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, codes_are_sinkhorns, 0, (int)isa_count);
    tcase_add_loop_test(tests, codes_of_extreme_scores, 0, (int)isa_count);
    tcase_add_loop_test(tests, loss_and_gradients, 0, (int)isa_count);
    tcase_add_test(tests, same_bits);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
