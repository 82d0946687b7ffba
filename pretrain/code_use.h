/* code_use.h - how much of a codebook is in use: the choices of the epoch so far, counted.
 *
 * The counts lie in the run's memory, so that a run that is resumed goes on counting.
 */
#ifndef TACIT_CODE_USE_H
#define TACIT_CODE_USE_H

#include "params.h"

typedef struct tacit_code_use {
    size_t codes;
    tacit_param *hits; /* (codes), of the epoch's steps that are done */
    uint32_t *step;    /* (codes), of the step's parts so far         */
} tacit_code_use;

/* Declares `hits` in memory. */
tacit_status tacit_code_use_declare(tacit_code_use *use, size_t codes, tacit_params *memory,
                                    tacit_err *err);
bool tacit_code_use_plan(const tacit_code_use *use, size_t *total);
void tacit_code_use_take(tacit_code_use *use, tacit_arena *arena);

/* Before an epoch; before a step; a part's ids (n); behind the optimiser. */
void tacit_code_use_epoch(tacit_code_use *use);
void tacit_code_use_begin(tacit_code_use *use);
void tacit_code_use_count(tacit_code_use *use, size_t n, const uint32_t *ids);
void tacit_code_use_keep(tacit_code_use *use);

/* Of what was counted: the share of the codes that were chosen at all, and exp of the entropy of
 * their frequencies, in nats: the number of codes that would say as much used evenly. */
void tacit_code_use_tell(const tacit_code_use *use, double *share, double *perplexity);

/* Of an epoch that has ended, behind keep: whether less than a tenth of the codes was chosen, or of
 * fewer choices than codes less than a tenth of those, or one code alone; which text (size) tells.
 */
bool tacit_code_use_collapsed(const tacit_code_use *use, char *text, size_t size);

#endif
