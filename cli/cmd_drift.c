/* cmd_drift.c - tacit drift: what a precision changes about the vectors of the user's own images.
 *
 * Images are taken in turns. The pool's threads cut a turn into batches; each batch is decoded
 * once, and the same pixels go through both networks. Rows are then moved together in the order of
 * the input.
 */
#include "cmd.h"

#include "dataset.h"
#include "drift.h"
#include "mem.h"
#include "meta.h"
#include "meter.h"
#include "model_args.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const tacit_option options[] = {
    TACIT_WEIGHTS_OPTION,
    { "images", "PATH", NULL, "images to compare on: what 'tacit extract' takes", true },
    TACIT_MODEL_OPTIONS,
    TACIT_PRECISION_OPTION("int8"),
    { "k", "N", "10", "neighbours of each image that are compared; at most as many as there are",
      false },
    { "limit", "N", NULL, "only the first N images of PATH (default: all)", false },
    { "kind", "folder|list|tar|cifar10|cifar100|idx|pack", NULL, "what PATH is (default: detected)",
      false },
    { "batch", "N", "8", "images at a time in each thread; changes no bit of the result", false },
    { "threads", "N", NULL, "threads (default: what the machine allows this process)", false },
    { "json", NULL, NULL, "print the result as one JSON object on standard output", false },
};

/* Batches of a turn for each thread: with more than one, a slow picture leaves fewer idle. */
#define TURN_BATCHES 2
/* Bad images that get their own line on stderr. */
#define BAD_LINES 20

/* An input of a turn. */
typedef struct place {
    tacit_item item;
    tacit_status status;
    bool fatal;  /* the command ends by it, rather than leaves the image out */
    size_t from; /* its row before rows are moved together */
    tacit_err problem;
} place;

/* A precision. */
typedef struct side {
    tacit_model model;
    tacit_session *sessions; /* (workers) */
    float *rows;             /* (room, dim) */
} side;

typedef struct drifting {
    const tacit_args *args;
    tacit_model_args model_args;
    tacit_dataset_kind kind;
    unsigned k, limit, batch, threads;
    tacit_pool *pool;
    tacit_dataset *set;
    side sides[2];              /* fp32, and the one asked for */
    place *places;              /* (turn) */
    size_t workers, turn, step; /* step: inputs of a batch of this turn */
    size_t count;               /* in this turn */
    char **paths, **labels;     /* (room); labels: of the images that have one */
    bool labelled;              /* all have one */
    size_t rows, room;
    uint64_t inputs, skipped;
    tacit_meter meter;
} drifting;

static tacit_status read_settings(drifting *d, tacit_err *err)
{
    const char *kind = tacit_arg(d->args, "kind");
    tacit_status st;
    if ((st = tacit_model_args_read(d->args, &d->model_args, err)) < 0 ||
        (st = tacit_arg_unsigned(d->args, "k", 1, 1000, &d->k, err)) < 0 ||
        (st = tacit_arg_unsigned(d->args, "limit", 2, 999999999, &d->limit, err)) < 0 ||
        (st = tacit_arg_unsigned(d->args, "batch", 1, 4096, &d->batch, err)) < 0 ||
        (st = tacit_arg_unsigned(d->args, "threads", 1, 1024, &d->threads, err)) < 0 ||
        (kind && (st = tacit_dataset_kind_parse(kind, &d->kind, err)) < 0))
        return st;
    return TACIT_OK;
}

/* Inputs there are to come; 0: not known. */
static uint64_t total(const drifting *d)
{
    uint64_t count = tacit_dataset_count(d->set);
    if (d->limit && d->limit < count)
        return count == UINT64_MAX ? 0 : d->limit;
    return count == UINT64_MAX ? 0 : count;
}

/* Memory ----------------------------------------------------------------------------------------
 */

/* Room for as many rows. What the system would end the process for is not begun. */
static tacit_status make_room(drifting *d, size_t room, tacit_err *err)
{
    size_t dim = d->sides[0].model.dim, bytes;
    size_t machine = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    if (room <= d->room)
        return TACIT_OK;
    if (!tacit_mul_size(room, dim * sizeof(float) + 2 * sizeof *d->paths, &bytes) ||
        bytes >= machine / 2)
        return tacit_fail(err, TACIT_ELIMIT,
                          "the vectors of %zu images, of %zu values, twice, are more than the "
                          "machine's %.0f MiB of memory: use --limit",
                          room, dim, (double)machine * 0x1p-20);
    char **paths = tacit_realloc(d->paths, d->room * sizeof *paths, room * sizeof *paths);
    d->paths = paths ? paths : d->paths;
    char **labels = tacit_realloc(d->labels, d->room * sizeof *labels, room * sizeof *labels);
    d->labels = labels ? labels : d->labels;
    bool good = paths && labels;
    for (int i = 0; i < 2; i++) {
        size_t row = dim * sizeof(float);
        float *rows = good ? tacit_realloc(d->sides[i].rows, d->room * row, room * row) : NULL;
        d->sides[i].rows = rows ? rows : d->sides[i].rows;
        good = rows;
    }
    if (!good)
        return tacit_fail(err, TACIT_ENOMEM,
                          "out of memory for the vectors of %zu images: use --limit", room);
    d->room = room;
    return TACIT_OK;
}

static tacit_status open_models(drifting *d, tacit_err *err)
{
    tacit_model_options *o = &d->model_args.model;
    tacit_precision asked = o->precision;
    for (int i = 0; i < 2; i++) {
        o->precision = i ? asked : TACIT_PRECISION_FP32;
        tacit_status st = tacit_model_open(&d->sides[i].model, o, false, d->pool, err);
        if (st < 0)
            return st;
    }
    if (d->sides[0].model.features == TACIT_FEATURES_PATCH)
        return tacit_fail(err, TACIT_EINVAL,
                          "patch features are many vectors of an image: use --features cls, mean, "
                          "cls+mean or last4");
    tacit_model_say(d->args, &d->sides[1].model);
    return TACIT_OK;
}

static tacit_status open_buffers(drifting *d, tacit_err *err)
{
    d->workers = tacit_pool_threads(d->pool);
    d->turn = TURN_BATCHES * d->workers * d->batch;
    uint64_t known = total(d);
    if (known && known < d->turn)
        d->turn = (size_t)known;
    d->places = tacit_calloc(d->turn, sizeof *d->places);
    for (int i = 0; i < 2; i++)
        d->sides[i].sessions = tacit_calloc(d->workers, sizeof *d->sides[i].sessions);
    if (!d->places || !d->sides[0].sessions || !d->sides[1].sessions)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory: use --batch 1");
    size_t batch = d->batch < d->turn ? d->batch : d->turn;
    for (size_t w = 0; w < 2 * d->workers; w++) {
        side *s = &d->sides[w % 2];
        tacit_status st = tacit_session_open(&s->sessions[w / 2], &s->model, batch, NULL, err);
        if (st < 0)
            return st;
    }
    return known < SIZE_MAX ? make_room(d, (size_t)known, err)
                            : tacit_fail(err, TACIT_ELIMIT, "too many images: use --limit");
}

static void close_all(drifting *d)
{
    for (int i = 0; i < 2; i++) {
        side *s = &d->sides[i];
        for (size_t w = 0; s->sessions && w < d->workers; w++)
            tacit_session_close(&s->sessions[w]);
        tacit_free(s->sessions);
        tacit_free(s->rows);
        tacit_model_close(&s->model);
    }
    for (size_t i = 0; d->places && i < d->turn; i++)
        tacit_item_free(&d->places[i].item);
    for (size_t i = 0; i < d->rows; i++) {
        tacit_free(d->paths[i]);
        tacit_free(d->labels[i]);
    }
    tacit_free(d->labels);
    tacit_free(d->places);
    tacit_free(d->paths);
    tacit_dataset_close(&d->set);
    tacit_pool_close(&d->pool);
}

/* A turn ----------------------------------------------------------------------------------------
 */

/* From an input to place `at` of the session. */
static tacit_status prepare(tacit_session *session, tacit_item *item, size_t at, tacit_err *err)
{
    if (item->form == TACIT_ITEM_BAD) {
        *err = item->problem;
        return item->status;
    }
    bool file = item->form == TACIT_ITEM_FILE;
    tacit_status st = tacit_item_load(item, err);
    if (st == TACIT_OK) {
        st = item->form == TACIT_ITEM_PIXELS
                 ? tacit_session_put_rgb8(session, at, item->bytes, item->width, item->height, err)
                 : tacit_session_put(session, at, item->bytes, item->size, err);
        if (st < 0)
            tacit_fail_at(err, st, "%s", file ? item->file : item->path);
    }
    if (file) { /* not a turn's files at a time */
        tacit_free(item->bytes);
        item->bytes = NULL;
        item->size = item->capacity = 0;
    }
    return st;
}

/* Features that are not finite are not the image's fault. */
static void finish(const drifting *d, place *p)
{
    for (int i = 0; i < 2 && !p->fatal; i++) {
        const tacit_model *model = &d->sides[i].model;
        p->status = tacit_model_finish(model, d->sides[i].rows + p->from * model->dim, &p->problem);
        p->fatal = p->status < 0;
        if (p->fatal)
            tacit_fail_at(&p->problem, p->status, "%s, %s", p->item.path,
                          tacit_precision_name(model->precision));
    }
}

static void embed_chunk(void *ctx, size_t chunk, unsigned worker)
{
    drifting *d = ctx;
    tacit_session *ours[2] = { &d->sides[0].sessions[worker], &d->sides[1].sessions[worker] };
    const tacit_model *model = &d->sides[0].model;
    size_t first = chunk * d->step, good = 0;
    size_t count = d->count - first < d->step ? d->count - first : d->step;
    for (size_t i = first; i < first + count; i++) {
        place *p = &d->places[i];
        p->status = prepare(ours[0], &p->item, good, &p->problem);
        p->fatal = p->status == TACIT_ENOMEM;
        p->from = d->rows + first + good;
        good += p->status == TACIT_OK;
    }
    size_t pixels = 3 * (size_t)model->recipe.height * model->recipe.width;
    memcpy(ours[1]->planar, ours[0]->planar, good * pixels * sizeof(float));
    for (int i = 0; i < 2; i++)
        tacit_session_embed(ours[i], good, d->sides[i].rows + (d->rows + first) * model->dim);
    for (size_t i = first; i < first + count; i++)
        if (d->places[i].status == TACIT_OK)
            finish(d, &d->places[i]);
}

/* The next inputs into places; *more false at the end. */
static tacit_status pull(drifting *d, bool *more, tacit_err *err)
{
    tacit_status st = TACIT_OK;
    for (d->count = 0; *more && d->count < d->turn; d->count += *more) {
        if (d->limit && d->inputs + d->count == d->limit) {
            *more = false;
            break;
        }
        st = tacit_dataset_next(d->set, &d->places[d->count].item, more, err);
        if (st < 0)
            return st;
    }
    return d->rows + d->count <= d->room ? TACIT_OK : make_room(d, 2 * d->room + d->turn, err);
}

static void say_skipped(drifting *d, const char *line)
{
    if (d->skipped++ >= BAD_LINES)
        return;
    tacit_meter_clear(&d->meter);
    fprintf(stderr, "tacit drift: skipped: %s\n", line);
}

/* Usable rows of the turn, moved together behind those there are. */
static tacit_status keep(drifting *d, tacit_err *err)
{
    size_t dim = d->sides[0].model.dim;
    for (size_t i = 0; i < d->count; i++) {
        const place *p = &d->places[i];
        if (p->fatal) {
            *err = p->problem;
            return p->status;
        }
        d->inputs++;
        if (p->status < 0) {
            say_skipped(d, p->problem.text);
            continue;
        }
        const char *label = p->item.label;
        char *path = tacit_strdup(p->item.path), *copy = label ? tacit_strdup(label) : NULL;
        d->paths[d->rows] = path;
        d->labels[d->rows] = copy;
        if (!path || (label && !copy)) {
            tacit_free(path);
            tacit_free(copy);
            return tacit_fail(err, TACIT_ENOMEM, "out of memory");
        }
        d->labelled = d->labelled && label;
        for (int s = 0; s < 2; s++)
            memmove(d->sides[s].rows + d->rows * dim, d->sides[s].rows + p->from * dim,
                    dim * sizeof(float));
        d->rows++;
    }
    return TACIT_OK;
}

static tacit_status embed(drifting *d, tacit_err *err)
{
    bool more = true;
    tacit_status st = TACIT_OK;
    tacit_meter_open(&d->meter);
    while (st == TACIT_OK && more) {
        st = pull(d, &more, err);
        if (st < 0 || !d->count)
            break;
        size_t share = (d->count + d->workers - 1) / d->workers;
        d->step = share < d->batch ? share : d->batch;
        tacit_parallel_for(d->pool, (d->count + d->step - 1) / d->step, embed_chunk, d);
        st = keep(d, err);
        tacit_meter_show(&d->meter, d->inputs, total(d));
    }
    tacit_meter_clear(&d->meter);
    if (d->skipped > BAD_LINES)
        fprintf(stderr, "tacit drift: %llu more were skipped\n",
                (unsigned long long)(d->skipped - BAD_LINES));
    if (st == TACIT_OK && d->rows < 2)
        st = tacit_fail(err, TACIT_EINVAL, "%s: %zu usable images, and two are the least",
                        tacit_arg(d->args, "images"), d->rows);
    return st;
}

/* The result ------------------------------------------------------------------------------------
 */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The class of each row, by the order of their labels; NULL where not all have one. */
static tacit_status number_labels(const drifting *d, uint32_t **class_of, size_t *classes,
                                  tacit_err *err)
{
    *class_of = NULL;
    *classes = 0;
    if (!d->labelled)
        return TACIT_OK;
    char **names = tacit_alloc(d->rows * sizeof *names);
    *class_of = tacit_alloc(d->rows * sizeof **class_of);
    if (!names || !*class_of) {
        tacit_free(names);
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu labels", d->rows);
    }
    memcpy(names, d->labels, d->rows * sizeof *names);
    qsort(names, d->rows, sizeof *names, by_text);
    for (size_t i = 0; i < d->rows; i++)
        if (!*classes || strcmp(names[i], names[*classes - 1]))
            names[(*classes)++] = names[i];
    for (size_t i = 0; i < d->rows; i++) {
        char **name = bsearch(&d->labels[i], names, *classes, sizeof *names, by_text);
        (*class_of)[i] = (uint32_t)(name - names);
    }
    tacit_free(names);
    return TACIT_OK;
}

static tacit_status measure(const drifting *d, tacit_drift *result, tacit_err *err)
{
    uint32_t *class_of;
    size_t classes;
    tacit_status st = number_labels(d, &class_of, &classes, err);
    if (st == TACIT_OK)
        st = tacit_drift_measure(result, d->sides[0].rows, d->sides[1].rows, d->rows,
                                 d->sides[0].model.dim, d->k, class_of, classes,
                                 d->sides[0].model.kernels, d->pool, err);
    tacit_free(class_of);
    return st;
}

static json_t *result_json(const drifting *d, const tacit_drift *r)
{
    const tacit_model *model = &d->sides[1].model;
    json_t *agree = d->labelled ? json_real(r->same_class) : json_null();
    return json_pack("{s:o, s:s, s:s, s:s, s:I, s:s, s:I, s:I, s:f, s:f, s:o, s:I, s:f, s:f, s:o}",
                     "weights", tacit_json_text(tacit_arg(d->args, "weights")), "arch", model->arch,
                     "precision", tacit_precision_name(model->precision), "features",
                     tacit_features_name(model->features), "dim", (json_int_t)model->dim, "isa",
                     tacit_isa_name(model->kernels->isa), "images", (json_int_t)d->rows, "skipped",
                     (json_int_t)d->skipped, "cosine_mean", r->mean, "cosine_worst", r->worst,
                     "worst_path", tacit_json_text(d->paths[r->worst_row]), "k", (json_int_t)r->k,
                     "neighbors_shared", r->shared, "nearest_same", r->same_first, "knn_agreement",
                     agree);
}

static void print_text(const drifting *d, const tacit_drift *r)
{
    printf("images         %zu used, %llu skipped\n", d->rows, (unsigned long long)d->skipped);
    printf("cosine         mean %.6f, worst %.6f: %s\n", r->mean, r->worst, d->paths[r->worst_row]);
    printf("neighbours     %.2f %% of the %zu nearest are those of fp32\n", 100 * r->shared, r->k);
    printf("nearest        the same as in fp32 for %.2f %% of the images\n", 100 * r->same_first);
    if (d->labelled)
        printf("k-NN           the same class as in fp32 for %.2f %% of the images\n",
               100 * r->same_class);
}

static int run(const tacit_args *args)
{
    drifting d = { .args = args, .kind = TACIT_DATASET_AUTO, .labelled = true };
    tacit_err err;
    tacit_threads threads;
    tacit_drift result;
    if (read_settings(&d, &err) < 0 || tacit_threads_select(d.threads, &threads, &err) < 0)
        return tacit_cli_usage(args, &err);
    int status;
    tacit_status st;
    if ((st = tacit_pool_open(&d.pool, threads.use, &err)) < 0 ||
        (st = tacit_dataset_open(&d.set, tacit_arg(args, "images"), d.kind, &err)) < 0) {
        status = tacit_cli_failed(args, &err);
    } else if ((st = open_models(&d, &err)) < 0) {
        status = st == TACIT_EINVAL ? tacit_cli_usage(args, &err) : tacit_cli_failed(args, &err);
    } else if ((st = open_buffers(&d, &err)) < 0 || (st = embed(&d, &err)) < 0 ||
               (st = measure(&d, &result, &err)) < 0) {
        status = tacit_cli_failed(args, &err);
    } else if (tacit_flag(args, "json")) {
        status = tacit_cli_json(args, result_json(&d, &result)) ? tacit_cli_done(args)
                                                                : TACIT_EXIT_FAILED;
    } else {
        print_text(&d, &result);
        status = tacit_cli_done(args);
    }
    close_all(&d);
    return status;
}

const tacit_command tacit_cmd_drift = {
    .name = "drift",
    .summary = "tell how far the vectors of a precision are from those in fp32",
    .details = "Every image goes through the network in fp32 and in the precision asked for, with "
               "the same pixels. Told are the cosine similarity of its two vectors, mean and "
               "worst; of its k nearest among the images by cosine similarity, the share that is "
               "the same in both; the share of images whose nearest is the same; and where all "
               "images have labels, the share of images that the k-NN classifier gives the same "
               "class. Nothing is written.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = run,
};
