/* cmd_predict.c - tacit predict: a classifier of tacit probe on new vectors. */
#include "cmd.h"

#include "atomic_file.h"
#include "classifier.h"
#include "index.h"
#include "mem.h"
#include "meta.h"
#include "sets.h"
#include "tsv.h"

#include <stdio.h>
#include <string.h>

static const tacit_option options[] = {
    { "classifier", "FILE", NULL, "what 'tacit probe --save FILE' wrote", true },
    { "embeddings", "PATH", NULL, "folder of 'tacit extract', or a .npy of vectors", true },
    { "top", "N", "1", "classes of each row, the likeliest first", false },
    { "out", "FILE", NULL, "write the table to this file, whole or not at all", false },
    { "threads", "N", NULL, "threads (default: what the machine allows this process)", false },
    { "json", NULL, NULL,
      "print one JSON object for each row, and a last one that says what was classified by what",
      false },
};

typedef struct predict {
    const tacit_args *args;
    tacit_isa isa;
    const tacit_kernels *kernels;
    tacit_threads threads;
    tacit_pool *pool;
    tacit_vectors vectors;
    tacit_classifier classifier;
    unsigned top;
    tacit_index *index; /* NULL for a bare .npy */
    tacit_atomic file;  /* --out */
    bool file_open;
    uint32_t *best; /* (top) */
    char *line;
    size_t line_room;
    size_t labelled, right; /* rows whose own label the classifier knows */
} predict;

/* The top classes of a row of probabilities, of equals the lower first. */
static void find_best(const predict *p, const float *probabilities)
{
    unsigned filled = 0;
    for (size_t c = 0; c < p->classifier.classes; c++) {
        unsigned at = filled;
        while (at && probabilities[c] > probabilities[p->best[at - 1]])
            at--;
        if (at == p->top)
            continue;
        filled += filled < p->top;
        memmove(p->best + at + 1, p->best + at, (filled - 1 - at) * sizeof *p->best);
        p->best[at] = (uint32_t)c;
    }
}

static tacit_status print_json(const predict *p, size_t row, const char *path,
                               const float *probabilities, tacit_err *err)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < p->top; i++)
        json_array_append_new(list,
                              json_pack("{s:s, s:f}", "label", p->classifier.names[p->best[i]],
                                        "probability", (double)probabilities[p->best[i]]));
    bool whole = json_array_size(list) == p->top;
    json_t *line = json_pack("{s:I, s:o, s:o}", "row", (json_int_t)row, "path",
                             path ? tacit_json_text(path) : json_null(), "predictions", list);
    bool good = whole && line && !json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    if (good)
        putchar('\n');
    json_decref(line);
    return good ? TACIT_OK : tacit_fail(err, TACIT_EIO, "row %zu cannot be printed", row);
}

static tacit_status print_text(predict *p, size_t row, const char *path, const float *probabilities,
                               tacit_err *err)
{
    for (unsigned i = 0; i < p->top; i++) {
        const char *name = p->classifier.names[p->best[i]];
        size_t room = 4 * ((path ? strlen(path) : 0) + strlen(name)) + 128;
        if (room > p->line_room) {
            char *line = tacit_alloc(room);
            if (!line)
                return tacit_fail(err, TACIT_ENOMEM, "out of memory for a line");
            tacit_free(p->line);
            p->line = line;
            p->line_room = room;
        }
        char *at = p->line + sprintf(p->line, "%zu\t", row);
        at = tacit_tsv_escape(at, path ? path : "");
        at += sprintf(at, "\t%u\t", i + 1);
        at = tacit_tsv_escape(at, name);
        at += sprintf(at, "\t%.9g\n", (double)probabilities[p->best[i]]);
        size_t size = (size_t)(at - p->line);
        tacit_status st = TACIT_OK;
        if (p->file_open)
            st = tacit_write_all(p->file.fd, p->line, size, p->file.path, err);
        else
            fwrite(p->line, 1, size, stdout); /* tacit_cli_done tells whether it went well */
        if (st < 0)
            return st;
    }
    return TACIT_OK;
}

/* The line of the next row in the index. */
static tacit_status next_line(const predict *p, size_t row, tacit_index_line *line, tacit_err *err)
{
    bool more = true;
    do {
        tacit_status st = tacit_index_next(p->index, line, &more, err);
        if (st < 0)
            return st;
    } while (more && !line->usable);
    return more ? TACIT_OK
                : tacit_fail(err, TACIT_EFORMAT, "%s: index.tsv ends before row %zu",
                             p->vectors.folder, row);
}

static tacit_status block(void *ctx, size_t from, size_t count, float *logits, tacit_err *err)
{
    predict *p = ctx;
    size_t classes = p->classifier.classes;
    p->kernels->softmax_f32(count, classes, logits, classes, 1, logits, classes);
    for (size_t i = 0; i < count; i++) {
        const float *probabilities = logits + i * classes;
        tacit_index_line line = { 0 };
        tacit_status st = p->index ? next_line(p, from + i, &line, err) : TACIT_OK;
        if (st < 0)
            return st;
        find_best(p, probabilities);
        for (size_t c = 0; line.label && *line.label && c < classes; c++)
            if (!strcmp(line.label, p->classifier.names[c])) {
                p->labelled++;
                p->right += c == p->best[0];
                break;
            }
        st = (tacit_flag(p->args, "json") ? print_json(p, from + i, line.path, probabilities, err)
                                          : print_text(p, from + i, line.path, probabilities, err));
        if (st < 0)
            return st;
    }
    return TACIT_OK;
}

static tacit_status open_all(predict *p, tacit_err *err)
{
    const char *out = tacit_arg(p->args, "out");
    tacit_status st = tacit_pool_open(&p->pool, p->threads.use, err);
    if (st == TACIT_OK)
        st = tacit_classifier_load(&p->classifier, tacit_arg(p->args, "classifier"), err);
    if (st == TACIT_OK)
        st = tacit_vectors_open(&p->vectors, tacit_arg(p->args, "embeddings"), p->kernels, p->pool,
                                err);
    if (st == TACIT_OK)
        st = tacit_classifier_match(&p->classifier, &p->vectors, err);
    if (st == TACIT_OK && p->top > p->classifier.classes)
        p->top = (unsigned)p->classifier.classes;
    if (st == TACIT_OK && !(p->best = tacit_calloc(p->top, sizeof *p->best)))
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory");
    if (st == TACIT_OK && p->vectors.folder) {
        char *path = tacit_path_join(p->vectors.folder, "index.tsv");
        st = path ? tacit_index_open(&p->index, path, err)
                  : tacit_fail(err, TACIT_ENOMEM, "out of memory");
        tacit_free(path);
    }
    if (st == TACIT_OK && out) {
        st = tacit_atomic_open(&p->file, out, err);
        p->file_open = st == TACIT_OK;
    }
    return st;
}

/* The last line of --json. */
static tacit_status print_summary(const predict *p, tacit_err *err)
{
    json_t *line =
        json_pack("{s:o, s:s, s:o, s:I, s:I}", "embeddings", tacit_vectors_json(&p->vectors),
                  "classifier", tacit_arg(p->args, "classifier"), "classifier_meta",
                  p->classifier.recipe ? tacit_json_copy(p->classifier.recipe) : json_null(),
                  "rows", (json_int_t)p->vectors.rows, "labelled", (json_int_t)p->labelled);
    bool good = line && (!p->labelled ||
                         !json_object_set_new(line, "top1",
                                              json_real(tacit_percent(p->right, p->labelled))));
    good = good && !json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
    putchar('\n');
    json_decref(line);
    return good ? TACIT_OK : tacit_fail(err, TACIT_EIO, "the result cannot be printed");
}

static tacit_status classify(predict *p, tacit_err *err)
{
    static const char header[] = "row\tpath\trank\tlabel\tprobability\n";
    bool json = tacit_flag(p->args, "json");
    tacit_status st = open_all(p, err);
    if (st == TACIT_OK && p->file_open)
        st = tacit_write_all(p->file.fd, header, sizeof header - 1, p->file.path, err);
    else if (st == TACIT_OK && !json)
        fputs(header, stdout);
    if (st == TACIT_OK)
        st = tacit_classifier_run(&p->classifier, &p->vectors, p->kernels, p->pool, block, p, err);
    if (st == TACIT_OK && p->file_open) {
        p->file_open = false;
        st = tacit_atomic_commit(&p->file, err);
    }
    if (st == TACIT_OK && json)
        st = print_summary(p, err);
    if (st == TACIT_OK && p->labelled)
        fprintf(stderr, "tacit predict: right: %zu of %zu rows that have a label of its classes\n",
                p->right, p->labelled);
    if (p->file_open)
        tacit_atomic_abort(&p->file);
    tacit_index_close(&p->index);
    tacit_vectors_close(&p->vectors);
    tacit_classifier_close(&p->classifier);
    tacit_pool_close(&p->pool);
    tacit_free(p->best);
    tacit_free(p->line);
    return st;
}

static int run(const tacit_args *args)
{
    predict p = { .args = args, .vectors.npy.fd = -1 };
    tacit_err err;
    unsigned asked = 0;
    if (tacit_flag(args, "json") && tacit_arg(args, "out")) {
        tacit_fail(&err, TACIT_EINVAL, "--out is of the table; --json goes to standard output");
        return tacit_cli_usage(args, &err);
    }
    if (tacit_arg_unsigned(args, "top", 1, 1000000, &p.top, &err) < 0 ||
        tacit_arg_unsigned(args, "threads", 1, 1024, &asked, &err) < 0 ||
        tacit_isa_select(NULL, &p.isa, &err) < 0 ||
        tacit_threads_select(asked, &p.threads, &err) < 0)
        return tacit_cli_usage(args, &err);
    p.kernels = tacit_kernels_for(p.isa);
    return classify(&p, &err) < 0 ? tacit_cli_failed(args, &err) : tacit_cli_done(args);
}

const tacit_command tacit_cmd_predict = {
    .name = "predict",
    .summary = "classify vectors by what 'tacit probe' has trained",
    .details = "Prints a table with the columns row, path, rank, label and probability. The "
               "vectors must come from the model and the options that the classifier was trained "
               "for; a folder that says otherwise is refused. Where the folder has labels of the "
               "classifier's classes, the share of right ones is told on standard error.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = run,
};
