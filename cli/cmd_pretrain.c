/* cmd_pretrain.c - tacit pretrain: the table; training.c does it. */
#include "cmd.h"

#include "method.h"
#include "training.h"

static const tacit_option options[] = { TACIT_TRAINING_OPTIONS("backbone.safetensors") };

static const tacit_training training = { "pretrain", "method", tacit_methods, 0 };

static int run(const tacit_args *args)
{
    return tacit_training_run(&training, args);
}

static bool help(const tacit_args *args)
{
    return tacit_training_help(&training, args);
}

const tacit_command tacit_cmd_pretrain = {
    .name = "pretrain",
    .operands = "METHOD",
    .summary = "train a backbone on images without labels",
    .details =
        "'tacit pretrain --list' lists the methods, 'tacit pretrain METHOD --help' the settings of "
        "one. Settings come from the method's defaults, then --preset, --config, --set and the "
        "options named as settings, the later over the earlier; with --resume those of the run "
        "come first. A run has the same bits for every number of threads and instruction set, and "
        "when it was killed at any instant and resumed. SIGINT and SIGTERM save and leave. "
        "DIR/backbone.safetensors loads in timm or torchvision and in 'tacit extract --weights'.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = run,
    .help = help,
};
