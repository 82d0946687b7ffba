/* cmd_pack.c - tacit pack: options, and what is said about the result. */
#include "cmd.h"

#include "meta.h"
#include "meter.h"
#include "packing.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static const tacit_option options[] = {
    { "images", "PATH", NULL,
      "folder (with class sub-folders or flat), text list ('-': standard input), tar, pack, CIFAR "
      "binary or IDX file",
      true },
    { "out", "FILE", NULL, "the pack to be written", true },
    { "size", "N", NULL,
      "make pictures smaller whose shorter side is above N pixels, to N, by Pillow's antialiased "
      "bicubic resize, the aspect kept; none is enlarged (default: all stay as they are)",
      false },
    { "pillow", "12|13", "13", "with --size: the release of Pillow that is matched bit by bit",
      false },
    { "kind", "folder|list|tar|cifar10|cifar100|idx|pack", NULL, "what PATH is (default: detected)",
      false },
    { "threads", "N", NULL, "threads (default: what the machine allows this process)", false },
    { "strict", NULL, NULL, "the first unusable image ends the run with status 1", false },
    { "force", NULL, NULL, "overwrite FILE", false },
    { "json", NULL, NULL, "print the result as one JSON object on standard output", false },
};

static void on_bad(void *ctx, const char *line)
{
    tacit_meter_clear(ctx);
    fprintf(stderr, "tacit pack: skipped: %s\n", line);
}

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    tacit_meter_show(ctx, done, total);
}

static json_t *result_json(const tacit_args *args, const tacit_packing_options *o,
                           const tacit_packing_result *r)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    json_t *size = o->size ? json_integer((json_int_t)o->size) : json_null();
    return json_pack("{s:o, s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:o, s:i, s:f, s:f, s:I}", "out",
                     tacit_json_text(tacit_arg(args, "out")), "bytes", (json_int_t)r->totals.bytes,
                     "size", size, "inputs", (json_int_t)r->inputs, "packed",
                     (json_int_t)r->totals.samples, "resized", (json_int_t)r->resized, "labels",
                     (json_int_t)r->totals.labels, "unusable",
                     (json_int_t)(r->inputs - r->totals.samples), "reasons",
                     tacit_reasons_json(r->reasons), "threads", (int)tacit_pool_threads(o->pool),
                     "wall_s", r->wall, "images_s", r->wall > 0 ? (double)r->inputs / r->wall : 0.0,
                     "peak_bytes", (json_int_t)usage.ru_maxrss * 1024);
}

static int say_result(const tacit_args *args, const tacit_packing_options *o,
                      const tacit_packing_result *r)
{
    fprintf(stderr,
            "tacit pack: %s: %zu images packed, %llu unusable, %llu resized, %.1f MB, %.1f s, %.1f "
            "images/s\n",
            tacit_arg(args, "out"), r->totals.samples,
            (unsigned long long)(r->inputs - r->totals.samples), (unsigned long long)r->resized,
            (double)r->totals.bytes * 1e-6, r->wall, r->wall > 0 ? (double)r->inputs / r->wall : 0);
    if (tacit_flag(args, "json") && !tacit_cli_json(args, result_json(args, o, r)))
        return TACIT_EXIT_FAILED;
    return tacit_cli_done(args);
}

/* With a pool: the data set into the file. */
static int pack(const tacit_args *args, tacit_dataset_kind kind, tacit_packing_options *o)
{
    tacit_err err;
    tacit_meter meter;
    tacit_packing_result result;
    tacit_dataset *set;
    tacit_status st = tacit_dataset_open(&set, tacit_arg(args, "images"), kind, &err);
    if (st < 0)
        return tacit_cli_failed(args, &err);
    o->stop = tacit_catch_signals();
    tacit_meter_open(&meter);
    o->ctx = &meter;
    o->bad = on_bad;
    o->progress = on_progress;
    st = tacit_pack_dataset(o, set, tacit_arg(args, "out"), &result, &err);
    tacit_meter_clear(&meter);
    tacit_dataset_close(&set);
    if (st >= 0)
        return say_result(args, o, &result);
    tacit_cli_failed(args, &err);
    return st == TACIT_ECANCELLED ? 128 + atomic_load(o->stop) : TACIT_EXIT_FAILED;
}

static int run(const tacit_args *args)
{
    tacit_err err;
    tacit_isa isa;
    tacit_threads threads;
    tacit_pool *pool = NULL;
    tacit_dataset_kind kind = TACIT_DATASET_AUTO;
    unsigned asked = 0, pillow = 0;
    const char *name = tacit_arg(args, "kind"), *out = tacit_arg(args, "out");
    tacit_packing_options o = { .strict = tacit_flag(args, "strict") };
    if (tacit_arg_unsigned(args, "size", 1, 16384, &o.size, &err) < 0 ||
        tacit_arg_unsigned(args, "threads", 1, 1024, &asked, &err) < 0 ||
        tacit_arg_choice(args, "pillow", &pillow, &err) < 0 ||
        (name && tacit_dataset_kind_parse(name, &kind, &err) < 0) ||
        tacit_threads_select(asked, &threads, &err) < 0 || tacit_isa_select(NULL, &isa, &err) < 0)
        return tacit_cli_usage(args, &err);
    if (!tacit_flag(args, "force") && !access(out, F_OK)) {
        tacit_fail(&err, TACIT_ECONFLICT, "%s: is there already: add --force to overwrite it", out);
        return tacit_cli_failed(args, &err);
    }
    if (tacit_pool_open(&pool, threads.use, &err) < 0)
        return tacit_cli_failed(args, &err);
    o.pillow = pillow == 0 ? 12 : 13;
    o.kernels = tacit_kernels_for(isa);
    o.pool = pool;
    int status = pack(args, kind, &o);
    tacit_pool_close(&pool);
    return status;
}

const tacit_command tacit_cmd_pack = {
    .name = "pack",
    .summary = "decode images once, into a file that is read in their place",
    .details =
        "Every command takes FILE for --images. Paths, labels and order stay those of the input; "
        "an unusable image is left out and told. Without --size a run over FILE gives the same "
        "bits as over the images, where all of them are usable. FILE takes 3 bytes a pixel, holds "
        "a checksum of each picture, and appears under its name when it is whole.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = run,
};
