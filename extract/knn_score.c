/* knn_score.c - see knn_score.h. */
#include "knn_score.h"

#include "mem.h"

#define CHUNK 64 /* queries */

typedef struct job {
    const tacit_labels *base, *query;
    const tacit_neighbor *found;
    size_t from, count, k; /* of the block */
    const size_t *ks;
    size_t k_count;
    double temperature;
    double *votes;       /* (workers, classes) */
    tacit_place *places; /* (count, k_count, 2) */
} job;

static void classify_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const job *j = ctx;
    size_t classes = j->base->classes;
    double *votes = j->votes + worker * classes;
    for (size_t i = chunk * CHUNK; i < j->count && i < (chunk + 1) * CHUNK; i++)
        for (size_t n = 0; n < 2 * j->k_count; n++) {
            size_t k = j->ks[n / 2] < j->k ? j->ks[n / 2] : j->k;
            tacit_knn_vote(j->found + i * j->k, k, j->base->of, n % 2 ? 0 : j->temperature, votes,
                           classes);
            j->places[i * 2 * j->k_count + n] =
                tacit_place_of(j->query->of[j->from + i], votes, classes);
        }
}

tacit_status tacit_knn_classify(tacit_knn *knn, const tacit_labels *base, const tacit_labels *query,
                                const size_t *ks, size_t count, double temperature,
                                tacit_knn_score *scores, tacit_knn_tap *tap, void *ctx,
                                tacit_pool *pool, tacit_err *err)
{
    job j = { .base = base, .query = query, .k = tacit_knn_k(knn), .ks = ks, .k_count = count };
    j.temperature = temperature;
    j.votes = tacit_calloc(tacit_pool_threads(pool) * base->classes, sizeof *j.votes);
    j.places = tacit_calloc(tacit_knn_most(knn), 2 * count * sizeof *j.places);
    tacit_status st = TACIT_OK;
    if (!j.votes || !j.places)
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for votes");
    for (size_t i = 0; i < count; i++)
        scores[i] = (tacit_knn_score){ .k = ks[i] };
    for (size_t i = 0; st == TACIT_OK && i < count; i++) {
        st = tacit_score_open(&scores[i].weighted, query, true, err);
        if (st == TACIT_OK)
            st = tacit_score_open(&scores[i].majority, query, false, err);
    }
    while (st == TACIT_OK && (j.count = tacit_knn_next(knn, &j.from, &j.found)) > 0) {
        tacit_parallel_for(pool, (j.count + CHUNK - 1) / CHUNK, classify_chunk, &j);
        for (size_t i = 0; i < j.count; i++)
            for (size_t n = 0; n < 2 * count; n++)
                tacit_score_add(n % 2 ? &scores[n / 2].majority : &scores[n / 2].weighted,
                                query->of[j.from + i], j.places[i * 2 * count + n]);
        if (tap)
            st = tap(ctx, j.found, j.count, j.k, err);
    }
    tacit_free(j.votes);
    tacit_free(j.places);
    if (st < 0)
        tacit_knn_scores_close(scores, count);
    return st;
}

void tacit_knn_scores_close(tacit_knn_score *scores, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        tacit_score_close(&scores[i].weighted);
        tacit_score_close(&scores[i].majority);
    }
}
