/* cmd_bench.c - tacit bench: how close the kernels and the program come to the machine's limit. */
#include "cmd.h"

#include "bench.h"

#include <string.h>

static const tacit_option options[] = {
    { "weights", "FILE|default", "default", "extract: backbone to measure", false },
    { "arch", "NAME", NULL, "extract: architecture by timm's name", false },
    { "images", "PATH", NULL, "extract: images to measure with", false },
    { "batch", "N", NULL,
      "images at a time: extract, in each thread (1); pretrain, a step (32, 128, 16)", false },
    { "once", NULL, NULL, "extract: only embed the first image, from nothing, and leave", false },
    { "filter", "TEXT", NULL, "kernels, pretrain: only those whose name holds TEXT", false },
    { "rounds", "N", NULL, "turns: of each kernel (15), of each training step (5)", false },
    { "threads", "N", NULL, "threads (default: what the machine allows this process)", false },
    { "json", NULL, NULL, "print one JSON object a line on standard output", false },
};

static int run(const tacit_args *args)
{
    tacit_err err;
    tacit_bench_options o = { .json = tacit_flag(args, "json"),
                              .weights = tacit_arg(args, "weights"),
                              .arch = tacit_arg(args, "arch"),
                              .images = tacit_arg(args, "images"),
                              .filter = tacit_arg(args, "filter") };
    if (tacit_arg_unsigned(args, "threads", 1, 1024, &o.threads, &err) < 0 ||
        tacit_arg_unsigned(args, "batch", 1, 1024, &o.batch, &err) < 0 ||
        tacit_arg_unsigned(args, "rounds", 1, 64, &o.rounds, &err) < 0)
        return tacit_cli_usage(args, &err);
    const char *what = args->operand_count == 1 ? args->operands[0] : "";
    tacit_status st;
    if (!strcmp(what, "kernels")) {
        st = tacit_bench_kernels(&o, stdout, &err);
    } else if (!strcmp(what, "pretrain")) {
        st = tacit_bench_pretrain(&o, stdout, &err);
    } else if (!strcmp(what, "extract") && o.images) {
        o.batch += !o.batch;
        st = tacit_flag(args, "once") ? tacit_bench_once(&o, stdout, &err)
                                      : tacit_bench_extract(&o, "/proc/self/exe", stdout, &err);
    } else {
        tacit_fail(&err, TACIT_EINVAL, "%s",
                   strcmp(what, "extract") ? "say what to measure: kernels, extract or pretrain"
                                           : "extract needs --images PATH");
        return tacit_cli_usage(args, &err);
    }
    return st < 0 ? tacit_cli_failed(args, &err) : tacit_cli_done(args);
}

const tacit_command tacit_cmd_bench = {
    .name = "bench",
    .operands = "kernels|extract|pretrain",
    .summary = "measure kernels, the way from JPEG bytes to vector, or training steps, against the "
               "limit",
    .details = "Ratios to the limit are formed turn by turn, in one process and one run, since "
               "absolute times of a shared machine say little.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = run,
};
