/* run_folder.h - the folder of a run: its lock, its settings, its log, its checkpoints.
 *
 *   config.ini                      every setting that is in force
 *   log.jsonl                       a line for each logged step
 *   checkpoint.safetensors          the last; checkpoint-<step>.safetensors those before it
 *   backbone.safetensors            as of the last checkpoint; of a tokenizer tokenizer.safetensors
 *   pictures-<step>.png             what was reconstructed, where that is asked for
 *
 * At every instant and after any crash:
 *  (1) one process at a time writes there: the folder is locked until it ends, however it ends;
 *  (2) checkpoint.safetensors is whole or, before the first, not there; a save that fails leaves it
 *      as it was;
 *  (3) the log's lines end at a step no later than the last saved, once a run is resumed.
 */
#ifndef TACIT_RUN_FOLDER_H
#define TACIT_RUN_FOLDER_H

#include "engine.h"

typedef struct tacit_run_folder {
    char *path;
    int lock, log;
    bool begun;     /* it held a run before */
    uint64_t saved; /* the step of checkpoint.safetensors, where has_saved */
    bool has_saved;
} tacit_run_folder;

/* Makes the folder and locks it. TACIT_ECONFLICT where it holds a run and resume is false, or
 * another process is at it. Must be closed, opened well or badly. */
tacit_status tacit_run_folder_open(tacit_run_folder *folder, const char *path, bool resume,
                                   tacit_err *err);
void tacit_run_folder_close(tacit_run_folder *folder);

/* "<folder>/<name>", freed by tacit_free; NULL where memory is short. */
char *tacit_run_folder_name(const tacit_run_folder *folder, const char *name);

/* Writes config.ini. */
tacit_status tacit_run_folder_describe(tacit_run_folder *folder, const tacit_config *config,
                                       tacit_err *err);

/* The newest checkpoint that is whole, into the engine. Those that are not are told to say (may be
 * NULL). Without any the engine stays at step 0. */
tacit_status tacit_run_folder_load(tacit_run_folder *folder, tacit_engine *engine,
                                   void (*say)(void *ctx, const char *line), void *ctx,
                                   tacit_err *err);

/* The engine's state as checkpoint.safetensors, of those before keep - 1, and the
 * backbone or tokenizer. */
tacit_status tacit_run_folder_save(tacit_run_folder *folder, tacit_engine *engine, size_t keep,
                                   tacit_err *err);

/* To look at the run in folder `path`, though another process trains there; nothing is written.
 * First its settings, with its method; to be closed, opened well or badly. */
tacit_status tacit_run_folder_settings(tacit_config *config, const char *path, tacit_err *err);
/* Then checkpoint.safetensors, into an engine of these settings that was opened. */
tacit_status tacit_run_folder_peek(tacit_engine *engine, const char *path, tacit_err *err);

/* Opens the log behind its last line of a step up to `step`; later lines are cut off. */
tacit_status tacit_run_folder_log_open(tacit_run_folder *folder, uint64_t step, tacit_err *err);
/* One line, with its newline. */
tacit_status tacit_run_folder_log(tacit_run_folder *folder, const char *line, tacit_err *err);

#endif
