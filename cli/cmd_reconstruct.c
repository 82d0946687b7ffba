/* cmd_reconstruct.c - tacit reconstruct: a sheet of pictures from a run's last checkpoint. */
#include "cmd.h"

#include "cpu.h"
#include "pictures.h"
#include "run_folder.h"

#include <stdio.h>

static const tacit_option options[] = {
    { "images", "PATH", NULL,
      "folder (with class sub-folders or flat), text list, tar, pack, CIFAR binary or IDX file",
      true },
    { "out", "FILE", NULL, "the PNG, written whole or not at all", true },
    { "count", "N", "16", "images, the first that can be used", false },
    { "columns", "N", "2", "images side by side", false },
    { "kind", "folder|list|tar|cifar10|cifar100|idx|pack", NULL, "what PATH is (default: detected)",
      false },
    { "threads", "N", NULL, "threads (default: what the machine allows this process)", false },
    { "json", NULL, NULL, "print what was written as one JSON object on standard output", false },
};

typedef struct reconstruct {
    const tacit_args *args;
    const char *run;
    tacit_picture_options pictures;
    const tacit_kernels *kernels;
    tacit_threads threads;
    tacit_pool *pool;
    tacit_config config;
    tacit_engine engine;
    tacit_sheet_size size;
} reconstruct;

/* The network as the run has last saved it. The run may be going on: a checkpoint is whole at every
 * instant, and nothing is written beside it. */
static tacit_status open_run(reconstruct *r, tacit_err *err)
{
    tacit_status st = tacit_run_folder_settings(&r->config, r->run, err);
    if (st == TACIT_OK)
        st = tacit_pictures_method(&r->config, err);
    if (st == TACIT_OK)
        st = tacit_engine_declare(&r->engine, &r->config, r->kernels, r->pool, err);
    if (st == TACIT_OK)
        st = tacit_engine_open(&r->engine, err);
    if (st == TACIT_OK)
        st = tacit_run_folder_peek(&r->engine, r->run, err);
    return st;
}

static tacit_status work(reconstruct *r, tacit_err *err)
{
    tacit_status st = tacit_pool_open(&r->pool, r->threads.use, err);
    if (st == TACIT_OK)
        st = open_run(r, err);
    if (st == TACIT_OK)
        st = tacit_pictures_write(tacit_arg(r->args, "out"), &r->engine, &r->pictures, &r->size,
                                  err);
    return st;
}

static int say_result(const reconstruct *r)
{
    const char *out = tacit_arg(r->args, "out");
    const char *const *panels = r->config.method->panels;
    if (!tacit_flag(r->args, "json")) {
        fprintf(stderr, "tacit reconstruct: %s: %zu images of step %llu, each as", out,
                r->size.images, (unsigned long long)r->engine.step);
        for (size_t i = 0; panels[i]; i++)
            fprintf(stderr, "%s %s", i ? "," : "", panels[i]);
        if (r->size.bad)
            fprintf(stderr, "; %zu could not be used", r->size.bad);
        fputc('\n', stderr);
        return tacit_cli_done(r->args);
    }
    json_t *names = json_array();
    for (size_t i = 0; panels[i]; i++)
        json_array_append_new(names, json_string(panels[i]));
    json_t *line =
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:o}", "method", r->config.method->name,
                  "run", r->run, "out", out, "step", (json_int_t)r->engine.step, "images",
                  (json_int_t)r->size.images, "bad_images", (json_int_t)r->size.bad, "width",
                  (json_int_t)r->size.width, "height", (json_int_t)r->size.height, "panels", names);
    return tacit_cli_json(r->args, line) ? tacit_cli_done(r->args) : TACIT_EXIT_FAILED;
}

static int run(const tacit_args *args)
{
    reconstruct r = { .args = args, .pictures.images = tacit_arg(args, "images") };
    tacit_err err;
    tacit_isa isa;
    unsigned asked = 0, count, columns;
    const char *kind = tacit_arg(args, "kind");
    if (args->operand_count != 1) {
        tacit_fail(&err, TACIT_EINVAL, "name one folder of tacit pretrain");
        return tacit_cli_usage(args, &err);
    }
    if (tacit_arg_unsigned(args, "count", 1, 4096, &count, &err) < 0 ||
        tacit_arg_unsigned(args, "columns", 1, 4096, &columns, &err) < 0 ||
        tacit_arg_unsigned(args, "threads", 1, 1024, &asked, &err) < 0 ||
        (kind && tacit_dataset_kind_parse(kind, &r.pictures.kind, &err) < 0) ||
        tacit_threads_select(asked, &r.threads, &err) < 0 || tacit_isa_select(NULL, &isa, &err) < 0)
        return tacit_cli_usage(args, &err);
    r.run = args->operands[0];
    r.pictures.count = count;
    r.pictures.columns = columns;
    r.kernels = tacit_kernels_for(isa);
    tacit_status st = work(&r, &err);
    int status = st < 0 ? tacit_cli_failed(args, &err) : say_result(&r);
    tacit_engine_close(&r.engine);
    tacit_config_close(&r.config);
    tacit_pool_close(&r.pool);
    return status;
}

const tacit_command tacit_cmd_reconstruct = {
    .name = "reconstruct",
    .operands = "RUN",
    .summary = "draw what a run reconstructs of images, as one PNG",
    .details =
        "RUN is what 'tacit pretrain --out RUN' wrote, by a method that reconstructs (mae, simmim, "
        "maskfeat; beit with a tokenizer that has a decoder); it may still be training. Of each "
        "image, its centre square at the run's size, the sheet shows the image, what the network "
        "sees of it, and that with what it predicts for the "
        "rest. What is masked is drawn from the run's seed. The setting 'pictures' of 'tacit "
        "pretrain' draws such sheets while it trains.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = run,
};
