/* vectors.h - a set of vectors to be evaluated: a folder that tacit extract wrote, or any .npy.
 *
 * The elements, float32 or float16, are pages of the file: only what is in use need be in memory.
 * An open set keeps these promises, so that nothing behind it need look again:
 *  (1) there is at least one row, and at least one column;
 *  (2) every element is finite, and no vector is longer than 1e18, so that squares do not overflow.
 */
#ifndef TACIT_VECTORS_H
#define TACIT_VECTORS_H

#include "kernels.h"
#include "npy.h"
#include "pool.h"

#include <jansson.h>

typedef struct tacit_vectors {
    char *path;   /* of the .npy */
    char *folder; /* NULL for a bare .npy */
    tacit_npy npy;
    const void *elements;
    size_t rows, dim;
    json_t *recipe; /* of meta.json: what the vectors are of; NULL where there is none */
    double *norms;  /* (rows) */
} tacit_vectors;

tacit_status tacit_vectors_open(tacit_vectors *vectors, const char *path,
                                const tacit_kernels *kernels, tacit_pool *pool, tacit_err *err);
/* NULL elements and zeros may be closed, too. */
void tacit_vectors_close(tacit_vectors *vectors);

/* Rows [from, from + count) as float32, rows dim apart: in place, or converted to scratch, which
 * has room for them. */
const float *tacit_vectors_rows(const tacit_vectors *vectors, size_t from, size_t count,
                                const tacit_kernels *kernels, float *scratch);

/* What of a recipe is of the images rather than of the vectors, for tacit_recipe_compare. */
extern const char *const tacit_recipe_images[];

/* TACIT_ECONFLICT where a and b cannot be of one model and one way to use it: another width, or
 * recipes that differ in more than the images. */
tacit_status tacit_vectors_match(const tacit_vectors *a, const tacit_vectors *b, tacit_err *err);

/* For results: path, rows, dim, dtype, and the recipe as "meta", or null. NULL where memory is
 * short. */
json_t *tacit_vectors_json(const tacit_vectors *vectors);

/* "DIR/NAME"; NULL where memory is short. */
char *tacit_path_join(const char *dir, const char *name);

#endif
