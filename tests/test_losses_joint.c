/* test_losses_joint.c - losses of two views as pure functions: cosine distance, InfoNCE, VICReg and
 * the correlation under it: against definitions in double, their gradients against differences of
 * those, the same bits for any ISA and number of threads, also where there is more than one block.
 */
#include "loss_cosine.h"
#include "loss_infonce.h"
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

/* Three images, the second without a masked patch. */
START_TEST(cosine_of_patches)
{
    enum { B = 3, PATCHES = 5, D = 21, LD = 24, ROWS = 4 };
    static const uint32_t first[] = { 0, 3, 3, ROWS }, patches[] = { 0, 2, 4, 3 };
    float features[B * PATCHES * D], x[ROWS * LD], dense[ROWS * D], dp[ROWS * D];
    float first_bits[ROWS * LD];
    for (unsigned threads = 1; threads < 4; threads++) {
        tacit_work work = { .kernels = tacit_kernels_for(isas[_i]) };
        float targets[ROWS * D];
        ck_assert_int_eq(tacit_pool_open(&work.pool, threads, NULL), TACIT_OK);
        tacit_cosine_patches_declare(B, &work);
        ck_assert_int_eq(tacit_work_open(&work, NULL), TACIT_OK);
        for (size_t i = 0; i < B * PATCHES * D; i++)
            features[i] = number(3, i);
        for (size_t i = 0; i < ROWS * LD; i++)
            x[i] = number(4, i);
        for (size_t row = 0; row < ROWS; row++) {
            size_t image = row < 3 ? 0 : 2;
            memcpy(dense + row * D, x + row * LD, D * sizeof *x);
            memcpy(targets + row * D, features + (image * PATCHES + patches[row]) * D,
                   D * sizeof *x);
        }
        double want = tacit_cosine_loss(&work, ROWS, D, dense, targets, 0.5 / ROWS, dp);
        double loss =
            tacit_cosine_patches_loss(&work, B, first, patches, PATCHES, D, 0.5, features, x, LD);
        ck_assert_double_eq_tol(loss, want, 1e-12);
        for (size_t i = 0; i < ROWS * LD; i++) /* what is between the rows is left */
            ck_assert(x[i] == (i % LD < D ? dp[i / LD * D + i % LD] : number(4, i)));
        if (threads > 1)
            ck_assert_mem_eq(x, first_bits, sizeof x);
        memcpy(first_bits, x, sizeof x);
        static const uint32_t none[] = { 0, 0, 0, 0 };
        ck_assert(tacit_cosine_patches_loss(&work, B, none, patches, PATCHES, D, 1, features, x,
                                            LD) == 0);
        tacit_work_close(&work);
        tacit_pool_close(&work.pool);
    }
}
END_TEST

/* InfoNCE ------------------------------------------------------------------------------------- */

/* own NULL: among the keys. */
static double infonce(size_t rows, size_t dim, size_t count, const double *q, const float *own,
                      const float *keys, double temperature)
{
    double sum = 0;
    for (size_t i = 0; i < rows; i++) {
        const double *x = q + i * dim;
        double norm = 0, target = 0, total = 0;
        for (size_t d = 0; d < dim; d++)
            norm += x[d] * x[d];
        for (size_t j = 0; j < count + (own != NULL); j++) {
            const float *k = j < count ? keys + j * dim : own + i * dim;
            double score = 0;
            for (size_t d = 0; d < dim; d++)
                score += x[d] * (double)k[d] / (sqrt(norm) * temperature);
            total += exp(score);
            if (j == (own ? count : i))
                target = score;
        }
        sum += log(total) - target;
    }
    return sum;
}

static double run_infonce(tacit_isa isa, unsigned threads, size_t rows, size_t dim, size_t count,
                          const float *q, const float *own, const float *keys, double temperature,
                          double factor, float *dq)
{
    tacit_work work = { .kernels = tacit_kernels_for(isa) };
    tacit_infonce loss;
    tacit_arena arena = { 0 };
    size_t total = 0;
    ck_assert_int_eq(tacit_pool_open(&work.pool, threads, NULL), TACIT_OK);
    tacit_infonce_init(&loss, rows + 2, count + 5, dim, temperature, &work);
    ck_assert_int_eq(tacit_work_open(&work, NULL), TACIT_OK);
    ck_assert(tacit_infonce_plan(&loss, &total));
    ck_assert_int_eq(tacit_arena_open(&arena, total, NULL), TACIT_OK);
    memset(arena.base, 0xff, total);
    tacit_infonce_take(&loss, &arena);
    ck_assert_uint_eq(arena.used, total);
    double value = tacit_infonce_loss(&loss, rows, q, own, count, keys, factor, dq);
    tacit_arena_close(&arena);
    tacit_work_close(&work);
    tacit_pool_close(&work.pool);
    return value;
}

/* Vectors of unit norm. */
static float *units(uint64_t stream, size_t rows, size_t dim)
{
    float *x = malloc(rows * dim * sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < rows * dim; i++)
        x[i] = number(stream, i);
    tacit_kernels_for(TACIT_ISA_REF)->l2norm_f32(rows, dim, x, dim, x, dim);
    return x;
}

START_TEST(infonce_gradient)
{
    static const size_t shapes[][3] = { { 1, 2, 1 }, { 5, 3, 7 }, { 18, 12, 33 }, { 35, 9, 35 } };
    for (size_t s = 0; s < 2 * sizeof shapes / sizeof *shapes; s++) {
        size_t rows = shapes[s / 2][0], dim = shapes[s / 2][1], count = shapes[s / 2][2];
        double temperature = s < 4 ? 0.2 : 1, factor = 0.3, most = 1e-9;
        float q[35 * 12], dq[35 * 12];
        double wide[35 * 12], want[35 * 12];
        float *own = s % 2 ? units(11, rows, dim) : NULL, *keys = units(12, count, dim);
        for (size_t i = 0; i < rows * dim; i++)
            wide[i] = (double)(q[i] = number(s, i));
        double loss =
            run_infonce(isas[_i], 2, rows, dim, count, q, own, keys, temperature, factor, dq);
        double sum = infonce(rows, dim, count, wide, own, keys, temperature);
        ck_assert_double_eq_tol(loss, factor * sum, 2e-6 * (1 + loss));
        for (size_t i = 0; i < rows * dim; i++) {
            double at = wide[i];
            wide[i] = at + 1e-5;
            double above = infonce(rows, dim, count, wide, own, keys, temperature);
            wide[i] = at - 1e-5;
            want[i] =
                factor * (above - infonce(rows, dim, count, wide, own, keys, temperature)) / 2e-5;
            wide[i] = at;
            if (fabs(want[i]) > most)
                most = fabs(want[i]);
        }
        for (size_t i = 0; i < rows * dim; i++)
            ck_assert_msg(fabs((double)dq[i] - want[i]) < 1e-5 * most + 1e-6,
                          "case %zu, element %zu: %g, should be %g", s, i, (double)dq[i], want[i]);
        free(own), free(keys);
    }
}
END_TEST

/* By hand: of a queue of two, and of three keys of a batch; and all alike. */
START_TEST(infonce_values)
{
    static const float q[] = { 1, 2, 0.5f, -1, -1.5f, 0.25f }, queue[] = { 1, 0, 0, 1 };
    float k[] = { 0.9f, 2.2f, 0.7f, -0.8f, -1.2f, 0.4f }, dq[6], same[60];
    tacit_kernels_for(isas[_i])->l2norm_f32(3, 2, k, 2, k, 2);
    double own = run_infonce(isas[_i], 1, 3, 2, 2, q, k, queue, 0.2, 1.0 / 3, dq);
    ck_assert_double_eq_tol(own, 0.1986552513, 1e-6);
    double among = run_infonce(isas[_i], 1, 3, 2, 3, q, NULL, k, 0.2, 1.0 / 3, dq);
    ck_assert_double_eq_tol(among, 0.0024766163, 1e-6);
    for (size_t i = 0; i < 60; i++)
        same[i] = i % 2 ? 0.6f : 0.8f;
    double alike = run_infonce(isas[_i], 1, 3, 2, 30, same, same, same, 0.07, 1.0 / 3, dq);
    ck_assert_double_eq_tol(alike, log(31), 1e-5);
}
END_TEST

START_TEST(infonce_same_bits)
{
    enum { R = 53, D = 30, N = TACIT_KC + 77 };
    float *q = units(13, R, D), *own = units(14, R, D), *keys = units(15, N, D);
    float want[R * D], dq[R * D];
    double loss = run_infonce(isas[0], 1, R, D, N, q, own, keys, 0.2, 1, want);
    for (size_t i = 0; i < isa_count; i++)
        for (unsigned threads = 1; threads <= 8; threads = threads == 3 ? 8 : threads + 1) {
            ck_assert(run_infonce(isas[i], threads, R, D, N, q, own, keys, 0.2, 1, dq) == loss);
            ck_assert_mem_eq(dq, want, sizeof dq);
        }
    free(q), free(own), free(keys);
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
    tcase_add_loop_test(tests, cosine_of_patches, 0, (int)isa_count);
    tcase_add_loop_test(tests, infonce_gradient, 0, (int)isa_count);
    tcase_add_loop_test(tests, infonce_values, 0, (int)isa_count);
    tcase_add_test(tests, infonce_same_bits);
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
