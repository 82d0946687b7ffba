/* cmd.h - the subcommands, one file each; tacit.c lists them. */
#ifndef TACIT_CMD_H
#define TACIT_CMD_H

#include "cli.h"

extern const tacit_command tacit_cmd_extract;
extern const tacit_command tacit_cmd_serve;
extern const tacit_command tacit_cmd_merge;
extern const tacit_command tacit_cmd_inspect;
extern const tacit_command tacit_cmd_convert;
extern const tacit_command tacit_cmd_quantize;
extern const tacit_command tacit_cmd_pack;
extern const tacit_command tacit_cmd_pretrain;
extern const tacit_command tacit_cmd_tokenizer;
extern const tacit_command tacit_cmd_reconstruct;
extern const tacit_command tacit_cmd_knn;
extern const tacit_command tacit_cmd_probe;
extern const tacit_command tacit_cmd_predict;
extern const tacit_command tacit_cmd_neighbors;
extern const tacit_command tacit_cmd_dups;
extern const tacit_command tacit_cmd_drift;
extern const tacit_command tacit_cmd_cpu;
extern const tacit_command tacit_cmd_bench;

#endif
