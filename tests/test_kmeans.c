/* test_kmeans.c - k-means against its definition in double, cluster by cluster, for any ISA and
 * number of threads the same bits; empty clusters, more clusters than rows, rows that are alike.
 */
#include "kmeans.h"
#include "rng.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static tacit_isa isas[TACIT_ISA_COUNT];
static size_t isa_count;

typedef struct run {
    tacit_kmeans kmeans;
    tacit_work work;
    tacit_arena arena;
} run;

static void run_open(run *r, tacit_isa isa, unsigned threads, size_t rows, size_t clusters,
                     size_t dim, bool spherical)
{
    size_t total = 0;
    *r = (run){ .work = { .kernels = tacit_kernels_for(isa) } };
    ck_assert_int_eq(tacit_pool_open(&r->work.pool, threads, NULL), TACIT_OK);
    tacit_kmeans_init(&r->kmeans, rows, clusters, dim, spherical, &r->work);
    ck_assert_int_eq(tacit_work_open(&r->work, NULL), TACIT_OK);
    ck_assert(tacit_kmeans_plan(&r->kmeans, &total));
    ck_assert_int_eq(tacit_arena_open(&r->arena, total, NULL), TACIT_OK);
    memset(r->arena.base, 0xff, total);
    tacit_kmeans_take(&r->kmeans, &r->arena);
    ck_assert_uint_eq(r->arena.used, total);
}

static void run_close(run *r)
{
    tacit_arena_close(&r->arena);
    tacit_work_close(&r->work);
    tacit_pool_close(&r->work.pool);
}

static float normal(uint64_t stream, uint64_t i) /* nearly */
{
    float sum = -2;
    for (uint64_t j = 0; j < 4; j++)
        sum += tacit_rng_uniform(9, stream, 4 * i + j);
    return sum * 1.7f;
}

/* Rows about `centres` places, of unit length where spherical. */
static float *make_rows(size_t rows, size_t dim, size_t centres, float noise, bool spherical)
{
    float *x = malloc(rows * dim * sizeof *x);
    for (size_t i = 0; i < rows * dim; i++)
        x[i] = normal(1, i / dim % centres * dim + i % dim) + noise * normal(2, i);
    if (spherical)
        tacit_kernels_for(TACIT_ISA_REF)->l2norm_f32(rows, dim, x, dim, x, dim);
    return x;
}

/* The definition ---------------------------------------------------------------------------------
 */

static void nearest(size_t rows, const float *x, size_t clusters, size_t dim, const double *c,
                    bool spherical, uint32_t *labels)
{
    for (size_t i = 0; i < rows; i++) {
        double best = INFINITY;
        for (size_t k = 0; k < clusters; k++) {
            double far = 0;
            for (size_t d = 0; d < dim; d++) {
                double u = (double)x[i * dim + d], v = c[k * dim + d];
                far += spherical ? -u * v : (u - v) * (u - v);
            }
            if (far < best - 1e-7) {
                best = far;
                labels[i] = (uint32_t)k;
            }
        }
    }
}

static void split(size_t rows, size_t clusters, size_t dim, double *c, size_t *size, uint64_t *draw)
{
    for (size_t k = 0; k < clusters; k++) {
        size_t from = 0;
        if (size[k])
            continue;
        while (!((double)tacit_rng_uniform(5, 6, (*draw)++) <
                 ((double)size[from] - 1) / (double)(rows - clusters)))
            from = (from + 1) % clusters;
        for (size_t d = 0; d < dim; d++) {
            double value = c[from * dim + d], e = d % 2 ? -1 / 1024.0 : 1 / 1024.0;
            c[k * dim + d] = value * (1 + e);
            c[from * dim + d] = value * (1 - e);
        }
        size[k] = size[from] / 2;
        size[from] -= size[k];
    }
}

static void kmeans(size_t rows, const float *x, size_t clusters, size_t dim, size_t iterations,
                   bool spherical, double *c, uint32_t *labels)
{
    uint32_t *order = malloc(rows * sizeof *order);
    size_t *size = malloc(clusters * sizeof *size);
    for (size_t i = 0; i < rows; i++)
        order[i] = (uint32_t)i;
    for (size_t k = 0; k < clusters; k++) {
        size_t other = k + (size_t)((uint64_t)tacit_rng_u32(5, 6, k) * (rows - k) >> 32);
        uint32_t swap = order[k];
        order[k] = order[other];
        order[other] = swap;
        for (size_t d = 0; d < dim; d++)
            c[k * dim + d] = (double)x[order[k] * dim + d];
    }
    nearest(rows, x, clusters, dim, c, spherical, labels);
    for (size_t n = 0; n < iterations; n++) {
        uint64_t draw = rows;
        for (size_t k = 0; k < clusters; k++) {
            size[k] = 0;
            for (size_t i = 0; i < rows; i++) {
                for (size_t d = 0; d < dim && labels[i] == k; d++)
                    c[k * dim + d] = (size[k] ? c[k * dim + d] : 0) + (double)x[i * dim + d];
                size[k] += labels[i] == k;
            }
            double square = 0;
            for (size_t d = 0; d < dim; d++) {
                c[k * dim + d] /= size[k] ? (double)size[k] : 1;
                square += c[k * dim + d] * c[k * dim + d];
            }
            for (size_t d = 0; d < dim && spherical; d++)
                c[k * dim + d] /= sqrt(square);
        }
        if (!spherical)
            split(rows, clusters, dim, c, size, &draw);
        nearest(rows, x, clusters, dim, c, spherical, labels);
    }
    free(order), free(size);
}

START_TEST(as_the_definition)
{
    static const struct {
        size_t rows, clusters, dim, centres, iterations;
        float noise;
    } cases[] = {
        { 40, 4, 8, 4, 10, 0.2f },   { 200, 16, 12, 10, 20, 0.4f }, { 33, 33, 5, 7, 3, 0.3f },
        { 90, 1, 3, 2, 2, 0.1f },    { 150, 40, 6, 3, 10, 0.2f },   { 65, 9, 70, 9, 0, 0.5f },
        { 300, 60, 4, 5, 12, 0.1f },
    };
    bool spherical = _i % 2;
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        size_t rows = cases[n].rows, clusters = cases[n].clusters, dim = cases[n].dim;
        run r;
        uint32_t *labels = malloc(rows * sizeof *labels), *want = malloc(rows * sizeof *want);
        float *x = make_rows(rows, dim, cases[n].centres, cases[n].noise, spherical);
        float *got = malloc(clusters * dim * sizeof *got);
        double *c = malloc(clusters * dim * sizeof *c);
        run_open(&r, isas[(size_t)_i / 2], 2, rows + 3, clusters + 2, dim, spherical);
        tacit_kmeans_run(&r.kmeans, rows, x, clusters, cases[n].iterations, 5, 6, got, labels);
        kmeans(rows, x, clusters, dim, cases[n].iterations, spherical, c, want);
        for (size_t i = 0; i < rows; i++)
            ck_assert_msg(labels[i] == want[i], "case %zu: row %zu is of %u, not %u", n, i,
                          labels[i], want[i]);
        for (size_t i = 0; i < clusters * dim; i++)
            ck_assert_msg(fabs((double)got[i] - c[i]) < 2e-6, "case %zu, centroid %zu: %g, not %g",
                          n, i / dim, (double)got[i], c[i]);
        tacit_kmeans_assign(&r.kmeans, rows, x, clusters, got, want);
        ck_assert(!memcmp(labels, want, rows * sizeof *want));
        run_close(&r);
        free(labels), free(want), free(x), free(got), free(c);
    }
}
END_TEST

/* Three places that are very close, and 60 clusters: without splits most would stay empty. */
START_TEST(clusters_do_not_stay_empty)
{
    enum { ROWS = 400, CLUSTERS = 60, DIM = 6 };
    static float c[CLUSTERS * DIM];
    uint32_t labels[ROWS];
    size_t used[2] = { 0 };
    for (int few = 0; few < 2; few++) {
        bool has[CLUSTERS] = { false };
        run r;
        float *x = make_rows(ROWS, DIM, 3, few ? 0 : 1e-3f, false);
        run_open(&r, isas[_i], 1, ROWS, CLUSTERS, DIM, false);
        tacit_kmeans_run(&r.kmeans, ROWS, x, CLUSTERS, 20, 5, 6, c, labels);
        for (size_t i = 0; i < ROWS; i++)
            has[labels[i]] = true;
        for (size_t k = 0; k < CLUSTERS; k++)
            used[few] += has[k];
        for (size_t i = 0; i < CLUSTERS * DIM; i++)
            ck_assert(isfinite(c[i]));
        run_close(&r);
        free(x);
    }
    ck_assert_uint_gt(used[0], CLUSTERS - 3);
    ck_assert_uint_le(used[1], 3); /* rows that are alike cannot be told apart */
}
END_TEST

START_TEST(more_clusters_than_rows)
{
    enum { ROWS = 5, CLUSTERS = 12, DIM = 3 };
    float c[CLUSTERS * DIM];
    uint32_t labels[ROWS], seen = 0;
    for (int spherical = 0; spherical < 2; spherical++) {
        run r;
        float *x = make_rows(ROWS, DIM, ROWS, 0, spherical);
        run_open(&r, isas[_i], 2, ROWS, CLUSTERS, DIM, spherical);
        tacit_kmeans_run(&r.kmeans, ROWS, x, CLUSTERS, 4, 5, 6, c, labels);
        for (size_t i = 0; i < ROWS; i++) { /* each is its own */
            ck_assert_uint_lt(labels[i], ROWS);
            seen |= 1u << labels[i];
            for (size_t d = 0; d < DIM; d++)
                ck_assert_float_eq_tol(c[labels[i] * DIM + d], x[i * DIM + d], 1e-6f);
        }
        ck_assert_uint_eq(seen, (1u << ROWS) - 1);
        run_close(&r);
        free(x);
    }
}
END_TEST

START_TEST(numbers_that_are_not_finite_end)
{
    enum { ROWS = 50, CLUSTERS = 4, DIM = 3 };
    float c[CLUSTERS * DIM];
    uint32_t labels[ROWS];
    for (int spherical = 0; spherical < 2; spherical++) {
        run r;
        float *x = make_rows(ROWS, DIM, 4, 0.1f, spherical);
        for (size_t i = 0; i < ROWS * DIM; i += 7)
            x[i] = i % 2 ? nanf("") : INFINITY;
        run_open(&r, isas[_i], 1, ROWS, CLUSTERS, DIM, spherical);
        tacit_kmeans_run(&r.kmeans, ROWS, x, CLUSTERS, 10, 5, 6, c, labels);
        for (size_t i = 0; i < ROWS; i++)
            ck_assert_uint_lt(labels[i], CLUSTERS);
        run_close(&r);
        free(x);
    }
}
END_TEST

START_TEST(same_bits)
{
    enum { ROWS = 1000, CLUSTERS = 70, DIM = 130 };
    static const unsigned threads[] = { 1, 2, 3, 8 };
    bool spherical = _i;
    float *x = make_rows(ROWS, DIM, 50, 1, spherical);
    float *want = malloc(CLUSTERS * DIM * sizeof *want),
          *got = malloc(CLUSTERS * DIM * sizeof *got);
    uint32_t first[ROWS], labels[ROWS];
    for (size_t n = 0; n < isa_count * 4; n++) {
        run r;
        run_open(&r, isas[n / 4], threads[n % 4], ROWS, CLUSTERS, DIM, spherical);
        uint64_t allocations = tacit_alloc_count();
        tacit_kmeans_run(&r.kmeans, ROWS, x, CLUSTERS, 6, 5, 6, n ? got : want, n ? labels : first);
        ck_assert_uint_eq(tacit_alloc_count(), allocations);
        ck_assert(!n || !memcmp(got, want, CLUSTERS * DIM * sizeof *want));
        ck_assert(!n || !memcmp(labels, first, sizeof first));
        run_close(&r);
    }
    free(x), free(want), free(got);
}
END_TEST

int main(void)
{
    for (int isa = 0; isa < TACIT_ISA_COUNT; isa++)
        if (tacit_isa_available((tacit_isa)isa))
            isas[isa_count++] = (tacit_isa)isa;
    Suite *suite = suite_create("kmeans");
    TCase *tests = tcase_create("kmeans");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, as_the_definition, 0, 2 * (int)isa_count);
    tcase_add_loop_test(tests, clusters_do_not_stay_empty, 0, (int)isa_count);
    tcase_add_loop_test(tests, more_clusters_than_rows, 0, (int)isa_count);
    tcase_add_loop_test(tests, numbers_that_are_not_finite_end, 0, (int)isa_count);
    tcase_add_loop_test(tests, same_bits, 0, 2);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
