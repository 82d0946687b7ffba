/* relative_bias.h - relative position biases in training, one table for all blocks of a trunk.
 *
 * Of BEiT and SimMIM (Bao et al. 2021, arXiv:2106.08254; RelativePositionBias of microsoft/unilm,
 * beit/modeling_finetune.py): a row of the table for each difference of two patches' places, and
 * three for a class token with patches, patches with it, and it with itself; a column for each
 * head. What it says of two tokens is added to their score before the softmax.
 *
 * Gradients of the scores are added up in slots, each of some of a batch's images, and these then
 * in order: the same sums with any number of threads.
 */
#ifndef TACIT_RELATIVE_BIAS_H
#define TACIT_RELATIVE_BIAS_H

#include "params.h"

#define TACIT_RELATIVE_SLOTS 8

/* The row for query a and key b, on a grid of h x w patches behind `lead` other tokens. */
size_t tacit_relative_row(size_t lead, size_t h, size_t w, size_t a, size_t b);
/* Rows of the table. */
size_t tacit_relative_rows(size_t lead, size_t h, size_t w);

typedef struct tacit_relative_bias {
    size_t side, lead, heads, tokens;
    tacit_param *table; /* (rows, heads) */
    float *bias;        /* (heads, tokens, tokens) */
    float *slots;       /* (TACIT_RELATIVE_SLOTS, heads, tokens, tokens): gradients of it */
} tacit_relative_bias;

/* Declares rel_pos_bias.relative_position_bias_table, zeros, for side x side patches. */
tacit_status tacit_relative_bias_declare(tacit_relative_bias *relative, size_t side, size_t lead,
                                         size_t heads, tacit_params *params, tacit_err *err);
bool tacit_relative_bias_plan(const tacit_relative_bias *relative, size_t *total);
void tacit_relative_bias_take(tacit_relative_bias *relative, tacit_arena *arena);

/* From the table to bias. */
void tacit_relative_bias_forward(tacit_relative_bias *relative, tacit_pool *pool);
/* Zeros to the slots. */
void tacit_relative_bias_clear(tacit_relative_bias *relative);
/* From the slots, which are used up, to the table's gradient. */
void tacit_relative_bias_backward(tacit_relative_bias *relative, const tacit_kernels *kernels,
                                  tacit_pool *pool);

#endif
