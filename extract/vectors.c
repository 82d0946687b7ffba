/* vectors.c - see vectors.h. */
#include "vectors.h"

#include "mem.h"
#include "meta.h"
#include "output.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK     256 /* rows that are looked at together */
#define LONGEST   1e18
#define MOST_ROWS UINT32_MAX /* rows are numbered with 32 bits in what is found */

const char *const tacit_recipe_images[] = { "input", "model.weights", "libraries", "tacit", NULL };

char *tacit_path_join(const char *dir, const char *name)
{
    size_t room = strlen(dir) + strlen(name) + 2;
    char *path = tacit_alloc(room);
    if (path)
        snprintf(path, room, "%s/%s", dir, name);
    return path;
}

const float *tacit_vectors_rows(const tacit_vectors *v, size_t from, size_t count,
                                const tacit_kernels *kernels, float *scratch)
{
    if (v->npy.dtype == TACIT_F32)
        return (const float *)v->elements + from * v->dim;
    kernels->f16_to_f32(count * v->dim, (const uint16_t *)v->elements + from * v->dim, scratch);
    return scratch;
}

typedef struct scan {
    const tacit_vectors *vectors;
    const tacit_kernels *kernels;
    float *scratch; /* (workers, dim) */
} scan;

static void scan_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const scan *s = ctx;
    const tacit_vectors *v = s->vectors;
    for (size_t row = chunk * CHUNK; row < v->rows && row < (chunk + 1) * CHUNK; row++) {
        const float *x = tacit_vectors_rows(v, row, 1, s->kernels, s->scratch + worker * v->dim);
        v->norms[row] = sqrt(s->kernels->dot_f64(v->dim, x, x));
    }
}

/* norms, and with them promise (2): squares of floats do not overflow a double. */
static tacit_status look_at_all(tacit_vectors *v, const tacit_kernels *kernels, tacit_pool *pool,
                                tacit_err *err)
{
    size_t workers = tacit_pool_threads(pool), scratch;
    if (!tacit_mul_size(workers, v->dim, &scratch))
        return tacit_fail(err, TACIT_ELIMIT, "%s: vectors of %zu values are too long", v->path,
                          v->dim);
    v->norms = tacit_calloc(v->rows, sizeof *v->norms);
    scan s = { v, kernels, tacit_calloc(scratch, sizeof *s.scratch) };
    tacit_status st = TACIT_OK;
    if (v->norms && s.scratch)
        tacit_parallel_for(pool, (v->rows + CHUNK - 1) / CHUNK, scan_chunk, &s);
    else
        st = tacit_fail(err, TACIT_ENOMEM, "%s: out of memory for %zu rows", v->path, v->rows);
    tacit_free(s.scratch);
    for (size_t row = 0; st == TACIT_OK && row < v->rows; row++)
        if (!(v->norms[row] <= LONGEST))
            st = tacit_fail(err, TACIT_EFORMAT, "%s: row %zu %s", v->path, row,
                            isfinite(v->norms[row]) ? "is longer than 1e18"
                                                    : "holds a NaN or an infinity");
    return st;
}

static tacit_status check_shape(tacit_vectors *v, tacit_err *err)
{
    if (v->npy.rank != 2)
        return tacit_fail(err, TACIT_EUNSUPPORTED,
                          "%s: has %u dimensions, not one vector a row; extract with --features "
                          "cls, mean or cls+mean",
                          v->path, v->npy.rank);
    if (v->npy.dtype != TACIT_F32 && v->npy.dtype != TACIT_F16)
        return tacit_fail(err, TACIT_EUNSUPPORTED, "%s: holds %s, not F32 or F16", v->path,
                          tacit_dtype_name(v->npy.dtype));
    v->rows = v->npy.shape[0];
    v->dim = v->npy.shape[1];
    if (!v->rows || !v->dim)
        return tacit_fail(err, TACIT_EINVAL, "%s: is empty: %zu vectors of %zu values", v->path,
                          v->rows, v->dim);
    if (v->rows >= MOST_ROWS)
        return tacit_fail(err, TACIT_ELIMIT, "%s: %zu rows are too many", v->path, v->rows);
    return TACIT_OK;
}

/* The recipe of a folder. One without meta.json and run.json was made by somebody else. */
static tacit_status read_recipe(tacit_vectors *v, tacit_err *err)
{
    char *meta = tacit_path_join(v->folder, "meta.json"),
         *run = tacit_path_join(v->folder, "run.json");
    bool ours = meta && run && (!access(meta, F_OK) || !access(run, F_OK)), memory = meta && run;
    tacit_free(meta);
    tacit_free(run);
    if (!memory)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", v->folder);
    if (!ours)
        return TACIT_OK;
    json_t *whole;
    tacit_status st = tacit_output_meta(v->folder, &whole, err);
    if (st < 0)
        return st;
    v->recipe = tacit_meta_recipe(whole);
    json_decref(whole);
    return v->recipe ? TACIT_OK : tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", v->folder);
}

tacit_status tacit_vectors_open(tacit_vectors *v, const char *path, const tacit_kernels *kernels,
                                tacit_pool *pool, tacit_err *err)
{
    *v = (tacit_vectors){ .npy.fd = -1 };
    struct stat info;
    bool folder = !stat(path, &info) && S_ISDIR(info.st_mode);
    if (folder)
        v->folder = tacit_strdup(path);
    v->path = folder ? tacit_path_join(path, "embeddings.npy") : tacit_strdup(path);
    tacit_status st = TACIT_OK;
    if (!v->path || (folder && !v->folder))
        st = tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    if (st == TACIT_OK && folder)
        st = read_recipe(v, err);
    if (st == TACIT_OK)
        st = tacit_npy_open(&v->npy, v->path, err);
    if (st == TACIT_OK)
        st = check_shape(v, err);
    if (st == TACIT_OK)
        st = tacit_npy_map(&v->npy, v->path, &v->elements, err);
    if (st == TACIT_OK)
        st = look_at_all(v, kernels, pool, err);
    if (st < 0)
        tacit_vectors_close(v);
    return st;
}

void tacit_vectors_close(tacit_vectors *v)
{
    if (v->path)
        tacit_npy_close(&v->npy);
    tacit_free(v->path);
    tacit_free(v->folder);
    tacit_free(v->norms);
    json_decref(v->recipe);
    *v = (tacit_vectors){ .npy.fd = -1 };
}

tacit_status tacit_vectors_match(const tacit_vectors *a, const tacit_vectors *b, tacit_err *err)
{
    if (a->dim != b->dim)
        return tacit_fail(err, TACIT_ECONFLICT, "%s has vectors of %zu values, %s of %zu", a->path,
                          a->dim, b->path, b->dim);
    if (!a->recipe || !b->recipe)
        return TACIT_OK;
    tacit_status st = tacit_recipe_compare(a->recipe, b->recipe, tacit_recipe_images, err);
    return st < 0 ? tacit_fail_at(err, st, "%s and %s are of different runs", a->folder, b->folder)
                  : st;
}

json_t *tacit_vectors_json(const tacit_vectors *v)
{
    json_t *meta = v->recipe ? tacit_json_copy(v->recipe) : json_null();
    return json_pack("{s:o, s:I, s:I, s:s, s:o}", "path",
                     tacit_json_text(v->folder ? v->folder : v->path), "rows", (json_int_t)v->rows,
                     "dim", (json_int_t)v->dim, "dtype", tacit_dtype_name(v->npy.dtype), "meta",
                     meta);
}
