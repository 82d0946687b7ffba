/* cmd_merge.c - tacit merge. */
#include "cmd.h"

#include "merge.h"

#include <stdio.h>

static const tacit_option options[] = {
    { "out", "DIR", NULL, "folder for the whole", true },
    { "json", NULL, NULL, "print the result as one JSON object on standard output", false },
};

static int run(const tacit_args *args)
{
    tacit_err err;
    json_t *meta;
    if (args->operand_count < 1) {
        tacit_fail(&err, TACIT_EINVAL, "name the folders of all shards");
        return tacit_cli_usage(args, &err);
    }
    if (tacit_merge(tacit_arg(args, "out"), args->operands, (size_t)args->operand_count, &meta,
                    &err) < 0)
        return tacit_cli_failed(args, &err);
    json_t *counts = json_object_get(meta, "counts");
    fprintf(stderr, "tacit merge: %d parts, %lld images, %lld embedded\n", args->operand_count,
            (long long)json_integer_value(json_object_get(counts, "inputs")),
            (long long)json_integer_value(json_object_get(counts, "embedded")));
    if (!tacit_flag(args, "json"))
        json_decref(meta);
    else if (!tacit_cli_json(args, meta))
        return TACIT_EXIT_FAILED;
    return tacit_cli_done(args);
}

const tacit_command tacit_cmd_merge = {
    .name = "merge",
    .operands = "PART...",
    .summary = "join the parts of 'tacit extract --shard' to one folder",
    .details = "Every shard must be given once, in any order. embeddings.npy and index.tsv have "
               "the bytes that the run without --shard would have written.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = run,
};
