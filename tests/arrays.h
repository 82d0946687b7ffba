/* arrays.h - small .npy files and index.tsv for the tests of evaluation. */
#ifndef TACIT_TESTS_ARRAYS_H
#define TACIT_TESTS_ARRAYS_H

#include "index.h"
#include "npy.h"
#include "scratch.h"

#include <sys/stat.h>

static inline void array_put(const char *path, tacit_dtype dtype, const uint64_t *shape,
                             unsigned rank, const void *data)
{
    char header[TACIT_NPY_HEADER];
    size_t bytes = tacit_dtype_size(dtype);
    for (unsigned i = 0; i < rank; i++)
        bytes *= shape[i];
    tacit_npy_header(header, dtype, shape, rank);
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(header, 1, sizeof header, f), sizeof header);
    ck_assert_uint_eq(fwrite(data, 1, bytes, f), bytes);
    ck_assert_int_eq(fclose(f), 0);
}

static inline void matrix_put(const char *path, const float *data, size_t rows, size_t dim)
{
    array_put(path, TACIT_F32, (const uint64_t[]){ rows, dim }, 2, data);
}

/* A folder as tacit extract leaves it, without meta.json: row r is "r.jpg" of label(r); before
 * every fifth row there is an input that was unusable. */
static inline void folder_put(const char *dir, const float *data, size_t rows, size_t dim,
                              const char *(*label)(size_t row))
{
    char path[1200], line[400], name[32];
    mkdir(dir, 0777);
    snprintf(path, sizeof path, "%s/embeddings.npy", dir);
    matrix_put(path, data, rows, dim);
    snprintf(path, sizeof path, "%s/index.tsv", dir);
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    fputs(TACIT_INDEX_HEADER, f);
    for (size_t row = 0; row < rows; row++) {
        if (row % 5 == 0)
            fputs("\tbroken.jpg\t\tmalformed\t\n", f);
        snprintf(name, sizeof name, "%zu.jpg", row);
        tacit_index_format(line, name, label(row), "ok", "0123456789abcdef");
        fprintf(f, "%zu%s", row, line);
    }
    ck_assert_int_eq(fclose(f), 0);
}

#endif
