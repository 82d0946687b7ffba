/* cmd_knn.c - tacit knn: how well the nearest vectors tell the class. */
#include "cmd.h"

#include "atomic_file.h"
#include "knn_score.h"
#include "mem.h"
#include "sets.h"

#include <stdio.h>
#include <string.h>

#define MOST_K 64 /* values of --k */

static const tacit_option options[] = {
    TACIT_SETS_OPTIONS(false),
    { "k", "LIST", "20", "neighbours that vote; several with commas between, as 10,20,100,200",
      false },
    { "temperature", "T", "0.07", "of the weights exp(similarity / T)", false },
    { "neighbors", "FILE", NULL,
      "write the rows of the neighbours to this .npy (int64), and their similarities to the one "
      "beside it whose name ends in -similarities.npy (float32)",
      false },
    { "confusion", "FILE", NULL, "write the confusion matrix of the first k as TSV", false },
    { "per-class", NULL, NULL, "print the accuracy of each class also where they are many", false },
    { "json", NULL, NULL, "print one JSON object for each k on standard output", false },
};

/* --neighbors: two arrays. That of the rows gets its name last, when both are whole. */
typedef struct writer {
    tacit_atomic rows, similarities;
    bool open[2];
    int64_t *row;      /* (k) */
    float *similarity; /* (k) */
} writer;

static void writer_abort(writer *w)
{
    if (w->open[0])
        tacit_atomic_abort(&w->rows);
    if (w->open[1])
        tacit_atomic_abort(&w->similarities);
    tacit_free(w->row);
    tacit_free(w->similarity);
    *w = (writer){ 0 };
}

static tacit_status writer_open(writer *w, const char *path, size_t rows, size_t k, tacit_err *err)
{
    *w = (writer){ 0 };
    size_t n = strlen(path), room = n + 32;
    char *beside = tacit_alloc(room), header[TACIT_NPY_HEADER];
    const uint64_t shape[] = { rows, k };
    w->row = tacit_calloc(k, sizeof *w->row);
    w->similarity = tacit_calloc(k, sizeof *w->similarity);
    tacit_status st = TACIT_OK;
    if (!beside || !w->row || !w->similarity)
        st = tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    if (st == TACIT_OK) {
        n -= n > 4 && !strcmp(path + n - 4, ".npy") ? 4 : 0;
        snprintf(beside, room, "%.*s-similarities.npy", (int)n, path);
        st = tacit_atomic_open(&w->rows, path, err);
        w->open[0] = st == TACIT_OK;
    }
    if (st == TACIT_OK) {
        st = tacit_atomic_open(&w->similarities, beside, err);
        w->open[1] = st == TACIT_OK;
    }
    tacit_npy_header(header, TACIT_I64, shape, 2);
    if (st == TACIT_OK)
        st = tacit_write_all(w->rows.fd, header, sizeof header, w->rows.path, err);
    tacit_npy_header(header, TACIT_F32, shape, 2);
    if (st == TACIT_OK)
        st = tacit_write_all(w->similarities.fd, header, sizeof header, w->similarities.path, err);
    tacit_free(beside);
    if (st < 0)
        writer_abort(w);
    return st;
}

static tacit_status writer_add(void *ctx, const tacit_neighbor *found, size_t count, size_t k,
                               tacit_err *err)
{
    writer *w = ctx;
    tacit_status st = TACIT_OK;
    for (size_t i = 0; st == TACIT_OK && i < count; i++) {
        for (size_t j = 0; j < k; j++) {
            w->row[j] = found[i * k + j].row;
            w->similarity[j] = (float)found[i * k + j].similarity;
        }
        st = tacit_write_all(w->rows.fd, w->row, k * sizeof *w->row, w->rows.path, err);
        if (st == TACIT_OK)
            st = tacit_write_all(w->similarities.fd, w->similarity, k * sizeof *w->similarity,
                                 w->similarities.path, err);
    }
    return st;
}

static tacit_status writer_finish(writer *w, tacit_err *err)
{
    w->open[1] = false;
    tacit_status st = tacit_atomic_commit(&w->similarities, err);
    if (st == TACIT_OK) {
        w->open[0] = false;
        st = tacit_atomic_commit(&w->rows, err);
    }
    writer_abort(w); /* what is left */
    return st;
}

static tacit_status print_json(const tacit_sets *sets, const tacit_knn_score *score, size_t k,
                               double temperature, double wall, tacit_err *err)
{
    json_t *line = json_pack("{s:I, s:I, s:f, s:b, s:o}", "k", (json_int_t)score->k, "neighbors",
                             (json_int_t)(score->k < k ? score->k : k), "temperature", temperature,
                             "leave_one_out", !sets->has_test, "majority",
                             tacit_score_json(&score->majority, false));
    json_t *weighted = tacit_score_json(&score->weighted, true);
    bool good = line && weighted && !json_object_update(line, weighted) &&
                tacit_sets_describe(sets, line, wall);
    if (good) {
        json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
        putchar('\n');
    }
    json_decref(weighted);
    json_decref(line);
    return good ? TACIT_OK : tacit_fail(err, TACIT_ENOMEM, "out of memory for the result");
}

static void print_text(const tacit_sets *sets, const tacit_args *args,
                       const tacit_knn_score *scores, size_t count, double temperature)
{
    tacit_sets_print(sets);
    printf("%s%8s  %9s  %9s  %9s  %9s\n",
           sets->has_test ? "" : "each row is classified by the others\n", "k", "top-1", "top-5",
           "majority", "top-5");
    for (size_t i = 0; i < count; i++) {
        const tacit_score *w = &scores[i].weighted, *m = &scores[i].majority;
        printf("%8zu  %9.2f  %9.2f  %9.2f  %9.2f\n", scores[i].k, tacit_percent(w->top1, w->rows),
               tacit_percent(w->top5, w->rows), tacit_percent(m->top1, m->rows),
               tacit_percent(m->top5, m->rows));
    }
    printf("percent of %zu rows; weights exp(similarity / %g), majority: one vote each\n",
           scores->weighted.rows, temperature);
    if (tacit_flag(args, "per-class") || sets->train_labels.classes <= TACIT_FEW_CLASSES)
        tacit_print_classes(scores->weighted.labels, scores->weighted.count,
                            scores->weighted.right);
}

static tacit_status classify(const tacit_args *args, const tacit_sets *sets, const size_t *ks,
                             size_t count, double temperature, double start, tacit_err *err)
{
    const char *neighbors = tacit_arg(args, "neighbors"), *confusion = tacit_arg(args, "confusion");
    const tacit_vectors *query = sets->has_test ? &sets->test : &sets->train;
    tacit_knn_score scores[MOST_K];
    size_t most = 0, open = 0;
    for (size_t i = 0; i < count; i++)
        most = ks[i] > most ? ks[i] : most;
    tacit_knn *knn = NULL;
    writer w = { 0 };
    tacit_status st = tacit_knn_open(&knn, &sets->train, sets->has_test ? query : NULL, most,
                                     sets->kernels, sets->pool, err);
    if (st == TACIT_OK && neighbors)
        st = writer_open(&w, neighbors, query->rows, tacit_knn_k(knn), err);
    if (st == TACIT_OK) {
        st = tacit_knn_classify(
            knn, &sets->train_labels, sets->has_test ? &sets->test_labels : &sets->train_labels, ks,
            count, temperature, scores, neighbors ? writer_add : NULL, &w, sets->pool, err);
        open = st == TACIT_OK ? count : 0;
    }
    double wall = tacit_wall() - start;
    if (st == TACIT_OK && most > tacit_knn_k(knn))
        fprintf(stderr, "tacit knn: there are %zu neighbours: a larger k means all of them\n",
                tacit_knn_k(knn));
    if (st == TACIT_OK && confusion)
        st = tacit_score_write(&scores[0].weighted, confusion, err);
    if (st == TACIT_OK && neighbors)
        st = writer_finish(&w, err);
    if (st == TACIT_OK && !tacit_flag(args, "json"))
        print_text(sets, args, scores, count, temperature);
    for (size_t i = 0; st == TACIT_OK && tacit_flag(args, "json") && i < count; i++)
        st = print_json(sets, &scores[i], tacit_knn_k(knn), temperature, wall, err);
    writer_abort(&w);
    tacit_knn_scores_close(scores, open);
    tacit_knn_close(&knn);
    return st;
}

static int run(const tacit_args *args)
{
    double start = tacit_wall(), temperature = 0, numbers[MOST_K];
    tacit_err err;
    unsigned count = 0, one = 0;
    size_t ks[MOST_K];
    tacit_sets sets;
    if (tacit_arg_numbers(args, "k", 1, UINT32_MAX, true, MOST_K, numbers, &count, &err) < 0 ||
        tacit_arg_numbers(args, "temperature", 1e-6, 1e6, false, 1, &temperature, &one, &err) < 0)
        return tacit_cli_usage(args, &err);
    for (unsigned i = 0; i < count; i++)
        ks[i] = (size_t)numbers[i];
    int status = tacit_sets_open(&sets, args);
    if (status >= 0)
        return status;
    tacit_status st = classify(args, &sets, ks, count, temperature, start, &err);
    tacit_sets_close(&sets);
    return st < 0 ? tacit_cli_failed(args, &err) : tacit_cli_done(args);
}

const tacit_command tacit_cmd_knn = {
    .name = "knn",
    .summary = "classify vectors by their nearest neighbours, and tell how often it is right",
    .details =
        "The weighted k-NN of DINO: the k training vectors of largest cosine similarity vote with "
        "weights exp(similarity / T); beside it the plain majority. The search is exact: "
        "neighbours are those of double precision, of equal ones the lower row first; equal votes "
        "go to the lower class. Without --test each training vector is classified by the others. "
        "A zero vector has similarity 0 to all. A k above the number of neighbours means all of "
        "them. Labels are matched by name; a test label that training does not have is an error, "
        "and so are a row without a label and vectors that are not finite.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = run,
};
