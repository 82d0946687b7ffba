/* cmd_convert.c - tacit convert and tacit quantize: any checkpoint that is read to safetensors with
 * canonical names, as floats or in 8 bits. */
#include "cmd.h"

#include "convert.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SOURCE_OPTIONS                                                                             \
    { "arch", "NAME", NULL, "architecture by timm's name, where the file does not tell", false },  \
        { "checkpoint-key", "KEY", NULL,                                                           \
          "the network to take where the file holds several, such as teacher", false },            \
        { "allow-partial", NULL, NULL,                                                             \
          "go on where tensors are unknown, or missing: those are zeros, gains ones", false },     \
    {                                                                                              \
        "force", NULL, NULL, "overwrite OUT", false                                                \
    }

static const tacit_option convert_options[] = {
    { "dtype", "f32|f16|bf16", "f32", "type of the tensors in OUT", false },
    SOURCE_OPTIONS,
};

static const tacit_option quantize_options[] = { SOURCE_OPTIONS };

static int write_as(const tacit_args *args, tacit_dtype dtype)
{
    tacit_err err;
    tacit_isa isa;
    if (args->operand_count != 2) {
        tacit_fail(&err, TACIT_EINVAL, "name a checkpoint and the file to be written");
        return tacit_cli_usage(args, &err);
    }
    const char *name = args->command->name;
    const char *from = args->operands[0], *to = args->operands[1], *base = strrchr(from, '/');
    if (tacit_isa_select(NULL, &isa, &err) < 0)
        return tacit_cli_usage(args, &err);
    if (!tacit_flag(args, "force") && !access(to, F_OK)) {
        tacit_fail(&err, TACIT_ECONFLICT, "%s: is there already: add --force to overwrite it", to);
        return tacit_cli_failed(args, &err);
    }
    tacit_weights_options how = { .arch = tacit_arg(args, "arch"),
                                  .checkpoint_key = tacit_arg(args, "checkpoint-key"),
                                  .allow_partial = tacit_flag(args, "allow-partial") };
    tacit_weights weights;
    tacit_status st = tacit_weights_open(&weights, from, &how, &err);
    if (st >= 0 && weights.note[0])
        fprintf(stderr, "tacit %s: note: %s\n", name, weights.note);
    if (st >= 0)
        st = tacit_convert(&weights, base && base[1] ? base + 1 : from, to, dtype,
                           tacit_kernels_for(isa), &err);
    if (st >= 0)
        fprintf(stderr, "tacit %s: %s: %s, %zu tensors\n", name, to, weights.dialect.name,
                weights.dialect.source.count);
    tacit_weights_close(&weights);
    return st < 0 ? tacit_cli_failed(args, &err) : TACIT_EXIT_DONE;
}

static int convert(const tacit_args *args)
{
    static const tacit_dtype dtypes[] = { TACIT_F32, TACIT_F16, TACIT_BF16 };
    tacit_err err;
    unsigned dtype = 0;
    if (tacit_arg_choice(args, "dtype", &dtype, &err) < 0)
        return tacit_cli_usage(args, &err);
    return write_as(args, dtypes[dtype]);
}

static int quantize(const tacit_args *args)
{
    return write_as(args, TACIT_I8);
}

const tacit_command tacit_cmd_convert = {
    .name = "convert",
    .operands = "FILE OUT",
    .summary = "write a checkpoint's backbone as safetensors with canonical names",
    .details = "OUT holds the tensors that are used under timm's names, and a note of the dialect, "
               "the architecture, the preprocessing and the features, by which 'tacit extract' "
               "makes the same vectors from it: with f32 the same bits.",
    .options = convert_options,
    .option_count = sizeof convert_options / sizeof *convert_options,
    .run = convert,
};

const tacit_command tacit_cmd_quantize = {
    .name = "quantize",
    .operands = "FILE OUT",
    .summary = "write a checkpoint's backbone with its weights in 8 bits",
    .details =
        "OUT is as 'tacit convert' writes it, but the weights of layers and convolutions are "
        "whole numbers of 8 bits with a scale for each output: a quarter of the size. "
        "'tacit extract --precision int8' makes the same vectors from it as from FILE; "
        "other precisions multiply what the numbers stand for.",
    .options = quantize_options,
    .option_count = sizeof quantize_options / sizeof *quantize_options,
    .run = quantize,
};
