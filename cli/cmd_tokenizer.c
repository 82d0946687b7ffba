/* cmd_tokenizer.c - tacit tokenizer train: training.c does it; tacit tokenizer encode: options, and
 * what is said about the result. */
#include "cmd.h"

#include "cpu.h"
#include "meter.h"
#include "method.h"
#include "token_writer.h"
#include "training.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BATCH    16
#define PICTURES 16

static const tacit_option options[] = {
    TACIT_TRAINING_OPTIONS("tokenizer.safetensors; of encode: the .npy"),
    { "tokenizer", "FILE", NULL,
      "encode: DIR/tokenizer.safetensors of a training, or DALL-E's or BEiT v2's", false },
    { "pictures", "FILE", NULL,
      "encode: a PNG of the first 16 images, and what their tokens alone give (dvae)", false },
    { "force", NULL, NULL, "encode: overwrite FILE", false },
};

static const tacit_training training = { "tokenizer train", "tokenizer", tacit_tokenizers, 1 };

/* Encode -------------------------------------------------------------------------------------- */

static void on_bad(void *ctx, const char *line)
{
    tacit_meter_clear(ctx);
    fprintf(stderr, "tacit tokenizer: row of -1: %s\n", line);
}

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    tacit_meter_show(ctx, done, total);
}

static int say_result(const tacit_args *args, const tacit_token_result *r)
{
    const char *out = tacit_arg(args, "out");
    size_t tokens = r->info.grid * r->info.grid;
    if (tacit_flag(args, "json"))
        return tacit_cli_json(args,
                              json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:f, s:f}", "out", out,
                                        "tokenizer", r->info.kind, "images", (json_int_t)r->images,
                                        "bad_images", (json_int_t)r->bad, "tokens",
                                        (json_int_t)tokens, "codes", (json_int_t)r->info.codes,
                                        "codes_used", r->codes_used, "perplexity", r->perplexity))
                   ? tacit_cli_done(args)
                   : TACIT_EXIT_FAILED;
    fprintf(stderr,
            "tacit tokenizer: %s: %llu images of %zu tokens, %llu unusable; %.1f %% of %zu codes "
            "are in use, perplexity %.1f\n",
            out, (unsigned long long)r->images, tokens, (unsigned long long)r->bad,
            100 * r->codes_used, r->info.codes, r->perplexity);
    return tacit_cli_done(args);
}

static int work(const tacit_args *args, tacit_token_options *o)
{
    tacit_err err;
    tacit_meter meter;
    tacit_token_result result;
    const char *pictures = tacit_arg(args, "pictures");
    tacit_meter_open(&meter);
    o->ctx = &meter;
    o->bad = on_bad;
    o->progress = on_progress;
    tacit_status st = pictures ? tacit_token_pictures(o, pictures, PICTURES, &err) : TACIT_OK;
    if (st == TACIT_OK)
        st = tacit_tokens_write(o, &result, &err);
    tacit_meter_clear(&meter);
    if (st == TACIT_OK)
        return say_result(args, &result);
    tacit_cli_failed(args, &err);
    return st == TACIT_ECANCELLED ? 128 + atomic_load(o->stop) : TACIT_EXIT_FAILED;
}

/* What has no meaning for encode is not passed over. */
static tacit_status check_options(const tacit_args *args, tacit_err *err)
{
    static const char *const needed[] = { "tokenizer", "images", "out" };
    static const char *const others[] = { "preset", "config", "set",    "arch",
                                          "epochs", "batch",  "seed",   "checkpoint-steps",
                                          "steps",  "resume", "dry-run" };
    if (args->operand_count > 1)
        return tacit_fail(err, TACIT_EINVAL, "unexpected argument '%.200s'", args->operands[1]);
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!tacit_arg(args, needed[i]) || !*tacit_arg(args, needed[i]))
            return tacit_fail(err, TACIT_EINVAL, "encode: --%s is missing", needed[i]);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (tacit_arg(args, others[i]))
            return tacit_fail(err, TACIT_EINVAL, "encode: --%s is for train", others[i]);
    return TACIT_OK;
}

static int encode(const tacit_args *args)
{
    tacit_err err;
    tacit_isa isa;
    tacit_threads threads;
    tacit_pool *pool = NULL;
    unsigned asked = 0;
    const char *kind = tacit_arg(args, "kind"), *out = tacit_arg(args, "out");
    tacit_token_options o = { .tokenizer = tacit_arg(args, "tokenizer"),
                              .images = tacit_arg(args, "images"),
                              .out = out,
                              .batch = BATCH };
    if (check_options(args, &err) < 0 ||
        tacit_arg_unsigned(args, "threads", 1, 1024, &asked, &err) < 0 ||
        (kind && tacit_dataset_kind_parse(kind, &o.kind, &err) < 0) ||
        tacit_threads_select(asked, &threads, &err) < 0 || tacit_isa_select(NULL, &isa, &err) < 0)
        return tacit_cli_usage(args, &err);
    if (!tacit_flag(args, "force") && !access(out, F_OK)) {
        tacit_fail(&err, TACIT_ECONFLICT, "%s: is there already: add --force to overwrite it", out);
        return tacit_cli_failed(args, &err);
    }
    if (tacit_pool_open(&pool, threads.use, &err) < 0)
        return tacit_cli_failed(args, &err);
    o.kernels = tacit_kernels_for(isa);
    o.pool = pool;
    o.stop = tacit_catch_signals();
    int status = work(args, &o);
    tacit_pool_close(&pool);
    return status;
}

/* --------------------------------------------------------------------------------------------- */

static int run(const tacit_args *args)
{
    tacit_err err;
    const char *what = args->operand_count ? args->operands[0] : "";
    if (!strcmp(what, "encode"))
        return encode(args);
    if (!strcmp(what, "train") || tacit_flag(args, "list")) {
        static const char *const others[] = { "tokenizer", "pictures", "force" };
        for (size_t i = 0; i < sizeof others / sizeof *others; i++)
            if (tacit_arg(args, others[i])) {
                tacit_fail(&err, TACIT_EINVAL, "train: --%s is for encode", others[i]);
                return tacit_cli_usage(args, &err);
            }
        return tacit_training_run(&training, args);
    }
    tacit_fail(&err, TACIT_EINVAL, "use 'tacit tokenizer train NAME' or 'tacit tokenizer encode'");
    return tacit_cli_usage(args, &err);
}

static bool help(const tacit_args *args)
{
    return tacit_training_help(&training, args);
}

const tacit_command tacit_cmd_tokenizer = {
    .name = "tokenizer",
    .operands = "train NAME | encode",
    .summary = "train what makes tokens of images, for BEiT, and make them",
    .details =
        "'tacit tokenizer train NAME' is a run as those of 'tacit pretrain', with the same options "
        "and promises: --list lists the tokenizers, 'tacit tokenizer train NAME --help' the "
        "settings of one. Its log tells the share of the codes that an epoch has used so far "
        "(codes_used) and their perplexity; 'tacit reconstruct DIR' draws what the tokens give. "
        "'tacit tokenizer encode --tokenizer DIR/tokenizer.safetensors --images PATH --out FILE' "
        "writes the tokens of each image, its centre square, as a .npy of int32 (images, tokens) "
        "in the order of PATH; of an image that cannot be used all are -1.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = run,
    .help = help,
};
