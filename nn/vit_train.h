/* vit_train.h - a Vision Transformer in training, on all patches of an image or on some.
 *
 * Patch embedding, a class token (or none), positions, and a trunk: timm's names. Positions are
 * learned, or MAE's fixed table; for images of another grid than the table's they are resampled as
 * in DINO's vision_transformer.py; or relative biases stand for them, as in BEiT, of one grid.
 * Images of a batch that see only some patches (MAE's encoder) all see as many. With a mask token
 * (BEiT, SimMIM, MaskFeat) all patches are there, but the embeddings of those that are masked are
 * replaced by it, before they get their positions. To train on images of several sizes, declare one
 * for each over the same tensors (params.h, `again`).
 */
#ifndef TACIT_VIT_TRAIN_H
#define TACIT_VIT_TRAIN_H

#include "regrid.h"
#include "trunk.h"

typedef enum tacit_vit_init {
    TACIT_VIT_INIT_TIMM, /* DINO too: Linear N(0, 0.02), biases 0, tokens and positions N(0, 0.02),
                            the patch embedding as PyTorch's convolutions                         */
    TACIT_VIT_INIT_MAE,  /* Linear and the patch embedding Xavier's, biases 0 but for the patch
                            embedding's, the class token N(0, 0.02)                               */
    TACIT_VIT_INIT_NORMAL, /* I-JEPA: all weights N(0, 0.02), biases 0 */
} tacit_vit_init;

typedef struct tacit_vit_train_config {
    unsigned dim, depth, heads, mlp, patch, image; /* image: height and width */
    unsigned grid; /* side of the table of positions, in patches; 0: the images' own */
    float eps;
    bool fixed_positions, no_cls;
    bool no_positions;  /* no table of positions */
    bool relative;      /* relative_bias.h, shared by all blocks: all patches are seen, then */
    bool no_k_bias;     /* trunk.h, as is layer_scale */
    double layer_scale; /* 0: none */
    double drop_path;
    bool recompute;
    tacit_vit_init init;
} tacit_vit_train_config;

typedef struct tacit_vit_train {
    tacit_vit_train_config config;
    const tacit_work *work;
    size_t patches, max_kept, max_batch;
    size_t lead;        /* tokens before the patches: 1 of a class token, else 0 */
    size_t batch, kept; /* of the last forward */
    tacit_dense embed;
    tacit_param *cls, *positions, *mask_token; /* NULL where there is none */
    tacit_relative_bias relative;
    tacit_trunk trunk;
    const uint32_t *keep;  /* of the last forward */
    const uint8_t *masked; /* (batch, patches), not 0 where the mask token stands; NULL: nowhere */
    const float *images;   /* during it           */
    float *pixels;         /* (max_batch * max_kept, 3 patch^2), ld_pixels apart */
    float *embedded;       /* (max_batch * max_kept, dim), trunk.ld apart */
    size_t ld_pixels;
    bool resampled; /* for these images, by regrid, to placed (lead + patches, dim): positions in
                       the forward, their gradients in the backward */
    tacit_regrid regrid;
    float *placed;
    float *d; /* (rows, dim), trunk.ld apart: the caller's gradient of what the forward gave */
} tacit_vit_train;

/* max_kept: the most patches that an image is seen by, 0 for all. What was declared, well or badly,
 * must be closed. */
tacit_status tacit_vit_train_declare(tacit_vit_train *vit, const tacit_vit_train_config *config,
                                     size_t max_batch, size_t max_kept, tacit_params *params,
                                     tacit_work *work, tacit_err *err);
/* To begin as in vits.py of facebookresearch/moco-v3: positions are fixed, rows before columns;
 * Linear and the patch embedding are Xavier's, q, k and v each for itself, biases 0, the class
 * token N(0, 1e-6). With `freeze` the patch embedding stays as it began (Chen et al. 2021,
 * arXiv:2104.02057, section 4.2). Between declare and plan. */
tacit_status tacit_vit_train_as_moco(tacit_vit_train *vit, bool freeze, tacit_err *err);
/* To begin as MViT in video_model_builder.py of facebookresearch/SlowFast: the patch embedding's
 * weights too are N(0, 0.02), and the biases of all norms but the last, and of Linear, are 0.02.
 * Between declare and plan. */
void tacit_vit_train_as_mvit(tacit_vit_train *vit);
/* To begin as in beit/modeling_pretrain.py of microsoft/unilm: tokens and all weights are N(0,
 * 0.02) within one deviation, those of attn.proj and mlp.fc2 over sqrt(2 l) in block l = 1, 2, ...,
 * biases 0; class token and positions have no weight decay. Between all that is declared and plan.
 */
void tacit_vit_train_as_beit(tacit_vit_train *vit);
/* Declares mask_token (1, 1, dim), N(0, 0.02). Between declare and plan; then the caller sets
 * vit->masked before a forward, of as many images as the forward's, and leaves it and what it
 * points to until the backward. */
tacit_status tacit_vit_train_add_mask_token(tacit_vit_train *vit, tacit_params *params,
                                            tacit_work *work, tacit_err *err);
void tacit_vit_train_close(tacit_vit_train *vit);
bool tacit_vit_train_plan(const tacit_vit_train *vit, size_t *total);
void tacit_vit_train_take(tacit_vit_train *vit, tacit_arena *arena);

/* images (batch, 3, image, image). keep (batch, kept): the patches of each image that are seen,
 * which must stay until the backward; NULL for all. Gives the normalised tokens (batch, lead +
 * kept, dim), or those that the trunk was told to (tacit_trunk_want), rows trunk.ld apart, until
 * the next call. */
const float *tacit_vit_train_forward(tacit_vit_train *vit, const float *images, size_t batch,
                                     const uint32_t *keep, size_t kept, bool drop);
/* From vit->d, which it overwrites, to the gradients of the parameters. */
void tacit_vit_train_backward(tacit_vit_train *vit);

/* FLOPs of a forward and a backward of one image with so many kept patches, and tokens that are
 * wanted (0: all). */
double tacit_vit_train_flops(const tacit_vit_train_config *config, size_t kept, size_t wanted);

#endif
