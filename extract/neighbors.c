/* neighbors.c - names to the rows that knn.h finds. See neighbors.h. */
#include "neighbors.h"

#include "index.h"
#include "mem.h"

#include <string.h>

static tacit_status read_names(tacit_neighbors *found, const char *dir, tacit_err *err)
{
    char *path = tacit_path_join(dir, "index.tsv");
    tacit_index *index = NULL;
    if (!path)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", dir);
    tacit_status st = tacit_index_open(&index, path, err);
    if (st < 0) {
        tacit_free(path);
        return st;
    }
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
    tacit_free(path);
    return st;
}

static tacit_status find(tacit_neighbors *found, const tacit_vectors *vectors, size_t k,
                         const tacit_kernels *kernels, tacit_pool *pool, tacit_err *err)
{
    tacit_knn *knn;
    tacit_status st = tacit_knn_open(&knn, vectors, NULL, k, kernels, pool, err);
    if (st < 0)
        return st;
    size_t pairs, from, count;
    const tacit_neighbor *block;
    found->k = tacit_knn_k(knn);
    found->nearest = tacit_mul_size(found->rows, found->k, &pairs)
                         ? tacit_calloc(pairs, sizeof *found->nearest)
                         : NULL;
    if (!found->nearest)
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu neighbours of %zu rows", found->k,
                        found->rows);
    while (st == TACIT_OK && (count = tacit_knn_next(knn, &from, &block)) > 0)
        memcpy(found->nearest + from * found->k, block, count * found->k * sizeof *block);
    tacit_knn_close(&knn);
    return st;
}

tacit_status tacit_neighbors_open(tacit_neighbors **out, const char *dir, size_t k,
                                  const tacit_kernels *kernels, tacit_pool *pool, tacit_err *err)
{
    tacit_vectors vectors;
    tacit_neighbors *found = *out = tacit_calloc(1, sizeof *found);
    if (!found)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    tacit_status st = tacit_vectors_open(&vectors, dir, kernels, pool, err);
    if (st < 0)
        goto out;
    found->rows = vectors.rows;
    found->paths = tacit_calloc(found->rows, sizeof *found->paths);
    found->labels = tacit_calloc(found->rows, sizeof *found->labels);
    if (!found->paths || !found->labels) {
        st = tacit_fail(err, TACIT_ENOMEM, "%s: out of memory for %zu rows", dir, found->rows);
        goto out;
    }
    if ((st = read_names(found, dir, err)) == TACIT_OK && found->rows > 1)
        st = find(found, &vectors, k, kernels, pool, err);
out:
    tacit_vectors_close(&vectors);
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
