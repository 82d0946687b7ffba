/* mae.h - the masked autoencoder in training (He et al. 2021, arXiv:2111.06377).
 *
 * The encoder sees the patches that are kept; the decoder gets their embeddings and, for the
 * others, a mask token, all with fixed positions, and predicts the pixels of the patches that were
 * masked. What it would predict for the others has no part in the loss, and is not made. Names are
 * those of facebookresearch/mae.
 */
#ifndef TACIT_MAE_H
#define TACIT_MAE_H

#include "vit_train.h"

typedef struct tacit_mae_config {
    tacit_vit_train_config encoder;  /* fixed_positions and init are set for it */
    unsigned dim, depth, heads, mlp; /* of the decoder */
} tacit_mae_config;

typedef struct tacit_mae {
    tacit_mae_config config;
    tacit_work *work;
    size_t kept, masked, max_batch, batch;
    tacit_vit_train encoder;
    tacit_dense embed, predict;
    tacit_param *mask_token, *positions;
    tacit_trunk decoder;
    const uint32_t *keep, *mask; /* of the last forward */
    uint32_t *source;            /* (max_batch (1 + patches)): of the decoder's tokens */
    uint32_t *wanted;            /* (max_batch masked): those that are predicted from  */
    float *predictions; /* (max_batch masked, 3 patch^2), ld_pixels apart; the caller puts their
                           gradients there for backward */
    float *d;           /* the decoder's gradients, see tacit_trunk_backward */
    size_t ld_pixels;
} tacit_mae;

/* kept of the patches of each image are seen, at least one and not all. What was declared, well or
 * badly, must be closed. */
tacit_status tacit_mae_declare(tacit_mae *mae, const tacit_mae_config *config, size_t max_batch,
                               size_t kept, tacit_params *params, tacit_work *work, tacit_err *err);
void tacit_mae_close(tacit_mae *mae);
bool tacit_mae_plan(const tacit_mae *mae, size_t *total);
void tacit_mae_take(tacit_mae *mae, tacit_arena *arena);

/* keep (batch, kept) and mask (batch, masked) hold each patch of an image once between them, and
 * stay until the backward. The predictions of the masked patches are in mae->predictions. */
void tacit_mae_forward(tacit_mae *mae, const float *images, size_t batch, const uint32_t *keep,
                       const uint32_t *mask);
/* From the gradients in mae->predictions to those of the parameters. */
void tacit_mae_backward(tacit_mae *mae);

/* FLOPs of a forward and a backward of one image. */
double tacit_mae_flops(const tacit_mae_config *config, size_t kept);

#endif
