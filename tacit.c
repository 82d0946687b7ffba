/* tacit.c - the program: the table of subcommands. What each does is in cli/. */
#include "cmd.h"

#include <stddef.h>

const tacit_command *const tacit_commands[] = {
    &tacit_cmd_pack,
    &tacit_cmd_pretrain,
    &tacit_cmd_tokenizer,
    &tacit_cmd_reconstruct,
    &tacit_cmd_extract,
    &tacit_cmd_serve,
    &tacit_cmd_merge,
    &tacit_cmd_inspect,
    &tacit_cmd_convert,
    &tacit_cmd_quantize,
    &tacit_cmd_knn,
    &tacit_cmd_probe,
    &tacit_cmd_predict,
    &tacit_cmd_neighbors,
    &tacit_cmd_dups,
    &tacit_cmd_drift,
    &tacit_cmd_bench,
    &tacit_cmd_cpu,
    NULL,
};

int main(int argc, char **argv)
{
    return tacit_cli_main(argc, argv);
}
