/* test_losses_clusters.c - the cross entropy with clusters as a pure function: against its
 * definition in double, its gradient against differences of that, the same bits for any ISA and
 * number of threads; heads of any size, rows without a label.
 */
#include "loss_clusters.h"
#include "rng.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static tacit_isa isas[TACIT_ISA_COUNT];
static size_t isa_count;

enum { HEADS = 3 };

typedef struct problem {
    size_t rows, dim;
    size_t clusters[HEADS];
    float *z, *dz, *centroids[HEADS];
    uint32_t *labels[HEADS];
} problem;

static void problem_open(problem *p, size_t rows, size_t dim, const size_t *clusters)
{
    *p = (problem){ .rows = rows, .dim = dim };
    p->z = malloc(rows * dim * sizeof *p->z);
    p->dz = malloc(rows * dim * sizeof *p->dz);
    for (size_t i = 0; i < rows * dim; i++)
        p->z[i] = 4 * tacit_rng_uniform(3, 0, i) - 2;
    for (size_t h = 0; h < HEADS; h++) {
        size_t n = clusters[h] * dim;
        p->clusters[h] = clusters[h];
        p->centroids[h] = malloc(n * sizeof *p->z);
        p->labels[h] = malloc(rows * sizeof *p->labels[h]);
        for (size_t i = 0; i < n; i++)
            p->centroids[h][i] = 2 * tacit_rng_uniform(4, h, i) - 1;
        for (size_t i = 0; i < rows; i++)
            p->labels[h][i] =
                (i + h) % 5 ? tacit_rng_u32(5, h, i) % (uint32_t)clusters[h] : TACIT_NO_CLUSTER;
    }
}

static void problem_close(problem *p)
{
    free(p->z), free(p->dz);
    for (size_t h = 0; h < HEADS; h++)
        free(p->centroids[h]), free(p->labels[h]);
}

static double run(problem *p, tacit_isa isa, unsigned threads, double weight)
{
    tacit_work work = { .kernels = tacit_kernels_for(isa) };
    tacit_cluster_loss loss;
    tacit_arena arena = { 0 };
    size_t total = 0;
    ck_assert_int_eq(tacit_pool_open(&work.pool, threads, NULL), TACIT_OK);
    tacit_cluster_loss_init(&loss, p->rows + 3, p->dim, HEADS, p->clusters, 0.1, &work);
    ck_assert(tacit_cluster_loss_plan(&loss, &total));
    ck_assert_int_eq(tacit_work_open(&work, NULL), TACIT_OK);
    ck_assert_int_eq(tacit_arena_open(&arena, total, NULL), TACIT_OK);
    memset(arena.base, 0xff, total);
    tacit_cluster_loss_take(&loss, &arena);
    ck_assert_uint_eq(arena.used, total);
    uint64_t allocations = tacit_alloc_count();
    double value = tacit_cluster_loss_run(&loss, p->rows, p->z, (const float *const *)p->centroids,
                                          (const uint32_t *const *)p->labels, weight, p->dz);
    ck_assert_uint_eq(tacit_alloc_count(), allocations);
    tacit_arena_close(&arena);
    tacit_work_close(&work);
    tacit_pool_close(&work.pool);
    return value;
}

/* Of one row. */
static double define(const problem *p, size_t row, const double *z)
{
    double sum = 0, norm = 0;
    for (size_t d = 0; d < p->dim; d++)
        norm += z[d] * z[d];
    for (size_t h = 0; h < HEADS; h++) {
        double all = 0, own = 0;
        for (size_t k = 0; k < p->clusters[h]; k++) {
            double score = 0;
            for (size_t d = 0; d < p->dim; d++)
                score += z[d] / sqrt(norm) * (double)p->centroids[h][k * p->dim + d] / 0.1;
            all += exp(score);
            own = p->labels[h][row] == k ? score : own;
        }
        sum += p->labels[h][row] == TACIT_NO_CLUSTER ? 0 : log(all) - own;
    }
    return sum / HEADS;
}

START_TEST(loss_and_gradient)
{
    static const struct {
        size_t rows, dim, clusters[HEADS];
    } shapes[] = { { 1, 2, { 3, 3, 3 } }, { 33, 5, { 4, 1, 9 } }, { 70, 19, { 2, 40, 17 } } };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        problem p;
        problem_open(&p, shapes[s].rows, shapes[s].dim, shapes[s].clusters);
        double loss = run(&p, isas[_i], 2, 0.25), want = 0, z[19];
        for (size_t i = 0; i < p.rows; i++) {
            for (size_t d = 0; d < p.dim; d++)
                z[d] = (double)p.z[i * p.dim + d];
            want += 0.25 * define(&p, i, z);
            for (size_t d = 0; d < p.dim; d++) {
                double at = z[d];
                z[d] = at + 1e-6;
                double above = define(&p, i, z);
                z[d] = at - 1e-6;
                double slope = 0.25 * (above - define(&p, i, z)) / 2e-6;
                z[d] = at;
                ck_assert_msg(fabs((double)p.dz[i * p.dim + d] - slope) < 1e-5 * (1 + fabs(slope)),
                              "row %zu: %g, should be %g", i, (double)p.dz[i * p.dim + d], slope);
            }
        }
        ck_assert_double_eq_tol(loss, want, 1e-6 * (1 + want));
        problem_close(&p);
    }
}
END_TEST

/* Rows that have no label in any head neither count nor move. */
START_TEST(rows_without_labels)
{
    problem p;
    problem_open(&p, 40, 7, (const size_t[]){ 3, 4, 5 });
    for (size_t i = 0; i < 40; i++)
        for (size_t h = 0; h < HEADS; h++)
            p.labels[h][i] = TACIT_NO_CLUSTER;
    ck_assert_double_eq(run(&p, isas[_i], 1, 1), 0);
    for (size_t i = 0; i < 40 * 7; i++)
        ck_assert(p.dz[i] == 0);
    problem_close(&p);
}
END_TEST

START_TEST(same_bits)
{
    static const unsigned threads[] = { 1, 2, 3, 8 };
    problem p;
    problem_open(&p, 200, 2 * TACIT_KC / 3, (const size_t[]){ 2 * TACIT_KC + 7, 5, 100 });
    size_t bytes = p.rows * p.dim * sizeof *p.dz;
    float *want = malloc(bytes);
    double first = 0;
    for (size_t n = 0; n < isa_count * 4; n++) {
        double loss = run(&p, isas[n / 4], threads[n % 4], 1);
        if (!n)
            memcpy(want, p.dz, bytes);
        first = n ? first : loss;
        ck_assert(loss == first && !memcmp(p.dz, want, bytes));
    }
    free(want);
    problem_close(&p);
}
END_TEST

int main(void)
{
    for (int isa = 0; isa < TACIT_ISA_COUNT; isa++)
        if (tacit_isa_available((tacit_isa)isa))
            isas[isa_count++] = (tacit_isa)isa;
    Suite *suite = suite_create("losses_clusters");
    TCase *tests = tcase_create("losses_clusters");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, loss_and_gradient, 0, (int)isa_count);
    tcase_add_loop_test(tests, rows_without_labels, 0, (int)isa_count);
    tcase_add_test(tests, same_bits);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
