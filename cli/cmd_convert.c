/* cmd_convert.c - tacit convert: any checkpoint that is read to safetensors with canonical names.
 */
#include "cmd.h"

#include "convert.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const tacit_option options[] = {
    { "dtype", "f32|f16|bf16", "f32", "type of the tensors in OUT", false },
    { "arch", "NAME", NULL, "architecture by timm's name, where the file does not tell", false },
    { "checkpoint-key", "KEY", NULL,
      "the network to take where the file holds several, such as teacher", false },
    { "allow-partial", NULL, NULL,
      "go on where tensors are unknown, or missing: those are zeros, gains ones", false },
    { "force", NULL, NULL, "overwrite OUT", false },
};

static int run(const tacit_args *args)
{
    static const tacit_dtype dtypes[] = { TACIT_F32, TACIT_F16, TACIT_BF16 };
    tacit_err err;
    tacit_isa isa;
    unsigned dtype = 0;
    if (args->operand_count != 2) {
        tacit_fail(&err, TACIT_EINVAL, "name a checkpoint and the file to be written");
        return tacit_cli_usage(args, &err);
    }
    const char *from = args->operands[0], *to = args->operands[1], *base = strrchr(from, '/');
    if (tacit_arg_choice(args, "dtype", &dtype, &err) < 0 || tacit_isa_select(NULL, &isa, &err) < 0)
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
        fprintf(stderr, "tacit convert: note: %s\n", weights.note);
    if (st >= 0)
        st = tacit_convert(&weights, base && base[1] ? base + 1 : from, to, dtypes[dtype],
                           tacit_kernels_for(isa), &err);
    if (st >= 0)
        fprintf(stderr, "tacit convert: %s: %s, %zu tensors\n", to, weights.dialect.name,
                weights.dialect.source.count);
    tacit_weights_close(&weights);
    return st < 0 ? tacit_cli_failed(args, &err) : TACIT_EXIT_DONE;
}

const tacit_command tacit_cmd_convert = {
    .name = "convert",
    .operands = "FILE OUT",
    .summary = "write a checkpoint's backbone as safetensors with canonical names",
    .details = "OUT holds the tensors that are used under timm's names, and a note of the dialect, "
               "the architecture, the preprocessing and the features, by which 'tacit extract' "
               "makes the same vectors from it: with f32 the same bits.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = run,
};
