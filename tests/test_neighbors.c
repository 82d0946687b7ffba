/* test_neighbors.c - the nearest vectors, against a search in double written out plainly. */
#include "index.h"
#include "mem.h"
#include "neighbors.h"
#include "npy.h"
#include "rng.h"
#include "scratch.h"

#include <math.h>

enum { ROWS = 75, DIM = 20 };

static float vectors[ROWS][DIM];

/* Writes the folder; every fifth input has no row. */
static void make_folder(size_t rows, size_t rows_in_index)
{
    char header[TACIT_NPY_HEADER], line[200];
    tacit_npy_header(header, TACIT_F32, (const uint64_t[]){ rows, DIM }, 2);
    FILE *f = fopen(scratch("embeddings.npy"), "wb");
    ck_assert_ptr_nonnull(f);
    fwrite(header, 1, sizeof header, f);
    fwrite(vectors, sizeof vectors[0], rows, f);
    ck_assert_int_eq(fclose(f), 0);
    f = fopen(scratch("index.tsv"), "wb");
    ck_assert_ptr_nonnull(f);
    fputs(TACIT_INDEX_HEADER, f);
    for (size_t row = 0; row < rows_in_index; row++) {
        char name[30];
        if (row % 5 == 0)
            fputs("\tbroken.jpg\t\tmalformed\t\n", f);
        snprintf(name, sizeof name, "%zu.jpg", row);
        tacit_index_format(line, name, row % 2 ? "odd" : "even", "ok", "0123456789abcdef");
        fprintf(f, "%zu%s", row, line);
    }
    ck_assert_int_eq(fclose(f), 0);
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

START_TEST(nearest_by_cosine)
{
    const tacit_kernels *kernels = tacit_kernels_for(TACIT_ISA_REF);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t i = 0; i < DIM; i++)
            vectors[r][i] = tacit_rng_uniform(1, r, i) - 0.5f;
    memcpy(vectors[70], vectors[3], sizeof vectors[3]); /* as near to any as 3: 3 comes first */
    scratch_open();
    make_folder(ROWS, ROWS);
    for (unsigned threads = 1; threads < 4; threads++) {
        tacit_pool *pool;
        tacit_neighbors *found;
        tacit_err err = { "" };
        ck_assert_int_eq(tacit_pool_open(&pool, threads, &err), TACIT_OK);
        ck_assert_msg(tacit_neighbors_open(&found, scratch_folder, 6, kernels, pool, &err) ==
                          TACIT_OK,
                      "%s", err.text);
        ck_assert_uint_eq(found->rows, ROWS);
        ck_assert_uint_eq(found->k, 6);
        ck_assert_str_eq(found->paths[74], "74.jpg");
        ck_assert_str_eq(found->labels[74], "even");
        for (size_t r = 0; r < ROWS; r++) {
            const tacit_neighbor *n = found->nearest + r * 6;
            size_t nearer = 0; /* all that are nearer than the last one found are in the list */
            for (size_t j = 0; j < ROWS; j++)
                if (j != r)
                    nearer += cosine(vectors[r], vectors[j]) > n[5].similarity + 1e-12;
            ck_assert_uint_le(nearer, 5);
            for (size_t i = 0; i < 6; i++) {
                ck_assert_uint_ne(n[i].row, r);
                ck_assert_double_eq_tol(n[i].similarity, cosine(vectors[r], vectors[n[i].row]),
                                        1e-12);
                ck_assert(!i || n[i].similarity < n[i - 1].similarity ||
                          (n[i].similarity == n[i - 1].similarity && n[i].row > n[i - 1].row));
            }
        }
        tacit_neighbors_close(&found);
        tacit_pool_close(&pool);
    }
    scratch_close();
}
END_TEST

START_TEST(folders_that_are_none)
{
    const tacit_kernels *kernels = tacit_kernels_for(TACIT_ISA_REF);
    tacit_neighbors *found;
    tacit_err err;
    scratch_open();
    ck_assert_int_eq(tacit_neighbors_open(&found, scratch_folder, 3, kernels, NULL, &err),
                     TACIT_EIO);
    ck_assert_ptr_null(found);
    const size_t rows_in_index[] = { 4, 6 };
    for (size_t i = 0; i < 2; i++) {
        make_folder(5, rows_in_index[i]);
        ck_assert_int_eq(tacit_neighbors_open(&found, scratch_folder, 3, kernels, NULL, &err),
                         TACIT_EFORMAT);
        ck_assert_ptr_null(found);
    }
    make_folder(1, 1);
    ck_assert_int_eq(tacit_neighbors_open(&found, scratch_folder, 3, kernels, NULL, &err),
                     TACIT_OK);
    ck_assert_uint_eq(found->k, 0);
    tacit_neighbors_close(&found);
    vectors[3][7] = NAN;
    make_folder(5, 5);
    ck_assert_int_eq(tacit_neighbors_open(&found, scratch_folder, 3, kernels, NULL, &err),
                     TACIT_EFORMAT);
    vectors[3][7] = 0;
    make_folder(5, 5);
    tacit_status st = TACIT_ENOMEM;
    for (uint64_t n = 1; st != TACIT_OK; n++) { /* every allocation fails once */
        tacit_alloc_fail_at(n, false);
        st = tacit_neighbors_open(&found, scratch_folder, 3, kernels, NULL, &err);
        tacit_alloc_fail_at(0, false);
        ck_assert(st == TACIT_OK || (st == TACIT_ENOMEM && !found));
    }
    tacit_neighbors_close(&found);
    scratch_close();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("neighbors");
    TCase *t = tcase_create("neighbors");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, nearest_by_cosine);
    tcase_add_test(t, folders_that_are_none);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
