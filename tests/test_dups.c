/* test_dups.c - groups of equal files and near vectors, against links written out plainly. */
#include "arrays.h"
#include "dups.h"
#include "mem.h"
#include "rng.h"

#include <math.h>

static tacit_isa isas[TACIT_ISA_COUNT];
static size_t isa_count;
static tacit_err err;

enum { ROWS = 400, DIM = 12 };

static float vectors[ROWS][DIM];

static void setup(void)
{
    scratch_open();
    for (unsigned i = 0; i < TACIT_ISA_COUNT; i++)
        if (tacit_isa_available((tacit_isa)i))
            isas[isa_count++] = (tacit_isa)i;
    for (size_t r = 0; r < ROWS; r++) /* chains of neighbours, each a little further */
        for (size_t i = 0; i < DIM; i++)
            vectors[r][i] = r % 4 && r > 200
                                ? vectors[r - 1][i] + 0.05f * tacit_rng_uniform(1, r, i)
                                : tacit_rng_uniform(2, r, i) - 0.5f;
}

/* index.tsv: after every tenth row an input without one; files of rows 7 modulo 50 are equal, and
 * those of the inputs without a row have the bytes of one of two. */
static size_t write_folder(void)
{
    size_t inputs = 0;
    char line[200], name[40], hash[20];
    mkdir(scratch("d"), 0777);
    matrix_put(scratch("d/embeddings.npy"), vectors[0], ROWS, DIM);
    FILE *f = fopen(scratch("d/index.tsv"), "wb");
    ck_assert_ptr_nonnull(f);
    fputs(TACIT_INDEX_HEADER, f);
    for (size_t r = 0; r < ROWS; r++, inputs++) {
        snprintf(name, sizeof name, "%zu.jpg", r);
        snprintf(hash, sizeof hash, "%016zx", r % 50 == 7 ? 7 : 1000 + r);
        tacit_index_format(line, name, r % 2 ? "odd" : "even", "ok", hash);
        fprintf(f, "%zu%s", r, line);
        if (r % 10 == 0) {
            snprintf(name, sizeof name, "bad%zu", r);
            tacit_index_format(line, name, "", "malformed",
                               r % 100 ? r == 10 ? "" : "00000000000000aa" : "0000000000000007");
            fprintf(f, "%s", line);
            inputs++;
        }
    }
    ck_assert_int_eq(fclose(f), 0);
    return inputs;
}

static double cosine(const float *x, const float *y)
{
    double xy = 0, xx = 0, yy = 0;
    for (size_t i = 0; i < DIM; i++) {
        xy += (double)x[i] * (double)y[i];
        xx += (double)x[i] * (double)x[i];
        yy += (double)y[i] * (double)y[i];
    }
    return xy / sqrt(xx * yy);
}

START_TEST(groups_are_what_links_connect)
{
    const double threshold = 0.97;
    size_t inputs = write_folder(), n = 0;
    /* Inputs as the folder has them; then the group of each is the least that links lead to. */
    size_t row_of[ROWS * 2], group[ROWS * 2];
    int file_of[ROWS * 2];
    for (size_t r = 0; r < ROWS; r++) {
        row_of[n] = r;
        file_of[n++] = r % 50 == 7 ? 7 : (int)(1000 + r);
        if (r % 10 == 0) {
            row_of[n] = SIZE_MAX;
            file_of[n++] = r % 100 ? r == 10 ? -1 : 0xaa : 7;
        }
    }
    ck_assert_uint_eq(n, inputs);
    for (size_t i = 0; i < n; i++)
        group[i] = i;
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < i; j++) {
                bool linked = (file_of[i] >= 0 && file_of[i] == file_of[j]) ||
                              (row_of[i] != SIZE_MAX && row_of[j] != SIZE_MAX &&
                               cosine(vectors[row_of[i]], vectors[row_of[j]]) >= threshold);
                if (linked && group[i] != group[j]) {
                    group[i] = group[j] = group[i] < group[j] ? group[i] : group[j];
                    changed = true;
                }
            }
    }
    tacit_vectors v;
    ck_assert_int_eq(tacit_vectors_open(&v, scratch("d"), tacit_kernels_for(isas[0]), NULL, &err),
                     TACIT_OK);
    for (size_t isa = 0; isa < isa_count; isa++)
        for (unsigned threads = 1; threads < 5; threads++) {
            tacit_pool *pool;
            tacit_dups *d;
            ck_assert_int_eq(tacit_pool_open(&pool, threads, &err), TACIT_OK);
            ck_assert_msg(tacit_dups_open(&d, &v, threshold, tacit_kernels_for(isas[isa]), pool,
                                          &err) == TACIT_OK,
                          "%s", err.text);
            ck_assert_uint_eq(d->inputs, n);
            size_t at = 0, groups = 0, exact = 0;
            for (size_t root = 0; root < n; root++) {
                size_t size = 0, first = SIZE_MAX;
                bool same = true;
                for (size_t i = 0; i < n; i++) {
                    size += group[i] == root;
                    same &= group[i] != root || file_of[i] == file_of[root];
                }
                for (size_t i = 0; size > 1 && i < n; i++) {
                    if (group[i] != root)
                        continue;
                    const tacit_dup *m = &d->members[at++];
                    ck_assert_uint_lt(at - 1, d->count);
                    ck_assert_uint_eq(m->group, groups);
                    ck_assert_uint_eq(m->input, i);
                    ck_assert_uint_eq(m->row, row_of[i] == SIZE_MAX ? TACIT_NO_ROW : row_of[i]);
                    first = first == SIZE_MAX ? row_of[i] : first;
                    if (row_of[i] == SIZE_MAX)
                        ck_assert(isnan(m->similarity) && !strncmp(m->path, "bad", 3));
                    else
                        ck_assert_double_eq_tol(m->similarity,
                                                cosine(vectors[first], vectors[row_of[i]]), 1e-12);
                }
                if (size > 1) {
                    ck_assert(d->same[groups] == same);
                    groups++;
                    exact += same;
                }
            }
            ck_assert_uint_eq(at, d->count);
            ck_assert_uint_eq(groups, d->groups);
            ck_assert_uint_eq(exact, d->exact);
            ck_assert(exact > 0 && groups > exact + 5);
            tacit_dups_close(&d);
            tacit_pool_close(&pool);
        }
    tacit_vectors_close(&v);
}
END_TEST

START_TEST(a_bare_array_and_extremes)
{
    tacit_vectors v;
    tacit_dups *d;
    const tacit_kernels *kernels = tacit_kernels_for(isas[isa_count - 1]);
    float x[600][2];
    for (size_t i = 0; i < 600; i++)
        memcpy(x[i], (const float[]){ 1, 2 }, sizeof x[i]);
    x[300][0] = x[300][1] = 0; /* near to nothing */
    x[301][0] = -1;
    matrix_put(scratch("v.npy"), x[0], 600, 2);
    ck_assert_int_eq(tacit_vectors_open(&v, scratch("v.npy"), kernels, NULL, &err), TACIT_OK);
    ck_assert_int_eq(tacit_dups_open(&d, &v, 0.999, kernels, NULL, &err), TACIT_OK);
    ck_assert_uint_eq(d->groups, 1);
    ck_assert_uint_eq(d->count, 598);
    ck_assert_uint_eq(d->exact, 0); /* no file is known */
    ck_assert_str_eq(d->members[0].path, "");
    tacit_dups_close(&d);
    ck_assert_int_eq(tacit_dups_open(&d, &v, 1.000001, kernels, NULL, &err), TACIT_OK);
    ck_assert_uint_eq(d->groups, 0);
    tacit_dups_close(&d);
    tacit_vectors_close(&v);
}
END_TEST

START_TEST(faults)
{
    tacit_vectors v;
    tacit_dups *d;
    write_folder();
    const tacit_kernels *kernels = tacit_kernels_for(isas[isa_count - 1]);
    ck_assert_int_eq(tacit_vectors_open(&v, scratch("d"), kernels, NULL, &err), TACIT_OK);
    tacit_status st = TACIT_ENOMEM;
    for (uint64_t n = 1; st != TACIT_OK; n++) {
        tacit_alloc_fail_at(n, false);
        st = tacit_dups_open(&d, &v, 0.97, kernels, NULL, &err);
        tacit_alloc_fail_at(0, false);
        ck_assert(st == TACIT_OK || (st == TACIT_ENOMEM && !d));
    }
    tacit_dups_close(&d);
    ck_assert_int_eq(truncate(scratch("d/index.tsv"), 5000), 0); /* inside of a line */
    ck_assert_int_eq(tacit_dups_open(&d, &v, 0.97, kernels, NULL, &err), TACIT_EFORMAT);
    file_put(scratch("d/index.tsv"), TACIT_INDEX_HEADER, strlen(TACIT_INDEX_HEADER));
    ck_assert_int_eq(tacit_dups_open(&d, &v, 0.97, kernels, NULL, &err), TACIT_EFORMAT);
    ck_assert_msg(strstr(err.text, "not the rows"), "%s", err.text);
    tacit_vectors_close(&v);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dups");
    TCase *t = tcase_create("dups");
    tcase_add_unchecked_fixture(t, setup, scratch_close);
    tcase_set_timeout(t, 0);
    tcase_add_test(t, groups_are_what_links_connect);
    tcase_add_test(t, a_bare_array_and_extremes);
    tcase_add_test(t, faults);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
