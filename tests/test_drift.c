/* test_drift.c - drift.h against its definition, written out plainly. */
#include "drift.h"
#include "mem.h"
#include "rng.h"

#include <check.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static tacit_err err;

static const tacit_kernels *best(void)
{
    tacit_isa isa;
    ck_assert_int_eq(tacit_isa_select(NULL, &isa, &err), TACIT_OK);
    return tacit_kernels_for(isa);
}

/* (rows, dim) around 0, and in far a copy that is moved by up to `noise`. */
static float *numbers(size_t rows, size_t dim, uint64_t seed, float noise, float **far)
{
    float *near = malloc(rows * dim * sizeof *near);
    *far = malloc(rows * dim * sizeof **far);
    ck_assert(near && *far);
    for (size_t i = 0; i < rows * dim; i++) {
        near[i] = tacit_rng_uniform(seed, 0, i) - 0.5f;
        (*far)[i] = near[i] + noise * (tacit_rng_uniform(seed, 1, i) - 0.5f);
    }
    return near;
}

static double similarity(const float *x, const float *y, size_t dim)
{
    double xy = 0, xx = 0, yy = 0;
    for (size_t i = 0; i < dim; i++) {
        xy += (double)x[i] * (double)y[i];
        xx += (double)x[i] * (double)x[i];
        yy += (double)y[i] * (double)y[i];
    }
    return xx > 0 && yy > 0 ? xy / (sqrt(xx) * sqrt(yy)) : 0;
}

/* Whether other is among the k nearest of row: fewer than k others come before it. */
static bool is_near(const float *x, size_t rows, size_t dim, size_t row, size_t other, size_t k)
{
    double mine = similarity(x + row * dim, x + other * dim, dim);
    size_t before = 0;
    for (size_t i = 0; i < rows; i++) {
        double s = similarity(x + row * dim, x + i * dim, dim);
        before += i != row && i != other && (s > mine || (s == mine && i < other));
    }
    return other != row && before < k;
}

static tacit_drift by_definition(const float *a, const float *b, size_t rows, size_t dim, size_t k)
{
    tacit_drift d = { .rows = rows, .k = k < rows - 1 ? k : rows - 1, .worst = INFINITY };
    for (size_t i = 0; i < rows; i++) {
        double s = similarity(a + i * dim, b + i * dim, dim);
        size_t shared = 0;
        d.mean += s / (double)rows;
        d.worst_row = s < d.worst ? i : d.worst_row;
        d.worst = s < d.worst ? s : d.worst;
        for (size_t j = 0; j < rows; j++) {
            shared += is_near(a, rows, dim, i, j, d.k) && is_near(b, rows, dim, i, j, d.k);
            d.same_first += is_near(a, rows, dim, i, j, 1) && is_near(b, rows, dim, i, j, 1);
        }
        d.shared += (double)shared / (double)d.k / (double)rows;
    }
    d.same_first /= (double)rows;
    return d;
}

/* The class that a row's neighbours vote for. */
static size_t told(const float *x, size_t rows, size_t dim, size_t i, size_t k,
                   const uint32_t *class_of)
{
    double votes[3] = { 0 };
    size_t best = 0;
    for (size_t j = 0; j < rows; j++)
        if (is_near(x, rows, dim, i, j, k))
            votes[class_of[j]] += exp(similarity(x + i * dim, x + j * dim, dim) / 0.07);
    for (size_t c = 1; c < 3; c++)
        best = votes[c] > votes[best] ? c : best;
    return best;
}

static tacit_drift measure(const float *a, const float *b, size_t rows, size_t dim, size_t k,
                           const uint32_t *class_of, const tacit_kernels *kernels, unsigned threads)
{
    tacit_pool *pool;
    tacit_drift d;
    ck_assert_int_eq(tacit_pool_open(&pool, threads, &err), TACIT_OK);
    ck_assert_msg(tacit_drift_measure(&d, a, b, rows, dim, k, class_of, 3, kernels, pool, &err) ==
                      TACIT_OK,
                  "%s", err.text);
    tacit_pool_close(&pool);
    return d;
}

START_TEST(as_defined)
{
    static const struct {
        size_t rows, dim, k;
        float noise;
    } cases[] = {
        { 2, 3, 1, 1 },      { 2, 5, 10, 0.1f },   { 3, 1, 2, 1 },      { 40, 7, 10, 0.01f },
        { 40, 7, 39, 0.3f }, { 40, 7, 1000, 1 },   { 90, 64, 5, 0.3f }, { 90, 64, 1, 0.1f },
        { 75, 33, 10, 3 },   { 130, 2, 10, 0.1f },
    };
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        size_t rows = cases[n].rows, dim = cases[n].dim, k = cases[n].k;
        float *far, *near = numbers(rows, dim, n + 1, cases[n].noise, &far);
        tacit_drift want = by_definition(near, far, rows, dim, k), first = { 0 };
        uint32_t class_of[130];
        size_t agree = 0;
        for (size_t i = 0; i < rows; i++)
            class_of[i] = (uint32_t)(i * 7 % 5 % 3);
        for (size_t i = 0; i < rows; i++)
            agree += told(near, rows, dim, i, want.k, class_of) ==
                     told(far, rows, dim, i, want.k, class_of);
        bool known = false;
        for (unsigned isa = 0; isa < TACIT_ISA_COUNT; isa++)
            for (unsigned threads = 1; threads < 4 && tacit_isa_available((tacit_isa)isa);
                 threads++) {
                tacit_drift d = measure(near, far, rows, dim, k, class_of,
                                        tacit_kernels_for((tacit_isa)isa), threads);
                ck_assert_uint_eq(d.rows, rows);
                ck_assert_uint_eq(d.k, want.k);
                ck_assert_double_eq_tol(d.mean, want.mean, 1e-12);
                ck_assert_double_eq_tol(d.worst, want.worst, 1e-12);
                ck_assert_uint_eq(d.worst_row, want.worst_row);
                ck_assert_double_eq_tol(d.shared, want.shared, 1e-12);
                ck_assert_double_eq_tol(d.same_first, want.same_first, 1e-12);
                ck_assert_double_eq_tol(d.same_class, (double)agree / (double)rows, 1e-12);
                ck_assert_msg(!known || !memcmp(&d, &first, sizeof d), "case %zu: other bits", n);
                first = d;
                known = true;
            }
        free(near);
        free(far);
    }
}
END_TEST

/* Exactly 1, not nearly, whatever the lengths. */
START_TEST(the_same_vectors)
{
    float *far, *near = numbers(50, 19, 3, 0, &far);
    for (size_t i = 0; i < 50 * 19; i++)
        far[i] = near[i] *= i / 19 % 3 == 0 ? 1e-20f : i / 19 % 3 == 1 ? 1 : 1e15f;
    memset(near, 0, 19 * sizeof *near); /* and one that is zero */
    memset(far, 0, 19 * sizeof *far);
    tacit_drift d = measure(near, far, 50, 19, 10, NULL, best(), 2);
    ck_assert(d.mean == 1 && d.worst == 1 && d.worst_row == 0);
    ck_assert(d.shared == 1 && d.same_first == 1);
    free(near);
    free(far);
}
END_TEST

START_TEST(zeros)
{
    float *far, *near = numbers(20, 8, 4, 0, &far);
    memset(far + 6 * 8, 0, 8 * sizeof *far);
    tacit_drift d = measure(near, far, 20, 8, 4, NULL, best(), 1);
    ck_assert(d.worst == 0 && d.worst_row == 6);
    ck_assert_double_eq_tol(d.mean, 0.95, 1e-12);
    ck_assert(d.shared > 0 && d.shared < 1 && d.same_first > 0);
    memset(far, 0, 20 * 8 * sizeof *far);
    d = measure(near, far, 20, 8, 4, NULL, best(), 1);
    ck_assert(d.mean == 0 && d.worst == 0 && d.shared >= 0 && d.shared < 1);
    d = measure(far, far, 20, 8, 4, NULL, best(), 1);
    ck_assert(d.mean == 1 && d.worst == 1 && d.shared == 1 && d.same_first == 1);
    free(near);
    free(far);
}
END_TEST

START_TEST(what_cannot_be_compared)
{
    float *far, *near = numbers(4, 3, 5, 1, &far);
    tacit_drift d;
    static const size_t sizes[][3] = { { 0, 3, 1 }, { 1, 3, 1 }, { 4, 0, 1 }, { 4, 3, 0 } };
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(tacit_drift_measure(&d, near, far, sizes[i][0], sizes[i][1], sizes[i][2],
                                             NULL, 0, best(), NULL, &err),
                         TACIT_EINVAL);
    static const float bad[] = { NAN, INFINITY, 1e30f };
    for (size_t i = 0; i < 6; i++) {
        float *x = (i % 2 ? near : far) + 7, kept = *x;
        *x = bad[i / 2];
        ck_assert_int_eq(tacit_drift_measure(&d, near, far, 4, 3, 2, NULL, 0, best(), NULL, &err),
                         TACIT_EFORMAT);
        ck_assert_msg(strstr(err.text, "vector 2 "), "%s", err.text);
        *x = kept;
    }
    tacit_status st = TACIT_ENOMEM;
    uint64_t n = 1;
    for (; st != TACIT_OK; n++) {
        tacit_alloc_fail_at(n, false);
        st = tacit_drift_measure(&d, near, far, 4, 3, 2, NULL, 0, best(), NULL, &err);
        tacit_alloc_fail_at(0, false);
        ck_assert_msg(st == TACIT_OK || st == TACIT_ENOMEM, "%s", err.text);
    }
    ck_assert_uint_gt(n, 10);
    free(near);
    free(far);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("drift");
    TCase *t = tcase_create("drift");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, as_defined);
    tcase_add_test(t, the_same_vectors);
    tcase_add_test(t, zeros);
    tcase_add_test(t, what_cannot_be_compared);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
