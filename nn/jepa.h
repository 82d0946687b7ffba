/* jepa.h - the joint-embedding predictive architecture for images in training (Assran et al. 2023,
 * arXiv:2301.08243).
 *
 * The encoder sees some patches of an image, its context. For each of several blocks of other
 * patches the predictor gets the context's embeddings and, for the block's patches, a mask token,
 * all with fixed positions, and predicts what the target encoder makes of the block when it sees
 * the whole image: its features, normalised. Blocks do not see each other. No network has a class
 * token. Names are those of facebookresearch/ijepa.
 */
#ifndef TACIT_JEPA_H
#define TACIT_JEPA_H

#include "vit_train.h"

typedef struct tacit_jepa_config {
    tacit_vit_train_config encoder;  /* no_cls, fixed_positions and init are set for it */
    unsigned dim, depth, heads, mlp; /* of the predictor */
    size_t blocks;                   /* that are asked for, of an image */
    size_t max_kept, max_asked;      /* patches of a context and of a block, at most */
    bool normalised;                 /* the targets are */
} tacit_jepa_config;

/* Rows of predictions and their like are (blocks, batch, asked): all images' first blocks, then
 * their second ones. */
typedef struct tacit_jepa {
    tacit_jepa_config config;
    tacit_work *work;
    size_t max_batch, batch, kept, asked; /* the last three of the last forward */
    tacit_vit_train encoder, target;
    tacit_dense embed, predict;
    tacit_param *mask_token, *positions;
    tacit_trunk predictor;
    const uint32_t *context, *blocks; /* of the last forward */
    uint32_t *source;                 /* of the predictor's tokens                   */
    uint32_t *wanted;                 /* (rows): those of them that it predicts from */
    float *predictions; /* (rows, encoder's dim), encoder.trunk.ld apart; the caller puts their
                           gradients there for backward */
    float *targets;     /* the same of the target encoder  */
    float *features;    /* (max_batch, encoder's dim), the mean over an image's patches of what the
                           target encoder makes of it */
    float *d;           /* the predictor's gradients, see tacit_trunk_backward */
    const float *whole; /* during a forward: the target encoder's tokens */
} tacit_jepa;

/* The target encoder is declared in `teacher`, by the encoder's names. What was declared, well or
 * badly, must be closed. */
tacit_status tacit_jepa_declare(tacit_jepa *jepa, const tacit_jepa_config *config, size_t max_batch,
                                tacit_params *params, tacit_params *teacher, tacit_work *work,
                                tacit_err *err);
void tacit_jepa_close(tacit_jepa *jepa);
bool tacit_jepa_plan(const tacit_jepa *jepa, size_t *total);
void tacit_jepa_take(tacit_jepa *jepa, tacit_arena *arena);

/* images (batch, 3, image, image); context (batch, kept) and blocks (batch, blocks, asked): patches
 * of each image, which stay until the backward. Makes predictions, targets and features. */
void tacit_jepa_forward(tacit_jepa *jepa, const float *images, size_t batch,
                        const uint32_t *context, size_t kept, const uint32_t *blocks, size_t asked);
/* From the gradients in jepa->predictions to those of the parameters. */
void tacit_jepa_backward(tacit_jepa *jepa);

/* Rows of the last forward's predictions. */
size_t tacit_jepa_rows(const tacit_jepa *jepa);

/* FLOPs of a forward and a backward of one image, with so many patches. */
double tacit_jepa_flops(const tacit_jepa_config *config, double kept, double asked);

#endif
