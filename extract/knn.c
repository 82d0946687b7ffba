/* knn.c - candidates by a float32 product, ranks in double. See knn.h.
 *
 * For each query the sweep's scores pass a threshold: the kth best score so far, less twice the
 * error of a score. Whatever is below it cannot be among the k nearest; whatever is not is kept,
 * and in the end ranked by its similarity in double. The few kept too many are the price of an
 * answer that no rounding of float32 can change. Where vectors are so alike that the candidates do
 * not fit, the query is compared with all rows in double.
 */
#include "knn.h"

#include "cosine.h"
#include "mem.h"

#include <math.h>
#include <sleef.h>
#include <string.h>

#define SPARE        512                /* candidates beside 2 k */
#define LEAST_FREED  128                /* when they are sorted out; fewer are too many alike */
#define QUERY_MEMORY ((size_t)96 << 20) /* candidates and results of the queries in work */

typedef struct candidate {
    float score;
    uint32_t row;
} candidate;

typedef struct heap {
    float threshold;
    uint32_t count;
    bool full; /* too many alike */
} heap;

struct tacit_knn {
    tacit_sweep sweep;
    const tacit_vectors *base, *query;
    bool self;
    size_t k, room;     /* room: candidates of a query */
    size_t from, count; /* queries of this turn */
    size_t step;        /* most queries of a turn */
    float margin;
    heap *heaps;           /* (step) */
    candidate *candidates; /* (step, room) */
    tacit_neighbor *found; /* (step, k) */
    uint32_t *hits;        /* (workers, TACIT_SWEEP_COLUMNS) */
    float *rows;           /* (workers, 2, dim) */
};

/* Puts the k best scores first, in any order, the kth last of them (Hoare's quickselect, in Wirth's
 * form). count >= k > 0. */
static void select_best(candidate *c, size_t count, size_t k)
{
    ptrdiff_t low = 0, high = (ptrdiff_t)count - 1, at = (ptrdiff_t)k - 1;
    while (low < high) {
        float pivot = c[at].score;
        ptrdiff_t i = low, j = high;
        do {
            while (c[i].score > pivot)
                i++;
            while (pivot > c[j].score)
                j--;
            if (i <= j) {
                candidate swap = c[i];
                c[i++] = c[j];
                c[j--] = swap;
            }
        } while (i <= j);
        if (j < at)
            low = i;
        if (at < i)
            high = j;
    }
}

/* Raises the threshold to what k candidates allow, and drops those below. */
static void sort_out(const tacit_knn *knn, heap *h, candidate *c)
{
    if (h->count < knn->k)
        return;
    select_best(c, h->count, knn->k);
    h->threshold = c[knn->k - 1].score - knn->margin;
    uint32_t kept = (uint32_t)knn->k;
    for (uint32_t i = kept; i < h->count; i++)
        if (c[i].score >= h->threshold)
            c[kept++] = c[i];
    h->count = kept;
}

static void visit(void *ctx, size_t query, size_t first, size_t count, const float *scores,
                  unsigned worker)
{
    const tacit_knn *knn = ctx;
    heap *h = &knn->heaps[query - knn->from];
    candidate *c = knn->candidates + (query - knn->from) * knn->room;
    uint32_t *hits = knn->hits + (size_t)worker * TACIT_SWEEP_COLUMNS;
    size_t n = h->full ? 0 : knn->sweep.kernels->above_f32(count, scores, h->threshold, hits);
    for (size_t i = 0; i < n; i++) {
        size_t row = first + hits[i];
        float score = scores[hits[i]];
        if ((knn->self && row == query) || score < h->threshold)
            continue;
        if (h->count == knn->room) {
            sort_out(knn, h, c);
            h->full = knn->room - h->count < LEAST_FREED;
            if (h->full)
                return;
        }
        c[h->count++] = (candidate){ score, (uint32_t)row };
    }
}

/* Puts a row in its place among the best so far. */
static void insert(tacit_neighbor *best, size_t *filled, size_t k, tacit_neighbor n)
{
    size_t at = *filled;
    while (at && (n.similarity > best[at - 1].similarity ||
                  (n.similarity == best[at - 1].similarity && n.row < best[at - 1].row)))
        at--;
    if (at == k)
        return;
    *filled += *filled < k;
    memmove(best + at + 1, best + at, (*filled - 1 - at) * sizeof *best);
    best[at] = n;
}

/* The queries of a chunk, by their similarities in double. */
#define RANK_CHUNK 16

static void rank_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const tacit_knn *knn = ctx;
    const tacit_kernels *kernels = knn->sweep.kernels;
    float *scratch = knn->rows + 2 * worker * knn->base->dim;
    for (size_t i = chunk * RANK_CHUNK; i < knn->count && i < (chunk + 1) * RANK_CHUNK; i++) {
        size_t query = knn->from + i, filled = 0;
        const float *x = tacit_vectors_rows(knn->query, query, 1, kernels, scratch);
        heap *h = &knn->heaps[i];
        candidate *c = knn->candidates + i * knn->room;
        if (!h->full)
            sort_out(knn, h, c);
        size_t count = h->full ? knn->base->rows : h->count;
        for (size_t j = 0; j < count; j++) {
            uint32_t row = h->full ? (uint32_t)j : c[j].row;
            if (knn->self && row == query)
                continue;
            double similarity = tacit_cosine(x, knn->query->norms[query], knn->base, row, kernels,
                                             scratch + knn->base->dim);
            insert(knn->found + i * knn->k, &filled, knn->k, (tacit_neighbor){ similarity, row });
        }
    }
}

size_t tacit_knn_next(tacit_knn *knn, size_t *from, const tacit_neighbor **found)
{
    knn->from += knn->count;
    size_t left = knn->query->rows - knn->from;
    *from = knn->from;
    *found = knn->found;
    knn->count = left < knn->step ? left : knn->step;
    if (!knn->count)
        return 0;
    for (size_t i = 0; i < knn->count; i++)
        knn->heaps[i] = (heap){ .threshold = -INFINITY };
    tacit_sweep_run(&knn->sweep, knn->from, knn->count, false, visit, knn);
    tacit_parallel_for(knn->sweep.pool, (knn->count + RANK_CHUNK - 1) / RANK_CHUNK, rank_chunk,
                       knn);
    return knn->count;
}

tacit_status tacit_knn_open(tacit_knn **out, const tacit_vectors *base, const tacit_vectors *query,
                            size_t k, const tacit_kernels *kernels, tacit_pool *pool,
                            tacit_err *err)
{
    tacit_knn *knn = *out = tacit_calloc(1, sizeof *knn);
    if (!knn)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    knn->base = base;
    knn->self = !query;
    knn->query = query ? query : base;
    size_t others = base->rows - knn->self, workers = tacit_pool_threads(pool);
    tacit_status st = tacit_vectors_match(base, knn->query, err);
    if (st == TACIT_OK && !others)
        st = tacit_fail(err, TACIT_EINVAL, "%s: one vector alone has no neighbours", base->path);
    if (st == TACIT_OK)
        st = tacit_sweep_open(&knn->sweep, base, knn->query, kernels, pool, err);
    if (st < 0)
        goto fail;
    knn->k = k < others ? k : others;
    knn->room = 2 * knn->k + SPARE < base->rows ? 2 * knn->k + SPARE : base->rows;
    knn->margin = 2 * tacit_cosine_error(base->dim);
    size_t each = sizeof(heap) + knn->room * sizeof(candidate) + knn->k * sizeof(tacit_neighbor);
    size_t most = QUERY_MEMORY / each + 1, turns = (knn->query->rows + most - 1) / most;
    knn->step = (knn->query->rows + turns - 1) / turns;
    knn->heaps = tacit_calloc(knn->step, sizeof *knn->heaps);
    knn->candidates = tacit_alloc(knn->step * knn->room * sizeof *knn->candidates);
    knn->found = tacit_alloc(knn->step * knn->k * sizeof *knn->found);
    knn->hits = tacit_alloc(workers * TACIT_SWEEP_COLUMNS * sizeof *knn->hits);
    knn->rows = tacit_alloc(workers * 2 * base->dim * sizeof *knn->rows);
    if (knn->heaps && knn->candidates && knn->found && knn->hits && knn->rows)
        return TACIT_OK;
    st = tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu neighbours of %zu vectors", knn->k,
                    knn->step);
fail:
    tacit_knn_close(out);
    return st;
}

void tacit_knn_close(tacit_knn **out)
{
    tacit_knn *knn = *out;
    *out = NULL;
    if (!knn)
        return;
    tacit_sweep_close(&knn->sweep);
    tacit_free(knn->heaps);
    tacit_free(knn->candidates);
    tacit_free(knn->found);
    tacit_free(knn->hits);
    tacit_free(knn->rows);
    tacit_free(knn);
}

size_t tacit_knn_k(const tacit_knn *knn)
{
    return knn->k;
}

size_t tacit_knn_most(const tacit_knn *knn)
{
    return knn->step;
}

void tacit_knn_vote(const tacit_neighbor *found, size_t k, const uint32_t *class_of,
                    double temperature, double *votes, size_t classes)
{
    memset(votes, 0, classes * sizeof *votes);
    for (size_t i = 0; i < k; i++) {
        double ahead = found[i].similarity - found[0].similarity;
        votes[class_of[found[i].row]] +=
            temperature > 0 ? Sleef_cinz_expd1_u10purec(ahead / temperature) : 1;
    }
}
