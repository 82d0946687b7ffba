/* cmd_bench.c - tacit bench: how close the kernels and the program come to the machine's limit. */
#include "cmd.h"

#include "bench_gate.h"

#include <string.h>
#include <unistd.h>

static const tacit_option options[] = {
    { "weights", "FILE|default", "default", "extract: backbone to measure", false },
    { "arch", "NAME", NULL, "extract: architecture by timm's name", false },
    { "precision", "fp32|int8|bf16", "fp32", "extract: of the products", false },
    { "cache", "DIR", NULL, "extract: an existing folder in which packed weights are kept", false },
    { "images", "PATH", NULL, "extract: images to measure with", false },
    { "batch", "N", NULL,
      "images at a time: extract, in each thread (1); pretrain, a step (32, 128, 16)", false },
    { "once", NULL, NULL, "extract: only embed the first image, from nothing, and leave", false },
    { "latency", NULL, NULL, "extract: only the latency", false },
    { "filter", "TEXT", NULL,
      "kernels, pretrain: only those whose name, or a kernel's size, holds TEXT; may be repeated",
      false },
    { "isa", "ref|avx2|avx512|neon", NULL,
      "kernels: only on this instruction set (default: on each that there is; with a baseline the "
      "one in use)",
      false },
    { "count", NULL, NULL, "kernels: only call each once, for a counter of instructions", false },
    { "rounds", "N", NULL, "turns: of each kernel (8 to 24), of each training step (5)", false },
    { "baseline", "FILE", NULL,
      "compare with FILE: a line for whatever became slower, and status 1; status 2 where FILE is "
      "of "
      "another machine",
      false },
    { "save-baseline", "FILE", NULL, "write what --baseline reads", false },
    { "csv", "FILE", NULL, "with a baseline: also write a row for each thing measured", false },
    { "no-counts", NULL, NULL, "with a baseline: count no instructions, though valgrind is there",
      false },
    { "threads", "N", NULL, "threads (default: what the machine allows this process)", false },
    { "json", NULL, NULL, "print one JSON object a line on standard output", false },
};

/* Compares with a baseline, or writes one. */
static int run_gate(const tacit_args *args, const tacit_bench_options *o, const char *what)
{
    tacit_err err;
    tacit_gate_options g = { .what = what,
                             .baseline = tacit_arg(args, "baseline"),
                             .save = tacit_arg(args, "save-baseline"),
                             .csv = tacit_arg(args, "csv"),
                             .count = !tacit_flag(args, "no-counts"),
                             .tell = isatty(2) };
    size_t slower;
    tacit_status st = tacit_bench_gate(o, &g, stdout, &slower, &err);
    if (st < 0) {
        int status = tacit_cli_failed(args, &err);
        return st == TACIT_ECONFLICT ? TACIT_EXIT_USAGE : status;
    }
    int status = tacit_cli_done(args);
    return slower && status == TACIT_EXIT_DONE ? TACIT_EXIT_FAILED : status;
}

/* Measures once. */
static int run_once(const tacit_args *args, const tacit_bench_options *o, const char *what)
{
    tacit_err err;
    tacit_status st;
    if (!strcmp(what, "kernels"))
        st = tacit_bench_kernels(o, stdout, &err);
    else if (!strcmp(what, "pretrain"))
        st = tacit_bench_pretrain(o, stdout, &err);
    else if (tacit_flag(args, "once"))
        st = tacit_bench_once(o, stdout, &err);
    else
        st = tacit_bench_extract(o, "/proc/self/exe", stdout, &err);
    return st < 0 ? tacit_cli_failed(args, &err) : tacit_cli_done(args);
}

/* What is wrong with the options together, or NULL. */
static const char *contradiction(const tacit_args *args, const char *what)
{
    bool compares = tacit_arg(args, "baseline"), saves = tacit_arg(args, "save-baseline");
    if (strcmp(what, "kernels") && strcmp(what, "pretrain") && strcmp(what, "extract"))
        return "say what to measure: kernels, extract or pretrain";
    if (!strcmp(what, "extract") && !tacit_arg(args, "images"))
        return "extract needs --images PATH";
    if (compares && saves)
        return "use one of --baseline and --save-baseline";
    if (!compares && !saves && (tacit_arg(args, "csv") || tacit_flag(args, "no-counts")))
        return "--csv and --no-counts go with --baseline or --save-baseline";
    if ((compares || saves) && (tacit_flag(args, "once") || tacit_flag(args, "count")))
        return "--once and --count do not go with a baseline";
    return NULL;
}

static int run(const tacit_args *args)
{
    tacit_err err;
    const char *filters[TACIT_MAX_GIVEN + 1] = { 0 };
    tacit_bench_options o = { .json = tacit_flag(args, "json"),
                              .weights = tacit_arg(args, "weights"),
                              .arch = tacit_arg(args, "arch"),
                              .images = tacit_arg(args, "images"),
                              .latency = tacit_flag(args, "latency"),
                              .count = tacit_flag(args, "count"),
                              .filters = filters };
    for (size_t i = 0; (filters[i] = tacit_arg_each(args, "filter", i)); i++)
        ;
    unsigned chosen, precision = TACIT_PRECISION_FP32;
    if (tacit_arg_unsigned(args, "threads", 1, 1024, &o.threads, &err) < 0 ||
        tacit_arg_unsigned(args, "batch", 1, 1024, &o.batch, &err) < 0 ||
        tacit_arg_unsigned(args, "rounds", 1, 64, &o.rounds, &err) < 0 ||
        tacit_arg_choice(args, "precision", &precision, &err) < 0 ||
        (tacit_arg(args, "isa") && tacit_arg_choice(args, "isa", &chosen, &err) < 0))
        return tacit_cli_usage(args, &err);
    o.cache = tacit_arg(args, "cache");
    o.precision = (tacit_precision)precision; /* choices are in its order */
    tacit_isa isa = TACIT_ISA_REF;
    if (tacit_arg(args, "isa")) {
        if (tacit_isa_select(tacit_arg(args, "isa"), &isa, &err) < 0)
            return tacit_cli_failed(args, &err);
        o.isa = &isa;
    }
    const char *what = args->operand_count == 1 ? args->operands[0] : "";
    const char *wrong = contradiction(args, what);
    if (wrong) {
        tacit_fail(&err, TACIT_EINVAL, "%s", wrong);
        return tacit_cli_usage(args, &err);
    }
    if (!strcmp(what, "extract"))
        o.batch += !o.batch;
    return tacit_arg(args, "baseline") || tacit_arg(args, "save-baseline")
               ? run_gate(args, &o, what)
               : run_once(args, &o, what);
}

const tacit_command tacit_cmd_bench = {
    .name = "bench",
    .operands = "kernels|extract|pretrain",
    .summary = "measure kernels, the way from JPEG bytes to vector, or training steps, against the "
               "limit",
    .details =
        "Ratios to the limit are formed turn by turn, in one process and one run, since "
        "absolute times of a shared machine say little. Times are never compared with a "
        "baseline's, "
        "only their products with the limit: each repeat is a process of its own, what seems "
        "slower is measured again, and instructions, counted by valgrind where it is "
        "installed, are a second witness.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = run,
};
