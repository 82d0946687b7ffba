/* cmd_extract.c - tacit extract: options, the parts put together, what is said about it. */
#include "cmd.h"

#include "meta.h"
#include "meter.h"
#include "model_args.h"
#include "output.h"
#include "run.h"

#include <stdio.h>
#include <string.h>

static const tacit_option options[] = {
    TACIT_WEIGHTS_OPTION,
    { "images", "PATH", NULL,
      "folder (with class sub-folders or flat), text list ('-': standard input), tar, pack, CIFAR "
      "binary or IDX file",
      true },
    { "out", "DIR", NULL, "folder for embeddings.npy, index.tsv and meta.json", true },
    TACIT_MODEL_OPTIONS,
    { "dtype", "f32|f16", "f32", "type of the numbers in embeddings.npy", false },
    { "kind", "folder|list|tar|cifar10|cifar100|idx|pack", NULL, "what PATH is (default: detected)",
      false },
    { "batch", "N", "8", "images at a time in each thread; changes no bit of the result", false },
    { "threads", "N", NULL, "threads (default: what the machine allows this process)", false },
    TACIT_PRECISION_OPTION("fp32"),
    { "shard", "I/N", "1/1", "only every Nth image, from the Ith; join the parts by tacit merge",
      false },
    { "resume", NULL, NULL, "go on with an unfinished run in DIR, if it is the same", false },
    { "strict", NULL, NULL, "the first unusable image ends the run with status 1", false },
    { "json", NULL, NULL, "print the result as one JSON object on standard output", false },
};

/* Bad images that get their own line on stderr. */
#define BAD_LINES 20

struct report {
    tacit_meter meter;
    uint64_t bad;
};

static void on_bad(void *ctx, const char *line)
{
    struct report *report = ctx;
    if (report->bad++ >= BAD_LINES)
        return;
    tacit_meter_clear(&report->meter);
    fprintf(stderr, "tacit extract: skipped: %s\n", line);
}

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct report *report = ctx;
    tacit_meter_show(&report->meter, done, total);
}

struct settings {
    tacit_model_args model;
    tacit_dtype dtype;
    tacit_dataset_kind kind;
    unsigned batch, threads, shard, shards;
};

static tacit_status parse_shard(const char *text, struct settings *s, tacit_err *err)
{
    char part[16];
    const char *slash = strchr(text, '/');
    size_t n = slash ? (size_t)(slash - text) : sizeof part;
    if (n < sizeof part) {
        memcpy(part, text, n);
        part[n] = 0;
        if (tacit_parse_unsigned(slash + 1, 1, 1000000, &s->shards) == TACIT_OK &&
            tacit_parse_unsigned(part, 1, s->shards, &s->shard) == TACIT_OK)
            return TACIT_OK;
    }
    return tacit_fail(err, TACIT_EINVAL, "--shard '%s': use I/N with I from 1 to N, such as 1/4",
                      text);
}

static tacit_status read_settings(const tacit_args *args, struct settings *s, tacit_err *err)
{
    unsigned half = 0;
    tacit_status st = TACIT_OK;
    const char *kind = tacit_arg(args, "kind");
    if ((st = tacit_model_args_read(args, &s->model, err)) < 0 ||
        (st = tacit_arg_choice(args, "dtype", &half, err)) < 0 ||
        (st = tacit_arg_unsigned(args, "batch", 1, 4096, &s->batch, err)) < 0 ||
        (st = tacit_arg_unsigned(args, "threads", 1, 1024, &s->threads, err)) < 0 ||
        (st = parse_shard(tacit_arg(args, "shard"), s, err)) < 0 ||
        (kind && (st = tacit_dataset_kind_parse(kind, &s->kind, err)) < 0))
        return st;
    s->dtype = half ? TACIT_F16 : TACIT_F32;
    return TACIT_OK;
}

/* What is said at the end of a run that reached the end of its input. */
static int say_result(const tacit_args *args, const tacit_run_result *result, uint64_t bad,
                      json_t *meta)
{
    uint64_t unusable = result->inputs - result->embedded;
    if (bad > BAD_LINES)
        fprintf(stderr, "tacit extract: %llu more were skipped: see index.tsv\n",
                (unsigned long long)(bad - BAD_LINES));
    double fresh = (double)(result->inputs - result->kept);
    fprintf(stderr, "tacit extract: %llu images embedded, %llu unusable, %.1f s, %.1f images/s\n",
            (unsigned long long)result->embedded, (unsigned long long)unusable, result->wall,
            result->wall > 0 ? fresh / result->wall : 0);
    if (tacit_flag(args, "json") &&
        (!tacit_cli_json(args, json_incref(meta)) || tacit_cli_done(args) != TACIT_EXIT_DONE))
        return TACIT_EXIT_FAILED;
    if (result->input_status < 0)
        return tacit_cli_failed(args, &result->input_error);
    if (!result->embedded && result->inputs) {
        tacit_err err;
        tacit_fail(&err, TACIT_EFORMAT, "%s: not one image is usable: see index.tsv",
                   tacit_arg(args, "images"));
        return tacit_cli_failed(args, &err);
    }
    return TACIT_EXIT_DONE;
}

/* A finished folder: nothing is done, its result is told again. */
static int say_complete(const tacit_args *args)
{
    const char *dir = tacit_arg(args, "out");
    fprintf(stderr, "tacit extract: %s: is complete, nothing is left to do\n", dir);
    if (!tacit_flag(args, "json"))
        return TACIT_EXIT_DONE;
    json_t *meta;
    tacit_err err;
    if (tacit_output_meta(dir, &meta, &err) < 0)
        return tacit_cli_failed(args, &err);
    return tacit_cli_json(args, meta) ? tacit_cli_done(args) : TACIT_EXIT_FAILED;
}

/* A run that stopped before its end. */
static int say_stopped(tacit_status st, const tacit_err *err, const tacit_run_result *result,
                       const atomic_int *stop)
{
    int number = st == TACIT_ECANCELLED ? atomic_load(stop) : 0;
    fprintf(stderr, "tacit extract: %s\n", err->text);
    if (result->inputs && st != TACIT_ECONFLICT)
        fprintf(stderr, "tacit extract: what is done is kept: add --resume to go on from there\n");
    return number ? 128 + number : TACIT_EXIT_FAILED;
}

/* With everything open. */
static int extract(const tacit_args *args, const struct settings *s, const tacit_model *model,
                   tacit_pool *pool, const tacit_threads *threads, tacit_dataset *set,
                   const atomic_int *stop)
{
    tacit_err err;
    tacit_output *output = NULL;
    tacit_output_state state;
    json_t *meta = NULL;
    size_t shape[3];
    unsigned rank = tacit_model_shape(model, shape);
    json_t *recipe =
        tacit_recipe_json(model, s->dtype, s->model.model.weights, tacit_arg(args, "images"),
                          tacit_dataset_kind_of(set), s->shard, s->shards);
    int status = TACIT_EXIT_FAILED;
    if (!recipe) {
        tacit_fail(&err, TACIT_ENOMEM, "out of memory");
        status = tacit_cli_failed(args, &err);
        goto done;
    }
    tacit_status st = tacit_output_open(&output, tacit_arg(args, "out"), recipe, s->dtype, shape,
                                        rank, tacit_flag(args, "resume"), &state, &err);
    if (st < 0) {
        status = tacit_cli_failed(args, &err);
        goto done;
    }
    if (state == TACIT_OUTPUT_COMPLETE) {
        status = say_complete(args);
        goto done;
    }
    struct report report = { .bad = 0 };
    tacit_meter_open(&report.meter);
    tacit_run_result result;
    tacit_run_options run = {
        .model = model,
        .pool = pool,
        .dtype = s->dtype,
        .batch = s->batch,
        .shard = s->shard,
        .shards = s->shards,
        .strict = tacit_flag(args, "strict"),
        .stop = stop,
        .ctx = &report,
        .bad = on_bad,
        .progress = on_progress,
    };
    st = tacit_run(&run, set, output, &result, &err);
    tacit_meter_clear(&report.meter);
    if (st >= 0) {
        meta = tacit_meta_json(recipe, model, threads, &result);
        st = meta ? tacit_output_finish(output, meta, &err)
                  : tacit_fail(&err, TACIT_ENOMEM, "out of memory");
    }
    status = st >= 0 ? say_result(args, &result, report.bad, meta)
                     : say_stopped(st, &err, &result, stop);
done:
    tacit_output_close(&output);
    json_decref(meta);
    json_decref(recipe);
    return status;
}

static int run(const tacit_args *args)
{
    struct settings s = { .kind = TACIT_DATASET_AUTO };
    tacit_err err;
    if (read_settings(args, &s, &err) < 0)
        return tacit_cli_usage(args, &err);
    tacit_threads threads;
    if (tacit_threads_select(s.threads, &threads, &err) < 0)
        return tacit_cli_usage(args, &err);
    tacit_pool *pool = NULL;
    tacit_dataset *set = NULL;
    tacit_model model = { 0 };
    int status;
    tacit_status st;
    if (tacit_pool_open(&pool, threads.use, &err) < 0 ||
        tacit_dataset_open(&set, tacit_arg(args, "images"), s.kind, &err) < 0) {
        status = tacit_cli_failed(args, &err);
    } else if ((st = tacit_model_open(&model, &s.model.model, true, pool, &err)) < 0) {
        status = st == TACIT_EINVAL ? tacit_cli_usage(args, &err) : tacit_cli_failed(args, &err);
    } else {
        tacit_model_say(args, &model);
        status = extract(args, &s, &model, pool, &threads, set, tacit_catch_signals());
    }
    tacit_model_close(&model);
    tacit_dataset_close(&set);
    tacit_pool_close(&pool);
    return status;
}

const tacit_command tacit_cmd_extract = {
    .name = "extract",
    .summary = "embed images with a pretrained backbone",
    .details = "DIR/embeddings.npy gets one row of float32, or float16, for each usable image, in "
               "input order; "
               "DIR/index.tsv one line for each input, with the reason where it is unusable; "
               "DIR/meta.json the model, the recipe, counts and times. The result has the same "
               "bits for every number of threads, batch size and instruction set, and after an "
               "interruption and --resume.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = run,
};
