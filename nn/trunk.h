/* trunk.h - a stack of pre-norm transformer blocks in training, and the LayerNorm after it.
 *
 * x += attention(norm1(x)); x += mlp(norm2(x)), as timm's vision_transformer.py has it; encoders,
 * decoders and predictors are made of it. A forward keeps, for each block, its input, qkv, the
 * heads' outputs, the stream between its halves and the hidden layer before GELU; norms, scores and
 * GELU are made again. With `recompute` only the input is kept, and a block runs again before its
 * backward (Chen et al. 2016, arXiv:1604.06174).
 *
 * Where the results of some tokens alone are wanted, as of the class token or of masked patches,
 * the last block does for the others no more than its attention: no other token reads what follows.
 * And where tokens begin as copies, as a mask token does that stands at one place of many images,
 * the first block makes q, k and v of one of them.
 *
 * As in BEiT, each branch may have LayerScale, and the scores relative position biases, which the
 * trunk's owner declares.
 */
#ifndef TACIT_TRUNK_H
#define TACIT_TRUNK_H

#include "layer_scale.h"
#include "relative_bias.h"

typedef struct tacit_trunk_config {
    unsigned dim, depth, heads, mlp;
    float eps;
    double drop_path; /* of the last block; it rises linearly from 0 (Huang et al. 2016) */
    bool recompute;
    tacit_init weight;   /* of all Linear weights; with size 0, Xavier's */
    double layer_scale;  /* what its gammas begin as; 0: there are none */
    bool no_k_bias;      /* of the bias of q, k and v that of k stays 0 */
    size_t max_distinct; /* not 0: inputs are copies of at most so many rows */
} tacit_trunk_config;

typedef struct tacit_block {
    tacit_layernorm norm1, norm2;
    tacit_dense qkv, proj, fc1, fc2;
    tacit_param *gamma1, *gamma2; /* (dim) of LayerScale, or NULL */
    /* what the forward keeps: (rows, dim), (rows, 3 dim), (rows, dim) twice, (rows, mlp) */
    float *x, *qkv_out, *heads, *middle, *hidden;
} tacit_block;

typedef struct tacit_trunk {
    tacit_trunk_config config;
    const tacit_work *work;
    size_t max_batch, max_tokens, batch, tokens; /* of the last forward */
    size_t ld, ld_qkv, ld_hidden;                /* between rows */
    tacit_block *blocks;
    tacit_layernorm norm;
    tacit_layer_scale layer_scale;
    tacit_relative_bias *relative; /* NULL: none; the caller's, set and laid out before a forward */
    const uint32_t *wanted;        /* tacit_trunk_want */
    size_t results;                /* rows of the last forward's results */
    const uint32_t *source;        /* tacit_trunk_copies */
    size_t distinct;               /* rows that it copies from, of the last forward */
    float *origin;                 /* (max_distinct, dim): them                       */
    uint32_t *first, *copies;      /* (max_distinct + 1), (rows): row r begins as origin's row u for
                                      each r in copies from first[u] to first[u + 1] */
    float *last;                   /* what the norm reads                */
    float *normed, *wide;          /* of the moment: (rows, dim), (rows, 3 dim or mlp) */
    float *scales;                 /* (depth, 2, max_batch): drop path's, of the last forward */
    float *row_scales;             /* (2, rows): those of the last block, for wanted rows     */
    bool drops;
} tacit_trunk;

/* Declares <prefix>.<i>.norm1.weight and so on, and <norm>.weight and .bias. A trunk that was
 * declared, well or badly, must be closed. LayerScale's are <prefix>.<i>.ls1.gamma and ls2.gamma.
 */
tacit_status tacit_trunk_declare(tacit_trunk *trunk, const tacit_trunk_config *config,
                                 const char *prefix, const char *norm, size_t max_batch,
                                 size_t max_tokens, tacit_params *params, tacit_work *work,
                                 tacit_err *err);
void tacit_trunk_close(tacit_trunk *trunk);

/* Adds to *total what activations take; false on overflow. Then takes them. */
bool tacit_trunk_plan(const tacit_trunk *trunk, size_t *total);
void tacit_trunk_take(tacit_trunk *trunk, tacit_arena *arena);

/* Drop path's factors of one sample, 2 depth of them: 0, or 1 / (1 - rate of the block), draws of
 * (seed, stream). They go to column `image` of trunk->scales. */
void tacit_trunk_draw(tacit_trunk *trunk, size_t image, uint64_t seed, uint64_t stream);

/* The most rows of an input or of the tokens. */
size_t tacit_trunk_rows(const tacit_trunk *trunk);
/* From now on the input is `distinct` rows, and row r of the batch's tokens a copy of their row
 * source[r]. `source` stays the caller's, until the backward. */
void tacit_trunk_copies(tacit_trunk *trunk, const uint32_t *source, size_t distinct);

/* Where the input is put before a forward, rows ld apart: (batch * tokens, dim), or the distinct
 * rows where max_distinct is not 0. */
float *tacit_trunk_input(tacit_trunk *trunk);

/* From now on results are those of `count` > 0 different rows of the batch's tokens alone, in that
 * order. `rows` stays the caller's, until the backward; NULL: all rows again. */
void tacit_trunk_want(tacit_trunk *trunk, const uint32_t *rows, size_t count);

/* The normalised tokens, or those that are wanted, valid until the next call. With `drop`, scales
 * must have been drawn for all images of the batch. */
const float *tacit_trunk_forward(tacit_trunk *trunk, size_t batch, size_t tokens, bool drop);

/* d, with room for tacit_trunk_rows: the gradient of what the forward gave (results, dim), which
 * becomes that of its input, ld apart. */
void tacit_trunk_backward(tacit_trunk *trunk, float *d);

/* FLOPs of a forward and a backward of one image's tokens, so many of them distinct and so many
 * wanted. */
double tacit_trunk_flops(const tacit_trunk_config *config, double tokens, double distinct,
                         double wanted);

#endif
