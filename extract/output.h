/* output.h - the folder of an extraction: embeddings.npy, index.tsv, meta.json; durable, resumable.
 *
 * While it runs, the folder holds run.json (the recipe), embeddings.npy.part and index.tsv.part.
 * Invariants, at every instant and after any crash:
 *  (1) embeddings.npy, index.tsv and meta.json under their final names are complete and synced, or
 *      do not exist; meta.json without run.json says that all three are there;
 *  (2) a complete line of index.tsv.part that names a row refers to a row that was synced before
 *      the line was written;
 *  (3) run.json is there before the first part and until meta.json is; so a folder without it and
 *      without meta.json holds nothing of ours;
 *  (4) one process at a time: the folder is locked while it is open.
 */
#ifndef TACIT_OUTPUT_H
#define TACIT_OUTPUT_H

#include "status.h"
#include "tensor.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tacit_output tacit_output;

typedef enum tacit_output_state {
    TACIT_OUTPUT_NEW,
    TACIT_OUTPUT_RESUMED,  /* lines of an earlier run were kept */
    TACIT_OUTPUT_COMPLETE, /* nothing is left to do             */
} tacit_output_state;

/* Opens dir, which is made where it is missing. dtype, shape: of one row, F32 or F16, rank 1 or 3.
 * recipe: an object that decides every byte of the result. Where the folder holds something, it is
 * TACIT_ECONFLICT, unless `resume` is set and its recipe is equal; the line then says what differs.
 */
tacit_status tacit_output_open(tacit_output **output, const char *dir, const json_t *recipe,
                               tacit_dtype dtype, const size_t *shape, unsigned rank, bool resume,
                               tacit_output_state *state, tacit_err *err);

/* Closes. Unless it is finished, what was added is synced (where nothing failed before) and the
 * parts are kept for a resume; an output that never got a line leaves nothing behind. */
void tacit_output_close(tacit_output **output);

/* Closes and takes back what was not finished; nothing of an earlier run is touched. */
void tacit_output_discard(tacit_output **output);

/* Lines kept from an earlier run, and how many of them have a row. */
uint64_t tacit_output_kept(const tacit_output *output, uint64_t *rows);

/* Before any line is added: the next kept line must be of this input, TACIT_ECONFLICT else. Gives
 * the line's status, valid until the next call. */
tacit_status tacit_output_verify(tacit_output *output, const char *path, const char *label,
                                 const char **status, tacit_err *err);

/* Adds one input: row of its features, as it is in the file, or NULL, and its line as
 * tacit_index_format wrote it. */
tacit_status tacit_output_add(tacit_output *output, const void *row, const char *line, size_t size,
                              tacit_err *err);

/* Makes all that was added durable. tacit_output_add does so by itself every few seconds. */
tacit_status tacit_output_sync(tacit_output *output, tacit_err *err);

/* Puts everything under its final name. meta: the object of meta.json. */
tacit_status tacit_output_finish(tacit_output *output, const json_t *meta, tacit_err *err);

/* The meta.json of a finished folder, to be released by json_decref. TACIT_EINVAL where the folder
 * holds no finished extraction. */
tacit_status tacit_output_meta(const char *dir, json_t **meta, tacit_err *err);

/* Compares every key of `recipe` with `other`, but for the dotted names in `except` (NULL at the
 * end, or NULL); TACIT_ECONFLICT names the first difference. */
tacit_status tacit_recipe_compare(const json_t *recipe, const json_t *other,
                                  const char *const *except, tacit_err *err);

#endif
