/* neighbors.c - exhaustive search by a matrix product. See neighbors.h. */
#include "neighbors.h"

#include "index.h"
#include "mem.h"
#include "npy.h"

#include <math.h>
#include <stdio.h>

#define BLOCK 32 /* queries of one chunk */

static tacit_status join(char *path, size_t size, const char *dir, const char *name, tacit_err *err)
{
    int n = snprintf(path, size, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= size)
        return tacit_fail(err, TACIT_ELIMIT, "%s: the name is too long", dir);
    return TACIT_OK;
}

/* The rows of DIR/embeddings.npy, each of length 1. */
static tacit_status read_vectors(const char *dir, const tacit_kernels *kernels, float **vectors,
                                 size_t *rows, size_t *dim, tacit_err *err)
{
    char path[4096];
    tacit_npy npy;
    tacit_status st = join(path, sizeof path, dir, "embeddings.npy", err);
    if (st < 0 || (st = tacit_npy_open(&npy, path, err)) < 0)
        return st;
    if (npy.dtype != TACIT_F32 || npy.rank != 2 || !npy.shape[1]) {
        st = tacit_fail(err, TACIT_EUNSUPPORTED,
                        "%s: not one float32 vector an image; extract with --features cls or mean",
                        path);
        goto out;
    }
    *rows = npy.shape[0];
    *dim = npy.shape[1];
    *vectors = tacit_alloc(npy.bytes);
    if (!*vectors) {
        st = tacit_fail(err, TACIT_ENOMEM, "%s: out of memory for %zu bytes", path, npy.bytes);
        goto out;
    }
    if ((st = tacit_npy_read(&npy, 0, npy.bytes, *vectors, err)) < 0)
        goto out;
    kernels->l2norm_f32(*rows, *dim, *vectors, *dim, *vectors, *dim);
out:
    tacit_npy_close(&npy);
    return st;
}

static tacit_status read_names(tacit_neighbors *found, const char *dir, tacit_err *err)
{
    char path[4096];
    tacit_index *index = NULL;
    tacit_status st = join(path, sizeof path, dir, "index.tsv", err);
    if (st < 0 || (st = tacit_index_open(&index, path, err)) < 0)
        return st;
    size_t row = 0;
    for (;;) {
        tacit_index_line line;
        bool more;
        if ((st = tacit_index_next(index, &line, &more, err)) < 0 || !more)
            break;
        if (!line.usable)
            continue;
        if (row == found->rows) {
            row++;
            break;
        }
        found->paths[row] = tacit_strdup(line.path);
        found->labels[row] = tacit_strdup(line.label);
        if (!found->paths[row] || !found->labels[row]) {
            st = tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
            break;
        }
        row++;
    }
    if (st == TACIT_OK && row != found->rows)
        st = tacit_fail(err, TACIT_EFORMAT, "%s: not the rows of embeddings.npy, which are %zu",
                        path, found->rows);
    tacit_index_close(&index);
    return st;
}

typedef struct search {
    tacit_neighbors *found;
    const tacit_kernels *kernels;
    const float *vectors, *packed;
    size_t dim;
    float *scores; /* (workers, BLOCK, rows) */
} search;

/* Keeps the k best so far in order; a later one goes behind its equals. */
static void insert(tacit_neighbor *best, size_t k, size_t row, float similarity)
{
    size_t at = k;
    while (at && similarity > best[at - 1].similarity)
        at--;
    for (size_t i = k; i-- > at + 1;)
        best[i] = best[i - 1];
    if (at < k)
        best[at] = (tacit_neighbor){ row, similarity };
}

static void search_block(void *ctx, size_t chunk, unsigned worker)
{
    const search *s = ctx;
    size_t rows = s->found->rows, k = s->found->k, from = chunk * BLOCK;
    size_t count = rows - from < BLOCK ? rows - from : BLOCK;
    float *scores = s->scores + worker * BLOCK * rows;
    s->kernels->gemm_f32(count, rows, s->dim, s->vectors + from * s->dim, s->dim, s->packed, scores,
                         rows, NULL);
    for (size_t i = 0; i < count; i++) {
        tacit_neighbor *best = s->found->nearest + (from + i) * k;
        for (size_t j = 0; j < k; j++)
            best[j] = (tacit_neighbor){ 0, -INFINITY };
        for (size_t j = 0; j < rows; j++)
            if (j != from + i)
                insert(best, k, j, scores[i * rows + j]);
    }
}

static tacit_status find(tacit_neighbors *found, const float *vectors, size_t dim,
                         const tacit_kernels *kernels, tacit_pool *pool, tacit_err *err)
{
    size_t rows = found->rows, size, workers = tacit_pool_threads(pool);
    if (!tacit_mul_size(workers * BLOCK, rows, &size) ||
        !tacit_mul_size(size, sizeof(float), &size))
        return tacit_fail(err, TACIT_ELIMIT, "%zu rows are too many to compare", rows);
    float *scores = tacit_alloc(size);
    float *packed = tacit_calloc(tacit_gemm_packed_size(kernels, rows, dim), sizeof *packed);
    tacit_status st = TACIT_OK;
    if (scores && packed) {
        kernels->gemm_pack_f32(rows, dim, vectors, dim, packed);
        search s = { found, kernels, vectors, packed, dim, scores };
        tacit_parallel_for(pool, (rows + BLOCK - 1) / BLOCK, search_block, &s);
    } else {
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory to compare %zu rows", rows);
    }
    tacit_free(scores);
    tacit_free(packed);
    return st;
}

tacit_status tacit_neighbors_open(tacit_neighbors **out, const char *dir, size_t k,
                                  const tacit_kernels *kernels, tacit_pool *pool, tacit_err *err)
{
    float *vectors = NULL;
    size_t dim = 0;
    tacit_neighbors *found = *out = tacit_calloc(1, sizeof *found);
    if (!found)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    tacit_status st = read_vectors(dir, kernels, &vectors, &found->rows, &dim, err);
    if (st < 0)
        goto out;
    found->k = !found->rows ? 0 : k < found->rows ? k : found->rows - 1;
    size_t pairs;
    found->paths = tacit_calloc(found->rows, sizeof *found->paths);
    found->labels = tacit_calloc(found->rows, sizeof *found->labels);
    found->nearest = tacit_mul_size(found->rows, found->k, &pairs)
                         ? tacit_calloc(pairs, sizeof *found->nearest)
                         : NULL;
    if (!found->paths || !found->labels || !found->nearest) {
        st = tacit_fail(err, TACIT_ENOMEM, "%s: out of memory for %zu rows", dir, found->rows);
        goto out;
    }
    if ((st = read_names(found, dir, err)) == TACIT_OK)
        st = find(found, vectors, dim, kernels, pool, err);
out:
    tacit_free(vectors);
    if (st < 0)
        tacit_neighbors_close(out);
    return st;
}

void tacit_neighbors_close(tacit_neighbors **f)
{
    tacit_neighbors *found = *f;
    *f = NULL;
    if (!found)
        return;
    for (size_t i = 0; i < found->rows; i++) {
        if (found->paths)
            tacit_free(found->paths[i]);
        if (found->labels)
            tacit_free(found->labels[i]);
    }
    tacit_free(found->paths);
    tacit_free(found->labels);
    tacit_free(found->nearest);
    tacit_free(found);
}
