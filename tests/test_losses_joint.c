/* test_losses_joint.c - losses of two views as pure functions: cosine distance, VICReg and the
 * correlation under it: against definitions in double, their gradients against differences of
 * those, the same bits for any ISA and number of threads, also where there is more than one block.
 */
#include "loss_cosine.h"
#include "loss_vicreg.h"
#include "rng.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static tacit_isa isas[TACIT_ISA_COUNT];
static size_t isa_count;

static float number(uint64_t stream, uint64_t i)
{
    return 4 * tacit_rng_uniform(3, stream, i) - 2;
}

/* Cosine -------------------------------------------------------------------------------------- */

static double cosine(size_t rows, size_t dim, const double *p, const float *t)
{
    double sum = 0;
    for (size_t i = 0; i < rows; i++) {
        double pp = 0, tt = 0, pt = 0;
        for (size_t d = 0; d < dim; d++) {
            double x = p[i * dim + d], y = (double)t[i * dim + d];
            pp += x * x, tt += y * y, pt += x * y;
        }
        sum += 2 - 2 * pt / sqrt(pp * tt);
    }
    return sum;
}

START_TEST(cosine_distance)
{
    enum { R = 9, D = 21 };
    float p[R * D], t[R * D], target[R * D], dp[R * D];
    double wide[R * D];
    const tacit_work work = { .kernels = tacit_kernels_for(isas[_i]) };
    for (size_t i = 0; i < R * D; i++) {
        wide[i] = (double)(p[i] = number(1, i));
        t[i] = target[i] = number(2, i);
    }
    double loss = tacit_cosine_loss(&work, R, D, p, target, 0.25, dp);
    ck_assert_double_eq_tol(loss, 0.25 * cosine(R, D, wide, t), 1e-5);
    for (size_t i = 0; i < R * D; i++) {
        double at = wide[i];
        wide[i] = at + 1e-5;
        double above = cosine(R, D, wide, t);
        wide[i] = at - 1e-5;
        double want = 0.25 * (above - cosine(R, D, wide, t)) / 2e-5;
        wide[i] = at;
        ck_assert_msg(fabs((double)dp[i] - want) < 1e-6, "element %zu: %g, should be %g", i,
                      (double)dp[i], want);
    }
    memcpy(target, p, sizeof p); /* of itself: 0, and nowhere to go */
    ck_assert_double_eq_tol(tacit_cosine_loss(&work, R, D, p, target, 1, dp), 0, 1e-5);
    for (size_t i = 0; i < R * D; i++)
        ck_assert_float_eq_tol(dp[i], 0, 1e-6f);
}
END_TEST

/* VICReg -------------------------------------------------------------------------------------- */

static const double weights[TACIT_VICREG_PARTS] = { 25, 20, 3 };

static double vicreg(size_t n, size_t dim, const double *z)
{
    double inv = 0, var = 0, cov = 0;
    for (size_t i = 0; i < n * dim; i++)
        inv += (z[i] - z[n * dim + i]) * (z[i] - z[n * dim + i]) / (double)(n * dim);
    for (size_t view = 0; view < 2; view++) {
        const double *x = z + view * n * dim;
        double *mean = calloc(dim, sizeof *mean);
        for (size_t i = 0; i < n * dim; i++)
            mean[i % dim] += x[i] / (double)n;
        for (size_t a = 0; a < dim; a++)
            for (size_t b = 0; b < dim; b++) {
                double c = 0;
                for (size_t i = 0; i < n; i++)
                    c += (x[i * dim + a] - mean[a]) * (x[i * dim + b] - mean[b]) / (double)(n - 1);
                if (a == b)
                    var += fmax(0, 1 - sqrt(c + 1e-4)) / (2 * (double)dim);
                else
                    cov += c * c / (double)dim;
            }
        free(mean);
    }
    return weights[0] * inv + weights[1] * var + weights[2] * cov;
}

static double run_vicreg(tacit_isa isa, unsigned threads, size_t n, size_t dim, const float *z,
                         float *dz, double *parts)
{
    tacit_work work = { .kernels = tacit_kernels_for(isa) };
    tacit_vicreg loss;
    tacit_arena arena = { 0 };
    size_t total = 0;
    ck_assert_int_eq(tacit_pool_open(&work.pool, threads, NULL), TACIT_OK);
    tacit_vicreg_init(&loss, n + 3, dim, &work);
    memcpy(loss.weight, weights, sizeof weights);
    ck_assert(tacit_vicreg_plan(&loss, &total));
    ck_assert_int_eq(tacit_arena_open(&arena, total, NULL), TACIT_OK);
    memset(arena.base, 0xff, total);
    tacit_vicreg_take(&loss, &arena);
    ck_assert_uint_eq(arena.used, total);
    double value = tacit_vicreg_loss(&loss, n, z, dz, parts);
    tacit_arena_close(&arena);
    tacit_pool_close(&work.pool);
    return value;
}

START_TEST(vicreg_gradient)
{
    static const size_t shapes[][2] = { { 2, 3 }, { 6, 5 }, { 17, 12 }, { 5, 37 } };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        size_t n = shapes[s][0], dim = shapes[s][1], count = 2 * n * dim;
        float z[2 * 17 * 37], dz[2 * 17 * 37];
        double wide[2 * 17 * 37], want[2 * 17 * 37], most = 0, parts[TACIT_VICREG_PARTS];
        for (size_t i = 0; i < count; i++) /* some columns are wider than the hinge, some are not */
            wide[i] = (double)(z[i] = number(s, i) * (i % dim % 3 ? 0.3f : 2));
        double loss = run_vicreg(isas[_i], 2, n, dim, z, dz, parts);
        ck_assert_double_eq_tol(loss, vicreg(n, dim, wide), 2e-6 * (1 + loss));
        ck_assert_double_eq_tol(loss, 25 * parts[0] + 20 * parts[1] + 3 * parts[2], 1e-9 * loss);
        for (size_t i = 0; i < count; i++) {
            double at = wide[i];
            wide[i] = at + 1e-6;
            double above = vicreg(n, dim, wide);
            wide[i] = at - 1e-6;
            want[i] = (above - vicreg(n, dim, wide)) / 2e-6;
            wide[i] = at;
            most = fmax(most, fabs(want[i]));
        }
        for (size_t i = 0; i < count; i++)
            ck_assert_msg(fabs((double)dz[i] - want[i]) < 1e-5 * most,
                          "%zu x %zu, element %zu: %g, should be %g", n, dim, i, (double)dz[i],
                          want[i]);
    }
}
END_TEST

START_TEST(vicreg_same_bits)
{
    enum { N = 19, D = 2 * TACIT_KC + 41 };
    float *z = malloc(2 * N * D * sizeof *z), *want = malloc(2 * N * D * sizeof *want);
    float *dz = malloc(2 * N * D * sizeof *dz);
    double parts[TACIT_VICREG_PARTS];
    ck_assert(z && want && dz);
    for (size_t i = 0; i < 2 * N * D; i++)
        z[i] = number(5, i) * 0.4f;
    double loss = run_vicreg(isas[0], 1, N, D, z, want, parts);
    for (size_t i = 0; i < isa_count; i++)
        for (unsigned threads = 1; threads <= 8; threads = threads == 3 ? 8 : threads + 1) {
            ck_assert(run_vicreg(isas[i], threads, N, D, z, dz, parts) == loss);
            ck_assert_mem_eq(dz, want, 2 * N * D * sizeof *dz);
        }
    free(z), free(want), free(dz);
}
END_TEST

/* Correlation --------------------------------------------------------------------------------- */

/* L = sum of w_ij C_ij, of which G is w: the products alone. */
static double weigh(const void *ctx, size_t row, float *c)
{
    size_t dim = *(const size_t *)ctx;
    double sum = 0;
    for (size_t i = 0; i < dim; i++) {
        float w = number(8, row * dim + i);
        sum += (double)w * (double)c[i];
        c[i] = w;
    }
    return sum;
}

/* Two blocks and a rest of one row. */
START_TEST(correlation_products)
{
    enum { N = 5, D = 2 * TACIT_KC + 1 };
    tacit_work work = { .kernels = tacit_kernels_for(isas[_i]) };
    tacit_correlation c;
    tacit_arena arena = { 0 };
    size_t total = 0, dim = D;
    float *m = malloc(4 * N * D * sizeof *m), *a = m, *b = a + N * D, *da = b + N * D,
          *db = da + N * D;
    ck_assert_ptr_nonnull(m);
    for (size_t i = 0; i < N * D; i++) {
        a[i] = number(6, i);
        b[i] = number(7, i);
    }
    ck_assert_int_eq(tacit_pool_open(&work.pool, 3, NULL), TACIT_OK);
    tacit_correlation_init(&c, N, D, &work);
    ck_assert(tacit_correlation_plan(&c, &total));
    ck_assert_int_eq(tacit_arena_open(&arena, total, NULL), TACIT_OK);
    tacit_correlation_take(&c, &arena);
    double loss = tacit_correlation_loss(&c, N, a, b, weigh, &dim, da, db), want = 0;
    for (size_t n = 0; n < N; n++)
        for (size_t i = 0; i < D; i++) {
            double by_a = 0, by_b = 0;
            for (size_t j = 0; j < D; j++) {
                by_a += (double)number(8, i * D + j) * (double)b[n * D + j];
                by_b += (double)number(8, j * D + i) * (double)a[n * D + j];
            }
            want += by_a * (double)a[n * D + i];
            ck_assert_msg(fabs((double)da[n * D + i] - by_a) < 2e-4, "dA %zu %zu", n, i);
            ck_assert_msg(fabs((double)db[n * D + i] - by_b) < 2e-4, "dB %zu %zu", n, i);
        }
    ck_assert_double_eq_tol(loss, want, 1e-6 * N * D);
    tacit_arena_close(&arena);
    tacit_pool_close(&work.pool);
    free(m);
}
END_TEST

int main(void)
{
    for (int isa = 0; isa < TACIT_ISA_COUNT; isa++)
        if (tacit_isa_available((tacit_isa)isa))
            isas[isa_count++] = (tacit_isa)isa;
    Suite *suite = suite_create("losses_joint");
    TCase *tests = tcase_create("losses_joint");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, cosine_distance, 0, (int)isa_count);
    tcase_add_loop_test(tests, vicreg_gradient, 0, (int)isa_count);
    tcase_add_test(tests, vicreg_same_bits);
    tcase_add_loop_test(tests, correlation_products, 0, (int)isa_count);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
